//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// TestHotROD lets Jaeger's demo send us its rides. One dispatch is one request to the frontend, which asks customer
// (HTTP; one query to MySQL), driver (gRPC; one look-up of ten drivers in Redis, then each of them, again when it timed
// out) and ten times route (HTTP).
//
// MySQL and Redis are simulated in process, and traced as if they were services that report themselves: a client span
// under the service name of the database whose parent is a server span of the asking service. So the database is who
// is called, by the service of the parent, and its span is the callee's side of the call.
func TestHotROD(t *testing.T) {
	hotrod := client(t, "hotrod")
	c := newCollector(t)
	frontend := freeAddr(t)
	run(t, t.TempDir(), []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + c.otlp}, hotrod, "all",
		"--frontend-service-hostname=127.0.0.1", "--frontend-service-port="+port(t, frontend),
		"--customer-service-hostname=127.0.0.1", "--customer-service-port="+port(t, freeAddr(t)),
		"--driver-service-hostname=127.0.0.1", "--driver-service-port="+port(t, freeAddr(t)),
		"--route-service-hostname=127.0.0.1", "--route-service-port="+port(t, freeAddr(t)))
	dispatch := func(customer string) error {
		a, err := do(t.Context(), http.MethodGet, "http://"+frontend+"/dispatch?customer="+customer, nil)
		if err != nil {
			return err
		}
		if a.status != http.StatusOK {
			return fmt.Errorf("dispatch: status %d", a.status)
		}
		return nil
	}
	// The first one may meet a HotROD that does not listen yet: no call was made then, and none is counted.
	eventually(t, 20*time.Second, 100*time.Millisecond, func() error { return dispatch("123") })
	// A p95 is shown from 20 calls on.
	dispatches := 1.
	for customers := []string{"392", "731", "567", "123"}; dispatches < 24; dispatches++ {
		if err := dispatch(customers[int(dispatches)%len(customers)]); err != nil {
			t.Fatal(err)
		}
	}

	settled(t, func() error {
		g, err := c.graph()
		if err != nil {
			return err
		}
		redis, err := g.edge("driver", "redis-manual")
		if err != nil {
			return err
		}
		if err := g.check([]wantEdge{
			{"user", "frontend", "http", dispatches, 0, 0},
			{"frontend", "customer", "http", dispatches, 0, 0},
			{"frontend", "driver", "grpc", dispatches, 0, 0},
			{"frontend", "route", "http", 10 * dispatches, 0, 0},
			{"customer", "mysql", e(g, "customer", "mysql").Protocol, dispatches, 0, 0},
			{"driver", "redis-manual", redis.Protocol, redis.Calls, redis.Errors, redis.Retries},
		}); err != nil {
			return err
		}
		// A look-up that timed out is made again, so every call beyond 1 + 10 a ride is the answer to an error.
		if redis.Errors == 0 || redis.Calls-redis.Errors != 11*dispatches {
			return fmt.Errorf("driver → redis-manual: %g calls, %g errors, want errors, and calls − errors = %g", redis.Calls, redis.Errors, 11*dispatches)
		}
		// HotROD sleeps about 300 ms for a query, 10 ms for a look-up, 50 ms for a route: the caller sees at least
		// most of that, and a busy machine adds to it.
		return errors.Join(
			within("p95 of customer → mysql", e(g, "customer", "mysql").Server.P95, 200, 3000),
			within("p95 of frontend → customer", e(g, "frontend", "customer").P95, 200, 3000),
			within("the callee's p95 of frontend → customer", e(g, "frontend", "customer").Server.P95, 200, 3000),
			within("p50 of frontend → route", e(g, "frontend", "route").P50, 10, 1000),
			within("p95 of frontend → driver", e(g, "frontend", "driver").P95, 50, 5000),
			within("p95 of driver → redis-manual", redis.Server.P95, 3, 1000),
			within("rate of frontend → route", e(g, "frontend", "route").Rate, 10*dispatches/(15*60)-.01, 10*dispatches),
		)
	})
	var failed []string
	eventually(t, 45*time.Second, 500*time.Millisecond, func() error { // examples come up to 32 s after their calls
		if failed = c.traces(t, url.Values{"service": {"driver"}, "only": {"error"}, "from": {"now-15m"}}); len(failed) == 0 {
			return errors.New("no example of a trace with an error through driver")
		}
		return nil
	})
	// A ride is about 40 spans of six services; the example is the whole of it, as OTLP JSON.
	body, err := c.get("/api/v1/traces/" + failed[0])
	if err != nil {
		t.Fatal(err)
	}
	trace, err := new(ptrace.JSONUnmarshaler).UnmarshalTraces(body)
	if err != nil {
		t.Fatalf("trace %s: %v", failed[0], err)
	}
	if n := trace.SpanCount(); n < 35 {
		t.Errorf("trace %s has %d spans, want the whole ride", failed[0], n)
	}
}

// e returns an edge that is known to be there, or a zero one.
func e(g *depGraph, source, target string) *edge {
	if found, err := g.edge(source, target); err == nil {
		return found
	}
	return new(edge)
}
