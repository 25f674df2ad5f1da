package sqlite

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"faultline/graph"
	"faultline/internal/sketch"

	"github.com/klauspost/compress/zstd"
)

// A block is the rows of one kind, of one window or part of one, in one lane: columns of varints, compressed. Adding
// blocks up is adding their columns, so that reading a day is reading its blocks into one sums.

// what is a kind of rows; the numbers are on disk.
type what int

const (
	edges what = iota
	details
	nodes
)

// Rows are named by the small numbers of the dictionary tables.
type (
	detailKey struct {
		edge int64
		dim  graph.Dimension
		side graph.Side
		name int64
	}
	nodeKey struct{ node, instance, version, zone, host int64 }
)

// The counts of an edge come first and its failures by class last, so that a class more only adds a column.
const (
	edgeCounts    = 14
	edgeColumns   = edgeCounts + graph.NumFailures
	detailColumns = 4
)

// edgeSum is an EdgeStats as it is on disk: counts that are usually equal are kept as differences, which are zero and
// cost nothing. All of it is linear, so that sums of differences are differences of sums.
type edgeSum struct {
	counts         [edgeColumns]int64
	client, server sketch.Sketch
}

// countsOf returns the columns of a row that is not on disk yet.
func countsOf(s *graph.EdgeStats) [edgeColumns]int64 {
	c := [edgeColumns]int64{
		s.Calls - s.Client.Count(), s.Errors, s.LogicalCalls - s.Calls, s.LogicalErrors - s.Errors,
		s.ClientErrors, s.Cancelled, s.Raw - s.Calls, s.RawErrors - s.Errors,
		s.ServerCalls - s.Server.Count(), s.ServerErrors, s.ServerMissing, s.ClientMissing, s.Messages,
		s.Busy - s.Client.Sum(),
	}
	copy(c[edgeCounts:], s.Failures[:])
	return c
}

// add adds a row that is not on disk yet.
func (e *edgeSum) add(s *graph.EdgeStats) {
	for i, v := range countsOf(s) {
		e.counts[i] += v
	}
	e.client.Merge(&s.Client)
	e.server.Merge(&s.Server)
}

// stats returns the sum, sharing its sketches' memory.
func (e *edgeSum) stats() graph.EdgeStats {
	c := &e.counts
	s := graph.EdgeStats{
		Calls: c[0] + e.client.Count(), Errors: c[1], ClientErrors: c[4], Cancelled: c[5],
		ServerCalls: c[8] + e.server.Count(), ServerErrors: c[9], ServerMissing: c[10], ClientMissing: c[11],
		Messages: c[12], Busy: c[13] + e.client.Sum(),
		Client: e.client, Server: e.server,
	}
	s.LogicalCalls, s.LogicalErrors = c[2]+s.Calls, c[3]+s.Errors
	s.Raw, s.RawErrors = c[6]+s.Calls, c[7]+s.Errors
	copy(s.Failures[:], c[edgeCounts:])
	return s
}

type detailSum struct {
	counts  [detailColumns]int64
	latency sketch.Sketch
}

func detailCountsOf(o *graph.Detail) [detailColumns]int64 {
	return [detailColumns]int64{o.Calls - o.Latency.Count(), o.Errors, o.Raw - o.Calls, o.RawErrors - o.Errors}
}

// add adds a row that is not on disk yet.
func (d *detailSum) add(o *graph.Detail) {
	for i, v := range detailCountsOf(o) {
		d.counts[i] += v
	}
	d.latency.Downscale(o.Latency.Scale())
	d.latency.Merge(&o.Latency)
}

func (d *detailSum) detail() graph.Detail {
	o := graph.Detail{Calls: d.counts[0] + d.latency.Count(), Errors: d.counts[1], Latency: d.latency}
	o.Raw, o.RawErrors = d.counts[2]+o.Calls, d.counts[3]+o.Errors
	return o
}

// sums adds blocks up. Its zero value is empty.
type sums struct {
	edges   map[int64]*edgeSum
	details map[detailKey]*detailSum
	nodes   map[nodeKey]int64

	free []edgeSum // memory for some more
}

// edgesAtOnce is how many sums of edges get their memory together: about as many as a lane has.
const edgesAtOnce = 32

// blockReader adds blocks to sums. It keeps its memory between blocks and is not safe for concurrent use.
type blockReader struct {
	// only restricts edges and details to these edges, when not nil.
	only map[int64]bool

	raw      []byte
	packed   []byte
	values   []int64
	ids      []int64
	es       []*edgeSum
	ds       []*detailSum
	sketches sketch.ColumnReader
}

func (s *sums) edge(id int64) *edgeSum {
	e := s.edges[id]
	if e == nil {
		if s.edges == nil {
			s.edges = map[int64]*edgeSum{}
		}
		if len(s.free) == 0 {
			s.free = make([]edgeSum, edgesAtOnce)
		}
		e, s.free = &s.free[0], s.free[1:]
		s.edges[id] = e
	}
	return e
}

func (s *sums) detail(k detailKey) *detailSum {
	d := s.details[k]
	if d == nil {
		if s.details == nil {
			s.details = map[detailKey]*detailSum{}
		}
		d = &detailSum{} // at the finest scale; merging makes it as coarse as what it is given
		s.details[k] = d
	}
	return d
}

func (s *sums) node(k nodeKey, spans int64) {
	if s.nodes == nil {
		s.nodes = map[nodeKey]int64{}
	}
	s.nodes[k] += spans
}

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

func compareDetails(a, b detailKey) int {
	return cmp.Or(cmp.Compare(a.edge, b.edge), cmp.Compare(a.dim, b.dim), cmp.Compare(a.side, b.side), cmp.Compare(a.name, b.name))
}

func compareNodes(a, b nodeKey) int {
	return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.instance, b.instance), cmp.Compare(a.version, b.version),
		cmp.Compare(a.zone, b.zone), cmp.Compare(a.host, b.host))
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

func keysOf[K comparable, V any](m map[K]V, compare func(a, b K) int) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compare)
	return keys
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
		if r.only != nil && !r.only[keys[i].edge] {
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

// absorb adds o, which is not used afterwards.
func (s *sums) absorb(o *sums) {
	if s.edges == nil {
		s.edges = o.edges
	} else {
		s.absorbEdges(o)
	}
	for k, d := range o.details {
		mine := s.details[k]
		if mine == nil {
			*s.detail(k) = *d
			continue
		}
		for i, v := range d.counts {
			mine.counts[i] += v
		}
		mine.latency.Merge(&d.latency)
	}
	for k, n := range o.nodes {
		s.node(k, n)
	}
}

func (s *sums) absorbEdges(o *sums) {
	for id, e := range o.edges {
		mine := s.edges[id]
		if mine == nil {
			s.edges[id] = e
			continue
		}
		for i, v := range e.counts {
			mine.counts[i] += v
		}
		mine.client.Merge(&e.client)
		mine.server.Merge(&e.server)
	}
}
