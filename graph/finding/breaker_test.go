package finding

import (
	"testing"
	"time"

	"faultline/graph"
)

// Each letter is ten seconds of a breaker: c well, o all kept back, p one probe in twenty that fails, h half of them
// passing, space no calls.
func breakerWindows(pattern string) []graph.Window {
	var windows []graph.Window
	for i, c := range pattern {
		m := &minute{}
		switch c {
		case 'c':
			m.calls(20, graph.None, 20*ms)
		case 'o':
			m.calls(20, graph.BreakerOpen, ms)
		case 'p':
			m.calls(19, graph.BreakerOpen, ms).calls(1, graph.Timeout, 900*ms)
		case 'h':
			m.calls(10, graph.BreakerOpen, ms).calls(10, graph.None, 20*ms)
		default:
			continue
		}
		windows = append(windows, graph.Window{
			Start: noon.Add(time.Duration(i) * graph.WindowLength), Length: graph.WindowLength,
			Edges: []graph.EdgeRow{{Edge: ab, Stats: m.EdgeStats}},
		})
	}
	return windows
}

func TestBreakerStatesFromTime(t *testing.T) {
	at := func(i int) time.Time { return noon.Add(time.Duration(i) * graph.WindowLength) }
	for _, tt := range []struct {
		pattern string
		runs    []BreakerRun
	}{
		{"", nil},
		{"cccc", []BreakerRun{{State: BreakerClosed, From: at(0), To: at(4), Passed: 80, N: 80}}},
		{"cchoopoohcc", []BreakerRun{
			{BreakerClosed, at(0), at(2), 0, 40, 0, 40},
			{BreakerPartly, at(2), at(3), 10, 10, 0, 20},
			{BreakerOpen, at(3), at(5), 40, 0, 0, 40},
			{BreakerHalfOpen, at(5), at(6), 19, 1, 1, 20},
			{BreakerOpen, at(6), at(8), 40, 0, 0, 40},
			{BreakerPartly, at(8), at(9), 10, 10, 0, 20},
			{BreakerClosed, at(9), at(11), 0, 40, 0, 40},
		}},
		// Where nobody calls, nothing is known to change.
		{"oo  oo", []BreakerRun{{BreakerOpen, at(0), at(6), 80, 0, 0, 80}}},
	} {
		got := BreakerOf(breakerWindows(tt.pattern), ab)
		if len(got) != len(tt.runs) {
			t.Errorf("%q: %+v", tt.pattern, got)
			continue
		}
		for i := range got {
			if got[i] != tt.runs[i] {
				t.Errorf("%q: %+v, want %+v", tt.pattern, got[i], tt.runs[i])
			}
		}
	}
}
