package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// csp lets a page load what this server serves, and nothing else; no script or style may stand in the page itself.
const csp = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
	"manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// open are the paths that probes of a machine ask for, by whatever name they know us and without a token.
var open = map[string]bool{"/healthz": true, "/readyz": true, "/-/healthy": true, "/-/ready": true}

// guard refuses unknown hosts and strangers, and sets the headers that every answer carries. It need not tell the writes
// of other sites' pages from ours, since no request changes anything.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", csp)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if strings.HasPrefix(r.URL.Path, "/api/") {
			h.Set("Cache-Control", "no-store")
		}
		if !open[r.URL.Path] {
			if !s.hostAllowed(r.Host) {
				problem(w, http.StatusMisdirectedRequest, "This server is not known by that name; its configuration says by which it is.")
				return
			}
			if !s.authenticated(w, r) {
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// allowedHosts returns the host names, without port, that requests may name, and whether any IP address will do.
func allowedHosts(s Settings) (hosts map[string]bool, anyIP bool) {
	hosts = map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true}
	if host, _, err := net.SplitHostPort(s.Listen); err == nil {
		ip, err := netip.ParseAddr(host)
		anyIP = host == "" || err == nil && ip.IsUnspecified()
		if !anyIP {
			hosts[canonicalHost(host)] = true
		}
	}
	if u, err := url.Parse(s.ExternalURL); err == nil && u.Host != "" {
		hosts[canonicalHost(u.Host)] = true
	}
	return hosts, anyIP
}

// externalOrigin returns the origin of the pages at the address that people use, "" when none is set.
func externalOrigin(s Settings) string {
	u, err := url.Parse(s.ExternalURL)
	if err != nil || u.Host == "" {
		return ""
	}
	return strings.ToLower(u.Scheme + "://" + u.Host)
}

// ownPage reports whether a WebSocket is opened by a page of ours, or by no page: its origin is the host that the request
// names, or the address that people use, which a proxy in front need not pass on.
func (s *Server) ownPage(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host) || strings.ToLower(origin) == externalOrigin(s.Settings)
}

// canonicalHost returns host in lower case, without port, brackets and final dot.
func canonicalHost(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

func (s *Server) hostAllowed(host string) bool {
	host = canonicalHost(host)
	if s.hosts[host] || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && (ip.IsLoopback() || s.anyIP)
}

// session is the cookie that stands for the token once a browser has shown it: not every browser sends what its user
// typed into a password dialog along with a WebSocket's handshake.
const session = "faultline_session"

// sessionLength is how long a browser is remembered.
const sessionLength = 12 * time.Hour

// authenticated reports whether the request shows the token: as a bearer token, as the password of any user, or by the
// session of one who did. Otherwise it has answered.
func (s *Server) authenticated(w http.ResponseWriter, r *http.Request) bool {
	if s.AuthToken == "" {
		return true
	}
	now := s.now()
	if c, err := r.Cookie(session); err == nil && s.validSession(c.Value, now) {
		return true
	}
	from := address(r)
	given, isBasic, shown := credentials(r)
	if shown && s.logins.blocked(from, now, s.limits.FailedLogins) {
		w.Header().Set("Retry-After", "60")
		problem(w, http.StatusTooManyRequests, "Too many wrong tokens from this address; wait a minute.")
		return false
	}
	if shown && equal(given, string(s.AuthToken)) {
		if isBasic {
			http.SetCookie(w, &http.Cookie{
				Name: session, Value: s.newSession(now.Add(sessionLength)), Path: "/", HttpOnly: true,
				SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil || strings.HasPrefix(s.ExternalURL, "https:"),
			})
		}
		return true
	}
	if shown {
		s.logins.failed(from, now)
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="Faultline: any user, the token as password", charset="UTF-8"`)
	w.Header().Add("WWW-Authenticate", `Bearer realm="Faultline"`)
	problem(w, http.StatusUnauthorized, "This server asks for its token: as a bearer token, or as the password of any user.")
	return false
}

// credentials returns what the request shows as a token.
func credentials(r *http.Request) (token string, isBasic, shown bool) {
	if _, password, ok := r.BasicAuth(); ok {
		return password, true, true
	}
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token), false, true
	}
	return "", false, false
}

// equal compares in a time that depends on neither text.
func equal(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// newSession returns a cookie's value that is valid until end: the time, and a keyed hash of it.
func (s *Server) newSession(end time.Time) string {
	text := strconv.FormatInt(end.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(s.AuthToken))
	mac.Write([]byte("faultline session until " + text))
	return text + "." + hex.EncodeToString(mac.Sum(nil))
}

func (s *Server) validSession(value string, now time.Time) bool {
	text, _, _ := strings.Cut(value, ".")
	seconds, err := strconv.ParseInt(text, 10, 64)
	return err == nil && now.Unix() < seconds && equal(value, s.newSession(time.Unix(seconds, 0)))
}

// failedLogins counts wrong tokens per address and minute. It is bounded: whoever exceeds the bound with ever new
// addresses is counted as one. It is safe for concurrent use.
type failedLogins struct {
	mu     sync.Mutex
	minute int64
	counts map[string]int
}

const maxLoginAddresses = 10_000

func (f *failedLogins) key(from string, now time.Time) string {
	if minute := now.Unix() / 60; minute != f.minute || f.counts == nil {
		f.minute, f.counts = minute, map[string]int{}
	}
	if _, known := f.counts[from]; !known && len(f.counts) >= maxLoginAddresses {
		return ""
	}
	return from
}

func (f *failedLogins) failed(from string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := f.key(from, now)
	f.counts[key]++
}

func (f *failedLogins) blocked(from string, now time.Time, limit int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := f.key(from, now)
	return f.counts[key] >= limit
}
