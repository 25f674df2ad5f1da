package sqlite

import (
	"context"
	"database/sql"
	_ "embed"
	"fmt"
	"math"
	"strings"
	"time"

	"faultline/graph"
	"faultline/storage"
)

//go:embed finding.sql
var findingSchema string

// writeFindings keeps findings, each once: a later state replaces the earlier one.
func writeFindings(ctx context.Context, tx *sql.Tx, n *numberer, findings []graph.Finding) error {
	if len(findings) == 0 {
		return nil
	}
	insert, err := tx.PrepareContext(ctx, `INSERT INTO finding (rule, edge, source, target, subject, level, since, until, sentence, value, n)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (edge, source, rule, subject, since) DO UPDATE SET
			level = excluded.level, until = excluded.until, sentence = excluded.sentence, value = excluded.value, n = excluded.n`)
	if err != nil {
		return err
	}
	defer insert.Close()
	for i := range findings {
		f := &findings[i]
		edge, source, target, err := n.placeOf(f)
		if err != nil {
			return err
		}
		value := sql.NullFloat64{Float64: f.Value, Valid: !math.IsNaN(f.Value)}
		if _, err := insert.ExecContext(ctx, f.Rule, edge, source, target, f.Subject, int64(f.Level), nanoseconds(f.Since), nanoseconds(f.Until),
			f.Sentence, value, f.N); err != nil {
			return err
		}
	}
	return nil
}

// placeOf returns where a finding is, in numbers.
func (n *numberer) placeOf(f *graph.Finding) (edge, source, target int64, err error) {
	d := day(f.Until.Unix())
	if f.Edge == (graph.EdgeKey{}) {
		node, err := n.nodeID(f.Node, d)
		return 0, node, node, err
	}
	if edge, err = n.edgeID(f.Edge, d); err != nil {
		return 0, 0, 0, err
	}
	if source, err = n.nodeID(f.Edge.Source, d); err != nil {
		return 0, 0, 0, err
	}
	target, err = n.nodeID(f.Edge.Target, d)
	return edge, source, target, err
}

// Findings returns findings, the latest to begin first.
func (s *Store) Findings(ctx context.Context, q storage.FindingQuery) ([]graph.Finding, error) {
	if q.Limit < 1 || q.Limit > storage.MaxFindings {
		return nil, fmt.Errorf("read findings: limit %d is not within 1…%d", q.Limit, storage.MaxFindings)
	}
	where := []string{"since < ?", "until >= ?"}
	args := []any{nanoseconds(q.To), nanoseconds(q.From)}
	add := func(condition string, values ...any) { where, args = append(where, condition), append(args, values...) }
	if q.HasEnv {
		add("(SELECT env FROM node WHERE node.id = source) = ?", q.Env)
	}
	if q.Rule != "" {
		add("rule = ?", q.Rule)
	}
	if q.Edge != "" {
		add("edge IN (SELECT id FROM edge WHERE api_id = ?)", q.Edge)
	}
	if q.Node != "" {
		const those = "IN (SELECT id FROM node WHERE api_id = ?)"
		add("(source "+those+" OR target "+those+")", q.Node, q.Node)
	}
	var out []graph.Finding
	err := s.read(ctx, func(tx *sql.Tx) error {
		var tables int // a store that an older version has open may be without
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE name = 'finding'`).Scan(&tables); err != nil || tables == 0 {
			return err
		}
		edgeIDs, nodeIDs := map[int64]struct{}{}, map[int64]struct{}{}
		var edges, nodes []int64
		if err := each(ctx, tx, func(r *sql.Rows) error {
			var f graph.Finding
			var edge, node, since, until int64
			var value sql.NullFloat64
			if err := r.Scan(&f.Rule, &edge, &node, &f.Subject, &f.Level, &since, &until, &f.Sentence, &value, &f.N); err != nil {
				return err
			}
			f.Since, f.Until, f.Value = time.Unix(0, since).UTC(), time.Unix(0, until).UTC(), value.Float64
			if !value.Valid {
				f.Value = math.NaN()
			}
			out, edges, nodes = append(out, f), append(edges, edge), append(nodes, node)
			if edge != 0 {
				edgeIDs[edge] = struct{}{}
			} else {
				nodeIDs[node] = struct{}{}
			}
			return nil
		}, `SELECT rule, edge, source, subject, level, since, until, sentence, value, n FROM finding WHERE `+strings.Join(where, " AND ")+
			` ORDER BY since DESC, id DESC LIMIT ?`, append(args, q.Limit)...); err != nil {
			return err
		}
		w, err := s.words.words(ctx, tx, edgeIDs, nodeIDs, nil)
		if err != nil {
			return err
		}
		for i := range out {
			if edges[i] != 0 {
				out[i].Edge = w.edges[edges[i]].key
			} else {
				out[i].Node = w.nodes[nodes[i]]
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read findings: %w", err)
	}
	return out, nil
}
