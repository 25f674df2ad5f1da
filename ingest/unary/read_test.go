package unary

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"faultline/ingest/inflight"
)

// TestFrames is what a server says to what a client may send, and to what it may not.
func TestFrames(t *testing.T) {
	hello := message([]byte("hello"))
	goAway := func(last int, code string) string { return fmt.Sprintf("go away after %d: %s\nend", last, code) }
	tests := []struct {
		name string
		say  func(p *peer)
		want string
	}{
		{"a call", func(p *peer) { p.open(1); p.data(1, true, hello) }, answered(1, "5")},
		{"an empty message", func(p *peer) { p.open(1); p.data(1, true, message(nil)) }, answered(1, "0")},
		{"two calls, mixed", func(p *peer) {
			p.open(1)
			p.open(3)
			p.data(1, false, hello[:7])
			p.data(3, true, message([]byte("me first")))
			p.data(1, true, hello[7:])
		}, answered(3, "8") + "\n" + answered(1, "5")},
		{"byte by byte", func(p *peer) {
			p.open(1)
			for _, b := range hello {
				p.data(1, false, []byte{b})
			}
			p.data(1, true, nil)
		}, answered(1, "5")},
		{"trailers", func(p *peer) {
			p.open(1)
			p.data(1, false, hello)
			p.ok(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.header(":method", "", ":scheme", "", ":path", "", "x-more", "1"), EndHeaders: true, EndStream: true}))
		}, answered(1, "5")},
		{"padding", func(p *peer) {
			p.ok(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.header(), EndHeaders: true, PadLength: 7, Priority: http2.PriorityParam{Weight: 9}}))
			p.ok(p.framer.WriteDataPadded(1, true, hello, make([]byte, 5)))
		}, "1 window 6\n" + answered(1, "5")},
		{"a header in parts", func(p *peer) {
			block := p.header("x-long", strings.Repeat("a", 100))
			p.ok(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:3]}))
			p.ok(p.framer.WriteContinuation(1, false, block[3:10]))
			p.ok(p.framer.WriteContinuation(1, true, block[10:]))
			p.data(1, true, hello)
		}, answered(1, "5")},
		{"frames of no interest", func(p *peer) {
			p.open(1)
			p.ok(p.framer.WritePriority(1, http2.PriorityParam{Weight: 3}))
			p.ok(p.framer.WriteRawFrame(0x77, 0, 5, []byte("future")))
			p.ok(p.framer.WriteWindowUpdate(0, 10))
			p.ok(p.framer.WriteWindowUpdate(1, 10))
			p.data(1, false, nil)
			p.data(1, true, hello)
		}, answered(1, "5")},
		{"ping", func(p *peer) { p.ok(p.framer.WritePing(false, [8]byte{1, 2, 3})) }, `ping "\x01\x02\x03\x00\x00\x00\x00\x00" ack true`},

		{
			"refused before its message", func(p *peer) { p.open(1, ":path", "/denied"); p.data(1, true, hello) },
			refusal(1, codes.PermissionDenied, "not you: 100 %25 sure, %E2%80%9Cever%E2%80%9D") + "\n1 reset NO_ERROR",
		},
		{"then another", func(p *peer) {
			p.open(1, ":path", "/denied")
			p.open(3)
			p.data(1, true, hello)
			p.data(3, true, hello)
		}, refusal(1, codes.PermissionDenied, "not you: 100 %25 sure, %E2%80%9Cever%E2%80%9D") + "\n1 reset NO_ERROR\n" + answered(3, "5")},
		{"GET", func(p *peer) { p.open(1, ":method", "GET") }, strings.Replace(refusal(1, codes.Unimplemented, "refused"), "200", "405", 1) + "\n1 reset NO_ERROR"},
		{"no gRPC", func(p *peer) { p.open(1, "content-type", "application/json") }, strings.Replace(refusal(1, codes.Unimplemented, "refused"), "200", "415", 1) + "\n1 reset NO_ERROR"},
		{"JSON over gRPC", func(p *peer) { p.open(1, "content-type", "application/grpc+json") }, strings.Replace(refusal(1, codes.Unimplemented, "refused"), "200", "415", 1) + "\n1 reset NO_ERROR"},
		{"gRPC in another writing", func(p *peer) {
			p.open(1, "content-type", "application/grpc+proto; charset=utf-8")
			p.data(1, true, hello)
		}, answered(1, "5")},
		{"no path", func(p *peer) { p.open(1, ":path", "") }, "1 reset PROTOCOL_ERROR"},
		{"an unknown pseudo-header", func(p *peer) { p.open(1, ":status", "200") }, "1 reset PROTOCOL_ERROR"},
		{"a name in upper case", func(p *peer) { p.open(1, "X-Upper", "1") }, "1 reset PROTOCOL_ERROR"},
		{"a field of HTTP/1", func(p *peer) { p.open(1, "connection", "close") }, "1 reset PROTOCOL_ERROR"},
		{"a path that comes late", func(p *peer) {
			block := append(p.header(":path", ""), p.header(":method", "", ":scheme", "", "content-type", "", "te", "")...)
			p.ok(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true}))
		}, "1 reset PROTOCOL_ERROR"},
		{"a method that comes twice", func(p *peer) {
			block := append(p.header(":scheme", "", ":path", "", "content-type", "", "te", ""), p.header()...)
			p.ok(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true}))
		}, "1 reset PROTOCOL_ERROR"},
		{"trailers that begin a request", func(p *peer) {
			p.open(1)
			p.data(1, false, hello)
			p.ok(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.header(), EndHeaders: true, EndStream: true}))
		}, goAway(1, "PROTOCOL_ERROR")},
		{"too large", func(p *peer) { p.open(1); p.data(1, false, []byte{0, 0xff, 0, 0, 0, 1}) }, refusal(1, codes.ResourceExhausted, "refused") + "\n1 reset NO_ERROR"},
		{"two messages", func(p *peer) { p.open(1); p.data(1, true, append(hello, hello...)) }, refusal(1, codes.Canceled, "refused") + "\n1 reset NO_ERROR"},
		{"half a message", func(p *peer) { p.open(1); p.data(1, true, hello[:8]) }, refusal(1, codes.Canceled, "refused")},
		{"no message", func(p *peer) {
			p.ok(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.header(), EndHeaders: true, EndStream: true}))
		}, refusal(1, codes.Canceled, "refused")},
		{"given up", func(p *peer) {
			p.open(1)
			p.data(1, false, hello[:8])
			p.ok(p.framer.WriteRSTStream(1, http2.ErrCodeCancel))
		}, ""},
		{"a header over the limit", func(p *peer) {
			for i := range 20 {
				block := p.header("x-a", strings.Repeat("a", 1000), fmt.Sprint("x-", i), strings.Repeat("b", 1200))
				p.ok(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block, EndHeaders: true}))
				p.ok(p.framer.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel))
			}
			p.open(99)
			p.data(99, true, hello)
			many := make([]string, 0, 40)
			for i := range 20 {
				many = append(many, fmt.Sprint("y-", i), strings.Repeat("c", 1000))
			}
			block := p.header(many...)
			p.ok(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 101, BlockFragment: block[:len(block)/2]}))
			p.ok(p.framer.WriteContinuation(101, true, block[len(block)/2:]))
			p.open(103)
			p.data(103, true, hello)
		}, answered(99, "5") + "\n" + refusal(101, codes.ResourceExhausted, "refused") + "\n101 reset NO_ERROR\n" + answered(103, "5")},
		{"more streams than may be", func(p *peer) {
			for i := range 5 {
				p.open(uint32(2*i + 1))
			}
			p.data(7, true, hello)
		}, "9 reset REFUSED_STREAM\n" + answered(7, "5")},

		{"a frame too large", func(p *peer) { p.open(1); _ = p.framer.WriteData(1, true, make([]byte, maxFrame+1)) }, goAway(1, "FRAME_SIZE_ERROR")},
		{"a stream of the server's", func(p *peer) { p.open(2) }, goAway(0, "PROTOCOL_ERROR")},
		{"data of no stream", func(p *peer) { p.data(0, true, hello) }, goAway(0, "PROTOCOL_ERROR")},
		{"data before a header", func(p *peer) { p.data(5, true, hello) }, goAway(0, "PROTOCOL_ERROR")},
		{"a reset before a header", func(p *peer) { p.ok(p.framer.WriteRSTStream(5, http2.ErrCodeCancel)) }, goAway(0, "PROTOCOL_ERROR")},
		{"a window before a header", func(p *peer) { p.ok(p.framer.WriteWindowUpdate(5, 1)) }, goAway(0, "PROTOCOL_ERROR")},
		{"a header after data that does not end", func(p *peer) { p.open(1); p.data(1, false, hello); p.open(1) }, goAway(1, "PROTOCOL_ERROR")},
		{"a header that another frame breaks", func(p *peer) {
			p.ok(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.header()[:3]}))
			p.ok(p.framer.WritePing(false, [8]byte{}))
		}, goAway(0, "PROTOCOL_ERROR")},
		{"a continuation of nothing", func(p *peer) { p.ok(p.framer.WriteContinuation(1, true, p.header())) }, goAway(0, "PROTOCOL_ERROR")},
		{"continuations without end", func(p *peer) {
			p.ok(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.header()}))
			for range maxContinuations + 1 {
				p.ok(p.framer.WriteContinuation(1, false, nil))
			}
		}, goAway(0, "ENHANCE_YOUR_CALM")},
		{"no header at all", func(p *peer) {
			p.ok(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true}))
		}, goAway(0, "COMPRESSION_ERROR")},
		{"half a header", func(p *peer) {
			block := p.header()
			p.ok(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:len(block)-2], EndHeaders: true}))
		}, goAway(0, "COMPRESSION_ERROR")},
		{"padding longer than its frame", func(p *peer) {
			p.open(1)
			p.ok(p.framer.WriteRawFrame(http2.FrameData, flagPadded, 1, []byte{9, 1, 2}))
		}, goAway(1, "PROTOCOL_ERROR")},
		{"a window too large", func(p *peer) { p.ok(p.framer.WriteWindowUpdate(0, maxWindow)) }, goAway(0, "FLOW_CONTROL_ERROR")},
		{"a window of nothing", func(p *peer) { p.ok(p.framer.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, make([]byte, 4))) }, goAway(0, "PROTOCOL_ERROR")},
		{"a setting too large", func(p *peer) {
			p.ok(p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}))
		}, goAway(0, "FLOW_CONTROL_ERROR")},
		{"half a setting", func(p *peer) { p.ok(p.framer.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, 5))) }, goAway(0, "FRAME_SIZE_ERROR")},
		{"a setting of a stream", func(p *peer) { p.ok(p.framer.WriteRawFrame(http2.FrameSettings, 0, 1, nil)) }, goAway(0, "PROTOCOL_ERROR")},
		{"half a ping", func(p *peer) { p.ok(p.framer.WriteRawFrame(http2.FramePing, 0, 0, make([]byte, 4))) }, goAway(0, "FRAME_SIZE_ERROR")},
		{"a push", func(p *peer) { p.ok(p.framer.WriteRawFrame(http2.FramePushPromise, 0, 1, make([]byte, 8))) }, goAway(0, "PROTOCOL_ERROR")},
		{"rapid reset", func(p *peer) {
			for i := range maxIdleFrames + 1 {
				id := uint32(2*i + 1)
				if p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.header(), EndHeaders: true}) != nil || p.framer.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
					return
				}
			}
		}, goAway(2*maxIdleFrames-1, "ENHANCE_YOUR_CALM")},
		{"settings without end", func(p *peer) {
			for range maxIdleFrames + 1 {
				if p.framer.WriteSettings() != nil {
					return
				}
			}
		}, goAway(0, "ENHANCE_YOUR_CALM")},
		{"pings without end", func(p *peer) {
			for range maxStrikes + 2 {
				p.ok(p.framer.WritePing(false, [8]byte{}))
			}
		}, strings.Repeat("ping \"\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\" ack true\n", maxStrikes+1) + goAway(0, "ENHANCE_YOUR_CALM")},
		{"pings between calls", func(p *peer) {
			for i := range uint32(6) {
				p.open(2*i + 1)
				p.data(2*i+1, true, hello)
				p.ok(p.framer.WritePing(false, [8]byte{}))
				synctest.Wait()
			}
			p.mu.Lock()
			p.heard = p.heard[:0]
			p.mu.Unlock()
		}, ""},
		{
			"goes away", func(p *peer) { p.open(1); p.ok(p.framer.WriteGoAway(0, http2.ErrCodeNo, nil)); p.data(1, true, hello) },
			"go away after 1: NO_ERROR\n" + answered(1, "5") + "\nend",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := new(echo)
			withPeer(t, Config{MaxMessage: maxTest, MaxStreams: 4, MinPing: 5 * time.Second, PingIdle: true}, h, func(t *testing.T, _ *Server, p *peer) {
				tt.say(p)
				got := p.read()
				if strings.HasSuffix(tt.want, "\nend") { // once the server has waited for the client to close
					time.Sleep(2 * lingerTimeout)
					got = strings.TrimPrefix(got+"\n"+p.read(), "\n")
				}
				if got != tt.want {
					t.Errorf("got\n%s\nwant\n%s", got, tt.want)
				}
				if tt.name == "given up" && h.count(Incomplete) != 1 {
					t.Error("a message that broke off was not counted")
				}
			})
		})
	}
}

