package finding

import (
	"slices"
	"testing"

	"faultline/graph"
)

// caused adds n failed calls with a cause that says more than its class.
func (m *minute) caused(n int64, c graph.Cause, ns int64) *minute {
	m.calls(n, c.Failure(), ns)
	plain := m.details[part(graph.Caused, graph.ClientSide, graph.CauseOf(c.Failure()).String())]
	plain.Calls, plain.Raw = plain.Calls-n, plain.Raw-n
	plain.Latency.Add(ns, -n)
	return m.detail(part(graph.Caused, graph.ClientSide, c.String()), n, 0, ns)
}

func TestCausesByName(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    func(m *minute)
		want []string
	}{
		{"every class", func(m *minute) {
			m.calls(1000, graph.None, ms)
			for f := range graph.Failure(graph.NumFailures) {
				if f != graph.None {
					m.calls(50, f, ms)
				}
			}
		}, []string{
			"auth a→b", "breaker_open a→b", "contract a→b", "lost_response a→b", "pool_exhausted a→b", "refused a→b", "reset a→b", "server_error a→b",
			"throttled a→b", "timeout a→b", "tls a→b", "unclassified a→b", "unresolved a→b",
		}},
		{"a kind of a class", func(m *minute) { m.calls(100, graph.None, ms).caused(10, graph.TLSExpired, ms) }, []string{"tls a→b tls: expired certificate"}},
		{"mostly one kind", func(m *minute) {
			m.calls(100, graph.None, ms).caused(10, graph.TokenExpired, ms).caused(2, graph.Forbidden, ms)
		}, []string{"auth a→b auth: token expired"}},
		{"one failure a minute of few calls", func(m *minute) { m.calls(5, graph.None, ms).calls(1, graph.Unresolved, ms) }, []string{"unresolved a→b"}},
		{"one in a thousand", func(m *minute) { m.calls(9990, graph.None, ms).calls(10, graph.ServerError, ms) }, nil},
		{"a test of faults", func(m *minute) { m.calls(100, graph.None, ms).caused(50, graph.Injected, ms) }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) { expect(t, (&system{}).same(ab, tt.f).judge(), tt.want...) })
	}
}

func TestFailingLevels(t *testing.T) {
	for failed, want := range map[int64]graph.Level{20: graph.Warn, 100: graph.Severe} {
		found := (&system{}).same(ab, func(m *minute) { m.calls(1000-failed, graph.None, ms).calls(failed, graph.Reset, ms) }).judge()
		if len(found) != 1 || found[0].Level != want || !near(found[0].Value, float64(failed)/1000) || found[0].N != 2000 {
			t.Errorf("%d of 1000: %+v", failed, found)
		}
	}
	found := (&system{}).same(ab, func(m *minute) {
		m.calls(890, graph.None, ms).caused(75, graph.TLSExpired, ms).caused(25, graph.TLSNameMismatch, ms).calls(10, graph.None, ms)
	}).judge()
	if want := "10 % of the calls fail: certificate or handshake (expired certificate, 75 % of them), n=200 of 2,000"; len(found) != 1 || found[0].Sentence != want {
		t.Errorf("%+v, want %q", found, want)
	}
}

func TestCauses(t *testing.T) {
	m := (&minute{}).calls(60, graph.None, ms).caused(30, graph.TLSExpired, 5*ms).calls(10, graph.Timeout, 2000*ms)
	m.Errors += 20 // from a window that kept no causes
	m.RawErrors += 20
	m.Calls += 20
	m.Failures[graph.Refused] += 20
	causes := Causes(&Sum{Stats: m.EdgeStats, Details: m.details})
	var got []string
	for _, c := range causes {
		got = append(got, c.Name+" "+c.Class.String()+" "+c.Blame.String()+" "+percent(c.Share)+" "+count(c.N))
	}
	want := []string{"tls: expired certificate tls between 50 % 30", "refused refused callee 33 % 20", "timeout timeout callee 17 % 10"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if p := causes[0].P50; p < 4.9e6 || p > 5.1e6 {
		t.Errorf("they took %v", p)
	}
	for f := range graph.Failure(graph.NumFailures) {
		if f != graph.None && (ClassOf(f.String()) != f || sayClass(f) == "") {
			t.Errorf("%s is read as %s, and said %q", f, ClassOf(f.String()), sayClass(f))
		}
	}
	for c := graph.Cause(1); int(c) < graph.NumCauses; c++ {
		if ClassOf(c.String()) != c.Failure() {
			t.Errorf("%s is of %s", c, ClassOf(c.String()))
		}
	}

	// The minute that the span begins in has failures from before it.
	for _, c := range Causes(&Sum{Stats: (&minute{}).calls(10, graph.TLS, ms).EdgeStats, Details: (&minute{}).caused(12, graph.TLSExpired, ms).caused(4, graph.TLSNameMismatch, ms).details}) {
		if want := map[int64]float64{12: .75, 4: .25}[c.Calls]; c.Class == graph.TLS && c.Share != want {
			t.Errorf("%s has %v of the failures, want %v", c.Name, c.Share, want)
		}
	}
}
