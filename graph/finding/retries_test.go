package finding

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"faultline/graph"
)

// Three layers of callers that make up to four attempts, each of which fails with a probability: what one call becomes on
// each edge, and one request along the path, by what is counted.
func TestAmplification(t *testing.T) {
	names := []string{"a", "b", "c", "d"}
	for _, tt := range []struct{ failing, one, three float64 }{
		{.1, 1.111, 1.371}, {.5, 1.875, 6.592}, {1, 4, 64}, // TVs C.2
		{0, 1, 1},
	} {
		const logical = 1000
		attempts := int64(0)
		for left, k := float64(logical), 0; k < 4; k++ {
			attempts += int64(left)
			left *= tt.failing
		}
		s := &system{}
		for i := range 3 {
			s.same(edgeOf(service(names[i]), service(names[i+1])), func(m *minute) {
				m.calls(attempts, graph.ServerError, ms).retries(attempts - logical)
			})
		}
		g := s.graph(noon, &Memory{})
		known := map[*Edge]float64{}
		for _, e := range g.Edges {
			want := map[string]float64{"b": tt.one, "d": tt.three}[e.Key.Target.Name]
			if got := g.amplified(e, known); want != 0 && math.Abs(got-want) > 1e-3 {
				t.Errorf("f=%v: %v attempts to %s, want %v", tt.failing, got, e.Key.Target.Name, want)
			}
		}
	}
}

// The layers' retries multiply: what four attempts make of one call at each of three layers is 64.
func TestAmplificationOfAPath(t *testing.T) {
	s := &system{}
	names := []string{"a", "b", "c", "d"}
	n := int64(10)
	for i := range 3 {
		n *= 4
		s.same(edgeOf(service(names[i]), service(names[i+1])), func(m *minute) {
			m.calls(n, graph.ServerError, ms).retries(n*3/4).measure(graph.RetryGap, n*3/4, n*3/4, 50*ms+int64(i)*ms)
		})
	}
	g := s.graph(noon, &Memory{})
	known := map[*Edge]float64{}
	want := map[string]float64{"b": 4, "c": 16, "d": 64}
	for _, e := range g.Edges {
		if got := g.amplified(e, known); !near(got, want[e.Key.Target.Name]) {
			t.Errorf("to %s: %v, want %v", e.Key.Target.Name, got, want[e.Key.Target.Name])
		}
	}
	for _, f := range Judge(g) {
		if f.Rule == "retry_budget" && f.Edge.Target.Name == "d" {
			const say = "retries add 300 % load: 4 attempts per call, n=640; with the retries of the layers above, 64 attempts for each request of a user"
			if f.Sentence != say || f.Level != graph.Severe || !near(f.Value, 3) {
				t.Errorf("%q, %s, %v", f.Sentence, f.Level, f.Value)
			}
		}
	}
	// Services that call each other in a circle come to an end.
	s.same(edgeOf(service("d"), service("a")), func(m *minute) { m.calls(40, graph.ServerError, ms).retries(30) })
	Judge(s.graph(noon, &Memory{}))
}

