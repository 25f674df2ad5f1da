package finding

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"faultline/graph"
)

// Queue is how an edge to or from a queue does. Times are in nanoseconds, rates in messages per second.
type Queue struct {
	Lag50, Lag95, Lag99 float64 // how long messages waited, of an edge from the queue
	Within              float64 // by how much they may be off where two clocks tell them, at the median; NaN where that is not known
	N                   int64   // of the lags, unweighted
	In, Out             float64 // into the queue, by all producers; out of it, on this edge
	Growth              float64 // (in − out)/in
	Backlog             float64 // estimated, in messages
	Drain               float64 // how long the backlog lasts at the present rates; infinite while it grows
	TurnedDown, GivenUp int64   // messages that their consumer gave back, and those that it sent to the dead letters
	Groups              []Group
}

// Group is a consumer group of a queue.
type Group struct {
	Name          string
	Calls, Errors int64
	P50, P95      float64 // of its values, ns
	N             int64
}

// QueueOf returns how an edge from a queue does into which in messages a second come from all producers, NaN where that
// is not known, and in which an estimated backlog waits.
func QueueOf(s *Sum, in, backlog float64) Queue {
	lag := s.measure(graph.Lag)
	q := Queue{
		Lag50: lag.Latency.Quantile(.5), Lag95: lag.Latency.Quantile(.95), Lag99: lag.Latency.Quantile(.99), Within: exactness(s), N: lag.Raw,
		In: in, Out: over(float64(max(s.Stats.Messages, 0)), s.Length.Seconds()), Growth: math.NaN(), Backlog: backlog, Drain: math.NaN(),
		TurnedDown: s.measure(graph.TurnedDown).Calls, GivenUp: s.measure(graph.GivenUp).Calls,
	}
	if in > 0 {
		q.Growth = (in - q.Out) / in
	}
	q.Drain = DrainTime(backlog, q.In, q.Out)
	s.of(graph.Group, graph.ServerSide, func(name string, d *graph.Detail) {
		q.Groups = append(q.Groups, Group{name, d.Calls, d.Errors, d.Latency.Quantile(.5), d.Latency.Quantile(.95), d.Raw})
	})
	slices.SortFunc(q.Groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), strings.Compare(a.Name, b.Name))
	})
	return q
}

// exactness returns by how much lags may be off, at the median, NaN where nothing is known of the clocks.
func exactness(s *Sum) float64 {
	d := s.measure(graph.LagWithin)
	if d.Raw <= 0 {
		return math.NaN()
	}
	return d.Latency.Quantile(.5)
}

// DrainTime returns how many nanoseconds a backlog lasts at rates in and out per second: infinite where it does not
// shrink, NaN where it is not known.
func DrainTime(backlog, in, out float64) float64 {
	switch {
	case math.IsNaN(backlog), math.IsNaN(in), math.IsNaN(out):
		return math.NaN()
	case backlog <= 0:
		return 0
	case out <= in:
		return math.Inf(1)
	}
	return backlog / (out - in) * 1e9
}

// What the rules about queues ask for.
const (
	lagMessages  = 20   // messages before their lag is judged
	lagLong      = 60e9 // ns at p95 that are long whatever is usual
	lagSome      = 1e9  // ns at p95 that are worth a word
	lagFactor    = 5    // over what is usual
	lagKnown     = 120  // seconds of messages before something is usual
	growth       = 0.05 // of what comes in
	growsFor     = 5 * time.Minute
	drainedAfter = 30 * time.Minute // without growth an episode is over
)

// lagging finds messages that wait for long.
func lagging(e *Edge) []graph.Finding {
	d, recent := e.measure(graph.Lag), e.Recent.measure(graph.Lag)
	if d.Raw < lagMessages || recent.Raw < 1 {
		return nil
	}
	long, usual := float64(lagLong), ""
	if l := e.Learned; l.LagAge >= lagKnown {
		long = min(long, max(lagFactor*math.Exp2(l.Lag), lagSome))
		usual = ", usually " + span(math.Exp2(l.Lag))
	}
	p95 := d.Latency.Quantile(.95)
	if p95 < long || recent.Latency.Quantile(.95) < long {
		return nil
	}
	exact := ""
	if within := exactness(&e.Sum); !math.IsNaN(within) {
		exact = ", ±" + span(within) + " by their clocks"
	}
	return e.found("queue_lag", graph.Warn, p95/1e6, d.Raw, "messages wait %s at p95, %s at the median%s%s, n=%s",
		span(p95), span(d.Latency.Quantile(.5)), exact, usual, count(d.Raw))
}

var deadLetter = regexp.MustCompile(`(?i)dlq|dead[-_.]?letter|\.DLT$`)

// deadLetters finds messages that nobody could process.
func deadLetters(e *Edge) []graph.Finding {
	if d, recent := e.measure(graph.GivenUp), e.Recent.measure(graph.GivenUp); d.Raw >= fewest && recent.Raw >= 1 {
		return e.found("dead_letters", graph.Warn, float64(d.Calls), d.Raw, "%s sent %s messages to the dead letters, n=%s", e.Key.Target.ID(), count(d.Calls), count(d.Raw))
	}
	to := e.Key.Target
	if to.Kind != graph.Queue || !deadLetter.MatchString(withoutCluster(to.Name)) || e.Stats.Raw < fewest || e.Recent.Stats.Raw < 1 {
		return nil
	}
	n := max(e.Stats.Messages, e.Stats.Calls)
	return e.found("dead_letters", graph.Warn, float64(n), e.Stats.Raw, "%s messages were given up and went to %s, n=%s", count(n), to.Name, count(e.Stats.Raw))
}

