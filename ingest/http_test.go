package ingest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

func gzipped(tb testing.TB, b []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	return compressed(tb, b, gzip.NewWriter(&out), &out)
}

func zstded(tb testing.TB, b []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	if err != nil {
		tb.Fatal(err)
	}
	return compressed(tb, b, w, &out)
}

func deflated(tb testing.TB, b []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	return compressed(tb, b, zlib.NewWriter(&out), &out)
}

func compressed(tb testing.TB, b []byte, w io.WriteCloser, out *bytes.Buffer) []byte {
	tb.Helper()
	if _, err := w.Write(b); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// bytesField returns a length-delimited protobuf field.
func bytesField(number protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), b)
}

// oneSpan is a request with one span of the given fields.
func oneSpan(fields []byte) []byte { return bytesField(1, bytesField(2, bytesField(2, fields))) }

// hugeWindow is a zstd frame that asks its decoder to remember 512 MiB.
var hugeWindow = []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 19 << 3, 0x01, 0x00, 0x00}

// TestHTTPStatus is the table of what OTLP/HTTP answers.
func TestHTTPStatus(t *testing.T) {
	const limit = 1 << 20
	cfg := localConfig()
	cfg.Protocols.HTTP.Get().MaxRequestBodySize = limit
	r, _ := started(t, cfg, consumertest.NewNop())

	good := protobufOf(t, someTraces(10))
	goodJSON := jsonOf(t, someTraces(10))
	random := make([]byte, 1000)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	head := func(kv ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(kv); i += 2 {
			h[kv[i]] = []string{kv[i+1]}
		}
		return h
	}
	asJSON := head("Content-Type", typeJSON)
	encoded := func(name string) http.Header { return head("Content-Encoding", name) }
	const bomb = 4 << 20
	tests := []struct {
		name   string
		body   []byte
		header http.Header
		want   int
	}{
		{"good", good, nil, 200},
		{"good JSON", goodJSON, asJSON, 200},
		{"charset", goodJSON, head("Content-Type", "application/json; charset=utf-8"), 200},
		{"odd parameter", goodJSON, head("Content-Type", "application/json; charset"), 200},
		{"identity", good, encoded("identity"), 200},
		{"gzip", gzipped(t, good), encoded("gzip"), 200},
		{"gzip in capitals", gzipped(t, good), encoded("GZIP"), 200},
		{"zstd", zstded(t, good), encoded("zstd"), 200},
		{"deflate", deflated(t, good), encoded("deflate"), 200},
		{"gzip JSON", gzipped(t, goodJSON), head("Content-Type", typeJSON, "Content-Encoding", "gzip"), 200},
		{"empty", nil, nil, 200},
		{"empty object", []byte("{}"), asJSON, 200},
		{"unknown field", append(bytesField(99, []byte("x")), good...), nil, 200},
		{"unknown JSON field", []byte(`{"later":[{"a":1}],"resourceSpans":[]}`), asJSON, 200},
		{"exactly the limit", bytesField(99, make([]byte, limit-5)), nil, 200},

		{"no content type", good, head("Content-Type", ""), 415},
		{"text", good, head("Content-Type", "text/plain"), 415},
		{"form", good, head("Content-Type", "application/x-www-form-urlencoded"), 415},
		{"garbled type", good, head("Content-Type", ";;;"), 415},
		{"unknown encoding", good, encoded("br"), 415},
		{"two encodings", gzipped(t, gzipped(t, good)), encoded("gzip, gzip"), 415},

		{"random", random, nil, 400},
		{"truncated", good[:len(good)-3], nil, 400},
		{"wrong wire type", []byte{1 << 3, 1}, nil, 400},
		{"wire type 7", []byte{brokenOff}, nil, 400},
		{"nested 100,000 deep", nested(100_000), nil, 400},
		{"empty JSON", nil, asJSON, 400},
		{"protobuf as JSON", good, asJSON, 400},
		{"JSON as protobuf", goodJSON, nil, 400},
		{"half JSON", goodJSON[:len(goodJSON)/2], asJSON, 400},
		{"two JSON values", []byte("{}{}"), asJSON, 400},
		{"JSON array", []byte("[]"), asJSON, 400},
		{"JSON deep", []byte(`{"resourceSpans":` + strings.Repeat("[", 100_000)), asJSON, 400},
		{"JSON deep in an unknown field", []byte(`{"x":` + strings.Repeat("[", 500_000) + strings.Repeat("]", 500_000) + "}"), asJSON, 400},
		{"JSON deep objects", []byte(strings.Repeat(`{"x":`, 1000) + "1" + strings.Repeat("}", 1000)), asJSON, 400},
		{"JSON time 1e400", spanJSON(`"startTimeUnixNano":1e400`), asJSON, 400},
		{"JSON time -5", spanJSON(`"startTimeUnixNano":-5`), asJSON, 400},
		{"JSON time in words", spanJSON(`"startTimeUnixNano":"now"`), asJSON, 400},
		{"JSON name is a number", spanJSON(`"name":5`), asJSON, 400},
		{"JSON invalid UTF-8", spanJSON("\"traceId\":\"0102030405060708090a0b0c0d0e0f10\",\"spanId\":\"0102030405060708\",\"name\":\"\xff\xfe\""), asJSON, 200},

		{"not gzip", good, encoded("gzip"), 400},
		{"half gzip", gzipped(t, good)[:100], encoded("gzip"), 400},
		{"gzip and garbage", append(gzipped(t, good), "garbage"...), encoded("gzip"), 400},
		{"not zstd", good, encoded("zstd"), 400},
		{"half zstd", zstded(t, good)[:100], encoded("zstd"), 400},
		{"not deflate", good, encoded("deflate"), 400},
		{"zstd with a window of 512 MiB", hugeWindow, encoded("zstd"), 400},
		{"gzip twice", gzipped(t, gzipped(t, good)), encoded("gzip"), 400},

		{"too large", make([]byte, limit+1), nil, 413},
		{"too large JSON", append(make([]byte, 0, limit+2), `{"x":"`+strings.Repeat("a", limit)+`"}`...), asJSON, 413},
		{"gzip bomb", gzipped(t, make([]byte, bomb)), encoded("gzip"), 413},
		{"zstd bomb", zstded(t, make([]byte, bomb)), encoded("zstd"), 413},
		{"deflate bomb", deflated(t, make([]byte, bomb)), encoded("deflate"), 413},
		{"too large after gzip, by one", gzipped(t, make([]byte, limit+1)), encoded("gzip"), 413},
		{"too large before gzip is undone", rawGzip(t, limit+1000), encoded("gzip"), 413},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := post(t, r, tt.body, tt.header)
			if got.code != tt.want {
				t.Fatalf("got %d %q, want %d", got.code, got.body, tt.want)
			}
			contentType := tt.header.Get("Content-Type")
			isJSON := strings.HasPrefix(contentType, typeJSON)
			if got.code == 200 {
				want := ""
				if isJSON {
					want = "{}"
				}
				if string(got.body) != want {
					t.Errorf("body %q, want %q: partial_success must not be set", got.body, want)
				}
				return
			}
			var s status.Status
			if tt.want == 415 || isJSON {
				if err := protojson.Unmarshal(got.body, &s); err != nil && got.header.Get("Content-Type") == typeJSON {
					t.Errorf("body %q: %v", got.body, err)
				}
			} else if err := proto.Unmarshal(got.body, &s); err != nil {
				t.Errorf("body %q: %v", got.body, err)
			}
			if s.GetMessage() == "" && tt.want != 415 {
				t.Errorf("body %q says nothing", got.body)
			}
			if got.header.Get("Retry-After") != "" {
				t.Error("a permanent fault is told to come again")
			}
		})
	}
	if held := r.budget.Used(); held != 0 {
		t.Errorf("%d bytes are still held", held)
	}
}

