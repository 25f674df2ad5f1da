package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// settle is how long a part must have been closed before it is folded: nobody then still leaves it out of an
	// answer because he holds it himself, which he could not once it is in a sum.
	settle = 30 * time.Second
	// A minute whose parts do not all close is folded as far as it goes after lateMinute; longer windows are folded
	// when all that make up the next longer one are there, or when that has been over for lateLonger.
	lateMinute = 5 * time.Minute
	lateLonger = 3 * time.Minute

	pieceBytes = 192 << 10 // compressed blocks read in one transaction of Maintain, about 10 ms
	callBytes  = 4 << 20   // in one call
	dropAtOnce = 400       // rows deleted in one transaction
)

// Maintain folds closed parts into minutes and hours and drops what is older than the retention. A call does a bounded
// amount of work; what it does not get to is left to the next.
func (s *Store) Maintain(ctx context.Context, now time.Time) error {
	if s.w == nil {
		return ErrReadOnly
	}
	s.stamp(now)
	s.cache.sweep(now)
	budget := callBytes
	var errs []error
	for k := edges; k <= nodes; k++ {
		lengths := k.lengths()
		for i := range len(lengths) - 1 {
			if err := s.fold(ctx, now, k, lengths[i], lengths[i+1], &budget); err != nil {
				errs = append(errs, fmt.Errorf("fold windows of %d s: %w", lengths[i], err))
			}
		}
	}
	if err := s.drop(ctx, now); err != nil {
		errs = append(errs, fmt.Errorf("drop what is older than the retention: %w", err))
	}
	if err := s.vacuum(ctx); err != nil {
		errs = append(errs, fmt.Errorf("give space back: %w", err))
	}
	return errors.Join(errs...)
}

// stamp notes when parts were first seen closed, and forgets those that have settled.
func (s *Store) stamp(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, t := range s.closing {
		if t.IsZero() || t.After(now) { // the clock may have been set back
			s.closing[k] = now
		} else if now.Sub(t) >= settle {
			delete(s.closing, k)
		}
	}
}

// source is a block that waits to be folded.
type source struct{ id, start int64 }

// group is what is folded together: the sources of one lane that lie in one longer window.
type group struct{ start, lane int64 }

// fold adds blocks of one length to those of the next.
func (s *Store) fold(ctx context.Context, now time.Time, k what, from, to int64, budget *int) error {
	groups, err := s.foldable(ctx, now, k, from, to)
	if err != nil {
		return err
	}
	order := keysOf(groups, func(a, b group) int {
		return compareNodes(nodeKey{node: a.start, instance: a.lane}, nodeKey{node: b.start, instance: b.lane})
	})
	var bad error
	for len(order) > 0 && *budget > 0 {
		done := 0
		err := s.write(ctx, func(tx *sql.Tx) error {
			for size := 0; done < len(order) && size < pieceBytes; done++ {
				n, err := s.foldGroup(ctx, tx, k, to, order[done], groups[order[done]])
				if err != nil && !errors.Is(err, errBlock) {
					return err
				}
				bad = errors.Join(bad, err)
				size += n
				*budget -= n
			}
			return nil
		})
		if err != nil {
			return errors.Join(bad, err)
		}
		order = order[done:]
	}
	return bad
}

// foldable finds the blocks of one kind and length that are due.
func (s *Store) foldable(ctx context.Context, now time.Time, k what, from, to int64) (map[group][]source, error) {
	type state struct {
		sources []source
		starts  map[int64]bool
		waiting bool
	}
	all := map[group]*state{}
	parts := from == k.lengths()[0]
	err := s.write(ctx, func(tx *sql.Tx) error {
		return each(ctx, tx, func(r *sql.Rows) error {
			var id, start, lane, part, st int64
			if err := r.Scan(&id, &start, &lane, &part, &st); err != nil {
				return err
			}
			g := group{floor(start, to), lane}
			a := all[g]
			if a == nil {
				a = &state{starts: map[int64]bool{}}
				all[g] = a
			}
			if parts {
				if _, unsettled := s.closing[partID{start, from, part}]; st == open || unsettled {
					a.waiting = true
					return nil
				}
			}
			a.sources = append(a.sources, source{id, start})
			a.starts[start] = true
			return nil
		}, `SELECT id, start, lane, part, state FROM block INDEXED BY block_unfolded WHERE what = ? AND length = ? AND state < 2 ORDER BY start`, k, from)
	})
	if err != nil {
		return nil, err
	}
	due := map[group][]source{}
	for g, a := range all {
		age := now.Sub(time.Unix(g.start+to, 0))
		ready := !a.waiting || age >= lateMinute
		if to > minute {
			ready = int64(len(a.starts)) >= to/from || age >= lateLonger
		}
		if ready && len(a.sources) > 0 {
			due[g] = a.sources
		}
	}
	return due, nil
}

