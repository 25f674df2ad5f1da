package sim

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func generate(t testing.TB, cfg Config, d time.Duration) (*Generator, []Batch) {
	t.Helper()
	cfg.KeepTruth = true
	g, err := NewGenerator(cfg, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return g, slices.Collect(g.Generate(d))
}

func bodies(batches []Batch) [][]byte {
	var out [][]byte
	for _, b := range batches {
		out = append(out, b.Body)
	}
	return out
}

// first returns the value of the first of the keys that the span has.
func first(s sentSpan, keys ...string) string {
	for _, k := range keys {
		if v := attribute(s.Attributes(), k); v != "" {
			return v
		}
	}
	return ""
}

// isFailure judges a span by its attributes, in either convention.
func isFailure(s sentSpan) bool {
	if code := first(s, "http.response.status_code", "http.status_code"); code != "" {
		return code >= "500"
	}
	switch first(s, "rpc.response.status_code", "rpc.grpc.status_code") {
	case "OK", "0", "NOT_FOUND", "5":
		return false
	}
	return s.Status().Code() == ptrace.StatusCodeError
}

// callee names the target of a CLIENT or PRODUCER span, in either convention.
func callee(s sentSpan, topology *Topology) (target, protocol string) {
	host := first(s, "server.address", "net.peer.name")
	if system := first(s, "messaging.system"); system != "" {
		return "queue:" + system + "/" + first(s, "messaging.destination.name", "messaging.destination"), "messaging"
	}
	if system := first(s, "db.system.name", "db.system"); system != "" {
		id := "db:" + system
		if ns := first(s, "db.namespace", "db.name", "db.redis.database_index"); ns != "" {
			id += "/" + ns
		}
		id += "@" + host
		if port := first(s, "server.port", "net.peer.port"); port == "3307" {
			id += ":" + port
		}
		return id, "db"
	}
	protocol = "http"
	if first(s, "rpc.system.name", "rpc.system") != "" {
		protocol = "grpc"
	}
	for i := range topology.Services {
		if topology.Services[i].host() == host {
			return topology.Services[i].Node(), protocol
		}
	}
	return "ext:" + host, protocol
}

// recountShop counts the edges of decoded spans by brute force.
func recountShop(t *testing.T, spans []sentSpan, topology *Topology) map[Edge]EdgeTruth {
	t.Helper()
	type key struct {
		trace pcommon.TraceID
		span  pcommon.SpanID
	}
	type sibling struct {
		parent key
		edge   Edge
		name   string
	}
	callers := map[key]Edge{}
	attempts := map[sibling][]sentSpan{}
	edges := map[Edge]*EdgeTruth{}
	edge := func(e Edge) *EdgeTruth {
		if edges[e] == nil {
			edges[e] = &EdgeTruth{}
		}
		return edges[e]
	}
	duration := func(s sentSpan) int64 { return int64(s.EndTimestamp() - s.StartTimestamp()) }
	for _, s := range spans {
		if s.Kind() != ptrace.SpanKindClient && s.Kind() != ptrace.SpanKindProducer {
			continue
		}
		target, protocol := callee(s, topology)
		e := Edge{s.service, target, protocol}
		callers[key{s.TraceID(), s.SpanID()}] = e
		tr := edge(e)
		tr.Calls++
		if isFailure(s) {
			tr.Errors++
		}
		tr.Client = append(tr.Client, duration(s))
		k := sibling{key{s.TraceID(), s.ParentSpanID()}, e, s.Name()}
		attempts[k] = append(attempts[k], s)
	}
	for k, group := range attempts {
		slices.SortFunc(group, func(a, b sentSpan) int { return int(int64(a.StartTimestamp()) - int64(b.StartTimestamp())) })
		for i, s := range group[1:] {
			if !isFailure(group[i]) || s.StartTimestamp() < group[i].EndTimestamp() {
				t.Errorf("%v: a sibling follows one that had not failed before", k.edge)
			}
			edge(k.edge).Retries++
		}
		if len(group) > 1 {
			edge(k.edge).Retried++
		}
		if isFailure(group[len(group)-1]) {
			edge(k.edge).LogicalErrors++
		}
	}
	for _, s := range spans {
		if s.Kind() != ptrace.SpanKindServer && s.Kind() != ptrace.SpanKindConsumer {
			continue
		}
		parent := key{s.TraceID(), s.ParentSpanID()}
		if s.Links().Len() > 0 {
			parent = key{s.Links().At(0).TraceID(), s.Links().At(0).SpanID()}
		}
		e, ok := callers[parent]
		switch {
		case s.Kind() == ptrace.SpanKindConsumer:
			if !ok {
				t.Fatalf("consumer span %s of %s has no producer", s.SpanID(), s.service)
			}
			e = Edge{e.Target, s.service, "messaging"}
		case !ok && s.ParentSpanID().IsEmpty():
			e = Edge{"user", s.service, "http"}
		case !ok || e.Target != s.service:
			t.Fatalf("server span %s of %s: caller is %v", s.SpanID(), s.service, e)
		}
		tr := edge(e)
		tr.Server = append(tr.Server, duration(s))
		if e.Source == "user" || e.Protocol == "messaging" {
			tr.Calls++
			if isFailure(s) {
				tr.Errors++
				tr.LogicalErrors++
			}
		}
	}
	out := map[Edge]EdgeTruth{}
	for e, tr := range edges {
		tr.sort()
		out[e] = *tr
	}
	return out
}

// faulty is the demo's script with the calm cut out.
func faulty(kinds ...FaultKind) Config {
	script, _ := DemoScript()
	c := Config{Seed: 7, Rate: 10, Skew: 3 * ms}
	for _, f := range script {
		if slices.Contains(kinds, f.Kind) {
			f.At, f.For = 0, 2*time.Minute
			c.Script = append(c.Script, f)
		}
	}
	return c
}

var allFaults = []FaultKind{SlowDatabase, BadInstance, RetryStorm, ExpiredCertificate, QueueBacklog, BadDeploy}

func TestGeneratorTruth(t *testing.T) {
	for _, kinds := range append([][]FaultKind{nil, allFaults}, slices.Collect(slices.Chunk(allFaults, 1))...) {
		t.Run(fmt.Sprint(kinds), func(t *testing.T) {
			g, batches := generate(t, faulty(kinds...), time.Minute)
			spans := decode(t, bodies(batches))
			want := truthOf(g.Truth())
			if diff := cmp.Diff(want, recountShop(t, spans, Shop())); diff != "" {
				t.Errorf("truth (-) and what was sent (+) differ:\n%s", diff)
			}
			n := 0
			for _, b := range batches {
				n += b.Spans
			}
			if n != len(spans) || n < 5_000 {
				t.Errorf("batches say %d spans, decoded %d, want at least 5000", n, len(spans))
			}
		})
	}
}

// The edges of the shop, as the map must show them.
func TestShopEdges(t *testing.T) {
	g, _ := generate(t, Config{Seed: 1}, 90*time.Second)
	var got bytes.Buffer
	for _, e := range g.Truth().Edges() {
		fmt.Fprintln(&got, e.Source, e.Target, e.Protocol)
	}
	const golden = "testdata/shop_edges.txt"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("edges (-golden +got):\n%s", diff)
	}
}

