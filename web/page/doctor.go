package page

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/a-h/templ"

	"faultline/docs"
	"faultline/graph"
	"faultline/graph/doctor"
)

// FirstPatients is how many services the page shows with their findings; the API has all.
const FirstPatients = 100

// patients returns the services with findings, those without, and those of which too little is known.
func patients(r *doctor.Report) (ill, well, unknown []*doctor.Diagnosis) {
	for i := range r.Services {
		switch d := &r.Services[i]; {
		case len(d.Findings) > 0:
			ill = append(ill, d)
		case d.Judged:
			well = append(well, d)
		default:
			unknown = append(unknown, d)
		}
	}
	return ill, well, unknown
}

// diagnosis says in one sentence how the services are.
func diagnosis(r *doctor.Report) string {
	ill, well, unknown := patients(r)
	judged := len(ill) + len(well)
	s := ""
	switch {
	case judged == 0:
		return "Too few spans yet to judge " + plural(len(unknown), "service") + "."
	case len(ill) == 0 && judged == 1:
		s = "The one service that sent enough spans has nothing to mend."
	case len(ill) == 0:
		s = fmt.Sprintf("All %s have nothing to mend.", plural(judged, "service"))
	default:
		verb := "have"
		if len(ill) == 1 {
			verb = "has"
		}
		s = fmt.Sprintf("%d of %s %s something to mend. Worst: %s, with a score of %d.", len(ill), plural(judged, "service"), verb, ill[0].Service.ID(), ill[0].Score)
	}
	if len(unknown) > 0 {
		s += fmt.Sprintf(" %s sent too few spans to judge.", plural(len(unknown), "service"))
	}
	return s
}

// untraced reports whether so many callers send no spans that it must be said at the top.
func untraced(r *doctor.Report) bool {
	return r.Served >= doctor.MinSpans && r.UntracedShare() >= .05
}

// vitals are what is known of a service beside its findings, in words.
func (p Doctor) vitals(d *doctor.Diagnosis) string {
	var parts []string
	if p.All && len(p.Envs) > 1 {
		parts = append(parts, environmentName(d.Service.Env))
	}
	parts = append(parts, sdkName(d), things(d.Spans, "span"))
	if d.Requests > 0 {
		parts = append(parts, perRequest(d)+" a request", "come "+Duration(d.Lateness.Seconds()*1e3)+" after their end")
	}
	parts = append(parts, "last "+Ago(d.Last, p.Now))
	return strings.Join(parts, " · ")
}

func sdkName(d *doctor.Diagnosis) string {
	if s := strings.TrimSpace(d.Language + " " + d.SDK); s != "" {
		return s
	}
	return "SDK unknown"
}

func perRequest(d *doctor.Diagnosis) string {
	if d.Requests <= 0 {
		return none
	}
	return digits(float64(d.Spans) / float64(d.Requests))
}

// ruleTitle returns the title of a rule's page.
func ruleTitle(id string) string {
	p, _ := docs.Rule(id)
	return p.Title
}

// levelClass and levelWord are how a finding's level looks and is called.
func levelClass(l graph.Level) string {
	return [...]string{"unknown", "warn", "critical"}[min(int(l), 2)]
}

func levelWord(l graph.Level) string {
	return [...]string{"note", "warning", "severe"}[min(int(l), 2)]
}

// doctorLink is the address of the page for one environment.
func doctorLink(env string) string { return "/doctor?" + url.Values{"env": {env}}.Encode() }

// nodeLink is the address of a node's panel.
func nodeLink(n graph.Node) string {
	q := url.Values{"service": {n.ID()}}
	if n.Env != "" {
		q.Set("env", n.Env)
	}
	return "/?" + q.Encode()
}

// coded shows a text in which what is to be typed stands between backquotes.
func coded(text string) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		for i, part := range strings.Split(text, "`") {
			s := templ.EscapeString(part)
			if i%2 == 1 {
				s = "<code>" + s + "</code>"
			}
			if _, err := io.WriteString(w, s); err != nil {
				return err
			}
		}
		return nil
	})
}
