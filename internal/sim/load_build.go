package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// loadBuilder makes the requests of one pass.
type loadBuilder struct {
	cfg        LoadConfig
	rng        *rand.Rand
	layers     [][]*loadService
	services   []*loadService
	thresholds []threshold
	load       *Load
	enc        encoder
	// the trace in the making
	trace      traceID
	randomness uint64
	made       []madeSpan
}

type madeSpan struct {
	by   *loadInstance
	span *span
}

type loadService struct {
	name      string
	layer     int
	grpc      bool
	db        *loadDB
	callees   []*loadService
	cursor    int // callees are called in turn, so that a pass visits every edge
	instances []*loadInstance
	ops       []loadOp
}

type loadDB struct {
	system, namespace, host string
	port                    int64
}

func (d *loadDB) node() string { return "db:" + d.system + "/" + d.namespace + "@" + d.host }

type loadInstance struct {
	svc     *loadService
	res     resource
	host    string
	ip      string
	pending []*span
}

type loadOp struct {
	route  string  // of an HTTP service
	method string  // HTTP method or RPC method
	median float64 // own time in ns
}

type threshold struct {
	t      uint64 // of 2^56; a trace is kept if its randomness is not below it
	weight int64  // 1/p
	state  string
}

func parseThreshold(th string) (threshold, error) {
	if th == "" {
		return threshold{weight: 1}, nil
	}
	if len(th) > 2 {
		return threshold{}, fmt.Errorf("sampling threshold %q: more than two digits", th)
	}
	v, err := strconv.ParseUint(th+strings.Repeat("0", 14-len(th)), 16, 64)
	if err != nil {
		return threshold{}, fmt.Errorf("sampling threshold %q: not hexadecimal", th)
	}
	const whole = 1 << 56
	if whole%(whole-v) != 0 {
		return threshold{}, fmt.Errorf("sampling threshold %q: 1/p is not a whole number", th)
	}
	return threshold{t: v, weight: int64(whole / (whole - v)), state: "ot=th:" + th}, nil
}

// Layers grow by the calls that one call makes, so that every service of a
// load gets about as many as the next.
const callsPerServerSpan = 1.7

func newLoadBuilder(cfg LoadConfig) (*loadBuilder, error) {
	if cfg.Services < 2 {
		return nil, errors.New("fewer than two services")
	}
	if cfg.Instances < 1 || cfg.RequestSpans < 1 || cfg.Spans < 1 || cfg.Spread < 0 {
		return nil, errors.New("instances, request spans, spans and spread must be positive")
	}
	b := &loadBuilder{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x10ad)), load: &Load{seed: cfg.Seed}}
	sampling := cfg.Sampling
	if len(sampling) == 0 {
		sampling = []string{""}
	}
	for i, th := range sampling {
		t, err := parseThreshold(th)
		if err != nil {
			return nil, err
		}
		if i > 0 && t.t < b.thresholds[i-1].t {
			return nil, fmt.Errorf("sampling threshold %q: keeps more than %q before it", th, sampling[i-1])
		}
		b.thresholds = append(b.thresholds, t)
	}
	b.addServices()
	return b, b.addEdges()
}

func (b *loadBuilder) addServices() {
	depth := 5
	switch {
	case b.cfg.Services < 6:
		depth = 2
	case b.cfg.Services < 30:
		depth = 4
	}
	sum := 0.0
	for i := range depth {
		sum += math.Pow(callsPerServerSpan, float64(i))
	}
	left := b.cfg.Services
	for i := range depth {
		n := max(1, int(float64(b.cfg.Services)*math.Pow(callsPerServerSpan, float64(i))/sum+0.5))
		if i == depth-1 {
			n = left
		}
		var layer []*loadService
		for range n {
			layer = append(layer, b.newService(i))
		}
		left -= n
		b.layers = append(b.layers, layer)
	}
}

