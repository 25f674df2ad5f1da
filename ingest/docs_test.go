package ingest

import (
	"fmt"
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

// TestRoomIsDocumented wants the pages to say how many spans may be in flight, and into how many shards they are divided.
func TestRoomIsDocumented(t *testing.T) {
	n := NewIntake(DefaultConfig(), graph.NewLive(graph.DefaultLiveConfig(), 1)).cfg.MaxPending
	room := fmt.Sprintf("%d,%03d", n/1000, n%1000)
	for name, words := range map[string][]string{
		"../README.md":      {room + " spans in flight"},
		"../docs/limits.md": {fmt.Sprintf("at %d bytes each: %s |", halfSize, room), fmt.Sprintf("a power of two from %d to %d,", minShards, maxShards)},
	} {
		page, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range words {
			if !strings.Contains(string(page), word) {
				t.Errorf("%s does not say %q", name, word)
			}
		}
	}
}
