package ingest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
)

// factsOf returns the facts of whole traces in the open windows, one per line: "source → target measure", how many, how
// many of them failed, and the sum of the values, in milliseconds where they are times.
func factsOf(live *graph.Live, measures ...graph.Measure) []string {
	sum := map[string]*graph.Detail{}
	windows, _ := live.Windows(time.Unix(0, 0), epoch.Add(24*time.Hour), true)
	for _, w := range windows {
		for i := range w.Details {
			d := &w.Details[i]
			k := fmt.Sprintf("%s → %s ", d.Edge.Source.ID(), d.Edge.Target.ID())
			switch d.Key.Dimension {
			case graph.Entry:
				if len(measures) > 0 {
					continue
				}
				k += "entry " + strings.Replace(d.Key.Name, "\t", " ", 1)
			case graph.Measured:
				if len(measures) > 0 && !slices.ContainsFunc(measures, func(m graph.Measure) bool { return m.String() == d.Key.Name }) {
					continue
				}
				k += d.Key.Name
			default:
				continue
			}
			if sum[k] == nil {
				sum[k] = &graph.Detail{}
			}
			sum[k].Add(&d.Detail)
		}
	}
	var out []string
	for k, d := range sum {
		value := float64(d.Latency.Sum())
		name := k[strings.LastIndex(k, " ")+1:]
		if !slices.Contains([]string{"origin_edge", "origin_self", "depth", "nested_retries"}, name) {
			value /= 1e6
		}
		line := fmt.Sprintf("%s: %d× %g", k, d.Calls, value)
		if d.Errors > 0 {
			line += fmt.Sprintf(", failed %d", d.Errors)
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

func analysed(t *testing.T, spans []tspan, measures ...graph.Measure) []string {
	t.Helper()
	in, live := newIntake()
	feed(t, in, epoch.Add(time.Second), each(t, spans...)...)
	in.Tick(epoch.Add(12 * time.Second))
	return factsOf(live, measures...)
}

func with(attrs map[string]any, more ...any) map[string]any {
	out := map[string]any{}
	maps.Copy(out, attrs)
	for i := 0; i < len(more); i += 2 {
		out[more[i].(string)] = more[i+1]
	}
	return out
}

func to(host string, status int) map[string]any {
	return map[string]any{"http.request.method": "GET", "http.response.status_code": status, "server.address": host, "server.port": 8080}
}

func route(path string, status int) map[string]any {
	return map[string]any{"http.request.method": "GET", "http.route": path, "http.response.status_code": status}
}

func query(what string) map[string]any {
	return map[string]any{"db.system.name": "redis", "db.query.summary": what}
}

var timedOut = map[string]any{"http.request.method": "GET", "server.address": "b", "server.port": 8080, "error.type": "timeout"}

// pathMeasures are what the critical path is made of.
var pathMeasures = []graph.Measure{graph.Critical, graph.CriticalEdge, graph.CriticalSelf}

var originMeasures = []graph.Measure{graph.OriginEdge, graph.OriginSelf}

// vectors are the cases of the analysis: spans in, facts out.
var vectors = []struct {
	name     string
	measures []graph.Measure
	spans    []tspan
	want     []string
}{
	{"C.9 critical path", pathMeasures, []tspan{
		{service: "gw", trace: 1, id: 1, kind: kindServer, at: 0, ms: 100, attrs: route("/", 200)},
		{service: "gw", trace: 1, id: 2, parent: 1, kind: kindClient, at: 10, ms: 30, attrs: to("a", 200)},
		{service: "a", trace: 1, id: 3, parent: 2, kind: kindServer, at: 11, ms: 28, attrs: route("/a", 200)},
		{service: "gw", trace: 1, id: 4, parent: 1, kind: kindClient, at: 20, ms: 70, attrs: to("b", 200)},
		{service: "b", trace: 1, id: 5, parent: 4, kind: kindServer, at: 22, ms: 66, attrs: route("/b", 200)},
	}, []string{
		"gw → b critical: 1× 70", "gw → b critical_edge: 1× 4", "gw → b critical_self: 1× 66",
		"user → gw critical: 1× 100", "user → gw critical_self: 1× 30",
	}},
	{"A.6 the callee's clock is ahead", append([]graph.Measure{graph.Gap}, pathMeasures...), []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: to("b", 200)},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 530, ms: 80, attrs: route("/b", 200)},
		{service: "b", trace: 1, id: 3, parent: 2, kind: kindClient, at: 540, ms: 10, attrs: query("GET")},
	}, []string{
		"a → b critical: 1× 100", "a → b critical_edge: 1× 20", "a → b critical_self: 1× 70", "a → b gap: 1× 20",
		"b → db:redis critical: 1× 10", "b → db:redis critical_edge: 1× 10",
	}},
	{"a chain of three attempts by the library, on another clock", append([]graph.Measure{graph.Gap}, pathMeasures...), []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: to("b", 200)},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 5010, ms: 10, attrs: route("/b", 503), failed: true},
		{service: "b", trace: 1, id: 3, parent: 1, kind: kindServer, at: 5030, ms: 10, attrs: route("/b", 503), failed: true},
		{service: "b", trace: 1, id: 4, parent: 1, kind: kindServer, at: 5060, ms: 10, attrs: route("/b", 200)},
	}, []string{"a → b critical: 1× 100", "a → b critical_edge: 1× 70", "a → b critical_self: 1× 30", "a → b gap: 1× 70"}},
	{"a child that runs past its parent ends with it, and what nobody waits for is left out", pathMeasures, []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 100, attrs: route("/", 200)},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindClient, at: 60, ms: 90, attrs: query("GET")},
		{service: "a", trace: 1, id: 3, parent: 1, kind: kindProducer, at: 10, ms: 40, attrs: map[string]any{"messaging.system": "kafka", "messaging.destination.name": "q"}},
		{service: "b", trace: 1, id: 4, parent: 3, kind: kindConsumer, at: 70, ms: 30, attrs: map[string]any{"messaging.system": "kafka", "messaging.destination.name": "q"}},
		{service: "b", trace: 1, id: 5, parent: 4, kind: kindClient, at: 75, ms: 20, attrs: query("SET")},
	}, []string{
		"a → db:redis critical: 1× 40", "a → db:redis critical_edge: 1× 40",
		"b → db:redis critical: 1× 20", "b → db:redis critical_edge: 1× 20",
		"queue:kafka/q → b critical: 1× 30", "queue:kafka/q → b critical_self: 1× 10",
		"user → a critical: 1× 100", "user → a critical_self: 1× 60",
	}},
	{"C.4 what a caller no longer waits for is not on the path", append([]graph.Measure{graph.Gap}, pathMeasures...), []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 1000, attrs: timedOut, failed: true},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 5, ms: 4000, attrs: route("/b", 200)},
		{service: "b", trace: 1, id: 3, parent: 2, kind: kindClient, at: 105, ms: 3800, attrs: query("GET")},
	}, []string{
		"a → b critical: 1× 1000", "a → b critical_edge: 1× 5", "a → b critical_self: 1× 100", "a → b gap: 1× 0, failed 1",
		"b → db:redis critical: 1× 895", "b → db:redis critical_edge: 1× 895",
	}},
	{"internal spans are their service's own time, and their calls count", pathMeasures, []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 100, attrs: route("/", 200)},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindInternal, at: 10, ms: 80},
		{service: "a", trace: 1, id: 3, parent: 2, kind: kindClient, at: 30, ms: 50, attrs: query("GET")},
	}, []string{"a → db:redis critical: 1× 50", "a → db:redis critical_edge: 1× 50", "user → a critical: 1× 100", "user → a critical_self: 1× 50"}},
	{"a service that calls itself counts its time once", pathMeasures, []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: to("a", 200)},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: route("/1", 200)},
		{service: "a", trace: 1, id: 3, parent: 2, kind: kindClient, at: 20, ms: 60, attrs: to("a", 200)},
		{service: "a", trace: 1, id: 4, parent: 3, kind: kindServer, at: 30, ms: 40, attrs: route("/2", 200)},
	}, []string{"a → a critical: 1× 100", "a → a critical_edge: 1× 40", "a → a critical_self: 1× 60"}},
	{"Zipkin's shared span id", append([]graph.Measure{graph.Traces}, pathMeasures...), []tspan{
		{service: "a", trace: 1, id: 9, kind: kindServer, at: 0, ms: 120, attrs: route("/", 200)},
		{service: "a", trace: 1, id: 1, parent: 9, kind: kindClient, at: 0, ms: 100, attrs: to("b", 200)},
		{service: "b", trace: 1, id: 1, parent: 9, kind: kindServer, at: 10, ms: 80, attrs: route("/b", 200)},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindClient, at: 20, ms: 30, attrs: query("GET")},
	}, []string{
		"a → b critical: 1× 100", "a → b critical_edge: 1× 20", "a → b critical_self: 1× 50", "a → b traces: 1× 120",
		"b → db:redis critical: 1× 30", "b → db:redis critical_edge: 1× 30", "b → db:redis traces: 1× 120",
		"user → a critical: 1× 120", "user → a critical_self: 1× 20", "user → a traces: 1× 120",
	}},
	{"everything of a small trace", nil, []tspan{
		{service: "shop/gw", trace: 1, id: 1, kind: kindServer, at: 0, ms: 100, attrs: route("/buy", 500), failed: true},
		{service: "shop/gw", trace: 1, id: 2, parent: 1, kind: kindClient, at: 10, ms: 80, attrs: to("b", 503), failed: true},
		{service: "b", trace: 1, id: 3, parent: 2, kind: kindServer, at: 20, ms: 60, attrs: route("/b", 503), failed: true},
	}, []string{
		"shop/gw → b absorbed: 1× 80, failed 1", "shop/gw → b critical: 1× 80", "shop/gw → b critical_edge: 1× 20",
		"shop/gw → b critical_self: 1× 60", "shop/gw → b entry shop/gw GET /buy: 1× 100, failed 1",
		"shop/gw → b gap: 1× 20, failed 1", "shop/gw → b origin_self: 1× 1000", "shop/gw → b passed_on: 1× 80", "shop/gw → b traces: 1× 100, failed 1",
		"user → shop/gw critical: 1× 100", "user → shop/gw critical_self: 1× 20", "user → shop/gw depth: 1× 1",
		"user → shop/gw entry shop/gw GET /buy: 1× 100, failed 1", "user → shop/gw passed_on: 1× 100, failed 1",
		"user → shop/gw traces: 1× 100, failed 1",
	}},
	{"an entry counts failures of the edge, a trace those of the root; weights are the root's", []graph.Measure{}, []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 100, attrs: route("/", 200), state: "ot=th:c"},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindClient, at: 10, ms: 80, attrs: query("GET"), failed: true},
	}, []string{
		"a → db:redis absorbed: 4× 320", "a → db:redis critical: 4× 320", "a → db:redis critical_edge: 4× 320",
		"a → db:redis entry a GET /: 4× 400, failed 4", "a → db:redis traces: 4× 400",
		"user → a critical: 4× 400", "user → a critical_self: 4× 80", "user → a depth: 4× 0", "user → a entry a GET /: 4× 400",
		"user → a traces: 4× 400",
	}},
	{"roots that nobody enters, and one whose caller was never seen", []graph.Measure{graph.Traces, graph.CriticalSelf, graph.Depth, graph.OriginSelf}, []tspan{
		{service: "job", trace: 1, id: 1, kind: kindInternal, at: 0, ms: 100, failed: true},
		{service: "job", trace: 1, id: 2, parent: 1, kind: kindClient, at: 10, ms: 30, attrs: query("GET")},
		{service: "app", trace: 2, id: 1, kind: kindClient, at: 0, ms: 50, attrs: to("b", 500), failed: true},
		{service: "b", trace: 2, id: 2, parent: 1, kind: kindServer, at: 10, ms: 20, attrs: route("/b", 500), failed: true},
		{service: "c", trace: 3, id: 1, parent: 99, kind: kindServer, at: 0, ms: 40, attrs: route("/c", 500), failed: true},
	}, []string{
		"app → b critical_self: 1× 20", "app → b origin_self: 1× 1000", "app → b traces: 1× 50, failed 1",
		"job → db:redis traces: 1× 100, failed 1",
		"unknown → c critical_self: 1× 40", "unknown → c depth: 1× 0", "unknown → c origin_self: 1× 1000", "unknown → c traces: 1× 40, failed 1",
	}},
	{"C.9 origin: refused, so on the edge", originMeasures, []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 100, attrs: route("/", 500), failed: true},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindInternal, at: 1, ms: 98}, // does not say that it failed
		{service: "a", trace: 1, id: 3, parent: 2, kind: kindClient, at: 10, ms: 5, attrs: with(to("b", 0), "error.type", "ECONNREFUSED"), failed: true},
	}, []string{"a → ext:b:8080 origin_edge: 1× 1000"}},
	{"C.9 origin: the callee was fine, so on the edge", originMeasures, []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 1100, attrs: route("/", 500), failed: true},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindClient, at: 0, ms: 1000, attrs: timedOut, failed: true},
		{service: "b", trace: 1, id: 3, parent: 2, kind: kindServer, at: 5, ms: 4000, attrs: route("/b", 200)},
	}, []string{"a → b origin_edge: 1× 1000, failed 1"}},
	{"C.9 origin: the service itself", originMeasures, []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 100, attrs: route("/", 500), failed: true},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindClient, at: 10, ms: 5, attrs: query("GET")},
		{service: "a", trace: 1, id: 3, parent: 1, kind: kindInternal, at: 20, ms: 5, failed: true},
	}, []string{"user → a origin_self: 1× 1000"}},
	{"C.9 origin: through the last attempt only", originMeasures, []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 200, attrs: route("/", 500), failed: true},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindClient, at: 10, ms: 10, attrs: to("b", 503), failed: true},
		{service: "a", trace: 1, id: 3, parent: 1, kind: kindClient, at: 30, ms: 10, attrs: to("b", 200)},
		{service: "b", trace: 1, id: 4, parent: 2, kind: kindServer, at: 11, ms: 8, attrs: route("/b", 503), failed: true},
		{service: "b", trace: 1, id: 5, parent: 3, kind: kindServer, at: 31, ms: 8, attrs: route("/b", 200)},
	}, []string{"user → a origin_self: 1× 1000"}},
	{"C.9 origin: unless all attempts failed", originMeasures, []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 200, attrs: route("/", 500), failed: true},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindClient, at: 10, ms: 10, attrs: to("b", 503), failed: true},
		{service: "a", trace: 1, id: 3, parent: 1, kind: kindClient, at: 30, ms: 10, attrs: with(to("b", 0), "error.type", "ECONNRESET"), failed: true},
		{service: "b", trace: 1, id: 4, parent: 2, kind: kindServer, at: 11, ms: 8, attrs: route("/b", 503), failed: true},
		{service: "b", trace: 1, id: 5, parent: 4, kind: kindClient, at: 12, ms: 6, attrs: query("GET"), failed: true},
	}, []string{"a → b origin_edge: 1× 500", "b → db:redis origin_edge: 1× 500"}},
	{"C.9 origin: attempts below one span, of which the last went well", originMeasures, []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: to("b", 503), failed: true},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 10, attrs: route("/b", 503), failed: true},
		{service: "b", trace: 1, id: 3, parent: 1, kind: kindServer, at: 60, ms: 10, attrs: route("/b", 200)},
	}, []string{"a → b origin_edge: 1× 1000, failed 1"}},
	{"C.9 origin: of calls in sequence the last", originMeasures, []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 200, attrs: route("/", 500), failed: true},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindClient, at: 10, ms: 10, attrs: query("GET"), failed: true},
		{service: "a", trace: 1, id: 3, parent: 1, kind: kindClient, at: 30, ms: 10, attrs: map[string]any{"db.system.name": "mysql"}, failed: true},
	}, []string{"a → db:mysql origin_edge: 1× 1000"}},
	{"C.9 origin: calls in parallel share", originMeasures, []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 200, attrs: route("/", 500), failed: true},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindClient, at: 10, ms: 15, attrs: query("GET"), failed: true},
		{service: "a", trace: 1, id: 3, parent: 1, kind: kindClient, at: 10, ms: 30, attrs: map[string]any{"db.system.name": "mysql"}, failed: true},
		{service: "a", trace: 1, id: 4, parent: 1, kind: kindClient, at: 20, ms: 5, attrs: query("GET"), failed: true},
	}, []string{"a → db:mysql origin_edge: 1× 333", "a → db:redis origin_edge: 1× 667"}},
	{"a failure that is absorbed, and one that is not", []graph.Measure{graph.Absorbed}, []tspan{
		{service: "gw", trace: 1, id: 1, kind: kindServer, at: 0, ms: 300, attrs: route("/", 200)},
		{service: "gw", trace: 1, id: 2, parent: 1, kind: kindInternal, at: 5, ms: 280, failed: true},
		{service: "gw", trace: 1, id: 3, parent: 2, kind: kindClient, at: 10, ms: 250, attrs: to("a", 500), failed: true},
		{service: "a", trace: 1, id: 4, parent: 3, kind: kindServer, at: 20, ms: 200, attrs: route("/a", 500), failed: true},
		{service: "a", trace: 1, id: 5, parent: 4, kind: kindClient, at: 30, ms: 10, attrs: query("GET"), failed: true},
		{service: "a", trace: 1, id: 6, parent: 4, kind: kindClient, at: 60, ms: 10, attrs: query("GET"), failed: true},
	}, []string{"a → db:redis absorbed: 1× 10, failed 1", "gw → a absorbed: 1× 250"}},
	{"failures that are passed on, and those that begin there", []graph.Measure{graph.PassedOn}, []tspan{
		{service: "gw", trace: 1, id: 1, kind: kindServer, at: 0, ms: 300, attrs: route("/", 500), failed: true},
		{service: "gw", trace: 1, id: 2, parent: 1, kind: kindClient, at: 10, ms: 250, attrs: to("a", 500), failed: true},
		{service: "a", trace: 1, id: 3, parent: 2, kind: kindServer, at: 20, ms: 200, attrs: route("/a", 500), failed: true},
		{service: "a", trace: 1, id: 4, parent: 3, kind: kindInternal, at: 25, ms: 100},
		{service: "a", trace: 1, id: 5, parent: 4, kind: kindClient, at: 30, ms: 10, attrs: query("GET"), failed: true},
		{service: "gw", trace: 2, id: 1, kind: kindServer, at: 0, ms: 100, attrs: route("/", 500), failed: true},
		{service: "gw", trace: 2, id: 2, parent: 1, kind: kindClient, at: 10, ms: 50, attrs: to("a", 500), failed: true},
		{service: "a", trace: 2, id: 3, parent: 2, kind: kindServer, at: 20, ms: 30, attrs: route("/a", 500), failed: true},
		{service: "gw", trace: 3, id: 1, kind: kindServer, at: 0, ms: 50, attrs: route("/", 500), failed: true},
		{service: "gw", trace: 3, id: 2, parent: 1, kind: kindClient, at: 10, ms: 30, attrs: with(to("a", 0), "error.type", "timeout"), failed: true},
		{service: "a", trace: 3, id: 3, parent: 2, kind: kindServer, at: 20, ms: 90, attrs: route("/a", 200)},
		{service: "a", trace: 3, id: 4, parent: 3, kind: kindClient, at: 30, ms: 10, attrs: query("GET"), failed: true},
	}, []string{"gw → a passed_on: 2× 300, failed 1", "user → gw passed_on: 3× 450, failed 3"}},
	{"depth", []graph.Measure{graph.Depth}, []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 300, attrs: route("/", 200)},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindClient, at: 10, ms: 250, attrs: to("b", 200)},
		{service: "b", trace: 1, id: 3, parent: 2, kind: kindInternal, at: 20, ms: 200},
		{service: "b", trace: 1, id: 4, parent: 3, kind: kindServer, at: 20, ms: 200, attrs: route("/b", 200)},
		{service: "c", trace: 1, id: 5, parent: 4, kind: kindServer, at: 30, ms: 10, attrs: route("/c", 200)},
		{service: "c", trace: 1, id: 6, parent: 5, kind: kindClient, at: 31, ms: 5, attrs: query("GET")},
		{service: "c", trace: 1, id: 7, parent: 5, kind: kindProducer, at: 37, ms: 1, attrs: map[string]any{"messaging.system": "kafka", "messaging.destination.name": "q"}},
		{service: "d", trace: 1, id: 8, parent: 7, kind: kindConsumer, at: 50, ms: 9, attrs: map[string]any{"messaging.system": "kafka", "messaging.destination.name": "q"}},
	}, []string{"queue:kafka/q → d depth: 1× 0", "user → a depth: 1× 2"}},
	{"C.2 nested retries", []graph.Measure{graph.NestedRetries}, slices.Concat(
		[]tspan{{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 900, attrs: route("/", 500), failed: true}},
		attemptsOf("a", "b", 1, 10, 400, 2, func(server byte, at int) []tspan {
			return attemptsOf("b", "c", server, at+10, 100, 3, nil)
		}),
	), []string{"b → c nested_retries: 1× 6, failed 1"}},
	{"retries at one layer are not nested", []graph.Measure{graph.NestedRetries}, slices.Concat(
		[]tspan{{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 900, attrs: route("/", 500), failed: true}},
		attemptsOf("a", "b", 1, 10, 400, 3, func(server byte, at int) []tspan {
			return attemptsOf("b", "c", server, at+10, 100, 1, nil)
		}),
	), nil},
	{"N+1 calls", []graph.Measure{graph.Repeated, graph.Parallel, graph.Sequential}, slices.Concat(
		[]tspan{
			{service: "a", trace: 1, id: 200, kind: kindServer, at: 0, ms: 900, attrs: route("/", 200)},
			{service: "a", trace: 1, id: 201, parent: 200, kind: kindInternal, at: 0, ms: 900},
			{service: "a", trace: 1, id: 202, parent: 200, kind: kindClient, at: 500, ms: 40, attrs: to("b", 200)},
			{service: "a", trace: 1, id: 203, parent: 201, kind: kindClient, at: 510, ms: 50, attrs: to("c", 200)},
			{service: "a", trace: 1, id: 204, parent: 201, kind: kindClient, at: 570, ms: 50, attrs: query("SET")},
		},
		inTurn(10, 10, 4),
	), []string{
		"a → db:redis repeated: 1× 36", "a → db:redis sequential: 1× 50",
		"a → ext:b:8080 parallel: 1× 40", "a → ext:c:8080 parallel: 1× 50",
	}},
	{"nine calls are no N+1, and alone they say nothing of their order", []graph.Measure{graph.Repeated, graph.Parallel, graph.Sequential}, slices.Concat(
		[]tspan{{service: "a", trace: 1, id: 200, kind: kindServer, at: 0, ms: 900, attrs: route("/", 200)}}, inTurn(9, 10, 4),
	), nil},
	{"calls of one kind that are made together", []graph.Measure{graph.Repeated, graph.Parallel, graph.Sequential}, slices.Concat(
		[]tspan{{service: "a", trace: 1, id: 200, kind: kindServer, at: 0, ms: 900, attrs: route("/", 200)}}, inTurn(20, 1, 14),
	), []string{"a → db:redis parallel: 20× 280"}},
	{"calls that overlap are no N+1", []graph.Measure{graph.Repeated, graph.Parallel, graph.Sequential}, slices.Concat(
		[]tspan{{service: "a", trace: 1, id: 200, kind: kindServer, at: 0, ms: 900, attrs: route("/", 200)}}, inTurn(20, 10, 14),
	), nil},
}

