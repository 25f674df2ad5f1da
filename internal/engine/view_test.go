package engine

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"faultline/graph"
	"faultline/internal/sketch"
	"faultline/storage"
)

// fact is one thing that was observed, in terms that outlive a Live.
type fact struct {
	edge                         graph.EdgeKey
	call                         graph.Call
	operation, instance, version string
	spans                        int // of a node, when it is not a call
}

var testEdges = func() []graph.EdgeKey {
	var edges []graph.EdgeKey
	for _, env := range []string{"", "prod"} {
		node := func(name string) graph.Node { return graph.Node{Env: env, Kind: graph.Service, Name: name} }
		edges = append(edges,
			graph.EdgeKey{Source: node("web"), Target: node("cart"), Protocol: graph.HTTP},
			graph.EdgeKey{Source: node("cart"), Target: graph.Node{Env: env, Kind: graph.Database, Name: "redis@c"}, Protocol: graph.DB},
			graph.EdgeKey{Source: node("web"), Target: node("web"), Protocol: graph.GRPC})
	}
	return edges
}()

// randomFact returns something that was seen up to two and a half minutes before now.
func randomFact(rnd *rand.Rand, now time.Time) fact {
	late := time.Duration(rnd.ExpFloat64() * float64(10*time.Second))
	end := now.Add(-min(late, 150*time.Second)).UnixNano()
	f := fact{
		edge: testEdges[rnd.IntN(len(testEdges))], operation: fmt.Sprint("op", rnd.IntN(3)),
		instance: fmt.Sprint("i", rnd.IntN(3)), version: fmt.Sprint("v", rnd.IntN(2)),
	}
	if rnd.IntN(5) == 0 {
		f.spans, f.call.End = 1+rnd.IntN(9), end
		return f
	}
	c := &f.call
	c.End, c.Duration, c.Weight, c.Calls = end, rnd.Int64N(int64(20*time.Second)), int32(1+rnd.IntN(4)), 1
	c.Side, c.Timed = graph.Side(rnd.IntN(2)), rnd.IntN(8) > 0
	if rnd.IntN(2) == 0 {
		c.Logical = 1
	}
	if rnd.IntN(4) == 0 {
		c.Errors, c.Outcome, c.Failure = 1, graph.Error, graph.Timeout
	}
	return f
}

// observe puts a fact into a live graph.
func observe(live *graph.Live, f fact) {
	names := live.Names()
	if f.spans > 0 {
		live.ObserveNode(graph.Process{Node: names.Node(f.edge.Target), Instance: label(live, f.instance), Version: label(live, f.version)}, f.spans, f.call.End)
		return
	}
	c := f.call
	c.Edge = graph.EdgeRef{Source: names.Node(f.edge.Source), Target: names.Node(f.edge.Target), Protocol: f.edge.Protocol}
	c.Operation, c.Instance, c.Version = label(live, f.operation), label(live, f.instance), label(live, f.version)
	live.Observe([]graph.Call{c})
}

// label gives equal strings equal numbers, as the resource cache of an intake does.
func label(live *graph.Live, s string) graph.Label {
	labels.Lock()
	defer labels.Unlock()
	if labels.m[live] == nil {
		labels.m[live] = map[string]graph.Label{}
	}
	l, ok := labels.m[live][s]
	if !ok {
		l = live.Names().NewLabel(s)
		labels.m[live][s] = l
	}
	return l
}

var labels = struct {
	sync.Mutex
	m map[*graph.Live]map[string]graph.Label
}{m: map[*graph.Live]map[string]graph.Label{}}

// directSum answers a query from the facts alone: a live graph that never was cut has every window, once.
func directSum(facts []fact, q storage.Query) map[string]string {
	live := graph.NewLive(graph.DefaultLiveConfig(), 1)
	for _, f := range facts {
		observe(live, f)
	}
	from, to := q.From.Truncate(graph.WindowLength), q.To.Truncate(graph.WindowLength)
	fine, _ := live.Windows(from, to, false)
	coarse, _ := live.Windows(from, to, true)
	sums := map[string]*graph.Window{}
	for _, w := range append(fine, coarse...) {
		start, length := from, to.Sub(from)
		if q.Step > 0 {
			length = max(q.Step, w.Length)
			start = w.Start.Truncate(length)
		}
		key := fmt.Sprint(start.Unix(), length)
		if sums[key] == nil {
			sums[key] = &graph.Window{Start: start, Length: length}
		}
		s := sums[key]
		s.Edges, s.Details, s.Nodes = append(s.Edges, w.Edges...), append(s.Details, w.Details...), append(s.Nodes, w.Nodes...)
	}
	var windows []graph.Window
	for _, s := range sums {
		windows = append(windows, *s)
	}
	return flatten(windows, q)
}

