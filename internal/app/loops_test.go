package app

import (
	"testing"
	"time"
)

// Writing takes little of the time, and little is lost by a process that is killed: both as far as they go together.
func TestPauseBetweenWrites(t *testing.T) {
	for _, c := range []struct{ took, want time.Duration }{
		{0, time.Second},
		{60 * time.Millisecond, time.Second},
		{100 * time.Millisecond, 1500 * time.Millisecond}, // a sixteenth
		{200 * time.Millisecond, 2 * time.Second},
		{600 * time.Millisecond, 2 * time.Second},
		{time.Second, 3 * time.Second}, // a quarter: a slow disk
	} {
		if got := pause(c.took); got != c.want {
			t.Errorf("after a write of %s: a pause of %s, want %s", c.took, got, c.want)
		}
	}
}
