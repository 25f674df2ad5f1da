package ingest

import (
	"cmp"
	"maps"
	"slices"

	"faultline/graph"
)

// Producers and consumers do not call each other, but where chains of calls connect them, the offsets along the chain say
// how their clocks stand to each other.

// standing is how the clock of a process stands to that of the first of the processes that calls connect it with.
type standing struct {
	first  graph.Label
	ahead  int64       // nanoseconds
	up     graph.Label // the one before it on the chain from the first
	within int64       // by how much its difference from that one may be off
	far    int         // calls from the first
}

// surveyEvery is how often it is looked how all clocks stand, in nanoseconds: twice within the wait.
const surveyEvery = int64(5e9)

// survey finds out how the clocks of all processes stand to each other, along the shortest chains of calls.
func (o *offsets) survey(now int64) {
	if now-o.surveyed < surveyEvery {
		return
	}
	o.surveyed = now
	type step struct {
		to            graph.Label
		ahead, within int64
	}
	steps := map[graph.Label][]step{}
	o.mu.RLock()
	for _, generation := range [...]map[uint64]*offset{o.of.old, o.of.young} {
		for key, k := range generation {
			if caller, callee := graph.Label(key>>32), graph.Label(key); k.known {
				steps[caller] = append(steps[caller], step{callee, k.ahead, k.within})
				steps[callee] = append(steps[callee], step{caller, -k.ahead, k.within})
			}
		}
	}
	o.mu.RUnlock()
	all := make(map[graph.Label]standing, len(steps))
	var queue []graph.Label
	for _, first := range slices.Sorted(maps.Keys(steps)) {
		if _, reached := all[first]; reached {
			continue
		}
		all[first] = standing{first: first}
		for queue = append(queue[:0], first); len(queue) > 0; queue = queue[1:] {
			up := queue[0]
			at := all[up]
			slices.SortFunc(steps[up], func(x, y step) int {
				return cmp.Or(cmp.Compare(x.within, y.within), cmp.Compare(x.ahead, y.ahead), cmp.Compare(x.to, y.to)) // the surest first
			})
			for _, s := range steps[up] {
				if _, reached := all[s.to]; !reached {
					all[s.to] = standing{first, at.ahead + s.ahead, up, s.within, at.far + 1}
					queue = append(queue, s.to)
				}
			}
		}
	}
	o.standing.Store(&all)
}

// difference returns how far the clock of process b is ahead of that of a, by how much that may be off, and whether
// anything is known of it.
func (o *offsets) difference(a, b graph.Label) (ahead, within int64, known bool) {
	all := o.standing.Load()
	if a == b || all == nil {
		return 0, 0, a == b && a != 0
	}
	x, ok := (*all)[a]
	y, too := (*all)[b]
	if !ok || !too || x.first != y.first {
		return 0, 0, false
	}
	ahead = y.ahead - x.ahead
	// Only the part of their chains that they do not share counts: whichever process is the first says nothing of these two.
	for a != b {
		if x.far >= y.far {
			within += x.within
			a, x = x.up, (*all)[x.up]
		} else {
			within += y.within
			b, y = y.up, (*all)[y.up]
		}
	}
	return ahead, within, true
}
