package sim

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"
)

// LoadConfig says what a Load looks like. Zero values of Edges, Instances,
// RequestSpans, Spans and Spread take DefaultLoad's.
type LoadConfig struct {
	Seed         uint64
	Services     int           // at least 2
	Edges        int           // edges of the whole map, the users' and the databases' included
	Instances    int           // per service
	RequestSpans int           // most spans in one request
	Spans        int           // spans in one pass, about
	Spread       time.Duration // the ends of a pass's traces lie in the Spread before its start
	ErrorRate    float64       // share of attempts that fail
	RetryRate    float64       // share of failed attempts that are tried again, at most twice
	// Sampling holds the W3C threshold ("8" keeps half, "c" a quarter) that the
	// services of each layer sample by, callers first; the last one holds for the
	// deeper layers, and none may keep more than the one before it, so that a
	// kept span's caller is kept too. Every 1/p must be a whole number and a
	// threshold at most two digits long. Empty: everything is kept.
	Sampling        []string
	ShuffleRequests bool // send the requests of a pass in random order
	ShuffleSpans    bool // put the spans of a request in random order
}

// DefaultLoad returns the benchmark's load for the number of services: requests
// of 400 spans and 21 edges at 10 services, of 100 spans at 100, of 41 spans
// and 5277 edges at 1000.
func DefaultLoad(services int) LoadConfig {
	c := LoadConfig{
		Seed: 1, Services: services,
		Edges: services*5277/1000 + 1, Instances: 1, RequestSpans: 48, Spans: 120_000,
		Spread: 2 * time.Second, ErrorRate: 0.02, RetryRate: 0.5,
	}
	switch {
	case services <= 10:
		c.Edges, c.Instances, c.RequestSpans, c.Spans = services*21/10, 3, 400, 60_000
	case services < 1000:
		c.Edges, c.Instances, c.RequestSpans, c.Spans = services*4, 2, 100, 80_000
	case services == 1000:
		c.Edges = 5277
	}
	return c
}

// Load hands out OTLP ExportTraceServiceRequests, encoded beforehand. It cycles
// over the requests of one pass; in each pass every trace and span has new ids
// and the times move to the present. All spans of a request are of one process,
// so the two halves of a call always lie in different requests.
//
// Next costs a copy and a few stores per span and allocates nothing once buf is
// large enough. All methods may be called concurrently.
type Load struct {
	requests []loadRequest
	spans    int
	bytes    int
	attrs    int
	truth    Truth
	seed     uint64

	mu   sync.Mutex
	next int
	pass uint64
	base int64 // Unix ns at which the pass began
}

type loadRequest struct {
	body  []byte
	marks marks
	spans int
}

// NewLoad encodes one pass. It fails on a configuration that cannot be met.
func NewLoad(cfg LoadConfig) (*Load, error) {
	def := DefaultLoad(cfg.Services)
	setDefault(&cfg.Edges, def.Edges)
	setDefault(&cfg.Instances, def.Instances)
	setDefault(&cfg.RequestSpans, def.RequestSpans)
	setDefault(&cfg.Spans, def.Spans)
	setDefault(&cfg.Spread, def.Spread)
	b, err := newLoadBuilder(cfg)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return b.build(), nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Requests returns the number of requests in a pass.
func (l *Load) Requests() int { return len(l.requests) }

// Spans returns the number of spans in a pass.
func (l *Load) Spans() int { return l.spans }

// Bytes returns the number of encoded bytes in a pass.
func (l *Load) Bytes() int { return l.bytes }

// Attributes returns the number of span attributes in a pass.
func (l *Load) Attributes() int { return l.attrs }

// Truth returns what the map must show after one pass that was sent whole. After
// n passes every count is n times that, and the quantiles are the same. The
// Truth is the Load's own.
func (l *Load) Truth() *Truth { return &l.truth }

// Next returns the next request and the number of spans in it. It writes to buf,
// which it grows if need be, and the result belongs to the caller. The spans of
// a pass carry times relative to the now that its first request was asked with.
func (l *Load) Next(buf []byte, now time.Time) (body []byte, spans int) {
	l.mu.Lock()
	if l.next == len(l.requests) {
		l.next = 0
		l.pass++
	}
	if l.next == 0 {
		l.base = now.UnixNano()
	}
	r := &l.requests[l.next]
	l.next++
	pass, base := l.pass, uint64(l.base)
	l.mu.Unlock()

	// The low half of a trace id holds the randomness that samplers go by; its
	// top byte decides, so that byte stays as it was sampled.
	const keepTopOfRandomness = ^uint64(0xff00)
	high := mix(l.seed + 3*pass)
	low := mix(l.seed+3*pass+1) & keepTopOfRandomness
	id := mix(l.seed + 3*pass + 2)

	buf = append(buf[:0], r.body...)
	for _, at := range r.marks.traceIDs {
		b := buf[at : at+16 : at+16]
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^high)
		binary.LittleEndian.PutUint64(b[8:], binary.LittleEndian.Uint64(b[8:])^low)
	}
	for _, at := range r.marks.spanIDs {
		b := buf[at : at+8 : at+8]
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^id)
	}
	for _, at := range r.marks.times {
		b := buf[at : at+8 : at+8]
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)+base)
	}
	return buf, r.spans
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable
// pseudorandom number generators, 2014) after one step of its sequence.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
