package ingest

import (
	"slices"

	"faultline/graph"
	"faultline/ingest/otlpwire"
)

// note is what a half says beside its numbers; few have one.
type note struct {
	group      graph.Label // of a consumer
	refs       uint32      // the first of the spans that it links to
	booked     uint32      // the first of the facts that were emitted and may be mended
	deliveries uint8       // how often its message has been delivered, this time included; 0 is not known
	settled    bool        // what was said of it beside other attempts stays as it is: not all of that is remembered
	dated      bool        // the answer asked to wait until a moment, by its own clock
	enqueued   int64       // when its message came into the queue, nanoseconds since the epoch; 0 is not known
	pushback   int64       // how long the answer asked to wait before another attempt, nanoseconds
}

// reference names a span.
type reference struct {
	traceHi, traceLo, span uint64
	next                   uint32 // in its slab
}

func (r reference) hash() uint64 { return fold(r.traceLo^mix(r.traceHi), r.span) }

// What a shard remembers of messages, and how many links of halves that wait.
const (
	maxMessages = 128 << 10 // of an Intake, in each of two generations
	maxRefs     = 256 << 10 // of an Intake
)

// sending is what is remembered of a message that was sent.
type sending struct {
	end  int64 // nanoseconds since the epoch
	peer uint32
	node graph.NodeRef // the service that sent it
	by   graph.Label   // its instance
	many bool          // of several messages, so that each consumer of one is a first one
}

func sendingOf(h *half) sending { return sending{h.end(), h.peer, h.node, h.instance, h.messages > 1} }

// remember keeps when a message was sent, whose consumer may take a while.
func (s *shard) remember(h *half) {
	r := reference{traceHi: h.traceHi, traceLo: h.traceLo, span: h.id}
	s.forgotten += int64(s.sent.put(r.hash(), sendingOf(h), h.arrived))
}

// sender returns what is known of the message that a span sent.
func (s *shard) sender(r reference) (sending, bool) {
	like := half{traceHi: r.traceHi, traceLo: r.traceLo}
	if h := s.find(&like, r.span); h != nil {
		return sendingOf(h), h.role == sends && h.outgoing()
	}
	return s.sent.get(r.hash())
}

// adopt takes over what a half says beside its numbers.
func (s *shard) adopt(h *half, b *batch) {
	if h.note == 0 {
		return
	}
	n := b.notes[h.note-1]
	from := n.refs
	n.refs = 0
	for from != 0 {
		r := b.refs[from-1]
		from = r.next
		if s.refs.n >= s.maxRefs {
			b.dropped[dropLink]++
			continue
		}
		r.next = n.refs
		n.refs = s.refs.put(r)
	}
	h.note = s.notes.put(n)
}

// drop forgets a note.
func (s *shard) drop(i uint32) {
	if i == 0 {
		return
	}
	for r := s.notes.at(i).refs; r != 0; {
		next := s.refs.at(r).next
		s.refs.drop(r)
		r = next
	}
	s.unbook(s.notes.at(i))
	s.notes.drop(i)
}

// queueless reports whether h is a consumer that does not name its queue, and whose producers may.
func (s *shard) queueless(h *half) bool {
	return h.peer == 0 && (h.role == processes || h.role == receives) &&
		(h.parent != 0 || h.note != 0 && s.notes.at(h.note).refs != 0)
}

// queueUnknown reports whether it is yet to be found out which queue h consumes from.
func (s *shard) queueUnknown(h *half) bool {
	return h.flags&linked == 0 && (h.in.source == 0 || h.in.missing) && s.queueless(h)
}

