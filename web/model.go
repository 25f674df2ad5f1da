package web

import (
	"math"
	"time"

	"faultline/graph"
	"faultline/internal/sketch"
)

// Node is one participant over a span of time, as the API shows it. Its figures are those of the calls that it is asked
// for (its inbound edges); what nobody calls has none.
type Node struct {
	ID        string   `json:"id" doc:"Unique within the environment" example:"shop/checkout"`
	Name      string   `json:"name"`
	Namespace *string  `json:"namespace" doc:"service.namespace"`
	Kind      string   `json:"kind" enum:"service,gateway,database,cache,queue,external,llm,user,ingress,unknown" doc:"llm: a provider of generative models; ingress: what triggers a function"`
	Env       string   `json:"env" doc:"Environment, empty when the spans name none"`
	Health    string   `json:"health" enum:"ok,warn,critical,unknown" doc:"The worst of the node's inbound edges"`
	Rate      *float64 `json:"rate" doc:"Calls per second that end here"`
	ErrorRate *float64 `json:"error_rate" doc:"errors/calls of the calls that end here, 0–1"`
	P95       *float64 `json:"p95_ms" doc:"Latency of the calls that end here, as the node itself sees it, else as its callers do"`
	P95By     *string  `json:"p95_by" enum:"node,callers" doc:"Who saw that"`
	N         int64    `json:"n" doc:"Spans that the figures rest on, unweighted"`
	Estimated bool     `json:"estimated" doc:"Counts are estimated from spans that were sampled"`
	// Biased is by what is known now, whatever the time that is asked for.
	Biased       bool     `json:"biased" doc:"Spans of this service are kept or left out by how their traces end: its figures cannot be corrected"`
	Unidentified bool     `json:"unidentified" doc:"A service that does not say what it is called"`
	Instances    *int     `json:"instances" doc:"How many instances sent spans"`
	Versions     []string `json:"versions" nullable:"false" doc:"The versions that sent spans"`
	// Criticality is the present one, whatever the time that is asked for.
	Criticality *string   `json:"criticality" doc:"critical, high, medium or low, by service.criticality"`
	Findings    []Finding `json:"findings" nullable:"false" doc:"What is found at the node itself, loudest first"`
	X           *float64  `json:"x,omitempty" doc:"Place on the map: the centre of the node's card"`
	Y           *float64  `json:"y,omitempty"`
}

// Latency is what one side of an edge saw, in milliseconds.
type Latency struct {
	P50 *float64 `json:"p50_ms"`
	P95 *float64 `json:"p95_ms"`
	P99 *float64 `json:"p99_ms"`
	Max *float64 `json:"max_ms"`
}

// SLO is the objective of an edge; the API has none yet.
type SLO struct {
	_               struct{} `nullable:"true"`
	Objective       float64  `json:"objective"`
	BurnRate        float64  `json:"burn_rate"`
	BudgetRemaining float64  `json:"budget_remaining"`
}

// Anomaly is the suspicion about an edge; the API has none yet.
type Anomaly struct {
	_       struct{}  `nullable:"true"`
	Score   float64   `json:"score"`
	Since   time.Time `json:"since"`
	Reasons []string  `json:"reasons"`
}