// foldGroup adds sources to the block of their longer window and marks them, and returns how many bytes it read.
func (s *Store) foldGroup(ctx context.Context, tx *sql.Tx, k what, to int64, g group, sources []source) (size int, err error) {
	var data [][]byte
	var ids, starts []int64
	until := int64(0)
	for _, src := range sources {
		var d []byte
		var u int64
		err := tx.QueryRowContext(ctx, `SELECT data, until FROM block WHERE id = ? AND state = ?`, src.id, closed).Scan(&d, &u)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return size, err
		}
		data, ids, starts = append(data, d), append(ids, src.id), append(starts, src.start)
		until, size = max(until, u), size+len(d)
	}
	var reader blockReader
	var bad error
	sum, err := reader.total(k, data)
	if err != nil {
		// Which of them cannot be read? It is set aside; the others count.
		var good [][]byte
		var goodIDs, goodStarts []int64
		for i, d := range data {
			if _, err := reader.total(k, [][]byte{d}); err == nil {
				good, goodIDs, goodStarts = append(good, d), append(goodIDs, ids[i]), append(goodStarts, starts[i])
				continue
			}
			bad = errors.Join(bad, fmt.Errorf("block %d: %w", ids[i], err))
			if _, err := tx.ExecContext(ctx, `UPDATE block SET state = ? WHERE id = ?`, unreadable, ids[i]); err != nil {
				return size, err
			}
		}
		data, ids, starts = good, goodIDs, goodStarts
		if sum, err = reader.total(k, data); err != nil {
			return size, err
		}
	}
	if len(data) == 0 {
		return size, bad
	}
	if _, err := tx.ExecContext(ctx, `UPDATE block SET state = ? WHERE id IN `+list(ids), folded); err != nil {
		return size, err
	}
	n, err := s.addTo(ctx, tx, &reader, k, to, g, sum, data, until)
	if err == nil && k == edges && to == tenMin {
		err = s.packMinutes(ctx, tx, g, starts, ids, data, until)
	}
	return size + n, errors.Join(bad, err)
}

