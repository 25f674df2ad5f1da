package ingest

// slab keeps values under numbers and gives a number again once its value is dropped. The zero slab is empty; number 0
// is none. Values stay where they are, so that a slab that grows copies nothing.
type slab[T any] struct {
	pages []*[slabPage]T
	free  []uint32
	next  uint32 // first number that was never used, less one
	n     int
}

const slabPage = 256

func (s *slab[T]) at(i uint32) *T { return &s.pages[i/slabPage][i%slabPage] }

func (s *slab[T]) put(v T) uint32 {
	s.n++
	if k := len(s.free); k > 0 {
		i := s.free[k-1]
		s.free = s.free[:k-1]
		*s.at(i) = v
		return i
	}
	s.next++
	i := s.next
	if int(i/slabPage) == len(s.pages) {
		s.pages = append(s.pages, new([slabPage]T))
	}
	*s.at(i) = v
	return i
}

func (s *slab[T]) drop(i uint32) {
	s.n--
	s.free = append(s.free, i)
}

// memory remembers values by hashes of their keys, for as long as it is told to and up to twice that, in two
// generations of which the older is forgotten whole. The zero value remembers nothing: limit is how many values a
// generation holds at most, where a full one is old before its time.
type memory[V any] struct {
	young, old map[uint64]V
	since      int64 // when the young generation began, nanoseconds
	limit      int
	keep       int64 // nanoseconds
}

func newMemory[V any](limit int, keep int64) memory[V] {
	return memory[V]{young: map[uint64]V{}, old: map[uint64]V{}, limit: limit, keep: keep}
}

// get returns what is remembered of a key.
func (r *memory[V]) get(k uint64) (V, bool) {
	if v, ok := r.young[k]; ok {
		return v, true
	}
	v, ok := r.old[k]
	return v, ok
}

// put remembers a value. It returns how many others had to be forgotten before their time.
func (r *memory[V]) put(k uint64, v V, now int64) (forgotten int) {
	if len(r.young) >= r.limit && now-r.since < r.keep {
		for k := range r.old {
			if _, again := r.young[k]; !again {
				forgotten++
			}
		}
		r.turn(now)
	}
	r.age(now)
	r.young[k] = v
	return forgotten
}

// age forgets what is older than twice the time that is kept.
func (r *memory[V]) age(now int64) {
	if now-r.since >= r.keep {
		r.turn(now)
	}
}

// turn begins a new generation.
func (r *memory[V]) turn(now int64) {
	r.young, r.old = r.old, r.young
	clear(r.young)
	r.since = now
}

// forget forgets what is remembered of a key.
func (r *memory[V]) forget(k uint64) {
	delete(r.young, k)
	delete(r.old, k)
}

func (r *memory[V]) len() int { return len(r.young) + len(r.old) }
