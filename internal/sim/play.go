package sim

import (
	"encoding/binary"
	"math"
	"slices"
	"time"
)

// user is the node of those who ask for something.
const user = "user"

func (g *Generator) playUser(at int64) {
	pick := g.rng.Float64() * g.weights
	entries := g.cfg.Topology.Entries
	i := 0
	for ; i < len(entries)-1 && pick >= entries[i].Weight; i++ {
		pick -= entries[i].Weight
	}
	e := entries[i]
	g.newTrace()
	s := g.services[e.Service]
	end, out := g.serve(request{svc: s, op: s.op(e.Op), in: g.choose(s, at), start: at, peer: "203.0.113.7"})
	g.count(call{
		edge: Edge{user, s.Node(), "http"}, client: -1, server: end - at, serverWeight: 1,
		failed: out == failed, last: true,
	})
}

func (g *Generator) newTrace() {
	binary.BigEndian.PutUint64(g.trace[:8], g.rng.Uint64())
	binary.BigEndian.PutUint64(g.trace[8:], g.rng.Uint64())
}

func (g *Generator) newID() (id spanID) {
	binary.BigEndian.PutUint64(id[:], g.rng.Uint64())
	return id
}

func (g *Generator) count(c call) {
	if g.cfg.KeepTruth {
		g.truth.add(c)
	}
}

// choose returns the instance that takes a call.
func (g *Generator) choose(s *service, at int64) *instance {
	i := g.rng.IntN(len(s.instances))
	if i < len(s.deployed) && (g.script.on(BadDeploy, s.Node(), at) || g.script.on(ContractBreak, s.Node(), at)) {
		return s.deployed[i]
	}
	return s.instances[i]
}

// duration draws from the lognormal distribution whose median is given.
func (g *Generator) duration(median time.Duration) int64 {
	return max(1000, int64(float64(median)*math.Exp(0.5*g.rng.NormFloat64())))
}

// request is a call as its callee sees it.
type request struct {
	svc    *service
	op     *Operation
	in     *instance
	start  int64
	parent spanID // zero: none
	links  []link
	topic  *Topic // of a message
	peer   string // address of the caller
}

// serve plays an operation: its own SERVER or CONSUMER span, and all below.
func (g *Generator) serve(r request) (end int64, out result) {
	id := g.newID()
	own := g.duration(r.op.Own)
	const baseErrors = 0.001
	fails := baseErrors
	node := r.svc.Node()
	if r.in.index == 0 && g.script.on(BadInstance, node, r.start) {
		fails = 0.5
		own *= 6
	}
	if g.script.on(RetryStorm, node, r.start) {
		fails = 0.7
		own *= 4
	}
	if r.in.index == 0 && g.script.on(SlowInstance, node, r.start) {
		own *= 15
	}
	if r.in.index%len(zones) == 0 && g.script.on(BadZone, node, r.start) {
		fails = 0.4
	}
	if r.in.index%max(r.svc.Hosts, 1) == 0 && g.script.on(BadHost, node, r.start) {
		fails = 0.4
	}
	if g.script.on(SlowService, node, r.start) {
		own *= 60
	}
	refuses := succeeded
	if slices.Contains(r.svc.deployed, r.in) {
		if fails = 0.25; g.script.on(ContractBreak, node, r.start) {
			fails, refuses = 0.8, unsupported
		}
	}
	switch {
	case g.script.on(Throttling, node, r.start):
		fails, refuses = 0.3, throttled
	case g.script.on(TokenExpired, node, r.start):
		fails, refuses = 1, unauthorized
	}
	t := r.start + own/2
	reason := ""
	switch p := g.rng.Float64(); {
	case p < fails && refuses != succeeded:
		out = refuses
	case p < fails:
		out, reason = failed, "internal error"
	case p > 1-r.op.NotFound:
		out = notFound
	default:
		var broken string
		t, broken = g.steps(r.in, id, r.op.Steps, t)
		if broken != "" {
			out, reason = failed, broken
		}
	}
	end = t + own - own/2
	sp := g.newSpan(r.in, id, r.parent, kindServer, r.start, end)
	if r.parent != (spanID{}) {
		sp.flags |= flagRemote
	}
	sp.links = r.links
	r.svc.describeServer(sp, r, out, reason)
	g.emit(r.in, sp, end)
	return end, out
}

// steps plays the steps one after the other, those marked Parallel together with
// the one before, and returns when they are over and what broke the operation.
func (g *Generator) steps(in *instance, parent spanID, steps []Step, start int64) (end int64, broken string) {
	end = start
	for i := range steps {
		st := &steps[i]
		if !st.Parallel {
			start = end
		}
		if st.Chance > 0 && g.rng.Float64() >= st.Chance {
			continue
		}
		t, failure := g.step(in, parent, st, start)
		for n := 1; n < st.Repeat && failure == ""; n++ {
			t, failure = g.step(in, parent, st, t+g.duration(ms/5))
		}
		end = max(end, t)
		if failure != "" && !st.Optional && broken == "" {
			broken = failure
		}
		if broken != "" && (i+1 == len(steps) || !steps[i+1].Parallel) {
			return end, broken
		}
	}
	return end, ""
}

func (g *Generator) step(in *instance, parent spanID, st *Step, start int64) (end int64, failure string) {
	switch {
	case st.Service != "":
		return g.call(in, parent, st, start)
	case st.External != "":
		return g.callExternal(in, parent, st, start)
	case st.Database != "":
		return g.query(in, parent, st, start)
	case st.Topic != "":
		return g.publish(in, parent, st, start)
	}
	id := g.newID()
	own := g.duration(2 * ms)
	end, failure = g.steps(in, id, st.Steps, start+own/2)
	end += own - own/2
	sp := g.newSpan(in, id, parent, kindInternal, start, end)
	sp.name = st.Internal
	if failure != "" {
		sp.status, sp.message = statusError, failure
	}
	g.emit(in, sp, end)
	return end, failure
}

// newSpan returns a span of the instance, by the instance's own clock.
func (g *Generator) newSpan(in *instance, id, parent spanID, kind uint64, start, end int64) *span {
	return &span{
		trace: g.trace, id: id, parent: parent, flags: flagSampled | flagHasRemote,
		kind: kind, start: start + in.skew, end: end + in.skew,
	}
}

func (g *Generator) emit(in *instance, sp *span, end int64) {
	in.pending = append(in.pending, dueSpan{end, sp})
}
