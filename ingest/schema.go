package ingest

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"google.golang.org/protobuf/encoding/protowire"
)

// messageType is an OTLP message: its fields by number and by their names in JSON.
type messageType struct {
	cost    int // bytes that pdata holds for one, itself and its place in its parent
	fields  []field
	numbers map[protowire.Number]*field
	names   map[string]*field // lowerCamelCase as OTLP says, and the names of the .proto files as other readers accept too
}

// field is one field of a message. Repeated and single fields look alike on the wire, and not in JSON.
type field struct {
	number  protowire.Number
	name    string
	kind    fieldKind
	message *messageType     // of kindMessage and kindMessages
	enum    map[string]int64 // of kindEnum: the values' names
}

type fieldKind uint8

const (
	kindString fieldKind = iota
	kindID               // bytes, in hexadecimal digits in JSON
	kindBytes            // bytes, in base64 in JSON
	kindUint32
	kindInt64
	kindFixed32
	kindFixed64
	kindDouble
	kindBool
	kindEnum
	kindMessage
	kindStrings  // repeated, an array in JSON
	kindMessages // likewise
)

// repeated says whether a field of the kind may occur more than once.
func (k fieldKind) repeated() bool { return k >= kindStrings }

// The messages of opentelemetry/proto/collector/trace/v1 and what they consist of, as of OTLP 1.11.
var (
	exportRequest = &messageType{cost: 32}
	anyValue      = &messageType{cost: 48}
	keyValue      = &messageType{cost: 64, fields: []field{
		{1, "key", kindString, nil, nil},
		{2, "value", kindMessage, anyValue, nil},
	}}
)

