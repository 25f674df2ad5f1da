package web

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
	"faultline/web/layout"
)

// mapFrom returns a map with an edge for every pair of names.
func mapFrom(pairs ...string) graph.Map {
	node := func(name string) graph.Node { return graph.Node{Kind: graph.Service, Name: name} }
	w := graph.Window{Start: floor(testNow, time.Minute), Length: graph.WindowLength}
	for _, p := range pairs {
		w.Edges = append(w.Edges, graph.EdgeRow{
			Edge: graph.EdgeKey{Source: node(p[:1]), Target: node(p[1:]), Protocol: graph.HTTP}, Stats: callStats(1, 0, 0, 1, 0, true, true),
		})
	}
	return graph.BuildMap([]graph.Window{w}, w.Start, w.Start.Add(w.Length), "", false, nil)
}

func TestNeighbourhood(t *testing.T) {
	// A chain with a side way, a sibling of b's, a cycle back, and strangers.
	m := mapFrom("ab", "bc", "cd", "de", "bd", "xc", "xy", "ca", "bb", "pq")
	for _, test := range []struct {
		service      string
		depth        int
		nodes, edges []string
	}{
		{"b", 0, []string{"b"}, nil},
		{"b", 1, []string{"a", "b", "c", "d"}, []string{"ab", "bb", "bc", "bd"}},
		{"d", 1, []string{"b", "c", "d", "e"}, []string{"bd", "cd", "de"}},
		{"e", 2, []string{"b", "c", "d", "e"}, []string{"bd", "cd", "de"}},
		{"y", 9, []string{"x", "y"}, []string{"xy"}},
		{"p", 64, []string{"p", "q"}, []string{"pq"}},
		{"nobody", 3, nil, nil},
	} {
		nodes, edges := Neighbourhood{test.service, test.depth}.within(&m)
		var nodeIDs, pairs []string
		for _, i := range nodes {
			nodeIDs = append(nodeIDs, m.Nodes[i].ID)
		}
		for _, i := range edges {
			pairs = append(pairs, m.Edges[i].Key.Source.ID()+m.Edges[i].Key.Target.ID())
		}
		if diff := cmp.Diff(test.nodes, nodeIDs); diff != "" {
			t.Errorf("%s, %d: %s", test.service, test.depth, diff)
		}
		if diff := cmp.Diff(test.edges, pairs); diff != "" {
			t.Errorf("%s, %d: %s", test.service, test.depth, diff)
		}
	}
	if diff := cmp.Diff(Chain{Depth: 3, Downstream: 4, Upstream: 3}, chainOf(&m, "a")); diff != "" {
		t.Error(diff)
	}
}

func TestBusiest(t *testing.T) {
	edge := func(env string, n int64) graph.EdgeRow {
		return graph.EdgeRow{Edge: graph.EdgeKey{Source: graph.Node{Env: env, Kind: graph.User}, Target: graph.Node{Env: env, Kind: graph.Service, Name: "only-" + env}}, Stats: graph.EdgeStats{Calls: n}}
	}
	for _, test := range []struct {
		windows []graph.Window
		node    string
		env     string
		ok      bool
	}{
		{nil, "", "", false},
		{[]graph.Window{{Edges: []graph.EdgeRow{edge("a", 1), edge("b", 2)}}}, "", "b", true},
		{[]graph.Window{{Edges: []graph.EdgeRow{edge("b", 2), edge("a", 1)}}, {Edges: []graph.EdgeRow{edge("a", 2)}}}, "", "a", true},
		{[]graph.Window{{Edges: []graph.EdgeRow{edge("b", 2), edge("a", 2)}}}, "", "a", true},
		{[]graph.Window{{Edges: []graph.EdgeRow{edge("a", 1), edge("b", 2)}}}, "only-a", "a", true},
		{[]graph.Window{{Edges: []graph.EdgeRow{edge("a", 1), edge("b", 2)}}}, "only-c", "", false},
		{[]graph.Window{{Nodes: []graph.NodeRow{{Node: graph.Node{Env: "quiet"}}}}}, "", "quiet", true},
	} {
		if env, ok := busiest(test.windows, test.node); env != test.env || ok != test.ok {
			t.Errorf("%+v: %q %v", test, env, ok)
		}
	}
}

