package graph

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"faultline/internal/sketch"
)

// Health is what a person sees of a node or an edge before reading anything. The zero value is unknown: too few calls
// to say, which is never shown as good.
type Health uint8

// The healths, from the least to the most alarming.
const (
	HealthUnknown Health = iota
	HealthOK
	HealthWarn
	HealthCritical
)

var healthNames = [...]string{"unknown", "ok", "warn", "critical"}

// String returns the health's name in the API.
func (h Health) String() string { return healthNames[h&3] }

// MarshalText writes the health's name.
func (h Health) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// MapEdge is an edge over a span of time, with what was counted and what follows from it.
type MapEdge struct {
	ID       string
	Key      EdgeKey
	Stats    EdgeStats
	Health   Health
	Reasons  []string      // why Health is warn or critical, in words with their figures
	Duration time.Duration // the time that Stats cover
	Findings []*Finding    // what goes wrong on it, loudest first; see Attach

	Criticality Criticality // see Weigh
	Biased      bool        // see Doubt
}

// MapNode is a node over a span of time.
type MapNode struct {
	ID        string
	Node      Node
	Inbound   EdgeStats // sums the calls of the edges that end here which reached the node
	Health    Health    // the worst of the node's own inbound edges, as far as that is the node's
	Instances []string
	Versions  []string
	Spans     int64
	Findings  []*Finding // what goes wrong at the node itself, loudest first

	Criticality Criticality // see Weigh
	Biased      bool        // see Doubt
}

// MapLink says that spans of the target link to spans of the source, outside of messaging: they join its work, do it in a
// batch, or go on with it in a trace of their own. It is no call: it has no latency, and enters no figure and no path.
type MapLink struct {
	ID    string
	Key   EdgeKey
	Spans int64 // that link, each for one of its links
	Raw   int64 // the same, unweighted
}

// Map is the dependency graph of one environment over [From, To).
type Map struct {
	From, To  time.Time
	Env       string
	Envs      []string // all environments seen in the span, by name
	Nodes     []MapNode
	Edges     []MapEdge
	Links     []MapLink // between nodes of the map, by the ids of their ends
	Truncated bool      // there is more than the limits allow to show
}

// Limits of one map.
const (
	MaxMapNodes = 10_000
	MaxMapEdges = 50_000
	MaxMapLinks = 1_000
)

// BuildMap makes the map of one environment from any number of windows that together cover [from, to). env "" stands
// for the environment named so only when all is false; with all set and env "" the busiest environment is taken.
// Baseline, when given, holds the same edges over an earlier, quieter span, for comparison.
// Nodes and edges come sorted by id, so that the same windows give the same map. Of what is more than MaxMapEdges and
// MaxMapNodes the busiest are kept, by calls, of links those of most spans, and the map says that it is truncated. The map's sketches may share the
// windows' memory, which must not change while the map is in use.
func BuildMap(windows []Window, from, to time.Time, env string, anyEnv bool, baseline *Map) Map {
	return buildMap(windows, from, to, env, anyEnv, baseline, MaxMapNodes, MaxMapEdges)
}

