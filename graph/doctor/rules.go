package doctor

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"faultline/graph"
)

// From which share of the spans concerned on something is said.
const (
	atLeast = 0.05
	// Work that a service begins by itself is common, so that calls without a parent are worth a word only when they
	// are many.
	atLeastRoots = 0.10
)

// missingServiceName finds spans whose resource has no service.name.
func missingServiceName(p *patient) []Finding {
	k, n := p.Counts[Nameless], p.Counts[Spans]
	if !significant(k, n, atLeast) {
		return nil
	}
	f := Finding{
		Level: graph.Note, Share: share(k, n), N: n, Points: 10,
		Sentence: fmt.Sprintf("%s of its spans (%s) carry no `service.name`; it is called after its workload.", percent(k, n), ofN(k, n)),
		Effect:   "The node has the name of a deployment or container, and becomes another one when that is renamed.",
		Fix:      fixServiceName(p.Language),
	}
	if p.Service.Unidentified() {
		f.Level, f.Points = graph.Severe, 0
		f.Sentence = fmt.Sprintf("%s of its spans (%s) carry no `service.name`, and nothing else that could name the service.", percent(k, n), ofN(k, n))
		f.Effect = "Every program without a name is the same node, `" + p.Service.ID() + "`: its edges may be those of several services."
	}
	return []Finding{f}
}

// answered is how many SERVER spans have their caller's span above them.
func (p *patient) answered() int64 {
	return max(p.Counts[Server]-p.Counts[ServerRoots]-max(p.Counts[UnseenParents], 0), 0)
}

// cut is how many SERVER spans miss their parent although the beginning of their trace is here.
func (p *patient) cut() int64 { return max(min(p.Counts[CutParents], p.Counts[UnseenParents]), 0) }

// untraced is how many SERVER spans come from a caller of whose trace nothing else is here.
func (p *patient) untraced() int64 { return max(p.Counts[UnseenParents], 0) - p.cut() }

// rootsInstead reports whether calls that no SERVER span answers are matched by SERVER spans without a parent: then the
// callee sends its spans, and only their context got lost on the way.
func (p *patient) rootsInstead() bool { return 2*p.Counts[ServerRoots] >= p.Counts[Unanswered] }

// brokenPropagation finds context that is lost between two services, and inside one.
func brokenPropagation(p *patient) (found []Finding) {
	k, n := p.Counts[Unanswered], p.Counts[Unanswered]+p.answered()
	if peer, _ := p.foremost(Unanswered); significant(k, n, atLeast) && p.rootsInstead() {
		found = append(found, Finding{
			Level: graph.Warn, Peer: peer, Share: share(k, n), N: n,
			Sentence: fmt.Sprintf("%s of the calls that others make to it (%s) have no SERVER span below them, while %s of its SERVER spans begin traces of their own.",
				percent(k, n), ofN(k, n), count(p.Counts[ServerRoots])),
			Effect: fmt.Sprintf("`%s` has the caller's side alone: no latency and no errors of the callee. The other side lies on `user → %s`, as calls of users that are none.",
				edge(peer, p.Service), p.Service.ID()),
			Fix: fixPropagation(p.Language, p.languageOf(peer)),
		})
	}
	k, n = p.Counts[ClientRoots], p.Counts[Client]
	if p.Counts[Server] >= MinSpans && significant(k, n, atLeastRoots) {
		found = append(found, Finding{
			Level: graph.Note, Share: share(k, n), N: n, Points: 10,
			Sentence: fmt.Sprintf("%s of its CLIENT spans (%s) have no parent, although it serves calls: work that it begins by itself, or context that is lost between its threads.", percent(k, n), ofN(k, n)),
			Effect:   "If context is lost, these calls are on their edges but in no trace of a user: critical paths, retries and the origin of errors end before them.",
			Fix:      fixContext(p.Language),
		})
	}
	return found
}

func (p *patient) languageOf(n graph.Node) string {
	if e := p.all[n]; e != nil {
		return e.Language
	}
	return ""
}

