package ingest

import (
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"faultline/graph"
	"faultline/graph/doctor"
	"faultline/ingest/otlpwire"
)

// This file counts how services are instrumented, for package doctor. What single spans say is tallied for each resource
// of a request and added up once; what spans say together is noted when a half has waited, and only if it is odd.

// lack is what the attributes of a resource leave out.
type lack uint8

const (
	lackName lack = 1 << iota
	lackInstance
)

func lacks(attributes map[string]string) (l lack) {
	if name := attributes["service.name"]; name == "" || strings.HasPrefix(name, graph.UnknownService) {
		l |= lackName
	}
	if !slices.ContainsFunc(instanceKeys, func(k string) bool { return attributes[k] != "" }) {
		l |= lackInstance
	}
	return l
}

var kindCounters = [...]doctor.Counter{
	graph.SpanKindUnspecified: doctor.Unspecified, graph.SpanKindInternal: doctor.Internal, graph.SpanKindServer: doctor.Server,
	graph.SpanKindClient: doctor.Client, graph.SpanKindProducer: doctor.Producer, graph.SpanKindConsumer: doctor.Consumer,
}

// The bits of a span's flags that say whether its parent is of another process. Source: OTLP, SpanFlags.
const (
	flagKnowsRemote = 0x100
	flagIsRemote    = 0x200
)

// clockAhead is how long after it came a span may end before its clock is taken to be ahead.
const clockAhead = time.Second

// tally counts what one span says.
func tally(t *doctor.Counts, sp *otlpwire.Span, h *half) {
	t[doctor.Spans]++
	t[kindCounters[h.kind]]++
	late := time.Duration(h.arrived - h.end())
	t[doctor.LateBucket(late)]++
	if late < -clockAhead {
		t[doctor.Ahead]++
	}
	switch h.kind {
	case graph.SpanKindInternal, graph.SpanKindUnspecified:
		if isCall(sp) {
			t[doctor.InternalCalls]++
		}
		return
	case graph.SpanKindServer:
		t[doctor.ServerWeight] += int64(h.weight)
		if h.parent == 0 {
			t[doctor.ServerRoots]++
		} else if sp.Flags&(flagKnowsRemote|flagIsRemote) == flagKnowsRemote {
			t[doctor.LocalParents]++
		}
	case graph.SpanKindClient:
		t[doctor.ClientWeight] += int64(h.weight)
		if h.parent == 0 && h.protocol != graph.DB && h.protocol != graph.Messaging {
			t[doctor.ClientRoots]++
		}
	}
	tallyNames(t, sp, h.protocol)
}

// isCall reports whether a span carries the method and the address of a call to another process.
func isCall(sp *otlpwire.Span) bool {
	switch {
	case sp.Has(otlpwire.HTTPRequestMethod), sp.Has(otlpwire.HTTPMethod):
		return sp.Has(otlpwire.ServerAddress) || sp.Has(otlpwire.NetPeerName) || sp.Has(otlpwire.URLFull) || sp.Has(otlpwire.HTTPURL)
	case sp.Has(otlpwire.RPCSystemName), sp.Has(otlpwire.RPCSystem):
		return sp.Has(otlpwire.ServerAddress) || sp.Has(otlpwire.NetPeerName)
	}
	return false
}

// tallyNames tells spans with names of before the stable conventions from those with names of today. Conventions that
// are not stable yet, of RPC and of messaging, have no old names in this sense.
func tallyNames(t *doctor.Counts, sp *otlpwire.Span, protocol graph.Protocol) {
	old := doctor.OldPeer
	switch {
	case protocol == graph.HTTP && (sp.Has(otlpwire.HTTPRequestMethod) || sp.Has(otlpwire.HTTPResponseStatusCode) || sp.Has(otlpwire.URLFull)),
		protocol == graph.DB && sp.Has(otlpwire.DBSystemName):
		t[doctor.Named]++
		return
	case protocol == graph.HTTP:
		old = doctor.OldHTTP
	case protocol == graph.DB:
		old = doctor.OldDB
	case sp.Has(otlpwire.ServerAddress), sp.Has(otlpwire.NetworkPeerAddress):
		t[doctor.Named]++
		return
	case !sp.Has(otlpwire.NetPeerName) && !sp.Has(otlpwire.NetPeerIP) && !sp.Has(otlpwire.NetSockPeerName) && !sp.Has(otlpwire.NetSockPeerAddr):
		return
	}
	t[doctor.Named]++
	t[old]++
}

