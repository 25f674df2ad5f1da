package faultline_test

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"faultline/graph/doctor"
)

// ruleIDs returns the names of all rules, of whichever package.
func ruleIDs() (ids []string) {
	for _, r := range doctor.Rules() {
		ids = append(ids, r.ID)
	}
	return ids
}

func TestRulesHavePages(t *testing.T) {
	for _, f := range checkRules(os.DirFS("."), ruleIDs()) {
		t.Error(f)
	}
}

// What a page has to say, in this order.
var ruleSections = []string{"## What it means", "## How it is computed", "## What to do"}

// checkRules wants every rule to have a page that says what it has to, and a line in the overview.
func checkRules(tree fs.FS, rules []string) (faults []string) {
	overview, err := fs.ReadFile(tree, "docs/rules/README.md")
	if err != nil {
		return []string{err.Error()}
	}
	for _, id := range rules {
		name := "docs/rules/" + id + ".md"
		if !strings.Contains(string(overview), "["+id+"]("+id+".md)") {
			faults = append(faults, "docs/rules/README.md: no link to "+id)
		}
		page, err := fs.ReadFile(tree, name)
		if err != nil {
			faults = append(faults, id+": no page "+name)
			continue
		}
		rest, ok := strings.CutPrefix(string(page), "# "+id+"\n")
		if !ok {
			faults = append(faults, name+": its heading is not the rule's name")
			continue
		}
		for _, section := range ruleSections {
			_, after, ok := strings.Cut(rest, "\n"+section+"\n")
			text, _, _ := strings.Cut(after, "\n## ")
			if !ok || strings.TrimSpace(text) == "" {
				faults = append(faults, name+": nothing under "+section)
				break
			}
			rest = after
		}
	}
	return faults
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

// TestRuleRules runs checkRules on a tree that it has nothing to say of, and on others.
func TestRuleRules(t *testing.T) {
	const good = "# a\n\n## What it means\n\nx\n\n## How it is computed\n\nx\n\n## What to do\n\nx\n"
	for _, tt := range []struct{ name, overview, page, want string }{
		{"good", "[a](a.md)", good, ""},
		{"not in the overview", "a", good, "no link to a"},
		{"no page", "[a](a.md)", "", "no page docs/rules/a.md"},
		{"another name", "[a](a.md)", strings.Replace(good, "# a", "# A", 1), "its heading"},
		{"a section without text", "[a](a.md)", strings.Replace(good, "computed\n\nx", "computed\n", 1), "nothing under ## How it is computed"},
		{"no advice", "[a](a.md)", strings.Replace(good, "## What to do", "## More", 1), "nothing under ## What to do"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := fstest.MapFS{"docs/rules/README.md": {Data: []byte(tt.overview)}}
			if tt.page != "" {
				tree["docs/rules/a.md"] = &fstest.MapFile{Data: []byte(tt.page)}
			}
			faults := checkRules(tree, []string{"a"})
			switch {
			case tt.want == "" && len(faults) > 0:
				t.Errorf("faults in a good page: %q", faults)
			case tt.want != "" && (len(faults) != 1 || !strings.Contains(faults[0], tt.want)):
				t.Errorf("faults = %q, want one with %q", faults, tt.want)
			}
		})
	}
}
