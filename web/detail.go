package web

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"faultline/graph"
	"faultline/graph/finding"
	"faultline/internal/sketch"
	"faultline/storage"
)

// EdgeDetail is an edge with what it is made of. The shares are counted by the whole minute, so that they may cover up
// to a minute more than the edge's own figures, and are told apart by side, because caller and callee may name the same
// call differently: the shares of one side add up to the edge.
type EdgeDetail struct {
	Edge
	Env            string        `json:"env"`
	From           time.Time     `json:"from"`
	To             time.Time     `json:"to"`
	Operations     []Share       `json:"operations" nullable:"false" doc:"Most calls first"`
	Instances      []Share       `json:"instances" nullable:"false" doc:"The callee's"`
	Versions       []Share       `json:"versions" nullable:"false" doc:"The callee's"`
	Callers        []Part        `json:"callers" nullable:"false" doc:"The caller's instances, as their calls went"`
	Zones          []Part        `json:"zones" nullable:"false" doc:"Where the callee's instances run"`
	Hosts          []Part        `json:"hosts" nullable:"false" doc:"On which hosts the callee's instances run"`
	CallerVersions []Part        `json:"caller_versions" nullable:"false" doc:"The caller's versions, as their calls went"`
	VersionPairs   []VersionPair `json:"version_pairs" nullable:"false" doc:"The caller's versions with the callee's, as the caller sees it, most calls first"`
	Causes         []Cause       `json:"causes" nullable:"false" doc:"Why calls failed, most calls first"`
	Retrying       *Retrying     `json:"retrying" doc:"null where it is not known what is a logical call"`
	Waiting        *Waiting      `json:"waiting"`
	Breaker        *Breaker      `json:"breaker" doc:"null where no caller's breaker was open"`
	Queue          *Queue        `json:"queue" doc:"Of an edge from a queue, else null"`
	Shape          *Shape        `json:"shape" doc:"From the traces that were analysed, null when there are none"`
	Examples       []Example     `json:"examples" nullable:"false" doc:"Kept example traces: the newest, newest first, then those that show findings of before"`
}

// ServiceDetail is a node with what is around it and what it is made of.
type ServiceDetail struct {
	Node
	From       time.Time `json:"from"`
	To         time.Time `json:"to"`
	Inbound    []Edge    `json:"inbound" nullable:"false" doc:"What calls it"`
	Outbound   []Edge    `json:"outbound" nullable:"false" doc:"What it calls"`
	Operations []Share   `json:"operations" nullable:"false" doc:"What it is asked for, over all callers, most calls first"`
	Instances  []Share   `json:"instances" nullable:"false" doc:"Instances that were seen; one that is not called has no figures"`
	Versions   []Share   `json:"versions" nullable:"false"`
	SLOs       []SLO     `json:"slos" nullable:"false"`
	Chain      Chain     `json:"chain"`

	SelfShare   *float64     `json:"self_share" doc:"Share of the time of the traces that use it that passes in its own code, of those analysed"`
	OriginShare *float64     `json:"origin_share" doc:"Share of the failed traces that use it whose failure began in it"`
	Flows       []Flow       `json:"flows" nullable:"false" doc:"Who feeds whom through queues: through this one, or from and to this service"`
	Links       []Link       `json:"links" nullable:"false" doc:"Whom its spans link to, and whose link to its own, outside of messaging"`
	EntryPoints []EntryPoint `json:"entry_points" nullable:"false" doc:"What users ask it for: chain.entries"`
}

// Chain is how far a node reaches.
type Chain struct {
	Depth      int `json:"depth" doc:"How many calls deep its farthest dependency lies"`
	Downstream int `json:"downstream" doc:"How many nodes it depends on"`
	Upstream   int `json:"upstream" doc:"How many nodes depend on it"`
	// Entries are the service's entry points: each operation has a depth and an availability of its own.
	Entries []EntryPoint `json:"entries" nullable:"false" doc:"What users ask it for, most traces first: how deep that goes and how available it can be at best"`
}

// examplesShown is how many examples an edge shows.
const examplesShown = 20

type edgeInput struct {
	ID string `path:"id" doc:"Edge id" maxLength:"64"`
	Times
}

type edgeOutput struct{ Body EdgeDetail }

