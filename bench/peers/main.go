// Command peers is the OpenTelemetry Collector that Faultline is measured
// against: the otlp receiver, then either nothing (nop) or the servicegraph
// connector, which is the Collector's own way to a service graph:
//
//	PEER_ENDPOINT=127.0.0.1:4317 peers nop|servicegraph
//
// The configurations are the YAML files beside this one.
//
// It lives in a module of its own, so that nothing here ends up in Faultline and
// Faultline's dependencies do not decide what is measured.
package main

import (
	_ "embed"
	"log"
	"os"
	"strings"

	"github.com/open-telemetry/opentelemetry-collector-contrib/connector/servicegraphconnector"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/envprovider"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/connector"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/nopexporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

var (
	//go:embed nop.yaml
	nop string
	//go:embed servicegraph.yaml
	servicegraph string
)

func main() {
	config, ok := map[string]string{"nop": nop, "servicegraph": servicegraph}[strings.Join(os.Args[1:], " ")]
	if !ok {
		log.Fatal("usage: peers nop|servicegraph")
	}
	cmd := otelcol.NewCommand(otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "peers", Description: "Collector to measure against", Version: "v0.162.0"},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			ProviderFactories: []confmap.ProviderFactory{envprovider.NewFactory(), yamlprovider.NewFactory()},
			DefaultScheme:     "env",
		}},
	})
	cmd.SetArgs([]string{"--config", "yaml:" + config})
	if err := cmd.Execute(); err != nil {
		log.Fatal(err)
	}
}

func factories() (f otelcol.Factories, err error) {
	if f.Receivers, err = otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory()); err != nil {
		return f, err
	}
	if f.Exporters, err = otelcol.MakeFactoryMap[exporter.Factory](nopexporter.NewFactory()); err != nil {
		return f, err
	}
	if f.Connectors, err = otelcol.MakeFactoryMap[connector.Factory](servicegraphconnector.NewFactory()); err != nil {
		return f, err
	}
	f.Telemetry = otelconftelemetry.NewFactory()
	return f, nil
}
