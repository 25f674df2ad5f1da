package ingest

import (
	"math"

	"faultline/graph"
)

// callee reports whether c, a child of the outgoing half h, is its other half: a server span, or whatever another service
// did in its name.
func callee(h, c *half) bool { return c.serving() || c.node != h.node && !c.outgoing() }

// batch gathers what happens while a shard is locked, to be acted on after it is not.
type batch struct {
	calls  []graph.Call
	facts  []graph.Fact
	offers []offer
	late   int64
	alone  [3]int64
	// sampled is the share of traces, of 2^64, that may become examples.
	sampled uint64
}

// reset empties the batch.
func (b *batch) reset() {
	b.calls, b.facts, b.offers, b.late, b.alone = b.calls[:0], b.facts[:0], b.offers[:0], 0, [len(aloneNames)]int64{}
}

// The kinds of halves that can stay alone.
const (
	aloneClient = iota
	aloneServer
	aloneConsumer
)

var aloneNames = [...]string{"client", "server", "consumer"}

// pairer knows what shards need to know of the world.
type pairer struct {
	dir     *directory
	started int64 // nanoseconds since the epoch; 0 unless an earlier process may have seen the other halves
}

// insert adds a half and counts what follows from it. It returns false for a duplicate.
func (p *pairer) insert(s *shard, in *half, b *batch) bool {
	if s.duplicate(in) {
		return false
	}
	slot := s.alloc()
	h := s.at(slot)
	*h = *in
	s.link(slot)
	s.queue.push(slot)

	// Its children may have waited for it.
	s.children(h, h.id, func(c *half) bool {
		p.found(s, h, c, b, 0)
		return true
	})
	if h.outgoing() {
		if c := s.find(h, h.id); c != nil && c.serving() {
			p.incoming(s, c, b)
		}
	}
	// So may have the half above it.
	if parent := s.parentOf(h); parent != nil {
		if parent.outgoing() {
			p.outgoing(s, parent, b)
		} else if parent.role == receives {
			p.incoming(s, parent, b)
		}
	}
	if h.outgoing() {
		if h.parent == 0 && h.resend > 0 {
			h.flags |= retry // its siblings cannot be known
		}
		p.outgoing(s, h, b)
		if h.parent != 0 && s.failedParents[key(h.traceLo, h.parent)&1023] > 0 {
			p.siblings(s, h, b)
		}
	}
	p.incoming(s, h, b)
	return true
}

// found tells a child that its parent is there now.
func (p *pairer) found(s *shard, h, c *half, b *batch, depth int) {
	p.incoming(s, c, b)
	if c.outgoing() && h.outgoing() {
		p.outgoing(s, c, b)
	}
	if c.flags&blocks != 0 && depth < maxWalk {
		s.children(c, c.id, func(g *half) bool {
			p.found(s, c, g, b, depth+1)
			return true
		})
	}
}

// incoming counts h as the callee's half, or counts it otherwise than before.
func (p *pairer) incoming(s *shard, h *half, b *batch) {
	fact := p.deriveIn(s, h)
	if fact == h.in {
		return
	}
	if h.in.source != 0 {
		b.in(h, h.in, -1)
		if h.flags&waited != 0 && fact.source != 0 {
			b.late++
		}
	}
	h.in = fact
	if fact.source != 0 {
		b.in(h, fact, 1)
	}
}

