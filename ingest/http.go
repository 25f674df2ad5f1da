package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"faultline/ingest/inflight"
)

// tracesPath is where OTLP/HTTP takes spans.
const tracesPath = "/v1/traces"

// The content types of OTLP/HTTP. There is no other: a type that a browser's form may send would let any page post here.
const (
	typeProtobuf = "application/x-protobuf"
	typeJSON     = "application/json"
)

// startHTTP starts the OTLP/HTTP server.
func (r *otlpReceiver) startHTTP(ctx context.Context, host component.Host, cfg *confighttp.ServerConfig) error {
	h := &httpHandler{receiver: r, limit: cfg.MaxRequestBodySize, codings: cfg.CompressionAlgorithms}
	if h.codings == nil {
		h.codings = []string{"gzip", "zstd", "deflate"}
	}
	// Decompression is the handler's, bounded and with codes of its own; the Collector's is turned off in a copy.
	own := *cfg
	own.CompressionAlgorithms = []string{}
	server, err := own.ToServer(ctx, host.GetExtensions(), r.telemetry, h, confighttp.WithErrorHandler(h.onError))
	if err != nil {
		return fmt.Errorf("protocols::http: %w", err)
	}
	server.MaxHeaderBytes = maxHeaderBytes
	listener, err := own.ToListener(ctx)
	if err != nil {
		return fmt.Errorf("protocols::http::endpoint: %w", err)
	}
	r.http, r.httpAddr = server, listener.Addr()
	r.serve(host, func() error { return server.Serve(listener) })
	return nil
}

// httpHandler answers OTLP/HTTP requests. It checks what can be known from the header before it reads the body, and every
// refusal of a well-addressed request carries a google.rpc.Status in the request's content type.
//
// A content encoding that is not spoken here is answered 415, as RFC 9110, 15.5.16 has it, with those that are.
type httpHandler struct {
	receiver *otlpReceiver
	limit    int64 // bytes of a body, as sent and after decompression
	codings  []string
}

func (h *httpHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != tracesPath {
		http.Error(w, "OTLP/HTTP traces go to "+tracesPath, http.StatusNotFound)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "OTLP/HTTP wants POST", http.StatusMethodNotAllowed)
		return
	}
	contentType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		contentType = ""
	}
	if refused := h.serve(w, r, contentType); refused != nil {
		if refused.reason != RefusedIncomplete {
			h.drain(w, r)
		}
		h.writeRefusal(w, contentType, refused)
	}
}

// drainTimeout is how long a sender whose request is refused may go on sending before it is cut off.
const drainTimeout = time.Second

// drain reads what a sender is still sending, as much as a body may be, and forgets it: a connection that is closed on
// unread bytes is reset, which may take the answer with it. A sender that waits to be told to go on has sent nothing.
func (h *httpHandler) drain(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Expect") != "" {
		return
	}
	if http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTimeout)) == nil {
		_, _ = io.CopyN(io.Discard, r.Body, h.limit) // whatever ends it
	}
}

// serve answers a request, or returns why it is refused.
func (h *httpHandler) serve(w http.ResponseWriter, r *http.Request, contentType string) *refusal {
	rcv := h.receiver
	if rcv.stopping.Load() {
		return rcv.refuse(RefusedStopping, "stopping")
	}
	if !rcv.authorized(r.Header.Get("Authorization")) {
		return rcv.refuse(RefusedUnauthenticated, "want Authorization: Bearer <token>")
	}
	if contentType != typeProtobuf && contentType != typeJSON {
		return rcv.refuse(RefusedUnsupported, "want Content-Type "+typeProtobuf+" or "+typeJSON)
	}
	b := inflight.Body{Budget: &rcv.budget}
	defer b.Free()
	if refused := h.read(&b, r); refused != nil {
		return refused
	}
	otlp := b.Bytes()
	if contentType == typeJSON {
		// The protobuf form is the shorter one, so as much again is enough.
		size := int64(len(otlp))
		if !rcv.budget.Take(size) {
			return rcv.refuse(RefusedOverloaded, inflight.ErrOverloaded.Error())
		}
		defer rcv.budget.Give(size)
		var err error
		otlp, err = fromJSON(make([]byte, 0, len(otlp)/2), otlp, int(h.limit))
		switch {
		case errors.Is(err, inflight.ErrTooLarge):
			return rcv.refuse(RefusedTooLarge, err.Error())
		case err != nil:
			return rcv.refuse(RefusedMalformed, "JSON: "+err.Error())
		}
	}
	res, refused := rcv.take(r.Context(), otlp)
	if refused != nil {
		return refused
	}
	w.Header().Set("Content-Type", contentType)
	if contentType == typeJSON {
		_, _ = w.Write(jsonResponse(res)) // a sender that is gone needs no answer
	} else {
		_, _ = w.Write(appendResponse(nil, res))
	}
	return nil
}

