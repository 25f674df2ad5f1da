package web

import (
	"context"
	"log/slog"
	"maps"
	"time"

	"faultline/graph"
	"faultline/storage"
	"faultline/web/page"
)

// Status is how the process is doing.
type Status struct {
	Version   string           `json:"version"`
	StartedAt time.Time        `json:"started_at"`
	UptimeS   float64          `json:"uptime_s"`
	Now       time.Time        `json:"now"`
	Ready     bool             `json:"ready"`
	Reason    string           `json:"reason,omitempty" doc:"Why it is not ready"`
	Endpoints EndpointStatus   `json:"endpoints" doc:"Where spans are taken in, as an exporter wants it; empty in a process that takes none in"`
	Ingestion Ingestion        `json:"ingestion"`
	Store     StoreStatus      `json:"store"`
	Live      LiveStatus       `json:"live"`
	RulesErr  string           `json:"rules_error,omitempty" doc:"Why the rules file is not in force: the rules before it are"`
	Limits    map[string]int64 `json:"limits" doc:"Limits in force; those of time in seconds"`
}

// EndpointStatus are the addresses where spans are taken in: "http://127.0.0.1:4317".
type EndpointStatus struct {
	GRPC string `json:"grpc" example:"http://127.0.0.1:4317"`
	HTTP string `json:"http" example:"http://127.0.0.1:4318"`
}

// Ingestion is what became of the spans that were offered since the process started: received = accepted + refused;
// what is dropped was accepted first.
type Ingestion struct {
	Received     int64            `json:"received"`
	Accepted     int64            `json:"accepted"`
	Refused      map[string]int64 `json:"refused" doc:"By reason"`
	Requests     map[string]int64 `json:"requests" doc:"By outcome"`
	Dropped      map[string]int64 `json:"dropped" doc:"By reason"`
	Unpaired     map[string]int64 `json:"unpaired" doc:"Halves of calls that stayed alone, by kind and reason, as client_external"`
	Traces       map[string]int64 `json:"traces" doc:"Roots of traces, by whether what is below them was looked at together"`
	NegativeGaps int64            `json:"negative_gaps" doc:"Calls whose callee took longer than its caller, who had not left: the gap between them counts as 0"`
	Late         int64            `json:"late" doc:"Halves that came after their edge had been shown provisionally"`
	Pending      int64            `json:"pending" doc:"Spans that wait for their other half"`
	PendingBytes int64            `json:"pending_bytes"`
	LastSpan     *time.Time       `json:"last_span"`
	Senders      []Sender         `json:"senders" nullable:"false" doc:"The most recent first"`
}

// Sender is a service that sent spans.
type Sender struct {
	Service  string    `json:"service"`
	Env      string    `json:"env"`
	SDK      *string   `json:"sdk"`
	Spans    int64     `json:"spans"`
	LastSeen time.Time `json:"last_seen"`
}

// StoreStatus is how the store is doing.
type StoreStatus struct {
	Kind         string           `json:"kind"`
	Reachable    bool             `json:"reachable"`
	Bytes        int64            `json:"bytes"`
	Oldest       *time.Time       `json:"oldest"`
	Newest       *time.Time       `json:"newest"`
	Windows      int64            `json:"windows"`
	Traces       int64            `json:"traces"`
	Retention    RetentionStatus  `json:"retention"`
	DelayedSince *time.Time       `json:"delayed_since" doc:"History is delayed since then: the store takes nothing"`
	LastError    string           `json:"last_error,omitempty"`
	LastWrite    *time.Time       `json:"last_write"`
	Waiting      int              `json:"waiting" doc:"Parts of windows that the store has yet to take"`
	Dropped      map[string]int64 `json:"dropped,omitempty" doc:"What the store failed to take for too long, by reason"`
}

