package finding

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"faultline/graph"
	"faultline/internal/sketch"
)

// What a part must be like to be called bad among others.
const (
	partCalls      = 20   // calls of each part that is compared
	partP          = 0.01 // of the test, over the number of parts
	partRatio      = 3    // error rate over that of the others
	partDifference = 0.02 // and at least this much more
)

// Part is one instance, zone, host or version beside others.
type Part struct {
	Name  string
	N, K  int64 // calls and failed ones, unweighted
	Calls int64
	Fails int64
	P50   float64 // ns
	P95   float64
	// P is the probability (Fisher's exact test, one-sided) that so many of the failures fall on this part by chance;
	// Explains the share of all failures that do. Both are NaN for a part that was not tested.
	P, Explains float64
	Bad         bool    // it fails among good ones
	Slow        float64 // how many times as slow as the others it is, 0 where that is no matter

	latency *sketch.Sketch
}

// Outlier reports whether a part fails, or is slow, where the others are not.
func (p *Part) Outlier() bool { return p.Bad || p.Slow > 0 }

// judgeParts tests each part against all others together. At least so many parts must have enough calls for that.
func judgeParts(parts []Part, least int) {
	var n, k int64
	tested := 0
	for i := range parts {
		p := &parts[i]
		p.P, p.Explains, p.Bad = math.NaN(), math.NaN(), false
		n += p.N
		k += p.K
		if p.N >= partCalls {
			tested++
		}
	}
	if tested < least {
		return
	}
	for i := range parts {
		p := &parts[i]
		rest := n - p.N
		if p.N < partCalls || rest < partCalls || p.Name == graph.Other {
			continue // "(other)" is no part, it is among the others
		}
		p.P = fisher(p.K, p.N, k-p.K, rest)
		p.Explains = share(p.K, k)
		own, others := share(p.K, p.N), share(k-p.K, rest)
		p.Bad = p.K >= fewest && p.P < partP/float64(tested) && own >= partRatio*others && own-others >= partDifference
	}
}

// fisher returns the probability that at least a of the a+c failures fall on the first n of n+m calls, when all are
// equally likely to fail: Fisher's exact test, one-sided. It adds up the shorter tail, as far as it matters.
// Source: R. A. Fisher, Statistical Methods for Research Workers (1934).
func fisher(a, n, c, m int64) float64 {
	failures := a + c
	lowest, highest := max(failures-m, 0), min(n, failures)
	chance := func(i int64) float64 { return math.Exp(choose(n, i) + choose(m, failures-i) - choose(n+m, failures)) }
	up := func(i int64) float64 { // of i+1 failures, over that of i
		return float64(n-i) * float64(failures-i) / (float64(i+1) * float64(m-failures+i+1))
	}
	tail := func(i, step int64) (p float64) {
		if i < lowest || i > highest {
			return 0
		}
		for term := chance(i); term > p*1e-17; i += step {
			p += term
			switch {
			case step > 0 && i < highest:
				term *= up(i)
			case step < 0 && i > lowest:
				term /= up(i - 1)
			default:
				return p
			}
		}
		return p
	}
	if float64(a) > float64(failures)*float64(n)/float64(n+m) {
		return min(tail(a, 1), 1)
	}
	return max(1-tail(a-1, -1), 0)
}

// choose returns the logarithm of the binomial coefficient.
func choose(n, k int64) float64 {
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return a - b - c
}

// The least number of parts for a test: one bad among two instances says little about which of them is odd, whereas
// versions and zones are few and known apart.
const (
	leastInstances = 3
	leastGroups    = 2
)

// partsOf returns the parts of one dimension and side, by name.
func partsOf(s *Sum, dimension graph.Dimension, side graph.Side) []Part {
	var parts []Part
	s.of(dimension, side, func(name string, d *graph.Detail) {
		parts = append(parts, partOf(name, d))
	})
	slices.SortFunc(parts, func(a, b Part) int { return strings.Compare(a.Name, b.Name) })
	return parts
}

// Instances returns the callee's instances, tested against each other.
func Instances(s *Sum) []Part {
	return tested(partsOf(s, graph.Instance, graph.ServerSide), leastInstances)
}

