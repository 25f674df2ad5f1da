package sim

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

func TestAppendRequest(t *testing.T) {
	end := time.Unix(1_700_000_000, 5)
	body := AppendRequest(nil, []Half{
		{Env: "e", Service: "a", Peer: "b", Route: "/x", Trace: 7, ID: 1, End: end, Duration: time.Second},
		{Env: "e", Service: "a", Route: "/y", Trace: 8, ID: 2, End: end},
		{Env: "e", Service: "b", Server: true, Route: "/x", Trace: 7, ID: 3, Parent: 1, End: end},
	})
	req := ptraceotlp.NewExportRequest()
	if err := req.UnmarshalProto(body); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, rs := range req.Traces().ResourceSpans().All() {
		service, _ := rs.Resource().Attributes().Get("service.name")
		env, _ := rs.Resource().Attributes().Get("deployment.environment.name")
		for _, s := range rs.ScopeSpans().At(0).Spans().All() {
			trace, id, parent := s.TraceID(), s.SpanID(), s.ParentSpanID()
			route, _ := s.Attributes().Get("http.route")
			peer, ok := s.Attributes().Get("server.address")
			if !ok {
				peer = pcommon.NewValueEmpty()
			}
			got = append(got, fmt.Sprint(env.AsString(), "/", service.AsString(), " ", s.Kind(), " ", binary.BigEndian.Uint64(trace[8:]),
				" ", binary.BigEndian.Uint64(parent[:]), ">", binary.BigEndian.Uint64(id[:]), " ", route.AsString(), " ", peer.AsString(),
				" ", s.EndTimestamp().AsTime().Sub(s.StartTimestamp().AsTime())))
			if !s.EndTimestamp().AsTime().Equal(end) {
				t.Errorf("ends %v", s.EndTimestamp())
			}
		}
	}
	want := []string{
		fmt.Sprint("e/a ", ptrace.SpanKindClient, " 7 0>1 /x b 1s"),
		fmt.Sprint("e/a ", ptrace.SpanKindClient, " 8 0>2 /y  0s"),
		fmt.Sprint("e/b ", ptrace.SpanKindServer, " 7 1>3 /x  0s"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want(-) got(+):\n%s", diff)
	}
}
