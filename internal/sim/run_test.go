package sim

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// collected is an Exporter that keeps what it gets, or refuses everything.
type collected struct {
	refuse bool

	mu     sync.Mutex
	bodies [][]byte
}

func (c *collected) Export(_ context.Context, body []byte) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse {
		return 0, &OverloadError{errors.New("busy")}
	}
	c.bodies = append(c.bodies, body)
	return 0, nil
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		var log bytes.Buffer
		script, period := DemoScript()
		began := time.Now()
		out := &collected{}
		if err := Run(ctx, Config{Seed: 1, Rate: 5, Script: script, Period: period}, out, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 3*time.Minute {
			t.Errorf("ran for %v", took)
		}
		services := map[string]int{}
		for _, s := range decode(t, out.bodies) {
			services[s.service]++
			if end := s.EndTimestamp().AsTime(); end.Before(began) || end.After(time.Now()) {
				t.Fatalf("a span ended at %v, not while it ran", end)
			}
		}
		if len(services) != 15 || services["shop/frontend"] < 3*60*5 {
			t.Errorf("spans by service: %v", services)
		}
		for _, want := range []string{"simulated fault begins", "simulated fault is over", "slow database"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("log does not say %q:\n%s", want, &log)
			}
		}
		if strings.Contains(log.String(), "dropped") {
			t.Errorf("spans were dropped:\n%s", &log)
		}
	})
}

func TestRunDropsWhatIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var log bytes.Buffer
		if err := Run(ctx, Config{Seed: 1}, &collected{refuse: true}, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(log.String(), "dropped spans") {
			t.Errorf("log does not tell:\n%s", &log)
		}
	})
}

func TestRunRefusesABadConfig(t *testing.T) {
	if err := Run(t.Context(), Config{Rate: -1}, &collected{}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("no error")
	}
}
