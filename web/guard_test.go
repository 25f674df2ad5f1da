package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"faultline/storage"
)

// wantProblem checks that an answer is a problem document of a status.
func wantProblem(t *testing.T, answer *http.Response, body string, status int) {
	t.Helper()
	var p struct {
		Title, Detail string
		Status        int
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Errorf("not JSON: %v\n%s", err, body)
	}
	if answer.StatusCode != status || p.Status != status || p.Title == "" || answer.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s %s\n%s\nwant a problem of status %d", answer.Status, answer.Header.Get("Content-Type"), body, status)
	}
}

func TestHosts(t *testing.T) {
	s := newServer(t, shopStore(t), func(s *Settings) {
		s.Listen, s.ExternalURL = "10.0.0.7:8420", "https://Faultline.example:8443/base"
	})
	for host, want := range map[string]int{
		"localhost:8420": 200, "LOCALHOST": 200, "127.0.0.1:8420": 200, "[::1]:8420": 200, "127.9.9.9": 200, "app.localhost": 200,
		"10.0.0.7:8420": 200, "faultline.example": 200, "faultline.example.:8443": 200,
		"10.0.0.8:8420": 421, "evil.example": 421, "localhost.evil.example": 421, "notlocalhost": 421, "": 421,
		"faultline.example.evil": 421, "[::2]": 421, "127.0.0.1.evil.example": 421,
	} {
		answer, body := ask(t, s, "/api/v1/status", "Host", host)
		if answer.StatusCode != want {
			t.Errorf("%q: %s, want %d", host, answer.Status, want)
		}
		if want != 200 {
			wantProblem(t, answer, body, want)
		}
		if answer, _ := ask(t, s, "/healthz", "Host", host); answer.StatusCode != http.StatusOK {
			t.Errorf("probe by the name %q: %s", host, answer.Status)
		}
	}
	s = newServer(t, shopStore(t), func(s *Settings) { s.Listen = "0.0.0.0:8420" })
	for host, want := range map[string]int{"10.0.0.8:8420": 200, "[2001:db8::1]": 200, "evil.example": 421} {
		if answer, _ := ask(t, s, "/api/v1/status", "Host", host); answer.StatusCode != want {
			t.Errorf("%q on every address: %s, want %d", host, answer.Status, want)
		}
	}
}

func TestHeaders(t *testing.T) {
	s := newServer(t, shopStore(t))
	for _, path := range []string{"/", "/api/v1/graph", "/api/v1/nothing", "/api/docs", "/nothing", "/metrics", "/healthz"} {
		answer, _ := ask(t, s, path)
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Content-Security-Policy": csp,
		} {
			if got := answer.Header.Get(name); got != want {
				t.Errorf("%s: %s: %q", path, name, got)
			}
		}
		if got := answer.Header.Get("Cache-Control"); strings.HasPrefix(path, "/api/") && got != "no-store" {
			t.Errorf("%s: Cache-Control %q", path, got)
		}
	}
	for _, bad := range []string{"unsafe-inline", "unsafe-eval", "http:", "https:", "*"} {
		if strings.Contains(csp, bad) {
			t.Errorf("the policy allows %s", bad)
		}
	}
	_, page := ask(t, s, "/api/docs")
	for _, bad := range []string{"<script", "style=", "http://", "https://", "<style"} {
		if strings.Contains(page, bad) {
			t.Errorf("the API page contains %s", bad)
		}
	}
	if !strings.Contains(page, "GET /api/v1/services/{id}") || !strings.Contains(page, "POST /api/v1/rules/preview") || !strings.Contains(page, "amplification") {
		t.Error("the API page lacks operations or fields")
	}
}

