// Package unary serves gRPC calls of one message each way, with the message undecoded. It speaks HTTP/2 as RFC 9113 asks
// of a server, and of gRPC (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md) what calls of one message need.
//
// It is here because an exporter's call carries few spans, so that what a server does for a call decides what a span
// costs: a connection's calls are read, handled and answered on the goroutine that reads it, its answers leave together,
// and a call allocates nothing of its own. Work beyond that goes to other processors if they have nothing to do.
package unary

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/status"

	"faultline/ingest/inflight"
)

// Config is what a Server allows its clients. A duration of 0 is never, a number of 0 the default.
type Config struct {
	MaxMessage int // bytes of a message as it is sent; 4 MiB by default
	MaxStreams int // calls at once over one connection; 100 by default
	MaxHeader  int // bytes of a call's header, as RFC 9113 counts them; 16 KiB by default
	ReadBuffer int // bytes read from a connection at once, at most; 256 KiB by default

	MaxIdle  time.Duration // after which a connection without calls is let go
	MaxAge   time.Duration // after which any connection is, give or take a tenth
	AgeGrace time.Duration // for the calls of a connection that is let go to end

	PingAfter   time.Duration // of silence
	PingTimeout time.Duration // after which a connection that does not answer a ping is cut
	MinPing     time.Duration // between a client's pings; one that keeps pinging more often is let go
	PingIdle    bool          // a client may ping when it makes no call

	TLS *tls.Config // nil: none

	// Header has calls come with every field of their header, at the cost of a map for each.
	Header bool

	// Blocking gives each call a goroutine of its own, for handlers that wait for others.
	Blocking bool

	// Hint is what a client is told that speaks HTTP/1.
	Hint string
}

// wrongProtocol is the answer to a client that speaks HTTP/1.
func (c *Config) wrongProtocol() string {
	return fmt.Sprintf("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(c.Hint), c.Hint)
}

// A Call is one call. It is valid until its answer is given.
type Call struct {
	Path          string              // "/package.Service/Method"
	Encoding      string              // of Message, if Compressed; "" or as in grpc-encoding
	Authorization string              // the header, "" unless there is one
	Header        map[string][]string // every field; nil unless Config.Header
	Peer          net.Addr
	Context       context.Context // done when the server stops; Admit may put another in its place

	Message    []byte
	Compressed bool
}

// A Fault is why a server refuses a call by itself.
type Fault uint8

// The faults.
const (
	TooLarge    Fault = iota // a message over the limit
	Overloaded               // no room among the bytes in flight
	Incomplete               // the client went away, or ended before its message did
	Unsupported              // no gRPC
	TooManyHeaders
)

// A Handler answers calls. Its methods are called concurrently.
type Handler interface {
	// Admit says whether a call's message may be sent at all: nil, or what to answer.
	Admit(call *Call) *status.Status
	// Handle answers a call: with a message, which must stay as it is, or with a status other than OK.
	Handle(call *Call) ([]byte, *status.Status)
	// Refuse learns of a call that the server refuses by itself, and says what to answer.
	Refuse(why Fault) *status.Status
}

// A Server serves the connections of listeners. Make one with New.
type Server struct {
	cfg     Config
	handler Handler
	budget  *inflight.Budget

	ctx    context.Context
	cancel context.CancelFunc
	work   chan job // to processors that have nothing to do

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	stopping  bool
	running   sync.WaitGroup // connections, workers, the sweeper
	started   bool
}

// New returns a server whose messages count against a budget of bytes from the first byte on until they are handled.
func New(cfg Config, handler Handler, budget *inflight.Budget) *Server {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&cfg.MaxMessage, 4<<20)
	def(&cfg.MaxStreams, 100)
	def(&cfg.MaxHeader, 16<<10)
	def(&cfg.ReadBuffer, 256<<10)
	cfg.ReadBuffer = max(cfg.ReadBuffer, 2*maxFrame)
	s := &Server{cfg: cfg, handler: handler, budget: budget, work: make(chan job), listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// ErrStopped is what Serve returns once the server is stopped.
var ErrStopped = errors.New("server stopped")

// Serve serves the connections of a listener until the server is stopped, which closes it, or the listener fails.
func (s *Server) Serve(l net.Listener) error {
	if !s.open(l) {
		return errors.Join(ErrStopped, l.Close())
	}
	for wait := time.Duration(0); ; {
		nc, err := l.Accept()
		if err != nil {
			if s.isStopping() {
				return ErrStopped
			}
			if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) && !errors.Is(err, syscall.ECONNABORTED) {
				return fmt.Errorf("accept: %w", err)
			}
			wait = min(max(2*wait, 5*time.Millisecond), time.Second) // others close theirs
			time.Sleep(wait)
			continue
		}
		wait = 0
		s.accept(nc)
	}
}

func (s *Server) open(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	s.listeners[l] = struct{}{}
	if !s.started {
		s.started = true
		s.running.Go(s.sweep)
		if !s.cfg.Blocking {
			for range runtime.GOMAXPROCS(0) - 1 {
				s.running.Go(s.help)
			}
		}
	}
	return true
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

func (s *Server) accept(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		_ = nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.running.Go(c.serve)
	s.mu.Unlock()
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// Shutdown takes no more connections and calls, and returns when all are done or ctx is over: what is then left is cut.
func (s *Server) Shutdown(ctx context.Context) {
	s.mu.Lock()
	s.stopping = true
	for l := range s.listeners {
		_ = l.Close()
	}
	clear(s.listeners)
	for c := range s.conns {
		go c.drain()
	}
	s.mu.Unlock()
	for s.connections() > 0 && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
	s.cancel()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.raw.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

func (s *Server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// A job is a call whose message is there.
type job struct {
	conn   *conn
	stream *stream
}

// help handles calls that came while their connection's goroutine was at work on others.
func (s *Server) help() {
	for {
		select {
		case j := <-s.work:
			j.conn.handle(j.stream)
			_ = j.conn.flush() // the reader learns of it too
		case <-s.ctx.Done():
			return
		}
	}
}

// sweep lets go of connections that are idle, old or dead.
func (s *Server) sweep() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			s.mu.Lock()
			for c := range s.conns {
				c.check(now)
			}
			s.mu.Unlock()
		case <-s.ctx.Done():
			return
		}
	}
}
