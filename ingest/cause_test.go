package ingest

import (
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"faultline/graph"
	"faultline/ingest/otlpwire"
)

// decoded returns a span as the decoder sees it.
func decoded(t testing.TB, kind ptrace.SpanKind, attrs map[string]any, change func(ptrace.Span)) *otlpwire.Span {
	t.Helper()
	td := ptrace.NewTraces()
	sp := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	sp.SetKind(kind)
	putAttributes(sp.Attributes(), attrs)
	if change != nil {
		change(sp)
	}
	body, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
	if err != nil {
		t.Fatal(err)
	}
	resources := otlpwire.Resources(body)
	rs, _ := resources.Next()
	scopes := otlpwire.Scopes(rs)
	ss, _ := scopes.Next()
	spans := otlpwire.Spans(ss)
	raw, _ := spans.Next()
	out := new(otlpwire.Span)
	if err := out.Decode(raw); err != nil {
		t.Fatal(err)
	}
	return out
}

func failing(message string) func(ptrace.Span) {
	return func(sp ptrace.Span) {
		sp.Status().SetCode(ptrace.StatusCodeError)
		sp.Status().SetMessage(message)
	}
}

func thrown(kind, message string) func(ptrace.Span) {
	return func(sp ptrace.Span) {
		sp.Status().SetCode(ptrace.StatusCodeError)
		e := sp.Events().AppendEmpty()
		e.SetName("exception")
		e.Attributes().PutStr("exception.type", kind)
		e.Attributes().PutStr("exception.message", message)
	}
}

