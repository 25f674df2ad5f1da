package ingest

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"faultline/graph"
	"faultline/internal/sim"
)

// told is the sum of what is said of an edge by one measure.
type told struct{ n, failed, value int64 }

type toldKey struct {
	edge    sim.Edge
	measure string
}

// toldMeasures are those that plain computes as well.
var toldMeasures = []graph.Measure{
	graph.Traces, graph.Gap, graph.Critical, graph.CriticalEdge, graph.CriticalSelf, graph.OriginEdge, graph.OriginSelf,
	graph.Absorbed, graph.Depth, graph.PassedOn,
}

// playShop plays the demo's shop into an Intake, and returns what that says of its edges, and every span as the official
// decoder reads it.
func playShop(t *testing.T, cfg sim.Config, period time.Duration) (map[toldKey]told, *plain) {
	t.Helper()
	cfg.Seed, cfg.Topology = 11, sim.Shop()
	g, err := sim.NewGenerator(cfg, epoch)
	if err != nil {
		t.Fatal(err)
	}
	p := &plain{topology: cfg.Topology, traces: map[pcommon.TraceID]map[pcommon.SpanID]*plainSpan{}, sums: map[toldKey]told{}}
	live := graph.NewLive(graph.DefaultLiveConfig(), 1)
	in := NewIntake(DefaultConfig(), live)
	got := map[toldKey]told{}
	now := epoch
	gather := func() {
		parts := live.Cut(now)
		for _, part := range parts {
			for i := range part.Details {
				d := &part.Details[i]
				if part.Open || d.Key.Dimension != graph.Measured {
					continue
				}
				k := toldKey{sim.Edge{Source: d.Edge.Source.ID(), Target: d.Edge.Target.ID(), Protocol: d.Edge.Protocol.String()}, d.Key.Name}
				was := got[k]
				got[k] = told{was.n + d.Detail.Calls, was.failed + d.Detail.Errors, was.value + d.Detail.Latency.Sum()}
			}
		}
		live.Kept(parts)
	}
	for b := range g.Generate(period) {
		for now.Add(time.Second).Before(b.At) {
			now = now.Add(time.Second)
			in.Tick(now)
			gather()
		}
		feed(t, in, b.At, b.Body)
		p.read(t, b.Body)
	}
	in.Flush(now.Add(time.Minute))
	now = now.Add(time.Hour)
	gather()
	if c := in.Counters().Traces; c["skipped"]+c["too_large"]+c["long"] > 0 || c["analysed"] == 0 {
		t.Fatalf("traces %v: want all of them analysed", c)
	}
	return got, p
}

// TestShopAnalysis compares what whole traces of the shop with all its faults say with what a plain program, which has all the spans at hand
// and all the time, says of them.
func TestShopAnalysis(t *testing.T) {
	script, period := sim.DemoScript()
	got, p := playShop(t, sim.Config{Rate: 3, Script: script, Period: period}, period)
	p.compute()
	for _, k := range slices.SortedFunc(maps.Keys(p.sums), compareTold) {
		if got[k] != p.sums[k] {
			t.Errorf("%v: %+v, want %+v", k, got[k], p.sums[k])
		}
	}
	for k := range got {
		if _, ok := p.sums[k]; !ok && slices.ContainsFunc(toldMeasures, func(m graph.Measure) bool { return m.String() == k.measure }) {
			t.Errorf("%v: %+v, want nothing", k, got[k])
		}
	}
	if n := p.sums[toldKey{sim.Edge{Source: "shop/payment", Target: "ext:api.payments.example", Protocol: "http"}, "origin_edge"}].n; n == 0 {
		t.Error("the expired certificate made no trace fail")
	}
}

// Clocks that are off by up to a second move no time on the critical path from one edge to another. Calls that their
// caller gave up are another matter: when their callee began can then not be told.
func TestSkewDoesNotMoveTheCriticalPath(t *testing.T) {
	right, _ := playShop(t, sim.Config{Rate: 10}, 2*time.Minute)
	skewed, _ := playShop(t, sim.Config{Rate: 10, Skew: time.Second}, 2*time.Minute)
	for k, want := range right {
		if !strings.HasPrefix(k.measure, "critical") || want.n < 20 {
			continue
		}
		if skewed[k] != want {
			t.Errorf("%v: %v, without skew %v", k, skewed[k], want)
		}
	}
}

func compareTold(a, b toldKey) int {
	return cmp.Or(cmp.Compare(a.measure, b.measure), cmp.Compare(a.edge.Source, b.edge.Source), cmp.Compare(a.edge.Target, b.edge.Target))
}

// plain computes the facts of whole traces in the most straightforward way.
type plain struct {
	topology *sim.Topology
	traces   map[pcommon.TraceID]map[pcommon.SpanID]*plainSpan
	sums     map[toldKey]told
}

