package unary

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// The frames of RFC 9113, section 6.
const (
	frameData = iota
	frameHeaders
	framePriority
	frameReset
	frameSettings
	framePushPromise
	framePing
	frameGoAway
	frameWindowUpdate
	frameContinuation
)

const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

const (
	settingTableSize = 1 + iota
	settingEnablePush
	settingMaxStreams
	settingInitialWindow
	settingMaxFrame
	settingMaxHeaderList
)

const (
	errNone          codeError = 0x0
	errProtocol      codeError = 0x1
	errFlowControl   codeError = 0x3
	errFrameSize     codeError = 0x6
	errRefusedStream codeError = 0x7
	errCompression   codeError = 0x9
	errCalm          codeError = 0xb
)

// An codeError is one of RFC 9113, section 7. As an error it ends the connection.
type codeError uint32

func (e codeError) Error() string { return fmt.Sprintf("HTTP/2 error %#x", uint32(e)) }

// header is what matters of one call's header.
type header struct {
	limit  int // of size
	size   int // as RFC 9113, section 6.5.2 counts
	frames int // that continue it

	method, scheme, path, contentType, encoding, authorization string

	regular   bool // a field came that is no pseudo-header
	malformed bool // by RFC 9113, section 8.2 and 8.3

	keep bool
	all  map[string][]string // every field but pseudo-headers, if they are to be kept
}

// fieldOverhead is what a field counts beside its name and value.
const fieldOverhead = 32

func (h *header) reset() { *h = header{limit: h.limit, keep: h.keep} }

// add takes a field. Beyond the limit it only counts.
func (h *header) add(f hpack.HeaderField) {
	h.size += len(f.Name) + len(f.Value) + fieldOverhead
	if h.size > h.limit {
		return
	}
	if f.IsPseudo() {
		h.pseudo(f)
		return
	}
	h.regular = true
	if h.keep {
		if h.all == nil {
			h.all = map[string][]string{}
		}
		h.all[f.Name] = append(h.all[f.Name], f.Value)
	}
	switch f.Name {
	case "content-type":
		h.contentType = f.Value
	case "grpc-encoding":
		h.encoding = f.Value
	case "authorization":
		h.authorization = f.Value
	case "te":
		h.malformed = h.malformed || f.Value != "trailers"
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		h.malformed = true // of HTTP/1
	default:
		h.malformed = h.malformed || strings.ContainsFunc(f.Name, unicode.IsUpper)
	}
}

// pseudo takes a field that says what a request is: once each, and before all others.
func (h *header) pseudo(f hpack.HeaderField) {
	var field *string
	switch f.Name {
	case ":method":
		field = &h.method
	case ":scheme":
		field = &h.scheme
	case ":path":
		field = &h.path
	case ":authority":
		h.malformed = h.malformed || h.regular
		return
	}
	if field == nil || *field != "" || f.Value == "" || h.regular {
		h.malformed = true
		return
	}
	*field = f.Value
}

// request reports whether the header is one that a request may begin with.
func (h *header) request() bool {
	return !h.malformed && h.method != "" && h.scheme != "" && h.path != ""
}

// trailer reports whether the header is one that a request may end with.
func (h *header) trailer() bool {
	return !h.malformed && h.method == "" && h.scheme == "" && h.path == ""
}

// isGRPC reports whether a content type is gRPC with protobuf.
func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(contentType), "application/grpc")
	return ok && (rest == "" || rest == "+proto" || rest[0] == ';' || strings.HasPrefix(rest, "+proto;"))
}

// appendFrame adds a frame's header.
func appendFrame(dst []byte, length int, kind, flags byte, stream uint32) []byte {
	dst = append(dst, byte(length>>16), byte(length>>8), byte(length), kind, flags)
	return binary.BigEndian.AppendUint32(dst, stream)
}

func appendReset(dst []byte, stream uint32, code codeError) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(dst, 4, frameReset, 0, stream), uint32(code))
}

