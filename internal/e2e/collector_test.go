//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var collectorBinary string // the collector under test

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if collectorBinary = os.Getenv("FAULTLINE_COLLECTOR"); collectorBinary != "" {
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "faultline-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		collectorBinary = filepath.Join(dir, "collector")
		if out, err := exec.CommandContext(context.Background(), "go", "build", "-o", collectorBinary, "faultline/cmd/collector").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the collector: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// client returns the path of a foreign client, or skips the test when it was not fetched.
func client(t *testing.T, path ...string) string {
	t.Helper()
	dir := os.Getenv("FAULTLINE_CLIENTS")
	file := filepath.Join(append([]string{dir}, path...)...)
	if _, err := os.Stat(file); dir == "" || err != nil {
		missing := fmt.Sprintf("no %s in FAULTLINE_CLIENTS=%q: run `make clients`", filepath.Join(path...), dir)
		if os.Getenv("FAULTLINE_REQUIRE_CLIENTS") == "1" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	return file
}

// A collector is a running one and where it listens. Start it again after Kill or Stop: addresses and data stay.
type collector struct {
	grpc, otlp, api string // host:port of OTLP/gRPC, OTLP/HTTP and of the API
	dir             string
	args            []string
	log             *os.File
	cmd             *exec.Cmd
	exited          chan error
}

// newCollector starts one with the given arguments and waits until it is ready. It is stopped when the test ends; its
// log is shown if the test failed.
func newCollector(t *testing.T, args ...string) *collector {
	t.Helper()
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{grpc: freeAddr(t), otlp: freeAddr(t), api: freeAddr(t), dir: filepath.Join(dir, "data"), args: args, log: log}
	t.Cleanup(func() {
		if c.cmd != nil {
			c.Kill()
		}
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("log of the collector:\n%s", text[max(0, len(text)-16<<10):])
		}
	})
	c.Start(t)
	return c
}

// Start starts the process and waits until it is ready. It returns how long that took.
func (c *collector) Start(t *testing.T) time.Duration {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), collectorBinary, c.args...)
	cmd.Env = append(os.Environ(),
		"FAULTLINE_OTLP_GRPC="+c.grpc, "FAULTLINE_OTLP_HTTP="+c.otlp, "FAULTLINE_HTTP="+c.api, "FAULTLINE_DATA_DIR="+c.dir)
	cmd.Stdout, cmd.Stderr = c.log, c.log
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.cmd, c.exited = cmd, make(chan error, 1)
	go func(exited chan<- error) { exited <- cmd.Wait() }(c.exited)
	eventually(t, 30*time.Second, 10*time.Millisecond, func() error {
		select {
		case err := <-c.exited:
			c.exited <- err
			t.Fatalf("the collector ended while it started: %v", err)
		default:
		}
		_, err := c.get("/readyz")
		return err
	})
	return time.Since(began)
}

// Kill ends the process at once, as a crash would, and waits for its end.
func (c *collector) Kill() {
	_ = c.cmd.Process.Kill()
	<-c.exited
	c.cmd = nil
}

// Stop asks the process to end and returns how it did and how long that took.
func (c *collector) Stop(t *testing.T) (time.Duration, error) {
	t.Helper()
	began := time.Now()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-c.exited:
		c.cmd = nil
		return time.Since(began), err
	case <-time.After(30 * time.Second):
		c.Kill()
		return time.Since(began), errors.New("did not end within 30 s of SIGTERM")
	}
}

// get asks the API; an answer other than 200 is an error.
func (c *collector) get(path string) ([]byte, error) {
	a, err := do(context.Background(), http.MethodGet, "http://"+c.api+path, nil)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, fmt.Errorf("GET %s: status %d: %.300s", path, a.status, a.body)
	}
	return a.body, nil
}

// What the API answers, as far as these tests look. A pointer is what may be null: not known.
type (
	node struct {
		ID        string
		Name      string
		Kind      string
		Health    string
		Rate      *float64
		ErrorRate *float64 `json:"error_rate"`
		P95       *float64 `json:"p95_ms"`
	}
	quantiles struct {
		P50 *float64 `json:"p50_ms"`
		P95 *float64 `json:"p95_ms"`
		P99 *float64 `json:"p99_ms"`
	}
	edge struct {
		quantiles
		ID           string
		Source       string
		Target       string
		Protocol     string
		Calls        float64
		Errors       float64
		Rate         *float64
		LogicalCalls float64 `json:"logical_calls"`
		Retries      float64
		Max          *float64 `json:"max_ms"`
		Server       quantiles
	}
	depGraph struct {
		From, To  time.Time
		Env       string
		Envs      []string
		Nodes     []node
		Edges     []edge
		Truncated bool
	}
)

