// Package ingest turns OTLP bytes into calls: it decodes, resolves names, and pairs the halves of each call. Its
// receiver and exporter are the Collector's way in; Intake is what both feed.
//
// A call's halves come in any order and in any requests. What is certain is counted at once, and taken back and counted
// anew when the other half says more; sums of signed integers make the result the same whatever the order. What an
// Intake holds is bounded, and everything it drops is counted by reason. It does not keep what it was given: until spans
// are counted, and for the few seconds in which they wait for each other, a killed process loses them.
package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"faultline/graph"
	"faultline/graph/doctor"
	"faultline/ingest/otlpwire"
)

// ErrMalformed says that a request cannot be decoded, whoever sends it again: a permanent fault of the sender.
var ErrMalformed = errors.New("malformed OTLP")

// Config bounds an Intake.
type Config struct {
	Wait        time.Duration // how long a half waits for its other half before it counts alone
	MaxPending  int           // spans in flight
	MemoryLimit int64         // bytes for spans in flight and candidates for examples
	Analyse     int           // spans a second, about, of traces that are analysed as a whole; 0: none are
}

// DefaultConfig returns a wait of 10 s, which is longer than the 5 s for which SDKs batch, 192 MiB, and 5,000 analysed
// spans a second.
func DefaultConfig() Config {
	return Config{Wait: 10 * time.Second, MaxPending: 1_000_000, MemoryLimit: 192 << 20, Analyse: 5_000}
}

const (
	// keepWaits is for how many waits a half stays, so that more than one callee's half finds it.
	keepWaits = 3
	// lateFor is how long a half that stayed alone can still be paired.
	lateFor = 15 * time.Minute
	// How far a span's times may lie from now, and how long it may be, to enter a figure.
	maxAge      = time.Hour
	maxAhead    = 10 * time.Minute
	maxDuration = time.Hour
	// halfSize is the memory that a span in flight takes, tables and queue included.
	halfSize = 160
	// noteSize, refSize and messageSize are those of a half's note, a link, and a message that is remembered.
	noteSize, refSize, messageSize = 32, 32, 48
	// maxShards bounds the shards. There are a few for each processor: enough that they rarely wait for each other,
	// few enough that a request has several spans for each.
	maxShards = 256
)

// Result says what became of a request's spans. Rejected spans were refused singly, for Message's reason.
type Result struct {
	Accepted, Rejected int
	Message            string
}

// Intake takes requests in. It is safe for concurrent use: traces are spread over shards with a lock each.
type Intake struct {
	cfg    Config
	live   *graph.Live
	pairer pairer
	book   *book
	before *requestBook
	clocks clocks
	shards []shard   // a power of two
	shift  uint      // leads from a hash to a shard
	pool   sync.Pool // *scratch

	tick      sync.Mutex // one Tick at a time; guards what follows
	ticked    int64      // when Tick was last called
	lastTick  int64
	lastNodes int64 // when nodes were last swept
	analysis  *analysis
	waited    batch

	count struct {
		received, accepted atomic.Int64
		refused            [numFaults]atomic.Int64
		dropped            [numDrops]atomic.Int64
		alone              [numAlone]atomic.Int64
		late               atomic.Int64
		lastSpan           atomic.Int64
	}
	requests struct {
		sync.Mutex
		m map[string]int64
	}
}

// Why single spans are refused.
type spanFault uint8

const (
	badTraceID spanFault = iota
	badSpanID
	numFaults
)

var (
	faultNames    = [numFaults]string{"invalid_trace_id", "invalid_span_id"}
	faultMessages = [numFaults]string{
		"spans without a valid trace id (16 bytes, not all zero)", "spans without a valid span id (8 bytes, not all zero)",
	}
)

// Why accepted spans do not count.
type dropReason uint8

const (
	dropDuplicate dropReason = iota
	dropDuration
	dropTooOld
	dropFuture
	dropUnsampled
	dropEvicted
	dropLink
	dropMessage
	dropIgnored
	dropThreshold // not the span: what it says of sampling
	numDrops
)

var dropNames = [numDrops]string{
	"duplicate", "invalid_duration", "too_old", "in_the_future", "zero_weight", "evicted_early", "link_limit", "message_limit",
	"ignored", "malformed_threshold",
}

