package ingest

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"faultline/ingest/inflight"
)

// readJSON converts a request to protobuf at the door and reads that with pdata.
func readJSON(tb testing.TB, src string) (ptrace.Traces, error) {
	tb.Helper()
	b, err := fromJSON(nil, []byte(src), 1<<20)
	if err != nil {
		return ptrace.Traces{}, err
	}
	traces, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(b)
	if err != nil {
		tb.Errorf("%s became protobuf that cannot be read: %v", src, err)
	}
	return traces, err
}

// What another implementation writes is read as it was meant.
func TestFromJSON(t *testing.T) {
	want := someTraces(3)
	got, err := readJSON(t, string(jsonOf(t, want)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(protobufOf(t, want)), string(protobufOf(t, got))); diff != "" {
		t.Errorf("by way of JSON: %s", diff)
	}
}

func TestFromJSONValues(t *testing.T) {
	span := func(member string) ptrace.Span {
		t.Helper()
		traces, err := readJSON(t, string(spanJSON(member)))
		if err != nil {
			t.Fatalf("%s: %v", member, err)
		}
		return traces.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
	}
	for _, member := range []string{
		`"startTimeUnixNano":1544712660300000000`, `"startTimeUnixNano":"1544712660300000000"`,
		`"startTimeUnixNano":1.5447126603e18`, `"start_time_unix_nano":1544712660300000000`,
		`"startTimeUnixNano":1,"startTimeUnixNano":1544712660300000000`,
	} {
		if got := span(member).StartTimestamp(); got != 1544712660300000000 {
			t.Errorf("%s: %d", member, got)
		}
	}
	if got := span(`"endTimeUnixNano":"18446744073709551615"`).EndTimestamp(); got != math.MaxUint64 {
		t.Errorf("2^64-1: %d", got)
	}
	for _, member := range []string{`"kind":3`, `"kind":"3"`, `"kind":"SPAN_KIND_CLIENT"`} {
		if got := span(member).Kind(); got != ptrace.SpanKindClient {
			t.Errorf("%s: %v", member, got)
		}
	}
	if got := span(`"name":null,"attributes":null,"status":null`); got.Name() != "" || got.Attributes().Len() != 0 {
		t.Error("null is not as good as absent")
	}
	if got := span("\"name\":\"a\xffb\"").Name(); got != "a\uFFFDb" {
		t.Errorf("invalid UTF-8: %q", got)
	}
	if got := span(`"traceId":"0102030405060708090A0b0c0d0e0f10"`).TraceID(); got[9] != 10 {
		t.Errorf("trace id: %v", got)
	}
	attributes := span(`"attributes":[
		{"key":"double","value":{"doubleValue":"NaN"}}, {"key":"infinite","value":{"doubleValue":"-Infinity"}},
		{"key":"int","value":{"intValue":"-9223372036854775808"}}, {"key":"bytes","value":{"bytesValue":"_-8"}},
		{"key":"zero","value":{"intValue":0}}, {"key":"none","value":{}}, {"key":"empty","value":{"stringValue":""}}]`).Attributes()
	want := map[string]any{
		"infinite": math.Inf(-1), "int": int64(math.MinInt64), "bytes": []byte{0xff, 0xef}, "zero": int64(0), "none": nil, "empty": "",
	}
	got := attributes.AsRaw()
	if f, ok := got["double"].(float64); !ok || !math.IsNaN(f) {
		t.Errorf("NaN: %v", got["double"])
	}
	delete(got, "double")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFromJSONErrors(t *testing.T) {
	for _, member := range []string{
		`"startTimeUnixNano":1e400`, `"startTimeUnixNano":-5`, `"startTimeUnixNano":0.5`, `"startTimeUnixNano":18446744073709551616`,
		`"startTimeUnixNano":true`, `"startTimeUnixNano":{}`, `"startTimeUnixNano":""`, `"kind":"SPAN_KIND"`, `"kind":3000000000`,
		`"flags":-1`, `"flags":4294967296`, `"name":1`, `"name":["a",["b"]]`, `"status":1`, `"status":[[]]`,
		`"name":["a"]`, `"startTimeUnixNano":[]`, `"status":[{}]`, `"attributes":{}`, `"links":{"traceId":""}`, `"events":"e"`, `"attributes":[[]]`,
		`"attributes":[{"key":"k","value":[{"stringValue":"v"}]}]`, `"attributes":[{"key":"k","value":{"arrayValue":[]}}]`,
		`"attributes":[{"key":"k","value":{"doubleValue":1e400}}]`, `"attributes":[{"key":"k","value":{"boolValue":"true"}}]`,
		`"attributes":[{"key":"k","value":{"intValue":9223372036854775808.5}}]`, `"attributes":[{"key":"k","value":{"bytesValue":"?"}}]`,
	} {
		if traces, err := readJSON(t, string(spanJSON(member))); err == nil {
			t.Errorf("%s was read as %s", member, jsonOf(t, traces))
		}
	}
	deep := `"attributes":[{"key":"k","value":` + strings.Repeat(`{"arrayValue":{"values":[`, 100)
	if _, err := readJSON(t, string(spanJSON(deep))); !errors.Is(err, errTooDeep) {
		t.Errorf("100 arrays in each other: %v", err)
	}
	// Each of these bytes becomes three.
	if _, err := fromJSON(nil, spanJSON(`"name":"`+strings.Repeat("\xff", 1000)+`"`), 2000); !errors.Is(err, inflight.ErrTooLarge) {
		t.Errorf("a result over the limit: %v", err)
	}
}

// Elements cost their bytes and no more, however many there are.
func TestFromJSONMemory(t *testing.T) {
	src := spanJSON(strings.Repeat(`},{`, 1<<20))
	_, before := heap()
	out, err := fromJSON(make([]byte, 0, len(src)/2), src, len(src))
	if err != nil {
		t.Fatal(err)
	}
	_, after := heap()
	if len(out) > len(src) {
		t.Errorf("%d bytes became %d", len(src), len(out))
	}
	if peak := after - before; peak > uint64(4*len(src)) {
		t.Errorf("%d bytes were allocated for %d", peak, len(src))
	}
}

// FuzzFromJSON checks that whatever is read becomes well-formed protobuf, bounded in size and depth, the same each time.
func FuzzFromJSON(f *testing.F) {
	f.Add(jsonOf(f, someTraces(2)))
	f.Add(spanJSON(`"traceId":"0102030405060708090a0b0c0d0e0f10","kind":"SPAN_KIND_CLIENT","flags":1`))
	f.Add([]byte(`{"resource_spans":[{"schema_url":"x","resource":{"attributes":[{"key":"a","value":{"kvlistValue":{"values":[]}}}]}}]}`))
	f.Add([]byte(`{"x":[[[1,2,{"y":null}]]],"resourceSpans":[{},null]}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		const limit = 1 << 20
		b, err := fromJSON(nil, src, limit)
		if err != nil {
			return
		}
		if len(b) > limit+len(src)*3 {
			t.Errorf("%d bytes became %d", len(src), len(b))
		}
		if _, err := treeCost(b); err != nil {
			t.Errorf("the result is not well-formed: %v", err)
		}
		// The same from the same: nothing is kept between requests.
		again, err := fromJSON(nil, src, limit)
		if err != nil || !bytes.Equal(b, again) {
			t.Errorf("the second time: %v", err)
		}
	})
}
