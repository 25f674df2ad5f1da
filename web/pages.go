package web

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/a-h/templ"

	"faultline/docs"
	"faultline/graph"
	"faultline/web/page"
	"faultline/web/static"
)

// assets are the same for every page.
var assets = page.Assets{
	Script: static.Path("app.js"), Theme: static.Path("theme.js"), Style: static.Path("app.css"), Icon: static.Path("icon.svg"),
}

// pages mounts the HTML pages and what they load.
func (s *Server) pages() {
	s.mux.Handle("GET "+static.Prefix, static.Handler())
	s.mux.HandleFunc("GET /{$}", s.mapPage)
	s.mux.HandleFunc("GET /doctor", s.doctorPage)
	s.mux.HandleFunc("GET /rules", s.rulesFilePage)
	s.mux.HandleFunc("POST /rules", s.rulesFilePage)
	s.mux.HandleFunc("GET /status", s.statusPage)
	s.mux.HandleFunc("GET /traces/{id}", s.tracePage)
	s.mux.HandleFunc("GET "+docs.Path, s.rulesPage)
	s.mux.HandleFunc("GET "+docs.Path+"/{rule}", s.rulePage)
	s.mux.Handle("GET /favicon.ico", http.RedirectHandler(assets.Icon, http.StatusFound))
}

// mapPage answers with the map's first paint. A parameter that makes no sense is left out, since people edit addresses;
// the browser's half reads the same ones.
func (s *Server) mapPage(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), s.limits.QueryTime)
	defer cancel()
	now := s.now()
	sp, live := pageSpan(s, r)
	if live {
		sp = liveAt(now)
	}
	q := r.URL.Query()
	p := page.Map{Shell: shell("Faultline", "/"), Live: live, Endpoints: s.Endpoints(), Received: s.Counters(), DelayedSince: s.History().DelayedSince}
	m, err := s.mapOf(ctx, sp, q.Get("env"), !q.Has("env"))
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelError, "map page failed", slog.Any("error", err))
		p.Failed = "The map could not be had just now; the log of the server says why."
		m = graph.Map{From: sp.From, To: sp.To, Env: q.Get("env")}
	}
	p.Map = m
	s.html(w, r, http.StatusOK, page.OfMap(p))
}

// ranges are the spans of time that the page offers, as the API reads them.
var ranges = map[string]string{"15m": "15m", "1h": "1h", "6h": "6h", "24h": "24h", "7d": "7d"}

// pageSpan reads range and at; live is true when neither says otherwise.
func pageSpan(s *Server, r *http.Request) (sp span, live bool) {
	q := r.URL.Query()
	length, at := ranges[q.Get("range")], q.Get("at")
	if length == "" && at == "" {
		return span{}, true
	}
	if length == "" {
		length = "15m"
	}
	d, err := parseDuration(length)
	if err != nil {
		return span{}, true
	}
	sp, err = s.spanOf("", at, d, s.now())
	return sp, err != nil
}

func (s *Server) statusPage(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), s.limits.QueryTime)
	defer cancel()
	live := s.hub.status()
	p := page.Status{
		Shell: shell("Status · Faultline", "/status"), Version: s.Version, Started: s.Started, Now: s.now(),
		Received: s.Counters(), History: s.History(), Followers: live.Clients, Cut: live.Cut, Limits: s.InForce,
		Endpoints: s.Endpoints(), RulesErr: s.rulesFile().Error,
	}
	info, err := s.reader.Info(ctx)
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelError, "store does not describe itself", slog.Any("error", err))
		p.StoreErr = "The store does not answer; the log of the server says why."
	}
	p.Store = info
	s.html(w, r, http.StatusOK, page.OfStatus(p))
}

func (s *Server) tracePage(w http.ResponseWriter, r *http.Request) {
	id, err := graph.ParseTraceID(r.PathValue("id"))
	if err != nil {
		s.problemPage(w, r, http.StatusNotFound, "No such trace: "+graph.ErrTraceID.Error()+".")
		return
	}
	s.html(w, r, http.StatusOK, page.OfTrace(page.Trace{Shell: shell("Trace · Faultline", "/traces"), ID: id.String()}))
}

func (s *Server) rulesPage(w http.ResponseWriter, r *http.Request) {
	p := docs.Index()
	s.html(w, r, http.StatusOK, page.OfRule(page.Rule{Shell: shell(p.Title+" · Faultline", docs.Path), Page: p}))
}

func (s *Server) rulePage(w http.ResponseWriter, r *http.Request) {
	p, ok := docs.Rule(r.PathValue("rule"))
	if !ok {
		s.problemPage(w, r, http.StatusNotFound, "There is no rule of that name.")
		return
	}
	s.html(w, r, http.StatusOK, page.OfRule(page.Rule{Shell: shell(p.Title+" · Faultline", docs.Path), Page: p}))
}

// problemPage says an error to a person.
func (s *Server) problemPage(w http.ResponseWriter, r *http.Request, status int, detail string) {
	s.html(w, r, status, page.OfProblem(page.Problem{Shell: shell(http.StatusText(status), ""), Status: status, Detail: detail}))
}

// wantsPage reports whether a browser asks on behalf of a person.
func wantsPage(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html") && !strings.HasPrefix(r.URL.Path, "/api/")
}

func shell(title, here string) page.Shell {
	return page.Shell{Title: title, Here: here, Assets: assets}
}

func (s *Server) html(w http.ResponseWriter, r *http.Request, status int, c templ.Component) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := c.Render(r.Context(), w); err != nil {
		s.log.LogAttrs(r.Context(), slog.LevelDebug, "page not written", slog.Any("error", err))
	}
}
