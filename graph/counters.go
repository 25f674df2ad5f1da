package graph

import "time"

// Counters is what became of the spans that were offered, since the process started. Received = Accepted + the sum of
// Refused; what is dropped later was accepted first. Each reason and outcome is there from the start, with 0.
type Counters struct {
	Received int64            // spans in requests that could be read
	Accepted int64            // spans that count
	Refused  map[string]int64 // spans refused, by reason
	Requests map[string]int64 // requests by outcome: ok, partial, malformed, too_large, unsupported, unauthenticated, overloaded, incomplete, stopping
	Dropped  map[string]int64 // spans or facts dropped after they were accepted, by reason
	Unpaired map[string]int64 // halves that stayed alone, by kind of half and why, as "client_external"
	Traces   map[string]int64 // roots of traces, by whether what is below them was looked at together: analysed, long, skipped, too_large
	// NegativeGaps are calls whose callee took longer than its caller, who had not left: the gap counts as 0.
	NegativeGaps int64
	Late         int64     // halves paired after their edge had been shown provisionally
	Pending      int64     // spans in flight, waiting for their other half
	Bytes        int64     // memory held for spans in flight and candidates for examples
	LastSpan     time.Time // when a span was last accepted; zero if never
	Senders      []Sender  // who sent, the most recent first, bounded
}

// Sender is a service that sent spans.
type Sender struct {
	Node     Node
	SDK      string // telemetry.sdk.language and version, "" when unknown
	Spans    int64
	LastSeen time.Time
}
