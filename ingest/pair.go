package ingest

import (
	"math"

	"faultline/graph"
)

// callee reports whether c, below the outgoing half h, is its other half: a server span, or whatever another service
// did in its name. A proxy may tell of both sides of a call in one span, that of a client.
func callee(h, c *half) bool {
	return c.serving() || c.node != h.node && (!c.outgoing() || c.role == outward)
}

// callee is the same for halves that may be of different environments, between which there are no calls.
func (p *pairer) callee(h, c *half) bool { return callee(h, c) && !p.dir.foreign(h.node, c.node) }

// batch gathers what happens while a shard is locked, to be acted on after it is not.
type batch struct {
	calls   []graph.Call
	facts   []graph.Fact
	offers  []offer
	remarks []remark
	lessons []lesson
	late    int64
	// negative counts the calls whose callee took longer.
	negative int64
	alone    [numAlone]int64
	// notes and refs are what halves of the request say beside their numbers, until their shard takes it over.
	notes []note
	refs  []reference
	// consumed are the messages whose consumers have waited, producers who may have sent them.
	consumed  []consumed
	producers []reference
	missing   []reference
	met       []meeting
	// linking are halves that have waited and link to another, outside of messaging.
	linking []linking
	dropped [numDrops]int64
	// analysis looks at what is below those consumers, at the time now; nil when halves are let go before their time.
	analysis *analysis
	now      int64
	// sampled is the share of traces, of 2^64, that may become examples.
	sampled uint64
}

// reset empties the batch.
func (b *batch) reset() {
	b.calls, b.facts, b.offers, b.late, b.negative, b.alone = b.calls[:0], b.facts[:0], b.offers[:0], 0, 0, [numAlone]int64{}
	b.remarks, b.lessons = b.remarks[:0], b.lessons[:0]
	b.notes, b.refs, b.consumed, b.producers, b.met = b.notes[:0], b.refs[:0], b.consumed[:0], b.producers[:0], b.met[:0]
	b.linking = b.linking[:0]
	b.dropped = [numDrops]int64{}
}

// pairer knows what shards need to know of the world.
type pairer struct {
	dir     *directory
	offsets *offsets
	started int64 // nanoseconds since the epoch; 0 unless an earlier process may have seen the other halves
	wait    int64 // how long halves wait, in nanoseconds
}

// insert adds a half and counts what follows from it. It returns false for a duplicate.
func (p *pairer) insert(s *shard, in *half, b *batch) bool {
	if slot := s.same(in); slot != 0 {
		p.update(s, slot, in, b)
		return false
	}
	slot := s.alloc()
	h := s.at(slot)
	*h = *in
	s.adopt(h, b)
	s.link(slot)
	s.queue.push(slot)
	p.enter(s, h, b)
	return true
}

// update replaces a span by itself, told again when more of it was over: the one that ends later counts, whichever comes
// first, unless facts of the other have been emitted.
func (p *pairer) update(s *shard, slot uint32, in *half, b *batch) {
	h := s.at(slot)
	if h.flags&waited != 0 || in.end() <= h.end() {
		return
	}
	if h.out.target != 0 {
		b.out(h, h.out, -1)
	}
	if h.in.source != 0 {
		b.in(h, h.in, -1)
	}
	s.unlink(slot)
	s.drop(h.note)
	arrived := h.arrived
	*h = *in
	h.arrived = arrived // its place in the queue stays
	s.adopt(h, b)
	s.link(slot)
	p.enter(s, h, b)
	if h.outgoing() && h.parent != 0 {
		p.attempts(s, h, b) // the others may have been attempts by what it said before
	}
}

