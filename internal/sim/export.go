package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// An Exporter sends one encoded ExportTraceServiceRequest and waits for the
// answer. It returns how many of its spans the receiver rejected singly
// (partial_success); an error means that none was taken, and *OverloadError that
// the same request may be sent again. The body must not be changed before
// Export has returned, and not at all if it failed. Implementations may be used
// concurrently.
type Exporter interface {
	Export(ctx context.Context, body []byte) (rejected int64, err error)
}

// OverloadError is the error of a request that was refused for now.
type OverloadError struct{ Err error }

func (o *OverloadError) Error() string { return "refused for now: " + o.Err.Error() }
func (o *OverloadError) Unwrap() error { return o.Err }

// GRPC exports over OTLP/gRPC, without compression and without TLS.
type GRPC struct {
	conns []*grpc.ClientConn
	next  atomic.Uint64
}

// DialGRPC returns an exporter to the host:port that spreads its requests over
// the number of connections. Connections are made when they are first used.
// Close must be called.
func DialGRPC(endpoint string, connections int) (*GRPC, error) {
	g := &GRPC{}
	for range max(connections, 1) {
		conn, err := grpc.NewClient("passthrough:///"+endpoint,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("dial %s: %w", endpoint, err), g.Close())
		}
		g.conns = append(g.conns, conn)
	}
	return g, nil
}

// Close closes the connections.
func (g *GRPC) Close() error {
	var errs []error
	for _, c := range g.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Export implements [Exporter].
func (g *GRPC) Export(ctx context.Context, body []byte) (int64, error) {
	conn := g.conns[g.next.Add(1)%uint64(len(g.conns))]
	var answer []byte
	err := conn.Invoke(ctx, "/opentelemetry.proto.collector.trace.v1.TraceService/Export", body, &answer)
	switch status.Code(err) {
	case codes.OK:
		return rejectedSpans(answer)
	case codes.Unavailable, codes.ResourceExhausted:
		return 0, &OverloadError{err}
	}
	return 0, fmt.Errorf("export: %w", err)
}

// rawCodec passes encoded messages through. Its name makes the content type
// the one of protobuf messages.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// HTTP exports over OTLP/HTTP with protobuf bodies.
type HTTP struct {
	url    string
	client *http.Client
}

// NewHTTP returns an exporter to the URL, the path (/v1/traces) included. The
// zero client is http.DefaultClient.
func NewHTTP(url string, client *http.Client) *HTTP {
	if client == nil {
		client = http.DefaultClient
	}
	return &HTTP{url: url, client: client}
}

// Export implements [Exporter].
func (h *HTTP) Export(ctx context.Context, body []byte) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("export: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := h.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("export: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return 0, fmt.Errorf("export: read answer: %w", err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return rejectedSpans(answer)
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return 0, &OverloadError{errors.New(resp.Status)}
	}
	return 0, fmt.Errorf("export: %s", resp.Status)
}

var errAnswer = errors.New("answer is not an ExportTraceServiceResponse")

// rejectedSpans reads partial_success.rejected_spans of an
// ExportTraceServiceResponse.
func rejectedSpans(answer []byte) (int64, error) {
	partial, _, err := field1(answer)
	if err != nil {
		return 0, err
	}
	_, rejected, err := field1(partial)
	return int64(rejected), err
}

// field1 returns the value of the message's field 1, length-delimited or
// varint, and skips other fields of these two types.
func field1(msg []byte) (data []byte, v uint64, err error) {
	for len(msg) > 0 {
		tag, n := binary.Uvarint(msg)
		if n <= 0 {
			return nil, 0, errAnswer
		}
		msg = msg[n:]
		x, n := binary.Uvarint(msg)
		if n <= 0 {
			return nil, 0, errAnswer
		}
		msg = msg[n:]
		var body []byte
		switch tag & 7 {
		case wireVarint:
		case wireBytes:
			if x > uint64(len(msg)) {
				return nil, 0, errAnswer
			}
			body, msg = msg[:x], msg[x:]
		default:
			return nil, 0, errAnswer
		}
		if tag>>3 == 1 {
			data, v = body, x
		}
	}
	return data, v, nil
}

// DriveConfig says how a Load is sent.
type DriveConfig struct {
	Streams  int     // requests in flight; 0 means 1
	Requests int     // requests to send; whole passes make the Load's Truth hold
	Rate     float64 // spans per second; 0 means as fast as they are taken
}

// Sent counts what became of the requests of a Drive.
type Sent struct {
	Requests int64 // handed to the exporter, each once
	Spans    int64 // in them
	Bytes    int64 // in them
	Acked    int64 // spans that were acknowledged
	Rejected int64 // spans that were rejected singly
	Refused  int64 // attempts that were refused for now, and repeated
	Failed   int64 // requests that were refused for good or given up
}

// Drive sends the Load's next requests and waits for the answers. What is
// refused for now is sent again with a backoff of up to a second, until ctx
// ends. Drive returns the first error that made a request fail, after all
// streams have stopped.
func Drive(ctx context.Context, e Exporter, l *Load, cfg DriveConfig) (Sent, error) {
	var (
		sent  sentCounters
		taken atomic.Int64
		wg    sync.WaitGroup
		once  sync.Once
		first error
		began = time.Now()
	)
	for range max(cfg.Streams, 1) {
		wg.Go(func() {
			var buf []byte
			for ctx.Err() == nil && taken.Add(1) <= int64(cfg.Requests) {
				body, spans := l.Next(buf, time.Now())
				due := sent.spans.Add(int64(spans)) - int64(spans)
				sent.requests.Add(1)
				sent.bytes.Add(int64(len(body)))
				if cfg.Rate > 0 {
					sleep(ctx, time.Until(began.Add(time.Duration(float64(due)/cfg.Rate*1e9))))
				}
				rejected, refused, err := sendUntilTaken(ctx, e, body)
				sent.refused.Add(refused)
				buf = body
				if refused > 0 || err != nil {
					buf = nil // the transport may still read it
				}
				if err != nil {
					sent.failed.Add(1)
					once.Do(func() { first = err })
					continue
				}
				sent.acked.Add(int64(spans) - rejected)
				sent.rejected.Add(rejected)
			}
		})
	}
	wg.Wait()
	return sent.load(), first
}

type sentCounters struct {
	requests, spans, bytes, acked, rejected, refused, failed atomic.Int64
}

func (s *sentCounters) load() Sent {
	return Sent{
		Requests: s.requests.Load(), Spans: s.spans.Load(), Bytes: s.bytes.Load(), Acked: s.acked.Load(),
		Rejected: s.rejected.Load(), Refused: s.refused.Load(), Failed: s.failed.Load(),
	}
}

// sendUntilTaken repeats what is refused for now, and counts how often it was.
func sendUntilTaken(ctx context.Context, e Exporter, body []byte) (rejected, refused int64, err error) {
	const firstPause, longestPause = 20 * time.Millisecond, time.Second
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		rejected, err = e.Export(ctx, body)
		var overload *OverloadError
		if !errors.As(err, &overload) {
			return rejected, refused, err
		}
		refused++
		sleep(ctx, pause)
		if ctx.Err() != nil {
			return 0, refused, err
		}
	}
}

// sleep returns after d or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
