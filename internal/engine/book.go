package engine

import (
	"slices"
	"time"

	"faultline/graph"
	"faultline/storage"
)

// How findings open and close.
const (
	closeAfter   = 3               // rounds in which it was not found
	reopenWithin = 5 * time.Minute // found again so soon, it has been going on since it was first found
	tellEvery    = time.Minute     // how often the store is told that a finding is still open
	maxOpen      = storage.MaxFindings
	maxWaiting   = 2 * maxOpen // for a store that fails
)

// entry is a finding in the book.
type entry struct {
	graph.Finding
	missed int       // rounds since it was found
	told   time.Time // Until as the store was told
}

// closed reports whether it is over.
func (e *entry) closed() bool { return e.missed >= closeAfter }

// book keeps the findings that are open, or have been lately, and what the store has yet to be told of them.
type book struct {
	open    map[graph.FindingKey]*entry
	waiting map[stored]graph.Finding
}

// stored names a finding in the store.
type stored struct {
	graph.FindingKey
	since int64
}

func storedAs(f *graph.Finding) stored { return stored{f.Key(), f.Since.UnixNano()} }

// restore takes up findings that an earlier process had open.
func (b *book) restore(findings []graph.Finding) {
	for _, f := range findings {
		if old := b.open[f.Key()]; old == nil || old.Since.Before(f.Since) {
			b.open[f.Key()] = &entry{Finding: f, told: f.Until}
		}
	}
}

// take takes in what a round found, and returns how many findings were too many.
func (b *book) take(now time.Time, found []graph.Finding) (dropped int64) {
	seen := make(map[graph.FindingKey]bool, len(found))
	for _, f := range found {
		k := f.Key()
		if seen[k] {
			continue
		}
		seen[k] = true
		e := b.open[k]
		switch {
		case e == nil && len(b.open) >= maxOpen:
			dropped++
			continue
		case e == nil || now.Sub(e.Until) > reopenWithin:
			e = &entry{}
			b.open[k] = e
			f.Since = floor(now, time.Minute)
		default:
			f.Since = e.Since
		}
		louder := f.Level != e.Level
		f.Until = now
		e.Finding, e.missed = f, 0
		if louder || now.Sub(e.told) >= tellEvery {
			b.tell(e)
		}
	}
	for k, e := range b.open {
		if seen[k] {
			continue
		}
		if e.missed++; e.missed == closeAfter && e.told.Before(e.Until) {
			b.tell(e)
		}
		if e.closed() && now.Sub(e.Until) > reopenWithin {
			delete(b.open, k)
		}
	}
	return dropped + b.bound()
}

// tell has the store told how a finding is.
func (b *book) tell(e *entry) {
	e.told = e.Until
	b.waiting[storedAs(&e.Finding)] = e.Finding
}

// tellAll has the store told how every finding is.
func (b *book) tellAll() {
	for _, e := range b.open {
		if e.told.Before(e.Until) {
			b.tell(e)
		}
	}
}

// bound gives up the oldest of what waits for a store that fails, and returns how many.
func (b *book) bound() (dropped int64) {
	more := len(b.waiting) - maxWaiting
	if more <= 0 {
		return 0
	}
	type aged struct {
		stored
		until time.Time
	}
	all := make([]aged, 0, len(b.waiting))
	for k, f := range b.waiting {
		all = append(all, aged{k, f.Until})
	}
	slices.SortFunc(all, func(x, y aged) int { return x.until.Compare(y.until) })
	for _, a := range all[:more] {
		delete(b.waiting, a.stored)
	}
	return int64(more)
}

// matching returns what the book knows that q asks for, waiting for the store or not.
func (b *book) matching(q *storage.FindingQuery) map[stored]graph.Finding {
	out := map[stored]graph.Finding{}
	for k, f := range b.waiting {
		if q.Matches(&f) {
			out[k] = f
		}
	}
	for _, e := range b.open {
		if q.Matches(&e.Finding) {
			out[storedAs(&e.Finding)] = e.Finding
		}
	}
	return out
}
