package ingest

import (
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"faultline/graph"
)

// afterAll returns what comes of spans that come in lots, each after a while. Whole traces are not looked at, nor are
// lags set right by what is learned of clocks from the calls that have come by then.
func afterAll(t *testing.T, after time.Duration, lots ...[][]byte) (*Intake, []string) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Analyse = 0
	live := graph.NewLive(graph.DefaultLiveConfig(), 1)
	in := NewIntake(cfg, live)
	in.pairer.offsets.surveyed = math.MaxInt64
	now := epoch.Add(30 * time.Second)
	for _, lot := range lots {
		feed(t, in, now, lot...)
		wait(in, now, now.Add(after))
		now = now.Add(after)
	}
	wait(in, now, now.Add(11*time.Second))
	return in, everything(live)
}

// alive are spans by which the clocks of processes are known before any of theirs is late.
var alive = []tspan{
	{service: "a", trace: 200, id: 1, kind: kindServer, at: 29_000, ms: 5, attrs: serve},
	{service: "b", trace: 201, id: 1, kind: kindServer, at: 29_000, ms: 5, attrs: serve},
	{service: "c", trace: 202, id: 1, kind: kindServer, at: 29_000, ms: 5, attrs: serve},
}

// lateProducers are messages whose producers' halves come when their consumers have waited for them.
var lateProducers = []struct {
	name        string
	first, then []tspan
}{
	{
		"one message, for two groups",
		[]tspan{
			{service: "b", trace: 1, id: 2, parent: 1, kind: kindConsumer, at: 505, ms: 80, attrs: with(takeOrder, "messaging.consumer.group.name", "g1")},
			{service: "b", trace: 1, id: 3, parent: 1, kind: kindConsumer, at: 305, ms: 40, failed: true, attrs: with(takeOrder, "messaging.kafka.consumer.group", "g2")},
		},
		[]tspan{{service: "a", trace: 1, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: sendOrder}},
	},
	{
		"a batch of which one producer was there",
		[]tspan{
			{service: "a", trace: 1, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: sendOrder},
			{service: "b", trace: 4, id: 4, kind: kindConsumer, at: 305, ms: 80, attrs: takeOrder, links: [][2]byte{{1, 1}, {2, 2}, {3, 3}}},
		},
		[]tspan{
			{service: "a", trace: 2, id: 2, kind: kindProducer, at: 100, ms: 5, attrs: sendOrder},
			{service: "a", trace: 3, id: 3, kind: kindProducer, at: 200, ms: 5, attrs: sendOrder},
		},
	},
	{
		"a consumer that names no queue, of a group, by a link",
		[]tspan{{service: "b", trace: 4, id: 4, kind: kindConsumer, at: 105, ms: 80, link: [2]byte{1, 1}, attrs: tag{"messaging.system": "kafka", "messaging.operation.type": "process", "messaging.consumer.group.name": "g"}}},
		[]tspan{{service: "a", trace: 1, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: sendOrder}},
	},
	{
		"consumers that name no queue, one after the other, by their parent",
		[]tspan{
			{service: "b", trace: 1, id: 2, parent: 1, kind: kindConsumer, at: 105, ms: 80, failed: true},
			{service: "b", trace: 1, id: 3, parent: 1, kind: kindConsumer, at: 205, ms: 80},
		},
		[]tspan{{service: "a", trace: 1, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: sendOrder}},
	},
	{
		"several messages that were sent as one: their consumers come one after the other and are no redeliveries",
		[]tspan{
			{service: "b", trace: 1, id: 2, parent: 1, kind: kindConsumer, at: 10, ms: 10, attrs: takeOrder},
			{service: "b", trace: 1, id: 3, parent: 1, kind: kindConsumer, at: 40, ms: 10, attrs: takeOrder},
			{service: "b", trace: 1, id: 4, parent: 1, kind: kindConsumer, at: 40, ms: 20},
			{service: "b", trace: 1, id: 5, parent: 1, kind: kindConsumer, at: 90, ms: 20},
		},
		[]tspan{{service: "a", trace: 1, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: with(sendOrder, "messaging.batch.message_count", 4)}},
	},
	{
		"one of which the broker says when it had it",
		[]tspan{{service: "b", trace: 1, id: 2, parent: 1, kind: kindConsumer, at: 4000, ms: 80, attrs: with(takeOrder, "messaging.eventhubs.message.enqueued_time", int(epoch.Unix())+1)}},
		[]tspan{{service: "a", trace: 1, id: 1, kind: kindProducer, at: 500, ms: 5, attrs: sendOrder}},
	},
	{
		"one by a clock that is ahead",
		[]tspan{{service: "b", trace: 1, id: 2, parent: 1, kind: kindConsumer, at: 405, ms: 80, attrs: takeOrder}},
		[]tspan{{service: "a", trace: 1, id: 1, kind: kindProducer, at: 500, ms: 5, attrs: sendOrder}},
	},
}

