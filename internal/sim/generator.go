package sim

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Config says what to simulate. The zero value is the demo without faults.
type Config struct {
	Seed     uint64
	Topology *Topology     // nil: Shop()
	Rate     float64       // user requests per second, on average; 0: 30
	Script   []Fault       // offsets count from the start of the simulation
	Period   time.Duration // after which the script starts over; 0: never
	// An instance sends what it has at intervals between BatchMin and BatchMax,
	// each instance at one of its own; 0: 1 s and 5 s, like real SDKs.
	BatchMin, BatchMax time.Duration
	Skew               time.Duration // instances' clocks are off by up to this much, either way
	KeepTruth          bool          // keep Truth: memory grows with every call
}

func (c *Config) setDefaults() {
	setDefault(&c.Rate, 30)
	setDefault(&c.BatchMin, time.Second)
	setDefault(&c.BatchMax, max(c.BatchMin, 5*time.Second))
	if c.Topology == nil {
		c.Topology = Shop()
	}
}

// Batch is one export request of one instance.
type Batch struct {
	At       time.Time // when the instance sends it
	Service  string    // node id
	Instance string    // service.instance.id
	Spans    int
	Body     []byte // an encoded ExportTraceServiceRequest
}

// Generator plays a topology in simulated time: users' requests arrive at
// random, each is followed through all services, and every instance batches the
// spans of its own. It is deterministic by its Config and start, however Advance
// is called, and not safe for concurrent use.
type Generator struct {
	cfg    Config
	rng    *rand.Rand
	script *script
	truth  Truth

	services  map[string]*service
	databases map[string]*Database
	topics    map[string]*Topic
	externals map[string]*External
	consumers map[string][]consumer // by topic
	instances []*instance           // all, in a fixed order
	weights   float64

	now     time.Time
	arrival float64 // of the next user request, in seconds since start
	trace   traceID
}

type service struct {
	*Service
	instances []*instance
	deployed  []*instance // what takes the place of instances in a bad deploy; nil: nothing
}

type consumer struct {
	service *service
	op      *Operation
}

type instance struct {
	svc     *service
	index   int
	res     resource
	id, ip  string
	skew    int64
	every   time.Duration
	next    time.Time // next export
	pending []dueSpan
}

// dueSpan is a span that its instance has from due on, in Unix ns of the
// simulation's own clock.
type dueSpan struct {
	due  int64
	span *span
}

// NewGenerator returns a Generator whose simulated time begins at start. It
// fails if the topology or the script names what is not there.
func NewGenerator(cfg Config, start time.Time) (*Generator, error) {
	cfg.setDefaults()
	if cfg.Rate < 0 || cfg.BatchMin <= 0 || cfg.BatchMax < cfg.BatchMin || cfg.Skew < 0 {
		return nil, errors.New("simulate: rate, batch intervals and skew must not be negative or crossed")
	}
	if err := cfg.Topology.check(); err != nil {
		return nil, fmt.Errorf("simulate: topology: %w", err)
	}
	g := &Generator{
		cfg: cfg, now: start, rng: rand.New(rand.NewPCG(cfg.Seed, 0x5409)),
		services: map[string]*service{}, databases: map[string]*Database{}, topics: map[string]*Topic{},
		externals: map[string]*External{}, consumers: map[string][]consumer{},
	}
	t := cfg.Topology
	for i := range t.Databases {
		g.databases[t.Databases[i].Name] = &t.Databases[i]
	}
	for i := range t.Topics {
		g.topics[t.Topics[i].Name] = &t.Topics[i]
	}
	for i := range t.Externals {
		g.externals[t.Externals[i].Host] = &t.Externals[i]
	}
	for i := range t.Services {
		g.addService(&t.Services[i], i)
	}
	for _, e := range t.Entries {
		g.weights += e.Weight
	}
	var err error
	if g.script, err = newScript(cfg.Script, cfg.Period, start, g.canHave); err != nil {
		return nil, fmt.Errorf("simulate: %w", err)
	}
	g.arrival = g.rng.ExpFloat64() / cfg.Rate
	return g, nil
}

