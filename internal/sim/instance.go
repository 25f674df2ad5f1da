package sim

import (
	"cmp"
	"slices"
	"time"
)

type instance struct {
	svc     *service
	index   int
	res     resource
	id, ip  string
	skew    int64
	every   time.Duration
	next    time.Time // next export
	pending []dueSpan
	workers []int64 // when each is free; empty: there are enough
}

// admit returns which worker takes a call that arrives at a time, and when it does.
func (in *instance) admit(at int64) (worker int, start int64) {
	for i, free := range in.workers {
		if free < in.workers[worker] {
			worker = i
		}
	}
	if len(in.workers) == 0 {
		return 0, at
	}
	return worker, max(at, in.workers[worker])
}

// release frees a worker at a time.
func (in *instance) release(worker int, at int64) {
	if len(in.workers) > 0 {
		in.workers[worker] = at
	}
}

// dueSpan is a span that its instance has from due on, in Unix ns of the
// simulation's own clock.
type dueSpan struct {
	due  int64
	span *span
}

// export takes the spans that the instance has by then and encodes them, in
// requests of at most as many spans as SDKs put into one.
func (in *instance) export(at time.Time, until int64) []Batch {
	const mostSpans = 512
	slices.SortStableFunc(in.pending, func(a, b dueSpan) int { return cmp.Compare(a.due, b.due) })
	n, _ := slices.BinarySearchFunc(in.pending, until, func(s dueSpan, t int64) int {
		if s.due <= t {
			return -1
		}
		return 1
	})
	var batches []Batch
	for chunk := range slices.Chunk(in.pending[:n], mostSpans) {
		spans := make([]*span, len(chunk))
		for i, s := range chunk {
			spans[i] = s.span
		}
		var e encoder
		e.request(&in.res, spans)
		batches = append(batches, Batch{At: at, Service: in.svc.Node(), Instance: in.id, Spans: len(spans), Body: e.buf})
	}
	in.pending = slices.Delete(in.pending, 0, n)
	return batches
}
