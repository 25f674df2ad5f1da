// Package doctor says what is wrong with the way services are instrumented: for every missing or odd edge of the map,
// the reason and what to set so that it is right. Evidence is what was counted of a service's spans; Examine turns it
// into findings, each by a rule with a page of its own in docs/rules, and into a score for each service.
//
// Everything is a pure function of evidence, which adds up in any order. Whether something is significant follows from
// counts of spans as they came, with the lower bound of the share's interval, and from MinSpans of them on. It does not
// judge how services are doing, only what their spans let one see; a cost is paid when somebody asks.
package doctor

import (
	"cmp"
	"math"
	"slices"
	"time"

	"faultline/graph"
)

// MinSpans is how many observations a finding, and a score, rests on at least.
const MinSpans = 20

// Finding is something that is wrong with a service's spans.
type Finding struct {
	// Rule is its name, and that of its page in docs/rules.
	Rule  string
	Level graph.Level
	// Peer is the other service where it is about two; else the zero value.
	Peer graph.Node
	// Share is the part of N observations that it is about.
	Share float64
	N     int64
	// Points is what it takes off the service's score.
	Points int
	// Sentence is what was seen, Effect what is missing or odd on the map because of it, Fix what to do, for the
	// language of the service. What is to be typed stands between backquotes.
	Sentence, Effect, Fix string
}

// Diagnosis is how one service is instrumented.
type Diagnosis struct {
	Service graph.Node
	// Score is from 0 to 100: 100 less the points of the findings. It is 0 and means nothing unless Judged, which says
	// that there was enough to judge.
	Score  int
	Judged bool

	Language, SDK string
	Spans         int64
	Requests      int64         // that brought them
	Served        int64         // calls that it served
	Untraced      int64         // of these, those whose caller sends no spans
	Lateness      time.Duration // from a span's end to its arrival, in the median
	Last          time.Time     // when spans came last
	Findings      []Finding     // what costs most first
}

// Report is how all services are instrumented, the worst first: those with a score before those that could not be
// judged.
type Report struct {
	// At is the end of the time that it is about, Window long. It is zero when there is no evidence.
	At       time.Time
	Services []Diagnosis
	// Served is how many calls were seen by those who served them, Untraced how many of them came from a caller that
	// sends no spans.
	Served, Untraced int64
}

// In returns what the report says of one environment.
func (r *Report) In(env string) Report {
	in := Report{At: r.At}
	for i := range r.Services {
		if d := &r.Services[i]; d.Service.Env == env {
			in.add(*d)
		}
	}
	return in
}

func (r *Report) add(d Diagnosis) {
	r.Services = append(r.Services, d)
	r.Served += d.Served
	r.Untraced += d.Untraced
}

// UntracedShare returns the part of the served calls whose callers are not traced, 0 when there are none.
func (r *Report) UntracedShare() float64 { return share(r.Untraced, r.Served) }

// Rule is one thing that can be wrong.
type Rule struct {
	ID string
	// Points is what it takes off the score, at most: when all of the spans concerned are wrong.
	Points int

	find func(p *patient) []Finding
}

// BiasedSampling is the rule by which figures are said to be biased.
const BiasedSampling = "biased_sampling"

// rules are all of them, the heaviest first.
var rules = []Rule{
	{"missing_service_name", 40, missingServiceName},
	{"broken_propagation", 40, brokenPropagation},
	{"split_traces", 30, splitTraces},
	{"unsampled_peer", 30, unsampledPeer},
	{"untraced_callers", 30, untracedCallers},
	{"wrong_kind", 30, wrongKind},
	{BiasedSampling, 20, biasedSampling},
	{"missing_peer_name", 20, missingPeerName},
	{"clock_skew", 10, clockSkew},
	{"missing_instance_id", 10, missingInstanceID},
	{"old_conventions", 10, oldConventions},
}

// Rules returns the rules, the heaviest first.
func Rules() []Rule { return slices.Clone(rules) }

// patient is a service with those around it.
type patient struct {
	*Evidence
	all map[graph.Node]*Evidence
}

// Examine judges every service that slots are about, by the last Window of what they hold: up to now, or up to the end of
// the last slot where that lies in the past, so that what a stopped process left can still be read.
func Examine(slots []Slot, now time.Time) Report {
	var last time.Time
	for i := range slots {
		if end := slots[i].Start.Add(SlotLength); end.After(last) {
			last = end
		}
	}
	if last.IsZero() {
		return Report{}
	}
	if last.Before(now) {
		now = last
	}
	report := examine(Sum(slots, now))
	report.At = now.UTC()
	return report
}

func examine(evidence []Evidence) Report {
	var report Report
	all := make(map[graph.Node]*Evidence, len(evidence))
	for i := range evidence {
		all[evidence[i].Service] = &evidence[i]
	}
	for i := range evidence {
		p := &patient{&evidence[i], all}
		report.add(p.diagnose())
	}
	slices.SortFunc(report.Services, func(a, b Diagnosis) int {
		return cmp.Or(-compareBool(a.Judged, b.Judged), cmp.Compare(a.Score, b.Score), cmp.Compare(b.Spans, a.Spans), compareNodes(a.Service, b.Service))
	})
	return report
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func (p *patient) diagnose() Diagnosis {
	d := Diagnosis{
		Service: p.Service, Language: p.Language, SDK: p.SDK, Spans: p.Counts[Spans], Requests: p.Counts[Requests],
		Served: p.Counts[Server], Untraced: min(p.untraced(), p.Counts[Server]), Lateness: p.Counts.Lateness(), Last: p.Last,
	}
	lost := 0
	for _, r := range rules {
		for _, f := range r.find(p) {
			f.Rule = r.ID
			if f.Points == 0 {
				f.Points = r.Points
			}
			f.Points = max(int(math.Round(float64(f.Points)*f.Share)), 1)
			lost += f.Points
			d.Findings = append(d.Findings, f)
		}
	}
	slices.SortStableFunc(d.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Points, a.Points), cmp.Compare(b.Level, a.Level))
	})
	if d.Judged = d.Spans >= MinSpans || len(d.Findings) > 0; d.Judged {
		d.Score = max(100-lost, 0)
	}
	return d
}

// z90 makes the lower bound of an interval one that holds in 95 of 100 cases.
const z90 = 1.645

// significant reports whether k of n is surely at least the given share.
func significant(k, n int64, atLeast float64) bool {
	if k <= 0 || n < MinSpans {
		return false
	}
	lower, _ := graph.Wilson(min(k, n), n, z90)
	return lower >= atLeast
}

// share returns k of n, from 0 to 1.
func share(k, n int64) float64 {
	if k <= 0 || n <= 0 {
		return 0
	}
	return float64(min(k, n)) / float64(n)
}

// sortedLinks returns the keys of links in order.
func sortedLinks(links map[Link]Seen) []Link {
	keys := make([]Link, 0, len(links))
	for l := range links {
		keys = append(keys, l)
	}
	slices.SortFunc(keys, func(a, b Link) int { return cmp.Or(cmp.Compare(a.Counter, b.Counter), compareNodes(a.Peer, b.Peer)) })
	return keys
}

// foremost returns the peer of which a counter speaks most, the zero value when it speaks of none.
func (e *Evidence) foremost(of ...Counter) (peer graph.Node, seen Seen) {
	for _, l := range sortedLinks(e.Links) {
		if s := e.Links[l]; slices.Contains(of, l.Counter) && s.N > seen.N {
			peer, seen = l.Peer, s
		}
	}
	return peer, seen
}