func TestFaultsShow(t *testing.T) {
	healthy, _ := generate(t, faulty(), time.Minute)
	play := func(k FaultKind) (*Truth, []sentSpan) {
		g, batches := generate(t, faulty(k), time.Minute)
		return g.Truth(), decode(t, bodies(batches))
	}
	errorRate := func(tr *Truth, e Edge) float64 {
		return float64(tr.Edge(e).Errors) / float64(tr.Edge(e).Calls)
	}
	calm := healthy.Truth()

	t.Run(string(SlowDatabase), func(t *testing.T) {
		e := Edge{"shop/inventory", "db:mysql/inventory@inventory-db:3307", "db"}
		tr, _ := play(SlowDatabase)
		if was, is := calm.Edge(e).Client.Quantile(0.5), tr.Edge(e).Client.Quantile(0.5); is < 20*was {
			t.Errorf("median query takes %d ns, without the fault %d", is, was)
		}
		gateway := Edge{"shop/gateway", "shop/inventory", "grpc"}
		if errorRate(tr, gateway) < 5*errorRate(calm, gateway) {
			t.Error("callers do not suffer")
		}
	})
	t.Run(string(BadInstance), func(t *testing.T) {
		tr, spans := play(BadInstance)
		if r := errorRate(tr, Edge{"shop/gateway", "shop/catalog", "http"}); r < 0.1 || r > 0.25 {
			t.Errorf("error rate %v, want half of a third", r)
		}
		bad := map[string]int{}
		for _, s := range spans {
			if s.service == "shop/catalog" && s.Kind() == ptrace.SpanKindServer && isFailure(s) {
				bad[s.instance]++
			}
		}
		counts := slices.Sorted(func(yield func(int) bool) {
			for _, n := range bad {
				if !yield(n) {
					return
				}
			}
		})
		if most := counts[len(counts)-1]; len(counts) > 1 && counts[len(counts)-2]*10 > most {
			t.Errorf("failures by instance %v: not of one alone", counts)
		}
	})
	t.Run(string(RetryStorm), func(t *testing.T) {
		tr, _ := play(RetryStorm)
		e := tr.Edge(Edge{"shop/gateway", "shop/inventory", "grpc"})
		if amplification := float64(e.Calls) / float64(e.LogicalCalls()); amplification < 2 {
			t.Errorf("%v attempts per call", amplification)
		}
	})
	t.Run(string(ExpiredCertificate), func(t *testing.T) {
		tr, spans := play(ExpiredCertificate)
		if r := errorRate(tr, Edge{"shop/payment", "ext:api.payments.example", "http"}); r != 1 {
			t.Errorf("error rate %v, want 1", r)
		}
		for _, s := range spans {
			if first(s, "server.address") == "api.payments.example" && (s.Events().Len() != 1 || !strings.Contains(s.Events().At(0).Attributes().AsRaw()["exception.message"].(string), "certificate has expired")) {
				t.Fatal("a refused handshake leaves no exception")
			}
		}
	})
	t.Run(string(QueueBacklog), func(t *testing.T) {
		lag := func(spans []sentSpan) time.Duration {
			sent := map[pcommon.SpanID]pcommon.Timestamp{}
			for _, s := range spans {
				if s.Kind() == ptrace.SpanKindProducer {
					sent[s.SpanID()] = s.EndTimestamp()
				}
			}
			var most time.Duration
			for _, s := range spans {
				if s.Kind() == ptrace.SpanKindConsumer && s.service == "shop/order-worker" {
					most = max(most, s.StartTimestamp().AsTime().Sub(sent[s.ParentSpanID()].AsTime()))
				}
			}
			return most
		}
		_, spans := play(QueueBacklog)
		if l := lag(spans); l < 40*time.Second || l > time.Minute {
			t.Errorf("messages wait up to %v after a minute of backlog", l)
		}
	})
	t.Run(string(BadDeploy), func(t *testing.T) {
		tr, _ := play(BadDeploy)
		e := Edge{"shop/checkout", "shop/payment", "grpc"}
		if r := errorRate(tr, e); r < 0.1 || errorRate(calm, e) > 0.05 {
			t.Errorf("error rate %v, without the fault %v", r, errorRate(calm, e))
		}
	})
}