func (s *Server) edge(ctx context.Context, in *edgeInput) (*edgeOutput, error) {
	sp, err := s.spanOf(in.From, in.To, defaultSpan, s.now())
	if err != nil {
		return nil, err
	}
	edges := []string{in.ID}
	windows, err := s.reader.Windows(ctx, storage.Query{From: sp.From, To: sp.end(), Want: storage.WantEdges, Edges: edges})
	if err != nil {
		return nil, err
	}
	env, ok := envOf(windows)
	if !ok {
		return nil, fmt.Errorf("edge: %w", storage.ErrNotFound)
	}
	baseline, err := s.baselineOf(ctx, sp, env)
	if err != nil {
		return nil, err
	}
	m := graph.BuildMap(windows, sp.From, sp.To, env, false, baseline)
	if len(m.Edges) == 0 { // it was taken back
		return nil, fmt.Errorf("edge: %w", storage.ErrNotFound)
	}
	if err := s.attach(ctx, sp, &m); err != nil {
		return nil, err
	}
	detail := EdgeDetail{Edge: newEdge(&m.Edges[0]), Env: env, From: sp.From, To: sp.To}
	details, err := s.detailsOf(ctx, sp, edges, func(graph.DetailKey) bool { return true })
	if err != nil {
		return nil, err
	}
	shares := sharesOf(details, sp.To.Sub(sp.minute()))
	detail.Operations = shares[graph.Operation]
	detail.Instances, detail.Versions = ofSide(shares[graph.Instance], graph.ServerSide), ofSide(shares[graph.Version], graph.ServerSide)
	if err := s.figures(ctx, &detail, &m.Edges[0], sp, details); err != nil {
		return nil, err
	}
	examples, err := s.reader.Examples(ctx, storage.TraceQuery{From: sp.From, To: sp.end(), Edge: in.ID, Limit: examplesShown})
	if err != nil {
		return nil, err
	}
	if examples, err = s.evidence(ctx, &detail, examples); err != nil {
		return nil, err
	}
	detail.Examples = make([]Example, len(examples))
	for i := range examples {
		detail.Examples[i] = newExample(&examples[i])
	}
	return &edgeOutput{detail}, nil
}

// envOf returns the environment of the windows of one edge.
func envOf(windows []graph.Window) (env string, ok bool) {
	for i := range windows {
		for j := range windows[i].Edges {
			return windows[i].Edges[j].Edge.Env(), true
		}
	}
	return "", false
}

// detailsOf returns the wanted details of some edges, summed, from the minute on in which sp begins.
func (s *Server) detailsOf(ctx context.Context, sp span, edges []string, want func(graph.DetailKey) bool) (map[graph.DetailKey]*graph.Detail, error) {
	sums := map[graph.DetailKey]*graph.Detail{}
	if len(edges) == 0 {
		return sums, nil
	}
	windows, err := s.reader.Windows(ctx, storage.Query{From: sp.minute(), To: sp.end(), Want: storage.WantDetails, Edges: edges})
	if err != nil {
		return nil, err
	}
	for i := range windows {
		for j := range windows[i].Details {
			row := &windows[i].Details[j]
			if !want(row.Key) || row.Key.Dimension >= graph.NumDimensions {
				continue
			}
			d := sums[row.Key]
			if d == nil {
				d = &graph.Detail{Latency: sketch.New(row.Detail.Latency.Scale())}
				sums[row.Key] = d
			}
			d.Add(&row.Detail)
		}
	}
	return sums, nil
}

// sharesOf returns details by dimension, most calls first.
func sharesOf(details map[graph.DetailKey]*graph.Detail, length time.Duration) [graph.NumDimensions][]Share {
	var shares [graph.NumDimensions][]Share
	for i := range shares {
		shares[i] = []Share{}
	}
	for key, d := range details {
		if d.Calls > 0 {
			shares[key.Dimension] = append(shares[key.Dimension], newShare(key, d, length))
		}
	}
	for i := range shares {
		slices.SortFunc(shares[i], func(a, b Share) int {
			return cmp.Or(cmp.Compare(b.Calls, a.Calls), strings.Compare(a.Name, b.Name), strings.Compare(a.Side, b.Side))
		})
	}
	return shares
}

// ofSide returns the shares of one side.
func ofSide(shares []Share, side graph.Side) []Share {
	return slices.DeleteFunc(shares, func(s Share) bool { return s.Side != sideNames[side] })
}

type serviceInput struct {
	ID string `path:"id" doc:"Node id; its slashes may come raw or percent-encoded" maxLength:"2048" example:"shop/checkout"`
	Times
	Environment
}

type serviceOutput struct{ Body ServiceDetail }

