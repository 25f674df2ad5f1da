package web

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics is the server's own registry.
type metrics struct{ registry *prometheus.Registry }

func newMetrics(s *Server) *metrics {
	return &metrics{registry: prometheus.NewPedanticRegistry()}
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
