package ingest

import (
	"bytes"
	"cmp"
	"strings"
	"sync/atomic"

	"faultline/graph"
	"faultline/ingest/otlpwire"
)

// A proxy that stands beside a service, its sidecar, is that service to everybody: the calls that its spans tell of are
// the service's own, told once more. So a sidecar's half counts only where the service's own half is not there, and
// pairing looks through it otherwise: A → [A's sidecar] → [B's sidecar] → B is one call from A to B. A proxy with a
// service name of its own, a gateway, takes part like a service.
//
// Whom a proxy stands beside may be known only after its first spans came. Until it is, or a half of the proxy has
// waited, the proxy's halves count nothing.

// maxProxies bounds how many spans of proxies may lie between caller and callee.
const maxProxies = 8

// isEnvoy tells what Envoy calls its service or its scope where nobody gave it a name.
func isEnvoy(name string) bool { return name == "envoy" || name == "istio-proxy" }

// proxyRole tells the spans of a proxy from others, which are ordinary. scoped says that the resource or the scope tells.
//
// Source: Envoy, "Tracing": the tags component, node_id, response_flags, upstream_cluster(.name); Istio adds its own.
func proxyRole(sp *otlpwire.Span, scoped bool) role {
	cluster := sp.Text(upstreamKeys...)
	switch {
	case scoped, len(cluster) > 0, string(sp.Text(otlpwire.Component)) == "proxy", sp.Has(otlpwire.IstioCanonicalService),
		sp.Has(otlpwire.NodeID) && sp.Has(otlpwire.ResponseFlags):
	default:
		return ordinary
	}
	if isHomeward(cluster) {
		return homeward
	}
	return outward
}

// isHomeward tells the clusters that stand for the service beside the proxy: Istio's and Consul's.
func isHomeward(cluster []byte) bool {
	return bytes.HasPrefix(cluster, []byte("inbound|")) || bytes.HasPrefix(cluster, []byte("local_app"))
}

// proxied is what is known of the proxies of one service name.
type proxied struct {
	own       *service // the service as which they count when they stand beside nobody
	place     string   // the pod's name or IP
	namespace string   // the cluster's
	canonical string
	gateway   bool // nothing says that it is a sidecar

	beside atomic.Pointer[service] // the service that they stand beside, once known
	looked atomic.Int64            // the directory's generation when it was last looked for
	alone  atomic.Bool             // one of their halves waited, and nothing was found
}

// standIn gives a proxy's half to the service that the proxy stands beside, as far as that is known.
func (in *Intake) standIn(sc *scratch, h *half, res *resource) {
	var px *proxied
	px, sc.name = in.pairer.dir.proxy(res, &sc.span, sc.name)
	if s, _ := in.pairer.dir.stands(px); s != res.service {
		h.node, h.instance, h.version = s.ref, 0, 0
	}
}

// sending notes that a service sends spans of its own.
func (d *directory) sending(s *service) {
	if !s.sends.Load() {
		s.sends.Store(true)
		d.generation.Add(1)
	}
}

// maxIdentities bounds the proxies of one resource that are told apart.
const maxIdentities = 1000

// proxy returns what is known of the proxy that sent a span. Proxies of many pods may have one resource, so they are told
// apart by what their spans say; key is room for that.
func (d *directory) proxy(r *resource, sp *otlpwire.Span, key []byte) (*proxied, []byte) {
	key = append(append(append(key[:0], sp.Text(otlpwire.NodeID)...), 0), sp.Text(otlpwire.IstioCanonicalService)...)
	r.identities.RLock()
	p := r.identities.m[string(key)]
	r.identities.RUnlock()
	if p != nil {
		return p, key
	}
	r.identities.Lock()
	defer r.identities.Unlock()
	if p := r.identities.m[string(key)]; p != nil {
		return p, key
	}
	if len(r.identities.m) >= maxIdentities {
		d.overflow.Add(1)
		return r.proxy.Load(), key
	}
	p = d.identify(r, sp)
	if r.identities.m == nil {
		r.identities.m = map[string]*proxied{}
	}
	r.identities.m[string(key)] = p
	r.proxy.CompareAndSwap(nil, p)
	return p, key
}

