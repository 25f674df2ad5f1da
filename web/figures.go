package web

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"faultline/graph"
	"faultline/graph/finding"
	"faultline/storage"
)

// Cause is one reason why calls of an edge failed.
type Cause struct {
	Cause string   `json:"cause" doc:"Class, and after a colon what more is known" example:"tls: expired certificate"`
	Class string   `json:"class"`
	Blame string   `json:"blame" enum:"unknown,caller,callee,between"`
	Calls int64    `json:"calls"`
	Share *float64 `json:"share" doc:"Of all failed calls of the edge"`
	P50   *float64 `json:"p50_ms" doc:"How long the calls took"`
	N     int64    `json:"n" doc:"Calls, unweighted"`
}

func newCauses(causes []finding.Cause) []Cause {
	out := make([]Cause, len(causes))
	for i, c := range causes {
		out[i] = Cause{c.Name, c.Class.String(), c.Blame.String(), c.Calls, number(c.Share), milliseconds(c.P50), c.N}
	}
	return out
}

// Budget is how an edge keeps to the retry budget: a tenth of the logical calls.
type Budget struct {
	Limit    float64  `json:"limit" doc:"Share of the attempts that may be retries"`
	Lower    *float64 `json:"lower" doc:"Lower bound of the share that are, with 95 % confidence"`
	Exceeded bool     `json:"exceeded" doc:"Over the range as a whole; the finding retry_budget is about the last minute"`
}

// Retrying is how an edge is called again.
type Retrying struct {
	_              struct{} `nullable:"true"`
	PerCall        *float64 `json:"attempts_per_call" doc:"Hedges included; without them it is 1 + retry_ratio"`
	Ratio          *float64 `json:"retry_ratio" doc:"Retries per logical call"`
	Budget         Budget   `json:"budget"`
	Efficacy       *float64 `json:"efficacy" doc:"Share of the retries that succeeded"`
	RetriedCalls   int64    `json:"retried_calls" doc:"Logical calls that were retried and all of whose attempts were seen"`
	RetriedFailed  int64    `json:"retried_failed" doc:"Those of them that failed in the end"`
	RetriedP50     *float64 `json:"retried_p50_ms" doc:"How long callers waited for them, from the beginning of the first attempt to the end of the last"`
	RetriedP95     *float64 `json:"retried_p95_ms"`
	RetriedN       int64    `json:"retried_n" doc:"Such calls, unweighted"`
	AttemptP50     *float64 `json:"attempt_p50_ms" doc:"How long one attempt takes, of all calls, as the caller sees it"`
	AttemptP95     *float64 `json:"attempt_p95_ms"`
	GapP50         *float64 `json:"gap_p50_ms" doc:"From the end of a failed attempt to the next"`
	Growth         *float64 `json:"growth" doc:"Second gap over the first, median"`
	Jitter         *float64 `json:"jitter" doc:"Robust coefficient of variation of the first gap: 0 when clients retry in step"`
	Gaps           int64    `json:"gaps" doc:"Gaps that were seen, unweighted"`
	Hedges         int64    `json:"hedges" doc:"Attempts that began while an earlier one was still going well"`
	Resends        int64    `json:"resends" doc:"Attempts after a redirect, or with credentials: no retries"`
	Unsafe         int64    `json:"unsafe" doc:"Retries of calls that must not be made twice, after an answer that was lost or late"`
	CarriedOut     int64    `json:"unsafe_carried_out" doc:"Those whose first attempt was carried out"`
	Pushback       int64    `json:"pushback" doc:"Retries after an answer that asked for a wait"`
	Ignored        int64    `json:"pushback_ignored" doc:"Those that did not wait so long"`
	Redelivered    int64    `json:"redelivered" doc:"Messages delivered again"`
	Nested         int64    `json:"nested" doc:"Failed calls that were retried at two layers or more"`
	NestedAttempts *float64 `json:"nested_attempts" doc:"Attempts that such a call became, median"`
	N              int64    `json:"n" doc:"Attempts, unweighted"`
}