// TestPlaces checks that what stays stays in its place, and that looking back moves nothing.
func TestPlaces(t *testing.T) {
	var p places
	m := mapFrom("ab", "bc", "bd")
	first := p.of(&m, true)
	grown := mapFrom("ab", "bc", "bd", "be", "za")
	past := p.of(&grown, false)
	second := p.of(&grown, true)
	if diff := cmp.Diff(past, second); diff != "" {
		t.Errorf("looking back: %s", diff)
	}
	for id, at := range first {
		if second[id] != at {
			t.Errorf("%s moved from %v to %v", id, at, second[id])
		}
	}
	m = mapFrom("ab", "bc", "bd", "be")
	if third := p.of(&m, true); third["e"] != second["e"] {
		t.Errorf("e moved to %v", third["e"])
	}
	m = mapFrom("za")
	if fourth := p.of(&m, true); fourth["z"] != second["z"] {
		t.Errorf("z came back at %v", fourth["z"])
	}
	seen := map[layout.Position]bool{}
	for id, at := range second {
		if seen[at] {
			t.Errorf("%s stands on another", id)
		}
		seen[at] = true
	}
}

// TestBaselineIsShared checks that the live map and the answers judge alike, and do not ask for the same again.
func TestBaselineIsShared(t *testing.T) {
	s := newServer(t, shopStore(t))
	health := func(sp span) graph.Health {
		m, err := s.mapOf(context.Background(), sp, "prod", false)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(m.Edges, func(e graph.MapEdge) bool { return e.Key == checkoutPayment })
		if len(m.Edges[i].Reasons) != 3+len(m.Edges[i].Findings) {
			t.Errorf("reasons: %q", m.Edges[i].Reasons)
		}
		return m.Edges[i].Health
	}
	sp, err := s.spanOf("", "", defaultSpan, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := health(liveAt(testNow)), health(sp); a != graph.HealthCritical || b != a || len(s.baselines.maps) != 1 {
		t.Errorf("%s, %s, %d baselines", a, b, len(s.baselines.maps))
	}
	for i := range 3 * maxBaselines {
		if _, err := s.baselineOf(context.Background(), liveAt(testNow.Add(time.Duration(i)*time.Minute)), "prod"); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.baselines.maps); n > maxBaselines {
		t.Errorf("%d baselines", n)
	}
}

// TestUnknownIsNull checks the figures that must not be there.
func TestUnknownIsNull(t *testing.T) {
	edge := func(n int64, client, server bool) Edge {
		return newEdge(&graph.MapEdge{Key: checkoutPayment, Stats: callStats(n, 0, 0, time.Millisecond, time.Millisecond, client, server), Duration: time.Minute})
	}
	for _, test := range []struct {
		n                int64
		p50, p95, p99    bool
		client, server   bool
		max, serverShown bool
	}{
		{1, false, false, false, true, true, true, false},
		{2, true, false, false, true, true, true, true},
		{19, true, false, false, true, true, true, true},
		{20, true, true, false, true, false, true, false},
		{100, true, true, true, true, false, true, false},
		{100, false, false, false, false, true, false, true},
	} {
		e := edge(test.n, test.client, test.server)
		got := []bool{e.P50 != nil, e.P95 != nil, e.P99 != nil, e.Max != nil, e.Server.P50 != nil}
		if diff := cmp.Diff([]bool{test.p50, test.p95, test.p99, test.max, test.serverShown}, got); diff != "" {
			t.Errorf("%+v: %s", test, diff)
		}
		switch most := e.Server.Max; {
		case (most != nil) != test.server:
			t.Errorf("%+v: whether the callee's longest call is known", test)
		case most != nil && *most != float64(8*test.n)/10: // each call takes a millisecond longer than the one before
			t.Errorf("%+v: the callee's longest call took %v ms", test, *most)
		}
	}
	b, err := json.Marshal(newEdge(&graph.MapEdge{Key: checkoutPayment, Stats: graph.EdgeStats{ServerCalls: 3}}))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rate", "error_rate", "retry_rate", "amplification", "p50_ms", "max_ms", "concurrency", "slo", "anomaly", "messages"} {
		if v, ok := fields[name]; !ok || v != nil {
			t.Errorf("%s = %v, want null", name, v)
		}
	}
}

