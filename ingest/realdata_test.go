package ingest

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"faultline/graph"
)

// TestRealTraces replays recorded traces of real systems in time order and compares every edge's calls and errors with a
// direct count over all spans, and its latencies with their exact quantiles. FAULTLINE_REALDATA names the folder.
func TestRealTraces(t *testing.T) {
	dir := os.Getenv("FAULTLINE_REALDATA")
	if dir == "" {
		t.Skip("FAULTLINE_REALDATA names no folder of recorded traces")
	}
	// deeptralog-dev is left out: its clients wait for hours, beyond what may enter a figure.
	for _, stream := range []string{"tt30-dev", "tt30-dev-quiet", "tt29-dev", "shapley-dev"} {
		t.Run(stream, func(t *testing.T) {
			path := filepath.Join(dir, stream+".otlp.zst")
			if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
				t.Skipf("%s is not there", path)
			}
			bodies := readStream(t, path)
			want := directCount(t, bodies)
			got := replay(t, bodies)
			for _, k := range slices.Sorted(maps.Keys(want)) {
				w, g := want[k], got[k]
				if g == nil {
					t.Errorf("%s is missing: want %d calls", k, w.calls)
					continue
				}
				if g.Calls != w.calls || g.Errors != w.errors || g.Client.Count() != int64(len(w.client)) || g.Server.Count() != int64(len(w.server)) {
					t.Errorf("%s: %d calls, %d errors, %d client, %d server; want %d, %d, %d, %d", k, g.Calls, g.Errors,
						g.Client.Count(), g.Server.Count(), w.calls, w.errors, len(w.client), len(w.server))
				}
				for _, q := range []float64{.5, .95, .99} {
					if exact := quantile(w.client, q); len(w.client) > 0 && math.Abs(g.Client.Quantile(q)-exact) > .022*exact {
						t.Errorf("%s: caller's p%g is %g, exactly %g", k, 100*q, g.Client.Quantile(q), exact)
					}
					if exact := quantile(w.server, q); len(w.server) > 0 && math.Abs(g.Server.Quantile(q)-exact) > .022*exact {
						t.Errorf("%s: callee's p%g is %g, exactly %g", k, 100*q, g.Server.Quantile(q), exact)
					}
				}
			}
			for _, k := range slices.Sorted(maps.Keys(got)) {
				if want[k] == nil {
					t.Errorf("%s is a phantom: %s", k, brief(got[k]))
				}
			}
			t.Logf("%d edges agree", len(want))
		})
	}
}

