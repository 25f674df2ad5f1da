package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/collector/confmap"
	"go.yaml.in/yaml/v3"
)

// sources are the texts that a configuration was read from, in the order in which later ones override earlier ones.
// The Collector's errors name keys but neither files nor lines; with the sources at hand, locate adds them.
type sources struct {
	mu   sync.Mutex
	uris []string
}

// record returns a provider factory that works as f does and notes what it was asked for.
func (s *sources) record(f confmap.ProviderFactory) confmap.ProviderFactory {
	return confmap.NewProviderFactory(func(set confmap.ProviderSettings) confmap.Provider {
		return recorder{f.Create(set), s}
	})
}

type recorder struct {
	confmap.Provider
	sources *sources
}

// Retrieve implements confmap.Provider.
func (r recorder) Retrieve(ctx context.Context, uri string, watch confmap.WatcherFunc) (*confmap.Retrieved, error) {
	r.sources.mu.Lock()
	if !slices.Contains(r.sources.uris, uri) {
		r.sources.uris = append(r.sources.uris, uri)
	}
	r.sources.mu.Unlock()
	return r.Provider.Retrieve(ctx, uri, watch)
}

// document is one source, parsed.
type document struct {
	name string
	flag bool // from the command line, which has no lines
	root *yaml.Node
}

// line returns where a node is.
func (d *document) line(n *yaml.Node) string {
	if d.flag {
		return d.name
	}
	return fmt.Sprintf("%s:%d", d.name, n.Line)
}

// fault is one thing that is wrong: what, and where if that is known.
type fault struct {
	path    []string // keys from the top
	message string
}

// locate returns err with file, line and key of each thing that is wrong, as far as they can be told; otherwise err. A
// start that was called off is not the configuration's fault.
func (s *sources) locate(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	s.mu.Lock()
	uris := slices.Clone(s.uris)
	s.mu.Unlock()
	var docs []document
	var found []error
	for _, uri := range uris {
		doc, err := parse(uri)
		if err != nil {
			found = append(found, err)
		} else if doc.root != nil {
			docs = append(docs, doc)
		}
	}
	if len(found) > 0 { // what cannot be read is the reason for all else
		return errors.Join(found...)
	}
	for _, f := range faults(err.Error()) {
		if at := position(docs, f); at != nil {
			found = append(found, at)
		}
	}
	if len(found) == 0 {
		return err
	}
	return errors.Join(found...)
}

// parse reads a source again. A source that is not YAML, such as a single value, has no root.
func parse(uri string) (document, error) {
	scheme, rest, ok := strings.Cut(uri, ":")
	doc, text := document{}, ""
	switch {
	case ok && scheme == "yaml" && rest == defaultYAML:
		doc.name, text = "default.yaml (built in)", rest
	case ok && scheme == "yaml":
		doc.name, doc.flag, text = "command line", true, rest
	case ok && scheme == "file":
		data, err := os.ReadFile(rest)
		if err != nil {
			return doc, err
		}
		doc.name, text = rest, string(data)
	default:
		return doc, nil
	}
	var value any // a tree of nodes would not tell of keys that are there twice
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		return doc, syntaxError(doc.name, err)
	}
	if value == nil {
		return doc, fmt.Errorf("%s: is empty", doc.name)
	}
	if _, ok := value.(map[string]any); !ok && scheme == "file" {
		return doc, fmt.Errorf("%s:1: is not a mapping of sections such as receivers, exporters and service", doc.name)
	}
	var node yaml.Node
	if err := yaml.Unmarshal([]byte(text), &node); err == nil && len(node.Content) > 0 {
		doc.root = node.Content[0]
	}
	return doc, nil
}

var yamlLine = regexp.MustCompile(`line (\d+): (.*)`)

// syntaxError brings what the YAML parser says into the form file:line: message.
func syntaxError(name string, err error) error {
	var out []error
	for _, m := range yamlLine.FindAllStringSubmatch(err.Error(), -1) {
		out = append(out, fmt.Errorf("%s:%s: %s", name, m[1], m[2]))
	}
	if out == nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return errors.Join(out...)
}

var (
	// 'a.b' what is wrong with it: a line of a decoding error.
	decodingLine = regexp.MustCompile(`^'([^']*)' (.*)$`)
	inComponent  = regexp.MustCompile(`^error reading configuration for "([^"]+)"`)
	unknownType  = regexp.MustCompile(`^unknown type: "[^"]+" for id: "([^"]+)"`)
	badPipeline  = regexp.MustCompile(`^in "([^"]+)" id: (.*)$`)
	// a::b: what is wrong with it: a line of a validation error.
	validationLine = regexp.MustCompile(`^((?:[\w./-]+::)*[\w./-]+): (.*)$`)
	quoted         = regexp.MustCompile(`"([^"]+)"`)
	// What a component says that could not start, which begins with the key that it is about if there is one.
	failedStart = regexp.MustCompile(`^failed to start "([^"]+)" (\w+): (.*)$`)
)

// leads are what the Collector puts before an error to say what it was about to do.
var leads = []string{
	"failed to get config: ", "cannot unmarshal the configuration: ", "invalid configuration: ",
	"cannot start pipelines: ", "failed to start extensions: ",
}

// startFault writes what kept a component from starting as validation errors are written.
func startFault(id, kind, message string) string {
	if validationLine.MatchString(message) {
		return kind + "s::" + id + "::" + message
	}
	return kind + "s::" + id + ": " + message
}

const (
	unknownKeys = "has invalid keys: "
	unknownKey  = "unknown key"
)

