package web

import (
	"context"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"faultline/graph"
	"faultline/storage"
	"faultline/storage/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(withBrowser{m}) }

// testNow is the time that the tests' clock shows: 7.3 s into a window.
var testNow = time.Date(2026, 3, 14, 15, 9, 27, 300e6, time.UTC)

// testStore is a real store that can be made to fail.
type testStore struct {
	*sqlite.Store
	t     testing.TB
	parts atomic.Uint64
	mu    sync.Mutex
	err   error
}

func newStore(t testing.TB) *testStore {
	t.Helper()
	s, err := sqlite.Open(context.Background(), t.TempDir(), storage.DefaultRetention())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &testStore{Store: s, t: t}
}

// add keeps windows, each as a part of its own.
func (s *testStore) add(windows ...graph.Window) {
	s.t.Helper()
	batch := storage.Batch{Windows: make([]graph.Part, len(windows))}
	for i, w := range windows {
		w.Part = s.parts.Add(1)
		batch.Windows[i] = graph.Part{Window: w}
	}
	if err := s.Write(context.Background(), batch); err != nil {
		s.t.Fatal(err)
	}
}

// fail makes every question fail from now on, or no more.
func (s *testStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *testStore) failing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *testStore) Windows(ctx context.Context, q storage.Query) ([]graph.Window, error) {
	if err := s.failing(); err != nil {
		return nil, err
	}
	return s.Store.Windows(ctx, q)
}

func (s *testStore) Examples(ctx context.Context, q storage.TraceQuery) ([]graph.Example, error) {
	if err := s.failing(); err != nil {
		return nil, err
	}
	return s.Store.Examples(ctx, q)
}

func (s *testStore) Findings(ctx context.Context, q storage.FindingQuery) ([]graph.Finding, error) {
	if err := s.failing(); err != nil {
		return nil, err
	}
	return s.Store.Findings(ctx, q)
}

func (s *testStore) Info(ctx context.Context) (storage.Info, error) {
	if err := s.failing(); err != nil {
		return storage.Info{}, err
	}
	info, err := s.Store.Info(ctx)
	info.Bytes = 4096 // it depends on the platform
	return info, err
}

// The tests' shop.
var (
	user     = graph.Node{Env: "prod", Kind: graph.User}
	front    = graph.Node{Env: "prod", Kind: graph.Gateway, Namespace: "shop", Name: "front"}
	checkout = graph.Node{Env: "prod", Kind: graph.Service, Namespace: "shop", Name: "checkout"}
	payment  = graph.Node{Env: "prod", Kind: graph.Service, Namespace: "shop", Name: "payment"}
	mailer   = graph.Node{Env: "prod", Kind: graph.Service, Name: "mailer"}
	orders   = graph.Node{Env: "prod", Kind: graph.Database, Name: "postgresql/orders@db1"}
	mails    = graph.Node{Env: "prod", Kind: graph.Queue, Name: "kafka/mails"}
	bank     = graph.Node{Env: "prod", Kind: graph.External, Name: "bank.example"}
	staged   = graph.Node{Env: "staging", Kind: graph.Service, Namespace: "shop", Name: "checkout"}
	stagedDB = graph.Node{Env: "staging", Kind: graph.Database, Name: "postgresql/orders@db1"}

	userFront       = graph.EdgeKey{Source: user, Target: front, Protocol: graph.HTTP}
	frontCheckout   = graph.EdgeKey{Source: front, Target: checkout, Protocol: graph.HTTP}
	checkoutPayment = graph.EdgeKey{Source: checkout, Target: payment, Protocol: graph.GRPC}
	checkoutOrders  = graph.EdgeKey{Source: checkout, Target: orders, Protocol: graph.DB}
	checkoutMails   = graph.EdgeKey{Source: checkout, Target: mails, Protocol: graph.Messaging}
	mailsMailer     = graph.EdgeKey{Source: mails, Target: mailer, Protocol: graph.Messaging}
	paymentBank     = graph.EdgeKey{Source: payment, Target: bank, Protocol: graph.HTTP}
	stagedOrders    = graph.EdgeKey{Source: staged, Target: stagedDB, Protocol: graph.DB}
)

