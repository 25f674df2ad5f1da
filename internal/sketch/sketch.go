// Package sketch keeps latencies small and mergeable: a base-2 exponential histogram of integer bucket counts, the one
// that OpenTelemetry and Prometheus call native, at scale 5 unless it is told to be coarser.
//
// Adding is commutative, associative and exact, also with negative counts, so that any range of windows, written by any
// number of writers in any order, gives the same answer; only reading a quantile estimates, by at most 2.19 % at scale 5
// and 9.05 % at scale 3. A sketch is not safe for concurrent use. Add costs a few nanoseconds and allocates only when a
// value falls outside of the range seen so far.
package sketch

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
)

// MaxScale is the finest scale, and that of the zero Sketch: 2^5 buckets per power of two.
const MaxScale = 5

// MinScale is the coarsest scale a sketch may be given.
const MinScale = 0

// maxBuckets bounds the dense range: every index that a positive int64 of nanoseconds can have at MaxScale.
const maxBuckets = 63<<MaxScale + 1

// ErrCorrupt says that bytes are not an encoded sketch.
var ErrCorrupt = errors.New("sketch: corrupt encoding")

// boundaries are the mantissas of 2^(j/32), j = 1…31: the inner bucket boundaries of one power of two. guess holds, for
// each 32nd of the mantissa's range, how many boundaries lie at or below its start; at most two steps lead on from there.
var (
	boundaries [1 << MaxScale]uint64
	guess      [1 << MaxScale]uint8
	bounds     [maxBuckets + 2]float64 // bounds[i+1] = 2^(i/32), the lower bound of bucket i, from i = -1
)

func init() {
	const n = 1 << MaxScale
	for j := 1; j < n; j++ {
		boundaries[j-1] = math.Float64bits(math.Exp2(float64(j)/n)) & (1<<52 - 1)
	}
	boundaries[n-1] = math.MaxUint64
	j := uint8(0)
	for i := range guess {
		for boundaries[j] < uint64(i)<<(52-MaxScale) {
			j++
		}
		guess[i] = j
	}
	for i := range bounds {
		bounds[i] = math.Exp2(float64(i-1) / n)
	}
}

// Index returns the bucket of v nanoseconds at MaxScale: the i with 2^(i/32) < v ≤ 2^((i+1)/32), by the mantissa and
// without a logarithm. v must be positive. At scale s the bucket is Index(v) >> (MaxScale - s).
// Source: OpenTelemetry metrics data model, exponential histogram.
func Index(v int64) int {
	f := math.Float64bits(float64(v))
	e := int(f>>52) - 1023
	m := f & (1<<52 - 1)
	if m == 0 {
		return e<<MaxScale - 1
	}
	// Two steps without a branch: whether they are needed is as good as random, and a wrong guess costs more than both.
	j := uint64(guess[m>>(52-MaxScale)])
	_, below := bits.Sub64(boundaries[j%(1<<MaxScale)], m, 0)
	j += below
	_, below = bits.Sub64(boundaries[j%(1<<MaxScale)], m, 0)
	j += below
	return e<<MaxScale + int(j)
}

// Sketch is a histogram of durations in nanoseconds. Its zero value is empty, at MaxScale, and ready to use.
// Counts are signed, because a call that was first put on the wrong edge is taken back with a negative count.
type Sketch struct {
	counts   []int64 // dense; counts[k] belongs to bucket lo+k
	zero     int64
	count    int64
	sum      int64
	min, max int64
	lo       int32
	shift    uint8 // MaxScale - scale
	seen     bool  // min and max are set
}

// New returns an empty sketch at the given scale, clamped to MinScale…MaxScale.
func New(scale int) Sketch {
	return Sketch{shift: uint8(MaxScale - min(max(scale, MinScale), MaxScale))}
}

// Scale returns the sketch's scale: its buckets grow by 2^(2^-scale).
func (s *Sketch) Scale() int { return MaxScale - int(s.shift) }

// Count returns the weighted number of values; Sum their weighted sum in nanoseconds.
func (s *Sketch) Count() int64 { return s.count }

// Sum returns the weighted sum in nanoseconds.
func (s *Sketch) Sum() int64 { return s.sum }