func (s *Server) service(ctx context.Context, in *serviceInput) (*serviceOutput, error) {
	sp, err := s.spanOf(in.From, in.To, defaultSpan, s.now())
	if err != nil {
		return nil, err
	}
	windows, err := s.windowsOf(ctx, sp)
	if err != nil {
		return nil, err
	}
	env := in.Env
	if !in.set {
		env, _ = busiest(windows, in.ID)
	}
	m, err := s.buildMap(ctx, windows, sp, env)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(m.Nodes, func(n graph.MapNode) bool { return n.ID == in.ID })
	if at < 0 {
		return nil, fmt.Errorf("node: %w", storage.ErrNotFound)
	}
	detail := ServiceDetail{
		Node: placedNode(&m, at, s.places.of(&m, false)), From: sp.From, To: sp.To,
		Inbound: []Edge{}, Outbound: []Edge{}, SLOs: []SLO{}, Chain: chainOf(&m, in.ID), EntryPoints: []EntryPoint{},
	}
	var inbound []string
	for i := range m.Edges {
		e := &m.Edges[i]
		if e.Key.Target.ID() == in.ID {
			inbound = append(inbound, e.ID)
			detail.Inbound = append(detail.Inbound, newEdge(e))
		}
		if e.Key.Source.ID() == in.ID {
			detail.Outbound = append(detail.Outbound, newEdge(e))
		}
	}
	// What sends spans tells its own names; of a database only its callers' names for what they ask are known.
	kind, side := m.Nodes[at].Node.Kind, graph.ServerSide
	sends := kind == graph.Service || kind == graph.Gateway
	if !sends {
		side = graph.ClientSide
	}
	details, err := s.detailsOf(ctx, sp, inbound, func(k graph.DetailKey) bool {
		return k.Side == side && (sends || k.Dimension == graph.Operation) || k.Dimension == graph.Measured
	})
	if err != nil {
		return nil, err
	}
	if detail.Flows, err = s.flowsAround(ctx, sp, in.ID, &m); err != nil {
		return nil, err
	}
	detail.Links = linksAround(&m, in.ID)
	own := finding.ShapeOf(&finding.Sum{Details: details})
	shares := sharesOf(details, sp.To.Sub(sp.minute()))
	if detail.EntryPoints, err = s.entryPoints(ctx, sp, m.Nodes[at].Node, &m); err != nil {
		return nil, err
	}
	detail.Chain.Entries = detail.EntryPoints
	detail.SelfShare, detail.OriginShare = number(own.CriticalSelf), number(own.OriginSelf)
	detail.Operations = shares[graph.Operation]
	detail.Instances = withNames(shares[graph.Instance], m.Nodes[at].Instances)
	detail.Versions = withNames(shares[graph.Version], m.Nodes[at].Versions)
	return &serviceOutput{detail}, nil
}

// withNames adds those who sent spans and were not called.
func withNames(shares []Share, names []string) []Share {
	for _, name := range names {
		if !slices.ContainsFunc(shares, func(s Share) bool { return s.Name == name }) {
			shares = append(shares, Share{Name: name, Side: sideNames[graph.ServerSide]})
		}
	}
	return shares
}

// chainOf measures how far a node reaches, itself not counted. What users ask of it is left to the caller.
func chainOf(m *graph.Map, id string) Chain {
	down, up := reach(m, id, len(m.Nodes), false), reach(m, id, len(m.Nodes), true)
	return Chain{Depth: slices.Max(slices.Collect(maps.Values(down))), Downstream: len(down) - 1, Upstream: len(up) - 1}
}

type seriesInput struct {
	ID string `path:"id" doc:"Edge id" maxLength:"64"`
	Times
	Step string `query:"step" doc:"Length of a point: 30s, 5m, 1h, seconds, or a multiple of ten seconds; absent for a fitting one" maxLength:"32"`
}

// Point is what one edge was like over one step.
type Point struct {
	T         time.Time `json:"t" doc:"Start"`
	Rate      *float64  `json:"rate"`
	ErrorRate *float64  `json:"error_rate"`
	RetryRate *float64  `json:"retry_rate"`
	P50       *float64  `json:"p50_ms"`
	P95       *float64  `json:"p95_ms"`
	P99       *float64  `json:"p99_ms"`
	Max       *float64  `json:"max_ms"`
	// Server is what the callee saw, as in Edge.
	Server      Latency  `json:"server" doc:"As the callee sees it"`
	Concurrency *float64 `json:"concurrency" doc:"Calls in flight, mean over the point"`
}