// deriveIn says who called h, by what is known now.
func (p *pairer) deriveIn(s *shard, h *half) inFact {
	none := inFact{}
	if h.kind == graph.SpanKindConsumer || h.role == processes {
		if h.role == settles || h.role == receives && s.processed(h) {
			return none
		}
		if pe := p.dir.peers.at(h.peer); pe != nil && pe.kind == peerQueue {
			ref, _ := p.dir.fallback(pe)
			return inFact{source: ref, protocol: graph.Messaging, call: true}
		}
	}
	if h.parent == 0 {
		if h.kind == graph.SpanKindServer {
			if c := s.parentOf(h); c != nil {
				return inFact{source: c.node, protocol: either(c.protocol, h.protocol)}
			}
			return inFact{source: p.dir.byRef(h.node).user, protocol: h.protocol, call: true}
		}
		return none
	}
	above := s.parentOf(h)
	for range maxWalk {
		if above == nil || !h.serving() || above.kind != graph.SpanKindInternal || above.node != h.node {
			break
		}
		if above.parent == 0 {
			return none // work that a service began by itself
		}
		up := s.parentOf(above)
		if up == nil {
			above.flags |= blocks
		}
		above = up
	}
	if above == nil {
		if !h.serving() || h.flags&waited == 0 {
			return none
		}
		if p.started != 0 && h.start < p.started {
			return none // its caller's half may be in what the process before this one counted
		}
		return inFact{source: p.dir.byRef(h.node).unknown, protocol: h.protocol, call: true, missing: true}
	}
	if above.outgoing() {
		switch {
		case !callee(above, h):
			return none
		case above.role == sends && h.serving():
			if pe := p.dir.peers.at(above.peer); pe != nil && pe.kind == peerQueue {
				ref, _ := p.dir.fallback(pe)
				return inFact{source: ref, protocol: graph.Messaging, call: true}
			}
		case !h.serving() && h.kind != graph.SpanKindInternal && h.kind != graph.SpanKindUnspecified:
			return none
		}
		return inFact{source: above.node, protocol: either(above.protocol, h.protocol)}
	}
	if above.node != h.node {
		return inFact{source: above.node, protocol: h.protocol, call: true, missing: true}
	}
	return none
}

func either(a, b graph.Protocol) graph.Protocol {
	if a == graph.ProtocolUnknown {
		return b
	}
	return a
}

// outgoing counts h as the caller's half, or counts it otherwise than before.
func (p *pairer) outgoing(s *shard, h *half, b *batch) {
	fact := p.deriveOut(s, h)
	if fact == h.out {
		return
	}
	if h.out.target != 0 {
		b.out(h, h.out, -1)
		if h.flags&waited != 0 && fact.target != h.out.target {
			b.late++
		}
	}
	h.out = fact
	if fact.target != 0 {
		b.out(h, fact, 1)
	}
}

// deriveOut says whom h called and how often, by what is known now.
func (p *pairer) deriveOut(s *shard, h *half) outFact {
	none := outFact{}
	pe := p.dir.peers.at(h.peer)
	if h.role == settles || h.role == receives {
		return none
	}
	fact := outFact{protocol: h.protocol, calls: 1, cause: h.verdict.cause, flags: h.flags & (retry | resolved)}
	if h.verdict.outcome == graph.Error {
		fact.errors = 1
	}
	if pe != nil && pe.kind == peerQueue {
		ref, _ := p.dir.fallback(pe)
		fact.target = ref
		return fact
	}
	// The callee is the first of the services that answered; each of its server spans is an attempt.
	var first *half
	wrapped, callees := false, 0
	consider := func(c *half) bool {
		switch {
		case callee(h, c):
			callees++
			if first == nil || c.start < first.start || c.start == first.start && c.id < first.id {
				first = c
			}
		case c.outgoing() && c.node == h.node:
			wrapped = true
		}
		return true
	}
	s.children(h, h.id, consider)
	for slot := s.buckets[key(h.traceLo, h.id)&s.mask].span; slot != 0; {
		c := s.at(slot)
		slot = c.nextSame
		if c != h && c.id == h.id && c.traceLo == h.traceLo && c.traceHi == h.traceHi && c.serving() {
			consider(c)
		}
	}
	if first != nil {
		attempts, failures := 0, 0
		count := func(c *half) bool {
			if callee(h, c) && c.node == first.node {
				attempts++
				if c.verdict.outcome == graph.Error {
					failures++
				}
			}
			return true
		}
		if callees == 1 {
			count(first)
		} else {
			s.children(h, h.id, count)
		}
		if first.serving() && attempts > 1 {
			fact.calls = uint8(min(attempts, math.MaxUint8))
			fact.errors = max(fact.errors, uint8(min(failures, math.MaxUint8)))
			if fact.cause == 0 && failures > 0 {
				fact.cause = first.verdict.cause
				if fact.cause == 0 {
					fact.cause = class(graph.ServerError)
				}
			}
		}
		switch f := fact.cause.Failure(); {
		case fact.errors == 0:
		case failures == 0 && (f == graph.Unclassified || f == graph.ServerError || f == graph.Reset):
			fact.cause = class(graph.LostResponse)
		case f.Guarded():
			fact.cause = class(graph.ServerError) // the callee did see it: it told of a guard of its own
		}
		fact.target = first.node
		fact.protocol = either(h.protocol, first.protocol)
		if h.out.target != first.node && pe != nil {
			pe.paired.Add(1)
			if pe.alias != nil && first.node != h.node {
				pe.alias.learn(first.node, 1)
			}
		}
		return fact
	}
	// A client span around client spans of the same service: one call, not two. The one that reached somebody counts,
	// and where none did, what says more: the call to a database rather than the request that carries it, an attempt
	// rather than the wrapper around all of them.
	if above := s.parentOf(h); above != nil && above.outgoing() && above.node == h.node {
		if ape := p.dir.peers.at(above.peer); ape != nil && (ape.kind == peerDB || ape.kind == peerQueue) {
			return none
		}
	}
	if pe != nil && pe.kind == peerDB {
		fact.target, fact.missing = p.dir.fallback(pe)
		return fact
	}
	if wrapped {
		return none
	}
	if pe == nil {
		if above := s.parentOf(h); h.flags&waited == 0 || above != nil && above.node != h.node {
			return none // one that names no peer, below another service's span, stands for the callee
		}
		fact.target = p.dir.byRef(h.node).unknown
		return fact
	}
	if pe.self {
		return none // the span stands for the callee: its caller is the service above it
	}
	if h.flags&waited == 0 && h.out.target == 0 && !pe.external() && (pe.alias == nil || pe.alias.sure.Load() == 0) {
		return none
	}
	if h.out.target != 0 {
		fact.target, fact.protocol, fact.missing = h.out.target, h.out.protocol, h.out.missing
		return fact
	}
	fact.target, fact.missing = p.dir.fallback(pe)
	fact.missing = fact.missing && !h.guarded()
	return fact
}

