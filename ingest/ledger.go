package ingest

import (
	"slices"

	"faultline/graph"
)

// Facts lie on the edge of the half that they speak of. Where that half may yet be moved, because its other half can still
// come and say otherwise, what was emitted is remembered with it, so that it goes where the half goes: it is taken back
// from the edge where it was, in the minute where it was, and counted anew. What is said of attempts beside or below it is
// remembered always: another one may come late between them.

// booked is a fact that was emitted of a half.
type booked struct {
	fact graph.Fact
	next uint32 // in its slab
	of   subject
}

// subject is what a fact speaks of, beside the half itself.
type subject uint8

const (
	ofItself   subject = iota
	ofBeside           // attempts beside it
	ofBelow            // attempts below it
	ofAgain            // that it was made again, and must not be
	ofPushback         // whether it waited as long as the attempt before it was asked to
)

// maxBooked is how many facts are remembered, of an Intake.
const maxBooked = 128 << 10

// movable reports whether it may still be found out that h, which has waited, lies on another edge. Where it is known who
// usually answers, it lies there already.
func (p *pairer) movable(h *half) bool {
	if !h.outgoing() {
		return h.in.missing || h.proxied()
	}
	pe := p.dir.peers.at(h.peer)
	return !h.out.is(outAnswered) && !h.out.is(outSilent) && !h.guarded() && (pe == nil || !pe.kind.telling())
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

// book remembers facts that were emitted of h, on its edge.
func (s *shard) book(h *half, facts []graph.Fact, of subject, b *batch) {
	edge := h.lies()
	for i := range facts {
		if facts[i].Edge == edge {
			s.bookOne(h, booked{fact: facts[i], of: of}, b)
		}
	}
}

func (s *shard) bookOne(h *half, k booked, b *batch) {
	n := s.noteOf(h)
	if s.booked.n >= s.maxBooked {
		b.dropped[dropBooked]++
		n.settled = true
		return
	}
	k.next = n.booked
	n.booked = s.booked.put(k)
}

// noteOf returns what is noted of h, a new note where nothing is.
func (s *shard) noteOf(h *half) *note {
	if h.note == 0 {
		h.note = s.notes.put(note{})
	}
	return s.notes.at(h.note)
}

// settled reports whether what was said of h beside other attempts cannot be mended.
func (s *shard) settled(h *half) bool { return h.note != 0 && s.notes.at(h.note).settled }

// carriedOut corrects what was emitted of h, which was made again and must not be, now that its callee's half c has come.
func (s *shard) carriedOut(h, c *half, b *batch) {
	if h.note == 0 || !c.serving() || !callee(h, c) || c.verdict.outcome != graph.OK {
		return
	}
	h.flags &^= doubted
	for i := s.notes.at(h.note).booked; i != 0; i = s.booked.at(i).next {
		k := s.booked.at(i)
		if k.of != ofAgain || k.fact.Failed {
			continue
		}
		back := k.fact
		back.Weight = -back.Weight
		k.fact.Failed = true
		b.facts = append(b.facts, back, k.fact)
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

// takeBack takes back what was emitted of h about some of what facts speak of.
func (s *shard) takeBack(h *half, b *batch, about ...subject) {
	if h.note == 0 {
		return
	}
	for at := &s.notes.at(h.note).booked; *at != 0; {
		i := *at
		k := s.booked.at(i)
		if !slices.Contains(about, k.of) {
			at = &k.next
			continue
		}
		k.fact.Weight = -k.fact.Weight
		b.facts = append(b.facts, k.fact)
		*at = k.next
		s.booked.drop(i)
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
