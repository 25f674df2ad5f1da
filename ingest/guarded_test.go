package ingest

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
)

// What the caller's own breaker or pool refused never reached the callee: it makes the caller's edge look bad, and does
// not make the callee look bad, in neither health nor figures.
func TestTheCalleeIsNotToBlameForItsCallersGuards(t *testing.T) {
	in, live := newIntake()
	now := epoch.Add(2 * time.Second)
	for i := range 100 {
		feed(t, in, now, each(t,
			tspan{service: "a", trace: byte(i), id: 1, kind: kindClient, at: i, ms: 10, attrs: get},
			tspan{service: "b", trace: byte(i), id: 2, parent: 1, kind: kindServer, at: i + 1, ms: 5, attrs: serve})...)
	}
	for i := range 100 {
		feed(t, in, now, each(t, tspan{
			service: "a", trace: byte(100 + i), id: 1, kind: kindClient, at: 1000, ms: 1, failed: true,
			attrs: with(getB, "error.type", "io.github.resilience4j.circuitbreaker.CallNotPermittedException"),
		})...)
	}
	in.Tick(now.Add(11 * time.Second))
	windows, _ := live.Windows(time.Unix(0, 0), epoch.Add(time.Hour), false)
	m := graph.BuildMap(windows, epoch, epoch.Add(time.Minute), "", false, nil)
	edge, callee := &m.Edges[0], &m.Nodes[1]
	if len(m.Edges) != 1 || callee.ID != "b" || edge.Stats.Calls != 200 || edge.Health != graph.HealthCritical {
		t.Fatalf("%d edges, node %s, %d calls, edge %s", len(m.Edges), callee.ID, edge.Stats.Calls, edge.Health)
	}
	if in := &callee.Inbound; callee.Health != graph.HealthOK || in.Calls != 100 || in.Errors != 0 || in.Raw != 100 || in.RawErrors != 0 {
		t.Errorf("b is %s: %d of %d calls failed, raw %d of %d", callee.Health, in.Errors, in.Calls, in.RawErrors, in.Raw)
	}
	// Nor does the finding that names the breaker.
	m.Attach([]graph.Finding{{Rule: "breaker_open", Edge: edge.Key, Level: graph.Severe, Since: epoch, Until: m.To}})
	if callee.Health != graph.HealthOK || len(edge.Findings) != 1 {
		t.Errorf("b is %s for its caller's breaker, %d findings on the edge", callee.Health, len(edge.Findings))
	}
	m.Attach([]graph.Finding{{Rule: "server_error", Edge: edge.Key, Level: graph.Severe, Since: epoch, Until: m.To}})
	if callee.Health != graph.HealthCritical {
		t.Errorf("b is %s for its own errors", callee.Health)
	}
}

