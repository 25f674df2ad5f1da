package graph

import "slices"

// medianCalls is how many calls a window's median is of, at the least.
const medianCalls = 20

// Median returns how long calls of an edge take at the median, as their callers see it, in nanoseconds: in the last of the
// open windows before the newest that enough of them end in. Those that a caller's breaker did not let through are none
// of them; they are taken to be the fastest. It is 0 where that is not known, and remembered for as long as the edge has
// an open window. It costs a look-up, and at most once per window of WindowLength a walk over the open ones.
func (l *Live) Median(ref EdgeRef) int64 {
	sh := &l.shards[l.shardOf(ref.pack())]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.edges[ref.pack()]
	if e == nil || e.newestWindow == nil {
		return 0
	}
	if at := e.newestWindow.start; at != e.medianAt {
		e.medianAt = at
		for _, w := range slices.Backward(e.windows) {
			if w.start >= at {
				continue
			}
			if m := w.stats.median(); m > 0 {
				e.median = m
				break
			}
		}
	}
	return e.median
}

// median returns the callers' median latency of the calls that their breakers let through, 0 where they are too few.
func (s *EdgeStats) median() int64 {
	n, kept := s.Client.Count(), max(s.Failures[BreakerOpen], 0)
	if n-kept < medianCalls || s.Reached().Raw < medianCalls {
		return 0
	}
	return int64(s.Client.Quantile((1 + float64(kept)/float64(n)) / 2))
}
