package ingest

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"faultline/graph"
	"faultline/graph/doctor"
	"faultline/internal/sim"
)

// traces repeats a trace n times, each with a trace id of its own.
func traces(n int, spans ...tspan) (all []tspan) {
	for i := range n {
		for _, s := range spans {
			s.trace += byte(i)
			all = append(all, s)
		}
	}
	return all
}

// rewrite changes the resource of each request.
func rewrite(t testing.TB, bodies [][]byte, change func(pcommon.Map)) [][]byte {
	t.Helper()
	out := make([][]byte, len(bodies))
	for i, b := range bodies {
		req := ptraceotlp.NewExportRequest()
		if err := req.UnmarshalProto(b); err != nil {
			t.Fatal(err)
		}
		change(req.Traces().ResourceSpans().At(0).Resource().Attributes())
		var err error
		if out[i], err = req.MarshalProto(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// found writes what is found of each service that has findings: "service score: rule [peer] share of n; …".
func found(r doctor.Report) (lines []string) {
	for _, d := range r.Services {
		if len(d.Findings) == 0 {
			continue
		}
		var list []string
		for _, f := range d.Findings {
			peer := ""
			if f.Peer != (graph.Node{}) {
				peer = " " + f.Peer.ID()
			}
			list = append(list, fmt.Sprintf("%s%s %.2f of %d", f.Rule, peer, f.Share, f.N))
		}
		lines = append(lines, fmt.Sprintf("%s %d: %s", d.Service.ID(), d.Score, strings.Join(list, "; ")))
	}
	slices.Sort(lines)
	return lines
}

// arrived is when the spans of these tests come; waitedFor is when nothing more is waited for.
var arrived, waitedFor = epoch.Add(2 * time.Second), epoch.Add(14 * time.Second)

func examined(t testing.TB, bodies ...[]byte) doctor.Report {
	t.Helper()
	in, _ := newIntake()
	feed(t, in, arrived, bodies...)
	in.Tick(waitedFor)
	return doctor.Examine(in.Evidence(waitedFor), waitedFor)
}

var (
	entered = tspan{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 200, attrs: serve}
	calling = tspan{service: "a", trace: 1, id: 2, parent: 1, kind: kindClient, at: 10, ms: 100, attrs: get}
	serving = tspan{service: "b", trace: 1, id: 3, parent: 2, kind: kindServer, at: 20, ms: 80, attrs: serve}
)

// but returns a span with something changed.
func but(s tspan, change func(*tspan)) tspan {
	change(&s)
	return s
}

// instrumentations are services that are instrumented in some way, and what is found.
var instrumentations = []struct {
	name   string
	spans  []tspan
	change func(pcommon.Map) // of every resource
	want   []string
}{
	{"healthy", traces(40, entered, calling, serving), nil, nil},
	{
		"kept by how they ended, as the sampler says", traces(40, entered, calling, but(serving, func(s *tspan) {
			s.scopeAttrs = map[string]any{"tailsampling.policy": "errors"}
		})), nil,
		[]string{"b 80: biased_sampling 1.00 of 40"},
	},
	{"healthy, sampled", traces(40, but(entered, sampled), but(calling, sampled), but(serving, sampled)), nil, nil},
	{
		"an INTERNAL span as the caller's", traces(40, entered, but(calling, func(s *tspan) { s.kind = kindInternal }), serving), nil,
		[]string{"a 85: wrong_kind b 0.50 of 80"},
	},
	{
		"no span as the caller's", traces(40, entered, but(serving, func(s *tspan) { s.parent = 1 })), nil,
		[]string{"a 85: wrong_kind b 0.50 of 80"},
	},
	{
		"an INTERNAL span as the callee's", traces(40, entered, calling, but(serving, func(s *tspan) { s.kind, s.attrs = kindInternal, nil })), nil,
		[]string{"b 70: wrong_kind a 1.00 of 40"},
	},
	{
		"an INTERNAL span for the database inside the process", traces(40, entered, calling, serving, tspan{
			service: "b", trace: 1, id: 4, parent: 3, kind: kindInternal, at: 30, ms: 1, attrs: map[string]any{"db.system.name": "h2database", "db.namespace": "x"},
		}), nil, nil,
	},
	{
		"context lost on the way", append(traces(40, entered, calling), traces(40, but(serving, func(s *tspan) { s.trace, s.parent = 101, 0 }))...), nil,
		[]string{"b 60: broken_propagation a 1.00 of 40"},
	},
	{
		"context lost inside", append(traces(40, entered), traces(40, but(calling, func(s *tspan) { s.trace, s.parent = 101, 0 }), but(serving, func(s *tspan) { s.trace = 101 }))...), nil,
		[]string{"a 90: broken_propagation 1.00 of 40"},
	},
	{
		"half of the callee's instances send nothing", append(traces(40, entered, calling, serving), traces(40, but(entered, delayed), but(calling, delayed))...), nil,
		[]string{"b 85: unsampled_peer a 0.50 of 80"},
	},
	{
		"calls that fail reach nobody", append(traces(40, entered, calling, serving), traces(40, but(entered, delayed), but(calling, func(s *tspan) {
			delayed(s)
			s.attrs = map[string]any{"http.request.method": "GET", "server.address": "b", "server.port": 8080, "error.type": "ECONNREFUSED"}
			s.failed = true
		}))...), nil, nil,
	},
	{
		"a parent that never comes in a trace that is here", traces(40, entered, but(serving, func(s *tspan) { s.parent = 99 })), nil,
		[]string{"b 70: split_traces a 1.00 of 40"},
	},
	{
		"both halves with one id", traces(40, but(calling, func(s *tspan) { s.id, s.parent = 2, 0 }), but(serving, func(s *tspan) { s.id, s.parent = 2, 0 })), nil, nil,
	},
	{
		"a second root", traces(40, entered, calling, serving, tspan{service: "c", trace: 1, id: 9, kind: kindServer, at: 50, ms: 10, attrs: serve}), nil,
		[]string{"c 85: split_traces a 0.50 of 80"},
	},
	{
		"a caller that sends nothing", append(traces(40, entered, calling, serving), traces(40, but(serving, func(s *tspan) { s.trace = 101 }))...), nil,
		[]string{"b 85: untraced_callers 0.50 of 80"},
	},
	{
		"no name of the peer", traces(40, entered, but(calling, func(s *tspan) {
			s.attrs = map[string]any{"http.request.method": "GET", "http.response.status_code": 200}
		})), nil,
		[]string{"a 80: missing_peer_name 1.00 of 40"},
	},
	{
		"no name of the peer, which answers", traces(40, entered, but(calling, func(s *tspan) { s.attrs = map[string]any{"http.request.method": "GET"} }), serving), nil, nil,
	},
	{
		"a clock that is ahead", traces(40, entered, but(calling, func(s *tspan) { s.at = 0 }), but(serving, func(s *tspan) { s.at = 530 })), nil,
		[]string{"b 90: clock_skew a 1.00 of 40"},
	},
	{
		"a clock that is slightly behind", traces(40, entered, calling, but(serving, func(s *tspan) { s.at = 6 })), nil, nil,
	},
	{
		"a callee that goes on after its caller gave up", traces(40, entered, calling, but(serving, func(s *tspan) { s.ms = 1900 })), nil, nil,
	},
	{
		"no name", traces(40, entered), func(m pcommon.Map) { m.Remove("service.name") },
		[]string{"unknown_service 60: missing_service_name 1.00 of 40"},
	},
	{
		"a default name", traces(40, entered), func(m pcommon.Map) { m.PutStr("service.name", "unknown_service:node") },
		[]string{"unknown_service:node 60: missing_service_name 1.00 of 40"},
	},
	{
		"the name of a deployment", traces(40, entered), func(m pcommon.Map) {
			m.Remove("service.name")
			m.PutStr("k8s.deployment.name", "a-deployment")
		},
		[]string{"a-deployment 90: missing_service_name 1.00 of 40"},
	},
	{
		"no instance", traces(40, entered), func(m pcommon.Map) { m.Remove("service.instance.id") },
		[]string{"a 90: missing_instance_id 1.00 of 40"},
	},
	{
		"an instance by its pod", traces(40, entered), func(m pcommon.Map) {
			m.Remove("service.instance.id")
			m.PutStr("k8s.pod.name", "a-1")
		}, nil,
	},
	{
		"old names", traces(40, entered, but(calling, func(s *tspan) { s.attrs = old }), serving), nil,
		[]string{"a 95: old_conventions 0.50 of 80"},
	},
	{
		"old names of databases and of peers", traces(40,
			but(calling, func(s *tspan) { s.parent, s.attrs = 0, map[string]any{"db.system": "redis", "server.address": "r"} }),
			but(calling, func(s *tspan) {
				s.id, s.parent, s.attrs = 8, 2, map[string]any{"rpc.system": "grpc", "net.peer.name": "s"}
			}),
			but(calling, func(s *tspan) {
				s.id, s.parent, s.attrs = 9, 2, map[string]any{"rpc.system": "grpc", "server.address": "s"}
			})), nil,
		[]string{"a 93: old_conventions 0.67 of 120"},
	},
	{
		"both generations of names", traces(40, but(entered, func(s *tspan) { s.attrs = merged(serve, old) })), nil, nil,
	},
	{"too few to judge", traces(19, but(serving, func(s *tspan) { s.attrs = old })), func(m pcommon.Map) { m.Remove("service.instance.id") }, nil},
}

func sampled(s *tspan) { s.state = "ot=th:8" }

func delayed(s *tspan) { s.trace = 101 }

func merged(a, b map[string]any) map[string]any {
	a = maps.Clone(a)
	maps.Copy(a, b)
	return a
}

func TestInstrumentation(t *testing.T) {
	for _, test := range instrumentations {
		t.Run(test.name, func(t *testing.T) {
			bodies := each(t, test.spans...)
			if test.change != nil {
				bodies = rewrite(t, bodies, test.change)
			}
			r := examined(t, bodies...)
			if diff := cmp.Diff(test.want, found(r)); diff != "" {
				t.Error(diff)
			}
			for _, d := range r.Services {
				if enough := d.Spans >= doctor.MinSpans; d.Judged != enough || enough && len(d.Findings) == 0 && d.Score != 100 {
					t.Errorf("%s: judged %v, score %d", d.Service.ID(), d.Judged, d.Score)
				}
			}
			// Neither the order of the spans, nor how they are split over requests, nor what comes twice makes a difference.
			r1 := rand.New(rand.NewPCG(1, 2))
			for range 3 {
				r1.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
				if diff := cmp.Diff(test.want, found(examined(t, bodies...))); diff != "" {
					t.Errorf("in another order: %s", diff)
				}
			}
			if diff := cmp.Diff(test.want, found(examined(t, slices.Concat(bodies...)))); diff != "" {
				t.Errorf("in one request: %s", diff)
			}
		})
	}
}

// TV of A.6: c = [0, 100] ms, s = [530, 610] ms: the clock is 520 ms ahead.
func TestSkewIsTold(t *testing.T) {
	r := examined(t, each(t, traces(40, entered, but(calling, func(s *tspan) { s.at = 0 }), but(serving, func(s *tspan) { s.at = 530 }))...)...)
	got := r.Services[0].Findings[0].Sentence
	if !strings.Contains(got, "its clock is 510 ms ahead of that of `a`") && !strings.Contains(got, "its clock is 520 ms ahead of that of `a`") { // to 5 %
		t.Error(got)
	}
	r = examined(t, each(t, traces(40, but(entered, func(s *tspan) { s.at = 4000 }))...)...)
	if diff := cmp.Diff([]string{"a 90: clock_skew 1.00 of 40"}, found(r)); diff != "" {
		t.Errorf("ahead of this process: %s", diff)
	}
}

// A callee that samples by itself is told from one that is not instrumented.
func TestSamplingOfAPeerIsTold(t *testing.T) {
	quarter := but(serving, func(s *tspan) { s.state = "ot=th:c" })
	r := examined(t, each(t, append(traces(40, entered, calling, quarter), traces(120, but(entered, delayed), but(calling, delayed))...)...)...)
	if diff := cmp.Diff([]string{"b 77: unsampled_peer a 0.75 of 160"}, found(r)); diff != "" {
		t.Error(diff)
	}
	for _, d := range r.Services {
		if d.Service.Name == "b" && (!strings.Contains(d.Findings[0].Sentence, "one span in 4, its caller one in 1") || !strings.Contains(d.Findings[0].Fix, "parentbased_traceidratio")) {
			t.Errorf("%+v", d.Findings[0])
		}
	}
}

// What a late span proves wrong is taken back.
func TestLateSpansMendEvidence(t *testing.T) {
	for _, test := range []struct {
		name        string
		first, late []tspan
		before      []string
	}{
		{"the caller's", []tspan{serving}, []tspan{but(calling, func(s *tspan) { s.parent = 77 })}, []string{"b 70: untraced_callers 1.00 of 40"}},
		{"the callee's", []tspan{entered, calling, but(serving, func(s *tspan) { s.id, s.parent = 50, 1 })}, []tspan{serving}, nil},
		{"of nobody", []tspan{entered, but(calling, func(s *tspan) { s.attrs = nil })}, []tspan{serving}, []string{"a 80: missing_peer_name 1.00 of 40"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			in, _ := newIntake()
			feed(t, in, arrived, each(t, traces(40, test.first...)...)...)
			in.Tick(waitedFor)
			before := doctor.Sum(in.Evidence(waitedFor), waitedFor)
			if test.before != nil {
				if diff := cmp.Diff(test.before, found(doctor.Examine(in.Evidence(waitedFor), waitedFor))); diff != "" {
					t.Errorf("before: %s", diff)
				}
			}
			feed(t, in, waitedFor, each(t, traces(40, test.late...)...)...)
			in.Tick(waitedFor.Add(12 * time.Second))
			after := doctor.Sum(in.Evidence(waitedFor), waitedFor)
			var odd int64
			for _, e := range before {
				odd += e.Counts[doctor.UnseenParents] + e.Counts[doctor.Unanswered] + e.Counts[doctor.Nobody]
			}
			if odd != 40 {
				t.Errorf("before: %d odd halves, want 40", odd)
			}
			for _, e := range after {
				for _, c := range []doctor.Counter{doctor.UnseenParents, doctor.Unanswered, doctor.Nobody} {
					if n := e.Counts[c]; n != 0 {
						t.Errorf("after: %s of %s: %d", c, e.Service.ID(), n)
					}
				}
			}
		})
	}
}

// Evidence survives a restart, with its age: it goes when it is an hour old, and not before.
func TestEvidenceSurvivesARestart(t *testing.T) {
	in, _ := newIntake()
	bodies := rewrite(t, each(t, traces(40, entered, but(calling, func(s *tspan) { s.kind = kindInternal }), serving)...), func(m pcommon.Map) {
		m.PutStr("telemetry.sdk.language", "python")
		m.PutStr("telemetry.sdk.version", "1.40.0")
	})
	feed(t, in, arrived, bodies...)
	in.Tick(waitedFor)
	want := doctor.Examine(in.Evidence(waitedFor), waitedFor)
	if want.Services[0].Language != "python" || want.Services[0].SDK != "1.40.0" || want.Services[0].Lateness <= 0 {
		t.Errorf("%+v", want.Services[0])
	}
	at := waitedFor
	for range 5 { // again and again, as a process that crashes
		again, _ := newIntake()
		if err := again.Restore(at, in.State(at)); err != nil {
			t.Fatal(err)
		}
		in = again
		got := doctor.Examine(in.Evidence(at), waitedFor)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("at %s: %s", at, diff)
		}
		at = at.Add(11 * time.Minute)
		in.Tick(at)
	}
	if at = epoch.Add(doctor.Window + doctor.SlotLength); len(in.Evidence(at)) != 0 {
		t.Error("evidence of more than an hour ago")
	}
	in.Tick(at)
	if got := len(in.pairer.dir.slots.restored); got != 0 {
		t.Errorf("%d slots are kept for nothing", got)
	}
	if err := in.Restore(at, map[string][]byte{evidenceKey: []byte("no")}); err == nil {
		t.Error("restored what cannot be read")
	}
}

// In an hour of traffic, slots open and close, and only the last hour's are left.
func TestEvidenceIsOfTheLastHour(t *testing.T) {
	in, _ := newIntake()
	send := func(now time.Time, n int) {
		in.Tick(now)
		for i := range n {
			b := each(t, but(entered, func(s *tspan) { s.at, s.trace = int(now.Sub(epoch)/time.Millisecond), byte(i) }))[0]
			feed(t, in, now, b)
		}
		in.Tick(now.Add(12 * time.Second))
	}
	for m := 0; m < 180; m += 5 {
		send(epoch.Add(time.Duration(m)*time.Minute), m/5+1)
	}
	now := epoch.Add(179 * time.Minute)
	slots := in.Evidence(now)
	sum := doctor.Sum(slots, now)
	want := int64(0)
	for k := 25; k <= 36; k++ {
		want += int64(k)
	}
	if got := sum[0].Counts[doctor.Spans]; got != want || len(slots) != doctor.Slots {
		t.Errorf("%d spans in %d slots, want %d in %d", got, len(slots), want, doctor.Slots)
	}
	if got := len(in.pairer.dir.all()[0].evidence.closed); got > doctor.Slots {
		t.Errorf("%d closed slots", got)
	}
}

// Nothing is found where nothing is wrong: what the simulator calls healthy scores 100, the demo's shop but for the
// services that are old by design.
func TestHealthyTrafficScoresFull(t *testing.T) {
	old := map[string]bool{"shop/catalog": true, "shop/recommendation": true, "fraud": true, "shop/shipping": true, "shop/notification": true}
	for _, cfg := range []sim.Config{{Seed: 3, Topology: sim.Scenarios()[0].Topology}, {Seed: 4}} {
		in, _ := newIntake()
		now := epoch
		g, err := sim.NewGenerator(cfg, now)
		if err != nil {
			t.Fatal(err)
		}
		for range 90 {
			now = now.Add(time.Second)
			for _, b := range g.Advance(now) {
				feed(t, in, b.At, b.Body)
			}
			in.Tick(now)
		}
		r := doctor.Examine(in.Evidence(now), now)
		if len(r.Services) < 4 || r.Untraced != 0 {
			t.Errorf("%d services, %d untraced calls", len(r.Services), r.Untraced)
		}
		for _, d := range r.Services {
			var rules, want []string
			for _, f := range d.Findings {
				rules = append(rules, f.Rule)
			}
			if old[d.Service.ID()] {
				want = []string{"old_conventions"}
			}
			if !slices.Equal(rules, want) || !d.Judged {
				t.Errorf("%s: %q, want %q", d.Service.ID(), rules, want)
			}
		}
	}
}

// Peers are told apart up to a limit; what is beyond it is counted all the same.
func TestLinksAreBounded(t *testing.T) {
	in, _ := newIntake()
	var bodies [][]byte
	for i := range 3 * maxLinks {
		bodies = append(bodies, rewrite(t, each(t, but(serving, func(s *tspan) { s.parent, s.trace = 1, byte(i) })), func(m pcommon.Map) {
			m.PutStr("service.name", fmt.Sprint("b", i))
		})...)
		bodies = append(bodies, each(t, but(entered, func(s *tspan) { s.trace = byte(i) }))...)
	}
	feed(t, in, arrived, bodies...)
	in.Tick(waitedFor)
	for _, e := range doctor.Sum(in.Evidence(waitedFor), waitedFor) {
		if e.Service.Name == "a" && (len(e.Links) != maxLinks || e.Counts[doctor.BareCalls] != 3*maxLinks) {
			t.Errorf("%d links, %d calls", len(e.Links), e.Counts[doctor.BareCalls])
		}
	}
}

// One trace id for everything neither stops the shard nor hides that it is one.
func TestATraceIDThatNeverChanges(t *testing.T) {
	in, _ := newIntake()
	body := each(t, entered)[0]
	id := []byte{0x12, 0x08, 0, 0, 0, 0, 0, 0, 0, 1} // field 2 of a span, of eight bytes
	at := strings.Index(string(body), string(id))
	if at < 0 {
		t.Fatal("the span's id is not where it was")
	}
	for i := range 5000 {
		b := slices.Clone(body)
		binary.BigEndian.PutUint64(b[at+2:], uint64(i+1))
		feed(t, in, arrived, b)
	}
	in.Tick(waitedFor)
	r := doctor.Examine(in.Evidence(waitedFor), waitedFor)
	if got := found(r); len(got) != 1 || !strings.Contains(got[0], "split_traces") {
		t.Error(got)
	}
}

// The rules file may say what spans do not: that they were kept by how their traces ended.
func TestBiasedSamplingBySaying(t *testing.T) {
	in, live := newIntake()
	in.Apply(arrived, ruled(t, "{sampling: [{service: b, biased: true}, {service: a, rate: 2}]}"))
	feed(t, in, arrived, each(t, traces(40, entered, calling, serving)...)...)
	in.Tick(waitedFor)
	if diff := cmp.Diff([]string{"b 80: biased_sampling 1.00 of 40"}, found(doctor.Examine(in.Evidence(waitedFor), waitedFor))); diff != "" {
		t.Error(diff)
	}
	if s := sums(live)["user → a http"]; s == nil || s.Calls != 80 {
		t.Errorf("calls of a service with a rate: %+v", s)
	}
	if s := sums(live)["a → b http"]; s == nil || s.ServerCalls != 40 {
		t.Errorf("calls served without one: %+v", s)
	}
}
