package ingest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
)

// A.3, case 11: topics of one name in two clusters are two queues. What names no cluster is of the only one that is known.
func TestTopicsOfTwoClustersAreTwoQueues(t *testing.T) {
	in := func(attrs map[string]any, cluster string) map[string]any {
		if cluster == "" {
			return attrs
		}
		return with(attrs, "kafka.cluster.id", cluster)
	}
	message := func(trace byte, sender, taker string) []tspan {
		return []tspan{
			{service: "a", trace: trace, id: 1, kind: kindProducer, ms: 5, attrs: in(sendOrder, sender)},
			{service: "b", trace: trace, id: 2, parent: 1, kind: kindConsumer, at: 10, ms: 10, attrs: in(takeOrder, taker)},
		}
	}
	for _, tt := range []struct {
		name string
		of   [][2]string // the clusters that the producer and the consumer of a message name
		want []string
	}{
		{"none is named", [][2]string{{"", ""}}, []string{
			"a → queue:kafka/orders messaging: calls 1, client 1×5ms, messages 1", "queue:kafka/orders → b messaging: calls 1, server 1×10ms, messages 1",
		}},
		{"two are named", [][2]string{{"East", "East"}, {"West", "West"}, {"West", "West"}}, []string{
			"a → queue:kafka/orders@East messaging: calls 1, client 1×5ms, messages 1", "a → queue:kafka/orders@West messaging: calls 2, client 2×5ms, messages 2",
			"queue:kafka/orders@East → b messaging: calls 1, server 1×10ms, messages 1", "queue:kafka/orders@West → b messaging: calls 2, server 2×10ms, messages 2",
		}},
		{"one side does not name it", [][2]string{{"East", ""}, {"", "East"}, {"", ""}}, []string{
			"a → queue:kafka/orders@East messaging: calls 3, client 3×5ms, messages 3", "queue:kafka/orders@East → b messaging: calls 3, server 3×10ms, messages 3",
		}},
		{"it may be either", [][2]string{{"East", "East"}, {"West", "West"}, {"", ""}}, []string{
			"a → queue:kafka/orders messaging: calls 1, client 1×5ms, messages 1", "a → queue:kafka/orders@East messaging: calls 1, client 1×5ms, messages 1",
			"a → queue:kafka/orders@West messaging: calls 1, client 1×5ms, messages 1", "queue:kafka/orders → b messaging: calls 1, server 1×10ms, messages 1",
			"queue:kafka/orders@East → b messaging: calls 1, server 1×10ms, messages 1", "queue:kafka/orders@West → b messaging: calls 1, server 1×10ms, messages 1",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			intake, live := newIntake()
			for i, of := range tt.of {
				feed(t, intake, epoch.Add(time.Second), each(t, message(byte(i+1), of[0], of[1])...)...)
			}
			intake.Tick(epoch.Add(12 * time.Second))
			if diff := cmp.Diff(tt.want, briefs(live)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestClusterOf(t *testing.T) {
	for _, tt := range []struct {
		name  string
		attrs map[string]any
		want  string
	}{
		{"the older name", with(sendOrder, "messaging.kafka.cluster.id", "c1"), "queue:kafka/orders@c1"},
		{"both names", with(sendOrder, "messaging.kafka.cluster.id", "c1", "kafka.cluster.id", "c2"), "queue:kafka/orders@c2"},
		{"a broker is no cluster", with(sendOrder, "server.address", "broker-3"), "queue:kafka/orders"},
		{"a namespace with one address", with(sendOrder, "messaging.system", "servicebus", "server.address", "shop.servicebus.windows.net"), "queue:servicebus/orders@shop.servicebus.windows.net"},
	} {
		in, live := newIntake()
		feed(t, in, epoch.Add(time.Second), each(t, tspan{service: "a", trace: 1, id: 1, kind: kindProducer, ms: 5, attrs: tt.attrs})...)
		if diff := cmp.Diff([]string{"a → " + tt.want + " messaging: calls 1, client 1×5ms, messages 1"}, briefs(live)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

// A topic is forgotten with its peers, and a cluster with those that name it.
func TestTopicsAreForgottenWithTheirPeers(t *testing.T) {
	var book topicBook
	k := topicKey{"prod", "kafka/orders"}
	east, other := book.join(k, 7), book.join(k, 0)
	if east != other || east.only.Load() != 7 {
		t.Fatalf("%+v and %+v", east, other)
	}
	west := book.join(k, 8)
	if west.only.Load() != 0 {
		t.Errorf("of two clusters %d is the only one", west.only.Load())
	}
	book.leave(east, 7)
	if other.only.Load() != 8 {
		t.Errorf("the only cluster that is left is %d, want 8", other.only.Load())
	}
	book.leave(west, 8)
	book.leave(other, graph.NodeRef(0))
	if other.only.Load() != 0 || len(book.m) != 0 {
		t.Errorf("%d topics are left, with %d", len(book.m), other.only.Load())
	}
}
