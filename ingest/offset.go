package ingest

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"faultline/graph"
)

// offsets knows by how much the clocks of two processes differ, one of which calls the other. Each call whose halves are
// there bounds it: the callee cannot have begun before it was called, nor have ended after its caller had the answer. What
// most calls of late allow is taken for true; where they contradict each other, as where a span is below one that did not
// wait for it, nothing is known. It moves instants of one process to the clock of another, and changes no duration. It is
// safe for concurrent use.
//
// Calls are taken from the traces that may become examples: a share that is all of them as long as there are few. They are
// taken when their halves meet, and asked about once those have waited, so that the order in which spans come changes
// nothing.
type offsets struct {
	differ  atomic.Bool // some do
	mu      sync.RWMutex
	of      memory[*offset] // by between
	dropped int64           // pairs of processes that were forgotten before their time

	surveyed int64 // nanoseconds; only survey uses it
	standing atomic.Pointer[map[graph.Label]standing]
}

const (
	// maxOffsets is how many pairs of processes a generation of offsets remembers.
	maxOffsets = 4 << 10
	// offsetSize is the memory that one takes.
	offsetSize = 2*maxBounds*24 + 160
	// maxBounds is how many calls of a generation are kept, of two that there are.
	maxBounds = 32
	// minBounds is how many calls must be there before their clocks are spoken of.
	minBounds = 5
	// A generation of calls is over once it is full and so old, or so old if it is not.
	offsetFull, offsetOld = int64(60e9), int64(600e9)
)

// bounds is what a call says of how far the callee's clock is ahead of the caller's.
type bounds struct {
	least, most int64  // nanoseconds: both clocks can be right in between
	call        uint64 // a hash of the call
}

// middle is how far the callee's clock is ahead if the way there and the way back took equally long.
func (t bounds) middle() int64 { return t.least + (t.most-t.least)/2 }

// allows reports whether the callee's clock can be so far ahead. Some clocks count whole milliseconds.
func (t bounds) allows(ahead int64) bool { return t.least-minSkew <= ahead && ahead <= t.most+minSkew }

// lesson is what is learned from a call, on its way out of its shard.
type lesson struct {
	bounds
	key uint64 // of the two processes
	at  int64  // nanoseconds, when the later half arrived
}

// between returns the key of two processes.
func between(caller, callee graph.Label) uint64 { return uint64(caller)<<32 | uint64(callee) }

// offset is what is known of two processes.
type offset struct {
	young, old []bounds
	since      int64 // when the young generation began, nanoseconds
	ahead      int64 // of the callee's clock, nanoseconds
	within     int64 // by how much that may be off
	known      bool
}

func newOffsets() *offsets { return &offsets{of: newMemory[*offset](maxOffsets, int64(lateFor))} }

// learn takes what calls say.
func (o *offsets) learn(lessons []lesson) {
	if len(lessons) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range lessons {
		l := &lessons[i]
		o.of.age(l.at)
		k, recent := o.of.young[l.key]
		if !recent {
			if k = o.of.old[l.key]; k == nil {
				k = &offset{since: l.at}
			}
			o.dropped += int64(o.of.put(l.key, k, l.at))
		}
		if k.learn(l.bounds, l.at); k.ahead != 0 {
			o.differ.Store(true)
		}
	}
}

// ahead returns how far the clock of a process is ahead of that of another one, which calls it; 0 when that is not known.
func (o *offsets) ahead(caller, callee graph.Label) int64 {
	if !o.differ.Load() || caller == callee || caller == 0 || callee == 0 {
		return 0
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	if k, ok := o.of.get(between(caller, callee)); ok {
		return k.ahead
	}
	return 0
}

// learn takes what a call says, and keeps the calls with the smallest hashes: the same ones in whatever order they come.
func (k *offset) learn(t bounds, at int64) {
	if age := at - k.since; age >= offsetOld || age >= offsetFull && len(k.young) == maxBounds {
		k.young, k.old = k.old[:0], k.young
		k.since = at
	}
	i, found := slices.BinarySearchFunc(k.young, t.call, func(o bounds, call uint64) int { return cmp.Compare(o.call, call) })
	switch {
	case found && k.young[i] == t, i == maxBounds:
		return
	case found:
		k.young[i] = t
	default:
		k.young = slices.Insert(k.young[:min(len(k.young), maxBounds-1)], i, t)
	}
	k.judge()
}

// judge finds out how far the clocks differ. As long as nothing contradicts that they do not, they are taken to be right.
func (k *offset) judge() {
	var all [2 * maxBounds]bounds
	n := copy(all[:], k.young)
	n += copy(all[n:], k.old)
	if k.ahead, k.known = 0, false; n < minBounds {
		return
	}
	allowed := func(ahead int64) bool {
		count := 0
		for _, t := range all[:n] {
			if t.allows(ahead) {
				count++
			}
		}
		return 4*count >= 3*n
	}
	if k.known = allowed(0); k.known {
		k.within = within(all[:n], 0)
		return
	}
	slices.SortFunc(all[:n], func(a, b bounds) int { return cmp.Compare(a.middle(), b.middle()) })
	median := all[(n-1)/2].middle()
	if n%2 == 0 {
		median += (all[n/2].middle() - median) / 2
	}
	if k.known = allowed(median); k.known {
		k.ahead, k.within = median, within(all[:n], median)
	}
}

// within returns by how much an offset can be off, by the call that leaves the least room around it.
func within(calls []bounds, ahead int64) int64 {
	least := int64(math.MaxInt64)
	for _, t := range calls {
		if t.allows(ahead) {
			least = min(least, max(t.most-ahead, ahead-t.least))
		}
	}
	return least
}

// size returns the memory that is held, at the most, and how many pairs of processes were forgotten before their time.
func (o *offsets) size() (bytes, forgotten int64) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return int64(o.of.len()) * offsetSize, o.dropped
}

// learn takes what a call says of the clocks of its processes, if its trace is one of those that are learned from.
func (b *batch) learn(c, s *half) {
	if mix(c.traceLo) > b.sampled || c.instance == 0 || s.instance == 0 || c.instance == s.instance || c.duration < s.duration {
		return
	}
	b.lessons = append(b.lessons, lesson{
		bounds: bounds{least: s.end() - c.end(), most: s.start - c.start, call: fold(s.traceLo, s.id)},
		key:    between(c.instance, s.instance), at: max(c.arrived, s.arrived),
	})
}
