package ingest

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"

	"faultline/graph"
	"faultline/ingest/otlpwire"
)

// The attributes that name a thing, new conventions before old ones.
var (
	methodKeys        = []otlpwire.Key{otlpwire.HTTPRequestMethod, otlpwire.HTTPMethod}
	routeKeys         = []otlpwire.Key{otlpwire.HTTPRoute, otlpwire.URLTemplate}
	rpcSystemKeys     = []otlpwire.Key{otlpwire.RPCSystemName, otlpwire.RPCSystem}
	dbSystemKeys      = []otlpwire.Key{otlpwire.DBSystemName, otlpwire.DBSystem}
	dbNamespaceKeys   = []otlpwire.Key{otlpwire.DBNamespace, otlpwire.DBName, otlpwire.DBRedisIndex, otlpwire.DBCassandraKeyspace, otlpwire.DBElasticsearchCluster}
	dbOperationKeys   = []otlpwire.Key{otlpwire.DBOperationName, otlpwire.DBOperation}
	dbCollectionKeys  = []otlpwire.Key{otlpwire.DBCollectionName, otlpwire.DBSQLTable, otlpwire.DBMongoCollection, otlpwire.DBCassandraTable, otlpwire.DBCosmosContainer}
	destinationKeys   = []otlpwire.Key{otlpwire.MessagingDestinationTemplate, otlpwire.MessagingDestinationName, otlpwire.MessagingDestination}
	messagingOpKeys   = []otlpwire.Key{otlpwire.MessagingOperationType, otlpwire.MessagingOperation, otlpwire.MessagingOperationName}
	declaredPeerKeys  = []otlpwire.Key{otlpwire.ServicePeerName, otlpwire.PeerService}
	peerHostKeys      = []otlpwire.Key{otlpwire.ServerAddress, otlpwire.NetPeerName, otlpwire.HTTPHost, otlpwire.NetSockPeerName}
	peerPortKeys      = []otlpwire.Key{otlpwire.ServerPort, otlpwire.NetPeerPort}
	peerURLKeys       = []otlpwire.Key{otlpwire.URLFull, otlpwire.HTTPURL}
	peerAddressKeys   = []otlpwire.Key{otlpwire.NetworkPeerAddress, otlpwire.NetSockPeerAddr, otlpwire.NetPeerIP, otlpwire.UpstreamAddress, otlpwire.PeerAddress}
	upstreamKeys      = []otlpwire.Key{otlpwire.UpstreamClusterName, otlpwire.UpstreamCluster}
	genAIKeys         = []otlpwire.Key{otlpwire.GenAIProviderName, otlpwire.GenAISystem}
	messagingSendOps  = []string{"send", "publish", "create"}
	messagingPollOps  = []string{"receive", "poll"}
	messagingDownOps  = []string{"nack", "reject", "abandon"}
	messagingDeadOps  = []string{"dead_letter", "deadletter", "dead-letter"}
	messagingQuietOps = []string{"ack", "heartbeat", "commit"}
)

// dbSystems are the systems whose names changed, old to new.
var dbSystems = map[string]string{
	"mssql": "microsoft.sql_server", "dynamodb": "aws.dynamodb", "redshift": "aws.redshift", "cosmosdb": "azure.cosmosdb",
	"spanner": "gcp.spanner", "oracle": "oracle.db", "db2": "ibm.db2", "hanadb": "sap.hana", "h2": "h2database",
	"firebird": "firebirdsql",
}

// dbPorts are the systems' default ports, which are left out of names.
var dbPorts = map[string]string{
	"postgresql": "5432", "mysql": "3306", "mariadb": "3306", "mongodb": "27017", "redis": "6379", "memcached": "11211",
	"cassandra": "9042", "elasticsearch": "9200", "opensearch": "9200", "microsoft.sql_server": "1433", "oracle.db": "1521",
	"clickhouse": "9000", "couchdb": "5984", "neo4j": "7687", "cockroachdb": "26257", "ibm.db2": "50000",
}

