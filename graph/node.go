// Package graph keeps calls as windows: the live dependency graph and the words in which the rest of the program speaks
// of it. A Node is who takes part, an EdgeKey who calls whom and how, a Call one observation of a call, an EdgeStats what
// a window knows of an edge, a Window everything that was seen in ten seconds or a minute, a Map what a person sees.
//
// Everything in a window is a sum of integers, so windows written by different collectors, or in several parts because
// something came late, add up to the same answer in any order. Live is safe for concurrent use and bounded; everything
// else is a plain value. Time is always a parameter.
package graph

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// NodeKind says what a node is. The zero value is Unknown.
type NodeKind uint8

// The kinds of nodes, as the API names them.
const (
	Unknown  NodeKind = iota // a caller that no span names
	Service                  // something that sends spans
	Gateway                  // a proxy with a service name of its own
	Database                 // db:…
	Cache                    // db:redis…, db:memcached…
	Queue                    // queue:…
	External                 // ext:…
	User                     // whoever calls an entry point
	LLM                      // llm:…, a provider of generative models
	Ingress                  // what triggers a function
	numNodeKinds
)

var nodeKindNames = [numNodeKinds]string{"unknown", "service", "gateway", "database", "cache", "queue", "external", "user", "llm", "ingress"}

// String returns the kind's name in the API.
func (k NodeKind) String() string {
	if k < numNodeKinds {
		return nodeKindNames[k]
	}
	return nodeKindNames[Unknown]
}

// MarshalText writes the kind's name.
func (k NodeKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// ParseNodeKind is the inverse of String; what it does not know is Unknown.
func ParseNodeKind(s string) NodeKind {
	for k, name := range nodeKindNames {
		if name == s {
			return NodeKind(k)
		}
	}
	return Unknown
}

// Protocol says how an edge's calls are made. The zero value is unknown.
type Protocol uint8

// The protocols, as the API names them.
const (
	ProtocolUnknown Protocol = iota
	HTTP
	GRPC
	RPC
	DB
	Messaging
	Internal
	Linked // no call: spans of the target link to spans of the source, see Map.Links
	numProtocols
)

var protocolNames = [numProtocols]string{"unknown", "http", "grpc", "rpc", "db", "messaging", "internal", "linked"}

// String returns the protocol's name in the API.
func (p Protocol) String() string {
	if p < numProtocols {
		return protocolNames[p]
	}
	return protocolNames[ProtocolUnknown]
}

// MarshalText writes the protocol's name.
func (p Protocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Node is one participant, comparable. Its id is unique within its environment.
type Node struct {
	Env  string
	Kind NodeKind
	// Namespace is the service.namespace of a service, or "".
	Namespace string
	// Name is what the node is called: the service.name; for the other kinds the id without its prefix,
	// such as "postgresql/orders@db1", "kafka/orders" or, in a cluster that is named, "kafka/orders@MkU3".
	Name string
}

// The prefixes of ids by kind.
const (
	dbPrefix    = "db:"
	queuePrefix = "queue:"
	extPrefix   = "ext:"
	llmPrefix   = "llm:"
	// servicePrefix is that of services without a namespace whose name alone would read as something else.
	servicePrefix = "service:"
)

// ID returns the node's id as the API shows it: "namespace/name" or "name" for services and gateways,
// "db:<system>/<namespace>@<host>", "queue:<system>/<destination>[@<cluster>]", "ext:<host>", "llm:<provider>",
// "user", "ingress", "unknown". Where a service is called as if it were something else, its id is "service:<name>", or has
// what is misleading in its namespace percent-encoded.
func (n Node) ID() string {
	switch n.Kind {
	case Service, Gateway:
		switch {
		case n.Namespace != "" && (misleading(n.Namespace) || strings.Contains(n.Namespace, "%")):
			return inNamespace.Replace(n.Namespace) + "/" + n.Name
		case n.Namespace != "":
			return n.Namespace + "/" + n.Name
		case misleading(n.Name):
			return servicePrefix + n.Name
		}
		return n.Name
	case Database, Cache:
		return dbPrefix + n.Name
	case Queue:
		return queuePrefix + n.Name
	case External:
		return extPrefix + n.Name
	case LLM:
		return llmPrefix + n.Name
	case User, Ingress:
		return n.Kind.String()
	default:
		return "unknown"
	}
}

// misleading reports whether a name reads as the id of something else, or as a step in a path.
func misleading(name string) bool {
	switch name {
	case "user", "ingress", "unknown", ".", "..":
		return true
	}
	for _, prefix := range [...]string{dbPrefix, queuePrefix, extPrefix, llmPrefix, servicePrefix} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return strings.Contains(name, "/")
}

// inNamespace leaves nothing in a namespace that could mislead.
var inNamespace = strings.NewReplacer("%", "%25", "/", "%2F", ":", "%3A", ".", "%2E")

// UnknownService is what a service is called that does not say, as SDKs do, who may add the name of the program.
const UnknownService = "unknown_service"

// Unidentified reports whether the node is a service that does not say what it is called, by whatever name.
func (n Node) Unidentified() bool {
	return n.Identity().Kind == Service && strings.HasPrefix(n.Name, UnknownService)
}

// Outside reports whether the node stands for callers that are not seen.
func (n Node) Outside() bool { return n.Kind == User || n.Kind == Ingress || n.Kind == Unknown }

// Identity returns the node as edges have it. Whether a service is a gateway is found out with time and by its
// processes, so it is no part of who it is: only the rows of processes and the nodes of a map say Gateway.
func (n Node) Identity() Node {
	if n.Kind == Gateway {
		n.Kind = Service
	}
	return n
}

// DatabaseName joins the parts of a database's name; parts that are not known are left out with their separator.
func DatabaseName(system, namespace, host string) string {
	var b strings.Builder
	b.WriteString(system)
	if namespace != "" {
		b.WriteByte('/')
		b.WriteString(namespace)
	}
	if host != "" {
		b.WriteByte('@')
		b.WriteString(host)
	}
	return b.String()
}

// QueueName joins the parts of a queue's name; parts that are not known are left out with their separator.
func QueueName(system, destination string) string {
	switch {
	case system == "":
		return destination
	case destination == "":
		return system
	}
	return system + "/" + destination
}

// EdgeKey says who calls whom, and how. It is comparable; both nodes are of one environment.
type EdgeKey struct {
	Source, Target Node
	Protocol       Protocol
}

var edgeEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// ID returns the edge's id: sixteen characters that are safe in a URL, the same for the same edge for ever, by the
// first 80 bits of a SHA-256 over environment, ends and protocol.
func (k EdgeKey) ID() string {
	var buf [256]byte
	b := buf[:0]
	for _, s := range [...]string{k.Source.Env, k.Source.ID(), k.Target.ID(), k.Protocol.String()} {
		b = append(append(b, s...), 0)
	}
	h := sha256.Sum256(b)
	return edgeEncoding.EncodeToString(h[:10])
}

// Env returns the environment that the edge belongs to.
func (k EdgeKey) Env() string { return k.Source.Env }
