package ingest

import (
	"testing"
	"unsafe"

	"faultline/graph"
)

func TestAHalfTakesTwoCacheLines(t *testing.T) {
	var h half
	if size, second := unsafe.Sizeof(h), unsafe.Offsetof(h.start); size != 128 || second != 64 {
		t.Errorf("a half takes %d bytes, its second line begins at %d; want 128 and 64", size, second)
	}
}

func TestTheFlagsOfAFactAreApart(t *testing.T) {
	if both := uint8(attempt) & (outSilent | outMissing | outAnswered | outAwaited); both != 0 || attempt>>8 != 0 {
		t.Errorf("an attempt's flags %#x and a fact's own share %#x, or do not fit", attempt, both)
	}
}

func TestAShortLabelIsTheLabelOrNone(t *testing.T) {
	for label, want := range map[graph.Label]graph.Label{0: 0, 1: 1, 0x123456: 0x123456, 1<<24 - 1: 1<<24 - 1, 1 << 24: 0, 1<<24 | 7: 0} {
		if got := short(label).label(); got != want {
			t.Errorf("label %#x: %#x, want %#x", label, got, want)
		}
	}
}
