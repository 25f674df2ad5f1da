package ingest

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
)

var (
	postB    = map[string]any{"http.request.method": "POST", "http.response.status_code": 200, "server.address": "b", "server.port": 8080}
	postSlow = map[string]any{"http.request.method": "POST", "error.type": "timeout", "server.address": "b", "server.port": 8080}
	getSlow  = map[string]any{"http.request.method": "GET", "error.type": "timeout", "server.address": "b", "server.port": 8080}
	getGone  = map[string]any{"http.request.method": "GET", "error.type": "AbortError", "server.address": "b", "server.port": 8080}
	get302   = map[string]any{"http.request.method": "GET", "http.response.status_code": 302, "server.address": "b", "server.port": 8080}
	get401   = map[string]any{"http.request.method": "GET", "http.response.status_code": 401, "server.address": "b", "server.port": 8080}
	get429   = map[string]any{"http.request.method": "GET", "http.response.status_code": 429, "server.address": "b", "server.port": 8080}
	again    = func(attrs map[string]any, k int) map[string]any { return with(attrs, "http.request.resend_count", k) }
	rpc      = func(code int, more ...any) map[string]any {
		return with(map[string]any{"rpc.system": "grpc", "rpc.service": "S", "rpc.method": "M", "rpc.grpc.status_code": code}, more...)
	}
	sendOrder = map[string]any{"messaging.system": "kafka", "messaging.destination.name": "orders", "messaging.operation.type": "send"}
	takeOrder = map[string]any{"messaging.system": "kafka", "messaging.destination.name": "orders", "messaging.operation.type": "process"}
)

func client(id, parent byte, at, ms int, attrs map[string]any) tspan {
	_, thrown := attrs["error.type"]
	return tspan{service: "a", trace: 1, id: id, parent: parent, kind: kindClient, at: at, ms: ms, attrs: attrs, failed: thrown}
}

func server(id, parent byte, at, ms int, attrs map[string]any) tspan {
	return tspan{service: "b", trace: 1, id: id, parent: parent, kind: kindServer, at: at, ms: ms, attrs: attrs}
}

// parentOp is span 9, below which the attempts of a logical call lie.
func parentOp(ms int) tspan {
	return tspan{service: "a", trace: 1, id: 9, kind: kindInternal, at: 0, ms: ms}
}

