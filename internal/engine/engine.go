// Package engine runs one tick: it cuts the live graph, stores what was cut together with the example traces, and lets
// the live graph forget what is kept for good. View is the other direction: one way of asking for windows, answered from
// memory where they may still change and from the store where they may not.
//
// Time is a parameter; there is no clock and no goroutine here. What a failing store cannot take stays in memory: parts
// of windows in the live graph, which bounds and counts them, example traces here, up to Config's limit, beyond which
// the oldest are dropped and counted. A tick costs one batch; it does not promise that a batch is more durable than
// storage.Writer promises.
package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"faultline/graph"
	"faultline/storage"
)

// Feed is where example traces come from, and what has to be remembered of them across restarts. It is safe for
// concurrent use.
type Feed interface {
	// Examples hands over the traces chosen since the last call.
	Examples(now time.Time) []graph.KeptTrace
	// State returns what was learned, opaque to the engine; empty when there is nothing. The caller owns it.
	State() []byte
	// Restore takes what State returned in an earlier process. now is when this one started.
	Restore(now time.Time, state []byte) error
}

// Config bounds an Engine.
type Config struct {
	// MaxWaitingSpans bounds the spans of example traces that wait in memory for a store that fails; beyond it the
	// oldest traces are given up.
	MaxWaitingSpans int
	// MaintainEvery and StateEvery are how often the store is maintained and the feed's state is written.
	MaintainEvery, StateEvery time.Duration
}

// DefaultConfig returns room for 100,000 spans, maintenance every 5 s and state every 30 s.
func DefaultConfig() Config {
	return Config{MaxWaitingSpans: 100_000, MaintainEvery: 5 * time.Second, StateEvery: 30 * time.Second}
}

// Settings are what an Engine works with.
type Settings struct {
	Config Config
	Live   *graph.Live
	Feed   Feed
	Store  storage.Writer
}

// stateKey is the name of the feed's state in the store.
const stateKey = "aliases"

// DroppedExamples is the reason under which Status counts example traces that the store failed to take for too long.
const DroppedExamples = "examples_store_unavailable"

// Status is how an Engine is doing.
type Status struct {
	// DelayedSince is when the store first failed to take a batch, zero while it takes them. In between, history ends
	// there; the live graph does not.
	DelayedSince time.Time
	LastError    string    // of the failure that is going on, "" when there is none
	LastWrite    time.Time // when a batch was last kept
	Writes       int64     // batches kept
	Failures     int64     // batches not kept
	WaitingParts int       // parts of windows that the store has yet to take
	WaitingSpans int       // spans of example traces that the store has yet to take
	Dropped      map[string]int64
}

// Engine runs ticks. One goroutine calls Restore, Tick and Flush; Status may be called by any.
type Engine struct {
	Settings

	traces       []graph.KeptTrace // wait to be stored, oldest first
	missed       []graph.Part      // open ones that the store did not take: the live graph cuts them again only if they change
	state        []byte            // as last written
	stateAt      time.Time
	maintainedAt time.Time

	mu     sync.Mutex
	status Status
}

// New returns an Engine. It starts nothing.
func New(s Settings) *Engine {
	return &Engine{Settings: s, status: Status{Dropped: map[string]int64{}}}
}

// Restore hands the feed what it had learned in an earlier process. That there is nothing is no error.
func (e *Engine) Restore(ctx context.Context, now time.Time, from storage.Reader) error {
	state, err := from.State(ctx, stateKey)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read learned state: %w", err)
	}
	if err := e.Feed.Restore(now, state); err != nil {
		return fmt.Errorf("restore learned state: %w", err)
	}
	e.state = state
	return nil
}

// Tick stores what changed since the last one and maintains the store when it is time to. An error says that the store
// did not take everything, or could not be maintained; what it did not take is tried again by the next tick.
func (e *Engine) Tick(ctx context.Context, now time.Time) error {
	if err := e.store(ctx, now, now.Sub(e.stateAt) >= e.Config.StateEvery); err != nil {
		return err
	}
	return e.maintain(ctx, now)
}

// Flush stores everything that is there, the learned state included. It is the last call before the store is closed.
func (e *Engine) Flush(ctx context.Context, now time.Time) error { return e.store(ctx, now, true) }

// Status returns how the engine is doing.
func (e *Engine) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.status
	s.Dropped = maps.Clone(s.Dropped)
	return s
}

// batchRows is how many rows go into one batch while catching up, so that no batch grows with the length of an outage.
const batchRows = 100_000

// batchOf returns how many parts from the first on make one batch: at least one, when there is any.
func batchOf(parts []graph.Part) int {
	rows := 0
	for i := range parts {
		rows += len(parts[i].Edges) + len(parts[i].Details) + len(parts[i].Nodes)
		if rows > batchRows && i > 0 {
			return i
		}
	}
	return len(parts)
}

// store cuts and writes, in batches of bounded size.
func (e *Engine) store(ctx context.Context, now time.Time, withState bool) error {
	e.traces = append(e.traces, e.Feed.Examples(now)...)
	parts := supersede(e.missed, e.Live.Cut(now))
	e.missed = nil
	var state map[string][]byte
	if withState {
		if s := e.Feed.State(); !bytes.Equal(s, e.state) {
			state = map[string][]byte{stateKey: s}
		}
	}
	for len(parts) > 0 || len(e.traces) > 0 || state != nil {
		n := batchOf(parts)
		batch := storage.Batch{Windows: parts[:n], Traces: e.traces, State: state}
		if err := e.Store.Write(ctx, batch); err != nil {
			e.wait(parts, now, err)
			return fmt.Errorf("store a batch: %w", err)
		}
		e.Live.Kept(parts[:n])
		e.mu.Lock()
		e.status.Writes++
		e.status.LastWrite = now
		e.mu.Unlock()
		if state != nil {
			e.state = state[stateKey]
		}
		parts, e.traces, state = parts[n:], nil, nil
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