// attemptsOf returns n failed calls, one after the other, with the spans of their callee and what below says is below them.
func attemptsOf(from, to string, parent byte, at, ms, n int, below func(server byte, at int) []tspan) (out []tspan) {
	for i := range n {
		client := parent*6 + byte(2*i) + 2
		begin := at + i*(ms+5)
		out = append(out,
			tspan{service: from, trace: 1, id: client, parent: parent, kind: kindClient, at: begin, ms: ms, attrs: with(get5, "server.address", to), failed: true},
			tspan{service: to, trace: 1, id: client + 1, parent: client, kind: kindServer, at: begin + 1, ms: ms - 2, attrs: fail5, failed: true})
		if below != nil {
			out = append(out, below(client+1, begin)...)
		}
	}
	return out
}

// inTurn returns n queries below span 200, one every few milliseconds.
func inTurn(n, every, ms int) (out []tspan) {
	for i := range n {
		out = append(out, tspan{service: "a", trace: 1, id: byte(i + 1), parent: 200, kind: kindClient, at: 10 + i*every, ms: ms, attrs: query("GET")})
	}
	return out
}

func TestAnalysis(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			if diff := cmp.Diff(v.want, analysed(t, v.spans, v.measures...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The order in which spans come, in how many requests and how often, within the wait, changes no fact.
func TestAnalysisDoesNotDependOnOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			bodies := each(t, v.spans...)
			for range 20 {
				r.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
				in, live := newIntake()
				now, last := epoch.Add(time.Second), epoch.Add(10*time.Second)
				for i, b := range bodies {
					feed(t, in, now, b)
					if r.IntN(3) == 0 {
						feed(t, in, now, bodies[r.IntN(i+1)])
					}
					now = now.Add(time.Duration(r.Int64N(1+int64(last.Sub(now)))) / 2)
					in.Tick(now)
				}
				for range 12 {
					now = now.Add(time.Second)
					in.Tick(now)
				}
				if diff := cmp.Diff(v.want, factsOf(live, v.measures...)); diff != "" {
					t.Fatal(diff)
				}
			}
		})
	}
}

