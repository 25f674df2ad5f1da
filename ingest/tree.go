package ingest

import (
	"cmp"
	"slices"

	"faultline/graph"
)

// Bounds of a tree. A trace beyond one of them is not analysed at all: which part of it would be, would depend on the
// order in which its spans came.
const (
	maxTreeSpans = 5_000
	maxTreeDepth = 64
	maxTreeEdges = 256
)

// none is the index of nothing.
const none = -1

// tree is a root with the halves below it, looked at together while their shard is locked. What a queue hands on is no
// part of it: whoever takes a message is a root of its own. A tree is used again for the next one.
type tree struct {
	spans []treeSpan // parents before their children; the children of one span side by side, by their start
	edges []treeEdge // the edges that the trace uses

	path    []pathStep // the children that are still to be walked on the critical path
	failing []int32    // the failed children that are still to be looked into
	calls   []treeCall
	rest    []treeCall
	large   bool // a bound was reached
}

// treeSpan is a half in a tree.
type treeSpan struct {
	h          *half
	start, end int64 // by the root's clock, as far as that can be told
	parent     int32
	first, n   int32 // its children

	edge      int32 // the call that it makes or serves
	owner     int32 // the edge on which its own time and its own failures count
	callee    bool  // they count as the callee's own, not as what lies between caller and callee
	async     bool  // nobody waits for it, or its times mean nothing
	within    bool  // it lies below a call that its own service makes
	operation int32 // the span that serves what it is a part of

	depth, hops int8  // spans, and calls that were answered, between the root and it
	last        int32 // of the attempts at the same logical call: itself where there is one
	firstTry    int32 // set in the last attempt
	attempts    int32 // likewise

	layers       int8  // calls above it, and it, that failed and were tried again
	product      int64 // of their attempts
	retriedBelow bool
}

func (n *treeSpan) failed() bool { return n.h.failed() && n.h.flags&mute == 0 }

// treeEdge is what a trace says of one of its edges.
type treeEdge struct {
	ref                     graph.EdgeRef
	failed                  bool // a logical call did
	open                    bool // the walk is below it
	critical, between, self int64
	originsBetween, origins int64
	timedOut                bool // one of originsBetween is a timeout or a lost response
	nested                  int64
}

// fromQueue reports whether h takes a message: whoever sent it does not wait for it.
func (h *half) fromQueue() bool {
	return h.in.source != 0 && (h.kind == graph.SpanKindConsumer || h.role == processes || h.serving() && h.in.protocol == graph.Messaging)
}

// build gathers the halves below root. It returns false for a tree beyond the bounds.
func (t *tree) build(p *pairer, s *shard, root *half) bool {
	t.spans, t.edges, t.large = t.spans[:0], t.edges[:0], false
	t.spans = append(t.spans, treeSpan{h: root, start: root.start, end: root.end(), parent: none})
	t.describe(p, s, 0)
	t.attempts(0, 0)
	for i := 0; i < len(t.spans) && !t.large; i++ {
		t.branch(p, s, int32(i))
	}
	return !t.large
}

// branch appends the children of span i.
func (t *tree) branch(p *pairer, s *shard, i int32) {
	h, first := t.spans[i].h, int32(len(t.spans))
	add := func(c *half) {
		if len(t.spans) >= maxTreeSpans {
			t.large = true
			return
		}
		t.spans = append(t.spans, treeSpan{h: c, parent: i})
	}
	if twin := t.twin(s, h); twin != nil {
		if twin.serving() {
			add(twin)
		}
	} else {
		for slot := s.buckets[key(h.traceLo, h.id)&s.mask].child; slot != 0 && !t.large; {
			c := s.at(slot)
			slot = c.nextChild
			switch {
			case c.parent != h.id || c.traceLo != h.traceLo || c.traceHi != h.traceHi || c.fromQueue():
			case c.serving() && s.find(c, c.id) != nil: // below its twin
			default:
				add(c)
			}
		}
	}
	children := t.spans[first:]
	t.spans[i].first, t.spans[i].n = first, int32(len(children))
	if len(children) == 0 || t.large {
		return
	}
	if t.spans[i].depth >= maxTreeDepth {
		t.large = true
		return
	}
	align(&t.spans[i], children, p.offsets)
	if len(children) > 1 {
		slices.SortFunc(children, func(a, b treeSpan) int {
			return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end), cmp.Compare(a.h.id, b.h.id))
		})
	}
	for k := range children {
		t.describe(p, s, first+int32(k))
	}
	t.attempts(first, first+int32(len(children))-1)
	if h.outgoing() && h.out.calls > 1 {
		t.hiddenAttempts(i)
	}
}

// twin returns the half that has the id of the outgoing half h as well, nil for none: whatever is below that id is the
// other half's.
func (t *tree) twin(s *shard, h *half) *half {
	if !h.outgoing() {
		return nil
	}
	return s.find(h, h.id)
}

