package finding

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"faultline/graph"
)

// fewest is how many events it takes before anything is said of them.
const fewest = 3

// Edge is one edge as it is judged.
type Edge struct {
	Key     graph.EdgeKey
	ID      string
	Sum             // of the minutes that are judged
	Recent  Sum     // of the last of them: what is wrong must still show in it
	Learned *Memoir // what was learned of the edge before; never nil

	to     time.Time     // when it is judged
	minute attempts      // of the last minute, as finely as windows are
	age    time.Duration // since the first of the calls that are judged, by window
	steps  []step        // the recent windows of calls that everybody has sent their spans of, the latest first
	// versions are the callee's, by the start of the minute, of those minutes.
	versions map[time.Time]map[string]*graph.Detail
	settled  Sum // the parts' details of minutes that everybody has sent their spans of
}

// Graph is one environment as it is judged.
type Graph struct {
	To        time.Time
	Edges     []*Edge // by id
	Processes map[graph.Node][]graph.NodeRow

	in, out map[graph.Node][]*Edge
	memory  *Memory
}

const (
	// recentSpan is how far back the minutes begin in which what is wrong must still show.
	recentSpan = 2 * graph.DetailLength
	// latestCalls is how many recent calls say better how bad it is now than all that are judged do.
	latestCalls = 100
	// slidingSpan is the minute in which the retry budget is judged.
	slidingSpan = time.Minute
	// settles is how long after a minute its spans have come. Each process sends its spans when it does: until then some
	// instances are seen up to a later time than others, which looks like a difference between them.
	settles = 15 * time.Second
)

// RecentFrom returns when the recent windows begin of what is judged at a time: less than two minutes before.
func RecentFrom(to time.Time) time.Time {
	return to.Add(-time.Nanosecond).Truncate(graph.DetailLength).Add(graph.DetailLength - recentSpan)
}

// slidingFrom returns when the windows of the last minute begin: six of them, the present one among them. It lies within
// what is recent.
func slidingFrom(to time.Time) time.Time {
	return to.Add(-time.Nanosecond).Truncate(graph.WindowLength).Add(graph.WindowLength - slidingSpan)
}

// Dimensions are those of the details that are judged. Of the most numerous, operations, nothing is said.
var Dimensions = []graph.Dimension{
	graph.Instance, graph.Version, graph.Measured, graph.Caused, graph.Group, graph.Entry, graph.VersionPair, graph.EntryDepth,
	graph.PairTurnedDown, graph.EntryFailed,
}

// onlyShown are the measures of which nothing is said either, by their names: most edges have them, and as finely as
// latencies.
var onlyShown = namesOf(graph.Gap, graph.Critical, graph.CriticalEdge, graph.CriticalSelf)

func namesOf(measures ...graph.Measure) map[string]bool {
	names := map[string]bool{}
	for _, m := range measures {
		names[m.String()] = true
	}
	return names
}

// Gathering adds windows up to graphs, of every environment: a few at a time, so that not all of them need to be in memory
// at once. It is not safe for concurrent use.
type Gathering struct {
	from, to, recent time.Time
	memory           *Memory
	edges            map[graph.EdgeKey]*Edge
	last             *Edge // that was added to
	processes        map[graph.Node][]graph.NodeRow
}

// Gather begins to gather the windows that together cover [from, to), which lie within a minute each. Those from
// RecentFrom on are recent: the shorter they are, the sooner it shows that something is over.
func Gather(from, to time.Time, memory *Memory) *Gathering {
	recent := RecentFrom(to)
	if recent.Before(from) {
		recent = from
	}
	return &Gathering{
		from: from, to: to, recent: recent, memory: memory,
		edges: map[graph.EdgeKey]*Edge{}, processes: map[graph.Node][]graph.NodeRow{},
	}
}

