package ingest

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
)

// wait lets time pass, from one moment to another.
func wait(in *Intake, from, to time.Time) {
	for ; from.Before(to); from = from.Add(5 * time.Second) {
		in.Tick(from)
	}
	in.Tick(to)
}

// later feeds some spans at once and others after a while, lets those settle, and returns the edges and facts.
func later(t *testing.T, after time.Duration, first, then []tspan) (*Intake, []string, []string) {
	t.Helper()
	in, live := newIntake()
	now := epoch.Add(2 * time.Second)
	feed(t, in, now, each(t, first...)...)
	wait(in, now, now.Add(after))
	feed(t, in, now.Add(after), each(t, then...)...)
	wait(in, now.Add(after), now.Add(after+11*time.Second))
	return in, briefs(live), factLines(live, graph.Measured, graph.Group, graph.Producer)
}

// A callee's half that comes five minutes late, because the callee was at work for so long, makes the call's facts right.
func TestLateCallees(t *testing.T) {
	for _, tt := range []struct {
		name        string
		first, then []tspan
		edges       []string
		facts       []string
	}{
		{
			"a timeout, and a callee that works on",
			[]tspan{client(1, 0, 0, 1000, getSlow)},
			[]tspan{server(2, 1, 5, 280_000, serve)},
			[]string{"a → b http: calls 1, errors 1, timeout 1, client 1×1000ms, server 1×280000ms"},
			[]string{"a → b: measure wasted: 1, 279005ms"},
		},
		{
			"an answer that was lost",
			[]tspan{client(1, 0, 0, 1000, get5)},
			[]tspan{server(2, 1, 5, 900, serve)},
			[]string{"a → b http: calls 1, errors 1, lost_response 1, client 1×1000ms, server 1×900ms"},
			[]string{},
		},
		{
			"a call that was made twice, the first of which had been carried out",
			[]tspan{client(1, 9, 0, 50, postSlow), client(2, 9, 60, 50, postB), server(4, 2, 70, 30, serve)},
			[]tspan{server(3, 1, 10, 280_000, serve)},
			[]string{"a → b http: calls 2, errors 1, logical 1/0, timeout 1, client 2×50ms, server 2×140015ms"},
			[]string{
				"a → b: measure retried_call: 1, 110ms", "a → b: measure retry_gap: 1, 10ms", "a → b: measure unsafe_retry: 1, failed 1, 50ms",
				"a → b: measure wasted: 1, 279960ms",
			},
		},
		{
			"a call that was made twice, the first of which had failed",
			[]tspan{client(1, 9, 0, 50, postSlow), client(2, 9, 60, 50, postB), server(4, 2, 70, 30, serve)},
			[]tspan{server(3, 1, 10, 280_000, fail5)},
			[]string{"a → b http: calls 2, errors 1, logical 1/0, timeout 1, client 2×50ms, server 2×140015ms, server errors 1"},
			[]string{
				"a → b: measure retried_call: 1, 110ms", "a → b: measure retry_gap: 1, 10ms", "a → b: measure unsafe_retry: 1, 50ms",
				"a → b: measure wasted: 1, 279960ms",
			},
		},
		{
			"attempts that take half a minute each",
			[]tspan{client(1, 9, 0, 30_000, get5), server(3, 1, 10, 29_000, fail5)},
			[]tspan{client(2, 9, 40_000, 30_000, get), server(4, 2, 40_010, 29_000, serve)},
			[]string{"a → b http: calls 2, errors 1, logical 1/0, server_error 1, client 2×30000ms, server 2×29000ms, server errors 1"},
			[]string{"a → b: measure retried_call: 1, 70000ms", "a → b: measure retry_gap: 1, 10000ms"},
		},
		{
			"messages that lay in their queue for minutes",
			[]tspan{
				{service: "a", trace: 1, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: sendOrder},
				{service: "a", trace: 2, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: sendOrder},
			},
			[]tspan{
				{service: "b", trace: 1, id: 2, parent: 1, kind: kindConsumer, at: 280_005, ms: 10, attrs: takeOrder},
				{service: "b", trace: 3, id: 2, kind: kindConsumer, at: 260_005, ms: 10, link: [2]byte{2, 1}},
			},
			[]string{
				"a → queue:kafka/orders messaging: calls 2, client 2×5ms, messages 2",
				"queue:kafka/orders → b messaging: calls 2, server 2×10ms, messages 2",
			},
			[]string{"queue:kafka/orders → b: measure lag: 2, 270000ms", "queue:kafka/orders → b: producer a: 2, 0ms"},
		},
		{
			"a message that comes again after minutes",
			[]tspan{
				{service: "a", trace: 1, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: sendOrder},
				{service: "b", trace: 1, id: 2, parent: 1, kind: kindConsumer, at: 15, ms: 10, attrs: takeOrder},
			},
			[]tspan{{service: "b", trace: 1, id: 3, parent: 1, kind: kindConsumer, at: 280_025, ms: 10, attrs: takeOrder}},
			[]string{
				"a → queue:kafka/orders messaging: calls 1, client 1×5ms, messages 1",
				"queue:kafka/orders → b messaging: calls 2, server 2×10ms, messages 2",
			},
			[]string{"queue:kafka/orders → b: measure lag: 2, 140015ms", "queue:kafka/orders → b: measure redelivery: 1, 280000ms", "queue:kafka/orders → b: producer a: 2, 0ms"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, edges, facts := later(t, 5*time.Minute, tt.first, tt.then)
			if diff := cmp.Diff(tt.edges, edges); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.facts, facts); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A half stays for a quarter of an hour, and no longer.
func TestHowLateAHalfMayBe(t *testing.T) {
	first, then := []tspan{client(1, 0, 0, 1000, getSlow)}, []tspan{server(2, 1, 5, 2000, serve)}
	for after, want := range map[time.Duration][]string{
		14*time.Minute + 50*time.Second: {"a → b http: calls 1, errors 1, timeout 1, client 1×1000ms, server 1×2000ms"},
		15*time.Minute + 10*time.Second: {
			"a → ext:b:8080 http: calls 1, errors 1, timeout 1, client 1×1000ms",
			"unknown → b http: calls 1, server 1×2000ms, client missing 1",
		},
	} {
		in, edges, _ := later(t, after, first, then)
		if diff := cmp.Diff(want, edges); diff != "" {
			t.Errorf("after %v: %s", after, diff)
		}
		if n := in.Counters().Pending; after > lateFor && n != 1 {
			t.Errorf("after %v %d halves are held, want the callee's alone", after, n)
		}
	}
}

// Every way in which a half can stay alone has its counter.
func TestWhyHalvesStayAlone(t *testing.T) {
	named := map[string]any{"http.request.method": "GET", "server.address": "c"}
	spans := []tspan{
		client(1, 0, 0, 10, with(named, "server.address", "api.example.com")), client(2, 0, 0, 10, named), client(3, 0, 0, 10, nil),
		client(4, 0, 0, 10, map[string]any{"db.system": "redis"}),
		{service: "a", trace: 1, id: 5, kind: kindProducer, at: 0, ms: 5, attrs: sendOrder},
		client(6, 0, 0, 1, with(getB, "error.type", "CircuitBreakerError")), client(7, 0, 0, 1, with(getB, "error.type", "ECONNREFUSED")),
		client(8, 0, 0, 1000, getSlow),
		server(9, 99, 0, 10, serve),
		{service: "a", trace: 2, id: 1, kind: kindInternal, at: 0, ms: 10},
		{service: "b", trace: 2, id: 2, parent: 1, kind: kindServer, at: 0, ms: 10, attrs: serve},
		{service: "b", trace: 1, id: 10, parent: 98, kind: kindServer, at: -900, ms: 10, attrs: serve},
		{service: "b", trace: 1, id: 11, parent: 97, kind: kindConsumer, at: 0, ms: 10, attrs: takeOrder},
		{service: "b", trace: 1, id: 12, kind: kindConsumer, at: 0, ms: 10, attrs: takeOrder},
		{service: "c", trace: 3, id: 1, kind: kindServer, at: 0, ms: 10, attrs: serve}, // whose name is known
		// And these do not stay alone.
		client(20, 0, 0, 10, get), server(21, 20, 1, 5, serve),
		{service: "a", trace: 4, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: sendOrder},
		{service: "b", trace: 4, id: 2, parent: 1, kind: kindConsumer, at: 10, ms: 5, attrs: takeOrder},
		client(22, 0, 0, 10, rpc(0)), client(23, 22, 1, 5, rpc(0)), server(24, 23, 2, 2, rpc(0)),
	}
	in, _ := newIntake()
	if err := in.Restore(epoch.Add(-500*time.Millisecond), nil); err != nil {
		t.Fatal(err)
	}
	feed(t, in, epoch.Add(2*time.Second), each(t, spans...)...)
	in.Tick(epoch.Add(13 * time.Second))
	want := map[string]int64{}
	for _, name := range aloneNames {
		want[name] = 1
	}
	want[aloneNames[aloneCrowded]] = 0 // nothing had to make room: TestCrowdedSpansMakeNothingUp
	if diff := cmp.Diff(want, in.Counters().Unpaired); diff != "" {
		t.Error(diff)
	}
}

// A request that is sent again counts once, for a quarter of an hour and whoever sends it at the same time; one that was
// refused is not remembered.
func TestRequestsSentAgain(t *testing.T) {
	in, live := newIntake()
	now := epoch.Add(2 * time.Second)
	bodies := each(t, scenarios[0].spans...)
	feed(t, in, now, bodies...)
	wait(in, now, now.Add(14*time.Minute))
	feed(t, in, now.Add(14*time.Minute), bodies...)
	wait(in, now.Add(14*time.Minute), now.Add(15*time.Minute))
	if diff := cmp.Diff(scenarios[0].want, briefs(live)); diff != "" {
		t.Error(diff)
	}
	if c := in.Counters(); c.Dropped["duplicate"] != 2 || c.Accepted != 4 || c.Requests["ok"] != 4 {
		t.Errorf("counters %+v", c)
	}

	in, live = newIntake()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for _, b := range bodies {
				if _, err := in.Consume(now, b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	in.Tick(now.Add(11 * time.Second))
	if diff := cmp.Diff(scenarios[0].want, briefs(live)); diff != "" {
		t.Error(diff)
	}
	if n := in.Counters().Dropped["duplicate"]; n != 14 {
		t.Errorf("%d duplicates, want 14", n)
	}

	in, live = newIntake()
	if _, err := in.Consume(now, bodies[0][:len(bodies[0])-1]); err == nil {
		t.Error("a truncated request was accepted")
	}
	in.Refuse("overloaded")
	feed(t, in, now, bodies...)
	in.Tick(now.Add(11 * time.Second))
	if diff := cmp.Diff(scenarios[0].want, briefs(live)); diff != "" {
		t.Error(diff)
	}
}

// Of a span that is told again with a later end, the later counts, whichever comes first, until it has waited.
func TestSpansToldAgain(t *testing.T) {
	early := []tspan{client(1, 9, 0, 50, get5), server(2, 1, 10, 30, serve)}
	full := []tspan{client(1, 9, 0, 100, get), server(2, 1, 10, 80, fail5)}
	other := client(3, 9, 110, 50, get)
	want := []string{"a → b http: calls 2, client 2×75ms, server 1×80ms, server errors 1, server missing 1"}
	for _, spans := range [][]tspan{
		{early[0], early[1], other, full[0], full[1]},
		{full[0], full[1], other, early[0], early[1]},
		{early[1], full[1], full[0], early[0], other},
		{early[0], full[0], early[1], other, full[1]},
	} {
		in, live := newIntake()
		feed(t, in, epoch.Add(2*time.Second), each(t, spans...)...)
		in.Tick(epoch.Add(13 * time.Second))
		if diff := cmp.Diff(want, briefs(live)); diff != "" {
			t.Error(diff)
		}
		if n := in.Counters().Dropped["duplicate"]; n != 2 {
			t.Errorf("%d duplicates, want 2", n)
		}
		if diff := cmp.Diff([]string{}, factLines(live, graph.Measured)); diff != "" {
			t.Error(diff)
		}
	}
	// Too late to change what has been emitted.
	_, edges, _ := later(t, 15*time.Second, early, full)
	if diff := cmp.Diff([]string{"a → b http: calls 1, errors 1, lost_response 1, client 1×50ms, server 1×30ms"}, edges); diff != "" {
		t.Error(diff)
	}
}

// What is remembered of messages, links and requests is bounded, and what had to be forgotten is counted.
func TestMessagesAreBounded(t *testing.T) {
	m := newMemory[int](10, int64(time.Minute))
	forgotten := 0
	for i := range 100 {
		forgotten += m.put(uint64(i), i, int64(i))
	}
	if m.len() > 20 || forgotten != 80 {
		t.Errorf("%d values, %d forgotten before their time; want at most 20, and 80", m.len(), forgotten)
	}
	if _, ok := m.get(99); !ok {
		t.Error("the last one is gone")
	}
	m.put(100, 100, int64(2*time.Minute))
	m.put(101, 101, int64(4*time.Minute))
	if _, ok := m.get(99); ok || m.len() != 2 {
		t.Error("what is old is still there")
	}

	live := graph.NewLive(graph.DefaultLiveConfig(), 1)
	in := NewIntake(DefaultConfig(), live)
	for i := range in.shards {
		in.shards[i].maxRefs = 3
	}
	links := make([][2]byte, 5)
	for i := range links {
		links[i] = [2]byte{9, byte(i + 1)}
	}
	feed(t, in, epoch, each(t, tspan{service: "b", trace: 1, id: 1, kind: kindConsumer, at: 0, ms: 5, attrs: takeOrder, links: links})...)
	if c := in.Counters(); c.Dropped["link_limit"] != 2 {
		t.Errorf("dropped %v, want 2 links", c.Dropped)
	}
	wait(in, epoch, epoch.Add(time.Minute))
	for i := range in.shards {
		if s := &in.shards[i]; s.n != 0 || s.notes.n != 0 || s.refs.n != 0 || s.booked.n != 0 {
			t.Errorf("shard %d holds %d halves, %d notes, %d links after their time", i, s.n, s.notes.n, s.refs.n)
		}
	}
	in.shards[in.shardOf(&half{traceHi: 1 << 56, traceLo: 2})].sent.limit = 1
	for i := range 4 {
		feed(t, in, epoch, each(t, tspan{service: "a", trace: 1, id: byte(10 + i), kind: kindProducer, at: i, ms: 5, attrs: sendOrder})...)
	}
	wait(in, epoch, epoch.Add(2*time.Minute))
	if c := in.Counters(); c.Dropped["message_limit"] != 2 {
		t.Errorf("dropped %v, want 2 messages", c.Dropped)
	}
}
