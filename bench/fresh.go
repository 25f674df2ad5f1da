//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"faultline/internal/sim"
)

const (
	environment   = "production" // of the loads, and of the probes among them
	probeCaller   = "probe-caller"
	probeEvery    = 500 * time.Millisecond // on average: the hub's own beat must not be met
	probePatience = 10 * time.Second       // until a probe that is not shown is lost
	freshTarget   = 2 * time.Second
	backgroundOf  = 100 // services
)

// startFaultline starts one collector on any core, and a client of it.
func startFaultline(ctx context.Context, o options) (*process, *sim.GRPC, error) {
	if o.collector == "" {
		return nil, nil, errors.New("give -collector")
	}
	bin, err := filepath.Abs(o.collector)
	if err != nil {
		return nil, nil, err
	}
	p, err := start(ctx, faultline(bin), anyCore)
	if err != nil {
		return nil, nil, err
	}
	client, err := sim.DialGRPC(p.otlp, 2)
	if err != nil {
		return nil, nil, errors.Join(err, p.kill())
	}
	return p, client, nil
}

// background sends a load at a steady rate, in whole passes so that its truth holds.
type background struct {
	enough chan struct{}
	done   chan struct{}
	passes int64 // valid once done is closed
	err    error
}

func startBackground(ctx context.Context, e sim.Exporter, load *sim.Load, o options) *background {
	b := &background{enough: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(b.done)
		for {
			if _, b.err = drive(ctx, e, load, 1, o.streams, o.rate); b.err != nil {
				return
			}
			b.passes++
			select {
			case <-b.enough:
				return
			default:
			}
		}
	}()
	return b
}

// finish lets the pass that is being sent be the last, and returns how many there were.
func (b *background) finish() (int64, error) {
	close(b.enough)
	<-b.done
	return b.passes, b.err
}

// measureFreshness times, under a steady load, calls between services that nobody has seen before: from the moment
// the second of their halves was acknowledged to the WebSocket message that shows their edge.
func measureFreshness(ctx context.Context, o options, out io.Writer) (err error) {
	p, client, err := startFaultline(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close(), p.kill()) }()
	cfg := sim.DefaultLoad(backgroundOf)
	cfg.Spans = 10_000
	load, err := sim.NewLoad(cfg)
	if err != nil {
		return err
	}
	before := loadAverage()
	steady := startBackground(ctx, client, load, o)
	probed, err := probe(ctx, client, p, o.probes)
	passes, sendErr := steady.finish()
	if err = errors.Join(err, sendErr); err != nil {
		return err
	}
	wrong, err := countWrongEdges(ctx, "http://"+p.http+"/api/v1/graph", load.Truth(), passes)
	if err != nil {
		return err
	}
	if _, err := p.stop(); err != nil {
		return err
	}
	slices.Sort(probed)
	at := func(q float64) time.Duration { return probed[int(q*float64(len(probed)-1)+.5)].Round(time.Millisecond) }
	fmt.Fprintf(out, "freshness, last half acknowledged to WebSocket message: p50 %v, p99 %v, max %v of %d probes (target: p99 at most %v); "+
		"%.0f spans/s, %d services; load average %s before, %s after\n",
		at(.5), at(.99), at(1), len(probed), freshTarget, o.rate, backgroundOf, before, loadAverage())
	if wrong > 0 {
		return fmt.Errorf("freshness: %d edges with wrong counts", wrong)
	}
	return nil
}

// probe makes n calls, each to a service of its own, and returns how long each took to be shown.
func probe(ctx context.Context, e sim.Exporter, p *process, n int) ([]time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, resp, err := websocket.DefaultDialer.DialContext(ctx, "ws://"+p.http+"/api/v1/live?env="+environment, nil)
	if err != nil {
		return nil, fmt.Errorf("follow the live map: %w", err)
	}
	_ = resp.Body.Close() // empty, by the package's own word
	follower := &follower{conn: conn, shown: map[string]time.Time{}, news: make(chan struct{}, 1)}
	var following sync.WaitGroup
	following.Go(func() { follower.follow() })
	defer following.Wait()
	defer conn.Close()

	acknowledged := make([]time.Time, n)
	for i := range n {
		pause := probeEvery/2 + rand.N(probeEvery)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
		end := time.Now()
		client := sim.Half{
			Env: environment, Service: probeCaller, Route: "/probe", Trace: rand.Uint64() | 1, ID: rand.Uint64() | 1,
			End: end, Duration: 20 * time.Millisecond,
		}
		server := client
		server.Service, server.Server, server.ID, server.Parent = probed(i), true, client.ID+1, client.ID
		server.Duration /= 2
		for _, half := range []sim.Half{client, server} {
			if err := export(ctx, e, sim.AppendRequest(nil, []sim.Half{half})); err != nil {
				return nil, err
			}
		}
		acknowledged[i] = time.Now()
	}
	return follower.wait(ctx, acknowledged)
}

// probed returns the name of the service that the i-th probe calls.
func probed(i int) string { return fmt.Sprintf("probe-%d", i) }

// export sends one request until it is taken. All of it must be.
func export(ctx context.Context, e sim.Exporter, body []byte) error {
	for {
		rejected, err := e.Export(ctx, body)
		var overload *sim.OverloadError
		switch {
		case errors.As(err, &overload):
		case err != nil:
			return err
		case rejected > 0:
			return fmt.Errorf("%d spans were rejected", rejected)
		default:
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// follower reads the live map and notes when a probe's edge was first shown.
type follower struct {
	conn *websocket.Conn
	news chan struct{} // when there is any

	mu    sync.Mutex
	shown map[string]time.Time // by callee
	err   error
}

func (f *follower) follow() {
	for seq := int64(0); ; seq++ {
		_, text, err := f.conn.ReadMessage()
		at := time.Now()
		var m struct {
			Seq   int64
			Edges []struct {
				Source, Target string
				Calls          int64
			}
		}
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		if err == nil && seq > 0 && m.Seq != seq {
			err = fmt.Errorf("message %d came where %d was due", m.Seq, seq)
		}
		seq = m.Seq
		f.mu.Lock()
		for _, e := range m.Edges {
			if e.Source != probeCaller || !strings.HasPrefix(e.Target, "probe-") {
				continue
			}
			if e.Calls != 1 {
				err = fmt.Errorf("edge to %s shows %d calls, want 1", e.Target, e.Calls)
			}
			if f.shown[e.Target].IsZero() {
				f.shown[e.Target] = at
			}
		}
		if f.err == nil {
			f.err = err
		}
		f.mu.Unlock()
		select {
		case f.news <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// wait returns how long each probe took, once all are shown.
func (f *follower) wait(ctx context.Context, acknowledged []time.Time) ([]time.Duration, error) {
	patience := time.NewTimer(probePatience)
	defer patience.Stop()
	for {
		f.mu.Lock()
		var took []time.Duration
		var missing []string
		for i, at := range acknowledged {
			if shown := f.shown[probed(i)]; shown.IsZero() {
				missing = append(missing, probed(i))
			} else {
				took = append(took, max(shown.Sub(at), 0)) // the message may overtake the answer
			}
		}
		err := f.err
		f.mu.Unlock()
		if len(missing) == 0 {
			return took, nil
		}
		if err != nil {
			return nil, fmt.Errorf("follow the live map: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-patience.C:
			return nil, fmt.Errorf("%d of %d probes were never shown, %s the first of them", len(missing), len(acknowledged), missing[0])
		case <-f.news:
		}
	}
}
