package sqlite

import (
	"cmp"
	"hash/maphash"
	"slices"
	"sync"

	"faultline/internal/sketch"
)

// decoded is a block of edges, or a sum of edges or nodes, ready to be added up. Whoever has one only reads it.
type decoded struct {
	ids            []int64
	columns        []column // those that are not zero
	client, server sketch.Packed
	nodes          map[nodeKey]int64
}

// column is one count of every row.
type column struct {
	number int
	values []int64
}

// size returns about how many bytes d takes.
func (d *decoded) size() int {
	return 8*len(d.ids)*(1+len(d.columns)) + d.client.Memory() + d.server.Memory() + 64*len(d.nodes)
}

// add adds a decoded block.
func (r *blockReader) add(s *sums, d *decoded) {
	for k, n := range d.nodes {
		s.node(k, n)
	}
	if len(d.ids) == 0 {
		return
	}
	if s.edges == nil {
		s.edges = make(map[int64]*edgeSum, len(d.ids))
	}
	r.es = r.es[:0]
	for i, id := range d.ids {
		e := s.edge(id)
		d.client.Merge(i, &e.client)
		d.server.Merge(i, &e.server)
		r.es = append(r.es, e)
	}
	for _, c := range d.columns {
		for i, v := range c.values {
			r.es[i].counts[c.number] += v
		}
	}
}

// decode returns a block of edges that is not compressed; nil when it has counts too large to be worth keeping.
func (r *blockReader) decode(b []byte) (*decoded, error) {
	b, err := r.open(edges, b)
	if err != nil {
		return nil, err
	}
	n := len(r.ids)
	d := &decoded{ids: slices.Clone(r.ids)}
	if n == 0 {
		return d, nil
	}
	if len(b) == 0 || b[0] > edgeColumns {
		return nil, errBlock
	}
	columns := int(b[0])
	b = b[1:]
	for c := range columns {
		var zero bool
		if b, zero, err = r.column(b, n); err != nil {
			return nil, err
		}
		if !zero {
			d.columns = append(d.columns, column{c, slices.Clone(r.values)})
		}
	}
	for _, to := range [...]*sketch.Packed{&d.client, &d.server} {
		if b, err = r.sketches.Open(b); err != nil {
			return nil, errBlock
		}
		r.several.Reset()
		for range n {
			if r.one.Reset(); r.one.Scale() != sketch.MaxScale {
				r.one = sketch.Sketch{}
			}
			if r.sketches.Next(&r.one) != nil {
				return nil, errBlock
			}
			if !r.several.Add(&r.one) {
				return nil, nil
			}
		}
		*to = r.several.Clone()
	}
	return d, nil
}

// decoded returns what s holds of edges, or of nodes, as one that is decoded; nil when it has counts too large for one.
// Nodes are shared with s.
func (s *sums) decoded(k what) *decoded {
	if k == nodes {
		return &decoded{nodes: s.nodes}
	}
	d := &decoded{ids: keysOf(s.edges, cmp.Compare[int64])}
	es := make([]*edgeSum, len(d.ids))
	for i, id := range d.ids {
		es[i] = s.edges[id]
		if !d.client.Add(&es[i].client) || !d.server.Add(&es[i].server) {
			return nil
		}
	}
	for c := range edgeColumns {
		values := make([]int64, len(es))
		union := int64(0)
		for i, e := range es {
			values[i] = e.counts[c]
			union |= values[i]
		}
		if union != 0 {
			d.columns = append(d.columns, column{c, values})
		}
	}
	return d
}

// blockCache keeps recent blocks decoded, because the last minutes are asked for again and again, and sums of spans of
// time. Blocks are found by what they contain, sums by how often something was written to their span, so that nothing has
// to be said when that happens: 128 random bits of hash differ.
// It is bounded: what was not used in the last few questions makes room, and when that does not suffice, what is new is
// not kept. It is safe for concurrent use.
type blockCache struct {
	seeds [2]maphash.Seed

	mu     sync.Mutex
	blocks map[blockHash]*cached
	bytes  int
	asked  int64 // questions so far
}

type blockHash [2]uint64

type cached struct {
	blocks []*decoded
	size   int
	used   int64 // by which question
}

const (
	cacheBytes = 48 << 20
	cacheUnuse = 16   // questions after which a block that none of them used makes room
	cacheRange = 3600 // seconds before a question's end; what is longer ago would fill the cache
)

func newBlockCache() *blockCache {
	return &blockCache{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, blocks: map[blockHash]*cached{}}
}

// question begins one.
func (c *blockCache) question() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
}

func (c *blockCache) hash(data []byte) blockHash {
	return blockHash{maphash.Bytes(c.seeds[0], data), maphash.Bytes(c.seeds[1], data)}
}

// hashOf is hash of a sum's name.
func (c *blockCache) hashOf(s spanSum) blockHash {
	return blockHash{maphash.Comparable(c.seeds[0], s), maphash.Comparable(c.seeds[1], s)}
}

// get returns a block, or those of a pack, of which those that are not there are nil. It returns nil when it has none.
func (c *blockCache) get(h blockHash) []*decoded {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.blocks[h]
	if b == nil {
		return nil
	}
	b.used = c.asked
	return b.blocks
}

// put keeps a block, if there is room.
func (c *blockCache) put(h blockHash, blocks []*decoded) {
	size := 0
	for _, d := range blocks {
		if d != nil {
			size += d.size()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blocks[h] != nil {
		return
	}
	if c.bytes+size > cacheBytes {
		for k, b := range c.blocks {
			if c.asked-b.used > cacheUnuse {
				c.bytes -= b.size
				delete(c.blocks, k)
			}
		}
	}
	if c.bytes+size > cacheBytes {
		return
	}
	c.blocks[h] = &cached{blocks, size, c.asked}
	c.bytes += size
}
