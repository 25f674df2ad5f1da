package ingest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"faultline/ingest/inflight"
)

// fromJSON appends the protobuf form of an ExportTraceServiceRequest in OTLP's JSON to dst, limit bytes at most. It reads
// token by token and builds nothing but the result, so that its memory is that of the two forms, however many elements
// there are. Fields that are not known are left out and bytes that are not UTF-8 become U+FFFD, as JSON's readers do.
//
// An id that is not hexadecimal is written as one byte, which is no id: the decoder then refuses that span alone.
func fromJSON(dst, src []byte, limit int) ([]byte, error) {
	t := transcoder{json: json.NewDecoder(bytes.NewReader(src)), out: dst, limit: len(dst) + limit}
	t.json.UseNumber()
	token, err := t.next()
	if err != nil {
		return nil, err
	}
	if token != json.Delim('{') {
		return nil, errors.New("want an object")
	}
	if err := t.object(exportRequest, 1); err != nil {
		return nil, err
	}
	if _, err := t.json.Token(); err != io.EOF {
		return nil, errors.New("more than one value")
	}
	return t.out, nil
}

// A transcoder writes JSON's tokens as protobuf fields.
type transcoder struct {
	json  *json.Decoder
	out   []byte
	limit int
}

func (t *transcoder) next() (json.Token, error) {
	if len(t.out) > t.limit {
		return nil, inflight.ErrTooLarge
	}
	token, err := t.json.Token()
	if err == io.EOF {
		return nil, io.ErrUnexpectedEOF
	}
	return token, err
}

// object writes the fields of an object whose brace was read, to its closing one.
func (t *transcoder) object(m *messageType, depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}
	for {
		key, err := t.next()
		if err != nil {
			return err
		}
		name, ok := key.(string)
		if !ok {
			return nil // the closing brace
		}
		value, err := t.next()
		if err != nil {
			return err
		}
		f := m.names[name]
		if f == nil {
			if err := t.skip(value, depth); err != nil {
				return err
			}
			continue
		}
		if !f.kind.repeated() || value == nil {
			if err := t.value(f, value, depth); err != nil {
				return err
			}
			continue
		}
		if value != json.Delim('[') {
			return fmt.Errorf("%s: want an array", f.name)
		}
		for {
			element, err := t.next()
			if err != nil {
				return err
			}
			if element == json.Delim(']') {
				break
			}
			if err := t.value(f, element, depth); err != nil {
				return err
			}
		}
	}
}

// skip passes over a value whose first token was read.
func (t *transcoder) skip(value json.Token, depth int) error {
	for open := 0; ; {
		switch value {
		case json.Delim('{'), json.Delim('['):
			open++
		case json.Delim('}'), json.Delim(']'):
			open--
		}
		if depth+open > maxDepth {
			return errTooDeep
		}
		if open == 0 {
			return nil
		}
		var err error
		if value, err = t.next(); err != nil {
			return err
		}
	}
}

// value writes one value of a field. null is as good as absent.
func (t *transcoder) value(f *field, value json.Token, depth int) error {
	if value == nil {
		return nil
	}
	if f.message != nil {
		if value != json.Delim('{') {
			return fmt.Errorf("%s: want an object", f.name)
		}
		return t.message(f, depth)
	}
	if _, ok := value.(json.Delim); ok {
		return fmt.Errorf("%s: want a single value", f.name)
	}
	if err := t.scalar(f, value); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	return nil
}

// message writes a message whose opening brace was read, with its length before it.
func (t *transcoder) message(f *field, depth int) error {
	t.out = protowire.AppendTag(t.out, f.number, protowire.BytesType)
	start := len(t.out)
	if err := t.object(f.message, depth+1); err != nil {
		return err
	}
	// The length is known now; what it measures moves up to make room.
	size := len(t.out) - start
	prefix := protowire.SizeVarint(uint64(size))
	var room [10]byte
	t.out = append(t.out, room[:prefix]...)
	copy(t.out[start+prefix:], t.out[start:start+size])
	protowire.AppendVarint(t.out[:start], uint64(size))
	return nil
}

