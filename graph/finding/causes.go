package finding

import (
	"cmp"
	"slices"
	"strings"

	"faultline/graph"
)

// Cause is one reason why calls of an edge failed.
type Cause struct {
	Name  string // as graph.Cause has it: "tls: expired certificate"
	Class graph.Failure
	Blame graph.Blame
	Calls int64   // failed calls
	Share float64 // of all failed calls of the edge
	N     int64   // unweighted
	P50   float64 // how long the calls took, ns
}

// Causes returns why the calls of an edge failed, most calls first. Failures that no cause was kept for, in windows from
// before there were causes, come under their class.
func Causes(s *Sum) []Cause {
	var causes []Cause
	var caused [graph.NumFailures]int64
	s.of(graph.Caused, graph.ClientSide, func(name string, d *graph.Detail) {
		class := ClassOf(name)
		caused[class] += d.Calls
		causes = append(causes, Cause{
			Name: name, Class: class, Blame: BlameFor(class), Calls: d.Calls, Share: share(d.Calls, s.Stats.Errors), N: d.Raw,
			P50: d.Latency.Quantile(.5),
		})
	})
	for f := range graph.Failure(graph.NumFailures) {
		rest := s.Stats.Failures[f] - caused[f]
		if f == graph.None || rest <= 0 || caused[f] > 0 {
			continue
		}
		causes = append(causes, Cause{
			Name: f.String(), Class: f, Blame: BlameFor(f), Calls: rest, Share: share(rest, s.Stats.Errors),
			N: rawOf(rest, s.Stats.Errors, s.Stats.RawErrors), P50: none.Latency.Quantile(.5),
		})
	}
	slices.SortFunc(causes, func(a, b Cause) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), strings.Compare(a.Name, b.Name))
	})
	return causes
}

// ClassOf returns the class of failures that a cause's name begins with.
func ClassOf(name string) graph.Failure {
	class, _, _ := strings.Cut(name, ":")
	for f := range graph.Failure(graph.NumFailures) {
		if f != graph.None && f.String() == class {
			return f
		}
	}
	return graph.Unclassified
}

// BlameFor returns whose fault failures of a class are, as far as the class says. Throttling is the callee's answer to
// what its callers send, and an auth failure the caller's until the callee's rules changed: neither is sure.
func BlameFor(f graph.Failure) graph.Blame {
	switch f {
	case graph.Refused, graph.Throttled, graph.ServerError, graph.Timeout:
		return graph.BlameCallee
	case graph.Unresolved, graph.TLS, graph.Reset, graph.LostResponse:
		return graph.BlameBetween
	case graph.BreakerOpen, graph.PoolExhausted, graph.Auth:
		return graph.BlameCaller
	}
	return graph.BlameUnknown
}
