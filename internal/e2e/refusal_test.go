//go:build e2e

package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcgzip "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	protobuf = "application/x-protobuf"
	jsonType = "application/json"
)

// TestRefusals sends what is wrong, in every way that is known to hurt others, between good calls: each is answered
// with the right code, none is fatal or grows the process, and the good edge counts what is good, exactly.
func TestRefusals(t *testing.T) {
	c := newCollector(t)
	var number uint64 // of good calls so far
	good := func(n int) ptrace.Traces {
		traces := calls("caller", "callee", number, n)
		number += uint64(n)
		return traces
	}
	marshal := func(traces ptrace.Traces) []byte {
		body, err := ptraceotlp.NewExportRequestFromTraces(traces).MarshalProto()
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	marshalJSON := func(traces ptrace.Traces) []byte {
		body, err := ptraceotlp.NewExportRequestFromTraces(traces).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		return body
	}

	// What is damaged below is never counted: its calls are between other services.
	whole := marshal(calls("x", "y", 1<<40, 100))
	garbage := make([]byte, 4096)
	for i, rnd := 0, rand.New(rand.NewPCG(1, 2)); i < len(garbage); i++ {
		garbage[i] = byte(rnd.Uint32())
	}
	gigabyte := bomb(t, 1<<30)
	wholeJSON := string(marshalJSON(calls("x", "y", 1<<41, 1)))

	t.Run("http", func(t *testing.T) {
		tests := []struct {
			name                        string
			method, contentType, coding string
			body                        []byte
			want                        []int
		}{
			{"protobuf", "POST", protobuf, "", marshal(good(10)), []int{200}},
			{"json", "POST", jsonType, "", marshalJSON(good(10)), []int{200}},
			{"json with a charset", "POST", jsonType + "; charset=utf-8", "", marshalJSON(good(10)), []int{200}},
			{"gzip", "POST", protobuf, "gzip", zip(t, marshal(good(10))), []int{200}},
			{"empty", "POST", protobuf, "", nil, []int{200}},
			{"unknown field", "POST", protobuf, "", protowire.AppendString(protowire.AppendTag(marshal(good(10)), 999, protowire.BytesType), "new"), []int{200}},

			{"garbage", "POST", protobuf, "", garbage, []int{400}},
			{"truncated", "POST", protobuf, "", whole[:len(whole)-7], []int{400}},
			{"wrong wire type", "POST", protobuf, "", protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7), []int{400}},
			{"protobuf called JSON", "POST", jsonType, "", whole, []int{400}},
			{"JSON called protobuf", "POST", protobuf, "", []byte(wholeJSON), []int{400}},
			{"JSON with a time beyond numbers", "POST", jsonType, "", []byte(withTime(wholeJSON, "1e400")), []int{400}},
			{"JSON with a negative time", "POST", jsonType, "", []byte(withTime(wholeJSON, "-5")), []int{400}},
			{"truncated gzip", "POST", protobuf, "gzip", zip(t, whole)[:50], []int{400}},
			{"not gzip at all", "POST", protobuf, "gzip", whole, []int{400}},
			{"unknown encoding", "POST", protobuf, "lzma", whole, []int{400, 415}},

			{"text", "POST", "text/plain", "", whole, []int{415}},
			{"no type", "POST", "", "", whole, []int{415}},
			{"GET", "GET", "", "", nil, []int{405}},
			{"PUT", "PUT", protobuf, "", whole, []int{405}},

			{"70 MiB", "POST", protobuf, "", make([]byte, 70<<20), []int{413}},
			{"gzip bomb of 1 GiB", "POST", protobuf, "gzip", gigabyte, []int{413}},
			{"gzip bomb of JSON", "POST", jsonType, "gzip", gigabyte, []int{413}},
			{"19 MiB of empty spans in gzip", "POST", protobuf, "gzip", zip(t, emptySpans(19<<19)), []int{200, 400, 413}},
			{"values nested 2,000,000 deep", "POST", protobuf, "", nested(2_000_000), []int{200, 400, 413}},
			{"JSON nested 10,000 deep", "POST", jsonType, "", []byte(`{"new":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`), []int{200, 400}},
			{"10 million open brackets", "POST", jsonType, "", bytes.Repeat([]byte("["), 10_000_000), []int{400, 413}},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				before := c.memory(t)
				a := c.send(t, tt.method, tt.contentType, tt.coding, tt.body)
				if !slices.Contains(tt.want, a.status) {
					t.Errorf("status %d, want one of %d: %.200q", a.status, tt.want, a.body)
				}
				if tt.method == http.MethodPost && a.status == http.StatusBadRequest {
					want := protobuf // the answer speaks the language of the request: a google.rpc.Status
					if strings.HasPrefix(tt.contentType, jsonType) {
						want = jsonType
					}
					if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, want) {
						t.Errorf("refusal has Content-Type %q, want %s", got, want)
					}
				}
				if a.status == http.StatusOK && len(tt.want) == 1 && rejected(t, tt.contentType, a.body) != nil {
					t.Errorf("partial_success is set for a good request: %q", a.body)
				}
				if grown := c.memory(t) - before; grown > 128<<20 {
					t.Errorf("memory grew by %d MiB, want at most 128", grown>>20)
				}
			})
		}
	})

	// partly returns a request of 50 good calls and one span more that is spoilt.
	partly := func(spoil func(ptrace.Span)) ptrace.Traces {
		traces := good(50)
		spans := traces.ResourceSpans().At(1).ScopeSpans().At(0).Spans()
		bad := spans.AppendEmpty()
		spans.At(49).CopyTo(bad)
		bad.SetSpanID(pcommon.SpanID{7})
		bad.SetKind(ptrace.SpanKindInternal)
		spoil(bad)
		return traces
	}
	noSpanID := func(s ptrace.Span) { s.SetSpanID(pcommon.SpanID{}) }

	t.Run("one bad span", func(t *testing.T) {
		tests := []struct {
			name, contentType string
			body              []byte
		}{
			{"no span id", protobuf, marshal(partly(noSpanID))},
			{"no span id in JSON", jsonType, marshalJSON(partly(noSpanID))},
			{"no trace id", protobuf, marshal(partly(func(s ptrace.Span) { s.SetTraceID(pcommon.TraceID{}) }))},
			{"span id of 7 bytes", protobuf, shorten(t, marshal(partly(func(ptrace.Span) {})))},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				a := c.send(t, http.MethodPost, tt.contentType, "", tt.body)
				if a.status != http.StatusOK {
					t.Fatalf("status %d: %.200q", a.status, a.body)
				}
				if p := rejected(t, tt.contentType, a.body); p == nil || p.RejectedSpans() != 1 || p.ErrorMessage() == "" {
					t.Errorf("answer %.200q, want a partial_success with 1 span rejected, and why", a.body)
				}
			})
		}
	})

	t.Run("grpc", func(t *testing.T) {
		conn, err := grpc.NewClient(c.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		const export = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
		tests := []struct {
			name, method string
			body         []byte
			opts         []grpc.CallOption
			want         codes.Code
			rejects      int64
		}{
			{"good", export, marshal(good(10)), nil, codes.OK, 0},
			{"good gzip", export, marshal(good(10)), []grpc.CallOption{grpc.UseCompressor(grpcgzip.Name)}, codes.OK, 0},
			{"empty", export, nil, nil, codes.OK, 0},
			{"one bad span among 100 good", export, marshal(partly(noSpanID)), nil, codes.OK, 1},
			{"garbage", export, garbage, nil, codes.InvalidArgument, 0},
			{"truncated", export, whole[:len(whole)-7], nil, codes.InvalidArgument, 0},
			{"70 MiB", export, make([]byte, 70<<20), nil, codes.ResourceExhausted, 0},
			{"gzip bomb of 256 MiB", export, make([]byte, 256<<20), []grpc.CallOption{grpc.UseCompressor(grpcgzip.Name)}, codes.ResourceExhausted, 0},
			{"unknown method", "/opentelemetry.proto.collector.trace.v1.TraceService/Import", whole, nil, codes.Unimplemented, 0},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				before := c.memory(t)
				var answer []byte
				err := conn.Invoke(ctx, tt.method, &tt.body, &answer, append(tt.opts, grpc.ForceCodec(rawCodec{}))...)
				if got := status.Code(err); got != tt.want {
					t.Fatalf("code %s, want %s: %v", got, tt.want, err)
				}
				if err == nil {
					p := rejected(t, protobuf, answer)
					if tt.rejects == 0 && p != nil || tt.rejects != 0 && (p == nil || p.RejectedSpans() != tt.rejects) {
						t.Errorf("partial_success is %+v, want %d spans rejected", p, tt.rejects)
					}
				}
				if grown := c.memory(t) - before; grown > 128<<20 {
					t.Errorf("memory grew by %d MiB, want at most 128", grown>>20)
				}
			})
		}
	})

	t.Run("odd times and names", func(t *testing.T) {
		odd := calls("caller", "callee", number+1<<32, 5)
		times := [][2]uint64{
			{0, 0},
			{math.MaxUint64, math.MaxUint64},
			{uint64(time.Now().UnixNano()), uint64(time.Now().Add(-time.Second).UnixNano())},
			{uint64(time.Now().AddDate(-10, 0, 0).UnixNano()), uint64(time.Now().UnixNano())},
			{uint64(time.Now().AddDate(10, 0, 0).UnixNano()), uint64(time.Now().AddDate(10, 0, 0).UnixNano()) + 1e9},
		}
		for half := range 2 {
			spans := odd.ResourceSpans().At(half).ScopeSpans().At(0).Spans()
			for i, tm := range times {
				spans.At(i).SetStartTimestamp(pcommon.Timestamp(tm[0]))
				spans.At(i).SetEndTimestamp(pcommon.Timestamp(tm[1]))
			}
		}
		hostile := calls("</script><script>alert(1)</script>", strings.Repeat("n", 3<<20), number+2<<32, 1)
		for name, traces := range map[string]ptrace.Traces{"times": odd, "names": hostile} {
			if a := c.send(t, http.MethodPost, protobuf, "", marshal(traces)); a.status >= 500 {
				t.Errorf("odd %s: status %d: %.200q", name, a.status, a.body)
			}
		}
	})

	// Whatever came in between: the good edge has the good calls. Of the five calls with odd times some may count, as
	// calls that happened; their durations may not, so the quantiles are those of the good ones: 20 ms.
	eventually(t, 30*time.Second, 200*time.Millisecond, func() error {
		g, err := c.graph()
		if err != nil {
			return err
		}
		e, err := g.edge("caller", "callee")
		if err != nil {
			return err
		}
		if err := within("calls", &e.Calls, float64(number), float64(number)+5); err != nil {
			return fmt.Errorf("%w; %s", err, g)
		}
		if err := within("p99", e.P99, 20/1.022, 20*1.022); err != nil {
			return err
		}
		if _, err := g.edge("x", "y"); err == nil {
			return fmt.Errorf("calls of a refused request count: %s", g)
		}
		return nil
	})
}

