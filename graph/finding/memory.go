package finding

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"faultline/graph"
)

// Memory is what judging needs to know from longer ago than the minutes that are judged. It is bounded, and kept across
// restarts as JSON. Its zero value is empty; it is not safe for concurrent use.
type Memory struct {
	At       time.Time                       `json:"at"`       // when it learned last
	Edges    map[string]*Memoir              `json:"edges"`    // by edge id
	Versions map[string]map[string]time.Time `json:"versions"` // of services, by environment and id: when each was first seen
	// Incidents are when something was severe at a node last, by environment and id.
	Incidents map[string]time.Time `json:"incidents,omitempty"`
	// Waits is when it was last looked which edges have no evident timeout.
	Waits time.Time `json:"waits"`
}

// Memoir is what was learned of one edge.
type Memoir struct {
	Seen        time.Time           `json:"seen"`              // when it last had calls
	Age         float64             `json:"age"`               // seconds of calls that were learned from
	P50         float64             `json:"p50"`               // usual median, log2 of ns
	Ceiling     float64             `json:"ceiling,omitempty"` // most calls in flight, five minutes' mean, while the median was usual
	CeilingRate float64             `json:"rate,omitempty"`    // calls a second then
	CeilingAt   time.Time           `json:"ceiling_at"`
	Refusals    float64             `json:"refusals,omitempty"` // usual share of client errors
	Lag         float64             `json:"lag,omitempty"`      // usual p95 of the lag, log2 of ns
	LagAge      float64             `json:"lag_age,omitempty"`
	Backlogs    map[string]*Backlog `json:"backlogs,omitempty"` // of an edge from a queue, by consumer group
	NoTimeout   *NoTimeout          `json:"no_timeout,omitempty"`
	Overspent   time.Time           `json:"overspent,omitzero"` // when a minute had more retries than the budget allows
}

// Backlog is what has been coming into a queue and not out of it since it began to grow.
type Backlog struct {
	Since    time.Time `json:"since"`
	Grown    time.Time `json:"grown"` // when it last grew
	Messages float64   `json:"messages"`
	Drain    float64   `json:"drain"` // ns; 0 while it grows
}

// NoTimeout is why an edge seems to have no timeout.
type NoTimeout struct {
	Calls int64   `json:"calls"`
	Max   float64 `json:"max"` // ns
	P99   float64 `json:"p99"`
}

// Bounds of a Memory.
const (
	maxMemoirs    = 50_000
	maxVersions   = 20 // per service
	maxServices   = 10_000
	forgetAfter   = 14 * 24 * time.Hour
	usualOver     = 24 * 3600. // seconds that the usual is a mean of
	longestStep   = 5 * time.Minute
	usuallyWithin = 1.2 // factor within which a median is usual
	learnCalls    = 30
)

// edge returns the memoir of an edge, a new one for one that is not known.
func (m *Memory) edge(id string) *Memoir {
	if m.Edges == nil {
		m.Edges = map[string]*Memoir{}
	}
	e := m.Edges[id]
	if e == nil {
		e = &Memoir{}
		m.Edges[id] = e
	}
	return e
}

// incident returns when something was severe at a node last, the zero time when that is not known.
func (m *Memory) incident(n graph.Node) time.Time { return m.Incidents[nodeKey(n)] }

func nodeKey(n graph.Node) string { return n.Env + "\t" + n.ID() }

// note keeps in mind at which nodes something is severe.
func (m *Memory) note(found []graph.Finding, now time.Time) {
	for i := range found {
		f := &found[i]
		node, ok := f.Concerns()
		if !ok || f.Level < graph.Severe {
			continue
		}
		key := nodeKey(node)
		if _, known := m.Incidents[key]; !known && len(m.Incidents) >= maxServices {
			continue
		}
		if m.Incidents == nil {
			m.Incidents = map[string]time.Time{}
		}
		m.Incidents[key] = now
	}
}

// learn takes in a graph that has been judged.
func (m *Memory) learn(g *Graph) {
	for _, e := range g.Edges {
		e.Learned.learn(e, g.To, m.step(g.To))
	}
}

