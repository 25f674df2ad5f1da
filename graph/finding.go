package graph

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Finding is something that goes wrong, by name: what, where, since when, how much, and how many observations say so.
type Finding struct {
	// Rule is the name of what is wrong, as "retry_budget": the same for ever, and the name of its page in docs/rules.
	Rule string
	// Edge is where, when it is on an edge: else it is the zero value, and Node says where.
	Edge EdgeKey
	Node Node
	// Subject is what exactly, where the rule is about a part: an instance, a zone, a version, a cause, an operation.
	Subject string
	Level   Level
	// Since is when it was first found, Until when last, both by the minute or finer. It is over when Until lies back.
	Since, Until time.Time
	// Sentence says it to a person, with its figures, as it was when last found.
	Sentence string
	// Value is the rule's one figure, in the unit that its page says; N is how many observations it rests on, unweighted.
	Value float64
	N     int64
}

// FindingKey tells findings apart that are open at one time.
type FindingKey struct {
	Rule    string
	Edge    EdgeKey
	Node    Node
	Subject string
}

// Key returns what tells the finding apart from others that are open.
func (f *Finding) Key() FindingKey { return FindingKey{f.Rule, f.Edge, f.Node, f.Subject} }

// Env returns the environment that the finding belongs to.
func (f *Finding) Env() string {
	if f.Edge != (EdgeKey{}) {
		return f.Edge.Env()
	}
	return f.Node.Env
}

// Level is how loud a finding is.
type Level uint8

// The levels.
const (
	Note   Level = iota // worth knowing: no alarm, and no change of health
	Warn                // something degrades
	Severe              // something fails
)

var levelNames = [...]string{"note", "warn", "severe"}

// String returns the level's name in the API.
func (l Level) String() string { return levelNames[min(int(l), len(levelNames)-1)] }

// MarshalText writes the level's name.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// ParseLevel is the inverse of String; what it does not know is Note.
func ParseLevel(s string) Level {
	for l, name := range levelNames {
		if name == s {
			return Level(l)
		}
	}
	return Note
}

// Health returns what a finding of this level makes of the health of what it is found on, at least; HealthUnknown for
// one that changes nothing.
func (l Level) Health() Health {
	switch l {
	case Warn:
		return HealthWarn
	case Severe:
		return HealthCritical
	}
	return HealthUnknown
}

// OpenFor is how far back a finding was last found, at most, that is still open.
const OpenFor = 90 * time.Second

// callersOwn are the rules about edges that say nothing of the callee.
var callersOwn = map[string]bool{"breaker_open": true, "bad_caller": true}

// Concerns returns the node that a finding says something of: an edge's callee, unless the fault is its caller's own.
func (f *Finding) Concerns() (n Node, ok bool) {
	if f.Edge != (EdgeKey{}) {
		return f.Edge.Target, !callersOwn[f.Rule]
	}
	return f.Node, true
}

// Attach puts findings on the edges and nodes of the map that they are about, loudest first. Those that are open at its
// end make the health at least as bad as they are loud, that of an edge's callee as well unless the fault is the caller's
// own. The map keeps pointers into findings.
func (m *Map) Attach(findings []Finding) {
	edges := make(map[EdgeKey]*MapEdge, len(m.Edges))
	nodes := make(map[Node]*MapNode, len(m.Nodes))
	for i := range m.Edges {
		edges[m.Edges[i].Key] = &m.Edges[i]
	}
	for i := range m.Nodes {
		nodes[m.Nodes[i].Node] = &m.Nodes[i]
	}
	order := make([]*Finding, len(findings))
	for i := range findings {
		order[i] = &findings[i]
	}
	slices.SortStableFunc(order, func(a, b *Finding) int {
		return cmp.Or(cmp.Compare(b.Level, a.Level), strings.Compare(a.Rule, b.Rule), strings.Compare(a.Subject, b.Subject), b.Since.Compare(a.Since))
	})
	for _, f := range order {
		health := HealthUnknown
		if !f.Until.Before(m.To.Add(-OpenFor)) {
			health = f.Level.Health()
		}
		if e := edges[f.Edge]; e != nil {
			e.Findings = append(e.Findings, f)
			if health != HealthUnknown {
				e.Health, e.Reasons = max(e.Health, health), append(e.Reasons, f.Sentence)
			}
			if target, ok := f.Concerns(); ok && nodes[target] != nil {
				nodes[target].Health = max(nodes[target].Health, health)
			}
			continue
		}
		if n := nodes[f.Node]; n != nil && f.Edge == (EdgeKey{}) {
			n.Findings = append(n.Findings, f)
			n.Health = max(n.Health, health)
		}
	}
}