// spanJSON is a request with one span that has the given member.
func spanJSON(member string) []byte {
	return []byte(`{"resourceSpans":[{"scopeSpans":[{"spans":[{` + member + `}]}]}]}`)
}

// rawGzip is a gzip stream of n bytes or more, uncompressed inside.
func rawGzip(tb testing.TB, n int) []byte {
	tb.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.NoCompression)
	if err != nil {
		tb.Fatal(err)
	}
	return compressed(tb, make([]byte, n), w, &out)
}

func TestHTTPMethodsAndPaths(t *testing.T) {
	r, _ := started(t, localConfig(), consumertest.NewNop())
	base := strings.TrimSuffix(tracesURL(r), tracesPath)
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"} {
		got := send(t, method, tracesURL(r), nil, nil)
		if got.code != 405 || got.header.Get("Allow") != "POST" {
			t.Errorf("%s: %d, Allow %q", method, got.code, got.header.Get("Allow"))
		}
	}
	for _, path := range []string{"/", "/v1/metrics", "/v1/traces/", "/v1/traces/../traces2", "//v1/traces", "/debug/pprof/"} {
		if got := send(t, "POST", base+path, nil, nil); got.code != 404 {
			t.Errorf("%s: %d", path, got.code)
		}
	}
}

// TestHTTPWire sends what no client library would.
func TestHTTPWire(t *testing.T) {
	r, _ := started(t, localConfig(), consumertest.NewNop())
	tests := []struct {
		name, request string
		want          int
	}{
		{"two lengths", "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
		{"bad length", "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
		{"bad chunk", "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
		{"huge header", "POST /v1/traces HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 2<<20) + "\r\n\r\n", 431},
		{"length of 1 TB", "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 1000000000000\r\n\r\n", 413},
		{"endless chunks", "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nTransfer-Encoding: chunked\r\n\r\n" +
			strings.Repeat("100000\r\n"+strings.Repeat("a", 1<<20)+"\r\n", 17), 413},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", r.httpAddr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			began := time.Now()
			go func() { _, _ = io.WriteString(conn, tt.request) }() // may be cut off
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != tt.want {
				t.Errorf("got %s, want %d", res.Status, tt.want)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("answered after %v", took)
			}
		})
	}
}

// A body that trickles in is cut, with an answer, and a header that does so too.
func TestHTTPSlowSenderIsCut(t *testing.T) {
	cfg := localConfig()
	cfg.Protocols.HTTP.Get().ReadTimeout = 100 * time.Millisecond
	cfg.Protocols.HTTP.Get().ReadHeaderTimeout = 100 * time.Millisecond
	r, _ := started(t, cfg, consumertest.NewNop())
	for request, want := range map[string]string{
		"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 100\r\n\r\nhalf": "HTTP/1.1 408",
		"POST /v1/traces HTTP/1.1\r\nHost:": "",
	} {
		conn, err := net.Dial("tcp", r.httpAddr.String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if err != nil {
			t.Errorf("not cut: %v", err)
		}
		if !strings.HasPrefix(string(got), want) {
			t.Errorf("got %q", got)
		}
		conn.Close()
	}
}

// heap returns the bytes of live and not yet swept objects, and of what was ever allocated.
func heap() (inUse, total uint64) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, m.TotalAlloc
}

// A bomb is given up at the limit: what is allocated for it is a small multiple of that, whatever it would become.
func TestHTTPBombsAreBounded(t *testing.T) {
	cfg := localConfig()
	cfg.Protocols.HTTP.Get().MaxRequestBodySize = 1 << 20
	r, _ := started(t, cfg, consumertest.NewNop())
	const size = 64 << 20
	chunk := make([]byte, 1<<20)
	for name, body := range map[string][]byte{
		"gzip":    bytes.Repeat(gzipped(t, chunk), size/len(chunk)),
		"zstd":    bytes.Repeat(zstded(t, chunk), size/len(chunk)),
		"deflate": deflated(t, make([]byte, size/4)),
	} {
		_, before := heap()
		began := time.Now()
		if got := post(t, r, body, http.Header{"Content-Encoding": {name}}); got.code != 413 {
			t.Errorf("%s: %d", name, got.code)
		}
		_, after := heap()
		// The buffer doubles up to 1 MiB, and a decoder may hold a window of 8 MiB, with room to slide.
		if grown := after - before; grown > 24<<20 {
			t.Errorf("%s: %d MiB were allocated for a bomb", name, grown>>20)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

// What does not fit among the bytes in flight is refused retryably, and the budget is whole again afterwards.
func TestHTTPBudget(t *testing.T) {
	g := newGate()
	cfg := forwarding()
	cfg.MaxInFlightMiB = 18
	r, _ := started(t, cfg, g)
	// Each is held in 4 MiB, and in 2 MiB more for the moment in which its buffer grows.
	body := oneSpan(bytesField(5, bytes.Repeat([]byte("n"), 3<<20)))
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			if got := post(t, r, body, nil); got.code != 200 {
				t.Errorf("got %d, want it taken", got.code)
			}
		})
		<-g.arrived
	}
	if held := r.budget.Used(); held != 16<<20 {
		t.Errorf("%d bytes in flight", held)
	}
	for range 4 {
		got := post(t, r, body, nil)
		if got.code != 429 || got.header.Get("Retry-After") != "1" {
			t.Errorf("got %d, Retry-After %q", got.code, got.header.Get("Retry-After"))
		}
	}
	close(g.open)
	calls.Wait()
	if held := r.budget.Used(); held != 0 {
		t.Errorf("%d bytes are still held", held)
	}
	if got := post(t, r, body, nil); got.code != 200 {
		t.Errorf("afterwards: %d", got.code)
	}
}

func TestAuth(t *testing.T) {
	cfg := localConfig()
	cfg.AuthToken = "s3cret"
	r, _ := started(t, cfg, consumertest.NewNop())
	body := protobufOf(t, someTraces(1))
	for header, ok := range map[string]bool{
		"":                        false,
		"s3cret":                  false,
		"Bearer":                  false,
		"Bearer ":                 false,
		"Bearer s3cre":            false,
		"Bearer s3crets":          false,
		"Bearer S3CRET":           false,
		"Basic s3cret":            false,
		"Bearer s3cret":           true,
		"bearer s3cret":           true,
		"Bearer  s3cret":          false,
		"Bearer s3cret, x s3cret": false,
	} {
		want := map[bool]int{true: 200, false: 401}[ok]
		var h http.Header
		if header != "" {
			h = http.Header{"Authorization": {header}}
		}
		got := post(t, r, body, h)
		if got.code != want {
			t.Errorf("HTTP %q: %d", header, got.code)
		}
		if got.code == 401 && got.header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("HTTP %q: WWW-Authenticate %q", header, got.header.Get("WWW-Authenticate"))
		}
		_, err := export(dial(t, r), body, perCall(header))
		if ok {
			wantStatus(t, err, codes.OK, false)
		} else {
			wantStatus(t, err, codes.Unauthenticated, false)
		}
	}
}

func TestJSONPartialSuccess(t *testing.T) {
	res := Result{Accepted: 1, Rejected: 2, Message: "id \"x\" <\xff>"}
	var got struct {
		PartialSuccess struct {
			RejectedSpans string
			ErrorMessage  string
		}
	}
	if err := json.Unmarshal(jsonResponse(res), &got); err != nil {
		t.Fatal(err)
	}
	if got.PartialSuccess.RejectedSpans != "2" || got.PartialSuccess.ErrorMessage != "id \"x\" <\uFFFD>" {
		t.Errorf("got %+v", got)
	}
}

// One bad span among good ones is rejected alone, over either protocol and either form.
func TestPartialSuccess(t *testing.T) {
	r, in := started(t, localConfig(), consumertest.NewNop())
	good := protobufOf(t, someTraces(99))
	bad := slices.Concat(good, oneSpan(slices.Concat(
		bytesField(1, make([]byte, 15)), bytesField(2, []byte("12345678")))))
	want := func(answer []byte, err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
			return
		}
		_, _, n := protowire.ConsumeTag(answer)
		partial, m := protowire.ConsumeBytes(answer[max(n, 0):])
		if m < 0 || len(partial) < 3 || partial[0] != 8 || partial[1] != 1 {
			t.Errorf("answer %x, want one rejected span and why", answer)
		}
	}
	want(export(dial(t, r), bad))
	got := post(t, r, bad, nil)
	if got.code != 200 {
		t.Errorf("got %d", got.code)
	}
	want(got.body, nil)
	js := spanJSON(`"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708"},{"traceId":"no hexadecimal","spanId":"0102030405060708"`)
	got = post(t, r, js, http.Header{"Content-Type": {typeJSON}})
	if !strings.Contains(string(got.body), `"rejectedSpans":"1"`) {
		t.Errorf("JSON: %d %s", got.code, got.body)
	}
	if c := in.Counters(); c.Accepted != 99+99+1 {
		t.Errorf("accepted %d spans", c.Accepted)
	}
}

