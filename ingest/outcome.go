package ingest

import (
	"faultline/graph"
	"faultline/ingest/otlpwire"
)

// verdict is how a span ended, by the rules of its protocol and kind.
type verdict struct {
	outcome graph.Outcome
	cause   graph.Cause // of an Error, or of what was Provoked
}

func (v verdict) failure() graph.Failure { return v.cause.Failure() }

var fine = verdict{}

// ended returns the verdict that a cause leads to.
func ended(c graph.Cause) verdict {
	switch c {
	case goneAway:
		return verdict{graph.Cancelled, 0}
	case graph.Injected:
		return verdict{graph.Provoked, c}
	}
	return verdict{graph.Error, c}
}

// judge tells how a call ended. An explicit OK of the instrumented program comes first; then what a proxy says; then the
// protocol's status; then the span's status and what it says of the error. Sources: OpenTelemetry semantic conventions
// for HTTP, RPC and exceptions; 4xx is the caller's own fault on either side, except for 408, 429, and those about
// authentication, which are where the callee alone is seen: see turnedAway.
func judge(sp *otlpwire.Span, protocol graph.Protocol) verdict {
	if sp.Status == uint8(graph.StatusOK) {
		return fine
	}
	status := httpStatus(sp)
	if flags := sp.Text(otlpwire.ResponseFlags); len(flags) > 0 {
		switch c := envoyCause(flags); {
		case c == 0:
		case c == graph.NoEndpoint && status == 404 && sp.Kind == uint8(graph.SpanKindServer):
			return verdict{graph.ClientError, 0} // somebody asked a gateway for what it does not have
		case c == graph.Forbidden && status == 401:
			return ended(graph.Unauthenticated)
		case c.Failure().Guarded() && serves(sp):
			return ended(class(graph.ServerError)) // a breaker before what it calls itself
		default:
			return ended(c)
		}
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
	if status == 0 && len(errorType) == 3 {
		// Old and new conventions put the status there as well.
		if n, ok := number(sp.Get(otlpwire.ErrorType)); ok && n >= 400 && n < 600 {
			status = n
		}
	}
	switch {
	case status >= 400:
		return judgeHTTP(status, sp)
	case sp.Status != uint8(graph.StatusError) && (status > 0 || len(errorType) == 0):
		return fine
	}
	c := classify(sp)
	switch callee := serves(sp); {
	case c == 0 && callee, callee && ofItsOwnCalls(c.Failure()):
		c = class(graph.ServerError)
	case c == 0:
		c = class(graph.Unclassified)
	}
	return ended(c)
}

// serves reports whether a span is a callee's half.
func serves(sp *otlpwire.Span) bool {
	return sp.Kind == uint8(graph.SpanKindServer) || sp.Kind == uint8(graph.SpanKindConsumer)
}

// ofItsOwnCalls reports whether a failure that a callee's words tell of is one of a call that it made itself, whose error it
// passed on: it was reached, so whoever called it had no such trouble.
func ofItsOwnCalls(f graph.Failure) bool {
	return f == graph.Refused || f == graph.Unresolved || f == graph.TLS || f.Guarded()
}

func judgeHTTP(status int64, sp *otlpwire.Span) verdict {
	switch status {
	case 408:
		if sp.Kind == uint8(graph.SpanKindServer) {
			return verdict{graph.ClientError, 0} // the caller was too slow to say what it wants
		}
		return ended(class(graph.Timeout))
	case 504:
		return ended(class(graph.Timeout))
	case 429:
		return ended(kindOf(sp, graph.Throttled, graph.RateLimited))
	case 401, 407:
		return ended(tokenExpired(sp, graph.Unauthenticated))
	case 403:
		return ended(tokenExpired(sp, graph.Forbidden))
	case 421, 495, 496:
		return ended(class(graph.Auth))
	case 499:
		return ended(goneAway)
	case 501:
		return ended(graph.Unimplemented)
	case 505:
		return ended(graph.ProtocolError)
	}
	if status < 500 {
		return verdict{graph.ClientError, 0}
	}
	return ended(sayOrServerError(sp))
}

func judgeRPC(code string, sp *otlpwire.Span) verdict {
	switch code {
	case "CANCELLED":
		return ended(goneAway)
	case "DEADLINE_EXCEEDED":
		return ended(class(graph.Timeout))
	case "RESOURCE_EXHAUSTED":
		if c := classify(sp); c.Failure() == graph.Contract {
			return ended(c) // a message that is too large
		}
		return ended(kindOf(sp, graph.Throttled, class(graph.Throttled)))
	case "UNAUTHENTICATED":
		return ended(tokenExpired(sp, graph.Unauthenticated))
	case "PERMISSION_DENIED":
		return ended(tokenExpired(sp, graph.Forbidden))
	case "UNIMPLEMENTED":
		return ended(graph.Unimplemented)
	case "UNAVAILABLE", "UNKNOWN", "INTERNAL", "DATA_LOSS":
		return ended(sayOrServerError(sp))
	}
	return verdict{graph.ClientError, 0}
}

// sayOrServerError returns what the span says of a failure that a status shows, else that the server failed. A callee that
// answered with such a status speaks of what it did itself, where it does not say that it was not understood.
func sayOrServerError(sp *otlpwire.Span) graph.Cause {
	if c := classify(sp); c != 0 && c != goneAway && (!serves(sp) || c.Failure() == graph.Contract) {
		return c
	}
	return class(graph.ServerError)
}

// tokenExpired returns that the caller's token had expired, if the span says so, else what the status says.
func tokenExpired(sp *otlpwire.Span, otherwise graph.Cause) graph.Cause {
	if kindOf(sp, graph.Auth, otherwise) == graph.TokenExpired {
		return graph.TokenExpired
	}
	return otherwise
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
	otlpwire.RPCStatusCode, otlpwire.RPCResponseStatusCode, otlpwire.RPCGRPCStatusCode, otlpwire.RPCConnectErrorCode,
	otlpwire.GRPCStatusCode,
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
		if c := grpcCode(v.Text); c != "" {
			return c, true
		}
	}
	if c := grpcCode(sp.Text(otlpwire.ErrorType)); c != "" {
		return c, true // some leave it there alone
	}
	return jsonRPCStatus(sp)
}

