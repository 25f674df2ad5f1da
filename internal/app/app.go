// Package app is one process, made from one Config: it opens the store, makes the live graph and the engine, serves
// pages and API, and owns what the packages below it do without: the clock, the goroutines, the order of starting and
// stopping. The spans come from a Feed that it is given, so that it knows nothing of the Collector; without one it only
// shows what a store holds.
//
// New acquires, Start lets run, Stop flushes and gives back in reverse order, within 25 seconds however slow the machine
// is, and may be called more than once. Several Apps may live in one process, on different ports and directories; only
// how garbage is collected, the memory limit included, is the process's.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"faultline/graph"
	"faultline/graph/doctor"
	"faultline/internal/engine"
	"faultline/internal/rules"
	"faultline/storage/sqlite"
	"faultline/web"
)

// Feed is where spans come in. It is safe for concurrent use.
type Feed interface {
	engine.Feed
	// Tick lets time pass; it is called four times a second.
	Tick(now time.Time)
	// Flush lets everything count that still waits for something; it is called once nothing more comes in.
	Flush(now time.Time)
	// Apply puts rules in force for what comes from then on.
	Apply(now time.Time, set *rules.Set)
	// Counters returns what became of the spans so far.
	Counters() graph.Counters
	// Limits returns the limits in force, by name; those of time in seconds.
	Limits() map[string]int64
	// Criticality returns how critical a service says that it is.
	Criticality(n graph.Node) graph.Criticality
	// Evidence returns what is known of how services are instrumented.
	Evidence(now time.Time) []doctor.Slot
}

// Settings are what an App is given by the program around it.
type Settings struct {
	// NewFeed makes the feed that puts calls into live. Nil makes an App that only reads its store, which another
	// process may be writing to.
	NewFeed func(live *graph.Live) Feed
	Version string
	Logger  *slog.Logger // nil discards
}

// stopTimeout bounds Stop. Service managers wait for ten seconds, which is many times what it takes; on a machine that
// hardly gives it any time, to be killed while it flushes loses no more than to give up, and not to be killed loses
// nothing.
const stopTimeout = 25 * time.Second

// tickShare is the part of the time to stop in that a tick in progress has to finish. After it the tick is abandoned: its
// transaction is rolled back, and what was in it is in the last flush.
const tickShare = 5

// gcPercent is by how much the heap grows, of what a garbage collection left, until the next one. The runtime's own 100
// makes twice the memory of what there is, and of each passing peak of it; what is collected more often in exchange is
// about half a hundredth of a core's time.
const gcPercent = 50

// App is one process.
type App struct {
	log      *slog.Logger
	feed     Feed
	engine   *engine.Engine
	rules    *rules.File
	judge    *engine.Judge
	web      *web.Server
	http     *http.Server
	listener net.Listener
	addr     string
	receives atomic.Pointer[web.Endpoints]

	phase    atomic.Int32
	releases []release // undone from the last to the first
	stopOnce sync.Once
	stopErr  error
}

// release undoes one step of New.
type release struct {
	name string
	do   func(ctx context.Context) error
}

// The phases of a process, as the readiness probe tells them.
const (
	starting = iota
	ready
	stopping
)

