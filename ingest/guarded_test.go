package ingest

import (
	"testing"
	"time"

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
