package sim

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// This file says how spans look: the semantic conventions of today (1.40) and,
// for services that are Old, those of 2022 (1.12), as the SDKs of their
// languages send them.

var sdkVersions = map[string]string{
	"go": "1.43.0", "java": "1.58.0", "nodejs": "2.5.0", "python": "1.40.0", "dotnet": "1.14.0", "php": "1.9.0",
}

var scopes = map[string]struct{ name, version string }{
	"go":     {"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", "0.68.0"},
	"java":   {"io.opentelemetry.spring-webmvc-6.0", "2.24.0-alpha"},
	"nodejs": {"@opentelemetry/instrumentation-http", "0.211.0"},
	"python": {"opentelemetry.instrumentation.fastapi", "0.61b0"},
	"dotnet": {"Microsoft.AspNetCore", ""},
	"php":    {"io.opentelemetry.contrib.php.psr18", "1.1.0"},
}

func newInstance(env string, svc *service, n, i int, version string, rng *rand.Rand) *instance {
	id := fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", rng.Uint32(), rng.IntN(1<<16), rng.IntN(1<<12), 0x8000|rng.IntN(1<<14), rng.Uint64()>>16)
	host := fmt.Sprintf("%s-%s-%s", svc.Name, strings.ReplaceAll(version, ".", ""), id[:5])
	if svc.Hosts > 0 {
		host = fmt.Sprintf("%s-node-%d", svc.Name, i%svc.Hosts)
	}
	attrs := []attr{str("service.name", svc.Name)}
	if svc.Namespace != "" {
		attrs = append(attrs, str("service.namespace", svc.Namespace))
	}
	attrs = append(attrs, str("service.instance.id", id), str("service.version", version))
	if svc.Critical != "" {
		attrs = append(attrs, str("service.criticality", svc.Critical))
	}
	if svc.Old {
		attrs = append(attrs, str("deployment.environment", env))
	} else {
		attrs = append(attrs, str("deployment.environment.name", env))
	}
	attrs = append(attrs,
		str("host.name", host), str("cloud.availability_zone", zones[i%len(zones)]), num("process.pid", int64(1+rng.IntN(40))),
		str("telemetry.sdk.name", "opentelemetry"), str("telemetry.sdk.language", svc.Language),
		str("telemetry.sdk.version", sdkVersions[svc.Language]))
	schema := "https://opentelemetry.io/schemas/1.40.0"
	if svc.Old {
		schema = "https://opentelemetry.io/schemas/1.12.0"
	}
	scope := scopes[svc.Language]
	return &instance{
		svc: svc, index: i, id: id, workers: make([]int64, svc.Workers), ip: fmt.Sprintf("10.42.%d.%d", n, 10+i),
		res: resource{attrs: attrs, scope: scope.name, scopeVersion: scope.version, schema: schema},
	}
}

// nextMinor returns the version after "major.minor.patch".
func nextMinor(version string) string {
	parts := strings.Split(version, ".")
	if len(parts) < 2 {
		return version + ".1"
	}
	minor, err := strconv.Atoi(parts[1])
	if err != nil {
		return version + ".1"
	}
	return parts[0] + "." + strconv.Itoa(minor+1) + ".0"
}

const (
	httpPort = 8080
	grpcPort = 9090

	grpcOK               = 0
	grpcDeadlineExceeded = 4
	grpcNotFound         = 5
	grpcExhausted        = 8
	grpcUnimplemented    = 12
	grpcUnavailable      = 14
	grpcUnauthenticated  = 16
)

func grpcCode(r result) int64 {
	switch r {
	case failed:
		return grpcUnavailable
	case notFound:
		return grpcNotFound
	case throttled:
		return grpcExhausted
	case unauthorized:
		return grpcUnauthenticated
	case unsupported:
		return grpcUnimplemented
	}
	return grpcOK
}