func buildMap(windows []Window, from, to time.Time, env string, anyEnv bool, baseline *Map, maxNodes, maxEdges int) Map {
	type sum struct {
		stats *EdgeStats
		own   bool // not a row's
	}
	most := 0
	for wi := range windows {
		most = max(most, len(windows[wi].Edges))
	}
	edges := make(map[EdgeKey]sum, most)
	calls := map[string]int64{}
	for wi := range windows {
		for i := range windows[wi].Edges {
			row := &windows[wi].Edges[i]
			calls[row.Edge.Env()] += max(row.Stats.Calls, 0)
			s, seen := edges[row.Edge]
			if !seen {
				edges[row.Edge] = sum{stats: &row.Stats}
				continue
			}
			if !s.own {
				first := s.stats
				s = sum{&EdgeStats{}, true}
				s.stats.Add(first)
				edges[row.Edge] = s
			}
			s.stats.Add(&row.Stats)
		}
		for i := range windows[wi].Nodes {
			calls[windows[wi].Nodes[i].Node.Env] += 0
		}
	}
	m := Map{From: from, To: to, Env: env}
	for e := range calls {
		m.Envs = append(m.Envs, e)
	}
	slices.Sort(m.Envs)
	if anyEnv {
		m.Env = ""
		for i, e := range m.Envs {
			if i == 0 || calls[e] > calls[m.Env] {
				m.Env = e
			}
		}
	}
	nodes := map[Node]*MapNode{}
	node := func(n Node) *MapNode {
		mn := nodes[n.Identity()]
		if mn == nil {
			mn = &MapNode{ID: n.ID(), Node: n}
			nodes[n.Identity()] = mn
		}
		return mn
	}
	before := map[string]*EdgeStats{}
	if baseline != nil {
		for i := range baseline.Edges {
			before[baseline.Edges[i].ID] = &baseline.Edges[i].Stats
		}
	}
	// Sorted by small keys, with every id made once: stats are too big to be swapped about.
	type ranked struct {
		key            EdgeKey
		source, target *MapNode
		stats          *EdgeStats
	}
	shown := make([]ranked, 0, len(edges))
	for k, s := range edges {
		if k.Env() != m.Env || s.stats.Zero() {
			continue
		}
		if k.Protocol == Linked {
			if s.stats.Messages > 0 {
				m.Links = append(m.Links, MapLink{Key: k, Spans: s.stats.Messages, Raw: s.stats.Raw})
			}
		} else {
			shown = append(shown, ranked{k, node(k.Source), node(k.Target), s.stats})
		}
	}
	byID := func(a, b ranked) int {
		return cmp.Or(strings.Compare(a.source.ID, b.source.ID), strings.Compare(a.target.ID, b.target.ID),
			cmp.Compare(a.key.Protocol, b.key.Protocol))
	}
	spans := map[Node]int64{} // of the nodes that no edge touches; only their order matters
	for wi := range windows {
		for i := range windows[wi].Nodes {
			if row := &windows[wi].Nodes[i]; row.Node.Env == m.Env && nodes[row.Node.Identity()] == nil {
				spans[row.Node.Identity()] += row.Spans
			}
		}
	}
	if len(shown) > maxEdges {
		slices.SortFunc(shown, func(a, b ranked) int { return cmp.Or(cmp.Compare(b.stats.Calls, a.stats.Calls), byID(a, b)) })
		shown, m.Truncated = shown[:maxEdges], true
	}
	if len(nodes)+len(spans) > maxNodes {
		m.Truncated = true
		touched := map[*MapNode]int64{}
		for _, r := range shown {
			touched[r.source] += r.stats.Calls
			touched[r.target] += r.stats.Calls
		}
		order := make([]*MapNode, 0, len(nodes)+len(spans))
		for _, mn := range nodes {
			order = append(order, mn)
		}
		for n := range spans {
			order = append(order, node(n))
		}
		slices.SortFunc(order, func(a, b *MapNode) int {
			return cmp.Or(cmp.Compare(touched[b], touched[a]), cmp.Compare(spans[b.Node], spans[a.Node]), strings.Compare(a.ID, b.ID))
		})
		for _, mn := range order[maxNodes:] {
			delete(nodes, mn.Node.Identity())
		}
		shown = slices.DeleteFunc(shown, func(r ranked) bool {
			return nodes[r.key.Source.Identity()] == nil || nodes[r.key.Target.Identity()] == nil
		})
	}
	slices.SortFunc(shown, byID)
	m.Edges = slices.Grow(m.Edges, len(shown))
	room := make(map[*MapNode]*struct{ client, server sketch.Extent }, len(nodes)) // for the sum of what ends at a node
	for _, r := range shown {
		x := room[r.target]
		if x == nil {
			x = &struct{ client, server sketch.Extent }{}
			room[r.target] = x
		}
		r.stats.Client.Extend(&x.client)
		r.stats.Server.Extend(&x.server)
	}
	var arena sketch.Arena
	for mn, x := range room {
		mn.Inbound.Client.Reserve(x.client, &arena)
		mn.Inbound.Server.Reserve(x.server, &arena)
	}
	for _, r := range shown {
		e := MapEdge{ID: r.key.ID(), Key: r.key, Stats: *r.stats, Duration: to.Sub(from)}
		e.Health, e.Reasons = Judge(r.stats, before[e.ID])
		m.Edges = append(m.Edges, e)
		reached, health := r.stats, e.Health
		if r.stats.Failures[BreakerOpen] > 0 {
			passed := r.stats.Reached()
			reached = &passed
			health, _ = Judge(reached, before[e.ID])
		}
		r.target.Inbound.Add(reached)
		r.target.Health = max(r.target.Health, health)
	}
	services := map[*MapNode]bool{} // that have processes which are no proxies
	for wi := range windows {
		for i := range windows[wi].Nodes {
			row := &windows[wi].Nodes[i]
			if row.Node.Env != m.Env {
				continue
			}
			mn := nodes[row.Node.Identity()]
			if mn == nil && m.Truncated && len(nodes) >= maxNodes {
				continue
			}
			if mn == nil {
				mn = node(row.Node)
			}
			services[mn] = services[mn] || row.Node.Kind != Gateway
			if mn.Node.Kind = row.Node.Kind; services[mn] {
				mn.Node = mn.Node.Identity()
			}
			mn.Spans += row.Spans
			mn.Instances = addName(mn.Instances, row.Instance)
			mn.Versions = addName(mn.Versions, row.Version)
		}
	}
	m.keepLinks(nodes)
	ids := make([]*MapNode, 0, len(nodes))
	for _, mn := range nodes {
		ids = append(ids, mn)
	}
	slices.SortFunc(ids, func(a, b *MapNode) int { return strings.Compare(a.ID, b.ID) })
	m.Nodes = slices.Grow(m.Nodes, len(ids))
	for _, mn := range ids {
		m.Nodes = append(m.Nodes, *mn)
	}
	return m
}

