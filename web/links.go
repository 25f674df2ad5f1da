package web

import (
	"cmp"
	"slices"
	"strings"

	"faultline/graph"
)

// Link is a relation between two services of which one's spans link to the other's, outside of messaging: it joins its
// work, does it in a batch, or goes on with it in a trace of its own. It is no call, and no edge of the map.
type Link struct {
	ID     string `json:"id" doc:"Stable"`
	Source string `json:"source" doc:"Node id of whose spans are linked to"`
	Target string `json:"target" doc:"Node id of whose spans link"`
	Spans  int64  `json:"spans" doc:"Spans that link, each for one of its links"`
	N      int64  `json:"n" doc:"The same, unweighted"`
}

func newLink(l *graph.MapLink) Link {
	return Link{ID: l.ID, Source: l.Key.Source.ID(), Target: l.Key.Target.ID(), Spans: l.Spans, N: max(l.Raw, 0)}
}

// linksWithin returns the links between some of the nodes of m.
func linksWithin(m *graph.Map, nodes []int) []*graph.MapLink {
	var links []*graph.MapLink
	if len(m.Links) == 0 {
		return nil
	}
	shown := make(map[string]bool, len(nodes))
	for _, i := range nodes {
		shown[m.Nodes[i].ID] = true
	}
	for i := range m.Links {
		if l := &m.Links[i]; shown[l.Key.Source.ID()] && shown[l.Key.Target.ID()] {
			links = append(links, l)
		}
	}
	return links
}

// linksAround returns whom the spans of a service link to, and whose spans link to its own, most spans first.
func linksAround(m *graph.Map, id string) []Link {
	links := []Link{}
	for i := range m.Links {
		if l := newLink(&m.Links[i]); l.Source == id || l.Target == id {
			links = append(links, l)
		}
	}
	slices.SortFunc(links, func(a, b Link) int {
		return cmp.Or(cmp.Compare(b.Spans, a.Spans), strings.Compare(a.Source, b.Source), strings.Compare(a.Target, b.Target))
	})
	return links
}
