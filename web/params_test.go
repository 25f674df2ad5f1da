package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"faultline/graph"
)

func TestParseTime(t *testing.T) {
	for text, want := range map[string]time.Time{
		"now": testNow, "now-15m": testNow.Add(-15 * time.Minute), "now-1h30m": testNow.Add(-90 * time.Minute), "now-7d": testNow.Add(-7 * 24 * time.Hour),
		"now-90": testNow.Add(-90 * time.Second), "now-0.5d": testNow.Add(-12 * time.Hour),
		"2026-03-14T15:00:00Z":          time.Date(2026, 3, 14, 15, 0, 0, 0, time.UTC),
		"2026-03-14T15:00:00.25Z":       time.Date(2026, 3, 14, 15, 0, 0, 250e6, time.UTC),
		"2026-03-14T16:00:00+01:00":     time.Date(2026, 3, 14, 15, 0, 0, 0, time.UTC),
		"2026-03-14T16:00:00 01:00":     time.Date(2026, 3, 14, 15, 0, 0, 0, time.UTC), // an unescaped plus sign
		"2026-03-14T10:00:00.000-05:00": time.Date(2026, 3, 14, 15, 0, 0, 0, time.UTC),
	} {
		got, err := parseTime(text, testNow)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "no", "nowish", "now+5m", "now-", "now--5m", "now-d", "now-0s", "now-1e9h", "now-NaNd", "now-Infd", "yesterday", "1700000000",
		"2026-03-14", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-03-14T15:00:00", " now",
	} {
		if got, err := parseTime(text, testNow); err == nil {
			t.Errorf("%q: %v, want an error", text, got)
		}
	}
}

func TestSpans(t *testing.T) {
	s := newServer(t, newStore(t))
	at := func(hms string) time.Time {
		d, err := time.Parse("15:04:05.999", hms)
		if err != nil {
			t.Fatal(err)
		}
		return time.Date(2026, 3, 14, d.Hour(), d.Minute(), d.Second(), d.Nanosecond(), time.UTC)
	}
	for _, test := range []struct{ from, to, wantFrom, wantTo, wantEnd string }{
		{"", "", "15:04:20", "15:09:27.3", "15:09:30"},
		{"now-1m", "now", "15:08:20", "15:09:27.3", "15:09:30"},
		{"2026-03-14T15:00:00Z", "2026-03-14T15:01:00Z", "15:00:00", "15:01:00", "15:01:00"},
		{"2026-03-14T15:00:01Z", "2026-03-14T15:00:59Z", "15:00:00", "15:01:00", "15:01:00"},
		{"2026-03-14T15:00:00Z", "2026-03-14T16:00:00Z", "15:00:00", "16:00:00", "16:00:00"}, // as asked, also into the future
	} {
		sp, err := s.spanOf(test.from, test.to, defaultSpan, testNow)
		if err != nil {
			t.Errorf("%s…%s: %v", test.from, test.to, err)
		}
		if !sp.From.Equal(at(test.wantFrom)) || !sp.To.Equal(at(test.wantTo)) || !sp.end().Equal(at(test.wantEnd)) {
			t.Errorf("%s…%s: %v…%v to %v", test.from, test.to, sp.From, sp.To, sp.end())
		}
	}
	for _, test := range [][2]string{{"now", "now"}, {"now", "now-5m"}, {"now-500d", ""}, {"x", ""}, {"", "x"}} {
		if _, err := s.spanOf(test[0], test[1], defaultSpan, testNow); err == nil {
			t.Errorf("%s…%s: no error", test[0], test[1])
		}
	}
}

func TestFloor(t *testing.T) {
	for _, at := range []time.Time{testNow, time.Unix(0, 0), time.Unix(-5, 1), time.Unix(-10, 0)} {
		f, c := floor(at, graph.WindowLength), ceil(at, graph.WindowLength)
		if f.Unix()%10 != 0 || f.After(at) || at.Sub(f) >= graph.WindowLength || c.Unix()%10 != 0 || c.Before(at) || c.Sub(at) >= graph.WindowLength {
			t.Errorf("%v: %v, %v", at, f, c)
		}
	}
}

func TestSteps(t *testing.T) {
	s := newServer(t, newStore(t))
	of := func(length time.Duration) span { return span{From: testNow.Add(-length), To: testNow} }
	for length, want := range map[time.Duration]time.Duration{
		15 * time.Minute: 10 * time.Second, 2 * time.Hour: 30 * time.Second, 24 * time.Hour: 5 * time.Minute, 7 * 24 * time.Hour: time.Hour, 390 * 24 * time.Hour: 7 * 24 * time.Hour,
	} {
		if got, err := s.stepOf("", of(length)); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", length, got, err, want)
		}
	}
	for _, text := range []string{"0", "-1", "1s", "15s", "x", "1ns", "10.5s", "1000000d"} {
		if got, err := s.stepOf(text, of(time.Hour)); err == nil {
			t.Errorf("step %s: %s", text, got)
		}
	}
	if _, err := s.stepOf("10s", of(24*time.Hour)); err == nil {
		t.Error("8640 points: no error")
	}
}

