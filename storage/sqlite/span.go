package sqlite

import (
	"context"
	"database/sql"
	_ "embed"
	"slices"
	"sync"

	"faultline/graph"
)

// Sums of stretches of time are kept from one question to the next, and hold for as long as nothing is written there:
// folding and dropping moves what is there to longer blocks, and leaves every sum as it is. How often something was
// written is counted in the transaction that writes, so that whoever reads the file, in whichever process, sees the count
// that belongs to the blocks that he sees.

//go:embed writes.sql
var writesSchema string

// countWrites counts that parts of windows were written, of edges or of nodes.
func countWrites(ctx context.Context, tx *sql.Tx, parts []graph.Part) error {
	if len(parts) == 0 {
		return nil
	}
	insert, err := tx.PrepareContext(ctx, `INSERT INTO writes VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET times = times + 1`)
	if err != nil {
		return err
	}
	defer insert.Close()
	for i := range parts {
		k := edges
		if parts[i].Length == graph.DetailLength {
			k = nodes
		}
		if _, err := insert.ExecContext(ctx, k, parts[i].Start.Unix()); err != nil {
			return err
		}
	}
	return nil
}

// dropWrites follows what is dropped that starts in [from, to). When windows of ten seconds are, their counts are added to
// those of their minutes; the counts go with the longest blocks.
func dropWrites(ctx context.Context, tx *sql.Tx, tier dropped, from, to int64) error {
	const windows = ` WHERE what = ? AND start >= ? AND start < ? AND start % 60 <> 0`
	var texts []string
	switch tier.length {
	case tier.k.lengths()[len(tier.k.lengths())-1]:
		texts = []string{`DELETE FROM writes WHERE what = ? AND start >= ? AND start < ?`}
	case fine:
		texts = []string{
			`INSERT INTO writes SELECT what, start - start % 60, sum(times) FROM writes` + windows +
				` GROUP BY 1, 2 ON CONFLICT (what, start) DO UPDATE SET times = times + excluded.times`,
			`DELETE FROM writes` + windows,
		}
	}
	for _, text := range texts {
		if _, err := tx.ExecContext(ctx, text, tier.k, from, to); err != nil {
			return err
		}
	}
	return nil
}

// stretch is everything of a kind that starts in [from, to); counted is one after so many writes.
type (
	stretch struct {
		what     what
		from, to int64
	}
	counted struct {
		stretch
		writes int64
	}
)

// spanSums are the sums that a question is answered with.
type spanSums struct {
	spans []spanSum
	kept  []counted              // stretches whose blocks are added up apart, and whose sums are kept
	known map[counted]*packedSum // those that the cache had, and then those
}

// spanSum is the sum of a stretch: known, to be made from blocks, or made from its parts.
type spanSum struct {
	counted
	parts   []spanSum
	passing bool // the next question will ask for another one: it is not kept
}

// keeps reports whether sums of a kind are kept. Questions with a step, or for a few edges, are answered without.
func (r *rangeReader) keeps(k what) bool {
	return r.cache != nil && k != details && r.step == 0 && r.asked[selectWrites] != nil
}

// fromCache takes out of a plan what is known of it, and divides what is not into what is to be kept and what is not: the
// windows of which the caller holds parts himself. What is before such a window is answered from shorter blocks where
// there are some: before says up to when they were dropped.
func (r *rangeReader) fromCache(k what, spans []span, before map[int64]int64) (left []span, err error) {
	lengths := k.lengths()
	for _, sp := range spans {
		for level := slices.Index(lengths, sp.length); sp.from < sp.to; level-- {
			var settled span
			settled, sp = r.settled(k, sp)
			if left, err = r.look(k, settled, before[fine], left); err != nil {
				return nil, err
			}
			if level == 0 || sp.from%lengths[level-1] != 0 || sp.from < before[lengths[level-1]] {
				break
			}
			sp.length = lengths[level-1]
		}
		for ; sp.from < sp.to && r.loose(k, sp); sp.from = min(sp.from+sp.length, sp.to) {
			window := sp
			window.to = min(sp.from+sp.length, sp.to)
			if r.holds(k, window) {
				left = append(left, window)
			} else if left, err = r.look(k, window, before[fine], left); err != nil {
				return nil, err
			}
		}
		if sp.from < sp.to {
			left = append(left, sp)
		}
	}
	return left, nil
}

// loose reports whether a span is one of whole windows of the shortest kind, some of which the caller may hold parts of.
func (r *rangeReader) loose(k what, sp span) bool {
	shortest := k.lengths()[0]
	return sp.length == shortest && sp.from%shortest == 0 && sp.to%shortest == 0
}

// holds reports whether the caller holds a part of a window in a span.
func (r *rangeReader) holds(k what, sp span) bool {
	return slices.ContainsFunc(r.except, func(p partID) bool {
		return p.length == k.lengths()[0] && sp.from <= p.start && p.start < sp.to
	})
}

