package ingest

import (
	"cmp"
	"slices"
)

// slack is by how much a span may seem to begin before the one that it waited for ended: clocks of whole milliseconds,
// and a hundredth of what lies around them.
const slack = int64(1e6)

// pathStep is a child that may lie on the critical path.
type pathStep struct {
	start, end int64
	id         uint64
	span       int32
}

// walk gives every nanosecond of [lo, hi], a part of span i, to what the trace waited for in it. It goes back from the
// end: the child that ended last before the moment reached is what was waited for, and is walked in turn; then its
// beginning is the moment reached. What no child covers is the span's own. Children that run past hi end there. All that
// is given away adds up to hi − lo, whatever the clocks say. Source: CRISP, USENIX ATC 2022.
func (t *tree) walk(i int32, lo, hi int64) {
	n := &t.spans[i]
	outermost := n.edge != none && !t.edges[n.edge].open
	if outermost {
		t.edges[n.edge].open = true
		t.edges[n.edge].critical += hi - lo
	}
	base := len(t.path)
	for k := n.first; k < n.first+n.n; k++ {
		if c := &t.spans[k]; !c.async && c.start < hi && c.end > lo {
			t.path = append(t.path, pathStep{max(c.start, lo), min(c.end, hi), c.h.id, k})
		}
	}
	top := len(t.path)
	if top-base > 1 {
		slices.SortFunc(t.path[base:top], func(a, b pathStep) int {
			return cmp.Or(cmp.Compare(b.end, a.end), cmp.Compare(a.start, b.start), cmp.Compare(a.id, b.id))
		})
	}
	tolerance := max(slack, (hi-lo)/100)
	own, cursor := int64(0), hi
	for k := base; k < top; k++ {
		c := t.path[k]
		if c.end > cursor+tolerance || c.start >= cursor {
			continue // it ran beside what is on the path
		}
		end := min(c.end, cursor)
		own += cursor - end
		t.walk(c.span, c.start, end)
		cursor = c.start
	}
	own += cursor - lo
	t.path = t.path[:base]
	if n.owner != none {
		if e := &t.edges[n.owner]; n.callee {
			e.self += own
		} else {
			e.between += own
		}
	}
	if outermost {
		t.edges[n.edge].open = false
	}
}

// gap returns the time of the call that span i makes which its callee does not account for. ok is false when the callee
// sent no spans. Each duration is by one clock, so clocks that differ do not matter.
func (t *tree) gap(i int32) (gap int64, ok bool) {
	n := &t.spans[i]
	gap = n.h.duration
	for k := n.first; k < n.first+n.n; k++ {
		if c := &t.spans[k]; c.h.flags&mute == 0 && t.answers(c) {
			gap -= c.h.duration
			ok = true
		}
	}
	return max(gap, 0), ok && n.h.flags&mute == 0
}
