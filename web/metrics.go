package web

import (
	"context"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"faultline/graph"
	"faultline/internal/sketch"
	"faultline/storage"
)

// metrics is what /metrics shows: a registry of the server's own, so that several servers live in one process.
type metrics struct {
	registry *prometheus.Registry
	queries  *prometheus.HistogramVec
	flushes  *prometheus.HistogramVec
	edges    *edgeCollector
}

func newMetrics(s *Server) (*metrics, error) {
	seconds := func(name, help, label string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{label})
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		queries:  seconds("faultline_query_seconds", "Time that answers took, by operation.", "operation"),
		flushes:  seconds("faultline_flush_seconds", "Time that it took to store what changed and to maintain the store, by outcome.", "outcome"),
		edges:    &edgeCollector{s: s, settledTo: floor(s.Started, graph.WindowLength), series: map[edgeLabels]*edgeSeries{}},
	}
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.queries, m.flushes, m.edges, &countersCollector{s},
	} {
		if err := m.registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Flushed tells the metrics how long it took to store what changed, and whether that failed.
func (s *Server) Flushed(took time.Duration, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	s.metrics.flushes.WithLabelValues(outcome).Observe(took.Seconds())
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// The table of the process's metrics.
var (
	buildInfo     = prometheus.NewDesc("faultline_build_info", "1, with the version.", []string{"version", "go_version"}, nil)
	spansReceived = prometheus.NewDesc("faultline_spans_received_total", "Spans in requests that could be read.", nil, nil)
	spansAccepted = prometheus.NewDesc("faultline_spans_accepted_total", "Spans that count.", nil, nil)
	spansRefused  = prometheus.NewDesc("faultline_spans_refused_total", "Spans refused, by reason.", []string{"reason"}, nil)
	requests      = prometheus.NewDesc("faultline_requests_total", "OTLP requests, by outcome.", []string{"outcome"}, nil)
	spansDropped  = prometheus.NewDesc("faultline_dropped_total", "Spans or facts dropped after they were accepted, by reason.", []string{"reason"}, nil)
	spansUnpaired = prometheus.NewDesc("faultline_spans_unpaired_total", "Halves of calls that stayed alone, by kind of half and why.", []string{"kind", "reason"}, nil)
	tracesSeen    = prometheus.NewDesc("faultline_traces_total", "Roots of traces, by whether what is below them was looked at together.", []string{"outcome"}, nil)
	negativeGaps  = prometheus.NewDesc("faultline_negative_gaps_total", "Calls whose callee took longer than its caller, who had not left.", nil, nil)
	spansLate     = prometheus.NewDesc("faultline_spans_late_total", "Halves that came after their edge had been shown provisionally.", nil, nil)
	spansPending  = prometheus.NewDesc("faultline_spans_pending", "Spans in flight, waiting for their other half.", nil, nil)
	pendingBytes  = prometheus.NewDesc("faultline_pending_bytes", "Memory held for spans in flight and candidates for examples.", nil, nil)
	lastSpan      = prometheus.NewDesc("faultline_last_span_timestamp_seconds", "When a span was last accepted.", nil, nil)
	waitingParts  = prometheus.NewDesc("faultline_store_waiting_parts", "Parts of windows that the store has yet to take.", nil, nil)
	storeDelayed  = prometheus.NewDesc("faultline_store_delayed", "1 while the store takes nothing.", nil, nil)
	storeDropped  = prometheus.NewDesc("faultline_store_dropped_total", "What the store failed to take for too long, by reason.", []string{"reason"}, nil)
	liveClients   = prometheus.NewDesc("faultline_live_clients", "Clients that follow the live map.", nil, nil)
	liveCut       = prometheus.NewDesc("faultline_live_clients_cut_total", "Clients cut or refused, by reason.", []string{"reason"}, nil)
	findingsOpen  = prometheus.NewDesc("faultline_findings", "What goes wrong now, by the name of its rule and how loud it is.", []string{"rule", "level"}, nil)
	ready         = prometheus.NewDesc("faultline_ready", "1 while the process can do its work.", nil, nil)
)

// countersCollector shows what became of the spans. Reasons come from lists in the program, so their number is bounded.
type countersCollector struct{ s *Server }

func (c *countersCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		buildInfo, spansReceived, spansAccepted, spansRefused, requests, spansDropped, spansUnpaired, tracesSeen, spansLate, negativeGaps,
		spansPending, pendingBytes, lastSpan, waitingParts, storeDelayed, storeDropped, liveClients, liveCut, findingsOpen, ready,
	} {
		ch <- d
	}
}

func (c *countersCollector) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	by := func(d *prometheus.Desc, counts map[string]int64) {
		for reason, n := range counts {
			counter(d, n, reason)
		}
	}
	flag := func(is bool) float64 {
		if is {
			return 1
		}
		return 0
	}
	n, h, l := c.s.Counters(), c.s.History(), c.s.hub.status()
	gauge(buildInfo, 1, c.s.Version, runtime.Version())
	counter(spansReceived, n.Received)
	counter(spansAccepted, n.Accepted)
	by(spansRefused, n.Refused)
	by(requests, n.Requests)
	by(spansDropped, n.Dropped)
	for k, n := range n.Unpaired {
		kind, reason, _ := strings.Cut(k, "_")
		counter(spansUnpaired, n, kind, reason)
	}
	by(tracesSeen, n.Traces)
	counter(spansLate, n.Late)
	counter(negativeGaps, n.NegativeGaps)
	gauge(spansPending, float64(n.Pending))
	gauge(pendingBytes, float64(n.Bytes))
	if !n.LastSpan.IsZero() {
		gauge(lastSpan, float64(n.LastSpan.UnixMilli())/1e3)
	}
	gauge(waitingParts, float64(h.Waiting))
	gauge(storeDelayed, flag(!h.DelayedSince.IsZero()))
	by(storeDropped, h.Dropped)
	gauge(liveClients, float64(l.Clients))
	for _, reason := range cutReasons { // also what counts nothing: what was never there cannot be seen to grow
		counter(liveCut, l.Cut[reason], reason)
	}
	for k, count := range c.s.openFindings() {
		gauge(findingsOpen, float64(count), k.rule, k.level.String())
	}
	gauge(ready, flag(c.s.Ready() == nil))
}

