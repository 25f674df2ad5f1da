package collectorext

import (
	"context"
	"log/slog"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapHandler writes slog's records to the Collector's zap core, so that there is one log, with one level and one format.
// It is safe for concurrent use.
type zapHandler struct {
	core   zapcore.Core
	prefix string // of keys, from groups: "a.b."
}

func newZapHandler(core zapcore.Core) *zapHandler { return &zapHandler{core: core} }

// Enabled implements slog.Handler.
func (h *zapHandler) Enabled(_ context.Context, level slog.Level) bool {
	return h.core.Enabled(zapLevel(level))
}

// Handle implements slog.Handler.
func (h *zapHandler) Handle(_ context.Context, r slog.Record) error {
	entry := zapcore.Entry{Level: zapLevel(r.Level), Time: r.Time, Message: r.Message}
	if entry.Time.IsZero() {
		entry.Time = time.Now()
	}
	checked := h.core.Check(entry, nil)
	if checked == nil {
		return nil
	}
	fields := make([]zapcore.Field, 0, r.NumAttrs())
	r.Attrs(func(attr slog.Attr) bool {
		fields = appendFields(fields, h.prefix, attr)
		return true
	})
	checked.Write(fields...)
	return nil
}

// WithAttrs implements slog.Handler.
func (h *zapHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var fields []zapcore.Field
	for _, attr := range attrs {
		fields = appendFields(fields, h.prefix, attr)
	}
	return &zapHandler{core: h.core.With(fields), prefix: h.prefix}
}

// WithGroup implements slog.Handler.
func (h *zapHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &zapHandler{core: h.core, prefix: h.prefix + name + "."}
}

func appendFields(fields []zapcore.Field, prefix string, attr slog.Attr) []zapcore.Field {
	value := attr.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if attr.Key != "" {
			prefix += attr.Key + "."
		}
		for _, a := range value.Group() {
			fields = appendFields(fields, prefix, a)
		}
		return fields
	}
	if attr.Key == "" && value.Kind() == slog.KindAny && value.Any() == nil {
		return fields
	}
	return append(fields, zap.Any(prefix+attr.Key, value.Any()))
}

func zapLevel(l slog.Level) zapcore.Level {
	switch {
	case l >= slog.LevelError:
		return zapcore.ErrorLevel
	case l >= slog.LevelWarn:
		return zapcore.WarnLevel
	case l >= slog.LevelInfo:
		return zapcore.InfoLevel
	}
	return zapcore.DebugLevel
}