func appendWindowUpdate(dst []byte, stream, n uint32) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(dst, 4, frameWindowUpdate, 0, stream), n)
}

// appendSettings takes pairs of a setting and its value.
func appendSettings(dst []byte, pairs ...uint32) []byte {
	dst = appendFrame(dst, 3*len(pairs), frameSettings, 0, 0)
	for i := 0; i < len(pairs); i += 2 {
		dst = binary.BigEndian.AppendUint16(dst, uint16(pairs[i]))
		dst = binary.BigEndian.AppendUint32(dst, pairs[i+1])
	}
	return dst
}

// Headers are written without the dynamic table of RFC 7541, so that they are the same bytes for every connection.
var (
	answerHeader  = appendField([]byte{indexedStatus200}, "content-type", "application/grpc")
	answerTrailer = appendField(nil, "grpc-status", "0")
)

// indexedStatus200 is the field ":status: 200", the eighth of the static table.
const indexedStatus200 = 0x80 | 8

// appendField adds a literal field that is not indexed, RFC 7541, section 6.2.2.
func appendField(dst []byte, name, value string) []byte {
	dst = append(dst, 0)
	dst = append(appendLength(dst, len(name)), name...)
	return append(appendLength(dst, len(value)), value...)
}

// appendLength adds an integer with a prefix of seven bits, RFC 7541, section 5.1.
func appendLength(dst []byte, n int) []byte {
	const prefix = 1<<7 - 1
	if n < prefix {
		return append(dst, byte(n))
	}
	return binary.AppendUvarint(append(dst, prefix), uint64(n-prefix))
}

// appendAnswer adds the frames of a call that went well.
func appendAnswer(dst []byte, stream uint32, message []byte) []byte {
	dst = appendFrame(dst, len(answerHeader), frameHeaders, flagEndHeaders, stream)
	dst = append(dst, answerHeader...)
	prefix := 5
	for rest := len(message); prefix > 0 || rest > 0; prefix = 0 {
		n := min(rest, maxFrame-prefix)
		dst = appendFrame(dst, prefix+n, frameData, 0, stream)
		if prefix > 0 {
			dst = binary.BigEndian.AppendUint32(append(dst, 0), uint32(len(message)))
		}
		dst = append(dst, message[len(message)-rest:len(message)-rest+n]...)
		rest -= n
	}
	dst = appendFrame(dst, len(answerTrailer), frameHeaders, flagEndHeaders|flagEndStream, stream)
	return append(dst, answerTrailer...)
}

// maxText bounds what an answer says in words, so that its header is one frame.
const maxText = 2 << 10

// appendRefusal adds the one frame of a call that did not; http is its HTTP status, "" for 200.
func appendRefusal(dst []byte, stream uint32, http string, refused *status.Status) []byte {
	block := []byte{indexedStatus200}
	if http != "" {
		block = appendField(nil, ":status", http)
	}
	block = appendField(block, "content-type", "application/grpc")
	block = appendField(block, "grpc-status", strconv.Itoa(int(refused.Code())))
	block = appendField(block, "grpc-message", percentEncoded(refused.Message()))
	if p := refused.Proto(); len(p.GetDetails()) > 0 {
		if len(p.Message) > maxText {
			p.Message = p.Message[:maxText]
		}
		p.Message = strings.ToValidUTF8(p.Message, "\uFFFD")
		if b, err := proto.Marshal(p); err == nil && len(b) < 2*maxText {
			block = appendField(block, "grpc-status-details-bin", base64.RawStdEncoding.EncodeToString(b))
		}
	}
	dst = appendFrame(dst, len(block), frameHeaders, flagEndHeaders|flagEndStream, stream)
	return append(dst, block...)
}

// percentEncoded writes a message as gRPC asks: what is not printable ASCII, and the sign itself, by its hex code.
func percentEncoded(message string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range min(len(message), maxText) {
		switch c := message[i]; {
		case c >= ' ' && c <= '~' && c != '%':
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}
