package ingest

import (
	"bytes"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"faultline/graph"
	"faultline/ingest/otlpwire"
	"faultline/internal/rules"
)

// Limits of names. What exceeds them is gathered in "(other)".
const (
	maxResources  = 50_000 // distinct resources, that is processes, that are remembered
	maxOperations = 1_000  // per service
	maxPeers      = 4_000  // distinct peers per service
	maxEnvs       = 100    // environments
)

// service is one service of one environment, and the names that its spans use.
type service struct {
	ref  graph.NodeRef
	node graph.Node
	// Who calls it when no span says: of its environment.
	user, ingress, unknown graph.NodeRef

	policy     atomic.Pointer[policy]  // nil where the rules say nothing of it
	used       atomic.Uint32           // minute of the last use
	called     atomic.Bool             // since the last sweep, by its name alone
	meanWeight atomic.Int32            // of the spans that it served lately, in units of 1/servedScale
	sends      atomic.Bool             // spans of its own, not a proxy's
	serves     atomic.Uint32           // by which protocols: a bit of each
	proxy      atomic.Pointer[proxied] // what is known of proxies of this name
	spaces     []string                // the k8s.namespace.name of its processes; the directory's mu guards it

	mu         sync.RWMutex
	operations map[string]*operation
	peers      map[string]*peer

	evidence evidence
}

type operation struct {
	label   graph.Label
	entry   atomic.Uint32 // the label of the service and the operation together; 0 until it is asked for
	used    atomic.Uint32 // minute of the last use
	ignored bool          // by the rules
}

// resource is one process: what the bytes of its Resource message say.
type resource struct {
	raw      []byte
	service  *service
	instance graph.Label
	version  graph.Label
	zone     graph.Label
	host     graph.Label
	sdk      string // its language and version
	language string
	lacks    lack
	places   []placeKey
	envoy    bool                    // a proxy, by its name
	proxy    atomic.Pointer[proxied] // that of the first span of a proxy that came from it

	identities struct { // of the proxies whose spans came from it
		sync.RWMutex
		m map[string]*proxied
	}

	spans    atomic.Int64
	used     atomic.Uint32 // minute of the last use
	lastSeen atomic.Int64  // nanoseconds
}

// directory knows the resources and services. It is safe for concurrent use.
type directory struct {
	names *graph.Names
	seed  maphash.Seed

	mu        sync.RWMutex
	resources map[uint64]*resource
	services  map[graph.Node]*service
	byName    map[[2]string][]*service // environment, name → the services of that name in any namespace
	envs      map[string]int           // services of each environment
	retired   []retired
	places    map[placeKey][]*resource
	// generation counts what may tell whom a proxy stands beside.
	generation atomic.Int64
	refs       atomic.Pointer[[]atomic.Pointer[service]]

	topics    topicBook
	peers     peerTable
	aliases   aliasBook
	externals externals
	slots     slotBook
	critical  criticalityBook
	overflow  atomic.Int64

	rules atomic.Pointer[rules.Set]
	hides atomic.Bool // the rules may ignore services
}

func newDirectory(names *graph.Names) *directory {
	d := &directory{
		names: names, seed: maphash.MakeSeed(), resources: map[uint64]*resource{},
		services: map[graph.Node]*service{}, byName: map[[2]string][]*service{},
		envs: map[string]int{}, places: map[placeKey][]*resource{},
	}
	d.peers.init()
	d.aliases.m = map[aliasKey]*alias{}
	return d
}

// resource returns what a Resource message says, remembered by its bytes.
func (d *directory) resource(raw []byte, minute uint32) (*resource, error) {
	h := maphash.Bytes(d.seed, raw)
	d.mu.RLock()
	r := d.resources[h]
	d.mu.RUnlock()
	if r != nil && bytes.Equal(r.raw, raw) {
		if r.used.Load() != minute {
			r.used.Store(minute)
			r.service.used.Store(minute)
		}
		return r, nil
	}
	set := d.rules.Load()
	r, err := d.read(raw, set)
	if err != nil {
		return nil, err
	}
	r.used.Store(minute)
	r.service.used.Store(minute)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rules.Load() != set {
		return r, nil // the rules changed meanwhile: it is read by the new ones the next time
	}
	if have := d.resources[h]; have != nil {
		if bytes.Equal(have.raw, raw) {
			d.freeResource(r)
			return have, nil
		}
		return r, nil // two resources of one hash: the second is read every time
	}
	if len(d.resources) < maxResources {
		d.resources[h] = r
		d.place(r)
		d.generation.Add(1)
		return r, nil
	}
	// Beyond the limit processes are still told apart as services, but no longer as instances.
	d.overflow.Add(1)
	d.freeResource(r)
	r.instance, r.version, r.zone, r.host = 0, 0, 0, 0
	return r, nil
}

func (d *directory) freeOperation(o *operation) {
	d.names.FreeLabel(o.label)
	if l := o.entry.Load(); l != 0 {
		d.names.FreeLabel(graph.Label(l))
	}
}