// graph asks for the map of the last 15 minutes.
func (c *collector) graph() (*depGraph, error) {
	body, err := c.get("/api/v1/graph?from=now-15m&to=now")
	if err != nil {
		return nil, err
	}
	g := new(depGraph)
	if err := json.Unmarshal(body, g); err != nil {
		return nil, fmt.Errorf("decode the graph: %w: %.300s", err, body)
	}
	return g, nil
}

// edge returns the one edge between two nodes; an edge that is missing or stands twice is an error.
func (g *depGraph) edge(source, target string) (*edge, error) {
	var found *edge
	for i := range g.Edges {
		if e := &g.Edges[i]; e.Source == source && e.Target == target {
			if found != nil {
				return nil, fmt.Errorf("two edges %s → %s", source, target)
			}
			found = e
		}
	}
	if found == nil {
		return nil, fmt.Errorf("no edge %s → %s in %s", source, target, g)
	}
	return found, nil
}

// node returns the node with the given id.
func (g *depGraph) node(id string) (*node, error) {
	for i := range g.Nodes {
		if g.Nodes[i].ID == id {
			return &g.Nodes[i], nil
		}
	}
	return nil, fmt.Errorf("no node %s in %s", id, g)
}

// String lists the edges with their counts.
func (g *depGraph) String() string {
	var b strings.Builder
	b.WriteString("the graph:")
	for _, e := range g.Edges {
		fmt.Fprintf(&b, "\n  %s → %s (%s): %g calls, %g errors, %g retries", e.Source, e.Target, e.Protocol, e.Calls, e.Errors, e.Retries)
	}
	return b.String()
}

// A wantEdge is what an edge must show, exactly.
type wantEdge struct {
	source, target, protocol string
	calls, errors, retries   float64
}

// check compares the whole graph with the edges wanted: none may be missing, none too many.
func (g *depGraph) check(want []wantEdge) error {
	var errs []error
	for _, w := range want {
		e, err := g.edge(w.source, w.target)
		if err != nil {
			return err
		}
		if got := (wantEdge{e.Source, e.Target, e.Protocol, e.Calls, e.Errors, e.Retries}); got != w {
			errs = append(errs, fmt.Errorf("edge %+v, want %+v", got, w))
		}
	}
	if len(g.Edges) != len(want) {
		errs = append(errs, fmt.Errorf("%d edges, want %d; %s", len(g.Edges), len(want), g))
	}
	return errors.Join(errs...)
}

// within reports an error unless lo ≤ v ≤ hi; nil is not known, and so never within.
func within(what string, v *float64, lo, hi float64) error {
	if v == nil {
		return fmt.Errorf("%s is not known, want %g to %g", what, lo, hi)
	}
	if *v < lo || *v > hi {
		return fmt.Errorf("%s = %g, want %g to %g", what, *v, lo, hi)
	}
	return nil
}

// eventually calls f until it returns nil, and fails the test with f's last error when that takes too long.
func eventually(t *testing.T, timeout, every time.Duration, f func() error) {
	t.Helper()
	deadline := time.After(timeout)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("not within %v: %v", timeout, err)
		case <-tick.C:
		}
	}
}

// settled waits until f returns nil, at most 45 s, and then for as long as a half of a call may wait for its other half
// that f goes on doing so: what stays alone must not turn up as something new.
func settled(t *testing.T, f func() error) {
	t.Helper()
	eventually(t, 45*time.Second, 250*time.Millisecond, f)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(13 * time.Second); time.Now().Before(end); <-tick.C {
		if err := f(); err != nil {
			t.Fatalf("was as expected, and then: %v", err)
		}
	}
}

// freeAddr returns a loopback address where nothing listens.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// port returns the port of host:port.
func port(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// run starts a foreign program with extra environment and returns what it prints so far, on call. The program is ended
// with the test, its output shown if the test failed.
func run(t *testing.T, dir string, env []string, name string, arg ...string) (output func() string) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), name, arg...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	output = func() string {
		text, err := os.ReadFile(out.Name())
		if err != nil {
			t.Error(err)
		}
		return string(bytes.TrimSpace(text))
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = out.Close()
		if t.Failed() {
			text := output()
			t.Logf("output of %s:\n%s", filepath.Base(name), text[max(0, len(text)-4<<10):])
		}
	})
	return output
}

// An answer is an HTTP response, read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do makes a request; headers are given as name, value, name, value.
func do(ctx context.Context, method, url string, body []byte, header ...string) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	a := &answer{status: res.StatusCode, header: res.Header}
	a.body, err = io.ReadAll(res.Body)
	return a, err
}

// traces asks for the summaries of example traces and returns their ids.
func (c *collector) traces(t *testing.T, query url.Values) (ids []string) {
	t.Helper()
	body, err := c.get("/api/v1/traces?" + query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Traces []struct {
			TraceID string `json:"trace_id"`
		}
	}
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatalf("decode traces: %v: %.300s", err, body)
	}
	for _, trace := range list.Traces {
		ids = append(ids, trace.TraceID)
	}
	return ids
}
