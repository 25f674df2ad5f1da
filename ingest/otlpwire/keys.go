package otlpwire

// Key names an attribute that the decoder keeps; every other one it skips. Old and new names of one thing are different
// keys, so that a reader can prefer the new one.
type Key uint8

// The attributes that are kept. NoKey is none of them.
const (
	NoKey Key = iota
	HTTPRequestMethod
	HTTPMethod
	HTTPResponseStatusCode
	HTTPStatusCode
	HTTPRoute
	HTTPHost
	HTTPURL
	HTTPResendCount
	HTTPAttemptCount
	HTTPIdempotencyKey
	HTTPRetryAfter
	URLTemplate
	URLFull
	RetryCount
	RPCSystemName
	RPCSystem
	RPCMethod
	RPCService
	RPCStatusCode
	RPCResponseStatusCode
	RPCGRPCStatusCode
	RPCConnectErrorCode
	RPCJSONErrorCode
	RPCAttempts
	RPCTransparentRetry
	RPCMetadataAttempts
	RPCGRPCMetadataAttempts
	RPCMetadataPushback
	RPCGRPCMetadataPushback
	GRPCStatusCode
	ServerAddress
	ServerPort
	NetPeerName
	NetPeerPort
	NetSockPeerName
	NetworkPeerAddress
	NetSockPeerAddr
	NetPeerIP
	ServicePeerName
	ServicePeerNamespace
	PeerService
	PeerAddress
	UpstreamCluster
	UpstreamClusterName
	UpstreamAddress
	Component
	ResponseFlags
	NodeID
	IstioCanonicalService
	IstioNamespace
	DBSystemName
	DBSystem
	DBNamespace
	DBName
	DBRedisIndex
	DBCassandraKeyspace
	DBElasticsearchCluster
	DBQuerySummary
	DBOperationName
	DBOperation
	DBCollectionName
	DBSQLTable
	DBMongoCollection
	DBCassandraTable
	DBCosmosContainer
	MessagingSystem
	MessagingDestinationTemplate
	MessagingDestinationName
	MessagingDestination
	MessagingDestinationTemporary
	MessagingDestinationAnonymous
	MessagingOperationType
	MessagingOperation
	MessagingOperationName
	MessagingBatchCount
	MessagingConsumerGroup
	MessagingSubscription
	MessagingKafkaGroup
	MessagingKafkaGroupOld
	MessagingEventHubsGroup
	MessagingRocketMQGroup
	MessagingServiceBusDeliveries
	MessagingPubSubDeliveries
	MessagingEventHubsEnqueued
	MessagingServiceBusEnqueued
	KafkaClusterID
	MessagingKafkaClusterID
	FaaSInvokedName
	FaaSInvokedProvider
	FaaSInvokedRegion
	FaaSTrigger
	GenAIProviderName
	GenAISystem
	GenAIOperationName
	GenAIRequestModel
	ErrorType
	ExceptionType
	SamplingProbability
	SampleRateUpper
	SampleRateLower
	SampleRateCamel
	SamplerType
	SamplerParam
	numKeys
)

