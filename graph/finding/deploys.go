package finding

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"faultline/graph"
)

// What the rules about deploys ask for.
const (
	deployShare   = 0.05             // of a service's traffic
	deployShown   = 10 * time.Minute // how long a deploy is told
	refusalsRise  = 0.02             // share of client errors that is more than usual
	refusalsTimes = 3
)

// deploys finds versions that are seen for the first time, from a part of their service's traffic on, and says whether
// they are worse than those beside them. The versions that a service has when it is first seen are no deploy.
func deploys(g *Graph) []graph.Finding {
	var found []graph.Finding
	for _, node := range g.versioned() {
		versions := g.versionsOf(node)
		known, first := g.memory.versions(node)
		all := int64(0)
		for _, v := range versions {
			all += v.calls
		}
		for _, v := range versions {
			seen, isKnown := known[v.name]
			part := share(v.calls, all)
			if !isKnown {
				switch {
				case first:
				case part < deployShare || v.n < fewest:
					continue
				default:
					seen = g.To
				}
				remember(known, v.name, seen)
			}
			if seen.IsZero() || g.To.Sub(seen) > deployShown {
				continue
			}
			level, but := graph.Note, ""
			if w := g.worseThanOthers(node, v.name, seen); w.z > 0 {
				level, but = graph.Warn, ": "+w.say+", z="+figure(w.z)
			}
			found = append(found, graph.Finding{
				Rule: "deploy", Node: node, Subject: v.name, Level: level, Value: part, N: v.n,
				Sentence: fmt.Sprintf("version %s appeared and has %s of the traffic%s, n=%s", v.name, percent(part), but, count(v.n)),
			})
		}
	}
	return found
}

// remember adds a version to those that are known; of too many the oldest are forgotten.
func remember(known map[string]time.Time, version string, seen time.Time) {
	known[version] = seen
	for len(known) > maxVersions {
		oldest := version
		for v, at := range known {
			if at.Before(known[oldest]) || at.Equal(known[oldest]) && v < oldest {
				oldest = v
			}
		}
		delete(known, oldest)
	}
}

// traffic is what a version has of its service's.
type traffic struct {
	name     string
	calls, n int64
}

// versioned returns the services that say which version they are, in order.
func (g *Graph) versioned() []graph.Node {
	var nodes []graph.Node
	for n := range g.Processes {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b graph.Node) int {
		return cmp.Or(strings.Compare(a.ID(), b.ID()), cmp.Compare(a.Kind, b.Kind))
	})
	return nodes
}

// versionsOf returns the versions of a service by name: by the calls that they answer, and where nobody calls it, by the
// spans that they send.
func (g *Graph) versionsOf(node graph.Node) []traffic {
	sums := map[string]*traffic{}
	add := func(name string, calls, n int64) {
		if name == "" || name == graph.Other {
			return
		}
		if sums[name] == nil {
			sums[name] = &traffic{name: name}
		}
		sums[name].calls += calls
		sums[name].n += n
	}
	for _, e := range g.in[node] {
		e.of(graph.Version, graph.ServerSide, func(name string, d *graph.Detail) { add(name, d.Calls, d.Raw) })
	}
	if len(sums) == 0 {
		for i := range g.Processes[node] {
			p := &g.Processes[node][i]
			add(p.Version, p.Spans, p.Spans)
		}
	}
	list := make([]traffic, 0, len(sums))
	for _, t := range sums {
		list = append(list, *t)
	}
	slices.SortFunc(list, func(a, b traffic) int { return strings.Compare(a.name, b.name) })
	return list
}

// deployed returns the version of a service that was seen for the first time lately, "" when there is none.
func (g *Graph) deployed(node graph.Node) string {
	latest, at := "", g.To.Add(-deployShown)
	known, _ := g.memory.versions(node)
	for v, seen := range known {
		if seen.After(at) || seen.Equal(at) && v > latest {
			latest, at = v, seen
		}
	}
	return latest
}

// brokenContracts finds calls that the callee began to turn down as wrong when either side got a new version.
func brokenContracts(g *Graph) []graph.Finding {
	var found []graph.Finding
	for _, e := range g.Edges {
		k, recent := rawOf(e.Stats.ClientErrors, e.Stats.Calls, e.Stats.Raw), rawOf(e.Recent.Stats.ClientErrors, e.Recent.Stats.Calls, e.Recent.Stats.Raw)
		usual := e.Learned.Refusals
		lower, _ := graph.Wilson(k, e.Stats.Raw, z95)
		least := max(refusalsTimes*usual, usual+refusalsRise)
		if k < fewest || lower < least || e.Learned.Age == 0 || !lasts(recent, e.Recent.Stats.Raw, least) || e.over(turnedDown) {
			continue
		}
		side, version := e.Key.Target, g.deployed(e.Key.Target)
		if version == "" {
			side, version = e.Key.Source, g.deployed(e.Key.Source)
		}
		if version == "" {
			continue
		}
		part := share(e.Stats.ClientErrors, e.Stats.Calls)
		f := e.found("contract", graph.Severe, part, e.Stats.Raw, "the callee turns down %s of the calls as wrong, usually %s, since %s is there in version %s%s, n=%s of %s",
			percent(part), percent(usual), side.ID(), version, e.disagreeing(), count(k), count(e.Stats.Raw))
		f[0].Subject = version
		found = append(found, f...)
	}
	return found
}
