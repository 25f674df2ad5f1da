package web

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"faultline/graph"
)

// span is a span of time that was asked for: From ≤ t < To, both aligned to windows except that To is not beyond now.
type span struct {
	From, To time.Time
}

// length is what rates are computed over.
func (s span) length() time.Duration { return s.To.Sub(s.From) }

// end is To at the end of its window: what a store is asked for.
func (s span) end() time.Time { return ceil(s.To, graph.WindowLength) }

// minute is From at the start of its minute: since when the details of edges are asked for.
func (s span) minute() time.Time { return floor(s.From, graph.DetailLength) }

// parseTime reads RFC 3339, "now", or "now-15m" with the units of Go's durations and d for days.
func parseTime(text string, now time.Time) (time.Time, error) {
	if rest, ok := strings.CutPrefix(text, "now"); ok {
		if rest == "" {
			return now, nil
		}
		if back, ok := strings.CutPrefix(rest, "-"); ok {
			d, err := parseDuration(back)
			if err != nil {
				return time.Time{}, err
			}
			return now.Add(-d), nil
		}
		return time.Time{}, fmt.Errorf("want now-<duration>")
	}
	// A plus sign that was not escaped arrives as a space.
	if i := len(text) - len("+00:00"); i > 0 && text[i] == ' ' {
		text = text[:i] + "+" + text[i+1:]
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("want RFC 3339, such as 2026-01-02T15:04:05Z, or now-15m")
	}
	if t.Year() < 1970 || t.Year() > 2200 {
		return time.Time{}, fmt.Errorf("want a year from 1970 to 2200")
	}
	return t.UTC(), nil
}

var (
	errDuration = errors.New("want a duration, such as 30s, 15m, 6h or 7d")
	errTooLong  = errors.New("want a duration of at most 36600d")
)

// parseDuration reads a positive duration: Go's units, d for days, or plain seconds.
func parseDuration(text string) (time.Duration, error) {
	const longest = 100 * 366 * 24 * time.Hour
	unit, digits := time.Duration(0), text
	switch {
	case strings.HasSuffix(text, "d"):
		unit, digits = 24*time.Hour, strings.TrimSuffix(text, "d")
	case text != "" && strings.Trim(text, "0123456789.") == "":
		unit = time.Second
	}
	if unit == 0 {
		d, err := time.ParseDuration(text)
		switch {
		case err != nil || d <= 0:
			return 0, errDuration
		case d > longest:
			return 0, errTooLong
		}
		return d, nil
	}
	n, err := strconv.ParseFloat(digits, 64)
	switch {
	case err != nil || math.IsNaN(n) || n <= 0:
		return 0, errDuration
	case n > float64(longest/unit):
		return 0, errTooLong
	}
	return time.Duration(n * float64(unit)), nil
}

// floor and ceil align to the Unix epoch, which every length of a window divides; time.Truncate reckons from year 1.
func floor(t time.Time, d time.Duration) time.Time {
	ns := t.UnixNano()
	return time.Unix(0, ns-((ns%int64(d))+int64(d))%int64(d)).UTC()
}

func ceil(t time.Time, d time.Duration) time.Time {
	if f := floor(t, d); f.Before(t) {
		return f.Add(d)
	}
	return t.UTC()
}

// spanOf reads from and to; what is absent is now and the given time before it. The error names the parameter.
func (s *Server) spanOf(from, to string, length time.Duration, now time.Time) (span, error) {
	end := now
	var err error
	if to != "" {
		if end, err = parseTime(to, now); err != nil {
			return span{}, badParameter("to", to, err)
		}
	}
	start := end.Add(-length)
	if from != "" {
		if start, err = parseTime(from, now); err != nil {
			return span{}, badParameter("from", from, err)
		}
	}
	if !start.Before(end) {
		return span{}, badParameter("from", from, fmt.Errorf("must be before to"))
	}
	if end.Sub(start) > s.limits.Range {
		return span{}, badParameter("from", from, fmt.Errorf("at most %d days at once", s.limits.Range/(24*time.Hour)))
	}
	sp := span{From: floor(start, graph.WindowLength), To: ceil(end, graph.WindowLength)}
	if sp.To.After(now) && !end.After(now) {
		sp.To = now
	}
	return sp, nil
}

// Environment is the parameter env, which may be present and empty.
type Environment struct {
	Env string `query:"env" doc:"Environment; absent for the busiest" maxLength:"256"`
	set bool
}

// Resolve finds out whether env is present.
func (e *Environment) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	e.set = u.Query().Has("env")
	return nil
}

var _ huma.Resolver = (*Environment)(nil)

// Times are the parameters from and to.
type Times struct {
	From string `query:"from" doc:"RFC 3339 or now-15m" example:"now-15m" maxLength:"64"`
	To   string `query:"to" doc:"RFC 3339, now, or now-5m; absent for now" example:"now" maxLength:"64"`
}
