package app

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"faultline/graph"
	"faultline/graph/doctor"
	"faultline/internal/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// feed puts calls from web to cart into the live graph: at once, or when it is flushed.
type feed struct {
	live *graph.Live

	slow    func() // what a tick of the engine waits for; nil: nothing
	mu      sync.Mutex
	waiting int
	ticks   int
	state   []byte
	renamed atomic.Pointer[string] // what the rules call the service cart
}

func (f *feed) call(n int) {
	names := f.live.Names()
	node := func(name string) graph.NodeRef { return names.Node(graph.Node{Kind: graph.Service, Name: name}) }
	now := time.Now()
	f.live.Observe([]graph.Call{{
		Edge: graph.EdgeRef{Source: node("web"), Target: node("cart"), Protocol: graph.HTTP},
		End:  now.UnixNano(), Duration: int64(time.Millisecond), Weight: 1, Calls: int16(n), Logical: int16(n), Timed: true,
	}})
}

func (f *feed) Tick(time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ticks++
}

func (f *feed) Flush(time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting > 0 {
		f.call(f.waiting)
		f.waiting = 0
	}
}

func (f *feed) Examples(time.Time) []graph.KeptTrace {
	if f.slow != nil {
		f.slow()
	}
	return nil
}

func (f *feed) Counters() graph.Counters { return graph.Counters{Received: 7, Accepted: 7} }
func (f *feed) Limits() map[string]int64 { return map[string]int64{"spans_in_flight": 7000} }

func (f *feed) State(now time.Time) map[string][]byte {
	data, err := doctor.Encode(f.Evidence(now)...)
	if err != nil {
		panic(err) // a bug
	}
	stated, err := graph.EncodeCriticality([]graph.StatedCriticality{{Service: graph.Node{Kind: graph.Service, Name: "cart"}, Criticality: graph.CriticalityHigh}})
	if err != nil {
		panic(err)
	}
	return map[string][]byte{"feed": []byte("learned"), doctor.StateKey: data, graph.CriticalityStateKey: stated}
}

func (f *feed) Restore(_ time.Time, state map[string][]byte) error {
	f.state = state["feed"]
	return nil
}

func (f *feed) Apply(_ time.Time, set *rules.Set) {
	_, name := set.Service("", "", "cart")
	f.renamed.Store(&name)
}

func (f *feed) Criticality(graph.Node) graph.Criticality { return graph.CriticalityHigh }

func (f *feed) Evidence(now time.Time) []doctor.Slot {
	return []doctor.Slot{{Start: now, Services: []doctor.Evidence{{
		Service: graph.Node{Kind: graph.Service, Name: "cart"}, Language: "go", Last: now, Counts: doctor.Counts{doctor.Spans: 40, doctor.NoInstance: 40, doctor.Chosen: 40},
	}}}}
}

func testConfig(dir string) Config {
	cfg := DefaultConfig()
	cfg.HTTP, cfg.DataDir, cfg.MemoryLimit = "127.0.0.1:0", dir, 0
	return cfg
}

// open makes and starts an App over a directory.
func open(t *testing.T, dir string) (*App, *feed) {
	t.Helper()
	f := &feed{}
	a, err := New(t.Context(), testConfig(dir), Settings{NewFeed: func(live *graph.Live) Feed {
		f.live = live
		return f
	}})
	if err != nil {
		t.Fatal(err)
	}
	a.Start()
	return a, f
}

func stop(t *testing.T, a *App) {
	t.Helper()
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
}

// get returns status and body of a path. Connections do not outlive it.
func get(t *testing.T, a *App, path string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// calls returns how many calls the map of the last hour shows on the edge from web to cart.
func calls(t *testing.T, a *App) int64 {
	t.Helper()
	status, body := get(t, a, "/api/v1/graph?from=now-1h")
	if status != http.StatusOK {
		t.Fatalf("graph: %d %s", status, body)
	}
	var g struct{ Edges []struct{ Calls int64 } }
	if err := json.Unmarshal([]byte(body), &g); err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	for _, e := range g.Edges {
		n += e.Calls
	}
	return n
}

// eventually waits for what other processes and goroutines do.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline.C:
			t.Fatal("still not: ", what)
		case <-tick.C:
		}
	}
}

func TestReadiness(t *testing.T) {
	a, _ := open(t, t.TempDir())
	if status, body := get(t, a, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "starting") {
		t.Errorf("before: %d %s", status, body)
	}
	if status, _ := get(t, a, "/healthz"); status != http.StatusOK {
		t.Errorf("healthz before: %d", status)
	}
	a.Ready(true)
	if status, body := get(t, a, "/readyz"); status != http.StatusOK {
		t.Errorf("after: %d %s", status, body)
	}
	a.Ready(false)
	if status, body := get(t, a, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "stopping") {
		t.Errorf("at the end: %d %s", status, body)
	}
	stop(t, a)
}

