package web

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"faultline/graph"
)

// The OTLP JSON encoding of traces: ids in hex, 64-bit integers as strings, attribute values by type.
// Source: OpenTelemetry protocol specification, "JSON Protobuf Encoding".
type (
	otlpTraces struct {
		ResourceSpans []otlpResourceSpans `json:"resourceSpans"`
	}
	otlpResourceSpans struct {
		Resource   otlpResource     `json:"resource"`
		ScopeSpans []otlpScopeSpans `json:"scopeSpans"`
	}
	otlpResource struct {
		Attributes []otlpAttribute `json:"attributes"`
	}
	otlpScopeSpans struct {
		Scope otlpScope  `json:"scope"`
		Spans []otlpSpan `json:"spans"`
	}
	otlpScope struct {
		Name    string `json:"name,omitempty"`
		Version string `json:"version,omitempty"`
	}
	otlpSpan struct {
		TraceID    string          `json:"traceId"`
		SpanID     string          `json:"spanId"`
		TraceState string          `json:"traceState,omitempty"`
		Parent     string          `json:"parentSpanId,omitempty"`
		Flags      uint32          `json:"flags,omitempty"`
		Name       string          `json:"name"`
		Kind       int             `json:"kind"`
		Start      string          `json:"startTimeUnixNano"`
		End        string          `json:"endTimeUnixNano"`
		Attributes []otlpAttribute `json:"attributes,omitempty"`
		Events     []otlpEvent     `json:"events,omitempty"`
		Links      []otlpLink      `json:"links,omitempty"`
		Status     otlpStatus      `json:"status"`
	}
	otlpEvent struct {
		Time       string          `json:"timeUnixNano"`
		Name       string          `json:"name"`
		Attributes []otlpAttribute `json:"attributes,omitempty"`
	}
	otlpLink struct {
		TraceID    string          `json:"traceId"`
		SpanID     string          `json:"spanId"`
		Attributes []otlpAttribute `json:"attributes,omitempty"`
	}
	otlpStatus struct {
		Message string `json:"message,omitempty"`
		Code    int    `json:"code,omitempty"`
	}
	otlpAttribute struct {
		Key   string    `json:"key"`
		Value otlpValue `json:"value"`
	}
	// otlpValue has at most one member.
	otlpValue struct {
		String *string     `json:"stringValue,omitempty"`
		Bool   *bool       `json:"boolValue,omitempty"`
		Int    *string     `json:"intValue,omitempty"`
		Double any         `json:"doubleValue,omitempty"`
		Bytes  *string     `json:"bytesValue,omitempty"`
		Array  *otlpArray  `json:"arrayValue,omitempty"`
		Map    *otlpKVList `json:"kvlistValue,omitempty"`
	}
	otlpArray struct {
		Values []otlpValue `json:"values"`
	}
	otlpKVList struct {
		Values []otlpAttribute `json:"values"`
	}
)

// marshalTrace writes a trace as an ExportTraceServiceRequest, its spans in their order by resource and scope.
func marshalTrace(t *graph.Trace) ([]byte, error) {
	out := otlpTraces{ResourceSpans: make([]otlpResourceSpans, 0, len(t.Resources))}
	at := map[int]int{}
	for i := range t.Spans {
		sp := &t.Spans[i]
		ri, ok := at[sp.Resource]
		if !ok {
			ri = len(out.ResourceSpans)
			at[sp.Resource] = ri
			var attributes []graph.Attribute
			if sp.Resource >= 0 && sp.Resource < len(t.Resources) {
				attributes = t.Resources[sp.Resource].Attributes
			}
			out.ResourceSpans = append(out.ResourceSpans, otlpResourceSpans{Resource: otlpResource{otlpAttributes(attributes)}})
		}
		rs, scope := &out.ResourceSpans[ri], otlpScope{sp.Scope, sp.ScopeVersion}
		si := slices.IndexFunc(rs.ScopeSpans, func(ss otlpScopeSpans) bool { return ss.Scope == scope })
		if si < 0 {
			si = len(rs.ScopeSpans)
			rs.ScopeSpans = append(rs.ScopeSpans, otlpScopeSpans{Scope: scope})
		}
		ss := &rs.ScopeSpans[si]
		ss.Spans = append(ss.Spans, newOTLPSpan(t.ID, sp))
	}
	return json.Marshal(out)
}

func newOTLPSpan(trace graph.TraceID, sp *graph.Span) otlpSpan {
	o := otlpSpan{
		TraceID: trace.String(), SpanID: sp.ID.String(), TraceState: sp.TraceState, Flags: sp.Flags, Name: sp.Name, Kind: int(sp.Kind),
		Start: otlpTime(sp.Start), End: otlpTime(sp.End), Attributes: otlpAttributes(sp.Attributes),
		Status: otlpStatus{sp.StatusMessage, int(sp.Status)},
	}
	if sp.Parent != (graph.SpanID{}) {
		o.Parent = sp.Parent.String()
	}
	for _, e := range sp.Events {
		o.Events = append(o.Events, otlpEvent{otlpTime(e.Time), e.Name, otlpAttributes(e.Attributes)})
	}
	for _, l := range sp.Links {
		o.Links = append(o.Links, otlpLink{l.Trace.String(), l.Span.String(), otlpAttributes(l.Attributes)})
	}
	return o
}

// otlpTime returns nanoseconds since the epoch; a time that is not set is 0, as in protobuf.
func otlpTime(t time.Time) string {
	if t.IsZero() {
		return "0"
	}
	return strconv.FormatInt(t.UnixNano(), 10)
}

func otlpAttributes(attributes []graph.Attribute) []otlpAttribute {
	out := make([]otlpAttribute, len(attributes))
	for i, a := range attributes {
		out[i] = otlpAttribute{a.Key, newOTLPValue(a.Value)}
	}
	return out
}

func newOTLPValue(v any) otlpValue {
	switch v := v.(type) {
	case string:
		return otlpValue{String: &v}
	case bool:
		return otlpValue{Bool: &v}
	case int64:
		text := strconv.FormatInt(v, 10)
		return otlpValue{Int: &text}
	case float64:
		switch { // JSON has no number for these; protobuf's mapping has names
		case math.IsNaN(v):
			return otlpValue{Double: "NaN"}
		case math.IsInf(v, 1):
			return otlpValue{Double: "Infinity"}
		case math.IsInf(v, -1):
			return otlpValue{Double: "-Infinity"}
		}
		return otlpValue{Double: v}
	case []byte:
		text := base64.StdEncoding.EncodeToString(v)
		return otlpValue{Bytes: &text}
	case []any:
		values := make([]otlpValue, len(v))
		for i := range v {
			values[i] = newOTLPValue(v[i])
		}
		return otlpValue{Array: &otlpArray{values}}
	case map[string]any:
		values := make([]otlpAttribute, 0, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			values = append(values, otlpAttribute{key, newOTLPValue(v[key])})
		}
		return otlpValue{Map: &otlpKVList{values}}
	default: // an attribute without a value
		return otlpValue{}
	}
}
