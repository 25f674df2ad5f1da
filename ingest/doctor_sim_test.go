package ingest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"faultline/graph/doctor"
	"faultline/internal/sim"
)

// A system that is instrumented well but for one thing: the doctor finds it by its name, at the service that has it or at
// its neighbour which suffers from it, and nothing else.
func TestWhatIsInstrumentedWronglyIsNamed(t *testing.T) {
	spansOf := func(rs ptrace.ResourceSpans, change func(ptrace.Span)) {
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				change(s)
			}
		}
	}
	for _, c := range []struct {
		name string
		// spoil changes what a service sends; false drops it.
		spoil func(service string, rs ptrace.ResourceSpans) bool
		want  []string
	}{
		{"well", func(string, ptrace.ResourceSpans) bool { return true }, nil},
		{"a service without a name", func(service string, rs ptrace.ResourceSpans) bool {
			if service == "store" {
				rs.Resource().Attributes().Remove("service.name")
			}
			return true
		}, []string{"unknown_service: missing_service_name"}},
		{"instances that cannot be told apart", func(service string, rs ptrace.ResourceSpans) bool {
			if service == "store" {
				for _, k := range []string{"service.instance.id", "k8s.pod.name", "k8s.pod.uid", "host.name", "host.id", "container.id"} {
					rs.Resource().Attributes().Remove(k)
				}
			}
			return true
		}, []string{"store: missing_instance_id"}},
		{"calls as internal spans", func(service string, rs ptrace.ResourceSpans) bool {
			if service == "api" {
				spansOf(rs, func(s ptrace.Span) {
					if s.Kind() == ptrace.SpanKindClient {
						s.SetKind(ptrace.SpanKindInternal)
					}
				})
			}
			return true
		}, []string{"api: wrong_kind"}},
		{"context that does not arrive", func(service string, rs ptrace.ResourceSpans) bool {
			if service == "store" {
				spansOf(rs, func(s ptrace.Span) {
					id := s.TraceID()
					id[0] ^= 0xff
					s.SetTraceID(id)
					if s.Kind() == ptrace.SpanKindServer {
						s.SetParentSpanID([8]byte{})
					}
				})
			}
			return true
		}, []string{"store: broken_propagation"}},
		{"a callee that keeps few traces", func(service string, rs ptrace.ResourceSpans) bool {
			if service != "store" {
				return true
			}
			for _, ss := range rs.ScopeSpans().All() {
				ss.Spans().RemoveIf(func(s ptrace.Span) bool { return s.TraceID()[15]%4 != 0 })
			}
			return true
		}, []string{"store: unsampled_peer"}},
		{"spans that are lost between others", func(service string, rs ptrace.ResourceSpans) bool {
			if service == "api" {
				for _, ss := range rs.ScopeSpans().All() {
					ss.Spans().RemoveIf(func(s ptrace.Span) bool { return s.Kind() == ptrace.SpanKindClient })
				}
			}
			return true
		}, []string{"store: split_traces"}},
		{"a clock that is fast", func(service string, rs ptrace.ResourceSpans) bool {
			if service == "store" {
				spansOf(rs, func(s ptrace.Span) {
					const ahead = pcommon.Timestamp(700 * time.Millisecond)
					s.SetStartTimestamp(s.StartTimestamp() + ahead)
					s.SetEndTimestamp(s.EndTimestamp() + ahead)
				})
			}
			return true
		}, []string{"store: clock_skew"}},
		{"old names of attributes", func(service string, rs ptrace.ResourceSpans) bool {
			if service == "store" {
				spansOf(rs, func(s ptrace.Span) {
					for now, before := range map[string]string{
						"http.request.method": "http.method", "http.response.status_code": "http.status_code", "url.full": "http.url",
						"db.system.name": "db.system", "server.address": "net.peer.name", "server.port": "net.peer.port", "network.peer.address": "net.sock.peer.addr",
					} {
						if v, ok := s.Attributes().Get(now); ok {
							v.CopyTo(s.Attributes().PutEmpty(before))
							s.Attributes().Remove(now)
						}
					}
				})
			}
			return true
		}, []string{"store: old_conventions"}},
		{"calls that do not say to whom", func(service string, rs ptrace.ResourceSpans) bool {
			if service == "api" {
				spansOf(rs, func(s ptrace.Span) {
					if s.Kind() == ptrace.SpanKindClient {
						s.Attributes().RemoveIf(func(k string, _ pcommon.Value) bool {
							return strings.HasPrefix(k, "server.") || strings.HasPrefix(k, "url.") || strings.HasPrefix(k, "network.peer.") || strings.HasPrefix(k, "peer.")
						})
					}
				})
			}
			return service != "store"
		}, []string{"api: missing_peer_name"}},
		{"traces that were kept for how they ended", func(service string, rs ptrace.ResourceSpans) bool {
			if service == "store" {
				for _, ss := range rs.ScopeSpans().All() {
					ss.Scope().Attributes().PutStr("tailsampling.policy", "errors")
				}
			}
			return true
		}, []string{"store: biased_sampling"}},
		{"a caller that sends nothing", func(service string, _ ptrace.ResourceSpans) bool { return service != "web" }, []string{"api: untraced_callers"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			now := epoch
			g, err := sim.NewGenerator(sim.Config{Seed: 3, Topology: sim.Scenarios()[0].Topology}, now)
			if err != nil {
				t.Fatal(err)
			}
			in, _ := newIntake()
			for range 90 {
				now = now.Add(time.Second)
				for _, b := range g.Advance(now) {
					req := ptraceotlp.NewExportRequest()
					if err := req.UnmarshalProto(b.Body); err != nil {
						t.Fatal(err)
					}
					req.Traces().ResourceSpans().RemoveIf(func(rs ptrace.ResourceSpans) bool {
						service, _ := rs.Resource().Attributes().Get("service.name")
						return !c.spoil(service.Str(), rs)
					})
					body, err := req.MarshalProto()
					if err != nil {
						t.Fatal(err)
					}
					feed(t, in, b.At, body)
				}
				in.Tick(now)
			}
			var got []string
			for _, d := range doctor.Examine(in.Evidence(now), now).Services {
				name, _, _ := strings.Cut(d.Service.ID(), ":")
				for _, f := range d.Findings {
					got = append(got, name+": "+f.Rule)
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
