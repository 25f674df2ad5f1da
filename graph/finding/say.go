package finding

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// percent writes a share for people: "48 %", "1.2 %", "0.03 %".
func percent(share float64) string {
	v := 100 * share
	switch {
	case math.IsNaN(v):
		return "? %"
	case v >= 9.95 || v == 0:
		return strconv.FormatFloat(v, 'f', 0, 64) + " %"
	case 0 < v && v < .01:
		return "under 0.01 %"
	}
	return strconv.FormatFloat(v, 'g', 2, 64) + " %"
}

// count writes a whole number with its thousands apart: "2,310".
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, c := range s {
		if i > 0 && (len(s)-i)%3 == 0 && s[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// figure writes a number with as many digits as matter: "1.48", "64", "0.031".
func figure(v float64) string {
	switch {
	case math.IsNaN(v):
		return "?"
	case v >= 100:
		return count(int64(math.Round(v)))
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// probability writes a probability, which is small: "= 0.0003", "< 1e-9".
func probability(p float64) string {
	if p < 1e-9 {
		return "< 1e-9"
	}
	return "= " + strconv.FormatFloat(p, 'g', 1, 64)
}

// span writes nanoseconds for people: "150 ms", "2.5 s", "3 min".
func span(ns float64) string {
	const s = float64(time.Second)
	switch {
	case math.IsNaN(ns):
		return "?"
	case math.IsInf(ns, 0):
		return "for ever"
	case ns < 1e6:
		return figure(ns/1e3) + " µs"
	case ns < s:
		return figure(ns/1e6) + " ms"
	case ns < 120*s:
		return figure(ns/s) + " s"
	case ns < 7200*s:
		return figure(ns/(60*s)) + " min"
	}
	return figure(ns/(3600*s)) + " h"
}
