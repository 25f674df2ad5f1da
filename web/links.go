package web

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"faultline/graph"
	"faultline/storage"
)

// Link is a relation between two services of which one's spans link to the other's, outside of messaging: it joins its
// work, does it in a batch, or goes on with it in a trace of its own. It is no edge of the map.
type Link struct {
	Source string `json:"source" doc:"Node id of whose spans are linked to"`
	Target string `json:"target" doc:"Node id of whose spans link"`
	Spans  int64  `json:"spans" doc:"Spans that link, each for one of its links"`
	N      int64  `json:"n" doc:"The same, unweighted"`
}

// linksAround returns whom the spans of a service link to, and whose spans link to its own, most spans first.
func (s *Server) linksAround(ctx context.Context, sp span, node graph.Node) ([]Link, error) {
	links := []Link{}
	if node.Kind != graph.Service && node.Kind != graph.Gateway {
		return links, nil
	}
	to, from := graph.LinksTo(node), graph.LinksFrom(node)
	windows, err := s.reader.Windows(ctx, storage.Query{From: sp.minute(), To: sp.end(), Want: storage.WantDetails, Edges: []string{to.ID(), from.ID()}})
	if err != nil {
		return nil, err
	}
	sums := map[[2]string]*graph.Detail{}
	for i := range windows {
		for j := range windows[i].Details {
			row := &windows[i].Details[j]
			if row.Key.Dimension != graph.Producer {
				continue
			}
			ends := [2]string{row.Key.Name, node.ID()}
			if row.Edge == from {
				ends = [2]string{node.ID(), row.Key.Name}
			}
			if sums[ends] == nil {
				sums[ends] = &graph.Detail{}
			}
			sums[ends].Add(&row.Detail)
		}
	}
	for ends, d := range sums {
		if d.Calls > 0 {
			links = append(links, Link{Source: ends[0], Target: ends[1], Spans: d.Calls, N: d.Raw})
		}
	}
	slices.SortFunc(links, func(a, b Link) int {
		return cmp.Or(cmp.Compare(b.Spans, a.Spans), strings.Compare(a.Source, b.Source), strings.Compare(a.Target, b.Target))
	})
	return links, nil
}