func TestRetryBudget(t *testing.T) {
	for _, tt := range []struct {
		attempts, retries int64
		spent             bool
	}{
		{49, 40, false}, {50, 40, true}, {50, 4, false}, {2310, 750, true}, {1000, 90, false}, {1000, 100, false}, {1000, 107, true}, {100_000, 9200, false}, {100_000, 9300, true},
	} {
		s := Sum{Stats: graph.EdgeStats{Calls: tt.attempts, LogicalCalls: tt.attempts - tt.retries, Raw: tt.attempts}}
		if r := RetryingOf(&s); r.BudgetExceeded != tt.spent {
			t.Errorf("%d of %d are retries: spent %v, lower bound %v", tt.retries, tt.attempts, r.BudgetExceeded, r.BudgetLower)
		}
		// Sampled spans do not become more certain by standing for many.
		s.Stats.Calls, s.Stats.LogicalCalls = 1000*s.Stats.Calls, 1000*s.Stats.LogicalCalls
		if r := RetryingOf(&s); r.BudgetExceeded != tt.spent {
			t.Errorf("sampled, %d of %d are retries: spent %v", tt.retries, tt.attempts, r.BudgetExceeded)
		}
	}
	// Hedges are no retries.
	hedges := (&system{}).same(ab, func(m *minute) { m.calls(100, graph.None, ms).hedges(50).measure(graph.Hedge, 50, 0, ms) })
	expect(t, hedges.judge(), "hedging a→b")
	// Nor are those that have not waited yet, and are not measured.
	late := (&system{}).each(ab, func(i int, m *minute) {
		m.calls(100, graph.None, ms).hedges(50).measure(graph.Hedge, 50-10*int64(i), 0, ms)
	})
	expect(t, late.judge(), "hedging a→b")
	// Nor are those of an edge's first calls, of which it is yet to be known what they are; later they are.
	for age, want := range map[time.Duration][]string{10 * time.Second: nil, 40 * time.Second: {"retry_budget a→b"}} {
		m := (&minute{}).calls(100, graph.None, ms).retries(50)
		w := graph.Window{Start: noon.Add(-age), Length: graph.WindowLength, Edges: []graph.EdgeRow{{Edge: ab, Stats: m.EdgeStats}}}
		expect(t, Judge(Gather(noon.Add(-5*time.Minute), noon, &Memory{}).Add(w).Graph("")), want...)
	}
}

// budgetAt judges at a time after noon the retries of an edge of whose attempts in the ten seconds from i·10 s after noon
// so many are none and are retries as of says.
func budgetAt(memory *Memory, at time.Duration, of func(i int) (first, retries int64)) []graph.Finding {
	now := noon.Add(at)
	from := now.Add(-time.Nanosecond).Truncate(time.Minute).Add(-4 * time.Minute)
	var windows []graph.Window
	for start := from; start.Before(now); start = start.Add(graph.WindowLength) {
		first, retries := of(int(start.Sub(noon) / graph.WindowLength))
		m := (&minute{}).calls(first+retries, graph.None, 10*ms).retries(retries)
		windows = append(windows, graph.Window{Start: start, Length: graph.WindowLength, Edges: []graph.EdgeRow{{Edge: ab, Stats: m.EdgeStats}}})
	}
	found := slices.DeleteFunc(Judge(Gather(from, now, memory).Add(windows...).Graph("")), func(f graph.Finding) bool { return f.Rule != "retry_budget" })
	memory.Learned(now)
	return found
}

// The budget is judged by the last minute, wherever in the minute of the clock that ends, and by nothing before it.
func TestRetryBudgetOfTheLastMinute(t *testing.T) {
	for _, tt := range []struct {
		attempts, retries int64
		spent             bool
	}{
		{49, 40, false},
		{50, 7, false},
		{50, 8, true},
		{60, 9, false},
		{60, 10, true},
		{100, 13, false},
		{100, 14, true},
		{1000, 105, false},
		{1000, 106, true},
		{60_000, 5569, false},
		{60_000, 5570, true},
	} {
		for shift := range 6 { // windows after noon in which the minute begins
			// All of it in one of the minute's windows, much of it before, and nothing after it.
			for in := range 6 {
				quiet := func(i int) (first, retries int64) {
					if i == shift+in {
						return tt.attempts - tt.retries, tt.retries
					}
					return 0, 0
				}
				at := time.Duration(shift+6) * graph.WindowLength
				found := budgetAt(&Memory{}, at, quiet)
				if spent := len(found) == 1; spent != tt.spent {
					t.Errorf("%d of %d, window %d of the minute that ends %s after noon: found %v", tt.retries, tt.attempts, in, at, found)
				} else if spent && (found[0].N != tt.attempts || !near(found[0].Value, float64(tt.retries)/float64(tt.attempts-tt.retries))) {
					t.Errorf("%d of %d: %v, n=%d", tt.retries, tt.attempts, found[0].Value, found[0].N)
				}
				if after := budgetAt(&Memory{}, at+time.Duration(in+1)*graph.WindowLength, quiet); len(after) != 0 {
					t.Errorf("%d of %d: a minute later %v", tt.retries, tt.attempts, after)
				}
				// Four minutes before that were well do not make it less.
				well := func(i int) (first, retries int64) {
					if i < shift {
						return 100_000, 0
					}
					return quiet(i)
				}
				if found := budgetAt(&Memory{}, at, well); (len(found) == 1) != tt.spent {
					t.Errorf("%d of %d after four minutes without: found %v", tt.retries, tt.attempts, found)
				}
			}
		}
	}
}

