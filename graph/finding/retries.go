package finding

import (
	"math"
	"time"

	"faultline/graph"
)

// What the rules about retries ask for.
const (
	retryBudget    = 0.10   // retries per logical call that are within the budget
	BudgetShare    = 0.0909 // the same as a share of the attempts: r/(1+r)
	budgetAttempts = 50     // attempts before the budget is judged
	z90            = 1.645  // one-sided 95 %
	helpsAtLeast   = 0.20   // share of retries that succeed
	noBackoff      = 10e6   // ns between an attempt and the next
	noGrowth       = 1.2    // second gap over first
	growthGroups   = 20     // logical calls with three attempts or more before growth is judged
	noJitter       = 0.05   // robust coefficient of variation of the first gap
	jitterGaps     = 20
	minGaps        = 20               // gaps before they, or whether retries help, are judged
	redelivery     = 0.01             // share of the deliveries that come again
	toldApart      = 30 * time.Second // after an edge's first calls: until then hedges look like retries
	interquartile  = 1.349            // of a normal distribution with standard deviation 1
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
	// Retried are the logical calls that took several attempts, and how long callers waited for all of it; Attempt is how
	// long they waited for one, of all calls.
	Retried, RetriedFailed, RetriedN int64
	RetriedP50, RetriedP95           float64
	AttemptP50, AttemptP95           float64
	GapP50                           float64 // median from the end of a failed attempt to the next
	Growth                           float64 // median of the second gap over the first
	Jitter                           float64 // robust coefficient of variation of the first gap
	N                                int64   // attempts, unweighted
	Gaps                             int64   // gaps seen, unweighted
	Hedges                           int64
	Resends                          int64
	Unsafe                           int64 // retries of calls that must not be made twice, where the first may have been carried out
	CarriedOut                       int64 // those of them where it was
	Pushback                         int64 // retries after an answer that asked for a wait
	Ignored                          int64 // those of them that did not wait
	Redelivered                      int64
	Nested                           int64   // failed calls that were retried at two layers or more
	NestedAttempts                   float64 // what such a call made of one, median product of the layers' attempts
}

// RetryingOf returns how an edge is called again.
func RetryingOf(s *Sum) Retrying {
	st := &s.Stats
	gaps, growth, whole := s.measure(graph.RetryGap), s.measure(graph.RetryGrowth), s.measure(graph.RetriedCall)
	unsafe, pushback, nested := s.measure(graph.UnsafeRetry), s.measure(graph.RetryPushback), s.measure(graph.NestedRetries)
	r := Retrying{
		PerCall: over(float64(st.Calls), float64(st.LogicalCalls)), Ratio: share(s.Stats.Retries(), st.LogicalCalls),
		N: st.Raw, Gaps: gaps.Raw, GapP50: gaps.Latency.Quantile(.5), Efficacy: share(gaps.Calls-gaps.Errors, gaps.Calls),
		Retried: whole.Calls, RetriedFailed: whole.Errors, RetriedN: whole.Raw,
		RetriedP50: whole.Latency.Quantile(.5), RetriedP95: whole.Latency.Quantile(.95),
		AttemptP50: st.Client.Quantile(.5), AttemptP95: st.Client.Quantile(.95),
		Growth: growth.Latency.Quantile(.5) / 1000, Jitter: jitter(gaps, growth),
		Hedges: s.measure(graph.Hedge).Calls, Resends: s.measure(graph.Resend).Calls,
		Unsafe: unsafe.Calls, CarriedOut: unsafe.Errors, Pushback: pushback.Calls, Ignored: pushback.Errors,
		Redelivered: s.measure(graph.Redelivery).Calls,
		Nested:      nested.Calls, NestedAttempts: nested.Latency.Quantile(.5),
	}
	var a attempts
	a.add(st)
	r.BudgetLower, r.BudgetExceeded = a.budget()
	return r
}

// attempts counts the calls of a span of time, weighted, and raw as they came.
type attempts struct{ calls, logical, hedges, raw int64 }

func (a *attempts) add(s *graph.EdgeStats) {
	a.calls += s.Calls
	a.logical += s.LogicalCalls
	a.hedges += s.Hedges
	a.raw += s.Raw
}

func (a *attempts) retries() int64 { return max(a.calls-a.logical-a.hedges, 0) }

