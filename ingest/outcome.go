package ingest

import (
	"bytes"
	"strconv"

	"faultline/graph"
	"faultline/ingest/otlpwire"
)

// verdict is how a span ended, by the rules of its protocol and kind.
type verdict struct {
	outcome graph.Outcome
	failure graph.Failure
}

var fine = verdict{graph.OK, graph.None}

func failed(f graph.Failure) verdict { return verdict{graph.Error, f} }

// judge tells how a call ended. An explicit OK of the instrumented program comes first; then the protocol's status; then
// the span's status and what it says of the error. Sources: OpenTelemetry semantic conventions for HTTP, RPC and
// exceptions; 4xx is the caller's own fault on either side, except for 408, 429, and those about authentication.
func judge(sp *otlpwire.Span, protocol graph.Protocol) verdict {
	if sp.Status == uint8(graph.StatusOK) {
		return fine
	}
	errorType := sp.Text(otlpwire.ErrorType)
	if protocol == graph.GRPC || protocol == graph.RPC {
		if code, ok := rpcStatus(sp); ok {
			if code == "" {
				return fine
			}
			return judgeRPC(code, sp)
		}
	}
	if status := httpStatus(sp); status > 0 {
		switch {
		case status < 400:
			if sp.Status != uint8(graph.StatusError) {
				return fine
			}
		default:
			return judgeHTTP(status, sp)
		}
	}
	if sp.Status != uint8(graph.StatusError) && len(errorType) == 0 {
		return fine
	}
	f := classify(sp)
	if f == cancelled {
		return verdict{graph.Cancelled, graph.None}
	}
	if f == graph.None {
		f = graph.Unclassified
		if sp.Kind == uint8(graph.SpanKindServer) || sp.Kind == uint8(graph.SpanKindConsumer) {
			f = graph.ServerError
		}
	}
	return failed(f)
}

func judgeHTTP(status int64, sp *otlpwire.Span) verdict {
	switch status {
	case 408:
		return failed(graph.Timeout)
	case 429:
		return failed(graph.Throttled)
	case 401, 403, 407, 421, 495, 496:
		return failed(graph.Auth)
	case 499:
		return verdict{graph.Cancelled, graph.None}
	}
	if status < 500 {
		return verdict{graph.ClientError, graph.None}
	}
	if status == 504 {
		return failed(graph.Timeout)
	}
	if f := classify(sp); f != graph.None && f != cancelled {
		return failed(f)
	}
	return failed(graph.ServerError)
}

func judgeRPC(code string, sp *otlpwire.Span) verdict {
	switch code {
	case "CANCELLED":
		return verdict{graph.Cancelled, graph.None}
	case "DEADLINE_EXCEEDED":
		return failed(graph.Timeout)
	case "RESOURCE_EXHAUSTED":
		return failed(graph.Throttled)
	case "UNAUTHENTICATED", "PERMISSION_DENIED":
		return failed(graph.Auth)
	case "UNIMPLEMENTED":
		return failed(graph.Contract)
	case "UNAVAILABLE":
		if f := classify(sp); f != graph.None && f != cancelled {
			return failed(f)
		}
		return failed(graph.ServerError)
	case "UNKNOWN", "INTERNAL", "DATA_LOSS":
		if f := classify(sp); f != graph.None && f != cancelled {
			return failed(f)
		}
		return failed(graph.ServerError)
	}
	return verdict{graph.ClientError, graph.None}
}

// httpStatus returns the response's status code, sent as a number or, by some proxies, as a text; 0 when there is none.
func httpStatus(sp *otlpwire.Span) int64 {
	for _, k := range [2]otlpwire.Key{otlpwire.HTTPResponseStatusCode, otlpwire.HTTPStatusCode} {
		if n, ok := number(sp.Get(k)); ok && n >= 100 && n < 600 {
			return n
		}
	}
	return 0
}

// number returns an integer that came as any type of number, or as a text.
func number(v otlpwire.Value) (int64, bool) {
	switch v.Type {
	case otlpwire.Int:
		return v.Num, true
	case otlpwire.Real:
		return int64(v.Real), v.Real == float64(int64(v.Real))
	case otlpwire.Text:
		if len(v.Text) == 0 || len(v.Text) > 18 {
			return 0, false
		}
		n := int64(0)
		for _, c := range v.Text {
			if c < '0' || c > '9' {
				return 0, false
			}
			n = n*10 + int64(c-'0')
		}
		return n, true
	}
	return 0, false
}

var rpcStatusKeys = [...]otlpwire.Key{
	otlpwire.RPCStatusCode, otlpwire.RPCResponseStatusCode, otlpwire.RPCGRPCStatusCode, otlpwire.GRPCStatusCode,
	otlpwire.RPCConnectErrorCode,
}

var grpcCodes = [...]string{
	"", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
	"DATA_LOSS", "UNAUTHENTICATED",
}

// rpcStatus returns the canonical name of a call's gRPC status, "" for OK. Conventions have put it under three names so
// far, as a number or as a name in upper or, for Connect, lower case.
func rpcStatus(sp *otlpwire.Span) (name string, ok bool) {
	for _, k := range rpcStatusKeys {
		v := sp.Get(k)
		if v.Type == otlpwire.Absent {
			continue
		}
		if n, ok := number(v); ok {
			if n >= 0 && int(n) < len(grpcCodes) {
				return grpcCodes[n], true
			}
			continue
		}
		if string(v.Text) == "OK" || string(v.Text) == "ok" {
			return "", true
		}
		for _, c := range grpcCodes[1:] {
			if len(c) == len(v.Text) && bytes.EqualFold(v.Text, []byte(c)) {
				return c, true
			}
		}
		if string(v.Text) == "canceled" {
			return "CANCELLED", true
		}
	}
	return "", false
}