// An answer waits for the client to have room, on its stream and on the connection, and leaves as soon as there is.
func TestAnswersWaitForRoom(t *testing.T) {
	hello := message([]byte("hello"))
	withPeer(t, Config{}, new(echo), func(t *testing.T, _ *Server, p *peer) {
		say := func(want string) {
			t.Helper()
			if got := p.read(); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		}
		p.ok(p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
		p.open(1)
		p.data(1, true, hello)
		p.open(3)
		p.data(3, true, hello)
		say("")
		p.ok(p.framer.WriteWindowUpdate(3, 5))
		say("")
		p.ok(p.framer.WriteWindowUpdate(3, 1))
		say(answered(3, "5"))
		p.ok(p.framer.WriteRSTStream(1, http2.ErrCodeCancel))
		p.open(5)
		p.data(5, true, hello)
		p.ok(p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}))
		say(answered(5, "5"))
		// The connection has 65,535 bytes, six of which an answer takes.
		sent := 2
		for id := uint32(7); sent < defaultWindow/6; id, sent = id+2, sent+1 {
			p.open(id)
			p.data(id, true, hello)
		}
		_ = p.read()
		p.open(100_001)
		p.data(100_001, true, hello)
		say("")
		p.ok(p.framer.WriteWindowUpdate(0, 6))
		say(answered(100_001, "5"))
	})
}

