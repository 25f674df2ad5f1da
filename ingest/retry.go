package ingest

import (
	"cmp"
	"slices"

	"faultline/graph"
)

// How far apart attempts of one logical call may lie.
const (
	// maxRetryGap is how long after a failed attempt another one is still taken for its retry, or thrice the attempt's
	// length, whichever is longer, where nothing but their order says so.
	maxRetryGap = int64(10e9)
	// minHedgeDelay is how long after the first of two attempts the other must begin to be its hedge: calls that are
	// made side by side begin together.
	minHedgeDelay = int64(1e6)
	// cancelledWithin is how soon after the good answer the other attempt of a hedged call is cancelled.
	cancelledWithin = int64(10e6)
)

// relation is what an attempt is to an earlier one.
type relation uint8

const (
	unrelated relation = iota
	retries            // again, because the earlier one failed
	resends            // again, for another reason: a redirect, credentials, or because the earlier one never left
	hedges             // beside the earlier one, which was going well
)

// siblings are the calls of one node to one peer below one span, which may be attempts of one logical call.
type siblings struct {
	of        [maxSiblings]*half
	is        [maxSiblings]relation // what each is to
	to        [maxSiblings]*half    // this other
	n         int
	parentEnd int64 // when the operation that made them ended; 0 when it is not there
}

// gather finds the calls beside h, h among them, and what they are to each other. It looks at all of them each time, so
// that the order in which they came does not matter.
func (g *siblings) gather(s *shard, h *half) {
	s.children(h, h.parent, func(c *half) bool {
		if c.outgoing() && c.node == h.node && c.peer == h.peer {
			g.of[g.n] = c
			g.n++
		}
		return g.n < maxSiblings
	})
	if above := s.find(h, h.parent); above != nil {
		g.parentEnd = above.end()
	}
	for i, c := range g.of[:g.n] {
		g.is[i], g.to[i] = g.relation(c)
	}
}

// alike reports whether two siblings may be attempts of one call. Attempts that say so may have got another name on
// the way, as after a redirect.
func alike(a, b *half) bool {
	return a != b && (a.operation == b.operation || a.resend > 0 || b.resend > 0)
}

// precedes reports whether a had ended when b began. Of two that began in the same millisecond, by a clock that counts
// whole ones, the one that ended first is taken to be the earlier.
func precedes(a, b *half) bool {
	if a.end() > latestStart(b) {
		return false
	}
	return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end(), b.end()), cmp.Compare(a.id, b.id)) < 0
}

// before returns the sibling that ended last before c began, nil when there is none.
func (g *siblings) before(c *half) (before *half) {
	for _, o := range g.of[:g.n] {
		if alike(o, c) && precedes(o, c) &&
			(before == nil || o.end() > before.end() || o.end() == before.end() && o.id > before.id) {
			before = o
		}
	}
	return before
}

// after returns the sibling that began first after c had ended, nil when there is none.
func (g *siblings) after(c *half) (after *half) {
	for _, o := range g.of[:g.n] {
		if alike(o, c) && precedes(c, o) &&
			(after == nil || o.start < after.start || o.start == after.start && o.id < after.id) {
			after = o
		}
	}
	return after
}

// hedged returns the sibling that c is a hedge of: the last of those that c began beside; nil when it is none.
func (g *siblings) hedged(c *half) (beside *half) {
	for _, o := range g.of[:g.n] {
		if alike(o, c) && c.start-o.start >= minHedgeDelay && latestStart(c) < o.end() && g.hedge(o, c) &&
			(beside == nil || o.start > beside.start || o.start == beside.start && o.id > beside.id) {
			beside = o
		}
	}
	return beside
}

// hedge reports whether c, which began while o was going on, is one call with it. That they overlap does not say so: so do
// calls that are made side by side. It shows when c says that it is another attempt; when the slower one was cancelled
// once the other was answered; or when the operation that made them waited for one and not for the other.
func (g *siblings) hedge(o, c *half) bool {
	if c.resend > 0 {
		return true
	}
	winner, loser := o, c
	if c.end() < o.end() {
		winner, loser = c, o
	}
	if winner.verdict.outcome != graph.OK {
		return false
	}
	if loser.verdict.outcome == graph.Cancelled && loser.end()-winner.end() <= cancelledWithin {
		return true
	}
	return g.parentEnd != 0 && winner.end() <= g.parentEnd && g.parentEnd < loser.end() && c.flags&once == 0
}

// relate says what c is to the sibling that ended before it.
func relate(before, c *half) relation {
	declared := c.resend > 0
	switch {
	case c.flags&transparent != 0:
		return resends
	case before == nil && declared:
		return retries // its siblings are not there
	case before == nil:
		return unrelated
	case before.retryable() && (declared || c.start-before.end() <= max(maxRetryGap, 3*before.duration)):
		return retries
	case !declared:
		return unrelated
	case before.verdict.outcome == graph.Cancelled:
		return retries // it was given up
	}
	return resends
}

