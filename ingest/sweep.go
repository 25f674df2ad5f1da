package ingest

import (
	"slices"
	"time"

	"faultline/graph"
	"faultline/graph/doctor"
)

const (
	// nameIdle is how long a name is remembered after its last use: longer than anything refers to it, as halves are
	// kept for lateFor and windows are open no longer than maxAhead and their hold.
	nameIdle = 40 * time.Minute
	// serviceIdle is how long a service is remembered: as long as what was noted of its instrumentation counts.
	serviceIdle = doctor.Window + 2*doctor.SlotLength
	// nodeIdle is how long nothing may have held a node's number before it is given again.
	nodeIdle = time.Hour
	// nodeSweep is how often it is looked who holds which.
	nodeSweep = 10 * time.Minute
)

// sweep forgets names that were not used for nameIdle.
func (d *directory) sweep(minute uint32) {
	longer := func(idle time.Duration) func(used uint32) bool {
		return func(used uint32) bool { return minute > used && minute-used > uint32(idle/time.Minute) }
	}
	old := longer(nameIdle)
	d.mu.Lock()
	services := make([]*service, 0, len(d.services))
	for _, s := range d.services {
		services = append(services, s)
	}
	for h, r := range d.resources {
		if old(r.used.Load()) {
			d.freeResource(r)
			d.leave(r)
			delete(d.resources, h)
		}
	}
	d.sweepRetired(old)
	d.mu.Unlock()
	for _, s := range services {
		s.mu.Lock()
		for name, o := range s.operations {
			if old(o.used.Load()) {
				d.freeOperation(o)
				delete(s.operations, name)
			}
		}
		for key, p := range s.peers {
			if old(p.used.Load()) {
				d.free(p)
				delete(s.peers, key)
			}
		}
		s.mu.Unlock()
	}
	d.aliases.sweep(int64(minute))
	d.sweepServices(minute, longer(serviceIdle))
}

// sweepServices forgets the services that nothing is known to run as, to stand beside, or to answer as.
func (d *directory) sweepServices(minute uint32, old func(used uint32) bool) {
	answers := map[graph.NodeRef]bool{}
	for _, a := range d.aliases.all() {
		answers[graph.NodeRef(a.sure.Load())] = true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	running := map[*service]bool{}
	for _, r := range d.resources {
		running[r.service] = true
		r.identities.RLock()
		for _, p := range r.identities.m {
			running[p.own], running[p.beside.Load()] = true, true
		}
		r.identities.RUnlock()
	}
	for n, s := range d.services {
		if s.called.Swap(false) || running[s] || answers[s.ref] {
			s.used.Store(minute)
		}
		if !old(s.used.Load()) || s.inUse() {
			continue
		}
		delete(d.services, n)
		if d.envs[n.Env]--; d.envs[n.Env] == 0 {
			delete(d.envs, n.Env)
		}
		k := [2]string{n.Env, n.Name}
		if d.byName[k] = slices.DeleteFunc(slices.Clone(d.byName[k]), func(o *service) bool { return o == s }); len(d.byName[k]) == 0 {
			delete(d.byName, k)
		}
		(*d.refs.Load())[s.ref].Store(nil)
	}
}

// inUse reports whether operations or peers of the service are remembered.
func (s *service) inUse() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.operations)+len(s.peers) > 0
}

// hold adds to held the numbers of the nodes that the directory refers to.
func (d *directory) hold(held map[graph.NodeRef]bool) {
	d.mu.RLock()
	for _, s := range d.services {
		held[s.ref], held[s.user], held[s.ingress], held[s.unknown] = true, true, true, true
	}
	d.mu.RUnlock()
	d.eachPeer(func(p *peer) { held[graph.NodeRef(p.ref.Load())], held[p.cluster] = true, true })
	for _, a := range d.aliases.all() {
		held[graph.NodeRef(a.sure.Load())] = true
	}
}

// keepExternals forgets the names of external nodes that no peer has any more.
func (d *directory) keepExternals() {
	d.externals.keep(func(add func(env, name string)) {
		d.eachPeer(func(p *peer) {
			if ref := graph.NodeRef(p.ref.Load()); ref != 0 && p.node.Kind == graph.External {
				add(p.node.Env, d.names.LookupNode(ref).Name)
			}
		})
	})
}

func (d *directory) eachPeer(do func(*peer)) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, s := range d.services {
		s.mu.RLock()
		for _, p := range s.peers {
			do(p)
		}
		s.mu.RUnlock()
	}
}

// sweepNodes lets the numbers of nodes be given again that nothing has held for nodeIdle.
func (in *Intake) sweepNodes(at int64) {
	held := map[graph.NodeRef]bool{}
	in.live.Hold(held)
	in.pairer.dir.hold(held)
	in.pairer.dir.keepExternals()
	freed := in.live.Names().Sweep(held, at, nodeIdle)
	if len(freed) == 0 {
		return
	}
	gone := make(map[graph.NodeRef]bool, len(freed))
	for _, ref := range freed {
		gone[ref] = true
	}
	for _, a := range in.pairer.dir.aliases.all() {
		a.forget(gone)
	}
}
