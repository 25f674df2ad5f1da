package graph

import (
	"testing"
	"time"
)

// What a store does not take is bounded in bytes too: with many edges two hours of windows would fill the machine.
func TestWhatWaitsForTheStoreIsBounded(t *testing.T) {
	part := func(second, edges int) *Part {
		p := &Part{Window: Window{Start: noon.Add(time.Duration(second) * WindowLength), Length: WindowLength}}
		for range edges {
			var s EdgeStats
			s.Client.Add(1e6, 1)
			s.Client.Add(1e9, 1) // ten powers of two apart: some 320 counts
			p.Edges = append(p.Edges, EdgeRow{Stats: s})
		}
		return p
	}
	const edges = 100
	size := part(0, edges).memory()
	if least := edges * 320 * 8; size < least || size > 3*least {
		t.Fatalf("%d bytes for a part whose counts alone take %d", size, least)
	}

	tests := []struct {
		name          string
		parts, bytes  int
		dropped, stay int
	}{
		{"neither", 10, 10 * size, 0, 10},
		{"too many", 7, 10 * size, 3, 7},
		{"too large", 10, 4*size + 1, 6, 4},
		{"all too large", 10, size - 1, 10, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var c closing
			for i := range 10 {
				c.add(part(i, edges))
			}
			if n := c.bound(tt.parts, tt.bytes); n != tt.dropped || len(c.parts) != tt.stay || c.bytes != tt.stay*size {
				t.Errorf("dropped %d, %d stay with %d bytes; want %d, %d, %d", n, len(c.parts), c.bytes, tt.dropped, tt.stay, tt.stay*size)
			}
			for i := range c.parts {
				if want := noon.Add(time.Duration(tt.dropped+i) * WindowLength); !c.parts[i].Start.Equal(want) {
					t.Errorf("part %d starts at %v, want %v: the oldest are given up", i, c.parts[i].Start, want)
				}
			}
			kept := map[PartKey]bool{}
			for i := range c.parts {
				kept[c.parts[i].Key()] = true
			}
			if c.forget(kept); len(c.parts) != 0 || c.bytes != 0 {
				t.Errorf("%d parts and %d bytes are left of what was kept", len(c.parts), c.bytes)
			}
		})
	}
}

// Without a store that takes anything, Cut gives up the oldest windows and counts them.
func TestCutGivesUpTheOldest(t *testing.T) {
	live, edge := testLive(DefaultLiveConfig())
	e := edge("a", "b")
	const windows = maxClosing + 40
	for i := range windows {
		end := noon.Add(time.Duration(i)*WindowLength + time.Second)
		live.Observe([]Call{{Edge: e, End: end.UnixNano(), Duration: 1e6, Weight: 1, Calls: 1, Logical: 1}})
	}
	now := noon.Add(windows*WindowLength + time.Hour)
	if parts := live.Cut(now); len(parts) != windows {
		t.Errorf("%d parts, want all %d to have a try at the store", len(parts), windows)
	}
	if parts := live.Cut(now); len(parts) != maxClosing {
		t.Errorf("%d parts wait, want %d", len(parts), maxClosing)
	}
	if n := live.Dropped()["store_unavailable"]; n != 40 {
		t.Errorf("%d parts are counted as given up, want 40", n)
	}
}