// What a failed client span says, and the cause that it is: the words of each library as it throws them.
func TestWords(t *testing.T) {
	for _, tt := range []struct{ said, want string }{
		// Breakers.
		{"io.github.resilience4j.circuitbreaker.CallNotPermittedException", "breaker_open"},
		{"io.github.resilience4j.circuitbreaker.CircuitBreakerOpenException", "breaker_open"},
		{"Polly.CircuitBreaker.BrokenCircuitException", "breaker_open"},
		{"Polly.CircuitBreaker.IsolatedCircuitException", "breaker_open"},
		{"circuit breaker is open", "breaker_open"},
		{"too many requests", "breaker_open"}, // gobreaker, half open
		{"CircuitBreakerError", "breaker_open"},
		{"akka.pattern.CircuitBreakerOpenException", "breaker_open"},
		{"io.helidon.faulttolerance.CircuitBreakerOpenException", "breaker_open"},
		{"catalog short-circuited and fallback failed.", "breaker_open"},
		{"com.netflix.hystrix.exception.HystrixRuntimeException", "breaker_open"},
		{"upstream connect error or disconnect/reset before headers. reset reason: overflow", "breaker_open"},
		{"The circuit is now open and is not allowing calls.", "breaker_open"},
		{"hystrix: circuit open", "breaker_open"},
		{"EOPENBREAKER", "breaker_open"},
		{"OpenCircuitError", "breaker_open"},
		// Bulkheads and pools.
		{"io.github.resilience4j.bulkhead.BulkheadFullException", "pool_exhausted: bulkhead full"},
		{"java.util.concurrent.RejectedExecutionException", "pool_exhausted: bulkhead full"},
		{"Polly.Bulkhead.BulkheadRejectedException", "pool_exhausted: bulkhead full"},
		{"catalog could not be queued for execution and fallback failed.", "pool_exhausted: bulkhead full"},
		{"catalog could not acquire a semaphore for execution", "pool_exhausted: bulkhead full"},
		{"java.sql.SQLTransientConnectionException: HikariPool-1 - Connection is not available, request timed out after 30000ms.", "pool_exhausted: no connection"},
		{"connection pool exhausted", "pool_exhausted: no connection"},
		{"QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30.00", "pool_exhausted: no connection"},
		{"FATAL: sorry, too many clients already", "pool_exhausted: no connection"},
		{"Error 1040: Too many connections", "pool_exhausted: no connection"},
		{"httpx.PoolTimeout", "pool_exhausted: no connection"},
		{"redis: connection pool timeout", "pool_exhausted: no connection"},
		{"hystrix: max concurrency", "pool_exhausted: bulkhead full"},
		{"redis.clients.jedis.exceptions.JedisExhaustedPoolException: Could not get a resource since the pool is exhausted", "pool_exhausted: no connection"},
		{"HikariPool-1 - Connection is not available, request timed out after 30000ms.", "pool_exhausted: no connection"},
		{"Timeout expired.  The timeout period elapsed prior to obtaining a connection from the pool.", "pool_exhausted: no connection"},
		{"Timeout waiting for connection from pool", "pool_exhausted: no connection"},
		{"SequelizeConnectionAcquireTimeoutError: Operation timeout", "pool_exhausted: no connection"},
		{"KnexTimeoutError: Knex: Timeout acquiring a connection. The pool is probably full.", "pool_exhausted: no connection"},
		{"org.apache.tomcat.jdbc.pool.PoolExhaustedException: Timeout: Pool empty. Unable to fetch a connection in 30 seconds", "pool_exhausted: no connection"},
		{"Cannot get a connection, pool error Timeout waiting for idle object", "pool_exhausted: no connection"},
		{"pool timed out while waiting for an open connection", "pool_exhausted: no connection"},
		{"reactor.pool.PoolAcquirePendingLimitException: Pending acquire queue has reached its maximum size of 1000", "pool_exhausted: no connection"},
		{"com.mongodb.MongoWaitQueueFullException: Too many threads are already waiting for a connection.", "pool_exhausted: no connection"},
		{"FATAL: remaining connection slots are reserved", "pool_exhausted: no connection"},
		// TLS.
		{"x509: certificate has expired or is not yet valid: current time 2026-01-01T00:00:00Z is after 2025-01-01", "tls: expired certificate"},
		{"CERT_HAS_EXPIRED", "tls: expired certificate"},
		{"javax.net.ssl.SSLHandshakeException: PKIX path validation failed: java.security.cert.CertPathValidatorException: validity check failed; NotAfter: Mon", "tls: expired certificate"},
		{"net::ERR_CERT_DATE_INVALID", "tls: expired certificate"},
		{"CERT_NOT_YET_VALID", "tls: expired certificate"},
		{"The remote certificate is invalid because of errors in the certificate chain: NotTimeValid", "tls: expired certificate"},
		{"x509: certificate signed by unknown authority", "tls: unknown authority"},
		{"DEPTH_ZERO_SELF_SIGNED_CERT: self-signed certificate", "tls: unknown authority"},
		{"self signed certificate in certificate chain", "tls: unknown authority"},
		{"UNABLE_TO_VERIFY_LEAF_SIGNATURE: unable to verify the first certificate", "tls: unknown authority"},
		{"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate", "tls: unknown authority"},
		{"javax.net.ssl.SSLHandshakeException: PKIX path building failed: unable to find valid certification path to requested target", "tls: unknown authority"},
		{"remote error: tls: unknown certificate authority", "tls: unknown authority"},
		{"tlsv1 alert unknown_ca", "tls: unknown authority"},
		{"DEPTH_ZERO_SELF_SIGNED_CERT", "tls: unknown authority"},
		{"UNABLE_TO_VERIFY_LEAF_SIGNATURE", "tls: unknown authority"},
		{"invalid peer certificate: UnknownIssuer", "tls: unknown authority"},
		{"x509: “b” certificate is not trusted", "tls: unknown authority"},
		{"The remote certificate is invalid because of errors in the certificate chain: PartialChain", "tls: unknown authority"},
		{"x509: certificate is valid for a.example, not b.example", "tls: name mismatch"},
		{"x509: cannot validate certificate for 10.0.0.1 because it doesn't contain any IP SANs", "tls: name mismatch"},
		{"ERR_TLS_CERT_ALTNAME_INVALID: Hostname/IP does not match certificate's altnames", "tls: name mismatch"},
		{"javax.net.ssl.SSLPeerUnverifiedException: Certificate for <b> doesn't match any of the subject alternative names: [a]", "tls: name mismatch"},
		{"certificate verify failed: Hostname mismatch, certificate is not valid for 'b'", "tls: name mismatch"},
		{"The remote certificate is invalid according to the validation procedure: RemoteCertificateNameMismatch", "tls: name mismatch"},
		{"javax.net.ssl.SSLHandshakeException: No name matching b found", "tls: name mismatch"},
		{"invalid peer certificate: NotValidForName", "tls: name mismatch"},
		{"x509: certificate relies on legacy Common Name field, use SANs instead", "tls: name mismatch"},
		{"tls: server selected unsupported protocol version 301", "tls: protocol"},
		{"remote error: tls: handshake failure", "tls: protocol"},
		{"javax.net.ssl.SSLHandshakeException: Received fatal alert: handshake_failure", "tls: protocol"},
		{"tls: first record does not look like a TLS handshake", "tls: protocol"},
		{"SSL routines:ssl3_get_record:wrong version number", "tls: protocol"},
		{"tls: no cipher suite supported by both client and server", "tls: protocol"},
		{"http: server gave HTTP response to HTTPS client", "tls: protocol"},
		{"ERR_SSL_WRONG_VERSION_NUMBER", "tls: protocol"},
		{"javax.net.ssl.SSLException: Unsupported or unrecognized SSL message", "tls: protocol"},
		{"Authentication failed because the remote party sent a TLS alert: 'ProtocolVersion'.", "tls: protocol"},
		{"[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version", "tls: protocol"},
		{"The SSL connection could not be established, see inner exception.", "tls"},
		{"secure_connection_error", "tls"},
		{"System.Security.Authentication.AuthenticationException: Authentication failed, see inner exception.", "tls"},
		{"javax.net.ssl.SSLProtocolException", "tls"},
		{"error:0A000152:SSL routines::unsafe legacy renegotiation disabled", "tls"},
		{"reset reason: connection failure, transport failure reason: TLS_error:|268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER", "tls: protocol"},
		{"remote error: tls: bad record MAC", "tls"},
		{"server_certificate_invalid", "tls"},
		{"OPENSSL: SSL_ERROR_SYSCALL", "tls"},
		// Names.
		{"java.net.UnknownHostException", "unresolved"},
		{"NXDOMAIN", "unresolved"},
		{"dial tcp: lookup b: no such host", "unresolved"},
		{"getaddrinfo ENOTFOUND b", "unresolved"},
		{"getaddrinfo EAI_AGAIN b", "unresolved"},
		{"Temporary failure in name resolution", "unresolved"},
		{"[Errno -2] Name or service not known", "unresolved"},
		{"nodename nor servname provided, or not known", "unresolved"},
		{"socket.gaierror", "unresolved"},
		{"name_resolution_error", "unresolved"},
		{"dial tcp: lookup b on 10.96.0.10:53: server misbehaving", "unresolved"},
		{"dial tcp: lookup b on 10.96.0.10:53: read udp 10.1.2.3:4321->10.96.0.10:53: i/o timeout", "unresolved"},
		{"queryA ESERVFAIL b", "unresolved"},
		{"java.nio.channels.UnresolvedAddressException", "unresolved"},
		{"Could not resolve host: b", "unresolved"},
		{"urllib3.exceptions.NameResolutionError: Failed to resolve 'b'", "unresolved"},
		{"failed to lookup address information", "unresolved"},
		// Connections.
		{"connect ECONNREFUSED 10.0.0.1:8080", "refused"},
		{"dial tcp 10.0.0.1:8080: connect: connection refused", "refused"},
		{"java.net.ConnectException", "refused"},
		{"java.net.ConnectException: Connection timed out", "timeout"},
		{"No connection could be made because the target machine actively refused it.", "refused"},
		{"connect EHOSTUNREACH 10.0.0.1", "refused"},
		{"no route to host", "refused"},
		{"connect: network is unreachable", "refused"},
		{"no healthy upstream", "refused: no endpoint"},
		{"Load balancer does not contain an instance for the service b: LoadBalancerException", "refused: no endpoint"},
		{"No servers available for service: b", "refused: no endpoint"},
		{"No instances available for b", "refused: no endpoint"},
		{"no available backend", "refused: no endpoint"},
		{"name resolver error: produced zero addresses", "refused: no endpoint"},
		{"connection_error", "refused"},
		{"ConnectionRefusedError", "refused"},
		{"aiohttp.client_exceptions.ClientConnectorError: Cannot connect to host b:80 ssl:default [Connect call failed ('10.0.0.1', 80)]", "refused"},
		{"httpx.ConnectError: All connection attempts failed", "refused"},
		{"Failed to establish a new connection", "refused"},
		{"Connection to b:5432 refused. Check that the hostname and port are correct", "refused"},
		{"upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure, transport failure reason: delayed connect error: 111", "refused"},
		{"upstream connect error or disconnect/reset before headers. reset reason: connection failure", "refused"},
		{"read ECONNRESET", "reset"},
		{"read tcp 10.0.0.1: connection reset by peer", "reset"},
		{"write EPIPE", "reset"},
		{"write: broken pipe", "reset"},
		{"unexpected EOF", "reset"},
		{"http2: server sent GOAWAY and closed the connection", "reset"},
		{"socket hang up", "reset"},
		{"UND_ERR_SOCKET other side closed", "reset"},
		{"Remote end closed connection without response", "reset"},
		{"reactor.netty.http.client.PrematureCloseException: Connection prematurely closed BEFORE response", "reset"},
		{"transport is closing", "reset"},
		{"EOF", "reset"},
		{"Post \"http://b\": EOF", "reset"},
		{"java.io.EOFException", "reset"},
		{"response_ended", "reset"},
		{"org.apache.http.NoHttpResponseException: b:80 failed to respond", "reset"},
		{"io.netty.channel.StacklessClosedChannelException", "reset"},
		{"Server disconnected without sending a response.", "reset"},
		{"Received RST_STREAM with code 2 (Internal server error)", "reset"},
		{"Socket closed", "reset"},
		{"Unexpected end of file from server", "reset"},
		{"error:0A000126:SSL routines::unexpected eof while reading", "reset"},
		{"An existing connection was forcibly closed by the remote host.", "reset"},
		{"use of closed network connection", "reset"},
		{"server closed the connection unexpectedly", "reset"},
		{"Lost connection to MySQL server during query", "reset"},
		{"MySQL server has gone away", "reset"},
		{"upstream connect error or disconnect/reset before headers. reset reason: connection termination", "reset"},
		// Time.
		{"context deadline exceeded", "timeout"},
		{"java.net.SocketTimeoutException: Read timed out", "timeout"},
		{"ETIMEDOUT", "timeout"},
		{"ESOCKETTIMEDOUT", "timeout"},
		{"TimeoutException", "timeout"},
		{"request timed-out", "timeout"},
		{"timed_out", "timeout"},
		{"the call ran into its time-out", "timeout"},
		{"time out", "timeout"},
		{"DEADLINE_EXCEEDED", "timeout"},
		{"catalog timed-out and fallback failed", "timeout"},
		{"canceling statement due to statement timeout", "timeout"},
		{"System.Threading.Tasks.TaskCanceledException: The request was canceled due to the configured HttpClient.Timeout of 100 seconds elapsing.", "timeout"},
		{"kotlinx.coroutines.TimeoutCancellationException: Timed out waiting for 1000 ms", "timeout"},
		{"net/http: request canceled (Client.Timeout exceeded while awaiting headers)", "timeout"},
		{"AbortError: The operation was aborted due to timeout", "timeout"},
		// Load.
		{"429 Too Many Requests", "throttled: rate limit"},
		{"ThrottlingException: Rate exceeded", "throttled: rate limit"},
		{"rate limit exceeded", "throttled: rate limit"},
		{"RateLimitExceeded", "throttled: rate limit"},
		{"Quota exceeded for quota metric", "throttled: rate limit"},
		{"server is overloaded", "throttled: overload"},
		{"load shedding", "throttled: overload"},
		{"io.github.resilience4j.ratelimiter.RequestNotPermitted", "throttled: rate limit"},
		{"RESOURCE_EXHAUSTED", "throttled"},
		// Who may.
		{"401 Unauthorized", "auth: not authenticated"},
		{"unauthenticated", "auth: not authenticated"},
		{"error=invalid_token", "auth: not authenticated"},
		{"io.jsonwebtoken.MalformedJwtException", "auth: not authenticated"},
		{"user_authentication_error", "auth: not authenticated"},
		{"FATAL: password authentication failed for user \"a\"", "auth: not authenticated"},
		{"NOAUTH Authentication required.", "auth: not authenticated"},
		{"org.springframework.security.authentication.BadCredentialsException", "auth: not authenticated"},
		{"WRONGPASS invalid username-password pair", "auth: not authenticated"},
		{"permission denied", "auth: not allowed"},
		{"AccessDeniedException: Access Denied", "auth: not allowed"},
		{"403 Forbidden", "auth: not allowed"},
		{"invalid_token: token expired", "auth: token expired"},
		{"TokenExpiredError: jwt expired", "auth: token expired"},
		{"token is expired", "auth: token expired"},
		{"ExpiredTokenException: The security token included in the request is expired", "auth: token expired"},
		// Contracts.
		{"json: cannot unmarshal string into Go value of type int", "contract: undecodable"},
		{"com.fasterxml.jackson.databind.JsonMappingException", "contract: undecodable"},
		{"org.apache.kafka.common.errors.SerializationException: Error deserializing Avro message", "contract: undecodable"},
		{"grpc: received message larger than max (5 vs. 4)", "contract: undecodable"},
		{"415 Unsupported Media Type", "contract: undecodable"},
		{"json.decoder.JSONDecodeError: Expecting value", "contract: undecodable"},
		{"invalid character '<' looking for beginning of value", "contract: undecodable"},
		{"com.google.protobuf.InvalidProtocolBufferException", "contract: undecodable"},
		{"com.fasterxml.jackson.databind.exc.MismatchedInputException", "contract: undecodable"},
		{"unknown method Take for service test.Store", "contract: unimplemented"},
		{"unknown service test.Store", "contract: unimplemented"},
		{"stream error: stream ID 1; PROTOCOL_ERROR: protocol error", "contract: protocol"},
		{"ERR_HTTP2_PROTOCOL_ERROR", "contract: protocol"},
		{"http_protocol_error", "contract: protocol"},
		{"version_negotiation_error", "contract: protocol"},
		// Neither.
		{"something went wrong", "unclassified"},
		{"the geofence is outdated", "unclassified"},
		{"", "unclassified"},
	} {
		for _, how := range []struct {
			name   string
			attrs  map[string]any
			change func(ptrace.Span)
		}{
			{"status message", nil, failing(tt.said)},
			{"error.type", map[string]any{"error.type": tt.said}, failing("")},
			{"exception type", nil, thrown(tt.said, "")},
			{"exception message", map[string]any{"error.type": "Error"}, thrown("Error", tt.said)},
		} {
			if v := judge(decoded(t, kindClient, how.attrs, how.change), graph.HTTP); v.outcome != graph.Error || v.cause.String() != tt.want {
				t.Errorf("%q as %s: %v %s, want %s", tt.said, how.name, v.outcome, v.cause, tt.want)
			}
		}
	}
}

