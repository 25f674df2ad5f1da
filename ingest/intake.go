// Package ingest turns OTLP bytes into calls: it decodes, resolves names, and pairs the halves of each call.
package ingest

import (
	"errors"
	"time"

	"faultline/graph"
)

// ErrMalformed says that a request cannot be decoded, whoever sends it again: a permanent fault of the sender.
var ErrMalformed = errors.New("malformed OTLP")

// ErrOverloaded says that there is no room for a request now: the sender may try again after a while.
var ErrOverloaded = errors.New("overloaded")

// Config bounds an Intake.
type Config struct {
	Wait        time.Duration // how long a half waits for its other half before it counts alone
	MaxPending  int           // spans in flight
	MemoryLimit int64         // bytes for spans in flight and candidates for examples
}

// DefaultConfig returns the limits of docs/limits.
func DefaultConfig() Config {
	return Config{Wait: 10 * time.Second, MaxPending: 2_000_000, MemoryLimit: 256 << 20}
}

// Result says what became of a request's spans. Rejected spans were refused singly, for Message's reason.
type Result struct {
	Accepted, Rejected int
	Message            string
}

// Intake takes requests in. It is safe for concurrent use.
type Intake struct{}

// NewIntake returns an Intake that puts calls into live.
func NewIntake(cfg Config, live *graph.Live) *Intake { return &Intake{} }

// Consume takes one protobuf ExportTraceServiceRequest. It does not keep body. All of it counts or, with an error that
// wraps ErrMalformed or ErrOverloaded, nothing; single bad spans are left out and said in the Result.
func (in *Intake) Consume(now time.Time, body []byte) (Result, error) { return Result{}, nil }

// Tick lets time pass: halves that waited long enough count alone. Called a few times a second.
func (in *Intake) Tick(now time.Time) {}

// Examples returns traces chosen since the last call as examples of their edges.
func (in *Intake) Examples(now time.Time) []graph.KeptTrace { return nil }

// Counters returns what became of the spans so far.
func (in *Intake) Counters() graph.Counters { return graph.Counters{} }

// Refuse counts a request that was refused before Consume, by reason.
func (in *Intake) Refuse(reason string) {}

// State returns what was learned about addresses, for Restore after a restart.
func (in *Intake) State() []byte { return nil }

// Restore takes what State returned in an earlier process.
func (in *Intake) Restore(state []byte) error { return nil }
