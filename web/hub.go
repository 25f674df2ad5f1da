package web

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"faultline/graph"
)

// How the live map is pushed.
const (
	pushEvery    = time.Second      // a delta each time, an empty one if nothing changed
	pingEvery    = 30 * time.Second // and a client that does not answer within two is cut
	writeTimeout = 5 * time.Second  // of one message to one client
	queued       = 8                // messages that wait for a slow client before it is cut
)

// viewKey names what a client follows.
type viewKey struct {
	env    string
	anyEnv bool // the busiest: the same until nothing is left of it
	neighbourhood
}

// view is a map that at least one client follows: what was sent of it last, so that the next delta says what is
// different. It is owned by the hub's mutex.
type view struct {
	key     viewKey
	env     string // that is shown
	seq     int64
	at      time.Time
	envs    []string
	nodes   map[string]sent
	edges   map[string]sent
	clients map[*client]struct{}
	// full is the message for those who join before the next delta.
	full *websocket.PreparedMessage
}

// sent is an element as it was sent last. What was counted on it tells whether it changed; its rate alone does not,
// which a moving end of the span changes all the time.
type sent struct {
	mark mark
	json json.RawMessage
}

// mark is everything that an element's figures follow from.
type mark struct {
	from                                            time.Time
	calls, errors, logical, logicalErrors, raw      int64
	serverCalls, clientCount, clientSum, clientMax  int64
	serverCount, serverSum, busy, messages, missing int64
	cancelled, clientErrors                         int64
	failures                                        [graph.NumFailures]int64
	health                                          graph.Health
	instances, versions                             int
	x, y                                            float64
}

func markOf(from time.Time, s *graph.EdgeStats, health graph.Health) mark {
	return mark{
		from: from, calls: s.Calls, errors: s.Errors, logical: s.LogicalCalls, logicalErrors: s.LogicalErrors, raw: s.Raw,
		serverCalls: s.ServerCalls, clientCount: s.Client.Count(), clientSum: s.Client.Sum(), clientMax: s.Client.Max(),
		serverCount: s.Server.Count(), serverSum: s.Server.Sum(), busy: s.Busy, messages: s.Messages,
		missing: s.ServerMissing<<32 + s.ClientMissing, cancelled: s.Cancelled, clientErrors: s.ClientErrors,
		failures: s.Failures, health: health,
	}
}

// message is what a client is sent.
type message struct {
	Type    string            `json:"type"`
	Seq     int64             `json:"seq"`
	At      time.Time         `json:"at"`
	Env     string            `json:"env"`
	Envs    []string          `json:"envs"`
	Nodes   []json.RawMessage `json:"nodes"`
	Edges   []json.RawMessage `json:"edges"`
	Removed *removed          `json:"removed,omitempty"`
}

type removed struct {
	Nodes []string `json:"nodes"`
	Edges []string `json:"edges"`
}

// hub pushes the live map to those who follow it. A message is encoded once for all who follow the same. Nobody waits
// for a client: one that does not read is cut.
type hub struct {
	s        *Server
	upgrader websocket.Upgrader

	mu        sync.Mutex
	closed    bool
	views     map[viewKey]*view
	clients   int
	addresses map[string]int
	cut       map[string]int64 // clients cut, by reason
	pushes    sync.WaitGroup   // the clients' goroutines
}

func newHub(s *Server) *hub {
	return &hub{
		s: s,
		// A nil CheckOrigin compares Origin with Host.
		upgrader: websocket.Upgrader{
			ReadBufferSize: 512, WriteBufferSize: 4096, WriteBufferPool: &sync.Pool{}, EnableCompression: true,
			HandshakeTimeout: writeTimeout,
			Error: func(w http.ResponseWriter, r *http.Request, status int, reason error) {
				problem(w, status, reason.Error())
			},
		},
		views: map[viewKey]*view{}, addresses: map[string]int{}, cut: map[string]int64{},
	}
}

// client is one WebSocket.
type client struct {
	conn *websocket.Conn
	out  chan *websocket.PreparedMessage
	gone chan struct{} // closed when it is cut
	once sync.Once
}

// end closes the client's connection; its goroutines then return.
func (c *client) end() {
	c.once.Do(func() {
		close(c.gone)
		_ = c.conn.Close()
	})
}