// Whatever a tree looks like and whatever its clocks say, the critical path gives away the root's duration exactly, no
// edge has more of its own than lies on and below it, and no fact depends on the order in which the spans came.
func TestCriticalPathAddsUp(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 200 {
		services := []string{"a", "b", "c", "d"}
		skew := []int{0, r.IntN(2000) - 1000, r.IntN(60) - 30, 0}
		spans := []tspan{{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 1 + r.IntN(500), attrs: route("/", 200)}}
		for id := byte(2); int(id) < 2+r.IntN(120); id++ {
			up := spans[r.IntN(len(spans))]
			for up.kind == kindProducer {
				up = spans[r.IntN(len(spans))]
			}
			s := tspan{service: up.service, trace: 1, id: id, parent: up.id, kind: kindInternal, failed: r.IntN(4) == 0}
			i := slices.Index(services, up.service)
			switch r.IntN(5) {
			case 0, 1:
				s.kind, s.attrs = kindClient, to("x", 200)
			case 2:
				s.kind, s.attrs = kindClient, query("GET")
			case 3:
				s.kind = kindProducer
			}
			if up.kind == kindClient || r.IntN(10) == 0 {
				i = r.IntN(len(services))
				s.service, s.kind, s.attrs = services[i], kindServer, route("/", 200)
			}
			s.at = up.at - skew[slices.Index(services, up.service)] + skew[i] + r.IntN(up.ms+50) - 20
			s.ms = r.IntN(up.ms + 30)
			spans = append(spans, s)
		}
		bodies := each(t, spans...)
		in, live := newIntake()
		feed(t, in, epoch.Add(3*time.Second), bodies...)
		in.Tick(epoch.Add(14 * time.Second))
		r.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
		again, shuffled := newIntake()
		feed(t, again, epoch.Add(3*time.Second), bodies...)
		again.Tick(epoch.Add(14 * time.Second))
		if diff := cmp.Diff(factsOf(live), factsOf(shuffled)); diff != "" {
			t.Fatalf("%+v in another order: %s", spans, diff)
		}
		if n := in.Counters().Traces["analysed"]; n != 1 {
			t.Fatalf("%d traces analysed, want 1", n)
		}
		own, below := map[graph.EdgeKey]int64{}, map[graph.EdgeKey]int64{}
		sum := int64(0)
		windows, _ := live.Windows(time.Unix(0, 0), epoch.Add(time.Hour), true)
		for _, w := range windows {
			for _, d := range w.Details {
				switch d.Key.Name {
				case graph.CriticalEdge.String(), graph.CriticalSelf.String():
					own[d.Edge] += d.Detail.Latency.Sum()
					sum += d.Detail.Latency.Sum()
				case graph.Critical.String():
					below[d.Edge] += d.Detail.Latency.Sum()
				}
			}
		}
		if want := int64(spans[0].ms) * 1e6; sum != want {
			t.Fatalf("the parts add up to %d, want %d: %+v", sum, want, spans)
		}
		for e, n := range own {
			if n > below[e] {
				t.Fatalf("%v has %d of its own and %d with what is below it: %+v", e, n, below[e], spans)
			}
		}
	}
}

