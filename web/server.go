// Package web turns the graph into JSON, pushes and pages: the HTTP API of docs/api, the WebSocket that the live map
// follows, metrics, probes, and the mounting points of the pages.
//
// New builds a Server and starts nothing; Start starts the goroutine that pushes the live map, Stop ends it, cuts every
// WebSocket and waits. Handler is safe for concurrent use and may serve before Start. A client is told what is wrong in
// RFC 9457 problem documents; nothing that it sends makes a 5xx. A slow client is dropped and never holds up another.
// The package does not listen, terminate TLS or keep anything: whatever it shows it asks of a storage.Reader.
package web

import (
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"faultline/storage"
)

// Server answers requests. Make it with New.
type Server struct {
	Settings
	reader    storage.Reader
	now       func() time.Time
	limits    Limits
	log       *slog.Logger
	hosts     map[string]bool
	anyIP     bool
	logins    failedLogins
	mux       *http.ServeMux
	api       huma.API
	handler   http.Handler
	baselines baselines
	places    places
	found     recentFindings
	hub       *hub
	metrics   *metrics
	stop      func()
	running   sync.WaitGroup
}

// New returns a server, or an error that says which setting cannot work.
func New(settings Settings) (*Server, error) {
	settings, err := settings.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{Settings: settings, reader: settings.Reader, now: settings.Now, limits: settings.Limits, log: settings.Logger}
	s.hosts, s.anyIP = allowedHosts(settings)
	s.hub = newHub(s)
	if s.metrics, err = newMetrics(s); err != nil {
		return nil, err
	}
	s.mux = http.NewServeMux()
	if err := s.routes(); err != nil {
		return nil, err
	}
	s.handler = s.guard(s.mux)
	return s, nil
}

// Handler returns what answers requests: the guard against strangers, then the routes.
func (s *Server) Handler() http.Handler { return s.handler }

// Start begins to push the live map. It must be called once.
func (s *Server) Start() {
	done := make(chan struct{})
	s.stop = sync.OnceFunc(func() { close(done) })
	s.running.Go(func() { s.hub.run(done) })
	s.running.Go(func() { s.metrics.edges.run(done) })
}

// Stop ends the pushes, closes every WebSocket, and waits until nothing runs any more. It may be called again.
func (s *Server) Stop() {
	if s.stop != nil {
		s.stop()
	}
	s.hub.close()
	s.running.Wait()
}

// slashes marks an operation whose last path parameter may contain slashes.
const slashes = "slashes"

// adapter gives the operations marked with slashes the rest of the path, so that an id such as
// db:postgresql/orders@db1 may come raw as well as percent-encoded.
type adapter struct{ huma.Adapter }

func (a adapter) Handle(op *huma.Operation, handler func(huma.Context)) {
	if op.Metadata[slashes] == true {
		rest := *op
		rest.Path = op.Path[:len(op.Path)-1] + "...}"
		op = &rest
	}
	a.Adapter.Handle(op, handler)
}

// routes is the whole surface of the server.
func (s *Server) routes() error {
	config := huma.DefaultConfig("Faultline", s.Version)
	config.Info.Description = "The live dependency graph of your services. Times are RFC 3339; from and to also accept now-15m. " +
		"Rates are per second, ratios 0–1, latencies in milliseconds. What is not known is null, never 0."
	config.AllowAdditionalPropertiesByDefault = true // fields may be added
	s.describeToken(config.OpenAPI)
	config.OpenAPIPath, config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", "", nil
	s.api = huma.NewAPI(config, adapter{humago.NewAdapter(s.mux, "")})
	s.operations()
	if err := s.documents(); err != nil {
		return err
	}
	s.mux.HandleFunc("GET /api/v1/live", s.live)
	s.mux.Handle("GET /metrics", s.metrics.handler())
	for _, path := range []string{"/healthz", "/-/healthy"} {
		s.mux.HandleFunc("GET "+path, s.healthy)
	}
	for _, path := range []string{"/readyz", "/-/ready"} {
		s.mux.HandleFunc("GET "+path, s.ready)
	}
	s.pages()
	s.mux.HandleFunc("/", s.unknown)
	return nil
}

// unknown answers for what no route does: 405 when another method would have one, 404 otherwise.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	if allowed := s.allowed(r); len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		problem(w, http.StatusMethodNotAllowed, "This address takes "+strings.Join(allowed, ", ")+".")
		return
	}
	const nothing = "There is nothing at this address."
	if wantsPage(r) {
		s.problemPage(w, r, http.StatusNotFound, nothing)
		return
	}
	problem(w, http.StatusNotFound, nothing)
}

// allowed returns the methods that a request's address takes.
func (s *Server) allowed(r *http.Request) (methods []string) {
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := s.mux.Handler(other); pattern != "/" && pattern != "" {
			methods = append(methods, method)
		}
	}
	return methods
}

// healthy says that the process lives and answers.
func (s *Server) healthy(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte("ok\n"))
}

// ready says whether the process can do its work.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if err := s.Ready(); err != nil {
		w.Header().Set("Retry-After", "1")
		problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	s.healthy(w, r)
}

// address returns the client's address without port, as far as the connection tells.
func address(r *http.Request) string {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return at.Addr().Unmap().String()
}
