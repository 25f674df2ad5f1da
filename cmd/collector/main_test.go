package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// runMain makes the test's own executable be the collector.
const runMain = "FAULTLINE_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// collector is a process with addresses and a directory of its own.
type collector struct {
	http, grpc, otlp, dir string
	cmd                   *exec.Cmd
	out, err              *syncBuffer
	exited                chan error
}

// syncBuffer is a buffer that a process writes to while a test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// freeAddr returns an address that nothing listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func newCollector(t *testing.T) *collector {
	c := &collector{http: freeAddr(t), grpc: freeAddr(t), otlp: freeAddr(t), dir: filepath.Join(t.TempDir(), "data"), out: &syncBuffer{}, err: &syncBuffer{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("stdout:\n%s\nstderr:\n%s", c.out.String(), c.err.String())
		}
	})
	return c
}

// start runs the collector; the test ends it if need be.
func (c *collector) start(t *testing.T, args ...string) {
	t.Helper()
	c.out, c.err = &syncBuffer{}, &syncBuffer{}
	c.cmd = exec.CommandContext(context.Background(), os.Args[0], args...) // which the test ends itself
	c.cmd.Env = append(os.Environ(), runMain+"=1", "FAULTLINE_HTTP="+c.http, "FAULTLINE_OTLP_GRPC="+c.grpc,
		"FAULTLINE_OTLP_HTTP="+c.otlp, "FAULTLINE_DATA_DIR="+c.dir)
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.err
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func(cmd *exec.Cmd) { exited <- cmd.Wait() }(c.cmd)
	c.exited = exited
	process := c.cmd.Process
	t.Cleanup(func() { _ = process.Kill() })
}

// wait returns the exit code, or fails the test after a while.
func (c *collector) wait(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-c.exited:
		return c.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		t.Fatalf("still running after %s", within)
		return 0
	}
}

// terminate stops the collector as a service manager does.
func (c *collector) terminate(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := c.wait(t, 10*time.Second); code != 0 {
		t.Fatalf("exit code %d\n%s", code, c.err.String())
	}
}

func (c *collector) kill(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.wait(t, 10*time.Second)
}

// get returns status and body, 0 when nobody answers.
func (c *collector) get(path string) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.http+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// ready waits until the collector says that it is.
func (c *collector) ready(t *testing.T) {
	t.Helper()
	eventually(t, "ready", func() bool {
		select {
		case err := <-c.exited:
			t.Fatalf("ended: %v\n%s", err, c.err.String())
		default:
		}
		status, _ := c.get("/readyz")
		return status == http.StatusOK
	})
}

type edge struct {
	Source, Target, Protocol    string
	Calls, Errors, LogicalCalls int64
}

// edges returns the map of the last hour.
func (c *collector) edges(t *testing.T) []edge {
	t.Helper()
	status, body := c.get("/api/v1/graph?from=now-1h")
	if status != http.StatusOK {
		t.Fatalf("graph: %d %s", status, body)
	}
	var g struct{ Edges []edge }
	if err := json.Unmarshal([]byte(body), &g); err != nil {
		t.Fatal(err)
	}
	return g.Edges
}

// calls returns the calls from web to cart.
func (c *collector) calls(t *testing.T) (n int64) {
	t.Helper()
	for _, e := range c.edges(t) {
		if e.Source == "web" && e.Target == "cart" {
			n += e.Calls
		}
	}
	return n
}

// eventually waits for what another process does.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline.C:
			t.Fatal("still not: ", what)
		case <-tick.C:
		}
	}
}

// service returns a tracer of the OpenTelemetry SDK and what sends its spans off.
func service(t *testing.T, name string, client otlptrace.Client) (tracer trace.Tracer, flush func()) {
	t.Helper()
	exporter, err := otlptrace.New(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", name))))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	return provider.Tracer("test"), func() {
		t.Helper()
		if err := provider.ForceFlush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// call makes n calls from web to cart, each with both halves, sent by one exporter each.
func (c *collector) call(t *testing.T, n int) {
	t.Helper()
	web, flushWeb := service(t, "web", otlptracegrpc.NewClient(otlptracegrpc.WithEndpoint(c.grpc), otlptracegrpc.WithInsecure()))
	cart, flushCart := service(t, "cart", otlptracehttp.NewClient(otlptracehttp.WithEndpoint(c.otlp), otlptracehttp.WithInsecure(),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression)))
	for range n {
		ctx, root := web.Start(t.Context(), "GET /", trace.WithSpanKind(trace.SpanKindServer))
		ctx, client := web.Start(ctx, "GET", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
			attribute.String("http.request.method", "GET"), attribute.String("server.address", "cart")))
		_, server := cart.Start(ctx, "GET /items", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
			attribute.String("http.request.method", "GET"), attribute.Int("http.response.status_code", 200)))
		server.End()
		client.End()
		root.End()
	}
	flushWeb()
	flushCart()
}

