package web

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"faultline/graph"
	"faultline/graph/doctor"
	"faultline/web/page"
)

// Doctor is how services are instrumented.
type Doctor struct {
	At            *time.Time         `json:"at" doc:"The end of the hour that it is about; null when nothing is known"`
	Env           *string            `json:"env" doc:"The environment asked for; null for all"`
	Served        int64              `json:"served" doc:"Calls that those who served them saw, as spans that came"`
	UntracedShare *float64           `json:"untraced_share" doc:"The part of them whose callers send no spans; null when there are none"`
	Services      []DiagnosedService `json:"services" nullable:"false" doc:"The worst first"`
}

// DiagnosedService is how one service is instrumented.
type DiagnosedService struct {
	ID            string          `json:"id" example:"shop/checkout"`
	Env           string          `json:"env"`
	Score         *int            `json:"score" doc:"0–100: 100 less the points of the findings; null when there are too few spans to tell"`
	SDK           *SDK            `json:"sdk" doc:"Of the process that sent last; null when it does not say"`
	Spans         int64           `json:"spans" doc:"As they came"`
	SpansPerBatch *float64        `json:"spans_per_request" doc:"How many spans a request brought on average"`
	Lateness      *float64        `json:"lateness_ms" doc:"From a span's end to its arrival, in the median"`
	LastSeen      *time.Time      `json:"last_seen"`
	Findings      []DoctorFinding `json:"findings" nullable:"false" doc:"What costs most first"`
}

// SDK is what sends a service's spans.
type SDK struct {
	Language string `json:"language" example:"java"`
	Version  string `json:"version" example:"1.58.0"`
}

// DoctorFinding is something that is wrong with a service's spans.
type DoctorFinding struct {
	Rule     string  `json:"rule" doc:"Its name, and that of its page in docs/rules" example:"broken_propagation"`
	Level    string  `json:"level" enum:"note,warn,severe"`
	Peer     *string `json:"peer" doc:"The other service, where it is about two" example:"shop/payment"`
	Share    float64 `json:"share" doc:"The part of n that it is about"`
	N        int64   `json:"n" doc:"Observations that it rests on, unweighted"`
	Points   int     `json:"points" doc:"What it takes off the score"`
	Sentence string  `json:"sentence" doc:"What was seen; what is to be typed stands between backquotes"`
	Effect   string  `json:"effect" doc:"What is missing or odd on the map because of it"`
	Fix      string  `json:"fix" doc:"What to do, for the language of the service"`
}

// DoctorEnv is the parameter env, absent for all environments.
type DoctorEnv struct {
	Env string `query:"env" doc:"Environment; absent for all" maxLength:"256"`
	set bool
}

// Resolve finds out whether env is present.
func (e *DoctorEnv) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	e.set = u.Query().Has("env")
	return nil
}

var _ huma.Resolver = (*DoctorEnv)(nil)

type doctorOutput struct{ Body Doctor }

func (s *Server) doctor(ctx context.Context, in *DoctorEnv) (*doctorOutput, error) {
	report, err := s.Doctor(ctx)
	if err != nil {
		return nil, err
	}
	d := Doctor{At: timeOrNil(report.At)}
	if in.set {
		d.Env = &in.Env
		report = report.In(in.Env)
	}
	if d.Served = report.Served; d.Served > 0 {
		untraced := report.UntracedShare()
		d.UntracedShare = &untraced
	}
	d.Services = make([]DiagnosedService, len(report.Services))
	for i := range report.Services {
		d.Services[i] = newDiagnosedService(&report.Services[i])
	}
	return &doctorOutput{d}, nil
}

func newDiagnosedService(d *doctor.Diagnosis) DiagnosedService {
	out := DiagnosedService{
		ID: d.Service.ID(), Env: d.Service.Env, Spans: d.Spans, LastSeen: timeOrNil(d.Last), Findings: make([]DoctorFinding, len(d.Findings)),
	}
	if d.Judged {
		out.Score = &d.Score
	}
	if d.Language != "" || d.SDK != "" {
		out.SDK = &SDK{Language: d.Language, Version: d.SDK}
	}
	if d.Requests > 0 {
		per, late := float64(d.Spans)/float64(d.Requests), d.Lateness.Seconds()*1e3
		out.SpansPerBatch, out.Lateness = &per, &late
	}
	for i := range d.Findings {
		f := &d.Findings[i]
		out.Findings[i] = DoctorFinding{
			Rule: f.Rule, Level: f.Level.String(), Share: f.Share, N: f.N, Points: f.Points, Sentence: f.Sentence, Effect: f.Effect, Fix: f.Fix,
		}
		if f.Peer != (graph.Node{}) {
			id := f.Peer.ID()
			out.Findings[i].Peer = &id
		}
	}
	return out
}

// doctorPage shows the same to people.
func (s *Server) doctorPage(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), s.limits.QueryTime)
	defer cancel()
	q := r.URL.Query()
	p := page.Doctor{Shell: shell("Doctor · Faultline", "/doctor"), Now: s.now(), Endpoints: s.Endpoints(), Env: q.Get("env"), All: !q.Has("env")}
	report, err := s.Doctor(ctx)
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelError, "doctor page failed", slog.Any("error", err))
		p.Failed = "How services are instrumented could not be had just now; the log of the server says why."
	}
	for i := range report.Services {
		if env := report.Services[i].Service.Env; !slices.Contains(p.Envs, env) {
			p.Envs = append(p.Envs, env)
		}
	}
	slices.SortFunc(p.Envs, strings.Compare)
	if p.Report = report; !p.All {
		p.Report = report.In(p.Env)
	}
	s.html(w, r, http.StatusOK, page.OfDoctor(p))
}
