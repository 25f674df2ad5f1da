package layout

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tiered makes a graph like a company's: entry points, tiers of services that mostly call the next tiers, a few calls
// back, data stores that only answer.
func tiered(seed uint64, services, calls int) ([]Node, []Edge) {
	r := rand.New(rand.NewPCG(seed, 1))
	nodes := make([]Node, services)
	for i := range nodes {
		nodes[i] = Node{ID: fmt.Sprintf("s%04d", i), Entry: i < max(1, services/100)}
	}
	tier := func(i int) int { return i * 7 / services }
	edges := make([]Edge, 0, calls)
	for len(edges) < calls {
		s, t := r.IntN(services), r.IntN(services)
		if d := tier(t) - tier(s); d >= 1 && d <= 3 || d == 0 && r.IntN(10) == 0 || d < 0 && r.IntN(100) == 0 {
			edges = append(edges, Edge{nodes[s].ID, nodes[t].ID})
		}
	}
	return nodes, edges
}

func overlaps(t *testing.T, places map[string]Position) {
	t.Helper()
	byColumn := map[int][]Position{}
	for id, p := range places {
		if math.IsNaN(p.X) || math.IsNaN(p.Y) || math.IsInf(p.X, 0) || math.IsInf(p.Y, 0) {
			t.Fatalf("%s is at %v", id, p)
		}
		byColumn[column(p.X)] = append(byColumn[column(p.X)], p)
	}
	for c, ps := range byColumn {
		slices.SortFunc(ps, func(a, b Position) int { return int(math.Copysign(1, a.Y-b.Y)) })
		for i, p := range ps {
			if p.X != float64(c)*StepX {
				t.Errorf("a card stands between columns, at %v", p)
			}
			if i > 0 && p.Y-ps[i-1].Y < StepY {
				t.Errorf("cards overlap: %v and %v", ps[i-1], p)
			}
		}
	}
}

func TestReadsFromLeftToRight(t *testing.T) {
	nodes := []Node{{ID: "user", Entry: true}, {ID: "web"}, {ID: "cart"}, {ID: "pay"}, {ID: "db:cart"}, {ID: "db:pay"}, {ID: "idle"}}
	edges := []Edge{{"user", "web"}, {"web", "cart"}, {"web", "pay"}, {"cart", "db:cart"}, {"pay", "db:pay"}, {"cart", "pay"}}
	places := Place(nodes, edges, nil)
	overlaps(t, places)
	for _, e := range edges {
		if places[e.Source].X >= places[e.Target].X {
			t.Errorf("%s at %v is not left of %s at %v", e.Source, places[e.Source], e.Target, places[e.Target])
		}
	}
	for id, p := range places {
		if id != "idle" && p.Y >= places["idle"].Y {
			t.Errorf("%s at %v is not above the node without edges, at %v", id, p, places["idle"])
		}
	}
}

func TestCyclesHaveBackEdges(t *testing.T) {
	nodes := []Node{{ID: "user", Entry: true}, {ID: "a"}, {ID: "b"}, {ID: "c"}}
	places := Place(nodes, []Edge{{"user", "a"}, {"a", "b"}, {"b", "c"}, {"c", "a"}, {"c", "c"}, {"b", "user"}}, nil)
	overlaps(t, places)
	if !(places["user"].X < places["a"].X && places["a"].X < places["b"].X && places["b"].X < places["c"].X) {
		t.Errorf("the cycle is not broken where it closes: %v", places)
	}
}

func TestOddGraphs(t *testing.T) {
	for name, test := range map[string]struct {
		nodes []Node
		edges []Edge
	}{
		"nothing":           {},
		"one":               {nodes: []Node{{ID: "a"}}},
		"only a loop":       {nodes: []Node{{ID: "a"}}, edges: []Edge{{"a", "a"}}},
		"doubled":           {nodes: []Node{{ID: "a"}, {ID: "a"}, {ID: "b"}}, edges: []Edge{{"a", "b"}, {"a", "b"}, {"b", "a"}}},
		"unknown ends":      {nodes: []Node{{ID: "a"}}, edges: []Edge{{"a", "x"}, {"y", "a"}, {"x", "y"}}},
		"empty id":          {nodes: []Node{{}, {ID: "a"}}, edges: []Edge{{"", "a"}}},
		"entries call each": {nodes: []Node{{ID: "a", Entry: true}, {ID: "b", Entry: true}}, edges: []Edge{{"a", "b"}, {"b", "a"}}},
	} {
		t.Run(name, func(t *testing.T) {
			places := Place(test.nodes, test.edges, nil)
			overlaps(t, places)
			for _, n := range test.nodes {
				if _, ok := places[n.ID]; !ok {
					t.Errorf("%q has no place", n.ID)
				}
			}
		})
	}
}

func TestLongChainIsWrapped(t *testing.T) {
	var nodes []Node
	var edges []Edge
	for i := range 5000 {
		nodes = append(nodes, Node{ID: fmt.Sprintf("n%04d", i)})
		if i > 0 {
			edges = append(edges, Edge{nodes[i-1].ID, nodes[i].ID})
		}
	}
	places := Place(nodes, edges, nil)
	overlaps(t, places)
	if shape := picture(places); shape < .5 || shape > 6 {
		t.Errorf("a chain of 5,000 gives a picture %.1f times as wide as high", shape)
	}
}