// A trace that is too large or too deep is left out whole, and counted.
func TestTreesAreBounded(t *testing.T) {
	var wide, deep []tspan
	for i := range maxTreeEdges {
		wide = append(wide, tspan{service: "a", trace: 1, id: byte(i + 1), parent: 1, kind: kindClient, at: i, ms: 1, attrs: to(fmt.Sprint("h", i, "x"), 200)})
		deep = append(deep, tspan{service: "a", trace: 1, id: byte(i + 1), parent: byte(i), kind: kindInternal, at: i, ms: 500 - i})
	}
	wide[0] = tspan{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 500, attrs: route("/", 200)}
	for _, tt := range []struct {
		name  string
		spans []tspan
		want  map[string]int64
	}{
		{"edges", wide[:255], map[string]int64{"analysed": 1, "long": 0, "skipped": 0, "too_large": 0}},
		{"depth", deep[:maxTreeDepth], map[string]int64{"analysed": 1, "long": 0, "skipped": 0, "too_large": 0}},
		{"depth", deep[:maxTreeDepth+2], map[string]int64{"analysed": 0, "long": 0, "skipped": 0, "too_large": 1}},
		{
			"length",
			[]tspan{{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 15_001, attrs: route("/", 200)}},
			map[string]int64{"analysed": 0, "long": 1, "skipped": 0, "too_large": 0},
		},
	} {
		in, live := newIntake()
		feed(t, in, epoch.Add(time.Second), each(t, tt.spans...)...)
		in.Tick(epoch.Add(12 * time.Second))
		if diff := cmp.Diff(tt.want, in.Counters().Traces); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
		if facts := factsOf(live); tt.want["too_large"] > 0 && len(facts) > 0 {
			t.Errorf("%s: facts of a tree that is too large: %v", tt.name, facts)
		}
	}
}