// identify reads from a span which proxy sent it.
func (d *directory) identify(r *resource, sp *otlpwire.Span) *proxied {
	p := &proxied{own: r.service, canonical: string(sp.Text(otlpwire.IstioCanonicalService)), namespace: string(sp.Text(otlpwire.IstioNamespace))}
	if len(r.places) > 0 {
		p.place = r.places[0].place
	}
	// Istio's node ids are type~IP~pod.namespace~domain.
	kind := ""
	if id := strings.Split(string(sp.Text(otlpwire.NodeID)), "~"); len(id) == 4 {
		pod, namespace, _ := strings.Cut(id[2], ".")
		kind, p.place = id[0], pod
		p.namespace = cmp.Or(p.namespace, namespace)
	}
	p.gateway = kind == "router" || kind == "" && p.canonical == "" && !isHomeward(sp.Text(upstreamKeys...))
	name := p.canonical
	if name == "" && r.envoy {
		name = workload(p.place) // the name that all of them have tells nothing
	}
	if name != "" && name != p.own.node.Name {
		n := p.own.node
		n.Namespace, n.Name = d.rules.Load().Service(n.Env, n.Namespace, graph.CleanName(name))
		p.own = d.service(n)
		p.own.used.Store(r.used.Load())
	}
	p.own.proxy.CompareAndSwap(nil, p)
	return p
}

// workload returns the name that a pod has from what it is one of: without the parts that Kubernetes adds for the
// replica set and the pod.
func workload(pod string) string {
	machine := func(part string) bool {
		return len(part) >= 5 && len(part) <= 10 && strings.Trim(part, "0123456789bcdfghjklmnpqrstvwxz") == "" || strings.Trim(part, "0123456789") == ""
	}
	for range 2 {
		if i := strings.LastIndexByte(pod, '-'); i > 0 && machine(pod[i+1:]) {
			pod = pod[:i]
		}
	}
	return pod
}

// elsewhere reports whether the service is no more than the name of a proxy that stands beside another one.
func (s *service) elsewhere() bool {
	p := s.proxy.Load()
	return p != nil && p.beside.Load() != nil
}

// lone reports whether the proxies are gateways, as far as is known.
func (p *proxied) lone() bool { return p.gateway && p.beside.Load() == nil && !p.own.sends.Load() }

// stands returns the service as which a proxy's spans count, and whether that is settled.
func (d *directory) stands(p *proxied) (s *service, settled bool) {
	if s := p.beside.Load(); s != nil {
		return s, true
	}
	if p.own.sends.Load() {
		return p.own, true // the service and its sidecar have one name
	}
	if g := d.generation.Load(); p.looked.Load() != g {
		p.looked.Store(g)
		if s := d.neighbour(p); s != nil {
			p.beside.Store(s)
			return s, true
		}
	}
	return p.own, p.alone.Load()
}

// neighbour finds the service that sends spans of its own from the proxy's pod, or under its canonical name, or under
// the part of its name before the namespace, as Istio joins them.
func (d *directory) neighbour(p *proxied) *service {
	env := p.own.node.Env
	sending := func(s *service) *service {
		if s == nil || s == p.own || !s.sends.Load() {
			return nil
		}
		return s
	}
	if p.place != "" {
		if s := sending(d.at(env, p.place)); s != nil {
			return s
		}
		if env == "" { // proxies are rarely told of it, and a pod is of one
			if s := sending(d.at(anyEnv, p.place)); s != nil {
				return s
			}
		}
	}
	if p.gateway {
		return nil
	}
	name, namespace := p.canonical, p.namespace
	if name == "" {
		name, _, _ = strings.Cut(p.own.node.Name, ".")
	}
	if s := sending(d.named(p.own, namespace, name)); s != nil {
		return s
	}
	return sending(d.named(p.own, "", name))
}

// settledAs returns the number of the node that a proxy's half belongs to, and whether that is settled.
func (p *pairer) settledAs(h *half) (graph.NodeRef, bool) {
	s := p.dir.byRef(h.node)
	if s.proxy.Load() == nil {
		return h.node, true
	}
	s, settled := p.dir.stands(s.proxy.Load())
	return s.ref, settled
}

// quiet reports whether a proxy's half has to wait until it is known whom the proxy stands beside.
func (p *pairer) quiet(h *half) bool {
	if !h.proxied() || h.flags&waited != 0 {
		return false
	}
	_, settled := p.settledAs(h)
	return !settled
}

