package finding

import (
	"math"
	"strings"
	"testing"
	"time"

	"faultline/graph"
)

func TestDeviance(t *testing.T) {
	const many = 1_000_000_000 // a share that is known
	for _, tt := range []struct {
		k, n, j, m int64
		want       float64
	}{
		// TV E.1, of one share against a known one.
		{5, 100, many / 100, many, 2.8737},
		{1, 100, many / 100, many, 0},
		{0, 100, many / 100, many, -1.4178},
		{30, 1000, many / 100, many, 5.1306},
		{10, 20, many / 20, many, 5.7632},
		{60, 100, many / 2, many, 2.0068},
		{10, 100, 10, 100, 0},
		{0, 100, 0, 1000, 0},
		{100, 100, 1000, 1000, 0},
	} {
		if got := deviance(tt.k, tt.n, tt.j, tt.m); math.Abs(got-tt.want) > 2e-3 {
			t.Errorf("%d of %d against %d of %d: %v, want %v", tt.k, tt.n, tt.j, tt.m, got, tt.want)
		}
	}
}

// A version that appears is compared with those that run beside it, over the same minutes.
func TestADeployThatMakesThingsWorse(t *testing.T) {
	// version adds a minute's calls of a version: so many fail, and of so many the latency is longer.
	version := func(m *minute, name string, n, failed, slow int64) {
		key := part(graph.Version, graph.ServerSide, name)
		m.calls(n, graph.None, 20*ms).detail(key, n-slow, failed, 20*ms)
		if slow > 0 {
			m.detail(key, slow, 0, 90*ms)
		}
	}
	for _, tt := range []struct {
		name  string
		f     func(m *minute)
		level graph.Level
		say   string
	}{
		{"no worse", func(m *minute) { version(m, "1.0", 1000, 2, 20); version(m, "1.1", 200, 1, 4) }, graph.Note, "version 1.1 appeared and has 17 % of the traffic, n=1,000"},
		{"fails a little more", func(m *minute) { version(m, "1.0", 2000, 4, 0); version(m, "1.1", 400, 8, 0) }, graph.Warn, "it fails 2 %, the others 0.2 % on calls from a"},
		{"too little to matter", func(m *minute) { version(m, "1.0", 100_000, 100, 0); version(m, "1.1", 100_000, 400, 0) }, graph.Note, ""},
		{"more tail", func(m *minute) { version(m, "1.0", 1000, 0, 10); version(m, "1.1", 200, 0, 30) }, graph.Warn, "the p95 is 90"},
		{"slow throughout", func(m *minute) { version(m, "1.0", 1000, 0, 0); version(m, "1.1", 200, 0, 110) }, graph.Warn, "of the others 20"},
		{"few calls", func(m *minute) { version(m, "1.0", 100, 0, 0); version(m, "1.1", 6, 1, 2) }, graph.Note, ""},
	} {
		memory, s := &Memory{}, &system{}
		s.same(ab, func(m *minute) { version(m, "1.0", 1000, 0, 0) })
		s.processes = []graph.NodeRow{{Node: service("b"), Instance: "b-0", Version: "1.0", Spans: 1}}
		Judge(s.graph(noon, memory))
		s.minutes = [5]map[graph.EdgeKey]*minute{}
		s.same(ab, tt.f)
		var found graph.Finding
		for i := range 5 { // the version has been there for so many minutes
			for _, f := range Judge(s.graph(noon.Add(time.Duration(i)*time.Minute), memory)) {
				if f.Rule == "deploy" {
					found = f
				}
			}
			if i == 0 && found.Level != graph.Note {
				t.Errorf("%s: %s at first sight: %s", tt.name, found.Level, found.Sentence)
			}
		}
		if found.Level != tt.level || !strings.Contains(found.Sentence, tt.say) {
			t.Errorf("%s: %s: %s", tt.name, found.Level, found.Sentence)
		}
	}
	// What was before the version came says nothing.
	memory, s := &Memory{}, &system{}
	s.processes = []graph.NodeRow{{Node: service("b"), Instance: "b-0", Version: "1.0", Spans: 1}}
	s.same(ab, func(m *minute) { version(m, "1.0", 1000, 0, 0) })
	Judge(s.graph(noon, memory))
	s.minutes = [5]map[graph.EdgeKey]*minute{}
	s.each(ab, func(i int, m *minute) {
		if i < 3 {
			version(m, "1.0", 1000, 0, 0)
			return
		}
		version(m, "1.0", 200, 20, 0) // everything fails since
		version(m, "1.1", 200, 20, 0)
	})
	Judge(s.graph(noon.Add(-2*time.Minute), memory))
	for _, f := range Judge(s.graph(noon, memory)) {
		if f.Rule == "deploy" && f.Level != graph.Note {
			t.Errorf("all versions fail: %s", f.Sentence)
		}
	}
}
