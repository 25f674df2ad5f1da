// Package otlpwire reads the few fields that matter straight from the bytes of an OTLP ExportTraceServiceRequest,
// without building a tree. What it returns refers to the bytes that it was given.
//
// It is bounded: work is linear in the bytes, nesting is limited to MaxDepth, and nothing is allocated once a Span is in
// use. It checks what it reads and everything that nests, so that a decoder without limits may read the same bytes
// afterwards. Unknown fields and attributes are skipped. It does not check that text is UTF-8: whoever keeps a text does.
package otlpwire

import (
	"encoding/binary"
	"errors"
	"math"
)

// MaxDepth is how deep an attribute's value may nest.
const MaxDepth = 64

// The ways in which bytes can fail to be a request.
var (
	ErrTruncated = errors.New("truncated message")
	ErrVarint    = errors.New("invalid varint")
	ErrWireType  = errors.New("wrong wire type")
	ErrTag       = errors.New("invalid field number")
	ErrDepth     = errors.New("attribute values nest deeper than 64")
)

const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wire32     = 5
)

// uvarint reads a varint at b[i:]. The next position is negative when there is none.
func uvarint(b []byte, i int) (uint64, int) {
	if i < len(b) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	v, n := binary.Uvarint(b[min(i, len(b)):])
	if n <= 0 {
		return 0, -1
	}
	return v, i + n
}

// field is one field of a message: its number, wire type, and content. num is the value of a varint or fixed field,
// data that of a length-delimited one.
type field struct {
	number int
	wire   uint8
	num    uint64
	data   []byte
}

// next reads the field at b[i:] and returns the position behind it.
func next(b []byte, i int, f *field) (int, error) {
	tag, i := uvarint(b, i)
	if i < 0 {
		return 0, ErrVarint
	}
	f.number, f.wire = int(tag>>3), uint8(tag&7)
	if f.number == 0 || tag>>3 > 1<<29-1 {
		return 0, ErrTag
	}
	switch f.wire {
	case wireVarint:
		if f.num, i = uvarint(b, i); i < 0 {
			return 0, ErrVarint
		}
	case wireBytes:
		n, j := uvarint(b, i)
		if j < 0 {
			return 0, ErrVarint
		}
		if n > uint64(len(b)-j) {
			return 0, ErrTruncated
		}
		i = j + int(n)
		f.data = b[j:i:i]
	case wire64:
		if len(b)-i < 8 {
			return 0, ErrTruncated
		}
		f.num = binary.LittleEndian.Uint64(b[i:])
		i += 8
	case wire32:
		if len(b)-i < 4 {
			return 0, ErrTruncated
		}
		f.num = uint64(binary.LittleEndian.Uint32(b[i:]))
		i += 4
	default:
		return 0, ErrWireType
	}
	return i, nil
}

// Fields calls f for every length-delimited field of a message with the given number, in order, and checks the rest.
// An error of f ends it.
func fields(b []byte, number int, each func(data []byte) error) error {
	var f field
	for i := 0; i < len(b); {
		var err error
		if i, err = next(b, i, &f); err != nil {
			return err
		}
		if f.number == number {
			if f.wire != wireBytes {
				return ErrWireType
			}
			if err := each(f.data); err != nil {
				return err
			}
		}
	}
	return nil
}

// Iterator steps through the length-delimited fields of one number in a message.
type Iterator struct {
	rest   []byte
	number int
	err    error
}

// Resources steps through a request's ResourceSpans.
func Resources(request []byte) Iterator { return Iterator{rest: request, number: 1} }

// Scopes steps through a ResourceSpans' ScopeSpans.
func Scopes(resourceSpans []byte) Iterator { return Iterator{rest: resourceSpans, number: 2} }

// Spans steps through a ScopeSpans' spans.
func Spans(scopeSpans []byte) Iterator { return Iterator{rest: scopeSpans, number: 2} }

// Next returns the next field's bytes; false at the end or at an error.
func (it *Iterator) Next() ([]byte, bool) {
	var f field
	for len(it.rest) > 0 {
		i, err := next(it.rest, 0, &f)
		if err != nil {
			it.err, it.rest = err, nil
			return nil, false
		}
		it.rest = it.rest[i:]
		if f.number == it.number {
			if f.wire != wireBytes {
				it.err, it.rest = ErrWireType, nil
				return nil, false
			}
			return f.data, true
		}
	}
	return nil, false
}

// Err returns the error that ended the iteration, if one did.
func (it *Iterator) Err() error { return it.err }

// Submessage returns field number 1 of a ResourceSpans (its Resource) or a ScopeSpans (its InstrumentationScope), nil
// when it has none. The last one counts.
func Submessage(b []byte) (data []byte, err error) {
	err = fields(b, 1, func(d []byte) error { data = d; return nil })
	return data, err
}

