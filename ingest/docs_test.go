package ingest

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"faultline/graph"
)

// wholeTraces returns the names of the measures of whole traces.
func wholeTraces() (names []string) {
	for m := graph.Traces; m <= graph.NestedRetries; m++ {
		names = append(names, m.String())
	}
	return names
}

// TestWordsAreDocumented wants every reason under which something is refused or dropped on its way into the graph, every
// class of failures, what becomes of traces and what is learned from them to be explained.
func TestWordsAreDocumented(t *testing.T) {
	reasons := slices.Concat(faultNames[:], dropNames[:], slices.Collect(maps.Keys(answers)), []string{
		"ok", "partial", "name_limit", "node_limit", "edge_limit", "detail_limit", "store_unavailable",
	})
	var failures []string // and why halves stay alone
	for f := graph.None + 1; int(f) < graph.NumFailures; f++ {
		failures = append(failures, f.String())
	}
	for _, name := range aloneNames {
		_, reason, _ := strings.Cut(name, "_")
		failures = append(failures, reason)
	}
	for name, words := range map[string][]string{"../docs/limits.md": reasons, "../docs/edges.md": slices.Concat(failures, traceFates[:], wholeTraces())} {
		page, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range words {
			if !strings.Contains(string(page), "`"+word+"`") {
				t.Errorf("%s does not explain %s", name, word)
			}
		}
	}
}
