package ingest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/internal/rules"
)

func ruled(t *testing.T, text string) *rules.Set {
	t.Helper()
	set, err := rules.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// shopping is a trace through a front, one of two payments, and what they call.
func shopping(trace byte, payments string) []tspan {
	return []tspan{
		{service: "front", trace: trace, id: 1, kind: kindServer, at: 0, ms: 100, attrs: serve},
		{service: "front", trace: trace, id: 2, parent: 1, kind: kindClient, at: 1, ms: 90, attrs: with(get, "server.address", payments)},
		{service: payments, trace: trace, id: 3, parent: 2, kind: kindServer, at: 5, ms: 80, attrs: serve},
		{service: payments, trace: trace, id: 4, parent: 3, kind: kindClient, at: 6, ms: 10, attrs: tag{"http.request.method": "GET", "server.address": "x7.tenant.example.com"}},
		{service: payments, trace: trace, id: 5, parent: 3, kind: kindClient, at: 20, ms: 10, attrs: tag{"db.system.name": "redis", "server.address": "cache"}},
		{service: "front", trace: trace, id: 6, kind: kindServer, at: 0, ms: 1, attrs: with(serve, "http.route", "/health")},
	}
}

func TestRulesApply(t *testing.T) {
	spans := append(shopping(1, "payments-blue"), shopping(2, "payments-green")...)
	for _, c := range []struct {
		name, rules string
		ignored     int64
		want        []string
	}{
		{"none", "", 0, []string{
			"front → payments-blue http: calls 1, client 1×90ms, server 1×80ms", "front → payments-green http: calls 1, client 1×90ms, server 1×80ms",
			"payments-blue → db:redis@cache db: calls 1, client 1×10ms", "payments-blue → ext:x7.tenant.example.com http: calls 1, client 1×10ms",
			"payments-green → db:redis@cache db: calls 1, client 1×10ms", "payments-green → ext:x7.tenant.example.com http: calls 1, client 1×10ms",
			"user → front http: calls 4, server 4×50ms",
		}},
		{"renamed and merged", `{services: [{match: {name: "payments-.*"}, rename: payments, namespace: shop}], externals: [{host: "*.tenant.example.com", name: tenant}]}`, 0, []string{
			"front → shop/payments http: calls 2, client 2×90ms, server 2×80ms", "shop/payments → db:redis@cache db: calls 2, client 2×10ms",
			"shop/payments → ext:tenant http: calls 2, client 2×10ms", "user → front http: calls 4, server 4×50ms",
		}},
		{"an operation ignored", `{ignore: [{operation: "GET /health"}, {operation: "GET", service: front}]}`, 4, []string{
			"payments-blue → db:redis@cache db: calls 1, client 1×10ms", "payments-blue → ext:x7.tenant.example.com http: calls 1, client 1×10ms",
			"payments-green → db:redis@cache db: calls 1, client 1×10ms", "payments-green → ext:x7.tenant.example.com http: calls 1, client 1×10ms",
			"user → front http: calls 2, server 2×100ms",
		}},
		{"the callee's operation ignored", `{ignore: [{operation: "GET /x/.*", service: "payments.*"}, {host: "cache|x7.*"}]}`, 6, []string{
			"user → front http: calls 4, server 4×50ms",
		}},
		{"a service ignored", `{ignore: [{service: "payments-.*"}, {service: nobody}]}`, 6, []string{"user → front http: calls 4, server 4×50ms"}},
		{"sampling", `{sampling: [{service: front, rate: 10}]}`, 0, []string{
			"front → payments-blue http: calls 10, client 10×90ms, server 1×80ms", "front → payments-green http: calls 10, client 10×90ms, server 1×80ms",
			"payments-blue → db:redis@cache db: calls 1, client 1×10ms", "payments-blue → ext:x7.tenant.example.com http: calls 1, client 1×10ms",
			"payments-green → db:redis@cache db: calls 1, client 1×10ms", "payments-green → ext:x7.tenant.example.com http: calls 1, client 1×10ms",
			"user → front http: calls 40, server 40×50ms",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bodies := each(t, spans...)
			for range 2 {
				in, live := newIntake()
				in.Apply(epoch, ruled(t, c.rules))
				feed(t, in, epoch.Add(time.Second), bodies...)
				in.Tick(epoch.Add(12 * time.Second))
				if diff := cmp.Diff(c.want, briefs(live)); diff != "" {
					t.Error(diff)
				}
				if got := in.Counters().Dropped["ignored"]; got != c.ignored {
					t.Errorf("%d spans ignored, want %d", got, c.ignored)
				}
				for i, j := 0, len(bodies)-1; i < j; i, j = i+1, j-1 {
					bodies[i], bodies[j] = bodies[j], bodies[i]
				}
			}
		})
	}
}

// New rules hold for what comes from then on; what was counted before stays, and what is in flight is counted once.
func TestRulesChange(t *testing.T) {
	in, live := newIntake()
	now := epoch.Add(time.Second)
	first := each(t, shopping(1, "payments-blue")[:3]...)
	feed(t, in, now, first...)
	half := each(t, shopping(2, "payments-blue")[:3]...)
	feed(t, in, now, half[:2]...)
	in.Apply(now, ruled(t, `{services: [{match: {name: "payments-.*"}, rename: payments}]}`))
	feed(t, in, now, half[2])
	feed(t, in, now, each(t, shopping(3, "payments-green")[:3]...)...)
	// A callee that is down is known by the name that it has now.
	feed(t, in, now, each(t, tspan{service: "front", trace: 4, id: 2, parent: 9, kind: kindClient, ms: 5, attrs: with(get, "server.address", "payments-blue")})...)
	in.Tick(now.Add(11 * time.Second))
	want := []string{
		"front → payments http: calls 3, client 3×61ms, server 2×80ms, server missing 1", "front → payments-blue http: calls 1, client 1×90ms, server 1×80ms",
		"user → front http: calls 3, server 3×100ms",
	}
	if diff := cmp.Diff(want, briefs(live)); diff != "" {
		t.Error(diff)
	}
	in.Apply(now.Add(time.Minute), nil)
	feed(t, in, now.Add(time.Minute), each(t, moved(time.Minute, shopping(5, "payments-green")[:3]...)...)...)
	in.Tick(now.Add(2 * time.Minute))
	if got := sums(live)["front → payments-green http"]; got == nil || got.Calls != 1 {
		t.Errorf("without rules again: %v", briefs(live))
	}
	pass(in, live, now.Add(3*time.Minute), now.Add(2*time.Hour), time.Minute)
	if n := len(in.pairer.dir.retired); n != 0 {
		t.Errorf("%d sets of former names are kept", n)
	}
}

// What a status means is a choice, which the rules file may make otherwise: for all, or for an operation of one service.
func TestRulesSayWhatAnErrorIs(t *testing.T) {
	serve4 := func(status int) map[string]any { return with(serve, "http.response.status_code", status) }
	spans := []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 10, failed: true, attrs: with(get, "http.response.status_code", 404)},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 1, ms: 5, attrs: serve4(404)},
		{service: "a", trace: 2, id: 1, kind: kindClient, at: 0, ms: 10, failed: true, attrs: get429},
		{service: "b", trace: 2, id: 2, parent: 1, kind: kindServer, at: 1, ms: 5, attrs: serve4(429)},
		{service: "b", trace: 3, id: 1, kind: kindServer, at: 0, ms: 5, attrs: serve4(401)},
		{service: "b", trace: 4, id: 1, kind: kindServer, at: 0, ms: 5, attrs: rpc(5)},
	}
	const users = "user → b grpc: calls 1, client errors 1, server 1×5ms"
	for _, tt := range []struct {
		name, rules string
		want        []string
	}{
		{"as it is", "", []string{
			"a → b http: calls 2, errors 1, client errors 1, throttled 1, client 2×10ms, server 2×5ms, server errors 1",
			users, "user → b http: calls 1, client errors 1, server 1×5ms",
		}},
		{"not found is an error", `{outcomes: [{status: 404, outcome: error}]}`, []string{
			"a → b http: calls 2, errors 2, throttled 1, server_error 1, client 2×10ms, server 2×5ms, server errors 2",
			users, "user → b http: calls 1, client errors 1, server 1×5ms",
		}},
		{"being throttled is none", `{outcomes: [{status: 429, outcome: client_error}, {status: "4..", outcome: ok, service: nobody}]}`, []string{
			"a → b http: calls 2, client errors 2, client 2×10ms, server 2×5ms", users, "user → b http: calls 1, client errors 1, server 1×5ms",
		}},
		{"users must be let in", `{outcomes: [{status: "40[13]", outcome: error, service: b, operation: "GET /x/.*"}]}`, []string{
			"a → b http: calls 2, errors 1, client errors 1, throttled 1, client 2×10ms, server 2×5ms, server errors 1",
			users, "user → b http: calls 1, errors 1, server_error 1, server 1×5ms, server errors 1",
		}},
		{"RPC by name", `{outcomes: [{status: NOT_FOUND, outcome: ok}]}`, []string{
			"a → b http: calls 2, errors 1, client errors 1, throttled 1, client 2×10ms, server 2×5ms, server errors 1",
			"user → b grpc: calls 1, server 1×5ms", "user → b http: calls 1, client errors 1, server 1×5ms",
		}},
	} {
		in, live := newIntake()
		in.Apply(epoch, ruled(t, tt.rules))
		feed(t, in, epoch.Add(time.Second), each(t, spans...)...)
		in.Tick(epoch.Add(12 * time.Second))
		if diff := cmp.Diff(tt.want, briefs(live)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}
