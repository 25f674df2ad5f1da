// Package storagetest proves that a store keeps the contract of package storage: Run takes a way to open one and runs
// every test against it. The answers are compared with sums made directly from the same rows, byte for byte; nothing is
// mocked. It takes a few seconds, and does not measure speed.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"faultline/graph"
	"faultline/internal/sketch"
	"faultline/storage"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Open opens the store that is kept at a place, an empty directory's path the first time. Opened again after Close, it
// is the same store.
type Open func(t testing.TB, place string, retention storage.Retention) storage.Store

// Run runs the contract's tests.
func Run(t *testing.T, open Open) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, Open)
	}{
		{"Empty", testEmpty},
		{"PartsAddUp", testPartsAddUp},
		{"PartIsReplaced", testPartIsReplaced},
		{"BadPartIsRefused", testBadPart},
		{"AnySplitSumsUp", testAnySplit},
		{"LatePart", testLatePart},
		{"Except", testExcept},
		{"Filters", testFilters},
		{"DetailsAndNodes", testDetailsAndNodes},
		{"HostileNames", testHostileNames},
		{"Examples", testExamples},
		{"Traces", testTraces},
		{"Findings", testFindings},
		{"State", testState},
		{"Retention", testRetention},
		{"Reopen", testReopen},
		{"ReadWhileWriting", testReadWhileWriting},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, open) })
	}
}

// start is when the tests' data begin: an hour's start.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func service(name string) graph.Node { return graph.Node{Kind: graph.Service, Name: name} }

func edge(source, target string) graph.EdgeKey {
	return graph.EdgeKey{Source: service(source), Target: service(target), Protocol: graph.HTTP}
}

// calls returns n calls of a latency, every other one seen by the server.
func calls(n int64, latency time.Duration) graph.EdgeStats {
	s := graph.EdgeStats{Calls: n, LogicalCalls: n, Raw: n, ServerCalls: n, Busy: n * int64(latency)}
	s.Client.Add(int64(latency), n)
	s.Server.Add(int64(latency)/2, n)
	return s
}

// randomStats returns a row with something in every field; negative ones take back.
func randomStats(r *rand.Rand) graph.EdgeStats {
	n := func() int64 { return r.Int64N(9) - 2 }
	s := graph.EdgeStats{
		Calls: n(), Errors: n(), LogicalCalls: n(), LogicalErrors: n(), Hedges: n(), ClientErrors: n(), Cancelled: n(), Raw: n(), RawErrors: n(),
		ServerCalls: n(), ServerErrors: n(), ServerMissing: n(), ClientMissing: n(), Messages: n() * 1000, Busy: r.Int64N(1e12) - 1e11,
	}
	for i := range s.Failures {
		s.Failures[i] = n()
	}
	for _, side := range []*sketch.Sketch{&s.Client, &s.Server} {
		if r.IntN(5) == 0 {
			continue // not seen
		}
		for range r.IntN(40) {
			w := int64(1)
			if r.IntN(10) == 0 {
				w = -1
			}
			side.Add(int64(1e6*math.Exp(r.NormFloat64()*2)), w*(1+r.Int64N(3)))
		}
		if r.IntN(10) == 0 {
			side.Add(0, 1)
		}
		if r.IntN(20) == 0 {
			side.Add(math.MaxInt64/4, 1)
		}
	}
	return s
}

func part(at time.Time, number uint64, open bool, rows ...graph.EdgeRow) graph.Part {
	return graph.Part{Window: graph.Window{Start: at, Length: graph.WindowLength, Part: number, Edges: rows}, Open: open}
}

func write(t testing.TB, s storage.Store, parts ...graph.Part) {
	t.Helper()
	if err := s.Write(t.Context(), storage.Batch{Windows: parts}); err != nil {
		t.Fatal(err)
	}
}

func maintain(t testing.TB, s storage.Store, now time.Time) {
	t.Helper()
	if err := s.Maintain(t.Context(), now); err != nil {
		t.Fatal(err)
	}
}

// settle calls Maintain over some minutes, until everything that was closed by now has been folded.
func settle(t testing.TB, s storage.Store, now time.Time) {
	t.Helper()
	for at := now; !at.After(settled(now)); at = at.Add(time.Minute) {
		maintain(t, s, at)
	}
}

// settled returns when settle ends.
func settled(now time.Time) time.Time { return now.Add(7 * time.Minute) }

