package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"faultline/graph"
)

// A trace is a run of fields without names: uvarint lengths before strings and lists, zig-zag nanoseconds for times.
// Values of attributes begin with a byte that says what they are.

const traceVersion = 1

// maxDepth bounds the nesting of attribute values; what lies deeper is left out.
const maxDepth = 64

const (
	tagNil byte = iota
	tagString
	tagFalse
	tagTrue
	tagInt
	tagFloat
	tagBytes
	tagList
	tagMap
)

var errTrace = errors.New("corrupt trace")

// appendTrace appends a trace but for its id.
func appendTrace(b []byte, t *graph.Trace) []byte {
	b = append(b, traceVersion)
	b = binary.AppendUvarint(b, uint64(len(t.Resources)))
	for i := range t.Resources {
		b = appendAttributes(b, t.Resources[i].Attributes)
	}
	b = binary.AppendUvarint(b, uint64(len(t.Spans)))
	for i := range t.Spans {
		s := &t.Spans[i]
		b = append(append(b, s.ID[:]...), s.Parent[:]...)
		b = appendString(b, s.TraceState)
		b = binary.AppendUvarint(b, uint64(s.Flags))
		b = appendString(b, s.Name)
		b = append(b, byte(s.Kind), byte(s.Status))
		b = appendString(b, s.StatusMessage)
		b = appendTime(b, s.Start)
		b = appendTime(b, s.End)
		b = appendAttributes(b, s.Attributes)
		b = binary.AppendUvarint(b, uint64(len(s.Events)))
		for _, e := range s.Events {
			b = appendAttributes(appendString(appendTime(b, e.Time), e.Name), e.Attributes)
		}
		b = binary.AppendUvarint(b, uint64(len(s.Links)))
		for _, l := range s.Links {
			b = appendAttributes(append(append(b, l.Trace[:]...), l.Span[:]...), l.Attributes)
		}
		b = appendString(appendString(b, s.Scope), s.ScopeVersion)
		b = binary.AppendVarint(b, int64(s.Resource))
		b = append(appendString(b, s.Node.Env), byte(s.Node.Kind))
		b = appendString(appendString(b, s.Node.Namespace), s.Node.Name)
	}
	return b
}

func appendString[S string | []byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendTime writes the zero time apart, whose nanoseconds since 1970 do not fit.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendVarint(b, math.MinInt64)
	}
	return binary.AppendVarint(b, t.UnixNano())
}

func appendAttributes(b []byte, list []graph.Attribute) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, a := range list {
		b = appendValue(appendString(b, a.Key), a.Value, 0)
	}
	return b
}

// appendValue writes a value; of a type that attributes do not have, its text.
func appendValue(b []byte, v any, depth int) []byte {
	if depth > maxDepth {
		return append(b, tagNil)
	}
	switch v := v.(type) {
	case nil:
		return append(b, tagNil)
	case string:
		return appendString(append(b, tagString), v)
	case bool:
		if v {
			return append(b, tagTrue)
		}
		return append(b, tagFalse)
	case int64:
		return binary.AppendVarint(append(b, tagInt), v)
	case float64:
		return binary.LittleEndian.AppendUint64(append(b, tagFloat), math.Float64bits(v))
	case []byte:
		return appendString(append(b, tagBytes), v)
	case []any:
		b = binary.AppendUvarint(append(b, tagList), uint64(len(v)))
		for _, e := range v {
			b = appendValue(b, e, depth+1)
		}
		return b
	case map[string]any:
		b = binary.AppendUvarint(append(b, tagMap), uint64(len(v)))
		for k, e := range v {
			b = appendValue(appendString(b, k), e, depth+1)
		}
		return b
	}
	return appendString(append(b, tagString), fmt.Sprint(v))
}

// traceReader reads what appendTrace wrote. After the first fault it returns zero values and err is set.
type traceReader struct {
	b   []byte
	err error
}

