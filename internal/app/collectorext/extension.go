// Package collectorext runs the application inside an OpenTelemetry Collector, as the extension "faultline": it makes
// the Intake that the receiver and the exporter of this program put spans into, and the App around it. The Collector
// starts extensions before pipelines and stops them after, so that the Intake is there before the first span and what
// was accepted is flushed after the last.
//
// A SIGHUP makes the Collector stop and start every component: the App is a new one then, over the same directory.
package collectorext

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/extension/extensioncapabilities"

	"faultline/graph"
	"faultline/ingest"
	"faultline/internal/app"
)

// Type is the extension's name in configurations.
var Type = component.MustNewType("faultline")

// NewFactory returns the factory of the extension.
func NewFactory() extension.Factory {
	return extension.NewFactory(Type,
		func() component.Config { return DefaultConfig() },
		func(_ context.Context, set extension.Settings, cfg component.Config) (extension.Extension, error) {
			return newExtension(cfg.(*Config), set, os.Stdout), nil
		},
		component.StabilityLevelBeta)
}

// Extension hosts one App.
type Extension struct {
	id      component.ID
	cfg     *Config
	version string
	log     *slog.Logger
	out     io.Writer // for the banner

	endpoints []endpoint
	intake    *ingest.Intake
	app       *app.App
}

// The Collector tells whether the pipelines run, and what they are.
var (
	_ extensioncapabilities.PipelineWatcher       = (*Extension)(nil)
	_ extensioncapabilities.ConfigSnapshotWatcher = (*Extension)(nil)
)

func newExtension(cfg *Config, set extension.Settings, out io.Writer) *Extension {
	return &Extension{id: set.ID, cfg: cfg, version: set.BuildInfo.Version, log: slog.New(newZapHandler(set.Logger.Core())), out: out}
}

// Intake returns where spans go. It is set from Start on.
func (e *Extension) Intake() *ingest.Intake { return e.intake }

// Start makes and starts the App. Its error names the section of the configuration that it comes from.
func (e *Extension) Start(ctx context.Context, _ component.Host) error {
	a, err := app.New(ctx, e.cfg.App, app.Settings{
		NewFeed: func(live *graph.Live) app.Feed {
			e.intake = ingest.NewIntake(e.cfg.Intake.ingest(e.cfg.App.MemoryLimit), live)
			return e.intake
		},
		Version: e.version,
		Logger:  e.log,
	})
	if err != nil {
		return fmt.Errorf("extensions::%s: %w", e.id, err)
	}
	e.app = a
	a.Start()
	return nil
}

// Shutdown stops the App. It may be called without Start, and again.
func (e *Extension) Shutdown(context.Context) error {
	if e.app == nil {
		return nil
	}
	return e.app.Stop()
}

// Ready says that the receivers take spans in, and prints where.
func (e *Extension) Ready() error {
	e.app.ReceivesAt(e.exporterURL("OTLP/gRPC"), e.exporterURL("OTLP/HTTP"))
	e.app.Ready(true)
	_, err := io.WriteString(e.out, e.banner())
	return err
}

// NotReady says that the receivers are about to stop.
func (e *Extension) NotReady() error {
	if e.app != nil { // the Collector also says so when the extension could not start
		e.app.Ready(false)
	}
	return nil
}

// NotifyConfigSnapshot takes from the Collector's configuration where spans are received.
func (e *Extension) NotifyConfigSnapshot(_ context.Context, snapshot extensioncapabilities.ConfigSnapshot) error {
	e.endpoints = otlpEndpoints(snapshot.Effective().ToStringMap())
	return nil
}

// exporterURL returns the first address of a protocol as an exporter's configuration wants it, "" when there is none.
func (e *Extension) exporterURL(name string) string {
	for _, p := range e.endpoints {
		if p.name == name {
			return "http://" + strings.TrimPrefix(p.url, "http://")
		}
	}
	return ""
}

// banner is what a person who started the program needs to know.
func (e *Extension) banner() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Faultline %s\n", e.version)
	fmt.Fprintf(&b, "  %-10s  %s\n", "UI and API", e.app.URL())
	for _, p := range e.endpoints {
		fmt.Fprintf(&b, "  %-10s  %s\n", p.name, p.url)
	}
	return b.String()
}
