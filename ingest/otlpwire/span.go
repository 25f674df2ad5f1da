package otlpwire

import "encoding/binary"

// MaxLinks is how many of a span's links are kept; Span.NumLinks counts all.
const MaxLinks = 32

// Link is a span link: the ids as they came.
type Link struct{ Trace, Span []byte }

// Span is what is kept of one span. It is used again for the next: Decode forgets what was there. Its slices refer to
// the bytes that were decoded. It is not safe for concurrent use.
type Span struct {
	Trace, ID, Parent []byte // as they came: any length
	TraceState        []byte
	Name              []byte
	Flags             uint32
	Kind              uint8
	Start, End        uint64 // nanoseconds since the epoch
	Status            uint8
	StatusMessage     []byte
	// ExceptionType and ExceptionMessage are those of the last event named "exception".
	ExceptionType, ExceptionMessage []byte
	Links                           [MaxLinks]Link
	NumLinks                        int

	generation uint32
	attributes [numKeys]attribute
}

type attribute struct {
	generation uint32
	value      Value
}

// Get returns the value of an attribute, Absent when the span has none of that name. The last one counts.
func (s *Span) Get(k Key) Value {
	if a := &s.attributes[k]; a.generation == s.generation {
		return a.value
	}
	return Value{}
}

// Has reports whether the span has an attribute.
func (s *Span) Has(k Key) bool { return s.attributes[k].generation == s.generation }

// Text returns the text of the first of the attributes that is there and is a text that is not empty.
func (s *Span) Text(keys ...Key) []byte {
	for _, k := range keys {
		if a := &s.attributes[k]; a.generation == s.generation && len(a.value.Text) > 0 {
			return a.value.Text
		}
	}
	return nil
}

// SetText gives the span an attribute, or another text for it, until the next one is decoded.
func (s *Span) SetText(k Key, text []byte) {
	s.attributes[k] = attribute{s.generation, Value{Type: Text, Text: text}}
}

func (s *Span) reset() {
	s.generation++
	if s.generation == 0 { // once in four billion spans
		s.attributes = [numKeys]attribute{}
		s.generation = 1
	}
	s.Trace, s.ID, s.Parent, s.TraceState, s.Name = nil, nil, nil, nil, nil
	s.Flags, s.Kind, s.Start, s.End, s.Status, s.StatusMessage = 0, 0, 0, 0, 0, nil
	s.ExceptionType, s.ExceptionMessage, s.NumLinks = nil, nil, 0
}

