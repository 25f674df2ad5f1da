package ingest

import (
	"maps"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
)

// tag is an attribute list as a test writes it.
type tag = map[string]any

// caller is a span of service a that calls something, alone.
func caller(attrs tag) []tspan {
	return []tspan{{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 50, attrs: attrs}}
}

// root is a span that somebody from outside called, of a service that its resource alone names.
func root(resource tag) []tspan {
	return []tspan{{trace: 1, id: 1, kind: kindServer, at: 0, ms: 50, attrs: serve, resource: resource}}
}

// identities are the rows of what names things: attributes in, nodes and edges out; new conventions and old ones alike.
var identities = []struct {
	name  string
	spans []tspan
	want  []string
}{
	{"environment: deployment.environment.name", root(tag{"service.name": "b", "deployment.environment.name": "prod", "deployment.environment": "x"}), []string{"prod: user → b http: calls 1, server 1×50ms"}},
	{"environment: deployment.environment", root(tag{"service.name": "b", "deployment.environment": "prod"}), []string{"prod: user → b http: calls 1, server 1×50ms"}},
	{"service: namespace and name", root(tag{"service.name": "b", "service.namespace": "shop"}), []string{"user → shop/b http: calls 1, server 1×50ms"}},
	{"service: nameless, k8s.deployment.name", root(tag{"k8s.container.name": "c", "k8s.deployment.name": "b"}), []string{"user → b http: calls 1, server 1×50ms"}},
	{"service: unknown_service, k8s.statefulset.name", root(tag{"service.name": "unknown_service:java", "k8s.statefulset.name": "b"}), []string{"user → b http: calls 1, server 1×50ms"}},
	{"service: unknown_service, k8s.daemonset.name", root(tag{"service.name": "unknown_service", "k8s.daemonset.name": "b"}), []string{"user → b http: calls 1, server 1×50ms"}},
	{"service: nameless, k8s.cronjob.name", root(tag{"k8s.cronjob.name": "b"}), []string{"user → b http: calls 1, server 1×50ms"}},
	{"service: nameless, faas.name", root(tag{"faas.name": "b", "container.name": "c"}), []string{"user → b http: calls 1, server 1×50ms"}},
	{"service: nameless, container.name", root(tag{"container.name": "b"}), []string{"user → b http: calls 1, server 1×50ms"}},
	{"service: unidentified keeps its program's name", root(tag{"service.name": "unknown_service:node"}), []string{"user → unknown_service:node http: calls 1, server 1×50ms"}},
	{"service: nothing but a program", root(tag{"process.executable.name": "node"}), []string{"user → unknown_service:node http: calls 1, server 1×50ms"}},
	{"service: nothing at all", root(nil), []string{"user → unknown_service http: calls 1, server 1×50ms"}},

	{"peer: service.peer.name before the host", caller(tag{"http.request.method": "GET", "service.peer.name": "pay", "peer.service": "x", "server.address": "10.0.0.7"}), []string{"a → ext:pay http: calls 1, client 1×50ms"}},
	{"peer: service.peer.namespace", caller(tag{"http.request.method": "GET", "service.peer.name": "pay", "service.peer.namespace": "bank"}), []string{"a → ext:bank/pay http: calls 1, client 1×50ms"}},
	{"peer: peer.service", caller(tag{"http.method": "GET", "peer.service": "pay"}), []string{"a → ext:pay http: calls 1, client 1×50ms"}},
	{"host: server.address", caller(tag{"http.request.method": "GET", "server.address": "api.example.com", "server.port": 443}), []string{"a → ext:api.example.com http: calls 1, client 1×50ms"}},
	{"host: net.peer.name", caller(tag{"http.method": "GET", "net.peer.name": "api.example.com", "net.peer.port": "8443"}), []string{"a → ext:api.example.com:8443 http: calls 1, client 1×50ms"}},
	{"host: http.host", caller(tag{"http.method": "GET", "http.host": "api.example.com:8080"}), []string{"a → ext:api.example.com:8080 http: calls 1, client 1×50ms"}},
	{"host: net.sock.peer.name", caller(tag{"http.method": "GET", "net.sock.peer.name": "api.example.com"}), []string{"a → ext:api.example.com http: calls 1, client 1×50ms"}},
	{"host: url.full", caller(tag{"http.request.method": "GET", "url.full": "https://api.example.com/v1?x=1"}), []string{"a → ext:api.example.com http: calls 1, client 1×50ms"}},
	{"host: http.url", caller(tag{"http.method": "GET", "http.url": "http://api.example.com:8080/v1"}), []string{"a → ext:api.example.com:8080 http: calls 1, client 1×50ms"}},
	{"host: network.peer.address", caller(tag{"http.request.method": "GET", "network.peer.address": "192.0.2.7", "server.port": 8080}), []string{"a → ext:192.0.2.7:8080 http: calls 1, client 1×50ms"}},
	{"host: net.sock.peer.addr", caller(tag{"http.method": "GET", "net.sock.peer.addr": "192.0.2.7"}), []string{"a → ext:192.0.2.7 http: calls 1, client 1×50ms"}},
	{"host: net.peer.ip", caller(tag{"http.method": "GET", "net.peer.ip": "192.0.2.7"}), []string{"a → ext:192.0.2.7 http: calls 1, client 1×50ms"}},
	{"host: none", caller(tag{"http.request.method": "GET"}), []string{"a → unknown http: calls 1, client 1×50ms"}},

	{"rpc: grpc", caller(tag{"rpc.system.name": "grpc", "rpc.method": "shop.Cart/Get", "server.address": "b"}), []string{"a → ext:b grpc: calls 1, client 1×50ms"}},
	{"rpc: connectrpc", caller(tag{"rpc.system.name": "connectrpc", "server.address": "b", "rpc.response.status_code": "unavailable"}), []string{"a → ext:b rpc: calls 1, errors 1, server_error 1, client 1×50ms"}},
	{"rpc: connect_rpc", caller(tag{"rpc.system": "connect_rpc", "server.address": "b", "rpc.connect_rpc.error_code": "deadline_exceeded"}), []string{"a → ext:b rpc: calls 1, errors 1, timeout 1, client 1×50ms"}},
	{"rpc: dubbo", caller(tag{"rpc.system.name": "dubbo", "server.address": "b"}), []string{"a → ext:b rpc: calls 1, client 1×50ms"}},
	{"rpc: apache_dubbo", caller(tag{"rpc.system": "apache_dubbo", "net.peer.name": "b"}), []string{"a → ext:b rpc: calls 1, client 1×50ms"}},
	{"rpc: status by the newest name", caller(tag{"rpc.system.name": "grpc", "server.address": "b", "rpc.status_code": "DEADLINE_EXCEEDED", "rpc.grpc.status_code": 0}), []string{"a → ext:b grpc: calls 1, errors 1, timeout 1, client 1×50ms"}},
	{"rpc: status by number", caller(tag{"rpc.system": "grpc", "net.peer.name": "b", "rpc.grpc.status_code": 8}), []string{"a → ext:b grpc: calls 1, errors 1, throttled 1, client 1×50ms"}},
	{"rpc: status by Envoy", caller(tag{"rpc.system": "grpc", "net.peer.name": "b", "grpc.status_code": "16"}), []string{"a → ext:b grpc: calls 1, errors 1, auth 1, client 1×50ms"}},
	{"rpc: JSON-RPC, no such method", caller(tag{"rpc.system": "jsonrpc", "net.peer.name": "b", "rpc.jsonrpc.error_code": -32601}), []string{"a → ext:b rpc: calls 1, errors 1, contract 1, client 1×50ms"}},
	{"rpc: JSON-RPC, bad parameters", caller(tag{"rpc.system": "jsonrpc", "net.peer.name": "b", "rpc.jsonrpc.error_code": "-32602"}), []string{"a → ext:b rpc: calls 1, client errors 1, client 1×50ms"}},
	{"rpc: JSON-RPC, an error of the program's own", caller(tag{"rpc.system": "jsonrpc", "net.peer.name": "b", "rpc.jsonrpc.error_code": 7}), []string{"a → ext:b rpc: calls 1, errors 1, server_error 1, client 1×50ms"}},

	{"db: new names", caller(tag{"db.system.name": "microsoft.sql_server", "db.namespace": "orders", "server.address": "db1", "server.port": 1433}), []string{"a → db:microsoft.sql_server/orders@db1 db: calls 1, client 1×50ms"}},
	{"db: old names", caller(tag{"db.system": "mssql", "db.name": "orders", "net.peer.name": "db1", "net.peer.port": 1433}), []string{"a → db:microsoft.sql_server/orders@db1 db: calls 1, client 1×50ms"}},
	{"db: dynamodb", caller(tag{"db.system": "dynamodb"}), []string{"a → db:aws.dynamodb db: calls 1, client 1×50ms"}},
	{"db: redis by index", caller(tag{"db.system": "redis", "db.redis.database_index": 3, "net.peer.name": "r", "net.peer.port": 6379}), []string{"a → db:redis/3@r db: calls 1, client 1×50ms"}},
	{"db: cassandra by keyspace", caller(tag{"db.system": "cassandra", "db.cassandra.keyspace": "k"}), []string{"a → db:cassandra/k db: calls 1, client 1×50ms"}},
	{"db: elasticsearch by cluster", caller(tag{"db.system": "elasticsearch", "db.elasticsearch.cluster.name": "c"}), []string{"a → db:elasticsearch/c db: calls 1, client 1×50ms"}},

	{"queue: template before name", caller(tag{"messaging.system": "rabbitmq", "messaging.operation.type": "send", "messaging.destination.template": "orders.{id}", "messaging.destination.name": "orders.7"}), []string{"a → queue:rabbitmq/orders.{id} messaging: calls 1, client 1×50ms, messages 1"}},
	{"queue: old names", caller(tag{"messaging.system": "rabbitmq", "messaging.operation": "publish", "messaging.destination": "orders"}), []string{"a → queue:rabbitmq/orders messaging: calls 1, client 1×50ms, messages 1"}},
	{"queue: temporary", caller(tag{"messaging.system": "rabbitmq", "messaging.operation.type": "send", "messaging.destination.name": "amq.gen-7", "messaging.destination.temporary": true}), []string{"a → queue:rabbitmq/(temporary) messaging: calls 1, client 1×50ms, messages 1"}},
	{"queue: anonymous", caller(tag{"messaging.system": "rabbitmq", "messaging.operation.type": "send", "messaging.destination.name": "amq.gen-8", "messaging.destination.anonymous": "true"}), []string{"a → queue:rabbitmq/(temporary) messaging: calls 1, client 1×50ms, messages 1"}},

	{"faas: invoked function", caller(tag{"faas.invoked_name": "resize", "faas.invoked_provider": "aws", "faas.invoked_region": "eu-west-1", "server.address": "lambda.eu-west-1.amazonaws.com"}), []string{"a → ext:aws/eu-west-1/resize rpc: calls 1, client 1×50ms"}},
	{"faas: invoked function that sends spans", append(caller(tag{"faas.invoked_name": "resize", "faas.invoked_provider": "aws"}),
		tspan{trace: 1, id: 2, parent: 1, kind: kindServer, at: 5, ms: 30, attrs: tag{"faas.trigger": "other"}, resource: tag{"faas.name": "resize"}}), []string{"a → resize rpc: calls 1, client 1×50ms, server 1×30ms"}},
	{"faas: invoked function known by name", append(caller(tag{"faas.invoked_name": "resize", "faas.invoked_provider": "aws"}),
		tspan{trace: 2, id: 2, kind: kindServer, at: 5, ms: 30, attrs: tag{"faas.trigger": "http"}, resource: tag{"faas.name": "resize"}}), []string{
		"a → resize rpc: calls 1, client 1×50ms, server missing 1", "ingress → resize http: calls 1, server 1×30ms",
	}},
	{"gen-ai: provider", caller(tag{"gen_ai.provider.name": "openai", "gen_ai.operation.name": "chat", "server.address": "api.openai.com"}), []string{"a → llm:openai rpc: calls 1, client 1×50ms"}},
	{"gen-ai: old name, around the request that carries it", append(caller(tag{"gen_ai.system": "anthropic"}),
		tspan{service: "a", trace: 1, id: 2, parent: 1, kind: kindClient, at: 5, ms: 30, attrs: tag{"http.request.method": "POST", "server.address": "api.anthropic.com"}}), []string{"a → llm:anthropic rpc: calls 1, client 1×50ms"}},
}

