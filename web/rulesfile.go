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
	"faultline/internal/rules"
	"faultline/storage"
	"faultline/web/page"
)

// previewSpan is how far back what a preview is about was seen.
const previewSpan = 15 * time.Minute

// RulesFile is the rules file of this process.
type RulesFile struct {
	Path   string        `json:"path" doc:"Empty in a process that takes no spans in"`
	Text   string        `json:"text" doc:"What is in force"`
	Since  *time.Time    `json:"since" doc:"Since when; null when there is no file"`
	Error  string        `json:"error,omitempty" doc:"Why the file as it is now is not in force: what was in force before stays"`
	Faults []rules.Fault `json:"faults" nullable:"false" doc:"What is wrong with the file, one by one"`
}

func (s *Server) rulesFile() RulesFile {
	state := s.Rules()
	f := RulesFile{Path: state.Path, Text: state.Text, Since: timeOrNil(state.Since), Faults: []rules.Fault{}}
	if state.Err != nil {
		f.Error = state.Err.Error()
		f.Faults = append(f.Faults, rules.Faults(state.Err)...)
	}
	return f
}

type rulesOutput struct{ Body RulesFile }

func (s *Server) rulesInForce(context.Context, *struct{}) (*rulesOutput, error) {
	return &rulesOutput{s.rulesFile()}, nil
}

type previewInput struct {
	RawBody []byte `contentType:"text/plain"`
}

type previewOutput struct{ Body rules.Preview }

func (s *Server) rulesPreview(ctx context.Context, in *previewInput) (*previewOutput, error) {
	p, err := s.preview(ctx, in.RawBody)
	if err != nil {
		return nil, err
	}
	return &previewOutput{p}, nil
}

// postText registers an operation that is given a text.
func postText(s *Server, id, path, summary, description string, handler func(context.Context, *previewInput) (*previewOutput, error)) {
	register(s, huma.Operation{
		OperationID: id, Method: http.MethodPost, Path: path, Summary: summary, Description: description, MaxBodyBytes: rules.MaxBytes,
		Errors: []int{http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}, handler)
}

// preview says what a text would do to what was seen lately.
func (s *Server) preview(ctx context.Context, text []byte) (rules.Preview, error) {
	now := s.now()
	windows, err := s.windowsOf(ctx, span{From: now.Add(-previewSpan), To: now})
	if err != nil {
		return rules.Preview{}, err
	}
	details, err := s.reader.Windows(ctx, storage.Query{From: floor(now, graph.DetailLength).Add(-graph.DetailLength), To: now, Want: storage.WantDetails})
	if err != nil {
		return rules.Preview{}, err
	}
	nodes := map[graph.Node]bool{}
	for i := range windows {
		for j := range windows[i].Edges {
			e := &windows[i].Edges[j].Edge
			nodes[e.Source.Identity()], nodes[e.Target.Identity()] = true, true
		}
		for j := range windows[i].Nodes {
			nodes[windows[i].Nodes[j].Node.Identity()] = true
		}
	}
	operations := map[graph.Node][]string{}
	for i := range details {
		for j := range details[i].Details {
			d := &details[i].Details[j]
			if d.Key.Dimension != graph.Operation {
				continue
			}
			of := d.Edge.Source.Identity()
			if d.Key.Side == graph.ServerSide {
				of = d.Edge.Target.Identity()
			}
			if !slices.Contains(operations[of], d.Key.Name) {
				operations[of] = append(operations[of], d.Key.Name)
			}
		}
	}
	list := make([]graph.Node, 0, len(nodes))
	for n := range nodes {
		list = append(list, n)
	}
	return rules.NewPreview(text, list, operations), nil
}

// rulesFilePage shows the rules in force and, asked with a text, what that would change. Nothing is changed: the file is
// the only place for that.
func (s *Server) rulesFilePage(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), s.limits.QueryTime)
	defer cancel()
	f := s.rulesFile()
	p := page.RulesFile{Shell: shell("Naming · Faultline", "/rules"), Path: f.Path, Text: f.Text, Error: f.Error, Now: s.now()}
	if f.Since != nil {
		p.Since = *f.Since
	}
	if r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, 3*rules.MaxBytes) // percent-encoded
		if err := r.ParseForm(); err != nil {
			s.problemPage(w, r, http.StatusRequestEntityTooLarge, "That is too long for a rules file.")
			return
		}
		p.Text = strings.ReplaceAll(r.PostForm.Get("rules"), "\r\n", "\n")
		preview, err := s.preview(ctx, []byte(p.Text))
		if err != nil {
			s.log.LogAttrs(ctx, slog.LevelError, "preview of rules failed", slog.Any("error", err))
			p.Failed = "What this would change could not be had just now; the log of the server says why."
		} else {
			p.Preview = &preview
		}
	}
	s.html(w, r, http.StatusOK, page.OfRulesFile(p))
}
