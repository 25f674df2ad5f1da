package web

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"faultline/graph"
	"faultline/internal/sketch"
	"faultline/storage"
)

// world is a storage.Reader over made-up services whose figures follow from the time that is asked for, so that a real
// server has something to show. It is safe for concurrent use.
type world struct {
	mu    sync.Mutex
	now   func() time.Time
	calls []call
	trace graph.Trace
	found []graph.Finding
}

// call is one edge of a world.
type call struct {
	key       graph.EdgeKey
	rate      float64 // per second
	errors    float64 // share that fails
	failure   graph.Failure
	latency   time.Duration // median
	slower    float64       // factor while the fault lasts
	retries   float64       // per logical call
	serverGap float64       // share of the latency that the callee does not see
	from      time.Time     // the fault lasts from then on; zero is always
	instances int
	bad       int // instance with all the errors, 1-based; 0 spreads them
}

func (c *call) faulty(at time.Time) bool { return !at.Before(c.from) }

// change alters the world.
func (w *world) change(f func(calls []call) []call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = f(slices.Clone(w.calls))
}

func (w *world) snapshot() []call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls
}

func random(key graph.EdgeKey, at time.Time) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(key.ID()))
	return rand.New(rand.NewPCG(h.Sum64(), uint64(at.Unix())))
}

// stats returns what is counted in [start, end).
func (c *call) stats(start, end time.Time) graph.EdgeStats {
	var s graph.EdgeStats
	length := end.Sub(start).Seconds()
	if length <= 0 {
		return s
	}
	r := random(c.key, start)
	wave := 1 + .15*math.Sin(float64(start.Unix())/120) + .1*(r.Float64()-.5)
	logical := int64(c.rate*length*wave + r.Float64())
	retries, errors, slower := 0., 0., 1.
	if c.faulty(start.Add(end.Sub(start) / 2)) {
		retries, errors, slower = c.retries, c.errors, max(c.slower, 1)
	}
	if c.key.Protocol == graph.Linked {
		return graph.EdgeStats{Messages: logical, Raw: logical}
	}
	s.LogicalCalls = logical
	s.Calls = logical + int64(float64(logical)*retries)
	s.Errors = min(int64(float64(s.Calls)*errors+r.Float64()*.5), s.Calls)
	s.LogicalErrors = int64(float64(s.Errors) * .6)
	s.Raw, s.RawErrors = s.Calls, s.Errors
	if s.Errors > 0 {
		s.Failures[max(c.failure, graph.Timeout)] = s.Errors - s.Errors/8
		s.Failures[graph.ServerError] += s.Errors / 8
	}
	median := float64(c.latency) * slower
	const samples = 40
	for i := range int64(samples) {
		n := s.Calls/samples + boolInt(i < s.Calls%samples)
		if n <= 0 {
			continue
		}
		q := (float64(i) + .5) / samples
		d := median * math.Exp(.55*normal(q)) * (1 + .04*r.Float64())
		s.Client.Add(int64(d), n)
		if seen := c.key.Target.Kind == graph.Service || c.key.Target.Kind == graph.Gateway; seen {
			s.Server.Add(int64(d*(1-c.serverGap)), n)
			s.ServerCalls += n
		}
		s.Busy += int64(d) * n
	}
	if c.key.Source.Kind == graph.User || c.key.Source.Kind == graph.Unknown {
		s.Client = sketch.Sketch{}
	}
	if c.key.Protocol == graph.Messaging {
		s.Messages = s.Calls
	}
	return s
}

func boolInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// normal is the inverse of the normal distribution function, roughly.
func normal(q float64) float64 {
	return 4.91 * (math.Pow(q, .14) - math.Pow(1-q, .14))
}