// A producer's half that comes late gives its message the same lag, in the same minute, as one that comes in time.
func TestLateProducers(t *testing.T) {
	for _, tt := range lateProducers {
		t.Run(tt.name, func(t *testing.T) {
			first, then := each(t, append(slices.Clone(tt.first), alive...)...), each(t, tt.then...)
			_, want := afterAll(t, time.Second, append(slices.Clone(first), then...))
			if !slices.ContainsFunc(want, func(line string) bool { return strings.Contains(line, graph.Lag.String()) }) {
				t.Fatal("there is no lag to be seen")
			}
			for _, after := range []time.Duration{12 * time.Second, 45 * time.Second, 14*time.Minute + 30*time.Second} {
				in, got := afterAll(t, after, first, then)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("after %v: %s", after, diff)
				}
				if n := in.Counters().Late; n == 0 {
					t.Errorf("after %v: nothing was late", after)
				}
			}
		})
	}
}

// split parts spans by whether they come late.
func split(spans []tspan, late func(tspan) bool) (first, then []tspan) {
	first = slices.Clone(alive)
	for _, s := range spans {
		if late(s) {
			then = append(then, s)
		} else {
			first = append(first, s)
		}
	}
	return first, then
}

func ofKind(kind ptrace.SpanKind) func(tspan) bool {
	return func(s tspan) bool { return s.kind == kind && (kind != kindServer || s.parent != 0) }
}

// Whichever halves of the scenarios come late, what is said of the calls is the same as when they come in time.
func TestLateHalvesGiveTheSameFacts(t *testing.T) {
	// The half of an operation is kept for half a minute, and not for as long as halves that miss another one.
	operations := []string{
		"a hedge: nobody waits for the slower one", "7: the caller is not instrumented", "8: a service's own work", "9: a service that calls itself",
	}
	for _, sc := range factScenarios {
		t.Run(sc.name, func(t *testing.T) {
			for _, kind := range []ptrace.SpanKind{kindServer, kindClient, kindProducer, kindConsumer} {
				first, then := split(sc.spans, ofKind(kind))
				if len(then) == 0 {
					continue
				}
				_, want := afterAll(t, time.Second, each(t, append(slices.Clone(first), then...)...))
				for _, after := range []time.Duration{12 * time.Second, 5 * time.Minute, 14*time.Minute + 30*time.Second} {
					if after > time.Minute && slices.Contains(operations, sc.name) {
						continue
					}
					_, got := afterAll(t, after, each(t, first...), each(t, then...))
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%v halves after %v: %s", kind, after, diff)
					}
				}
			}
		})
	}
}

