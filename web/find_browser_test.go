package web

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"faultline/docs"
	"faultline/graph"
)

// namedShop is the shop on a bad day with what is found there by name.
func namedShop() *world {
	w := illShop()
	now := time.Now()
	on := func(source, target, rule string, level graph.Level, subject, sentence string, n int64) {
		for _, c := range w.calls {
			if c.key.Source.Name == source && c.key.Target.Name == target {
				w.found = append(w.found, graph.Finding{
					Rule: rule, Edge: c.key, Subject: subject, Level: level, Since: now.Add(-12 * time.Minute), Until: now.Add(time.Hour), Sentence: sentence, Value: 12, N: n,
				})
			}
		}
	}
	on("checkout", "payment", "refused", graph.Severe, "", "8.1 % of the calls fail: nothing listens there, n=341 of 4,210", 4210)
	on("checkout", "payment", "bad_instance", graph.Severe, "payment-2", "payment-2 fails 24 % of its calls and has 100 % of all failures, n=1,403", 390)
	on("checkout", "payment", "retry_budget", graph.Warn, "", "retries add 40 % load: 1.4 attempts per call, n=4,210", 4210)
	on("checkout", "payment", "no_backoff", graph.Warn, "", "retries follow 2 ms after the failed attempt, at the median, n=1,210", 1210)
	on("checkout", "payment", "lost_response", graph.Warn, "", "0.3 % of the calls fail: the callee answers well, and the answer does not arrive", 4210)
	on("catalog", "postgresql/catalog@pg-main", "n_plus_one", graph.Warn, "", "in 34 % of the traces an operation calls ten times or more, one after the other, n=420", 420)
	on("shipping", "geo", "no_timeout", graph.Note, "", "in seven days no call timed out, and the longest took 42 s, n=12,000", 12_000)
	w.found = append(w.found, graph.Finding{
		Rule: "deploy", Node: service("payment"), Subject: "2.7.1", Since: now.Add(-3 * time.Minute), Until: now.Add(time.Hour), Sentence: "version 2.7.1 appeared and has 25 % of the traffic, n=4,000", Value: .25, N: 4000,
	})
	return w
}

