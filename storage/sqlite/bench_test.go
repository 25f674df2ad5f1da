package sqlite

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"faultline/graph"
	"faultline/internal/sketch"
	"faultline/storage"
)

// The benchmarks' load: services call each other at rates that differ by a factor of a hundred, ten calls in ten seconds
// in the mean, both sides seen, latencies lognormal around a median of the edge's own. A third of the edges are calls to
// databases, which only the client sees.

var begin = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

type loadEdge struct {
	key    graph.EdgeKey
	rate   float64 // calls in ten seconds
	median float64 // ns
	server bool
}

func loadEdges(n int) []loadEdge {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	out := make([]loadEdge, n)
	for i := range out {
		target := graph.Node{Env: "prod", Kind: graph.Service, Namespace: "shop", Name: fmt.Sprint("service-", r.IntN(n/4+1))}
		out[i].server = i%3 != 0
		if !out[i].server {
			target = graph.Node{Env: "prod", Kind: graph.Database, Name: fmt.Sprint("postgresql/db", i)}
		}
		out[i].key = graph.EdgeKey{Source: graph.Node{Env: "prod", Kind: graph.Service, Namespace: "shop", Name: fmt.Sprint("service-", i)}, Target: target, Protocol: graph.HTTP}
		out[i].rate = 10 * math.Exp(r.NormFloat64()-.5)
		out[i].median = 1e6 * math.Exp(r.NormFloat64()+1)
	}
	return out
}

// row returns what an edge counts over so many ten-second windows.
func (e *loadEdge) row(r *rand.Rand, windows float64) graph.EdgeRow {
	n := int64(e.rate*windows*(.5+r.Float64())) + 1
	s := graph.EdgeStats{Calls: n, LogicalCalls: n, Raw: n}
	for range n {
		v := int64(e.median * math.Exp(r.NormFloat64()*.4))
		s.Client.Add(v, 1)
		if e.server {
			s.Server.Add(v*9/10, 1)
		}
		if r.IntN(100) == 0 {
			s.Errors++
			s.RawErrors++
			s.LogicalErrors++
			s.Failures[graph.ServerError]++
		}
	}
	s.Busy = s.Client.Sum()
	if e.server {
		s.ServerCalls, s.ServerErrors = n, s.Errors
	}
	return graph.EdgeRow{Edge: e.key, Stats: s}
}

// samples returns parts to choose from: making each of a day's would take longer than all the rest.
func samples(es []loadEdge, n int, windows float64) [][]graph.EdgeRow {
	r := rand.New(rand.NewPCG(2, 2))
	out := make([][]graph.EdgeRow, n)
	for i := range out {
		for j := range es {
			out[i] = append(out[i], es[j].row(r, windows))
		}
	}
	return out
}

// cpu reports the processor time of an operation beside its time on the clock, which other programs prolong. The
// function that it returns is called before and after what is not to count.
func cpu(b *testing.B) (pause func()) {
	now := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	used, since, running := int64(0), now(), true
	b.Cleanup(func() {
		if running {
			used += now() - since
		}
		b.ReportMetric(float64(used)/1e6/float64(b.N), "cpu-ms/op")
	})
	return func() {
		if running {
			used += now() - since
		}
		since, running = now(), !running
	}
}

