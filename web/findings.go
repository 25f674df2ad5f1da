package web

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"faultline/graph"
	"faultline/storage"
)

// Finding is something that goes wrong, by name, where it stands among the findings of an edge or a node.
type Finding struct {
	Rule     string    `json:"rule" doc:"Its name, the same for ever: docs/rules has a page for each" example:"retry_budget"`
	Level    string    `json:"level" enum:"note,warn,severe"`
	Subject  string    `json:"subject" doc:"The part that it is about, as an instance, a zone, a version, a cause; empty when it is about the whole"`
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until" doc:"When it was last found; over when that lies back"`
	Sentence string    `json:"sentence" doc:"What is wrong, with its figures"`
	Value    *float64  `json:"value" doc:"The rule's one figure, in the unit that its page says"`
	N        int64     `json:"n" doc:"Observations that it rests on, unweighted"`
	Example  *string   `json:"example,omitempty" doc:"Id of a trace of the time in which it was found that shows it; told in the answer about one edge, edges/{id}"`
	Examples []string  `json:"examples,omitempty" nullable:"false" doc:"Of unsafe_retry the ids of traces of that time that were kept because something was retried, by POST or PATCH without an Idempotency-Key, to be looked through: the newest first, at most 20; told with example"`
}

func newFinding(f *graph.Finding) Finding {
	return Finding{
		Rule: f.Rule, Level: f.Level.String(), Subject: f.Subject, Since: f.Since.UTC(), Until: f.Until.UTC(),
		Sentence: f.Sentence, Value: number(f.Value), N: f.N,
	}
}

func newFindings(list []*graph.Finding) []Finding {
	out := make([]Finding, len(list))
	for i, f := range list {
		out[i] = newFinding(f)
	}
	return out
}

// PlacedFinding is a finding with where it is: on an edge, or at a node.
type PlacedFinding struct {
	Finding
	Env    string  `json:"env"`
	Edge   *string `json:"edge" doc:"Edge id"`
	Source *string `json:"source" doc:"Id of the edge's calling node"`
	Target *string `json:"target" doc:"Id of the edge's called node"`
	Node   *string `json:"node" doc:"Node id, of a finding that is not on an edge"`

	Criticality *string `json:"criticality" doc:"critical, high, medium or low, by service.criticality: of the node, or of the more critical end of the edge"`
}

func newPlacedFinding(f *graph.Finding, weight graph.Criticality) PlacedFinding {
	p := PlacedFinding{Finding: newFinding(f), Env: f.Env()}
	if f.Edge != (graph.EdgeKey{}) {
		edge, source, target := f.Edge.ID(), f.Edge.Source.ID(), f.Edge.Target.ID()
		p.Edge, p.Source, p.Target = &edge, &source, &target
	} else {
		node := f.Node.ID()
		p.Node = &node
	}
	p.Criticality = criticality(weight)
	return p
}

// weight returns how critical the service is at which a finding is, or the more critical end of its edge.
func (s *Server) weight(f *graph.Finding) graph.Criticality {
	switch {
	case s.Criticality == nil:
		return graph.CriticalityUnknown
	case f.Edge != (graph.EdgeKey{}):
		return max(s.Criticality(f.Edge.Source), s.Criticality(f.Edge.Target))
	}
	return s.Criticality(f.Node)
}

// criticality returns a criticality's name, nil where it is not known.
func criticality(c graph.Criticality) *string {
	if c == graph.CriticalityUnknown {
		return nil
	}
	name := c.String()
	return &name
}

// Findings is the answer to what went wrong.
type Findings struct {
	From      time.Time       `json:"from"`
	To        time.Time       `json:"to"`
	Findings  []PlacedFinding `json:"findings" nullable:"false" doc:"Newest first, unless order says otherwise"`
	Truncated bool            `json:"truncated" doc:"There are more than are shown"`
}

type findingsInput struct {
	Times
	Environment
	Rule    string `query:"rule" doc:"Name of a rule" maxLength:"64"`
	Edge    string `query:"edge" doc:"Edge id" maxLength:"64"`
	Service string `query:"service" doc:"Id of a node: what is found at it, and on the edges that begin or end there" maxLength:"2048"`
	Order   string `query:"order" doc:"worst: the loudest first, of those the ones at the most critical services, of those the newest" enum:"newest,worst" default:"newest"`
	Level   string `query:"level" doc:"At least this loud" enum:"note,warn,severe"`
}

