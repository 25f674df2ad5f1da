//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestMetricNames looks for the metrics that dashboards and alarms rely on, on the built binary.
func TestMetricNames(t *testing.T) {
	c := newCollector(t)
	const n = 200
	if status := c.export(t, calls("caller", "callee", 0, n)); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	const edge = `{client="caller",connection_type="",server="callee"}`
	eventually(t, 20*time.Second, 200*time.Millisecond, func() error {
		if _, err := c.graph(); err != nil { // a query that can be timed
			return err
		}
		body, err := c.get("/metrics")
		if err != nil {
			return err
		}
		for _, line := range []string{
			fmt.Sprintf("traces_service_graph_request_total%s %d", edge, n),
			fmt.Sprintf("traces_service_graph_request_failed_total%s 0", edge),
			fmt.Sprintf("traces_service_graph_request_client_seconds_count%s %d", edge, n),
			fmt.Sprintf("traces_service_graph_request_server_seconds_count%s %d", edge, n),
			fmt.Sprintf("faultline_spans_received_total %d", 2*n),
			fmt.Sprintf("faultline_spans_accepted_total %d", 2*n),
			"faultline_spans_late_total 0",
			"faultline_spans_pending ",
			`faultline_requests_total{outcome="ok"} 1`,
			`faultline_flush_seconds_count{outcome="ok"} `,
			`faultline_query_seconds_count{operation="graph"} `,
			"faultline_store_delayed 0",
			"faultline_ready 1",
		} {
			if !strings.Contains(string(body), "\n"+line) {
				return fmt.Errorf("/metrics has no %s", line)
			}
		}
		return nil
	})
}

// TestForward passes spans through one process on to another, by the configuration that the README shows: both have the
// same map.
func TestForward(t *testing.T) {
	behind := newCollector(t)
	t.Setenv("FAULTLINE_FORWARD_TO", behind.grpc)
	front := newCollector(t, "--config", "../../deploy/forward-to-jaeger.yaml")
	const n = 200
	for first := range uint64(5) {
		if status := front.export(t, calls("caller", "callee", first*n, n)); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
	}
	for _, c := range []*collector{front, behind} {
		eventually(t, 20*time.Second, 200*time.Millisecond, func() error {
			g, err := c.graph()
			if err != nil {
				return err
			}
			return g.check([]wantEdge{{"caller", "callee", "http", 5 * n, 0, 0}})
		})
	}
}
