package graph

import (
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"faultline/internal/sketch"
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
	// Messages are the messages in the operation of a messaging edge.
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
	Dimension Dimension // Measured, Group, Entry, EntryDepth or Producer
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
		// nextDetails is when the details of open minutes are cut again.
		nextDetails time.Time
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

// liveEdge is an edge with its open windows, newest last.
type liveEdge struct {
	ref     EdgeRef
	windows []*edgeWindow
	minutes []*edgeMinute

	// The newest of each once more, nil without one: nearly every call goes there, and reads one cache line less.
	newestWindow *edgeWindow
	newestMinute *edgeMinute

	firstQueued, lastQueued int32 // its calls in the queue that is being drained: their places + 1
}

type edgeWindow struct {
	start int64 // in units of WindowLength
	dirty bool
	stats EdgeStats
}

type edgeMinute struct {
	start int64 // in units of DetailLength
	dirty bool
	// pair is the first pair of versions that was seen, and version the first of the callee's. Hardly ever there is
	// another one, so they are not counted: they are what the operations have and the others have not, see theRest.
	pair    listKey
	version listKey
	details [numDetailLists]detailList
}

// The lists of details.
const (
	clientOperations = iota // what a call of a side adds to lies together
	clientInstances
	versionPairs
	serverOperations
	serverInstances
	serverVersions
	measures
	causesSeen
	groups
	entries
	entryDepths
	producers
	numDetailLists
)

var detailKeys = [numDetailLists]DetailKey{
	{Operation, ClientSide, ""},
	{Instance, ClientSide, ""},
	{VersionPair, ClientSide, ""},
	{Operation, ServerSide, ""},
	{Instance, ServerSide, ""},
	{Version, ServerSide, ""},
	{Measured, ClientSide, ""},
	{Caused, ClientSide, ""},
	{Group, ServerSide, ""},
	{Entry, ClientSide, ""},
	{EntryDepth, ClientSide, ""},
	{Producer, ServerSide, ""},
}

// listKey tells the details of a list apart: a label or, in versionPairs, the caller's and the callee's in one number.
// Zero is "(other)".
type listKey uint64

// pairOf returns the key of a pair of versions, which is never zero.
func pairOf(caller, callee Label) listKey { return 1<<63 | listKey(caller)<<32 | listKey(callee) }

// versionKey returns the key of a callee's version, which is never zero.
func versionKey(version Label) listKey { return pairOf(0, version) }

// unnamed is the key of what has no name, and is not shown: of calls without an operation, so that the operations
// together have all calls, and of those without versions.
const unnamed = listKey(1) << 63

func operationKey(operation Label) listKey {
	if operation == 0 {
		return unnamed
	}
	return listKey(operation)
}

// versions are what a pair is made of.
func (k listKey) versions() (caller, callee Label) { return Label(k >> 32 &^ (1 << 31)), Label(k) }

// detailName returns the name that a key stands for in a list.
func (l *Live) detailName(list int, key listKey) string {
	switch {
	case list == measures:
		return Measure(key).String()
	case list == causesSeen:
		return Cause(key).String()
	case key == 0:
		return Other
	case list == producers:
		return l.names.LookupNode(NodeRef(key)).ID()
	case list == versionPairs:
		caller, callee := key.versions()
		return PairName(l.names.Label(caller), l.names.Label(callee))
	}
	return l.names.Label(Label(key))
}

// detailScale returns the scale of a list's sketches.
func detailScale(list int) int {
	if list == measures || list == causesSeen {
		return sketch.MaxScale
	}
	return DetailScale
}

// rows returns how many details a minute holds.
func (m *edgeMinute) rows() (n int) {
	for i := range m.details {
		n += len(m.details[i].keys)
	}
	return n + 2 // the first pair of versions, and the first version
}

type detailList struct {
	keys    []listKey
	details []Detail
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

// Open details are cut so often that about as many rows a second are, and at the least every maxDetailWait: a process
// that is killed loses what came since of its operations, instances and versions, never of its edges.
const (
	detailRowsPerSecond = 2_000
	maxDetailWait       = 10 * time.Second
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

// Calls wait in their shard until there are several for each of its edges, and are then added edge by edge: what an edge
// needs from memory is waited for once for all of its calls, and together with what the next edges need.
const (
	maxTogether   = 128     // calls that are given to their shards together
	maxShards     = 64      // a few for each processor: enough that they rarely wait for each other
	queuedPerEdge = 32      // calls that wait, for each edge of a shard
	maxQueued     = 1 << 18 // calls that wait, in all shards: 19 MB
	maxTouch      = 16      // edges that are read ahead: what was read stays in the processor's cache until it is used
)

// fewEdges stay in the processor's cache by themselves: an edge with its open windows takes a few kilobytes.
const fewEdges = 128

// Observe adds calls to their windows. It does not keep the slice. Windows that were closed before are opened again, as
// another part. Whoever asks sees every call that was observed before.
func (l *Live) Observe(calls []Call) {
	for chunk := range slices.Chunk(calls, maxTogether) {
		l.observe(chunk)
	}
}

// observe gives at most maxTogether calls to their shards.
func (l *Live) observe(calls []Call) {
	var shards, order [maxTogether]uint8
	var ends [maxShards]uint8
	for i := range calls {
		k := uint8(l.shardOf(calls[i].Edge.pack()))
		shards[i] = k
		ends[k]++
	}
	sum := uint8(0)
	for i, n := range ends[:len(l.shards)] {
		ends[i] = sum
		sum += n
	}
	for i, k := range shards[:len(calls)] {
		order[ends[k]] = uint8(i)
		ends[k]++
	}
	first := uint8(0)
	for k, last := range ends[:len(l.shards)] {
		if first == last {
			continue
		}
		var moved []Call
		sh := &l.shards[k]
		sh.mu.Lock()
		for _, i := range order[first:last] {
			sh.queue = append(sh.queue, calls[i])
		}
		if len(sh.queue) >= min(queuedPerEdge*max(len(sh.edges), 4), maxQueued/len(l.shards)-maxTogether) {
			moved = l.drain(sh)
		}
		sh.mu.Unlock()
		l.move(moved)
		first = last
	}
}

// settle adds every call that waits.
func (l *Live) settle() {
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		moved := l.drain(sh)
		sh.mu.Unlock()
		l.move(moved)
	}
}

// drain adds the calls that wait in a locked shard to their windows, each edge's in their order. It returns those whose
// edge would be one too many.
func (l *Live) drain(sh *liveShard) (moved []Call) {
	queue := sh.queue
	sh.next = slices.Grow(sh.next[:0], len(queue))[:len(queue)]
	edges := sh.called[:0]
	for i := range queue {
		e := l.edge(sh, queue[i].Edge)
		if e == nil {
			moved = append(moved, queue[i])
			continue
		}
		at := int32(i) + 1
		sh.next[i] = 0
		if e.firstQueued == 0 {
			e.firstQueued = at
			edges = append(edges, e)
		} else {
			sh.next[e.lastQueued-1] = at
		}
		e.lastQueued = at
	}
	many := l.edges.Load() > fewEdges
	for chunk := range slices.Chunk(edges, maxTouch) {
		if many {
			for _, e := range chunk {
				for at := e.firstQueued; at != 0; at = sh.next[at-1] {
					sh.touched += e.touch(&queue[at-1])
				}
			}
		}
		for _, e := range chunk {
			for at := e.firstQueued; at != 0; at = sh.next[at-1] {
				l.add(e, &queue[at-1])
			}
			e.firstQueued = 0
		}
	}
	clear(edges)
	sh.queue, sh.called = queue[:0], edges[:0]
	return moved
}

// move adds calls whose own edge would be one too many to the one that gathers them.
func (l *Live) move(calls []Call) {
	if len(calls) == 0 {
		return
	}
	l.dropped[dropEdges].Add(int64(len(calls)))
	sh := &l.shards[l.shardOf(l.other.pack())]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := l.edge(sh, l.other)
	for i := range calls {
		l.add(e, &calls[i])
	}
}

// edge returns an edge of a locked shard, made if need be, nil when it would be one too many.
func (l *Live) edge(sh *liveShard, ref EdgeRef) *liveEdge {
	k := ref.pack()
	e := sh.edges[k]
	if e == nil {
		if l.edges.Load() >= int64(l.cfg.MaxEdges) && ref != l.other {
			return nil
		}
		e = &liveEdge{ref: ref}
		sh.edges[k] = e
		l.edges.Add(1)
	}
	return e
}

// touch reads what adding the call will most probably read, so that it is in the cache by then.
func (e *liveEdge) touch(c *Call) (sum int64) {
	if c.Moved {
		return 0 // it reads little, of what was read a moment ago
	}
	bucket := sketch.Bucket(c.Duration)
	if w := e.newestWindow; w != nil {
		s := &w.stats
		sum = s.Calls + s.Messages + s.Busy
		if c.Side == ClientSide {
			sum += s.Client.At(bucket)
		} else {
			sum += s.Server.At(bucket)
		}
	}
	if m := e.newestMinute; m != nil {
		if c.Side == ClientSide {
			sum += m.details[clientOperations].touch(operationKey(c.Operation), bucket)
			sum += m.details[clientInstances].touch(listKey(c.Instance), bucket)
			if key := pairOf(c.Version, c.PeerVersion); key != m.pair && !c.Awaited {
				sum += m.details[versionPairs].touch(key, bucket)
			}
		} else {
			sum += m.details[serverOperations].touch(operationKey(c.Operation), bucket)
			sum += m.details[serverInstances].touch(listKey(c.Instance), bucket)
			if key := versionKey(c.Version); key != m.version {
				sum += m.details[serverVersions].touch(key, bucket)
			}
		}
	}
	return sum
}

// touch reads what counting the key will read.
func (d *detailList) touch(key listKey, bucket int) int64 {
	for i, k := range d.keys {
		if k == key {
			return d.details[i].Calls + d.details[i].Latency.At(bucket)
		}
	}
	return 0
}

// add adds a call to its edge, whose shard is locked.
func (l *Live) add(e *liveEdge, c *Call) {
	if c.Moved {
		l.versionKnown(e, c)
		return
	}
	w := e.window(floorDiv(c.End, windowNanos))
	s := &w.stats
	weight := int64(c.Weight)
	s.Calls += int64(c.Calls) * weight
	s.LogicalCalls += int64(c.Logical) * weight
	s.LogicalErrors += int64(c.LogicalErrors) * weight
	s.Hedges += int64(c.Hedges) * weight
	s.Messages += int64(c.Messages) * weight
	sign := int64(1)
	if weight < 0 {
		sign = -1
	}
	if c.Calls != 0 {
		s.Raw += int64(c.Calls) * sign
		switch c.Outcome {
		case ClientError:
			s.ClientErrors += weight
		case Cancelled:
			s.Cancelled += weight
		}
		if c.ServerMissing {
			s.ServerMissing += weight
		}
		if c.ClientMissing {
			s.ClientMissing += weight
		}
	}
	if c.Errors != 0 {
		s.Errors += int64(c.Errors) * weight
		s.RawErrors += int64(c.Errors) * sign
		s.Failures[c.Failure] += int64(c.Errors) * weight
	}
	failed := c.Outcome == Error
	bucket := 0
	if c.Timed {
		bucket = sketch.Bucket(c.Duration) // the same in every sketch that it enters
		if c.Side == ClientSide {
			s.Client.AddAt(c.Duration, weight, bucket)
		} else {
			s.Server.AddAt(c.Duration, weight, bucket)
		}
	}
	if c.Side == ServerSide {
		s.ServerCalls += weight
		if failed {
			s.ServerErrors += weight
		}
	}
	if c.Timed && (c.Side == ClientSide || c.Calls != 0) {
		l.busy(e, c, weight)
	}
	if !c.Timed {
		return
	}
	m := e.minute(floorDiv(c.End, minuteNanos))
	caused := int64(c.Errors)
	if c.Outcome == Provoked {
		caused = int64(c.Calls)
	}
	if caused != 0 && c.Cause != 0 {
		d := m.details[causesSeen].find(listKey(c.Cause), NumCauses, sketch.MaxScale)
		d.Calls += caused * weight
		d.Raw += caused * sign
		d.Latency.AddAt(c.Duration, weight, bucket)
	}
	if c.Side == ClientSide {
		l.detail(m, clientOperations, operationKey(c.Operation), l.cfg.MaxOperations, weight, sign, failed, c.Duration, bucket)
		if c.Instance != 0 {
			l.detail(m, clientInstances, listKey(c.Instance), l.cfg.MaxInstances, weight, sign, failed, c.Duration, bucket)
		}
		if !c.Awaited {
			l.pair(m, c, c.PeerVersion, weight, sign, failed, bucket)
		}
		return
	}
	l.detail(m, serverOperations, operationKey(c.Operation), l.cfg.MaxOperations, weight, sign, failed, c.Duration, bucket)
	l.detail(m, serverInstances, listKey(c.Instance), l.cfg.MaxInstances, weight, sign, failed, c.Duration, bucket)
	key := versionKey(c.Version)
	if m.version == 0 {
		m.version = key
	}
	if key != m.version {
		l.detail(m, serverVersions, key, l.cfg.MaxVersions-1, weight, sign, failed, c.Duration, bucket)
	}
}

// pair counts a call by the versions of its caller and its callee, unless they are the first that the minute saw. A call
// that still waits for its callee is left with those: most often it turns out to be theirs.
func (l *Live) pair(m *edgeMinute, c *Call, callee Label, weight, sign int64, failed bool, bucket int) {
	key := pairOf(c.Version, callee)
	if m.pair == 0 {
		m.pair = key
	}
	if key != m.pair {
		l.detail(m, versionPairs, key, pairsPerVersion*l.cfg.MaxVersions-1, weight, sign, failed, c.Duration, bucket)
	}
}

// versionKnown counts a call that was counted before as one of another pair of versions.
func (l *Live) versionKnown(e *liveEdge, c *Call) {
	m, bucket := e.minute(floorDiv(c.End, minuteNanos)), sketch.Bucket(c.Duration)
	weight, failed := int64(c.Weight), c.Outcome == Error
	l.pair(m, c, c.PeerVersion, weight, 1, failed, bucket)
	if !c.Awaited {
		l.pair(m, c, c.WasPeer, -weight, -1, failed, bucket)
	}
}

// ObserveFacts adds facts to their minutes. It does not keep the slice. A fact of an edge without calls in its minute
// is kept all the same; one of an edge that is not there, and would be one too many, is dropped and counted.
func (l *Live) ObserveFacts(facts []Fact) {
	for i := range facts {
		f := &facts[i]
		sh := &l.shards[l.shardOf(f.Edge.pack())]
		sh.mu.Lock()
		e := l.edge(sh, f.Edge)
		if e == nil {
			sh.mu.Unlock()
			l.dropped[dropDetails].Add(1)
			continue
		}
		m := e.minute(floorDiv(f.End, minuteNanos))
		list, limit := measures, int(numMeasures)
		switch f.Dimension {
		case Group:
			list, limit = groups, l.cfg.MaxGroups
		case Entry:
			list, limit = entries, l.cfg.MaxOperations
		case EntryDepth:
			list, limit = entryDepths, l.cfg.MaxOperations
		case Producer:
			list, limit = producers, l.cfg.MaxInstances
		}
		sign := int64(1)
		if f.Weight < 0 {
			sign = -1
		}
		l.detail(m, list, listKey(f.Label), limit, int64(f.Weight), sign, f.Failed, f.Value, sketch.Bucket(f.Value))
		sh.mu.Unlock()
	}
}

// busy spreads a call's time in flight over the windows that it covers, no further back than the hold.
func (l *Live) busy(e *liveEdge, c *Call, weight int64) {
	end := c.End
	start := end - c.Duration
	w := floorDiv(end, windowNanos)
	if start >= w*windowNanos {
		x := e.window(w)
		x.stats.Busy += (end - start) * weight
		return
	}
	oldest := w - int64(l.cfg.Hold/WindowLength)
	for ; w >= oldest; w-- {
		from := max(start, w*windowNanos)
		if end > from {
			e.window(w).stats.Busy += (end - from) * weight
		}
		end = w * windowNanos
		if start >= end {
			return
		}
	}
}

// detail adds an observation with its latency, and the sketch's bucket of that, to one of the details of a list.
func (l *Live) detail(m *edgeMinute, list int, key listKey, limit int, weight, sign int64, failed bool, value int64, bucket int) {
	if key != 0 {
		l.count(m, list, key, limit, weight, sign, failed).Latency.AddAt(value, weight, bucket)
	}
}

// count adds an observation to one of the details of a list, and returns it.
func (l *Live) count(m *edgeMinute, list int, key listKey, limit int, weight, sign int64, failed bool) *Detail {
	d := m.details[list].find(key, limit, detailScale(list))
	if d == nil {
		l.dropped[dropDetails].Add(1)
		d = m.details[list].find(0, limit+1, detailScale(list))
	}
	d.Calls += weight
	d.Raw += sign
	if failed {
		d.Errors += weight
		d.RawErrors += sign
	}
	return d
}

// find returns the detail of a key, nil when it would be one too many.
func (d *detailList) find(key listKey, limit, scale int) *Detail {
	for i, k := range d.keys {
		if k == key {
			return &d.details[i]
		}
	}
	shown := len(d.keys)
	if slices.Contains(d.keys, unnamed) {
		shown--
	}
	if key != unnamed && shown >= limit {
		return nil
	}
	d.keys = append(d.keys, key)
	d.details = append(d.details, Detail{Latency: sketch.New(scale)})
	return &d.details[len(d.details)-1]
}

// window returns the open window that starts at start, opened if need be, and marks it as changed.
func (e *liveEdge) window(start int64) *edgeWindow {
	if w := e.newestWindow; w != nil && w.start == start {
		w.dirty = true
		return w
	}
	i := len(e.windows) - 1
	for ; i >= 0; i-- {
		w := e.windows[i]
		if w.start == start {
			w.dirty = true
			return w
		}
		if w.start < start {
			break
		}
	}
	w := &edgeWindow{start: start, dirty: true}
	e.windows = slices.Insert(e.windows, i+1, w)
	e.newest()
	return w
}

func (e *liveEdge) minute(start int64) *edgeMinute {
	if m := e.newestMinute; m != nil && m.start == start {
		m.dirty = true
		return m
	}
	i := len(e.minutes) - 1
	for ; i >= 0; i-- {
		m := e.minutes[i]
		if m.start == start {
			m.dirty = true
			return m
		}
		if m.start < start {
			break
		}
	}
	m := &edgeMinute{start: start, dirty: true}
	e.minutes = slices.Insert(e.minutes, i+1, m)
	e.newest()
	return m
}

// newest is called whenever the open windows are other ones.
func (e *liveEdge) newest() {
	e.newestWindow, e.newestMinute = nil, nil
	if k := len(e.windows); k > 0 {
		e.newestWindow = e.windows[k-1]
	}
	if k := len(e.minutes); k > 0 {
		e.newestMinute = e.minutes[k-1]
	}
}

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

// Dropped returns how many facts were gathered in an "(other)" or left out because a limit was reached, by reason.
func (l *Live) Dropped() map[string]int64 {
	l.settle()
	m := map[string]int64{}
	for i := range l.dropped {
		if n := l.dropped[i].Load(); n > 0 {
			m[dropNames[i]] = n
		}
	}
	if _, n := l.names.Nodes(); n > 0 {
		m["node_limit"] = n
	}
	return m
}
