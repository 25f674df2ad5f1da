package docs

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	id   = regexp.MustCompile(`\bid="([^"]+)"`)
	href = regexp.MustCompile(`href="([^"]*)"`)
)

// TestPages wants every page to say the same things in the same order, and every link to lead somewhere.
func TestPages(t *testing.T) {
	all, err := render()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 2 || all[""].Title == "" {
		t.Fatalf("%d pages, the index is called %q", len(all), all[""].Title)
	}
	for name, p := range all {
		if p.Title == "" || !strings.HasPrefix(p.Body, "<h1") {
			t.Errorf("%s: no heading at the top", name)
		}
		if strings.Contains(p.Body, "<!-- raw HTML omitted -->") {
			t.Errorf("%s has raw HTML", name)
		}
		for _, m := range href.FindAllStringSubmatch(p.Body, -1) {
			to, fragment, _ := strings.Cut(m[1], "#")
			target, ok := p, true
			if to != "" {
				target, ok = all[strings.TrimPrefix(strings.TrimPrefix(to, Path), "/")]
			}
			if !ok || to != "" && to != Path && path.Dir(to) != Path {
				t.Errorf("%s links to %q, which is not there", name, m[1])
			} else if fragment != "" && !slices.ContainsFunc(id.FindAllStringSubmatch(target.Body, -1), func(m []string) bool { return m[1] == fragment }) {
				t.Errorf("%s links to %q, and there is no such heading", name, m[1])
			}
		}
		if name == "" {
			continue
		}
		at := 0
		for _, heading := range []string{"How it is computed", "What to do"} {
			next := strings.Index(p.Body, ">"+heading+"</h2>")
			if next < at {
				t.Errorf("%s: %q is missing or out of place", name, heading)
			}
			at = max(next, at)
		}
		if !strings.Contains(all[""].Body, `href="`+Path+"/"+name+`"`) {
			t.Errorf("the index does not link to %s", name)
		}
	}
}

func TestRule(t *testing.T) {
	for _, name := range Rules() {
		if p, ok := Rule(name); !ok || p.Rule != name {
			t.Errorf("Rule(%q) is %q, %v", name, p.Rule, ok)
		}
	}
	for _, name := range []string{"", "README", "no_such_rule", "../docs"} {
		if _, ok := Rule(name); ok {
			t.Errorf("there is a page of the rule %q", name)
		}
	}
}
