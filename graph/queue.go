package graph

import (
	"slices"

	"faultline/internal/sketch"
)

// Calls wait in their shard until there are several for each of its edges, and are then added edge by edge: what an edge
// needs from memory is waited for once for all of its calls, and together with what the next edges need.
const (
	maxTogether   = 128     // calls that are given to their shards together
	maxShards     = 64      // a few for each processor: enough that they rarely wait for each other
	queuedPerEdge = 32      // calls that wait, for each edge of a shard
	maxQueued     = 1 << 18 // calls that wait, in all shards: 23 MB
	maxTouch      = 16      // edges that are read ahead: what was read stays in the processor's cache until it is used
)

// linkShare is which part of the edges may be Linked ones, so that they never take an edge's place that has calls.
const linkShare = 10

// fewEdges stay in the processor's cache by themselves: an edge with its open windows takes a few kilobytes.
const fewEdges = 128

// Observe adds calls to their windows. It does not keep the slice. Windows that were closed before are opened again, as
// another part. Whoever asks sees every call that was observed before.
func (l *Live) Observe(calls []Call) {
	for chunk := range slices.Chunk(calls, maxTogether) {
		l.observe(chunk)
	}
}

// observe gives at most maxTogether calls to their shards.
func (l *Live) observe(calls []Call) {
	var shards, order [maxTogether]uint8
	var ends [maxShards]uint8
	for i := range calls {
		k := uint8(l.shardOf(calls[i].Edge.pack()))
		shards[i] = k
		ends[k]++
	}
	sum := uint8(0)
	for i, n := range ends[:len(l.shards)] {
		ends[i] = sum
		sum += n
	}
	for i, k := range shards[:len(calls)] {
		order[ends[k]] = uint8(i)
		ends[k]++
	}
	first := uint8(0)
	for k, last := range ends[:len(l.shards)] {
		if first == last {
			continue
		}
		var moved []Call
		sh := &l.shards[k]
		sh.mu.Lock()
		for _, i := range order[first:last] {
			sh.queue = append(sh.queue, calls[i])
		}
		if len(sh.queue) >= min(queuedPerEdge*max(len(sh.edges), 4), maxQueued/len(l.shards)-maxTogether) {
			moved = l.drain(sh)
		}
		sh.mu.Unlock()
		l.move(moved)
		first = last
	}
}

// settle adds every call that waits.
func (l *Live) settle() {
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		moved := l.drain(sh)
		sh.mu.Unlock()
		l.move(moved)
	}
}

// drain adds the calls that wait in a locked shard to their windows, each edge's in their order. It returns those whose
// edge would be one too many.
func (l *Live) drain(sh *liveShard) (moved []Call) {
	queue := sh.queue
	sh.next = slices.Grow(sh.next[:0], len(queue))[:len(queue)]
	edges := sh.called[:0]
	for i := range queue {
		e := l.edge(sh, queue[i].Edge)
		if e == nil {
			moved = append(moved, queue[i])
			continue
		}
		at := int32(i) + 1
		sh.next[i] = 0
		if e.firstQueued == 0 {
			e.firstQueued = at
			edges = append(edges, e)
		} else {
			sh.next[e.lastQueued-1] = at
		}
		e.lastQueued = at
	}
	many := l.edges.Load() > fewEdges
	for chunk := range slices.Chunk(edges, maxTouch) {
		if many {
			for _, e := range chunk {
				for at := e.firstQueued; at != 0; at = sh.next[at-1] {
					sh.touched += e.touch(&queue[at-1])
				}
			}
		}
		for _, e := range chunk {
			for at := e.firstQueued; at != 0; at = sh.next[at-1] {
				l.add(e, &queue[at-1])
			}
			e.firstQueued = 0
		}
	}
	clear(edges)
	sh.queue, sh.called = queue[:0], edges[:0]
	return moved
}

// move adds calls whose own edge would be one too many to the one that gathers them.
func (l *Live) move(calls []Call) {
	if len(calls) == 0 {
		return
	}
	l.dropped[dropEdges].Add(int64(len(calls)))
	sh := &l.shards[l.shardOf(l.other.pack())]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := l.edge(sh, l.other)
	for i := range calls {
		if calls[i].Edge.Protocol != Linked {
			l.add(e, &calls[i])
		}
	}
}

// edge returns an edge of a locked shard, made if need be, nil when it would be one too many.
func (l *Live) edge(sh *liveShard, ref EdgeRef) *liveEdge {
	k := ref.pack()
	e := sh.edges[k]
	if e == nil {
		linked := ref.Protocol == Linked
		if ref != l.other && l.edges.Load() >= int64(l.cfg.MaxEdges) || linked && l.links.Load() >= max(int64(l.cfg.MaxEdges)/linkShare, 1) {
			return nil
		}
		if linked {
			l.links.Add(1)
		}
		e = &liveEdge{ref: ref}
		sh.edges[k] = e
		l.edges.Add(1)
	}
	return e
}

// touch reads what adding the call will most probably read, so that it is in the cache by then.
func (e *liveEdge) touch(c *Call) (sum int64) {
	if c.Moved {
		return 0 // it reads little, of what was read a moment ago
	}
	bucket := sketch.Bucket(c.Duration)
	if w := e.newestWindow; w != nil {
		s := &w.stats
		sum = s.Calls + s.Messages + s.Busy
		if c.Side == ClientSide {
			sum += s.Client.At(bucket)
		} else {
			sum += s.Server.At(bucket)
		}
	}
	if m := e.newestMinute; m != nil {
		if c.Side == ClientSide {
			sum += m.details[clientOperations].touch(operationKey(c.Operation), bucket)
			sum += m.details[clientInstances].touch(listKey(c.Instance), bucket)
			if key := pairOf(c.Version, c.PeerVersion); key != m.pair && !c.Awaited {
				sum += m.details[versionPairs].touch(key, bucket)
			}
		} else {
			sum += m.details[serverOperations].touch(operationKey(c.Operation), bucket)
			sum += m.details[serverInstances].touch(listKey(c.Instance), bucket)
			if key := versionKey(c.Version); key != m.version {
				sum += m.details[serverVersions].touch(key, bucket)
			}
		}
	}
	return sum
}

// touch reads what counting the key will read.
func (d *detailList) touch(key listKey, bucket int) int64 {
	for i, k := range d.keys {
		if k == key {
			return d.details[i].Calls + d.details[i].Latency.At(bucket)
		}
	}
	return 0
}