// flatten sums windows into one line for each thing that is known, for comparison.
func flatten(windows []graph.Window, q storage.Query) map[string]string {
	edges, details, nodes := map[string]*graph.EdgeStats{}, map[string]*graph.Detail{}, map[string]int64{}
	wanted := func(e graph.EdgeKey) bool {
		return (!q.HasEnv || e.Env() == q.Env) && (q.Edges == nil || slices.Contains(q.Edges, e.ID()))
	}
	for _, w := range windows {
		at := fmt.Sprintf("%s +%s ", w.Start.Format(time.TimeOnly), w.Length)
		for i := range w.Edges {
			if r := &w.Edges[i]; q.Want&storage.WantEdges != 0 && wanted(r.Edge) {
				k := fmt.Sprint(at, r.Edge)
				if edges[k] == nil {
					edges[k] = &graph.EdgeStats{}
				}
				edges[k].Add(&r.Stats)
			}
		}
		for i := range w.Details {
			if r := &w.Details[i]; q.WantsDetails(r.Key.Dimension) && wanted(r.Edge) {
				k := fmt.Sprint(at, r.Edge, r.Key)
				if details[k] == nil {
					details[k] = &graph.Detail{}
				}
				details[k].Add(&r.Detail)
			}
		}
		for _, r := range w.Nodes {
			if q.Want&storage.WantNodes != 0 && (!q.HasEnv || r.Node.Env == q.Env) {
				nodes[fmt.Sprint(at, r.Node, r.Instance, r.Version)] += r.Spans
			}
		}
	}
	lines := map[string]string{}
	for k, s := range edges {
		if s.Zero() {
			continue
		}
		plain := *s
		plain.Client, plain.Server = graph.EdgeStats{}.Client, graph.EdgeStats{}.Server
		lines[k] = fmt.Sprintf("%+v client %s server %s", plain, latencies(&s.Client), latencies(&s.Server))
	}
	for k, d := range details {
		if d.Calls == 0 && d.Errors == 0 && d.Raw == 0 && d.RawErrors == 0 && d.Latency.Count() == 0 {
			continue
		}
		lines[k] = fmt.Sprint(d.Calls, d.Errors, d.Raw, d.RawErrors, latencies(&d.Latency))
	}
	for k, n := range nodes {
		lines[k] = strconv.FormatInt(n, 10)
	}
	return lines
}

// latencies writes a sketch, except for the smallest and largest value: taking one back does not tell what was next.
func latencies(s *sketch.Sketch) string {
	text := fmt.Sprint(s.Count(), " ", s.Sum())
	s.Buckets(func(_, upper float64, count int64) {
		if count != 0 {
			text += fmt.Sprintf(" %g:%d", upper, count)
		}
	})
	return text
}

// randomQuery asks for a part of the time between start and now, or a little more.
func randomQuery(rnd *rand.Rand, start, now time.Time) storage.Query {
	span := now.Sub(start) + 20*time.Second
	a, b := rnd.Int64N(int64(span)), rnd.Int64N(int64(span))
	q := storage.Query{
		From: start.Add(time.Duration(min(a, b))), To: start.Add(time.Duration(max(a, b))), Want: storage.Want(1 + rnd.IntN(7)),
		Step: []time.Duration{0, 0, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute}[rnd.IntN(6)],
	}
	if rnd.IntN(3) == 0 {
		q.From, q.To = start, now.Add(time.Minute)
	}
	if rnd.IntN(3) == 0 {
		q.Env, q.HasEnv = []string{"", "prod", "test"}[rnd.IntN(3)], true
	}
	if rnd.IntN(3) == 0 {
		q.Edges = []string{testEdges[rnd.IntN(len(testEdges))].ID(), "aaaaaaaaaaaaaaaa"}
	}
	if rnd.IntN(3) == 0 {
		q.Dimensions = []graph.Dimension{graph.Version, graph.Dimension(rnd.IntN(graph.NumDimensions))}
	}
	return q
}

