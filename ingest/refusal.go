package ingest

import (
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// The reasons for which the doors refuse a request before Intake.Consume sees it, as counted by Intake.Refuse.
const (
	RefusedMalformed       = "malformed"       // cannot be decompressed, or is not JSON of OTLP
	RefusedTooLarge        = "too_large"       // larger than the limit, as sent or after decompression
	RefusedUnsupported     = "unsupported"     // a content type or an encoding that is not spoken here
	RefusedUnauthenticated = "unauthenticated" // no token, or a wrong one
	RefusedIncomplete      = "incomplete"      // did not arrive in time, or the sender went away
	RefusedOverloaded      = "overloaded"      // no room among the bytes in flight
	RefusedStopping        = "stopping"        // the process is on its way down
)

// outcomes are what can become of a request.
var outcomes = [...]string{
	"ok", "partial", RefusedMalformed, RefusedTooLarge, RefusedUnsupported, RefusedUnauthenticated, RefusedIncomplete, RefusedOverloaded, RefusedStopping,
}

// retryAfter is how long a sender that may come again is asked to wait first.
const retryAfter = time.Second

// An answer says a reason in the words of both protocols. Only what is retryable asks the sender to come again: a
// sender repeats a batch until it is taken, so a retryable answer to a permanent fault makes poison circulate.
type answer struct {
	grpc      codes.Code
	http      int
	retryable bool
}

var answers = map[string]answer{
	RefusedMalformed:       {codes.InvalidArgument, 400, false},
	RefusedTooLarge:        {codes.ResourceExhausted, 413, false},
	RefusedUnsupported:     {codes.Unimplemented, 415, false},
	RefusedUnauthenticated: {codes.Unauthenticated, 401, false},
	RefusedIncomplete:      {codes.Canceled, 408, false},
	RefusedOverloaded:      {codes.ResourceExhausted, 429, true},
	RefusedStopping:        {codes.Unavailable, 503, true},
}

// A refusal is a request that was not taken, why, and what to tell its sender.
type refusal struct {
	reason  string
	message string
}

// status returns the refusal as gRPC says it, with the time to wait where coming again may help.
func (r *refusal) status() *status.Status {
	a := answers[r.reason]
	s := status.New(a.grpc, r.message)
	if !a.retryable {
		return s
	}
	detailed, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	if err != nil {
		return s // a detail that cannot be encoded does not change the answer
	}
	return detailed
}

// httpStatus returns the refusal's HTTP status code, and the value of Retry-After or "".
func (r *refusal) httpStatus() (code int, retry string) {
	a := answers[r.reason]
	if a.retryable {
		retry = strconv.Itoa(int(retryAfter / time.Second))
	}
	return a.http, retry
}
