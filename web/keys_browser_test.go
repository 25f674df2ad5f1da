package web

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// newsOf is a world whose last connection comes and goes: each time is news to those who look at it.
func (b *browser) newsOf(w *world) {
	b.t.Helper()
	var taken call
	n := len(w.snapshot())
	w.change(func(calls []call) []call {
		taken = calls[n-1]
		return calls[:n-1]
	})
	b.until(fmt.Sprintf("faultline.still && faultline.data.edges === %d", n-1))
	w.change(func(calls []call) []call { return append(calls, taken) })
	b.until(fmt.Sprintf("faultline.still && faultline.data.edges === %d", n))
}

func hold(typ input.DispatchKeyEventType, name, text string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: typ, Key: name, Code: name, Text: text})
		return err
	})
}

// TestWalkInBrowser walks the map by keys: every one has its effect at once, whatever comes from the server in between.
func TestWalkInBrowser(t *testing.T) {
	w := illShop()
	address, _ := show(t, w)
	b := visit(t, address+"/", 1280, 800)
	b.until("window.faultline?.nodes.length >= 23 && faultline.still")
	step := func(name string) string {
		t.Helper()
		before := value[string](b, "faultline.cursor ?? ''")
		b.do(key(name))
		after := value[string](b, "faultline.cursor ?? ''")
		if after == before || after == "" {
			t.Fatalf("%s went from %q to %q", name, before, after)
		}
		b.newsOf(w)
		if now := value[string](b, "faultline.cursor"); now != after {
			t.Fatalf("%s went to %q, and news took the cursor to %q", name, after, now)
		}
		return after
	}
	opened := func(want string) {
		t.Helper()
		if got := value[string](b, "faultline.state.service"); got != want {
			t.Fatalf("%q is open, want %q; the focus is on %q", got, want, value[string](b, "document.activeElement.outerHTML"))
		}
	}
	// No element has the focus: the first key finds the beginning.
	if first := step("ArrowLeft"); first != "user" {
		t.Errorf("the walk begins at %q", first)
	}
	step("ArrowRight")
	at := step("ArrowRight")
	if said := value[string](b, "document.querySelector('#said').textContent"); said == "" {
		t.Error("where the walk is, is not said to who hears the page")
	}
	b.press("\r")
	opened(at)
	if got := value[string](b, "document.activeElement.tagName"); got != "H2" {
		t.Errorf("the focus is on %s, not on the panel's heading", got)
	}
	// Back on the map, and on from there.
	b.press("\x1b")
	opened("")
	if got := value[string](b, "document.activeElement.id"); got != "canvas" {
		t.Errorf("the focus is on %q after the panel was closed", got)
	}
	next := step("ArrowRight")
	if next == at {
		t.Errorf("the walk is still at %q", at)
	}
	// A key that comes at once after another one is not taken for what the first has opened.
	b.run("for (const key of ['Enter', '/']) document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}))")
	b.press("mai")
	if got := value[string](b, "document.querySelector('#search').value"); got != "mai" {
		t.Errorf("typed at once, there is %q in the search", got)
	}
	opened(next)
	b.press("\x1b\x1b\x1b")
	opened("")

	// What goes away under the cursor is walked on from.
	b.do(key("ArrowRight"))
	id := value[string](b, "faultline.cursor")
	w.change(func(calls []call) []call {
		var rest []call
		for _, c := range calls {
			if c.key.Source.ID() != id && c.key.Target.ID() != id {
				rest = append(rest, c)
			}
		}
		return rest
	})
	b.until(fmt.Sprintf("faultline.still && !faultline.nodes.some(n => n.id === %q)", id))
	b.do(key("ArrowLeft"))
	if got := value[string](b, "faultline.cursor"); got == id || !value[bool](b, "faultline.nodes.some(n => n.id === faultline.cursor)") {
		t.Errorf("the walk is at %q", got)
	}
}