// isCache tells the systems that are drawn as caches.
func isCache(system string) bool {
	return system == "redis" || system == "memcached" || system == "valkey"
}

// protocolOf tells how a span's call is made.
func protocolOf(sp *otlpwire.Span) graph.Protocol {
	if sp.Has(otlpwire.DBSystemName) || sp.Has(otlpwire.DBSystem) {
		return graph.DB
	}
	if sp.Has(otlpwire.RPCSystemName) || sp.Has(otlpwire.RPCSystem) {
		if system := sp.Text(rpcSystemKeys...); string(system) == "grpc" {
			return graph.GRPC
		}
		return graph.RPC
	}
	if sp.Has(otlpwire.MessagingSystem) || sp.Kind == uint8(graph.SpanKindProducer) || sp.Kind == uint8(graph.SpanKindConsumer) {
		return graph.Messaging
	}
	if sp.Has(otlpwire.HTTPRequestMethod) || sp.Has(otlpwire.HTTPMethod) || sp.Has(otlpwire.URLFull) || sp.Has(otlpwire.HTTPURL) ||
		sp.Has(otlpwire.HTTPResponseStatusCode) || sp.Has(otlpwire.HTTPStatusCode) {
		return graph.HTTP
	}
	// Functions and models are called over some protocol that such a span does not name.
	if sp.Has(otlpwire.FaaSInvokedName) || len(sp.Text(genAIKeys...)) > 0 {
		return graph.RPC
	}
	if string(sp.Text(otlpwire.FaaSTrigger)) == "http" {
		return graph.HTTP
	}
	return graph.ProtocolUnknown
}

// operationName appends the name of what a span does, low in cardinality: never a raw path or query.
func operationName(b []byte, sp *otlpwire.Span, protocol graph.Protocol) []byte {
	if op := sp.Text(otlpwire.GenAIOperationName); len(op) > 0 {
		return join(b, op, ' ', sp.Text(otlpwire.GenAIRequestModel))
	}
	switch protocol {
	case graph.HTTP:
		method := sp.Text(methodKeys...)
		if route := sp.Text(routeKeys...); len(route) > 0 {
			return join(b, method, ' ', route)
		}
		m, path, _ := bytes.Cut(sp.Name, []byte{' '})
		switch {
		case bytes.Equal(m, method) && isTemplate(path):
			return append(b, sp.Name...)
		case len(method) > 0:
			return append(b, method...)
		case bytes.IndexByte(sp.Name, '/') >= 0 && !isTemplate(path):
			return append(b, "HTTP"...) // the name may be a raw path
		}
	case graph.GRPC, graph.RPC:
		method := sp.Text(otlpwire.RPCMethod)
		if bytes.IndexByte(method, '/') >= 0 {
			return append(b, bytes.TrimPrefix(method, []byte{'/'})...)
		}
		if service := sp.Text(otlpwire.RPCService); len(service) > 0 || len(method) > 0 {
			return join(b, service, '/', method)
		}
		if name := sp.Text(otlpwire.FaaSInvokedName); len(name) > 0 {
			return append(b, name...)
		}
	case graph.DB:
		if s := sp.Text(otlpwire.DBQuerySummary); len(s) > 0 {
			return append(b, s...)
		}
		operation, collection := sp.Text(dbOperationKeys...), sp.Text(dbCollectionKeys...)
		if len(operation) > 0 || len(collection) > 0 {
			return join(b, operation, ' ', collection)
		}
		return append(b, dbSystem(sp)...)
	case graph.Messaging:
		if op := sp.Text(messagingOpKeys...); len(op) > 0 {
			return join(b, op, ' ', destination(sp))
		}
	}
	return append(b, sp.Name...)
}

// isTemplate tells a path with a place for a value, as routers write it, from one that holds the value itself.
func isTemplate(path []byte) bool {
	if len(path) == 0 || path[0] != '/' {
		return false
	}
	open := bytes.IndexByte(path, '{')
	return open >= 0 && bytes.IndexByte(path[open:], '}') > 0 || bytes.Contains(path, []byte("/:")) || bytes.Contains(path, []byte("/*"))
}