// Below its budget the analysis takes every trace; above it, the share that the budget pays for, by trace id.
func TestAnalysisKeepsToItsBudget(t *testing.T) {
	a := newAnalysis(5_000, 10*time.Second)
	at := epoch.UnixNano()
	second := func(spans int64) float64 {
		at += int64(time.Second)
		a.adapt(at, a.accepted+spans)
		return float64(a.share) / (1 << 64)
	}
	second(0)
	for range 20 {
		if share := second(4_900); share != 1 {
			t.Fatalf("share %g below the budget, want 1", share)
		}
	}
	if share := second(100_000); share < .049 || share > .051 {
		t.Errorf("share %g at twenty times the budget, want 0.05", share)
	}
	if share := second(0); share > .06 {
		t.Errorf("share %g right after a burst whose traces are still to come, want hardly more than 0.05", share)
	}
	for range 60 {
		second(100)
	}
	if share := second(100); share != 1 {
		t.Errorf("share %g a minute later, want 1", share)
	}
}

func TestWithoutABudgetNothingIsAnalysed(t *testing.T) {
	live := graph.NewLive(graph.DefaultLiveConfig(), 1)
	cfg := DefaultConfig()
	cfg.Analyse = 0
	in := NewIntake(cfg, live)
	feed(t, in, epoch.Add(time.Second), each(t, vectors[0].spans...)...)
	for s := range 12 {
		in.Tick(epoch.Add(time.Duration(2+s) * time.Second))
	}
	if n := in.Counters().Traces["skipped"]; n != 1 {
		t.Errorf("%d traces skipped, want 1", n)
	}
	if facts := factsOf(live); len(facts) > 0 {
		t.Errorf("facts %v", facts)
	}
}