// TestBadQuestions asks the API for what it cannot answer: each is refused with a problem document.
func TestBadQuestions(t *testing.T) {
	c := newCollector(t)
	tests := []struct {
		path string
		want int // 0: any refusal that is the client's fault
	}{
		{"/api/v1/graph?from=yesterday", 0},
		{"/api/v1/graph?from=now&to=now-15m", 0},
		{"/api/v1/graph?from=now-15m&to=now&depth=-1", 0},
		{"/api/v1/edges/none?from=now-15m&to=now", 404},
		{"/api/v1/edges/none/series?from=now-15m&to=now&step=0s", 0},
		{"/api/v1/services/none?from=now-15m&to=now", 404},
		{"/api/v1/traces?only=pretty", 0},
		{"/api/v1/traces?limit=-1", 0},
		{"/api/v1/traces/0af7651916cd43dd8448eb211c80319c", 404},
		{"/api/v1/traces/zz", 0},
		{"/api/v1/nothing", 404},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			a, err := do(t.Context(), http.MethodGet, "http://"+c.api+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			wanted := "4xx"
			if tt.want != 0 {
				wanted = strconv.Itoa(tt.want)
			}
			if a.status < 400 || a.status >= 500 || tt.want != 0 && a.status != tt.want {
				t.Errorf("status %d, want %s: %.200q", a.status, wanted, a.body)
			}
			if contentType := a.header.Get("Content-Type"); !strings.HasPrefix(contentType, "application/problem+json") {
				t.Errorf("Content-Type %q, want application/problem+json", contentType)
			}
			var problem struct{ Status int }
			if err := json.Unmarshal(a.body, &problem); err != nil || problem.Status != a.status {
				t.Errorf("not a problem document of status %d: %v: %.200q", a.status, err, a.body)
			}
		})
	}
}

