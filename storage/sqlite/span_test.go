package sqlite

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"faultline/graph"
	"faultline/storage"
)

// TestKeptSums asks two stores over one file the same, of which one keeps sums and the other adds up blocks: through writes,
// late ones and ones that replace, folding, packing and dropping, and with parts that the caller holds himself.
func TestKeptSums(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 9))
			dir := t.TempDir()
			retention := storage.Retention{Fine: 20 * time.Minute, Minute: 50 * time.Minute, Hour: 30 * 24 * time.Hour, Traces: time.Hour}
			s, err := Open(t.Context(), dir, retention)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			plainly, err := OpenReader(t.Context(), dir, retention)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = plainly.Close() }()
			delete(plainly.asked, selectWrites)
			l := &load{r: r, edges: loadEdges(20), store: s, open: map[graph.PartKey]bool{}}
			kept := 0
			for now := begin; now.Before(begin.Add(100 * time.Minute)); now = now.Add(10 * time.Second) {
				l.tick(t, now)
				if r.IntN(3) > 0 {
					continue
				}
				q := l.question(now)
				got, want := answer(t, s, q), answer(t, plainly, q)
				if again := answer(t, s, q); !slices.Equal(got, want) || !slices.Equal(again, want) {
					t.Fatalf("at %s, %+v:\nkept    %q\nagain   %q\nplainly %q", now.Sub(begin), q, got, again, want)
				}
				kept = max(kept, len(s.cache.sums))
			}
			if kept < 50 || len(plainly.cache.sums) > 0 {
				t.Errorf("%d sums were kept, and %d where none should be", kept, len(plainly.cache.sums))
			}
		})
	}
}

// What nobody has used for long is let go of, although there is room; what is used stays.
func TestIdleSumsAreDropped(t *testing.T) {
	c := newSumCache()
	sum := &packedSum{ids: []int64{1}}
	used, unused := counted{stretch: stretch{edges, 0, 10}}, counted{stretch: stretch{edges, 10, 20}}
	c.put(used, sum)
	c.put(unused, sum)
	c.sweep(begin.Add(time.Hour)) // then the clock is set back
	for idle := time.Duration(0); idle <= cacheIdle; idle += 5 * time.Second {
		c.sweep(begin.Add(idle))
		if c.get(used) == nil || !c.has(unused.stretch) {
			t.Fatalf("after %v: what is used is there: %t, what is not: %t", idle, c.has(used.stretch), c.has(unused.stretch))
		}
	}
	c.sweep(begin.Add(cacheIdle + 5*time.Second))
	if c.get(used) == nil || c.has(unused.stretch) || c.bytes != sum.size() {
		t.Errorf("what is used is there: %t, what is not: %t, in %d bytes", c.has(used.stretch), c.has(unused.stretch), c.bytes)
	}
}

// load writes what a collector might.
type load struct {
	r     *rand.Rand
	edges []loadEdge
	store *Store
	part  uint64
	open  map[graph.PartKey]bool
}

// tick writes the windows that end now, some of them open, closes or replaces open ones, and sometimes adds late ones.
func (l *load) tick(t *testing.T, now time.Time) {
	t.Helper()
	var batch storage.Batch
	add := func(k graph.PartKey, open bool) {
		p := graph.Part{Open: open, Window: graph.Window{Start: k.Start, Length: k.Length, Part: k.Part}}
		for i := range l.edges {
			switch {
			case l.r.IntN(3) == 0:
			case k.Length == graph.WindowLength:
				p.Edges = append(p.Edges, l.edges[i].row(l.r, .3))
			default:
				p.Nodes = append(p.Nodes, graph.NodeRow{Node: l.edges[i].key.Source, Instance: "a", Spans: l.r.Int64N(9) + 1})
			}
		}
		batch.Windows = append(batch.Windows, p)
		if l.open[k] = open; !open {
			delete(l.open, k)
		}
	}
	for k := range l.open {
		if age := now.Sub(k.Start); age > 2*time.Minute || l.r.IntN(4) == 0 {
			add(k, age <= 2*time.Minute)
		}
	}
	l.part++
	add(graph.PartKey{Start: now, Length: graph.WindowLength, Part: l.part}, l.r.IntN(2) == 0)
	if now.Truncate(time.Minute).Equal(now) {
		add(graph.PartKey{Start: now, Length: graph.DetailLength, Part: l.part}, l.r.IntN(2) == 0)
	}
	if l.r.IntN(10) == 0 {
		late := now.Add(-time.Duration(l.r.Int64N(int64(now.Sub(begin) + time.Minute)))).Truncate(graph.WindowLength)
		add(graph.PartKey{Start: late, Length: graph.WindowLength, Part: l.part + 1e6}, false)
	}
	if err := l.store.Write(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if err := l.store.Maintain(t.Context(), now); err != nil {
		t.Fatal(err)
	}
}

// question returns one that live maps, history and the judge might ask.
func (l *load) question(now time.Time) storage.Query {
	lengths := []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 15 * time.Minute, 40 * time.Minute, 80 * time.Minute}
	to := now.Add(graph.WindowLength)
	if l.r.IntN(3) == 0 {
		to = begin.Add(time.Duration(l.r.Int64N(int64(to.Sub(begin)))))
	}
	q := storage.Query{From: to.Add(-lengths[l.r.IntN(len(lengths))]), To: to, Want: []storage.Want{
		storage.WantEdges, storage.WantNodes, storage.WantEdges | storage.WantNodes,
	}[l.r.IntN(3)]}
	if l.r.IntN(2) == 0 {
		for k := range l.open {
			q.Except = append(q.Except, k)
		}
	}
	return q
}

// answer returns what a store answers, as text in order.
func answer(t *testing.T, s *Store, q storage.Query) (out []string) {
	t.Helper()
	windows, err := s.Windows(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for i := range windows {
		w := &windows[i]
		for j := range w.Edges {
			out = append(out, fmt.Sprint(w.Start, w.Length, w.Edges[j].Edge.ID(), text(&w.Edges[j].Stats)))
		}
		for j := range w.Nodes {
			out = append(out, fmt.Sprintf("%v %v %+v", w.Start, w.Length, w.Nodes[j]))
		}
	}
	slices.SortFunc(out, cmp.Compare[string])
	return out
}

// TestReadAcrossProcesses sees that a store that is opened for reading notices what another one writes.
func TestReadAcrossProcesses(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	reader, err := OpenReader(t.Context(), dir, storage.DefaultRetention())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	es, r := loadEdges(3), rand.New(rand.NewPCG(1, 1))
	q := storage.Query{From: begin, To: begin.Add(time.Minute), Want: storage.WantEdges}
	for n := range uint64(3) {
		p := graph.Part{Window: graph.Window{Start: begin, Length: graph.WindowLength, Part: n + 1, Edges: []graph.EdgeRow{es[n].row(r, 1)}}}
		if err := s.Write(t.Context(), storage.Batch{Windows: []graph.Part{p}}); err != nil {
			t.Fatal(err)
		}
		if got := answer(t, reader, q); len(got) != int(n)+1 {
			t.Errorf("after %d writes: %q", n+1, got)
		}
	}
}