// enter counts what follows from a half that is new.
func (p *pairer) enter(s *shard, h *half, b *batch) {
	// Its children may have waited for it.
	s.children(h, h.id, func(c *half) bool {
		p.found(s, h, c, b, 0)
		b.compare(h, c)
		return true
	})
	if h.outgoing() {
		if c := s.find(h, h.id); c != nil && c.serving() {
			p.incoming(s, c, b)
		}
	}
	// So may have the half above it.
	if parent := s.parentOf(h); parent != nil {
		b.compare(parent, h)
		if parent.outgoing() {
			p.outgoing(s, parent, b)
			if parent.flags&doubted != 0 {
				s.carriedOut(parent, h, b)
			}
		} else if parent.role == receives || parent.kind == graph.SpanKindServer && (h.role == processes || parent.in.source == 0) {
			p.incoming(s, parent, b)
		}
		if h.outgoing() {
			h.lieWithin(parent)
		}
	}
	p.incoming(s, h, b)
	if h.outgoing() {
		if h.role == sends && s.awaiting.len() > 0 {
			s.meet(h, b)
		}
		if h.parent == 0 && h.resend > 0 && h.flags&transparent == 0 {
			h.flags |= retry // its siblings cannot be known
		}
		p.outgoing(s, h, b)
		p.tryBeside(s, h, b)
	} else if h.serving() && s.triedBeside(h) {
		s.children(h, h.parent, func(c *half) bool {
			if h.resend > 0 {
				p.incoming(s, c, b)
			}
			if c != h && c.flags&waited != 0 && c.servedAgain() && !s.settled(c) {
				s.takeBack(c, b, ofBeside)
				s.settleServed(c, b)
			}
			return true
		})
	}
	if s.proxies > 0 {
		p.restate(s, h, b)
	}
	if len(s.rates.m) > 0 {
		p.inherit(s, h, b)
	}
}

// tryBeside looks for other attempts beside a call, where there may be any: also where the operation that made the call
// did not wait for it.
func (p *pairer) tryBeside(s *shard, h *half, b *batch) {
	if h.flags&outside != 0 && h.parent != 0 {
		s.count(h)
	}
	if s.triedBeside(h) {
		p.attempts(s, h, b)
	}
}

