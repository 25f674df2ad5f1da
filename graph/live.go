package graph

import (
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// LiveConfig bounds a Live.
type LiveConfig struct {
	MaxNodes      int           // what exceeds it is gathered in "(other)"
	MaxEdges      int           // at any one time; what exceeds it is gathered in one edge between "(other)" nodes
	MaxOperations int           // per edge, side and minute; of entries per edge and minute
	MaxInstances  int           // per edge and minute
	MaxVersions   int           // per edge and minute; of pairs of a caller's and a callee's pairsPerVersion as many
	MaxGroups     int           // consumer groups per edge and minute
	Hold          time.Duration // how long after its end a window stays open for late facts
}

// DefaultLiveConfig returns the limits: 10,000 nodes, 50,000 edges, 50 operations, 50 instances, 10 versions, 20 groups
// of consumers, and windows that stay open for 90 s.
func DefaultLiveConfig() LiveConfig {
	return LiveConfig{
		MaxNodes: 10_000, MaxEdges: 50_000, MaxOperations: 50, MaxInstances: 50, MaxVersions: 10, MaxGroups: 20,
		Hold: 90 * time.Second,
	}
}

// pairsPerVersion is how many pairs of versions there may be for each version.
const pairsPerVersion = 3

// EdgeRef is an EdgeKey within one process.
type EdgeRef struct {
	Source, Target NodeRef
	Protocol       Protocol
}

// Call is one observation of a call, or a part of one: what Live adds to a window. A Call with everything negated takes
// back what it added, exactly, except for the smallest and largest latency.
type Call struct {
	Edge EdgeRef
	// End is when the observing span ended, in nanoseconds since the epoch: it decides the window. Duration is its
	// length in nanoseconds.
	End, Duration int64
	// Weight is how many calls the observation stands for, negative to take it back. It multiplies everything below.
	Weight int32
	// Calls, Logical, Hedges, Errors and LogicalErrors are what the observation adds to the sums of the same names.
	Calls, Logical, Hedges, Errors, LogicalErrors int16
	// Messages are the messages in the operation of a messaging edge, 1 on a Linked one.
	Messages int32
	Outcome  Outcome
	Failure  Failure
	Cause    Cause // of the failure, 0 without one
	Side     Side
	// Timed says that Duration is a latency and time in flight of its side.
	Timed bool
	// ServerMissing and ClientMissing say that the other half is not there and should be.
	ServerMissing, ClientMissing bool
	Operation, Instance, Version Label // the side's own
	PeerVersion                  Label // on the client side, that of the callee that answered
	// Awaited says that a callee may still answer, whose version is not known. Moved says that the call has been counted
	// before, Awaited or with WasPeer as PeerVersion, and nothing else changes.
	Awaited, Moved bool
	WasPeer        Label
}

// Fact is one more thing that is observed on an edge: a value of a measure, or one of a group or an entry.
type Fact struct {
	Edge EdgeRef
	// End is when it ended, in nanoseconds since the epoch: it decides the minute.
	End       int64
	Dimension Dimension // Measured, Group, Entry, EntryFailed, EntryDepth or Producer
	Label     Label     // a Measure's number, a Producer's NodeRef; of the other dimensions a name's
	Value     int64     // as the Measure says; the calls of a depth, 0 of a Producer; else the latency in nanoseconds
	Weight    int32     // how many the observation stands for, negative to take it back
	Failed    bool
}

// Live is the part of the graph that may still change: the windows that are open. It is safe for concurrent use: edges
// are spread over shards with a lock each, and no lock is held while anything else is called.
type Live struct {
	cfg     LiveConfig
	names   *Names
	edges   atomic.Int64
	links   atomic.Int64 // of them Linked ones
	dropped [numDrops]atomic.Int64
	other   EdgeRef

	shards []liveShard // a power of two
	shift  uint        // leads from an edge to a shard

	nodes struct {
		sync.Mutex
		m map[liveNodeKey]*liveNode
	}

	cut struct { // guards the numbers of parts, and the order of Cut, Kept and Windows
		sync.Mutex
		numbers map[partID]uint64 // of open parts
		last    uint64
		// nextDetails is when the details of an open minute are cut again, lastDetails the minute of which they were last.
		nextDetails time.Time
		lastDetails int64 // nanoseconds since the epoch
		closing     closing
	}
}

type drop uint8

const (
	dropEdges drop = iota
	dropDetails
	dropStore
	numDrops
)

var dropNames = [numDrops]string{"edge_limit", "detail_limit", "store_unavailable"}

type liveShard struct {
	mu    sync.Mutex
	edges map[uint64]*liveEdge // by EdgeRef.pack: a number is found faster than a struct

	queue []Call // those that wait to be added
	// Of drain alone: the place + 1 of an edge's next call in the queue, 0 after its last; the edges that have any.
	next    []int32
	called  []*liveEdge
	touched int64 // what touch read, so that it is not left out

	_ [64]byte // a cache line each
}

type liveNodeKey struct {
	Process
	minute int64
}

type liveNode struct {
	spans int64
	dirty bool
}

type partID struct {
	start  int64 // nanoseconds since the epoch
	length time.Duration
}

// Open details are cut so often that about as many rows a second are, and those of each minute every maxDetailWait at the
// least, which is ten seconds with the ticks in between: a process that is killed loses what came since of its operations,
// instances and versions, never of its edges.
const (
	detailRowsPerSecond = 2_000
	maxDetailWait       = 9 * time.Second
)

// NewLive returns an empty Live whose parts are numbered from epoch on, which must be higher than that of any process
// that wrote to the same store before: the start time in nanoseconds is.
func NewLive(cfg LiveConfig, epoch uint64) *Live {
	l := &Live{cfg: cfg, names: NewNames(cfg.MaxNodes)}
	n := 4
	for n < 4*runtime.GOMAXPROCS(0) && n < maxShards {
		n *= 2
	}
	l.shards, l.shift = make([]liveShard, n), uint(64-bits.TrailingZeros(uint(n)))
	for i := range l.shards {
		l.shards[i].edges = map[uint64]*liveEdge{}
	}
	l.nodes.m = map[liveNodeKey]*liveNode{}
	l.cut.numbers = map[partID]uint64{}
	l.cut.last = epoch
	o := l.names.Node(Node{Kind: Service, Name: Other})
	l.other = EdgeRef{o, o, ProtocolUnknown}
	return l
}

// Names returns the numbers that Calls refer to.
func (l *Live) Names() *Names { return l.names }

// Hold adds to held the numbers of the nodes that open windows refer to.
func (l *Live) Hold(held map[NodeRef]bool) {
	l.settle()
	held[l.other.Source] = true
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		for _, e := range sh.edges {
			held[e.ref.Source], held[e.ref.Target] = true, true
		}
		sh.mu.Unlock()
	}
	l.nodes.Lock()
	for k := range l.nodes.m {
		held[k.Node] = true
	}
	l.nodes.Unlock()
}

