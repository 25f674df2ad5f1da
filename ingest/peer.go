package ingest

import (
	"cmp"
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
	peerModel                 // a provider of generative models
)

// telling reports whether what the peer is says more than the address of the request that carries the call.
func (k peerKind) telling() bool { return k == peerDB || k == peerQueue || k == peerModel }

// peer is whom a service's client spans of one set of attributes call, as far as those say.
type peer struct {
	id       uint32
	kind     peerKind
	ignored  bool // by the rules
	self     bool // declared to be the service itself
	protocol graph.Protocol
	service  *service
	node     graph.Node // where the call lies when nobody answers it and nothing was learned
	host     string     // without a port
	// declared is the name that service.peer.name, peer.service or faas.invoked_name gives it, and namespace the one
	// that service.peer.namespace does.
	declared, namespace string

	topic   *topic        // of a queue
	cluster graph.NodeRef // the node of a queue in the cluster that is named, 0 where none is

	alias  *alias // what was learned about the address; nil without one
	ref    atomic.Uint32
	paired atomic.Uint32 // calls to it that a service answered, and that nobody did
	alone  atomic.Uint32
	used   atomic.Uint32 // minute of the last use
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
