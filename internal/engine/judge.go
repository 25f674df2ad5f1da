package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"faultline/graph"
	"faultline/graph/finding"
	"faultline/storage"
)

// How a Judge judges.
const (
	judged         = 5 * graph.DetailLength // what is looked at, the present minute included
	rememberEvery  = 5 * time.Minute        // how often what was learned is put aside for the store
	weighEvery     = 6 * time.Hour          // how often the last days are asked for edges without a timeout
	weighFirst     = time.Hour              // after how long the first time
	weighed        = 7 * 24 * time.Hour
	memoryStateKey = "judge"
)

// Judge names what goes wrong, every few seconds, from the last five minutes of a View, and keeps what is open. One
// goroutine calls Restore and Round; the rest may be called by any, and never waits for a round.
type Judge struct {
	view   storage.Reader
	memory finding.Memory

	mu         sync.Mutex
	book       book
	remembered []byte // what was learned, for the store; nil when it has it
	rememberAt time.Time
	learned    map[string]Learned
	dropped    int64
}

// Learned is what is known of an edge from longer ago than a question reaches.
type Learned struct {
	Ceiling float64 // most calls in flight so far that went well, 0 when it is not known
	Backlog float64 // messages that wait in the queue, 0 when none do or it is not known
}

// NewJudge returns a Judge over a view. It starts nothing.
func NewJudge(view storage.Reader) *Judge {
	return &Judge{view: view, book: book{open: map[graph.FindingKey]*entry{}, waiting: map[stored]graph.Finding{}}}
}

// Restore takes up what an earlier process learned, and what was open when it ended, if that is not long ago.
func (j *Judge) Restore(ctx context.Context, now time.Time) error {
	open, err := j.view.Findings(ctx, storage.FindingQuery{From: now.Add(-reopenWithin), To: now.Add(time.Minute), Limit: storage.MaxFindings})
	if err != nil {
		return fmt.Errorf("read open findings: %w", err)
	}
	j.mu.Lock()
	j.book.restore(open)
	j.mu.Unlock()
	state, err := j.view.State(ctx, memoryStateKey)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what was learned of edges: %w", err)
	}
	var memory finding.Memory
	if err := json.Unmarshal(state, &memory); err != nil {
		return fmt.Errorf("read what was learned of edges: %w", err)
	}
	j.memory = memory
	return nil
}

// Round judges once.
func (j *Judge) Round(ctx context.Context, now time.Time) error {
	from := floor(now, graph.DetailLength).Add(graph.DetailLength - judged)
	gathering, err := j.gather(ctx, from, now)
	if err != nil {
		return err
	}
	if err := j.weigh(ctx, now); err != nil {
		return err
	}
	var found []graph.Finding
	learned := map[string]Learned{}
	for _, env := range gathering.Envs() {
		g := gathering.Graph(env)
		found = append(found, finding.Judge(g)...)
		for _, e := range g.Edges {
			learned[e.ID] = learnedOf(e.Learned)
		}
	}
	j.memory.Learned(now)

	j.mu.Lock()
	defer j.mu.Unlock()
	j.learned = learned
	j.dropped += j.book.take(now, found)
	if now.Sub(j.rememberAt) >= rememberEvery {
		state, err := json.Marshal(&j.memory)
		if err != nil {
			return fmt.Errorf("write what was learned of edges: %w", err)
		}
		j.remembered, j.rememberAt = state, now
	}
	return nil
}