// Edge is one dependency over a span of time, as the API shows it. What is not known is null, never 0: a side that was
// not seen, a quantile of too few calls.
type Edge struct {
	ID            string           `json:"id" doc:"Stable, safe in a URL"`
	Source        string           `json:"source" doc:"Id of the calling node"`
	Target        string           `json:"target" doc:"Id of the called node"`
	Protocol      string           `json:"protocol" enum:"http,grpc,rpc,db,messaging,internal,unknown"`
	Calls         int64            `json:"calls" doc:"Attempts; on messaging edges operations"`
	Rate          *float64         `json:"rate" doc:"Calls per second"`
	Errors        int64            `json:"errors" doc:"Failed calls"`
	ErrorRate     *float64         `json:"error_rate" doc:"errors/calls, 0–1"`
	LogicalCalls  int64            `json:"logical_calls" doc:"Calls after retries"`
	LogicalErrors int64            `json:"logical_errors"`
	Retries       int64            `json:"retries" doc:"Attempts after one that failed: calls − logical_calls − hedges"`
	Hedges        int64            `json:"hedges" doc:"Attempts beside one that was going well: no retries"`
	RetryRate     *float64         `json:"retry_rate" doc:"retries/calls, 0–1"`
	Amplification *float64         `json:"amplification" doc:"calls/logical_calls, hedges included"`
	Timeouts      int64            `json:"timeouts" doc:"Failed calls of the class timeout"`
	ClientErrors  int64            `json:"client_errors" doc:"Calls that failed by the caller's own fault, such as 404: no errors"`
	Cancelled     int64            `json:"cancelled" doc:"Calls that the caller gave up: no errors"`
	Messages      *int64           `json:"messages" doc:"Messages in the operations of a messaging edge"`
	Failures      map[string]int64 `json:"failures" nullable:"false" doc:"Failed calls by class"`
	ServerMissing int64            `json:"server_missing" doc:"Calls of which the callee's half did not come, where it usually does"`
	ClientMissing int64            `json:"client_missing" doc:"Calls of which the caller's half did not come"`
	N             int64            `json:"n" doc:"Spans that the figures rest on, unweighted: p50 is shown from 2, p95 from 20, p99 from 100"`
	P50           *float64         `json:"p50_ms" doc:"As the caller sees it"`
	P95           *float64         `json:"p95_ms"`
	P99           *float64         `json:"p99_ms"`
	Max           *float64         `json:"max_ms"`
	Server        Latency          `json:"server" doc:"As the callee sees it"`
	Concurrency   *float64         `json:"concurrency" doc:"Calls in flight, mean over the time"`
	SLO           *SLO             `json:"slo"`
	Anomaly       *Anomaly         `json:"anomaly"`
	Health        string           `json:"health" enum:"ok,warn,critical,unknown"`
	Reasons       []string         `json:"reasons" nullable:"false" doc:"Why the health is warn or critical, worst first"`
	Findings      []Finding        `json:"findings" nullable:"false" doc:"What goes wrong, by name, loudest first"`
	Criticality   *string          `json:"criticality" doc:"critical, high, medium or low: of the more critical one of its ends"`
	Estimated     bool             `json:"estimated" doc:"Counts are estimated from spans that were sampled"`
	Biased        bool             `json:"biased" doc:"Spans of one of its ends are kept or left out by how their traces end: the figures cannot be corrected"`
}

// How many unweighted calls a quantile needs: 1/(1−q), and two for the median.
const (
	minP50 = 2
	minP95 = 20
	minP99 = 100
)

func newNode(n *graph.MapNode, length time.Duration) Node {
	node := Node{
		ID: n.ID, Name: n.Node.Name, Kind: n.Node.Kind.String(), Env: n.Node.Env, Health: n.Health.String(),
		Versions: n.Versions, Criticality: criticality(n.Criticality), Findings: newFindings(n.Findings),
		Biased: n.Biased, Unidentified: n.Node.Unidentified(),
	}
	if n.Node.Name == "" {
		node.Name = n.ID
	}
	if n.Node.Namespace != "" {
		node.Namespace = &n.Node.Namespace
	}
	if node.Versions == nil {
		node.Versions = []string{}
	}
	if len(n.Instances) > 0 {
		count := len(n.Instances)
		node.Instances = &count
	}
	if in := &n.Inbound; in.Calls > 0 {
		node.Rate = perSecond(in.Calls, length)
		node.ErrorRate = ratio(in.Errors, in.Calls)
		node.N, node.Estimated = max(in.Raw, 0), in.Calls != in.Raw
		seen, by := &in.Server, "node"
		if seen.Count() <= 0 {
			seen, by = &in.Client, "callers"
		}
		if node.P95 = quantile(seen, .95, minP95, in.Raw); node.P95 != nil {
			node.P95By = &by
		}
	}
	return node
}

func newEdge(e *graph.MapEdge) Edge {
	s := &e.Stats
	calls, logical, client := max(s.Calls, 0), max(s.LogicalCalls, 0), latencyOf(&s.Client, s.Raw)
	edge := Edge{
		ID: e.ID, Source: e.Key.Source.ID(), Target: e.Key.Target.ID(), Protocol: e.Key.Protocol.String(),
		Calls: calls, Errors: max(s.Errors, 0), LogicalCalls: logical, LogicalErrors: max(s.LogicalErrors, 0),
		Retries: s.Retries(), Hedges: max(s.Hedges, 0), Timeouts: max(s.Failures[graph.Timeout], 0),
		ClientErrors: max(s.ClientErrors, 0), Cancelled: max(s.Cancelled, 0), Failures: failures(s),
		ServerMissing: max(s.ServerMissing, 0), ClientMissing: max(s.ClientMissing, 0), N: max(s.Raw, 0),
		Rate: perSecond(calls, e.Duration), ErrorRate: ratio(s.Errors, calls), Amplification: quotient(calls, logical),
		P50: client.P50, P95: client.P95, P99: client.P99, Max: client.Max, Server: latencyOf(&s.Server, s.Raw),
		Health: e.Health.String(), Reasons: e.Reasons, Findings: newFindings(e.Findings), Estimated: s.Calls != s.Raw,
		Criticality: criticality(e.Criticality), Biased: e.Biased,
	}
	if logical > 0 {
		edge.RetryRate = ratio(edge.Retries, calls)
	}
	if e.Key.Protocol == graph.Messaging {
		messages := max(s.Messages, 0)
		edge.Messages = &messages
	}
	if e.Duration > 0 {
		edge.Concurrency = number(float64(max(s.Busy, 0)) / float64(e.Duration))
	}
	if edge.Reasons == nil {
		edge.Reasons = []string{}
	}
	return edge
}

