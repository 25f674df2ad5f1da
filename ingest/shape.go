package ingest

import (
	"cmp"
	"slices"

	"faultline/graph"
)

// minRepeated is how many calls of one kind, one after the other, are too many.
const minRepeated = 10

// treeCall is a call that an operation makes.
type treeCall struct {
	start, end int64
	latest     int64 // when it began at the latest
	operation  int32
	edge       int32
	label      graph.Label
	span       int32
	overlaps   bool // it ran beside another of the calls that are looked at together
}

// sameKind reports whether two calls of one operation ask the same callee for the same.
func (c *treeCall) sameKind(o *treeCall) bool { return c.edge == o.edge && c.label == o.label }

// shape finds how operations make their calls: many of one kind one after the other, together, or in turn. An operation
// is the span that serves it with the internal spans below: where in its code a call is made does not matter. Retries
// are no calls of their own.
func (t *tree) shape(emit func(edge int32, m graph.Measure, value int64)) {
	t.calls = t.calls[:0]
	for i := 1; i < len(t.spans); i++ {
		n := &t.spans[i]
		made := n.h.outgoing() && !n.within || n.h.in.call && !t.spans[n.parent].h.outgoing()
		if n.edge == none || n.async || !made || n.h.flags&retry != 0 {
			continue
		}
		t.calls = append(t.calls, treeCall{
			start: n.start, end: n.end, latest: n.start + latestStart(n.h) - n.h.start,
			operation: t.caller(int32(i)), edge: n.edge, label: n.h.operation, span: int32(i),
		})
	}
	slices.SortFunc(t.calls, func(a, b treeCall) int {
		return cmp.Or(cmp.Compare(a.operation, b.operation), cmp.Compare(a.edge, b.edge), cmp.Compare(a.label, b.label), cmp.Compare(a.span, b.span))
	})
	for from := 0; from < len(t.calls); {
		to := from + 1
		for to < len(t.calls) && t.calls[to].operation == t.calls[from].operation {
			to++
		}
		if to-from > 1 {
			t.shapeOf(t.calls[from:to], emit)
		}
		from = to
	}
}

// shapeOf looks at the calls of one operation, by kind.
func (t *tree) shapeOf(calls []treeCall, emit func(edge int32, m graph.Measure, value int64)) {
	t.rest = t.rest[:0]
	kinds := 0
	for from := 0; from < len(calls); {
		to := from + 1
		for to < len(calls) && calls[to].sameKind(&calls[from]) {
			to++
		}
		if saving, ok := t.repeated(calls[from:to]); ok {
			emit(calls[from].edge, graph.Repeated, saving)
		} else {
			t.rest = append(t.rest, calls[from:to]...)
			kinds++
		}
		from = to
	}
	slices.SortFunc(t.rest, func(a, b treeCall) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end), cmp.Compare(a.span, b.span))
	})
	together(t.rest)
	for i := range t.rest {
		switch c := &t.rest[i]; {
		case c.overlaps:
			emit(c.edge, graph.Parallel, c.end-c.start)
		case kinds > 1: // those of one kind may have to wait for each other
			emit(c.edge, graph.Sequential, c.end-c.start)
		}
	}
}

// repeated reports whether enough of the calls of one kind went well and one after the other, and what calling once, or
// at once, would have saved.
func (t *tree) repeated(calls []treeCall) (saving int64, ok bool) {
	if len(calls) < minRepeated {
		return 0, false
	}
	slices.SortFunc(calls, func(a, b treeCall) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end), cmp.Compare(a.span, b.span))
	})
	open := 0 // the call that ends last so far
	for i := 1; i < len(calls); i++ {
		if calls[open].end > calls[i].latest {
			calls[open].overlaps, calls[i].overlaps = true, true
		}
		if calls[i].end > calls[open].end {
			open = i
		}
	}
	n, sum, longest := 0, int64(0), int64(0)
	for i := range calls {
		outcome := t.spans[calls[i].span].h.verdict.outcome
		if calls[i].overlaps || outcome == graph.Error || outcome == graph.Cancelled {
			continue
		}
		n++
		sum += calls[i].end - calls[i].start
		longest = max(longest, calls[i].end-calls[i].start)
	}
	if n >= minRepeated {
		return sum - longest, true
	}
	for i := range calls {
		calls[i].overlaps = false
	}
	return 0, false
}

// together marks the calls, which are ordered by start, that ran beside another for more than half of the shorter.
func together(calls []treeCall) {
	for i := range calls {
		a := &calls[i]
		for j := i + 1; j < min(len(calls), i+1+maxSiblings) && calls[j].start < a.end; j++ {
			b := &calls[j]
			if overlap := min(a.end, b.end) - b.start; 2*overlap > min(a.end-a.start, b.end-b.start) {
				a.overlaps, b.overlaps = true, true
			}
		}
	}
}
