package graph

// Cause is why a call failed, as closely as its spans say: a class of failures, or a kind within one. The zero value is
// none. Calls that failed are kept by the minute under the cause's name in the dimension Caused, with how long they took.
type Cause uint8

// The causes. The first ones are the classes themselves, for failures that say no more, in the order of Failure.
const (
	TLSExpired Cause = Cause(NumFailures) + iota
	TLSUnknownAuthority
	TLSNameMismatch
	TLSProtocol
	Unauthenticated
	Forbidden
	TokenExpired
	NoEndpoint // no healthy endpoint, no route, no cluster
	RateLimited
	Overloaded
	BulkheadFull
	NoConnection  // the pool of connections has none
	Unimplemented // the callee does not know the operation
	Undecodable   // a message that cannot be read
	ProtocolError
	RetryLimit // a proxy gave up trying again
	Injected   // by a test of faults: labelled, and never a reason for an alarm
	NumCauses  = iota + NumFailures
)

var causes = [NumCauses]struct {
	failure Failure
	name    string
}{
	TLSExpired:          {TLS, "expired certificate"},
	TLSUnknownAuthority: {TLS, "unknown authority"},
	TLSNameMismatch:     {TLS, "name mismatch"},
	TLSProtocol:         {TLS, "protocol"},
	Unauthenticated:     {Auth, "not authenticated"},
	Forbidden:           {Auth, "not allowed"},
	TokenExpired:        {Auth, "token expired"},
	NoEndpoint:          {Refused, "no endpoint"},
	RateLimited:         {Throttled, "rate limit"},
	Overloaded:          {Throttled, "overload"},
	BulkheadFull:        {PoolExhausted, "bulkhead full"},
	NoConnection:        {PoolExhausted, "no connection"},
	Unimplemented:       {Contract, "unimplemented"},
	Undecodable:         {Contract, "undecodable"},
	ProtocolError:       {Contract, "protocol"},
	RetryLimit:          {ServerError, "retry limit"},
	Injected:            {ServerError, "injected"},
}

// CauseOf returns the cause that says no more than the class does.
func CauseOf(f Failure) Cause { return Cause(f) }

// Failure returns the class that the cause is of.
func (c Cause) Failure() Failure {
	if int(c) < NumFailures {
		return Failure(c)
	}
	if int(c) < NumCauses {
		return causes[c].failure
	}
	return Unclassified
}

// String returns the cause's name: that of its class, and after a colon what more is known, as "tls: expired certificate".
func (c Cause) String() string {
	if f := c.Failure(); int(c) >= NumFailures && int(c) < NumCauses {
		return f.String() + ": " + causes[c].name
	}
	return c.Failure().String()
}

// Blame is whose fault a failure is, as far as its class says.
type Blame uint8

// Who is to blame.
const (
	BlameUnknown Blame = iota
	BlameCaller
	BlameCallee
	BlameBetween // the network, discovery, a proxy, a certificate's chain
)

var blameNames = [...]string{"unknown", "caller", "callee", "between"}

// String returns the name in the API.
func (b Blame) String() string { return blameNames[b&3] }

// MarshalText writes the name.
func (b Blame) MarshalText() ([]byte, error) { return []byte(b.String()), nil }
