package doctor

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func service(name string) graph.Node {
	return graph.Node{Env: "prod", Kind: graph.Service, Namespace: "shop", Name: name}
}

// evidence is of a service with so many spans and what else is counted.
func evidence(name string, spans int64, counts map[Counter]int64, links ...Link) Evidence {
	e := Evidence{Service: service(name), Language: "java", SDK: "1.58.0", Last: noon}
	e.Counts[Spans] = spans
	for c, n := range counts {
		e.Counts[c] = n
	}
	for _, l := range links {
		e.Note(l, Seen{N: e.Counts[l.Counter]})
	}
	return e
}

// TestRules is each rule at its edge: what it says, and from where on.
func TestRules(t *testing.T) {
	a := service("a")
	for _, test := range []struct {
		name string
		e    Evidence
		want string // "score rule level points share of n peer; …"
	}{
		{"nothing odd", evidence("b", 1000, map[Counter]int64{Server: 500, Client: 500, Named: 1000}), "100 "},
		{"nineteen spans", evidence("b", 19, map[Counter]int64{NoInstance: 19}), "0 "},
		{"twenty spans", evidence("b", 20, map[Counter]int64{NoInstance: 20}), "90 missing_instance_id note −10 1.000 of 20"},
		{"one of twenty is chance", evidence("b", 20, map[Counter]int64{NoInstance: 1}), "100 "},
		{"few of many are none", evidence("b", 10_000, map[Counter]int64{NoInstance: 500}), "100 "},
		{"surely a twentieth", evidence("b", 10_000, map[Counter]int64{NoInstance: 560}), "99 missing_instance_id note −1 0.056 of 10000"},
		{
			"nobody's callers at a twentieth", evidence("b", 1000, map[Counter]int64{Server: 1000, UnseenParents: 50}),
			"98 untraced_callers warn −2 0.050 of 1000",
		},
		{"below it", evidence("b", 1000, map[Counter]int64{Server: 1000, UnseenParents: 49}), "100 "},
		{
			"cut traces are no untraced callers", evidence("b", 1000, map[Counter]int64{Server: 1000, UnseenParents: 100, CutParents: 100}, Link{CutParents, a}),
			"97 split_traces warn −3 0.100 of 1000 shop/a",
		},
		{"what was taken back is not counted", evidence("b", 1000, map[Counter]int64{Server: 1000, UnseenParents: 0, CutParents: 100}), "100 "},
		{"more taken back than counted", evidence("b", 1000, map[Counter]int64{Server: 1000, UnseenParents: -3, Unanswered: -5, ExtraRoots: -1}), "100 "},
		{
			"unanswered", evidence("b", 1000, map[Counter]int64{Server: 300, Unanswered: 100}, Link{Unanswered, a}),
			"92 unsampled_peer warn −8 0.250 of 400 shop/a",
		},
		{
			"unanswered, and roots in their place", evidence("b", 1000, map[Counter]int64{Server: 400, ServerRoots: 100, Unanswered: 100}, Link{Unanswered, a}),
			"90 broken_propagation warn −10 0.250 of 400 shop/a",
		},
		{
			"an entry point with few unanswered calls", evidence("b", 2000, map[Counter]int64{Server: 2000, ServerRoots: 1000, Unanswered: 10}, Link{Unanswered, a}),
			"100 ",
		},
		{"work of its own", evidence("b", 1000, map[Counter]int64{Client: 1000, ClientRoots: 1000}), "100 "},
		{
			"context lost inside", evidence("b", 2000, map[Counter]int64{Server: 1000, ServerRoots: 0, Client: 1000, ClientRoots: 400}),
			"96 broken_propagation note −4 0.400 of 1000",
		},
		{"some work of its own", evidence("b", 2000, map[Counter]int64{Server: 1000, Client: 1000, ClientRoots: 100}), "100 "},
		{
			"both wrong kinds", evidence("b", 2000, map[Counter]int64{Server: 500, Client: 400, BareCalls: 100, InternalAnswers: 500}, Link{BareCalls, a}, Link{InternalAnswers, a}),
			"82 wrong_kind warn −15 0.500 of 1000 shop/a; wrong_kind warn −3 0.100 of 1000 shop/a",
		},
		{"wrong kind without callee", evidence("b", 1000, map[Counter]int64{Internal: 500, InternalCalls: 500}), "70 wrong_kind warn −30 1.000 of 500"},
		{"no peer name", evidence("b", 1000, map[Counter]int64{Client: 100, Nobody: 20}), "96 missing_peer_name warn −4 0.200 of 100"},
		{"ahead", evidence("b", 100, map[Counter]int64{Ahead: 100}), "90 clock_skew warn −10 1.000 of 100"},
		{"old names", evidence("b", 300, map[Counter]int64{Named: 300, OldHTTP: 100, OldDB: 50, OldPeer: 150}), "90 old_conventions note −10 1.000 of 300"},
		{
			"everything", evidence("b", 1000, map[Counter]int64{
				Server: 1000, Client: 1000, UnseenParents: 500, CutParents: 300, ExtraRoots: 1000, Nobody: 1000, InternalCalls: 1000, BareCalls: 10,
				InternalAnswers: 5000, Nameless: 1000, NoInstance: 1000, Named: 1000, OldHTTP: 1000, Ahead: 1000,
			}), "0 wrong_kind warn −27 0.909 of 5500; split_traces warn −20 0.650 of 2000; missing_peer_name warn −20 1.000 of 1000; wrong_kind warn −10 0.333 of 3000; " +
				"clock_skew warn −10 1.000 of 1000; missing_service_name note −10 1.000 of 1000; missing_instance_id note −10 1.000 of 1000; old_conventions note −10 1.000 of 1000; untraced_callers warn −6 0.200 of 1000",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := examine([]Evidence{test.e})
			d := r.Services[0]
			var got []string
			for _, f := range d.Findings {
				got = append(got, strings.TrimSuffix(fmt.Sprintf("%s %s −%d %.3f of %d %s", f.Rule, f.Level, f.Points, f.Share, f.N, f.Peer.ID()), " unknown"))
				for _, text := range []string{f.Sentence, f.Effect, f.Fix} {
					if !strings.HasSuffix(text, ".") || strings.Contains(text, "%!") || strings.Count(text, "`")%2 != 0 || strings.Contains(text, "  ") {
						t.Errorf("%s: %q", f.Rule, text)
					}
				}
			}
			want, _, _ := strings.Cut(test.want, " ")
			if gotScore := strconv.Itoa(d.Score); gotScore != want {
				t.Errorf("score %s, want %s", gotScore, want)
			}
			if diff := cmp.Diff(strings.TrimPrefix(test.want, want+" "), strings.Join(got, "; ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A name that is none at all is worse than one taken from the workload.
func TestUnidentified(t *testing.T) {
	for name, want := range map[string]graph.Level{"unknown_service:java": graph.Severe, "checkout-deployment": graph.Note} {
		r := examine([]Evidence{evidence(name, 100, map[Counter]int64{Nameless: 100})})
		if got := r.Services[0].Findings[0].Level; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// The median offset decides how loud a skew is, and in which direction it is told.
func TestClockSkew(t *testing.T) {
	for _, test := range []struct {
		offset time.Duration
		level  graph.Level
		want   string
	}{
		{520 * time.Millisecond, graph.Note, "ahead of that of `shop/a`"},
		{-40 * time.Millisecond, graph.Note, "behind that of `shop/a`"},
		{90 * time.Second, graph.Warn, "ahead of that of `shop/a`"},
	} {
		e := evidence("b", 100, map[Counter]int64{Server: 100, Skewed: 100})
		for i := range 100 {
			offset := test.offset
			if i < 40 { // most, but not all, are of one opinion
				offset = -3 * test.offset
			}
			e.Note(Link{Skewed, service("a")}, Seen{N: 1, Offsets: map[int16]int64{OffsetBucket(offset): 1}})
		}
		f := examine([]Evidence{e}).Services[0].Findings[0]
		seen := e.Links[Link{Skewed, service("a")}]
		if got := seen.Offset(); got.Seconds()/test.offset.Seconds() < .95 || got.Seconds()/test.offset.Seconds() > 1.05 {
			t.Errorf("offset %s, want %s", got, test.offset)
		}
		if f.Level != test.level || !strings.Contains(f.Sentence, test.want) {
			t.Errorf("%s: %q, want %s: %q", f.Level, f.Sentence, test.level, test.want)
		}
	}
}

func TestFigures(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{about(5 * time.Millisecond), "5 ms"},
		{about(-523 * time.Millisecond), "520 ms"},
		{about(996 * time.Millisecond), "1000 ms"},
		{about(2440 * time.Millisecond), "2.4 s"},
		{about(119 * time.Second), "2 min"},
		{about(90 * time.Minute), "1.5 h"},
		{figure(1_000_000), "1000000"},
		{figure(9.97), "10"},
		{percent(1, 3), "33 %"},
		{percent(1, 30), "3.3 %"},
		{percent(1, 20), "5 %"},
		{percent(5, 3), "100 %"},
		{list([]string{"a", "b", "c"}), "a, b and c"},
		{list([]string{"a"}), "a"},
		{list(nil), ""},
	} {
		if test.got != test.want {
			t.Errorf("%q, want %q", test.got, test.want)
		}
	}
}

// Every language gets what its SDK takes, and what is set is set exactly.
func TestFixes(t *testing.T) {
	languages := []string{"", "cpp", "dotnet", "erlang", "go", "java", "nodejs", "php", "python", "ruby", "rust", "swift", "webjs"}
	for _, test := range []struct {
		language, fix, want string
	}{
		{"java", fixServiceName("java"), "`OTEL_SERVICE_NAME`"},
		{"webjs", fixServiceName("webjs"), "resourceFromAttributes"},
		{"go", fixPropagation("go", "java"), "otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator"},
		{"java", fixPropagation("go", "java"), "The caller: `OTEL_PROPAGATORS=tracecontext,baggage`"},
		{"", fixPropagation("", ""), "speak W3C trace context: `OTEL_PROPAGATORS=tracecontext,baggage`"},
		{"java", fixContext("java"), "Context.taskWrapping"},
		{"go", fixContext("go"), "`http.NewRequestWithContext(ctx, …)`"},
		{"go", fixKind("go", "CLIENT"), "`trace.WithSpanKind(trace.SpanKindClient)`"},
		{"ruby", fixKind("ruby", "SERVER"), "`tracer.in_span(…, kind: :server)`"},
		{"java", fixPeerName("java"), "OTEL_INSTRUMENTATION_COMMON_PEER_SERVICE_MAPPING"},
		{"python", fixInstanceID("python"), "`OTEL_RESOURCE_ATTRIBUTES=service.instance.id=…`"},
		{"python", fixConventions("python", []string{"http", "database"}), "`OTEL_SEMCONV_STABILITY_OPT_IN=http/dup,database/dup`"},
		{"dotnet", fixConventions("dotnet", []string{"http"}), "OpenTelemetry.Instrumentation.*"},
	} {
		if !strings.Contains(test.fix, test.want) {
			t.Errorf("%s: %q does not contain %q", test.language, test.fix, test.want)
		}
	}
	for _, l := range languages {
		fixes := []string{
			fixServiceName(l), fixPropagation(l, l), fixContext(l), fixKind(l, "CLIENT"), fixKind(l, "SERVER"), fixPeerName(l), fixInstanceID(l),
			fixConventions(l, nil), fixConventions(l, []string{"http"}),
		}
		for _, f := range fixes {
			if len(f) < 40 || strings.Count(f, "`")%2 != 0 || !strings.HasSuffix(f, ".") {
				t.Errorf("%s: %q", l, f)
			}
		}
	}
}

// some returns evidence in which everything is counted, of several services and slots.
func some(r *rand.Rand) (slots []Slot) {
	for s := range 3 {
		slot := Slot{Start: noon.Add(time.Duration(s) * SlotLength)}
		for _, name := range []string{"a", "b", "c"} {
			e := Evidence{Service: service(name), Language: "go", SDK: fmt.Sprint("1.", s), Last: slot.Start.Add(time.Second)}
			for c := range e.Counts {
				e.Counts[c] = r.Int64N(100) - 3
			}
			for range 5 {
				e.Note(Link{Skewed, service(string(rune('a' + r.IntN(3))))}, Seen{2, map[int16]int64{int16(r.IntN(9) - 4): 1, 7: 1}})
				e.Note(Link{Unanswered, service(string(rune('a' + r.IntN(3))))}, Seen{N: 1})
			}
			slot.Services = append(slot.Services, e)
		}
		slots = append(slots, slot)
	}
	return slots
}

func TestEvidenceIsKept(t *testing.T) {
	want := some(rand.New(rand.NewPCG(1, 1)))
	data, err := Encode(want...)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if again, err := Encode(got...); err != nil || !bytes.Equal(again, data) {
		t.Errorf("the same evidence gives other bytes, %v", err)
	}
	var joined []byte
	for _, s := range want {
		one, err := Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		joined = append(joined, one...)
	}
	if !bytes.Equal(joined, data) {
		t.Error("slots that were encoded one by one are not the same joined")
	}
	if none, err := Decode(nil); len(none) != 0 || err != nil {
		t.Errorf("of nothing: %v, %v", none, err)
	}
	for _, bad := range [][]byte{[]byte("x"), data[:len(data)/2], append(slices.Clone(data), 'x')} {
		if _, err := Decode(bad); err == nil {
			t.Errorf("decoded %d bytes of nonsense", len(bad))
		}
	}
	seen := map[string]bool{}
	for c := range NumCounters {
		if name := c.String(); name == "" || seen[name] {
			t.Errorf("counter %d is called %q", c, name)
		} else {
			seen[name] = true
		}
	}
}

// Evidence adds up in any order, in any slots, and what is older than the window is left out.
func TestSum(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	slots := some(r)
	now := noon.Add(20 * time.Minute)
	want := Sum(slots, now)
	split := slices.Clone(slots)
	for _, s := range slots {
		split[0].Services = append(split[0].Services, evidence("z", 0, nil)) // nothing
		for _, e := range s.Services {
			half := Evidence{Service: e.Service}
			for c, n := range e.Counts {
				half.Counts[c] = -n / 2
			}
			back := half
			for c := range back.Counts {
				back.Counts[c] = -back.Counts[c]
			}
			split = append(split, Slot{Start: s.Start, Services: []Evidence{half}}, Slot{Start: s.Start, Services: []Evidence{back}})
		}
	}
	r.Shuffle(len(split), func(i, j int) { split[i], split[j] = split[j], split[i] })
	merged := Merge(split, now)
	if len(merged) != 3 || !slices.IsSortedFunc(merged, func(a, b Slot) int { return a.Start.Compare(b.Start) }) {
		t.Errorf("%d slots", len(merged))
	}
	for _, got := range [][]Evidence{Sum(split, now), Sum(merged, now)} {
		got = slices.DeleteFunc(got, func(e Evidence) bool { return e.Service.Name == "z" })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	for late, n := range map[time.Duration]int{Window: 3, Window + time.Second: 2, Window + 2*SlotLength + 1: 0} {
		if got := len(Merge(slots, noon.Add(late))); got != n {
			t.Errorf("after %s: %d slots, want %d", late, got, n)
		}
	}
}

func TestLateness(t *testing.T) {
	for _, want := range []time.Duration{0, 100 * time.Millisecond, 700 * time.Millisecond, 3 * time.Second, 20 * time.Second, 5 * time.Minute} {
		var c Counts
		for range 99 {
			c[LateBucket(want)]++
		}
		c[LateBucket(time.Hour)] += 40
		if got := c.Lateness(); got > max(2*want, 300*time.Millisecond) || got < want/2 {
			t.Errorf("%s, want about %s", got, want)
		}
	}
	if got := LateBucket(-time.Hour); got != Late {
		t.Errorf("before its time: %s", got)
	}
	if got := new(Counts).Lateness(); got != 0 {
		t.Errorf("of nothing: %s", got)
	}
}

// The worst comes first, and those that cannot be judged last; one environment can be had alone.
func TestReport(t *testing.T) {
	staging := evidence("s", 100, map[Counter]int64{Server: 100, UnseenParents: 50})
	staging.Service.Env = "staging"
	slots := []Slot{{Start: noon, Services: []Evidence{
		evidence("good", 5000, map[Counter]int64{Server: 300, UnseenParents: 3}), evidence("few", 3, nil), evidence("bad", 100, map[Counter]int64{NoInstance: 100}), staging, evidence("better", 6000, nil),
	}}}
	r := Examine(slots, noon.Add(time.Minute))
	names := func(r Report) (list []string) {
		for _, d := range r.Services {
			list = append(list, d.Service.Name)
		}
		return list
	}
	if diff := cmp.Diff([]string{"s", "bad", "better", "good", "few"}, names(r)); diff != "" {
		t.Error(diff)
	}
	if !r.At.Equal(noon.Add(time.Minute)) || r.Served != 400 || r.Untraced != 53 || r.UntracedShare() != 53./400 {
		t.Errorf("%s, %d of %d", r.At, r.Untraced, r.Served)
	}
	if in := r.In("staging"); len(in.Services) != 1 || in.Untraced != 50 || in.Served != 100 || in.At != r.At {
		t.Errorf("%+v", in)
	}
	// What a process left when it stopped can be read as it was then.
	if long := Examine(slots, noon.Add(100*time.Hour)); !long.At.Equal(noon.Add(SlotLength)) || len(long.Services) != 5 {
		t.Errorf("%+v", long)
	}
	if none := Examine(nil, noon); !none.At.IsZero() || none.Services != nil {
		t.Errorf("%+v", none)
	}
}
