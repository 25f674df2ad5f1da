package finding

import (
	"fmt"
	"math"
	"testing"

	"faultline/graph"
)

// rollout is a system in which caller and callee each run two versions. calls are how many of them go from one to the
// other, and whether they fail to the caller and to the callee; a callee "" does not answer.
func rollout(of func(caller, callee string) (calls int64, client, server bool)) *system {
	s := &system{}
	s.same(ab, func(m *minute) {
		m.calls(400, graph.None, 20*ms)
		for _, caller := range []string{"2.0", "2.1"} {
			for _, callee := range []string{"", "1.0", "1.1"} {
				calls, client, server := of(caller, callee)
				failed := func(does bool) int64 {
					if does {
						return calls * 3 / 10
					}
					return 0
				}
				if calls == 0 {
					continue
				}
				m.detail(part(graph.VersionPair, graph.ClientSide, graph.PairName(caller, callee)), calls, failed(client), 20*ms)
				m.detail(part(graph.Instance, graph.ClientSide, "a-"+caller), calls, failed(client), 0)
				if callee != "" {
					m.detail(part(graph.Version, graph.ServerSide, callee), calls, failed(server), 20*ms)
					for i := range int64(2) {
						m.detail(part(graph.Instance, graph.ServerSide, fmt.Sprint("b-", callee, "-", i)), calls/2, failed(server)/2, 20*ms)
					}
				}
			}
		}
	})
	for _, callee := range []string{"1.0", "1.1"} {
		for i := range 2 {
			s.processes = append(s.processes, graph.NodeRow{Node: service("b"), Instance: fmt.Sprint("b-", callee, "-", i), Version: callee, Spans: 100})
		}
	}
	for _, caller := range []string{"2.0", "2.1"} {
		s.processes = append(s.processes, graph.NodeRow{Node: service("a"), Instance: "a-" + caller, Version: caller, Spans: 100})
	}
	return s
}

// A version that fails is named with its side, and two that do not get on are named together.
func TestBadVersions(t *testing.T) {
	mixed := func(bad func(caller, callee string) bool) *system {
		return rollout(func(caller, callee string) (int64, bool, bool) {
			if callee == "" {
				return 0, false, false
			}
			return 100, bad(caller, callee), bad(caller, callee)
		})
	}
	together := func(server bool) *system {
		return rollout(func(caller, callee string) (int64, bool, bool) {
			if callee == "" || caller[1:] != callee[1:] {
				return 0, false, false
			}
			return 200, callee == "1.1", server && callee == "1.1"
		})
	}
	for _, tt := range []struct {
		name string
		s    *system
		want []string
	}{
		{"all well", mixed(func(_, _ string) bool { return false }), nil},
		{"all bad", mixed(func(_, _ string) bool { return true }), nil},
		{"the callee's", mixed(func(_, callee string) bool { return callee == "1.1" }), []string{"bad_version a→b 1.1"}},
		{"the caller's", mixed(func(caller, _ string) bool { return caller == "2.1" }), []string{"bad_version a→b caller 2.1"}},
		{"a new caller with an old callee", mixed(func(caller, callee string) bool { return caller == "2.1" && callee == "1.0" }), []string{"bad_version a→b 2.1 → 1.0"}},
		{"an old caller with a new callee", mixed(func(caller, callee string) bool { return caller == "2.0" && callee == "1.1" }), []string{"bad_version a→b 2.0 → 1.1"}},
		{"both new, and the callee fails", together(true), []string{"bad_version a→b 1.1"}},
		{"both new, and only the caller sees a failure", together(false), []string{"bad_version a→b caller 2.1"}},
		{"nobody answers a new caller", rollout(func(caller, callee string) (int64, bool, bool) {
			switch {
			case caller == "2.1" && callee == "":
				return 200, true, false
			case caller == "2.0" && callee != "":
				return 100, false, false
			}
			return 0, false, false
		}), []string{"bad_version a→b caller 2.1"}},
	} {
		t.Run(tt.name, func(t *testing.T) { expect(t, tt.s.judge(), tt.want...) })
	}
}

// Pairs of which one version is not known are listed, and not tested.
func TestPairsOfUnknownVersions(t *testing.T) {
	sum := &Sum{Details: map[graph.DetailKey]*graph.Detail{}}
	put := func(caller, callee string, n, k int64) {
		sum.Details[part(graph.VersionPair, graph.ClientSide, graph.PairName(caller, callee))] = &graph.Detail{Calls: n, Raw: n, Errors: k, RawErrors: k}
	}
	put("2.0", "1.0", 300, 0)
	put("2.0", "1.1", 200, 100)
	put("2.0", "", 100, 100)
	put("", "1.0", 50, 50)
	want := []string{"2.0 1.0 false true", "2.0 1.1 true true", "2.0  false false", " 1.0 false false"}
	for i, p := range VersionPairs(sum) {
		if got := fmt.Sprint(p.Caller, " ", p.Callee, " ", p.Bad, " ", !math.IsNaN(p.P)); got != want[i] {
			t.Errorf("pair %d: %s, want %s", i, got, want[i])
		}
	}
	if versions := CallerVersions(sum); len(versions) != 1 || versions[0].Name != "2.0" || versions[0].N != 600 || versions[0].K != 200 {
		t.Errorf("the caller's versions: %+v", versions)
	}
}