// Whatever was observed, cut, kept, failed to be kept, killed and started again: at any moment a View answers what a
// direct sum over the facts does.
func TestViewIsTheDirectSum(t *testing.T) {
	seeds := uint64(4)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 1))
			start := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC).Add(time.Duration(rnd.IntN(3600)) * time.Second)
			first, now := start.Add(-150*time.Second), start
			dir := t.TempDir()
			failed, cancel := context.WithCancel(t.Context())
			cancel()

			var facts []fact
			kept := 0 // facts that a kill leaves
			p := newProcess(t, dir, start)
			for step := range 90 {
				switch action := rnd.IntN(100); {
				case action < 45:
					for range rnd.IntN(20) {
						f := randomFact(rnd, now)
						facts = append(facts, f)
						observe(p.live, f)
						if f.spans == 0 && rnd.IntN(10) == 0 { // and taken back, now or later
							f.call.Weight = -f.call.Weight
							facts = append(facts, f)
							observe(p.live, f)
						}
					}
				case action < 80:
					now = now.Add(time.Duration(1+rnd.IntN(20)) * time.Second)
					if err := p.engine.Tick(t.Context(), now); err != nil {
						t.Fatal(err)
					}
					kept = len(facts)
				case action < 90:
					now = now.Add(time.Second)
					_ = p.engine.Tick(failed, now) // fails when there is anything to write
				case action < 94: // stopped and started
					if err := p.engine.Flush(t.Context(), now); err != nil {
						t.Fatal(err)
					}
					p.close(t)
					now = now.Add(time.Second)
					p, kept = newProcess(t, dir, now), len(facts)
				case action < 97: // killed and started: what was not written is gone
					p.close(t)
					now = now.Add(time.Second)
					facts = facts[:kept]
					p = newProcess(t, dir, now)
				default:
					now = now.Add(time.Duration(rnd.IntN(300)) * time.Second)
				}
				q := randomQuery(rnd, first, now)
				got, err := p.view.Windows(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.IsSortedFunc(got, func(a, b graph.Window) int { return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Length, b.Length)) }) {
					t.Fatalf("step %d: windows in disorder", step)
				}
				if diff := gocmp.Diff(directSum(facts, q), flatten(got, q)); diff != "" {
					t.Fatalf("step %d at %s, %+v: direct(-) view(+):\n%.3000s", step, now, q, diff)
				}
			}
			if len(facts) == 0 || p.engine.Status().Writes == 0 && kept == 0 {
				t.Fatal("nothing happened")
			}
			p.close(t)
		})
	}
}

