// Package engine runs one tick: it cuts the live graph, stores what was cut together with the example traces, and lets
// the live graph forget what is kept for good. View is the other direction: one way of asking for windows, answered from
// memory where they may still change and from the store where they may not. Judge names what goes wrong in what a View
// shows, and keeps what is open.
//
// Time is a parameter; there is no clock and no goroutine here. What a failing store cannot take stays in memory: parts
// of windows in the live graph, which bounds and counts them, example traces here, up to Config's limit, beyond which
// the oldest are dropped and counted. A tick costs one batch; it does not promise that a batch is more durable than
// storage.Writer promises.
package engine

import (
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
	// Examples hands over chosen traces whose turn it is, each once.
	Examples(now time.Time) []graph.KeptTrace
	// State returns what was learned, opaque to the engine, by the names under which it is kept: always the same ones.
	// The caller owns it.
	State(now time.Time) map[string][]byte
	// Restore takes what State returned in an earlier process, as far as there is any: it is called when there is
	// some. now is when this one started.
	Restore(now time.Time, state map[string][]byte) error
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
	Judge  *Judge // whose findings are stored; nil for none
}

// DroppedExamples is the reason under which Status counts example traces that the store failed to take for too long.
const DroppedExamples = "examples_store_unavailable"

// DroppedFindings is the reason under which findings are counted that were too many to keep.
const DroppedFindings = "findings_limit"

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
	state        map[string][]byte // as last written
	stateAt      time.Time
	maintainedAt time.Time

	mu     sync.Mutex
	status Status
}

// New returns an Engine. It starts nothing.
func New(s Settings) *Engine {
	return &Engine{Settings: s, state: map[string][]byte{}, status: Status{Dropped: map[string]int64{DroppedExamples: 0}}}
}

// Restore hands the feed what it had learned in an earlier process. That there is nothing is no error.
func (e *Engine) Restore(ctx context.Context, now time.Time, from storage.Reader) error {
	state := map[string][]byte{}
	for key := range e.Feed.State(now) {
		value, err := from.State(ctx, key)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read learned state: %w", err)
		}
		state[key] = value
	}
	if len(state) == 0 {
		return nil
	}
	if err := e.Feed.Restore(now, state); err != nil {
		return fmt.Errorf("restore learned state: %w", err)
	}
	maps.Copy(e.state, state)
	return nil
}

// Status returns how the engine is doing.
func (e *Engine) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.status
	s.Dropped = maps.Clone(s.Dropped)
	return s
}
