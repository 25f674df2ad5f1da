package sqlite

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"faultline/internal/sketch"

	"github.com/klauspost/compress/zstd"
)

// A block is the rows of one kind, of one window or part of one, in one lane: columns of varints, compressed. Adding
// blocks up is adding their columns, so that reading a day is reading its blocks into one sums.

// errBlock says that a block cannot be read.
var errBlock = errors.New("corrupt block")

const (
	blockVersion = 1
	plain        = 0 // the byte before the columns
	zstandard    = 1
	maxBlock     = 256 << 20 // bytes, uncompressed
)

var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithSingleSegment(true))
		if err != nil {
			panic(err) // the options are constants
		}
		return e
	})
	decoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxBlock))
		if err != nil {
			panic(err)
		}
		return d
	})
)

// compress appends b, compressed when that makes it shorter, with a checksum.
func compress(dst, b []byte) []byte {
	start := len(dst)
	dst = encoder().EncodeAll(b, append(dst, zstandard))
	if len(dst)-start > len(b)+1 {
		dst = append(append(dst[:start], plain), b...)
	}
	return dst
}

// decompress undoes compress, into the memory of dst where it fits.
func decompress(dst, b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, errBlock
	}
	switch b[0] {
	case plain:
		return append(dst[:0], b[1:]...), nil
	case zstandard:
		out, err := decoder().DecodeAll(b[1:], dst[:0])
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBlock, err)
		}
		return out, nil
	}
	return nil, errBlock
}

// blockWriter makes blocks, one at a time.
type blockWriter struct {
	raw            []byte
	values         []int64
	client, server sketch.Columns
}

// column appends n values: nothing but a mark when all are zero.
func (w *blockWriter) column(n int, value func(i int) int64) {
	w.values = w.values[:0]
	union := int64(0)
	for i := range n {
		v := value(i)
		union |= v
		w.values = append(w.values, v)
	}
	if union == 0 {
		w.raw = append(w.raw, 0)
		return
	}
	w.raw = append(w.raw, 1)
	for _, v := range w.values {
		w.raw = binary.AppendVarint(w.raw, v)
	}
}

// edges appends a block of the rows with these keys, which must be in order.
func (w *blockWriter) edges(dst []byte, keys []int64, rows map[int64]*edgeSum) []byte {
	w.begin(len(keys))
	w.column(len(keys), func(i int) int64 { return keys[i] - keys[max(i-1, 0)]*int64(min(i, 1)) })
	list := make([]*edgeSum, len(keys))
	w.client.Reset()
	w.server.Reset()
	w.raw = append(w.raw, edgeColumns)
	for i, k := range keys {
		list[i] = rows[k]
		w.client.Add(&list[i].client)
		w.server.Add(&list[i].server)
	}
	for c := range edgeColumns {
		w.column(len(keys), func(i int) int64 { return list[i].counts[c] })
	}
	w.raw = w.client.AppendBinary(w.raw)
	w.raw = w.server.AppendBinary(w.raw)
	return compress(dst, w.raw)
}

func (w *blockWriter) details(dst []byte, keys []detailKey, rows map[detailKey]*detailSum) []byte {
	w.begin(len(keys))
	w.column(len(keys), func(i int) int64 { return keys[i].edge - keys[max(i-1, 0)].edge*int64(min(i, 1)) })
	w.column(len(keys), func(i int) int64 { return int64(keys[i].dim)<<1 | int64(keys[i].side&1) })
	w.column(len(keys), func(i int) int64 { return keys[i].name - keys[max(i-1, 0)].name*int64(min(i, 1)) })
	w.client.Reset()
	list := make([]*detailSum, len(keys))
	for i, k := range keys {
		list[i] = rows[k]
		w.client.Add(&list[i].latency)
	}
	for c := range detailColumns {
		w.column(len(keys), func(i int) int64 { return list[i].counts[c] })
	}
	w.raw = w.client.AppendBinary(w.raw)
	return compress(dst, w.raw)
}

func (w *blockWriter) nodes(dst []byte, keys []nodeKey, rows map[nodeKey]int64) []byte {
	w.begin(len(keys))
	w.column(len(keys), func(i int) int64 { return keys[i].node - keys[max(i-1, 0)].node*int64(min(i, 1)) })
	w.column(len(keys), func(i int) int64 { return keys[i].instance - keys[max(i-1, 0)].instance*int64(min(i, 1)) })
	w.column(len(keys), func(i int) int64 { return keys[i].version })
	w.column(len(keys), func(i int) int64 { return rows[keys[i]] })
	w.column(len(keys), func(i int) int64 { return keys[i].zone })
	w.column(len(keys), func(i int) int64 { return keys[i].host })
	return compress(dst, w.raw)
}

func (w *blockWriter) begin(rows int) {
	w.raw = binary.AppendUvarint(append(w.raw[:0], blockVersion), uint64(rows))
}

// Lanes share a window's rows out by their edge or node, so that one edge's history is read without the others'. A
// small window has one lane, a large one 32. They are numbered as a binary heap's nodes are: lane = count + id mod count.
const maxLanes = 32

func laneCount(rows int) int64 {
	switch {
	case rows <= 32:
		return 1
	case rows <= 256:
		return 8
	}
	return maxLanes
}

// lanesOf returns the lanes in which id may be.
func lanesOf(id int64) [3]int64 { return [3]int64{1, 8 + id%8, maxLanes + id%maxLanes} }

// block is one as it lies on disk.
type block struct {
	lane    int64
	entries int
	data    []byte
}

// blocks encodes what s holds of one kind, shared out over lanes.
func (s *sums) blocks(k what, w *blockWriter) []block {
	switch k {
	case edges:
		return split(keysOf(s.edges, cmp.Compare[int64]), func(id int64) int64 { return id }, func(keys []int64) []byte { return w.edges(nil, keys, s.edges) })
	case details:
		return split(keysOf(s.details, compareDetails), func(d detailKey) int64 { return d.edge }, func(keys []detailKey) []byte { return w.details(nil, keys, s.details) })
	default:
		return split(keysOf(s.nodes, compareNodes), func(n nodeKey) int64 { return n.node }, func(keys []nodeKey) []byte { return w.nodes(nil, keys, s.nodes) })
	}
}

// encode encodes what s holds of one kind as one block, for the lane that all of it came from.
func (s *sums) encode(k what, w *blockWriter) (data []byte, entries int) {
	switch k {
	case edges:
		return w.edges(nil, keysOf(s.edges, cmp.Compare[int64]), s.edges), len(s.edges)
	case details:
		return w.details(nil, keysOf(s.details, compareDetails), s.details), len(s.details)
	default:
		return w.nodes(nil, keysOf(s.nodes, compareNodes), s.nodes), len(s.nodes)
	}
}

func split[K any](keys []K, id func(K) int64, encode func([]K) []byte) []block {
	n := laneCount(len(keys))
	lanes := make([][]K, n)
	for _, key := range keys {
		l := id(key) % n
		lanes[l] = append(lanes[l], key)
	}
	var out []block
	for l, keys := range lanes {
		if len(keys) > 0 {
			out = append(out, block{n + int64(l), len(keys), encode(keys)})
		}
	}
	return out
}
