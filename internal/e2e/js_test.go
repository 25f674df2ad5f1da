//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestJavaScript runs three services on the OpenTelemetry JS SDK, each sending over another of OTLP's three roads. Every
// caller makes one more try after a failure, and price always fails on broken items: the retries multiply on the way
// down.
func TestJavaScript(t *testing.T) {
	modules := client(t, "js", "node_modules")
	service, err := os.ReadFile(filepath.Join("testdata", "js", "service.js"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir() // node looks for modules from the script's own folder upwards
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "service.js"), service, 0o600),
		os.Symlink(modules, filepath.Join(dir, "node_modules")),
	); err != nil {
		t.Fatal(err)
	}

	c := newCollector(t)
	start := func(name, next string, env ...string) (base string) {
		output := run(t, dir, append(env,
			"NAME="+name, "NEXT="+next,
			"NODE_OPTIONS=--require @opentelemetry/auto-instrumentations-node/register",
			"OTEL_SERVICE_NAME="+name,
			"OTEL_METRICS_EXPORTER=none", "OTEL_LOGS_EXPORTER=none",
			// Without those that ask a cloud's metadata address.
			"OTEL_NODE_RESOURCE_DETECTORS=env,host,os,process,serviceinstance",
		), "node", "service.js")
		eventually(t, 60*time.Second, 100*time.Millisecond, func() error {
			for line := range strings.Lines(output()) {
				if url, ok := strings.CutPrefix(line, "listening "); ok {
					base = strings.TrimSpace(url)
					return nil
				}
			}
			return fmt.Errorf("%s does not listen", name)
		})
		return base
	}
	price := start("price", "", "OTEL_EXPORTER_OTLP_PROTOCOL=http/json", "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+c.otlp)
	stock := start("stock", price, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+c.grpc)
	shop := start("shop", stock, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+c.otlp,
		"OTEL_EXPORTER_OTLP_COMPRESSION=gzip")

	buy := func(item string) (status int) {
		a, err := do(t.Context(), http.MethodGet, shop+"/items/"+item, nil)
		if err != nil {
			t.Fatal(err)
		}
		return a.status
	}
	const good, broken = 12, 8
	for i := range good {
		if status := buy(fmt.Sprintf("good%d", i)); status != http.StatusOK {
			t.Fatalf("a good item: status %d", status)
		}
	}
	for i := range broken {
		if status := buy(fmt.Sprintf("broken%d", i)); status != http.StatusServiceUnavailable {
			t.Fatalf("a broken item: status %d", status)
		}
	}

	settled(t, func() error {
		g, err := c.graph()
		if err != nil {
			return err
		}
		if err := g.check([]wantEdge{
			{"user", "shop", "http", good + broken, broken, 0},
			{"shop", "stock", "http", good + 2*broken, 2 * broken, broken},
			{"stock", "price", "http", good + 4*broken, 4 * broken, 2 * broken},
		}); err != nil {
			return err
		}
		for _, id := range []string{"shop", "stock", "price"} {
			n, err := g.node(id)
			if err != nil {
				return err
			}
			if n.Kind != "service" {
				return fmt.Errorf("node %s is a %s, want a service", id, n.Kind)
			}
		}
		// The caller waits at least as long as the callee works.
		for _, e := range g.Edges[1:] {
			if e.Source == "user" {
				continue
			}
			if err := errors.Join(within("p50", e.P50, 0.05, 1000), within("the callee's p50", e.Server.P50, 0.02, *e.P50*1.05)); err != nil {
				return fmt.Errorf("%s → %s: %w", e.Source, e.Target, err)
			}
		}
		return nil
	})
}
