package ingest

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"faultline/graph"
)

func TestWeights(t *testing.T) {
	const most, least = "ffffffffffffff", "00000000000001"
	for _, c := range []struct {
		name      string
		state     string
		flags     uint32
		tag       tag
		want      float64
		malformed bool
	}{
		{"th:0", "ot=th:0", 0, nil, 1, false},
		{"th:8", "ot=th:8", 0, nil, 2, false},
		{"th:4", "ot=th:4", 0, nil, 1.333333, false},
		{"th:c", "ot=th:c", 0, nil, 4, false},
		{"th:08", "ot=th:08", 0, nil, 1.032258, false},
		{"th:e66666666666", "ot=th:e66666666666", 0, nil, 10, false},
		{"th:fd70a3d70a3d71", "ot=th:fd70a3d70a3d71", 0, nil, 100, false},
		{"among other vendors' entries", "vendor=x:1;y:2, ot=th:c;rv:" + most + " ,z=1", 0, nil, 4, false},
		{"a threshold before the older form, whatever the order", "ot=p:3;th:c", 0, nil, 4, false},
		{"a threshold before attributes", "ot=th:c", 0, tag{"sampling.probability": 0.5}, 4, false},
		{"rv below the threshold", "ot=th:c;rv:" + least, 0, nil, 1, true},
		{"a random trace id below the threshold", "ot=th:c", flagRandom, nil, 1, true},
		{"an rv beside a random trace id", "ot=th:c;rv:" + most, flagRandom, nil, 4, false},
		{"too many digits", "ot=th:0123456789abcde", 0, nil, 1, true},
		{"upper case", "ot=th:C", 0, nil, 1, true},
		{"empty", "ot=th:", 0, nil, 1, true},
		{"malformed, but attributes", "ot=th:zz", 0, tag{"SampleRate": 7}, 7, true},
		{"another's entry alone", "vendor=th:zz", 0, nil, 1, false},
		{"p:0", "ot=p:0;r:10", 0, nil, 1, false},
		{"p:3", "ot=p:3;r:10", 0, nil, 8, false},
		{"p:62 is bounded", "ot=p:62", 0, nil, maxWeight, false},
		{"p:63 never counts", "ot=p:63", 0, nil, 0, false},
		{"p:64 is ignored", "ot=p:64", 0, nil, 1, false},
		{"probability", "", 0, tag{"sampling.probability": 0.25}, 4, false},
		{"probability, text", "", 0, tag{"sampling.probability": "0.25"}, 4, false},
		{"probability, integer", "", 0, tag{"sampling.probability": 1}, 1, false},
		{"probability, zero", "", 0, tag{"sampling.probability": 0, "SampleRate": 3}, 3, false},
		{"SampleRate", "", 0, tag{"SampleRate": 20}, 20, false},
		{"sample_rate, real", "", 0, tag{"sample_rate": 20.0}, 20, false},
		{"sampleRate, text", "", 0, tag{"sampleRate": "20"}, 20, false},
		{"sampleRate, not a number", "", 0, tag{"sampleRate": "often"}, 1, false},
		{"Jaeger", "", 0, tag{"sampler.type": "probabilistic", "sampler.param": 0.1}, 10, false},
		{"Jaeger, text", "", 0, tag{"sampler.type": "probabilistic", "sampler.param": "0.1"}, 10, false},
		{"Jaeger, rate limit", "", 0, tag{"sampler.type": "ratelimiting", "sampler.param": 0.1}, 1, false},
		{"nothing", "", 0, nil, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := sampling(decoded(t, kindServer, c.tag, func(sp ptrace.Span) {
				sp.SetTraceID([16]byte{1, 15: 1})
				sp.TraceState().FromRaw(c.state)
				sp.SetFlags(c.flags)
			}))
			if math.Abs(got.weight-c.want) > 1e-4*c.want || got.malformed != c.malformed {
				t.Errorf("weight %g, malformed %v; want %g, %v", got.weight, got.malformed, c.want, c.malformed)
			}
		})
	}
}

// Weights that are no whole numbers are right on average, and the same every time.
func TestFractionsAreRightOnAverage(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	sum, n := 0.0, 100_000
	for range n {
		id := r.Uint64()
		w := whole(4.0/3, id)
		if w != whole(4.0/3, id) {
			t.Fatal("another weight for the same span")
		}
		sum += float64(w)
	}
	if mean := sum / float64(n); math.Abs(mean-4.0/3) > 0.01 {
		t.Errorf("mean weight %g, want %g", mean, 4.0/3)
	}
}

// consistent are calls of a to b whose randomness is spread evenly, each side's span kept if its sampler keeps it.
func consistent(t *testing.T, n int, client, server string) [][]byte {
	t.Helper()
	var out [][]byte
	for i := range n {
		hi, lo := bits.Mul64(uint64(i), 1<<56)
		randomness, _ := bits.Div64(hi, lo, uint64(n))
		randomness++
		for _, side := range []struct {
			service   string
			threshold string
			id        byte
			kind      ptrace.SpanKind
			attrs     tag
		}{{"a", client, 1, kindClient, get}, {"b", server, 2, kindServer, serve}} {
			if limit, _ := hex56([]byte(side.threshold), true); randomness < limit {
				continue
			}
			td := ptrace.NewTraces()
			rs := td.ResourceSpans().AppendEmpty()
			rs.Resource().Attributes().PutStr("service.name", side.service)
			sp := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
			var id pcommon.TraceID
			binary.BigEndian.PutUint64(id[8:], randomness)
			id[0] = 1
			sp.SetTraceID(id)
			sp.SetSpanID([8]byte{7: side.id})
			sp.SetFlags(flagRandom)
			if side.id == 2 {
				sp.SetParentSpanID([8]byte{7: 1})
			}
			sp.SetKind(side.kind)
			sp.TraceState().FromRaw("ot=th:" + side.threshold)
			sp.SetStartTimestamp(pcommon.NewTimestampFromTime(epoch))
			sp.SetEndTimestamp(pcommon.NewTimestampFromTime(epoch.Add(10 * time.Millisecond)))
			putAttributes(sp.Attributes(), side.attrs)
			b, err := ptraceotlp.NewExportRequestFromTraces(td).MarshalProto()
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, b)
		}
	}
	return out
}