// What time asks for: a connection that is idle, old or dead does not last, and one that only waits does.
func TestTime(t *testing.T) {
	hello := message([]byte("hello"))
	t.Run("idle", func(t *testing.T) {
		withPeer(t, Config{MaxIdle: time.Minute}, new(echo), func(t *testing.T, _ *Server, p *peer) {
			time.Sleep(50 * time.Second)
			p.open(1)
			p.data(1, true, hello)
			time.Sleep(50 * time.Second)
			if got := p.read(); got != answered(1, "5") {
				t.Fatalf("got\n%s", got)
			}
			time.Sleep(13 * time.Second)
			if got := p.read(); got != "go away after 1: NO_ERROR\nend" {
				t.Errorf("got\n%s", got)
			}
		})
	})
	t.Run("not idle while a call is open", func(t *testing.T) {
		withPeer(t, Config{MaxIdle: time.Minute}, new(echo), func(t *testing.T, _ *Server, p *peer) {
			p.open(1)
			time.Sleep(10 * time.Minute)
			p.data(1, true, hello)
			if got := p.read(); got != answered(1, "5") {
				t.Errorf("got\n%s", got)
			}
		})
	})
	t.Run("old", func(t *testing.T) {
		withPeer(t, Config{MaxAge: 10 * time.Minute, AgeGrace: 5 * time.Minute}, new(echo), func(t *testing.T, _ *Server, p *peer) {
			time.Sleep(8 * time.Minute)
			p.open(1)
			p.data(1, false, hello[:3])
			time.Sleep(3*time.Minute + 30*time.Second)
			if got := p.read(); got != "go away after 1: NO_ERROR" {
				t.Fatalf("got\n%s", got)
			}
			p.open(3) // is not served any more
			p.data(1, true, hello[3:])
			if got := p.read(); got != answered(1, "5") {
				t.Fatalf("got\n%s", got)
			}
			time.Sleep(2 * time.Second)
			if got := p.read(); got != "end" {
				t.Errorf("got\n%s", got)
			}
		})
	})
	t.Run("old and never done", func(t *testing.T) {
		h := new(echo)
		withPeer(t, Config{MaxAge: 10 * time.Minute, AgeGrace: time.Minute}, h, func(t *testing.T, _ *Server, p *peer) {
			p.open(1)
			p.data(1, false, hello[:7])
			time.Sleep(13 * time.Minute)
			if got := p.read(); got != "go away after 1: NO_ERROR\nend" {
				t.Errorf("got\n%s", got)
			}
			if h.count(Incomplete) != 1 {
				t.Error("a message that broke off was not counted")
			}
		})
	})
	t.Run("dead", func(t *testing.T) {
		withPeer(t, Config{PingAfter: 30 * time.Second, PingTimeout: 10 * time.Second}, new(echo), func(t *testing.T, _ *Server, p *peer) {
			time.Sleep(32 * time.Second)
			if got := p.read(); got != `ping "alive?  " ack false` {
				t.Fatalf("got\n%s", got)
			}
			p.ok(p.framer.WritePing(true, [8]byte{}))
			time.Sleep(29 * time.Second)
			if got := p.read(); got != "" {
				t.Fatalf("got\n%s", got)
			}
			time.Sleep(15 * time.Second)
			if got := p.read(); got != "ping \"alive?  \" ack false\nend" {
				t.Errorf("got\n%s", got)
			}
		})
	})
	t.Run("silent from the start", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			c := newConn(New(Config{}, new(echo), new(inflight.Budget)), theirs)
			begin := time.Now()
			c.serve()
			if took := time.Since(begin); took != handshakeTimeout {
				t.Errorf("was let be for %v", took)
			}
			_ = ours.Close()
		})
	})
}

