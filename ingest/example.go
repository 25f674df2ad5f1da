package ingest

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"faultline/graph"
)

// Example traces are chosen from candidates: traces whose spans are held as they came, whole, for a while. Which traces
// are candidates is decided by their ids alone, so a trace is held whole or not at all, and in such a share that the
// spans of exampleHold fit into the memory given.
const (
	exampleSlot  = 20 * time.Second // per edge, each slot keeps at most one example of a kind
	exampleGrace = 12 * time.Second // how long after a slot its traces are taken to be whole
	exampleHold  = 45 * time.Second // how long a candidate's spans are held
	// exampleSpread is over how long the traces of a slot are handed over: read whole they take many times the memory, and
	// those of all edges become whole at once. With slot and grace it is shorter than the hold.
	exampleSpread = 10 * time.Second
	maxSpans      = 5_000 // spans of one trace that are held
	maxKept       = 400   // traces kept per slot, over all edges
	spanOverhead  = 160   // bytes held for a span beside its own
	chunkSize     = 64 << 10
	bookShards    = 16
)

// offer is a call of a candidate trace that may become an example.
type offer struct {
	trace    graph.TraceID
	span     graph.SpanID
	edge     graph.EdgeRef
	end      int64
	duration int64
	failure  graph.Failure
	failed   bool
	retried  bool
}

func offerOf(h *half, edge graph.EdgeRef, retried bool) offer {
	o := offer{
		edge: edge, end: h.end(), duration: h.duration, failure: h.verdict.failure(),
		failed: h.failed(), retried: retried,
	}
	binary.BigEndian.PutUint64(o.trace[:8], h.traceHi)
	binary.BigEndian.PutUint64(o.trace[8:], h.traceLo)
	binary.BigEndian.PutUint64(o.span[:], h.id)
	return o
}

// rawSpan is a span as it came, with its resource and scope.
type rawSpan struct {
	resource *resource
	scope    []byte
	span     []byte
}

type heldTrace struct {
	arrived int64
	spans   []rawSpan
}

// book holds candidates and chooses among them. It is safe for concurrent use.
type book struct {
	limit   int64         // bytes that may be held
	sampled atomic.Uint64 // share of traces, of 2^64, that are candidates
	held    atomic.Int64  // bytes
	seen    atomic.Int64  // bytes of all spans since the last adapt
	adapted int64         // nanoseconds; only adapt uses it

	shards [bookShards]bookShard

	mu      sync.Mutex
	slots   map[slotKey]*offer
	waiting []waitingTrace // chosen, in the order in which they are handed over
}

// waitingTrace is a chosen trace without its spans, which are still held.
type waitingTrace struct {
	graph.KeptTrace
	due int64 // nanoseconds: when it is handed over
}

type bookShard struct {
	mu     sync.Mutex
	traces map[graph.TraceID]*heldTrace
	chunk  []byte
	queue  []graph.TraceID // by arrival
}

type slotKey struct {
	edge graph.EdgeRef
	slot int64
	kind graph.ExampleKind
}

func newBook(limit int64) *book {
	b := &book{limit: limit, slots: map[slotKey]*offer{}}
	b.sampled.Store(^uint64(0))
	for i := range b.shards {
		b.shards[i].traces = map[graph.TraceID]*heldTrace{}
	}
	return b
}

