package sim

import "time"

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

// onlyOrders makes orders all that users of a small system ask for.
func onlyOrders(t *Topology) *Topology {
	t.Entries = []Entry{{"web", "POST /orders", 1}}
	return t
}

// crowded makes a small system in which the store takes its time, for no more calls at once than it has workers, and
// everybody waits for it.
func crowded() *Topology {
	t := smallSystem(func(web, api, store, _ *Service) {
		store.Instances, store.Workers = 2, 2
		for i := range store.Ops {
			store.Ops[i].Own = time.Second
			web.Ops[i].Steps[0].Timeout, api.Ops[i].Steps[0].Timeout, api.Ops[i].Steps[0].Attempts = 0, 0, 1
		}
	})
	t.Entries = t.Entries[:1]
	return t
}
