package sqlite

import (
	"encoding/binary"
	"slices"

	"faultline/graph"
	"faultline/internal/sketch"
)

// blockReader adds blocks to sums. It keeps its memory between blocks and is not safe for concurrent use.
type blockReader struct {
	// only restricts edges and details to these edges, when not nil.
	only map[int64]bool
	// dimensions restricts details to these dimensions, when not nil.
	dimensions []graph.Dimension

	raw      []byte
	packed   []byte
	values   []int64
	ids      []int64
	es       []*edgeSum
	ds       []*detailSum
	sketches sketch.ColumnReader
}

// column reads n values into r.values, from the front of b.
func (r *blockReader) column(b []byte, n int) (rest []byte, zero bool, err error) {
	if len(b) == 0 || b[0] > 1 {
		return nil, false, errBlock
	}
	mark := b[0]
	b = b[1:]
	r.values = slices.Grow(r.values[:0], n)[:n]
	if mark == 0 {
		clear(r.values)
		return b, true, nil
	}
	if len(b) < n {
		return nil, false, errBlock
	}
	for i := range r.values {
		if len(b) > 0 && b[0] < 0x80 {
			r.values[i] = int64(b[0]>>1) ^ -int64(b[0]&1)
			b = b[1:]
			continue
		}
		v, w := binary.Varint(b)
		if w <= 0 {
			return nil, false, errBlock
		}
		r.values[i], b = v, b[w:]
	}
	return b, false, nil
}

// running turns the differences in r.values into values.
func (r *blockReader) running(to []int64) []int64 {
	to = to[:0]
	sum := int64(0)
	for _, v := range r.values {
		sum += v
		to = append(to, sum)
	}
	return to
}

// merge adds a block to s. It reads hostile bytes safely; after an error s may hold a part of it.
func (r *blockReader) merge(s *sums, k what, data []byte) (err error) {
	if r.raw, err = decompress(r.raw, data); err != nil {
		return err
	}
	return r.mergeRaw(s, k, r.raw)
}

// mergeRaw adds a block that is not compressed.
func (r *blockReader) mergeRaw(s *sums, k what, b []byte) error {
	b, err := r.open(k, b)
	if err != nil {
		return err
	}
	switch k {
	case edges:
		return r.mergeEdges(s, b)
	case details:
		return r.mergeDetails(s, b)
	default:
		return r.mergeNodes(s, b)
	}
}

// open reads the first key of each row of a block, which is not compressed, into r.ids, and returns the bytes behind them.
func (r *blockReader) open(k what, b []byte) (rest []byte, err error) {
	if len(b) == 0 || b[0] != blockVersion {
		return nil, errBlock
	}
	n64, w := binary.Uvarint(b[1:])
	// Every row has at least its flags or, in a block of nodes, comes with others in a few bytes.
	if w <= 0 || n64 > 1<<22 {
		return nil, errBlock
	}
	n := int(n64)
	if b = b[1+w:]; k != nodes && n > len(b) || n > 64*len(b)+64 {
		return nil, errBlock
	}
	if b, _, err = r.column(b, n); err != nil {
		return nil, err
	}
	r.ids = r.running(r.ids)
	return b, nil
}

func (r *blockReader) mergeEdges(s *sums, b []byte) error {
	r.es = r.es[:0]
	last := -1
	for i, id := range r.ids {
		if r.only != nil && !r.only[id] {
			r.es = append(r.es, nil)
			continue
		}
		last = i
		r.es = append(r.es, s.edge(id))
	}
	if last < 0 {
		return nil
	}
	r.es = r.es[:last+1]
	return r.addEdges(b)
}

// addEdges adds the columns behind the keys to the rows r.es, of which those that are nil are passed over; it may be
// shorter than the block.
func (r *blockReader) addEdges(b []byte) (err error) {
	if len(b) == 0 || b[0] > edgeColumns {
		return errBlock
	}
	columns := int(b[0])
	b = b[1:]
	for c := range columns {
		var zero bool
		if b, zero, err = r.column(b, len(r.ids)); err != nil {
			return err
		}
		if zero {
			continue
		}
		for i, e := range r.es {
			if e != nil {
				e.counts[c] += r.values[i]
			}
		}
	}
	if b, err = r.sketches.Open(b); err != nil {
		return errBlock
	}
	for _, e := range r.es {
		var into *sketch.Sketch
		if e != nil {
			into = &e.client
		}
		if r.sketches.Next(into) != nil {
			return errBlock
		}
	}
	if _, err = r.sketches.Open(b); err != nil {
		return errBlock
	}
	for _, e := range r.es {
		var into *sketch.Sketch
		if e != nil {
			into = &e.server
		}
		if r.sketches.Next(into) != nil {
			return errBlock
		}
	}
	return nil
}

func (r *blockReader) mergeDetails(s *sums, b []byte) (err error) {
	keys := make([]detailKey, len(r.ids))
	if b, _, err = r.column(b, len(r.ids)); err != nil {
		return err
	}
	for i, v := range r.values {
		if v < 0 || v>>1 >= graph.NumDimensions {
			return errBlock
		}
		keys[i] = detailKey{edge: r.ids[i], dim: graph.Dimension(v >> 1), side: graph.Side(v & 1)}
	}
	if b, _, err = r.column(b, len(r.ids)); err != nil {
		return err
	}
	name := int64(0)
	r.ds = r.ds[:0]
	for i, v := range r.values {
		name += v
		keys[i].name = name
		if r.only != nil && !r.only[keys[i].edge] || r.dimensions != nil && !slices.Contains(r.dimensions, keys[i].dim) {
			r.ds = append(r.ds, nil)
			continue
		}
		r.ds = append(r.ds, s.detail(keys[i]))
	}
	for c := range detailColumns {
		if b, _, err = r.column(b, len(r.ids)); err != nil {
			return err
		}
		for i, v := range r.values {
			if d := r.ds[i]; d != nil {
				d.counts[c] += v
			}
		}
	}
	if _, err = r.sketches.Open(b); err != nil {
		return errBlock
	}
	for _, d := range r.ds {
		var into *sketch.Sketch
		if d != nil {
			into = &d.latency
		}
		if r.sketches.Next(into) != nil {
			return errBlock
		}
	}
	return nil
}

func (r *blockReader) mergeNodes(s *sums, b []byte) (err error) {
	keys := make([]nodeKey, len(r.ids))
	if b, _, err = r.column(b, len(r.ids)); err != nil {
		return err
	}
	instance := int64(0)
	for i, v := range r.values {
		instance += v
		keys[i] = nodeKey{node: r.ids[i], instance: instance}
	}
	if b, _, err = r.column(b, len(r.ids)); err != nil {
		return err
	}
	for i, v := range r.values {
		keys[i].version = v
	}
	if b, _, err = r.column(b, len(r.ids)); err != nil {
		return err
	}
	spans := slices.Clone(r.values)
	for _, field := range [...]func(*nodeKey) *int64{
		func(k *nodeKey) *int64 { return &k.zone }, func(k *nodeKey) *int64 { return &k.host },
	} {
		if b, _, err = r.column(b, len(r.ids)); err != nil {
			return err
		}
		for i, v := range r.values {
			*field(&keys[i]) = v
		}
	}
	for i, n := range spans {
		s.node(keys[i], n)
	}
	return nil
}