func windows(t testing.TB, s storage.Store, q storage.Query) []graph.Window {
	t.Helper()
	w, err := s.Windows(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// text writes a row's figures, so that rows with the same figures are the same text.
func text(s *graph.EdgeStats) string {
	counts := *s
	counts.Client, counts.Server = sketch.Sketch{}, sketch.Sketch{}
	return fmt.Sprintf("%+v client %x server %x", counts, s.Client.AppendBinary(nil), s.Server.AppendBinary(nil))
}

// dump writes windows as text, by start, length and edge.
func dump(ws []graph.Window) []string {
	var out []string
	for i := range ws {
		for j := range ws[i].Edges {
			r := &ws[i].Edges[j]
			out = append(out, fmt.Sprintf("%s %s %q %s", ws[i].Start.Format(time.RFC3339), ws[i].Length, r.Edge, text(&r.Stats)))
		}
	}
	slices.Sort(out)
	return out
}

// direct adds rows up without a store, by the same rules.
func direct(q storage.Query, parts []graph.Part) []graph.Window {
	from, to := q.From.Truncate(graph.WindowLength), q.To.Truncate(graph.WindowLength)
	type key struct {
		start time.Time
		edge  graph.EdgeKey
	}
	sums := map[key]*graph.EdgeStats{}
	length := to.Sub(from)
	if q.Step > 0 {
		length = q.Step
	}
	for i := range parts {
		p := &parts[i]
		if p.Start.Before(from) || !p.Start.Before(to) {
			continue
		}
		at := from
		if q.Step > 0 {
			at = time.Unix(p.Start.Unix()/int64(q.Step/time.Second)*int64(q.Step/time.Second), 0).UTC()
		}
		for j := range p.Edges {
			k := key{at, p.Edges[j].Edge}
			if sums[k] == nil {
				sums[k] = &graph.EdgeStats{}
			}
			sums[k].Add(&p.Edges[j].Stats)
		}
	}
	var out []graph.Window
	for k, s := range sums {
		if !s.Zero() {
			out = append(out, graph.Window{Start: k.start, Length: length, Edges: []graph.EdgeRow{{Edge: k.edge, Stats: *s}}})
		}
	}
	return out
}

func compare(t testing.TB, s storage.Store, q storage.Query, parts []graph.Part) {
	t.Helper()
	q.Want = storage.WantEdges
	if diff := cmp.Diff(dump(direct(q, parts)), dump(windows(t, s, q))); diff != "" {
		t.Fatalf("%s … %s by %s differs from the direct sum (-direct +store):\n%s", q.From, q.To, q.Step, diff)
	}
}

var day = storage.Query{From: start.Add(-24 * time.Hour), To: start.Add(24 * time.Hour), Want: storage.WantEdges}

func testEmpty(t *testing.T, open Open) {
	s := open(t, t.TempDir(), storage.DefaultRetention())
	for _, step := range []time.Duration{0, time.Minute} {
		if w := windows(t, s, storage.Query{From: start, To: start.Add(time.Hour), Step: step, Want: storage.WantEdges | storage.WantDetails | storage.WantNodes}); len(w) != 0 {
			t.Errorf("an empty store answers %v", w)
		}
	}
	if w := windows(t, s, storage.Query{From: start.Add(time.Hour), To: start, Want: storage.WantEdges}); len(w) != 0 {
		t.Errorf("a span that ends before it begins answers %v", w)
	}
	if e, err := s.Examples(t.Context(), storage.TraceQuery{From: start, To: start.Add(time.Hour), Limit: 10}); err != nil || len(e) != 0 {
		t.Errorf("Examples = %v, %v", e, err)
	}
	if _, err := s.Trace(t.Context(), graph.TraceID{1}); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Trace: %v, want ErrNotFound", err)
	}
	if _, err := s.State(t.Context(), "x"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("State: %v, want ErrNotFound", err)
	}
	maintain(t, s, start)
	write(t, s)
	info, err := s.Info(t.Context())
	if err != nil || info.Kind == "" || info.Windows != 0 || info.Traces != 0 || !info.Oldest.IsZero() || info.Retention != storage.DefaultRetention() {
		t.Errorf("Info = %+v, %v", info, err)
	}
}

func testPartsAddUp(t *testing.T, open Open) {
	s := open(t, t.TempDir(), storage.DefaultRetention())
	parts := []graph.Part{
		part(start, 1, false, graph.EdgeRow{Edge: edge("a", "b"), Stats: calls(3, time.Millisecond)}, graph.EdgeRow{Edge: edge("b", "c"), Stats: calls(1, time.Second)}),
		part(start, 2, false, graph.EdgeRow{Edge: edge("a", "b"), Stats: calls(4, 2*time.Millisecond)}),
		part(start.Add(10*time.Second), 1, false, graph.EdgeRow{Edge: edge("a", "b"), Stats: calls(5, 3*time.Millisecond)}),
		// One edge twice in one part adds up too.
		part(start.Add(20*time.Second), 1, false, graph.EdgeRow{Edge: edge("a", "b"), Stats: calls(5, 3*time.Millisecond)}, graph.EdgeRow{Edge: edge("a", "b"), Stats: calls(6, time.Hour)}),
		part(start.Add(30*time.Second), math.MaxUint64, false, graph.EdgeRow{Edge: edge("a", "b"), Stats: calls(1, time.Hour)}),
	}
	write(t, s, parts...)
	for _, step := range []time.Duration{0, 10 * time.Second, time.Minute} {
		compare(t, s, storage.Query{From: start, To: start.Add(time.Minute), Step: step}, parts)
	}
	compare(t, s, storage.Query{From: start.Add(19 * time.Second), To: start.Add(29 * time.Second)}, parts) // floored to 10…20
	info, err := s.Info(t.Context())
	if err != nil || info.Windows < 5 || !info.Oldest.Equal(start) || !info.Newest.Equal(start.Add(30*time.Second)) || info.Bytes <= 0 {
		t.Errorf("Info = %+v, %v", info, err)
	}
}

func testPartIsReplaced(t *testing.T, open Open) {
	s := open(t, t.TempDir(), storage.DefaultRetention())
	row := func(n int64) graph.EdgeRow {
		return graph.EdgeRow{Edge: edge("a", "b"), Stats: calls(n, time.Millisecond)}
	}
	write(t, s, part(start, 7, true, row(1)))
	write(t, s, part(start, 7, true, row(3), graph.EdgeRow{Edge: edge("x", "y"), Stats: calls(1, time.Second)}))
	maintain(t, s, start.Add(time.Hour)) // an open part is left alone
	last := part(start, 7, false, row(5))
	write(t, s, last)
	compare(t, s, day, []graph.Part{last})
	write(t, s, last) // as after an answer that was lost
	compare(t, s, day, []graph.Part{last})
	settle(t, s, start.Add(2*time.Hour))
	compare(t, s, day, []graph.Part{last})
	write(t, s, last) // also when it has been folded since
	for _, step := range []time.Duration{0, 10 * time.Second, time.Minute, time.Hour} {
		q := day
		q.Step = step
		compare(t, s, q, []graph.Part{last})
	}
	if info, err := s.Info(t.Context()); err != nil || info.Windows != 1 {
		t.Errorf("Info = %+v, %v: want one row", info, err)
	}
}

func testBadPart(t *testing.T, open Open) {
	s := open(t, t.TempDir(), storage.DefaultRetention())
	good := part(start, 1, false, graph.EdgeRow{Edge: edge("a", "b"), Stats: calls(1, time.Millisecond)})
	for name, p := range map[string]graph.Part{
		"length":                 {Window: graph.Window{Start: start, Length: time.Hour, Edges: good.Edges}},
		"alignment":              {Window: graph.Window{Start: start.Add(time.Second), Length: graph.WindowLength, Edges: good.Edges}},
		"edges in a minute":      {Window: graph.Window{Start: start, Length: graph.DetailLength, Edges: good.Edges}},
		"details in ten seconds": {Window: graph.Window{Start: start, Length: graph.WindowLength, Details: []graph.DetailRow{{Edge: edge("a", "b")}}}},
	} {
		if err := s.Write(t.Context(), storage.Batch{Windows: []graph.Part{good, p}, State: map[string][]byte{"k": nil}}); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	// A batch is kept whole or not at all.
	if w := windows(t, s, day); len(w) != 0 {
		t.Errorf("a part of a refused batch was kept: %v", w)
	}
	if _, err := s.State(t.Context(), "k"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the state of a refused batch was kept: %v", err)
	}
}

// testAnySplit spreads random rows over windows and parts, writes these in any order, some of them several times while
// they grow, with any schedule of Maintain and reopening between, and asks for any range and step on the way.
func testAnySplit(t *testing.T, open Open) {
	for seed := range uint64(5) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			const width = 3 * time.Hour
			everything := storage.Retention{Fine: 1000 * time.Hour, Minute: 1000 * time.Hour, Hour: 1000 * time.Hour, Traces: time.Hour}
			r := rand.New(rand.NewPCG(seed, 1))
			place := t.TempDir()
			s := open(t, place, everything)
			edges := make([]graph.EdgeKey, []int{5, 40, 1, 300, 20}[seed])
			for i := range edges {
				edges[i] = edge(fmt.Sprint("s", i%17), fmt.Sprint("t", i))
				edges[i].Source.Env = fmt.Sprint("env", i%3)
				edges[i].Target.Env = edges[i].Source.Env
			}
			written := map[graph.PartKey]graph.Part{}
			all := func() []graph.Part { return slices.Collect(maps.Values(written)) }
			now := start.Add(width)
			var growing []graph.Part
			for step := range 50 {
				var batch []graph.Part
				for range 1 + r.IntN(4) {
					if len(growing) > 0 && r.IntN(2) == 0 { // one that is open grows and may close
						i := r.IntN(len(growing))
						p := growing[i]
						p.Edges = append(slices.Clone(p.Edges), graph.EdgeRow{Edge: edges[r.IntN(len(edges))], Stats: randomStats(r)})
						p.Open = r.IntN(3) > 0
						growing[i] = p
						if !p.Open {
							growing = slices.Delete(growing, i, i+1)
						}
						batch = slices.DeleteFunc(batch, func(o graph.Part) bool { return o.Key() == p.Key() })
						batch = append(batch, p)
						continue
					}
					at := start.Add(upTo(r, width)).Truncate(graph.WindowLength)
					if r.IntN(2) == 0 { // many land in the same few minutes
						at = start.Add(90*time.Minute + upTo(r, 5*time.Minute)).Truncate(graph.WindowLength)
					}
					p := part(at, 1000*seed+uint64(step*10+len(batch)), r.IntN(3) == 0)
					rows := 40
					if step%20 == 0 {
						rows = 2 * len(edges)
					}
					for range r.IntN(rows) {
						p.Edges = append(p.Edges, graph.EdgeRow{Edge: edges[r.IntN(len(edges))], Stats: randomStats(r)})
					}
					if p.Open {
						growing = append(growing, p)
					}
					batch = append(batch, p)
				}
				write(t, s, batch...)
				for _, p := range batch {
					written[p.Key()] = p
				}
				switch r.IntN(6) {
				case 0, 1:
					now = now.Add(upTo(r, time.Minute))
					maintain(t, s, now)
				case 2:
					now = now.Add(time.Minute)
					settle(t, s, now)
					now = now.Add(8 * time.Minute)
				case 3:
					if r.IntN(4) == 0 {
						if err := s.Close(); err != nil {
							t.Fatal(err)
						}
						s = open(t, place, everything)
						growing = nil
					}
				}
				if step%6 == 0 {
					from := start.Add(upTo(r, width) - time.Minute)
					compare(t, s, storage.Query{From: from, To: from.Add(upTo(r, width)), Step: steps[r.IntN(len(steps))]}, all())
				}
			}
			for _, step := range steps {
				compare(t, s, storage.Query{From: start, To: start.Add(width), Step: step}, all())
			}
			settle(t, s, now.Add(time.Hour))
			for _, step := range steps {
				compare(t, s, storage.Query{From: start, To: start.Add(width), Step: step}, all())
				from := start.Add(upTo(r, width))
				compare(t, s, storage.Query{From: from, To: from.Add(upTo(r, width)), Step: step}, all())
			}
		})
	}
}

