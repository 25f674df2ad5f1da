package ingest

import (
	"maps"
	"time"

	"faultline/graph"
)

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
	dropOffset
	dropBooked
	dropIgnored
	dropThreshold // not the span: what it says of sampling
	numDrops
)

var dropNames = [numDrops]string{
	"duplicate", "invalid_duration", "too_old", "in_the_future", "zero_weight", "evicted_early", "link_limit", "message_limit",
	"offset_limit", "fact_limit", "ignored", "malformed_threshold",
}

// Refuse counts a request by what became of it: one that was refused before Consume, by reason.
func (in *Intake) Refuse(reason string) {
	in.requests.Lock()
	in.requests.m[reason]++
	in.requests.Unlock()
}

// Limits returns the limits in force, by name; those of time in seconds.
func (in *Intake) Limits() map[string]int64 {
	return map[string]int64{
		"wait": int64(in.cfg.Wait / time.Second), "spans_in_flight": int64(in.cfg.MaxPending), "intake_memory_bytes": in.cfg.MemoryLimit,
		"analysed_spans_per_second": int64(in.cfg.Analyse),
	}
}

// Counters returns what became of the spans so far, each reason that there is also where it counts nothing: what was never
// there cannot be seen to grow.
func (in *Intake) Counters() graph.Counters {
	c := graph.Counters{
		Received: in.count.received.Load(), Accepted: in.count.accepted.Load(), Late: in.count.late.Load(), NegativeGaps: in.count.negative.Load(),
		Refused: map[string]int64{}, Requests: map[string]int64{}, Dropped: in.live.Dropped(), Unpaired: map[string]int64{},
		Traces: map[string]int64{}, Bytes: in.book.held.Load(), Senders: in.pairer.dir.senders(100),
	}
	for i := range in.count.refused {
		c.Refused[faultNames[i]] = in.count.refused[i].Load()
	}
	for i := range in.count.dropped {
		c.Dropped[dropNames[i]] = in.count.dropped[i].Load()
	}
	c.Dropped["name_limit"], c.Dropped["external_limit"] = in.pairer.dir.overflow.Load(), in.pairer.dir.externals.count()
	for i := range in.count.alone {
		c.Unpaired[aloneNames[i]] = in.count.alone[i].Load()
	}
	for i := range in.analysis.counts {
		c.Traces[traceFates[i]] = in.analysis.counts[i].Load()
	}
	held, forgotten := in.pairer.offsets.size()
	c.Bytes += held
	c.Dropped[dropNames[dropOffset]] = forgotten
	in.requests.Lock()
	maps.Copy(c.Requests, in.requests.m)
	in.requests.Unlock()
	for i := range in.shards {
		s := &in.shards[i]
		s.mu.Lock()
		c.Pending += int64(s.n)
		c.Bytes += int64(s.n*halfSize + s.notes.n*noteSize + s.refs.n*refSize + s.booked.n*bookedSize)
		c.Bytes += int64((s.sent.len()+s.delivered.len())*messageSize + s.awaiting.len()*awaitingSize)
		c.Dropped[dropNames[dropMessage]] += s.forgotten
		s.mu.Unlock()
	}
	if t := in.count.lastSpan.Load(); t > 0 {
		c.LastSpan = time.Unix(0, t).UTC()
	}
	return c
}