// The metrics of edges have the names and labels that Grafana's service graph reads. Client and server are node ids;
// environments and protocols are summed.
var (
	edgeLabelNames = []string{"client", "server", "connection_type"}
	edgeTotal      = prometheus.NewDesc("traces_service_graph_request_total", "Calls.", edgeLabelNames, nil)
	edgeFailed     = prometheus.NewDesc("traces_service_graph_request_failed_total", "Failed calls.", edgeLabelNames, nil)
	edgeServer     = prometheus.NewDesc("traces_service_graph_request_server_seconds", "Latency of calls as the callee sees it.", edgeLabelNames, nil)
	edgeClient     = prometheus.NewDesc("traces_service_graph_request_client_seconds", "Latency of calls as the caller sees it.", edgeLabelNames, nil)
)

type edgeLabels struct{ client, server, connection string }

// labelsOf returns an edge's labels, with the types of connections that Tempo's service graph tells apart.
func labelsOf(k graph.EdgeKey) edgeLabels {
	l := edgeLabels{client: k.Source.ID(), server: k.Target.ID()}
	virtual := func(n graph.Node) bool {
		return n.Outside() || n.Kind == graph.External || n.Kind == graph.LLM
	}
	switch {
	case k.Protocol == graph.Messaging || k.Source.Kind == graph.Queue || k.Target.Kind == graph.Queue:
		l.connection = "messaging_system"
	case k.Target.Kind == graph.Database || k.Target.Kind == graph.Cache:
		l.connection = "database"
	case virtual(k.Source) || virtual(k.Target):
		l.connection = "virtual_node"
	}
	return l
}

// settleAfter is how long after its end a window may still change; what comes later than that is in the graph and its
// history, but no longer in the counters.
const settleAfter = 100 * time.Second

