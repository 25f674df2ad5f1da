package ingest

import (
	"cmp"
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

// save returns the book for load, without what is too old. there reports whether a service is there now.
func (b *criticalityBook) save(now time.Time, there func(graph.Node) bool) ([]byte, error) {
	today := dayOf(now)
	b.mu.Lock()
	kept := make([]graph.StatedCriticality, 0, len(b.m))
	for n, c := range b.m {
		if c.day == 0 || there(n) {
			c.day = today
			b.m[n] = c
		}
		if today-c.day > int64(criticalityFor/(24*time.Hour)) {
			delete(b.m, n)
			continue
		}
		kept = append(kept, graph.StatedCriticality{Service: n, Criticality: c.Criticality, Day: c.day})
	}
	slices.SortFunc(kept, func(a, b graph.StatedCriticality) int {
		m, n := &a.Service, &b.Service
		return cmp.Or(cmp.Compare(b.Day, a.Day), strings.Compare(m.Env, n.Env), strings.Compare(m.Namespace, n.Namespace), strings.Compare(m.Name, n.Name))
	})
	for _, k := range kept[min(len(kept), maxCriticality):] {
		delete(b.m, k.Service)
	}
	b.mu.Unlock()
	return graph.EncodeCriticality(kept[:min(len(kept), maxCriticality)])
}

// load takes what save returned in an earlier process. What has been said since is newer.
func (b *criticalityBook) load(data []byte) error {
	kept, err := graph.DecodeCriticality(data)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m == nil {
		b.m = map[graph.Node]statedCriticality{}
	}
	for _, k := range kept[:min(len(kept), maxCriticality)] {
		if _, ok := b.m[k.Service]; !ok {
			b.m[k.Service] = statedCriticality{k.Criticality, k.Day}
		}
	}
	return nil
}

func dayOf(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }
