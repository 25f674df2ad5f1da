package graph

// Criticality is how much depends on a service, as it says itself by service.criticality. The zero value is not known.
type Criticality uint8

// The criticalities, from the least on.
const (
	CriticalityUnknown Criticality = iota
	CriticalityLow
	CriticalityMedium
	CriticalityHigh
	CriticalityCritical
)

var criticalityNames = [...]string{"", "low", "medium", "high", "critical"}

// String returns the attribute's value, "" where it is not known.
func (c Criticality) String() string { return criticalityNames[min(int(c), len(criticalityNames)-1)] }

// ParseCriticality is the inverse of String; what it does not know is CriticalityUnknown.
func ParseCriticality(s string) Criticality {
	for c, name := range criticalityNames {
		if name == s {
			return Criticality(c)
		}
	}
	return CriticalityUnknown
}

// Weigh says how critical nodes are. An edge is as critical as the more critical one of its ends.
func (m *Map) Weigh(of func(Node) Criticality) {
	nodes := make(map[Node]Criticality, len(m.Nodes))
	for i := range m.Nodes {
		n := &m.Nodes[i]
		n.Criticality = of(n.Node)
		nodes[n.Node.Identity()] = n.Criticality
	}
	for i := range m.Edges {
		e := &m.Edges[i]
		e.Criticality = max(nodes[e.Key.Source.Identity()], nodes[e.Key.Target.Identity()])
	}
}
