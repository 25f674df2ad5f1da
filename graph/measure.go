package graph

// Measure is what is measured on an edge beside calls and latency, kept by the minute under its name in the dimension
// Measured: Calls is how often it was seen, Errors how many of those are what its comment calls failed, Latency the
// values. What is not said otherwise is a time in nanoseconds. The zero value is none.
type Measure uint8

// The measures of calls, counted for every one of them.
const (
	_ Measure = iota
	// RetryGap is the time from the end of a failed attempt to the beginning of the next; failed retries are failed.
	RetryGap
	// RetryGrowth is the second such gap of a logical call over its first, in thousandths.
	RetryGrowth
	// RetryPushback is like RetryGap, where the answer asked for a wait; failed is a retry that did not wait that long.
	RetryPushback
	// Resend is another attempt that is no retry: after a redirect, with credentials, or of one that never left. The
	// value is the time between them; failed resends are failed.
	Resend
	// Hedge is an attempt that began while an earlier one was still going well. The value is how long after the earlier
	// one it began; failed hedges are failed.
	Hedge
	// UnsafeRetry is a call that must not be made twice and was, after its answer was lost or came too late; failed is one
	// that is known to have been carried out the first time. The value is how long the first attempt took.
	UnsafeRetry
	// Redelivery is a message that is delivered again to the same group. The value is the time since it had been
	// processed before, 0 where only a count of deliveries says so; failed is one whose processing failed again.
	Redelivery
	// Wasted is how long the callee worked on after its caller had left.
	Wasted
	// Lag is how long a message waited in its queue, by the producer's clock where it is known how the consumer's differs.
	Lag
	// LagSkewed is a lag that says nothing, because the clocks of producer and consumer differ, by nobody knows how much:
	// how far it is below zero, or how far the clocks seem to differ, which is more than a tenth of the lag.
	LagSkewed
	// ProxyOut, Network and ProxyIn are the parts of the time between caller and callee that proxies tell apart.
	ProxyOut
	Network
	ProxyIn
	// Skew is how far the callee's clock is ahead of the caller's, and SkewBehind how far it is behind, of calls whose
	// halves cannot lie as their clocks say: the middle of the range that is possible, or its near end where the callee
	// worked on after it had answered.
	Skew
	SkewBehind
	// LagWithin is by how much a Lag may be off that lies between two clocks which are known to be so far apart, of a
	// share of the messages. Lags without it are as the clocks say.
	LagWithin
	// TurnedDown is a message that its consumer gave back to the queue, and GivenUp one that it sent to the dead letters;
	// the value is how long that took.
	TurnedDown
	GivenUp
	// RetriedCall is a logical call that took more than one attempt, a retry among them: the value is how long its caller
	// waited, from the beginning of the first to the end of the last, or to the first good answer; failed is one that had
	// none.
	RetriedCall
	// NegativeGap is a call whose callee took longer than its caller, who had not left: the time between them counts as
	// 0. The value is by how much.
	NegativeGap

	firstOfTraces
)

// The measures of whole traces, taken of a share of them that is chosen by trace id and spoken of as "traces analysed".
const (
	// Traces is the duration of the traces that use the edge; failed are those that failed as a whole.
	Traces Measure = firstOfTraces + iota
	// Gap is the time between caller and callee: the caller's latency without the callee's.
	Gap
	// Critical is the time of the trace's critical path that lies on the edge and in what is below it.
	Critical
	// CriticalEdge is the part of Critical between caller and callee, or all of it where the callee sends no spans.
	CriticalEdge
	// CriticalSelf is the part of Critical in the callee's own code.
	CriticalSelf
	// OriginEdge is a failed trace whose failure began on the edge, failed if that was a timeout or a lost response;
	// OriginSelf is one where it began in the callee. The value is the share of the trace's failure that began there, in
	// thousandths.
	OriginEdge
	OriginSelf
	// Absorbed is a logical call that failed, and how long its last attempt took; failed are those whose caller failed
	// as well.
	Absorbed
	// Repeated is an operation that made ten or more calls of one kind one after the other; the value is what calling
	// once, or at once, would save.
	Repeated
	// Parallel are calls of an operation that ran beside another one of it, and Sequential those that did not, of an
	// operation that makes several kinds; and how long they took.
	Parallel
	Sequential
	// Depth is how many calls that were answered lie one below the other in a trace; of edges that enter.
	Depth
	// NestedRetries is a trace with a failed call that was retried at two layers or more, the last of which is the edge;
	// the value is the product of the attempts.
	NestedRetries
	// PassedOn is a call that failed because its callee did, and how long it took; failed are those whose callee failed
	// because a call that it made had failed.
	PassedOn

	numMeasures
)

var measureNames = [numMeasures]string{
	RetryGap: "retry_gap", RetryGrowth: "retry_growth", RetryPushback: "retry_pushback", Resend: "resend", Hedge: "hedge",
	UnsafeRetry: "unsafe_retry", Redelivery: "redelivery", Wasted: "wasted", Lag: "lag", LagSkewed: "lag_skewed",
	ProxyOut: "proxy_out", Network: "network", ProxyIn: "proxy_in", Skew: "skew", SkewBehind: "skew_behind",
	LagWithin: "lag_within", TurnedDown: "turned_down", GivenUp: "given_up",
	RetriedCall: "retried_call", NegativeGap: "negative_gap",
	Traces: "traces", Gap: "gap", Critical: "critical", CriticalEdge: "critical_edge", CriticalSelf: "critical_self",
	OriginEdge: "origin_edge", OriginSelf: "origin_self", Absorbed: "absorbed", Repeated: "repeated", Parallel: "parallel",
	Sequential: "sequential", Depth: "depth", NestedRetries: "nested_retries",
	PassedOn: "passed_on",
}

// String returns the measure's name: that of its detail.
func (m Measure) String() string { return measureNames[m%numMeasures] }

// Key returns the key of the measure's detail.
func (m Measure) Key() DetailKey { return DetailKey{Dimension: Measured, Name: m.String()} }
