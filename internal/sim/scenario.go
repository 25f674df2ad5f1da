package sim

import "time"

// Scenario is a small system in which one thing goes wrong, and what must be
// found there, by name.
type Scenario struct {
	Name     string
	Topology *Topology
	Faults   []Fault
	Rate     float64       // user requests per second
	For      time.Duration // how long it is played
	Skew     time.Duration
	Must     []Named
	// May are rules that may be found as well, anywhere: what follows from what
	// goes wrong. What is in neither must not be found.
	May []string
}

// Named is something that goes wrong: a rule on an edge, or of a node where
// Source is empty.
type Named struct {
	Rule, Source, Target string
	Subject              string // "" if the rule has none, or it cannot be known beforehand
}

// smallSystem returns the system that the scenarios begin with: users, a gateway, an
// API behind it that asks a store of things and takes orders, a database, a queue
// and its worker. change may make it another one.
func smallSystem(change func(web, api, store, worker *Service)) *Topology {
	t := &Topology{
		Environment: "test",
		Entries:     []Entry{{"web", "GET /things", 4}, {"web", "POST /orders", 1}},
		Databases:   []Database{{Name: "things", System: "postgresql", Namespace: "things", Host: "things-db", Port: 5432, Own: 2 * ms}},
		Topics: []Topic{
			{System: "kafka", Name: "orders", Lag: 20 * ms},
			{System: "kafka", Name: "orders.DLT", Lag: 20 * ms},
		},
		Externals: []External{{Host: "api.example.com", Own: 40 * ms}},
		Services: []Service{
			{Name: "web", Language: "nodejs", Version: "1.0.0", Instances: 3, Ops: []Operation{
				{Name: "GET /things", Own: 2 * ms, Steps: []Step{{Service: "api", Op: "GET /api/things", Timeout: 5 * time.Second}}},
				{Name: "POST /orders", Own: 2 * ms, Steps: []Step{{Service: "api", Op: "POST /api/orders", Timeout: 5 * time.Second}}},
			}},
			{Name: "api", Language: "go", Version: "2.0.0", Instances: 3, Ops: []Operation{
				{Name: "GET /api/things", Own: 2 * ms, Steps: []Step{{Service: "store", Op: "test.Store/List", Attempts: 2, Timeout: 2 * time.Second}}},
				{Name: "POST /api/orders", Own: 2 * ms, Steps: []Step{
					{Service: "store", Op: "test.Store/Take", Timeout: 2 * time.Second},
					{Topic: "orders"},
				}},
			}},
			{Name: "store", Language: "java", Version: "3.0.0", Instances: 6, GRPC: true, Ops: []Operation{
				{Name: "test.Store/List", Own: 3 * ms, Steps: []Step{{Database: "things", Op: "SELECT", Collection: "things"}}},
				{Name: "test.Store/Take", Own: 3 * ms, Steps: []Step{{Database: "things", Op: "UPDATE", Collection: "things"}}},
			}},
			{Name: "worker", Language: "java", Version: "1.0.0", Instances: 2, Ops: []Operation{
				{Name: "process orders", Topic: "orders", Group: "fulfilment", Own: 5 * ms},
			}},
		},
	}
	if change != nil {
		s := t.Services
		change(&s[0], &s[1], &s[2], &s[3])
	}
	return t
}

// chain makes a topology in which one service calls the next, n deep.
func chain(n int) *Topology {
	t := &Topology{Environment: "test", Entries: []Entry{{"s1", "GET /1", 1}}}
	name := func(prefix string, i int) string { return prefix + string(rune('0'+i)) }
	for i := 1; i <= n; i++ {
		op := Operation{Name: name("GET /", i), Own: ms}
		if i < n {
			op.Steps = []Step{{Service: name("s", i+1), Op: name("GET /", i+1), Timeout: 5 * time.Second}}
		}
		t.Services = append(t.Services, Service{Name: name("s", i), Language: "go", Version: "1.0.0", Instances: 2, Ops: []Operation{op}})
	}
	return t
}

// from is when the faults of the scenarios begin: before, all is well.
const from = 2 * time.Minute