// factScenarios are spans, the edges between a and b, and the facts that are emitted about them.
var factScenarios = []struct {
	name  string
	spans []tspan
	edges []string
	facts []string
}{
	// Retries, by each kind of evidence.
	{
		"siblings: the next begins after one that failed",
		[]tspan{
			parentOp(1000), client(1, 9, 0, 50, get5), client(2, 9, 150, 50, get5), client(3, 9, 400, 50, get),
		},
		[]string{"a → ext:b:8080 http: calls 3, errors 2, logical 1/0, server_error 2, client 3×50ms"},
		[]string{
			"a → ext:b:8080: measure retried_call: 1, 450ms",
			"a → ext:b:8080: measure retry_gap: 2, failed 1, 150ms",
			"a → ext:b:8080: measure retry_growth: 1, 0.002ms",
		},
	},
	{
		"siblings: too late to be a retry",
		[]tspan{client(1, 9, 0, 50, get5), client(2, 9, 10_060, 50, get)},
		[]string{"a → ext:b:8080 http: calls 2, errors 1, server_error 1, client 2×50ms"},
		[]string{},
	},
	{
		"siblings: later than that, and yet a retry of one that took as long",
		[]tspan{client(1, 9, 0, 5000, get5), client(2, 9, 19_000, 50, get)},
		[]string{"a → ext:b:8080 http: calls 2, errors 1, logical 1/0, server_error 1, client 2×2525ms"},
		[]string{"a → ext:b:8080: measure retried_call: 1, 19050ms", "a → ext:b:8080: measure retry_gap: 1, 14000ms"},
	},
	{
		"resend_count: a retry, however late",
		[]tspan{client(1, 9, 0, 50, get5), client(2, 9, 20_050, 50, again(get, 1))},
		[]string{"a → ext:b:8080 http: calls 2, errors 1, logical 1/0, server_error 1, client 2×50ms"},
		[]string{"a → ext:b:8080: measure retried_call: 1, 20100ms", "a → ext:b:8080: measure retry_gap: 1, 20000ms"},
	},
	{
		"resend_count: whose siblings are not there",
		[]tspan{client(2, 0, 60, 50, again(get, 1)), client(3, 8, 60, 50, again(get5, 2))},
		[]string{"a → ext:b:8080 http: calls 2, errors 1, logical 0/1, server_error 1, client 2×50ms"},
		[]string{},
	},
	{
		"resend_count: after a redirect it is no retry",
		[]tspan{client(1, 9, 0, 50, get302), client(2, 9, 60, 50, again(get, 1))},
		[]string{"a → ext:b:8080 http: calls 2, client 2×50ms"},
		[]string{"a → ext:b:8080: measure resend: 1, 10ms"},
	},
	{
		"resend_count: with credentials it is no retry, and makes up for the refusal",
		[]tspan{client(1, 9, 0, 50, get401), client(2, 9, 60, 50, again(get, 1))},
		[]string{"a → ext:b:8080 http: calls 2, errors 1, logical 2/0, auth 1, client 2×50ms"},
		[]string{"a → ext:b:8080: measure resend: 1, 10ms"},
	},
	{
		"resend_count: after one that was given up",
		[]tspan{client(1, 9, 0, 50, getGone), client(2, 9, 60, 50, again(get, 1))},
		[]string{"a → ext:b:8080 http: calls 2, logical 1/0, cancelled 1, client 2×50ms"},
		[]string{"a → ext:b:8080: measure retried_call: 1, 110ms", "a → ext:b:8080: measure retry_gap: 1, 10ms"},
	},
	{
		"gRPC's own spans: one for the call, one for each attempt",
		[]tspan{
			{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 300, name: "Sent.S/M"},
			{service: "a", trace: 1, id: 2, parent: 1, kind: kindInternal, at: 0, ms: 10, name: "Attempt.S/M", failed: true, attrs: map[string]any{"previous-rpc-attempts": 0, "transparent-retry": false}},
			{service: "a", trace: 1, id: 3, parent: 1, kind: kindInternal, at: 50, ms: 40, name: "Attempt.S/M", failed: true, attrs: map[string]any{"previous-rpc-attempts": 1, "transparent-retry": false}},
			{service: "a", trace: 1, id: 4, parent: 1, kind: kindInternal, at: 200, ms: 40, name: "Attempt.S/M", attrs: map[string]any{"previous-rpc-attempts": 2, "transparent-retry": false}},
			{service: "b", trace: 1, id: 5, parent: 3, kind: kindServer, at: 55, ms: 30, name: "Recv.S/M", failed: true},
			{service: "b", trace: 1, id: 6, parent: 4, kind: kindServer, at: 205, ms: 30, name: "Recv.S/M"},
		},
		[]string{"a → b grpc: calls 3, errors 2, logical 1/0, server_error 1, unclassified 1, client 3×30ms, server 2×30ms, server errors 1, server missing 1"},
		[]string{
			"a → b: measure retried_call: 1, 240ms",
			"a → b: measure retry_gap: 2, failed 1, 75ms",
			"a → b: measure retry_growth: 1, 0.00275ms",
		},
	},
	{
		"gRPC's own spans: a transparent retry is in no budget",
		[]tspan{
			{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 300, name: "Sent.S/M"},
			{service: "a", trace: 1, id: 2, parent: 1, kind: kindClient, at: 0, ms: 10, name: "Attempt.S/M", failed: true, attrs: map[string]any{"previous-rpc-attempts": "0", "transparent-retry": "0"}},
			{service: "a", trace: 1, id: 3, parent: 1, kind: kindClient, at: 12, ms: 40, name: "Attempt.S/M", attrs: map[string]any{"previous-rpc-attempts": "0", "transparent-retry": "1"}},
			{service: "b", trace: 1, id: 5, parent: 3, kind: kindServer, at: 20, ms: 30, name: "Recv.S/M"},
		},
		[]string{"a → b grpc: calls 2, errors 1, logical 2/0, unclassified 1, client 2×25ms, server 1×30ms, server missing 1"},
		[]string{"a → b: measure resend: 1, 2ms"},
	},
	{
		"one client span over its attempts",
		[]tspan{
			client(1, 0, 0, 300, rpc(0)), server(2, 1, 10, 10, rpc(14)), server(3, 1, 60, 10, rpc(14)), server(4, 1, 170, 10, rpc(0)),
		},
		[]string{"a → b grpc: calls 3, errors 2, logical 1/0, server_error 2, client 1×300ms, server 3×10ms, server errors 2"},
		[]string{
			"a → b: measure retried_call: 1, 300ms",
			"a → b: measure retry_gap: 2, failed 1, 70ms",
			"a → b: measure retry_growth: 1, 0.0025ms",
		},
	},
	{
		"metadata: the callee saw that attempts were made that never came",
		[]tspan{client(1, 0, 0, 300, rpc(0)), server(2, 1, 250, 10, rpc(0, "rpc.grpc.request.metadata.grpc-previous-rpc-attempts", []string{"2"}))},
		[]string{"a → b grpc: calls 3, errors 2, logical 1/0, unclassified 2, client 1×300ms, server 1×10ms"},
		[]string{"a → b: measure retried_call: 1, 300ms"},
	},
	{
		"metadata: under a name that changed, beside client spans of each attempt",
		[]tspan{
			client(1, 9, 0, 50, rpc(14, "server.address", "b")), client(2, 9, 60, 50, rpc(0, "server.address", "b")),
			server(3, 2, 70, 10, rpc(0, "rpc.request.metadata.grpc-previous-rpc-attempts", "1")),
			server(4, 1, 10, 10, rpc(14)),
		},
		[]string{"a → b grpc: calls 2, errors 1, logical 1/0, server_error 1, client 2×50ms, server 2×10ms, server errors 1"},
		[]string{"a → b: measure retried_call: 1, 110ms", "a → b: measure retry_gap: 1, 10ms"},
	},
	{
		"Envoy: x-envoy-attempt-count",
		[]tspan{client(1, 0, 0, 300, get), server(2, 1, 250, 10, with(serve, "http.request.header.x-envoy-attempt-count", []string{"2"}))},
		[]string{"a → b http: calls 2, errors 1, logical 1/0, unclassified 1, client 1×300ms, server 1×10ms"},
		[]string{"a → b: measure retried_call: 1, 300ms"},
	},
	{
		"Envoy: retry.count of an attempt's own span",
		[]tspan{
			client(1, 9, 0, 50, map[string]any{"http.method": "GET", "http.status_code": "503", "response_flags": "UF", "upstream_cluster.name": "outbound|8080||b"}),
			client(2, 9, 75, 50, map[string]any{"http.method": "GET", "http.status_code": "200", "response_flags": "-", "retry.count": "1", "upstream_cluster.name": "outbound|8080||b"}),
		},
		[]string{"a → ext:b:8080 http: calls 2, errors 1, logical 1/0, refused 1, client 2×50ms"},
		[]string{"a → ext:b:8080: measure retried_call: 1, 125ms", "a → ext:b:8080: measure retry_gap: 1, 25ms"},
	},
	{
		"Envoy: the limit of retries",
		[]tspan{client(1, 0, 0, 50, map[string]any{"http.method": "GET", "http.status_code": "503", "response_flags": "UF,URX", "server.address": "b"})},
		[]string{"a → ext:b http: calls 2, errors 2, logical 1/1, refused 2, client 1×50ms"},
		[]string{},
	},
	{
		"only the callee shows them",
		[]tspan{
			server(1, 77, 0, 10, rpc(14)), server(2, 77, 50, 10, rpc(14, "rpc.request.metadata.grpc-previous-rpc-attempts", "1")),
			server(3, 77, 100, 10, rpc(0, "rpc.request.metadata.grpc-previous-rpc-attempts", "2")),
		},
		[]string{"unknown → b grpc: calls 3, errors 2, logical 1/0, server_error 2, server 3×10ms, server errors 2, client missing 3"},
		[]string{"unknown → b: measure retry_gap: 2, failed 1, 40ms"},
	},
	{
		"calls one after the other that go well are no retries",
		[]tspan{client(1, 9, 0, 50, get), client(2, 9, 60, 50, get), client(3, 9, 120, 50, get)},
		[]string{"a → ext:b:8080 http: calls 3, client 3×50ms"},
		[]string{},
	},
	// Hedges.
	{
		"a hedge: the slower one is cancelled",
		[]tspan{client(1, 9, 0, 61, getGone), client(2, 9, 30, 30, get)},
		[]string{"a → ext:b:8080 http: calls 2, logical 1/0, hedges 1, cancelled 1, client 2×45ms"},
		[]string{"a → ext:b:8080: measure hedge: 1, 30ms"},
	},
	{
		"a hedge: it says that it is another attempt",
		[]tspan{client(1, 9, 0, 60, get5), client(2, 9, 30, 40, again(get, 1))},
		[]string{"a → ext:b:8080 http: calls 2, errors 1, logical 1/0, hedges 1, server_error 1, client 2×50ms"},
		[]string{"a → ext:b:8080: measure hedge: 1, 30ms"},
	},
	{
		"a hedge: nobody waits for the slower one",
		[]tspan{parentOp(70), client(1, 9, 1, 99, get), client(2, 9, 31, 29, get)},
		[]string{"a → ext:b:8080 http: calls 2, logical 1/0, hedges 1, client 2×64ms"},
		[]string{"a → ext:b:8080: measure hedge: 1, 30ms"},
	},
	{
		"a hedge below one client span",
		[]tspan{client(1, 0, 0, 60, rpc(0)), server(2, 1, 5, 80, rpc(0)), server(3, 1, 30, 20, rpc(0))},
		[]string{"a → b grpc: calls 2, logical 1/0, hedges 1, client 1×60ms, server 2×50ms"},
		[]string{"a → b: measure hedge: 1, 25ms", "a → b: measure negative_gap: 1, 20ms"},
	},
	{
		"calls side by side are no hedges",
		[]tspan{parentOp(70), client(1, 9, 1, 50, get), client(2, 9, 1, 60, get), client(3, 9, 12, 55, get)},
		[]string{"a → ext:b:8080 http: calls 3, client 3×55ms"},
		[]string{},
	},
	{
		"nor are those of which one fails and the others are given up",
		[]tspan{parentOp(70), client(1, 9, 1, 50, getGone), client(2, 9, 10, 40, get5), client(3, 9, 12, 39, getGone)},
		[]string{"a → ext:b:8080 http: calls 3, errors 1, cancelled 2, server_error 1, client 3×43ms"},
		[]string{},
	},
	// What an answer asks for.
	{
		"Retry-After that is not heeded, and one that is",
		[]tspan{
			client(1, 9, 0, 50, with(get429, "http.response.header.retry-after", []string{"2"})), client(2, 9, 150, 50, get),
			client(3, 8, 0, 50, with(get429, "http.response.header.retry-after", "1")), client(4, 8, 1150, 50, get),
		},
		[]string{"a → ext:b:8080 http: calls 4, errors 2, logical 2/0, throttled 2, client 4×50ms"},
		[]string{
			"a → ext:b:8080: measure retried_call: 2, 700ms",
			"a → ext:b:8080: measure retry_gap: 2, 600ms",
			"a → ext:b:8080: measure retry_pushback: 2, failed 1, 600ms",
		},
	},
	{
		"Retry-After as a date, in each of its forms: not heeded, and heeded twice",
		[]tspan{
			client(1, 9, 0, 50, with(get429, "http.response.header.retry-after", []string{"Fri, 20 Nov 2026 12:00:03 GMT"})), client(2, 9, 150, 50, get),
			client(3, 8, 0, 50, with(get429, "http.response.header.retry-after", "Friday, 20-Nov-26 12:00:03 GMT")), client(4, 8, 2000, 50, get),
			client(5, 7, 0, 50, with(get429, "http.response.header.retry-after", "Fri Nov 20 12:00:03 2026")), client(6, 7, 2100, 50, get),
		},
		[]string{"a → ext:b:8080 http: calls 6, errors 3, logical 3/0, throttled 3, client 6×50ms"},
		[]string{
			"a → ext:b:8080: measure retried_call: 3, 1466.666666ms",
			"a → ext:b:8080: measure retry_gap: 3, 1366.666666ms",
			"a → ext:b:8080: measure retry_pushback: 3, failed 1, 1366.666666ms",
		},
	},
	{
		"Retry-After as a date that was over, is too far, or is none",
		[]tspan{
			client(1, 9, 0, 50, with(get429, "http.response.header.retry-after", "Fri, 20 Nov 2026 12:00:01 GMT")), client(2, 9, 150, 50, get),
			client(3, 8, 0, 50, with(get429, "http.response.header.retry-after", "Fri, 20 Nov 2026 13:30:00 GMT")), client(4, 8, 150, 50, get),
			client(5, 7, 0, 50, with(get429, "http.response.header.retry-after", "tomorrow, if at all")), client(6, 7, 150, 50, get),
		},
		[]string{"a → ext:b:8080 http: calls 6, errors 3, logical 3/0, throttled 3, client 6×50ms"},
		[]string{"a → ext:b:8080: measure retried_call: 3, 200ms", "a → ext:b:8080: measure retry_gap: 3, 100ms"},
	},
	{
		"gRPC's pushback",
		[]tspan{
			client(1, 9, 0, 50, rpc(8, "server.address", "b", "rpc.grpc.response.metadata.grpc-retry-pushback-ms", []string{"120"})),
			client(2, 9, 150, 50, rpc(0, "server.address", "b")),
		},
		[]string{"a → ext:b grpc: calls 2, errors 1, logical 1/0, throttled 1, client 2×50ms"},
		[]string{
			"a → ext:b: measure retried_call: 1, 200ms",
			"a → ext:b: measure retry_gap: 1, 100ms",
			"a → ext:b: measure retry_pushback: 1, failed 1, 100ms",
		},
	},
	// What must not be done twice.
	{
		"POST again after a timeout, and it had been carried out",
		[]tspan{client(1, 9, 0, 50, postSlow), client(2, 9, 60, 50, postB), server(3, 1, 10, 90, serve), server(4, 2, 70, 30, serve)},
		[]string{"a → b http: calls 2, errors 1, logical 1/0, timeout 1, client 2×50ms, server 2×60ms"},
		[]string{
			"a → b: measure retried_call: 1, 110ms",
			"a → b: measure retry_gap: 1, 10ms",
			"a → b: measure unsafe_retry: 1, failed 1, 50ms",
			"a → b: measure wasted: 1, 50ms",
		},
	},
	{
		"POST again after an answer that was lost",
		[]tspan{
			client(1, 9, 0, 50, with(postB, "http.response.status_code", 502)), client(2, 9, 60, 50, postB),
			server(3, 1, 10, 20, serve), server(4, 2, 70, 30, serve),
		},
		[]string{"a → b http: calls 2, errors 1, logical 1/0, lost_response 1, client 2×50ms, server 2×25ms"},
		[]string{
			"a → b: measure retried_call: 1, 110ms",
			"a → b: measure retry_gap: 1, 10ms",
			"a → b: measure unsafe_retry: 1, failed 1, 50ms",
		},
	},
	{
		"POST again after a timeout, which the callee did not carry out",
		[]tspan{client(1, 9, 0, 50, postSlow), client(2, 9, 60, 50, postB), server(3, 1, 10, 40, fail5), server(4, 2, 70, 30, serve)},
		[]string{"a → b http: calls 2, errors 1, logical 1/0, timeout 1, client 2×50ms, server 2×35ms, server errors 1"},
		[]string{
			"a → b: measure retried_call: 1, 110ms",
			"a → b: measure retry_gap: 1, 10ms",
			"a → b: measure unsafe_retry: 1, 50ms",
		},
	},
	{
		"POST again after a failure that says that it was not carried out, or with a key, or GET: all safe",
		[]tspan{
			client(1, 9, 0, 50, with(postB, "http.response.status_code", 503)), client(2, 9, 60, 50, postB),
			client(3, 8, 0, 50, with(postSlow, "http.request.header.idempotency-key", "k")),
			client(4, 8, 60, 50, with(postB, "http.request.header.idempotency-key", "k")),
			client(5, 7, 0, 50, getSlow), client(6, 7, 60, 50, get),
		},
		[]string{"a → ext:b:8080 http: calls 6, errors 3, logical 3/0, timeout 2, server_error 1, client 6×50ms"},
		[]string{"a → ext:b:8080: measure retried_call: 3, 110ms", "a → ext:b:8080: measure retry_gap: 3, 10ms"},
	},
	// Work for nobody, and clocks.
	{
		"TV wasted work: c=[0,1000] timed out, s=[5,4005]",
		[]tspan{client(1, 0, 0, 1000, getSlow), server(2, 1, 5, 4000, serve)},
		[]string{"a → b http: calls 1, errors 1, timeout 1, client 1×1000ms, server 1×4000ms"},
		[]string{"a → b: measure wasted: 1, 3005ms"},
	},
	{
		"wasted work of a call that was given up",
		[]tspan{client(1, 0, 0, 100, getGone), server(2, 1, 5, 395, serve)},
		[]string{"a → b http: calls 1, cancelled 1, client 1×100ms, server 1×395ms"},
		[]string{"a → b: measure wasted: 1, 300ms"},
	},
	{
		"wasted work by a clock that is behind",
		[]tspan{client(1, 0, 0, 1000, getSlow), server(2, 1, -200, 4000, serve)},
		[]string{"a → b http: calls 1, errors 1, timeout 1, client 1×1000ms, server 1×4000ms"},
		[]string{"a → b: measure skew_behind: 1, 200ms", "a → b: measure wasted: 1, 3000ms"},
	},
	{
		"no more work is wasted than was done",
		[]tspan{client(1, 0, 0, 1000, getSlow), server(2, 1, 1500, 300, serve)},
		[]string{"a → b http: calls 1, errors 1, timeout 1, client 1×1000ms, server 1×300ms"},
		[]string{"a → b: measure wasted: 1, 300ms"},
	},
	{
		"TV skew: c=[0,100], s=[530,610]",
		[]tspan{client(1, 0, 0, 100, get), server(2, 1, 530, 80, serve)},
		[]string{"a → b http: calls 1, client 1×100ms, server 1×80ms"},
		[]string{"a → b: measure skew: 1, 520ms"},
	},
	{
		"skew the other way",
		[]tspan{client(1, 0, 0, 100, get), server(2, 1, -530, 80, serve)},
		[]string{"a → b http: calls 1, client 1×100ms, server 1×80ms"},
		[]string{"a → b: measure skew_behind: 1, 540ms"},
	},
	{
		"a callee that works on after it has answered shows no skew",
		[]tspan{client(1, 0, 0, 100, get), server(2, 1, 10, 150, serve)},
		[]string{"a → b http: calls 1, client 1×100ms, server 1×150ms"},
		[]string{"a → b: measure negative_gap: 1, 50ms"},
	},
	{
		"one that began before it was called does, by as much at the least",
		[]tspan{client(1, 0, 0, 100, get), server(2, 1, -30, 150, serve)},
		[]string{"a → b http: calls 1, client 1×100ms, server 1×150ms"},
		[]string{"a → b: measure negative_gap: 1, 50ms", "a → b: measure skew_behind: 1, 30ms"},
	},
	{
		"a callee within its call shows no skew, and a millisecond of a coarse clock neither",
		[]tspan{client(1, 0, 0, 100, get), server(2, 1, 15, 80, serve), client(3, 0, 0, 100, get), server(4, 3, 1, 100, serve)},
		[]string{"a → b http: calls 2, client 2×100ms, server 2×90ms"},
		[]string{},
	},
	// Queues.
	{
		"lag by parent, and a group",
		[]tspan{
			{service: "a", trace: 1, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: sendOrder},
			{service: "b", trace: 1, id: 2, parent: 1, kind: kindConsumer, at: 505, ms: 80, attrs: with(takeOrder, "messaging.consumer.group.name", "g1")},
			{service: "b", trace: 1, id: 3, parent: 1, kind: kindConsumer, at: 305, ms: 40, failed: true, attrs: with(takeOrder, "messaging.kafka.consumer.group", "g2")},
		},
		[]string{
			"a → queue:kafka/orders messaging: calls 1, client 1×5ms, messages 1",
			"queue:kafka/orders → b messaging: calls 2, errors 1, server_error 1, server 2×60ms, server errors 1, messages 2",
		},
		[]string{
			"queue:kafka/orders → b: group g1: 1, 80ms",
			"queue:kafka/orders → b: group g2: 1, failed 1, 40ms",
			"queue:kafka/orders → b: measure lag: 2, 400ms",
			"queue:kafka/orders → b: producer a: 2, failed 1, 0ms",
		},
	},
	{
		"a batch: one call, a message and a lag for each link",
		[]tspan{
			{service: "a", trace: 1, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: sendOrder},
			{service: "a", trace: 2, id: 2, kind: kindProducer, at: 100, ms: 5, attrs: sendOrder},
			{service: "a", trace: 3, id: 3, kind: kindProducer, at: 200, ms: 5, attrs: sendOrder},
			{service: "b", trace: 4, id: 4, kind: kindConsumer, at: 305, ms: 80, attrs: takeOrder, links: [][2]byte{{1, 1}, {2, 2}, {3, 3}}},
		},
		[]string{
			"a → queue:kafka/orders messaging: calls 3, client 3×5ms, messages 3",
			"queue:kafka/orders → b messaging: calls 1, server 1×80ms, messages 3",
		},
		[]string{
			"queue:kafka/orders → b: measure lag: 3, 200ms",
			"queue:kafka/orders → b: producer a: 3, 0ms",
		},
	},
	{
		"a batch that says how many messages it has",
		[]tspan{
			{service: "b", trace: 4, id: 4, kind: kindConsumer, at: 305, ms: 80, attrs: with(takeOrder, "messaging.batch.message_count", 7), links: [][2]byte{{1, 1}, {2, 2}}},
		},
		[]string{"queue:kafka/orders → b messaging: calls 1, server 1×80ms, messages 7"},
		[]string{},
	},
	{
		"a consumer that names no queue, linked to producers that do",
		[]tspan{
			{service: "a", trace: 1, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: sendOrder},
			{service: "b", trace: 4, id: 4, kind: kindConsumer, at: 105, ms: 80, link: [2]byte{1, 1}},
		},
		[]string{
			"a → queue:kafka/orders messaging: calls 1, client 1×5ms, messages 1",
			"queue:kafka/orders → b messaging: calls 1, server 1×80ms, messages 1",
		},
		[]string{
			"queue:kafka/orders → b: measure lag: 1, 100ms",
			"queue:kafka/orders → b: producer a: 1, 0ms",
		},
	},
	{
		"a poll had its message when it ended",
		[]tspan{
			{service: "a", trace: 1, id: 1, kind: kindProducer, at: 1000, ms: 5, attrs: sendOrder},
			{service: "b", trace: 4, id: 4, kind: kindConsumer, at: 0, ms: 1035, attrs: with(takeOrder, "messaging.operation.type", "receive"), link: [2]byte{1, 1}},
		},
		[]string{
			"a → queue:kafka/orders messaging: calls 1, client 1×5ms, messages 1",
			"queue:kafka/orders → b messaging: calls 1, messages 1",
		},
		[]string{
			"queue:kafka/orders → b: measure lag: 1, 30ms",
			"queue:kafka/orders → b: producer a: 1, 0ms",
		},
	},
	{
		"clocks that differ",
		[]tspan{
			{service: "a", trace: 1, id: 1, kind: kindProducer, at: 500, ms: 5, attrs: sendOrder},
			{service: "b", trace: 1, id: 2, parent: 1, kind: kindConsumer, at: 405, ms: 80, attrs: takeOrder},
		},
		[]string{
			"a → queue:kafka/orders messaging: calls 1, client 1×5ms, messages 1",
			"queue:kafka/orders → b messaging: calls 1, server 1×80ms, messages 1",
		},
		[]string{
			"queue:kafka/orders → b: measure lag_skewed: 1, 100ms",
			"queue:kafka/orders → b: producer a: 1, 0ms",
		},
	},
	{
		"the broker says when it had the message",
		[]tspan{
			{service: "b", trace: 1, id: 2, parent: 99, kind: kindConsumer, at: 4000, ms: 80, attrs: with(takeOrder, "messaging.eventhubs.message.enqueued_time", int(epoch.Unix())+1)},
		},
		[]string{"queue:kafka/orders → b messaging: calls 1, server 1×80ms, messages 1"},
		[]string{"queue:kafka/orders → b: measure lag: 1, 3000ms"},
	},
	{
		"messages that are turned down and given up, and others that are done",
		[]tspan{
			{service: "b", trace: 1, id: 2, kind: kindConsumer, at: 0, ms: 80, attrs: takeOrder},
			{service: "b", trace: 1, id: 3, parent: 2, kind: kindClient, at: 70, ms: 4, attrs: with(takeOrder, "messaging.operation.type", "settle", "messaging.operation.name", "abandon")},
			{service: "b", trace: 2, id: 3, kind: kindClient, at: 70, ms: 6, attrs: with(takeOrder, "messaging.operation.type", nil, "messaging.operation.name", "nack")},
			{service: "b", trace: 3, id: 3, kind: kindClient, at: 70, ms: 8, attrs: with(takeOrder, "messaging.operation.type", "settle", "messaging.operation.name", "deadletter")},
			{service: "b", trace: 4, id: 3, kind: kindClient, at: 70, ms: 8, attrs: with(takeOrder, "messaging.operation.type", "settle", "messaging.operation.name", "complete")},
			{service: "b", trace: 5, id: 3, kind: kindClient, at: 70, ms: 8, failed: true, attrs: with(takeOrder, "messaging.operation.type", "settle", "messaging.operation.name", "deadletter")},
		},
		[]string{"queue:kafka/orders → b messaging: calls 1, server 1×80ms, messages 1"},
		[]string{"queue:kafka/orders → b: measure given_up: 1, 8ms", "queue:kafka/orders → b: measure turned_down: 2, 5ms"},
	},
	{
		"redelivery by the broker's count",
		[]tspan{
			{service: "b", trace: 1, id: 2, kind: kindConsumer, at: 0, ms: 80, attrs: with(takeOrder, "messaging.servicebus.message.delivery_count", 1)},
			{service: "b", trace: 2, id: 2, kind: kindConsumer, at: 0, ms: 80, attrs: with(takeOrder, "messaging.servicebus.message.delivery_count", 3)},
			{service: "b", trace: 3, id: 2, kind: kindConsumer, at: 0, ms: 80, attrs: with(takeOrder, "messaging.gcp_pubsub.message.delivery_attempt", 2)},
		},
		[]string{"queue:kafka/orders → b messaging: calls 3, server 3×80ms, messages 3"},
		[]string{"queue:kafka/orders → b: measure redelivery: 2, 0ms"},
	},
	{
		"redelivery by parent and by link, three times; another group and another service are none",
		[]tspan{
			{service: "a", trace: 1, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: sendOrder},
			{service: "b", trace: 1, id: 2, parent: 1, kind: kindConsumer, at: 10, ms: 10, attrs: takeOrder, failed: true},
			{service: "b", trace: 1, id: 3, parent: 1, kind: kindConsumer, at: 40, ms: 10, attrs: takeOrder, failed: true},
			{service: "b", trace: 2, id: 4, kind: kindConsumer, at: 90, ms: 10, attrs: takeOrder, link: [2]byte{1, 1}},
			{service: "b", trace: 1, id: 5, parent: 1, kind: kindConsumer, at: 90, ms: 10, attrs: with(takeOrder, "messaging.consumer.group.name", "g")},
			{service: "c", trace: 1, id: 6, parent: 1, kind: kindConsumer, at: 90, ms: 10, attrs: takeOrder},
		},
		[]string{
			"a → queue:kafka/orders messaging: calls 1, client 1×5ms, messages 1",
			"queue:kafka/orders → b messaging: calls 4, errors 2, server_error 2, server 4×10ms, server errors 2, messages 4",
			"queue:kafka/orders → c messaging: calls 1, server 1×10ms, messages 1",
		},
		[]string{
			"queue:kafka/orders → b: group g: 1, 10ms",
			"queue:kafka/orders → b: measure lag: 4, 52.5ms",
			"queue:kafka/orders → b: measure redelivery: 2, failed 1, 30ms",
			"queue:kafka/orders → b: producer a: 4, failed 2, 0ms",
			"queue:kafka/orders → c: measure lag: 1, 85ms",
			"queue:kafka/orders → c: producer a: 1, 0ms",
		},
	},
	{
		"the messages of a batch that is sent as one are no redeliveries",
		[]tspan{
			{service: "a", trace: 1, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: with(sendOrder, "messaging.batch.message_count", 2)},
			{service: "b", trace: 1, id: 2, parent: 1, kind: kindConsumer, at: 10, ms: 10, attrs: takeOrder},
			{service: "b", trace: 1, id: 3, parent: 1, kind: kindConsumer, at: 40, ms: 10, attrs: takeOrder},
		},
		[]string{
			"a → queue:kafka/orders messaging: calls 1, client 1×5ms, messages 2",
			"queue:kafka/orders → b messaging: calls 2, server 2×10ms, messages 2",
		},
		[]string{
			"queue:kafka/orders → b: measure lag: 2, 20ms",
			"queue:kafka/orders → b: producer a: 2, 0ms",
		},
	},
	// A.3, cases 7 to 9: what the flags of a span say of its parent.
	{
		"7: the caller is not instrumented",
		[]tspan{
			{service: "a", trace: 1, id: 1, kind: kindInternal, at: 0, ms: 100},
			{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: serve, flags: 0x300},
		},
		[]string{"a → b http: calls 1, server 1×80ms, client missing 1"},
		[]string{},
	},
	{
		"8: a service's own work",
		[]tspan{
			{service: "b", trace: 1, id: 1, kind: kindServer, at: 0, ms: 100, attrs: serve},
			{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: serve, flags: 0x100},
		},
		[]string{"user → b http: calls 1, server 1×100ms"},
		[]string{},
	},
	{
		"9: a service that calls itself",
		[]tspan{
			{service: "b", trace: 1, id: 1, kind: kindServer, at: 0, ms: 100, attrs: serve},
			{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: serve, flags: 0x300},
		},
		[]string{"b → b http: calls 1, server 1×80ms, client missing 1", "user → b http: calls 1, server 1×100ms"},
		[]string{},
	},
}

