package ingest

import (
	"math"
	"sync"

	"faultline/graph"
)

// A half is one span in flight: what is left of it once names are numbers. It holds no pointer, and takes two cache
// lines: what is looked at while searching lies in the first.
type half struct {
	traceHi, traceLo uint64
	id, parent       uint64

	nextSame             uint32 // chain of the halves of one bucket by (trace, id)
	nextChild, prevChild uint32 // chain of the halves of one bucket by (trace, parent)
	node                 graph.NodeRef
	peer                 uint32
	operation            graph.Label
	kind                 graph.SpanKind
	flags                uint8
	protocol             graph.Protocol
	role                 messagingRole
	verdict              verdict
	resend               uint8

	start, duration   int64 // nanoseconds since the epoch; nanoseconds
	arrived           int64 // nanoseconds since the epoch, by the receiving clock
	instance, version graph.Label
	weight            int32
	messages          int32
	out               outFact
	in                inFact
}

// The flags of a half.
const (
	waited   = 1 << iota // it waited long enough to count alone
	remote               // its parent is in another process, by the span's own word
	blocks               // a server span below it waits for its parent to be known
	keep                 // it stayed alone, and its other half may come late
	retry                // not a logical call: an attempt after a failed one
	resolved             // another attempt followed: its error is not the logical call's
	mute                 // it says who called whom, but enters no figure itself
)

// outFact is what a caller's half has been counted as; target 0 is nothing.
type outFact struct {
	target   graph.NodeRef
	protocol graph.Protocol
	calls    uint8
	errors   uint8
	failure  graph.Failure
	flags    uint8 // retry, resolved
	missing  bool
}

// inFact is what a callee's half has been counted as; source 0 is nothing.
type inFact struct {
	source   graph.NodeRef
	protocol graph.Protocol
	call     bool // it counts as a call, because the caller's half is not seen
	missing  bool
}

func (h *half) end() int64 { return h.start + h.duration }
func (h *half) outgoing() bool {
	return h.kind == graph.SpanKindClient || h.kind == graph.SpanKindProducer
}
func (h *half) serving() bool {
	return h.kind == graph.SpanKindServer || h.kind == graph.SpanKindConsumer
}

// retryable reports whether the call failed in a way that makes callers try again.
func (h *half) retryable() bool {
	return h.verdict.outcome == graph.Error && h.verdict.failure != graph.Auth
}

// tried reports whether h makes it worth looking for retries among its siblings.
func (h *half) tried() bool {
	return h.outgoing() && h.parent != 0 && (h.retryable() || h.resend > 0)
}

const (
	halfPage    = 1024 // halves in a page
	maxSiblings = 64   // siblings that are looked at for retries
	maxChildren = 1024 // children that are looked at for a callee
	maxWalk     = 16   // internal spans between a server span and its caller
)

// bucket holds the first half of two chains: of the halves whose own (trace, id) has its hash, and of those whose
// (trace, parent) has, so that a span, its children and what is said of them lie together.
type bucket struct{ span, child uint32 }

// shard pairs the halves of the traces whose ids it is given. All of one trace come to one shard.
type shard struct {
	mu      sync.Mutex
	pages   []*[halfPage]half
	free    []uint32
	next    uint32 // first slot that was never used; slot 0 is none
	n       int
	buckets []bucket
	mask    uint64

	// failedParents counts, by a hash of the parent, the halves that were tried: no retry can be where it is zero.
	failedParents [1024]uint32

	touched uint32 // what touch read, so that it is not left out

	queue queue // all halves, by arrival
	late  queue // halves that stayed alone, by arrival

	_ [64]byte
}

func (s *shard) init() {
	const n = 1 << 8
	s.buckets, s.mask = make([]bucket, n), n-1
	s.next = 1
}

func (s *shard) at(slot uint32) *half { return &s.pages[slot/halfPage][slot%halfPage] }

func (s *shard) alloc() uint32 {
	if k := len(s.free); k > 0 {
		slot := s.free[k-1]
		s.free = s.free[:k-1]
		return slot
	}
	slot := s.next
	s.next++
	if int(slot/halfPage) == len(s.pages) {
		s.pages = append(s.pages, new([halfPage]half))
	}
	return slot
}

