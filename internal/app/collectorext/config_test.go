package collectorext

import (
	"strings"
	"testing"

	"faultline/internal/app"
)

// A smaller limit of the process is one for the spans in flight too, without a second key to set.
func TestSpansTakeTheirShareOfTheMemory(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name        string
		total, own  app.Bytes
		want        int64
		wantInError string
	}{
		{"as it comes", 512 * mib, 0, 192 * mib, ""},
		{"a small machine", 128 * mib, 0, 48 * mib, ""},
		{"the least", 64 * mib, 0, 24 * mib, ""},
		{"a large machine", 4096 * mib, 0, 192 * mib, ""},
		{"no limit", 0, 0, 192 * mib, ""},
		{"as it is told", 512 * mib, 256 * mib, 256 * mib, ""},
		{"more than all", 128 * mib, 192 * mib, 0, "intake::memory_limit: 192MiB is more than the whole process's memory_limit, 128MiB"},
		{"next to nothing", 512 * mib, 1024, 0, "intake::memory_limit: 1KiB is less than 1MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.App.MemoryLimit, cfg.Intake.MemoryLimit = tt.total, tt.own
			err := cfg.Validate()
			if tt.wantInError != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantInError) {
					t.Errorf("got %v, want %s", err, tt.wantInError)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := cfg.Intake.ingest(cfg.App.MemoryLimit).MemoryLimit; got != tt.want {
				t.Errorf("%d MiB for spans, want %d", got/mib, tt.want/mib)
			}
		})
	}
}
