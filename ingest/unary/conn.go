package unary

import (
	"cmp"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2/hpack"
)

const (
	preface       = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	frameHeader   = 9
	maxFrame      = 16 << 10 // bytes of a frame's payload; what every endpoint must take, and all that most send
	defaultWindow = 64<<10 - 1
	connWindow    = 8 << 20 // bytes that a client may send ahead over one connection
	maxWindow     = 1<<31 - 1

	handshakeTimeout = 10 * time.Second
	writeTimeout     = 10 * time.Second
	flushAt          = 16 << 10 // bytes of answers that do not wait for more

	tableSize        = 4 << 10       // bytes of HPACK's dynamic table; what every decoder must have
	maxContinuations = 16            // of one header
	maxIdleFrames    = 10_000        // frames that are no use to a call, between two calls
	idlePing         = 2 * time.Hour // between pings without a call, where these are not allowed, as grpc-go has it
	maxStrikes       = 2             // pings that came too soon
)

// conn is one connection. Its serve is the only reader; mu guards what is written and who is served.
type conn struct {
	s    *Server
	raw  net.Conn
	nc   net.Conn // raw, or TLS over it
	in   input    // of the reader alone
	born time.Time
	age  time.Duration // at which it is let go; 0: never

	lastRead atomic.Int64 // Unix ns

	// Of the reader alone.
	hpack      *hpack.Decoder
	header     header
	credit     int // bytes taken that the client does not know of yet
	idleFrames int
	lastPing   time.Time

	mu          sync.Mutex
	out         []byte // frames to send
	err         error  // of writing, or errFinished: nothing is sent any more
	streams     map[uint32]*stream
	last        uint32 // the highest stream that the client opened
	window      int64  // bytes of answers that the client has room for
	firstWindow int64  // the same for a stream that opens
	draining    time.Time
	idleSince   time.Time // zero while there are calls
	strikes     int
	pinged      time.Time // zero unless a ping of ours is not answered
}

// errFinished says that the last byte was sent.
var errFinished = errors.New("connection finished")

func newConn(s *Server, raw net.Conn) *conn {
	now := time.Now()
	nc := raw
	if s.cfg.TLS != nil {
		nc = tls.Server(raw, s.cfg.TLS)
	}
	c := &conn{
		s: s, raw: raw, nc: nc, born: now, idleSince: now, in: newInput(nc, s.cfg.ReadBuffer),
		streams: map[uint32]*stream{}, window: defaultWindow, firstWindow: defaultWindow,
	}
	if s.cfg.MaxAge > 0 {
		// Connections that came together must not leave together.
		c.age = time.Duration(float64(s.cfg.MaxAge) * (0.9 + 0.2*rand.Float64()))
	}
	c.lastRead.Store(now.UnixNano())
	c.header.limit, c.header.keep = s.cfg.MaxHeader, s.cfg.Header
	c.hpack = hpack.NewDecoder(tableSize, c.header.add)
	c.hpack.SetMaxStringLength(s.cfg.MaxHeader)
	return c
}

// serve reads the connection to its end.
func (c *conn) serve() {
	defer c.s.forget(c)
	err := c.greet()
	for err == nil {
		err = c.next()
	}
	var code codeError
	c.mu.Lock()
	if errors.As(err, &code) {
		c.goAway(code)
		c.finish()
	}
	c.err = cmp.Or(c.err, err)
	for _, st := range c.streams {
		delete(c.streams, st.id)
		if !st.whole {
			c.s.handler.Refuse(Incomplete) // nobody is there to hear the answer
			st.free()
		}
	}
	finished := errors.Is(c.err, errFinished)
	c.mu.Unlock()
	if finished {
		c.in.drop() // closing on unread bytes would take back what was sent
	}
	_ = c.nc.Close()
}