// rawRetries returns how many of the raw attempts are retries.
func (a *attempts) rawRetries() int64 { return rawOf(a.retries(), a.calls, a.raw) }

// budget returns the lower bound of the share of the attempts that are retries, NaN where there are none, and whether
// that is more than the budget allows. Source: Google's SRE book, chapter 21, for
// the budget of a tenth of the calls.
func (a *attempts) budget() (lower float64, exceeded bool) {
	if a.raw <= 0 || a.logical <= 0 {
		return math.NaN(), false
	}
	lower, _ = graph.Wilson(a.rawRetries(), a.raw, z90)
	return lower, a.raw >= budgetAttempts && lower > BudgetShare
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

// load returns how loud it is that calls are retried badly: a note while they are few.
func (r *Retrying) load() graph.Level {
	if r.Ratio > retryBudget {
		return graph.Warn
	}
	return graph.Note
}

// retryBudgetSpent finds more retries than the budget allows in the last minute. For two minutes after that is certain it
// goes on while there seem to be more, so that a share about the limit is one finding and not many.
func retryBudgetSpent(e *Edge) []graph.Finding {
	m := &e.minute
	r := share(m.retries(), m.logical)
	if _, exceeded := m.budget(); !exceeded && !(r > retryBudget && e.to.Sub(e.Learned.Overspent) <= recentSpan) || m.rawRetries() < fewest {
		return nil
	}
	if e.age < toldApart && e.measure(graph.RetryGap).Raw < fewest {
		return nil
	}
	level := graph.Warn
	if r >= 1 {
		level = graph.Severe // the callee gets twice what it was asked for
	}
	return e.found("retry_budget", level, r, m.raw, "retries add %s load: %s attempts per call, n=%s", percent(r), figure(1+r), count(m.raw))
}

// retriesDoNotHelp finds many retries of which hardly one succeeds.
func retriesDoNotHelp(e *Edge) []graph.Finding {
	r := RetryingOf(&e.Sum)
	recent := e.Recent.measure(graph.RetryGap)
	if r.Gaps < minGaps || !(r.Ratio > retryBudget && r.Efficacy < helpsAtLeast) || !lasts(recent.RawErrors, recent.Raw, 1-helpsAtLeast) {
		return nil
	}
	return e.found("retries_do_not_help", graph.Warn, r.Efficacy, r.Gaps, "%s of the retries succeed, while %s retries are made per call, n=%s",
		percent(r.Efficacy), figure(r.Ratio), count(r.Gaps))
}

// noBackOff finds retries that come at once, or no later the second time than the first.
func noBackOff(e *Edge) []graph.Finding {
	r := RetryingOf(&e.Sum)
	if e.Recent.measure(graph.RetryGap).Raw == 0 || r.Gaps < minGaps {
		return nil
	}
	if r.GapP50 < noBackoff {
		return e.found("no_backoff", r.load(), r.GapP50/1e6, r.Gaps, "retries follow %s after the failed attempt, at the median, n=%s", span(r.GapP50), count(r.Gaps))
	}
	if groups := e.measure(graph.RetryGrowth).Raw; groups >= growthGroups && r.Growth < noGrowth {
		return e.found("no_backoff", r.load(), r.GapP50/1e6, groups, "the second wait before a retry is %s times the first, at the median: no back-off, n=%s",
			figure(r.Growth), count(groups))
	}
	return nil
}

// noJitterSeen finds clients that all wait equally long before the first retry.
func noJitterSeen(e *Edge) []graph.Finding {
	r := RetryingOf(&e.Sum)
	first := e.measure(graph.RetryGap).Raw - e.measure(graph.RetryGrowth).Raw
	if e.Recent.measure(graph.RetryGap).Raw == 0 || first < jitterGaps || !(r.Jitter < noJitter) || r.GapP50 < noBackoff {
		return nil
	}
	return e.found("no_jitter", r.load(), r.Jitter, first, "clients retry in step: the first wait is %s, give or take %s, n=%s",
		span(r.GapP50), percent(r.Jitter), count(first))
}

// pushbackIgnored finds retries that came sooner than the answer before asked for.
func pushbackIgnored(e *Edge) []graph.Finding {
	d, recent := e.measure(graph.RetryPushback), e.Recent.measure(graph.RetryPushback)
	if d.RawErrors < fewest || recent.RawErrors < 1 {
		return nil
	}
	return e.found("pushback_ignored", graph.Warn, share(d.Errors, d.Calls), d.Raw, "the callee asked to wait, and %s of %s retries came sooner, n=%s",
		count(d.Errors), count(d.Calls), count(d.Raw))
}

// unsafeRetries finds calls that must not be made twice and may have been.
func unsafeRetries(e *Edge) []graph.Finding {
	d, recent := e.measure(graph.UnsafeRetry), e.Recent.measure(graph.UnsafeRetry)
	if d.Raw < fewest || recent.Raw < 1 {
		return nil
	}
	if d.RawErrors >= fewest {
		return e.found("unsafe_retry", graph.Severe, float64(d.Calls), d.Raw, "%s calls that must not be made twice were retried, and of %s the first attempt had been carried out, n=%s",
			count(d.Calls), count(d.Errors), count(d.Raw))
	}
	return e.found("unsafe_retry", graph.Warn, float64(d.Calls), d.Raw, "%s calls that must not be made twice were retried after an answer that was lost or late, n=%s",
		count(d.Calls), count(d.Raw))
}

// nestedRetries finds failed calls that several layers retry.
func nestedRetries(e *Edge) []graph.Finding {
	d, recent := e.measure(graph.NestedRetries), e.Recent.measure(graph.NestedRetries)
	if d.Raw < fewest || recent.Raw < 1 {
		return nil
	}
	attempts := d.Latency.Quantile(.5)
	return e.found("nested_retries", graph.Warn, attempts, d.Raw, "several layers retry the same failing call: one becomes %s attempts, at the median, n=%s traces",
		figure(attempts), count(d.Raw))
}

// hedged says that calls are hedged, which is a choice.
func hedged(e *Edge) []graph.Finding {
	d, recent := e.measure(graph.Hedge), e.Recent.measure(graph.Hedge)
	if d.Raw < fewest || recent.Raw < 1 {
		return nil
	}
	perCall := share(d.Calls, e.Stats.LogicalCalls)
	return e.found("hedging", graph.Note, perCall, d.Raw, "%s hedged attempts per call, n=%s", figure(perCall), count(d.Raw))
}

// redelivered finds messages that come again.
func redelivered(e *Edge) []graph.Finding {
	d, recent := e.measure(graph.Redelivery), e.Recent.measure(graph.Redelivery)
	deliveries := max(e.Stats.Raw, d.Raw)
	lower, _ := graph.Wilson(d.Raw, deliveries, z95)
	if d.Raw < fewest || lower < redelivery || !lasts(recent.Raw, e.Recent.Stats.Raw, redelivery) {
		return nil
	}
	part := share(d.Raw, deliveries)
	return e.found("redelivery", graph.Warn, part, d.Raw, "%s of the deliveries are of messages that were delivered before, n=%s", percent(part), count(d.Raw))
}

// onPaths adds to what is said of retries how the layers above multiply them: A of a path is the product of its edges'.
func (g *Graph) onPaths(found []graph.Finding) {
	edges := g.byKey()
	known := map[*Edge]float64{}
	for i := range found {
		f := &found[i]
		if f.Rule != "retry_budget" {
			continue
		}
		if above := g.above(edges[f.Edge], known); above > 1.1 {
			f.Sentence += "; with the retries of the layers above, " + figure(above*(1+f.Value)) + " attempts for each request of a user"
		}
	}
}

// amplified returns the attempts that one request becomes on an edge, along the path from above that amplifies most.
func (g *Graph) amplified(e *Edge, known map[*Edge]float64) float64 {
	if e.rawRetries() < fewest {
		return g.above(e, known)
	}
	return g.above(e, known) * (1 + share(e.Stats.Retries(), e.Stats.LogicalCalls))
}

// above returns the same of what calls an edge: known is by edge. An edge that lies above itself is taken not to amplify
// there.
func (g *Graph) above(e *Edge, known map[*Edge]float64) float64 {
	if a, ok := known[e]; ok {
		return a
	}
	known[e] = 1
	most := 1.
	for _, up := range g.in[e.Key.Source] {
		if !up.async() {
			most = max(most, g.amplified(up, known))
		}
	}
	known[e] = most
	return most
}
