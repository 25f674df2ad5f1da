package engine

import (
	"cmp"
	"context"
	"slices"
	"time"

	"faultline/graph"
	"faultline/storage"
)

// View answers a storage.Reader's questions from memory and the store together: windows that may still change come from
// the live graph, all others from the store, and together they are everything that was observed, once. The live map and
// history are the same question with another span of time. Findings come from the store and, newer, from a Judge. Example traces and state come from the store alone, at most
// a tick late. It is safe for concurrent use.
type View struct {
	storage.Reader
	// Judge has the findings that are newer than the store's; nil for a view of the store alone.
	Judge *Judge
	live  *graph.Live
}

// NewView returns a View. Without a live graph it is the store alone.
func NewView(store storage.Reader, live *graph.Live) *View { return &View{Reader: store, live: live} }

// Findings implements storage.Reader.
func (v *View) Findings(ctx context.Context, q storage.FindingQuery) ([]graph.Finding, error) {
	findings, err := v.Reader.Findings(ctx, q)
	if err != nil || v.Judge == nil {
		return findings, err
	}
	return v.Judge.overlay(q, findings), nil
}

// queryTime bounds the time between a look at memory and one at the store. A part that leaves memory in between is still
// told apart in the store by its name, and left out, because a store folds no part before it has settled for longer.
const queryTime = 20 * time.Second

// Windows implements storage.Reader.
func (v *View) Windows(ctx context.Context, q storage.Query) ([]graph.Window, error) {
	if v.live == nil {
		return v.Reader.Windows(ctx, q)
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	from, to := q.From.Truncate(graph.WindowLength), q.To.Truncate(graph.WindowLength)
	// Memory before the store: the other way round, a part that moves in between would be in neither.
	wanted := wantedOf(&q)
	closed, open, keys := v.live.Ask(graph.LiveQuery{
		From: from, To: to, Only: wanted, Dimensions: q.Dimensions, Sum: q.Step == 0,
		Edges: q.Want&storage.WantEdges != 0, Details: q.Want&storage.WantDetails != 0, Nodes: q.Want&storage.WantNodes != 0,
	})
	stored := q
	stored.Except = slices.Concat(stored.Except, keys)
	windows, err := v.Reader.Windows(ctx, stored)
	if err != nil {
		return nil, err
	}
	m := newMerger(q, from, to, windows, wanted)
	m.add(open, true)
	m.add(closed, false)
	return m.windows(), nil
}

// wantedOf returns whether a query asks for an edge; nil when it asks for all.
func wantedOf(q *storage.Query) func(graph.EdgeKey) bool {
	if q.Edges == nil {
		if !q.HasEnv {
			return nil
		}
		return func(edge graph.EdgeKey) bool { return edge.Env() == q.Env }
	}
	ids := make(map[string]bool, len(q.Edges))
	for _, id := range q.Edges {
		ids[id] = true
	}
	known := map[graph.EdgeKey]bool{} // an id is a hash: computed once for an edge, not once for a row
	return func(edge graph.EdgeKey) bool {
		if q.HasEnv && edge.Env() != q.Env {
			return false
		}
		want, ok := known[edge]
		if !ok {
			want = ids[edge.ID()]
			known[edge] = want
		}
		return want
	}
}

// merger adds parts from memory to the windows that the store answered with.
type merger struct {
	q        storage.Query
	from, to time.Time
	only     func(graph.EdgeKey) bool
	sums     map[bucket]*sum // edges and details of one start may differ in length
}

func newMerger(q storage.Query, from, to time.Time, windows []graph.Window, only func(graph.EdgeKey) bool) *merger {
	m := &merger{q, from, to, only, map[bucket]*sum{}}
	for i := range windows {
		m.sums[bucket{windows[i].Start.UnixNano(), windows[i].Length}] = newSum(&windows[i])
	}
	return m
}

// add adds parts, whose memory is kept where it is our own.
func (m *merger) add(parts []graph.Window, own bool) {
	wanted := func(edge graph.EdgeKey) bool { return m.only == nil || m.only(edge) }
	for i := range parts {
		p := &parts[i]
		if !holdsWanted(m.q.Want, p) {
			continue
		}
		start, length := m.from, m.to.Sub(m.from)
		if m.q.Step > 0 {
			length = max(m.q.Step, p.Length)
			start = floor(p.Start, length)
		}
		s := m.sums[bucket{start.UnixNano(), length}]
		if s == nil {
			s = newSum(&graph.Window{Start: start, Length: length})
			m.sums[bucket{start.UnixNano(), length}] = s
		}
		switch {
		case m.q.Want&storage.WantEdges == 0:
		case own && m.only == nil && len(s.window.Edges) == 0:
			s.window.Edges = p.Edges // each key once, as in an answer: most often there is nothing to add them to
		default:
			for k := range p.Edges {
				if wanted(p.Edges[k].Edge) {
					s.edge(&p.Edges[k], own)
				}
			}
		}
		switch {
		case m.q.Want&storage.WantDetails == 0:
		case own && m.only == nil && len(s.window.Details) == 0 && unique(p.Details):
			s.window.Details = p.Details
		default:
			for k := range p.Details {
				if m.q.WantsDetails(p.Details[k].Key.Dimension) && wanted(p.Details[k].Edge) {
					s.detail(&p.Details[k], own)
				}
			}
		}
		if m.q.Want&storage.WantNodes != 0 {
			for k := range p.Nodes {
				if !m.q.HasEnv || p.Nodes[k].Node.Env == m.q.Env {
					s.node(&p.Nodes[k])
				}
			}
		}
	}
}

// unique reports whether there is one row of each key among those of a part, in which those of one edge and list follow
// each other: two labels may stand for one name.
func unique(rows []graph.DetailRow) bool {
	for i := range rows {
		k := &rows[i].Key
		for j := i - 1; j >= 0 && rows[j].Key.Dimension == k.Dimension && rows[j].Key.Side == k.Side && rows[j].Edge == rows[i].Edge; j-- {
			if rows[j].Key.Name == k.Name {
				return false
			}
		}
	}
	return true
}

// windows returns what there is, by start.
func (m *merger) windows() []graph.Window {
	out := make([]graph.Window, 0, len(m.sums))
	for _, s := range m.sums {
		if len(s.window.Edges)+len(s.window.Details)+len(s.window.Nodes) > 0 {
			out = append(out, *s.window)
		}
	}
	slices.SortFunc(out, func(a, b graph.Window) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Length, b.Length))
	})
	return out
}

