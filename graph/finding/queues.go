package finding

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"faultline/graph"
)

// Queue is how an edge to or from a queue does. Times are in nanoseconds, rates in messages per second.
type Queue struct {
	Lag50, Lag95, Lag99 float64 // how long messages waited, of an edge from the queue
	N                   int64   // of the lags, unweighted
	In, Out             float64 // into the queue, by all producers; out of it, on this edge
	Growth              float64 // (in − out)/in
	Backlog             float64 // estimated, in messages
	Drain               float64 // how long the backlog lasts at the present rates; infinite while it grows
	Groups              []Group
}

// Group is a consumer group of a queue.
type Group struct {
	Name          string
	Calls, Errors int64
	P50, P95      float64 // of its values, ns
	N             int64
}

// QueueOf returns how an edge from a queue does into which in messages a second come from all producers, NaN where that
// is not known, and in which an estimated backlog waits.
func QueueOf(s *Sum, in, backlog float64) Queue {
	lag := s.measure(graph.Lag)
	q := Queue{
		Lag50: lag.Latency.Quantile(.5), Lag95: lag.Latency.Quantile(.95), Lag99: lag.Latency.Quantile(.99), N: lag.Raw,
		In: in, Out: over(float64(max(s.Stats.Messages, 0)), s.Length.Seconds()), Growth: math.NaN(), Backlog: backlog, Drain: math.NaN(),
	}
	if in > 0 {
		q.Growth = (in - q.Out) / in
	}
	q.Drain = DrainTime(backlog, q.In, q.Out)
	s.of(graph.Group, graph.ServerSide, func(name string, d *graph.Detail) {
		q.Groups = append(q.Groups, Group{name, d.Calls, d.Errors, d.Latency.Quantile(.5), d.Latency.Quantile(.95), d.Raw})
	})
	slices.SortFunc(q.Groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), strings.Compare(a.Name, b.Name))
	})
	return q
}

// DrainTime returns how many nanoseconds a backlog lasts at rates in and out per second: infinite where it does not
// shrink, NaN where it is not known.
func DrainTime(backlog, in, out float64) float64 {
	switch {
	case math.IsNaN(backlog), math.IsNaN(in), math.IsNaN(out):
		return math.NaN()
	case backlog <= 0:
		return 0
	case out <= in:
		return math.Inf(1)
	}
	return backlog / (out - in) * 1e9
}
