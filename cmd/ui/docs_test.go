package main

import (
	"bytes"
	"os"
	"regexp"
	"testing"
)

// TestFlagsAreDocumented wants the table of variables to name every flag beside its variable, and no other.
func TestFlagsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	var usage bytes.Buffer
	_, _ = configure([]string{"-help"}, func(string) string { return "" }, &usage)
	flags := map[string]string{}
	for _, m := range regexp.MustCompile(`(?s)  -([\w-]+).*?\[(FAULTLINE_\w+)\]`).FindAllStringSubmatch(usage.String(), -1) {
		flags[m[2]] = m[1]
	}
	if len(flags) == 0 {
		t.Fatalf("no flags in:\n%s", usage.String())
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(FAULTLINE_\\w+)` \\|[^|]*\\| (?:`-([\\w-]+)` )?\\|").FindAllStringSubmatch(string(page), -1) {
		if flags[m[1]] != m[2] {
			t.Errorf("%s: the page has the flag %q, the program %q", m[1], m[2], flags[m[1]])
		}
		delete(flags, m[1])
	}
	for variable := range flags {
		t.Errorf("%s is not in the table of docs/configuration.md", variable)
	}
}
