package web

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
)

func TestCurves(t *testing.T) {
	at := testNow.Truncate(time.Hour)
	key := func(source, target, env string) graph.EdgeKey {
		node := func(name string) graph.Node { return graph.Node{Env: env, Kind: graph.Service, Name: name} }
		return graph.EdgeKey{Source: node(source), Target: node(target), Protocol: graph.HTTP}
	}
	window := func(start, length time.Duration, rows ...graph.EdgeRow) graph.Window {
		return graph.Window{Start: at.Add(start), Length: length, Edges: rows}
	}
	row := func(k graph.EdgeKey, calls, errors int64) graph.EdgeRow {
		return graph.EdgeRow{Edge: k, Stats: graph.EdgeStats{Calls: calls, Errors: errors}}
	}
	a, b := key("a", "c", "prod"), key("b", "c", "prod")
	for _, test := range []struct {
		name    string
		windows []graph.Window
		want    []NodeSeries
	}{
		{"nothing", nil, []NodeSeries{}},
		{"callers add up", []graph.Window{window(0, time.Minute, row(a, 60, 6), row(b, 30, 0)), window(2*time.Minute, time.Minute, row(b, 120, 120))}, []NodeSeries{
			{ID: "c", Rate: []float64{1.5, 0, 2}, Failed: []float64{.1, 0, 2}},
		}},
		{"another environment is not counted", []graph.Window{window(0, time.Minute, row(key("a", "c", "test"), 60, 0))}, []NodeSeries{}},
		{"an older, longer window counts by its mean, and only within", []graph.Window{window(-2*time.Minute, 4*time.Minute, row(a, 240, 24))}, []NodeSeries{
			{ID: "c", Rate: []float64{1, 1, 0}, Failed: []float64{.1, .1, 0}},
		}},
		{"what was taken back is nothing", []graph.Window{window(0, time.Minute, row(a, -3, 0), row(b, 60, -1))}, []NodeSeries{
			{ID: "c", Rate: []float64{1, 0, 0}, Failed: []float64{0, 0, 0}},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, curves(test.windows, "prod", at, time.Minute, 3)); diff != "" {
				t.Error(diff)
			}
		})
	}
	many := window(0, time.Minute)
	for i := range 2 * curveNodes {
		many.Edges = append(many.Edges, row(key("a", string(rune(0x4e00+i)), "prod"), int64(i+1), 0))
	}
	got := curves([]graph.Window{many}, "prod", at, time.Minute, 1)
	least := math.Inf(1)
	for _, n := range got {
		least = min(least, n.Rate[0])
	}
	if len(got) != curveNodes || least < curveNodes/60. {
		t.Errorf("of %d nodes %d are told, the least with %v calls a second", len(many.Edges), len(got), least)
	}
}

// Of an edge that was not called the rate is 0; of a time before anything was kept nothing is known.
func TestSeriesBeforeAnythingWasKnown(t *testing.T) {
	start := floor(testNow, time.Minute).Add(-10 * time.Minute)
	at := func(after time.Duration, edge graph.EdgeKey) graph.Window {
		row := graph.EdgeRow{Edge: edge, Stats: callStats(60, 0, 0, time.Millisecond, 0, true, false)}
		return graph.Window{Start: start.Add(after), Length: graph.WindowLength, Edges: []graph.EdgeRow{row}}
	}
	store := newStore(t)
	store.add(at(2*time.Minute, frontCheckout), at(5*time.Minute, checkoutPayment), at(7*time.Minute, checkoutPayment))
	s := newServer(t, store, func(s *Settings) { s.Now = func() time.Time { return testNow } })
	times := "?step=1m&from=" + start.Format(time.RFC3339) + "&to=" + start.Add(9*time.Minute).Format(time.RFC3339)
	var got []string
	for _, p := range askFor[Series](t, s, "/api/v1/edges/"+checkoutPayment.ID()+"/series"+times).Points {
		if p.Rate == nil {
			got = append(got, "?")
		} else {
			got = append(got, fmt.Sprint(*p.Rate))
		}
	}
	if want := "? ? 0 0 0 1 0 1 0"; strings.Join(got, " ") != want {
		t.Errorf("rates %v, want %s", got, want)
	}
}

// TestNodesSeriesAgree holds the sums over the steps against the map of the same span.
func TestNodesSeriesAgree(t *testing.T) {
	w := illShop()
	now := time.Now()
	s := newServer(t, w, func(s *Settings) { s.Now = func() time.Time { return now } })
	from := floor(now, time.Minute).Add(-10 * time.Minute)
	times := "?from=" + from.Format(time.RFC3339) + "&to=" + from.Add(5*time.Minute).Format(time.RFC3339)
	series, g := askFor[NodesSeries](t, s, "/api/v1/series"+times), askFor[Graph](t, s, "/api/v1/graph"+times)
	rate := map[string]float64{}
	for _, n := range series.Nodes {
		for _, r := range n.Rate {
			rate[n.ID] += r / float64(len(n.Rate))
		}
	}
	called := 0
	for _, n := range g.Nodes {
		if n.Rate == nil {
			continue
		}
		called++
		if got := rate[n.ID]; math.Abs(got-*n.Rate) > .25**n.Rate+1 { // the made-up world counts short and long windows apart
			t.Errorf("%s has %v calls a second in the series and %v on the map", n.ID, got, *n.Rate)
		}
	}
	if called != len(series.Nodes) || series.StepS != 10 || series.Env != g.Env {
		t.Errorf("%d nodes in steps of %v s of %q; the map has %d that are called, of %q", len(series.Nodes), series.StepS, series.Env, called, g.Env)
	}
	// The present is not over.
	if live := askFor[NodesSeries](t, s, "/api/v1/series"); live.To.After(now.Add(-underway)) || now.Sub(live.To) > time.Minute || live.StepS != 30 {
		t.Errorf("the series of the last quarter of an hour ends %s ago, in steps of %v s", now.Sub(live.To), live.StepS)
	}
	if answer, body := ask(t, s, "/api/v1/series?from=now-5s"); answer.StatusCode != http.StatusOK {
		t.Errorf("%s %s", answer.Status, body)
	}
}

func askFor[T any](t *testing.T, s *Server, path string) (v T) {
	t.Helper()
	answer, body := ask(t, s, path)
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s\n%s", path, answer.Status, body)
	}
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatal(err)
	}
	return v
}
