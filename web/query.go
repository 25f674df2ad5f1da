package web

import (
	"context"
	"errors"
	"sync"
	"time"

	"faultline/graph"
	"faultline/storage"
	"faultline/web/layout"
)

// The live map covers the six windows before the present one, and the present one up to now: 60 to 70 seconds.
const liveSpan = time.Minute

// defaultSpan is what an answer covers when from is absent.
const defaultSpan = 5 * time.Minute

// The baseline that health is judged against: the quarter of an hour that ends five minutes before the end of what is
// shown, or at its start if that is earlier.
const (
	baselineGap  = 5 * time.Minute
	baselineSpan = 15 * time.Minute
)

// liveAt returns the span of the live map.
func liveAt(now time.Time) span {
	return span{From: floor(now, graph.WindowLength).Add(-liveSpan), To: now}
}

// windowsOf returns the edges and nodes of all environments in sp.
func (s *Server) windowsOf(ctx context.Context, sp span) ([]graph.Window, error) {
	// Who is there is told by the minute. The present minute knows little yet, so the one before belongs to it.
	from := floor(sp.From, graph.DetailLength)
	if latest := floor(sp.To, graph.DetailLength).Add(-graph.DetailLength); latest.Before(from) {
		from = latest
	}
	var nodes []graph.Window
	var errNodes error
	var asking sync.WaitGroup
	asking.Go(func() {
		nodes, errNodes = s.reader.Windows(ctx, storage.Query{From: from, To: sp.end(), Want: storage.WantNodes})
	})
	windows, err := s.reader.Windows(ctx, storage.Query{From: sp.From, To: sp.end(), Want: storage.WantEdges})
	asking.Wait()
	if err := errors.Join(err, errNodes); err != nil {
		return nil, err
	}
	return append(windows, nodes...), nil
}

// buildMap returns the map of one environment over sp, judged against its baseline.
func (s *Server) buildMap(ctx context.Context, windows []graph.Window, sp span, env string) (graph.Map, error) {
	baseline, err := s.baselineOf(ctx, sp, env)
	if err != nil {
		return graph.Map{}, err
	}
	m := graph.BuildMap(windows, sp.From, sp.To, env, false, baseline)
	return m, s.attach(ctx, sp, &m)
}

// mapOf returns the map of one environment over sp, the busiest when anyEnv is set, judged against its baseline.
func (s *Server) mapOf(ctx context.Context, sp span, env string, anyEnv bool) (graph.Map, error) {
	windows, err := s.windowsOf(ctx, sp)
	if err != nil {
		return graph.Map{}, err
	}
	if anyEnv {
		env, _ = busiest(windows, "")
	}
	return s.buildMap(ctx, windows, sp, env)
}

// busiest returns the environment with the most calls, the first by name among equals; ok is false when there is none.
// With a node's id only environments that have such a node count.
func busiest(windows []graph.Window, node string) (env string, ok bool) {
	calls := map[string]int64{}
	for i := range windows {
		for j := range windows[i].Edges {
			row := &windows[i].Edges[j]
			if node == "" || row.Edge.Source.ID() == node || row.Edge.Target.ID() == node {
				calls[row.Edge.Env()] += max(row.Stats.Calls, 0)
			}
		}
		for j := range windows[i].Nodes {
			if row := &windows[i].Nodes[j]; node == "" || row.Node.ID() == node {
				calls[row.Node.Env] += 0
			}
		}
	}
	for e, n := range calls {
		if !ok || n > calls[env] || n == calls[env] && e < env {
			env, ok = e, true
		}
	}
	return env, ok
}

// baselines keeps the maps that others are judged against. It is safe for concurrent use.
type baselines struct {
	mu   sync.Mutex
	maps map[baselineKey]*graph.Map
}

type baselineKey struct {
	env string
	end time.Time
}

// maxBaselines bounds how many are kept; when there are more, all are forgotten.
const maxBaselines = 32