type plainSpan struct {
	service    string
	kind       ptrace.SpanKind
	name       string
	parent     pcommon.SpanID
	start, end int64
	failed     bool
	timedOut   bool
	host       string // of the peer
	topic      string
	up         *plainSpan
	down       []*plainSpan
}

func (p *plain) read(t *testing.T, body []byte) {
	request := ptraceotlp.NewExportRequest()
	if err := request.UnmarshalProto(body); err != nil {
		t.Fatal(err)
	}
	for _, rs := range request.Traces().ResourceSpans().All() {
		service := attribute(rs.Resource().Attributes(), "service.name")
		if namespace := attribute(rs.Resource().Attributes(), "service.namespace"); namespace != "" {
			service = namespace + "/" + service
		}
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				a := s.Attributes()
				notFound := attribute(a, "http.response.status_code", "http.status_code") == "404" ||
					slices.Contains([]string{"NOT_FOUND", "5"}, attribute(a, "rpc.response.status_code", "rpc.grpc.status_code"))
				if p.traces[s.TraceID()] == nil {
					p.traces[s.TraceID()] = map[pcommon.SpanID]*plainSpan{}
				}
				p.traces[s.TraceID()][s.SpanID()] = &plainSpan{
					service: service, kind: s.Kind(), name: s.Name(), parent: s.ParentSpanID(),
					start: int64(s.StartTimestamp()), end: int64(s.EndTimestamp()),
					failed:   s.Status().Code() == ptrace.StatusCodeError && !notFound,
					timedOut: strings.Contains(s.Status().Message(), "timeout") || strings.Contains(s.Status().Message(), "deadline exceeded"),
					host:     attribute(a, "server.address", "net.peer.name"),
					topic:    attribute(a, "messaging.destination.name", "messaging.destination"),
				}
			}
		}
	}
}

func attribute(m pcommon.Map, keys ...string) string {
	for _, k := range keys {
		if v, ok := m.Get(k); ok {
			return v.AsString()
		}
	}
	return ""
}

// call returns the edge of a client or producer span.
func (p *plain) call(s *plainSpan) sim.Edge {
	for _, c := range s.down {
		if c.kind == kindServer {
			return sim.Edge{Source: s.service, Target: c.service, Protocol: p.protocol(c.service)}
		}
	}
	for i := range p.topology.Databases {
		if d := &p.topology.Databases[i]; d.Host == s.host {
			return sim.Edge{Source: s.service, Target: d.Node(), Protocol: "db"}
		}
	}
	for i := range p.topology.Topics {
		if q := &p.topology.Topics[i]; q.Name == s.topic {
			return sim.Edge{Source: s.service, Target: q.Node(), Protocol: "messaging"}
		}
	}
	return sim.Edge{Source: s.service, Target: "ext:" + s.host, Protocol: "http"}
}

func (p *plain) protocol(service string) string {
	for i := range p.topology.Services {
		if s := &p.topology.Services[i]; s.Node() == service && s.GRPC {
			return "grpc"
		}
	}
	return "http"
}

// entry returns the edge on which a root was entered.
func (p *plain) entry(s *plainSpan) sim.Edge {
	if s.kind == kindConsumer {
		return sim.Edge{Source: "queue:kafka/" + s.topic, Target: s.service, Protocol: "messaging"}
	}
	return sim.Edge{Source: "user", Target: s.service, Protocol: p.protocol(s.service)}
}

func (p *plain) add(e sim.Edge, m graph.Measure, value int64, failed bool) {
	k := toldKey{e, m.String()}
	s := p.sums[k]
	s.n++
	s.value += value
	if failed {
		s.failed++
	}
	p.sums[k] = s
}

func (p *plain) compute() {
	for _, trace := range p.traces {
		for _, s := range trace {
			if up := trace[s.parent]; up != nil && s.kind != kindConsumer {
				s.up = up
				up.down = append(up.down, s)
			}
		}
		for _, s := range trace {
			if s.up == nil {
				p.root(s)
			}
		}
	}
}

