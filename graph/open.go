package graph

import (
	"slices"

	"faultline/internal/sketch"
)

// liveEdge is an edge with its open windows, newest last.
type liveEdge struct {
	ref     EdgeRef
	windows []*edgeWindow
	minutes []*edgeMinute

	// The newest of each once more, nil without one: nearly every call goes there, and reads one cache line less.
	newestWindow *edgeWindow
	newestMinute *edgeMinute

	median   int64 // see Live.Median
	medianAt int64 // the newest window when it was computed

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
	turnedDownPairs
	entriesFailed
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
	{PairTurnedDown, ClientSide, ""},
	{EntryFailed, ClientSide, ""},
}

// listKey tells the details of a list apart: a label or, in versionPairs and turnedDownPairs, the caller's and the callee's in one number.
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
	case list == versionPairs || list == turnedDownPairs:
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

// detailLists are some of the lists.
type detailLists [numDetailLists]bool

var allLists = listsOf(nil)

// listsOf returns the lists of details of some dimensions, of all when nil.
func listsOf(dimensions []Dimension) (lists detailLists) {
	for i := range lists {
		lists[i] = dimensions == nil || slices.Contains(dimensions, detailKeys[i].Dimension)
	}
	return lists
}

// rows returns about how many details of some lists a minute holds.
func (m *edgeMinute) rows(lists *detailLists) (n int) {
	for i := range m.details {
		if lists[i] {
			n += len(m.details[i].keys)
		}
	}
	return n + 2 // the first pair of versions, and the first version
}

type detailList struct {
	keys    []listKey
	details []Detail
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