// packMinutes replaces the blocks of minutes that were folded into their ten by a pack, unless there is one.
func (s *Store) packMinutes(ctx context.Context, tx *sql.Tx, g group, starts, ids []int64, data [][]byte, until int64) error {
	if len(data) < 2 {
		return nil
	}
	var there, entries int64
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM block WHERE what = ? AND length = ? AND lane = ? AND start = ? AND part = ?`,
		edges, minute, g.lane, g.start, packPart).Scan(&there); err != nil || there > 0 {
		return err
	}
	var p pack
	for i, start := range starts {
		p[(start-g.start)/minute] = data[i]
	}
	packed, err := p.encode(nil)
	if err != nil {
		return err
	}
	if err := each(ctx, tx, func(r *sql.Rows) error {
		var e int64
		err := r.Scan(&e)
		entries += e
		return err
	}, `DELETE FROM block WHERE id IN `+list(ids)+` RETURNING entries`); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO block (what, length, lane, start, part, state, until, entries, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		edges, minute, g.lane, g.start, packPart, folded, until, entries, packed)
	return err
}

// total adds blocks up.
func (r *blockReader) total(k what, data [][]byte) (*sums, error) {
	sum := &sums{}
	for _, d := range data {
		if err := r.merge(sum, k, d); err != nil {
			return nil, err
		}
	}
	return sum, nil
}

// addTo adds blocks, whose sum is given too and is not used afterwards, to the block of a longer window, and to the one
// that this was folded into already, if it was.
func (s *Store) addTo(ctx context.Context, tx *sql.Tx, reader *blockReader, k what, length int64, g group, sum *sums, data [][]byte, until int64) (size int, err error) {
	fresh, next := closed, longer(length)
	if next == 0 {
		fresh = folded
	}
	id, state, last := int64(0), fresh, int64(0)
	var old []byte
	err = tx.QueryRowContext(ctx, `SELECT id, state, until, data FROM block WHERE what = ? AND length = ? AND lane = ? AND start = ? AND part = 0`,
		k, length, g.lane, floor(g.start, length)).Scan(&id, &state, &last, &old)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, err
	}
	var bad error
	if err == nil {
		if err := reader.merge(sum, k, old); err != nil {
			bad, state = fmt.Errorf("block %d: %w", id, err), fresh
			if _, err := tx.ExecContext(ctx, `UPDATE block SET state = ?, part = -id WHERE id = ?`, unreadable, id); err != nil {
				return 0, err
			}
			if sum, err = reader.total(k, data); err != nil {
				return 0, err
			}
		}
	}
	encoded, entries := sum.encode(k, &s.block)
	if _, err := tx.ExecContext(ctx, `INSERT INTO block (what, length, lane, start, part, state, until, entries, data) VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?)
		ON CONFLICT (what, length, lane, start, part) DO UPDATE SET until = excluded.until, entries = excluded.entries, data = excluded.data`,
		k, length, g.lane, floor(g.start, length), state, max(until, last), entries, encoded); err != nil {
		return 0, err
	}
	if next > 0 && state == folded {
		again, err := reader.total(k, data)
		if err != nil {
			return len(old), errors.Join(bad, err)
		}
		n, err := s.addTo(ctx, tx, reader, k, next, g, again, data, until)
		return len(old) + n, errors.Join(bad, err)
	}
	return len(old), bad
}

// drop deletes what is older than the retention.
func (s *Store) drop(ctx context.Context, now time.Time) error {
	kept := map[int64]time.Duration{
		fine: s.retention.Fine, minute: s.retention.Minute, tenMin: s.retention.Minute, hour: s.retention.Hour, sixHrs: s.retention.Hour,
	}
	for k := edges; k <= nodes; k++ {
		for _, length := range k.lengths() {
			// Whole longer windows are dropped, so that a question is answered from one tier on each side.
			align := hour
			switch {
			case length == fine:
				align = minute
			case length >= hour:
				align = sixHrs
			}
			if err := s.dropBlocks(ctx, k, length, floor(now.Add(-kept[length]).Unix(), align)); err != nil {
				return err
			}
		}
	}
	for _, old := range []struct {
		query string
		kept  time.Duration
	}{
		{`DELETE FROM trace WHERE id IN (SELECT id FROM trace WHERE at < ? LIMIT ?)`, s.retention.Traces},
		{`DELETE FROM example WHERE id IN (SELECT id FROM example WHERE at < ? LIMIT ?)`, s.retention.Traces},
		{`DELETE FROM finding WHERE id IN (SELECT id FROM finding WHERE until < ? LIMIT ?)`, s.retention.Hour},
	} {
		for n := int64(dropAtOnce); n == dropAtOnce; {
			err := s.write(ctx, func(tx *sql.Tx) error {
				result, err := tx.ExecContext(ctx, old.query, now.Add(-old.kept).UnixNano(), dropAtOnce)
				if err != nil {
					return err
				}
				n, err = result.RowsAffected()
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	if today := day(now.Unix()); s.swept != today {
		if err := s.sweep(ctx, now); err != nil {
			return err
		}
		s.swept = today
	}
	return nil
}

// dropped names a tier.
type dropped struct {
	k      what
	length int64
}

// dropBlocks deletes folded blocks of one kind and length that start before a time. What is not folded yet stays until
// it is, and counts.
func (s *Store) dropBlocks(ctx context.Context, k what, length, before int64) error {
	tier := dropped{k, length}
	if s.dropped[tier] >= before {
		return nil
	}
	for n := dropAtOnce; n == dropAtOnce; {
		n = 0
		err := s.write(ctx, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, `INSERT INTO dropped VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET before = excluded.before WHERE excluded.before > before`, k, length, before); err != nil {
				return err
			}
			if err := dropWrites(ctx, tx, tier, s.dropped[tier], before); err != nil {
				return err
			}
			entries := int64(0)
			if err := each(ctx, tx, func(r *sql.Rows) error {
				var e int64
				n++
				err := r.Scan(&e)
				entries -= e
				return err
			}, `DELETE FROM block WHERE id IN (SELECT id FROM block WHERE what = ? AND length = ? AND start < ? AND state >= 2 LIMIT ?) RETURNING entries`, k, length, before, dropAtOnce); err != nil {
				return err
			}
			if length != fine || entries == 0 {
				return nil
			}
			return count(ctx, tx, entries)
		})
		if err != nil {
			return err
		}
	}
	s.dropped[tier] = before
	return nil
}

// sweep deletes words that nothing in the store can name any more.
func (s *Store) sweep(ctx context.Context, now time.Time) error {
	longest := slices.Max([]time.Duration{s.retention.Hour, s.retention.Traces})
	before := day(now.Add(-longest).Unix()) - 1
	dropped := int64(0)
	err := s.write(ctx, func(tx *sql.Tx) error {
		for _, table := range []string{"edge", "node", "name"} {
			result, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE used < ?`, before)
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return err
			}
			dropped += n
		}
		return nil
	})
	if err == nil && dropped > 0 {
		s.words.forget()
	}
	return err
}

// vacuum gives pages back to the system when a good part of the file is free.
func (s *Store) vacuum(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var free, pages int64
	if err := s.w.QueryRowContext(ctx, `PRAGMA freelist_count`).Scan(&free); err != nil {
		return err
	}
	if err := s.w.QueryRowContext(ctx, `PRAGMA page_count`).Scan(&pages); err != nil {
		return err
	}
	if free < 256 || free < pages/4 {
		return nil
	}
	_, err := s.w.ExecContext(ctx, `PRAGMA incremental_vacuum(512)`)
	return err
}
