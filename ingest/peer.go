package ingest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"faultline/graph"
)

// peerKind says what a client span's attributes say of whom it called.
type peerKind uint8

const (
	peerNone  peerKind = iota // nothing
	peerHost                  // a host, or a declared name
	peerDB                    // a database or cache
	peerQueue                 // a queue or topic
)

// peer is whom a service's client spans of one set of attributes call, as far as those say.
type peer struct {
	id       uint32
	kind     peerKind
	declared bool // by service.peer.name or peer.service
	self     bool // declared to be the service itself
	protocol graph.Protocol
	service  *service
	node     graph.Node // where the call lies when nobody answers it and nothing was learned
	host     string     // without a port
	alias    *alias     // what was learned about the address; nil without one
	ref      atomic.Uint32
	paired   atomic.Uint32 // calls to it that a service answered, and that nobody did
	alone    atomic.Uint32
	used     atomic.Uint32 // minute of the last use
}

// Enough calls to be sure of who is behind an address, and the share of them that must agree.
const (
	sureCalls = 20
	sureShare = 0.95
)

// external reports whether calls to the peer have only ever been answered by nobody that sends spans.
func (p *peer) external() bool { return p.alone.Load() >= sureCalls && p.paired.Load() == 0 }

// peerTable numbers peers, so that a span in flight holds a number. Reading takes no lock.
type peerTable struct {
	pages [256]atomic.Pointer[[1024]atomic.Pointer[peer]]
	mu    sync.Mutex
	n     uint32
	spare []uint32
}

func (t *peerTable) init() { t.n = 1 }

func (t *peerTable) at(id uint32) *peer {
	if id == 0 {
		return nil
	}
	return t.pages[id>>10].Load()[id&1023].Load()
}

// add numbers a peer; 0 when there are too many.
func (t *peerTable) add(p *peer) uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := t.n
	if k := len(t.spare); k > 0 {
		id, t.spare = t.spare[k-1], t.spare[:k-1]
	} else {
		if int(id>>10) >= len(t.pages) {
			return 0
		}
		t.n++
	}
	page := t.pages[id>>10].Load()
	if page == nil {
		page = new([1024]atomic.Pointer[peer])
		t.pages[id>>10].Store(page)
	}
	p.id = id
	page[id&1023].Store(p)
	return id
}

func (t *peerTable) free(p *peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spare = append(t.spare, p.id)
}

// aliasKey is an address as the services of one namespace see it.
type aliasKey struct{ Env, Namespace, Address string }

// alias is what completed pairs teach about an address: who answers there.
type alias struct {
	key  aliasKey
	sure atomic.Uint32 // the node that answers, once that is sure enough; else 0

	mu      sync.Mutex
	callees [4]struct {
		ref   graph.NodeRef
		count uint32
	}
	total uint32
}

// maxAliasTotal is when counts are halved, so that an address that moves is learned anew.
const maxAliasTotal = 4096

// learn counts one more call that node answered.
func (a *alias) learn(node graph.NodeRef, count uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	slot := -1
	for i := range a.callees {
		if a.callees[i].ref == node {
			slot = i
			break
		}
		if slot < 0 && a.callees[i].count == 0 {
			slot = i
		}
	}
	a.total += count
	if slot >= 0 {
		a.callees[slot].ref = node
		a.callees[slot].count += count
	}
	if a.total > maxAliasTotal {
		a.total = 0
		for i := range a.callees {
			a.callees[i].count /= 2
			a.total += a.callees[i].count
		}
	}
	sure := uint32(0)
	for _, c := range a.callees {
		if c.count >= sureCalls && float64(c.count) >= sureShare*float64(a.total) {
			sure = uint32(c.ref)
		}
	}
	a.sure.Store(sure)
}

// aliasBook keeps the aliases, bounded.
type aliasBook struct {
	mu sync.Mutex
	m  map[aliasKey]*alias
}

const maxAliases = 50_000

func (b *aliasBook) get(k aliasKey) *alias {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.m[k]
	if a == nil && len(b.m) < maxAliases {
		a = &alias{key: k}
		b.m[k] = a
	}
	return a
}

// sweep forgets addresses nobody answered at, when there are many.
func (b *aliasBook) sweep() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.m) < maxAliases/2 {
		return
	}
	for k, a := range b.m {
		if a.total == 0 {
			delete(b.m, k)
		}
	}
}

// learned is the form in which aliases survive a restart.
type learned struct {
	Env       string `json:"env"`
	Namespace string `json:"namespace,omitempty"`
	Address   string `json:"address"`
	Service   string `json:"service"`
	Of        string `json:"of,omitempty"` // the service's namespace
	Count     uint32 `json:"count"`
}

func (b *aliasBook) save(names *graph.Names) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := []learned{}
	for k, a := range b.m {
		a.mu.Lock()
		for _, c := range a.callees {
			if c.count > 0 {
				n := names.LookupNode(c.ref)
				out = append(out, learned{k.Env, k.Namespace, k.Address, n.Name, n.Namespace, c.count})
			}
		}
		a.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b learned) int {
		return cmp.Or(strings.Compare(a.Env, b.Env), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Address, b.Address),
			strings.Compare(a.Service, b.Service), strings.Compare(a.Of, b.Of))
	})
	return json.Marshal(out)
}

func (b *aliasBook) load(names *graph.Names, data []byte) error {
	var in []learned
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("read learned addresses: %w", err)
	}
	for _, l := range in {
		if l.Service == "" {
			continue
		}
		if a := b.get(aliasKey{l.Env, l.Namespace, l.Address}); a != nil {
			ref := names.Node(graph.Node{Env: l.Env, Kind: graph.Service, Namespace: l.Of, Name: l.Service})
			a.learn(ref, min(l.Count, maxAliasTotal))
		}
	}
	return nil
}

// external folds a host into the name of an external node: lower case, default ports left out, labels that are ids
// replaced by a star, so that a thousand tenants of one provider are one node.
func external(host, port string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return withPort(host, port)
	}
	labels := strings.Split(host, ".")
	if n := len(labels); n >= 4 && labels[n-1] == "com" && labels[n-2] == "amazonaws" {
		// bucket.s3.region.amazonaws.com and its like: the service and its region are the peer.
		for i := range n - 2 {
			if labels[i] == "s3" || strings.HasPrefix(labels[i], "s3-") {
				return strings.Join(labels[i:n-2], ".")
			}
		}
	}
	for i, l := range labels {
		if i < len(labels)-1 && isID(l) {
			labels[i] = "*"
		}
	}
	return withPort(strings.Join(labels, "."), port)
}

func withPort(host, port string) string {
	if port == "" || port == "80" || port == "443" {
		return host
	}
	return host + ":" + port
}

// isID tells labels made by machines: hexadecimal of eight or more digits with at least one digit, UUIDs, numbers.
func isID(label string) bool {
	digits, hex, other := 0, 0, 0
	for _, c := range label {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'f' || c == '-':
			hex++
		default:
			other++
		}
	}
	if other > 0 || digits == 0 {
		return false
	}
	return hex == 0 || digits+hex >= 8
}

// recent orders senders by when they were last seen.
func recent(by map[*service]*graph.Sender, limit int) []graph.Sender {
	out := make([]graph.Sender, 0, len(by))
	for _, s := range by {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b graph.Sender) int {
		return cmp.Or(b.LastSeen.Compare(a.LastSeen), strings.Compare(a.Node.ID(), b.Node.ID()))
	})
	return out[:min(len(out), limit)]
}