// The attributes that say it, in the order in which they count.
var (
	groupKeys = []otlpwire.Key{
		otlpwire.MessagingConsumerGroup, otlpwire.MessagingSubscription, otlpwire.MessagingKafkaGroup,
		otlpwire.MessagingKafkaGroupOld, otlpwire.MessagingEventHubsGroup, otlpwire.MessagingRocketMQGroup,
	}
	deliveryKeys = [...]otlpwire.Key{otlpwire.MessagingServiceBusDeliveries, otlpwire.MessagingPubSubDeliveries}
	enqueuedKeys = [...]otlpwire.Key{otlpwire.MessagingEventHubsEnqueued, otlpwire.MessagingServiceBusEnqueued}
)

// first returns the first of the attributes that is a number above zero, 0 when none is.
func first(sp *otlpwire.Span, keys ...otlpwire.Key) int64 {
	for _, k := range keys {
		if n, ok := number(sp.Get(k)); ok && n > 0 {
			return n
		}
	}
	return 0
}

// annotateConsumer reads what a consumer says of the messages that it got. group is its consumer group's label.
func annotateConsumer(h *half, sp *otlpwire.Span, group graph.Label, b *batch) {
	n := note{group: group, deliveries: uint8(min(first(sp, deliveryKeys[:]...), 255))}
	if at := first(sp, enqueuedKeys[:]...); at < 1<<33 {
		n.enqueued = at * 1e9
	}
	for _, l := range sp.Links[:min(sp.NumLinks, otlpwire.MaxLinks)] {
		if r, ok := referenceOf(l); ok {
			r.next = n.refs
			b.refs = append(b.refs, r)
			n.refs = uint32(len(b.refs))
		}
	}
	if n != (note{}) {
		b.notes = append(b.notes, n)
		h.note = uint32(len(b.notes))
	}
}

// consumed is a consumer's half that has waited, on its way to be told what it waited for.
type consumed struct {
	consumer reference
	node     graph.NodeRef
	instance graph.Label
	edge     graph.EdgeRef
	weight   int32
	// Of the consuming span: nanoseconds since the epoch, and nanoseconds. taken is when it had the message, arrived is by
	// the receiving clock.
	taken, end, duration, arrived int64
	// What its note says.
	enqueued int64
	group    graph.Label
	// from and to are the producers in the batch.
	from, to   int32
	deliveries uint8
	failed     bool
	processes  bool // rather than receives
	queueless  bool // its queue is not known
}

// consumed gathers what a consumer that has waited says, to be looked at when the shard is not locked: its producers may
// lie in others.
func (s *shard) consumed(h *half, b *batch) {
	switch {
	case h.in.source != 0 && !h.in.call: // it serves a call
		return
	case h.in.source == 0 && !s.queueUnknown(h), h.role == receives && s.processed(h): // it counts nowhere
		return
	}
	c := consumed{
		consumer: reference{traceHi: h.traceHi, traceLo: h.traceLo, span: h.id}, node: h.node, instance: h.instance, edge: h.serves(),
		taken: h.start, end: h.end(), duration: h.duration, arrived: h.arrived, weight: h.weight, failed: h.verdict.outcome == graph.Error,
		processes: h.role == processes, queueless: s.queueUnknown(h), from: int32(len(b.producers)),
	}
	if h.role == receives {
		c.taken = h.end() // before, it waited for the message
	}
	if above := s.find(h, h.parent); h.parent != 0 && (above == nil || above.role == sends && above.outgoing()) {
		b.producers = append(b.producers, reference{traceHi: h.traceHi, traceLo: h.traceLo, span: h.parent})
	}
	if h.note != 0 {
		n := s.notes.at(h.note)
		c.group, c.deliveries, c.enqueued = n.group, n.deliveries, n.enqueued
		for i := n.refs; i != 0; {
			r := *s.refs.at(i)
			i, r.next = r.next, 0
			if !slices.Contains(b.producers[c.from:], r) {
				b.producers = append(b.producers, r)
			}
		}
	}
	c.to = int32(len(b.producers))
	b.consumed = append(b.consumed, c)
}