// Spans of real SDKs over both protocols become an edge, which is there after a stop, a kill and a reload.
func TestSpansToMap(t *testing.T) {
	c := newCollector(t)
	c.start(t)
	c.ready(t)
	for _, want := range []string{"http://" + c.http, c.grpc, "http://" + c.otlp} {
		eventually(t, "banner with "+want, func() bool { return strings.Contains(c.out.String(), want) })
	}
	if got := listeners(t, c.cmd.Process.Pid); runtime.GOOS == "linux" && got != 3 {
		t.Errorf("listens on %d ports, want 3", got)
	}
	c.call(t, 10)
	eventually(t, "10 calls from web to cart", func() bool { return c.calls(t) == 10 })
	if status, body := c.get("/api/v1/traces?limit=10"); status != http.StatusOK {
		t.Errorf("traces: %d %s", status, body)
	}
	c.terminate(t)

	c.start(t)
	c.ready(t)
	if got := c.calls(t); got != 10 {
		t.Errorf("after a stop: %d calls, want 10", got)
	}
	c.call(t, 5)
	c.terminate(t) // at once: what was acknowledged is flushed

	c.start(t)
	c.ready(t)
	if got := c.calls(t); got != 15 {
		t.Errorf("after spans and a stop: %d calls, want 15", got)
	}
	c.call(t, 3)
	eventually(t, "18 calls", func() bool { return c.calls(t) == 18 })
	written := time.Now()
	eventually(t, "it is on disk", func() bool {
		_, body := c.get("/api/v1/status")
		var s struct {
			Store struct {
				LastWrite time.Time `json:"last_write"`
			}
		}
		return json.Unmarshal([]byte(body), &s) == nil && s.Store.LastWrite.After(written) || time.Since(written) > 3*time.Second
	})
	c.kill(t)

	began := time.Now()
	c.start(t)
	c.ready(t)
	t.Logf("ready %s after a kill", time.Since(began).Round(time.Millisecond))
	if got := c.calls(t); got != 18 {
		t.Errorf("after a kill: %d calls, want 18", got)
	}

	if text := c.err.String(); text != "" {
		t.Errorf("not quiet:\n%s", text)
	}
	var last time.Time
	eventually(t, "a second banner", func() bool { // every component is stopped and started
		if time.Since(last) > 3*time.Second { // a signal before the Collector minds it is as good as none
			last = time.Now()
			if err := c.cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}
		return strings.Count(c.out.String(), "UI and API") > 1
	})
	c.ready(t)
	c.call(t, 2)
	eventually(t, "20 calls", func() bool { return c.calls(t) == 20 })
	c.terminate(t)
}

// What was acknowledged before a SIGTERM is there after the next start, and nothing is there twice.
func TestTerminatedUnderLoad(t *testing.T) {
	c := newCollector(t)
	var acked, unknown atomic.Int64
	for range 3 {
		c.start(t)
		c.ready(t)
		before := acked.Load()
		stop := make(chan struct{})
		var senders sync.WaitGroup
		for range 4 {
			senders.Go(func() {
				client := http.Client{Transport: &http.Transport{}, Timeout: 5 * time.Second}
				defer client.CloseIdleConnections()
				for {
					select {
					case <-stop:
						return
					default:
					}
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.otlp+"/v1/traces", bytes.NewReader(oneCall(t)))
					if err != nil {
						t.Error(err)
						return
					}
					req.Header.Set("Content-Type", "application/x-protobuf")
					resp, err := client.Do(req)
					switch {
					case errors.Is(err, syscall.ECONNREFUSED): // not taken
					case err != nil:
						unknown.Add(1)
					default:
						resp.Body.Close()
						if resp.StatusCode == http.StatusOK {
							acked.Add(1)
						}
					}
				}
			})
		}
		eventually(t, "some load", func() bool { return acked.Load() > before+200 })
		c.terminate(t)
		close(stop)
		senders.Wait()
	}
	c.start(t)
	c.ready(t)
	if got := c.calls(t); got < acked.Load() || got > acked.Load()+unknown.Load() {
		t.Errorf("%d calls, want %d to %d", got, acked.Load(), acked.Load()+unknown.Load())
	}
	c.terminate(t)
}

// oneCall returns a request with both halves of a call from web to cart.
func oneCall(t *testing.T) []byte {
	t.Helper()
	traces := ptrace.NewTraces()
	now := time.Now()
	var traceID pcommon.TraceID
	var client, server pcommon.SpanID
	for _, id := range [][]byte{traceID[:], client[:], server[:]} {
		if _, err := rand.Read(id); err != nil {
			t.Error(err)
		}
	}
	half := func(service string, id, parent pcommon.SpanID, kind ptrace.SpanKind) {
		spans := traces.ResourceSpans().AppendEmpty()
		spans.Resource().Attributes().PutStr("service.name", service)
		span := spans.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		span.SetTraceID(traceID)
		span.SetSpanID(id)
		span.SetParentSpanID(parent)
		span.SetName("GET")
		span.SetKind(kind)
		span.SetStartTimestamp(pcommon.NewTimestampFromTime(now.Add(-time.Millisecond)))
		span.SetEndTimestamp(pcommon.NewTimestampFromTime(now))
	}
	half("web", client, pcommon.SpanID{}, ptrace.SpanKindClient)
	half("cart", server, client, ptrace.SpanKindServer)
	var marshaler ptrace.ProtoMarshaler
	body, err := marshaler.MarshalTraces(traces)
	if err != nil {
		t.Error(err)
	}
	return body
}

