// Units as people say them. The Go side has the same rules for the first paint (web/page/format.go), and a test holds the
// two against each other.

export const none = '–';

// Rounded before it is written, so that Go and JavaScript agree on the half.
const digits = (v) => String(v >= 9.95 ? Math.round(v) : Math.round(v * 10) / 10);
const hundredths = (v) => (Math.round(v * 100) / 100).toFixed(2);

/** Milliseconds as "340 ms", "1.2 s", "2 min". */
export function duration(ms) {
  if (ms == null || !isFinite(ms)) return none;
  if (ms <= 0) return '0 ms';
  if (ms < 0.01) return '<0.01 ms';
  if (ms < 0.995) return `${hundredths(ms)} ms`;
  if (ms < 999.5) return `${digits(ms)} ms`;
  const s = ms / 1000;
  if (s < 59.95) return `${digits(s)} s`;
  const min = s / 60;
  if (min < 59.95) return `${digits(min)} min`;
  return `${digits(min / 60)} h`;
}

/** Events per second as "1.2 k/s", "12/s", "30/min". */
export function rate(perSecond) {
  if (perSecond == null || !isFinite(perSecond)) return none;
  if (perSecond <= 0) return '0/s';
  if (perSecond >= 999.5e3) return `${digits(perSecond / 1e6)} M/s`;
  if (perSecond >= 999.5) return `${digits(perSecond / 1e3)} k/s`;
  if (perSecond >= 0.995) return `${digits(perSecond)}/s`;
  const perMinute = perSecond * 60;
  if (perMinute >= 0.995) return `${digits(perMinute)}/min`;
  return `${digits(Math.max(perMinute * 60, 0.1))}/h`;
}

/** A share of 0…1 as "4.1 %". */
export function share(ratio) {
  if (ratio == null || !isFinite(ratio)) return none;
  const p = ratio * 100;
  if (p <= 0) return '0 %';
  if (p < 0.01) return '<0.01 %';
  if (p < 0.1) return `${hundredths(p)} %`;
  return `${digits(p)} %`;
}

/** A number of things as "950", "12 k". */
export function count(n) {
  if (n == null || !isFinite(n)) return none;
  if (n >= 999.5e6) return `${digits(n / 1e9)} G`;
  if (n >= 999.5e3) return `${digits(n / 1e6)} M`;
  if (n >= 9999.5) return `${digits(n / 1e3)} k`;
  return `${Math.round(n)}`;
}

/** Attempts per logical call, as a finding has them: the first ones and the retries. Hedges are none. */
export const attempts = (e) => (e.logical_calls > 0 ? 1 + e.retries / e.logical_calls : null);

/** A factor as "2.9x". */
export const factor = (x) => (x == null || !isFinite(x) ? none : `${digits(x)}x`);

/** A reason as the server gives it, "p95 82ms, 14x", as people write it: "p95 82 ms, ↑14x". */
export function reason(text) {
  const [, quantile, took, times] = /^(p\d+) ((?:[\d.]+(?:h|ms|m|µs|s))+), ([\d.e+]+)x$/.exec(text) ?? [];
  if (quantile) {
    const unit = { h: 3600e3, m: 60e3, s: 1e3, ms: 1, µs: 1e-3 };
    let ms = 0;
    for (const [, n, u] of took.matchAll(/([\d.]+)(h|ms|m|µs|s)/g)) ms += n * unit[u];
    return `${quantile} ${duration(ms)}, ↑${factor(Number(times))}`;
  }
  return text.replace(/^errors ([\d.e+]+) %$/, (_, percent) => `errors ${share(percent / 100)}`).replace(/^retries ([\d.e+]+)x$/, (_, by) => `retries ${factor(Number(by))}`);
}

/** Bytes as "1.2 MB". */
export function bytes(n) {
  if (n == null || !isFinite(n)) return none;
  for (const unit of ['B', 'kB', 'MB', 'GB', 'TB']) {
    if (n < 999.5 || unit === 'TB') return `${unit === 'B' ? n : digits(n)} ${unit}`;
    n /= 1000;
  }
}

/** How long ago, calmly: "now", "8 s ago", "3 min ago". */
export function ago(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 2) return 'now';
  if (s < 90) return `${s} s ago`;
  if (s < 5400) return `${Math.round(s / 60)} min ago`;
  if (s < 129600) return `${Math.round(s / 3600)} h ago`;
  return `${Math.round(s / 86400)} d ago`;
}

/** A length of time in seconds: "15 min". */
export function span(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

const two = (n) => String(n).padStart(2, '0');

/** A moment in the viewer's zone: "14:02:05", with the date when it is not today. */
export function clock(date, now = new Date()) {
  const t = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return date.toDateString() === now.toDateString() ? t : `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${t}`;
}

/** The viewer's offset: "UTC+01:00". */
export function zone(date = new Date()) {
  const m = -date.getTimezoneOffset();
  return m === 0 ? 'UTC' : `UTC${m < 0 ? '−' : '+'}${two(Math.floor(Math.abs(m) / 60))}:${two(Math.abs(m) % 60)}`;
}

export const exact = (v, unit) => (v == null ? 'not known' : `${v.toLocaleString('en', { maximumFractionDigits: 6 })} ${v === 1 ? one(unit) : unit}`.trim());

// A unit of which there is one: "calls", "retries"; "ms" and "calls/s" stay.
const one = (unit) => unit.replace(/([a-z]{2})ies$/, '$1y').replace(/([a-z]{3})s$/, '$1');

/** So many things, named in the plural, in words: "12 k calls", "1 retry". */
export const things = (n, what) => `${count(n)} ${n === 1 ? one(what) : what}`;

export const healthWord = { ok: 'healthy', warn: 'degraded', critical: 'failing', unknown: 'unknown' };