var keyNames = [numKeys]string{
	HTTPRequestMethod: "http.request.method", HTTPMethod: "http.method",
	HTTPResponseStatusCode: "http.response.status_code", HTTPStatusCode: "http.status_code",
	HTTPRoute: "http.route", HTTPHost: "http.host", HTTPURL: "http.url", HTTPResendCount: "http.request.resend_count",
	HTTPAttemptCount:   "http.request.header.x-envoy-attempt-count",
	HTTPIdempotencyKey: "http.request.header.idempotency-key", HTTPRetryAfter: "http.response.header.retry-after",
	URLTemplate: "url.template", URLFull: "url.full", RetryCount: "retry.count",
	RPCSystemName: "rpc.system.name", RPCSystem: "rpc.system", RPCMethod: "rpc.method", RPCService: "rpc.service",
	RPCStatusCode: "rpc.status_code", RPCResponseStatusCode: "rpc.response.status_code",
	RPCGRPCStatusCode: "rpc.grpc.status_code", RPCConnectErrorCode: "rpc.connect_rpc.error_code",
	RPCJSONErrorCode: "rpc.jsonrpc.error_code", GRPCStatusCode: "grpc.status_code",
	RPCAttempts: "previous-rpc-attempts", RPCTransparentRetry: "transparent-retry",
	RPCMetadataAttempts:     "rpc.request.metadata.grpc-previous-rpc-attempts",
	RPCGRPCMetadataAttempts: "rpc.grpc.request.metadata.grpc-previous-rpc-attempts",
	RPCMetadataPushback:     "rpc.response.metadata.grpc-retry-pushback-ms",
	RPCGRPCMetadataPushback: "rpc.grpc.response.metadata.grpc-retry-pushback-ms",
	ServerAddress:           "server.address", ServerPort: "server.port", NetPeerName: "net.peer.name", NetPeerPort: "net.peer.port",
	NetSockPeerName: "net.sock.peer.name", NetworkPeerAddress: "network.peer.address",
	NetSockPeerAddr: "net.sock.peer.addr", NetPeerIP: "net.peer.ip",
	ServicePeerName: "service.peer.name", ServicePeerNamespace: "service.peer.namespace", PeerService: "peer.service",
	PeerAddress: "peer.address", UpstreamCluster: "upstream_cluster", UpstreamClusterName: "upstream_cluster.name",
	UpstreamAddress: "upstream_address", Component: "component", ResponseFlags: "response_flags",
	NodeID: "node_id", IstioCanonicalService: "istio.canonical_service", IstioNamespace: "istio.namespace",
	DBSystemName: "db.system.name", DBSystem: "db.system", DBNamespace: "db.namespace", DBName: "db.name",
	DBRedisIndex: "db.redis.database_index", DBCassandraKeyspace: "db.cassandra.keyspace",
	DBElasticsearchCluster: "db.elasticsearch.cluster.name", DBQuerySummary: "db.query.summary",
	DBOperationName: "db.operation.name", DBOperation: "db.operation", DBCollectionName: "db.collection.name",
	DBSQLTable: "db.sql.table", DBMongoCollection: "db.mongodb.collection",
	DBCassandraTable: "db.cassandra.table", DBCosmosContainer: "db.cosmosdb.container",
	MessagingSystem: "messaging.system", MessagingDestinationTemplate: "messaging.destination.template",
	MessagingDestinationName: "messaging.destination.name", MessagingDestination: "messaging.destination",
	MessagingDestinationTemporary: "messaging.destination.temporary",
	MessagingDestinationAnonymous: "messaging.destination.anonymous",
	MessagingOperationType:        "messaging.operation.type", MessagingOperation: "messaging.operation",
	MessagingOperationName: "messaging.operation.name",
	MessagingBatchCount:    "messaging.batch.message_count",
	MessagingConsumerGroup: "messaging.consumer.group.name", MessagingSubscription: "messaging.destination.subscription.name",
	MessagingKafkaGroup: "messaging.kafka.consumer.group", MessagingKafkaGroupOld: "messaging.kafka.consumer_group",
	MessagingEventHubsGroup: "messaging.eventhubs.consumer.group", MessagingRocketMQGroup: "messaging.rocketmq.client_group",
	MessagingServiceBusDeliveries: "messaging.servicebus.message.delivery_count",
	MessagingPubSubDeliveries:     "messaging.gcp_pubsub.message.delivery_attempt",
	MessagingEventHubsEnqueued:    "messaging.eventhubs.message.enqueued_time",
	MessagingServiceBusEnqueued:   "messaging.servicebus.message.enqueued_time",
	KafkaClusterID:                "kafka.cluster.id", MessagingKafkaClusterID: "messaging.kafka.cluster.id",
	FaaSInvokedName: "faas.invoked_name", FaaSInvokedProvider: "faas.invoked_provider",
	FaaSInvokedRegion: "faas.invoked_region", FaaSTrigger: "faas.trigger",
	GenAIProviderName: "gen_ai.provider.name", GenAISystem: "gen_ai.system", GenAIOperationName: "gen_ai.operation.name",
	GenAIRequestModel: "gen_ai.request.model",
	ErrorType:         "error.type", ExceptionType: "exception.type",
	SamplingProbability: "sampling.probability", SampleRateUpper: "SampleRate", SampleRateLower: "sample_rate",
	SampleRateCamel: "sampleRate", SamplerType: "sampler.type", SamplerParam: "sampler.param",
}

// String returns the attribute's name.
func (k Key) String() string { return keyNames[k%numKeys] }

// The table finds a key by a hash of its length and six of its bytes; init searches a multiplier that gives every
// kept key a slot of its own, so a look-up is one multiplication and at most one comparison.
const keySlots = 2048

var (
	keyTable      [keySlots]Key
	keyMultiplier uint64
)

func init() {
	m := uint64(0x9E3779B97F4A7C15)
search:
	for range 1 << 16 {
		m += m<<7 | 2 // stays odd
		keyMultiplier = m
		keyTable = [keySlots]Key{}
		for k := NoKey + 1; k < numKeys; k++ {
			s := keySlot([]byte(keyNames[k]))
			if keyTable[s] != NoKey {
				continue search
			}
			keyTable[s] = k
		}
		return
	}
	panic("otlpwire: two names of attributes are the same to keySlot, which must look at another of their bytes")
}

func keySlot(b []byte) uint64 {
	n := uint64(len(b))
	x := n | uint64(b[0])<<8 | uint64(b[n-1])<<16 | uint64(b[n>>1])<<24 | uint64(b[n*3>>2])<<32 | uint64(b[n-6])<<40 | uint64(b[n-3])<<48
	return x * keyMultiplier >> (64 - 11)
}

// The lengths of the kept keys' names.
const shortestName, longestName = 7, 52

// lookup returns the key of a name, NoKey when it is not one that is kept.
func lookup(b []byte) Key {
	if len(b) < shortestName || len(b) > longestName {
		return NoKey
	}
	if k := keyTable[keySlot(b)]; string(b) == keyNames[k] {
		return k
	}
	return NoKey
}
