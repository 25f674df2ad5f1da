package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"faultline/graph"
	"faultline/web/layout"
)

var errTooManyViews = errors.New("too many different maps are followed")

// viewKey names what a client follows.
type viewKey struct {
	env    string
	anyEnv bool // the busiest when the first client came, for as long as there is anything in it
	part   Neighbourhood
}

// view is a map that at least one client follows, as it was sent last, so that the next delta says what is different.
type view struct {
	key       viewKey
	followers int // guarded by the hub's mutex

	beginning sync.Mutex
	begun     bool // guarded by beginning

	mu      sync.Mutex
	seq     int64 // of the last message; 0 before the first
	at      time.Time
	env     string
	envs    []string
	nodes   elements
	edges   elements
	links   elements
	clients map[*client]struct{}
	full    *websocket.PreparedMessage // for those who join before the next delta, nil until somebody does
}

func newView(key viewKey) *view { return &view{key: key, clients: map[*client]struct{}{}} }

// envIn returns the environment that the view shows next.
func (v *view) envIn(windows []graph.Window) string {
	if !v.key.anyEnv {
		return v.key.env
	}
	if v.seq > 0 && hasEnv(windows, v.env) {
		return v.env
	}
	env, _ := busiest(windows, "")
	return env
}

func hasEnv(windows []graph.Window, env string) bool {
	return slices.ContainsFunc(windows, func(w graph.Window) bool {
		return slices.ContainsFunc(w.Edges, func(row graph.EdgeRow) bool { return row.Edge.Env() == env }) ||
			slices.ContainsFunc(w.Nodes, func(row graph.NodeRow) bool { return row.Node.Env == env })
	})
}

// update takes in the map as it is now and returns the delta to it. The view is locked.
func (v *view) update(now time.Time, m *graph.Map, at map[string]layout.Position) []byte {
	which, edges := v.key.part.within(m)
	d := delta{}
	newNodes, newEdges := make(elements, len(which)), make(elements, len(edges))
	for _, i := range which {
		n := &m.Nodes[i]
		d.nodes = v.nodes.carry(newNodes, n.ID, nodeMark(m, n, at[n.ID]), d.nodes, func() any { return placedNode(m, i, at) })
	}
	for _, i := range edges {
		e := &m.Edges[i]
		d.edges = v.edges.carry(newEdges, e.ID, edgeMark(m, e), d.edges, func() any { return newEdge(e) })
	}
	links := linksWithin(m, which)
	newLinks := make(elements, len(links))
	for _, l := range links {
		d.links = v.links.carry(newLinks, l.ID, linkMark(l), d.links, func() any { return newLink(l) })
	}
	d.removed = Removed{nonNil(v.nodes.without(newNodes)), nonNil(v.edges.without(newEdges)), nonNil(v.links.without(newLinks))}
	v.nodes, v.edges, v.links, v.env, v.envs, v.at, v.full = newNodes, newEdges, newLinks, m.Env, m.Envs, now.UTC(), nil
	v.seq++
	return v.message("delta", &d.changed, &d.removed)
}

// unchanged returns a delta that says nothing new. Its time is that of the map as it stands. The view is locked.
func (v *view) unchanged() []byte {
	v.seq++
	v.full = nil
	return v.message("delta", &changed{}, &Removed{[]string{}, []string{}, []string{}})
}

// whole returns the message for a new client: everything, under the number of the last message. The view is locked.
func (v *view) whole() *websocket.PreparedMessage {
	if v.full == nil {
		v.full = prepared(v.message("graph", &changed{v.nodes.all(), v.edges.all(), v.links.all()}, nil))
	}
	return v.full
}

// delta is what is different.
type delta struct {
	changed
	removed Removed
}

// changed are elements, already encoded.
type changed struct{ nodes, edges, links []json.RawMessage }

// message writes a message about the view as it stands. Elements are in their order.
func (v *view) message(kind string, c *changed, gone *Removed) []byte {
	size := 256
	for _, list := range [][]json.RawMessage{c.nodes, c.edges, c.links} {
		for _, e := range list {
			size += len(e) + 1
		}
	}
	b := make([]byte, 0, size)
	head := encode(struct {
		Type string    `json:"type"`
		Seq  int64     `json:"seq"`
		At   time.Time `json:"at"`
		Env  string    `json:"env"`
		Envs []string  `json:"envs"`
	}{kind, v.seq, v.at, v.env, nonNil(v.envs)})
	b = append(b, head[:len(head)-1]...)
	b = appendList(append(b, `,"nodes":`...), c.nodes)
	b = appendList(append(b, `,"edges":`...), c.edges)
	b = appendList(append(b, `,"links":`...), c.links)
	if gone != nil {
		b = append(append(b, `,"removed":`...), encode(gone)...)
	}
	return append(b, '}')
}