func key(traceLo, id uint64) uint64 { return fold(traceLo, id) }

// touch reads what inserting the halves will read first. Each of those reads misses the cache; all of them together
// wait no longer than one of them, where one insert after the other would wait for each.
func (s *shard) touch(halves []half, order []int32) {
	var sum uint32
	for _, i := range order {
		h := &halves[i]
		own, above := s.buckets[key(h.traceLo, h.id)&s.mask], s.buckets[key(h.traceLo, h.parent)&s.mask]
		sum += own.span + above.span
	}
	for _, i := range order {
		h := &halves[i]
		own, above := s.buckets[key(h.traceLo, h.id)&s.mask], s.buckets[key(h.traceLo, h.parent)&s.mask]
		for _, slot := range [...]uint32{own.span, own.child, above.span, above.child} {
			if slot != 0 {
				o := s.at(slot)
				sum += o.nextSame + uint32(o.start)
			}
		}
	}
	s.touched = sum
}

// link puts a half into the tables.
func (s *shard) link(slot uint32) {
	h := s.at(slot)
	k := key(h.traceLo, h.id) & s.mask
	h.nextSame = s.buckets[k].span
	s.buckets[k].span = slot
	h.prevChild, h.nextChild = 0, 0
	if h.parent != 0 {
		k = key(h.traceLo, h.parent) & s.mask
		h.nextChild = s.buckets[k].child
		if h.nextChild != 0 {
			s.at(h.nextChild).prevChild = slot
		}
		s.buckets[k].child = slot
	}
	s.n++
	if h.tried() {
		s.failedParents[key(h.traceLo, h.parent)&1023]++
	}
	if uint64(s.n) > s.mask {
		s.grow()
	}
}

func (s *shard) unlink(slot uint32) {
	h := s.at(slot)
	k := key(h.traceLo, h.id) & s.mask
	for p := &s.buckets[k].span; *p != 0; p = &s.at(*p).nextSame {
		if *p == slot {
			*p = h.nextSame
			break
		}
	}
	if h.parent != 0 {
		if h.prevChild != 0 {
			s.at(h.prevChild).nextChild = h.nextChild
		} else {
			s.buckets[key(h.traceLo, h.parent)&s.mask].child = h.nextChild
		}
		if h.nextChild != 0 {
			s.at(h.nextChild).prevChild = h.prevChild
		}
		if h.tried() {
			s.failedParents[key(h.traceLo, h.parent)&1023]--
		}
	}
	s.n--
	s.free = append(s.free, slot)
}

// grow doubles the table.
func (s *shard) grow() {
	old := s.buckets
	n := 2 * (s.mask + 1)
	s.buckets, s.mask = make([]bucket, n), n-1
	for _, b := range old {
		for slot := b.span; slot != 0; {
			h := s.at(slot)
			following := h.nextSame
			k := key(h.traceLo, h.id) & s.mask
			h.nextSame = s.buckets[k].span
			s.buckets[k].span = slot
			slot = following
		}
		for slot := b.child; slot != 0; {
			h := s.at(slot)
			following := h.nextChild
			k := key(h.traceLo, h.parent) & s.mask
			h.prevChild, h.nextChild = 0, s.buckets[k].child
			if h.nextChild != 0 {
				s.at(h.nextChild).prevChild = slot
			}
			s.buckets[k].child = slot
			slot = following
		}
	}
}

// find returns the half with an id. A client and a server span may share one, as Zipkin's do: to a server span asking
// for its own id the client is meant, to everybody else the server.
func (s *shard) find(like *half, id uint64) *half {
	var found *half
	for slot := s.buckets[key(like.traceLo, id)&s.mask].span; slot != 0; {
		h := s.at(slot)
		slot = h.nextSame
		if h.id == id && h.traceLo == like.traceLo && h.traceHi == like.traceHi && h != like {
			if found == nil || h.outgoing() == (like.id == id) {
				found = h
			}
		}
	}
	return found
}

// duplicate reports whether the same span is there already.
func (s *shard) duplicate(h *half) bool {
	for slot := s.buckets[key(h.traceLo, h.id)&s.mask].span; slot != 0; {
		o := s.at(slot)
		slot = o.nextSame
		if o.id == h.id && o.traceLo == h.traceLo && o.traceHi == h.traceHi && o.outgoing() == h.outgoing() {
			return true
		}
	}
	return false
}