// NewIntake returns an Intake that puts calls into live.
func NewIntake(cfg Config, live *graph.Live) *Intake {
	in := &Intake{cfg: cfg, live: live, book: newBook(cfg.MemoryLimit / 3), before: newRequestBook()}
	n := 8
	for n < 4*runtime.GOMAXPROCS(0) && n < maxShards {
		n *= 2
	}
	in.shards, in.shift = make([]shard, n), uint(64-bits.TrailingZeros(uint(n)))
	in.cfg.MaxPending = max(min(cfg.MaxPending, int(cfg.MemoryLimit*2/3/halfSize)), n)
	in.clocks.of = map[graph.Label]*clock{}
	in.pairer.dir = newDirectory(live.Names())
	in.requests.m = map[string]int64{}
	in.analysis = newAnalysis(cfg.Analyse, cfg.Wait)
	for i := range in.shards {
		in.shards[i].init(n)
	}
	in.pool.New = func() any { return new(scratch) }
	return in
}

// scratch is what one request needs, used again for the next.
type scratch struct {
	span   otlpwire.Span
	halves []half
	tally  doctor.Counts // of the group that is being read
	groups []group
	raws   []rawRef
	batch  batch
	name   []byte
	rates  []traceRate
	envoy  bool // the scope, or the resource, says that its spans are a proxy's

	order []int32 // the halves by shard
	ends  [maxShards]int32
}

// sort orders the halves by shard, otherwise as they came: shard i's end at ends[i].
func (sc *scratch) sort(in *Intake) {
	clear(sc.ends[:])
	for i := range sc.halves {
		sc.ends[in.shardOf(&sc.halves[i])]++
	}
	sum := int32(0)
	for i, n := range sc.ends {
		sc.ends[i] = sum
		sum += n
	}
	sc.order = slices.Grow(sc.order[:0], len(sc.halves))[:len(sc.halves)]
	for i := range sc.halves {
		end := &sc.ends[in.shardOf(&sc.halves[i])]
		sc.order[*end] = int32(i)
		*end++
	}
}

// group are the halves of one resource in a request.
type group struct {
	resource *resource
	from, to int // in halves
	tally    doctor.Counts
}

// rawRef is a candidate span's place in the request.
type rawRef struct {
	half        int
	resource    *resource
	scope, span []byte
}

