package page

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"
	"github.com/google/go-cmp/cmp"

	"faultline/graph"
	"faultline/graph/doctor"
	"faultline/internal/rules"
	"faultline/storage"
)

var update = flag.Bool("update", false, "rewrite the golden pages")

var (
	testNow = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)
	shell   = Shell{Title: "Faultline", Here: "/", Assets: Assets{Script: "/static/app.js", Theme: "/static/theme.js", Style: "/static/app.css", Icon: "/static/icon.svg"}}
	local   = Endpoints{GRPC: "http://127.0.0.1:4317", HTTP: "http://127.0.0.1:4318"}
)

func node(kind graph.NodeKind, name string) graph.Node {
	return graph.Node{Env: "prod", Kind: kind, Namespace: map[bool]string{true: "shop"}[kind == graph.Service], Name: name}
}

// stats counts n calls, of which bad fail, with latencies from 1 to 100 units.
func stats(n, bad int64, unit time.Duration) graph.EdgeStats {
	s := graph.EdgeStats{Calls: n, Errors: bad, LogicalCalls: n, LogicalErrors: bad, Raw: n, RawErrors: bad}
	s.Failures[graph.Refused] = bad
	for i := range int64(100) {
		s.Client.Add((i+1)*int64(unit), n/100)
	}
	return s
}

func testMap() graph.Map {
	edge := func(s, t graph.Node, p graph.Protocol, st graph.EdgeStats) graph.EdgeRow {
		return graph.EdgeRow{Edge: graph.EdgeKey{Source: s, Target: t, Protocol: p}, Stats: st}
	}
	user, web, pay := node(graph.User, ""), node(graph.Service, "web"), node(graph.Service, "pay")
	w := graph.Window{Start: testNow.Add(-time.Minute), Length: time.Minute, Edges: []graph.EdgeRow{
		edge(user, web, graph.HTTP, stats(6000, 0, time.Millisecond)),
		edge(web, pay, graph.GRPC, stats(1200, 120, 4*time.Millisecond)),
		edge(pay, node(graph.Database, "postgresql/pay@pg-1"), graph.DB, stats(3000, 90, 20*time.Microsecond)),
		edge(pay, node(graph.External, "<b>evil</b>.example"), graph.HTTP, stats(0, 0, 0)),
	}}
	w.Edges[3].Stats = graph.EdgeStats{Calls: 3, LogicalCalls: 3, Raw: 3}
	return graph.BuildMap([]graph.Window{w}, w.Start, testNow, "prod", false, nil)
}