// splitTraces finds traces that fall into pieces.
func splitTraces(p *patient) []Finding {
	cut, roots := p.cut(), max(p.Counts[ExtraRoots], 0)
	k, n := cut+roots, p.Counts[Server]+roots
	if !significant(k, n, atLeast) {
		return nil
	}
	var seen []string
	if cut > 0 {
		seen = append(seen, fmt.Sprintf("%s name a parent that never came, although the rest of their trace is here", count(cut)))
	}
	if roots > 0 {
		seen = append(seen, fmt.Sprintf("%s have no parent in a trace that begins elsewhere", count(roots)))
	}
	peer, _ := p.foremost(CutParents, ExtraRoots)
	effect := fmt.Sprintf("The calls lie on `unknown → %s` and `user → %s` instead of on the edge from their caller.", p.Service.ID(), p.Service.ID())
	if peer != (graph.Node{}) {
		effect += fmt.Sprintf(" Their traces begin in `%s`.", peer.ID())
	}
	return []Finding{{
		Level: graph.Warn, Peer: peer, Share: share(k, n), N: n,
		Sentence: fmt.Sprintf("Traces fall into pieces here, at %s of its spans that begin a piece or serve a call (%s): %s.", percent(k, n), ofN(k, n), strings.Join(seen, "; ")),
		Effect:   effect,
		Fix: "Something between the two changes the trace context or keeps its own spans: let the proxy, gateway or mesh send its spans here too, or pass `traceparent` and `tracestate` on unchanged. " +
			"Do not make up trace ids, and do not let a filter drop spans in the middle of a trace.",
	}}
}

// sampling returns how many spans each span of one kind stands for, on average.
func sampling(weight, n int64) float64 {
	if n <= 0 {
		return 1
	}
	return max(float64(weight)/float64(n), 1)
}

// unsampledPeer finds calls whose callee sends no SERVER span for them.
func unsampledPeer(p *patient) []Finding {
	k, n := p.Counts[Unanswered], p.Counts[Unanswered]+p.answered()
	if !significant(k, n, atLeast) || p.rootsInstead() {
		return nil
	}
	peer, _ := p.foremost(Unanswered)
	f := Finding{
		Level: graph.Warn, Peer: peer, Share: share(k, n), N: n,
		Sentence: fmt.Sprintf("%s of the calls that others make to it (%s) go well and have no SERVER span, and no other of its spans takes their place.", percent(k, n), ofN(k, n)),
		Effect:   fmt.Sprintf("These calls have the caller's side alone on `%s`: what the callee, and everything behind it, did is missing from their traces.", edge(peer, p.Service)),
		Fix: "Some of its instances or routes send no spans, or it samples by itself. Instrument all of them, and let the caller decide: `OTEL_TRACES_SAMPLER=parentbased_traceidratio` with the " +
			"`OTEL_TRACES_SAMPLER_ARG` of its callers" + samplerNote(p.Language) + ".",
	}
	own := sampling(p.Counts[ServerWeight], p.Counts[Server])
	if e := p.all[peer]; e != nil {
		if theirs := sampling(e.Counts[ClientWeight], e.Counts[Client]); own > 1.2*theirs {
			f.Sentence += fmt.Sprintf(" It keeps one span in %s, its caller one in %s.", figure(own), figure(theirs))
			f.Fix = "It samples by itself, and less than its caller. Let the caller decide: `OTEL_TRACES_SAMPLER=parentbased_traceidratio`, with the same `OTEL_TRACES_SAMPLER_ARG` everywhere" + samplerNote(p.Language) + "."
		}
	}
	return []Finding{f}
}

// biasedSampling finds spans that were kept because of what became of their trace. That cannot be corrected: nothing says
// how many like it were dropped.
func biasedSampling(p *patient) []Finding {
	k, n := p.Counts[Chosen], p.Counts[Spans]
	if !significant(k, n, atLeast) {
		return nil
	}
	return []Finding{{
		Level: graph.Warn, Share: share(k, n), N: n,
		Sentence: fmt.Sprintf("%s of its spans (%s) are of traces that a sampler kept because of how they ended.", percent(k, n), ofN(k, n)),
		Effect:   "The figures of its edges are those of what was kept: such samplers keep failed and slow traces and drop good ones, so that calls are too few, and error rates and latencies too high.",
		Fix:      "Send spans to Faultline before the sampler, `receivers: [faultline]` with `forward: true`, or beside it in a pipeline of their own. To take load off, sample by trace id, `OTEL_TRACES_SAMPLER=parentbased_traceidratio`: that is corrected.",
	}}
}

