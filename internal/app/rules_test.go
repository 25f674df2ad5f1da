package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"faultline/graph"
)

// The rules file is in force before the first span, again when it changed, and stays as it was when it is wrong.
func TestRulesFileIsFollowed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "rules.yaml")
	at := time.Now()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Second)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	const rename = "services: [{match: {name: cart}, rename: "
	write(rename + "basket}]")
	f := &feed{}
	a, err := New(t.Context(), testConfig(dir), Settings{NewFeed: func(live *graph.Live) Feed {
		f.live = live
		return f
	}})
	if err != nil {
		t.Fatal(err)
	}
	inForce := func(want string) {
		t.Helper()
		if got := f.renamed.Load(); got == nil || *got != want {
			t.Errorf("cart is called %v, want %s", got, want)
		}
	}
	inForce("basket")
	write(rename + "trolley}]")
	a.pollRules(at)
	inForce("trolley")
	write("servcies: []")
	a.pollRules(at)
	inForce("trolley")
	a.Start()
	defer stop(t, a)
	if status, body := get(t, a, "/api/v1/rules"); status != 200 || !strings.Contains(body, "trolley") || !strings.Contains(body, "servcies") {
		t.Errorf("%d: %s", status, body)
	}
	write(rename + "bag}]")
	for deadline := time.Now().Add(10 * time.Second); *f.renamed.Load() != "bag"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the file that was mended is not in force")
		}
	}
}
