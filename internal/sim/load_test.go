package sim

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// pass returns the requests of one pass, each in a buffer of its own.
func pass(l *Load, now time.Time) [][]byte {
	var bodies [][]byte
	for range l.Requests() {
		body, _ := l.Next(nil, now)
		bodies = append(bodies, body)
	}
	return bodies
}

// sentSpan is a span as an independent decoder reads it.
type sentSpan struct {
	request  int
	service  string
	instance string
	ptrace.Span
}

func decode(t testing.TB, bodies [][]byte) []sentSpan {
	t.Helper()
	var spans []sentSpan
	for i, body := range bodies {
		req := ptraceotlp.NewExportRequest()
		if err := req.UnmarshalProto(body); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		for _, rs := range req.Traces().ResourceSpans().All() {
			service := attribute(rs.Resource().Attributes(), "service.name")
			if ns := attribute(rs.Resource().Attributes(), "service.namespace"); ns != "" {
				service = ns + "/" + service
			}
			instance := attribute(rs.Resource().Attributes(), "service.instance.id")
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					spans = append(spans, sentSpan{i, service, instance, s})
				}
			}
		}
	}
	return spans
}

func attribute(m pcommon.Map, key string) string {
	v, ok := m.Get(key)
	if !ok {
		return ""
	}
	return v.AsString()
}

// recount pairs the spans of a load by brute force and counts its edges.
func recount(t *testing.T, spans []sentSpan, weight func(sentSpan) int64) map[Edge]EdgeTruth {
	t.Helper()
	type key struct {
		trace pcommon.TraceID
		span  pcommon.SpanID
	}
	clients := map[key]Edge{}
	edges := map[Edge]*EdgeTruth{}
	edge := func(e Edge) *EdgeTruth {
		if edges[e] == nil {
			edges[e] = &EdgeTruth{}
		}
		return edges[e]
	}
	failed := func(s sentSpan) bool {
		a := s.Attributes()
		return attribute(a, "http.response.status_code") == "503" || attribute(a, "rpc.grpc.status_code") == "14" || attribute(a, "error.type") == "ECONNRESET"
	}
	// Attempts of one logical call: same parent, same callee, same operation.
	type logical struct {
		parent   key
		callee   string
		op, name string
	}
	attempts := map[logical][]sentSpan{}
	for _, s := range spans {
		if s.Kind() != ptrace.SpanKindClient {
			continue
		}
		a := s.Attributes()
		e := Edge{Source: s.service, Target: attribute(a, "server.address")}
		switch {
		case attribute(a, "db.system.name") != "":
			e.Target, e.Protocol = "db:"+attribute(a, "db.system.name")+"/"+attribute(a, "db.namespace")+"@"+e.Target, "db"
		case attribute(a, "rpc.system") != "":
			e.Protocol = "grpc"
		default:
			e.Protocol = "http"
		}
		clients[key{s.TraceID(), s.SpanID()}] = e
		l := logical{key{s.TraceID(), s.ParentSpanID()}, e.Target, attribute(a, "url.template"), s.Name()}
		attempts[l] = append(attempts[l], s)
		tr := edge(e)
		for range weight(s) {
			tr.Calls++
			if failed(s) {
				tr.Errors++
			}
			tr.Client = append(tr.Client, int64(s.EndTimestamp()-s.StartTimestamp()))
		}
	}
	for _, group := range attempts {
		slices.SortFunc(group, func(a, b sentSpan) int { return int(int64(a.StartTimestamp()) - int64(b.StartTimestamp())) })
		e := edge(clients[key{group[0].TraceID(), group[0].SpanID()}])
		for i, s := range group {
			if i == 0 {
				continue
			}
			before := group[i-1]
			if !failed(before) || s.StartTimestamp() <= before.EndTimestamp() {
				t.Errorf("span %s follows a sibling that had not failed before it began", s.SpanID())
			}
			e.Retries += weight(s)
		}
		last := group[len(group)-1]
		if failed(last) {
			e.LogicalErrors += weight(last)
		}
		if len(group) > 1 {
			e.Retried += weight(last)
		}
	}
	for _, s := range spans {
		if s.Kind() != ptrace.SpanKindServer {
			continue
		}
		e, paired := clients[key{s.TraceID(), s.ParentSpanID()}]
		if !paired {
			if !s.ParentSpanID().IsEmpty() {
				t.Fatalf("server span %s: its caller was not sent", s.SpanID())
			}
			e = Edge{"user", s.service, "http"}
		} else if e.Target != s.service {
			t.Fatalf("server span of %s under a call of %s", s.service, e.Target)
		}
		tr := edge(e)
		for range weight(s) {
			if !paired {
				tr.Calls++
				if failed(s) {
					tr.Errors++
					tr.LogicalErrors++
				}
			}
			tr.Server = append(tr.Server, int64(s.EndTimestamp()-s.StartTimestamp()))
		}
	}
	out := map[Edge]EdgeTruth{}
	for e, tr := range edges {
		tr.sort()
		out[e] = *tr
	}
	return out
}