// lateAttempts are calls that are made again, in ways that another attempt changes.
var lateAttempts = []struct {
	name  string
	spans []tspan
	kept  bool // for a quarter of an hour: none is answered
}{
	{"one of four that nobody answers", []tspan{
		parentOp(2000), client(1, 9, 0, 50, get5), client(2, 9, 100, 50, get5), client(3, 9, 300, 50, get5), client(4, 9, 600, 50, get5),
	}, true},
	{"one of three that times out and must not be made twice", []tspan{
		parentOp(2000), client(1, 9, 0, 50, postSlow), client(2, 9, 100, 50, postSlow), client(3, 9, 300, 50, postB), client(4, 9, 900, 50, postB),
	}, true},
	{"one that asks to wait", []tspan{
		parentOp(9000), client(1, 9, 0, 50, with(get5, "http.response.status_code", 429, "http.response.header.retry-after", []string{"1"})),
		client(2, 9, 500, 50, with(get5, "http.response.status_code", 429, "http.response.header.retry-after", []string{"2"})), client(3, 9, 4000, 50, get),
	}, true},
	{"one of three that are answered", []tspan{
		parentOp(2000), client(1, 9, 0, 50, get5), client(2, 9, 100, 50, get5), client(3, 9, 300, 50, get),
		server(11, 1, 10, 30, fail5), server(12, 2, 110, 30, fail5), server(13, 3, 310, 30, serve),
	}, false},
	{"one after a redirect", []tspan{
		parentOp(2000), client(1, 9, 0, 50, with(get, "http.response.status_code", 302)), client(2, 9, 60, 50, again(get5, 1)), client(3, 9, 200, 50, again(get, 2)),
	}, false},
	{"a hedge, and a retry", []tspan{
		parentOp(400), client(1, 9, 0, 500, getGone), client(2, 9, 40, 60, again(get5, 1)), client(3, 9, 150, 100, again(get, 2)), server(13, 3, 160, 30, serve),
	}, false},
	{"that only the callee shows", []tspan{
		{service: "b", trace: 1, id: 11, parent: 200, kind: kindServer, at: 0, ms: 10, attrs: rpc(14, "rpc.request.metadata.grpc-previous-rpc-attempts", "0"), flags: 0x300},
		{service: "b", trace: 1, id: 12, parent: 200, kind: kindServer, at: 50, ms: 10, attrs: rpc(14, "rpc.request.metadata.grpc-previous-rpc-attempts", "1"), flags: 0x300},
		{service: "b", trace: 1, id: 13, parent: 200, kind: kindServer, at: 150, ms: 10, attrs: rpc(0, "rpc.request.metadata.grpc-previous-rpc-attempts", "2"), flags: 0x300},
	}, true},
}

// Whichever attempts of a logical call come late, be it all but one, each in its own time, what is said of it is the same
// as when they come in time, for as long as those beside them are remembered.
func TestLateAttemptsMendThoseBesideThem(t *testing.T) {
	for _, sc := range lateAttempts {
		t.Run(sc.name, func(t *testing.T) {
			var tried []byte
			for _, s := range sc.spans {
				if s.kind == kindClient || s.service == "b" && s.parent == 200 {
					tried = append(tried, s.id)
				}
			}
			_, want := afterAll(t, time.Second, each(t, append(slices.Clone(alive), sc.spans...)...))
			for set := 1; set < 1<<len(tried)-1; set++ {
				isLate := func(s tspan) bool { i := slices.Index(tried, s.id); return i >= 0 && set>>i&1 == 1 }
				first, then := split(sc.spans, isLate)
				for _, after := range []time.Duration{12 * time.Second, 28 * time.Second, 14 * time.Minute} {
					if after > time.Minute && !sc.kept {
						continue
					}
					lots := [][][]byte{each(t, first...), each(t, then...)}
					_, got := afterAll(t, after, lots...)
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%b after %v: %s", set, after, diff)
					}
				}
				if len(then) == 2 { // one after the other, in both orders, each after the others have waited
					for range 2 {
						_, got := afterAll(t, 11*time.Second, each(t, first...), each(t, then[0]), each(t, then[1]))
						if diff := cmp.Diff(want, got); diff != "" {
							t.Errorf("%b one after the other: %s", set, diff)
						}
						slices.Reverse(then)
					}
				}
			}
		})
	}
}

// Where what was said of attempts could not be remembered, or some of them are not any more, one that comes late among
// them changes nothing that was said, and adds nothing to it.
func TestLateAttemptsBesideWhatIsForgotten(t *testing.T) {
	spans := []tspan{parentOp(2000), client(1, 9, 0, 50, get5), client(2, 9, 100, 50, get5), client(3, 9, 300, 50, get), server(13, 3, 310, 30, serve)}
	facts := func(maxBooked int, after time.Duration, lots ...[]tspan) []string {
		live := graph.NewLive(graph.DefaultLiveConfig(), 1)
		in := NewIntake(DefaultConfig(), live)
		for i := range in.shards {
			in.shards[i].maxBooked = maxBooked
		}
		now := epoch.Add(2 * time.Second)
		for _, lot := range lots {
			feed(t, in, now, each(t, lot...)...)
			wait(in, now, now.Add(after))
			now = now.Add(after)
		}
		return factLines(live, graph.Measured)
	}
	late, rest := spans[2:3], slices.Concat(spans[:2], spans[3:])
	want := facts(1000, 11*time.Second, rest)
	if !slices.Contains(want, "a → b: measure retried_call: 1, 350ms") {
		t.Errorf("without the late one: %q", want)
	}
	if diff := cmp.Diff(want, facts(1, 12*time.Second, rest, late)); diff != "" {
		t.Errorf("what could not be remembered: %s", diff)
	}
	if diff := cmp.Diff(want, facts(1000, 40*time.Second, rest, late)); diff != "" {
		t.Errorf("what is forgotten: %s", diff)
	}
}

