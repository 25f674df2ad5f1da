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
)

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