// untracedCallers finds calls by somebody who sends no spans here.
func untracedCallers(p *patient) []Finding {
	k, n := p.untraced(), p.Counts[Server]
	if share(k, n) < atLeast || !significant(k, n, atLeast/2) {
		return nil
	}
	fix := "Find out who calls without sending spans here: a browser or app, a proxy, another team's service. Let it export to this address as well, or take `traceparent` off the requests at the border, so that they count as calls of users."
	if p.Counts[LocalParents] >= k {
		fix = "The missing parents are spans of the process itself: they are dropped on the way. Give the exporter more room, `OTEL_BSP_MAX_QUEUE_SIZE=8192`, end every span, and let no filter or processor drop what has children."
	}
	return []Finding{{
		Level: graph.Warn, Share: share(k, n), N: n,
		Sentence: fmt.Sprintf("%s of its callers are not traced: %s SERVER spans name a parent of whose trace nothing else came.", percent(k, n), ofN(k, n)),
		Effect:   fmt.Sprintf("These calls lie on `unknown → %s`: who made them, and what they saw, is not on the map.", p.Service.ID()),
		Fix:      fix + " If the callers are sampled, sample by `parentbased_traceidratio` here, so that spans are kept or left out together.",
	}}
}

// wrongKind finds spans of calls that are neither CLIENT nor SERVER.
func wrongKind(p *patient) (found []Finding) {
	calls := max(p.Counts[InternalCalls], p.Counts[BareCalls])
	if n := p.Counts[Server] + p.Counts[Client] + calls; significant(calls, n, atLeast) {
		peer, seen := p.foremost(BareCalls)
		f := Finding{Level: graph.Warn, Peer: peer, Share: share(calls, n), N: n, Fix: fixKind(p.Language, "CLIENT")}
		switch {
		case p.Counts[InternalCalls] >= p.Counts[BareCalls]:
			f.Sentence = fmt.Sprintf("%s of its spans that carry a call's method and address (%s) are of kind INTERNAL.", percent(calls, n), ofN(calls, n))
			f.Effect = "An INTERNAL span is no call: its edge is missing, or known from the callee alone."
		default:
			f.Sentence = fmt.Sprintf("%s of its calls (%s) have no CLIENT span: the callee's SERVER span hangs right below an INTERNAL or SERVER span.", percent(calls, n), ofN(calls, n))
			f.Effect = "Their edges have the callee's side alone: no latency as the caller saw it, and no calls that failed on the way."
			f.Fix = "Its client library is not instrumented, or its spans are of the wrong kind. " + f.Fix
		}
		if seen.N > 0 {
			f.Effect += fmt.Sprintf(" Most of all `%s`.", edge(p.Service, peer))
		}
		found = append(found, f)
	}
	k, n := p.Counts[InternalAnswers], p.Counts[InternalAnswers]+p.answered()
	if significant(k, n, atLeast) {
		peer, _ := p.foremost(InternalAnswers)
		found = append(found, Finding{
			Level: graph.Warn, Peer: peer, Share: share(k, n), N: n,
			Sentence: fmt.Sprintf("%s of the calls to it (%s) are answered by a span of kind INTERNAL.", percent(k, n), ofN(k, n)),
			Effect:   fmt.Sprintf("`%s` takes the callee's latency from whatever span comes first, and counts a call twice where a SERVER span follows below.", edge(peer, p.Service)),
			Fix:      fixKind(p.Language, "SERVER"),
		})
	}
	return found
}

// missingPeerName finds calls of which nobody can say whom they called.
func missingPeerName(p *patient) []Finding {
	k, n := p.Counts[Nobody], p.Counts[Client]
	if !significant(k, n, atLeast) {
		return nil
	}
	return []Finding{{
		Level: graph.Warn, Share: share(k, n), N: n,
		Sentence: fmt.Sprintf("%s of its CLIENT spans (%s) do not say whom they called, and nobody answered them with spans.", percent(k, n), ofN(k, n)),
		Effect:   fmt.Sprintf("They are all on one edge, `%s → unknown`, whoever was called.", p.Service.ID()),
		Fix:      fixPeerName(p.Language),
	}}
}

