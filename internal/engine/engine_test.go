package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"faultline/graph"
	"faultline/storage"
	"faultline/storage/sqlite"
)

// feed hands over what a test put into it.
type feed struct {
	traces []graph.KeptTrace
	state  []byte
}

func (f *feed) Examples(time.Time) []graph.KeptTrace {
	traces := f.traces
	f.traces = nil
	return traces
}

// stateKey is what changes; there is another state, which does not.
const stateKey = "learned"

func (f *feed) State(time.Time) map[string][]byte {
	return map[string][]byte{stateKey: f.state, "constant": []byte("x")}
}

func (f *feed) Restore(_ time.Time, state map[string][]byte) error {
	if bytes.Equal(state[stateKey], []byte("unreadable")) {
		return errors.New("unreadable")
	}
	f.state = state[stateKey]
	return nil
}

// process is what one process has, over a store in a directory.
type process struct {
	live   *graph.Live
	feed   *feed
	store  *sqlite.Store
	engine *Engine
	view   *View
}

func newProcess(t *testing.T, dir string, now time.Time) *process {
	t.Helper()
	store, err := sqlite.Open(t.Context(), dir, storage.DefaultRetention())
	if err != nil {
		t.Fatal(err)
	}
	p := &process{live: graph.NewLive(graph.DefaultLiveConfig(), uint64(now.UnixNano())), feed: &feed{}, store: store}
	p.engine = New(Settings{Config: DefaultConfig(), Live: p.live, Feed: p.feed, Store: store})
	p.view = NewView(store, p.live)
	return p
}

func (p *process) close(t *testing.T) {
	t.Helper()
	if err := p.store.Close(); err != nil {
		t.Fatal(err)
	}
}

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// trace returns an example trace of n spans.
func trace(id byte, n int) graph.KeptTrace {
	k := graph.KeptTrace{
		Trace:    graph.Trace{ID: graph.TraceID{15: id}, Resources: []graph.Resource{{}}},
		Examples: []graph.Example{{Trace: graph.TraceID{15: id}, Span: graph.SpanID{7: 1}, Edge: testEdges[0], At: noon, Duration: time.Second}},
	}
	for i := range n {
		k.Trace.Spans = append(k.Trace.Spans, graph.Span{ID: graph.SpanID{7: byte(i + 1)}, Name: "s", Start: noon, End: noon.Add(time.Second), Node: testEdges[0].Source})
	}
	return k
}

func oneCall(at time.Time) fact {
	return fact{edge: testEdges[0], call: graph.Call{End: at.UnixNano(), Duration: 1, Weight: 1, Calls: 1, Logical: 1, Timed: true}, operation: "op"}
}

// calls returns how many calls a reader knows of.
func calls(t *testing.T, r storage.Reader) (n int64) {
	t.Helper()
	windows, err := r.Windows(t.Context(), storage.Query{From: noon.Add(-time.Hour), To: noon.Add(time.Hour), Want: storage.WantEdges})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range windows {
		for i := range w.Edges {
			n += w.Edges[i].Stats.Calls
		}
	}
	return n
}

