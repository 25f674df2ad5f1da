package ingest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"faultline/graph"
	"faultline/graph/finding"
	"faultline/internal/sim"
)

// judged is what was named while a scenario was played, by the minute in which it was.
type judged map[sim.Named][]int

// play lets an Intake see a scenario in real order, judges it every half minute as the product does, and returns all
// that was named.
func play(t *testing.T, s *sim.Scenario) judged {
	t.Helper()
	g, err := sim.NewGenerator(sim.Config{Seed: 11, Topology: s.Topology, Rate: s.Rate, Script: s.Faults, Skew: s.Skew}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	cfg := graph.DefaultLiveConfig()
	cfg.Hold = time.Hour // nothing is handed to a store: all of it stays here
	live := graph.NewLive(cfg, 1)
	in := NewIntake(DefaultConfig(), live)
	named := judged{}
	var memory finding.Memory
	for now := epoch; now.Before(epoch.Add(s.For)); {
		now = now.Add(time.Second)
		for _, b := range g.Advance(now) {
			feed(t, in, b.At, b.Body)
		}
		in.Tick(now)
		if now.Sub(epoch)%(30*time.Second) != 0 {
			continue
		}
		from := now.Truncate(graph.DetailLength).Add(-4 * graph.DetailLength)
		closed, open, _ := live.Ask(graph.LiveQuery{From: from, To: now, Edges: true, Details: true, Nodes: true})
		windows := append(closed, open...)
		for _, f := range finding.Judge(finding.NewGraph(windows, from, now, s.Topology.Environment, &memory)) {
			n := sim.Named{Rule: f.Rule, Subject: f.Subject}
			if f.Edge == (graph.EdgeKey{}) {
				n.Target = f.Node.ID()
			} else {
				n.Source, n.Target = f.Edge.Source.ID(), f.Edge.Target.ID()
			}
			if named[n] == nil {
				t.Logf("%s: %s %s → %s (%s): %s", now.Sub(epoch), n.Rule, n.Source, n.Target, n.Subject, f.Sentence)
			}
			named[n] = append(named[n], int(now.Sub(epoch)/time.Minute))
		}
		memory.Learned(now)
	}
	return named
}

// Everything that goes wrong is found by its name where it is, and nothing else is; where nothing goes wrong, nothing is
// named.
func TestWhatGoesWrongIsNamed(t *testing.T) {
	for _, s := range sim.Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			named := play(t, &s)
			for _, want := range s.Must {
				found := false
				for n := range named {
					found = found || n.Rule == want.Rule && n.Source == want.Source && n.Target == want.Target && (want.Subject == "" || n.Subject == want.Subject)
				}
				if !found {
					t.Errorf("not named: %+v", want)
				}
			}
			for n := range named {
				expected := slices.ContainsFunc(s.Must, func(m sim.Named) bool { return m.Rule == n.Rule })
				if !expected && !slices.Contains(s.May, n.Rule) {
					t.Errorf("named, and is not so: %+v in minutes %v", n, named[n])
				}
			}
			if t.Failed() {
				var all []string
				for n := range named {
					all = append(all, n.Rule)
				}
				slices.Sort(all)
				t.Logf("named: %s", strings.Join(slices.Compact(all), " "))
			}
		})
	}
}
