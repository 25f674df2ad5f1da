//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// TestGoSDK sends numbered calls through the Go SDK's own exporters, each combination of road and compression between
// a pair of services of its own, the two halves of every call from different processes' exporters. Counts are exact,
// and so are latencies within the sketch's bound.
func TestGoSDK(t *testing.T) {
	c := newCollector(t)
	roads := map[string]func() (*otlptrace.Exporter, error){
		"grpc": func() (*otlptrace.Exporter, error) {
			return otlptracegrpc.New(t.Context(), otlptracegrpc.WithInsecure(), otlptracegrpc.WithEndpoint(c.grpc))
		},
		"grpc-gzip": func() (*otlptrace.Exporter, error) {
			return otlptracegrpc.New(t.Context(), otlptracegrpc.WithInsecure(), otlptracegrpc.WithEndpoint(c.grpc), otlptracegrpc.WithCompressor("gzip"))
		},
		"http": func() (*otlptrace.Exporter, error) {
			return otlptracehttp.New(t.Context(), otlptracehttp.WithInsecure(), otlptracehttp.WithEndpoint(c.otlp))
		},
		"http-gzip": func() (*otlptrace.Exporter, error) {
			return otlptracehttp.New(t.Context(), otlptracehttp.WithInsecure(), otlptracehttp.WithEndpoint(c.otlp), otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
		},
	}
	const calls, failEvery = 1000, 8
	var want []wantEdge
	for road, exporter := range roads {
		caller, callee := "caller-"+road, "callee-"+road
		providers := map[string]*sdktrace.TracerProvider{}
		for _, service := range []string{caller, callee} {
			exp, err := exporter()
			if err != nil {
				t.Fatal(err)
			}
			providers[service] = sdktrace.NewTracerProvider(
				sdktrace.WithBatcher(exp, sdktrace.WithMaxQueueSize(2*calls), sdktrace.WithBlocking()),
				sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", service))))
		}
		end := time.Now()
		for i := range calls {
			// Call i lasts i+1 ms as its caller sees it, half of that as the callee does.
			took := time.Duration(i+1) * time.Millisecond
			start := end.Add(-took)
			ctx, client := providers[caller].Tracer("e2e").Start(context.Background(), "GET", trace.WithSpanKind(trace.SpanKindClient),
				trace.WithTimestamp(start), trace.WithAttributes(attribute.String("http.request.method", "GET"), attribute.String("server.address", callee)))
			_, server := providers[callee].Tracer("e2e").Start(trace.ContextWithRemoteSpanContext(context.Background(), trace.SpanContextFromContext(ctx)),
				"GET /", trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(start.Add(took/4)), trace.WithAttributes(attribute.String("http.request.method", "GET")))
			status := 200
			if i%failEvery == 0 {
				status = 500
				client.SetStatus(codes.Error, "")
				server.SetStatus(codes.Error, "")
			}
			client.SetAttributes(attribute.Int("http.response.status_code", status))
			server.SetAttributes(attribute.Int("http.response.status_code", status))
			server.End(trace.WithTimestamp(start.Add(took * 3 / 4)))
			client.End(trace.WithTimestamp(end))
		}
		for _, p := range providers {
			if err := p.Shutdown(t.Context()); err != nil {
				t.Fatalf("%s: %v", road, err)
			}
		}
		want = append(want, wantEdge{caller, callee, "http", calls, calls / failEvery, 0})
	}

	eventually(t, 30*time.Second, 200*time.Millisecond, func() error {
		g, err := c.graph()
		if err != nil {
			return err
		}
		return g.check(want)
	})
	g, err := c.graph()
	if err != nil {
		t.Fatal(err)
	}
	const bound = 1.022 // of a quantile, by the sketch's base
	for _, w := range want {
		e, err := g.edge(w.source, w.target)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(
			within("p50", e.P50, 500/bound, 500*bound),
			within("p95", e.P95, 950/bound, 950*bound),
			within("p99", e.P99, 990/bound, 990*bound),
			within("max", e.Max, 1000, 1000),
			within("the callee's p50", e.Server.P50, 250/bound, 250*bound),
		); err != nil {
			t.Error(fmt.Errorf("%s → %s: %w", w.source, w.target, err))
		}
	}
}