// edgeCollector counts the calls that ended since the process started, per edge. Windows may still take back what they
// counted provisionally, and a counter must not: so it adds up the windows that are settled once, looks at the others
// anew at each scrape, and shows the highest that it ever saw. A counter is exact as soon as its windows are settled,
// unless it stood higher before. Its series are bounded: further edges are summed under "(other)", unless others have not
// been seen for so long that they make room.
type edgeCollector struct {
	s *Server

	mu        sync.Mutex
	settledTo time.Time
	series    map[edgeLabels]*edgeSeries
}

// edgeSeries is one edge's metrics. Times are in nanoseconds.
type edgeSeries struct {
	seen           time.Time // when there last were calls
	settled, open  graph.EdgeStats
	total, failed  int64 // as shown
	client, server histogram
}

// seriesIdle is how long an edge must have been without calls to make room for others. Should it come back, its counters
// start from zero, as after a restart.
const seriesIdle = time.Hour

func (c *edgeCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- edgeTotal
	ch <- edgeFailed
	ch <- edgeServer
	ch <- edgeClient
}

func (c *edgeCollector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), c.s.limits.QueryTime)
	defer cancel()
	if err := c.update(ctx, c.s.now()); err != nil {
		c.s.log.Warn("metrics of edges not refreshed", slog.Any("error", err))
	}
	for l, e := range c.series {
		labels := []string{l.client, l.server, l.connection}
		ch <- prometheus.MustNewConstMetric(edgeTotal, prometheus.CounterValue, float64(e.total), labels...)
		ch <- prometheus.MustNewConstMetric(edgeFailed, prometheus.CounterValue, float64(e.failed), labels...)
		ch <- e.client.metric(edgeClient, c.s.Started, labels)
		ch <- e.server.metric(edgeServer, c.s.Started, labels)
	}
}

// settle adds up what is settled, so that no scrape has to look far back.
func (c *edgeCollector) settle(ctx context.Context, now time.Time) error {
	until := floor(now.Add(-settleAfter), graph.WindowLength)
	if !until.After(c.settledTo) {
		return nil
	}
	// By the window: nobody asks for just this sum again, and a store would keep it as one that somebody might.
	windows, err := c.s.reader.Windows(ctx, storage.Query{From: c.settledTo, To: until, Step: graph.WindowLength, Want: storage.WantEdges})
	if err != nil {
		return err
	}
	c.each(now, windows, func(e *edgeSeries, s *graph.EdgeStats) { e.settled.Add(s) })
	c.settledTo = until
	return nil
}

func (c *edgeCollector) update(ctx context.Context, now time.Time) error {
	if err := c.settle(ctx, now); err != nil {
		return err
	}
	windows, err := c.s.reader.Windows(ctx, storage.Query{From: c.settledTo, To: ceil(now, graph.WindowLength), Want: storage.WantEdges})
	if err != nil {
		return err
	}
	for _, e := range c.series {
		e.open = graph.EdgeStats{}
	}
	c.each(now, windows, func(e *edgeSeries, s *graph.EdgeStats) { e.open.Add(s) })
	for _, e := range c.series {
		var sum graph.EdgeStats
		sum.Add(&e.settled)
		sum.Add(&e.open)
		e.total, e.failed = max(e.total, sum.Calls), max(e.failed, sum.Errors)
		e.client.raise(&sum.Client)
		e.server.raise(&sum.Server)
	}
	return nil
}

// each calls f for every edge's series.
func (c *edgeCollector) each(now time.Time, windows []graph.Window, f func(*edgeSeries, *graph.EdgeStats)) {
	if len(c.series) >= c.s.limits.MetricEdges {
		maps.DeleteFunc(c.series, func(l edgeLabels, e *edgeSeries) bool {
			return now.Sub(e.seen) > seriesIdle && l.client != graph.Other
		})
	}
	for i := range windows {
		for j := range windows[i].Edges {
			row := &windows[i].Edges[j]
			if row.Edge.Protocol == graph.Linked {
				continue
			}
			labels := labelsOf(row.Edge)
			e := c.series[labels]
			if e == nil && len(c.series) >= c.s.limits.MetricEdges {
				labels = edgeLabels{graph.Other, graph.Other, ""}
				e = c.series[labels]
			}
			if e == nil {
				e = &edgeSeries{}
				c.series[labels] = e
			}
			e.seen = now
			f(e, &row.Stats)
		}
	}
}