// What was observed is on the map at once, and after a restart; what still waited at the end counts as it is.
func TestRestartKeepsHistory(t *testing.T) {
	dir := t.TempDir()
	a, f := open(t, dir)
	f.call(2)
	if got := calls(t, a); got != 2 {
		t.Errorf("at once: %d calls, want 2", got)
	}
	f.waiting = 3
	stop(t, a)
	stop(t, a) // again

	a, f = open(t, dir)
	if got := calls(t, a); got != 5 {
		t.Errorf("after a restart: %d calls, want 5", got)
	}
	if string(f.state) != "learned" {
		t.Errorf("restored %q", f.state)
	}
	f.call(1)
	if got := calls(t, a); got != 6 {
		t.Errorf("and one more: %d calls, want 6", got)
	}
	eventually(t, "the feed's time passes", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.ticks > 0
	})
	stop(t, a)
}

func TestTwoAppsInOneProcess(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	a, fa := open(t, first)
	b, fb := open(t, second)
	fa.call(1)
	fb.call(2)
	if got := calls(t, a); got != 1 {
		t.Errorf("the first shows %d calls, want 1", got)
	}
	if got := calls(t, b); got != 2 {
		t.Errorf("the second shows %d calls, want 2", got)
	}
	if _, err := New(t.Context(), testConfig(first), Settings{NewFeed: func(live *graph.Live) Feed { return &feed{live: live} }}); err == nil ||
		!strings.Contains(err.Error(), first) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("two on one directory: %v", err)
	}
	stop(t, a)
	if got := calls(t, b); got != 2 {
		t.Errorf("after the first stopped, the second shows %d calls", got)
	}
	stop(t, b)
}

// Without a feed an App shows what another one writes, and leaves it alone.
func TestReaderBesideAWriter(t *testing.T) {
	dir := t.TempDir()
	if _, err := New(t.Context(), testConfig(dir), Settings{}); err == nil || !strings.Contains(err.Error(), "a collector makes it") {
		t.Errorf("without a store: %v", err)
	}
	writer, f := open(t, dir)
	reader, err := New(t.Context(), testConfig(dir), Settings{})
	if err != nil {
		t.Fatal(err)
	}
	reader.Start()
	if status, body := get(t, reader, "/readyz"); status != http.StatusOK {
		t.Errorf("readyz: %d %s", status, body)
	}
	f.call(4)
	eventually(t, "the reader sees what the writer wrote", func() bool { return calls(t, reader) == 4 })
	const finding = `"rule":"missing_instance_id"`
	if _, body := get(t, writer, "/api/v1/doctor"); !strings.Contains(body, finding) {
		t.Errorf("doctor: %s", body)
	}
	stop(t, writer)
	if _, body := get(t, reader, "/api/v1/doctor"); !strings.Contains(body, finding) {
		t.Errorf("doctor, of what the writer left: %s", body)
	}
	if got := calls(t, reader); got != 4 {
		t.Errorf("after the writer stopped: %d calls", got)
	}
	stop(t, reader)
	if reader, err = New(t.Context(), testConfig(dir), Settings{}); err != nil {
		t.Fatal(err)
	}
	reader.Start()
	if _, body := get(t, reader, "/api/v1/graph"); strings.Count(body, `"criticality":"high"`) != 2 { // the service and the edge
		t.Errorf("criticality, as the writer left it: %s", body)
	} else if strings.Count(body, `"biased":true`) != 2 {
		t.Errorf("bias, as the writer left it: %s", body)
	}
	stop(t, reader)
	writer, _ = open(t, dir)
	if got := calls(t, writer); got != 4 {
		t.Errorf("after the reader stopped: %d calls", got)
	}
	stop(t, writer)
}

// What New acquired before it failed is given back.
func TestNewFails(t *testing.T) {
	dir := t.TempDir()
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		name, want string
		change     func(*Config)
	}{
		{"port in use", "address already in use", func(c *Config) { c.HTTP = taken.Addr().String() }},
		{"invalid", "limits::edges", func(c *Config) { c.Limits.Edges = 0 }},
		{"ClickHouse", "not built yet", func(c *Config) { c.Storage = "clickhouse://h/d" }},
		{"directory that is a file", "not a directory", func(c *Config) {
			c.DataDir = filepath.Join(dir, "file", "data")
			if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := testConfig(dir)
			test.change(&cfg)
			_, err := New(t.Context(), cfg, Settings{NewFeed: func(live *graph.Live) Feed { return &feed{live: live} }})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %s", err, test.want)
			}
			a, _ := open(t, dir)
			stop(t, a)
		})
	}
}

func TestMemoryLimit(t *testing.T) {
	if os.Getenv("GOMEMLIMIT") != "" {
		t.Skip("GOMEMLIMIT is set, which wins")
	}
	before := debug.SetMemoryLimit(-1)
	cfg := testConfig(t.TempDir())
	cfg.MemoryLimit = 300 << 20
	a, err := New(t.Context(), cfg, Settings{NewFeed: func(live *graph.Live) Feed { return &feed{live: live} }})
	if err != nil {
		t.Fatal(err)
	}
	if got := debug.SetMemoryLimit(-1); got != 300<<20 {
		t.Errorf("the limit is %d", got)
	}
	stop(t, a) // without Start
	if got := debug.SetMemoryLimit(-1); got != before || before != math.MaxInt64 {
		t.Errorf("afterwards the limit is %d, before it was %d", got, before)
	}
}

