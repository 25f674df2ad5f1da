package sim

import "time"

const ms = time.Millisecond

// Shop returns the topology of the demo: a web shop of fifteen services in five
// languages, some still on old semantic conventions, with six databases, two
// Kafka topics and two external APIs.
func Shop() *Topology {
	return &Topology{
		Environment: "production",
		Entries: []Entry{
			{"frontend", "GET /", 35},
			{"frontend", "GET /product/{id}", 35},
			{"frontend", "GET /search", 12},
			{"frontend", "POST /cart", 10},
			{"frontend", "POST /checkout", 8},
		},
		Databases: []Database{
			{Name: "users", System: "postgresql", Namespace: "users", Host: "users-db", Port: 5432, Own: 2 * ms},
			{Name: "orders", System: "postgresql", Namespace: "orders", Host: "orders-db", Port: 5432, Own: 3 * ms},
			{Name: "inventory", System: "mysql", Namespace: "inventory", Host: "inventory-db", Port: 3307, Own: 2 * ms},
			{Name: "catalog", System: "mongodb", Namespace: "catalog", Host: "catalog-db", Port: 27017, Own: 3 * ms},
			{Name: "index", System: "elasticsearch", Host: "search-es", Port: 9200, Own: 12 * ms},
			{Name: "cache", System: "redis", Namespace: "0", Host: "cache", Port: 6379, Own: ms / 2},
		},
		Topics: []Topic{
			{System: "kafka", Name: "orders", Lag: 40 * ms},
			{System: "kafka", Name: "notifications", Lag: 60 * ms},
		},
		Externals: []External{
			{Host: "api.payments.example", Own: 120 * ms},
			{Host: "api.mail.example", Own: 90 * ms},
		},
		Services: []Service{
			{
				Name: "frontend", Namespace: "shop", Language: "nodejs", Version: "4.2.0", Canary: "4.3.0", Instances: 3,
				Ops: []Operation{
					{Name: "GET /", Own: 8 * ms, Steps: []Step{{Service: "gateway", Op: "GET /api/home", Timeout: 5 * time.Second}}},
					{Name: "GET /product/{id}", Own: 6 * ms, Steps: []Step{{Service: "gateway", Op: "GET /api/products/{id}", Timeout: 5 * time.Second}}},
					{Name: "GET /search", Own: 6 * ms, Steps: []Step{{Service: "gateway", Op: "GET /api/search", Timeout: 5 * time.Second}}},
					{Name: "POST /cart", Own: 4 * ms, Steps: []Step{{Service: "gateway", Op: "POST /api/cart", Timeout: 5 * time.Second}}},
					{Name: "POST /checkout", Own: 5 * ms, Steps: []Step{{Service: "gateway", Op: "POST /api/checkout", Timeout: 10 * time.Second}}},
				},
			},
			{
				Name: "gateway", Namespace: "shop", Language: "go", Version: "2.11.3", Instances: 3,
				Ops: []Operation{
					{Name: "GET /api/home", Own: ms, Steps: []Step{
						verify,
						{Service: "recommendation", Op: "shop.v1.Recommendation/List", Timeout: time.Second, Optional: true},
						{Service: "catalog", Op: "GET /featured", Parallel: true, Attempts: 2},
					}},
					{Name: "GET /api/products/{id}", Own: ms, Steps: []Step{
						verify,
						{Service: "catalog", Op: "GET /products/{id}", Attempts: 2},
						{Service: "inventory", Op: "shop.v1.Inventory/Level", Timeout: time.Second, Optional: true, Parallel: true, Attempts: 2},
					}},
					{Name: "GET /api/search", Own: ms, Steps: []Step{verify, {Service: "search", Op: "GET /query", Timeout: 2 * time.Second}}},
					{Name: "POST /api/cart", Own: ms, Steps: []Step{verify, {Service: "cart", Op: "POST /items"}}},
					{Name: "POST /api/checkout", Own: 2 * ms, Steps: []Step{verify, {Service: "checkout", Op: "shop.v1.Checkout/PlaceOrder", Timeout: 8 * time.Second}}},
				},
			},
			{
				Name: "auth", Namespace: "shop", Language: "go", Version: "1.8.0", Instances: 2, GRPC: true,
				Ops: []Operation{{Name: "shop.v1.Auth/Verify", Own: ms / 2, Steps: []Step{
					{Database: "cache", Op: "GET"},
					{Database: "users", Op: "SELECT", Collection: "sessions", Chance: 0.1},
				}}},
			},
			{
				Name: "catalog", Namespace: "shop", Host: "catalog.shop.svc.cluster.local", Language: "java", Version: "3.0.7", Instances: 3, Old: true,
				Ops: []Operation{
					{Name: "GET /featured", Own: 3 * ms, Steps: []Step{{Internal: "CatalogService.featured", Steps: []Step{
						{Database: "cache", Op: "GET", Optional: true},
						{Database: "catalog", Op: "find", Collection: "products", Chance: 0.3},
					}}}},
					{Name: "GET /products/{id}", Own: 2 * ms, NotFound: 0.01, Steps: []Step{{Internal: "CatalogService.product", Steps: []Step{
						{Database: "catalog", Op: "find", Collection: "products"},
					}}}},
				},
			},
			{
				Name: "search", Namespace: "shop", Language: "python", Version: "0.9.14", Canary: "0.10.0", Instances: 2,
				Ops: []Operation{{Name: "GET /query", Own: 9 * ms, Steps: []Step{
					{Internal: "rank", Steps: []Step{{Database: "index", Op: "search", Collection: "products"}}},
					{Service: "catalog", Op: "GET /products/{id}", Attempts: 2},
				}}},
			},
			{
				Name: "recommendation", Namespace: "shop", Language: "python", Version: "0.4.2", Instances: 2, GRPC: true, Old: true,
				Ops: []Operation{{Name: "shop.v1.Recommendation/List", Own: 14 * ms, Steps: []Step{
					{Database: "cache", Op: "MGET"},
					{Internal: "score"},
					{Service: "catalog", Op: "GET /featured", Chance: 0.5},
				}}},
			},
			{
				Name: "cart", Namespace: "shop", Language: "dotnet", Version: "5.1.0", Instances: 2,
				Ops: []Operation{
					{Name: "GET /items", Own: ms, Steps: []Step{{Database: "cache", Op: "HGETALL"}}},
					{Name: "POST /items", Own: ms, Steps: []Step{
						{Service: "inventory", Op: "shop.v1.Inventory/Level", Attempts: 2},
						{Database: "cache", Op: "HSET"},
					}},
				},
			},
			{
				Name: "checkout", Namespace: "shop", Language: "go", Version: "2.3.1", Critical: "critical", Instances: 2, GRPC: true,
				Ops: []Operation{{Name: "shop.v1.Checkout/PlaceOrder", Own: 3 * ms, Steps: []Step{
					{Service: "cart", Op: "GET /items", Attempts: 2},
					{Service: "inventory", Op: "shop.v1.Inventory/Reserve", Attempts: 3},
					{Service: "fraud", Op: "POST /score", Timeout: time.Second, Optional: true},
					{Service: "shipping", Op: "POST /quote", Parallel: true},
					{Service: "payment", Op: "shop.v1.Payment/Charge", Attempts: 2, Timeout: 3 * time.Second},
					{Internal: "storeOrder", Steps: []Step{{Database: "orders", Op: "INSERT", Collection: "orders"}}},
					{Topic: "orders"},
				}}},
			},
			{
				Name: "payment", Namespace: "shop", Language: "java", Version: "6.4.0", Critical: "critical", Instances: 3, GRPC: true,
				Ops: []Operation{{Name: "shop.v1.Payment/Charge", Own: 4 * ms, Steps: []Step{
					{Database: "orders", Op: "SELECT", Collection: "payments"},
					{External: "api.payments.example", Op: "POST /v1/charges", Attempts: 2, Timeout: 2 * time.Second},
					{Database: "orders", Op: "UPDATE", Collection: "payments"},
				}}},
			},
			{
				Name: "fraud", Language: "python", Version: "1.0.3", Instances: 2, Old: true,
				Ops: []Operation{{Name: "POST /score", Own: 18 * ms, Steps: []Step{
					{Database: "users", Op: "SELECT", Collection: "history"},
				}}},
			},
			{
				Name: "inventory", Namespace: "shop", Language: "go", Version: "1.15.2", Instances: 3, GRPC: true,
				Ops: []Operation{
					{Name: "shop.v1.Inventory/Level", Own: ms, NotFound: 0.005, Steps: []Step{{Database: "inventory", Op: "SELECT", Collection: "stock"}}},
					{Name: "shop.v1.Inventory/Reserve", Own: 2 * ms, Steps: []Step{{Database: "inventory", Op: "UPDATE", Collection: "stock"}}},
					{Name: "shop.v1.Inventory/Commit", Own: ms, Steps: []Step{{Database: "inventory", Op: "DELETE", Collection: "reservations"}}},
				},
			},
			{
				Name: "shipping", Namespace: "shop", Language: "php", Version: "2.0.0", Instances: 2, Old: true,
				Ops: []Operation{{Name: "POST /quote", Own: 11 * ms, Steps: []Step{{Internal: "calculateRates"}}}},
			},
			{
				Name: "order-worker", Namespace: "shop", Language: "java", Version: "1.7.0", Instances: 2,
				Ops: []Operation{{Name: "process orders", Topic: "orders", Group: "fulfilment", Own: 5 * ms, Steps: []Step{
					{Service: "inventory", Op: "shop.v1.Inventory/Commit", Attempts: 3},
					{Database: "orders", Op: "UPDATE", Collection: "orders"},
					{Topic: "notifications"},
				}}},
			},
			{
				Name: "notification", Namespace: "shop", Language: "nodejs", Version: "2.2.8", Critical: "low", Instances: 2, Old: true,
				Ops: []Operation{{Name: "process notifications", Topic: "notifications", Group: "notify", Linked: true, Own: 3 * ms, Steps: []Step{
					{Service: "email", Op: "POST /send", Attempts: 2},
				}}},
			},
			{
				Name: "email", Namespace: "shop", Language: "nodejs", Version: "1.1.1", Instances: 1,
				Ops: []Operation{{Name: "POST /send", Own: 4 * ms, Steps: []Step{
					{Internal: "renderTemplate"},
					{External: "api.mail.example", Op: "POST /v3/messages", Attempts: 2, Timeout: 3 * time.Second},
				}}},
			},
		},
	}
}

var verify = Step{Service: "auth", Op: "shop.v1.Auth/Verify", Attempts: 2, Timeout: time.Second}

// DemoScript returns the faults of the demo and the period after which they
// start over: each kind once, two minutes apart, with calm before and between.
func DemoScript() (script []Fault, period time.Duration) {
	return []Fault{
		{SlowDatabase, "db:mysql/inventory@inventory-db:3307", 1 * time.Minute, 90 * time.Second},
		{BadInstance, "shop/catalog", 3 * time.Minute, 90 * time.Second},
		{RetryStorm, "shop/inventory", 5 * time.Minute, 90 * time.Second},
		{ExpiredCertificate, "ext:api.payments.example", 7 * time.Minute, 90 * time.Second},
		{QueueBacklog, "queue:kafka/orders", 9 * time.Minute, 90 * time.Second},
		{BadDeploy, "shop/payment", 11 * time.Minute, 90 * time.Second},
	}, 14 * time.Minute
}
