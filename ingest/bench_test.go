package ingest

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"faultline/graph"
	"faultline/internal/sim"
)

// BenchmarkConsume is the way of a span from bytes to window: decode, resolve, pair, observe, with examples held.
func BenchmarkConsume(b *testing.B) {
	for _, services := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(services, " services"), func(b *testing.B) {
			load, err := sim.NewLoad(sim.DefaultLoad(services))
			if err != nil {
				b.Fatal(err)
			}
			live := graph.NewLive(graph.DefaultLiveConfig(), 1)
			in := NewIntake(DefaultConfig(), live)
			now := time.Unix(1_800_000_000, 0)
			var body []byte
			spans, n := 0, 0
			step := func() {
				body, n = load.Next(body, now)
				if _, err := in.Consume(now, body); err != nil {
					b.Fatal(err)
				}
				spans += n
				// 200,000 spans a second.
				was := now
				now = now.Add(time.Duration(n) * 5 * time.Microsecond)
				if now.UnixNano()/250e6 != was.UnixNano()/250e6 {
					in.Tick(now)
				}
				if now.Unix() != was.Unix() {
					live.Kept(live.Cut(now))
				}
			}
			for range 2 * load.Requests() {
				step()
			}
			b.ReportAllocs()
			spans = 0
			before := cpu(b)
			b.ResetTimer()
			for range b.N {
				step()
			}
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(spans), "cpu-ns/span")
		})
	}
}

// cpu returns the CPU time of the process so far: unlike the time on the wall it says what a span costs, collection of
// garbage included, whatever else the machine does.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAnalyse is looking at whole traces: what an analysed span costs beside its way from bytes to window.
func BenchmarkAnalyse(b *testing.B) {
	load, err := sim.NewLoad(sim.DefaultLoad(100))
	if err != nil {
		b.Fatal(err)
	}
	in := NewIntake(DefaultConfig(), graph.NewLive(graph.DefaultLiveConfig(), 1))
	now := time.Unix(1_800_000_000, 0)
	var body []byte
	for range load.Requests() {
		body, _ = load.Next(body, now)
		if _, err := in.Consume(now, body); err != nil {
			b.Fatal(err)
		}
	}
	type root struct {
		s *shard
		h *half
	}
	var roots []root
	for i := range in.shards {
		s := &in.shards[i]
		for _, slot := range s.queue.slots[s.queue.head:s.queue.tail] {
			if h := s.at(slot); in.pairer.begins(s, h) {
				roots = append(roots, root{s, h})
			}
		}
	}
	a, bt := in.analysis, &in.waited
	b.ReportAllocs()
	spans, facts := 0, 0
	before := cpu(b)
	b.ResetTimer()
	for i := range b.N {
		r := roots[i%len(roots)]
		in.pairer.analyse(r.s, r.h, now.UnixNano(), a, bt)
		spans += len(a.tree.spans)
		facts += len(bt.facts)
		bt.reset()
	}
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(spans), "cpu-ns/span")
	b.ReportMetric(float64(facts)/float64(spans), "facts/span")
	b.ReportMetric(float64(spans)/float64(b.N), "spans/trace")
}