// The label of an entry lives as long as its operation, and is given again after it.
func TestEntriesGoWithTheirOperation(t *testing.T) {
	names := graph.NewNames(100)
	d := newDirectory(names)
	s := d.service(graph.Node{Kind: graph.Service, Namespace: "shop", Name: "web"})
	long := strings.Repeat("x", 2*graph.MaxName)
	for operation, want := range map[string]string{
		"GET /buy": graph.EntryName("shop/web", "GET /buy"), "": graph.EntryName("shop/web", ""),
		long: graph.CleanName(graph.EntryName("shop/web", graph.CleanName(long))),
	} {
		label := graph.Label(0)
		if operation != "" {
			label = d.operation(s, []byte(operation), 100)
		}
		entry := d.entry(s.ref, label, 100)
		if got := names.Label(entry); got != want {
			t.Errorf("entry %q, want %q", got, want)
		}
		if again := d.entry(s.ref, label, 130); again != entry {
			t.Errorf("entry %q has the labels %d and %d", want, entry, again)
		}
	}
	if d.sweep(150); len(s.operations) == 0 {
		t.Error("entries were forgotten twenty minutes after they were used")
	}
	used := map[graph.Label]bool{}
	for _, o := range s.operations {
		used[o.label] = true
		used[graph.Label(o.entry.Load())] = true
	}
	d.sweep(200)
	if len(s.operations) > 0 {
		t.Fatalf("%d operations are left", len(s.operations))
	}
	delete(used, 0)
	for range len(used) {
		if l := names.NewLabel("new"); !used[l] {
			t.Errorf("label %d is new, and not all of %v are given again", l, used)
		}
	}
}