func (w *world) Windows(ctx context.Context, q storage.Query) ([]graph.Window, error) {
	from, to := floor(q.From, graph.WindowLength), q.To
	if now := w.now(); to.After(now) {
		to = now
	}
	step := q.Step
	if step == 0 {
		step = max(to.Sub(from), graph.WindowLength)
	}
	calls := w.snapshot()
	var out []graph.Window
	for start := from; start.Before(to); start = start.Add(step) {
		end := start.Add(step)
		if end.After(to) {
			end = to
		}
		win := graph.Window{Start: start, Length: step}
		seen := map[graph.Node]bool{}
		for i := range calls {
			c := &calls[i]
			if q.HasEnv && c.key.Env() != q.Env || q.Edges != nil && !slices.Contains(q.Edges, c.key.ID()) {
				continue
			}
			// A fault that begins in between divides the span.
			var s graph.EdgeStats
			if c.from.After(start) && c.from.Before(end) {
				s, b := c.stats(start, c.from), c.stats(c.from, end)
				s.Add(&b)
				win.Edges = appendIf(win.Edges, q.Want&storage.WantEdges != 0, graph.EdgeRow{Edge: c.key, Stats: s})
			} else {
				s = c.stats(start, end)
				win.Edges = appendIf(win.Edges, q.Want&storage.WantEdges != 0, graph.EdgeRow{Edge: c.key, Stats: s})
			}
			if q.Want&storage.WantDetails != 0 {
				win.Details = append(win.Details, c.details(start, end)...)
			}
			if q.Want&storage.WantNodes != 0 {
				for _, n := range []graph.Node{c.key.Source, c.key.Target} {
					if n.Kind != graph.Service && n.Kind != graph.Gateway || seen[n] {
						continue
					}
					seen[n] = true
					for k := range 3 {
						win.Nodes = append(win.Nodes, graph.NodeRow{Node: n, Instance: fmt.Sprintf("%s-%d", n.Name, k+1), Version: "1.4." + strconv.Itoa(k/2), Spans: 100})
					}
				}
			}
		}
		out = append(out, win)
	}
	return out, nil
}

func appendIf[T any](list []T, wanted bool, v T) []T {
	if wanted {
		return append(list, v)
	}
	return list
}

func (c *call) details(start, end time.Time) []graph.DetailRow {
	s := c.stats(start, end)
	n := max(c.instances, 3)
	var rows []graph.DetailRow
	add := func(key graph.DetailKey, share float64, errors int64) {
		d := graph.Detail{Calls: int64(float64(s.Calls) * share), Errors: errors, Latency: sketch.New(graph.DetailScale)}
		d.Raw, d.RawErrors = d.Calls, d.Errors
		if d.Calls > 0 {
			d.Latency.Add(int64(float64(c.latency)*1.6), d.Calls)
		}
		rows = append(rows, graph.DetailRow{Edge: c.key, Key: key, Detail: d})
	}
	for i := range n {
		errors := s.Errors / int64(n)
		if c.bad > 0 {
			errors = s.Errors * boolInt(i+1 == c.bad)
		}
		add(graph.DetailKey{Dimension: graph.Instance, Side: graph.ServerSide, Name: fmt.Sprintf("%s-%d", c.key.Target.Name, i+1)}, 1/float64(n), errors)
	}
	for i := range 2 {
		add(graph.DetailKey{Dimension: graph.Instance, Side: graph.ClientSide, Name: fmt.Sprintf("%s-%d", c.key.Source.Name, i+1)}, .5, s.Errors/2)
	}
	for i, op := range []string{"POST /v1/charge", "GET /v1/quote/{id}", "GET /health"} {
		add(graph.DetailKey{Dimension: graph.Operation, Side: graph.ServerSide, Name: op}, [...]float64{.6, .3, .1}[i], s.Errors*boolInt(i == 0))
	}
	add(graph.DetailKey{Dimension: graph.Version, Side: graph.ServerSide, Name: "2.7.0"}, .75, s.Errors/4)
	add(graph.DetailKey{Dimension: graph.Version, Side: graph.ServerSide, Name: "2.7.1"}, .25, s.Errors-s.Errors/4)
	for i, pair := range [][2]string{{"1.4.0", "2.7.0"}, {"1.4.0", "2.7.1"}, {"1.4.0", ""}} {
		name := graph.PairName(pair[0], pair[1])
		add(graph.DetailKey{Dimension: graph.VersionPair, Side: graph.ClientSide, Name: name}, [...]float64{.7, .25, .05}[i], s.Errors*boolInt(i == 1))
	}
	return rows
}