// found tells a child that its parent is there now.
func (p *pairer) found(s *shard, h, c *half, b *batch, depth int) {
	p.incoming(s, c, b)
	if c.outgoing() {
		if h.outgoing() {
			p.outgoing(s, c, b)
		}
		if was := c.flags; c.lieWithin(h) || was&outside != 0 {
			p.tryBeside(s, c, b)
		}
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
	if fact.call && h.kind == graph.SpanKindServer && s.pushed(h) {
		fact = inFact{}
	}
	if p.dir.hidden(fact.source) || p.dir.hidden(h.node) {
		fact = inFact{}
	}
	if fact == h.in {
		return
	}
	if h.in.source != 0 {
		b.in(h, h.in, -1)
		if h.flags&waited != 0 && fact.source != 0 {
			b.late++
		}
		p.mendIn(h, fact, b)
	}
	h.in = fact
	if fact.source != 0 {
		b.in(h, fact, 1)
	}
	if h.flags&waited != 0 {
		s.follow(h, b)
	}
}

// deriveIn says who called h, by what is known now.
func (p *pairer) deriveIn(s *shard, h *half) inFact {
	none := inFact{}
	if h.kind == graph.SpanKindConsumer || h.role == processes {
		if h.role.settling() || h.role == receives && s.processed(h) {
			return none
		}
		if pe := p.dir.peers.at(h.peer); pe != nil && pe.kind == peerQueue {
			ref, _ := p.dir.fallback(pe)
			return inFact{source: ref, protocol: graph.Messaging, call: true}
		}
	}
	top := h
	if s.proxies > 0 {
		if h.proxied() && (p.quiet(h) || p.repeats(s, h)) {
			return none
		}
		if h.outgoing() {
			return p.gatewayIn(s, h)
		}
		top = p.outermost(s, h)
	}
	if top.parent == 0 {
		if h.kind == graph.SpanKindServer {
			if c := s.parentOf(top); c != nil && !p.dir.foreign(c.node, h.node) {
				return inFact{source: c.node, protocol: either(c.protocol, h.protocol)}
			}
			of := p.dir.byRef(h.node)
			source := of.user
			if h.role == triggered {
				source = of.ingress
			}
			return inFact{source: source, protocol: h.protocol, call: true, flags: s.attemptOf(h)}
		}
		return none
	}
	above := s.parentOf(h)
	caller := above
	if s.proxies > 0 {
		caller, above = p.caller(s, h), s.parentOf(top)
	}
	if caller != nil && caller.outgoing() {
		h.serveWithin(caller)
	}
	for range maxWalk {
		if above == nil || !h.serving() || above.kind != graph.SpanKindInternal || above.node != h.node || h.flags&remote != 0 {
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
		if !h.serving() || h.flags&waited == 0 || s.queueUnknown(h) {
			return none
		}
		if p.started != 0 && h.start < p.started {
			return none // its caller's half may be in what the process before this one counted
		}
		if p.crowded(s, h) {
			return none
		}
		return inFact{source: p.dir.byRef(h.node).unknown, protocol: h.protocol, call: true, missing: true, flags: s.attemptOf(h)}
	}
	if p.dir.foreign(above.node, h.node) {
		return inFact{source: p.dir.byRef(h.node).unknown, protocol: h.protocol, call: h.serving()}
	}
	if above.outgoing() {
		switch {
		case above.role == leftOut, !p.callee(above, h):
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
	if above.node != h.node || h.kind == graph.SpanKindServer && h.flags&remote != 0 && !above.proxied() {
		return inFact{source: above.node, protocol: h.protocol, call: true, missing: !above.proxied(), flags: s.attemptOf(h)}
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
	if p.dir.hidden(fact.target) || p.dir.hidden(h.node) {
		fact = outFact{}
	}
	was := h.out
	if fact == was {
		if h.flags&waited != 0 {
			p.recount(s, h, b)
		}
		return
	}
	again := fact.counted() != was.counted() // most often its callee's half came, and says what was expected
	if was.target != 0 {
		if again {
			b.out(h, was, -1)
		}
		if h.flags&waited != 0 && fact.target != was.target {
			b.late++
		}
		p.mendOut(h, fact, b)
	}
	h.out = fact
	if fact.target != 0 && again {
		b.out(h, fact, 1)
	} else if fact.version != was.version || (fact.flags^was.flags)&outAwaited != 0 {
		b.moved(h, was, fact)
	}
	if h.flags&waited != 0 {
		p.corrected(s, h, was, b)
	}
}

// deriveOut says whom h called and how often, by what is known now.
func (p *pairer) deriveOut(s *shard, h *half) outFact {
	none := outFact{}
	pe := p.dir.peers.at(h.peer)
	if h.role.settling() || h.role == receives || h.proxied() && (p.quiet(h) || p.repeats(s, h)) {
		return none
	}
	fact := outFact{protocol: h.protocol, calls: 1, cause: p.saidBesides(s, h), flags: uint8(h.flags & attempt)}
	if h.verdict.outcome == graph.Error {
		fact.errors = 1
		if h.flags&exhausted != 0 {
			fact.calls, fact.errors = 2, 2 // at the least: a proxy made all the attempts that it may
		}
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
		case p.callee(h, c):
			callees++
			if first == nil || c.start < first.start || c.start == first.start && c.id < first.id {
				first = c
			}
		case c.outgoing() && c.node == h.node:
			wrapped = true
		}
		return true
	}
	p.below(s, h, consider)
	for slot := s.buckets[key(h.traceLo, h.id)&s.mask].span; slot != 0; {
		c := s.at(slot)
		slot = c.nextSame
		if c != h && c.id == h.id && c.traceLo == h.traceLo && c.traceHi == h.traceHi && c.serving() {
			consider(c)
		}
	}
	if first != nil && first.role == leftOut {
		return none
	}
	if first != nil {
		made, failures, unseen := 0, 0, 0
		worst := first // the first that failed
		count := func(c *half) bool {
			if p.callee(h, c) && c.node == first.node {
				made++
				unseen = max(unseen, int(c.resend))
				if c.verdict.outcome == graph.Error {
					if failures++; worst.verdict.outcome != graph.Error || c.start < worst.start || c.start == worst.start && c.id < worst.id {
						worst = c
					}
				}
			}
			return true
		}
		if callees == 1 {
			count(first)
		} else {
			p.below(s, h, count)
		}
		// The callee may have seen that others were made before it that never came.
		if unseen -= made - 1; unseen < 0 || h.resend > 0 || h.flags&retry != 0 {
			unseen = 0
		}
		if made += unseen; first.serving() && made > 1 {
			fact.calls = uint8(min(max(made, int(fact.calls)), math.MaxUint8))
			fact.errors = max(fact.errors, uint8(min(failures+unseen, math.MaxUint8)))
			if fact.cause == 0 && fact.errors > 0 {
				fact.cause = class(graph.Unclassified)
			}
			if unseen == 0 && p.hedgedBelow(s, h, first.node) {
				fact.flags |= uint8(hedge)
			}
		}
		switch f := fact.cause.Failure(); {
		case fact.errors == 0:
		case h.verdict.outcome == graph.Error && failures == 0 && (f == graph.Unclassified || f == graph.ServerError || f == graph.Reset):
			fact.cause = class(graph.LostResponse)
		case failures > 0 && f == graph.Unclassified:
			fact.cause = worst.verdict.cause // the callee knows more
		case f.Guarded():
			fact.cause = class(graph.ServerError) // the callee did see it: it told of a guard of its own
		}
		fact.target, fact.version = first.node, short(first.version)
		fact.flags |= outAnswered
		fact.protocol = either(h.protocol, first.protocol)
		if (h.out.target != first.node || h.out.is(outSilent)) && pe != nil {
			pe.paired.Add(1)
			if pe.alias != nil && first.node != h.node {
				pe.alias.answered(first.node, h.id)
			}
		}
		return fact
	}
	// A client span around client spans of the same service: one call, not two. The one that reached somebody counts,
	// and where none did, what says more: the call to a database rather than the request that carries it, an attempt
	// rather than the wrapper around all of them.
	if above := s.parentOf(h); above != nil && above.outgoing() && above.node == h.node {
		if ape := p.dir.peers.at(above.peer); ape != nil && ape.kind.telling() {
			return none
		}
	}
	if pe != nil && pe.kind.telling() {
		fact.target, _ = p.dir.fallback(pe)
		return fact
	}
	if wrapped {
		return none
	}
	if pe == nil {
		if h.guarded() && p.callsBelow(s, h, 0) {
			return none // what it says of a guard is what a call below it says
		}
		if above := s.parentOf(h); h.flags&waited == 0 || above != nil && above.node != h.node {
			return none // one that names no peer, below another service's span, stands for the callee
		}
		fact.target = p.dir.byRef(h.node).unknown
		if beside := s.answeredBeside(h); beside != nil {
			fact.target, fact.protocol = beside.out.target, beside.out.protocol
			fact.flags |= outSilent
			if !h.guarded() {
				fact.flags |= outMissing
			}
		} else if h.out.is(outSilent) { // what was beside it is gone
			fact.target, fact.protocol = h.out.target, h.out.protocol
			fact.flags |= h.out.flags & (outSilent | outMissing)
		}
		return fact
	}
	if pe.self {
		return none // the span stands for the callee: its caller is the service above it
	}
	if h.flags&waited == 0 && h.out.target == 0 && !pe.external() && (pe.alias == nil || pe.alias.sure.Load() == 0) {
		return none
	}
	if h.out.target != 0 && (s.proxies == 0 || !p.proxyOnly(h.out.target)) {
		fact.target, fact.protocol, fact.version = h.out.target, h.out.protocol, h.out.version
		fact.flags |= h.out.flags & (outSilent | outMissing | outAnswered)
		fact.flags |= p.awaits(s, h, fact)
		p.speak(h, &fact)
		return fact
	}
	target, service := p.dir.fallback(pe)
	fact.target = target
	p.speak(h, &fact)
	if service {
		fact.flags |= outSilent
	}
	fact.flags |= p.awaits(s, h, fact)
	return fact
}

// awaits says of a callee's half that is not there that it may still come or, after the wait, that it should have.
func (p *pairer) awaits(s *shard, h *half, f outFact) (flags uint8) {
	switch {
	case !f.is(outSilent):
	case h.flags&waited == 0:
		return outAwaited
	case !h.guarded() && !f.cause.Failure().Guarded() && !p.dir.sampledOut(f.target, h.weight) && !p.crowded(s, h):
		return outMissing
	}
	return 0
}

// out appends what a caller's half counts, sign times.
func (b *batch) out(h *half, f outFact, sign int32) {
	if h.flags&mute != 0 {
		return
	}
	c := graph.Call{
		Edge: graph.EdgeRef{Source: h.node, Target: f.target, Protocol: f.protocol}, End: h.end(), Duration: h.duration,
		Weight: sign * h.weight, Calls: int16(f.calls), Logical: 1, Errors: int16(f.errors), Messages: h.messages,
		Outcome: h.verdict.outcome, Failure: f.cause.Failure(), Cause: f.cause, Side: graph.ClientSide, Timed: true, ServerMissing: f.is(outMissing),
		Operation: h.operation, Instance: h.instance, Version: h.version, PeerVersion: f.version.label(), Awaited: f.is(outAwaited),
	}
	if f.flags&uint8(retry) != 0 {
		c.Logical = 0
	}
	if f.flags&uint8(hedge) != 0 {
		c.Hedges = c.Calls - c.Logical
	}
	if h.verdict.outcome == graph.Error && f.flags&uint8(resolved) == 0 {
		c.LogicalErrors = 1
	}
	b.calls = append(b.calls, c)
	if sign > 0 && mix(h.traceLo) <= b.sampled {
		b.offers = append(b.offers, offerOf(h, c.Edge, f.flags&uint8(retry) != 0))
	}
}

// moved appends that a call is of another pair of versions than it was counted as, now that its callee's half came.
func (b *batch) moved(h *half, was, now outFact) {
	if h.flags&mute != 0 {
		return
	}
	b.calls = append(b.calls, graph.Call{
		Edge: graph.EdgeRef{Source: h.node, Target: now.target, Protocol: now.protocol}, End: h.end(), Duration: h.duration, Weight: h.weight,
		Outcome: h.verdict.outcome, Side: graph.ClientSide, Timed: true, Operation: h.operation, Version: h.version,
		PeerVersion: now.version.label(), WasPeer: was.version.label(), Moved: true, Awaited: was.is(outAwaited),
	})
}

// in appends what a callee's half counts, sign times. f is h.in.
func (b *batch) in(h *half, f inFact, sign int32) {
	if h.flags&mute != 0 {
		return
	}
	c := graph.Call{
		Edge: graph.EdgeRef{Source: f.source, Target: h.node, Protocol: f.protocol}, End: h.end(), Duration: h.duration,
		Weight: sign * h.weight, Outcome: h.verdict.outcome, Failure: h.verdict.failure(), Cause: h.verdict.cause, Side: graph.ServerSide,
		Timed: h.role != receives, ClientMissing: f.missing, Operation: h.operation, Instance: h.instance, Version: h.version,
	}
	if h.turnedAway() {
		c.Outcome, c.Failure, c.Cause = graph.ClientError, 0, 0
	}
	if h.outgoing() && ofItsOwnCalls(c.Failure) {
		c.Cause = class(graph.ServerError) // a gateway was reached: that is of its own call, which the same span tells of
		c.Failure = graph.ServerError
	}
	if f.call {
		c.Calls, c.Logical, c.Messages = 1, 1, h.messages
		if f.flags&uint8(retry) != 0 {
			c.Logical = 0
		}
		if c.Outcome == graph.Error {
			c.Errors = 1
			if f.flags&uint8(resolved) == 0 {
				c.LogicalErrors = 1
			}
		}
	}
	b.calls = append(b.calls, c)
	if sign > 0 && f.call && mix(h.traceLo) <= b.sampled {
		b.offers = append(b.offers, offerOf(h, c.Edge, f.flags&uint8(retry) != 0))
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
		p.notice(s, s.at(slot), b)
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
		s.forget(slot)
	}
}

// slowAttempt is how long an attempt must have taken for the next one to come when the others are gone already.
const slowAttempt = int64(5e9)

// release forgets a half at the end of its time, or keeps it a while longer when its other half, or another attempt, may
// still come late.
func (p *pairer) release(s *shard, slot uint32) {
	if h := s.at(slot); h.flags&keep != 0 || h.duration > slowAttempt && h.tried() {
		s.late.push(slot)
		return
	}
	s.forget(slot)
}

// evict makes room: the oldest halves count as they stand.
func (p *pairer) evict(s *shard, n int, b *batch) (evicted int64) {
	for touched := 0; s.n > n; touched-- {
		if touched == 0 {
			s.touchOldest(maxTouch)
			touched = maxTouch
		}
		if slot, ok := s.late.oldest(); ok && s.late.len() > n/4 {
			s.late.pop()
			s.forget(slot)
			evicted++
			continue
		}
		slot, ok := s.queue.oldest()
		if !ok {
			if slot, ok = s.late.oldest(); !ok {
				return evicted
			}
			s.late.pop()
			s.forget(slot)
			evicted++
			continue
		}
		if w, ok := s.queue.waiting(); ok && w == slot {
			s.queue.waitDone()
			s.evicted = s.at(slot).arrived
			p.alone(s, s.at(slot), b)
			p.notice(s, s.at(slot), b)
			evicted++
		}
		s.queue.pop()
		s.forget(slot)
	}
	return evicted
}
