package ingest

import (
	"bytes"
	"math"
	"math/bits"
	"strconv"

	"faultline/ingest/otlpwire"
)

// maxWeight bounds how many calls one span may stand for: a sampling probability of one in a million.
const maxWeight = 1_000_000

// weight returns how many spans this one stands for, from the sampling threshold in its trace state, or from the
// attributes that older samplers leave; 1 when nothing says that it was sampled. known is false for a span that carries
// a malformed threshold. A weight of 0 means that the span does not count.
//
// Source: OpenTelemetry, TraceState probability sampling: p = (2^56 − T)/2^56, adjusted count 1/p.
func weight(sp *otlpwire.Span) float64 {
	if len(sp.TraceState) > 0 {
		if w, ok := traceStateWeight(sp.TraceState); ok {
			return w
		}
	}
	if v := sp.Get(otlpwire.SamplingProbability); v.Type != otlpwire.Absent {
		if p, ok := real(v); ok && p > 0 && p <= 1 {
			return min(1/p, maxWeight)
		}
	}
	for _, k := range [...]otlpwire.Key{otlpwire.SampleRateUpper, otlpwire.SampleRateLower, otlpwire.SampleRateCamel} {
		if v := sp.Get(k); v.Type != otlpwire.Absent {
			if n, ok := real(v); ok && n >= 1 {
				return min(n, maxWeight)
			}
		}
	}
	return 1
}

func real(v otlpwire.Value) (float64, bool) {
	switch v.Type {
	case otlpwire.Int, otlpwire.Bool:
		return float64(v.Num), true
	case otlpwire.Real:
		return v.Real, !math.IsNaN(v.Real)
	case otlpwire.Text:
		f, err := strconv.ParseFloat(string(v.Text), 64)
		return f, err == nil && !math.IsNaN(f)
	}
	return 0, false
}

// traceStateWeight reads the entry "ot" of a W3C trace state.
func traceStateWeight(state []byte) (w float64, ok bool) {
	for entry := range bytes.SplitSeq(state, []byte{','}) {
		entry = bytes.TrimSpace(entry)
		value, found := bytes.CutPrefix(entry, []byte("ot="))
		if !found {
			continue
		}
		var threshold, randomness uint64
		haveThreshold, haveRandomness := false, false
		for pair := range bytes.SplitSeq(value, []byte{';'}) {
			k, v, found := bytes.Cut(pair, []byte{':'})
			if !found {
				continue
			}
			switch string(k) {
			case "th":
				if t, ok := hex56(v, true); ok {
					threshold, haveThreshold = t, true
				}
			case "rv":
				if r, ok := hex56(v, false); ok {
					randomness, haveRandomness = r, true
				}
			case "p": // the older consistent probability sampling: 2^N, 63 for never
				if n, ok := number(otlpwire.Value{Text: v, Type: otlpwire.Text}); ok && !haveThreshold {
					switch {
					case n == 63:
						return 0, true
					case n <= 62:
						return min(math.Exp2(float64(n)), maxWeight), true
					}
				}
			}
		}
		if !haveThreshold {
			return 0, false
		}
		if haveRandomness && randomness < threshold {
			return 0, false // it could not have been sampled: the threshold is not to be believed
		}
		return min(math.Exp2(56)/(math.Exp2(56)-float64(threshold)), maxWeight), true
	}
	return 0, false
}

// hex56 reads 1 to 14 lower-case hexadecimal digits as the highest digits of 56 bits; exactly 14 when not padded.
func hex56(b []byte, padded bool) (uint64, bool) {
	if len(b) == 0 || len(b) > 14 || !padded && len(b) != 14 {
		return 0, false
	}
	v := uint64(0)
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			v = v<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return v << (4 * (14 - len(b))), true
}

// whole rounds a weight to a whole number, up with the probability of its fraction, by the span's id: unbiased, and the
// same whenever the span is read again.
func whole(w float64, id uint64) int32 {
	if w == 1 {
		return 1
	}
	floor := math.Floor(w)
	if u := float64(mix(id)) / math.Exp2(64); u < w-floor {
		floor++
	}
	return int32(floor)
}

// mix spreads the bits of x. Source: the finaliser of splitmix64.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// fold mixes two words into one.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9E3779B97F4A7C15, b^0xD6E8FEB86659FD93)
	return hi ^ lo
}