// faults reads the Collector's error text. Its decoding errors nest: a line that only says in which section the next
// ones are adds to the context, which is left only for another section, so that a path may have parts that do not belong
// to it.
func faults(text string) []fault {
	var out []fault
	var context []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		for _, lead := range leads {
			line = strings.TrimPrefix(line, lead)
		}
		line = strings.TrimPrefix(line, "'' ") // said of a section by itself, which its parent has named
		if m := failedStart.FindStringSubmatch(line); m != nil {
			line = startFault(m[1], m[2], m[3])
		}
		if m := decodingLine.FindStringSubmatch(line); m != nil {
			keys, rest := strings.Split(m[1], "."), strings.TrimPrefix(m[2], "'' ")
			if isSection(keys[0]) {
				context = nil
			}
			path := slices.Concat(context, keys)
			switch {
			case inComponent.MatchString(rest):
				context = slices.Concat(path, inComponent.FindStringSubmatch(rest)[1:2])
				if _, inner, _ := strings.Cut(rest, `": `); !strings.HasPrefix(inner, "decoding failed") {
					out = append(out, fault{context, inner})
				}
			case strings.HasPrefix(rest, "decoding failed"):
				context = path
			case strings.HasPrefix(rest, unknownKeys):
				for key := range strings.SplitSeq(strings.TrimPrefix(rest, unknownKeys), ", ") {
					out = append(out, fault{append(slices.Clone(path), key), unknownKey})
				}
			case unknownType.MatchString(rest):
				out = append(out, fault{append(path, unknownType.FindStringSubmatch(rest)[1]), rest})
			case badPipeline.MatchString(rest):
				m := badPipeline.FindStringSubmatch(rest)
				out = append(out, fault{append(path, m[1]), m[2]})
			default:
				out = append(out, fault{path, rest})
			}
			continue
		}
		if m := validationLine.FindStringSubmatch(line); m != nil {
			path, message := strings.Split(m[1], "::"), m[2]
			if isSection(path[0]) {
				context = path
			} else {
				path = slices.Concat(context, path)
			}
			if m := validationLine.FindStringSubmatch(message); m != nil { // a::b: c: what is wrong with a::b::c
				path, message = slices.Concat(path, strings.Split(m[1], "::")), m[2]
			}
			out = append(out, fault{path, message})
			continue
		}
		if quoted.MatchString(line) {
			out = append(out, fault{nil, line})
		}
	}
	return out
}

func isSection(key string) bool {
	return slices.Contains([]string{"receivers", "processors", "exporters", "connectors", "extensions", "service"}, key)
}

// position looks a fault up in the documents, the last first. It returns nil when it is nowhere to be found.
func position(docs []document, f fault) error {
	// The exact key; then without the parts of the path that are not keys; then the nearest section around it.
	for drop := range len(f.path) {
		for keep := len(f.path) - 1 - drop; keep >= 0; keep-- {
			path := slices.Concat(f.path[:keep], f.path[keep+drop:])
			if len(path) < 2 && drop > 0 && f.message != unknownKey {
				continue // too little is left to be sure
			}
			if err := at(docs, path, f.message); err != nil {
				return err
			}
		}
	}
	for n := len(f.path) - 1; n > 0; n-- {
		if err := at(docs, f.path[:n], strings.Join(f.path[n:], "::")+": "+f.message); err != nil {
			return err
		}
	}
	// A value that the message quotes.
	for _, m := range quoted.FindAllStringSubmatch(f.message, -1) {
		for _, doc := range slices.Backward(docs) {
			if path, node := findValue(doc.root, nil, m[1]); node != nil {
				return fmt.Errorf("%s: %s: %s", doc.line(node), strings.Join(path, "::"), f.message)
			}
		}
	}
	return nil
}

func at(docs []document, path []string, message string) error {
	for _, doc := range slices.Backward(docs) {
		key, value := find(doc.root, path)
		if key == nil {
			continue
		}
		where, origin := key, ""
		if value.Kind == yaml.ScalarNode && value.Line > 0 {
			where = value
			if m := envName.FindStringSubmatch(value.Value); m != nil && message != unknownKey {
				origin = " (from " + m[1] + ")"
			}
		} else if m := quoted.FindStringSubmatch(message); m != nil { // such as a receiver that is not configured
			if _, node := findValue(value, nil, m[1]); node != nil {
				where = node
			}
		}
		return fmt.Errorf("%s: %s: %s%s", doc.line(where), strings.Join(path, "::"), message, origin)
	}
	return nil
}

var envName = regexp.MustCompile(`\$\{env:(\w+)`)

// find returns the key and value nodes at a path. A key may be several, joined by "::".
func find(node *yaml.Node, path []string) (key, value *yaml.Node) {
	if node != nil && node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node == nil || node.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		keys := strings.Split(node.Content[i].Value, "::")
		if len(keys) > len(path) || !slices.Equal(keys, path[:len(keys)]) {
			continue
		}
		if len(keys) == len(path) {
			return node.Content[i], node.Content[i+1]
		}
		if k, v := find(node.Content[i+1], path[len(keys):]); k != nil {
			return k, v
		}
	}
	return nil, nil
}

// findValue returns the first scalar that is text or holds ${text}, and its path.
func findValue(node *yaml.Node, path []string, text string) ([]string, *yaml.Node) {
	switch node.Kind {
	case yaml.DocumentNode, yaml.AliasNode: // what an alias stands for is found where it is written
	case yaml.ScalarNode:
		if node.Value == text || strings.Contains(node.Value, "${"+text+"}") {
			return path, node
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if p, n := findValue(node.Content[i+1], append(slices.Clone(path), node.Content[i].Value), text); n != nil {
				return p, n
			}
		}
	case yaml.SequenceNode:
		for _, item := range node.Content {
			if p, n := findValue(item, path, text); n != nil {
				return p, n
			}
		}
	}
	return nil, nil
}