// New makes an App. It starts no goroutine; what it acquired is given back by Stop, or by New itself when it fails. Where
// its error has to do with a key of the configuration, it begins with that.
func New(ctx context.Context, cfg Config, set Settings) (_ *App, err error) {
	a := &App{log: set.Logger}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Stop())
		}
	}()
	warnings, err := cfg.Validate()
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		a.log.Warn("configuration", "warning", w)
	}
	started := time.Now()

	if cfg.MemoryLimit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		before := debug.SetMemoryLimit(int64(cfg.MemoryLimit))
		a.onStop("memory limit", func(context.Context) error {
			debug.SetMemoryLimit(before)
			return nil
		})
	}

	if os.Getenv("GOGC") == "" {
		before := debug.SetGCPercent(gcPercent)
		a.onStop("garbage collection", func(context.Context) error {
			debug.SetGCPercent(before)
			return nil
		})
	}

	open := sqlite.Open
	if set.NewFeed == nil {
		open = sqlite.OpenReader
	}
	store, err := open(ctx, cfg.DataDir, cfg.Retention.storage())
	if err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	a.onStop("store", func(context.Context) error { return store.Close() })

	site := web.Settings{
		Ready: a.ready, Started: started, Version: set.Version, ExternalURL: cfg.ExternalURL, AuthToken: cfg.AuthToken,
		InForce: cfg.inForce(), Logger: a.log,
	}
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		site.InForce["memory_bytes"] = limit // GOMEMLIMIT wins
	}
	if set.NewFeed == nil {
		site.Reader = engine.NewView(store, nil)
		site.Doctor = func(ctx context.Context) (doctor.Report, error) { return keptReport(ctx, store, time.Now()) }
		site.Criticality = (&keptCriticality{store: store, log: a.log}).of
	} else {
		live := graph.NewLive(cfg.Limits.live(), uint64(started.UnixNano()))
		a.feed = set.NewFeed(live)
		maps.Copy(site.InForce, a.feed.Limits())
		a.rules = rules.NewFile(cfg.rulesFile())
		a.pollRules(started)
		if s := a.rules.State(); cfg.Rules != "" && s.Err == nil && s.Since.IsZero() {
			a.log.Warn("the rules file is not there: there are no rules until it is", "file", s.Path)
		}
		site.Rules = a.rules.State
		view := engine.NewView(store, live)
		a.judge = engine.NewJudge(view)
		if err := a.judge.Restore(ctx, started); err != nil {
			a.log.Warn("what was learned of edges is lost and will be learned again", "error", err)
		}
		view.Judge = a.judge
		a.engine = engine.New(engine.Settings{Config: engine.DefaultConfig(), Live: live, Feed: a.feed, Store: store, Judge: a.judge})
		if err := a.engine.Restore(ctx, started, store); err != nil {
			a.log.Warn("some of what was learned about addresses and instrumentation is lost and will be learned again", "error", err)
		}
		a.onStop("engine", func(ctx context.Context) error {
			now := time.Now()
			a.feed.Flush(now)
			return a.engine.Flush(ctx, now)
		})
		site.Reader, site.Counters, site.History = view, a.feed.Counters, a.history
		site.Learned = func(edge string) web.Learned { return web.Learned(a.judge.Learned(edge)) }
		site.Endpoints = a.endpoints
		site.Criticality = a.feed.Criticality
		site.Doctor = func(context.Context) (doctor.Report, error) {
			now := time.Now()
			return doctor.Examine(a.feed.Evidence(now), now), nil
		}
	}

	site.Biased = (&biasedServices{doctor: site.Doctor, log: a.log}).has

	a.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.HTTP)
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	a.onStop("listener", func(context.Context) error {
		if err := a.listener.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	a.addr = a.listener.Addr().String()

	site.Listen = a.addr
	a.web, err = web.New(site)
	if err != nil {
		return nil, err
	}
	a.http = &http.Server{
		Handler:           a.web.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	return a, nil
}

// history tells pages and API how keeping goes.
func (a *App) history() web.History {
	s := a.engine.Status()
	s.Dropped[engine.DroppedFindings] = a.judge.Dropped()
	return web.History{
		DelayedSince: s.DelayedSince, LastError: s.LastError, LastWrite: s.LastWrite, Waiting: s.WaitingParts, Dropped: s.Dropped,
	}
}

func (a *App) onStop(name string, do func(ctx context.Context) error) {
	a.releases = append(a.releases, release{name, do})
}

// Start lets the App run until Stop. Without a feed it is ready at once; with one, when Ready says so.
func (a *App) Start() {
	var served sync.WaitGroup
	served.Go(func() {
		if err := a.http.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("HTTP server ended", "error", err)
		}
	})
	a.web.Start()
	a.onStop("pages", func(context.Context) error {
		a.web.Stop()
		return nil
	})
	a.onStop("HTTP server", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		defer served.Wait()
		if a.http.Shutdown(ctx) != nil { // somebody is slow, and is cut off
			return a.http.Close()
		}
		return nil
	})
	if a.feed == nil {
		a.Ready(true)
		return
	}
	ending, end := context.WithCancel(context.Background())
	working, abandon := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	loops.Go(func() { a.feedLoop(ending) })
	loops.Go(func() { a.rulesLoop(ending) })
	loops.Go(func() { a.storeLoop(ending, working) })
	loops.Go(func() { a.judgeLoop(ending) })
	a.onStop("ticks", func(ctx context.Context) error {
		end()
		defer abandon()
		if deadline, ok := ctx.Deadline(); ok {
			late := time.AfterFunc(time.Until(deadline)/tickShare, abandon)
			defer late.Stop()
		}
		return wait(ctx, &loops)
	})
}

// Ready says whether spans are taken in, which the readiness probe passes on. After Stop it has no effect.
func (a *App) Ready(is bool) {
	if is {
		a.phase.CompareAndSwap(starting, ready)
	} else {
		a.phase.Store(stopping)
	}
}

func (a *App) ready() error {
	switch a.phase.Load() {
	case starting:
		return errors.New("starting")
	case stopping:
		return errors.New("stopping")
	}
	return nil
}

// ReceivesAt tells the pages where OTLP is taken in, for people who have sent nothing yet; "" is not known.
func (a *App) ReceivesAt(grpc, http string) { a.receives.Store(&web.Endpoints{GRPC: grpc, HTTP: http}) }

func (a *App) endpoints() web.Endpoints {
	if e := a.receives.Load(); e != nil {
		return *e
	}
	return web.Endpoints{}
}

// URL returns where the pages are to be opened on this machine, with the port that was given where port 0 was asked for.
func (a *App) URL() string { return "http://" + Reachable(a.addr) }

// Reachable returns a listen address as a client on this machine can use it: an address that stands for all of them
// becomes localhost.
func Reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// Stop flushes what was taken in and gives everything back, within stopTimeout. Spans must no longer come in. It may be
// called again, and returns the same then.
func (a *App) Stop() error {
	a.stopOnce.Do(func() {
		a.Ready(false)
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		a.stopErr = a.undo(ctx)
	})
	return a.stopErr
}

// undo gives back what was acquired, the last first.
func (a *App) undo(ctx context.Context) error {
	var errs []error
	for _, r := range slices.Backward(a.releases) {
		err := r.do(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", r.name, err))
		}
		if errors.Is(err, errStuck) {
			break // what is still in use is left to the end of the process
		}
	}
	return errors.Join(errs...)
}
