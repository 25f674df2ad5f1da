package ingest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"faultline/graph"
)

const (
	// criticalityFor is how long it is remembered how critical a service said that it is, after it was last there.
	criticalityFor = 30 * 24 * time.Hour
	maxCriticality = 10_000 // services; of more, those that were longest away are forgotten
)

// criticalityBook knows how critical services say that they are, also before they send again after a restart. It is safe
// for concurrent use.
type criticalityBook struct {
	mu sync.RWMutex
	m  map[graph.Node]statedCriticality
}

// statedCriticality is what the last process said that was met, and the day, since 1970, on which its service was last
// there; 0 until that is looked up.
type statedCriticality struct {
	graph.Criticality
	day int64
}

func (b *criticalityBook) put(n graph.Node, c graph.Criticality) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m == nil {
		b.m = map[graph.Node]statedCriticality{}
	}
	b.m[n] = statedCriticality{Criticality: c}
}

func (b *criticalityBook) of(n graph.Node) graph.Criticality {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.m[n].Criticality
}

// keptCriticality is a service's criticality in the store.
type keptCriticality struct {
	Env         string `json:"env,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	Name        string `json:"name"`
	Criticality string `json:"criticality"`
	Day         int64  `json:"day"`
}

// save returns the book for load, without what is too old. there reports whether a service is there now.
func (b *criticalityBook) save(now time.Time, there func(graph.Node) bool) ([]byte, error) {
	today := dayOf(now)
	b.mu.Lock()
	kept := make([]keptCriticality, 0, len(b.m))
	for n, c := range b.m {
		if c.day == 0 || there(n) {
			c.day = today
			b.m[n] = c
		}
		if today-c.day > int64(criticalityFor/(24*time.Hour)) {
			delete(b.m, n)
			continue
		}
		kept = append(kept, keptCriticality{n.Env, n.Namespace, n.Name, c.String(), c.day})
	}
	slices.SortFunc(kept, func(a, b keptCriticality) int {
		return cmp.Or(cmp.Compare(b.Day, a.Day), strings.Compare(a.Env, b.Env), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	for _, k := range kept[min(len(kept), maxCriticality):] {
		delete(b.m, k.node())
	}
	b.mu.Unlock()
	return json.Marshal(kept[:min(len(kept), maxCriticality)])
}

// load takes what save returned in an earlier process. What has been said since is newer.
func (b *criticalityBook) load(data []byte) error {
	var kept []keptCriticality
	if err := json.Unmarshal(data, &kept); err != nil {
		return fmt.Errorf("criticality of services: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m == nil {
		b.m = map[graph.Node]statedCriticality{}
	}
	for _, k := range kept[:min(len(kept), maxCriticality)] {
		n, c := k.node(), graph.ParseCriticality(k.Criticality)
		if _, ok := b.m[n]; !ok && c != graph.CriticalityUnknown {
			b.m[n] = statedCriticality{c, k.Day}
		}
	}
	return nil
}

func (k keptCriticality) node() graph.Node {
	return graph.Node{Env: k.Env, Kind: graph.Service, Namespace: k.Namespace, Name: k.Name}
}

func dayOf(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }
