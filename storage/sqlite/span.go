package sqlite

import (
	"context"
	"database/sql"
	_ "embed"

	"faultline/graph"
)

// The sums of long spans of time hardly change from one question to the next. They are kept, and hold for as long as
// nothing is written to their span: folding and dropping blocks moves what is there to longer ones, and leaves every sum
// as it is. How often something was written is counted by minute, in the transaction that writes, so that whoever reads
// the file, in whichever process, sees the counts that belong to the blocks that he sees.

//go:embed writes.sql
var writesSchema string

// countWrites counts that parts of windows of a kind were written, edges or nodes.
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
		if _, err := insert.ExecContext(ctx, k, floor(parts[i].Start.Unix(), minute)); err != nil {
			return err
		}
	}
	return nil
}

// spanSum names the sum of everything of a kind that starts in [from, to), after so many writes.
type spanSum struct {
	what     what
	from, to int64
	writes   int64
}

// sumSpans takes those spans of a plan out whose sums are known, and marks those whose sums are to be kept: the long ones,
// without what the caller holds himself.
func (r *rangeReader) sumSpans(k what, spans []span) (left []span, err error) {
	for _, sp := range spans {
		settled, rest := r.settled(k, sp)
		if settled.from < settled.to {
			sum := spanSum{what: k, from: settled.from, to: settled.to}
			if err := r.each(func(rows *sql.Rows) error { return rows.Scan(&sum.writes) }, selectWrites, k, sum.from, sum.to); err != nil {
				return nil, err
			}
			if d := r.cache.get(r.cache.hashOf(sum)); d != nil {
				r.known = append(r.known, d[0])
			} else {
				settled.kept = true
				r.kept = append(r.kept, sum)
				left = append(left, settled)
			}
		}
		if rest.from < rest.to {
			left = append(left, rest)
		}
	}
	return left, nil
}

// settled splits a span before the first window of which the caller holds a part. Of a span of ten-second windows nothing
// is settled: the next question begins and ends at others. Writes are counted by whole minutes.
func (r *rangeReader) settled(k what, sp span) (settled, rest span) {
	cut := sp.to
	if sp.length < minute || sp.from%minute != 0 || sp.to%minute != 0 {
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

// addSpans adds everything up, for an answer of one window, and keeps the sums that are new.
func (r *rangeReader) addSpans(out map[bucket]*sums) {
	if len(r.known)+len(r.kept) == 0 {
		return
	}
	for _, name := range r.kept {
		s := out[bucket{name.from, name.to - name.from}]
		if s == nil {
			s = &sums{}
		}
		if d := s.decoded(name.what); d != nil {
			r.cache.put(r.cache.hashOf(name), []*decoded{d})
		}
	}
	total := &sums{}
	var reader blockReader
	for _, d := range r.known {
		reader.add(total, d)
	}
	for _, s := range out {
		total.absorb(s)
	}
	clear(out)
	out[bucket{r.from, r.to - r.from}] = total
}
