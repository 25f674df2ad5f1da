package sim

import (
	"slices"
	"strings"
	"time"
)

// Scenario is a small system in which one thing goes wrong, and what must be
// found there, by name.
type Scenario struct {
	Name     string
	Topology *Topology
	Faults   []Fault       // none where the system itself is what is wrong
	Rate     float64       // user requests per second
	For      time.Duration // how long it is played
	Skew     time.Duration
	Must     []Named
	// May are what may be found as well, because it is true: what follows from what goes wrong. What is in neither must
	// not be found.
	May []Named
	// Begins is the edge, as "source → target", on which the failures begin that those above it pass on, which are found
	// there too; "" where no failure is passed on.
	Begins string
	// Within is how soon after its beginning what goes wrong is found, Lingers how long after its end it may still be.
	Within, Lingers time.Duration
}

// Begin returns when it begins to go wrong; 0 when it does from the start.
func (s *Scenario) Begin() time.Duration {
	if len(s.Faults) == 0 {
		return 0
	}
	return s.Faults[0].At
}

// End returns when what went wrong ends, For when it does not.
func (s *Scenario) End() time.Duration {
	if len(s.Faults) == 0 {
		return s.For
	}
	return s.Faults[0].At + s.Faults[0].For
}

// Named is something that goes wrong: a rule on an edge, or of a node where
// Source is empty.
type Named struct {
	Rule, Source, Target string
	Subject              string // "" if the rule has none, or it cannot be known beforehand
}

// String returns the name as "rule source → target (subject)".
func (n Named) String() string {
	s := n.Rule + " " + n.Target
	if n.Source != "" {
		s = n.Rule + " " + n.Source + " → " + n.Target
	}
	if n.Subject != "" {
		s += " (" + n.Subject + ")"
	}
	return s
}

// Compare orders names.
func (n Named) Compare(o Named) int { return strings.Compare(n.String(), o.String()) }

// Is reports whether n is what another name is of, whose subject may not be known.
func (n Named) Is(of Named) bool {
	return n.Rule == of.Rule && n.Source == of.Source && n.Target == of.Target && (of.Subject == "" || n.Subject == of.Subject)
}

// on returns rules on one edge.
func on(source, target string, rules ...string) []Named {
	named := make([]Named, len(rules))
	for i, r := range rules {
		named[i] = Named{Rule: r, Source: source, Target: target}
	}
	return named
}

// about returns a rule on one edge about a part of it.
func about(rule, source, target, subject string) []Named {
	return []Named{{rule, source, target, subject}}
}

// The edges of a small system.
const (
	orders  = "queue:kafka/orders"
	letters = "queue:kafka/orders.DLT"
	things  = "db:postgresql/things@things-db"
	example = "ext:api.example.com"
)

// passedOn are the edges of a small system above the api: what they pass on is found on them too.
func passedOn() []Named {
	return append(on(user, "web", "server_error"), on("web", "api", "server_error")...)
}

const (
	// from is when the faults of most scenarios begin: before, all is well.
	from = 65 * time.Second
	// lasting is how long they last. They end soon after a minute began, which is when it takes longest to tell.
	lasting = 2 * time.Minute
)

// Scenarios returns one for each thing that can be named, and the healthy ones, in which nothing is.
func Scenarios() []Scenario {
	list := slices.Concat(healthyOnes(), waitingOnes(), retryingOnes(), failingOnes(), partsOnes(), queueOnes(), shapeOnes())
	for i := range list {
		s := &list[i]
		if s.Topology == nil {
			s.Topology = smallSystem(nil)
		}
		setDefault(&s.Rate, 12)
		setDefault(&s.For, from+lasting+2*time.Minute)
		setDefault(&s.Within, time.Minute)
		setDefault(&s.Lingers, time.Minute)
	}
	return list
}

// one returns a fault as most scenarios have it.
func one(kind FaultKind, target string) []Fault { return []Fault{{kind, target, from, lasting}} }

func healthyOnes() []Scenario {
	return []Scenario{
		{Name: "healthy", For: 6 * time.Minute},
		{Name: "healthy shop", Topology: Shop(), Rate: 10, For: 4 * time.Minute},
		{Name: "healthy, clocks off by minutes", Skew: 2 * time.Minute},
		{Name: "healthy, with little traffic", Rate: 1, For: 15 * time.Minute},
	}
}

