package ingest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/protobuf/encoding/protowire"

	"faultline/graph"
)

var epoch = time.Date(2026, 11, 20, 12, 0, 1, 0, time.UTC)

// tspan is a span as a test writes it: ids small numbers, times milliseconds after epoch.
type tspan struct {
	service    string // "namespace/name" or "name"
	env        string
	trace      byte
	id, parent byte
	kind       ptrace.SpanKind
	at, ms     int
	us         int // microseconds that the span is longer than ms
	name       string
	attrs      map[string]any
	failed     bool
	message    string  // of its status
	link       [2]byte // trace, span
	links      [][2]byte
	state      string
	flags      uint32
	resource   map[string]any // beside name, namespace, environment, instance and version, which "" leaves out
	scope      string
	scopeAttrs map[string]any
}

const (
	kindClient   = ptrace.SpanKindClient
	kindServer   = ptrace.SpanKindServer
	kindInternal = ptrace.SpanKindInternal
	kindProducer = ptrace.SpanKindProducer
	kindConsumer = ptrace.SpanKindConsumer
)

func putAttributes(m pcommon.Map, attrs map[string]any) {
	for k, v := range attrs {
		switch v := v.(type) {
		case string:
			m.PutStr(k, v)
		case int:
			m.PutInt(k, int64(v))
		case float64:
			m.PutDouble(k, v)
		case bool:
			m.PutBool(k, v)
		case []string:
			list := m.PutEmptySlice(k)
			for _, text := range v {
				list.AppendEmpty().SetStr(text)
			}
		}
	}
}

