package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"

	"faultline/graph"
)

// maxCached bounds each cache of the dictionary; a cache that is full starts again.
const maxCached = 200_000

// numbered is a number that the dictionary gave, and the day on which it was last written.
type numbered struct{ id, day int64 }

// edgeEnds is an edge in numbers.
type edgeEnds struct {
	source, target int64
	protocol       graph.Protocol
}

// dictionary keeps in memory which number stands for which node, edge and name. The tables are the truth: everything here
// was read from or committed to them, and numbers never change their meaning. Only the writer asks for a number, so
// only it fills the one direction; readers fill the other. Safe for concurrent use.
type dictionary struct {
	mu       sync.RWMutex
	ids      numbers
	nodes    map[int64]graph.Node
	edges    map[int64]edgeWords
	nameByID map[int64]string
}

// edgeWords is an edge's key, with the numbers of its ends.
type edgeWords struct {
	key  graph.EdgeKey
	ends edgeEnds
}

// numbers is the direction from words to numbers.
type numbers struct {
	node map[graph.Node]numbered
	edge map[graph.EdgeKey]numbered
	name map[string]numbered
}

func newNumbers() numbers {
	return numbers{map[graph.Node]numbered{}, map[graph.EdgeKey]numbered{}, map[string]numbered{}}
}

func newDictionary() *dictionary {
	return &dictionary{ids: newNumbers(), nodes: map[int64]graph.Node{}, edges: map[int64]edgeWords{}, nameByID: map[int64]string{}}
}

// numberer gives numbers within one transaction of the writer; commit keeps them for later ones.
type numberer struct {
	d   *dictionary
	ctx context.Context
	tx  *sql.Tx
	new numbers

	node, edge, name *sql.Stmt
}

func (d *dictionary) numberer(ctx context.Context, tx *sql.Tx) *numberer {
	return &numberer{d: d, ctx: ctx, tx: tx, new: newNumbers()}
}

// number looks a key up, in memory or by the insert that leaves what is there as it is.
func number[K comparable](n *numberer, key K, day int64, known, fresh map[K]numbered, stmt **sql.Stmt, query string, args func() ([]any, error)) (int64, error) {
	if v, ok := fresh[key]; ok && v.day >= day {
		return v.id, nil
	}
	if v, ok := known[key]; ok && v.day >= day {
		return v.id, nil
	}
	if *stmt == nil {
		s, err := n.tx.PrepareContext(n.ctx, query)
		if err != nil {
			return 0, err
		}
		*stmt = s
	}
	a, err := args()
	if err != nil {
		return 0, err
	}
	v := numbered{day: day}
	if err := (*stmt).QueryRowContext(n.ctx, append(a, day)...).Scan(&v.id); err != nil {
		return 0, err
	}
	fresh[key] = v
	return v.id, nil
}

const usedLater = ` DO UPDATE SET used = max(used, excluded.used) RETURNING id`

func (n *numberer) nodeID(k graph.Node, day int64) (int64, error) {
	return number(n, k, day, n.d.ids.node, n.new.node, &n.node,
		`INSERT INTO node (env, kind, namespace, name, api_id, used) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name, namespace, kind, env)`+usedLater,
		func() ([]any, error) { return []any{k.Env, int64(k.Kind), k.Namespace, k.Name, k.ID()}, nil })
}

func (n *numberer) edgeID(k graph.EdgeKey, day int64) (int64, error) {
	return number(n, k, day, n.d.ids.edge, n.new.edge, &n.edge,
		`INSERT INTO edge (source, target, protocol, api_id, used) VALUES (?, ?, ?, ?, ?) ON CONFLICT (source, target, protocol)`+usedLater,
		func() ([]any, error) {
			source, err := n.nodeID(k.Source, day)
			if err != nil {
				return nil, err
			}
			target, err := n.nodeID(k.Target, day)
			return []any{source, target, int64(k.Protocol), k.ID()}, err
		})
}

func (n *numberer) nameID(k string, day int64) (int64, error) {
	return number(n, k, day, n.d.ids.name, n.new.name, &n.name,
		`INSERT INTO name (text, used) VALUES (?, ?) ON CONFLICT (text)`+usedLater,
		func() ([]any, error) { return []any{k}, nil })
}

// commit keeps the numbers that were given, once the transaction is committed.
func (n *numberer) commit() {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	keep(&n.d.ids.node, n.new.node)
	keep(&n.d.ids.edge, n.new.edge)
	keep(&n.d.ids.name, n.new.name)
}

// keep adds to a cache, which starts again when it is full.
func keep[K comparable, V any](cache *map[K]V, more map[K]V) {
	if len(*cache)+len(more) > maxCached {
		*cache = map[K]V{}
	}
	maps.Copy((*cache), more)
}

// forget empties the writer's direction, after words were dropped from the tables.
func (d *dictionary) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ids = newNumbers()
}

// words is the answer to what a set of numbers stands for; a number that is not there is not in the tables either.
type words struct {
	nodes map[int64]graph.Node
	edges map[int64]edgeWords
	names map[int64]string
}