func (w *world) Examples(ctx context.Context, q storage.TraceQuery) ([]graph.Example, error) {
	var out []graph.Example
	for i, c := range w.snapshot() {
		if q.Edge != "" && c.key.ID() != q.Edge || q.Service != "" && c.key.Source.ID() != q.Service && c.key.Target.ID() != q.Service {
			continue
		}
		for k := range graph.ExampleKind(graph.NumExampleKinds) {
			if k == graph.Failed && c.errors == 0 || k == graph.Retried && c.retries == 0 || q.Only != nil && *q.Only != k {
				continue
			}
			e := graph.Example{Trace: w.trace.ID, Edge: c.key, Kind: k, At: q.To.Add(-time.Duration(20+i) * time.Second), Duration: c.latency * time.Duration(1+2*k)}
			if k == graph.Failed {
				e.Failure = c.failure
			}
			out = append(out, e)
			if len(out) >= q.Limit {
				return out, nil
			}
		}
	}
	return out, nil
}

func (w *world) Trace(ctx context.Context, id graph.TraceID) (graph.Trace, error) {
	if id == w.trace.ID && id != (graph.TraceID{}) {
		return w.trace, nil
	}
	return graph.Trace{}, storage.ErrNotFound
}

func (w *world) Findings(_ context.Context, q storage.FindingQuery) ([]graph.Finding, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.found), func(f graph.Finding) bool { return !q.Matches(&f) }), nil
}

func (w *world) State(context.Context, string) ([]byte, error) { return nil, storage.ErrNotFound }

func (w *world) Info(context.Context) (storage.Info, error) {
	now := w.now()
	return storage.Info{Kind: "sqlite", Bytes: 48_300_000, Oldest: now.Add(-50 * time.Hour), Newest: now, Windows: 18_230, Traces: 412, Retention: storage.DefaultRetention()}, nil
}

func service(name string) graph.Node {
	return graph.Node{Env: "production", Kind: graph.Service, Namespace: "shop", Name: name}
}

// shopCalls is a small company that is well.
func shopCalls() []call {
	user := graph.Node{Env: "production", Kind: graph.User}
	db := func(name string) graph.Node { return graph.Node{Env: "production", Kind: graph.Database, Name: name} }
	cache := graph.Node{Env: "production", Kind: graph.Cache, Name: "redis@cart-cache"}
	queue := graph.Node{Env: "production", Kind: graph.Queue, Name: "kafka/orders"}
	stripe := graph.Node{Env: "production", Kind: graph.External, Name: "api.payments.example"}
	gateway := graph.Node{Env: "production", Kind: graph.Gateway, Namespace: "shop", Name: "edge"}
	e := func(s, t graph.Node, p graph.Protocol, rate float64, ms float64) call {
		return call{key: graph.EdgeKey{Source: s, Target: t, Protocol: p}, rate: rate, latency: time.Duration(ms * 1e6), serverGap: .12}
	}
	s := service
	return []call{
		e(user, gateway, graph.HTTP, 420, 84), e(gateway, s("web"), graph.HTTP, 310, 72), e(gateway, s("api"), graph.HTTP, 110, 61),
		e(s("web"), s("catalog"), graph.HTTP, 260, 18), e(s("web"), s("cart"), graph.HTTP, 120, 9), e(s("web"), s("recommend"), graph.GRPC, 240, 22),
		e(s("api"), s("catalog"), graph.HTTP, 60, 17), e(s("api"), s("checkout"), graph.HTTP, 22, 240), e(s("web"), s("checkout"), graph.HTTP, 31, 260),
		e(s("checkout"), s("cart"), graph.GRPC, 52, 8), e(s("checkout"), s("payment"), graph.GRPC, 51, 180), e(s("checkout"), s("shipping"), graph.GRPC, 50, 31),
		e(s("checkout"), queue, graph.Messaging, 49, 4), e(queue, s("fulfilment"), graph.Messaging, 49, 120), e(queue, s("email"), graph.Messaging, 49, 210),
		e(s("payment"), stripe, graph.HTTP, 50, 150), e(s("payment"), s("fraud"), graph.GRPC, 50, 24), e(s("payment"), db("postgresql/payments@pg-pay"), graph.DB, 130, 3),
		e(s("catalog"), db("postgresql/catalog@pg-main"), graph.DB, 610, 2.4), e(s("catalog"), s("search"), graph.HTTP, 90, 41), e(s("cart"), cache, graph.DB, 380, .6),
		e(s("recommend"), s("catalog"), graph.GRPC, 80, 15), e(s("shipping"), s("geo"), graph.HTTP, 44, 12), e(s("fulfilment"), db("postgresql/orders@pg-main"), graph.DB, 160, 5),
		e(s("fulfilment"), s("shipping"), graph.GRPC, 20, 28), e(s("search"), db("opensearch/products@search-1"), graph.DB, 90, 33),
		e(s("email"), graph.Node{Env: "production", Kind: graph.External, Name: "smtp.example"}, graph.ProtocolUnknown, .4, 320),
		e(s("fraud"), s("fraud"), graph.Internal, 3, 6), e(s("geo"), s("checkout"), graph.HTTP, .2, 14),
	}
}