// The status says which limits are in force: those of the way in too, and the memory limit that wins.
func TestLimitsInForce(t *testing.T) {
	before := debug.SetMemoryLimit(400 << 20) // as GOMEMLIMIT does
	defer debug.SetMemoryLimit(before)
	a, _ := open(t, t.TempDir()) // its own limit is none
	defer stop(t, a)
	_, body := get(t, a, "/api/v1/status")
	for _, want := range []string{`"memory_bytes":419430400`, `"spans_in_flight":7000`, `"edges":50000`, `"map_nodes":10000`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in %s", want, body)
		}
	}
}

func TestGarbageCollection(t *testing.T) {
	if os.Getenv("GOGC") != "" {
		t.Skip("GOGC is set, which wins")
	}
	percent := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	const before = 77
	defer debug.SetGCPercent(debug.SetGCPercent(before))
	a, err := New(t.Context(), testConfig(t.TempDir()), Settings{NewFeed: func(live *graph.Live) Feed { return &feed{live: live} }})
	if err != nil {
		t.Fatal(err)
	}
	if got := percent(); got != gcPercent {
		t.Errorf("it is %d %%", got)
	}
	stop(t, a) // without Start
	if got := percent(); got != before {
		t.Errorf("afterwards it is %d %%, before it was %d", got, before)
	}
}

// A tick that a stop finds in progress finishes, or, when it takes too long, is abandoned; either way what it should have
// written is kept, and the stop is a clean one.
func TestStopDuringATick(t *testing.T) {
	for _, test := range []struct {
		name     string
		budget   time.Duration // of the ticks' end
		failures int64
	}{
		{"finishes", time.Minute, 0},
		{"is abandoned", 3 * time.Second, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			began, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			f := &feed{slow: func() {
				once.Do(func() { close(began) })
				<-goOn
			}}
			a, err := New(t.Context(), testConfig(dir), Settings{NewFeed: func(live *graph.Live) Feed {
				f.live = live
				return f
			}})
			if err != nil {
				t.Fatal(err)
			}
			a.Start()
			f.call(3)
			<-began
			end := a.releases[len(a.releases)-1]
			if end.name != "ticks" {
				t.Fatalf("%s is undone first", end.name)
			}
			ctx, cancel := context.WithTimeout(t.Context(), test.budget)
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- end.do(ctx) }()
			if test.failures > 0 {
				time.AfterFunc(test.budget/2, func() { close(goOn) }) // after its share
			} else {
				time.AfterFunc(50*time.Millisecond, func() { close(goOn) })
			}
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			if s := a.engine.Status(); s.Failures != test.failures || s.Writes != 1-test.failures {
				t.Errorf("the tick: %d failures and %d batches, want %d and %d", s.Failures, s.Writes, test.failures, 1-test.failures)
			}
			stop(t, a)

			a, _ = open(t, dir)
			if got := calls(t, a); got != 3 {
				t.Errorf("after a restart: %d calls, want 3", got)
			}
			stop(t, a)
		})
	}
}

// A store that fails is said once, and once more when it is back; meanwhile pages and status live on.
func TestStatusSaysThatHistoryIsDelayed(t *testing.T) {
	a, f := open(t, t.TempDir())
	failing, cancel := context.WithCancel(t.Context())
	cancel()
	// The loop's own ticks would mend it at once.
	for _, r := range a.releases {
		if r.name == "ticks" {
			if err := r.do(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.call(1)
	if err := a.engine.Tick(failing, time.Now()); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	status, body := get(t, a, "/api/v1/status")
	if status != http.StatusOK || !strings.Contains(body, `"delayed_since":"20`) {
		t.Errorf("%d %s", status, body)
	}
	if got := calls(t, a); got != 1 {
		t.Errorf("%d calls", got)
	}
	stop(t, a)
}

func TestLogHasNoSecret(t *testing.T) {
	var log strings.Builder
	cfg := testConfig(t.TempDir())
	cfg.AuthToken = "marked-hid"
	a, err := New(t.Context(), cfg, Settings{
		NewFeed: func(live *graph.Live) Feed { return &feed{live: live} },
		Logger:  slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, a)
	if !strings.Contains(log.String(), "shorter than 16") || strings.Contains(log.String(), "marked") {
		t.Error(log.String())
	}
}

// A file of rules that is named and not there may be a slip of the pen; rules.yaml in the data directory need not be there.
func TestMissingRulesFileIsSaid(t *testing.T) {
	for _, name := range []string{"", "nowhere.yaml"} {
		var log strings.Builder
		cfg := testConfig(t.TempDir())
		cfg.Rules = name
		a, err := New(t.Context(), cfg, Settings{
			NewFeed: func(live *graph.Live) Feed { return &feed{live: live} },
			Logger:  slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		stop(t, a)
		if said := strings.Contains(log.String(), "rules file is not there"); said != (name != "") {
			t.Errorf("rules %q: the log says %q", name, log.String())
		}
	}
}