// each puts each span into a request of its own.
func each(t testing.TB, spans ...tspan) [][]byte {
	t.Helper()
	var out [][]byte
	for _, s := range spans {
		td := ptrace.NewTraces()
		rs := td.ResourceSpans().AppendEmpty()
		namespace, name, ok := strings.Cut(s.service, "/")
		if !ok {
			namespace, name = "", s.service
		}
		if name != "" {
			rs.Resource().Attributes().PutStr("service.name", name)
		}
		if namespace != "" {
			rs.Resource().Attributes().PutStr("service.namespace", namespace)
		}
		if s.env != "" {
			rs.Resource().Attributes().PutStr("deployment.environment.name", s.env)
		}
		rs.Resource().Attributes().PutStr("service.instance.id", name+"-1")
		rs.Resource().Attributes().PutStr("service.version", "1.0")
		putAttributes(rs.Resource().Attributes(), s.resource)
		rs.Resource().Attributes().RemoveIf(func(_ string, v pcommon.Value) bool {
			return v.Type() == pcommon.ValueTypeStr && v.Str() == ""
		})
		ss := rs.ScopeSpans().AppendEmpty()
		ss.Scope().SetName(s.scope)
		putAttributes(ss.Scope().Attributes(), s.scopeAttrs)
		sp := ss.Spans().AppendEmpty()
		sp.SetTraceID([16]byte{1, 15: s.trace + 1})
		sp.SetSpanID([8]byte{7: s.id})
		if s.parent != 0 {
			sp.SetParentSpanID([8]byte{7: s.parent})
		}
		sp.SetKind(s.kind)
		sp.SetName(s.name)
		sp.SetStartTimestamp(pcommon.NewTimestampFromTime(epoch.Add(time.Duration(s.at) * time.Millisecond)))
		sp.SetEndTimestamp(pcommon.NewTimestampFromTime(epoch.Add(time.Duration(s.at+s.ms)*time.Millisecond + time.Duration(s.us)*time.Microsecond)))
		sp.TraceState().FromRaw(s.state)
		sp.SetFlags(s.flags)
		putAttributes(sp.Attributes(), s.attrs)
		if s.failed {
			sp.Status().SetCode(ptrace.StatusCodeError)
			sp.Status().SetMessage(s.message)
		}
		links := s.links
		if s.link != [2]byte{} {
			links = append(links, s.link)
		}
		for _, to := range links {
			l := sp.Links().AppendEmpty()
			l.SetTraceID([16]byte{1, 15: to[0] + 1})
			l.SetSpanID([8]byte{7: to[1]})
		}
		b, err := ptraceotlp.NewExportRequestFromTraces(td).MarshalProto()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

func newIntake() (*Intake, *graph.Live) {
	live := graph.NewLive(graph.DefaultLiveConfig(), 1)
	return NewIntake(DefaultConfig(), live), live
}

func feed(t testing.TB, in *Intake, now time.Time, bodies ...[]byte) {
	t.Helper()
	for _, b := range bodies {
		if r, err := in.Consume(now, b); err != nil || r.Rejected > 0 {
			t.Fatalf("consume: %+v, %v", r, err)
		}
	}
}

// sums returns what the open windows count, by "source → target protocol".
func sums(live *graph.Live) map[string]*graph.EdgeStats {
	out := map[string]*graph.EdgeStats{}
	windows, _ := live.Windows(time.Unix(0, 0), epoch.AddDate(1, 0, 0), false)
	for _, w := range windows {
		for i := range w.Edges {
			e := &w.Edges[i]
			k := fmt.Sprintf("%s → %s %s", e.Edge.Source.ID(), e.Edge.Target.ID(), e.Edge.Protocol)
			if e.Edge.Env() != "" {
				k = e.Edge.Env() + ": " + k
			}
			if out[k] == nil {
				out[k] = &graph.EdgeStats{}
			}
			out[k].Add(&e.Stats)
		}
	}
	for k, s := range out {
		if s.Zero() {
			delete(out, k)
		}
	}
	return out
}

// brief writes what an edge counts on one line, in the order in which people ask.
func brief(s *graph.EdgeStats) string {
	var b strings.Builder
	fmt.Fprintf(&b, "calls %d", s.Calls)
	add := func(name string, n int64) {
		if n != 0 {
			fmt.Fprintf(&b, ", %s %d", name, n)
		}
	}
	add("errors", s.Errors)
	if s.LogicalCalls != s.Calls || s.LogicalErrors != s.Errors {
		fmt.Fprintf(&b, ", logical %d/%d", s.LogicalCalls, s.LogicalErrors)
	}
	add("hedges", s.Hedges)
	add("client errors", s.ClientErrors)
	add("cancelled", s.Cancelled)
	for f, n := range s.Failures {
		add(graph.Failure(f).String(), n)
	}
	if s.Client.Count() > 0 {
		fmt.Fprintf(&b, ", client %d×%dms", s.Client.Count(), s.Client.Sum()/s.Client.Count()/1e6)
	}
	if s.Server.Count() > 0 {
		fmt.Fprintf(&b, ", server %d×%dms", s.Server.Count(), s.Server.Sum()/s.Server.Count()/1e6)
	}
	add("server errors", s.ServerErrors)
	add("server missing", s.ServerMissing)
	add("client missing", s.ClientMissing)
	add("messages", s.Messages)
	return b.String()
}

func briefs(live *graph.Live) []string {
	var out []string
	for k, s := range sums(live) {
		out = append(out, k+": "+brief(s))
	}
	slices.Sort(out)
	return out
}

var (
	get   = map[string]any{"http.request.method": "GET", "http.response.status_code": 200, "server.address": "b", "server.port": 8080}
	get5  = map[string]any{"http.request.method": "GET", "http.response.status_code": 503, "server.address": "b", "server.port": 8080}
	old   = map[string]any{"http.method": "GET", "http.status_code": "200", "net.peer.name": "b", "net.peer.port": 8080}
	serve = map[string]any{"http.request.method": "GET", "http.route": "/x/{id}", "http.response.status_code": 200}
	fail5 = map[string]any{"http.request.method": "GET", "http.route": "/x/{id}", "http.response.status_code": 503}
)

// scenarios are the cases of the edge table: spans in, edges out.
var scenarios = []struct {
	name  string
	spans []tspan
	want  []string
}{
	{"client and server", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: get},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: serve},
	}, []string{"a → b http: calls 1, client 1×100ms, server 1×80ms"}},
	{"old conventions, namespaces and environment", []tspan{
		{service: "shop/a", env: "prod", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: old},
		{service: "shop/b", env: "prod", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: serve},
	}, []string{"prod: shop/a → shop/b http: calls 1, client 1×100ms, server 1×80ms"}},
	{"database", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 5, attrs: map[string]any{
			"db.system": "postgresql", "db.name": "orders", "server.address": "DB1", "server.port": 5432,
		}},
	}, []string{"a → db:postgresql/orders@db1 db: calls 1, client 1×5ms"}},
	{"database on another port, renamed system", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 5, attrs: map[string]any{
			"db.system": "mssql", "net.peer.name": "db1", "net.peer.port": 1444,
		}},
	}, []string{"a → db:microsoft.sql_server@db1:1444 db: calls 1, client 1×5ms"}},
	{"external", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 50, attrs: map[string]any{
			"http.method": "POST", "http.status_code": 402, "http.url": "https://u:p@API.stripe.com/v1/charges?x=1",
		}},
	}, []string{"a → ext:api.stripe.com http: calls 1, client errors 1, client 1×50ms"}},
	{"user", []tspan{
		{service: "b", trace: 1, id: 2, kind: kindServer, at: 10, ms: 80, attrs: fail5},
	}, []string{"user → b http: calls 1, errors 1, server_error 1, server 1×80ms, server errors 1"}},
	{"unknown caller", []tspan{
		{service: "b", trace: 1, id: 2, parent: 99, kind: kindServer, at: 10, ms: 80, attrs: serve},
	}, []string{"unknown → b http: calls 1, server 1×80ms, client missing 1"}},
	{"client not instrumented", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindInternal, at: 0, ms: 100},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: serve},
	}, []string{"a → b http: calls 1, server 1×80ms, client missing 1"}},
	{"internal spans in between", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 200, attrs: serve},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindInternal, at: 5, ms: 190},
		{service: "a", trace: 1, id: 3, parent: 2, kind: kindClient, at: 10, ms: 100, attrs: get},
		{service: "b", trace: 1, id: 4, parent: 3, kind: kindServer, at: 20, ms: 80, attrs: serve},
		{service: "b", trace: 1, id: 5, parent: 4, kind: kindInternal, at: 30, ms: 10},
		{service: "b", trace: 1, id: 6, parent: 5, kind: kindServer, at: 31, ms: 5},
	}, []string{"a → b http: calls 1, client 1×100ms, server 1×80ms", "user → a http: calls 1, server 1×200ms"}},
	{"internal span as the callee's first", []tspan{
		{service: "a", trace: 1, id: 3, kind: kindClient, at: 10, ms: 100, attrs: get},
		{service: "b", trace: 1, id: 4, parent: 3, kind: kindInternal, at: 20, ms: 80},
		{service: "b", trace: 1, id: 5, parent: 4, kind: kindServer, at: 25, ms: 70},
	}, []string{"a → b http: calls 1, client 1×100ms, server 2×75ms"}},
	{"self call", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: get},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: serve},
	}, []string{"a → a http: calls 1, client 1×100ms, server 1×80ms"}},
	{"one client span over three attempts", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: map[string]any{"rpc.system": "grpc", "rpc.service": "S", "rpc.method": "M", "rpc.grpc.status_code": 0}},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 10, attrs: map[string]any{"rpc.system": "grpc", "rpc.grpc.status_code": 14}, failed: true},
		{service: "b", trace: 1, id: 3, parent: 1, kind: kindServer, at: 30, ms: 10, attrs: map[string]any{"rpc.system": "grpc", "rpc.grpc.status_code": 14}, failed: true},
		{service: "b", trace: 1, id: 4, parent: 1, kind: kindServer, at: 60, ms: 10, attrs: map[string]any{"rpc.system": "grpc", "rpc.grpc.status_code": 0}},
	}, []string{"a → b grpc: calls 3, errors 2, logical 1/0, server_error 2, client 1×100ms, server 3×10ms, server errors 2"}},
	{"sibling attempts", []tspan{
		{service: "a", trace: 1, id: 9, kind: kindInternal, at: 0, ms: 300},
		{service: "a", trace: 1, id: 1, parent: 9, kind: kindClient, at: 0, ms: 50, attrs: get5, failed: true},
		{service: "a", trace: 1, id: 2, parent: 9, kind: kindClient, at: 100, ms: 50, attrs: get5, failed: true},
		{service: "a", trace: 1, id: 3, parent: 9, kind: kindClient, at: 200, ms: 50, attrs: get},
		{service: "b", trace: 1, id: 4, parent: 1, kind: kindServer, at: 10, ms: 30, attrs: fail5, failed: true},
		{service: "b", trace: 1, id: 5, parent: 2, kind: kindServer, at: 110, ms: 30, attrs: fail5, failed: true},
		{service: "b", trace: 1, id: 6, parent: 3, kind: kindServer, at: 210, ms: 30, attrs: serve},
	}, []string{"a → b http: calls 3, errors 2, logical 1/0, server_error 2, client 3×50ms, server 3×30ms, server errors 2"}},
	{"resend after a redirect is no retry", []tspan{
		{service: "a", trace: 1, id: 1, parent: 9, kind: kindClient, at: 0, ms: 50, attrs: map[string]any{
			"http.request.method": "GET", "http.response.status_code": 302, "server.address": "b", "server.port": 8080,
		}},
		{service: "a", trace: 1, id: 2, parent: 9, kind: kindClient, at: 60, ms: 50, attrs: map[string]any{
			"http.request.method": "GET", "http.response.status_code": 200, "server.address": "b", "server.port": 8080, "http.request.resend_count": 1,
		}},
	}, []string{"a → ext:b:8080 http: calls 2, client 2×50ms"}},
	{"calls one after the other are no retries", []tspan{
		{service: "a", trace: 1, id: 1, parent: 9, kind: kindClient, at: 0, ms: 50, attrs: get},
		{service: "a", trace: 1, id: 2, parent: 9, kind: kindClient, at: 60, ms: 50, attrs: get5, failed: true},
	}, []string{"a → ext:b:8080 http: calls 2, errors 1, server_error 1, client 2×50ms"}},
	{"queue by parent", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: map[string]any{
			"messaging.system": "kafka", "messaging.destination.name": "orders", "messaging.operation.type": "send",
		}},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindConsumer, at: 500, ms: 80, attrs: map[string]any{
			"messaging.system": "kafka", "messaging.destination.name": "orders", "messaging.operation.type": "process",
		}},
	}, []string{
		"a → queue:kafka/orders messaging: calls 1, client 1×5ms, messages 1",
		"queue:kafka/orders → b messaging: calls 1, server 1×80ms, messages 1",
	}},
	{"queue by parent, consumer without a destination", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: map[string]any{
			"messaging.system": "kafka", "messaging.destination": "orders",
		}},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindConsumer, at: 500, ms: 80},
	}, []string{
		"a → queue:kafka/orders messaging: calls 1, client 1×5ms, messages 1",
		"queue:kafka/orders → b messaging: calls 1, server 1×80ms, messages 1",
	}},
	{"queue by link", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: map[string]any{
			"messaging.system": "rabbitmq", "messaging.destination.name": "orders",
		}},
		{service: "b", trace: 2, id: 2, kind: kindConsumer, at: 500, ms: 80, link: [2]byte{1, 1}},
	}, []string{
		"a → queue:rabbitmq/orders messaging: calls 1, client 1×5ms, messages 1",
		"queue:rabbitmq/orders → b messaging: calls 1, server 1×80ms, messages 1",
	}},
	{"sampled spans count for all that were not", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 5, state: "ot=th:c", attrs: map[string]any{"db.system.name": "redis", "db.namespace": "0"}},
	}, []string{"a → db:redis/0 db: calls 4, client 4×5ms"}},
	{"a client span around the client span of its transport", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 50, attrs: map[string]any{"db.system": "elasticsearch", "server.address": "es"}},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindClient, at: 1, ms: 40, attrs: map[string]any{"http.request.method": "GET", "server.address": "es", "server.port": 9200}},
	}, []string{"a → db:elasticsearch@es db: calls 1, client 1×50ms"}},
	{"a wrapper around a client span", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 50, attrs: map[string]any{"rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": "Get"}},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindClient, at: 1, ms: 40, attrs: map[string]any{"http.request.method": "GET", "server.address": "pictures.s3.eu-west-1.amazonaws.com"}},
	}, []string{"a → ext:s3.eu-west-1 http: calls 1, client 1×40ms"}},
	{"a span in the name of a callee without spans of its own", []tspan{
		{service: "customer", trace: 1, id: 1, kind: kindServer, at: 0, ms: 400, attrs: serve},
		{service: "mysql", trace: 1, id: 2, parent: 1, kind: kindClient, at: 10, ms: 300, attrs: map[string]any{"peer.service": "mysql"}},
	}, []string{
		"customer → mysql unknown: calls 1, server 1×300ms, client missing 1",
		"user → customer http: calls 1, server 1×400ms",
	}},
	{"the same without any word of a peer", []tspan{
		{service: "driver", trace: 1, id: 1, kind: kindServer, at: 0, ms: 400, attrs: serve},
		{service: "redis", trace: 1, id: 2, parent: 1, kind: kindClient, at: 10, ms: 30},
	}, []string{
		"driver → redis unknown: calls 1, server 1×30ms, client missing 1",
		"user → driver http: calls 1, server 1×400ms",
	}},
	{"a retry by a clock of whole milliseconds", []tspan{
		{service: "a", trace: 1, id: 1, parent: 9, kind: kindClient, at: 0, ms: 50, us: 900, attrs: get5, failed: true},
		{service: "a", trace: 1, id: 2, parent: 9, kind: kindClient, at: 50, ms: 50, us: 900, attrs: get},
	}, []string{"a → ext:b:8080 http: calls 2, errors 1, logical 1/0, server_error 1, client 2×50ms"}},
	{"a retry within a millisecond by such a clock", []tspan{
		{service: "a", trace: 1, id: 2, parent: 9, kind: kindClient, at: 50, us: 400, attrs: get5, failed: true},
		{service: "a", trace: 1, id: 1, parent: 9, kind: kindClient, at: 50, us: 800, attrs: get},
	}, []string{"a → ext:b:8080 http: calls 2, errors 1, logical 1/0, server_error 1, client 2×0ms"}},
	{"Zipkin's shared span id", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: get},
		{service: "b", trace: 1, id: 1, kind: kindServer, at: 10, ms: 80, attrs: serve},
	}, []string{"a → b http: calls 1, client 1×100ms, server 1×80ms"}},
	{"a response that was lost", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: get5, failed: true},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: serve},
	}, []string{"a → b http: calls 1, errors 1, lost_response 1, client 1×100ms, server 1×80ms"}},
}