// TestNewsInBrowser lets news come while the viewer is about to do something: it is done.
func TestNewsInBrowser(t *testing.T) {
	w := illShop()
	address, _ := show(t, w)
	b := visit(t, address+"/", 1280, 800)
	b.until("window.faultline?.nodes.length >= 23 && faultline.still && document.querySelector('#verdict button')")
	worst := edgeID(t, w, "checkout", "payment")
	shut := func() {
		t.Helper()
		b.press("\x1b")
		b.until("document.querySelector('#panel').hidden")
	}

	// A button is pressed, news come, it is let go: by the pointer, and by the space bar.
	at := value[spot](b, "(({x, y, width, height}) => ({x: x + width / 2, y: y + height / 2}))(document.querySelector('#verdict button').getBoundingClientRect())")
	left := func(typ input.DispatchMouseEventType) {
		t.Helper()
		b.do(chromedp.MouseEvent(typ, at.X, at.Y, chromedp.ButtonLeft, chromedp.ClickCount(1)))
	}
	left("mousePressed")
	b.newsOf(w)
	left("mouseReleased")
	b.until("faultline.state.edge === '" + worst + "'")
	shut()
	b.do(chromedp.Focus("#verdict button"), hold("keyDown", " ", " "))
	b.newsOf(w)
	b.do(hold("keyUp", " ", ""))
	b.until("faultline.state.edge === '" + worst + "'")
	shut()

	// What the pointer is on stays so, with its figures.
	b.until("faultline.still")
	at = value[spot](b, "(({x, y}) => ({x, y}))(faultline.nodes.find(n => n.name === 'payment'))")
	b.do(chromedp.MouseEvent("mouseMoved", at.X, at.Y))
	b.until("!document.querySelector('#tip').hidden")
	b.newsOf(w)
	if !value[bool](b, "faultline.pointed !== null && document.querySelector('#tip').innerText.includes('payment')") {
		t.Error("news took away what the pointer is on")
	}

	// In the table the focus, and what is selected to be copied, stay.
	b.press("t")
	b.until("document.querySelectorAll('#table tbody tr').length === 29")
	b.run("window.focused = document.querySelectorAll('#table tbody a[href*=\"edge=\"]')[2]; focused.focus(); getSelection().selectAllChildren(document.querySelectorAll('#table tbody tr')[1])")
	selected := value[string](b, "getSelection().toString()")
	b.newsOf(w)
	if !value[bool](b, "document.activeElement === focused") {
		t.Errorf("news took the focus to %q", value[string](b, "document.activeElement.outerHTML"))
	}
	if now := value[string](b, "getSelection().toString()"); now == "" || len(now) < len(selected)/2 {
		t.Errorf("selected was %q, and is %q after news", selected, now)
	}
	b.press("\r")
	b.until("faultline.state.edge !== '' && !document.querySelector('#panel').hidden")
	shut()
	if !value[bool](b, "document.activeElement === focused") {
		t.Errorf("the focus is on %q after the panel was closed", value[string](b, "document.activeElement.outerHTML"))
	}
	b.press("t")

	// A tab in the background draws no frames; its title says what is.
	b.run("Object.defineProperty(document, 'hidden', {get: () => true}); window.requestAnimationFrame = () => 0; document.title = 'old'")
	w.change(func(calls []call) []call { return calls[:len(calls)-1] })
	awaited[bool](b, "new Promise(done => (function look() { document.title.includes('failing') ? done(true) : setTimeout(look, 20) })())")
}

