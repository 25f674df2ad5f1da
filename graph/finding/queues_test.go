package finding

import (
	"math"
	"strings"
	"testing"
	"time"

	"faultline/graph"
)

var (
	ordersQueue = graph.Node{Kind: graph.Queue, Name: "kafka/orders"}
	toQueue     = graph.EdgeKey{Source: service("a"), Target: ordersQueue, Protocol: graph.Messaging}
	fromQueue   = graph.EdgeKey{Source: ordersQueue, Target: service("w"), Protocol: graph.Messaging}
)

// queueSystem is a queue into which so many messages a minute come, and out of which so many are taken by each group.
func queueSystem(in, out int64, lag time.Duration, groups ...string) *system {
	s := (&system{}).same(toQueue, func(m *minute) {
		m.calls(in, graph.None, ms)
		m.Messages += in
	})
	return s.same(fromQueue, func(m *minute) {
		for _, g := range groups {
			m.detail(part(graph.Group, graph.ServerSide, g), out, 0, ms)
		}
		n := out * max(int64(len(groups)), 1)
		m.calls(n, graph.None, ms).measure(graph.Lag, n, 0, int64(lag))
		m.Messages += n
	})
}

func TestBacklog(t *testing.T) {
	memory := &Memory{}
	at := noon
	round := func(in, out int64, groups ...string) []graph.Finding {
		found := Judge(queueSystem(in, out, 20*time.Millisecond, groups...).graph(at, memory))
		memory.Learned(at)
		at = at.Add(time.Minute)
		return found
	}
	for range 3 {
		expect(t, round(1000, 1000, "workers"))
	}
	expect(t, round(1000, 970, "workers")) // three percent
	for range 5 {
		expect(t, round(1000, 800, "workers")) // not for long
	}
	for range 5 {
		expect(t, round(1000, 800, "workers"), "backlog queue:kafka/orders→w workers")
	}
	if b := memory.edge(fromQueue.ID()).Backlogs["workers"].Messages; !near(b, 2000) {
		t.Errorf("%v messages wait, want 2000", b)
	}
	found := round(1000, 1500, "workers") // it is worked off
	expect(t, found, "backlog queue:kafka/orders→w workers")
	const want = "about 1,500 messages wait; at 8.33 a second more taken out than come in they are gone in 3 min, n=5,000"
	if found[0].Sentence != want {
		t.Errorf("%q, want %q", found[0].Sentence, want)
	}
	for range 2 {
		expect(t, round(1000, 1500, "workers"), "backlog queue:kafka/orders→w workers")
	}
	expect(t, round(1000, 1500, "workers"))
	if left := memory.edge(fromQueue.ID()).Backlogs; len(left) != 0 {
		t.Errorf("left over: %+v", left)
	}
}

// Every consumer group gets every message: none of two makes up for the other.
func TestBacklogByGroup(t *testing.T) {
	memory := &Memory{}
	var found []graph.Finding
	for i := range 10 {
		at := noon.Add(time.Duration(i) * time.Minute)
		s := queueSystem(1000, 500, time.Millisecond, "slow")
		s.same(fromQueue, func(m *minute) {
			m.detail(part(graph.Group, graph.ServerSide, "quick"), 1000, 0, ms).calls(1000, graph.None, ms)
			m.Messages += 1000
		})
		found = Judge(s.graph(at, memory))
		memory.Learned(at)
	}
	expect(t, found, "backlog queue:kafka/orders→w slow")
}

func TestDrainTime(t *testing.T) {
	for _, tt := range []struct{ backlog, in, out, want float64 }{
		{1000, 10, 15, 200e9}, {0, 10, 15, 0}, {1000, 10, 10, math.Inf(1)}, {1000, 10, 5, math.Inf(1)},
	} {
		if got := DrainTime(tt.backlog, tt.in, tt.out); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
	if got := DrainTime(1, math.NaN(), 1); !math.IsNaN(got) {
		t.Errorf("%v where it is not known what comes in", got)
	}
}

func TestQueueLag(t *testing.T) {
	memory := &Memory{}
	at := noon
	round := func(lag time.Duration) []graph.Finding {
		found := Judge(queueSystem(1000, 1000, lag, "workers").graph(at, memory))
		memory.Learned(at)
		at = at.Add(time.Minute)
		return found
	}
	expect(t, round(90*time.Second), "queue_lag queue:kafka/orders→w") // long by any measure
	memory = &Memory{}
	for range 5 {
		expect(t, round(30*time.Millisecond))
	}
	expect(t, round(500*time.Millisecond)) // much more than usual, and of no importance
	expect(t, round(2*time.Second), "queue_lag queue:kafka/orders→w")
	memory = &Memory{}
	for range 5 {
		expect(t, round(20*time.Second)) // usual there
	}
}

// A lag between two clocks is said with how exact it is, where that is known.
func TestLagIsSaidWithHowExactItIs(t *testing.T) {
	for _, known := range []bool{false, true} {
		s := queueSystem(1000, 1000, 90*time.Second, "workers")
		if known {
			s.same(fromQueue, func(m *minute) { m.measure(graph.LagWithin, 40, 0, int64(30*time.Millisecond)) })
		}
		found := Judge(s.graph(noon, &Memory{}))
		expect(t, found, "queue_lag queue:kafka/orders→w")
		if len(found) == 1 && strings.Contains(found[0].Sentence, "±30") != known {
			t.Errorf("known: %v, said: %s", known, found[0].Sentence)
		}
		for _, e := range s.graph(noon, &Memory{}).Edges {
			if e.Key == fromQueue {
				if q := QueueOf(&e.Sum, 1000, 0); math.IsNaN(q.Within) == known || known && math.Abs(q.Within/30e6-1) > 0.03 {
					t.Errorf("known: %v, within %v", known, q.Within)
				}
			}
		}
	}
}

func TestQueue(t *testing.T) {
	g := queueSystem(600, 540, 2*time.Second, "workers").graph(noon, &Memory{})
	for _, e := range g.Edges {
		if e.Key != fromQueue {
			continue
		}
		q := QueueOf(&e.Sum, 10, 300)
		if q.Out != 9 || !near(q.Growth, .1) || !math.IsInf(q.Drain, 1) || len(q.Groups) != 1 || q.Groups[0].Calls != 2700 || q.N != 2700 || math.Abs(q.Lag95-2e9) > 4e7 {
			t.Errorf("%+v", q)
		}
	}
}

func TestDeadLetters(t *testing.T) {
	for name, want := range map[string]bool{
		"kafka/orders.DLT": true, "sqs/orders-dlq": true, "rabbitmq/dead-letter": true, "x/dead.letters": true, "x/DeadLetter": true, "kafka/orders": false, "kafka/orders.DLT@MkU3": true, "kafka/orders@MkdLQ7": false, "kafka/orders.DLT.retry": false,
	} {
		k := graph.EdgeKey{Source: service("w"), Target: graph.Node{Kind: graph.Queue, Name: name}, Protocol: graph.Messaging}
		found := (&system{}).same(k, func(m *minute) { m.calls(2, graph.None, ms) }).judge()
		if (len(found) == 1 && found[0].Rule == "dead_letters") != want {
			t.Errorf("%s: %q", name, names(found))
		}
	}
	// Or the consumer sends them there itself.
	taken := func(gone int64) []graph.Finding {
		return (&system{}).same(fromQueue, func(m *minute) { m.calls(100, graph.None, ms).measure(graph.GivenUp, gone, 0, ms) }).judge()
	}
	expect(t, taken(2), "dead_letters queue:kafka/orders→w")
	expect(t, taken(0))
}
