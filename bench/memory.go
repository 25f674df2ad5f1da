//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"faultline/internal/sim"
)

const (
	mib = 1 << 20
	// memoryTarget is a quarter above the memory_limit of the built-in configuration, which is a soft one.
	memoryTarget = 512 * mib * 5 / 4
	graphTarget  = time.Second
	sampleEvery  = time.Second
	scrapeEvery  = 15 * time.Second
)

// sample is an amount of memory at a time.
type sample struct {
	minutes, mib float64
}

// samples are what watch saw.
type samples struct {
	resident  []sample
	live      []sample // what a garbage collection left of the heap, by where the next one begins
	allocated []sample // since the process began
}

// measureSteady watches memory under a steady load, scraped as by a Prometheus.
func measureSteady(ctx context.Context, o options, out io.Writer) (err error) {
	p, client, err := startFaultline(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close(), p.kill()) }()
	cfg := sim.DefaultLoad(backgroundOf)
	cfg.Spans = 20_000
	load, err := sim.NewLoad(cfg)
	if err != nil {
		return err
	}
	before, began := loadAverage(), time.Now()
	steady := startBackground(ctx, client, load, o)
	seen, err := watch(ctx, p, began.Add(o.steady))
	took := time.Since(began)
	passes, sendErr := steady.finish()
	if err := errors.Join(err, sendErr); err != nil {
		return err
	}
	wrong, err := countWrongEdges(ctx, "http://"+p.http+"/api/v1/graph", load.Truth(), passes)
	if err != nil {
		return err
	}
	peak, err := p.peakMemory()
	if err != nil {
		return err
	}
	if _, err := p.stop(); err != nil {
		return err
	}
	half := func(all []sample) []sample { return all[len(all)/2:] }
	resident := half(seen.resident)
	fmt.Fprintf(out, "memory over %v of %.0f spans/s, %d services: %.1f MiB half-way, %.1f at the end, slope over the second half %+.2f MiB/min "+
		"(target: flat), peak %d MiB; ",
		took.Round(time.Second), o.rate, backgroundOf, resident[0].mib, resident[len(resident)-1].mib, slope(resident), peak/mib)
	if live := half(seen.live); len(live) > 1 {
		low, high := bounds(live)
		fmt.Fprintf(out, "of it live heap %.0f to %.0f MiB, slope %+.2f MiB/min; %.0f MiB/min allocated; ", low, high, slope(live), slope(half(seen.allocated)))
	}
	fmt.Fprintf(out, "%d spans, %d edges with wrong counts; load average %s before, %s after\n", passes*int64(load.Spans()), wrong, before, loadAverage())
	if wrong > 0 {
		return fmt.Errorf("steady: %d edges with wrong counts", wrong)
	}
	return nil
}

// watch samples memory until then, at least twice.
func watch(ctx context.Context, p *process, until time.Time) (seen samples, err error) {
	began, scraped := time.Now(), time.Now()
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for len(seen.resident) < 2 || time.Now().Before(until) {
		select {
		case <-ctx.Done():
			return seen, ctx.Err()
		case <-p.exited:
			return seen, fmt.Errorf("exited: %w\n%s", p.waited, p.log.Bytes())
		case <-tick.C:
		}
		n, err := p.residentMemory()
		if err != nil {
			return seen, err
		}
		minutes := time.Since(began).Minutes()
		seen.resident = append(seen.resident, sample{minutes, float64(n) / mib})
		if time.Since(scraped) < scrapeEvery {
			continue
		}
		scraped = time.Now()
		metrics, err := scrape(ctx, "http://"+p.http+"/metrics")
		if err != nil {
			return seen, fmt.Errorf("scrape: %w", err)
		}
		percent, ok := metrics["go_gc_gogc_percent"]
		if !ok {
			return seen, errors.New("scrape: no go_gc_gogc_percent")
		}
		live := metrics["go_memstats_next_gc_bytes"] / (1 + percent/100)
		seen.live = append(seen.live, sample{minutes, live / mib})
		seen.allocated = append(seen.allocated, sample{minutes, metrics["go_memstats_alloc_bytes_total"] / mib})
	}
	return seen, nil
}

// scrape returns the metrics without labels, by name.
func scrape(ctx context.Context, url string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	metrics := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || name == "#" || strings.Contains(name, "{") {
			continue
		}
		if metrics[name], err = strconv.ParseFloat(value, 64); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return metrics, lines.Err()
}

// bounds returns the smallest and the largest sample.
func bounds(samples []sample) (low, high float64) {
	low, high = samples[0].mib, samples[0].mib
	for _, s := range samples {
		low, high = min(low, s.mib), max(high, s.mib)
	}
	return low, high
}

// slope is that of the line of least squares through the samples, in MiB a minute.
func slope(samples []sample) float64 {
	var x, y, xx, xy float64
	for _, s := range samples {
		x += s.minutes
		y += s.mib
		xx += s.minutes * s.minutes
		xy += s.minutes * s.mib
	}
	n := float64(len(samples))
	return (n*xy - x*y) / (n*xx - x*x)
}

