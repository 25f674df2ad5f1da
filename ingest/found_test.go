package ingest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"faultline/graph"
	"faultline/graph/finding"
)

// foundIn lets an Intake see calls, ten a second for some minutes, and returns what is named in the end, by "rule source →
// target subject", with the sentences. call returns the spans of call n, which begins so many milliseconds after epoch;
// their traces and ids are filled in, and an id stands for itself within the call, as does a parent.
func foundIn(t *testing.T, minutes int, call func(n, at int) []tspan) (names []string, sentences map[string]string) {
	t.Helper()
	cfg := graph.DefaultLiveConfig()
	cfg.Hold = time.Hour
	live := graph.NewLive(cfg, 1)
	in := NewIntake(DefaultConfig(), live)
	var memory finding.Memory
	var last []graph.Finding
	n := 0
	for second := range minutes * 60 {
		now := epoch.Add(time.Duration(second+1) * time.Second)
		for i := range 10 {
			spans := call(n, second*1000+i*100)
			for k := range spans {
				s := &spans[k]
				s.trace = byte(n)
				place := func(id byte) byte {
					if id == 0 {
						return 0
					}
					return byte(n>>8)%50*5 + id // at most five spans a call
				}
				s.id, s.parent = place(s.id), place(s.parent)
			}
			feed(t, in, now, each(t, spans...)...)
			n++
		}
		in.Tick(now)
		if (second+1)%10 != 0 {
			continue
		}
		from := now.Add(-time.Nanosecond).Truncate(graph.DetailLength).Add(-4 * graph.DetailLength)
		closed, open, _ := live.Ask(graph.LiveQuery{From: from, To: now, Edges: true, Details: true, Nodes: true})
		last = finding.Judge(finding.Gather(from, now, &memory).Add(append(closed, open...)...).Graph(""))
		memory.Learned(now)
	}
	sentences = map[string]string{}
	for _, f := range last {
		name := fmt.Sprintf("%s %s → %s %s", f.Rule, f.Edge.Source.ID(), f.Edge.Target.ID(), f.Subject)
		names = append(names, name)
		sentences[name] = f.Sentence
	}
	slices.Sort(names)
	return names, sentences
}

// What is slow in one zone, version or caller's instance is named so.
func TestSlowPartsByName(t *testing.T) {
	// Three instances call four, which stand in two zones and run two versions.
	calls := func(slow func(caller, callee int) bool) func(n, at int) []tspan {
		return func(n, at int) []tspan {
			caller, callee := n%3, n%4
			ms := 20
			if slow(caller, callee) {
				ms = 60
			}
			at += n % 7
			return []tspan{
				{service: "a", id: 1, kind: kindClient, at: at, ms: ms + 2, attrs: get, resource: map[string]any{"service.instance.id": fmt.Sprint("a-", caller)}},
				{service: "b", id: 2, parent: 1, kind: kindServer, at: at + 1, ms: ms, attrs: serve, resource: map[string]any{
					"service.instance.id": fmt.Sprint("b-", callee), "cloud.availability_zone": fmt.Sprint("z", callee/2), "service.version": fmt.Sprint("1.", callee%2),
				}},
			}
		}
	}
	for _, tt := range []struct {
		name string
		slow func(caller, callee int) bool
		want []string
	}{
		{"none", func(int, int) bool { return false }, nil},
		{"all", func(int, int) bool { return true }, nil},
		{"a zone", func(_, callee int) bool { return callee/2 == 1 }, []string{"bad_zone a → b z1"}},
		{"a version", func(_, callee int) bool { return callee%2 == 1 }, []string{"bad_version a → b 1.1"}},
		{"an instance", func(_, callee int) bool { return callee == 2 }, []string{"bad_instance a → b b-2"}},
		{"a caller", func(caller, _ int) bool { return caller == 1 }, []string{"bad_caller a → b a-1"}},
	} {
		names, sentences := foundIn(t, 3, calls(tt.slow))
		if !slices.Equal(names, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, sentences, tt.want)
		}
	}
}
