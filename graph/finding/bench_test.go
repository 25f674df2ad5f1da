package finding

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"faultline/graph"
)

// BenchmarkJudge judges five minutes of 5,000 edges between 500 services: six windows gathered, every rule on every edge.
func BenchmarkJudge(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	s := &system{}
	for i := range 5000 {
		k := edgeOf(service(fmt.Sprint("s", i%500)), service(fmt.Sprint("s", (i*7+i/500)%500)))
		s.same(k, func(m *minute) {
			for range 10 {
				m.calls(60, graph.None, 10*ms+r.Int64N(100*ms))
			}
			m.calls(r.Int64N(30), graph.ServerError, 10*ms)
			for i := range 4 {
				m.detail(part(graph.Instance, graph.ServerSide, strconv.Itoa(i)), 150, r.Int64N(8), 30*ms)
				m.detail(part(graph.Instance, graph.ClientSide, strconv.Itoa(i)), 150, r.Int64N(8), 0)
			}
			m.retries(20).measure(graph.RetryGap, 20, 5, 40*ms+r.Int64N(50*ms)).measure(graph.Traces, 100, 0, 100*ms)
		})
	}
	memory := &Memory{}
	b.ReportAllocs()
	for b.Loop() {
		g := s.graph(noon, memory)
		if found := Judge(g); len(found) == 0 {
			b.Fatal("nothing found")
		}
	}
}