// ill is the shop on a bad day, since the given time.
func ill(since time.Time) func(calls []call) []call {
	return func(calls []call) []call {
		for i := range calls {
			c := &calls[i]
			switch {
			case c.key.Source.Name == "checkout" && c.key.Target.Name == "payment":
				c.errors, c.failure, c.retries, c.bad, c.from = .092, graph.Refused, .4, 2, since
			case c.key.Target.Name == "postgresql/catalog@pg-main":
				c.slower, c.from = 14, since
			case c.key.Source.Name == "web" && c.key.Target.Name == "catalog":
				c.slower, c.from = 2.7, since
			case c.key.Target.Name == "email":
				c.errors, c.failure, c.from = .023, graph.Timeout, since
			}
		}
		return calls
	}
}

// company makes a graph of many services in tiers and namespaces, of which a few connections are ill.
func company(seed uint64, services, connections int) []call {
	r := rand.New(rand.NewPCG(seed, 2))
	words := []string{"order", "price", "stock", "user", "search", "ledger", "mail", "image", "risk", "route", "quote", "label", "event", "audit", "token", "media"}
	nodes := make([]graph.Node, services)
	teams := max(4, services/45)
	for i := range nodes {
		team := i * teams / services
		n := graph.Node{Env: "production", Kind: graph.Service, Namespace: fmt.Sprintf("team-%02d", (team*7)%teams), Name: fmt.Sprintf("%s-%s-%d", words[i%len(words)], words[(i/7)%len(words)], i)}
		switch {
		case i < max(1, services/150):
			n = graph.Node{Env: "production", Kind: graph.Gateway, Namespace: "edge", Name: fmt.Sprintf("gateway-%d", i)}
		case i > services*9/10 && i%3 == 0:
			n = graph.Node{Env: "production", Kind: graph.Database, Name: fmt.Sprintf("postgresql/%s@pg-%d", words[i%len(words)], i)}
		}
		nodes[i] = n
	}
	tier := func(i int) int { return i * 8 / services }
	seen := map[graph.EdgeKey]bool{}
	var calls []call
	for len(calls) < connections {
		s, t := r.IntN(services), r.IntN(services)
		if r.IntN(3) > 0 { // most calls stay near
			t = min(services-1, s+1+r.IntN(max(2, services/8)))
		}
		d := tier(t) - tier(s)
		if s == t || d < 0 && r.IntN(60) > 0 || d > 3 || d == 0 && r.IntN(4) > 0 || nodes[s].Kind == graph.Database {
			continue
		}
		p := graph.HTTP
		if nodes[t].Kind == graph.Database {
			p = graph.DB
		}
		c := call{key: graph.EdgeKey{Source: nodes[s], Target: nodes[t], Protocol: p}, rate: math.Exp(r.Float64() * 6), latency: time.Duration(2+r.IntN(200)) * time.Millisecond, serverGap: .1}
		if seen[c.key] {
			continue
		}
		seen[c.key] = true
		if r.IntN(250) == 0 {
			c.errors, c.failure = .03+.2*r.Float64(), graph.Timeout
		}
		calls = append(calls, c)
	}
	return calls
}