// Scenarios returns one for each thing that can be named within minutes, and the
// healthy ones, in which nothing is.
func Scenarios() []Scenario {
	one := func(kind FaultKind, target string) []Fault { return []Fault{{kind, target, from, 6 * time.Minute}} }
	// What a failing callee is to those above it.
	failing := []string{"server_error", "unclassified", "retry_budget", "retries_do_not_help", "no_jitter", "bad_version", "bad_instance", "nested_retries", "no_backoff"}
	and := func(more ...string) []string { return append(append([]string{}, failing...), more...) }
	list := []Scenario{
		{Name: "healthy"},
		{Name: "healthy shop", Topology: Shop(), Rate: 30},
		{Name: "healthy, clocks off by minutes", Skew: 2 * time.Minute, May: []string{"clock_skew"}},
		{
			Name: "slow service", Faults: one(SlowService, "store"),
			Topology: smallSystem(func(_, api, _, _ *Service) {
				for i := range api.Ops {
					api.Ops[i].Steps[0].Timeout = 150 * ms
				}
			}),
			Must: []Named{{"timeout", "api", "store", ""}, {"wasted_work", "api", "store", ""}},
			May:  and("saturation"),
		},
		{
			Name: "the caller gives up first", Faults: one(SlowService, "store"),
			Topology: smallSystem(func(web, api, _, _ *Service) {
				for i := range api.Ops {
					web.Ops[i].Steps[0].Timeout = 200 * ms
					api.Ops[i].Steps[0].Timeout, api.Ops[i].Steps[0].Attempts = 150*ms, 2
				}
			}),
			Must: []Named{{"gives_up_first", "web", "api", ""}, {"timeout", "web", "api", ""}, {"timeout", "api", "store", ""}},
			May:  and("wasted_work", "saturation", "lost_response", "unsafe_retry"),
		},
		{
			Name: "retries at once", Faults: one(RetryStorm, "store"),
			Must: []Named{{"retry_budget", "api", "store", ""}, {"no_backoff", "api", "store", ""}, {"server_error", "api", "store", ""}},
			May:  failing,
		},
		{
			Name: "retries in step", Faults: one(RetryStorm, "api"), // the storm's own wait is short: this is about the one below
			Topology: smallSystem(func(_, api, _, _ *Service) {
				api.Ops[0].Steps[0] = Step{External: "api.example.com", Op: "GET /v1/things", Attempts: 3, Backoff: 100 * ms, Fixed: true, Timeout: 30 * ms}
			}),
			Must: []Named{{"no_jitter", "api", "ext:api.example.com", ""}, {"retry_budget", "api", "ext:api.example.com", ""}, {"timeout", "api", "ext:api.example.com", ""}},
			May:  and("timeout"),
		},
		{
			Name: "retries that do not help", Faults: one(ConnectionReset, "store"),
			Topology: smallSystem(func(_, api, _, _ *Service) {
				api.Ops[0].Steps[0] = Step{External: "api.example.com", Op: "GET /v1/things", Attempts: 3, Timeout: 12 * ms}
			}),
			Must: []Named{{"retries_do_not_help", "api", "ext:api.example.com", ""}, {"reset", "api", "store", ""}},
			May:  and("timeout"),
		},
		{
			Name: "retries of what must not be done twice", Faults: one(SlowService, "api"),
			Topology: smallSystem(func(web, _, _, _ *Service) {
				web.Ops[1].Steps[0].Attempts, web.Ops[1].Steps[0].Timeout = 2, 150*ms
			}),
			Must: []Named{{"unsafe_retry", "web", "api", ""}, {"timeout", "web", "api", ""}},
			May:  and("wasted_work", "saturation"),
		},
		{
			Name: "retries at two layers", Faults: one(ConnectionReset, "store"),
			Topology: smallSystem(func(web, api, _, _ *Service) {
				for i := range web.Ops {
					web.Ops[i].Steps[0].Attempts, api.Ops[i].Steps[0].Attempts = 3, 3
				}
			}),
			Must: []Named{{"nested_retries", "api", "store", ""}, {"reset", "api", "store", ""}},
			May:  failing,
		},
		{
			Name: "hedged calls", Faults: nil,
			Topology: smallSystem(func(_, api, _, _ *Service) { api.Ops[0].Steps[0].Hedge, api.Ops[0].Steps[0].Attempts = 6*ms, 1 }),
			Must:     []Named{{"hedging", "api", "store", ""}},
			May:      []string{"retry_budget"}, // until the first calls have waited, hedges cannot be told from retries
		},
		{Name: "service down", Faults: one(ServiceDown, "store"), Must: []Named{{"refused", "api", "store", ""}}, May: failing},
		{Name: "name not known", Faults: one(UnknownName, "store"), Must: []Named{{"unresolved", "api", "store", ""}}, May: failing},
		{Name: "expired certificate", Faults: one(ExpiredCertificate, "store"), Must: []Named{{"tls", "api", "store", "tls: expired certificate"}}, May: failing},
		{Name: "token expired", Faults: one(TokenExpired, "store"), Must: []Named{{"auth", "api", "store", ""}}, May: failing},
		{Name: "throttled", Faults: one(Throttling, "store"), Must: []Named{{"throttled", "api", "store", ""}}, May: failing},
		{Name: "breaker open", Faults: one(BreakerOpen, "store"), Must: []Named{{"breaker_open", "api", "store", ""}}, May: failing},
		{Name: "pool exhausted", Faults: one(PoolExhausted, "store"), Must: []Named{{"pool_exhausted", "api", "store", ""}}, May: failing},
		{Name: "connections reset", Faults: one(ConnectionReset, "store"), Must: []Named{{"reset", "api", "store", ""}}, May: failing},
		{Name: "lost answers", Faults: one(LostAnswers, "store"), Must: []Named{{"lost_response", "api", "store", ""}}, May: failing},
		{
			Name: "contract broken by a deploy", Faults: one(ContractBreak, "store"),
			Must: []Named{{"contract", "api", "store", ""}, {"deploy", "", "store", "3.1.0"}},
			May:  failing,
		},
		{Name: "bad instance", Faults: one(BadInstance, "store"), Must: []Named{{"bad_instance", "api", "store", ""}}, May: and("bad_host")},
		{Name: "bad zone", Faults: one(BadZone, "store"), Must: []Named{{"bad_zone", "api", "store", "eu-1a"}}, May: failing},
		{
			Name: "bad deploy", Faults: one(BadDeploy, "store"),
			Must: []Named{{"bad_version", "api", "store", "3.1.0"}, {"deploy", "", "store", "3.1.0"}},
			May:  failing,
		},
		{Name: "bad caller", Faults: one(BadCaller, "api"), Must: []Named{{"bad_caller", "api", "store", ""}}, May: and("refused", "bad_caller", "bad_host", "bad_zone")},
		{
			Name: "queue backlog", Faults: one(QueueBacklog, "queue:kafka/orders"),
			Must: []Named{{"queue_lag", "queue:kafka/orders", "worker", ""}},
			May:  []string{"backlog"},
		},
		{Name: "redelivery", Faults: one(Redelivery, "queue:kafka/orders"), Must: []Named{{"redelivery", "queue:kafka/orders", "worker", ""}}},
		{
			Name: "dead letters",
			Topology: smallSystem(func(_, _, _, worker *Service) {
				worker.Ops[0].Steps = []Step{{Topic: "orders.DLT", Chance: 0.1}}
			}),
			Must: []Named{{"dead_letters", "worker", "queue:kafka/orders.DLT", ""}},
		},
		{
			Name: "N+1 calls",
			Topology: smallSystem(func(_, _, store, _ *Service) {
				store.Ops[0].Steps[0].Repeat = 14
			}),
			Must: []Named{{"n_plus_one", "store", "db:postgresql/things@things-db", ""}},
		},
		{Name: "deep chain", Topology: chain(7), Must: []Named{{"deep_chain", "user", "s1", ""}}},
	}
	for i := range list {
		s := &list[i]
		if s.Topology == nil {
			s.Topology = smallSystem(nil)
		}
		if s.Rate == 0 {
			s.Rate = 25
		}
		s.For = from + 3*time.Minute + 30*time.Second
	}
	return list
}
