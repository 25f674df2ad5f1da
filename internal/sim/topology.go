package sim

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Topology is a system to simulate: who exists, what each operation does, and
// what users ask for. Names refer to each other within it; [NewGenerator] checks
// them.
type Topology struct {
	Environment string
	Services    []Service
	Databases   []Database
	Topics      []Topic
	Externals   []External
	Entries     []Entry
}

// Service is a program that runs as several instances.
type Service struct {
	Name      string
	Namespace string // service.namespace; "" for a service that does not send one
	Host      string // the address that callers use; Name if empty
	Language  string // telemetry.sdk.language
	Version   string // major.minor.patch
	Canary    string // version of the last instance; "" if it is Version too
	Critical  string // service.criticality; "" for a service that does not send one
	Instances int
	Hosts     int  // that the instances share, one after the other; 0: each has its own
	Workers   int  // calls that an instance works on at once: what is more waits in line; 0: no limit
	Headers   bool // its callers' spans have the headers of its answers, as SDKs do when told to
	GRPC      bool // serves gRPC; otherwise HTTP
	Old       bool // sends the semantic conventions of 2022
	Ops       []Operation
}

// Node returns the service's id on the map.
func (s *Service) Node() string {
	if s.Namespace == "" {
		return s.Name
	}
	return s.Namespace + "/" + s.Name
}

func (s *Service) host() string {
	if s.Host == "" {
		return s.Name
	}
	return s.Host
}

func (s *Service) protocol() string {
	if s.GRPC {
		return "grpc"
	}
	return "http"
}

// Operation is something that a service does when it is asked.
type Operation struct {
	Name     string        // "GET /products/{id}", or "shop.v1.Payment/Charge", or anything for a consumer
	Own      time.Duration // median time in the service's own code
	NotFound float64       // share of calls that ask for what is not there
	Steps    []Step
	// A consumer's operation names the topic it reads and its group. It continues
	// the producer's trace, or, if Linked, starts its own with a link to it.
	Topic  string
	Group  string
	Linked bool
}

// Step is one thing that an operation does. Exactly one of Service, Database,
// Topic, External and Internal is set.
type Step struct {
	Service  string // with Op: call that operation
	Database string // with Op, the command, and Collection: a query
	Topic    string // publish a message
	External string // with Op, "POST /path": call somebody else's API
	Internal string // an INTERNAL span around Steps

	Op         string
	Collection string
	Steps      []Step
	Chance     float64       // 0 means always
	Attempts   int           // at most; 0 means 1
	Timeout    time.Duration // the caller gives up after it; 0 means never
	Optional   bool          // a failure does not fail the operation
	Parallel   bool          // starts together with the step before
	Repeat     int           // how often, one after the other; 0 means once
	Backoff    time.Duration // median wait before the next attempt; 0 means 30 ms
	Fixed      bool          // the wait before the next attempt is always the same
	Hedge      time.Duration // a second attempt starts when the first has no answer after it; 0 means never
}

// Database is a database or a cache; it sends no spans itself.
type Database struct {
	Name      string // within the topology
	System    string // db.system.name
	Namespace string
	Host      string
	Port      int64
	Own       time.Duration // median time of a query
}

// Node returns the database's id on the map.
func (d *Database) Node() string {
	id := "db:" + d.System
	if d.Namespace != "" {
		id += "/" + d.Namespace
	}
	id += "@" + d.Host
	if d.Port != defaultPorts[d.System] {
		id += ":" + strconv.FormatInt(d.Port, 10)
	}
	return id
}

var defaultPorts = map[string]int64{
	"postgresql": 5432, "mysql": 3306, "redis": 6379, "mongodb": 27017, "elasticsearch": 9200,
}

// Topic is a queue.
type Topic struct {
	System string // messaging.system
	Name   string
	Lag    time.Duration // median time that a message waits
}

// Node returns the topic's id on the map.
func (t *Topic) Node() string { return "queue:" + t.System + "/" + t.Name }

// External is somebody else's API.
type External struct {
	Host string
	Own  time.Duration // median time of a call
}

// Node returns the external host's id on the map.
func (x *External) Node() string { return "ext:" + x.Host }