func truthOf(t *Truth) map[Edge]EdgeTruth {
	out := map[Edge]EdgeTruth{}
	for _, e := range t.Edges() {
		out[e] = *t.Edge(e)
	}
	return out
}

func once(sentSpan) int64 { return 1 }

func byThreshold(s sentSpan) int64 {
	return map[string]int64{"": 1, "ot=th:8": 2, "ot=th:c": 4}[s.TraceState().AsRaw()]
}

func small() LoadConfig {
	c := DefaultLoad(10)
	c.Spans, c.RequestSpans = 2500, 50
	return c
}

func TestLoadTruth(t *testing.T) {
	sampled, shuffled, alone, failing := small(), small(), small(), small()
	sampled.Sampling = []string{"", "8", "c"}
	shuffled.ShuffleRequests, shuffled.ShuffleSpans = true, true
	alone.RequestSpans = 1
	failing.ErrorRate, failing.RetryRate = 0.4, 0.9
	for _, tt := range []struct {
		name   string
		cfg    LoadConfig
		weight func(sentSpan) int64
	}{
		{"plain", small(), once},
		{"sampled by layers", sampled, byThreshold},
		{"shuffled", shuffled, once},
		{"a request per span", alone, once},
		{"failing", failing, once},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := NewLoad(tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			want := truthOf(l.Truth())
			if len(want) != tt.cfg.Edges {
				t.Errorf("truth has %d edges, want %d", len(want), tt.cfg.Edges)
			}
			for i := range 2 { // the truth holds for every pass
				got := recount(t, decode(t, pass(l, epoch.Add(time.Duration(i)*time.Minute))), tt.weight)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("pass %d: truth (-) and what was sent (+) differ:\n%s", i, diff)
				}
			}
			var retries int64
			for _, e := range want {
				retries += e.Retries
			}
			if retries == 0 {
				t.Error("no call was retried: this shows nothing about retries")
			}
		})
	}
}

// Samplers go by the low 56 bits of the trace id; a span whose id contradicts
// its threshold would be taken for malformed.
func TestLoadSampledIDsKeepTheirThreshold(t *testing.T) {
	cfg := small()
	cfg.Sampling = []string{"8", "c"}
	l, err := NewLoad(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, s := range decode(t, pass(l, epoch)) {
			id := s.TraceID()
			if limit := map[string]byte{"ot=th:8": 0x80, "ot=th:c": 0xc0}[s.TraceState().AsRaw()]; limit == 0 || id[9] < limit {
				t.Fatalf("trace %x is not kept by %q", id, s.TraceState().AsRaw())
			}
		}
	}
}

func TestLoadRequests(t *testing.T) {
	l, err := NewLoad(small())
	if err != nil {
		t.Fatal(err)
	}
	first, second := decode(t, pass(l, epoch)), decode(t, pass(l, epoch.Add(time.Hour)))
	if len(first) != l.Spans() || len(second) != l.Spans() {
		t.Fatalf("decoded %d and %d spans of %d", len(first), len(second), l.Spans())
	}
	type key struct {
		trace pcommon.TraceID
		span  pcommon.SpanID
	}
	seen := map[key]sentSpan{}
	traces := map[pcommon.TraceID]int{}
	sender := map[int]string{}
	for i, s := range slices.Concat(first, second) {
		k := key{s.TraceID(), s.SpanID()}
		if _, ok := seen[k]; ok || s.SpanID().IsEmpty() || s.TraceID().IsEmpty() {
			t.Fatalf("span id %v comes twice or is empty", k)
		}
		seen[k] = s
		turn := i / len(first)
		if was, ok := traces[s.TraceID()]; ok && was != turn {
			t.Fatalf("trace %s is in two passes", s.TraceID())
		}
		traces[s.TraceID()] = turn

		request := turn*l.Requests() + s.request
		if was, ok := sender[request]; ok && was != s.instance {
			t.Fatalf("request %d holds spans of %s and of %s", request, was, s.instance)
		}
		sender[request] = s.instance
		now := epoch.Add(time.Duration(turn) * time.Hour)
		if start, end := s.StartTimestamp().AsTime(), s.EndTimestamp().AsTime(); end.After(now) || start.Before(now.Add(-time.Minute)) || end.Before(start) {
			t.Fatalf("span [%v, %v] in a pass of %v", start, end, now)
		}
	}
	for _, s := range first {
		if s.Kind() == ptrace.SpanKindServer && !s.ParentSpanID().IsEmpty() {
			client := seen[key{s.TraceID(), s.ParentSpanID()}]
			if client.request == s.request {
				t.Fatalf("both halves of call %s are in request %d", s.ParentSpanID(), s.request)
			}
			if s.StartTimestamp() < client.StartTimestamp() || s.EndTimestamp() > client.EndTimestamp() {
				t.Fatalf("server span %s is not within its caller's", s.SpanID())
			}
		}
	}
}

