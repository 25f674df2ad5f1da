package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"faultline/graph/doctor"
	"faultline/web/static"
)

func TestPages(t *testing.T) {
	s := newServer(t, shopStore(t), func(s *Settings) {
		s.Doctor = examined
		s.Endpoints = func() Endpoints { return Endpoints{GRPC: "http://127.0.0.1:4317"} }
	})
	for _, test := range []struct {
		path   string
		status int
		want   []string
	}{
		{"/", 200, []string{"<table", "checkout", "payment", "failing", `id="canvas"`, `<option value="prod" selected>`, "staging"}},
		{"/?env=staging", 200, []string{`<option value="staging" selected>`}},
		{"/?env=nowhere", 200, []string{"No calls"}},
		{"/?range=1h", 200, []string{"checkout", "UTC"}},
		{"/?range=1h&at=2026-03-14T15:00:00Z", 200, []string{"15:00:00 UTC"}},
		{"/?range=never&at=yesterday&depth=x", 200, []string{"checkout"}},
		{"/doctor", 200, []string{"broken_propagation", "front", "1 of 3 services"}},
		{"/doctor?env=staging", 200, []string{"Too few spans", `aria-current="true">staging`}},
		{"/doctor?env=nowhere", 200, []string{"No spans of the environment"}},
		{"/rules", 200, []string{"<textarea", `method="post"`}},
		{"/status", 200, []string{"Senders", "go 1.38.0", "1.2.3"}},
		{"/traces/4bf92f3577b34da6a3ce929d0e0e4736", 200, []string{"4bf92f3577b34da6a3ce929d0e0e4736"}},
		{"/traces/<b>", 404, []string{"32 hexadecimal digits"}},
		{"/docs/rules", 200, []string{"Retry budget spent", `href="/docs/rules/retry_budget"`}},
		{"/docs/rules/retry_budget", 200, []string{"<h1", "Retry budget spent", "How it is computed", `href="/docs/rules/no_backoff"`}},
		{"/docs/rules/no_such_rule", 404, []string{"no rule of that name"}},
		{"/docs/rules/README", 404, []string{"no rule of that name"}},
		{"/nowhere", 404, []string{"There is nothing at this address."}},
	} {
		answer, body := ask(t, s, strings.ReplaceAll(test.path, "<b>", "%3Cb%3E"), "Accept", "text/html,*/*;q=0.8")
		if answer.StatusCode != test.status || !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: %s, %s", test.path, answer.Status, answer.Header.Get("Content-Type"))
		}
		for _, want := range test.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s does not contain %q:\n%.3000s", test.path, want, body)
			}
		}
		if csp := answer.Header.Get("Content-Security-Policy"); csp == "" || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: Content-Security-Policy %q", test.path, csp)
		}
		if got := answer.Header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s: Cache-Control %q", test.path, got)
		}
		// Nothing stands in the page that the policy would have to make an exception for.
		if m := regexp.MustCompile(`<style|<script>|\son\w+="|\sstyle="|https?://[^"<\s]*\.js`).FindString(body); m != "" {
			t.Errorf("%s contains %q", test.path, m)
		}
	}
	if answer, _ := ask(t, s, "/nowhere", "Accept", "application/json"); answer.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("a program is answered %s", answer.Header.Get("Content-Type"))
	}
	if answer, _ := request(t, s, http.MethodPost, "/"); answer.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST /: %s", answer.Status)
	}
}

// The page says that history is delayed, as the documentation has it.
func TestStatusPageSaysThatHistoryIsDelayed(t *testing.T) {
	s := newServer(t, shopStore(t), func(s *Settings) {
		s.History = func() History {
			return History{DelayedSince: testNow.Add(-time.Minute), LastError: "the disk is full", Waiting: 7}
		}
	})
	s.hub.cut["slow"] = 4
	_, body := ask(t, s, "/status", "Accept", "text/html")
	for _, want := range []string{"History is delayed since", "the disk is full", "cut or refused: slow"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

// The map says so too, and only then.
func TestMapPageSaysThatHistoryIsDelayed(t *testing.T) {
	var history History
	s := newServer(t, shopStore(t), func(s *Settings) { s.History = func() History { return history } })
	for _, delayed := range []bool{false, true, false} {
		history = History{}
		if delayed {
			history.DelayedSince = testNow.Add(-time.Minute)
		}
		_, body := ask(t, s, "/", "Accept", "text/html")
		if strings.Contains(body, "History is delayed since") != delayed || strings.Contains(body, `<div id="delayed" role="status" hidden>`) == delayed {
			t.Errorf("delayed %t: the page says otherwise", delayed)
		}
	}
}

func TestPageWithoutStore(t *testing.T) {
	store := shopStore(t)
	s := newServer(t, store, func(s *Settings) {
		s.Doctor = func(context.Context) (doctor.Report, error) { return doctor.Report{}, errors.New("the disk is gone") }
	})
	store.fail(errors.New("the disk is gone"))
	if answer, body := ask(t, s, "/api/v1/doctor"); answer.StatusCode != http.StatusInternalServerError || strings.Contains(body, "disk") {
		t.Errorf("/api/v1/doctor: %s, %s", answer.Status, body)
	}
	for _, path := range []string{"/", "/status", "/doctor"} {
		answer, body := ask(t, s, path)
		if answer.StatusCode != http.StatusOK || strings.Contains(body, "disk") || !strings.Contains(body, "the log of the server says why") {
			t.Errorf("%s: %s\n%.1000s", path, answer.Status, body)
		}
	}
}

// TestPageBytes adds up what a browser loads for the map, compressed.
func TestPageBytes(t *testing.T) {
	_, body := ask(t, newServer(t, shopStore(t)), "/")
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	total := packed.Len()
	for _, m := range regexp.MustCompile(static.Prefix+`(\w+)-[0-9a-f]+(\.\w+)`).FindAllStringSubmatch(body, -1) {
		total += static.Size(m[1] + m[2])
	}
	t.Logf("%d bytes", total)
	if total < 10_000 || total > 150<<10 {
		t.Errorf("the map's page is %d bytes compressed, want at most 150 KB", total)
	}
}