func (p *plain) root(root *plainSpan) {
	seen := map[sim.Edge]bool{p.entry(root): true}
	deepest := int64(0)
	var visit func(s *plainSpan, hops int64)
	visit = func(s *plainSpan, hops int64) {
		deepest = max(deepest, hops)
		for _, c := range s.down {
			if s.kind == kindClient && c.kind == kindServer {
				visit(c, hops+1)
			} else {
				visit(c, hops)
			}
		}
		if s.kind != kindClient && s.kind != kindProducer {
			return
		}
		e := p.call(s)
		seen[e] = true
		if len(s.down) > 0 {
			served := int64(0)
			for _, c := range s.down {
				served += c.end - c.start
			}
			p.add(e, graph.Gap, max(0, s.end-s.start-served), s.failed)
		}
		if s.failed && p.attempts(s)[len(p.attempts(s))-1] == s {
			up := s.up
			for up.kind == kindInternal {
				up = up.up
			}
			p.add(e, graph.Absorbed, s.end-s.start, up.failed)
		}
		for _, c := range s.down {
			if s.failed && c.failed && !s.timedOut {
				p.add(e, graph.PassedOn, s.end-s.start, p.passesOn(c))
			}
		}
	}
	visit(root, 0)
	p.add(p.entry(root), graph.Depth, deepest, false)
	for e := range seen {
		p.add(e, graph.Traces, root.end-root.start, root.failed)
	}

	path := map[toldKey]int64{}
	p.path(root, root.start, root.end, path)
	for k, v := range path {
		if v > 0 {
			for _, m := range []graph.Measure{graph.Critical, graph.CriticalEdge, graph.CriticalSelf} {
				if m.String() == k.measure {
					p.add(k.edge, m, v, false)
				}
			}
		}
	}
	if !root.failed {
		return
	}
	p.add(p.entry(root), graph.PassedOn, root.end-root.start, p.passesOn(root))
	origins := p.origins(root)
	for _, m := range []graph.Measure{graph.OriginEdge, graph.OriginSelf} {
		count, late := map[sim.Edge]int64{}, map[sim.Edge]bool{}
		for _, o := range origins {
			if o.measure == m {
				count[o.edge]++
				late[o.edge] = late[o.edge] || o.late
			}
		}
		for e, n := range count {
			p.add(e, m, int64(math.Round(1000*float64(n)/float64(len(origins)))), late[e])
		}
	}
}

// entered returns the edge that led into the service that s belongs to.
func (p *plain) entered(s *plainSpan) sim.Edge {
	for s.kind == kindInternal {
		s = s.up
	}
	if s.up == nil {
		return p.entry(s)
	}
	return p.call(s.up)
}

// path sums the critical path below s within [lo, hi]: no edge of the shop lies below itself.
func (p *plain) path(s *plainSpan, lo, hi int64, sums map[toldKey]int64) {
	own, cursor := int64(0), hi
	left := slices.DeleteFunc(slices.Clone(s.down), func(c *plainSpan) bool { return c.kind == kindProducer })
	for {
		var next *plainSpan
		for _, c := range left {
			end := min(c.end, hi)
			if end > cursor+max(1e6, (hi-lo)/100) || c.start >= cursor {
				continue
			}
			if next == nil || end > min(next.end, hi) || end == min(next.end, hi) && c.start < next.start {
				next = c
			}
		}
		if next == nil {
			break
		}
		left = slices.DeleteFunc(left, func(c *plainSpan) bool { return c == next })
		end, start := min(next.end, cursor), max(next.start, lo)
		own += cursor - end
		p.path(next, start, end, sums)
		cursor = start
	}
	own += cursor - lo
	switch s.kind {
	case kindClient:
		sums[toldKey{p.call(s), "critical_edge"}] += own
		sums[toldKey{p.call(s), "critical"}] += hi - lo
	default:
		sums[toldKey{p.entered(s), "critical_self"}] += own
	}
	if s.up == nil {
		sums[toldKey{p.entry(s), "critical"}] += hi - lo
	}
}

// attempts returns the attempts at the logical call that s belongs to, in order: nothing in the shop calls the same peer
// twice for another reason.
func (p *plain) attempts(s *plainSpan) []*plainSpan {
	if s.kind != kindClient {
		return []*plainSpan{s}
	}
	var list []*plainSpan
	for _, o := range s.up.down {
		if o.kind == s.kind && o.name == s.name && o.host == s.host {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b *plainSpan) int { return cmp.Compare(a.start, b.start) })
	return list
}

// passesOn reports whether a span failed because a call below it did.
func (p *plain) passesOn(s *plainSpan) bool {
	return slices.ContainsFunc(s.down, func(c *plainSpan) bool {
		attempts := p.attempts(c)
		return attempts[len(attempts)-1].failed
	})
}

type plainOrigin struct {
	edge    sim.Edge
	measure graph.Measure
	late    bool
}

func (p *plain) origins(s *plainSpan) (list []plainOrigin) {
	type logical struct {
		attempts   []*plainSpan
		begin, end int64
	}
	var failed []logical
	for _, c := range s.down {
		attempts := p.attempts(c)
		if last := attempts[len(attempts)-1]; last == c && c.failed {
			failed = append(failed, logical{attempts, attempts[0].start, c.end})
		}
	}
	if len(failed) == 0 {
		if s.kind == kindClient || s.kind == kindProducer {
			return []plainOrigin{{p.call(s), graph.OriginEdge, len(s.down) > 0 || s.timedOut}}
		}
		return []plainOrigin{{p.entered(s), graph.OriginSelf, false}}
	}
	decisive := slices.MaxFunc(failed, func(a, b logical) int { return cmp.Compare(a.end, b.end) })
	for _, f := range failed {
		if f.end > decisive.begin {
			for _, a := range f.attempts {
				list = append(list, p.origins(a)...)
			}
		}
	}
	return list
}

func (k toldKey) String() string {
	return fmt.Sprintf("%s → %s %s", k.edge.Source, k.edge.Target, k.measure)
}
