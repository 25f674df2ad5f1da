package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"faultline/storage"
	"faultline/storage/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConfigure(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		args []string
		want string // HTTP, directory, memory limit, allowed
		err  string
	}{
		{name: "defaults", want: "127.0.0.1:8420 ./faultline-data 512MiB false"},
		{
			name: "environment", env: map[string]string{"FAULTLINE_HTTP": "[::1]:1", "FAULTLINE_DATA_DIR": "d", "FAULTLINE_MEMORY_LIMIT": "1GiB", "FAULTLINE_ALLOW_INSECURE": "true"},
			want: "[::1]:1 d 1GiB true",
		},
		{
			name: "flags over environment", env: map[string]string{"FAULTLINE_HTTP": "[::1]:1", "FAULTLINE_DATA_DIR": "d"},
			args: []string{"--http", "127.0.0.1:2", "--memory-limit=64MiB", "--allow-insecure", "true"}, want: "127.0.0.1:2 d 64MiB true",
		},
		{name: "bad environment", env: map[string]string{"FAULTLINE_MEMORY_LIMIT": "lots"}, err: `FAULTLINE_MEMORY_LIMIT: "lots" is not a number of bytes`},
		{name: "bad flag", args: []string{"--allow-insecure", "maybe"}, err: "allow-insecure"},
		{name: "unknown flag", args: []string{"--htpp", "x"}, err: "htpp"},
		{name: "argument", args: []string{"serve"}, err: `"serve": there are only flags`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg, err := configure(test.args, func(name string) string { return test.env[name] }, io.Discard)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join([]string{cfg.HTTP, cfg.DataDir, cfg.MemoryLimit.String(), map[bool]string{false: "false", true: "true"}[cfg.AllowInsecure]}, " ")
			if got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func TestHelpShowsNoSecret(t *testing.T) {
	var out bytes.Buffer
	_, err := configure([]string{"-help"}, func(name string) string {
		if name == "FAULTLINE_AUTH_TOKEN" {
			return "marked-hidden-token"
		}
		return ""
	}, &out)
	if !errors.Is(err, flag.ErrHelp) || strings.Contains(out.String(), "hidden") || !strings.Contains(out.String(), "-auth-token") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestVersion(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"--version"}, func(string) string { return "" }, &out, io.Discard); err != nil || !strings.HasPrefix(out.String(), "Faultline ") {
		t.Errorf("%v, %q", err, out.String())
	}
}

// output is what a running command writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	none := func(string) string { return "" }
	args := []string{"--http", "127.0.0.1:0", "--data-dir", dir}
	if err := run(t.Context(), args, none, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("without a store: %v", err)
	}
	store, err := sqlite.Open(t.Context(), dir, storage.DefaultRetention())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // open meanwhile, as by a collector
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out output
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, args, none, &out, io.Discard) }()
	deadline, tick := time.After(20*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	url := ""
	for url == "" {
		select {
		case <-deadline:
			t.Fatal("no banner: ", out.String())
		case err := <-ended:
			t.Fatal("ended: ", err)
		case <-tick.C:
			url = regexp.MustCompile(`http://\S+`).FindString(out.String())
		}
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, path := range []string{"/readyz", "/api/v1/graph", "/api/v1/status"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("at the end: %v", err)
	}
}
