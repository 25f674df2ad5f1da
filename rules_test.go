package faultline_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"faultline/docs"
	"faultline/graph"
	"faultline/graph/doctor"
)

// ruleNames finds the names under which findings are made.
var ruleNames = regexp.MustCompile(`(?:found\(|Rule: )"([a-z_]+)"`)

// ruleIDs returns the names of all rules: the doctor's, the classes of failures, and those in the source of findings.
func ruleIDs(t *testing.T) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	for _, r := range doctor.Rules() {
		ids[r.ID] = true
	}
	for f := graph.None + 1; int(f) < graph.NumFailures; f++ {
		ids[f.String()] = true
	}
	sources, err := filepath.Glob("graph/finding/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sources {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, m := range ruleNames.FindAllStringSubmatch(string(source), -1) {
			ids[m[1]] = true
		}
	}
	for _, part := range []string{"bad_instance", "bad_zone", "bad_host", "bad_version", "bad_caller"} {
		ids[part] = true // named by what a part is, not by one text
	}
	return ids
}

// TestRulesHavePages wants a page for every rule, and a rule for every page. What is on a page is tested in package docs.
func TestRulesHavePages(t *testing.T) {
	ids := ruleIDs(t)
	if len(ids) < 45 {
		t.Errorf("only %d rules: the sources are not read any more", len(ids))
	}
	for id := range ids {
		if _, ok := docs.Rule(id); !ok {
			t.Errorf("rule %s has no page docs/rules/%s.md", id, id)
		}
	}
	for _, id := range docs.Rules() {
		if !ids[id] {
			t.Errorf("docs/rules/%s.md is about no rule", id)
		}
	}
}

// TestDoctorPoints holds the table of points in the overview against the rules.
func TestDoctorPoints(t *testing.T) {
	overview, err := os.ReadFile("docs/rules/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range doctor.Rules() {
		if row := fmt.Sprintf("| [%s](%s.md) | %d |", r.ID, r.ID, r.Points); !strings.Contains(string(overview), row) {
			t.Errorf("docs/rules/README.md: no row %q", row)
		}
	}
}