// hostile are values that some parameter, somewhere, has been confused by.
var hostile = []string{
	"", " ", "\x00", "%00", "'", `"`, "' OR '1'='1", "'; DROP TABLE windows; --", "1) UNION SELECT 1--", "<script>alert(1)</script>", "../../etc/passwd",
	`..\..\x`, "\xff\xfe", "\u202e\u0000", strings.Repeat("a", 10_000), "-1", "0", "9223372036854775808", "1e400", "NaN", "Infinity", "null", "true", "[]", "{}",
	"now-9999999d", "now-1ns", "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "2026-03-14T15:00:00Z", "${jndi:ldap://x}", "{{7*7}}", "%s%n", "a\r\nX-Injected: 1",
}

// TestHostileParameters puts every value into every parameter: no 5xx, no text of the database, no header of its own.
func TestHostileParameters(t *testing.T) {
	s := newServer(t, shopStore(t))
	parameters := map[string][]string{
		"/api/v1/graph":                                     {"from", "to", "env", "service", "depth", "nonsense"},
		"/api/v1/edges/" + checkoutPayment.ID():             {"from", "to"},
		"/api/v1/edges/" + checkoutPayment.ID() + "/series": {"from", "to", "step"},
		"/api/v1/series":                                    {"from", "to", "env"},
		"/api/v1/services/shop/payment":                     {"from", "to", "env"},
		"/api/v1/traces":                                    {"from", "to", "env", "service", "edge", "only", "limit"},
		"/api/v1/status":                                    {"nonsense"},
	}
	for _, value := range hostile {
		for path, names := range parameters {
			for _, name := range names {
				checkHarmless(t, s, path+"?"+name+"="+url.QueryEscape(value))
			}
		}
		for _, prefix := range []string{"/api/v1/edges/", "/api/v1/services/", "/api/v1/traces/", "/api/v1/"} {
			checkHarmless(t, s, prefix+url.PathEscape(value))
		}
		checkHarmless(t, s, "/api/v1/edges/"+url.PathEscape(value)+"/series")
	}
	for _, query := range []string{"?from=%zz", "?from=now-1m&from=x", "?env&env=", "?;", "?=", "?&&&", "?depth=1&depth=2&service=a"} {
		checkHarmless(t, s, "/api/v1/graph"+query)
	}
}

func checkHarmless(t *testing.T, s *Server, path string) {
	t.Helper()
	answer, body := ask(t, s, path)
	if answer.StatusCode >= 500 || answer.StatusCode == 0 {
		t.Errorf("%.200q: %s\n%.500s", path, answer.Status, body)
	}
	if answer.StatusCode >= 400 && answer.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%.200q: %s of type %s", path, answer.Status, answer.Header.Get("Content-Type"))
	}
	if answer.Header.Get("X-Injected") != "" {
		t.Errorf("%.200q: a header of its own", path)
	}
	for _, word := range []string{"SQL", "sqlite", "panic", "goroutine", ".go:"} {
		if answer.StatusCode >= 400 && strings.Contains(strings.ReplaceAll(body, "UNION SELECT", ""), word) {
			t.Errorf("%.200q: %.500s", path, body)
		}
	}
}

// FuzzParameters asks for what nobody thought of.
func FuzzParameters(f *testing.F) {
	for _, value := range hostile {
		f.Add(value, value, value, value)
	}
	f.Add("now-15m", "now", "prod", "shop/checkout")
	f.Add("2026-03-14T15:00:00Z", "2026-03-14T15:09:00+01:00", "staging", "db:postgresql/orders@db1")
	s := newServer(f, newStore(f))
	f.Fuzz(func(t *testing.T, from, to, env, id string) {
		q := url.Values{"from": {from}, "to": {to}, "env": {env}, "service": {id}, "edge": {id}, "step": {from}, "only": {env}, "depth": {to}, "limit": {to}}.Encode()
		for _, path := range []string{
			"/api/v1/graph?", "/api/v1/edges/" + url.PathEscape(id) + "?", "/api/v1/edges/" + url.PathEscape(id) + "/series?",
			"/api/v1/services/" + url.PathEscape(id) + "?", "/api/v1/traces?", "/api/v1/traces/" + url.PathEscape(id) + "?",
		} {
			answer, body := ask(t, s, path+q)
			if answer.StatusCode >= 500 {
				t.Errorf("%s: %s\n%s", path+q, answer.Status, body)
			}
		}
		if at, err := parseTime(from, testNow); err == nil && (at.Year() < 1800 || at.Year() > 2200) {
			t.Errorf("parseTime(%q) = %v", from, at)
		}
	})
}

// TestErrorsSayWhere checks that a refusal names the parameter.
func TestErrorsSayWhere(t *testing.T) {
	s := newServer(t, newStore(t))
	for query, want := range map[string]string{
		"/api/v1/graph?from=x":                  `"location":"query.from"`,
		"/api/v1/graph?to=x":                    `"location":"query.to"`,
		"/api/v1/graph?service=a&depth=99":      `"location":"query.depth"`,
		"/api/v1/traces?only=some":              `"location":"query.only"`,
		"/api/v1/traces?limit=0":                `"location":"query.limit"`,
		"/api/v1/edges/x/series?step=1s":        `"location":"query.step"`,
		"/api/v1/edges/x/series?from=now-1000d": `"location":"query.from"`,
	} {
		answer, body := ask(t, s, query)
		wantProblem(t, answer, body, http.StatusUnprocessableEntity)
		if !strings.Contains(body, want) {
			t.Errorf("%s: %s", query, body)
		}
	}
}
