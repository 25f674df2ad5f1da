package finding

import (
	"slices"
	"testing"
	"time"

	"faultline/graph"
)

// edgeAt judges an edge at a time after noon, of whose calls in the ten seconds from i·10 s after noon so many are fine
// and refused as of says. Refused ones become known ten seconds after the others.
func edgeAt(at time.Duration, of func(i int) (fine, refused int64)) []string {
	now := noon.Add(at)
	from := now.Add(-time.Nanosecond).Truncate(time.Minute).Add(-4 * time.Minute)
	var windows []graph.Window
	for start := from; start.Before(now); start = start.Add(graph.WindowLength) {
		fine, refused := of(int(start.Sub(noon) / graph.WindowLength))
		if start.Add(2 * graph.WindowLength).After(now) {
			refused = 0
		}
		m := (&minute{}).calls(fine, graph.None, 10*ms).calls(refused, graph.Refused, ms)
		m.retries(refused).measure(graph.RetryGap, refused, 0, 20*ms)
		w := graph.Window{Start: start, Length: graph.WindowLength, Edges: []graph.EdgeRow{{Edge: ab, Stats: m.EdgeStats}}}
		for key, d := range m.details {
			w.Details = append(w.Details, graph.DetailRow{Edge: ab, Key: key, Detail: *d})
		}
		windows = append(windows, w)
	}
	return names(Judge(Gather(from, now, &Memory{}).Add(windows...).Graph("")))
}

// Failures that have ended are not found any more after a minute, by the calls that are fine since, be
// they few or many, whenever in a minute it is; they are found as long as they go on.
func TestOverSoon(t *testing.T) {
	const round = 10 * time.Second
	for _, tt := range []struct{ fine, refused int64 }{{3, 3}, {10, 2}, {100, 10}, {1000, 30}, {0, 3}} {
		for end := 12; end < 18; end++ { // in windows after noon
			of := func(i int) (fine, refused int64) {
				if i < end {
					return tt.fine, tt.refused
				}
				return tt.fine + tt.refused, 0
			}
			ended := time.Duration(end) * graph.WindowLength
			for at := round; at < ended+5*time.Minute; at += round {
				found := slices.Contains(edgeAt(at, of), "refused a→b")
				switch {
				case at <= ended && !found:
					t.Errorf("%+v: not found after %s, and goes on", tt, at)
				case at > ended+55*time.Second && found:
					t.Errorf("%+v: still found %s after its end", tt, at-ended)
				}
			}
		}
	}
}

// What becomes less is not over, nor is what comes and goes, nor what is too rare to tell that it is missing.
func TestNotOver(t *testing.T) {
	for name, of := range map[string]func(i int) (fine, refused int64){
		"becomes less":   func(i int) (fine, refused int64) { return 100, []int64{40, 4}[min(max(i, 0)/6, 1)] },
		"comes and goes": func(i int) (fine, refused int64) { return 100, []int64{0, 50, 0}[(i+30)%3] },
		"is rare":        func(i int) (fine, refused int64) { return 2, []int64{1, 0, 0, 0, 0, 0}[(i+30)%6] },
	} {
		for at := time.Minute; at < 8*time.Minute; at += 10 * time.Second {
			if found := edgeAt(at, of); !slices.Contains(found, "refused a→b") {
				t.Errorf("%s: found %q after %s", name, found, at)
			}
		}
	}
}

// Retries are over with the failures that they followed.
func TestRetriesAreOverWithTheFailures(t *testing.T) {
	of := func(i int) (fine, refused int64) {
		if i < 6 {
			return 10, 10
		}
		return 10, 0
	}
	if found := edgeAt(time.Minute, of); !slices.Contains(found, "retry_budget a→b") {
		t.Errorf("found %q while it goes on", found)
	}
	if found := edgeAt(2*time.Minute, of); len(found) > 0 {
		t.Errorf("found %q afterwards", found)
	}
}