func readStream(t *testing.T, path string) [][]byte {
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	r := bufio.NewReaderSize(z, 1<<20)
	var out [][]byte
	for {
		n, err := binary.ReadUvarint(r)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
}

// directEdge is what a count over all spans at hand gives for one edge.
type directEdge struct {
	calls, errors  int64
	client, server []int64
}

// directCount knows all spans at once and takes no short cut: an edge for each client span, to the service of its server
// span, else to its database, queue or host; and for each server span, from its caller, else from outside.
func directCount(t *testing.T, bodies [][]byte) map[string]*directEdge {
	type span struct {
		service string
		ptrace.Span
	}
	type spanKey struct {
		trace [16]byte
		id    [8]byte
	}
	all := map[spanKey]span{}
	children := map[spanKey][]span{}
	services := map[string]string{}
	for _, b := range bodies {
		req := ptraceotlp.NewExportRequest()
		if err := req.UnmarshalProto(b); err != nil {
			t.Fatal(err)
		}
		for _, rs := range req.Traces().ResourceSpans().All() {
			name, _ := rs.Resource().Attributes().Get("service.name")
			namespace, _ := rs.Resource().Attributes().Get("service.namespace")
			service := namespace.Str() + "/" + name.Str()
			services[name.Str()] = service
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					all[spanKey{s.TraceID(), s.SpanID()}] = span{service, s}
					if s.Kind() == ptrace.SpanKindServer || s.Kind() == ptrace.SpanKindConsumer {
						k := spanKey{s.TraceID(), s.ParentSpanID()}
						children[k] = append(children[k], span{service, s})
					}
				}
			}
		}
	}
	out := map[string]*directEdge{}
	edge := func(source, target string) *directEdge {
		k := source + " → " + target
		if out[k] == nil {
			out[k] = &directEdge{}
		}
		return out[k]
	}
	attribute := func(s ptrace.Span, name string) string {
		v, ok := s.Attributes().Get(name)
		if !ok {
			return ""
		}
		return v.AsString()
	}
	queueOf := func(s ptrace.Span) string {
		return "queue:" + graph.QueueName(attribute(s, "messaging.system"), attribute(s, "messaging.destination.name"))
	}
	for k, s := range all {
		ns := int64(s.EndTimestamp() - s.StartTimestamp())
		failed := s.Status().Code() == ptrace.StatusCodeError
		if status := attribute(s.Span, "http.response.status_code"); status != "" && status < "500" {
			failed = false
		}
		count := func(e *directEdge) {
			e.calls++
			if failed {
				e.errors++
			}
		}
		switch s.Kind() {
		case ptrace.SpanKindProducer:
			e := edge(s.service, queueOf(s.Span))
			count(e)
			e.client = append(e.client, ns)
		case ptrace.SpanKindConsumer:
			e := edge(queueOf(s.Span), s.service)
			count(e)
			e.server = append(e.server, ns)
		case ptrace.SpanKindClient:
			var target string
			callees := children[k]
			switch host := attribute(s.Span, "server.address"); {
			case len(callees) > 0:
				target = callees[0].service
			case attribute(s.Span, "db.system") != "":
				target = "db:" + graph.DatabaseName(attribute(s.Span, "db.system"), attribute(s.Span, "db.name"), host)
			case services[host] != "":
				target = services[host]
			case host != "":
				target = "ext:" + host
			default:
				target = "unknown"
			}
			e := edge(s.service, target)
			count(e)
			e.client = append(e.client, ns)
		case ptrace.SpanKindServer:
			parent, ok := all[spanKey{s.TraceID(), s.ParentSpanID()}]
			switch {
			case s.ParentSpanID().IsEmpty():
				e := edge("user", s.service)
				count(e)
				e.server = append(e.server, ns)
			case !ok:
				e := edge("unknown", s.service)
				count(e)
				e.server = append(e.server, ns)
			case parent.Kind() == ptrace.SpanKindClient:
				e := edge(parent.service, s.service)
				e.server = append(e.server, ns)
			}
		}
	}
	return out
}

// replay lets an Intake see the requests when they were sent, and gathers what its windows count.
func replay(t *testing.T, bodies [][]byte) map[string]*graph.EdgeStats {
	in, live := newIntake()
	out := map[string]*graph.EdgeStats{}
	gather := func(parts []graph.Part) {
		for _, p := range parts {
			if p.Open {
				continue
			}
			for i := range p.Edges {
				e := &p.Edges[i]
				k := fmt.Sprintf("%s → %s", e.Edge.Source.ID(), e.Edge.Target.ID())
				if out[k] == nil {
					out[k] = &graph.EdgeStats{}
				}
				out[k].Add(&e.Stats)
			}
		}
		live.Kept(parts)
	}
	var now, tick time.Time
	for _, b := range bodies {
		if end := lastEnd(t, b); end.After(now) {
			now = end
		}
		// Time passes in steps, as it does for a process that is called now and then.
		if tick.IsZero() || now.Sub(tick) > time.Hour {
			tick = now
			in.Tick(now)
			gather(live.Cut(now))
		}
		for ; tick.Before(now); tick = tick.Add(10 * time.Second) {
			in.Tick(tick)
			gather(live.Cut(tick))
		}
		if _, err := in.Consume(now, b); err != nil {
			t.Fatal(err)
		}
	}
	in.Tick(now.Add(time.Minute))
	gather(live.Cut(now.Add(time.Hour)))
	for k, s := range out {
		if s.Zero() {
			delete(out, k)
		}
	}
	if d, c := dropped(in), in.Counters(); len(d) > 0 || c.Received != c.Accepted {
		t.Errorf("dropped %v, refused %v", d, c.Refused)
	}
	return out
}

func lastEnd(t *testing.T, body []byte) time.Time {
	req := ptraceotlp.NewExportRequest()
	if err := req.UnmarshalProto(body); err != nil {
		t.Fatal(err)
	}
	var end time.Time
	for _, rs := range req.Traces().ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				if e := s.EndTimestamp().AsTime(); e.After(end) {
					end = e
				}
			}
		}
	}
	return end
}

// quantile returns the exact q-quantile: the value of rank ⌈q·n⌉.
func quantile(values []int64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.SortFunc(values, cmp.Compare[int64])
	return float64(values[max(int(math.Ceil(q*float64(len(values))))-1, 0)])
}
