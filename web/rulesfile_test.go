package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/internal/rules"
)

// post sends a body.
func post(t *testing.T, s *Server, path, contentType, body string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "http://localhost:8420"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w.Result(), w.Body.String()
}

const ruleText = "services:\n  - match: {name: \"check.*|payment\"}\n    rename: till\nignore:\n  - operation: \"POST /pay\"\n"

func TestRulesFile(t *testing.T) {
	state := rules.State{Path: "/etc/rules.yaml", Text: "# none\n", Since: testNow.Add(-time.Hour)}
	s := newServer(t, shopStore(t), func(s *Settings) { s.Rules = func() rules.State { return state } })
	read := func() (f RulesFile) {
		t.Helper()
		answer, body := ask(t, s, "/api/v1/rules")
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", answer.Status, body)
		}
		if err := json.Unmarshal([]byte(body), &f); err != nil {
			t.Fatal(err)
		}
		return f
	}
	since := state.Since.UTC()
	if diff := cmp.Diff(RulesFile{Path: "/etc/rules.yaml", Text: "# none\n", Since: &since, Faults: []rules.Fault{}}, read()); diff != "" {
		t.Error(diff)
	}

	_, state.Err = rules.Parse([]byte("servcies: []"))
	if f := read(); !strings.Contains(f.Error, "servcies") || len(f.Faults) != 1 || f.Faults[0].Line != 1 {
		t.Errorf("%+v", f)
	}
	for _, path := range []string{"/rules", "/status", "/api/v1/status"} {
		if _, body := ask(t, s, path, "Accept", "text/html"); !strings.Contains(body, "no such key") {
			t.Errorf("%s does not say that the file is wrong", path)
		}
	}
	state = rules.State{Path: "/etc/rules.yaml", Err: errors.New("permission denied")}
	if f := read(); f.Error != "permission denied" || f.Since != nil {
		t.Errorf("%+v", f)
	}

	// A process without a feed has no file, and previews all the same.
	s = newServer(t, shopStore(t))
	if _, body := ask(t, s, "/rules"); !strings.Contains(body, "has no rules file") {
		t.Error("a process without a rules file does not say so")
	}
}

func TestRulesPreview(t *testing.T) {
	s := newServer(t, shopStore(t))
	preview := func(text string) (p rules.Preview) {
		t.Helper()
		answer, body := post(t, s, "/api/v1/rules/preview", "text/plain", text)
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", answer.Status, body)
		}
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := preview(ruleText)
	if len(p.Faults) > 0 || len(p.Renamed) == 0 || len(p.Merged) == 0 {
		t.Errorf("%+v", p)
	}
	for _, m := range p.Merged {
		if m.Env == "prod" && len(m.From) < 2 {
			t.Errorf("merged of %v", m.From)
		}
	}
	if p := preview("servcies: []\n"); len(p.Faults) != 1 || p.Faults[0].Key != "servcies" || p.Renamed == nil {
		t.Errorf("%+v", p)
	}
	if answer, _ := post(t, s, "/api/v1/rules/preview", "text/plain", strings.Repeat("#", rules.MaxBytes+1)); answer.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("too long a text: %s", answer.Status)
	}

	form := func(text string) string {
		t.Helper()
		answer, body := post(t, s, "/rules", "application/x-www-form-urlencoded", url.Values{"rules": {strings.ReplaceAll(text, "\n", "\r\n")}}.Encode())
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", answer.Status, body)
		}
		return body
	}
	body := form(ruleText)
	for _, want := range []string{"What it would change", "<code>shop/till</code>", "rename: till"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not contain %q", want)
		}
	}
	if body := form("ignore:\n  - host: \"<b>\"\n"); !strings.Contains(body, "It would change nothing") || strings.Contains(body, "<b>") {
		t.Error("a rule for a host that nobody calls")
	}
	if body := form("<b>"); !strings.Contains(body, "This cannot be a rules file") {
		t.Error("a text that is no rules file")
	}
	if answer, _ := post(t, s, "/rules", "application/x-www-form-urlencoded", "rules="+strings.Repeat("#", 3*rules.MaxBytes)); answer.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("too long a form: %s", answer.Status)
	}
}
