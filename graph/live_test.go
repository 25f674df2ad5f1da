package graph

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func testLive(cfg LiveConfig) (*Live, func(from, to string) EdgeRef) {
	l := NewLive(cfg, 1)
	return l, func(from, to string) EdgeRef {
		return EdgeRef{l.Names().Node(Node{Kind: Service, Name: from}), l.Names().Node(Node{Kind: Service, Name: to}), HTTP}
	}
}

// total adds up what parts or windows count of each edge.
type total map[EdgeKey]*EdgeStats

func (t total) add(windows ...Window) {
	for _, w := range windows {
		for i := range w.Edges {
			e := &w.Edges[i]
			if t[e.Edge] == nil {
				t[e.Edge] = &EdgeStats{}
			}
			t[e.Edge].Add(&e.Stats)
		}
	}
}

// say writes sums in a form that can be compared.
func (t total) say() map[string]string {
	out := map[string]string{}
	for k, s := range t {
		if s.Zero() {
			continue
		}
		out[k.Source.ID()+" → "+k.Target.ID()] = fmt.Sprintf("calls %d/%d raw %d errors %d/%d %v server %d/%d busy %d client %x server %x",
			s.Calls, s.LogicalCalls, s.Raw, s.Errors, s.LogicalErrors, s.Failures, s.ServerCalls, s.ServerErrors, s.Busy,
			s.Client.AppendBinary(nil), s.Server.AppendBinary(nil))
	}
	return out
}

// Whenever it is cut, kept or not kept, and whatever comes late: what the store was told last of every part, and what
// is still open, add up to what was observed.
func TestPartsAddUp(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		live, edge := testLive(DefaultLiveConfig())
		direct, _ := testLive(LiveConfig{MaxNodes: 100, MaxEdges: 100, MaxOperations: 9, Hold: 100 * time.Hour})
		direct.names = live.names
		store := map[PartKey]Window{}
		now := noon
		for range 400 {
			now = now.Add(time.Duration(r.IntN(4000)) * time.Millisecond)
			call := Call{
				Edge: edge(strconv.Itoa(r.IntN(3)), strconv.Itoa(r.IntN(3))), Weight: 1 + r.Int32N(3), Calls: 1, Logical: 1,
				End: now.UnixNano() - int64(r.ExpFloat64()*60e9), Duration: int64(r.ExpFloat64() * 3e8), Side: Side(r.IntN(2)), Timed: true,
			}
			if r.IntN(5) == 0 {
				call.Outcome, call.Failure, call.Errors, call.LogicalErrors = Error, Timeout, 1, 1
			}
			if r.IntN(9) == 0 {
				call.Weight = -call.Weight
			}
			live.Observe([]Call{call})
			direct.Observe([]Call{call})
			if r.IntN(10) == 0 {
				parts := live.Cut(now)
				if r.IntN(4) > 0 { // else the store was not there
					for _, p := range parts {
						store[p.Key()] = p.Window
					}
					live.Kept(parts)
				}
			}
			if r.IntN(20) > 0 {
				continue
			}
			// A reader takes the open parts, and of the store's parts the others.
			got := total{}
			open, keys := live.Windows(noon.Add(-time.Hour), now.Add(time.Hour), false)
			got.add(open...)
			newer := map[PartKey]bool{}
			for _, k := range keys {
				newer[k] = true
			}
			for k, w := range store {
				if !newer[k] {
					got.add(w)
				}
			}
			want := total{}
			all, _ := direct.Windows(noon.Add(-time.Hour), now.Add(time.Hour), false)
			want.add(all...)
			// Time in flight is spread no further back than the hold, which differs.
			for _, s := range got {
				s.Busy = 0
			}
			for _, s := range want {
				s.Busy = 0
			}
			if diff := cmp.Diff(want.say(), got.say()); diff != "" {
				t.Fatal(diff)
			}
		}
	}
}

func TestPartsShareNoMemoryWithWhatChanges(t *testing.T) {
	live, edge := testLive(DefaultLiveConfig())
	call := Call{Edge: edge("a", "b"), Weight: 1, Calls: 1, Logical: 1, End: noon.UnixNano(), Duration: 5e6, Timed: true, Operation: live.Names().NewLabel("op")}
	live.Observe([]Call{call})
	parts := live.Cut(noon)
	before := fmt.Sprint(parts)
	for range 100 {
		live.Observe([]Call{call})
	}
	if after := fmt.Sprint(parts); after != before {
		t.Errorf("a part that was cut changed from %s to %s", before, after)
	}
}

