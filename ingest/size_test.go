package ingest

import (
	"testing"
	"unsafe"
)

func TestAHalfTakesTwoCacheLines(t *testing.T) {
	var h half
	if size, second := unsafe.Sizeof(h), unsafe.Offsetof(h.start); size != 128 || second != 64 {
		t.Errorf("a half takes %d bytes, its second line begins at %d; want 128 and 64", size, second)
	}
}
