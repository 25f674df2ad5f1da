package graph

import (
	"cmp"
	"slices"
	"time"

	"faultline/internal/sketch"
)

// part returns the number of the open part of a window. Callers hold cut.
func (l *Live) part(id partID) uint64 {
	n, ok := l.cut.numbers[id]
	if !ok {
		l.cut.last++
		n = l.cut.last
		l.cut.numbers[id] = n
	}
	return n
}

// Cut returns the parts that are to be written: those that changed since they were last cut, whole, and those that are
// closed, because their window ended longer than the hold ago, until Kept says that they are in the store. Of the details
// of minutes that are still open it returns those whose turn it is. What comes for a closed window goes into another part
// of it. The parts share no memory with what may still change.
func (l *Live) Cut(now time.Time) []Part { return l.cutParts(now, false) }

// CutAll is Cut with the details of every minute that changed: for the last time.
func (l *Live) CutAll(now time.Time) []Part { return l.cutParts(now, true) }

func (l *Live) cutParts(now time.Time, all bool) []Part {
	l.settle()
	l.cut.Lock()
	defer l.cut.Unlock()
	horizon := now.Add(-l.cfg.Hold).UnixNano()
	lastWindow, lastMinute := floorDiv(horizon, windowNanos)-1, floorDiv(horizon, minuteNanos)-1

	// A window is cut whole when any of its edges changed, so the changed windows are found first.
	sizes := map[partID]*partSize{}
	note := func(id partID, changed bool, rows int) {
		z := sizes[id]
		if z == nil {
			z = &partSize{}
			sizes[id] = z
		}
		z.changed = z.changed || changed
		z.rows += rows
	}
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		for _, e := range sh.edges {
			for _, w := range e.windows {
				note(partID{w.start * windowNanos, WindowLength}, w.dirty || w.start <= lastWindow, 1)
			}
			for _, m := range e.minutes {
				note(partID{m.start * minuteNanos, DetailLength}, m.dirty || m.start <= lastMinute, m.rows(&allLists))
			}
		}
		sh.mu.Unlock()
	}
	l.nodes.Lock()
	for k, n := range l.nodes.m {
		note(partID{k.minute * minuteNanos, DetailLength}, n.dirty || k.minute <= lastMinute, 0)
	}
	l.nodes.Unlock()
	if !all {
		l.takeTurns(sizes, now, horizon)
	}

	parts := make(map[partID]*Part, len(sizes))
	for id, z := range sizes {
		if !z.changed {
			continue
		}
		p := &Part{Window: Window{Start: time.Unix(0, id.start).UTC(), Length: id.length, Part: l.part(id)}}
		p.Open = id.start+int64(id.length) > horizon
		if id.length == WindowLength {
			p.Edges = make([]EdgeRow, 0, z.rows)
		} else {
			p.Details = make([]DetailRow, 0, z.rows)
		}
		parts[id] = p
		if !p.Open {
			delete(l.cut.numbers, id)
		}
	}
	l.collect(parts)

	// What is closed now has a try at the store first, however large it is.
	l.dropped[dropStore].Add(int64(l.cut.closing.bound(maxClosing, maxClosingBytes)))
	out := slices.Clone(l.cut.closing.parts)
	for _, p := range parts {
		if len(p.Edges)+len(p.Details)+len(p.Nodes) == 0 {
			continue
		}
		out = append(out, *p)
		if !p.Open {
			l.cut.closing.add(p)
		}
	}
	slices.SortFunc(out, comparePart)
	return out
}

// partSize is what is to be cut of a window.
type partSize struct {
	changed bool // or closed
	rows    int
}

// takeTurns leaves out the open minutes whose turn it is not. Details are many and change slowly: the more there are, the
// less often they are cut, and of as few minutes at a time as that allows, because a copy takes as much memory as what it
// is of. Callers hold cut.
func (l *Live) takeTurns(sizes map[partID]*partSize, now time.Time, horizon int64) {
	var waiting []partID
	for id, z := range sizes {
		if id.length == DetailLength && z.changed && id.start+int64(id.length) > horizon {
			waiting = append(waiting, id)
			z.changed = false
		}
	}
	if len(waiting) == 0 || now.Before(l.cut.nextDetails) {
		return
	}
	slices.SortFunc(waiting, func(a, b partID) int { return cmp.Compare(a.start, b.start) })
	next := max(0, slices.IndexFunc(waiting, func(id partID) bool { return id.start > l.cut.lastDetails }))
	rows, taken := 0, 0
	for rows < detailRowsPerSecond && taken < len(waiting) {
		id := waiting[(next+taken)%len(waiting)]
		sizes[id].changed = true
		l.cut.lastDetails = id.start
		rows += sizes[id].rows
		taken++
	}
	wait := min(time.Duration(rows/detailRowsPerSecond)*time.Second, maxDetailWait*time.Duration(taken)/time.Duration(len(waiting)))
	l.cut.nextDetails = now.Add(wait)
}

