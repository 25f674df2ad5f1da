package unary

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// However much is asked for and however much comes at once, what was sent is read, in order.
func TestInput(t *testing.T) {
	sent := make([]byte, 1<<20)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range sent {
		sent[i] = byte(rng.Uint32())
	}
	for name, from := range map[string]io.Reader{
		"at once":        bytes.NewReader(sent),
		"byte by byte":   iotest.OneByteReader(bytes.NewReader(sent)),
		"half":           iotest.HalfReader(bytes.NewReader(sent)),
		"error with end": iotest.DataErrReader(bytes.NewReader(sent)),
	} {
		in := newInput(from, 64<<10)
		var got []byte
		for len(got) < len(sent) {
			n := min(1+rng.IntN(maxFrame+frameHeader), len(sent)-len(got))
			b, err := in.peek(n)
			if err != nil {
				t.Fatalf("%s: %v after %d", name, err, len(got))
			}
			got = append(got, b...)
			in.skip(n)
		}
		if !bytes.Equal(got, sent) {
			t.Errorf("%s: not what was sent", name)
		}
		if _, err := in.peek(1); !errors.Is(err, io.EOF) {
			t.Errorf("%s: at the end %v", name, err)
		}
	}
}

// A buffer is as large as what comes at once.
func TestInputGrows(t *testing.T) {
	read := func(from io.Reader, limit, n int) int {
		in := newInput(from, limit)
		for range 2000 {
			if _, err := in.peek(n); err != nil {
				t.Fatal(err)
			}
			in.skip(n)
		}
		return len(in.buf)
	}
	for _, tt := range []struct {
		name        string
		atOnce, n   int
		limit, want int
	}{
		{"little", 100, 100, 256 << 10, firstBuffer},
		{"a frame", maxFrame, maxFrame, 256 << 10, 32 << 10},
		{"much", 1 << 20, 9, 256 << 10, 16 << 10},
		{"much, and much of it asked for", 1 << 20, maxFrame, 256 << 10, 256 << 10},
		{"to the limit", 1 << 20, maxFrame, 40_000, 40_000},
	} {
		if got := read(&bursts{tt.atOnce}, tt.limit, tt.n); got != tt.want {
			t.Errorf("%s: %d bytes, want %d", tt.name, got, tt.want)
		}
	}
}

// bursts is a sender that has so much at once, for ever.
type bursts struct{ n int }

func (b *bursts) Read(p []byte) (int, error) { return min(len(p), b.n), nil }

// A reader that brings nothing does not hold a connection for ever.
func TestInputWithoutProgress(t *testing.T) {
	in := newInput(&bursts{}, 64<<10)
	if _, err := in.peek(1); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("got %v", err)
	}
}
