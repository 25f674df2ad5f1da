package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver is an OTLP receiver on pdata's own server code. answer, if set,
// decides over the n-th request, counted from 1.
type receiver struct {
	ptraceotlp.UnimplementedGRPCServer
	answer func(n int, resp ptraceotlp.ExportResponse) error

	mu       sync.Mutex
	requests int
	spans    int
	bodies   [][]byte // of the requests taken
}

func (r *receiver) Export(_ context.Context, req ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	resp := ptraceotlp.NewExportResponse()
	if r.answer != nil {
		if err := r.answer(r.requests, resp); err != nil {
			return resp, err
		}
	}
	r.spans += req.Traces().SpanCount()
	body, err := req.MarshalProto()
	r.bodies = append(r.bodies, body)
	return resp, err
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	export := ptraceotlp.NewExportRequest()
	if err == nil {
		err = export.UnmarshalProto(body)
	}
	if err != nil || req.URL.Path != "/v1/traces" || req.Header.Get("Content-Type") != "application/x-protobuf" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	resp, err := r.Export(req.Context(), export)
	switch status.Code(err) {
	case codes.OK:
		out, _ := resp.MarshalProto()
		_, _ = w.Write(out)
	case codes.Unavailable:
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		w.WriteHeader(http.StatusBadRequest)
	}
}

// serve starts the receiver and returns an exporter of each kind to it.
func serve(t *testing.T, r *receiver) map[string]Exporter {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	ptraceotlp.RegisterGRPCServer(srv, r)
	go func() { _ = srv.Serve(lis) }()
	t.Cleanup(srv.Stop)
	client, err := DialGRPC(lis.Addr().String(), 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	web := httptest.NewServer(r)
	t.Cleanup(web.Close)
	return map[string]Exporter{"grpc": client, "http": NewHTTP(web.URL+"/v1/traces", web.Client())}
}

func TestDrive(t *testing.T) {
	for _, kind := range []string{"grpc", "http"} {
		for _, tt := range []struct {
			name    string
			answer  func(n int, resp ptraceotlp.ExportResponse) error
			want    func(l *Load) Sent
			wantErr bool
		}{
			{
				"all taken", nil,
				func(l *Load) Sent { return Sent{Acked: int64(2 * l.Spans())} },
				false,
			},
			{
				"some rejected singly",
				func(n int, resp ptraceotlp.ExportResponse) error {
					if n == 3 {
						resp.PartialSuccess().SetRejectedSpans(7)
						resp.PartialSuccess().SetErrorMessage("seven of them")
					}
					return nil
				},
				func(l *Load) Sent { return Sent{Acked: int64(2*l.Spans()) - 7, Rejected: 7} },
				false,
			},
			{
				"refused for now",
				func(n int, _ ptraceotlp.ExportResponse) error {
					if n%20 == 0 {
						return status.Error(codes.Unavailable, "busy")
					}
					return nil
				},
				func(l *Load) Sent {
					return Sent{Acked: int64(2 * l.Spans()), Refused: int64((2*l.Requests() - 1) / 19)}
				},
				false,
			},
			{
				"refused for good",
				func(int, ptraceotlp.ExportResponse) error { return status.Error(codes.InvalidArgument, "no") },
				func(l *Load) Sent { return Sent{Failed: int64(2 * l.Requests())} },
				true,
			},
		} {
			t.Run(kind+" "+tt.name, func(t *testing.T) {
				r := &receiver{answer: tt.answer}
				l, err := NewLoad(small())
				if err != nil {
					t.Fatal(err)
				}
				got, err := Drive(t.Context(), serve(t, r)[kind], l, DriveConfig{Streams: 4, Requests: 2 * l.Requests()})
				if (err != nil) != tt.wantErr {
					t.Errorf("error %v, want one: %v", err, tt.wantErr)
				}
				want := tt.want(l)
				want.Requests, want.Spans, want.Bytes = int64(2*l.Requests()), int64(2*l.Spans()), int64(2*l.Bytes())
				if got != want {
					t.Errorf("sent %+v, want %+v", got, want)
				}
				if tt.wantErr {
					return
				}
				if r.spans != 2*l.Spans() {
					t.Errorf("received %d spans, sent %d", r.spans, 2*l.Spans())
				}
			})
		}
	}
}

// What arrives must be what Next gives, whatever streams share the Load.
func TestDriveSendsEveryRequestOnce(t *testing.T) {
	r := &receiver{}
	l, err := NewLoad(small())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Drive(t.Context(), serve(t, r)["grpc"], l, DriveConfig{Streams: 8, Requests: l.Requests()}); err != nil {
		t.Fatal(err)
	}
	want := truthOf(l.Truth())
	got := recount(t, decode(t, r.bodies), once)
	for e, tr := range want {
		if g := got[e]; g.Calls != tr.Calls || g.Errors != tr.Errors || len(g.Server) != len(tr.Server) {
			t.Errorf("edge %v: got %d calls, %d errors, %d server spans, want %d, %d, %d", e, g.Calls, g.Errors, len(g.Server), tr.Calls, tr.Errors, len(tr.Server))
		}
	}
}

func TestDriveStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := &receiver{answer: func(int, ptraceotlp.ExportResponse) error {
		cancel()
		return status.Error(codes.Unavailable, "for ever")
	}}
	l, err := NewLoad(small())
	if err != nil {
		t.Fatal(err)
	}
	sent, err := Drive(ctx, serve(t, r)["grpc"], l, DriveConfig{Streams: 3, Requests: 1 << 30})
	if err == nil || sent.Acked != 0 || sent.Failed == 0 {
		t.Errorf("sent %+v, error %v: want failures only", sent, err)
	}
}

func TestDriveKeepsItsRate(t *testing.T) {
	l, err := NewLoad(small())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	sent, err := Drive(t.Context(), serve(t, &receiver{})["grpc"], l, DriveConfig{Streams: 2, Requests: 20, Rate: 2000})
	if err != nil {
		t.Fatal(err)
	}
	// The last request is due when all spans before it have had their time.
	least := time.Duration(float64(sent.Spans-int64(small().RequestSpans)) / 2000 * 1e9)
	if took := time.Since(began); took < least {
		t.Errorf("%d spans at 2000 per second took %v, want at least %v", sent.Spans, took, least)
	}
}

func FuzzRejectedSpans(f *testing.F) {
	resp := ptraceotlp.NewExportResponse()
	resp.PartialSuccess().SetRejectedSpans(300)
	resp.PartialSuccess().SetErrorMessage("too old")
	body, err := resp.MarshalProto()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte{})
	f.Add(binary.AppendUvarint([]byte{0x0a}, 1<<63))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := rejectedSpans(body)
		want := ptraceotlp.NewExportResponse()
		if err != nil || want.UnmarshalProto(body) != nil {
			return
		}
		// The canonical form of what pdata read must read the same here.
		canonical, err := want.MarshalProto()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(canonical, body) && got != want.PartialSuccess().RejectedSpans() {
			t.Errorf("rejected %d, pdata reads %d", got, want.PartialSuccess().RejectedSpans())
		}
	})
}
