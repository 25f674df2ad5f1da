package web

import (
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"faultline/graph"
)

// Whose spans link to whose is drawn on the map, where both ends are shown, and moves nothing; it is explained where it is
// pointed at and clicked, and is in the table.
func TestLinksInBrowser(t *testing.T) {
	w := illShop()
	linked := func(from, to string, rate float64) call {
		return call{key: graph.EdgeKey{Source: service(from), Target: service(to), Protocol: graph.Linked}, rate: rate}
	}
	w.calls = append(w.calls, linked("api", "recommend", 2), linked("checkout", "email", 5))
	address, _ := show(t, w)
	b := visit(t, address, 1440, 900)
	b.until("window.faultline?.links.length === 2 && faultline.still")
	const places = "JSON.stringify(faultline.nodes.map(n => [n.id, faultline.place(n.id)]))"
	drawn, edges := value[string](b, places), value[int](b, "faultline.edges.length")

	// Over the wire a link that is gone goes from the picture, which stays as it is.
	all := w.snapshot()
	w.change(func(calls []call) []call {
		return slices.DeleteFunc(calls, func(c call) bool { return c.key.Protocol == graph.Linked })
	})
	b.until("faultline.links.length === 0")
	if got := value[string](b, places); got != drawn || value[int](b, "faultline.edges.length") != edges {
		t.Errorf("without links the nodes lie at %s, with them at %s", got, drawn)
	}
	w.change(func([]call) []call { return all })
	b.until("faultline.links.length === 2 && faultline.still")

	// Pointed at, it says what it is; clicked, the panel turns to it.
	const between = "faultline.edgeSpot(faultline.links.find(l => l.source === 'shop/checkout').id)"
	at := value[spot](b, between)
	b.do(chromedp.MouseEvent("mouseMoved", at.X, at.Y))
	b.until("!document.querySelector('#tip').hidden")
	tip := value[string](b, "document.querySelector('#tip').innerText")
	for _, want := range []string{"checkout ⋯▸ email", "Spans of email link to spans of checkout", "no call", "n"} {
		if !strings.Contains(tip, want) {
			t.Errorf("the tooltip does not say %q: %s", want, tip)
		}
	}
	b.click(between)
	b.until("faultline.state.service === 'shop/email' && document.querySelector('#panel section[data-key=links]')")
	b.until("(r => r.top >= 0 && r.top < innerHeight)(document.querySelector('#panel section[data-key=links]').getBoundingClientRect())")
	if text := value[string](b, "document.querySelector('#panel section[data-key=links]').innerText"); !strings.Contains(text, "link to spans of checkout") {
		t.Errorf("the panel says %q", text)
	}

	// Only what is around email within one call: checkout is two away, so its link is hidden.
	b.do(chromedp.Navigate(address + "/?service=shop/email&depth=1"))
	b.until("window.faultline?.still && faultline.nodes.length > 0 && faultline.nodes.length < 6")
	if value[int](b, "faultline.links.length") != 0 {
		t.Errorf("a link to what is hidden is shown: %s", value[string](b, "JSON.stringify(faultline.links)"))
	}

	b.do(chromedp.Navigate(address + "/?view=table"))
	b.until("[...document.querySelectorAll('#table .tabs button')].some(e => e.innerText === 'Linked 2')")
	b.run("[...document.querySelectorAll('#table .tabs button')].find(e => e.innerText === 'Linked 2').click()")
	if text := value[string](b, "document.querySelector('#table tbody').innerText"); !strings.Contains(text, "shop/email") || !strings.Contains(text, "shop/recommend") {
		t.Errorf("the table says %q", text)
	}
}
