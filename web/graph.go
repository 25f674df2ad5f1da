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
	Links     []Link    `json:"links" nullable:"false" doc:"Between those nodes whose spans link to each other, outside of messaging, which is no call; the 1,000 of most spans"`
	Truncated bool      `json:"truncated" doc:"There is more than can be shown"`
}

// Neighbourhood restricts a map to what leads to a node and what it leads to.
type Neighbourhood struct {
	Service string `query:"service" doc:"Id of a node: only what leads to it and what it leads to" maxLength:"2048"`
	Depth   int    `query:"depth" doc:"How many calls far, with service" minimum:"0" maximum:"64" default:"1"`
}

type graphInput struct {
	Times
	Environment
	Neighbourhood
}

type graphOutput struct{ Body Graph }

func (s *Server) graph(ctx context.Context, in *graphInput) (*graphOutput, error) {
	sp, err := s.spanOf(in.From, in.To, defaultSpan, s.now())
	if err != nil {
		return nil, err
	}
	m, err := s.mapOf(ctx, sp, in.Env, !in.set)
	if err != nil {
		return nil, err
	}
	return &graphOutput{newGraph(&m, s.places.of(&m, in.From == "" && in.To == ""), in.Neighbourhood)}, nil
}

// newGraph returns the part of m that is asked for, with the places of its nodes.
func newGraph(m *graph.Map, at map[string]layout.Position, part Neighbourhood) Graph {
	nodes, edges := part.within(m)
	g := Graph{
		From: m.From, To: m.To, Env: m.Env, Envs: m.Envs, Truncated: m.Truncated,
		Nodes: make([]Node, len(nodes)), Edges: make([]Edge, len(edges)), Links: []Link{},
	}
	if g.Envs == nil {
		g.Envs = []string{}
	}
	for i, n := range nodes {
		g.Nodes[i] = placedNode(m, n, at)
	}
	for i, e := range edges {
		g.Edges[i] = newEdge(&m.Edges[e])
	}
	for _, l := range linksWithin(m, nodes) {
		g.Links = append(g.Links, newLink(l))
	}
	return g
}

// placedNode returns a node of m with its place on the map.
func placedNode(m *graph.Map, i int, at map[string]layout.Position) Node {
	n := newNode(&m.Nodes[i], m.To.Sub(m.From))
	if p, ok := at[n.ID]; ok {
		n.X, n.Y = &p.X, &p.Y
	}
	return n
}