// Attribute is one attribute of a resource: a text, or a number in its text form.
type Attribute struct {
	Key   []byte
	Value Value
}

// Value is an attribute's value, as far as it is kept: a text, a number, or a boolean. For an array its first element
// counts.
type Value struct {
	Text []byte // set for texts
	Num  int64  // integers; booleans as 0 and 1
	Real float64
	Type Type
}

// Type is a value's type.
type Type uint8

// The types of values.
const (
	Absent Type = iota
	Text
	Int
	Real
	Bool
)

// Attributes calls each for every attribute of a Resource message.
func Attributes(resource []byte, each func(key []byte, v Value)) error {
	return fields(resource, 1, func(kv []byte) error {
		key, v, err := keyValue(kv)
		if err == nil {
			each(key, v)
		}
		return err
	})
}

// Scope returns the name and version of an InstrumentationScope message, and checks its attributes.
func Scope(scope []byte) (name, version []byte, err error) {
	var f field
	for i := 0; i < len(scope); {
		if i, err = next(scope, i, &f); err != nil {
			return nil, nil, err
		}
		switch {
		case f.wire != wireBytes:
		case f.number == 1:
			name = f.data
		case f.number == 2:
			version = f.data
		case f.number == 3:
			if _, _, err = keyValue(f.data); err != nil {
				return nil, nil, err
			}
		}
	}
	return name, version, nil
}

// keyValue reads a KeyValue message and checks all of it.
func keyValue(b []byte) (key []byte, v Value, err error) {
	var f field
	for i := 0; i < len(b); {
		if i, err = next(b, i, &f); err != nil {
			return nil, v, err
		}
		switch f.number {
		case 1:
			if f.wire != wireBytes {
				return nil, v, ErrWireType
			}
			key = f.data
		case 2:
			if f.wire != wireBytes {
				return nil, v, ErrWireType
			}
			if v, err = anyValue(f.data, 1); err != nil {
				return nil, v, err
			}
		}
	}
	return key, v, nil
}

// anyValue reads an AnyValue message and checks all of it. The last value counts.
func anyValue(b []byte, depth int) (v Value, err error) {
	if depth > MaxDepth {
		return v, ErrDepth
	}
	var f field
	for i := 0; i < len(b); {
		if i, err = next(b, i, &f); err != nil {
			return v, err
		}
		switch f.number {
		case 1:
			if f.wire != wireBytes {
				return v, ErrWireType
			}
			v = Value{Text: f.data, Type: Text}
		case 2:
			if f.wire != wireVarint {
				return v, ErrWireType
			}
			v = Value{Type: Bool}
			if f.num != 0 {
				v.Num = 1
			}
		case 3:
			if f.wire != wireVarint {
				return v, ErrWireType
			}
			v = Value{Num: int64(f.num), Type: Int}
		case 4:
			if f.wire != wire64 {
				return v, ErrWireType
			}
			v = Value{Real: math.Float64frombits(f.num), Type: Real}
		case 5: // ArrayValue: repeated AnyValue values = 1
			if f.wire != wireBytes {
				return v, ErrWireType
			}
			if v, err = array(f.data, depth); err != nil {
				return v, err
			}
		case 6: // KeyValueList: repeated KeyValue values = 1
			if f.wire != wireBytes {
				return v, ErrWireType
			}
			v = Value{}
			if err := list(f.data, depth); err != nil {
				return v, err
			}
		case 7:
			if f.wire != wireBytes {
				return v, ErrWireType
			}
			v = Value{}
		}
	}
	return v, nil
}

func array(b []byte, depth int) (first Value, err error) {
	var f field
	n := 0
	for i := 0; i < len(b); {
		if i, err = next(b, i, &f); err != nil {
			return first, err
		}
		if f.number != 1 {
			continue
		}
		if f.wire != wireBytes {
			return first, ErrWireType
		}
		v, err := anyValue(f.data, depth+1)
		if err != nil {
			return first, err
		}
		if n == 0 {
			first = v
		}
		n++
	}
	return first, nil
}

func list(b []byte, depth int) (err error) {
	var f, g field
	for i := 0; i < len(b); {
		if i, err = next(b, i, &f); err != nil {
			return err
		}
		if f.number != 1 {
			continue
		}
		if f.wire != wireBytes {
			return ErrWireType
		}
		for kv, j := f.data, 0; j < len(kv); {
			if j, err = next(kv, j, &g); err != nil {
				return err
			}
			if g.number == 2 {
				if g.wire != wireBytes {
					return ErrWireType
				}
				if _, err = anyValue(g.data, depth+1); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
