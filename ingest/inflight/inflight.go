// Package inflight bounds and holds the bytes of requests on their way in: a budget that all doors of a process share,
// pooled buffers that are not cleared, and the body of one request, which takes of the budget as it grows and gives
// everything back at once. What is over the budget is refused, never waited for.
package inflight

import (
	"errors"
	"io"
	"math/bits"
	"sync"
	"sync/atomic"
)

// A Budget bounds the bytes of requests in flight, over all servers that share it. Taking from it never waits: a
// sender that is told to come again holds its own memory, one that waits holds ours.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// Limit sets how many bytes there are. It must be called before the budget is used.
func (b *Budget) Limit(n int64) { b.limit = n }

// Used returns the bytes that are held.
func (b *Budget) Used() int64 { return b.used.Load() }

// Take reports whether there was room for n bytes, and if so holds them until they are given back.
func (b *Budget) Take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

// Give returns n bytes taken before.
func (b *Budget) Give(n int64) { b.used.Add(-n) }

// Buffers is a pool of buffers in sizes of powers of two. It does not clear them, unlike grpc-go's own, which spends
// a seventh of a receiver's time on that: a request's bytes are always written before they are read, up to a length that
// is kept beside them. Safe for concurrent use; implements grpc's mem.BufferPool.
type Buffers struct {
	classes [maxBufferBits - minBufferBits + 1]sync.Pool
}

// Buffers up to 1 KiB are not pooled: grpc-go never gives these back.
const (
	minBufferBits = 11
	maxBufferBits = 26
)

// Get returns a buffer of length n, with whatever was in it before.
func (p *Buffers) Get(n int) *[]byte {
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
func (p *Buffers) Put(b *[]byte) {
	c := cap(*b)
	class := bits.Len(uint(c)) - 1 - minBufferBits
	if class < 0 || class >= len(p.classes) || c != 1<<(class+minBufferBits) {
		return
	}
	p.classes[class].Put(b)
}

// Pool holds the buffers of every receiver of the process.
var Pool Buffers

// What reading a body may end with.
var (
	ErrTooLarge   = errors.New("larger than the limit")
	ErrOverloaded = errors.New("too many bytes in flight")
)

// A Body is the bytes of one request, in a pooled buffer that is held against a budget as it grows: what was received
// counts, not what was announced, so that nobody takes the budget by announcing.
type Body struct {
	Budget *Budget
	buf    *[]byte
	n      int
}

// Bytes returns what was read; valid until Free.
func (b *Body) Bytes() []byte {
	if b.buf == nil {
		return nil
	}
	return (*b.buf)[:b.n]
}

// Free gives the buffer and its share of the budget back. May be called twice.
func (b *Body) Free() {
	if b.buf == nil {
		return
	}
	b.Budget.Give(int64(cap(*b.buf)))
	Pool.Put(b.buf)
	b.buf, b.n = nil, 0
}

// grow makes the buffer at least twice as large, or size if that is more. Returns ErrOverloaded if the budget has no room.
func (b *Body) grow(size int) error {
	held := 0
	if b.buf != nil {
		held = cap(*b.buf)
		size = max(size, 2*held)
	}
	size = max(1<<minBufferBits, 1<<bits.Len(uint(size-1)))
	if !b.Budget.Take(int64(size - held)) {
		return ErrOverloaded
	}
	larger := Pool.Get(size)
	copy(*larger, b.Bytes())
	if b.buf != nil {
		Pool.Put(b.buf)
	}
	b.buf = larger
	return nil
}

// Len returns how many bytes were read.
func (b *Body) Len() int { return b.n }

// Expect makes room for the first of size bytes that were announced.
func (b *Body) Expect(size int) error { return b.grow(min(size, firstRead)) }

// Append adds bytes that were read. Returns ErrOverloaded if the budget has no room.
func (b *Body) Append(data []byte) error {
	if b.buf == nil || b.n+len(data) > len(*b.buf) {
		if err := b.grow(b.n + len(data)); err != nil {
			return err
		}
	}
	b.n += copy((*b.buf)[b.n:], data)
	return nil
}

// firstRead bounds how large a buffer is taken for a body before any of it arrived.
const firstRead = 256 << 10

// ReadAll reads r to its end, limit bytes at most; expected is the length that was announced, or -1. Returns
// ErrTooLarge, ErrOverloaded, or r's error.
func (b *Body) ReadAll(r io.Reader, limit, expected int64) error {
	if expected > limit {
		return ErrTooLarge
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
				return ErrTooLarge
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
