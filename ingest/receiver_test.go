package ingest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"faultline/graph"
)

// intakeExtension is the extension that owns the Intake, as far as receivers and exporters know it.
type intakeExtension struct {
	component.StartFunc
	component.ShutdownFunc
	in *Intake
}

func (e intakeExtension) Intake() *Intake { return e.in }

// host is a Collector with the given extensions.
type host map[component.ID]component.Component

func (h host) GetExtensions() map[component.ID]component.Component { return h }

func newHost() (host, *Intake) {
	in := NewIntake(DefaultConfig(), graph.NewLive(graph.DefaultLiveConfig(), 1))
	return host{component.MustNewID("faultline"): intakeExtension{in: in}}, in
}

// localConfig is the default configuration on ports of the system's choice.
func localConfig() *ReceiverConfig {
	cfg := NewDefaultReceiverConfig().(*ReceiverConfig)
	cfg.Protocols.GRPC.Get().NetAddr.Endpoint = "127.0.0.1:0"
	cfg.Protocols.HTTP.Get().NetAddr.Endpoint = "127.0.0.1:0"
	return cfg
}

// started returns a running receiver, to be stopped with the test.
func started(tb testing.TB, cfg *ReceiverConfig, next consumer.Traces) (*otlpReceiver, *Intake) {
	tb.Helper()
	h, in := newHost()
	r, err := newReceiver(receivertest.NewNopSettings(Type), cfg, next)
	if err != nil {
		tb.Fatal(err)
	}
	if err := r.Start(context.Background(), h); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := r.Shutdown(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return r, in
}

// forwarding returns a configuration that passes batches on, so that a test sees or delays them.
func forwarding() *ReceiverConfig {
	cfg := localConfig()
	cfg.Forward = true
	return cfg
}

// dial returns a connection to the receiver's gRPC server.
func dial(tb testing.TB, r *otlpReceiver, options ...grpc.DialOption) *grpc.ClientConn {
	tb.Helper()
	options = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, options...)
	conn, err := grpc.NewClient(r.grpcAddr.String(), options...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// tracesURL is where the receiver takes spans over HTTP.
func tracesURL(r *otlpReceiver) string {
	scheme := "http"
	if r.cfg.Protocols.HTTP.Get().TLS.HasValue() {
		scheme = "https"
	}
	return scheme + "://" + r.httpAddr.String() + tracesPath
}

// someTraces is a batch of n client spans of one service, with everything that a span may have.
func someTraces(n int) ptrace.Traces {
	traces := ptrace.NewTraces()
	rs := traces.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr("service.name", "checkout")
	rs.SetSchemaUrl("https://opentelemetry.io/schemas/1.30.0")
	ss := rs.ScopeSpans().AppendEmpty()
	ss.Scope().SetName("net/http")
	ss.Scope().SetVersion("1.2.3")
	start := time.Unix(1_700_000_000, 0)
	for i := range n {
		s := ss.Spans().AppendEmpty()
		var id [8]byte
		binary.BigEndian.PutUint64(id[:], uint64(i+1))
		s.SetTraceID(pcommon.TraceID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
		s.SetSpanID(id)
		s.SetParentSpanID(pcommon.SpanID{9})
		s.TraceState().FromRaw("ot=th:8")
		s.SetFlags(0x101)
		s.SetName("GET /price")
		s.SetKind(ptrace.SpanKindClient)
		s.SetStartTimestamp(pcommon.NewTimestampFromTime(start))
		s.SetEndTimestamp(pcommon.NewTimestampFromTime(start.Add(time.Millisecond)))
		s.Status().SetCode(ptrace.StatusCodeError)
		s.Status().SetMessage("timed out")
		s.Attributes().PutStr("server.address", "price")
		s.Attributes().PutInt("http.response.status_code", 504)
		s.Attributes().PutDouble("ratio", 0.5)
		s.Attributes().PutBool("cached", false)
		s.Attributes().PutEmptyBytes("raw").FromRaw([]byte{0, 255})
		list := s.Attributes().PutEmptySlice("tried")
		list.AppendEmpty().SetStr("a")
		list.AppendEmpty().SetInt(-7)
		s.Attributes().PutEmptyMap("more").PutStr("k", "v")
		e := s.Events().AppendEmpty()
		e.SetName("exception")
		e.SetTimestamp(pcommon.NewTimestampFromTime(start))
		e.Attributes().PutStr("exception.type", "Timeout")
		l := s.Links().AppendEmpty()
		l.SetTraceID(pcommon.TraceID{1})
		l.SetSpanID(pcommon.SpanID{2})
		l.SetFlags(1)
	}
	return traces
}

// protobufOf encodes a batch as OTLP's protobuf.
func protobufOf(tb testing.TB, traces ptrace.Traces) []byte {
	tb.Helper()
	b, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(traces)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// jsonOf encodes a batch as OTLP's JSON.
func jsonOf(tb testing.TB, traces ptrace.Traces) []byte {
	tb.Helper()
	b, err := (&ptrace.JSONMarshaler{}).MarshalTraces(traces)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// gate is a consumer that holds every batch back until it is opened.
type gate struct {
	arrived chan struct{} // gets one for each batch
	open    chan struct{}
}

func newGate() gate { return gate{make(chan struct{}, 1000), make(chan struct{})} }

func (g gate) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (g gate) ConsumeTraces(context.Context, ptrace.Traces) error {
	g.arrived <- struct{}{}
	<-g.open
	return nil
}

func TestStartNeedsOneExtension(t *testing.T) {
	in := NewIntake(DefaultConfig(), graph.NewLive(graph.DefaultLiveConfig(), 1))
	for _, tt := range []struct {
		host host
		want string
	}{
		{host{}, "the faultline receiver needs the faultline extension"},
		{host{component.MustNewID("faultline"): intakeExtension{}}, "the faultline receiver needs the faultline extension"}, // not started: no Intake
		{
			host{component.MustNewID("faultline"): intakeExtension{in: in}, component.MustNewIDWithName("faultline", "2"): intakeExtension{in: in}},
			"the faultline receiver needs one faultline extension",
		},
	} {
		r, err := newReceiver(receivertest.NewNopSettings(Type), localConfig(), consumertest.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		err = r.Start(context.Background(), tt.host)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %s", err, tt.want)
		}
		if err := r.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

func TestStartSaysWhichAddressIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := localConfig()
	cfg.Protocols.HTTP.Get().NetAddr.Endpoint = l.Addr().String()
	r, err := newReceiver(receivertest.NewNopSettings(Type), cfg, consumertest.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	h, _ := newHost()
	err = r.Start(context.Background(), h)
	if err == nil || !strings.Contains(err.Error(), "protocols::http::endpoint: listen tcp "+l.Addr().String()) {
		t.Errorf("got %v", err)
	}
}

func TestConfig(t *testing.T) {
	tests := []struct {
		name string
		yaml map[string]any
		want string // part of the error, "" if there is none
	}{
		{"empty", nil, ""},
		{"one protocol", map[string]any{"protocols": map[string]any{"http": map[string]any{"enabled": false}}}, ""},
		{"no protocol", map[string]any{"protocols": map[string]any{
			"http": map[string]any{"enabled": false}, "grpc": map[string]any{"enabled": false},
		}}, "neither grpc nor http"},
		{"unknown key", map[string]any{"protocol": nil}, "protocol"},
		{"exposed", map[string]any{"protocols": map[string]any{"grpc": map[string]any{"endpoint": "0.0.0.0:4317"}}}, "neither TLS nor authentication"},
		{"exposed by empty host", map[string]any{"protocols": map[string]any{"http": map[string]any{"endpoint": ":4318"}}}, "neither TLS nor authentication"},
		{"exposed by name", map[string]any{"protocols": map[string]any{"http": map[string]any{"endpoint": "collector:4318"}}}, "neither TLS nor authentication"},
		{"exposed, with token", map[string]any{"auth_token": "t", "protocols": map[string]any{"grpc": map[string]any{"endpoint": "0.0.0.0:4317"}}}, ""},
		{"exposed, as asked", map[string]any{"allow_insecure": true, "protocols": map[string]any{"grpc": map[string]any{"endpoint": "0.0.0.0:4317"}}}, ""},
		{"exposed, with TLS", map[string]any{"protocols": map[string]any{"grpc": map[string]any{
			"endpoint": "0.0.0.0:4317", "tls": map[string]any{"cert_file": "c", "key_file": "k"},
		}}}, ""},
		{"loopback", map[string]any{"protocols": map[string]any{"grpc": map[string]any{"endpoint": "[::1]:4317"}, "http": map[string]any{"endpoint": "localhost:0"}}}, ""},
		{"socket", map[string]any{"protocols": map[string]any{"grpc": map[string]any{"endpoint": "/run/otlp.sock", "transport": "unix"}}}, ""},
		{"message over budget", map[string]any{"max_in_flight_mib": 8}, "max_recv_msg_size_mib"},
		{"no budget", map[string]any{"max_in_flight_mib": 0}, "max_in_flight_mib"},
		{"no limit", map[string]any{"protocols": map[string]any{"http": map[string]any{"max_request_body_size": -1}}}, "max_request_body_size"},
		{"odd coding", map[string]any{"protocols": map[string]any{"http": map[string]any{"compression_algorithms": []any{"lz4"}}}}, "lz4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := NewDefaultReceiverConfig()
			err := confmap.NewFromStringMap(tt.yaml).Unmarshal(cfg)
			if err == nil {
				err = cfg.(*ReceiverConfig).Validate()
			}
			if tt.want == "" && err != nil {
				t.Errorf("got %v", err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
	if err := componenttest.CheckConfigStruct(NewReceiverFactory().CreateDefaultConfig()); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprintf("%+v", &ReceiverConfig{AuthToken: "s3cret"}); strings.Contains(got, "s3cret") {
		t.Errorf("a printed configuration shows its token: %s", got)
	}
}

func TestTeePassesBatchUnchanged(t *testing.T) {
	sink := new(consumertest.TracesSink)
	r, _ := started(t, forwarding(), sink)
	want := someTraces(3)
	if code := post(t, r, protobufOf(t, want), nil).code; code != 200 {
		t.Fatalf("HTTP protobuf: %d", code)
	}
	if code := post(t, r, jsonOf(t, want), http.Header{"Content-Type": {typeJSON}}).code; code != 200 {
		t.Fatalf("HTTP JSON: %d", code)
	}
	if _, err := export(dial(t, r), protobufOf(t, want)); err != nil {
		t.Fatalf("gRPC: %v", err)
	}
	got := sink.AllTraces()
	if len(got) != 3 {
		t.Fatalf("got %d batches, want 3", len(got))
	}
	for i, traces := range got {
		if diff := cmp.Diff(string(jsonOf(t, want)), string(jsonOf(t, traces))); diff != "" {
			t.Errorf("batch %d: %s", i, diff)
		}
	}
}

func TestTeeOffByDefault(t *testing.T) {
	sink := new(consumertest.TracesSink)
	r, _ := started(t, localConfig(), sink)
	if code := post(t, r, protobufOf(t, someTraces(1)), nil).code; code != 200 {
		t.Fatalf("got %d", code)
	}
	if n := sink.SpanCount(); n != 0 {
		t.Errorf("%d spans were forwarded unasked", n)
	}
}

// What the pipeline refuses was counted already: were the sender told, it would come again and count twice.
func TestTeeKeepsPipelineErrorsFromSender(t *testing.T) {
	r, _ := started(t, forwarding(), consumertest.NewErr(errors.New("queue is full")))
	if got := post(t, r, protobufOf(t, someTraces(1)), nil); got.code != 200 {
		t.Errorf("HTTP: %+v", got)
	}
	if _, err := export(dial(t, r), protobufOf(t, someTraces(1))); err != nil {
		t.Errorf("gRPC: %v", err)
	}
}

// nested is a request with one attribute whose value consists of n arrays in each other.
func nested(n int) []byte {
	// Inside out, each array wraps what is there in two messages; built in reverse, since lengths come first.
	reverse := make([]byte, 0, 12*n)
	wrap := func(tag byte) {
		length := binary.AppendUvarint(nil, uint64(len(reverse)))
		for _, b := range slices.Backward(length) {
			reverse = append(reverse, b)
		}
		reverse = append(reverse, tag)
	}
	for range n {
		wrap(1<<3 | 2) // ArrayValue.values
		wrap(5<<3 | 2) // AnyValue.array_value
	}
	wrap(2<<3 | 2) // KeyValue.value
	wrap(9<<3 | 2) // Span.attributes
	wrap(2<<3 | 2) // ScopeSpans.spans
	wrap(2<<3 | 2) // ResourceSpans.scope_spans
	wrap(1<<3 | 2) // resource_spans
	for i, j := 0, len(reverse)-1; i < j; i, j = i+1, j-1 {
		reverse[i], reverse[j] = reverse[j], reverse[i]
	}
	return reverse
}

func TestTreeCost(t *testing.T) {
	if _, err := treeCost(nested(20)); err != nil {
		t.Errorf("20 arrays: %v", err)
	}
	for _, n := range []int{40, 1_000_000} {
		if _, err := treeCost(nested(n)); !errors.Is(err, errTooDeep) {
			t.Errorf("%d arrays: %v", n, err)
		}
	}
	body := protobufOf(t, someTraces(100))
	cost, err := treeCost(body)
	if err != nil || cost > costPerByte*len(body) {
		t.Errorf("an ordinary batch of %d bytes costs %d, %v", len(body), cost, err)
	}
	empty := bytes.Repeat([]byte{2<<3 | 2, 0}, 100_000)
	empty = append(binary.AppendUvarint([]byte{2<<3 | 2}, uint64(len(empty))), empty...)
	empty = append(binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(empty))), empty...)
	if cost, err := treeCost(empty); err != nil || cost < 100*len(empty) {
		t.Errorf("%d bytes of empty spans cost %d, %v", len(empty), cost, err)
	}
	if _, err := treeCost([]byte{1<<3 | 2, 5, 1}); err == nil {
		t.Error("no error for a length beyond the end")
	}
}

// A batch that the tee must not decode is kept from pdata, which would take the process down or fill its memory.
func TestTeeSurvivesPoison(t *testing.T) {
	sink := new(consumertest.TracesSink)
	r, _ := started(t, forwarding(), sink)
	post(t, r, nested(1_000_000), nil) // whatever the Intake answers
	if got := post(t, r, protobufOf(t, someTraces(1)), nil); got.code != 200 {
		t.Errorf("afterwards: %+v", got)
	}
	if n := sink.SpanCount(); n != 1 {
		t.Errorf("%d spans were forwarded, want 1", n)
	}
}

func TestExporter(t *testing.T) {
	h, in := newHost()
	f := NewExporterFactory()
	e, err := f.CreateTraces(context.Background(), exportertest.NewNopSettings(Type), f.CreateDefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(context.Background(), host{}); err == nil || !strings.Contains(err.Error(), "the faultline exporter needs the faultline extension") {
		t.Errorf("without extension: %v", err)
	}
	if err := e.Start(context.Background(), h); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if e.Capabilities().MutatesData {
		t.Error("the exporter says that it changes batches")
	}
	if err := e.ConsumeTraces(context.Background(), someTraces(5)); err != nil {
		t.Fatal(err)
	}
	if got := in.Counters().Received; got != 5 {
		t.Errorf("received %d spans, want 5", got)
	}
}

func TestExporterErrors(t *testing.T) {
	h, _ := newHost()
	var e spanExporter
	if err := e.start(context.Background(), h); err != nil {
		t.Fatal(err)
	}
	deep := someTraces(1)
	v := deep.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).Attributes().PutEmpty("deep")
	for range 200 {
		v = v.SetEmptySlice().AppendEmpty()
	}
	if err := e.consume(context.Background(), deep); !errors.Is(err, ErrMalformed) || !consumererror.IsPermanent(err) {
		t.Errorf("a batch that cannot be read: %v", err)
	}
	rejected := someTraces(2)
	rejected.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).SetSpanID(pcommon.SpanID{})
	if err := e.consume(context.Background(), rejected); err != nil {
		t.Errorf("one bad span of two: %v", err)
	}
}

// TestShutdown checks that requests in flight end well, that new ones are told to come again, and that stopping twice,
// or without having started, is fine.
func TestShutdown(t *testing.T) {
	g := newGate()
	r, _ := started(t, forwarding(), g)
	conn := dial(t, r)
	body := protobufOf(t, someTraces(1))

	var calls sync.WaitGroup
	calls.Go(func() {
		if got := post(t, r, body, nil); got.code != 200 {
			t.Errorf("HTTP request in flight: %+v", got)
		}
	})
	calls.Go(func() {
		if _, err := export(conn, body); err != nil {
			t.Errorf("gRPC request in flight: %v", err)
		}
	})
	<-g.arrived
	<-g.arrived
	stopped := make(chan error)
	go func() { stopped <- r.Shutdown(context.Background()) }()
	select {
	case err := <-stopped:
		t.Fatalf("stopped with requests in flight: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(g.open)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	calls.Wait()
	if err := r.Shutdown(context.Background()); err != nil {
		t.Errorf("the second time: %v", err)
	}
	if _, err := net.Dial("tcp", r.grpcAddr.String()); err == nil {
		t.Error("still listening")
	}
}

// A request that does not end holds the receiver up for a bounded time.
func TestShutdownIsBounded(t *testing.T) {
	g := newGate()
	r, _ := started(t, forwarding(), g)
	defer close(g.open)
	conn := dial(t, r)
	var calls sync.WaitGroup
	calls.Go(func() {
		if _, err := export(conn, protobufOf(t, someTraces(1))); err == nil {
			t.Error("a request that was cut was answered")
		}
	})
	<-g.arrived
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Shutdown(ctx)
	}()
	calls.Wait() // cut
	g.open <- struct{}{}
	<-done
}

func TestStoppingRefusesRetryably(t *testing.T) {
	r, _ := started(t, localConfig(), consumertest.NewNop())
	conn := dial(t, r)
	body := protobufOf(t, someTraces(1))
	r.stopping.Store(true)
	got := post(t, r, body, nil)
	if got.code != 503 || got.header.Get("Retry-After") != "1" {
		t.Errorf("HTTP: %+v", got)
	}
	_, err := export(conn, body)
	wantStatus(t, err, codes.Unavailable, true)
}

func TestTLS(t *testing.T) {
	cert, key, roots := certificate(t)
	cfg := localConfig()
	for _, section := range []string{"grpc", "http"} {
		err := confmap.NewFromStringMap(map[string]any{"protocols": map[string]any{section: map[string]any{
			"endpoint": "127.0.0.1:0", "tls": map[string]any{"cert_file": cert, "key_file": key},
		}}}).Unmarshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
	}
	r, _ := started(t, cfg, consumertest.NewNop())
	body := protobufOf(t, someTraces(1))

	tlsConfig := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if _, err := export(dial(t, r, grpc.WithTransportCredentials(credentials.NewTLS(tlsConfig))), body); err != nil {
		t.Errorf("gRPC: %v", err)
	}
	if _, err := export(dial(t, r), body); err == nil {
		t.Error("gRPC in plain text was answered")
	}
	for _, h2 := range []bool{false, true} {
		transport := &http.Transport{TLSClientConfig: tlsConfig.Clone(), ForceAttemptHTTP2: h2}
		client := &http.Client{Transport: transport}
		res, err := client.Post(tracesURL(r), typeProtobuf, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		transport.CloseIdleConnections()
		if res.StatusCode != http.StatusOK || (res.ProtoMajor == 2) != h2 {
			t.Errorf("HTTPS: %s %s", res.Proto, res.Status)
		}
	}
	old := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11}}
	if res, err := (&http.Client{Transport: old}).Get(tracesURL(r)); err == nil {
		res.Body.Close()
		t.Error("TLS 1.1 was accepted")
	}
}
