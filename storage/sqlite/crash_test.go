package sqlite_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"faultline/graph"
	"faultline/storage"
	"faultline/storage/sqlite"
)

const crashDir = "FAULTLINE_TEST_CRASH_DIR"

// crashAt is where the child's windows begin.
var crashAt = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func crashPart(number uint64, at time.Time, open bool) graph.Part {
	p := graph.Part{Open: open, Window: graph.Window{Start: at, Length: graph.WindowLength, Part: number}}
	// The edge's name is the number's rest, so that each part can be looked for.
	for i := range uint64(40) {
		e := graph.EdgeRow{Edge: graph.EdgeKey{Source: graph.Node{Kind: graph.Service, Name: "a"}, Target: graph.Node{Kind: graph.Service, Name: strconv.FormatUint((number+i)%97, 10)}}}
		e.Stats.Calls = int64(number)
		e.Stats.Client.Add(int64(number)*1000, int64(number))
		p.Edges = append(p.Edges, e)
	}
	return p
}

func crashTrace(number uint64) graph.KeptTrace {
	var id graph.TraceID
	binary.BigEndian.PutUint64(id[8:], number)
	return graph.KeptTrace{Trace: graph.Trace{ID: id, Spans: []graph.Span{{Name: strings.Repeat("x", 2000), Start: crashAt, End: crashAt}}}}
}

// crashWindow returns the window of a numbered part: eight to a window.
func crashWindow(number uint64) time.Time {
	return crashAt.Add(time.Duration(number/8) * graph.WindowLength)
}

