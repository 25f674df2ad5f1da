package storagetest

import (
	"cmp"
	"math"
	"slices"
	"testing"
	"time"

	"faultline/graph"
	"faultline/storage"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// someFindings returns findings on edges and at nodes of two environments, that begin a minute apart and last five.
func someFindings() []graph.Finding {
	staged := func(name string) graph.Node { return graph.Node{Env: "staging", Kind: graph.Service, Name: name} }
	list := []graph.Finding{
		{Rule: "retry_budget", Edge: edge("a", "b"), Level: graph.Warn, Sentence: "retries add 48 % load", Value: 1.48, N: 2310},
		{Rule: "bad_instance", Edge: edge("a", "b"), Subject: "b-1", Level: graph.Severe, Value: .77, N: 1000},
		{Rule: "bad_instance", Edge: edge("a", "b"), Subject: "b-2", Level: graph.Severe, Value: math.NaN()},
		{Rule: "timeout", Edge: edge("b", "c"), Subject: "", Value: 1e-300, N: math.MaxInt64},
		{Rule: "deploy", Node: service("b"), Subject: "2.0\x00'", Level: graph.Note},
		{Rule: "deploy", Node: staged("b"), Subject: "2.1", Level: graph.Note},
		{Rule: "retry_budget", Edge: graph.EdgeKey{Source: staged("a"), Target: staged("b"), Protocol: graph.GRPC}, Level: graph.Warn},
	}
	for i := range list {
		list[i].Since = start.Add(time.Duration(i) * time.Minute)
		list[i].Until = list[i].Since.Add(5 * time.Minute)
	}
	return list
}

func writeFindings(t *testing.T, s storage.Store, list ...graph.Finding) {
	t.Helper()
	if err := s.Write(t.Context(), storage.Batch{Findings: list}); err != nil {
		t.Fatal(err)
	}
}

func testFindings(t *testing.T, open Open) {
	place := t.TempDir()
	retention := storage.Retention{Fine: time.Hour, Minute: time.Hour, Hour: 24 * time.Hour, Traces: time.Hour}
	s := open(t, place, retention)
	list := someFindings()
	writeFindings(t, s, list...)
	writeFindings(t, s, list[2:4]...) // again, as after an answer that was lost
	// A later state replaces the earlier one; a new beginning is another finding.
	list[0].Until, list[0].Level, list[0].Sentence, list[0].Value, list[0].N = start.Add(time.Hour), graph.Severe, "worse", 2, 4000
	again := list[1]
	again.Since, again.Until = start.Add(2*time.Hour), start.Add(3*time.Hour)
	list = append(list, again)
	writeFindings(t, s, list[0], again)

	all := storage.FindingQuery{From: start.Add(-time.Hour), To: start.Add(24 * time.Hour), Limit: storage.MaxFindings}
	with := func(change func(q *storage.FindingQuery)) storage.FindingQuery {
		q := all
		change(&q)
		return q
	}
	check := func() {
		t.Helper()
		for name, q := range map[string]storage.FindingQuery{
			"all":                     all,
			"one environment":         with(func(q *storage.FindingQuery) { q.Env, q.HasEnv = "staging", true }),
			"environment without":     with(func(q *storage.FindingQuery) { q.HasEnv = true }),
			"edge":                    with(func(q *storage.FindingQuery) { q.Edge = edge("a", "b").ID() }),
			"no such edge":            with(func(q *storage.FindingQuery) { q.Edge = "none" }),
			"node, and its edges":     with(func(q *storage.FindingQuery) { q.Node, q.HasEnv = "b", true }),
			"node at one end":         with(func(q *storage.FindingQuery) { q.Node = "c" }),
			"rule":                    with(func(q *storage.FindingQuery) { q.Rule = "bad_instance" }),
			"begins at the end":       with(func(q *storage.FindingQuery) { q.To = list[1].Since }),
			"ends at the beginning":   with(func(q *storage.FindingQuery) { q.From = list[3].Until }),
			"before everything":       with(func(q *storage.FindingQuery) { q.To = start }),
			"the latest two":          with(func(q *storage.FindingQuery) { q.Limit = 2 }),
			"within one that is long": with(func(q *storage.FindingQuery) { q.From, q.To = start.Add(40*time.Minute), start.Add(50*time.Minute) }),
		} {
			got, err := s.Findings(t.Context(), q)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want := slices.DeleteFunc(slices.Clone(list), func(f graph.Finding) bool { return !q.Matches(&f) })
			slices.SortStableFunc(want, func(a, b graph.Finding) int { return cmp.Or(b.Since.Compare(a.Since)) })
			want = want[:min(len(want), q.Limit)]
			if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateNaNs()); diff != "" {
				t.Errorf("%s: want(-) got(+):\n%s", name, diff)
			}
		}
	}
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, place, retention)
	check()
	for _, limit := range []int{-1, 0, storage.MaxFindings + 1} {
		if _, err := s.Findings(t.Context(), with(func(q *storage.FindingQuery) { q.Limit = limit })); err == nil {
			t.Errorf("limit %d was taken", limit)
		}
	}

	// Findings are kept as long as hours, from when they were last found.
	maintain(t, s, start.Add(25*time.Hour+30*time.Minute))
	got, err := s.Findings(t.Context(), all)
	if err != nil || len(got) != 1 || !got[0].Since.Equal(again.Since) {
		t.Errorf("%d findings within the retention, %v; want the last", len(got), err)
	}
}
