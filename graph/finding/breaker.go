package finding

import (
	"slices"
	"time"

	"faultline/graph"
)

// BreakerState is what the breakers of an edge's callers do, together. The zero value is closed.
type BreakerState uint8

// The states.
const (
	BreakerClosed   BreakerState = iota // calls pass
	BreakerHalfOpen                     // single calls pass, to see how the callee is
	BreakerOpen                         // none does
	BreakerPartly                       // some callers' breakers are open, or one opened or closed meanwhile
)

var breakerNames = [...]string{"closed", "half_open", "open", "partly_open"}

// String returns the state's name in the API.
func (s BreakerState) String() string { return breakerNames[s&3] }

// probesAtMost is the share of calls that pass a breaker which is half open: single ones.
const probesAtMost = 0.2

// BreakerRun is a time in which the breakers of an edge's callers were in one state.
type BreakerRun struct {
	State                BreakerState
	From, To             time.Time
	Kept, Passed, Failed int64 // calls that were not let through; those that were, and of those the failed ones
	N                    int64 // calls, unweighted
}

// BreakerOf returns what the breakers of an edge's callers did, from what windows count of it, in order of time. Where
// nobody calls, nothing is known to change.
func BreakerOf(windows []graph.Window, edge graph.EdgeKey) []BreakerRun {
	windows = slices.SortedFunc(slices.Values(windows), func(a, b graph.Window) int { return a.Start.Compare(b.Start) })
	var runs []BreakerRun
	for i := range windows {
		w := &windows[i]
		var s graph.EdgeStats
		for j := range w.Edges {
			if w.Edges[j].Edge == edge {
				s.Add(&w.Edges[j].Stats)
			}
		}
		if s.Calls <= 0 {
			continue
		}
		kept := min(max(s.Failures[graph.BreakerOpen], 0), s.Calls)
		run := BreakerRun{
			State: breakerState(kept, s.Calls-kept), From: w.Start, To: w.Start.Add(w.Length),
			Kept: kept, Passed: s.Calls - kept, Failed: max(s.Errors-kept, 0), N: max(s.Raw, 0),
		}
		if last := len(runs) - 1; last >= 0 && runs[last].State == run.State {
			runs[last].To = run.To
			runs[last].Kept += run.Kept
			runs[last].Passed += run.Passed
			runs[last].Failed += run.Failed
			runs[last].N += run.N
			continue
		}
		runs = append(runs, run)
	}
	return runs
}

func breakerState(kept, passed int64) BreakerState {
	switch {
	case kept == 0:
		return BreakerClosed
	case passed == 0:
		return BreakerOpen
	case float64(passed) <= probesAtMost*float64(kept+passed):
		return BreakerHalfOpen
	}
	return BreakerPartly
}
