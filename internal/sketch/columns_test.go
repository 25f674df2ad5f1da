package sketch

import (
	"math"
	"math/rand/v2"
	"testing"
)

func columnSketches(r *rand.Rand) []Sketch {
	all := make([]Sketch, 40)
	for i := range all {
		all[i] = randomSketch(r)
		switch i % 8 {
		case 1:
			all[i] = New(r.IntN(MaxScale + 1)) // empty
		case 2:
			all[i] = Sketch{}
			all[i].Add(12_345_678, 3) // one value
		case 3:
			all[i] = Sketch{}
			all[i].Add(5e6, 2)
			all[i].Add(9e6, 1)
			all[i].Add(9e6, -1) // taken back: max stays
		case 4:
			all[i] = Sketch{}
			all[i].Add(5e6, 1)
			all[i].Add(5e6, -1)
		case 5:
			all[i] = Sketch{}
			all[i].Add(0, 2)
			all[i].Add(1, 300)
			all[i].Add(math.MaxInt64, -7)
		}
	}
	return all
}

func TestColumnsRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 50 {
		all := columnSketches(r)
		var c Columns
		for i := range all {
			c.Add(&all[i])
		}
		data := append(c.AppendBinary(nil), 0xee)
		var reader, skipper ColumnReader
		for _, cr := range []*ColumnReader{&reader, &skipper} {
			if rest, err := cr.Open(data); err != nil || len(rest) != 1 {
				t.Fatalf("Open: rest %x, err %v", rest, err)
			}
		}
		for i := range all {
			got := New(all[i].Scale())
			if err := reader.Next(&got); err != nil || !equal(&got, &all[i]) {
				t.Fatalf("sketch %d: %v, read %+v, written %+v", i, err, got, all[i])
			}
			// Merging into a sketch that already counts is merging sketches, also when others were skipped.
			target := (*Sketch)(nil)
			into := randomSketch(r)
			direct := into.Clone()
			if i%3 == 0 {
				target = &into
				direct.Merge(&all[i])
			}
			if err := skipper.Next(target); err != nil {
				t.Fatal(err)
			}
			if into.Scale() == direct.Scale() && !equal(&into, &direct) {
				t.Fatalf("sketch %d: Next differs from Merge", i)
			}
		}
		if err := reader.Next(&Sketch{}); err == nil {
			t.Fatal("read a sketch behind the last")
		}
	}
}

func FuzzColumnReader(f *testing.F) {
	r := rand.New(rand.NewPCG(13, 14))
	var c Columns
	for _, s := range columnSketches(r) {
		c.Add(&s)
	}
	f.Add(c.AppendBinary(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var merging, skipping ColumnReader
		if _, err := merging.Open(b); err != nil {
			return
		}
		if _, err := skipping.Open(b); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			var s Sketch
			if merging.Next(&s) != nil {
				return
			}
			if err := skipping.Next(nil); err != nil {
				t.Fatalf("what can be read cannot be skipped: %v", err)
			}
			var again Columns
			again.Add(&s)
			var reader ColumnReader
			back := New(s.Scale())
			if _, err := reader.Open(again.AppendBinary(nil)); err != nil {
				t.Fatal(err)
			}
			if err := reader.Next(&back); err != nil || !equal(&back, &s) {
				t.Fatalf("what was read cannot be written and read again: %v", err)
			}
		}
	})
}

func BenchmarkColumnsAdd(b *testing.B) {
	b.ReportAllocs()
	s := lognormal(1000)
	var c Columns
	for b.Loop() {
		c.Reset()
		c.Add(&s)
	}
}

func BenchmarkColumnReaderNext(b *testing.B) {
	b.ReportAllocs()
	s := lognormal(1000)
	var c Columns
	c.Add(&s)
	data := c.AppendBinary(nil)
	var into Sketch
	for b.Loop() {
		var r ColumnReader
		if _, err := r.Open(data); err != nil {
			b.Fatal(err)
		}
		if err := r.Next(&into); err != nil {
			b.Fatal(err)
		}
	}
}

func lognormal(n int) Sketch {
	r := rand.New(rand.NewPCG(1, 1))
	var s Sketch
	for range n {
		s.Add(int64(1e6*math.Exp(r.NormFloat64())), 1)
	}
	return s
}