func TestFindInBrowser(t *testing.T) {
	w := namedShop()
	address, _ := show(t, w)
	b := visit(t, address+"/", 1440, 900)
	b.until("window.faultline?.nodes.length >= 23")
	payment, geo := edgeID(t, w, "checkout", "payment"), edgeID(t, w, "shipping", "geo")
	badges := func(id string) []string {
		return value[[]string](b, fmt.Sprintf("faultline.edges.find(e => e.id === %q).badges", id))
	}
	if got, want := badges(payment), []string{"1/3", "chain", "loop", "lost"}; !slices.Equal(sortedCopy(got), want) {
		t.Errorf("the badges are %q, want %q", got, want)
	}
	if got := badges(edgeID(t, w, "catalog", "postgresql/catalog@pg-main")); !slices.Equal(got, []string{"N+1"}) {
		t.Errorf("the badge of repeated calls is %q", got)
	}
	if got := value[int](b, "faultline.edges.filter(e => e.badges.length).length"); got != 3 {
		t.Errorf("%d connections have badges, want 3", got)
	}

	// What the badges mean is one key away.
	b.do(key("b"))
	b.until(`document.querySelector('dialog[open] a[href="/docs/rules/no_backoff"]')`)
	b.press("\x1b")
	b.until("!document.querySelector('dialog')")

	// What is asked for stays; the rest goes, in sight, and into the address.
	b.do(key("f"))
	b.until("document.activeElement.closest('.popover.find')")
	b.press("without timeout")
	b.until("document.querySelectorAll('.choices-list label.under').length === 1")
	b.press("\r")
	b.until("location.search === '?find=no_timeout' && faultline.nodes.length === 2")
	if got := value[string](b, "document.querySelector('#counts').innerText"); !strings.Contains(got, "+21 other services") || !strings.Contains(got, "no evident timeout") {
		t.Errorf("what is hidden is not said: %q", got)
	}
	b.do(chromedp.Evaluate[chromedp.Void](`(i => { i.value = ''; i.dispatchEvent(new Event('input')) })(document.querySelector('.popover input'))`))
	b.do(chromedp.Evaluate[chromedp.Void](`document.querySelector('.popover input[value=retries]').click()`))
	b.until("location.search === '?find=no_timeout,retries' && faultline.nodes.length === 4")
	fit := value[[]string](b, "faultline.edges.filter(e => !e.dim).map(e => e.id)")
	if !slices.Equal(sortedCopy(fit), sortedCopy([]string{payment, geo})) {
		t.Errorf("the connections that fit are %q", fit)
	}
	b.press("\x1b")
	b.until("!document.querySelector('.popover')")

	// The table says the same in words, and so does the address in a new window.
	b.do(key("t"))
	b.until("document.querySelectorAll('#table tbody tr').length === 2")
	b.do(chromedp.Navigate(address + "/?find=no_timeout,retries&view=table"))
	b.until("document.querySelectorAll('#table tbody tr').length === 2 && document.querySelector('#find').ariaPressed === 'true'")
	table := value[string](b, "document.querySelector('#table tbody').innerText")
	for _, want := range []string{"no evident timeout", "connection refused", "bad instance payment-2", "retry budget spent", "no back-off", "answer lost on the way"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table does not say %q:\n%s", want, table)
		}
	}
	b.do(chromedp.Evaluate[chromedp.Void]("[...document.querySelectorAll('#table th button')].find(b => b.innerText.startsWith('What is wrong')).click()"))
	if got := value[string](b, "document.querySelector('#table tbody tr').innerText"); !strings.Contains(got, "connection refused") {
		t.Errorf("the first row by what is wrong is %q", got)
	}
	// Of a service it says what is wrong with the calls to it.
	b.run("document.querySelectorAll('#table .tabs button')[1].click()")
	if got := value[string](b, "[...document.querySelectorAll('#table tbody tr')].find(tr => tr.dataset.key === 'shop/payment').innerText"); !strings.Contains(got, "connection refused") || !strings.Contains(got, "new version 2.7.1") {
		t.Errorf("the row of payment is %q", got)
	}

	// The panel names each, with its sentence, its n, a trace and the page that says how it is computed.
	b.do(chromedp.Navigate(address + "/?edge=" + payment))
	b.until("document.querySelectorAll('#panel .wrongs li').length === 5")
	panel := strings.ReplaceAll(value[string](b, "document.querySelector('#panel').innerText"), "\u00a0", " ")
	for _, want := range []string{"1 of 3 instances explains 100 %", "What is wrong", "8.1 % of the calls fail: nothing listens there, n=341 of 4,210.", "Retries add 40 % load", "since " + value[string](b, "faultline.format.clock(new Date(Date.now() - 12 * 60e3)).slice(0, 3)"), ", 12 min", "n = 4210", "how this is computed", "a failed trace", "a retried trace", "Why it fails"} {
		if !strings.Contains(panel, want) {
			t.Errorf("the panel does not say %q:\n%s", want, panel)
		}
	}
	// What to look at next: what is below, who else suffers, what was changed.
	next := value[string](b, "document.querySelector('#panel .next').innerText")
	for _, want := range []string{"Nothing that payment calls is as bad: it seems to begin there", "Version 2.7.1 of payment appeared at"} {
		if !strings.Contains(next, want) {
			t.Errorf("what to look at next does not say %q:\n%s", want, next)
		}
	}
	if got := value[string](b, "document.querySelector('#verdict').innerText"); !strings.Contains(got, "It seems to begin at payment") {
		t.Errorf("the verdict does not say where it seems to begin: %q", got)
	}
	// Each chart has its own figures, whichever of them there are.
	for _, chart := range []string{"Calls", "Errors", "Caller waits", "Retries per call", "Callee takes", "Calls in flight"} {
		if got := value[string](b, fmt.Sprintf("[...document.querySelectorAll('#panel .chart-head')].find(c => c.querySelector('h3').innerText === %q)?.innerText ?? ''", chart)); got == "" || strings.HasSuffix(got, "–") {
			t.Errorf("the chart %q says %q", chart, got)
		}
	}
	stripe := edgeID(t, w, "payment", "api.payments.example")
	b.do(chromedp.Navigate(address + "/?edge=" + stripe))
	b.until("document.querySelector('#panel .uplot')")
	if heads := value[[]string](b, "[...document.querySelectorAll('#panel .chart-head')].map(c => c.innerText)"); slices.ContainsFunc(heads, func(s string) bool { return strings.HasPrefix(s, "Callee") || strings.HasSuffix(s, "–") }) {
		t.Errorf("the charts of a callee that sends no spans say %q", heads)
	}

	b.do(chromedp.Navigate(address + "/?edge=" + payment))
	b.until("document.querySelectorAll('#panel .wrongs li').length === 5")
	b.do(chromedp.Navigate(value[string](b, `document.querySelector('#panel .wrongs a[href="/docs/rules/refused"]').href`)))
	b.until("document.querySelector('main h1')?.innerText === 'Connection refused'")

	b.do(chromedp.Navigate(address + "/?service=shop/payment"))
	b.until("document.querySelector('#panel .wrongs')")
	panel = value[string](b, "document.querySelector('#panel').innerText")
	for _, want := range []string{"Calls from checkout suffer, since ", "new version 2.7.1", "Version 2.7.1 appeared and has 25 % of the traffic", "checkout → payment", "bad instance payment-2"} {
		if !strings.Contains(panel, want) {
			t.Errorf("the panel of the service does not say %q:\n%s", want, panel)
		}
	}
}