// withoutCluster returns the name of a queue without its cluster, whose id may have any letters.
func withoutCluster(name string) string {
	if i := strings.LastIndexByte(name, '@'); i >= 0 {
		return name[:i]
	}
	return name
}

// consumers are those who take messages from a queue in one group, which is "" for all who name none.
type consumers struct {
	group       string
	edge        *Edge // the busiest
	out, recent float64
}

// backlogs finds queues into which more comes than their consumers take out.
func backlogs(g *Graph) []graph.Finding {
	var found []graph.Finding
	for _, queue := range g.queues() {
		in, recent, raw := g.into(queue)
		for _, c := range g.consumersOf(queue) {
			found = append(found, g.backlog(c, in, recent, raw)...)
		}
	}
	return found
}

// queues returns the queues that are consumed, in order.
func (g *Graph) queues() []graph.Node {
	var queues []graph.Node
	for n := range g.out {
		if n.Kind == graph.Queue && len(g.in[n]) > 0 {
			queues = append(queues, n)
		}
	}
	slices.SortFunc(queues, func(a, b graph.Node) int { return strings.Compare(a.Name, b.Name) })
	return queues
}

// into returns the messages a second that come into a queue, recently as well, and how many were seen, unweighted.
func (g *Graph) into(queue graph.Node) (in, recent float64, raw int64) {
	for _, e := range g.in[queue] {
		in += float64(e.Stats.Messages) / e.Length.Seconds()
		recent += float64(e.Recent.Stats.Messages) / e.Recent.Length.Seconds()
		raw += e.Stats.Raw
	}
	return in, recent, raw
}

// consumersOf returns who takes messages from a queue, by group.
func (g *Graph) consumersOf(queue graph.Node) []*consumers {
	groups := map[string]*consumers{}
	add := func(name string, e *Edge, part, recent float64) {
		c := groups[name]
		if c == nil {
			c = &consumers{group: name, edge: e}
			groups[name] = c
		}
		if e.Stats.Messages > c.edge.Stats.Messages {
			c.edge = e
		}
		c.out += part * float64(e.Stats.Messages) / e.Length.Seconds()
		c.recent += recent * float64(e.Recent.Stats.Messages) / e.Recent.Length.Seconds()
	}
	for _, e := range g.out[queue] {
		all, recent := e.groups(), e.Recent.groups()
		for name, part := range all {
			add(name, e, part, recent[name])
		}
		if len(all) == 0 {
			add("", e, 1, 1)
		}
	}
	list := slices.Collect(maps.Values(groups))
	slices.SortFunc(list, func(a, b *consumers) int { return strings.Compare(a.group, b.group) })
	return list
}

// groups returns each consumer group's share of an edge.
func (s *Sum) groups() map[string]float64 {
	shares, all := map[string]float64{}, 0.
	s.of(graph.Group, graph.ServerSide, func(name string, d *graph.Detail) {
		shares[name] = float64(d.Calls)
		all += float64(d.Calls)
	})
	for name := range shares {
		shares[name] /= all
	}
	return shares
}

// backlog follows what waits for a group of consumers, and finds it when it has grown for long enough.
func (g *Graph) backlog(c *consumers, in, recentIn float64, raw int64) []graph.Finding {
	e := c.edge
	l := e.Learned
	b := l.Backlogs[c.group]
	growing := recentIn > 0 && grows(in, c.out, e.Length) && grows(recentIn, c.recent, e.Recent.Length)
	if b == nil && !growing {
		return nil
	}
	if b == nil {
		b = &Backlog{Since: g.To}
		if l.Backlogs == nil {
			l.Backlogs = map[string]*Backlog{}
		}
		l.Backlogs[c.group] = b
	}
	b.Messages = max(b.Messages+(recentIn-c.recent)*g.memory.step(g.To).Seconds(), 0)
	b.Drain = 0
	if growing {
		b.Grown = g.To
	} else if drain := DrainTime(b.Messages, recentIn, c.recent); !math.IsInf(drain, 1) {
		b.Drain = drain
	}
	if !growing && (b.Messages < 1 || g.To.Sub(b.Grown) > drainedAfter) {
		delete(l.Backlogs, c.group)
		return nil
	}
	if b.Grown.Sub(b.Since) < growsFor || raw < fewest {
		return nil
	}
	by := (in - c.out) / in
	say := fmt.Sprintf("%s messages a second come in and %s are taken out: about %s wait since %s", figure(in), figure(c.out), figure(b.Messages), b.Since.UTC().Format("15:04"))
	if b.Drain > 0 {
		say = fmt.Sprintf("about %s messages wait; at %s a second more taken out than come in they are gone in %s",
			figure(b.Messages), figure(c.recent-recentIn), span(b.Drain))
	}
	f := e.found("backlog", graph.Warn, by, raw, "%s, n=%s", say, count(raw))
	f[0].Subject = c.group
	return f
}

// grows reports whether clearly more comes in than is taken out, at rates that were seen for so long.
func grows(in, out float64, over time.Duration) bool {
	s := over.Seconds()
	return in-out > growth*in && (in-out)*s > 3*math.Sqrt((in+out)*s)
}
