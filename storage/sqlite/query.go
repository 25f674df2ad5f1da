package sqlite

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"faultline/graph"
	"faultline/storage"
)

// Windows returns the sums of a query's windows.
func (s *Store) Windows(ctx context.Context, q storage.Query) ([]graph.Window, error) {
	windows, err := s.windows(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("read windows: %w", err)
	}
	return windows, nil
}

func (s *Store) windows(ctx context.Context, q storage.Query) (out []graph.Window, err error) {
	from, to := floor(q.From.Unix(), fine), floor(q.To.Unix(), fine)
	step := int64(q.Step / time.Second)
	if q.Step > 0 && q.Step < graph.WindowLength {
		step = fine
	}
	if q.Step < 0 {
		return nil, fmt.Errorf("negative step %v", q.Step)
	}
	if from >= to || q.Edges != nil && len(q.Edges) == 0 && q.Want&storage.WantNodes == 0 {
		return nil, nil
	}
	err = s.read(ctx, func(tx *sql.Tx) error {
		r := &rangeReader{ctx: ctx, tx: tx, asked: s.asked, from: from, to: to, step: step, dimensions: q.Dimensions}
		for _, k := range q.Except {
			r.except = append(r.except, partOf(k))
		}
		if q.Edges != nil {
			if r.only, err = edgeNumbers(ctx, tx, q.Edges); err != nil {
				return err
			}
		}
		if r.only == nil {
			r.cache = s.cache
			r.cache.question()
		}
		r.workers = make([]worker, min(runtime.GOMAXPROCS(0), maxWorkers))
		for i := range r.workers {
			r.workers[i].run(r)
		}
		var errs []error
		for k, want := range map[what]storage.Want{edges: storage.WantEdges, details: storage.WantDetails, nodes: storage.WantNodes} {
			if q.Want&want == 0 || k != nodes && r.only != nil && len(r.only) == 0 {
				continue
			}
			errs = append(errs, r.read(k))
		}
		sums, err := r.finish()
		if err := errors.Join(append(errs, err)...); err != nil {
			return err
		}
		out, err = r.windows(s.words, q, sums)
		return err
	})
	return out, err
}

// bucket is what is added up together: a window of an answer, or what of one kind starts in a span whose sum is to be kept.
type bucket struct {
	start, length int64
	kept          bool
	what          what // of a sum that is to be kept
}

// rangeReader answers one query: it reads blocks from one transaction and has workers add them up.
type rangeReader struct {
	ctx            context.Context
	tx             *sql.Tx
	asked          map[string]*sql.Stmt
	from, to, step int64
	only           map[int64]bool
	dimensions     []graph.Dimension // of details, nil for all
	cache          *sumCache         // nil for none
	except         []partID
	sums           spanSums // what comes from the cache or goes there
	workers        []worker
	next           int // the worker that is next where any will do
}

// job is a block to be added up.
type job struct {
	what         what
	length, lane int64
	start        int64
	pack         bool
	within       []span // what is asked for
	data         []byte
}

// holds reports whether what starts then is asked for.
func (j *job) holds(start int64) bool { return contains(j.within, start) }

func contains(spans []span, start int64) bool { return spanOf(spans, start) >= 0 }

// spanOf returns which span holds what starts then, -1 for none.
func spanOf(spans []span, start int64) int {
	return slices.IndexFunc(spans, func(sp span) bool { return sp.from <= start && start < sp.to })
}

// worker adds blocks to sums of its own, so that workers share nothing.
type worker struct {
	batch   []job // to be handed over
	pending int   // bytes in batch

	out  map[bucket]*sums
	jobs chan []job
	err  error
	done sync.WaitGroup
}

const (
	maxWorkers = 4
	jobBytes   = 64 << 10 // compressed blocks handed to a worker at a time, about half a millisecond's work
)

// run starts the worker, which ends when jobs is closed.
func (w *worker) run(r *rangeReader) {
	w.out, w.jobs = map[bucket]*sums{}, make(chan []job, 2)
	w.done.Go(func() {
		reader := blockReader{dimensions: r.dimensions}
		for jobs := range w.jobs {
			for i := range jobs {
				if w.err != nil {
					break // nobody waits for a worker that has given up
				}
				reader.only = r.only
				if jobs[i].what == nodes {
					reader.only = nil
				}
				w.err = w.add(r, &reader, &jobs[i])
			}
		}
	})
}

// bucketOf returns what a job's data that starts at a time is added to.
func (r *rangeReader) bucketOf(j *job, start int64) bucket {
	switch {
	case r.step == 0:
		if i := spanOf(j.within, start); i >= 0 && j.within[i].kept {
			s := stretch{j.what, j.within[i].from, j.within[i].to}
			return s.bucket()
		}
		return r.whole()
	case j.length > r.step:
		return bucket{start: start, length: j.length}
	}
	return bucket{start: floor(start, r.step), length: r.step}
}

// whole returns the window of an answer without a step.
func (r *rangeReader) whole() bucket { return bucket{start: r.from, length: r.to - r.from} }

