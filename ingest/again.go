package ingest

import (
	"hash/maphash"
	"sync"
)

// requestBook remembers what came within the last quarter of an hour, so that a request that is sent again, because its
// answer was lost on the way, does not count again. It is safe for concurrent use: of two requests that are the same, at
// the same time too, one is the first.
type requestBook struct {
	seed   maphash.Seed
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
	r := &requestBook{seed: maphash.MakeSeed()}
	for i := range r.shards {
		r.shards[i].seen = newMemory[struct{}](maxRequests/requestShards, int64(lateFor))
	}
	return r
}

// again reports whether the same request has come before, and remembers it. now is in nanoseconds.
func (r *requestBook) again(body []byte, now int64) bool {
	h := maphash.Bytes(r.seed, body)
	sh := &r.shards[h%requestShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if _, ok := sh.seen.get(h); ok {
		return true
	}
	sh.seen.put(h, struct{}{}, now)
	return false
}
