package sketch

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestPackedMergesAsSketchesDo(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	for range 50 {
		all := columnSketches(r)
		packed := make([]*Sketch, len(all))
		for i := range all {
			packed[i] = &all[i]
			fits := true
			for _, c := range all[i].counts {
				fits = fits && c == int64(int32(c))
			}
			if _, ok := Pack(packed[:i+1]); ok != fits {
				t.Fatalf("Pack: %v for %+v", ok, all[i])
			}
			if !fits {
				all[i] = Sketch{}
			}
		}
		p, _ := Pack(packed)
		for i := range all {
			got := randomSketch(r)
			want := got.Clone()
			want.Downscale(all[i].Scale())
			want.Merge(&all[i])
			p.Merge(i, &got)
			if !equal(&got, &want) {
				t.Fatalf("sketch %d: %+v, want %+v", i, got, want)
			}
		}
	}
	var big Sketch
	big.Add(5, math.MaxInt32)
	if _, ok := Pack([]*Sketch{&big}); !ok {
		t.Error("refused a count of 31 bits")
	}
	big.Add(5, 1)
	if _, ok := Pack([]*Sketch{&big}); ok {
		t.Error("took a count of 32 bits")
	}
}

func TestReserveChangesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	var arena Arena
	for range 2000 {
		some := columnSketches(r)
		var fit []*Sketch
		for i := range some {
			if _, ok := Pack([]*Sketch{&some[i]}); ok {
				fit = append(fit, &some[i])
			}
		}
		p, _ := Pack(fit)
		var x, unpacked Extent
		for i := range fit {
			p.Extend(&x, i)
			fit[i].Extend(&unpacked)
		}
		if x != unpacked {
			t.Fatalf("packed %+v, otherwise %+v", x, unpacked)
		}
		got := randomSketch(r)
		want := got.Clone()
		got.Reserve(x, &arena)
		if !equal(&got, &want) {
			t.Fatalf("%+v, want %+v", got, want)
		}
		room := &got.counts
		before, scale := len(*room), got.Scale()
		for i := range p.heads {
			p.Merge(i, &got)
			p.Merge(i, &want)
		}
		if !equal(&got, &want) {
			t.Fatalf("%+v, want %+v", got, want)
		}
		if got.Scale() == scale && len(*room) != before {
			t.Fatalf("grew from %d to %d buckets", before, len(*room))
		}
	}
}
