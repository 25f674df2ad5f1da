package ingest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
)

// What Envoy says on the way out of a pod and on the way in.
var (
	envoyOut = map[string]any{
		"component": "proxy", "node_id": "sidecar~10.0.0.1~a-7d9f8c6b5-x2v4q.shop~shop.svc.cluster.local", "http.method": "GET", "http.status_code": "200",
		"response_flags": "-", "upstream_cluster": "outbound|8080||b.shop.svc.cluster.local", "upstream_cluster.name": "outbound|8080||b.shop.svc.cluster.local",
		"http.url": "http://b:8080/x/1", "peer.address": "10.0.0.1", "zone": "z1",
	}
	envoyIn = map[string]any{
		"component": "proxy", "node_id": "sidecar~10.0.0.2~b-5f4c9d7b8-9k2lz.shop~shop.svc.cluster.local", "http.method": "GET", "http.status_code": "200",
		"response_flags": "-", "upstream_cluster": "inbound|8080||", "upstream_cluster.name": "inbound|8080||",
		"http.url": "http://b:8080/x/1", "peer.address": "10.0.0.1",
	}
	podA = map[string]any{"k8s.pod.name": "a-7d9f8c6b5-x2v4q", "k8s.namespace.name": "shop"}
	podB = map[string]any{"k8s.pod.name": "b-5f4c9d7b8-9k2lz", "k8s.namespace.name": "shop"}
)

// chain is a call from a to b through both sidecars, which send their spans as services of the names given.
func chain(a, aProxy, b, bProxy string) []tspan {
	return []tspan{
		{service: a, resource: podA, trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: get},
		{service: aProxy, trace: 1, id: 2, parent: 1, kind: kindClient, at: 2, ms: 94, attrs: envoyOut},
		{service: bProxy, trace: 1, id: 3, parent: 2, kind: kindServer, at: 10, ms: 80, attrs: envoyIn},
		{service: b, resource: podB, trace: 1, id: 4, parent: 3, kind: kindServer, at: 13, ms: 74, attrs: serve},
	}
}

var gatewayAttrs = map[string]any{
	"component": "proxy", "node_id": "router~10.0.0.9~ingress-1.edge~edge.svc.cluster.local", "http.method": "GET", "http.status_code": "200",
	"response_flags": "-", "upstream_cluster": "outbound|8080||b.shop.svc.cluster.local",
}

