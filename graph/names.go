package graph

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// NodeRef stands for a Node within one process: what the hot path carries instead of strings. Zero is none.
type NodeRef uint32

// Label stands for a string within one process. Zero is none.
type Label uint32

// MaxName bounds every name in bytes; what is longer is cut, with an ellipsis, at a rune.
const MaxName = 256

// Names gives nodes and labels their numbers. Reading a number's name takes no lock. It is safe for concurrent use and
// bounded, as far as the number of environments is: what exceeds the limit on nodes is gathered in one node per
// environment and kind, called "(other)".
type Names struct {
	mu        sync.Mutex
	nodes     map[Node]NodeRef
	unheld    map[NodeRef]int64 // since when nothing holds a node's number, by Sweep's clock
	freeNodes []NodeRef
	limit     int
	overflow  atomic.Int64

	nodeTable  table[Node]
	labelTable table[string]
	freeLabels []Label
	shared     map[string]*sharedLabel
}

// sharedLabel is a label that several hold.
type sharedLabel struct {
	label   Label
	holders int
}

// NewNames returns an empty Names for at most limit nodes.
func NewNames(limit int) *Names {
	n := &Names{nodes: map[Node]NodeRef{}, unheld: map[NodeRef]int64{}, limit: limit, shared: map[string]*sharedLabel{}}
	n.nodeTable.add(Node{})
	n.labelTable.add("")
	return n
}

// Node returns the number of a node, the same for equal nodes as long as something holds it, see Sweep.
func (n *Names) Node(node Node) NodeRef {
	node.Env, node.Namespace, node.Name = CleanName(node.Env), CleanName(node.Namespace), CleanName(node.Name)
	n.mu.Lock()
	defer n.mu.Unlock()
	if ref, ok := n.nodes[node]; ok {
		delete(n.unheld, ref)
		return ref
	}
	if len(n.nodes) >= n.limit {
		n.overflow.Add(1)
		node = Node{Env: node.Env, Kind: node.Kind, Name: Other}
		if ref, ok := n.nodes[node]; ok {
			delete(n.unheld, ref)
			return ref
		}
	}
	var ref NodeRef
	if k := len(n.freeNodes); k > 0 {
		ref, n.freeNodes = n.freeNodes[k-1], n.freeNodes[:k-1]
		n.nodeTable.set(uint32(ref), node)
	} else {
		ref = NodeRef(n.nodeTable.add(node))
	}
	n.nodes[node] = ref
	return ref
}

// Sweep lets the numbers of nodes be given again that nothing has held for idle, and returns them. held are the numbers
// that are held now, now is a clock that only goes on, in nanoseconds. Who got a number from Node holds it from then on,
// also when held does not say so yet: idle is longer than anything takes to be found by the caller.
func (n *Names) Sweep(held map[NodeRef]bool, now int64, idle time.Duration) (freed []NodeRef) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for node, ref := range n.nodes {
		since, known := n.unheld[ref]
		switch {
		case held[ref]:
			delete(n.unheld, ref)
		case !known:
			n.unheld[ref] = now
		case now-since >= int64(idle):
			delete(n.unheld, ref)
			delete(n.nodes, node)
			n.freeNodes = append(n.freeNodes, ref)
			freed = append(freed, ref)
		}
	}
	return freed
}

// LookupNode returns what a number stands for.
func (n *Names) LookupNode(ref NodeRef) Node { return *n.nodeTable.at(uint32(ref)) }

// Nodes returns how many nodes have numbers, and how often one was gathered in "(other)" because there were too many.
func (n *Names) Nodes() (nodes int, overflow int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.nodes), n.overflow.Load()
}

// NewLabel gives a string a number of its own, until it is freed.
func (n *Names) NewLabel(s string) Label {
	s = CleanName(s)
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.newLabel(s)
}

func (n *Names) newLabel(s string) Label {
	if k := len(n.freeLabels); k > 0 {
		l := n.freeLabels[k-1]
		n.freeLabels = n.freeLabels[:k-1]
		n.labelTable.set(uint32(l), s)
		return l
	}
	return Label(n.labelTable.add(s))
}

// SharedLabel gives a string the number that all have who ask for it here, until each of them has freed it.
func (n *Names) SharedLabel(s string) Label {
	s = CleanName(s)
	n.mu.Lock()
	defer n.mu.Unlock()
	shared := n.shared[s]
	if shared == nil {
		shared = &sharedLabel{label: n.newLabel(s)}
		n.shared[s] = shared
	}
	shared.holders++
	return shared.label
}

// FreeLabel lets a number be given again. The caller knows that no open window holds it any more.
func (n *Names) FreeLabel(l Label) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := *n.labelTable.at(uint32(l))
	if shared := n.shared[s]; shared != nil && shared.label == l {
		if shared.holders--; shared.holders > 0 {
			return
		}
		delete(n.shared, s)
	}
	n.freeLabels = append(n.freeLabels, l)
}

// Label returns what a number stands for.
func (n *Names) Label(l Label) string { return *n.labelTable.at(uint32(l)) }

// CleanName makes a name valid UTF-8 of at most MaxName bytes.
func CleanName(s string) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	if len(s) <= MaxName {
		return s
	}
	cut := MaxName - len("…")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strings.Clone(s[:cut]) + "…"
}

// table is an array that grows by pages and is read without a lock. Writers hold their own lock.
type table[T any] struct {
	pages atomic.Pointer[[]*[pageSize]atomic.Pointer[T]]
	n     uint32
}

const pageSize = 1024

func (t *table[T]) add(v T) uint32 {
	i := t.n
	t.n++
	var pages []*[pageSize]atomic.Pointer[T]
	if p := t.pages.Load(); p != nil {
		pages = *p
	}
	if int(i/pageSize) == len(pages) {
		grown := append(slices.Clip(slices.Clone(pages)), new([pageSize]atomic.Pointer[T]))
		t.pages.Store(&grown)
	}
	t.set(i, v)
	return i
}

func (t *table[T]) set(i uint32, v T) { (*t.pages.Load())[i/pageSize][i%pageSize].Store(&v) }

func (t *table[T]) at(i uint32) *T { return (*t.pages.Load())[i/pageSize][i%pageSize].Load() }
