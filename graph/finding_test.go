package graph

import (
	"slices"
	"testing"
	"time"
)

func TestAttach(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	a, b := Node{Kind: Service, Name: "a"}, Node{Kind: Service, Name: "b"}
	ab, ba := EdgeKey{Source: a, Target: b, Protocol: HTTP}, EdgeKey{Source: b, Target: a, Protocol: HTTP}
	fine := EdgeStats{Calls: 100, Raw: 100, LogicalCalls: 100}
	open, over := now.Add(-10*time.Second), now.Add(-5*time.Minute)
	for _, tt := range []struct {
		name     string
		findings []Finding
		edge, b  Health
		a        Health
		rules    []string // of the edge
	}{
		{"nothing", nil, HealthOK, HealthOK, HealthOK, nil},
		{
			"loudest first",
			[]Finding{{Rule: "x", Edge: ab, Until: open}, {Rule: "z", Edge: ab, Level: Severe, Until: open}, {Rule: "y", Edge: ab, Level: Warn, Until: open}},
			HealthCritical, HealthCritical, HealthOK,
			[]string{"z", "y", "x"},
		},
		{"a note", []Finding{{Rule: "x", Edge: ab, Until: open}}, HealthOK, HealthOK, HealthOK, []string{"x"}},
		{"over", []Finding{{Rule: "x", Edge: ab, Level: Severe, Until: over}}, HealthOK, HealthOK, HealthOK, []string{"x"}},
		{"at a node", []Finding{{Rule: "x", Node: a, Level: Warn, Until: open}}, HealthOK, HealthOK, HealthWarn, nil},
		{"elsewhere", []Finding{{Rule: "x", Edge: EdgeKey{Source: a, Target: a}, Level: Severe, Until: open}}, HealthOK, HealthOK, HealthOK, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := BuildMap([]Window{{Edges: []EdgeRow{{ab, fine}, {ba, fine}}}}, now.Add(-time.Minute), now, "", false, nil)
			m.Attach(tt.findings)
			for _, e := range m.Edges {
				var rules []string
				for _, f := range e.Findings {
					rules = append(rules, f.Rule)
				}
				if e.Key == ab && (e.Health != tt.edge || !slices.Equal(rules, tt.rules)) || e.Key == ba && (e.Health != HealthOK || rules != nil) {
					t.Errorf("%s → %s: %s with %q", e.Key.Source.Name, e.Key.Target.Name, e.Health, rules)
				}
			}
			for _, n := range m.Nodes {
				if want := map[string]Health{"a": tt.a, "b": tt.b}[n.ID]; n.Health != want {
					t.Errorf("%s: %s, want %s", n.ID, n.Health, want)
				}
				if at := len(n.Findings); (at > 0) != (n.ID == "a" && tt.name == "at a node") {
					t.Errorf("%s has %d findings", n.ID, at)
				}
			}
		})
	}
}
