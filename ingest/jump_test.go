package ingest

import (
	"testing"
	"time"
)

// A clock that is set back, as one that was fast is, makes nothing wait for as long as it was fast.
func TestClockSetBack(t *testing.T) {
	alone := func(trace byte) tspan {
		return tspan{service: "a", trace: trace, id: 1, kind: kindClient, ms: 5, attrs: map[string]any{
			"http.request.method": "GET", "server.address": "api.example.com", "http.response.status_code": 200,
		}}
	}
	for _, by := range []time.Duration{0, time.Minute, time.Hour, 24 * time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			in, live := newIntake()
			fast := epoch.Add(2*time.Second + by)
			feed(t, in, fast, each(t, moved(by, alone(1))...)...)
			in.Tick(fast)

			// The clock is set to what it is, and another call is made.
			now := epoch.Add(3 * time.Second)
			in.Tick(now)
			feed(t, in, now, each(t, alone(2))...)
			wait(in, now, now.Add(12*time.Second))
			calls := int64(0)
			for _, s := range sums(live) {
				calls += s.Calls
			}
			if calls != 2 {
				t.Errorf("%d of 2 calls count twelve seconds after: %v", calls, briefs(live))
			}

			// What stayed alone is forgotten in its time, and so are the candidates for examples.
			wait(in, now.Add(12*time.Second), now.Add(20*time.Minute))
			if n := in.Counters(); n.Pending != 0 || n.Bytes != 0 {
				t.Errorf("after twenty minutes %d spans and %d bytes are still held", n.Pending, n.Bytes)
			}
		})
	}
}