// rawCodec hands bytes through, so that a client can send what no client would.
type rawCodec struct{}

func (rawCodec) Name() string                  { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(data)
	return nil
}

// send sends a request to OTLP/HTTP and returns the answer.
func (c *collector) send(t *testing.T, method, contentType, coding string, body []byte) *answer {
	t.Helper()
	var header []string
	if contentType != "" {
		header = append(header, "Content-Type", contentType)
	}
	if coding != "" {
		header = append(header, "Content-Encoding", coding)
	}
	a, err := do(t.Context(), method, "http://"+c.otlp+"/v1/traces", body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// rejected returns the partial_success of an answer, nil when it is not set.
func rejected(t *testing.T, contentType string, answer []byte) *ptraceotlp.ExportPartialSuccess {
	t.Helper()
	res := ptraceotlp.NewExportResponse()
	unmarshal := res.UnmarshalProto
	if strings.HasPrefix(contentType, jsonType) {
		if unmarshal = res.UnmarshalJSON; !bytes.Contains(answer, []byte("partialSuccess")) {
			return nil
		}
	} else if len(answer) == 0 {
		return nil
	}
	if err := unmarshal(answer); err != nil {
		t.Errorf("answer is no ExportTraceServiceResponse: %v: %q", err, answer)
		return nil
	}
	p := res.PartialSuccess()
	return &p
}

// memory returns the collector's resident set in bytes.
func (c *collector) memory(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		t.Fatalf("the collector does not run any more: %v", err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// zip returns b in gzip.
func zip(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// bomb returns n zero bytes in gzip.
func bomb(t *testing.T, n int) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	zeros := make([]byte, 1<<20)
	for range n / len(zeros) {
		if _, err := w.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// message wraps b as the bytes of a length-delimited field.
func message(field protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), b)
}

// emptySpans returns a request of n spans that say nothing.
func emptySpans(n int) []byte {
	return message(1, message(2, bytes.Repeat(message(2, nil), n)))
}

// nested returns a request with one resource attribute whose value is arrays within arrays, depth of them.
func nested(depth int) []byte {
	// From the inside out, built backwards: value{array{value{array{…}}}}. The lengths grow with the depth, so they are
	// put before what is already there.
	var reversed []byte
	size := 0
	prepend := func(field protowire.Number) {
		head := protowire.AppendVarint(protowire.AppendTag(nil, field, protowire.BytesType), uint64(size))
		slices.Reverse(head)
		reversed = append(reversed, head...)
		size += len(head)
	}
	for range depth {
		prepend(1) // ArrayValue.values
		prepend(5) // AnyValue.array_value
	}
	prepend(2) // KeyValue.value
	prepend(1) // Resource.attributes
	prepend(1) // ResourceSpans.resource
	prepend(1) // ExportTraceServiceRequest.resource_spans
	slices.Reverse(reversed)
	return reversed
}

// withTime returns an OTLP JSON request with every start time replaced.
func withTime(request, value string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(request, `"startTimeUnixNano":"`)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		_, request, _ = strings.Cut(after, `"`)
		b.WriteString(`"startTimeUnixNano":` + value)
	}
}

// shorten returns a request with the span id of its last span one byte shorter, and every length around it right.
func shorten(t *testing.T, request []byte) []byte {
	t.Helper()
	// ExportTraceServiceRequest.resource_spans → scope_spans → spans → span_id; always the last of each.
	var cut func(b []byte, path []protowire.Number) []byte
	cut = func(b []byte, path []protowire.Number) []byte {
		if len(path) == 0 {
			return b[:len(b)-1]
		}
		var out, last, value []byte
		for rest := b; len(rest) > 0; {
			number, _, n := protowire.ConsumeField(rest)
			if n < 0 {
				t.Fatal("shorten: not a request")
			}
			if number == path[0] {
				out = append(out, last...)
				last = rest[:n]
				_, _, tag := protowire.ConsumeTag(rest)
				value, _ = protowire.ConsumeBytes(rest[tag:])
			} else {
				out = append(out, rest[:n]...)
			}
			rest = rest[n:]
		}
		return append(out, message(path[0], cut(value, path[1:]))...)
	}
	return cut(request, []protowire.Number{1, 2, 2, 2})
}
