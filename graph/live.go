package graph

import "time"

// LiveConfig bounds a Live.
type LiveConfig struct {
	MaxNodes      int           // per environment and in total; what exceeds it is gathered in "(other)"
	MaxEdges      int           // in any one window
	MaxOperations int           // per edge and minute
	MaxInstances  int           // per edge and minute
	MaxVersions   int           // per edge and minute
	Hold          time.Duration // how long after its end a window stays open for late facts
}

// DefaultLiveConfig returns the limits of docs/limits: 10,000 nodes, 50,000 edges, 50 operations, 50 instances,
// 10 versions, and windows that stay open for 90 s.
func DefaultLiveConfig() LiveConfig {
	return LiveConfig{MaxNodes: 10_000, MaxEdges: 50_000, MaxOperations: 50, MaxInstances: 50, MaxVersions: 10, Hold: 90 * time.Second}
}

// Live is the part of the graph that may still change: the windows that are open. It is safe for concurrent use.
type Live struct{}

// NewLive returns an empty Live whose parts are numbered from epoch on, which must be higher than that of any process
// that wrote to the same store before: the start time in nanoseconds is.
func NewLive(cfg LiveConfig, epoch uint64) *Live { return &Live{} }

// Cut returns, whole, every part that changed since it was last kept, and closes those whose window ended longer than
// the hold ago. Nothing is forgotten until Kept is called; a part that is cut again replaces itself.
func (l *Live) Cut(now time.Time) []Part { return nil }

// Kept says that the parts of the last Cut are in the store: closed ones are forgotten.
func (l *Live) Kept(parts []Part) {}

// Windows returns copies of the open parts that start in [from, to) and their names, for leaving the store's older
// copies of them out of an answer.
func (l *Live) Windows(from, to time.Time) (parts []Window, keys []PartKey) { return nil, nil }