func waitingOnes() []Scenario {
	return []Scenario{
		{
			Name: "slow service", Faults: one(SlowService, "store"),
			Topology: smallSystem(func(_, api, _, _ *Service) {
				for i := range api.Ops {
					api.Ops[i].Steps[0].Timeout = 150 * ms
				}
			}),
			Must:   on("api", "store", "timeout", "wasted_work"),
			May:    slices.Concat(on("api", "store", "retry_budget"), passedOn()),
			Begins: "api → store",
		},
		{
			Name: "the caller gives up first", Faults: one(SlowService, "store"),
			Topology: smallSystem(func(web, api, _, _ *Service) {
				for i := range api.Ops {
					web.Ops[i].Steps[0].Timeout = 200 * ms
					api.Ops[i].Steps[0].Timeout, api.Ops[i].Steps[0].Attempts = 150*ms, 2
				}
			}),
			Must:   slices.Concat(about("gives_up_first", "web", "api", "store"), on("web", "api", "timeout", "wasted_work"), on("api", "store", "timeout", "wasted_work")),
			May:    slices.Concat(on("api", "store", "retry_budget"), on(user, "web", "server_error")),
			Begins: "web → api",
		},
		{
			Name: "calls that wait for ever", Topology: onlyOrders(smallSystem(func(_, _, _, worker *Service) {
				worker.Ops[0].Steps = []Step{{External: "api.example.com", Op: "POST /v1/things"}}
			})),
			Faults: one(StuckCalls, example), Rate: 15,
			Must:   on("worker", example, "no_timeout"),
			Within: 2 * time.Minute, Lingers: time.Hour,
		},
		{
			Name: "more than it can take", Topology: crowded(), Rate: 1.6,
			Faults: []Fault{{TrafficSurge, user, 33 * time.Minute, 4 * time.Minute}}, For: 40 * time.Minute,
			Must:   on("api", "store", "saturation"),
			Within: 4 * time.Minute, Lingers: 2 * time.Minute,
		},
	}
}

func retryingOnes() []Scenario {
	return []Scenario{
		{
			Name: "retries at once", Faults: one(RetryStorm, "store"),
			Must:   on("api", "store", "retry_budget", "no_backoff", "server_error"),
			May:    passedOn(),
			Begins: "api → store",
		},
		{
			Name: "retries in step", For: 2 * time.Minute,
			Topology: smallSystem(func(_, api, _, _ *Service) {
				api.Ops[0].Steps[0] = Step{External: "api.example.com", Op: "GET /v1/things", Attempts: 3, Backoff: 100 * ms, Fixed: true, Timeout: 30 * ms}
			}),
			Must:   on("api", example, "no_jitter", "no_backoff", "retry_budget", "timeout"),
			May:    passedOn(),
			Begins: "api → " + example,
		},
		{
			Name: "retries that do not help", For: 2 * time.Minute,
			Topology: smallSystem(func(_, api, _, _ *Service) {
				api.Ops[0].Steps[0] = Step{External: "api.example.com", Op: "GET /v1/things", Attempts: 3, Timeout: 12 * ms}
			}),
			Must:   on("api", example, "retries_do_not_help", "retry_budget", "no_backoff", "timeout"), // the waits do not grow
			May:    passedOn(),
			Begins: "api → " + example,
		},
		{
			Name: "retries of what must not be done twice", Faults: one(SlowService, "api"),
			Topology: smallSystem(func(web, _, _, _ *Service) {
				web.Ops[1].Steps[0].Attempts, web.Ops[1].Steps[0].Timeout = 2, 150*ms
			}),
			Must:   on("web", "api", "unsafe_retry", "timeout"),
			May:    on(user, "web", "server_error"),
			Begins: "web → api",
		},
		{
			Name: "retries although the callee asked to wait", Faults: one(Throttling, "api"),
			Topology: smallSystem(func(web, api, _, _ *Service) {
				api.Headers = true
				for i := range web.Ops {
					web.Ops[i].Steps[0].Attempts = 2
				}
			}),
			Must:   slices.Concat(on("web", "api", "pushback_ignored", "retry_budget"), about("throttled", "web", "api", "throttled: rate limit")),
			May:    on(user, "web", "server_error"),
			Begins: "web → api",
		},
		{
			Name: "retries at two layers", Faults: one(ConnectionReset, "store"),
			Topology: smallSystem(func(web, api, _, _ *Service) {
				for i := range web.Ops {
					web.Ops[i].Steps[0].Attempts, api.Ops[i].Steps[0].Attempts = 3, 3
				}
			}),
			Must:   on("api", "store", "nested_retries", "reset", "retry_budget", "no_backoff"), // the waits do not grow
			May:    on("web", "api", "server_error"),
			Begins: "api → store",
		},
		{
			Name: "hedged calls", For: 3 * time.Minute,
			Topology: smallSystem(func(_, api, _, _ *Service) { api.Ops[0].Steps[0].Hedge, api.Ops[0].Steps[0].Attempts = 6*ms, 1 }),
			Must:     on("api", "store", "hedging"),
		},
	}
}