var proxyScenarios = []struct {
	name  string
	spans []tspan
	want  []string
}{
	{"sidecars of the services' names", chain("a", "a", "b", "b"), []string{"a → b http: calls 1, client 1×100ms, server 1×74ms"}},
	{"sidecars found by their pods", chain("shop/a", "a.shop", "shop/b", "b.shop"), []string{"shop/a → shop/b http: calls 1, client 1×100ms, server 1×74ms"}},
	{"sidecars that have no name, found by their pods", chain("shop/a", "istio-proxy", "shop/b", "envoy"), []string{"shop/a → shop/b http: calls 1, client 1×100ms, server 1×74ms"}},
	{"sidecars of one name, found by their pods", chain("shop/a", "istio-proxy", "shop/b", "istio-proxy"), []string{"shop/a → shop/b http: calls 1, client 1×100ms, server 1×74ms"}},
	{"sidecars of one name without their services", func() []tspan { c := chain("", "istio-proxy", "", "istio-proxy"); return c[1:3] }(), []string{"a → b http: calls 1, client 1×94ms, server 1×80ms"}},
	{"sidecars found by canonical name", func() []tspan {
		c := chain("shop/a", "istio-proxy", "shop/b", "istio-proxy/two")
		c[0].resource, c[3].resource = nil, nil
		c[1].attrs = with(envoyOut, "istio.canonical_service", "a")
		c[2].attrs = with(envoyIn, "istio.canonical_service", "b")
		c[2].service = "istio-proxy"
		c[2].resource = map[string]any{"service.instance.id": "two"}
		return c
	}(), []string{"shop/a → shop/b http: calls 1, client 1×100ms, server 1×74ms"}},
	{"sidecars told by their scope", func() []tspan {
		c := chain("a", "a", "b", "b")
		c[1].attrs, c[1].scope = get, "envoy"
		c[2].attrs, c[2].scope = serve, "envoy"
		return c
	}(), []string{"a → b http: calls 1, client 1×100ms, server 1×74ms"}},
	{"sidecars that know no environment", func() []tspan {
		c := chain("shop/a", "a.shop", "shop/b", "b.shop")
		c[0].env, c[3].env = "prod", "prod"
		return c
	}(), []string{"prod: shop/a → shop/b http: calls 1, client 1×100ms, server 1×74ms"}},
	{"only the callee has a sidecar", func() []tspan {
		c := chain("a", "", "b", "b.shop")
		c[2].parent = 1
		return slices.Delete(c, 1, 2)
	}(), []string{"a → b http: calls 1, client 1×100ms, server 1×74ms"}},
	{"only the caller has a sidecar", func() []tspan {
		c := chain("a", "a.shop", "b", "")
		c[3].parent = 2
		return slices.Delete(c, 2, 3)
	}(), []string{"a → b http: calls 1, client 1×100ms, server 1×74ms"}},
	{"sidecars that make a span for each side", []tspan{
		{service: "a", resource: podA, trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: get},
		{service: "a.shop", trace: 1, id: 2, parent: 1, kind: kindServer, at: 2, ms: 94, attrs: with(envoyOut, "upstream_cluster", "", "upstream_cluster.name", "")},
		{service: "a.shop", trace: 1, id: 3, parent: 2, kind: kindClient, at: 3, ms: 92, attrs: envoyOut},
		{service: "b.shop", trace: 1, id: 4, parent: 3, kind: kindServer, at: 10, ms: 80, attrs: with(envoyIn, "upstream_cluster", "", "upstream_cluster.name", "")},
		{service: "b.shop", trace: 1, id: 5, parent: 4, kind: kindClient, at: 11, ms: 78, attrs: envoyIn},
		{service: "b", resource: podB, trace: 1, id: 6, parent: 5, kind: kindServer, at: 13, ms: 74, attrs: serve},
	}, []string{"a → b http: calls 1, client 1×100ms, server 1×74ms"}},
	{"from one pod of a service to another", func() []tspan {
		c := chain("b", "b.shop", "b", "b.shop")
		c[0].resource = map[string]any{"k8s.pod.name": "b-5f4c9d7b8-0aaaa"}
		c[1].attrs = with(envoyOut, "node_id", "sidecar~10.0.0.3~b-5f4c9d7b8-0aaaa.shop~shop.svc.cluster.local")
		return c
	}(), []string{"b → b http: calls 1, client 1×100ms, server 1×74ms"}},
	{"a sidecar that tries three times", []tspan{
		{service: "a", resource: podA, trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: get},
		{service: "a.shop", trace: 1, id: 2, parent: 1, kind: kindClient, at: 2, ms: 94, attrs: with(envoyOut, "retry.count", "2")},
		{service: "b.shop", trace: 1, id: 3, parent: 2, kind: kindServer, at: 10, ms: 10, attrs: with(envoyIn, "http.status_code", "503")},
		{service: "b.shop", trace: 1, id: 4, parent: 2, kind: kindServer, at: 30, ms: 10, attrs: with(envoyIn, "http.status_code", "503")},
		{service: "b.shop", trace: 1, id: 5, parent: 2, kind: kindServer, at: 60, ms: 10, attrs: envoyIn},
		{service: "b", resource: podB, trace: 1, id: 6, parent: 3, kind: kindServer, at: 11, ms: 8, attrs: fail5},
		{service: "b", resource: podB, trace: 1, id: 7, parent: 4, kind: kindServer, at: 31, ms: 8, attrs: fail5},
		{service: "b", resource: podB, trace: 1, id: 8, parent: 5, kind: kindServer, at: 61, ms: 8, attrs: serve},
	}, []string{"a → b http: calls 3, errors 2, logical 1/0, server_error 2, client 1×100ms, server 3×8ms, server errors 2"}},
	{"the callee's half is lost", func() []tspan { c := chain("a", "a", "b", "b"); return c[:3] }(), []string{"a → b http: calls 1, client 1×100ms, server 1×80ms"}},
	{"the caller's half is lost", func() []tspan { c := chain("a", "a", "b", "b"); return c[1:] }(), []string{"a → b http: calls 1, client 1×94ms, server 1×74ms"}},
	{"a user's call through the callee's sidecar", func() []tspan {
		c := chain("", "", "b", "b.shop")
		c[2].parent = 0
		return c[2:]
	}(), []string{"user → b http: calls 1, server 1×74ms"}},
	{"Envoy alone", func() []tspan {
		c := chain("", "a.shop", "", "b.shop")
		c[1].attrs = with(envoyOut, "istio.canonical_service", "a")
		c[2].attrs = with(envoyIn, "istio.canonical_service", "b")
		return c[1:3]
	}(), []string{"a → b http: calls 1, client 1×94ms, server 1×80ms"}},
	{"Envoy alone, and only the caller's", func() []tspan {
		c := chain("", "a.shop", "", "")
		c[1].attrs = with(envoyOut, "istio.canonical_service", "a", "http.url", "")
		return c[1:2]
	}(), []string{"a → ext:b.shop.svc.cluster.local:8080 http: calls 1, client 1×94ms"}},
	{"Envoy alone, a service that passes the headers on", []tspan{
		{service: "a", trace: 1, id: 1, parent: 9, kind: kindServer, at: 0, ms: 200, attrs: with(envoyIn, "istio.canonical_service", "a")},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindClient, at: 2, ms: 94, attrs: with(envoyOut, "istio.canonical_service", "a")},
		{service: "b", trace: 1, id: 3, parent: 2, kind: kindServer, at: 10, ms: 80, attrs: with(envoyIn, "istio.canonical_service", "b")},
	}, []string{"a → b http: calls 1, client 1×94ms, server 1×80ms", "unknown → a http: calls 1, server 1×200ms, client missing 1"}},
	{"a gateway", []tspan{
		{service: "ingress", trace: 1, id: 1, kind: kindServer, at: 0, ms: 100, attrs: gatewayAttrs},
		{service: "ingress", trace: 1, id: 2, parent: 1, kind: kindClient, at: 2, ms: 94, attrs: gatewayAttrs},
		{service: "b", trace: 1, id: 3, parent: 2, kind: kindServer, at: 10, ms: 80, attrs: serve},
	}, []string{"service:ingress → b http: calls 1, client 1×94ms, server 1×80ms", "user → service:ingress http: calls 1, server 1×100ms"}},
	{"a gateway that tells of both sides in one span", []tspan{
		{service: "ingress", trace: 1, id: 2, kind: kindClient, at: 2, ms: 94, attrs: gatewayAttrs},
		{service: "b", trace: 1, id: 3, parent: 2, kind: kindServer, at: 10, ms: 80, attrs: serve},
	}, []string{"service:ingress → b http: calls 1, client 1×94ms, server 1×80ms", "user → service:ingress http: calls 1, server 1×94ms"}},
	{"a gateway between two services", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: get},
		{service: "egress", trace: 1, id: 2, parent: 1, kind: kindClient, at: 2, ms: 94, attrs: gatewayAttrs},
		{service: "b", trace: 1, id: 3, parent: 2, kind: kindServer, at: 10, ms: 80, attrs: serve},
	}, []string{"a → egress http: calls 1, client 1×100ms, server 1×94ms", "egress → b http: calls 1, client 1×94ms, server 1×80ms"}},
}