// consume finds out how long messages lay in their queues and which of them had been delivered before, now that their
// consumers have waited. It takes the locks of shards one after the other, never two.
func (in *Intake) consume(b *batch) {
	for i := range b.consumed {
		c := &b.consumed[i]
		from, unknown := len(b.facts), c.queueless
		b.missing = b.missing[:0]
		for _, r := range b.producers[c.from:c.to] {
			sh := in.shard(&half{traceHi: r.traceHi, traceLo: r.traceLo})
			sh.mu.Lock()
			by, ok := sh.sender(r)
			sh.mu.Unlock()
			if !ok {
				b.missing = append(b.missing, r)
				continue
			}
			in.sentBy(c, by, b)
			if !by.many {
				in.deliver(r, c, b)
			}
			if c.queueless {
				in.consumesFrom(c, by.peer, b)
			}
		}
		if c.queueless {
			in.consumesFrom(c, 0, b)
		}
		switch {
		case len(b.missing) < int(c.to-c.from):
		case c.enqueued != 0:
			b.lag(c, c.taken-c.enqueued, 0)
		case c.from == c.to:
			b.alone[aloneNoContext]++
		default:
			b.alone[aloneUnsent]++
		}
		b.consumer(c)
		for _, r := range b.missing {
			if c.edge.Source != 0 {
				in.deliver(r, c, b)
			}
			in.await(r, c, b)
		}
		if c.edge.Source == 0 {
			b.facts = b.facts[:from]
		}
		for i := range b.facts[from:] {
			b.facts[from+i].Edge = c.edge
		}
		if c.queueless && len(b.facts) > from {
			in.bookConsumer(c, b.facts[from:], b)
		}
		if unknown && b.analysis != nil {
			in.analyseConsumer(c, b)
		}
	}
}

// consumer emits what a consumer says by itself.
func (b *batch) consumer(c *consumed) {
	if c.deliveries > 1 {
		b.fact(c.edge, c.end, graph.Redelivery, 0, c.weight, c.failed)
	}
	if c.group != 0 {
		b.facts = append(b.facts, graph.Fact{
			Edge: c.edge, End: c.end, Dimension: graph.Group, Label: c.group, Value: c.duration, Weight: c.weight, Failed: c.failed,
		})
	}
}

// maxDelay is how long an SDK may hold a span back without its clock being doubted.
const maxDelay = int64(5e9)

// sentBy emits who sent a message of c, and how long it lay in its queue.
func (in *Intake) sentBy(c *consumed, by sending, b *batch) {
	if in.pairer.dir.mayName(by.node, c.node) {
		b.facts = append(b.facts, graph.Fact{
			Edge: c.edge, End: c.end, Dimension: graph.Producer, Label: graph.Label(by.node), Weight: c.weight, Failed: c.failed,
		})
	}
	in.lag(c, by, b)
}

// lag emits how long a message of c lay in its queue, after it was sent. Where calls connect the two processes, it is
// known how their clocks stand to each other; else whether they can be trusted.
func (in *Intake) lag(c *consumed, by sending, b *batch) {
	ahead, within, known := in.pairer.offsets.difference(by.by, c.instance)
	if !known {
		b.lag(c, c.taken-by.end, in.clocks.apart(by.by, c.instance, int64(in.cfg.Wait)+maxDelay))
		return
	}
	lag := c.taken - by.end - ahead
	if lag < 0 && -lag <= within {
		lag = 0
	}
	b.lag(c, lag, 0)
	if by.by != c.instance && mix(c.consumer.traceLo) <= b.sampled {
		b.fact(c.edge, c.end, graph.LagWithin, within, c.weight, false)
	}
}

// lag emits how long a message lay in its queue, unless the clocks of its producer and its consumer differ by so much that
// it says nothing.
func (b *batch) lag(c *consumed, lag, apart int64) {
	m := graph.Lag
	switch {
	case lag < 0:
		m, lag = graph.LagSkewed, -lag
	case apart > lag/10:
		m, lag = graph.LagSkewed, apart
	}
	b.fact(c.edge, c.end, m, lag, c.weight, false)
}

