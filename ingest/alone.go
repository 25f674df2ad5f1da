package ingest

import "faultline/graph"

// aloneReason is why a half stays alone.
type aloneReason uint8

// Why halves stay alone.
const (
	aloneExternal aloneReason = iota // it calls a host of which nothing is known
	aloneSilent                      // it calls a service that usually sends its half
	aloneUnnamed                     // it does not say whom it calls
	aloneDatabase                    // databases, caches and queues send none
	aloneQueue
	aloneGuarded // its breaker or pool did not let it pass
	aloneRefused // it did not get there
	aloneTimeout // its callee may still be at work
	aloneUnknownCaller
	aloneUntracedCaller // its caller has spans, and none for the call
	aloneBeforeStart    // its caller's half may have come to the process before this one
	aloneCrowded        // its caller's half may have had to make room, or it has itself
	aloneUnsent         // what it consumed was sent by nobody who was seen
	aloneNoContext      // a consumer without parent and links
	numAlone
)

var aloneNames = [numAlone]string{
	"client_external", "client_silent_callee", "client_unnamed", "client_database", "client_queue", "client_guarded",
	"client_refused", "client_timeout", "server_unknown_caller", "server_untraced_caller", "server_before_start", "server_crowded_out",
	"consumer_unknown_producer", "consumer_no_context",
}

// alone lets h count by itself.
func (p *pairer) alone(s *shard, h *half, b *batch) {
	h.flags |= waited
	if h.proxied() {
		p.aloneProxy(s, h, b)
	}
	switch {
	case h.outgoing():
		p.aloneOut(s, h, b)
		p.proxyTimes(s, h, b)
	case h.serving():
		p.aloneIn(s, h, b)
	}
	p.settle(s, h, b)
}

// aloneOut lets a caller's half count by itself, unless it was answered: about that nothing changes.
func (p *pairer) aloneOut(s *shard, h *half, b *batch) {
	if h.out.is(outAnswered) {
		return
	}
	p.outgoing(s, h, b)
	pe := p.dir.peers.at(h.peer)
	if h.out.target == 0 || h.out.is(outAnswered) || pe != nil && p.answered(s, h) {
		return
	}
	b.alone[h.whyAlone(pe)]++
	switch {
	case h.guarded():
		// It never left its caller: nothing comes for it, and it says nothing of who answers there.
	case pe == nil:
		h.flags |= keep
	case pe.kind == peerHost:
		if !pe.external() {
			h.flags |= keep
		}
		if !p.crowded(s, h) {
			pe.alone.Add(1)
		}
	}
}

// crowded reports whether the other half of h, which is not there, may have had to make room, or h has itself: that nobody
// calls, or answers, cannot be told then.
func (p *pairer) crowded(s *shard, h *half) bool {
	return s.evicted != 0 && s.evicted >= h.arrived-p.wait
}

// whyAlone says why no callee's half came for h.
func (h *half) whyAlone(pe *peer) aloneReason {
	f := h.verdict.failure()
	switch {
	case pe == nil && h.guarded():
		return aloneGuarded
	case pe == nil:
		return aloneUnnamed
	case pe.kind == peerDB:
		return aloneDatabase
	case pe.kind == peerQueue:
		return aloneQueue
	case h.guarded():
		return aloneGuarded
	case f == graph.Refused || f == graph.Unresolved || f == graph.TLS:
		return aloneRefused
	case f == graph.Timeout:
		return aloneTimeout
	case h.out.is(outSilent):
		return aloneSilent
	}
	return aloneExternal
}

// aloneIn lets a callee's half count by itself.
func (p *pairer) aloneIn(s *shard, h *half, b *batch) {
	if h.in.source == 0 {
		p.incoming(s, h, b)
		if h.in.source != 0 && h.in.missing {
			h.flags |= keep
		}
	}
	switch {
	case h.kind != graph.SpanKindServer:
	case h.in.source == 0 && h.parent != 0 && p.started != 0 && h.start < p.started && s.parentOf(h) == nil:
		b.alone[aloneBeforeStart]++
	case h.in.source == 0 && h.parent != 0 && p.crowded(s, h) && s.parentOf(h) == nil:
		b.alone[aloneCrowded]++
	case !h.in.missing:
	case s.parentOf(h) == nil:
		b.alone[aloneUnknownCaller]++
	default:
		b.alone[aloneUntracedCaller]++
	}
}

// answered reports whether a callee's half came for h.
func (p *pairer) answered(s *shard, h *half) (answered bool) {
	p.below(s, h, func(c *half) bool {
		answered = p.callee(h, c)
		return !answered
	})
	return answered
}
