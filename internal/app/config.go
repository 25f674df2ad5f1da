package app

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"faultline/graph"
	"faultline/storage"
	"faultline/web"
)

// Config is one process. Its keys are the same in the Collector's YAML, under extensions::faultline, and as flags of ui.
type Config struct {
	// HTTP is where pages, API, WebSocket, /metrics and the probes are served.
	HTTP string `mapstructure:"http"`
	// DataDir holds everything that is kept on disk. One process at a time writes to it.
	DataDir string `mapstructure:"data_dir"`
	// Rules is the file that renames, merges and ignores nodes; "" stands for rules.yaml in DataDir. It need not exist.
	Rules string `mapstructure:"rules"`
	// Storage is "sqlite", in DataDir, or a ClickHouse DSN.
	Storage web.Secret `mapstructure:"storage"`
	// AuthToken, when set, is asked for by ingestion, API, pages and WebSocket.
	AuthToken web.Secret `mapstructure:"auth_token"`
	// AllowInsecure lets HTTP listen where other machines reach it although there is no AuthToken.
	AllowInsecure bool `mapstructure:"allow_insecure"`
	// ExternalURL is the base of every link that leaves the program; "" stands for http://HTTP.
	ExternalURL string `mapstructure:"external_url"`
	// MemoryLimit is what the Go runtime is told to stay under: near it, garbage is collected more eagerly. It is a
	// soft limit of the whole process, as GOMEMLIMIT is, and gives way to that; 0 sets none.
	MemoryLimit Bytes           `mapstructure:"memory_limit"`
	Retention   RetentionConfig `mapstructure:"retention"`
	Limits      LimitsConfig    `mapstructure:"limits"`
}

// rulesFile returns the path of the rules file.
func (c *Config) rulesFile() string {
	return cmp.Or(c.Rules, filepath.Join(c.DataDir, "rules.yaml"))
}

// RetentionConfig says how long each tier of history is kept, see storage.Retention.
type RetentionConfig struct {
	Fine   model.Duration `mapstructure:"fine"`
	Minute model.Duration `mapstructure:"minute"`
	Hour   model.Duration `mapstructure:"hour"`
	Traces model.Duration `mapstructure:"traces"`
}

// LimitsConfig bounds the live graph, see graph.LiveConfig.
type LimitsConfig struct {
	Nodes      int            `mapstructure:"nodes"`
	Edges      int            `mapstructure:"edges"`
	Operations int            `mapstructure:"operations"`
	Instances  int            `mapstructure:"instances"`
	Versions   int            `mapstructure:"versions"`
	Hold       model.Duration `mapstructure:"hold"`
}

// SQLite is the value of Config.Storage for the embedded store.
const SQLite = "sqlite"

// DefaultConfig returns the embedded store in ./faultline-data, served on 127.0.0.1:8420, with 512 MiB of memory.
func DefaultConfig() Config {
	return Config{
		HTTP:        "127.0.0.1:8420",
		DataDir:     "./faultline-data",
		Storage:     SQLite,
		MemoryLimit: 512 << 20,
		Retention:   DefaultRetentionConfig(),
		Limits:      DefaultLimitsConfig(),
	}
}

// DefaultRetentionConfig returns storage.DefaultRetention.
func DefaultRetentionConfig() RetentionConfig {
	r := storage.DefaultRetention()
	return RetentionConfig{model.Duration(r.Fine), model.Duration(r.Minute), model.Duration(r.Hour), model.Duration(r.Traces)}
}

// DefaultLimitsConfig returns graph.DefaultLiveConfig.
func DefaultLimitsConfig() LimitsConfig {
	l := graph.DefaultLiveConfig()
	return LimitsConfig{l.MaxNodes, l.MaxEdges, l.MaxOperations, l.MaxInstances, l.MaxVersions, model.Duration(l.Hold)}
}

// Validate returns what the configuration had better be and what it must be. Each error starts with the key it is about.
func (c *Config) Validate() (warnings []string, err error) {
	var errs []error
	bad := func(key, format string, args ...any) { errs = append(errs, fmt.Errorf(key+": "+format, args...)) }

	if local, err := loopback(c.HTTP); err != nil {
		bad("http", "%w", err)
	} else if !local && c.AuthToken == "" {
		if !c.AllowInsecure {
			bad("http", "%s can be reached from other machines: set auth_token, or allow_insecure: true", c.HTTP)
		}
		warnings = append(warnings, fmt.Sprintf("http: %s can be reached from other machines and asks for no token", c.HTTP))
	}
	if filepath.Clean(c.DataDir) == string(filepath.Separator) || c.DataDir == "" {
		bad("data_dir", "must name a directory of our own")
	}
	if err := checkStorage(string(c.Storage)); err != nil {
		bad("storage", "%w", err)
	}
	if c.AuthToken != "" && len(c.AuthToken) < 16 {
		warnings = append(warnings, "auth_token: shorter than 16 characters can be guessed")
	}
	if strings.ContainsFunc(string(c.AuthToken), func(r rune) bool { return r <= ' ' || r > '~' }) {
		bad("auth_token", "must be printable ASCII without spaces, as it travels in a header")
	}
	if c.ExternalURL != "" {
		if u, err := url.Parse(c.ExternalURL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			bad("external_url", "%q is not an http or https URL", c.ExternalURL)
		}
	}
	switch {
	case c.MemoryLimit < 0:
		bad("memory_limit", "must not be negative")
	case c.MemoryLimit > 0 && c.MemoryLimit < 64<<20:
		bad("memory_limit", "%s is less than the 64MiB that the program needs when idle", c.MemoryLimit)
	}
	errs = append(errs, c.Retention.validate()...)
	errs = append(errs, c.Limits.validate()...)
	return warnings, errors.Join(errs...)
}