type findingsOutput struct{ Body Findings }

func (s *Server) findings(ctx context.Context, in *findingsInput) (*findingsOutput, error) {
	sp, err := s.spanOf(in.From, in.To, defaultSpan, s.now())
	if err != nil {
		return nil, err
	}
	found, err := s.reader.Findings(ctx, storage.FindingQuery{
		From: sp.From, To: sp.end(), Env: in.Env, HasEnv: in.set, Edge: in.Edge, Node: in.Service, Rule: in.Rule, Limit: storage.MaxFindings,
	})
	if err != nil {
		return nil, err
	}
	out := Findings{From: sp.From, To: sp.To, Findings: []PlacedFinding{}, Truncated: len(found) == storage.MaxFindings}
	least := graph.ParseLevel(in.Level)
	type weighed struct {
		*graph.Finding
		weight graph.Criticality
	}
	var shown []weighed
	for i := range found {
		if f := &found[i]; f.Level >= least {
			shown = append(shown, weighed{f, s.weight(f)})
		}
	}
	if in.Order == "worst" {
		slices.SortStableFunc(shown, func(a, b weighed) int {
			return cmp.Or(cmp.Compare(b.Level, a.Level), cmp.Compare(b.weight, a.weight))
		})
	}
	for _, f := range shown {
		out.Findings = append(out.Findings, newPlacedFinding(f.Finding, f.weight))
	}
	return &findingsOutput{out}, nil
}

// openSpan is how far back a finding was last found that is still open: a live map has those of that span.
const openSpan = graph.OpenFor

// attach puts on a map how critical its services are, whose figures are biased, and the findings of sp: those that were open at some time of it, and not much later than it begins.
func (s *Server) attach(ctx context.Context, sp span, m *graph.Map) error {
	q := storage.FindingQuery{From: sp.From, To: sp.end(), Env: m.Env, HasEnv: true, Limit: storage.MaxFindings}
	if sp.length() <= openSpan {
		q.From = sp.To.Add(-openSpan)
	}
	found, err := s.found.of(ctx, s.reader, q)
	if err != nil {
		return err
	}
	m.Attach(found)
	if s.Criticality != nil {
		m.Weigh(s.Criticality)
	}
	if s.Biased != nil {
		m.Doubt(s.Biased)
	}
	return nil
}

// recentFindings keeps answers for as long as the live map stays the same. It is safe for concurrent use.
type recentFindings struct {
	mu      sync.Mutex
	answers map[storage.FindingQuery][]graph.Finding
}

// maxRecentFindings bounds how many answers are kept; when there are more, all are forgotten.
const maxRecentFindings = 32

// of returns the findings that q asks for, to the second. They are shared, and must not be changed.
func (r *recentFindings) of(ctx context.Context, reader storage.Reader, q storage.FindingQuery) ([]graph.Finding, error) {
	q.From, q.To = floor(q.From, pushEvery), ceil(q.To, pushEvery)
	r.mu.Lock()
	found, ok := r.answers[q]
	r.mu.Unlock()
	if ok {
		return found, nil
	}
	found, err := reader.Findings(ctx, q)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answers == nil || len(r.answers) >= maxRecentFindings {
		r.answers = map[storage.FindingQuery][]graph.Finding{}
	}
	r.answers[q] = found
	return found, nil
}

// findingKind is what findings are counted by.
type findingKind struct {
	rule  string
	level graph.Level
}

// openFindings returns how many findings are open, in all environments; none while they cannot be had.
func (s *Server) openFindings() map[findingKind]int {
	ctx, cancel := context.WithTimeout(context.Background(), s.limits.QueryTime)
	defer cancel()
	now := s.now()
	found, err := s.found.of(ctx, s.reader, storage.FindingQuery{From: now.Add(-openSpan), To: now, Limit: storage.MaxFindings})
	if err != nil {
		s.log.Warn("findings not counted", slog.Any("error", err))
		return nil
	}
	counts := map[findingKind]int{}
	for i := range found {
		counts[findingKind{found[i].Rule, found[i].Level}]++
	}
	return counts
}