func TestRoutes(t *testing.T) {
	s := newServer(t, shopStore(t))
	for path, want := range map[string]int{
		"/api/v1/slos": 404, "/api/v1/incidents": 404, "/api/v1/explain": 404, "/api/v1/diff": 404, "/api/v2/alerts": 404,
		"/api/v1/": 404, "/api/v1/edges/": 404, "/api/v1/edges/nothing": 404, "/api/v1/edges/nothing/series": 404, "/api/v1/services/": 422, "/api/v1/services/nothing": 404,
		"/api/v1/traces/xyz": 422, "/api/v1/traces/00000000000000000000000000000000": 404, "/..%2f..%2fetc/passwd": 404,
	} {
		answer, body := ask(t, s, path)
		if answer.StatusCode/100 == 3 {
			continue
		}
		t.Run(path, func(t *testing.T) { wantProblem(t, answer, body, want) })
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
		for _, path := range []string{"/api/v1/graph", "/api/v1/services/a/b", "/api/v1/live", "/metrics", "/healthz"} {
			answer, body := request(t, s, method, path)
			wantProblem(t, answer, body, http.StatusMethodNotAllowed)
			if answer.Header.Get("Allow") == "" {
				t.Errorf("%s %s: no Allow", method, path)
			}
		}
	}
	for _, wrong := range [][3]string{
		{"GET", "/api/v1/rules/preview", "POST"},
		{"DELETE", "/api/v1/rules/preview", "POST"},
		{"PUT", "/rules", "GET, HEAD, POST"},
		{"POST", "/api/v1/graph", "GET, HEAD"},
	} {
		answer, body := request(t, s, wrong[0], wrong[1])
		wantProblem(t, answer, body, http.StatusMethodNotAllowed)
		if allow := answer.Header.Get("Allow"); allow != wrong[2] {
			t.Errorf("%s %s: Allow %q, want %q", wrong[0], wrong[1], allow, wrong[2])
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/-/healthy", "/-/ready"} {
		if answer, body := ask(t, s, path); answer.StatusCode != http.StatusOK || body != "ok\n" {
			t.Errorf("%s: %s %s", path, answer.Status, body)
		}
	}
	for _, path := range []string{
		"/api/v1/services/shop/checkout", "/api/v1/services/shop%2Fcheckout", "/api/v1/services/db:postgresql/orders@db1",
		"/api/v1/services/db%3Apostgresql%2Forders%40db1", "/api/v1/services/user", "/api/v1/services/queue:kafka/mails",
	} {
		if answer, body := ask(t, s, path); answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %s", path, answer.Status, body)
		}
	}
}

func TestReady(t *testing.T) {
	s := newServer(t, shopStore(t), func(s *Settings) { s.Ready = func() error { return errors.New("replaying") } })
	for _, path := range []string{"/readyz", "/-/ready"} {
		answer, body := ask(t, s, path)
		wantProblem(t, answer, body, http.StatusServiceUnavailable)
		if !strings.Contains(body, "replaying") {
			t.Error(body)
		}
	}
	if answer, _ := ask(t, s, "/healthz"); answer.StatusCode != http.StatusOK {
		t.Error(answer.Status)
	}
	if _, body := ask(t, s, "/api/v1/status"); !strings.Contains(body, `"ready":false,"reason":"replaying"`) {
		t.Error(body)
	}
}

const token = "correct horse battery staple"

func TestAuthentication(t *testing.T) {
	now := &clock{now: testNow}
	s := newServer(t, shopStore(t), func(s *Settings) { s.AuthToken, s.Now = token, now.time })
	for _, path := range []string{"/", "/api/v1/graph", "/api/docs", "/metrics", "/api/v1/live", "/nothing"} {
		answer, body := ask(t, s, path)
		wantProblem(t, answer, body, http.StatusUnauthorized)
		if got := answer.Header.Values("WWW-Authenticate"); len(got) != 2 {
			t.Errorf("%s: %v", path, got)
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if answer, _ := ask(t, s, path); answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, answer.Status)
		}
	}
	basic := func(password string) string {
		r, _ := http.NewRequest(http.MethodGet, "/", nil)
		r.SetBasicAuth("anyone", password)
		return r.Header.Get("Authorization")
	}
	for _, right := range []string{"Bearer " + token, "bearer " + token, basic(token)} {
		if answer, _ := ask(t, s, "/api/v1/graph", "Authorization", right); answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", right, answer.Status)
		}
	}
	answer, _ := ask(t, s, "/api/v1/graph", "Authorization", basic(token))
	cookies := answer.Cookies()
	if len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode || cookies[0].Secure || strings.Contains(cookies[0].Value, "horse") {
		t.Fatalf("session: %+v", cookies)
	}
	cookie := cookies[0].Name + "=" + cookies[0].Value
	if answer, _ := ask(t, s, "/api/v1/graph", "Cookie", cookie); answer.StatusCode != http.StatusOK {
		t.Errorf("with a session: %s", answer.Status)
	}
	for _, forged := range []string{cookie + "0", cookies[0].Name + "=9999999999." + strings.Repeat("0", 64), cookies[0].Name + "=", cookies[0].Name + "=x.y"} {
		if answer, _ := ask(t, s, "/api/v1/graph", "Cookie", forged); answer.StatusCode != http.StatusUnauthorized {
			t.Errorf("with %s: %s", forged, answer.Status)
		}
	}
	now.advance(sessionLength)
	if answer, _ := ask(t, s, "/api/v1/graph", "Cookie", cookie); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("with a session that ended: %s", answer.Status)
	}

	for i := range DefaultLimits().FailedLogins {
		if answer, _ := ask(t, s, "/api/v1/graph", "Authorization", fmt.Sprintf("Bearer guess-%d", i)); answer.StatusCode != http.StatusUnauthorized {
			t.Errorf("guess %d: %s", i, answer.Status)
		}
	}
	answer, body := ask(t, s, "/api/v1/graph", "Authorization", "Bearer "+token)
	wantProblem(t, answer, body, http.StatusTooManyRequests)
	now.advance(time.Minute)
	if answer, _ := ask(t, s, "/api/v1/graph", "Authorization", "Bearer "+token); answer.StatusCode != http.StatusOK {
		t.Errorf("a minute later: %s", answer.Status)
	}

	at := serve(t, s)
	if _, answer, err := websocket.DefaultDialer.Dial("ws://"+at+"/api/v1/live", nil); err == nil || answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("WebSocket without a token: %v %v", answer, err)
	}
	conn, _, err := websocket.DefaultDialer.Dial("ws://"+at+"/api/v1/live", http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		t.Fatal(err)
	}
	read(t, conn)
	_ = conn.Close()

	for _, s := range []*Server{s, newServer(t, shopStore(t))} {
		_, body := ask(t, s, "/api/openapi.json", "Authorization", "Bearer "+token)
		if asks := s.AuthToken != ""; strings.Contains(body, `"securitySchemes"`) != asks || strings.Contains(body, `"security": [`) != asks {
			t.Errorf("a token is asked for: %t, and the API's description does not say so", asks)
		}
	}
}

