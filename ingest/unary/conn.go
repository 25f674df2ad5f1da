package unary

import (
	"cmp"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/status"

	"faultline/ingest/inflight"
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

// An codeError is one of RFC 9113, section 7. As an error it ends the connection.
type codeError uint32

const (
	errNone          codeError = 0x0
	errProtocol      codeError = 0x1
	errFlowControl   codeError = 0x3
	errFrameSize     codeError = 0x6
	errRefusedStream codeError = 0x7
	errCompression   codeError = 0x9
	errCalm          codeError = 0xb
)

func (e codeError) Error() string { return fmt.Sprintf("HTTP/2 error %#x", uint32(e)) }

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

// stream is one call on its way.
type stream struct {
	id     uint32
	call   Call
	prefix [5]byte
	have   int // bytes of prefix
	body   inflight.Body
	size   int // of the message

	// Guarded by conn.mu.
	whole  bool   // the client has sent all of it, or all that it will
	waits  bool   // for window
	answer []byte // that waits
	window int64
}

// errFinished says that the last byte was sent.
var errFinished = errors.New("connection finished")

var streamPool = sync.Pool{New: func() any { return new(stream) }}

// free makes the stream another call's.
func (st *stream) free() {
	st.body.Free()
	*st = stream{}
	streamPool.Put(st)
}

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

// next reads one frame and does what it asks for.
func (c *conn) next() error {
	h, err := c.peek(frameHeader)
	if err != nil {
		return err
	}
	length := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
	kind, flags, id := h[3], h[4], binary.BigEndian.Uint32(h[5:])&maxWindow
	if length > maxFrame {
		return errFrameSize
	}
	f, err := c.peek(frameHeader + length)
	if err != nil {
		return err
	}
	payload := f[frameHeader:]
	switch kind {
	case frameData:
		err = c.onData(id, flags, payload)
	case frameHeaders:
		return c.onHeaders(id, flags, payload) // which reads on
	case frameReset:
		err = c.onReset(id, payload)
	case frameSettings:
		err = c.onSettings(id, flags, payload)
	case framePing:
		err = c.onPing(id, flags, payload)
	case frameWindowUpdate:
		err = c.onWindowUpdate(id, payload)
	case framePriority:
		if id == 0 || length != 5 {
			return errProtocol
		}
		err = c.idle()
	case frameGoAway:
		if id != 0 {
			return errProtocol
		}
		c.drain()
		err = c.idle()
	case framePushPromise, frameContinuation:
		return errProtocol
	default: // to be ignored, by section 5.5
		err = c.idle()
	}
	if err != nil {
		return err
	}
	c.in.skip(frameHeader + length)
	return nil
}

// peek returns the next n bytes. Before it waits for them, what was answered goes out.
func (c *conn) peek(n int) ([]byte, error) {
	if c.in.buffered() >= n {
		return c.in.peek(n)
	}
	if err := c.flush(); err != nil && !errors.Is(err, errFinished) {
		return nil, err
	}
	b, err := c.in.peek(n)
	c.lastRead.Store(time.Now().UnixNano())
	return b, err
}

// idle counts a frame that is no use to any call. A client may send as many as it likes, as long as it also calls.
func (c *conn) idle() error {
	c.idleFrames++
	if c.idleFrames > maxIdleFrames {
		return errCalm
	}
	return nil
}

// unpad returns a frame's payload without its padding.
func unpad(flags byte, payload []byte) ([]byte, error) {
	if flags&flagPadded == 0 {
		return payload, nil
	}
	if len(payload) == 0 || int(payload[0]) >= len(payload) {
		return nil, errProtocol
	}
	return payload[1 : len(payload)-int(payload[0])], nil
}

func (c *conn) onHeaders(id uint32, flags byte, payload []byte) error {
	if id%2 == 0 {
		return errProtocol
	}
	size := frameHeader + len(payload)
	fragment, err := unpad(flags, payload)
	if err != nil {
		return err
	}
	if flags&flagPriority != 0 {
		if len(fragment) < 5 {
			return errFrameSize
		}
		fragment = fragment[5:]
	}
	// Read even if nobody wants it: both ends' tables must stay the same.
	c.header.reset()
	if err := c.decode(fragment); err != nil {
		return err
	}
	c.in.skip(size) // it was peeked
	for ended := flags&flagEndHeaders != 0; !ended; {
		if ended, err = c.onContinuation(id); err != nil {
			return err
		}
	}
	if err := c.hpack.Close(); err != nil {
		return errCompression
	}
	c.mu.Lock()
	st := c.streams[id]
	isNew := id > c.last
	var refused bool
	switch {
	case !isNew:
	case !c.draining.IsZero():
		isNew = false // not ours any more, which the client was told
	case len(c.streams) >= c.s.cfg.MaxStreams:
		c.last, refused = id, true
		c.out = appendReset(c.out, id, errRefusedStream)
	default:
		c.last = id
		st = streamPool.Get().(*stream)
		st.id, st.window = id, c.firstWindow
		c.streams[id] = st
		c.idleSince = time.Time{}
	}
	answered := st != nil && st.whole
	c.mu.Unlock()
	switch {
	case refused:
		return c.idle()
	case isNew:
		return c.open(st, flags&flagEndStream != 0)
	case st == nil || answered:
		return c.idle() // of a stream that is answered
	case flags&flagEndStream == 0 || !c.header.trailer():
		return errProtocol // only what ends a stream may follow its data
	default:
		c.ended(st)
		return nil
	}
}

// decode reads a part of a header.
func (c *conn) decode(fragment []byte) error {
	switch _, err := c.hpack.Write(fragment); {
	case errors.Is(err, hpack.ErrStringLength):
		return errCalm
	case err != nil:
		return errCompression
	default:
		return nil
	}
}

// onContinuation reads the frame that must follow a header that has not ended.
func (c *conn) onContinuation(id uint32) (ended bool, err error) {
	h, err := c.peek(frameHeader)
	if err != nil {
		return false, err
	}
	length := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
	if h[3] != frameContinuation || binary.BigEndian.Uint32(h[5:])&maxWindow != id {
		return false, errProtocol
	}
	if length > maxFrame {
		return false, errFrameSize
	}
	ended = h[4]&flagEndHeaders != 0
	c.header.frames++
	if c.header.frames > maxContinuations || c.header.size > 2*c.header.limit {
		return false, errCalm
	}
	f, err := c.peek(frameHeader + length)
	if err != nil {
		return false, err
	}
	if err := c.decode(f[frameHeader:]); err != nil {
		return false, err
	}
	c.in.skip(frameHeader + length)
	return ended, nil
}

// open begins a call whose header is there.
func (c *conn) open(st *stream, ended bool) error {
	h := &c.header
	st.call = Call{Context: c.s.ctx, Path: h.path, Encoding: h.encoding, Authorization: h.authorization, Header: h.all, Peer: c.nc.RemoteAddr()}
	switch {
	case h.size > h.limit:
		c.refuse(st, TooManyHeaders)
	case !h.request():
		c.s.handler.Refuse(Unsupported)
		c.mu.Lock()
		c.out = appendReset(c.out, st.id, errProtocol)
		c.remove(st)
		c.mu.Unlock()
		st.free()
		return c.idle()
	case h.method != "POST" || !isGRPC(h.contentType):
		c.refuse(st, Unsupported)
	default:
		if refused := c.s.handler.Admit(&st.call); refused != nil {
			c.answer(st, nil, refused)
		} else if ended {
			c.ended(st)
		}
	}
	return nil
}

func (c *conn) onData(id uint32, flags byte, payload []byte) error {
	if id == 0 {
		return errProtocol
	}
	c.mu.Lock()
	st := c.streams[id]
	if id > c.last && c.draining.IsZero() {
		c.mu.Unlock()
		return errProtocol
	}
	answered := st != nil && st.whole
	c.credit += len(payload)
	if c.credit >= connWindow/2 {
		c.out = appendWindowUpdate(c.out, 0, uint32(c.credit))
		c.credit = 0
	}
	data, err := unpad(flags, payload)
	if padding := len(payload) - len(data); padding > 0 && st != nil && err == nil {
		c.out = appendWindowUpdate(c.out, id, uint32(padding))
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if len(data) == 0 && flags&flagEndStream == 0 {
		return c.idle()
	}
	if st == nil || answered {
		return nil // of a stream that was refused, or that the client had ended
	}
	if why, ok := st.add(c.s, data); !ok {
		c.refuse(st, why)
		return nil
	}
	if flags&flagEndStream != 0 {
		c.ended(st)
	}
	return nil
}

// add takes a message's next bytes, or says why not.
func (st *stream) add(s *Server, data []byte) (Fault, bool) {
	if st.have < len(st.prefix) {
		n := copy(st.prefix[st.have:], data)
		st.have += n
		data = data[n:]
		if st.have < len(st.prefix) {
			return 0, true
		}
		size := binary.BigEndian.Uint32(st.prefix[1:])
		if uint64(size) > uint64(s.cfg.MaxMessage) {
			return TooLarge, false
		}
		st.size = int(size)
		if st.size > 0 {
			st.body = inflight.Body{Budget: s.budget}
			if err := st.body.Expect(st.size); err != nil {
				return Overloaded, false
			}
		}
	}
	if len(data) == 0 {
		return 0, true
	}
	if st.body.Len()+len(data) > st.size {
		return Incomplete, false // a second message, where one is all that there may be
	}
	if err := st.body.Append(data); err != nil {
		return Overloaded, false
	}
	return 0, true
}

// ended has a call handled whose client has sent all of it.
func (c *conn) ended(st *stream) {
	c.mu.Lock()
	st.whole = true
	c.mu.Unlock()
	if st.have < len(st.prefix) || st.body.Len() != st.size {
		c.refuse(st, Incomplete)
		return
	}
	c.idleFrames = 0
	st.call.Message, st.call.Compressed = st.body.Bytes(), st.prefix[0] != 0
	if c.s.cfg.Blocking {
		go func() {
			c.handle(st)
			_ = c.flush() // the reader learns of it too
		}()
		return
	}
	if c.in.buffered() > maxFrame {
		select {
		case c.s.work <- job{c, st}:
			return
		default:
		}
	}
	c.handle(st)
}

// handle answers a call.
func (c *conn) handle(st *stream) {
	message, refused := c.s.handler.Handle(&st.call)
	c.answer(st, message, refused)
}

func (c *conn) refuse(st *stream, why Fault) {
	c.answer(st, nil, c.s.handler.Refuse(why))
}

func (c *conn) onReset(id uint32, payload []byte) error {
	if id == 0 || len(payload) != 4 {
		return errProtocol
	}
	c.mu.Lock()
	if id > c.last && c.draining.IsZero() {
		c.mu.Unlock()
		return errProtocol
	}
	st := c.streams[id]
	given := st != nil && !st.whole
	if st != nil {
		c.remove(st)
	}
	c.mu.Unlock()
	if given {
		c.s.handler.Refuse(Incomplete)
		st.free()
	}
	return c.idle()
}

func (c *conn) onSettings(id uint32, flags byte, payload []byte) error {
	if id != 0 {
		return errProtocol
	}
	if flags&flagAck != 0 {
		if len(payload) != 0 {
			return errFrameSize
		}
		return c.idle()
	}
	if len(payload)%6 != 0 {
		return errFrameSize
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for ; len(payload) > 0; payload = payload[6:] {
		value := int64(binary.BigEndian.Uint32(payload[2:]))
		switch binary.BigEndian.Uint16(payload) {
		case settingInitialWindow:
			if value > maxWindow {
				return errFlowControl
			}
			for _, st := range c.streams {
				st.window += value - c.firstWindow
				if st.window > maxWindow {
					return errFlowControl
				}
			}
			c.firstWindow = value
		case settingMaxFrame:
			if value < maxFrame || value > 1<<24-1 {
				return errProtocol
			}
		case settingEnablePush:
			if value > 1 {
				return errProtocol
			}
		}
	}
	c.out = appendFrame(c.out, 0, frameSettings, flagAck, 0)
	c.release()
	return c.idle()
}

func (c *conn) onPing(id uint32, flags byte, payload []byte) error {
	if id != 0 {
		return errProtocol
	}
	if len(payload) != 8 {
		return errFrameSize
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if flags&flagAck != 0 {
		c.pinged = time.Time{}
		return c.idle()
	}
	if c.s.cfg.MinPing > 0 {
		// An answer sets strikes back: clients measure the network by a ping when they are answered.
		now := time.Now()
		least := c.s.cfg.MinPing
		if !c.s.cfg.PingIdle && len(c.streams) == 0 {
			least = idlePing
		}
		if now.Sub(c.lastPing) < least {
			if c.strikes++; c.strikes > maxStrikes {
				return errCalm
			}
		}
		c.lastPing = now
	}
	c.out = append(appendFrame(c.out, len(payload), framePing, flagAck, 0), payload...)
	return c.idle()
}

func (c *conn) onWindowUpdate(id uint32, payload []byte) error {
	if len(payload) != 4 {
		return errFrameSize
	}
	n := int64(binary.BigEndian.Uint32(payload) & maxWindow)
	if n == 0 {
		return errProtocol
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == 0 {
		if c.window += n; c.window > maxWindow {
			return errFlowControl
		}
	} else if st := c.streams[id]; st != nil {
		if st.window += n; st.window > maxWindow {
			return errFlowControl
		}
	} else if id > c.last && c.draining.IsZero() {
		return errProtocol
	}
	c.release()
	return c.idle()
}

// answer gives a call's answer, and the call up.
func (c *conn) answer(st *stream, message []byte, refused *status.Status) {
	st.body.Free()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.streams[st.id] != st: // reset by the client, or the connection is over
		st.free()
	case refused == nil && int64(len(st.prefix)+len(message)) > min(c.window, st.window):
		st.answer, st.waits = message, true
	default:
		c.write(st, message, refused)
	}
	if len(c.out) >= flushAt {
		_ = c.send() // the reader learns of it too
	}
}

// release sends the answers that waited for the client to make room. Called with mu held.
func (c *conn) release() {
	for _, st := range c.streams {
		if st.waits && int64(len(st.prefix)+len(st.answer)) <= min(c.window, st.window) {
			c.write(st, st.answer, nil)
		}
	}
}

// write adds an answer to what is sent, and the stream to those that are free. Called with mu held.
func (c *conn) write(st *stream, message []byte, refused *status.Status) {
	c.strikes = 0
	if refused == nil {
		n := int64(len(st.prefix) + len(message))
		c.window -= n
		c.out = appendAnswer(c.out, st.id, message)
	} else {
		c.out = appendRefusal(c.out, st.id, refused)
		if !st.whole { // the client is still sending
			c.out = appendReset(c.out, st.id, errNone)
		}
	}
	c.remove(st)
	st.free()
}

// remove ends a stream. Called with mu held.
func (c *conn) remove(st *stream) {
	delete(c.streams, st.id)
	if len(c.streams) > 0 {
		return
	}
	c.idleSince = time.Now()
	if !c.draining.IsZero() {
		c.finish()
	}
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
