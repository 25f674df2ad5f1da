package ingest

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
)

func version(v string) map[string]any { return map[string]any{"service.version": v} }

// Calls are counted by the caller's version and by that of the callee that answered, as the caller saw them.
func TestVersionsAreCountedInPairs(t *testing.T) {
	in, live := newIntake()
	var spans []tspan
	call := func(trace byte, caller, callee string, ms int, failed bool) {
		attrs := getB
		if failed {
			attrs = with(getB, "error.type", "timeout")
		}
		spans = append(spans, tspan{service: "a", trace: trace, id: 1, kind: kindClient, ms: ms, attrs: attrs, failed: failed, resource: version(caller)})
		if callee != "nobody" {
			spans = append(spans, tspan{service: "b", trace: trace, id: 2, parent: 1, kind: kindServer, at: 1, ms: ms - 2, attrs: serve, resource: version(callee)})
		}
	}
	call(1, "1.0", "2.0", 10, false)
	call(2, "1.0", "2.0", 30, false)
	call(3, "1.1", "2.0", 40, true) // the callee's half is fine: what counts is what the caller saw
	call(4, "1.1", "2.1", 20, false)
	call(5, "1.1", "", 50, false)
	call(6, "", "2.1", 60, false)
	call(7, "1.0", "nobody", 70, true)
	call(8, "", "", 80, false)
	feed(t, in, epoch.Add(2*time.Second), each(t, spans...)...)
	in.Tick(epoch.Add(15 * time.Second))
	pair := func(of, caller, callee, is string) string {
		return fmt.Sprintf("%s: version_pair %s: %s", of, graph.PairName(caller, callee), is)
	}
	want := []string{
		pair("a → b", "", "2.1", "1, 60ms"),
		pair("a → b", "1.0", "", "1, failed 1, 70ms"),
		pair("a → b", "1.0", "2.0", "2, 20ms"),
		pair("a → b", "1.1", "", "1, 50ms"),
		pair("a → b", "1.1", "2.0", "1, failed 1, 40ms"),
		pair("a → b", "1.1", "2.1", "1, 20ms"),
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, factLines(live, graph.VersionPair)); diff != "" {
		t.Error(diff)
	}
}

// What a callee turns down as wrong is counted by the pair, however late its half comes; other failures and refusals of
// whoever may not call are not.
func TestTurnedDownCallsAreCountedInPairs(t *testing.T) {
	for _, late := range []bool{false, true} {
		in, live := newIntake()
		var first, second []tspan
		call := func(trace byte, callee string, status int) {
			first = append(first, tspan{
				service: "a", trace: trace, id: 1, kind: kindClient, ms: 10, attrs: with(getB, "http.response.status_code", status), resource: version("1.0"),
			})
			second = append(second, tspan{
				service: "b", trace: trace, id: 2, parent: 1, kind: kindServer, at: 1, ms: 8, attrs: with(serve, "http.response.status_code", status), resource: version(callee),
			})
		}
		call(1, "2.0", 200)
		call(2, "2.1", 422)
		call(3, "2.1", 400)
		call(4, "2.0", 404)
		call(5, "2.1", 503)
		call(6, "2.1", 403)
		feed(t, in, epoch.Add(2*time.Second), each(t, first...)...)
		if late {
			in.Tick(epoch.Add(15 * time.Second))
		}
		feed(t, in, epoch.Add(16*time.Second), each(t, second...)...)
		in.Tick(epoch.Add(30 * time.Second))
		want := []string{
			"a → b: pair_turned_down " + graph.PairName("1.0", "2.0") + ": 1, 10ms",
			"a → b: pair_turned_down " + graph.PairName("1.0", "2.1") + ": 2, 10ms",
		}
		if diff := cmp.Diff(want, factLines(live, graph.PairTurnedDown)); diff != "" {
			t.Errorf("late: %v: %s", late, diff)
		}
	}
}

// A callee's half that comes late moves its call from the caller's version alone to the pair.
func TestALateHalfCorrectsThePair(t *testing.T) {
	in, live := newIntake()
	bodies := each(t,
		tspan{service: "a", trace: 1, id: 1, kind: kindClient, ms: 100, attrs: getB},
		tspan{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: serve, resource: version("2.0")},
	)
	feed(t, in, epoch.Add(time.Second), bodies[0])
	in.Tick(epoch.Add(12 * time.Second))
	alone := "a → ext:b:8080: version_pair " + graph.PairName("1.0", "") + ": 1, 100ms"
	if diff := cmp.Diff([]string{alone}, factLines(live, graph.VersionPair)); diff != "" {
		t.Error(diff)
	}
	feed(t, in, epoch.Add(time.Minute), bodies[1])
	paired := "a → b: version_pair " + graph.PairName("1.0", "2.0") + ": 1, 100ms"
	if diff := cmp.Diff([]string{paired}, factLines(live, graph.VersionPair)); diff != "" {
		t.Error(diff)
	}
}

// All processes of a version count as one, however many there are.
func TestProcessesOfOneVersionCountTogether(t *testing.T) {
	in, live := newIntake()
	var spans []tspan
	for i := range byte(60) {
		process := map[string]any{"service.version": "2.0", "service.instance.id": fmt.Sprint("b-", i)}
		spans = append(spans, tspan{service: "b", trace: i, id: 1, kind: kindServer, ms: 10, attrs: serve, resource: process})
	}
	feed(t, in, epoch.Add(2*time.Second), each(t, spans...)...)
	if diff := cmp.Diff([]string{"user → b: version 2.0: 60, 10ms"}, factLines(live, graph.Version)); diff != "" {
		t.Error(diff)
	}
}

// A service is as critical as its latest process says, in any case; words that are not known say nothing.
func TestCriticality(t *testing.T) {
	in, _ := newIntake()
	node := graph.Node{Kind: graph.Service, Namespace: "shop", Name: "a"}
	if got := in.Criticality(node); got != graph.CriticalityUnknown {
		t.Errorf("before any span: %v", got)
	}
	for i, tt := range []struct{ says, want string }{{"high", "high"}, {"Critical", "critical"}, {"vital", "critical"}, {"", "critical"}, {"low", "low"}} {
		process := map[string]any{"service.criticality": tt.says, "service.instance.id": strconv.Itoa(i)}
		feed(t, in, epoch.Add(time.Second), each(t, tspan{service: "shop/a", trace: byte(i), id: 1, kind: kindServer, ms: 1, attrs: serve, resource: process})...)
		if got := in.Criticality(node).String(); got != tt.want {
			t.Errorf("after %q it is %q, want %q", tt.says, got, tt.want)
		}
	}
	node.Kind = graph.Gateway
	if got := in.Criticality(node).String(); got != "low" {
		t.Errorf("as a gateway it is %q", got)
	}
}
