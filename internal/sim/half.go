package sim

import (
	"encoding/binary"
	"time"
)

// Half is one side of an HTTP call, for what a Load does not hold: calls made one at a time, halves that stay alone,
// names by the million.
type Half struct {
	Env, Service string
	Server       bool   // the callee's side
	Peer         string // whom the caller's side names as its server.address; "" names none
	Route        string // the operation
	Trace        uint64 // of the trace id's last half, not zero
	ID, Parent   uint64 // 0 is no parent
	End          time.Time
	Duration     time.Duration
}

// AppendRequest appends an encoded ExportTraceServiceRequest with the halves to buf, neighbours of one service in one
// resource.
func AppendRequest(buf []byte, halves []Half) []byte {
	e := encoder{buf: buf}
	var spans []*span
	for i := range halves {
		h := &halves[i]
		spans = append(spans, h.span())
		if i+1 < len(halves) && halves[i+1].Service == h.Service && halves[i+1].Env == h.Env {
			continue
		}
		e.request(&resource{
			attrs: []attr{str("service.name", h.Service), str("deployment.environment.name", h.Env)},
			scope: "sim", scopeVersion: "1",
		}, spans)
		spans = spans[:0]
	}
	return e.buf
}

func (h *Half) span() *span {
	s := &span{
		flags: flagSampled | flagHasRemote, name: "GET " + h.Route, kind: kindClient,
		start: h.End.Add(-h.Duration).UnixNano(), end: h.End.UnixNano(),
		attrs: []attr{str("http.request.method", "GET"), num("http.response.status_code", 200)},
	}
	binary.BigEndian.PutUint64(s.trace[8:], h.Trace)
	binary.BigEndian.PutUint64(s.id[:], h.ID)
	binary.BigEndian.PutUint64(s.parent[:], h.Parent)
	if h.Peer != "" {
		s.attrs = append(s.attrs, str("server.address", h.Peer))
	}
	if h.Route != "" {
		s.attrs = append(s.attrs, str("http.route", h.Route))
	}
	if h.Server {
		s.kind = kindServer
		if h.Parent != 0 {
			s.flags |= flagRemote
		}
	}
	return s
}
