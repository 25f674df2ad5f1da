package finding

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"faultline/graph"
)

func TestAvailability(t *testing.T) {
	for n, want := range map[int]float64{0: 1, 3: .997003, 10: .990045} { // TVs C.9
		if got := Availability(slices.Repeat([]float64{.001}, n)); math.Abs(got-want) > 5e-7 {
			t.Errorf(".999^%d = %v, want %v", n, got, want)
		}
	}
}

// TV C.9, as its traces are analysed: gateway [0,100], the edge to B 4, B itself 66.
func TestShape(t *testing.T) {
	m := (&minute{}).measure(graph.Traces, 1, 0, 100*ms).measure(graph.Critical, 1, 0, 70*ms).measure(graph.CriticalEdge, 1, 0, 4*ms).
		measure(graph.CriticalSelf, 1, 0, 66*ms)
	s := ShapeOf(&Sum{Details: m.details})
	if !near(s.Critical, .7) || !near(s.CriticalEdge, .04) || !near(s.CriticalSelf, .66) || s.Traces != 1 || !math.IsNaN(s.OriginSelf) || !math.IsNaN(s.Parallel) {
		t.Errorf("%+v", s)
	}
	m.measure(graph.Traces, 9, 4, 100*ms).measure(graph.OriginEdge, 2, 2, 1000).measure(graph.OriginSelf, 2, 0, 500).
		measure(graph.Parallel, 30, 0, ms).measure(graph.Sequential, 10, 0, ms)
	if s = ShapeOf(&Sum{Details: m.details}); !near(s.OriginEdge, .5) || !near(s.OriginSelf, .25) || !near(s.Parallel, .75) {
		t.Errorf("%+v", s)
	}
}

// TV C.9: of a hundred calls at once, one at least is slower than their p99 in 63.4 % of the cases.
func TestAnySlow(t *testing.T) {
	for k, want := range map[float64]float64{1: .01, 2: .0199, 100: .634} {
		if got := AnySlow(.99, k); math.Abs(got-want) > 5e-4 {
			t.Errorf("of %v calls: %v, want %v", k, got, want)
		}
	}
	m := (&minute{}).measure(graph.Traces, 10, 0, 100*ms).measure(graph.Parallel, 1000, 0, ms)
	if s := ShapeOf(&Sum{Details: m.details}); !near(s.Together, 100) || math.Abs(s.AnySlow-.634) > 5e-4 {
		t.Errorf("%+v", s)
	}
	m = (&minute{}).measure(graph.Traces, 10, 0, 100*ms)
	if s := ShapeOf(&Sum{Details: m.details}); !math.IsNaN(s.AnySlow) {
		t.Errorf("where nothing is called together: %+v", s)
	}
}

func TestSoftDependency(t *testing.T) {
	for _, tt := range []struct {
		failed, withCaller int64
		soft               bool
	}{{20, 4, true}, {20, 5, false}, {19, 0, false}, {1000, 199, true}} {
		m := (&minute{}).measure(graph.Absorbed, tt.failed, tt.withCaller, ms)
		if s := ShapeOf(&Sum{Details: m.details}); s.Soft != tt.soft {
			t.Errorf("%d failed, their callers %d times as well: soft %v", tt.failed, tt.withCaller, s.Soft)
		}
	}
}

func TestRepeated(t *testing.T) {
	of := func(traces, repeated int64) []graph.Finding {
		return (&system{}).same(ab, func(m *minute) {
			m.calls(20*traces, graph.None, ms).measure(graph.Traces, traces, 0, 100*ms).measure(graph.Repeated, repeated, 0, 9*ms)
		}).judge()
	}
	expect(t, of(100, 30), "n_plus_one a→b")
	expect(t, of(100, 2))
	expect(t, of(100, 3)) // three percent
}

func TestDeep(t *testing.T) {
	k := edgeOf(graph.Node{Kind: graph.User}, service("a"))
	of := func(depth int64) []graph.Finding {
		return (&system{}).same(k, func(m *minute) { m.calls(10, graph.None, ms).measure(graph.Depth, 10, 0, depth) }).judge()
	}
	expect(t, of(4))
	found := of(5)
	expect(t, found, "deep_chain user→a")
	if found[0].Value != 5 || found[0].Level != graph.Note {
		t.Errorf("%+v", found[0])
	}
	depth := func(operation string) graph.DetailKey {
		return part(graph.EntryDepth, graph.ClientSide, graph.EntryName("a", operation))
	}
	found = (&system{}).same(k, func(m *minute) {
		m.calls(20, graph.None, ms).measure(graph.Depth, 10, 0, 2).measure(graph.Depth, 10, 0, 6).detail(depth("GET /"), 10, 0, 2).detail(depth("POST /buy"), 10, 0, 6)
	}).judge()
	expect(t, found, "deep_chain user→a")
	if !strings.HasPrefix(found[0].Sentence, "requests pass through up to 6 calls, one below the other, for POST /buy; 50 % of") {
		t.Errorf("%q", found[0].Sentence)
	}
}

