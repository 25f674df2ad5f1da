package sim

import (
	"time"
)

// attempts repeats a call as the step allows, with a backoff, and returns when it
// is over and whether the last attempt failed. Of a failure that no retry makes
// better there is no other attempt.
func (g *Generator) attempts(st *Step, storm bool, start int64, try func(start int64, attempt int, last func(failure, final bool) bool) (end int64, failure, final bool)) (int64, bool) {
	most := max(1, st.Attempts)
	backoff := 30 * ms
	if st.Backoff > 0 {
		backoff = st.Backoff
	}
	if storm {
		most, backoff = max(most, 4), 2*ms
	}
	for attempt := 0; ; attempt++ {
		last := func(failure, final bool) bool { return !failure || final || attempt+1 == most }
		end, failure, final := try(start, attempt, last)
		if last(failure, final) {
			return end, failure
		}
		start = end + int64(backoff)
		if !st.Fixed {
			start = end + g.duration(backoff)
		}
	}
}

// call plays a logical call of another service.
func (g *Generator) call(in *instance, parent spanID, st *Step, start int64) (int64, string) {
	callee := g.services[st.Service]
	op := callee.op(st.Op)
	storm := g.script.on(RetryStorm, callee.Node(), start)
	try := func(start int64, attempt int, last func(failure, final bool) bool) (int64, bool, bool) {
		c := call{edge: Edge{in.svc.Node(), callee.Node(), callee.protocol()}, server: -1, clientWeight: 1, serverWeight: 1, retry: attempt > 0}
		id := g.newID()
		to := g.choose(callee, start)
		seen := clientView{host: callee.host(), peer: to.ip, grpc: callee.GRPC, op: op.Name, attempt: attempt, headers: callee.Headers}
		var end int64
		if seen.refusal, c.failed = g.refused(in, callee.Node(), start); c.failed {
			end = start + g.duration(refusals[seen.refusal].after)
		} else {
			worker, serverStart := to.admit(start + g.duration(ms/2))
			serverEnd, out := g.serve(request{svc: callee, op: op, in: to, start: serverStart, parent: id, peer: in.ip})
			to.release(worker, serverEnd)
			end = serverEnd + g.duration(ms/2)
			c.server = serverEnd - serverStart
			seen.result = out
			if limit := int64(st.Timeout); limit > 0 && end-start > limit {
				end = start + limit
				seen.timeout = true
			}
			seen.lost = out == succeeded && !seen.timeout && g.script.on(LostAnswers, callee.Node(), start) && g.rng.Float64() < 0.3
			c.failed = seen.failed()
		}
		final := seen.result == unauthorized
		c.client, c.last = end-start, last(c.failed, final)
		g.count(c)
		sp := g.newSpan(in, id, parent, kindClient, start, end)
		in.svc.describeClient(sp, seen)
		g.emit(in, sp, end)
		return end, c.failed, final
	}
	end, broken := g.attempts(st, storm, start, try)
	if hedge := int64(st.Hedge); hedge > 0 && end-start > hedge {
		// Whichever attempt is good first counts; the other one runs on.
		other, failure, _ := try(start+hedge, 1, func(bool, bool) bool { return true })
		if broken || !failure && other < end {
			end, broken = other, failure
		}
	}
	if broken {
		return end, callee.Name + " failed"
	}
	return end, ""
}

// refused returns what keeps a call to the target from it, if anything does.
func (g *Generator) refused(in *instance, target string, at int64) (FaultKind, bool) {
	if in.index == 0 && g.script.on(BadCaller, in.svc.Node(), at) && g.rng.Float64() < 0.5 {
		return ServiceDown, true
	}
	kind, ok := g.script.refuses(target, at)
	if ok && refusals[kind].share < 1 && g.rng.Float64() >= refusals[kind].share {
		return "", false
	}
	return kind, ok
}

// failed reports whether the call counts as failed on its edge.
func (c *clientView) failed() bool {
	if c.timeout || c.lost || c.refusal != "" {
		return true
	}
	switch c.result {
	case failed, throttled, unauthorized:
		return true
	case unsupported:
		return c.grpc // over HTTP a 4xx is the caller's mistake
	}
	return false
}