// edge returns an edge, a new one where it is not known.
func (g *Gathering) edge(k graph.EdgeKey) *Edge {
	if g.last != nil && g.last.Key == k { // the details of an edge mostly follow each other
		return g.last
	}
	e := g.edges[k]
	if e == nil {
		e = &Edge{Key: k, ID: k.ID(), to: g.to}
		e.Sum = Sum{Details: map[graph.DetailKey]*graph.Detail{}, Length: g.to.Sub(g.from)}
		e.Recent = Sum{Details: map[graph.DetailKey]*graph.Detail{}, Length: g.to.Sub(g.recent)}
		e.settled = Sum{Details: map[graph.DetailKey]*graph.Detail{}}
		g.edges[k] = e
	}
	g.last = e
	return e
}

// Add adds windows, in any order, and returns g. Details of other dimensions than Dimensions are passed over. Pointers
// into the edges of recent windows are kept.
func (g *Gathering) Add(windows ...graph.Window) *Gathering {
	sliding := slidingFrom(g.to)
	for i := range windows {
		w := &windows[i]
		late := !w.Start.Before(g.recent)
		settled := !w.Start.Add(w.Length + settles).After(g.to)
		for j := range w.Edges {
			row := &w.Edges[j]
			if row.Edge.Protocol == graph.Linked {
				continue // whose spans only link to each other do not call each other
			}
			e := g.edge(row.Edge)
			e.age = max(e.age, g.to.Sub(w.Start))
			e.addStats(&row.Stats, late)
			if !w.Start.Before(sliding) {
				e.minute.add(&row.Stats)
			}
			if late && settled {
				e.steps = append(e.steps, step{w.Start, w.Start.Add(w.Length), &row.Stats})
			}
		}
		for j := range w.Details {
			row := &w.Details[j]
			if !slices.Contains(Dimensions, row.Key.Dimension) || row.Key.Dimension == graph.Measured && onlyShown[row.Key.Name] {
				continue
			}
			e := g.edge(row.Edge)
			e.addDetail(row, late)
			if settled && (row.Key.Dimension == graph.Instance || row.Key.Dimension == graph.Version) {
				e.settled.Add(row)
			}
			if settled && row.Key.Dimension == graph.Version && row.Key.Side == graph.ServerSide {
				e.addVersion(w.Start, row)
			}
		}
		for j := range w.Nodes {
			node := w.Nodes[j].Node.Identity()
			g.processes[node] = append(g.processes[node], w.Nodes[j])
		}
	}
	return g
}

// Envs returns the environments that have calls, in order.
func (g *Gathering) Envs() []string {
	envs := map[string]bool{}
	for _, e := range g.edges {
		if e.age > 0 {
			envs[e.Key.Env()] = true
		}
	}
	return slices.Sorted(maps.Keys(envs))
}

// Graph returns the graph of an environment once everything is added. It shares its memory, and that of memory.
func (g *Gathering) Graph(env string) *Graph {
	out := &Graph{
		To: g.to, Processes: map[graph.Node][]graph.NodeRow{}, in: map[graph.Node][]*Edge{}, out: map[graph.Node][]*Edge{}, memory: g.memory,
	}
	for node, rows := range g.processes {
		if node.Env == env {
			out.Processes[node] = rows
		}
	}
	for k, e := range g.edges {
		if k.Env() != env {
			continue
		}
		e.Learned = g.memory.edge(e.ID)
		slices.SortStableFunc(e.steps, func(a, b step) int { return b.start.Compare(a.start) })
		out.Edges = append(out.Edges, e)
		out.in[k.Target] = append(out.in[k.Target], e)
		out.out[k.Source] = append(out.out[k.Source], e)
	}
	byID := func(a, b *Edge) int { return strings.Compare(a.ID, b.ID) }
	slices.SortFunc(out.Edges, byID)
	for _, lists := range []map[graph.Node][]*Edge{out.in, out.out} {
		for _, list := range lists {
			slices.SortFunc(list, byID)
		}
	}
	return out
}

