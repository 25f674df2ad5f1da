package finding

import (
	"fmt"
	"math"
	"time"

	"faultline/graph"
)

// What a new version must be like to be worse than the others.
const (
	worseZ         = 4 // standard deviations
	worseErrors    = 5 // failed calls
	worseShare     = 0.005
	worseTimes     = 2
	slowerTimes    = 1.25 // quantile over that of the others
	slowerCalls    = 30
	slowerSlow     = 10 // calls beyond the others' quantile
	comparedOthers = 30 // calls of the others
)

// worse is in what a version is worse than those that run beside it, on the edge where it shows most.
type worse struct {
	z   float64
	say string
}

// worseThanOthers compares a version of a service with the others over the same minutes, those after it was first seen of
// which all spans have come: first starts are slow.
func (g *Graph) worseThanOthers(node graph.Node, version string, seen time.Time) (worst worse) {
	for _, e := range g.in[node] {
		var own, others graph.Detail
		for start, versions := range e.versions {
			d := versions[version]
			if d == nil || !start.After(seen) {
				continue
			}
			for name, o := range versions {
				if name == version {
					own.Add(o)
				} else {
					others.Add(o)
				}
			}
		}
		if own.Raw <= 0 || others.Raw < comparedOthers {
			continue
		}
		for _, w := range []worse{failsMore(&own, &others), slower(&own, &others, .5, "the median"), slower(&own, &others, .95, "the p95")} {
			if w.z > worst.z {
				w.say += " on calls from " + e.Key.Source.ID()
				worst = w
			}
		}
	}
	return worst
}

// failsMore returns how clearly own fails more than others.
func failsMore(own, others *graph.Detail) worse {
	a, b := share(own.Errors, own.Calls), share(others.Errors, others.Calls)
	z := deviance(own.RawErrors, own.Raw, others.RawErrors, others.Raw)
	if own.RawErrors < worseErrors || a-b < worseShare || a < worseTimes*b || z < worseZ {
		return worse{}
	}
	return worse{z, fmt.Sprintf("it fails %s, the others %s", percent(a), percent(b))}
}

// slower returns how clearly own is slower than others at their q-quantile: by the share of the calls that take longer.
func slower(own, others *graph.Detail, q float64, name string) worse {
	a, b := own.Latency.Quantile(q), others.Latency.Quantile(q)
	n, m := own.Latency.Count(), others.Latency.Count()
	if own.Raw < slowerCalls || n <= 0 || m <= 0 || !(a >= slowerTimes*b && a-b >= slowerBy) {
		return worse{}
	}
	beyond := int64(b)
	k := rawOf(own.Latency.Above(beyond), n, own.Raw)
	z := deviance(k, own.Raw, rawOf(others.Latency.Above(beyond), m, others.Raw), others.Raw)
	if k < slowerSlow || z < worseZ {
		return worse{}
	}
	return worse{z, fmt.Sprintf("%s is %s, of the others %s", name, span(a), span(b))}
}

// deviance returns by how many standard deviations k of n is more often than j of m: the signed root of the deviance of
// two proportions from one common one, which holds for small counts as well.
func deviance(k, n, j, m int64) float64 {
	if n <= 0 || m <= 0 {
		return 0
	}
	a, b, both := float64(k)/float64(n), float64(j)/float64(m), float64(k+j)/float64(n+m)
	z := math.Sqrt(max(2*(float64(n)*divergence(a, both)+float64(m)*divergence(b, both)), 0))
	return math.Copysign(z, a-b)
}

// divergence is that of Kullback and Leibler, of two ways to toss a coin.
func divergence(p, q float64) float64 {
	part := func(a, b float64) float64 {
		if a <= 0 {
			return 0
		}
		return a * math.Log(a/b)
	}
	return part(p, q) + part(1-p, 1-q)
}