func httpCode(r result) int64 {
	switch r {
	case failed:
		return 503
	case notFound:
		return 404
	case throttled:
		return 429
	case unauthorized:
		return 401
	case unsupported:
		return 415
	}
	return 200
}

var grpcNames = map[int64]string{
	grpcOK: "OK", grpcDeadlineExceeded: "DEADLINE_EXCEEDED", grpcNotFound: "NOT_FOUND", grpcUnavailable: "UNAVAILABLE",
	grpcExhausted: "RESOURCE_EXHAUSTED", grpcUnimplemented: "UNIMPLEMENTED", grpcUnauthenticated: "UNAUTHENTICATED",
}

// exception adds an exception event at the span's end.
func (sp *span) exception(kind, message string) {
	sp.events = append(sp.events, event{at: sp.end, name: "exception", attrs: []attr{
		str("exception.type", kind), str("exception.message", message),
	}})
}

// describeServer gives a span that serves a call or a message its looks.
func (s *service) describeServer(sp *span, r request, out result, reason string) {
	if out == failed {
		sp.status = statusError
		sp.message = reason
		sp.exception(exceptionType(s.Language, "RuntimeException"), reason)
	}
	switch {
	case r.topic != nil:
		sp.kind = kindConsumer
		s.describeConsumer(sp, r)
	case s.GRPC:
		sp.name = r.op.Name
		sp.attrs = append(sp.attrs, s.rpc(r.op.Name, grpcCode(out))...)
		if s.Old {
			sp.attrs = append(sp.attrs, str("net.host.name", s.host()), num("net.host.port", grpcPort), str("net.peer.ip", r.peer))
		} else {
			sp.attrs = append(sp.attrs, str("server.address", s.host()), num("server.port", grpcPort), str("network.peer.address", r.peer), str("network.transport", "tcp"))
		}
	default:
		method, route := methodAndPath(r.op.Name)
		sp.name = r.op.Name
		code := httpCode(out)
		if s.Old {
			sp.attrs = append(sp.attrs,
				str("http.method", method), str("http.route", route), str("http.target", path(route, sp)), str("http.scheme", "http"),
				str("http.flavor", "1.1"), num("http.status_code", code), str("http.user_agent", "node"),
				str("net.host.name", s.host()), num("net.host.port", httpPort), str("net.sock.peer.addr", r.peer))
			return
		}
		sp.attrs = append(sp.attrs,
			str("http.request.method", method), str("http.route", route), str("url.path", path(route, sp)), str("url.scheme", "http"),
			str("network.protocol.version", "1.1"), num("http.response.status_code", code), str("user_agent.original", "node"),
			str("server.address", s.host()), num("server.port", httpPort), str("client.address", r.peer), str("network.peer.address", r.peer))
		if out == failed {
			sp.attrs = append(sp.attrs, str("error.type", strconv.FormatInt(code, 10)))
		}
	}
}

// rpc returns the attributes of both sides of a gRPC call.
func (s *service) rpc(name string, code int64) []attr {
	service, method, _ := strings.Cut(name, "/")
	if s.Old {
		return []attr{str("rpc.system", "grpc"), str("rpc.service", service), str("rpc.method", method), num("rpc.grpc.status_code", code)}
	}
	attrs := []attr{str("rpc.system.name", "grpc"), str("rpc.method", name), str("rpc.response.status_code", grpcNames[code])}
	if code != grpcOK {
		attrs = append(attrs, str("error.type", grpcNames[code]))
	}
	return attrs
}

// path fills the route's parameter in; the trace id is as good as any number.
func path(route string, sp *span) string {
	return strings.Replace(route, "{id}", strconv.Itoa(int(sp.trace[0])<<8|int(sp.trace[1])), 1)
}

// clientView is a call as its caller sees it.
type clientView struct {
	host, peer string
	external   bool // somebody else's, over HTTPS
	grpc       bool
	op         string
	attempt    int
	headers    bool // its span has the headers of the answer
	result     result
	timeout    bool
	lost       bool      // the answer did not arrive
	refusal    FaultKind // what kept it from its callee; "" if nothing did
}