func holdsWanted(want storage.Want, p *graph.Window) bool {
	return want&storage.WantEdges != 0 && len(p.Edges) > 0 ||
		want&storage.WantDetails != 0 && len(p.Details) > 0 ||
		want&storage.WantNodes != 0 && len(p.Nodes) > 0
}

// floor aligns t to multiples of step since the Unix epoch.
func floor(t time.Time, step time.Duration) time.Time {
	n := t.UnixNano()
	return time.Unix(0, n-n%int64(step)).UTC()
}

// bucket is a window of an answer.
type bucket struct {
	start  int64
	length time.Duration
}

// sum adds rows to a window. Rows are found by key, which is made when the first row is added. A row whose memory is not
// our own is not copied as it is, which would share the memory of its sketches.
type sum struct {
	window  *graph.Window
	edges   map[graph.EdgeKey]int
	details map[detailKey]int
	nodes   map[graph.NodeRow]int
}

type detailKey struct {
	edge graph.EdgeKey
	key  graph.DetailKey
}

// processOf names a NodeRow: the row without its count.
func processOf(row *graph.NodeRow) graph.NodeRow {
	p := *row
	p.Spans = 0
	return p
}

func newSum(w *graph.Window) *sum { return &sum{window: w} }

func (s *sum) edge(row *graph.EdgeRow, own bool) {
	if s.edges == nil {
		s.edges = make(map[graph.EdgeKey]int, len(s.window.Edges))
		for i := range s.window.Edges {
			s.edges[s.window.Edges[i].Edge] = i
		}
	}
	if i, ok := s.edges[row.Edge]; ok {
		s.window.Edges[i].Stats.Add(&row.Stats)
		return
	}
	s.edges[row.Edge] = len(s.window.Edges)
	fresh := *row
	if !own {
		fresh = graph.EdgeRow{Edge: row.Edge}
		fresh.Stats.Add(&row.Stats)
	}
	s.window.Edges = append(s.window.Edges, fresh)
}

func (s *sum) detail(row *graph.DetailRow, own bool) {
	if s.details == nil {
		s.details = make(map[detailKey]int, len(s.window.Details))
		for i := range s.window.Details {
			d := &s.window.Details[i]
			s.details[detailKey{d.Edge, d.Key}] = i
		}
	}
	k := detailKey{row.Edge, row.Key}
	if i, ok := s.details[k]; ok {
		s.window.Details[i].Detail.Add(&row.Detail)
		return
	}
	s.details[k] = len(s.window.Details)
	fresh := *row
	if !own {
		fresh = graph.DetailRow{Edge: row.Edge, Key: row.Key}
		fresh.Detail.Add(&row.Detail)
	}
	s.window.Details = append(s.window.Details, fresh)
}

func (s *sum) node(row *graph.NodeRow) {
	if s.nodes == nil {
		s.nodes = make(map[graph.NodeRow]int, len(s.window.Nodes))
		for i := range s.window.Nodes {
			n := &s.window.Nodes[i]
			s.nodes[processOf(n)] = i
		}
	}
	k := processOf(row)
	if i, ok := s.nodes[k]; ok {
		s.window.Nodes[i].Spans += row.Spans
		return
	}
	s.nodes[k] = len(s.window.Nodes)
	s.window.Nodes = append(s.window.Nodes, *row)
}
