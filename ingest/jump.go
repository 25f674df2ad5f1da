package ingest

// heed makes up for a clock that was set back since the last Tick. Callers hold tick.
func (in *Intake) heed(at int64) {
	if at < in.ticked {
		in.setBack(at)
	}
	in.ticked = at
}

// setBack lets everything that came by the time that the clock was before have come at at. It would wait until the clock
// is there again, and so would all that comes after it.
func (in *Intake) setBack(at int64) {
	for i := range in.shards {
		in.shards[i].setBack(at)
	}
	in.book.setBack(at)
	in.before.setBack(at)
	in.lastTick, in.lastNodes = min(in.lastTick, at), min(in.lastNodes, at)
	in.pairer.offsets.setBack(at)
	in.analysis.adapted = min(in.analysis.adapted, at)
}

func (s *shard) setBack(at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for slot := uint32(1); slot < s.next; slot++ {
		if h := s.at(slot); h.id != 0 {
			h.arrived = min(h.arrived, at)
		}
	}
	s.sent.since, s.delivered.since, s.awaiting.since = min(s.sent.since, at), min(s.delivered.since, at), min(s.awaiting.since, at)
}

func (o *offsets) setBack(at int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.surveyed, o.of.since = min(o.surveyed, at), min(o.of.since, at)
	for _, generation := range [...]map[uint64]*offset{o.of.young, o.of.old} {
		for _, k := range generation {
			k.since = min(k.since, at)
		}
	}
}

func (b *book) setBack(at int64) {
	b.adapted = min(b.adapted, at)
	b.mu.Lock()
	b.hurry(at)
	b.mu.Unlock()
	for i := range b.shards {
		sh := &b.shards[i]
		sh.mu.Lock()
		for _, t := range sh.traces {
			t.arrived = min(t.arrived, at)
		}
		sh.mu.Unlock()
	}
}

func (r *requestBook) setBack(at int64) {
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.Lock()
		sh.seen.since = min(sh.seen.since, at)
		sh.mu.Unlock()
	}
}
