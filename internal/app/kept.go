package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
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

// biasedServices knows of which services spans are kept or left out by how their traces end. It is safe for concurrent use.
type biasedServices struct {
	doctor func(ctx context.Context) (doctor.Report, error)
	log    *slog.Logger

	mu    sync.Mutex
	known map[graph.Node]bool
	asked time.Time // when the doctor was
}

// has reports whether a service is one of them. While the doctor cannot say, it is as it was.
func (b *biasedServices) has(n graph.Node) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if due(&b.asked) {
		ctx, cancel := context.WithTimeout(context.Background(), keptTimeout)
		defer cancel()
		report, err := b.doctor(ctx)
		if err != nil {
			b.log.Warn("whose sampling is biased is not known anew", "error", err)
			return b.known[n.Identity()]
		}
		b.known = map[graph.Node]bool{}
		for i := range report.Services {
			d := &report.Services[i]
			if slices.ContainsFunc(d.Findings, func(f doctor.Finding) bool { return f.Rule == doctor.BiasedSampling }) {
				b.known[d.Service.Identity()] = true
			}
		}
	}
	return b.known[n.Identity()]
}

// due reports whether what was asked for then is to be asked for again, and if so, that it is now.
func due(asked *time.Time) bool {
	now := time.Now()
	if !asked.IsZero() && now.Sub(*asked) < keptFor && !now.Before(*asked) {
		return false
	}
	*asked = now
	return true
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
	keptFor     = 30 * time.Second // what was said is asked for again after
	keptTimeout = 5 * time.Second
)

// of returns how critical a service is. While the store cannot say, it is as it was.
func (k *keptCriticality) of(n graph.Node) graph.Criticality {
	k.mu.Lock()
	defer k.mu.Unlock()
	if due(&k.asked) {
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