// relation says what c is in its logical call, and to which earlier attempt, if that is there.
func (g *siblings) relation(c *half) (relation, *half) {
	before := g.before(c)
	r := relate(before, c)
	if r != retries || before == nil {
		if beside := g.hedged(c); beside != nil {
			return hedges, beside
		}
	}
	return r, before
}

// madeUp reports whether another attempt made up for c's failure: one that followed, or the other one of a hedged call.
func (g *siblings) madeUp(c *half) bool {
	if after := g.after(c); after != nil && relate(c, after) != unrelated {
		return true
	}
	for i, o := range g.of[:g.n] {
		other := g.to[i]
		if g.is[i] != hedges || o != c && other != c {
			continue
		}
		if o != c {
			other = o
		}
		if other.verdict.outcome != graph.Error || other.end() > c.end() || other.end() == c.end() && other.id > c.id {
			return true
		}
	}
	return false
}

// index returns which of the siblings c is, -1 for none.
func (g *siblings) index(c *half) int { return slices.Index(g.of[:g.n], c) }

// call returns the first attempt of the logical call of one of the siblings, and the last: the one whose good answer came
// first, or where none did the one that ended last. It returns none if the call was not retried, if not all of it has
// waited, or if its beginning is not there.
func (g *siblings) call(of int) (first, last *half) {
	var before [maxSiblings]int
	for i := range g.n {
		before[i] = i
		if g.is[i] == retries || g.is[i] == hedges {
			before[i] = -1
			if g.to[i] != nil {
				before[i] = g.index(g.to[i])
			}
		}
	}
	begins := func(i int) int {
		for i >= 0 && before[i] != i {
			i = before[i]
		}
		return i
	}
	root := begins(of)
	if root < 0 {
		return nil, nil
	}
	retried := false
	for i, c := range g.of[:g.n] {
		switch {
		case begins(i) != root:
			continue
		case c.flags&waited == 0 || c.flags&mute != 0:
			return nil, nil
		}
		retried = retried || g.is[i] == retries
		if last == nil || concludes(c, last) {
			last = c
		}
	}
	if !retried {
		return nil, nil
	}
	return g.of[root], last
}

// concludes reports whether it is c rather than o, another attempt, that ends their logical call.
func concludes(c, o *half) bool {
	good := func(h *half) bool { return h.verdict.outcome != graph.Error && h.verdict.outcome != graph.Cancelled }
	if good(c) != good(o) {
		return good(c)
	}
	later := cmp.Or(cmp.Compare(c.end(), o.end()), cmp.Compare(c.id, o.id)) > 0
	return later != good(c)
}

// late reports whether h changes what was said of attempts that have waited: it came among them, or goes on with them. What
// an attempt is depends on those that began before it.
func (g *siblings) late(h *half) bool {
	if h.flags&waited != 0 {
		return true
	}
	if i := g.index(h); i >= 0 && (g.is[i] == retries || g.is[i] == hedges) && g.to[i] != nil && g.to[i].flags&waited != 0 {
		return true
	}
	return slices.ContainsFunc(g.of[:g.n], func(c *half) bool { return c.flags&waited != 0 && c.start >= h.start && alike(c, h) })
}

// gone reports whether another attempt, not h, that a sibling was counted with is not there any more.
func (g *siblings) gone(h *half) bool {
	other := func(c *half, with func(o *half) bool) bool {
		return slices.ContainsFunc(g.of[:g.n], func(o *half) bool { return o != h && alike(o, c) && with(o) })
	}
	for _, c := range g.of[:g.n] {
		if c == h || c.flags&waited == 0 {
			continue
		}
		if c.flags&resolved != 0 && !other(c, func(o *half) bool { return o.start >= c.start || o.end() >= c.start }) ||
			c.flags&retry != 0 && c.resend == 0 && !other(c, func(o *half) bool { return o.start <= c.start }) {
			return true
		}
	}
	return false
}

// attempts finds out which of the calls beside h are attempts of one logical call, and counts them so.
func (p *pairer) attempts(s *shard, h *half, b *batch) {
	var g siblings
	g.gather(s, h)
	late := g.late(h)
	if late && g.gone(h) {
		s.noteOf(h).settled = true
	}
	for i, c := range g.of[:g.n] {
		c.flags &^= attempt
		switch g.is[i] {
		case hedges:
			c.flags |= retry | hedge
		case retries:
			c.flags |= retry
		case unrelated, resends:
		}
		if c.verdict.outcome == graph.Error && g.madeUp(c) {
			c.flags |= resolved
		}
	}
	for _, c := range g.of[:g.n] {
		p.outgoing(s, c, b)
	}
	if late {
		p.mendBeside(s, &g, h, b)
	}
}

// latestStart returns when h began at the latest. Some SDKs (JavaScript's) read the start from a clock of whole
// milliseconds and the length from a finer one: the true start may be almost a millisecond later.
func latestStart(h *half) int64 {
	if h.start%1e6 == 0 {
		return h.start + 1e6 - 1
	}
	return h.start
}
