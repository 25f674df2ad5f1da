package ingest

import (
	"errors"
	"io"
	"math/bits"
	"sync"
	"sync/atomic"
)

// A budget bounds the bytes of requests in flight, over both servers of a receiver. Taking from it never waits: a
// sender that is told to come again holds its own memory, one that waits holds ours.
type budget struct {
	limit int64
	used  atomic.Int64
}

// take reports whether there was room for n bytes, and if so holds them until they are given back.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

// give returns n bytes taken before.
func (b *budget) give(n int64) { b.used.Add(-n) }

// buffers is a pool of buffers in sizes of powers of two. It does not clear them, unlike grpc-go's own, which spends
// a seventh of a receiver's time on that: a request's bytes are always written before they are read, up to a length that
// is kept beside them. Safe for concurrent use; implements grpc's mem.BufferPool.
type buffers struct {
	classes [maxBufferBits - minBufferBits + 1]sync.Pool
}

// Buffers up to 1 KiB are not pooled: grpc-go never gives these back.
const (
	minBufferBits = 11
	maxBufferBits = 26
)

// Get returns a buffer of length n, with whatever was in it before.
func (p *buffers) Get(n int) *[]byte {
	class := bits.Len(uint(max(n, 1)-1)) - minBufferBits
	if n <= 1<<(minBufferBits-1) || class >= len(p.classes) {
		b := make([]byte, n)
		return &b
	}
	class = max(class, 0)
	if b, ok := p.classes[class].Get().(*[]byte); ok {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, 1<<(class+minBufferBits))
	return &b
}

// Put gives a buffer back. Buffers of sizes that are not the pool's are left to the collector.
func (p *buffers) Put(b *[]byte) {
	c := cap(*b)
	class := bits.Len(uint(c)) - 1 - minBufferBits
	if class < 0 || class >= len(p.classes) || c != 1<<(class+minBufferBits) {
		return
	}
	p.classes[class].Put(b)
}

// pool holds the buffers of every receiver of the process.
var pool buffers

var (
	errTooLarge   = errors.New("larger than the limit")
	errOverloaded = errors.New("too many bytes in flight")
)

// A body is the bytes of one request, in a pooled buffer that is held against a budget as it grows: what was received
// counts, not what was announced, so that nobody takes the budget by announcing.
type body struct {
	budget *budget
	buf    *[]byte
	n      int
}

// bytes returns what was read; valid until free.
func (b *body) bytes() []byte {
	if b.buf == nil {
		return nil
	}
	return (*b.buf)[:b.n]
}

// free gives the buffer and its share of the budget back. May be called twice.
func (b *body) free() {
	if b.buf == nil {
		return
	}
	b.budget.give(int64(cap(*b.buf)))
	pool.Put(b.buf)
	b.buf, b.n = nil, 0
}

// grow makes the buffer at least twice as large, or size if that is more. Returns errOverloaded if the budget has no room.
func (b *body) grow(size int) error {
	if b.buf != nil {
		size = max(size, 2*cap(*b.buf))
	}
	size = max(1<<minBufferBits, 1<<bits.Len(uint(size-1)))
	if !b.budget.take(int64(size)) {
		return errOverloaded
	}
	larger := pool.Get(size)
	n := copy(*larger, b.bytes())
	b.free()
	b.buf, b.n = larger, n
	return nil
}

// firstRead bounds how large a buffer is taken for a body before any of it arrived.
const firstRead = 256 << 10

// readFrom reads r to its end, limit bytes at most; expected is the length that was announced, or -1. Returns
// errTooLarge, errOverloaded, or r's error.
func (b *body) readFrom(r io.Reader, limit, expected int64) error {
	if expected > limit {
		return errTooLarge
	}
	if err := b.grow(int(min(max(expected, 1<<minBufferBits), firstRead))); err != nil {
		return err
	}
	for {
		if b.n == len(*b.buf) || int64(b.n) == limit {
			// Full: before more is taken, see whether there is more.
			var probe [1]byte
			n, err := io.ReadFull(r, probe[:])
			if n == 0 {
				if err == io.EOF {
					return nil
				}
				return err
			}
			if int64(b.n) == limit {
				return errTooLarge
			}
			if err := b.grow(b.n + 1); err != nil {
				return err
			}
			(*b.buf)[b.n] = probe[0]
			b.n++
		}
		n, err := r.Read((*b.buf)[b.n:min(int64(len(*b.buf)), limit)])
		b.n += n
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
