package web

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"

	"faultline/graph"
	"faultline/storage"
	"faultline/web/page"
)

// browser is a headless Chromium with one page, on which everything that should not be is an error: messages on the
// console, exceptions, requests that failed, violations of the content security policy.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu      sync.Mutex
	spoken  []string
	allowed []string // parts of what the console may say
}

// The one Chromium of this package's tests; each test has a page of its own.
var chromium struct {
	once sync.Once
	ctx  context.Context
	stop func()
	err  error
}

func startChromium() {
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		chromium.err = exec.ErrNotFound
		return
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("no-first-run", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, _ := chromedp.NewContext(allocator)
	chromium.ctx, chromium.err = ctx, chromedp.Do(ctx) //nolint:fatcontext // one browser for all tests, made once
	chromium.stop = func() {
		_ = chromedp.Cancel(ctx)
		stop()
	}
}

// withBrowser runs the tests and then ends the browser that they may have started.
type withBrowser struct{ m *testing.M }

func (w withBrowser) Run() int {
	code := w.m.Run()
	forgetDay()
	if chromium.stop != nil {
		chromium.stop()
	}
	return code
}

// visit opens a page of a server in a window of the given size. Without a Chromium the test is skipped, unless the
// environment says that there has to be one.
func visit(t *testing.T, address string, width, height int64) *browser {
	t.Helper()
	if testing.Short() {
		t.Skip("a real browser takes seconds")
	}
	chromium.once.Do(startChromium)
	if chromium.err != nil {
		if os.Getenv("FAULTLINE_REQUIRE_CHROMIUM") == "1" {
			t.Fatalf("no Chromium: %v", chromium.err)
		}
		t.Skipf("no Chromium in PATH (FAULTLINE_REQUIRE_CHROMIUM=1 makes this a failure): %v", chromium.err)
	}
	ctx, cancel := chromedp.NewContext(chromium.ctx)
	ctx, cancelTime := context.WithTimeout(ctx, 4*time.Minute)
	b := &browser{t: t, ctx: ctx}
	messages := chromedp.Console(ctx)
	var listening sync.WaitGroup
	listening.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			b.mu.Lock()
			b.spoken = append(b.spoken, fmt.Sprintf("%s: %s", m.Type, m.Text))
			b.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		b.mu.Lock()
		for _, m := range b.spoken {
			if !slices.ContainsFunc(b.allowed, func(part string) bool { return strings.Contains(m, part) }) {
				t.Errorf("the page's console says: %s", m)
			}
		}
		b.mu.Unlock()
		cancelTime()
		cancel()
		listening.Wait()
	})
	b.do(chromedp.EmulateViewport(width, height), chromedp.Navigate(address))
	return b
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatalf("%v\n%s", err, strings.Join(b.spoken, "\n"))
	}
}

// patience is how long the page may take for anything on a machine that does much else; nobody waits so long for what works.
const patience = time.Minute

// until waits until an expression is true, or fails with what the page looked like.
func (b *browser) until(expression string) {
	b.t.Helper()
	if _, err := chromedp.Run(b.ctx, chromedp.Poll[bool]("!!("+expression+")", chromedp.WithPollingTimeout(patience))); err != nil {
		b.t.Fatalf("waiting for %s: %v\nthe page says:\n%.2000s", expression, err, value[string](b, "document.body.innerText"))
	}
}

// expect allows the console to say what has the given part, from now on and so far.
func (b *browser) expect(part string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.allowed = append(b.allowed, part)
}

func value[T any](b *browser, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// awaited is the value that a promise comes to.
func awaited[T any](b *browser, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

func (b *browser) press(keys string) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(keys))
}

// click presses what an expression gives the place of, {x, y}, once the picture has come to rest: what moves is clicked by
// nobody.
func (b *browser) click(place string) {
	b.t.Helper()
	b.until("faultline.still")
	at := value[spot](b, place)
	b.do(chromedp.MouseClickXY(at.X, at.Y))
}

// run executes a statement in the page.
func (b *browser) run(statement string) {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](statement))
}

type spot struct{ X, Y float64 }

// show serves a world, live, and returns its address.
func show(t *testing.T, w *world, change ...func(*Settings)) (address string, s *Server) {
	t.Helper()
	return showReader(t, w, change...)
}

