package ingest

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"faultline/ingest/inflight"
	"faultline/ingest/unary"
)

// stopTimeout is how long requests in flight may take to end once the receiver is stopped.
const stopTimeout = 5 * time.Second

// otlpReceiver is the fast way in: an OTLP/gRPC and an OTLP/HTTP server that check a request's size, encoding and token
// and hand its bytes to the Intake undecoded.
type otlpReceiver struct {
	telemetry component.TelemetrySettings // of the servers
	cfg       *ReceiverConfig
	tee       *tee               // nil unless batches are forwarded
	token     *[sha256.Size]byte // digest of the token, nil if none is asked for
	budget    inflight.Budget

	intake   *Intake
	stopping atomic.Bool
	grpc     *unary.Server
	grpcAddr net.Addr
	http     *http.Server
	httpAddr net.Addr
	serving  sync.WaitGroup
}

func newReceiver(set receiver.Settings, cfg *ReceiverConfig, next consumer.Traces) (*otlpReceiver, error) {
	// The servers' instrumentation would make a span of every request, which may come back to this receiver as the next
	// one, and costs a fifth of what the server does for a call; the Intake counts all that is to be known of requests.
	quiet := set.TelemetrySettings
	quiet.TracerProvider = tracenoop.NewTracerProvider()
	quiet.MeterProvider = metricnoop.NewMeterProvider()
	r := &otlpReceiver{telemetry: quiet, cfg: cfg}
	r.budget.Limit(int64(cfg.MaxInFlightMiB) << 20)
	if cfg.AuthToken != "" {
		sum := sha256.Sum256([]byte(cfg.AuthToken))
		r.token = &sum
	}
	if cfg.Forward {
		var err error
		if r.tee, err = newTee(set, next); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Start listens and serves. It fails when there is no faultline extension, and when the configuration is unsafe. Where its
// error has to do with a key of the configuration, it begins with that.
func (r *otlpReceiver) Start(ctx context.Context, host component.Host) error {
	if err := r.cfg.Validate(); err != nil {
		return err
	}
	var err error
	if r.intake, err = intakeOf(host, "receiver"); err != nil {
		return err
	}
	if cfg := r.cfg.Protocols.GRPC.Get(); cfg != nil {
		if err := r.startGRPC(ctx, host, cfg); err != nil {
			return errors.Join(err, r.Shutdown(ctx))
		}
	}
	if cfg := r.cfg.Protocols.HTTP.Get(); cfg != nil {
		if err := r.startHTTP(ctx, host, cfg); err != nil {
			return errors.Join(err, r.Shutdown(ctx))
		}
	}
	return nil
}

// serve runs a server until it is stopped, and reports it to the Collector if it ends before.
func (r *otlpReceiver) serve(host component.Host, run func() error) {
	r.serving.Go(func() {
		if err := run(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, unary.ErrStopped) {
			componentstatus.ReportStatus(host, componentstatus.NewFatalErrorEvent(err))
		}
	})
}

// Shutdown refuses new requests and waits for those in flight, 5 s at most. May be called more than once, and when
// Start failed or was never called.
func (r *otlpReceiver) Shutdown(ctx context.Context) error {
	r.stopping.Store(true)
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	var stops sync.WaitGroup
	if r.grpc != nil {
		stops.Go(func() { r.grpc.Shutdown(ctx) })
	}
	if r.http != nil {
		stops.Go(func() {
			if r.http.Shutdown(ctx) != nil {
				_ = r.http.Close() // what is left is cut, and closing what is being cut cannot matter
			}
		})
	}
	stops.Wait()
	r.serving.Wait()
	return nil
}

// take hands a request's OTLP bytes to the Intake and, if they count, to the pipeline.
func (r *otlpReceiver) take(ctx context.Context, body []byte) (Result, *refusal) {
	res, err := r.intake.Consume(time.Now(), body)
	if err != nil {
		return res, &refusal{RefusedMalformed, err.Error()} // the Intake has counted it
	}
	if r.tee != nil {
		r.tee.forward(ctx, body)
	}
	return res, nil
}

// refuse counts a request that is refused before the Intake sees it.
func (r *otlpReceiver) refuse(reason, message string) *refusal {
	r.intake.Refuse(reason)
	return &refusal{reason, message}
}

// authorized reports whether a value of the header Authorization carries the token, if one is asked for. What is compared
// are digests, so that the time it takes says nothing of the token, not even its length.
func (r *otlpReceiver) authorized(header string) bool {
	if r.token == nil {
		return true
	}
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	sum := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(sum[:], r.token[:]) == 1
}