// encode returns a value of this package as JSON. They are made of texts, finite numbers and times of this century,
// so that it cannot fail.
func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func appendList(b []byte, list []json.RawMessage) []byte {
	b = append(b, '[')
	for i, e := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, e...)
	}
	return append(b, ']')
}

func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// prepared makes one message for many clients: framed once, compressed at most once.
func prepared(text []byte) *websocket.PreparedMessage {
	m, err := websocket.NewPreparedMessage(websocket.TextMessage, text)
	if err != nil {
		panic(err) // it fails for unknown types of message only
	}
	return m
}

// elements are nodes, edges or links by id, as they were sent.
type elements map[string]element

type element struct {
	mark mark
	json json.RawMessage
}

// mark is everything that an element's figures follow from. Two rates over the same counts differ only in where the
// span ends, which moves all the time: that is not worth a message, until the span's start moves, every ten seconds.
type mark struct {
	from                            time.Time
	stats                           counts
	health                          graph.Health
	instances                       int
	versions                        string
	x, y                            float64
	clientSum, clientMax, serverSum int64
	clientCount, serverCount        int64
	findings                        uint64
	criticality                     graph.Criticality
	biased                          bool
}

// counts are the plain numbers of an EdgeStats.
type counts struct {
	calls, errors, logicalCalls, logicalErrors, hedges, clientErrors, cancelled, raw, rawErrors int64
	serverCalls, serverErrors, serverMissing, clientMissing, messages, busy                     int64
	failures                                                                                    [graph.NumFailures]int64
}

func markOf(m *graph.Map, s *graph.EdgeStats, health graph.Health) mark {
	return mark{
		from: m.From, health: health,
		stats: counts{
			s.Calls, s.Errors, s.LogicalCalls, s.LogicalErrors, s.Hedges, s.ClientErrors, s.Cancelled, s.Raw, s.RawErrors,
			s.ServerCalls, s.ServerErrors, s.ServerMissing, s.ClientMissing, s.Messages, s.Busy, s.Failures,
		},
		clientSum: s.Client.Sum(), clientMax: s.Client.Max(), clientCount: s.Client.Count(),
		serverSum: s.Server.Sum(), serverCount: s.Server.Count(),
	}
}

func edgeMark(m *graph.Map, e *graph.MapEdge) mark {
	k := markOf(m, &e.Stats, e.Health)
	k.findings, k.criticality, k.biased = findingsMark(e.Findings), e.Criticality, e.Biased
	return k
}

func linkMark(l *graph.MapLink) mark { return mark{stats: counts{messages: l.Spans, raw: l.Raw}} }

// findingsMark tells findings apart by what is shown of them.
func findingsMark(findings []*graph.Finding) uint64 {
	if len(findings) == 0 {
		return 0
	}
	h := fnv.New64a()
	var text []byte
	for _, f := range findings {
		text = fmt.Appendf(text[:0], "%s\x00%s\x00%d\x00%d\x00%d\x00%s\x00", f.Rule, f.Subject, f.Level, f.Since.UnixNano(), f.Until.UnixNano(), f.Sentence)
		_, _ = h.Write(text)
	}
	return h.Sum64()
}

func nodeMark(m *graph.Map, n *graph.MapNode, at layout.Position) mark {
	k := markOf(m, &n.Inbound, n.Health)
	k.findings, k.criticality, k.biased = findingsMark(n.Findings), n.Criticality, n.Biased
	k.instances, k.versions, k.x, k.y = len(n.Instances), strings.Join(n.Versions, "\x00"), at.X, at.Y
	return k
}

// carry puts the element id into next: as it was sent when nothing changed, or else encoded anew and appended to changed.
func (old elements) carry(next elements, id string, k mark, changed []json.RawMessage, value func() any) []json.RawMessage {
	if e, ok := old[id]; ok && e.mark == k {
		next[id] = e
		return changed
	}
	b := encode(value())
	next[id] = element{k, b}
	return append(changed, b)
}

// without returns the ids that are not in next, sorted.
func (old elements) without(next elements) []string {
	var gone []string
	for id := range old {
		if _, ok := next[id]; !ok {
			gone = append(gone, id)
		}
	}
	slices.Sort(gone)
	return gone
}

// all returns the encoded elements by id.
func (old elements) all() []json.RawMessage {
	list := make([]json.RawMessage, 0, len(old))
	for _, id := range slices.Sorted(maps.Keys(old)) {
		list = append(list, old[id].json)
	}
	return list
}
