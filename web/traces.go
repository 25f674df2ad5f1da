package web

import (
	"context"
	"slices"
	"time"

	"faultline/graph"
	"faultline/storage"
)

// Example is a call of a kept trace that is an example of its edge.
type Example struct {
	TraceID  string    `json:"trace_id"`
	SpanID   string    `json:"span_id" doc:"The span that observed the call"`
	Edge     string    `json:"edge"`
	Source   string    `json:"source"`
	Target   string    `json:"target"`
	Env      string    `json:"env"`
	Kind     string    `json:"kind" enum:"error,slow,retried,typical" doc:"What it is an example of"`
	At       time.Time `json:"at" doc:"When the call ended"`
	Duration *float64  `json:"duration_ms"`
	Failure  *string   `json:"failure" doc:"Class of the failure"`
}

func newExample(e *graph.Example) Example {
	x := Example{
		TraceID: e.Trace.String(), SpanID: e.Span.String(), Edge: e.Edge.ID(), Source: e.Edge.Source.ID(), Target: e.Edge.Target.ID(),
		Env: e.Edge.Env(), Kind: e.Kind.String(), At: e.At.UTC(), Duration: number(float64(e.Duration) / 1e6),
	}
	if e.Failure != graph.None {
		failure := e.Failure.String()
		x.Failure = &failure
	}
	return x
}

// TraceList are kept traces, each by its most telling example, newest first.
type TraceList struct {
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Traces    []Example `json:"traces" nullable:"false"`
	Truncated bool      `json:"truncated" doc:"There are more than limit"`
}

// tracesSpan is what a list covers when from is absent.
const tracesSpan = time.Hour

type tracesInput struct {
	Edge    string `query:"edge" doc:"Edge id" maxLength:"64"`
	Service string `query:"service" doc:"Id of a node at either end" maxLength:"2048"`
	Only    string `query:"only" doc:"What the trace is an example of" enum:"error,slow,retried,typical"`
	Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"50"`
	Times
	Environment
}

type tracesOutput struct{ Body TraceList }

func (s *Server) traces(ctx context.Context, in *tracesInput) (*tracesOutput, error) {
	sp, err := s.spanOf(in.From, in.To, tracesSpan, s.now())
	if err != nil {
		return nil, err
	}
	limit := min(max(in.Limit, 1), s.limits.Traces)
	q := storage.TraceQuery{
		From: sp.From, To: sp.end(), Env: in.Env, HasEnv: in.set, Edge: in.Edge, Service: in.Service,
		// A trace is an example of several edges, as a rule.
		Limit: min(8*limit, 1000),
	}
	for kind := range graph.ExampleKind(graph.NumExampleKinds) {
		if kind.String() == in.Only {
			q.Only = &kind
		}
	}
	examples, err := s.reader.Examples(ctx, q)
	if err != nil {
		return nil, err
	}
	list := TraceList{From: sp.From, To: sp.To, Traces: []Example{}, Truncated: len(examples) == q.Limit}
	telling := map[graph.TraceID]int{}
	var best []graph.Example
	for _, e := range examples {
		i, ok := telling[e.Trace]
		switch {
		case !ok:
			telling[e.Trace] = len(best)
			best = append(best, e)
		case e.Kind > best[i].Kind:
			best[i] = e
		}
	}
	slices.SortStableFunc(best, func(a, b graph.Example) int { return b.At.Compare(a.At) })
	if len(best) > limit {
		best, list.Truncated = best[:limit], true
	}
	for i := range best {
		list.Traces = append(list.Traces, newExample(&best[i]))
	}
	return &tracesOutput{list}, nil
}

type traceInput struct {
	ID string `path:"trace_id" doc:"32 hexadecimal digits" maxLength:"64"`
}

type traceOutput struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

func (s *Server) trace(ctx context.Context, in *traceInput) (*traceOutput, error) {
	id, err := graph.ParseTraceID(in.ID)
	if err != nil {
		return nil, err
	}
	t, err := s.reader.Trace(ctx, id)
	if err != nil {
		return nil, err
	}
	b, err := marshalTrace(&t)
	if err != nil {
		return nil, err
	}
	return &traceOutput{"application/json", b}, nil
}
