package web

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"faultline/graph"
	"faultline/internal/sketch"
)

// panelStore holds two minutes of an edge whose breaker opens and then lets single calls through, of one whose calls are
// hedged and made in parallel, of one whose calls are retried as well, and of a queue whose wait two clocks tell.
func panelStore(t *testing.T) *testStore {
	t.Helper()
	const ms = int64(time.Millisecond)
	store, from := newStore(t), floor(testNow, time.Minute).Add(-2*time.Minute)
	for i := range 12 {
		guarded := callStats(20, 0, 0, 20*time.Millisecond, 0, true, true)
		if i >= 4 {
			guarded = callStats(20, 1, graph.BreakerOpen, time.Millisecond, 0, true, false)
		}
		if i >= 10 {
			guarded.Failures[graph.BreakerOpen], guarded.Failures[graph.Timeout] = 18, 2
		}
		hedged := callStats(30, 0, 0, 40*time.Millisecond, 0, true, true)
		hedged.LogicalCalls, hedged.Hedges = 20, 10
		retried := callStats(30, 0, 0, 40*time.Millisecond, 0, true, true)
		retried.LogicalCalls, retried.Hedges = 20, 4
		received := callStats(10, 0, 0, 30*time.Millisecond, 0, false, true)
		received.Messages = 10
		store.add(graph.Window{Start: from.Add(time.Duration(i) * graph.WindowLength), Length: graph.WindowLength, Edges: []graph.EdgeRow{
			{Edge: checkoutPayment, Stats: guarded}, {Edge: frontCheckout, Stats: hedged}, {Edge: userFront, Stats: retried}, {Edge: mailsMailer, Stats: received},
		}})
	}
	measured := func(edge graph.EdgeKey, measure graph.Measure, calls, value int64) graph.DetailRow {
		d := graph.Detail{Calls: calls, Raw: calls, Latency: sketch.New(graph.DetailScale)}
		d.Latency.Add(value, calls)
		return graph.DetailRow{Edge: edge, Key: measure.Key(), Detail: d}
	}
	store.add(graph.Window{Start: from, Length: graph.DetailLength, Details: []graph.DetailRow{
		measured(frontCheckout, graph.Hedge, 120, 5*ms), measured(frontCheckout, graph.Traces, 24, 400*ms), measured(frontCheckout, graph.Parallel, 240, 40*ms),
		measured(userFront, graph.Hedge, 48, 5*ms), measured(userFront, graph.RetryGap, 72, 5*ms),
		measured(userFront, graph.RetriedCall, 60, 480*ms), measured(userFront, graph.NegativeGap, 3, ms),
		measured(mailsMailer, graph.Lag, 40, 2000*ms), measured(mailsMailer, graph.LagWithin, 40, 8*ms),
	}})
	return store
}

