package finding

import (
	"time"

	"faultline/graph"
)

// What it takes to say that failures are over before they have been away for two minutes.
const (
	overAfter  = 30 * time.Second // without them at the least: what comes and goes is not over each time
	overMissed = 5                // failures that there would have been by now: that none came by chance has p < e⁻⁵
)

// step is one of the recent windows of an edge's calls.
type step struct {
	start, end time.Time
	stats      *graph.EdgeStats
}

// over reports whether failures of a kind, counted by failed, unweighted, have ended: hardly any of the latest calls
// failed so, although many would have had it gone on as before.
func (e *Edge) over(failed func(*graph.EdgeStats) int64) bool {
	all, bad := e.Stats.Raw, failed(&e.Stats)
	var calls, failures int64
	for i, s := range e.steps {
		calls += s.stats.Raw
		failures += failed(s.stats)
		if i+1 < len(e.steps) && e.steps[i+1].start.Equal(s.start) {
			continue // another part of the same window
		}
		missed := share(bad-failures, all-calls) * float64(calls)
		if e.steps[0].end.Sub(s.start) >= overAfter && missed >= overMissed && share(failures, calls) < failsWarn {
			return true
		}
	}
	return false
}

// recovered reports whether calls of the edge failed and do not any more.
func (e *Edge) recovered() bool {
	return e.over(func(s *graph.EdgeStats) int64 { return s.RawErrors })
}

// inClass counts the failures of a class.
func inClass(class graph.Failure) func(*graph.EdgeStats) int64 {
	return func(s *graph.EdgeStats) int64 { return rawOf(s.Failures[class], s.Errors, s.RawErrors) }
}

// turnedDown counts the calls that the callee turned down as wrong.
func turnedDown(s *graph.EdgeStats) int64 { return rawOf(s.ClientErrors, s.Calls, s.Raw) }

// left counts the calls whose caller did not wait for the answer.
func left(s *graph.EdgeStats) int64 {
	return rawOf(s.Failures[graph.Timeout]+s.Cancelled, s.Calls, s.Raw)
}
