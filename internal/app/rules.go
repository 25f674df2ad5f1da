package app

import (
	"context"
	"time"
)

// rulesEvery is how often it is looked whether the rules file changed.
const rulesEvery = 2 * time.Second

// rulesLoop puts the rules file in force whenever it changed.
func (a *App) rulesLoop(ctx context.Context) {
	tick := time.NewTicker(rulesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			a.pollRules(now)
		}
	}
}

// pollRules reads the rules file if it changed. One that is wrong leaves those before it in force.
func (a *App) pollRules(now time.Time) {
	set, changed := a.rules.Poll(now)
	if !changed {
		return
	}
	if s := a.rules.State(); s.Err != nil {
		a.log.Error("the rules file is not in force, the rules before it stay", "error", s.Err)
		return
	}
	a.feed.Apply(now, set)
	a.log.Info("other rules are in force", "file", a.rules.State().Path)
}
