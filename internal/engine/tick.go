package engine

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"faultline/graph"
	"faultline/storage"
)

// Tick stores what changed since the last one and maintains the store when it is time to. An error says that the store
// did not take everything, or could not be maintained; what it did not take is tried again by the next tick.
func (e *Engine) Tick(ctx context.Context, now time.Time) error {
	if err := e.store(ctx, now, false); err != nil {
		return err
	}
	return e.maintain(ctx, now)
}

// Flush stores everything that is there, the learned state included. It is the last call before the store is closed.
// When ctx ends early, what was written until then is kept: calls first, then the details of edges.
func (e *Engine) Flush(ctx context.Context, now time.Time) error { return e.store(ctx, now, true) }

// batchRows is how many rows go into one batch while catching up, so that no batch grows with the length of an outage.
// The last batches are smaller: those that are done when time runs out are kept.
const (
	batchRows     = 100_000
	lastBatchRows = 10_000
)

// batchOf returns how many parts from the first on make one batch of at most limit rows: at least one, when there is any.
func batchOf(parts []graph.Part, limit int) int {
	rows := 0
	for i := range parts {
		rows += len(parts[i].Edges) + len(parts[i].Details) + len(parts[i].Nodes)
		if rows > limit && i > 0 {
			return i
		}
	}
	return len(parts)
}

// store cuts and writes, in batches of bounded size.
func (e *Engine) store(ctx context.Context, now time.Time, last bool) error {
	withState, limit := last || now.Sub(e.stateAt) >= e.Config.StateEvery, batchRows
	e.traces = append(e.traces, e.Feed.Examples(now)...)
	cut := e.Live.Cut
	if last {
		cut = e.Live.CutAll
	}
	parts := supersede(e.missed, cut(now))
	e.missed = nil
	if last {
		limit = lastBatchRows
		slices.SortStableFunc(parts, func(a, b graph.Part) int { return cmp.Compare(a.Length, b.Length) })
	}
	var state map[string][]byte
	if withState {
		state = e.Feed.State(now)
		maps.DeleteFunc(state, func(key string, value []byte) bool { return bytes.Equal(value, e.state[key]) })
	}
	findings, learned := e.Judge.toStore(last)
	if learned != nil {
		if state == nil {
			state = map[string][]byte{}
		}
		state[memoryStateKey] = learned
	}
	for len(parts) > 0 || len(e.traces) > 0 || len(findings) > 0 || len(state) > 0 {
		n := batchOf(parts, limit)
		batch := storage.Batch{Windows: parts[:n], Traces: e.traces, Findings: findings, State: state}
		if err := e.Store.Write(ctx, batch); err != nil {
			e.wait(parts, now, err)
			return fmt.Errorf("store a batch: %w", err)
		}
		e.Live.Kept(parts[:n])
		e.mu.Lock()
		e.status.Writes++
		e.status.LastWrite = now
		e.mu.Unlock()
		maps.Copy(e.state, state)
		e.Judge.kept(findings, learned)
		parts, e.traces, findings, learned, state = parts[n:], nil, nil, nil, nil
	}
	if withState {
		e.stateAt = now
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status.DelayedSince, e.status.LastError = time.Time{}, ""
	e.status.WaitingParts, e.status.WaitingSpans = 0, 0
	return nil
}

// supersede returns the parts of cut and those of missed that cut does not hold in a newer state.
func supersede(missed, cut []graph.Part) []graph.Part {
	if len(missed) == 0 {
		return cut
	}
	newer := make(map[graph.PartKey]bool, len(cut))
	for i := range cut {
		newer[cut[i].Key()] = true
	}
	for i := range missed {
		if !newer[missed[i].Key()] {
			cut = append(cut, missed[i])
		}
	}
	return cut
}

// wait keeps what the store did not take: traces within the limit, and open parts, which are few. The live graph keeps
// closed parts.
func (e *Engine) wait(parts []graph.Part, now time.Time, cause error) {
	for i := range parts {
		if parts[i].Open {
			e.missed = append(e.missed, parts[i])
		}
	}
	spans, dropped := 0, int64(0)
	for i := range e.traces {
		spans += len(e.traces[i].Trace.Spans)
	}
	for spans > e.Config.MaxWaitingSpans {
		spans -= len(e.traces[0].Trace.Spans)
		e.traces = e.traces[1:]
		dropped++
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := &e.status
	if s.DelayedSince.IsZero() {
		s.DelayedSince = now
	}
	s.LastError = cause.Error()
	s.Failures++
	s.WaitingParts, s.WaitingSpans = len(parts), spans
	if dropped > 0 {
		s.Dropped[DroppedExamples] += dropped
	}
}

// maintain has the store fold and drop. It is called only when the store has everything that was cut: a part whose
// writing failed may be there all the same, and must not be folded before it is written again.
func (e *Engine) maintain(ctx context.Context, now time.Time) error {
	if now.Sub(e.maintainedAt) < e.Config.MaintainEvery {
		return nil
	}
	e.maintainedAt = now
	if err := e.Store.Maintain(ctx, now); err != nil {
		return fmt.Errorf("maintain the store: %w", err)
	}
	return nil
}