// Refusals are counted by reason.
func TestRefusalsAreCounted(t *testing.T) {
	cfg := localConfig()
	cfg.AuthToken = "t"
	r, in := started(t, cfg, consumertest.NewNop())
	conn := dial(t, r)
	token := http.Header{"Authorization": {"Bearer t"}}
	with := func(k, v string) http.Header {
		h := token.Clone()
		h[k] = []string{v}
		return h
	}
	post(t, r, nil, nil)
	post(t, r, nil, with("Content-Type", "text/plain"))
	post(t, r, make([]byte, 17<<20), with("Expect", "100-continue")) // or the answer may be lost in what is still being sent
	post(t, r, []byte("x"), with("Content-Encoding", "gzip"))
	_, _ = export(conn, nil)
	_, _ = export(conn, make([]byte, 17<<20), perCall("Bearer t"))
	counters := in.Counters()
	for reason, want := range map[string]int64{
		RefusedUnauthenticated: 2, RefusedUnsupported: 1, RefusedTooLarge: 2, RefusedMalformed: 1,
	} {
		if got := counters.Requests[reason]; got != want {
			t.Errorf("%s: %d, want %d", reason, got, want)
		}
	}
}

// The exporters of the OTel SDK are served as they come.
func TestSDKExporters(t *testing.T) {
	sink := new(consumertest.TracesSink)
	r, _ := started(t, forwarding(), sink)
	ctx := context.Background()
	clients := map[string]otlptrace.Client{
		"grpc":      otlptracegrpc.NewClient(otlptracegrpc.WithEndpoint(r.grpcAddr.String()), otlptracegrpc.WithInsecure()),
		"grpc gzip": otlptracegrpc.NewClient(otlptracegrpc.WithEndpoint(r.grpcAddr.String()), otlptracegrpc.WithInsecure(), otlptracegrpc.WithCompressor("gzip")),
		"http":      otlptracehttp.NewClient(otlptracehttp.WithEndpoint(r.httpAddr.String()), otlptracehttp.WithInsecure()),
		"http gzip": otlptracehttp.NewClient(otlptracehttp.WithEndpoint(r.httpAddr.String()), otlptracehttp.WithInsecure(),
			otlptracehttp.WithCompression(otlptracehttp.GzipCompression)),
	}
	for name, client := range clients {
		sink.Reset()
		exporter, err := otlptrace.New(ctx, client)
		if err != nil {
			t.Fatal(err)
		}
		provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
		_, span := provider.Tracer("test").Start(ctx, name)
		span.End()
		if err := provider.Shutdown(ctx); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := sink.SpanCount(); got != 1 {
			t.Errorf("%s: %d spans arrived", name, got)
		} else if got := sink.AllTraces()[0].ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).Name(); got != name {
			t.Errorf("%s: arrived as %q", name, got)
		}
	}
}