func TestScenarios(t *testing.T) {
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			in, live := newIntake()
			feed(t, in, epoch.Add(time.Second), each(t, sc.spans...)...)
			in.Tick(epoch.Add(12 * time.Second))
			if diff := cmp.Diff(sc.want, briefs(live)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The order in which spans come, and when, within the wait, changes nothing.
func TestOrderDoesNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			bodies := each(t, sc.spans...)
			for range 60 {
				r.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
				in, live := newIntake()
				now := epoch.Add(time.Second)
				for _, b := range bodies {
					feed(t, in, now, b)
					if r.IntN(2) == 0 {
						now = now.Add(time.Duration(r.IntN(1500)) * time.Millisecond)
						in.Tick(now)
					}
				}
				in.Tick(now.Add(11 * time.Second))
				if diff := cmp.Diff(sc.want, briefs(live)); diff != "" {
					t.Fatal(diff)
				}
			}
		})
	}
}

// A half that comes after its other half has counted alone corrects what was counted, in the window it belongs to.
func TestLateHalvesCorrect(t *testing.T) {
	spans := []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: get},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: serve},
	}
	bodies := each(t, spans...)
	for i, alone := range []string{
		"a → ext:b:8080 http: calls 1, client 1×100ms", "unknown → b http: calls 1, server 1×80ms, client missing 1",
	} {
		in, live := newIntake()
		feed(t, in, epoch.Add(time.Second), bodies[i])
		if got := briefs(live); len(got) != 0 {
			t.Errorf("before the wait: %v", got)
		}
		in.Tick(epoch.Add(12 * time.Second))
		if diff := cmp.Diff([]string{alone}, briefs(live)); diff != "" {
			t.Error(diff)
		}
		for s := 13; s < 600; s += 20 {
			in.Tick(epoch.Add(time.Duration(s) * time.Second))
		}
		feed(t, in, epoch.Add(10*time.Minute), bodies[1-i])
		if diff := cmp.Diff([]string{"a → b http: calls 1, client 1×100ms, server 1×80ms"}, briefs(live)); diff != "" {
			t.Error(diff)
		}
		if got := in.Counters().Late; got != 1 {
			t.Errorf("late = %d, want 1", got)
		}
	}
}

