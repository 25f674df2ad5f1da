package finding

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"faultline/graph"
)

func TestFisher(t *testing.T) {
	for _, tt := range []struct {
		a, n, c, m int64
		want       float64
	}{
		{40, 100, 12, 900, 2.4e-33}, // TV C.7
		{3, 3, 0, 3, 1. / 20},       // 1 of the 20 ways to pick three of six
		{0, 10, 5, 10, 1},
		{1, 10, 0, 10, .5},
		{10, 10, 10, 10, 1},
		{8, 10, 1, 10, 0.0027387},
		{2, 10, 3, 10, 0.8482972},
		{5_000_000, 10_000_000, 5_000_000, 10_000_000, .5}, // no matter how many there are
		{6_000_000, 10_000_000, 5_000_000, 10_000_000, 0},
	} {
		if got := fisher(tt.a, tt.n, tt.c, tt.m); math.Abs(got-tt.want) > .02*tt.want {
			t.Errorf("%d/%d against %d/%d: %v, want %v", tt.a, tt.n, tt.c, tt.m, got, tt.want)
		}
	}
}

// Of parts that are equally bad the test calls one bad no more often than it promises to.
func TestFisherKeepsItsPromise(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	const rounds, instances = 2000, 5
	wrong := 0
	for range rounds {
		parts := make([]Part, instances)
		for i := range parts {
			parts[i] = Part{Name: strconv.Itoa(i), N: 50 + r.Int64N(200)}
			for range parts[i].N {
				if r.Float64() < .03 {
					parts[i].K++
				}
			}
		}
		judgeParts(parts, leastInstances)
		for _, p := range parts {
			if p.Bad {
				wrong++
			}
		}
	}
	if wrong > rounds*partP {
		t.Errorf("%d of %d good systems have a bad instance", wrong, rounds)
	}
}

func TestJudgeParts(t *testing.T) {
	// TV C.7: one instance of ten fails.
	parts := []Part{{Name: "bad", N: 100, K: 40}}
	for i := range 9 {
		parts = append(parts, Part{Name: strconv.Itoa(i), N: 100, K: 1 + int64(i%2)})
	}
	parts[1].K = 0 // 12 in all
	judgeParts(parts, leastInstances)
	for _, p := range parts {
		if p.Bad != (p.Name == "bad") {
			t.Errorf("%+v", p)
		}
	}
	if p := parts[0]; math.Round(100*p.Explains) != 77 || p.P > 2.5e-33 || p.P < 2.3e-33 {
		t.Errorf("explains %v with p = %v, want 77 %% and 2.4e-33", p.Explains, p.P)
	}
	for _, tt := range []struct {
		name  string
		parts []Part
	}{
		{"two instances", []Part{{N: 100, K: 50}, {N: 100}}},
		{"too few calls", []Part{{N: 19, K: 10}, {N: 100}, {N: 100}}},
		{"twice as bad is not bad enough", []Part{{N: 1000, K: 200}, {N: 1000, K: 100}, {N: 1000, K: 100}}},
		{"one percent point is not enough", []Part{{N: 10_000, K: 100}, {N: 10_000}, {N: 10_000}}},
		{"two failures", []Part{{N: 20, K: 2}, {N: 10_000}, {N: 10_000}}},
	} {
		judgeParts(tt.parts, leastInstances)
		for _, p := range tt.parts {
			if p.Bad {
				t.Errorf("%s: %+v", tt.name, p)
			}
		}
	}
}

// fleet is a system whose callee has instances in zones, on hosts, in versions; bad says which fail.
func fleet(bad func(instance int, zone, version string) bool, slow func(instance int) bool) *system {
	s := &system{}
	s.same(ab, func(m *minute) {
		m.calls(600, graph.None, 20*ms)
		for i := range 6 {
			zone, version := fmt.Sprint("z", i%3), "1.0"
			if i >= 4 {
				version = "1.1"
			}
			failed, latency := int64(0), 20*ms
			if bad != nil && bad(i, zone, version) {
				failed = 30
			}
			if slow != nil && slow(i) {
				latency = 60 * ms
			}
			m.detail(part(graph.Instance, graph.ServerSide, fmt.Sprint("b-", i)), 100, failed, latency)
			m.detail(part(graph.Version, graph.ServerSide, version), 100, failed, latency)
		}
	})
	for i := range 6 {
		version := "1.0"
		if i >= 4 {
			version = "1.1"
		}
		s.processes = append(s.processes, graph.NodeRow{
			Node: service("b"), Instance: fmt.Sprint("b-", i), Zone: fmt.Sprint("z", i%3), Host: fmt.Sprint("h", i/2), Version: version, Spans: 100,
		})
	}
	return s
}

