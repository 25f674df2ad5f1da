package unary

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"faultline/ingest/inflight"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	method   = "/test.Service/Call"
	maxTest  = 1 << 20
	theLimit = 64 << 20
)

// echo answers a message with its length, and counts what is refused.
type echo struct {
	gate   chan struct{} // if any, what Handle waits for
	answer []byte        // if any, instead of the length

	mu      sync.Mutex
	refused map[Fault]int
	handled int
}

func (e *echo) Admit(call *Call) *status.Status {
	switch call.Path {
	case method:
		return nil
	case "/denied":
		return status.New(codes.PermissionDenied, "not you: 100 % sure, “ever”")
	default:
		return status.New(codes.Unimplemented, "unknown method")
	}
}

func (e *echo) Handle(call *Call) ([]byte, *status.Status) {
	if e.gate != nil {
		select {
		case <-e.gate:
		case <-call.Context.Done():
			return nil, status.New(codes.Unavailable, "stopped")
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.handled++
	if e.answer != nil {
		return e.answer, nil
	}
	return fmt.Append(nil, len(call.Message)), nil
}

func (e *echo) Refuse(why Fault) *status.Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refused == nil {
		e.refused = map[Fault]int{}
	}
	e.refused[why]++
	return status.New([]codes.Code{codes.ResourceExhausted, codes.ResourceExhausted, codes.Canceled, codes.Unimplemented, codes.ResourceExhausted}[why], "refused")
}

func (e *echo) count(why Fault) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.refused[why]
}

// serving runs a server until the test ends and returns where it is dialed.
func serving(tb testing.TB, cfg Config, h Handler) string {
	tb.Helper()
	budget := new(inflight.Budget)
	budget.Limit(theLimit)
	s := New(cfg, h, budget)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s.Shutdown(ctx)
		if err := <-done; !errors.Is(err, ErrStopped) {
			tb.Errorf("Serve ended with %v", err)
		}
		if n := budget.Used(); n != 0 {
			tb.Errorf("%d bytes are still held", n)
		}
	})
	return l.Addr().String()
}

type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func dial(tb testing.TB, addr string, options ...grpc.DialOption) *grpc.ClientConn {
	tb.Helper()
	options = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, options...)
	conn, err := grpc.NewClient(addr, options...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

func invoke(conn *grpc.ClientConn, path string, body []byte) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var answer []byte
	err := conn.Invoke(ctx, path, &body, &answer, grpc.ForceCodecV2(bytesCodec{}), grpc.MaxCallRecvMsgSize(64<<20))
	return string(answer), err
}

// grpc-go's client gets its answers, for messages around every bound of a frame, a buffer and the limit.
func TestCalls(t *testing.T) {
	addr := serving(t, Config{MaxMessage: maxTest}, new(echo))
	conn := dial(t, addr)
	for _, n := range []int{0, 1, 1000, maxFrame - 6, maxFrame - 5, maxFrame - 4, maxFrame, 65535, 65536, 300_000, maxTest} {
		got, err := invoke(conn, method, make([]byte, n))
		if err != nil || got != strconv.Itoa(n) {
			t.Errorf("%d bytes: %q, %v", n, got, err)
		}
	}
	for path, want := range map[string]string{
		"/denied": "rpc error: code = PermissionDenied desc = not you: 100 % sure, “ever”",
		"/other":  "rpc error: code = Unimplemented desc = unknown method",
	} {
		if _, err := invoke(conn, path, nil); fmt.Sprint(err) != want {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	if _, err := invoke(conn, method, make([]byte, maxTest+1)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("over the limit: %v", err)
	}
	if got, err := invoke(conn, method, []byte("still here")); got != "10" || err != nil {
		t.Errorf("after a refusal: %q, %v", got, err)
	}
}

// Many calls at once, over a few connections, are all answered, each by its own answer.
func TestConcurrentCalls(t *testing.T) {
	for _, blocking := range []bool{false, true} {
		t.Run(fmt.Sprintf("blocking %v", blocking), func(t *testing.T) {
			addr := serving(t, Config{MaxMessage: maxTest, MaxStreams: 16, Blocking: blocking}, new(echo))
			var calls sync.WaitGroup
			for range 3 {
				conn := dial(t, addr)
				for i := range 40 {
					calls.Go(func() {
						for k := range 20 {
							n := i*997 + k*k*137
							if got, err := invoke(conn, method, make([]byte, n)); err != nil || got != strconv.Itoa(n) {
								t.Errorf("%d bytes: %q, %v", n, got, err)
							}
						}
					})
				}
			}
			calls.Wait()
		})
	}
}

// Answers larger than the client's window wait for it to grow.
func TestLargeAnswer(t *testing.T) {
	answer := bytes.Repeat([]byte("0123456789abcdef"), 3000) // three frames
	addr := serving(t, Config{}, &echo{answer: answer})
	conn := dial(t, addr)
	for range 20 {
		if got, err := invoke(conn, method, nil); err != nil || got != string(answer) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
}

func TestTLS(t *testing.T) {
	// httptest has a certificate for 127.0.0.1.
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	addr := serving(t, Config{TLS: &tls.Config{Certificates: web.TLS.Certificates, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}}, new(echo))
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	conn := dial(t, addr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})))
	if got, err := invoke(conn, method, make([]byte, 100_000)); err != nil || got != "100000" {
		t.Errorf("%q, %v", got, err)
	}
	plain := dial(t, addr)
	if _, err := invoke(plain, method, nil); status.Code(err) != codes.Unavailable {
		t.Errorf("without TLS: %v", err)
	}
}