// grpcCode returns the canonical name of a gRPC status other than OK, from the name in any case, with or without its
// underscores, as each language writes it; "" when it is none.
func grpcCode(text []byte) string {
	if len(text) < len("ABORTED") || len(text) > len("FAILED_PRECONDITION") {
		return ""
	}
	for _, c := range grpcCodes[1:] {
		if sameCode(text, c) {
			return c
		}
	}
	if sameCode(text, "CANCELED") {
		return "CANCELLED"
	}
	return ""
}

// sameCode reports whether text is the name code, in any case, with or without its underscores.
func sameCode(text []byte, code string) bool {
	i := 0
	for _, c := range []byte(code) {
		if c == '_' {
			if i < len(text) && text[i] == '_' {
				i++
			}
			continue
		}
		if i == len(text) || text[i]&^0x20 != c {
			return false
		}
		i++
	}
	return i == len(text)
}

// jsonRPCStatus returns the gRPC status that says what a JSON-RPC error code does; a code of the application's own says
// no more than that the call failed. Source: JSON-RPC 2.0, section 5.1.
func jsonRPCStatus(sp *otlpwire.Span) (name string, ok bool) {
	v := sp.Get(otlpwire.RPCJSONErrorCode)
	code, ok := real(v)
	switch {
	case !ok || code == 0:
		return "", false
	case code == -32601:
		return "UNIMPLEMENTED", true
	case code == -32600 || code == -32602 || code == -32700:
		return "INVALID_ARGUMENT", true
	}
	return "UNKNOWN", true
}