// 480 calls, of which the caller keeps a half and the callee a quarter, read 480, and nobody's half is missing: those of
// the callee were sampled out.
func TestConsistentSampling(t *testing.T) {
	for _, c := range []struct {
		client, server string
		raw            int64
	}{{"8", "c", 240}, {"c", "8", 120}, {"0", "c", 480}, {"8", "8", 240}} {
		t.Run(c.client+" and "+c.server, func(t *testing.T) {
			in, live := newIntake()
			bodies := consistent(t, 480, c.client, c.server)
			r := rand.New(rand.NewPCG(3, 4))
			r.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
			feed(t, in, epoch.Add(time.Second), bodies...)
			in.Tick(epoch.Add(12 * time.Second))
			got := sums(live)
			e := got["a → b http"]
			if e == nil {
				t.Fatalf("no edge: %v", briefs(live))
			}
			// Where the caller keeps less, some of the callee's spans have no parent: they are calls of nobody who is known.
			unknown := int64(0)
			if u := got["unknown → b http"]; u != nil && c.client > c.server {
				unknown = u.Calls
			}
			if e.Calls != 480 || e.Raw != c.raw || e.ServerCalls+unknown != 480 || e.Client.Count() != 480 || e.Server.Count() != e.ServerCalls || e.ServerMissing != 0 {
				t.Errorf("%d calls of %d seen, %d and %d served, %d and %d latencies, %d without the callee's half; want 480 of %d, 480 served, 480 latencies, 0",
					e.Calls, e.Raw, e.ServerCalls, unknown, e.Client.Count(), e.Server.Count(), e.ServerMissing, c.raw)
			}
			if len(got) > 1 && unknown == 0 {
				t.Errorf("edges %v", briefs(live))
			}
		})
	}
}

// Errors of sampled calls keep the number of those that were seen: 40 spans that stand for four each, two of them failed.
func TestSampledErrors(t *testing.T) {
	in, live := newIntake()
	for i := range 40 {
		feed(t, in, epoch.Add(time.Second), each(t, tspan{
			service: "a", trace: byte(i), id: 1, kind: kindClient, ms: 5, failed: i < 2, state: "ot=th:c", attrs: tag{"db.system.name": "redis"},
		})...)
	}
	e := sums(live)["a → db:redis db"]
	if e.Calls != 160 || e.Errors != 8 || e.Raw != 40 || e.RawErrors != 2 {
		t.Errorf("%d calls, %d errors of %d and %d seen; want 160, 8 of 40, 2", e.Calls, e.Errors, e.Raw, e.RawErrors)
	}
	if low, high := graph.Wilson(e.RawErrors, e.Raw, 1.96); math.Abs(low-.0138) > 1e-4 || math.Abs(high-.1650) > 1e-4 {
		t.Errorf("interval %.4f to %.4f, want .0138 to .1650", low, high)
	}
}

// What the first span says of its trace holds for the others, whatever came first.
func TestJaegerSaysItOnce(t *testing.T) {
	spans := []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 100, attrs: with(serve, "sampler.type", "probabilistic", "sampler.param", 0.1)},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindInternal, at: 1, ms: 98},
		{service: "a", trace: 1, id: 3, parent: 2, kind: kindClient, at: 2, ms: 90, attrs: get},
		{service: "b", trace: 1, id: 4, parent: 3, kind: kindServer, at: 10, ms: 70, attrs: serve},
		{service: "b", trace: 1, id: 5, parent: 4, kind: kindClient, at: 20, ms: 5, attrs: tag{"db.system.name": "redis"}},
	}
	want := []string{
		"a → b http: calls 10, client 10×90ms, server 10×70ms", "b → db:redis db: calls 10, client 10×5ms", "user → a http: calls 10, server 10×100ms",
	}
	r := rand.New(rand.NewPCG(7, 7))
	bodies := each(t, spans...)
	for range 60 {
		in, live := newIntake()
		feed(t, in, epoch.Add(time.Second), bodies...)
		in.Tick(epoch.Add(12 * time.Second))
		if diff := cmp.Diff(want, briefs(live)); diff != "" {
			t.Fatal(diff)
		}
		r.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
	}
}

func TestMalformedThresholdsAreCounted(t *testing.T) {
	in, live := newIntake()
	for i, state := range []string{"ot=th:zz", "ot=th:c;rv:00000000000001", "ot=th:c", "ot=p:63"} {
		feed(t, in, epoch.Add(time.Second), each(t, tspan{
			service: fmt.Sprint("a", i), trace: byte(i), id: 1, kind: kindClient, ms: 5, state: state, attrs: tag{"db.system.name": "redis"},
		})...)
	}
	want := []string{"a0 → db:redis db: calls 1, client 1×5ms", "a1 → db:redis db: calls 1, client 1×5ms", "a2 → db:redis db: calls 4, client 4×5ms"}
	got := briefs(live)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]int64{"malformed_threshold": 2, "zero_weight": 1}, dropped(in)); diff != "" {
		t.Error(diff)
	}
}