func TestSecret(t *testing.T) {
	s := newServer(t, shopStore(t), func(s *Settings) { s.AuthToken = token })
	encoded, err := json.Marshal(map[string]any{"token": s.AuthToken})
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{fmt.Sprint(s.AuthToken), fmt.Sprintf("%v %+v %#v %s %q", s.Settings, s.Settings, s.AuthToken, s.AuthToken, s.AuthToken), string(encoded), s.AuthToken.LogValue().String()}
	for _, path := range []string{"/api/v1/status", "/metrics", "/api/openapi.json", "/nothing", "/api/v1/graph?from=" + "x"} {
		_, body := ask(t, s, path, "Authorization", "Bearer "+token)
		texts = append(texts, body)
	}
	for _, text := range texts {
		if strings.Contains(text, "horse") {
			t.Errorf("the token shows: %.300s", text)
		}
	}
}

func TestSettings(t *testing.T) {
	for name, settings := range map[string]Settings{
		"no reader":    {},
		"external URL": {Reader: shopStore(t), ExternalURL: "faultline.example"},
		"scheme":       {Reader: shopStore(t), ExternalURL: "javascript://faultline.example"},
	} {
		if _, err := New(settings); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestStoreErrors checks that a client learns what it can do about an error, and nothing of what is inside.
func TestStoreErrors(t *testing.T) {
	store := shopStore(t)
	s := newServer(t, store)
	store.fail(errors.New("SELECT secret FROM rows: syntax error"))
	for _, path := range []string{"/api/v1/graph", "/api/v1/edges/x", "/api/v1/edges/x/series", "/api/v1/services/x", "/api/v1/traces"} {
		answer, body := ask(t, s, path)
		wantProblem(t, answer, body, http.StatusInternalServerError)
		if strings.Contains(body, "SELECT") {
			t.Errorf("%s: %s", path, body)
		}
	}
	if answer, body := ask(t, s, "/api/v1/status"); answer.StatusCode != http.StatusOK || !strings.Contains(body, `"reachable":false`) || strings.Contains(body, "SELECT") {
		t.Errorf("status: %s %s", answer.Status, body)
	}
	store.fail(fmt.Errorf("reading: %w", storage.ErrNotFound))
	answer, body := ask(t, s, "/api/v1/graph")
	wantProblem(t, answer, body, http.StatusNotFound)
	store.fail(nil)
	s = newServer(t, store, func(s *Settings) { s.Limits.QueryTime = time.Nanosecond })
	answer, body = ask(t, s, "/api/v1/graph")
	wantProblem(t, answer, body, http.StatusServiceUnavailable)
}
