package graph

import (
	"slices"

	"faultline/internal/sketch"
)

// add adds a call to its edge, whose shard is locked.
func (l *Live) add(e *liveEdge, c *Call) {
	if c.Moved {
		l.versionKnown(e, c)
		return
	}
	w := e.window(floorDiv(c.End, windowNanos))
	s := &w.stats
	weight := int64(c.Weight)
	s.Calls += int64(c.Calls) * weight
	s.LogicalCalls += int64(c.Logical) * weight
	s.LogicalErrors += int64(c.LogicalErrors) * weight
	s.Hedges += int64(c.Hedges) * weight
	s.Messages += int64(c.Messages) * weight
	sign := int64(1)
	if weight < 0 {
		sign = -1
	}
	if c.Calls != 0 {
		s.Raw += int64(c.Calls) * sign
		switch c.Outcome {
		case ClientError:
			s.ClientErrors += weight
		case Cancelled:
			s.Cancelled += weight
		}
		if c.ServerMissing {
			s.ServerMissing += weight
		}
		if c.ClientMissing {
			s.ClientMissing += weight
		}
	} else if c.Edge.Protocol == Linked {
		s.Raw += sign
	}
	if c.Errors != 0 {
		s.Errors += int64(c.Errors) * weight
		s.RawErrors += int64(c.Errors) * sign
		s.Failures[c.Failure] += int64(c.Errors) * weight
	}
	failed := c.Outcome == Error
	bucket := 0
	if c.Timed {
		bucket = sketch.Bucket(c.Duration) // the same in every sketch that it enters
		if c.Side == ClientSide {
			s.Client.AddAt(c.Duration, weight, bucket)
		} else {
			s.Server.AddAt(c.Duration, weight, bucket)
		}
	}
	if c.Side == ServerSide {
		s.ServerCalls += weight
		if failed {
			s.ServerErrors += weight
		}
	}
	if c.Timed && (c.Side == ClientSide || c.Calls != 0) {
		l.busy(e, c, weight)
	}
	if !c.Timed {
		return
	}
	m := e.minute(floorDiv(c.End, minuteNanos))
	caused := int64(c.Errors)
	if c.Outcome == Provoked {
		caused = int64(c.Calls)
	}
	if caused != 0 && c.Cause != 0 {
		d := m.details[causesSeen].find(listKey(c.Cause), NumCauses, sketch.MaxScale)
		d.Calls += caused * weight
		d.Raw += caused * sign
		d.Latency.AddAt(c.Duration, weight, bucket)
	}
	if c.Side == ClientSide {
		l.detail(m, clientOperations, operationKey(c.Operation), l.cfg.MaxOperations, weight, sign, failed, c.Duration, bucket)
		if c.Instance != 0 {
			l.detail(m, clientInstances, listKey(c.Instance), l.cfg.MaxInstances, weight, sign, failed, c.Duration, bucket)
		}
		if !c.Awaited {
			l.pair(m, c, c.PeerVersion, weight, sign, failed, bucket)
		}
		return
	}
	l.detail(m, serverOperations, operationKey(c.Operation), l.cfg.MaxOperations, weight, sign, failed, c.Duration, bucket)
	l.detail(m, serverInstances, listKey(c.Instance), l.cfg.MaxInstances, weight, sign, failed, c.Duration, bucket)
	key := versionKey(c.Version)
	if m.version == 0 {
		m.version = key
	}
	if key != m.version {
		l.detail(m, serverVersions, key, l.cfg.MaxVersions-1, weight, sign, failed, c.Duration, bucket)
	}
}

// pair counts a call by the versions of its caller and its callee, unless they are the first that the minute saw. A call
// that still waits for its callee is left with those: most often it turns out to be theirs.
func (l *Live) pair(m *edgeMinute, c *Call, callee Label, weight, sign int64, failed bool, bucket int) {
	key := pairOf(c.Version, callee)
	if (c.Outcome == ClientError || c.Failure == Contract) && key != unnamed {
		l.detail(m, turnedDownPairs, key, pairsPerVersion*l.cfg.MaxVersions, weight, sign, failed, c.Duration, bucket)
	}
	if m.pair == 0 {
		m.pair = key
	}
	if key != m.pair {
		l.detail(m, versionPairs, key, pairsPerVersion*l.cfg.MaxVersions-1, weight, sign, failed, c.Duration, bucket)
	}
}

