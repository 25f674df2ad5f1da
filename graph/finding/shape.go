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
	softShare = 0.80 // failures that the caller absorbs, or an entry gets by with, of an edge that is a soft dependency
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
	Together     float64 // such calls per trace
	AnySlow      float64 // how often one of those is slower than their p99
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
	Fails, Absorbed    int64   // traces in which the edge failed, and those of them in which the entry did not, unweighted
}

// soft reports whether what is asked for gets by without an edge. Where it was not seen often enough what becomes of it,
// it does if callers of the edge do and nothing is seen to say otherwise.
func (e *Entry) soft(edge bool) bool {
	gets := e.Fails == 0 || share(e.Absorbed, e.Fails) >= softShare
	return gets && (edge || e.Fails >= softCalls)
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
	if shape.Together = share(parallel, traces.Calls); parallel > 0 {
		shape.AnySlow = AnySlow(.99, shape.Together)
	} else {
		shape.AnySlow = math.NaN()
	}
	shape.Soft = absorbed.Raw >= softCalls && shape.Absorbed >= softShare
	s.of(graph.Entry, graph.ClientSide, func(name string, d *graph.Detail) {
		service, operation := graph.CutEntry(name)
		entry := Entry{Service: service, Operation: operation, Traces: d.Calls, Errors: d.Errors, N: d.Raw, P95: d.Latency.Quantile(.95)}
		if failed := s.Details[graph.DetailKey{Dimension: graph.EntryFailed, Side: graph.ClientSide, Name: name}]; failed != nil {
			entry.Fails, entry.Absorbed = max(failed.Raw, 0), max(failed.Raw-failed.RawErrors, 0)
		}
		shape.Entries = append(shape.Entries, entry)
	})
	slices.SortFunc(shape.Entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(b.Traces, a.Traces), strings.Compare(a.Service, b.Service), strings.Compare(a.Operation, b.Operation))
	})
	return shape
}

// AnySlow returns how often at least one of k calls that are made at once is slower than the q-quantile of each.
func AnySlow(q, k float64) float64 { return 1 - math.Pow(q, max(k, 1)) }

// What else the rules about the shape of traces ask for.
const (
	repeatedShare = 0.05 // of the traces, with an operation that calls over and over
	deepFrom      = 5    // calls one below the other
	usedShare     = 0.01 // of an entry's traces that use an edge which is required
)

// repeated finds operations that make the same call over and over.
func repeated(e *Edge) []graph.Finding {
	d, traces := e.measure(graph.Repeated), e.measure(graph.Traces)
	lower, _ := graph.Wilson(min(d.Raw, traces.Raw), traces.Raw, z90)
	recent := e.Recent.measure(graph.Repeated)
	if d.Raw < fewest || lower < repeatedShare || !lasts(recent.Raw, e.Recent.measure(graph.Traces).Raw, repeatedShare) {
		return nil
	}
	s := ShapeOf(&e.Sum)
	return e.found("n_plus_one", graph.Note, s.RepeatedIn, traces.Raw, "in %s of the traces an operation calls ten times or more, one after the other; calling once would save %s, n=%s",
		percent(s.RepeatedIn), span(s.Saving), count(traces.Raw))
}

// deep finds entries whose traces pass many services, one below the other.
func deep(e *Edge) []graph.Finding {
	d, recent := e.measure(graph.Depth), e.Recent.measure(graph.Depth)
	traces := rawOf(d.Latency.Above(deepFrom-1), d.Calls, d.Raw)
	if traces < fewest || recent.Latency.Above(deepFrom-1) < 1 {
		return nil
	}
	most := d.Latency.Max()
	return e.found("deep_chain", graph.Note, float64(most), d.Raw, "requests pass through up to %d calls, one below the other%s; %s of the traces through %d or more, n=%s",
		most, e.deepest(), percent(share(d.Latency.Above(deepFrom-1), d.Calls)), deepFrom, count(d.Raw))
}

// deepest says what users ask for when the chain is longest, as the continuation of a sentence.
func (e *Edge) deepest() string {
	operation, most := "", int64(0)
	e.of(graph.EntryDepth, graph.ClientSide, func(name string, d *graph.Detail) {
		if _, o := graph.CutEntry(name); d.Latency.Max() > most || d.Latency.Max() == most && o < operation {
			operation, most = o, d.Latency.Max()
		}
	})
	if operation == "" {
		return ""
	}
	return ", for " + operation
}

// Availability is what is possible at best: the product of what succeeds of each required dependency.
func Availability(errorRates []float64) float64 {
	a := 1.
	for _, e := range errorRates {
		a *= 1 - min(max(e, 0), 1)
	}
	return a
}

// EntryPoint is something that users ask a service for, as the edges say that its traces use.
type EntryPoint struct {
	Operation      string
	Depth          int64 // calls one below the other, at most; 0 when it is not known
	Availability   float64
	Traces         int64 // analysed, unweighted
	Required, Soft []string
}

// EntryPoints returns what users ask a service for, most traces first, from the edges that its traces use.
func EntryPoints(service graph.Node, edges []*Edge) []EntryPoint {
	id := service.ID()
	type use struct {
		e     *Edge
		entry Entry
		soft  bool
	}
	uses, depths := map[string][]use{}, map[string]int64{}
	for _, e := range edges {
		shape := ShapeOf(&e.Sum)
		for _, entry := range shape.Entries {
			if entry.Service == id {
				uses[entry.Operation] = append(uses[entry.Operation], use{e, entry, entry.soft(shape.Soft)})
			}
		}
		if e.Key.Target != service {
			continue
		}
		e.of(graph.EntryDepth, graph.ClientSide, func(name string, d *graph.Detail) {
			if at, operation := graph.CutEntry(name); at == id {
				depths[operation] = max(depths[operation], d.Latency.Max())
			}
		})
	}
	var points []EntryPoint
	for operation, list := range uses {
		p := EntryPoint{Operation: operation, Depth: depths[operation]}
		traces := int64(0)
		for _, u := range list {
			traces, p.Traces = max(traces, u.entry.Traces), max(p.Traces, u.entry.N)
		}
		var failing []float64
		for _, u := range list {
			switch {
			case u.e.Key.Target == service && u.e.entering(), u.e.async(), share(u.entry.Traces, traces) < usedShare:
			case u.soft:
				p.Soft = append(p.Soft, u.e.ID)
			default:
				p.Required = append(p.Required, u.e.ID)
				failing = append(failing, share(u.entry.Errors, traces)) // usage times error rate
			}
		}
		p.Availability = Availability(failing)
		points = append(points, p)
	}
	slices.SortFunc(points, func(a, b EntryPoint) int {
		return cmp.Or(cmp.Compare(b.Traces, a.Traces), strings.Compare(a.Operation, b.Operation))
	})
	return points
}
