package sqlite

import (
	"cmp"
	"sync"
	"time"

	"faultline/internal/sketch"
)

// packedSum is a sum of edges or of nodes, ready to be added to others. Whoever has one only reads it.
type packedSum struct {
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

// size returns about how many bytes p takes.
func (p *packedSum) size() int {
	return 8*len(p.ids)*(1+len(p.columns)) + p.client.Memory() + p.server.Memory() + 64*len(p.nodes)
}

// pack returns what s holds of edges, or of nodes; nil when it has counts too large to be packed. Nodes are shared with s.
func (s *sums) pack(k what) *packedSum {
	if k == nodes {
		return &packedSum{nodes: s.nodes}
	}
	p := &packedSum{ids: keysOf(s.edges, cmp.Compare[int64])}
	es, client, server := make([]*edgeSum, len(p.ids)), make([]*sketch.Sketch, len(p.ids)), make([]*sketch.Sketch, len(p.ids))
	for i, id := range p.ids {
		es[i] = s.edges[id]
		client[i], server[i] = &es[i].client, &es[i].server
	}
	var ok1, ok2 bool
	if p.client, ok1 = sketch.Pack(client); !ok1 {
		return nil
	}
	if p.server, ok2 = sketch.Pack(server); !ok2 {
		return nil
	}
	for c := range edgeColumns {
		union := int64(0)
		for _, e := range es {
			union |= e.counts[c]
		}
		if union == 0 {
			continue
		}
		values := make([]int64, len(es))
		for i, e := range es {
			values[i] = e.counts[c]
		}
		p.columns = append(p.columns, column{c, values})
	}
	return p
}

// addAll adds sums. What they need of memory is known before they are added, so that every
// sketch gets it once.
func (s *sums) addAll(list []*packedSum) {
	type row struct {
		sum            *edgeSum
		client, server sketch.Extent
	}
	most := 0
	for _, d := range list {
		most = max(most, len(d.ids))
	}
	if s.edges == nil && most > 0 {
		s.edges = make(map[int64]*edgeSum, most)
	}
	numbers := make(map[int64]int32, most)
	rows := make([]row, 0, most)
	of := make([][]int32, len(list)) // where the rows of each are
	for k, d := range list {
		of[k] = make([]int32, len(d.ids))
		for i, id := range d.ids {
			n, seen := numbers[id]
			if !seen {
				n = int32(len(rows))
				numbers[id] = n
				rows = append(rows, row{sum: s.edge(id)})
			}
			of[k][i] = n
			d.client.Extend(&rows[n].client, i)
			d.server.Extend(&rows[n].server, i)
		}
	}
	var arena sketch.Arena
	for i := range rows {
		r := &rows[i]
		r.sum.client.Reserve(r.client, &arena)
		r.sum.server.Reserve(r.server, &arena)
	}
	for k, d := range list {
		for i, n := range of[k] {
			d.client.Merge(i, &rows[n].sum.client)
			d.server.Merge(i, &rows[n].sum.server)
		}
		for _, c := range d.columns {
			for i, v := range c.values {
				rows[of[k][i]].sum.counts[c.number] += v
			}
		}
		for key, n := range d.nodes {
			s.node(key, n)
		}
	}
}

// sumCache keeps sums of stretches of time, because the last minutes are asked for again and again. A sum is found as long
// as nothing was written to its stretch. What is not used for cacheIdle is let go of: every ten seconds there is a new
// window, and whoever looks at the last of them once, such as a scrape, would fill the cache. It is bounded besides: what
// was not used in the last questions makes room, and when that does not suffice, what is new is not kept. It is safe for
// concurrent use.
type sumCache struct {
	mu    sync.Mutex
	sums  map[stretch]*cached
	bytes int
	asked int64 // questions so far
}

type cached struct {
	sum    *packedSum
	writes int64
	size   int
	used   int64     // by which question
	idle   time.Time // since when it was not used, as far as sweep knows; zero when it was since the last one
}

const (
	cacheBytes = 48 << 20
	cacheIdle  = 2 * time.Minute
	cacheUnuse = 128 // questions after which a sum that none of them used makes room first
)

func newSumCache() *sumCache { return &sumCache{sums: map[stretch]*cached{}} }

// question begins one.
func (c *sumCache) question() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
}

// get returns the sum of a stretch after so many writes, nil when it is not known.
func (c *sumCache) get(k counted) *packedSum {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sums[k.stretch]
	if s == nil || s.writes != k.writes {
		return nil
	}
	s.used, s.idle = c.asked, time.Time{}
	return s.sum
}

// has reports whether there is a sum of a stretch, which may be out of date.
func (c *sumCache) has(k stretch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sums[k] != nil
}

// put keeps a sum, in the place of an older one of the stretch, if there is room.
func (c *sumCache) put(k counted, sum *packedSum) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.sums[k.stretch]; old != nil {
		if old.writes > k.writes {
			return // whoever asks sees an older state of the file
		}
		c.drop(k.stretch, old)
	}
	size := sum.size()
	for unused := int64(cacheUnuse); c.bytes+size > cacheBytes && unused > 1; unused /= 2 {
		for name, s := range c.sums {
			if c.asked-s.used > unused {
				c.drop(name, s)
			}
		}
	}
	if c.bytes+size > cacheBytes {
		return
	}
	c.sums[k.stretch] = &cached{sum: sum, writes: k.writes, size: size, used: c.asked}
	c.bytes += size
}

// sweep lets go of what has not been used for long. It is called every few seconds.
func (c *sumCache) sweep(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, s := range c.sums {
		switch {
		case s.idle.IsZero() || s.idle.After(now): // the clock may have been set back
			s.idle = now
		case now.Sub(s.idle) > cacheIdle:
			c.drop(name, s)
		}
	}
}

func (c *sumCache) drop(name stretch, s *cached) {
	c.bytes -= s.size
	delete(c.sums, name)
}
