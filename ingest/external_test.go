package ingest

import (
	"fmt"
	"testing"
	"time"

	"faultline/graph"
)

func TestExternalNames(t *testing.T) {
	for _, c := range []struct{ host, port, want string }{
		{"API.Stripe.com", "443", "api.stripe.com"},
		{"api.stripe.com", "80", "api.stripe.com"},
		{"api.example.com", "8443", "api.example.com:8443"},
		{"192.0.2.7", "8080", "192.0.2.7:8080"},
		{"2001:db8::7", "", "2001:db8::7"},
		{"550e8400-e29b-41d4-a716-446655440000.tenant.example.com", "", "*.tenant.example.com"},
		{"app.3f2a9c0d.tenant.example.com", "", "*.tenant.example.com"},
		{"12345.example.com", "", "*.example.com"},
		{"10-1-2-3.default.pod.cluster.local", "", "*.default.pod.cluster.local"},
		{"ip-10-0-1-23.ec2.internal", "", "*.ec2.internal"},
		{"cafe.example.com", "", "cafe.example.com"},
		{"v2.example.com", "", "v2.example.com"},
		{"pictures.s3.eu-west-1.amazonaws.com", "443", "s3.eu-west-1"},
		{"pictures.s3.dualstack.eu-west-1.amazonaws.com", "", "s3.eu-west-1"},
		{"pictures.s3-eu-west-1.amazonaws.com", "", "s3.eu-west-1"},
		{"my.pictures.s3.amazonaws.com", "", "s3"},
		{"s3.eu-west-1.amazonaws.com", "", "s3.eu-west-1"},
		{"pictures.s3.cn-north-1.amazonaws.com.cn", "", "s3.cn-north-1"},
		{"sqs.eu-west-1.amazonaws.com", "", "sqs.eu-west-1.amazonaws.com"},
		{"pictures.storage.googleapis.com", "", "storage.googleapis.com"},
		{"storage.googleapis.com", "", "storage.googleapis.com"},
	} {
		if got := external(c.host, c.port); got != c.want {
			t.Errorf("external(%q, %q) = %q, want %q", c.host, c.port, got, c.want)
		}
	}
}

func TestRegistrableDomains(t *testing.T) {
	for name, want := range map[string]string{
		"a.b.example.com": "example.com", "x.example.co.uk:8443": "example.co.uk", "*.tenant.example.com": "example.com",
		"me.github.io": "me.github.io", "10.0.0.7:80": graph.Other, "[2001:db8::7]:80": graph.Other, "b": graph.Other, "b.cluster": graph.Other,
		"aws/eu-west-1/resize": graph.Other,
	} {
		if got := registrable(name); got != want {
			t.Errorf("registrable(%q) = %q, want %q", name, got, want)
		}
	}
}

// Beyond 300 external nodes hosts are folded to their domains, and beyond 100 of those to one node; each environment has
// its own room, which comes back when hosts are no longer called.
func TestExternalNodesAreBounded(t *testing.T) {
	in, live := newIntake()
	call := func(env, host string, n int) tspan {
		return tspan{service: "a", env: env, trace: byte(n >> 7), id: byte(n&127 + 1), parent: 250, kind: kindClient, ms: 1, attrs: tag{"http.request.method": "GET", "server.address": host}}
	}
	now := epoch.Add(time.Second)
	for i := range 300 {
		feed(t, in, now, each(t, call("", fmt.Sprintf("host-x%d.example%d.com", i, i), 256+i))...)
	}
	in.Tick(now.Add(11 * time.Second)) // they are there first
	for i := range 150 {
		feed(t, in, now, each(t, call("", fmt.Sprintf("one.more%d.org", i), 2048+i), call("", fmt.Sprintf("two.more%d.org", i), 4096+i))...)
	}
	feed(t, in, now, each(t, call("", "192.0.2.7", 8192), call("prod", "one.more.org", 8193))...)
	in.Tick(now.Add(22 * time.Second))
	got := sums(live)
	count := func(want map[string]int64) {
		t.Helper()
		for k, n := range want {
			if got[k] == nil || got[k].Calls != n {
				t.Errorf("%s: %+v, want %d calls", k, got[k], n)
			}
		}
	}
	if len(got) != 300+100+1+1 {
		t.Errorf("%d edges, want 300 hosts, 100 domains, (other), and one in prod", len(got))
	}
	count(map[string]int64{"a → ext:(other) http": 2*50 + 1, "a → ext:host-x7.example7.com http": 1, "prod: a → ext:one.more.org http": 1})
	if n := in.Counters().Dropped["external_limit"]; n != 301 {
		t.Errorf("external_limit = %d, want 301", n)
	}
	end := now.Add(2 * time.Hour)
	pass(in, live, now.Add(time.Minute), end, time.Minute)
	feed(t, in, end, each(t, moved(end.Sub(epoch)-time.Second, call("", "late.example.net", 1))...)...)
	in.Tick(end.Add(11 * time.Second))
	got = sums(live)
	count(map[string]int64{"a → ext:late.example.net http": 1})
}
