package collectorext

import (
	"cmp"
	"slices"
	"strings"

	"faultline/internal/app"
)

// endpoint is an address where OTLP is received.
type endpoint struct{ name, url string }

// otlpEndpoints finds, in a Collector's effective configuration, the receivers that its traces pipelines use and that
// have OTLP's protocols.
func otlpEndpoints(conf map[string]any) []endpoint {
	var found []endpoint
	for id, receiver := range section(conf, "receivers") {
		protocols := section(receiver, "protocols")
		if protocols == nil || !used(conf, id) {
			continue
		}
		if addr, ok := section(protocols, "grpc")["endpoint"].(string); ok {
			found = append(found, endpoint{"OTLP/gRPC", app.Reachable(addr)})
		}
		if addr, ok := section(protocols, "http")["endpoint"].(string); ok {
			found = append(found, endpoint{"OTLP/HTTP", "http://" + app.Reachable(addr)})
		}
	}
	slices.SortFunc(found, func(a, b endpoint) int {
		return cmp.Or(strings.Compare(b.name, a.name), strings.Compare(a.url, b.url)) // gRPC first
	})
	return slices.Compact(found)
}

// used reports whether a pipeline for traces has the receiver.
func used(conf map[string]any, receiver string) bool {
	for id, pipeline := range section(section(conf, "service"), "pipelines") {
		p, _ := pipeline.(map[string]any)
		receivers, _ := p["receivers"].([]any)
		if (id == "traces" || strings.HasPrefix(id, "traces/")) && slices.Contains(receivers, any(receiver)) {
			return true
		}
	}
	return false
}

// section returns the map under a key, nil when there is none.
func section(in any, key string) map[string]any {
	m, _ := in.(map[string]any)
	sub, _ := m[key].(map[string]any)
	return sub
}