// Calls that never reached their callee lie on the callee's edge once enough others have taught who answers there.
func TestRefusedConnectionsLieOnTheCalleesEdge(t *testing.T) {
	in, live := newIntake()
	now := epoch.Add(2 * time.Second)
	for i := range 100 {
		feed(t, in, now, each(t,
			tspan{service: "a", trace: byte(i), id: 1, kind: kindClient, at: i, ms: 10, attrs: get},
			tspan{service: "b", trace: byte(i), id: 2, parent: 1, kind: kindServer, at: i + 1, ms: 5, attrs: serve})...)
	}
	for i := range 10 {
		feed(t, in, now, each(t, tspan{
			service: "a", trace: byte(100 + i), id: 1, kind: kindClient, at: 1000, ms: 1, failed: true,
			attrs: map[string]any{"http.request.method": "GET", "server.address": "b", "server.port": 8080, "error.type": "ECONNREFUSED"},
		})...)
	}
	want := "a → b http: calls 110, errors 10, refused 10, client 110×9ms, server 100×5ms"
	if diff := cmp.Diff([]string{want}, briefs(live)); diff != "" {
		t.Errorf("at once: %s", diff)
	}
	in.Tick(now.Add(11 * time.Second))
	if diff := cmp.Diff([]string{want + ", server missing 10"}, briefs(live)); diff != "" {
		t.Errorf("after the wait: %s", diff)
	}
	// What was learned survives a restart.
	again, live2 := newIntake()
	if err := again.Restore(now, in.State(now)); err != nil {
		t.Fatal(err)
	}
	feed(t, again, now, each(t, tspan{service: "a", trace: 1, id: 1, kind: kindClient, at: 1000, ms: 1, attrs: get})...)
	if diff := cmp.Diff([]string{"a → b http: calls 1, client 1×1ms"}, briefs(live2)); diff != "" {
		t.Errorf("after a restart: %s", diff)
	}
}

