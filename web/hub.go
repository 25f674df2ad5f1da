package web

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"faultline/graph"
)

// How the live map is pushed.
const (
	pushEvery    = time.Second      // a delta each time, an empty one when nothing changed
	pingEvery    = 30 * time.Second // a client that is silent for twice as long is cut
	writeTimeout = 5 * time.Second  // of one message to one client
	byeTimeout   = time.Second      // of the last one, when the server stops
	queued       = 4                // messages that wait for a slow client before it is cut
)

// Why clients are cut or refused.
const (
	cutSlow    = "slow"
	cutMany    = "too_many"
	cutAddress = "too_many_of_address"
	cutViews   = "too_many_views"
)

var cutReasons = [...]string{cutSlow, cutMany, cutAddress, cutViews}

// hub pushes the live map to those who follow it: the same bytes to all who follow the same view, encoded once. The
// windows are read once for all views. Nobody waits for a client: one that does not read is cut.
//
// The hub's mutex guards who is there, each view's its content; nothing is read or sent under the hub's.
type hub struct {
	s        *Server
	upgrader websocket.Upgrader
	stopping chan struct{}  // closed when the server stops
	serving  sync.WaitGroup // the clients' goroutines

	mu        sync.Mutex
	stopped   bool
	views     map[viewKey]*view
	conns     map[*client]struct{}
	clients   int // admitted, connected or about to be
	addresses map[string]int
	cut       map[string]int64 // clients cut or refused, by reason
}

func newHub(s *Server) *hub {
	return &hub{
		s: s,
		upgrader: websocket.Upgrader{
			CheckOrigin:    s.ownPage,
			ReadBufferSize: 512, WriteBufferSize: 1024, WriteBufferPool: &sync.Pool{},
			EnableCompression: true, HandshakeTimeout: writeTimeout,
			Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
				problem(w, status, reason.Error())
			},
		},
		stopping: make(chan struct{}), views: map[viewKey]*view{}, conns: map[*client]struct{}{},
		addresses: map[string]int{}, cut: map[string]int64{},
	}
}

// client is one WebSocket.
type client struct {
	conn *websocket.Conn
	out  chan *websocket.PreparedMessage
	gone chan struct{} // closed when it is cut
	end  func()        // cuts it, once
}

// live serves the WebSocket at /api/v1/live. Its parameters are those of the graph, without a span of time.
func (s *Server) live(w http.ResponseWriter, r *http.Request) { s.hub.serve(w, r) }

// serve is the life of one client.
func (h *hub) serve(w http.ResponseWriter, r *http.Request) {
	if !websocket.IsWebSocketUpgrade(r) {
		w.Header().Set("Upgrade", "websocket")
		problem(w, http.StatusUpgradeRequired, "This address speaks WebSocket only.")
		return
	}
	key, ok := viewKeyOf(r)
	if !ok {
		problem(w, http.StatusUnprocessableEntity, "depth is a whole number from 0 to 64; env, service are at most 2048 bytes long.")
		return
	}
	from := address(r)
	if status, reason := h.admit(from); status != 0 {
		w.Header().Set("Retry-After", "10")
		problem(w, status, reason)
		return
	}
	defer h.leave(from)
	conn, err := h.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the upgrader has answered
	}
	gone := make(chan struct{})
	c := &client{conn: conn, out: make(chan *websocket.PreparedMessage, queued), gone: gone}
	c.end = sync.OnceFunc(func() {
		close(gone)
		_ = conn.Close()
	})
	defer c.end()
	h.mu.Lock()
	h.conns[c] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.conns, c)
		h.mu.Unlock()
	}()

	v, err := h.join(r.Context(), key, c)
	if err != nil {
		h.s.log.Warn("live map not served", slog.Any("error", err))
		c.bye(websocket.CloseTryAgainLater, "try again")
		return
	}
	defer h.part(v, c)
	var writing sync.WaitGroup
	writing.Go(func() {
		defer c.end()
		c.write(h.stopping)
	})
	defer writing.Wait()
	defer c.end()
	// What a client says is of no interest; reading is how its pongs and its end are noticed.
	conn.SetReadLimit(h.s.limits.MaxMessageBytes)
	heard := func(string) error { return conn.SetReadDeadline(time.Now().Add(2 * pingEvery)) }
	conn.SetPongHandler(heard)
	_ = heard("")
	for {
		if _, _, err := conn.NextReader(); err != nil {
			return
		}
	}
}

// write sends what is queued, and pings, until the client is cut, fails, or the server stops.
func (c *client) write(stopping <-chan struct{}) {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		select {
		case <-c.gone:
			return
		case <-stopping:
			c.bye(websocket.CloseGoingAway, "the server stops")
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

// bye says why the connection ends.
func (c *client) bye(code int, why string) {
	_ = c.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, why), time.Now().Add(byeTimeout))
}

