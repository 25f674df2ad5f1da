package web

import (
	"encoding/json"
	"net/http"
)

// documents mounts the API's description, for programs and for people.
func (s *Server) documents() {
	s.mux.HandleFunc("GET /api/openapi.json", func(w http.ResponseWriter, r *http.Request) {
		b, err := json.MarshalIndent(s.api.OpenAPI(), "", "  ")
		if err != nil {
			problem(w, http.StatusInternalServerError, "The document could not be written.")
			return
		}
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(b)
	})
}