func TestDuplicatesCountOnce(t *testing.T) {
	in, live := newIntake()
	bodies := each(t, scenarios[0].spans...)
	feed(t, in, epoch, bodies...)
	feed(t, in, epoch.Add(time.Second), bodies...)
	if diff := cmp.Diff(scenarios[0].want, briefs(live)); diff != "" {
		t.Error(diff)
	}
	if got := in.Counters().Dropped["duplicate"]; got != 2 {
		t.Errorf("duplicates = %d, want 2", got)
	}
}

func TestOddTimesNeverEnterAFigure(t *testing.T) {
	in, live := newIntake()
	db := map[string]any{"db.system": "redis"}
	feed(t, in, epoch, each(t,
		tspan{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: -5, attrs: db},
		tspan{service: "a", trace: 1, id: 2, kind: kindClient, at: 0, ms: 3_700_000, attrs: db},
		tspan{service: "a", trace: 1, id: 3, kind: kindClient, at: 700_000, ms: 5, attrs: db},
		tspan{service: "a", trace: 1, id: 4, kind: kindClient, at: -3_700_000, ms: 5, attrs: db},
		tspan{service: "a", trace: 1, id: 5, kind: kindClient, at: 0, ms: 5, attrs: db})...)
	if diff := cmp.Diff([]string{"a → db:redis db: calls 1, client 1×5ms"}, briefs(live)); diff != "" {
		t.Error(diff)
	}
	want := map[string]int64{"invalid_duration": 2, "in_the_future": 1, "too_old": 1}
	if diff := cmp.Diff(want, dropped(in)); diff != "" {
		t.Error(diff)
	}
}