func (e *Edge) addStats(s *graph.EdgeStats, recent bool) {
	e.Stats.Add(s)
	if recent {
		e.Recent.Stats.Add(s)
	}
}

func (e *Edge) addDetail(row *graph.DetailRow, recent bool) {
	e.Add(row)
	if recent {
		e.Recent.Add(row)
	}
}

func (e *Edge) addVersion(start time.Time, row *graph.DetailRow) {
	if e.versions == nil {
		e.versions = map[time.Time]map[string]*graph.Detail{}
	}
	of := e.versions[start]
	if of == nil {
		of = map[string]*graph.Detail{}
		e.versions[start] = of
	}
	if of[row.Key.Name] == nil {
		of[row.Key.Name] = &graph.Detail{}
	}
	of[row.Key.Name].Add(&row.Detail)
}

// Add adds a detail of the edge.
func (s *Sum) Add(row *graph.DetailRow) {
	d := s.Details[row.Key]
	if d == nil {
		d = &graph.Detail{}
		s.Details[row.Key] = d
	}
	d.Add(&row.Detail)
}

// The rules, by what they look at.
var (
	edgeRules = []func(*Edge) []graph.Finding{
		hedged, redelivered, failing, wastedWork, lagging, deadLetters, repeated, deep,
	}
	// retryRules are about what callers do after a call failed: where calls failed and do not any more, it is over.
	retryRules = []func(*Edge) []graph.Finding{
		retryBudgetSpent, retriesDoNotHelp, noBackOff, noJitterSeen, pushbackIgnored, unsafeRetries, nestedRetries,
	}
	graphRules = []func(*Graph) []graph.Finding{noTimeout, givesUpFirst, saturation, brokenContracts, badParts, backlogs, deploys}
)

// Judge returns what goes wrong in a graph, in the order of its edges, and has memory learn from it.
// Since and Until of the findings are not set.
func Judge(g *Graph) []graph.Finding {
	var found []graph.Finding
	for _, e := range g.Edges {
		for _, rule := range edgeRules {
			found = append(found, rule(e)...)
		}
		if e.recovered() {
			continue
		}
		for _, rule := range retryRules {
			found = append(found, rule(e)...)
		}
	}
	for _, rule := range graphRules {
		found = append(found, rule(g)...)
	}
	g.onPaths(found)
	g.passOn(found)
	g.memory.learn(g)
	g.memory.note(found, g.To)
	slices.SortStableFunc(found, func(a, b graph.Finding) int {
		return cmp.Or(strings.Compare(a.Rule, b.Rule), strings.Compare(a.Edge.ID(), b.Edge.ID()), strings.Compare(a.Node.ID(), b.Node.ID()),
			strings.Compare(a.Subject, b.Subject))
	})
	return found
}

// byKey returns the edges by what they are.
func (g *Graph) byKey() map[graph.EdgeKey]*Edge {
	edges := make(map[graph.EdgeKey]*Edge, len(g.Edges))
	for _, e := range g.Edges {
		edges[e.Key] = e
	}
	return edges
}

// found makes the finding of a rule on an edge.
func (e *Edge) found(rule string, level graph.Level, value float64, n int64, format string, args ...any) []graph.Finding {
	return []graph.Finding{{Rule: rule, Edge: e.Key, Level: level, Value: value, N: n, Sentence: fmt.Sprintf(format, args...)}}
}

// async reports whether callers do not wait for the edge.
func (e *Edge) async() bool { return e.Key.Protocol == graph.Messaging }

// entering reports whether whoever calls is not seen.
func (e *Edge) entering() bool { return e.Key.Source.Outside() }

// lasts reports whether k events among n, the recent ones, may still come at least at a rate: not all has been well for
// so long that they hardly can.
func lasts(k, n int64, rate float64) bool {
	_, upper := graph.Wilson(k, max(n, k), z95)
	return k > 0 && upper >= rate
}

const z95 = 1.96
