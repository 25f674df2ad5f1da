package unary

import "io"

// input is what a connection has sent and nobody has read yet. Its buffer is as large as what comes at once: small for a
// client that sends little now and then, and up to a limit for one that sends much, so that fewer reads bring it and more
// answers leave together. Not safe for concurrent use.
type input struct {
	from  io.Reader
	limit int // of the buffer
	buf   []byte
	r, w  int  // what is unread lies between
	full  bool // the last read brought as much as there was room for
}

const firstBuffer = 4 << 10

func newInput(from io.Reader, limit int) input {
	return input{from: from, limit: limit, buf: make([]byte, firstBuffer)}
}

// buffered returns how many bytes can be had without waiting.
func (in *input) buffered() int { return in.w - in.r }

// peek returns the next n bytes, limit at most, valid until it is called again. It reads until they are there.
func (in *input) peek(n int) ([]byte, error) {
	for in.w-in.r < n {
		if err := in.fill(n); err != nil {
			return nil, err
		}
	}
	return in.buf[in.r : in.r+n], nil
}

// skip passes over n bytes that were peeked.
func (in *input) skip(n int) { in.r += n }

// maxEmptyReads is how often reading may bring nothing, and no error either.
const maxEmptyReads = 100

// fill reads once, with room for n bytes in all.
func (in *input) fill(n int) error {
	size := len(in.buf)
	for size < in.limit && (size < n || in.full) {
		size, in.full = 2*size, false
	}
	to := in.buf
	if size > len(in.buf) {
		to = make([]byte, min(size, in.limit))
	}
	if in.r > 0 || len(to) > len(in.buf) {
		in.w = copy(to, in.buf[in.r:in.w])
		in.r, in.buf = 0, to
	}
	for range maxEmptyReads {
		k, err := in.from.Read(in.buf[in.w:])
		in.w += k
		in.full = in.w == len(in.buf)
		if k > 0 {
			return nil // an error comes again
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// drop reads to the end, and forgets it.
func (in *input) drop() { _, _ = io.Copy(io.Discard, in.from) }