// gather returns what is judged: by the minute, and what is recent as finely as it is kept. It is asked for minute by
// minute, which takes a fraction of the memory of all of them at once.
func (j *Judge) gather(ctx context.Context, from, now time.Time) (*finding.Gathering, error) {
	recent, to := finding.RecentFrom(now), floor(now, graph.WindowLength).Add(graph.WindowLength)
	gathering := finding.Gather(from, now, &j.memory)
	for start := from; start.Before(to); start = start.Add(graph.DetailLength) {
		end, step := start.Add(graph.DetailLength), graph.DetailLength
		if end.After(to) {
			end = to
		}
		if !start.Before(recent) {
			step = graph.WindowLength
		}
		windows, err := j.view.Windows(ctx, storage.Query{
			From: start, To: end, Step: step,
			Want: storage.WantEdges | storage.WantDetails | storage.WantNodes, Dimensions: finding.Dimensions,
		})
		if err != nil {
			return nil, fmt.Errorf("read what is judged: %w", err)
		}
		gathering.Add(windows...)
	}
	return gathering, nil
}

// weigh asks the store, rarely, which edges had no timeout in the last days.
func (j *Judge) weigh(ctx context.Context, now time.Time) error {
	if j.memory.Waits.IsZero() {
		j.memory.Waits = now.Add(weighFirst - weighEvery)
	}
	if now.Sub(j.memory.Waits) < weighEvery {
		return nil
	}
	week, err := j.view.Windows(ctx, storage.Query{From: now.Add(-weighed), To: now, Want: storage.WantEdges})
	if err != nil {
		return fmt.Errorf("read the last days: %w", err)
	}
	for i := range week {
		j.memory.LookForTimeouts(week[i].Edges, now)
	}
	return nil
}

func learnedOf(m *finding.Memoir) Learned {
	l := Learned{Ceiling: m.Ceiling}
	for _, b := range m.Backlogs {
		l.Backlog = max(l.Backlog, b.Messages)
	}
	return l
}

// Learned returns what is known of an edge.
func (j *Judge) Learned(edge string) Learned {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.learned[edge]
}

// Dropped returns how many findings were left out because too many were open.
func (j *Judge) Dropped() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.dropped
}

// overlay returns the stored findings that q asks for with those that memory holds newer, the latest to begin first.
func (j *Judge) overlay(q storage.FindingQuery, stored []graph.Finding) []graph.Finding {
	j.mu.Lock()
	newer := j.book.matching(&q)
	j.mu.Unlock()
	for i := range stored {
		k := storedAs(&stored[i])
		if n, ok := newer[k]; ok {
			stored[i] = n
			delete(newer, k)
		}
	}
	stored = slices.AppendSeq(stored, maps.Values(newer))
	slices.SortFunc(stored, newestFirst)
	return stored[:min(len(stored), q.Limit)]
}

// toStore returns what the store has yet to take, the last time everything; kept says that it has.
func (j *Judge) toStore(last bool) (findings []graph.Finding, state []byte) {
	if j == nil {
		return nil, nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if last {
		j.book.tellAll()
	}
	for _, f := range j.book.waiting {
		findings = append(findings, f)
	}
	slices.SortFunc(findings, newestFirst)
	return findings, j.remembered
}

func (j *Judge) kept(findings []graph.Finding, state []byte) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range findings {
		if k := storedAs(&findings[i]); alike(j.book.waiting[k], findings[i]) {
			delete(j.book.waiting, k)
		}
	}
	if state != nil && len(state) == len(j.remembered) && &state[0] == &j.remembered[0] {
		j.remembered = nil
	}
}

// alike reports whether two findings are equal, also where their value is not known.
func alike(a, b graph.Finding) bool {
	if math.Float64bits(a.Value) != math.Float64bits(b.Value) {
		return false
	}
	a.Value, b.Value = 0, 0
	return a == b
}

// newestFirst orders findings, the latest to begin first, the loudest first among those.
func newestFirst(a, b graph.Finding) int {
	return cmp.Or(
		b.Since.Compare(a.Since), cmp.Compare(b.Level, a.Level), strings.Compare(a.Rule, b.Rule),
		strings.Compare(a.Edge.Source.Name, b.Edge.Source.Name), strings.Compare(a.Edge.Target.Name, b.Edge.Target.Name),
		strings.Compare(a.Node.Name, b.Node.Name), strings.Compare(a.Subject, b.Subject),
	)
}