// TestServiceInBrowser shows a service all of whose callers suffer from the same thing: that is one line.
func TestServiceInBrowser(t *testing.T) {
	w := &world{now: time.Now, calls: shopCalls()}
	now := time.Now()
	for i := range w.calls {
		if c := &w.calls[i]; c.key.Target == service("catalog") {
			c.errors, c.failure = .2, graph.ServerError
			w.found = append(w.found, graph.Finding{
				Rule: "server_error", Edge: c.key, Level: graph.Severe, Since: now.Add(-time.Duration(i) * time.Minute), Until: now.Add(time.Hour),
				Sentence: fmt.Sprintf("%d %% of the calls fail: the callee fails", i), Value: float64(i) / 100, N: 100,
			})
		}
	}
	callers := len(w.found)
	address, _ := show(t, w)
	b := visit(t, address+"/?service=shop/catalog", 1440, 900)
	b.until("document.querySelector('#panel .wrongs')")
	if got := value[string](b, "document.querySelector('#panel .lead').innerText"); !strings.HasPrefix(got, fmt.Sprintf("All %d callers suffer, since ", callers)) || !strings.Contains(got, "nothing that it calls is unwell") {
		t.Errorf("the service is said to be: %q", got)
	}
	lines := value[[]string](b, "[...document.querySelectorAll('#panel .wrongs li')].map(li => li.innerText)")
	if len(lines) != 1 {
		t.Fatalf("%d lines of one thing: %q", len(lines), lines)
	}
	worst := w.found[0]
	for _, f := range w.found {
		if f.Value > worst.Value {
			worst = f
		}
		if !strings.Contains(lines[0], f.Edge.Source.Name+" → catalog") {
			t.Errorf("%s is not named:\n%s", f.Edge.Source.Name, lines[0])
		}
	}
	if want := "On " + worst.Edge.Source.Name + " → catalog: " + worst.Sentence + "."; !strings.Contains(lines[0], want) {
		t.Errorf("the worst, %q, is not said:\n%s", want, lines[0])
	}
}

