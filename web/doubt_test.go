package web

import (
	"strconv"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"faultline/graph"
	"faultline/storage"
)

// Figures of a service whose spans are chosen by how traces end are marked, its own and those of its edges, and a service
// that does not say what it is called.
func TestWhatIsDoubtfulIsMarked(t *testing.T) {
	store := shopStore(t)
	nameless := graph.Node{Env: "prod", Kind: graph.Service, Name: "unknown_service:java"}
	call := graph.EdgeRow{Edge: graph.EdgeKey{Source: nameless, Target: front, Protocol: graph.HTTP}, Stats: callStats(30, 0, 0, time.Millisecond, 0, true, true)}
	if err := store.Write(t.Context(), storage.Batch{Windows: []graph.Part{{Window: graph.Window{
		Start: floor(testNow, graph.WindowLength).Add(-time.Minute), Length: graph.WindowLength, Part: 77, Edges: []graph.EdgeRow{call},
	}}}}); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, store, func(s *Settings) { s.Biased = func(n graph.Node) bool { return n == payment } })
	g := askFor[Graph](t, s, "/api/v1/graph?env=prod")
	biased, edges := 0, 0
	for _, n := range g.Nodes {
		if n.Biased != (n.ID == payment.ID()) {
			t.Errorf("%s: biased %v", n.ID, n.Biased)
		}
		if n.Biased {
			biased++
		}
		if n.Unidentified != (n.ID == nameless.ID()) {
			t.Errorf("%s: unidentified %v", n.ID, n.Unidentified)
		}
	}
	for _, e := range g.Edges {
		if e.Biased != (e.Source == payment.ID() || e.Target == payment.ID()) {
			t.Errorf("%s → %s: biased %v", e.Source, e.Target, e.Biased)
		}
		if e.Biased {
			edges++
		}
	}
	if biased != 1 || edges == 0 {
		t.Errorf("%d nodes and %d edges are biased", biased, edges)
	}
	if d := askFor[ServiceDetail](t, s, "/api/v1/services/"+payment.ID()+"?env=prod"); !d.Biased || len(d.Inbound) == 0 || !d.Inbound[0].Biased {
		t.Errorf("the service by itself: biased %v", d.Biased)
	}
}

// The panels say it, with a page that explains it.
func TestWhatIsDoubtfulInBrowser(t *testing.T) {
	w := illShop()
	address, _ := showReader(t, w, func(s *Settings) { s.Biased = func(n graph.Node) bool { return n.Name == "checkout" } })
	b := visit(t, address+"/?service=shop/checkout", 1440, 900)
	pill := func(panel string) string {
		b.until("document.querySelector('#panel .under') && document.querySelector('#panel h2')?.innerText.includes(" + strconv.Quote(panel) + ")")
		return value[string](b, "[...document.querySelectorAll('#panel .under a.pill')].map(e => `${e.innerText} ${new URL(e.href).pathname} ${e.title.length > 40}`).join()")
	}
	const want = "biased /docs/rules/biased_sampling true"
	if got := pill("checkout"); got != want {
		t.Errorf("the service's panel says %q", got)
	}
	edge := value[string](b, "faultline.edges.find(e => e.source === 'shop/checkout').id")
	b.do(chromedp.Navigate(address + "/?edge=" + edge))
	if got := pill("checkout"); got != want {
		t.Errorf("the edge's panel says %q", got)
	}
}
