package sketch

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestIndex(t *testing.T) {
	// Vectors of docs/semantics: value → bucket at scales 5, 4, 3, 0.
	for _, tt := range []struct {
		v     int64
		scale int
		want  int
	}{
		{1, 5, -1},
		{2, 5, 31},
		{3, 5, 50},
		{1000, 5, 318},
		{1001, 5, 318},
		{1024, 5, 319},
		{1025, 5, 320},
		{37_000_000, 5, 804},
		{5_000_000_000, 5, 1031},
		{1000, 4, 159},
		{1024, 4, 159},
		{1025, 4, 160},
		{37_000_000, 4, 402},
		{5_000_000_000, 4, 515},
		{3, 3, 12},
		{1000, 3, 79},
		{1025, 3, 80},
		{1, 0, -1},
		{2, 0, 0},
		{3, 0, 1},
		{1024, 0, 9},
		{1025, 0, 10},
	} {
		if got := Index(tt.v) >> (MaxScale - tt.scale); got != tt.want {
			t.Errorf("Index(%d) at scale %d = %d, want %d", tt.v, tt.scale, got, tt.want)
		}
	}
}

func TestIndexAgainstLogarithm(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		v := int64(math.Exp2(r.Float64() * 52))
		i := Index(v)
		lo, hi := math.Exp2(float64(i)/32), math.Exp2(float64(i+1)/32)
		if float64(v) <= lo*(1-1e-12) || float64(v) > hi*(1+1e-12) {
			t.Fatalf("Index(%d) = %d: not in (%g, %g]", v, i, lo, hi)
		}
	}
}

func TestQuantileVectors(t *testing.T) {
	var s Sketch
	for _, a := range [][2]int64{{1e6, 50}, {2e6, 30}, {4e6, 15}, {8e6, 4}, {100e6, 1}} {
		s.Add(a[0], a[1])
	}
	for _, tt := range []struct{ q, ms float64 }{{.5, 1.004120}, {.9, 3.987584}, {.95, 4.016479}, {.99, 8.032959}, {1, 100}} {
		if got := s.Quantile(tt.q) / 1e6; math.Abs(got-tt.ms) > 1e-6 {
			t.Errorf("p%g = %f ms, want %f", tt.q*100, got, tt.ms)
		}
	}
}

func TestQuantileErrorIsBounded(t *testing.T) {
	for _, scale := range []int{5, 4, 3} {
		bound := math.Exp2(math.Exp2(-float64(scale))) - 1
		r := rand.New(rand.NewPCG(7, uint64(scale)))
		for range 50 {
			s := New(scale)
			n := 1 + r.IntN(3000)
			values := make([]int64, n)
			for i := range values {
				values[i] = int64(1e6 * math.Exp(r.NormFloat64()*1.5+1))
				s.Add(values[i], 1)
			}
			slices.Sort(values)
			for _, q := range []float64{.5, .9, .95, .99, 1} {
				want := float64(values[max(int(math.Ceil(q*float64(n)))-1, 0)])
				if got := s.Quantile(q); math.Abs(got-want)/want > bound+1e-9 {
					t.Fatalf("scale %d, n %d, p%g = %g, exact %g: off by %.2f %%", scale, n, q*100, got, want, 100*math.Abs(got-want)/want)
				}
			}
		}
	}
}

func randomSketch(r *rand.Rand) Sketch {
	s := New(3 + r.IntN(3))
	for range r.IntN(200) {
		s.Add(int64(math.Exp2(r.Float64()*40))-1, int64(1+r.IntN(5)))
	}
	return s
}

// equal compares what two sketches say, whatever their memory looks like.
func equal(a, b *Sketch) bool {
	return string(a.AppendBinary(nil)) == string(b.AppendBinary(nil)) && a.count == b.count
}

func TestMergeCommutesAndAssociates(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		a, b, c := randomSketch(r), randomSketch(r), randomSketch(r)
		ab, ba := a.Clone(), b.Clone()
		ab.Merge(&b)
		ba.Merge(&a)
		if !a.Empty() && !b.Empty() && !equal(&ab, &ba) {
			t.Fatal("a+b differs from b+a")
		}
		left := a.Clone()
		left.Merge(&b)
		left.Merge(&c)
		bc := b.Clone()
		bc.Merge(&c)
		right := a.Clone()
		right.Merge(&bc)
		if !b.Empty() && !c.Empty() && !a.Empty() && !equal(&left, &right) {
			t.Fatal("(a+b)+c differs from a+(b+c)")
		}
	}
}