// viewKeyOf reads a handshake's parameters.
func viewKeyOf(r *http.Request) (viewKey, bool) {
	q := r.URL.Query()
	key := viewKey{env: q.Get("env"), anyEnv: !q.Has("env"), part: Neighbourhood{Service: q.Get("service")}}
	depth := 1
	if text := q.Get("depth"); text != "" {
		var err error
		if depth, err = strconv.Atoi(text); err != nil || depth < 0 || depth > 64 {
			return key, false
		}
	}
	if key.part.Service != "" { // without one it says nothing, as in the graph
		key.part.Depth = depth
	}
	return key, len(key.env) <= 2048 && len(key.part.Service) <= 2048
}

// admit lets a client of an address in; a status that is not 0 says why not.
func (h *hub) admit(from string) (status int, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.stopped:
		return http.StatusServiceUnavailable, "The server stops."
	case h.clients >= h.s.limits.Clients:
		h.cut[cutMany]++
		return http.StatusServiceUnavailable, "Too many clients follow the map already."
	case h.addresses[from] >= h.s.limits.ClientsPerAddr:
		h.cut[cutAddress]++
		return http.StatusTooManyRequests, "Too many clients of this address follow the map already."
	}
	h.clients++
	h.addresses[from]++
	h.serving.Add(1)
	return 0, ""
}

func (h *hub) leave(from string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients--
	if h.addresses[from]--; h.addresses[from] <= 0 {
		delete(h.addresses, from)
	}
	h.serving.Done()
}

// join makes c a follower of key's view and queues the whole map for it.
func (h *hub) join(ctx context.Context, key viewKey, c *client) (*view, error) {
	h.mu.Lock()
	v := h.views[key]
	if v == nil {
		if len(h.views) >= h.s.limits.Views {
			h.cut[cutViews]++
			h.mu.Unlock()
			return nil, errTooManyViews
		}
		v = newView(key)
		h.views[key] = v
	}
	v.followers++
	h.mu.Unlock()

	if err := h.begin(ctx, v); err != nil {
		h.part(v, c)
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.clients[c] = struct{}{}
	c.out <- v.whole()
	return v, nil
}

// begin makes a new view's first state, once. It does not hold up the pushes to other views.
func (h *hub) begin(ctx context.Context, v *view) error {
	v.beginning.Lock()
	defer v.beginning.Unlock()
	if v.begun {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, h.s.limits.QueryTime)
	defer cancel()
	now := h.s.now()
	m, err := h.s.mapOf(ctx, liveAt(now), v.key.env, v.key.anyEnv)
	if err != nil {
		return err
	}
	at := h.s.places.of(&m, true)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.update(now, &m, at)
	v.begun = true
	return nil
}

// part takes c out of v, and v away with its last follower.
func (h *hub) part(v *view, c *client) {
	v.mu.Lock()
	delete(v.clients, c)
	v.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if v.followers--; v.followers == 0 {
		delete(h.views, v.key)
	}
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

// push sends every follower what changed up to now. While the map cannot be had the stream goes on, with messages that
// say nothing new and how old that is.
func (h *hub) push(now time.Time) {
	h.mu.Lock()
	views := make([]*view, 0, len(h.views))
	for _, v := range h.views {
		views = append(views, v)
	}
	h.mu.Unlock()
	if len(views) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), pushEvery)
	defer cancel()
	start := time.Now()
	sp := liveAt(now)
	windows, err := h.s.windowsOf(ctx, sp)
	if err != nil {
		h.s.log.Warn("live map not refreshed", slog.Any("error", err))
	}
	built := map[string]*graph.Map{}
	for _, v := range views {
		v.mu.Lock()
		if v.seq > 0 {
			h.send(v, h.next(ctx, v, now, windows, err, built))
		}
		v.mu.Unlock()
	}
	h.s.metrics.queries.WithLabelValues("live").Observe(time.Since(start).Seconds())
}

// next returns the view's next delta. Maps are built once for all views of an environment. The view is locked.
func (h *hub) next(ctx context.Context, v *view, now time.Time, windows []graph.Window, err error, built map[string]*graph.Map) []byte {
	if err != nil {
		return v.unchanged()
	}
	env := v.envIn(windows)
	m := built[env]
	if m == nil {
		fresh, err := h.s.buildMap(ctx, windows, liveAt(now), env)
		if err != nil {
			h.s.log.Warn("live map not refreshed", slog.Any("error", err))
			return v.unchanged()
		}
		m = &fresh
		built[env] = m
	}
	return v.update(now, m, h.s.places.of(m, true))
}

// send queues one message for every client of the view, and cuts those who have too many waiting. The view is locked.
func (h *hub) send(v *view, text []byte) {
	m := prepared(text)
	for c := range v.clients {
		select {
		case c.out <- m:
		default:
			delete(v.clients, c)
			c.end()
			h.mu.Lock()
			h.cut[cutSlow]++
			h.mu.Unlock()
		}
	}
}

// close tells every client that the server stops and waits until they are gone, a few seconds at most.
func (h *hub) close() {
	h.mu.Lock()
	if !h.stopped {
		h.stopped = true
		close(h.stopping)
	}
	for c := range h.conns {
		_ = c.conn.NetConn().SetWriteDeadline(time.Now().Add(byeTimeout))
	}
	h.mu.Unlock()
	h.serving.Wait()
}

func (h *hub) status() LiveStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	return LiveStatus{Clients: h.clients, Views: len(h.views), Cut: maps.Clone(h.cut)}
}