// live serves the WebSocket at /api/v1/live.
func (s *Server) live(w http.ResponseWriter, r *http.Request) { s.hub.serve(w, r) }

// refuse answers a client that there is no room for; ok is false when it did.
func (h *hub) admit(w http.ResponseWriter, from string) (ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		problem(w, http.StatusServiceUnavailable, "The server is stopping.")
	case h.clients >= h.s.limits.Clients:
		h.cut["too_many"]++
		w.Header().Set("Retry-After", "10")
		problem(w, http.StatusServiceUnavailable, "Too many clients follow the map already.")
	case h.addresses[from] >= h.s.limits.ClientsPerAddr:
		h.cut["too_many_of_address"]++
		w.Header().Set("Retry-After", "10")
		problem(w, http.StatusTooManyRequests, "Too many clients of this address follow the map already.")
	default:
		h.clients++
		h.addresses[from]++
		h.pushes.Add(1)
		return true
	}
	return false
}

func (h *hub) leave(from string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients--
	if h.addresses[from]--; h.addresses[from] <= 0 {
		delete(h.addresses, from)
	}
	h.pushes.Done()
}

// serve is the life of one client.
func (h *hub) serve(w http.ResponseWriter, r *http.Request) {
	key, err := viewKeyOf(r)
	if err != nil {
		problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	from := address(r)
	if !h.admit(w, from) {
		return
	}
	defer h.leave(from)
	conn, err := h.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the upgrader has answered
	}
	c := &client{conn: conn, out: make(chan *websocket.PreparedMessage, queued), gone: make(chan struct{})}
	defer c.end()
	conn.SetReadLimit(h.s.limits.MaxMessageBytes)
	_ = conn.SetReadDeadline(time.Now().Add(2 * pingEvery))
	conn.SetPongHandler(func(string) error { return conn.SetReadDeadline(time.Now().Add(2 * pingEvery)) })
	v, err := h.join(r.Context(), key, c)
	if err != nil {
		_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseTryAgainLater, err.Error()), time.Now().Add(writeTimeout))
		return
	}
	defer h.part(v, c)
	h.pushes.Go(func() { defer c.end(); c.write() })
	// What a client says is of no interest, but reading is how its pongs and its end are noticed.
	for {
		if _, _, err := conn.NextReader(); err != nil {
			return
		}
	}
}

// write sends what is queued, and pings, until the client is cut or fails.
func (c *client) write() {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		select {
		case <-c.gone:
			return
		case m := <-c.out:
			_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			if c.conn.WritePreparedMessage(m) != nil {
				return
			}
		case <-ping.C:
			if c.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout)) != nil {
				return
			}
		}
	}
}

// viewKeyOf reads a handshake's parameters, which are those of the graph.
func viewKeyOf(r *http.Request) (viewKey, error) {
	q := r.URL.Query()
	key := viewKey{env: q.Get("env"), anyEnv: !q.Has("env"), neighbourhood: neighbourhood{Service: q.Get("service"), Depth: 1}}
	return key, nil
}

// join makes c a follower of key's view and queues the whole map for it.
func (h *hub) join(ctx context.Context, key viewKey, c *client) (*view, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.views[key]
	if v == nil {
		v = &view{key: key, env: key.env, nodes: map[string]sent{}, edges: map[string]sent{}, clients: map[*client]struct{}{}}
		ctx, cancel := context.WithTimeout(ctx, h.s.limits.QueryTime)
		defer cancel()
		if _, err := h.refresh(ctx, v, h.s.now()); err != nil {
			return nil, err
		}
		h.views[key] = v
	}
	if v.full == nil {
		full := message{Type: "graph", Seq: v.seq, At: v.at, Env: v.env, Envs: v.envs, Nodes: values(v.nodes), Edges: values(v.edges)}
		v.full = prepare(full)
	}
	v.clients[c] = struct{}{}
	c.out <- v.full
	return v, nil
}

// part takes c out of v, and v away with its last follower.
func (h *hub) part(v *view, c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(v.clients, c)
	if len(v.clients) == 0 && h.views[v.key] == v {
		delete(h.views, v.key)
	}
}

