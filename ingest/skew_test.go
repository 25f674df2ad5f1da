package ingest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"faultline/graph"
	"faultline/internal/sim"
)

// The same system, once by clocks that agree and once by clocks that are off by up to three seconds either way, each
// process's by another: what is said of wasted work and of the critical path is the same.
func TestASystemByClocksThatDiffer(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	var slow sim.Scenario
	for _, sc := range sim.Scenarios() {
		if sc.Name == "slow service" {
			slow = sc
		}
	}
	play := func(skew time.Duration) map[string]*graph.Detail {
		g, err := sim.NewGenerator(sim.Config{Seed: 3, Rate: 8, Topology: slow.Topology, Script: slow.Faults, Skew: skew}, epoch)
		if err != nil {
			t.Fatal(err)
		}
		in, live := newIntake()
		seen := map[string]*graph.Detail{}
		gather := func(now time.Time) {
			parts := live.Cut(now)
			for _, p := range parts {
				for i := range p.Details {
					if d := &p.Details[i]; !p.Open && d.Key.Dimension == graph.Measured {
						k := fmt.Sprintf("%s → %s: %s", d.Edge.Source.ID(), d.Edge.Target.ID(), d.Key.Name)
						if seen[k] == nil {
							seen[k] = &graph.Detail{}
						}
						seen[k].Add(&d.Detail)
					}
				}
			}
			live.Kept(parts)
		}
		now := epoch
		for b := range g.Generate(8 * time.Minute) {
			for now.Add(time.Second).Before(b.At) {
				now = now.Add(time.Second)
				in.Tick(now)
				gather(now)
			}
			feed(t, in, b.At, b.Body)
		}
		in.Flush(now.Add(time.Minute))
		gather(now.Add(time.Hour))
		return seen
	}
	right, skewed := play(0), play(3*time.Second)
	compared := map[string]bool{}
	for k, want := range right {
		name := k[strings.LastIndex(k, " ")+1:]
		if !slices.Contains([]string{"wasted", "critical", "critical_edge", "critical_self"}, name) || want.Calls < 20 {
			continue
		}
		compared[name] = true
		// Before enough calls have been seen, a few may be off.
		got := skewed[k]
		if got == nil {
			got = &graph.Detail{}
		}
		if got.Calls != want.Calls || math.Abs(float64(got.Latency.Sum())/float64(want.Latency.Sum())-1) > 0.005 {
			t.Errorf("%s: %d of %v in all, by clocks that differ %d of %v", k, want.Calls, time.Duration(want.Latency.Sum()), got.Calls, time.Duration(got.Latency.Sum()))
		}
	}
	if len(compared) != 4 {
		t.Errorf("compared %v alone", compared)
	}
}
