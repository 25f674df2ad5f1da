package otlpwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

func TestEveryKeyIsFound(t *testing.T) {
	for k := NoKey + 1; k < numKeys; k++ {
		if keyNames[k] == "" {
			t.Fatalf("key %d has no name", k)
		}
		if got := lookup([]byte(keyNames[k])); got != k {
			t.Errorf("lookup(%q) = %v", keyNames[k], got)
		}
		if got := lookup([]byte(keyNames[k] + "x")); got != NoKey {
			t.Errorf("lookup(%q) = %v, want none", keyNames[k]+"x", got)
		}
	}
	for _, s := range []string{"", "a", "user_agent.original", "thread.name", "http.request.methoe"} {
		if got := lookup([]byte(s)); got != NoKey {
			t.Errorf("lookup(%q) = %v, want none", s, got)
		}
	}
}

// randomTraces makes traces with every kind of field and value, through the official encoder.
func randomTraces(r *rand.Rand) ptrace.Traces {
	td := ptrace.NewTraces()
	for range 1 + r.IntN(3) {
		rs := td.ResourceSpans().AppendEmpty()
		rs.Resource().Attributes().PutStr("service.name", fmt.Sprint("s", r.IntN(9)))
		for range 1 + r.IntN(2) {
			ss := rs.ScopeSpans().AppendEmpty()
			ss.Scope().SetName("scope")
			for range 1 + r.IntN(4) {
				sp := ss.Spans().AppendEmpty()
				var tid [16]byte
				binary.BigEndian.PutUint64(tid[:], r.Uint64())
				sp.SetTraceID(tid)
				var sid [8]byte
				binary.BigEndian.PutUint64(sid[:], r.Uint64())
				sp.SetSpanID(sid)
				if r.IntN(2) == 0 {
					binary.BigEndian.PutUint64(sid[:], r.Uint64())
					sp.SetParentSpanID(sid)
				}
				sp.TraceState().FromRaw([]string{"", "ot=th:8", "a=b"}[r.IntN(3)])
				sp.SetName(string(make([]byte, r.IntN(300))))
				sp.SetKind(ptrace.SpanKind(r.IntN(6)))
				sp.SetStartTimestamp(pcommon.Timestamp(r.Uint64()))
				sp.SetEndTimestamp(pcommon.Timestamp(r.Uint64()))
				sp.SetFlags(r.Uint32())
				sp.Status().SetCode(ptrace.StatusCode(r.IntN(3)))
				sp.Status().SetMessage([]string{"", "boom"}[r.IntN(2)])
				for range r.IntN(12) {
					k := "custom.attribute"
					if r.IntN(3) > 0 {
						k = keyNames[1+r.IntN(int(numKeys)-1)]
					}
					a := sp.Attributes()
					switch r.IntN(8) {
					case 0, 1:
						a.PutStr(k, string(make([]byte, r.IntN(200))))
					case 2, 3:
						a.PutInt(k, int64(r.Uint64()>>r.IntN(64)))
					case 4:
						a.PutDouble(k, r.Float64())
					case 5:
						a.PutBool(k, r.IntN(2) == 0)
					case 6:
						a.PutEmptySlice(k).AppendEmpty().SetStr("first")
					case 7:
						a.PutEmptyMap(k).PutEmptySlice("x").AppendEmpty().SetInt(1)
					}
				}
				for range r.IntN(3) {
					e := sp.Events().AppendEmpty()
					e.SetName([]string{"exception", "log"}[r.IntN(2)])
					e.Attributes().PutStr("exception.type", fmt.Sprint("T", r.IntN(9)))
					e.Attributes().PutStr("exception.message", "m")
				}
				for range r.IntN(3) {
					l := sp.Links().AppendEmpty()
					l.SetTraceID(tid)
					l.SetSpanID(sid)
				}
			}
		}
	}
	return td
}

