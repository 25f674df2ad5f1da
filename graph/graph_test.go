package graph

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestNodeIDs(t *testing.T) {
	for _, tt := range []struct {
		node Node
		want string
	}{
		{Node{Kind: Service, Name: "cart"}, "cart"},
		{Node{Kind: Service, Namespace: "shop", Name: "cart", Env: "prod"}, "shop/cart"},
		{Node{Kind: Database, Name: DatabaseName("postgresql", "orders", "db1:5433")}, "db:postgresql/orders@db1:5433"},
		{Node{Kind: Database, Name: DatabaseName("postgresql", "", "db1")}, "db:postgresql@db1"},
		{Node{Kind: Cache, Name: DatabaseName("redis", "", "")}, "db:redis"},
		{Node{Kind: Queue, Name: QueueName("kafka", "orders")}, "queue:kafka/orders"},
		{Node{Kind: Queue, Name: QueueName("", "orders")}, "queue:orders"},
		{Node{Kind: Queue, Name: QueueName("kafka", "")}, "queue:kafka"},
		{Node{Kind: External, Name: "api.stripe.com"}, "ext:api.stripe.com"},
		{Node{Kind: LLM, Name: "openai"}, "llm:openai"},
		{Node{Kind: User}, "user"},
		{Node{Kind: Ingress}, "ingress"},
		{Node{}, "unknown"},
		// Services that are called like something else.
		{Node{Kind: Service, Name: "user"}, "service:user"},
		{Node{Kind: Service, Namespace: "shop", Name: "user"}, "shop/user"},
		{Node{Kind: Service, Namespace: "user", Name: "a"}, "user/a"},
		{Node{Kind: Gateway, Name: "ingress"}, "service:ingress"},
		{Node{Kind: Service, Name: "unknown"}, "service:unknown"},
		{Node{Kind: Service, Name: "unknown_service:java"}, "unknown_service:java"},
		{Node{Kind: Service, Name: "db:redis"}, "service:db:redis"},
		{Node{Kind: Service, Namespace: "db:postgresql", Name: "orders"}, "db%3Apostgresql/orders"},
		{Node{Kind: Service, Name: "service:user"}, "service:service:user"},
		{Node{Kind: Service, Name: "shop/cart"}, "service:shop/cart"},
		{Node{Kind: Service, Namespace: "shop/eu", Name: "cart"}, "shop%2Feu/cart"},
		{Node{Kind: Service, Namespace: "50%", Name: "cart"}, "50%25/cart"},
		{Node{Kind: Service, Name: ".."}, "service:.."},
		{Node{Kind: Service, Namespace: ".", Name: "a"}, "%2E/a"},
	} {
		if got := tt.node.ID(); got != tt.want {
			t.Errorf("%+v: id %q, want %q", tt.node, got, tt.want)
		}
	}
}

func TestUnidentifiedServices(t *testing.T) {
	for _, tt := range []struct {
		node Node
		want bool
	}{
		{Node{Kind: Service, Name: "unknown_service"}, true},
		{Node{Kind: Gateway, Namespace: "shop", Name: "unknown_service:nginx"}, true},
		{Node{Kind: Service, Name: "cart"}, false},
		{Node{Kind: External, Name: "unknown_service"}, false},
		{Node{}, false},
	} {
		if got := tt.node.Unidentified(); got != tt.want {
			t.Errorf("%+v: %v", tt.node, got)
		}
	}
}

