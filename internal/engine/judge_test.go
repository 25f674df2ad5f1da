package engine

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"faultline/graph"
	"faultline/storage"
)

// withJudge gives a process a judge, as the app does.
func withJudge(t *testing.T, dir string, now time.Time) (*process, *Judge) {
	t.Helper()
	p := newProcess(t, dir, now)
	j := NewJudge(p.view)
	if err := j.Restore(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	p.view.Judge, p.engine.Judge = j, j
	return p, j
}

// refusedCall is a call of testEdges[0] that nobody took.
func refusedCall(at time.Time) fact {
	f := oneCall(at)
	f.call.Errors, f.call.LogicalErrors, f.call.Outcome, f.call.Failure, f.call.Cause = 1, 1, graph.Error, graph.Refused, graph.CauseOf(graph.Refused)
	return f
}

// run lets ten calls a second be made, some of which are refused, with a tick a second and a round every ten.
func run(t *testing.T, p *process, j *Judge, now time.Time, seconds int, refused bool) time.Time {
	t.Helper()
	for range seconds {
		now = now.Add(time.Second)
		for i := range 10 {
			f := oneCall(now)
			if refused && i < 3 {
				f = refusedCall(now)
			}
			observe(p.live, f)
		}
		if err := p.engine.Tick(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		if now.Second()%10 == 0 {
			if err := j.Round(t.Context(), now); err != nil {
				t.Fatal(err)
			}
		}
	}
	return now
}

func findings(t *testing.T, r storage.Reader, from, to time.Time) []graph.Finding {
	t.Helper()
	list, err := r.Findings(t.Context(), storage.FindingQuery{From: from, To: to, Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// open returns the findings that are open at a time, as "rule since".
func openAt(t *testing.T, r storage.Reader, now time.Time) []string {
	t.Helper()
	var out []string
	for _, f := range findings(t, r, now.Add(-graph.OpenFor), now) {
		out = append(out, f.Rule+" "+f.Since.Format("15:04"))
	}
	slices.Sort(out)
	return out
}

func same(t *testing.T, when string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", when, got, want)
	}
}

// What goes wrong is found within a minute, is over within minutes after it ended, goes on when it comes back soon, and
// is another finding when it comes back late.
func TestJudgeOpensAndCloses(t *testing.T) {
	p, j := withJudge(t, t.TempDir(), noon)
	now := run(t, p, j, noon, 120, false)
	same(t, "well", openAt(t, p.view, now))
	now = run(t, p, j, now, 30, true)
	same(t, "after half a minute", openAt(t, p.view, now), "refused 12:02")
	now = run(t, p, j, now, 150, true)
	same(t, "after three minutes", openAt(t, p.view, now), "refused 12:02")
	now = run(t, p, j, now, 240, false) // 12:09
	same(t, "four minutes after its end", openAt(t, p.view, now))
	now = run(t, p, j, now, 60, true)
	same(t, "back", openAt(t, p.view, now), "refused 12:02")
	now = run(t, p, j, now, 900, false)
	same(t, "a quarter of an hour later", openAt(t, p.view, now))
	now = run(t, p, j, now, 60, true)
	same(t, "late", openAt(t, p.view, now), "refused 12:25")

	all := findings(t, p.view, noon, now)
	if len(all) != 2 || all[0].Since.Before(all[1].Since) {
		t.Fatalf("%+v", all)
	}
	if over := all[1].Until.Sub(noon); over < 10*time.Minute || over > 12*time.Minute {
		t.Errorf("the first was over after %s", over)
	}
	if stored := findings(t, p.store, noon, now); len(stored) != 2 || !stored[1].Until.Equal(all[1].Until) {
		t.Errorf("stored: %+v", stored)
	}
	p.close(t)
}

// The store is told once a minute, and what memory holds newer is seen all the same.
func TestJudgeTellsTheStoreOnceAMinute(t *testing.T) {
	p, j := withJudge(t, t.TempDir(), noon)
	counted := &tellings{Store: p.store}
	p.engine.Store = counted
	now := run(t, p, j, noon, 600, true)
	if n := counted.findings; n < 9 || n > 11 {
		t.Errorf("told %d times in ten minutes", n)
	}
	seen, stored := findings(t, p.view, noon, now), findings(t, p.store, noon, now)
	if len(seen) != 1 || len(stored) != 1 || !seen[0].Until.Equal(now) || now.Sub(stored[0].Until) > 70*time.Second {
		t.Errorf("at %s: seen %+v, stored %+v", now, seen, stored)
	}
	p.close(t)
}

// tellings is a store that counts the findings that it is told.
type tellings struct {
	storage.Store
	findings int
}

func (s *tellings) Write(ctx context.Context, b storage.Batch) error {
	s.findings += len(b.Findings)
	return s.Store.Write(ctx, b)
}

// A restart does not begin anew what was going on, and what was learned is still known.
func TestJudgeSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	p, j := withJudge(t, dir, noon)
	now := run(t, p, j, noon, 600, true)
	if err := p.engine.Flush(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	p.close(t)
	now = now.Add(time.Minute)
	p, j = withJudge(t, dir, now)
	if m := j.memory.Edges[testEdges[0].ID()]; m == nil || m.Age == 0 {
		t.Errorf("learned: %+v", m)
	}
	same(t, "at start", openAt(t, p.view, now), "refused 12:00")
	now = run(t, p, j, now, 60, true)
	same(t, "a minute later", openAt(t, p.view, now), "refused 12:00")
	p.close(t)
}

// A store that fails loses no finding; when it is back it is told how each was last.
func TestJudgeWithAStoreThatFails(t *testing.T) {
	p, j := withJudge(t, t.TempDir(), noon)
	failing, cancel := context.WithCancel(t.Context())
	cancel()
	now := noon
	for range 180 {
		now = now.Add(time.Second)
		observe(p.live, refusedCall(now))
		if err := p.engine.Tick(failing, now); err == nil {
			t.Fatal("written into a store that fails")
		}
		if now.Second()%10 == 0 {
			if err := j.Round(t.Context(), now); err != nil {
				t.Fatal(err)
			}
		}
	}
	same(t, "while it fails", openAt(t, p.view, now), "refused 12:00")
	if n := len(findings(t, p.store, noon, now)); n != 0 {
		t.Errorf("the store has %d", n)
	}
	if err := p.engine.Tick(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if stored := findings(t, p.store, noon, now); len(stored) != 1 || now.Sub(stored[0].Until) > time.Minute {
		t.Errorf("stored: %+v", stored)
	}
	p.close(t)
}

func TestBookIsBounded(t *testing.T) {
	b := book{open: map[graph.FindingKey]*entry{}, waiting: map[stored]graph.Finding{}}
	many := make([]graph.Finding, maxOpen+7)
	for i := range many {
		many[i] = graph.Finding{Rule: "refused", Subject: strconv.Itoa(i)}
	}
	if dropped := b.take(noon, many); dropped != 7 || len(b.open) != maxOpen {
		t.Errorf("%d dropped, %d open", dropped, len(b.open))
	}
	now := noon
	for range 20 { // others all the time
		now = now.Add(time.Minute)
		for i := range many {
			many[i].Subject = fmt.Sprint(now.Unix(), i)
		}
		b.take(now, many[:1000])
	}
	if len(b.open) > maxOpen || len(b.waiting) > maxWaiting {
		t.Errorf("%d open, %d wait", len(b.open), len(b.waiting))
	}
	for range 10 {
		now = now.Add(time.Minute)
		b.take(now, nil)
	}
	if len(b.open) != 0 {
		t.Errorf("%d are left in the book", len(b.open))
	}
}

// What the store has is not told again, with a value that is not known neither; what changed meanwhile is.
func TestFindingsAreToldOnce(t *testing.T) {
	j := NewJudge(nil)
	for _, value := range []float64{1, math.NaN()} {
		e := &entry{Finding: graph.Finding{Rule: "backlog", Value: value, Since: noon, Until: noon}}
		j.book.tell(e)
		told, _ := j.toStore(false)
		e.Until = noon.Add(time.Minute)
		j.book.tell(e) // while it is being stored
		j.kept(told, nil)
		if told, _ = j.toStore(false); len(told) != 1 {
			t.Fatalf("value %v: %d findings wait, want the newer state", value, len(told))
		}
		j.kept(told, nil)
		if told, _ = j.toStore(false); len(told) != 0 {
			t.Errorf("value %v: told once more", value)
		}
	}
}