// A part is never seen twice, nor missed, while it moves from memory into the store and there from tier to tier.
func TestViewWhileTheEngineTicks(t *testing.T) {
	start := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	p := newProcess(t, t.TempDir(), start)
	var began, done atomic.Int64
	var clock atomic.Int64 // seconds since start
	var watch sync.RWMutex // queries against the clock: a query takes less than queryTime
	stop := make(chan struct{})
	var running sync.WaitGroup
	edge := testEdges[0]
	for range 2 {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				end := start.Add(time.Duration(clock.Load()) * time.Second).UnixNano()
				began.Add(1)
				observe(p.live, fact{edge: edge, call: graph.Call{End: end, Duration: 1, Weight: 1, Calls: 1, Timed: true}, operation: "op"})
				done.Add(1)
				runtime.Gosched()
			}
		})
	}
	for i := range 2 {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				q := storage.Query{From: start, To: start.Add(24 * time.Hour), Want: storage.WantEdges}
				if i == 1 {
					q.Want = storage.WantDetails
				}
				watch.RLock()
				atLeast := done.Load()
				windows, err := p.view.Windows(t.Context(), q)
				atMost := began.Load()
				watch.RUnlock()
				if err != nil {
					t.Error(err)
					return
				}
				var got int64
				for _, w := range windows {
					for i := range w.Edges {
						got += w.Edges[i].Stats.Calls
					}
					for i := range w.Details {
						if w.Details[i].Key.Dimension == graph.Operation {
							got += w.Details[i].Detail.Calls
						}
					}
				}
				if got < atLeast || got > atMost {
					t.Errorf("%d calls, want %d to %d", got, atLeast, atMost)
					return
				}
			}
		})
	}
	for second := range int64(150) {
		if second%20 == 0 {
			watch.Lock()
			watch.Unlock() //nolint:staticcheck // every query that began before has ended
		}
		clock.Store(second)
		if err := p.engine.Tick(t.Context(), start.Add(time.Duration(second)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	running.Wait()
	p.close(t)
}

func TestViewWithoutLiveIsTheStore(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	p := newProcess(t, t.TempDir(), now)
	observe(p.live, fact{edge: testEdges[0], call: graph.Call{End: now.UnixNano(), Duration: 1, Weight: 1, Calls: 1}})
	q := storage.Query{From: now, To: now.Add(time.Minute), Want: storage.WantEdges}
	alone := NewView(p.store, nil)
	if windows, err := alone.Windows(t.Context(), q); err != nil || len(windows) > 0 {
		t.Errorf("before it is stored: %v, %v", windows, err)
	}
	if err := p.engine.Tick(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if windows, err := alone.Windows(t.Context(), q); err != nil || len(windows) != 1 {
		t.Errorf("after: %v, %v", windows, err)
	}
	p.close(t)
}

func TestFloor(t *testing.T) {
	for _, test := range []struct {
		at   string
		step time.Duration
		want string
	}{
		{"12:34:56", time.Minute, "12:34:00"},
		{"12:34:56", 10 * time.Second, "12:34:50"},
		{"12:34:56", 5 * time.Minute, "12:30:00"},
		{"12:34:00", time.Minute, "12:34:00"},
	} {
		at, err := time.Parse(time.TimeOnly, test.at)
		if err != nil {
			t.Fatal(err)
		}
		at = at.AddDate(2026, 0, 0)
		if got := floor(at, test.step).Format(time.TimeOnly); got != test.want {
			t.Errorf("%s by %s: %s, want %s", test.at, test.step, got, test.want)
		}
	}
	if got := strings.TrimSpace(floor(time.Unix(3601, 0), time.Hour).String()); got != "1970-01-01 01:00:00 +0000 UTC" {
		t.Error(got)
	}
}

func TestUnique(t *testing.T) {
	a, b := graph.EdgeKey{Source: graph.Node{Name: "a"}}, graph.EdgeKey{Source: graph.Node{Name: "b"}}
	row := func(e graph.EdgeKey, d graph.Dimension, side graph.Side, name string) graph.DetailRow {
		return graph.DetailRow{Edge: e, Key: graph.DetailKey{Dimension: d, Side: side, Name: name}}
	}
	for name, test := range map[string]struct {
		rows []graph.DetailRow
		want bool
	}{
		"none":                    {nil, true},
		"other names":             {[]graph.DetailRow{row(a, graph.Operation, graph.ClientSide, "x"), row(a, graph.Operation, graph.ClientSide, "y")}, true},
		"one name, other edges":   {[]graph.DetailRow{row(a, graph.Operation, graph.ClientSide, "x"), row(b, graph.Operation, graph.ClientSide, "x")}, true},
		"one name, other sides":   {[]graph.DetailRow{row(a, graph.Operation, graph.ClientSide, "x"), row(a, graph.Operation, graph.ServerSide, "x")}, true},
		"one name, other lists":   {[]graph.DetailRow{row(a, graph.Instance, graph.ServerSide, "x"), row(a, graph.Version, graph.ServerSide, "x")}, true},
		"one name twice":          {[]graph.DetailRow{row(a, graph.Operation, graph.ClientSide, "x"), row(a, graph.Operation, graph.ClientSide, "x")}, false},
		"one name twice, further": {[]graph.DetailRow{row(a, graph.Entry, graph.ClientSide, "x"), row(a, graph.Entry, graph.ClientSide, "y"), row(a, graph.Entry, graph.ClientSide, "x")}, false},
	} {
		if got := unique(test.rows); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
