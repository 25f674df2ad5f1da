package web

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden pins every answer's shape and figures.
func TestGolden(t *testing.T) {
	s := newServer(t, shopStore(t), func(s *Settings) { s.Doctor = examined })
	for _, test := range []struct{ name, path string }{
		{"graph", "/api/v1/graph"},
		{"graph_live", "/api/v1/graph?from=now-1m"},
		{"graph_staging", "/api/v1/graph?env=staging"},
		{"graph_around_payment", "/api/v1/graph?service=shop/payment&depth=1"},
		{"graph_empty", "/api/v1/graph?from=2020-01-01T00:00:00Z&to=2020-01-01T01:00:00Z"},
		{"edge", "/api/v1/edges/" + checkoutPayment.ID()},
		{"edge_one_sided", "/api/v1/edges/" + paymentBank.ID() + "?from=now-30s"},
		{"series", "/api/v1/edges/" + checkoutPayment.ID() + "/series?from=now-8m&step=1m"},
		{"nodes_series", "/api/v1/series?from=now-5m"},
		{"service", "/api/v1/services/shop/payment"},
		{"service_database", "/api/v1/services/" + url.PathEscape("db:postgresql/orders@db1")},
		{"service_entry", "/api/v1/services/shop/front"},
		{"service_queue", "/api/v1/services/" + url.PathEscape("queue:kafka/mails")},
		{"edge_queue", "/api/v1/edges/" + mailsMailer.ID()},
		{"findings", "/api/v1/findings"},
		{"findings_past", "/api/v1/findings?from=now-1h&env=prod&rule=no_backoff"},
		{"findings_severe", "/api/v1/findings?level=severe&service=shop/payment"},
		{"traces", "/api/v1/traces"},
		{"traces_only_error", "/api/v1/traces?only=error&edge=" + checkoutPayment.ID()},
		{"trace", "/api/v1/traces/5b8efff798038103d269b633813fc60c"},
		{"doctor", "/api/v1/doctor"},
		{"doctor_staging", "/api/v1/doctor?env=staging"},
		{"status", "/api/v1/status"},
		{"openapi", "/api/openapi.json"},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer, body := ask(t, s, test.path)
			if answer.StatusCode != http.StatusOK {
				t.Fatalf("%s: %s\n%s", test.path, answer.Status, body)
			}
			var got bytes.Buffer
			if err := json.Indent(&got, []byte(body), "", "  "); err != nil {
				t.Fatalf("not JSON: %v\n%s", err, body)
			}
			if got.Bytes()[got.Len()-1] != '\n' {
				got.WriteByte('\n')
			}
			golden(t, test.name+".json", got.Bytes())
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (−want +got; -update rewrites it):\n%s", name, diff)
	}
}