// TestSparksInBrowser holds that each card has the curve of its calls, with those that failed in their colour.
func TestSparksInBrowser(t *testing.T) {
	w := illShop()
	address, _ := show(t, w)
	b := visit(t, address+"/", 1440, 900)
	b.until("window.faultline?.spark('shop/payment') && faultline.still")
	curve := value[struct{ Rate, Failed []float64 }](b, "faultline.spark('shop/payment')")
	if len(curve.Rate) < 28 || len(curve.Failed) != len(curve.Rate) || slices.Max(curve.Failed) == 0 || slices.Min(curve.Rate) == 0 || curve.Failed[0] != 0 {
		t.Errorf("the curve of payment is %+v", curve)
	}
	b.expect("willReadFrequently")
	// Of the foot of the card, from its left end to its right.
	foot := func(name string) []string {
		return value[[]string](b, fmt.Sprintf(`(n => {
			const canvas = document.querySelector('#canvas'), box = canvas.getBoundingClientRect(), {k} = faultline.camera, {w, h} = faultline.card;
			const at = (x) => canvas.getContext('2d').getImageData(Math.round(n.x - box.left + x * w * k), Math.round(n.y - box.top + h * k / 2 - 2), 1, 1).data.slice(0, 3).join();
			return [at(-.3), at(.42), at(0)];
		})(faultline.nodes.find(n => n.name === %q))`, name))
	}
	if at := foot("payment"); at[0] == at[1] {
		t.Errorf("before and after calls began to fail the card's foot looks the same: %q", at)
	}
	if well, nobody := foot("cart"), foot("user"); well[0] == nobody[0] || well[0] != well[1] {
		t.Errorf("the foot of a healthy service looks like %q, that of one who is not called like %q", well, nobody)
	}
	b.do(chromedp.Navigate(address + "/?range=1h"))
	b.until("[11, 12, 13].includes(window.faultline?.spark('shop/payment')?.rate.length)") // of five minutes each, as they are over or not
}

// TestPathInBrowser goes from one service to another: by the search, by the pointer with Shift, and by the address.
func TestPathInBrowser(t *testing.T) {
	w := illShop()
	address, _ := show(t, w)
	b := visit(t, address+"/", 1440, 900)
	b.until("window.faultline?.nodes.length >= 23 && faultline.still")
	b.do(key("p"))
	b.until("document.querySelector('#said').innerText.startsWith('Open a service first')")
	b.click("(({x, y}) => ({x, y}))(faultline.nodes.find(n => n.name === 'web'))")
	b.until("document.querySelector('#panel .tiles')")
	b.do(key("p"))
	if got := value[string](b, "document.activeElement.placeholder"); got != "Path from web to…" {
		t.Fatalf("the search asks for %q", got)
	}
	b.press("api.pay")
	b.until("document.querySelectorAll('#found [role=option]').length === 1")
	b.press("\r")
	b.until("document.querySelector('#panel .path')")
	way := []string{edgeID(t, w, "web", "checkout"), edgeID(t, w, "checkout", "payment"), edgeID(t, w, "payment", "api.payments.example")}
	is := func(want []string, said string) {
		t.Helper()
		b.until("document.querySelector('#panel .path')?.innerText.includes(" + fmt.Sprintf("%q", said) + ")")
		if got := value[[]string](b, "faultline.lit"); !slices.Equal(sortedCopy(got), sortedCopy(want)) {
			t.Errorf("%q is lit, want %q", got, want)
		}
	}
	is(way, "From web to api.payments.example it takes 3 calls; 1 is unwell.")
	if got := value[[]string](b, "[...document.querySelectorAll('#panel .path tbody tr')].map(tr => tr.dataset.key)"); !slices.Equal(got, way) {
		t.Errorf("the path goes %q, want %q", got, way)
	}
	if got := value[string](b, "search.placeholder"); got != "Find a service" {
		t.Errorf("afterwards the search asks for %q", got)
	}
	b.do(chromedp.Reload())
	b.until("window.faultline?.nodes.length >= 23")
	is(way, "From web to api.payments.example")

	// Calls go the other way only, or not at all.
	b.until("faultline.still")
	at := value[spot](b, "(({x, y}) => ({x, y}))(faultline.nodes.find(n => n.name === 'user'))")
	b.do(chromedp.MouseClickXY(at.X, at.Y, chromedp.ButtonModifiers(chromedp.ModifierShift)))
	is([]string{edgeID(t, w, "", "edge"), edgeID(t, w, "edge", "web")}, "No calls lead from web to user; back it takes 2 calls; all are well.")
	b.do(chromedp.Navigate(address + "/?service=shop/search&to=shop/geo"))
	b.until("window.faultline?.nodes.length >= 23")
	is(nil, "No calls lead from search to geo in this time, nor back.")
	b.press("\x1b")
	b.until("!document.querySelector('#panel .path') && faultline.state.service === 'shop/search'")
	// Another service has no path of the last one.
	b.do(chromedp.NavigateBack())
	b.until("document.querySelector('#panel .path')")
	b.run("document.querySelector('#panel tbody button.link').click()")
	b.until("faultline.state.to === ''")
}
