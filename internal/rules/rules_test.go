package rules

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
)

const example = `
services:
  - match: {name: "payments-.*"}        # payments-blue and payments-green are one service
    rename: payments
  - match: {name: legacy, env: prod}
    namespace: shop
  - match: {namespace: old}
    namespace: ""
ignore:
  - operation: "GET /(health|ready)z?"
  - service: shop/cart
    operation: debug
  - host: otel-collector
  - service: "load-.*"
externals:
  - host: "*.tenant.example.com"
    name: tenant
sampling:
  - service: checkout
    rate: 10
`

func parsed(t *testing.T, text string) *Set {
	t.Helper()
	set, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func svc(env, namespace, name string) graph.Node {
	return graph.Node{Env: env, Kind: graph.Service, Namespace: namespace, Name: name}
}

func TestRules(t *testing.T) {
	set := parsed(t, example)
	for _, c := range []struct{ env, namespace, name, want string }{
		{"", "", "payments-blue", "payments"},
		{"", "shop", "payments-green", "shop/payments"},
		{"", "", "my-payments-blue", "my-payments-blue"},
		{"prod", "", "legacy", "shop/legacy"},
		{"staging", "", "legacy", "legacy"},
		{"", "old", "x", "x"},
		{"", "", "cart", "cart"},
	} {
		namespace, name := set.Service(c.env, c.namespace, c.name)
		if got := svc(c.env, namespace, name).ID(); got != c.want {
			t.Errorf("%v: %s", c, got)
		}
	}
	cart, other := svc("", "shop", "cart"), svc("", "", "other")
	for name, got := range map[string]bool{
		"health":                  set.IgnoresOperation(other, "GET /healthz"),
		"ready":                   set.IgnoresOperation(cart, "GET /ready"),
		"only the whole":          !set.IgnoresOperation(other, "GET /healthz/deep"),
		"of a service":            set.IgnoresOperation(cart, "debug"),
		"of another service":      !set.IgnoresOperation(other, "debug"),
		"host":                    set.IgnoresHost(other, "otel-collector"),
		"other host":              !set.IgnoresHost(other, "collector"),
		"service":                 set.IgnoresService(svc("", "x", "load-7")),
		"other service":           !set.IgnoresService(cart),
		"hides":                   set.HidesServices(),
		"nothing hides nothing":   !(*Set)(nil).HidesServices() && !(*Set)(nil).Renames(),
		"nothing ignores nothing": !(*Set)(nil).IgnoresService(cart) && !(*Set)(nil).IgnoresHost(cart, "h"),
	} {
		if !got {
			t.Errorf("%s: no", name)
		}
	}
	if name, ok := set.External("a.b.tenant.example.com"); !ok || name != "tenant" {
		t.Errorf("external: %q, %v", name, ok)
	}
	if name, ok := set.External("tenant.example.com"); ok {
		t.Errorf("a star is no part of a host that has none: %q", name)
	}
	if got := set.Rate(svc("", "shop", "checkout")); got != 10 {
		t.Errorf("rate %g", got)
	}
	if got := set.Rate(cart); got != 1 {
		t.Errorf("rate %g", got)
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []Fault
	}{
		{"nothing", "", nil},
		{"comments alone", "# nothing\n", nil},
		{"an empty list", "services:\n", nil},
		{"unknown key", "services: []\nservcies: []\n", []Fault{{2, "servcies", "no such key; want externals, ignore, outcomes, sampling, services"}}},
		{"unknown key deep down", "services:\n  - match:\n      nick: x\n    rename: y\n", []Fault{{3, "services[0].match.nick", "no such key; want env, name, namespace"}}},
		{"several", "ignore:\n  - hots: x\nsampling:\n  - service: a\n    rate: often\n", []Fault{
			{2, "ignore[0].hots", "no such key; want host, operation, service"}, {5, "sampling[0].rate", "want a number from 1 to 1000000: how many spans one stands for"},
		}},
		{"said twice", "services: []\nservices: []\n", []Fault{{2, "services", "said twice"}}},
		{"bad expression", "ignore:\n  - host: \"a(\"\n", []Fault{{2, "ignore[0].host", "missing closing ): `^(?:a()$`"}}},
		{"every service", "services:\n  - rename: x\n", []Fault{{2, "services[0]", "match says nothing: it would be every service"}}},
		{"no effect", "services:\n  - match: {name: x}\n", []Fault{{2, "services[0]", "neither rename nor namespace: it would do nothing"}}},
		{"everything ignored", "ignore:\n  - {}\n", []Fault{{2, "ignore[0]", "says nothing: it would be everything"}}},
		{"two in one", "ignore:\n  - {host: a, operation: b}\n", []Fault{{2, "ignore[0]", "host and operation are two rules"}}},
		{"empty name", "externals:\n  - {host: a, name: \"\"}\n", []Fault{{2, "externals[0].name", "must not be empty"}}},
		{"half a rule", "externals:\n  - host: a\n", []Fault{{2, "externals[0]", "want host and name"}}},
		{"rate below one", "sampling:\n  - {service: a, rate: 0.5}\n", []Fault{{2, "sampling[0].rate", "want a number from 1 to 1000000: how many spans one stands for"}}},
		{"an outcome that is none", "outcomes:\n  - {status: 404, outcome: bad}\n", []Fault{{2, "outcomes[0].outcome", "want ok, client_error or error"}}},
		{"an outcome of nothing", "outcomes:\n  - {service: a, outcome: ok}\n", []Fault{{2, "outcomes[0]", "want status and outcome"}}},
		{"neither rate nor bias", "sampling:\n  - {service: a, biased: false}\n", []Fault{{2, "sampling[0]", "want service and rate, or biased"}}},
		{"a bias that is none", "sampling:\n  - {service: a, biased: perhaps}\n", []Fault{{2, "sampling[0].biased", "want true or false: whether a sampler chooses traces by how they ended"}}},
		{"rate that is none", "sampling:\n  - {service: a, rate: .nan}\n", []Fault{{2, "sampling[0].rate", "want a number from 1 to 1000000: how many spans one stands for"}}},
		{"not a list", "services: x\n", []Fault{{1, "services", "want a list"}}},
		{"not a mapping", "- services\n", []Fault{{1, "", "want externals, ignore, outcomes, sampling, services"}}},
		{"aliases", "services: &a\n  - match: {name: x}\n    rename: y\nignore:\n  - *a\n", []Fault{{5, "ignore[0]", "aliases are not understood here"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.text))
			if diff := cmp.Diff(c.want, Faults(err)); diff != "" {
				t.Error(diff)
			}
			if (err == nil) != (len(c.want) == 0) {
				t.Errorf("error %v", err)
			}
		})
	}
	if _, err := Parse([]byte("services: [\n")); len(Faults(err)) != 1 || Faults(err)[0].Line == 0 {
		t.Errorf("no YAML: %v", err)
	}
	if _, err := Parse([]byte(strings.Repeat("#", MaxBytes+1))); len(Faults(err)) != 1 {
		t.Errorf("too long: %v", err)
	}
	if _, err := Parse([]byte("ignore:\n" + strings.Repeat("- host: a\n", maxRules+1))); len(Faults(err)) != 1 {
		t.Errorf("too many: %v", err)
	}
}

