//go:build e2e

package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

// calls returns a request of n calls from caller to callee that end now: both halves of each. Every id is new, made of
// the number of the first call.
func calls(caller, callee string, first uint64, n int) ptrace.Traces {
	traces := ptrace.NewTraces()
	spans := map[string]ptrace.SpanSlice{}
	for _, service := range []string{caller, callee} {
		rs := traces.ResourceSpans().AppendEmpty()
		rs.Resource().Attributes().PutStr("service.name", service)
		spans[service] = rs.ScopeSpans().AppendEmpty().Spans()
	}
	end := time.Now()
	for i := range uint64(n) {
		var traceID pcommon.TraceID
		var clientID, serverID pcommon.SpanID
		binary.BigEndian.PutUint64(traceID[:], 0xfa017)
		binary.BigEndian.PutUint64(traceID[8:], first+i+1)
		binary.BigEndian.PutUint64(clientID[:], 2*(first+i+1))
		binary.BigEndian.PutUint64(serverID[:], 2*(first+i+1)+1)
		client, server := spans[caller].AppendEmpty(), spans[callee].AppendEmpty()
		for span, id := range map[ptrace.Span]pcommon.SpanID{client: clientID, server: serverID} {
			span.SetTraceID(traceID)
			span.SetSpanID(id)
			span.SetName("GET")
			span.SetStartTimestamp(pcommon.NewTimestampFromTime(end.Add(-20 * time.Millisecond)))
			span.SetEndTimestamp(pcommon.NewTimestampFromTime(end))
			span.Attributes().PutStr("http.request.method", "GET")
			span.Attributes().PutInt("http.response.status_code", 200)
		}
		client.SetKind(ptrace.SpanKindClient)
		server.SetKind(ptrace.SpanKindServer)
		server.SetParentSpanID(clientID)
	}
	return traces
}

// export sends traces over OTLP/HTTP and returns the status of the answer.
func (c *collector) export(t *testing.T, traces ptrace.Traces) int {
	t.Helper()
	body, err := ptraceotlp.NewExportRequestFromTraces(traces).MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	return c.send(t, http.MethodPost, protobuf, "", body).status
}

// A load sends numbered calls without pause and remembers what was acknowledged, and when.
type load struct {
	otlp   string
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	acked   []time.Time // a time for every acknowledged request
	unknown int         // requests without an answer: they may or may not have been counted
}

const callsPerRequest = 20

func startLoad(t *testing.T, otlp string, first uint64) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{otlp: otlp, cancel: cancel}
	t.Cleanup(l.Stop)
	l.done.Go(func() {
		pace := time.NewTicker(20 * time.Millisecond)
		defer pace.Stop()
		for n := first; ; n += callsPerRequest {
			select {
			case <-ctx.Done():
				return
			case <-pace.C:
			}
			body, err := ptraceotlp.NewExportRequestFromTraces(calls("caller", "callee", n, callsPerRequest)).MarshalProto()
			if err != nil {
				t.Error(err)
				return
			}
			a, err := do(context.Background(), http.MethodPost, "http://"+otlp+"/v1/traces", body, "Content-Type", "application/x-protobuf")
			l.mu.Lock()
			switch {
			case errors.Is(err, syscall.ECONNREFUSED): // never sent
			case err != nil:
				l.unknown++
			case a.status == http.StatusOK:
				l.acked = append(l.acked, time.Now())
			}
			l.mu.Unlock()
		}
	})
	return l
}

// Stop ends the load after the request under way.
func (l *load) Stop() {
	l.cancel()
	l.done.Wait()
}

// count returns how many calls were acknowledged, how many of them before t, and how many have an unknown fate.
func (l *load) count(t time.Time) (acked, before, unknown float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, at := range l.acked {
		acked += callsPerRequest
		if at.Before(t) {
			before += callsPerRequest
		}
	}
	return acked, before, float64(l.unknown) * callsPerRequest
}

// TestCrash kills the collector under load, twice. Each time it is ready again within two seconds, shows its history,
// has lost at most what was acknowledged in the last two seconds, and counts nothing twice.
func TestCrash(t *testing.T) {
	c := newCollector(t)
	var must, may float64 // calls that the graph must have, and that it may have
	for kill := range 2 {
		l := startLoad(t, c.otlp, uint64(kill)<<32)
		// Over the end of a window, so that the crash comes with windows stored, cut and open.
		eventually(t, 30*time.Second, 100*time.Millisecond, func() error {
			if _, before, _ := l.count(time.Now().Add(-12 * time.Second)); before == 0 {
				return errors.New("the load has not run for 12 s")
			}
			return nil
		})
		killed := time.Now()
		c.Kill()
		l.Stop()
		acked, before, unknown := l.count(killed.Add(-2 * time.Second))
		must, may = must+before, may+acked+unknown

		if took := c.Start(t); took > 2*time.Second {
			t.Errorf("kill %d: ready after %v, want at most 2 s", kill, took)
		}
		g, err := c.graph()
		if err != nil {
			t.Fatal(err)
		}
		if err := count(g, must, may); err != nil {
			t.Errorf("kill %d: %v", kill, err)
		}
	}

	// Life goes on: what comes now adds to what was there, in the window that was open as well.
	g, err := c.graph()
	if err != nil {
		t.Fatal(err)
	}
	history := e(g, "caller", "callee").Calls
	l := startLoad(t, c.otlp, 7<<32)
	eventually(t, 10*time.Second, 100*time.Millisecond, func() error {
		if acked, _, _ := l.count(time.Time{}); acked < 50*callsPerRequest {
			return fmt.Errorf("%g calls acknowledged", acked)
		}
		return nil
	})
	l.Stop()
	acked, _, unknown := l.count(time.Time{})
	eventually(t, 15*time.Second, 200*time.Millisecond, func() error {
		g, err := c.graph()
		if err != nil {
			return err
		}
		return count(g, history+acked, history+acked+unknown)
	})
}

// count reports an error unless the one edge there is has between least and most calls.
func count(g *depGraph, least, most float64) error {
	edge, err := g.edge("caller", "callee")
	if err != nil {
		return err
	}
	if len(g.Edges) != 1 {
		return fmt.Errorf("%d edges, want 1; %s", len(g.Edges), g)
	}
	return within("calls", &edge.Calls, least, most)
}

// TestStop asks the collector to end under load: it does so soon and cleanly, and everything it acknowledged is there
// when it starts again.
func TestStop(t *testing.T) {
	c := newCollector(t)
	l := startLoad(t, c.otlp, 0)
	eventually(t, 15*time.Second, 100*time.Millisecond, func() error {
		if acked, _, _ := l.count(time.Time{}); acked < 100*callsPerRequest {
			return fmt.Errorf("%g calls acknowledged", acked)
		}
		return nil
	})
	took, err := c.Stop(t)
	l.Stop()
	if err != nil {
		t.Errorf("the collector ended with: %v", err)
	}
	if took > 10*time.Second {
		t.Errorf("the collector took %v to end, want at most 10 s", took)
	}
	acked, _, unknown := l.count(time.Time{})
	c.Start(t)
	g, err := c.graph()
	if err != nil {
		t.Fatal(err)
	}
	if err := count(g, acked, acked+unknown); err != nil {
		t.Error(err)
	}
}
