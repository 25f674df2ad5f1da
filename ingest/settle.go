package ingest

import (
	"cmp"
	"slices"

	"faultline/graph"
)

// What only both halves of a call show, or a call beside others, is emitted once: when the second of those that it needs
// has waited. All that came within the wait is there by then, so the order in which it came changes nothing. What comes
// later than that mends what was emitted, as far as it is remembered: see ledger.go.

// minSkew is the least difference of clocks that is spoken of: some clocks count whole milliseconds.
const minSkew = int64(1e6)

// settle emits the facts that are due now that h has waited.
func (p *pairer) settle(s *shard, h *half, b *batch) {
	if h.flags&toOrder != 0 && h.serving() {
		p.orderLate(s, h, b)
	}
	if h.flags&mute != 0 {
		return
	}
	if h.outgoing() {
		if h.out.is(outAnswered) && h.out.calls > 1 && !p.order(s, h, b) {
			p.attemptsBelow(s, h, b)
		}
		if s.triedBeside(h) && !s.settled(h) {
			p.settleAttempt(s, h, b)
		}
	} else if h.servedAgain() {
		s.settleServed(h, b)
	}
	from := len(b.facts)
	if h.outgoing() {
		if h.flags&about != 0 {
			p.below(s, h, func(c *half) bool {
				if c.flags&(outside|waited) == outside|waited {
					p.apart(h, c, b)
				}
				return true
			})
		}
	}
	if h.flags&outside != 0 {
		if above := p.caller(s, h); above != nil && above.outgoing() && callee(above, h) {
			if above.flags&waited != 0 {
				p.apart(above, h, b)
			} else {
				above.flags |= about
			}
		}
	}
	if len(b.facts) > from && p.movable(h) {
		s.book(h, b.facts[from:], ofItself, b)
	}
	switch h.role {
	case processes, receives:
		s.consumed(h, b)
	case turnsDown:
		p.settled(h, graph.TurnedDown, b)
	case givesUp:
		p.settled(h, graph.GivenUp, b)
	default:
		if h.note != 0 {
			s.links(h, b)
		}
	}
}

// settled emits what a consumer did with a message instead of processing it.
func (p *pairer) settled(h *half, m graph.Measure, b *batch) {
	pe := p.dir.peers.at(h.peer)
	if pe == nil || pe.kind != peerQueue || h.verdict.outcome != graph.OK {
		return
	}
	queue, _ := p.dir.fallback(pe)
	b.fact(graph.EdgeRef{Source: queue, Target: h.node, Protocol: graph.Messaging}, h.end(), m, h.duration, h.weight, false)
}

// fact appends a value of a measure.
func (b *batch) fact(edge graph.EdgeRef, end int64, m graph.Measure, value int64, weight int32, failed bool) {
	b.facts = append(b.facts, graph.Fact{
		Edge: edge, End: end, Dimension: graph.Measured, Label: graph.Label(m), Value: value, Weight: weight, Failed: failed,
	})
}

// called returns the edge on which a caller's half counts.
func (h *half) called() graph.EdgeRef {
	return graph.EdgeRef{Source: h.node, Target: h.out.target, Protocol: h.out.protocol}
}

// serves returns the edge on which a callee's half counts.
func (h *half) serves() graph.EdgeRef {
	return graph.EdgeRef{Source: h.in.source, Target: h.node, Protocol: h.in.protocol}
}

// apart emits what it means that the callee's half h does not lie within the caller's half c: work for nobody, or clocks
// that differ. Where the caller had left, the callee may well end after it. How far their clocks differ is what other
// calls have shown, and a beginning before the call shows that the callee's clock is further behind: the work is
// corrected by as much. Where it had not, the halves' lengths, which no clock falsifies, say how far from the middle of
// the call the callee can have been.
func (p *pairer) apart(c, h *half, b *batch) {
	if c.flags&mute != 0 || h.in.source != c.node || h.in.call {
		return
	}
	weight := max(c.weight, h.weight)
	behind := c.start - h.start
	if c.left() {
		if behind > minSkew {
			b.fact(h.serves(), h.end(), graph.SkewBehind, behind, weight, false)
		}
		ahead := p.offsets.ahead(c.instance, h.instance)
		ahead = min(ahead, -behind)
		if wasted := min(h.end()-ahead-c.end(), h.duration); wasted > 0 {
			b.fact(h.serves(), h.end(), graph.Wasted, wasted, weight, false)
		}
		return
	}
	gap := c.duration - h.duration
	ahead := (h.start - c.start + h.end() - c.end()) / 2
	if gap < 0 {
		// It worked on after it had answered. Only a beginning outside of the call shows the clocks.
		b.negative++
		b.fact(h.serves(), h.end(), graph.NegativeGap, -gap, weight, false)
		gap, ahead = 0, max(0, h.start-c.end())-max(0, behind)
	}
	switch limit := max(gap, minSkew); {
	case ahead > limit:
		b.fact(h.serves(), h.end(), graph.Skew, ahead, weight, false)
	case -ahead > limit:
		b.fact(h.serves(), h.end(), graph.SkewBehind, -ahead, weight, false)
	}
}

