package finding

import (
	"math"

	"faultline/graph"
)

// What the rules about retries ask for.
const (
	retryBudget     = 0.10   // retries per logical call that are within the budget
	BudgetShare     = 0.0909 // the same as a share of the attempts: r/(1+r)
	budgetAttempts  = 50     // attempts before the budget is judged
	z90             = 1.645  // one-sided 95 %
	helpsAtLeast    = 0.20   // share of retries that succeed
	noBackoff       = 10e6   // ns between an attempt and the next
	noGrowth        = 1.2    // second gap over first
	growthGroups    = 20     // logical calls with three attempts or more before growth is judged
	noJitter        = 0.05   // robust coefficient of variation of the first gap
	jitterGaps      = 20
	interquartile   = 1.349 // of a normal distribution with standard deviation 1
	tooFewToMeasure = 3     // events that are too few to be a figure's ground
)

// Retrying is how an edge is called again. Times are in nanoseconds.
type Retrying struct {
	PerCall float64 // attempts per logical call
	Ratio   float64 // retries per logical call
	// BudgetLower is the lower bound (Wilson, one-sided 95 %) of the share of attempts that are retries; the budget is
	// exceeded when it lies above a tenth per logical call and there are enough attempts to say so.
	BudgetLower    float64
	BudgetExceeded bool
	Efficacy       float64 // share of retries that succeeded
	GapP50         float64 // median from the end of a failed attempt to the next
	Growth         float64 // median of the second gap over the first
	Jitter         float64 // robust coefficient of variation of the first gap
	N              int64   // attempts, unweighted
	Gaps           int64   // gaps seen, unweighted
	Hedges         int64
	Resends        int64
	Unsafe         int64 // retries of calls that must not be made twice, where the first may have been carried out
	CarriedOut     int64 // those of them where it was
	Pushback       int64 // retries after an answer that asked for a wait
	Ignored        int64 // those of them that did not wait
	Redelivered    int64
	Nested         int64   // failed calls that were retried at two layers or more
	NestedAttempts float64 // what such a call made of one, median product of the layers' attempts
}

// RetryingOf returns how an edge is called again.
func RetryingOf(s *Sum) Retrying {
	st := &s.Stats
	gaps, growth := s.measure(graph.RetryGap), s.measure(graph.RetryGrowth)
	unsafe, pushback, nested := s.measure(graph.UnsafeRetry), s.measure(graph.RetryPushback), s.measure(graph.NestedRetries)
	r := Retrying{
		PerCall: over(float64(st.Calls), float64(st.LogicalCalls)), Ratio: share(s.retries(), st.LogicalCalls),
		N: st.Raw, Gaps: gaps.Raw, GapP50: gaps.Latency.Quantile(.5), Efficacy: share(gaps.Calls-gaps.Errors, gaps.Calls),
		Growth: growth.Latency.Quantile(.5) / 1000, Jitter: jitter(gaps, growth),
		Hedges: s.measure(graph.Hedge).Calls, Resends: s.measure(graph.Resend).Calls,
		Unsafe: unsafe.Calls, CarriedOut: unsafe.Errors, Pushback: pushback.Calls, Ignored: pushback.Errors,
		Redelivered: s.measure(graph.Redelivery).Calls,
		Nested:      nested.Calls, NestedAttempts: nested.Latency.Quantile(.5),
	}
	r.BudgetLower = math.NaN()
	if st.Raw > 0 && st.LogicalCalls > 0 {
		r.BudgetLower, _ = graph.Wilson(rawOf(s.retries(), st.Calls, st.Raw), st.Raw, z90)
	}
	r.BudgetExceeded = st.Raw >= budgetAttempts && r.BudgetLower > BudgetShare
	return r
}

// jitter returns the robust coefficient of variation of the first gaps: interquartile range over 1.349 medians. The
// first of a logical call's gaps are taken to be its shortest, as many as there are gaps without one before them.
func jitter(gaps, growth *graph.Detail) float64 {
	n := gaps.Latency.Count()
	first := float64(n - growth.Calls)
	if n <= 0 || first <= 0 {
		return math.NaN()
	}
	q := func(p float64) float64 { return gaps.Latency.Quantile(p * first / float64(n)) }
	return over((q(.75)-q(.25))/interquartile, q(.5))
}