func showReader(t *testing.T, r storage.Reader, change ...func(*Settings)) (address string, s *Server) {
	t.Helper()
	s = newServer(t, r, append([]func(*Settings){func(s *Settings) {
		s.Now, s.Started, s.Listen = time.Now, time.Now(), ""
		s.Endpoints = func() Endpoints { return Endpoints{GRPC: "http://127.0.0.1:4317", HTTP: "http://127.0.0.1:4318"} }
	}}, change...)...)
	server := httptest.NewServer(s.Handler())
	s.Start()
	t.Cleanup(func() {
		s.Stop()
		server.Close()
	})
	return server.URL, s
}

func edgeID(t *testing.T, w *world, source, target string) string {
	t.Helper()
	for _, c := range w.snapshot() {
		if c.key.Source.Name == source && c.key.Target.Name == target {
			return c.key.ID()
		}
	}
	t.Fatalf("no call from %s to %s", source, target)
	return ""
}

func illShop() *world {
	now := time.Now()
	return &world{now: time.Now, calls: ill(now.Add(-3 * time.Minute))(shopCalls()), trace: exampleTrace(now)}
}

func TestMapInBrowser(t *testing.T) {
	for _, size := range []struct {
		name          string
		width, height int64
	}{{"desktop", 1440, 900}, {"phone", 390, 844}} {
		t.Run(size.name, func(t *testing.T) {
			w := illShop()
			address, _ := show(t, w)
			b := visit(t, address+"/", size.width, size.height)
			b.until("window.faultline?.nodes.length >= 23 && faultline.still")
			names := value[[]string](b, "faultline.nodes.map(n => n.name)")
			for _, name := range []string{"checkout", "payment", "postgresql/payments@pg-pay", "kafka/orders", "api.payments.example", "user"} {
				if !slices.Contains(names, name) {
					t.Errorf("no %q on the map; there are %q", name, names)
				}
			}
			// Everything is on the screen, and nothing lies on something else.
			type node struct{ X, Y float64 }
			nodes := value[[]node](b, "faultline.nodes.map(n => ({x: n.x, y: n.y}))")
			for i, n := range nodes {
				if n.X < 0 || n.Y < 0 || n.X > float64(size.width) || n.Y > float64(size.height) {
					t.Errorf("%s is outside of the screen, at %v", names[i], n)
				}
				for j := range i {
					if math.Hypot(n.X-nodes[j].X, n.Y-nodes[j].Y) < 12 {
						t.Errorf("%s and %s are in one place", names[i], names[j])
					}
				}
			}
			if got := value[string](b, "document.querySelector('#verdict').innerText"); !strings.Contains(got, "checkout → payment") || !strings.Contains(got, "failing") {
				t.Errorf("the verdict is %q", got)
			}
			if wide := value[float64](b, "document.documentElement.scrollWidth"); wide > float64(size.width) {
				t.Errorf("the page is %v px wide, the screen %d", wide, size.width)
			}

			// A click on a connection opens it; the address says so; back closes it.
			id := edgeID(t, w, "checkout", "payment")
			b.click(fmt.Sprintf("faultline.edgeSpot(%q)", id))
			b.until("document.querySelector('#panel .uplot')")
			if got := value[string](b, "location.search"); !strings.Contains(got, "edge="+id) {
				t.Errorf("the address says %q, not the edge", got)
			}
			panel := value[string](b, "document.querySelector('#panel').innerText")
			for _, want := range []string{"checkout", "payment", "connection refused", "p95", "Operations", "POST /v1/charge", "1 of 3 instances", "Versions, caller × callee", "2.7.1", "not known", "Example traces", "failed"} {
				if !strings.Contains(panel, want) {
					t.Errorf("the panel does not say %q:\n%s", want, panel)
				}
			}
			b.do(chromedp.NavigateBack())
			b.until("document.querySelector('#panel').hidden")
			b.do(chromedp.NavigateForward())
			b.until("!document.querySelector('#panel').hidden")
			b.press("\x1b")
			b.until("document.querySelector('#panel').hidden && !location.search.includes('edge=')")

			// A click on a service opens it, from there one of its connections and an example trace.
			b.click("(({x, y}) => ({x, y}))(faultline.nodes.find(n => n.name === 'payment'))")
			b.until("document.querySelector('#panel h2')?.innerText === 'payment' && document.querySelector('#panel').innerText.includes('Called by')")
			b.run("document.querySelector('#panel .examples a').click()")
			b.until("document.querySelectorAll('#panel .w-row').length > 15")
			if got := value[string](b, "document.querySelector('#panel').innerText"); !strings.Contains(got, "checkout made 3 attempts at shop.Payment/Charge") || strings.Count(got, "attempt 2") != 1 || strings.Count(got, "attempt 3") != 1 {
				t.Errorf("the trace does not say what was tried again:\n%s", got)
			}
		})
	}
}

