package finding

import (
	"math"
	"slices"
	"time"

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
	truncatedFrom   = 0.95 // of the longest call: those of callers that leave end from then on
	noTimeoutCalls  = 1000
	noTimeoutMax    = 30e9 // ns
	noTimeoutFactor = 50   // longest call over p99
	noTimeoutLeast  = 1e9  // ns: a call that took less shows nothing
	wastedShare     = 0.05 // of the callee's busy time
	wastedRate      = 0.5  // seconds a second
	nearCeiling     = 0.8  // concurrency over the ceiling
	saturationAge   = 1800 // seconds of calls before a ceiling means anything
	saturationCalls = 2    // in flight
	slowerBy        = 5e6  // ns that a median must rise to be worth a word
	mostAttempts    = 10   // of one call that are believed
)

// Waiting is how an edge waits, and for how long at most. Times are in nanoseconds.
type Waiting struct {
	Timeouts int64   // failed calls of the class timeout
	N        int64   // of them, unweighted
	Timeout  float64 // the inferred value
	Outlasts int64   // calls on which the callee worked longer than any caller waited, where the value is inferred from them
	Max      float64 // the longest call as the caller saw it
	// WastedPerSecond is how much the callee works for callers that have left, in seconds per second; WastedShare the
	// part of its busy time for this edge that it is.
	WastedPerSecond, WastedShare float64
	WastedCalls                  int64
	NegativeGaps                 int64   // calls whose callee took longer than its caller, who had not left
	Concurrency                  float64 // calls in flight, mean
}