func TestPreview(t *testing.T) {
	blue, green, payments := svc("prod", "", "payments-blue"), svc("prod", "", "payments-green"), svc("prod", "", "payments")
	checkout := svc("prod", "", "checkout")
	nodes := []graph.Node{
		green, blue, payments, svc("staging", "", "payments-blue"), checkout, svc("prod", "", "load-1"),
		{Env: "prod", Kind: graph.External, Name: "a.tenant.example.com:8443"},
		{Env: "prod", Kind: graph.External, Name: "b.tenant.example.com"},
		{Env: "prod", Kind: graph.External, Name: "otel-collector:4317"},
		{Env: "prod", Kind: graph.Database, Name: "redis@payments-blue"},
		{Env: "prod", Kind: graph.User},
	}
	got := NewPreview([]byte(example), nodes, map[graph.Node][]string{checkout: {"GET /healthz", "POST /orders"}})
	want := Preview{
		Faults: []Fault{},
		Renamed: []Renaming{
			{"prod", "ext:a.tenant.example.com:8443", "ext:tenant"},
			{"prod", "ext:b.tenant.example.com", "ext:tenant"},
			{"prod", "payments-blue", "payments"},
			{"prod", "payments-green", "payments"},
			{"staging", "payments-blue", "payments"},
		},
		Merged: []Merging{
			{"prod", []string{"ext:a.tenant.example.com:8443", "ext:b.tenant.example.com"}, "ext:tenant"},
			{"prod", []string{"payments", "payments-blue", "payments-green"}, "payments"},
		},
		Ignored:    []Ignoring{{"prod", "ext:otel-collector:4317"}, {"prod", "load-1"}},
		Operations: []IgnoredOperation{{"prod", "checkout", "GET /healthz"}},
		Sampled:    []Sampling{{"prod", "checkout", 10}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	bad := NewPreview([]byte("services: x"), nodes, nil)
	if diff := cmp.Diff([]Fault{{1, "services", "want a list"}}, bad.Faults); diff != "" || len(bad.Renamed)+len(bad.Ignored) > 0 {
		t.Errorf("%+v, %s", bad, diff)
	}
}

// A file that is bad leaves the rules before it in force, and says so once.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yaml")
	f, now := NewFile(path), time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	step := func(name, text string, changed, works bool, inForce string) {
		t.Helper()
		now = now.Add(time.Minute)
		if text == "gone" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		} else if text != "" {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, now, now); err != nil {
				t.Fatal(err)
			}
		}
		_, did := f.Poll(now)
		s := f.State()
		if did != changed || (s.Err == nil) != works || s.Text != inForce {
			t.Errorf("%s: changed %v, error %v, text %q; want %v, works %v, %q", name, did, s.Err, s.Text, changed, works, inForce)
		}
		if !works && !strings.Contains(s.Err.Error(), path+": line 1: servcies") {
			t.Errorf("%s: %v", name, s.Err)
		}
	}
	const good, other, bad = "services: []\n", "ignore: []\n", "servcies: []\n"
	step("no file", "", false, true, "")
	step("a good one", good, true, true, good)
	step("the same", "", false, true, good)
	step("a bad one", bad, true, false, good)
	step("the same bad one", "", false, false, good)
	step("saved again", bad, false, false, good)
	step("mended", other, true, true, other)
	step("gone", "gone", true, true, "")
	step("still gone", "", false, true, "")
}