// Whatever services are called, no two nodes of an environment have one id.
func TestNodeIDsAreUnique(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	words := []string{"", "a", "/", "%", ".", "..", ":", "db:", "service:", "user", "unknown", "2F", "3A"}
	name := func() string {
		var some []string
		for range r.IntN(4) {
			some = append(some, words[r.IntN(len(words))])
		}
		return strings.Join(some, "")
	}
	kinds := []NodeKind{Unknown, Service, Service, Service, Database, Queue, External, User, LLM, Ingress}
	seen := map[string]Node{}
	for range 200_000 {
		n := Node{Kind: kinds[r.IntN(len(kinds))]}
		switch n.Kind {
		case Service:
			n.Namespace, n.Name = name(), name()
		case Unknown, User, Ingress:
		default:
			n.Name = name()
		}
		if n.Kind == Service && n.Name == "" {
			continue // no service is called nothing
		}
		if other, ok := seen[n.ID()]; ok && other != n {
			t.Fatalf("%q is the id of %+v and of %+v", n.ID(), other, n)
		}
		seen[n.ID()] = n
	}
	if len(seen) < 2000 {
		t.Errorf("only %d ids were tried", len(seen))
	}
}

func TestEdgeIDsNeverChange(t *testing.T) {
	k := EdgeKey{Node{Env: "prod", Kind: Service, Name: "a"}, Node{Env: "prod", Kind: Service, Name: "b"}, HTTP}
	if got := k.ID(); got != "pwpainfo24lbb43o" {
		t.Errorf("id %s: links to it are broken", got)
	}
	other := k
	other.Source.Env, other.Target.Env = "test", "test"
	if k.ID() == other.ID() {
		t.Error("two environments share an edge id")
	}
	other = k
	other.Protocol = GRPC
	if k.ID() == other.ID() {
		t.Error("two protocols share an edge id")
	}
	if len(k.ID()) != 16 || strings.ContainsAny(k.ID(), "/+=%") {
		t.Errorf("id %q is not 16 characters that are safe in a URL", k.ID())
	}
}

func TestWilson(t *testing.T) {
	for _, tt := range []struct {
		k, n         int64
		z            float64
		lower, upper float64
	}{
		{0, 10, 1.959964, 0, .277533},
		{1, 10, 1.959964, .017876, .404150},
		{3, 20, 1.959964, .052369, .360419},
		{5, 100, 1.959964, .021544, .111750},
		{12, 1000, 1.959964, .006878, .020857},
		{0, 0, 1.959964, 0, 1},
	} {
		l, u := Wilson(tt.k, tt.n, tt.z)
		if math.Abs(l-tt.lower) > 1e-6 || math.Abs(u-tt.upper) > 1e-6 {
			t.Errorf("Wilson(%d, %d) = %f, %f; want %f, %f", tt.k, tt.n, l, u, tt.lower, tt.upper)
		}
	}
}

func stats(calls, errors, logical int64, ms int64) *EdgeStats {
	s := &EdgeStats{Calls: calls, Raw: calls, Errors: errors, RawErrors: errors, LogicalCalls: logical}
	s.Client.Add(ms*1e6, calls)
	return s
}

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name        string
		now, before *EdgeStats
		want        Health
		reasons     []string
	}{
		{"nothing", &EdgeStats{}, nil, HealthUnknown, nil},
		{"too few to say", stats(10, 0, 10, 5), nil, HealthUnknown, nil},
		{"one call that failed", stats(1, 1, 1, 5), nil, HealthUnknown, nil},
		{"one error among few calls", stats(10, 1, 10, 5), nil, HealthUnknown, nil},
		{"one error among many", stats(1000, 1, 1000, 5), nil, HealthOK, nil},
		{"a few per cent", stats(1000, 30, 1000, 5), nil, HealthWarn, []string{"errors 3 %"}},
		{"down", stats(20, 20, 20, 5), nil, HealthCritical, []string{"errors 100 %"}},
		{"retries", stats(1000, 5, 500, 5), nil, HealthWarn, []string{"retries 2x"}},
		{"slower than before", stats(100, 0, 100, 300), stats(1000, 0, 1000, 100), HealthWarn, []string{"p95 300ms, 3x"}},
		{"much slower", stats(100, 0, 100, 900), stats(1000, 0, 1000, 100), HealthCritical, []string{"p95 900ms, 9x"}},
		{"slower by next to nothing", stats(100, 0, 100, 9), stats(1000, 0, 1000, 1), HealthOK, nil},
	} {
		got, reasons := Judge(tt.now, tt.before)
		if diff := cmp.Diff(tt.reasons, reasons); got != tt.want || diff != "" {
			t.Errorf("%s: %v %v, want %v %v", tt.name, got, reasons, tt.want, tt.reasons)
		}
	}
}