var steps = []time.Duration{
	0, 10 * time.Second, 20 * time.Second, time.Minute, 90 * time.Second, 5 * time.Minute, time.Hour, 2 * time.Hour, 24 * time.Hour,
}

func testLatePart(t *testing.T, open Open) {
	s := open(t, t.TempDir(), storage.DefaultRetention())
	parts := []graph.Part{
		part(start, 1, false, graph.EdgeRow{Edge: edge("a", "b"), Stats: calls(3, time.Millisecond)}),
		part(start.Add(time.Minute), 1, false, graph.EdgeRow{Edge: edge("a", "b"), Stats: calls(3, time.Millisecond)}),
	}
	write(t, s, parts...)
	settle(t, s, start.Add(2*time.Hour))
	compare(t, s, day, parts)
	// Late: one call more, one taken back, an edge that was not there.
	back := calls(-1, time.Millisecond)
	late := part(start, 2, false, graph.EdgeRow{Edge: edge("a", "b"), Stats: back}, graph.EdgeRow{Edge: edge("a", "c"), Stats: calls(1, time.Millisecond)})
	write(t, s, late)
	parts = append(parts, late)
	for i := range 4 {
		for _, step := range steps {
			compare(t, s, storage.Query{From: start, To: start.Add(time.Hour), Step: step}, parts)
		}
		settle(t, s, start.Add(time.Duration(3+i)*time.Hour))
	}
}

