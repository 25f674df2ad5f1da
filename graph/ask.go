package graph

import (
	"runtime"
	"sync"
	"time"

	"faultline/internal/sketch"
)

// LiveQuery says what is asked of a Live: windows that start in [From, To).
type LiveQuery struct {
	From, To time.Time
	// Edges, Details and Nodes say which rows are wanted.
	Edges, Details, Nodes bool
	// Dimensions, when not nil, says of which dimensions details are wanted in open windows; in closed ones there are all.
	Dimensions []Dimension
	// Only, when not nil, says of which edges; nodes are not restricted.
	Only func(EdgeKey) bool
	// Sum asks for each edge's sum over all open windows, which spares a copy of each; the edges may be spread over a few
	// windows.
	Sum bool
}

// Windows returns the edges, or with details set the details and nodes, of the parts that start in [from, to).
func (l *Live) Windows(from, to time.Time, details bool) (windows []Window, keys []PartKey) {
	closed, open, keys := l.Ask(LiveQuery{From: from, To: to, Edges: !details, Details: details, Nodes: details})
	return append(closed, open...), keys
}

// Ask returns the parts that are not yet, or not as they are now, in the store, and the names of all such parts of the
// lengths that are asked for, so that an answer from the store can leave its older copies out. Closed parts share their
// memory with those that are on their way to the store; that of open ones is the caller's.
func (l *Live) Ask(q LiveQuery) (closed, open []Window, keys []PartKey) {
	l.settle()
	l.cut.Lock()
	defer l.cut.Unlock()
	first, last := q.From.UnixNano(), q.To.UnixNano()
	in := func(start int64) bool { return start >= first && start < last }
	asked := func(length time.Duration) bool {
		return length == WindowLength && q.Edges || length == DetailLength && (q.Details || q.Nodes)
	}
	for i := range l.cut.closing.parts {
		if p := &l.cut.closing.parts[i]; asked(p.Length) && in(p.Start.UnixNano()) {
			closed = append(closed, p.Window)
			keys = append(keys, p.Key())
		}
	}
	parts := map[partID]*Window{}
	lists := listsOf(q.Dimensions)
	if q.Edges || q.Details {
		askers := l.askers(&q, &lists)
		var working sync.WaitGroup
		for i := range askers {
			a := &askers[i]
			working.Go(func() {
				for k := i; k < len(l.shards); k += len(askers) {
					a.ask(&l.shards[k])
				}
			})
		}
		working.Wait()
		for i := range askers {
			for id := range askers[i].parts {
				parts[id] = askers[i].parts[id] // of sums, of which alone there are several, only that they are there
			}
			if len(askers[i].total.Edges) > 0 {
				open = append(open, askers[i].total)
			}
		}
	}
	if q.Nodes {
		l.nodes.Lock()
		for k, n := range l.nodes.m {
			if start := k.minute * minuteNanos; in(start) {
				o := partOf(parts, start, DetailLength)
				o.Nodes = append(o.Nodes, l.nodeRow(k, n))
			}
		}
		l.nodes.Unlock()
	}
	for id, w := range parts {
		w.Part = l.part(id) // it may be written as soon as cut is free
		if len(w.Edges)+len(w.Details)+len(w.Nodes) > 0 {
			open = append(open, *w)
		}
	}
	for id, number := range l.cut.numbers {
		if asked(id.length) && in(id.start) {
			keys = append(keys, PartKey{time.Unix(0, id.start).UTC(), id.length, number})
		}
	}
	return closed, open, keys
}

// asker answers a LiveQuery from some of the shards, with memory of its own.
type asker struct {
	l           *Live
	q           *LiveQuery
	first, last int64
	lists       *detailLists
	rows        map[int64]int // of each minute about how many details there are
	arena       sketch.Arena
	parts       map[partID]*Window
	total       Window // what is open, with Sum
	sum         EdgeStats
}

// maxAskers bounds the goroutines that answer one question.
const maxAskers = 4

// askers returns who answers a question: several where nothing is made but a sum of each edge, which takes its time to
// read and needs no further step to be put together.
func (l *Live) askers(q *LiveQuery, lists *detailLists) []asker {
	n := 1
	if q.Sum && !q.Details && q.Only == nil {
		n = min(maxAskers, runtime.GOMAXPROCS(0))
	}
	askers := make([]asker, n)
	for i := range askers {
		a := &askers[i]
		*a = asker{l: l, q: q, first: q.From.UnixNano(), last: q.To.UnixNano(), lists: lists, parts: map[partID]*Window{}}
		a.total = Window{Start: q.From, Length: q.To.Sub(q.From)}
		if q.Sum && q.Edges && q.Only == nil {
			a.total.Edges = make([]EdgeRow, 0, l.edges.Load()*9/8/int64(n))
		}
	}
	if q.Details && q.Only == nil {
		askers[0].rows = l.detailRows(lists)
	}
	return askers
}

func (a *asker) in(start int64) bool { return start >= a.first && start < a.last }

// ask adds what one shard knows.
func (a *asker) ask(sh *liveShard) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	q := a.q
	for _, e := range sh.edges {
		key := a.l.edgeKey(e.ref)
		if q.Only != nil && !q.Only(key) {
			continue
		}
		added := false
		if q.Sum && q.Edges {
			sh.touched += e.touchWindows()
		}
		for _, w := range e.windows {
			start := w.start * windowNanos
			if !q.Edges || !a.in(start) {
				continue
			}
			o := partOf(a.parts, start, WindowLength)
			if !q.Sum {
				o.Edges = append(o.Edges, EdgeRow{key, w.stats.take(true, &a.arena)})
				continue
			}
			if !added {
				a.sum.reset()
				added = true
			}
			a.sum.Add(&w.stats)
		}
		if added {
			a.total.Edges = append(a.total.Edges, EdgeRow{key, a.sum.take(true, &a.arena)})
		}
		if !q.Details {
			continue
		}
		for _, m := range e.minutes {
			if start := m.start * minuteNanos; a.in(start) {
				o := partOf(a.parts, start, DetailLength)
				if o.Details == nil {
					o.Details = make([]DetailRow, 0, a.rows[m.start])
				}
				o.Details = a.l.appendDetails(o.Details, key, m, a.lists, true, &a.arena)
			}
		}
	}
}

// partOf returns the window of an open part.
func partOf(parts map[partID]*Window, start int64, length time.Duration) *Window {
	id := partID{start, length}
	w := parts[id]
	if w == nil {
		w = &Window{Start: time.Unix(0, start).UTC(), Length: length}
		parts[id] = w
	}
	return w
}

// detailRows returns about how many details of some lists each open minute holds, so that a copy of them gets its memory at once.
func (l *Live) detailRows(lists *detailLists) map[int64]int {
	rows := map[int64]int{}
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		for _, e := range sh.edges {
			for _, m := range e.minutes {
				rows[m.start] += m.rows(lists)
			}
		}
		sh.mu.Unlock()
	}
	return rows
}