// failures returns the failed calls by class, without the classes that did not occur.
func failures(s *graph.EdgeStats) map[string]int64 {
	m := map[string]int64{}
	for class, n := range s.Failures {
		if n > 0 && graph.Failure(class) != graph.None {
			m[graph.Failure(class).String()] = n
		}
	}
	return m
}

// Share is an operation, instance or version with its part of the calls.
type Share struct {
	Name      string   `json:"name"`
	Side      string   `json:"side" enum:"client,server" doc:"Whose name it is: the caller's or the callee's"`
	Calls     int64    `json:"calls"`
	Rate      *float64 `json:"rate"`
	Errors    int64    `json:"errors"`
	ErrorRate *float64 `json:"error_rate"`
	P50       *float64 `json:"p50_ms"`
	P95       *float64 `json:"p95_ms"`
	P99       *float64 `json:"p99_ms"`
	N         int64    `json:"n" doc:"Calls, unweighted"`
	P         *float64 `json:"p_value" doc:"Probability that so many of the failures fall on this part by chance; null when it was not tested"`
	Explains  *float64 `json:"explains" doc:"Share of all failures that fall on it"`
	Outlier   bool     `json:"outlier" doc:"It fails, or is slow, where the others are not"`
}

func newShare(key graph.DetailKey, d *graph.Detail, length time.Duration) Share {
	calls, latency := max(d.Calls, 0), latencyOf(&d.Latency, d.Raw)
	return Share{
		Name: key.Name, Side: sideNames[key.Side&1], Calls: calls, Rate: perSecond(calls, length),
		Errors: max(d.Errors, 0), ErrorRate: ratio(d.Errors, calls),
		P50: latency.P50, P95: latency.P95, P99: latency.P99,
		N: max(d.Raw, 0),
	}
}

var sideNames = [2]string{"client", "server"}

// latencyOf returns the maximum, and the quantiles that enough calls, raw and weighted, stand behind.
func latencyOf(s *sketch.Sketch, raw int64) (l Latency) {
	if s.Count() > 0 {
		l.Max = number(float64(s.Max()) / 1e6)
	}
	n := min(s.Count(), raw)
	shown := 0
	for _, least := range [...]int64{minP50, minP95, minP99} {
		if n >= least {
			shown++
		}
	}
	var ns [3]float64
	s.Quantiles([]float64{.5, .95, .99}[:shown], ns[:shown])
	for i, to := range []**float64{&l.P50, &l.P95, &l.P99}[:shown] {
		*to = number(ns[i] / 1e6)
	}
	return l
}

// quantile returns the q-quantile in milliseconds, nil when fewer than least calls, raw or weighted, stand behind it.
func quantile(s *sketch.Sketch, q float64, least, raw int64) *float64 {
	if min(s.Count(), raw) < least {
		return nil
	}
	return number(s.Quantile(q) / 1e6)
}

func perSecond(n int64, length time.Duration) *float64 {
	if length <= 0 {
		return nil
	}
	return number(float64(n) / length.Seconds())
}

// ratio returns n/of within 0…1, nil when of is nothing.
func ratio(n, of int64) *float64 {
	if of <= 0 {
		return nil
	}
	return number(min(max(float64(n)/float64(of), 0), 1))
}

func quotient(n, of int64) *float64 {
	if of <= 0 {
		return nil
	}
	return number(float64(n) / float64(of))
}

// number returns v with the six significant digits that a sketch's error leaves meaningful, nil when it is not a number.
func number(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	if v != 0 {
		v = significant(v)
	}
	return &v
}

// tens are the powers of ten that a float64 holds exactly.
var tens = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// significant returns v, which is finite and not zero, with six significant digits: a whole number and a power of ten that
// are exact, so that their quotient is the float64 nearest to the decimal number and is written with its digits alone.
func significant(v float64) float64 {
	e := 5 - int(math.Floor(math.Log10(math.Abs(v))))
	switch {
	case e > 22: // too small for anything that is measured in milliseconds, seconds or calls
		return 0
	case e >= 0:
		return math.RoundToEven(v*tens[e]) / tens[e]
	case e >= -22:
		return math.RoundToEven(v/tens[-e]) * tens[-e]
	}
	return v
}
