package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"faultline/graph"
	"faultline/graph/doctor"
	"faultline/internal/rules"
	"faultline/storage"
	"faultline/web/page"
)

// Settings is what a Server is made of. Reader is required; everything else has a working zero value.
type Settings struct {
	// Reader answers for what is in memory and what is stored alike: the server does not know the difference.
	Reader storage.Reader
	// Counters returns what became of the spans so far; nil in a process that takes none in.
	Counters func() graph.Counters
	// Doctor returns how services are instrumented; nil in a process that does not know.
	Doctor func(ctx context.Context) (doctor.Report, error)
	// History returns how keeping goes; nil in a process that keeps nothing.
	History func() History
	// Learned returns what is known of an edge, by its id, from longer ago than an answer reaches; nil in a process that
	// judges nothing.
	Learned func(edge string) Learned
	// Criticality returns how critical a service says that it is; nil where nobody knows.
	Criticality func(n graph.Node) graph.Criticality
	// Biased reports whether spans of a service are kept or left out by how their traces end; nil where nobody knows.
	Biased func(n graph.Node) bool
	// Ready returns nil when the process can do its work, or why it cannot; nil means always.
	Ready func() error
	// Now is the clock; nil means time.Now. Started is when the process started; zero means when New was called.
	Now     func() time.Time
	Started time.Time
	// Version is the program's.
	Version string
	// Listen is the address that the server is reached at, host:port; its host is allowed as Host of a request.
	// An unspecified host, such as 0.0.0.0, allows every IP address, which no foreign site can bind a name to.
	Listen string
	// ExternalURL is the base of links from outside; its host is allowed too. Empty means http://Listen.
	ExternalURL string
	// Rules returns the state of the rules file; nil in a process that takes no spans in.
	Rules func() rules.State
	// Endpoints returns where this process takes spans in, for telling people who have sent none; nil in a process
	// that takes none in.
	Endpoints func() Endpoints
	// AuthToken, when set, is asked for by everything but the probes.
	AuthToken Secret
	// Limits bounds the server; zero fields are those of DefaultLimits.
	Limits Limits
	// InForce are limits of the rest of the process, by name, for the status page.
	InForce map[string]int64
	Logger  *slog.Logger
}

// Learned is what is known of an edge from longer ago than an answer reaches.
type Learned struct {
	Ceiling float64 // most calls in flight so far that went well, 0 when it is not known
	Backlog float64 // messages that wait in the queue, 0 when none do or it is not known
}

// Endpoints are the addresses where spans are taken in, as an exporter wants them: "http://127.0.0.1:4317".
type Endpoints = page.Endpoints

// Limits bounds what one server does for its clients.
type Limits struct {
	QueryTime       time.Duration // one answer
	Range           time.Duration // the longest span of time that can be asked for
	Points          int           // of one series
	Traces          int           // of one list
	Clients         int           // WebSocket clients in all
	ClientsPerAddr  int           // WebSocket clients of one address
	Views           int           // different maps that are followed at once: environments, neighbourhoods
	MetricEdges     int           // edges with metrics of their own; the surplus is summed under "(other)"
	FailedLogins    int           // per address and minute
	MaxMessageBytes int64         // of a client's WebSocket message
}

// DefaultLimits returns the limits of docs/limits.
func DefaultLimits() Limits {
	return Limits{
		QueryTime: 10 * time.Second, Range: 400 * 24 * time.Hour, Points: 2000, Traces: 1000, Clients: 2000,
		ClientsPerAddr: 50, Views: 256, MetricEdges: 2000, FailedLogins: 10, MaxMessageBytes: 4 << 10,
	}
}

// withDefaults fills in what is not set and reports what cannot work.
func (s Settings) withDefaults() (Settings, error) {
	if s.Reader == nil {
		return s, errors.New("web: no reader")
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Started.IsZero() {
		s.Started = s.Now()
	}
	if s.Version == "" {
		s.Version = "dev"
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.Counters == nil {
		s.Counters = func() graph.Counters { return graph.Counters{} }
	}
	if s.History == nil {
		s.History = func() History { return History{} }
	}
	if s.Doctor == nil {
		s.Doctor = func(context.Context) (doctor.Report, error) { return doctor.Report{}, nil }
	}
	if s.Rules == nil {
		s.Rules = func() rules.State { return rules.State{} }
	}
	if s.Endpoints == nil {
		s.Endpoints = func() Endpoints { return Endpoints{} }
	}
	if s.Ready == nil {
		s.Ready = func() error { return nil }
	}
	if s.ExternalURL != "" {
		u, err := url.Parse(s.ExternalURL)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return s, fmt.Errorf("external URL %q: want http:// or https:// and a host", s.ExternalURL)
		}
	}
	d := DefaultLimits()
	l := &s.Limits
	l.QueryTime, l.Range = orDefault(l.QueryTime, d.QueryTime), orDefault(l.Range, d.Range)
	l.Points, l.Traces = orDefault(l.Points, d.Points), orDefault(l.Traces, d.Traces)
	l.Clients, l.ClientsPerAddr = orDefault(l.Clients, d.Clients), orDefault(l.ClientsPerAddr, d.ClientsPerAddr)
	l.Views, l.MetricEdges = orDefault(l.Views, d.Views), orDefault(l.MetricEdges, d.MetricEdges)
	l.FailedLogins = orDefault(l.FailedLogins, d.FailedLogins)
	l.MaxMessageBytes = orDefault(l.MaxMessageBytes, d.MaxMessageBytes)
	return s, nil
}

func orDefault[T int | int64 | time.Duration](v, d T) T {
	if v <= 0 {
		return d
	}
	return v
}

// Secret is a text that prints as <redacted> wherever it gets to.
type Secret string

const redacted = "<redacted>"

// String hides the secret; an empty one is shown as such.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText hides the secret from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the secret from loggers.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
