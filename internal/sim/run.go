package sim

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Run plays the simulation in real time and sends what its instances send, until
// ctx ends. Faults that come and go are logged. When the receiver does not keep
// up or is away, batches wait for a while and are then dropped and counted in
// the log, as SDKs do. Run returns when everything it started has stopped; its
// error is that of a Config that cannot be played.
func Run(ctx context.Context, cfg Config, e Exporter, logger *slog.Logger) error {
	const (
		tick    = 100 * time.Millisecond
		senders = 4
		queued  = 1024
	)
	g, err := NewGenerator(cfg, time.Now())
	if err != nil {
		return err
	}
	var (
		queue   = make(chan Batch, queued)
		dropped atomic.Int64 // spans
		wg      sync.WaitGroup
	)
	for range senders {
		wg.Go(func() {
			for b := range queue {
				dropped.Add(send(ctx, e, b))
			}
		})
	}
	defer wg.Wait()
	defer close(queue)

	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	report := newFaultLog(logger)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		for _, b := range g.Advance(time.Now()) {
			select {
			case queue <- b:
			default:
				dropped.Add(int64(b.Spans))
			}
		}
		report.update(g.Faults())
		if n := dropped.Swap(0); n > 0 && ctx.Err() == nil {
			logger.Warn("simulator dropped spans that were not taken", "spans", n)
		}
	}
}

// send returns the number of spans that were not taken.
func send(ctx context.Context, e Exporter, b Batch) (lost int64) {
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	rejected, _, err := sendUntilTaken(ctx, e, b.Body)
	if err != nil {
		return int64(b.Spans)
	}
	return rejected
}

// faultLog logs each fault when it comes and when it goes.
type faultLog struct {
	logger *slog.Logger
	on     map[Fault]bool
}

func newFaultLog(logger *slog.Logger) *faultLog {
	return &faultLog{logger: logger, on: map[Fault]bool{}}
}

func (l *faultLog) update(on []Fault) {
	now := map[Fault]bool{}
	for _, f := range on {
		now[f] = true
		if !l.on[f] {
			l.logger.Info("simulated fault begins", "fault", string(f.Kind), "target", f.Target, "for", f.For)
		}
	}
	for f := range l.on {
		if !now[f] {
			l.logger.Info("simulated fault is over", "fault", string(f.Kind), "target", f.Target)
		}
	}
	l.on = now
}