func init() {
	spanKinds := map[string]int64{
		"SPAN_KIND_UNSPECIFIED": 0, "SPAN_KIND_INTERNAL": 1, "SPAN_KIND_SERVER": 2,
		"SPAN_KIND_CLIENT": 3, "SPAN_KIND_PRODUCER": 4, "SPAN_KIND_CONSUMER": 5,
	}
	statusCodes := map[string]int64{"STATUS_CODE_UNSET": 0, "STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}

	values := &messageType{cost: 64, fields: []field{{1, "values", kindMessages, anyValue, nil}}}
	pairs := &messageType{cost: 64, fields: []field{{1, "values", kindMessages, keyValue, nil}}}
	anyValue.fields = []field{
		{1, "stringValue", kindString, nil, nil},
		{2, "boolValue", kindBool, nil, nil},
		{3, "intValue", kindInt64, nil, nil},
		{4, "doubleValue", kindDouble, nil, nil},
		{5, "arrayValue", kindMessage, values, nil},
		{6, "kvlistValue", kindMessage, pairs, nil},
		{7, "bytesValue", kindBytes, nil, nil},
	}
	event := &messageType{cost: 96, fields: []field{
		{1, "timeUnixNano", kindFixed64, nil, nil},
		{2, "name", kindString, nil, nil},
		{3, "attributes", kindMessages, keyValue, nil},
		{4, "droppedAttributesCount", kindUint32, nil, nil},
	}}
	link := &messageType{cost: 112, fields: []field{
		{1, "traceId", kindID, nil, nil},
		{2, "spanId", kindID, nil, nil},
		{3, "traceState", kindString, nil, nil},
		{4, "attributes", kindMessages, keyValue, nil},
		{5, "droppedAttributesCount", kindUint32, nil, nil},
		{6, "flags", kindFixed32, nil, nil},
	}}
	spanStatus := &messageType{cost: 0, fields: []field{ // held in the span
		{2, "message", kindString, nil, nil},
		{3, "code", kindEnum, nil, statusCodes},
	}}
	span := &messageType{cost: 336, fields: []field{
		{1, "traceId", kindID, nil, nil},
		{2, "spanId", kindID, nil, nil},
		{3, "traceState", kindString, nil, nil},
		{4, "parentSpanId", kindID, nil, nil},
		{5, "name", kindString, nil, nil},
		{6, "kind", kindEnum, nil, spanKinds},
		{7, "startTimeUnixNano", kindFixed64, nil, nil},
		{8, "endTimeUnixNano", kindFixed64, nil, nil},
		{9, "attributes", kindMessages, keyValue, nil},
		{10, "droppedAttributesCount", kindUint32, nil, nil},
		{11, "events", kindMessages, event, nil},
		{12, "droppedEventsCount", kindUint32, nil, nil},
		{13, "links", kindMessages, link, nil},
		{14, "droppedLinksCount", kindUint32, nil, nil},
		{15, "status", kindMessage, spanStatus, nil},
		{16, "flags", kindFixed32, nil, nil},
	}}
	scope := &messageType{cost: 0, fields: []field{ // held in the scope's spans
		{1, "name", kindString, nil, nil},
		{2, "version", kindString, nil, nil},
		{3, "attributes", kindMessages, keyValue, nil},
		{4, "droppedAttributesCount", kindUint32, nil, nil},
	}}
	scopeSpans := &messageType{cost: 144, fields: []field{
		{1, "scope", kindMessage, scope, nil},
		{2, "spans", kindMessages, span, nil},
		{3, "schemaUrl", kindString, nil, nil},
	}}
	entity := &messageType{cost: 96, fields: []field{
		{1, "schemaUrl", kindString, nil, nil},
		{2, "type", kindString, nil, nil},
		{3, "idKeys", kindStrings, nil, nil},
		{4, "descriptionKeys", kindStrings, nil, nil},
	}}
	resource := &messageType{cost: 0, fields: []field{ // held in the resource's spans
		{1, "attributes", kindMessages, keyValue, nil},
		{2, "droppedAttributesCount", kindUint32, nil, nil},
		{3, "entityRefs", kindMessages, entity, nil},
	}}
	resourceSpans := &messageType{cost: 160, fields: []field{
		{1, "resource", kindMessage, resource, nil},
		{2, "scopeSpans", kindMessages, scopeSpans, nil},
		{3, "schemaUrl", kindString, nil, nil},
	}}
	exportRequest.fields = []field{{1, "resourceSpans", kindMessages, resourceSpans, nil}}

	for _, m := range []*messageType{
		exportRequest, resourceSpans, resource, entity, scopeSpans, scope, span, event, link, spanStatus,
		keyValue, anyValue, values, pairs,
	} {
		m.numbers = make(map[protowire.Number]*field, len(m.fields))
		m.names = make(map[string]*field, 2*len(m.fields))
		for i := range m.fields {
			f := &m.fields[i]
			m.numbers[f.number] = f
			m.names[f.name] = f
			m.names[snakeCase(f.name)] = f
		}
	}
}

// snakeCase turns lowerCamelCase into lower_snake_case.
func snakeCase(name string) string {
	var b strings.Builder
	for _, r := range name {
		if unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// maxDepth bounds how deep messages, and objects and arrays of JSON, may lie in each other. A request without nested
// attribute values is 7 messages deep.
const maxDepth = 64

var (
	errTooDeep = fmt.Errorf("nested more than %d deep", maxDepth)
	errTooMany = errors.New("far more elements than bytes to describe them")
)

// treeCost returns how many bytes pdata would hold for the messages of body, its strings left out. It reads the lengths
// alone, in time linear in the body, and recurses at most maxDepth deep, which pdata does not promise of itself.
func treeCost(body []byte) (int, error) { return exportRequest.treeCost(body, 1) }

func (m *messageType) treeCost(b []byte, depth int) (int, error) {
	if depth > maxDepth {
		return 0, errTooDeep
	}
	cost := m.cost
	for len(b) > 0 {
		number, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		b = b[n:]
		f := m.numbers[number]
		if f == nil || f.message == nil || wire != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, wire, b); n < 0 {
				return 0, protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		child, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		b = b[n:]
		below, err := f.message.treeCost(child, depth+1)
		if err != nil {
			return 0, err
		}
		cost += below
	}
	return cost, nil
}
