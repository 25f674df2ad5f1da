package ingest

import (
	"net/netip"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/publicsuffix"

	"faultline/graph"
)

// Bounds of the external nodes of an environment.
const (
	maxExternals = 300 // then hosts are folded to their registrable domains
	maxDomains   = 100 // of those, and then they are all one
)

// externals are the names of external nodes that are in use, by environment. The zero value is ready.
type externals struct {
	mu     sync.Mutex
	names  map[string]map[string]bool
	folded int64
}

// admit returns the name that an external node has where not too many have names of their own: the name itself, the
// domain under which somebody registered it, or "(other)".
func (e *externals) admit(env, name string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	have := e.names[env]
	if have[name] {
		return name
	}
	if len(have) >= maxExternals {
		e.folded++
		if name = registrable(name); have[name] || name == graph.Other {
			return name
		}
		if len(have) >= maxExternals+maxDomains {
			return graph.Other
		}
	}
	if have == nil {
		if e.names == nil {
			e.names = map[string]map[string]bool{}
		}
		have = map[string]bool{}
		e.names[env] = have
	}
	have[name] = true
	return name
}

// keep forgets every name that used does not give.
func (e *externals) keep(used func(add func(env, name string))) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.names = map[string]map[string]bool{}
	used(func(env, name string) {
		if e.names[env] == nil {
			e.names[env] = map[string]bool{}
		}
		e.names[env][name] = true
	})
}

// count returns how often a name was folded.
func (e *externals) count() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.folded
}

// registrable returns the domain under which a host is registered, "(other)" for what is no host of the Internet.
func registrable(name string) string {
	host, _ := splitPort(name, "")
	host = strings.TrimPrefix(host, "*.")
	if _, err := netip.ParseAddr(host); err == nil {
		return graph.Other
	}
	domain, err := publicsuffix.EffectiveTLDPlusOne(host)
	if suffix, icann := publicsuffix.PublicSuffix(host); err != nil || !icann && !strings.Contains(suffix, ".") {
		return graph.Other
	}
	return domain
}

// external folds a host into the name of an external node: lower case, default ports left out, and what is left of a
// label that is an id replaced by a star, so that a thousand tenants of one provider are one node.
func external(host, port string) string {
	host = strings.ToLower(host)
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return withPort(host, port)
	}
	labels := strings.Split(host, ".")
	if store := objectStore(labels); store != "" {
		return store
	}
	for i := len(labels) - 2; i >= 0; i-- {
		if isID(labels[i]) {
			return withPort("*."+strings.Join(labels[i+1:], "."), port)
		}
	}
	return withPort(host, port)
}

func withPort(host, port string) string {
	if port == "" || port == "80" || port == "443" {
		return host
	}
	return host + ":" + port
}

// objectStore names the stores whose hosts begin with the name of a bucket: of S3 the service and its region, as in
// bucket.s3.region.amazonaws.com and its like, of Google's the service. It returns "" for other hosts.
func objectStore(labels []string) string {
	host := strings.Join(labels, ".")
	if strings.HasSuffix(host, ".storage.googleapis.com") {
		return "storage.googleapis.com"
	}
	suffix := strings.TrimSuffix(host, ".cn")
	if !strings.HasSuffix(suffix, ".amazonaws.com") {
		return ""
	}
	labels = labels[:strings.Count(strings.TrimSuffix(suffix, ".amazonaws.com"), ".")+1]
	at := slices.IndexFunc(labels, func(l string) bool { return l == "s3" || strings.HasPrefix(l, "s3-") })
	if at < 0 {
		return ""
	}
	region := slices.DeleteFunc(slices.Clone(labels[at+1:]), func(l string) bool { return l == "dualstack" })
	if old := strings.TrimPrefix(labels[at], "s3-"); old != labels[at] && len(region) == 0 {
		region = []string{old} // s3-region, the older form
	}
	return strings.Join(append([]string{"s3"}, region...), ".")
}

// isID tells labels made by machines: numbers, hexadecimal of eight or more digits with at least one decimal one, UUIDs,
// addresses with dashes.
func isID(label string) bool {
	label = strings.TrimPrefix(label, "ip-")
	digits, hex := 0, 0
	for _, c := range label {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'f':
			hex++
		case c != '-':
			return false
		}
	}
	return digits > 0 && (hex == 0 || digits+hex >= 8)
}
