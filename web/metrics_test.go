package web

import (
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"faultline/graph"
)

// scrape returns the classic histograms and everything else, as a scraper of the text format reads them.
func scrape(t *testing.T, s *Server) map[string]*dto.MetricFamily {
	t.Helper()
	answer, body := ask(t, s, "/metrics")
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s\n%s", answer.Status, body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// find returns the metric with these labels, nil when there is none.
func find(families map[string]*dto.MetricFamily, name string, labels ...string) *dto.Metric {
	if families[name] == nil {
		return nil
	}
	for _, m := range families[name].Metric {
		have := map[string]string{}
		for _, l := range m.Label {
			have[l.GetName()] = l.GetValue()
		}
		matches := len(have) == len(labels)/2
		for i := 0; i < len(labels); i += 2 {
			matches = matches && have[labels[i]] == labels[i+1]
		}
		if matches {
			return m
		}
	}
	return nil
}

func TestMetrics(t *testing.T) {
	s := newServer(t, shopStore(t), func(s *Settings) {
		s.History = func() History {
			return History{DelayedSince: testNow, Waiting: 7, Dropped: map[string]int64{"examples_store_unavailable": 2}}
		}
	})
	families := scrape(t, s)
	for _, test := range []struct {
		name   string
		want   float64
		labels []string
	}{
		{"faultline_spans_received_total", 1000, nil},
		{"faultline_spans_accepted_total", 990, nil},
		{"faultline_spans_refused_total", 10, []string{"reason", "bad_span_id"}},
		{"faultline_requests_total", 9, []string{"outcome", "ok"}},
		{"faultline_dropped_total", 2, []string{"reason", "too_late"}},
		{"faultline_spans_unpaired_total", 3, []string{"kind", "client", "reason", "external"}},
		{"faultline_traces_total", 8, []string{"outcome", "analysed"}},
		{"faultline_spans_late_total", 4, nil},
		{"faultline_spans_pending", 5, nil},
		{"faultline_store_waiting_parts", 7, nil},
		{"faultline_store_delayed", 1, nil},
		{"faultline_store_dropped_total", 2, []string{"reason", "examples_store_unavailable"}},
		{"faultline_ready", 1, nil},
		// Both environments count. Started ten minutes ago, in the window from 14:59:20 on: 61 windows of 40, of which 30 fail every fourth.
		{"traces_service_graph_request_total", 61 * 40, []string{"client", "shop/checkout", "server", "shop/payment", "connection_type", ""}},
		{"traces_service_graph_request_failed_total", 300, []string{"client", "shop/checkout", "server", "shop/payment", "connection_type", ""}},
		{"traces_service_graph_request_total", 61 * (100 + 3), []string{"client", "shop/checkout", "server", "db:postgresql/orders@db1", "connection_type", "database"}},
		{"traces_service_graph_request_total", 61 * 10, []string{"client", "shop/checkout", "server", "queue:kafka/mails", "connection_type", "messaging_system"}},
		{"traces_service_graph_request_total", 61 * 50, []string{"client", "user", "server", "shop/front", "connection_type", "virtual_node"}},
		{"traces_service_graph_request_total", 61, []string{"client", "shop/payment", "server", "ext:bank.example", "connection_type", "virtual_node"}},
	} {
		m := find(families, test.name, test.labels...)
		if m == nil {
			t.Errorf("%s%v is missing", test.name, test.labels)
			continue
		}
		if got := m.GetCounter().GetValue() + m.GetGauge().GetValue(); got != test.want {
			t.Errorf("%s%v = %v, want %v", test.name, test.labels, got, test.want)
		}
	}
	h := find(families, "traces_service_graph_request_client_seconds", "client", "shop/front", "server", "shop/checkout", "connection_type", "").GetHistogram()
	if h.GetSampleCount() != 61*50 || len(h.Bucket) != len(classic)+1 { // and the infinite one
		t.Fatalf("histogram: %v", h)
	}
	// 50 calls of 70 to 119 ms a window: none up to 64 ms, all up to 128 ms, 94.5 ms each.
	for _, b := range h.Bucket {
		want := uint64(0)
		if b.GetUpperBound() >= .128 {
			want = 61 * 50
		}
		if b.GetCumulativeCount() != want {
			t.Errorf("up to %v s: %d, want %d", b.GetUpperBound(), b.GetCumulativeCount(), want)
		}
	}
	if mean := h.GetSampleSum() / float64(h.GetSampleCount()); math.Abs(mean-.0945) > 1e-9 {
		t.Errorf("mean %v s", mean)
	}
	if server := find(families, "traces_service_graph_request_server_seconds", "client", "shop/checkout", "server", "db:postgresql/orders@db1", "connection_type", "database").GetHistogram(); server.GetSampleCount() != 0 {
		t.Errorf("a database sees nothing: %v", server)
	}
}

// TestCountersNeverFall lets a window take back what it showed, and others settle.
func TestCountersNeverFall(t *testing.T) {
	now := &clock{now: testNow}
	store := newStore(t)
	s := newServer(t, store, func(s *Settings) { s.Now, s.Started = now.time, testNow })
	window := floor(testNow, graph.WindowLength)
	labels := []string{"client", "shop/front", "server", "shop/checkout", "connection_type", ""}
	total := func() (calls float64, client uint64) {
		t.Helper()
		families := scrape(t, s)
		m := find(families, "traces_service_graph_request_total", labels...)
		h := find(families, "traces_service_graph_request_client_seconds", labels...)
		return m.GetCounter().GetValue(), h.GetHistogram().GetSampleCount()
	}
	add := func(n, sign int64) {
		stats := callStats(n, 0, 0, time.Millisecond, 0, false, true)
		stats.Calls, stats.LogicalCalls, stats.Raw = sign*n, sign*n, sign*n
		stats.Client.Add(int64(time.Millisecond), sign*n)
		store.add(graph.Window{Start: window, Length: graph.WindowLength, Edges: []graph.EdgeRow{{Edge: frontCheckout, Stats: stats}}})
	}
	expect := func(want float64) {
		t.Helper()
		if calls, client := total(); calls != want || client != uint64(want) {
			t.Errorf("%v calls, %d measured, want %v", calls, client, want)
		}
	}
	add(10, 1)
	expect(10)
	expect(10)
	add(3, -1) // three were shown provisionally
	expect(10)
	add(1, 1)
	expect(10)
	add(5, 1)
	expect(13)
	now.advance(10 * time.Minute) // the window settles
	expect(13)
	window = floor(now.time(), graph.WindowLength)
	add(2, 1)
	expect(15)
	now.advance(time.Hour)
	expect(15)
}

// TestMetricsAreBounded has more edges than there may be series.
func TestMetricsAreBounded(t *testing.T) {
	s := newServer(t, shopStore(t), func(s *Settings) { s.Limits.MetricEdges = 3 })
	for range 2 {
		families := scrape(t, s)
		metrics := families["traces_service_graph_request_total"].Metric
		if len(metrics) != 4 || find(families, "traces_service_graph_request_total", "client", graph.Other, "server", graph.Other, "connection_type", "") == nil {
			t.Fatalf("%d series: %v", len(metrics), metrics)
		}
		var sum float64
		for _, m := range metrics {
			sum += m.GetCounter().GetValue()
		}
		if want := 61.0 * (50 + 50 + 40 + 100 + 10 + 10 + 1 + 3); sum != want {
			t.Errorf("%v calls in all, want %v", sum, want)
		}
	}
}

// TestIdleSeriesMakeRoom has edges come and go: names without end do not keep those that are there now from having series
// of their own, and nothing makes room before it must.
func TestIdleSeriesMakeRoom(t *testing.T) {
	now := &clock{now: testNow}
	store := newStore(t)
	s := newServer(t, store, func(s *Settings) { s.Now, s.Started, s.Limits.MetricEdges = now.time, testNow, 3 })
	seen := func(callee string) float64 {
		t.Helper()
		edge := frontCheckout
		edge.Target.Name = callee
		store.add(graph.Window{
			Start: floor(now.time(), graph.WindowLength), Length: graph.WindowLength,
			Edges: []graph.EdgeRow{{Edge: edge, Stats: callStats(10, 0, 0, time.Millisecond, 0, true, true)}},
		})
		m := find(scrape(t, s), "traces_service_graph_request_total", "client", "shop/front", "server", "shop/"+callee, "connection_type", "")
		now.advance(5 * time.Minute) // it settles
		scrape(t, s)
		return m.GetCounter().GetValue()
	}
	for _, callee := range []string{"a", "b", "c"} {
		if calls := seen(callee); calls != 10 {
			t.Errorf("%s: %v calls, want 10", callee, calls)
		}
	}
	if calls := seen("d"); calls != 0 {
		t.Errorf("d has a series of its own with %v calls: there is no room", calls)
	}
	for range 2 {
		now.advance(seriesIdle / 2)
		seen("b")
	}
	if calls := seen("d"); calls != 10 {
		t.Errorf("d: %v calls, want 10: others have been idle", calls)
	}
	if calls := seen("b"); calls != 40 {
		t.Errorf("b: %v calls, want 40: it has been there all the while", calls)
	}
}

// TestNativeHistogram compares quantiles of the native histogram with the sketch's.
func TestNativeHistogram(t *testing.T) {
	stats := callStats(10_000, 0, 0, 100*time.Microsecond, 300*time.Microsecond, true, false)
	stats.Client.Add(0, 5)
	var h histogram
	h.raise(&stats.Client)
	var m dto.Metric
	if err := h.metric(edgeClient, testNow, []string{"a", "b", ""}).Write(&m); err != nil {
		t.Fatal(err)
	}
	out := m.Histogram
	if out.GetSampleCount() != 10_005 || out.GetZeroCount() != 5 || len(out.Bucket) != len(classic) {
		t.Fatalf("%v", out)
	}
	base := math.Exp2(math.Exp2(-float64(out.GetSchema())))
	var buckets, index, count int
	var cum int64
	quantiles := map[float64]float64{.5: 0, .99: 0}
	for _, span := range out.PositiveSpan {
		index += int(span.GetOffset())
		for range span.GetLength() {
			count += int(out.PositiveDelta[buckets])
			buckets++
			cum += int64(count)
			for q, v := range quantiles {
				if v == 0 && float64(cum+5) >= q*10_005 {
					quantiles[q] = math.Pow(base, float64(index))
				}
			}
			index++
		}
	}
	if cum != 10_000 || buckets > maxNativeBuckets {
		t.Errorf("%d in %d buckets", cum, buckets)
	}
	for q, got := range quantiles {
		if want := stats.Client.Quantile(q) / 1e9; math.Abs(got/want-1) > base-1+.006 {
			t.Errorf("%v-quantile: %v s, want %v s", q, got, want)
		}
	}
}