// A client that speaks HTTP/1 is told where it is.
func TestHTTP1(t *testing.T) {
	h := new(echo)
	addr := serving(t, Config{Hint: "this is gRPC"}, h)
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST /v1/traces HTTP/1.1\r\nHost: x\r\n\r\n", "PUT / HTTP/1.1\r\n\r\n"} {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(nc, request); err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(nc)
		_ = nc.Close()
		if !strings.HasPrefix(string(got), "HTTP/1.1 400 ") || !strings.HasSuffix(string(got), "\r\n\r\nthis is gRPC") {
			t.Errorf("%q: got %q", request, got)
		}
	}
	if n := h.count(Unsupported); n != 3 {
		t.Errorf("%d requests were counted", n)
	}
}

// A peer is a client that says what it likes, frame by frame, in the words of another implementation.
type peer struct {
	tb     testing.TB
	nc     net.Conn
	framer *http2.Framer
	block  bytes.Buffer
	enc    *hpack.Encoder

	mu    sync.Mutex
	heard []string
}

// pipe is a listener of connections in memory, for tests of time.
type pipe struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipe) Accept() (net.Conn, error) {
	select {
	case nc := <-p.conns:
		return nc, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipe) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipe) Addr() net.Addr { return &net.TCPAddr{} }

// withPeer runs a test in a bubble of its own time, with a server and a connection to it whose prefaces are exchanged.
func withPeer(t *testing.T, cfg Config, h *echo, test func(*testing.T, *Server, *peer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		budget := new(inflight.Budget)
		budget.Limit(theLimit)
		s := New(cfg, h, budget)
		l := &pipe{conns: make(chan net.Conn), done: make(chan struct{})}
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		ours, theirs := net.Pipe()
		l.conns <- theirs
		p := &peer{tb: t, nc: ours, framer: http2.NewFramer(ours, ours)}
		p.enc = hpack.NewEncoder(&p.block)
		p.framer.AllowIllegalWrites = true
		p.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		go p.listen()
		if _, err := io.WriteString(ours, preface); err != nil {
			t.Fatal(err)
		}
		p.ok(p.framer.WriteSettings())
		defer func() { // also when the test gives up
			_ = ours.Close()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			s.Shutdown(ctx)
			if err := <-served; !errors.Is(err, ErrStopped) {
				t.Errorf("Serve ended with %v", err)
			}
			synctest.Wait() // for handlers that were cut
			if n := budget.Used(); n != 0 {
				t.Errorf("%d bytes are still held", n)
			}
		}()
		test(t, s, p)
	})
}

func (p *peer) ok(err error) {
	if err != nil {
		p.tb.Helper()
		p.tb.Fatal(err)
	}
}

// header returns a call's, encoded, with changes: pairs of a name and a value, "" to leave a field out.
func (p *peer) header(changes ...string) []byte {
	fields := [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", method}, {"content-type", "application/grpc"}, {"te", "trailers"}}
	for i := 0; i < len(changes); i += 2 {
		found := false
		for k := range fields {
			if fields[k][0] == changes[i] {
				fields[k][1], found = changes[i+1], true
			}
		}
		if !found {
			fields = append(fields, [2]string{changes[i], changes[i+1]})
		}
	}
	p.block.Reset()
	for _, f := range fields {
		if f[1] != "" {
			p.ok(p.enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
		}
	}
	return bytes.Clone(p.block.Bytes())
}

func (p *peer) open(id uint32, changes ...string) {
	p.ok(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.header(changes...), EndHeaders: true}))
}

func (p *peer) data(id uint32, end bool, b []byte) { p.ok(p.framer.WriteData(id, end, b)) }

func message(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...)
}

// listen notes what the server sends, a line a frame, until the connection ends.
func (p *peer) listen() {
	for {
		f, err := p.framer.ReadFrame()
		line := "end"
		if err == nil {
			line = describe(f)
		}
		p.mu.Lock()
		if line != "" {
			p.heard = append(p.heard, line)
		}
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// read returns what the server has said since, once it has nothing more to say. Settings and the connection's window are
// left out.
func (p *peer) read() string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	heard := strings.Join(p.heard, "\n")
	p.heard = nil
	return heard
}

func describe(f http2.Frame) string {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		return ""
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			return ""
		}
		return fmt.Sprintf("%d window %d", f.StreamID, f.Increment)
	case *http2.MetaHeadersFrame:
		var fields []string
		for _, field := range f.Fields {
			if field.Name != "content-type" {
				fields = append(fields, field.Name+" "+field.Value)
			}
		}
		line := fmt.Sprintf("%d %s", f.StreamID, strings.Join(fields, ", "))
		if f.StreamEnded() {
			line += " end"
		}
		return line
	case *http2.DataFrame:
		return fmt.Sprintf("%d data %q", f.StreamID, f.Data())
	case *http2.RSTStreamFrame:
		return fmt.Sprintf("%d reset %v", f.StreamID, f.ErrCode)
	case *http2.GoAwayFrame:
		return fmt.Sprintf("go away after %d: %v", f.LastStreamID, f.ErrCode)
	case *http2.PingFrame:
		return fmt.Sprintf("ping %q ack %v", f.Data, f.IsAck())
	default:
		return fmt.Sprint(f)
	}
}

// answered is what a call that went well is answered.
func answered(id uint32, text string) string {
	return fmt.Sprintf("%d :status 200\n%d data %q\n%d grpc-status 0 end", id, id, message([]byte(text)), id)
}

func refusal(id uint32, code codes.Code, text string) string {
	return fmt.Sprintf("%d :status 200, grpc-status %d, grpc-message %s end", id, code, text)
}