// Callers returns the caller's instances, as they saw their calls, tested against each other.
func Callers(s *Sum) []Part {
	return tested(partsOf(s, graph.Instance, graph.ClientSide), leastInstances)
}

// Versions returns the callee's versions, tested against each other.
func Versions(s *Sum) []Part { return tested(partsOf(s, graph.Version, graph.ServerSide), leastGroups) }

// Zones returns the zones in which the callee's instances run, tested against each other.
func Zones(s *Sum, processes []graph.NodeRow) []Part {
	return tested(gathered(s, processes, func(p *graph.NodeRow) string { return p.Zone }), leastGroups)
}

// Hosts returns the hosts on which the callee's instances run, tested against each other.
func Hosts(s *Sum, processes []graph.NodeRow) []Part {
	return tested(gathered(s, processes, func(p *graph.NodeRow) string { return p.Host }), leastInstances)
}

func tested(parts []Part, least int) []Part {
	judgeParts(parts, least)
	markSlow(parts, least)
	slices.SortFunc(parts, func(a, b Part) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), strings.Compare(a.Name, b.Name))
	})
	return parts
}

// gathered adds the callee's instances up by where they run. Those of which that is not known are left out.
func gathered(s *Sum, processes []graph.NodeRow, where func(*graph.NodeRow) string) []Part {
	of := map[string]string{}
	for i := range processes {
		if at := where(&processes[i]); at != "" {
			of[processes[i].Instance] = at
		}
	}
	sums := map[string]*graph.Detail{}
	s.of(graph.Instance, graph.ServerSide, func(name string, d *graph.Detail) {
		at := of[name]
		if at == "" {
			return
		}
		if sums[at] == nil {
			sums[at] = &graph.Detail{}
		}
		sums[at].Add(d)
	})
	return partsFrom(sums)
}

func partsFrom(sums map[string]*graph.Detail) []Part {
	parts := make([]Part, 0, len(sums))
	for name, d := range sums {
		parts = append(parts, partOf(name, d))
	}
	return parts
}

func partOf(name string, d *graph.Detail) Part {
	return Part{
		Name: name, N: d.Raw, K: max(d.RawErrors, 0), Calls: d.Calls, Fails: max(d.Errors, 0), P50: d.Latency.Quantile(.5),
		P95: d.Latency.Quantile(.95), latency: &d.Latency,
	}
}

// What makes a part slow among others.
const (
	slowOctaves = 0.585 // log2 of 1.5: how much higher its median is
	slowSpreads = 4     // MADs of the others
	slowOthers  = 0.25  // share of the others' calls that may be as slow: more are no exception
)

// markSlow marks the parts that are slower than the others: by their median, and because most of their calls are slow
// where few of the others' are. The median alone would jump where calls are quick or slow by kind. At least so many parts
// must have enough calls for that.
func markSlow(parts []Part, least int) {
	quickest := math.Inf(1)
	for i := range parts {
		if parts[i].N >= partCalls && parts[i].P50 > 0 {
			quickest = min(quickest, parts[i].P50)
		}
	}
	for i := range parts {
		p := &parts[i]
		if p.N < partCalls || !(p.P50-quickest >= slowerBy) || p.Name == graph.Other {
			continue
		}
		var others []float64
		for j := range parts {
			if j != i && parts[j].N >= partCalls && parts[j].P50 > 0 {
				others = append(others, math.Log2(parts[j].P50))
			}
		}
		if len(others)+1 < least {
			continue
		}
		usual := median(others)
		for j, o := range others {
			others[j] = math.Abs(o - usual)
		}
		by := math.Log2(p.P50) - usual
		if by > max(slowOctaves, slowSpreads*median(others)) && p.P50-math.Exp2(usual) >= slowerBy &&
			slowAlone(parts, i, int64(math.Exp2(usual+slowOctaves))) {
			p.Slow = math.Exp2(by)
		}
	}
}

