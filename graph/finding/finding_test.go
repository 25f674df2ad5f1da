package finding

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"faultline/graph"
	"faultline/internal/sketch"
)

const ms = int64(time.Millisecond)

// noon is when the tests' last minute ends.
var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func service(name string) graph.Node { return graph.Node{Kind: graph.Service, Name: name} }

func edgeOf(source, target graph.Node) graph.EdgeKey {
	return graph.EdgeKey{Source: source, Target: target, Protocol: graph.HTTP}
}

var ab = edgeOf(service("a"), service("b"))

// minute is what one edge does in one minute.
type minute struct {
	graph.EdgeStats
	details map[graph.DetailKey]*graph.Detail
}

// calls adds n calls that take so long and fail in a class, None for those that are fine.
func (m *minute) calls(n int64, class graph.Failure, ns int64) *minute {
	m.Calls += n
	m.LogicalCalls += n
	m.Raw += n
	m.ServerCalls += n
	m.Busy += n * ns
	m.Client.Add(ns, n)
	m.Server.Add(ns, n)
	if class != graph.None {
		m.Errors += n
		m.RawErrors += n
		m.Failures[class] += n
		m.detail(graph.DetailKey{Dimension: graph.Caused, Side: graph.ClientSide, Name: graph.CauseOf(class).String()}, n, 0, ns)
	}
	return m
}

// retries makes n of the calls retries.
func (m *minute) retries(n int64) *minute {
	m.LogicalCalls -= n
	return m
}

// hedges makes n of the calls hedges.
func (m *minute) hedges(n int64) *minute {
	m.LogicalCalls -= n
	m.Hedges += n
	return m
}

// detail adds n observations of a value, of which some failed.
func (m *minute) detail(key graph.DetailKey, n, failed, value int64) *minute {
	if m.details == nil {
		m.details = map[graph.DetailKey]*graph.Detail{}
	}
	d := m.details[key]
	if d == nil {
		d = &graph.Detail{}
		m.details[key] = d
	}
	d.Calls += n
	d.Raw += n
	d.Errors += failed
	d.RawErrors += failed
	d.Latency.Add(value, n)
	return m
}

func (m *minute) measure(measure graph.Measure, n, failed, value int64) *minute {
	return m.detail(measure.Key(), n, failed, value)
}

func part(dimension graph.Dimension, side graph.Side, name string) graph.DetailKey {
	return graph.DetailKey{Dimension: dimension, Side: side, Name: name}
}

// system is edges over the minutes up to noon, with the processes of the services.
type system struct {
	minutes   [5]map[graph.EdgeKey]*minute
	processes []graph.NodeRow
}

// each has f fill in an edge's every minute; i counts up to 4, the last one.
func (s *system) each(k graph.EdgeKey, f func(i int, m *minute)) *system {
	for i := range s.minutes {
		if s.minutes[i] == nil {
			s.minutes[i] = map[graph.EdgeKey]*minute{}
		}
		if s.minutes[i][k] == nil {
			s.minutes[i][k] = &minute{}
		}
		f(i, s.minutes[i][k])
	}
	return s
}

// same has every minute be alike.
func (s *system) same(k graph.EdgeKey, f func(m *minute)) *system {
	return s.each(k, func(_ int, m *minute) { f(m) })
}

// graph returns the system as it is judged at a time.
func (s *system) graph(at time.Time, memory *Memory) *Graph {
	var windows []graph.Window
	from := at.Add(-5 * time.Minute)
	for i, edges := range s.minutes {
		w := graph.Window{Start: from.Add(time.Duration(i) * time.Minute), Length: time.Minute, Nodes: s.processes}
		for k, m := range edges {
			w.Edges = append(w.Edges, graph.EdgeRow{Edge: k, Stats: m.EdgeStats})
			for key, d := range m.details {
				w.Details = append(w.Details, graph.DetailRow{Edge: k, Key: key, Detail: *d})
			}
		}
		windows = append(windows, w)
	}
	return Gather(from, at, memory).Add(windows...).Graph("")
}

// judge returns what is found at noon, without a memory.
func (s *system) judge() []graph.Finding { return Judge(s.graph(noon, &Memory{})) }

