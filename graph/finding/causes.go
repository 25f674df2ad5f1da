package finding

import (
	"cmp"
	"math"
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
	Share float64 // of all failed calls of the edge, at most 1
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
			Name: name, Class: class, Blame: BlameFor(class), Calls: d.Calls, N: d.Raw,
			P50: d.Latency.Quantile(.5),
		})
	})
	for f := range graph.Failure(graph.NumFailures) {
		rest := s.Stats.Failures[f] - caused[f]
		if f == graph.None || rest <= 0 || caused[f] > 0 {
			continue
		}
		causes = append(causes, Cause{
			Name: f.String(), Class: f, Blame: BlameFor(f), Calls: rest,
			N: rawOf(rest, s.Stats.Errors, s.Stats.RawErrors), P50: none.Latency.Quantile(.5),
		})
	}
	// Causes are kept by the minute: of a span that begins or ends within one there may be more than failures.
	all := int64(0)
	for i := range causes {
		all += causes[i].Calls
	}
	for i := range causes {
		causes[i].Share = share(causes[i].Calls, max(all, s.Stats.Errors))
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

// What it takes to name a class of failures; the limits are those of graph.Judge.
const (
	failsWarn   = 0.01 // lower bound of the share of calls that fail so
	failsSevere = 0.05
)

// failing names the classes of failures of an edge.
func failing(e *Edge) []graph.Finding {
	var found []graph.Finding
	causes, recent := Causes(&e.Sum), Causes(&e.Recent)
	for class := range graph.Failure(graph.NumFailures) {
		if class == graph.None {
			continue
		}
		all, main := ofClass(causes, class)
		late, _ := ofClass(recent, class)
		lower, _ := graph.Wilson(all.N, e.Stats.Raw, z95)
		if all.N < fewest || lower < failsWarn || !lasts(late.N, e.Recent.Stats.Raw, failsWarn) || e.over(inClass(class)) {
			continue
		}
		level := graph.Warn
		if lower >= failsSevere {
			level = graph.Severe
		}
		// How bad it is now is said from what is recent, where that is enough.
		n, k, part := e.Stats.Raw, all.N, min(share(all.Calls, e.Stats.Calls), 1)
		if e.Recent.Stats.Raw >= latestCalls {
			n, k, part = e.Recent.Stats.Raw, late.N, min(share(late.Calls, e.Recent.Stats.Calls), 1)
		}
		f := e.found(class.String(), level, part, n, "%s of the calls fail: %s%s, n=%s of %s",
			percent(part), sayClass(class), e.sayMore(class, main, all), count(k), count(n))
		if main.Name != class.String() {
			f[0].Subject = main.Name
		}
		found = append(found, f...)
	}
	return found
}

// ofClass returns the sum of the causes of one class, and the one with most calls. Failures that a test injected are no
// reason for an alarm.
func ofClass(causes []Cause, class graph.Failure) (all, main Cause) {
	for _, c := range causes {
		if c.Class != class || c.Name == graph.Injected.String() {
			continue
		}
		all.Calls += c.Calls
		all.N += c.N
		if main.Calls < c.Calls {
			main = c
		}
	}
	return all, main
}

// sayMore returns what more is known of a class of failures, to go on a sentence.
func (e *Edge) sayMore(class graph.Failure, main, all Cause) string {
	more := ""
	if _, kind, ok := strings.Cut(main.Name, ": "); ok {
		more = " (" + kind
		if main.Calls < all.Calls {
			more += ", " + percent(share(main.Calls, all.Calls)) + " of them"
		}
		more += ")"
	}
	if class == graph.Contract {
		more += e.disagreeing()
	}
	if class == graph.Timeout {
		if w := WaitingOf(&e.Sum); !math.IsNaN(w.Timeout) {
			more += ", callers wait " + span(w.Timeout)
		}
	}
	return more
}

var classWords = [graph.NumFailures]string{
	graph.Timeout: "no answer in time", graph.Refused: "nothing listens there, or no endpoint is healthy", graph.Unresolved: "the name is not known",
	graph.TLS: "certificate or handshake", graph.Auth: "not authenticated or not allowed", graph.Throttled: "the callee turns away what is too much",
	graph.BreakerOpen: "the caller's breaker is open", graph.PoolExhausted: "the caller's pool or bulkhead is full",
	graph.Reset: "the connection breaks", graph.Contract: "caller and callee do not understand each other",
	graph.LostResponse: "the callee answers well, and the answer does not arrive", graph.ServerError: "the callee fails",
	graph.Unclassified: "the spans do not say why",
}

// sayClass returns a class in words.
func sayClass(f graph.Failure) string { return classWords[f] }
