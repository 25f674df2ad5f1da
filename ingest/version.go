package ingest

import (
	"sync"

	"faultline/graph"
)

// versionBook gives the processes of one version one label, so that they count together.
type versionBook struct {
	mu     sync.Mutex
	labels map[string]graph.Label
	held   map[graph.Label]int // by how many processes
}

// hold returns the label of a version, 0 of none. It is given back with release.
func (v *versionBook) hold(names *graph.Names, version string) graph.Label {
	if version == "" {
		return 0
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	label, ok := v.labels[version]
	if !ok {
		if v.labels == nil {
			v.labels, v.held = map[string]graph.Label{}, map[graph.Label]int{}
		}
		label = names.NewLabel(version)
		v.labels[version] = label
	}
	v.held[label]++
	return label
}

// release gives a label back. It is freed with the last process that had it.
func (v *versionBook) release(names *graph.Names, label graph.Label) {
	if label == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.held[label]--; v.held[label] == 0 {
		delete(v.labels, names.Label(label))
		delete(v.held, label)
		names.FreeLabel(label)
	}
}
