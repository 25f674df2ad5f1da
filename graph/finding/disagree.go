package finding

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"faultline/graph"
)

// disagreement is a pair of versions that do not get on: the callee turns calls down as wrong where it does not those of
// others. A version "" is every one of its side.
type disagreement struct {
	caller, callee string
	Part           // its failures are the calls that are turned down
	elsewhere      float64
}

func (d *disagreement) of(caller, callee string) bool {
	return (d.caller == "" || d.caller == caller) && (d.callee == "" || d.callee == callee)
}

// disagreements returns which versions do not get on, most calls turned down first: one of the callee with every version
// that calls it, one of the caller with every version that answers it, else two alone. Versions that are not known are
// left out.
func disagreements(s *Sum) []disagreement {
	turnedDown := map[string]*graph.Detail{}
	s.of(graph.PairTurnedDown, graph.ClientSide, func(name string, d *graph.Detail) { turnedDown[name] = d })
	if len(turnedDown) == 0 {
		return nil
	}
	var pairs []Part
	n, k := int64(0), int64(0)
	s.of(graph.VersionPair, graph.ClientSide, func(name string, d *graph.Detail) {
		if caller, callee := graph.CutPair(name); caller == "" || callee == "" || caller == graph.Other || callee == graph.Other {
			return
		}
		p := Part{Name: name, N: d.Raw, Calls: d.Calls}
		if down := turnedDown[name]; down != nil {
			p.K, p.Fails = min(max(down.Raw, 0), p.N), min(max(down.Calls, 0), p.Calls)
		}
		pairs = append(pairs, p)
		n, k = n+p.N, k+p.K
	})
	slices.SortFunc(pairs, func(a, b Part) int { return strings.Compare(a.Name, b.Name) })
	var found []disagreement
	add := func(caller, callee string, p Part) {
		found = append(found, disagreement{caller, callee, p, share(k-p.K, n-p.N)})
	}
	explained := func(caller, callee string) bool {
		return slices.ContainsFunc(found, func(d disagreement) bool { return d.of(caller, callee) })
	}
	// A version of one side with each of the other's, else each of those with each.
	for _, ofCallee := range [...]bool{true, false} {
		version := func(p *Part) string {
			caller, callee := graph.CutPair(p.Name)
			if ofCallee {
				return callee
			}
			return caller
		}
		sums := map[string]*Part{}
		for i := range pairs {
			p := &pairs[i]
			v := sums[version(p)]
			if v == nil {
				v = &Part{Name: version(p)}
				sums[v.Name] = v
			}
			v.N, v.K, v.Calls, v.Fails = v.N+p.N, v.K+p.K, v.Calls+p.Calls, v.Fails+p.Fails
		}
		var versions []Part
		for _, name := range slices.Sorted(maps.Keys(sums)) {
			versions = append(versions, *sums[name])
		}
		judgeParts(versions, leastGroups)
		for _, v := range versions {
			members := slices.DeleteFunc(slices.Clone(pairs), func(p Part) bool { return p.N < partCalls || version(&p) != v.Name })
			open := slices.ContainsFunc(members, func(p Part) bool { return !explained(graph.CutPair(p.Name)) })
			switch {
			case !v.Bad || !open || len(members) < 2 || !whole(&v, members, pairs, true):
			case ofCallee:
				add("", v.Name, v)
			default:
				add(v.Name, "", v)
			}
		}
	}
	judgeParts(pairs, leastGroups)
	for _, p := range pairs {
		if caller, callee := graph.CutPair(p.Name); p.Bad && !explained(caller, callee) {
			add(caller, callee, p)
		}
	}
	slices.SortStableFunc(found, func(a, b disagreement) int { return cmp.Compare(b.K, a.K) })
	return found
}

// disagreeing says which versions do not get on, as the continuation of a sentence; "" when that is not told apart.
func (e *Edge) disagreeing() string {
	found := disagreements(&e.Sum)
	if len(found) == 0 {
		return ""
	}
	d := found[0]
	say := ": " + d.say()
	if more := len(found) - 1; more > 0 {
		say += fmt.Sprintf(", and %d more", more)
	}
	return say + fmt.Sprintf(" (%s of %s, elsewhere %s, p %s)", percent(share(d.K, d.N)), count(d.N), percent(d.elsewhere), probability(d.P))
}

func (d *disagreement) say() string {
	switch {
	case d.caller == "":
		return "every version of the caller with the callee's " + d.callee
	case d.callee == "":
		return "the caller's version " + d.caller + " with every one of the callee"
	}
	return "the caller's version " + d.caller + " with the callee's " + d.callee
}
