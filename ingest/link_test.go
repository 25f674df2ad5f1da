package ingest

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
	"faultline/internal/sketch"
)

// linkSums returns who is linked to whom, and how many spans say so. It wants nothing else to be counted of links.
func linkSums(t *testing.T, live *graph.Live) map[string]int64 {
	t.Helper()
	links := map[string]int64{}
	for name, s := range sums(live) {
		if ends, linked := strings.CutSuffix(name, " linked"); linked {
			links[ends] = s.Messages
			if diff := cmp.Diff(graph.EdgeStats{Messages: s.Messages, Raw: s.Raw}, *s, cmp.AllowUnexported(sketch.Sketch{})); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
	return links
}

// A.3, case 19: links outside of messaging are a relation, and no calls.
func TestLinksAreARelation(t *testing.T) {
	call := tspan{service: "a", trace: 1, id: 1, kind: kindClient, ms: 20, attrs: getB}
	for _, tt := range []struct {
		name  string
		spans []tspan
		want  map[string]int64
	}{
		{"a trace of its own goes on with a call", []tspan{
			call, {service: "b", trace: 2, id: 1, kind: kindServer, at: 5, ms: 10, attrs: serve, link: [2]byte{1, 1}},
		}, map[string]int64{"a → b": 1}},
		{"work in the background", []tspan{
			call, {service: "b", trace: 2, id: 1, kind: kindInternal, at: 5, ms: 10, link: [2]byte{1, 1}},
		}, map[string]int64{"a → b": 1}},
		{"the service's own spans", []tspan{
			call, {service: "a", trace: 2, id: 1, kind: kindInternal, at: 5, ms: 10, link: [2]byte{1, 1}},
		}, map[string]int64{}},
		{"a span that is not there", []tspan{
			{service: "b", trace: 2, id: 1, kind: kindInternal, at: 5, ms: 10, link: [2]byte{1, 1}},
		}, map[string]int64{}},
		{"its own parent", []tspan{
			call, {service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 5, ms: 10, attrs: serve, link: [2]byte{1, 1}},
		}, map[string]int64{}},
		{"another environment", []tspan{
			call, {service: "b", env: "test", trace: 2, id: 1, kind: kindInternal, at: 5, ms: 10, link: [2]byte{1, 1}},
		}, map[string]int64{}},
		{"a message", []tspan{
			{service: "a", trace: 1, id: 1, kind: kindProducer, ms: 5, attrs: sendOrder},
			{service: "b", trace: 2, id: 1, kind: kindConsumer, at: 10, ms: 10, attrs: takeOrder, link: [2]byte{1, 1}},
		}, map[string]int64{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, reversed := range []bool{false, true} {
				in, live := newIntake()
				bodies := each(t, tt.spans...)
				if reversed {
					for i, j := 0, len(bodies)-1; i < j; i, j = i+1, j-1 {
						bodies[i], bodies[j] = bodies[j], bodies[i]
					}
				}
				feed(t, in, epoch.Add(time.Second), bodies...)
				in.Tick(epoch.Add(12 * time.Second))
				if diff := cmp.Diff(tt.want, linkSums(t, live)); diff != "" {
					t.Error(diff)
				}
				for name, s := range sums(live) {
					if linked := strings.HasSuffix(name, " linked"); linked != (s.Calls == 0) {
						t.Errorf("%s: %+v", name, s)
					}
				}
			}
		})
	}
}

// Each of a span's links weighs as much as the others, and all of them one.
func TestLinksShareTheirSpan(t *testing.T) {
	in, live := newIntake()
	spans := []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, ms: 20, attrs: serve},
		{service: "c", trace: 2, id: 1, kind: kindServer, ms: 20, attrs: serve},
	}
	const joins = 200
	for i := range byte(joins) {
		spans = append(spans, tspan{service: "b", trace: 3, id: i + 1, kind: kindInternal, at: 30, ms: 10, links: [][2]byte{{1, 1}, {2, 1}}})
	}
	feed(t, in, epoch.Add(time.Second), each(t, spans...)...)
	in.Tick(epoch.Add(12 * time.Second))
	got := linkSums(t, live)
	if got["a → b"]+got["c → b"] != joins || min(got["a → b"], got["c → b"]) < joins/3 {
		t.Errorf("%v of %d", got, joins)
	}
}
