package ingest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
)

// A callee that turns its caller away over HTTP has done its work. That is an error of the edge where the caller says so,
// to whom it matters; where only the callee is seen, as where users enter, it is the caller's own fault like any 4xx.
func TestWhoeverIsTurnedAwayAtTheDoorIsNoError(t *testing.T) {
	serve4 := func(status int) map[string]any { return with(serve, "http.response.status_code", status) }
	for _, tt := range []struct {
		name   string
		spans  []tspan
		want   []string
		failed int64 // traces
	}{
		{"users without a token, or too many of them", []tspan{
			{service: "b", trace: 1, id: 1, kind: kindServer, at: 0, ms: 5, failed: true, attrs: serve4(401)},
			{service: "b", trace: 2, id: 1, kind: kindServer, at: 0, ms: 5, failed: true, attrs: serve4(403)},
			{service: "b", trace: 3, id: 1, kind: kindServer, at: 0, ms: 5, attrs: serve4(429)},
			{service: "b", trace: 4, id: 1, kind: kindServer, at: 0, ms: 5, attrs: serve4(408)},
			{service: "b", trace: 5, id: 1, kind: kindServer, at: 0, ms: 5, attrs: serve4(404)},
			{service: "b", trace: 6, id: 1, kind: kindServer, at: 0, ms: 5, failed: true, attrs: serve4(504)},
		}, []string{"user → b http: calls 6, errors 1, client errors 5, timeout 1, server 6×5ms, server errors 1"}, 1},
		{"a callee that was turned away itself, and fails for it", []tspan{
			{service: "b", trace: 1, id: 1, kind: kindServer, at: 0, ms: 5, failed: true, attrs: with(serve4(500), "error.type", "ThrottlingException")},
			{service: "b", trace: 2, id: 1, kind: kindServer, at: 0, ms: 5, failed: true, attrs: with(serve4(500), "error.type", "AccessDeniedException")},
		}, []string{"user → b http: calls 2, errors 2, server_error 2, server 2×5ms, server errors 2"}, 2},
		{"callers who are not seen", []tspan{
			{service: "b", trace: 1, id: 1, parent: 9, kind: kindServer, at: 0, ms: 5, attrs: serve4(429)},
		}, []string{"unknown → b http: calls 1, client errors 1, server 1×5ms, client missing 1"}, 0},
		{"callers who say so", []tspan{
			{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 10, attrs: get401, failed: true},
			{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 1, ms: 5, attrs: serve4(401)},
			{service: "a", trace: 2, id: 1, kind: kindClient, at: 0, ms: 10, attrs: get429, failed: true},
			{service: "b", trace: 2, id: 2, parent: 1, kind: kindServer, at: 1, ms: 5, attrs: serve4(429)},
		}, []string{"a → b http: calls 2, errors 2, auth 1, throttled 1, client 2×10ms, server 2×5ms, server errors 2"}, 2},
		{"gRPC has one list for both sides", []tspan{
			{service: "b", trace: 1, id: 1, kind: kindServer, at: 0, ms: 5, attrs: rpc(16)},
			{service: "b", trace: 2, id: 1, kind: kindServer, at: 0, ms: 5, attrs: rpc(8)},
		}, []string{"user → b grpc: calls 2, errors 2, auth 1, throttled 1, server 2×5ms, server errors 2"}, 2},
	} {
		in, live := newIntake()
		now := epoch.Add(time.Second)
		feed(t, in, now, each(t, tt.spans...)...)
		in.Tick(now.Add(11 * time.Second))
		if diff := cmp.Diff(tt.want, briefs(live)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
		minutes, _ := live.Windows(time.Unix(0, 0), epoch.Add(time.Hour), true)
		for _, row := range minutes[0].Details {
			if row.Key == graph.Traces.Key() && row.Detail.Errors != tt.failed {
				t.Errorf("%s: of %d traces %d failed, want %d", tt.name, row.Detail.Calls, row.Detail.Errors, tt.failed)
			}
		}
	}
}