// A share of retries that is more than the budget allows, of few calls, and less by chance now and then, is one finding
// and hardly ever two; it ends within a minute and a half of the retries' end.
func TestRetryBudgetDoesNotFlap(t *testing.T) {
	const round = 10 * time.Second
	more := 0
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 4))
		by := map[int]int64{}
		for i := -30; i < 120; i++ { // 15 attempts a window, a fifth of them retries; none for a while; a few again
			for range 15 {
				switch {
				case i < 60 && r.IntN(5) == 0, i >= 90 && i < 96 && r.IntN(2) == 0:
					by[i]++
				}
			}
		}
		of := func(i int) (first, retries int64) { return 15 - by[i], by[i] }
		memory := &Memory{}
		open, opened, missed := false, 0, 0
		for i := 0; i <= 120; i++ {
			found := len(budgetAt(memory, time.Duration(i)*round, of)) > 0
			switch {
			case found && !open:
				open = true
				opened++
			case found:
				missed = 0
			case open:
				if missed++; missed == 3 { // as the judge's book has it
					open, missed = false, 0
				}
			}
			if open && (i > 60+9 && i < 90 || i > 96+18) {
				t.Errorf("seed %d: still open %s after noon", seed, time.Duration(i)*round)
			}
		}
		if opened < 2 {
			t.Errorf("seed %d: opened %d times, want 2", seed, opened)
		}
		more += opened - 2
	}
	if more > 2 {
		t.Errorf("opened %d times more than there were storms", more)
	}
}

func TestRetriesByName(t *testing.T) {
	gap := func(m *minute, n, failed int64, gaps ...int64) {
		for _, g := range gaps {
			m.measure(graph.RetryGap, n/int64(len(gaps)), failed/int64(len(gaps)), g)
		}
	}
	spread := []int64{40 * ms, 60 * ms, 80 * ms, 100 * ms, 120 * ms}
	for _, tt := range []struct {
		name string
		f    func(m *minute)
		want []string
	}{
		{"within the budget, helpful, jittered", func(m *minute) {
			m.calls(1000, graph.None, ms).retries(50)
			gap(m, 50, 5, spread...)
		}, nil},
		{"more than the budget", func(m *minute) {
			m.calls(1480, graph.None, ms).retries(480)
			gap(m, 480, 100, spread...)
		}, []string{"retry_budget a→b"}},
		{"they do not help", func(m *minute) {
			m.calls(1480, graph.None, ms).retries(480)
			gap(m, 480, 400, spread...)
		}, []string{"retries_do_not_help a→b", "retry_budget a→b"}},
		{"at once", func(m *minute) {
			m.calls(1000, graph.None, ms).retries(50)
			gap(m, 50, 5, ms)
		}, []string{"no_backoff a→b"}},
		{"no longer the second time", func(m *minute) {
			m.calls(1000, graph.None, ms).retries(50)
			gap(m, 50, 5, spread...)
			m.measure(graph.RetryGrowth, 20, 0, 1100)
		}, []string{"no_backoff a→b"}},
		{"twice as long the second time", func(m *minute) {
			m.calls(1000, graph.None, ms).retries(50)
			gap(m, 50, 5, spread...)
			m.measure(graph.RetryGrowth, 20, 0, 2000)
		}, nil},
		{"in step", func(m *minute) {
			m.calls(1000, graph.None, ms).retries(50)
			gap(m, 50, 5, 100*ms)
		}, []string{"no_jitter a→b"}},
		{"in step, and twice as long the second time", func(m *minute) {
			m.calls(1000, graph.None, ms).retries(60)
			gap(m, 40, 5, 100*ms)
			gap(m, 20, 5, 200*ms)
			m.measure(graph.RetryGrowth, 20, 0, 2000)
		}, []string{"no_jitter a→b"}},
		{"push-back ignored", func(m *minute) {
			m.calls(100, graph.None, ms).measure(graph.RetryPushback, 10, 4, ms)
		}, []string{"pushback_ignored a→b"}},
		{"push-back heeded", func(m *minute) { m.calls(100, graph.None, ms).measure(graph.RetryPushback, 10, 0, ms) }, nil},
		{"what must not be done twice", func(m *minute) { m.calls(100, graph.None, ms).measure(graph.UnsafeRetry, 2, 0, ms) }, []string{"unsafe_retry a→b"}},
		{"retried at several layers", func(m *minute) { m.calls(100, graph.None, ms).measure(graph.NestedRetries, 2, 2, 9) }, []string{"nested_retries a→b"}},
		{"delivered again", func(m *minute) { m.calls(100, graph.None, ms).measure(graph.Redelivery, 33, 0, ms) }, []string{"redelivery a→b"}},
		{"delivered again, once in a while", func(m *minute) { m.calls(10_000, graph.None, ms).measure(graph.Redelivery, 5, 0, ms) }, nil},
		{"redirects", func(m *minute) { m.calls(100, graph.None, ms).measure(graph.Resend, 50, 0, ms) }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) { expect(t, (&system{}).same(ab, tt.f).judge(), tt.want...) })
	}
}

