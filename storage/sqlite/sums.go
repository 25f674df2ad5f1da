package sqlite

import (
	"cmp"
	"slices"

	"faultline/graph"
	"faultline/internal/sketch"
)

// what is a kind of rows; the numbers are on disk.
type what int

const (
	edges what = iota
	details
	nodes
)

// Rows are named by the small numbers of the dictionary tables.
type (
	detailKey struct {
		edge int64
		dim  graph.Dimension
		side graph.Side
		name int64
	}
	nodeKey struct{ node, instance, version, zone, host int64 }
)

// The columns of an edge's counts; those that are younger come last, so that older blocks only lack them: a
// class of failures more would be one of those.
const (
	edgeCounts    = 14
	edgeHedges    = 28
	edgeColumns   = edgeHedges + 1
	detailColumns = 4
)

// The classes of failures there are today have the columns before that of hedges.
const _ = uint(edgeHedges - edgeCounts - graph.NumFailures)

// edgeSum is an EdgeStats as it is on disk: counts that are usually equal are kept as differences, which are zero and
// cost nothing. All of it is linear, so that sums of differences are differences of sums.
type edgeSum struct {
	counts         [edgeColumns]int64
	client, server sketch.Sketch
}

// countsOf returns the columns of a row that is not on disk yet.
func countsOf(s *graph.EdgeStats) [edgeColumns]int64 {
	c := [edgeColumns]int64{
		s.Calls - s.Client.Count(), s.Errors, s.LogicalCalls - s.Calls, s.LogicalErrors - s.Errors,
		s.ClientErrors, s.Cancelled, s.Raw - s.Calls, s.RawErrors - s.Errors,
		s.ServerCalls - s.Server.Count(), s.ServerErrors, s.ServerMissing, s.ClientMissing, s.Messages,
		s.Busy - s.Client.Sum(),
	}
	copy(c[edgeCounts:], s.Failures[:])
	c[edgeHedges] = s.Hedges
	return c
}

// add adds a row that is not on disk yet.
func (e *edgeSum) add(s *graph.EdgeStats) {
	for i, v := range countsOf(s) {
		e.counts[i] += v
	}
	e.client.Merge(&s.Client)
	e.server.Merge(&s.Server)
}

// stats returns the sum, sharing its sketches' memory.
func (e *edgeSum) stats() graph.EdgeStats {
	c := &e.counts
	s := graph.EdgeStats{
		Calls: c[0] + e.client.Count(), Errors: c[1], ClientErrors: c[4], Cancelled: c[5],
		ServerCalls: c[8] + e.server.Count(), ServerErrors: c[9], ServerMissing: c[10], ClientMissing: c[11],
		Messages: c[12], Busy: c[13] + e.client.Sum(), Hedges: c[edgeHedges],
		Client: e.client, Server: e.server,
	}
	s.LogicalCalls, s.LogicalErrors = c[2]+s.Calls, c[3]+s.Errors
	s.Raw, s.RawErrors = c[6]+s.Calls, c[7]+s.Errors
	copy(s.Failures[:], c[edgeCounts:])
	return s
}

type detailSum struct {
	counts  [detailColumns]int64
	latency sketch.Sketch
}

func detailCountsOf(o *graph.Detail) [detailColumns]int64 {
	return [detailColumns]int64{o.Calls - o.Latency.Count(), o.Errors, o.Raw - o.Calls, o.RawErrors - o.Errors}
}

// add adds a row that is not on disk yet.
func (d *detailSum) add(o *graph.Detail) {
	for i, v := range detailCountsOf(o) {
		d.counts[i] += v
	}
	d.latency.Downscale(o.Latency.Scale())
	d.latency.Merge(&o.Latency)
}

func (d *detailSum) detail() graph.Detail {
	o := graph.Detail{Calls: d.counts[0] + d.latency.Count(), Errors: d.counts[1], Latency: d.latency}
	o.Raw, o.RawErrors = d.counts[2]+o.Calls, d.counts[3]+o.Errors
	return o
}

// sums adds blocks up. Its zero value is empty.
type sums struct {
	edges   map[int64]*edgeSum
	details map[detailKey]*detailSum
	nodes   map[nodeKey]int64

	free []edgeSum // memory for some more
}

// edgesAtOnce is how many sums of edges get their memory together, at most: as many as there are already.
const edgesAtOnce = 64

func (s *sums) edge(id int64) *edgeSum {
	e := s.edges[id]
	if e == nil {
		if s.edges == nil {
			s.edges = map[int64]*edgeSum{}
		}
		if len(s.free) == 0 {
			s.free = make([]edgeSum, min(max(len(s.edges), 1), edgesAtOnce))
		}
		e, s.free = &s.free[0], s.free[1:]
		s.edges[id] = e
	}
	return e
}

func (s *sums) detail(k detailKey) *detailSum {
	d := s.details[k]
	if d == nil {
		if s.details == nil {
			s.details = map[detailKey]*detailSum{}
		}
		d = &detailSum{} // at the finest scale; merging makes it as coarse as what it is given
		s.details[k] = d
	}
	return d
}

func (s *sums) node(k nodeKey, spans int64) {
	if s.nodes == nil {
		s.nodes = map[nodeKey]int64{}
	}
	s.nodes[k] += spans
}

// absorb adds o, which is not used afterwards.
func (s *sums) absorb(o *sums) {
	if s.edges == nil {
		s.edges = o.edges
	} else {
		s.absorbEdges(o)
	}
	for k, d := range o.details {
		mine := s.details[k]
		if mine == nil {
			*s.detail(k) = *d
			continue
		}
		for i, v := range d.counts {
			mine.counts[i] += v
		}
		mine.latency.Merge(&d.latency)
	}
	for k, n := range o.nodes {
		s.node(k, n)
	}
}

func (s *sums) absorbEdges(o *sums) {
	for id, e := range o.edges {
		mine := s.edges[id]
		if mine == nil {
			s.edges[id] = e
			continue
		}
		for i, v := range e.counts {
			mine.counts[i] += v
		}
		mine.client.Merge(&e.client)
		mine.server.Merge(&e.server)
	}
}

func compareDetails(a, b detailKey) int {
	return cmp.Or(cmp.Compare(a.edge, b.edge), cmp.Compare(a.dim, b.dim), cmp.Compare(a.side, b.side), cmp.Compare(a.name, b.name))
}

func compareNodes(a, b nodeKey) int {
	return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.instance, b.instance), cmp.Compare(a.version, b.version),
		cmp.Compare(a.zone, b.zone), cmp.Compare(a.host, b.host))
}

func keysOf[K comparable, V any](m map[K]V, compare func(a, b K) int) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compare)
	return keys
}
