//go:build e2e

package e2e

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// command runs the collector with arguments to its end, without any of our environment, and returns what it printed.
func command(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out, errOut strings.Builder
	cmd := exec.CommandContext(ctx, collectorBinary, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), &out, &errOut
	err = cmd.Run()
	if ctx.Err() != nil {
		err = errors.New("did not end within 20 s")
	}
	return out.String(), errOut.String(), err
}

// printConfig writes what print-config prints to a file and returns its name.
func printConfig(t *testing.T) string {
	t.Helper()
	config, stderr, err := command(t, "print-config")
	if err != nil {
		t.Fatalf("print-config: %v\n%s", err, stderr)
	}
	return writeFile(t, "config.yaml", config)
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestCommands runs what every Collector distribution has, on the built-in configuration.
func TestCommands(t *testing.T) {
	file := printConfig(t)
	config, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"${env:FAULTLINE_OTLP_GRPC:-127.0.0.1:4317}", "${env:FAULTLINE_OTLP_HTTP:-127.0.0.1:4318}",
		"${env:FAULTLINE_HTTP:-127.0.0.1:8420}", "FAULTLINE_DATA_DIR", "FAULTLINE_STORAGE",
	} {
		if !strings.Contains(string(config), want) {
			t.Errorf("print-config lacks %s", want)
		}
	}
	if _, stderr, err := command(t, "validate", "--config", file); err != nil {
		t.Errorf("validate of the printed configuration: %v\n%s", err, stderr)
	}
	components, stderr, err := command(t, "components")
	if err != nil {
		t.Fatalf("components: %v\n%s", err, stderr)
	}
	for _, want := range []string{"faultline", "otlp", "batch", "memory_limiter"} {
		if !strings.Contains(components, want) {
			t.Errorf("components lacks %s", want)
		}
	}
}

// TestBadConfiguration changes the built-in configuration by one mistake: the collector refuses to start, soon, and
// says where.
func TestBadConfiguration(t *testing.T) {
	tests := []struct {
		name, override string
		want           []string
	}{
		{"unknown key", "receivers:\n  faultline:\n    no_such_key: 1\n", []string{"override.yaml", ":3", "no_such_key"}},
		{"unknown component", "exporters:\n  no_such_exporter:\nservice:\n  pipelines:\n    traces:\n      exporters: [no_such_exporter]\n", []string{"no_such_exporter"}},
		{"wrong type", "processors:\n  batch:\n    timeout: [soon]\nservice:\n  pipelines:\n    traces:\n      processors: [batch]\n", []string{"timeout"}},
		{"no YAML", "receivers: [\n", []string{"override.yaml"}},
	}
	base := printConfig(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			override := writeFile(t, "override.yaml", tt.override)
			_, stderr, err := command(t, "--config", base, "--config", override)
			if exit := new(exec.ExitError); !errors.As(err, &exit) {
				t.Fatalf("the collector ended with %v, want a refusal to start", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("the refusal does not name %q:\n%s", want, stderr)
				}
			}
			if strings.Contains(stderr, "goroutine ") {
				t.Errorf("the collector panicked:\n%s", stderr)
			}
		})
	}
}

// TestStandardPipeline feeds Faultline the Collector's own way: the otlp receiver, a standard processor, our exporter.
// It ends in the same map.
func TestStandardPipeline(t *testing.T) {
	override := writeFile(t, "override.yaml", `
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "${env:FAULTLINE_OTLP_GRPC}"}
      http: {endpoint: "${env:FAULTLINE_OTLP_HTTP}"}
processors:
  batch: {timeout: 200ms}
exporters:
  faultline: {}
service:
  pipelines:
    traces: {receivers: [otlp], processors: [batch], exporters: [faultline]}
`)
	c := newCollector(t, "--config", printConfig(t), "--config", override)
	const n = 200
	for first := range uint64(5) {
		if status := c.export(t, calls("caller", "callee", first*n, n)); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
	}
	eventually(t, 20*time.Second, 200*time.Millisecond, func() error {
		g, err := c.graph()
		if err != nil {
			return err
		}
		return g.check([]wantEdge{{"caller", "callee", "http", 5 * n, 0, 0}})
	})
}