func TestLiveInBrowser(t *testing.T) {
	w := &world{now: time.Now, calls: shopCalls()}
	address, server := show(t, w)
	b := visit(t, address+"/", 1280, 800)
	b.until("window.faultline?.data.stream === 'live' && faultline.nodes.length >= 23")
	const places = "Object.fromEntries(faultline.nodes.map(n => [n.id, faultline.place(n.id)]))"
	before := value[map[string]spot](b, places)
	if got := value[string](b, "document.querySelector('#verdict').innerText"); strings.Contains(got, "failing") {
		t.Fatalf("the healthy shop is said to be %q", got)
	}

	// A connection falls ill, and a new service appears: both are seen without a reload, and nobody moves.
	w.change(func(calls []call) []call {
		calls = ill(time.Now().Add(-3 * time.Minute))(calls)
		n := calls[0]
		n.key.Source, n.key.Target, n.key.Protocol = service("fraud"), service("newcomer"), graph.GRPC
		return append(calls, n)
	})
	id := edgeID(t, w, "checkout", "payment")
	b.until(fmt.Sprintf("faultline.edge(%q)?.health === 'critical'", id))
	b.until("faultline.nodes.some(n => n.name === 'newcomer')")
	b.until("document.querySelector('#verdict').innerText.includes('failing')")
	// Places are compared as the server gives them: the picture as a whole may be fitted into the screen anew.
	after := value[map[string]spot](b, places)
	for id, p := range before {
		if after[id] != p {
			t.Errorf("%s moved from %v to %v", id, p, after[id])
		}
	}
	// It goes again.
	w.change(func(calls []call) []call { return calls[:len(calls)-1] })
	b.until("!faultline.nodes.some(n => n.name === 'newcomer')")

	// The server goes away: the page says so calmly, keeps what it has, and does not become empty.
	b.expect("WebSocket connection")
	b.expect("503")
	server.Stop()
	b.until("!document.querySelector('#banner').hidden && document.querySelector('#banner').innerText.includes('What is shown is of')")
	if n := value[int](b, "faultline.nodes.length"); n < 23 {
		t.Errorf("%d services are left on the map", n)
	}
}

func TestKeyboardInBrowser(t *testing.T) {
	w := illShop()
	address, _ := show(t, w)
	b := visit(t, address+"/", 1280, 800)
	b.until("window.faultline?.nodes.length >= 23")

	b.do(chromedp.Focus(".skip"))
	b.press("\r")
	b.until("document.querySelectorAll('#table tbody tr').length === 29 && document.activeElement.id === 'table'")
	b.press("t")
	b.until("!document.querySelector('#map').hidden")
	b.press("t")
	b.until("document.querySelectorAll('#table tbody tr').length === 29")
	first := value[string](b, "document.querySelector('#table tbody tr').innerText")
	if !strings.Contains(first, "failing") {
		t.Errorf("the first row is not the worst: %q", first)
	}
	sorted := func(column string) {
		t.Helper()
		b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf("[...document.querySelectorAll('#table th button')].find(b => b.innerText.startsWith(%q)).click()", column)))
		if got := value[string](b, "document.querySelector('#table th[aria-sort]').innerText"); !strings.HasPrefix(got, column) {
			t.Errorf("sorted by %q, want %q", got, column)
		}
	}
	sorted("Rate")
	if got := value[string](b, "document.querySelector('#table tbody tr').innerText"); !strings.Contains(got, "pg-main") {
		t.Errorf("the first row by rate is %q", got)
	}
	b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('#table tbody a[href*=\"edge=\"]').focus()"))
	b.press("\r")
	b.until("!document.querySelector('#panel').hidden && location.search.includes('edge=')")
	b.press("\x1b")
	b.until("document.querySelector('#panel').hidden")

	b.press("t")
	b.until("!document.querySelector('#map').hidden")
	b.press("u")
	b.until("location.search.includes('only=unhealthy') && faultline.nodes.length < 23")
	if got := value[string](b, "document.querySelector('#counts').innerText"); !strings.Contains(got, "quiet services") {
		t.Errorf("what is hidden is not counted in sight: %q", got)
	}
	b.press("u")
	b.until("faultline.nodes.length >= 23")

	b.press("/")
	b.until("document.activeElement.id === 'search'")
	b.press("pay")
	b.until("document.querySelectorAll('#found [role=option]').length >= 1")
	b.press("\r")
	b.until("faultline.state.service === 'shop/payment'")
	b.press("\x1b")
	b.until("faultline.state.service === ''")
	b.press("n")
	b.until("faultline.state.edge === '" + edgeID(t, w, "checkout", "payment") + "'")
	b.press("\x1b")
	b.until("faultline.state.edge === ''")
	b.press("[")
	b.until("faultline.state.at !== '' && faultline.data.stream === 'still'")
	b.press("l")
	b.until("faultline.state.at === '' && faultline.data.stream === 'live'")
	b.press("]")
	b.until("document.querySelector('#said').innerText === 'This is the present.'")
	b.press("?")
	b.until("document.querySelector('dialog[open]')?.innerText.includes('Legend')")
	b.press("?")
	b.until("!document.querySelector('dialog')")
}

