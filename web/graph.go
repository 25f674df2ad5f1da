package web

import (
	"context"
	"time"

	"faultline/graph"
	"faultline/web/layout"
)

// Graph is the map of one environment over [From, To).
type Graph struct {
	From      time.Time `json:"from" doc:"Start of the first window of ten seconds"`
	To        time.Time `json:"to"`
	Env       string    `json:"env" doc:"The environment shown"`
	Envs      []string  `json:"envs" nullable:"false" doc:"All environments seen in this span of time"`
	Nodes     []Node    `json:"nodes" nullable:"false"`
	Edges     []Edge    `json:"edges" nullable:"false"`
	Truncated bool      `json:"truncated" doc:"There is more than can be shown"`
}

// neighbourhood restricts a map to what leads to a node and what it leads to.
type neighbourhood struct {
	Service string `query:"service" doc:"Id of a node: only what leads to it and what it leads to" maxLength:"2048"`
	Depth   int    `query:"depth" doc:"How many calls far, with service" minimum:"0" maximum:"64" default:"1"`
}

type graphInput struct {
	times
	environment
	neighbourhood
}

type graphOutput struct{ Body Graph }

func (s *Server) graph(ctx context.Context, in *graphInput) (*graphOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.QueryTime)
	defer cancel()
	now := s.now()
	sp, err := s.spanOf(in.From, in.To, defaultSpan, now)
	if err != nil {
		return nil, s.failure(ctx, err)
	}
	m, err := s.mapOf(ctx, sp, in.Env, !in.set)
	if err != nil {
		return nil, s.failure(ctx, err)
	}
	at := s.places.of(&m, in.From == "" && in.To == "")
	return &graphOutput{newGraph(&m, at, in.neighbourhood)}, nil
}

// newGraph returns the part of m that is asked for, with the places of its nodes.
func newGraph(m *graph.Map, at map[string]layout.Position, part neighbourhood) Graph {
	g := Graph{From: m.From, To: m.To, Env: m.Env, Envs: m.Envs, Truncated: m.Truncated}
	if g.Envs == nil {
		g.Envs = []string{}
	}
	if part.Service == "" {
		g.Nodes, g.Edges = make([]Node, 0, len(m.Nodes)), make([]Edge, 0, len(m.Edges))
		for i := range m.Nodes {
			g.Nodes = append(g.Nodes, placedNode(m, i, at))
		}
		for i := range m.Edges {
			g.Edges = append(g.Edges, newEdge(&m.Edges[i]))
		}
		return g
	}
	nodes, edges := around(m, part.Service, part.Depth)
	g.Nodes, g.Edges = make([]Node, 0, len(nodes)), make([]Edge, 0, len(edges))
	for i := range m.Nodes {
		if nodes[m.Nodes[i].ID] {
			g.Nodes = append(g.Nodes, placedNode(m, i, at))
		}
	}
	for _, i := range edges {
		g.Edges = append(g.Edges, newEdge(&m.Edges[i]))
	}
	return g
}

func placedNode(m *graph.Map, i int, at map[string]layout.Position) Node {
	n := newNode(&m.Nodes[i], m.To.Sub(m.From))
	if p, ok := at[n.ID]; ok {
		n.X, n.Y = &p.X, &p.Y
	}
	return n
}