// failingOnes are those in which calls of the store fail in one class, or those of its database, which are retried once.
func failingOnes() []Scenario {
	again, useless := on("api", "store", "retry_budget"), on("api", "store", "retry_budget", "retries_do_not_help")
	list := []Scenario{
		{Name: "service down", Faults: one(ServiceDown, "store"), Must: on("api", "store", "refused"), May: useless},
		{Name: "service down, with little traffic", Rate: 1, Faults: one(ServiceDown, "store"), Must: on("api", "store", "refused"), May: useless},
		{Name: "name not known", Faults: one(UnknownName, "store"), Must: on("api", "store", "unresolved"), May: useless},
		{Name: "expired certificate", Faults: one(ExpiredCertificate, "store"), Must: about("tls", "api", "store", "tls: expired certificate"), May: useless},
		{Name: "token expired", Faults: one(TokenExpired, "store"), Must: about("auth", "api", "store", "auth: not authenticated")},
		{Name: "throttled", Faults: one(Throttling, "store"), Must: on("api", "store", "throttled"), May: again},
		{Name: "breaker open", Faults: one(BreakerOpen, "store"), Must: on("api", "store", "breaker_open"), May: useless},
		{Name: "pool exhausted", Faults: one(PoolExhausted, "store"), Must: about("pool_exhausted", "api", "store", "pool_exhausted: no connection"), May: again},
		{Name: "connections reset", Faults: one(ConnectionReset, "store"), Must: on("api", "store", "reset"), May: again},
		{Name: "lost answers", Faults: one(LostAnswers, "store"), Must: on("api", "store", "lost_response"), May: again},
		{
			Name: "contract broken by a deploy", Faults: one(ContractBreak, "store"), Lingers: deployTold,
			Must: slices.Concat(about("contract", "api", "store", "contract: unimplemented"), about("bad_version", "api", "store", "3.1.0"), about("deploy", "", "store", "3.1.0")),
			May:  again,
		},
	}
	for i := range list {
		list[i].May, list[i].Begins = append(passedOn(), list[i].May...), "api → store"
	}
	return append(list,
		Scenario{
			Name: "HTTP contract broken by a deploy", Faults: one(ContractBreak, "api"), Lingers: deployTold,
			Must: slices.Concat(about("contract", "web", "api", "2.1.0"), about("deploy", "", "api", "2.1.0")),
		},
		Scenario{
			Name: "failures that say nothing", Faults: one(FailingQueries, things),
			Must:   on("store", things, "unclassified"),
			May:    slices.Concat(on("api", "store", "server_error"), again, passedOn()),
			Begins: "store → " + things,
		},
	)
}

// deployTold is how long a deploy is told.
const deployTold = 10 * time.Minute

func partsOnes() []Scenario {
	list := []Scenario{
		{Name: "bad instance", Faults: one(BadInstance, "store"), Must: on("api", "store", "bad_instance")},
		{Name: "bad zone", Faults: one(BadZone, "store"), Must: about("bad_zone", "api", "store", "eu-1a")},
		{
			Name: "bad host", Faults: one(BadHost, "store"),
			Topology: smallSystem(func(_, _, store, _ *Service) { store.Instances, store.Hosts = 12, 6 }),
			Must:     about("bad_host", "api", "store", "store-node-0"),
		},
		{
			Name: "bad deploy", Faults: one(BadDeploy, "store"), Lingers: deployTold,
			Must: slices.Concat(about("bad_version", "api", "store", "3.1.0"), about("deploy", "", "store", "3.1.0")),
		},
	}
	for i := range list {
		list[i].May, list[i].Begins = slices.Concat(on("api", "store", "server_error"), passedOn()), "api → store"
	}
	return append(list,
		Scenario{Name: "slow instance", Faults: one(SlowInstance, "store"), Within: 90 * time.Second, Lingers: 2 * time.Minute, Must: on("api", "store", "bad_instance")},
		Scenario{
			Name: "bad caller", Faults: one(BadCaller, "api"),
			Must:   on("api", "store", "bad_caller", "refused"),
			May:    slices.Concat(on("api", "store", "retry_budget"), on("web", "api", "bad_instance"), passedOn()), // it is the instance of which web sees failures
			Begins: "api → store",
		},
	)
}

func queueOnes() []Scenario {
	return []Scenario{
		{
			Name: "queue backlog", Topology: onlyOrders(smallSystem(nil)), Rate: 5, For: 16 * time.Minute,
			Faults: []Fault{{QueueBacklog, orders, 3 * time.Minute, 7 * time.Minute}},
			Must:   slices.Concat(on(orders, "worker", "queue_lag"), about("backlog", orders, "worker", "fulfilment")),
			Within: 7 * time.Minute, Lingers: 6 * time.Minute, // until it is worked off
		},
		{Name: "redelivery", Faults: one(Redelivery, orders), Must: on(orders, "worker", "redelivery"), Lingers: 2 * time.Minute},
		{
			Name: "dead letters", For: 3 * time.Minute,
			Topology: smallSystem(func(_, _, _, worker *Service) { worker.Ops[0].Steps = []Step{{Topic: "orders.DLT", Chance: 0.1}} }),
			Must:     on("worker", letters, "dead_letters"),
		},
	}
}

func shapeOnes() []Scenario {
	return []Scenario{
		{
			Name: "N+1 calls", For: 2 * time.Minute, Rate: 10,
			Topology: smallSystem(func(_, _, store, _ *Service) { store.Ops[0].Steps[0].Repeat = 14 }),
			Must:     on("store", things, "n_plus_one"),
		},
		{Name: "deep chain", Topology: chain(7), For: 2 * time.Minute, Rate: 10, Must: on(user, "s1", "deep_chain")},
	}
}
