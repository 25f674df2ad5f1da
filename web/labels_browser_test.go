package web

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"faultline/graph"
)

// box is a rectangle of the screen: left, top, right, bottom.
type box [4]float64

// common is how many square pixels two boxes have in common.
func (a box) common(b box) float64 {
	return max(0, min(a[2], b[2])-max(a[0], b[0])) * max(0, min(a[3], b[3])-max(a[1], b[1]))
}

func (a box) area() float64 { return (a[2] - a[0]) * (a[3] - a[1]) }

// drawnMap is what lies on the canvas, in its coordinates.
type drawnMap struct {
	Width, Height float64
	Discs         bool
	Nodes         []struct {
		ID   string
		X, Y float64
	}
	Edges  []struct{ ID, Health string }
	Labels []struct {
		ID  string
		Box box
	}
	Card struct{ W, H, K float64 }
}

func (b *browser) drawnMap() drawnMap {
	b.t.Helper()
	b.until("faultline.still && faultline.drawn > 0")
	return value[drawnMap](b, `(c => ({
		width: c.width, height: c.height, discs: faultline.camera.k < 0.7, edges: faultline.edges,
		nodes: faultline.nodes.map(n => ({id: n.id, x: n.x - c.left, y: n.y - c.top})), labels: faultline.labels,
		card: {...faultline.card, k: faultline.camera.k},
	}))(document.querySelector('#canvas').getBoundingClientRect())`)
}

// dire is what nearly everything fails in.
func dire(calls []call) []call {
	since := time.Now().Add(-3 * time.Minute)
	for i := range calls {
		calls[i].errors, calls[i].failure, calls[i].from = .08, graph.Refused, since
		if i%3 == 0 {
			calls[i].errors = .6
		}
	}
	return calls
}

// What is said on connections is in sight as a whole, and lies on nothing else that is said; on a phone on no node either,
// where the worst is said first and the rest is left out.
func TestLabelsInBrowser(t *testing.T) {
	for _, size := range []struct {
		name          string
		width, height int64
		calls         []call
		least, most   int
	}{
		{"desktop", 1440, 900, shopCalls(), 12, 60},
		{"crowded desktop", 1440, 900, company(3, 60, 200), 12, 60},
		{"phone", 390, 844, shopCalls(), 3, 8},
		{"crowded phone", 390, 844, company(3, 400, 1600), 0, 8},
	} {
		t.Run(size.name, func(t *testing.T) {
			address, _ := show(t, &world{now: time.Now, calls: dire(size.calls)})
			b := visit(t, address+"/", size.width, size.height)
			b.until("window.faultline?.nodes.length >= 23 && faultline.edges.filter(e => e.health === 'critical').length >= 8")
			phone := size.width < 600
			m := b.drawnMap()
			if n := len(m.Labels); n < size.least || n > size.most {
				t.Errorf("%d connections are labelled, want %d to %d", n, size.least, size.most)
			}
			for i, l := range m.Labels {
				if l.Box[0] < 0 || l.Box[1] < 0 || l.Box[2] > m.Width || l.Box[3] > m.Height {
					t.Errorf("what is said on %s is cut: it is at %v of %v x %v", l.ID, l.Box, m.Width, m.Height)
				}
				for _, other := range m.Labels[:i] {
					if l.Box.common(other.Box) > 0 {
						t.Errorf("what is said on %s and on %s lies on each other: %v, %v", l.ID, other.ID, l.Box, other.Box)
					}
				}
				if !phone {
					continue
				}
				for _, n := range m.Nodes {
					half, allowed := spot{4, 4}, 1.
					if !m.Discs {
						half, allowed = spot{m.Card.W / 2 * m.Card.K, m.Card.H / 2 * m.Card.K}, .1*l.Box.area()
					}
					if hidden := l.Box.common(box{n.X - half.X, n.Y - half.Y, n.X + half.X, n.Y + half.Y}); hidden > allowed {
						t.Errorf("what is said on %s hides %v px² of %s", l.ID, hidden, n.ID)
					}
				}
			}
			if phone && len(m.Labels) > 0 {
				for _, e := range m.Edges {
					if e.ID == m.Labels[0].ID && e.Health != "critical" {
						t.Errorf("first something is said on %s, which is %s", e.ID, e.Health)
					}
				}
			}
		})
	}
}

