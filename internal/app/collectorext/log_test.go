package collectorext

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"faultline/web"
)

func TestLogGoesToTheCollectorsLog(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	log := slog.New(newZapHandler(core))

	log.Debug("hidden")
	log.Info("one", "n", 1, "cause", errors.New("broken"))
	log.With("a", "b").WithGroup("g").Warn("two", "c", "d", slog.Group("h", "i", true))
	log.WithGroup("").Error("three", slog.Attr{}, slog.Any("token", web.Secret("hidden")))

	type entry struct {
		Level   zapcore.Level
		Message string
		Fields  map[string]any
	}
	want := []entry{
		{zapcore.InfoLevel, "one", map[string]any{"n": int64(1), "cause": "broken"}},
		{zapcore.WarnLevel, "two", map[string]any{"a": "b", "g.c": "d", "g.h.i": true}},
		{zapcore.ErrorLevel, "three", map[string]any{"token": "<redacted>"}},
	}
	var got []entry
	for _, e := range logs.All() {
		if e.Time.IsZero() {
			t.Errorf("%s has no time", e.Message)
		}
		got = append(got, entry{e.Level, e.Message, e.ContextMap()})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want(-) got(+):\n%s", diff)
	}
}
