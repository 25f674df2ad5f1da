package ingest

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"

	"faultline/graph"
	"faultline/ingest/otlpwire"
)

// maxWeight bounds how many calls one span may stand for: a sampling probability of one in a million.
const maxWeight = 1_000_000

// sample is what a span tells of how it was sampled.
type sample struct {
	weight    float64 // how many spans it stands for; 0 for one that does not count
	known     bool    // it says so; else weight is 1
	trace     bool    // and it speaks for its whole trace, whose other spans may say nothing
	malformed bool    // it carries a threshold that is not to be believed, and counts as if it did not
}

// sampling reads how many spans this one stands for, from the sampling threshold in its trace state, or from the
// attributes that older samplers leave.
//
// Source: OpenTelemetry, TraceState probability sampling: p = (2^56 − T)/2^56, adjusted count 1/p. Attributes as
// Honeycomb's and Jaeger's samplers write them.
func sampling(sp *otlpwire.Span) sample {
	malformed := false
	if len(sp.TraceState) > 0 {
		w, found, ok := traceStateWeight(sp)
		if ok {
			return sample{weight: w, known: true}
		}
		malformed = found
	}
	if p, ok := real(sp.Get(otlpwire.SamplingProbability)); ok && p > 0 && p <= 1 {
		return sample{weight: min(1/p, maxWeight), known: true, malformed: malformed}
	}
	for _, k := range [...]otlpwire.Key{otlpwire.SampleRateUpper, otlpwire.SampleRateLower, otlpwire.SampleRateCamel} {
		if n, ok := real(sp.Get(k)); ok && n >= 1 {
			return sample{weight: min(n, maxWeight), known: true, malformed: malformed}
		}
	}
	if string(sp.Text(otlpwire.SamplerType)) == "probabilistic" {
		if p, ok := real(sp.Get(otlpwire.SamplerParam)); ok && p > 0 && p <= 1 {
			return sample{weight: min(1/p, maxWeight), known: true, trace: true, malformed: malformed}
		}
	}
	return sample{weight: 1, malformed: malformed}
}

// traceRate is what a half of a request says of the sampling of its whole trace.
type traceRate struct {
	half   int
	weight float64
}

// weigh notes how many spans a half stands for.
func (in *Intake) weigh(sc *scratch, h *half, s *service) {
	of := sampling(&sc.span)
	if of.malformed {
		sc.batch.dropped[dropThreshold]++
	}
	if p := s.policy.Load(); p != nil && !of.known {
		of.weight = p.rate
	}
	if of.trace && of.weight != 1 {
		sc.rates = append(sc.rates, traceRate{len(sc.halves) - 1, of.weight})
	}
	if of.weight != 1 {
		h.weight = whole(of.weight, h.id)
	}
	if h.serving() {
		s.served(h.weight)
	}
}

// servedScale is the unit of the mean weight of the spans that a service served.
const servedScale = 16

// served notes the weight of a span that a service served, in a mean of the last few.
func (s *service) served(weight int32) {
	now, mean := weight*servedScale, s.meanWeight.Load()
	if now == mean {
		return
	}
	if mean == 0 {
		mean = now
	}
	if next := mean + (now-mean)/8; next != s.meanWeight.Load() {
		s.meanWeight.Store(next)
	}
}

// sampledOut reports whether a call of a given weight to a service may have been answered by a span that was sampled
// out, because the service's spans are kept less often than its callers'.
func (d *directory) sampledOut(ref graph.NodeRef, weight int32) bool {
	s := d.byRef(ref)
	return s != nil && s.meanWeight.Load() > (weight*servedScale)*5/4
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

// flagRandom says, in a span's flags, that the last 56 bits of its trace id are random. Source: W3C Trace Context 2.
const flagRandom = 2

// traceStateWeight reads the entry "ot" of a W3C trace state. threshold says that there is one; it is not ok when it is
// malformed, or when the trace's randomness says that it could not have been sampled.
func traceStateWeight(sp *otlpwire.Span) (w float64, threshold, ok bool) {
	for entry := range bytes.SplitSeq(sp.TraceState, []byte{','}) {
		value, found := bytes.CutPrefix(bytes.TrimSpace(entry), []byte("ot="))
		if !found {
			continue
		}
		var limit, randomness uint64
		older, random, sound := int64(-1), false, false
		if sp.Flags&flagRandom != 0 && len(sp.Trace) == 16 {
			randomness, random = binary.BigEndian.Uint64(sp.Trace[8:])&(1<<56-1), true
		}
		for pair := range bytes.SplitSeq(value, []byte{';'}) {
			k, v, _ := bytes.Cut(pair, []byte{':'})
			switch string(k) {
			case "th":
				threshold = true
				limit, sound = hex56(v, true)
			case "rv":
				if r, ok := hex56(v, false); ok {
					randomness, random = r, true
				}
			case "p": // the older consistent probability sampling: 2^N, 63 for never
				if n, ok := number(otlpwire.Value{Text: v, Type: otlpwire.Text}); ok && n <= 63 {
					older = n
				}
			}
		}
		switch {
		case threshold:
			if !sound || random && randomness < limit {
				return 0, true, false
			}
			return min(math.Exp2(56)/(math.Exp2(56)-float64(limit)), maxWeight), true, true
		case older == 63:
			return 0, false, true
		case older >= 0:
			return min(math.Exp2(float64(older)), maxWeight), false, true
		}
		return 0, false, false
	}
	return 0, false, false
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