func testExcept(t *testing.T, open Open) {
	s := open(t, t.TempDir(), storage.DefaultRetention())
	row := graph.EdgeRow{Edge: edge("a", "b"), Stats: calls(1, time.Millisecond)}
	mine, other := part(start, 1, true, row), part(start, 2, false, row)
	detail := graph.Part{Open: true, Window: graph.Window{Start: start, Length: graph.DetailLength, Part: 1, Nodes: []graph.NodeRow{{Node: service("a"), Spans: 1}}}}
	write(t, s, mine, other, detail)
	now := start.Add(time.Minute)
	for range 3 {
		q := day
		q.Want = storage.WantEdges | storage.WantNodes
		q.Except = []graph.PartKey{mine.Key(), detail.Key(), {Start: start, Length: graph.WindowLength, Part: 99}}
		for _, step := range []time.Duration{0, time.Minute, time.Hour} {
			q.Step = step
			w := windows(t, s, q)
			if len(w) != 1 || len(w[0].Edges) != 1 || w[0].Edges[0].Stats.Calls != 1 || len(w[0].Nodes) != 0 {
				t.Fatalf("without the caller's own part: %+v", w)
			}
		}
		// A part that has just been closed may still be left out by somebody.
		mine.Open, detail.Open = false, false
		write(t, s, mine, detail)
		maintain(t, s, now)
		now = now.Add(9 * time.Second)
		maintain(t, s, now)
	}
}

func testFilters(t *testing.T, open Open) {
	s := open(t, t.TempDir(), storage.DefaultRetention())
	var rows []graph.EdgeRow
	for i := range 500 {
		e := edge(fmt.Sprint("a", i), "b")
		e.Source.Env = []string{"", "prod", "test"}[i%3]
		e.Target.Env = e.Source.Env
		rows = append(rows, graph.EdgeRow{Edge: e, Stats: calls(int64(i+1), time.Millisecond)})
	}
	gateway := rows[7].Edge // has the same id as the edge from the service of that name
	gateway.Source.Kind = graph.Gateway
	rows = append(rows, graph.EdgeRow{Edge: gateway, Stats: calls(5, time.Second)})
	write(t, s, part(start, 1, false, rows...))
	for range 2 {
		for _, tt := range []struct {
			name string
			q    storage.Query
			want func(graph.EdgeKey) bool
		}{
			{"all", storage.Query{}, func(graph.EdgeKey) bool { return true }},
			{"environment", storage.Query{Env: "prod", HasEnv: true}, func(k graph.EdgeKey) bool { return k.Env() == "prod" }},
			{"no environment", storage.Query{HasEnv: true}, func(k graph.EdgeKey) bool { return k.Env() == "" }},
			{"unknown environment", storage.Query{Env: "x", HasEnv: true}, func(k graph.EdgeKey) bool { return false }},
			{"edges", storage.Query{Edges: []string{rows[7].Edge.ID(), rows[8].Edge.ID(), "nonsense"}}, func(k graph.EdgeKey) bool {
				return k == rows[7].Edge || k == rows[8].Edge || k == gateway
			}},
			{"edge elsewhere", storage.Query{Edges: []string{rows[1].Edge.ID()}, HasEnv: true, Env: "test"}, func(k graph.EdgeKey) bool { return false }},
			{"no edges", storage.Query{Edges: []string{}}, func(k graph.EdgeKey) bool { return false }},
		} {
			tt.q.From, tt.q.To, tt.q.Want = start, start.Add(time.Minute), storage.WantEdges
			var want []graph.EdgeRow
			for _, r := range rows {
				if tt.want(r.Edge) {
					want = append(want, r)
				}
			}
			expected := dump([]graph.Window{{Start: start, Length: time.Minute, Edges: want}})
			if diff := cmp.Diff(expected, dump(windows(t, s, tt.q))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.name, diff)
			}
		}
		settle(t, s, start.Add(2*time.Hour))
	}
}