// hold keeps copies of the spans of a candidate trace.
func (b *book) hold(trace graph.TraceID, r *resource, scope, span []byte, now int64) {
	size := int64(len(span) + spanOverhead)
	if b.held.Load()+size > b.limit {
		return
	}
	sh := &b.shards[trace[15]%bookShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	t := sh.traces[trace]
	if t == nil {
		t = &heldTrace{arrived: now}
		sh.traces[trace] = t
		sh.queue = append(sh.queue, trace)
	}
	if len(t.spans) >= maxSpans {
		return
	}
	b.held.Add(size)
	// Scopes repeat: the one before is most often the same.
	if k := len(t.spans); k > 0 && bytes.Equal(t.spans[k-1].scope, scope) {
		scope = t.spans[k-1].scope
	} else {
		scope = sh.copy(scope)
	}
	t.spans = append(t.spans, rawSpan{r, scope, sh.copy(span)})
}

func (sh *bookShard) copy(b []byte) []byte {
	if len(b) > chunkSize/4 {
		return bytes.Clone(b)
	}
	if len(sh.chunk)+len(b) > cap(sh.chunk) {
		sh.chunk = make([]byte, 0, chunkSize)
	}
	n := len(sh.chunk)
	sh.chunk = append(sh.chunk, b...)
	return sh.chunk[n:len(sh.chunk):len(sh.chunk)]
}

// adapt sets the share of candidates by what came since the last time, and lets go of what was held long enough.
func (b *book) adapt(now int64) {
	if elapsed := now - b.adapted; b.adapted != 0 && elapsed > 0 {
		perHold := float64(b.seen.Swap(0)) * float64(exampleHold) / float64(elapsed)
		share := 1.0
		if budget := 0.8 * float64(b.limit); perHold > budget {
			share = budget / perHold
		}
		was := float64(b.sampled.Load()) / (1 << 64)
		share = min(share, 2*was+1e-4) // up slowly, down at once
		if share >= 1 {
			b.sampled.Store(^uint64(0))
		} else {
			b.sampled.Store(uint64(share * (1 << 64)))
		}
	}
	b.adapted = now
	for i := range b.shards {
		sh := &b.shards[i]
		sh.mu.Lock()
		n := 0
		for n < len(sh.queue) {
			t := sh.traces[sh.queue[n]]
			if t.arrived > now-int64(exampleHold) {
				break
			}
			for _, s := range t.spans {
				b.held.Add(-int64(len(s.span) + spanOverhead))
			}
			delete(sh.traces, sh.queue[n])
			n++
		}
		sh.queue = slices.Delete(sh.queue, 0, n)
		sh.mu.Unlock()
	}
}

// consider looks at offers for the examples of their edges.
func (b *book) consider(offers []offer) {
	if len(offers) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range offers {
		o := &offers[i]
		slot := o.end / int64(exampleSlot)
		k := slotKey{edge: o.edge, slot: slot}
		switch {
		case o.failed:
			k.kind = graph.Failed
			b.put(k, o, func(have *offer) bool { return order(o.trace) < order(have.trace) })
		case o.retried:
			k.kind = graph.Retried
			b.put(k, o, func(have *offer) bool { return order(o.trace) < order(have.trace) })
		default:
			k.kind = graph.Slow
			b.put(k, o, func(have *offer) bool { return o.duration > have.duration })
			if slot%3 == 0 {
				// The same order over traces at every edge, so that one trace is typical of many edges.
				k.kind = graph.Typical
				b.put(k, o, func(have *offer) bool { return order(o.trace) < order(have.trace) })
			}
		}
	}
}

const maxSlots = 200_000

func (b *book) put(k slotKey, o *offer, better func(have *offer) bool) {
	have := b.slots[k]
	switch {
	case have == nil && len(b.slots) < maxSlots:
		c := *o
		b.slots[k] = &c
	case have != nil && better(have):
		*have = *o
	}
}

func order(t graph.TraceID) uint64 { return mix(binary.BigEndian.Uint64(t[8:]) + 1) }

// choose chooses among the traces that are whole now, and returns those chosen whose turn it is, the failed ones of a slot
// first.
func (b *book) choose(now int64, names *graph.Names) []graph.KeptTrace {
	b.mu.Lock()
	b.pick(now, names)
	n := 0
	for n < len(b.waiting) && b.waiting[n].due <= now {
		n++
	}
	due := slices.Clone(b.waiting[:n])
	b.waiting = slices.Delete(b.waiting, 0, n)
	b.mu.Unlock()
	var out []graph.KeptTrace
	for i := range due {
		kept := due[i].KeptTrace
		if t, ok := b.trace(kept.Trace.ID); ok {
			kept.Trace = t
			out = append(out, kept)
		}
	}
	return out
}

// pick takes the slots whose traces are whole, and lets their traces wait. Callers hold mu.
func (b *book) pick(now int64, names *graph.Names) {
	type chosen struct {
		kind graph.ExampleKind
		offer
	}
	var picked []chosen
	for k, o := range b.slots {
		if (k.slot+1)*int64(exampleSlot)+int64(exampleGrace) <= now {
			picked = append(picked, chosen{k.kind, *o})
			delete(b.slots, k)
		}
	}
	slices.SortFunc(picked, func(a, c chosen) int {
		return cmp.Or(cmp.Compare(c.kind, a.kind), cmp.Compare(order(a.trace), order(c.trace)), bytes.Compare(a.span[:], c.span[:]))
	})
	first := len(b.waiting)
	at := map[graph.TraceID]int{}
	for _, p := range picked {
		i, ok := at[p.trace]
		if !ok {
			if len(b.waiting)-first >= maxKept || !b.holds(p.trace) {
				continue
			}
			i = len(b.waiting)
			at[p.trace] = i
			b.waiting = append(b.waiting, waitingTrace{KeptTrace: graph.KeptTrace{Trace: graph.Trace{ID: p.trace}}})
		}
		w := &b.waiting[i]
		key := graph.EdgeKey{Source: names.LookupNode(p.edge.Source), Target: names.LookupNode(p.edge.Target), Protocol: p.edge.Protocol}
		w.Examples = append(w.Examples, graph.Example{
			Trace: p.trace, Span: p.span, Edge: key, Kind: p.kind, At: time.Unix(0, p.end).UTC(),
			Duration: time.Duration(p.duration), Failure: p.failure,
		})
	}
	fresh := b.waiting[first:]
	for i := range fresh {
		fresh[i].due = now + int64(exampleSpread)*int64(i)/int64(len(fresh))
	}
}

// flush makes it the turn of every trace that is whole now.
func (b *book) flush(now int64, names *graph.Names) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pick(now, names)
	b.hurry(now)
}

// hurry makes it every waiting trace's turn at a time, unless it is before. Callers hold mu.
func (b *book) hurry(at int64) {
	for i := range b.waiting {
		b.waiting[i].due = min(b.waiting[i].due, at)
	}
}

// holds reports whether any spans of a trace are held.
func (b *book) holds(id graph.TraceID) bool {
	sh := &b.shards[id[15]%bookShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.traces[id] != nil
}

// trace decodes a held trace.
func (b *book) trace(id graph.TraceID) (graph.Trace, bool) {
	sh := &b.shards[id[15]%bookShards]
	sh.mu.Lock()
	t := sh.traces[id]
	var spans []rawSpan
	if t != nil {
		spans = slices.Clone(t.spans)
	}
	sh.mu.Unlock()
	if len(spans) == 0 {
		return graph.Trace{}, false
	}
	trace, err := decodeTrace(id, spans)
	return trace, err == nil
}