func newRetrying(s *finding.Sum) *Retrying {
	r := finding.RetryingOf(s)
	if math.IsNaN(r.PerCall) {
		return nil
	}
	return &Retrying{
		PerCall: number(r.PerCall), Ratio: number(r.Ratio), Budget: Budget{finding.BudgetShare, number(r.BudgetLower), r.BudgetExceeded},
		RetriedCalls: r.Retried, RetriedFailed: r.RetriedFailed, RetriedN: r.RetriedN,
		RetriedP50: enough(r.RetriedP50, r.RetriedN, minP50), RetriedP95: enough(r.RetriedP95, r.RetriedN, minP95),
		AttemptP50: enough(r.AttemptP50, r.N, minP50), AttemptP95: enough(r.AttemptP95, r.N, minP95),
		Efficacy: number(r.Efficacy), GapP50: milliseconds(r.GapP50), Growth: number(r.Growth), Jitter: number(r.Jitter), Gaps: r.Gaps,
		Hedges: r.Hedges, Resends: r.Resends, Unsafe: r.Unsafe, CarriedOut: r.CarriedOut, Pushback: r.Pushback, Ignored: r.Ignored,
		Redelivered: r.Redelivered, Nested: r.Nested, NestedAttempts: number(r.NestedAttempts), N: r.N,
	}
}

// Waiting is how an edge waits.
type Waiting struct {
	_               struct{} `nullable:"true"`
	Timeouts        int64    `json:"timeouts"`
	Timeout         *float64 `json:"timeout_ms" doc:"The value at which callers stop waiting, as far as it can be inferred"`
	Max             *float64 `json:"max_ms" doc:"The longest call"`
	NoTimeout       bool     `json:"no_evident_timeout" doc:"In seven days nothing showed that callers ever stop waiting"`
	WastedPerSecond *float64 `json:"wasted_per_s" doc:"Seconds a second that the callee works for callers that have left"`
	WastedShare     *float64 `json:"wasted_share" doc:"Part of its busy time that this is"`
	NegativeGaps    int64    `json:"negative_gaps" doc:"Calls whose callee took longer than its caller, who had not left: the gap between them counts as 0"`
	Concurrency     *float64 `json:"concurrency" doc:"Calls in flight, mean"`
	Ceiling         *float64 `json:"ceiling" doc:"Most calls in flight so far that did not slow the callee down: a lower bound of what it can take"`
	Saturation      *float64 `json:"saturation" doc:"concurrency/ceiling"`
	N               int64    `json:"n" doc:"Timeouts, unweighted"`
}

func newWaiting(s *finding.Sum, ceiling float64, noTimeout bool) *Waiting {
	w := finding.WaitingOf(s)
	out := &Waiting{
		Timeouts: w.Timeouts, Timeout: milliseconds(w.Timeout), Max: milliseconds(w.Max), NoTimeout: noTimeout, NegativeGaps: w.NegativeGaps,
		WastedPerSecond: number(w.WastedPerSecond), WastedShare: number(w.WastedShare), Concurrency: number(w.Concurrency), N: w.N,
	}
	if ceiling > 0 {
		out.Ceiling, out.Saturation = number(ceiling), number(w.Concurrency/ceiling)
	}
	return out
}

// Breaker is what the breakers of an edge's callers did, together.
type Breaker struct {
	_     struct{}     `nullable:"true"`
	State string       `json:"state" enum:"closed,half_open,open,partly_open" doc:"At the end: half_open while single calls pass to see how the callee is; partly_open when some callers' breakers are open, or one opened or closed within the point"`
	Since time.Time    `json:"since" doc:"Or longer, when runs has nothing before it"`
	Runs  []BreakerRun `json:"runs" nullable:"false" doc:"The states one after the other, over the last 15 minutes at least"`
}

