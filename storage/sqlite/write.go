package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"faultline/graph"
	"faultline/storage"
)

// The lengths of blocks, in seconds.
const (
	fine   = int64(graph.WindowLength / time.Second)
	minute = int64(graph.DetailLength / time.Second)
	tenMin = int64(600)
	hour   = int64(3600)
	sixHrs = int64(21600)
)

// The lengths of blocks by kind. Those that storage.Retention does not name lie between or above those that it does and
// make long questions cheap: a day is some forty blocks of an edge instead of a hundred.
var (
	edgeLengths = []int64{fine, minute, tenMin, hour, sixHrs}
	restLengths = edgeLengths[1:]
)

// lengths returns the lengths of blocks of a kind, from the finest, which is the one that is written.
func (k what) lengths() []int64 {
	if k == edges {
		return edgeLengths
	}
	return restLengths
}

// longer returns the length into which blocks of a length are folded, 0 for the longest.
func longer(length int64) int64 {
	if i := slices.Index(edgeLengths, length); i < len(edgeLengths)-1 {
		return edgeLengths[i+1]
	}
	return 0
}

// The states of blocks; the numbers are on disk.
const (
	open       = 0 // may be written again by the same process
	closed     = 1 // to be folded
	folded     = 2 // in the next longer block
	unreadable = 3 // set aside
)

// allLanes are the lanes that there may be, as SQL.
var allLanes = func() string {
	var lanes []int64
	for _, n := range []int64{1, 8, maxLanes} {
		for l := range n {
			lanes = append(lanes, n+l)
		}
	}
	return list(lanes)
}()

// partID is a graph.PartKey as it is on disk.
type partID struct{ start, length, part int64 }

func partOf(k graph.PartKey) partID {
	return partID{k.Start.Unix(), int64(k.Length / time.Second), int64(k.Part)}
}

// floor returns t rounded down to a multiple of length.
func floor(t, length int64) int64 {
	m := t % length
	if m < 0 {
		m += length
	}
	return t - m
}

// day returns the day of a time in seconds.
func day(t int64) int64 { return floor(t, 86400) / 86400 }