// add adds a job's block or pack.
func (w *worker) add(r *rangeReader, reader *blockReader, j *job) error {
	if err := w.addBlocks(r, reader, j); err != nil {
		return fmt.Errorf("block of %d s at %s: %w", j.length, time.Unix(j.start, 0).UTC().Format(time.RFC3339), err)
	}
	return nil
}

func (w *worker) addBlocks(r *rangeReader, reader *blockReader, j *job) error {
	into := func(start int64) *sums {
		b := r.bucketOf(j, start)
		s := w.out[b]
		if s == nil {
			s = &sums{}
			w.out[b] = s
		}
		return s
	}
	if !j.pack {
		return reader.merge(into(j.start), j.what, j.data)
	}
	minutes, err := reader.unpack(j.data)
	if err != nil {
		return err
	}
	for i, b := range minutes {
		start := j.start + int64(i)*minute
		if b == nil || !j.holds(start) {
			continue
		}
		if err := reader.mergeRaw(into(start), edges, b); err != nil {
			return err
		}
	}
	return nil
}

// take gives a job to a worker. Unless only some edges are asked for, each lane has its worker, so that no edge is added
// up by two.
func (r *rangeReader) take(j job) {
	w := &r.workers[r.next]
	if r.only == nil {
		w = &r.workers[int(j.lane)%len(r.workers)] // counts of lanes are powers of two, as the number of workers mostly is
	}
	if w.pending >= jobBytes {
		w.hand()
		r.next = (r.next + 1) % len(r.workers)
	}
	w.batch = append(w.batch, j)
	w.pending += len(j.data)
}

// hand gives the worker its batch.
func (w *worker) hand() {
	if len(w.batch) > 0 {
		w.jobs <- w.batch
	}
	w.batch, w.pending = nil, 0
}

// finish waits for the workers and adds up what they have. It is called once, also after an error.
func (r *rangeReader) finish() (map[bucket]*sums, error) {
	var errs []error
	out := map[bucket]*sums{}
	for i := range r.workers {
		w := &r.workers[i]
		w.hand()
		close(w.jobs)
		w.done.Wait()
		errs = append(errs, w.err)
		for b, s := range w.out {
			if out[b] == nil {
				out[b] = s
			} else {
				out[b].absorb(s)
			}
		}
	}
	err := errors.Join(errs...)
	if err == nil {
		r.addSpans(out)
	}
	return out, err
}

// The texts of questions.
const (
	selectDropped = `SELECT length, before FROM dropped WHERE what = ?`
	selectWrites  = `SELECT coalesce(sum(times), 0) FROM writes WHERE what = ? AND start >= ? AND start < ?`
	notIn         = ` AND (start, part) NOT IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))`
	selectUntil   = `SELECT max(until) FROM block WHERE what = ? AND length = ? AND start IN (?, ?) AND (start = ? OR part = ?) AND state < 3`
)

func selectBlocks(lanes string) string {
	return `SELECT lane, start, part, data FROM block WHERE what = ? AND length = ? AND lane IN ` + lanes + ` AND start >= ? AND start < ? AND state < 3`
}

func selectUnfolded(lanes string) string {
	return `SELECT lane, start, part, data FROM block INDEXED BY block_unfolded WHERE what = ? AND length = ? AND lane IN ` + lanes + ` AND start >= ? AND start < ? AND state < 2`
}

// query runs a text, prepared if it is one that is asked again and again.
func (r *rangeReader) query(text string, args ...any) (*sql.Rows, error) {
	if stmt := r.asked[text]; stmt != nil {
		return r.tx.StmtContext(r.ctx, stmt).QueryContext(r.ctx, args...)
	}
	return r.tx.QueryContext(r.ctx, text, args...)
}

