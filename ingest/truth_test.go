package ingest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"faultline/graph"
	"faultline/internal/sim"
)

// arrival is a request and when it comes.
type arrival struct {
	at   time.Time
	body []byte
}

// arrive lets an Intake see requests at their times, with time passing in between, and gathers what all windows count.
func arrive(t *testing.T, arrivals []arrival) map[sim.Edge]*graph.EdgeStats {
	t.Helper()
	in, live := newIntake()
	out := map[sim.Edge]*graph.EdgeStats{}
	gather := func(now time.Time) {
		parts := live.Cut(now)
		for _, p := range parts {
			if p.Open {
				continue
			}
			for i := range p.Edges {
				e := &p.Edges[i]
				k := sim.Edge{Source: e.Edge.Source.ID(), Target: e.Edge.Target.ID(), Protocol: e.Edge.Protocol.String()}
				if out[k] == nil {
					out[k] = &graph.EdgeStats{}
				}
				out[k].Add(&e.Stats)
			}
		}
		live.Kept(parts)
	}
	now := arrivals[0].at
	for _, a := range arrivals {
		for now.Add(time.Second).Before(a.at) {
			now = now.Add(time.Second)
			in.Tick(now)
			gather(now)
		}
		feed(t, in, a.at, a.body)
	}
	in.Flush(now.Add(time.Minute))
	gather(now.Add(time.Hour))
	for k, s := range out {
		if s.Zero() {
			delete(out, k)
		}
	}
	return out
}

func compareTruth(t *testing.T, truth *sim.Truth, got map[sim.Edge]*graph.EdgeStats) {
	t.Helper()
	edges := truth.Edges()
	for _, e := range edges {
		want, g := truth.Edge(e), got[e]
		if g == nil {
			t.Errorf("%v is missing: %d calls", e, want.Calls)
			continue
		}
		retries := g.Calls - g.LogicalCalls
		if g.Calls != want.Calls || g.Errors != want.Errors || retries != want.Retries || g.LogicalErrors != want.LogicalErrors {
			t.Errorf("%v: %d calls, %d errors, %d retries, %d logical errors; want %d, %d, %d, %d", e,
				g.Calls, g.Errors, retries, g.LogicalErrors, want.Calls, want.Errors, want.Retries, want.LogicalErrors)
		}
		if g.Client.Count() != int64(len(want.Client)) || g.Server.Count() != int64(len(want.Server)) {
			t.Errorf("%v: %d client, %d server latencies; want %d, %d", e, g.Client.Count(), g.Server.Count(), len(want.Client), len(want.Server))
			continue
		}
		for _, q := range []float64{.5, .95, .99} {
			if exact := float64(want.Client.Quantile(q)); exact > 0 && math.Abs(g.Client.Quantile(q)-exact) > .022*exact {
				t.Errorf("%v: caller's p%g is %g, exactly %g", e, 100*q, g.Client.Quantile(q), exact)
			}
			if exact := float64(want.Server.Quantile(q)); exact > 0 && math.Abs(g.Server.Quantile(q)-exact) > .022*exact {
				t.Errorf("%v: callee's p%g is %g, exactly %g", e, 100*q, g.Server.Quantile(q), exact)
			}
		}
	}
	for e, s := range got {
		if truth.Edge(e) == nil {
			t.Errorf("%v is a phantom: %s", e, brief(s))
		}
	}
}

// TestShopTruth plays the demo's shop with all its faults and compares every edge with what really happened.
func TestShopTruth(t *testing.T) {
	script, period := sim.DemoScript()
	g, err := sim.NewGenerator(sim.Config{Seed: 7, Rate: 20, Script: script, Period: period, KeepTruth: true}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	var arrivals []arrival
	for b := range g.Generate(min(period, 12*time.Minute)) {
		arrivals = append(arrivals, arrival{b.At, b.Body})
	}
	compareTruth(t, g.Truth(), arrive(t, arrivals))
}

// TestLoadTruth sends the benchmark's load, in order and shuffled, sampled and not, whole and with every trace torn into
// as many requests as it has spans, and compares every edge with the load's own record.
func TestLoadTruth(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*sim.LoadConfig)
		tear   bool
	}{
		{"in order", func(*sim.LoadConfig) {}, false},
		{"shuffled", func(c *sim.LoadConfig) { c.ShuffleRequests, c.ShuffleSpans = true, true }, false},
		{"sampled", func(c *sim.LoadConfig) { c.Sampling = []string{"0", "8", "c"} }, false},
		{"torn", func(c *sim.LoadConfig) { c.Spans = 8_000 }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := sim.DefaultLoad(100)
			cfg.Spans = 40_000
			tt.change(&cfg)
			load, err := sim.NewLoad(cfg)
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(3, 3))
			var arrivals []arrival
			for i := range load.Requests() {
				at := epoch.Add(time.Duration(i) * 2 * time.Millisecond)
				body, _ := load.Next(nil, at)
				if tt.tear {
					for _, b := range tear(t, body) {
						arrivals = append(arrivals, arrival{at, b})
					}
					continue
				}
				arrivals = append(arrivals, arrival{at, body})
			}
			if tt.tear {
				r.Shuffle(len(arrivals), func(i, j int) { arrivals[i], arrivals[j] = arrivals[j], arrivals[i] })
				for i := range arrivals {
					arrivals[i].at = epoch.Add(2*time.Second + time.Duration(i)*200*time.Microsecond)
				}
			}
			compareTruth(t, load.Truth(), arrive(t, arrivals))
		})
	}
}

// tear puts every span of a request into a request of its own.
func tear(t *testing.T, body []byte) (out [][]byte) {
	req := ptraceotlp.NewExportRequest()
	if err := req.UnmarshalProto(body); err != nil {
		t.Fatal(err)
	}
	for _, rs := range req.Traces().ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				td := ptrace.NewTraces()
				one := td.ResourceSpans().AppendEmpty()
				rs.Resource().CopyTo(one.Resource())
				s.CopyTo(one.ScopeSpans().AppendEmpty().Spans().AppendEmpty())
				b, err := ptraceotlp.NewExportRequestFromTraces(td).MarshalProto()
				if err != nil {
					t.Fatal(fmt.Errorf("encode: %w", err))
				}
				out = append(out, b)
			}
		}
	}
	return out
}
