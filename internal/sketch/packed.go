package sketch

import "math"

// Packed holds many sketches close together, to be merged into others again and again: about a third of their memory,
// read in order. Its zero value is empty. It may be read concurrently once nothing is added any more.
type Packed struct {
	heads  []packedHead
	counts []int32
}

// packedHead is a sketch without its counts, which are counts[at:at+n] from bucket lo on.
type packedHead struct {
	zero, count, sum int64
	min, max         int64
	at, n            int32
	lo               int32
	shift            uint8
	seen             bool
}

// Add appends s. It returns false, and appends nothing, when one of its counts needs more than 32 bits or there are too
// many.
func (p *Packed) Add(s *Sketch) bool {
	first, last := s.occupied()
	at := len(p.counts)
	if at+len(s.counts) > math.MaxInt32 {
		return false
	}
	for k := first; k <= last; k++ {
		c := s.counts[k]
		if c != int64(int32(c)) {
			p.counts = p.counts[:at]
			return false
		}
		p.counts = append(p.counts, int32(c))
	}
	p.heads = append(p.heads, packedHead{
		zero: s.zero, count: s.count, sum: s.sum, min: s.min, max: s.max,
		at: int32(at), n: int32(len(p.counts) - at), lo: s.lo + first, shift: s.shift, seen: s.seen,
	})
	return true
}

// Merge adds the i-th sketch that was added to s, whose scale becomes the coarser of the two, even by an empty one.
func (p *Packed) Merge(i int, s *Sketch) {
	h := &p.heads[i]
	if s.shift < h.shift {
		s.Downscale(MaxScale - int(h.shift))
	}
	if !h.seen {
		return
	}
	s.count += h.count
	s.zero += h.zero
	s.sum += h.sum
	s.observe(h.min, h.max)
	if h.n == 0 {
		return
	}
	d := (s.shift - h.shift) & 7
	from, to := h.lo>>d, (h.lo+h.n-1)>>d
	if len(s.counts) == 0 || from < s.lo || to >= s.lo+int32(len(s.counts)) {
		s.grow(from, to)
	}
	counts := p.counts[h.at:][:h.n]
	if d == 0 {
		into := s.counts[from-s.lo:][:h.n]
		for k, c := range counts {
			into[k] += int64(c)
		}
		return
	}
	for k, c := range counts {
		s.counts[(h.lo+int32(k))>>d-s.lo] += int64(c)
	}
}

// Reset empties p and keeps its memory.
func (p *Packed) Reset() { p.heads, p.counts = p.heads[:0], p.counts[:0] }

// Clone returns a copy that shares no memory and holds no more of it than it needs.
func (p *Packed) Clone() Packed {
	heads, counts := make([]packedHead, len(p.heads)), make([]int32, len(p.counts))
	copy(heads, p.heads)
	copy(counts, p.counts)
	return Packed{heads, counts}
}

// Memory returns about how many bytes p holds.
func (p *Packed) Memory() int { return 64*cap(p.heads) + 4*cap(p.counts) }
