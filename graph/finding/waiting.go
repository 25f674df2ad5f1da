package finding

import (
	"math"

	"faultline/graph"
	"faultline/internal/sketch"
)

// What the rules about waiting ask for.
const (
	inferFrom       = 20   // timeouts before their value is inferred
	inferShare      = 0.60 // share of them in the densest pair of buckets
	snapWithin      = 0.03 // distance to a round value that is taken for it
	truncatedShare  = 0.01 // share of the callee's calls that outlast the caller's longest
	truncatedCalls  = 1000
	noTimeoutCalls  = 1000
	noTimeoutMax    = 30e9 // ns
	noTimeoutFactor = 50   // longest call over p99
	saturated       = 0.8  // concurrency over the ceiling
)

// Waiting is how an edge waits, and for how long at most. Times are in nanoseconds.
type Waiting struct {
	Timeouts int64   // failed calls of the class timeout
	N        int64   // of them, unweighted
	Timeout  float64 // the inferred value
	Max      float64 // the longest call as the caller saw it
	// WastedPerSecond is how much the callee works for callers that have left, in seconds per second; WastedShare the
	// part of its busy time for this edge that it is.
	WastedPerSecond, WastedShare float64
	WastedCalls                  int64
	Concurrency                  float64 // calls in flight, mean
}

// WaitingOf returns how an edge waits.
func WaitingOf(s *Sum) Waiting {
	st := &s.Stats
	late, raw := timeouts(s)
	w := Waiting{
		Timeouts: max(st.Failures[graph.Timeout], 0), N: raw, Timeout: InferTimeout(&late), Max: math.NaN(),
		WastedPerSecond: math.NaN(), WastedShare: math.NaN(), Concurrency: over(float64(max(st.Busy, 0)), float64(s.Length)),
	}
	if st.Client.Count() > 0 {
		w.Max = float64(st.Client.Max())
	}
	if math.IsNaN(w.Timeout) {
		w.Timeout = truncated(st)
	}
	if st.ServerCalls > 0 {
		wasted := s.measure(graph.Wasted)
		w.WastedCalls = wasted.Calls
		w.WastedPerSecond = over(float64(max(wasted.Latency.Sum(), 0)), float64(s.Length))
		w.WastedShare = min(over(float64(max(wasted.Latency.Sum(), 0)), float64(st.Server.Sum())), 1)
	}
	return w
}

// timeouts returns how long the calls took that timed out, and how many they are, unweighted.
func timeouts(s *Sum) (sum sketch.Sketch, raw int64) {
	s.of(graph.Caused, graph.ClientSide, func(name string, d *graph.Detail) {
		if ClassOf(name) == graph.Timeout {
			sum.Merge(&d.Latency)
			raw += d.Raw
		}
	})
	return sum, raw
}

// InferTimeout returns the value at which callers stop waiting, from how long the calls took that timed out: the median
// of the densest two neighbouring buckets if they hold most of them, and the round value near it if there is one. NaN
// when there are too few, or they have no value in common.
func InferTimeout(late *sketch.Sketch) float64 {
	total := late.Count()
	if total < inferFrom {
		return math.NaN()
	}
	var best, before, bestBelow, below, last int64
	var top float64
	late.Buckets(func(lower, upper float64, n int64) {
		if lower != top {
			last, before = 0, below
		}
		if pair := last + n; lower > 0 && pair > best {
			best, bestBelow = pair, before
		}
		before, last, top = below, n, upper
		below += n
	})
	if float64(best) < inferShare*float64(total) {
		return math.NaN()
	}
	return snap(late.Quantile((float64(bestBelow) + float64(best)/2) / float64(total)))
}

// truncated returns the caller's longest call where the callee often works longer than that: it leaves then.
func truncated(st *graph.EdgeStats) float64 {
	if st.Client.Count() < truncatedCalls || st.Server.Count() < truncatedCalls {
		return math.NaN()
	}
	longest := st.Client.Max()
	if float64(st.Server.Above(longest)) < truncatedShare*float64(st.Server.Count()) {
		return math.NaN()
	}
	return snap(float64(longest))
}

// snap returns the value that a person would have configured near v nanoseconds, v itself where none is near.
func snap(v float64) float64 {
	const ms = 1e6
	if !(v > 0) {
		return v
	}
	nearest := v
	ten := math.Pow(10, math.Floor(math.Log10(v/ms)))
	for _, k := range [...]float64{1, 1.5, 2, 2.5, 3, 4, 5, 6, 7.5, 10} {
		if round := k * ten * ms; math.Abs(v-round) <= snapWithin*round && (nearest == v || math.Abs(v-round) < math.Abs(v-nearest)) {
			nearest = round
		}
	}
	return nearest
}
