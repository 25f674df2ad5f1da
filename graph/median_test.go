package graph

import (
	"math"
	"testing"
	"time"
)

// The median of an edge is that of the last window before the newest in which enough calls came through their callers'
// breakers, and stays when none do any more.
func TestMedian(t *testing.T) {
	l := NewLive(DefaultLiveConfig(), 1)
	a, b := l.Names().Node(Node{Kind: Service, Name: "a"}), l.Names().Node(Node{Kind: Service, Name: "b"})
	edge := EdgeRef{a, b, HTTP}
	start := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	ask := func(want time.Duration) {
		t.Helper()
		l.settle()
		if got := l.Median(edge); math.Abs(float64(got)-float64(want)) > .022*float64(want) { // a bucket's width
			t.Errorf("%v, want %v", time.Duration(got), want)
		}
	}
	calls := func(window, n int, took time.Duration, failure Failure) {
		end := start.Add(time.Duration(window)*WindowLength + time.Second).UnixNano()
		for range n {
			c := Call{Edge: edge, End: end, Duration: int64(took), Weight: 1, Calls: 1, Logical: 1, Side: ClientSide, Timed: true}
			if failure != None {
				c.Errors, c.Outcome, c.Failure = 1, Error, failure
			}
			l.Observe([]Call{c})
		}
	}
	ask(0) // nothing is known of the edge
	calls(0, 30, 40*time.Millisecond, None)
	ask(0) // the newest window is not over
	calls(1, 10, 80*time.Millisecond, None)
	ask(40 * time.Millisecond)
	calls(2, 1, time.Millisecond, None)
	ask(40 * time.Millisecond) // ten calls are too few
	calls(2, 500, 50*time.Microsecond, BreakerOpen)
	calls(2, 11, 20*time.Millisecond, None)
	calls(2, 11, 60*time.Millisecond, ServerError)
	calls(3, 500, 50*time.Microsecond, BreakerOpen)
	ask(20 * time.Millisecond) // of the 23 that came through
	for w := 4; w < 40; w++ {
		calls(w, 100, 50*time.Microsecond, BreakerOpen)
		for _, p := range l.Cut(start.Add(time.Duration(w+1) * WindowLength)) {
			l.Kept([]Part{p})
		}
		ask(20 * time.Millisecond) // however long the breakers are open
	}
	l.Kept(l.Cut(start.Add(time.Hour)))
	ask(0)
}

// Sampled calls are as many as came, not as they stand for.
func TestMedianOfSampledCalls(t *testing.T) {
	s := EdgeStats{Calls: 1000, Raw: 10}
	s.Client.Add(int64(time.Millisecond), 1000)
	if m := s.median(); m != 0 {
		t.Errorf("%v of ten calls", time.Duration(m))
	}
	s.Raw = 20
	if m := s.median(); m == 0 {
		t.Error("none of twenty")
	}
}
