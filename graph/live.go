package graph

import (
	"cmp"
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
	MaxOperations int           // per edge, side and minute
	MaxInstances  int           // per edge and minute
	MaxVersions   int           // per edge and minute
	Hold          time.Duration // how long after its end a window stays open for late facts
}

// DefaultLiveConfig returns the limits: 10,000 nodes, 50,000 edges, 50 operations, 50 instances, 10 versions, and
// windows that stay open for 90 s.
func DefaultLiveConfig() LiveConfig {
	return LiveConfig{MaxNodes: 10_000, MaxEdges: 50_000, MaxOperations: 50, MaxInstances: 50, MaxVersions: 10, Hold: 90 * time.Second}
}

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
	// Calls, Logical, Errors and LogicalErrors are what the observation adds to the sums of the same names.
	Calls, Logical, Errors, LogicalErrors int16
	// Messages are the messages in the operation of a messaging edge.
	Messages int32
	Outcome  Outcome
	Failure  Failure
	Side     Side
	// Timed says that Duration is a latency and time in flight of its side.
	Timed bool
	// ServerMissing and ClientMissing say that the other half is not there and should be.
	ServerMissing, ClientMissing bool
	Operation, Instance, Version Label
}

const liveShards = 64

// Live is the part of the graph that may still change: the windows that are open. It is safe for concurrent use: edges
// are spread over shards with a lock each, and no lock is held while anything else is called.
type Live struct {
	cfg     LiveConfig
	names   *Names
	edges   atomic.Int64
	dropped [numDrops]atomic.Int64
	other   EdgeRef

	shards [liveShards]liveShard

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
		closing     []Part // closed and not yet kept; their content does not change any more
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
	_     [40]byte             // a cache line each
}

// liveEdge is an edge with its open windows, newest last.
type liveEdge struct {
	ref     EdgeRef
	windows []*edgeWindow
	minutes []*edgeMinute
}

type edgeWindow struct {
	start int64 // in units of WindowLength
	dirty bool
	stats EdgeStats
}

type edgeMinute struct {
	start   int64 // in units of DetailLength
	dirty   bool
	details [numDetailLists]detailList
}

// The lists of details: operations per side, instances and versions of the callee.
const (
	clientOperations = iota
	serverOperations
	serverInstances
	serverVersions
	numDetailLists
)

var detailKeys = [numDetailLists]DetailKey{
	{Operation, ClientSide, ""}, {Operation, ServerSide, ""}, {Instance, ServerSide, ""}, {Version, ServerSide, ""},
}

// rows returns how many details a minute holds.
func (m *edgeMinute) rows() (n int) {
	for i := range m.details {
		n += len(m.details[i].labels)
	}
	return n
}

type detailList struct {
	labels  []Label
	details []Detail
}