// Decode reads a Span message. After an error the span holds nothing of use.
func (s *Span) Decode(b []byte) (err error) {
	s.reset()
	var f field
	for i := 0; i < len(b); {
		// Most of a span is attributes: field 9, shorter than 128 bytes, behind a tag of one byte.
		if b[i] == 9<<3|wireBytes && i+1 < len(b) && b[i+1] < 0x80 {
			j := i + 2
			i = j + int(b[i+1])
			if i > len(b) {
				return ErrTruncated
			}
			if err := s.attribute(b[j:i:i]); err != nil {
				return err
			}
			continue
		}
		if i, err = next(b, i, &f); err != nil {
			return err
		}
		if f.number > 16 || wantWire[f.number] == anyWire {
			continue
		}
		if f.wire != wantWire[f.number] {
			return ErrWireType
		}
		switch f.number {
		case 1:
			s.Trace = f.data
		case 2:
			s.ID = f.data
		case 3:
			s.TraceState = f.data
		case 4:
			s.Parent = f.data
		case 5:
			s.Name = f.data
		case 6:
			s.Kind = uint8(min(f.num, 255))
		case 7:
			s.Start = f.num
		case 8:
			s.End = f.num
		case 9:
			err = s.attribute(f.data)
		case 11:
			err = s.event(f.data)
		case 13:
			err = s.link(f.data)
		case 15:
			err = s.status(f.data)
		case 16:
			s.Flags = uint32(f.num)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

const anyWire = 0xff

// wantWire is the wire type of each field of a Span that is read.
var wantWire = [17]uint8{
	anyWire, wireBytes, wireBytes, wireBytes, wireBytes, wireBytes, wireVarint, wire64, wire64, wireBytes, anyWire, wireBytes,
	anyWire, wireBytes, anyWire, wireBytes, wire32,
}

// attribute reads a KeyValue and keeps it when it is wanted. The usual form, key then value, is read without the
// general reader.
func (s *Span) attribute(b []byte) error {
	if len(b) > 4 && b[0] == 1<<3|wireBytes && b[1] < 0x80 {
		i := 2 + int(b[1])
		if i+1 < len(b) && b[i] == 2<<3|wireBytes && b[i+1] < 0x80 && i+2+int(b[i+1]) == len(b) {
			key, value := b[2:i], b[i+2:]
			k := lookup(key)
			var v Value
			switch {
			case len(value) >= 2 && value[0] == 1<<3|wireBytes && value[1] < 0x80 && int(value[1])+2 == len(value):
				if k == NoKey {
					return nil
				}
				v = Value{Text: value[2:], Type: Text}
			case len(value) >= 2 && value[0] == 3<<3|wireVarint:
				n, w := binary.Uvarint(value[1:])
				if w <= 0 {
					return ErrVarint
				}
				if w+1 != len(value) {
					return s.attributeAny(k, value)
				}
				if k == NoKey {
					return nil
				}
				v = Value{Num: int64(n), Type: Int}
			default:
				return s.attributeAny(k, value)
			}
			a := &s.attributes[k]
			a.generation, a.value = s.generation, v
			return nil
		}
	}
	key, v, err := keyValue(b)
	if err != nil {
		return err
	}
	if k := lookup(key); k != NoKey {
		s.attributes[k] = attribute{s.generation, v}
	}
	return nil
}

func (s *Span) attributeAny(k Key, value []byte) error {
	v, err := anyValue(value, 1)
	if err == nil && k != NoKey {
		s.attributes[k] = attribute{s.generation, v}
	}
	return err
}

// event reads an Event: time 1, name 2, attributes 3.
func (s *Span) event(b []byte) (err error) {
	var f field
	var kind, message []byte
	exception := false
	for i := 0; i < len(b); {
		if i, err = next(b, i, &f); err != nil {
			return err
		}
		switch f.number {
		case 2:
			if f.wire != wireBytes {
				return ErrWireType
			}
			exception = string(f.data) == "exception"
		case 3:
			if f.wire != wireBytes {
				return ErrWireType
			}
			key, v, err := keyValue(f.data)
			if err != nil {
				return err
			}
			switch string(key) {
			case "exception.type":
				kind = v.Text
			case "exception.message":
				message = v.Text
			}
		}
	}
	if exception {
		s.ExceptionType, s.ExceptionMessage = kind, message
	}
	return nil
}

// link reads a Link: trace 1, span 2, attributes 4.
func (s *Span) link(b []byte) (err error) {
	var f field
	var l Link
	for i := 0; i < len(b); {
		if i, err = next(b, i, &f); err != nil {
			return err
		}
		switch f.number {
		case 1, 2, 4:
			if f.wire != wireBytes {
				return ErrWireType
			}
		}
		switch f.number {
		case 1:
			l.Trace = f.data
		case 2:
			l.Span = f.data
		case 4:
			if _, _, err = keyValue(f.data); err != nil {
				return err
			}
		}
	}
	if s.NumLinks < MaxLinks {
		s.Links[s.NumLinks] = l
	}
	s.NumLinks++
	return nil
}

// status reads a Status: message 2, code 3.
func (s *Span) status(b []byte) (err error) {
	var f field
	for i := 0; i < len(b); {
		if i, err = next(b, i, &f); err != nil {
			return err
		}
		switch {
		case f.number == 2 && f.wire == wireBytes:
			s.StatusMessage = f.data
		case f.number == 3 && f.wire == wireVarint:
			s.Status = uint8(min(f.num, 255))
		case f.number == 2 || f.number == 3:
			return ErrWireType
		}
	}
	return nil
}