// FuzzHTTPBody checks that no body, in whatever way it is said to be encoded, is answered as a fault of ours.
func FuzzHTTPBody(f *testing.F) {
	good := protobufOf(f, someTraces(2))
	f.Add(good, uint8(0), uint8(0))
	f.Add(jsonOf(f, someTraces(2)), uint8(1), uint8(0))
	f.Add(gzipped(f, good), uint8(0), uint8(1))
	f.Add(zstded(f, good), uint8(0), uint8(2))
	f.Add(deflated(f, good), uint8(0), uint8(3))
	f.Add(hugeWindow, uint8(0), uint8(2))
	f.Add(nested(1000), uint8(0), uint8(0))
	_, in := newHost()
	cfg := forwarding()
	r, err := newReceiver(receivertest.NewNopSettings(Type), cfg, consumertest.NewNop())
	if err != nil {
		f.Fatal(err)
	}
	r.intake = in
	h := &httpHandler{receiver: r, limit: 1 << 20, codings: []string{"gzip", "zstd", "deflate"}}
	f.Fuzz(func(t *testing.T, body []byte, contentType, encoding uint8) {
		req := httptest.NewRequest(http.MethodPost, tracesPath, bytes.NewReader(body))
		req.Header.Set("Content-Type", []string{typeProtobuf, typeJSON}[contentType%2])
		if e := []string{"", "gzip", "zstd", "deflate"}[encoding%4]; e != "" {
			req.Header.Set("Content-Encoding", e)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != 200 && w.Code != 400 && w.Code != 413 && w.Code != 429 {
			t.Errorf("answered %d %s", w.Code, strconv.Quote(w.Body.String()))
		}
		if held := r.budget.Used(); held != 0 {
			t.Errorf("%d bytes are still held", held)
		}
	})
}

// BenchmarkExportHTTP sends requests of 100 spans over loopback; the client is part of what is measured.
func BenchmarkExportHTTP(b *testing.B) {
	r, _ := started(b, localConfig(), consumertest.NewNop())
	good := protobufOf(b, someTraces(100))
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for name, body := range map[string][]byte{"none": good, "gzip": gzipped(b, good), "zstd": zstded(b, good)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(good)))
			for b.Loop() {
				req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, tracesURL(r), bytes.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				req.Header.Set("Content-Type", typeProtobuf)
				if name != "none" {
					req.Header.Set("Content-Encoding", name)
				}
				res, err := client.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode != http.StatusOK {
					b.Fatal(res.Status)
				}
			}
		})
	}
}
