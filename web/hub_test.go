package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"faultline/graph"
	"faultline/storage"
)

// received is a message as a client reads it.
type received struct {
	Type    string
	Seq     int64
	At      time.Time
	Env     string
	Envs    []string
	Nodes   []Node
	Edges   []Edge
	Links   []Link
	Removed *struct{ Nodes, Edges, Links []string }
}

// clock is a clock that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}

// serve lets a server listen and stops it after the test.
func serve(t testing.TB, s *Server) (address string) {
	t.Helper()
	h := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		s.Stop()
		h.Close()
	})
	return strings.TrimPrefix(h.URL, "http://")
}

func dial(t testing.TB, address, query string) *websocket.Conn {
	t.Helper()
	conn, answer, err := websocket.DefaultDialer.Dial("ws://"+address+"/api/v1/live"+query, http.Header{"Origin": {"http://" + address}})
	if err != nil {
		t.Fatalf("dial: %v (%+v)", err, answer)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func read(t testing.TB, conn *websocket.Conn) received {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	_, b, err := conn.ReadMessage()
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	described := json.NewDecoder(bytes.NewReader(b))
	described.DisallowUnknownFields()
	if err := described.Decode(new(LiveMessage)); err != nil {
		t.Errorf("the API's description lacks something: %v", err)
	}
	var m received
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, b)
	}
	return m
}

func edgeIDs(edges []Edge) map[string]int64 {
	ids := map[string]int64{}
	for _, e := range edges {
		ids[e.Source+" → "+e.Target] = e.Calls
	}
	return ids
}

