package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/collector/otelcol"

	"faultline/internal/app"
	"faultline/internal/sim"
)

// demoDir is where the demo keeps its data, so that invented services do not mix with real ones.
const demoDir = "./faultline-demo-data"

// maxDemoRate is more than one process simulates and serves.
const maxDemoRate = 10_000

// newDemoCommand returns the command that runs everything together with a simulator that sends spans to it.
func newDemoCommand(from *sources) *cobra.Command {
	var rate float64
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run everything, with a simulated shop that sends spans to it",
		Long: `Run everything, with a simulated shop of some fifteen services, whose faults come and go, that sends spans to it
over OTLP. Data is kept in ` + demoDir + ` unless FAULTLINE_DATA_DIR names another directory.`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
	}
	cmd.Flags().Float64Var(&rate, "rate", 30, "requests of users per second")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !(rate > 0 && rate <= maxDemoRate) { // also when it is not a number
			return fmt.Errorf("--rate: %g is not above 0 and at most %d", rate, maxDemoRate)
		}
		if os.Getenv("FAULTLINE_DATA_DIR") == "" {
			if err := os.Setenv("FAULTLINE_DATA_DIR", demoDir); err != nil {
				return err
			}
		}
		set := settings(from)
		set.ConfigProviderSettings.ResolverSettings.URIs = []string{"yaml:" + defaultYAML}
		collector, err := otelcol.NewCollector(set)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(cmd.Context())
		simulated := make(chan error, 1)
		go func() { simulated <- simulate(ctx, rate) }()
		if err = collector.Run(cmd.Context()); err != nil { // until its context ends
			err = from.locate(err)
		}
		cancel()
		return errors.Join(err, <-simulated)
	}
	return cmd
}

// simulate sends spans until ctx ends, once there is somebody to send them to.
func simulate(ctx context.Context, rate float64) error {
	addr := os.Getenv("FAULTLINE_OTLP_HTTP")
	if addr == "" {
		addr = "127.0.0.1:4318"
	}
	addr = app.Reachable(addr)
	if !listening(ctx, addr) {
		return nil
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutDate}))
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: bearer{os.Getenv("FAULTLINE_AUTH_TOKEN"), transport}}
	script, period := sim.DemoScript()
	err := sim.Run(ctx, sim.Config{Seed: uint64(time.Now().UnixNano()), Rate: rate, Script: script, Period: period},
		sim.NewHTTP("http://"+addr+"/v1/traces", client), log)
	if err != nil {
		return fmt.Errorf("simulate: %w", err)
	}
	return nil
}

// withoutDate shortens the times of a log that is read as it is written.
func withoutDate(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.String(slog.TimeKey, a.Value.Time().Format(time.TimeOnly))
	}
	return a
}

// listening waits until something listens, and reports whether it did before ctx ended.
func listening(ctx context.Context, addr string) bool {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close() == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// bearer adds a token to requests, when there is one.
type bearer struct {
	token string
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.token != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.next.RoundTrip(r)
}
