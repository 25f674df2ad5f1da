package ingest

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
)

// moved returns spans as if they had come later.
func moved(by time.Duration, spans ...tspan) []tspan {
	out := make([]tspan, len(spans))
	for i, s := range spans {
		s.at += int(by / time.Millisecond)
		out[i] = s
	}
	return out
}

// pass lets time pass as it does for a process, with windows cut and kept, and returns the edges of those that closed.
func pass(in *Intake, live *graph.Live, from, to time.Time, step time.Duration) map[string]int64 {
	calls := map[string]int64{}
	for now := from; !now.After(to); now = now.Add(step) {
		in.Tick(now)
		parts := live.Cut(now)
		for _, p := range parts {
			if p.Open {
				continue
			}
			for i := range p.Edges {
				e := &p.Edges[i]
				calls[fmt.Sprintf("%s → %s", e.Edge.Source.ID(), e.Edge.Target.ID())] += e.Stats.Calls
			}
		}
		live.Kept(parts)
	}
	return calls
}

func smallIntake(nodes int) (*Intake, *graph.Live) {
	cfg := graph.DefaultLiveConfig()
	cfg.MaxNodes = nodes
	live := graph.NewLive(cfg, 1)
	return NewIntake(DefaultConfig(), live), live
}

// After more names than there is room for, those that came too late get their own nodes once the others were idle.
func TestNodeNumbersAreGivenAgain(t *testing.T) {
	in, live := smallIntake(200)
	now := epoch.Add(time.Second)
	for i := range 500 {
		feed(t, in, now, each(t, tspan{service: fmt.Sprint("hostile-", i), trace: 1, id: 1, kind: kindServer, ms: 5, attrs: serve})...)
	}
	late := tspan{service: "late", trace: 2, id: 1, kind: kindServer, ms: 5, attrs: serve}
	feed(t, in, now, each(t, late)...)
	if got := sums(live)["user → late http"]; got != nil {
		t.Fatal("there is room for more nodes than were allowed")
	}
	end := now.Add(3 * time.Hour)
	pass(in, live, now, end, time.Minute)
	if n, _ := live.Names().Nodes(); n > 10 {
		t.Errorf("%d nodes are held although nothing refers to them", n)
	}
	feed(t, in, end, each(t, moved(end.Sub(epoch)-time.Second, late)...)...)
	if got := sums(live)["user → late http"]; got == nil || got.Calls != 1 {
		t.Errorf("the late service has no node of its own: %v", briefs(live))
	}
}

// However numbers are given and freed, a call lies on the edge of those who made it.
func TestFreedNumbersAreNeverMistaken(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	in, live := smallIntake(400)
	want, got := map[string]int64{}, map[string]int64{}
	gather := func(calls map[string]int64) {
		for k, n := range calls {
			got[k] += n
		}
	}
	now := epoch.Add(time.Second)
	for round := range 60 {
		// Every round has services of its own beside one that is always there, and one that calls a database.
		for i := range 20 {
			name, trace := fmt.Sprintf("s%d-%d", round, i), byte(r.IntN(250))
			spans := moved(now.Sub(epoch)-time.Second,
				tspan{service: "always", trace: trace, id: byte(i + 1), kind: kindClient, ms: 9, attrs: tag{"http.request.method": "GET", "server.address": name}},
				tspan{service: name, trace: trace, id: byte(100 + i), parent: byte(i + 1), kind: kindServer, at: 1, ms: 5, attrs: serve},
				tspan{service: name, trace: trace, id: byte(200 + i), parent: byte(100 + i), kind: kindClient, at: 2, ms: 1, attrs: tag{"db.system.name": "redis", "db.namespace": name}})
			feed(t, in, now, each(t, spans...)...)
			want["always → "+name]++
			want[name+" → db:redis/"+name]++
		}
		next := now.Add(time.Duration(5+r.IntN(40)) * time.Minute)
		gather(pass(in, live, now.Add(time.Second), next, 20*time.Second))
		now = next.Add(time.Second)
	}
	gather(pass(in, live, now, now.Add(5*time.Minute), 20*time.Second))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := in.Counters().Dropped["node_limit"]; n != 0 {
		t.Errorf("%d nodes had no room: numbers are not given again soon enough", n)
	}
}

// Environments are few; one too many is gathered with the others that are.
func TestEnvironmentsAreBounded(t *testing.T) {
	in, live := newIntake()
	for i := range maxEnvs + 50 {
		feed(t, in, epoch.Add(time.Second), each(t, tspan{service: "b", env: fmt.Sprint("e", i), trace: byte(i), id: 1, kind: kindServer, ms: 5, attrs: serve})...)
	}
	got := sums(live)
	if other := got["(other): user → b http"]; len(got) != maxEnvs+1 || other == nil || other.Calls != 50 {
		t.Errorf("%d edges, %v; want %d, 50 calls in (other)", len(got), other, maxEnvs+1)
	}
	if n := in.Counters().Dropped["name_limit"]; n != 50 {
		t.Errorf("name_limit = %d, want 50", n)
	}
}