// describe says what a span is in its tree, by what is above it.
func (t *tree) describe(p *pairer, s *shard, i int32) {
	n := &t.spans[i]
	h := n.h
	n.edge, n.owner, n.operation, n.product = none, none, i, 1
	n.async = h.flags&mute != 0
	if n.parent != none {
		up := &t.spans[n.parent]
		n.owner, n.callee = up.owner, up.callee
		n.async = n.async || up.async || h.kind == graph.SpanKindProducer || h.kind == graph.SpanKindConsumer
		n.depth, n.hops = up.depth+1, up.hops
		if h.in.source != 0 && (up.h.outgoing() || up.h.node != h.node || up.h.proxied()) {
			n.hops++
		}
		if h.node == up.h.node && !h.serving() {
			n.operation = up.operation
			n.within = up.within || up.h.outgoing() && up.edge != none
		}
	}
	if h.flags&mute != 0 {
		return
	}
	if out := p.decided(s, h); out.target != 0 {
		n.edge = t.edge(graph.EdgeRef{Source: h.node, Target: out.target, Protocol: out.protocol})
		n.owner, n.callee = n.edge, false
	} else if h.in.source != 0 {
		n.edge = t.edge(graph.EdgeRef{Source: h.in.source, Target: h.node, Protocol: h.in.protocol})
		n.owner, n.callee = n.edge, true
	}
}

// decided returns whom h called: what it was counted as or, while it may still wait for its other half, what it will be
// counted as when none comes. Its root has waited, so none is expected.
func (p *pairer) decided(s *shard, h *half) outFact {
	if !h.outgoing() || h.out.target != 0 || h.flags&waited != 0 {
		return h.out
	}
	h.flags |= waited
	out := p.deriveOut(s, h)
	h.flags &^= waited
	if p.dir.hidden(out.target) {
		return outFact{}
	}
	return out
}

// edge returns the index of an edge, which is added if need be.
func (t *tree) edge(ref graph.EdgeRef) int32 {
	for i := range t.edges {
		if t.edges[i].ref == ref {
			return int32(i)
		}
	}
	if len(t.edges) >= maxTreeEdges {
		t.large = true
		return none
	}
	t.edges = append(t.edges, treeEdge{ref: ref})
	return int32(len(t.edges) - 1)
}

// align sets the times of a span's children by the clock of their parent. Clocks of other processes are moved by what is
// known of them, and then trusted as long as what they say can be; else their spans are shifted so that they lie within
// the parent: those of one call together, in its middle. Only the order of spans follows from it: no duration changes.
func align(up *treeSpan, children []treeSpan, offsets *offsets) {
	shift := up.start - up.h.start
	lo, hi := int64(0), int64(0)
	others := 0
	for i := range children {
		c := &children[i]
		c.start, c.end = c.h.start+shift, c.h.end()+shift
		if otherClock(up.h, c.h) {
			ahead := offsets.ahead(up.h.instance, c.h.instance)
			c.start, c.end = c.start-ahead, c.end-ahead
			if others == 0 {
				lo, hi = c.start, c.end
			}
			lo, hi = min(lo, c.start), max(hi, c.end)
			others++
		}
	}
	if others == 0 {
		return
	}
	together := up.h.outgoing() && (others == 1 || hi-lo <= up.end-up.start)
	for i := range children {
		c := &children[i]
		if !otherClock(up.h, c.h) {
			continue
		}
		by := up.offset(lo, hi)
		if !together {
			by = up.offset(c.start, c.end)
		}
		c.start, c.end = c.start+by, c.end+by
	}
}

func otherClock(a, b *half) bool {
	return (a.node != b.node || a.instance != b.instance) && b.flags&mute == 0
}

// offset returns by how much a time below n, by another clock, must be shifted to be plausible.
func (n *treeSpan) offset(lo, hi int64) int64 {
	begun := lo >= n.start && lo < n.end
	switch left := n.h.left(); {
	case lo >= n.start && hi <= n.end:
		return 0
	case begun && (left || hi-lo > n.end-n.start):
		return 0 // it went on after its caller had left
	case hi-lo > n.end-n.start:
		return n.start - lo
	case n.h.outgoing():
		return ((n.start - lo) + (n.end - hi)) / 2
	case lo < n.start:
		return n.start - lo
	}
	return n.end - hi
}

// attempts finds the attempts at one logical call among the siblings from first to last, by what pairing has marked as
// retries.
func (t *tree) attempts(first, last int32) {
	for i := last; i >= first; i-- {
		n := &t.spans[i]
		n.last, n.firstTry, n.attempts = i, i, 1
		if n.h.flags&resolved == 0 {
			continue
		}
		for k := i + 1; k <= min(last, i+maxSiblings); k++ {
			o := &t.spans[k]
			if o.h.flags&retry != 0 && o.h.node == n.h.node && o.h.peer == n.h.peer && n.h.end() <= latestStart(o.h) &&
				(o.h.operation == n.h.operation || o.h.resend > 0) {
				n.last = o.last
				final := &t.spans[n.last]
				final.firstTry = min(final.firstTry, i)
				final.attempts++
				break
			}
		}
	}
}

// hiddenAttempts finds the attempts that a library made below the client span i.
func (t *tree) hiddenAttempts(i int32) {
	final := int32(none)
	up := &t.spans[i]
	for k := up.first + up.n - 1; k >= up.first; k-- {
		c := &t.spans[k]
		if !t.answers(c) {
			continue
		}
		if final == none {
			final = k
			continue
		}
		c.last = final
		t.spans[final].firstTry = k
		t.spans[final].attempts++
	}
}

// answers reports whether c serves the call that its parent makes.
func (t *tree) answers(c *treeSpan) bool {
	up := &t.spans[c.parent]
	return up.edge != none && up.h.outgoing() && callee(up.h, c.h) && c.h.node == t.edges[up.edge].ref.Target
}