// WaitingOf returns how an edge waits.
func WaitingOf(s *Sum) Waiting {
	st := &s.Stats
	late, raw := timeouts(s)
	w := Waiting{
		Timeouts: max(st.Failures[graph.Timeout], 0), N: raw, Timeout: InferTimeout(&late), Max: math.NaN(), NegativeGaps: s.measure(graph.NegativeGap).Calls,
		WastedPerSecond: math.NaN(), WastedShare: math.NaN(), Concurrency: over(float64(max(st.Busy, 0)), float64(s.Length)),
	}
	if st.Client.Count() > 0 {
		w.Max = float64(st.Client.Max())
	}
	if math.IsNaN(w.Timeout) {
		w.Timeout, w.Outlasts = truncated(st)
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

// truncated returns the caller's longest call where the callee often works longer than that, and how often, if about as
// many calls end just then: callers leave. NaN where that is not so, as of a callee that goes on after it has answered.
func truncated(st *graph.EdgeStats) (timeout float64, outlasts int64) {
	if st.Client.Count() < truncatedCalls || st.Server.Count() < truncatedCalls {
		return math.NaN(), 0
	}
	longest := st.Client.Max()
	outlasts = st.Server.Above(longest)
	left := st.Client.Above(int64(float64(longest) * truncatedFrom))
	if float64(outlasts) < truncatedShare*float64(st.Server.Count()) || 2*left < outlasts {
		return math.NaN(), 0
	}
	return snap(float64(longest)), outlasts
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

// noTimeout says of an edge that nothing shows that its callers ever stop waiting. That takes days to see: it is learned
// by LookForTimeouts.
func noTimeout(g *Graph) []graph.Finding {
	var found []graph.Finding
	for _, e := range g.Edges {
		t := e.Learned.NoTimeout
		if t == nil || e.Stats.Raw == 0 || e.Stats.Failures[graph.Timeout] > 0 {
			continue
		}
		level, matters := graph.Note, ""
		if at := g.memory.incident(e.Key.Target); !at.IsZero() && g.To.Sub(at) <= waitsOver {
			level, matters = graph.Warn, ", and "+e.Key.Target.ID()+" failed in those days, at last "+at.UTC().Format("2 Jan 15:04")
		}
		found = append(found, e.found("no_timeout", level, t.Max/1e6, t.Calls, "in seven days no call timed out, and the longest took %s, %s times the p99: callers seem to wait for ever%s, n=%s",
			span(t.Max), figure(t.Max/t.P99), matters, count(t.Calls))...)
	}
	return found
}

// waitsOver is how long is looked back for timeouts, and for incidents that a timeout would have kept from spreading.
const waitsOver = 7 * 24 * time.Hour

// LookForTimeouts learns from the edges' sums over seven days which have no evident timeout.
func (m *Memory) LookForTimeouts(week []graph.EdgeRow, now time.Time) {
	m.Waits = now
	for i := range week {
		row := &week[i]
		l := m.Edges[row.Edge.ID()]
		if l == nil {
			continue
		}
		l.NoTimeout = nil
		if NoEvidentTimeout(&row.Stats) && row.Edge.Protocol != graph.Messaging {
			l.NoTimeout = &NoTimeout{row.Stats.Raw, float64(row.Stats.Client.Max()), row.Stats.Client.Quantile(.99)}
		}
	}
}

// NoEvidentTimeout reports whether many calls, of seven days, show no timeout although some took very long.
func NoEvidentTimeout(s *graph.EdgeStats) bool {
	longest := float64(s.Client.Max())
	return s.Raw >= noTimeoutCalls && s.Client.Count() > 0 && s.Failures[graph.Timeout] == 0 && !leaves(s) &&
		(longest >= noTimeoutMax || longest >= noTimeoutFactor*s.Client.Quantile(.99) && longest >= noTimeoutLeast)
}

// leaves reports whether callers leave at one time, whatever they say of it.
func leaves(s *graph.EdgeStats) bool {
	_, outlasts := truncated(s)
	return outlasts > 0
}

// wastedWork finds a callee that works for callers that have left.
func wastedWork(e *Edge) []graph.Finding {
	d, w := e.measure(graph.Wasted), WaitingOf(&e.Sum)
	if d.Raw < fewest || e.Recent.measure(graph.Wasted).Raw < 1 || e.over(left) || !(w.WastedShare >= wastedShare || w.WastedPerSecond >= wastedRate) {
		return nil
	}
	return e.found("wasted_work", graph.Warn, w.WastedPerSecond, d.Raw, "the callee works %s a second for callers that have left, %s of its time for this edge, n=%s calls",
		span(w.WastedPerSecond*1e9), percent(w.WastedShare), count(d.Raw))
}

// saturation finds callees that are saturated and still get slower. Those who wait for one that is have as many calls in
// flight because of that, and are left out.
func saturation(g *Graph) []graph.Finding {
	var found []graph.Finding
	for _, e := range g.Edges {
		if !e.saturated() || !e.slower(e.Recent.median()) || g.waitsForSaturated(e, map[*Edge]bool{e: true}) {
			continue
		}
		found = append(found, e.found("saturation", graph.Warn, e.inFlight()/e.Learned.Ceiling, e.Stats.Raw,
			"%s calls in flight, at most %s went well so far, and the median rose from %s to %s, n=%s",
			figure(e.inFlight()), figure(e.Learned.Ceiling), span(math.Exp2(e.Learned.P50)), span(e.median()), count(e.Stats.Raw))...)
	}
	return found
}

// waitsForSaturated reports whether saturated edges lead down from e to an end. Those in a circle, of which each waits for
// the others, do not.
func (g *Graph) waitsForSaturated(e *Edge, passed map[*Edge]bool) bool {
	for _, below := range g.out[e.Key.Target] {
		if passed[below] || !below.saturated() {
			continue
		}
		passed[below] = true
		if !slices.ContainsFunc(g.out[below.Key.Target], (*Edge).saturated) || g.waitsForSaturated(below, passed) {
			return true
		}
	}
	return false
}

// saturated reports whether the callee has about as many calls in flight as it ever handled well, at about the rate that it
// had then, and is slower than usual.
func (e *Edge) saturated() bool {
	l := e.Learned
	if e.async() || l.Age < saturationAge || l.Ceiling < saturationCalls || e.Stats.Raw < learnCalls || e.Recent.Stats.Raw == 0 {
		return false
	}
	return e.inFlight() >= nearCeiling*l.Ceiling && e.rate() >= nearCeiling*l.CeilingRate && e.slower(e.median())
}

// slower reports whether a median is clearly above the usual one.
func (e *Edge) slower(p50 float64) bool {
	usual := math.Exp2(e.Learned.P50)
	return p50 > usuallyWithin*usual && p50-usual >= slowerBy
}

// givesUpFirst finds callers that stop waiting before what they wait for does: their timeout is shorter than that of a
// call below, times its attempts.
func givesUpFirst(g *Graph) []graph.Finding {
	var found []graph.Finding
	for _, e := range g.Edges {
		own := WaitingOf(&e.Sum)
		n := own.N
		if own.Outlasts > 0 {
			n = own.Outlasts
		} else if own.N < fewest || e.Recent.Stats.Failures[graph.Timeout] <= 0 || e.over(inClass(graph.Timeout)) {
			continue
		}
		if e.async() || math.IsNaN(own.Timeout) || e.Recent.Stats.Raw <= 0 {
			continue
		}
		for _, below := range g.out[e.Key.Target] {
			w, attempts := WaitingOf(&below.Sum), attemptsOf(&below.Sum)
			if below == e || below.async() || !(own.Timeout < w.Timeout*attempts*(1-snapWithin)) {
				continue
			}
			times := ""
			if attempts > 1 {
				times = " (" + span(w.Timeout) + " × " + figure(attempts) + " attempts)"
			}
			f := e.found("gives_up_first", graph.Warn, own.Timeout/1e6, n, "callers give up after %s, while %s waits up to %s for %s%s, n=%s",
				span(own.Timeout), e.Key.Target.ID(), span(w.Timeout*attempts), below.Key.Target.ID(), times, count(n))
			f[0].Subject = below.Key.Target.ID()
			found = append(found, f...)
		}
	}
	return found
}

// attemptsOf returns how many attempts are made of a call that fails, mean.
func attemptsOf(s *Sum) float64 {
	first := s.Stats.Errors - s.measure(graph.RetryGap).Errors // failed first attempts
	if s.rawRetries() < fewest || first <= 0 {
		return 1
	}
	return min(1+share(s.Stats.Retries(), first), mostAttempts)
}
