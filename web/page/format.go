package page

import (
	"math"
	"regexp"
	"strconv"
	"time"

	"faultline/graph"
	"faultline/internal/sketch"
)

// Units as people say them. The browser has the same rules (web/static/src/format.js), and a test holds the two
// against each other.

const none = "–"

// digits writes v with one digit after the point below 10, and none from there on. It is rounded before it is written,
// so that Go and JavaScript agree on the half.
func digits(v float64) string {
	if v >= 9.95 {
		return strconv.FormatFloat(math.Round(v), 'f', -1, 64)
	}
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
}

func hundredths(v float64) string { return strconv.FormatFloat(math.Round(v*100)/100, 'f', 2, 64) }

// Duration writes milliseconds as "340 ms", "1.2 s", "2 min".
func Duration(ms float64) string {
	switch {
	case math.IsNaN(ms) || math.IsInf(ms, 0):
		return none
	case ms <= 0:
		return "0 ms"
	case ms < 0.01:
		return "<0.01 ms"
	case ms < 0.995:
		return hundredths(ms) + " ms"
	case ms < 999.5:
		return digits(ms) + " ms"
	case ms < 59_950:
		return digits(ms/1e3) + " s"
	case ms < 59.95*60_000:
		return digits(ms/60e3) + " min"
	}
	return digits(ms/3600e3) + " h"
}

// Rate writes events per second as "1.2 k/s", "12/s", "30/min".
func Rate(perSecond float64) string {
	switch {
	case math.IsNaN(perSecond) || math.IsInf(perSecond, 0):
		return none
	case perSecond <= 0:
		return "0/s"
	case perSecond >= 999.5e3:
		return digits(perSecond/1e6) + " M/s"
	case perSecond >= 999.5:
		return digits(perSecond/1e3) + " k/s"
	case perSecond >= .995:
		return digits(perSecond) + "/s"
	case perSecond*60 >= .995:
		return digits(perSecond*60) + "/min"
	}
	return digits(max(perSecond*3600, .1)) + "/h"
}

// Share writes a ratio of 0…1 as "4.1 %".
func Share(ratio float64) string {
	switch p := ratio * 100; {
	case math.IsNaN(p) || math.IsInf(p, 0):
		return none
	case p <= 0:
		return "0 %"
	case p < .01:
		return "<0.01 %"
	case p < .1:
		return hundredths(p) + " %"
	default:
		return digits(p) + " %"
	}
}

// The reasons of graph.Judge: "p95 82ms, 14x", "errors 3.48 %", "retries 2.93x".
var (
	slowReason  = regexp.MustCompile(`^(p\d+) (\S+), (\S+)x$`)
	errorReason = regexp.MustCompile(`^errors (\S+) %$`)
	retryReason = regexp.MustCompile(`^retries (\S+)x$`)
)

// Reason writes a reason of graph.Judge as people do: "p95 82ms, 14x" becomes "p95 82 ms, ↑14x". What it does not know it
// leaves alone.
func Reason(reason string) string {
	if m := slowReason.FindStringSubmatch(reason); m != nil {
		took, err := time.ParseDuration(m[2])
		times, err2 := strconv.ParseFloat(m[3], 64)
		if err == nil && err2 == nil {
			return m[1] + " " + Duration(float64(took)/1e6) + ", ↑" + digits(times) + "x"
		}
	}
	if m := errorReason.FindStringSubmatch(reason); m != nil {
		if percent, err := strconv.ParseFloat(m[1], 64); err == nil {
			return "errors " + Share(percent/100)
		}
	}
	if m := retryReason.FindStringSubmatch(reason); m != nil {
		if times, err := strconv.ParseFloat(m[1], 64); err == nil {
			return "retries " + digits(times) + "x"
		}
	}
	return reason
}

// Bytes writes a size as "1.2 MB".
func Bytes(n int64) string {
	v := float64(n)
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if v < 999.5 {
			return digits(v) + " " + unit
		}
		v /= 1000
	}
	return digits(v) + " TB"
}

// Count writes a number of things with its thousands apart.
func Count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}

// Ago writes how long ago t was.
func Ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	s := math.Round(max(now.Sub(t).Seconds(), 0))
	switch {
	case s < 2:
		return "now"
	case s < 90:
		return strconv.FormatFloat(s, 'f', 0, 64) + " s ago"
	case s < 5400:
		return strconv.FormatFloat(math.Round(s/60), 'f', 0, 64) + " min ago"
	case s < 129600:
		return strconv.FormatFloat(math.Round(s/3600), 'f', 0, 64) + " h ago"
	}
	return strconv.FormatFloat(math.Round(s/86400), 'f', 0, 64) + " d ago"
}

func edgeRate(e *graph.MapEdge) string {
	if e.Duration <= 0 {
		return none
	}
	return Rate(float64(e.Stats.Calls) / e.Duration.Seconds())
}

func edgeErrors(e *graph.MapEdge) string {
	if e.Stats.Calls <= 0 {
		return none
	}
	return Share(float64(e.Stats.Errors) / float64(e.Stats.Calls))
}

// latency writes a quantile of the caller's side, of the callee's where the caller was not seen, as far as enough
// calls stand behind it.
func latency(e *graph.MapEdge, q float64) string {
	s := &e.Stats.Client
	if s.Count() <= 0 {
		s = &e.Stats.Server
	}
	if float64(min(s.Count(), e.Stats.Raw))*(1-q) < 1 {
		return none
	}
	return millis(s, q)
}

func millis(s *sketch.Sketch, q float64) string { return Duration(s.Quantile(q) / 1e6) }

// kept writes a retention in days, or hours below two days, or less below two hours.
func kept(d time.Duration) string {
	if d < 2*time.Hour {
		return Duration(float64(d.Milliseconds()))
	}
	if h := d.Hours(); h < 48 {
		return digits(h) + " h"
	}
	return digits(d.Hours()/24) + " d"
}

// upFor writes how long something has lasted.
func upFor(d time.Duration) string {
	if d < time.Hour {
		return Duration(float64(d.Round(time.Second).Milliseconds()))
	}
	return kept(d.Round(time.Hour))
}
