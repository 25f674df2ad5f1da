package ingest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
	"faultline/graph/doctor"
)

// usual are ten calls of b by a that go well, by the clocks of both, in traces of their own: what teaches how far b's clock
// is ahead, in milliseconds.
func usual(ahead int) (spans []tspan) {
	for i := range 10 {
		spans = append(spans,
			tspan{service: "a", trace: byte(100 + i), id: 1, kind: kindClient, at: 200 * i, ms: 100, attrs: get},
			tspan{service: "b", trace: byte(100 + i), id: 2, parent: 1, kind: kindServer, at: 200*i + 10 + ahead, ms: 80, attrs: serve})
	}
	return spans
}

// ahead moves the spans of b to a clock that is so many milliseconds ahead.
func ahead(ms int, spans ...tspan) []tspan {
	spans = slices.Clone(spans)
	for i := range spans {
		if spans[i].service == "b" {
			spans[i].at += ms
		}
	}
	return spans
}

// settled feeds spans and lets them wait. It begins late enough for clocks that are behind and ahead by seconds.
func settled(t *testing.T, spans []tspan) *graph.Live {
	t.Helper()
	in, live := newIntake()
	feed(t, in, epoch.Add(20*time.Second), each(t, spans...)...)
	in.Tick(epoch.Add(31 * time.Second))
	return live
}

// linesOf returns the lines of some measures.
func linesOf(lines []string, measures ...graph.Measure) []string {
	return slices.DeleteFunc(lines, func(line string) bool {
		return !slices.ContainsFunc(measures, func(m graph.Measure) bool { return strings.Contains(line, " "+m.String()+":") })
	})
}

// TV A.6: c = [0, 100], s = [530, 610] ms: the callee's clock is 520 ms ahead, its span lies at [10, 90], the gap is 20.
func TestTVClockSkew(t *testing.T) {
	const ms = int64(time.Millisecond)
	c := half{traceLo: 1, id: 1, instance: 1, start: 0, duration: 100 * ms}
	s := half{traceLo: 1, id: 2, parent: 1, instance: 2, start: 530 * ms, duration: 80 * ms, kind: graph.SpanKindServer}
	b := batch{sampled: ^uint64(0)}
	for i := range uint64(minBounds) {
		s.id = 2 + i
		b.learn(&c, &s)
	}
	o := newOffsets()
	o.learn(b.lessons)
	if got := o.ahead(1, 2); got != 520*ms {
		t.Errorf("the callee's clock is %v ahead, want 520ms", time.Duration(got))
	}
	if a, b := o.ahead(2, 1), o.ahead(1, 3); a != 0 || b != 0 {
		t.Errorf("of processes that do not call each other %v and %v is known", a, b)
	}
	up, children := treeSpan{h: &c, end: c.end()}, []treeSpan{{h: &s}}
	align(&up, children, o)
	if got := children[0]; got.start != 10*ms || got.end != 90*ms || s.start != 530*ms {
		t.Errorf("shifted to [%d, %d], want [10, 90] ms", got.start/ms, got.end/ms)
	}
	c.kind = graph.SpanKindClient
	tr := tree{spans: []treeSpan{{h: &c, n: 1, first: 1}, {h: &s}}, edges: []treeEdge{{}}}
	if gap, ok := tr.gap(0); !ok || gap != 20*ms {
		t.Errorf("the gap is %v, want 20ms", time.Duration(gap))
	}
}

// TV C.4 by clocks that differ: c = [0, 1000] timed out, s = [5, 4005] ms is 3.005 s of work for nobody, whatever the
// callee's clock shows, and in whatever order and requests the calls come that tell of it.
func TestTVWastedWorkByClocksThatDiffer(t *testing.T) {
	for _, skew := range []int{0, 2000, -2000, 350, -350} {
		t.Run(fmt.Sprint(skew, " ms ahead"), func(t *testing.T) {
			spans := append(usual(skew), ahead(skew, client(1, 0, 0, 1000, getSlow), server(2, 1, 5, 4000, serve))...)
			bodies := each(t, spans...)
			r := rand.New(rand.NewPCG(uint64(skew+3000), 1))
			for range 10 {
				in, live := newIntake()
				now := epoch.Add(20 * time.Second)
				for i := 0; i < len(bodies); {
					n := min(1+r.IntN(6), len(bodies)-i)
					feed(t, in, now, merge(t, bodies[i:i+n]))
					now = now.Add(time.Duration(r.IntN(2000)) * time.Millisecond / 5)
					in.Tick(now)
					i += n
				}
				wait(in, now, now.Add(11*time.Second))
				want := []string{"a → b: measure wasted: 1, 3005ms"}
				if diff := cmp.Diff(want, linesOf(factLines(live, graph.Measured), graph.Wasted)); diff != "" {
					t.Fatal(diff)
				}
				r.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
			}
		})
	}
}