// names returns findings as "rule source→target subject" or "rule node subject".
func names(found []graph.Finding) []string {
	var out []string
	for _, f := range found {
		name := f.Rule + " " + f.Node.ID()
		if f.Edge != (graph.EdgeKey{}) {
			name = f.Rule + " " + f.Edge.Source.ID() + "→" + f.Edge.Target.ID()
		}
		if f.Subject != "" {
			name += " " + f.Subject
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func expect(t *testing.T, found []graph.Finding, want ...string) {
	t.Helper()
	if got := names(found); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	for _, f := range found {
		if f.Sentence == "" || strings.Contains(f.Sentence, "?") || strings.Contains(f.Sentence, "%!") || !strings.Contains(f.Sentence, "n=") {
			t.Errorf("%s says %q", f.Rule, f.Sentence)
		}
		if f.N < fewest || math.IsNaN(f.Value) {
			t.Errorf("%s: value %v, n %d", f.Rule, f.Value, f.N)
		}
	}
}

// near reports whether two numbers are the same to four digits.
func near(a, b float64) bool {
	return a == b || math.Abs(a-b) <= 1e-4*math.Max(math.Abs(a), math.Abs(b))
}

// healthySystem returns services that call each other well at a rate per minute, with a bit of everything that is normal:
// a failed call now and then, a retry with back-off, instances in zones, traces, messages.
func healthySystem(rate int64, r *rand.Rand) *system {
	s := &system{}
	user, queue := graph.Node{Kind: graph.User}, graph.Node{Kind: graph.Queue, Name: "kafka/orders"}
	some := func(n int64) int64 { return n + r.Int64N(n/10+1) }
	call := func(k graph.EdgeKey) {
		s.same(k, func(m *minute) {
			n := some(rate)
			for range 20 {
				m.calls(max(n/20, 1), graph.None, 20*ms+r.Int64N(30*ms))
			}
			if n >= 1000 && r.IntN(2) == 0 { // fewer than one in a thousand
				m.calls(1, graph.ServerError, 20*ms).retries(1).measure(graph.RetryGap, 1, 0, 50*ms+r.Int64N(50*ms))
			}
			for i := range int64(4) {
				d := max(m.Calls/4, 1)
				name := fmt.Sprint(k.Target.Name, "-", i)
				m.detail(part(graph.Instance, graph.ServerSide, name), d, 0, 30*ms+r.Int64N(5*ms))
				m.detail(part(graph.Instance, graph.ClientSide, fmt.Sprint(k.Source.Name, "-", i)), d, 0, 0)
			}
			m.detail(part(graph.Version, graph.ServerSide, "1.0"), m.Calls, 0, 30*ms)
			m.measure(graph.Traces, m.Calls, 0, 200*ms).measure(graph.Critical, m.Calls, 0, 100*ms)
		})
	}
	call(edgeOf(user, service("a")))
	s.same(edgeOf(user, service("a")), func(m *minute) { m.measure(graph.Depth, rate, 0, 3) })
	call(ab)
	call(edgeOf(service("b"), service("c")))
	for _, k := range []graph.EdgeKey{
		{Source: service("b"), Target: queue, Protocol: graph.Messaging}, {Source: queue, Target: service("w"), Protocol: graph.Messaging},
	} {
		s.same(k, func(m *minute) {
			n := some(rate)
			m.calls(n, graph.None, 2*ms)
			m.Messages += n
			if k.Source == queue {
				m.measure(graph.Lag, n, 0, 20*ms+r.Int64N(20*ms)).detail(part(graph.Group, graph.ServerSide, "workers"), n, 0, 2*ms)
			}
		})
	}
	for _, name := range []string{"a", "b", "c", "w"} {
		for i := range 4 {
			s.processes = append(s.processes, graph.NodeRow{
				Node: service(name), Instance: fmt.Sprint(name, "-", i), Version: "1.0", Zone: fmt.Sprint("z", i%2), Host: fmt.Sprint("h", i), Spans: rate,
			})
		}
	}
	return s
}

// Healthy traffic names nothing, whether there is little or much of it, for as long as one likes.
func TestHealthy(t *testing.T) {
	for _, rate := range []int64{1, 2, 3, 5, 10, 19, 20, 21, 50, 100, 1000, 10_000} {
		t.Run(strconv.FormatInt(rate, 10), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(rate), 1))
			memory := &Memory{}
			for i := range 100 {
				at := noon.Add(time.Duration(i) * time.Minute)
				expect(t, Judge(healthySystem(rate, r).graph(at, memory)))
				memory.Learned(at)
			}
		})
	}
}