// What goes wrong in a whole zone or version is named so, and what goes wrong in one instance is that.
func TestBadParts(t *testing.T) {
	for _, tt := range []struct {
		name string
		s    *system
		want []string
	}{
		{"all well", fleet(nil, nil), nil},
		{"all bad", fleet(func(int, string, string) bool { return true }, nil), nil},
		{"an instance", fleet(func(i int, _, _ string) bool { return i == 1 }, nil), []string{"bad_instance a→b b-1"}},
		{"two instances", fleet(func(i int, _, _ string) bool { return i == 0 || i == 5 }, nil), []string{"bad_instance a→b b-0", "bad_instance a→b b-5"}},
		{"a zone", fleet(func(_ int, zone, _ string) bool { return zone == "z1" }, nil), []string{"bad_zone a→b z1"}},
		{"a host", fleet(func(i int, _, _ string) bool { return i/2 == 0 }, nil), []string{"bad_host a→b h0"}},
		{"a version", fleet(func(_ int, _, version string) bool { return version == "1.1" }, nil), []string{"bad_version a→b 1.1"}},
		{"a slow instance", fleet(nil, func(i int) bool { return i == 3 }), []string{"bad_instance a→b b-3"}},
		{"all slow", fleet(nil, func(int) bool { return true }), nil},
		{"two slow instances", fleet(nil, func(i int) bool { return i == 0 || i == 5 }), []string{"bad_instance a→b b-0", "bad_instance a→b b-5"}},
		{"a slow zone", fleet(nil, func(i int) bool { return i%3 == 1 }), []string{"bad_zone a→b z1"}},
		{"a slow host", fleet(nil, func(i int) bool { return i/2 == 0 }), []string{"bad_host a→b h0"}},
		{"a slow version", fleet(nil, func(i int) bool { return i >= 4 }), []string{"bad_version a→b 1.1"}},
		{
			"a zone fails, and an instance elsewhere is slow", fleet(func(_ int, zone, _ string) bool { return zone == "z1" }, func(i int) bool { return i == 3 }),
			[]string{"bad_instance a→b b-3", "bad_zone a→b z1"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) { expect(t, tt.s.judge(), tt.want...) })
	}
}

// While a dependency is slow, about half of all calls are: no instance is slow for having a few more of them.
func TestHalfOfTheCallsAreSlow(t *testing.T) {
	s := (&system{}).same(ab, func(m *minute) {
		m.calls(600, graph.None, 20*ms)
		for i := range int64(6) {
			key := part(graph.Instance, graph.ServerSide, fmt.Sprint("b-", i))
			m.detail(key, 100, 0, 10*ms)
			m.detail(key, 97+i, 0, 90*ms)
		}
	})
	expect(t, s.judge())
}

func TestBadCaller(t *testing.T) {
	callers := func(failed, latency int64) *system {
		return (&system{}).same(ab, func(m *minute) {
			m.calls(300, graph.None, 20*ms)
			for i := range 3 {
				odd := part(graph.Instance, graph.ClientSide, fmt.Sprint("a-", i))
				if i == 2 {
					m.detail(odd, 100, failed, latency)
				} else {
					m.detail(odd, 100, 0, 20*ms)
				}
			}
		})
	}
	expect(t, callers(0, 20*ms).judge())
	expect(t, callers(20, 20*ms).judge(), "bad_caller a→b a-2")
	expect(t, callers(0, 60*ms).judge(), "bad_caller a→b a-2")
}

// Nothing is slow because of the minute in which one process had sent its spans and the others had not.
func TestNothingIsSlowInTheMinuteThatIsNotOver(t *testing.T) {
	for dimension, keys := range map[graph.Dimension][]graph.DetailKey{
		graph.Instance: {part(graph.Instance, graph.ServerSide, "b-0"), part(graph.Instance, graph.ServerSide, "b-1"), part(graph.Instance, graph.ServerSide, "b-2")},
		graph.Version:  {part(graph.Version, graph.ServerSide, "1.0"), part(graph.Version, graph.ServerSide, "1.1")},
		graph.Measured: {part(graph.Instance, graph.ClientSide, "a-0"), part(graph.Instance, graph.ClientSide, "a-1"), part(graph.Instance, graph.ClientSide, "a-2")},
	} {
		s := (&system{}).each(ab, func(at int, m *minute) {
			m.calls(600, graph.None, 20*ms)
			for i, key := range keys {
				m.detail(key, 20, 0, 20*ms)
				if at == 4 && i == 0 { // its spans of when everything had become slow
					m.detail(key, 5000, 0, 90*ms)
				}
			}
		})
		if got := s.judge(); len(got) > 0 {
			t.Errorf("%s: %s", dimension, got[0].Sentence)
		}
	}
}

// A part that failed and is well again is not named any more.
func TestBadPartEnds(t *testing.T) {
	s := (&system{}).each(ab, func(at int, m *minute) {
		m.calls(300, graph.None, 20*ms)
		for i := range 3 {
			failed := int64(0)
			if i == 2 && at < 3 {
				failed = 50
			}
			m.detail(part(graph.Instance, graph.ServerSide, fmt.Sprint("b-", i)), 100, failed, 20*ms)
		}
	})
	expect(t, s.judge())
}

// What exceeded a limit is no part of its own, however it does.
func TestOtherIsNoPart(t *testing.T) {
	s := (&system{}).same(ab, func(m *minute) {
		m.calls(900, graph.None, 10*ms).calls(90, graph.ServerError, 10*ms)
		for _, name := range []string{"1.0", "1.1", "1.2"} {
			m.detail(part(graph.Version, graph.ServerSide, name), 200, 0, 10*ms)
			m.detail(part(graph.Instance, graph.ServerSide, name), 200, 0, 10*ms)
		}
		m.detail(part(graph.Version, graph.ServerSide, graph.Other), 390, 90, 100*ms)
		m.detail(part(graph.Instance, graph.ServerSide, graph.Other), 390, 90, 100*ms)
	})
	expect(t, s.judge(), "server_error a→b")
}