// run settles once a minute until done is closed, in case nobody scrapes.
func (c *edgeCollector) run(done <-chan struct{}) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			ctx, cancel := context.WithTimeout(context.Background(), c.s.limits.QueryTime)
			c.mu.Lock()
			err := c.settle(ctx, c.s.now())
			c.mu.Unlock()
			cancel()
			if err != nil {
				c.s.log.Warn("metrics of edges not settled", slog.Any("error", err))
			}
		}
	}
}

// histogram is a Prometheus native histogram of schema 5 whose counts never fall.
type histogram struct {
	buckets map[int]int64 // bucket j: 2^((j-1)/32) < seconds ≤ 2^(j/32)
	zero    int64
	sum     int64 // nanoseconds
}

// perPower is how many buckets there are to a power of two, in sketches and native histograms of schema 5 alike.
const perPower = 1 << sketch.MaxScale

// secondShift is how many buckets lie between a nanosecond and a second: 32·log2(10⁹) = 956.74, rounded. Bounds in
// seconds therefore lie 0.56 % below those in nanoseconds.
var secondShift = int(math.Round(perPower * math.Log2(1e9)))

// raise takes over what s counts where that is more.
func (h *histogram) raise(s *sketch.Sketch) {
	if h.buckets == nil {
		h.buckets = map[int]int64{}
	}
	s.Buckets(func(_, upper float64, count int64) {
		if upper == 0 {
			h.zero = max(h.zero, count)
			return
		}
		j := int(math.Round(perPower*math.Log2(upper))) - secondShift
		h.buckets[j] = max(h.buckets[j], count)
	})
	h.sum = max(h.sum, s.Sum())
}

// classic are the bounds of the classic histogram in seconds.
var classic = prometheus.ExponentialBuckets(0.002, 2, 14)

// maxNativeBuckets bounds a native histogram: one with more is shown coarser.
const maxNativeBuckets = 160

// metric returns the histogram, native and classic in one.
func (h *histogram) metric(desc *prometheus.Desc, created time.Time, labels []string) prometheus.Metric {
	count := h.zero
	bounds := make([]int64, len(classic))
	for i := range bounds {
		bounds[i] = h.zero
	}
	for j, n := range h.buckets {
		count += n
		upper := math.Exp2(float64(j) / perPower)
		for i := len(classic) - 1; i >= 0 && upper <= classic[i]; i-- {
			bounds[i] += n
		}
	}
	schema, buckets := int32(sketch.MaxScale), maps.Clone(h.buckets)
	for len(buckets) > maxNativeBuckets {
		coarser := make(map[int]int64, len(buckets))
		for j, n := range buckets {
			coarser[(j+1)>>1] += n
		}
		schema, buckets = schema-1, coarser
	}
	sum := float64(h.sum) / 1e9
	native, err := prometheus.NewConstNativeHistogram(desc, uint64(count), sum, buckets, nil, uint64(h.zero), schema,
		prometheus.DefNativeHistogramZeroThreshold, created, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return &bothHistograms{native, bounds}
}

// bothHistograms adds classic buckets to a native histogram.
type bothHistograms struct {
	prometheus.Metric
	bounds []int64 // cumulative counts by classic
}

// Write implements prometheus.Metric.
func (h *bothHistograms) Write(out *dto.Metric) error {
	if err := h.Metric.Write(out); err != nil {
		return err
	}
	for i, n := range h.bounds {
		count := uint64(n)
		out.Histogram.Bucket = append(out.Histogram.Bucket, &dto.Bucket{UpperBound: &classic[i], CumulativeCount: &count})
	}
	return nil
}