// settleAttempt emits what h is in its logical call, and the whole of that once all of it has waited.
func (p *pairer) settleAttempt(s *shard, h *half, b *batch) {
	var g siblings
	g.gather(s, h)
	i := g.index(h)
	if i < 0 {
		return // one of too many, or part of another call
	}
	p.beside(s, &g, i, b)
	p.twice(s, &g, i, b)
	p.heededAnew(s, &g, h, b)
	for j := range g.n {
		if g.is[j] == retries && g.to[j] == h {
			p.twice(s, &g, j, b)
		}
	}
	s.whole(&g, i, b)
}

// beside emits what an attempt is to those beside it.
func (p *pairer) beside(s *shard, g *siblings, i int, b *batch) {
	h, earlier := g.of[i], g.to[i]
	if h.flags&mute != 0 || h.out.target == 0 || earlier == nil {
		return
	}
	from, failed := len(b.facts), h.verdict.outcome == graph.Error
	switch g.is[i] {
	case retries:
		gap := max(0, h.start-earlier.end())
		b.again(h.called(), h.end(), gap, h.weight, failed)
		if j := g.index(earlier); g.is[j] == retries && g.to[j] != nil && g.is[g.index(g.to[j])] == unrelated {
			b.growth(h.called(), h.end(), max(0, earlier.start-g.to[j].end()), gap, h.weight, failed)
		}
	case resends:
		b.fact(h.called(), h.end(), graph.Resend, max(0, h.start-earlier.end()), h.weight, failed)
	case hedges:
		b.fact(h.called(), h.end(), graph.Hedge, h.start-earlier.start, h.weight, failed)
	case unrelated:
	}
	s.book(h, b.facts[from:], ofBeside, b)
	if g.is[i] == retries {
		p.heeded(s, h, earlier, b)
	}
}

// twice emits that an attempt is the retry of one that must not be made twice, once both have waited.
func (p *pairer) twice(s *shard, g *siblings, i int, b *batch) {
	if h, first := g.of[i], g.to[i]; g.is[i] == retries && first != nil && h.flags&first.flags&waited != 0 {
		p.madeTwice(s, first, h, b)
	}
}

// whole emits how long the logical call of an attempt took, if that was retried and all of its attempts have waited.
func (s *shard) whole(g *siblings, i int, b *batch) {
	first, last := g.call(i)
	if last == nil || last.out.target == 0 {
		return
	}
	b.fact(last.called(), last.end(), graph.RetriedCall, last.end()-first.start, last.weight, last.verdict.outcome == graph.Error)
	s.book(last, b.facts[len(b.facts)-1:], ofBeside, b)
}

// mendBeside says anew what attempts that have waited are in their logical calls, because another one, h, came late among
// them. Where not all is remembered that was said of them, or not all of them are, it stays as it is, and nothing
// is said of h.
func (p *pairer) mendBeside(s *shard, g *siblings, h *half, b *batch) {
	of := g.of[:g.n]
	if slices.ContainsFunc(of, func(c *half) bool { return c.flags&waited != 0 && s.settled(c) }) {
		s.noteOf(h).settled = true
		return
	}
	for _, c := range of {
		if c.flags&waited != 0 {
			c.flags |= keep // until h has waited
			s.takeBack(c, b, ofBeside, ofAgain, ofPushback)
		}
	}
	for i, c := range of {
		if c.flags&waited == 0 {
			continue
		}
		p.beside(s, g, i, b)
		p.twice(s, g, i, b)
		if g.is[i] == unrelated || g.is[i] == resends {
			s.whole(g, i, b)
		}
	}
}