// Work for nobody that the callee's clock hides: it seems to lie within the call.
func TestWastedWorkWithinTheCall(t *testing.T) {
	spans := append(usual(-350), ahead(-350, client(1, 0, 0, 1000, getSlow), server(2, 1, 400, 900, serve))...)
	want := []string{"a → b: measure wasted: 1, 300ms"}
	if diff := cmp.Diff(want, linesOf(factLines(settled(t, spans), graph.Measured), graph.Wasted)); diff != "" {
		t.Error(diff)
	}
	// And work that only seems to have been for nobody.
	spans = append(usual(350), ahead(350, client(1, 0, 0, 1000, getSlow), server(2, 1, 100, 850, serve))...)
	if diff := cmp.Diff([]string{}, linesOf(factLines(settled(t, spans), graph.Measured), graph.Wasted)); diff != "" {
		t.Error(diff)
	}
}

// Spans below calls that did not wait for them do not look like clocks: they contradict each other.
func TestWhatDoesNotWaitTeachesNoClock(t *testing.T) {
	var spans []tspan
	for i := range 20 {
		spans = append(spans,
			tspan{service: "a", trace: byte(100 + i), id: 1, kind: kindClient, at: 0, ms: 20, attrs: get},
			tspan{service: "b", trace: byte(100 + i), id: 2, parent: 1, kind: kindServer, at: 50 * i, ms: 10, attrs: serve})
	}
	spans = append(spans, client(1, 0, 0, 1000, getSlow), server(2, 1, 5, 4000, serve))
	want := []string{"a → b: measure wasted: 1, 3005ms"}
	if diff := cmp.Diff(want, linesOf(factLines(settled(t, spans), graph.Measured), graph.Wasted)); diff != "" {
		t.Error(diff)
	}
}

// Two attempts below one client span, at processes whose clocks differ: what the second waited is told by the caller's.
func TestAttemptsAtProcessesWhoseClocksDiffer(t *testing.T) {
	second := map[string]any{"service.instance.id": "b-2"}
	spans := usual(-40)
	for _, s := range usual(70) {
		s.trace += 50
		if s.service == "b" {
			s.resource = second
		}
		spans = append(spans, s)
	}
	late := server(3, 1, 60+70, 10, rpc(0))
	late.resource = second
	spans = append(spans, client(1, 0, 0, 300, rpc(0)), server(2, 1, 10-40, 10, rpc(14)), late)
	want := []string{"a → b: measure retry_gap: 1, 40ms"}
	if diff := cmp.Diff(want, linesOf(factLines(settled(t, spans), graph.Measured), graph.RetryGap, graph.Hedge)); diff != "" {
		t.Error(diff)
	}
}

// A date to wait until is one by the callee's clock.
func TestRetryAfterADateByAnotherClock(t *testing.T) {
	busy := with(get429, "http.response.header.retry-after", epoch.Add(4*time.Second).Format(http.TimeFormat))
	for _, tt := range []struct {
		ahead, next int // ms
		ignored     bool
	}{{0, 3900, true}, {0, 4000, false}, {2000, 1900, true}, {2000, 2000, false}, {-2000, 5900, true}, {-2000, 6000, false}} {
		spans := append(usual(tt.ahead), ahead(tt.ahead,
			client(1, 9, 0, 100, busy), server(2, 1, 10, 80, with(serve, "http.response.status_code", 429)), client(3, 9, tt.next, 100, get),
			server(4, 3, tt.next+10, 80, serve))...)
		want := fmt.Sprintf("a → b: measure retry_pushback: 1, %dms", tt.next-100)
		if tt.ignored {
			want = fmt.Sprintf("a → b: measure retry_pushback: 1, failed 1, %dms", tt.next-100)
		}
		if diff := cmp.Diff([]string{want}, linesOf(factLines(settled(t, spans), graph.Measured), graph.RetryPushback)); diff != "" {
			t.Errorf("%d ms ahead, again after %d ms: %s", tt.ahead, tt.next, diff)
		}
	}
}