// What is said on a connection between two nodes of the top row is not cut by what is above the map.
func TestLabelOfTheTopRowInBrowser(t *testing.T) {
	since := time.Now().Add(-3 * time.Minute)
	node := func(kind graph.NodeKind, name string) graph.Node {
		return graph.Node{Env: "production", Kind: kind, Name: name}
	}
	w := &world{now: time.Now}
	for i := range 8 {
		from := service(fmt.Sprintf("row-%d", i))
		w.calls = append(w.calls, call{key: graph.EdgeKey{Source: node(graph.User, ""), Target: from, Protocol: graph.HTTP}, rate: 10, latency: time.Millisecond})
		for depth := range 6 {
			to := service(fmt.Sprintf("row-%d-%d", i, depth))
			w.calls = append(w.calls, call{key: graph.EdgeKey{Source: from, Target: to, Protocol: graph.GRPC}, rate: 10, latency: time.Millisecond, errors: .3, failure: graph.Refused, from: since})
			from = to
		}
	}
	address, _ := show(t, w)
	b := visit(t, address+"/", 1440, 900)
	b.until("window.faultline?.edges.filter(e => e.health === 'critical').length === 48")
	m := b.drawnMap()
	top := math.Inf(1)
	for _, n := range m.Nodes {
		top = min(top, n.Y)
	}
	above := 0
	for _, l := range m.Labels {
		if l.Box[3] > top {
			continue
		}
		above++
		if edge := top - m.Card.H/2*m.Card.K; l.Box[1] < 0 || l.Box[3] > edge {
			t.Errorf("what is said on %s above the top row is at %v, between 0 and %v there is room", l.ID, l.Box, edge)
		}
	}
	if m.Discs || above == 0 {
		t.Fatalf("nothing is said above the cards of the top row at %v: %v", top, m.Labels)
	}
	// The same when the row is moved up by hand, until it goes out of sight as well.
	for range 3 {
		b.run("document.querySelector('#canvas').dispatchEvent(new WheelEvent('wheel', {deltaY: 15, cancelable: true}))")
		b.do(chromedp.Sleep(100 * time.Millisecond))
		for _, l := range b.drawnMap().Labels {
			if l.Box[1] < 0 && l.Box[3] > 0 {
				t.Errorf("moved up, what is said on %s is cut: %v", l.ID, l.Box)
			}
		}
	}
}

// What is drawn together, only what is wrong or groups, fills a screen that is higher than wide: rows as wide as it is, one
// below the other, above what is counted at the foot, however many lines that takes.
func TestUprightInBrowser(t *testing.T) {
	for _, test := range []struct {
		name, path string
		calls      []call
	}{{"unhealthy", "/?only=unhealthy", shopCalls()}, {"groups", "/", company(2, 2000, 4000)}} {
		t.Run(test.name, func(t *testing.T) {
			address, _ := show(t, &world{now: time.Now, calls: dire(test.calls)})
			b := visit(t, address+test.path, 390, 844)
			b.until("window.faultline?.nodes.length >= 10")
			m := b.drawnMap()
			foot := value[float64](b, "document.querySelector('#counts').getBoundingClientRect().top - document.querySelector('#canvas').getBoundingClientRect().top")
			low, high := math.Inf(1), math.Inf(-1)
			for i, n := range m.Nodes {
				low, high = min(low, n.Y), max(high, n.Y)
				if n.X < 0 || n.X > m.Width || n.Y < 0 || n.Y+12 > foot {
					t.Errorf("%s is outside of the picture, at %v, %v of %v x %v", n.ID, n.X, n.Y, m.Width, foot)
				}
				for _, other := range m.Nodes[:i] {
					if math.Hypot(n.X-other.X, n.Y-other.Y) < 24 {
						t.Errorf("%s and %s are in one place", n.ID, other.ID)
					}
				}
			}
			if high-low < .6*m.Height {
				t.Errorf("the picture is %v px high, the screen %v", high-low, m.Height)
			}
		})
	}
}