func TestLoadIsDeterministic(t *testing.T) {
	cfg := small()
	load := func() [][]byte {
		l, err := NewLoad(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return pass(l, epoch)
	}
	a, b := load(), load()
	cfg.Seed++
	if c := load(); slices.EqualFunc(a, c, bytes.Equal) {
		t.Error("another seed gives the same bytes")
	}
	if !slices.EqualFunc(a, b, bytes.Equal) {
		t.Error("the same seed gives other bytes")
	}
}

func TestDefaultLoads(t *testing.T) {
	if testing.Short() {
		t.Skip("encodes 300,000 spans")
	}
	for services, want := range map[int]struct{ edges, requestSpans int }{10: {21, 400}, 1000: {5277, 41}} {
		l, err := NewLoad(DefaultLoad(services))
		if err != nil {
			t.Fatal(err)
		}
		if got := len(l.Truth().Edges()); got != want.edges {
			t.Errorf("%d services: %d edges, want %d", services, got, want.edges)
		}
		if got := l.Spans() / l.Requests(); math.Abs(float64(got-want.requestSpans)) > 0.12*float64(want.requestSpans) {
			t.Errorf("%d services: %d spans in a request, want about %d", services, got, want.requestSpans)
		}
		if got := l.Bytes() / l.Spans(); got < 430 || got > 450 {
			t.Errorf("%d services: %d bytes per span, want 430 to 450", services, got)
		}
		if got := float64(l.Attributes()) / float64(l.Spans()); got < 10.4 || got > 11 {
			t.Errorf("%d services: %.2f attributes per span, want about 10.7", services, got)
		}
	}
}

func TestNewLoadRefuses(t *testing.T) {
	for name, change := range map[string]func(*LoadConfig){
		"one service":            func(c *LoadConfig) { c.Services = 1 },
		"too few edges":          func(c *LoadConfig) { c.Edges = 3 },
		"too many edges":         func(c *LoadConfig) { c.Edges = 1000 },
		"fractional weight":      func(c *LoadConfig) { c.Sampling = []string{"4"} },
		"threshold not hex":      func(c *LoadConfig) { c.Sampling = []string{"x"} },
		"threshold too long":     func(c *LoadConfig) { c.Sampling = []string{"800"} },
		"callees keep more":      func(c *LoadConfig) { c.Sampling = []string{"c", "8"} },
		"negative instances":     func(c *LoadConfig) { c.Instances = -1 },
		"negative request spans": func(c *LoadConfig) { c.RequestSpans = -1 },
	} {
		cfg := small()
		change(&cfg)
		if _, err := NewLoad(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNextDoesNotAllocate(t *testing.T) {
	l, err := NewLoad(small())
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, 1<<20)
	if n := testing.AllocsPerRun(1000, func() { buf, _ = l.Next(buf, epoch) }); n != 0 {
		t.Errorf("Next allocates %v times", n)
	}
}

func TestQuantile(t *testing.T) {
	ten := Latencies{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for _, tt := range []struct {
		l    Latencies
		q    float64
		want int64
	}{{nil, 0.5, 0}, {ten, 0, 1}, {ten, 0.5, 5}, {ten, 0.51, 6}, {ten, 0.95, 10}, {ten, 1, 10}} {
		if got := tt.l.Quantile(tt.q); got != tt.want {
			t.Errorf("Quantile(%v) of %v = %d, want %d", tt.q, tt.l, got, tt.want)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	for _, services := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			l, err := NewLoad(DefaultLoad(services))
			if err != nil {
				b.Fatal(err)
			}
			var buf []byte
			spans, n := 0, 0
			b.ReportAllocs()
			for b.Loop() {
				buf, n = l.Next(buf, epoch)
				spans += n
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(spans), "ns/span")
		})
	}
}