// callStats returns what n calls of one edge add up to: the i-th takes base + i·step, and each bad-th fails in class.
func callStats(n, bad int64, class graph.Failure, base, step time.Duration, client, server bool) graph.EdgeStats {
	var s graph.EdgeStats
	for i := range n {
		s.Calls++
		s.Raw++
		s.LogicalCalls++
		d := int64(base) + i*int64(step)
		s.Busy += d
		if client {
			s.Client.Add(d, 1)
		} else {
			s.ClientMissing++
		}
		failed := bad > 0 && i%bad == 0
		if server && (!failed || !class.Guarded()) {
			s.ServerCalls++
			s.Server.Add(d*8/10, 1)
		}
		if failed {
			s.Errors++
			s.RawErrors++
			s.LogicalErrors++
			s.Failures[class]++
			if server {
				s.ServerErrors++
			}
		}
	}
	return s
}

// shopAt returns what one window of ten seconds holds; during the fault payment times out.
func shopAt(start time.Time, fault bool) graph.Window {
	const ms = time.Millisecond
	messages := callStats(10, 0, 0, 2*ms, 0, true, false)
	messages.Messages = 40
	received := callStats(10, 0, 0, 30*ms, ms, false, true)
	received.Messages = 40
	pay := callStats(40, 0, 0, 50*ms, ms/2, true, true)
	if fault {
		pay = callStats(40, 4, graph.Timeout, 300*ms, 2*ms, true, true)
		pay.LogicalCalls -= 8
	}
	return graph.Window{Start: start, Length: graph.WindowLength, Edges: []graph.EdgeRow{
		{Edge: userFront, Stats: callStats(50, 0, 0, 80*ms, ms, false, true)},
		{Edge: frontCheckout, Stats: callStats(50, 0, 0, 70*ms, ms, true, true)},
		{Edge: checkoutPayment, Stats: pay},
		{Edge: checkoutOrders, Stats: callStats(100, 0, 0, 3*ms, ms/10, true, false)},
		{Edge: checkoutMails, Stats: messages},
		{Edge: mailsMailer, Stats: received},
		{Edge: graph.EdgeKey{Source: front.Identity(), Target: payment, Protocol: graph.Linked}, Stats: graph.EdgeStats{Messages: 2, Raw: 2}},
		{Edge: graph.EdgeKey{Source: payment, Target: mailer, Protocol: graph.Linked}, Stats: graph.EdgeStats{Messages: 3, Raw: 1}},
		{Edge: paymentBank, Stats: callStats(1, 0, 0, 120*ms, 0, true, false)},
		{Edge: stagedOrders, Stats: callStats(3, 0, 0, 4*ms, ms, true, false)},
	}}
}

