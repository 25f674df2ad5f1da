package ingest

import (
	"bytes"
	"slices"

	"faultline/graph"
	"faultline/ingest/otlpwire"
)

// goneAway is no failure: the caller went away.
const goneAway = graph.Cause(graph.NumCauses)

func class(f graph.Failure) graph.Cause { return graph.CauseOf(f) }

// wordRow leads from words that a failed span may say to a cause.
type wordRow struct {
	cause graph.Cause
	words []word
}

// word is a text in lower case, with the place of its first two bytes among those that a text can have.
type word struct {
	text []byte
	pair uint16
}

// pairs is how many pairs of bytes are told apart.
const pairs = 1024

func pairOf(a, b byte) uint16 { return (uint16(a)<<5 ^ uint16(b)) % pairs }

func words(texts ...string) []word {
	out := make([]word, len(texts))
	for i, t := range texts {
		out[i] = word{[]byte(t), pairOf(t[0], t[1])}
	}
	return out
}

// Words of guards that lead to a class and to a kind within it.
var (
	bulkheadWords = words(
		"bulkhead", "rejectedexecution", "could not be queued for execution", "could not acquire a semaphore",
		"hystrix: max concurrency",
	)
	poolWords = words(
		"sqltransientconnection", "pool exhausted", "poolexhausted", "exhaustedpool", "pool is exhausted", "connection pool",
		"queuepool limit", "too many connections", "too many clients", "pool timeout", "pooltimeout", "pool timed out", "pool empty",
		"pool error", "poolacquire", "no connection available", "connection is not available", "pool is full",
		"obtaining a connection from the pool", "waiting for connection from pool", "timeout acquiring a connection",
		"connectionacquiretimeout", "connectionrequesttimeout", "remaining connection slots", "waitqueue",
	)
)

