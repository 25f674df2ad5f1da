package ingest

import (
	"sync"

	"faultline/graph"
)

// clocks knows how long after their end the spans of each process come, at the least: SDKs hold them for seconds, so more
// than that, or less than nothing, is the process's clock. It is how lags, whose two ends no call connects, are kept from
// being told by clocks that differ. It is safe for concurrent use.
type clocks struct {
	mu sync.RWMutex
	of map[graph.Label]*clock // by instance
}

// clock is the least delay of a process's spans in a minute and in the one before, and what it was at the best in a
// quarter of an hour and the one before that.
type clock struct {
	mu           sync.Mutex
	minute       int64
	least, older int64 // nanoseconds
	seen, before bool

	quarter    int64
	best, once int64 // nanoseconds, not below zero; -1 is not known
}

// better returns the lesser of two delays that are known.
func better(best, delay int64) int64 {
	if delay < 0 || best >= 0 && best < delay {
		return best
	}
	return delay
}

// maxClocks bounds the processes whose clocks are known.
const maxClocks = 100_000

// note sees that a process's spans came so long after the last of them had ended.
func (c *clocks) note(instance graph.Label, delay, now int64) {
	if instance == 0 {
		return
	}
	c.mu.RLock()
	k := c.of[instance]
	c.mu.RUnlock()
	if k == nil {
		c.mu.Lock()
		if k = c.of[instance]; k == nil && len(c.of) < maxClocks {
			k = &clock{best: -1, once: -1}
			c.of[instance] = k
		}
		c.mu.Unlock()
		if k == nil {
			return
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if minute := now / 60e9; minute != k.minute {
		k.older, k.before = k.least, k.seen && minute == k.minute+1
		k.minute, k.seen = minute, false
	}
	if !k.seen || delay < k.least {
		k.least, k.seen = delay, true
	}
	if quarter := now / int64(lateFor); quarter != k.quarter {
		k.once = -1
		if quarter == k.quarter+1 {
			k.once = k.best
		}
		k.quarter, k.best = quarter, -1
	}
	k.best = better(k.best, delay)
}

// delay returns the least delay of a process's spans of late, false when it is not known. One that is longer than it was a
// while ago says that they are late now, rather than that the clock went back.
func (c *clocks) delay(instance graph.Label) (int64, bool) {
	c.mu.RLock()
	k := c.of[instance]
	c.mu.RUnlock()
	if k == nil {
		return 0, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	least := k.least
	if k.before {
		least = min(least, k.older)
	}
	if best := better(k.best, k.once); best >= 0 {
		least = min(least, best)
	}
	return least, k.seen
}

// apart returns how far the clocks of two processes differ, as far as that is known: 0 when it is less than spans may
// be late.
func (c *clocks) apart(a, b graph.Label, tolerance int64) int64 {
	x, ok := c.delay(a)
	y, known := c.delay(b)
	if d := max(x-y, y-x); ok && known && d > tolerance {
		return d
	}
	return 0
}