// An open breaker answers at once. A call that took longer has been somewhere, and what it says of a breaker is what it
// was told there. Breakers are often in code of their own, whose spans are INTERNAL ones: those that name a peer are calls.
func TestAnOpenBreakerAnswersAtOnce(t *testing.T) {
	open := with(getB, "error.type", "io.github.resilience4j.circuitbreaker.CallNotPermittedException")
	for _, tt := range []struct {
		name string
		span tspan
		want []string
	}{
		{"at once", tspan{kind: kindClient, ms: 4, attrs: open}, []string{"a → ext:b:8080 http: calls 1, errors 1, breaker_open 1, client 1×4ms"}},
		{"later", tspan{kind: kindClient, ms: 5, attrs: open}, []string{"a → ext:b:8080 http: calls 1, errors 1, server_error 1, client 1×5ms"}},
		{
			"Envoy, which knows",
			tspan{kind: kindClient, ms: 9, attrs: with(get5, "response_flags", "UO")},
			[]string{"a → ext:b:8080 http: calls 1, errors 1, breaker_open 1, client 1×9ms"},
		},
		{
			"in code of its own",
			tspan{kind: kindInternal, ms: 1, attrs: map[string]any{"peer.service": "b", "error.type": "CircuitBreakerOpenException"}},
			[]string{"a → ext:b unknown: calls 1, errors 1, breaker_open 1, client 1×1ms"},
		},
		{
			"in code of its own, and nothing says before what",
			tspan{kind: kindInternal, ms: 1, attrs: map[string]any{"error.type": "CircuitBreakerOpenException"}},
			[]string{"a → unknown unknown: calls 1, errors 1, breaker_open 1, client 1×1ms"},
		},
		{"another failure in code", tspan{kind: kindInternal, ms: 1, attrs: map[string]any{"peer.service": "b", "error.type": "NullPointerException"}}, nil},
	} {
		in, live := newIntake()
		tt.span.service, tt.span.trace, tt.span.id, tt.span.parent, tt.span.failed = "a", 1, 1, 9, true
		feed(t, in, epoch.Add(time.Second), each(t, tt.span)...)
		in.Tick(epoch.Add(12 * time.Second))
		if diff := cmp.Diff(tt.want, briefs(live)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

// Words of a breaker in a message, which anybody may have said, are one's own breaker's only in a call that is over in a
// tenth of what calls of the edge usually take, if that is known; the type of an error names it. What usual is does not become
// less because breakers are open.
func TestAnOpenBreakerIsQuickBesideOtherCalls(t *testing.T) {
	words := func(us int) tspan {
		return tspan{service: "a", id: 1, parent: 9, kind: kindClient, us: us, failed: true, message: "circuit breaker is open", attrs: with(getB, "error.type", "*errors.errorString")}
	}
	named := words(0)
	named.attrs = with(named.attrs, "error.type", "io.github.resilience4j.circuitbreaker.CallNotPermittedException")
	for _, tt := range []struct {
		name  string
		usual int // ms; 0 is not known
		span  tspan
		us    int
		want  graph.Failure
	}{
		{"less than a tenth", 40, words(0), 3900, graph.BreakerOpen},
		{"a tenth and more", 40, words(0), 4100, graph.ServerError},
		{"of a slow edge", 400, words(0), 4900, graph.BreakerOpen},
		{"5 ms, of a slow edge", 400, words(0), 5000, graph.ServerError},
		{"of an edge of which nothing is known", 0, words(0), 4900, graph.BreakerOpen},
		{"less than a millisecond, of a quick edge", 2, words(0), 900, graph.BreakerOpen},
		{"more than that", 2, words(0), 1100, graph.ServerError},
		{"a breaker by name", 2, named, 4900, graph.BreakerOpen},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, live := newIntake()
			now := epoch.Add(2 * time.Second)
			if tt.usual > 0 {
				for i := range 40 {
					feed(t, in, now, each(t,
						tspan{service: "a", trace: byte(i), id: 1, kind: kindClient, at: i, ms: tt.usual, attrs: get},
						tspan{service: "b", trace: byte(i), id: 2, parent: 1, kind: kindServer, at: i, ms: tt.usual, attrs: serve})...)
				}
			}
			for i := range 120 { // over two minutes, ten seconds on end with nothing but these
				s := tt.span
				s.trace, s.at, s.us = byte(100+i), 10_000+1000*i, tt.us
				now = epoch.Add(time.Duration(12+i) * time.Second)
				feed(t, in, now, each(t, s)...)
				in.Tick(now)
				if i%10 == 0 {
					live.Kept(live.Cut(now))
				}
			}
			wait(in, now, now.Add(11*time.Second))
			windows, _ := live.Windows(time.Unix(0, 0), epoch.Add(time.Hour), false)
			var s graph.EdgeStats
			for _, w := range windows {
				for i := range w.Edges {
					s.Add(&w.Edges[i].Stats)
				}
			}
			if got := s.Failures[tt.want]; got == 0 || got != s.Errors {
				t.Errorf("of %d failures %d are %s", s.Errors, got, tt.want)
			}
		})
	}
}

// A guard that names nobody counts once, for the innermost span that tells of it, and not where a call below it tells the
// same. One that is called like a service stands before that.
func TestAGuardThatNamesNobody(t *testing.T) {
	open := func(more ...any) map[string]any {
		return with(map[string]any{"error.type": "io.github.resilience4j.circuitbreaker.CallNotPermittedException"}, more...)
	}
	root := tspan{service: "a", trace: 1, id: 1, kind: kindServer, ms: 20, attrs: serve}
	guard := func(id, parent byte) tspan {
		return tspan{service: "a", trace: 1, id: id, parent: parent, kind: kindInternal, at: 2, ms: 1, failed: true, attrs: open()}
	}
	plain := guard(3, 2)
	plain.failed, plain.attrs = false, nil
	named := guard(2, 1)
	named.name = "b"
	peer := guard(2, 1)
	peer.attrs = open("peer.service", "b")
	slow := guard(2, 1)
	slow.ms = 5
	const entry = "user → a http: calls 1, server 1×20ms"
	for _, tt := range []struct {
		name  string
		spans []tspan
		want  []string
	}{
		{"too late to be an open breaker's", []tspan{root, slow}, []string{entry}},
		{"alone", []tspan{root, guard(2, 1)}, []string{"a → unknown unknown: calls 1, errors 1, breaker_open 1, client 1×1ms", entry}},
		{"told through several spans", []tspan{root, guard(2, 1), guard(3, 2), guard(4, 3)}, []string{"a → unknown unknown: calls 1, errors 1, breaker_open 1, client 1×1ms", entry}},
		{
			"a pool that is exhausted",
			[]tspan{root, {service: "a", trace: 1, id: 2, parent: 1, kind: kindInternal, at: 2, ms: 1, failed: true, attrs: map[string]any{"error.type": "BulkheadFullException"}}},
			[]string{"a → unknown unknown: calls 1, errors 1, pool_exhausted 1, client 1×1ms", entry},
		},
		{"before a call that tells the same", []tspan{
			root, guard(2, 1), plain,
			{service: "a", trace: 1, id: 4, parent: 3, kind: kindClient, at: 2, ms: 1, failed: true, attrs: with(getB, "error.type", "io.github.resilience4j.circuitbreaker.CallNotPermittedException")},
		}, []string{"a → b http: calls 1, errors 1, breaker_open 1, client 1×1ms", entry}},
		{"called like a service", []tspan{
			root, named, {service: "b", trace: 2, id: 1, kind: kindServer, ms: 5, attrs: serve},
		}, []string{"a → b http: calls 1, errors 1, breaker_open 1, client 1×1ms", entry, "user → b http: calls 1, server 1×5ms"}},
		{"called like a service of which nothing says how it is called", []tspan{root, named}, []string{"a → b unknown: calls 1, errors 1, breaker_open 1, client 1×1ms", entry}},
		{"called like a service that is called in two ways", []tspan{
			root, named, {service: "b", trace: 2, id: 1, kind: kindServer, ms: 5, attrs: serve}, {service: "b", trace: 3, id: 1, kind: kindServer, ms: 5, attrs: rpc(0)},
		}, []string{"a → b unknown: calls 1, errors 1, breaker_open 1, client 1×1ms", entry, "user → b grpc: calls 1, server 1×5ms", "user → b http: calls 1, server 1×5ms"}},
		{"that names its peer, beside a call to it", []tspan{
			root, peer, client(4, 1, 3, 10, get), server(5, 4, 4, 5, serve),
		}, []string{"a → b http: calls 2, errors 1, breaker_open 1, client 2×5ms, server 1×5ms", entry}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, reversed := range []bool{false, true} {
				in, live := newIntake()
				feed(t, in, epoch.Add(time.Second), each(t, tspan{service: "b", trace: 9, id: 1, kind: kindInternal, ms: 1})...)
				bodies := each(t, tt.spans...)
				if reversed {
					slices.Reverse(bodies)
				}
				feed(t, in, epoch.Add(time.Second), bodies...)
				in.Tick(epoch.Add(12 * time.Second))
				if diff := cmp.Diff(tt.want, briefs(live)); diff != "" {
					t.Errorf("reversed %v: %s", reversed, diff)
				}
			}
		})
	}
}