// Consume takes one protobuf ExportTraceServiceRequest. It does not keep body. All of it counts or, with an error that
// wraps ErrMalformed, nothing; single bad spans are left out and said in the Result.
func (in *Intake) Consume(now time.Time, body []byte) (Result, error) {
	sc := in.pool.Get().(*scratch)
	defer in.pool.Put(sc)
	sc.halves, sc.groups, sc.raws, sc.rates = sc.halves[:0], sc.groups[:0], sc.raws[:0], sc.rates[:0]
	sc.batch.reset()
	sc.batch.sampled = in.book.sampled.Load()

	at := now.UnixNano()
	var refused [numFaults]int
	if err := in.decode(sc, body, at, &refused); err != nil {
		in.Refuse("malformed")
		return Result{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	r := Result{Accepted: len(sc.halves)}
	for i, n := range refused {
		if n > 0 {
			in.count.refused[i].Add(int64(n))
			r.Rejected += n
			if r.Message == "" {
				r.Message = faultMessages[i]
			}
		}
	}
	if r.Accepted > 0 && in.before.again(sc.halves, at) {
		in.count.dropped[dropDuplicate].Add(int64(r.Accepted))
	} else {
		in.insert(sc, at)
	}
	in.count.received.Add(int64(r.Accepted + r.Rejected))
	in.count.accepted.Add(int64(r.Accepted))
	if r.Accepted > 0 {
		in.count.lastSpan.Store(at)
	}
	if r.Rejected > 0 {
		in.Refuse("partial")
	} else {
		in.Refuse("ok")
	}
	in.book.seen.Add(int64(len(body)) + int64(r.Accepted)*spanOverhead)
	return r, nil
}

// decode reads a whole request into sc, touching nothing else, so that a malformed one leaves no trace.
func (in *Intake) decode(sc *scratch, body []byte, at int64, refused *[numFaults]int) error {
	minute := uint32(at / int64(time.Minute))
	resources := otlpwire.Resources(body)
	for {
		rs, ok := resources.Next()
		if !ok {
			break
		}
		raw, err := otlpwire.Submessage(rs)
		if err != nil {
			return err
		}
		res, err := in.pairer.dir.resource(raw, minute)
		if err != nil {
			return err
		}
		from := len(sc.halves)
		sc.tally = doctor.Counts{}
		scopes := otlpwire.Scopes(rs)
		for {
			ss, ok := scopes.Next()
			if !ok {
				break
			}
			scope, err := otlpwire.Submessage(ss)
			if err != nil {
				return err
			}
			scopeName, _, err := otlpwire.Scope(scope)
			if err != nil {
				return err
			}
			sc.envoy = res.envoy || isEnvoy(string(scopeName))
			spans := otlpwire.Spans(ss)
			for {
				b, ok := spans.Next()
				if !ok {
					break
				}
				if err := sc.span.Decode(b); err != nil {
					return err
				}
				in.read(sc, res, scope, b, at, minute, refused)
			}
			if err := spans.Err(); err != nil {
				return err
			}
		}
		if err := scopes.Err(); err != nil {
			return err
		}
		if len(sc.halves) > from {
			sc.groups = append(sc.groups, group{res, from, len(sc.halves), sc.tally})
		}
	}
	return resources.Err()
}

// read turns the decoded span into a half.
func (in *Intake) read(sc *scratch, res *resource, scope, raw []byte, at int64, minute uint32, refused *[numFaults]int) {
	sp := &sc.span
	if len(sp.Trace) != 16 {
		refused[badTraceID]++
		return
	}
	hi, lo := binary.BigEndian.Uint64(sp.Trace), binary.BigEndian.Uint64(sp.Trace[8:])
	if hi|lo == 0 {
		refused[badTraceID]++
		return
	}
	if len(sp.ID) != 8 {
		refused[badSpanID]++
		return
	}
	id := binary.BigEndian.Uint64(sp.ID)
	if id == 0 {
		refused[badSpanID]++
		return
	}
	sc.halves = append(sc.halves, half{})
	h := &sc.halves[len(sc.halves)-1]
	if sp.Flags&(hasIsRemote|isRemote) == hasIsRemote|isRemote {
		h.flags = remote
	}
	h.traceHi, h.traceLo, h.id = hi, lo, id
	if len(sp.Parent) == 8 {
		h.parent = binary.BigEndian.Uint64(sp.Parent)
	}
	if h.parent == id {
		h.parent = 0 // a span cannot be its own parent
	}
	h.start, h.duration, h.arrived = int64(sp.Start), int64(sp.End-sp.Start), at
	h.kind = graph.SpanKind(min(sp.Kind, uint8(graph.SpanKindConsumer)))
	if sp.Kind > uint8(graph.SpanKindConsumer) {
		h.kind = graph.SpanKindUnspecified
	}
	isAttempt := sp.Has(otlpwire.RPCAttempts) && bytes.HasPrefix(sp.Name, attemptPrefix)
	if isAttempt && h.kind == graph.SpanKindInternal {
		h.kind = graph.SpanKindClient
	}
	h.node, h.instance, h.version = res.service.ref, res.instance, res.version
	h.weight, h.messages = 1, 0
	if h.kind != graph.SpanKindInternal && h.kind != graph.SpanKindUnspecified {
		in.resolve(sc, h, res, minute)
	} else if sp.Status == uint8(graph.StatusError) {
		h.verdict = judge(sp, graph.ProtocolUnknown)
	}
	tally(&sc.tally, sp, h)
	if mix(lo) <= sc.batch.sampled {
		sc.raws = append(sc.raws, rawRef{len(sc.halves) - 1, res, scope, raw})
	}
}

// The flags of a span that say whether its parent is in another process. Source: OTLP, SpanFlags.
const (
	hasIsRemote = 0x100
	isRemote    = 0x200
)

// attemptPrefix begins the names of the spans that gRPC itself makes of each attempt, INTERNAL ones in some languages,
// below one for the call. Source: gRFC A72.
var attemptPrefix = []byte("Attempt.")

// resolve reads what a span that crosses a boundary says of the call.
func (in *Intake) resolve(sc *scratch, h *half, res *resource, minute uint32) {
	sp, dir := &sc.span, in.pairer.dir
	h.protocol = protocolOf(sp)
	if isAttempt := h.protocol == graph.ProtocolUnknown && sp.Has(otlpwire.RPCAttempts); isAttempt {
		h.protocol = graph.GRPC
	}
	if h.role = proxyRole(sp, sc.envoy); h.proxied() {
		in.standIn(sc, h, res)
	} else {
		if h.protocol == graph.Messaging {
			h.role = messagingRole(sp)
		}
		dir.sending(res.service)
	}
	h.verdict = judge(sp, h.protocol)
	in.weigh(sc, h, res.service)
	sc.name = operationName(sc.name[:0], sp, h.protocol)
	if h.protocol == graph.GRPC {
		sc.name = bytes.TrimPrefix(sc.name, attemptPrefix)
	}
	if len(sc.name) > 0 {
		o := dir.operationOf(res.service, sc.name, minute)
		if h.operation = o.label; o.ignored {
			in.leaveOut(sc, h)
		}
	}
	if (h.outgoing() || h.role == processes || h.role == receives) && h.role != homeward {
		sc.name = peerKey(sc.name[:0], sp, h.protocol)
		if p := dir.peer(res.service, sc.name, sp, h.protocol, minute); p != nil && p.kind != peerNone {
			if h.peer = p.id; p.ignored {
				in.leaveOut(sc, h)
			}
		} else if sp.NumLinks > 0 && h.role == processes {
			h.peer = in.linked(sc, res)
		}
	}
	if p := res.service.policy.Load(); p != nil && p.ignored {
		in.leaveOut(sc, h)
	}
	if h.role == leftOut {
		return
	}
	if h.role == ordinary || h.proxied() {
		annotate(h, sp, &sc.batch)
		return
	}
	h.messages = 1
	if n := first(sp, otlpwire.MessagingBatchCount); n > 0 {
		h.messages = int32(min(n, 1_000_000))
	} else if sp.NumLinks > 1 && h.role != sends {
		h.messages = int32(min(sp.NumLinks, 1_000_000))
	}
	if h.role == processes || h.role == receives {
		var group graph.Label
		if name := sp.Text(groupKeys...); len(name) > 0 {
			group = dir.operation(res.service, name, minute)
		}
		annotateConsumer(h, sp, group, &sc.batch)
	}
}

// linked finds the queue of a consumer that does not name it by the producer that it links to.
func (in *Intake) linked(sc *scratch, res *resource) uint32 {
	for _, l := range sc.span.Links[:min(sc.span.NumLinks, otlpwire.MaxLinks)] {
		r, ok := referenceOf(l)
		if !ok {
			continue
		}
		sh := in.shard(&half{traceHi: r.traceHi, traceLo: r.traceLo})
		sh.mu.Lock()
		by, ok := sh.sender(r)
		sh.mu.Unlock()
		if p := in.pairer.dir.peers.at(by.peer); ok && p != nil && p.kind == peerQueue && p.node.Env == res.service.node.Env {
			return by.peer
		}
	}
	return 0
}

// referenceOf returns what a link leads to, false for one without proper ids.
func referenceOf(l otlpwire.Link) (reference, bool) {
	if len(l.Trace) != 16 || len(l.Span) != 8 {
		return reference{}, false
	}
	return reference{
		traceHi: binary.BigEndian.Uint64(l.Trace), traceLo: binary.BigEndian.Uint64(l.Trace[8:]), span: binary.BigEndian.Uint64(l.Span),
	}, true
}

func (in *Intake) shard(h *half) *shard { return &in.shards[in.shardOf(h)] }

func (in *Intake) shardOf(h *half) uint64 { return mix(h.traceLo^h.traceHi) >> in.shift }

// insert pairs what decode read, and counts the calls that come of it.
func (in *Intake) insert(sc *scratch, at int64) {
	b := &sc.batch
	dropped := &b.dropped
	limit := in.cfg.MaxPending / len(in.shards)
	for _, r := range sc.raws {
		h := &sc.halves[r.half]
		var id graph.TraceID
		binary.BigEndian.PutUint64(id[:8], h.traceHi)
		binary.BigEndian.PutUint64(id[8:], h.traceLo)
		in.book.hold(id, r.resource, r.scope, r.span, at)
	}
	for i := range sc.halves {
		h := &sc.halves[i]
		if reason, bad := implausible(h, at); bad {
			dropped[reason]++
			h.flags |= mute
		} else if h.weight == 0 {
			dropped[dropUnsampled]++
			h.flags |= mute
		}
	}
	sc.sort(in)
	for i, last := range sc.ends[:len(in.shards)] {
		first := int32(0)
		if i > 0 {
			first = sc.ends[i-1]
		}
		if first == last {
			continue
		}
		s, order := &in.shards[i], sc.order[first:last]
		s.mu.Lock()
		if s.n+len(order) > limit {
			dropped[dropEvicted] += in.pairer.evict(s, max(limit-limit/64-len(order), 0), b)
		}
		for _, r := range sc.rates {
			if h := &sc.halves[r.half]; in.shardOf(h) == uint64(i) {
				s.rates.put(h, r.weight)
			}
		}
		s.touch(sc.halves, order)
		for _, k := range order {
			if !in.pairer.insert(s, &sc.halves[k], b) {
				dropped[dropDuplicate]++
			}
		}
		s.mu.Unlock()
	}
	for i := range sc.groups {
		g := &sc.groups[i]
		g.resource.spans.Add(int64(g.to - g.from))
		g.resource.lastSeen.Store(at)
		if last := latest(sc.halves[g.from:g.to]); last > 0 {
			in.clocks.note(g.resource.instance, at-last, at)
		}
		if process, ok := in.pairer.dir.process(g.resource); ok {
			in.live.ObserveNode(process, g.to-g.from, at)
		}
		g.resource.count(&g.tally)
	}
	in.settle(b)
}

// latest returns when the last of some halves ended, 0 when none has plausible times.
func latest(halves []half) (last int64) {
	for i := range halves {
		if h := &halves[i]; h.flags&mute == 0 {
			last = max(last, h.end())
		}
	}
	return last
}

// implausible reports whether a half's times may not enter any figure, and why.
func implausible(h *half, at int64) (dropReason, bool) {
	end := h.end()
	switch {
	case h.duration < 0 || h.duration > int64(maxDuration) || h.start < 0 || end < h.start:
		return dropDuration, true
	case end > at+int64(maxAhead):
		return dropFuture, true
	case end < at-int64(maxAge):
		return dropTooOld, true
	}
	return 0, false
}

// settle acts on what a batch gathered under locks.
func (in *Intake) settle(b *batch) {
	in.consume(b)
	in.live.Observe(b.calls)
	in.live.ObserveFacts(b.facts)
	in.book.consider(b.offers)
	in.pairer.dir.remark(b.remarks)
	if b.late != 0 {
		in.count.late.Add(b.late)
	}
	for i, n := range b.alone {
		if n != 0 {
			in.count.alone[i].Add(n)
		}
	}
	for i, n := range b.dropped {
		if n != 0 {
			in.count.dropped[i].Add(n)
		}
	}
}

// Tick lets time pass: halves that waited long enough count alone. Called a few times a second.
func (in *Intake) Tick(now time.Time) {
	in.tick.Lock()
	defer in.tick.Unlock()
	at := now.UnixNano()
	in.heed(at)
	in.expire(now, in.cfg.Wait)
	in.pairer.dir.roll(now)
	if at-in.book.adapted >= int64(time.Second) {
		in.book.adapt(at)
		in.analysis.adapt(at, in.count.accepted.Load())
	}
	if at-in.lastTick >= int64(time.Minute) {
		in.lastTick = at
		in.pairer.dir.sweep(uint32(at / int64(time.Minute)))
	}
	if at-in.lastNodes >= int64(nodeSweep) {
		in.lastNodes = at
		in.sweepNodes(at)
	}
}

// Flush counts every half that is still waiting as it stands: for an orderly stop.
func (in *Intake) Flush(now time.Time) {
	in.tick.Lock()
	defer in.tick.Unlock()
	in.expire(now, 0)
}

func (in *Intake) expire(now time.Time, wait time.Duration) {
	at := now.UnixNano()
	b := &in.waited
	b.analysis, b.now = in.analysis, at
	b.sampled = in.book.sampled.Load()
	for i := range in.shards {
		s := &in.shards[i]
		s.mu.Lock()
		in.pairer.expire(s, at, int64(wait), int64(keepWaits*in.cfg.Wait), int64(lateFor), in.analysis, b)
		s.mu.Unlock()
		in.settle(b)
		b.reset()
		runtime.Gosched()
	}
}

// Examples returns traces chosen since the last call as examples of their edges.
func (in *Intake) Examples(now time.Time) []graph.KeptTrace {
	return in.book.choose(now.UnixNano(), in.live.Names())
}

// Refuse counts a request by what became of it: one that was refused before Consume, by reason.
func (in *Intake) Refuse(reason string) {
	in.requests.Lock()
	in.requests.m[reason]++
	in.requests.Unlock()
}

// Counters returns what became of the spans so far.
func (in *Intake) Counters() graph.Counters {
	c := graph.Counters{
		Received: in.count.received.Load(), Accepted: in.count.accepted.Load(), Late: in.count.late.Load(),
		Refused: map[string]int64{}, Requests: map[string]int64{}, Dropped: in.live.Dropped(), Unpaired: map[string]int64{},
		Traces: map[string]int64{}, Bytes: in.book.held.Load(), Senders: in.pairer.dir.senders(100),
	}
	for i := range in.count.refused {
		if n := in.count.refused[i].Load(); n > 0 {
			c.Refused[faultNames[i]] = n
		}
	}
	for i := range in.count.dropped {
		if n := in.count.dropped[i].Load(); n > 0 {
			c.Dropped[dropNames[i]] = n
		}
	}
	if n := in.pairer.dir.overflow.Load(); n > 0 {
		c.Dropped["name_limit"] = n
	}
	if n := in.pairer.dir.externals.count(); n > 0 {
		c.Dropped["external_limit"] = n
	}
	for i := range in.count.alone {
		c.Unpaired[aloneNames[i]] = in.count.alone[i].Load()
	}
	for i := range in.analysis.counts {
		c.Traces[traceFates[i]] = in.analysis.counts[i].Load()
	}
	in.requests.Lock()
	maps.Copy(c.Requests, in.requests.m)
	in.requests.Unlock()
	for i := range in.shards {
		s := &in.shards[i]
		s.mu.Lock()
		c.Pending += int64(s.n)
		c.Bytes += int64(s.n*halfSize + s.notes.n*noteSize + s.refs.n*refSize + (s.sent.len()+s.delivered.len())*messageSize)
		if s.forgotten > 0 {
			c.Dropped[dropNames[dropMessage]] += s.forgotten
		}
		s.mu.Unlock()
	}
	if t := in.count.lastSpan.Load(); t > 0 {
		c.LastSpan = time.Unix(0, t).UTC()
	}
	return c
}

// The names under which an Intake's state is kept.
const aliasesKey, evidenceKey = "aliases", doctor.StateKey

// State returns what was learned about addresses and about the instrumentation of services, for Restore after a restart.
func (in *Intake) State(now time.Time) map[string][]byte {
	state := map[string][]byte{aliasesKey: nil, evidenceKey: nil}
	// Texts and numbers always marshal.
	if data, err := in.pairer.dir.aliases.save(in.live.Names()); err == nil {
		state[aliasesKey] = data
	}
	if data, err := in.pairer.dir.saveEvidence(now); err == nil {
		state[evidenceKey] = data
	}
	return state
}

// Restore takes what State returned in an earlier process, as far as there is any. now is when this one started: halves
// from before it, whose other halves the earlier process may have counted, are not shown as calls of an unknown caller.
func (in *Intake) Restore(now time.Time, state map[string][]byte) error {
	in.pairer.started = now.UnixNano()
	var errs []error
	if data, ok := state[aliasesKey]; ok {
		errs = append(errs, in.pairer.dir.aliases.load(in.live.Names(), in.pairer.dir.rules.Load(), data))
	}
	if data, ok := state[evidenceKey]; ok {
		errs = append(errs, in.pairer.dir.loadEvidence(data, now))
	}
	return errors.Join(errs...)
}