func TestBuildMap(t *testing.T) {
	node := func(env, name string) Node { return Node{Env: env, Kind: Service, Name: name} }
	row := func(env, from, to string, n int64) EdgeRow {
		return EdgeRow{EdgeKey{node(env, from), node(env, to), HTTP}, *stats(n, 0, n, 5)}
	}
	windows := []Window{
		{Edges: []EdgeRow{row("prod", "a", "b", 100), row("test", "a", "b", 7), row("prod", "b", "c", 0)}},
		{Edges: []EdgeRow{row("prod", "a", "b", 50)}},
		{Nodes: []NodeRow{
			{Node: node("prod", "b"), Instance: "b-1", Version: "1.0", Spans: 3},
			{Node: node("prod", "b"), Instance: "b-2", Version: "1.0", Spans: 4},
			{Node: node("idle", "z"), Spans: 1},
		}},
	}
	m := BuildMap(windows, noon, noon.Add(time.Minute), "", true, nil)
	if m.Env != "prod" || !cmp.Equal(m.Envs, []string{"idle", "prod", "test"}) {
		t.Errorf("env %q of %v", m.Env, m.Envs)
	}
	if len(m.Edges) != 1 || m.Edges[0].Stats.Calls != 150 || m.Edges[0].Health != HealthOK {
		t.Errorf("edges %+v", m.Edges)
	}
	if len(m.Nodes) != 2 || m.Nodes[1].Spans != 7 || !cmp.Equal(m.Nodes[1].Instances, []string{"b-1", "b-2"}) || !cmp.Equal(m.Nodes[1].Versions, []string{"1.0"}) {
		t.Errorf("nodes %+v", m.Nodes)
	}
	if m := BuildMap(windows, noon, noon, "idle", false, nil); len(m.Nodes) != 1 || m.Nodes[0].ID != "z" {
		t.Errorf("a service that nobody calls is missing: %+v", m.Nodes)
	}
}

// Links are between nodes of the map, bounded, and change nothing else of it.
func TestBuildMapWithLinks(t *testing.T) {
	service := func(name string) Node { return Node{Env: "prod", Kind: Service, Name: name} }
	link := func(from, to string, spans int64) EdgeRow {
		return EdgeRow{EdgeKey{service(from), service(to), Linked}, EdgeStats{Messages: 2 * spans, Raw: spans}}
	}
	sends := func(names ...string) (w Window) {
		for _, name := range names {
			w.Nodes = append(w.Nodes, NodeRow{Node: service(name), Spans: 1})
		}
		return w
	}
	calls := Window{Edges: []EdgeRow{{EdgeKey{service("a"), service("b"), HTTP}, *stats(100, 0, 100, 5)}}}
	linked := Window{Edges: []EdgeRow{link("b", "c", 3), link("c", "a", 1), link("b", "gone", 9), link("a", "c", 0)}}
	build := func(windows ...Window) Map { return BuildMap(windows, noon, noon.Add(time.Minute), "prod", false, nil) }

	m := build(calls, linked, linked, sends("a", "b", "c"))
	want := []MapLink{
		{EdgeKey{service("b"), service("c"), Linked}.ID(), EdgeKey{service("b"), service("c"), Linked}, 12, 6},
		{EdgeKey{service("c"), service("a"), Linked}.ID(), EdgeKey{service("c"), service("a"), Linked}, 4, 2},
	}
	if diff := cmp.Diff(want, m.Links); diff != "" {
		t.Error(diff)
	}
	without := build(calls, sends("a", "b", "c"))
	m.Links = nil
	if !reflect.DeepEqual(without, m) {
		t.Errorf("links changed the map: %+v, without %+v", m, without)
	}

	var many Window
	for i := range MaxMapLinks + 5 {
		many.Edges = append(many.Edges, link("a", fmt.Sprint("s", i), int64(i+1)))
		many.Nodes = append(many.Nodes, NodeRow{Node: service(fmt.Sprint("s", i)), Spans: 1})
	}
	m = build(calls, many)
	least := int64(math.MaxInt64)
	for _, l := range m.Links {
		least = min(least, l.Raw)
	}
	if len(m.Links) != MaxMapLinks || !m.Truncated || least != 6 {
		t.Errorf("%d links of %d, the least with %d spans, truncated %v", len(m.Links), len(many.Edges), least, m.Truncated)
	}
}