// siblings finds retries among the calls that h's parent made to the same peer: an attempt that begins after one that
// failed had ended, soon enough, is a retry of it. The rule looks at all of them each time, so that the order in which
// they came does not matter.
func (p *pairer) siblings(s *shard, h *half, b *batch) {
	var group [maxSiblings]*half
	n := 0
	s.children(h, h.parent, func(c *half) bool {
		if c.outgoing() && c.node == h.node && c.peer == h.peer && (c.operation == h.operation || c.resend > 0 || h.resend > 0) {
			group[n] = c
			n++
		}
		return n < maxSiblings
	})
	for i, c := range group[:n] {
		var before, after *half
		for j, o := range group[:n] {
			if i == j {
				continue
			}
			if o.start < c.start && o.end() <= latestStart(c) && (before == nil || o.end() > before.end() || o.end() == before.end() && o.id > before.id) {
				before = o
			}
			if c.start < o.start && c.end() <= latestStart(o) && (after == nil || o.start < after.start || o.start == after.start && o.id < after.id) {
				after = o
			}
		}
		c.flags &^= retry | resolved
		if retries(before, c) {
			c.flags |= retry
		}
		if after != nil && retries(c, after) {
			c.flags |= resolved
		}
		p.outgoing(s, c, b)
	}
}

// latestStart returns when h began at the latest. Some SDKs (JavaScript's) read the start from a clock of whole
// milliseconds and the length from a finer one: the true start may be almost a millisecond later.
func latestStart(h *half) int64 {
	if h.start%1e6 == 0 {
		return h.start + 1e6 - 1
	}
	return h.start
}

// maxRetryGap is how long after a failed attempt another one is still taken for its retry, or thrice the attempt's
// length, whichever is longer.
const maxRetryGap = int64(10e9)

// retries reports whether c is a retry of the attempt before it.
func retries(before, c *half) bool {
	if before == nil {
		return c.resend > 0
	}
	return before.retryable() && c.start-before.end() <= max(maxRetryGap, 3*before.duration)
}

// out appends what a caller's half counts, sign times.
func (b *batch) out(h *half, f outFact, sign int32) {
	if h.flags&mute != 0 {
		return
	}
	c := graph.Call{
		Edge: graph.EdgeRef{Source: h.node, Target: f.target, Protocol: f.protocol}, End: h.end(), Duration: h.duration,
		Weight: sign * h.weight, Calls: int16(f.calls), Logical: 1, Errors: int16(f.errors), Messages: h.messages,
		Outcome: h.verdict.outcome, Failure: f.cause.Failure(), Cause: f.cause, Side: graph.ClientSide, Timed: true, ServerMissing: f.missing,
		Operation: h.operation, Instance: h.instance,
	}
	if f.flags&retry != 0 {
		c.Logical = 0
	}
	if h.verdict.outcome == graph.Error && f.flags&resolved == 0 {
		c.LogicalErrors = 1
	}
	b.calls = append(b.calls, c)
	if sign > 0 && mix(h.traceLo) <= b.sampled {
		b.offers = append(b.offers, offerOf(h, c.Edge, f.flags&retry != 0))
	}
}

