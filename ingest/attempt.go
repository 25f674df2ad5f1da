package ingest

import (
	"net/http"

	"faultline/graph"
	"faultline/ingest/otlpwire"
)

// The attributes that say which attempt a call is, and how long to wait before the next, in the order in which they count.
var (
	pushbackKeys = [...]otlpwire.Key{otlpwire.RPCMetadataPushback, otlpwire.RPCGRPCMetadataPushback}
	resendKeys   = [...]otlpwire.Key{otlpwire.HTTPResendCount, otlpwire.RetryCount, otlpwire.RPCAttempts}
	attemptKeys  = [...]otlpwire.Key{otlpwire.RPCMetadataAttempts, otlpwire.RPCGRPCMetadataAttempts, otlpwire.HTTPResendCount}
)

// annotate reads what a call says of attempts: which one it is, and whether another one may follow.
func annotate(h *half, sp *otlpwire.Span, b *batch) {
	if h.serving() {
		h.resend = uint8(min(max(first(sp, attemptKeys[:]...), first(sp, otlpwire.HTTPAttemptCount)-1), 255))
		return
	}
	h.resend = uint8(min(first(sp, resendKeys[:]...), 255))
	if v := sp.Get(otlpwire.RPCTransparentRetry); v.Type == otlpwire.Bool && v.Num == 1 || string(v.Text) == "true" || string(v.Text) == "1" {
		h.flags |= transparent
	}
	if m := sp.Text(methodKeys...); (string(m) == "POST" || string(m) == "PATCH") && !sp.Has(otlpwire.HTTPIdempotencyKey) {
		h.flags |= once
	}
	if h.verdict.outcome != graph.Error {
		return
	}
	if flags := sp.Text(otlpwire.ResponseFlags); len(flags) > 0 && hasFlag(flags, graph.RetryLimit) {
		h.flags |= exhausted
	}
	if n := askedToWait(h, sp); n != (note{}) {
		b.notes = append(b.notes, n)
		h.note = uint32(len(b.notes))
	}
}

// maxPushback bounds the wait that an answer may ask for: an hour.
const maxPushback = 3600

// askedToWait returns how long an answer asks to wait before another attempt, the zero note when it does not. Retry-After
// may be a date instead of seconds, by the callee's clock: then it is the time from the end of the call, as far as the two
// clocks agree. Sources: RFC 9110, 10.2.3; gRFC A6.
func askedToWait(h *half, sp *otlpwire.Span) note {
	if n := first(sp, otlpwire.HTTPRetryAfter); n > 0 {
		return note{pushback: min(n, maxPushback) * 1e9}
	}
	if date := sp.Text(otlpwire.HTTPRetryAfter); len(date) > len("0") {
		if until, err := http.ParseTime(string(date)); err == nil {
			if wait := until.UnixNano() - h.end(); max(wait, -wait) <= maxPushback*1e9 {
				return note{pushback: wait, dated: true}
			}
		}
	}
	if n := first(sp, pushbackKeys[:]...); n > 0 {
		return note{pushback: min(n, maxPushback*1000) * 1e6}
	}
	return note{}
}

// pushback returns how long the answer to h asked to wait, 0 or less when it did not: until a date is told by h's clock, as
// far as it is known how its callee's differs.
func (p *pairer) pushback(s *shard, h *half) (wait int64) {
	if h.note == 0 {
		return 0
	}
	n := s.notes.at(h.note)
	if !n.dated {
		return n.pushback
	}
	var last *half // of several attempts below one client span, the one whose answer it is
	p.below(s, h, func(c *half) bool {
		if c.serving() && c.node == h.out.target && (last == nil || c.end() > last.end() || c.end() == last.end() && c.id > last.id) {
			last = c
		}
		return true
	})
	if last == nil {
		return n.pushback
	}
	return n.pushback - p.offsets.ahead(h.instance, last.instance)
}

// dated reports whether the answer to h asked to wait until a date.
func (s *shard) dated(h *half) bool { return h.note != 0 && s.notes.at(h.note).dated }

// heeded emits whether h, a retry of an earlier attempt, waited as long as the answer to that one asked it to.
func (p *pairer) heeded(s *shard, h, earlier *half, b *batch) {
	if wait := p.pushback(s, earlier); wait > 0 {
		gap := max(0, h.start-earlier.end())
		b.fact(h.called(), h.end(), graph.RetryPushback, gap, h.weight, gap < wait)
		s.book(h, b.facts[len(b.facts)-1:], ofPushback, b)
	}
}

// heededAnew says anew whether the retries of h waited until the date that its answer asked for, by what is known by now of
// its callee's clock.
func (p *pairer) heededAnew(s *shard, g *siblings, h *half, b *batch) {
	if !s.dated(h) {
		return
	}
	for i, c := range g.of[:g.n] {
		if g.is[i] == retries && g.to[i] == h && c.flags&(waited|mute) == waited && c.out.target != 0 && !s.settled(c) {
			s.takeBack(c, b, ofPushback)
			p.heeded(s, c, h, b)
		}
	}
}
