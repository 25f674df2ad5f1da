package ingest

import (
	"faultline/graph"
	"faultline/ingest/otlpwire"
)

// Spans outside of messaging link to others as well: to those whose work they join, do in a batch, or go on with in a
// trace of their own. Who is linked to whom is a relation between services and no call: it is counted, without a latency.
// A span counts for one of its links, chosen by its id, so that each weighs as much as the others and all of them one.
// The other span is found as long as its half is kept; that of a span of the same service is no matter.

// linking is a half that has waited, on its way to be told whose span it links to.
type linking struct {
	to     reference
	node   graph.NodeRef
	end    int64 // nanoseconds since the epoch
	weight int32
}

// annotateLink notes the link that h counts for.
func annotateLink(h *half, sp *otlpwire.Span, b *batch) {
	i := mix(h.id) % uint64(sp.NumLinks)
	if i >= otlpwire.MaxLinks {
		return
	}
	r, ok := referenceOf(sp.Links[i])
	if !ok || r.span == h.parent && r.traceLo == h.traceLo && r.traceHi == h.traceHi {
		return
	}
	b.refs = append(b.refs, r)
	if h.note == 0 {
		b.notes = append(b.notes, note{})
		h.note = uint32(len(b.notes))
	}
	b.notes[h.note-1].refs = uint32(len(b.refs))
}

// links gathers the link that h counts for, to be looked at when the shard is not locked: the other span may lie in
// another.
func (s *shard) links(h *half, b *batch) {
	if r := s.notes.at(h.note).refs; r != 0 {
		b.linking = append(b.linking, linking{*s.refs.at(r), h.node, h.end(), h.weight})
	}
}

// link finds out whose spans are linked to. It takes the locks of shards one after the other, never two.
func (in *Intake) link(b *batch) {
	dir := in.pairer.dir
	for _, l := range b.linking {
		like := half{traceHi: l.to.traceHi, traceLo: l.to.traceLo}
		sh := in.shard(&like)
		sh.mu.Lock()
		var from graph.NodeRef
		if h := sh.find(&like, l.to.span); h != nil && h.role != leftOut {
			from = h.node
		}
		sh.mu.Unlock()
		if from != 0 && from != l.node && dir.mayName(from, l.node) && !dir.hidden(l.node) {
			b.calls = append(b.calls, graph.Call{
				Edge: graph.EdgeRef{Source: from, Target: l.node, Protocol: graph.Linked}, End: l.end, Weight: l.weight, Messages: 1,
			})
		}
	}
}
