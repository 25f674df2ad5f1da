package finding

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"faultline/graph"
	"faultline/internal/sketch"
)

func TestInferTimeout(t *testing.T) {
	around := func(n int, value int64, spread float64) *sketch.Sketch {
		r := rand.New(rand.NewPCG(uint64(value), 7))
		var s sketch.Sketch
		for range n {
			s.Add(value+int64(float64(value)*spread*r.Float64()), 1)
		}
		return &s
	}
	anywhere := &sketch.Sketch{}
	for i := range int64(100) {
		anywhere.Add((i+1)*100*ms, 1)
	}
	mixed := around(70, 2000*ms, .01)
	for i := range int64(30) {
		mixed.Add((i+1)*7*ms, 1)
	}
	for _, tt := range []struct {
		name string
		late *sketch.Sketch
		want float64 // ms
	}{
		{"too few", around(19, 2000*ms, .005), math.NaN()},
		{"just enough", around(20, 2000*ms, .005), 2000},
		{"exactly", around(100, 5000*ms, 0), 5000},
		{"a little later", around(100, 30_000*ms, .02), 30_000},
		{"one and a half", around(100, 1500*ms, .01), 1500},
		{"seven and a half", around(100, 750*ms, .01), 750},
		{"nothing round is near", around(1000, 1730*ms, .001), 1730},
		{"all over", anywhere, math.NaN()},
		{"most of them", mixed, 2000},
	} {
		got := InferTimeout(tt.late) / 1e6
		if math.IsNaN(tt.want) != math.IsNaN(got) || !math.IsNaN(got) && math.Abs(got-tt.want) > .02*tt.want {
			t.Errorf("%s: %v ms, want %v", tt.name, got, tt.want)
		}
		if tt.want != 1730 && !math.IsNaN(tt.want) && got != tt.want {
			t.Errorf("%s: %v ms is not taken for %v", tt.name, got, tt.want)
		}
	}
}

// The callee often works longer than its callers ever wait: they leave then.
func TestTimeoutByTruncation(t *testing.T) {
	var s graph.EdgeStats
	for i := range int64(2000) {
		s.Client.Add(min(i*ms, 1000*ms), 1)
		s.Server.Add(i*ms, 1)
	}
	if got := WaitingOf(&Sum{Stats: s, Length: time.Minute}).Timeout; got != 1e9 {
		t.Errorf("%v, want a second", got)
	}
	// So it does where each call leaves work behind, but then its callers do not all leave at one time.
	var after graph.EdgeStats
	for i := range int64(2000) {
		after.Client.Add(i*ms/2, 1)
		after.Server.Add(500*ms+i*ms, 1)
	}
	if got := WaitingOf(&Sum{Stats: after, Length: time.Minute}).Timeout; !math.IsNaN(got) {
		t.Errorf("%v where the callee goes on after it has answered", got)
	}
	s.Server = s.Client
	if got := WaitingOf(&Sum{Stats: s, Length: time.Minute}).Timeout; !math.IsNaN(got) {
		t.Errorf("%v where the callee takes no longer", got)
	}
}

func TestSnap(t *testing.T) {
	for v, want := range map[float64]float64{
		99e6: 100e6, 102.9e6: 100e6, 104e6: 104e6, 2.04e9: 2e9, 7.4e9: 7.5e9, 9.9e9: 10e9, 9.5e9: 9.5e9, .98e6: 1e6, 60e9: 60e9, 0: 0,
	} {
		if got := snap(v); !near(got, want) {
			t.Errorf("%v: %v, want %v", v, got, want)
		}
	}
}

func TestWaiting(t *testing.T) {
	// TV B.3: 50 calls a second of 0.2 s are ten in flight.
	s := Sum{Length: time.Minute, Stats: graph.EdgeStats{Calls: 3000, Busy: 3000 * 200 * ms}}
	if w := WaitingOf(&s); w.Concurrency != 10 {
		t.Errorf("%v in flight, want 10", w.Concurrency)
	}
	// TV C.4: the callee went on for 3.005 s.
	s = Sum{Length: 10 * time.Second, Details: map[graph.DetailKey]*graph.Detail{}}
	s.Stats.ServerCalls = 1
	s.Stats.Server.Add(4000*ms, 1)
	s.Details[graph.Wasted.Key()] = &graph.Detail{Calls: 1, Raw: 1, Latency: *sketchOf(3005 * ms)}
	if w := WaitingOf(&s); !near(w.WastedPerSecond, .3005) || !near(w.WastedShare, 3005./4000) || w.WastedCalls != 1 {
		t.Errorf("%+v", w)
	}
	if w := WaitingOf(&Sum{Length: time.Minute}); !math.IsNaN(w.WastedPerSecond) || !math.IsNaN(w.Max) || !math.IsNaN(w.Timeout) {
		t.Errorf("of nothing: %+v", w)
	}
}

