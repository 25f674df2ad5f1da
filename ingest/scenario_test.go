package ingest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"faultline/graph"
	"faultline/internal/sim"
)

// shows are what must be seen of an edge for a rule to name it: a measure or a cause.
var shows = map[string]string{
	"retry_budget": "measure retry_gap", "retries_do_not_help": "measure retry_gap", "no_backoff": "measure retry_gap",
	"no_jitter": "measure retry_gap", "pushback_ignored": "measure retry_pushback", "unsafe_retry": "measure unsafe_retry", "hedging": "measure hedge",
	"redelivery": "measure redelivery", "wasted_work": "measure wasted", "queue_lag": "measure lag",
	"timeout": "cause timeout", "refused": "cause refused", "unresolved": "cause unresolved", "throttled": "cause throttled",
	"breaker_open": "cause breaker_open", "reset": "cause reset", "lost_response": "cause lost_response", "server_error": "cause server_error", "unclassified": "cause unclassified",
}

// unasked are the facts that no system shows in which nothing of the kind goes wrong.
var unasked = []string{"unsafe_retry", "hedging", "redelivery", "wasted_work"}

// What goes wrong in each of the simulator's scenarios is seen on its edge, and what does not is not seen anywhere.
func TestSimulatedFaultsShow(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for _, sc := range sim.Scenarios() {
		t.Run(sc.Name, func(t *testing.T) {
			t.Parallel()
			showsAll(t, &sc)
		})
	}
}

func showsAll(t *testing.T, sc *sim.Scenario) {
	t.Helper()
	seen, truth := seenOf(t, sc)
	var rules []string
	for _, must := range sc.Must {
		rules = append(rules, must.Rule)
		what := shows[must.Rule]
		if strings.HasPrefix(must.Subject, must.Rule+": ") {
			what = "cause " + must.Subject
		}
		if what != "" && must.Source != "" {
			if d := seen[must.Source+" → "+must.Target+": "+what]; d == nil || d.Calls < 20 {
				t.Errorf("%s → %s shows no %s", must.Source, must.Target, what)
			}
		}
	}
	for _, rule := range unasked {
		if slices.Contains(rules, rule) || rule == "wasted_work" && slices.Contains(rules, "timeout") {
			continue
		}
		for k := range seen {
			if strings.HasSuffix(k, shows[rule]) {
				t.Error(k)
			}
		}
	}
	for k := range seen {
		// Nobody answers before he has done what was asked of him, but who answers a call that has another answer already.
		if strings.HasSuffix(k, " negative_gap") && !slices.Contains(rules, "hedging") {
			t.Error(k)
		}
	}
	for _, e := range truth.Edges() {
		// Every retry but those of hedges is one whose earlier attempt is there, and all of a logical call is.
		if slices.Contains(rules, "hedging") {
			continue
		}
		want, of := truth.Edge(e), e.Source+" → "+e.Target+": measure "
		if n := count(seen[of+"retry_gap"]); n != want.Retries {
			t.Errorf("%v shows %d retries, want %d", e, n, want.Retries)
		}
		whole := seen[of+"retried_call"]
		if n := count(whole); n != want.Retried {
			t.Errorf("%v shows %d calls that were retried, want %d", e, n, want.Retried)
		}
		if want.Retried > 0 && whole.Latency.Quantile(0) < float64(want.Client.Quantile(0)) {
			t.Errorf("%v: one that was retried took %v ns, one attempt %d at the least", e, whole.Latency.Quantile(0), want.Client.Quantile(0))
		}
	}
	if lag := seen["queue:kafka/orders → worker: measure lag"]; lag != nil && !slices.Contains(rules, "queue_lag") {
		if p95 := lag.Latency.Quantile(.95); p95 > 1e9 {
			t.Errorf("messages lag %v, by clocks that differ", time.Duration(p95))
		}
	}
}

// seenOf plays a scenario to the end of what goes wrong, at a lower rate, and returns all details that are seen of it, by
// edge, dimension and name, and the truth.
func seenOf(t *testing.T, sc *sim.Scenario) (map[string]*graph.Detail, *sim.Truth) {
	t.Helper()
	g, err := sim.NewGenerator(sim.Config{Seed: 3, Rate: sc.Rate * 0.4, Topology: sc.Topology, Script: sc.Faults, Skew: sc.Skew, KeepTruth: true}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	in, live := newIntake()
	seen := map[string]*graph.Detail{}
	gather := func(now time.Time) {
		parts := live.Cut(now)
		for _, p := range parts {
			for i := range p.Details {
				if d := &p.Details[i]; !p.Open {
					k := fmt.Sprintf("%s → %s: %s %s", d.Edge.Source.ID(), d.Edge.Target.ID(), d.Key.Dimension, d.Key.Name)
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
	for b := range g.Generate(sc.End()) {
		for now.Add(time.Second).Before(b.At) {
			now = now.Add(time.Second)
			in.Tick(now)
			gather(now)
		}
		feed(t, in, b.At, b.Body)
	}
	in.Flush(now.Add(time.Minute))
	gather(now.Add(time.Hour))
	return seen, g.Truth()
}

func count(d *graph.Detail) int64 {
	if d == nil {
		return 0
	}
	return d.Calls
}