// Proxies make no node and no call of their own, whatever the order in which their spans and those of the services
// arrive.
func TestProxies(t *testing.T) {
	for _, sc := range proxyScenarios {
		t.Run(sc.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(2, 2))
			bodies := each(t, sc.spans...)
			for n := range 60 {
				in, live := newIntake()
				now := epoch.Add(time.Second)
				for _, b := range bodies {
					feed(t, in, now, b)
					if n > 0 && r.IntN(2) == 0 {
						now = now.Add(time.Duration(r.IntN(1500)) * time.Millisecond)
						in.Tick(now)
					}
				}
				in.Tick(now.Add(11 * time.Second))
				if diff := cmp.Diff(sc.want, briefs(live)); diff != "" {
					t.Fatalf("order %d: %s", n, diff)
				}
				r.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
			}
		})
	}
}

// Where a service sees no more than a 503 that a sidecar answered with, the sidecars' flags say why, in whatever order they
// come.
func TestSidecarsSayWhyACallFailed(t *testing.T) {
	flags := func(attrs map[string]any, of string) map[string]any {
		return with(with(attrs, "http.status_code", "503"), "response_flags", of)
	}
	c := chain("shop/a", "istio-proxy", "shop/b", "istio-proxy")
	for i := range c {
		c[i].failed = true
	}
	c[0].attrs = with(get, "http.response.status_code", 503)
	of := func(out, in string, spans ...int) (made []tspan) {
		for _, i := range spans {
			s := c[i]
			switch i {
			case 1:
				s.attrs = flags(envoyOut, out)
			case 2:
				s.attrs = flags(envoyIn, in)
			case 3:
				s.attrs = with(serve, "http.response.status_code", 503)
			}
			made = append(made, s)
		}
		return made
	}
	for _, tt := range []struct {
		name  string
		spans []tspan
		want  []string
	}{
		{"the caller's, before a breaker", of("UO", "", 0, 1), []string{"shop/a → ext:b:8080 http: calls 1, errors 1, breaker_open 1, client 1×100ms"}},
		{"the caller's, no healthy endpoint", of("UH", "", 0, 1), []string{"shop/a → ext:b:8080 http: calls 1, errors 1, refused 1, client 1×100ms"}},
		{"the caller's says nothing", of("-", "", 0, 1), []string{"shop/a → ext:b:8080 http: calls 1, errors 1, server_error 1, client 1×100ms"}},
		{"the callee's, whose service is down", of("-", "UF", 0, 1, 2), []string{"shop/a → b http: calls 1, errors 1, refused 1, client 1×100ms, server 1×80ms, server errors 1"}},
		{"the callee's alone", func() []tspan {
			made := of("", "UF", 0, 2)
			made[1].parent = 1
			return made
		}(), []string{"shop/a → b http: calls 1, errors 1, refused 1, client 1×100ms, server 1×80ms, server errors 1"}},
		{"without the services' own", of("-", "UF", 1, 2), []string{"a → b http: calls 1, errors 1, refused 1, client 1×94ms, server 1×80ms, server errors 1"}},
		{"both, of a callee that answered", of("-", "-", 0, 1, 2, 3), []string{"shop/a → shop/b http: calls 1, errors 1, server_error 1, client 1×100ms, server 1×74ms, server errors 1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(2, 2))
			bodies := each(t, tt.spans...)
			for n := range 20 {
				in, live := newIntake()
				now := epoch.Add(time.Second)
				for _, b := range bodies {
					feed(t, in, now, b)
					if n > 0 && r.IntN(2) == 0 {
						now = now.Add(time.Duration(r.IntN(1500)) * time.Millisecond)
						in.Tick(now)
					}
				}
				in.Tick(now.Add(11 * time.Second))
				if diff := cmp.Diff(tt.want, briefs(live)); diff != "" {
					t.Fatalf("order %d: %s", n, diff)
				}
				r.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
			}
		})
	}
}