// dropped returns what was dropped, by the reasons that there were.
func dropped(in *Intake) map[string]int64 {
	m := in.Counters().Dropped
	maps.DeleteFunc(m, func(_ string, n int64) bool { return n == 0 })
	return m
}

// Reasons for which nothing was dropped, refused or asked are counted as well: what was never there cannot be seen to grow.
func TestEveryReasonIsCountedFromTheStart(t *testing.T) {
	in, _ := newIntake()
	c := in.Counters()
	for name, counts := range map[string]map[string]int64{"dropped": c.Dropped, "refused": c.Refused, "requests": c.Requests} {
		if len(counts) < 2 {
			t.Errorf("%s: %v", name, counts)
		}
		for reason, n := range counts {
			if n != 0 {
				t.Errorf("%s, %s: %d", name, reason, n)
			}
		}
	}
	for _, reason := range []string{"node_limit", "edge_limit", "detail_limit", "store_unavailable", "name_limit", "external_limit", "evicted_early", "duplicate"} {
		if _, ok := c.Dropped[reason]; !ok {
			t.Errorf("%s is not there", reason)
		}
	}
	before := len(c.Requests)
	for _, r := range []string{RefusedMalformed, RefusedTooLarge, RefusedUnsupported, RefusedUnauthenticated, RefusedIncomplete, RefusedOverloaded, RefusedStopping} {
		in.Refuse(r)
	}
	if n := len(in.Counters().Requests); n != before {
		t.Errorf("%d outcomes were there, %d came", before, n)
	}
}

func TestBadSpansAreRefusedSingly(t *testing.T) {
	td := ptrace.NewTraces()
	ss := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty()
	for i := range 100 {
		sp := ss.Spans().AppendEmpty()
		sp.SetTraceID([16]byte{1})
		sp.SetKind(kindServer)
		sp.SetStartTimestamp(pcommon.NewTimestampFromTime(epoch))
		sp.SetEndTimestamp(pcommon.NewTimestampFromTime(epoch))
		if i != 50 {
			sp.SetSpanID([8]byte{byte(i + 1)})
		}
	}
	body, err := ptraceotlp.NewExportRequestFromTraces(td).MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	in, _ := newIntake()
	r, err := in.Consume(epoch, body)
	if err != nil || r.Accepted != 99 || r.Rejected != 1 || !strings.Contains(r.Message, "span id") {
		t.Errorf("got %+v, %v", r, err)
	}
	// A request that cannot be read to its end leaves no trace.
	if _, err := in.Consume(epoch, body[:len(body)-3]); err == nil {
		t.Error("a truncated request was accepted")
	}
	if c := in.Counters(); c.Accepted != 99 || c.Refused["invalid_span_id"] != 1 || c.Requests["malformed"] != 1 {
		t.Errorf("counters %+v", c)
	}
}