func TestWhoWentAwayDidNotFail(t *testing.T) {
	for _, said := range []string{
		"context canceled", "AbortError", "System.OperationCanceledException", "System.Threading.Tasks.TaskCanceledException",
		"java.util.concurrent.CancellationException",
	} {
		if v := judge(decoded(t, kindClient, map[string]any{"error.type": said}, failing("")), graph.HTTP); v != (verdict{graph.Cancelled, 0}) {
			t.Errorf("%q: %+v", said, v)
		}
	}
}

// Envoy's flags, each in its short and its long form, beside the status that comes with it.
func TestEnvoyFlags(t *testing.T) {
	for _, tt := range []struct {
		flags  string
		status string
		want   verdict
	}{
		{"UH", "503", verdict{graph.Error, graph.NoEndpoint}},
		{"NoHealthyUpstream", "503", verdict{graph.Error, graph.NoEndpoint}},
		{"NR", "404", verdict{graph.Error, graph.NoEndpoint}},
		{"NoRouteFound", "404", verdict{graph.Error, graph.NoEndpoint}},
		{"NC", "503", verdict{graph.Error, graph.NoEndpoint}},
		{"NoClusterFound", "503", verdict{graph.Error, graph.NoEndpoint}},
		{"LH", "503", verdict{graph.Error, graph.NoEndpoint}},
		{"FailedLocalHealthCheck", "503", verdict{graph.Error, graph.NoEndpoint}},
		{"NFCF", "500", verdict{graph.Error, graph.NoEndpoint}},
		{"NoFilterConfigFound", "500", verdict{graph.Error, graph.NoEndpoint}},
		{"UF", "503", verdict{graph.Error, class(graph.Refused)}},
		{"UpstreamConnectionFailure", "503", verdict{graph.Error, class(graph.Refused)}},
		{"UO", "503", verdict{graph.Error, class(graph.BreakerOpen)}},
		{"UpstreamOverflow", "503", verdict{graph.Error, class(graph.BreakerOpen)}},
		{"URX", "503", verdict{graph.Error, graph.RetryLimit}},
		{"UpstreamRetryLimitExceeded", "503", verdict{graph.Error, graph.RetryLimit}},
		{"DT", "504", verdict{graph.Error, class(graph.Timeout)}},
		{"DurationTimeout", "504", verdict{graph.Error, class(graph.Timeout)}},
		{"UT", "504", verdict{graph.Error, class(graph.Timeout)}},
		{"UpstreamRequestTimeout", "504", verdict{graph.Error, class(graph.Timeout)}},
		{"SI", "408", verdict{graph.Error, class(graph.Timeout)}},
		{"StreamIdleTimeout", "408", verdict{graph.Error, class(graph.Timeout)}},
		{"UMSDR", "504", verdict{graph.Error, class(graph.Timeout)}},
		{"UpstreamMaxStreamDurationReached", "504", verdict{graph.Error, class(graph.Timeout)}},
		{"DC", "0", verdict{graph.Cancelled, 0}},
		{"DownstreamConnectionTermination", "0", verdict{graph.Cancelled, 0}},
		{"DR", "0", verdict{graph.Cancelled, 0}},
		{"DownstreamRemoteReset", "0", verdict{graph.Cancelled, 0}},
		{"LR", "503", verdict{graph.Error, class(graph.Reset)}},
		{"LocalReset", "503", verdict{graph.Error, class(graph.Reset)}},
		{"UR", "503", verdict{graph.Error, class(graph.Reset)}},
		{"UpstreamRemoteReset", "503", verdict{graph.Error, class(graph.Reset)}},
		{"UC", "200", verdict{graph.Error, class(graph.Reset)}}, // in the middle of an answer
		{"UpstreamConnectionTermination", "503", verdict{graph.Error, class(graph.Reset)}},
		{"DI", "200", verdict{graph.Provoked, graph.Injected}},
		{"DelayInjected", "200", verdict{graph.Provoked, graph.Injected}},
		{"FI", "503", verdict{graph.Provoked, graph.Injected}},
		{"FaultInjected", "503", verdict{graph.Provoked, graph.Injected}},
		{"RL", "429", verdict{graph.Error, graph.RateLimited}},
		{"RateLimited", "429", verdict{graph.Error, graph.RateLimited}},
		{"RLSE", "500", verdict{graph.Error, class(graph.ServerError)}},
		{"RateLimitServiceError", "500", verdict{graph.Error, class(graph.ServerError)}},
		{"UAEX", "403", verdict{graph.Error, graph.Forbidden}},
		{"UAEX", "401", verdict{graph.Error, graph.Unauthenticated}},
		{"UnauthorizedExternalService", "403", verdict{graph.Error, graph.Forbidden}},
		{"IH", "400", verdict{graph.Error, graph.ProtocolError}},
		{"InvalidEnvoyRequestHeaders", "400", verdict{graph.Error, graph.ProtocolError}},
		{"DPE", "400", verdict{graph.Error, graph.ProtocolError}},
		{"DownstreamProtocolError", "400", verdict{graph.Error, graph.ProtocolError}},
		{"UPE", "502", verdict{graph.Error, graph.ProtocolError}},
		{"UpstreamProtocolError", "502", verdict{graph.Error, graph.ProtocolError}},
		{"RFCF", "200", fine},
		{"ResponseFromCacheFilter", "200", fine},
		{"OM", "503", verdict{graph.Error, graph.Overloaded}},
		{"OverloadManagerTerminated", "503", verdict{graph.Error, graph.Overloaded}},
		{"DF", "503", verdict{graph.Error, class(graph.Unresolved)}},
		{"DnsResolutionFailed", "503", verdict{graph.Error, class(graph.Unresolved)}},
		{"DO", "503", verdict{graph.Error, graph.Overloaded}},
		{"DropOverLoad", "503", verdict{graph.Error, graph.Overloaded}},
		{"UDO", "503", verdict{graph.Error, graph.Overloaded}},
		{"UnconditionalDropOverload", "503", verdict{graph.Error, graph.Overloaded}},
		{"-", "200", fine},
		{"-", "503", verdict{graph.Error, class(graph.ServerError)}},
		{"-", "404", verdict{graph.ClientError, 0}},
		{"UF,URX", "503", verdict{graph.Error, class(graph.Refused)}},
		{"URX,UF", "503", verdict{graph.Error, class(graph.Refused)}},
		{"UH, URX", "503", verdict{graph.Error, graph.NoEndpoint}},
		{"DI,UT", "504", verdict{graph.Provoked, graph.Injected}},
		{"DC,UT", "0", verdict{graph.Error, class(graph.Timeout)}},
		{"SOMETHING,NEW", "503", verdict{graph.Error, class(graph.ServerError)}},
	} {
		sp := decoded(t, kindClient, map[string]any{"http.status_code": tt.status, "response_flags": tt.flags}, nil)
		if v := judge(sp, graph.HTTP); v != tt.want {
			t.Errorf("%s with %s: %v %s, want %v %s", tt.flags, tt.status, v.outcome, v.cause, tt.want.outcome, tt.want.cause)
		}
	}
	// A breaker stands before what a proxy calls, not before the proxy.
	upstream := decoded(t, kindServer, map[string]any{"http.status_code": "503", "response_flags": "UO"}, nil)
	if v := judge(upstream, graph.HTTP); v != (verdict{graph.Error, class(graph.ServerError)}) {
		t.Errorf("UO at a gateway: %+v", v)
	}
	// A gateway that is asked for what it has no route to is not at fault.
	sp := decoded(t, kindServer, map[string]any{"http.status_code": "404", "response_flags": "NR"}, nil)
	if v := judge(sp, graph.HTTP); v != (verdict{graph.ClientError, 0}) {
		t.Errorf("NR at a gateway: %+v", v)
	}
}

