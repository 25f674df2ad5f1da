package graph

import (
	"math"
	"time"

	"faultline/internal/sketch"
)

// EdgeStats is what a span of time knows of one edge: sums of signed integers, so that parts add up in any order.
// Counts are weighted: a span that was kept with probability p counts 1/p. Raw counts are spans as they came.
type EdgeStats struct {
	// Calls are attempts: a client span each; the server spans under it where one client span covers its own
	// retries; server spans where the client is not seen. Errors are the failed ones.
	Calls, Errors int64
	// LogicalCalls and LogicalErrors count after further attempts, each of which is a hedge, made beside an attempt that
	// was going well, or a retry: see Retries.
	LogicalCalls, LogicalErrors, Hedges int64
	// ClientErrors and Cancelled are calls that count in traffic and not in errors.
	ClientErrors, Cancelled int64
	// Raw and RawErrors are the unweighted Calls and Errors: what intervals and significance are computed from.
	Raw, RawErrors int64
	// Failures are the failed calls by class, weighted.
	Failures [NumFailures]int64
	// ServerCalls and ServerErrors are what the callee saw of it.
	ServerCalls, ServerErrors int64
	// ServerMissing are calls of which only the caller's half was seen, after a wait, where the callee usually sends one;
	// ClientMissing those of which only the callee's half was seen.
	ServerMissing, ClientMissing int64
	// Messages are the messages in the operations of a messaging edge; on a Linked one the spans that link, which are no
	// calls, and Raw are those unweighted.
	Messages int64
	// Busy is the time in flight that lies within the window, in nanoseconds: concurrency = Busy/length.
	Busy int64
	// Client and Server are the latencies of the two sides. A side that was not seen is empty, never zero.
	Client, Server sketch.Sketch
}

// Add adds o.
func (s *EdgeStats) Add(o *EdgeStats) {
	s.Calls += o.Calls
	s.Errors += o.Errors
	s.LogicalCalls += o.LogicalCalls
	s.LogicalErrors += o.LogicalErrors
	s.Hedges += o.Hedges
	s.ClientErrors += o.ClientErrors
	s.Cancelled += o.Cancelled
	s.Raw += o.Raw
	s.RawErrors += o.RawErrors
	for i, n := range o.Failures {
		s.Failures[i] += n
	}
	s.ServerCalls += o.ServerCalls
	s.ServerErrors += o.ServerErrors
	s.ServerMissing += o.ServerMissing
	s.ClientMissing += o.ClientMissing
	s.Messages += o.Messages
	s.Busy += o.Busy
	s.Client.Merge(&o.Client)
	s.Server.Merge(&o.Server)
}

// Retries returns the calls that were made because another attempt had failed.
func (s *EdgeStats) Retries() int64 { return max(s.Calls-s.LogicalCalls-s.Hedges, 0) }

// Reached returns what of the stats says something of the callee: without the calls that the caller's breaker kept from
// it. Of counts that are not kept by class, such as raw ones, those calls are taken to have their share. The latencies
// stay, and share s's memory.
func (s *EdgeStats) Reached() EdgeStats {
	r := *s
	kept := min(s.Failures[BreakerOpen], s.Calls, s.Errors)
	if kept <= 0 {
		return r
	}
	part := func(n, of int64) int64 { return int64(math.Round(float64(n) * float64(kept) / float64(of))) }
	r.Calls -= kept
	r.Errors -= kept
	r.Raw -= part(s.Raw, s.Calls)
	r.RawErrors -= min(part(s.RawErrors, s.Errors), s.Raw-r.Raw)
	r.LogicalCalls -= part(s.LogicalCalls, s.Calls)
	r.LogicalErrors -= part(s.LogicalErrors, s.Errors)
	r.Hedges -= part(s.Hedges, s.Calls)
	r.Failures[BreakerOpen] = 0
	return r
}

// Zero reports whether everything that was counted has been taken back, or nothing was ever counted.
func (s *EdgeStats) Zero() bool {
	return s.Calls == 0 && s.LogicalCalls == 0 && s.Errors == 0 && s.ServerCalls == 0 && s.Raw == 0 && s.Messages == 0 &&
		s.Busy == 0 && s.Client.Count() == 0 && s.Server.Count() == 0
}

// Dimension is what a Detail tells apart.
type Dimension uint8