// Halves that come late teach late how far the clocks differ, and what is told by that is the same all the same.
func TestLateHalvesTeachTheClocks(t *testing.T) {
	second := func(s tspan) tspan {
		s.resource = map[string]any{"service.instance.id": "b-2"}
		return s
	}
	usuals := usual(-40)
	for _, s := range usual(70) {
		s.trace += 50
		if s.service == "b" {
			s = second(s)
		}
		usuals = append(usuals, s)
	}
	busy := with(get429, "http.response.header.retry-after", epoch.Add(4*time.Second).Format(http.TimeFormat))
	for _, tt := range []struct {
		name  string
		spans []tspan
		want  string
	}{
		{"a retry that seems to come much later", []tspan{client(1, 0, 0, 300, rpc(0)), server(2, 1, 10-40, 10, rpc(14)), second(server(3, 1, 60+70, 10, rpc(0)))}, "retry_gap: 1, 40ms"},
		{"a hedge that seems to be a retry", []tspan{client(1, 0, 0, 300, rpc(0)), server(2, 1, 10-40, 60, rpc(14)), second(server(3, 1, 60+70, 10, rpc(0)))}, "hedge: 1, 50ms"},
		{"a retry that seems to be a hedge", []tspan{client(1, 0, 0, 300, rpc(0)), second(server(2, 1, 10+70, 40, rpc(14))), server(3, 1, 120-40, 10, rpc(0))}, "retry_gap: 1, 70ms"},
		{"work for nobody", []tspan{client(1, 0, 0, 1000, getSlow), second(server(2, 1, 5+70, 4000, serve))}, "wasted: 1, 3005ms"},
		{"a date that was heeded", []tspan{
			client(1, 9, 0, 100, busy), second(server(2, 1, 10+70, 80, with(serve, "http.response.status_code", 429))), client(3, 9, 3950, 100, get), server(4, 3, 3970-40, 70, serve),
		}, "retry_pushback: 1, 3850ms"},
		{"a date that was not", []tspan{
			client(1, 9, 0, 100, busy), server(2, 1, 10-40, 80, with(serve, "http.response.status_code", 429)), client(3, 9, 4000, 100, get), server(4, 3, 4010-40, 80, serve),
		}, "retry_pushback: 1, failed 1, 3900ms"},
	} {
		spans := slices.Concat(tt.spans, usuals)
		want := "a → b: measure " + tt.want
		if lines := factLines(settled(t, spans), graph.Measured); !slices.Contains(lines, want) {
			t.Errorf("%s: %q, want %q", tt.name, lines, want)
		}
		_, all := afterAll(t, time.Second, each(t, slices.Concat(alive, spans)...))
		for name, late := range map[string]func(tspan) bool{
			"callees": ofKind(kindServer), "callers": ofKind(kindClient), "callers but of the last attempt": func(s tspan) bool { return s.kind == kindClient && s.id != 3 },
		} {
			// By one call that is whole in time it is known that the address is not one where nobody answers.
			first, then := split(spans, func(s tspan) bool { return late(s) && s.trace != usuals[0].trace })
			for _, after := range []time.Duration{12 * time.Second, 28 * time.Second} {
				_, got := afterAll(t, after, each(t, first...), each(t, then...))
				if diff := cmp.Diff(all, got); diff != "" {
					t.Errorf("%s, late %s after %v: %s", tt.name, name, after, diff)
				}
			}
		}
	}
}