// key presses a key that has a name instead of a character.
func key(name string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		for _, typ := range []input.DispatchKeyEventType{"keyDown", "keyUp"} {
			if _, err := cdp.Call(ctx, t, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: typ, Key: name, Code: name}); err != nil {
				return err
			}
		}
		return nil
	})
}

// hostileNames are names that would do something if they were taken for anything but text. The canary is set by those that
// get to run.
var hostileNames = []string{
	`<img src=x onerror="window.canary=1">`, `<script>window.canary=2</script>`, `"><svg onload=window.canary=3>`, `'-window.canary=4-'`,
	`</title><script>window.canary=5</script>`, `javascript:window.canary=6`, `{{constructor.constructor('window.canary=7')()}}`,
	"${window.canary=8}", `<iframe srcdoc="<script>parent.canary=9</script>">`, `<a href="javascript:window.canary=10">x</a>`,
	"</textarea><script>canary=11</script>", "\u202egnp.exe", "a\x00b\x07c", `<style>*{display:none}</style>`, `<base href="//evil.example/">`,
	`<math><mi//xlink:href="data:x,<script>canary=12</script>">`, `--><script>canary=13</script>`, `]]><script>canary=14</script>`,
	strings.Repeat("W", 3000), "../../etc/passwd", "%3Cscript%3Ecanary=15%3C/script%3E", "__proto__", "constructor", "toString",
	`<x onclick=canary=16 onmouseover=canary=17>`, "日本語サービス", "\u0000", " ", "&lt;script&gt;canary=18&lt;/script&gt;", `<details open ontoggle=canary=19>`,
}