// count adds what a request brought of the resource.
func (r *resource) count(t *doctor.Counts) {
	t[doctor.Requests]++
	if r.lacks&lackName != 0 {
		t[doctor.Nameless] = t[doctor.Spans]
	}
	if r.lacks&lackInstance != 0 {
		t[doctor.NoInstance] = t[doctor.Spans]
	}
	if p := r.service.policy.Load(); p != nil && p.biased {
		t[doctor.Chosen] = t[doctor.Spans]
	}
	for c, n := range t[:doctor.UnseenParents] {
		if n != 0 {
			r.service.evidence.open[c].Add(n)
		}
	}
}

// remark is something odd between spans.
type remark struct {
	of      graph.NodeRef // the service that it speaks of
	peer    graph.NodeRef // 0 is none
	counter doctor.Counter
	n       int8 // -1 takes it back
	offset  time.Duration
}

func (b *batch) remark(counter doctor.Counter, of, peer graph.NodeRef, n int8) {
	b.remarks = append(b.remarks, remark{of: of, peer: peer, counter: counter, n: n})
}

// notice looks at what became of a half that has waited.
func (p *pairer) notice(s *shard, h *half, b *batch) {
	if h.flags&mute != 0 {
		return
	}
	if h.parent == 0 {
		noticeRoot(s, h, b)
	}
	switch {
	case h.outgoing():
		switch {
		case p.unansweredBy(h, h.out):
			b.remark(doctor.Unanswered, h.out.target, h.node, 1)
		case p.nobody(h, h.out):
			b.remark(doctor.Nobody, h.node, 0, 1)
		}
	case h.kind == graph.SpanKindServer:
		if h.in.source == 0 || !h.in.missing {
			return
		}
		if h.in.source != p.dir.byRef(h.node).unknown {
			b.remark(doctor.BareCalls, h.in.source, h.node, 1)
			return
		}
		b.remark(doctor.UnseenParents, h.node, 0, 1)
		if root := firstRoot(s, h); root != nil {
			b.remark(doctor.CutParents, h.node, root.node, 1)
		}
	case h.kind == graph.SpanKindInternal:
		if h.in.source != 0 && !h.in.call {
			b.remark(doctor.InternalAnswers, h.node, h.in.source, 1)
		}
	}
}

// unansweredBy reports whether a call that went well lies on a service that should have sent its half.
func (p *pairer) unansweredBy(h *half, f outFact) bool {
	return f.target != 0 && f.is(outSilent) && h.verdict.outcome == graph.OK && h.start >= p.started
}

// nobody reports whether a call lies on nobody who has a name. A guard need not know before whom it stands.
func (p *pairer) nobody(h *half, f outFact) bool {
	return !h.guarded() && f.target != 0 && h.peer == 0 && h.kind == graph.SpanKindClient && f.target == p.dir.byRef(h.node).unknown
}

// mendIn takes back what notice said, when the caller's half came late.
func (p *pairer) mendIn(h *half, now inFact, b *batch) {
	if h.flags&(waited|mute) == waited && h.kind == graph.SpanKindServer && h.in.missing &&
		now.source != h.in.source && h.in.source == p.dir.byRef(h.node).unknown {
		b.remark(doctor.UnseenParents, h.node, 0, -1)
	}
}

// mendOut takes back what notice said, when the callee's half came late.
func (p *pairer) mendOut(h *half, now outFact, b *batch) {
	switch {
	case h.flags&(waited|mute) != waited:
	case p.unansweredBy(h, h.out) && !now.is(outSilent):
		b.remark(doctor.Unanswered, h.out.target, h.node, -1)
	case p.nobody(h, h.out) && now.target != h.out.target:
		b.remark(doctor.Nobody, h.node, 0, -1)
	}
}

// noticeRoot finds that a trace began before. A pair of halves that share their id is one root.
func noticeRoot(s *shard, h *half, b *batch) {
	if first := firstRoot(s, h); first != nil && first.id != h.id {
		b.remark(doctor.ExtraRoots, h.node, first.node, 1)
	}
}

// maxRoots bounds the roots of a trace that are looked at, so that a trace id that is never changed costs little.
const maxRoots = 64

// firstRoot returns the root that the trace of h begins with, nil when none is here.
func firstRoot(s *shard, h *half) (first *half) {
	n := 0
	s.children(h, 0, func(c *half) bool {
		if first == nil || c.start < first.start || c.start == first.start && c.id < first.id {
			first = c
		}
		n++
		return n < maxRoots
	})
	return first
}

