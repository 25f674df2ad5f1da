package sim

import (
	"cmp"
	"math"
	"slices"
)

// Edge names an edge of the map: node ids and protocol as the API shows them.
type Edge struct {
	Source, Target, Protocol string
}

// EdgeTruth is what an edge must show. Counts are calls that happened: a span
// that was kept with probability p stands for 1/p of them, in the latencies too.
type EdgeTruth struct {
	Calls         int64 // attempts
	Errors        int64 // failed attempts, by the caller's verdict where there is one
	Retries       int64 // calls less logical calls
	Retried       int64 // logical calls that took several attempts
	LogicalErrors int64 // logical calls whose last attempt failed
	Client        Latencies
	Server        Latencies
}

// LogicalCalls returns the calls without their retries.
func (e *EdgeTruth) LogicalCalls() int64 { return e.Calls - e.Retries }

// Latencies is a list of durations in nanoseconds, ascending once it is handed
// out by a Truth.
type Latencies []int64

// Quantile returns the smallest duration that at least q of the durations do
// not exceed, in nanoseconds, for 0 ≤ q ≤ 1; 0 for an empty list. The list must
// be ascending.
func (l Latencies) Quantile(q float64) int64 {
	if len(l) == 0 {
		return 0
	}
	rank := int(math.Ceil(q * float64(len(l))))
	return l[min(max(rank, 1), len(l))-1]
}

// Truth is what the whole map must show for the traffic it belongs to. Its zero
// value is an empty truth, ready to use. It is not safe for concurrent use.
type Truth struct {
	edges map[Edge]*EdgeTruth
}

// Edge returns what the edge must show, nil if it must not be there.
func (t *Truth) Edge(e Edge) *EdgeTruth {
	tr := t.edges[e]
	if tr != nil {
		tr.sort()
	}
	return tr
}

// Edges returns all edges, sorted by source, target and protocol.
func (t *Truth) Edges() []Edge {
	edges := make([]Edge, 0, len(t.edges))
	for e := range t.edges {
		edges = append(edges, e)
	}
	slices.SortFunc(edges, func(a, b Edge) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Target, b.Target), cmp.Compare(a.Protocol, b.Protocol))
	})
	return edges
}

func (e *EdgeTruth) sort() {
	if !slices.IsSorted(e.Client) {
		slices.Sort(e.Client)
	}
	if !slices.IsSorted(e.Server) {
		slices.Sort(e.Server)
	}
}

// call is one attempt as the generator knows it.
type call struct {
	edge   Edge
	client int64 // duration in ns; negative: no client span was kept
	server int64 // duration in ns; negative: no server span was kept
	failed bool
	retry  bool // a further attempt of a logical call
	last   bool // no further attempt follows
	// weights of the client and of the server span: 1/p
	clientWeight, serverWeight int64
}

// add counts one attempt. The caller's span decides the counts; the callee's
// does where there is no caller to be seen.
func (t *Truth) add(c call) {
	weight := c.clientWeight
	if c.client < 0 {
		weight = c.serverWeight
	}
	if c.client < 0 && c.server < 0 {
		return
	}
	e := t.edges[c.edge]
	if e == nil {
		if t.edges == nil {
			t.edges = map[Edge]*EdgeTruth{}
		}
		e = &EdgeTruth{}
		t.edges[c.edge] = e
	}
	e.Calls += weight
	if c.failed {
		e.Errors += weight
		if c.last {
			e.LogicalErrors += weight
		}
	}
	if c.retry {
		e.Retries += weight
		if c.last {
			e.Retried += weight
		}
	}
	if c.client >= 0 {
		for range c.clientWeight {
			e.Client = append(e.Client, c.client)
		}
	}
	if c.server >= 0 {
		for range c.serverWeight {
			e.Server = append(e.Server, c.server)
		}
	}
}
