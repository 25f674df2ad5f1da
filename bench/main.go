//go:build linux

// Command bench measures what a span costs Faultline, and what it costs an OpenTelemetry Collector that only decodes it
// (nop) or that makes a service graph of it with its own connector (servicegraph). With -mode it measures instead how
// old the live map is, how memory grows under a steady load, or how much of it names without end can take; those modes
// fail on wrong figures, never on slow ones, and need neither a core of their own nor peers.
//
// For the cost, server and load generator each have a core of their own and the server runs with GOMAXPROCS=1. The figure is the
// server process's CPU time (user and system) per million spans, the median over rounds in which the servers take
// turns. Only ratios within one run mean anything; a busy machine spoils even those. It needs Linux, two cores and
// nothing else; `make bench` builds the servers and runs it.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"faultline/internal/sim"
)

type options struct {
	collector, peers       string
	services               []int
	rounds                 int
	spans                  int // per run
	passSpans              int // in a pass of the load; 0: the load's default
	streams                int
	clientCore, serverCore int
	limitNop, limitSG      float64

	probes  int           // calls whose way to the live map is timed
	steady  time.Duration // of the load under which memory is watched
	hostile int           // distinct names and ids of each kind
	rate    float64       // spans per second of a steady load
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	var o options
	var services string
	var quick bool
	var mode string
	flag.StringVar(&mode, "mode", "cost", "what to measure: `cost`, fresh (from a span to the live map), steady (memory over time) or hostile (memory under names without end)")
	flag.IntVar(&o.probes, "probes", 120, "fresh: calls to time")
	flag.DurationVar(&o.steady, "for", 3*time.Minute, "steady: how long, at most 50m")
	flag.IntVar(&o.hostile, "names", 1_000_000, "hostile: distinct span names, service names and trace ids")
	flag.Float64Var(&o.rate, "rate", 5000, "fresh, steady, hostile: spans per second")
	flag.StringVar(&o.collector, "collector", "", "Faultline's collector `binary`; without it only the peers are measured")
	flag.StringVar(&o.peers, "peers", "", "the peers' `binary`; without it only Faultline is measured")
	flag.StringVar(&services, "services", "10,100,1000", "comma-separated `numbers` of services")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds in which every server runs once")
	flag.IntVar(&o.spans, "spans", 1_000_000, "spans per run, at least")
	flag.IntVar(&o.streams, "streams", 8, "requests in flight")
	flag.IntVar(&o.clientCore, "client-core", 0, "core of the load generator")
	flag.IntVar(&o.serverCore, "server-core", 1, "core of the server")
	flag.Float64Var(&o.limitNop, "max-nop", 0, "fail if ours/nop is above this `ratio` (0: never)")
	flag.Float64Var(&o.limitSG, "max-servicegraph", 0, "fail if ours/servicegraph is above this `ratio` (0: never)")
	flag.BoolVar(&quick, "quick", false, "one round of 200000 spans: shows that it works, not what it costs")
	flag.Parse()
	if quick {
		o.rounds, o.spans = 1, 200_000
	}
	modes := map[string]func(context.Context, options, io.Writer) error{"cost": run, "fresh": measureFreshness, "steady": measureSteady, "hostile": measureHostile}
	measure, ok := modes[mode]
	if !ok {
		log.Fatalf("mode: %q is not cost, fresh, steady or hostile", mode)
	}
	for s := range strings.SplitSeq(services, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 2 {
			log.Fatalf("services: %q is not a number above 1", s)
		}
		o.services = append(o.services, n)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := measure(ctx, o, os.Stdout)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	servers, err := chooseServers(o)
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(1)
	if err := pin(o.clientCore); err != nil {
		return fmt.Errorf("pin load generator to core %d: %w", o.clientCore, err)
	}
	fmt.Fprintf(out, "CPU seconds per million spans of the server process, median of %d rounds (lowest to highest)\n", o.rounds)
	fmt.Fprintf(out, "load average before: %s\n", loadAverage())
	var exceeded []string
	for _, n := range o.services {
		cfg := sim.DefaultLoad(n)
		if o.passSpans > 0 {
			cfg.Spans = o.passSpans
		}
		load, err := sim.NewLoad(cfg)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "\n%d services, %d edges, %d-span requests, %d bytes and %.1f attributes a span\n", n,
			len(load.Truth().Edges()), load.Spans()/load.Requests(), load.Bytes()/load.Spans(), float64(load.Attributes())/float64(load.Spans()))
		costs := map[string][]cost{}
		for range o.rounds {
			for _, s := range servers {
				c, err := measure(ctx, s, load, o)
				if err != nil {
					return fmt.Errorf("%s at %d services: %w", s.name, n, err)
				}
				costs[s.name] = append(costs[s.name], c)
			}
		}
		exceeded = append(exceeded, report(out, servers, costs, o)...)
	}
	if len(exceeded) > 0 {
		return errors.New(strings.Join(exceeded, "; "))
	}
	return nil
}

// loadAverage returns the machine's, over 1, 5 and 15 minutes.
func loadAverage() string {
	avg, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(avg))[:3], " ")
}