// classWords lead to the class of a failure; the first row of which a word is found counts, so the more telling rows
// come first: what the caller's own guards say before what they say it about, a timeout before the cancellation that it
// was carried out by, and types that are thrown for everything last.
//
// Sources: resilience4j, Polly, gobreaker, hystrix in Java and Go, opossum, Akka and Helidon for breakers and bulkheads;
// HikariCP, DBCP, Tomcat, Jedis, Reactor Netty, SqlClient, SQLAlchemy, sqlx, Sequelize, Knex, PostgreSQL and MySQL for pools;
// Go, OpenSSL, rustls, Java, .NET, Node, Python and Envoy for TLS, names and connections. The names in snake case are those of
// HttpRequestError, which .NET's HttpClient gives as error.type.
var classWords = []wordRow{
	{class(graph.BreakerOpen), words(
		"callnotpermitted", "brokencircuit", "isolatedcircuit", "opencircuit", "circuit breaker", "circuit-breaker",
		"circuit_breaker", "circuitbreaker", "circuit open", "circuit is open", "circuit is now open", "breaker is open", "eopenbreaker",
		"short-circuited", "reset reason: overflow",
	)},
	{class(graph.PoolExhausted), slices.Concat(bulkheadWords, poolWords)},
	{class(graph.TLS), words(
		"x509", "certificate", "cert_", "sslhandshake", "sslpeerunverified", "tls:", "tls handshake", "handshake fail",
		"handshake_fail", "self signed", "self-signed", "self_signed", "unable to verify", "unable_to_verify", "ssl_error",
		"err_ssl", "sslexception", "sslprotocolexception", "sslerror", "wrong version number", "pkix path", "unknown_ca", "tls alert",
		"tls error", "tls_error", "http response to https", "ssl connection could not be established", "secure_connection_error",
		"security.authentication.authenticationexception",
	)},
	{class(graph.Unresolved), words(
		"unknownhost", "nxdomain", "no such host", "enotfound", "eai_again", "eservfail", "name resolution", "nameresolution",
		"name_resolution", "name or service not known", "dns", "getaddrinfo", "nodename nor servname", "gaierror", "dial tcp: lookup ",
		"unresolvedaddress", "could not resolve host", "couldn't resolve host", "failed to lookup address",
	)},
	{class(graph.Refused), words(
		"econnrefused", "connection refused", "connectionrefused", "no healthy upstream", "no available", "no instances available",
		"no servers available", "no endpoints", "zero addresses", "loadbalancer", "no route to host", "ehostunreach", "enetunreach",
		"network is unreachable", "actively refused", "refused. check that the hostname",
	)},
	{class(graph.Timeout), words("httpclient.timeout", "timeoutcancellation", "timeoutexception", "timed out", "due to timeout")},
	{goneAway, words(
		"context canceled", "context cancelled", "aborterror", "operationcanceled", "taskcanceled", "cancellationexception",
		"cancellederror", "client disconnected", "asyncio.exceptions.cancellederror",
	)},
	{class(graph.Timeout), words(
		"timeout", "time out", "time-out", "time_out", "timed-out", "timed_out", "timedout", "deadline",
	)},
	{class(graph.Contract), words(
		"unmarshal", "deserial", "jsonmapping", "jsonparse", "jsonsyntax", "jsondecodeerror", "mismatchedinput",
		"invalidprotocolbuffer", "invalid wire-format", "looking for beginning of value", "in json at position", "message larger than max",
		"unsupported media", "unimplemented", "unknown service", "unknown method", "protocol error", "protocolexception",
		"err_http2_protocol", "http_protocol_error", "version_negotiation_error",
	)},
	{class(graph.Reset), words(
		"econnreset", "connection reset", "epipe", "broken pipe", "unexpected eof", "\neof\n", ": eof\n", "eofexception", "goaway",
		"rst_stream", "socket hang up", "socket closed", "connection closed", "premature close", "prematureclose", "ended prematurely",
		"response_ended", "transport is closing", "und_err_socket", "remote end closed", "server closed idle connection",
		"connection aborted", "econnaborted", "serverdisconnected", "server disconnected", "closedchannel", "nohttpresponse",
		"failed to respond", "end of file from server", "forcibly closed", "closed network connection",
		"closed the connection unexpectedly", "lost connection to", "server has gone away", "reset reason: connection termination",
		"reset reason: remote reset", "reset reason: local reset",
	)},
	{class(graph.Throttled), words(
		"too many requests", "toomanyrequests", "throttl", "rate limit", "ratelimit", "rate_limit", "requestnotpermitted", "quota",
		"overload", "load shed", "resource_exhausted", "resource exhausted", "resourceexhausted",
	)},
	{class(graph.Auth), words(
		"unauthorized", "unauthenticated", "permission denied", "permission_denied", "permissiondenied", "access denied",
		"accessdenied", "invalid_token", "invalid token", "token expired", "token is expired", "token has expired",
		"tokenexpired", "expired token", "expiredtoken", "jwt", "forbidden", "authentication failed", "authentication required",
		"wrongpass", "badcredentials", "user_authentication_error",
	)},
	{class(graph.BreakerOpen), words("hystrixruntime")},
	{class(graph.TLS), words("ssl routines", "[ssl:")},
	{class(graph.Refused), words(
		"connectexception", "failed to connect", "connection error", "connection_error", "connecterror", "cannot connect to host",
		"connect call failed", "all connection attempts failed", "newconnectionerror", "failed to establish a new connection",
		"could not connect to server", "couldn't connect to server", "remote connection failure", "reset reason: connection failure",
	)},
}