// The panel says what the API knows of breakers, of calls in parallel, of hedges, of retries and how long callers wait for all of their attempts, and of how exact a queue's wait is, each
// with its n and the page that explains it; and hedges are no retries in the table.
func TestEdgePanelInBrowser(t *testing.T) {
	address, _ := showReader(t, panelStore(t), func(s *Settings) { s.Now = func() time.Time { return testNow } })
	at := "at=" + url.QueryEscape(testNow.Format(time.RFC3339)) + "&range=15m"
	b := visit(t, address+"/?"+at+"&edge="+checkoutPayment.ID(), 390, 844)
	section := func(key string) string {
		b.until("document.querySelector('#panel section[data-key=\"" + key + "\"]')")
		return strings.ReplaceAll(value[string](b, "document.querySelector('#panel section[data-key=\""+key+"\"]').innerText"), "\u00a0", " ")
	}
	says := func(what, got string, wanted ...string) {
		t.Helper()
		for _, want := range wanted {
			if !strings.Contains(got, want) {
				t.Errorf("%s does not say %q:\n%s", what, want, got)
			}
		}
	}
	leads := func(key, to, heading string) {
		t.Helper()
		b.do(chromedp.Navigate(value[string](b, "document.querySelector('#panel section[data-key=\""+key+"\"] a[href=\""+to+"\"]').href")))
		b.until("[...document.querySelectorAll('main h1, main h2')].some(e => e.innerText === '" + heading + "')")
	}

	// The clocks are the browser's: it and the test have one zone.
	clock := func(seconds int) string {
		return floor(testNow, time.Minute).Add(-2 * time.Minute).Add(time.Duration(seconds) * time.Second).Local().Format("15:04:05")
	}
	says("the breaker's section", section("breaker"), "half open since "+clock(100)+", 47 s", "empty where nobody called", "closed", "open\t", clock(0), clock(40), clock(100), "60 s", "120", "4, 4 failed", "n = 240")
	strip := value[[]struct{ State, Word, Left, Width string }](b, `[...document.querySelectorAll('#panel .strip .state')].map(e => ({State: e.className, Word: e.title, Left: e.style.left, Width: e.style.width}))`)
	if len(strip) != 3 || strip[1].State != "state open" || !strings.HasPrefix(strip[1].Word, "open from ") || strip[0].Left != "0%" || strip[1].Left != strip[0].Width {
		t.Errorf("the strip has %+v", strip)
	}
	says("the strip to those who hear it", value[string](b, "document.querySelector('#panel .strip').ariaLabel"), "closed from ", ", open from ", " for 60 s", ", half open from ")
	if wide := value[float64](b, "document.querySelector('#panel').scrollWidth - document.querySelector('#panel').clientWidth"); wide > 0 {
		t.Errorf("the panel is %v px wider than the screen", wide)
	}
	leads("breaker", "/docs/rules/breaker_open", "Breaker open")

	b.do(chromedp.Navigate(address + "/?" + at + "&edge=" + frontCheckout.ID()))
	says("the section of retries", section("Retries"), "hedged", "120 attempts", "n = 360")
	says("the section of the traces", section("In the traces"), "one of them is slow", "in 9.6 % of the traces, 10 such calls in each", "n = 24")
	says("the panel", value[string](b, "document.querySelector('#panel .tiles').innerText"), "0 retries, 120 hedges")
	leads("In the traces", "/docs/rules/n_plus_one#calls-in-parallel", "Calls in parallel")
	b.do(chromedp.Navigate(address + "/?" + at + "&edge=" + frontCheckout.ID()))
	section("Retries")
	leads("Retries", "/docs/rules/hedging", "Hedged calls")

	b.do(chromedp.Navigate(address + "/?" + at + "&edge=" + userFront.ID()))
	says("the section of retries", section("Retries"), "attempts per call\n1.3x", "callers wait when retried\np50 480 ms, p95 480 ms n = 60", "one attempt takes\np50 40 ms, p95 40 ms", "hedged\n48 attempts")
	says("the section of waiting", section("Waiting"), "gaps below zero\n3 calls")
	says("the panel", value[string](b, "document.querySelector('#panel .tiles').innerText"), "attempts per call", "1.3x", "72 retries, 48 hedges")

	b.do(chromedp.Navigate(address + "/?" + at + "&edge=" + mailsMailer.ID()))
	says("the section of the queue", section("Queue"), "p50 2 s", "± 8 ms", "n = 40")
	leads("Queue", "/docs/rules/queue_lag", "Messages wait")

	b.do(chromedp.Navigate(address + "/?" + at + "&view=table"))
	const cell = `[...document.querySelectorAll('#table tr')].find(tr => tr.dataset.key === '`
	retries := cell + frontCheckout.ID() + `')?.querySelector('[data-word=Retries]')`
	b.until(retries)
	if got, title := value[string](b, retries+".innerText"), value[string](b, retries+".title"); got != "1x" || !strings.Contains(title, "120 hedged attempts") {
		t.Errorf("the table says %q retries of what is only hedged, %q", got, title)
	}
}
