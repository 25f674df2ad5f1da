//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"faultline/internal/sim"
)

// countWrongEdges asks for the graph until it shows the true counts of that
// many passes on every edge, for at most 30 seconds, and returns on how many
// edges it does not. A server that is fast because it loses calls must not win.
func countWrongEdges(ctx context.Context, url string, truth *sim.Truth, passes int64) (int, error) {
	for deadline := time.Now().Add(30 * time.Second); ; {
		shown, err := fetchGraph(ctx, url)
		if err != nil {
			return 0, err
		}
		wrong := wrongEdges(shown, truth, passes)
		if wrong == 0 || time.Now().After(deadline) {
			return wrong, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func wrongEdges(shown map[sim.Edge]counts, truth *sim.Truth, passes int64) int {
	wrong := 0
	for _, e := range truth.Edges() {
		want := truth.Edge(e)
		if shown[e] != (counts{want.Calls * passes, want.Errors * passes, want.Retries * passes}) {
			wrong++
		}
		delete(shown, e)
	}
	for e := range shown {
		if e.Source != probeCaller {
			wrong++
		}
	}
	return wrong
}

type counts struct{ calls, errors, retries int64 }

func fetchGraph(ctx context.Context, url string) (map[sim.Edge]counts, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"?from=now-1h&to=now&env="+environment, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	var graph struct {
		Edges []struct {
			Source, Target, Protocol string
			Calls, Errors, Retries   float64
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&graph); err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	shown := map[sim.Edge]counts{}
	for _, e := range graph.Edges {
		shown[sim.Edge{Source: e.Source, Target: e.Target, Protocol: e.Protocol}] = counts{int64(e.Calls), int64(e.Errors), int64(e.Retries)}
	}
	return shown, nil
}