// Calls that are fine make nothing be found that was not, however many there are of them.
func TestFineCallsAlarmNobody(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		bad := func(i int, m *minute) {
			for range 3 {
				class := graph.Failure(1 + r.IntN(graph.NumFailures-1))
				m.calls(r.Int64N(1+r.Int64N(30)), class, 10*ms)
			}
			m.calls(60, graph.None, 10*ms)
			retries := r.Int64N(m.Calls / 2)
			m.retries(retries).measure(graph.RetryGap, retries, r.Int64N(retries+1), 5*ms*r.Int64N(10))
			for _, measure := range []graph.Measure{graph.UnsafeRetry, graph.RetryPushback, graph.Redelivery, graph.Hedge} {
				n := r.Int64N(4)
				m.measure(measure, n, r.Int64N(n+1), 10*ms)
			}
			for i := range 4 {
				n := r.Int64N(40)
				m.detail(part(graph.Instance, graph.ClientSide, fmt.Sprint("a-", i)), 25+n, n/(1+r.Int64N(8)), 0)
			}
		}
		r = rand.New(rand.NewPCG(seed, 2))
		before := (&system{}).each(ab, bad).judge()
		r = rand.New(rand.NewPCG(seed, 2))
		more := 1 + rand.New(rand.NewPCG(seed, 3)).Int64N(1000)
		after := (&system{}).each(ab, bad).same(ab, func(m *minute) { m.calls(more, graph.None, 10*ms) }).judge()
		known := map[graph.FindingKey]graph.Level{}
		for _, f := range before {
			known[f.Key()] = f.Level
		}
		for _, f := range after {
			if level, ok := known[f.Key()]; !ok || f.Level > level {
				t.Errorf("seed %d: %d calls that are fine brought up %s, %s: %q before", seed, more, f.Rule, f.Level, names(before))
			}
		}
	}
}

// What has been well for two minutes is not found any more, nor is a budget that was kept to in the last one.
func TestEndsSoon(t *testing.T) {
	faulty := func(until int) *system {
		return (&system{}).each(ab, func(i int, m *minute) {
			m.calls(1000, graph.None, 10*ms)
			if i < until {
				m.calls(300, graph.Refused, ms).retries(200).measure(graph.RetryGap, 200, 190, ms)
			}
		})
	}
	for until, want := range map[int][]string{
		5: {"no_backoff a→b", "refused a→b", "retries_do_not_help a→b", "retry_budget a→b"},
		4: {"no_backoff a→b", "refused a→b", "retries_do_not_help a→b"},
		3: nil,
	} {
		expect(t, faulty(until).judge(), want...)
	}
}

func TestFewEventsAlarmNobody(t *testing.T) {
	s := (&system{}).each(ab, func(i int, m *minute) {
		if i == 4 {
			m.calls(2, graph.TLS, ms).measure(graph.UnsafeRetry, 2, 2, ms).measure(graph.NestedRetries, 2, 2, 9).measure(graph.RetryPushback, 2, 2, ms)
		}
	})
	expect(t, s.judge())
}

func TestMemoryIsBounded(t *testing.T) {
	m := &Memory{}
	for i := range maxMemoirs + 10 {
		m.edge(strconv.Itoa(i)).Seen = noon.Add(time.Duration(i) * time.Millisecond)
	}
	m.edge("old").Seen = noon.Add(-2 * forgetAfter)
	m.Learned(noon)
	if _, old := m.Edges["old"]; old || len(m.Edges) != maxMemoirs || m.Edges["9"] != nil || m.Edges["10"] == nil {
		t.Errorf("%d edges", len(m.Edges))
	}
	known := map[string]time.Time{}
	for i := range 3 * maxVersions {
		remember(known, strconv.Itoa(i), noon.Add(time.Duration(i)))
	}
	if latest := strconv.Itoa(3*maxVersions - 1); len(known) != maxVersions || known[latest].IsZero() {
		t.Errorf("%q", slices.Sorted(maps.Keys(known)))
	}
}

func TestSay(t *testing.T) {
	for got, want := range map[string]string{
		percent(.48): "48 %", percent(.0123): "1.2 %", percent(0): "0 %", percent(1): "100 %", percent(.0991): "9.9 %", percent(.0996): "10 %", percent(.000123): "0.012 %", percent(2e-6): "under 0.01 %",
		count(2310): "2,310", count(0): "0", count(-1234567): "-1,234,567", count(999): "999",
		probability(2.4e-33): "< 1e-9", probability(.00031): "= 0.0003",
		figure(1.4812): "1.48", figure(64): "64", figure(.0312): "0.0312", figure(12345.6): "12,346",
		span(150e6): "150 ms", span(2.5e9): "2.5 s", span(180e9): "3 min", span(1500): "1.5 µs", span(math.Inf(1)): "for ever", span(9000e9): "2.5 h",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// sketchOf returns a sketch of values.
func sketchOf(values ...int64) *sketch.Sketch {
	var s sketch.Sketch
	for _, v := range values {
		s.Add(v, 1)
	}
	return &s
}
