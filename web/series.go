package web

import (
	"cmp"
	"context"
	"slices"
	"time"

	"faultline/graph"
	"faultline/storage"
)

// NodesSeries is what the nodes of one environment were asked for over time, in few steps: for the small curves of a map.
type NodesSeries struct {
	From  time.Time    `json:"from"`
	To    time.Time    `json:"to" doc:"Only steps that are over and whose calls have come"`
	Env   string       `json:"env"`
	StepS float64      `json:"step_s" doc:"Length of a step in seconds: the finest of 10s, 30s, 1m, 5m, 15m, 1h … that makes at most 30, or one more"`
	Nodes []NodeSeries `json:"nodes" nullable:"false" doc:"The 500 that are called most, by id"`
}

// NodeSeries is one node's, a figure for each step.
type NodeSeries struct {
	ID     string    `json:"id"`
	Rate   []float64 `json:"rate" nullable:"false" doc:"Calls per second, as its callers see them"`
	Failed []float64 `json:"failed" nullable:"false" doc:"Of those, the ones that failed"`
}

const (
	curvePoints = 30
	curveNodes  = 500
	// Spans of the last seconds are still on their way: a step that has just ended would look like a drop.
	underway = 15 * time.Second
)

type nodesSeriesInput struct {
	Times
	Environment
}

type nodesSeriesOutput struct{ Body NodesSeries }

func (s *Server) nodesSeries(ctx context.Context, in *nodesSeriesInput) (*nodesSeriesOutput, error) {
	now := s.now()
	sp, err := s.spanOf(in.From, in.To, seriesSpan, now)
	if err != nil {
		return nil, err
	}
	step := steps[len(steps)-1]
	// From may have been moved, to the start of its window.
	if i := slices.IndexFunc(steps, func(step time.Duration) bool { return sp.length()-graph.WindowLength <= curvePoints*step }); i >= 0 {
		step = steps[i]
	}
	to := sp.To
	if known := now.Add(-underway); to.After(known) {
		to = known
	}
	from, to := floor(sp.From, step), floor(to, step)
	answer := NodesSeries{From: from, To: to, Env: in.Env, StepS: step.Seconds(), Nodes: []NodeSeries{}}
	if !from.Before(to) {
		answer.To = from
		return &nodesSeriesOutput{answer}, nil
	}
	windows, err := s.reader.Windows(ctx, storage.Query{From: from, To: to, Step: step, Env: in.Env, HasEnv: in.set, Want: storage.WantEdges})
	if err != nil {
		return nil, err
	}
	if !in.set {
		answer.Env, _ = busiest(windows, "")
	}
	answer.Nodes = curves(windows, answer.Env, from, step, int(to.Sub(from)/step))
	return &nodesSeriesOutput{answer}, nil
}

// curves adds up the calls to each node of an environment in n steps. A window that is longer than a step counts in each
// that it covers, with its mean.
func curves(windows []graph.Window, env string, from time.Time, step time.Duration, n int) []NodeSeries {
	type curve struct {
		NodeSeries
		calls int64
	}
	byNode := map[graph.Node]*curve{}
	for i := range windows {
		w := &windows[i]
		first, last := int(w.Start.Sub(from)/step), int((w.Start.Add(max(w.Length, step)).Sub(from)-1)/step)
		length := max(w.Length, step).Seconds()
		for j := range w.Edges {
			row := &w.Edges[j]
			if row.Edge.Env() != env || row.Stats.Calls <= 0 {
				continue
			}
			node := row.Edge.Target.Identity()
			c := byNode[node]
			if c == nil {
				c = &curve{NodeSeries: NodeSeries{ID: row.Edge.Target.ID(), Rate: make([]float64, n), Failed: make([]float64, n)}}
				byNode[node] = c
			}
			c.calls += row.Stats.Calls
			for k := max(first, 0); k <= min(last, n-1); k++ {
				c.Rate[k] += float64(row.Stats.Calls) / length
				c.Failed[k] += float64(min(max(row.Stats.Errors, 0), row.Stats.Calls)) / length
			}
		}
	}
	all := make([]*curve, 0, len(byNode))
	for _, c := range byNode {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *curve) int { return cmp.Or(cmp.Compare(b.calls, a.calls), cmp.Compare(a.ID, b.ID)) })
	out := make([]NodeSeries, min(len(all), curveNodes))
	for i := range out {
		c := all[i]
		for _, line := range [][]float64{c.Rate, c.Failed} {
			for k, v := range line {
				if v != 0 {
					line[k] = significant(v)
				}
			}
		}
		out[i] = c.NodeSeries
	}
	slices.SortFunc(out, func(a, b NodeSeries) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