// cancelled is no failure: the caller went away.
const cancelled = graph.Failure(graph.NumFailures)

// failureWords lead from what a failed span says to a class; the first that is found counts, so the more telling ones
// come first. All are lower case.
var failureWords = []struct {
	class graph.Failure
	words []string
}{
	{graph.BreakerOpen, []string{
		"callnotpermitted", "brokencircuit", "isolatedcircuit", "circuit breaker", "circuitbreaker", "short-circuited",
		"hystrixruntime", "reset reason: overflow",
	}},
	{graph.PoolExhausted, []string{
		"bulkheadfull", "rejectedexecution", "bulkheadrejected", "sqltransientconnection", "pool exhausted",
		"connection pool", "too many connections", "pool timeout",
	}},
	{graph.TLS, []string{
		"x509", "certificate", "cert_", "sslhandshake", "sslpeerunverified", "tls:", "tls handshake", "handshake fail",
		"self signed", "self-signed", "unable to verify", "ssl_error", "sslexception",
	}},
	{graph.Unresolved, []string{
		"unknownhost", "nxdomain", "no such host", "enotfound", "eai_again", "name resolution", "name or service not known",
		"dns", "getaddrinfo", "nodename nor servname",
	}},
	{graph.Refused, []string{
		"econnrefused", "connection refused", "connectexception", "no healthy upstream", "no available", "loadbalancer",
		"no route to host", "ehostunreach", "failed to connect", "actively refused",
	}},
	{cancelled, []string{"context canceled", "context cancelled", "aborterror", "operationcanceled", "cancellationexception"}},
	{graph.Timeout, []string{
		"timeout", "timed out", "timed-out", "timed_out", "timedout", "deadline", "etimedout", "esockettimedout",
	}},
	{graph.Reset, []string{
		"econnreset", "connection reset", "epipe", "broken pipe", "unexpected eof", "goaway", "socket hang up",
		"connection closed", "premature close", "transport is closing", "und_err_socket",
	}},
	{graph.Throttled, []string{"too many requests", "throttl", "rate limit", "ratelimit"}},
	{graph.Auth, []string{"unauthorized", "unauthenticated", "permission denied", "invalid_token", "token expired", "jwt", "forbidden"}},
	{graph.Contract, []string{"unmarshal", "deserial", "jsonmapping", "unsupported media", "protocol error"}},
}

// classify says why a failed span failed, by its response flags, its error type and what its exception and status say;
// None when nothing tells.
func classify(sp *otlpwire.Span) graph.Failure {
	if flags := sp.Text(otlpwire.ResponseFlags); len(flags) > 0 {
		if f := envoyFlag(flags); f != graph.None {
			return f
		}
	}
	for _, text := range [...][]byte{
		sp.Text(otlpwire.ErrorType), sp.ExceptionType, sp.Text(otlpwire.ExceptionType), sp.ExceptionMessage, sp.StatusMessage,
	} {
		if f := classifyText(text); f != graph.None {
			return f
		}
	}
	return graph.None
}

func classifyText(text []byte) graph.Failure {
	if len(text) == 0 {
		return graph.None
	}
	var buf [256]byte
	n := copy(buf[:], text)
	lower := buf[:n]
	for i, c := range lower {
		if 'A' <= c && c <= 'Z' {
			lower[i] = c + 'a' - 'A'
		}
	}
	if len(lower) == 3 { // an HTTP status as error.type
		if status, err := strconv.Atoi(string(lower)); err == nil && status >= 400 {
			switch {
			case status == 408 || status == 504:
				return graph.Timeout
			case status == 429:
				return graph.Throttled
			case status >= 500:
				return graph.ServerError
			}
		}
	}
	for i := range failureWords {
		for _, w := range failureWords[i].words {
			if bytes.Contains(lower, []byte(w)) {
				return failureWords[i].class
			}
		}
	}
	return graph.None
}

// envoyFlags are the response flags of Envoy's access log that say why a request failed.
var envoyFlags = map[string]graph.Failure{
	"UH": graph.Refused, "UF": graph.Refused, "NR": graph.Unresolved, "NC": graph.Unresolved, "DF": graph.Unresolved,
	"UO": graph.BreakerOpen, "UT": graph.Timeout, "DT": graph.Timeout, "SI": graph.Timeout, "UMSDR": graph.Timeout,
	"UC": graph.Reset, "UR": graph.Reset, "LR": graph.Reset, "RL": graph.Throttled, "UAEX": graph.Auth,
	"UPE": graph.Contract, "DPE": graph.Contract, "OM": graph.Throttled, "DO": graph.Throttled, "UDO": graph.Throttled,
	"DC": cancelled,
}

func envoyFlag(flags []byte) graph.Failure {
	for f := range bytes.SplitSeq(flags, []byte{','}) {
		if c, ok := envoyFlags[string(bytes.TrimSpace(f))]; ok {
			return c
		}
	}
	return graph.None
}