// cases are the rows of the table that leads from what is seen to an edge, by their numbers; those of proxies, 17 and
// 18, have a test of their own.
var cases = []struct {
	name  string
	spans []tspan
	want  []string
}{
	{"1 client and server", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: get},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: serve},
	}, []string{"a → b http: calls 1, client 1×100ms, server 1×80ms"}},
	{"1 client and server, old names", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: old},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: tag{"http.method": "GET", "http.status_code": "200"}},
	}, []string{"a → b http: calls 1, client 1×100ms, server 1×80ms"}},
	{"2 database", caller(tag{"db.system.name": "postgresql", "db.namespace": "orders", "server.address": "db1"}), []string{"a → db:postgresql/orders@db1 db: calls 1, client 1×50ms"}},
	{"3 no child, but the service of that name", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: get},
		{service: "b", trace: 2, id: 2, kind: kindServer, at: 10, ms: 80, attrs: serve},
	}, []string{"a → b http: calls 1, client 1×100ms, server missing 1", "user → b http: calls 1, server 1×80ms"}},
	{"3 no child, but a pod of that IP", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: tag{"http.request.method": "GET", "network.peer.address": "10.1.2.3", "server.port": 8080}},
		{service: "b", trace: 2, id: 2, kind: kindServer, at: 10, ms: 80, attrs: serve, resource: tag{"k8s.pod.ip": "10.1.2.3"}},
	}, []string{"a → b http: calls 1, client 1×100ms, server missing 1", "user → b http: calls 1, server 1×80ms"}},
	{"3 no child, but the service of that name, written whole", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: with(get, "server.address", "b.")},
		{service: "b", trace: 2, id: 2, kind: kindServer, at: 10, ms: 80, attrs: serve},
	}, []string{"a → b http: calls 1, client 1×100ms, server missing 1", "user → b http: calls 1, server 1×80ms"}},
	{"4 no child, a name written whole", caller(tag{"http.request.method": "GET", "server.address": "API.Stripe.com."}), []string{"a → ext:api.stripe.com http: calls 1, client 1×50ms"}},
	{"4 no child, and a name of nothing but a dot", caller(tag{"http.request.method": "GET", "server.address": "."}), []string{"a → unknown http: calls 1, client 1×50ms"}},
	{"4 no child, nothing known", caller(get), []string{"a → ext:b:8080 http: calls 1, client 1×50ms"}},
	{"5 server without parent", []tspan{{service: "b", trace: 1, id: 1, kind: kindServer, at: 0, ms: 50, attrs: serve}}, []string{"user → b http: calls 1, server 1×50ms"}},
	{"5 function behind a trigger", []tspan{{service: "b", trace: 1, id: 1, kind: kindServer, at: 0, ms: 50, attrs: tag{"faas.trigger": "http"}}}, []string{"ingress → b http: calls 1, server 1×50ms"}},
	{"5 function behind a timer, which calls", []tspan{
		{service: "b", trace: 1, id: 1, kind: kindServer, at: 0, ms: 50, attrs: tag{"faas.trigger": "timer"}},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindClient, at: 5, ms: 20, attrs: tag{"gen_ai.provider.name": "openai"}},
	}, []string{"b → llm:openai rpc: calls 1, client 1×20ms", "ingress → b unknown: calls 1, server 1×50ms"}},
	{"5 function that a service calls", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 50, attrs: get},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 5, ms: 30, attrs: tag{"faas.trigger": "http"}},
	}, []string{"a → b http: calls 1, client 1×50ms, server 1×30ms"}},
	{"6 server whose parent was never seen", []tspan{{service: "b", trace: 1, id: 1, parent: 9, kind: kindServer, at: 0, ms: 50, attrs: serve}}, []string{"unknown → b http: calls 1, server 1×50ms, client missing 1"}},
	{"7 below an internal span of another service", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindInternal, at: 0, ms: 100},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: serve},
	}, []string{"a → b http: calls 1, server 1×80ms, client missing 1"}},
	{"7 below a server span of another service", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 100, attrs: serve},
		{service: "b", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: serve},
	}, []string{"a → b http: calls 1, server 1×80ms, client missing 1", "user → a http: calls 1, server 1×100ms"}},
	{"7 below a span of the same service in another process", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 100, attrs: serve},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: serve, flags: 0x300},
	}, []string{"a → a http: calls 1, server 1×80ms, client missing 1", "user → a http: calls 1, server 1×100ms"}},
	{"8 below a span of the same service", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 100, attrs: serve},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: serve, flags: 0x100},
	}, []string{"user → a http: calls 1, server 1×100ms"}},
	{"9 a service calls itself", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: get},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: serve, flags: 0x300},
	}, []string{"a → a http: calls 1, client 1×100ms, server 1×80ms"}},
	{"10 internal spans between", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 200, attrs: serve},
		{service: "a", trace: 1, id: 2, parent: 1, kind: kindInternal, at: 5, ms: 190},
		{service: "a", trace: 1, id: 3, parent: 2, kind: kindClient, at: 10, ms: 100, attrs: get},
		{service: "b", trace: 1, id: 4, parent: 3, kind: kindServer, at: 20, ms: 80, attrs: serve},
	}, []string{"a → b http: calls 1, client 1×100ms, server 1×80ms", "user → a http: calls 1, server 1×200ms"}},
	{"11 producer", []tspan{{service: "a", trace: 1, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: tag{"messaging.system": "kafka", "messaging.destination.name": "orders", "messaging.batch.message_count": 7}}}, []string{"a → queue:kafka/orders messaging: calls 1, client 1×5ms, messages 7"}},
	{"11 client that sends", caller(tag{"messaging.system": "kafka", "messaging.destination.name": "orders", "messaging.operation.type": "send"}), []string{"a → queue:kafka/orders messaging: calls 1, client 1×50ms, messages 1"}},
	{"12 consumer", []tspan{{service: "b", trace: 1, id: 1, kind: kindConsumer, at: 0, ms: 50, attrs: tag{"messaging.system": "kafka", "messaging.destination.name": "orders", "messaging.operation": "deliver"}}}, []string{"queue:kafka/orders → b messaging: calls 1, server 1×50ms, messages 1"}},
	{"13 client that polls", caller(tag{"messaging.system": "kafka", "messaging.destination.name": "orders", "messaging.operation.type": "receive"}), nil},
	{"13 client that polls, old name", caller(tag{"messaging.system": "kafka", "messaging.destination": "orders", "messaging.operation": "receive"}), nil},
	{"14 settling", caller(tag{"messaging.system": "servicebus", "messaging.destination.name": "orders", "messaging.operation.type": "settle"}), nil},
	{"14 acknowledging, by the operation's own name", caller(tag{"messaging.system": "rabbitmq", "messaging.destination.name": "orders", "messaging.operation.name": "ack"}), nil},
	{"15 messages pushed over HTTP", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindProducer, at: 0, ms: 5, attrs: tag{"messaging.system": "gcp_pubsub", "messaging.destination.name": "orders"}},
		{service: "b", trace: 2, id: 2, kind: kindServer, at: 100, ms: 50, attrs: serve},
		{service: "b", trace: 2, id: 3, parent: 2, kind: kindConsumer, at: 101, ms: 48, link: [2]byte{1, 1}, attrs: tag{"messaging.system": "gcp_pubsub", "messaging.destination.name": "orders", "messaging.operation.type": "process"}},
	}, []string{"a → queue:gcp_pubsub/orders messaging: calls 1, client 1×5ms, messages 1", "queue:gcp_pubsub/orders → b messaging: calls 1, server 1×48ms, messages 1"}},
	{"15 a request that processes a message beside other things", []tspan{
		{service: "b", trace: 2, id: 2, kind: kindServer, at: 100, ms: 50, attrs: serve},
		{service: "b", trace: 2, id: 3, parent: 2, kind: kindConsumer, at: 101, ms: 8, attrs: tag{"messaging.system": "kafka", "messaging.destination.name": "orders", "messaging.operation.type": "process"}},
		{service: "b", trace: 2, id: 4, parent: 2, kind: kindInternal, at: 120, ms: 8},
	}, []string{"queue:kafka/orders → b messaging: calls 1, server 1×8ms, messages 1", "user → b http: calls 1, server 1×50ms"}},
	{"16 database in memory", []tspan{{service: "a", trace: 1, id: 1, kind: kindInternal, at: 0, ms: 5, attrs: tag{"db.system.name": "h2database"}}}, nil},
	{"19 links of synchronous code", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindServer, at: 0, ms: 100, attrs: serve},
		{service: "b", trace: 2, id: 2, kind: kindInternal, at: 10, ms: 80, link: [2]byte{1, 1}},
	}, []string{"a → b linked: calls 0, messages 1", "user → a http: calls 1, server 1×100ms"}},
	{"20 one id for both halves", []tspan{
		{service: "a", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: get},
		{service: "b", trace: 1, id: 1, kind: kindServer, at: 10, ms: 80, attrs: serve},
	}, []string{"a → b http: calls 1, client 1×100ms, server 1×80ms"}},
	{"20 one id for both halves, old names, below a parent", []tspan{
		{service: "a", trace: 1, id: 9, kind: kindServer, at: 0, ms: 200, attrs: serve},
		{service: "a", trace: 1, id: 1, parent: 9, kind: kindClient, at: 0, ms: 100, attrs: old},
		{service: "b", trace: 1, id: 1, parent: 9, kind: kindServer, at: 10, ms: 80, attrs: tag{"http.method": "GET"}},
	}, []string{"a → b http: calls 1, client 1×100ms, server 1×80ms", "user → a http: calls 1, server 1×200ms"}},
}