func (d *directory) freeResource(r *resource) {
	for _, l := range [...]graph.Label{r.instance, r.version, r.zone, r.host} {
		if l != 0 {
			d.names.FreeLabel(l)
		}
	}
}

// process returns the resource as the live graph knows it. A sidecar is no process of its service; and as long as it is
// not known what a proxy stands beside, it is none at all.
func (d *directory) process(r *resource) (graph.Process, bool) {
	process := graph.Process{Node: r.service.ref, Instance: r.instance, Version: r.version, Zone: r.zone, Host: r.host}
	if p := r.proxy.Load(); p != nil {
		if s, settled := d.stands(p); !settled || s != p.own || s.sends.Load() {
			return process, false
		}
		process.Node, process.Gateway = p.own.ref, p.lone()
	}
	return process, true
}

// The resource attributes that are read, in the order in which they count.
var (
	envKeys      = []string{"deployment.environment.name", "deployment.environment"}
	fallbackKeys = []string{
		"k8s.deployment.name", "k8s.statefulset.name", "k8s.daemonset.name", "k8s.cronjob.name", "k8s.container.name",
		"faas.name", "container.name",
	}
	instanceKeys = []string{"service.instance.id", "k8s.pod.uid", "k8s.pod.name", "container.id", "host.id", "host.name"}
	versionKeys  = []string{"service.version", "container.image.tags"}
	zoneKeys     = []string{"cloud.availability_zone", "cloud.region"}
	hostKeys     = []string{"k8s.node.name", "host.name", "host.id"}
)

// read resolves a resource by its attributes.
func (d *directory) read(raw []byte, set *rules.Set) (*resource, error) {
	at := map[string]string{}
	err := otlpwire.Attributes(raw, func(key []byte, v otlpwire.Value) {
		if len(at) < 128 && len(key) <= 128 && len(v.Text) > 0 {
			at[string(key)] = graph.CleanName(string(v.Text))
		}
	})
	if err != nil {
		return nil, err
	}
	first := func(keys []string) string {
		for _, k := range keys {
			if s := at[k]; s != "" {
				return s
			}
		}
		return ""
	}
	n := graph.Node{Kind: graph.Service, Env: d.environment(first(envKeys)), Namespace: at["service.namespace"], Name: at["service.name"]}
	if n.Name == "" || n.Unidentified() {
		if s := first(fallbackKeys); s != "" {
			n.Name = s
		} else if n.Name == "" {
			n.Name = graph.UnknownService
			if exe := at["process.executable.name"]; exe != "" {
				n.Name += ":" + exe
			}
		}
	}
	envoy := isEnvoy(n.Name)
	n.Namespace, n.Name = set.Service(n.Env, n.Namespace, n.Name)
	r := &resource{raw: bytes.Clone(raw), service: d.service(n), lacks: lacks(at), envoy: envoy}
	if s := first(instanceKeys); s != "" {
		r.instance = d.names.NewLabel(s)
	}
	// What processes have in common is one label: calls are counted by it.
	for _, of := range [...]struct {
		label *graph.Label
		keys  []string
	}{{&r.version, versionKeys}, {&r.zone, zoneKeys}, {&r.host, hostKeys}} {
		if s := first(of.keys); s != "" {
			*of.label = d.names.SharedLabel(s)
		}
	}
	for _, k := range placeKeys {
		if s := at[k]; s != "" {
			r.places = append(r.places, placeKey{n.Env, s})
		}
	}
	if c := graph.ParseCriticality(strings.ToLower(at["service.criticality"])); c != graph.CriticalityUnknown {
		d.critical.put(r.service.node, c)
	}
	if space := at["k8s.namespace.name"]; space != "" {
		d.live(r.service, space)
	}
	r.language = at["telemetry.sdk.language"]
	r.sdk = strings.TrimSpace(r.language + " " + at["telemetry.sdk.version"])
	return r, nil
}

// service returns the service that a node stands for, made if need be.
func (d *directory) service(n graph.Node) *service {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.services[n]; s != nil {
		return s
	}
	ref := d.names.Node(n)
	if kept := d.names.LookupNode(ref); kept.Name == graph.Other && n.Name != graph.Other {
		n = kept // one too many: its spans count for "(other)"
		if s := d.services[n]; s != nil {
			return s
		}
	}
	s := &service{
		ref: ref, node: n,
		user:       d.names.Node(graph.Node{Env: n.Env, Kind: graph.User}),
		ingress:    d.names.Node(graph.Node{Env: n.Env, Kind: graph.Ingress}),
		unknown:    d.names.Node(graph.Node{Env: n.Env, Kind: graph.Unknown}),
		operations: map[string]*operation{}, peers: map[string]*peer{},
	}
	s.policy.Store(policyOf(d.rules.Load(), n))
	d.index(s)
	d.services[n] = s
	d.envs[n.Env]++
	k := [2]string{n.Env, n.Name}
	d.byName[k] = append(d.byName[k], s)
	return s
}

// index makes a service found by its node's number. Callers hold mu.
func (d *directory) index(s *service) {
	refs := d.refs.Load()
	if refs == nil || int(s.ref) >= len(*refs) {
		grown := make([]atomic.Pointer[service], max(2*int(s.ref), 64))
		if refs != nil {
			for i := range *refs {
				grown[i].Store((*refs)[i].Load())
			}
		}
		refs = &grown
	}
	(*refs)[s.ref].Store(s)
	d.refs.Store(refs)
}

