package graph

import (
	"slices"
	"testing"
	"time"
)

func TestCriticalityReadsWhatItWrites(t *testing.T) {
	for c := range CriticalityCritical + 1 {
		if got := ParseCriticality(c.String()); got != c {
			t.Errorf("%q is read as %d, want %d", c.String(), got, c)
		}
	}
	if got := ParseCriticality("mission"); got != CriticalityUnknown || Criticality(99).String() != "critical" {
		t.Errorf("unknown words are read as %v", got)
	}
}

// An edge is as critical as the more critical of its ends.
func TestWeigh(t *testing.T) {
	node := func(name string) Node { return Node{Kind: Service, Name: name} }
	row := func(source, target string) EdgeRow {
		return EdgeRow{Edge: EdgeKey{node(source), node(target), HTTP}, Stats: EdgeStats{Calls: 1, Raw: 1}}
	}
	m := BuildMap([]Window{{Edges: []EdgeRow{row("a", "b"), row("b", "c"), row("c", "d")}}}, time.Unix(0, 0), time.Unix(60, 0), "", false, nil)
	m.Weigh(func(n Node) Criticality {
		return map[string]Criticality{"a": CriticalityLow, "b": CriticalityCritical}[n.Name]
	})
	want := map[string]Criticality{"a": CriticalityCritical, "b": CriticalityCritical, "c": CriticalityUnknown}
	for i := range m.Edges {
		if e := &m.Edges[i]; e.Criticality != want[e.Key.Source.Name] {
			t.Errorf("%s → %s is %q", e.Key.Source.Name, e.Key.Target.Name, e.Criticality)
		}
	}
}

func TestCriticalityIsKept(t *testing.T) {
	want := []StatedCriticality{
		{Node{Env: "prod", Kind: Service, Namespace: "shop", Name: "pay"}, CriticalityCritical, 20_000},
		{Node{Kind: Service, Name: "mail"}, CriticalityLow, 19_999},
	}
	data, err := EncodeCriticality(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeCriticality(data)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%s is read as %+v, %v", data, got, err)
	}
	if got, err := DecodeCriticality([]byte(`[{"name":"a","criticality":"vital"},{"name":"b","criticality":"high"}]`)); err != nil || len(got) != 1 || got[0].Service.Name != "b" {
		t.Errorf("beside one that is not known: %+v, %v", got, err)
	}
	if _, err := DecodeCriticality([]byte(`{`)); err == nil {
		t.Error("what is broken is no error")
	}
}