func TestFaultsComeAndGo(t *testing.T) {
	script, period := DemoScript()
	g, err := NewGenerator(Config{Rate: 0.1, Script: script, Period: period}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	was := ""
	for d := time.Duration(0); d < 2*period; d += 10 * time.Second {
		g.Advance(epoch.Add(d))
		var kinds strings.Builder
		for _, f := range g.Faults() {
			kinds.WriteString(string(f.Kind))
		}
		is := kinds.String()
		if is != was && is != "" {
			got = append(got, is)
		}
		was = is
	}
	var want []string
	for range 2 {
		for _, k := range allFaults {
			want = append(want, string(k))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults in two periods (-want +got):\n%s", diff)
	}
}

// However the simulated time is cut, the same is sent at the same time.
func TestAdvanceInAnySteps(t *testing.T) {
	cfg := faulty(allFaults...)
	play := func(steps ...time.Duration) map[string][]byte {
		g, err := NewGenerator(cfg, epoch)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string][]byte{}
		add := func(batches []Batch) {
			for i, b := range batches {
				if i > 0 && b.At.Before(batches[i-1].At) {
					t.Fatal("batches are not in the order they are sent")
				}
				k := fmt.Sprint(b.At.UnixNano(), b.Instance)
				out[k] = append(out[k], b.Body...)
			}
		}
		for at, i := epoch, 0; at.Before(epoch.Add(30 * time.Second)); i++ {
			at = at.Add(steps[i%len(steps)])
			add(g.Advance(at))
		}
		add(g.Flush())
		if rest := g.Flush(); len(rest) > 0 {
			t.Errorf("a second flush returns %d batches", len(rest))
		}
		return out
	}
	whole := play(30 * time.Second)
	pieces := play(100*ms, 5*time.Second, 900*ms, 4*time.Second)
	if diff := cmp.Diff(whole, pieces, cmp.Comparer(bytes.Equal)); diff != "" {
		t.Errorf("one step and many differ")
	}
}

func TestBatchesAreLikeAnSDKs(t *testing.T) {
	const played = 30 * time.Second
	_, batches := generate(t, Config{Seed: 3}, played)
	for i, b := range batches {
		for _, s := range decode(t, [][]byte{b.Body}) {
			if s.service != b.Service || s.instance != b.Instance {
				t.Fatalf("batch %d of %s holds a span of %s", i, b.Instance, s.instance)
			}
			waited := b.At.Sub(s.EndTimestamp().AsTime())
			if waited < 0 || waited > 5*time.Second && b.At.Before(epoch.Add(played)) {
				t.Fatalf("batch %d at %v holds a span that ended %v before", i, b.At, waited)
			}
		}
	}
}

func TestNewGeneratorRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no such callee":    func(c *Config) { c.Topology.Services[0].Ops[0].Steps[0].Service = "nobody" },
		"no such operation": func(c *Config) { c.Topology.Services[0].Ops[0].Steps[0].Op = "GET /nothing" },
		"no such database":  func(c *Config) { c.Topology.Databases = nil },
		"no such topic":     func(c *Config) { c.Topology.Topics = nil },
		"no such external":  func(c *Config) { c.Topology.Externals = nil },
		"no entries":        func(c *Config) { c.Topology.Entries = nil },
		"an entry by gRPC":  func(c *Config) { c.Topology.Entries[0] = Entry{"auth", "shop.v1.Auth/Verify", 1} },
		"a service twice":   func(c *Config) { c.Topology.Services[1].Name = "frontend" },
		"a service nowhere": func(c *Config) { c.Topology.Services[1].Instances = 0 },
		"a cycle": func(c *Config) {
			c.Topology.Services[2].Ops[0].Steps = []Step{{Service: "gateway", Op: "GET /api/home"}}
		},
		"a fault of nobody":      func(c *Config) { c.Script = []Fault{{BadInstance, "shop/nobody", 0, 1}} },
		"a fault of the wrong":   func(c *Config) { c.Script = []Fault{{SlowDatabase, "shop/cart", 0, 1}} },
		"a fault of no kind":     func(c *Config) { c.Script = []Fault{{"gremlins", "shop/cart", 0, 1}} },
		"a fault of no length":   func(c *Config) { c.Script = []Fault{{BadInstance, "shop/cart", 0, 0}} },
		"a fault past the end":   func(c *Config) { c.Script, c.Period = []Fault{{BadInstance, "shop/cart", 1, 2}}, 2 },
		"a negative rate":        func(c *Config) { c.Rate = -1 },
		"crossed batch times":    func(c *Config) { c.BatchMin, c.BatchMax = 2, 1 },
		"a negative clock error": func(c *Config) { c.Skew = -1 },
	} {
		cfg := Config{Topology: Shop()}
		change(&cfg)
		if _, err := NewGenerator(cfg, epoch); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func BenchmarkGenerate(b *testing.B) {
	spans := 0
	b.ReportAllocs()
	for b.Loop() {
		g, err := NewGenerator(Config{Seed: 1}, epoch)
		if err != nil {
			b.Fatal(err)
		}
		for batch := range g.Generate(30 * time.Second) {
			spans += batch.Spans
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(spans), "ns/span")
}