// below calls each for the halves that may answer h: its children, and instead of a sidecar's the halves below it. Of a
// callee with a sidecar it is the callee's own half, where that is there. It stops when each returns false.
func (p *pairer) below(s *shard, h *half, each func(*half) bool) {
	if s.proxies == 0 {
		s.children(h, h.id, each)
		return
	}
	p.through(s, h, h, 0, each)
}

func (p *pairer) through(s *shard, h, at *half, depth int, each func(*half) bool) (more bool) {
	more = true
	s.children(at, at.id, func(c *half) bool {
		switch {
		case !c.proxied() || depth >= maxProxies:
			// What the service does beside the sidecar's call does not answer it.
			if at == h || c.serving() || c.node != h.node {
				more = each(c)
			}
		case c.node == h.node && (at.role != outward || !at.outgoing() || !c.serving()):
			more = p.through(s, h, c, depth+1, each) // the caller's own sidecar
		case p.quiet(c):
		case c.serving():
			if own := p.behind(s, c, 0); own != nil {
				c = own
			}
			more = each(c)
		default:
			more = each(c)
		}
		return more
	})
	return more
}

// behind returns the half of the service beside whose sidecar c is a serving half, the earliest where there are
// several; nil when there is none.
func (p *pairer) behind(s *shard, c *half, depth int) (own *half) {
	s.children(c, c.id, func(g *half) bool {
		found := g
		switch {
		case g.node != c.node:
			return true
		case !g.proxied():
			if !g.serving() {
				return true
			}
		case g.serving() || g.role == homeward:
			if depth >= maxProxies {
				return true
			}
			found = p.behind(s, g, depth+1)
		default:
			return true
		}
		if found != nil && (own == nil || found.start < own.start || found.start == own.start && found.id < own.id) {
			own = found
		}
		return true
	})
	return own
}

// repeats reports whether a proxy's half only tells once more what a half of the service beside it does.
func (p *pairer) repeats(s *shard, h *half) bool {
	if h.outgoing() && h.role == homeward || h.serving() && p.behind(s, h, 0) != nil {
		return true
	}
	above := s.parentOf(h)
	for n := 0; above != nil && above.node == h.node && n < maxProxies; n++ {
		if !above.proxied() {
			return above.outgoing()
		}
		if h.serving() && above.outgoing() {
			return false // from one pod of the service to another
		}
		above = s.parentOf(above)
	}
	return false
}

// caller returns the half above h, and instead of a sidecar's that only repeats it the one above that.
func (p *pairer) caller(s *shard, h *half) *half {
	above := s.parentOf(h)
	if s.proxies == 0 {
		return above
	}
	for n := 0; above != nil && above.proxied() && n < maxProxies && p.repeats(s, above); n++ {
		above = s.parentOf(above)
	}
	return above
}

// outermost returns the half at which a call to h came in: that of its service's sidecar, else h.
func (p *pairer) outermost(s *shard, h *half) *half {
	for range maxProxies {
		above := s.parentOf(h)
		if above == nil || above.node != h.node || !above.proxied() || above.outgoing() && above.role != homeward {
			return h
		}
		h = above
	}
	return h
}

// gatewayIn says who called a gateway that tells of what comes in and what goes out in one span, that of a client.
func (p *pairer) gatewayIn(s *shard, h *half) inFact {
	of := p.dir.byRef(h.node)
	px := of.proxy.Load()
	if px == nil || h.role != outward || p.repeats(s, h) {
		return inFact{}
	}
	above := s.parentOf(h)
	switch {
	case above != nil && above.node == h.node:
		return inFact{}
	case above != nil && above.outgoing():
		return inFact{source: above.node, protocol: either(above.protocol, h.protocol)}
	case above != nil:
		return inFact{source: above.node, protocol: h.protocol, call: true}
	case !px.lone():
		return inFact{}
	case h.parent == 0:
		return inFact{source: of.user, protocol: h.protocol, call: true}
	}
	return inFact{}
}

// restate counts anew what a half of a proxy, or one beside it, may have changed: everything from the half above the
// proxies down to those below them.
func (p *pairer) restate(s *shard, h *half, b *batch) {
	top := h
	for range maxProxies {
		above := s.parentOf(top)
		if above == nil || !above.proxied() && !top.proxied() {
			break
		}
		top = above
	}
	p.again(s, top, b, 0)
}

