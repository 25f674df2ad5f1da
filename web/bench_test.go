package web

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"faultline/graph"
	"faultline/internal/engine"
	"faultline/storage"
	"faultline/storage/sqlite"
)

// The day of the benchmarks: calls of 200 services over 1,000 connections, of which the last minutes are still in memory.
const (
	dayServices = 200
	dayEdges    = 1000
	dayLive     = 4 * time.Minute // observed call by call; what is older is written as windows
)

var (
	dayStart = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	dayNow   = dayStart.Add(24*time.Hour + 17*time.Minute + 34*time.Second)
)

// dayEdge is a connection: its calls per second and their latencies.
type dayEdge struct {
	key          graph.EdgeKey
	rate, median float64
	server       bool
}

func edgesOfDay() []dayEdge {
	r := rand.New(rand.NewPCG(1, 1))
	service := func(i int) graph.Node {
		return graph.Node{Env: "prod", Kind: graph.Service, Namespace: "shop", Name: fmt.Sprintf("service-%d", i)}
	}
	seen := map[graph.EdgeKey]bool{}
	var edges []dayEdge
	for len(edges) < dayEdges {
		e := dayEdge{
			key:    graph.EdgeKey{Source: service(r.IntN(dayServices)), Target: service(r.IntN(dayServices)), Protocol: graph.HTTP},
			rate:   math.Exp(r.NormFloat64() - .5),
			median: 1e6 * math.Exp(r.NormFloat64()+1),
			server: r.IntN(4) > 0,
		}
		if !e.server {
			e.key.Target = graph.Node{Env: "prod", Kind: graph.Database, Name: fmt.Sprintf("postgresql/db%d", r.IntN(dayServices))}
			e.key.Protocol = graph.DB
		}
		if !seen[e.key] {
			seen[e.key] = true
			edges = append(edges, e)
		}
	}
	return edges
}

// traffic makes the calls of a day in a live graph.
type traffic struct {
	live       *graph.Live
	now        time.Time // up to which calls were observed
	random     *rand.Rand
	edges      []dayEdge
	operations [3]graph.Label
	instances  [3]graph.Label
	version    graph.Label
}

func newTraffic(seed uint64, start time.Time) *traffic {
	t := &traffic{
		live: graph.NewLive(graph.DefaultLiveConfig(), seed<<32), // each writer's parts have numbers of their own
		now:  start, random: rand.New(rand.NewPCG(seed, seed)), edges: edgesOfDay(),
	}
	for i := range 3 {
		t.operations[i] = t.live.Names().NewLabel(fmt.Sprintf("GET /v1/thing-%d", i))
		t.instances[i] = t.live.Names().NewLabel(fmt.Sprintf("instance-%d", i))
	}
	t.version = t.live.Names().NewLabel("1.2.3")
	return t
}

// observe counts both halves of every call of the next window.
func (t *traffic) observe() {
	names, r, start := t.live.Names(), t.random, t.now
	t.now = start.Add(graph.WindowLength)
	var calls []graph.Call
	for i := range t.edges {
		e := &t.edges[i]
		ref := graph.EdgeRef{Source: names.Node(e.key.Source), Target: names.Node(e.key.Target), Protocol: e.key.Protocol}
		t.live.ObserveNode(graph.Process{Node: ref.Source, Instance: t.instances[i%3], Version: t.version}, 10, start.UnixNano())
		calls = calls[:0]
		for range int(10*e.rate*(.5+r.Float64())) + 1 {
			c := graph.Call{
				Edge: ref, End: start.UnixNano() + r.Int64N(int64(graph.WindowLength)), Duration: int64(e.median * math.Exp(r.NormFloat64()*.4)),
				Weight: 1, Calls: 1, Logical: 1, Timed: true, Operation: t.operations[r.IntN(3)],
			}
			if r.IntN(100) == 0 {
				c.Outcome, c.Failure, c.Errors, c.LogicalErrors = graph.Error, graph.ServerError, 1, 1
			}
			calls = append(calls, c)
			if e.server {
				c.Calls, c.Logical, c.Errors, c.LogicalErrors, c.Side, c.Duration = 0, 0, 0, 0, graph.ServerSide, c.Duration*9/10
				c.Instance, c.Version = t.instances[r.IntN(3)], t.version
				calls = append(calls, c)
			}
		}
		t.live.Observe(calls)
	}
}