// again emits a retry and how long it waited.
func (b *batch) again(edge graph.EdgeRef, end, gap int64, weight int32, failed bool) {
	b.fact(edge, end, graph.RetryGap, gap, weight, failed)
}

// growth emits how the second wait of a logical call compares to the first.
func (b *batch) growth(edge graph.EdgeRef, end, first, second int64, weight int32, failed bool) {
	b.fact(edge, end, graph.RetryGrowth, second*1000/max(first, 1), weight, failed)
}

// madeTwice emits that a call that must not be made twice was, after its first attempt may have been carried out.
func (p *pairer) madeTwice(s *shard, first, again *half, b *batch) {
	if again.flags&once == 0 || first.flags&mute != 0 || first.out.target == 0 {
		return
	}
	f := first.out.cause.Failure()
	if f != graph.Timeout && f != graph.LostResponse {
		return
	}
	done := f == graph.LostResponse
	s.children(first, first.id, func(c *half) bool {
		done = done || c.serving() && callee(first, c) && c.verdict.outcome == graph.OK
		return !done
	})
	b.fact(first.called(), first.end(), graph.UnsafeRetry, first.duration, first.weight, done)
	s.bookOne(first, booked{fact: b.facts[len(b.facts)-1], of: ofAgain}, b)
	if !done {
		first.flags |= doubted
	}
}

// corrected acts on that a caller's half that has waited counts otherwise than before, because its callee's came late.
func (p *pairer) corrected(s *shard, h *half, was outFact, b *batch) {
	s.follow(h, b)
	if h.flags&mute != 0 {
		return
	}
	p.recount(s, h, b)
	lost := h.out.cause.Failure() == graph.LostResponse
	if before := was.cause.Failure() == graph.LostResponse; before && !lost {
		s.takeBack(h, b, ofAgain)
	} else if before {
		lost = false
	}
	named := h.out.is(outAnswered) && !was.is(outAnswered) && h.peer == 0
	if !lost && !named || !s.triedBeside(h) {
		return
	}
	var g siblings
	g.gather(s, h)
	for i, c := range g.of[:g.n] {
		if lost && g.is[i] == retries && g.to[i] == h && c.flags&waited != 0 {
			p.madeTwice(s, h, c, b)
		}
		if named && c != h && !c.out.is(outAnswered) {
			p.outgoing(s, c, b) // it does not say whom it called either
		}
	}
}

// recount emits anew what there is to say of attempts below a half that has waited.
func (p *pairer) recount(s *shard, h *half, b *batch) {
	s.takeBack(h, b, ofBelow)
	if s.dated(h) {
		p.below(s, h, func(c *half) bool {
			if c.serving() && c.flags&waited == 0 {
				c.flags |= toOrder
				h.flags |= keep
			}
			return true
		})
	}
	if h.out.is(outAnswered) && h.out.calls > 1 {
		p.attemptsBelow(s, h, b)
	}
}

// order says of the attempts below a half that has waited in which order they were, by what is known of clocks by now, in
// its figures as well as in its facts. It returns false, and does nothing, where some of them are not there any more.
func (p *pairer) order(s *shard, h *half, b *batch) bool {
	if p.deriveOut(s, h).calls != h.out.calls {
		return false
	}
	p.outgoing(s, h, b)
	return true
}

// orderLate says anew what clocks are asked about of the call that h answers: h came late, and what came with it has taught
// the clocks by now.
func (p *pairer) orderLate(s *shard, h *half, b *batch) {
	above := p.caller(s, h)
	if above == nil || !above.outgoing() || above.flags&(waited|mute) != waited {
		return
	}
	if above.out.calls > 1 {
		p.order(s, above, b)
	}
	if s.triedBeside(above) {
		var g siblings
		g.gather(s, above)
		p.heededAnew(s, &g, above, b)
	}
}

// served are the callee's halves of the attempts that a library made under one client span, in order.
type served struct {
	of [maxSiblings]servedAttempt
	n  int
}

// servedAttempt is one of them: by the clock of its caller, as far as it is known how its own differs from it.
type servedAttempt struct {
	*half
	from, to int64
}