func TestExamplesAreWhole(t *testing.T) {
	in, _ := newIntake()
	feed(t, in, epoch, each(t, scenarios[12].spans...)...)
	if got := in.Examples(epoch.Add(5 * time.Second)); len(got) != 0 {
		t.Fatalf("%d traces before they can be whole", len(got))
	}
	kept := in.Examples(epoch.Add(40 * time.Second))
	if len(kept) != 1 {
		t.Fatalf("%d traces, want 1", len(kept))
	}
	if got := len(kept[0].Trace.Spans); got != len(scenarios[12].spans) {
		t.Errorf("%d spans, want %d", got, len(scenarios[12].spans))
	}
	kinds := map[graph.ExampleKind]bool{}
	for _, e := range kept[0].Examples {
		kinds[e.Kind] = true
	}
	if !kinds[graph.Failed] || !kinds[graph.Retried] {
		t.Errorf("examples %+v: want a failed and a retried one", kept[0].Examples)
	}
}

// What becomes whole at once is handed over bit by bit, each trace once, and all that is left at an orderly stop.
func TestExamplesAreHandedOverBitByBit(t *testing.T) {
	const traces = 40
	in, _ := newIntake()
	for i := range byte(traces) { // each on an edge of its own
		user := tspan{trace: i, id: 1, service: fmt.Sprint("s", i), kind: kindServer, name: "GET /", ms: 5}
		work := tspan{trace: i, id: 2, parent: 1, service: fmt.Sprint("s", i), kind: kindInternal, name: "work", at: 1, ms: 3, scope: "lib", attrs: map[string]any{"n": int(i)}}
		feed(t, in, epoch, each(t, user, work)...)
	}
	seen := map[graph.TraceID]int{}
	take := func(now time.Time) int {
		kept := in.Examples(now)
		for _, k := range kept {
			seen[k.Trace.ID]++
			spans, resources := k.Trace.Spans, k.Trace.Resources
			if len(spans) != 2 || spans[0].Name != "GET /" || spans[1].Scope != "lib" || len(spans[1].Attributes) != 1 || len(resources) != 1 ||
				!slices.Contains(resources[0].Attributes, graph.Attribute{Key: "service.name", Value: spans[0].Node.Name}) {
				t.Errorf("trace %+v", k.Trace)
			}
		}
		return len(kept)
	}
	whole := epoch.Truncate(exampleSlot).Add(exampleSlot + exampleGrace)
	for after := range 5 * time.Second / time.Second {
		if n := take(whole.Add(after * time.Second)); n < 1 || n > traces/5 {
			t.Errorf("%d of %d traces after %d s: want about a tenth, at first one", n, traces, after)
		}
	}
	in.Flush(whole.Add(5 * time.Second))
	if n := take(whole.Add(5 * time.Second)); n < traces/3 {
		t.Errorf("%d of %d traces at the end: want all that are left", n, traces)
	}
	if len(seen) != traces {
		t.Errorf("%d traces, want %d", len(seen), traces)
	}
	for id, n := range seen {
		if n > 1 {
			t.Errorf("trace %x came %d times", id, n)
		}
	}
}

// The book's requests of one span are what the official encoder makes of them.
func TestAppendRequest(t *testing.T) {
	for _, size := range []int{0, 1, 100, 127, 128, 20_000, 3_000_000} {
		td := ptrace.NewTraces()
		rs := td.ResourceSpans().AppendEmpty()
		rs.Resource().Attributes().PutStr("text", strings.Repeat("r", size))
		ss := rs.ScopeSpans().AppendEmpty()
		ss.Scope().SetName(strings.Repeat("s", size))
		ss.Spans().AppendEmpty().SetName(strings.Repeat("n", size))
		want, err := ptraceotlp.NewExportRequestFromTraces(td).MarshalProto()
		if err != nil {
			t.Fatal(err)
		}
		field := func(b []byte, number protowire.Number) []byte {
			for len(b) > 0 {
				n, _, w := protowire.ConsumeTag(b)
				content, all := protowire.ConsumeBytes(b[w:])
				if all < 0 {
					return nil
				}
				if n == number {
					return content
				}
				b = b[w+all:]
			}
			return nil
		}
		resourceSpans := field(want, 1)
		scopeSpans := field(resourceSpans, 2)
		got := ptraceotlp.NewExportRequest()
		b := appendRequest(nil, field(resourceSpans, 1), field(scopeSpans, 1), field(scopeSpans, 2))
		if err := got.UnmarshalProto(b); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		again, err := got.MarshalProto()
		if err != nil || !bytes.Equal(again, want) {
			t.Errorf("%d bytes: it reads otherwise, %v", size, err)
		}
	}
}