// shopDetails returns what one minute holds beside the edges.
func shopDetails(start time.Time) graph.Window {
	detail := func(k graph.EdgeKey, dim graph.Dimension, side graph.Side, name string, calls, errors int64) graph.DetailRow {
		row := graph.DetailRow{Edge: k, Key: graph.DetailKey{Dimension: dim, Side: side, Name: name}}
		row.Detail = graph.Detail{Calls: calls, Errors: errors, Raw: calls, RawErrors: errors}
		for i := range calls {
			row.Detail.Latency.Add(int64(50*time.Millisecond)+i*int64(time.Millisecond), 1)
		}
		return row
	}
	measured := func(k graph.EdgeKey, key graph.DetailKey, calls, errors, value int64) graph.DetailRow {
		row := graph.DetailRow{Edge: k, Key: key, Detail: graph.Detail{Calls: calls, Errors: errors, Raw: calls, RawErrors: errors}}
		row.Detail.Latency.Add(value, calls)
		return row
	}
	const ms = int64(time.Millisecond)
	entry := graph.DetailKey{Dimension: graph.Entry, Side: graph.ClientSide, Name: graph.EntryName("shop/front", "POST /checkout")}
	late := graph.DetailKey{Dimension: graph.Caused, Side: graph.ClientSide, Name: graph.CauseOf(graph.Timeout).String()}
	return graph.Window{
		Start: start, Length: graph.DetailLength,
		Details: []graph.DetailRow{
			measured(checkoutPayment, late, 30, 0, 300*ms),
			measured(checkoutPayment, graph.RetryGap.Key(), 24, 20, 100*ms),
			measured(checkoutPayment, graph.RetriedCall.Key(), 22, 18, 480*ms),
			measured(checkoutPayment, graph.NegativeGap.Key(), 3, 0, 2*ms),
			measured(checkoutPayment, graph.Wasted.Key(), 12, 0, 50*ms),
			measured(checkoutPayment, graph.Traces.Key(), 50, 5, 400*ms),
			measured(checkoutPayment, graph.Critical.Key(), 50, 0, 200*ms),
			measured(checkoutPayment, graph.CriticalSelf.Key(), 50, 0, 150*ms),
			measured(checkoutPayment, graph.OriginSelf.Key(), 4, 0, 1000),
			measured(checkoutPayment, entry, 50, 5, 400*ms),
			measured(userFront, entry, 50, 5, 400*ms),
			measured(userFront, graph.Depth.Key(), 50, 0, 3),
			measured(userFront, graph.DetailKey{Dimension: graph.EntryDepth, Side: graph.ClientSide, Name: entry.Name}, 50, 0, 3),
			measured(mailsMailer, graph.Lag.Key(), 40, 0, 2000*ms),
			measured(mailsMailer, graph.LagWithin.Key(), 40, 0, 8*ms),
			detail(mailsMailer, graph.Producer, graph.ServerSide, "shop/checkout", 40, 2),
			detail(checkoutPayment, graph.Operation, graph.ClientSide, "shop.Payment/Charge", 240, 30),
			detail(checkoutPayment, graph.Operation, graph.ServerSide, "shop.Payment/Charge", 230, 30),
			detail(checkoutPayment, graph.Instance, graph.ServerSide, "payment-1", 120, 0),
			detail(checkoutPayment, graph.Instance, graph.ServerSide, "payment-2", 110, 30),
			detail(checkoutPayment, graph.Instance, graph.ClientSide, "checkout-1", 240, 30),
			detail(checkoutPayment, graph.Version, graph.ServerSide, "2.0.1", 230, 30),
			detail(checkoutPayment, graph.VersionPair, graph.ClientSide, graph.PairName("3.1.0", "2.0.1"), 230, 20),
			detail(checkoutPayment, graph.VersionPair, graph.ClientSide, graph.PairName("3.1.0", ""), 10, 10),
			detail(checkoutOrders, graph.Operation, graph.ClientSide, "SELECT orders", 600, 0),
		},
		Nodes: []graph.NodeRow{
			{Node: front, Instance: "front-1", Version: "1.4.0", Spans: 600},
			{Node: checkout, Instance: "checkout-1", Version: "3.1.0", Spans: 1500},
			{Node: payment, Instance: "payment-1", Version: "2.0.1", Spans: 130},
			{Node: payment, Instance: "payment-2", Version: "2.0.1", Spans: 120},
			{Node: payment, Instance: "payment-3", Version: "2.0.2", Spans: 1},
			{Node: mailer, Spans: 60},
			{Node: staged, Instance: "checkout-s", Version: "3.2.0-rc1", Spans: 20},
		},
	}
}

