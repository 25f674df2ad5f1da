package web

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// operations registers what the API offers. The document at /api/openapi.json follows from it.
func (s *Server) operations() {
	get(s, "graph", "/api/v1/graph", "The map of one environment",
		"One environment at a time: the one asked for, or else the busiest. Without `from`, the last five minutes. "+
			"Health is judged against the quarter of an hour that ends five minutes before `to`, or at `from` if that is earlier.", s.graph)
	get(s, "edge", "/api/v1/edges/{id}", "One edge with its operations, instances, versions, failures and examples",
		"Without `from`, the last five minutes.", s.edge, found)
	get(s, "edge-series", "/api/v1/edges/{id}/series", "One edge over time",
		"Without `from`, the last fifteen minutes. Without `step`, the finest of 10s, 30s, 1m, 5m, 15m, 1h … that makes at most 360 points.", s.series, found)
	get(s, "series", "/api/v1/series", "Every node over time, in few steps",
		"Without `from`, the last fifteen minutes; without `env`, the busiest environment.", s.nodesSeries)
	get(s, "service", "/api/v1/services/{id}", "One node with what calls it and what it calls",
		"For every kind of node. Without `from`, the last five minutes; without `env`, the busiest environment that has such a node.", s.service, found, withSlashes)
	get(s, "findings", "/api/v1/findings", "What goes wrong, by name",
		"Findings that were open at some time of the span. Without `from`, the last five minutes; without `env`, in all environments.", s.findings)
	get(s, "traces", "/api/v1/traces", "Kept example traces",
		"Each trace once, by its most telling example, newest first. Without `from`, the last hour.", s.traces)
	get(s, "trace", "/api/v1/traces/{trace_id}", "One trace as OTLP JSON", "", s.trace, found, asOTLP)
	get(s, "doctor", "/api/v1/doctor", "How services are instrumented: for each missing or odd edge the reason and the fix",
		"Of the last hour; the worst service first. `env` restricts to one environment. Each finding's rule has a page in docs/rules.", s.doctor)
	get(s, "rules", "/api/v1/rules", "The rules file in force", "", s.rulesInForce)
	postText(s, "rules-preview", "/api/v1/rules/preview", "What a rules file would change",
		"Of what was seen in the last quarter of an hour. Nothing is changed: the file is the only place for that.", s.rulesPreview)
	get(s, "status", "/api/v1/status", "How the process is doing", "", s.status)
}

// get registers one operation that reads.
func get[I, O any](s *Server, id, path, summary, description string, handler func(context.Context, *I) (*O, error), options ...func(*huma.Operation)) {
	op := huma.Operation{
		OperationID: id, Method: http.MethodGet, Path: path, Summary: summary, Description: description,
		Errors: []int{http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}
	for _, option := range options {
		option(&op)
	}
	register(s, op, handler)
}

// register registers one operation, bounded in time, with its errors told by the table.
func register[I, O any](s *Server, op huma.Operation, handler func(context.Context, *I) (*O, error)) {
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		ctx, cancel := context.WithTimeout(ctx, s.limits.QueryTime)
		defer cancel()
		start := time.Now()
		out, err := handler(ctx, in)
		s.metrics.queries.WithLabelValues(op.OperationID).Observe(time.Since(start).Seconds())
		if err != nil {
			return nil, s.failure(ctx, err)
		}
		return out, nil
	})
}

// found marks an operation that may answer 404.
func found(op *huma.Operation) { op.Errors = append(op.Errors, http.StatusNotFound) }

// withSlashes marks an operation whose id may contain slashes.
func withSlashes(op *huma.Operation) { op.Metadata = map[string]any{slashes: true} }

// asOTLP describes an answer that is written without a schema of ours.
func asOTLP(op *huma.Operation) {
	op.Responses = map[string]*huma.Response{"200": {
		Description: "An ExportTraceServiceRequest in OTLP's JSON encoding",
		Content:     map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: huma.TypeObject}}},
	}}
}