// How long callers wait in all is beside how long they wait for one attempt, and not known where nothing was retried.
func TestRetriedCalls(t *testing.T) {
	s := (&system{}).same(ab, func(m *minute) {
		m.calls(90, graph.None, 10*ms).calls(10, graph.Refused, 40*ms).retries(12)
		m.measure(graph.RetriedCall, 3, 0, 100*ms).measure(graph.RetriedCall, 1, 1, 900*ms)
	})
	r := RetryingOf(&s.graph(noon, &Memory{}).Edges[0].Sum)
	if r.Retried != 20 || r.RetriedFailed != 5 || r.RetriedN != 20 {
		t.Errorf("%d calls, %d failed, n=%d", r.Retried, r.RetriedFailed, r.RetriedN)
	}
	for _, tt := range []struct{ got, want float64 }{
		{r.RetriedP50, 100e6}, {r.RetriedP95, 900e6}, {r.AttemptP50, 10e6}, {r.AttemptP95, 40e6},
	} {
		if math.Abs(tt.got-tt.want) > .022*tt.want { // a bucket's width
			t.Errorf("%v ns, want %v", tt.got, tt.want)
		}
	}
	if r := RetryingOf(&Sum{}); r.Retried != 0 || !math.IsNaN(r.RetriedP50) || !math.IsNaN(r.RetriedP95) || !math.IsNaN(r.AttemptP50) {
		t.Errorf("of nothing %+v", r)
	}
}

func TestUnsafeRetryThatWasCarriedOut(t *testing.T) {
	s := (&system{}).same(ab, func(m *minute) { m.calls(100, graph.None, ms).measure(graph.UnsafeRetry, 3, 2, ms) })
	for _, f := range s.judge() {
		if f.Level != graph.Severe || f.N != 15 {
			t.Errorf("%+v", f)
		}
	}
}

func TestJitter(t *testing.T) {
	detail := func(values ...int64) *graph.Detail {
		d := &graph.Detail{}
		for _, v := range values {
			d.Calls++
			d.Latency.Add(v, 1)
		}
		return d
	}
	if j := jitter(detail(), detail()); !math.IsNaN(j) {
		t.Errorf("without gaps %v", j)
	}
	var uniform []int64
	for i := range int64(1000) {
		uniform = append(uniform, 50*ms+i*ms/10) // 50 to 150 ms
	}
	if j := jitter(detail(uniform...), detail()); math.Abs(j-.5/interquartile) > .02 {
		t.Errorf("evenly spread %v, want %v", j, .5/interquartile)
	}
	for _, gap := range []int64{11 * ms, 100 * ms, 333 * ms, 1000 * ms} {
		t.Run(strconv.FormatInt(gap/ms, 10), func(t *testing.T) {
			var near []int64
			for i := range int64(100) {
				near = append(near, gap+gap*(i-50)/5000) // one percent up and down
			}
			if j := jitter(detail(near...), detail()); j >= noJitter {
				t.Errorf("in step: %v", j)
			}
		})
	}
}