func (g *Generator) addService(s *Service, n int) {
	svc := &service{Service: s}
	add := func(i int, version string) *instance {
		in := newInstance(g.cfg.Topology.Environment, svc, n, i, version, g.rng)
		in.skew = int64((2*g.rng.Float64() - 1) * float64(g.cfg.Skew))
		in.every = g.cfg.BatchMin + time.Duration(g.rng.Float64()*float64(g.cfg.BatchMax-g.cfg.BatchMin))
		in.next = g.now.Add(time.Duration(g.rng.Float64() * float64(in.every)))
		g.instances = append(g.instances, in)
		return in
	}
	for i := range s.Instances {
		version := s.Version
		if s.Canary != "" && i == s.Instances-1 {
			version = s.Canary
		}
		svc.instances = append(svc.instances, add(i, version))
	}
	for _, f := range g.cfg.Script {
		if (f.Kind == BadDeploy || f.Kind == ContractBreak) && f.Target == s.Node() && svc.deployed == nil {
			for i := range (s.Instances + 1) / 2 {
				svc.deployed = append(svc.deployed, add(i, nextMinor(s.Version)))
			}
		}
	}
	for i := range s.Ops {
		if topic := s.Ops[i].Topic; topic != "" {
			g.consumers[topic] = append(g.consumers[topic], consumer{svc, &s.Ops[i]})
		}
	}
	g.services[s.Name] = svc
}

// canHave reports whether the target exists and can have such a fault.
func (g *Generator) canHave(kind FaultKind, target string) bool {
	t := g.cfg.Topology
	isService := slices.ContainsFunc(t.Services, func(s Service) bool { return s.Node() == target })
	switch kind {
	case SlowDatabase:
		return slices.ContainsFunc(t.Databases, func(d Database) bool { return d.Node() == target })
	case QueueBacklog, Redelivery:
		return slices.ContainsFunc(t.Topics, func(q Topic) bool { return q.Node() == target })
	case ExpiredCertificate, ServiceDown, UnknownName:
		return isService || slices.ContainsFunc(t.Externals, func(x External) bool { return x.Node() == target })
	case BadInstance, RetryStorm, BadDeploy, SlowService, BadZone, BadCaller, ContractBreak, ConnectionReset, BreakerOpen,
		PoolExhausted, LostAnswers, Throttling, TokenExpired:
		return isService
	}
	return false
}

// Truth returns what the map must show once everything played so far has
// arrived: what Advance returned and what Flush would. It is empty without
// Config.KeepTruth, and the Generator's own.
func (g *Generator) Truth() *Truth { return &g.truth }

// Now returns the simulated time.
func (g *Generator) Now() time.Time { return g.now }

// Faults returns the faults that are on at the simulated time.
func (g *Generator) Faults() []Fault {
	var on []Fault
	for _, f := range g.cfg.Script {
		if g.script.on(f.Kind, f.Target, g.now.UnixNano()) {
			on = append(on, f)
		}
	}
	return on
}

// Advance moves the simulated time forward and returns what is sent meanwhile,
// in the order it is sent.
func (g *Generator) Advance(to time.Time) []Batch {
	var batches []Batch
	for {
		at := g.script.start.Add(time.Duration(g.arrival * 1e9))
		if at.After(to) {
			break
		}
		g.playUser(at.UnixNano())
		// Traffic swings by a fifth within ten minutes.
		rate := g.cfg.Rate * (1 + 0.2*math.Sin(2*math.Pi*g.arrival/600))
		g.arrival += g.rng.ExpFloat64() / rate
	}
	for _, in := range g.instances {
		for ; !in.next.After(to); in.next = in.next.Add(in.every) {
			batches = append(batches, in.export(in.next, in.next.UnixNano())...)
		}
	}
	g.now = to
	sortBatches(batches)
	return batches
}