// kindWords lead from a class to a cause within it, by what else the span says; as with classWords the first counts.
var kindWords = [graph.NumFailures][]wordRow{
	graph.TLS: {
		{graph.TLSExpired, words("expired", "not yet valid", "not_yet_valid", "nottimevalid", "notafter", "notbefore", "date_invalid")},
		{graph.TLSNameMismatch, words(
			"altname", "doesn't match", "does not match", "not valid for", "notvalidforname", "is valid for", "hostname mismatch",
			"name mismatch", "no alternative certificate subject name", "no subject alternative", "no name matching",
			"cannot validate certificate for", "namemismatch", "peerunverified", "common_name_invalid", "legacy common name",
			"not match the name", "ip address mismatch", "ip sans",
		)},
		{graph.TLSUnknownAuthority, words(
			"unknown authority", "unknown certificate authority", "self signed", "self-signed", "self_signed", "unable to verify",
			"unable_to_verify", "local issuer", "issuer_cert", "issuer certificate", "unknownissuer", "unknown ca", "unknown_ca",
			"path building failed", "valid certification path", "trust anchor", "authority_invalid", "certificate_verify_failed",
			"certificate verify failed", "certificate is not trusted", "partialchain", "untrustedroot",
		)},
		{graph.TLSProtocol, words(
			"protocol version", "protocol_version", "'protocolversion'", "unsupported protocol", "unsupported_protocol",
			"wrong version number", "wrong_version_number", "no protocols", "no appropriate protocol", "no shared cipher",
			"no_shared_cipher", "no cipher", "cipher mismatch", "handshake_failure", "handshake failure", "does not look like a tls",
			"not an ssl/tls", "unrecognized ssl", "oversized record", "http response to https", "inappropriate_fallback",
			"plaintext connection",
		)},
	},
	graph.Refused: {
		{graph.NoEndpoint, words(
			"no healthy upstream", "no available", "no instances available", "no servers available", "no endpoints",
			"zero addresses", "loadbalancer",
		)},
	},
	graph.PoolExhausted: {
		{graph.BulkheadFull, bulkheadWords},
		{graph.NoConnection, poolWords},
	},
	graph.Throttled: {
		{graph.Overloaded, words("overload", "load shed")},
		{graph.RateLimited, words(
			"too many requests", "toomanyrequests", "throttl", "rate limit", "ratelimit", "rate_limit", "requestnotpermitted", "quota",
		)},
	},
	graph.Auth: {
		{graph.TokenExpired, words(
			"token expired", "token is expired", "token has expired", "tokenexpired", "expired token", "expiredtoken", "jwt expired",
		)},
		{graph.Forbidden, words(
			"forbidden", "permission denied", "permission_denied", "permissiondenied", "access denied", "accessdenied",
		)},
		{graph.Unauthenticated, words(
			"unauthorized", "unauthenticated", "invalid_token", "invalid token", "jwt", "authentication failed",
			"authentication required", "wrongpass", "badcredentials", "user_authentication_error",
		)},
	},
	graph.Contract: {
		{graph.Undecodable, words(
			"unmarshal", "deserial", "jsonmapping", "jsonparse", "jsonsyntax", "jsondecodeerror", "mismatchedinput",
			"invalidprotocolbuffer", "invalid wire-format", "looking for beginning of value", "in json at position",
			"message larger than max", "unsupported media",
		)},
		{graph.Unimplemented, words("unimplemented", "unknown service", "unknown method")},
		{graph.ProtocolError, words(
			"protocol error", "protocolexception", "err_http2_protocol", "http_protocol_error", "version_negotiation_error",
		)},
	},
}

// maxWordText is how much of each of a span's texts is searched for words.
const maxWordText = 256

// said is what a failed span says of its failure, in lower case, a line each: its error type, its exception and its status
// message. A line's end comes before the first one too, so that a word may be a whole line.
type said struct {
	buf   [1 + 5*(maxWordText+1)]byte
	n     int
	pairs [pairs / 64]uint64 // which pairs of bytes are in it: most words' are not
}

func (t *said) read(texts ...[]byte) {
	last := byte('\n')
	for _, text := range texts {
		if len(text) == 0 {
			continue
		}
		if t.n == 0 {
			t.buf[0] = '\n'
			t.n = 1
		}
		for _, c := range text[:min(len(text), maxWordText)] {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			t.buf[t.n] = c
			t.n++
			p := pairOf(last, c)
			t.pairs[p/64] |= 1 << (p % 64)
			last = c
		}
		t.buf[t.n] = '\n' // no word goes over from one text to the next
		t.n++
		last = '\n'
	}
}

func (t *said) readAll(sp *otlpwire.Span) {
	t.read(sp.Text(otlpwire.ErrorType), sp.ExceptionType, sp.Text(otlpwire.ExceptionType), sp.ExceptionMessage, sp.StatusMessage)
}

// namesBreaker reports whether the type of a span's error is one of a breaker, rather than that words of its message are.
func namesBreaker(sp *otlpwire.Span) bool {
	var t said
	t.read(sp.Text(otlpwire.ErrorType), sp.ExceptionType, sp.Text(otlpwire.ExceptionType))
	return t.find(classWords).Failure() == graph.BreakerOpen
}

// find returns the cause of the first row of which a word was said, 0 when none was.
func (t *said) find(rows []wordRow) graph.Cause {
	text := t.buf[:t.n]
	for i := range rows {
		for _, w := range rows[i].words {
			if t.pairs[w.pair/64]&(1<<(w.pair%64)) != 0 && bytes.Contains(text, w.text) {
				return rows[i].cause
			}
		}
	}
	return 0
}

// kind returns the closest cause of a class, given what was said.
func (t *said) kind(f graph.Failure) graph.Cause {
	if c := t.find(kindWords[f]); c != 0 {
		return c
	}
	return class(f)
}

// classify says why a failed span failed, by what it says; 0 when nothing tells.
func classify(sp *otlpwire.Span) graph.Cause {
	var t said
	t.readAll(sp)
	if t.n == 0 {
		return 0
	}
	// The breaker of gobreaker, half open, says no more than a server would.
	if bytes.Contains(t.buf[:t.n], []byte("\ntoo many requests\n")) && httpStatus(sp) == 0 {
		return class(graph.BreakerOpen)
	}
	c := t.find(classWords)
	if c == 0 || c == goneAway {
		return c
	}
	return t.kind(c.Failure())
}

