package ingest

import (
	"sync"
	"sync/atomic"

	"faultline/graph"
	"faultline/ingest/otlpwire"
)

// Two clusters may have a topic of one name. Spans say which cluster they mean by an id that the broker gives, as soon as
// their client has learned it, and some never do: those mean the only cluster that is known to have the topic.

var clusterKeys = []otlpwire.Key{otlpwire.KafkaClusterID, otlpwire.MessagingKafkaClusterID}

// clusterOf returns the cluster that a messaging span names, nil for none. A broker's address is no cluster's: clients
// talk to one broker or another. It is the whole namespace's only where all of it is reached at one address.
func clusterOf(sp *otlpwire.Span) []byte {
	if id := sp.Text(clusterKeys...); len(id) > 0 {
		return id
	}
	switch string(sp.Text(otlpwire.MessagingSystem)) {
	case "servicebus", "eventhubs":
		return sp.Text(peerHostKeys...)
	}
	return nil
}

// topicKey is a queue's node without its cluster.
type topicKey struct{ env, name string }

// topic is a queue of one name, in one cluster or several.
type topic struct {
	key  topicKey
	only atomic.Uint32 // the node of the one cluster's queue that is known; 0 for none, and for several

	peers    int                   // of it
	clusters map[graph.NodeRef]int // of those, by the node in the cluster that they name
}

// topicBook knows the topics that peers have. It is safe for concurrent use.
type topicBook struct {
	mu sync.Mutex
	m  map[topicKey]*topic
}

// join adds a peer to its topic: of the cluster whose queue's node is in, 0 for one that names none.
func (b *topicBook) join(k topicKey, in graph.NodeRef) *topic {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.m[k]
	if t == nil {
		if b.m == nil {
			b.m = map[topicKey]*topic{}
		}
		t = &topic{key: k, clusters: map[graph.NodeRef]int{}}
		b.m[k] = t
	}
	t.peers++
	if in != 0 {
		t.clusters[in]++
		t.settle()
	}
	return t
}

// leave is the inverse of join.
func (b *topicBook) leave(t *topic, in graph.NodeRef) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.peers--; t.peers == 0 {
		delete(b.m, t.key)
	}
	if in == 0 {
		return
	}
	if t.clusters[in]--; t.clusters[in] == 0 {
		delete(t.clusters, in)
		t.settle()
	}
}

// settle finds the only cluster, if there is one. Callers hold the book's mu.
func (t *topic) settle() {
	only := graph.NodeRef(0)
	if len(t.clusters) == 1 {
		for in := range t.clusters {
			only = in
		}
	}
	t.only.Store(uint32(only))
}

// queue makes p the peer of a queue.
func (d *directory) queue(p *peer, name, cluster string) {
	p.kind = peerQueue
	p.node.Kind, p.node.Name = graph.Queue, name
	k := topicKey{p.node.Env, name}
	if cluster != "" {
		p.node.Name += "@" + cluster
		p.cluster = d.names.Node(p.node)
	}
	p.topic = d.topics.join(k, p.cluster)
}

// free lets a peer's number be given again.
func (d *directory) free(p *peer) {
	d.forgo(p)
	d.peers.free(p)
}

// forgo takes a peer out of its topic.
func (d *directory) forgo(p *peer) {
	if p.topic != nil {
		d.topics.leave(p.topic, p.cluster)
	}
}