// children calls each for the halves whose parent is id, until it returns false, at most maxChildren.
func (s *shard) children(like *half, id uint64, each func(*half) bool) {
	n := 0
	for slot := s.buckets[key(like.traceLo, id)&s.mask].child; slot != 0; {
		c := s.at(slot)
		slot = c.nextChild
		if c.parent == id && c.traceLo == like.traceLo && c.traceHi == like.traceHi {
			if n++; n > maxChildren || !each(c) {
				return
			}
		}
	}
}

// parentOf returns the half that h's parent is, nil when it is not there.
func (s *shard) parentOf(h *half) *half {
	if h.serving() {
		if p := s.find(h, h.id); p != nil && p.outgoing() {
			return p // one id for both halves
		}
	}
	if h.parent == 0 {
		return nil
	}
	return s.find(h, h.parent)
}

// processed reports whether the messages that h received are processed in spans of their own below it.
func (s *shard) processed(h *half) bool {
	found := false
	s.children(h, h.id, func(c *half) bool {
		found = c.role == processes
		return !found
	})
	return found
}

// callee reports whether c, a child of the outgoing half h, is its other half: a server span, or whatever another service
// did in its name.
func callee(h, c *half) bool { return c.serving() || c.node != h.node && !c.outgoing() }

// batch gathers what happens while a shard is locked, to be acted on after it is not.
type batch struct {
	calls  []graph.Call
	offers []offer
	late   int64
	alone  [3]int64
	// sampled is the share of traces, of 2^64, that may become examples.
	sampled uint64
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
	fact := outFact{protocol: h.protocol, calls: 1, failure: h.verdict.failure, flags: h.flags & (retry | resolved)}
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
			if fact.failure == graph.None && failures > 0 {
				fact.failure = first.verdict.failure
				if fact.failure == graph.None {
					fact.failure = graph.ServerError
				}
			}
		}
		if fact.errors > 0 && failures == 0 && (fact.failure == graph.Unclassified || fact.failure == graph.ServerError || fact.failure == graph.Reset) {
			fact.failure = graph.LostResponse
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
		Outcome: h.verdict.outcome, Failure: f.failure, Side: graph.ClientSide, Timed: true, ServerMissing: f.missing,
		Operation: h.operation,
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
		Weight: sign * h.weight, Outcome: h.verdict.outcome, Failure: h.verdict.failure, Side: graph.ServerSide,
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
func (p *pairer) expire(s *shard, now, wait, keep, late int64, b *batch) {
	for {
		slot, ok := s.queue.waiting()
		if !ok || s.at(slot).arrived > now-wait {
			break
		}
		s.queue.waitDone()
		p.alone(s, s.at(slot), b)
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
			if !pe.external() {
				h.flags |= keep
			}
			pe.alone.Add(1)
			b.alone[aloneClient]++
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

// queue is a ring of slots with two readers: one that lets slots stop waiting, and, behind it, one that takes them out.
type queue struct {
	slots           []uint32
	head, mid, tail uint64
}

func (q *queue) len() int { return int(q.tail - q.head) }

func (q *queue) push(slot uint32) {
	if int(q.tail-q.head) == len(q.slots) {
		grown := make([]uint32, max(2*len(q.slots), 64))
		for i := q.head; i < q.tail; i++ {
			grown[i&uint64(len(grown)-1)] = q.slots[i&uint64(len(q.slots)-1)]
		}
		q.slots = grown
	}
	q.slots[q.tail&uint64(len(q.slots)-1)] = slot
	q.tail++
}

func (q *queue) oldest() (uint32, bool) {
	if q.head == q.tail {
		return 0, false
	}
	return q.slots[q.head&uint64(len(q.slots)-1)], true
}

func (q *queue) pop() {
	q.head++
	q.mid = max(q.mid, q.head)
}

func (q *queue) waiting() (uint32, bool) {
	if q.mid == q.tail {
		return 0, false
	}
	return q.slots[q.mid&uint64(len(q.slots)-1)], true
}

func (q *queue) waitDone() { q.mid++ }