// Write keeps a batch, in one transaction. Encoding and writing 10,000 rows takes about 70 ms.
func (s *Store) Write(ctx context.Context, b storage.Batch) error {
	for i := range b.Windows {
		if err := check(&b.Windows[i]); err != nil {
			return fmt.Errorf("write part: %w", err)
		}
	}
	var n *numberer
	err := s.write(ctx, func(tx *sql.Tx) error {
		n = s.words.numberer(ctx, tx)
		for i := range b.Windows {
			if err := s.writePart(ctx, tx, n, &b.Windows[i]); err != nil {
				return fmt.Errorf("write part of %s: %w", b.Windows[i].Start.UTC().Format(time.RFC3339), err)
			}
		}
		if err := countWrites(ctx, tx, b.Windows); err != nil {
			return fmt.Errorf("count writes: %w", err)
		}
		if err := writeTraces(ctx, tx, n, b.Traces); err != nil {
			return fmt.Errorf("write traces: %w", err)
		}
		if err := writeFindings(ctx, tx, n, b.Findings); err != nil {
			return fmt.Errorf("write findings: %w", err)
		}
		for k, v := range b.State {
			if v == nil {
				v = []byte{}
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO state VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value`, k, v); err != nil {
				return fmt.Errorf("write state: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n.commit()
	for i := range b.Windows {
		if k := partOf(b.Windows[i].Key()); b.Windows[i].Open {
			delete(s.closing, k)
		} else {
			s.closing[k] = time.Time{}
		}
	}
	return nil
}

// errPart says that a part does not keep the contract.
var errPart = errors.New("not a part of a window of edges, or of details and nodes")

func check(p *graph.Part) error {
	switch {
	case p.Length == graph.WindowLength && len(p.Details)+len(p.Nodes) == 0:
	case p.Length == graph.DetailLength && len(p.Edges) == 0:
	default:
		return fmt.Errorf("%w: length %v with %d edges, %d details, %d nodes", errPart, p.Length, len(p.Edges), len(p.Details), len(p.Nodes))
	}
	if p.Start.Nanosecond() != 0 || p.Start.Unix()%int64(p.Length/time.Second) != 0 {
		return fmt.Errorf("%w: start %v is not aligned to %v", errPart, p.Start, p.Length)
	}
	return nil
}

func (s *Store) writePart(ctx context.Context, tx *sql.Tx, n *numberer, p *graph.Part) error {
	start, length, part := p.Start.Unix(), int64(p.Length/time.Second), int64(p.Part)
	kinds := []what{edges}
	if length == minute {
		kinds = []what{details, nodes}
	}
	var old []int64
	final, entries := false, int64(0)
	for _, k := range kinds {
		if err := each(ctx, tx, func(r *sql.Rows) error {
			var id, state, e int64
			if err := r.Scan(&id, &state, &e); err != nil {
				return err
			}
			old = append(old, id)
			final = final || state >= folded
			entries -= e
			return nil
		}, `SELECT id, state, entries FROM block WHERE what = ? AND length = ? AND lane IN `+allLanes+` AND start = ? AND part = ?`, k, length, start, part); err != nil {
			return err
		}
	}
	if final {
		return nil // it was closed and is in the sums: written again after an answer was lost
	}
	if err := eachIn(ctx, tx, `DELETE FROM block WHERE id IN `, old, func(*sql.Rows) error { return nil }); err != nil {
		return err
	}
	rows, err := numbersOf(n, p, day(start))
	if err != nil {
		return err
	}
	state := closed
	if p.Open {
		state = open
	}
	insert, err := tx.PrepareContext(ctx, `INSERT INTO block (what, length, lane, start, part, state, until, entries, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	defer insert.Close()
	for _, k := range kinds {
		for _, b := range rows.blocks(k, &s.block) {
			if _, err := insert.ExecContext(ctx, k, length, b.lane, start, part, state, start+length, b.entries, b.data); err != nil {
				return err
			}
			entries += int64(b.entries)
		}
	}
	if length != fine {
		return nil
	}
	return count(ctx, tx, entries)
}

// count adds to the number of rows in the finest tier.
func count(ctx context.Context, tx *sql.Tx, entries int64) error {
	_, err := tx.ExecContext(ctx, `UPDATE total SET value = value + ? WHERE name = 'entries'`, entries)
	return err
}

// numbersOf returns a part's rows in numbers. They share the memory of the part's sketches, and are only read.
func numbersOf(n *numberer, p *graph.Part, day int64) (*sums, error) {
	rows := &sums{edges: make(map[int64]*edgeSum, len(p.Edges)), details: make(map[detailKey]*detailSum, len(p.Details))}
	// The memory of all sums at once, given back together.
	edgeSums, detailSums := make([]edgeSum, len(p.Edges)), make([]detailSum, len(p.Details))
	for i := range p.Edges {
		r := &p.Edges[i]
		id, err := n.edgeID(r.Edge, day)
		if err != nil {
			return nil, err
		}
		if e := rows.edges[id]; e != nil {
			e.client, e.server = e.client.Clone(), e.server.Clone()
			e.add(&r.Stats)
			continue
		}
		edgeSums[i] = edgeSum{countsOf(&r.Stats), r.Stats.Client, r.Stats.Server}
		rows.edges[id] = &edgeSums[i]
	}
	var id int64
	for i := range p.Details {
		r := &p.Details[i]
		if i == 0 || r.Edge != p.Details[i-1].Edge { // those of one edge mostly follow each other
			var err error
			if id, err = n.edgeID(r.Edge, day); err != nil {
				return nil, err
			}
		}
		name, err := n.nameID(r.Key.Name, day)
		if err != nil {
			return nil, err
		}
		if r.Key.Dimension >= graph.NumDimensions || r.Key.Side > graph.ServerSide {
			return nil, fmt.Errorf("%w: detail %+v", errPart, r.Key)
		}
		k := detailKey{id, r.Key.Dimension, r.Key.Side, name}
		if d := rows.details[k]; d != nil {
			d.latency = d.latency.Clone()
			d.add(&r.Detail)
			continue
		}
		detailSums[i] = detailSum{detailCountsOf(&r.Detail), r.Detail.Latency}
		rows.details[k] = &detailSums[i]
	}
	for i := range p.Nodes {
		r := &p.Nodes[i]
		id, err := n.nodeID(r.Node, day)
		if err != nil {
			return nil, err
		}
		k := nodeKey{node: id}
		for _, of := range [...]struct {
			id   *int64
			name string
		}{{&k.instance, r.Instance}, {&k.version, r.Version}, {&k.zone, r.Zone}, {&k.host, r.Host}} {
			if *of.id, err = n.nameID(of.name, day); err != nil {
				return nil, err
			}
		}
		rows.node(k, r.Spans)
	}
	return rows, nil
}
