package ingest

import (
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
		{"in code of its own, and nothing says before what", tspan{kind: kindInternal, ms: 1, attrs: map[string]any{"error.type": "CircuitBreakerOpenException"}}, nil},
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
