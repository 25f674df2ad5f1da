package sketch

import "math"

// Packed holds many sketches close together, to be merged into others again and again: about a third of their memory,
// read in order. It may be read concurrently.
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

// Pack packs sketches; ok is false when one of their counts needs more than 32 bits or there are too many.
func Pack(sketches []*Sketch) (p Packed, ok bool) {
	all := 0
	for _, s := range sketches {
		first, last := s.occupied()
		all += int(last - first + 1)
	}
	if all > math.MaxInt32 {
		return Packed{}, false
	}
	p = Packed{make([]packedHead, len(sketches)), make([]int32, 0, all)}
	for i, s := range sketches {
		first, last := s.occupied()
		at := len(p.counts)
		for _, c := range s.counts[first : last+1] {
			if c != int64(int32(c)) {
				return Packed{}, false
			}
			p.counts = append(p.counts, int32(c))
		}
		p.heads[i] = packedHead{
			zero: s.zero, count: s.count, sum: s.sum, min: s.min, max: s.max,
			at: int32(at), n: last - first + 1, lo: s.lo + first, shift: s.shift, seen: s.seen,
		}
	}
	return p, true
}

// Merge adds the i-th sketch to s, whose scale becomes the coarser of the two, even by an empty one.
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

// Extent is which buckets some sketches take together, so that a sum of them gets its memory once. Its zero value is that
// of none.
type Extent struct {
	from, to int32 // at MaxScale; to is exclusive
}

func (x *Extent) add(from, to int32, shift uint8) {
	from, to = from<<shift, to<<shift
	if x.from == x.to {
		x.from, x.to = from, to
		return
	}
	x.from, x.to = min(x.from, from), max(x.to, to)
}

// Extend makes x hold the i-th sketch.
func (p *Packed) Extend(x *Extent, i int) {
	if h := &p.heads[i]; h.n > 0 {
		x.add(h.lo, h.lo+h.n, h.shift)
	}
}

// Extend makes x hold s.
func (s *Sketch) Extend(x *Extent) {
	if first, last := s.occupied(); first <= last {
		x.add(s.lo+first, s.lo+last+1, s.shift)
	}
}

// Reserve gives s memory, from an arena, for what it has and for an extent.
func (s *Sketch) Reserve(x Extent, a *Arena) {
	if len(s.counts) > 0 {
		x.add(s.lo, s.lo+int32(len(s.counts)), s.shift)
	}
	from, to := x.from>>s.shift, (x.to+1<<s.shift-1)>>s.shift
	if int(to-from) <= len(s.counts) {
		return
	}
	counts := a.take(int(to - from))
	if len(s.counts) > 0 {
		copy(counts[s.lo-from:], s.counts)
	}
	s.lo, s.counts = from, counts
}

// Memory returns about how many bytes p holds.
func (p *Packed) Memory() int { return 64*cap(p.heads) + 4*cap(p.counts) }
