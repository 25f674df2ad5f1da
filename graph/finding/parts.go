package finding

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"faultline/graph"
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
	// P is the probability (Fisher's exact test, one-sided) that so many of the failures fall on this part by chance;
	// Explains the share of all failures that do. Both are NaN for a part that was not tested.
	P, Explains float64
	Outlier     bool
}

// judgeParts tests each part against all others together. At least so many parts must have enough calls for that.
func judgeParts(parts []Part, least int) {
	var n, k int64
	tested := 0
	for i := range parts {
		p := &parts[i]
		p.P, p.Explains, p.Outlier = math.NaN(), math.NaN(), false
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
		if p.N < partCalls || rest < partCalls {
			continue
		}
		p.P = fisher(p.K, p.N, k-p.K, rest)
		p.Explains = share(p.K, k)
		own, others := share(p.K, p.N), share(k-p.K, rest)
		p.Outlier = p.K >= tooFewToMeasure && p.P < partP/float64(tested) && own >= partRatio*others && own-others >= partDifference
	}
}

// fisher returns the probability that at least a of the a+c failures fall on the first n of n+m calls, when all are
// equally likely to fail: Fisher's exact test, one-sided.
// Source: R. A. Fisher, Statistical Methods for Research Workers (1934).
func fisher(a, n, c, m int64) float64 {
	failures := a + c
	base := -choose(n+m, failures)
	p := 0.
	for i := a; i <= min(n, failures); i++ {
		if failures-i > m {
			continue
		}
		p += math.Exp(base + choose(n, i) + choose(m, failures-i))
	}
	return min(p, 1)
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
		parts = append(parts, Part{
			Name: name, N: d.Raw, K: max(d.RawErrors, 0), Calls: d.Calls, Fails: max(d.Errors, 0), P50: d.Latency.Quantile(.5),
		})
	})
	slices.SortFunc(parts, func(a, b Part) int { return strings.Compare(a.Name, b.Name) })
	return parts
}

// Instances returns the callee's instances, Callers those of the caller, tested against each other.
func Instances(s *Sum) []Part {
	return tested(partsOf(s, graph.Instance, graph.ServerSide), leastInstances)
}

// Callers returns the caller's instances, whose latency is not kept, tested against each other.
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
	parts := make([]Part, 0, len(sums))
	for at, d := range sums {
		parts = append(parts, Part{Name: at, N: d.Raw, K: max(d.RawErrors, 0), Calls: d.Calls, Fails: max(d.Errors, 0), P50: d.Latency.Quantile(.5)})
	}
	return parts
}