func testDetailsAndNodes(t *testing.T, open Open) {
	s := open(t, t.TempDir(), storage.DefaultRetention())
	r := rand.New(rand.NewPCG(5, 5))
	type detailID struct {
		e graph.EdgeKey
		k graph.DetailKey
	}
	details := map[detailID]*graph.Detail{}
	nodes := map[graph.NodeRow]int64{}
	latency := func() sketch.Sketch {
		l := sketch.New(graph.DetailScale)
		for range r.IntN(20) {
			l.Add(r.Int64N(1e9), 1)
		}
		return l
	}
	for m := range 70 {
		p := graph.Part{Window: graph.Window{Start: start.Add(time.Duration(m%65) * time.Minute), Length: graph.DetailLength, Part: uint64(m)}}
		for range 60 {
			d := graph.DetailRow{
				Edge: edge("a", strconv.Itoa(r.IntN(20))), Detail: graph.Detail{Calls: r.Int64N(50), Errors: r.Int64N(5), Raw: r.Int64N(9), RawErrors: -r.Int64N(5), Latency: latency()},
				Key: graph.DetailKey{Dimension: graph.Dimension(r.IntN(graph.NumDimensions)), Side: graph.Side(r.IntN(2)), Name: fmt.Sprint("GET /", r.IntN(6))},
			}
			p.Details = append(p.Details, d)
			id := detailID{d.Edge, d.Key}
			if details[id] == nil {
				details[id] = &graph.Detail{Latency: sketch.New(graph.DetailScale)}
			}
			details[id].Add(&d.Detail)
			n := graph.NodeRow{Node: service(strconv.Itoa(r.IntN(20))), Instance: strconv.Itoa(r.IntN(4)), Version: []string{"", "1", "2"}[r.IntN(3)], Zone: []string{"", "a"}[r.IntN(2)], Host: []string{"", "h"}[r.IntN(2)], Spans: r.Int64N(100)}
			p.Nodes = append(p.Nodes, n)
			nodes[processOf(n)] += n.Spans
		}
		write(t, s, p)
	}
	q := storage.Query{From: start, To: start.Add(2 * time.Hour), Want: storage.WantDetails | storage.WantNodes}
	for i := range 3 {
		w := windows(t, s, q)
		if len(w) != 1 || len(w[0].Edges) != 0 || len(w[0].Details) != len(details) || len(w[0].Nodes) != len(nodes) {
			t.Fatalf("pass %d: %d windows, want one of %d details and %d nodes", i, len(w), len(details), len(nodes))
		}
		for _, d := range w[0].Details {
			want := details[detailID{d.Edge, d.Key}]
			if want == nil || !bytes.Equal(want.Latency.AppendBinary(nil), d.Detail.Latency.AppendBinary(nil)) ||
				want.Calls != d.Detail.Calls || want.Errors != d.Detail.Errors || want.Raw != d.Detail.Raw || want.RawErrors != d.Detail.RawErrors {
				t.Fatalf("pass %d: %v = %+v, want %+v", i, d.Key, d.Detail, want)
			}
		}
		for _, n := range w[0].Nodes {
			if want := nodes[processOf(n)]; want != n.Spans {
				t.Fatalf("pass %d: %v has %d spans, want %d", i, n.Node, n.Spans, want)
			}
		}
		some := q
		some.Dimensions = []graph.Dimension{graph.Instance, graph.Caused}
		left := 0
		for id := range details {
			if slices.Contains(some.Dimensions, id.k.Dimension) {
				left++
			}
		}
		if w := windows(t, s, some); len(w) != 1 || len(w[0].Details) != left || len(w[0].Nodes) != len(nodes) {
			t.Fatalf("pass %d: %d windows, want one of %d details of two dimensions and %d nodes", i, len(w), left, len(nodes))
		}
		one := q
		one.Edges = []string{edge("a", "3").ID()}
		one.Want = storage.WantDetails
		one.Step = time.Minute
		n := int64(0)
		for _, w := range windows(t, s, one) {
			if w.Length != time.Minute {
				t.Fatalf("pass %d: a window of %s", i, w.Length)
			}
			for _, d := range w.Details {
				if d.Edge != edge("a", "3") {
					t.Fatalf("pass %d: a detail of %v", i, d.Edge)
				}
				n += d.Detail.Calls
			}
		}
		for id, d := range details {
			if id.e == edge("a", "3") {
				n -= d.Calls
			}
		}
		if n != 0 {
			t.Fatalf("pass %d: the minutes of one edge are off by %d calls", i, n)
		}
		settle(t, s, start.Add(time.Duration(3+i)*time.Hour))
	}
}

// hostile are names that break what glues, quotes or cuts them.
var hostile = []string{
	"", "\x00", "a\x00b", "'; DROP TABLE edge; --", `"`, "`", "%s%d", "\xff\xfe not UTF-8 \xc3", "😀👩‍👩‍👧", strings.Repeat("long ", 600),
	"<script>alert(1)</script>", "../../etc/passwd", "a/b", "\n\r\t", "NULL", "\u202e", "é", "e\u0301", " a", "a ", "A", "a", "?1", "\\",
}

