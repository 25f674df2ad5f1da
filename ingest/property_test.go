package ingest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"faultline/graph"
	"faultline/internal/sketch"
)

// invention makes traces in which everything goes wrong that can, at random.
type invention struct {
	r     *rand.Rand
	spans []tspan
	trace byte
	id    byte
	sent  [][2]byte // messages to consume
}

func (v *invention) add(s tspan) byte {
	v.id++
	s.trace, s.id = v.trace, v.id
	v.spans = append(v.spans, s)
	return v.id
}

func (v *invention) pick(attrs ...map[string]any) map[string]any { return attrs[v.r.IntN(len(attrs))] }

func (v *invention) chance(percent int) bool { return v.r.IntN(100) < percent }

// call makes a call of b by what parent does, with as many attempts as it takes, and returns when it is over.
func (v *invention) call(parent byte, at int) int {
	attempts := 1 + v.r.IntN(4)
	attrs := v.pick(get, postB, with(getB, "server.address", "api.example.com"))
	external := attrs["server.address"] != "b"
	end := at
	for i := range attempts {
		ms := 5 + v.r.IntN(60)
		mine := maps.Clone(attrs)
		last := i == attempts-1
		if !last {
			delete(mine, "http.response.status_code")
			switch v.r.IntN(6) {
			case 0:
				mine["error.type"] = "timeout"
			case 1:
				mine["error.type"] = "ECONNRESET"
			case 2:
				mine["error.type"] = "AbortError"
			case 3:
				mine["http.response.status_code"], mine["http.response.header.retry-after"] = 429, []string{"1"}
			case 4:
				mine["http.response.status_code"] = v.pick(map[string]any{"s": 302}, map[string]any{"s": 401}, map[string]any{"s": 503})["s"]
			case 5:
				mine["error.type"] = "CircuitBreakerError"
			}
		}
		if i > 0 && v.chance(50) {
			mine["http.request.resend_count"] = i
		}
		id := v.add(tspan{service: "a", parent: parent, kind: kindClient, at: end, ms: ms, attrs: mine, failed: mine["error.type"] != nil, us: v.r.IntN(2) * 900})
		skew := []int{0, 0, 0, -400, 300}[v.r.IntN(5)]
		for range []int{0, 1, 1, 1, 2}[v.r.IntN(5)] {
			if external {
				break
			}
			answer := v.pick(serve, serve, fail5, with(serve, "http.request.header.x-envoy-attempt-count", "2"))
			version := v.pick(nil, nil, map[string]any{"service.version": "2.0"}, map[string]any{"service.version": ""})
			v.add(tspan{service: "b", parent: id, kind: kindServer, at: end + skew + 1 + v.r.IntN(10), ms: v.r.IntN(120), attrs: answer, resource: version})
		}
		switch {
		case v.chance(15): // a hedge
			end += ms / 2
		default:
			end += ms + v.r.IntN(30)
		}
	}
	return end
}

// messages sends a message, and consumes some of those that were sent.
func (v *invention) messages(parent byte, at int) int {
	attrs := v.pick(sendOrder, with(sendOrder, "messaging.batch.message_count", 3))
	id := v.add(tspan{service: "a", parent: parent, kind: kindProducer, at: at, ms: 5, attrs: attrs})
	v.sent = append(v.sent, [2]byte{v.trace, id})
	for range v.r.IntN(3) {
		begin := at - 20 + v.r.IntN(200)
		attrs := v.pick(takeOrder, with(takeOrder, "messaging.consumer.group.name", "g"), nil, with(takeOrder, "messaging.servicebus.message.delivery_count", 2))
		v.add(tspan{service: "b", parent: id, kind: kindConsumer, at: begin, ms: v.r.IntN(30), attrs: attrs, failed: v.chance(30)})
	}
	return at + 5
}

// own makes calls that gRPC tells of by itself, or that only their callee tells of.
func (v *invention) own(parent byte, at int) int {
	if v.chance(50) {
		for i := range 1 + v.r.IntN(3) {
			attrs := rpc(14*v.r.IntN(2), "rpc.request.metadata.grpc-previous-rpc-attempts", strconv.Itoa(i))
			v.add(tspan{service: "b", parent: 200, kind: kindServer, at: at + 20*i, ms: 10, attrs: attrs, flags: 0x300})
		}
		return at + 60
	}
	sent := v.add(tspan{service: "a", parent: parent, kind: kindClient, at: at, ms: 90, name: "Sent.S/M"})
	for i := range 1 + v.r.IntN(3) {
		attempt := v.add(tspan{
			service: "a", parent: sent, kind: kindInternal, at: at + 30*i, ms: 20, name: "Attempt.S/M", failed: v.chance(60),
			attrs: map[string]any{"previous-rpc-attempts": i, "transparent-retry": v.chance(20)},
		})
		if v.chance(70) {
			v.add(tspan{service: "b", parent: attempt, kind: kindServer, at: at + 30*i + 5, ms: 10, name: "Recv.S/M", failed: v.chance(50)})
		}
	}
	return at + 90
}

