package main

import (
	"errors"

	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/debugexporter"
	"go.opentelemetry.io/collector/exporter/nopexporter"
	"go.opentelemetry.io/collector/exporter/otlpexporter"
	"go.opentelemetry.io/collector/exporter/otlphttpexporter"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/extension/zpagesextension"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/batchprocessor"
	"go.opentelemetry.io/collector/processor/memorylimiterprocessor"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"

	"faultline/ingest"
	"faultline/internal/app/collectorext"
)

// factories returns every component that a configuration may name.
func factories() (otelcol.Factories, error) {
	var errs [4]error
	f := otelcol.Factories{Telemetry: otelconftelemetry.NewFactory()} // without which nothing starts
	f.Receivers, errs[0] = otelcol.MakeFactoryMap[receiver.Factory](
		ingest.NewReceiverFactory(),
		otlpreceiver.NewFactory(),
	)
	f.Processors, errs[1] = otelcol.MakeFactoryMap[processor.Factory](
		batchprocessor.NewFactory(),
		memorylimiterprocessor.NewFactory(),
	)
	f.Exporters, errs[2] = otelcol.MakeFactoryMap[exporter.Factory](
		ingest.NewExporterFactory(),
		otlpexporter.NewFactory(),
		otlphttpexporter.NewFactory(),
		debugexporter.NewFactory(),
		nopexporter.NewFactory(),
	)
	f.Extensions, errs[3] = otelcol.MakeFactoryMap[extension.Factory](
		collectorext.NewFactory(),
		zpagesextension.NewFactory(),
	)
	return f, errors.Join(errs[:]...)
}