func (b *loadBuilder) newService(layer int) *loadService {
	n := len(b.services)
	s := &loadService{
		name:  fmt.Sprintf("svc-%04d", n),
		layer: layer,
		// Users speak HTTP.
		grpc: layer > 0 && b.rng.IntN(100) < 40,
	}
	for i := range 6 {
		op := loadOp{median: math.Exp(math.Log(3e5) + b.rng.Float64()*math.Log(40))}
		if s.grpc {
			op.method = fmt.Sprintf("GetResource%d", i)
		} else {
			op.method = [...]string{"GET", "GET", "POST", "GET", "PUT", "DELETE"}[i]
			op.route = fmt.Sprintf("/api/v1/resource%d/{id}", i)
		}
		s.ops = append(s.ops, op)
	}
	for i := range b.cfg.Instances {
		host := fmt.Sprintf("%s-%08x", s.name, uint32(mix(b.cfg.Seed+uint64(n*64+i))))
		s.instances = append(s.instances, &loadInstance{
			svc: s, host: host, ip: fmt.Sprintf("10.%d.%d.%d", 1+i, n/250, 1+n%250),
			res: resource{
				attrs: []attr{
					str("service.name", s.name),
					str("service.version", fmt.Sprintf("1.%d.%d", n%9, i%2)),
					str("service.instance.id", host),
					str("deployment.environment.name", "production"),
					str("host.name", fmt.Sprintf("node-%d", (n+i)%16)),
					str("telemetry.sdk.name", "opentelemetry"),
					str("telemetry.sdk.language", "go"),
					str("telemetry.sdk.version", "1.43.0"),
				},
				scope:        "go.opentelemetry.io/contrib/instrumentation",
				scopeVersion: "0.68.0",
				schema:       "https://opentelemetry.io/schemas/1.40.0",
			},
		})
	}
	b.services = append(b.services, s)
	return s
}

func (b *loadBuilder) addEdges() error {
	left := b.cfg.Edges - len(b.layers[0]) // the users' edges
	systems := [...]loadDB{{system: "postgresql", port: 5432}, {system: "mysql", port: 3306}, {system: "redis", port: 6379}, {system: "mongodb", port: 27017}}
	for i, s := range b.services {
		if i%3 != 2 {
			continue
		}
		db := systems[i/3%len(systems)]
		db.namespace = "db" + strconv.Itoa(i)
		db.host = "store-" + strconv.Itoa(i)
		s.db = &db
		left--
	}
	// Every service is called by one of the layer before it, and every service
	// that is not in the last layer calls: the least that a connected map needs.
	called := map[[2]*loadService]bool{}
	connect := func(from, to *loadService) {
		if !called[[2]*loadService{from, to}] {
			called[[2]*loadService{from, to}] = true
			from.callees = append(from.callees, to)
			left--
		}
	}
	for i := 1; i < len(b.layers); i++ {
		before, layer := b.layers[i-1], b.layers[i]
		for j := range max(len(before), len(layer)) {
			connect(before[j%len(before)], layer[j%len(layer)])
		}
	}
	if left < 0 {
		return fmt.Errorf("%d edges do not connect %d services", b.cfg.Edges, b.cfg.Services)
	}
	var free [][2]*loadService
	for i := 1; i < len(b.layers); i++ {
		for _, from := range b.layers[i-1] {
			for _, to := range b.layers[i] {
				if !called[[2]*loadService{from, to}] {
					free = append(free, [2]*loadService{from, to})
				}
			}
		}
	}
	if left > len(free) {
		return fmt.Errorf("%d edges: %d services have room for %d fewer", b.cfg.Edges, b.cfg.Services, left-len(free))
	}
	for _, i := range b.rng.Perm(len(free))[:left] {
		connect(free[i][0], free[i][1])
	}
	return nil
}

func (b *loadBuilder) build() *Load {
	b.enc.track = true
	entries := b.layers[0]
	// Rarely called services are waited for, but not for ever: sampling may hide
	// an edge for good.
	missing := func() bool { return len(b.load.truth.edges) < b.cfg.Edges && b.load.spans < 2*b.cfg.Spans }
	for i := 0; b.load.spans < b.cfg.Spans || missing(); i++ {
		b.newTrace(entries[i%len(entries)])
	}
	for _, s := range b.services {
		for _, in := range s.instances {
			b.flush(in)
		}
	}
	if b.cfg.ShuffleRequests {
		r := b.load.requests
		b.rng.Shuffle(len(r), func(i, j int) { r[i], r[j] = r[j], r[i] })
	}
	return b.load
}