// A server that stops answers what it has, takes nothing new, and cuts what does not end in time.
func TestShutdown(t *testing.T) {
	hello := message([]byte("hello"))
	t.Run("in time", func(t *testing.T) {
		h := new(echo)
		withPeer(t, Config{Blocking: true}, h, func(t *testing.T, s *Server, p *peer) {
			h.gate = make(chan struct{}) // of the bubble
			p.open(1)
			p.data(1, true, hello)
			synctest.Wait()
			stopped := make(chan struct{})
			go func() { s.Shutdown(context.Background()); close(stopped) }()
			if got := p.read(); got != "go away after 1: NO_ERROR" {
				t.Errorf("got\n%s", got)
			}
			p.open(3)
			p.data(3, true, hello)
			close(h.gate)
			if got := p.read(); got != answered(1, "5") {
				t.Errorf("got\n%s", got)
			}
			<-stopped
			if h.handled != 1 {
				t.Errorf("%d calls were handled", h.handled)
			}
		})
	})
	t.Run("too late", func(t *testing.T) {
		h := new(echo)
		withPeer(t, Config{Blocking: true}, h, func(t *testing.T, s *Server, p *peer) {
			h.gate = make(chan struct{}) // of the bubble
			p.open(1)
			p.data(1, true, hello)
			synctest.Wait()
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			begin := time.Now()
			s.Shutdown(ctx)
			if took := time.Since(begin); took > 5100*time.Millisecond {
				t.Errorf("took %v", took)
			}
		})
	})
}

