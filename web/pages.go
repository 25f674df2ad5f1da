package web

import "net/http"

// pages mounts the HTML pages. Whoever comes without a path is shown what the API offers.
func (s *Server) pages() {
	s.mux.Handle("GET /{$}", http.RedirectHandler("/api/docs", http.StatusFound))
}
