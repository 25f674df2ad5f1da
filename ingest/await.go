package ingest

import (
	"cmp"
	"slices"

	"faultline/graph"
)

// A producer's half may come when the consumer of its message has waited in vain for it: an SDK that holds spans back, or
// a Collector that is behind. The consumer is remembered for as long as other halves are, so that its facts are mended
// then, in the minute where they belong.

// maxAwaiting is how many consumers are remembered, of an Intake, in each of two generations; awaitingSize is the memory
// that one takes.
const maxAwaiting, awaitingSize = 64 << 10, 144

// meeting is a consumer and the producer that came late to it.
type meeting struct {
	consumed
	message reference
	by      sending
}

// await remembers a consumer by a producer that was not there, at most maxDeliveries of one message.
func (in *Intake) await(r reference, c *consumed, b *batch) {
	if c.enqueued != 0 && c.to-c.from > 1 {
		return // the broker said of the whole batch how long it lay
	}
	sh := in.shard(&half{traceHi: r.traceHi, traceLo: r.traceLo})
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if by, ok := sh.sender(r); ok { // it came just now
		b.met = append(b.met, meeting{*c, r, by})
		return
	}
	k := r.hash()
	for n := range uint64(maxDeliveries) {
		if _, ok := sh.awaiting.get(k + n); !ok {
			sh.forgotten += int64(sh.awaiting.put(k+n, *c, c.arrived))
			return
		}
	}
}

// meet finds the consumers that waited for h, a producer that is new.
func (s *shard) meet(h *half, b *batch) {
	r := reference{traceHi: h.traceHi, traceLo: h.traceLo, span: h.id}
	k := r.hash()
	for n := range uint64(maxDeliveries) {
		c, ok := s.awaiting.get(k + n)
		if !ok {
			return
		}
		s.awaiting.forget(k + n)
		b.met = append(b.met, meeting{c, r, sendingOf(h)})
	}
}

// mend corrects what consumers said while their producers were not there. It takes the locks of shards one after the
// other, never two.
func (in *Intake) mend(b *batch) {
	for i := range b.met {
		m := &b.met[i]
		c, nowhere := &m.consumed, m.edge.Source == 0 // it counted nowhere, and said nothing
		placed := m.queueless && in.consumesFrom(c, m.by.peer, b)
		if c.edge.Source == 0 {
			continue
		}
		b.late++
		if placed {
			b.consumer(c)
		}
		if c.enqueued != 0 && !nowhere {
			from := len(b.facts)
			b.lag(c, c.taken-c.enqueued, 0)
			b.facts[from].Weight *= -1
		}
		in.sentBy(c, m.by, b)
		switch {
		case m.by.many && !nowhere:
			in.undeliver(m.message, c, b)
		case !m.by.many && nowhere:
			in.deliver(m.message, c, b)
		}
	}
}

// undeliver takes back that consumers of one message came one after the other: their producer had sent several.
func (in *Intake) undeliver(r reference, c *consumed, b *batch) {
	if !c.processes || c.deliveries != 0 {
		return
	}
	sh := in.shard(&half{traceHi: r.traceHi, traceLo: r.traceLo})
	sh.mu.Lock()
	defer sh.mu.Unlock()
	k := deliveryKey(r, c)
	var all []delivery
	for n := range uint64(maxDeliveries) {
		d, ok := sh.delivered.get(k + n)
		if !ok {
			break
		}
		sh.delivered.forget(k + n)
		all = append(all, d)
	}
	slices.SortStableFunc(all, func(x, y delivery) int { return cmp.Compare(x.start, y.start) })
	for i := 1; i < len(all); i++ {
		b.redelivery(c, all[i-1], all[i], -1)
	}
}

// bookConsumer remembers the facts of a consumer whose queue is not known, so that they follow it to its queue's edge.
func (in *Intake) bookConsumer(c *consumed, facts []graph.Fact, b *batch) {
	sh := in.shard(&half{traceHi: c.consumer.traceHi, traceLo: c.consumer.traceLo})
	sh.mu.Lock()
	defer sh.mu.Unlock()
	like := half{traceHi: c.consumer.traceHi, traceLo: c.consumer.traceLo}
	if h := sh.find(&like, c.consumer.span); h != nil {
		sh.book(h, facts, ofItself, b)
	}
}