var (
	errNotString = errors.New("want a string")
	errNotNumber = errors.New("want a number in range")
	errNotBool   = errors.New("want true or false")
)

// scalar writes a string, number or boolean.
func (t *transcoder) scalar(f *field, value json.Token) error {
	switch f.kind {
	case kindString, kindStrings, kindID, kindBytes:
		s, ok := value.(string)
		if !ok {
			return errNotString
		}
		b := []byte(s)
		switch f.kind {
		case kindID:
			if n, err := hex.Decode(b, b); err == nil {
				b = b[:n]
			} else {
				b = b[:1]
			}
		case kindBytes:
			var err error
			if b, err = fromBase64(s); err != nil {
				return err
			}
		}
		t.out = protowire.AppendTag(t.out, f.number, protowire.BytesType)
		t.out = protowire.AppendBytes(t.out, b)
	case kindBool:
		b, ok := value.(bool)
		if !ok {
			return errNotBool
		}
		t.varint(f, protowire.EncodeBool(b))
	case kindEnum:
		if s, ok := value.(string); ok {
			if v, ok := f.enum[s]; ok {
				t.varint(f, uint64(v))
				return nil
			}
		}
		v, err := integer(value, math.MinInt32, math.MaxInt32)
		t.varint(f, v)
		return err
	case kindUint32:
		v, err := integer(value, 0, math.MaxUint32)
		t.varint(f, v)
		return err
	case kindInt64:
		v, err := integer(value, math.MinInt64, math.MaxInt64)
		t.varint(f, v)
		return err
	case kindFixed32:
		v, err := integer(value, 0, math.MaxUint32)
		t.out = protowire.AppendTag(t.out, f.number, protowire.Fixed32Type)
		t.out = protowire.AppendFixed32(t.out, uint32(v))
		return err
	case kindFixed64:
		v, err := integer(value, 0, math.MaxUint64)
		t.out = protowire.AppendTag(t.out, f.number, protowire.Fixed64Type)
		t.out = protowire.AppendFixed64(t.out, v)
		return err
	case kindDouble:
		v, err := double(value)
		t.out = protowire.AppendTag(t.out, f.number, protowire.Fixed64Type)
		t.out = protowire.AppendFixed64(t.out, math.Float64bits(v))
		return err
	}
	return nil
}

func (t *transcoder) varint(f *field, v uint64) {
	t.out = protowire.AppendTag(t.out, f.number, protowire.VarintType)
	t.out = protowire.AppendVarint(t.out, v)
}

// digits returns the text of a number, which may stand in quotes as 64-bit numbers do.
func digits(value json.Token) string {
	switch v := value.(type) {
	case json.Number:
		return v.String()
	case string:
		return v
	}
	return ""
}

// integer reads a whole number from lowest to highest, as two's complement. 1e3 is whole too.
func integer(value json.Token, lowest int64, highest uint64) (uint64, error) {
	s := digits(value)
	if u, err := strconv.ParseUint(s, 10, 64); err == nil {
		if u > highest {
			return 0, errNotNumber
		}
		return u, nil
	}
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		if i < lowest {
			return 0, errNotNumber
		}
		return uint64(i), nil
	}
	f, err := strconv.ParseFloat(s, 64)
	// 2^64 and float64(MaxUint64) are the same, hence the strict comparison.
	if err != nil || f != math.Trunc(f) || f < float64(lowest) || f >= float64(highest) {
		return 0, errNotNumber
	}
	if f < 0 {
		return uint64(int64(f)), nil
	}
	return uint64(f), nil
}

// double reads a floating-point number, of which NaN, Infinity and -Infinity stand in quotes.
func double(value json.Token) (float64, error) {
	f, err := strconv.ParseFloat(digits(value), 64)
	if err != nil {
		return 0, errNotNumber
	}
	return f, nil
}

// fromBase64 reads base64 of either alphabet, with or without padding.
func fromBase64(s string) ([]byte, error) {
	for _, e := range []*base64.Encoding{
		base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding,
	} {
		if b, err := e.DecodeString(s); err == nil {
			return b, nil
		}
	}
	return nil, errors.New("want base64")
}