// TestLive follows the map through everything that can happen to it.
func TestLive(t *testing.T) {
	store := newStore(t)
	now := &clock{now: testNow}
	window := floor(testNow, graph.WindowLength)
	calls := func(k graph.EdgeKey, n int64) graph.EdgeRow {
		return graph.EdgeRow{Edge: k, Stats: callStats(n, 0, 0, time.Millisecond, 0, true, true)}
	}
	store.add(graph.Window{Start: window, Length: graph.WindowLength, Edges: []graph.EdgeRow{calls(frontCheckout, 3), calls(checkoutOrders, 2), calls(stagedOrders, 1)}})
	s := newServer(t, store, func(s *Settings) { s.Now = now.time })
	conn := dial(t, serve(t, s), "")

	m := read(t, conn)
	if m.Type != "graph" || m.Seq != 1 || m.Env != "prod" || !m.At.Equal(testNow) || m.Removed != nil {
		t.Errorf("first message: %+v", m)
	}
	if diff := cmp.Diff([]string{"prod", "staging"}, m.Envs); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]int64{"shop/front → shop/checkout": 3, "shop/checkout → db:postgresql/orders@db1": 2}, edgeIDs(m.Edges)); diff != "" {
		t.Error(diff)
	}
	if len(m.Nodes) != 3 || m.Nodes[0].X == nil {
		t.Errorf("nodes: %+v", m.Nodes)
	}

	// Nothing happened: a heartbeat.
	s.hub.push(now.advance(time.Second))
	m = read(t, conn)
	if m.Type != "delta" || m.Seq != 2 || len(m.Nodes)+len(m.Edges)+len(m.Removed.Nodes)+len(m.Removed.Edges) != 0 || !m.At.Equal(now.time()) {
		t.Errorf("heartbeat: %+v", m)
	}

	// More calls on one edge: that edge and its target, and nothing else.
	store.add(graph.Window{Start: window, Length: graph.WindowLength, Edges: []graph.EdgeRow{calls(frontCheckout, 4)}})
	s.hub.push(now.advance(time.Second))
	m = read(t, conn)
	if diff := cmp.Diff(map[string]int64{"shop/front → shop/checkout": 7}, edgeIDs(m.Edges)); diff != "" || len(m.Nodes) != 1 || m.Nodes[0].ID != "shop/checkout" {
		t.Errorf("changed edge: %s %+v", diff, m.Nodes)
	}

	// Spans link to another service's: the link, and no edge; then nothing, because it stays as it is; more, and gone below.
	linked := graph.EdgeKey{Source: front.Identity(), Target: checkout, Protocol: graph.Linked}
	for _, spans := range []int64{2, 0, 3} {
		store.add(graph.Window{Start: window, Length: graph.WindowLength, Edges: []graph.EdgeRow{{Edge: linked, Stats: graph.EdgeStats{Messages: spans, Raw: spans}}}})
		s.hub.push(now.advance(time.Millisecond))
		m = read(t, conn)
		want := map[int64][]Link{
			2: {{ID: linked.ID(), Source: "shop/front", Target: "shop/checkout", Spans: 2, N: 2}},
			3: {{ID: linked.ID(), Source: "shop/front", Target: "shop/checkout", Spans: 5, N: 5}},
		}[spans]
		if diff := cmp.Diff(append([]Link{}, want...), m.Links); diff != "" || len(m.Edges)+len(m.Nodes)+len(m.Removed.Links) != 0 {
			t.Errorf("with %d spans that link: %s, %d edges, %d nodes", spans, diff, len(m.Edges), len(m.Nodes))
		}
	}

	// Something is found on an edge whose calls stay the same, in the same window: that edge again, as bad as it is loud.
	at := now.time()
	if err := store.Write(t.Context(), storage.Batch{Findings: []graph.Finding{
		{Rule: "refused", Edge: checkoutOrders, Level: graph.Severe, Since: at, Until: at, Sentence: "nobody listens"},
	}}); err != nil {
		t.Fatal(err)
	}
	s.found.answers = nil // a second passed
	s.hub.push(now.advance(time.Millisecond))
	m = read(t, conn)
	if len(m.Edges) != 1 || m.Edges[0].Health != "critical" || len(m.Edges[0].Findings) != 1 || m.Edges[0].Findings[0].Rule != "refused" || len(m.Nodes) != 1 {
		t.Errorf("with a finding: %+v, %+v", m.Edges, m.Nodes)
	}

	// The store fails: the stream goes on and says how old the map is.
	last := now.time()
	store.fail(errors.New("disk on fire"))
	s.hub.push(now.advance(time.Second))
	m = read(t, conn)
	if m.Seq != 8 || !m.At.Equal(last) || len(m.Edges) != 0 {
		t.Errorf("while the store fails: %+v", m)
	}
	store.fail(nil)

	// A minute later there is another edge, and the old ones are gone.
	later := now.advance(65 * time.Second)
	store.add(graph.Window{Start: floor(later, graph.WindowLength), Length: graph.WindowLength, Edges: []graph.EdgeRow{calls(checkoutPayment, 1), calls(stagedOrders, 50)}})
	s.hub.push(later)
	m = read(t, conn)
	if diff := cmp.Diff(map[string]int64{"shop/checkout → shop/payment": 1}, edgeIDs(m.Edges)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"db:postgresql/orders@db1", "shop/front"}, m.Removed.Nodes); diff != "" {
		t.Error(diff)
	}
	if len(m.Removed.Edges) != 2 || !slices.Equal(m.Removed.Links, []string{linked.ID()}) || m.Env != "prod" {
		t.Errorf("removed: %+v, environment %s", m.Removed, m.Env)
	}

	// Who comes now gets the whole map under the number of the last message, and the same messages from then on.
	second := dial(t, s.address(t, conn), "")
	m = read(t, second)
	if m.Type != "graph" || m.Seq != 9 || len(m.Edges) != 1 {
		t.Errorf("second client: %+v", m)
	}
	s.hub.push(now.advance(time.Second))
	if a, b := read(t, conn), read(t, second); a.Seq != 10 || b.Seq != 10 {
		t.Errorf("after that: %d and %d", a.Seq, b.Seq)
	}
}

// address returns where a connection goes to.
func (s *Server) address(t *testing.T, conn *websocket.Conn) string {
	t.Helper()
	return conn.RemoteAddr().String()
}