func TestConcurrencyIsTimeInFlight(t *testing.T) {
	live, edge := testLive(DefaultLiveConfig())
	// 25 s in flight: 5 s in the first window, 10 s in the next two.
	live.Observe([]Call{{Edge: edge("a", "b"), Weight: 1, Calls: 1, Logical: 1, End: noon.Add(30 * time.Second).UnixNano(), Duration: 25e9, Timed: true}})
	got := map[time.Duration]time.Duration{}
	windows, _ := live.Windows(noon, noon.Add(time.Hour), false)
	for _, w := range windows {
		got[w.Start.Sub(noon)] = time.Duration(w.Edges[0].Stats.Busy)
	}
	want := map[time.Duration]time.Duration{0: 5 * time.Second, 10 * time.Second: 10 * time.Second, 20 * time.Second: 10 * time.Second, 30 * time.Second: 0}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLimitsGatherInOther(t *testing.T) {
	live, edge := testLive(LiveConfig{MaxNodes: 1000, MaxEdges: 10, MaxOperations: 3, MaxInstances: 3, MaxVersions: 3, Hold: time.Minute})
	for i := range 100 {
		live.Observe([]Call{{Edge: edge("a", fmt.Sprint("b", i)), Weight: 1, Calls: 1, Logical: 1, End: noon.UnixNano(), Timed: true}})
		live.Dropped() // calls that were observed before are added before
		live.Observe([]Call{{
			Edge: edge("a", "b0"), Weight: 1, Calls: 1, Logical: 1, End: noon.UnixNano(), Timed: true, Duration: 1e6,
			Operation: live.Names().NewLabel(fmt.Sprint("op", i)),
		}})
	}
	all := total{}
	windows, _ := live.Windows(noon.Add(-time.Minute), noon.Add(time.Minute), false)
	all.add(windows...)
	var calls int64
	for _, s := range all {
		calls += s.Calls
	}
	if len(all) != 11 || calls != 200 {
		t.Errorf("%d edges with %d calls; want 10 and one for the others, with all 200", len(all), calls)
	}
	minutes, _ := live.Windows(noon.Add(-time.Minute), noon.Add(time.Minute), true)
	names, detailed := map[string]bool{}, int64(0)
	for _, w := range minutes {
		for _, d := range w.Details {
			names[d.Key.Name] = true
			detailed += d.Detail.Calls
		}
	}
	if len(names) != 4 || !names[Other] || detailed != 100 {
		t.Errorf("operations %v with %d calls; want 3 and %q, with all 100", names, detailed, Other)
	}
	if d := live.Dropped(); d["edge_limit"] != 90 || d["detail_limit"] != 97 {
		t.Errorf("dropped %v", d)
	}
}

// Links take a part of the edges at the most, are no calls of "(other)", and make room when their windows are closed.
func TestLinksAreBounded(t *testing.T) {
	live, edge := testLive(LiveConfig{MaxNodes: 1000, MaxEdges: 40, MaxOperations: 3, MaxInstances: 3, MaxVersions: 3, Hold: time.Minute})
	links := func(name string, at time.Time) {
		for i := range 100 {
			ref := edge("a", fmt.Sprint(name, i))
			ref.Protocol = Linked
			live.Observe([]Call{{Edge: ref, Weight: 2, Messages: 1, End: at.UnixNano()}})
		}
	}
	sums := func(at time.Time) total {
		all := total{}
		windows, _ := live.Windows(at, at.Add(time.Minute), false)
		all.add(windows...)
		return all
	}
	links("b", noon)
	live.Observe([]Call{{Edge: edge("a", "b0"), Weight: 1, Calls: 1, Logical: 1, End: noon.UnixNano()}})
	first := sums(noon)
	for k, s := range first {
		if linked := k.Protocol == Linked; linked && (s.Messages != 2 || s.Raw != 1 || s.Calls != 0) || !linked && (s.Calls != 1 || s.Messages != 0) {
			t.Errorf("%s → %s %s: %+v", k.Source.ID(), k.Target.ID(), k.Protocol, s)
		}
	}
	if d := live.Dropped(); len(first) != 5 || d["edge_limit"] != 96 {
		t.Errorf("%d edges, dropped %v", len(first), d)
	}
	later := noon.Add(10 * time.Minute)
	live.Kept(live.Cut(later))
	links("c", later)
	if second := sums(later); len(second) != 4 {
		t.Errorf("%d links where four have room again", len(second))
	}
}

func TestPairsOfVersionsGatherInOther(t *testing.T) {
	live, edge := testLive(LiveConfig{MaxNodes: 10, MaxEdges: 10, MaxOperations: 3, MaxInstances: 3, MaxVersions: 2, Hold: time.Minute})
	version := func(i int) Label { return live.Names().NewLabel(strconv.Itoa(i)) }
	callers, callees := [4]Label{version(0), version(1), version(2), version(3)}, [3]Label{0, version(11), version(12)}
	operations := [2]Label{version(21), version(22)}
	for i := range 12 {
		c := Call{
			Edge: edge("a", "b"), Weight: 5, Calls: 1, Logical: 1, End: noon.UnixNano(), Timed: true, Duration: 1e6,
			Operation: operations[i%2], Version: callers[i%4], PeerVersion: callees[i%3],
		}
		live.Observe([]Call{c, c})
		c.Weight = -c.Weight
		live.Observe([]Call{c}) // and one of two is taken back
	}
	minutes, _ := live.Windows(noon.Add(-time.Minute), noon.Add(time.Minute), true)
	got := map[[2]string]int64{}
	for _, d := range minutes[0].Details {
		if d.Key.Dimension == Operation {
			continue
		}
		caller, callee := CutPair(d.Key.Name)
		got[[2]string{caller, callee}] = d.Detail.Calls
		if d.Key.Dimension != VersionPair || d.Detail.Latency.Count() != d.Detail.Calls {
			t.Errorf("%v has %d latencies of %d calls", d.Key, d.Detail.Latency.Count(), d.Detail.Calls)
		}
	}
	want := map[[2]string]int64{
		{"0", ""}: 5, {"1", "11"}: 5, {"2", "12"}: 5, {"3", ""}: 5, {"0", "11"}: 5, {"1", "12"}: 5, {Other, Other}: 30,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Calls that are turned down as wrong are counted by their pair of versions as well: where their callee's half comes late,
// by the version that it says.
func TestTurnedDownPairs(t *testing.T) {
	live, edge := testLive(LiveConfig{MaxNodes: 1000, MaxEdges: 10, MaxOperations: 3, MaxInstances: 3, MaxVersions: 3, Hold: time.Minute})
	label := func(s string) Label {
		if s == "" {
			return 0
		}
		return live.Names().SharedLabel(s)
	}
	call := func(caller, callee string, outcome Outcome, failure Failure) Call {
		return Call{
			Edge: edge("a", "b"), End: noon.UnixNano(), Duration: 1e6, Weight: 2, Calls: 1, Logical: 1, Timed: true, Side: ClientSide,
			Outcome: outcome, Failure: failure, Version: label(caller), PeerVersion: label(callee),
		}
	}
	awaited, moved := call("1", "", ClientError, None), call("1", "8", ClientError, None)
	awaited.Awaited, awaited.PeerVersion = true, 0
	moved.Awaited, moved.Moved = true, true
	again, back := call("1", "9", ClientError, None), call("1", "8", ClientError, None)
	again.Moved, again.WasPeer = true, label("8")
	live.Observe([]Call{
		call("1", "7", OK, None), call("1", "8", ClientError, None), call("2", "7", Error, Contract), call("2", "7", Error, Timeout),
		awaited, moved, back, again, call("", "", ClientError, None),
	})
	windows, _ := live.Windows(noon.Add(-time.Minute), noon.Add(time.Minute), true)
	got := map[string]string{}
	for _, w := range windows {
		for i := range w.Details {
			if d := &w.Details[i]; d.Key.Dimension == PairTurnedDown {
				got[strings.ReplaceAll(d.Key.Name, "\t", " → ")] = fmt.Sprintf("%d of %d raw, %d failed", d.Detail.Calls, d.Detail.Raw, d.Detail.Errors)
			}
		}
	}
	if diff := cmp.Diff(map[string]string{"1 → 8": "4 of 2 raw, 0 failed", "1 → 9": "2 of 1 raw, 0 failed", "2 → 7": "2 of 1 raw, 2 failed"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestObserveWhileCutting(t *testing.T) {
	live, edge := testLive(DefaultLiveConfig())
	refs := []EdgeRef{edge("a", "b"), edge("b", "c"), edge("a", "a")}
	var wg sync.WaitGroup
	const each = 5000
	for i := range refs {
		wg.Go(func() {
			for j := range each {
				at := noon.Add(time.Duration(j) * 50 * time.Millisecond)
				live.Observe([]Call{{Edge: refs[i], Weight: 1, Calls: 1, Logical: 1, End: at.UnixNano(), Duration: 1e6, Timed: true}})
				live.ObserveNode(Process{Node: refs[i].Source}, 1, at.UnixNano())
			}
		})
	}
	store := map[PartKey]Window{}
	for i := range 300 {
		parts := live.Cut(noon.Add(time.Duration(i) * time.Second))
		for _, p := range parts {
			store[p.Key()] = p.Window
		}
		live.Kept(parts)
	}
	wg.Wait()
	for _, p := range live.Cut(noon.Add(24 * time.Hour)) {
		store[p.Key()] = p.Window
	}
	got := total{}
	spans := int64(0)
	for _, w := range store {
		got.add(w)
		for _, n := range w.Nodes {
			spans += n.Spans
		}
	}
	for k, s := range got {
		if s.Calls != each {
			t.Errorf("%v: %d calls, want %d", k, s.Calls, each)
		}
	}
	if spans != 3*each {
		t.Errorf("%d spans, want %d", spans, 3*each)
	}
}

// BenchmarkObserve is the cost of one call among those of a request.
func BenchmarkObserve(b *testing.B) {
	for _, edges := range []int{20, 5000} {
		b.Run(fmt.Sprint(edges, " edges"), func(b *testing.B) {
			live, edge := testLive(DefaultLiveConfig())
			refs := make([]EdgeRef, edges)
			for i := range refs {
				refs[i] = edge(strconv.Itoa(i%1000), strconv.Itoa(i*7%1000))
			}
			op := live.Names().NewLabel("GET /")
			r := rand.New(rand.NewPCG(1, 1))
			calls := make([]Call, 4096)
			for i := range calls {
				calls[i] = Call{
					Edge: refs[r.IntN(edges)], Weight: 1, Calls: 1, Logical: 1, End: noon.UnixNano(), Duration: int64(r.ExpFloat64() * 1e7),
					Side: Side(i & 1), Timed: true, Operation: op, Instance: op, Version: op,
				}
			}
			live.Observe(calls)
			b.ReportAllocs()
			b.ResetTimer()
			const together = 32 // about as many as one request brings
			for i := 0; i < b.N; i += together {
				live.Observe(calls[i&4095 : i&4095+together])
			}
			live.settle()
		})
	}
}

// BenchmarkCut cuts a second's worth of a map of 5,000 edges: two windows that changed, without their details.
// Of details that are many those of one minute are cut at a time, of each in its turn, and at the end all.
func TestDetailsAreCutInTurn(t *testing.T) {
	live, edge := testLive(DefaultLiveConfig())
	at := func(minute int) time.Time { return noon.Add(time.Duration(minute) * time.Minute) }
	count := func() {
		for i := range 1000 { // of a minute, two edges' worth of rows a second
			for minute := range 3 {
				live.Observe([]Call{{
					Edge: edge("a", strconv.Itoa(i)), Weight: 1, Calls: 1, Logical: 1, Timed: true, End: at(minute).UnixNano(), Duration: 1e6,
					Operation: live.Names().NewLabel("op"), Instance: live.Names().NewLabel("i"),
				}})
			}
		}
	}
	minutes := func(parts []Part) (cut []int) {
		for _, p := range parts {
			if p.Length == DetailLength {
				cut = append(cut, int(p.Start.Sub(noon)/time.Minute))
			}
		}
		return cut
	}
	count()
	var turns []int
	now := noon.Add(2*time.Minute + 10*time.Second)
	for range 12 {
		now = now.Add(time.Second)
		cut := minutes(live.Cut(now))
		if len(cut) > 1 {
			t.Fatalf("the minutes %v were cut at once", cut)
		}
		turns = append(turns, cut...)
		count()
	}
	for minute := range 3 {
		if n := len(turns); n < 4 || !slices.Contains(turns[:3], minute) || !slices.Contains(turns[n-3:], minute) {
			t.Errorf("minute %d was not cut in its turn: %v", minute, turns)
		}
	}
	if got := minutes(live.CutAll(now)); !slices.Equal(got, []int{0, 1, 2}) {
		t.Errorf("the minutes %v were cut at the end, want all", got)
	}
}

func BenchmarkCut(b *testing.B) {
	live, edge := testLive(DefaultLiveConfig())
	r := rand.New(rand.NewPCG(1, 1))
	calls := make([]Call, 50_000)
	for i := range calls {
		calls[i] = Call{
			Edge: edge(strconv.Itoa(i%1000), strconv.Itoa(i%5000)), Weight: 1, Calls: 1, Logical: 1, Timed: true,
			End: noon.Add(time.Duration(i%2) * WindowLength).UnixNano(), Duration: int64(r.ExpFloat64() * 1e7), Side: Side(i & 1),
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		live.Observe(calls)
		live.settle()
		b.StartTimer()
		if parts := live.Cut(noon.Add(time.Minute)); len(parts) < 2 {
			b.Fatal("nothing was cut")
		}
	}
}

// A measure, a cause and a caller's instance are kept beside what calls show of themselves, and can be taken back.
func TestLiveKeepsFacts(t *testing.T) {
	live := NewLive(DefaultLiveConfig(), 1)
	names := live.Names()
	edge := EdgeRef{names.Node(Node{Kind: Service, Name: "a"}), names.Node(Node{Kind: Service, Name: "b"}), HTTP}
	at := time.Date(2026, 11, 20, 12, 0, 5, 0, time.UTC)
	call := Call{
		Edge: edge, End: at.UnixNano(), Duration: 2e9, Weight: 3, Calls: 1, Logical: 1, Errors: 1, Outcome: Error,
		Failure: TLS, Cause: TLSExpired, Timed: true, Instance: names.NewLabel("a-1"),
	}
	fact := Fact{Edge: edge, End: at.UnixNano(), Dimension: Measured, Label: Label(RetryGap), Value: 7e6, Weight: 3, Failed: true}
	group := Fact{Edge: edge, End: at.UnixNano(), Dimension: Group, Label: names.NewLabel("g"), Value: 1, Weight: 1}
	live.Observe([]Call{call, call})
	live.ObserveFacts([]Fact{fact, fact, group})
	call.Weight, fact.Weight = -3, -3
	live.Observe([]Call{call})
	live.ObserveFacts([]Fact{fact})

	windows, _ := live.Windows(at.Add(-time.Minute), at.Add(time.Minute), true)
	got := map[DetailKey][3]int64{}
	for i := range windows {
		for _, row := range windows[i].Details {
			got[row.Key] = [3]int64{row.Detail.Calls, row.Detail.Errors, row.Detail.Latency.Count()}
		}
	}
	want := map[DetailKey][3]int64{
		{Instance, ClientSide, "a-1"}:                    {3, 3, 3},
		{Caused, ClientSide, "tls: expired certificate"}: {3, 0, 3},
		{Measured, ClientSide, "retry_gap"}:              {3, 3, 3},
		{Group, ServerSide, "g"}:                         {1, 0, 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want(-) got(+):\n%s", diff)
	}
	if RetryGap.Key() != (DetailKey{Measured, ClientSide, "retry_gap"}) {
		t.Errorf("%+v", RetryGap.Key())
	}
}

// Every cause has a name of its own and a class, every measure a name of its own.
func TestNamesOfCausesAndMeasures(t *testing.T) {
	seen := map[string]bool{}
	for c := Cause(1); c < Cause(NumCauses); c++ {
		if name := c.String(); name == "" || seen[name] || c.Failure() == None {
			t.Errorf("cause %d is called %q, of class %q", c, name, c.Failure())
		} else {
			seen[name] = true
		}
	}
	for m := Measure(1); m < numMeasures; m++ {
		if name := m.String(); name == "" || seen[name] {
			t.Errorf("measure %d is called %q", m, name)
		} else {
			seen[name] = true
		}
	}
}

// A shared label is one number as long as anybody holds it, and is given again when nobody does.
func TestSharedLabels(t *testing.T) {
	names := NewNames(10)
	own := names.NewLabel("1.0")
	a, b, other := names.SharedLabel("1.0"), names.SharedLabel("1.0"), names.SharedLabel("2.0")
	if a != b || a == own || a == other || names.Label(a) != "1.0" {
		t.Fatalf("labels %d, %d, beside %d and %d", a, b, own, other)
	}
	names.FreeLabel(a)
	names.FreeLabel(own)
	if again := names.SharedLabel("1.0"); again != b {
		t.Errorf("one holder is left, and the label is %d, not %d", again, b)
	}
	names.FreeLabel(b)
	names.FreeLabel(b)
	free := map[Label]bool{names.NewLabel("x"): true, names.NewLabel("y"): true}
	if !free[a] || !free[own] || names.Label(other) != "2.0" {
		t.Errorf("given again: %v, want %d and %d", free, a, own)
	}
}
