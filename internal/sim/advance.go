package sim

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"time"
)

// Advance moves the simulated time forward and returns what is sent meanwhile,
// in the order it is sent.
func (g *Generator) Advance(to time.Time) []Batch {
	var batches []Batch
	for {
		at := g.script.start.Add(time.Duration(g.arrival * 1e9))
		if at.After(to) {
			break
		}
		g.playUser(at.UnixNano())
		// Traffic swings by a fifth within ten minutes.
		rate := g.cfg.Rate * (1 + 0.2*math.Sin(2*math.Pi*g.arrival/600))
		if g.script.on(TrafficSurge, user, at.UnixNano()) {
			rate *= 2
		}
		g.arrival += g.rng.ExpFloat64() / rate
	}
	for _, in := range g.instances {
		for ; !in.next.After(to); in.next = in.next.Add(in.every) {
			batches = append(batches, in.export(in.next, in.next.UnixNano())...)
		}
	}
	g.now = to
	sortBatches(batches)
	return batches
}

// Flush returns all that has been played and not sent, like the shutdown of
// every SDK, spans included that end later than the simulated time.
func (g *Generator) Flush() []Batch {
	var batches []Batch
	for _, in := range g.instances {
		at := g.now
		for _, s := range in.pending {
			if due := time.Unix(0, s.due); due.After(at) {
				at = due
			}
		}
		batches = append(batches, in.export(at, math.MaxInt64)...)
	}
	sortBatches(batches)
	return batches
}

// Generate plays d of simulated time at once and yields every batch, the flush
// at the end included.
func (g *Generator) Generate(d time.Duration) iter.Seq[Batch] {
	return func(yield func(Batch) bool) {
		for end := g.now.Add(d); g.now.Before(end); {
			step := g.now.Add(time.Second)
			if step.After(end) {
				step = end
			}
			for _, b := range g.Advance(step) {
				if !yield(b) {
					return
				}
			}
		}
		for _, b := range g.Flush() {
			if !yield(b) {
				return
			}
		}
	}
}

func sortBatches(batches []Batch) {
	slices.SortStableFunc(batches, func(a, b Batch) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Instance, b.Instance))
	})
}