func (r *traceReader) fail() { r.b, r.err = nil, errTrace }

// take returns the next n bytes; zeros when there are not as many, of which no more than a fixed field needs are asked for.
func (r *traceReader) take(n int) []byte {
	if n > len(r.b) {
		r.fail()
		return make([]byte, n)
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *traceReader) byte() byte { return r.take(1)[0] }

func (r *traceReader) uvarint() uint64 {
	v, w := binary.Uvarint(r.b)
	if w <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[w:]
	return v
}

func (r *traceReader) varint() int64 {
	v, w := binary.Varint(r.b)
	if w <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[w:]
	return v
}

// length reads the number of things that follow, each of which takes at least size bytes.
func (r *traceReader) length(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *traceReader) string() string { return string(r.take(r.length(1))) }

func (r *traceReader) time() time.Time {
	v := r.varint()
	if v == math.MinInt64 || r.err != nil {
		return time.Time{}
	}
	return time.Unix(0, v).UTC()
}

func (r *traceReader) attributes() []graph.Attribute {
	n := r.length(2)
	if n == 0 {
		return nil
	}
	list := make([]graph.Attribute, 0, n)
	for range n {
		list = append(list, graph.Attribute{Key: r.string(), Value: r.value(0)})
	}
	return list
}

func (r *traceReader) value(depth int) any {
	if depth > maxDepth+1 {
		r.fail()
		return nil
	}
	switch r.byte() {
	case tagNil:
		return nil
	case tagString:
		return r.string()
	case tagFalse:
		return false
	case tagTrue:
		return true
	case tagInt:
		return r.varint()
	case tagFloat:
		return math.Float64frombits(binary.LittleEndian.Uint64(r.take(8)))
	case tagBytes:
		return append([]byte{}, r.take(r.length(1))...)
	case tagList:
		n := r.length(1)
		list := make([]any, 0, n)
		for range n {
			list = append(list, r.value(depth+1))
		}
		return list
	case tagMap:
		n := r.length(2)
		m := make(map[string]any, n)
		for range n {
			k := r.string()
			m[k] = r.value(depth + 1)
		}
		return m
	}
	r.fail()
	return nil
}

// readTrace undoes appendTrace. It reads hostile bytes safely.
func readTrace(b []byte) (graph.Trace, error) {
	var t graph.Trace
	r := &traceReader{b: b}
	if r.byte() != traceVersion {
		return t, errTrace
	}
	for range r.length(1) {
		t.Resources = append(t.Resources, graph.Resource{Attributes: r.attributes()})
	}
	for range r.length(16) {
		var s graph.Span
		copy(s.ID[:], r.take(8))
		copy(s.Parent[:], r.take(8))
		s.TraceState = r.string()
		s.Flags = uint32(r.uvarint())
		s.Name = r.string()
		s.Kind, s.Status = graph.SpanKind(r.byte()), graph.StatusCode(r.byte())
		s.StatusMessage = r.string()
		s.Start, s.End = r.time(), r.time()
		s.Attributes = r.attributes()
		for range r.length(3) {
			s.Events = append(s.Events, graph.Event{Time: r.time(), Name: r.string(), Attributes: r.attributes()})
		}
		for range r.length(25) {
			var l graph.Link
			copy(l.Trace[:], r.take(16))
			copy(l.Span[:], r.take(8))
			l.Attributes = r.attributes()
			s.Links = append(s.Links, l)
		}
		s.Scope, s.ScopeVersion = r.string(), r.string()
		s.Resource = int(r.varint())
		s.Node = graph.Node{Env: r.string(), Kind: graph.NodeKind(r.byte()), Namespace: r.string(), Name: r.string()}
		if r.err != nil {
			return graph.Trace{}, r.err
		}
		t.Spans = append(t.Spans, s)
	}
	if r.err != nil || len(r.b) > 0 {
		return graph.Trace{}, errTrace
	}
	return t, nil
}