func TestIdentities(t *testing.T) {
	for _, table := range [][]struct {
		name  string
		spans []tspan
		want  []string
	}{identities, cases} {
		for _, c := range table {
			t.Run(c.name, func(t *testing.T) {
				bodies := each(t, c.spans...)
				for range 2 { // in order, and the other way round
					in, live := newIntake()
					feed(t, in, epoch.Add(time.Second), bodies...)
					in.Tick(epoch.Add(12 * time.Second))
					if diff := cmp.Diff(c.want, briefs(live)); diff != "" {
						t.Error(diff)
					}
					for i, j := 0, len(bodies)-1; i < j; i, j = i+1, j-1 {
						bodies[i], bodies[j] = bodies[j], bodies[i]
					}
				}
			})
		}
	}
}

// Operations are low in cardinality, by the conventions' names and the old ones.
func TestOperations(t *testing.T) {
	for _, c := range []struct {
		name string
		span string
		tag  tag
		want string
	}{
		{"http.route", "GET /users/7", tag{"http.request.method": "GET", "http.route": "/users/{id}"}, "GET /users/{id}"},
		{"url.template", "GET /users/7", tag{"http.request.method": "GET", "url.template": "/users/{id}"}, "GET /users/{id}"},
		{"a name that is a template", "GET /v1/users/{id}", tag{"http.method": "GET"}, "GET /v1/users/{id}"},
		{"a name that is a template of colons", "GET /v1/users/:id", tag{"http.method": "GET"}, "GET /v1/users/:id"},
		{"a name that may be a raw path", "GET /articles/how-to-cook", tag{"http.method": "GET"}, "GET"},
		{"a raw path without a method", "/articles/how-to-cook", tag{"http.status_code": 200}, "HTTP"},
		{"rpc.method, fully qualified", "x", tag{"rpc.system.name": "grpc", "rpc.method": "/shop.Cart/Get"}, "shop.Cart/Get"},
		{"rpc.service and rpc.method", "x", tag{"rpc.system": "grpc", "rpc.service": "shop.Cart", "rpc.method": "Get"}, "shop.Cart/Get"},
		{"db.query.summary", "x", tag{"db.system.name": "mysql", "db.query.summary": "SELECT orders", "db.query.text": "SELECT 7"}, "SELECT orders"},
		{"db.operation.name and collection", "x", tag{"db.system.name": "mysql", "db.operation.name": "SELECT", "db.collection.name": "orders"}, "SELECT orders"},
		{"db.operation and db.sql.table", "x", tag{"db.system": "mysql", "db.operation": "SELECT", "db.sql.table": "orders", "db.statement": "SELECT 7"}, "SELECT orders"},
		{"db.operation and db.mongodb.collection", "x", tag{"db.system": "mongodb", "db.operation": "find", "db.mongodb.collection": "orders"}, "find orders"},
		{"db.operation and db.cassandra.table", "x", tag{"db.system": "cassandra", "db.operation": "SELECT", "db.cassandra.table": "orders"}, "SELECT orders"},
		{"a database that says nothing", "SELECT 7", tag{"db.system": "mssql", "db.statement": "SELECT 7"}, "microsoft.sql_server"},
		{"messaging.operation.type", "x", tag{"messaging.system": "kafka", "messaging.operation.type": "send", "messaging.destination.name": "orders"}, "send orders"},
		{"messaging.operation", "x", tag{"messaging.system": "kafka", "messaging.operation": "publish", "messaging.destination": "orders"}, "publish orders"},
		{"faas.invoked_name", "x", tag{"faas.invoked_name": "resize"}, "resize"},
		{"gen_ai", "x", tag{"gen_ai.provider.name": "openai", "gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1", "http.request.method": "POST"}, "chat m-1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, live := newIntake()
			attrs := maps.Clone(c.tag)
			attrs["server.address"] = "b"
			feed(t, in, epoch.Add(time.Second), each(t, tspan{service: "a", trace: 1, id: 1, kind: kindClient, ms: 5, name: c.span, attrs: attrs})...)
			in.Tick(epoch.Add(12 * time.Second))
			var got []string
			windows, _ := live.Windows(time.Unix(0, 0), epoch.Add(time.Hour), true)
			for _, w := range windows {
				for _, d := range w.Details {
					if d.Key.Dimension == graph.Operation {
						got = append(got, d.Key.Name)
					}
				}
			}
			if diff := cmp.Diff([]string{c.want}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// An instance and a version are what the first of their attributes says; of a list its first element.
func TestInstancesAndVersions(t *testing.T) {
	for _, c := range []struct {
		resource          tag
		instance, version string
	}{
		{tag{"service.instance.id": "i", "k8s.pod.uid": "u", "service.version": "1", "container.image.tags": []string{"2"}}, "i", "1"},
		{tag{"k8s.pod.uid": "u", "k8s.pod.name": "p", "container.image.tags": []string{"v2", "latest"}}, "u", "v2"},
		{tag{"k8s.pod.name": "p", "container.id": "c", "container.image.tags": "v3"}, "p", "v3"},
		{tag{"container.id": "c", "host.id": "h"}, "c", ""},
		{tag{"host.id": "h", "host.name": "n"}, "h", ""},
		{tag{"host.name": "n"}, "n", ""},
	} {
		in, live := newIntake()
		span := root(with(c.resource, "service.name", "b"))[0]
		for _, k := range []string{"service.instance.id", "service.version"} {
			if _, ok := span.resource[k]; !ok {
				span.resource[k] = ""
			}
		}
		feed(t, in, epoch.Add(time.Second), each(t, span)...)
		windows, _ := live.Windows(time.Unix(0, 0), epoch.Add(time.Hour), true)
		for _, w := range windows {
			for _, n := range w.Nodes {
				if n.Instance != c.instance || n.Version != c.version {
					t.Errorf("%v: instance %q, version %q; want %q, %q", c.resource, n.Instance, n.Version, c.instance, c.version)
				}
			}
			if len(w.Nodes) != 1 {
				t.Errorf("%v: %d processes, want 1", c.resource, len(w.Nodes))
			}
		}
	}
}

// The calls of a version are counted together, however many instances run it.
func TestVersionsAreSharedByInstances(t *testing.T) {
	in, live := newIntake()
	most := graph.DefaultLiveConfig().MaxVersions
	for i := range 3 * most {
		span := root(tag{"service.name": "b", "service.version": "1." + strconv.Itoa(i%2)})[0]
		span.resource["service.instance.id"], span.trace = strconv.Itoa(i), byte(1+i)
		feed(t, in, epoch.Add(time.Second), each(t, span)...)
	}
	got := map[string]int64{}
	windows, _ := live.Windows(time.Unix(0, 0), epoch.Add(time.Hour), true)
	rows := 0
	for _, w := range windows {
		for i := range w.Details {
			if d := &w.Details[i]; d.Key.Dimension == graph.Version {
				got[d.Key.Name] += d.Detail.Calls
				rows++
			}
		}
	}
	if half := int64(3 * most / 2); rows != 2 || got["1.0"] != half || got["1.1"] != half {
		t.Errorf("versions %v in %d rows", got, rows)
	}
}
