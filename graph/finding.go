package graph

import "time"

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