// Flush returns all that has been played and not sent, like the shutdown of
// every SDK, spans included that end later than the simulated time.
func (g *Generator) Flush() []Batch {
	var batches []Batch
	for _, in := range g.instances {
		at := g.now
		for _, s := range in.pending {
			if due := time.Unix(0, s.due); due.After(at) {
				at = due
			}
		}
		batches = append(batches, in.export(at, math.MaxInt64)...)
	}
	sortBatches(batches)
	return batches
}

// Generate plays d of simulated time at once and yields every batch, the flush
// at the end included.
func (g *Generator) Generate(d time.Duration) iter.Seq[Batch] {
	return func(yield func(Batch) bool) {
		for end := g.now.Add(d); g.now.Before(end); {
			step := g.now.Add(time.Second)
			if step.After(end) {
				step = end
			}
			for _, b := range g.Advance(step) {
				if !yield(b) {
					return
				}
			}
		}
		for _, b := range g.Flush() {
			if !yield(b) {
				return
			}
		}
	}
}

func sortBatches(batches []Batch) {
	slices.SortStableFunc(batches, func(a, b Batch) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Instance, b.Instance))
	})
}

// export takes the spans that the instance has by then and encodes them, in
// requests of at most as many spans as SDKs put into one.
func (in *instance) export(at time.Time, until int64) []Batch {
	const mostSpans = 512
	slices.SortStableFunc(in.pending, func(a, b dueSpan) int { return cmp.Compare(a.due, b.due) })
	n, _ := slices.BinarySearchFunc(in.pending, until, func(s dueSpan, t int64) int {
		if s.due <= t {
			return -1
		}
		return 1
	})
	var batches []Batch
	for chunk := range slices.Chunk(in.pending[:n], mostSpans) {
		spans := make([]*span, len(chunk))
		for i, s := range chunk {
			spans[i] = s.span
		}
		var e encoder
		e.request(&in.res, spans)
		batches = append(batches, Batch{At: at, Service: in.svc.Node(), Instance: in.id, Spans: len(spans), Body: e.buf})
	}
	in.pending = slices.Delete(in.pending, 0, n)
	return batches
}

func (g *Generator) playUser(at int64) {
	pick := g.rng.Float64() * g.weights
	entries := g.cfg.Topology.Entries
	i := 0
	for ; i < len(entries)-1 && pick >= entries[i].Weight; i++ {
		pick -= entries[i].Weight
	}
	e := entries[i]
	g.newTrace()
	s := g.services[e.Service]
	end, out := g.serve(request{svc: s, op: s.op(e.Op), in: g.choose(s, at), start: at, peer: "203.0.113.7"})
	g.count(call{
		edge: Edge{"user", s.Node(), "http"}, client: -1, server: end - at, serverWeight: 1,
		failed: out == failed, last: true,
	})
}

func (g *Generator) newTrace() {
	binary.BigEndian.PutUint64(g.trace[:8], g.rng.Uint64())
	binary.BigEndian.PutUint64(g.trace[8:], g.rng.Uint64())
}

func (g *Generator) newID() (id spanID) {
	binary.BigEndian.PutUint64(id[:], g.rng.Uint64())
	return id
}

func (g *Generator) count(c call) {
	if g.cfg.KeepTruth {
		g.truth.add(c)
	}
}

// choose returns the instance that takes a call.
func (g *Generator) choose(s *service, at int64) *instance {
	i := g.rng.IntN(len(s.instances))
	if i < len(s.deployed) && (g.script.on(BadDeploy, s.Node(), at) || g.script.on(ContractBreak, s.Node(), at)) {
		return s.deployed[i]
	}
	return s.instances[i]
}

// duration draws from the lognormal distribution whose median is given.
func (g *Generator) duration(median time.Duration) int64 {
	return max(1000, int64(float64(median)*math.Exp(0.5*g.rng.NormFloat64())))
}

// request is a call as its callee sees it.
type request struct {
	svc    *service
	op     *Operation
	in     *instance
	start  int64
	parent spanID // zero: none
	links  []link
	topic  *Topic // of a message
	peer   string // address of the caller
}

