package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"faultline/graph"
	"faultline/graph/doctor"
	"faultline/storage"
)

// keptReport says how services were instrumented when a process last wrote to the store.
func keptReport(ctx context.Context, store storage.Reader, now time.Time) (doctor.Report, error) {
	data, err := store.State(ctx, doctor.StateKey)
	if errors.Is(err, storage.ErrNotFound) {
		return doctor.Report{}, nil
	}
	if err != nil {
		return doctor.Report{}, fmt.Errorf("read evidence: %w", err)
	}
	slots, err := doctor.Decode(data)
	if err != nil {
		return doctor.Report{}, err
	}
	return doctor.Examine(slots, now), nil
}

// keptCriticality knows how critical services say that they are, by what a process last wrote to the store. It is safe for
// concurrent use.
type keptCriticality struct {
	store storage.Reader
	log   *slog.Logger

	mu    sync.Mutex
	known map[graph.Node]graph.Criticality
	asked time.Time // when the store was
}

const (
	keptFor     = 30 * time.Second // what the store said is asked for again after
	keptTimeout = 5 * time.Second
)

// of returns how critical a service is. While the store cannot say, it is as it was.
func (k *keptCriticality) of(n graph.Node) graph.Criticality {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); k.asked.IsZero() || now.Sub(k.asked) >= keptFor || now.Before(k.asked) {
		k.asked = now
		if err := k.read(); err != nil {
			k.log.Warn("how critical services are is not known anew", "error", err)
		}
	}
	return k.known[n.Identity()]
}

func (k *keptCriticality) read() error {
	ctx, cancel := context.WithTimeout(context.Background(), keptTimeout)
	defer cancel()
	data, err := k.store.State(ctx, graph.CriticalityStateKey)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	stated, err := graph.DecodeCriticality(data)
	if err != nil {
		return err
	}
	k.known = make(map[graph.Node]graph.Criticality, len(stated))
	for _, s := range stated {
		k.known[s.Service] = s.Criticality
	}
	return nil
}