// kindOf returns the closest cause of a class that is known from elsewhere.
func kindOf(sp *otlpwire.Span, f graph.Failure, otherwise graph.Cause) graph.Cause {
	var t said
	t.readAll(sp)
	if c := t.find(kindWords[f]); c != 0 {
		return c
	}
	return otherwise
}

// envoyFlags are the response flags of Envoy's access log that say how a request ended, by their short and long names.
// What the comments of Envoy's documentation say of each is said here by the cause.
var envoyFlags = map[string]graph.Cause{
	"UH": graph.NoEndpoint, "NoHealthyUpstream": graph.NoEndpoint,
	"NR": graph.NoEndpoint, "NoRouteFound": graph.NoEndpoint,
	"NC": graph.NoEndpoint, "NoClusterFound": graph.NoEndpoint,
	"LH": graph.NoEndpoint, "FailedLocalHealthCheck": graph.NoEndpoint,
	"NFCF": graph.NoEndpoint, "NoFilterConfigFound": graph.NoEndpoint,
	"UF": class(graph.Refused), "UpstreamConnectionFailure": class(graph.Refused),
	"DF": class(graph.Unresolved), "DnsResolutionFailed": class(graph.Unresolved),
	"UO": class(graph.BreakerOpen), "UpstreamOverflow": class(graph.BreakerOpen),
	"UT": class(graph.Timeout), "UpstreamRequestTimeout": class(graph.Timeout),
	"DT": class(graph.Timeout), "DurationTimeout": class(graph.Timeout),
	"SI": class(graph.Timeout), "StreamIdleTimeout": class(graph.Timeout),
	"UMSDR": class(graph.Timeout), "UpstreamMaxStreamDurationReached": class(graph.Timeout),
	"UC": class(graph.Reset), "UpstreamConnectionTermination": class(graph.Reset),
	"UR": class(graph.Reset), "UpstreamRemoteReset": class(graph.Reset),
	"LR": class(graph.Reset), "LocalReset": class(graph.Reset), "ConnectionTermination": class(graph.Reset),
	"RL": graph.RateLimited, "RateLimited": graph.RateLimited,
	"RLSE": class(graph.ServerError), "RateLimitServiceError": class(graph.ServerError),
	"UAEX": graph.Forbidden, "UnauthorizedExternalService": graph.Forbidden,
	"IH": graph.ProtocolError, "InvalidEnvoyRequestHeaders": graph.ProtocolError,
	"DPE": graph.ProtocolError, "DownstreamProtocolError": graph.ProtocolError,
	"UPE": graph.ProtocolError, "UpstreamProtocolError": graph.ProtocolError,
	"OM": graph.Overloaded, "OverloadManagerTerminated": graph.Overloaded, "OverloadManager": graph.Overloaded,
	"DO": graph.Overloaded, "DropOverLoad": graph.Overloaded,
	"UDO": graph.Overloaded, "UnconditionalDropOverload": graph.Overloaded,
	"DI": graph.Injected, "DelayInjected": graph.Injected,
	"FI": graph.Injected, "FaultInjected": graph.Injected,
	"URX": graph.RetryLimit, "UpstreamRetryLimitExceeded": graph.RetryLimit,
	"DC": goneAway, "DownstreamConnectionTermination": goneAway,
	"DR": goneAway, "DownstreamRemoteReset": goneAway,
}

// hasFlag reports whether one of the flags says c.
func hasFlag(flags []byte, c graph.Cause) bool {
	for f := range bytes.SplitSeq(flags, []byte{','}) {
		if envoyFlags[string(bytes.TrimSpace(f))] == c {
			return true
		}
	}
	return false
}

// flagRank orders the flags of one request by how much they say: what a test did before all, a reason before the limit
// of retries that it led to, and that the caller left last.
func flagRank(c graph.Cause) int {
	switch c {
	case 0:
		return 0
	case goneAway:
		return 1
	case graph.RetryLimit:
		return 2
	case graph.Injected:
		return 4
	}
	return 3
}

// envoyCause returns what a list of Envoy's response flags says, 0 when it says nothing: "-", or flags that are no failure.
func envoyCause(flags []byte) graph.Cause {
	var best graph.Cause
	for f := range bytes.SplitSeq(flags, []byte{','}) {
		if c := envoyFlags[string(bytes.TrimSpace(f))]; flagRank(c) > flagRank(best) {
			best = c
		}
	}
	return best
}