func TestPages(t *testing.T) {
	counters := graph.Counters{
		Received: 1_234_567, Accepted: 1_234_560, Refused: map[string]int64{"malformed": 5, "overloaded": 2}, Requests: map[string]int64{"ok": 900, "malformed": 1},
		Dropped: map[string]int64{"too_late": 3}, Unpaired: map[string]int64{"client_external": 4}, Traces: map[string]int64{"analysed": 12, "too_large": 1}, Late: 6, NegativeGaps: 5, Pending: 70, Bytes: 4_200_000, LastSpan: testNow.Add(-3 * time.Second),
		Senders: []graph.Sender{{Node: node(graph.Service, "web"), SDK: "go 1.38.0", Spans: 1234, LastSeen: testNow}, {Node: node(graph.Service, "<script>alert(1)</script>"), LastSeen: testNow.Add(-time.Hour)}},
	}
	empty := graph.Map{From: testNow.Add(-time.Minute), To: testNow}
	for name, page := range map[string]templ.Component{
		"map":             OfMap(Map{Shell: shell, Map: testMap(), Live: true, Endpoints: local, Received: counters}),
		"map_past":        OfMap(Map{Shell: shell, Map: testMap(), Endpoints: local}),
		"map_past_empty":  OfMap(Map{Shell: shell, Map: graph.Map{From: testNow.Add(-time.Hour), To: testNow, Env: "a&b", Envs: []string{"a&b", "prod"}}, Endpoints: local, Received: graph.Counters{Received: 9, Accepted: 9}}),
		"map_delayed":     OfMap(Map{Shell: shell, Map: empty, Live: true, DelayedSince: testNow.Add(-5 * time.Minute)}),
		"map_failed":      OfMap(Map{Shell: shell, Map: empty, Live: true, Failed: "The map could not be had just now."}),
		"map_empty":       OfMap(Map{Shell: shell, Map: empty, Live: true, Endpoints: local}),
		"map_elsewhere":   OfMap(Map{Shell: shell, Map: graph.Map{Env: "nothing", Envs: []string{"", "nothing", "prod"}}, Live: true, Endpoints: local, Received: graph.Counters{Received: 9, Accepted: 9}}),
		"map_refused":     OfMap(Map{Shell: shell, Map: empty, Live: true, Endpoints: local, Received: graph.Counters{Received: 7, Refused: map[string]int64{"unsupported": 7}}}),
		"map_no_receiver": OfMap(Map{Shell: shell, Map: empty, Live: true}),
		"status": OfStatus(Status{
			Shell: shell, Version: "1.2.3", Started: testNow.Add(-50 * time.Hour), Now: testNow, Received: counters, Endpoints: local, Limits: map[string]int64{"nodes": 10000, "clients": 2000, "memory_bytes": 512 << 20, "intake_memory_bytes": 192 << 20, "hold": 90, "wait": 10, "spans_in_flight": 838860},
			Store:   storage.Info{Kind: "sqlite", Bytes: 48_000_000, Oldest: testNow.Add(-50 * time.Hour), Newest: testNow, Windows: 1800, Traces: 41, Retention: storage.DefaultRetention()},
			History: History{LastWrite: testNow.Add(-time.Second)}, Followers: 3, Cut: map[string]int64{"slow": 2},
		}),
		"status_delayed": OfStatus(Status{
			Shell: shell, Version: "1.2.3", Started: testNow.Add(-time.Hour), Now: testNow, Received: counters, Endpoints: local,
			Store: storage.Info{Kind: "sqlite", Bytes: 48_000_000, Oldest: testNow.Add(-time.Hour), Newest: testNow, Retention: storage.DefaultRetention()},
			History: History{
				DelayedSince: testNow.Add(-5 * time.Minute), LastError: "database or disk is full", LastWrite: testNow.Add(-5 * time.Minute), Waiting: 37,
				Dropped: map[string]int64{"examples_store_unavailable": 2},
			},
		}),
		"status_new":     OfStatus(Status{Shell: shell, Version: "1.2.3", Started: testNow, Now: testNow, Endpoints: local, StoreErr: "The store does not answer."}),
		"doctor":         OfDoctor(Doctor{Shell: shell, Now: testNow, Report: testReport(), Envs: []string{"", "prod"}, All: true, Endpoints: local}),
		"doctor_new":     OfDoctor(Doctor{Shell: shell, Now: testNow, All: true, Endpoints: local}),
		"doctor_nowhere": OfDoctor(Doctor{Shell: shell, Now: testNow, Report: doctor.Report{At: testNow}, Envs: []string{"prod"}, Env: "<nothing>", Endpoints: Endpoints{}}),
		"doctor_failed":  OfDoctor(Doctor{Shell: shell, Now: testNow, All: true, Failed: "It could not be had just now."}),
		"rules_file": OfRulesFile(RulesFile{
			Shell: shell, Path: "/data/rules.yaml", Text: "services: []\n</textarea><b>evil", Since: testNow.Add(-time.Hour), Now: testNow,
			Error: "/data/rules.yaml: line 1: servcies: no such key",
			Preview: &rules.Preview{
				Renamed: []rules.Renaming{{Env: "prod", From: "<b>evil</b>", To: "good"}},
				Merged:  []rules.Merging{{Env: "prod", From: []string{"blue", "green"}, To: "payments"}},
				Ignored: []rules.Ignoring{{Env: "", ID: "load-1"}}, Operations: []rules.IgnoredOperation{{Env: "prod", Service: "cart", Operation: "GET /healthz"}},
				Sampled: []rules.Sampling{{Env: "prod", Service: "checkout", Rate: 10}},
			},
		}),
		"rules_file_faults": OfRulesFile(RulesFile{
			Shell: shell, Now: testNow, Preview: &rules.Preview{Faults: []rules.Fault{{Line: 3, Key: "services[0].match.nmae", Message: "no such key"}}},
		}),
		"trace":   OfTrace(Trace{Shell: shell, ID: "4bf92f3577b34da6a3ce929d0e0e4736"}),
		"problem": OfProblem(Problem{Shell: shell, Status: 404, Detail: "There is <nothing> here."}),
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := page.Render(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
			// A line for each element, so that a difference is seen.
			got := strings.ReplaceAll(b.String(), "><", ">\n<") + "\n"
			for _, bad := range []string{"<b>evil", "<script>alert", "style=\"", " onclick", "<style", "<nothing>"} {
				if strings.Contains(got, bad) {
					t.Errorf("the page contains %q", bad)
				}
			}
			path := filepath.Join("testdata", name+".html")
			if *update {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(−want +got; -update rewrites it):\n%s", diff)
			}
		})
	}
}

