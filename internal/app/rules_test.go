package app

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"faultline/graph"
	"faultline/internal/rules"
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
}

// A running process looks at the file again every while.
func TestRulesAreLookedAtAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yaml")
	synctest.Test(t, func(t *testing.T) {
		f := &feed{}
		a := &App{rules: rules.NewFile(path), feed: f, log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		var loop sync.WaitGroup
		loop.Go(func() { a.rulesLoop(ctx) })
		for _, name := range []string{"basket", "trolley"} {
			if err := os.WriteFile(path, []byte("services: [{match: {name: cart}, rename: "+name+"}]"), 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(rulesEvery)
			synctest.Wait()
			if got := f.renamed.Load(); got == nil || *got != name {
				t.Errorf("cart is called %v, want %s", got, name)
			}
		}
		cancel()
		loop.Wait()
	})
}
