package web

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// described matches how client_golang prints a description: it has no accessors.
var described = regexp.MustCompile(`^Desc\{fqName: "(\w+)", help: "([^"]*)", unit: "\w*", constLabels: \{\}, variableLabels: \{([\w,]*)\}\}$`)

// TestMetricsPage holds the table of docs/metrics.md against what is registered. -update rewrites it.
func TestMetricsPage(t *testing.T) {
	const (
		file   = "../docs/metrics.md"
		marker = "<!-- From here on written by: go test ./web -run TestMetricsPage -update -->\n"
	)
	// A server of which every metric has something to say, which tells its type.
	s := newServer(t, shopStore(t), func(s *Settings) {
		s.History = func() History { return History{Dropped: map[string]int64{"examples_store_unavailable": 2}} }
	})
	s.hub.cut["slow"] = 1
	s.Flushed(time.Millisecond, nil)
	ask(t, s, "/api/v1/graph")
	families := scrape(t, s)

	descriptions := make(chan *prometheus.Desc)
	go func() {
		s.metrics.registry.Describe(descriptions)
		close(descriptions)
	}()
	var rows []string
	for d := range descriptions {
		m := described.FindStringSubmatch(d.String())
		if strings.Contains(d.String(), `fqName: "go_`) || strings.Contains(d.String(), `fqName: "process_`) {
			continue
		}
		if m == nil {
			t.Errorf("cannot read %s", d)
			continue
		}
		name, help, labels := m[1], m[2], m[3]
		family := families[name]
		if family == nil {
			t.Errorf("%s is registered, and a scrape does not show it", name)
			continue
		}
		if labels != "" {
			labels = "`" + strings.ReplaceAll(labels, ",", "`, `") + "`"
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, strings.ToLower(family.GetType().String()), labels, help))
	}
	slices.Sort(rows)
	table := "\n| metric | type | labels | |\n| --- | --- | --- | --- |\n" + strings.Join(rows, "")

	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, have, ok := strings.Cut(string(page), marker)
	if !ok {
		t.Fatalf("%s: no line %q", file, marker)
	}
	if *update {
		if err := os.WriteFile(file, []byte(head+marker+table), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(table, have); diff != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", file, diff)
	}
	for _, name := range regexp.MustCompile(`\b(faultline|traces)_\w+\b`).FindAllString(head, -1) {
		if families[name] == nil && name != "traces_service_graph_" {
			t.Errorf("%s: speaks of %s, which there is not", file, name)
		}
	}
}
