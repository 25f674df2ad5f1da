package sqlite

import (
	"hash/maphash"
	"sync"
	"unsafe"
)

// decoded is a block of edges, ready to be added up. Whoever has one only reads it.
type decoded struct {
	ids  []int64
	rows []edgeSum
}

// size returns about how many bytes d takes.
func (d *decoded) size() int {
	n := len(d.ids) * int(8+unsafe.Sizeof(edgeSum{}))
	for i := range d.rows {
		n += d.rows[i].client.Memory() + d.rows[i].server.Memory()
	}
	return n
}

// blockCache keeps recent blocks decoded, because the last minutes are asked for again and again. Blocks are found by
// what they contain, so that nothing has to be said when one is written anew: the sum of 128 random bits of hash differs.
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
	block *decoded
	size  int
	used  int64 // by which question
}

const (
	cacheBytes = 48 << 20
	cacheUnuse = 16   // questions after which a block that none of them used makes room
	cacheRange = 3600 // seconds; longer questions are asked rarely and would fill the cache
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

// get returns a block, nil when it is not there.
func (c *blockCache) get(h blockHash) *decoded {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.blocks[h]
	if b == nil {
		return nil
	}
	b.used = c.asked
	return b.block
}

// put keeps a block, if there is room.
func (c *blockCache) put(h blockHash, d *decoded) {
	size := d.size()
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
	c.blocks[h] = &cached{d, size, c.asked}
	c.bytes += size
}
