package ingest

import (
	"sync"

	"faultline/graph"
)

const (
	halfPage    = 1024 // halves in a page
	maxSiblings = 64   // siblings that are looked at for retries
	maxChildren = 1024 // children that are looked at for a callee
	maxWalk     = 16   // internal spans between a server span and its caller

	triedParents = 4096 // parents that are told apart by whether retries may lie below them
)

// bucket holds the first half of two chains: of the halves whose own (trace, id) has its hash, and of those whose
// (trace, parent) has, so that a span, its children and what is said of them lie together.
type bucket struct{ span, child uint32 }

// shard pairs the halves of the traces whose ids it is given. All of one trace come to one shard.
type shard struct {
	mu      sync.Mutex
	pages   []*[halfPage]half
	free    []uint32
	next    uint32 // first slot that was never used; slot 0 is none
	n       int
	buckets []bucket
	mask    uint64

	// triedBelow counts, by a hash of the parent, the halves that were tried: no retry can be where it is zero.
	triedBelow [triedParents]uint32

	notes     slab[note]
	refs      slab[reference]
	booked    slab[booked]
	maxRefs   int
	maxBooked int

	// sent and delivered are the messages that were sent and consumed, for as long as they may lie in their queues and
	// come again; forgotten are those that had to be forgotten before.
	sent      memory[sending]
	delivered memory[delivery]
	awaiting  memory[consumed] // consumers, by messages whose producers were not there
	forgotten int64

	rates   rates
	proxies int // halves of proxies: none, and there is nothing to look through

	evicted int64 // when the last half arrived that had to make room before it had waited, 0 for none

	touched uint32 // what touch read, so that it is not left out

	queue queue // all halves, by arrival
	late  queue // halves that stayed alone, by arrival

	_ [64]byte
}

// init makes one of so many shards.
func (s *shard) init(shards int) {
	const n = 1 << 8
	s.buckets, s.mask = make([]bucket, n), n-1
	s.next = 1
	s.maxRefs, s.maxBooked = maxRefs/shards, maxBooked/shards
	s.sent = newMemory[sending](maxMessages/shards, int64(lateFor))
	s.delivered = newMemory[delivery](maxMessages/shards, int64(lateFor))
	s.awaiting = newMemory[consumed](maxAwaiting/shards, int64(lateFor))
}

func (s *shard) at(slot uint32) *half { return &s.pages[slot/halfPage][slot%halfPage] }

func (s *shard) alloc() uint32 {
	if k := len(s.free); k > 0 {
		slot := s.free[k-1]
		s.free = s.free[:k-1]
		return slot
	}
	slot := s.next
	s.next++
	if int(slot/halfPage) == len(s.pages) {
		s.pages = append(s.pages, new([halfPage]half))
	}
	return slot
}

func key(traceLo, id uint64) uint64 { return fold(traceLo, id) }

// touch reads what inserting the halves will read first. Each of those reads misses the cache; all of them together
// wait no longer than one of them, where one insert after the other would wait for each.
func (s *shard) touch(halves []half, order []int32) {
	var sum uint32
	for _, i := range order {
		h := &halves[i]
		own, above := s.buckets[key(h.traceLo, h.id)&s.mask], s.buckets[key(h.traceLo, h.parent)&s.mask]
		sum += own.span + above.span
	}
	for _, i := range order {
		h := &halves[i]
		own, above := s.buckets[key(h.traceLo, h.id)&s.mask], s.buckets[key(h.traceLo, h.parent)&s.mask]
		for _, slot := range [...]uint32{own.span, own.child, above.span, above.child} {
			if slot != 0 {
				o := s.at(slot)
				sum += o.nextSame + uint32(o.start)
			}
		}
	}
	s.touched = sum
}

// maxTouch is how many halves are touched ahead: more than the processor reads at a time, and few enough that what was
// read stays in its cache until it is used.
const maxTouch = 32