func TestEntryPoints(t *testing.T) {
	a, b, c, d := service("a"), service("b"), service("c"), service("d")
	user := graph.Node{Kind: graph.User}
	entry := func(operation string) graph.DetailKey {
		return part(graph.Entry, graph.ClientSide, graph.EntryName("a", operation))
	}
	s := &system{}
	use := func(k graph.EdgeKey, traces, failed int64, more func(m *minute)) {
		s.same(k, func(m *minute) {
			m.calls(traces, graph.None, ms).detail(entry("GET /"), traces, failed, 10*ms)
			if more != nil {
				more(m)
			}
		})
	}
	depth := func(operation string) graph.DetailKey {
		return part(graph.EntryDepth, graph.ClientSide, graph.EntryName("a", operation))
	}
	use(edgeOf(user, a), 1000, 50, func(m *minute) {
		m.detail(entry("GET /rare"), 10, 0, ms).detail(depth("GET /"), 1000, 0, 3).detail(depth("GET /rare"), 10, 0, 7)
	})
	use(edgeOf(a, b), 1000, 10, nil)
	use(edgeOf(b, c), 500, 20, nil)                                                                // half of the traces, of which 4 % fail there
	use(edgeOf(a, d), 1000, 900, func(m *minute) { m.measure(graph.Absorbed, 900, 10, ms) })       // soft
	use(edgeOf(c, d), 5, 5, nil)                                                                   // hardly ever used
	use(graph.EdgeKey{Source: a, Target: ordersQueue, Protocol: graph.Messaging}, 1000, 1000, nil) // nobody waits
	// What one operation gets by without, another one may need: of either it counts what became of that itself, where
	// that was seen often enough.
	e := service("e")
	s.same(edgeOf(a, e), func(m *minute) {
		m.calls(200, graph.None, ms).measure(graph.Absorbed, 60, 30, ms)
		for operation, failed := range map[string][2]int64{"GET /with": {30, 3}, "GET /without": {30, 27}, "GET /seldom": {1, 1}} {
			name := graph.EntryName("a", operation)
			m.detail(entry(operation), 100, failed[0], ms).detail(part(graph.EntryFailed, graph.ClientSide, name), failed[0], failed[1], ms)
		}
	})
	points := EntryPoints(a, s.graph(noon, &Memory{}).Edges)
	for operation, want := range map[string]bool{"GET /with": true, "GET /without": false, "GET /seldom": false} {
		at := slices.IndexFunc(points, func(p EntryPoint) bool { return p.Operation == operation })
		if at < 0 {
			t.Fatalf("%s is not there: %+v", operation, points)
		}
		p := points[at]
		if got := slices.Contains(p.Soft, edgeOf(a, e).ID()); got != want || slices.Contains(p.Required, edgeOf(a, e).ID()) == want || want != (p.Availability == 1) {
			t.Errorf("%s: %+v", operation, p)
		}
		points = slices.Delete(points, at, at+1)
	}
	if len(points) != 2 {
		t.Fatalf("%+v", points)
	}
	p := points[0]
	required := []string{edgeOf(a, b).ID(), edgeOf(b, c).ID()}
	slices.Sort(required)
	if p.Operation != "GET /" || p.Depth != 3 || p.Traces != 5000 || !near(p.Availability, .99*.98) || !slices.Equal(p.Required, required) || !slices.Equal(p.Soft, []string{edgeOf(a, d).ID()}) {
		t.Errorf("%+v", p)
	}
	if p := points[1]; p.Operation != "GET /rare" || p.Depth != 7 || p.Availability != 1 || p.Traces != 50 {
		t.Errorf("%+v", p)
	}
}

// What became of an entry's own traces counts before what becomes of the edge's callers.
func TestSoftDependenciesOfAnEntry(t *testing.T) {
	for _, tt := range []struct {
		fails, absorbed int64
		edge, want      bool
	}{
		{0, 0, false, false},
		{0, 0, true, true},
		{20, 16, false, true},
		{20, 15, false, false},
		{20, 15, true, false},
		{1000, 1000, false, true},
		{19, 19, false, false},
		{19, 19, true, true},
		{5, 4, true, true},
		{5, 3, true, false},
	} {
		e := Entry{Fails: tt.fails, Absorbed: tt.absorbed}
		if got := e.soft(tt.edge); got != tt.want {
			t.Errorf("well in %d of %d, of an edge that is soft: %v: %v", tt.absorbed, tt.fails, tt.edge, got)
		}
	}
}

func TestDeploys(t *testing.T) {
	memory := &Memory{}
	at := noon
	round := func(versions map[string]int64, refused int64) []graph.Finding {
		s := (&system{processes: []graph.NodeRow{{Node: service("a"), Version: "7", Spans: 100}, {Node: service("b"), Version: "1.0", Spans: 100}}}).
			same(ab, func(m *minute) {
				for version, n := range versions {
					m.calls(n, graph.None, ms).detail(part(graph.Version, graph.ServerSide, version), n, 0, ms)
				}
				m.ClientErrors += refused
			})
		found := Judge(s.graph(at, memory))
		memory.Learned(at)
		at = at.Add(time.Minute)
		return found
	}
	for range 20 {
		expect(t, round(map[string]int64{"1.0": 1000}, 10)) // what is met first is no deploy
	}
	expect(t, round(map[string]int64{"1.0": 1000, "1.1": 40}, 10)) // not five percent yet
	found := round(map[string]int64{"1.0": 500, "1.1": 500}, 10)
	expect(t, found, "deploy b 1.1")
	if f := found[0]; f.Level != graph.Note || f.Value != .5 || f.N != 2500 {
		t.Errorf("%+v", f)
	}
	// The contract is broken by what came with it.
	expect(t, round(map[string]int64{"1.1": 1000}, 400), "contract a→b 1.1", "deploy b 1.1")
	for range 15 {
		round(map[string]int64{"1.1": 1000}, 10)
	}
	expect(t, round(map[string]int64{"1.1": 1000}, 10))
	expect(t, round(map[string]int64{"1.1": 1000}, 400)) // nothing was deployed: callers ask for what is not there
	expect(t, round(map[string]int64{"1.0": 1000}, 10))  // rolled back to what is known
}
