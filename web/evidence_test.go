package web

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"faultline/graph"
	"faultline/storage"
)

// What went wrong in the past is shown with traces of then, however many there are of later.
func TestFindingsOfThePastHaveExamplesOfTheirTime(t *testing.T) {
	store := shopStore(t)
	then := floor(testNow, time.Minute).Add(-25 * time.Minute)
	kept := func(n byte, at time.Time, kind graph.ExampleKind, failure graph.Failure) graph.KeptTrace {
		id := graph.TraceID{0xe0, n}
		return graph.KeptTrace{
			Trace: graph.Trace{ID: id, Resources: []graph.Resource{{}}, Spans: []graph.Span{
				{ID: graph.SpanID{n}, Name: "POST", Kind: graph.SpanKindClient, Start: at.Add(-time.Second), End: at, Node: checkout},
			}},
			Examples: []graph.Example{{Trace: id, Span: graph.SpanID{n}, Edge: checkoutPayment, Kind: kind, At: at, Duration: time.Second, Failure: failure}},
		}
	}
	traces := []graph.KeptTrace{
		kept(1, then.Add(30*time.Second), graph.Failed, graph.ServerError),
		kept(2, then.Add(40*time.Second), graph.Failed, graph.Refused),
		kept(3, then.Add(50*time.Second), graph.Slow, graph.None),
		kept(4, then.Add(55*time.Second), graph.Retried, graph.None),
	}
	for i := range byte(40) { // later, and nothing to do with it
		traces = append(traces, kept(100+i, testNow.Add(-2*time.Minute-time.Duration(i)*time.Second), graph.Slow, graph.None))
	}
	err := store.Write(t.Context(), storage.Batch{Traces: traces, Findings: []graph.Finding{
		{Rule: "refused", Edge: checkoutPayment, Level: graph.Severe, Since: then, Until: then.Add(time.Minute), N: 30, Sentence: "refused"},
		{Rule: "no_jitter", Edge: checkoutPayment, Level: graph.Warn, Since: then, Until: then.Add(time.Minute), N: 30, Sentence: "in step"},
		{Rule: "bad_instance", Edge: checkoutPayment, Subject: "p", Level: graph.Warn, Since: then.Add(-10 * time.Minute), Until: then.Add(-9 * time.Minute), N: 30, Sentence: "of which no trace was kept"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, body := ask(t, newServer(t, store), "/api/v1/edges/"+checkoutPayment.ID()+"?from=now-1h")
	var edge EdgeDetail
	if err := json.Unmarshal([]byte(body), &edge); err != nil {
		t.Fatal(err)
	}
	want := map[string]byte{"refused": 2, "no_jitter": 4}
	for _, f := range edge.Findings {
		n, past := want[f.Rule]
		switch {
		case past && (f.Example == nil || *f.Example != graph.TraceID{0xe0, n}.String()):
			t.Errorf("%s is shown with %v", f.Rule, f.Example)
		case f.Subject == "p" && f.Example != nil:
			t.Errorf("%s is shown with a trace of another time, %s", f.Rule, *f.Example)
		}
		if f.Example != nil && !slices.ContainsFunc(edge.Examples, func(x Example) bool { return x.TraceID == *f.Example }) {
			t.Errorf("the example of %s is not among the edge's", f.Rule)
		}
		delete(want, f.Rule)
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", want)
	}
}

// What may have been done twice is shown with every trace that was kept of it, to be looked through.
func TestDoublesAreListed(t *testing.T) {
	store := shopStore(t)
	then := floor(testNow, time.Minute).Add(-25 * time.Minute)
	methods := []any{"POST", "GET", "PATCH", nil, "POST", "POST", "POST"}
	kinds := []graph.ExampleKind{graph.Retried, graph.Retried, graph.Retried, graph.Retried, graph.Failed, graph.Retried, graph.Retried}
	var traces []graph.KeptTrace
	for i, method := range methods {
		id, at := graph.TraceID{0xd0, byte(i)}, then.Add(time.Duration(i)*time.Second)
		if i == 5 {
			at = at.Add(10 * time.Minute) // of another time
		}
		sp := graph.Span{ID: graph.SpanID{1}, Name: "call", Kind: graph.SpanKindClient, Start: at.Add(-time.Second), End: at, Node: checkout}
		if method != nil {
			sp.Attributes = []graph.Attribute{{Key: "http.request.method", Value: method}}
		}
		if i == 6 {
			sp.Attributes = append(sp.Attributes, graph.Attribute{Key: "http.request.header.idempotency-key", Value: "7"})
		}
		traces = append(traces, graph.KeptTrace{
			Trace:    graph.Trace{ID: id, Resources: []graph.Resource{{}}, Spans: []graph.Span{sp}},
			Examples: []graph.Example{{Trace: id, Span: sp.ID, Edge: checkoutPayment, Kind: kinds[i], At: at, Duration: time.Second}},
		})
	}
	for i := range byte(60) { // newer ones of other kinds do not hide them
		id, at := graph.TraceID{0xd1, i}, then.Add(time.Minute)
		traces = append(traces, graph.KeptTrace{
			Trace:    graph.Trace{ID: id, Resources: []graph.Resource{{}}, Spans: []graph.Span{{ID: graph.SpanID{1}, Name: "call", Kind: graph.SpanKindClient, Start: at, End: at, Node: checkout}}},
			Examples: []graph.Example{{Trace: id, Span: graph.SpanID{1}, Edge: checkoutPayment, Kind: graph.Failed, At: at, Duration: time.Second}},
		})
	}
	found := graph.Finding{Rule: unsafeRetry, Edge: checkoutPayment, Level: graph.Severe, Since: then, Until: then.Add(time.Minute), N: 3, Sentence: "twice"}
	if err := store.Write(t.Context(), storage.Batch{Traces: traces, Findings: []graph.Finding{found}}); err != nil {
		t.Fatal(err)
	}
	edge := askFor[EdgeDetail](t, newServer(t, store), "/api/v1/edges/"+checkoutPayment.ID()+"?from=now-1h")
	var got []string
	for _, f := range edge.Findings {
		if f.Rule == unsafeRetry {
			got = f.Examples
		} else if f.Examples != nil {
			t.Errorf("%s lists %v", f.Rule, f.Examples)
		}
	}
	if want := []string{graph.TraceID{0xd0, 2}.String(), graph.TraceID{0xd0}.String()}; !slices.Equal(got, want) {
		t.Errorf("listed %v, want %v", got, want)
	}
}