// settled splits a span before the first block with a part that the caller holds. What does not begin or end where a
// block does has no sum that can be kept: it is answered with more than it asks for.
func (r *rangeReader) settled(k what, sp span) (settled, rest span) {
	cut := max(floor(sp.to, sp.length), sp.from)
	if sp.from%sp.length != 0 {
		cut = sp.from
	}
	for _, p := range r.except {
		if p.length == k.lengths()[0] && sp.from <= p.start && p.start < cut {
			cut = max(floor(p.start, sp.length), sp.from)
		}
	}
	settled, rest = sp, sp
	settled.to, rest.from = cut, cut
	return settled, rest
}

// look appends to left what is not known of a span. Sums are kept of short blocks, because those of whole spans are made
// from them, and of whole spans, unless they are of windows of ten seconds: the next question begins and ends at others.
// The finest blocks are there from a time on.
func (r *rangeReader) look(k what, sp span, finest int64, left []span) ([]span, error) {
	if sp.from >= sp.to {
		return left, nil
	}
	sum, left, err := r.sumOf(k, sp, finest, left)
	r.sums.spans = append(r.sums.spans, sum)
	return left, err
}

func (r *rangeReader) sumOf(k what, sp span, finest int64, left []span) (spanSum, []span, error) {
	sum := spanSum{counted: counted{stretch: stretch{k, sp.from, sp.to}}}
	known, err := r.lookUp(&sum.counted)
	if known || err != nil {
		return sum, left, err
	}
	step := sp.to - sp.from
	switch {
	case sp.length <= minute && sp.length < step:
		step, sum.passing = sp.length, sp.length == fine
	case k == edges && sp.length == minute && sp.from >= finest && r.mostlyKnown(sp):
		step = fine
	}
	if step == sp.to-sp.from {
		r.sums.kept = append(r.sums.kept, sum.counted)
		sp.kept = true
		return sum, append(left, sp), nil
	}
	for from := sp.from; from < sp.to; from += step {
		var part spanSum
		if part, left, err = r.sumOf(k, span{length: min(sp.length, step), from: from, to: from + step}, finest, left); err != nil {
			return sum, left, err
		}
		sum.parts = append(sum.parts, part)
	}
	return sum, left, nil
}

// mostlyKnown reports whether the sums of most windows of a minute are known, as when it has just become whole.
func (r *rangeReader) mostlyKnown(sp span) bool {
	n := 0
	for from := sp.from; from < sp.to; from += fine {
		if r.cache.has(stretch{edges, from, from + fine}) {
			n++
		}
	}
	return n > int(minute/fine)/2
}

// lookUp finds out how often something was written to a stretch, and whether its sum is known.
func (r *rangeReader) lookUp(c *counted) (known bool, err error) {
	err = r.each(func(rows *sql.Rows) error { return rows.Scan(&c.writes) }, selectWrites, c.what, c.from, c.to)
	if err != nil {
		return false, err
	}
	sum := r.cache.get(*c)
	if sum == nil {
		return false, nil
	}
	if r.sums.known == nil {
		r.sums.known = map[counted]*packedSum{}
	}
	r.sums.known[*c] = sum
	return true, nil
}

// bucket returns what is added up of a stretch whose sum is to be kept.
func (s *stretch) bucket() bucket {
	return bucket{start: s.from, length: s.to - s.from, kept: true, what: s.what}
}

// addSpans adds up what is to be kept, keeps it, and adds the sums of spans to the one window of the answer.
func (r *rangeReader) addSpans(out map[bucket]*sums) {
	if len(r.sums.spans) == 0 {
		return
	}
	total := &sums{}
	if s := out[r.whole()]; s != nil {
		total = s
	}
	made, packed := make([]*sums, len(r.sums.kept)), make([]*packedSum, len(r.sums.kept))
	var packing sync.WaitGroup
	for first := range r.workers {
		packing.Go(func() {
			for i := first; i < len(made); i += len(r.workers) {
				part := &r.sums.kept[i]
				if made[i] = out[part.bucket()]; made[i] == nil {
					made[i] = &sums{}
				}
				packed[i] = made[i].pack(part.what)
			}
		})
	}
	packing.Wait()
	for i, part := range r.sums.kept {
		delete(out, part.bucket())
		if !r.keep(part, packed[i]) {
			total.absorb(made[i])
		}
	}
	var list []*packedSum
	for i := range r.sums.spans {
		list = append(list, r.made(&r.sums.spans[i])...)
	}
	total.addAll(list)
	out[r.whole()] = total
}

// made returns the sum of a stretch, or those that make it up; what could not be kept is left out, having been added.
func (r *rangeReader) made(sp *spanSum) []*packedSum {
	if sum := r.sums.known[sp.counted]; sum != nil {
		return []*packedSum{sum}
	}
	var list []*packedSum
	for i := range sp.parts {
		list = append(list, r.made(&sp.parts[i])...)
	}
	if len(list) == len(sp.parts) && len(list) > 1 && !sp.passing {
		var s sums
		s.addAll(list)
		if r.keep(sp.counted, s.pack(sp.what)) {
			return []*packedSum{r.sums.known[sp.counted]}
		}
	}
	return list
}

// keep keeps the sum of a stretch, unless it is nil, having counts too large for that.
func (r *rangeReader) keep(c counted, sum *packedSum) bool {
	if sum == nil {
		return false
	}
	if r.sums.known == nil {
		r.sums.known = map[counted]*packedSum{}
	}
	r.sums.known[c] = sum
	r.cache.put(c, sum)
	return true
}
