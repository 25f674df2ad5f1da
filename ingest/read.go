package ingest

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"faultline/graph"
	"faultline/graph/doctor"
	"faultline/ingest/otlpwire"
)

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
			before := sc.tally[doctor.Spans]
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
			if bytes.Contains(scope, tailSampled) {
				sc.tally[doctor.Chosen] += sc.tally[doctor.Spans] - before
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

// tailSampled is the attribute of scopes in which the Collector's tail sampling processor says by which policy it kept a
// trace, if it is told to (processor.tailsamplingprocessor.recordpolicy).
var tailSampled = []byte("tailsampling.policy")

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
		if h.guarded() {
			in.guard(sc, h, res, minute)
		}
	}
	if sp.NumLinks > 0 && h.plain() && h.protocol != graph.Messaging {
		annotateLink(h, sp, &sc.batch)
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

// breakerShare is how small a part of what calls of the edge usually take one takes at the most that did, where only the words of
// its message say so; but less than breakerShortest is always short enough: some clocks count whole milliseconds.
const (
	breakerShare    = 10
	breakerShortest = int64(1e6)
)

// notABreakers reports whether a call that failed with a breaker's words, and took too long for that beside what calls to
// the peer usually take, was told so by somebody else.
func (in *Intake) notABreakers(h *half, p *peer, sp *otlpwire.Span) bool {
	if h.verdict.failure() != graph.BreakerOpen || h.verdict.outcome != graph.Error || !h.outgoing() || h.duration < breakerShortest ||
		sp.Has(otlpwire.ResponseFlags) || namesBreaker(sp) {
		return false
	}
	target, _ := in.pairer.dir.fallback(p)
	usual := in.live.Median(graph.EdgeRef{Source: h.node, Target: target, Protocol: h.protocol})
	return usual > 0 && h.duration >= max(usual/breakerShare, breakerShortest)
}

// breakerTakes is how long a call takes at the least, in nanoseconds, which did not fail at the caller's own breaker.
const breakerTakes = int64(5e6)

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
		} else if h.kind == graph.SpanKindServer && sp.Has(otlpwire.FaaSTrigger) {
			h.role = triggered
		}
		if h.kind == graph.SpanKindServer && h.plain() {
			res.service.servedBy(h.protocol)
		}
		dir.sending(res.service)
	}
	h.verdict = judge(sp, h.protocol)
	if h.outgoing() && h.duration >= breakerTakes && h.guarded() && h.verdict.failure() == graph.BreakerOpen && !sp.Has(otlpwire.ResponseFlags) {
		h.verdict.cause = class(graph.ServerError)
	}
	in.weigh(sc, h, res.service)
	sc.name = operationName(sc.name[:0], sp, h.protocol)
	if h.protocol == graph.GRPC {
		sc.name = bytes.TrimPrefix(sc.name, attemptPrefix)
	}
	says := res.service.policy.Load()
	h.verdict = says.reconsider(h.verdict, sp, h.protocol, sc.name)
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
			if in.notABreakers(h, p, sp) {
				h.verdict.cause = class(graph.ServerError)
			}
		} else if sp.NumLinks > 0 && h.role == processes {
			h.peer = in.linked(sc, res)
		}
	}
	if says != nil && says.ignored {
		in.leaveOut(sc, h)
	}
	if h.role == leftOut {
		return
	}
	if h.plain() || h.proxied() {
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
