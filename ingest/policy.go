package ingest

import (
	"cmp"
	"strconv"
	"time"

	"faultline/graph"
	"faultline/ingest/otlpwire"
	"faultline/internal/rules"
)

// policy is what the rules say of a service.
type policy struct {
	ignored bool
	rate    float64 // how many spans one stands for that says nothing of sampling
	biased  bool    // what is kept is chosen by how it ended
	// outcomes are what the rules say of how its spans ended; nil when they say nothing.
	outcomes *rules.Outcomes
}

// policyOf returns nil where the rules say nothing.
func policyOf(set *rules.Set, n graph.Node) *policy {
	p := policy{ignored: set.IgnoresService(n), rate: set.Rate(n), biased: set.Biased(n), outcomes: set.Outcomes(n)}
	if p == (policy{rate: 1}) {
		return nil
	}
	return &p
}

// reconsider returns how a span ended by the rules, and v where they say nothing.
func (p *policy) reconsider(v verdict, sp *otlpwire.Span, protocol graph.Protocol, operation []byte) verdict {
	if p == nil || p.outcomes == nil {
		return v
	}
	status := ""
	if code, ok := rpcStatus(sp); ok && (protocol == graph.GRPC || protocol == graph.RPC) {
		status = cmp.Or(code, "OK")
	} else if code := httpStatus(sp); code != 0 {
		status = strconv.FormatInt(code, 10)
	} else {
		return v
	}
	is, ok := p.outcomes.Of(status, string(operation))
	switch {
	case !ok, is == v.outcome && is != graph.Error:
		return v
	case is != graph.Error:
		return verdict{outcome: is}
	case v.outcome != graph.Error || sp.Kind == uint8(graph.SpanKindServer):
		return ended(class(graph.ServerError))
	}
	return v
}

// leaveOut makes a half one that the rules ignore: it says who called whom to the halves around it, and neither it nor
// the call that it is a half of counts.
func (in *Intake) leaveOut(sc *scratch, h *half) {
	if h.role != leftOut {
		h.role = leftOut
		h.flags |= mute
		sc.batch.dropped[dropIgnored]++
	}
}

// hidden reports whether a node is a service that the rules ignore: no call to or by it counts.
func (d *directory) hidden(ref graph.NodeRef) bool {
	if !d.hides.Load() {
		return false
	}
	s := d.lookup(ref)
	if s == nil {
		return false
	}
	p := s.policy.Load()
	return p != nil && p.ignored
}

// Apply puts rules in force. They hold for what comes from now on: names that were resolved by the rules before are
// resolved anew. Calls that were counted stay as they are.
func (in *Intake) Apply(now time.Time, set *rules.Set) {
	in.pairer.dir.apply(set, uint32(now.UnixNano()/int64(time.Minute)))
}

// retired are names by rules that are no longer in force. Halves in flight still refer to them.
type retired struct {
	minute     uint32
	resources  []*resource
	operations []*operation
	peers      []*peer
}

func (d *directory) apply(set *rules.Set, minute uint32) {
	d.mu.Lock()
	before := d.rules.Swap(set)
	d.hides.Store(set.HidesServices())
	old := retired{minute: minute}
	for _, r := range d.resources {
		old.resources = append(old.resources, r)
	}
	d.resources, d.places = map[uint64]*resource{}, map[placeKey][]*resource{}
	for _, s := range d.services {
		s.policy.Store(policyOf(set, s.node))
		s.mu.Lock()
		for _, o := range s.operations {
			old.operations = append(old.operations, o)
		}
		for _, p := range s.peers {
			old.peers = append(old.peers, p)
		}
		s.operations, s.peers = map[string]*operation{}, map[string]*peer{}
		s.mu.Unlock()
	}
	d.retired = append(d.retired, old)
	d.generation.Add(1)
	d.mu.Unlock()
	if before.Renames() || set.Renames() {
		for _, a := range d.aliases.all() { // who answers may have another name now
			a.reset()
		}
	}
}

// sweepRetired forgets names of former rules that nothing refers to any more. Callers hold mu.
func (d *directory) sweepRetired(old func(used uint32) bool) {
	for len(d.retired) > 0 && old(d.retired[0].minute) {
		for _, r := range d.retired[0].resources {
			d.freeResource(r)
		}
		for _, o := range d.retired[0].operations {
			d.freeOperation(o)
		}
		for _, p := range d.retired[0].peers {
			d.free(p)
		}
		d.retired = d.retired[1:]
	}
}
