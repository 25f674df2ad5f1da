// Command collector is an OpenTelemetry Collector with Faultline in it: it takes OTLP traces in, keeps the dependency
// graph, and serves pages and API, all in one process. With no argument it runs the built-in configuration, which
// print-config prints; --config, --set, validate and components work as in every Collector distribution.
//
// A configuration that is wrong is refused with exit code 1 and file, line and key of everything that is wrong.
package main

import (
	"context"
	"fmt"
	"os"
)

func main() {
	if err := newCommand().ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