// listeners counts the ports that a process listens on.
func listeners(t *testing.T, pid int) (n int) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	sockets := map[string]bool{}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil {
			sockets[to] = true
		}
	}
	for _, file := range []string{"tcp", "tcp6"} {
		table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, file))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(table)) {
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == "0A" && sockets["socket:["+f[9]+"]"] {
				n++
			}
		}
	}
	return n
}

// A signal that comes while the collector starts ends it in good order.
func TestTerminatedWhileStarting(t *testing.T) {
	c := newCollector(t)
	c.start(t)
	eventually(t, "the store is opened", func() bool {
		_, err := os.Stat(c.dir)
		return err == nil
	})
	c.terminate(t)
}

func TestRefusesToStart(t *testing.T) {
	running := newCollector(t)
	running.start(t)
	running.ready(t)
	tests := []struct {
		name   string
		change func(*collector)
		args   []string
		want   string
	}{
		{"bad file", nil, []string{"--config", "testdata/broken/unknown_key.yaml"}, "testdata/broken/unknown_key.yaml:8: extensions::faultline::htpp: unknown key"},
		{"demo without requests", nil, []string{"demo", "--rate", "0"}, "--rate: 0 is not above 0"},
		{"demo of nonsense", nil, []string{"demo", "--rate", "NaN"}, "--rate: NaN is not above 0"},
		{"no file", nil, []string{"--config", "testdata/none.yaml"}, "testdata/none.yaml"},
		{"bad environment", func(c *collector) { c.http = "nonsense" }, nil, "extensions::faultline::http: \"nonsense\" is not host:port (from FAULTLINE_HTTP)"},
		{"directory in use", func(c *collector) { c.dir = running.dir }, nil, "extensions::faultline::data_dir: open store in " + running.dir + ": another process has it open (from FAULTLINE_DATA_DIR)"},
		{"UI's port in use", func(c *collector) { c.http = running.http }, nil, "extensions::faultline::http: listen tcp " + running.http + ": bind: address already in use (from FAULTLINE_HTTP)"},
		{"OTLP's port in use", func(c *collector) { c.grpc = running.grpc }, nil, "receivers::faultline::protocols::grpc::endpoint: listen tcp " + running.grpc + ": bind: address already in use (from FAULTLINE_OTLP_GRPC)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := newCollector(t)
			if test.change != nil {
				test.change(c)
			}
			c.start(t, test.args...)
			if code := c.wait(t, 20*time.Second); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			text := c.err.String()
			if !strings.Contains(text, test.want) || strings.Contains(text, "panic") || strings.Contains(text, "goroutine ") {
				t.Errorf("want %q in\n%s", test.want, text)
			}
			if out := c.out.String(); out != "" {
				t.Errorf("a banner all the same:\n%s", out)
			}
		})
	}
	if status, _ := running.get("/readyz"); status != http.StatusOK {
		t.Errorf("the one that was running: %d", status)
	}
	running.terminate(t)
}

// The standard way in: otlp receiver, processors, our exporter.
func TestStandardPipeline(t *testing.T) {
	c := newCollector(t)
	file := filepath.Join(t.TempDir(), "pipeline.yaml")
	config := `
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: ${env:FAULTLINE_OTLP_GRPC}
      http:
        endpoint: ${env:FAULTLINE_OTLP_HTTP}
processors:
  memory_limiter:
    check_interval: 1s
    limit_mib: 512
  batch:
    timeout: 100ms
exporters:
  faultline:
extensions:
  faultline:
    http: ${env:FAULTLINE_HTTP}
    data_dir: ${env:FAULTLINE_DATA_DIR}
service:
  extensions: [faultline]
  pipelines:
    traces:
      receivers: [otlp]
      processors: [memory_limiter, batch]
      exporters: [faultline]
  telemetry:
    metrics:
      level: none
    logs:
      level: warn
`
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start(t, "--config", file)
	c.ready(t)
	eventually(t, "banner", func() bool { return strings.Contains(c.out.String(), "OTLP/gRPC   "+c.grpc) })
	c.call(t, 4)
	eventually(t, "4 calls from web to cart", func() bool { return c.calls(t) == 4 })
	c.terminate(t)
}

func TestDemo(t *testing.T) {
	c := newCollector(t)
	c.start(t, "demo", "--rate", "20")
	c.ready(t)
	eventually(t, "a map of the shop", func() bool { return len(c.edges(t)) >= 15 })
	c.terminate(t)
}