// A file that could not be had for a while is in force again as it was.
func TestFileThatComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mounted")
	path, away := filepath.Join(dir, "rules.yaml"), dir+".away"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(dir, 0o700))
	must(os.WriteFile(path, []byte("services: []\n"), 0o600))
	f, now := NewFile(path), time.Now()
	if _, changed := f.Poll(now); !changed || f.State().Err != nil {
		t.Fatalf("changed %v, %v", changed, f.State().Err)
	}
	must(os.Rename(dir, away))
	must(os.WriteFile(dir, nil, 0o600)) // so that it is not only gone
	if _, changed := f.Poll(now); !changed || f.State().Err == nil {
		t.Fatalf("a path that cannot be: changed %v, %v", changed, f.State().Err)
	}
	must(os.Remove(dir))
	must(os.Rename(away, dir))
	if _, changed := f.Poll(now); !changed || f.State().Err != nil {
		t.Errorf("back again: changed %v, %v", changed, f.State().Err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte("services: [&a {match: {name: x}, rename: *a}]"))
	f.Add([]byte("ignore:\n  - ? [a]\n    : b\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := Parse(text)
		if err != nil {
			if len(Faults(err)) == 0 || set != nil {
				t.Errorf("error %v, set %v", err, set)
			}
			return
		}
		set.Service("e", "ns", "n")
		set.IgnoresOperation(svc("e", "ns", "n"), "op")
		set.External("h")
	})
}

// The example that is shipped is a rules file, and the one of the manual.
func TestShippedExample(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	set := parsed(t, string(text))
	if len(set.services) == 0 || len(set.ignored) == 0 || len(set.externals) == 0 || len(set.sampling) == 0 {
		t.Error("it does not show every kind of rule")
	}
	manual, err := os.ReadFile(filepath.Join("..", "..", "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	var quoted strings.Builder
	for line := range strings.Lines(string(text)) {
		if line != "\n" {
			quoted.WriteString("    ")
		}
		quoted.WriteString(line)
	}
	if !strings.Contains(string(manual), quoted.String()) {
		t.Error("docs/configuration.md shows another one")
	}
}