// The pages that are made on the server are whole on a phone, in light and dark: nothing is wider than the screen, the bar
// is one row, what they are about is there, and every text stands out from what is behind it as WCAG AA asks.
func TestPagesOnAPhoneInBrowser(t *testing.T) {
	w := illShop()
	address, _ := show(t, w)
	b := visit(t, address+"/status", 360, 740)
	b.expect("404")
	for _, path := range []string{"/status", "/rules", "/doctor", "/docs/rules", "/docs/rules/no_backoff", "/traces/" + w.trace.ID.String(), "/no-such-page", "/?view=table", "/?at=2001-01-01T00:00:00Z&range=15m"} {
		for _, theme := range []string{"light", "dark"} {
			b.run(fmt.Sprintf("localStorage.setItem('faultline.theme', %q)", theme))
			b.do(chromedp.Navigate(address + path))
			b.until("document.readyState === 'complete' && (!window.faultline || faultline.data.at || document.querySelector('#empty')) && !document.querySelector('#trace-wait')")
			if wide := value[float64](b, "document.documentElement.scrollWidth"); wide > 360 {
				t.Errorf("%s is %v px wide", path, wide)
			}
			if high := value[float64](b, "document.querySelector('main').getBoundingClientRect().height"); high < 40 {
				t.Errorf("what %s is about is %v px high", path, high)
			}
			if rows := value[float64](b, "document.querySelector('.tools') ? 0 : document.querySelector('.bar').offsetHeight"); rows > 60 {
				t.Errorf("the bar of %s is %v px high", path, rows)
			}
			for _, faint := range value[[]string](b, faintTexts) {
				t.Errorf("%s in %s: %s", path, theme, faint)
			}
		}
	}
}

// faintTexts lists the texts in sight, and the examples in empty fields, that stand out too little from what is behind them.
const faintTexts = `(() => {
		const one = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
		const rgba = colour => {
			one.clearRect(0, 0, 1, 1);
			one.fillStyle = colour;
			one.fillRect(0, 0, 1, 1);
			const [r, g, b, a] = one.getImageData(0, 0, 1, 1).data;
			return [r, g, b, a / 255];
		};
		const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
		const over = (c, under, by = c[3]) => under.map((v, i) => v * (1 - by) + c[i] * by);
		const behind = e => {
			const layers = [];
			for (let n = e; n; n = n.parentElement) layers.unshift(rgba(getComputedStyle(n).backgroundColor));
			return layers.reduce((under, c) => over(c, under), [255, 255, 255]);
		};
		const found = new Set();
		const look = (e, style, text) => {
			let seen = 1;
			for (let n = e; n; n = n.parentElement) seen *= getComputedStyle(n).opacity;
			const back = behind(e), ink = rgba(style.color), a = light(over(ink, back, ink[3] * seen)), b = light(back);
			const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
			const large = parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.6 && style.fontWeight >= 700;
			if (ratio < (large ? 3 : 4.5)) found.add(JSON.stringify(text.trim().slice(0, 40)) + ' has a contrast of ' + ratio.toFixed(2));
		};
		const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
		while (texts.nextNode()) {
			const e = texts.currentNode.parentElement;
			if (texts.currentNode.textContent.trim() && e.checkVisibility({visibilityProperty: true}) && !e.closest('.offscreen, .skip, noscript, :disabled')) look(e, getComputedStyle(e), texts.currentNode.textContent);
		}
		for (const field of document.querySelectorAll('input[placeholder], textarea[placeholder]')) {
			if (field.checkVisibility() && !field.value) look(field, getComputedStyle(field, '::placeholder'), field.placeholder);
		}
		return [...found];
	})()`