func TestNoEvidentTimeout(t *testing.T) {
	stats := func(n, longest int64, timeouts int64) *graph.EdgeStats {
		s := &graph.EdgeStats{Calls: n, Raw: n}
		s.Client.Add(10*ms, n-1)
		s.Client.Add(longest, 1)
		s.Failures[graph.Timeout] = timeouts
		return s
	}
	for _, tt := range []struct {
		s    *graph.EdgeStats
		want bool
	}{
		{stats(1000, 30_000*ms, 0), true},
		{stats(999, 30_000*ms, 0), false},
		{stats(1000, 30_000*ms, 1), false},
		{stats(1000, 1000*ms, 0), true}, // a hundred times the p99
		{stats(1000, 400*ms, 0), false},
		{&graph.EdgeStats{Calls: 5000, Raw: 5000}, false}, // the caller is not seen
	} {
		if got := NoEvidentTimeout(tt.s); got != tt.want {
			t.Errorf("n=%d, longest %s, %d timeouts: %v", tt.s.Raw, time.Duration(tt.s.Client.Max()), tt.s.Failures[graph.Timeout], got)
		}
	}
	memory := &Memory{}
	memory.edge(ab.ID())
	memory.LookForTimeouts([]graph.EdgeRow{{Edge: ab, Stats: *stats(5000, 40_000*ms, 0)}}, noon)
	s := (&system{}).same(ab, func(m *minute) { m.calls(10, graph.None, 10*ms) })
	found := Judge(s.graph(noon, memory))
	expect(t, found, "no_timeout a→b")
	if found[0].Level != graph.Note {
		t.Errorf("%s where nothing has happened", found[0].Level)
	}
	// It matters where the callee had an incident in those days, whoever of its callers saw it.
	bad := (&system{}).same(ab, func(m *minute) { m.calls(10, graph.None, 10*ms) })
	bad.same(edgeOf(service("c"), service("b")), func(m *minute) { m.calls(100, graph.ServerError, 10*ms) })
	expect(t, Judge(bad.graph(noon, memory)), "no_timeout a→b", "server_error c→b")
	for days, want := range map[int]graph.Level{1: graph.Warn, 6: graph.Warn, 8: graph.Note} {
		later := Judge(s.graph(noon.AddDate(0, 0, days), memory))
		if len(later) != 1 || later[0].Level != want {
			t.Errorf("%d days after an incident of the callee: %+v", days, later)
		}
	}
	// A caller's breaker is no incident of the callee.
	memory = &Memory{}
	memory.edge(ab.ID())
	memory.LookForTimeouts([]graph.EdgeRow{{Edge: ab, Stats: *stats(5000, 40_000*ms, 0)}}, noon)
	guarded := (&system{}).same(ab, func(m *minute) { m.calls(10, graph.None, 10*ms).calls(100, graph.BreakerOpen, ms) })
	for _, f := range Judge(guarded.graph(noon, memory)) {
		if f.Rule == "no_timeout" && f.Level != graph.Note {
			t.Errorf("%s for a caller's breaker", f.Level)
		}
	}
	// Callers that all leave at one time have a timeout, whatever they say of it.
	cut := *stats(5000, 30_000*ms, 0)
	cut.Client.Add(30_000*ms, 99)
	cut.Server.Add(10*ms, 4900)
	cut.Server.Add(45_000*ms, 100)
	memory.LookForTimeouts([]graph.EdgeRow{{Edge: ab, Stats: cut}}, noon)
	expect(t, Judge(s.graph(noon, memory)))
	memory.LookForTimeouts([]graph.EdgeRow{{Edge: ab, Stats: *stats(5000, 40_000*ms, 2)}}, noon)
	expect(t, Judge(s.graph(noon, memory)))
}

