package ingest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// answered are n calls of a to b at b's address, the i-th in a trace of its own.
func answered(n, first int) (spans []tspan) {
	for i := range n {
		spans = append(spans,
			tspan{service: "a", trace: byte(first + i), id: 1, kind: kindClient, at: i, ms: 10, attrs: with(get, "server.address", "10.0.0.7")},
			tspan{service: "b", trace: byte(first + i), id: 2, parent: 1, kind: kindServer, at: i + 1, ms: 5, attrs: serve})
	}
	return spans
}

var refused = tspan{service: "a", trace: 250, id: 1, kind: kindClient, ms: 1, failed: true, attrs: tag{
	"http.request.method": "GET", "server.address": "10.0.0.7", "server.port": 8080, "error.type": "ECONNREFUSED",
}}

// What was learned of an address counts half after a day, also over a restart.
func TestLearnedAddressesGrowOld(t *testing.T) {
	learn := func() *Intake {
		in, _ := newIntake()
		in.Tick(epoch)
		feed(t, in, epoch.Add(time.Second), each(t, answered(50, 0)...)...)
		return in
	}
	const known, unknown = "a → b http: calls 1, errors 1, refused 1, client 1×1ms, server missing 1", "a → ext:10.0.0.7:8080 http: calls 1, errors 1, refused 1, client 1×1ms"
	for _, c := range []struct {
		name string
		age  time.Duration
		want string
	}{
		{"at once", time.Minute, known},
		{"after a day: 25 calls", 25 * time.Hour, known},
		{"after two days: 12 calls", 49 * time.Hour, unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := learn()
			in.Tick(epoch.Add(2 * time.Minute))
			state := in.State(epoch.Add(2 * time.Minute))
			later := epoch.Add(c.age)
			in.Tick(later)
			again, live := newIntake()
			if err := again.Restore(epoch, state); err != nil {
				t.Fatal(err)
			}
			again.Tick(later)
			if diff := cmp.Diff(string(in.State(later)[aliasesKey]), string(again.State(later)[aliasesKey])); diff != "" {
				t.Errorf("with and without a restart: %s", diff)
			}
			feed(t, again, later, each(t, moved(c.age-time.Second, refused)...)...)
			again.Tick(later.Add(11 * time.Second))
			if diff := cmp.Diff([]string{c.want}, briefs(live)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// An address that another service took over is learned anew: nine of ten calls are not enough to be sure, nineteen of
// twenty are.
func TestAnAddressMustBeSure(t *testing.T) {
	for _, c := range []struct {
		others int
		want   bool
	}{{0, true}, {5, true}, {6, false}} {
		in, live := newIntake()
		spans := answered(100-c.others, 0)
		for _, s := range answered(c.others, 100) {
			if s.service == "b" {
				s.service = "c"
			}
			spans = append(spans, s)
		}
		feed(t, in, epoch.Add(time.Second), each(t, append(spans, refused)...)...)
		in.Tick(epoch.Add(12 * time.Second))
		if got := sums(live)["a → b http"].ServerMissing == 1; got != c.want {
			t.Errorf("%d of 100 answered by another: call on b's edge: %v, want %v", c.others, got, c.want)
		}
	}
}

// Names of Kubernetes' forms stand for the one service that they can mean.
func TestKubernetesNames(t *testing.T) {
	shop, bank := tag{"k8s.namespace.name": "shop"}, tag{"k8s.namespace.name": "bank"}
	for _, c := range []struct {
		name     string
		services []tspan // others that send spans
		caller   tspan
		host     string
		want     string
	}{
		{"svc", []tspan{{service: "b"}}, tspan{service: "a"}, "b", "b"},
		{"svc.ns of a service without a namespace", []tspan{{service: "b"}}, tspan{service: "a"}, "b.shop", "b"},
		{"svc.ns by service.namespace", []tspan{{service: "shop/b"}, {service: "bank/b"}}, tspan{service: "a"}, "b.shop", "shop/b"},
		{"svc.ns.svc by k8s.namespace.name", []tspan{{service: "x/b", resource: shop}, {service: "y/b", resource: bank}}, tspan{service: "a"}, "b.bank.svc", "y/b"},
		{"svc.ns.svc.zone", []tspan{{service: "b", resource: shop}}, tspan{service: "a"}, "b.shop.svc.cluster.local", "b"},
		{"svc.ns of another namespace", []tspan{{service: "b", resource: shop}}, tspan{service: "a"}, "b.bank.svc.cluster.local", "ext:b.bank.svc.cluster.local"},
		{"svc, of several the caller's own", []tspan{{service: "b", resource: shop}, {service: "x/b", resource: bank}}, tspan{service: "x/a", resource: bank}, "b", "x/b"},
		{"svc, several", []tspan{{service: "shop/b"}, {service: "bank/b"}}, tspan{service: "a"}, "b", "ext:b"},
		{"a host that only begins like a service", []tspan{{service: "b"}}, tspan{service: "a"}, "b.example.com", "ext:b.example.com"},
		{"svc of another environment", []tspan{{service: "b", env: "staging"}}, tspan{service: "a", env: "prod"}, "b", "ext:b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, live := newIntake()
			for i, s := range c.services {
				s.trace, s.id, s.kind, s.ms, s.attrs = byte(10+i), 1, kindServer, 5, serve
				feed(t, in, epoch.Add(time.Second), each(t, s)...)
			}
			call := c.caller
			call.trace, call.id, call.kind, call.ms, call.attrs = 1, 1, kindClient, 5, tag{"http.request.method": "GET", "server.address": c.host}
			feed(t, in, epoch.Add(time.Second), each(t, call)...)
			in.Tick(epoch.Add(12 * time.Second))
			want := c.caller.service + " → " + c.want + " http"
			if c.caller.env != "" {
				want = c.caller.env + ": " + want
			}
			if sums(live)[want] == nil {
				t.Errorf("want %s, got %v", want, briefs(live))
			}
		})
	}
}

// The IP of a pod stands for its service, unless several have it.
func TestPodAddresses(t *testing.T) {
	pod := func(service string) tspan {
		return tspan{service: service, trace: 9, id: 9, kind: kindServer, ms: 5, attrs: serve, resource: tag{"k8s.pod.ip": "10.0.0.7"}}
	}
	for _, c := range []struct {
		name string
		feed func(in *Intake)
		want string
	}{
		{"one", func(in *Intake) { feed(t, in, epoch, each(t, pod("b"))...) }, "b"},
		{"two in their host's network", func(in *Intake) { feed(t, in, epoch, each(t, pod("b"), pod("c"))...) }, "ext:10.0.0.7:8080"},
		{"one that got the other's", func(in *Intake) {
			feed(t, in, epoch.Add(-10*time.Minute), each(t, moved(-10*time.Minute, pod("b"))...)...)
			feed(t, in, epoch, each(t, pod("c"))...)
		}, "c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, live := newIntake()
			c.feed(in)
			feed(t, in, epoch, each(t, refused)...)
			in.Tick(epoch.Add(11 * time.Second))
			if got := sums(live)["a → "+c.want+" http"]; got == nil {
				t.Errorf("want a → %s, got %v", c.want, briefs(live))
			}
		})
	}
}