// Statuses of HTTP and RPC, with what else is said beside them.
func TestStatuses(t *testing.T) {
	http := func(n int) map[string]any { return map[string]any{"http.response.status_code": n} }
	rpc := func(v any) map[string]any { return map[string]any{"rpc.system": "grpc", "rpc.grpc.status_code": v} }
	of := func(c graph.Cause) verdict { return verdict{graph.Error, c} }
	clientError := verdict{graph.ClientError, 0}
	for _, tt := range []struct {
		name   string
		attrs  map[string]any
		change func(ptrace.Span)
		want   verdict
	}{
		{"200", http(200), nil, fine},
		{"302", http(302), nil, fine},
		{"404", http(404), failing(""), clientError},
		{"422", http(422), failing(""), clientError},
		{"400 as error.type alone", map[string]any{"error.type": "400"}, failing(""), clientError},
		{"503 as error.type alone", map[string]any{"error.type": "503"}, failing(""), of(class(graph.ServerError))},
		{"an error type beside a status below 400", map[string]any{"http.response.status_code": 200, "error.type": "Error"}, nil, fine},
		{"status ERROR beside a status below 400", http(200), failing("unexpected EOF"), of(class(graph.Reset))},
		{"status OK beside 500", http(500), func(sp ptrace.Span) { sp.Status().SetCode(ptrace.StatusCodeOk) }, fine},
		{"401", http(401), failing(""), of(graph.Unauthenticated)},
		{"401, token expired", http(401), failing("Bearer error=invalid_token, token expired"), of(graph.TokenExpired)},
		{"403", http(403), failing(""), of(graph.Forbidden)},
		{"407", http(407), failing(""), of(graph.Unauthenticated)},
		{"421", http(421), failing(""), of(class(graph.Auth))},
		{"495", http(495), failing(""), of(class(graph.Auth))},
		{"496", http(496), failing(""), of(class(graph.Auth))},
		{"408", http(408), failing(""), of(class(graph.Timeout))},
		{"429", http(429), failing("too many requests"), of(graph.RateLimited)},
		{"429, overloaded", http(429), failing("the service is overloaded"), of(graph.Overloaded)},
		{"499", http(499), nil, verdict{graph.Cancelled, 0}},
		{"500", http(500), failing(""), of(class(graph.ServerError))},
		{"501", http(501), failing(""), of(graph.Unimplemented)},
		{"502, reset", http(502), failing("connection reset by peer"), of(class(graph.Reset))},
		{"503, no endpoint", http(503), failing("no healthy upstream"), of(graph.NoEndpoint)},
		{"504", http(504), failing(""), of(class(graph.Timeout))},
		{"505", http(505), failing(""), of(graph.ProtocolError)},
		{"RPC OK", rpc(0), nil, fine},
		{"RPC CANCELLED", rpc(1), failing(""), verdict{graph.Cancelled, 0}},
		{"RPC UNKNOWN", rpc(2), failing(""), of(class(graph.ServerError))},
		{"RPC INVALID_ARGUMENT", rpc(3), failing(""), clientError},
		{"RPC DEADLINE_EXCEEDED", rpc("DEADLINE_EXCEEDED"), failing(""), of(class(graph.Timeout))},
		{"RPC NOT_FOUND", rpc(5), failing(""), clientError},
		{"RPC ALREADY_EXISTS", rpc(6), failing(""), clientError},
		{"RPC PERMISSION_DENIED", rpc(7), failing(""), of(graph.Forbidden)},
		{"RPC RESOURCE_EXHAUSTED", rpc(8), failing(""), of(class(graph.Throttled))},
		{"RPC RESOURCE_EXHAUSTED, quota", rpc(8), failing("quota exceeded"), of(graph.RateLimited)},
		{"RPC RESOURCE_EXHAUSTED, overloaded", rpc(8), failing("server overloaded"), of(graph.Overloaded)},
		{"RPC RESOURCE_EXHAUSTED, message too large", rpc(8), failing("grpc: received message larger than max (5 vs. 4)"), of(graph.Undecodable)},
		{"RPC FAILED_PRECONDITION", rpc(9), failing(""), clientError},
		{"RPC ABORTED", rpc(10), failing(""), clientError},
		{"RPC OUT_OF_RANGE", rpc(11), failing(""), clientError},
		{"RPC UNIMPLEMENTED", rpc(12), failing("unknown method"), of(graph.Unimplemented)},
		{"RPC INTERNAL", rpc(13), failing(""), of(class(graph.ServerError))},
		{"RPC INTERNAL, undecodable", rpc(13), failing("grpc: error unmarshalling request"), of(graph.Undecodable)},
		{"RPC UNAVAILABLE", rpc(14), failing(""), of(class(graph.ServerError))},
		{"RPC UNAVAILABLE, refused", rpc(14), failing("connect: connection refused"), of(class(graph.Refused))},
		{"RPC UNAVAILABLE, a test's reset", rpc(14), failing("no healthy upstream"), of(graph.NoEndpoint)},
		{"RPC DATA_LOSS", rpc(15), failing(""), of(class(graph.ServerError))},
		{"RPC UNAUTHENTICATED", rpc(16), failing(""), of(graph.Unauthenticated)},
		{"RPC DeadlineExceeded", rpc("DeadlineExceeded"), failing(""), of(class(graph.Timeout))},
		{"RPC not_found", rpc("not_found"), failing(""), clientError},
		{"RPC canceled", rpc("canceled"), failing(""), verdict{graph.Cancelled, 0}},
		{"RPC Canceled", rpc("Canceled"), failing(""), verdict{graph.Cancelled, 0}},
		{"RPC, its status as error.type alone", map[string]any{"rpc.system": "grpc", "error.type": "UNAVAILABLE"}, failing(""), of(class(graph.ServerError))},
		{"RPC, NOT_FOUND as error.type alone", map[string]any{"rpc.system": "grpc", "error.type": "NOT_FOUND"}, failing(""), clientError},
		{"RPC, a type that is none of its statuses", map[string]any{"rpc.system": "grpc", "error.type": "UNAVAILABLE_"}, failing(""), of(class(graph.Unclassified))},
		{"RPC UNAUTHENTICATED, token expired", rpc(16), failing("token is expired"), of(graph.TokenExpired)},
	} {
		protocol := graph.HTTP
		if _, ok := tt.attrs["rpc.system"]; ok {
			protocol = graph.GRPC
		}
		if v := judge(decoded(t, kindClient, tt.attrs, tt.change), protocol); v != tt.want {
			t.Errorf("%s: %v %s, want %v %s", tt.name, v.outcome, v.cause, tt.want.outcome, tt.want.cause)
		}
	}
}

