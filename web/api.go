package web

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// operations registers what the API offers. The document at /api/openapi.json follows from it.
func (s *Server) operations() {
	get(s, "graph", "/api/v1/graph", "The map of one environment",
		"One environment at a time: the one asked for, or else the busiest. Without from, the last five minutes. "+
			"Health is judged against the quarter of an hour that ends five minutes before `to`, or at `from` if that is earlier.", s.graph)
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
	huma.Register(s.api, op, handler)
}

// found marks an operation that may answer 404.
func found(op *huma.Operation) { op.Errors = append(op.Errors, http.StatusNotFound) }

// withSlashes marks an operation whose id may contain slashes.
func withSlashes(op *huma.Operation) { op.Metadata = map[string]any{slashes: true} }