// A million names, services or traces stay within the limits.
func TestNamesAreBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	live := graph.NewLive(graph.LiveConfig{MaxNodes: 100, MaxEdges: 200, MaxOperations: 5, MaxInstances: 5, MaxVersions: 5, Hold: 90 * time.Second}, 1)
	cfg := DefaultConfig()
	cfg.MaxPending = 6400
	in := NewIntake(cfg, live)
	for i := range 20_000 {
		td := ptrace.NewTraces()
		rs := td.ResourceSpans().AppendEmpty()
		rs.Resource().Attributes().PutStr("service.name", fmt.Sprint("service-", i))
		sp := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		sp.SetTraceID([16]byte{1, byte(i >> 8), byte(i), 15: 9})
		sp.SetSpanID([8]byte{1})
		sp.SetKind(kindServer)
		sp.SetName(fmt.Sprint("operation ", i))
		sp.SetStartTimestamp(pcommon.NewTimestampFromTime(epoch))
		sp.SetEndTimestamp(pcommon.NewTimestampFromTime(epoch.Add(time.Millisecond)))
		b, err := ptraceotlp.NewExportRequestFromTraces(td).MarshalProto()
		if err != nil {
			t.Fatal(err)
		}
		feed(t, in, epoch, b)
	}
	var calls int64
	edges := sums(live)
	for _, s := range edges {
		calls += s.Calls
	}
	if calls != 20_000 || len(edges) > 201 {
		t.Errorf("%d calls on %d edges; want all 20000 on at most 201", calls, len(edges))
	}
	c := in.Counters()
	if c.Pending > 6400 || c.Dropped["node_limit"] == 0 || c.Dropped["evicted_early"] == 0 {
		t.Errorf("pending %d, dropped %v", c.Pending, c.Dropped)
	}
}

// When more spans are in flight than fit, those that have to make room, and those whose other half had to, are no calls by
// nobody, and no callee is missed: of the edges that there are, no other is made up.
func TestCrowdedSpansMakeNothingUp(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxPending = 8 * minShards
	live := graph.NewLive(graph.DefaultLiveConfig(), 1)
	in := NewIntake(cfg, live)
	now := epoch.Add(time.Second)
	call := func(trace byte) (client, server []byte) {
		bodies := each(t,
			tspan{service: "a", trace: trace, id: 1, parent: 9, kind: kindClient, at: 0, ms: 50, attrs: get},
			tspan{service: "b", trace: trace, id: 2, parent: 1, kind: kindServer, at: 10, ms: 30, attrs: serve})
		return bodies[0], bodies[1]
	}
	crowd := 0
	flood := func() {
		for range 40 * minShards {
			feed(t, in, now, each(t, tspan{service: "crowd", trace: byte(100 + crowd/250), id: byte(1 + crowd%250), env: "crowd", kind: kindServer, at: 20, ms: 1, attrs: serve})...)
			crowd++
		}
	}
	for trace := range byte(8) { // that b is a service whose half comes is known
		client, server := call(trace + 1)
		feed(t, in, now, client, server)
	}
	for trace := range byte(20) {
		client, server := call(trace + 20)
		first, then := client, server
		if trace%2 == 0 {
			first, then = server, client
		}
		feed(t, in, now, first)
		flood()
		feed(t, in, now, then)
	}
	wait(in, now, now.Add(11*time.Second))
	c := in.Counters()
	if c.Dropped["evicted_early"] == 0 || c.Unpaired["server_crowded_out"] == 0 {
		t.Fatalf("dropped %v, alone %v: nothing had to make room", c.Dropped, c.Unpaired)
	}
	for edge, s := range sums(live) {
		switch {
		case strings.HasPrefix(edge, "crowd: "):
		case edge != "a → b http" || s.Calls != 28 || s.ServerMissing != 0 || s.ClientMissing != 0:
			t.Errorf("%s: %d calls, %d without the callee's half, %d without the caller's", edge, s.Calls, s.ServerMissing, s.ClientMissing)
		}
	}
}