// values returns the elements by id.
func values(m map[string]sent) []json.RawMessage {
	ids := make([]string, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	list := make([]json.RawMessage, len(ids))
	for i, id := range ids {
		list[i] = m[id].json
	}
	return list
}

func prepare(m message) *websocket.PreparedMessage {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings and numbers only
	}
	p, err := websocket.NewPreparedMessage(websocket.TextMessage, b)
	if err != nil {
		panic(err) // it fails for unknown types of message only
	}
	return p
}

// refresh brings v up to now and returns what changed.
func (h *hub) refresh(ctx context.Context, v *view, now time.Time) (message, error) {
	sp := liveAt(now)
	m, err := h.s.mapOf(ctx, sp, v.env, v.key.anyEnv)
	if err != nil {
		return message{}, err
	}
	at := h.s.places.of(&m, true)
	g := newGraph(&m, at, v.key.neighbourhood)
	delta := message{Type: "delta", At: now, Env: m.Env, Envs: g.Envs, Nodes: []json.RawMessage{}, Edges: []json.RawMessage{}, Removed: &removed{Nodes: []string{}, Edges: []string{}}}
	nodes, edges := make(map[string]sent, len(g.Nodes)), make(map[string]sent, len(g.Edges))
	marks := make(map[string]mark, len(m.Nodes)+len(m.Edges))
	for i := range m.Nodes {
		n := &m.Nodes[i]
		k := markOf(m.From, &n.Inbound, n.Health)
		k.instances, k.versions, k.x, k.y = len(n.Instances), len(n.Versions), at[n.ID].X, at[n.ID].Y
		marks["n"+n.ID] = k
	}
	for i := range m.Edges {
		marks["e"+m.Edges[i].ID] = markOf(m.From, &m.Edges[i].Stats, m.Edges[i].Health)
	}
	for i := range g.Nodes {
		id := g.Nodes[i].ID
		k := marks["n"+id]
		if old, ok := v.nodes[id]; ok && old.mark == k {
			nodes[id] = old
			continue
		}
		b, err := json.Marshal(&g.Nodes[i])
		if err != nil {
			return message{}, err
		}
		nodes[id] = sent{k, b}
		delta.Nodes = append(delta.Nodes, b)
	}
	for i := range g.Edges {
		id := g.Edges[i].ID
		k := marks["e"+id]
		if old, ok := v.edges[id]; ok && old.mark == k {
			edges[id] = old
			continue
		}
		b, err := json.Marshal(&g.Edges[i])
		if err != nil {
			return message{}, err
		}
		edges[id] = sent{k, b}
		delta.Edges = append(delta.Edges, b)
	}
	for id := range v.nodes {
		if _, ok := nodes[id]; !ok {
			delta.Removed.Nodes = append(delta.Removed.Nodes, id)
		}
	}
	for id := range v.edges {
		if _, ok := edges[id]; !ok {
			delta.Removed.Edges = append(delta.Removed.Edges, id)
		}
	}
	slices.Sort(delta.Removed.Nodes)
	slices.Sort(delta.Removed.Edges)
	v.env, v.envs, v.at, v.nodes, v.edges, v.full = m.Env, g.Envs, now, nodes, edges, nil
	v.seq++
	delta.Seq = v.seq
	return delta, nil
}

// run pushes until done is closed.
func (h *hub) run(done <-chan struct{}) {
	tick := time.NewTicker(pushEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			h.push(h.s.now())
		}
	}
}

// push sends everyone what changed.
func (h *hub) push(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range h.views {
		ctx, cancel := context.WithTimeout(context.Background(), h.s.limits.QueryTime)
		delta, err := h.refresh(ctx, v, now)
		cancel()
		if err != nil {
			h.s.log.Warn("live map not refreshed", slog.Any("error", err))
			continue
		}
		m := prepare(delta)
		for c := range v.clients {
			select {
			case c.out <- m:
			default:
				h.cut["slow"]++
				delete(v.clients, c)
				c.end()
			}
		}
	}
}

// close cuts every client and waits until they are gone.
func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	for _, v := range h.views {
		for c := range v.clients {
			c.end()
		}
	}
	h.mu.Unlock()
	h.pushes.Wait()
}
