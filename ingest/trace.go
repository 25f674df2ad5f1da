package ingest

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"faultline/graph"
)

// maxAttributeText bounds a text in an example trace, in bytes.
const maxAttributeText = 16 << 10

// decodeTrace reads the spans of one trace whole. Their bytes passed the bounded decoder before, so the official one,
// which has no limit on nesting, may read them.
func decodeTrace(id graph.TraceID, spans []rawSpan) (graph.Trace, error) {
	t := graph.Trace{ID: id, Spans: make([]graph.Span, 0, len(spans))}
	resources := map[*resource]int{}
	var buf []byte
	for _, raw := range spans {
		index, known := resources[raw.resource]
		var resource []byte
		if !known {
			resource = raw.resource.raw // once is enough
		}
		buf = appendRequest(buf[:0], resource, raw.scope, raw.span)
		request := ptraceotlp.NewExportRequest()
		if err := request.UnmarshalProto(buf); err != nil {
			return graph.Trace{}, fmt.Errorf("decode example span: %w", err)
		}
		rs := request.Traces().ResourceSpans().At(0)
		if !known {
			index = len(t.Resources)
			resources[raw.resource] = index
			t.Resources = append(t.Resources, graph.Resource{Attributes: attributes(rs.Resource().Attributes())})
		}
		ss := rs.ScopeSpans().At(0)
		s := span(ss.Spans().At(0))
		s.Scope, s.ScopeVersion = text(ss.Scope().Name()), text(ss.Scope().Version())
		s.Resource, s.Node = index, raw.resource.service.node
		t.Spans = append(t.Spans, s)
	}
	slices.SortStableFunc(t.Spans, func(a, b graph.Span) int { return a.Start.Compare(b.Start) })
	return t, nil
}

// appendRequest appends a request of one span. Without a scope or a resource it has an empty one.
func appendRequest(b, resource, scope, span []byte) []byte {
	spans := fieldSize(len(scope)) + fieldSize(len(span))
	b = appendTag(b, 1, fieldSize(len(resource))+fieldSize(spans)) // ResourceSpans
	b = append(appendTag(b, 1, len(resource)), resource...)
	b = appendTag(b, 2, spans) // ScopeSpans
	b = append(appendTag(b, 1, len(scope)), scope...)
	return append(appendTag(b, 2, len(span)), span...)
}

// appendTag appends what comes before the content of a field with a number below 16.
func appendTag(b []byte, number byte, size int) []byte {
	return binary.AppendUvarint(append(b, number<<3|2), uint64(size))
}

// fieldSize returns how long a field with a number below 16 is that has so much content.
func fieldSize(size int) int { return 1 + (bits.Len(uint(size)|1)+6)/7 + size }

func span(s ptrace.Span) graph.Span {
	out := graph.Span{
		ID: graph.SpanID(s.SpanID()), Parent: graph.SpanID(s.ParentSpanID()), TraceState: text(s.TraceState().AsRaw()),
		Flags: s.Flags(), Name: text(s.Name()), Kind: graph.SpanKind(s.Kind()), Start: s.StartTimestamp().AsTime(),
		End: s.EndTimestamp().AsTime(), Status: graph.StatusCode(s.Status().Code()), StatusMessage: text(s.Status().Message()),
		Attributes: attributes(s.Attributes()),
	}
	for _, e := range s.Events().All() {
		out.Events = append(out.Events, graph.Event{
			Time: time.Unix(0, int64(e.Timestamp())).UTC(), Name: text(e.Name()), Attributes: attributes(e.Attributes()),
		})
	}
	for _, l := range s.Links().All() {
		out.Links = append(out.Links, graph.Link{
			Trace: graph.TraceID(l.TraceID()), Span: graph.SpanID(l.SpanID()), Attributes: attributes(l.Attributes()),
		})
	}
	return out
}

func attributes(m pcommon.Map) []graph.Attribute {
	if m.Len() == 0 {
		return nil
	}
	out := make([]graph.Attribute, 0, m.Len())
	for k, v := range m.All() {
		out = append(out, graph.Attribute{Key: text(k), Value: value(v)})
	}
	return out
}

func value(v pcommon.Value) any {
	switch v.Type() {
	case pcommon.ValueTypeStr:
		return text(v.Str())
	case pcommon.ValueTypeBool:
		return v.Bool()
	case pcommon.ValueTypeInt:
		return v.Int()
	case pcommon.ValueTypeDouble:
		return v.Double()
	case pcommon.ValueTypeBytes:
		return slices.Clone(v.Bytes().AsRaw())
	case pcommon.ValueTypeSlice:
		list := make([]any, 0, v.Slice().Len())
		for _, e := range v.Slice().All() {
			list = append(list, value(e))
		}
		return list
	case pcommon.ValueTypeMap:
		m := map[string]any{}
		for k, e := range v.Map().All() {
			m[text(k)] = value(e)
		}
		return m
	}
	return nil
}

// text makes a text valid UTF-8 and bounds it.
func text(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > maxAttributeText {
		s = strings.ToValidUTF8(s[:maxAttributeText], "") + "…"
	}
	return s
}