// dbSystem returns the database system under its present name.
func dbSystem(sp *otlpwire.Span) string {
	system := sp.Text(dbSystemKeys...)
	if renamed, ok := dbSystems[string(system)]; ok {
		return renamed
	}
	return string(system)
}

func join(b, left []byte, separator byte, right []byte) []byte {
	b = append(b, left...)
	if len(left) > 0 && len(right) > 0 {
		b = append(b, separator)
	}
	return append(b, right...)
}

// temporary is the name that destinations made for one conversation share.
var temporary = []byte("(temporary)")

func destination(sp *otlpwire.Span) []byte {
	for _, k := range [...]otlpwire.Key{otlpwire.MessagingDestinationTemporary, otlpwire.MessagingDestinationAnonymous} {
		if v := sp.Get(k); v.Num == 1 || string(v.Text) == "true" {
			return temporary
		}
	}
	return sp.Text(destinationKeys...)
}

// role is what a span does that is more than one side of a call.
type role uint8

const (
	ordinary role = iota
	sends
	receives // polls
	processes
	settles
	turnsDown // settles a message by giving it back
	givesUp   // or by sending it to the dead letters
	leftOut   // ignored by the rules
	triggered // a function's, which something else than a request of a user may have set off
	outward   // a proxy's, for what comes in from others or goes out to them
	homeward  // a proxy's, for what it hands to the service that it stands beside
)

// settling reports whether a span ends what a consumer has to do with a message.
func (r role) settling() bool { return r == settles || r == turnsDown || r == givesUp }

// messagingRole tells what a span of a messaging system does, by its operation and, without one, by its kind.
func messagingRole(sp *otlpwire.Span) role {
	op := sp.Text(messagingOpKeys...)
	in := func(ops []string) bool {
		return slices.ContainsFunc(ops, func(o string) bool { return o == string(op) })
	}
	if string(op) == "settle" {
		if name := sp.Text(otlpwire.MessagingOperationName); len(name) > 0 {
			op = name
		}
	}
	switch {
	case in(messagingDownOps):
		return turnsDown
	case in(messagingDeadOps):
		return givesUp
	case in(messagingSendOps):
		return sends
	case in(messagingQuietOps), string(sp.Text(messagingOpKeys...)) == "settle":
		return settles
	case in(messagingPollOps):
		return receives
	case sp.Kind == uint8(graph.SpanKindConsumer), string(op) == "process", string(op) == "deliver":
		return processes
	case sp.Kind == uint8(graph.SpanKindProducer), sp.Kind == uint8(graph.SpanKindClient):
		return sends
	}
	return ordinary
}

// peerKey appends what distinguishes a span's peer: the texts of the attributes that name it.
func peerKey(b []byte, sp *otlpwire.Span, protocol graph.Protocol) []byte {
	b = append(b, byte(protocol))
	put := func(t []byte) {
		b = append(b, t...)
		b = append(b, 0)
	}
	switch protocol {
	case graph.DB:
		put(sp.Text(dbSystemKeys...))
		put(sp.Text(dbNamespaceKeys...))
		if v := sp.Get(otlpwire.DBRedisIndex); v.Type == otlpwire.Int {
			b = strconv.AppendInt(b, v.Num, 10)
			b = append(b, 0)
		}
	case graph.Messaging:
		put(sp.Text(otlpwire.MessagingSystem))
		put(destination(sp))
		put(clusterOf(sp))
		return b
	}
	put(sp.Text(declaredPeerKeys...))
	put(sp.Text(otlpwire.ServicePeerNamespace))
	put(sp.Text(genAIKeys...))
	if name := sp.Text(otlpwire.FaaSInvokedName); len(name) > 0 {
		put(name)
		put(sp.Text(otlpwire.FaaSInvokedProvider))
		put(sp.Text(otlpwire.FaaSInvokedRegion))
	}
	host := sp.Text(peerHostKeys...)
	put(host)
	for _, k := range peerPortKeys {
		if n, ok := number(sp.Get(k)); ok {
			b = strconv.AppendInt(b, n, 10)
			break
		}
	}
	b = append(b, 0)
	if len(host) == 0 {
		put(hostOfURL(sp.Text(peerURLKeys...)))
		put(sp.Text(upstreamKeys...))
		put(sp.Text(peerAddressKeys...))
	}
	return b
}