func TestTakingBackLeavesNothing(t *testing.T) {
	var s Sketch
	s.Add(5e6, 1)
	s.Add(7e6, 3)
	s.Add(7e6, -3)
	if s.Count() != 1 || s.Quantile(.5) != 5e6 && math.Abs(s.Quantile(.5)-5e6)/5e6 > .022 {
		t.Errorf("count %d, p50 %g; want 1 value of 5 ms", s.Count(), s.Quantile(.5))
	}
	s.Add(5e6, -1)
	if s.Count() != 0 || !math.IsNaN(s.Quantile(.5)) {
		t.Errorf("count %d, p50 %g; want nothing", s.Count(), s.Quantile(.5))
	}
}

func TestClonesShareNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	var arena Arena
	for range 300 {
		s := randomSketch(r)
		plain, packed := s.Clone(), s.CloneInto(&arena)
		before := string(s.AppendBinary(nil))
		for range 50 {
			s.Add(int64(math.Exp2(r.Float64()*40)), 1)
		}
		next := randomSketch(r)
		_ = next.CloneInto(&arena)
		if string(plain.AppendBinary(nil)) != before || string(packed.AppendBinary(nil)) != before {
			t.Fatal("a clone changed")
		}
		packed.Add(1e9, 1) // a clone may grow
	}
}

func TestBinaryRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		a := randomSketch(r)
		b := New(a.Scale())
		rest, err := b.MergeBinary(append(a.AppendBinary(nil), 0xee))
		if err != nil || len(rest) != 1 || !equal(&a, &b) {
			t.Fatalf("round trip: rest %x, err %v", rest, err)
		}
		// Merging bytes is merging sketches.
		c := randomSketch(r)
		viaBytes, direct := c.Clone(), c.Clone()
		if _, err := viaBytes.MergeBinary(a.AppendBinary(nil)); err != nil {
			t.Fatal(err)
		}
		direct.Merge(&a)
		if !a.Empty() && !equal(&viaBytes, &direct) {
			t.Fatal("MergeBinary differs from Merge")
		}
	}
}

func FuzzMergeBinary(f *testing.F) {
	r := rand.New(rand.NewPCG(9, 9))
	for range 8 {
		s := randomSketch(r)
		f.Add(s.AppendBinary(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Sketch
		if _, err := s.MergeBinary(b); err == nil {
			_ = s.Quantile(.5)
			var again Sketch
			if _, err := again.MergeBinary(s.AppendBinary(nil)); err != nil {
				t.Fatalf("what was read cannot be written and read again: %v", err)
			}
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	b.ReportAllocs()
	r := rand.New(rand.NewPCG(1, 1))
	values := make([]int64, 1<<16) // too many for the processor to learn them by heart
	for i := range values {
		values[i] = int64(1e6 * math.Exp(r.NormFloat64()))
	}
	var s Sketch
	for i := 0; b.Loop(); i++ {
		s.Add(values[i&(1<<16-1)], 1)
	}
}

func BenchmarkMergeBinary(b *testing.B) {
	b.ReportAllocs()
	r := rand.New(rand.NewPCG(1, 1))
	var s Sketch
	for range 1000 {
		s.Add(int64(1e6*math.Exp(r.NormFloat64())), 1)
	}
	enc := s.AppendBinary(nil)
	var into Sketch
	for b.Loop() {
		if _, err := into.MergeBinary(enc); err != nil {
			b.Fatal(err)
		}
	}
}

// Taking back what was added leaves what was there before, in any shape of the two.
func TestUnmerge(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 200 {
		a, b := randomSketch(r), randomSketch(r)
		a.Downscale(3)
		b.Downscale(3)
		sum := a.Clone()
		sum.Merge(&b)
		sum.Unmerge(&b)
		sum.min, sum.max, sum.seen = a.min, a.max, a.seen
		if !equal(&sum, &a) {
			t.Fatalf("%+v became %+v", a, sum)
		}
	}
}

// TestQuantilesAreThoseAskedForOneByOne also counts what was taken back: buckets below zero.
func TestQuantilesAreThoseAskedForOneByOne(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	for range 2000 {
		s := randomSketch(r)
		var q [4]float64
		for i := range q {
			q[i] = r.Float64()
		}
		q[r.IntN(len(q))] = float64(r.IntN(2))
		slices.Sort(q[:])
		var got [4]float64
		s.Quantiles(q[:], got[:])
		for i := range q {
			if want := s.Quantile(q[i]); got[i] != want && !(math.IsNaN(got[i]) && math.IsNaN(want)) {
				t.Fatalf("%v: %v, want %v at %v", q, got, want, q[i])
			}
		}
	}
}