// newTrace plays one user request.
func (b *loadBuilder) newTrace(entry *loadService) {
	binary.BigEndian.PutUint64(b.trace[:8], b.rng.Uint64())
	binary.BigEndian.PutUint64(b.trace[8:], b.rng.Uint64())
	b.randomness = binary.BigEndian.Uint64(b.trace[8:]) & (1<<56 - 1)
	b.made = b.made[:0]

	in := entry.instances[b.rng.IntN(len(entry.instances))]
	op := &entry.ops[b.rng.IntN(len(entry.ops))]
	out := b.draw(entry)
	end := b.serve(in, op, out, spanID{}, 0, nil)
	c := call{
		edge: Edge{"user", entry.name, "http"}, client: -1, server: -1,
		failed: out == failed, last: true,
	}
	b.observeServer(&c, entry, end)
	b.load.truth.add(c)

	shift := -end - b.rng.Int64N(int64(b.cfg.Spread)+1)
	for _, m := range b.made {
		m.span.start += shift
		m.span.end += shift
		m.by.pending = append(m.by.pending, m.span)
		if len(m.by.pending) == b.cfg.RequestSpans {
			b.flush(m.by)
		}
	}
}

// A result of a call, as both sides see it.
type result int

const (
	succeeded result = iota
	notFound         // the caller's mistake: an error on its span, none of the edge's
	failed
	throttled    // this and what follows only the services of a Topology answer
	unauthorized // the caller's token, which no retry makes better
	unsupported  // an operation that is not known
)

func (b *loadBuilder) draw(callee *loadService) result {
	switch p := b.rng.Float64(); {
	case p < b.cfg.ErrorRate:
		return failed
	case p > 0.99 && !callee.grpc:
		return notFound
	}
	return succeeded
}

// serve plays one server span with the calls under it and returns its end.
func (b *loadBuilder) serve(in *loadInstance, op *loadOp, out result, parent spanID, start int64, caller *loadInstance) int64 {
	s := in.svc
	id := b.newID()
	own := b.lognormal(op.median, 0.6)
	t := start + own/2
	if out != failed {
		callees := min(len(s.callees), 1+b.rng.IntN(2)+b.rng.IntN(5)/4)
		for range callees {
			callee := s.callees[s.cursor%len(s.callees)]
			s.cursor++
			t = b.call(in, callee, b.maybeInternal(in, id, t), t)
		}
		if s.db != nil {
			t = b.query(in, id, t)
		}
	}
	end := t + own - own/2

	sp := b.newSpan(id, parent, kindServer, start, end)
	client := "10.200.0.1"
	if caller != nil {
		sp.flags |= flagRemote
		client = caller.ip
	}
	if s.grpc {
		service := "shop." + s.name + ".v1.Resources"
		code := int64(0)
		if out == failed {
			code = 14
			sp.status = statusError
		}
		sp.name = service + "/" + op.method
		sp.attrs = append(sp.attrs,
			str("rpc.system", "grpc"), str("rpc.service", service), str("rpc.method", op.method), num("rpc.grpc.status_code", code),
			str("server.address", s.name), num("server.port", 9090),
			str("network.peer.address", client), num("network.peer.port", 30000+b.rng.Int64N(30000)),
			str("network.transport", "tcp"), str("network.type", "ipv4"), num("thread.id", int64(1+b.rng.IntN(64))))
	} else {
		code := int64(200)
		switch out {
		case failed:
			code = 503
			sp.status = statusError
		case notFound:
			code = 404
		}
		sp.name = op.method + " " + op.route
		sp.attrs = append(sp.attrs,
			str("http.request.method", op.method), str("http.route", op.route),
			str("url.path", strings.Replace(op.route, "{id}", strconv.FormatInt(b.rng.Int64N(1e6), 10), 1)), str("url.scheme", "http"),
			num("http.response.status_code", code), str("network.protocol.version", "1.1"),
			str("server.address", s.name), num("server.port", 8080),
			str("network.peer.address", client), num("network.peer.port", 30000+b.rng.Int64N(30000)),
			str("client.address", client), str("user_agent.original", "Go-http-client/1.1"))
		if code >= 500 {
			sp.attrs = append(sp.attrs, str("error.type", "503"))
		}
	}
	b.keep(in, sp)
	return end
}