// Series is an edge over time, without gaps: where nothing was counted the rate is 0 and the rest is null, and before
// anything at all is known the rate is null too. Of an edge of which nothing was counted in the whole span of time nothing is
// known.
type Series struct {
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	StepS  float64   `json:"step_s" doc:"Length of a point in seconds; older points may be longer"`
	Points []Point   `json:"points" nullable:"false"`
}

type seriesOutput struct{ Body Series }

// seriesSpan is what a series covers when from is absent.
const seriesSpan = 15 * time.Minute

// steps are the lengths that a series takes by itself, so that it has at most fittingPoints.
var steps = []time.Duration{
	graph.WindowLength, 30 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour,
	6 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour,
}

const fittingPoints = 360

// stepOf reads the parameter step.
func (s *Server) stepOf(text string, sp span) (time.Duration, error) {
	if text == "" {
		for _, step := range steps {
			if sp.length()/step < fittingPoints {
				return step, nil
			}
		}
		return steps[len(steps)-1], nil
	}
	step, err := parseDuration(text)
	if err != nil {
		return 0, badParameter("step", text, err)
	}
	if step < graph.WindowLength || step%graph.WindowLength != 0 {
		return 0, badParameter("step", text, fmt.Errorf("must be a multiple of %s", graph.WindowLength))
	}
	if sp.length()/step >= time.Duration(s.limits.Points) {
		return 0, badParameter("step", text, fmt.Errorf("at most %d points", s.limits.Points))
	}
	return step, nil
}

func (s *Server) series(ctx context.Context, in *seriesInput) (*seriesOutput, error) {
	now := s.now()
	sp, err := s.spanOf(in.From, in.To, seriesSpan, now)
	if err != nil {
		return nil, err
	}
	step, err := s.stepOf(in.Step, sp)
	if err != nil {
		return nil, err
	}
	from, to := floor(sp.From, step), ceil(sp.To, step)
	windows, err := s.reader.Windows(ctx, storage.Query{From: from, To: to, Step: step, Want: storage.WantEdges, Edges: []string{in.ID}})
	if err != nil {
		return nil, err
	}
	if len(windows) == 0 {
		return nil, fmt.Errorf("series: %w", storage.ErrNotFound)
	}
	info, err := s.reader.Info(ctx)
	if err != nil {
		return nil, err
	}
	series := Series{From: from, To: sp.To, StepS: step.Seconds(), Points: []Point{}}
	slices.SortFunc(windows, func(a, b graph.Window) int { return a.Start.Compare(b.Start) })
	known := windows[0].Start // since when anything is
	if !info.Oldest.IsZero() && info.Oldest.Before(known) {
		known = info.Oldest
	}
	next := from
	fill := func(until time.Time) {
		for ; next.Before(until); next = next.Add(step) {
			p := Point{T: next}
			if next.Add(step).After(known) {
				p.Rate = new(float64)
			}
			series.Points = append(series.Points, p)
		}
	}
	for i := range windows {
		w := &windows[i]
		var stats graph.EdgeStats
		for j := range w.Edges {
			stats.Add(&w.Edges[j].Stats)
		}
		end := w.Start.Add(w.Length)
		if !end.After(next) && len(series.Points) > 0 || !w.Start.Before(to) {
			continue
		}
		fill(w.Start)
		if end.After(now) {
			end = now
		}
		series.Points = append(series.Points, newPoint(w.Start.UTC(), &stats, end.Sub(w.Start)))
		next = w.Start.Add(max(w.Length, step)).UTC()
	}
	last := to
	if last.After(now) {
		last = now
	}
	fill(last)
	return &seriesOutput{series}, nil
}

func newPoint(t time.Time, s *graph.EdgeStats, length time.Duration) Point {
	calls := max(s.Calls, 0)
	client := latencyOf(&s.Client, s.Raw)
	p := Point{
		T: t, Rate: perSecond(calls, length), ErrorRate: ratio(s.Errors, calls),
		P50: client.P50, P95: client.P95, P99: client.P99, Max: client.Max, Server: latencyOf(&s.Server, s.Raw),
	}
	if length > 0 {
		p.Concurrency = number(float64(max(s.Busy, 0)) / float64(length))
	}
	if s.LogicalCalls > 0 {
		p.RetryRate = ratio(s.Retries(), calls)
	}
	return p
}
