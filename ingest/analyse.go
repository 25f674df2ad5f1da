package ingest

import (
	"math"
	"sync/atomic"
	"time"

	"faultline/graph"
)

// Some things can only be told from whole traces: what a trace waited for, where its failure began, what its failures
// did to those who asked. When a root has waited, the halves below it are looked at together, and what they say is
// counted on the edges that pairing has put them on. That is done for as many traces as there is a budget for, chosen by
// trace id. Each root is looked at once: what comes later than the wait changes nothing.

// What becomes of a root.
type traceFate uint8

const (
	traceAnalysed traceFate = iota
	traceLong               // analysed, perhaps without its beginning
	traceSkipped
	traceTooLarge
	numTraceFates
)

var traceFates = [numTraceFates]string{"analysed", "long", "skipped", "too_large"}

// analysis is what analysing needs to keep. It belongs to whoever ticks; only the counters may be read by others.
type analysis struct {
	budget int // spans a second

	share    uint64 // of traces that are analysed, of 2^64
	long     int64  // a trace of this length, in nanoseconds, may have lost its beginning
	adapted  int64  // nanoseconds
	accepted int64  // spans by then
	tree     tree
	counts   [numTraceFates]atomic.Int64
}

func newAnalysis(budget int, wait time.Duration) *analysis {
	// A half is let go keepWaits after it came, a root is looked at one wait after; SDKs hold spans back for 5 s.
	a := &analysis{budget: budget, long: int64(max((keepWaits-1)*wait-5*time.Second, wait))}
	if budget > 0 {
		a.share = math.MaxUint64
	}
	return a
}

// adapt sets the share by how many spans were accepted since the last time: down at once and up slowly, because the
// traces that it decides about are those that came a wait ago.
func (a *analysis) adapt(now, accepted int64) {
	elapsed, n := now-a.adapted, accepted-a.accepted
	was := a.adapted
	a.adapted, a.accepted = now, accepted
	if was == 0 || a.budget <= 0 {
		return
	}
	share := 1.0
	if rate := float64(n) * float64(time.Second) / float64(elapsed); rate > float64(a.budget) {
		share = float64(a.budget) / rate
	}
	if share = min(share, 1.1*float64(a.share)/(1<<64)+1e-3); share < 1 {
		a.share = uint64(share * (1 << 64))
	} else {
		a.share = math.MaxUint64
	}
}

// begins reports whether h is a root: nobody is known to wait for it but a user, an unknown caller or a queue.
func (p *pairer) begins(s *shard, h *half) bool {
	switch {
	case h.flags&mute != 0 || h.role == receives || h.role.settling() || s.queueUnknown(h):
		return false
	case h.fromQueue():
		return true
	case h.parent == 0:
		return !h.serving() || s.find(h, h.id) == nil
	}
	return h.serving() && h.in.call && h.in.source == p.dir.byRef(h.node).unknown
}

// analyse looks at the tree below h, if it is a root and its trace is chosen, and adds what it says to the batch.
func (p *pairer) analyse(s *shard, h *half, now int64, a *analysis, b *batch) {
	if !p.begins(s, h) {
		return
	}
	if mix(h.traceLo) > a.share {
		a.counts[traceSkipped].Add(1)
		return
	}
	t := &a.tree
	if !t.build(p, s, h) {
		a.counts[traceTooLarge].Add(1)
		return
	}
	if h.duration > a.long {
		a.counts[traceLong].Add(1)
	} else {
		a.counts[traceAnalysed].Add(1)
	}
	r := report{t: t, b: b, root: h}
	entry := p.dir.entry(h.node, h.operation, uint32(now/int64(time.Minute)))
	r.calls()
	r.time(entry)
	r.failures()
	t.shape(func(edge int32, m graph.Measure, value int64) { r.add(edge, m, value, false) })
	r.traces(entry)
}

// report turns what a tree says into facts. All of them lie in the minute in which the root ended, with the root's weight.
type report struct {
	t    *tree
	b    *batch
	root *half
}

func (r report) add(edge int32, m graph.Measure, value int64, failed bool) {
	if edge != none {
		r.put(edge, graph.Measured, graph.Label(m), value, failed)
	}
}

func (r report) put(edge int32, d graph.Dimension, label graph.Label, value int64, failed bool) {
	r.b.facts = append(r.b.facts, graph.Fact{
		Edge: r.t.edges[edge].ref, End: r.root.end(), Dimension: d, Label: label, Value: value, Weight: r.root.weight, Failed: failed,
	})
}

// calls adds what each call says, by what became of its caller.
func (r report) calls() {
	t := r.t
	for i := range t.spans {
		n := &t.spans[i]
		if n.h.outgoing() {
			if gap, ok := t.gap(int32(i)); ok {
				r.add(n.edge, graph.Gap, gap, n.failed())
			}
		}
		if passes, ok := t.passesOn(int32(i)); ok {
			r.add(n.edge, graph.PassedOn, n.h.duration, passes)
		}
		if !t.lost(int32(i)) {
			continue
		}
		t.edges[n.edge].failed = true
		if caller := t.caller(int32(i)); caller != none {
			r.add(n.edge, graph.Absorbed, n.h.duration, t.spans[caller].failed())
		}
	}
}

// time adds what the trace waited for, and how deep it is, also by what was asked for.
func (r report) time(entry graph.Label) {
	t := r.t
	root := &t.spans[0]
	t.walk(0, root.start, root.end)
	for i := range t.edges {
		e := &t.edges[i]
		for _, part := range [...]struct {
			measure graph.Measure
			value   int64
		}{{graph.Critical, e.critical}, {graph.CriticalEdge, e.between}, {graph.CriticalSelf, e.self}} {
			if part.value > 0 {
				r.add(int32(i), part.measure, part.value, false)
			}
		}
	}
	if root.callee && root.edge != none {
		hops := int8(0)
		for i := range t.spans {
			if !t.spans[i].async {
				hops = max(hops, t.spans[i].hops)
			}
		}
		r.add(root.edge, graph.Depth, int64(hops), false)
		r.put(root.edge, graph.EntryDepth, entry, int64(hops), false)
	}
}

// failures adds where the trace's failure began, and retries of retries.
func (r report) failures() {
	t := r.t
	t.nestedRetries()
	all := int64(0)
	if t.spans[0].failed() {
		t.failing = t.failing[:0]
		all = t.origins(0)
	}
	share := func(n int64) int64 { return (1000*n + all/2) / all }
	for i := range t.edges {
		e := &t.edges[i]
		if e.originsBetween > 0 {
			r.add(int32(i), graph.OriginEdge, share(e.originsBetween), e.timedOut)
		}
		if e.origins > 0 {
			r.add(int32(i), graph.OriginSelf, share(e.origins), false)
		}
		if e.nested > 0 {
			r.add(int32(i), graph.NestedRetries, e.nested, true)
		}
	}
}

// traces adds the trace to all edges that it uses, and to those under what was asked for.
func (r report) traces(entry graph.Label) {
	failed := r.t.spans[0].failed()
	for i := range r.t.edges {
		r.add(int32(i), graph.Traces, r.root.duration, failed)
		r.put(int32(i), graph.Entry, entry, r.root.duration, r.t.edges[i].failed)
		if r.t.edges[i].failed {
			r.put(int32(i), graph.EntryFailed, entry, r.root.duration, failed)
		}
	}
}
