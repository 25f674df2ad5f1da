package rules

import (
	"go.yaml.in/yaml/v3"

	"faultline/graph"
)

// outcome says how spans ended that have a status.
type outcome struct {
	service, operation, status *pattern
	is                         graph.Outcome
}

// Outcomes are what the rules say of how one service's spans ended. The nil Outcomes say nothing.
type Outcomes struct{ list []outcome }

// Outcomes returns what the rules say of a service's spans, nil when they say nothing.
func (s *Set) Outcomes(n graph.Node) *Outcomes {
	if s == nil {
		return nil
	}
	var own Outcomes
	for _, o := range s.outcomes {
		if o.service.matchService(n) {
			own.list = append(own.list, o)
		}
	}
	if len(own.list) == 0 {
		return nil
	}
	return &own
}

// Of returns how a span of an operation ended that has a status, by the first rule that says: the code of HTTP, or the
// name of RPC, as "404" and "NOT_FOUND".
func (o *Outcomes) Of(status, operation string) (is graph.Outcome, ok bool) {
	for i := range o.list {
		if r := &o.list[i]; r.status.match(status) && r.operation.match(operation) {
			return r.is, true
		}
	}
	return 0, false
}

var outcomeWords = map[string]graph.Outcome{"ok": graph.OK, "client_error": graph.ClientError, "error": graph.Error}

func (p *parser) outcome(n *yaml.Node, at string, set *Set) {
	r := outcome{is: graph.Cancelled} // which no rule may say
	before := len(p.faults)
	p.mapping(n, at, keys{
		"service": p.regexp(&r.service), "operation": p.regexp(&r.operation), "status": p.regexp(&r.status),
		"outcome": func(n *yaml.Node, at string) {
			is, known := outcomeWords[n.Value]
			if !known {
				p.fault(n, at, "want ok, client_error or error")
				return
			}
			r.is = is
		},
	})
	if len(p.faults) > before {
		return
	}
	if r.status == nil || r.is == graph.Cancelled {
		p.fault(n, at, "want status and outcome")
	}
	set.outcomes = append(set.outcomes, r)
}