// A store that fails delays history; the live graph goes on, and when the store is back all of it is there, once.
func TestStoreFails(t *testing.T) {
	p := newProcess(t, t.TempDir(), noon)
	failing, cancel := context.WithCancel(t.Context())
	cancel()

	now, want := noon, int64(0)
	for range 600 { // ten minutes, so that windows close meanwhile
		now = now.Add(time.Second)
		observe(p.live, oneCall(now))
		want++
		if err := p.engine.Tick(failing, now); err == nil {
			t.Fatal("written into a store that fails")
		}
	}
	s := p.engine.Status()
	if !s.DelayedSince.Equal(noon.Add(time.Second)) || s.LastError == "" || s.Failures != 600 || s.Writes != 0 || s.WaitingParts < 50 {
		t.Errorf("while it fails: %+v", s)
	}
	if got := calls(t, p.view); got != want {
		t.Errorf("while it fails: %d calls, want %d", got, want)
	}
	if got := calls(t, p.store); got != 0 {
		t.Errorf("the store has %d calls", got)
	}
	for range 200 {
		now = now.Add(time.Second)
		if err := p.engine.Tick(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		if got := calls(t, p.view); got != want {
			t.Fatalf("at %s: %d calls, want %d", now, got, want)
		}
	}
	if s := p.engine.Status(); !s.DelayedSince.IsZero() || s.LastError != "" || s.WaitingParts != 0 || s.Writes == 0 {
		t.Errorf("afterwards: %+v", s)
	}
	if got := calls(t, p.store); got != want {
		t.Errorf("the store has %d calls, want %d", got, want)
	}
	p.close(t)
}

// Example traces wait for a failing store in bounded number, the newest are kept, and the others are counted.
func TestExamplesWaitBounded(t *testing.T) {
	p := newProcess(t, t.TempDir(), noon)
	p.engine.Config.MaxWaitingSpans = 100
	failing, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 100 { // ten times the limit
		p.feed.traces = []graph.KeptTrace{trace(byte(i), 10)}
		if err := p.engine.Tick(failing, noon); err == nil {
			t.Fatal("written into a store that fails")
		}
	}
	s := p.engine.Status()
	if s.WaitingSpans != 100 || s.Dropped[DroppedExamples] != 90 {
		t.Errorf("%d spans wait, %d traces dropped, want 100 and 90", s.WaitingSpans, s.Dropped[DroppedExamples])
	}
	if err := p.engine.Tick(t.Context(), noon); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		_, err := p.view.Trace(t.Context(), graph.TraceID{15: byte(i)})
		if kept := i >= 90; kept != (err == nil) || !kept && !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("trace %d: %v", i, err)
		}
	}
	if s := p.engine.Status(); s.WaitingSpans != 0 {
		t.Errorf("%d spans wait", s.WaitingSpans)
	}
	// One trace that is larger than the limit is not kept for ever.
	p.feed.traces = []graph.KeptTrace{trace(200, 101)}
	if err := p.engine.Tick(failing, noon); err == nil || p.engine.Status().WaitingSpans != 0 {
		t.Errorf("%v, %+v", err, p.engine.Status())
	}
	p.close(t)
}

func TestExamplesAreFound(t *testing.T) {
	p := newProcess(t, t.TempDir(), noon)
	want := trace(1, 2)
	p.feed.traces = []graph.KeptTrace{want}
	if err := p.engine.Tick(t.Context(), noon); err != nil {
		t.Fatal(err)
	}
	examples, err := p.view.Examples(t.Context(), storage.TraceQuery{From: noon, To: noon.Add(time.Second), Edge: testEdges[0].ID(), Limit: 10})
	if err != nil || len(examples) != 1 || examples[0].Trace != want.Trace.ID {
		t.Errorf("%v, %v", examples, err)
	}
	p.close(t)
}

