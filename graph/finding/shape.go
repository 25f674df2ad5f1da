package finding

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"faultline/graph"
)

// What the rules about the shape of traces ask for.
const (
	softShare = 0.80 // failures that the caller absorbs, of an edge that is a soft dependency
	softCalls = 20
)

// Shape is what the traces that were analysed say of an edge. Shares of time are of the whole traces that use it.
type Shape struct {
	Traces       int64   // analysed, unweighted
	Critical     float64 // share of the traces' time that passes on the edge and in what is below it
	CriticalEdge float64 // the part between caller and callee
	CriticalSelf float64 // the part in the callee's own code
	OriginEdge   float64 // share of the failed traces whose failure began on the edge
	OriginSelf   float64 // or in the callee
	Parallel     float64 // share of the calls that are made while others are
	Repeated     int64   // operations that made ten or more calls of one kind one after the other
	RepeatedIn   float64 // share of the traces with such an operation
	Saving       float64 // what calling once would save in such an operation, ns, median
	Absorbed     float64 // share of the failed calls whose caller did not fail
	AbsorbedOf   int64   // failed calls that were looked at, unweighted
	Soft         bool    // callers get by without it
	Entries      []Entry // what users asked for, most traces first
}

// Entry is something users ask for that uses an edge.
type Entry struct {
	Service, Operation string
	Traces, Errors     int64
	N                  int64
	P95                float64 // ns
}

// ShapeOf returns what the traces that were analysed say of an edge.
func ShapeOf(s *Sum) Shape {
	traces, absorbed, repeated := s.measure(graph.Traces), s.measure(graph.Absorbed), s.measure(graph.Repeated)
	total := float64(traces.Latency.Sum())
	time := func(m graph.Measure) float64 { return over(float64(max(s.measure(m).Latency.Sum(), 0)), total) }
	origin := func(m graph.Measure) float64 {
		return over(float64(max(s.measure(m).Latency.Sum(), 0))/1000, float64(traces.Errors))
	}
	parallel, sequential := s.measure(graph.Parallel).Calls, s.measure(graph.Sequential).Calls
	shape := Shape{
		Traces: traces.Raw, Critical: time(graph.Critical), CriticalEdge: time(graph.CriticalEdge), CriticalSelf: time(graph.CriticalSelf),
		OriginEdge: origin(graph.OriginEdge), OriginSelf: origin(graph.OriginSelf), Parallel: share(parallel, parallel+sequential),
		Repeated: repeated.Calls, RepeatedIn: math.Min(share(repeated.Calls, traces.Calls), 1), Saving: repeated.Latency.Quantile(.5),
		Absorbed: share(absorbed.Calls-absorbed.Errors, absorbed.Calls), AbsorbedOf: absorbed.Raw,
	}
	shape.Soft = absorbed.Raw >= softCalls && shape.Absorbed >= softShare
	s.of(graph.Entry, graph.ClientSide, func(name string, d *graph.Detail) {
		service, operation := graph.CutEntry(name)
		shape.Entries = append(shape.Entries, Entry{service, operation, d.Calls, d.Errors, d.Raw, d.Latency.Quantile(.95)})
	})
	slices.SortFunc(shape.Entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(b.Traces, a.Traces), strings.Compare(a.Service, b.Service), strings.Compare(a.Operation, b.Operation))
	})
	return shape
}
