package main

import (
	_ "embed"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/envprovider"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/otelcol"

	"faultline/internal/app"
)

// defaultYAML is the configuration that is used when none is given.
//
//go:embed default.yaml
var defaultYAML string

// settings returns how the Collector is put together, reading its configuration through from.
func settings(from *sources) otelcol.CollectorSettings {
	return otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "collector", Description: "Faultline, a live map of service dependencies", Version: app.BuildVersion()},
		Factories: factories,
		// main ends the context on a signal, from the beginning on.
		DisableGracefulShutdown: true,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			ProviderFactories: []confmap.ProviderFactory{
				envprovider.NewFactory(), from.record(fileprovider.NewFactory()), from.record(yamlprovider.NewFactory()),
			},
			DefaultScheme: "env",
		}},
	}
}

// newCommand returns the Collector's command line with the built-in configuration and our own subcommands.
func newCommand() *cobra.Command {
	from := &sources{}
	root := otelcol.NewCommand(settings(from))
	root.Short = "Faultline: OTLP traces in, a live map of service dependencies out"
	root.Long = root.Short + `.

With no argument everything runs in one process, with the configuration that print-config prints.`
	root.SilenceErrors = true
	root.RunE = refined(root.RunE, from)
	for _, sub := range root.Commands() {
		switch sub.Name() {
		case "validate":
			sub.RunE = refined(sub.RunE, from)
		case "print-config": // of which the Collector has one for a resolved configuration, behind a feature gate
			root.RemoveCommand(sub)
		}
	}
	root.AddCommand(newPrintConfigCommand(), newDemoCommand(from))
	return root
}

// refined makes a command of the Collector use the built-in configuration unless told otherwise, and say where in a
// configuration something is wrong.
func refined(run func(*cobra.Command, []string) error, from *sources) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if config := cmd.Flags().Lookup("config"); !config.Changed {
			if err := config.Value.Set("yaml:" + defaultYAML); err != nil {
				return err
			}
		}
		if err := run(cmd, args); err != nil {
			return from.locate(err)
		}
		return nil
	}
}

func newPrintConfigCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "print-config",
		Short: "Print the built-in configuration, to start an own one from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write([]byte(defaultYAML))
			return err
		},
	}
}
