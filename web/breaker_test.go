package web

import (
	"encoding/json"
	"testing"
	"time"

	"faultline/graph"
)

// An edge whose callers' breaker opened says since when it is how, and what it was before.
func TestAnEdgeTellsTheStatesOfItsBreaker(t *testing.T) {
	store := newStore(t)
	from := floor(testNow, graph.WindowLength).Add(-2 * time.Minute)
	for i := range 12 {
		s := graph.EdgeStats{Calls: 20, LogicalCalls: 20, Raw: 20}
		if kept := int64(0); i >= 4 {
			if kept = 20; i == 11 {
				kept = 19 // one is let through, and fails
			}
			s.Errors, s.LogicalErrors, s.RawErrors = 20, 20, 20
			s.Failures[graph.BreakerOpen], s.Failures[graph.Timeout] = kept, 20-kept
		}
		s.Client.Add(int64(2*time.Millisecond), 20)
		store.add(graph.Window{
			Start: from.Add(time.Duration(i) * graph.WindowLength), Length: graph.WindowLength,
			Edges: []graph.EdgeRow{{Edge: checkoutPayment, Stats: s}},
		})
	}
	server := newServer(t, store)
	_, body := ask(t, server, "/api/v1/edges/"+checkoutPayment.ID())
	var edge EdgeDetail
	if err := json.Unmarshal([]byte(body), &edge); err != nil {
		t.Fatal(err)
	}
	b := edge.Breaker
	if b == nil || b.State != "half_open" || !b.Since.Equal(from.Add(110*time.Second)) || len(b.Runs) != 3 {
		t.Fatalf("breaker: %+v", b)
	}
	if open := b.Runs[1]; open.State != "open" || !open.From.Equal(from.Add(40*time.Second)) || open.Kept != 140 || open.Passed != 0 || open.N != 140 {
		t.Errorf("open: %+v", open)
	}
	if probing := b.Runs[2]; probing.Passed != 1 || probing.Failed != 1 {
		t.Errorf("half open: %+v", probing)
	}
	// The live panel asks for the last minute, and is told what was before it.
	if _, minute := ask(t, server, "/api/v1/edges/"+checkoutPayment.ID()+"?from=now-60s"); json.Unmarshal([]byte(minute), &edge) != nil || len(edge.Breaker.Runs) != 3 {
		t.Errorf("in the last minute: %+v", edge.Breaker)
	}
}