// slowAlone reports whether calls of more than some nanoseconds are an exception among the other parts, and not by chance
// the rule in this one.
func slowAlone(parts []Part, which int, ns int64) bool {
	var own, rest Part // K are the slow calls
	for i := range parts {
		of := &rest
		if i == which {
			of = &own
		}
		of.N += parts[i].N
		of.K += rawOf(parts[i].latency.Above(ns), parts[i].latency.Count(), parts[i].N)
	}
	return share(rest.K, rest.N) <= slowOthers && fisher(own.K, own.N, rest.K, rest.N) < partP/float64(len(parts))
}

// median returns the median, sorting the values.
func median(v []float64) float64 {
	slices.Sort(v)
	n := len(v)
	if n == 0 {
		return math.NaN()
	}
	return (v[(n-1)/2] + v[n/2]) / 2
}

// badParts finds parts of callees and callers that fail, or are slow, among good ones. What goes wrong in a whole zone,
// host or version is named so, and not once more for each instance; what goes wrong in one instance alone is that.
func badParts(g *Graph) []graph.Finding {
	var found []graph.Finding
	for _, e := range g.Edges {
		found = append(found, e.badParts(g.Processes[e.Key.Target.Identity()], g.Processes[e.Key.Source.Identity()])...)
	}
	return found
}

func (e *Edge) badParts(processes, callers []graph.NodeRow) []graph.Finding {
	instances := Instances(&e.Sum)
	versions := e.badVersions(instances, processes)
	found := versions.found
	version := func(p *graph.NodeRow) string { return p.Version }
	named := inVersions(instances, placesOf(processes, version), versions.callee) // that a larger part accounts for
	for _, larger := range []struct {
		rule string
		of   func(*graph.NodeRow) string
	}{
		{"bad_version", version},
		{"bad_zone", func(p *graph.NodeRow) string { return p.Zone }},
		{"bad_host", func(p *graph.NodeRow) string { return p.Host }},
	} {
		at := placesOf(processes, larger.of)
		for _, p := range partsBy(larger.rule, &e.Sum, processes) {
			members := membersOf(instances, at, p.Name)
			if larger.rule == "bad_version" && p.Bad {
				continue // badVersions had a look at it
			}
			if !p.Outlier() || !whole(&p, members, instances, larger.rule == "bad_version") || all(members, named) {
				continue
			}
			if f := e.odd(larger.rule, p, processes); f != nil {
				found = append(found, f...)
				for _, m := range members {
					named[m.Name] = true
				}
			}
		}
	}
	for _, p := range instances {
		if !named[p.Name] {
			found = append(found, e.odd("bad_instance", p, processes)...)
		}
	}
	calling := Callers(&e.Sum)
	named = inVersions(calling, placesOf(callers, version), versions.caller)
	for _, p := range calling {
		if !named[p.Name] {
			found = append(found, e.odd("bad_caller", p, processes)...)
		}
	}
	return found
}

// inVersions returns the instances that are of one of some versions, at being where each instance is.
func inVersions(instances []Part, at map[string]string, versions map[string]bool) map[string]bool {
	in := map[string]bool{}
	for _, p := range instances {
		in[p.Name] = versions[at[p.Name]]
	}
	return in
}

// partsBy returns the parts that a rule is about.
func partsBy(rule string, s *Sum, processes []graph.NodeRow) []Part {
	switch rule {
	case "bad_version":
		return Versions(s)
	case "bad_zone":
		return Zones(s, processes)
	case "bad_host":
		return Hosts(s, processes)
	case "bad_caller":
		return Callers(s)
	}
	return Instances(s)
}

// odd makes the finding of a part that fails, or else is slow, among good ones, if it still does.
func (e *Edge) odd(rule string, p Part, processes []graph.NodeRow) []graph.Finding {
	if !p.Outlier() {
		return nil
	}
	recent := partNamed(partsBy(rule, &e.Recent, processes), p.Name)
	switch {
	case p.Bad:
		return e.bad(rule, partWords[rule]+" "+p.Name, p.Name, p, recent)
	case recent.N == 0, recent.P50 < p.P50/usuallySlow, partNamed(partsBy(rule, &e.settled, processes), p.Name).Slow == 0:
		return nil
	}
	f := e.found(rule, graph.Warn, p.Slow, p.N, "%s %s is %s times as slow as the others: %s at the median, n=%s",
		partWords[rule], p.Name, figure(p.Slow), span(p.P50), count(p.N))
	f[0].Subject = p.Name
	return f
}

