// Package ingest turns OTLP bytes into calls: it decodes, resolves names, and pairs the halves of each call. Its
// receiver and exporter are the Collector's way in; Intake is what both feed.
//
// A call's halves come in any order and in any requests. What is certain is counted at once, and taken back and counted
// anew when the other half says more; sums of signed integers make the result the same whatever the order. What an
// Intake holds is bounded, and everything it drops is counted by reason. It does not keep what it was given: until spans
// are counted, and for the few seconds in which they wait for each other, a killed process loses them.
package ingest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"faultline/graph"
	"faultline/graph/doctor"
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
	// bookedSize is that of a fact that may be moved.
	bookedSize = 64
	// minShards and maxShards bound the shards. There are a few for each processor: enough that they rarely wait for each
	// other, few enough that a request has several spans for each.
	minShards, maxShards = 8, 256
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
		late, negative     atomic.Int64
		lastSpan           atomic.Int64
	}
	requests struct {
		sync.Mutex
		m map[string]int64
	}
}

// NewIntake returns an Intake that puts calls into live.
func NewIntake(cfg Config, live *graph.Live) *Intake {
	in := &Intake{cfg: cfg, live: live, book: newBook(cfg.MemoryLimit / 3), before: newRequestBook()}
	n := minShards
	for n < 4*runtime.GOMAXPROCS(0) && n < maxShards {
		n *= 2
	}
	in.shards, in.shift = make([]shard, n), uint(64-bits.TrailingZeros(uint(n)))
	in.cfg.MaxPending = max(min(cfg.MaxPending, int(cfg.MemoryLimit*2/3/halfSize)), n)
	in.clocks.of = map[graph.Label]*clock{}
	in.pairer = pairer{dir: newDirectory(live.Names()), offsets: newOffsets(), wait: int64(cfg.Wait)}
	in.requests.m = map[string]int64{}
	for _, outcome := range outcomes {
		in.requests.m[outcome] = 0
	}
	in.analysis = newAnalysis(cfg.Analyse, cfg.Wait)
	for i := range in.shards {
		in.shards[i].init(n)
	}
	in.pool.New = func() any { return new(scratch) }
	return in
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
	in.mend(b)
	in.link(b)
	in.live.Observe(b.calls)
	in.live.ObserveFacts(b.facts)
	in.book.consider(b.offers)
	in.pairer.dir.remark(b.remarks)
	in.pairer.offsets.learn(b.lessons)
	if b.late != 0 {
		in.count.late.Add(b.late)
	}
	if b.negative != 0 {
		in.count.negative.Add(b.negative)
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

// Criticality returns how critical a service said last that it is, also in an earlier process.
func (in *Intake) Criticality(n graph.Node) graph.Criticality {
	return in.pairer.dir.critical.of(n.Identity())
}

// Tick lets time pass: halves that waited long enough count alone. Called a few times a second.
func (in *Intake) Tick(now time.Time) {
	in.tick.Lock()
	defer in.tick.Unlock()
	at := now.UnixNano()
	in.heed(at)
	in.pairer.offsets.survey(at)
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
	in.book.flush(now.UnixNano(), in.live.Names())
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

// Examples returns traces chosen as examples of their edges, each once. Those chosen together come over a few seconds;
// after Flush all that are left do at once.
func (in *Intake) Examples(now time.Time) []graph.KeptTrace {
	return in.book.choose(now.UnixNano(), in.live.Names())
}

// The names under which an Intake's state is kept.
const aliasesKey, evidenceKey, criticalityKey = "aliases", doctor.StateKey, graph.CriticalityStateKey

// State returns what was learned about addresses, about the instrumentation of services and about how critical they are,
// for Restore after a restart.
func (in *Intake) State(now time.Time) map[string][]byte {
	state := map[string][]byte{aliasesKey: nil, evidenceKey: nil, criticalityKey: nil}
	// Texts and numbers always marshal.
	if data, err := in.pairer.dir.aliases.save(in.live.Names()); err == nil {
		state[aliasesKey] = data
	}
	if data, err := in.pairer.dir.saveEvidence(now); err == nil {
		state[evidenceKey] = data
	}
	if data, err := in.pairer.dir.critical.save(now, in.pairer.dir.there); err == nil {
		state[criticalityKey] = data
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
	if data, ok := state[criticalityKey]; ok {
		errs = append(errs, in.pairer.dir.critical.load(data))
	}
	return errors.Join(errs...)
}