// shopStore returns a store with half an hour of the shop up to testNow; payment has timed out for the last five minutes.
func shopStore(t testing.TB) *testStore {
	t.Helper()
	s := newStore(t)
	var windows []graph.Window
	start := floor(testNow, time.Minute).Add(-30 * time.Minute)
	for at := start; at.Before(testNow); at = at.Add(graph.WindowLength) {
		windows = append(windows, shopAt(at, testNow.Sub(at) < 5*time.Minute))
	}
	for at := start; at.Before(testNow); at = at.Add(graph.DetailLength) {
		windows = append(windows, shopDetails(at))
	}
	s.add(windows...)
	if err := s.Write(context.Background(), storage.Batch{Findings: shopFindings()}); err != nil {
		t.Fatal(err)
	}
	trace, at := shopTrace(), testNow.Add(-time.Minute)
	slow := graph.Trace{ID: graph.TraceID{9}, Resources: trace.Resources, Spans: []graph.Span{
		{ID: graph.SpanID{9}, Name: "SELECT orders", Kind: graph.SpanKindClient, Start: at.Add(-time.Minute), End: at.Add(-time.Minute + 40*time.Millisecond), Node: checkout},
	}}
	client := trace.Spans[0].ID
	if err := s.Write(context.Background(), storage.Batch{Traces: []graph.KeptTrace{
		{Trace: trace, Examples: []graph.Example{
			{Trace: trace.ID, Span: client, Edge: checkoutPayment, Kind: graph.Failed, At: at, Duration: 312 * time.Millisecond, Failure: graph.Timeout},
			{Trace: trace.ID, Span: client, Edge: frontCheckout, Kind: graph.Typical, At: at.Add(time.Millisecond), Duration: 330 * time.Millisecond},
		}},
		{Trace: slow, Examples: []graph.Example{
			{Trace: slow.ID, Span: graph.SpanID{9}, Edge: checkoutOrders, Kind: graph.Slow, At: at.Add(-time.Minute), Duration: 40 * time.Millisecond},
		}},
	}}); err != nil {
		t.Fatal(err)
	}
	return s
}

// shopFindings are what goes wrong in the shop: two things now, and what is over.
func shopFindings() []graph.Finding {
	since, now := floor(testNow, time.Minute).Add(-5*time.Minute), testNow.Add(-3*time.Second)
	return []graph.Finding{
		{
			Rule: "timeout", Edge: checkoutPayment, Level: graph.Severe, Since: since, Until: now, Value: .125, N: 1200,
			Sentence: "12 % of the calls fail: no answer in time, callers wait 300 ms, n=150 of 1,200",
		},
		{
			Rule: "bad_instance", Edge: checkoutPayment, Subject: "payment-2", Level: graph.Warn, Since: since.Add(time.Minute), Until: now,
			Value: 1, N: 110, Sentence: "payment-2 fails <27 %> of its calls",
		},
		{Rule: "deploy", Node: payment, Subject: "2.0.2", Since: since, Until: now, Value: .05, N: 12, Sentence: "version 2.0.2 appeared"},
		{Rule: "no_backoff", Edge: checkoutOrders, Level: graph.Warn, Since: since.Add(-20 * time.Minute), Until: since.Add(-15 * time.Minute), Value: .2, N: 40},
		{Rule: "refused", Edge: stagedOrders, Level: graph.Severe, Since: since, Until: since.Add(3 * time.Minute), Value: math.NaN(), N: 3},
	}
}