// baselineOf returns the map that one of sp is judged against. It moves once a minute and is kept as long.
func (s *Server) baselineOf(ctx context.Context, sp span, env string) (*graph.Map, error) {
	end := sp.To.Add(-baselineGap)
	if sp.From.Before(end) {
		end = sp.From
	}
	key := baselineKey{env, floor(end, time.Minute)}
	b := &s.baselines
	b.mu.Lock()
	m := b.maps[key]
	b.mu.Unlock()
	if m != nil {
		return m, nil
	}
	q := storage.Query{From: key.end.Add(-baselineSpan), To: key.end, Want: storage.WantEdges, Env: env, HasEnv: true}
	windows, err := s.reader.Windows(ctx, q)
	if err != nil {
		return nil, err
	}
	built := graph.BuildMap(windows, q.From, q.To, env, false, nil)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.maps == nil || len(b.maps) >= maxBaselines {
		b.maps = map[baselineKey]*graph.Map{}
	}
	b.maps[key] = &built
	return &built, nil
}

// places remembers where the nodes of each environment stand on the map, so that one which stays keeps its place.
// It is safe for concurrent use.
type places struct {
	mu   sync.Mutex
	envs map[string]map[string]layout.Position
}

// Bounds of what is remembered; beyond them a map is placed anew.
const (
	maxPlacedEnvs  = 64
	maxPlacedNodes = 2 * graph.MaxMapNodes
)

// of returns a place for every node of the whole map m. What the past looked like does not move the present: only a
// live map is remembered.
func (p *places) of(m *graph.Map, live bool) map[string]layout.Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.envs[m.Env]
	missing := 0
	for i := range m.Nodes {
		if _, ok := known[m.Nodes[i].ID]; !ok {
			missing++
		}
	}
	if missing == 0 {
		return known
	}
	nodes := make([]layout.Node, len(m.Nodes))
	for i := range m.Nodes {
		nodes[i] = layout.Node{ID: m.Nodes[i].ID, Entry: m.Nodes[i].Node.Outside()}
	}
	edges := make([]layout.Edge, len(m.Edges))
	for i := range m.Edges {
		edges[i] = layout.Edge{Source: m.Edges[i].Key.Source.ID(), Target: m.Edges[i].Key.Target.ID()}
	}
	placed := layout.Place(nodes, edges, known)
	if !live {
		return placed
	}
	// A place stays free for a node that is away for a while, unless everything was placed anew.
	if 2*missing <= len(m.Nodes) && len(known)+missing <= maxPlacedNodes {
		for id, at := range known {
			if _, ok := placed[id]; !ok {
				placed[id] = at
			}
		}
	}
	if p.envs == nil || len(p.envs) >= maxPlacedEnvs && p.envs[m.Env] == nil {
		p.envs = map[string]map[string]layout.Position{}
	}
	p.envs[m.Env] = placed
	return placed
}

// reach returns how many calls away each node is that id depends on or, upstream, that depends on id, itself included,
// up to depth calls.
func reach(m *graph.Map, id string, depth int, upstream bool) map[string]int {
	next := map[string][]string{}
	for i := range m.Edges {
		from, to := m.Edges[i].Key.Source.ID(), m.Edges[i].Key.Target.ID()
		if upstream {
			from, to = to, from
		}
		next[from] = append(next[from], to)
	}
	distance, front := map[string]int{id: 0}, []string{id}
	for d := 1; d <= depth && len(front) > 0; d++ {
		var reached []string
		for _, from := range front {
			for _, to := range next[from] {
				if _, seen := distance[to]; !seen {
					distance[to] = d
					reached = append(reached, to)
				}
			}
		}
		front = reached
	}
	return distance
}

// within returns which nodes and edges of m belong to a neighbourhood: what leads to the service within depth calls, and
// what it leads to. Two neighbours' dealings with each other belong to it only where they lie on such a way.
func (n Neighbourhood) within(m *graph.Map) (nodes, edges []int) {
	if n.Service == "" {
		nodes, edges = make([]int, len(m.Nodes)), make([]int, len(m.Edges))
		for i := range nodes {
			nodes[i] = i
		}
		for i := range edges {
			edges[i] = i
		}
		return nodes, edges
	}
	down, up := reach(m, n.Service, n.Depth, false), reach(m, n.Service, n.Depth, true)
	for i := range m.Nodes {
		_, below := down[m.Nodes[i].ID]
		_, above := up[m.Nodes[i].ID]
		if below || above {
			nodes = append(nodes, i)
		}
	}
	for i := range m.Edges {
		from, to := m.Edges[i].Key.Source.ID(), m.Edges[i].Key.Target.ID()
		d, below := down[from]
		u, above := up[to]
		if below && d < n.Depth || above && u < n.Depth {
			edges = append(edges, i)
		}
	}
	return nodes, edges
}