// TestLiveParts asks for a neighbourhood and an environment.
func TestLiveParts(t *testing.T) {
	s := newServer(t, shopStore(t))
	at := serve(t, s)
	m := read(t, dial(t, at, "?env=staging"))
	if m.Env != "staging" || len(m.Edges) != 1 {
		t.Errorf("staging: %+v", m)
	}
	m = read(t, dial(t, at, "?service=shop/payment"))
	if diff := cmp.Diff(map[string]int64{"shop/checkout → shop/payment": 280, "shop/payment → ext:bank.example": 7}, edgeIDs(m.Edges)); diff != "" {
		t.Error(diff)
	}
	if st := s.hub.status(); st.Clients != 2 || st.Views != 2 {
		t.Errorf("status: %+v", st)
	}
	for _, query := range []string{"?service=x&depth=-1", "?service=x&depth=65", "?service=x&depth=one", "?depth=one", "?env=" + strings.Repeat("e", 3000)} {
		answer, body := ask(t, s, "/api/v1/live"+query, "Connection", "upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		wantProblem(t, answer, body, http.StatusUnprocessableEntity)
	}
}

// TestLiveStarted lets the server push by itself.
func TestLiveStarted(t *testing.T) {
	s := newServer(t, shopStore(t), func(s *Settings) { s.Now = nil })
	s.Start()
	at := serve(t, s)
	conn := dial(t, at, "")
	start := time.Now()
	for seq := int64(1); seq <= 2; seq++ {
		if m := read(t, conn); m.Seq != seq {
			t.Fatalf("message %d: %+v", seq, m)
		}
	}
	if took := time.Since(start); took > 10*pushEvery {
		t.Errorf("a delta took %s", took)
	}
	s.Stop()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			if !websocket.IsCloseError(err, websocket.CloseGoingAway) {
				t.Errorf("at the end: %v", err)
			}
			break
		}
	}
	s.Stop()
	if st := s.hub.status(); st.Clients != 0 || st.Views != 0 {
		t.Errorf("after Stop: %+v", st)
	}
	if _, answer, err := websocket.DefaultDialer.Dial("ws://"+at+"/api/v1/live", nil); err == nil || answer.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("after Stop: %v %v", answer, err)
	}
}

// TestLiveMany has many browsers follow one map, all of whom get every message.
func TestLiveMany(t *testing.T) {
	clients, pushes := 1000, 5
	if raced || testing.Short() {
		clients = 100
	}
	now := &clock{now: testNow}
	s := newServer(t, shopStore(t), func(s *Settings) { s.Now, s.Limits.ClientsPerAddr = now.time, clients })
	at := serve(t, s)
	// A push follows when all have the one before, as it would after a second, whatever else keeps the processors busy.
	read := make([]sync.WaitGroup, pushes+1)
	for i := range read {
		read[i].Add(clients)
	}
	failures := make(chan error, clients)
	for i := range clients {
		go func() {
			failures <- func() error {
				next := 0
				defer func() {
					for ; next <= pushes; next++ {
						read[next].Done()
					}
				}()
				conn, _, err := websocket.DefaultDialer.Dial("ws://"+at+"/api/v1/live", nil)
				if err != nil {
					return err
				}
				defer conn.Close()
				for next <= pushes {
					_ = conn.SetReadDeadline(time.Now().Add(60 * time.Second))
					var m received
					if err := conn.ReadJSON(&m); err != nil || m.Seq != int64(next+1) {
						return fmt.Errorf("client %d: message %d, want %d: %w", i, m.Seq, next+1, err)
					}
					read[next].Done()
					next++
				}
				return nil
			}()
		}()
	}
	for i := range read {
		read[i].Wait()
		if i < pushes {
			s.hub.push(now.advance(10 * time.Second))
		}
	}
	for range clients {
		if err := <-failures; err != nil {
			t.Fatal(err)
		}
	}
	if cut := s.hub.status().Cut; len(cut) != 0 {
		t.Errorf("cut: %v", cut)
	}
}