// usuallySlow is the factor by which a slow part may have become faster lately and still count as slow.
const usuallySlow = 1.25

// bad makes the finding of something that fails among good ones, if it still does.
func (e *Edge) bad(rule, what, subject string, p, recent Part) []graph.Finding {
	if e.recovered() || !lasts(recent.K, recent.N, partDifference) {
		return nil
	}
	level := graph.Warn
	if lower, _ := graph.Wilson(p.K, p.N, z95); lower >= failsSevere {
		level = graph.Severe
	}
	now := p // how bad it is now is said from what is recent, where that is enough
	if recent.N >= latestCalls {
		now = recent
	}
	f := e.found(rule, level, p.Explains, now.N, "%s fails %s of its calls and has %s of all failures, by chance with p %s, n=%s",
		what, percent(share(now.Fails, now.Calls)), percent(p.Explains), probability(p.P), count(now.N))
	f[0].Subject = subject
	return f
}

// partWords are what the parts are called that the rules are about.
var partWords = map[string]string{
	"bad_instance": "instance", "bad_zone": "zone", "bad_host": "host", "bad_version": "the callee's version", "bad_caller": "the caller's instance",
}

// placesOf returns where each instance is.
func placesOf(processes []graph.NodeRow, of func(*graph.NodeRow) string) map[string]string {
	at := map[string]string{}
	for i := range processes {
		if v := of(&processes[i]); v != "" {
			at[processes[i].Instance] = v
		}
	}
	return at
}

func membersOf(instances []Part, at map[string]string, name string) []Part {
	var members []Part
	for _, p := range instances {
		if at[p.Name] == name {
			members = append(members, p)
		}
	}
	return members
}

func all(members []Part, named map[string]bool) bool {
	for _, m := range members {
		if !named[m.Name] {
			return false
		}
	}
	return len(members) > 0
}

// whole reports whether a part is bad, or slow, as a whole: the better half of its instances are still worse than what
// lies outside of it. A version may have a single instance.
func whole(p *Part, members, instances []Part, version bool) bool {
	switch {
	case len(members) < 2:
		return version
	case !p.Bad:
		return slowAsAWhole(members, instances)
	}
	var outside, better Part
	for _, i := range instances {
		outside.N, outside.K = outside.N+i.N, outside.K+i.K
	}
	for _, m := range members {
		outside.N, outside.K = outside.N-m.N, outside.K-m.K
	}
	best := slices.SortedFunc(slices.Values(members), func(a, b Part) int {
		return cmp.Or(cmp.Compare(share(a.K, a.N), share(b.K, b.N)), strings.Compare(a.Name, b.Name))
	})
	for _, m := range best[:len(best)/2] {
		better.N, better.K = better.N+m.N, better.K+m.K
	}
	return outside.N > 0 && fisher(better.K, better.N, outside.K, outside.N) < partP &&
		share(better.K, better.N) >= partRatio*share(outside.K, outside.N)
}

// slowAsAWhole reports whether most calls of the better half of a part's instances are slow for what lies outside of it.
func slowAsAWhole(members, instances []Part) bool {
	var outside, better sketch.Sketch
	for _, i := range instances {
		if !slices.ContainsFunc(members, func(m Part) bool { return m.Name == i.Name }) {
			outside.Merge(i.latency)
		}
	}
	best := slices.SortedFunc(slices.Values(members), func(a, b Part) int {
		return cmp.Or(cmp.Compare(a.P50, b.P50), strings.Compare(a.Name, b.Name))
	})
	for _, m := range best[:len(best)/2] {
		better.Merge(m.latency)
	}
	slow := int64(math.Exp2(math.Log2(outside.Quantile(.5)) + slowOctaves))
	return outside.Count() > 0 && 2*better.Above(slow) > better.Count()
}

func partNamed(parts []Part, name string) Part {
	for _, p := range parts {
		if p.Name == name {
			return p
		}
	}
	return Part{}
}