// words returns what the numbers stand for, from memory and else from the tables.
func (d *dictionary) words(ctx context.Context, tx *sql.Tx, edgeIDs, nodeIDs, nameIDs map[int64]struct{}) (words, error) {
	out := words{map[int64]graph.Node{}, map[int64]edgeWords{}, map[int64]string{}}
	d.mu.RLock()
	missingEdges := pick(out.edges, d.edges, edgeIDs)
	missingNodes := pick(out.nodes, d.nodes, nodeIDs)
	missingNames := pick(out.names, d.nameByID, nameIDs)
	d.mu.RUnlock()
	if len(missingEdges)+len(missingNodes)+len(missingNames) == 0 {
		return out, nil
	}

	ends := map[int64]edgeEnds{}
	if err := eachIn(ctx, tx, `SELECT id, source, target, protocol FROM edge WHERE id IN `, missingEdges, func(r *sql.Rows) error {
		var id int64
		var e edgeEnds
		if err := r.Scan(&id, &e.source, &e.target, &e.protocol); err != nil {
			return err
		}
		ends[id] = e
		return nil
	}); err != nil {
		return out, err
	}
	wanted := map[int64]struct{}{}
	for _, id := range missingNodes {
		wanted[id] = struct{}{}
	}
	for _, e := range ends {
		wanted[e.source], wanted[e.target] = struct{}{}, struct{}{}
	}
	found := map[int64]graph.Node{}
	d.mu.RLock()
	missingNodes = pick(found, d.nodes, wanted)
	d.mu.RUnlock()
	if err := eachIn(ctx, tx, `SELECT id, env, kind, namespace, name FROM node WHERE id IN `, missingNodes, func(r *sql.Rows) error {
		var id int64
		var n graph.Node
		if err := r.Scan(&id, &n.Env, &n.Kind, &n.Namespace, &n.Name); err != nil {
			return err
		}
		found[id] = n
		return nil
	}); err != nil {
		return out, err
	}
	names := map[int64]string{}
	if err := eachIn(ctx, tx, `SELECT id, text FROM name WHERE id IN `, missingNames, func(r *sql.Rows) error {
		var id int64
		var text string
		if err := r.Scan(&id, &text); err != nil {
			return err
		}
		names[id] = text
		return nil
	}); err != nil {
		return out, err
	}

	fresh := map[int64]edgeWords{}
	for id, e := range ends {
		source, ok1 := found[e.source]
		target, ok2 := found[e.target]
		if ok1 && ok2 {
			w := edgeWords{graph.EdgeKey{Source: source, Target: target, Protocol: e.protocol}, e}
			fresh[id], out.edges[id] = w, w
		}
	}
	for id := range nodeIDs {
		if n, ok := found[id]; ok {
			out.nodes[id] = n
		}
	}
	maps.Copy(out.names, names)
	d.mu.Lock()
	keep(&d.nodes, found)
	keep(&d.edges, fresh)
	keep(&d.nameByID, names)
	d.mu.Unlock()
	return out, nil
}

// pick copies what is wanted and returns what is not there.
func pick[V any](to, from map[int64]V, wanted map[int64]struct{}) (missing []int64) {
	for id := range wanted {
		if v, ok := from[id]; ok {
			to[id] = v
		} else {
			missing = append(missing, id)
		}
	}
	return missing
}

// eachIn runs query once for every few hundred ids, as numbers in its text, and f for every row.
func eachIn(ctx context.Context, tx *sql.Tx, query string, ids []int64, f func(*sql.Rows) error) error {
	const chunk = 500
	for len(ids) > 0 {
		n := min(len(ids), chunk)
		if err := each(ctx, tx, f, query+list(ids[:n])); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// list writes numbers as SQL's (1, 2, 3).
func list(ids []int64) string {
	var b strings.Builder
	for i, id := range ids {
		b.WriteByte("(,"[min(i, 1)])
		b.WriteString(strconv.FormatInt(id, 10))
	}
	if len(ids) == 0 {
		b.WriteByte('(')
	}
	b.WriteByte(')')
	return b.String()
}

// each runs query and calls f for every row.
func each(ctx context.Context, tx *sql.Tx, f func(*sql.Rows) error, query string, args ...any) error {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// edgeNumbers returns the numbers of edges by their API ids, which gateways and services of one name share.
func edgeNumbers(ctx context.Context, tx *sql.Tx, apiIDs []string) (map[int64]bool, error) {
	out := map[int64]bool{}
	stmt, err := tx.PrepareContext(ctx, `SELECT id FROM edge WHERE api_id = ?`)
	if err != nil {
		return nil, err
	}
	defer stmt.Close()
	for _, id := range apiIDs {
		rows, err := stmt.QueryContext(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("look up edge: %w", err)
		}
		for rows.Next() {
			var n int64
			if err := rows.Scan(&n); err != nil {
				rows.Close()
				return nil, err
			}
			out[n] = true
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return nil, err
		}
	}
	return out, nil
}