// A gateway that tells of both sides in one span was reached, whatever became of what it called.
func TestAGatewaysOwnCallsFail(t *testing.T) {
	for flags, class := range map[string]string{"UO": "breaker_open", "UF": "refused", "DF": "unresolved", "UT": "timeout"} {
		in, live := newIntake()
		feed(t, in, epoch, each(t, tspan{
			service: "gateway", trace: 1, id: 1, kind: kindClient, at: 0, ms: 10, failed: true,
			attrs: with(with(gatewayAttrs, "http.status_code", "503"), "response_flags", flags),
		})...)
		in.Tick(epoch.Add(11 * time.Second))
		from := class
		if class != "timeout" {
			from = "server_error"
		}
		want := []string{
			"gateway → ext:b.shop.svc.cluster.local:8080 http: calls 1, errors 1, " + class + " 1, client 1×10ms",
			"user → gateway http: calls 1, errors 1, " + from + " 1, server 1×10ms, server errors 1",
		}
		if diff := cmp.Diff(want, briefs(live)); diff != "" {
			t.Errorf("%s: %s", flags, diff)
		}
	}
}

// The services' halves may come long after their sidecars': what those counted is taken back.
func TestLateServicesTakeTheirSidecarsPlace(t *testing.T) {
	bodies := each(t, chain("shop/a", "a.shop", "shop/b", "b.shop")...)
	in, live := newIntake()
	now := epoch.Add(time.Second)
	feed(t, in, now, bodies[1], bodies[2])
	now = now.Add(12 * time.Second)
	in.Tick(now)
	if diff := cmp.Diff([]string{"a.shop → b.shop http: calls 1, client 1×94ms, server 1×80ms"}, briefs(live)); diff != "" {
		t.Error(diff)
	}
	feed(t, in, now, bodies[0], bodies[3])
	in.Tick(now.Add(11 * time.Second))
	if diff := cmp.Diff([]string{"shop/a → shop/b http: calls 1, client 1×100ms, server 1×74ms"}, briefs(live)); diff != "" {
		t.Error(diff)
	}
}