func TestHostileNamesInBrowser(t *testing.T) {
	w := &world{now: time.Now}
	db := func(name string) graph.Node {
		return graph.Node{Env: hostileNames[0], Kind: graph.Database, Name: name}
	}
	for i, name := range hostileNames {
		name = graph.CleanName(name) // as ingestion cuts it
		from, to := graph.Node{Env: hostileNames[0], Kind: graph.Service, Name: name}, graph.Node{Env: hostileNames[0], Kind: graph.Service, Namespace: name, Name: graph.CleanName(hostileNames[(i+1)%len(hostileNames)])}
		w.calls = append(w.calls,
			call{key: graph.EdgeKey{Source: from, Target: to, Protocol: graph.HTTP}, rate: 20, errors: .2, failure: graph.Timeout, latency: time.Millisecond},
			call{key: graph.EdgeKey{Source: to, Target: db(name), Protocol: graph.DB}, rate: 5, latency: time.Millisecond})
	}
	now := time.Now()
	w.trace = exampleTrace(now)
	for i := range w.trace.Spans {
		s := &w.trace.Spans[i]
		s.Name, s.StatusMessage = hostileNames[i%len(hostileNames)], hostileNames[(i+1)%len(hostileNames)]
		s.Attributes = append(s.Attributes, graph.Attribute{Key: hostileNames[(i+2)%len(hostileNames)], Value: hostileNames[(i+3)%len(hostileNames)]})
		s.Events = append(s.Events, graph.Event{Name: hostileNames[(i+4)%len(hostileNames)], Time: now})
	}
	for i := range w.trace.Resources {
		w.trace.Resources[i].Attributes[0].Value = hostileNames[i%len(hostileNames)]
	}
	address, _ := show(t, w, func(s *Settings) {
		s.Counters = func() graph.Counters {
			c := graph.Counters{Received: 9, Refused: map[string]int64{hostileNames[0]: 1}, Dropped: map[string]int64{hostileNames[1]: 2}}
			for _, name := range hostileNames {
				c.Senders = append(c.Senders, graph.Sender{Node: graph.Node{Name: name, Kind: graph.Service, Env: name}, SDK: name, LastSeen: now})
			}
			return c
		}
	})
	b := visit(t, address+"/", 1280, 800)
	sound := func(where string) {
		t.Helper()
		if value[bool](b, "window.canary !== undefined || document.querySelector('img, iframe, math, base, details, style:not([data-ours]), script:not([src]), x') !== null || document.scripts.length > 2") {
			t.Errorf("%s: a name became more than text: canary %v", where, value[string](b, "String(window.canary) + document.body.innerHTML.slice(0, 500)"))
		}
	}
	b.until("window.faultline?.nodes.length > 60")
	sound("map")
	// Every node and edge is pointed at.
	for _, at := range value[[]spot](b, "faultline.nodes.map(({x, y}) => ({x, y})).concat(faultline.edges.map(e => faultline.edgeSpot(e.id)))") {
		b.do(chromedp.MouseEvent("mouseMoved", at.X, at.Y))
	}
	sound("tooltips")
	ids := value[[]string](b, "faultline.nodes.map(n => n.id)")
	for i, id := range ids {
		if i%6 != 0 { // each name occurs in several places
			continue
		}
		b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf("(s => { s.value = %q; s.focus(); s.dispatchEvent(new Event('input')) })(document.querySelector('#search'))", "a")))
		b.click(fmt.Sprintf("(({x, y}) => ({x, y}))(faultline.nodes[%d])", i))
		sound("panel of " + id)
	}
	b.press("\x1b")
	b.press("t")
	b.until("document.querySelectorAll('#table tbody tr').length > 50")
	sound("table")
	if text := value[string](b, "document.querySelector('#table').innerText"); !strings.Contains(text, hostileNames[0]) {
		t.Errorf("the table does not show %q as text", hostileNames[0])
	}
	b.do(chromedp.Navigate(address + "/?edge=" + w.calls[0].key.ID()))
	b.until("document.querySelector('#panel .uplot')")
	sound("edge panel")
	b.do(chromedp.Navigate(address + "/traces/" + w.trace.ID.String()))
	b.until("document.querySelectorAll('.w-row').length > 10")
	b.do(chromedp.Evaluate[chromedp.Void]("document.querySelectorAll('.w-row').forEach(r => r.click())"))
	sound("trace")
	b.do(chromedp.Navigate(address + "/status"))
	b.until("document.querySelector('#status-page')")
	sound("status")
	b.expect("404")
	for _, path := range []string{"/" + urlEscape(hostileNames[0]), "/traces/" + urlEscape(hostileNames[1]), "/?service=" + urlEscape(hostileNames[0]) + "&env=" + urlEscape(hostileNames[1]) + "&q=" + urlEscape(hostileNames[2]) + "&open=" + urlEscape(hostileNames[0])} {
		b.do(chromedp.Navigate(address + path))
		b.until("document.readyState === 'complete'")
		sound(path)
	}
}

func urlEscape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// pan drags the map for two seconds by the pointer events that a hand makes, and returns the time between two frames, in
// milliseconds, for each.
const pan = `(async () => {
		const c = document.querySelector('#canvas'), fire = (type, x, y) => c.dispatchEvent(new PointerEvent(type, {pointerId: 1, pointerType: 'mouse', clientX: x, clientY: y, button: 0, bubbles: true}));
		c.setPointerCapture = () => {};
		fire('pointerdown', 700, 500);
		const start = performance.now(), times = [];
		await new Promise(done => requestAnimationFrame(function step(now) {
			times.push(now);
			const t = (now - start) / 2000;
			fire('pointermove', 700 + 260 * Math.sin(t * 6.28), 500 + 120 * Math.sin(t * 12.56));
			t < 1 ? requestAnimationFrame(step) : done();
		}));
		fire('pointerup', 700, 500);
		return times.slice(1).map((t, i) => t - times[i]);
	})()`

// panning is what a pan took: frames a second, the time between two frames that nine of ten keep to, and the processor
// time of the page's main thread for each frame, in milliseconds. The last does not depend on what else the machine does.
type panning struct{ rate, most, work float64 }

func (b *browser) pan() panning {
	b.t.Helper()
	b.do(chromedp.Sleep(500 * time.Millisecond)) // what was drawn before is done with
	before := b.worked()
	between := awaited[[]float64](b, pan)
	work := b.worked() - before
	total := 0.
	for _, ms := range between {
		total += ms
	}
	slices.Sort(between)
	n := float64(len(between))
	return panning{rate: n * 1000 / total, most: between[len(between)*9/10], work: work / n}
}

