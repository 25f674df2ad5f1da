package graph

import (
	"encoding/json"
	"fmt"
)

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

// CriticalityStateKey is the name under which it is kept in a store how critical services say that they are.
const CriticalityStateKey = "criticality"

// StatedCriticality is how critical a service last said that it is, and the day, since 1970, on which it was last there.
type StatedCriticality struct {
	Service Node
	Criticality
	Day int64
}

type keptCriticality struct {
	Env         string `json:"env,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	Name        string `json:"name"`
	Criticality string `json:"criticality"`
	Day         int64  `json:"day"`
}

// EncodeCriticality returns what services said, for DecodeCriticality.
func EncodeCriticality(stated []StatedCriticality) ([]byte, error) {
	kept := make([]keptCriticality, len(stated))
	for i, s := range stated {
		kept[i] = keptCriticality{s.Service.Env, s.Service.Namespace, s.Service.Name, s.String(), s.Day}
	}
	return json.Marshal(kept)
}

// DecodeCriticality is the inverse of EncodeCriticality, without what a later version may call by other names.
func DecodeCriticality(data []byte) ([]StatedCriticality, error) {
	var kept []keptCriticality
	if err := json.Unmarshal(data, &kept); err != nil {
		return nil, fmt.Errorf("criticality of services: %w", err)
	}
	stated := make([]StatedCriticality, 0, len(kept))
	for _, k := range kept {
		if c := ParseCriticality(k.Criticality); c != CriticalityUnknown {
			service := Node{Env: k.Env, Kind: Service, Namespace: k.Namespace, Name: k.Name}
			stated = append(stated, StatedCriticality{service, c, k.Day})
		}
	}
	return stated, nil
}