// Entry is a share of what users ask for.
type Entry struct {
	Service, Op string
	Weight      float64
}

// check resolves every name of the topology once.
func (t *Topology) check() error {
	if len(t.Entries) == 0 {
		return fmt.Errorf("no entries")
	}
	services := map[string]*Service{}
	for i := range t.Services {
		s := &t.Services[i]
		if services[s.Name] != nil {
			return fmt.Errorf("service %s is there twice", s.Name)
		}
		if s.Instances < 1 {
			return fmt.Errorf("service %s has no instances", s.Name)
		}
		services[s.Name] = s
	}
	others := map[string]bool{}
	for _, d := range t.Databases {
		others["database "+d.Name] = true
	}
	for _, q := range t.Topics {
		others["topic "+q.Name] = true
	}
	for _, x := range t.Externals {
		others["external "+x.Host] = true
	}
	exists := func(service, op string) error {
		s := services[service]
		if s == nil {
			return fmt.Errorf("no service %s", service)
		}
		if s.op(op) == nil {
			return fmt.Errorf("service %s has no operation %q", service, op)
		}
		return nil
	}
	for _, e := range t.Entries {
		if err := exists(e.Service, e.Op); err != nil {
			return fmt.Errorf("entry: %w", err)
		}
		if services[e.Service].GRPC {
			return fmt.Errorf("entry: %s does not serve HTTP", e.Service)
		}
	}
	var checkSteps func(steps []Step) error
	checkSteps = func(steps []Step) error {
		for _, st := range steps {
			switch {
			case st.Service != "":
				if err := exists(st.Service, st.Op); err != nil {
					return err
				}
			case st.Internal != "":
				if err := checkSteps(st.Steps); err != nil {
					return err
				}
			case !others["database "+st.Database] && !others["topic "+st.Topic] && !others["external "+st.External]:
				return fmt.Errorf("step %+v goes nowhere", st)
			}
		}
		return nil
	}
	for i := range t.Services {
		for _, op := range t.Services[i].Ops {
			if op.Topic != "" && !others["topic "+op.Topic] {
				return fmt.Errorf("service %s, operation %q: no topic %s", t.Services[i].Name, op.Name, op.Topic)
			}
			if err := checkSteps(op.Steps); err != nil {
				return fmt.Errorf("service %s, operation %q: %w", t.Services[i].Name, op.Name, err)
			}
		}
	}
	return t.checkCycles(services)
}

// checkCycles refuses operations that call themselves: playing them would not
// end.
func (t *Topology) checkCycles(services map[string]*Service) error {
	type place struct{ service, op string }
	state := map[place]int{}
	const playing, done = 1, 2
	var visit func(p place) error
	var visitSteps func(steps []Step) error
	visitSteps = func(steps []Step) error {
		for _, st := range steps {
			if err := visitSteps(st.Steps); err != nil {
				return err
			}
			if st.Service != "" {
				if err := visit(place{st.Service, st.Op}); err != nil {
					return err
				}
			}
			for i := range t.Services {
				for _, op := range t.Services[i].Ops {
					if st.Topic != "" && op.Topic == st.Topic {
						if err := visit(place{t.Services[i].Name, op.Name}); err != nil {
							return err
						}
					}
				}
			}
		}
		return nil
	}
	visit = func(p place) error {
		switch state[p] {
		case playing:
			return fmt.Errorf("service %s, operation %q: calls itself", p.service, p.op)
		case done:
			return nil
		}
		state[p] = playing
		if err := visitSteps(services[p.service].op(p.op).Steps); err != nil {
			return err
		}
		state[p] = done
		return nil
	}
	for i := range t.Services {
		for _, op := range t.Services[i].Ops {
			if err := visit(place{t.Services[i].Name, op.Name}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Service) op(name string) *Operation {
	for i := range s.Ops {
		if s.Ops[i].Name == name {
			return &s.Ops[i]
		}
	}
	return nil
}

// methodAndPath splits "GET /path".
func methodAndPath(op string) (method, path string) {
	method, path, _ = strings.Cut(op, " ")
	return method, path
}
