package graph

// Outcome is how a call ended, as far as the edge's health is concerned. Only Error counts in error rates.
type Outcome uint8

// The outcomes.
const (
	OK          Outcome = iota
	ClientError         // the caller's own fault, such as a 404: in traffic, not in errors
	Error
	Cancelled // the caller went away: in traffic, not in errors
	Provoked  // a test of faults made it fail, or wait: in traffic and under its cause, not in errors
)

// Failure is the class of why a call failed. None is not a failure.
type Failure uint8

// The classes of failures, as the API names them.
const (
	None          Failure = iota
	Timeout               // nobody answered in time
	Refused               // nothing listens there, or no healthy endpoint
	Unresolved            // the name is not known
	TLS                   // certificate or handshake
	Auth                  // not authenticated, or not allowed
	Throttled             // too many requests
	BreakerOpen           // the caller's own breaker did not let it pass
	PoolExhausted         // the caller's own pool or bulkhead was full
	Reset                 // the connection broke
	Contract              // caller and callee do not understand each other
	LostResponse          // the callee answered well, the caller saw a failure
	ServerError           // the callee failed
	Unclassified          // failed, and the span does not say why
	NumFailures   = iota
)

var failureNames = [NumFailures]string{
	"", "timeout", "refused", "unresolved", "tls", "auth", "throttled", "breaker_open", "pool_exhausted", "reset",
	"contract", "lost_response", "server_error", "unclassified",
}

// String returns the class's name in the API; "" for None.
func (f Failure) String() string {
	if int(f) < NumFailures {
		return failureNames[f]
	}
	return failureNames[Unclassified]
}

// MarshalText writes the class's name.
func (f Failure) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// Guarded reports whether the caller's own guard refused the call, so that the callee never saw it.
func (f Failure) Guarded() bool { return f == BreakerOpen || f == PoolExhausted }