// testReport is of three services that are ill in many ways, one that is well, and one that sent too little.
func testReport() doctor.Report {
	var slot doctor.Slot
	add := func(name, language, sdk string, counts map[doctor.Counter]int64, links ...doctor.Link) {
		e := doctor.Evidence{Service: node(graph.Service, name), Language: language, SDK: sdk, Last: testNow.Add(-4 * time.Second)}
		for c, n := range counts {
			e.Counts[c] = n
		}
		e.Counts[doctor.Requests], e.Counts[doctor.LateBucket(3*time.Second)] = e.Counts[doctor.Spans]/30, e.Counts[doctor.Spans]
		for _, l := range links {
			e.Note(l, doctor.Seen{N: e.Counts[l.Counter]})
		}
		slot.Services = append(slot.Services, e)
	}
	web, evil := node(graph.Service, "web"), node(graph.Service, "<b>evil</b>`x")
	add("web", "go", "1.43.0", map[doctor.Counter]int64{doctor.Spans: 60_000, doctor.Server: 20_000, doctor.ServerRoots: 20_000, doctor.Client: 40_000, doctor.Named: 60_000})
	add("pay", "java", "1.58.0", map[doctor.Counter]int64{
		doctor.Spans: 9000, doctor.Server: 6000, doctor.ServerRoots: 2000, doctor.Unanswered: 2100, doctor.UnseenParents: 1500, doctor.Named: 9000, doctor.OldHTTP: 900,
	}, doctor.Link{Counter: doctor.Unanswered, Peer: web})
	add("<script>alert(1)</script>", "", "", map[doctor.Counter]int64{doctor.Spans: 500, doctor.Server: 100, doctor.ServerRoots: 0, doctor.InternalAnswers: 400}, doctor.Link{Counter: doctor.InternalAnswers, Peer: evil})
	slot.Services = append(slot.Services, doctor.Evidence{
		Service: graph.Node{Kind: graph.Service, Name: "unknown_service:node"}, Language: "nodejs", Last: testNow, Counts: doctor.Counts{doctor.Spans: 1234, doctor.Nameless: 1234},
	})
	add("cron", "python", "1.40.0", map[doctor.Counter]int64{doctor.Spans: 7, doctor.Internal: 7})
	slot.Start = testNow.Add(-time.Minute)
	return doctor.Examine([]doctor.Slot{slot}, testNow)
}