// touchOldest reads what letting the oldest halves of the queue go will read: see touch.
func (s *shard) touchOldest(n int) {
	slots := s.queue.first(n)
	var sum uint32
	for _, slot := range slots {
		h := s.at(slot)
		sum += h.nextSame + uint32(h.start)
	}
	for _, slot := range slots {
		h := s.at(slot)
		own, above := s.buckets[key(h.traceLo, h.id)&s.mask], s.buckets[key(h.traceLo, h.parent)&s.mask]
		sum += own.span + above.child
	}
	for _, slot := range slots {
		h := s.at(slot)
		own := s.buckets[key(h.traceLo, h.id)&s.mask]
		for _, other := range [...]uint32{own.span, own.child, h.prevChild, h.nextChild} {
			if other != 0 {
				sum += s.at(other).nextSame
			}
		}
	}
	s.touched = sum
}

// link puts a half into the tables.
func (s *shard) link(slot uint32) {
	h := s.at(slot)
	s.chain(slot, h)
	s.n++
	if h.proxied() {
		s.proxies++
	}
	if h.tried() {
		s.count(h)
	}
	// At most half full: a chain's first half is nearly always the one that is looked for, and each other one on the way
	// to it would miss the cache.
	if 2*uint64(s.n) > s.mask {
		s.grow()
	}
}

// chain puts a half at the front of its chains.
func (s *shard) chain(slot uint32, h *half) {
	k := key(h.traceLo, h.id) & s.mask
	h.nextSame = s.buckets[k].span
	s.buckets[k].span = slot
	h.prevChild, h.nextChild = 0, 0
	k = key(h.traceLo, h.parent) & s.mask
	h.nextChild = s.buckets[k].child
	if h.nextChild != 0 {
		s.at(h.nextChild).prevChild = slot
	}
	s.buckets[k].child = slot
}

func (s *shard) unlink(slot uint32) {
	h := s.at(slot)
	k := key(h.traceLo, h.id) & s.mask
	for p := &s.buckets[k].span; *p != 0; p = &s.at(*p).nextSame {
		if *p == slot {
			*p = h.nextSame
			break
		}
	}
	if h.prevChild != 0 {
		s.at(h.prevChild).nextChild = h.nextChild
	} else {
		s.buckets[key(h.traceLo, h.parent)&s.mask].child = h.nextChild
	}
	if h.nextChild != 0 {
		s.at(h.nextChild).prevChild = h.prevChild
	}
	if h.flags&counted != 0 {
		s.triedBelow[key(h.traceLo, h.parent)%triedParents]--
	}
	if h.proxied() {
		s.proxies--
	}
	s.n--
}

// forget takes a half out for good.
func (s *shard) forget(slot uint32) {
	h := s.at(slot)
	if h.role == sends && h.kind != graph.SpanKindInternal {
		s.remember(h)
	}
	s.unlink(slot)
	s.drop(h.note)
	h.id = 0
	s.free = append(s.free, slot)
}

// count makes its siblings look for other attempts.
func (s *shard) count(h *half) {
	if h.flags&counted == 0 {
		h.flags |= counted
		s.triedBelow[key(h.traceLo, h.parent)%triedParents]++
	}
}

// triedBeside reports whether other attempts may be among h's siblings.
func (s *shard) triedBeside(h *half) bool {
	return h.parent != 0 && s.triedBelow[key(h.traceLo, h.parent)%triedParents] > 0
}

// grow doubles the table. It goes through the halves as they lie in memory: through the chains it would wait for each.
func (s *shard) grow() {
	n := 2 * (s.mask + 1)
	s.buckets, s.mask = make([]bucket, n), n-1
	for slot := uint32(1); slot < s.next; slot++ {
		if h := s.at(slot); h.id != 0 {
			s.chain(slot, h)
		}
	}
}

