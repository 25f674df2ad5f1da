package inflight

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

// A body holds what was read, against the budget, and gives all of it back.
func TestReadAll(t *testing.T) {
	const limit = 100_000
	tests := []struct {
		name     string
		size     int
		expected int64
		budget   int64
		want     error
	}{
		{"empty", 0, 0, limit, nil},
		{"announced", 5000, 5000, limit, nil},
		{"not announced", 60_000, -1, 1 << 20, nil},
		{"announced too small", 60_000, 10, 1 << 20, nil},
		{"exactly the limit", limit, limit, 1 << 20, nil},
		{"one more", limit + 1, -1, 1 << 20, ErrTooLarge},
		{"announced too large", 0, limit + 1, 1 << 20, ErrTooLarge},
		{"no room", 60_000, -1, 16 << 10, ErrOverloaded},
		{"no room for the announced", 10, 60_000, 16 << 10, ErrOverloaded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var budget Budget
			budget.Limit(tt.budget)
			b := Body{Budget: &budget}
			text := strings.Repeat("x", tt.size)
			err := b.ReadAll(iotest.OneByteReader(strings.NewReader(text)), limit, tt.expected)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if err == nil && string(b.Bytes()) != text {
				t.Errorf("read %d bytes of %d", b.Len(), tt.size)
			}
			if used := budget.Used(); used < int64(b.Len()) || used > tt.budget {
				t.Errorf("%d bytes are held for %d, of %d", used, b.Len(), tt.budget)
			}
			b.Free()
			b.Free()
			if used := budget.Used(); used != 0 {
				t.Errorf("%d bytes are still held", used)
			}
		})
	}
}

func TestReadAllPassesErrorsOn(t *testing.T) {
	var budget Budget
	budget.Limit(1 << 20)
	b := Body{Budget: &budget}
	defer b.Free()
	if err := b.ReadAll(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrUnexpectedEOF)), 100, -1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

// Pieces of any size make the same body, which never holds more than twice its bytes once it has outgrown what was
// announced.
func TestAppend(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, 3_000_000)
	for i := range text {
		text[i] = byte(rng.Uint32())
	}
	for _, announced := range []int{1, 4096, len(text), 1 << 30} {
		var budget Budget
		budget.Limit(16 << 20)
		b := Body{Budget: &budget}
		if err := b.Expect(announced); err != nil {
			t.Fatal(err)
		}
		if used := budget.Used(); used > 2*firstRead {
			t.Errorf("%d bytes are held on the word of a sender", used)
		}
		for rest := text; len(rest) > 0; {
			n := min(len(rest), 1+rng.IntN(40_000))
			if err := b.Append(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
			if used := budget.Used(); used > int64(max(2*b.Len(), 2*firstRead)) {
				t.Fatalf("%d bytes are held for %d", used, b.Len())
			}
		}
		if !bytes.Equal(b.Bytes(), text) {
			t.Errorf("announced as %d: not what was appended", announced)
		}
		b.Free()
		if budget.Used() != 0 {
			t.Errorf("%d bytes are still held", budget.Used())
		}
	}
}

// A buffer has the length that was asked for and at least as much room, whatever came before it.
func TestBuffers(t *testing.T) {
	var pool Buffers
	for range 3 {
		for _, n := range []int{0, 1, 1024, 1025, 2048, 2049, 1 << 20, 1<<26 + 1} {
			b := pool.Get(n)
			if len(*b) != n {
				t.Errorf("asked for %d, got %d", n, len(*b))
			}
			pool.Put(b)
		}
	}
	odd := make([]byte, 3000)
	pool.Put(&odd)
	if b := pool.Get(4000); cap(*b) < 4000 {
		t.Error("a buffer of an odd size was pooled")
	}
}