type liveNodeKey struct {
	node              NodeRef
	instance, version Label
	minute            int64
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

// maxClosing bounds the closed parts that wait for the store: about two hours of windows and minutes.
const maxClosing = 900

// NewLive returns an empty Live whose parts are numbered from epoch on, which must be higher than that of any process
// that wrote to the same store before: the start time in nanoseconds is.
func NewLive(cfg LiveConfig, epoch uint64) *Live {
	l := &Live{cfg: cfg, names: NewNames(cfg.MaxNodes)}
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

// Config returns the limits.
func (l *Live) Config() LiveConfig { return l.cfg }

// pack makes one number of an edge. Nodes have numbers far below 2^28: Names is bounded.
func (e EdgeRef) pack() uint64 {
	return uint64(e.Source)<<36 | uint64(e.Target)<<8 | uint64(e.Protocol)
}

func (e EdgeRef) shard() uint64 { return e.pack() * 0x9E3779B97F4A7C15 >> (64 - 6) }

const (
	windowNanos = int64(WindowLength)
	minuteNanos = int64(DetailLength)
)

// Observe adds calls to their windows. It does not keep the slice. Windows that were closed before are opened again, as
// another part.
func (l *Live) Observe(calls []Call) {
	for i := range calls {
		c := &calls[i]
		sh := &l.shards[c.Edge.shard()]
		sh.mu.Lock()
		k := c.Edge.pack()
		e := sh.edges[k]
		if e == nil {
			if l.edges.Load() >= int64(l.cfg.MaxEdges) && c.Edge != l.other {
				sh.mu.Unlock()
				l.dropped[dropEdges].Add(1)
				moved := *c
				moved.Edge = l.other
				l.Observe([]Call{moved})
				continue
			}
			e = &liveEdge{ref: c.Edge}
			sh.edges[k] = e
			l.edges.Add(1)
		}
		l.add(e, c)
		sh.mu.Unlock()
	}
}

// add adds a call to its edge, whose shard is locked.
func (l *Live) add(e *liveEdge, c *Call) {
	w := e.window(floorDiv(c.End, windowNanos))
	s := &w.stats
	weight := int64(c.Weight)
	s.Calls += int64(c.Calls) * weight
	s.LogicalCalls += int64(c.Logical) * weight
	s.LogicalErrors += int64(c.LogicalErrors) * weight
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
	if c.Timed {
		if c.Side == ClientSide {
			s.Client.Add(c.Duration, weight)
		} else {
			s.Server.Add(c.Duration, weight)
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
	if c.Side == ClientSide {
		l.detail(m, clientOperations, c.Operation, l.cfg.MaxOperations, c, weight, sign, failed)
		return
	}
	l.detail(m, serverOperations, c.Operation, l.cfg.MaxOperations, c, weight, sign, failed)
	l.detail(m, serverInstances, c.Instance, l.cfg.MaxInstances, c, weight, sign, failed)
	l.detail(m, serverVersions, c.Version, l.cfg.MaxVersions, c, weight, sign, failed)
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

func (l *Live) detail(m *edgeMinute, list int, label Label, limit int, c *Call, weight, sign int64, failed bool) {
	if label == 0 {
		return
	}
	d := m.details[list].find(label, limit)
	if d == nil {
		l.dropped[dropDetails].Add(1)
		d = m.details[list].find(0, limit+1)
	}
	d.Calls += weight
	d.Raw += sign
	if failed {
		d.Errors += weight
		d.RawErrors += sign
	}
	d.Latency.Add(c.Duration, weight)
}

// find returns the detail of a label, nil when it would be one too many. Label 0 is "(other)".
func (d *detailList) find(label Label, limit int) *Detail {
	for i, l := range d.labels {
		if l == label {
			return &d.details[i]
		}
	}
	if len(d.labels) >= limit {
		return nil
	}
	d.labels = append(d.labels, label)
	d.details = append(d.details, Detail{Latency: sketch.New(DetailScale)})
	return &d.details[len(d.details)-1]
}

// window returns the open window that starts at start, opened if need be, and marks it as changed.
func (e *liveEdge) window(start int64) *edgeWindow {
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
	return w
}

func (e *liveEdge) minute(start int64) *edgeMinute {
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
	return m
}

// ObserveNode counts spans that a service's process sent, in the minute that holds at (nanoseconds since the epoch).
func (l *Live) ObserveNode(node NodeRef, instance, version Label, spans int, at int64) {
	k := liveNodeKey{node, instance, version, floorDiv(at, minuteNanos)}
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

// part returns the number of the open part of a window. Callers hold cut.
func (l *Live) part(id partID) uint64 {
	n, ok := l.cut.numbers[id]
	if !ok {
		l.cut.last++
		n = l.cut.last
		l.cut.numbers[id] = n
	}
	return n
}

// Cut returns every part that must be written: those that changed since they were last cut, whole, and those that are
// closed, because their window ended longer than the hold ago, until Kept says that they are in the store. What comes
// for a closed window goes into another part of it. The parts share no memory with what may still change.
func (l *Live) Cut(now time.Time) []Part {
	l.cut.Lock()
	defer l.cut.Unlock()
	horizon := now.Add(-l.cfg.Hold).UnixNano()
	lastWindow, lastMinute := floorDiv(horizon, windowNanos)-1, floorDiv(horizon, minuteNanos)-1

	// A window is cut whole when any of its edges changed, so the changed windows are found first. Details are many and
	// change slowly: the more there are, the less often those that are still open are cut.
	details := !now.Before(l.cut.nextDetails)
	type size struct {
		changed bool
		rows    int
	}
	sizes := map[partID]*size{}
	note := func(id partID, changed bool, rows int) {
		z := sizes[id]
		if z == nil {
			z = &size{}
			sizes[id] = z
		}
		z.changed = z.changed || changed
		z.rows += rows
	}
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		for _, e := range sh.edges {
			for _, w := range e.windows {
				note(partID{w.start * windowNanos, WindowLength}, w.dirty || w.start <= lastWindow, 1)
			}
			for _, m := range e.minutes {
				note(partID{m.start * minuteNanos, DetailLength}, m.dirty && details || m.start <= lastMinute, m.rows())
			}
		}
		sh.mu.Unlock()
	}
	l.nodes.Lock()
	for k, n := range l.nodes.m {
		note(partID{k.minute * minuteNanos, DetailLength}, n.dirty && details || k.minute <= lastMinute, 0)
	}
	l.nodes.Unlock()

	parts := make(map[partID]*Part, len(sizes))
	detailRows := 0
	for id, z := range sizes {
		if !z.changed {
			continue
		}
		p := &Part{Window: Window{Start: time.Unix(0, id.start).UTC(), Length: id.length, Part: l.part(id)}}
		p.Open = id.start+int64(id.length) > horizon
		if id.length == WindowLength {
			p.Edges = make([]EdgeRow, 0, z.rows)
		} else {
			p.Details = make([]DetailRow, 0, z.rows)
			detailRows += z.rows
		}
		parts[id] = p
		if !p.Open {
			delete(l.cut.numbers, id)
		}
	}
	if details {
		l.cut.nextDetails = now.Add(min(time.Duration(detailRows/detailRowsPerSecond)*time.Second, maxDetailWait))
	}
	l.collect(parts)

	out := slices.Clone(l.cut.closing)
	for _, p := range parts {
		if len(p.Edges)+len(p.Details)+len(p.Nodes) == 0 {
			continue
		}
		out = append(out, *p)
		if !p.Open {
			l.cut.closing = append(l.cut.closing, *p)
		}
	}
	for len(l.cut.closing) > maxClosing {
		l.dropped[dropStore].Add(1)
		l.cut.closing = slices.Delete(l.cut.closing, 0, 1)
	}
	slices.SortFunc(out, comparePart)
	return out
}

// collect fills the parts: copies of what is open, and what is closed itself, which it takes out of the edges.
func (l *Live) collect(parts map[partID]*Part) {
	var arena sketch.Arena
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		for k, e := range sh.edges {
			key := l.edgeKey(e.ref)
			for _, w := range e.windows {
				p := parts[partID{w.start * windowNanos, WindowLength}]
				if p == nil {
					continue
				}
				if p.Open {
					w.dirty = false
				}
				p.Edges = append(p.Edges, EdgeRow{key, w.stats.take(p.Open, &arena)})
			}
			for _, m := range e.minutes {
				p := parts[partID{m.start * minuteNanos, DetailLength}]
				if p == nil {
					continue
				}
				if p.Open {
					m.dirty = false
				}
				p.Details = l.appendDetails(p.Details, key, m, p.Open, &arena)
			}
			// What was opened since the parts were chosen is in none of them and stays for the next cut.
			e.windows = slices.DeleteFunc(e.windows, func(w *edgeWindow) bool {
				p := parts[partID{w.start * windowNanos, WindowLength}]
				return p != nil && !p.Open
			})
			e.minutes = slices.DeleteFunc(e.minutes, func(m *edgeMinute) bool {
				p := parts[partID{m.start * minuteNanos, DetailLength}]
				return p != nil && !p.Open
			})
			if len(e.windows) == 0 && len(e.minutes) == 0 {
				delete(sh.edges, k)
				l.edges.Add(-1)
			}
		}
		sh.mu.Unlock()
	}
	l.nodes.Lock()
	for k, n := range l.nodes.m {
		p := parts[partID{k.minute * minuteNanos, DetailLength}]
		if p == nil {
			continue
		}
		n.dirty = false
		p.Nodes = append(p.Nodes, l.nodeRow(k, n))
		if !p.Open {
			delete(l.nodes.m, k)
		}
	}
	l.nodes.Unlock()
}

// take returns the stats, as a copy when they may still change.
func (s *EdgeStats) take(shared bool, arena *sketch.Arena) EdgeStats {
	c := *s
	if shared {
		c.Client, c.Server = s.Client.CloneInto(arena), s.Server.CloneInto(arena)
	}
	return c
}

func (l *Live) edgeKey(ref EdgeRef) EdgeKey {
	return EdgeKey{l.names.LookupNode(ref.Source), l.names.LookupNode(ref.Target), ref.Protocol}
}

func (l *Live) nodeRow(k liveNodeKey, n *liveNode) NodeRow {
	return NodeRow{l.names.LookupNode(k.node), l.names.Label(k.instance), l.names.Label(k.version), n.spans}
}

func (l *Live) appendDetails(rows []DetailRow, edge EdgeKey, m *edgeMinute, shared bool, arena *sketch.Arena) []DetailRow {
	for list := range m.details {
		d := &m.details[list]
		for i, label := range d.labels {
			key := detailKeys[list]
			key.Name = Other
			if label != 0 {
				key.Name = l.names.Label(label)
			}
			detail := d.details[i]
			if shared {
				detail.Latency = detail.Latency.CloneInto(arena)
			}
			rows = append(rows, DetailRow{edge, key, detail})
		}
	}
	return rows
}

// Kept says that parts of the last Cut are in the store: the closed ones are forgotten.
func (l *Live) Kept(parts []Part) {
	kept := map[PartKey]bool{}
	for i := range parts {
		if !parts[i].Open {
			kept[parts[i].Key()] = true
		}
	}
	if len(kept) == 0 {
		return
	}
	l.cut.Lock()
	defer l.cut.Unlock()
	l.cut.closing = slices.DeleteFunc(l.cut.closing, func(p Part) bool { return kept[p.Key()] })
}

// Windows returns the parts that start in [from, to) and are not yet, or not as they are now, in the store, and the
// names of those parts, so that an answer from the store can leave its older copies out. want says whether details and
// nodes are wanted or edges.
func (l *Live) Windows(from, to time.Time, details bool) (windows []Window, keys []PartKey) {
	l.cut.Lock()
	defer l.cut.Unlock()
	length := WindowLength
	if details {
		length = DetailLength
	}
	first, last := from.UnixNano(), to.UnixNano()
	in := func(start int64) bool { return start >= first && start < last }
	for i := range l.cut.closing {
		if p := &l.cut.closing[i]; p.Length == length && in(p.Start.UnixNano()) {
			windows = append(windows, p.Window)
			keys = append(keys, p.Key())
		}
	}
	var arena sketch.Arena
	open := map[partID]*Window{}
	at := func(start int64) *Window {
		id := partID{start, length}
		w := open[id]
		if w == nil {
			w = &Window{Start: time.Unix(0, start).UTC(), Length: length, Part: l.part(id)}
			open[id] = w
		}
		return w
	}
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		for _, e := range sh.edges {
			key := l.edgeKey(e.ref)
			if !details {
				for _, w := range e.windows {
					if start := w.start * windowNanos; in(start) {
						o := at(start)
						o.Edges = append(o.Edges, EdgeRow{key, w.stats.take(true, &arena)})
					}
				}
				continue
			}
			for _, m := range e.minutes {
				if start := m.start * minuteNanos; in(start) {
					o := at(start)
					o.Details = l.appendDetails(o.Details, key, m, true, &arena)
				}
			}
		}
		sh.mu.Unlock()
	}
	if details {
		l.nodes.Lock()
		for k, n := range l.nodes.m {
			if start := k.minute * minuteNanos; in(start) {
				o := at(start)
				o.Nodes = append(o.Nodes, l.nodeRow(k, n))
			}
		}
		l.nodes.Unlock()
	}
	for _, w := range open {
		windows = append(windows, *w)
		keys = append(keys, PartKey{w.Start, w.Length, w.Part})
	}
	return windows, keys
}

func comparePart(a, b Part) int {
	return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Length, b.Length), cmp.Compare(a.Part, b.Part))
}

// floorDiv divides rounding down, also below zero.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
