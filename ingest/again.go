package ingest

import (
	"math/rand/v2"
	"sync"
)

// requestBook remembers what came within the last quarter of an hour, so that a request that is sent again, because its
// answer was lost on the way, does not count again. A request is told by its spans, whatever else is in it: hashing a few
// numbers of each costs a tenth of hashing its bytes. It is safe for concurrent use: of two requests that are the same, at
// the same time too, one is the first.
type requestBook struct {
	seed   uint64
	shards [requestShards]struct {
		mu   sync.Mutex
		seen memory[struct{}]
	}
}

const (
	requestShards = 16
	// maxRequests is how many requests a generation remembers: beyond it, the older ones are forgotten sooner.
	maxRequests = 256 << 10
)

func newRequestBook() *requestBook {
	r := &requestBook{seed: rand.Uint64()}
	for i := range r.shards {
		r.shards[i].seen = newMemory[struct{}](maxRequests/requestShards, int64(lateFor))
	}
	return r
}

// again reports whether a request of the same spans has come before, and remembers this one. now is in nanoseconds.
func (r *requestBook) again(halves []half, now int64) bool {
	h := r.seed
	for i := range halves {
		c := &halves[i]
		h = fold(h^c.traceHi^uint64(c.end()), fold(c.traceLo, c.id)+uint64(c.kind))
	}
	sh := &r.shards[h%requestShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if _, ok := sh.seen.get(h); ok {
		return true
	}
	sh.seen.put(h, struct{}{}, now)
	return false
}
