package ingest

import (
	"math"

	"faultline/graph"
)

// origins counts where the failure of span i began: at the deepest spans that failed with no failed child. Attempts at a
// call matter if the last one failed; of calls that failed one after the other the last one does, because the ones
// before did not keep the operation from going on; calls at the same time share it. It returns how many origins there are.
func (t *tree) origins(i int32) (n int64) {
	base := len(t.failing)
	t.failedChildren(i)
	top := len(t.failing)
	if top == base {
		t.originAt(i)
		return 1
	}
	decisive := t.failing[base]
	for _, k := range t.failing[base:top] {
		if t.spans[t.spans[k].last].end > t.spans[t.spans[decisive].last].end {
			decisive = k
		}
	}
	final := t.spans[decisive].last
	first := &t.spans[t.spans[final].firstTry]
	begun := first.start + latestStart(first.h) - first.h.start
	for k := base; k < top; k++ {
		c := t.failing[k]
		if last := t.spans[c].last; last == final || t.spans[last].end > begun {
			n += t.origins(c)
		}
	}
	t.failing = t.failing[:base]
	return n
}

// failedChildren appends the failed children of span i that may have made it fail. It looks through internal spans that
// do not say that they failed: many programs mark only the spans at their boundary.
func (t *tree) failedChildren(i int32) {
	n := &t.spans[i]
	for k := n.first; k < n.first+n.n; k++ {
		c := &t.spans[k]
		switch {
		case c.failed():
			if t.spans[c.last].failed() {
				t.failing = append(t.failing, k)
			}
		case c.edge == none && (c.h.kind == graph.SpanKindInternal || c.h.kind == graph.SpanKindUnspecified):
			t.failedChildren(k)
		}
	}
}

// passesOn reports whether span i is a call that failed because its callee did, ok, and whether that failed because a
// call that it made did.
func (t *tree) passesOn(i int32) (passes, ok bool) {
	n := &t.spans[i]
	if !t.failedCall(i) || n.h.verdict.failure() != graph.ServerError {
		return false, false
	}
	if n.h.outgoing() {
		k := n.first
		for ; k < n.first+n.n; k++ {
			if c := &t.spans[k]; c.failed() && t.answers(c) {
				break
			}
		}
		if k == n.first+n.n {
			return false, false
		}
		i = k
	}
	base := len(t.failing)
	t.failedChildren(i)
	passes = len(t.failing) > base
	t.failing = t.failing[:base]
	return passes, true
}

// originAt counts span i as where a failure began.
func (t *tree) originAt(i int32) {
	n := &t.spans[i]
	if n.owner == none {
		return
	}
	e := &t.edges[n.owner]
	if n.callee {
		e.origins++
		return
	}
	e.originsBetween++
	if n.h.verdict.failure() == graph.Timeout {
		e.timedOut = true
	}
	for k := n.first; k < n.first+n.n; k++ {
		if t.answers(&t.spans[k]) {
			e.timedOut = true // it was answered, and well
		}
	}
}

// lost reports whether span i is a logical call that failed: the last attempt at it, as its caller saw it.
func (t *tree) lost(i int32) bool { return t.failedCall(i) && t.spans[i].last == i }

// failedCall reports whether span i is a call, an attempt at one, that failed.
func (t *tree) failedCall(i int32) bool {
	n := &t.spans[i]
	return n.edge != none && n.failed() && (n.h.outgoing() || n.h.in.call)
}

// caller returns the span that serves what span i is called for, none for a root.
func (t *tree) caller(i int32) int32 {
	n := &t.spans[i]
	if n.parent == none {
		return none
	}
	if n.h.outgoing() {
		return n.operation
	}
	return t.spans[n.parent].operation
}

// nestedRetries finds failed calls that were tried again, below failed calls that were tried again.
func (t *tree) nestedRetries() {
	nested := false
	for i := 1; i < len(t.spans); i++ {
		n := &t.spans[i]
		up := &t.spans[n.parent]
		switch final := &t.spans[n.last]; {
		case n.failed():
			n.layers, n.product = up.layers, up.product
			if final.attempts > 1 {
				n.layers++
				n.product = min(n.product*int64(final.attempts), math.MaxInt32)
				nested = nested || n.layers > 1
			}
		case n.edge == none && !n.h.outgoing():
			n.layers, n.product = up.layers, up.product
		}
	}
	if !nested {
		return
	}
	for i := len(t.spans) - 1; i > 0; i-- {
		n := &t.spans[i]
		retried := n.failed() && n.layers > 1 && t.spans[n.last].attempts > 1
		if retried && !n.retriedBelow && n.edge != none {
			e := &t.edges[n.edge]
			e.nested = max(e.nested, n.product)
		}
		if retried || n.retriedBelow {
			t.spans[n.parent].retriedBelow = true
		}
	}
}
