package web

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"faultline/graph"
	"faultline/storage"
)

// statuses is the one table from errors to HTTP statuses, with what the client is told. An error that is not here is
// ours: it is logged, and the client learns nothing of it.
var statuses = []struct {
	err    error
	status int
	detail string
}{
	{storage.ErrNotFound, http.StatusNotFound, "Nothing of that name is known in this span of time."},
	{graph.ErrTraceID, http.StatusUnprocessableEntity, graph.ErrTraceID.Error()},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "The answer took too long; ask for a shorter span of time."},
	{context.Canceled, 499, "The client went away."},
}

// failure turns an error into a problem document.
func (s *Server) failure(ctx context.Context, err error) error {
	if problem, ok := errors.AsType[huma.StatusError](err); ok {
		return problem
	}
	for _, known := range statuses {
		if errors.Is(err, known.err) {
			return huma.NewError(known.status, known.detail)
		}
	}
	s.log.LogAttrs(ctx, slog.LevelError, "answer failed", slog.Any("error", err))
	return huma.NewError(http.StatusInternalServerError, "The answer could not be had; the log says why.")
}

// badParameter says what is wrong with a query parameter.
func badParameter(name, value string, err error) error {
	return huma.NewError(http.StatusUnprocessableEntity, "validation failed",
		&huma.ErrorDetail{Location: "query." + name, Message: err.Error(), Value: value})
}

// problem writes a problem document where no huma operation does.
func problem(w http.ResponseWriter, status int, detail string) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail})
}