// fillDay writes the windows of a day up to an end: a few minutes again and again, because observing every call of a day
// would take longer than all the rest.
func fillDay(b *testing.B, store storage.Store, end time.Time) {
	b.Helper()
	const round = 3 * time.Minute
	t := newTraffic(1, dayStart)
	for t.now.Before(dayStart.Add(round)) {
		t.observe()
	}
	sample := t.live.Cut(dayStart.Add(time.Hour))
	for at := dayStart; at.Before(end); at = at.Add(round) {
		var batch storage.Batch
		for _, p := range sample {
			if p.Start = p.Start.Add(at.Sub(dayStart)); p.Start.Before(end) {
				batch.Windows = append(batch.Windows, p)
			}
		}
		if err := store.Write(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		for i := range 3 {
			if err := store.Maintain(b.Context(), at.Add(time.Duration(i)*time.Minute)); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// dayDir holds a filled store for all benchmarks of a run, which copy it. FAULTLINE_BENCH_DIR keeps it for the next run.
var dayDir string

func openDay(b *testing.B, end time.Time) storage.Store {
	b.Helper()
	keep := os.Getenv("FAULTLINE_BENCH_DIR")
	if dayDir == "" && keep != "" {
		if _, err := os.Stat(filepath.Join(keep, "web", sqlite.File)); err == nil {
			dayDir = filepath.Join(keep, "web")
		}
	}
	open := func(dir string) *sqlite.Store {
		store, err := sqlite.Open(b.Context(), dir, storage.DefaultRetention())
		if err != nil {
			b.Fatal(err)
		}
		return store
	}
	if dayDir == "" {
		dir := filepath.Join(keep, "web")
		if keep == "" {
			var err error
			if dir, err = os.MkdirTemp("", "faultline-day"); err != nil { //nolint:usetesting // it outlives this benchmark
				b.Fatal(err)
			}
		}
		store := open(dir)
		fillDay(b, store, end)
		if err := store.Close(); err != nil {
			b.Fatal(err)
		}
		dayDir = dir
	}
	dir := filepath.Join(b.TempDir(), "day")
	if err := os.CopyFS(dir, os.DirFS(dayDir)); err != nil {
		b.Fatal(err)
	}
	store := open(dir)
	b.Cleanup(func() { _ = store.Close() })
	return store
}

// forgetDay removes what openDay made.
func forgetDay() {
	if dayDir != "" && os.Getenv("FAULTLINE_BENCH_DIR") == "" {
		_ = os.RemoveAll(dayDir)
	}
}

// noFeed is an engine's feed without traces.
type noFeed struct{}

func (noFeed) Examples(time.Time) []graph.KeptTrace       { return nil }
func (noFeed) State(time.Time) map[string][]byte          { return nil }
func (noFeed) Restore(time.Time, map[string][]byte) error { return nil }

// dayServer is a server over a real store with a day of windows, and over what is in memory at its end.
type dayServer struct {
	server  *Server
	traffic *traffic
	engine  *engine.Engine
}

func newDayServer(b *testing.B) *dayServer {
	b.Helper()
	start := floor(dayNow, time.Minute).Add(-dayLive)
	d := &dayServer{traffic: newTraffic(2, start)}
	store := openDay(b, start)
	d.engine = engine.New(engine.Settings{Config: engine.DefaultConfig(), Live: d.traffic.live, Feed: noFeed{}, Store: store})
	for d.traffic.now.Before(dayNow) {
		d.pass(b)
	}
	d.server = newServer(b, engine.NewView(store, d.traffic.live), func(s *Settings) {
		s.Now = func() time.Time { return d.traffic.now.Add(dayNow.Sub(ceil(dayNow, graph.WindowLength))) }
	})
	return d
}

// pass lets ten seconds pass.
func (d *dayServer) pass(b *testing.B) {
	b.Helper()
	d.traffic.observe()
	if err := d.engine.Tick(b.Context(), d.traffic.now); err != nil {
		b.Fatal(err)
	}
}

// timeRequests times whole requests, from the router to the last byte, with ten seconds of traffic from one to the next, so
// that what is cached is what would be. Beside the time on the clock, which other programs prolong, it reports the processor
// time of the first request, when nothing is cached, of the cheapest, and of the one in the middle.
func timeRequests(b *testing.B, s *dayServer, path string) {
	b.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://localhost"+path, nil).WithContext(context.Background())
	var used, took []float64
	var body bytes.Buffer
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		s.pass(b)
		b.StartTimer()
		w := httptest.NewRecorder()
		w.Body = &body
		body.Reset()
		before, begin := processorTime(b), time.Now()
		s.server.Handler().ServeHTTP(w, r)
		took = append(took, time.Since(begin).Seconds()*1e3)
		used = append(used, (processorTime(b)-before).Seconds()*1e3)
		if w.Code != http.StatusOK || w.Body.Len() < 500 {
			b.Fatalf("%d: %s", w.Code, w.Body)
		}
	}
	b.ReportMetric(used[0], "first-cpu-ms")
	b.ReportMetric(took[0], "first-ms")
	slices.Sort(used)
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2], "median-ms")
	b.ReportMetric(used[0], "min-cpu-ms")
	b.ReportMetric(used[len(used)/2], "median-cpu-ms")
}

// BenchmarkGraph15m asks for the map of the last quarter of an hour.
func BenchmarkGraph15m(b *testing.B) { timeRequests(b, newDayServer(b), "/api/v1/graph?from=now-15m") }

// BenchmarkGraph24h asks for the map of the last day.
func BenchmarkGraph24h(b *testing.B) { timeRequests(b, newDayServer(b), "/api/v1/graph?from=now-24h") }

// BenchmarkEdgePanel asks for what the panel of one edge shows.
func BenchmarkEdgePanel(b *testing.B) {
	s := newDayServer(b)
	path := "/api/v1/edges/" + edgesOfDay()[7].key.ID()
	for _, from := range []string{"15m", "24h"} {
		b.Run("edge/"+from, func(b *testing.B) { timeRequests(b, s, path+"?from=now-"+from) })
		b.Run("series/"+from, func(b *testing.B) { timeRequests(b, s, path+"/series?from=now-"+from) })
	}
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