// hostOfURL returns the host and port of an absolute URL without parsing the rest of it.
func hostOfURL(url []byte) []byte {
	_, rest, ok := bytes.Cut(url, []byte("://"))
	if !ok {
		return nil
	}
	if i := bytes.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	if i := bytes.LastIndexByte(rest, '@'); i >= 0 {
		rest = rest[i+1:] // never keep credentials
	}
	return rest
}

// peer returns the peer of a span of service s, nil when there are too many.
func (d *directory) peer(s *service, key []byte, sp *otlpwire.Span, protocol graph.Protocol, minute uint32) *peer {
	s.mu.RLock()
	p := s.peers[string(key)]
	s.mu.RUnlock()
	if p == nil {
		s.mu.Lock()
		if p = s.peers[string(key)]; p == nil {
			if len(s.peers) >= maxPeers {
				s.mu.Unlock()
				d.overflow.Add(1)
				return nil
			}
			p = d.newPeer(s, sp, protocol)
			if d.peers.add(p) == 0 {
				d.forgo(p)
				s.mu.Unlock()
				d.overflow.Add(1)
				return nil
			}
			s.peers[string(key)] = p
		}
		s.mu.Unlock()
	}
	if p.used.Load() != minute {
		p.used.Store(minute)
	}
	return p
}

// newPeer reads whom a span called.
func (d *directory) newPeer(s *service, sp *otlpwire.Span, protocol graph.Protocol) *peer {
	p := &peer{protocol: protocol, service: s, node: graph.Node{Env: s.node.Env, Kind: graph.Unknown}}
	text := func(keys ...otlpwire.Key) string { return graph.CleanName(string(sp.Text(keys...))) }
	host, port := text(peerHostKeys...), ""
	for _, k := range peerPortKeys {
		if n, ok := number(sp.Get(k)); ok && n > 0 && n < 65536 {
			port = strconv.FormatInt(n, 10)
			break
		}
	}
	if host == "" {
		host = graph.CleanName(string(hostOfURL(sp.Text(peerURLKeys...))))
	}
	if host == "" {
		host = upstreamHost(text(upstreamKeys...))
	}
	if host == "" {
		host = text(peerAddressKeys...)
	}
	host, port = splitPort(host, port)
	host = strings.TrimRight(host, ".") // a name that is whole may end with one
	set := d.rules.Load()
	p.ignored = host != "" && set.IgnoresHost(s.node, strings.ToLower(host))
	switch protocol {
	case graph.DB:
		p.kind = peerDB
		system := graph.CleanName(dbSystem(sp))
		namespace := text(dbNamespaceKeys...)
		if v := sp.Get(otlpwire.DBRedisIndex); namespace == "" && v.Type == otlpwire.Int {
			namespace = strconv.FormatInt(v.Num, 10)
		}
		p.node.Kind = graph.Database
		if isCache(system) {
			p.node.Kind = graph.Cache
		}
		at := strings.ToLower(host)
		if port != "" && dbPorts[system] != port && at != "" {
			at += ":" + port
		}
		p.node.Name = graph.DatabaseName(system, namespace, at)
		return p
	case graph.Messaging:
		system, dest := text(otlpwire.MessagingSystem), graph.CleanName(string(destination(sp)))
		if name := graph.QueueName(system, dest); name != "" {
			d.queue(p, name, graph.CleanName(string(clusterOf(sp))))
		}
		return p
	}
	if provider := text(genAIKeys...); provider != "" {
		p.kind = peerModel
		p.node.Kind, p.node.Name = graph.LLM, provider
		return p
	}
	p.host = strings.ToLower(host)
	switch declared, function := text(declaredPeerKeys...), text(otlpwire.FaaSInvokedName); {
	case declared != "":
		namespace := text(otlpwire.ServicePeerNamespace)
		p.kind, p.declared, p.namespace = peerHost, declared, namespace
		p.self = declared == s.node.Name && (namespace == "" || namespace == s.node.Namespace)
		p.node.Kind, p.node.Name = graph.External, joined(namespace, declared)
	case function != "":
		// The address is that of the provider's front door, the same for all functions.
		p.kind, p.declared, p.host = peerHost, function, ""
		p.node.Kind, p.node.Name = graph.External, joined(text(otlpwire.FaaSInvokedProvider), text(otlpwire.FaaSInvokedRegion), function)
		port = ""
	case host != "":
		p.kind = peerHost
		p.node.Kind, p.node.Name = graph.External, external(host, port)
		if name, ok := set.External(p.host); ok {
			p.node.Name = name
		}
	}
	address := cmp.Or(p.host, p.node.Name)
	if address != "" && port != "" {
		address += ":" + port
	}
	if address != "" {
		p.alias = d.aliases.get(aliasKey{s.node.Env, s.node.Namespace, address})
	}
	return p
}