func TestFacts(t *testing.T) {
	for _, sc := range factScenarios {
		t.Run(sc.name, func(t *testing.T) {
			in, live := newIntake()
			feed(t, in, epoch.Add(20*time.Second), each(t, sc.spans...)...)
			in.Tick(epoch.Add(31 * time.Second))
			if diff := cmp.Diff(sc.edges, briefs(live)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(sc.facts, factLines(live, graph.Measured, graph.Group, graph.Producer)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The order in which spans come, and when, within the wait, changes no fact.
func TestOrderChangesNoFact(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, sc := range factScenarios {
		t.Run(sc.name, func(t *testing.T) {
			bodies := each(t, sc.spans...)
			for range 15 {
				r.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
				in, live := newIntake()
				now := epoch.Add(20 * time.Second)
				for _, b := range bodies {
					feed(t, in, now, b)
					now = now.Add(time.Duration(r.IntN(9000/len(bodies))) * time.Millisecond)
					in.Tick(now)
				}
				for range 12 {
					now = now.Add(time.Second)
					in.Tick(now)
				}
				if diff := cmp.Diff(sc.edges, briefs(live)); diff != "" {
					t.Fatal(diff)
				}
				if diff := cmp.Diff(sc.facts, factLines(live, graph.Measured, graph.Group, graph.Producer)); diff != "" {
					t.Fatal(diff)
				}
			}
		})
	}
}
