package unary

import (
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/net/http2/hpack"
)

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