func testHostileNames(t *testing.T, open Open) {
	place := t.TempDir()
	s := open(t, place, storage.DefaultRetention())
	var rows []graph.EdgeRow
	minute := graph.Part{Window: graph.Window{Start: start, Length: graph.DetailLength, Part: 1}}
	for i, name := range hostile {
		e := graph.EdgeKey{Source: graph.Node{Env: name, Kind: graph.Service, Namespace: name, Name: name}, Target: graph.Node{Env: name, Kind: graph.External, Name: name}}
		rows = append(rows, graph.EdgeRow{Edge: e, Stats: calls(int64(i+1), time.Millisecond)})
		minute.Details = append(minute.Details, graph.DetailRow{Edge: e, Key: graph.DetailKey{Name: name}, Detail: graph.Detail{Calls: int64(i + 1), Latency: sketch.New(graph.DetailScale)}})
		minute.Nodes = append(minute.Nodes, graph.NodeRow{Node: e.Source, Instance: name, Version: name, Spans: int64(i + 1)})
	}
	state := map[string][]byte{}
	for _, name := range hostile {
		state[name] = []byte(name)
	}
	if err := s.Write(t.Context(), storage.Batch{Windows: []graph.Part{part(start, 1, false, rows...), minute}, State: state}); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		w := windows(t, s, storage.Query{From: start, To: start.Add(time.Minute), Want: storage.WantEdges | storage.WantDetails | storage.WantNodes})
		if len(w) != 1 {
			t.Fatalf("pass %d: %d windows", i, len(w))
		}
		if diff := cmp.Diff(dump([]graph.Window{{Start: start, Length: time.Minute, Edges: rows}}), dump(w)); diff != "" {
			t.Fatalf("pass %d (-want +got):\n%s", i, diff)
		}
		got := map[string]int64{}
		for _, d := range w[0].Details {
			got["d"+d.Key.Name+d.Edge.Target.Name] += d.Detail.Calls
		}
		for _, n := range w[0].Nodes {
			got["n"+n.Instance+n.Version+n.Node.Env] += n.Spans
		}
		for j, name := range hostile {
			if got["d"+name+name] != int64(j+1) || got["n"+name+name+name] != int64(j+1) {
				t.Errorf("pass %d: %q did not come back: %d, %d", i, name, got["d"+name+name], got["n"+name+name+name])
			}
			q := storage.Query{From: start, To: start.Add(time.Minute), Env: name, HasEnv: true, Want: storage.WantEdges}
			if w := windows(t, s, q); len(w) != 1 || len(w[0].Edges) != 1 || w[0].Edges[0].Edge.Env() != name {
				t.Errorf("pass %d: environment %q: %v", i, name, w)
			}
			if v, err := s.State(t.Context(), name); err != nil || string(v) != name {
				t.Errorf("pass %d: state %q = %q, %v", i, name, v, err)
			}
		}
		if i == 0 {
			settle(t, s, start.Add(2*time.Hour))
			continue
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, place, storage.DefaultRetention())
	}
}

func traceID(i int) graph.TraceID { return graph.TraceID{0: 0xfe, 14: byte(i >> 8), 15: byte(i)} }