// joined joins the parts of a name that are known.
func joined(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "/")
}

// splitPort takes a port off a host that carries one. IPv6 addresses keep their colons.
func splitPort(host, port string) (string, string) {
	if i := strings.LastIndexByte(host, ':'); i > 0 && (strings.IndexByte(host, ':') == i || host[i-1] == ']') {
		if n, err := strconv.ParseUint(host[i+1:], 10, 16); err == nil {
			if port == "" {
				port = strconv.FormatUint(n, 10)
			}
			host = host[:i]
		}
	}
	return strings.Trim(host, "[]"), port
}

// upstreamHost reads Envoy's cluster name "outbound|<port>|<subset>|<fqdn>".
func upstreamHost(cluster string) string {
	if parts := strings.Split(cluster, "|"); len(parts) == 4 {
		if parts[1] != "" && parts[3] != "" {
			return parts[3] + ":" + parts[1]
		}
		return parts[3]
	}
	return cluster
}

// fallback returns the node on which calls to a peer lie when nobody answered: the service that is known to answer at
// its address, the service that is called like its host or its declared name, or a node for the host itself. missing
// says that it is a service, which should have sent its half.
func (d *directory) fallback(p *peer) (ref graph.NodeRef, missing bool) {
	if p.alias != nil {
		if a := p.alias.sure.Load(); a != 0 {
			return graph.NodeRef(a), true
		}
	}
	if p.kind == peerHost {
		if s := d.serviceOf(p); s != nil {
			s.called.Store(true)
			return s.ref, true
		}
	}
	if p.topic != nil && p.cluster == 0 {
		if only := p.topic.only.Load(); only != 0 {
			return graph.NodeRef(only), false
		}
	}
	if ref := p.ref.Load(); ref != 0 {
		return graph.NodeRef(ref), false
	}
	node := p.node
	if node.Kind == graph.External {
		node.Name = d.externals.admit(node.Env, node.Name)
	}
	ref = d.names.Node(node)
	p.ref.Store(uint32(ref))
	return ref, false
}

// serviceOf finds the one service that a declared name, the IP of one of its pods, or a Kubernetes name of the form name,
// name.namespace or name.namespace.svc[.zone], stands for.
func (d *directory) serviceOf(p *peer) *service {
	from := p.service
	if p.declared != "" {
		return d.named(from, p.namespace, p.declared)
	}
	if s := d.at(from.node.Env, p.host); s != nil {
		return s
	}
	name, rest, dotted := strings.Cut(p.host, ".")
	if !dotted {
		return d.named(from, "", name)
	}
	namespace, zone, _ := strings.Cut(rest, ".")
	if zone == "" || zone == "svc" || strings.HasPrefix(zone, "svc.") {
		return d.named(from, namespace, name)
	}
	return nil
}
