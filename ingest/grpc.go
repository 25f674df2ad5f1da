package ingest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	otelclient "go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/extension/extensionauth"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"faultline/ingest/inflight"
	"faultline/ingest/unary"
)

// exportMethod is the one that the server knows.
const exportMethod = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

// startGRPC starts the OTLP/gRPC server.
func (r *otlpReceiver) startGRPC(ctx context.Context, host component.Host, cfg *configgrpc.ServerConfig) error {
	c := unary.Config{
		MaxMessage: cfg.MaxRecvMsgSizeMiB << 20,
		MaxStreams: int(cfg.MaxConcurrentStreams),
		MaxHeader:  maxHeaderBytes,
		ReadBuffer: cfg.ReadBufferSize,
		Blocking:   r.tee != nil,
		Hint:       "This port speaks OTLP/gRPC. OTLP/HTTP has a port of its own, 4318 by default.\n",
	}
	if cfg.TLS.HasValue() {
		var err error
		if c.TLS, err = cfg.TLS.Get().LoadTLSConfig(ctx); err != nil {
			return fmt.Errorf("protocols::grpc::tls: %w", err)
		}
		c.TLS.NextProtos = []string{"h2"}
	}
	if keepalive := cfg.Keepalive.Get(); keepalive != nil {
		if p := keepalive.ServerParameters.Get(); p != nil {
			c.MaxIdle, c.MaxAge, c.AgeGrace = p.MaxConnectionIdle, p.MaxConnectionAge, p.MaxConnectionAgeGrace
			c.PingAfter, c.PingTimeout = p.Time, p.Timeout
		}
		if p := keepalive.EnforcementPolicy.Get(); p != nil {
			c.MinPing, c.PingIdle = p.MinTime, p.PermitWithoutStream
		}
	}
	// What grpc-go takes for what is not said.
	c.PingAfter, c.PingTimeout, c.MinPing = cmp.Or(c.PingAfter, 2*time.Hour), cmp.Or(c.PingTimeout, 20*time.Second), cmp.Or(c.MinPing, 5*time.Minute)
	h := &exportHandler{receiver: r, limit: int64(c.MaxMessage), metadata: cfg.IncludeMetadata}
	if cfg.Auth.HasValue() {
		var err error
		if h.auth, err = cfg.Auth.Get().GetServerAuthenticator(ctx, host.GetExtensions()); err != nil {
			return fmt.Errorf("protocols::grpc::auth: %w", err)
		}
	}
	c.Header = h.auth != nil || h.metadata && r.tee != nil
	listener, err := cfg.NetAddr.Listen(ctx)
	if err != nil {
		return fmt.Errorf("protocols::grpc::endpoint: %w", err)
	}
	r.grpc, r.grpcAddr = unary.New(c, h, &r.budget), listener.Addr()
	r.serve(host, func() error { return r.grpc.Serve(listener) })
	return nil
}

// exportHandler answers Export.
type exportHandler struct {
	receiver *otlpReceiver
	limit    int64                // bytes of a message
	auth     extensionauth.Server // nil: none but the receiver's token
	metadata bool                 // pass a call's header on with what is forwarded
}

// Admit says whether a call's message may be read at all.
func (h *exportHandler) Admit(call *unary.Call) *status.Status {
	r := h.receiver
	switch {
	case r.stopping.Load():
		return r.refuse(RefusedStopping, "stopping").status()
	case !r.authorized(call.Authorization):
		return r.refuse(RefusedUnauthenticated, "want authorization: Bearer <token>").status()
	case call.Path != exportMethod:
		return r.refuse(RefusedUnsupported, "want "+exportMethod).status()
	case call.Encoding != "" && call.Encoding != "identity" && codings[call.Encoding] == nil:
		return r.refuse(RefusedUnsupported, "want grpc-encoding gzip, zstd, deflate or identity").status()
	}
	if h.auth != nil {
		ctx, err := h.auth.Authenticate(call.Context, call.Header)
		if err != nil {
			return r.refuse(RefusedUnauthenticated, err.Error()).status()
		}
		call.Context = ctx
	}
	if r.tee != nil {
		info := otelclient.FromContext(call.Context)
		info.Addr = call.Peer
		if h.metadata {
			info.Metadata = otelclient.NewMetadata(call.Header)
		}
		call.Context = otelclient.NewContext(call.Context, info)
	}
	return nil
}

// Handle decompresses a message, hands it over and says what became of it.
func (h *exportHandler) Handle(call *unary.Call) ([]byte, *status.Status) {
	otlp := call.Message
	b := inflight.Body{Budget: &h.receiver.budget}
	defer b.Free()
	if call.Compressed {
		if refused := h.decompress(&b, call); refused != nil {
			return nil, refused.status()
		}
		otlp = b.Bytes()
	}
	res, refused := h.receiver.take(call.Context, otlp)
	if refused != nil {
		return nil, refused.status()
	}
	return appendResponse(nil, res), nil
}

func (h *exportHandler) decompress(b *inflight.Body, call *unary.Call) *refusal {
	r := h.receiver
	coding := codings[call.Encoding]
	if coding == nil {
		return r.refuse(RefusedMalformed, "the message says that it is compressed, grpc-encoding does not say how")
	}
	c, err := coding.reader(bytes.NewReader(call.Message))
	if err == nil {
		err = b.ReadAll(c, h.limit, -1)
		_ = c.Close()
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, inflight.ErrTooLarge):
		return r.refuse(RefusedTooLarge, fmt.Sprintf("message %v of %d bytes", err, h.limit))
	case errors.Is(err, inflight.ErrOverloaded):
		return r.refuse(RefusedOverloaded, err.Error())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return r.refuse(RefusedMalformed, "the compressed message breaks off")
	default:
		return r.refuse(RefusedMalformed, "message: "+err.Error())
	}
}

// Refuse counts what the server refuses by itself.
func (h *exportHandler) Refuse(why unary.Fault) *status.Status {
	r := h.receiver
	switch why {
	case unary.TooLarge:
		return r.refuse(RefusedTooLarge, fmt.Sprintf("message %v of %d bytes", inflight.ErrTooLarge, h.limit)).status()
	case unary.TooManyHeaders:
		return r.refuse(RefusedTooLarge, fmt.Sprintf("header %v of %d bytes", inflight.ErrTooLarge, maxHeaderBytes)).status()
	case unary.Overloaded:
		return r.refuse(RefusedOverloaded, inflight.ErrOverloaded.Error()).status()
	case unary.Unsupported:
		return r.refuse(RefusedUnsupported, "want POST with content-type application/grpc").status()
	default:
		return r.refuse(RefusedIncomplete, "the message did not arrive whole").status()
	}
}

// appendResponse encodes what became of a request's spans as an ExportTraceServiceResponse.
func appendResponse(dst []byte, res Result) []byte {
	if res.Rejected == 0 {
		return dst
	}
	partial := protowire.AppendTag(nil, 1, protowire.VarintType)
	partial = protowire.AppendVarint(partial, uint64(res.Rejected))
	if res.Message != "" {
		partial = protowire.AppendTag(partial, 2, protowire.BytesType)
		partial = protowire.AppendString(partial, strings.ToValidUTF8(res.Message, "\uFFFD"))
	}
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	return protowire.AppendBytes(dst, partial)
}
