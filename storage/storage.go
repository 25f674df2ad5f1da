// Package storage is the contract of what is remembered and how it is asked: windows of the dependency graph, example
// traces, and small pieces of the program's own state. Implementations live beside it and pass storagetest.Run.
//
// A store never counts twice: a part of a window that is written again replaces itself, parts of one window add up, and
// a batch is kept whole or not at all. It promises that what Write returned without error survives the process being
// killed; it does not promise that it survives a loss of power within the last second.
package storage

import (
	"context"
	"errors"
	"slices"
	"time"

	"faultline/graph"
)

// ErrNotFound says that what was asked for is not there, or not any more.
var ErrNotFound = errors.New("not found")

// Retention says how long each tier is kept.
type Retention struct {
	Fine   time.Duration // windows of graph.WindowLength
	Minute time.Duration
	Hour   time.Duration // findings as well
	Traces time.Duration
}

// DefaultRetention returns 6 h of ten-second windows, 7 d of minutes, 13 months of hours, 7 d of example traces.
func DefaultRetention() Retention {
	const day = 24 * time.Hour
	return Retention{Fine: 6 * time.Hour, Minute: 7 * day, Hour: 396 * day, Traces: 7 * day}
}

// Batch is written whole or not at all.
type Batch struct {
	// Windows are parts of windows of graph.WindowLength (Edges) and graph.DetailLength (Details and Nodes).
	Windows []graph.Part
	Traces  []graph.KeptTrace
	// Findings replace those with the same key and beginning.
	Findings []graph.Finding
	// State replaces the values of the named keys.
	State map[string][]byte
}

// Query asks for windows.
type Query struct {
	// From and To bound the windows by their start: From ≤ start < To, both floored to graph.WindowLength.
	From, To time.Time
	// Step is the length of the windows in the answer, aligned to the epoch; 0 asks for one window over everything.
	// Where the finer tiers have been dropped, the answer is as fine as what is left.
	Step time.Duration
	// Env restricts to one environment when HasEnv is set ("" is one).
	Env    string
	HasEnv bool
	// Edges restricts to these edge ids, when not nil.
	Edges []string
	// Dimensions restricts details to those of these dimensions, when not nil.
	Dimensions []graph.Dimension
	// Edges and details are separate questions, because details are many and rarely wanted.
	Want Want
	// Except leaves out parts that the caller holds himself, newer. A part may be left out as long as it is open, and
	// up to half a minute of Maintain's time after it was written closed; later it is within sums and cannot be.
	Except []graph.PartKey
}

// Want selects what a query answers with.
type Want uint8

// What can be wanted.
const (
	WantEdges Want = 1 << iota
	WantDetails
	WantNodes
)

// WantsDetails reports whether details of a dimension are asked for.
func (q *Query) WantsDetails(d graph.Dimension) bool {
	return q.Want&WantDetails != 0 && (q.Dimensions == nil || slices.Contains(q.Dimensions, d))
}

// TraceQuery asks for examples, newest first.
type TraceQuery struct {
	From, To time.Time // of the call's end: From ≤ t < To
	Env      string
	HasEnv   bool
	Edge     string             // edge id, "" for all
	Service  string             // node id of either end, "" for all
	Only     *graph.ExampleKind // nil for all
	Limit    int                // 1…1000
}

// FindingQuery asks for findings that were open at some time in [From, To), the latest to begin first.
type FindingQuery struct {
	From, To time.Time
	Env      string
	HasEnv   bool
	Edge     string // edge id, "" for all
	Node     string // node id, of where a finding is or of either end of its edge; "" for all
	Rule     string // "" for all
	Limit    int    // 1…MaxFindings
}

// MaxFindings is how many findings one question may ask for.
const MaxFindings = 10_000

// Matches reports whether a finding is asked for.
func (q *FindingQuery) Matches(f *graph.Finding) bool {
	return f.Since.Before(q.To) && !f.Until.Before(q.From) && (!q.HasEnv || f.Env() == q.Env) && (q.Rule == "" || f.Rule == q.Rule) &&
		(q.Edge == "" || f.Edge != graph.EdgeKey{} && f.Edge.ID() == q.Edge) &&
		(q.Node == "" || f.Edge == graph.EdgeKey{} && f.Node.ID() == q.Node ||
			f.Edge != graph.EdgeKey{} && (f.Edge.Source.ID() == q.Node || f.Edge.Target.ID() == q.Node))
}

// Reader answers questions. It is safe for concurrent use, also with a Writer at work.
type Reader interface {
	// Windows returns the sums, by start; rows in no particular order, each key once, without those that were taken
	// back entirely. Without a step the one window is [From, To). An empty answer is no error.
	Windows(ctx context.Context, q Query) ([]graph.Window, error)
	// Examples returns example calls, newest first.
	Examples(ctx context.Context, q TraceQuery) ([]graph.Example, error)
	// Trace returns a kept trace, or ErrNotFound.
	Trace(ctx context.Context, id graph.TraceID) (graph.Trace, error)
	// Findings returns findings, the latest to begin first.
	Findings(ctx context.Context, q FindingQuery) ([]graph.Finding, error)
	// State returns a value of Batch.State, or ErrNotFound.
	State(ctx context.Context, key string) ([]byte, error)
	// Info describes the store, for the status page.
	Info(ctx context.Context) (Info, error)
}

// Writer remembers. One goroutine writes at a time.
type Writer interface {
	// Write keeps a batch. A part that is already there is replaced, so that a batch may be written again when the
	// answer was lost; one that was written closed and has been folded since is final, and writing it again changes
	// nothing. Nobody but Write reads the batch's memory, and not after it has returned.
	Write(ctx context.Context, b Batch) error
	// Maintain folds closed parts into the coarser tiers and drops what is older than the retention, in pieces
	// short enough not to hold up Write. It is called every few seconds; now is the time to reckon from.
	Maintain(ctx context.Context, now time.Time) error
}

// Store is both, and is closed when done.
type Store interface {
	Reader
	Writer
	Close() error
}

// Info describes a store.
type Info struct {
	Kind      string // "sqlite", "clickhouse"
	Bytes     int64  // on disk
	Oldest    time.Time
	Newest    time.Time
	Windows   int64 // rows in the finest tier
	Traces    int64
	Retention Retention
}
