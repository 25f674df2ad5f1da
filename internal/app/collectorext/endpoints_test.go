package collectorext

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOTLPEndpoints(t *testing.T) {
	type m = map[string]any
	conf := m{
		"receivers": m{
			"faultline": m{"protocols": m{"grpc": m{"endpoint": "0.0.0.0:4317"}, "http": m{"endpoint": "127.0.0.1:4318"}}},
			"otlp/two":  m{"protocols": m{"grpc": m{"endpoint": "127.0.0.1:5317"}, "http": nil}},
			"otlp/not":  m{"protocols": m{"grpc": m{"endpoint": "127.0.0.1:6317"}}},
			"zipkin":    m{"endpoint": "127.0.0.1:9411"},
			"nothing":   nil,
		},
		"service": m{"pipelines": m{
			"traces":     m{"receivers": []any{"faultline", "zipkin", "nothing"}},
			"traces/two": m{"receivers": []any{"faultline", "otlp/two"}},
			"logs":       m{"receivers": []any{"otlp/not"}},
			"traces/nil": nil,
		}},
	}
	want := []endpoint{
		{"OTLP/gRPC", "127.0.0.1:5317"}, {"OTLP/gRPC", "localhost:4317"}, {"OTLP/HTTP", "http://127.0.0.1:4318"},
	}
	if diff := cmp.Diff(want, otlpEndpoints(conf), cmp.AllowUnexported(endpoint{})); diff != "" {
		t.Errorf("want(-) got(+):\n%s", diff)
	}
	if got := otlpEndpoints(nil); len(got) > 0 {
		t.Errorf("from nothing: %v", got)
	}
}