// serve plays an operation: its own SERVER or CONSUMER span, and all below.
func (g *Generator) serve(r request) (end int64, out result) {
	id := g.newID()
	own := g.duration(r.op.Own)
	const baseErrors = 0.001
	fails := baseErrors
	node := r.svc.Node()
	if r.in.index == 0 && g.script.on(BadInstance, node, r.start) {
		fails = 0.5
		own *= 6
	}
	if g.script.on(RetryStorm, node, r.start) {
		fails = 0.7
		own *= 4
	}
	if r.in.index%len(zones) == 0 && g.script.on(BadZone, node, r.start) {
		fails = 0.4
	}
	if g.script.on(SlowService, node, r.start) {
		own *= 60
	}
	refuses := succeeded
	if slices.Contains(r.svc.deployed, r.in) {
		if fails = 0.25; g.script.on(ContractBreak, node, r.start) {
			fails, refuses = 0.8, unsupported
		}
	}
	switch {
	case g.script.on(Throttling, node, r.start):
		fails, refuses = 0.3, throttled
	case g.script.on(TokenExpired, node, r.start):
		fails, refuses = 1, unauthorized
	}
	t := r.start + own/2
	reason := ""
	switch p := g.rng.Float64(); {
	case p < fails && refuses != succeeded:
		out = refuses
	case p < fails:
		out, reason = failed, "internal error"
	case p > 1-r.op.NotFound:
		out = notFound
	default:
		var broken string
		t, broken = g.steps(r.in, id, r.op.Steps, t)
		if broken != "" {
			out, reason = failed, broken
		}
	}
	end = t + own - own/2
	sp := g.newSpan(r.in, id, r.parent, kindServer, r.start, end)
	if r.parent != (spanID{}) {
		sp.flags |= flagRemote
	}
	sp.links = r.links
	r.svc.describeServer(sp, r, out, reason)
	g.emit(r.in, sp, end)
	return end, out
}

// steps plays the steps one after the other, those marked Parallel together with
// the one before, and returns when they are over and what broke the operation.
func (g *Generator) steps(in *instance, parent spanID, steps []Step, start int64) (end int64, broken string) {
	end = start
	for i := range steps {
		st := &steps[i]
		if !st.Parallel {
			start = end
		}
		if st.Chance > 0 && g.rng.Float64() >= st.Chance {
			continue
		}
		t, failure := g.step(in, parent, st, start)
		for n := 1; n < st.Repeat && failure == ""; n++ {
			t, failure = g.step(in, parent, st, t+g.duration(ms/5))
		}
		end = max(end, t)
		if failure != "" && !st.Optional && broken == "" {
			broken = failure
		}
		if broken != "" && (i+1 == len(steps) || !steps[i+1].Parallel) {
			return end, broken
		}
	}
	return end, ""
}

func (g *Generator) step(in *instance, parent spanID, st *Step, start int64) (end int64, failure string) {
	switch {
	case st.Service != "":
		return g.call(in, parent, st, start)
	case st.External != "":
		return g.callExternal(in, parent, st, start)
	case st.Database != "":
		return g.query(in, parent, st, start)
	case st.Topic != "":
		return g.publish(in, parent, st, start)
	}
	id := g.newID()
	own := g.duration(2 * ms)
	end, failure = g.steps(in, id, st.Steps, start+own/2)
	end += own - own/2
	sp := g.newSpan(in, id, parent, kindInternal, start, end)
	sp.name = st.Internal
	if failure != "" {
		sp.status, sp.message = statusError, failure
	}
	g.emit(in, sp, end)
	return end, failure
}

// attempts repeats a call as the step allows, with a backoff, and returns when it
// is over and whether the last attempt failed. Of a failure that no retry makes
// better there is no other attempt.
func (g *Generator) attempts(st *Step, storm bool, start int64, try func(start int64, attempt int, last func(failure, final bool) bool) (end int64, failure, final bool)) (int64, bool) {
	most := max(1, st.Attempts)
	backoff := 30 * ms
	if st.Backoff > 0 {
		backoff = st.Backoff
	}
	if storm {
		most, backoff = max(most, 4), 2*ms
	}
	for attempt := 0; ; attempt++ {
		last := func(failure, final bool) bool { return !failure || final || attempt+1 == most }
		end, failure, final := try(start, attempt, last)
		if last(failure, final) {
			return end, failure
		}
		start = end + int64(backoff)
		if !st.Fixed {
			start = end + g.duration(backoff)
		}
	}
}

