package sim

import "encoding/binary"

// Span kinds and status codes of the OTLP trace protocol.
const (
	kindInternal = 1
	kindServer   = 2
	kindClient   = 3
	kindProducer = 4
	kindConsumer = 5

	statusUnset = 0
	statusError = 2
)

// Span flags of OTLP: the W3C sampled bit, "the remote bit is valid", and
// "the parent lives in another process".
const (
	flagSampled   = 0x001
	flagHasRemote = 0x100
	flagRemote    = 0x200
)

type attr struct {
	key  string
	str  string
	num  int64
	int  bool
	list bool // a list of the one string
}

func str(key, value string) attr       { return attr{key: key, str: value} }
func num(key string, value int64) attr { return attr{key: key, num: value, int: true} }

// header returns an attribute of a header or of metadata, whose values are lists.
func header(key, value string) attr { return attr{key: key, str: value, list: true} }

type (
	traceID [16]byte
	spanID  [8]byte
)

// span is one span before encoding. Times are Unix nanoseconds, or, in the
// templates of a Load, nanoseconds relative to the start of a pass.
type span struct {
	trace      traceID
	id         spanID
	parent     spanID // all zero: a root
	state      string // W3C tracestate
	flags      uint32
	name       string
	kind       uint64
	start, end int64
	attrs      []attr
	events     []event
	links      []link
	status     uint64
	message    string
}

type event struct {
	at    int64
	name  string
	attrs []attr
}

type link struct {
	trace traceID
	id    spanID
}

// resource is who sends: the resource attributes and the instrumentation scope
// of one process.
type resource struct {
	attrs        []attr
	scope        string
	scopeVersion string
	schema       string
}

// encoder appends protobuf to buf. With track set it also notes where ids and
// times lie, so that they can be changed later without encoding again.
//
// A length-delimited message is written body first and its length put in front
// afterwards: open and close nest like brackets.
type encoder struct {
	buf   []byte
	track bool
	marks marks
}

// marks are offsets into an encoded request, ascending in each list.
type marks struct {
	traceIDs []uint32 // 16 bytes each
	spanIDs  []uint32 // 8 bytes each
	times    []uint32 // 8 bytes each, little-endian
}

const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

func (e *encoder) tag(field, wire uint64) {
	e.buf = binary.AppendUvarint(e.buf, field<<3|wire)
}

func (e *encoder) varint(field, v uint64) {
	e.tag(field, wireVarint)
	e.buf = binary.AppendUvarint(e.buf, v)
}

func (e *encoder) string(field uint64, s string) {
	e.tag(field, wireBytes)
	e.buf = binary.AppendUvarint(e.buf, uint64(len(s)))
	e.buf = append(e.buf, s...)
}

func (e *encoder) traceID(field uint64, id traceID) {
	e.tag(field, wireBytes)
	e.buf = append(e.buf, byte(len(id)))
	if e.track {
		e.marks.traceIDs = append(e.marks.traceIDs, uint32(len(e.buf)))
	}
	e.buf = append(e.buf, id[:]...)
}

func (e *encoder) spanID(field uint64, id spanID) {
	e.tag(field, wireBytes)
	e.buf = append(e.buf, byte(len(id)))
	if e.track {
		e.marks.spanIDs = append(e.marks.spanIDs, uint32(len(e.buf)))
	}
	e.buf = append(e.buf, id[:]...)
}

func (e *encoder) time(field uint64, ns int64) {
	e.tag(field, wireFixed64)
	if e.track {
		e.marks.times = append(e.marks.times, uint32(len(e.buf)))
	}
	e.buf = binary.LittleEndian.AppendUint64(e.buf, uint64(ns))
}

// open starts a nested message; close ends it.
func (e *encoder) open(field uint64) int {
	e.tag(field, wireBytes)
	return len(e.buf)
}

func (e *encoder) close(start int) {
	var length [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(length[:], uint64(len(e.buf)-start))
	e.buf = append(e.buf, length[:n]...)
	copy(e.buf[start+n:], e.buf[start:len(e.buf)-n])
	copy(e.buf[start:], length[:n])
	if e.track {
		shift(e.marks.traceIDs, uint32(start), uint32(n))
		shift(e.marks.spanIDs, uint32(start), uint32(n))
		shift(e.marks.times, uint32(start), uint32(n))
	}
}

// shift moves the offsets from start on by n bytes.
func shift(offsets []uint32, start, n uint32) {
	for i := len(offsets) - 1; i >= 0 && offsets[i] >= start; i-- {
		offsets[i] += n
	}
}

func (e *encoder) attr(field uint64, a attr) {
	kv := e.open(field)
	e.string(1, a.key)
	value := e.open(2)
	switch {
	case a.int:
		e.varint(3, uint64(a.num))
	case a.list:
		array := e.open(5)
		element := e.open(1)
		e.string(1, a.str)
		e.close(element)
		e.close(array)
	default:
		e.string(1, a.str)
	}
	e.close(value)
	e.close(kv)
}

func (e *encoder) span(field uint64, s *span) {
	msg := e.open(field)
	e.traceID(1, s.trace)
	e.spanID(2, s.id)
	if s.state != "" {
		e.string(3, s.state)
	}
	if s.parent != (spanID{}) {
		e.spanID(4, s.parent)
	}
	e.string(5, s.name)
	e.varint(6, s.kind)
	e.time(7, s.start)
	e.time(8, s.end)
	for _, a := range s.attrs {
		e.attr(9, a)
	}
	for _, ev := range s.events {
		m := e.open(11)
		e.time(1, ev.at)
		e.string(2, ev.name)
		for _, a := range ev.attrs {
			e.attr(3, a)
		}
		e.close(m)
	}
	for _, l := range s.links {
		m := e.open(13)
		e.traceID(1, l.trace)
		e.spanID(2, l.id)
		e.close(m)
	}
	status := e.open(15)
	if s.message != "" {
		e.string(2, s.message)
	}
	if s.status != statusUnset {
		e.varint(3, s.status)
	}
	e.close(status)
	if s.flags != 0 {
		e.tag(16, wireFixed32)
		e.buf = binary.LittleEndian.AppendUint32(e.buf, s.flags)
	}
	e.close(msg)
}

// request appends an ExportTraceServiceRequest with the spans of one process.
func (e *encoder) request(r *resource, spans []*span) {
	rs := e.open(1)
	res := e.open(1)
	for _, a := range r.attrs {
		e.attr(1, a)
	}
	e.close(res)
	ss := e.open(2)
	scope := e.open(1)
	e.string(1, r.scope)
	e.string(2, r.scopeVersion)
	e.close(scope)
	for _, s := range spans {
		e.span(2, s)
	}
	e.close(ss)
	if r.schema != "" {
		e.string(3, r.schema)
	}
	e.close(rs)
}
