package sqlite

import (
	"context"
	"database/sql"
	_ "embed"

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

// gatherWrites adds the counts of windows of ten seconds that start in [from, to) to those of their minutes: nobody asks
// for the windows any more.
func gatherWrites(ctx context.Context, tx *sql.Tx, from, to int64) error {
	const windows = ` WHERE what = ? AND start >= ? AND start < ? AND start % ? <> 0`
	for _, text := range []string{
		`INSERT INTO writes SELECT what, start - start % 60, sum(times) FROM writes` + windows +
			` GROUP BY 1, 2 ON CONFLICT (what, start) DO UPDATE SET times = times + excluded.times`,
		`DELETE FROM writes` + windows,
	} {
		if _, err := tx.ExecContext(ctx, text, edges, from, to, minute); err != nil {
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

// spanSums are the sums of stretches that a question is answered with.
type spanSums struct {
	spans []spanSum
	kept  []counted              // stretches whose sums are added up apart, to be kept
	known map[counted]*packedSum // those that the cache has
}

// spanSum is a span and the stretches that its sum is made of, of which it may be the one.
type spanSum struct {
	counted
	parts []counted
}

// keeps reports whether sums of a kind are kept. Questions with a step, or for a few edges, are answered without.
func (r *rangeReader) keeps(k what) bool {
	return r.cache != nil && k != details && r.step == 0 && r.asked[selectWrites] != nil
}

// fromCache takes out of a plan what is known of it, and divides what is not into what is to be kept and what is not:
// the windows of which the caller holds parts himself. The finest blocks are there from a time on.
func (r *rangeReader) fromCache(k what, spans []span, finest int64) (left []span, err error) {
	shortest := k.lengths()[0]
	for _, sp := range spans {
		settled, rest := r.settled(k, sp)
		if left, err = r.look(k, settled, left); err != nil {
			return nil, err
		}
		if rest.from >= finest && rest.length == minute {
			rest.length = shortest
		}
		if rest.length > shortest || rest.from%shortest != 0 || rest.to%shortest != 0 {
			left = appendSpan(left, rest)
			continue
		}
		for from := rest.from; from < rest.to; from += shortest {
			window := span{length: shortest, from: from, to: from + shortest}
			if r.holds(k, window) {
				left = appendSpan(left, window)
			} else if left, err = r.look(k, window, left); err != nil {
				return nil, err
			}
		}
	}
	return left, nil
}

func appendSpan(list []span, sp span) []span {
	if sp.from < sp.to {
		list = append(list, sp)
	}
	return list
}

// holds reports whether the caller holds a part of a window in a span.
func (r *rangeReader) holds(k what, sp span) bool {
	for _, p := range r.except {
		if p.length == k.lengths()[0] && sp.from <= p.start && p.start < sp.to {
			return true
		}
	}
	return false
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

// look appends to left what is not known of a span. Sums are kept of short blocks, because longer spans come to be of
// them, and of whole spans, unless they are of windows of ten seconds: the next question begins and ends at others.
func (r *rangeReader) look(k what, sp span, left []span) ([]span, error) {
	if sp.from >= sp.to {
		return left, nil
	}
	whole := spanSum{counted: counted{stretch: stretch{k, sp.from, sp.to}}}
	step := sp.length
	if step > minute {
		step = sp.to - sp.from
	}
	if sp.length > fine {
		known, err := r.lookUp(&whole.counted)
		if err != nil {
			return nil, err
		}
		if known {
			step = sp.to - sp.from
		}
	}
	for from := sp.from; from < sp.to; from += step {
		part := counted{stretch: stretch{k, from, from + step}}
		known, err := r.lookUp(&part)
		if err != nil {
			return nil, err
		}
		if !known {
			r.sums.kept = append(r.sums.kept, part)
			left = append(left, span{length: sp.length, from: from, to: from + step, kept: true})
		}
		whole.parts = append(whole.parts, part)
	}
	r.sums.spans = append(r.sums.spans, whole)
	return left, nil
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
	for _, part := range r.sums.kept {
		s := out[part.bucket()]
		if s == nil {
			s = &sums{}
		}
		delete(out, part.bucket())
		if !r.keep(part, s) {
			total.absorb(s)
		}
	}
	var list []*packedSum
	for _, sp := range r.sums.spans {
		var parts []*packedSum
		for _, part := range sp.parts {
			if sum := r.sums.known[part]; sum != nil {
				parts = append(parts, sum)
			}
		}
		if len(parts) > 1 && len(parts) == len(sp.parts) && sp.parts[0].to-sp.parts[0].from > fine {
			var s sums
			s.addAll(parts)
			if r.keep(sp.counted, &s) {
				parts = []*packedSum{r.sums.known[sp.counted]}
			}
		}
		list = append(list, parts...)
	}
	total.addAll(list)
	out[r.whole()] = total
}

// keep keeps the sum of a stretch, unless it has counts too large for that.
func (r *rangeReader) keep(c counted, s *sums) bool {
	sum := s.pack(c.what)
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