// A callee was reached. What its half tells of connections, guards and those who turned it away is of calls that it made
// itself, and its caller had no such trouble; what its caller sent it may have been wrong all the same.
func TestACalleeSpeaksOfItsOwnCalls(t *testing.T) {
	http500 := map[string]any{"http.request.method": "GET", "http.response.status_code": 500}
	internal := map[string]any{"rpc.system": "grpc", "rpc.grpc.status_code": 13}
	for _, tt := range []struct {
		said            string
		without, behind graph.Cause // where no status says that the callee failed, and where one does
	}{
		{"java.net.ConnectException: Connection refused", class(graph.ServerError), class(graph.ServerError)},
		{"java.net.UnknownHostException", class(graph.ServerError), class(graph.ServerError)},
		{"x509: certificate has expired", class(graph.ServerError), class(graph.ServerError)},
		{"CallNotPermittedException", class(graph.ServerError), class(graph.ServerError)},
		{"java.sql.SQLTransientConnectionException", class(graph.ServerError), class(graph.ServerError)},
		{"ThrottlingException: Rate exceeded", graph.RateLimited, class(graph.ServerError)},
		{"AccessDeniedException", graph.Forbidden, class(graph.ServerError)},
		{"java.net.SocketTimeoutException: Read timed out", class(graph.Timeout), class(graph.ServerError)},
		{"connection reset by peer", class(graph.Reset), class(graph.ServerError)},
		{"com.fasterxml.jackson.databind.JsonMappingException", graph.Undecodable, graph.Undecodable},
		{"something else", class(graph.ServerError), class(graph.ServerError)},
	} {
		for _, kind := range []ptrace.SpanKind{kindServer, kindConsumer} {
			for _, how := range []struct {
				attrs    map[string]any
				protocol graph.Protocol
				want     graph.Cause
			}{{nil, graph.HTTP, tt.without}, {http500, graph.HTTP, tt.behind}, {internal, graph.GRPC, tt.behind}} {
				if v := judge(decoded(t, kind, how.attrs, thrown(tt.said, "")), how.protocol); v != (verdict{graph.Error, how.want}) {
					t.Errorf("%s by %s with %v: %v %s, want %s", tt.said, kind, how.attrs, v.outcome, v.cause, how.want)
				}
			}
		}
	}
}