// So it is with random traces: halves of calls for as long as those that they belong to are kept in any case, producers and
// consumers for a quarter of an hour, in whatever order, by clocks that their own calls teach.
func TestRandomTracesThatAreLateGiveTheSameFacts(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 11))
		spans := invent(r, 40)
		for kind, after := range map[ptrace.SpanKind]time.Duration{
			kindServer: 12 * time.Second, kindClient: 12 * time.Second, kindProducer: 14 * time.Minute, kindConsumer: 14 * time.Minute,
		} {
			first, then := split(spans, ofKind(kind))
			_, want := afterAll(t, time.Second, [][]byte{merge(t, each(t, append(slices.Clone(first), then...)...))})
			r.Shuffle(len(then), func(i, j int) { then[i], then[j] = then[j], then[i] })
			bodies, late := each(t, first...), each(t, then...)
			half := r.IntN(len(late))
			_, got := afterAll(t, after, [][]byte{merge(t, bodies)}, [][]byte{merge(t, late[:half]), merge(t, late[half:])})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("seed %d, %v halves: %s", seed, kind, diff)
			}
		}
		// And where some of the attempts are late, in two lots, of which the second comes when the first has waited. Those that
		// clocks are asked about, because several processes served them or their caller had left, come last: when they have
		// waited, all have taught the clocks, as in time.
		lot, calls, servedBy := map[[2]byte]int{}, map[[2]byte]tspan{}, map[[2]byte]map[string]any{}
		for _, s := range spans {
			call := [2]byte{s.trace, s.id}
			if calls[call] = s; s.kind == kindClient && r.IntN(3) == 0 {
				lot[call] = 1 + r.IntN(2)
			}
			if call[1] = s.parent; s.kind == kindServer && calls[call].kind == kindClient {
				by, again := servedBy[call]
				if left := calls[call].attrs["error.type"]; left == "timeout" || left == "AbortError" || again && !maps.Equal(by, s.resource) {
					lot[call] = 2
				}
				servedBy[call] = s.resource
			}
		}
		first, then := split(spans, func(s tspan) bool { return lot[[2]byte{s.trace, s.id}] > 0 })
		second := slices.DeleteFunc(slices.Clone(then), func(s tspan) bool { return lot[[2]byte{s.trace, s.id}] != 2 })
		then = slices.DeleteFunc(then, func(s tspan) bool { return lot[[2]byte{s.trace, s.id}] != 1 })
		_, want := afterAll(t, time.Second, [][]byte{merge(t, each(t, slices.Concat(first, then, second)...))})
		_, got := afterAll(t, 12*time.Second, each(t, first...), each(t, then...), each(t, second...))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("seed %d, some attempts: %s", seed, diff)
		}
	}
}

// What is remembered to be mended is bounded, and what had to be forgotten, or could not be remembered, is counted.
func TestWhatMayBeMendedIsBounded(t *testing.T) {
	live := graph.NewLive(graph.DefaultLiveConfig(), 1)
	in := NewIntake(DefaultConfig(), live)
	for i := range in.shards {
		in.shards[i].maxBooked, in.shards[i].awaiting.limit = 2, 1
	}
	var spans []tspan
	for i := range 4 { // three retries, one more wait to compare, how long all of it took, and four messages that nobody sent, of one trace
		spans = append(spans, client(byte(10+i), 9, 100*i, 50, with(get5, "server.address", "elsewhere")),
			tspan{service: "b", trace: 1, id: byte(20 + i), parent: byte(30 + i), kind: kindConsumer, at: i, ms: 5, attrs: takeOrder})
	}
	now := epoch.Add(2 * time.Second)
	feed(t, in, now, each(t, spans...)...)
	wait(in, now, now.Add(11*time.Second))
	if c := in.Counters(); c.Dropped["fact_limit"] != 3 || c.Dropped["message_limit"] != 2 {
		t.Errorf("dropped %v, want 3 of 5 facts and 2 of 4 messages", c.Dropped)
	}
	wait(in, now, now.Add(20*time.Minute))
	for i := range in.shards {
		if s := &in.shards[i]; s.n != 0 || s.notes.n != 0 || s.booked.n != 0 {
			t.Errorf("shard %d holds %d halves, %d notes, %d facts after their time", i, s.n, s.notes.n, s.booked.n)
		}
	}
}