// What was learned is written every so often, when it changed, and at the end, and is there after a restart.
func TestStateIsRemembered(t *testing.T) {
	dir := t.TempDir()
	p := newProcess(t, dir, noon)
	stored := func() string {
		t.Helper()
		s, err := p.view.State(t.Context(), stateKey)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			t.Fatal(err)
		}
		return string(s)
	}
	tick := func(after time.Duration) {
		t.Helper()
		if err := p.engine.Tick(t.Context(), noon.Add(after)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	p.feed.state = []byte("a")
	tick(0)
	got = append(got, stored())
	p.feed.state = []byte("b")
	tick(29 * time.Second)
	got = append(got, stored())
	tick(30 * time.Second)
	got = append(got, stored())
	writes := p.engine.Status().Writes
	tick(90 * time.Second) // nothing changed
	if p.engine.Status().Writes != writes {
		t.Error("written again although nothing changed")
	}
	p.feed.state = []byte("c")
	if err := p.engine.Flush(t.Context(), noon.Add(91*time.Second)); err != nil {
		t.Fatal(err)
	}
	got = append(got, stored())
	p.close(t)

	p = newProcess(t, dir, noon.Add(time.Hour))
	if err := p.engine.Restore(t.Context(), noon, p.store); err != nil {
		t.Fatal(err)
	}
	got = append(got, string(p.feed.state))
	if diff := gocmp.Diff([]string{"a", "a", "b", "c", "c"}, got); diff != "" {
		t.Errorf("want(-) got(+):\n%s", diff)
	}
	p.feed.state = []byte("unreadable")
	if err := p.engine.Flush(t.Context(), noon.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := p.engine.Restore(t.Context(), noon, p.store); err == nil {
		t.Error("restored what cannot be read")
	}
	p.close(t)

	p = newProcess(t, t.TempDir(), noon)
	if err := p.engine.Restore(t.Context(), noon, p.store); err != nil {
		t.Errorf("that there is nothing to restore is no error: %v", err)
	}
	p.close(t)
}

// The part that an earlier process left open is neither lost nor counted twice when this one goes on with its window.
func TestRestartInsideAWindow(t *testing.T) {
	dir := t.TempDir()
	now, want := noon, int64(0)
	for range 8 {
		p := newProcess(t, dir, now)
		if got := calls(t, p.view); got != want {
			t.Fatalf("at start: %d calls, want %d", got, want)
		}
		for range 3 {
			observe(p.live, oneCall(now))
			want++
			if err := p.engine.Tick(t.Context(), now); err != nil {
				t.Fatal(err)
			}
			now = now.Add(700 * time.Millisecond)
		}
		p.close(t) // killed
	}
	p := newProcess(t, dir, now)
	for range 300 {
		now = now.Add(time.Second)
		if err := p.engine.Tick(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	if got := calls(t, p.view); got != want {
		t.Errorf("%d calls, want %d", got, want)
	}
	p.close(t)
}

func TestBatchOf(t *testing.T) {
	part := func(rows int) graph.Part { return graph.Part{Window: graph.Window{Edges: make([]graph.EdgeRow, rows)}} }
	for _, test := range []struct {
		rows []int
		want int
	}{
		{nil, 0}, {[]int{1, 2}, 2}, {[]int{batchRows, 1}, 1}, {[]int{2 * batchRows, 1}, 1}, {[]int{2 * batchRows}, 1}, {[]int{1, batchRows - 1, 1}, 2},
	} {
		var parts []graph.Part
		for _, n := range test.rows {
			parts = append(parts, part(n))
		}
		if got := batchOf(parts, batchRows); got != test.want {
			t.Errorf("%v: %d, want %d", fmt.Sprint(test.rows), got, test.want)
		}
	}
}

// impatient is a store under a context that ends after a number of batches.
type impatient struct {
	*sqlite.Store
	left int
	end  context.CancelFunc
}

func (s *impatient) Write(ctx context.Context, b storage.Batch) error {
	if s.left--; s.left < 0 {
		s.end()
	}
	return s.Store.Write(ctx, b)
}

// A last flush that time runs out for keeps what it has written, and it writes the calls first.
func TestFlushKeepsTheCallsFirst(t *testing.T) {
	dir := t.TempDir()
	p := newProcess(t, dir, noon)
	want := int64(0)
	var facts []fact
	for i := range 3 * lastBatchRows / 2 { // more than a batch of details, and their calls in less than one
		f := oneCall(noon.Add(time.Duration(i%60) * time.Second))
		f.edge.Target.Name = fmt.Sprint("callee-", i%3000)
		f.operation = fmt.Sprint("op-", i%7)
		facts = append(facts, f)
		want++
	}
	for _, f := range facts {
		observe(p.live, f)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.engine.Store = &impatient{Store: p.store, left: 1, end: cancel}
	if err := p.engine.Flush(ctx, noon.Add(time.Minute)); !errors.Is(err, context.Canceled) {
		t.Fatalf("flush: %v, want that it was cut short", err)
	}
	if got := p.engine.Status().Writes; got != 1 {
		t.Errorf("%d batches were written, want 1", got)
	}
	p.close(t)
	p = newProcess(t, dir, noon.Add(time.Hour))
	if got := calls(t, p.view); got != want {
		t.Errorf("%d calls are kept, want %d", got, want)
	}
	p.close(t)
}

// An orderly stop loses nothing of operations either, of which there may be so many that they are not written each time.
func TestFlushKeepsAllDetails(t *testing.T) {
	dir := t.TempDir()
	p := newProcess(t, dir, noon)
	want := int64(0)
	count := func() {
		for i := range 2000 {
			for minute := range 2 {
				f := oneCall(noon.Add(time.Duration(minute) * time.Minute))
				f.edge.Target.Name, f.operation = fmt.Sprint("callee-", i), "op"
				observe(p.live, f)
				want++
			}
		}
	}
	now := noon.Add(70 * time.Second)
	count()
	if err := p.engine.Tick(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	count()
	if err := p.engine.Flush(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	p.close(t)
	p = newProcess(t, dir, noon.Add(time.Hour))
	defer p.close(t)
	windows, err := p.view.Windows(t.Context(), storage.Query{From: noon, To: noon.Add(time.Hour), Want: storage.WantDetails, Dimensions: []graph.Dimension{graph.Operation}})
	if err != nil {
		t.Fatal(err)
	}
	got := int64(0)
	for _, w := range windows {
		for i := range w.Details {
			got += w.Details[i].Detail.Calls
		}
	}
	if got != want {
		t.Errorf("operations of %d calls are kept, want %d", got, want)
	}
}
