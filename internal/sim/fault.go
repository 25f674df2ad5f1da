package sim

import (
	"fmt"
	"time"
)

// FaultKind says what goes wrong.
type FaultKind string

// The kinds of faults, and what each does to its target.
const (
	SlowDatabase       FaultKind = "slow database"       // a database: queries take 40 times as long, and some hit a limit of 2 s
	BadInstance        FaultKind = "bad instance"        // a service: its first instance fails half of its calls and is slow
	RetryStorm         FaultKind = "retry storm"         // a service: it fails most calls, and its callers try four times at once
	ExpiredCertificate FaultKind = "expired certificate" // a service or an external host: callers refuse the handshake, and it sees nothing
	QueueBacklog       FaultKind = "queue backlog"       // a topic: messages wait longer and longer, and are worked off afterwards
	BadDeploy          FaultKind = "bad deploy"          // a service: half of its instances get a new version that fails a quarter of its calls

	SlowService   FaultKind = "slow service"   // a service: its own code takes 60 times as long
	BadZone       FaultKind = "bad zone"       // a service: its instances in the first zone fail 40 % of their calls
	BadCaller     FaultKind = "bad caller"     // a service: its first instance cannot connect for half of the calls that it makes
	ContractBreak FaultKind = "contract break" // a service: half of its instances get a new version that does not know most of the operations

	ServiceDown     FaultKind = "service down"     // a service or an external host: nothing listens there
	UnknownName     FaultKind = "unknown name"     // a service or an external host: its name cannot be resolved
	ConnectionReset FaultKind = "connection reset" // a service: 40 % of the calls to it break off before they arrive
	BreakerOpen     FaultKind = "breaker open"     // a service: its callers' breakers let nine of ten calls not pass
	PoolExhausted   FaultKind = "pool exhausted"   // a service: its callers' pools have no connection for 60 % of the calls
	LostAnswers     FaultKind = "lost answers"     // a service: it answers, and 30 % of the answers do not arrive
	Throttling      FaultKind = "throttling"       // a service: it turns 30 % of the calls away, for two seconds
	TokenExpired    FaultKind = "token expired"    // a service: it does not accept its callers' tokens
	Redelivery      FaultKind = "redelivery"       // a topic: every third message is delivered twice

	SlowInstance   FaultKind = "slow instance"   // a service: its first instance's own code takes 15 times as long
	BadHost        FaultKind = "bad host"        // a service: its instances on its first host fail 40 % of their calls
	FailingQueries FaultKind = "failing queries" // a database: it fails 20 % of the queries and does not say why
	StuckCalls     FaultKind = "stuck calls"     // an external host: it answers one call of a hundred after 40 seconds
	TrafficSurge   FaultKind = "traffic surge"   // user: twice as many requests come
)

// refusal is how a call fails that does not reach its callee.
type refusal struct {
	share float64           // of the calls that fail so; the others pass
	after time.Duration     // median time until the caller knows
	types map[string]string // exception by language; "" for the others
	words string
}

// refusals are the faults that keep calls from their callee.
var refusals = map[FaultKind]refusal{
	ExpiredCertificate: {1, 4 * ms, map[string]string{
		"go": "*tls.CertificateVerificationError", "java": "javax.net.ssl.SSLHandshakeException", "": "CERT_HAS_EXPIRED",
		"python": "ssl.SSLCertVerificationError", "dotnet": "System.Security.Authentication.AuthenticationException",
	}, "certificate has expired or is not yet valid"},
	ServiceDown: {1, ms, map[string]string{
		"go": "*net.OpError", "java": "java.net.ConnectException", "": "ECONNREFUSED",
	}, "connect: connection refused"},
	UnknownName: {1, 3 * ms, map[string]string{
		"go": "*net.DNSError", "java": "java.net.UnknownHostException", "": "ENOTFOUND",
	}, "lookup failed: no such host"},
	ConnectionReset: {0.4, 5 * ms, map[string]string{
		"go": "*net.OpError", "java": "java.net.SocketException", "": "ECONNRESET",
	}, "read: connection reset by peer"},
	BreakerOpen: {0.9, ms / 5, map[string]string{
		"java": "io.github.resilience4j.circuitbreaker.CallNotPermittedException", "": "CircuitBreakerError",
	}, "circuit breaker is open"},
	PoolExhausted: {0.6, 80 * ms, map[string]string{
		"java": "java.sql.SQLTransientConnectionException", "": "Error",
	}, "connection pool exhausted"},
}

// zones are where instances run, one after the other.
var zones = [...]string{"eu-1a", "eu-1b", "eu-1c"}

// Fault is one thing that goes wrong for a while.
type Fault struct {
	Kind   FaultKind
	Target string        // node id of what is at fault
	At     time.Duration // from the start of the script
	For    time.Duration
}

// script tells which faults are on.
type script struct {
	start  time.Time
	period time.Duration // 0: once
	faults []Fault
}

func newScript(faults []Fault, period time.Duration, start time.Time, known func(FaultKind, string) bool) (*script, error) {
	for _, f := range faults {
		if !known(f.Kind, f.Target) {
			return nil, fmt.Errorf("fault %q: no target %s for it", f.Kind, f.Target)
		}
		if f.At < 0 || f.For <= 0 || period > 0 && f.At+f.For > period {
			return nil, fmt.Errorf("fault %q: [%v, %v) is not within the script", f.Kind, f.At, f.At+f.For)
		}
	}
	return &script{start: start, period: period, faults: faults}, nil
}

// refuses returns the fault that keeps calls from the target at the time, if there is one.
func (s *script) refuses(target string, at int64) (FaultKind, bool) {
	for _, f := range s.faults {
		if _, ok := refusals[f.Kind]; ok && f.Target == target && s.on(f.Kind, target, at) {
			return f.Kind, true
		}
	}
	return "", false
}

// offset returns the time within the script, in ns.
func (s *script) offset(at int64) time.Duration {
	d := time.Duration(at - s.start.UnixNano())
	if s.period > 0 && d >= 0 {
		d %= s.period
	}
	return d
}

// on reports whether the target has such a fault at the time, in Unix ns.
func (s *script) on(kind FaultKind, target string, at int64) bool {
	d := s.offset(at)
	for _, f := range s.faults {
		if f.Kind == kind && f.Target == target && d >= f.At && d < f.At+f.For {
			return true
		}
	}
	return false
}

// lag returns how much longer a message waits in the topic because of backlogs.
// A backlog grows by most of the time it lasts and is worked off at twice that
// speed, at the end of the script at the latest.
func (s *script) lag(topic string, at int64) int64 {
	const growth, drain = 0.8, 1.6
	d := s.offset(at)
	var lag time.Duration
	for _, f := range s.faults {
		if f.Kind != QueueBacklog || f.Target != topic || d < f.At {
			continue
		}
		grown := time.Duration(growth * float64(min(d-f.At, f.For)))
		drained := time.Duration(drain * float64(max(0, d-f.At-f.For)))
		lag += max(0, grown-drained)
	}
	return int64(lag)
}
