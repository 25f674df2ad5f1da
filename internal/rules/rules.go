// Package rules is the rules file: what people know of their services and the spans do not say. It renames and merges
// services, leaves out what nobody wants to see, names external hosts, tells how a service is sampled whose spans do
// not, and what statuses mean. A Set is parsed whole or not at all, never changes, and answers without regard to order or time; Preview says what
// a text would do to a graph before anybody puts it in force. A File is the one in force, and looks whether it changed.
//
// Matching costs a few regular expressions a name: callers ask when they first see a name, and keep the answer.
package rules

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"faultline/graph"
)

// Set are the rules of one text. The nil Set has none. It is safe for concurrent use.
type Set struct {
	services  []service
	ignored   []ignored
	externals []external
	sampling  []rate
	outcomes  []outcome
}

// pattern matches a whole text. The nil pattern, of a key that is not there, matches every one.
type pattern struct{ *regexp.Regexp }

func (p *pattern) match(s string) bool { return p == nil || p.MatchString(s) }

type service struct {
	name, namespace, env *pattern
	rename               string
	to                   *string // the new namespace; nil leaves the old one
}

type ignored struct{ service, host, operation *pattern }

type external struct {
	host *pattern
	name string
}

type rate struct {
	service *pattern
	rate    float64
	biased  bool
}

// Service returns the namespace and the name under which a service counts: those of the first rule that matches.
func (s *Set) Service(env, namespace, name string) (newNamespace, newName string) {
	if s == nil {
		return namespace, name
	}
	for i := range s.services {
		r := &s.services[i]
		if r.name.match(name) && r.namespace.match(namespace) && r.env.match(env) {
			if r.to != nil {
				namespace = *r.to
			}
			return namespace, cmp.Or(r.rename, name)
		}
	}
	return namespace, name
}

// Renames reports whether there are rules that rename services.
func (s *Set) Renames() bool { return s != nil && len(s.services) > 0 }

// HidesServices reports whether there are rules that may leave services out.
func (s *Set) HidesServices() bool {
	return s.ignores(func(r *ignored) bool { return r.host == nil && r.operation == nil })
}

// matchService reports whether a pattern matches a service by its id, namespace/name, or by its name alone.
func (p *pattern) matchService(n graph.Node) bool { return p.match(n.ID()) || p.match(n.Name) }

// IgnoresService reports whether everything of a service is left out. Services are matched by the names they have once
// renamed.
func (s *Set) IgnoresService(n graph.Node) bool {
	return s.ignores(func(r *ignored) bool { return r.host == nil && r.operation == nil && r.service.matchService(n) })
}

// IgnoresHost reports whether the calls of a service to a host are left out. host has no port.
func (s *Set) IgnoresHost(n graph.Node, host string) bool {
	return s.ignores(func(r *ignored) bool {
		return r.host != nil && r.operation == nil && r.host.match(host) && r.service.matchService(n)
	})
}

// IgnoresOperation reports whether the spans of one of a service's operations are left out.
func (s *Set) IgnoresOperation(n graph.Node, operation string) bool {
	return s.ignores(func(r *ignored) bool {
		return r.operation != nil && r.operation.match(operation) && r.service.matchService(n)
	})
}

func (s *Set) ignores(by func(*ignored) bool) bool {
	if s == nil {
		return false
	}
	for i := range s.ignored {
		if by(&s.ignored[i]) {
			return true
		}
	}
	return false
}

// External returns the name that the node of an external host is given; ok is false when no rule says.
func (s *Set) External(host string) (name string, ok bool) {
	if s == nil {
		return "", false
	}
	for i := range s.externals {
		if s.externals[i].host.match(host) {
			return s.externals[i].name, true
		}
	}
	return "", false
}

// Rate returns how many spans one of a service stands for that says nothing of sampling; 1 when no rule says.
func (s *Set) Rate(n graph.Node) float64 {
	if s != nil {
		for i := range s.sampling {
			if s.sampling[i].service.matchService(n) {
				return s.sampling[i].rate
			}
		}
	}
	return 1
}

// Biased reports whether what is kept of a service's spans is said to be chosen by how their traces ended.
func (s *Set) Biased(n graph.Node) bool {
	if s != nil {
		for i := range s.sampling {
			if s.sampling[i].service.matchService(n) {
				return s.sampling[i].biased
			}
		}
	}
	return false
}

// Fault is something in a rules file that cannot be.
type Fault struct {
	Line    int    `json:"line" doc:"Of the text, from 1; 0 when the text as a whole is meant"`
	Key     string `json:"key,omitempty" doc:"Where it is: services[0].match.name"`
	Message string `json:"message"`
}

// String writes the fault without the file.
func (f Fault) String() string {
	var b strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", f.Line)
	}
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	b.WriteString(f.Message)
	return b.String()
}

// Faults returns the faults that an error of Parse is made of.
func Faults(err error) []Fault {
	var list faults
	if errors.As(err, &list) {
		return list
	}
	return nil
}

// faults are all that is wrong with a text, by line.
type faults []Fault

func (f faults) Error() string {
	texts := make([]string, len(f))
	for i := range f {
		texts[i] = f[i].String()
	}
	return strings.Join(texts, "; ")
}