// versionKnown counts a call that was counted before as one of another pair of versions.
func (l *Live) versionKnown(e *liveEdge, c *Call) {
	m, bucket := e.minute(floorDiv(c.End, minuteNanos)), sketch.Bucket(c.Duration)
	weight, failed := int64(c.Weight), c.Outcome == Error
	l.pair(m, c, c.PeerVersion, weight, 1, failed, bucket)
	if !c.Awaited {
		l.pair(m, c, c.WasPeer, -weight, -1, failed, bucket)
	}
}

// ObserveFacts adds facts to their minutes. It does not keep the slice. A fact of an edge without calls in its minute
// is kept all the same; one of an edge that is not there, and would be one too many, is dropped and counted.
func (l *Live) ObserveFacts(facts []Fact) {
	for i := range facts {
		f := &facts[i]
		sh := &l.shards[l.shardOf(f.Edge.pack())]
		sh.mu.Lock()
		e := l.edge(sh, f.Edge)
		if e == nil {
			sh.mu.Unlock()
			l.dropped[dropDetails].Add(1)
			continue
		}
		m := e.minute(floorDiv(f.End, minuteNanos))
		list, limit := measures, int(numMeasures)
		switch f.Dimension {
		case Group:
			list, limit = groups, l.cfg.MaxGroups
		case Entry:
			list, limit = entries, l.cfg.MaxOperations
		case EntryFailed:
			list, limit = entriesFailed, l.cfg.MaxOperations
		case EntryDepth:
			list, limit = entryDepths, l.cfg.MaxOperations
		case Producer:
			list, limit = producers, l.cfg.MaxInstances
		}
		sign := int64(1)
		if f.Weight < 0 {
			sign = -1
		}
		l.detail(m, list, listKey(f.Label), limit, int64(f.Weight), sign, f.Failed, f.Value, sketch.Bucket(f.Value))
		sh.mu.Unlock()
	}
}

// busy spreads a call's time in flight over the windows that it covers, no further back than the hold.
func (l *Live) busy(e *liveEdge, c *Call, weight int64) {
	end := c.End
	start := end - c.Duration
	w := floorDiv(end, windowNanos)
	if start >= w*windowNanos {
		x := e.window(w)
		x.stats.Busy += (end - start) * weight
		return
	}
	oldest := w - int64(l.cfg.Hold/WindowLength)
	for ; w >= oldest; w-- {
		from := max(start, w*windowNanos)
		if end > from {
			e.window(w).stats.Busy += (end - from) * weight
		}
		end = w * windowNanos
		if start >= end {
			return
		}
	}
}

// detail adds an observation with its latency, and the sketch's bucket of that, to one of the details of a list.
func (l *Live) detail(m *edgeMinute, list int, key listKey, limit int, weight, sign int64, failed bool, value int64, bucket int) {
	if key != 0 {
		l.count(m, list, key, limit, weight, sign, failed).Latency.AddAt(value, weight, bucket)
	}
}

// count adds an observation to one of the details of a list, and returns it.
func (l *Live) count(m *edgeMinute, list int, key listKey, limit int, weight, sign int64, failed bool) *Detail {
	d := m.details[list].find(key, limit, detailScale(list))
	if d == nil {
		l.dropped[dropDetails].Add(1)
		d = m.details[list].find(0, limit+1, detailScale(list))
	}
	d.Calls += weight
	d.Raw += sign
	if failed {
		d.Errors += weight
		d.RawErrors += sign
	}
	return d
}

// find returns the detail of a key, nil when it would be one too many.
func (d *detailList) find(key listKey, limit, scale int) *Detail {
	for i, k := range d.keys {
		if k == key {
			return &d.details[i]
		}
	}
	shown := len(d.keys)
	if slices.Contains(d.keys, unnamed) {
		shown--
	}
	if key != unnamed && shown >= limit {
		return nil
	}
	d.keys = append(d.keys, key)
	d.details = append(d.details, Detail{Latency: sketch.New(scale)})
	return &d.details[len(d.details)-1]
}
