package rules

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"faultline/graph"
)

// Bounds of a text, so that nobody can hand in one that is long in parsing.
const (
	MaxBytes = 1 << 20
	maxRules = 1_000
)

// Parse reads a rules file. Its error, when it is not nil, has everything that is wrong, see Faults.
func Parse(text []byte) (*Set, error) {
	if len(text) > MaxBytes {
		return nil, faults{{Message: fmt.Sprintf("longer than %d bytes", MaxBytes)}}
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, faults{syntax(err)}
	}
	p := parser{}
	set := &Set{}
	if len(document.Content) > 0 && document.Content[0].Tag != "!!null" {
		p.mapping(document.Content[0], "", keys{
			"services":  func(n *yaml.Node, at string) { p.list(n, at, func(n *yaml.Node, at string) { p.service(n, at, set) }) },
			"ignore":    func(n *yaml.Node, at string) { p.list(n, at, func(n *yaml.Node, at string) { p.ignored(n, at, set) }) },
			"externals": func(n *yaml.Node, at string) { p.list(n, at, func(n *yaml.Node, at string) { p.external(n, at, set) }) },
			"outcomes":  func(n *yaml.Node, at string) { p.list(n, at, func(n *yaml.Node, at string) { p.outcome(n, at, set) }) },
			"sampling":  func(n *yaml.Node, at string) { p.list(n, at, func(n *yaml.Node, at string) { p.rate(n, at, set) }) },
		})
	}
	if len(p.faults) > 0 {
		slices.SortStableFunc(p.faults, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
		return nil, p.faults
	}
	return set, nil
}

var lineOf = regexp.MustCompile(`^yaml: line (\d+): `)

// syntax tells where a text is no YAML.
func syntax(err error) Fault {
	text := err.Error()
	if m := lineOf.FindStringSubmatch(text); m != nil {
		line, _ := strconv.Atoi(m[1]) // digits
		return Fault{Line: line, Message: text[len(m[0]):]}
	}
	return Fault{Message: strings.TrimPrefix(text, "yaml: ")}
}

// parser gathers what is wrong on its way through a document.
type parser struct {
	faults faults
	rules  int
}

// keys are what a mapping may have, and who reads it.
type keys map[string]func(n *yaml.Node, at string)

func (p *parser) fault(n *yaml.Node, at, format string, args ...any) {
	p.faults = append(p.faults, Fault{n.Line, at, fmt.Sprintf(format, args...)})
}

// mapping reads the keys of a mapping, and complains of every one that it may not have.
func (p *parser) mapping(n *yaml.Node, at string, may keys) {
	if n.Kind == yaml.AliasNode {
		p.fault(n, at, "aliases are not understood here")
		return
	}
	if n.Kind != yaml.MappingNode {
		p.fault(n, at, "want %s", alternatives(may))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		below := strings.TrimPrefix(at+"."+key.Value, ".")
		read, known := may[key.Value]
		switch {
		case !known:
			p.fault(key, below, "no such key; want %s", alternatives(may))
		case seen[key.Value]:
			p.fault(key, below, "said twice")
		default:
			read(value, below)
		}
		seen[key.Value] = true
	}
}

func alternatives(may keys) string {
	names := make([]string, 0, len(may))
	for k := range may {
		names = append(names, k)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func (p *parser) list(n *yaml.Node, at string, each func(n *yaml.Node, at string)) {
	if n.Tag == "!!null" {
		return // everything below the key is a comment
	}
	if n.Kind != yaml.SequenceNode {
		p.fault(n, at, "want a list")
		return
	}
	for i, c := range n.Content {
		if p.rules++; p.rules > maxRules {
			p.fault(c, at, "more than %d rules", maxRules)
			return
		}
		each(c, fmt.Sprintf("%s[%d]", at, i))
	}
}

// text reads a text into to.
func (p *parser) text(to *string) func(n *yaml.Node, at string) {
	return func(n *yaml.Node, at string) {
		switch {
		case n.Kind != yaml.ScalarNode || n.Tag == "!!null":
			p.fault(n, at, "want a text")
		case len(n.Value) > graph.MaxName:
			p.fault(n, at, "longer than %d bytes", graph.MaxName)
		default:
			*to = n.Value
		}
	}
}

// name reads a text that is not empty.
func (p *parser) name(to *string) func(n *yaml.Node, at string) {
	return func(n *yaml.Node, at string) {
		before := len(p.faults)
		if p.text(to)(n, at); *to == "" && len(p.faults) == before {
			p.fault(n, at, "must not be empty")
		}
	}
}

// regexp reads a regular expression that must match the whole of a text.
func (p *parser) regexp(to **pattern) func(n *yaml.Node, at string) {
	return func(n *yaml.Node, at string) {
		var text string
		before := len(p.faults)
		if p.name(&text)(n, at); len(p.faults) > before {
			return
		}
		expr, err := regexp.Compile(`^(?:` + text + `)$`)
		if err != nil {
			p.fault(n, at, "%s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
			return
		}
		*to = &pattern{expr}
	}
}

// glob reads a host in which a star stands for any text.
func (p *parser) glob(to **pattern) func(n *yaml.Node, at string) {
	return func(n *yaml.Node, at string) {
		var text string
		before := len(p.faults)
		if p.name(&text)(n, at); len(p.faults) > before {
			return
		}
		expr := strings.ReplaceAll(regexp.QuoteMeta(strings.ToLower(text)), `\*`, `.*`)
		*to = &pattern{regexp.MustCompile(`^(?:` + expr + `)$`)}
	}
}

func (p *parser) service(n *yaml.Node, at string, set *Set) {
	var r service
	var namespace string
	before := len(p.faults)
	p.mapping(n, at, keys{
		"match": func(n *yaml.Node, at string) {
			p.mapping(n, at, keys{"name": p.regexp(&r.name), "namespace": p.regexp(&r.namespace), "env": p.regexp(&r.env)})
		},
		"rename": p.name(&r.rename),
		"namespace": func(n *yaml.Node, at string) {
			p.text(&namespace)(n, at)
			r.to = &namespace
		},
	})
	if len(p.faults) > before {
		return
	}
	if r.name == nil && r.namespace == nil && r.env == nil {
		p.fault(n, at, "match says nothing: it would be every service")
	}
	if r.rename == "" && r.to == nil {
		p.fault(n, at, "neither rename nor namespace: it would do nothing")
	}
	set.services = append(set.services, r)
}

func (p *parser) ignored(n *yaml.Node, at string, set *Set) {
	var r ignored
	before := len(p.faults)
	p.mapping(n, at, keys{"service": p.regexp(&r.service), "host": p.regexp(&r.host), "operation": p.regexp(&r.operation)})
	if len(p.faults) > before {
		return
	}
	if r.service == nil && r.host == nil && r.operation == nil {
		p.fault(n, at, "says nothing: it would be everything")
	}
	if r.host != nil && r.operation != nil {
		p.fault(n, at, "host and operation are two rules")
	}
	set.ignored = append(set.ignored, r)
}

func (p *parser) external(n *yaml.Node, at string, set *Set) {
	var r external
	before := len(p.faults)
	p.mapping(n, at, keys{"host": p.glob(&r.host), "name": p.name(&r.name)})
	if len(p.faults) > before {
		return
	}
	if r.host == nil || r.name == "" {
		p.fault(n, at, "want host and name")
	}
	set.externals = append(set.externals, r)
}

func (p *parser) rate(n *yaml.Node, at string, set *Set) {
	var r rate
	before := len(p.faults)
	p.mapping(n, at, keys{
		"service": p.regexp(&r.service),
		"rate": func(n *yaml.Node, at string) {
			v, err := strconv.ParseFloat(n.Value, 64)
			if err != nil || !(v >= 1 && v <= 1_000_000) {
				p.fault(n, at, "want a number from 1 to 1000000: how many spans one stands for")
			}
			r.rate = v
		},
		"biased": func(n *yaml.Node, at string) {
			if err := n.Decode(&r.biased); err != nil {
				p.fault(n, at, "want true or false: whether a sampler chooses traces by how they ended")
			}
		},
	})
	if len(p.faults) > before {
		return
	}
	switch {
	case r.service == nil, r.rate == 0 && !r.biased:
		p.fault(n, at, "want service and rate, or biased")
	case r.rate == 0:
		r.rate = 1
	}
	set.sampling = append(set.sampling, r)
}
