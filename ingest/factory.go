package ingest

import (
	"context"
	"errors"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/receiver"
)

// Type is the name of the receiver and of the exporter in a Collector's configuration.
var Type = component.MustNewType("faultline")

// IntakeHost is the extension that owns the process's Intake. The receiver and the exporter look for it among the
// Collector's extensions when they start, which is after the extensions did.
type IntakeHost interface {
	Intake() *Intake
}

// intakeOf returns the Intake of the host's faultline extension. who is named in the error if there is none, or more than
// one: spans would go to any of them.
func intakeOf(host component.Host, who string) (*Intake, error) {
	var found *Intake
	for _, extension := range host.GetExtensions() {
		owner, ok := extension.(IntakeHost)
		if !ok || owner.Intake() == nil {
			continue
		}
		if found != nil {
			return nil, errors.New("the faultline " + who + " needs one faultline extension: there are several in service::extensions")
		}
		found = owner.Intake()
	}
	if found == nil {
		return nil, errors.New("the faultline " + who + " needs the faultline extension: add it under extensions, and to service::extensions")
	}
	return found, nil
}

// NewReceiverFactory returns the factory of the faultline receiver: OTLP over gRPC and HTTP, the fast way in.
func NewReceiverFactory() receiver.Factory {
	return receiver.NewFactory(Type, NewDefaultReceiverConfig, receiver.WithTraces(
		func(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Traces) (receiver.Traces, error) {
			return newReceiver(set, cfg.(*ReceiverConfig), next)
		}, component.StabilityLevelBeta))
}

// NewExporterFactory returns the factory of the faultline exporter: the way in behind other receivers and processors.
func NewExporterFactory() exporter.Factory {
	return exporter.NewFactory(Type, func() component.Config { return &ExporterConfig{} }, exporter.WithTraces(
		func(ctx context.Context, set exporter.Settings, cfg component.Config) (exporter.Traces, error) {
			var e spanExporter
			// No queue: what is taken counts at once, and what is refused goes back to whoever can send it again.
			return exporterhelper.NewTraces(ctx, set, cfg, e.consume,
				exporterhelper.WithStart(e.start),
				exporterhelper.WithTimeout(exporterhelper.TimeoutConfig{Timeout: 0}),
				exporterhelper.WithCapabilities(consumer.Capabilities{MutatesData: false}))
		}, component.StabilityLevelBeta))
}
