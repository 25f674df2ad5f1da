package app

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	feedEvery  = 250 * time.Millisecond
	storeEvery = time.Second
	// storeShare bounds the time spent writing to one part in storeShare, so that a slow disk makes what is on it
	// older instead of the machine busier.
	storeShare = 4
	// gentleShare bounds it further, for maps so large that a write takes long, as far as a pause of storePause is enough
	// for that.
	gentleShare = 16
	storePause  = 2 * time.Second
	judgeEvery  = 10 * time.Second
	// judgeShare bounds the time spent judging to one part in judgeShare, as far as once a minute is enough for that.
	judgeShare = 100
	judgeLeast = time.Minute
)

// errStuck says that something did not end in time and may still be in use.
var errStuck = errors.New("did not end in time")

// feedLoop lets the feed's time pass.
func (a *App) feedLoop(ctx context.Context) {
	tick := time.NewTicker(feedEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			a.feed.Tick(now)
		}
	}
}

// storeLoop runs the engine, once a second or as often as the store can bear, until ending is over. A tick that has
// begun then finishes, unless working is over too.
func (a *App) storeLoop(ending, working context.Context) {
	timer := time.NewTimer(storeEvery)
	defer timer.Stop()
	var failing bool
	for {
		var now time.Time
		select {
		case <-ending.Done():
			return
		case now = <-timer.C:
		}
		began := time.Now()
		err := a.engine.Tick(working, now)
		a.web.Flushed(time.Since(began), err)
		switch {
		case working.Err() != nil: // the last flush tries again
		case err != nil && !failing:
			if a.engine.Status().DelayedSince.IsZero() {
				a.log.Error("the store keeps everything but cannot be maintained: it grows, and long questions take longer", "error", err)
			} else {
				a.log.Error("history is delayed: the store fails, what it misses is kept in memory", "error", err)
			}
			failing = true
		case err == nil && failing:
			a.log.Warn("the store works again: history is complete") // loud enough to be seen beside what it takes back
			failing = false
		}
		timer.Reset(pause(time.Since(began)))
	}
}

// pause returns how long to wait after a write that took so long.
func pause(took time.Duration) time.Duration {
	return max(storeEvery, min((gentleShare-1)*took, storePause), (storeShare-1)*took)
}

// judgeLoop names what goes wrong, until ctx is over. A round that has begun is cut short then: the next process has
// everything that it was made from.
func (a *App) judgeLoop(ctx context.Context) {
	timer := time.NewTimer(judgeEvery)
	defer timer.Stop()
	var failing bool
	for {
		var now time.Time
		select {
		case <-ctx.Done():
			return
		case now = <-timer.C:
		}
		began := time.Now()
		err := a.judge.Round(ctx, now)
		if err != nil && ctx.Err() == nil && !failing {
			a.log.Error("what goes wrong is not judged", "error", err)
		}
		failing = err != nil
		timer.Reset(min(max(judgeEvery, judgeShare*time.Since(began)), judgeLeast))
	}
}

// wait waits for a group, as long as ctx allows.
func wait(ctx context.Context, group *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errStuck
	}
}