// oddSkew is how far clocks must differ to be worth a word.
const oddSkew = int64(5 * time.Millisecond)

// compare finds a served call that cannot lie as the two clocks say, and how far they differ if the way there and the way
// back took equally long. What all calls of two processes say together is learned.
func (b *batch) compare(c, s *half) {
	if !tellsClocks(c, s) {
		return
	}
	b.learn(c, s)
	gap := c.duration - s.duration
	offset := s.start - c.start - gap/2
	if gap < 0 || max(offset, -offset) <= max(oddSkew, gap) {
		return
	}
	b.remarks = append(b.remarks, remark{of: s.node, peer: c.node, counter: doctor.Skewed, n: 1, offset: time.Duration(offset)})
}

// tellsClocks reports whether the times of a call's halves say something of clocks: whoever waited for the answer until it
// came was there before and after.
func tellsClocks(c, s *half) bool {
	return c.kind == graph.SpanKindClient && s.kind == graph.SpanKindServer && c.verdict.outcome == graph.OK && (c.flags|s.flags)&mute == 0
}

// remark counts what was remarked under locks.
func (d *directory) remark(remarks []remark) {
	for _, n := range remarks {
		s := d.lookup(n.of)
		if s == nil {
			continue // it is known by name alone, and sends nothing
		}
		s.evidence.open[n.counter].Add(int64(n.n))
		if n.peer != 0 {
			s.evidence.link(n, d.names.LookupNode(n.peer))
		}
	}
}

// lookup returns the service whose node has a number, nil when the node is no service that sent anything.
func (d *directory) lookup(ref graph.NodeRef) *service {
	refs := d.refs.Load()
	if refs == nil || int(ref) >= len(*refs) {
		return nil
	}
	return (*refs)[ref].Load()
}

// evidence is what was counted of a service: in the slot that is open, and in those before it.
type evidence struct {
	open [doctor.NumCounters]atomic.Int64

	mu     sync.Mutex
	links  map[doctor.Link]doctor.Seen // of the open slot
	closed []closedSlot                // the oldest first
}

// maxLinks bounds the peers that are told apart in a slot; what is noted of others is counted without their name.
const maxLinks = 64

type closedSlot struct {
	number int64 // since 1970
	counts [doctor.NumCounters]int32
	links  map[doctor.Link]doctor.Seen
}

func (e *evidence) link(n remark, peer graph.Node) {
	l := doctor.Link{Counter: n.counter, Peer: peer}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.links[l]; !ok && len(e.links) >= maxLinks {
		return
	}
	seen := doctor.Seen{N: int64(n.n)}
	if n.counter == doctor.Skewed {
		seen.Offsets = map[int16]int64{doctor.OffsetBucket(n.offset): 1}
	}
	sum := doctor.Evidence{Links: e.links}
	sum.Note(l, seen)
	e.links = sum.Links
}

// close ends the open slot and forgets those before the first that is kept. It returns what was in the slot.
func (e *evidence) close(number, first int64) (c closedSlot, some bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c = closedSlot{number: number, links: e.links}
	some = len(c.links) > 0
	e.links = nil
	for i := range e.open {
		if e.open[i].Load() != 0 {
			c.counts[i] = int32(max(min(e.open[i].Swap(0), math.MaxInt32), math.MinInt32))
			some = true
		}
	}
	e.closed = slices.DeleteFunc(e.closed, func(c closedSlot) bool { return c.number < first })
	if some && number >= first {
		e.closed = append(e.closed, c)
	}
	return c, some
}

// of returns the slot as evidence of a service.
func (c *closedSlot) of(service graph.Node) doctor.Evidence {
	e := doctor.Evidence{Service: service, Links: c.links}
	for i, n := range c.counts {
		e.Counts[i] = int64(n)
	}
	return e
}

// slotBook knows which slot is open, what an earlier process counted, and how closed slots are kept in the store, so that
// only the open one is written anew.
type slotBook struct {
	mu       sync.Mutex
	open     int64 // its number; 0 before the first
	restored []doctor.Slot
	kept     []keptSlot // the oldest first
}

type keptSlot struct {
	start time.Time
	data  []byte
}

// keep encodes slots that will not change any more.
func (b *slotBook) keep(slots ...doctor.Slot) error {
	for _, s := range slots {
		data, err := doctor.Encode(s)
		if err != nil {
			return err
		}
		b.kept = append(b.kept, keptSlot{s.Start, data})
	}
	return nil
}

