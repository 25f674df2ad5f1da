package graph

import (
	"fmt"
	"time"
)

// What Judge asks for. Limits are absolute until an objective or a learned baseline takes their place; each applies to
// the lower bound of an interval over raw counts, so that one error among a few calls alarms nobody.
const (
	minRaw         = 30   // calls before anything but a high error rate can be said
	minErrors      = 3    // failed calls before an error rate is worth a word; never one
	errorWarn      = 0.01 // share of calls that fail
	errorCritical  = 0.05
	retryBudget    = 0.10 // retries per logical call
	slowFactor     = 2.0  // p95 against the baseline's
	slowCritical   = 4.0
	slowAtLeast    = 20 * time.Millisecond // and at least this much slower
	minSlowSamples = 30
	z95            = 1.96
)

// Judge says how an edge is, from what a span of time counted and, when before is given, from how it was earlier. The
// reasons are sentences' parts with their figures, worst first.
func Judge(now, before *EdgeStats) (Health, []string) {
	if now.Raw == 0 {
		return HealthUnknown, nil
	}
	health, reasons := HealthUnknown, []string(nil)
	if now.Raw >= minRaw {
		health = HealthOK
	}
	raise := func(h Health, format string, args ...any) {
		health = max(health, h)
		reasons = append(reasons, fmt.Sprintf(format, args...))
	}
	if now.Calls > 0 && now.RawErrors >= minErrors {
		lower, _ := Wilson(now.RawErrors, now.Raw, z95)
		rate := 100 * float64(now.Errors) / float64(now.Calls)
		switch {
		case lower >= errorCritical:
			raise(HealthCritical, "errors %.3g %%", rate)
		case lower >= errorWarn && now.Raw >= minRaw:
			raise(HealthWarn, "errors %.3g %%", rate)
		}
	}
	if now.LogicalCalls > 0 && now.Raw >= minRaw {
		if r := float64(now.Retries()) / float64(now.LogicalCalls); r > retryBudget {
			raise(HealthWarn, "retries %.3gx", 1+r)
		}
	}
	if before != nil {
		a, b := &now.Client, &before.Client
		if a.Count() == 0 || b.Count() == 0 {
			a, b = &now.Server, &before.Server
		}
		if a.Count() >= minSlowSamples && b.Count() >= minSlowSamples {
			p, q := a.Quantile(.95), 0.0
			if p >= float64(slowAtLeast) {
				q = b.Quantile(.95)
			}
			if p-q >= float64(slowAtLeast) {
				switch {
				case p >= slowCritical*q:
					raise(HealthCritical, "p95 %s, %.2gx", time.Duration(p).Round(time.Millisecond), p/q)
				case p >= slowFactor*q:
					raise(HealthWarn, "p95 %s, %.2gx", time.Duration(p).Round(time.Millisecond), p/q)
				}
			}
		}
	}
	return health, reasons
}
