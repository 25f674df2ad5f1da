package ingest

import (
	"testing"
	"time"

	"faultline/graph"
)

// Attempts beside one that is going well are a choice. They count at once as what they are: nothing colours the edge of a
// client that hedges, not even before its calls have waited, and nothing calls its second attempts retries.
func TestAClientThatHedgesIsWell(t *testing.T) {
	below := map[string]func(trace byte) []tspan{
		"two client spans": func(trace byte) []tspan {
			return []tspan{
				{service: "a", trace: trace, id: 9, kind: kindInternal, at: 0, ms: 70},
				{service: "a", trace: trace, id: 1, parent: 9, kind: kindClient, at: 0, ms: 61, attrs: getGone, failed: true},
				{service: "a", trace: trace, id: 2, parent: 9, kind: kindClient, at: 30, ms: 30, attrs: get},
				{service: "b", trace: trace, id: 3, parent: 2, kind: kindServer, at: 31, ms: 28, attrs: serve},
			}
		},
		"one client span": func(trace byte) []tspan {
			return []tspan{
				{service: "a", trace: trace, id: 1, kind: kindClient, at: 0, ms: 60, attrs: rpc(0)},
				{service: "b", trace: trace, id: 2, parent: 1, kind: kindServer, at: 5, ms: 80, attrs: rpc(0)},
				{service: "b", trace: trace, id: 3, parent: 1, kind: kindServer, at: 30, ms: 20, attrs: rpc(0)},
			}
		},
	}
	for name, calls := range below {
		for _, waits := range []bool{false, true} {
			in, live := newIntake()
			now := epoch.Add(time.Second)
			for i := range 60 {
				// The callee's spans come from another process.
				for _, body := range each(t, calls(byte(i+1))...) {
					feed(t, in, now, body)
				}
			}
			if waits {
				in.Tick(now.Add(11 * time.Second))
			}
			windows, _ := live.Windows(time.Unix(0, 0), epoch.Add(24*time.Hour), false)
			m := graph.BuildMap(windows, epoch, epoch.Add(time.Minute), "", false, nil)
			var seen bool
			for i := range m.Edges {
				e := &m.Edges[i]
				if e.Key.Source.Name != "a" || e.Stats.Calls < 60 {
					continue
				}
				seen = true
				if e.Health != graph.HealthOK {
					t.Errorf("%s, waited %v: %s is %s: %v", name, waits, e.Key.Target.ID(), e.Health, e.Reasons)
				}
				if e.Stats.Calls != e.Stats.LogicalCalls+e.Stats.Hedges || e.Stats.Retries() != 0 {
					t.Errorf("%s, waited %v: %d calls, %d logical, %d hedges, %d retries", name, waits,
						e.Stats.Calls, e.Stats.LogicalCalls, e.Stats.Hedges, e.Stats.Retries())
				}
			}
			if !seen {
				t.Errorf("%s, waited %v: no edge", name, waits)
			}
		}
	}
}
