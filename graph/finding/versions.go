package finding

import (
	"cmp"
	"slices"
	"strings"

	"faultline/graph"
)

// VersionPair is what one version of the caller has with one of the callee, as the caller sees it. Callee is "" for calls
// that are seen by the caller alone; those are not tested.
type VersionPair struct {
	Caller, Callee string
	Part
	TurnedDown int64 // calls that the callee turned down as wrong
	Disagrees  bool  // it does so where it does not those of others
}

// VersionPairs returns the pairs of versions, those of which both are known tested against each other, most calls first.
func VersionPairs(s *Sum) []VersionPair {
	var both, others []Part
	for _, p := range partsOf(s, graph.VersionPair, graph.ClientSide) {
		if caller, callee := graph.CutPair(p.Name); caller != "" && callee != "" {
			both = append(both, p)
		} else {
			others = append(others, p)
		}
	}
	judgeParts(both, leastGroups)
	judgeParts(others, len(others)+1) // to say that they are not tested
	pairs := make([]VersionPair, 0, len(both)+len(others))
	turnedDown := map[string]int64{}
	s.of(graph.PairTurnedDown, graph.ClientSide, func(name string, d *graph.Detail) { turnedDown[name] = max(d.Calls, 0) })
	odd := disagreements(s)
	for _, p := range append(both, others...) {
		caller, callee := graph.CutPair(p.Name)
		disagrees := turnedDown[p.Name] > 0 && slices.ContainsFunc(odd, func(d disagreement) bool { return d.of(caller, callee) })
		pairs = append(pairs, VersionPair{caller, callee, p, turnedDown[p.Name], disagrees})
	}
	slices.SortFunc(pairs, func(a, b VersionPair) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), strings.Compare(a.Caller, b.Caller), strings.Compare(a.Callee, b.Callee))
	})
	return pairs
}

// CallerVersions returns the caller's versions, tested against each other, whoever answered them.
func CallerVersions(s *Sum) []Part {
	sums := map[string]*graph.Detail{}
	s.of(graph.VersionPair, graph.ClientSide, func(name string, d *graph.Detail) {
		caller, _ := graph.CutPair(name)
		if caller == "" {
			return
		}
		if sums[caller] == nil {
			sums[caller] = &graph.Detail{}
		}
		sums[caller].Add(d)
	})
	return tested(partsFrom(sums), leastGroups)
}

// badVersions are the versions that fail on an edge among good ones.
type badVersions struct {
	found          []graph.Finding
	callee, caller map[string]bool // versions whose instances they account for
}

// badVersions finds versions that fail among good ones: of the callee, when it fails whoever calls it; of the caller,
// when it fails whomever it calls; else of both together, when only those two do not get on.
func (e *Edge) badVersions(instances []Part, processes []graph.NodeRow) badVersions {
	bad := badVersions{callee: map[string]bool{}, caller: map[string]bool{}}
	var pairs []Part // of which both versions are known
	all := VersionPairs(&e.Sum)
	for _, p := range all {
		if p.Caller != "" && p.Callee != "" {
			pairs = append(pairs, p.Part)
		}
	}
	wholly := func(version *Part, of func(VersionPair) bool) bool {
		var members []Part
		for _, p := range all {
			if p.Caller != "" && p.Callee != "" && p.N >= partCalls && of(p) {
				members = append(members, p.Part)
			}
		}
		return whole(version, members, pairs, true)
	}
	at := placesOf(processes, func(p *graph.NodeRow) string { return p.Version })
	for _, p := range Versions(&e.Sum) {
		if !p.Bad || !whole(&p, membersOf(instances, at, p.Name), instances, true) || !wholly(&p, func(v VersionPair) bool { return v.Callee == p.Name }) {
			continue
		}
		if f := e.bad("bad_version", "the callee's version "+p.Name, p.Name, p, partNamed(Versions(&e.Recent), p.Name)); f != nil {
			bad.found, bad.callee[p.Name] = append(bad.found, f...), true
		}
	}
	explained := func(v VersionPair) bool { return bad.callee[v.Callee] || bad.caller[v.Caller] }
	for _, p := range CallerVersions(&e.Sum) {
		if !p.Bad || !wholly(&p, func(v VersionPair) bool { return v.Caller == p.Name }) ||
			!slices.ContainsFunc(all, func(v VersionPair) bool { return v.Caller == p.Name && v.K > 0 && !bad.callee[v.Callee] }) {
			continue
		}
		if f := e.bad("bad_version", "the caller's version "+p.Name, "caller "+p.Name, p, partNamed(CallerVersions(&e.Recent), p.Name)); f != nil {
			bad.found, bad.caller[p.Name] = append(bad.found, f...), true
		}
	}
	for _, p := range all {
		if !p.Bad || explained(p) {
			continue
		}
		recent := partNamed(partsOf(&e.Recent, graph.VersionPair, graph.ClientSide), p.Name)
		what := "the caller's version " + p.Caller + " with the callee's " + p.Callee
		if f := e.bad("bad_version", what, p.Caller+" → "+p.Callee, p.Part, recent); f != nil {
			bad.found = append(bad.found, f...)
			bad.callee[p.Callee], bad.caller[p.Caller] = true, true
		}
	}
	return bad
}