// TestLiveSlow has one browser that never reads: it is cut, and nobody else notices.
func TestLiveSlow(t *testing.T) {
	now := &clock{now: testNow}
	big := newStore(t)
	rows := make([]graph.EdgeRow, 300)
	for i := range rows {
		n := graph.Node{Env: "prod", Kind: graph.Service, Name: fmt.Sprintf("service-%03d-%s", i, strings.Repeat("x", 4000))}
		rows[i] = graph.EdgeRow{Edge: graph.EdgeKey{Source: front, Target: n, Protocol: graph.HTTP}, Stats: callStats(1, 0, 0, time.Millisecond, 0, true, false)}
	}
	for i := range 60 {
		big.add(graph.Window{Start: floor(testNow, graph.WindowLength).Add(time.Duration(i) * graph.WindowLength), Length: graph.WindowLength, Edges: rows})
	}
	s := newServer(t, big, func(s *Settings) { s.Now = now.time })
	at := serve(t, s)
	stuck := dial(t, at, "")
	if tcp, ok := stuck.NetConn().(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(4096)
	}
	good := dial(t, at, "")
	if m := read(t, good); len(m.Edges) != len(rows) {
		t.Fatalf("%d edges", len(m.Edges))
	}
	start := time.Now()
	for seq := int64(2); s.hub.status().Clients == 2; seq++ {
		if time.Since(start) > time.Minute {
			t.Fatal("the stuck client is not cut")
		}
		s.hub.push(now.advance(graph.WindowLength))
		if m := read(t, good); m.Seq != seq || len(m.Edges) != len(rows) {
			t.Fatalf("message %d with %d edges, want %d", m.Seq, len(m.Edges), seq)
		}
	}
	if took := time.Since(start); took > 10*time.Second && !raced {
		t.Errorf("cut after %s", took)
	}
}

// TestLiveLimits fills the server up.
func TestLiveLimits(t *testing.T) {
	s := newServer(t, shopStore(t), func(s *Settings) { s.Limits.ClientsPerAddr, s.Limits.Views = 2, 1 })
	at := serve(t, s)
	first := dial(t, at, "")
	read(t, first)
	other := dial(t, at, "?env=staging") // one view too many
	_ = other.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, _, err := other.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseTryAgainLater) {
		t.Errorf("second view: %v", err)
	}
	until(t, func() bool { return s.hub.status().Clients == 1 })
	read(t, dial(t, at, ""))
	_, answer, err := websocket.DefaultDialer.Dial("ws://"+at+"/api/v1/live", nil)
	if err == nil || answer.StatusCode != http.StatusTooManyRequests || answer.Header.Get("Retry-After") == "" {
		t.Errorf("third client: %v %v", answer, err)
	}
	if diff := cmp.Diff(map[string]int64{"too_many_views": 1, "too_many_of_address": 1}, s.hub.status().Cut); diff != "" {
		t.Error(diff)
	}
	// A client that says too much is cut, as soon as a frame claims to be of 16 MiB.
	if _, err := first.NetConn().Write([]byte{0x82, 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4}); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return s.hub.status().Clients == 1 })
}

// until waits for what another goroutine does.
func until(t *testing.T, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it does not come about")
		}
	}
}

// TestLiveOrigins has other sites' pages try to listen in.
func TestLiveOrigins(t *testing.T) {
	s := newServer(t, shopStore(t), func(s *Settings) { s.ExternalURL = "https://Faultline.example:8443/base" })
	at := serve(t, s)
	// A proxy in front may name us by our own address.
	conn, answer, err := websocket.DefaultDialer.Dial("ws://"+at+"/api/v1/live", http.Header{"Origin": {"https://faultline.example:8443"}})
	if err != nil {
		t.Fatalf("the address that people use: %v %v", err, answer)
	}
	_ = conn.Close()
	for _, origin := range []string{"http://evil.example", "http://faultline.example:8443", "https://faultline.example", "null", "http://" + at + ".evil.example", "http://localhost", "https://127.0.0.1:1", "http://evil.example/" + at} {
		_, answer, err := websocket.DefaultDialer.Dial("ws://"+at+"/api/v1/live", http.Header{"Origin": {origin}})
		if err == nil || answer.StatusCode != http.StatusForbidden || answer.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("origin %s: %v %v", origin, answer, err)
		}
	}
	upgrade, body := ask(t, s, "/api/v1/live")
	wantProblem(t, upgrade, body, http.StatusUpgradeRequired)
}