func encode(t testing.TB, td ptrace.Traces) []byte {
	b, err := ptraceotlp.NewExportRequestFromTraces(td).MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// walk decodes a whole request, as its users do.
func walk(b []byte, sp *Span, each func(*Span)) error {
	for rs := Resources(b); ; {
		r, ok := rs.Next()
		if !ok {
			return rs.Err()
		}
		res, err := Submessage(r)
		if err != nil {
			return err
		}
		if err := Attributes(res, func([]byte, Value) {}); err != nil {
			return err
		}
		scopes := Scopes(r)
		for {
			s, ok := scopes.Next()
			if !ok {
				break
			}
			scope, err := Submessage(s)
			if err != nil {
				return err
			}
			if _, _, err := Scope(scope); err != nil {
				return err
			}
			spans := Spans(s)
			for {
				b, ok := spans.Next()
				if !ok {
					break
				}
				if err := sp.Decode(b); err != nil {
					return err
				}
				if each != nil {
					each(sp)
				}
			}
			if spans.Err() != nil {
				return spans.Err()
			}
		}
		if scopes.Err() != nil {
			return scopes.Err()
		}
	}
}

func TestAgreesWithTheOfficialDecoder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var sp Span
	for range 500 {
		td := randomTraces(r)
		var want []ptrace.Span
		for _, rs := range td.ResourceSpans().All() {
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					want = append(want, s)
				}
			}
		}
		n := 0
		err := walk(encode(t, td), &sp, func(got *Span) {
			w := want[n]
			n++
			tid, sid, pid := w.TraceID(), w.SpanID(), w.ParentSpanID()
			if string(got.Trace) != string(tid[:]) || string(got.ID) != string(sid[:]) {
				t.Fatalf("ids %x/%x, want %x/%x", got.Trace, got.ID, tid, sid)
			}
			if pid.IsEmpty() != (len(got.Parent) == 0) || len(got.Parent) > 0 && string(got.Parent) != string(pid[:]) {
				t.Fatalf("parent %x, want %x", got.Parent, pid)
			}
			if string(got.Name) != w.Name() || got.Kind != uint8(w.Kind()) || got.Start != uint64(w.StartTimestamp()) ||
				got.End != uint64(w.EndTimestamp()) || got.Flags != w.Flags() || got.Status != uint8(w.Status().Code()) ||
				string(got.StatusMessage) != w.Status().Message() || string(got.TraceState) != w.TraceState().AsRaw() ||
				got.NumLinks != w.Links().Len() {
				t.Fatalf("span %+v differs from %v", got, w)
			}
			for k := NoKey + 1; k < numKeys; k++ {
				v, ok := w.Attributes().Get(keyNames[k])
				g := got.Get(k)
				if !ok {
					if g.Type != Absent {
						t.Fatalf("%v = %v, want none", k, g)
					}
					continue
				}
				if v.Type() == pcommon.ValueTypeSlice {
					v = v.Slice().At(0)
				}
				switch v.Type() {
				case pcommon.ValueTypeStr:
					if string(g.Text) != v.Str() || g.Type != Text {
						t.Fatalf("%v = %v, want %q", k, g, v.Str())
					}
				case pcommon.ValueTypeInt:
					if g.Num != v.Int() || g.Type != Int {
						t.Fatalf("%v = %v, want %d", k, g, v.Int())
					}
				case pcommon.ValueTypeDouble:
					if g.Real != v.Double() || g.Type != Real {
						t.Fatalf("%v = %v, want %g", k, g, v.Double())
					}
				case pcommon.ValueTypeBool:
					if (g.Num == 1) != v.Bool() || g.Type != Bool {
						t.Fatalf("%v = %v, want %t", k, g, v.Bool())
					}
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if n != len(want) {
			t.Fatalf("%d spans, want %d", n, len(want))
		}
	}
}

func message(number int, content []byte) []byte {
	b := binary.AppendUvarint(nil, uint64(number)<<3|wireBytes)
	b = binary.AppendUvarint(b, uint64(len(content)))
	return append(b, content...)
}

func nested(depth int) []byte {
	v := []byte{2<<3 | wireVarint, 1}
	for range depth - 1 {
		v = message(5, message(1, v))
	}
	return message(9, append(message(1, []byte("deep")), message(2, v)...))
}

func TestMalformed(t *testing.T) {
	var sp Span
	for _, tt := range []struct {
		name string
		b    []byte
		want error
	}{
		{"nested as deep as allowed", nested(MaxDepth), nil},
		{"nested too deep", nested(MaxDepth + 1), ErrDepth},
		{"truncated attribute", []byte{9<<3 | wireBytes, 10, 1}, ErrTruncated},
		{"truncated time", []byte{7<<3 | wire64, 1, 2}, ErrTruncated},
		{"length beyond 64 bits", []byte{5<<3 | wireBytes, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, ErrVarint},
		{"group", []byte{5<<3 | 3}, ErrWireType},
		{"name as a number", []byte{5<<3 | wireVarint, 1}, ErrWireType},
		{"time as a varint", []byte{7<<3 | wireVarint, 1}, ErrWireType},
		{"attribute as a number", []byte{9<<3 | wireVarint, 1}, ErrWireType},
		{"status code as text", message(15, message(3, []byte("x"))), ErrWireType},
		{"field zero", []byte{wireVarint, 0}, ErrTag},
		{"unknown fields", append(message(1000, []byte("later")), 100<<3&0x7f|0x80, 6, 5), nil},
	} {
		if err := sp.Decode(tt.b); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(4, 2))
	for range 12 {
		f.Add(encode(f, randomTraces(r)))
	}
	f.Add(message(1, message(2, message(2, nested(40)))))
	var sp Span
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := walk(b, &sp, nil); err != nil {
			return
		}
		for _, l := range sp.Links {
			_ = l
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	td := ptrace.NewTraces()
	ss := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty()
	for i := range 100 {
		sp := ss.Spans().AppendEmpty()
		sp.SetTraceID([16]byte{1, byte(i)})
		sp.SetSpanID([8]byte{1, byte(i)})
		sp.SetParentSpanID([8]byte{2, byte(i)})
		sp.SetName("GET /products/{id}")
		sp.SetKind(ptrace.SpanKindClient)
		sp.SetStartTimestamp(1)
		sp.SetEndTimestamp(2)
		a := sp.Attributes()
		a.PutStr("http.request.method", "GET")
		a.PutStr("url.full", "http://catalog.shop.svc.cluster.local:8080/products/4711?currency=EUR")
		a.PutStr("server.address", "catalog.shop.svc.cluster.local")
		a.PutInt("server.port", 8080)
		a.PutInt("http.response.status_code", 200)
		a.PutStr("network.protocol.version", "1.1")
		a.PutStr("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64) shop/1.0")
		a.PutStr("http.route", "/products/{id}")
		a.PutInt("thread.id", 42)
		a.PutStr("thread.name", "worker-7")
	}
	body := encode(b, td)
	b.Run("otlpwire", func(b *testing.B) {
		b.ReportAllocs()
		var sp Span
		for b.Loop() {
			if err := walk(body, &sp, nil); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/span")
	})
	b.Run("pdata", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r := ptraceotlp.NewExportRequest()
			if err := r.UnmarshalProto(body); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/span")
	})
}