// call plays a logical call of another service.
func (g *Generator) call(in *instance, parent spanID, st *Step, start int64) (int64, string) {
	callee := g.services[st.Service]
	op := callee.op(st.Op)
	storm := g.script.on(RetryStorm, callee.Node(), start)
	try := func(start int64, attempt int, last func(failure, final bool) bool) (int64, bool, bool) {
		c := call{edge: Edge{in.svc.Node(), callee.Node(), callee.protocol()}, server: -1, clientWeight: 1, serverWeight: 1, retry: attempt > 0}
		id := g.newID()
		to := g.choose(callee, start)
		seen := clientView{host: callee.host(), peer: to.ip, grpc: callee.GRPC, op: op.Name, attempt: attempt}
		var end int64
		if seen.refusal, c.failed = g.refused(in, callee.Node(), start); c.failed {
			end = start + g.duration(refusals[seen.refusal].after)
		} else {
			serverStart := start + g.duration(ms/2)
			serverEnd, out := g.serve(request{svc: callee, op: op, in: to, start: serverStart, parent: id, peer: in.ip})
			end = serverEnd + g.duration(ms/2)
			c.server = serverEnd - serverStart
			seen.result = out
			if limit := int64(st.Timeout); limit > 0 && end-start > limit {
				end = start + limit
				seen.timeout = true
			}
			seen.lost = out == succeeded && !seen.timeout && g.script.on(LostAnswers, callee.Node(), start) && g.rng.Float64() < 0.3
			c.failed = seen.failed()
		}
		final := seen.result == unauthorized
		c.client, c.last = end-start, last(c.failed, final)
		g.count(c)
		sp := g.newSpan(in, id, parent, kindClient, start, end)
		in.svc.describeClient(sp, seen)
		g.emit(in, sp, end)
		return end, c.failed, final
	}
	end, broken := g.attempts(st, storm, start, try)
	if hedge := int64(st.Hedge); hedge > 0 && end-start > hedge {
		// Whichever attempt is good first counts; the other one runs on.
		other, failure, _ := try(start+hedge, 1, func(bool, bool) bool { return true })
		if broken || !failure && other < end {
			end, broken = other, failure
		}
	}
	if broken {
		return end, callee.Name + " failed"
	}
	return end, ""
}

// refused returns what keeps a call to the target from it, if anything does.
func (g *Generator) refused(in *instance, target string, at int64) (FaultKind, bool) {
	if in.index == 0 && g.script.on(BadCaller, in.svc.Node(), at) && g.rng.Float64() < 0.5 {
		return ServiceDown, true
	}
	kind, ok := g.script.refuses(target, at)
	if ok && refusals[kind].share < 1 && g.rng.Float64() >= refusals[kind].share {
		return "", false
	}
	return kind, ok
}

// failed reports whether the call counts as failed on its edge.
func (c *clientView) failed() bool {
	if c.timeout || c.lost || c.refusal != "" {
		return true
	}
	switch c.result {
	case failed, throttled, unauthorized:
		return true
	case unsupported:
		return c.grpc // over HTTP a 4xx is the caller's mistake
	}
	return false
}