// find returns the half with an id. A client and a server span may share one, as Zipkin's do: to a server span asking
// for its own id the client is meant, to everybody else the server.
func (s *shard) find(like *half, id uint64) *half {
	var found *half
	for slot := s.buckets[key(like.traceLo, id)&s.mask].span; slot != 0; {
		h := s.at(slot)
		slot = h.nextSame
		if h.id == id && h.traceLo == like.traceLo && h.traceHi == like.traceHi && h != like {
			if found == nil || h.outgoing() == (like.id == id) {
				found = h
			}
		}
	}
	return found
}

// same returns the slot of the same span, 0 when it is not there.
func (s *shard) same(h *half) uint32 {
	for slot := s.buckets[key(h.traceLo, h.id)&s.mask].span; slot != 0; {
		o := s.at(slot)
		if o.id == h.id && o.traceLo == h.traceLo && o.traceHi == h.traceHi && o.outgoing() == h.outgoing() {
			return slot
		}
		slot = o.nextSame
	}
	return 0
}

// children calls each for the halves whose parent is id, until it returns false, at most maxChildren. Those whose parent
// is 0 are the trace's roots.
func (s *shard) children(like *half, id uint64, each func(*half) bool) {
	n := 0
	for slot := s.buckets[key(like.traceLo, id)&s.mask].child; slot != 0; {
		c := s.at(slot)
		slot = c.nextChild
		if c.parent == id && c.traceLo == like.traceLo && c.traceHi == like.traceHi {
			if n++; n > maxChildren || !each(c) {
				return
			}
		}
	}
}

// parentOf returns the half that h's parent is, nil when it is not there.
func (s *shard) parentOf(h *half) *half {
	if h.serving() {
		if p := s.find(h, h.id); p != nil && p.outgoing() {
			return p // one id for both halves
		}
	}
	if h.parent == 0 {
		return nil
	}
	return s.find(h, h.parent)
}

// processed reports whether the messages that h received are processed in spans of their own below it.
func (s *shard) processed(h *half) bool {
	found := false
	s.children(h, h.id, func(c *half) bool {
		found = c.role == processes
		return !found
	})
	return found
}

// pushed reports whether the request that h serves only brings a message, which is processed in the one span below it:
// brokers push over HTTP.
func (s *shard) pushed(h *half) bool {
	n, found := 0, false
	s.children(h, h.id, func(c *half) bool {
		n++
		found = c.role == processes && c.node == h.node
		return found && n < 2
	})
	return found && n == 1
}

// queue is a ring of slots with two readers: one that lets slots stop waiting, and, behind it, one that takes them out.
type queue struct {
	slots           []uint32
	head, mid, tail uint64
}

func (q *queue) len() int { return int(q.tail - q.head) }

func (q *queue) push(slot uint32) {
	if int(q.tail-q.head) == len(q.slots) {
		grown := make([]uint32, max(2*len(q.slots), 64))
		for i := q.head; i < q.tail; i++ {
			grown[i&uint64(len(grown)-1)] = q.slots[i&uint64(len(q.slots)-1)]
		}
		q.slots = grown
	}
	q.slots[q.tail&uint64(len(q.slots)-1)] = slot
	q.tail++
}

func (q *queue) oldest() (uint32, bool) {
	if q.head == q.tail {
		return 0, false
	}
	return q.slots[q.head&uint64(len(q.slots)-1)], true
}

// first returns the oldest slots, as far as they lie together, at most n.
func (q *queue) first(n int) []uint32 {
	if q.head == q.tail {
		return nil
	}
	from := int(q.head & uint64(len(q.slots)-1))
	return q.slots[from:min(from+min(n, q.len()), len(q.slots))]
}

func (q *queue) pop() {
	q.head++
	q.mid = max(q.mid, q.head)
}

func (q *queue) waiting() (uint32, bool) {
	if q.mid == q.tail {
		return 0, false
	}
	return q.slots[q.mid&uint64(len(q.slots)-1)], true
}

func (q *queue) waitDone() { q.mid++ }