// TestPhoneInBrowser holds that nothing is wider than a narrow screen, and that what is wrong is seen without scrolling
// sideways.
func TestPhoneInBrowser(t *testing.T) {
	w := namedShop()
	address, _ := show(t, w)
	b := visit(t, address+"/?view=table&at="+time.Now().Add(-20*time.Second).UTC().Format(time.RFC3339), 360, 800)
	b.until("document.querySelectorAll('#table tbody tr').length === 29 && document.querySelector('#table .tabs')") // not the first paint
	inside := func(selector string) {
		t.Helper()
		if out := value[[]string](b, fmt.Sprintf("[...document.querySelectorAll(%q)].filter(e => e.offsetWidth && (e.getBoundingClientRect().right > innerWidth || e.getBoundingClientRect().left < 0)).map(e => e.outerHTML.slice(0, 120))", selector)); len(out) > 0 {
			t.Errorf("outside of the screen: %q", out)
		}
	}
	inside("#table tbody td, #table tbody td *, .bar button, .bar select, .bar input, #verdict *")
	if top, low := value[float64](b, "document.querySelector('#table-switch').getBoundingClientRect().top"), value[float64](b, "document.querySelector('#time').getBoundingClientRect().top"); top != low {
		t.Errorf("the bar takes three rows: its last button is at %v, not at %v", top, low)
	}
	if got := value[string](b, "getComputedStyle(document.querySelectorAll('#table tbody td.n')[1], '::before').content"); !strings.Contains(got, "data-word") && !strings.Contains(got, "Errors") {
		t.Errorf("what a figure is, is not said beside it: %s", got)
	}
	b.do(chromedp.Navigate(address + "/?edge=" + edgeID(t, w, "checkout", "payment")))
	b.until("document.querySelectorAll('#panel .wrongs li').length === 5")
	inside("#panel *:not(svg *)")
}

// Where the bar of the map has no room for the pages, they are a press away: with the mouse and by the keyboard.
func TestPagesInBrowser(t *testing.T) {
	w := namedShop()
	address, _ := show(t, w)
	shown := "document.querySelector('.bar nav').offsetWidth > 0"
	middle := func(selector string) string {
		return fmt.Sprintf("(r => ({x: r.x + r.width / 2, y: r.y + r.height / 2}))(document.querySelector(%q).getBoundingClientRect())", selector)
	}
	for _, width := range []int64{390, 800, 1280, 1440} {
		b := visit(t, address+"/", width, 800)
		b.until("window.faultline")
		menu := width < 1300
		if got := value[bool](b, shown); got == menu {
			t.Errorf("%d pixels wide: the pages are in the bar: %v", width, got)
		}
		if got := value[bool](b, "document.querySelector('.pages').offsetWidth > 0"); got != menu {
			t.Errorf("%d pixels wide: there is a menu of pages: %v", width, got)
		}
		if !menu {
			continue
		}
		b.click(middle(".pages"))
		b.until(shown)
		b.press("\x1b")
		b.until("!(" + shown + ")")
		b.click(middle(".pages"))
		b.until(shown)
		if got := value[string](b, "document.elementFromPoint(...Object.values("+middle(".bar nav a[href='/doctor']")+")).pathname"); got != "/doctor" {
			t.Errorf("%d pixels wide: where the doctor's page should be pressed is %q", width, got)
		}
		b.do(chromedp.Navigate(address + "/doctor"))
		if !value[bool](b, shown) {
			t.Errorf("%d pixels wide: a page without a map does not show the pages", width)
		}
	}
}

func sortedCopy(list []string) []string { return slices.Sorted(slices.Values(list)) }

// TestRulesInBrowser holds the names that the browser has for the rules against the titles of their pages.
func TestRulesInBrowser(t *testing.T) {
	address, _ := show(t, &world{now: time.Now})
	b := visit(t, address+"/", 1280, 800)
	b.until("window.faultline")
	names := value[map[string]string](b, "faultline.rules")
	if len(names) < 30 {
		t.Errorf("the browser knows %d rules", len(names))
	}
	for rule, name := range names {
		if p, ok := docs.Rule(rule); !ok {
			t.Errorf("%s, %q in the browser, has no page", rule, name)
		} else if !strings.EqualFold(name, p.Title) {
			t.Errorf("%s is called %q in the browser, its page %q", rule, name, p.Title)
		}
	}
}