func (p *pairer) again(s *shard, h *half, b *batch, depth int) {
	moved := false
	if h.proxied() {
		if ref, _ := p.settledAs(h); ref != h.node {
			p.move(h, ref, b)
			moved = true
		}
	}
	if (h.proxied() || depth == 0) && depth <= maxProxies {
		s.children(h, h.id, func(c *half) bool {
			p.again(s, c, b, depth+1)
			return true
		})
	}
	if h.outgoing() {
		p.outgoing(s, h, b)
	}
	p.incoming(s, h, b)
	if moved && h.flags&waited != 0 {
		s.follow(h, b)
	}
	if depth > 1 {
		if c := p.caller(s, h); c != nil && tellsClocks(c, h) {
			b.learn(c, h) // the more often, the same
		}
	}
}

// move gives a proxy's half to the service beside it. What it counted as is taken back.
func (p *pairer) move(h *half, to graph.NodeRef, b *batch) {
	if h.in.source != 0 {
		b.in(h, h.in, -1)
		h.in = inFact{}
	}
	if h.out.target != 0 {
		b.out(h, h.out, -1)
		h.out = outFact{}
	}
	h.node = to
}

// aloneProxy settles whom a proxy stands beside, now that one of its halves has waited.
func (p *pairer) aloneProxy(s *shard, h *half, b *batch) {
	if px := p.dir.byRef(h.node).proxy.Load(); px != nil {
		px.alone.Store(true)
	}
	p.restate(s, h, b)
}

// proxyTimes measures the parts of the time between caller and callee that their sidecars tell apart, where all four
// halves of one attempt are there.
func (p *pairer) proxyTimes(s *shard, h *half, b *batch) {
	if s.proxies == 0 || h.proxied() || h.out.target == 0 || h.out.calls != 1 || h.flags&mute != 0 {
		return
	}
	out := p.ownProxy(s, h)
	if out == nil {
		return
	}
	var in *half
	s.children(out, out.id, func(c *half) bool {
		if c.proxied() && c.serving() && (in == nil || c.start < in.start) {
			in = c
		}
		return true
	})
	if in == nil {
		return
	}
	callee := p.behind(s, in, 0)
	if callee == nil {
		return
	}
	for _, part := range [...]struct {
		of           graph.Measure
		outer, inner *half
	}{{graph.ProxyOut, h, out}, {graph.Network, out, in}, {graph.ProxyIn, in, callee}} {
		b.fact(h.called(), h.end(), part.of, max(part.outer.duration-part.inner.duration, 0), max(h.weight, callee.weight), false)
	}
}

// ownProxy returns the outgoing half of the sidecar of h's service that carries h's call, nil without one.
func (p *pairer) ownProxy(s *shard, h *half) *half {
	at := h
	for range maxProxies {
		var next *half
		s.children(at, at.id, func(c *half) bool {
			if c.role == outward && c.node == h.node && (next == nil || c.start < next.start) {
				next = c
			}
			return true
		})
		if next == nil || next.outgoing() {
			return next
		}
		at = next
	}
	return nil
}

// saidBesides returns why the call of h failed. Where h says no more than that it did, as of a 503 that a sidecar answered
// with, the sidecars may know: the caller's first, which carried the call, then the callee's.
func (p *pairer) saidBesides(s *shard, h *half) graph.Cause {
	if s.proxies == 0 || !h.saysLittle() {
		return h.verdict.cause
	}
	out := h
	if !h.proxied() {
		if own := p.ownProxy(s, h); own != nil {
			out = own
		}
		if out.verdict.outcome == graph.Error && !out.saysLittle() {
			return out.verdict.cause
		}
	}
	var in *half
	s.children(out, out.id, func(c *half) bool {
		if c.role == homeward && c.serving() && c.verdict.outcome == graph.Error && !c.saysLittle() &&
			(in == nil || c.start < in.start || c.start == in.start && c.id < in.id) {
			in = c
		}
		return true
	})
	if in == nil {
		return h.verdict.cause
	}
	return in.verdict.cause
}

// saysLittle reports whether the call failed, and h does not say more closely why.
func (h *half) saysLittle() bool {
	c := h.verdict.cause
	return h.verdict.outcome == graph.Error && (c == class(graph.ServerError) || c == class(graph.Unclassified))
}

// proxyOnly reports whether a node is the name of a proxy: a call that was counted as one to it may have gone through.
func (p *pairer) proxyOnly(ref graph.NodeRef) bool {
	s := p.dir.byRef(ref)
	return s != nil && s.proxy.Load() != nil
}