// maybeInternal puts an INTERNAL span between a server span and its call now
// and then, and returns the id that the call hangs under.
func (b *loadBuilder) maybeInternal(in *loadInstance, parent spanID, at int64) spanID {
	if b.rng.IntN(10) > 0 {
		return parent
	}
	id := b.newID()
	sp := b.newSpan(id, parent, kindInternal, at, at+1000)
	sp.name = "loadResource"
	sp.attrs = append(sp.attrs, str("code.function.name", "loadResource"), str("code.file.path", "/src/resources/load.go"), num("code.line.number", 128))
	b.keep(in, sp)
	return id
}

// call plays one logical call with its retries and returns when it is over.
func (b *loadBuilder) call(in *loadInstance, callee *loadService, parent spanID, t int64) int64 {
	const maxAttempts = 3
	op := &callee.ops[b.rng.IntN(len(callee.ops))]
	for attempt := 0; ; attempt++ {
		out := b.draw(callee)
		again := out == failed && attempt+1 < maxAttempts && b.rng.Float64() < b.cfg.RetryRate
		t = b.attempt(in, callee, op, parent, t, out, attempt, !again)
		if !again {
			return t
		}
		t += b.lognormal(20e6*float64(attempt+1), 0.3)
	}
}

func (b *loadBuilder) attempt(in *loadInstance, callee *loadService, op *loadOp, parent spanID, start int64, out result, attempt int, last bool) int64 {
	id := b.newID()
	to := callee.instances[b.rng.IntN(len(callee.instances))]
	serverStart := start + b.lognormal(2e5, 0.5)
	serverEnd := b.serve(to, op, out, id, serverStart, in)
	end := serverEnd + b.lognormal(2e5, 0.5)

	sp := b.newSpan(id, parent, kindClient, start, end)
	protocol := "http"
	if callee.grpc {
		protocol = "grpc"
		service := "shop." + callee.name + ".v1.Resources"
		sp.name = service + "/" + op.method
		code := int64(0)
		if out == failed {
			code = 14
			sp.status, sp.message = statusError, "upstream unavailable"
		}
		sp.attrs = append(sp.attrs,
			str("rpc.system", "grpc"), str("rpc.service", service), str("rpc.method", op.method), num("rpc.grpc.status_code", code),
			str("server.address", callee.name), num("server.port", 9090),
			str("network.peer.address", to.ip), num("network.peer.port", 9090),
			str("network.transport", "tcp"), str("network.type", "ipv4"), num("thread.id", int64(1+b.rng.IntN(64))))
	} else {
		sp.name = op.method
		code, class := int64(200), ""
		switch out {
		case failed:
			code, class = 503, "503"
		case notFound:
			code, class = 404, "404"
		}
		sp.attrs = append(sp.attrs,
			str("http.request.method", op.method),
			str("url.full", "http://"+callee.name+":8080"+strings.Replace(op.route, "{id}", strconv.FormatInt(b.rng.Int64N(1e6), 10), 1)),
			str("url.template", op.route), str("server.address", callee.name), num("server.port", 8080),
			num("http.response.status_code", code), str("network.protocol.version", "1.1"),
			str("network.peer.address", to.ip), num("network.peer.port", 8080),
			str("user_agent.original", "Go-http-client/1.1"), num("thread.id", int64(1+b.rng.IntN(64))))
		if class != "" {
			sp.status = statusError
			sp.attrs = append(sp.attrs, str("error.type", class))
		}
		if attempt > 0 {
			sp.attrs = append(sp.attrs, num("http.request.resend_count", int64(attempt)))
		}
	}
	c := call{
		edge: Edge{in.svc.name, callee.name, protocol}, client: -1, server: -1,
		failed: out == failed, retry: attempt > 0, last: last,
	}
	if b.keep(in, sp) {
		c.client, c.clientWeight = end-start, b.threshold(in.svc).weight
	}
	b.observeServer(&c, callee, serverEnd-serverStart)
	b.load.truth.add(c)
	return end
}

