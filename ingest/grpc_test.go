package ingest

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/consumer/consumertest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"faultline/ingest/inflight"
	"faultline/ingest/unary"
)

// perCall sends a header Authorization with a call, unless it is empty.
func perCall(authorization string) grpc.CallOption {
	if authorization == "" {
		return grpc.EmptyCallOption{}
	}
	return grpc.PerRPCCredentials(authorizationHeader(authorization))
}

type authorizationHeader string

func (a authorizationHeader) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": string(a)}, nil
}

func (authorizationHeader) RequireTransportSecurity() bool { return false }

// TestGRPCStatus is the table of what OTLP/gRPC answers.
func TestGRPCStatus(t *testing.T) {
	cfg := localConfig()
	cfg.Protocols.GRPC.Get().MaxRecvMsgSizeMiB = 1
	r, _ := started(t, cfg, consumertest.NewNop())
	conn := dial(t, r)
	const limit = 1 << 20
	good := protobufOf(t, someTraces(10))
	large := protobufOf(t, someTraces(1000)) // many frames
	gz, zs := grpc.UseCompressor("gzip"), grpc.UseCompressor("zstd")
	tests := []struct {
		name    string
		body    []byte
		options []grpc.CallOption
		want    codes.Code
	}{
		{"good", good, nil, codes.OK},
		{"good, many frames", large, nil, codes.OK},
		{"gzip", good, []grpc.CallOption{gz}, codes.OK},
		{"zstd", good, []grpc.CallOption{zs}, codes.OK},
		{"empty", nil, nil, codes.OK},
		{"unknown field", append(bytesField(99, []byte("x")), good...), nil, codes.OK},
		{"exactly the limit", bytesField(99, make([]byte, limit-5)), nil, codes.OK},
		{"truncated", good[:len(good)-3], nil, codes.InvalidArgument},
		{"wire type 7", []byte{brokenOff}, nil, codes.InvalidArgument},
		{"nested", nested(100_000), nil, codes.InvalidArgument},
		{"too large", make([]byte, limit+1), nil, codes.ResourceExhausted},
		{"gzip bomb", make([]byte, 4<<20), []grpc.CallOption{gz}, codes.ResourceExhausted},
		{"zstd bomb", make([]byte, 4<<20), []grpc.CallOption{zs}, codes.ResourceExhausted},
		{"too large by one after gzip", make([]byte, limit+1), []grpc.CallOption{gz}, codes.ResourceExhausted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answer, err := export(conn, tt.body, tt.options...)
			wantStatus(t, err, tt.want, false)
			if err == nil && len(answer) != 0 {
				t.Errorf("answer %x: partial_success must not be set", answer)
			}
		})
	}
	var answer []byte
	err := conn.Invoke(context.Background(), "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", &good, &answer, grpc.ForceCodecV2(bytesCodec{}))
	wantStatus(t, err, codes.Unimplemented, false)
	if held := r.budget.Used(); held != 0 {
		t.Errorf("%d bytes are still held", held)
	}
}

// What does not decompress for the otlp receiver ends in a tag that no message has, before grpc-go says INTERNAL.
func TestBrokenCompressionIsTheSendersFault(t *testing.T) {
	good := bytes.Repeat([]byte("0123456789"), 10_000)
	for name, stream := range map[string][]byte{"gzip": gzipped(t, good), "zstd": zstded(t, good)} {
		c := encoding.GetCompressor(name)
		for what, b := range map[string][]byte{
			"whole": stream, "half": stream[:len(stream)/2], "none": nil, "garbage": []byte("garbage, garbage, garbage"),
		} {
			src, err := c.Decompress(bytes.NewReader(b))
			if err != nil {
				t.Fatalf("%s, %s: %v", name, what, err)
			}
			got, err := mem.ReadAll(src, &inflight.Pool)
			if err != nil {
				t.Errorf("%s, %s: %v", name, what, err)
			}
			data := got.Materialize()
			got.Free()
			if err := src.(io.Closer).Close(); err != nil {
				t.Errorf("%s, %s: %v", name, what, err)
			}
			ok := bytes.Equal(data, good)
			broken := len(data) > 0 && data[len(data)-1] == brokenOff
			if ok != (what == "whole") || broken != (what != "whole" && (name != "zstd" || what != "none")) {
				t.Errorf("%s, %s: %d bytes, whole %v, marked %v", name, what, len(data), ok, broken)
			}
		}
	}
	if len(decompressing) != 0 {
		t.Errorf("%d messages are still being decompressed", len(decompressing))
	}
}