// describeClient gives the caller's span of a call its looks.
func (s *service) describeClient(sp *span, c clientView) {
	errorType := ""
	switch {
	case c.refusal != "" || c.lost:
		why := refusals[c.refusal]
		if c.lost {
			why = refusals[ConnectionReset]
		}
		errorType = why.types[s.Language]
		if errorType == "" {
			errorType = why.types[""]
		}
		sp.message = why.words + ": " + c.host
		sp.exception(errorType, sp.message)
	case c.timeout:
		errorType = map[string]string{"go": "context.deadlineExceededError", "java": "java.net.SocketTimeoutException"}[s.Language]
		if errorType == "" {
			errorType = "timeout"
		}
		sp.message = "deadline exceeded"
		sp.exception(errorType, sp.message)
	}
	if c.grpc {
		code := grpcCode(c.result)
		switch {
		case c.timeout:
			code = grpcDeadlineExceeded
		case c.refusal != "" || c.lost:
			code = grpcUnavailable
		}
		if code != grpcOK {
			sp.status = statusError
			sp.message = grpcNames[code] + ": " + sp.message
		}
		sp.name = c.op
		sp.attrs = append(sp.attrs, s.rpc(c.op, code)...)
		if c.headers && c.result == throttled {
			sp.attrs = append(sp.attrs, header("rpc.response.metadata.grpc-retry-pushback-ms", "2000"))
		}
		sp.attrs = append(sp.attrs, s.peer(c.host, grpcPort, c.peer)...)
		return
	}
	method, route := methodAndPath(c.op)
	port, url := int64(httpPort), "http://"+c.host+":8080"
	if c.external {
		port, url = 443, "https://"+c.host
	}
	answered := errorType == ""
	code := httpCode(c.result)
	if code >= 400 || !answered {
		sp.status = statusError
	}
	if s.Old {
		sp.name = "HTTP " + method
		sp.attrs = append(sp.attrs, str("http.method", method), str("http.url", url+path(route, sp)), str("http.flavor", "1.1"))
		if answered {
			sp.attrs = append(sp.attrs, num("http.status_code", code))
		}
	} else {
		sp.name = method
		sp.attrs = append(sp.attrs, str("http.request.method", method), str("url.full", url+path(route, sp)), str("network.protocol.version", "1.1"))
		if answered {
			sp.attrs = append(sp.attrs, num("http.response.status_code", code))
			if code >= 400 {
				errorType = strconv.FormatInt(code, 10)
			}
		}
		if errorType != "" {
			sp.attrs = append(sp.attrs, str("error.type", errorType))
		}
		if c.attempt > 0 {
			sp.attrs = append(sp.attrs, num("http.request.resend_count", int64(c.attempt)))
		}
	}
	if c.headers && c.result == throttled {
		sp.attrs = append(sp.attrs, header("http.response.header.retry-after", "2"))
	}
	sp.attrs = append(sp.attrs, s.peer(c.host, port, c.peer)...)
}

// peer returns whom the caller calls.
func (s *service) peer(host string, port int64, ip string) []attr {
	if s.Old {
		return []attr{str("net.peer.name", host), num("net.peer.port", port), str("net.sock.peer.addr", ip)}
	}
	return []attr{str("server.address", host), num("server.port", port), str("network.peer.address", ip), num("network.peer.port", port)}
}