// step returns how long ago memory learned last, within bounds: what happens while nothing is judged is not made up.
func (m *Memory) step(now time.Time) time.Duration {
	if m.At.IsZero() || !now.After(m.At) {
		return 0
	}
	return min(now.Sub(m.At), longestStep)
}

// Learned ends a round of judgements, of all environments, and forgets what has not been seen for long, or is too much.
func (m *Memory) Learned(now time.Time) {
	m.At = now
	maps.DeleteFunc(m.Incidents, func(_ string, at time.Time) bool { return now.Sub(at) > forgetAfter })
	maps.DeleteFunc(m.Edges, func(_ string, e *Memoir) bool { return now.Sub(e.Seen) > forgetAfter })
	if n := len(m.Edges) - maxMemoirs; n > 0 {
		ids := slices.Collect(maps.Keys(m.Edges))
		slices.SortFunc(ids, func(a, b string) int { return cmp.Or(m.Edges[a].Seen.Compare(m.Edges[b].Seen), strings.Compare(a, b)) })
		for _, id := range ids[:n] {
			delete(m.Edges, id)
		}
	}
}

// learn takes in what an edge is like; step is for how long it has been so.
func (l *Memoir) learn(e *Edge, now time.Time, step time.Duration) {
	if e.Stats.Raw <= 0 {
		return
	}
	l.Seen = now
	if _, exceeded := e.minute.budget(); exceeded {
		l.Overspent = now
	}
	seconds := step.Seconds()
	if p50 := e.median(); e.Stats.Raw >= learnCalls && p50 > 0 {
		usual := l.Age == 0 || math.Log2(p50) <= l.P50+math.Log2(usuallyWithin)
		slow := 1.
		if !usual {
			slow = .1 // what is not usual becomes so, but not within hours
		}
		l.P50 = blend(l.P50, math.Log2(p50), l.Age, slow*seconds)
		l.Refusals = blend(l.Refusals, share(e.Stats.ClientErrors, e.Stats.Calls), l.Age, seconds)
		l.Age = math.Min(l.Age+max(seconds, 1), usualOver)
		if now.Sub(l.CeilingAt) > forgetAfter {
			l.Ceiling = 0
		}
		if L := e.inFlight(); usual && L >= l.Ceiling {
			l.Ceiling, l.CeilingRate, l.CeilingAt = L, e.rate(), now
		}
	}
	if lag := e.measure(graph.Lag); lag.Raw >= lagMessages {
		if p95 := lag.Latency.Quantile(.95); p95 > 0 {
			slow := 1.
			if l.LagAge > 0 && math.Log2(p95) > l.Lag+1 {
				slow = .1
			}
			l.Lag = blend(l.Lag, math.Log2(p95), l.LagAge, slow*seconds)
			l.LagAge = math.Min(l.LagAge+max(seconds, 1), usualOver)
		}
	}
}

// blend moves a mean over age seconds towards a value that held for some seconds more.
func blend(mean, v, age, seconds float64) float64 {
	if age == 0 {
		return v
	}
	return mean + (v-mean)*seconds/(age+seconds)
}

// median returns the caller's median latency, or the callee's where the caller's is not seen, in ns.
func (s *Sum) median() float64 {
	if s.Stats.Client.Count() > 0 {
		return s.Stats.Client.Quantile(.5)
	}
	return s.Stats.Server.Quantile(.5)
}

// inFlight returns the calls in flight, mean.
func (s *Sum) inFlight() float64 { return over(float64(max(s.Stats.Busy, 0)), float64(s.Length)) }

// rate returns the calls per second.
func (s *Sum) rate() float64 { return over(float64(max(s.Stats.Calls, 0)), s.Length.Seconds()) }

// versions returns the known versions of a service; first says that there are none yet.
func (m *Memory) versions(n graph.Node) (known map[string]time.Time, first bool) {
	if m.Versions == nil {
		m.Versions = map[string]map[string]time.Time{}
	}
	key := nodeKey(n)
	known = m.Versions[key]
	if known == nil {
		if len(m.Versions) >= maxServices {
			m.Versions = map[string]map[string]time.Time{} // all are met anew, which is no deploy
		}
		known = map[string]time.Time{}
		m.Versions[key] = known
	}
	return known, len(known) == 0
}