// callExternal plays a logical call of somebody else's API, which sends no spans.
func (g *Generator) callExternal(in *instance, parent spanID, st *Step, start int64) (int64, string) {
	x := g.externals[st.External]
	end, broken := g.attempts(st, false, start, func(start int64, attempt int, last func(failure, final bool) bool) (int64, bool, bool) {
		c := call{edge: Edge{in.svc.Node(), x.Node(), "http"}, server: -1, clientWeight: 1, retry: attempt > 0}
		seen := clientView{host: x.Host, peer: "198.51.100.20", external: true, op: st.Op, attempt: attempt}
		end := start + g.duration(x.Own)
		if g.script.on(StuckCalls, x.Node(), start) && g.rng.Float64() < 0.01 {
			end = start + int64(40*time.Second)
		}
		seen.refusal, c.failed = g.refused(in, x.Node(), start)
		switch {
		case c.failed:
			end = start + g.duration(3*refusals[seen.refusal].after)
		case st.Timeout > 0 && end-start > int64(st.Timeout):
			end = start + int64(st.Timeout)
			seen.timeout, c.failed = true, true
		case g.rng.Float64() < 0.002:
			seen.result, c.failed = failed, true
		}
		c.client, c.last = end-start, last(c.failed, false)
		g.count(c)
		sp := g.newSpan(in, g.newID(), parent, kindClient, start, end)
		in.svc.describeClient(sp, seen)
		g.emit(in, sp, end)
		return end, c.failed, false
	})
	if broken {
		return end, x.Host + " failed"
	}
	return end, ""
}

// query plays a database query.
func (g *Generator) query(in *instance, parent spanID, st *Step, start int64) (int64, string) {
	db := g.databases[st.Database]
	const limit = 2 * time.Second
	own := db.Own
	if g.script.on(SlowDatabase, db.Node(), start) {
		own *= 40
		if g.rng.Float64() < 0.05 { // behind a lock
			own = 3 * limit
		}
	}
	end := start + g.duration(own)
	failure := ""
	switch {
	case end-start > int64(limit):
		end, failure = start+int64(limit), "timeout"
	case g.script.on(FailingQueries, db.Node(), start) && g.rng.Float64() < 0.2:
		failure = "query failed"
	case g.rng.Float64() < 0.0003:
		failure = "connection reset"
	}
	g.count(call{
		edge: Edge{in.svc.Node(), db.Node(), "db"}, client: end - start, server: -1, clientWeight: 1,
		failed: failure != "", last: true,
	})
	sp := g.newSpan(in, g.newID(), parent, kindClient, start, end)
	in.svc.describeQuery(sp, db, st, failure)
	g.emit(in, sp, end)
	if failure != "" {
		return end, st.Database + ": " + failure
	}
	return end, ""
}

// publish plays a message and everything that its consumers do with it.
func (g *Generator) publish(in *instance, parent spanID, st *Step, start int64) (int64, string) {
	topic := g.topics[st.Topic]
	end := start + g.duration(3*ms)
	g.count(call{
		edge: Edge{in.svc.Node(), topic.Node(), "messaging"}, client: end - start, server: -1, clientWeight: 1, last: true,
	})
	id := g.newID()
	sp := g.newSpan(in, id, parent, kindProducer, start, end)
	in.svc.describeProducer(sp, topic, g.rng.Int64N(6))
	g.emit(in, sp, end)

	producing := g.trace
	for _, c := range g.consumers[topic.Name] {
		begin := end + g.duration(topic.Lag) + g.script.lag(topic.Node(), end)
		r := request{svc: c.service, op: c.op, in: g.choose(c.service, begin), start: begin, parent: id, topic: topic}
		if c.op.Linked {
			r.parent, r.links = spanID{}, []link{{g.trace, id}}
			g.newTrace()
		}
		deliveries := 1
		if g.script.on(Redelivery, topic.Node(), begin) && g.rng.IntN(3) == 0 {
			deliveries = 2
		}
		for range deliveries {
			done, out := g.serve(r)
			g.count(call{
				edge: Edge{topic.Node(), c.service.Node(), "messaging"}, client: -1, server: done - r.start, serverWeight: 1,
				failed: out == failed, last: true,
			})
			r.start = done + g.duration(20*ms)
		}
		g.trace = producing
	}
	return end, ""
}
