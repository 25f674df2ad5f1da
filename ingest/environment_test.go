package ingest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"faultline/graph"
)

// world is a random topology: services that call each other, databases, queues and hosts, by names that say nothing of
// where they are.
type world struct {
	r        *rand.Rand
	services []string // with namespaces
}

func newWorld(r *rand.Rand) *world {
	w := &world{r: r}
	for i := range 3 + r.IntN(6) {
		w.services = append(w.services, []string{"", "shop/", "bank/"}[r.IntN(3)]+fmt.Sprint("s", i%4)) // the same names in several namespaces
	}
	slices.Sort(w.services)
	w.services = slices.Compact(w.services)
	return w
}

// trace is a random trace of one environment, or one that goes through both when cross is set.
func (w *world) trace(n byte, env string, cross bool) (spans []tspan) {
	id := byte(0)
	next := func() byte {
		id++
		return id
	}
	other := map[string]string{"prod": "staging", "staging": "prod"}
	var serveAt func(service, env string, parent byte, depth int)
	serveAt = func(service, env string, parent byte, depth int) {
		own := next()
		spans = append(spans, tspan{service: service, env: env, trace: n, id: own, parent: parent, kind: kindServer, at: 10 * depth, ms: 200 - 20*depth, attrs: serve})
		for range w.r.IntN(3) {
			if depth > 4 || id > 200 {
				return
			}
			callee := w.services[w.r.IntN(len(w.services))]
			_, host, _ := strings.Cut("/"+callee, "/")
			if i := strings.LastIndexByte(host, '/'); i >= 0 {
				host = host[i+1:]
			}
			call := tspan{service: service, env: env, trace: n, id: next(), parent: own, kind: kindClient, at: 10*depth + 1, ms: 150 - 20*depth}
			switch w.r.IntN(6) {
			case 0:
				call.attrs = tag{"db.system.name": "postgresql", "db.namespace": "orders", "server.address": "db"}
			case 1:
				call.kind, call.attrs = kindProducer, tag{"messaging.system": "kafka", "messaging.destination.name": "orders"}
			case 2:
				call.attrs = tag{"http.request.method": "GET", "server.address": host} // that nobody answers
			default:
				call.attrs = tag{"http.request.method": "GET", "server.address": host, "server.port": 8080}
				spans = append(spans, call)
				to := env
				if cross && w.r.IntN(2) == 0 {
					to = other[env]
				}
				serveAt(callee, to, call.id, depth+1)
				continue
			}
			spans = append(spans, call)
			if call.kind == kindProducer && w.r.IntN(2) == 0 {
				to := env
				if cross && w.r.IntN(2) == 0 {
					to = other[env]
				}
				spans = append(spans, tspan{service: callee, env: to, trace: n, id: next(), parent: call.id, kind: kindConsumer, at: 10*depth + 5, ms: 5})
			}
		}
	}
	serveAt(w.services[w.r.IntN(len(w.services))], env, 0, 0)
	return spans
}

// edgesOf returns what the edges of an environment count, and those that lead out of it.
func edgesOf(live *graph.Live, env string) (edges, mixed []string) {
	windows, _ := live.Windows(time.Unix(0, 0), epoch.AddDate(1, 0, 0), false)
	sum := map[string]*graph.EdgeStats{}
	for _, w := range windows {
		for i := range w.Edges {
			e := &w.Edges[i]
			if e.Edge.Source.Env != e.Edge.Target.Env {
				mixed = append(mixed, fmt.Sprintf("%s/%s → %s/%s", e.Edge.Source.Env, e.Edge.Source.ID(), e.Edge.Target.Env, e.Edge.Target.ID()))
			}
			if e.Edge.Env() == env && !e.Stats.Zero() {
				k := fmt.Sprintf("%s → %s %s", e.Edge.Source.ID(), e.Edge.Target.ID(), e.Edge.Protocol)
				if sum[k] == nil {
					sum[k] = &graph.EdgeStats{}
				}
				sum[k].Add(&e.Stats)
			}
		}
	}
	for k, s := range sum {
		if !s.Zero() {
			edges = append(edges, k+": "+brief(s))
		}
	}
	slices.Sort(edges)
	return edges, mixed
}

// Two environments with the same services, hosts, databases and queues are two graphs: each is what it would be alone,
// whatever the order in which their spans come.
func TestEnvironmentsAreNeverMixed(t *testing.T) {
	for seed := range uint64(25) {
		r := rand.New(rand.NewPCG(seed, 9))
		w := newWorld(r)
		envs := []string{"prod", "staging"}
		bodies := map[string][][]byte{}
		for i := range 40 {
			env := envs[i%2]
			bodies[env] = append(bodies[env], each(t, w.trace(byte(i), env, false)...)...)
		}
		play := func(order [][]byte) *graph.Live {
			in, live := newIntake()
			now := epoch.Add(time.Second)
			feed(t, in, now, order...)
			in.Tick(now.Add(11 * time.Second))
			return live
		}
		all := slices.Concat(bodies["prod"], bodies["staging"])
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		together := play(all)
		for _, env := range envs {
			want, _ := edgesOf(play(bodies[env]), env)
			got, mixed := edgesOf(together, env)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("seed %d, %s: %s", seed, env, diff)
			}
			if len(mixed) > 0 {
				t.Fatalf("seed %d: %v", seed, mixed)
			}
		}
	}
}

// A trace that goes from one environment to another makes no edge between them, and no call is lost: what is called from
// elsewhere is called by somebody unknown.
func TestCallsBetweenEnvironments(t *testing.T) {
	for seed := range uint64(25) {
		r := rand.New(rand.NewPCG(seed, 10))
		w := newWorld(r)
		in, live := newIntake()
		now := epoch.Add(time.Second)
		var bodies [][]byte
		for i := range 30 {
			bodies = append(bodies, each(t, w.trace(byte(i), []string{"prod", "staging"}[i%2], true)...)...)
		}
		r.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
		feed(t, in, now, bodies...)
		in.Tick(now.Add(11 * time.Second))
		for _, env := range []string{"prod", "staging"} {
			if _, mixed := edgesOf(live, env); len(mixed) > 0 {
				t.Fatalf("seed %d: %v", seed, mixed)
			}
		}
	}
	in, live := newIntake()
	feed(t, in, epoch.Add(time.Second), each(t,
		tspan{service: "a", env: "prod", trace: 1, id: 1, kind: kindClient, at: 0, ms: 100, attrs: get},
		tspan{service: "b", env: "staging", trace: 1, id: 2, parent: 1, kind: kindServer, at: 10, ms: 80, attrs: serve})...)
	in.Tick(epoch.Add(12 * time.Second))
	want := []string{"prod: a → ext:b:8080 http: calls 1, client 1×100ms", "staging: unknown → b http: calls 1, server 1×80ms"}
	if diff := cmp.Diff(want, briefs(live)); diff != "" {
		t.Error(diff)
	}
}