// query plays one database call, which has no server span.
func (b *loadBuilder) query(in *loadInstance, parent spanID, start int64) int64 {
	db := in.svc.db
	end := start + b.lognormal(8e5, 0.7)
	sp := b.newSpan(b.newID(), parent, kindClient, start, end)
	sp.name = "SELECT resources"
	sp.attrs = append(sp.attrs,
		str("db.system.name", db.system), str("db.namespace", db.namespace),
		str("db.operation.name", "SELECT"), str("db.collection.name", "resources"),
		str("db.query.text", "SELECT id, name, state FROM resources WHERE id = ?"), str("db.query.summary", "SELECT resources"),
		str("server.address", db.host), num("server.port", db.port),
		str("network.peer.address", "10.90.0.7"), num("network.peer.port", db.port), num("thread.id", int64(1+b.rng.IntN(64))))
	c := call{edge: Edge{in.svc.name, db.node(), "db"}, client: -1, server: -1, last: true}
	if b.rng.Float64() < b.cfg.ErrorRate {
		c.failed = true
		sp.status, sp.message = statusError, "connection reset by peer"
		sp.attrs = append(sp.attrs, str("error.type", "ECONNRESET"))
	}
	if b.keep(in, sp) {
		c.client, c.clientWeight = end-start, b.threshold(in.svc).weight
	}
	b.load.truth.add(c)
	return end
}

func (b *loadBuilder) newSpan(id, parent spanID, kind uint64, start, end int64) *span {
	return &span{trace: b.trace, id: id, parent: parent, flags: flagSampled | flagHasRemote, kind: kind, start: start, end: end}
}

// keep takes the span into the trace, unless its service samples it away.
func (b *loadBuilder) keep(in *loadInstance, sp *span) bool {
	th := b.threshold(in.svc)
	if b.randomness < th.t {
		return false
	}
	sp.state = th.state
	b.made = append(b.made, madeSpan{in, sp})
	return true
}

func (b *loadBuilder) observeServer(c *call, callee *loadService, duration int64) {
	if th := b.threshold(callee); b.randomness >= th.t {
		c.server, c.serverWeight = duration, th.weight
	}
}

func (b *loadBuilder) threshold(s *loadService) threshold {
	return b.thresholds[min(s.layer, len(b.thresholds)-1)]
}

// flush encodes what the instance has pending.
func (b *loadBuilder) flush(in *loadInstance) {
	if len(in.pending) == 0 {
		return
	}
	if b.cfg.ShuffleSpans {
		p := in.pending
		b.rng.Shuffle(len(p), func(i, j int) { p[i], p[j] = p[j], p[i] })
	}
	b.enc.buf, b.enc.marks = nil, marks{}
	b.enc.request(&in.res, in.pending)
	b.load.requests = append(b.load.requests, loadRequest{body: b.enc.buf, marks: b.enc.marks, spans: len(in.pending)})
	b.load.spans += len(in.pending)
	b.load.bytes += len(b.enc.buf)
	for _, sp := range in.pending {
		b.load.attrs += len(sp.attrs)
	}
	in.pending = in.pending[:0]
}

func (b *loadBuilder) newID() (id spanID) {
	binary.BigEndian.PutUint64(id[:], b.rng.Uint64())
	return id
}

func (b *loadBuilder) lognormal(median, sigma float64) int64 {
	return int64(median * math.Exp(sigma*b.rng.NormFloat64()))
}