// describeQuery gives the span of a database query its looks.
func (s *service) describeQuery(sp *span, db *Database, st *Step, failure string) {
	sp.name = st.Op
	if st.Collection != "" {
		sp.name += " " + st.Collection
	}
	var attrs []attr
	if s.Old {
		attrs = []attr{str("db.system", db.System), str("db.operation", st.Op), str("db.statement", statement(db, st))}
		switch {
		case db.System == "redis":
			index, _ := strconv.ParseInt(db.Namespace, 10, 64)
			attrs = append(attrs, num("db.redis.database_index", index))
		case db.Namespace != "":
			attrs = append(attrs, str("db.name", db.Namespace))
		}
		switch {
		case db.System == "mongodb":
			attrs = append(attrs, str("db.mongodb.collection", st.Collection))
		case st.Collection != "":
			attrs = append(attrs, str("db.sql.table", st.Collection))
		}
	} else {
		attrs = []attr{str("db.system.name", db.System), str("db.operation.name", st.Op), str("db.query.text", statement(db, st)), str("db.query.summary", sp.name)}
		if db.Namespace != "" {
			attrs = append(attrs, str("db.namespace", db.Namespace))
		}
		if st.Collection != "" {
			attrs = append(attrs, str("db.collection.name", st.Collection))
		}
	}
	sp.attrs = append(append(sp.attrs, attrs...), s.peer(db.Host, db.Port, "10.42.200.5")...)
	if failure == "" {
		return
	}
	sp.status, sp.message = statusError, failure
	kind := exceptionType(s.Language, "SQLException")
	sp.exception(kind, failure)
	if !s.Old {
		sp.attrs = append(sp.attrs, str("error.type", kind))
	}
}

func statement(db *Database, st *Step) string {
	switch {
	case db.System == "redis":
		return st.Op + " ?"
	case db.System == "mongodb" || db.System == "elasticsearch":
		return `{"` + st.Op + `":"` + st.Collection + `","filter":{"_id":"?"}}`
	case st.Op == "INSERT":
		return "INSERT INTO " + st.Collection + " (id, customer, total) VALUES (?, ?, ?)"
	case st.Op == "UPDATE":
		return "UPDATE " + st.Collection + " SET state = ? WHERE id = ?"
	case st.Op == "DELETE":
		return "DELETE FROM " + st.Collection + " WHERE id = ?"
	}
	return st.Op + " id, state FROM " + st.Collection + " WHERE id = ?"
}

func exceptionType(language, name string) string {
	switch language {
	case "java":
		return "java.lang." + name
	case "go":
		return "*errors.errorString"
	case "python":
		return "builtins.RuntimeError"
	}
	return "Error"
}

// describeProducer gives the span that sends a message its looks.
func (s *service) describeProducer(sp *span, t *Topic, partition int64) {
	sp.name = "send " + t.Name
	if s.Old {
		sp.name = t.Name + " send"
		sp.attrs = append(sp.attrs, str("messaging.system", t.System), str("messaging.destination", t.Name), str("messaging.operation", "publish"))
	} else {
		sp.attrs = append(sp.attrs,
			str("messaging.system", t.System), str("messaging.destination.name", t.Name), str("messaging.operation.type", "send"),
			str("messaging.operation.name", "send"), str("messaging.destination.partition.id", strconv.FormatInt(partition, 10)))
	}
	sp.attrs = append(sp.attrs, s.peer("kafka", 9092, "10.42.201.3")...)
}

func (s *service) describeConsumer(sp *span, r request) {
	sp.name = "process " + r.topic.Name
	if s.Old {
		sp.name = r.topic.Name + " process"
		sp.attrs = append(sp.attrs,
			str("messaging.system", r.topic.System), str("messaging.destination", r.topic.Name), str("messaging.operation", "process"),
			str("messaging.kafka.consumer.group", r.op.Group))
		return
	}
	sp.attrs = append(sp.attrs,
		str("messaging.system", r.topic.System), str("messaging.destination.name", r.topic.Name), str("messaging.operation.type", "process"),
		str("messaging.operation.name", "process"), str("messaging.consumer.group.name", r.op.Group))
	if sp.status == statusError {
		sp.attrs = append(sp.attrs, str("error.type", "RuntimeException"))
	}
}
