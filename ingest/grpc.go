package ingest

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/encoding/protowire"
)

// startGRPC starts the OTLP/gRPC server. Of a request's bytes, what is being received is bounded by the size of a message
// and the number of streams; from there on the budget holds.
func (r *otlpReceiver) startGRPC(ctx context.Context, host component.Host, cfg *configgrpc.ServerConfig) error {
	server, err := cfg.ToServer(ctx, host.GetExtensions(), r.telemetry,
		configgrpc.WithGrpcServerOption(grpc.ForceServerCodecV2(rawCodec{})),
		configgrpc.WithGrpcServerOption(experimental.BufferPool(&pool)),
		// Calls run on goroutines whose stacks have grown already.
		configgrpc.WithGrpcServerOption(grpc.NumStreamWorkers(uint32(8*runtime.GOMAXPROCS(0)))),
		configgrpc.WithGrpcServerOption(grpc.MaxHeaderListSize(maxHeaderBytes)),
		configgrpc.WithGrpcServerOption(grpc.InTapHandle(r.admit)),
		configgrpc.WithGrpcServerOption(grpc.StatsHandler(transportRefusals{r})),
	)
	if err != nil {
		return fmt.Errorf("protocols::grpc: %w", err)
	}
	listener, err := cfg.NetAddr.Listen(ctx)
	if err != nil {
		return fmt.Errorf("protocols::grpc::endpoint: %w", err)
	}
	r.grpc, r.grpcAddr = server, listener.Addr()
	server.RegisterService(&traceService, newExportHandler(r))
	r.serve(host, func() error { return server.Serve(listener) })
	return nil
}

// admit says whether a call's message may be read at all. It runs once per call, whatever its method.
func (r *otlpReceiver) admit(ctx context.Context, call *tap.Info) (context.Context, error) {
	if r.stopping.Load() {
		return nil, r.refuse(RefusedStopping, "stopping").status().Err()
	}
	if r.token != nil {
		var header string
		if values := call.Header["authorization"]; len(values) == 1 {
			header = values[0]
		}
		if !r.authorized(header) {
			return nil, r.refuse(RefusedUnauthenticated, "want authorization: Bearer <token>").status().Err()
		}
	}
	return ctx, nil
}

// traceService is the TraceService of opentelemetry/proto/collector/trace/v1, over undecoded messages.
var traceService = grpc.ServiceDesc{
	ServiceName: "opentelemetry.proto.collector.trace.v1.TraceService",
	HandlerType: (*any)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Export", Handler: serveExport}},
	Metadata:    "opentelemetry/proto/collector/trace/v1/trace_service.proto",
}

// exportHandler answers Export. It holds what interceptors ask for, so that a call allocates none of it.
type exportHandler struct {
	receiver *otlpReceiver
	info     grpc.UnaryServerInfo
	handle   grpc.UnaryHandler
}

func newExportHandler(r *otlpReceiver) *exportHandler {
	h := &exportHandler{receiver: r}
	h.info = grpc.UnaryServerInfo{Server: h, FullMethod: "/" + traceService.ServiceName + "/Export"}
	h.handle = h.export
	return h
}

func serveExport(srv any, ctx context.Context, receive func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // grpc.MethodHandler gives the order
	h := srv.(*exportHandler)
	req := requests.Get().(*request)
	defer req.free()
	req.budget = &h.receiver.budget
	if err := receive(req); err != nil {
		return nil, err
	}
	if intercept == nil {
		return h.export(ctx, req)
	}
	return intercept(ctx, req, &h.info, h.handle)
}

func (h *exportHandler) export(ctx context.Context, in any) (any, error) {
	req := in.(*request)
	if req.overloaded {
		return nil, h.receiver.refuse(RefusedOverloaded, errOverloaded.Error()).status().Err()
	}
	var bytes []byte
	if req.buf != nil {
		bytes = req.buf.ReadOnlyData()
	}
	res, refused := h.receiver.take(ctx, bytes)
	if refused != nil {
		return nil, refused.status().Err()
	}
	if res.Rejected == 0 {
		return accepted, nil
	}
	return response(appendResponse(nil, res)), nil
}

// request is one received message, undecoded.
type request struct {
	budget     *budget
	buf        mem.Buffer // nil if nothing, or not enough room, was there
	overloaded bool       // the budget had no room
}

var requests = sync.Pool{New: func() any { return new(request) }}

// free gives the message back and the request itself, which must not be used any more.
func (req *request) free() {
	if req.buf != nil {
		req.budget.give(int64(req.buf.Len()))
		req.buf.Free()
	}
	*req = request{}
	requests.Put(req)
}

// response is an encoded ExportTraceServiceResponse.
type response []byte

// accepted is the answer when every span counts: no field set, partial_success neither.
var accepted any = response(nil)

// appendResponse encodes what became of a request's spans.
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

// rawCodec hands messages over as they came: without a copy when a message is one buffer, as one of up to a frame is.
type rawCodec struct{}

// Name is the content subtype that the codec stands in for.
func (rawCodec) Name() string { return "proto" }

// Unmarshal takes data over into v. Having no room for it is no error here, since grpc-go would call any INTERNAL.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	req := v.(*request)
	size := data.Len()
	if size == 0 {
		return nil
	}
	if !req.budget.take(int64(size)) {
		req.overloaded = true
		return nil
	}
	req.buf = data.MaterializeToBuffer(&pool)
	return nil
}

// Marshal lends v's bytes.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	b := v.(response)
	if len(b) == 0 {
		return nil, nil
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

// transportRefusals counts the calls that grpc-go refuses by itself, before any handler: a message over the limit, an
// encoding it does not know, a message that broke off.
type transportRefusals struct{ receiver *otlpReceiver }

func (transportRefusals) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (transportRefusals) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	return ctx
}

func (transportRefusals) HandleConn(context.Context, stats.ConnStats) {}

func (t transportRefusals) HandleRPC(_ context.Context, event stats.RPCStats) {
	end, ok := event.(*stats.End)
	if !ok || end.Error == nil {
		return
	}
	s := status.Convert(end.Error)
	if !strings.HasPrefix(s.Message(), "grpc: ") {
		return // an answer of ours, counted where it was given
	}
	switch s.Code() {
	case codes.ResourceExhausted:
		t.receiver.intake.Refuse(RefusedTooLarge)
	case codes.Unimplemented:
		t.receiver.intake.Refuse(RefusedUnsupported)
	default:
		t.receiver.intake.Refuse(RefusedIncomplete)
	}
}
