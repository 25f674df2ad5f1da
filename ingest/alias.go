package ingest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"faultline/graph"
	"faultline/internal/rules"
)

// aliasKey is an address as the services of one namespace see it.
type aliasKey struct{ Env, Namespace, Address string }

// alias is what completed pairs teach about an address: who answers there.
type alias struct {
	key  aliasKey
	sure atomic.Uint32 // the node that answers, once that is sure enough; else 0
	// known is sure by so many calls that it will do to learn of some of those that confirm it; else 0.
	known atomic.Uint32

	mu      sync.Mutex
	callees [4]struct {
		ref   graph.NodeRef
		count uint32
	}
	total  uint32
	halved int64 // minute of the last halving for its age, 0 before the first sweep
}

const (
	// maxAliasTotal is when counts are halved, so that an address that moves is learned anew.
	maxAliasTotal = 4096
	// aliasHalfLife is how many minutes it takes until a call that was answered counts half.
	aliasHalfLife = 24 * 60
	// knownCalls is by how many calls it is known who answers. Of how many calls that confirm it then one is learned, and
	// counts for all of them, is confirms.
	knownCalls = maxAliasTotal / 4
	confirms   = 8
)

// answered learns that node answered a call, told from others by a number that is as good as random.
func (a *alias) answered(node graph.NodeRef, call uint64) {
	switch {
	case graph.NodeRef(a.known.Load()) != node:
		a.learn(node, 1)
	case mix(call)%confirms == 0:
		a.learn(node, confirms)
	}
}

// learn counts some more calls that node answered.
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
		a.halve(1)
	}
	a.conclude()
}

// halve halves the counts n times. Callers hold mu.
func (a *alias) halve(n int64) {
	a.total = 0
	for i := range a.callees {
		a.callees[i].count >>= min(n, 31)
		a.total += a.callees[i].count
	}
}

// conclude says who answers, if that is sure. Callers hold mu.
func (a *alias) conclude() {
	sure := uint32(0)
	for _, c := range a.callees {
		if c.count >= sureCalls && float64(c.count) >= sureShare*float64(a.total) {
			sure = uint32(c.ref)
		}
	}
	a.sure.Store(sure)
	if a.total < knownCalls {
		sure = 0
	}
	a.known.Store(sure)
}

// age halves the counts for every half-life that went by.
func (a *alias) age(minute int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.halved == 0 {
		a.halved = minute
	}
	if n := (minute - a.halved) / aliasHalfLife; n > 0 {
		a.halve(n)
		a.halved += n * aliasHalfLife
		a.conclude()
	}
}

// reset forgets everything.
func (a *alias) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.callees[:])
	a.total = 0
	a.sure.Store(0)
}

// forget forgets callees whose numbers are freed.
func (a *alias) forget(freed map[graph.NodeRef]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.callees {
		if c := &a.callees[i]; c.count > 0 && freed[c.ref] {
			a.total -= c.count
			c.ref, c.count = 0, 0
			a.conclude()
		}
	}
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

// all returns the aliases as they are now.
func (b *aliasBook) all() []*alias {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Values(b.m))
}

// sweep lets what was learned grow old, and forgets addresses nobody answered at, when there are many.
func (b *aliasBook) sweep(minute int64) {
	for _, a := range b.all() {
		a.age(minute)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.m) < maxAliases/2 {
		return
	}
	for k, a := range b.m {
		if a.sure.Load() == 0 && a.empty() {
			delete(b.m, k)
		}
	}
}

func (a *alias) empty() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.total == 0
}

// learned is the form in which aliases survive a restart.
type learned struct {
	Env       string `json:"env"`
	Namespace string `json:"namespace,omitempty"`
	Address   string `json:"address"`
	Service   string `json:"service"`
	Of        string `json:"of,omitempty"` // the service's namespace
	Count     uint32 `json:"count"`
	Halved    int64  `json:"halved,omitempty"` // minute since the epoch
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
				out = append(out, learned{k.Env, k.Namespace, k.Address, n.Name, n.Namespace, c.count, a.halved})
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

func (b *aliasBook) load(names *graph.Names, set *rules.Set, data []byte) error {
	var in []learned
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("read learned addresses: %w", err)
	}
	for _, l := range in {
		if l.Service == "" {
			continue
		}
		if a := b.get(aliasKey{l.Env, l.Namespace, l.Address}); a != nil {
			l.Of, l.Service = set.Service(l.Env, l.Of, l.Service)
			ref := names.Node(graph.Node{Env: l.Env, Kind: graph.Service, Namespace: l.Of, Name: l.Service})
			a.learn(ref, min(l.Count, maxAliasTotal))
			a.halved = l.Halved
		}
	}
	return nil
}
