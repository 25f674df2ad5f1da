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

// How the product judges: every ten seconds. It asks for edges without a timeout more rarely than here, and for the sums
// of a week, of which a play is all that there was.
const (
	judgeEvery = 10 * time.Second
	weighEvery = 2 * time.Minute
)

// sighting is when something was named, from the beginning of the play, and what was said of it last.
type sighting struct {
	first, last time.Duration
	graph.Finding
}

// play lets an Intake see a scenario in real order, judges it as the product does, and returns all that was named.
func play(t *testing.T, s *sim.Scenario) map[sim.Named]*sighting {
	t.Helper()
	g, err := sim.NewGenerator(sim.Config{Seed: 11, Topology: s.Topology, Rate: s.Rate, Script: s.Faults, Skew: s.Skew}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	cfg := graph.DefaultLiveConfig()
	cfg.Hold = time.Hour // nothing is handed to a store: all of it stays here
	live := graph.NewLive(cfg, 1)
	in := NewIntake(DefaultConfig(), live)
	named := map[sim.Named]*sighting{}
	var memory finding.Memory
	for at := time.Second; at <= s.For; at += time.Second {
		now := epoch.Add(at)
		for _, b := range g.Advance(now) {
			feed(t, in, b.At, b.Body)
		}
		in.Tick(now)
		if at%weighEvery == 0 {
			_, week, _ := live.Ask(graph.LiveQuery{From: epoch, To: now, Edges: true, Sum: true}) // all of it is open
			for i := range week {
				memory.LookForTimeouts(week[i].Edges, now)
			}
		}
		if at%judgeEvery != 0 {
			continue
		}
		from := now.Truncate(graph.DetailLength).Add(-4 * graph.DetailLength)
		closed, open, _ := live.Ask(graph.LiveQuery{From: from, To: now, Edges: true, Details: true, Nodes: true})
		for _, f := range finding.Judge(finding.Gather(from, now, &memory).Add(append(closed, open...)...).Graph(s.Topology.Environment)) {
			n := nameOf(&f)
			if named[n] == nil {
				named[n] = &sighting{first: at}
				t.Logf("%s: %s: %s, %s", at, n, f.Level, f.Sentence)
			}
			named[n].last, named[n].Finding = at, f
		}
		memory.Learned(now)
	}
	return named
}

func nameOf(f *graph.Finding) sim.Named {
	if f.Edge == (graph.EdgeKey{}) {
		return sim.Named{Rule: f.Rule, Target: f.Node.ID(), Subject: f.Subject}
	}
	return sim.Named{Rule: f.Rule, Source: f.Edge.Source.ID(), Target: f.Edge.Target.ID(), Subject: f.Subject}
}

// Everything that goes wrong is found by its name on its edge, soon after it begins, and nothing else is, nor anything
// before or long after; where nothing goes wrong, nothing is named.
func TestWhatGoesWrongIsNamed(t *testing.T) {
	for _, s := range sim.Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			named := play(t, &s)
			for _, want := range s.Must {
				found := false
				for n, seen := range named {
					found = found || n.Is(want) && seen.first <= s.Begin()+s.Within
				}
				if !found {
					t.Errorf("not named, or too late: %s", want)
				}
			}
			known := slices.Concat(s.Must, s.May)
			for n, seen := range named {
				if !slices.ContainsFunc(known, n.Is) {
					t.Errorf("named, and is not so: %s, from %s to %s: %s", n, seen.first, seen.last, seen.Sentence)
				}
				if seen.first < s.Begin() || seen.last > s.End()+s.Lingers {
					t.Errorf("from %s to %s: %s is named from %s to %s", s.Begin(), s.End(), n, seen.first, seen.last)
				}
				if n.Rule == "server_error" {
					beginsWhere(t, &s, n, seen)
				}
			}
		})
	}
}

// beginsWhere fails a test if it is not said of a failure that it is only passed on, and where it begins; or if that is
// said where it does begin.
func beginsWhere(t *testing.T, s *sim.Scenario, n sim.Named, seen *sighting) {
	t.Helper()
	const passes = "; it passes on what fails at "
	begins := n.Source+" → "+n.Target == s.Begins
	if said := strings.HasSuffix(seen.Sentence, passes+s.Begins); said == begins || begins && strings.Contains(seen.Sentence, passes) {
		t.Errorf("%s begins at %q: %s", n, s.Begins, seen.Sentence)
	}
	if !begins && seen.Level == graph.Severe {
		t.Errorf("%s is as loud as where it begins", n)
	}
}