// each runs a text and calls f for every row.
func (r *rangeReader) each(f func(*sql.Rows) error, text string, args ...any) error {
	rows, err := r.query(text, args...)
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

func (r *rangeReader) read(k what) error {
	before := map[int64]int64{}
	if err := r.each(func(rows *sql.Rows) error {
		var length, t int64
		err := rows.Scan(&length, &t)
		before[length] = t
		return err
	}, selectDropped, k); err != nil {
		return err
	}
	lengths := k.lengths()
	spans, err := plan(lengths, before, r.from, r.to, r.step, func(length, start int64) (int64, error) {
		var end sql.NullInt64
		packStart := start
		if k == edges && length == minute {
			packStart = floor(start, tenMin)
		}
		err := r.each(func(rows *sql.Rows) error { return rows.Scan(&end) }, selectUntil, k, length, start, packStart, start, packPart)
		return end.Int64, err
	})
	if err != nil {
		return err
	}
	if r.keeps(k) {
		if spans, err = r.fromCache(k, spans, before); err != nil {
			return err
		}
	}
	lanes := allLanes
	if k != nodes && r.only != nil && len(r.only) <= 12 {
		var some []int64
		for id := range r.only {
			l := lanesOf(id)
			some = append(some, l[:]...)
		}
		slices.Sort(some)
		lanes = list(slices.Compact(some))
	}
	for left := spans; len(left) > 0; {
		n := 1
		for n < len(left) && left[n].length == left[0].length && left[n].from == left[n-1].to {
			n++
		}
		if err := r.blocks(k, left[0].length, selectBlocks(lanes), left[:n]); err != nil {
			return err
		}
		left = left[n:]
	}
	for _, l := range lengths[:len(lengths)-1] {
		var within []span
		for _, sp := range spans {
			if sp.length > l {
				within = append(within, sp)
			}
		}
		if len(within) == 0 {
			continue
		}
		if err := r.blocks(k, l, selectUnfolded(lanes), within); err != nil {
			return err
		}
	}
	return nil
}

// blocks adds the blocks of one length that a query finds in some spans, which are asked for together.
func (r *rangeReader) blocks(k what, length int64, query string, within []span) error {
	from, to := within[0].from, within[0].to
	for _, sp := range within {
		from, to = min(from, sp.from), max(to, sp.to)
	}
	args := []any{k, length, from, to}
	if length == k.lengths()[0] {
		if parts := r.excepted(length, from, to); parts != "" {
			query, args = query+notIn, append(args, parts)
		}
	}
	packs := k == edges && length == minute
	if packs {
		args[2] = floor(from, tenMin) // where the pack begins that holds the first of them
	}
	return r.each(func(rows *sql.Rows) error {
		var lane, start, part int64
		var data sql.RawBytes
		if err := rows.Scan(&lane, &start, &part, &data); err != nil {
			return err
		}
		packed := packs && part == packPart
		if packed || contains(within, start) {
			r.take(job{k, length, lane, start, packed, within, bytes.Clone(data)})
		}
		return nil
	}, query, args...)
}

// excepted returns the parts that the caller holds himself, for notIn; "" for none.
func (r *rangeReader) excepted(length, from, to int64) string {
	var parts strings.Builder
	for _, p := range r.except {
		if p.length == length && from <= p.start && p.start < to {
			fmt.Fprintf(&parts, ",[%d,%d]", p.start, p.part)
		}
	}
	if parts.Len() == 0 {
		return ""
	}
	return "[" + parts.String()[1:] + "]"
}

// windows turns the sums into windows, with words for numbers.
func (r *rangeReader) windows(d *dictionary, q storage.Query, sums map[bucket]*sums) ([]graph.Window, error) {
	edgeIDs, nodeIDs, nameIDs := map[int64]struct{}{}, map[int64]struct{}{}, map[int64]struct{}{}
	for _, s := range sums {
		for id := range s.edges {
			edgeIDs[id] = struct{}{}
		}
		for k := range s.details {
			edgeIDs[k.edge], nameIDs[k.name] = struct{}{}, struct{}{}
		}
		for k := range s.nodes {
			nodeIDs[k.node] = struct{}{}
			for _, name := range [...]int64{k.instance, k.version, k.zone, k.host} {
				nameIDs[name] = struct{}{}
			}
		}
	}
	w, err := d.words(r.ctx, r.tx, edgeIDs, nodeIDs, nameIDs)
	if err != nil {
		return nil, err
	}
	other := func(env string) bool { return q.HasEnv && env != q.Env }
	var out []graph.Window
	for b, s := range sums {
		win := graph.Window{Start: time.Unix(b.start, 0).UTC(), Length: time.Duration(b.length) * time.Second}
		win.Edges = make([]graph.EdgeRow, 0, len(s.edges))
		for id, e := range s.edges {
			key, ok := w.edges[id]
			if !ok || other(key.key.Env()) {
				continue
			}
			if stats := e.stats(); !stats.Zero() {
				win.Edges = append(win.Edges, graph.EdgeRow{Edge: key.key, Stats: stats})
			}
		}
		for k, sum := range s.details {
			key, ok1 := w.edges[k.edge]
			name, ok2 := w.names[k.name]
			if !ok1 || !ok2 || other(key.key.Env()) {
				continue
			}
			if o := sum.detail(); o.Calls != 0 || o.Errors != 0 || o.Raw != 0 || o.RawErrors != 0 || o.Latency.Count() != 0 {
				win.Details = append(win.Details, graph.DetailRow{Edge: key.key, Key: graph.DetailKey{Dimension: k.dim, Side: k.side, Name: name}, Detail: o})
			}
		}
		for k, spans := range s.nodes {
			n, ok1 := w.nodes[k.node]
			row := graph.NodeRow{Node: n, Spans: spans}
			for _, of := range [...]struct {
				name *string
				id   int64
			}{{&row.Instance, k.instance}, {&row.Version, k.version}, {&row.Zone, k.zone}, {&row.Host, k.host}} {
				var ok bool
				*of.name, ok = w.names[of.id]
				ok1 = ok1 && ok
			}
			if ok1 && !other(n.Env) {
				win.Nodes = append(win.Nodes, row)
			}
		}
		if len(win.Edges)+len(win.Details)+len(win.Nodes) > 0 {
			out = append(out, win)
		}
	}
	slices.SortFunc(out, func(a, b graph.Window) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Length, b.Length))
	})
	return out, nil
}
