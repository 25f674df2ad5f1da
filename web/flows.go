package web

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"faultline/graph"
	"faultline/storage"
)

// Flow is who feeds whom through a queue: a relation that follows from the messages' producers, as far as the spans
// name them, and no edge of the map.
type Flow struct {
	Producer  string   `json:"producer" doc:"Node id of who sent the messages"`
	Queue     string   `json:"queue" doc:"Node id"`
	Consumer  string   `json:"consumer" doc:"Node id of who took them"`
	Edge      string   `json:"edge" doc:"Id of the edge from the queue to the consumer"`
	Messages  int64    `json:"messages" doc:"That were taken and whose producer is known"`
	ErrorRate *float64 `json:"error_rate" doc:"Share of them whose processing failed"`
	N         int64    `json:"n" doc:"Messages, unweighted"`
}

// flowsAround returns who feeds whom through a queue, or whom a service feeds and who feeds it, most messages first.
func (s *Server) flowsAround(ctx context.Context, sp span, id string, m *graph.Map) ([]Flow, error) {
	flows := []Flow{}
	sends := map[string]bool{} // queues that the service sends to
	for i := range m.Edges {
		if k := m.Edges[i].Key; k.Target.Kind == graph.Queue && k.Source.ID() == id {
			sends[k.Target.ID()] = true
		}
	}
	edges := map[graph.EdgeKey]bool{}
	var ids []string
	for i := range m.Edges {
		e := &m.Edges[i]
		queue := e.Key.Source.ID()
		if e.Key.Source.Kind == graph.Queue && (queue == id || sends[queue] || e.Key.Target.ID() == id) {
			edges[e.Key] = true
			ids = append(ids, e.ID)
		}
	}
	if len(ids) == 0 {
		return flows, nil
	}
	windows, err := s.reader.Windows(ctx, storage.Query{From: sp.minute(), To: sp.end(), Want: storage.WantDetails, Edges: ids})
	if err != nil {
		return nil, err
	}
	type key struct {
		edge     graph.EdgeKey
		producer string
	}
	sums := map[key]*graph.Detail{}
	for i := range windows {
		for j := range windows[i].Details {
			row := &windows[i].Details[j]
			if row.Key.Dimension != graph.Producer || !edges[row.Edge] ||
				id != row.Key.Name && id != row.Edge.Source.ID() && id != row.Edge.Target.ID() {
				continue
			}
			k := key{row.Edge, row.Key.Name}
			if sums[k] == nil {
				sums[k] = &graph.Detail{}
			}
			sums[k].Add(&row.Detail)
		}
	}
	for k, d := range sums {
		if d.Calls <= 0 || d.Raw <= 0 {
			continue
		}
		flows = append(flows, Flow{
			Producer: k.producer, Queue: k.edge.Source.ID(), Consumer: k.edge.Target.ID(), Edge: k.edge.ID(), Messages: d.Calls,
			ErrorRate: ratio(d.Errors, d.Calls), N: d.Raw,
		})
	}
	slices.SortFunc(flows, func(a, b Flow) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), strings.Compare(a.Producer, b.Producer), strings.Compare(a.Queue, b.Queue),
			strings.Compare(a.Consumer, b.Consumer))
	})
	return flows, nil
}
