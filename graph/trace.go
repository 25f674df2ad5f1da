package graph

import (
	"encoding/hex"
	"errors"
	"time"
)

// TraceID is a W3C trace id.
type TraceID [16]byte

// SpanID is a W3C span id.
type SpanID [8]byte

// String returns the id in lower-case hex.
func (t TraceID) String() string { return hex.EncodeToString(t[:]) }

// String returns the id in lower-case hex.
func (s SpanID) String() string { return hex.EncodeToString(s[:]) }

// ErrTraceID says that a text is not a trace id.
var ErrTraceID = errors.New("a trace id is 32 hexadecimal digits")

// ParseTraceID reads 32 hexadecimal digits.
func ParseTraceID(s string) (TraceID, error) {
	var t TraceID
	if len(s) != 32 {
		return t, ErrTraceID
	}
	if _, err := hex.Decode(t[:], []byte(s)); err != nil {
		return t, ErrTraceID
	}
	return t, nil
}

// SpanKind is OTLP's kind of a span.
type SpanKind uint8

// OTLP's span kinds.
const (
	SpanKindUnspecified SpanKind = iota
	SpanKindInternal
	SpanKindServer
	SpanKindClient
	SpanKindProducer
	SpanKindConsumer
)

// StatusCode is OTLP's status of a span.
type StatusCode uint8

// OTLP's status codes.
const (
	StatusUnset StatusCode = iota
	StatusOK
	StatusError
)

// Attribute is a key with a value of one of: string, bool, int64, float64, []byte, []any of these, map[string]any.
type Attribute struct {
	Key   string
	Value any
}

// Resource is what a span's process said of itself.
type Resource struct {
	Attributes []Attribute
}

// Event is something that happened in a span.
type Event struct {
	Time       time.Time
	Name       string
	Attributes []Attribute
}

// Link points from a span to another trace's.
type Link struct {
	Trace      TraceID
	Span       SpanID
	Attributes []Attribute
}

// Span is one span of an example trace, whole.
type Span struct {
	ID, Parent    SpanID // Parent is zero at a root
	TraceState    string
	Flags         uint32
	Name          string
	Kind          SpanKind
	Start, End    time.Time
	Status        StatusCode
	StatusMessage string
	Attributes    []Attribute
	Events        []Event
	Links         []Link
	Scope         string // instrumentation scope name
	ScopeVersion  string
	Resource      int  // index in Trace.Resources
	Node          Node // the service that sent it
}

// Trace is an example trace, with every span of it that was received while it was held.
type Trace struct {
	ID        TraceID
	Resources []Resource
	Spans     []Span // by start time
}

// ExampleKind says why a trace was kept for an edge.
type ExampleKind uint8

// The kinds of examples, as the API names them.
const (
	Typical ExampleKind = iota
	Slow
	Retried
	Failed
	NumExampleKinds = iota
)

var exampleKindNames = [NumExampleKinds]string{"typical", "slow", "retried", "error"}

// String returns the kind's name in the API.
func (k ExampleKind) String() string { return exampleKindNames[k%NumExampleKinds] }

// MarshalText writes the kind's name.
func (k ExampleKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Example says that a call of a trace is an example of an edge in a window. One trace is an example of many edges.
type Example struct {
	Trace    TraceID
	Span     SpanID // the span that observed the call
	Edge     EdgeKey
	Kind     ExampleKind
	At       time.Time // when the call ended
	Duration time.Duration
	Failure  Failure
}

// KeptTrace is a trace with the edges that it is an example of.
type KeptTrace struct {
	Trace    Trace
	Examples []Example
}
