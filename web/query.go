package web

import (
	"context"
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

// mapOf returns the map of one environment, the busiest when anyEnv is set, judged against its baseline.
func (s *Server) mapOf(ctx context.Context, sp span, env string, anyEnv bool) (graph.Map, error) {
	windows, err := s.reader.Windows(ctx, storage.Query{From: sp.From, To: sp.end(), Want: storage.WantEdges})
	if err != nil {
		return graph.Map{}, err
	}
	// Who is there is told by the minute. The present minute knows little yet, so the one before belongs to it.
	nodesFrom := floor(sp.From, graph.DetailLength)
	if latest := floor(sp.To, graph.DetailLength).Add(-graph.DetailLength); latest.Before(nodesFrom) {
		nodesFrom = latest
	}
	nodes, err := s.reader.Windows(ctx, storage.Query{From: nodesFrom, To: sp.end(), Want: storage.WantNodes})
	if err != nil {
		return graph.Map{}, err
	}
	windows = append(windows, nodes...)
	if anyEnv {
		env = busiest(windows)
	}
	baseline, err := s.baselineOf(ctx, sp, env)
	if err != nil {
		return graph.Map{}, err
	}
	return graph.BuildMap(windows, sp.From, sp.To, env, false, baseline), nil
}

// busiest returns the environment with the most calls, the first by name among equals; "" when there is none.
func busiest(windows []graph.Window) string {
	calls := map[string]int64{}
	for i := range windows {
		for j := range windows[i].Edges {
			row := &windows[i].Edges[j]
			calls[row.Edge.Env()] += max(row.Stats.Calls, 0)
		}
		for j := range windows[i].Nodes {
			calls[windows[i].Nodes[j].Node.Env] += 0
		}
	}
	best, found := "", false
	for env, n := range calls {
		if !found || n > calls[best] || n == calls[best] && env < best {
			best, found = env, true
		}
	}
	return best
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
		kind := m.Nodes[i].Node.Kind
		nodes[i] = layout.Node{ID: m.Nodes[i].ID, Entry: kind == graph.User || kind == graph.Unknown}
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

// around returns which nodes and edges of m a neighbourhood keeps: those from which the service is reached within depth
// calls, and those that it reaches.
func around(m *graph.Map, service string, depth int) (nodes map[string]bool, edges []int) {
	nodes = map[string]bool{service: true}
	kept := map[int]bool{}
	walk := func(from, to func(*graph.EdgeKey) string) {
		next := map[string][]int{}
		for i := range m.Edges {
			id := from(&m.Edges[i].Key)
			next[id] = append(next[id], i)
		}
		seen, front := map[string]bool{service: true}, []string{service}
		for range depth {
			var reached []string
			for _, id := range front {
				for _, i := range next[id] {
					kept[i] = true
					if other := to(&m.Edges[i].Key); !seen[other] {
						seen[other], nodes[other] = true, true
						reached = append(reached, other)
					}
				}
			}
			front = reached
		}
	}
	source := func(k *graph.EdgeKey) string { return k.Source.ID() }
	target := func(k *graph.EdgeKey) string { return k.Target.ID() }
	walk(source, target)
	walk(target, source)
	for i := range m.Edges {
		if kept[i] {
			edges = append(edges, i)
		}
	}
	return nodes, edges
}
