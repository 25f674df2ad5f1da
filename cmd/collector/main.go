// Command collector is an OpenTelemetry Collector with Faultline in it: it takes OTLP traces in, keeps the dependency
// graph, and serves pages and API, all in one process. With no argument it runs the built-in configuration, which
// print-config prints; --config, --set, validate and components work as in every Collector distribution.
//
// A configuration that is wrong is refused with exit code 1 and file, line and key of everything that is wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// Signals are minded from the beginning, not only once the Collector runs. A SIGHUP before that means nothing: what
	// it would read again has just been read.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	err := newCommand().ExecuteContext(ctx)
	early := ctx.Err() != nil && errors.Is(err, context.Canceled) // stopped while it started
	stop()
	if err != nil && !early {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