func testExamples(t *testing.T, open Open) {
	s := open(t, t.TempDir(), storage.DefaultRetention())
	var all []graph.Example
	var batch storage.Batch
	for i := range 200 {
		k := graph.KeptTrace{Trace: graph.Trace{ID: traceID(i), Spans: []graph.Span{{ID: graph.SpanID{1}, Name: "root", Start: start, End: start.Add(time.Second)}}}}
		for j := range 1 + i%3 {
			e := edge(fmt.Sprint("s", (i+j)%7), fmt.Sprint("s", (i+j+1)%7))
			if i%5 == 0 {
				e.Target = e.Source // to itself
			}
			e.Source.Env = []string{"", "prod"}[i%2]
			e.Target.Env = e.Source.Env
			k.Examples = append(k.Examples, graph.Example{
				Trace: traceID(i), Span: graph.SpanID{byte(j + 1)}, Edge: e, Kind: graph.ExampleKind((i + j) % graph.NumExampleKinds),
				At: start.Add(time.Duration(i)*time.Second + time.Duration(j)*time.Millisecond + 7), Duration: time.Duration(i) * time.Millisecond, Failure: graph.Failure(i % graph.NumFailures),
			})
		}
		all = append(all, k.Examples...)
		batch.Traces = append(batch.Traces, k)
	}
	for range 2 { // written again, as after an answer that was lost, nothing comes twice
		if err := s.Write(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	slices.SortFunc(all, func(a, b graph.Example) int { return b.At.Compare(a.At) })
	failed := graph.Failed
	wide := storage.TraceQuery{From: start.Add(-time.Hour), To: start.Add(time.Hour), Limit: 1000}
	with := func(change func(*storage.TraceQuery)) storage.TraceQuery {
		q := wide
		change(&q)
		return q
	}
	for name, q := range map[string]storage.TraceQuery{
		"all":         wide,
		"limit":       with(func(q *storage.TraceQuery) { q.Limit = 3 }),
		"edge":        with(func(q *storage.TraceQuery) { q.Edge = all[0].Edge.ID() }),
		"service":     with(func(q *storage.TraceQuery) { q.Service = "s3" }),
		"kind":        with(func(q *storage.TraceQuery) { q.Only = &failed }),
		"environment": with(func(q *storage.TraceQuery) { q.Env, q.HasEnv = "prod", true }),
		"time":        with(func(q *storage.TraceQuery) { q.From, q.To = all[20].At, all[10].At }),
		"everything": with(func(q *storage.TraceQuery) {
			q.Service, q.Only, q.HasEnv, q.Env, q.Limit, q.From = "s3", &failed, true, "prod", 5, start.Add(time.Minute)
		}),
		"edge and service": with(func(q *storage.TraceQuery) { q.Edge, q.Service = all[0].Edge.ID(), all[0].Edge.Source.ID() }),
		"nothing":          with(func(q *storage.TraceQuery) { q.Service = "nobody" }),
		"all times":        {From: time.Time{}, To: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), Limit: 1000},
	} {
		var want []graph.Example
		for _, e := range all {
			if !e.At.Before(q.From) && e.At.Before(q.To) && (q.Edge == "" || e.Edge.ID() == q.Edge) && (q.Only == nil || e.Kind == *q.Only) &&
				(q.Service == "" || e.Edge.Source.ID() == q.Service || e.Edge.Target.ID() == q.Service) && (!q.HasEnv || e.Edge.Env() == q.Env) && len(want) < q.Limit {
				want = append(want, e)
			}
		}
		got, err := s.Examples(t.Context(), q)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for _, limit := range []int{0, -1, 1001} {
		if _, err := s.Examples(t.Context(), storage.TraceQuery{From: start, To: start.Add(time.Hour), Limit: limit}); err == nil {
			t.Errorf("limit %d: no error", limit)
		}
	}
}

func testTraces(t *testing.T, open Open) {
	s := open(t, t.TempDir(), storage.DefaultRetention())
	attributes := []graph.Attribute{
		{Key: "string", Value: "text"},
		{Key: "empty", Value: ""},
		{Key: "yes", Value: true},
		{Key: "no", Value: false},
		{Key: "int", Value: int64(math.MinInt64)},
		{Key: "float", Value: 1e-300},
		{Key: "infinite", Value: math.Inf(-1)},
		{Key: "bytes", Value: []byte{0, 255}},
		{Key: "nothing", Value: nil},
		{Key: "list", Value: []any{"a", int64(1), 2.5, true, []byte("b"), []any{"deep"}, nil}},
		{Key: "map", Value: map[string]any{"a": int64(1), "b": map[string]any{"c": []any{}}, "": "x"}},
	}
	for _, h := range hostile {
		attributes = append(attributes, graph.Attribute{Key: h, Value: h})
	}
	whole := graph.Trace{
		ID:        traceID(1),
		Resources: []graph.Resource{{Attributes: attributes}, {}},
		Spans: []graph.Span{
			{
				ID: graph.SpanID{1}, Parent: graph.SpanID{2}, TraceState: "ot=th:8", Flags: 0x301, Name: "GET /", Kind: graph.SpanKindClient,
				Start: start.Add(123), End: start.Add(456789), Status: graph.StatusError, StatusMessage: "no\x00",
				Attributes: attributes, Events: []graph.Event{{Time: start, Name: "exception", Attributes: attributes}, {}},
				Links: []graph.Link{{Trace: traceID(2), Span: graph.SpanID{9}, Attributes: attributes[:1]}},
				Scope: "otelhttp", ScopeVersion: "1", Resource: 1, Node: graph.Node{Env: "e", Kind: graph.Service, Namespace: "n", Name: "a"},
			},
			{ID: graph.SpanID{2}, Start: start, End: time.Unix(0, math.MaxInt64).UTC()},
		},
	}
	kept := graph.KeptTrace{Trace: whole, Examples: []graph.Example{{Trace: whole.ID, Span: graph.SpanID{1}, Edge: edge("a", "b"), At: start}}}
	big := graph.Trace{ID: traceID(3)}
	for i := range 5000 {
		big.Spans = append(big.Spans, graph.Span{ID: graph.SpanID{byte(i), byte(i >> 8)}, Name: fmt.Sprint("span ", i), Start: start, End: start})
	}
	empty := graph.Trace{ID: traceID(4)}
	if err := s.Write(t.Context(), storage.Batch{Traces: []graph.KeptTrace{kept, {Trace: big}, {Trace: empty}}}); err != nil {
		t.Fatal(err)
	}
	check := func(want graph.Trace) {
		t.Helper()
		got, err := s.Trace(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("trace (-want +got):\n%s", diff)
		}
	}
	check(whole)
	check(big)
	check(empty)
	// Kept again for another edge with fewer of its spans, it loses none.
	again := graph.KeptTrace{Trace: graph.Trace{ID: whole.ID, Resources: whole.Resources, Spans: whole.Spans[:1]}, Examples: []graph.Example{{Trace: whole.ID, Span: graph.SpanID{2}, Edge: edge("b", "c"), At: start}}}
	if err := s.Write(t.Context(), storage.Batch{Traces: []graph.KeptTrace{again}}); err != nil {
		t.Fatal(err)
	}
	check(whole)
	examples, err := s.Examples(t.Context(), storage.TraceQuery{From: start, To: start.Add(1), Limit: 10})
	if err != nil || len(examples) != 2 {
		t.Errorf("examples of a trace that was kept twice: %v, %v", examples, err)
	}
	if info, err := s.Info(t.Context()); err != nil || info.Traces != 3 {
		t.Errorf("Info = %+v, %v: want 3 traces", info, err)
	}
}

func testState(t *testing.T, open Open) {
	place := t.TempDir()
	s := open(t, place, storage.DefaultRetention())
	want := map[string]string{"a": "1", "b": strings.Repeat("\x00\xff", 1<<19), "empty": ""}
	for k := range want {
		if err := s.Write(t.Context(), storage.Batch{State: map[string][]byte{k: []byte("old")}}); err != nil {
			t.Fatal(err)
		}
	}
	for k, v := range want {
		if err := s.Write(t.Context(), storage.Batch{State: map[string][]byte{k: []byte(v)}}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		for k, v := range want {
			if got, err := s.State(t.Context(), k); err != nil || string(got) != v {
				t.Errorf("State(%q): %d bytes, %v; want %d", k, len(got), err, len(v))
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, place, storage.DefaultRetention())
	}
}

func testRetention(t *testing.T, open Open) {
	const hours = 8
	retention := storage.Retention{Fine: time.Hour, Minute: 3 * time.Hour, Hour: 24 * time.Hour, Traces: 2 * time.Hour}
	s := open(t, t.TempDir(), retention)
	r := rand.New(rand.NewPCG(8, 8))
	var parts []graph.Part
	end := start.Add(hours * time.Hour)
	for i := range 400 {
		parts = append(parts, part(start.Add(upTo(r, hours*time.Hour)).Truncate(graph.WindowLength), uint64(i), false,
			graph.EdgeRow{Edge: edge("a", strconv.Itoa(r.IntN(3))), Stats: randomStats(r)}))
	}
	for c := range slices.Chunk(parts, 50) {
		write(t, s, c...)
	}
	for i := range 10 {
		at := end.Add(-time.Duration(i) * time.Hour)
		if err := s.Write(t.Context(), storage.Batch{Traces: []graph.KeptTrace{{Trace: graph.Trace{ID: traceID(i)}, Examples: []graph.Example{{Span: graph.SpanID{1}, Edge: edge("a", "b"), At: at}}}}}); err != nil {
			t.Fatal(err)
		}
	}
	total := storage.Query{From: start, To: end}
	for range 3 {
		settle(t, s, end)
		compare(t, s, total, parts)
	}
	// As fine as what is left, and never counted twice. Minutes are dropped by whole hours.
	fineFrom, minuteFrom := settled(end).Add(-retention.Fine), settled(end).Add(-retention.Minute).Truncate(time.Hour)
	for _, step := range []time.Duration{10 * time.Second, time.Minute, time.Hour} {
		ws := windows(t, s, storage.Query{From: start, To: end, Step: step, Want: storage.WantEdges})
		sums := map[string]*graph.EdgeStats{}
		for i := range ws {
			w := &ws[i]
			want := step
			switch {
			case w.Start.Before(minuteFrom):
				want = time.Hour
			case w.Start.Before(fineFrom):
				want = max(step, time.Minute)
			}
			if w.Length != want {
				t.Errorf("step %s: the window of %s is %s long, want %s", step, w.Start, w.Length, want)
			}
			for j := range w.Edges {
				k := w.Edges[j].Edge.Target.Name
				if sums[k] == nil {
					sums[k] = &graph.EdgeStats{}
				}
				sums[k].Add(&w.Edges[j].Stats)
			}
		}
		for _, row := range direct(total, parts) {
			if k := row.Edges[0].Edge.Target.Name; text(sums[k]) != text(&row.Edges[0].Stats) {
				t.Errorf("step %s: the windows of %s do not add up: %s, want %s", step, k, text(sums[k]), text(&row.Edges[0].Stats))
			}
		}
	}
	if _, err := s.Trace(t.Context(), traceID(1)); err != nil {
		t.Errorf("a trace within the retention: %v", err)
	}
	if _, err := s.Trace(t.Context(), traceID(5)); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a trace beyond the retention: %v, want ErrNotFound", err)
	}
	if e, err := s.Examples(t.Context(), storage.TraceQuery{From: start, To: end.Add(1), Limit: 100}); err != nil || len(e) != 2 {
		t.Errorf("%d examples, %v; want those of the last 2 h", len(e), err)
	}
	// A part that is very late still lands in its hour.
	late := part(start, 1<<40, false, graph.EdgeRow{Edge: edge("a", "0"), Stats: calls(1, time.Second)})
	write(t, s, late)
	parts = append(parts, late)
	compare(t, s, total, parts)
	for i := range 3 {
		settle(t, s, end.Add(time.Duration(1+i)*20*time.Minute))
		compare(t, s, total, parts)
	}
	settle(t, s, end.Add(48*time.Hour))
	if w := windows(t, s, day); len(w) != 0 {
		t.Errorf("%d windows beyond every retention", len(w))
	}
	if info, err := s.Info(t.Context()); err != nil || info.Windows != 0 || info.Traces != 0 || !info.Oldest.IsZero() {
		t.Errorf("Info = %+v, %v: want nothing", info, err)
	}
}

func testReopen(t *testing.T, open Open) {
	place := t.TempDir()
	s := open(t, place, storage.DefaultRetention())
	var parts []graph.Part
	for i := range uint64(8) {
		// Each process dies with its part open; the next one's parts of the same window add to it.
		p := part(start, 100+i, true, graph.EdgeRow{Edge: edge("a", "b"), Stats: calls(1, time.Millisecond)})
		parts = append(parts, p)
		write(t, s, p)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, place, storage.DefaultRetention())
		compare(t, s, day, parts)
		if i%2 == 0 {
			settle(t, s, start.Add(time.Duration(i)*time.Hour))
			compare(t, s, day, parts)
		}
	}
}

// testReadWhileWriting reads sums while parts are written, closed and folded. Every batch adds as many calls to one edge
// as to the other, so that whoever sees a part of a batch, or a sum twice, sees them differ or shrink.
func testReadWhileWriting(t *testing.T, open Open) {
	s := open(t, t.TempDir(), storage.DefaultRetention())
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			last := int64(0)
			for ctx.Err() == nil {
				ws, err := s.Windows(ctx, storage.Query{From: start, To: start.Add(2 * time.Hour), Step: steps[i*3], Want: storage.WantEdges})
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				var n [2]int64
				for _, w := range ws {
					for _, r := range w.Edges {
						n[r.Edge.Target.Name[0]-'b'] += r.Stats.Calls
					}
				}
				if n[0] != n[1] || n[0] < last {
					t.Errorf("saw %d and %d calls after %d", n[0], n[1], last)
					return
				}
				last = n[0]
			}
		})
	}
	now := start
	for i := range 150 {
		at := start.Add(time.Duration(i/3) * 20 * time.Second)
		n := int64(i%3 + 1)
		write(t, s, part(at, uint64(i/3), i%3 < 2, graph.EdgeRow{Edge: edge("a", "b"), Stats: calls(n, time.Millisecond)}, graph.EdgeRow{Edge: edge("a", "c"), Stats: calls(n, time.Second)}))
		now = now.Add(10 * time.Second)
		maintain(t, s, now)
	}
	stop()
	wg.Wait()
}

// upTo returns a random duration in [0, d).
func upTo(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }

// processOf returns what names a row of a node: the row without its count.
func processOf(row graph.NodeRow) graph.NodeRow {
	row.Spans = 0
	return row
}
