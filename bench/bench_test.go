//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"

	"faultline/internal/sim"
)

// The test binary doubles as a peer: started the way a peer is, it decodes OTLP
// until SIGTERM.
func TestMain(m *testing.M) {
	endpoint := os.Getenv("PEER_ENDPOINT")
	if endpoint == "" || len(os.Args) < 2 || strings.HasPrefix(os.Args[1], "-") {
		os.Exit(m.Run())
	}
	lis, err := net.Listen("tcp", endpoint)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	srv := grpc.NewServer()
	ptraceotlp.RegisterGRPCServer(srv, &sink{})
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		srv.GracefulStop()
	}()
	if err := srv.Serve(lis); err != nil {
		os.Exit(1)
	}
}

type sink struct {
	ptraceotlp.UnimplementedGRPCServer
}

func (*sink) Export(context.Context, ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	return ptraceotlp.NewExportResponse(), nil
}

func TestRunMeasuresServersInTurn(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var out bytes.Buffer
	// Everything on one core: the figures are not looked at.
	o := options{peers: self, services: []int{10}, rounds: 2, spans: 1000, passSpans: 1000, streams: 2}
	if err := run(t.Context(), o, &out); err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(out.String()) {
		if name, rest, _ := strings.Cut(line, " "); name == nopName || name == serviceGraphName {
			rows = append(rows, name)
			var cpu float64
			if _, err := fmt.Sscan(strings.TrimSpace(rest), &cpu); err != nil || cpu <= 0 || cpu > 1000 {
				t.Errorf("%s: CPU seconds per million spans are not plausible: %v", name, line)
			}
		}
	}
	if got := strings.Join(rows, " "); got != nopName+" "+serviceGraphName {
		t.Errorf("rows %q in\n%s", got, &out)
	}
}

func TestRunTellsWhyAServerDidNotStart(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	o := options{peers: "/bin/false", services: []int{10}, rounds: 1, spans: 1, passSpans: 1000, streams: 1}
	err := run(t.Context(), o, new(bytes.Buffer))
	if err == nil || !strings.Contains(err.Error(), "exited before it was ready") {
		t.Errorf("error %v", err)
	}
}

func TestReport(t *testing.T) {
	costs := map[string][]cost{
		faultlineName:    {{cpu: 1, through: 2, wrong: 0}, {cpu: 3, through: 2, wrong: 4}, {cpu: 2, through: 2, wrong: 0}},
		nopName:          {{cpu: 4, through: 4, wrong: -1}},
		serviceGraphName: {{cpu: 5, through: 5, wrong: -1}, {cpu: 11, through: 11, wrong: -1}},
	}
	var out bytes.Buffer
	exceeded := report(&out, []server{faultline(""), nop(""), serviceGraph("")}, costs, options{limitNop: 0.6, limitSG: 0.2})
	for _, want := range []string{"faultline/nop: 0.500 (until stopped: 0.500)", "faultline/servicegraph: 0.250 (until stopped: 0.250)", "edges with wrong counts: 4"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("report does not say %q:\n%s", want, &out)
		}
	}
	if got := strings.Join(exceeded, "; "); got != "faultline: 4 edges with wrong counts; faultline/servicegraph is 0.250, above 0.200" {
		t.Errorf("exceeded: %s", got)
	}
}

func TestCountWrongEdges(t *testing.T) {
	cfg := sim.DefaultLoad(10)
	cfg.Spans = 2000
	load, err := sim.NewLoad(cfg)
	if err != nil {
		t.Fatal(err)
	}
	truth := load.Truth()
	const passes = 3
	type edge struct {
		Source   string `json:"source"`
		Target   string `json:"target"`
		Protocol string `json:"protocol"`
		Calls    int64  `json:"calls"`
		Errors   int64  `json:"errors"`
		Retries  int64  `json:"retries"`
	}
	var shown []edge
	for _, e := range truth.Edges() {
		tr := truth.Edge(e)
		shown = append(shown, edge{e.Source, e.Target, e.Protocol, passes * tr.Calls, passes * tr.Errors, passes * tr.Retries})
	}
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		edges := shown
		if asked++; asked == 1 { // the first answer comes too early
			edges = shown[1:]
		}
		if r.URL.Query().Get("env") != "production" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"edges": edges})
	}))
	defer srv.Close()
	if wrong, err := countWrongEdges(t.Context(), srv.URL, truth, passes); wrong != 0 || err != nil {
		t.Errorf("wrong %d, error %v", wrong, err)
	}
	if asked != 2 {
		t.Errorf("asked %d times, want twice", asked)
	}
}