// shopTrace has a value of every type, and names that no page may take for markup.
func shopTrace() graph.Trace {
	at := testNow.Add(-time.Minute)
	return graph.Trace{
		ID: graph.TraceID{0x5b, 0x8e, 0xff, 0xf7, 0x98, 0x03, 0x81, 0x03, 0xd2, 0x69, 0xb6, 0x33, 0x81, 0x3f, 0xc6, 0x0c},
		Resources: []graph.Resource{
			{Attributes: []graph.Attribute{{Key: "service.name", Value: "checkout"}, {Key: "process.pid", Value: int64(1<<53 + 1)}}},
			{Attributes: []graph.Attribute{{Key: "service.name", Value: "payment"}}},
		},
		Spans: []graph.Span{
			{
				ID: graph.SpanID{0xee, 0xe1, 0x9b, 0x7e, 0xc3, 0xc1, 0xb1, 0x74}, TraceState: "ot=th:8", Flags: 0x101, Name: "Charge <script>",
				Kind: graph.SpanKindClient, Start: at.Add(-312 * time.Millisecond), End: at, Status: graph.StatusError, StatusMessage: "deadline exceeded",
				Attributes: []graph.Attribute{
					{Key: "rpc.system", Value: "grpc"},
					{Key: "retry", Value: true},
					{Key: "ratio", Value: 0.25},
					{Key: "raw", Value: []byte{0, 1, 255}},
					{Key: "tags", Value: []any{"a", int64(2), false}},
					{Key: "more", Value: map[string]any{"b": int64(1), "a": "x"}},
					{Key: "none", Value: nil},
				},
				Events: []graph.Event{{Time: at, Name: "exception", Attributes: []graph.Attribute{{Key: "exception.type", Value: "Timeout"}}}},
				Links:  []graph.Link{{Trace: graph.TraceID{1}, Span: graph.SpanID{2}}},
				Scope:  "grpc", ScopeVersion: "1.2", Resource: 0, Node: checkout,
			},
			{
				ID: graph.SpanID{2}, Parent: graph.SpanID{0xee, 0xe1, 0x9b, 0x7e, 0xc3, 0xc1, 0xb1, 0x74}, Name: "shop.Payment/Charge",
				Kind: graph.SpanKindServer, Start: at.Add(-300 * time.Millisecond), End: at, Scope: "grpc", ScopeVersion: "1.2", Resource: 1, Node: payment,
			},
		},
	}
}

// counters are what the tests' intake counted.
func counters() graph.Counters {
	return graph.Counters{
		Received: 1000, Accepted: 990, Refused: map[string]int64{"bad_span_id": 10}, Requests: map[string]int64{"ok": 9, "malformed": 1},
		Dropped: map[string]int64{"too_late": 2}, Unpaired: map[string]int64{"client_external": 3}, Traces: map[string]int64{"analysed": 8}, Late: 4, NegativeGaps: 7, Pending: 5, Bytes: 6000, LastSpan: testNow.Add(-time.Second),
		Senders: []graph.Sender{{Node: checkout, SDK: "go 1.38.0", Spans: 900, LastSeen: testNow.Add(-time.Second)}, {Node: mailer, Spans: 90, LastSeen: testNow.Add(-time.Minute)}},
	}
}

// criticalities says that payment is critical and that the mailer matters little.
func criticalities(n graph.Node) graph.Criticality {
	return map[graph.Node]graph.Criticality{payment: graph.CriticalityCritical, mailer: graph.CriticalityLow}[n]
}

// newServer returns a server over a reader, with the tests' clock unless the settings bring one.
func newServer(t testing.TB, reader storage.Reader, change ...func(*Settings)) *Server {
	t.Helper()
	settings := Settings{
		Reader: reader, Counters: counters, Now: func() time.Time { return testNow }, Started: testNow.Add(-10 * time.Minute), Version: "1.2.3",
		Listen: "127.0.0.1:8420", Logger: slog.New(slog.DiscardHandler), Criticality: criticalities,
	}
	for _, f := range change {
		f(&settings)
	}
	s, err := New(settings)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask asks the server and returns its answer with the body.
func ask(t testing.TB, s *Server, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	return request(t, s, http.MethodGet, path, headers...)
}

func request(t testing.TB, s *Server, method, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(method, "http://localhost:8420/", strings.NewReader(""))
	r.RequestURI = path
	u, err := r.URL.Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	r.URL = u
	r.URL.Host, r.URL.Scheme = "", ""
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	answer := w.Result()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(body)
}