func chooseServers(o options) ([]server, error) {
	var servers []server
	for _, s := range []struct {
		bin  string
		make func(string) server
	}{{o.collector, faultline}, {o.peers, nop}, {o.peers, serviceGraph}} {
		if s.bin == "" {
			continue
		}
		abs, err := filepath.Abs(s.bin)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(abs); err != nil {
			return nil, err
		}
		servers = append(servers, s.make(abs))
	}
	if len(servers) == 0 {
		return nil, errors.New("nothing to measure: give -collector, -peers or both")
	}
	return servers, nil
}

// cost is what one run of a server showed.
type cost struct {
	cpu     float64 // CPU seconds per million spans, from the first span to half a second after the last answer
	through float64 // the same until the process has stopped: what was put off is in it
	rate    float64 // spans per second
	peak    int64   // most resident memory, in bytes
	wrong   int     // edges that do not show the true counts; -1: not asked
}

// measure runs the server once: a pass of the load to warm it up, then whole
// passes that count.
func measure(ctx context.Context, s server, load *sim.Load, o options) (c cost, err error) {
	p, err := start(ctx, s, o.serverCore)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, p.kill()) }()
	client, err := sim.DialGRPC(p.otlp, 2)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	passes := 1
	if _, err := drive(ctx, client, load, 1, o.streams, 0); err != nil {
		return c, err
	}
	before, err := p.cpu()
	if err != nil {
		return c, err
	}
	began := time.Now()
	counted := max(1, (o.spans+load.Spans()-1)/load.Spans())
	passes += counted
	sent, err := drive(ctx, client, load, counted, o.streams, 0)
	if err != nil {
		return c, err
	}
	took := time.Since(began)
	select {
	case <-ctx.Done():
		return c, ctx.Err()
	case <-time.After(500 * time.Millisecond):
	}
	after, err := p.cpu()
	if err != nil {
		return c, err
	}
	if c.peak, err = p.peakMemory(); err != nil {
		return c, err
	}
	c.wrong = -1
	if s.graph != nil {
		if c.wrong, err = countWrongEdges(ctx, s.graph(p), load.Truth(), int64(passes)); err != nil {
			return c, err
		}
	}
	total, err := p.stop()
	if err != nil {
		return c, err
	}
	millions := float64(sent.Spans) / 1e6
	c.cpu = (after - before).Seconds() / millions
	c.through = (total - before).Seconds() / millions
	c.rate = float64(sent.Spans) / took.Seconds()
	return c, nil
}

func drive(ctx context.Context, e sim.Exporter, load *sim.Load, passes, streams int, rate float64) (sim.Sent, error) {
	sent, err := sim.Drive(ctx, e, load, sim.DriveConfig{Streams: streams, Requests: passes * load.Requests(), Rate: rate})
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && sent.Acked != sent.Spans {
		err = fmt.Errorf("%d of %d spans were acknowledged", sent.Acked, sent.Spans)
	}
	return sent, err
}

// report prints the servers' costs and the ratios, and returns what is above
// its limit.
func report(out io.Writer, servers []server, costs map[string][]cost, o options) (exceeded []string) {
	fmt.Fprintf(out, "%-14s %22s %18s %10s %9s\n", "", "CPU s / M spans", "until stopped", "spans/s", "peak MiB")
	for _, s := range servers {
		c := costs[s.name]
		cpu := values(c, func(c cost) float64 { return c.cpu })
		fmt.Fprintf(out, "%-14s %6.2f (%5.2f to %5.2f) %18.2f %10.0f %9.0f", s.name, median(cpu), slices.Min(cpu), slices.Max(cpu),
			median(values(c, func(c cost) float64 { return c.through })),
			median(values(c, func(c cost) float64 { return c.rate })),
			median(values(c, func(c cost) float64 { return float64(c.peak) }))/(1<<20))
		if wrong := slices.MaxFunc(c, func(a, b cost) int { return cmp.Compare(a.wrong, b.wrong) }).wrong; wrong >= 0 {
			fmt.Fprintf(out, "   edges with wrong counts: %d", wrong)
			if wrong > 0 {
				exceeded = append(exceeded, fmt.Sprintf("%s: %d edges with wrong counts", s.name, wrong))
			}
		}
		fmt.Fprintln(out)
	}
	ours := costs[faultlineName]
	for _, peer := range []struct {
		name  string
		limit float64
	}{{nopName, o.limitNop}, {serviceGraphName, o.limitSG}} {
		theirs := costs[peer.name]
		if ours == nil || theirs == nil {
			continue
		}
		cpu := ratio(ours, theirs, func(c cost) float64 { return c.cpu })
		fmt.Fprintf(out, "%s/%s: %.3f (until stopped: %.3f)\n", faultlineName, peer.name, cpu,
			ratio(ours, theirs, func(c cost) float64 { return c.through }))
		if peer.limit > 0 && cpu > peer.limit {
			exceeded = append(exceeded, fmt.Sprintf("%s/%s is %.3f, above %.3f", faultlineName, peer.name, cpu, peer.limit))
		}
	}
	return exceeded
}

func ratio(ours, theirs []cost, of func(cost) float64) float64 {
	return median(values(ours, of)) / median(values(theirs, of))
}

func values(costs []cost, of func(cost) float64) []float64 {
	var vs []float64
	for _, c := range costs {
		vs = append(vs, of(c))
	}
	return vs
}

func median(vs []float64) float64 {
	vs = slices.Sorted(slices.Values(vs))
	return (vs[(len(vs)-1)/2] + vs[len(vs)/2]) / 2
}