func TestDiagnosis(t *testing.T) {
	ill := doctor.Diagnosis{Service: node(graph.Service, "a"), Judged: true, Score: 40, Findings: make([]doctor.Finding, 1)}
	well, unknown := doctor.Diagnosis{Judged: true, Score: 100}, doctor.Diagnosis{}
	for _, test := range []struct {
		list []doctor.Diagnosis
		want string
	}{
		{[]doctor.Diagnosis{unknown}, "Too few spans yet to judge 1 service."},
		{[]doctor.Diagnosis{well, unknown}, "The one service that sent enough spans has nothing to mend. 1 service sent too few spans to judge."},
		{[]doctor.Diagnosis{well, well}, "All 2 services have nothing to mend."},
		{[]doctor.Diagnosis{ill, well}, "1 of 2 services has something to mend. Worst: shop/a, with a score of 40."},
		{[]doctor.Diagnosis{ill, ill, well, unknown, unknown}, "2 of 3 services have something to mend. Worst: shop/a, with a score of 40. 2 services sent too few spans to judge."},
	} {
		if got := diagnosis(&doctor.Report{Services: test.list}); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

func TestBegins(t *testing.T) {
	const ok, warn, critical = graph.HealthOK, graph.HealthWarn, graph.HealthCritical
	type edge struct {
		from, to string
		health   graph.Health
		errors   int64
	}
	for _, test := range []struct {
		name  string
		edges []edge
		want  string
	}{
		{"nothing is wrong", []edge{{"a", "b", ok, 0}}, ""},
		{"a chain ends where it begins", []edge{{"a", "b", critical, 9}, {"b", "c", critical, 5}, {"c", "d", ok, 0}}, "shop/c"},
		{"what is less bad is not why", []edge{{"a", "b", critical, 9}, {"b", "c", warn, 50}}, "shop/b"},
		{"all callers of one", []edge{{"a", "c", warn, 1}, {"b", "c", warn, 2}, {"x", "a", warn, 3}}, "shop/c"},
		{"two things at once, the larger first", []edge{{"a", "b", critical, 1}, {"a", "c", critical, 2}}, "shop/c and shop/b"},
		{"many", []edge{{"a", "b", warn, 1}, {"a", "c", warn, 2}, {"a", "d", warn, 1}, {"a", "e", warn, 0}, {"a", "f", warn, 0}}, "shop/c, shop/b, shop/d and 2 more"},
		{"a circle has no beginning", []edge{{"a", "b", warn, 1}, {"b", "a", warn, 2}}, ""},
	} {
		var edges []graph.MapEdge
		for _, e := range test.edges {
			edges = append(edges, graph.MapEdge{Key: graph.EdgeKey{Source: node(graph.Service, e.from), Target: node(graph.Service, e.to)}, Health: e.health, Stats: graph.EdgeStats{Errors: e.errors}})
		}
		got := ""
		if at := begins(edges); len(at) > 0 {
			got = few(at)
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestVerdict(t *testing.T) {
	key := graph.EdgeKey{Source: node(graph.Service, "a"), Target: node(graph.Service, "b"), Protocol: graph.HTTP}
	edges := func(healths ...graph.Health) (m graph.Map) {
		for _, h := range healths {
			m.Edges = append(m.Edges, graph.MapEdge{Key: key, ID: key.ID(), Health: h, Reasons: map[graph.Health][]string{graph.HealthCritical: {"errors 9 %", "retries 2x"}}[h]})
		}
		return m
	}
	const unknown, ok, warn, critical = graph.HealthUnknown, graph.HealthOK, graph.HealthWarn, graph.HealthCritical
	for _, test := range []struct {
		m      graph.Map
		health graph.Health
		want   string
	}{
		{edges(), unknown, "No calls seen in this time."},
		{graph.Map{Nodes: make([]graph.MapNode, 2)}, unknown, "2 services and no calls between them in this time."},
		{edges(unknown), unknown, "Too few calls yet to judge 1 connection."},
		{edges(ok, ok), ok, "All 2 connections healthy."},
		{edges(ok, unknown), ok, "The one connection that can be judged is healthy."},
		{edges(ok, ok, unknown), ok, "2 of 3 connections healthy, 1 with too few calls to judge."},
		{edges(ok, warn), warn, "1 degraded of 2 connections. Worst: shop/a → shop/b."},
		{edges(warn, critical, ok, critical), critical, "2 failing, 1 degraded of 4 connections. Worst: shop/a → shop/b, errors 9 %. It seems to begin at shop/b."},
	} {
		if health, got := verdict(&test.m); got != test.want || health != test.health {
			t.Errorf("%v: %q, want %v: %q", health, got, test.health, test.want)
		}
	}
}

func TestWrong(t *testing.T) {
	found := func(rule, sentence string) *graph.Finding { return &graph.Finding{Rule: rule, Sentence: sentence} }
	e := graph.MapEdge{
		Reasons:  []string{"errors 3.48 %", "Half of the calls are repeats.", "The widget is askew.", "Twelve calls one by one."},
		Findings: []*graph.Finding{found("n_plus_one", "Twelve calls one by one."), found("retry_budget", "Half of the calls are repeats."), found("askew_widget", "The widget is askew."), found("hedging", "A note.")},
	}
	want := []string{"errors 3.5 %", "retry budget spent", "askew widget", "N+1 calls"}
	if diff := cmp.Diff(want, wrong(&e)); diff != "" {
		t.Error(diff)
	}
}

func TestUnits(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{Duration(0), "0 ms"},
		{Duration(.003), "<0.01 ms"},
		{Duration(.25), "0.25 ms"},
		{Duration(1), "1 ms"},
		{Duration(4.26), "4.3 ms"},
		{Duration(9.96), "10 ms"},
		{Duration(340.4), "340 ms"},
		{Duration(999.6), "1 s"},
		{Duration(1234), "1.2 s"},
		{Duration(59_940), "60 s"},
		{Duration(90_000), "1.5 min"},
		{Duration(7_200_000), "2 h"},
		{Rate(0), "0/s"},
		{Rate(.0001), "0.4/h"},
		{Rate(.5), "30/min"},
		{Rate(1.24), "1.2/s"},
		{Rate(123), "123/s"},
		{Rate(1234), "1.2 k/s"},
		{Rate(2.5e6), "2.5 M/s"},
		{Share(0), "0 %"},
		{Share(.00001), "<0.01 %"},
		{Share(.0004), "0.04 %"},
		{Share(.041), "4.1 %"},
		{Share(.5), "50 %"},
		{Share(1), "100 %"},
		{Reason("p95 82ms, 14x"), "p95 82 ms, ↑14x"},
		{Reason("p95 1m2.5s, 1.2e+02x"), "p95 1 min, ↑120x"},
		{Reason("p95 1.234s, 2.1x"), "p95 1.2 s, ↑2.1x"},
		{Reason("errors 3.48 %"), "errors 3.5 %"},
		{Reason("errors 100 %"), "errors 100 %"},
		{Reason("retries 2.93x"), "retries 2.9x"},
		{Reason("p95 <b>, x"), "p95 <b>, x"},
		{Bytes(999), "999 B"},
		{Bytes(48_300_000), "48 MB"},
		{Bytes(5e12), "5 TB"},
		{Count(1234567), "1 234 567"},
		{Count(-1234), "-1 234"},
		{Count(12), "12"},
		{Ago(time.Time{}, testNow), "never"},
		{Ago(testNow, testNow), "now"},
		{Ago(testNow.Add(-80*time.Second), testNow), "80 s ago"},
		{Ago(testNow.Add(-2*time.Hour), testNow), "2 h ago"},
		{Ago(testNow.Add(-72*time.Hour), testNow), "3 d ago"},
	} {
		if test.got != test.want {
			t.Errorf("%q, want %q", test.got, test.want)
		}
	}
}

// What stands where nothing is written yet is itself a rules file.
func TestRulesExample(t *testing.T) {
	if _, err := rules.Parse([]byte(rulesExample)); err != nil {
		t.Error(err)
	}
}

// An empty map says whether nothing came, or nothing that could be taken; reasons that count nothing say nothing.
func TestEmptyMapSaysWhatCame(t *testing.T) {
	for _, tt := range []struct {
		name string
		came graph.Counters
		want string
	}{
		{"nothing", graph.Counters{Refused: map[string]int64{"invalid_trace_id": 0}, Requests: map[string]int64{"ok": 0, "malformed": 0}}, "Waiting for the first span"},
		{"empty requests", graph.Counters{Requests: map[string]int64{"ok": 3, "malformed": 0}}, "Waiting for the first span"},
		{"spans without ids", graph.Counters{Received: 2, Refused: map[string]int64{"invalid_trace_id": 2}, Requests: map[string]int64{"partial": 1}}, "none could be taken"},
		{"no OTLP", graph.Counters{Requests: map[string]int64{"malformed": 1}}, "none could be taken"},
		{"spans", graph.Counters{Received: 2, Accepted: 2, Requests: map[string]int64{"ok": 1}}, "No calls in this time"},
	} {
		var out strings.Builder
		if err := nothingLive(Map{Received: tt.came}).Render(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), tt.want) {
			t.Errorf("%s: the page does not say %q", tt.name, tt.want)
		}
	}
}