// collect fills the parts: copies of what is open, and what is closed itself, which it takes out of the edges.
func (l *Live) collect(parts map[partID]*Part) {
	var arena sketch.Arena
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		for k, e := range sh.edges {
			key := l.edgeKey(e.ref)
			for _, w := range e.windows {
				p := parts[partID{w.start * windowNanos, WindowLength}]
				if p == nil {
					continue
				}
				if p.Open {
					w.dirty = false
				}
				p.Edges = append(p.Edges, EdgeRow{key, w.stats.take(p.Open, &arena)})
			}
			for _, m := range e.minutes {
				p := parts[partID{m.start * minuteNanos, DetailLength}]
				if p == nil {
					continue
				}
				if p.Open {
					m.dirty = false
				}
				p.Details = l.appendDetails(p.Details, key, m, &allLists, p.Open, &arena)
			}
			// What was opened since the parts were chosen is in none of them and stays for the next cut.
			e.windows = slices.DeleteFunc(e.windows, func(w *edgeWindow) bool {
				p := parts[partID{w.start * windowNanos, WindowLength}]
				return p != nil && !p.Open
			})
			e.minutes = slices.DeleteFunc(e.minutes, func(m *edgeMinute) bool {
				p := parts[partID{m.start * minuteNanos, DetailLength}]
				return p != nil && !p.Open
			})
			e.newest()
			if len(e.windows) == 0 && len(e.minutes) == 0 {
				delete(sh.edges, k)
				l.edges.Add(-1)
				if e.ref.Protocol == Linked {
					l.links.Add(-1)
				}
			}
		}
		sh.mu.Unlock()
	}
	l.nodes.Lock()
	for k, n := range l.nodes.m {
		p := parts[partID{k.minute * minuteNanos, DetailLength}]
		if p == nil {
			continue
		}
		n.dirty = false
		p.Nodes = append(p.Nodes, l.nodeRow(k, n))
		if !p.Open {
			delete(l.nodes.m, k)
		}
	}
	l.nodes.Unlock()
}

// touchWindows reads what adding the open windows up will read.
func (e *liveEdge) touchWindows() (sum int64) {
	for _, w := range e.windows {
		sum += w.stats.Client.Touch() + w.stats.Server.Touch()
	}
	return sum
}

// take returns the stats, as a copy when they may still change.
func (s *EdgeStats) take(shared bool, arena *sketch.Arena) EdgeStats {
	c := *s
	if shared {
		c.Client, c.Server = s.Client.CloneInto(arena), s.Server.CloneInto(arena)
	}
	return c
}

// reset empties the stats and keeps the memory of their sketches.
func (s *EdgeStats) reset() {
	client, server := s.Client, s.Server
	client.Reset()
	server.Reset()
	*s = EdgeStats{Client: client, Server: server}
}

func (l *Live) edgeKey(ref EdgeRef) EdgeKey {
	return EdgeKey{l.names.LookupNode(ref.Source), l.names.LookupNode(ref.Target), ref.Protocol}
}

func (l *Live) nodeRow(k liveNodeKey, n *liveNode) NodeRow {
	node := l.names.LookupNode(k.Node)
	if k.Gateway {
		node.Kind = Gateway
	}
	return NodeRow{
		Node: node, Instance: l.names.Label(k.Instance), Version: l.names.Label(k.Version),
		Zone: l.names.Label(k.Zone), Host: l.names.Label(k.Host), Spans: n.spans,
	}
}

func (l *Live) appendDetails(rows []DetailRow, edge EdgeKey, m *edgeMinute, lists *detailLists, shared bool, arena *sketch.Arena) []DetailRow {
	for list := range m.details {
		if !lists[list] {
			continue
		}
		d := &m.details[list]
		for i, k := range d.keys {
			if k == unnamed {
				continue
			}
			key := detailKeys[list]
			key.Name = l.detailName(list, k)
			detail := d.details[i]
			if shared {
				detail.Latency = detail.Latency.CloneInto(arena)
			}
			rows = append(rows, DetailRow{edge, key, detail})
		}
	}
	for _, first := range [...]struct {
		key        listKey
		list, from int
	}{{m.pair, versionPairs, clientOperations}, {m.version, serverVersions, serverOperations}} {
		if lists[first.list] && first.key != 0 && first.key != unnamed {
			key := detailKeys[first.list]
			key.Name = l.detailName(first.list, first.key)
			rows = append(rows, DetailRow{edge, key, m.theRest(first.from, first.list, arena)})
		}
	}
	return rows
}

// theRest returns what the details of one list have without those of another. The smallest and largest latency are those
// of all.
func (m *edgeMinute) theRest(of, without int, arena *sketch.Arena) Detail {
	var sum Detail
	for i := range m.details[of].details {
		d := &m.details[of].details[i]
		if i == 0 {
			sum = *d
			sum.Latency = d.Latency.CloneInto(arena)
			continue
		}
		sum.Add(d)
	}
	for i := range m.details[without].details {
		sum.sub(&m.details[without].details[i])
	}
	return sum
}

// Kept says that parts of the last Cut are in the store: the closed ones are forgotten.
func (l *Live) Kept(parts []Part) {
	kept := map[PartKey]bool{}
	for i := range parts {
		if !parts[i].Open {
			kept[parts[i].Key()] = true
		}
	}
	if len(kept) == 0 {
		return
	}
	l.cut.Lock()
	defer l.cut.Unlock()
	l.cut.closing.forget(kept)
}

func comparePart(a, b Part) int {
	return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Length, b.Length), cmp.Compare(a.Part, b.Part))
}

// floorDiv divides rounding down, also below zero.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