// Max returns the largest value ever added in nanoseconds, 0 when there was none. Taking a value back does not lower it.
func (s *Sketch) Max() int64 { return s.max }

// Min returns the smallest value ever added in nanoseconds, 0 when there was none.
func (s *Sketch) Min() int64 { return s.min }

// Empty reports whether nothing was ever added.
func (s *Sketch) Empty() bool { return !s.seen }

// Add counts v nanoseconds w times; a negative w takes back. Values ≤ 0 go into the zero bucket.
func (s *Sketch) Add(v, w int64) { s.AddAt(v, w, Bucket(v)) }

// Bucket returns Index for any v, to be given to AddAt: of use to those who add one value to many sketches.
func Bucket(v int64) int { return Index(max(v, 1)) }

// AddAt is Add for those who know that v lies in the given bucket.
func (s *Sketch) AddAt(v, w int64, bucket int) {
	s.count += w
	s.observe(v, v)
	if v <= 0 {
		s.zero += w
		return
	}
	s.sum += v * w
	i := int32(bucket) >> s.shift
	k := uint32(i - s.lo)
	if k >= uint32(len(s.counts)) {
		s.grow(i, i)
		k = uint32(i - s.lo)
	}
	s.counts[k] += w
}

// At returns the count of a bucket.
func (s *Sketch) At(bucket int) int64 {
	if k := uint32(int32(bucket)>>s.shift - s.lo); k < uint32(len(s.counts)) {
		return s.counts[k]
	}
	return 0
}

// Touch reads a count in each line of the processor's cache, so that what follows finds all of them there: one after the
// other, each would be waited for. The sum that it returns means nothing.
func (s *Sketch) Touch() (sum int64) {
	for k := 0; k < len(s.counts); k += 8 {
		sum += s.counts[k]
	}
	return sum
}

func (s *Sketch) observe(lo, hi int64) {
	if !s.seen {
		s.min, s.max, s.seen = max(lo, 0), max(hi, 0), true
		return
	}
	if lo < s.min {
		s.min = max(lo, 0)
	}
	if hi > s.max {
		s.max = hi
	}
}

// grow makes the dense range hold the buckets from…to, with room around a first value so that most sketches grow once.
func (s *Sketch) grow(from, to int32) {
	if len(s.counts) == 0 {
		margin := int32(8) >> (s.shift / 2)
		from -= margin
		n := int(to-from) + 1 + int(margin)
		s.lo = from
		s.counts = make([]int64, n)
		return
	}
	lo, hi := min(from, s.lo), max(to, s.lo+int32(len(s.counts))-1)
	if lo < s.lo {
		lo -= int32(8) >> (s.shift / 2)
	} else {
		hi += int32(8) >> (s.shift / 2)
	}
	counts := make([]int64, int(hi-lo)+1)
	copy(counts[s.lo-lo:], s.counts)
	s.lo, s.counts = lo, counts
}

// Merge adds what o counted. The result has the coarser of the two scales.
func (s *Sketch) Merge(o *Sketch) {
	if !o.seen {
		return
	}
	if s.shift < o.shift {
		s.Downscale(o.Scale())
	}
	d := s.shift - o.shift
	s.count += o.count
	s.zero += o.zero
	s.sum += o.sum
	s.observe(o.min, o.max)
	if at := int(o.lo) - int(s.lo); d == 0 && at >= 0 && at+len(o.counts) <= len(s.counts) {
		// Most often there is room for all of it: adding what is 0 too costs less than asking.
		into := s.counts[at:][:len(o.counts)]
		for k, c := range o.counts {
			into[k] += c
		}
		return
	}
	first, last := o.occupied()
	if first > last {
		return
	}
	from, to := (o.lo+first)>>d, (o.lo+last)>>d
	if len(s.counts) == 0 || from < s.lo || to >= s.lo+int32(len(s.counts)) {
		s.grow(from, to)
	}
	for k := first; k <= last; k++ {
		if c := o.counts[k]; c != 0 {
			s.counts[(o.lo+k)>>d-s.lo] += c
		}
	}
}

// Unmerge takes back what o counted, except for its smallest and largest value.
func (s *Sketch) Unmerge(o *Sketch) {
	back := o.Clone()
	back.count, back.zero, back.sum = -o.count, -o.zero, -o.sum
	for i := range back.counts {
		back.counts[i] *= -1
	}
	s.Merge(&back)
}