// exampleTrace is a checkout whose payment was refused twice and then went through slowly.
func exampleTrace(now time.Time) graph.Trace {
	t := graph.Trace{ID: graph.TraceID{0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36}}
	resources := map[string]int{}
	next := byte(0)
	add := func(parent graph.SpanID, name, op string, kind graph.SpanKind, from, to float64, failed string) graph.SpanID {
		next++
		at, ok := resources[name]
		if !ok {
			at = len(t.Resources)
			resources[name] = at
			t.Resources = append(t.Resources, graph.Resource{Attributes: []graph.Attribute{{Key: "service.name", Value: name}, {Key: "service.version", Value: "1.4.2"}, {Key: "service.instance.id", Value: name + "-1"}}})
		}
		s := graph.Span{
			ID: graph.SpanID{0, next}, Parent: parent, Name: op, Kind: kind, Resource: at, Node: service(name),
			Start: now.Add(time.Duration(from * 1e6)), End: now.Add(time.Duration(to * 1e6)), Scope: "shop/instrumentation", ScopeVersion: "0.4",
			Attributes: []graph.Attribute{{Key: "http.request.method", Value: "POST"}, {Key: "server.address", Value: name + ".shop.svc"}, {Key: "server.port", Value: int64(8080)}},
		}
		if failed != "" {
			s.Status, s.StatusMessage = graph.StatusError, failed
			s.Events = []graph.Event{{Time: s.End, Name: "exception", Attributes: []graph.Attribute{{Key: "exception.type", Value: "ConnectException"}, {Key: "exception.message", Value: failed}}}}
		}
		t.Spans = append(t.Spans, s)
		return s.ID
	}
	const server, client, internal = graph.SpanKindServer, graph.SpanKindClient, graph.SpanKindInternal
	root := add(graph.SpanID{}, "edge", "POST /checkout", server, 0, 842, "")
	web := add(add(root, "edge", "POST", client, 3, 839, ""), "web", "POST /checkout", server, 5, 836, "")
	cart := add(add(web, "web", "GET /cart/{id}", client, 9, 31, ""), "cart", "GET /cart/{id}", server, 11, 29, "")
	add(cart, "cart", "GET", client, 13, 15, "")
	co := add(add(web, "web", "POST /order", client, 34, 830, ""), "checkout", "POST /order", server, 36, 826, "")
	add(co, "checkout", "price cart", internal, 38, 52, "")
	add(add(co, "checkout", "Quote", client, 53, 118, ""), "shipping", "shop.Shipping/Quote", server, 55, 116, "")
	add(co, "checkout", "shop.Payment/Charge", client, 54, 58, "connection refused")
	add(co, "checkout", "shop.Payment/Charge", client, 160, 164, "connection refused")
	pay := add(add(co, "checkout", "shop.Payment/Charge", client, 366, 801, ""), "payment", "shop.Payment/Charge", server, 369, 798, "")
	add(pay, "payment", "SELECT payments", client, 371, 378, "")
	add(add(pay, "payment", "shop.Fraud/Score", client, 380, 412, ""), "fraud", "shop.Fraud/Score", server, 381, 410, "")
	add(pay, "payment", "POST /v1/charges", client, 414, 790, "")
	add(co, "checkout", "orders publish", graph.SpanKindProducer, 804, 812, "")
	add(web, "web", "record analytics", internal, 828, 905, "")
	return t
}

// still is a world that stands still: the answer to every question is the same windows.
type still struct {
	*world
	windows []graph.Window
}

func (s still) Windows(ctx context.Context, q storage.Query) ([]graph.Window, error) {
	if q.To.Before(s.windows[0].Start) || q.Want&(storage.WantEdges|storage.WantNodes) == 0 {
		return nil, nil
	}
	out := slices.Clone(s.windows)
	for i := range out {
		if q.Want&storage.WantEdges == 0 {
			out[i].Edges = nil
		}
		if q.Want&storage.WantNodes == 0 {
			out[i].Nodes = nil
		}
	}
	return out, nil
}
