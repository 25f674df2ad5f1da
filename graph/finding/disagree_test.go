package finding

import (
	"slices"
	"strings"
	"testing"
	"time"

	"faultline/graph"
)

// The rule says which versions do not get on, as soon as the pairs tell that apart by more than chance.
func TestContractNamesTheVersions(t *testing.T) {
	type pair struct {
		caller, callee string
		calls, down    int64 // a minute
	}
	for _, tt := range []struct {
		name  string
		pairs []pair
		says  string // "" when no versions are named
		marks []string
	}{
		{"one pair of four", []pair{
			{"1.0", "7.0", 200, 2}, {"1.0", "7.1", 200, 1}, {"1.1", "7.0", 200, 2}, {"1.1", "7.1", 200, 80},
		}, "the caller's version 1.1 with the callee's 7.1 (40 % of 1,000, elsewhere 0.83 %, p < 1e-9)", []string{"1.1 7.1"}},
		{"every caller with the new callee", []pair{
			{"1.0", "7.0", 200, 0}, {"1.0", "7.1", 200, 60}, {"1.1", "7.0", 200, 2}, {"1.1", "7.1", 200, 80},
		}, "every version of the caller with the callee's 7.1 (35 % of 2,000, elsewhere 0.5 %, p < 1e-9)", []string{"1.0 7.1", "1.1 7.1"}},
		{"the new caller with every callee", []pair{
			{"1.0", "7.0", 200, 0}, {"1.0", "7.1", 200, 2}, {"1.1", "7.0", 200, 60}, {"1.1", "7.1", 200, 80},
		}, "the caller's version 1.1 with every one of the callee (35 % of 2,000, elsewhere 0.5 %, p < 1e-9)", []string{"1.1 7.0", "1.1 7.1"}},
		{
			"one caller, and the new callee",
			[]pair{{"1.0", "7.0", 200, 2}, {"1.0", "7.1", 200, 80}},
			"the caller's version 1.0 with the callee's 7.1 (40 % of 1,000, elsewhere 1 %, p < 1e-9)",
			[]string{"1.0 7.1"},
		},
		{"all alike", []pair{{"1.0", "7.0", 200, 80}, {"1.0", "7.1", 200, 80}}, "", nil},
		{"one pair alone", []pair{{"1.0", "7.1", 400, 80}}, "", nil},
		{"too few to tell", []pair{{"1.0", "7.0", 400, 60}, {"1.0", "7.1", 2, 1}}, "", nil},
		{"the callee's version is not known", []pair{{"1.0", "7.0", 400, 60}, {"1.0", "", 200, 200}}, "", nil},
		{"what is gathered is no version", []pair{{"1.0", "7.0", 400, 60}, {graph.Other, graph.Other, 200, 200}}, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			memory, at := &Memory{}, noon
			round := func(pairs []pair, versions ...string) *Graph {
				s := &system{processes: []graph.NodeRow{{Node: service("a"), Version: "1.0", Spans: 100}, {Node: service("b"), Version: "7.0", Spans: 100}}}
				s.same(ab, func(m *minute) {
					for _, p := range pairs {
						m.calls(p.calls, graph.None, ms)
						m.ClientErrors += p.down
						name := graph.PairName(p.caller, p.callee)
						m.detail(part(graph.VersionPair, graph.ClientSide, name), p.calls, 0, ms)
						if p.down > 0 {
							m.detail(part(graph.PairTurnedDown, graph.ClientSide, name), p.down, 0, ms)
						}
					}
					for _, v := range versions {
						m.detail(part(graph.Version, graph.ServerSide, v), 200, 0, ms)
					}
				})
				return s.graph(at, memory)
			}
			for i := range 20 {
				Judge(round([]pair{{"1.0", "7.0", 400, 2}}, []string{"7.0", "7.1"}[:1+i/19]...)) // deployed in the end
				memory.Learned(at)
				at = at.Add(time.Minute)
			}
			g := round(tt.pairs, "7.0", "7.1")
			var sentence string
			for _, f := range Judge(g) {
				if f.Rule == "contract" {
					sentence = f.Sentence
				}
				if f.Rule == "bad_version" {
					t.Errorf("what is turned down is no failure: %s", f.Sentence)
				}
			}
			if !strings.Contains(sentence, "since b is there in version 7.1") || !strings.Contains(sentence, tt.says) || strings.Contains(sentence, "elsewhere") != (tt.says != "") {
				t.Errorf("%q, want %q", sentence, tt.says)
			}
			var marks []string
			for _, p := range VersionPairs(&g.Edges[0].Sum) {
				if p.Disagrees {
					marks = append(marks, p.Caller+" "+p.Callee)
				}
			}
			slices.Sort(marks)
			if !slices.Equal(marks, tt.marks) {
				t.Errorf("marked are %v, want %v", marks, tt.marks)
			}
		})
	}
}

// Failures of the class contract name their versions as well.
func TestFailuresOfAContractNameTheVersions(t *testing.T) {
	s := &system{}
	s.same(ab, func(m *minute) {
		m.calls(200, graph.None, ms).calls(20, graph.Contract, ms)
		m.detail(part(graph.VersionPair, graph.ClientSide, graph.PairName("1", "7")), 110, 0, ms)
		m.detail(part(graph.VersionPair, graph.ClientSide, graph.PairName("2", "7")), 110, 20, ms)
		m.detail(part(graph.PairTurnedDown, graph.ClientSide, graph.PairName("2", "7")), 20, 20, ms)
	})
	for _, f := range s.judge() {
		if f.Rule == "contract" && strings.Contains(f.Sentence, ": the caller's version 2 with the callee's 7 (18 % of 550, elsewhere 0 %") {
			return
		}
	}
	t.Errorf("%+v", s.judge())
}