// What becomes of the failures of an edge is counted by what users asked for, whoever of those between them absorbed them;
// a call that went well in the end has not failed.
func TestFailuresAreOfTheOperation(t *testing.T) {
	in, live := newIntake()
	var spans []tspan
	for trace, ask := range []struct {
		route   string
		c, b, a int // how c answered b, b answered a, and a answered the user
		retried bool
	}{
		{"/with", 503, 500, 200, false},
		{"/with", 503, 200, 200, false},
		{"/without", 503, 500, 500, false},
		{"/without", 503, 200, 200, true},
		{"/without", 200, 200, 200, false},
	} {
		id := byte(trace + 1)
		spans = append(spans,
			tspan{service: "a", trace: id, id: 1, kind: kindServer, ms: 90, attrs: route(ask.route, ask.a), failed: ask.a >= 500},
			tspan{service: "a", trace: id, id: 2, parent: 1, kind: kindClient, at: 10, ms: 70, attrs: to("b", ask.b), failed: ask.b >= 500},
			tspan{service: "b", trace: id, id: 3, parent: 2, kind: kindServer, at: 12, ms: 60, attrs: route("/b", ask.b), failed: ask.b >= 500},
			tspan{service: "b", trace: id, id: 4, parent: 3, kind: kindClient, at: 20, ms: 10, attrs: to("c", ask.c), failed: ask.c >= 500},
			tspan{service: "c", trace: id, id: 5, parent: 4, kind: kindServer, at: 22, ms: 5, attrs: route("/c", ask.c), failed: ask.c >= 500},
		)
		if ask.retried {
			spans = append(spans,
				tspan{service: "b", trace: id, id: 6, parent: 3, kind: kindClient, at: 40, ms: 10, attrs: to("c", 200)},
				tspan{service: "c", trace: id, id: 7, parent: 6, kind: kindServer, at: 42, ms: 5, attrs: route("/c", 200)},
			)
		}
	}
	feed(t, in, epoch.Add(2*time.Second), each(t, spans...)...)
	in.Tick(epoch.Add(15 * time.Second))
	got := map[string]string{}
	for name, d := range details(live, graph.EntryFailed) {
		got[strings.Replace(name, "\t", " ", 1)] = fmt.Sprintf("%d, %d failed", d.Raw, d.RawErrors)
	}
	if diff := cmp.Diff(map[string]string{
		"a → b: entry_failed a GET /with": "1, 0 failed", "b → c: entry_failed a GET /with": "2, 0 failed",
		"a → b: entry_failed a GET /without": "1, 1 failed", "b → c: entry_failed a GET /without": "1, 1 failed",
		"user → a: entry_failed a GET /without": "1, 1 failed",
	}, got); diff != "" {
		t.Error(diff)
	}
}

