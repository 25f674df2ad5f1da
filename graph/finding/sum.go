// Package finding names what goes wrong on the edges of a graph: pure functions from sums to the figures of an edge, and
// from the sums of a few minutes to findings, each under its rule's name with a sentence that has its figures.
//
// What is not known is NaN, never 0. Shares and rates are of weighted counts; whether something is said at all is
// decided by raw counts, and never by fewer than three events. Nothing here reads a clock or remembers anything by
// itself: what takes longer than the minutes that are judged lies in a Memory, which is bounded and belongs to the caller.
package finding

import (
	"math"
	"time"

	"faultline/graph"
)

// Sum is what a span of time knows of one edge. Its details must cover the time that Stats do.
type Sum struct {
	Stats   graph.EdgeStats
	Details map[graph.DetailKey]*graph.Detail
	Length  time.Duration
}

// none is what is known of a detail that was not seen. It is never written to.
var none graph.Detail

// detail returns a detail, an empty one where there is none.
func (s *Sum) detail(key graph.DetailKey) *graph.Detail {
	if d := s.Details[key]; d != nil {
		return d
	}
	return &none
}

// measure returns the detail of a measure.
func (s *Sum) measure(m graph.Measure) *graph.Detail { return s.detail(m.Key()) }

// of calls f for every detail of a dimension and a side that counts anything, in no order.
func (s *Sum) of(dimension graph.Dimension, side graph.Side, f func(name string, d *graph.Detail)) {
	for key, d := range s.Details {
		if key.Dimension == dimension && key.Side == side && d.Calls > 0 && d.Raw > 0 {
			f(key.Name, d)
		}
	}
}

// rawRetries returns how many of the raw attempts are retries.
func (s *Sum) rawRetries() int64 { return rawOf(s.Stats.Retries(), s.Stats.Calls, s.Stats.Raw) }

// rawOf returns how many of raw observations part out of whole, both weighted, stand for.
func rawOf(part, whole, raw int64) int64 {
	if whole <= 0 || part <= 0 || raw <= 0 {
		return 0
	}
	return min(int64(math.Round(float64(raw)*float64(part)/float64(whole))), raw)
}

// share returns n/of, NaN when of is nothing.
func share(n, of int64) float64 {
	if of <= 0 {
		return math.NaN()
	}
	return float64(max(n, 0)) / float64(of)
}

// over returns a/b, NaN when b is nothing.
func over(a, b float64) float64 {
	if b <= 0 {
		return math.NaN()
	}
	return a / b
}
