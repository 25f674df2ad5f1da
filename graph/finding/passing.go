package finding

import "faultline/graph"

// passedOn is the share of an edge's failures, at least, that the callee only passes on, for the edge not to be where
// they begin.
const passedOn = 0.8

// passesOn reports whether the callee fails because what it calls does, in nearly all of the traces that were analysed.
func (e *Edge) passesOn() bool {
	d := e.measure(graph.PassedOn)
	return d.RawErrors >= fewest && share(d.Errors, d.Calls) >= passedOn
}

// passOn says of callees that fail because of what they call that they pass it on, and where to look instead, and lowers
// the level by one: what is loudest is where it begins.
func (g *Graph) passOn(found []graph.Finding) {
	edges := g.byKey()
	for i := range found {
		f := &found[i]
		if f.Rule != graph.ServerError.String() || !edges[f.Edge].passesOn() {
			continue
		}
		f.Level = max(f.Level, graph.Warn) - 1
		f.Sentence += "; it passes on what fails"
		if begins := g.failsBelow(edges[f.Edge]); begins != nil {
			f.Sentence += " at " + begins.Key.Source.ID() + " → " + begins.Key.Target.ID()
		} else {
			f.Sentence += " below it"
		}
	}
}

// failsBelow returns the edge on which most of the failures begin that the callee of e passes on, nil when it is not seen.
func (g *Graph) failsBelow(e *Edge) (begins *Edge) {
	looked := map[*Edge]bool{}
	for e != nil && !looked[e] {
		looked[e] = true
		var worst *Edge
		for _, below := range g.out[e.Key.Target] {
			if !below.async() && below.Stats.LogicalErrors > 0 && (worst == nil || below.Stats.LogicalErrors > worst.Stats.LogicalErrors) {
				worst = below
			}
		}
		if worst == nil || !worst.passesOn() {
			return worst
		}
		begins, e = worst, worst
	}
	return begins
}