// worked returns the processor time of the main thread so far, in milliseconds: script, style, layout, painting.
func (b *browser) worked() (ms float64) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		params := performance.EnableParams{TimeDomain: performance.EnableTimeDomainThreadTicks}
		if _, err := cdp.Call(ctx, t, performance.Enable, params); err != nil {
			return err
		}
		metrics, err := cdp.Call(ctx, t, performance.GetMetrics, cdp.Empty{})
		if err != nil {
			return err
		}
		for _, m := range metrics.Metrics {
			if m.Name == "TaskDuration" {
				ms = 1000 * m.Value
			}
		}
		return nil
	}))
	return ms
}

// TestLargeMapInBrowser pans a map of 2,000 services and 10,000 connections, all open, and measures the frames.
func TestLargeMapInBrowser(t *testing.T) {
	w := &world{now: time.Now, calls: company(2, 2000, 10000)}
	frozen := time.Now()
	windows, err := w.Windows(t.Context(), storage.Query{From: frozen.Add(-70 * time.Second), To: frozen, Want: storage.WantEdges | storage.WantNodes})
	if err != nil {
		t.Fatal(err)
	}
	address, _ := showReader(t, still{w, windows}, func(s *Settings) { s.Now = func() time.Time { return frozen } })
	b := visit(t, address+"/", 1440, 900)
	b.until("window.faultline?.nodes.length > 10")
	if n := value[int](b, "faultline.nodes.length"); n > 500 {
		t.Errorf("%d things are on the map, not collapsed", n)
	}
	if got := value[string](b, "document.querySelector('#counts').innerText"); !strings.Contains(got, "groups") {
		t.Errorf("that the map is collapsed is not said: %q", got)
	}
	b.do(chromedp.Navigate(address + "/?open=*"))
	b.until("window.faultline?.nodes.length > 1900 && faultline.drawn > 0")
	p := b.pan()
	t.Logf("panning 2,000 services with 10,000 connections: %.0f frames a second, nine of ten within %.0f ms, %.1f ms of work each; the picture takes %.0f ms anew",
		p.rate, p.most, p.work, value[float64](b, "faultline.drawn"))
	// 50 frames a second leave 20 ms for each. How many there are on a machine that does other things as well, and draws
	// without a graphics card, is for the log.
	if p.work <= 0 || p.work > 20 || p.rate < 5 {
		t.Errorf("panning gives %.0f frames a second, %.1f ms of work each", p.rate, p.work)
	}
}

// TestUnitsInBrowser holds the browser's way of writing figures against the server's.
func TestUnitsInBrowser(t *testing.T) {
	address, _ := show(t, &world{now: time.Now})
	b := visit(t, address+"/", 1280, 800)
	b.until("window.faultline && document.querySelector('#empty')")
	var values []float64
	r := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		v := math.Exp(r.Float64()*30 - 10)
		values = append(values, v, math.Round(v*20)/20, math.Round(v*2)/2)
	}
	values = append(values, 0, 1, 9.95, 9.949, 99.5, 999.5, 999.4999, 59950, 59949, .995, .9949, .01, .00999)
	list, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	got := value[[][4]string](b, fmt.Sprintf("%s.map(v => [faultline.format.duration(v), faultline.format.rate(v), faultline.format.share(v), faultline.format.bytes(Math.floor(v))])", list))
	for i, v := range values {
		want := [4]string{page.Duration(v), page.Rate(v), page.Share(v), page.Bytes(int64(v))}
		if got[i] != want {
			t.Fatalf("%v is %q in the browser and %q on the server", v, got[i], want)
		}
	}
	for _, reason := range []string{"errors 4.1 %", "errors 3.48 %", "errors 100 %", "errors x %", "retries 2.93x", "p95 82ms, 14x", "p95 1.234s, 2.1x", "p95 1m2.5s, 1.2e+02x", "p95 1h0m0.001s, 3x", "p95 ?, 3x", ""} {
		if got, want := value[string](b, fmt.Sprintf("faultline.format.reason(%q)", reason)), page.Reason(reason); got != want {
			t.Errorf("%q is %q in the browser and %q on the server", reason, got, want)
		}
	}
	// The empty map says what to do.
	text := value[string](b, "document.querySelector('#empty').innerText")
	for _, want := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318"} {
		if !strings.Contains(text, want) {
			t.Errorf("the empty map does not say %q:\n%s", want, text)
		}
	}
}
