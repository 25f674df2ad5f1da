package ingest

import (
	"errors"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc/encoding"
)

// maxWindow bounds what a zstd frame may ask its decoder to remember, in bytes: it is allocated on the frame's word.
// Encoders use 8 MiB or less except in their slowest modes.
const maxWindow = 16 << 20

// decompressor turns a compressed stream into its contents. Close gives it back for reuse, once.
type decompressor interface {
	io.Reader
	Reset(r io.Reader) error
}

// codings maps the names of content codings to their pools of decompressors.
var codings = map[string]*coding{
	"gzip": {open: func(r io.Reader) (decompressor, error) { return gzip.NewReader(r) }},
	"zstd": {open: func(r io.Reader) (decompressor, error) {
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	}},
	"deflate": {open: func(r io.Reader) (decompressor, error) {
		z, err := zlib.NewReader(r)
		if err != nil {
			return nil, err
		}
		return inflater{z.(zlibReader)}, nil
	}},
}

// zlibReader is what zlib.NewReader returns, by its documentation.
type zlibReader interface {
	io.Reader
	zlib.Resetter
}

// inflater is zlib's reader, reset as the others are.
type inflater struct{ zlibReader }

func (i inflater) Reset(r io.Reader) error { return i.zlibReader.Reset(r, nil) }

type coding struct {
	open func(io.Reader) (decompressor, error)
	idle sync.Pool
}

// reader returns the contents of r, to be closed.
func (c *coding) reader(r io.Reader) (*contents, error) {
	if d, ok := c.idle.Get().(decompressor); ok {
		if err := d.Reset(r); err != nil {
			c.idle.Put(d)
			return nil, err
		}
		return &contents{coding: c, d: d}, nil
	}
	d, err := c.open(r)
	if err != nil {
		return nil, err
	}
	return &contents{coding: c, d: d}, nil
}

// contents reads what a compressed stream holds. Not safe for concurrent use.
type contents struct {
	coding *coding
	d      decompressor // nil once closed
}

func (c *contents) Read(p []byte) (int, error) {
	if c.d == nil {
		return 0, errClosed
	}
	return c.d.Read(p)
}

// Close makes the decompressor free for another stream. It never fails.
func (c *contents) Close() error {
	if c.d != nil {
		// Reset with an empty stream lets go of the old one; that it complains of a missing header is of no interest.
		_ = c.d.Reset(empty{})
		c.coding.idle.Put(c.d)
		c.d = nil
	}
	return nil
}

var errClosed = errors.New("read after close")

type empty struct{}

func (empty) Read([]byte) (int, error) { return 0, io.EOF }

// grpc-go knows compressors by one table for the whole process. Ours take the place of gzip and zstd in it, for the otlp
// receiver, where people use that one, and for three reasons: grpc-go decompresses a message before any code of ours can
// refuse it, so that a hundred small bombs at once would be a hundred times the message limit; the Collector's zstd
// allocates windows of half a gigabyte on a frame's word; and a message that does not decompress is answered INTERNAL,
// a server's fault, though it is the sender's. Our own server decompresses by itself, see exportHandler.
func init() {
	for _, name := range []string{"gzip", "zstd"} {
		if inner := encoding.GetCompressor(name); inner != nil {
			encoding.RegisterCompressor(boundedCompressor{inner, codings[name]})
		}
	}
}

// decompressing has a token for each gRPC message that is being decompressed. A message is there whole by then: what
// waits for a token waits for a processor, not for a sender.
var decompressing = make(chan struct{}, runtime.GOMAXPROCS(0))

// boundedCompressor compresses as the one it replaces and decompresses with our decoders, few messages at once.
type boundedCompressor struct {
	encoding.Compressor
	coding *coding
}

// Decompress returns the contents of r. It always succeeds: see brokenOff.
func (b boundedCompressor) Decompress(r io.Reader) (io.Reader, error) {
	decompressing <- struct{}{}
	c, err := b.coding.reader(r)
	return &message{contents: c, failed: err != nil}, nil
}

// brokenOff is a tag with the wire type 7, which no protobuf message has. A message that does not decompress ends with
// it, so that whoever decodes the message refuses it as malformed.
const brokenOff = 0x07

// message is one gRPC message being decompressed.
type message struct {
	contents *contents // nil if not even its header could be read
	failed   bool
	ended    bool
}

func (m *message) Read(p []byte) (int, error) {
	if m.ended {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if !m.failed {
		n, err := m.contents.Read(p)
		if err == nil || errors.Is(err, io.EOF) {
			return n, err
		}
		m.failed = true
		if n > 0 {
			return n, nil
		}
	}
	m.ended = true
	p[0] = brokenOff
	return 1, io.EOF
}

// Close makes room for the next message. grpc-go calls it once, also after an error.
func (m *message) Close() error {
	if m.contents != nil {
		_ = m.contents.Close()
	}
	<-decompressing
	return nil
}