// servedBelow finds the attempts under the client span h that a service served. Where some of them came when h had waited,
// they all stay, and are put in order again when those have waited too: what came with them has taught the clocks by then.
func (p *pairer) servedBelow(s *shard, h *half, callee graph.NodeRef, below *served) {
	late := false
	p.below(s, h, func(c *half) bool {
		if c.serving() && c.node == callee {
			if h.flags&waited != 0 && c.flags&waited == 0 {
				c.flags |= toOrder
				late = true
			}
			ahead := p.offsets.ahead(h.instance, c.instance)
			below.of[below.n] = servedAttempt{c, c.start - ahead, c.end() - ahead}
			below.n++
		}
		return below.n < maxSiblings
	})
	if late {
		h.flags |= keep
		for _, c := range below.of[:below.n] {
			c.flags |= keep
		}
	}
	slices.SortFunc(below.of[:below.n], func(x, y servedAttempt) int { return cmp.Or(cmp.Compare(x.from, y.from), cmp.Compare(x.id, y.id)) })
}

// hedgedBelow reports whether each attempt under the client span h, but the first, began while the one before was going
// on.
func (p *pairer) hedgedBelow(s *shard, h *half, callee graph.NodeRef) bool {
	var below served
	p.servedBelow(s, h, callee, &below)
	for i := 1; i < below.n; i++ {
		if below.of[i].from >= below.of[i-1].to {
			return false
		}
	}
	return below.n > 1
}

// attemptsBelow emits the attempts that the library of h made under its one span, as their callees saw them.
func (p *pairer) attemptsBelow(s *shard, h *half, b *batch) {
	emitted := len(b.facts)
	var below served
	p.servedBelow(s, h, h.out.target, &below)
	var first int64 // the first wait
	for i := 1; i < below.n; i++ {
		before, c := below.of[i-1], below.of[i]
		failed := c.verdict.outcome == graph.Error
		switch {
		case c.from < before.to:
			b.fact(h.called(), h.end(), graph.Hedge, c.from-before.from, h.weight, failed)
		case before.verdict.outcome == graph.Error:
			gap := c.from - before.to
			b.again(h.called(), h.end(), gap, h.weight, failed)
			if i == 1 {
				first = gap
			} else if i == 2 && below.of[0].verdict.outcome == graph.Error {
				b.growth(h.called(), h.end(), first, gap, h.weight, failed)
			}
		}
	}
	if h.flags&(retry|resolved) == 0 && h.out.flags&uint8(hedge) == 0 {
		b.fact(h.called(), h.end(), graph.RetriedCall, h.duration, h.weight, h.verdict.outcome == graph.Error)
	}
	s.book(h, b.facts[emitted:], ofBelow, b)
}

// attemptOf says what a call that only its callee shows is in its logical call, by what it says of attempts before it.
func (s *shard) attemptOf(h *half) (flags uint8) {
	if h.resend > 0 {
		flags = uint8(retry)
	}
	if s.triedBeside(h) {
		s.children(h, h.parent, func(c *half) bool {
			if c != h && c.serving() && c.node == h.node && c.resend > h.resend && c.start > h.start {
				flags |= uint8(resolved)
			}
			return flags&uint8(resolved) == 0
		})
	}
	return flags
}

// servedAgain reports whether h is a retry that only its callee shows.
func (h *half) servedAgain() bool { return h.in.call && h.in.flags&uint8(retry) != 0 }

// settleServed emits a retry that only its callee shows, if the attempt before it is there.
func (s *shard) settleServed(h *half, b *batch) {
	var before *half
	if h.parent != 0 {
		s.children(h, h.parent, func(c *half) bool {
			if c.serving() && c.node == h.node && c.resend < h.resend && c.end() <= h.start &&
				(before == nil || c.end() > before.end() || c.end() == before.end() && c.id > before.id) {
				before = c
			}
			return true
		})
	}
	if before != nil {
		b.again(h.serves(), h.end(), h.start-before.end(), h.weight, h.verdict.outcome == graph.Error)
		s.book(h, b.facts[len(b.facts)-1:], ofBeside, b)
	}
}

// answeredBeside returns the sibling whose callee is known, of a call that does not name its peer: an attempt of the same
// call, by a library that names it nowhere.
func (s *shard) answeredBeside(h *half) (beside *half) {
	if !s.triedBeside(h) {
		return nil
	}
	s.children(h, h.parent, func(c *half) bool {
		if c.outgoing() && c.node == h.node && c.peer == h.peer && c.operation == h.operation && c.out.is(outAnswered) &&
			(beside == nil || c.start < beside.start || c.start == beside.start && c.id < beside.id) {
			beside = c
		}
		return true
	})
	return beside
}
