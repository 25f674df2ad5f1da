package sqlite

import (
	"bytes"
	"testing"
	"time"

	"faultline/graph"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func sampleTrace() *graph.Trace {
	attributes := []graph.Attribute{
		{Key: "a", Value: "text"},
		{Key: "b", Value: int64(-1)},
		{Key: "c", Value: []any{1.5, true, nil, []byte{1}}},
		{Key: "d", Value: map[string]any{"e": map[string]any{"f": false}}},
	}
	at := time.Date(2026, 3, 1, 0, 0, 0, 1, time.UTC)
	return &graph.Trace{Resources: []graph.Resource{{Attributes: attributes}}, Spans: []graph.Span{{
		ID: graph.SpanID{1}, Name: "GET /", Start: at, End: at.Add(time.Second), Attributes: attributes,
		Events: []graph.Event{{Time: at, Name: "e", Attributes: attributes}}, Links: []graph.Link{{Trace: graph.TraceID{2}, Attributes: attributes}},
		Node: graph.Node{Env: "e", Kind: graph.Service, Name: "n"},
	}}}
}

// TestTraceOddValues keeps what attributes should not hold as text, and leaves out what is nested too deep.
func TestTraceOddValues(t *testing.T) {
	deep := any("bottom")
	for range 10_000 {
		deep = []any{deep}
	}
	got, err := readTrace(appendTrace(nil, &graph.Trace{Resources: []graph.Resource{{Attributes: []graph.Attribute{
		{Key: "int", Value: 7}, {Key: "duration", Value: time.Second}, {Key: "deep", Value: deep}, {Key: "last", Value: "there"},
	}}}}))
	if err != nil {
		t.Fatal(err)
	}
	a := got.Resources[0].Attributes
	if a[0].Value != "7" || a[1].Value != "1s" || a[3].Value != "there" {
		t.Errorf("read %v", a)
	}
}

func TestTraceTruncated(t *testing.T) {
	whole := appendTrace(nil, sampleTrace())
	for n := range whole {
		if _, err := readTrace(whole[:n]); err == nil {
			t.Fatalf("%d of %d bytes were read as a trace", n, len(whole))
		}
	}
}

func FuzzTrace(f *testing.F) {
	f.Add(appendTrace(nil, sampleTrace()))
	f.Add(appendTrace(nil, &graph.Trace{}))
	f.Add(append([]byte{traceVersion, 1, 1, 0}, bytes.Repeat([]byte{tagList, 1}, 1000)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := readTrace(b)
		if err != nil {
			return
		}
		second, err := readTrace(appendTrace(nil, &first))
		if err != nil {
			t.Fatalf("what was read cannot be written and read again: %v", err)
		}
		if diff := cmp.Diff(first, second, cmpopts.EquateEmpty(), cmpopts.EquateNaNs()); diff != "" {
			t.Fatal(diff)
		}
	})
}
