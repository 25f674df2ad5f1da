package rules

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"strings"

	"faultline/graph"
)

// Preview is what a text would do to a graph as it is, were it the rules file. What it says of names is of those that
// the rules in force have given already.
type Preview struct {
	Faults     []Fault            `json:"faults" nullable:"false" doc:"Why the text cannot be a rules file; nothing else is set then"`
	Renamed    []Renaming         `json:"renamed" nullable:"false" doc:"Services and external nodes that get another name"`
	Merged     []Merging          `json:"merged" nullable:"false" doc:"Of those, the ones that become one node"`
	Ignored    []Ignoring         `json:"ignored" nullable:"false" doc:"Nodes that are no longer shown"`
	Operations []IgnoredOperation `json:"operations" nullable:"false" doc:"Operations that are no longer counted"`
	Sampled    []Sampling         `json:"sampled" nullable:"false" doc:"Services whose spans count more than once"`
}

// Renaming is a node that gets another id.
type Renaming struct {
	Env  string `json:"env"`
	From string `json:"from"`
	To   string `json:"to"`
}

// Merging are nodes that become one.
type Merging struct {
	Env  string   `json:"env"`
	From []string `json:"from"`
	To   string   `json:"to"`
}

// Ignoring is a node that is left out.
type Ignoring struct {
	Env string `json:"env"`
	ID  string `json:"id"`
}

// IgnoredOperation is an operation that is left out.
type IgnoredOperation struct {
	Env       string `json:"env"`
	Service   string `json:"service"`
	Operation string `json:"operation"`
}

// Sampling is how often a service's spans count that say nothing of it.
type Sampling struct {
	Env     string  `json:"env"`
	Service string  `json:"service"`
	Rate    float64 `json:"rate"`
}

// NewPreview says what a text would do to nodes and to the operations that each of them serves. It changes nothing.
func NewPreview(text []byte, nodes []graph.Node, operations map[graph.Node][]string) Preview {
	p := Preview{
		Faults: []Fault{}, Renamed: []Renaming{}, Merged: []Merging{}, Ignored: []Ignoring{}, Operations: []IgnoredOperation{}, Sampled: []Sampling{},
	}
	set, err := Parse(text)
	if err != nil {
		p.Faults = Faults(err)
		return p
	}
	sources := map[Ignoring][]string{} // by the node that they become
	for _, n := range nodes {
		to := set.applied(n)
		switch {
		case set.hides(to):
			p.Ignored = append(p.Ignored, Ignoring{n.Env, n.ID()})
			continue
		case to != n:
			p.Renamed = append(p.Renamed, Renaming{n.Env, n.ID(), to.ID()})
		}
		target := Ignoring{n.Env, to.ID()}
		sources[target] = append(sources[target], n.ID())
		if !isService(n) {
			continue
		}
		if rate := set.Rate(to); rate != 1 {
			p.Sampled = append(p.Sampled, Sampling{n.Env, to.ID(), rate})
		}
		for _, operation := range operations[n] {
			if set.IgnoresOperation(to, operation) {
				p.Operations = append(p.Operations, IgnoredOperation{n.Env, to.ID(), operation})
			}
		}
	}
	for target, from := range sources {
		if len(from) > 1 {
			slices.Sort(from)
			p.Merged = append(p.Merged, Merging{target.Env, from, target.ID})
		}
	}
	p.sort()
	return p
}

func isService(n graph.Node) bool { return n.Kind == graph.Service || n.Kind == graph.Gateway }

// applied returns what becomes of a node.
func (s *Set) applied(n graph.Node) graph.Node {
	switch {
	case isService(n):
		n.Namespace, n.Name = s.Service(n.Env, n.Namespace, n.Name)
	case n.Kind == graph.External:
		if name, ok := s.External(hostOf(n)); ok {
			n.Name = name
		}
	}
	return n
}

// hides reports whether nothing is shown of a node: because it is ignored, or because every call to it is.
func (s *Set) hides(n graph.Node) bool {
	switch {
	case isService(n):
		return s.IgnoresService(n)
	case n.Kind == graph.External:
		host := hostOf(n)
		return s.ignores(func(r *ignored) bool { return r.service == nil && r.host != nil && r.host.match(host) })
	}
	return false
}

// hostOf returns the host that an external node stands for, without its port.
func hostOf(n graph.Node) string {
	if host, _, err := net.SplitHostPort(n.Name); err == nil {
		return host
	}
	return n.Name
}

func (p *Preview) sort() {
	slices.SortFunc(p.Renamed, func(a, b Renaming) int { return cmp.Or(strings.Compare(a.Env, b.Env), strings.Compare(a.From, b.From)) })
	slices.SortFunc(p.Merged, func(a, b Merging) int { return cmp.Or(strings.Compare(a.Env, b.Env), strings.Compare(a.To, b.To)) })
	slices.SortFunc(p.Ignored, func(a, b Ignoring) int { return cmp.Or(strings.Compare(a.Env, b.Env), strings.Compare(a.ID, b.ID)) })
	slices.SortFunc(p.Operations, func(a, b IgnoredOperation) int {
		return cmp.Or(strings.Compare(a.Env, b.Env), strings.Compare(a.Service, b.Service), strings.Compare(a.Operation, b.Operation))
	})
	byService := map[Ignoring]Sampling{} // several may have become one
	for _, s := range p.Sampled {
		byService[Ignoring{s.Env, s.Service}] = s
	}
	p.Sampled = slices.SortedFunc(maps.Values(byService), func(a, b Sampling) int {
		return cmp.Or(strings.Compare(a.Env, b.Env), strings.Compare(a.Service, b.Service))
	})
	if p.Sampled == nil {
		p.Sampled = []Sampling{}
	}
}