// Config returns the limits.
func (l *Live) Config() LiveConfig { return l.cfg }

// pack makes one number of an edge. Nodes have numbers far below 2^28: Names is bounded.
func (e EdgeRef) pack() uint64 {
	return uint64(e.Source)<<36 | uint64(e.Target)<<8 | uint64(e.Protocol)
}

// shardOf returns which shard a packed edge lies in.
func (l *Live) shardOf(packed uint64) uint64 { return packed * 0x9E3779B97F4A7C15 >> l.shift }

const (
	windowNanos = int64(WindowLength)
	minuteNanos = int64(DetailLength)
)

// Process is a process of a service, by numbers.
type Process struct {
	Node                          NodeRef
	Instance, Version, Zone, Host Label
	Gateway                       bool // a proxy with a service name of its own
}

// ObserveNode counts spans that a process sent, in the minute that holds at (nanoseconds since the epoch).
func (l *Live) ObserveNode(p Process, spans int, at int64) {
	k := liveNodeKey{p, floorDiv(at, minuteNanos)}
	l.nodes.Lock()
	n := l.nodes.m[k]
	if n == nil {
		if len(l.nodes.m) >= 4*l.cfg.MaxEdges {
			l.nodes.Unlock()
			l.dropped[dropDetails].Add(1)
			return
		}
		n = &liveNode{}
		l.nodes.m[k] = n
	}
	n.spans += int64(spans)
	n.dirty = true
	l.nodes.Unlock()
}

// Dropped returns how many facts were gathered in an "(other)" or left out because a limit was reached, by reason,
// each that there is.
func (l *Live) Dropped() map[string]int64 {
	l.settle()
	m := map[string]int64{}
	for i := range l.dropped {
		m[dropNames[i]] = l.dropped[i].Load()
	}
	_, m["node_limit"] = l.names.Nodes()
	return m
}
