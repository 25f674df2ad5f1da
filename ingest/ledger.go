package ingest

import "faultline/graph"

// Facts lie on the edge of the half that they speak of. Where that half may yet be moved, because its other half can still
// come and say otherwise, what was emitted is remembered with it, so that it goes where the half goes: it is taken back
// from the edge where it was, in the minute where it was, and counted anew.

// booked is a fact that was emitted of a half.
type booked struct {
	fact graph.Fact
	next uint32 // in its slab
}

// maxBooked is how many facts are remembered, of an Intake.
const maxBooked = 64 << 10

// movable reports whether it may still be found out that h, which has waited, lies on another edge.
func (p *pairer) movable(h *half) bool {
	if !h.outgoing() {
		return h.in.missing || h.proxied()
	}
	pe := p.dir.peers.at(h.peer)
	return !h.out.answered && !h.guarded() && (pe == nil || !pe.kind.telling())
}

// lies returns the edge on which the facts of h lie, the zero one when it counts on none.
func (h *half) lies() graph.EdgeRef {
	switch {
	case h.outgoing() && h.out.target != 0:
		return h.called()
	case !h.outgoing() && h.in.source != 0 && h.in.call:
		return h.serves()
	}
	return graph.EdgeRef{}
}

// book remembers facts that were emitted of h, on its edge. What is said of calls that must not be made twice is mended by
// carriedOut, who knows more.
func (s *shard) book(h *half, facts []graph.Fact, b *batch) {
	edge := h.lies()
	for i := range facts {
		f := &facts[i]
		if f.Edge != edge || f.Dimension == graph.Measured && f.Label == graph.Label(graph.UnsafeRetry) {
			continue
		}
		if s.booked.n >= s.maxBooked {
			b.dropped[dropBooked]++
			continue
		}
		if h.note == 0 {
			h.note = s.notes.put(note{})
		}
		n := s.notes.at(h.note)
		n.booked = s.booked.put(booked{*f, n.booked})
	}
}

// follow moves the facts of h to the edge on which it lies now, or takes them back when it lies on none.
func (s *shard) follow(h *half, b *batch) {
	if h.note == 0 {
		return
	}
	n, edge := s.notes.at(h.note), h.lies()
	for i := n.booked; i != 0; {
		k := s.booked.at(i)
		i = k.next
		if k.fact.Edge == edge {
			continue
		}
		back := k.fact
		back.Weight = -back.Weight
		b.facts = append(b.facts, back)
		if k.fact.Edge = edge; edge != (graph.EdgeRef{}) {
			b.facts = append(b.facts, k.fact)
		}
	}
	if edge == (graph.EdgeRef{}) {
		s.unbook(n)
	}
}

// unbook forgets what was emitted of a half.
func (s *shard) unbook(n *note) {
	for n.booked != 0 {
		i := n.booked
		n.booked = s.booked.at(i).next
		s.booked.drop(i)
	}
}
