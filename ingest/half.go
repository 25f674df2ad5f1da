package ingest

import "faultline/graph"

// A half is one span in flight: what is left of it once names are numbers. It holds no pointer, and takes two cache
// lines: what is looked at while searching lies in the first.
type half struct {
	traceHi, traceLo uint64
	id, parent       uint64 // id is 0 in a slot that is free

	nextSame             uint32 // chain of the halves of one bucket by (trace, id)
	nextChild, prevChild uint32 // chain of the halves of one bucket by (trace, parent)
	node                 graph.NodeRef
	peer                 uint32
	operation            graph.Label
	flags                halfFlags
	kind                 graph.SpanKind
	protocol             graph.Protocol
	role                 role
	verdict              verdict
	resend               uint8 // how many attempts the span says were made before it

	start, duration   int64 // nanoseconds since the epoch; nanoseconds
	arrived           int64 // nanoseconds since the epoch, by the receiving clock
	instance, version graph.Label
	weight            int32
	messages          int32
	out               outFact
	in                inFact
	note              uint32 // in its shard's notes; 0 is none
}

// halfFlags are what is known of a half beside its numbers.
type halfFlags uint16

// The flags of a half.
const (
	waited      halfFlags = 1 << iota // it waited long enough to count alone
	blocks                            // a server span below it waits for its parent to be known
	keep                              // it stayed alone, and its other half may come late; or another attempt did
	retry                             // not a logical call: an attempt after a failed one, or beside one
	resolved                          // another attempt made up for it: its error is not the logical call's
	hedge                             // it began beside an attempt that was going well; or all below it did but the first
	mute                              // it says who called whom, but enters no figure itself
	remote                            // it says that its parent is in another process
	once                              // it must not be made twice
	transparent                       // an attempt that its library made because the one before never left
	exhausted                         // a proxy made all the attempts that it may
	outside                           // its times are not within its parent's, or need not be because that one had left
	about                             // a span below it is outside, and has waited
	doubted                           // it was made again, and it is not known whether it had been carried out
	counted                           // in the shard's count of halves that were tried
	linked                            // its links were looked at after it had waited

	// toOrder is said of a callee's half instead of about: its caller's had waited when it came, and what clocks are asked
	// about of their call is said anew when it has waited as well.
	toOrder = about
)

// attempt are the flags that say what a call is in its logical call.
const attempt = retry | resolved | hedge

// outFact is what a caller's half has been counted as; target 0 is nothing.
type outFact struct {
	target   graph.NodeRef
	protocol graph.Protocol
	calls    uint8
	errors   uint8
	cause    graph.Cause
	flags    uint8      // retry, resolved, hedge, and those below
	version  shortLabel // of the target, where it answered
}

// The flags of an outFact beside those of its attempt.
const (
	outSilent   uint8 = 1 << iota // the target is a service, and its half is not there
	outMissing                    // and it should be
	outAnswered                   // the target is the service that answered
	outAwaited  uint8 = 1 << 6    // its half may still come: the call has not waited for it
)

func (f *outFact) is(flag uint8) bool { return f.flags&flag != 0 }

// shortLabel is a label in three bytes, zero for one that takes four: there are never so many that are held at once.
type shortLabel [3]byte

func short(l graph.Label) (s shortLabel) {
	if l>>24 == 0 {
		s = shortLabel{byte(l), byte(l >> 8), byte(l >> 16)}
	}
	return s
}

func (s shortLabel) label() graph.Label {
	return graph.Label(s[0]) | graph.Label(s[1])<<8 | graph.Label(s[2])<<16
}

// counted returns what of f enters a figure.
func (f outFact) counted() outFact {
	f.flags &^= outSilent | outAnswered | outAwaited
	f.version = shortLabel{} // of that and the callee's version, see moved
	return f
}

// inFact is what a callee's half has been counted as; source 0 is nothing.
type inFact struct {
	source   graph.NodeRef
	protocol graph.Protocol
	call     bool // it counts as a call, because the caller's half is not seen
	missing  bool
	flags    uint8 // retry, resolved, of a call
}

func (h *half) end() int64 { return h.start + h.duration }

// lieWithin notes whether h's times lie within its parent's, and reports whether they do not.
func (h *half) lieWithin(parent *half) (not bool) {
	h.flags &^= outside
	if h.start < parent.start || h.end() > parent.end() {
		h.flags |= outside
	}
	return h.flags&outside != 0
}

// serveWithin notes whether h's times lie within those of the call that it answers. Where its caller had left, that they
// seem to is no sign that it was done by then: the clocks may differ. A caller's half that comes late is told.
func (h *half) serveWithin(caller *half) {
	if h.lieWithin(caller); caller.left() && !h.outgoing() {
		h.flags |= outside
	}
	if h.flags&(outside|waited) == outside|waited {
		caller.flags |= about
	}
}

// plain reports whether the half is one side of a call and nothing else.
func (h *half) plain() bool { return h.role == ordinary || h.role == triggered }

// proxied reports whether the half is a proxy's.
func (h *half) proxied() bool { return h.role == outward || h.role == homeward }

func (h *half) outgoing() bool {
	return h.kind == graph.SpanKindClient || h.kind == graph.SpanKindProducer
}

func (h *half) serving() bool {
	return h.kind == graph.SpanKindServer || h.kind == graph.SpanKindConsumer
}

// turnedAway reports whether a callee over HTTP, which alone is seen of the call, answered that its caller may not have
// what it asked for, or too much of it. That is the caller's own fault, and no error.
func (h *half) turnedAway() bool {
	if h.kind != graph.SpanKindServer || h.protocol != graph.HTTP || !h.in.call {
		return false
	}
	f := h.verdict.failure()
	return f == graph.Auth || f == graph.Throttled
}

// failed reports whether the call failed, as h saw it.
func (h *half) failed() bool { return h.verdict.outcome == graph.Error && !h.turnedAway() }

// retryable reports whether the call failed in a way that makes callers try again.
func (h *half) retryable() bool {
	return h.verdict.outcome == graph.Error && h.verdict.failure() != graph.Auth
}

// left reports whether the caller did not wait for the answer.
func (h *half) left() bool {
	return h.verdict.outcome == graph.Cancelled || h.verdict.failure() == graph.Timeout
}

// guarded reports whether the caller's own breaker or pool kept the call from its callee.
func (h *half) guarded() bool {
	return h.verdict.outcome == graph.Error && h.verdict.failure().Guarded()
}

// tried reports whether h makes it worth looking for other attempts among its siblings.
func (h *half) tried() bool {
	if h.parent == 0 {
		return false
	}
	return h.resend > 0 || h.outgoing() && (h.retryable() || h.verdict.outcome == graph.Cancelled)
}