// What is over the budget is refused, and what was held for it is given back.
func TestBudget(t *testing.T) {
	budget := new(inflight.Budget)
	budget.Limit(1 << 20)
	h := new(echo)
	s := New(Config{MaxMessage: 8 << 20}, h, budget)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	defer s.Shutdown(context.Background())
	conn := dial(t, l.Addr().String())
	if _, err := invoke(conn, method, make([]byte, 2<<20)); err == nil {
		t.Error("two MiB found room in one")
	}
	if got, err := invoke(conn, method, make([]byte, 1000)); err != nil || got != "1000" {
		t.Errorf("%q, %v", got, err)
	}
	if h.count(Overloaded) != 1 || budget.Used() != 0 {
		t.Errorf("%d counted, %d bytes held", h.count(Overloaded), budget.Used())
	}
	_ = conn.Close()
}

// said returns the bytes of a client that makes calls of several sizes.
func said(tb testing.TB, sizes ...int) []byte {
	var b bytes.Buffer
	b.WriteString(preface)
	p := &peer{tb: tb, framer: http2.NewFramer(&b, nil)}
	p.enc = hpack.NewEncoder(&p.block)
	p.ok(p.framer.WriteSettings())
	for i, n := range sizes {
		id := uint32(2*i + 1)
		p.open(id)
		for m := message(make([]byte, n)); ; {
			k := min(len(m), maxFrame)
			p.data(id, k == len(m), m[:k])
			if m = m[k:]; len(m) == 0 {
				break
			}
		}
	}
	return b.Bytes()
}

