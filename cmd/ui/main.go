// Command ui serves pages and API without taking spans in: it reads a store that a collector writes, or wrote. With the
// embedded store that is the data directory of a collector on the same machine, running or stopped; what that collector
// has only in memory, the last second or two, is not seen here.
//
// Every flag has an environment variable, which the collector's built-in configuration reads too.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"faultline/internal/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, getenv func(string) string, out, errs io.Writer) error {
	cfg, err := configure(args, getenv, errs)
	if errors.Is(err, errVersion) {
		_, err = fmt.Fprintf(out, "Faultline %s\n", app.BuildVersion())
		return err
	}
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: slog.LevelWarn}))
	a, err := app.New(ctx, cfg, app.Settings{Version: app.BuildVersion(), Logger: log})
	if err != nil {
		return err
	}
	a.Start()
	_, err = fmt.Fprintf(out, "Faultline %s\n  UI and API  %s\n  reads %s, which a collector writes\n", app.BuildVersion(), a.URL(), cfg.DataDir)
	if err == nil {
		<-ctx.Done()
	}
	return errors.Join(err, a.Stop())
}

// errVersion says that the version was asked for, and nothing else.
var errVersion = errors.New("version")

// configure reads the environment and, over it, the flags.
func configure(args []string, getenv func(string) string, errs io.Writer) (app.Config, error) {
	cfg := app.DefaultConfig()
	assign := func(to *string) func(string) error {
		return func(s string) error {
			*to = s
			return nil
		}
	}
	flags := flag.NewFlagSet("ui", flag.ContinueOnError)
	flags.SetOutput(errs)
	for _, s := range []struct {
		flag, env, usage string
		set              func(string) error
	}{
		{"http", "FAULTLINE_HTTP", "listen `address` of pages, API and WebSocket (127.0.0.1:8420)", assign(&cfg.HTTP)},
		{"data-dir", "FAULTLINE_DATA_DIR", "data `directory` of the collector (./faultline-data)", assign(&cfg.DataDir)},
		{"storage", "FAULTLINE_STORAGE", "`kind` of store (sqlite)", assign((*string)(&cfg.Storage))},
		{"auth-token", "FAULTLINE_AUTH_TOKEN", "`token` that pages, API and WebSocket ask for", assign((*string)(&cfg.AuthToken))},
		{"external-url", "FAULTLINE_EXTERNAL_URL", "base `URL` of links", assign(&cfg.ExternalURL)},
		{"memory-limit", "FAULTLINE_MEMORY_LIMIT", "soft memory limit in `bytes` (512MiB)", func(s string) error {
			return cfg.MemoryLimit.UnmarshalText([]byte(s))
		}},
		{"allow-insecure", "FAULTLINE_ALLOW_INSECURE", "`true` to listen where others reach it without a token", func(s string) (err error) {
			cfg.AllowInsecure, err = strconv.ParseBool(s)
			return err
		}},
	} {
		flags.Func(s.flag, s.usage+" ["+s.env+"]", s.set)
		if value := getenv(s.env); value != "" {
			if err := s.set(value); err != nil {
				return cfg, fmt.Errorf("%s: %w", s.env, err)
			}
		}
	}
	version := flags.Bool("version", false, "print the version")
	if err := flags.Parse(args); err != nil {
		return cfg, err
	}
	if *version {
		return cfg, errVersion
	}
	if flags.NArg() > 0 {
		return cfg, fmt.Errorf("%q: there are only flags, see -help", flags.Arg(0))
	}
	return cfg, nil
}
