package sim

import (
	"errors"
	"fmt"
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
	case SlowDatabase, FailingQueries:
		return slices.ContainsFunc(t.Databases, func(d Database) bool { return d.Node() == target })
	case QueueBacklog, Redelivery:
		return slices.ContainsFunc(t.Topics, func(q Topic) bool { return q.Node() == target })
	case ExpiredCertificate, ServiceDown, UnknownName:
		return isService || slices.ContainsFunc(t.Externals, func(x External) bool { return x.Node() == target })
	case StuckCalls:
		return slices.ContainsFunc(t.Externals, func(x External) bool { return x.Node() == target })
	case TrafficSurge:
		return target == user
	case BadInstance, SlowInstance, BadHost, RetryStorm, BadDeploy, SlowService, BadZone, BadCaller, ContractBreak,
		ConnectionReset, BreakerOpen, PoolExhausted, LostAnswers, Throttling, TokenExpired:
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