// in appends what a callee's half counts, sign times.
func (b *batch) in(h *half, f inFact, sign int32) {
	if h.flags&mute != 0 {
		return
	}
	c := graph.Call{
		Edge: graph.EdgeRef{Source: f.source, Target: h.node, Protocol: f.protocol}, End: h.end(), Duration: h.duration,
		Weight: sign * h.weight, Outcome: h.verdict.outcome, Failure: h.verdict.failure(), Cause: h.verdict.cause, Side: graph.ServerSide,
		Timed: h.role != receives, ClientMissing: f.missing, Operation: h.operation, Instance: h.instance, Version: h.version,
	}
	if f.call {
		c.Calls, c.Logical, c.Messages = 1, 1, h.messages
		if h.verdict.outcome == graph.Error {
			c.Errors, c.LogicalErrors = 1, 1
		}
	}
	b.calls = append(b.calls, c)
	if sign > 0 && f.call && mix(h.traceLo) <= b.sampled {
		b.offers = append(b.offers, offerOf(h, c.Edge, false))
	}
}

// expire lets the halves that waited long enough count alone, and forgets those that nothing can come for any more.
func (p *pairer) expire(s *shard, now, wait, keep, late int64, a *analysis, b *batch) {
	for {
		slot, ok := s.queue.waiting()
		if !ok || s.at(slot).arrived > now-wait {
			break
		}
		s.queue.waitDone()
		p.alone(s, s.at(slot), b)
		p.analyse(s, s.at(slot), now, a, b)
	}
	for {
		slot, ok := s.queue.oldest()
		if !ok || s.at(slot).arrived > now-keep {
			break
		}
		s.queue.pop()
		p.release(s, slot)
	}
	for {
		slot, ok := s.late.oldest()
		if !ok || s.at(slot).arrived > now-late {
			break
		}
		s.late.pop()
		s.unlink(slot)
	}
}

// alone lets h count by itself.
func (p *pairer) alone(s *shard, h *half, b *batch) {
	h.flags |= waited
	if h.outgoing() {
		before := h.out
		p.outgoing(s, h, b)
		pe := p.dir.peers.at(h.peer)
		switch {
		case h.out.target == 0:
		case pe == nil:
			if before.target == 0 {
				b.alone[aloneClient]++
				h.flags |= keep
			}
		case pe.kind == peerHost && p.unanswered(s, h):
			b.alone[aloneClient]++
			if h.guarded() {
				break // it never left its caller: nothing comes for it, and it says nothing of who answers there
			}
			if !pe.external() {
				h.flags |= keep
			}
			pe.alone.Add(1)
		}
	}
	if !h.serving() || h.in.source != 0 {
		return
	}
	p.incoming(s, h, b)
	if h.in.source != 0 && h.in.missing {
		if h.kind == graph.SpanKindConsumer {
			b.alone[aloneConsumer]++
		} else {
			b.alone[aloneServer]++
		}
		h.flags |= keep
	}
}

// unanswered reports whether no callee's half came for h.
func (p *pairer) unanswered(s *shard, h *half) bool {
	answered := false
	s.children(h, h.id, func(c *half) bool {
		answered = callee(h, c)
		return !answered
	})
	return !answered
}

// release forgets a half at the end of its time, or keeps it a while longer when its other half may still come late.
func (p *pairer) release(s *shard, slot uint32) {
	if h := s.at(slot); h.flags&keep != 0 {
		s.late.push(slot)
		return
	}
	s.unlink(slot)
}

// evict makes room: the oldest halves count as they stand.
func (p *pairer) evict(s *shard, n int, b *batch) (evicted int64) {
	for s.n > n {
		if slot, ok := s.late.oldest(); ok && s.late.len() > n/4 {
			s.late.pop()
			s.unlink(slot)
			evicted++
			continue
		}
		slot, ok := s.queue.oldest()
		if !ok {
			if slot, ok = s.late.oldest(); !ok {
				return evicted
			}
			s.late.pop()
			s.unlink(slot)
			evicted++
			continue
		}
		if w, ok := s.queue.waiting(); ok && w == slot {
			s.queue.waitDone()
			p.alone(s, s.at(slot), b)
			evicted++
		}
		s.queue.pop()
		s.unlink(slot)
	}
	return evicted
}
