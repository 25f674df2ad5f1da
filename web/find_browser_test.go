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

	// The panel names each, with its sentence, its n, a trace and the page that says how it is computed.
	b.do(chromedp.Navigate(address + "/?edge=" + payment))
	b.until("document.querySelectorAll('#panel .wrongs li').length === 5")
	panel := value[string](b, "document.querySelector('#panel').innerText")
	for _, want := range []string{"1 of 3 instances explains 100 %", "What is wrong", "8.1 % of the calls fail: nothing listens there, n=341 of 4,210.", "Retries add 40 % load", "since 12 min", "n = 4210", "how this is computed", "a failed trace", "a retried trace", "Why it fails"} {
		if !strings.Contains(panel, want) {
			t.Errorf("the panel does not say %q:\n%s", want, panel)
		}
	}
	b.do(chromedp.Navigate(value[string](b, `document.querySelector('#panel .wrongs a[href="/docs/rules/refused"]').href`)))
	b.until("document.querySelector('main h1')?.innerText === 'Connection refused'")

	b.do(chromedp.Navigate(address + "/?service=shop/payment"))
	b.until("document.querySelector('#panel .wrongs')")
	panel = value[string](b, "document.querySelector('#panel').innerText")
	for _, want := range []string{"new version 2.7.1", "Version 2.7.1 appeared and has 25 % of the traffic", "checkout → payment", "bad instance payment-2"} {
		if !strings.Contains(panel, want) {
			t.Errorf("the panel of the service does not say %q:\n%s", want, panel)
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