// keepLinks leaves the links between nodes of the map, at most MaxMapLinks, in their order.
func (m *Map) keepLinks(nodes map[Node]*MapNode) {
	m.Links = slices.DeleteFunc(m.Links, func(l MapLink) bool {
		return nodes[l.Key.Source.Identity()] == nil || nodes[l.Key.Target.Identity()] == nil
	})
	byID := func(a, b MapLink) int {
		return cmp.Or(strings.Compare(a.Key.Source.ID(), b.Key.Source.ID()), strings.Compare(a.Key.Target.ID(), b.Key.Target.ID()))
	}
	if len(m.Links) > MaxMapLinks {
		slices.SortFunc(m.Links, func(a, b MapLink) int { return cmp.Or(cmp.Compare(b.Spans, a.Spans), byID(a, b)) })
		m.Links, m.Truncated = m.Links[:MaxMapLinks], true
	}
	slices.SortFunc(m.Links, byID)
	for i := range m.Links {
		m.Links[i].ID = m.Links[i].Key.ID()
	}
}

// Doubt says whose figures are biased: of services of which spans are kept or left out by what became of their traces, and of
// edges one end of which is such a service.
func (m *Map) Doubt(biased func(Node) bool) {
	nodes := make(map[Node]bool, len(m.Nodes))
	for i := range m.Nodes {
		n := &m.Nodes[i]
		n.Biased = biased(n.Node.Identity())
		nodes[n.Node.Identity()] = n.Biased
	}
	for i := range m.Edges {
		e := &m.Edges[i]
		e.Biased = nodes[e.Key.Source.Identity()] || nodes[e.Key.Target.Identity()]
	}
}

// addName inserts name into a sorted list, once, unless it is empty.
func addName(names []string, name string) []string {
	if name == "" {
		return names
	}
	i, found := slices.BinarySearch(names, name)
	if found {
		return names
	}
	return slices.Insert(names, i, name)
}

// Wilson returns the Wilson score interval of k successes in n trials at z standard deviations.
// Source: E. B. Wilson, JASA 22 (1927). It is [0, 1] when n is 0.
func Wilson(k, n int64, z float64) (lower, upper float64) {
	if n <= 0 {
		return 0, 1
	}
	p, N := float64(k)/float64(n), float64(n)
	d := 1 + z*z/N
	centre := (p + z*z/(2*N)) / d
	half := z / d * math.Sqrt(p*(1-p)/N+z*z/(4*N*N))
	return max(centre-half, 0), min(centre+half, 1)
}