// invent makes so many traces.
func invent(r *rand.Rand, traces int) []tspan {
	v := &invention{r: r}
	for t := range traces {
		v.trace, v.id = byte(t), 0
		at := r.IntN(20_000)
		root := v.add(tspan{service: "a", kind: kindServer, at: at, ms: 50 + r.IntN(400), attrs: serve})
		for range 1 + r.IntN(4) {
			switch r.IntN(5) {
			case 0:
				at = v.messages(root, at)
			case 1:
				at = v.own(root, at)
			default:
				at = v.call(root, at)
			}
		}
	}
	for len(v.sent) > 1 { // and batches of them, in traces of their own
		n := min(1+r.IntN(4), len(v.sent))
		traces++
		v.trace, v.id = byte(traces), 0
		v.add(tspan{service: "c", kind: kindConsumer, at: r.IntN(20_000), ms: 10, links: v.sent[:n], attrs: v.pick(takeOrder, nil)})
		v.sent = v.sent[max(1, n-1):]
	}
	return v.spans
}

// everything writes all that windows and details hold, smallest and largest values left out: those do not take back.
func everything(live *graph.Live) []string {
	var out []string
	values := func(s *sketch.Sketch) string {
		var b bytes.Buffer
		fmt.Fprintf(&b, "%d %d", s.Count(), s.Sum())
		s.Buckets(func(lower, _ float64, n int64) { fmt.Fprintf(&b, " %g:%d", lower, n) })
		return b.String()
	}
	for _, fine := range []bool{false, true} {
		windows, _ := live.Windows(time.Unix(0, 0), epoch.Add(24*time.Hour), fine)
		for i := range windows {
			w := &windows[i]
			at := w.Start.Unix() - epoch.Unix()
			for i := range w.Edges {
				e := &w.Edges[i]
				s := e.Stats
				if s.Zero() {
					continue
				}
				client, server := values(&s.Client), values(&s.Server)
				s.Client, s.Server = sketch.Sketch{}, sketch.Sketch{}
				out = append(out, fmt.Sprintf("%d %v: %+v, client %s, server %s", at, e.Edge, s, client, server))
			}
			for i := range w.Details {
				d := &w.Details[i]
				if d.Detail.Calls == 0 && d.Detail.Raw == 0 && d.Detail.Latency.Count() == 0 {
					continue
				}
				out = append(out, fmt.Sprintf("%d %v %v: %d %d %d %d, %s", at, d.Edge, d.Key, d.Detail.Calls, d.Detail.Errors,
					d.Detail.Raw, d.Detail.RawErrors, values(&d.Detail.Latency)))
			}
		}
	}
	slices.Sort(out)
	return out
}

// merge puts the spans of some requests into one.
func merge(t *testing.T, bodies [][]byte) []byte {
	all := ptraceotlp.NewExportRequest()
	for _, b := range bodies {
		one := ptraceotlp.NewExportRequest()
		if err := one.UnmarshalProto(b); err != nil {
			t.Fatal(err)
		}
		one.Traces().ResourceSpans().MoveAndAppendTo(all.Traces().ResourceSpans())
	}
	b, err := all.MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Random traces with all of it in them, in any order, in requests of any size, sent twice here and there, as late as the
// wait allows, give the same sums, details and facts to the last bucket.
func TestRandomTracesGiveTheSameFacts(t *testing.T) {
	seeds := uint64(20)
	if testing.Short() {
		seeds = 2
	}
	seen := map[string]bool{}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 9))
		bodies := each(t, invent(r, 40)...)
		in, live := newIntake()
		feed(t, in, epoch.Add(30*time.Second), merge(t, bodies))
		wait(in, epoch.Add(30*time.Second), epoch.Add(45*time.Second))
		want := everything(live)
		for k := range details(live, graph.Measured, graph.Group, graph.Caused, graph.VersionPair, graph.Producer) {
			seen[k] = true
		}
		for range 6 {
			r.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
			in, live := newIntake()
			now := epoch.Add(30 * time.Second)
			for i := 0; i < len(bodies); {
				n := min(1+r.IntN(60), len(bodies)-i)
				body := merge(t, bodies[i:i+n])
				feed(t, in, now, body)
				if r.IntN(4) == 0 {
					feed(t, in, now, body)
				}
				if k := r.IntN(len(bodies)); r.IntN(4) == 0 && k < i {
					feed(t, in, now, bodies[k])
				}
				i += n
				now = now.Add(time.Duration(r.IntN(9000*n/len(bodies)+1)) * time.Millisecond)
				in.Tick(now)
			}
			wait(in, now, now.Add(25*time.Second))
			if diff := cmp.Diff(want, everything(live)); diff != "" {
				t.Fatalf("seed %d: %s", seed, diff)
			}
		}
	}
	for _, callee := range []string{"", "1.0", "2.0"} {
		if pair := "a → b: version_pair " + graph.PairName("1.0", callee); !seen[pair] {
			t.Errorf("no trace shows %q", pair)
		}
	}
	for m := graph.RetryGap; m <= graph.SkewBehind; m++ {
		if m == graph.ProxyOut || m == graph.Network || m == graph.ProxyIn {
			continue
		}
		if !slices.ContainsFunc(slices.Collect(maps.Keys(seen)), func(k string) bool { return k[len(k)-len(m.String()):] == m.String() }) {
			t.Errorf("no trace shows %s", m)
		}
	}
}
