package unary

import (
	"encoding/binary"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	"faultline/ingest/inflight"
)

// stream is one call on its way.
type stream struct {
	id     uint32
	call   Call
	prefix [5]byte
	have   int // bytes of prefix
	body   inflight.Body
	size   int    // of the message
	http   string // the HTTP status of its refusal, if it is not 200: for a client that does not speak gRPC

	// Guarded by conn.mu.
	whole  bool   // the client has sent all of it, or all that it will
	waits  bool   // for window
	answer []byte // that waits
	window int64
}

var streamPool = sync.Pool{New: func() any { return new(stream) }}

// free makes the stream another call's.
func (st *stream) free() {
	st.body.Free()
	*st = stream{}
	streamPool.Put(st)
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
	case h.method != "POST":
		st.http = "405"
		c.refuse(st, Unsupported)
	case !isGRPC(h.contentType):
		st.http = "415"
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
		c.out = appendRefusal(c.out, st.id, st.http, refused)
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