// attack is one way to make a server remember without end: the i-th spans of it.
type attack struct {
	name  string
	spans func(halves []sim.Half, i uint64, now time.Time) []sim.Half
}

var attacks = []attack{
	{"span names", func(halves []sim.Half, i uint64, now time.Time) []sim.Half {
		return append(halves, sim.Half{Service: "names", Server: true, Route: fmt.Sprintf("/page/%d", i), Trace: i, ID: i, End: now, Duration: time.Millisecond})
	}},
	{"service names", func(halves []sim.Half, i uint64, now time.Time) []sim.Half {
		return append(halves, sim.Half{Service: fmt.Sprintf("service-%d", i), Server: true, Route: "/", Trace: i, ID: i, End: now, Duration: time.Millisecond})
	}},
	{"trace ids with unmatched halves", func(halves []sim.Half, i uint64, now time.Time) []sim.Half {
		h := sim.Half{Service: "caller", Peer: "callee", Route: "/", Trace: i, ID: i, End: now, Duration: time.Millisecond}
		if i%2 == 0 {
			h.Service, h.Peer, h.Server, h.Parent = "callee", "", true, i+1
		}
		return append(halves, h)
	}},
	{"peer names", func(halves []sim.Half, i uint64, now time.Time) []sim.Half {
		return append(halves, sim.Half{Service: "caller", Peer: fmt.Sprintf("host-%d.example", i), Route: "/", Trace: i, ID: i, End: now, Duration: time.Millisecond})
	}},
}

// measureHostile sends names without end, as fast as they are taken, beside a steady load whose edges must stay exact.
func measureHostile(ctx context.Context, o options, out io.Writer) error {
	var errs []error
	for _, a := range attacks {
		if err := a.measure(ctx, o, out); err != nil {
			errs = append(errs, fmt.Errorf("hostile, %s: %w", a.name, err))
		}
	}
	return errors.Join(errs...)
}

func (a attack) measure(ctx context.Context, o options, out io.Writer) (err error) {
	p, client, err := startFaultline(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close(), p.kill()) }()
	cfg := sim.DefaultLoad(10)
	cfg.Spans = 10_000
	load, err := sim.NewLoad(cfg)
	if err != nil {
		return err
	}
	before := loadAverage()
	if _, err := drive(ctx, client, load, 1, o.streams, 0); err != nil { // whoever was there first keeps its name
		return err
	}
	steady := startBackground(ctx, client, load, o)
	began := time.Now()
	err = a.send(ctx, client, uint64(o.hostile))
	took := time.Since(began)
	answer, graphErr := timeGraph(ctx, p)
	passes, sendErr := steady.finish()
	if err = errors.Join(err, graphErr, sendErr); err != nil {
		select {
		case <-p.exited:
			err = errors.Join(err, fmt.Errorf("exited: %w\n%s", p.waited, p.log.Bytes()))
		default:
		}
		return err
	}
	wrong, err := countWrongEdges(ctx, "http://"+p.http+"/api/v1/graph", load.Truth(), passes+1)
	if err != nil {
		return err
	}
	peak, err := p.peakMemory()
	if err != nil {
		return err
	}
	if _, err := p.stop(); err != nil {
		return err
	}
	fmt.Fprintf(out, "memory under %d distinct %s, sent in %v: peak %d MiB (target: at most %d), graph afterwards in %v (target: %v), "+
		"%d of %d good edges with wrong counts; load average %s before, %s after\n",
		o.hostile, a.name, took.Round(100*time.Millisecond), peak/mib, memoryTarget/mib, answer.Round(time.Millisecond), graphTarget,
		wrong, len(load.Truth().Edges()), before, loadAverage())
	if wrong > 0 {
		return fmt.Errorf("%d edges with wrong counts", wrong)
	}
	return nil
}

// send sends n of the attack's spans, a few requests at a time.
func (a attack) send(ctx context.Context, e sim.Exporter, n uint64) error {
	const streams, size = 4, 500
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Uint64
	var sending sync.WaitGroup
	for range streams {
		sending.Go(func() {
			var halves []sim.Half
			for ctx.Err() == nil {
				from := next.Add(size) - size
				if from >= n {
					return
				}
				halves = halves[:0]
				now := time.Now()
				for i := from; i < min(from+size, n); i++ {
					halves = a.spans(halves, i+1, now)
				}
				for i := range halves {
					halves[i].Env = "hostile"
				}
				if err := export(ctx, e, sim.AppendRequest(nil, halves)); err != nil {
					cancel(err)
				}
			}
		})
	}
	sending.Wait()
	return context.Cause(ctx)
}

// timeGraph asks for the graph of every environment and returns the longest time to an answer.
func timeGraph(ctx context.Context, p *process) (longest time.Duration, err error) {
	for _, query := range []string{"?env=" + environment, "?env=hostile", ""} {
		began := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.http+"/api/v1/graph"+query, nil)
		if err != nil {
			return 0, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
		if err != nil {
			return 0, fmt.Errorf("graph%s: %w", query, err)
		}
		longest = max(longest, time.Since(began))
	}
	return longest, nil
}