// What was waited for one after the other, by a clock that makes it look as if it had been side by side.
func TestOrderByClocksThatDiffer(t *testing.T) {
	gw := func(ahead int) []tspan {
		return append(usual(ahead),
			tspan{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 100, attrs: route("/", 200)},
			tspan{service: "c", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 30, attrs: route("/c", 200), flags: 0x300},
			tspan{service: "b", trace: 1, id: 3, parent: 1, kind: kindServer, at: 50 + ahead, ms: 40, attrs: route("/b", 200), flags: 0x300})
	}
	// Beside the ten calls that go well, of 100 ms each of which 80 are b's.
	want := []string{
		"a → b critical: 11× 1040", "a → b critical_edge: 10× 200", "a → b critical_self: 11× 840", "a → c critical: 1× 30", "a → c critical_self: 1× 30", "user → a critical: 1× 100", "user → a critical_self: 1× 30",
	}
	for _, ahead := range []int{0, -45, 2000, -2000} {
		if diff := cmp.Diff(want, factsOf(settled(t, gw(ahead)), pathMeasures...)); diff != "" {
			t.Errorf("%d ms ahead: %s", ahead, diff)
		}
	}
}

// A clock that is set right is believed before long, and pairs of processes are bounded.
func TestOffsetsChangeAndAreBounded(t *testing.T) {
	const ms = int64(time.Millisecond)
	o := newOffsets()
	call := uint64(0)
	tell := func(caller, callee graph.Label, ahead, at int64) {
		call++
		o.learn([]lesson{{bounds{ahead - ms, ahead + ms, mix(call)}, between(caller, callee), at}})
	}
	at := int64(1e18)
	for range 600 {
		at += 1e9
		tell(1, 2, 500*ms, at)
	}
	if got := o.ahead(1, 2); got != 500*ms {
		t.Errorf("ahead by %v, want 500ms", time.Duration(got))
	}
	for range 180 {
		at += 1e9
		tell(1, 2, -20*ms, at)
	}
	if got := o.ahead(1, 2); got != -20*ms {
		t.Errorf("ahead by %v, want -20ms", time.Duration(got))
	}
	for i := range graph.Label(3 * maxOffsets) {
		tell(10, 100+i, 500*ms, at)
	}
	bytes, forgotten := o.size()
	if held := bytes / offsetSize; held > 2*maxOffsets || held+forgotten != 3*maxOffsets+1 {
		t.Errorf("%d pairs held, %d forgotten", held, forgotten)
	}
	at -= int64(time.Hour) // the receiving clock was set back
	o.setBack(at)
	at += int64(lateFor)
	tell(1, 3, 0, at)
	at += int64(lateFor)
	tell(1, 3, 0, at)
	if bytes, _ := o.size(); bytes > 2*offsetSize {
		t.Errorf("%d bytes held of what is long over", bytes)
	}
}

// through puts the sidecars of both services between the halves of each call.
func through(spans []tspan) (out []tspan) {
	for _, s := range spans {
		switch {
		case s.service == "a" && s.kind == kindClient:
			out = append(out, s,
				tspan{service: "a", trace: s.trace, id: s.id + 100, parent: s.id, kind: kindClient, at: s.at + 1, ms: s.ms - 2, attrs: envoyOut})
		case s.service == "b" && s.kind == kindServer:
			call := s.parent
			s.parent = s.id + 100
			out = append(out, s,
				tspan{service: "b", trace: s.trace, id: s.id + 100, parent: call + 100, kind: kindServer, at: s.at - 1, ms: s.ms + 2, attrs: envoyIn})
		default:
			out = append(out, s)
		}
	}
	return out
}

// Sidecars hide neither work for nobody nor clocks that differ.
func TestClocksThroughSidecars(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for _, skew := range []int{0, 2000, -2000} {
		spans := through(append(usual(skew), ahead(skew, client(1, 0, 0, 1000, getSlow), server(2, 1, 5, 4000, serve))...))
		bodies := each(t, spans...)
		for range 10 {
			in, live := newIntake()
			now := epoch.Add(20 * time.Second)
			for i := range bodies {
				feed(t, in, now, bodies[i])
				now = now.Add(time.Duration(r.IntN(150)) * time.Millisecond)
				in.Tick(now)
			}
			wait(in, now, now.Add(11*time.Second))
			want := []string{"a → b: measure skew: 10, 2000ms", "a → b: measure wasted: 1, 3005ms"}
			switch {
			case skew < 0:
				want[0] = "a → b: measure skew_behind: 11, 1999.545454ms" // the least of them is how long before its call the long one began
			case skew == 0:
				want = want[1:]
			}
			if diff := cmp.Diff(want, linesOf(factLines(live, graph.Measured), graph.Wasted, graph.Skew, graph.SkewBehind)); diff != "" {
				t.Fatalf("%d ms ahead: %s", skew, diff)
			}
			if n := skewedCalls(in, now); (skew != 0) != (n == 10) {
				t.Fatalf("%d ms ahead: %d calls say so", skew, n)
			}
			r.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
		}
	}
}