// byRef returns the service whose node has a number, nil when it is no service's. It takes no lock.
func (d *directory) byRef(ref graph.NodeRef) *service {
	if refs := *d.refs.Load(); int(ref) < len(refs) {
		return refs[ref].Load()
	}
	return nil
}

// foreign reports whether two services are of different environments, between which no call is counted.
func (d *directory) foreign(a, b graph.NodeRef) bool {
	return a != b && d.byRef(a).unknown != d.byRef(b).unknown
}

// mayName reports whether a service may be told of on an edge of another: it is known, of its environment, and not left
// out.
func (d *directory) mayName(ref, on graph.NodeRef) bool {
	return d.byRef(ref) != nil && !d.foreign(ref, on) && !d.hidden(ref)
}

// named returns the only service of from's environment that has a name and, if one is given, is of a namespace: that of
// its service.namespace or of the cluster. Without one, of several the one of from's own namespace is meant. The rules
// may rename it.
func (d *directory) named(from *service, namespace, name string) *service {
	namespace, name = d.rules.Load().Service(from.node.Env, namespace, name)
	d.mu.RLock()
	defer d.mu.RUnlock()
	all := d.byName[[2]string{from.node.Env, name}]
	if namespace == "" {
		if s := only(all, func(*service) bool { return true }); s != nil {
			return s
		}
		return only(all, func(s *service) bool {
			return s.node.Namespace == from.node.Namespace && slices.Equal(s.spaces, from.spaces)
		})
	}
	if s := only(all, func(s *service) bool { return s.node.Namespace == namespace || slices.Contains(s.spaces, namespace) }); s != nil {
		return s
	}
	return only(all, func(s *service) bool { return s.node.Namespace == "" && len(s.spaces) == 0 })
}

// only returns the one service that fits, nil when none or several do.
func only(all []*service, fits func(*service) bool) *service {
	var found *service
	for _, s := range all {
		if !s.elsewhere() && fits(s) {
			if found != nil {
				return nil
			}
			found = s
		}
	}
	return found
}

// operation returns the label of an operation's name.
func (d *directory) operation(s *service, name []byte, minute uint32) graph.Label {
	return d.operationOf(s, name, minute).label
}

// entry returns the label of what users ask for by an operation of a service.
func (d *directory) entry(ref graph.NodeRef, label graph.Label, minute uint32) graph.Label {
	s, name := d.byRef(ref), d.names.Label(label)
	s.mu.RLock()
	o := s.operations[name]
	s.mu.RUnlock()
	if o == nil {
		o = d.operationOf(s, []byte(name), minute) // a name that was cut, or none
	} else if o.used.Load() != minute {
		o.used.Store(minute)
	}
	if l := o.entry.Load(); l != 0 {
		return graph.Label(l)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.entry.Load() == 0 {
		o.entry.Store(uint32(d.names.NewLabel(graph.EntryName(s.node.ID(), d.names.Label(o.label)))))
	}
	return graph.Label(o.entry.Load())
}

func (d *directory) operationOf(s *service, name []byte, minute uint32) *operation {
	s.mu.RLock()
	o := s.operations[string(name)]
	s.mu.RUnlock()
	if o == nil {
		s.mu.Lock()
		if o = s.operations[string(name)]; o == nil {
			if len(s.operations) >= maxOperations {
				o = s.operations[graph.Other]
				if o == nil {
					o = &operation{label: d.names.NewLabel(graph.Other)}
					s.operations[graph.Other] = o
				}
				d.overflow.Add(1)
			} else {
				o = &operation{label: d.names.NewLabel(string(name)), ignored: d.rules.Load().IgnoresOperation(s.node, string(name))}
				s.operations[string(name)] = o
			}
		}
		s.mu.Unlock()
	}
	if o.used.Load() != minute {
		o.used.Store(minute)
	}
	return o
}

// there reports whether a service is known that sends spans or is called.
func (d *directory) there(n graph.Node) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.services[n] != nil
}

// environment returns the environment that a process says it is of, or "(other)" when there are too many.
func (d *directory) environment(env string) string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.envs[env] == 0 && len(d.envs) >= maxEnvs {
		d.overflow.Add(1)
		return graph.Other
	}
	return env
}

// senders returns the services that sent spans, the most recent first, at most limit.
func (d *directory) senders(limit int) []graph.Sender {
	d.mu.RLock()
	by := map[*service]*graph.Sender{}
	for _, r := range d.resources {
		s := by[r.service]
		if s == nil {
			s = &graph.Sender{Node: r.service.node, SDK: r.sdk}
			by[r.service] = s
		}
		s.Spans += r.spans.Load()
		if t := r.lastSeen.Load(); t > 0 && time.Unix(0, t).After(s.LastSeen) {
			s.LastSeen = time.Unix(0, t).UTC()
		}
	}
	d.mu.RUnlock()
	return recent(by, limit)
}