// occupied returns the first and last position with a count; first > last when there is none.
func (s *Sketch) occupied() (first, last int32) {
	first, last = 0, int32(len(s.counts))-1
	for first <= last && s.counts[first] == 0 {
		first++
	}
	for first <= last && s.counts[last] == 0 {
		last--
	}
	return first, last
}

// Downscale makes the sketch coarser, exactly: bucket i becomes i >> (difference of scales). A finer scale is ignored.
func (s *Sketch) Downscale(scale int) {
	shift := uint8(MaxScale - min(max(scale, MinScale), MaxScale))
	if shift <= s.shift {
		return
	}
	d := shift - s.shift
	s.shift = shift
	if len(s.counts) == 0 {
		return
	}
	lo, hi := s.lo>>d, (s.lo+int32(len(s.counts))-1)>>d
	counts := make([]int64, int(hi-lo)+1)
	for k, c := range s.counts {
		counts[(s.lo+int32(k))>>d-lo] += c
	}
	s.lo, s.counts = lo, counts
}

// Reset empties the sketch and keeps its scale and memory.
func (s *Sketch) Reset() {
	clear(s.counts)
	*s = Sketch{counts: s.counts, lo: s.lo, shift: s.shift}
}

// Memory returns how many bytes the counts take.
func (s *Sketch) Memory() int { return 8 * cap(s.counts) }

// Clone returns a copy that shares no memory.
func (s *Sketch) Clone() Sketch {
	c := *s
	c.counts = append([]int64(nil), s.counts...)
	return c
}

// Arena is memory for many clones at once, given back together. Its zero value is ready to use.
type Arena struct{ free []int64 }

// take returns n zeroes.
func (a *Arena) take(n int) []int64 {
	if n > len(a.free) {
		a.free = make([]int64, max(n, 16<<10))
	}
	taken := a.free[:n:n]
	a.free = a.free[n:]
	return taken
}

// CloneInto is Clone with memory from an arena.
func (s *Sketch) CloneInto(a *Arena) Sketch {
	c := *s
	first, last := s.occupied()
	n := int(last-first) + 1
	if n <= 0 {
		c.counts = nil
		return c
	}
	c.counts = a.take(n)
	c.lo += first
	copy(c.counts, s.counts[first:last+1])
	return c
}

// Quantile estimates the q-quantile (0 ≤ q ≤ 1) in nanoseconds, by geometric interpolation inside the bucket that holds
// rank q·n, clamped to the smallest and largest value seen. NaN when the sketch counts nothing.
func (s *Sketch) Quantile(q float64) float64 {
	var out [1]float64
	s.Quantiles([]float64{q}, out[:])
	return out[0]
}

// Quantiles is Quantile for several q in rising order, in one pass over the buckets.
func (s *Sketch) Quantiles(q, out []float64) {
	if s.count <= 0 {
		for i := range q {
			out[i] = math.NaN()
		}
		return
	}
	i := 0
	cum := float64(max(s.zero, 0))
	for ; i < len(q) && cum > 0 && q[i]*float64(s.count) <= cum; i++ {
		out[i] = 0
	}
	for k, c := range s.counts {
		if i == len(q) {
			return
		}
		if c <= 0 {
			continue
		}
		for ; i < len(q) && cum+float64(c) >= q[i]*float64(s.count); i++ {
			b := s.lo + int32(k)
			lo, hi := s.bound(b), s.bound(b+1)
			v := lo * math.Pow(hi/lo, (q[i]*float64(s.count)-cum)/float64(c))
			out[i] = min(max(v, float64(s.min)), float64(s.max))
		}
		cum += float64(c)
	}
	for ; i < len(q); i++ {
		out[i] = float64(s.max)
	}
}

// Above returns how many values lay above v nanoseconds, to within the bucket that holds v, which counts as not above.
func (s *Sketch) Above(v int64) int64 {
	if v < 0 {
		return s.count
	}
	if v == 0 {
		return s.count - s.zero
	}
	i := int32(Index(v)) >> s.shift
	var n int64
	for k, c := range s.counts {
		if s.lo+int32(k) > i {
			n += c
		}
	}
	return n
}