// consumesFrom counts a consumer that did not name its queue as one of the queue that its producer names, and reports
// whether it counted nowhere before. One whose queue is not known yet stays for as long as its producer may come late.
func (in *Intake) consumesFrom(c *consumed, peer uint32, b *batch) (placed bool) {
	sh := in.shard(&half{traceHi: c.consumer.traceHi, traceLo: c.consumer.traceLo})
	sh.mu.Lock()
	defer sh.mu.Unlock()
	like := half{traceHi: c.consumer.traceHi, traceLo: c.consumer.traceLo}
	h := sh.find(&like, c.consumer.span)
	if h == nil {
		return false
	}
	if p := in.pairer.dir.peers.at(peer); p != nil && p.kind == peerQueue && h.peer == 0 {
		h.peer = peer
	} else if peer != 0 && h.peer == 0 {
		return false
	}
	was := h.in.source
	h.flags |= linked
	in.pairer.incoming(sh, h, b)
	c.edge, c.queueless = h.serves(), h.peer == 0
	if c.queueless && c.from < c.to {
		h.flags |= keep
	}
	return was == 0 && h.in.source != 0
}

// analyseConsumer looks at what is below a consumer, now that it is known which queue it consumes from.
func (in *Intake) analyseConsumer(c *consumed, b *batch) {
	sh := in.shard(&half{traceHi: c.consumer.traceHi, traceLo: c.consumer.traceLo})
	sh.mu.Lock()
	defer sh.mu.Unlock()
	like := half{traceHi: c.consumer.traceHi, traceLo: c.consumer.traceLo}
	if h := sh.find(&like, c.consumer.span); h != nil {
		in.pairer.analyse(sh, h, b.now, b.analysis, b)
	}
}

// delivery is what is remembered of a message that was consumed.
type delivery struct {
	start, end int64 // nanoseconds since the epoch
	weight     int32
	failed     bool
}

// maxDeliveries bounds how many deliveries of one message to one group are told apart.
const maxDeliveries = 8

// deliveryKey returns the key of the deliveries of a message to c's group of its service.
func deliveryKey(r reference, c *consumed) uint64 {
	return fold(r.hash(), uint64(c.node)<<32|uint64(c.group))
}

// deliver looks for deliveries of a message before and after c, unless something else tells of them.
func (in *Intake) deliver(r reference, c *consumed, b *batch) {
	if !c.processes || c.deliveries != 0 {
		return
	}
	sh := in.shard(&half{traceHi: r.traceHi, traceLo: r.traceLo})
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.deliver(r, c, b)
}

// deliver remembers that a message was consumed, and emits what it is to the deliveries before and after it, to the same
// group of the same service: the later one of two is a redelivery. What was emitted of two between which this one lies is
// taken back.
func (s *shard) deliver(r reference, c *consumed, b *batch) {
	k := deliveryKey(r, c)
	x := delivery{c.end - c.duration, c.end, c.weight, c.failed}
	var before, after delivery
	n := uint64(0)
	for ; n < maxDeliveries; n++ {
		d, ok := s.delivered.get(k + n)
		if !ok {
			break
		}
		if d.start <= x.start {
			if d.start >= before.start {
				before = d
			}
		} else if after.start == 0 || d.start < after.start {
			after = d
		}
	}
	if n == maxDeliveries {
		return
	}
	s.forgotten += int64(s.delivered.put(k+n, x, c.end))
	b.redelivery(c, before, after, -1)
	b.redelivery(c, before, x, 1)
	b.redelivery(c, x, after, 1)
}

// redelivery emits, sign times, that a message was delivered before and again, if both are deliveries and the one was
// over when the other began.
func (b *batch) redelivery(c *consumed, before, again delivery, sign int32) {
	if before.start != 0 && again.start != 0 && before.end <= again.start {
		b.fact(c.edge, again.end, graph.Redelivery, again.start-before.end, sign*again.weight, again.failed)
	}
}