func slotStart(number int64) time.Time { return time.Unix(0, number*int64(doctor.SlotLength)).UTC() }

// roll closes the open slot of every service when its time is over.
func (d *directory) roll(now time.Time) {
	b := &d.slots
	b.mu.Lock()
	defer b.mu.Unlock()
	number := now.UnixNano() / int64(doctor.SlotLength)
	if number <= b.open {
		return
	}
	if b.open != 0 {
		closed := doctor.Slot{Start: slotStart(b.open)}
		for _, s := range d.all() {
			if c, some := s.evidence.close(b.open, number-doctor.Slots); some {
				closed.Services = append(closed.Services, c.of(s.node))
			}
		}
		b.restored = doctor.Merge(b.restored, now)
		b.kept = slices.DeleteFunc(b.kept, func(k keptSlot) bool { return now.Sub(k.start) > doctor.Window })
		_ = b.keep(doctor.Merge([]doctor.Slot{closed}, now)...) // texts and numbers always marshal
	}
	b.open = number
}

// saveEvidence returns the evidence in the form in which it survives a restart.
func (d *directory) saveEvidence(now time.Time) ([]byte, error) {
	d.roll(now)
	b := &d.slots
	b.mu.Lock()
	defer b.mu.Unlock()
	var data []byte
	for _, k := range b.kept {
		data = append(data, k.data...)
	}
	open, err := doctor.Encode(doctor.Merge([]doctor.Slot{d.openSlot()}, now)...)
	return append(data, open...), err
}

// loadEvidence takes what saveEvidence returned in an earlier process.
func (d *directory) loadEvidence(data []byte, now time.Time) error {
	slots, err := doctor.Decode(data)
	if err != nil {
		return err
	}
	b := &d.slots
	b.mu.Lock()
	defer b.mu.Unlock()
	b.restored = doctor.Merge(slots, now)
	return b.keep(b.restored...)
}

// all returns the services, in no particular order.
func (d *directory) all() []*service {
	d.mu.RLock()
	defer d.mu.RUnlock()
	list := make([]*service, 0, len(d.services))
	for _, s := range d.services {
		list = append(list, s)
	}
	return list
}

// Evidence returns what is known of how services are instrumented: counts of the last hour, by slots, the oldest first.
func (in *Intake) Evidence(now time.Time) []doctor.Slot {
	d := in.pairer.dir
	d.roll(now)
	b := &d.slots
	b.mu.Lock()
	defer b.mu.Unlock()
	slots := slices.Clone(b.restored)
	for _, s := range d.all() {
		s.evidence.mu.Lock()
		for i := range s.evidence.closed {
			c := &s.evidence.closed[i]
			slots = append(slots, doctor.Slot{Start: slotStart(c.number), Services: []doctor.Evidence{c.of(s.node)}})
		}
		s.evidence.mu.Unlock()
	}
	return doctor.Merge(append(slots, d.openSlot()), now)
}

// openSlot returns the slot that is open, with who sent last. Callers hold the book's mu.
func (d *directory) openSlot() doctor.Slot {
	slot := doctor.Slot{Start: slotStart(d.slots.open)}
	latest := d.latestResources()
	for _, s := range d.all() {
		if e, some := s.evidence.now(s.node); some {
			if r := latest[s]; r != nil && r.lastSeen.Load() > 0 {
				e.Language, e.SDK = r.language, strings.TrimSpace(strings.TrimPrefix(r.sdk, r.language))
				e.Last = time.Unix(0, r.lastSeen.Load()).UTC()
			}
			slot.Services = append(slot.Services, e)
		}
	}
	return slot
}

// now returns what the open slot says of a service; some is false when there is nothing of it in any slot.
func (e *evidence) now(service graph.Node) (of doctor.Evidence, some bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	of.Service = service
	for i := range e.open {
		of.Counts[i] = e.open[i].Load()
	}
	for l, seen := range e.links {
		of.Note(l, seen)
	}
	return of, len(e.closed) > 0 || len(of.Links) > 0 || of.Counts != (doctor.Counts{})
}

// latestResources returns for each service the resource that sent last.
func (d *directory) latestResources() map[*service]*resource {
	d.mu.RLock()
	defer d.mu.RUnlock()
	latest := map[*service]*resource{}
	for _, r := range d.resources {
		if have := latest[r.service]; have == nil || r.lastSeen.Load() > have.lastSeen.Load() {
			latest[r.service] = r
		}
	}
	return latest
}
