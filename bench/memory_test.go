//go:build linux

package main

import (
	"math"
	"testing"
	"time"

	"faultline/internal/sim"
)

func TestSlope(t *testing.T) {
	var samples []sample
	for i := range 10 {
		noise := float64(i%2) * 4 // 0 4 4 0 in each four samples, which leans neither way
		if i%4 == 2 || i%4 == 3 {
			noise = 4 - noise
		}
		samples = append(samples, sample{minutes: float64(i) / 2, mib: 100 + 3*float64(i)/2 + noise})
	}
	if got := slope(samples[:8]); math.Abs(got-3) > 1e-9 {
		t.Errorf("slope %v, want 3", got)
	}
}

func TestAttacksRepeatNothing(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	for _, a := range attacks {
		traces := map[uint64]bool{}
		names := map[string]bool{}
		for i := uint64(1); i <= 1000; i++ {
			for _, h := range a.spans(nil, i, now) {
				traces[h.Trace] = true
				names[h.Service+" "+h.Peer+" "+h.Route] = true
				if h.Trace == 0 || h.ID == 0 || h.ID == h.Parent {
					t.Errorf("%s: invalid ids in %+v", a.name, h)
				}
			}
		}
		if len(traces) != 1000 {
			t.Errorf("%s: %d traces, want 1000", a.name, len(traces))
		}
		if want := 1000; a.name == "trace ids with unmatched halves" {
			if len(names) != 2 {
				t.Errorf("%s: %d names, want 2", a.name, len(names))
			}
		} else if len(names) != want {
			t.Errorf("%s: %d names, want %d", a.name, len(names), want)
		}
	}
}

func TestWrongEdges(t *testing.T) {
	cfg := sim.DefaultLoad(10)
	cfg.Spans = 2000
	load, err := sim.NewLoad(cfg)
	if err != nil {
		t.Fatal(err)
	}
	truth := load.Truth()
	shown := func(change func(map[sim.Edge]counts)) map[sim.Edge]counts {
		m := map[sim.Edge]counts{}
		for _, e := range truth.Edges() {
			want := truth.Edge(e)
			m[e] = counts{2 * want.Calls, 2 * want.Errors, 2 * want.Retries}
		}
		change(m)
		return m
	}
	first := truth.Edges()[0]
	for _, test := range []struct {
		name   string
		change func(map[sim.Edge]counts)
		want   int
	}{
		{"exact", func(map[sim.Edge]counts) {}, 0},
		{"one is missing", func(m map[sim.Edge]counts) { delete(m, first) }, 1},
		{"one call too many", func(m map[sim.Edge]counts) {
			c := m[first]
			c.calls++
			m[first] = c
		}, 1},
		{"one that is not there", func(m map[sim.Edge]counts) {
			m[sim.Edge{Source: "x", Target: "y", Protocol: "http"}] = counts{calls: 1}
		}, 1},
		{"a probe's", func(m map[sim.Edge]counts) {
			m[sim.Edge{Source: probeCaller, Target: "probe-1", Protocol: "http"}] = counts{calls: 1}
		}, 0},
	} {
		if got := wrongEdges(shown(test.change), truth, 2); got != test.want {
			t.Errorf("%s: %d wrong edges, want %d", test.name, got, test.want)
		}
	}
}