// greet reads the client's preface and sends ours.
func (c *conn) greet() error {
	_ = c.nc.SetDeadline(c.born.Add(handshakeTimeout)) // fails when reading will
	if got, err := c.in.peek(1); err != nil {
		return err
	} else if got[0] != preface[0] || !c.saysPRI() {
		c.s.handler.Refuse(Unsupported)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.out = append(c.out, c.s.cfg.wrongProtocol()...)
		c.finish()
		return c.err
	}
	got, err := c.in.peek(len(preface))
	if err != nil {
		return err
	}
	if string(got) != preface {
		return errProtocol
	}
	c.in.skip(len(preface))
	c.mu.Lock()
	c.out = appendSettings(c.out, settingMaxStreams, uint32(c.s.cfg.MaxStreams), settingInitialWindow, uint32(c.streamWindow()),
		settingMaxHeaderList, uint32(c.s.cfg.MaxHeader))
	c.out = appendWindowUpdate(c.out, 0, connWindow-defaultWindow)
	err = c.send()
	c.mu.Unlock()
	if err != nil {
		return err
	}
	h, err := c.in.peek(frameHeader)
	if err != nil {
		return err
	}
	if h[3] != frameSettings {
		return errProtocol
	}
	return c.nc.SetReadDeadline(time.Time{})
}

// saysPRI tells HTTP/2 from a POST, PUT or PATCH.
func (c *conn) saysPRI() bool {
	got, err := c.in.peek(len("PRI"))
	return err != nil || string(got) == "PRI"
}

// streamWindow is what a client may send over one stream: its message, so that no stream waits for an update.
func (c *conn) streamWindow() int {
	return min(c.s.cfg.MaxMessage+len(stream{}.prefix)+maxFrame, maxWindow)
}

// flush sends what there is to send.
func (c *conn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.send()
}

// send is flush with mu held.
func (c *conn) send() error {
	if c.err != nil || len(c.out) == 0 {
		return c.err
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(writeTimeout)) // fails when writing will
	if _, err := c.nc.Write(c.out); err != nil {
		c.err = err
		_ = c.raw.Close()
	}
	if c.out = c.out[:0]; cap(c.out) > 4*flushAt {
		c.out = nil
	}
	return c.err
}

// lingerTimeout is how long a client may take to close a connection that we have finished.
const lingerTimeout = time.Second

// finish sends what there is and ends our half of the connection; the reader stays until the client ends its own: one that
// is closed on unread bytes is reset, which may take the last answers with it. Called with mu held.
func (c *conn) finish() {
	if c.send() != nil {
		return
	}
	c.err = errFinished
	_ = c.nc.SetReadDeadline(time.Now().Add(lingerTimeout)) // fails when reading will
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// drain asks the client to make its next calls elsewhere, and closes the connection after those that are there.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.letGo()
}

// letGo is drain with mu held.
func (c *conn) letGo() {
	if !c.draining.IsZero() {
		return
	}
	c.goAway(errNone)
	_ = c.send() // the reader learns of it too
	if len(c.streams) == 0 {
		c.finish()
	}
}

// goAway says that no stream beyond the last is served. Called with mu held.
func (c *conn) goAway(code codeError) {
	c.draining = time.Now()
	c.out = appendFrame(c.out, 8, frameGoAway, 0, 0)
	c.out = binary.BigEndian.AppendUint32(c.out, c.last)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(code))
}

// check does what the time asks for: ping, let go, cut. It never waits.
func (c *conn) check(now time.Time) {
	if !c.mu.TryLock() {
		return // at work, so alive
	}
	defer c.mu.Unlock()
	cfg := &c.s.cfg
	quiet := now.Sub(time.Unix(0, c.lastRead.Load()))
	switch {
	case c.err != nil:
	case !c.draining.IsZero():
		if cfg.AgeGrace > 0 && now.Sub(c.draining) > cfg.AgeGrace {
			_ = c.raw.Close()
		}
	case c.age > 0 && now.Sub(c.born) > c.age,
		cfg.MaxIdle > 0 && !c.idleSince.IsZero() && now.Sub(c.idleSince) > cfg.MaxIdle:
		go c.drain()
	case !c.pinged.IsZero():
		if quiet < now.Sub(c.pinged) {
			c.pinged = time.Time{} // something came since
		} else if now.Sub(c.pinged) > cfg.PingTimeout {
			_ = c.raw.Close()
		}
	case cfg.PingAfter > 0 && quiet > cfg.PingAfter:
		c.pinged = now
		c.out = append(appendFrame(c.out, 8, framePing, 0, 0), "alive?  "...)
		go c.flush() //nolint:errcheck // the reader learns of it too
	}
}