// Many bombs at once are given up a few at a time: no more is held than those at work hold.
func TestGRPCBombsAreBounded(t *testing.T) {
	cfg := localConfig()
	cfg.Protocols.GRPC.Get().MaxRecvMsgSizeMiB = 4
	r, _ := started(t, cfg, consumertest.NewNop())
	conn := dial(t, r, grpc.WithCompressor(gzippedBefore{})) //nolint:staticcheck // nothing else lets a client compress on its own
	bomb := bytes.Repeat(gzipped(t, make([]byte, 1<<20)), 64)
	defer debug.SetGCPercent(debug.SetGCPercent(10)) // what is let go of is not what is asked for
	before, _ := heap()
	var calls sync.WaitGroup
	for range 32 {
		calls.Go(func() {
			_, err := export(conn, bomb)
			wantStatus(t, err, codes.ResourceExhausted, false)
		})
	}
	done := make(chan struct{})
	go func() { calls.Wait(); close(done) }()
	var peak uint64
	for {
		if now, _ := heap(); now > peak {
			peak = now
		}
		select {
		case <-done:
			// 4 MiB for each processor, and garbage; all at once they would hold 128 MiB.
			if grown := int64(peak) - int64(before); grown > 64<<20 {
				t.Errorf("grew by %d MiB", grown>>20)
			}
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// gzippedBefore lets a client send what is gzip already.
type gzippedBefore struct{}

func (gzippedBefore) Type() string { return "gzip" }

func (gzippedBefore) Do(w io.Writer, p []byte) error {
	_, err := w.Write(p)
	return err
}

func TestGRPCBudget(t *testing.T) {
	g := newGate()
	cfg := forwarding()
	cfg.MaxInFlightMiB = 16
	r, _ := started(t, cfg, g)
	conn := dial(t, r)
	body := oneSpan(bytesField(5, bytes.Repeat([]byte("n"), 4<<20-100)))
	results := make(chan error, 8)
	for range 8 {
		go func() {
			_, err := export(conn, body)
			results <- err
		}()
	}
	for range 4 {
		<-g.arrived
	}
	for range 4 {
		wantStatus(t, <-results, codes.ResourceExhausted, true)
	}
	close(g.open)
	for range 4 {
		wantStatus(t, <-results, codes.OK, false)
	}
	if held := r.budget.Used(); held != 0 {
		t.Errorf("%d bytes are still held", held)
	}
}

// A call without the token is refused before its message is read.
func TestGRPCUnauthenticatedIsNotRead(t *testing.T) {
	cfg := localConfig()
	cfg.AuthToken = "t"
	cfg.Protocols.GRPC.Get().MaxRecvMsgSizeMiB = 1
	r, _ := started(t, cfg, consumertest.NewNop())
	_, err := export(dial(t, r), make([]byte, 2<<20)) // would be too large
	wantStatus(t, err, codes.Unauthenticated, false)
}

// Eight large requests at once, in many frames each, are all taken and leave little behind.
func TestConcurrentLargeRequests(t *testing.T) {
	r, _ := started(t, localConfig(), consumertest.NewNop())
	conn := dial(t, r)
	body := oneSpan(bytesField(5, bytes.Repeat([]byte("n"), 8<<20-100)))
	before, _ := heap()
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			_, err := export(conn, body)
			if c := status.Code(err); c != codes.OK && c != codes.ResourceExhausted {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	after, _ := heap()
	if grown := int64(after) - int64(before); grown > 400<<20 {
		t.Errorf("grew by %d MiB", grown>>20)
	}
	runtime.KeepAlive(body)
}

// BenchmarkExportGRPC sends requests of the size of 100 spans over loopback, 16 at once; the client is part of what is
// measured, decoding is not: a field that nobody knows has the size.
func BenchmarkExportGRPC(b *testing.B) {
	r, _ := started(b, localConfig(), consumertest.NewNop())
	body := bytesField(99, protobufOf(b, someTraces(100)))
	conn, err := grpc.NewClient(r.grpcAddr.String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	for _, compression := range []string{"identity", "gzip", "zstd"} {
		b.Run(compression, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := export(conn, body, grpc.UseCompressor(compression)); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkExport is what is done for a call above HTTP/2: admit it, hand its bytes over, answer. Decoding is left out, as in
// BenchmarkExportGRPC.
func BenchmarkExport(b *testing.B) {
	r, _ := started(b, localConfig(), consumertest.NewNop())
	h := exportHandler{receiver: r, limit: 1 << 20}
	call := unary.Call{Context: context.Background(), Path: exportMethod, Message: bytesField(99, protobufOf(b, someTraces(100)))}
	b.ReportAllocs()
	b.SetBytes(int64(len(call.Message)))
	for b.Loop() {
		if refused := h.Admit(&call); refused != nil {
			b.Fatal(refused)
		}
		if _, refused := h.Handle(&call); refused != nil {
			b.Fatal(refused)
		}
	}
}