// exchange has a client say something to a server and go, and returns what the server made of it.
func exchange(pieces func(nc net.Conn)) (h *echo, held int64) {
	budget := new(inflight.Budget)
	budget.Limit(theLimit)
	h = new(echo)
	s := New(Config{MaxMessage: maxTest}, h, budget)
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { newConn(s, theirs).serve(); close(done) }()
	read := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, ours); close(read) }()
	pieces(ours)
	_ = ours.Close()
	<-done
	<-read
	return h, budget.Used()
}

// However the network splits a client's bytes, the same calls are handled.
func TestSplitsDoNotMatter(t *testing.T) {
	sizes := []int{0, 5, 16379, 40_000, 16384, 1}
	all := said(t, sizes...)
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 50 {
		most := 1 + rng.IntN(1<<(1+round%16))
		h, held := exchange(func(nc net.Conn) {
			for rest := all; len(rest) > 0; {
				n := min(len(rest), 1+rng.IntN(most))
				if _, err := nc.Write(rest[:n]); err != nil {
					t.Error(err)
					return
				}
				rest = rest[n:]
			}
		})
		if h.handled != len(sizes) || held != 0 {
			t.Fatalf("pieces of up to %d: %d calls of %d, %d bytes held", most, h.handled, len(sizes), held)
		}
	}
}

// FuzzServer gives a server whatever there may be. It must come to an end when the client does, and hold nothing.
func FuzzServer(f *testing.F) {
	f.Add(said(f, 5))
	f.Add(said(f, 0, 20_000, 3)[:17_000])
	f.Add([]byte(preface))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	p := &peer{tb: f}
	for _, kind := range []http2.FrameType{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10} {
		b := bytes.NewBuffer(said(f, 1))
		p.framer = http2.NewFramer(b, nil)
		p.ok(p.framer.WriteRawFrame(kind, 0xd, 3, binary.BigEndian.AppendUint64(nil, 0x0102030405060708)))
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, held := exchange(func(nc net.Conn) { _, _ = nc.Write(b) })
		if held != 0 {
			t.Errorf("%d bytes are still held", held)
		}
	})
}

// A header of any fields is written so that another implementation reads it back.
func TestRefusalIsReadBack(t *testing.T) {
	for _, text := range []string{"", "plain", "100 %", "\x00\xff\n", strings.Repeat("long ", 1000), "ü"} {
		frame := appendRefusal(nil, 7, "", status.New(codes.Internal, text))
		fr := http2.NewFramer(io.Discard, bytes.NewReader(frame))
		fr.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatalf("%.20q: %v", text, err)
		}
		got := f.(*http2.MetaHeadersFrame)
		if got.PseudoValue("status") != "200" || got.StreamID != 7 || !got.StreamEnded() {
			t.Errorf("%.20q: %v", text, got)
		}
	}
}

// BenchmarkCall is a call of a message as an SDK sends it, 8 at once over one connection, beside grpc-go's server with a
// codec that hands bytes over; the client is part of both.
func BenchmarkCall(b *testing.B) {
	body := make([]byte, 18_000)
	run := func(b *testing.B, addr string) {
		conn := dial(b, addr)
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		b.SetParallelism(4)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := invoke(conn, method, body); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	b.Run("ours", func(b *testing.B) {
		addr := serving(b, Config{}, new(echo))
		run(b, addr)
	})
	b.Run("grpc-go", func(b *testing.B) {
		s := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}))
		s.RegisterService(&grpc.ServiceDesc{ServiceName: "test.Service", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
			MethodName: "Call", Handler: func(_ any, _ context.Context, receive func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				var m mem.Buffer
				if err := receive(&m); err != nil {
					return nil, err
				}
				defer m.Free()
				return fmt.Append(nil, m.Len()), nil
			},
		}}}, nil)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			if err := s.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				b.Error(err)
			}
		}()
		defer s.Stop()
		run(b, l.Addr().String())
	})
}

type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*mem.Buffer) = data.MaterializeToBuffer(mem.DefaultBufferPool())
	return nil
}