// The time between caller and callee is told apart where all halves are there.
func TestTheTimeInProxies(t *testing.T) {
	in, live := newIntake()
	feed(t, in, epoch.Add(time.Second), each(t, chain("a", "a", "b", "b")...)...)
	in.Tick(epoch.Add(12 * time.Second))
	got := map[string]int64{}
	windows, _ := live.Windows(time.Unix(0, 0), epoch.Add(time.Hour), true)
	for _, w := range windows {
		for _, d := range w.Details {
			if d.Key.Dimension == graph.Measured {
				got[fmt.Sprintf("%s → %s %s", d.Edge.Source.ID(), d.Edge.Target.ID(), d.Key.Name)] = d.Detail.Latency.Sum() / 1e6
			}
		}
	}
	want := map[string]int64{
		"a → b proxy_out": 6, "a → b network": 14, "a → b proxy_in": 6,
		// The analysis of the whole trace sees the same: the proxies' time lies between caller and callee.
		"a → b traces": 100, "a → b critical": 100, "a → b critical_edge": 26, "a → b critical_self": 74,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A gateway is a node of that kind; a sidecar is none, and no process of its service.
func TestGatewaysAreNodesOfTheirKind(t *testing.T) {
	in, live := newIntake()
	spans := chain("shop/a", "a.shop", "shop/b", "b.shop")
	for i := range spans {
		spans[i].trace = 2
	}
	spans = append(spans,
		tspan{service: "ingress", trace: 1, id: 1, kind: kindServer, at: 0, ms: 100, attrs: gatewayAttrs},
		tspan{service: "ingress", trace: 1, id: 2, parent: 1, kind: kindClient, at: 2, ms: 94, attrs: gatewayAttrs},
		tspan{service: "shop/b", resource: podB, trace: 1, id: 3, parent: 2, kind: kindServer, at: 10, ms: 80, attrs: serve})
	for range 2 { // the second time it is known whom a proxy stands beside
		for i := range spans {
			spans[i].trace += 2
		}
		feed(t, in, epoch.Add(time.Second), each(t, spans...)...)
		in.Tick(epoch.Add(12 * time.Second))
	}
	from, to := epoch.Add(-time.Minute), epoch.Add(time.Minute)
	windows, _ := live.Windows(from, to, false)
	details, _ := live.Windows(from, to, true)
	m := graph.BuildMap(append(windows, details...), from, to, "", true, nil)
	got := map[string]string{}
	for _, n := range m.Nodes {
		got[n.ID] = fmt.Sprint(n.Node.Kind, n.Instances)
	}
	want := map[string]string{"service:ingress": "gateway [ingress-1]", "shop/a": "service [a-1]", "shop/b": "service [b-1]", "user": "user []"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
