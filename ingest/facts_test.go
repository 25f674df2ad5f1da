package ingest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
)

// details returns what the open minutes know of parts of edges in some dimensions, by "source → target: dimension name".
func details(live *graph.Live, dimensions ...graph.Dimension) map[string]*graph.Detail {
	out := map[string]*graph.Detail{}
	minutes, _ := live.Windows(time.Unix(0, 0), epoch.Add(24*time.Hour), true)
	for _, w := range minutes {
		for i := range w.Details {
			d := &w.Details[i]
			if !slices.Contains(dimensions, d.Key.Dimension) || d.Key.Dimension == graph.Measured && ofTraces(d.Key.Name) {
				continue
			}
			k := fmt.Sprintf("%s → %s: %s %s", d.Edge.Source.ID(), d.Edge.Target.ID(), d.Key.Dimension, d.Key.Name)
			if out[k] == nil {
				out[k] = &graph.Detail{}
			}
			out[k].Add(&d.Detail)
		}
	}
	return out
}

// ofTraces reports whether a measure is one of whole traces, which have tests of their own.
func ofTraces(name string) bool {
	for m := graph.Traces; m <= graph.PassedOn; m++ {
		if m.String() == name {
			return true
		}
	}
	return false
}

// factLines writes details on one line each: how often, how many of them failed, and the mean of the values in ms.
func factLines(live *graph.Live, dimensions ...graph.Dimension) []string {
	out := []string{}
	for k, d := range details(live, dimensions...) {
		if d.Calls == 0 && d.Latency.Count() == 0 {
			continue
		}
		line := fmt.Sprintf("%s: %d", k, d.Calls)
		if d.Errors != 0 {
			line += fmt.Sprintf(", failed %d", d.Errors)
		}
		if n := d.Latency.Count(); n > 0 {
			line += fmt.Sprintf(", %gms", float64(d.Latency.Sum()/n)/1e6)
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

var getB = map[string]any{"http.request.method": "GET", "server.address": "b", "server.port": 8080}

// What the caller's own breaker refused is the caller's: it says nothing of the callee, who never saw it, teaches
// nothing about the address, and misses no half.
func TestOpenBreakersAreTheCallersOwn(t *testing.T) {
	in, live := newIntake()
	now := epoch.Add(2 * time.Second)
	for i := range 30 {
		feed(t, in, now, each(t,
			tspan{service: "a", trace: byte(i), id: 1, kind: kindClient, at: i, ms: 10, attrs: get},
			tspan{service: "b", trace: byte(i), id: 2, parent: 1, kind: kindServer, at: i + 1, ms: 5, attrs: serve})...)
	}
	for i, kind := range []string{
		"io.github.resilience4j.circuitbreaker.CallNotPermittedException", "io.github.resilience4j.bulkhead.BulkheadFullException",
	} {
		for j := range 40 {
			feed(t, in, now, each(t, tspan{
				service: "a", trace: byte(50 + 100*i + j), id: 1, kind: kindClient, at: 1000, ms: 1, failed: true,
				attrs: with(getB, "error.type", kind),
			})...)
		}
	}
	in.Tick(now.Add(11 * time.Second))
	in.Tick(now.Add(31 * time.Second))
	want := []string{"a → b http: calls 110, errors 80, breaker_open 40, pool_exhausted 40, client 110×3ms, server 30×5ms"}
	if diff := cmp.Diff(want, briefs(live)); diff != "" {
		t.Error(diff)
	}
	want = []string{"a → b: cause breaker_open: 40, 1ms", "a → b: cause pool_exhausted: bulkhead full: 40, 1ms"}
	if diff := cmp.Diff(want, factLines(live, graph.Caused)); diff != "" {
		t.Error(diff)
	}
	if n := in.Counters().Pending; n != 0 {
		t.Errorf("%d halves wait for what cannot come", n)
	}
	// The callee that tells of a breaker of its own has seen the call.
	in, live = newIntake()
	feed(t, in, now, each(t,
		tspan{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 10, failed: true, attrs: with(get5, "error.type", "CircuitBreakerError")},
		tspan{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 1, ms: 5, failed: true, attrs: fail5})...)
	want = []string{"a → b http: calls 1, errors 1, server_error 1, client 1×10ms, server 1×5ms, server errors 1"}
	if diff := cmp.Diff(want, briefs(live)); diff != "" {
		t.Error(diff)
	}
}

// What a test of faults did is in the traffic and under its name, and not in the errors.
func TestInjectedFaultsAreNoErrors(t *testing.T) {
	in, live := newIntake()
	for i, flags := range []string{"FI", "DI", "-"} {
		feed(t, in, epoch.Add(time.Second), each(t, tspan{
			service: "a", trace: byte(i), id: 1, kind: kindClient, at: 0, ms: 10, failed: flags != "DI",
			attrs: with(get5, "response_flags", flags),
		})...)
	}
	in.Tick(epoch.Add(12 * time.Second))
	want := []string{"a → ext:b:8080 http: calls 3, errors 1, server_error 1, client 3×10ms"}
	if diff := cmp.Diff(want, briefs(live)); diff != "" {
		t.Error(diff)
	}
	want = []string{"a → ext:b:8080: cause server_error: 1, 10ms", "a → ext:b:8080: cause server_error: injected: 2, 10ms"}
	if diff := cmp.Diff(want, factLines(live, graph.Caused)); diff != "" {
		t.Error(diff)
	}
}
