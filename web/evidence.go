package web

import (
	"context"
	"errors"
	"slices"
	"time"

	"faultline/graph"
	"faultline/storage"
)

const (
	// evidenceFrom is how many examples of a finding's time are looked through for one that shows it.
	evidenceFrom = 50
	// evidenceBefore is how long before a finding is found what it is about goes on: it is judged from minutes.
	evidenceBefore = 5 * time.Minute
	// maxDoubles is how many traces a possible double effect is shown with: each is somebody's order to look into.
	maxDoubles = 20
	// maxEvidence is how many findings of an edge are shown with an example.
	maxEvidence = 30
)

// evidenceKinds are which kinds of examples show a rule best, in that order; those that failed, then slow ones, when it is
// not here.
var evidenceKinds = map[string][]graph.ExampleKind{
	"retry_budget": retriedFirst, "retries_do_not_help": retriedFirst, "no_backoff": retriedFirst, "no_jitter": retriedFirst,
	"pushback_ignored": retriedFirst, "unsafe_retry": retriedFirst, "nested_retries": retriedFirst, "hedging": retriedFirst,
	"redelivery": retriedFirst, "backlog": slowFirst, "queue_lag": slowFirst, "dead_letters": slowFirst, "no_timeout": slowFirst,
	"saturation": slowFirst, "n_plus_one": shapeFirst, "deep_chain": shapeFirst, "deploy": shapeFirst,
}

var (
	retriedFirst = []graph.ExampleKind{graph.Retried, graph.Failed}
	slowFirst    = []graph.ExampleKind{graph.Slow, graph.Failed}
	shapeFirst   = []graph.ExampleKind{graph.Slow, graph.Typical}
	failedFirst  = []graph.ExampleKind{graph.Failed, graph.Slow}
)

// evidence gives each finding of an edge an example of the time in which it was found, and adds it to the edge's.
func (s *Server) evidence(ctx context.Context, detail *EdgeDetail, examples []graph.Example) ([]graph.Example, error) {
	for i := range detail.Findings {
		f := &detail.Findings[i]
		if i == maxEvidence {
			break
		}
		of, err := s.reader.Examples(ctx, storage.TraceQuery{
			From: f.Since.Add(-evidenceBefore), To: f.Until.Add(graph.WindowLength), Edge: detail.ID, Limit: evidenceFrom,
		})
		if err != nil {
			return nil, err
		}
		if f.Rule == unsafeRetry {
			if f.Examples, err = s.doubles(ctx, f, detail.ID); err != nil {
				return nil, err
			}
		}
		x := shows(f.Rule, of)
		if x == nil {
			continue
		}
		id := x.Trace.String()
		f.Example = &id
		if !slices.ContainsFunc(examples, func(e graph.Example) bool { return e.Trace == x.Trace }) {
			examples = append(examples, *x)
		}
	}
	return examples, nil
}

const unsafeRetry = "unsafe_retry"

// doubles returns the traces of a finding's time in which a call of an edge was retried that must not be made twice.
func (s *Server) doubles(ctx context.Context, f *Finding, edge string) ([]string, error) {
	retried := graph.Retried
	examples, err := s.reader.Examples(ctx, storage.TraceQuery{
		From: f.Since.Add(-evidenceBefore), To: f.Until.Add(graph.WindowLength), Edge: edge, Only: &retried, Limit: evidenceFrom,
	})
	if err != nil {
		return nil, err
	}
	var ids []string
	for i := range examples {
		x := &examples[i]
		id := x.Trace.String()
		if slices.Contains(ids, id) {
			continue
		}
		trace, err := s.reader.Trace(ctx, x.Trace)
		if errors.Is(err, storage.ErrNotFound) {
			continue // its time is over
		}
		if err != nil {
			return nil, err
		}
		if at := slices.IndexFunc(trace.Spans, func(sp graph.Span) bool { return sp.ID == x.Span }); at < 0 || repeatable(&trace.Spans[at]) {
			continue
		}
		if ids = append(ids, id); len(ids) == maxDoubles {
			break
		}
	}
	return ids, nil
}

// repeatable reports whether a span's call may be made twice, as docs/rules/unsafe_retry.md says.
func repeatable(sp *graph.Span) bool {
	unsafe := false
	for _, a := range sp.Attributes {
		switch a.Key {
		case "http.request.method", "http.method":
			unsafe = a.Value == "POST" || a.Value == "PATCH"
		case "http.request.header.idempotency-key":
			return true
		}
	}
	return !unsafe
}

// shows returns the example that shows a rule best, nil when none does.
func shows(rule string, examples []graph.Example) *graph.Example {
	for i := range examples {
		if examples[i].Failure != graph.None && examples[i].Failure.String() == rule {
			return &examples[i]
		}
	}
	kinds := evidenceKinds[rule]
	if kinds == nil {
		kinds = failedFirst
	}
	for _, kind := range kinds {
		for i := range examples {
			if examples[i].Kind == kind {
				return &examples[i]
			}
		}
	}
	return nil
}
