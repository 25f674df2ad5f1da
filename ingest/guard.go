package ingest

import (
	"math/bits"
	"slices"

	"faultline/graph"
	"faultline/ingest/otlpwire"
)

// guard reads an INTERNAL span that tells of a guard: a call that was not made. One that does not say to whom is not
// believed where an open breaker would have answered sooner.
func (in *Intake) guard(sc *scratch, h *half, res *resource, minute uint32) {
	sp := &sc.span
	if len(sp.Text(guardedPeerKeys...)) == 0 {
		if h.verdict.failure() == graph.BreakerOpen && h.duration >= breakerTakes {
			return
		}
		if in.pairer.dir.named(res.service, "", string(sp.Name)) != nil {
			sp.SetText(otlpwire.PeerService, sp.Name) // guards are often called like what they stand before
		}
	}
	h.kind = graph.SpanKindClient
	in.resolve(sc, h, res, minute)
}

// guardedPeerKeys are the attributes by which an INTERNAL span says before whom its breaker or pool stands.
var guardedPeerKeys = slices.Concat(declaredPeerKeys, peerHostKeys)

// callsBelow reports whether the service of h makes a call somewhere below h, as far as maxGuarded spans down.
func (p *pairer) callsBelow(s *shard, h *half, depth int) (calls bool) {
	if depth >= maxGuarded {
		return false
	}
	s.children(h, h.id, func(c *half) bool {
		calls = c.node == h.node && (c.outgoing() || c.kind == graph.SpanKindInternal && p.callsBelow(s, c, depth+1))
		return !calls
	})
	return calls
}

// maxGuarded is how many spans of the same service below one that tells of a guard are looked at for a call.
const maxGuarded = 4

// speak gives a call that its caller's own guard kept from a service, and that does not say how it would have been made, the
// protocol by which that service is called.
func (p *pairer) speak(h *half, f *outFact) {
	if f.protocol == graph.ProtocolUnknown && h.guarded() {
		f.protocol = p.dir.usual(f.target)
	}
}

// servedBy notes that a service serves by a protocol.
func (s *service) servedBy(by graph.Protocol) {
	if bit := uint32(1) << by; by != graph.ProtocolUnknown && s.serves.Load()&bit == 0 {
		s.serves.Or(bit)
	}
}

// usual returns the protocol by which a service is called, if it is seen to serve by one alone.
func (d *directory) usual(ref graph.NodeRef) graph.Protocol {
	if s := d.byRef(ref); s != nil {
		if by := s.serves.Load(); bits.OnesCount32(by) == 1 {
			return graph.Protocol(bits.TrailingZeros32(by))
		}
	}
	return graph.ProtocolUnknown
}