// BreakerRun is a time in which they were in one state.
type BreakerRun struct {
	State  string    `json:"state" enum:"closed,half_open,open,partly_open"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Kept   int64     `json:"kept" doc:"Calls that were not let through"`
	Passed int64     `json:"passed"`
	Failed int64     `json:"failed" doc:"Of those that passed"`
	N      int64     `json:"n" doc:"Calls, unweighted"`
}

// breaker returns what the breakers of an edge's callers did over time, nil where none was open. It looks back further
// than a short span of time goes: since when a breaker is open is seldom within the last minute.
func (s *Server) breaker(ctx context.Context, e *graph.MapEdge, sp span) (*Breaker, error) {
	if e.Stats.Failures[graph.BreakerOpen] <= 0 {
		return nil, nil
	}
	if sp.length() < seriesSpan {
		sp.From = floor(sp.To.Add(-seriesSpan), graph.WindowLength)
	}
	step, err := s.stepOf("", sp)
	if err != nil {
		return nil, err
	}
	windows, err := s.reader.Windows(ctx, storage.Query{From: sp.From, To: sp.end(), Step: step, Want: storage.WantEdges, Edges: []string{e.ID}})
	if err != nil {
		return nil, err
	}
	runs := finding.BreakerOf(windows, e.Key)
	if len(runs) == 0 {
		return nil, nil
	}
	out := &Breaker{Runs: make([]BreakerRun, len(runs))}
	for i, r := range runs {
		out.Runs[i] = BreakerRun{r.State.String(), r.From.UTC(), r.To.UTC(), r.Kept, r.Passed, r.Failed, r.N}
	}
	last := out.Runs[len(runs)-1]
	out.State, out.Since = last.State, last.From
	return out, nil
}

// Queue is how an edge from a queue does.
type Queue struct {
	_       struct{} `nullable:"true"`
	Lag50   *float64 `json:"lag_p50_ms" doc:"How long messages waited"`
	Lag95   *float64 `json:"lag_p95_ms"`
	Lag99   *float64 `json:"lag_p99_ms"`
	Within  *float64 `json:"lag_within_ms" doc:"By how much these may be off, at the median, because two clocks tell them; null where it is not known how the clocks differ, or one tells them"`
	In      *float64 `json:"in_per_s" doc:"Messages a second into the queue, by all producers"`
	Out     *float64 `json:"out_per_s" doc:"Messages a second on this edge"`
	Growth  *float64 `json:"growth" doc:"(in − out)/in"`
	Backlog *float64 `json:"backlog" doc:"Messages that wait, estimated from what went in and out"`
	Drain   *float64 `json:"drain_s" doc:"How long they last at the present rates; null while they do not become fewer"`
	Groups  []Group  `json:"groups" nullable:"false" doc:"Consumer groups"`
	Down    int64    `json:"turned_down" doc:"Messages that their consumer gave back to the queue"`
	Dead    int64    `json:"given_up" doc:"Messages that their consumer sent to the dead letters"`
	N       int64    `json:"n" doc:"Messages whose wait was seen, unweighted"`
}

// Group is a consumer group of a queue.
type Group struct {
	Name      string   `json:"name"`
	Calls     int64    `json:"calls"`
	ErrorRate *float64 `json:"error_rate"`
	P50       *float64 `json:"p50_ms"`
	P95       *float64 `json:"p95_ms"`
	N         int64    `json:"n"`
}

func newQueue(q finding.Queue) *Queue {
	out := &Queue{
		Lag50: enough(q.Lag50, q.N, minP50), Lag95: enough(q.Lag95, q.N, minP95), Lag99: enough(q.Lag99, q.N, minP99), Within: number(q.Within / 1e6),
		In: number(q.In), Out: number(q.Out), Growth: number(q.Growth), Backlog: number(q.Backlog), Drain: number(q.Drain / 1e9),
		Groups: make([]Group, len(q.Groups)), Down: q.TurnedDown, Dead: q.GivenUp, N: q.N,
	}
	for i, g := range q.Groups {
		out.Groups[i] = Group{g.Name, g.Calls, ratio(g.Errors, g.Calls), enough(g.P50, g.N, minP50), enough(g.P95, g.N, minP95), g.N}
	}
	return out
}

// Shape is what the traces that were analysed say of an edge.
type Shape struct {
	_            struct{} `nullable:"true"`
	Traces       int64    `json:"traces" doc:"Traces analysed that use the edge, unweighted"`
	Critical     *float64 `json:"critical_share" doc:"Share of those traces' time that passes on the edge and in what is below it"`
	CriticalEdge *float64 `json:"critical_edge_share" doc:"The part between caller and callee"`
	CriticalSelf *float64 `json:"critical_self_share" doc:"The part in the callee's own code"`
	OriginEdge   *float64 `json:"origin_edge_share" doc:"Share of the failed traces whose failure began on the edge"`
	OriginSelf   *float64 `json:"origin_self_share" doc:"Share of the failed traces whose failure began in the callee"`
	Parallel     *float64 `json:"parallel_share" doc:"Share of the calls that are made while others are"`
	Together     *float64 `json:"together" doc:"Calls made while others are, per trace"`
	AnySlow      *float64 `json:"any_slow" doc:"How often one of those is slower than their p99, 1 − 0.99^k: what a trace that waits for all of them sees of it"`
	Repeated     int64    `json:"repeated" doc:"Operations that made ten or more calls of one kind one after the other"`
	RepeatedIn   *float64 `json:"repeated_share" doc:"Share of the traces with such an operation"`
	Saving       *float64 `json:"saving_ms" doc:"What calling once would save there, median"`
	Absorbed     *float64 `json:"absorbed_share" doc:"Share of the failed calls whose caller did not fail"`
	AbsorbedOf   int64    `json:"absorbed_n" doc:"Failed calls that were looked at, unweighted"`
	Soft         bool     `json:"soft" doc:"A soft dependency: callers get by without it"`
	Entries      []Entry  `json:"entries" nullable:"false" doc:"What users asked for, most traces first"`
}

// Entry is something that users ask for and that uses an edge.
type Entry struct {
	Service   string   `json:"service" doc:"Node id"`
	Operation string   `json:"operation"`
	Traces    int64    `json:"traces"`
	ErrorRate *float64 `json:"error_rate" doc:"Of those traces as a whole"`
	P95       *float64 `json:"p95_ms"`
	N         int64    `json:"n"`
}

func newShape(s *finding.Sum) *Shape {
	f := finding.ShapeOf(s)
	if f.Traces == 0 {
		return nil
	}
	out := &Shape{
		Traces: f.Traces, Critical: number(f.Critical), CriticalEdge: number(f.CriticalEdge), CriticalSelf: number(f.CriticalSelf),
		OriginEdge: number(f.OriginEdge), OriginSelf: number(f.OriginSelf), Parallel: number(f.Parallel), Together: number(f.Together), AnySlow: number(f.AnySlow), Repeated: f.Repeated,
		RepeatedIn: number(f.RepeatedIn), Saving: milliseconds(f.Saving), Absorbed: number(f.Absorbed), AbsorbedOf: f.AbsorbedOf,
		Soft: f.Soft, Entries: make([]Entry, len(f.Entries)),
	}
	for i, e := range f.Entries {
		out.Entries[i] = Entry{e.Service, e.Operation, e.Traces, ratio(e.Errors, e.Traces), enough(e.P95, e.N, minP95), e.N}
	}
	return out
}

// Part is an instance, a zone, a host or a version beside others.
type Part struct {
	Name      string   `json:"name"`
	Calls     int64    `json:"calls"`
	ErrorRate *float64 `json:"error_rate"`
	P50       *float64 `json:"p50_ms"`
	N         int64    `json:"n" doc:"Calls, unweighted"`
	K         int64    `json:"k" doc:"Failed calls, unweighted"`
	P         *float64 `json:"p_value" doc:"Probability that so many of the failures fall on this part by chance; null when it was not tested"`
	Explains  *float64 `json:"explains" doc:"Share of all failures that fall on it"`
	Outlier   bool     `json:"outlier" doc:"It fails, or is slow, where the others are not"`
}

func newParts(parts []finding.Part) []Part {
	out := make([]Part, len(parts))
	for i, p := range parts {
		out[i] = Part{
			Name: p.Name, Calls: p.Calls, ErrorRate: ratio(p.Fails, p.Calls), P50: enough(p.P50, p.N, minP50), N: p.N, K: p.K,
			P: probability(p.P), Explains: explains(&p), Outlier: p.Outlier(),
		}
	}
	return out
}

// VersionPair is what a version of the caller has with a version of the callee, as the caller sees it.
type VersionPair struct {
	Caller    *string  `json:"caller" doc:"The caller's version, null where it does not say"`
	Callee    *string  `json:"callee" doc:"The version of the callee that answered, null where it does not say or nobody answered"`
	Calls     int64    `json:"calls"`
	Errors    int64    `json:"errors"`
	ErrorRate *float64 `json:"error_rate"`
	P50       *float64 `json:"p50_ms"`
	P95       *float64 `json:"p95_ms"`
	N         int64    `json:"n" doc:"Calls, unweighted"`
	K         int64    `json:"k" doc:"Failed calls, unweighted"`
	P         *float64 `json:"p_value" doc:"Probability that so many of the failures fall on this pair by chance; null when it was not tested"`
	Explains  *float64 `json:"explains" doc:"Share of all failures between known versions that fall on it"`
	Outlier   bool     `json:"outlier" doc:"It fails where the others do not"`

	TurnedDown int64 `json:"turned_down" doc:"Calls that the callee turned down as wrong: client errors, and failures of the class contract"`
	Disagrees  bool  `json:"disagrees" doc:"The callee turns its calls down as wrong where it does not the others'"`
}

func newVersionPairs(pairs []finding.VersionPair) []VersionPair {
	known := func(version string) *string {
		if version == "" {
			return nil
		}
		return &version
	}
	out := make([]VersionPair, len(pairs))
	for i, p := range pairs {
		out[i] = VersionPair{
			Caller: known(p.Caller), Callee: known(p.Callee), Calls: p.Calls, Errors: p.Fails, ErrorRate: ratio(p.Fails, p.Calls),
			P50: enough(p.P50, p.N, minP50), P95: enough(p.P95, p.N, minP95), N: p.N, K: p.K,
			P: probability(p.P), Explains: explains(&p.Part), Outlier: p.Outlier(),
			TurnedDown: p.TurnedDown, Disagrees: p.Disagrees,
		}
	}
	return out
}

// explains returns which share of the failures falls on a part, nil for one that was not tested, or is only slow.
func explains(p *finding.Part) *float64 {
	if p.Slow > 0 && !p.Bad {
		return nil
	}
	return number(p.Explains)
}

// EntryPoint is something that users ask a service for.
type EntryPoint struct {
	Operation    string   `json:"operation"`
	Depth        *int     `json:"depth" doc:"How many calls lie one below the other in its traces, at most"`
	Availability *float64 `json:"availability" doc:"The best that is possible, as its required dependencies fail now"`
	Traces       int64    `json:"traces" doc:"Traces analysed, unweighted"`
	Required     []string `json:"required" nullable:"false" doc:"Ids of the edges that it does not do without"`
	Soft         []string `json:"soft" nullable:"false" doc:"Ids of the edges that it does without when they fail"`
}

// milliseconds returns nanoseconds in milliseconds, nil when they are not known.
func milliseconds(ns float64) *float64 { return number(ns / 1e6) }

// enough is milliseconds where at least so many observations stand behind the figure.
func enough(ns float64, n, least int64) *float64 {
	if n < least {
		return nil
	}
	return milliseconds(ns)
}

// probability returns p with its significant digits however small it is, nil when it is not known.
func probability(p float64) *float64 {
	if math.IsNaN(p) {
		return nil
	}
	return &p
}

// figures fills in what follows from an edge's sums by the whole minute.
func (s *Server) figures(ctx context.Context, detail *EdgeDetail, e *graph.MapEdge, sp span, details map[graph.DetailKey]*graph.Detail) error {
	sum, err := s.sumOf(ctx, e, sp, details)
	if err != nil {
		return err
	}
	nodes, err := s.reader.Windows(ctx, storage.Query{From: sp.minute(), To: sp.end(), Want: storage.WantNodes, Env: e.Key.Env(), HasEnv: true})
	if err != nil {
		return err
	}
	var processes []graph.NodeRow
	for i := range nodes {
		for j := range nodes[i].Nodes {
			if nodes[i].Nodes[j].Node.Identity() == e.Key.Target.Identity() {
				processes = append(processes, nodes[i].Nodes[j])
			}
		}
	}
	detail.Callers, detail.Zones = newParts(finding.Callers(sum)), newParts(finding.Zones(sum, processes))
	detail.Hosts = newParts(finding.Hosts(sum, processes))
	detail.CallerVersions, detail.VersionPairs = newParts(finding.CallerVersions(sum)), newVersionPairs(finding.VersionPairs(sum))
	detail.Instances = withTest(detail.Instances, finding.Instances(sum))
	detail.Versions = withTest(detail.Versions, finding.Versions(sum))
	detail.Causes, detail.Retrying, detail.Shape = newCauses(finding.Causes(sum)), newRetrying(sum), newShape(sum)
	var learned Learned
	if s.Learned != nil {
		learned = s.Learned(e.ID)
	}
	noTimeout := slices.ContainsFunc(e.Findings, func(f *graph.Finding) bool { return f.Rule == "no_timeout" })
	if detail.Breaker, err = s.breaker(ctx, e, sp); err != nil {
		return err
	}
	detail.Waiting = newWaiting(sum, learned.Ceiling, noTimeout)
	if e.Key.Source.Kind == graph.Queue {
		in, err := s.published(ctx, e.Key.Source, sp)
		if err != nil {
			return err
		}
		backlog := math.NaN()
		if learned.Backlog > 0 {
			backlog = learned.Backlog
		}
		detail.Queue = newQueue(finding.QueueOf(sum, in, backlog))
	}
	return nil
}

// sumOf returns the sums of an edge from the minute on in which sp begins, as its details have them.
func (s *Server) sumOf(ctx context.Context, e *graph.MapEdge, sp span, details map[graph.DetailKey]*graph.Detail) (*finding.Sum, error) {
	sum := &finding.Sum{Details: details, Length: sp.To.Sub(sp.minute())}
	sum.Stats.Add(&e.Stats)
	if sp.minute().Equal(sp.From) {
		return sum, nil
	}
	windows, err := s.reader.Windows(ctx, storage.Query{From: sp.minute(), To: sp.From, Want: storage.WantEdges, Edges: []string{e.ID}})
	if err != nil {
		return nil, err
	}
	for i := range windows {
		for j := range windows[i].Edges {
			sum.Stats.Add(&windows[i].Edges[j].Stats)
		}
	}
	return sum, nil
}

// entryPoints returns what users ask a service for.
func (s *Server) entryPoints(ctx context.Context, sp span, service graph.Node, m *graph.Map) ([]EntryPoint, error) {
	edges, err := s.edgesBelow(ctx, sp, service, m)
	if err != nil {
		return nil, err
	}
	points := finding.EntryPoints(service, edges)
	out := make([]EntryPoint, len(points))
	for i, p := range points {
		out[i] = EntryPoint{p.Operation, nil, number(p.Availability), p.Traces, nonNil(p.Required), nonNil(p.Soft)}
		if p.Depth > 0 {
			depth := int(p.Depth)
			out[i].Depth = &depth
		}
	}
	return out, nil
}

// edgesBelow returns the edges that an entry service's traces may use, with their details of traces; none where nobody
// enters there.
func (s *Server) edgesBelow(ctx context.Context, sp span, service graph.Node, m *graph.Map) ([]*finding.Edge, error) {
	enters := false
	below := reach(m, service.ID(), len(m.Nodes), false)
	var ids []string
	edges := map[graph.EdgeKey]*finding.Edge{}
	for i := range m.Edges {
		e := &m.Edges[i]
		entering := e.Key.Source.Outside() || e.Key.Source.Kind == graph.Queue
		own := e.Key.Target == service && entering
		if _, is := below[e.Key.Source.ID()]; !is && !own {
			continue
		}
		enters = enters || own
		ids = append(ids, e.ID)
		edges[e.Key] = &finding.Edge{Key: e.Key, ID: e.ID, Sum: finding.Sum{Stats: e.Stats, Details: map[graph.DetailKey]*graph.Detail{}, Length: e.Duration}}
	}
	if !enters {
		return nil, nil
	}
	windows, err := s.reader.Windows(ctx, storage.Query{From: sp.minute(), To: sp.end(), Want: storage.WantDetails, Edges: ids})
	if err != nil {
		return nil, err
	}
	for i := range windows {
		for j := range windows[i].Details {
			row := &windows[i].Details[j]
			if e := edges[row.Edge]; e != nil && ofTraces(row.Key.Dimension) {
				e.Add(row)
			}
		}
	}
	return slices.SortedFunc(maps.Values(edges), func(a, b *finding.Edge) int { return strings.Compare(a.ID, b.ID) }), nil
}

// ofTraces reports whether a dimension is one of whole traces, or may be.
func ofTraces(d graph.Dimension) bool {
	return d == graph.Entry || d == graph.EntryFailed || d == graph.EntryDepth || d == graph.Measured
}

// published returns how many messages a second went into a queue, NaN where no producer is seen.
func (s *Server) published(ctx context.Context, queue graph.Node, sp span) (float64, error) {
	windows, err := s.reader.Windows(ctx, storage.Query{From: sp.From, To: sp.end(), Want: storage.WantEdges, Env: queue.Env, HasEnv: true})
	if err != nil {
		return 0, err
	}
	messages, seen := int64(0), false
	for i := range windows {
		for j := range windows[i].Edges {
			if row := &windows[i].Edges[j]; row.Edge.Target == queue {
				messages, seen = messages+row.Stats.Messages, true
			}
		}
	}
	if !seen {
		return math.NaN(), nil
	}
	return float64(messages) / sp.length().Seconds(), nil
}

// withTest adds to shares how they compare with each other.
func withTest(shares []Share, parts []finding.Part) []Share {
	for i := range shares {
		for _, p := range parts {
			if p.Name == shares[i].Name {
				shares[i].P, shares[i].Explains, shares[i].Outlier = probability(p.P), explains(&p), p.Outlier()
			}
		}
	}
	return shares
}