func (c *RetentionConfig) validate() (errs []error) {
	tiers := []struct {
		key   string
		value model.Duration
		least time.Duration
	}{
		{"fine", c.Fine, 10 * time.Minute}, {"minute", c.Minute, time.Hour}, {"hour", c.Hour, 24 * time.Hour}, {"traces", c.Traces, 10 * time.Minute},
	}
	for i, t := range tiers {
		if time.Duration(t.value) < t.least {
			errs = append(errs, fmt.Errorf("retention::%s: %s is less than the least, %s", t.key, t.value, model.Duration(t.least)))
		} else if i > 0 && i < 3 && t.value < tiers[i-1].value {
			errs = append(errs, fmt.Errorf("retention::%s: %s is less than %s of the finer tier", t.key, t.value, tiers[i-1].value))
		}
	}
	return errs
}

func (c *LimitsConfig) validate() (errs []error) {
	limits := []struct {
		key         string
		value, most int
	}{
		{"nodes", c.Nodes, 1_000_000},
		{"edges", c.Edges, 1_000_000},
		{"operations", c.Operations, 10_000},
		{"instances", c.Instances, 10_000},
		{"versions", c.Versions, 10_000},
	}
	for _, l := range limits {
		if l.value < 1 || l.value > l.most {
			errs = append(errs, fmt.Errorf("limits::%s: %d is not within 1 and %d", l.key, l.value, l.most))
		}
	}
	if hold := time.Duration(c.Hold); hold < 30*time.Second || hold > 10*time.Minute {
		errs = append(errs, fmt.Errorf("limits::hold: %s is not within 30s and 10m", c.Hold))
	}
	return errs
}

// live returns the limits as the live graph takes them.
func (c *LimitsConfig) live() graph.LiveConfig {
	return graph.LiveConfig{
		MaxNodes: c.Nodes, MaxEdges: c.Edges, MaxOperations: c.Operations, MaxInstances: c.Instances, MaxVersions: c.Versions,
		MaxGroups: graph.DefaultLiveConfig().MaxGroups, Hold: time.Duration(c.Hold),
	}
}

// inForce names the limits for the status page.
func (c *Config) inForce() map[string]int64 {
	return map[string]int64{
		"memory_bytes": int64(c.MemoryLimit), "nodes": int64(c.Limits.Nodes), "edges": int64(c.Limits.Edges),
		"operations_per_edge": int64(c.Limits.Operations), "instances_per_edge": int64(c.Limits.Instances),
		"versions_per_edge": int64(c.Limits.Versions), "hold": int64(time.Duration(c.Limits.Hold) / time.Second),
	}
}

// storage returns the retention as a store takes it.
func (c *RetentionConfig) storage() storage.Retention {
	return storage.Retention{
		Fine: time.Duration(c.Fine), Minute: time.Duration(c.Minute), Hour: time.Duration(c.Hour), Traces: time.Duration(c.Traces),
	}
}

// checkStorage tells the embedded store from a ClickHouse DSN and from a mistake. Its errors never show the value, which
// may hold a password.
func checkStorage(s string) error {
	if s == SQLite {
		return nil
	}
	scheme, _, ok := strings.Cut(s, "://")
	if !ok {
		return fmt.Errorf("neither %q nor a ClickHouse DSN", SQLite)
	}
	switch scheme {
	case "clickhouse", "http", "https":
		return fmt.Errorf("ClickHouse is not built yet: use %q", SQLite)
	}
	return fmt.Errorf("no storage is known for %s://", scheme)
}

// loopback reports whether a listen address can be reached from this machine alone.
func loopback(addr string) (bool, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false, fmt.Errorf("%q is not host:port", addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil { // 0 is any free port
		return false, fmt.Errorf("%q: port %q is not a number up to 65535", addr, port)
	}
	if host == "localhost" {
		return true, nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false, nil // a name, or every address: others may reach it
	}
	return ip.IsLoopback(), nil
}

// Bytes is an amount of memory, written as a whole number with one of the units B, KiB, MiB, GiB, or none for bytes.
type Bytes int64

var byteUnits = []struct {
	name string
	size Bytes
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Bytes) UnmarshalText(text []byte) error {
	s, size := strings.TrimSpace(string(text)), Bytes(1)
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			s, size = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > int64(1<<62/size) || n < -int64(1<<62/size) {
		return fmt.Errorf("%q is not a number of bytes such as 512MiB", text)
	}
	*b = Bytes(n) * size
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String writes b in the largest unit that divides it.
func (b Bytes) String() string {
	for _, u := range byteUnits {
		if b != 0 && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return "0"
}