// callExternal plays a logical call of somebody else's API, which sends no spans.
func (g *Generator) callExternal(in *instance, parent spanID, st *Step, start int64) (int64, string) {
	x := g.externals[st.External]
	end, broken := g.attempts(st, false, start, func(start int64, attempt int, last func(failure, final bool) bool) (int64, bool, bool) {
		c := call{edge: Edge{in.svc.Node(), x.Node(), "http"}, server: -1, clientWeight: 1, retry: attempt > 0}
		seen := clientView{host: x.Host, peer: "198.51.100.20", external: true, op: st.Op, attempt: attempt}
		end := start + g.duration(x.Own)
		seen.refusal, c.failed = g.refused(in, x.Node(), start)
		switch {
		case c.failed:
			end = start + g.duration(3*refusals[seen.refusal].after)
		case st.Timeout > 0 && end-start > int64(st.Timeout):
			end = start + int64(st.Timeout)
			seen.timeout, c.failed = true, true
		case g.rng.Float64() < 0.002:
			seen.result, c.failed = failed, true
		}
		c.client, c.last = end-start, last(c.failed, false)
		g.count(c)
		sp := g.newSpan(in, g.newID(), parent, kindClient, start, end)
		in.svc.describeClient(sp, seen)
		g.emit(in, sp, end)
		return end, c.failed, false
	})
	if broken {
		return end, x.Host + " failed"
	}
	return end, ""
}

// query plays a database query.
func (g *Generator) query(in *instance, parent spanID, st *Step, start int64) (int64, string) {
	db := g.databases[st.Database]
	const limit = 2 * time.Second
	own := db.Own
	if g.script.on(SlowDatabase, db.Node(), start) {
		own *= 40
		if g.rng.Float64() < 0.05 { // behind a lock
			own = 3 * limit
		}
	}
	end := start + g.duration(own)
	failure := ""
	switch {
	case end-start > int64(limit):
		end, failure = start+int64(limit), "timeout"
	case g.rng.Float64() < 0.0003:
		failure = "connection reset"
	}
	g.count(call{
		edge: Edge{in.svc.Node(), db.Node(), "db"}, client: end - start, server: -1, clientWeight: 1,
		failed: failure != "", last: true,
	})
	sp := g.newSpan(in, g.newID(), parent, kindClient, start, end)
	in.svc.describeQuery(sp, db, st, failure)
	g.emit(in, sp, end)
	if failure != "" {
		return end, st.Database + ": " + failure
	}
	return end, ""
}

// publish plays a message and everything that its consumers do with it.
func (g *Generator) publish(in *instance, parent spanID, st *Step, start int64) (int64, string) {
	topic := g.topics[st.Topic]
	end := start + g.duration(3*ms)
	g.count(call{
		edge: Edge{in.svc.Node(), topic.Node(), "messaging"}, client: end - start, server: -1, clientWeight: 1, last: true,
	})
	id := g.newID()
	sp := g.newSpan(in, id, parent, kindProducer, start, end)
	in.svc.describeProducer(sp, topic, g.rng.Int64N(6))
	g.emit(in, sp, end)

	producing := g.trace
	for _, c := range g.consumers[topic.Name] {
		begin := end + g.duration(topic.Lag) + g.script.lag(topic.Node(), end)
		r := request{svc: c.service, op: c.op, in: g.choose(c.service, begin), start: begin, parent: id, topic: topic}
		if c.op.Linked {
			r.parent, r.links = spanID{}, []link{{g.trace, id}}
			g.newTrace()
		}
		deliveries := 1
		if g.script.on(Redelivery, topic.Node(), begin) && g.rng.IntN(3) == 0 {
			deliveries = 2
		}
		for range deliveries {
			done, out := g.serve(r)
			g.count(call{
				edge: Edge{topic.Node(), c.service.Node(), "messaging"}, client: -1, server: done - r.start, serverWeight: 1,
				failed: out == failed, last: true,
			})
			r.start = done + g.duration(20*ms)
		}
		g.trace = producing
	}
	return end, ""
}

// newSpan returns a span of the instance, by the instance's own clock.
func (g *Generator) newSpan(in *instance, id, parent spanID, kind uint64, start, end int64) *span {
	return &span{
		trace: g.trace, id: id, parent: parent, flags: flagSampled | flagHasRemote,
		kind: kind, start: start + in.skew, end: end + in.skew,
	}
}

func (g *Generator) emit(in *instance, sp *span, end int64) {
	in.pending = append(in.pending, dueSpan{end, sp})
}