// bound returns the lower bound of bucket i in nanoseconds.
func (s *Sketch) bound(i int32) float64 {
	k := int(i)<<s.shift + 1
	if k >= 0 && k < len(bounds) {
		return bounds[k]
	}
	return math.Exp2(float64(k-1) / (1 << MaxScale))
}

// Buckets calls f for every bucket with a count, upwards: lower (exclusive) and upper (inclusive) bound in nanoseconds.
// The zero bucket comes first, as 0, 0.
func (s *Sketch) Buckets(f func(lower, upper float64, count int64)) {
	if s.zero != 0 {
		f(0, 0, s.zero)
	}
	for k, c := range s.counts {
		if c != 0 {
			i := s.lo + int32(k)
			f(s.bound(i), s.bound(i+1), c)
		}
	}
}

// AppendBinary appends the sketch's encoding: a handful of bytes for an empty one, two or three per occupied bucket.
//
//	flags  byte: scale in the low 3 bits, bit 3 set when anything was added (else nothing follows)
//	zero, sum, min, max−min, first bucket: zig-zag varints
//	number of runs n: uvarint; then n times: gap to the next occupied bucket (uvarint), count (zig-zag varint)
func (s *Sketch) AppendBinary(b []byte) []byte {
	flags := byte(s.Scale())
	if !s.seen {
		return append(b, flags)
	}
	b = append(b, flags|8)
	b = binary.AppendVarint(b, s.zero)
	b = binary.AppendVarint(b, s.sum)
	b = binary.AppendVarint(b, s.min)
	b = binary.AppendVarint(b, s.max-s.min)
	first, last := s.occupied()
	n := 0
	for k := first; k <= last; k++ {
		if s.counts[k] != 0 {
			n++
		}
	}
	if n == 0 {
		return append(b, 0, 0) // whatever range its memory had, what is empty again is written alike
	}
	b = binary.AppendVarint(b, int64(s.lo+first))
	b = binary.AppendUvarint(b, uint64(n))
	prev := first
	for k := first; k <= last; k++ {
		if c := s.counts[k]; c != 0 {
			b = binary.AppendUvarint(b, uint64(k-prev))
			b = binary.AppendVarint(b, c)
			prev = k
		}
	}
	return b
}

// MergeBinary adds an encoded sketch to s and returns the bytes behind it. It reads hostile bytes safely: the error is
// ErrCorrupt, and s may then hold a part of it.
func (s *Sketch) MergeBinary(b []byte) ([]byte, error) {
	if len(b) == 0 || b[0]&0xf0 != 0 || b[0]&7 > MaxScale {
		return nil, ErrCorrupt
	}
	flags := b[0]
	b = b[1:]
	shift := MaxScale - flags&7
	if shift > s.shift {
		s.Downscale(MaxScale - int(shift))
	}
	if flags&8 == 0 {
		return b, nil
	}
	var head [5]int64
	for i := range head {
		v, n := binary.Varint(b)
		if n <= 0 {
			return nil, ErrCorrupt
		}
		head[i], b = v, b[n:]
	}
	n, w := binary.Uvarint(b)
	if w <= 0 || n > maxBuckets || head[2] < 0 || head[3] < 0 || head[2]+head[3] < 0 {
		return nil, ErrCorrupt
	}
	b = b[w:]
	s.zero += head[0]
	s.count += head[0]
	s.sum += head[1]
	s.observe(head[2], head[2]+head[3])
	i := head[4]
	d := s.shift - shift
	for range n {
		gap, w := binary.Uvarint(b)
		if w <= 0 || gap > maxBuckets {
			return nil, ErrCorrupt
		}
		b = b[w:]
		c, w := binary.Varint(b)
		if w <= 0 {
			return nil, ErrCorrupt
		}
		b = b[w:]
		i += int64(gap)
		if i < -1 || i > maxBuckets {
			return nil, ErrCorrupt
		}
		j := int32(i) >> d
		k := uint32(j - s.lo)
		if k >= uint32(len(s.counts)) {
			s.grow(j, j)
			k = uint32(j - s.lo)
		}
		s.counts[k] += c
		s.count += c
	}
	return b, nil
}