// fleet returns a store with a quarter of an hour of many edges, each called 5 times a second.
func fleet(b *testing.B, services, edges int) *testStore {
	b.Helper()
	s := newStore(b)
	random := rand.New(rand.NewPCG(1, 2))
	rows := make([]graph.EdgeRow, 0, edges)
	seen := map[graph.EdgeKey]bool{}
	node := func(i int) graph.Node {
		return graph.Node{Env: "prod", Kind: graph.Service, Namespace: "fleet", Name: fmt.Sprintf("service-%d", i)}
	}
	for len(rows) < edges {
		k := graph.EdgeKey{Source: node(random.IntN(services)), Target: node(random.IntN(services)), Protocol: graph.HTTP}
		if seen[k] {
			continue
		}
		seen[k] = true
		rows = append(rows, graph.EdgeRow{Edge: k, Stats: callStats(50, 20, graph.ServerError, time.Duration(1+random.IntN(100))*time.Millisecond, time.Millisecond, true, true)})
	}
	start := floor(testNow, time.Minute).Add(-20 * time.Minute)
	for at := start; at.Before(testNow); at = at.Add(graph.WindowLength) {
		s.add(graph.Window{Start: at, Length: graph.WindowLength, Edges: rows})
	}
	if err := s.Maintain(context.Background(), testNow.Add(2*time.Minute)); err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkGraph answers GET /api/v1/graph, from the request to the last byte.
func BenchmarkGraph(b *testing.B) {
	for _, size := range []struct{ services, edges int }{{200, 1000}, {2000, 10000}} {
		b.Run(fmt.Sprintf("edges=%d", size.edges), func(b *testing.B) {
			s := newServer(b, fleet(b, size.services, size.edges))
			r := httptest.NewRequest(http.MethodGet, "http://localhost/api/v1/graph?from=now-15m", nil)
			ask(b, s, "/api/v1/graph")
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				s.Handler().ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					b.Fatal(w.Code)
				}
				b.ReportMetric(float64(w.Body.Len()), "bytes")
			}
		})
	}
}

// BenchmarkGraphAfterStore is the part of BenchmarkGraph that comes after the store's answer.
func BenchmarkGraphAfterStore(b *testing.B) {
	s := newServer(b, fleet(b, 200, 1000))
	sp := span{From: floor(testNow, graph.WindowLength).Add(-15 * time.Minute), To: testNow}
	windows, err := s.windowsOf(context.Background(), sp)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		m, err := s.buildMap(context.Background(), windows, sp, "prod")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := json.Marshal(newGraph(&m, s.places.of(&m, true), Neighbourhood{})); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDelta makes the message of one push in which every edge changed.
func BenchmarkDelta(b *testing.B) {
	s := newServer(b, fleet(b, 200, 1000))
	v := newView(viewKey{anyEnv: true})
	var maps [2]graph.Map
	for i := range maps {
		m, err := s.mapOf(context.Background(), liveAt(testNow.Add(time.Duration(-i)*graph.WindowLength)), "prod", false)
		if err != nil {
			b.Fatal(err)
		}
		maps[i] = m
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m := &maps[i%2]
		v.update(testNow, m, s.places.of(m, true))
	}
}

func TestSignificantDigits(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 100_000 {
		v := math.Ldexp(r.Float64()-.5, r.IntN(80)-40)
		if v == 0 {
			continue
		}
		want := strconv.FormatFloat(v, 'g', 6, 64)
		if parsed, err := strconv.ParseFloat(want, 64); err != nil || significant(v) != parsed {
			t.Fatalf("significant(%v) = %v, want %s", v, significant(v), want)
		}
	}
	for v, want := range map[float64]float64{1e-30: 0, 1e300: 1e300, 999999.5: 1e6, -1234567: -1.23457e6, .1: .1, 1: 1} {
		if got := significant(v); got != want {
			t.Errorf("significant(%v) = %v, want %v", v, got, want)
		}
	}
}