// clockSkew finds clocks that differ.
func clockSkew(p *patient) (found []Finding) {
	if k, n := p.Counts[Skewed], p.answered(); significant(k, n, atLeast) {
		peer, seen := p.foremost(Skewed)
		offset := seen.Offset()
		f := Finding{
			Level: graph.Note, Peer: peer, Share: share(k, n), N: n,
			Sentence: fmt.Sprintf("%s of its SERVER spans (%s) lie outside the calls that they serve: its clock is %s %s that of `%s`, in the median of %s calls.",
				percent(k, n), ofN(k, n), about(offset), direction(offset), peer.ID(), count(seen.N)),
			Effect: "Latencies are right, as each is read from one clock. The order of spans in a trace is not, and no lag of a queue between the two can be trusted beyond that.",
			Fix:    "Keep the clocks of both hosts by NTP: `chronyc tracking` says how far each is off. In containers and virtual machines the host's clock counts.",
		}
		if max(offset, -offset) >= time.Second {
			f.Level = graph.Warn
		}
		found = append(found, f)
	}
	if k, n := p.Counts[Ahead], p.Counts[Spans]; significant(k, n, atLeast) {
		found = append(found, Finding{
			Level: graph.Warn, Share: share(k, n), N: n,
			Sentence: fmt.Sprintf("%s of its spans (%s) end more than a second after they came here: its clock is ahead.", percent(k, n), ofN(k, n)),
			Effect:   "Its calls are shown later than they were; from ten minutes on its spans do not count at all.",
			Fix:      "Keep the clocks of its hosts, and of this one, by NTP: `chronyc tracking` says how far each is off.",
		})
	}
	return found
}

// missingInstanceID finds processes that cannot be told apart.
func missingInstanceID(p *patient) []Finding {
	k, n := p.Counts[NoInstance], p.Counts[Spans]
	if !significant(k, n, atLeast) {
		return nil
	}
	return []Finding{{
		Level: graph.Note, Share: share(k, n), N: n,
		Sentence: fmt.Sprintf("%s of its spans (%s) do not say which instance of the service sent them.", percent(k, n), ofN(k, n)),
		Effect:   "All instances look like one: a bad one among good ones, a bad host or a bad zone cannot be found.",
		Fix:      fixInstanceID(p.Language),
	}}
}

// oldConventions finds spans that speak in the attributes of before the stable conventions.
func oldConventions(p *patient) []Finding {
	http, db, peer := p.Counts[OldHTTP], p.Counts[OldDB], p.Counts[OldPeer]
	k, n := http+db+peer, p.Counts[Named]
	if !significant(k, n, atLeast) {
		return nil
	}
	var names, areas []string
	if http > 0 {
		names, areas = append(names, "`http.method`"), append(areas, "http")
	}
	if db > 0 {
		names, areas = append(names, "`db.system`"), append(areas, "database")
	}
	if peer > 0 {
		names = append(names, "`net.peer.name`")
	}
	return []Finding{{
		Level: graph.Note, Share: share(k, n), N: n,
		Sentence: fmt.Sprintf("%s of its spans that name a call (%s) use old names alone, such as %s.", percent(k, n), ofN(k, n), list(names)),
		Effect:   "Both generations are read, so no edge is missing. Old names say less of peers and statuses, and are on their way out of SDKs: other tools lose them with the next update.",
		Fix:      fixConventions(p.Language, areas),
	}}
}

// edge writes who calls whom; a peer that is not known is somebody.
func edge(from, to graph.Node) string {
	name := func(n graph.Node) string {
		if n == (graph.Node{}) {
			return "…"
		}
		return n.ID()
	}
	return name(from) + " → " + name(to)
}

// list writes "a, b and c".
func list(words []string) string {
	if last := len(words) - 1; last > 0 {
		return strings.Join(words[:last], ", ") + " and " + words[last]
	}
	return strings.Join(words, "")
}

// percent writes k of n in per cent, with a digit after the point below ten.
func percent(k, n int64) string {
	p := 100 * share(k, n)
	if p < 9.95 && p != math.Trunc(p) {
		return strconv.FormatFloat(p, 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(p, 'f', 0, 64) + " %"
}

func ofN(k, n int64) string { return count(min(k, n)) + " of " + count(n) }

// count writes a number with its thousands apart.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// figure writes a number that is known to two digits.
func figure(v float64) string {
	if v < 9.95 {
		return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
	}
	unit := 1.
	for v/unit >= 99.5 {
		unit *= 10
	}
	return strconv.FormatFloat(math.Round(v/unit)*unit, 'f', 0, 64)
}

// about writes a time to two digits, without its sign.
func about(d time.Duration) string {
	for _, u := range []struct {
		length time.Duration
		name   string
	}{{time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}} {
		if v := math.Abs(float64(d) / float64(u.length)); v >= 1 {
			return figure(v) + " " + u.name
		}
	}
	return figure(math.Abs(d.Seconds()*1e3)) + " ms"
}

func direction(offset time.Duration) string {
	if offset < 0 {
		return "behind"
	}
	return "ahead of"
}