// RetentionStatus says how long each tier is kept, in seconds.
type RetentionStatus struct {
	Fine   float64 `json:"fine_s"`
	Minute float64 `json:"minute_s"`
	Hour   float64 `json:"hour_s"`
	Traces float64 `json:"traces_s"`
}

// LiveStatus is who follows the live map.
type LiveStatus struct {
	Clients int              `json:"clients"`
	Views   int              `json:"views" doc:"Different maps that are followed"`
	Cut     map[string]int64 `json:"cut" doc:"Clients cut or refused, by reason"`
}

// History is how keeping goes.
type History = page.History

type statusOutput struct{ Body Status }

func (s *Server) status(ctx context.Context, _ *struct{}) (*statusOutput, error) {
	now := s.now()
	st := Status{
		Version: s.Version, StartedAt: s.Started.UTC(), UptimeS: now.Sub(s.Started).Seconds(), Now: now.UTC(), Ready: true,
		Endpoints: EndpointStatus(s.Endpoints()), Ingestion: newIngestion(s.Counters()), Live: s.hub.status(), Limits: s.inForce(), RulesErr: s.rulesFile().Error,
	}
	if err := s.Ready(); err != nil {
		st.Ready, st.Reason = false, err.Error()
	}
	info, err := s.reader.Info(ctx)
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelError, "store cannot be asked", slog.Any("error", err))
	}
	st.Store = newStoreStatus(info, err == nil, s.History())
	return &statusOutput{st}, nil
}

func newIngestion(c graph.Counters) Ingestion {
	in := Ingestion{
		Received: c.Received, Accepted: c.Accepted, Refused: orEmpty(c.Refused), Requests: orEmpty(c.Requests), Dropped: orEmpty(c.Dropped),
		Unpaired: orEmpty(c.Unpaired), Traces: orEmpty(c.Traces), NegativeGaps: c.NegativeGaps, Late: c.Late, Pending: c.Pending, PendingBytes: c.Bytes, LastSpan: timeOrNil(c.LastSpan),
		Senders: make([]Sender, len(c.Senders)),
	}
	for i, sender := range c.Senders {
		in.Senders[i] = Sender{Service: sender.Node.ID(), Env: sender.Node.Env, Spans: sender.Spans, LastSeen: sender.LastSeen.UTC()}
		if sender.SDK != "" {
			in.Senders[i].SDK = &sender.SDK
		}
	}
	return in
}

func newStoreStatus(info storage.Info, reachable bool, h History) StoreStatus {
	r := info.Retention
	return StoreStatus{
		Kind: info.Kind, Reachable: reachable, Bytes: info.Bytes, Oldest: timeOrNil(info.Oldest), Newest: timeOrNil(info.Newest),
		Windows: info.Windows, Traces: info.Traces,
		Retention:    RetentionStatus{r.Fine.Seconds(), r.Minute.Seconds(), r.Hour.Seconds(), r.Traces.Seconds()},
		DelayedSince: timeOrNil(h.DelayedSince), LastError: h.LastError, LastWrite: timeOrNil(h.LastWrite), Waiting: h.Waiting, Dropped: h.Dropped,
	}
}

// inForce returns the server's limits and those of the rest of the process.
func (s *Server) inForce() map[string]int64 {
	l := s.limits
	limits := map[string]int64{
		"query_time": int64(l.QueryTime / time.Second), "range": int64(l.Range / time.Second), "series_points": int64(l.Points),
		"traces": int64(l.Traces), "live_clients": int64(l.Clients), "live_clients_per_address": int64(l.ClientsPerAddr),
		"live_views": int64(l.Views), "metric_edges": int64(l.MetricEdges), "failed_logins": int64(l.FailedLogins),
		"map_nodes": graph.MaxMapNodes, "map_edges": graph.MaxMapEdges,
	}
	maps.Copy(limits, s.InForce)
	return limits
}

func orEmpty(m map[string]int64) map[string]int64 {
	if m == nil {
		return map[string]int64{}
	}
	return m
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
