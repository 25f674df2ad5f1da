package ingest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
)

// Attributes that one system or one generation of the conventions has for what others call otherwise.
func TestAttributesOfOneSystemAlone(t *testing.T) {
	taken := func(more ...any) []tspan {
		return []tspan{{service: "b", trace: 1, id: 2, parent: 99, kind: kindConsumer, at: 4000, ms: 80, attrs: with(takeOrder, more...)}}
	}
	group := []string{"queue:kafka/orders → b: group g: 1, 80ms"}
	for _, tt := range []struct {
		name  string
		spans []tspan
		want  []string
	}{
		{"group: of a subscription", taken("messaging.destination.subscription.name", "g"), group},
		{"group: of Kafka", taken("messaging.kafka.consumer.group", "g"), group},
		{"group: of Kafka, older", taken("messaging.kafka.consumer_group", "g"), group},
		{"group: of Event Hubs", taken("messaging.eventhubs.consumer.group", "g"), group},
		{"group: of RocketMQ", taken("messaging.rocketmq.client_group", "g"), group},
		{"group: the common name first", taken("messaging.rocketmq.client_group", "x", "messaging.consumer.group.name", "g"), group},
		{
			"enqueued: Service Bus says it in seconds", taken("messaging.servicebus.message.enqueued_time", int(epoch.Unix())+1),
			[]string{"queue:kafka/orders → b: measure lag: 1, 3000ms"},
		},
		{
			"pushback: in RPC metadata",
			[]tspan{
				client(1, 9, 0, 50, rpc(8, "server.address", "b", "rpc.response.metadata.grpc-retry-pushback-ms", []string{"120"})),
				client(2, 9, 150, 50, rpc(0, "server.address", "b")),
			},
			[]string{
				"a → ext:b: measure retried_call: 1, 200ms", "a → ext:b: measure retry_gap: 1, 100ms",
				"a → ext:b: measure retry_pushback: 1, failed 1, 100ms",
			},
		},
		{
			"operation: a container of Cosmos DB", caller(tag{"db.system": "cosmosdb", "db.operation": "Read", "db.cosmosdb.container": "orders"}),
			[]string{"a → db:azure.cosmosdb: operation Read orders: 1, 50ms"},
		},
		{
			"peer: the address that Envoy called", caller(tag{"http.request.method": "GET", "http.response.status_code": 200, "upstream_address": "10.1.2.3:8080"}),
			[]string{"a → ext:10.1.2.3:8080: operation GET: 1, 50ms"},
		},
	} {
		in, live := newIntake()
		feed(t, in, epoch.Add(5*time.Second), each(t, tt.spans...)...)
		in.Tick(epoch.Add(16 * time.Second))
		dimensions := []graph.Dimension{graph.Measured, graph.Group}
		if tt.spans[0].attrs["messaging.system"] == nil && tt.spans[0].attrs["rpc.system"] == nil {
			dimensions = []graph.Dimension{graph.Operation}
		}
		if diff := cmp.Diff(tt.want, factLines(live, dimensions...)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	// A region stands for a zone where there is none.
	for region, want := range map[string]string{"cloud.region": "eu", "cloud.availability_zone": "eu"} {
		in, live := newIntake()
		feed(t, in, epoch.Add(time.Second), each(t, root(tag{"service.name": "b", region: "eu"})...)...)
		windows, _ := live.Windows(time.Unix(0, 0), epoch.Add(time.Hour), true)
		if got := windows[0].Nodes[0].Zone; got != want {
			t.Errorf("%s: zone %q", region, got)
		}
	}
}