// The dimensions.
const (
	Operation Dimension = iota
	Instance
	Version
	Measured    // by the name of a Measure
	Caused      // by the name of a Cause: calls that failed
	Group       // consumer groups of a queue
	Entry       // what users asked for: traces that use the edge, by the entry service's id and its operation
	VersionPair // calls by the caller's version and that of the callee that answered
	EntryDepth  // how deep traces are, by what users asked for, like Depth; of edges that enter
	// Producer is the messages of an edge from a queue by the id of the service that sent them, without a latency; failed
	// are those whose processing failed.
	Producer
	// PairTurnedDown is the calls that the callee turned down as wrong, by the same pairs as VersionPair: client errors, and
	// failures of the class contract.
	PairTurnedDown
	// EntryFailed is the traces of an Entry in which a logical call of the edge failed; failed are those in which what
	// the user asked for failed as well.
	EntryFailed
	NumDimensions = iota
)

var dimensionNames = [NumDimensions]string{
	"operation", "instance", "version", "measure", "cause", "group", "entry", "version_pair",
	"entry_depth", "producer", "pair_turned_down", "entry_failed",
}

// String returns the dimension's name.
func (d Dimension) String() string { return dimensionNames[d%NumDimensions] }

// Side is which half of a call saw something.
type Side uint8

// The sides.
const (
	ClientSide Side = iota
	ServerSide
)

// Other is the name under which what exceeds a limit is gathered, in sight.
const Other = "(other)"

// DetailScale is the scale of the sketches of operations, instances, versions, pairs of them, groups, producers and entries: error ≤ 9.05 %. Those
// of measures and causes are as fine as an edge's.
const DetailScale = 3

// DetailKey names one part of an edge. Operations are told apart per side, because caller and callee may name the same
// call differently; instances and versions on the server side are the callee's, on the client side the caller's. Measures,
// causes, entries, their depths and pairs of versions, also of what is turned down, are on the client side, groups and producers on the server side.
type DetailKey struct {
	Dimension Dimension
	Side      Side
	Name      string
}

// Detail is what a minute knows of one part of an edge.
type Detail struct {
	Calls, Errors, Raw, RawErrors int64
	Latency                       sketch.Sketch
}

// Add adds o.
func (d *Detail) Add(o *Detail) {
	d.Calls += o.Calls
	d.Errors += o.Errors
	d.Raw += o.Raw
	d.RawErrors += o.RawErrors
	d.Latency.Merge(&o.Latency)
}

// sub takes back o, except for its smallest and largest latency.
func (d *Detail) sub(o *Detail) {
	d.Calls -= o.Calls
	d.Errors -= o.Errors
	d.Raw -= o.Raw
	d.RawErrors -= o.RawErrors
	d.Latency.Unmerge(&o.Latency)
}

// The lengths of windows.
const (
	// WindowLength is the length of the windows that calls are kept in, aligned to the Unix epoch.
	WindowLength = 10 * time.Second
	// DetailLength is the length of the windows that details are kept in.
	DetailLength = time.Minute
)

// EdgeRow is one edge in a window.
type EdgeRow struct {
	Edge  EdgeKey
	Stats EdgeStats
}

// DetailRow is one part of an edge in a window.
type DetailRow struct {
	Edge   EdgeKey
	Key    DetailKey
	Detail Detail
}

// NodeRow is a process of a service in a window: what its resource says, whether or not anything calls it. The kind of
// its node is Gateway for a proxy's process; its Identity is what edges refer to.
type NodeRow struct {
	Node              Node
	Instance, Version string
	Zone, Host        string // where it runs
	Spans             int64  // spans received, unweighted
}

// Window is everything that was seen in [Start, Start+Length). Several parts of one window add up; a part that is
// written again replaces itself.
type Window struct {
	Start  time.Time
	Length time.Duration
	// Part tells the parts of one window apart. Whoever cuts a window numbers its part, and never gives a number
	// again to different content that must add up.
	Part uint64
	// Edges is set in windows of WindowLength and longer sums of them; Details and Nodes in windows of DetailLength
	// and longer sums of them. No order is promised.
	Edges   []EdgeRow
	Details []DetailRow
	Nodes   []NodeRow
}

// Part is a part of a window on its way to a store.
type Part struct {
	Window
	// Open says that its writer may write this part again, with everything that it held before and more. A store
	// keeps an open part as it is; it folds it into coarser tiers only once it is closed. Parts that are open when
	// a store is opened were left by a process that died: they are closed then.
	Open bool
}

// PartKey names a part of a window.
type PartKey struct {
	Start  time.Time
	Length time.Duration
	Part   uint64
}

// Key returns the part's name.
func (p *Part) Key() PartKey { return PartKey{p.Start, p.Length, p.Part} }