// read reads and decompresses a request's body.
func (h *httpHandler) read(b *inflight.Body, r *http.Request) *refusal {
	rcv := h.receiver
	if r.ContentLength > h.limit {
		return rcv.refuse(RefusedTooLarge, "body "+inflight.ErrTooLarge.Error()+" of "+strconv.FormatInt(h.limit, 10)+" bytes")
	}
	sent := &sentBody{Reader: r.Body}
	var err error
	switch encoding := strings.ToLower(strings.Join(r.Header.Values("Content-Encoding"), ", ")); {
	case encoding == "" || encoding == "identity":
		err = b.ReadAll(sent, h.limit, r.ContentLength)
	case slices.Contains(h.codings, encoding):
		var c *contents
		if c, err = codings[encoding].reader(sent); err == nil {
			err = b.ReadAll(c, h.limit, -1)
			_ = c.Close()
		}
	default:
		return rcv.refuse(RefusedUnsupported, "want Content-Encoding "+strings.Join(h.codings, ", ")+" or none")
	}
	if err == nil {
		return nil
	}
	var tooLarge *http.MaxBytesError
	var timeout net.Error
	switch {
	case errors.Is(err, inflight.ErrTooLarge), errors.As(sent.err, &tooLarge):
		return rcv.refuse(RefusedTooLarge, "body "+inflight.ErrTooLarge.Error()+" of "+strconv.FormatInt(h.limit, 10)+" bytes")
	case errors.Is(err, inflight.ErrOverloaded):
		return rcv.refuse(RefusedOverloaded, err.Error())
	case errors.As(sent.err, &timeout) && timeout.Timeout(), errors.Is(sent.err, io.ErrUnexpectedEOF):
		return rcv.refuse(RefusedIncomplete, "the body did not arrive whole and in time")
	default:
		return rcv.refuse(RefusedMalformed, "body: "+err.Error())
	}
}

// sentBody is a body as it comes from the connection. It remembers why it could not be read, apart from what a
// decompressor says of an end that came too soon.
type sentBody struct {
	io.Reader
	err error
}

func (s *sentBody) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// onError answers where the Collector's own handlers refuse a request: by an authentication extension.
func (h *httpHandler) onError(w http.ResponseWriter, _ *http.Request, message string, code int) {
	if code == http.StatusUnauthorized {
		h.receiver.intake.Refuse(RefusedUnauthenticated)
	}
	http.Error(w, message, code)
}

// writeRefusal answers with a google.rpc.Status in the request's content type, JSON where that is not one of OTLP's.
func (h *httpHandler) writeRefusal(w http.ResponseWriter, contentType string, refused *refusal) {
	code, retry := refused.httpStatus()
	header := w.Header()
	if retry != "" {
		header.Set("Retry-After", retry)
	}
	switch refused.reason {
	case RefusedUnauthenticated:
		header.Set("WWW-Authenticate", "Bearer")
	case RefusedUnsupported:
		header.Set("Accept-Encoding", strings.Join(h.codings, ", "))
	case RefusedIncomplete:
		header.Set("Connection", "close")
	}
	status := refused.status().Proto()
	status.Message = strings.ToValidUTF8(status.Message, "\uFFFD")
	var b []byte
	var err error
	if contentType == typeProtobuf {
		b, err = proto.Marshal(status)
	} else {
		contentType = typeJSON
		b, err = protojson.Marshal(status)
	}
	if err != nil { // the code alone says enough
		w.WriteHeader(code)
		return
	}
	header.Set("Content-Type", contentType)
	w.WriteHeader(code)
	_, _ = w.Write(b) // a sender that is gone needs no answer
}

// jsonResponse encodes an ExportTraceServiceResponse in OTLP's JSON, where 64-bit numbers are strings.
func jsonResponse(res Result) []byte {
	if res.Rejected == 0 {
		return []byte("{}")
	}
	message, err := json.Marshal(res.Message)
	if err != nil {
		message = []byte(`""`)
	}
	return fmt.Appendf(nil, `{"partialSuccess":{"rejectedSpans":"%d","errorMessage":%s}}`, res.Rejected, message)
}
