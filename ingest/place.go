package ingest

import "slices"

// placeKey is where a process runs, as others may speak of it: the IP or the name of its pod, in its environment.
type placeKey struct{ env, place string }

// anyEnv is where a place is looked up whose environment is not known.
const anyEnv = "\x00"

// everywhere returns the keys of a process's places, also those without an environment.
func (r *resource) everywhere() []placeKey {
	keys := slices.Clone(r.places)
	for _, k := range r.places {
		keys = append(keys, placeKey{anyEnv, k.place})
	}
	return keys
}

// placeKeys are the resource attributes that say where a process runs and that no other pod shares at the same time.
var placeKeys = []string{"k8s.pod.ip", "k8s.pod.name"}

// Bounds of what is remembered of places and namespaces.
const (
	maxPlaceClaims = 4 // processes that claim one place
	maxSpaces      = 8 // cluster namespaces of one service
	// placeStale is how many minutes after its last span a process no longer holds a place that another claims: IPs are
	// given to new pods soon.
	placeStale = 2
)

// place notes where a process runs. Callers hold mu.
func (d *directory) place(r *resource) {
	for _, k := range r.everywhere() {
		claims := d.places[k]
		if len(claims) >= maxPlaceClaims {
			claims = claims[1:]
		}
		d.places[k] = append(slices.Clip(claims), r)
	}
}

// leave takes back what place noted. Callers hold mu.
func (d *directory) leave(r *resource) {
	for _, k := range r.everywhere() {
		claims := slices.DeleteFunc(slices.Clone(d.places[k]), func(c *resource) bool { return c == r })
		if len(claims) == 0 {
			delete(d.places, k)
			continue
		}
		d.places[k] = claims
	}
}

// at returns the service whose process runs at a place, nil when none is known to, or several are: pods in the network
// of their host share its IP.
func (d *directory) at(env, place string) *service {
	d.mu.RLock()
	defer d.mu.RUnlock()
	claims := d.places[placeKey{env, place}]
	newest := uint32(0)
	for _, r := range claims {
		if r.proxy.Load() == nil {
			newest = max(newest, r.used.Load())
		}
	}
	var found *service
	for _, r := range claims {
		if r.proxy.Load() != nil || r.used.Load()+placeStale < newest {
			continue
		}
		if found != nil && found != r.service {
			return nil
		}
		found = r.service
	}
	return found
}

// live notes the cluster namespace that a service lives in.
func (d *directory) live(s *service, space string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(s.spaces) < maxSpaces && !slices.Contains(s.spaces, space) {
		s.spaces = append(slices.Clone(s.spaces), space)
		slices.Sort(s.spaces)
	}
}
