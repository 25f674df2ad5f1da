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
		var p Packed
		for i := range all {
			fits := true
			for _, c := range all[i].counts {
				fits = fits && c == int64(int32(c))
			}
			if got := p.Add(&all[i]); got != fits {
				t.Fatalf("Add: %v for %+v", got, all[i])
			}
			if !fits {
				p.Add(&Sketch{})
				all[i] = Sketch{}
			}
		}
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
	var p Packed
	if !p.Add(&big) {
		t.Error("refused a count of 31 bits")
	}
	if big.Add(5, 1); p.Add(&big) {
		t.Error("took a count of 32 bits")
	}
}
