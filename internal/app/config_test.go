package app

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
)

func TestDefaultConfigIsValid(t *testing.T) {
	cfg := DefaultConfig()
	if warnings, err := cfg.Validate(); err != nil || len(warnings) > 0 {
		t.Errorf("warnings %v, error %v", warnings, err)
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name          string
		change        func(*Config)
		err, warnings string // "" for none
	}{
		{"any free port", func(c *Config) { c.HTTP = "localhost:0" }, "", ""},
		{"loopback in IPv6", func(c *Config) { c.HTTP = "[::1]:8420" }, "", ""},
		{"no port", func(c *Config) { c.HTTP = "127.0.0.1" }, `http: "127.0.0.1" is not host:port`, ""},
		{"port too high", func(c *Config) { c.HTTP = "127.0.0.1:70000" }, `port "70000" is not a number up to 65535`, ""},
		{"named port", func(c *Config) { c.HTTP = "127.0.0.1:http" }, `port "http" is not a number`, ""},
		{"every address", func(c *Config) { c.HTTP = ":8420" }, "http: :8420 can be reached from other machines", "asks for no token"},
		{"every address in IPv6", func(c *Config) { c.HTTP = "[::]:8420" }, "can be reached from other machines", "asks for no token"},
		{"a name", func(c *Config) { c.HTTP = "map.example.com:8420" }, "can be reached from other machines", "asks for no token"},
		{"every address, allowed", func(c *Config) { c.HTTP, c.AllowInsecure = ":8420", true }, "", "asks for no token"},
		{"every address, with a token", func(c *Config) { c.HTTP, c.AuthToken = ":8420", "0123456789abcdef" }, "", ""},
		{"short token", func(c *Config) { c.AuthToken = "abc" }, "", "auth_token: shorter than 16"},
		{"token with a line end", func(c *Config) { c.AuthToken = "0123456789abcdef\n" }, "auth_token: must be printable", ""},
		{"no directory", func(c *Config) { c.DataDir = "" }, "data_dir: must name", ""},
		{"the root directory", func(c *Config) { c.DataDir = "//" }, "data_dir: must name", ""},
		{"ClickHouse", func(c *Config) { c.Storage = "clickhouse://u:hidden@h/d" }, "storage: ClickHouse is not built yet", ""},
		{"ClickHouse over HTTP", func(c *Config) { c.Storage = "https://u:hidden@h:8443/d" }, "storage: ClickHouse is not built yet", ""},
		{"another store", func(c *Config) { c.Storage = "postgres://u:hidden@h/d" }, "storage: no storage is known for postgres://", ""},
		{"a path as store", func(c *Config) { c.Storage = "/hidden/x" }, `storage: neither "sqlite" nor a ClickHouse DSN`, ""},
		{"external URL", func(c *Config) { c.ExternalURL = "https://map.example.com/faultline" }, "", ""},
		{"external URL without a scheme", func(c *Config) { c.ExternalURL = "map.example.com" }, "external_url:", ""},
		{"no memory limit", func(c *Config) { c.MemoryLimit = 0 }, "", ""},
		{"memory limit too small", func(c *Config) { c.MemoryLimit = 1 << 20 }, "memory_limit: 1MiB is less than the 64MiB", ""},
		{"negative memory limit", func(c *Config) { c.MemoryLimit = -1 }, "memory_limit: must not be negative", ""},
		{"short retention", func(c *Config) { c.Retention.Fine = model.Duration(time.Minute) }, "retention::fine: 1m is less than the least, 10m", ""},
		{"tiers in disorder", func(c *Config) { c.Retention.Hour = model.Duration(48 * time.Hour) }, "retention::hour: 2d is less than 1w of the finer tier", ""},
		{"no edges", func(c *Config) { c.Limits.Edges = 0 }, "limits::edges: 0 is not within", ""},
		{"long hold", func(c *Config) { c.Limits.Hold = model.Duration(time.Hour) }, "limits::hold: 1h is not within", ""},
		{"two mistakes", func(c *Config) { c.DataDir, c.Limits.Nodes = "", -1 }, "data_dir: must name a directory of our own\nlimits::nodes: -1", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := DefaultConfig()
			test.change(&cfg)
			warnings, err := cfg.Validate()
			if got := fmt.Sprint(err); (err == nil) != (test.err == "") || !strings.Contains(got, test.err) || strings.Contains(got, "hidden") {
				t.Errorf("error %q, want %q", got, test.err)
			}
			if got := strings.Join(warnings, "; "); (got == "") != (test.warnings == "") || !strings.Contains(got, test.warnings) {
				t.Errorf("warnings %q, want %q", got, test.warnings)
			}
		})
	}
}

func TestConfigShowsNoSecret(t *testing.T) {
	cfg := DefaultConfig()
	cfg.AuthToken, cfg.Storage = "marked-hidden-token", "clickhouse://u:hidden@h/d"
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprint(cfg), fmt.Sprintf("%+v", cfg), fmt.Sprintf("%#v", cfg), string(text)} {
		if strings.Contains(s, "hidden") {
			t.Errorf("shows a secret: %s", s)
		}
	}
}

func TestBytes(t *testing.T) {
	tests := []struct {
		text string
		want Bytes
		back string // "" when it is refused
	}{
		{"512MiB", 512 << 20, "512MiB"},
		{"1GiB", 1 << 30, "1GiB"},
		{"1024 MiB", 1 << 30, "1GiB"},
		{"3KiB", 3 << 10, "3KiB"},
		{"1000", 1000, "1000B"},
		{"7B", 7, "7B"},
		{"0", 0, "0"},
		{" 2MiB ", 2 << 20, "2MiB"},
		{"-1", -1, "-1B"},
		{"", 0, ""},
		{"MiB", 0, ""},
		{"1.5GiB", 0, ""},
		{"512MB", 0, ""},
		{"9999999999GiB", 0, ""},
		{"0x10", 0, ""},
		{"lots", 0, ""},
	}
	for _, test := range tests {
		var got Bytes
		err := got.UnmarshalText([]byte(test.text))
		if test.back == "" {
			if err == nil {
				t.Errorf("%q: %d, want an error", test.text, got)
			}
			continue
		}
		if err != nil || got != test.want || got.String() != test.back {
			t.Errorf("%q: %d %q, %v; want %d %q", test.text, got, got, err, test.want, test.back)
		}
	}
}

func TestReachable(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:8420": "127.0.0.1:8420", "0.0.0.0:8420": "localhost:8420", ":8420": "localhost:8420", "[::]:1": "localhost:1",
		"[::1]:1": "[::1]:1", "unix": "unix",
	} {
		if got := Reachable(addr); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}
