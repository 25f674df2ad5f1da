package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// validate runs the command line's validate on a configuration, or on the built-in one.
func validate(args ...string) error {
	cmd := newCommand()
	cmd.SetArgs(append([]string{"validate"}, args...))
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	return cmd.Execute()
}

// Every broken file says in its first lines what is to be said of it: "# want line: key: message".
func TestBrokenConfigurations(t *testing.T) {
	files, err := filepath.Glob("testdata/broken/*.yaml")
	if err != nil || len(files) < 12 {
		t.Fatalf("%d broken files, %v", len(files), err)
	}
	valid := regexp.MustCompile(`\(valid values: .*\)`) // in no order
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(text)) {
				if w, ok := strings.CutPrefix(line, "# want "); ok {
					want = append(want, strings.TrimSpace(w))
				}
			}
			err = validate("--config", file)
			if err == nil {
				t.Fatal("accepted")
			}
			var got []string
			for line := range strings.Lines(valid.ReplaceAllString(err.Error(), "(valid values: …)")) {
				at, ok := strings.CutPrefix(strings.TrimSpace(line), file+":")
				if !ok {
					t.Fatalf("does not name the file: %s", err)
				}
				got = append(got, strings.TrimSpace(at))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("want(-) got(+):\n%s\nwhole: %v", diff, err)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("shows a secret: %v", err)
			}
		})
	}
}

func TestBuiltInConfigurationIsValid(t *testing.T) {
	if err := validate(); err != nil {
		t.Fatal(err)
	}
}

func TestLocateNamesEnvironmentAndFlags(t *testing.T) {
	tests := []struct {
		name, env, value string
		args             []string
		want             string
	}{
		{
			name: "address", env: "FAULTLINE_HTTP", value: "nonsense",
			want: `extensions::faultline::http: "nonsense" is not host:port (from FAULTLINE_HTTP)`,
		},
		{
			name: "store", env: "FAULTLINE_STORAGE", value: "clickhouse://me:hidden@db/x",
			want: `extensions::faultline::storage: ClickHouse is not built yet: use "sqlite" (from FAULTLINE_STORAGE)`,
		},
		{
			name: "url", env: "FAULTLINE_EXTERNAL_URL", value: "ftp://x",
			want: `extensions::faultline::external_url: "ftp://x" is not an http or https URL (from FAULTLINE_EXTERNAL_URL)`,
		},
		{
			name: "exposed ingestion", env: "FAULTLINE_OTLP_GRPC", value: "0.0.0.0:4317",
			want: `(from FAULTLINE_OTLP_GRPC)`,
		},
		{
			name: "flag", args: []string{"--set", "extensions.faultline.htpp=3"},
			want: "command line: extensions::faultline::htpp: unknown key",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.env != "" {
				t.Setenv(test.env, test.value)
			}
			err := validate(test.args...)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v\ndoes not say %s", err, test.want)
			}
			if test.env != "" && !strings.HasPrefix(err.Error(), "default.yaml (built in):") {
				t.Errorf("%v\ndoes not name the built-in configuration", err)
			}
			if strings.Contains(err.Error(), "hidden") {
				t.Errorf("shows a secret: %v", err)
			}
		})
	}
}

// A later file overrides an earlier one, so it is the one to name.
func TestLocateNamesTheFileThatDecides(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first.yaml"), filepath.Join(dir, "second.yaml")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(first, defaultYAML)
	write(second, "extensions:\n  faultline:\n    http: nonsense\n")
	err := validate("--config", first, "--config", second)
	if want := second + `:3: extensions::faultline::http: "nonsense" is not host:port`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// A start that is called off names a key, too, and must be told from one that fails.
func TestLocateLeavesWhatWasCalledOff(t *testing.T) {
	read := &sources{uris: []string{"yaml:" + defaultYAML}}
	failed := errors.New("failed to start extensions: extensions::faultline: data_dir: it is full")
	if got := read.locate(failed); !strings.Contains(got.Error(), "default.yaml (built in):34: extensions::faultline::data_dir: it is full") {
		t.Errorf("got %v", got)
	}
	called := fmt.Errorf("failed to start extensions: extensions::faultline: data_dir: %w", context.Canceled)
	if got := read.locate(called); !errors.Is(got, context.Canceled) {
		t.Errorf("got %v, which is not %v", got, context.Canceled)
	}
}

func TestPrintConfig(t *testing.T) {
	var out bytes.Buffer
	cmd := newCommand()
	cmd.SetArgs([]string{"print-config"})
	cmd.SetOut(&out)
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "copy.yaml")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := validate("--config", file); err != nil {
		t.Errorf("what is printed is not valid: %v", err)
	}
}
