package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"go.opentelemetry.io/collector/confmap"

	"faultline/ingest"
	"faultline/internal/app/collectorext"
)

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// row matches a row of a table whose first two cells are code: a key and its default. A default may be empty.
var row = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| *(?:`([^`]*)` *)?\\|")

// documented returns the keys and defaults of the table under a heading.
func documented(t *testing.T, page, heading string) map[string]string {
	t.Helper()
	_, section, ok := strings.Cut(page, "\n"+heading)
	if !ok {
		t.Fatalf("no heading %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	table := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(section, -1) {
		table[m[1]] = m[2]
	}
	return table
}

// TestEnvironmentIsDocumented holds the tables of variables against the built-in configuration.
func TestEnvironmentIsDocumented(t *testing.T) {
	want := map[string]string{}
	for _, m := range regexp.MustCompile(`\$\{env:(\w+):-([^}]*)\}`).FindAllStringSubmatch(defaultYAML, -1) {
		want[m[1]] = m[2]
	}
	for name, heading := range map[string]string{"docs/configuration.md": "## Environment", "README.md": "## Configure"} {
		if diff := cmp.Diff(want, documented(t, readFile(t, name), heading)); diff != "" {
			t.Errorf("%s (-program +page):\n%s", name, diff)
		}
	}
	for _, name := range []string{
		"deploy/Dockerfile", "deploy/docker-compose.yaml", "deploy/faultline.service", "README.md", "docs/operations.md", "docs/configuration.md",
	} {
		for _, variable := range regexp.MustCompile(`\bFAULTLINE_\w+`).FindAllString(readFile(t, name), -1) {
			if _, ok := want[variable]; !ok && variable != "FAULTLINE_FORWARD_TO" { // that of deploy/forward-to-jaeger.yaml
				t.Errorf("%s: nothing reads %s", name, variable)
			}
		}
	}
}

// TestKeysAreDocumented holds the tables of keys against the configurations' structures and their defaults.
func TestKeysAreDocumented(t *testing.T) {
	page := readFile(t, "docs/configuration.md")
	conf := func(cfg any, secrets map[string]any) *confmap.Conf {
		c := confmap.New()
		if err := c.Marshal(cfg); err != nil {
			t.Fatal(err)
		}
		if err := c.Merge(confmap.NewFromStringMap(secrets)); err != nil { // which do not show themselves
			t.Fatal(err)
		}
		return c
	}
	equal := func(in *confmap.Conf, key, value string) bool {
		have := fmt.Sprint(in.Get(key))
		a, errA := model.ParseDuration(have)
		b, errB := model.ParseDuration(value)
		return have == value || errA == nil && errB == nil && a == b
	}

	cfg := collectorext.DefaultConfig()
	extension := conf(cfg, map[string]any{"storage": string(cfg.App.Storage), "auth_token": string(cfg.App.AuthToken)})
	table := documented(t, page, "## `extensions::faultline`")
	want := slices.Sorted(slices.Values(extension.AllKeys()))
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(table))); diff != "" {
		t.Errorf("extension (-program +page):\n%s", diff)
	}
	for key, value := range table {
		if !equal(extension, key, value) {
			t.Errorf("extension: %s is %q by default, the page says %q", key, fmt.Sprint(extension.Get(key)), value)
		}
	}

	in := ingest.NewDefaultReceiverConfig().(*ingest.ReceiverConfig)
	receiver := conf(in, map[string]any{"auth_token": string(in.AuthToken)})
	table = documented(t, page, "## `receivers::faultline`")
	for _, key := range receiver.AllKeys() {
		if _, ok := table[key]; !ok && !strings.HasPrefix(key, "protocols::") { // of which the page names those with defaults of ours
			t.Errorf("receiver: %s is not on the page", key)
		}
	}
	for key, value := range table {
		if !receiver.IsSet(key) {
			t.Errorf("receiver: %s is on the page, and there is no such key", key)
		} else if !equal(receiver, key, value) {
			t.Errorf("receiver: %s is %q by default, the page says %q", key, fmt.Sprint(receiver.Get(key)), value)
		}
	}
}

// TestExamplesAreValid has the program validate the configurations that it is given as examples.
func TestExamplesAreValid(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(readFile(t, "docs/configuration.md"), -1)
	if len(blocks) != 1 {
		t.Fatalf("%d examples in docs/configuration.md, want 1", len(blocks))
	}
	for name, text := range map[string]string{
		"deploy/forward-to-jaeger.yaml": readFile(t, "deploy/forward-to-jaeger.yaml"),
		"docs/configuration.md":         blocks[0][1],
		"the built-in one":              defaultYAML,
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := newCommand()
			cmd.SetArgs([]string{"validate", "--config", file})
			if err := cmd.ExecuteContext(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	// It is the validation that says so: the same with a mistake is refused.
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(readFile(t, "deploy/forward-to-jaeger.yaml"), "forward:", "froward:", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := newCommand()
	cmd.SetArgs([]string{"validate", "--config", file})
	if err := cmd.ExecuteContext(context.Background()); err == nil || !strings.Contains(err.Error(), "froward") {
		t.Errorf("a mistake passes: %v", err)
	}
}