// skewedCalls returns how many calls of b the doctor is told of whose clocks differ.
func skewedCalls(in *Intake, now time.Time) (n int64) {
	for _, slot := range in.Evidence(now) {
		for _, e := range slot.Services {
			n += e.Counts[doctor.Skewed]
		}
	}
	return n
}

// A producer and a consumer that do not call each other, and a service that both call: the lag between them is told by one
// clock, and by how much it may be off.
func TestLagByClocksThatDiffer(t *testing.T) {
	both := func(producer, consumer int) (spans []tspan) {
		for i, caller := range []string{"p", "c"} {
			skew := []int{producer, consumer}[i]
			for k := range 6 {
				trace := byte(100 + 10*i + k)
				spans = append(spans,
					tspan{service: caller, trace: trace, id: 1, kind: kindClient, at: 200*k + skew, ms: 100, attrs: get},
					tspan{service: "b", trace: trace, id: 2, parent: 1, kind: kindServer, at: 200*k + 5, ms: 90, attrs: serve})
			}
		}
		return append(spans,
			tspan{service: "p", trace: 1, id: 1, kind: kindProducer, at: producer, ms: 5, attrs: sendOrder},
			tspan{service: "c", trace: 1, id: 2, parent: 1, kind: kindConsumer, at: 305 + consumer, ms: 80, attrs: takeOrder})
	}
	for _, tt := range []struct {
		producer, consumer int // ms ahead
		within             string
	}{{0, 0, "10ms"}, {2000, 0, "10ms"}, {0, -2000, "10ms"}, {-1500, 700, "10ms"}} {
		spans := both(tt.producer, tt.consumer)
		want := []string{"queue:kafka/orders → c: measure lag: 1, 300ms", "queue:kafka/orders → c: measure lag_within: 1, " + tt.within}
		measures := []graph.Measure{graph.Lag, graph.LagSkewed, graph.LagWithin}
		if diff := cmp.Diff(want, linesOf(factLines(settled(t, spans), graph.Measured), measures...)); diff != "" {
			t.Errorf("%d and %d ms ahead: %s", tt.producer, tt.consumer, diff)
		}
		// Without the calls there is nothing to know them by.
		want = []string{fmt.Sprintf("queue:kafka/orders → c: measure lag: 1, %dms", 300+tt.consumer-tt.producer)}
		if lag := 300 + tt.consumer - tt.producer; lag < 0 {
			want = []string{fmt.Sprintf("queue:kafka/orders → c: measure lag_skewed: 1, %dms", -lag)}
		}
		if diff := cmp.Diff(want, linesOf(factLines(settled(t, spans[len(spans)-2:]), graph.Measured), measures...)); diff != "" {
			t.Errorf("%d and %d ms ahead, without calls: %s", tt.producer, tt.consumer, diff)
		}
	}
}

// How two clocks differ, and how surely that is known, does not depend on which process was seen first, nor on those beside
// the chain of calls between the two.
func TestHowClocksStandWhicheverIsFirst(t *testing.T) {
	const ms = int64(time.Millisecond)
	for _, at := range [][4]graph.Label{{1, 2, 3, 4}, {4, 3, 2, 1}, {2, 4, 1, 3}, {3, 1, 4, 2}} {
		a, b, c, d := at[0], at[1], at[2], at[3]
		o := newOffsets()
		teach := func(caller, callee graph.Label, ahead, within int64) {
			for call := range uint64(minBounds) {
				o.learn([]lesson{{bounds{ahead - within, ahead + within, mix(call)}, between(caller, callee), 1}})
			}
		}
		teach(a, b, 100*ms, 5*ms)
		teach(b, a, -100*ms, 7*ms) // they call each other, and this says less
		teach(a, c, 200*ms, 20*ms)
		teach(c, d, 0, 3*ms)
		o.survey(int64(time.Hour))
		for _, tt := range []struct {
			from, to      graph.Label
			ahead, within int64
		}{{a, b, 100 * ms, 5 * ms}, {b, a, -100 * ms, 5 * ms}, {b, d, 100 * ms, 28 * ms}, {d, c, 0, 3 * ms}, {d, a, -200 * ms, 23 * ms}} {
			if ahead, within, known := o.difference(tt.from, tt.to); !known || ahead != tt.ahead || within != tt.within {
				t.Errorf("%v: from %d to %d: %v ± %v, want %v ± %v", at, tt.from, tt.to, time.Duration(ahead), time.Duration(within), time.Duration(tt.ahead), time.Duration(tt.within))
			}
		}
	}
}