// Each operation that users ask for has a depth of its own.
func TestDepthIsOfTheOperation(t *testing.T) {
	in, live := newIntake()
	feed(t, in, epoch.Add(2*time.Second), each(t,
		tspan{service: "a", trace: 1, id: 1, kind: kindServer, ms: 90, attrs: route("/flat", 200)},
		tspan{service: "a", trace: 2, id: 1, kind: kindServer, ms: 90, attrs: route("/deep", 200)},
		tspan{service: "a", trace: 2, id: 2, parent: 1, kind: kindClient, at: 10, ms: 70, attrs: to("b", 200)},
		tspan{service: "b", trace: 2, id: 3, parent: 2, kind: kindServer, at: 20, ms: 50, attrs: route("/b", 200)},
		tspan{service: "b", trace: 2, id: 4, parent: 3, kind: kindClient, at: 30, ms: 30, attrs: to("c", 200)},
		tspan{service: "c", trace: 2, id: 5, parent: 4, kind: kindServer, at: 40, ms: 10, attrs: route("/c", 200)},
	)...)
	in.Tick(epoch.Add(15 * time.Second))
	got := map[string]int64{}
	for name, d := range details(live, graph.EntryDepth) {
		got[name] = d.Latency.Max()
	}
	want := map[string]int64{
		"user → a: entry_depth " + graph.EntryName("a", "GET /flat"): 0,
		"user → a: entry_depth " + graph.EntryName("a", "GET /deep"): 2,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