func TestCleanName(t *testing.T) {
	long := strings.Repeat("é", 1000)
	for _, s := range []string{"", "cart", "bad\xffutf8", long, "\x00"} {
		got := CleanName(s)
		if !utf8.ValidString(got) || len(got) > MaxName {
			t.Errorf("CleanName(%.20q…) = %.20q…, %d bytes", s, got, len(got))
		}
	}
	if CleanName("cart") != "cart" {
		t.Error("a good name was changed")
	}
}

func TestBuildMapKeepsTheBusiest(t *testing.T) {
	service := func(i int) Node { return Node{Env: "prod", Kind: Service, Name: fmt.Sprintf("s%02d", i)} }
	var w Window
	for i := range 20 { // a ring, busier the further on
		s := stats(int64(10+i), 0, int64(10+i), 5)
		w.Edges = append(w.Edges, EdgeRow{EdgeKey{service(i), service((i + 1) % 20), HTTP}, *s})
	}
	nodes := Window{Nodes: []NodeRow{{Node: service(40), Spans: 1}, {Node: service(41), Spans: 1_000_000}}}
	for _, tt := range []struct {
		name               string
		maxNodes, maxEdges int
		nodes, edges       []string
		truncated          bool
	}{
		{"all of it", 22, 20, nil, nil, false},
		{"edges", 22, 2, nil, []string{"s18", "s19"}, true},
		{"nodes and the edges between them", 3, 20, []string{"s17", "s18", "s19"}, []string{"s17", "s18"}, true},
		{"of those that nobody calls the one with more spans", 21, 20, nil, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := buildMap([]Window{w, nodes}, time.Unix(0, 0), time.Unix(60, 0), "prod", false, nil, tt.maxNodes, tt.maxEdges)
			if m.Truncated != tt.truncated || len(m.Nodes) > tt.maxNodes || len(m.Edges) > tt.maxEdges {
				t.Fatalf("%d nodes, %d edges, truncated %v", len(m.Nodes), len(m.Edges), m.Truncated)
			}
			var gotNodes, gotEdges []string
			for _, n := range m.Nodes {
				gotNodes = append(gotNodes, n.ID)
			}
			for _, e := range m.Edges {
				gotEdges = append(gotEdges, e.Key.Source.ID())
				if !slices.Contains(gotNodes, e.Key.Source.ID()) || !slices.Contains(gotNodes, e.Key.Target.ID()) {
					t.Errorf("edge %v without its ends", e.Key)
				}
			}
			if tt.nodes != nil && !slices.Equal(gotNodes, tt.nodes) {
				t.Errorf("nodes %v, want %v", gotNodes, tt.nodes)
			}
			if tt.edges != nil && !slices.Equal(gotEdges, tt.edges) {
				t.Errorf("edges %v, want %v", gotEdges, tt.edges)
			}
			if tt.maxNodes == 21 && (slices.Contains(gotNodes, "s40") || !slices.Contains(gotNodes, "s41")) {
				t.Errorf("nodes %v", gotNodes)
			}
		})
	}
}
