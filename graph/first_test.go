package graph

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What is not counted, because it is what is left of the operations, is as if it had been: for callees with and without
// versions, calls with and without operations, and whatever is taken back.
func TestFirstVersionsAreWhatIsLeft(t *testing.T) {
	live, edge := testLive(DefaultLiveConfig())
	r := rand.New(rand.NewPCG(1, 2))
	ref := edge("a", "b")
	names := []string{"", "1.0", "1.1"}
	labels := []Label{0, live.Names().NewLabel("1.0"), live.Names().NewLabel("1.1")}
	operation := live.Names().NewLabel("GET /")
	want := map[string]int64{}
	note := func(dimension Dimension, name string, weight int32) {
		if key := fmt.Sprint(dimension, " ", name); name != "" && name != PairName("", "") {
			if want[key] += int64(weight); want[key] == 0 {
				delete(want, key)
			}
		}
	}
	for range 2000 {
		version, peer := r.IntN(3), r.IntN(3)
		c := Call{
			Edge: ref, End: noon.Add(time.Duration(r.IntN(50)) * time.Second).UnixNano(), Duration: r.Int64N(1e9), Weight: int32(r.IntN(3) - 1),
			Calls: 1, Logical: 1, Timed: true, Version: labels[version], Operation: operation,
		}
		if c.Weight == 0 {
			c.Operation, c.Weight = 0, 1
		}
		if r.IntN(2) == 0 {
			c.Side = ServerSide
			note(Version, names[version], c.Weight)
			live.Observe([]Call{c})
			continue
		}
		c.PeerVersion = labels[peer]
		note(VersionPair, PairName(names[version], names[peer]), c.Weight)
		if late := r.IntN(2) == 0; late {
			known := c
			known.Awaited, known.Moved = true, true
			c.PeerVersion, c.Awaited = 0, true
			live.Observe([]Call{c, known})
			continue
		}
		live.Observe([]Call{c})
	}
	got := map[string]int64{}
	windows, _ := live.Windows(noon, noon.Add(time.Minute), true)
	for _, w := range windows {
		for _, d := range w.Details {
			if d.Key.Dimension != Version && d.Key.Dimension != VersionPair {
				continue
			}
			if d.Detail.Calls != d.Detail.Latency.Count() {
				t.Errorf("%v: %d calls, %d latencies", d.Key, d.Detail.Calls, d.Detail.Latency.Count())
			}
			if d.Detail.Calls != 0 {
				got[fmt.Sprint(d.Key.Dimension, " ", d.Key.Name)] = d.Detail.Calls
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