// TestCrashChild is the process that TestKill kills: it writes numbered parts and says which are written.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("runs as the child of TestKill")
	}
	s, err := sqlite.Open(t.Context(), dir, storage.DefaultRetention())
	if err != nil {
		t.Fatal(err)
	}
	number := uint64(0)
	if v, err := s.State(t.Context(), "number"); err == nil {
		number = binary.BigEndian.Uint64(v)
	}
	for {
		number++
		at := crashWindow(number)
		// Open first, with less; then closed, whole, with the state that says so.
		first := crashPart(number, at, true)
		first.Edges = first.Edges[:7]
		if err := s.Write(t.Context(), storage.Batch{Windows: []graph.Part{first}}); err != nil {
			t.Fatal(err)
		}
		if err := s.Write(t.Context(), storage.Batch{
			Windows: []graph.Part{crashPart(number, at, false)},
			Traces:  []graph.KeptTrace{crashTrace(number)},
			State:   map[string][]byte{"number": binary.BigEndian.AppendUint64(nil, number)},
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintln(os.Stdout, "written", number); err != nil {
			t.Fatal(err)
		}
		if err := s.Maintain(t.Context(), at.Add(10*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKill kills a process that writes, at random moments and again and again: what it said was written is there, once,
// and the file is sound.
func TestKill(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	reported := uint64(0)
	for round := range 8 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, exe, "-test.run=^TestCrashChild$", "-test.v")
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Killed somewhere within the writes that follow the n-th, or at once.
		n, delay := r.IntN(60), time.Duration(r.IntN(5000))*time.Microsecond
		var kill sync.Once
		seen := 0
		sc := bufio.NewScanner(out)
		var other []string
		for sc.Scan() {
			var number uint64
			if _, err := fmt.Sscanf(sc.Text(), "written %d", &number); err != nil {
				other = append(other, sc.Text())
				continue
			}
			reported = number
			if seen++; seen > n {
				kill.Do(func() { time.AfterFunc(delay, func() { _ = cmd.Process.Kill() }) })
			}
		}
		_ = cmd.Wait()
		cancel()
		if seen <= n {
			t.Fatalf("round %d: the child ended by itself: %s %s", round, other, &stderr)
		}
		checkCrashed(t, dir, reported)
	}
	t.Logf("%d batches reported", reported)
}

func checkCrashed(t *testing.T, dir string, reported uint64) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), dir, storage.DefaultRetention())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	v, err := s.State(t.Context(), "number")
	if err != nil {
		t.Fatal(err)
	}
	// One batch may be written and not reported; and one more may have been begun, open.
	last := binary.BigEndian.Uint64(v)
	if last != reported && last != reported+1 {
		t.Fatalf("%d batches are in the store, %d were reported", last, reported)
	}
	want := map[string]int64{}
	for n := uint64(1); n <= last; n++ {
		for _, e := range crashPart(n, crashWindow(n), false).Edges {
			want[e.Edge.Target.Name] += e.Stats.Calls
		}
		var id graph.TraceID
		binary.BigEndian.PutUint64(id[8:], n)
		if _, err := s.Trace(t.Context(), id); err != nil {
			t.Fatalf("trace %d: %v", n, err)
		}
	}
	begun := crashPart(last+1, crashWindow(last+1), true).Edges[:7]
	for _, step := range []time.Duration{0, graph.WindowLength, time.Minute, time.Hour} {
		ws, err := s.Windows(t.Context(), storage.Query{From: crashAt, To: crashAt.Add(1000 * time.Hour), Step: step, Want: storage.WantEdges})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int64{}
		for _, w := range ws {
			for _, e := range w.Edges {
				if e.Stats.Calls != e.Stats.Client.Count() {
					t.Fatalf("%d calls and %d latencies", e.Stats.Calls, e.Stats.Client.Count())
				}
				got[e.Edge.Target.Name] += e.Stats.Calls
			}
		}
		extra := int64(0)
		for _, e := range begun {
			if k := e.Edge.Target.Name; got[k] == want[k]+e.Stats.Calls {
				got[k] -= e.Stats.Calls
				extra++
			}
		}
		if extra != 0 && extra != int64(len(begun)) {
			t.Fatalf("step %s: %d of the %d rows of one part are there", step, extra, len(begun))
		}
		for k, n := range want {
			if got[k] != n {
				t.Fatalf("step %s: %d calls of %s, %d were written", step, got[k], k, n)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	integrity(t, dir)
}

func integrity(t *testing.T, dir string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, sqlite.File))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var answer string
	if err := db.QueryRow(`PRAGMA integrity_check`).Scan(&answer); err != nil || answer != "ok" {
		t.Fatalf("integrity_check: %s, %v", answer, err)
	}
}

// A store from before there were findings is read as it is, and gets their table when it is opened.
func TestStoreWithoutFindings(t *testing.T) {
	dir := t.TempDir()
	if err := open(t, dir, storage.DefaultRetention()).Close(); err != nil {
		t.Fatal(err)
	}
	execute(t, dir, `DROP TABLE finding`)
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	q := storage.FindingQuery{From: at, To: at.Add(time.Minute), Limit: 10}
	found := func(s storage.Store) int {
		t.Helper()
		list, err := s.Findings(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	reader, err := sqlite.OpenReader(t.Context(), dir, storage.DefaultRetention())
	if err != nil {
		t.Fatal(err)
	}
	if n := found(reader); n != 0 {
		t.Errorf("%d findings in a store without", n)
	}
	s := open(t, dir, storage.DefaultRetention())
	f := graph.Finding{Rule: "deploy", Node: graph.Node{Kind: graph.Service, Name: "a"}, Since: at, Until: at}
	if err := s.Write(t.Context(), storage.Batch{Findings: []graph.Finding{f}}); err != nil {
		t.Fatal(err)
	}
	if a, b := found(s), found(reader); a != 1 || b != 1 {
		t.Errorf("%d and %d findings, want 1", a, b)
	}
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenErrors(t *testing.T) {
	newer := t.TempDir()
	if err := open(t, newer, storage.DefaultRetention()).Close(); err != nil {
		t.Fatal(err)
	}
	execute(t, newer, `UPDATE schema SET version = 99`)
	foreign := t.TempDir()
	execute(t, foreign, `CREATE TABLE theirs (x)`)
	garbage := t.TempDir()
	if err := os.WriteFile(filepath.Join(garbage, sqlite.File), bytes.Repeat([]byte("not a database"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	busy := t.TempDir()
	open(t, busy, storage.DefaultRetention())
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, dir, want string
	}{
		{"newer schema", newer, "schema version 99"},
		{"another program's", foreign, "not a store"},
		{"garbage", garbage, "not a database"},
		{"in use", busy, "another process has it open"},
		{"a file in place of the directory", file, "not a directory"},
		{"nowhere", "/dev/null/x", "not a directory"},
	} {
		s, err := sqlite.Open(t.Context(), tt.dir, storage.DefaultRetention())
		if err == nil {
			_ = s.Close()
			t.Errorf("%s: opened", tt.name)
		} else if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.dir) {
			t.Errorf("%s: %q says neither %q nor where", tt.name, err, tt.want)
		}
	}
	if _, err := sqlite.Open(t.Context(), t.TempDir(), storage.Retention{Fine: time.Hour}); err == nil {
		t.Error("a retention that makes no sense: opened")
	}
}

func execute(t *testing.T, dir, query string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, sqlite.File))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.Exec(query); err != nil {
		t.Fatal(err)
	}
}

func TestFilesArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, dir, storage.DefaultRetention())
	if err := s.Write(t.Context(), storage.Batch{Windows: []graph.Part{crashPart(1, crashAt, false)}}); err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var mode string
	db, err := sql.Open("sqlite", filepath.Join(dir, sqlite.File))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for pragma, want := range map[string]string{"auto_vacuum": "2", "journal_mode": "wal"} {
		if err := db.QueryRow(`PRAGMA ` + pragma).Scan(&mode); err != nil || mode != want {
			t.Errorf("%s = %s, %v; want %s", pragma, mode, err, want)
		}
	}
}

// TestSpaceIsGivenBack drops nearly everything and sees the file shrink.
func TestSpaceIsGivenBack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, storage.Retention{Fine: time.Hour, Minute: time.Hour, Hour: 2 * time.Hour, Traces: time.Hour})
	for i := range 20 {
		var b storage.Batch
		for j := range uint64(100) {
			k := crashTrace(uint64(i)*100 + j)
			k.Trace.Spans[0].Attributes = []graph.Attribute{{Key: "noise", Value: noise(4096)}}
			b.Traces = append(b.Traces, k)
		}
		if err := s.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	size := func() int64 {
		t.Helper()
		st, err := os.Stat(filepath.Join(dir, sqlite.File))
		if err != nil {
			t.Fatal(err)
		}
		return st.Size()
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	full := size()
	s = open(t, dir, storage.Retention{Fine: time.Hour, Minute: time.Hour, Hour: 2 * time.Hour, Traces: time.Hour})
	for i := range 10 {
		if err := s.Maintain(t.Context(), crashAt.Add(time.Duration(5+i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left := size(); left > full/3 {
		t.Errorf("%d bytes of %d are left after nearly everything was dropped", left, full)
	}
	integrity(t, dir)
}

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestCorruptBlock spoils blocks: a question that needs one says so, folding sets it aside and goes on, nothing panics.
func TestCorruptBlock(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, storage.DefaultRetention())
	for n := range uint64(20) {
		if err := s.Write(t.Context(), storage.Batch{Windows: []graph.Part{crashPart(n+1, crashAt.Add(time.Duration(n)*graph.WindowLength), false)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	execute(t, dir, `UPDATE block SET data = substr(data, 1, length(data) - 9) WHERE start = (SELECT min(start) FROM block)`)
	s = open(t, dir, storage.DefaultRetention())
	q := storage.Query{From: crashAt, To: crashAt.Add(time.Hour), Want: storage.WantEdges}
	if _, err := s.Windows(t.Context(), q); err == nil || !strings.Contains(err.Error(), "corrupt block") {
		t.Errorf("reading a corrupt block: %v", err)
	}
	if err := s.Maintain(t.Context(), crashAt.Add(2*time.Hour)); err == nil || !strings.Contains(err.Error(), "corrupt block") {
		t.Errorf("folding a corrupt block: %v", err)
	}
	if err := s.Maintain(t.Context(), crashAt.Add(2*time.Hour)); err != nil {
		t.Errorf("a block that was set aside comes up again: %v", err)
	}
	ws, err := s.Windows(t.Context(), q)
	if err != nil || len(ws) != 1 {
		t.Fatalf("%d windows, %v", len(ws), err)
	}
	n := int64(0)
	for _, e := range ws[0].Edges {
		n += e.Stats.Calls
	}
	if want := int64(40 * (20*21/2 - 1)); n != want {
		t.Errorf("%d calls without the corrupt block, want %d", n, want)
	}
	// The sums themselves.
	execute(t, dir, `UPDATE block SET data = x'01ff' WHERE length = 3600`)
	if err := s.Write(t.Context(), storage.Batch{Windows: []graph.Part{crashPart(99, crashAt, false)}}); err != nil {
		t.Fatal(err)
	}
	failed := false
	for i := range 10 {
		if err := s.Maintain(t.Context(), crashAt.Add(3*time.Hour+time.Duration(i)*time.Minute)); err != nil {
			failed = true
		}
	}
	if !failed {
		t.Error("adding to a corrupt sum: no error")
	}
	if _, err := s.Windows(t.Context(), q); err != nil {
		t.Errorf("after the corrupt sum was set aside: %v", err)
	}
}

// TestFull fills the disk, by SQLite's own limit.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, storage.DefaultRetention())
	batch := func(n uint64) storage.Batch {
		k := crashTrace(n)
		k.Trace.Spans[0].Attributes = []graph.Attribute{{Key: "noise", Value: noise(100_000 + int(n))}}
		return storage.Batch{Windows: []graph.Part{crashPart(n, crashAt, false)}, Traces: []graph.KeptTrace{k}}
	}
	if err := s.Write(t.Context(), batch(1)); err != nil {
		t.Fatal(err)
	}
	sqlite.LimitPages(t, s, 100)
	var failed error
	n := uint64(2)
	for ; n < 20 && failed == nil; n++ {
		failed = s.Write(t.Context(), batch(n))
	}
	if failed == nil || !strings.Contains(failed.Error(), "full") {
		t.Fatalf("writing to a full disk: %v", failed)
	}
	// What was there before still is, whole; and when there is space again, writing goes on.
	check := func(parts uint64) {
		t.Helper()
		ws, err := s.Windows(t.Context(), storage.Query{From: crashAt, To: crashAt.Add(time.Hour), Want: storage.WantEdges})
		if err != nil || len(ws) != 1 {
			t.Fatalf("%d windows, %v", len(ws), err)
		}
		got := int64(0)
		for _, e := range ws[0].Edges {
			got += e.Stats.Calls
		}
		if want := int64(40 * parts * (parts + 1) / 2); got != want {
			t.Errorf("%d calls, want %d", got, want)
		}
	}
	check(n - 2)
	sqlite.LimitPages(t, s, 1<<30)
	if err := s.Write(t.Context(), batch(n-1)); err != nil {
		t.Fatal(err)
	}
	check(n - 1)
	integrity(t, dir)
}