func TestWastedWork(t *testing.T) {
	wasted := func(n, each int64) []graph.Finding {
		return (&system{}).same(ab, func(m *minute) { m.calls(600, graph.None, 100*ms).measure(graph.Wasted, n, 0, each) }).judge()
	}
	expect(t, wasted(10, 1000*ms), "wasted_work a→b")
	expect(t, wasted(10, 10*ms))
}

func TestGivesUpFirst(t *testing.T) {
	bc := edgeOf(service("b"), service("c"))
	of := func(above, below, attempts int64) []string {
		s := &system{}
		s.same(ab, func(m *minute) { m.calls(400, graph.None, 50*ms).calls(40, graph.Timeout, above*ms) })
		s.same(bc, func(m *minute) {
			m.calls(400, graph.None, 20*ms).calls(40*attempts, graph.Timeout, below*ms)
			m.retries(40*(attempts-1)).measure(graph.RetryGap, 40*(attempts-1), 40*(attempts-1), 37*ms)
		})
		var out []string
		for _, f := range s.judge() {
			if f.Rule == "gives_up_first" {
				out = append(out, names([]graph.Finding{f})...)
			}
		}
		return out
	}
	for _, tt := range []struct {
		above, below, attempts int64
		want                   bool
	}{
		{200, 150, 2, true}, {200, 300, 1, true}, {200, 150, 1, false}, {400, 150, 2, false}, {300, 150, 2, false},
	} {
		got := of(tt.above, tt.below, tt.attempts)
		if (len(got) == 1 && got[0] == "gives_up_first a→b c") != tt.want || len(got) > 1 {
			t.Errorf("%d ms above %d ms × %d: %q", tt.above, tt.below, tt.attempts, got)
		}
	}
}

func TestSaturation(t *testing.T) {
	memory := &Memory{}
	at := noon
	round := func(calls, latency int64) []graph.Finding {
		s := (&system{}).same(ab, func(m *minute) { m.calls(calls, graph.None, latency) })
		found := Judge(s.graph(at, memory))
		memory.Learned(at)
		at = at.Add(time.Minute)
		return found
	}
	for i := range int64(60) {
		expect(t, round(6000+100*(i%10), 100*ms)) // ten to eleven in flight go well
	}
	if c := memory.edge(ab.ID()).Ceiling; math.Abs(c-11.5) > .1 {
		t.Errorf("the ceiling is %v", c)
	}
	expect(t, round(1000, 500*ms))                                // slow under little load: it is something else
	expect(t, round(6800, 150*ms), "saturation a→b")              // no more calls than before, and slower
	expect(t, round(6900, 100*ms))                                // well again
	if c := memory.edge(ab.ID()).Ceiling; math.Abs(c-11.5) > .1 { // what went badly is no ceiling
		t.Errorf("the ceiling became %v", c)
	}
}

// Of a chain the edge is named whose callee is saturated, and not those who wait for it; of a circle all are.
func TestSaturationIsNamedWhereItIs(t *testing.T) {
	bc, ca := edgeOf(service("b"), service("c")), edgeOf(service("c"), service("a"))
	memory := &Memory{}
	at := noon
	round := func(latency int64, edges ...graph.EdgeKey) []graph.Finding {
		s := &system{}
		for _, k := range edges {
			s.same(k, func(m *minute) { m.calls(6000, graph.None, latency) })
		}
		found := Judge(s.graph(at, memory))
		memory.Learned(at)
		at = at.Add(time.Minute)
		return found
	}
	for range 60 {
		expect(t, round(100*ms, ab, bc, ca))
	}
	expect(t, round(150*ms, ab, bc), "saturation b→c")
	expect(t, round(150*ms, ab), "saturation a→b")
	expect(t, round(150*ms, ab, bc, ca), "saturation a→b", "saturation b→c", "saturation c→a")
}

func TestTimeoutIsSaidWithItsValue(t *testing.T) {
	s := (&system{}).same(ab, func(m *minute) { m.calls(400, graph.None, 50*ms).calls(40, graph.Timeout, 2010*ms) })
	found := s.judge()
	expect(t, found, "timeout a→b")
	const want = "9.1 % of the calls fail: no answer in time, callers wait 2 s, n=80 of 880"
	if len(found) == 1 && found[0].Sentence != want {
		t.Errorf("%q, want %q", found[0].Sentence, want)
	}
}