func mustOpen(tb testing.TB, dir string) *Store {
	tb.Helper()
	s, err := Open(tb.Context(), dir, storage.DefaultRetention())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// dayStore fills a store with a day of n edges as Write and Maintain leave it. FAULTLINE_BENCH_DIR keeps it.
func dayStore(tb testing.TB, n int) (dir string, end time.Time) {
	tb.Helper()
	end = begin.Add(24*time.Hour + 17*time.Minute + 30*time.Second)
	dir = tb.TempDir()
	if keep := os.Getenv("FAULTLINE_BENCH_DIR"); keep != "" {
		dir = filepath.Join(keep, strconv.Itoa(n))
		if _, err := os.Stat(filepath.Join(dir, File)); err == nil {
			return dir, end
		}
	}
	s := mustOpen(tb, dir)
	rows := samples(loadEdges(n), 7, 1)
	var batch storage.Batch
	for i, at := 0, begin; at.Before(end); i, at = i+1, at.Add(graph.WindowLength) {
		batch.Windows = append(batch.Windows, graph.Part{Window: graph.Window{Start: at, Length: graph.WindowLength, Part: 1, Edges: rows[i%len(rows)]}})
		if len(batch.Windows) == 60 {
			if err := s.Write(tb.Context(), batch); err != nil {
				tb.Fatal(err)
			}
			batch.Windows = nil
			for range 3 {
				if err := s.Maintain(tb.Context(), at); err != nil {
					tb.Fatal(err)
				}
			}
		}
	}
	if err := s.Write(tb.Context(), batch); err != nil {
		tb.Fatal(err)
	}
	for i := range 8 {
		if err := s.Maintain(tb.Context(), end.Add(time.Duration(i)*15*time.Second)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
	return dir, end
}

func BenchmarkQuery(b *testing.B) {
	dir, end := dayStore(b, 1000)
	s := mustOpen(b, dir)
	edge := loadEdges(1000)[7].key.ID()
	for _, bb := range []struct {
		name string
		q    storage.Query
		want int // windows
	}{
		{"24h/sum", storage.Query{From: end.Add(-24 * time.Hour), To: end}, 1},
		{"15m/sum", storage.Query{From: end.Add(-15 * time.Minute), To: end}, 1},
		{"24h/edge_by_minute", storage.Query{From: end.Add(-24 * time.Hour), To: end, Step: time.Minute, Edges: []string{edge}}, 1440},
		{"15m/edge_by_10s", storage.Query{From: end.Add(-15 * time.Minute), To: end, Step: graph.WindowLength, Edges: []string{edge}}, 90},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			cpu(b)
			bb.q.Want = storage.WantEdges
			for b.Loop() {
				w, err := s.Windows(b.Context(), bb.q)
				if err != nil || len(w) < bb.want || len(w) > bb.want+1 {
					b.Fatalf("%d windows, %v; want %d", len(w), err, bb.want)
				}
			}
		})
	}
}

func BenchmarkOpenDay(b *testing.B) {
	dir, _ := dayStore(b, 1000)
	pause := cpu(b)
	for b.Loop() {
		s, err := Open(b.Context(), dir, storage.DefaultRetention())
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		pause()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		pause()
	}
}

// BenchmarkWrite writes two windows of 5,000 edges again and again, as while they are open.
func BenchmarkWrite(b *testing.B) {
	s := mustOpen(b, b.TempDir())
	rows := samples(loadEdges(5000), 2, 1)
	var batch storage.Batch
	for i := range rows {
		batch.Windows = append(batch.Windows, graph.Part{Open: true, Window: graph.Window{Start: begin.Add(time.Duration(i) * graph.WindowLength), Length: graph.WindowLength, Part: 1, Edges: rows[i]}})
	}
	b.ReportAllocs()
	cpu(b)
	for b.Loop() {
		if err := s.Write(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMaintain folds a minute of 5,000 edges, with the share of its hour that falls to it.
func BenchmarkMaintain(b *testing.B) {
	s := mustOpen(b, b.TempDir())
	rows := samples(loadEdges(5000), 3, 1)
	b.ReportAllocs()
	at := begin
	pause := cpu(b)
	for b.Loop() {
		b.StopTimer()
		pause()
		var batch storage.Batch
		for i := range 6 {
			batch.Windows = append(batch.Windows, graph.Part{Window: graph.Window{Start: at.Add(time.Duration(i) * graph.WindowLength), Length: graph.WindowLength, Part: 1, Edges: rows[i%3]}})
		}
		if err := s.Write(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		at = at.Add(time.Minute)
		b.StartTimer()
		pause()
		for i := range 4 {
			if err := s.Maintain(b.Context(), at.Add(time.Duration(i)*15*time.Second)); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkBlock encodes and merges 10,000 rows of edges, and reports their size.
func BenchmarkBlock(b *testing.B) {
	for _, windows := range []float64{.1, .5, 1, 6} {
		es := loadEdges(10_000)
		rows := samples(es, 1, windows)[0]
		all := &sums{edges: map[int64]*edgeSum{}}
		for i := range rows {
			all.edges[int64(i+1)] = &edgeSum{countsOf(&rows[i].Stats), rows[i].Stats.Client, rows[i].Stats.Server}
		}
		var w blockWriter
		b.Run(fmt.Sprintf("encode/%g_calls", windows*10), func(b *testing.B) {
			b.ReportAllocs()
			cpu(b)
			size := 0
			for b.Loop() {
				size = 0
				for _, bl := range all.blocks(edges, &w) {
					size += len(bl.data)
				}
			}
			b.ReportMetric(float64(size)/10_000, "bytes/row")
		})
		blocks := all.blocks(edges, &w)
		b.Run(fmt.Sprintf("merge/%g_calls", windows*10), func(b *testing.B) {
			b.ReportAllocs()
			cpu(b)
			var r blockReader
			var into sums
			for b.Loop() {
				for _, bl := range blocks {
					if err := r.merge(&into, edges, bl.data); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func TestBlockRoundTrip(t *testing.T) {
	for _, n := range []int{1, 31, 33, 257, 1000} {
		es := loadEdges(n)
		r := rand.New(rand.NewPCG(uint64(n), 3))
		all := &sums{edges: map[int64]*edgeSum{}, details: map[detailKey]*detailSum{}, nodes: map[nodeKey]int64{}}
		want := map[int64]graph.EdgeStats{}
		for i := range es {
			row := es[i].row(r, 1)
			id := int64(1 + i*i)
			want[id] = row.Stats
			all.edges[id] = &edgeSum{countsOf(&row.Stats), row.Stats.Client, row.Stats.Server}
			all.details[detailKey{id, graph.Dimension(i % 3), graph.Side(i % 2), int64(n - i)}] = &detailSum{[detailColumns]int64{int64(i), 1, -1}, sketch.New(graph.DetailScale)}
			all.nodes[nodeKey{id, int64(i % 3), int64(i % 2), int64(i % 5), 0}] = int64(-i)
		}
		var w blockWriter
		var reader blockReader
		var got sums
		for k := edges; k <= nodes; k++ {
			for _, b := range all.blocks(k, &w) {
				if err := reader.merge(&got, k, b.data); err != nil {
					t.Fatal(err)
				}
			}
		}
		for id, s := range want {
			e := got.edges[id]
			if e == nil {
				t.Fatalf("%d rows: edge %d is not there", n, id)
			}
			if g := e.stats(); text(&g) != text(&s) {
				t.Fatalf("%d rows: read %s, written %s", n, text(&g), text(&s))
			}
		}
		if len(got.edges) != n || len(got.details) != n || len(got.nodes) != n {
			t.Fatalf("%d rows: read %d, %d, %d", n, len(got.edges), len(got.details), len(got.nodes))
		}
		for k, d := range all.details {
			if g := got.details[k]; g == nil || g.counts != d.counts || g.latency.Scale() != d.latency.Scale() {
				t.Fatalf("%d rows: %+v = %+v, want %+v", n, k, g, d)
			}
		}
		for k, v := range all.nodes {
			if got.nodes[k] != v {
				t.Fatalf("%d rows: %+v = %d, want %d", n, k, got.nodes[k], v)
			}
		}
	}
}

func text(s *graph.EdgeStats) string {
	c := *s
	c.Client, c.Server = sketch.Sketch{}, sketch.Sketch{}
	return fmt.Sprintf("%+v %x %x", c, s.Client.AppendBinary(nil), s.Server.AppendBinary(nil))
}

func FuzzBlock(f *testing.F) {
	es := loadEdges(40)
	r := rand.New(rand.NewPCG(4, 4))
	all := &sums{edges: map[int64]*edgeSum{}, details: map[detailKey]*detailSum{}, nodes: map[nodeKey]int64{}}
	for i := range es {
		row := es[i].row(r, .2)
		all.edges[int64(i)] = &edgeSum{countsOf(&row.Stats), row.Stats.Client, row.Stats.Server}
		all.details[detailKey{int64(i), graph.Instance, graph.ServerSide, 5}] = &detailSum{[detailColumns]int64{1, 2, 3, 4}, row.Stats.Client}
		all.nodes[nodeKey{int64(i), 2, 3, 0, 4}] = 4
	}
	var w blockWriter
	for k := edges; k <= nodes; k++ {
		data, _ := all.encode(k, &w)
		raw, err := decompress(nil, data)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(k), data)
		f.Add(uint8(k), append([]byte{plain}, raw...))
	}
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		k := what(kind % 3)
		var reader blockReader
		var got sums
		if reader.merge(&got, k, data) != nil {
			return
		}
		// What was read can be written and read again, and then is the same.
		var w blockWriter
		again, n := got.encode(k, &w)
		if k == edges { // so it is by way of the cache
			p := got.pack(k)
			if p == nil {
				return
			}
			var added sums
			added.addAll([]*packedSum{p})
			if other, _ := added.encode(k, &w); !slices.Equal(again, other) {
				t.Fatal("packed and added, it is something else")
			}
		}
		var second sums
		if err := reader.merge(&second, k, again); err != nil {
			t.Fatalf("%d rows: %v", n, err)
		}
		if twice, _ := second.encode(k, &w); !slices.Equal(again, twice) {
			t.Fatal("written and read, it is something else")
		}
	})
}

func FuzzPack(f *testing.F) {
	es := loadEdges(3)
	r := rand.New(rand.NewPCG(5, 5))
	var p pack
	var w blockWriter
	for i := range p {
		if i == 3 {
			continue
		}
		one := &sums{edges: map[int64]*edgeSum{}}
		for j := range es {
			row := es[j].row(r, .2)
			one.edges[int64(i+j)] = &edgeSum{countsOf(&row.Stats), row.Stats.Client, row.Stats.Server}
		}
		p[i], _ = one.encode(edges, &w)
	}
	data, err := p.encode(nil)
	if err != nil {
		f.Fatal(err)
	}
	raw, err := decompress(nil, data)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(append([]byte{plain}, raw...))
	f.Fuzz(func(t *testing.T, data []byte) {
		var reader blockReader
		minutes, err := reader.unpack(data)
		if err != nil {
			return
		}
		var again pack
		for i, b := range minutes {
			if b != nil {
				again[i] = append([]byte{plain}, b...)
				var s sums
				_ = reader.mergeRaw(&s, edges, b)
			}
		}
		packed, err := again.encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		var second blockReader
		twice, err := second.unpack(packed)
		if err != nil {
			t.Fatal(err)
		}
		for i := range minutes {
			if !slices.Equal(minutes[i], twice[i]) {
				t.Fatalf("minute %d is something else", i)
			}
		}
	})
}

// TestPacks sees that folded minutes are packed, that what comes late is beside the pack, and that both count.
func TestPacks(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	es := loadEdges(40)
	r := rand.New(rand.NewPCG(6, 6))
	want := map[time.Time]int64{} // calls by minute
	write := func(number uint64, at time.Time) {
		t.Helper()
		p := graph.Part{Window: graph.Window{Start: at, Length: graph.WindowLength, Part: number}}
		for i := range es {
			p.Edges = append(p.Edges, es[i].row(r, 1))
			want[at.Truncate(time.Minute)] += p.Edges[i].Stats.Calls
		}
		if err := s.Write(t.Context(), storage.Batch{Windows: []graph.Part{p}}); err != nil {
			t.Fatal(err)
		}
	}
	settle := func(at time.Time) {
		t.Helper()
		for i := range 30 {
			if err := s.Maintain(t.Context(), at.Add(time.Duration(i)*15*time.Second)); err != nil {
				t.Fatal(err)
			}
		}
	}
	rows := func(part int) (n int) {
		t.Helper()
		if err := s.r.QueryRowContext(t.Context(), `SELECT count(*) FROM block WHERE what = 0 AND length = 60 AND part = ?`, part).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	check := func(from, to time.Duration) {
		t.Helper()
		for _, step := range []time.Duration{0, time.Minute} {
			for range 2 { // the second answer comes from the cache
				ws, err := s.Windows(t.Context(), storage.Query{From: begin.Add(from), To: begin.Add(to), Step: step, Want: storage.WantEdges})
				if err != nil {
					t.Fatal(err)
				}
				got, expected := int64(0), int64(0)
				for i := range ws {
					n := int64(0)
					for j := range ws[i].Edges {
						n += ws[i].Edges[j].Stats.Calls
					}
					if step > 0 && n != want[ws[i].Start] {
						t.Errorf("minute %s: %d calls, want %d", ws[i].Start, n, want[ws[i].Start])
					}
					got += n
				}
				for at, n := range want {
					if d := at.Sub(begin); d >= from && d < to {
						expected += n
					}
				}
				if got != expected {
					t.Errorf("%v to %v by %v: %d calls, want %d", from, to, step, got, expected)
				}
			}
		}
	}
	for i := range 25 * 6 {
		write(1, begin.Add(time.Duration(i)*graph.WindowLength))
	}
	settle(begin.Add(40 * time.Minute))
	if n, single := rows(packPart), rows(0); n != 3*8 || single != 0 {
		t.Fatalf("%d packs and %d single minutes, want a pack for each of 8 lanes and 3 times ten minutes, and no more", n, single)
	}
	check(0, 25*time.Minute)
	check(3*time.Minute, 14*time.Minute)
	for _, m := range []int{0, 4, 10, 24} {
		write(2, begin.Add(time.Duration(m)*time.Minute+20*time.Second))
	}
	check(0, 25*time.Minute)
	settle(begin.Add(50 * time.Minute))
	if n := rows(0); n != 4*8 {
		t.Errorf("%d minutes beside packs, want 4 in each of 8 lanes", n)
	}
	check(0, 25*time.Minute)
	check(4*time.Minute, 5*time.Minute)
	check(9*time.Minute, 11*time.Minute)
}
