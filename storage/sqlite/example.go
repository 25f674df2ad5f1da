package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"faultline/graph"
	"faultline/storage"
)

// writeTraces keeps traces, each once, with the edges that they are examples of. A trace that is kept again stays as it
// was when it then had more spans.
func writeTraces(ctx context.Context, tx *sql.Tx, n *numberer, traces []graph.KeptTrace) error {
	if len(traces) == 0 {
		return nil
	}
	body, err := tx.PrepareContext(ctx, `INSERT INTO trace (trace, at, spans, data) VALUES (?, ?, ?, ?)
		ON CONFLICT (trace) DO UPDATE SET at = max(at, excluded.at), spans = excluded.spans, data = excluded.data WHERE excluded.spans >= spans`)
	if err != nil {
		return err
	}
	defer body.Close()
	example, err := tx.PrepareContext(ctx, `INSERT INTO example (trace, span, edge, source, target, kind, at, duration, failure) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (trace, span, edge) DO UPDATE SET kind = excluded.kind, at = excluded.at, duration = excluded.duration, failure = excluded.failure`)
	if err != nil {
		return err
	}
	defer example.Close()
	var raw, data []byte
	for i := range traces {
		t := &traces[i]
		at := int64(0)
		for j := range t.Examples {
			at = max(at, t.Examples[j].At.UnixNano())
		}
		if len(t.Examples) == 0 {
			for j := range t.Trace.Spans {
				at = max(at, t.Trace.Spans[j].End.UnixNano())
			}
		}
		raw = appendTrace(raw[:0], &t.Trace)
		data = compress(data[:0], raw)
		if _, err := body.ExecContext(ctx, t.Trace.ID[:], at, len(t.Trace.Spans), data); err != nil {
			return err
		}
		for j := range t.Examples {
			e := &t.Examples[j]
			d := day(e.At.Unix())
			edge, err := n.edgeID(e.Edge, d)
			if err != nil {
				return err
			}
			source, err := n.nodeID(e.Edge.Source, d)
			if err != nil {
				return err
			}
			target, err := n.nodeID(e.Edge.Target, d)
			if err != nil {
				return err
			}
			if _, err := example.ExecContext(ctx, t.Trace.ID[:], e.Span[:], edge, source, target, int64(e.Kind), e.At.UnixNano(), int64(e.Duration), int64(e.Failure)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Examples returns example calls, newest first.
func (s *Store) Examples(ctx context.Context, q storage.TraceQuery) ([]graph.Example, error) {
	if q.Limit < 1 || q.Limit > 1000 {
		return nil, fmt.Errorf("read examples: limit %d is not within 1…1000", q.Limit)
	}
	var out []graph.Example
	err := s.read(ctx, func(tx *sql.Tx) error {
		where := []string{"at >= ?", "at < ?"}
		args := []any{nanoseconds(q.From), nanoseconds(q.To)}
		if q.Only != nil {
			where, args = append(where, "kind = ?"), append(args, int64(*q.Only))
		}
		if q.Edge != "" {
			where, args = append(where, "edge IN (SELECT id FROM edge WHERE api_id = ?)"), append(args, q.Edge)
		}
		if q.HasEnv {
			where, args = append(where, "(SELECT env FROM node WHERE node.id = source) = ?"), append(args, q.Env)
		}
		const columns = `SELECT id, trace, span, edge, kind, at, duration, failure FROM example WHERE `
		query := columns + strings.Join(where, " AND ")
		if q.Service != "" {
			// Either end, each by its own index; a call from a service to itself comes up once.
			end := func(column string) string {
				return `SELECT * FROM (` + query + ` AND ` + column + ` IN (SELECT id FROM node WHERE api_id = ?) ORDER BY at DESC, id DESC LIMIT ?)`
			}
			args = append(args, q.Service, q.Limit)
			query, args = end("source")+` UNION `+end("target"), append(args, args...)
		}
		query += ` ORDER BY at DESC, id DESC LIMIT ?`
		args = append(args, q.Limit)
		edgeIDs := map[int64]struct{}{}
		var ids []int64
		if err := each(ctx, tx, func(r *sql.Rows) error {
			var e graph.Example
			var id, edge, at int64
			var trace, span []byte
			if err := r.Scan(&id, &trace, &span, &edge, &e.Kind, &at, &e.Duration, &e.Failure); err != nil {
				return err
			}
			copy(e.Trace[:], trace)
			copy(e.Span[:], span)
			e.At = time.Unix(0, at).UTC()
			out = append(out, e)
			ids = append(ids, edge)
			edgeIDs[edge] = struct{}{}
			return nil
		}, query, args...); err != nil {
			return err
		}
		w, err := s.words.words(ctx, tx, edgeIDs, nil, nil)
		for i := range out {
			out[i].Edge = w.edges[ids[i]].key
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read examples: %w", err)
	}
	return out, nil
}

// nanoseconds returns a time as it is in the tables, as near as they can hold it.
func nanoseconds(t time.Time) int64 {
	const first, last = -1 << 63, 1<<63 - 1
	switch {
	case t.Before(time.Unix(0, first)):
		return first
	case t.After(time.Unix(0, last)):
		return last
	}
	return t.UnixNano()
}

// Trace returns a kept trace, or storage.ErrNotFound.
func (s *Store) Trace(ctx context.Context, id graph.TraceID) (graph.Trace, error) {
	var data []byte
	err := s.r.QueryRowContext(ctx, `SELECT data FROM trace WHERE trace = ?`, id[:]).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return graph.Trace{}, storage.ErrNotFound
	}
	if err != nil {
		return graph.Trace{}, fmt.Errorf("read trace: %w", err)
	}
	raw, err := decompress(nil, data)
	if err != nil {
		return graph.Trace{}, fmt.Errorf("read trace %s: %w", id, err)
	}
	t, err := readTrace(raw)
	if err != nil {
		return graph.Trace{}, fmt.Errorf("read trace %s: %w", id, err)
	}
	t.ID = id
	return t, nil
}