// picture returns width over height.
func picture(places map[string]Position) float64 {
	left, right, top, bottom := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, p := range places {
		left, right, top, bottom = min(left, p.X), max(right, p.X), min(top, p.Y), max(bottom, p.Y)
	}
	return (right - left + StepX) / (bottom - top + StepY)
}

func TestSameGraphSamePicture(t *testing.T) {
	for _, size := range []struct{ nodes, edges int }{{5, 6}, {20, 40}, {300, 1500}, {2000, 10000}} {
		nodes, edges := tiered(uint64(size.nodes), size.nodes, size.edges)
		want := Place(nodes, edges, nil)
		overlaps(t, want)
		if shape := picture(want); size.nodes >= 20 && (shape < 1 || shape > 3.2) {
			t.Errorf("%d nodes give a picture %.1f times as wide as high", size.nodes, shape)
		}
		r := rand.New(rand.NewPCG(7, 7))
		for range 3 {
			r.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
			r.Shuffle(len(edges), func(i, j int) { edges[i], edges[j] = edges[j], edges[i] })
			if diff := cmp.Diff(want, Place(nodes, edges, nil)); diff != "" {
				t.Fatalf("%d nodes in another order give another picture:\n%s", size.nodes, diff)
			}
		}
	}
}

// TestPlacesStay adds and removes nodes at random: what stays does not move, what comes back finds its place, what is
// new overlaps nothing, and a second look changes nothing.
func TestPlacesStay(t *testing.T) {
	nodes, edges := tiered(3, 400, 1200)
	r := rand.New(rand.NewPCG(5, 5))
	shown := func() []Node {
		var some []Node
		for _, n := range nodes {
			if r.IntN(10) > 2 {
				some = append(some, n)
			}
		}
		return some
	}
	remembered := Place(shown(), edges, nil)
	for round := range 20 {
		now := shown()
		places := Place(now, edges, remembered)
		if len(places) != len(now) {
			t.Fatalf("round %d: %d places for %d nodes", round, len(places), len(now))
		}
		for id, p := range places {
			if before, ok := remembered[id]; ok && before != p {
				t.Fatalf("round %d: %s moved from %v to %v", round, id, before, p)
			}
			remembered[id] = p
		}
		overlaps(t, remembered)
		if diff := cmp.Diff(places, Place(now, edges, remembered)); diff != "" {
			t.Fatalf("round %d: the same graph again gives another picture:\n%s", round, diff)
		}
	}
}

func TestNewNodeIsPutBesideItsNeighbours(t *testing.T) {
	nodes, edges := tiered(9, 60, 120)
	before := Place(nodes, edges, nil)
	nodes = append(nodes, Node{ID: "new"})
	edges = append(edges, Edge{"s0030", "new"})
	after := Place(nodes, edges, before)
	caller, p := before["s0030"], after["new"]
	if p.X <= caller.X-StepX/2 || math.Abs(p.X-caller.X) > 3*StepX || math.Abs(p.Y-caller.Y) > 5*StepY {
		t.Errorf("the new node is at %v, its only caller at %v", p, caller)
	}
}

func TestPlacedAnewWhenMostIsNew(t *testing.T) {
	nodes, edges := tiered(9, 60, 120)
	few := map[string]Position{"s0001": {X: 9 * StepX, Y: 40 * StepY}}
	if diff := cmp.Diff(Place(nodes, edges, nil), Place(nodes, edges, few)); diff != "" {
		t.Errorf("one known place of 60 changes the picture:\n%s", diff)
	}
}

// TestOrderingReducesLength compares with the order by id: the edges of an ordered picture are clearly shorter.
func TestOrderingReducesLength(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var nodes []Node
	var edges []Edge
	names := r.Perm(200)
	for i := range 200 {
		nodes = append(nodes, Node{ID: fmt.Sprintf("n%03d", names[i])})
		if i >= 20 {
			edges = append(edges, Edge{nodes[i-20].ID, nodes[i].ID}) // twenty chains of ten
		}
	}
	places := Place(nodes, edges, nil)
	height := 0.
	for _, e := range edges {
		height += math.Abs(places[e.Source].Y-places[e.Target].Y) / StepY
	}
	if mean := height / float64(len(edges)); mean > 1 {
		t.Errorf("the edges of twenty parallel chains climb by %.2f rows on average, want less than 1", mean)
	}
}

func BenchmarkPlace(b *testing.B) {
	for _, size := range []struct{ nodes, edges int }{{15, 30}, {300, 1500}, {2000, 10000}, {10000, 50000}} {
		nodes, edges := tiered(1, size.nodes, size.edges)
		b.Run(fmt.Sprintf("nodes=%d/edges=%d", size.nodes, size.edges), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Place(nodes, edges, nil)
			}
		})
	}
}

func BenchmarkPlaceOneNew(b *testing.B) {
	nodes, edges := tiered(1, 2000, 10000)
	before := Place(nodes, edges, nil)
	delete(before, "s1000")
	for b.Loop() {
		Place(nodes, edges, before)
	}
}
