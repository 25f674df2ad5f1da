// The parts of the panels that say what goes wrong: findings, each with its evidence, and the figures behind them. A part
// that has nothing to say is not there.

import { findingBadge } from './badges.js';
import { glued, h } from './dom.js';
import { badgesOf, docOf, findingsOf, levelWord, nameOf, ruleOf, sentenceOf } from './findings.js';
import * as f from './format.js';
import { linkedSentence, shortName } from './view.js';

const failureWords = {
  timeout: 'nobody answered in time', refused: 'connection refused', unresolved: 'name not known', tls: 'certificate or handshake', auth: 'not authenticated or not allowed',
  throttled: 'too many requests', breaker_open: 'breaker open', pool_exhausted: 'pool exhausted', reset: 'connection broken', contract: 'caller and callee disagree',
  lost_response: 'answer lost on the way', server_error: 'the callee failed', unclassified: 'the span does not say why',
};

/** A class of failures, or a cause within one, "tls: expired certificate", in words. */
export function causeWord(cause) {
  const [, kind, more] = /^([^:]*)(?:: (.*))?$/.exec(cause) ?? [];
  const word = Object.hasOwn(failureWords, kind) ? failureWords[kind] : cause;
  return more && word !== cause ? `${word}: ${more}` : word;
}

/** How many observations stand behind a figure. */
export const observed = (count, what = '') => h('span', { class: 'quiet n-of', title: f.exact(count, what || 'observations') }, `n = ${f.count(count)}`);

/** Whether what was found is no more: it has not been found for longer than it takes to look again. */
export const isOver = (finding, now) => now - Date.parse(finding.until) > 90e3;

/** Since when, in the fewest words; exact on hover. What is over says so. */
function when(finding, now) {
  const since = new Date(finding.since), until = new Date(finding.until);
  const over = isOver(finding, now), long = (ms) => f.span(Math.max(1, Math.round(ms / 1000)));
  const text = over ? `${minute(since)} to ${minute(until)}, over for ${long(now - until)}` : `since ${minute(since)}, ${long(now - since)}`;
  return h('span', { class: 'quiet', title: `${f.clock(since)} to ${f.clock(until)} ${f.zone(since)}` }, text);
}

/** A moment to the minute, with the date when it is not today. */
export const minute = (date) => f.clock(date).slice(0, -3);

// Which example shows a rule best, in this order.
const kinds = { retries: ['retried', 'error'], queues: ['slow', 'error'], shape: ['slow', 'typical'] };
const kindsOf = (rule) => ({ no_timeout: ['slow'], saturation: ['slow'], wasted_work: ['error', 'slow'] }[rule] ?? kinds[ruleOf(rule).group] ?? ['error', 'slow']);
const exampleWord = { error: 'a failed trace', slow: 'a slow trace', retried: 'a retried trace', typical: 'a trace' };

/** An example that shows a finding, of the time in which it was found: one of another time shows something else. */
function exampleOf({ rule, since, until, example }, examples) {
  const from = Date.parse(since) - 300e3, to = Date.parse(until) + 10e3;
  const told = (examples ?? []).filter((x) => x.trace_id === example);
  const list = told.length ? told : (examples ?? []).filter((x) => Date.parse(x.at) >= from && Date.parse(x.at) < to);
  const own = list.find((x) => x.failure === rule);
  if (own) return own;
  for (const kind of kindsOf(rule)) {
    const x = list.find((e) => e.kind === kind);
    if (x) return x;
  }
  return null;
}

/**
 * What is wrong, a line for each finding: [{finding, where, edges, worst, instances}]; where are elements that say it, edges
 * the ids of the edges it is found on, where it is one of several; worst names the one that the sentence is of.
 * examples are the traces that may be shown, openTrace opens one, at is the moment that is shown, instances how many the
 * callee has.
 */
export function wrongList(lines, { examples, openTrace, at, instances }) {
  if (!lines.length) return '';
  return h('section', { class: 'wrongs', data: { key: 'wrongs' } }, h('h3', null, 'What is wrong'), h('ul', null, lines.map(({ finding: x, where, edges = [], worst, instances: of = instances }) => {
    const word = ruleOf(x.rule).name, example = exampleOf(x, edges.length ? examples?.filter((e) => edges.includes(e.edge)) : examples);
    return h('li', { class: x.level, data: { key: `${x.rule} ${x.subject ?? ''} ${[...edges].sort().join()}` } },
      h('div', { class: 'what' }, findingBadge(badgesOf([x], of)[0], nameOf(x)), h('span', { class: 'quiet' }, levelWord[x.level] ?? ''), h('span', { class: 'grow' }), when(x, at)),
      where ? h('div', null, where) : null,
      h('p', null, worst ? `On ${worst}: ${x.sentence}.` : sentenceOf(x)),
      h('div', { class: 'evidence' }, /\bn=/.test(x.sentence) ? null : observed(x.n), h('a', { href: docOf(x.rule), 'aria-label': `How ${word} is computed` }, 'how this is computed'),
        example && openTrace ? h('a', { href: `/traces/${example.trace_id}`, on: { click: (e) => { if (!e.metaKey && !e.ctrlKey) { e.preventDefault(); openTrace(example.trace_id); } } } }, exampleWord[example.kind] ?? 'a trace') : null),
      x.examples?.length && openTrace ? h('div', { class: 'doubles' }, `${x.examples.length === 1 ? 'The kept trace' : `The ${x.examples.length} kept traces`} to look through: `,
        x.examples.map((id, i) => [i ? ', ' : '', h('a', { href: `/traces/${id}`, title: id, on: { click: (e) => { if (!e.metaKey && !e.ctrlKey) { e.preventDefault(); openTrace(id); } } } }, id.slice(0, 8))])) : null);
  })));
}

const lines = (list) => list.map((finding) => ({ finding, where: null }));

export const edgeFindings = (edge, how) => wrongList(lines(findingsOf(edge)), { ...how, instances: edge.instances?.length });

const blameWord = { caller: 'the caller’s side', callee: 'the callee’s side', between: 'in between', unknown: '' };

/** Why calls fail: each cause with its share, whose it is, how long the calls took. */
export function causes(edge) {
  const list = (edge.causes ?? []).filter((c) => c.calls > 0);
  if (!list.length) return '';
  return h('section', { data: { key: 'causes' } }, h('h3', null, 'Why it fails', h('span', { class: 'quiet' }, f.things(edge.errors, 'calls'))), h('ul', { class: 'bars' }, list.slice(0, 12).map((c) => h('li', { title: `${f.exact(c.calls, 'calls')}, n = ${c.n}` },
    h('span', { class: 'bar-fill', style: { width: `${Math.min(100, (c.share ?? 0) * 100)}%` } }),
    h('span', null, causeWord(c.cause)), h('span', { class: 'n' }, f.share(c.share)),
    h('span', { class: 'quiet' }, [blameWord[c.blame], c.p50_ms != null ? `after ${f.duration(c.p50_ms)}` : ''].filter(Boolean).join(', ')), h('span', { class: 'quiet n' }, `n = ${f.count(c.n)}`)))));
}

/** A part of the panel with named figures: [name, value, what it means, n, page]; those without a value are left out. */
function figures(title, rows, ...more) {
  const shown = rows.filter(([, value]) => value != null && value !== '' && value !== f.none);
  if (!shown.length && !more.some(Boolean)) return '';
  return h('section', { data: { key: title } }, h('h3', null, title), h('dl', { class: 'facts' }, shown.map(([name, value, meaning, count, page]) => [
    h('dt', { title: meaning }, name), h('dd', null, typeof value === 'string' ? glued(value) : value, count != null ? [' ', observed(count)] : null,
      page ? [' ', h('a', { class: 'n-of', href: page, 'aria-label': `How “${name}” is computed` }, 'how this is computed')] : null)])), more);
}

const quantiles = (p50, p95) => (p50 == null ? null : `p50 ${f.duration(p50)}${p95 == null ? '' : `, p95 ${f.duration(p95)}`}`);
const some = (count, what) => (count > 0 ? f.things(count, what) : null);

export function retrying(edge) {
  const r = edge.retrying;
  if (!r || !(r.retry_ratio > 0 || r.hedges || r.resends || r.redelivered || r.nested)) return '';
  const budget = r.budget?.exceeded ? `more than ${f.share(0.1)} of the calls: spent` : 'within 10 % of the calls';
  return figures('Retries', [
    ['attempts per call', r.retry_ratio > 0 ? f.factor(1 + r.retry_ratio) : null, 'The first ones and the retries, over logical calls; hedges are none', r.n],
    ['budget', r.retry_ratio > 0 ? budget : null, `Of the attempts ${f.share(r.budget?.lower)} are retries at least, with 95 % confidence; ${f.share(r.budget?.limit)} may be`],
    ['retries that succeed', f.share(r.efficacy), 'Share of the retries whose attempt succeeded', r.gaps],
    ['callers wait when retried', quantiles(r.retried_p50_ms, r.retried_p95_ms), `From the beginning of the first attempt to the end of the last; of ${f.things(r.retried_calls, 'such calls')} ${f.count(r.retried_failed)} failed in the end`, r.retried_n],
    ['one attempt takes', r.retried_p50_ms != null ? quantiles(r.attempt_p50_ms, r.attempt_p95_ms) : null, 'Of all calls, as their callers see it'],
    ['wait before the next attempt', f.duration(r.gap_p50_ms), 'From the end of a failed attempt to the beginning of the next, median', r.gaps],
    ['second wait over the first', f.factor(r.growth), 'Median; a back-off makes it grow'],
    ['spread of the first wait', f.share(r.jitter), 'Robust coefficient of variation; 0 when clients retry in step'],
    ['possibly done twice', r.unsafe ? f.count(r.unsafe) : null, `Retries of calls that must not be made twice, after an answer that was lost or late; of ${f.count(r.unsafe_carried_out)} the first attempt was carried out`],
    ['asked to wait, did not', r.pushback ? `${f.count(r.pushback_ignored)} of ${f.count(r.pushback)}` : null, 'Retries after an answer with Retry-After or a push-back that came sooner'],
    ['retried at several layers', r.nested ? `${f.things(r.nested, 'calls')}, ${f.factor(r.nested_attempts)} attempts each` : null, 'Of the traces that were analysed; the product of the layers’ attempts, median'],
    ['hedged', some(r.hedges, 'attempts'), 'Attempts that began while an earlier one was still going well: no retries', r.n, docOf('hedging')],
    ['sent again, no retry', some(r.resends, 'attempts'), 'After a redirect, or with credentials'],
    ['delivered again', some(r.redelivered, 'messages'), 'Messages that were delivered more than once'],
  ]);
}

export function waiting(edge) {
  const w = edge.waiting;
  if (!w || !(w.timeouts || w.no_evident_timeout || w.wasted_per_s > 0 || w.negative_gaps || w.ceiling >= 2 || w.timeout_ms != null)) return '';
  return figures('Waiting', [
    ['calls that timed out', w.timeouts ? f.count(w.timeouts) : null, 'Failed calls of the class timeout', w.timeouts ? w.n : null],
    ['timeout', w.timeout_ms != null ? `${f.duration(w.timeout_ms)}, inferred` : w.no_evident_timeout ? 'none seen in seven days' : null, 'From how long the calls took that timed out'],
    ['longest call', f.duration(w.max_ms), 'As the caller saw it'],
    ['work for callers that left', w.wasted_per_s > 0 ? `${f.duration(w.wasted_per_s * 1000)} a second${w.wasted_share != null ? `, ${f.share(w.wasted_share)} of the callee’s time` : ''}` : null, 'The callee worked on after its caller had given up'],
    ['gaps below zero', w.negative_gaps ? f.things(w.negative_gaps, 'calls') : null, 'The callee took longer than its caller, who had not left: it worked on after it had answered, or measures something else. The gap counts as none'],
    ['calls in flight', w.ceiling >= 2 && w.concurrency != null ? `${round(w.concurrency)} of ${round(w.ceiling)} that went well so far` : null, 'Mean; the ceiling is a lower bound of what the callee can take'],
  ]);
}

const round = (v) => (v == null ? f.none : v < 10 ? v.toFixed(1) : f.count(v));

export function queue(edge) {
  const q = edge.queue;
  if (!q) return '';
  const groups = (q.groups ?? []).length ? table(['Consumer group', 'Calls', 'Errors', 'p95'], q.groups.map((g) => [g.name || 'no name', f.count(g.calls), f.share(g.error_rate), f.duration(g.p95_ms)])) : null;
  return figures('Queue', [
    ['messages wait', [q.lag_p50_ms, q.lag_p95_ms, q.lag_p99_ms].some((v) => v != null) ? ['p50', 'p95', 'p99'].map((p) => `${p} ${f.duration(q[`lag_${p}_ms`])}`).join(' · ') + (q.lag_within_ms >= 0.05 ? ` · ±\u00a0${f.duration(q.lag_within_ms)}` : '') : null, q.lag_within_ms == null ? 'From being sent to being processed' : 'From being sent to being processed; ± is by how much two clocks may mislead', q.n, docOf('queue_lag')],
    ['in and out', q.in_per_s != null || q.out_per_s != null ? `${f.rate(q.in_per_s)} in, ${f.rate(q.out_per_s)} out` : null, 'Messages of all producers, and those on this edge'],
    ['grows by', q.growth > 0.005 ? `${f.share(q.growth)} of what comes in` : null, '(in − out)/in'],
    ['backlog', q.backlog > 0 ? `${f.things(Math.round(q.backlog), 'messages')}, estimated` : null, 'From what went in and out'],
    ['turned down', q.turned_down > 0 ? f.count(q.turned_down) : null, 'Messages that their consumer gave back to the queue'],
    ['given up', q.given_up > 0 ? f.count(q.given_up) : null, 'Messages that their consumer sent to the dead letters'],
    ['empty in', q.drain_s > 0 ? f.span(q.drain_s) : null, 'At the present rates'],
  ], groups);
}

export function table(columns, rows) {
  return h('table', { class: 'figures' }, h('thead', null, h('tr', null, columns.map((w, i) => h('th', { scope: 'col', class: i ? 'n' : null }, w)))),
    h('tbody', null, rows.map((row) => h('tr', null, row.map((v, i) => h('td', { class: i ? 'n' : null }, v))))));
}

/** What the analysed traces say of an edge, and who will feel it. */
export function shape(edge, node) {
  const t = edge.shape;
  if (!t) return '';
  const entries = (t.entries ?? []).slice(0, 8);
  const share = (v) => (v > 0.0005 ? f.share(v) : null);
  return figures('In the traces', [
    ['of the time', share(t.critical_share), 'Share of the traces’ critical path that passes on the edge and in what is below it', t.traces],
    ['on the way', share(t.critical_edge_share), 'The part between caller and callee'],
    ['in the callee’s own code', share(t.critical_self_share), 'The part that the callee spends itself'],
    ['failures that begin here', share(t.origin_edge_share), 'Share of the failed traces whose failure began on the edge'],
    ['failures that begin in the callee', share(t.origin_self_share), 'Share of the failed traces whose failure began in the callee'],
    ['soft dependency', t.soft ? `callers get by in ${f.share(t.absorbed_share)} of its failures` : null, 'At least 80 % of at least 20 failures do not fail the caller', t.soft ? t.absorbed_n : null],
    ['called in parallel', share(t.parallel_share), 'Share of the calls that are made while others are'],
    ['one of them is slow', t.together >= 1.05 && t.any_slow != null ? `in ${f.share(t.any_slow)} of the traces, ${round(t.together)} such calls in each` : null, 'How often at least one of the calls that are made in parallel is slower than their p99, 1 − 0.99^k: what waits for all of them waits for it', t.traces, `${docOf('n_plus_one')}#calls-in-parallel`],
    ['one by one', t.repeated ? `in ${f.share(t.repeated_share)} of the traces, calling once would save ${f.duration(t.saving_ms)}` : null, 'Operations that made ten or more calls of one kind one after the other'],
  ], entries.length ? [h('h4', null, 'Who will feel it'), table(['Entry', 'Traces', 'Failed', 'p95'], entries.map((e) => [
    [node(e.service), h('div', { class: 'quiet' }, e.operation)], h('span', { title: `n = ${e.n}` }, f.count(e.traces)), f.share(e.error_rate), f.duration(e.p95_ms)]))] : null);
}

const first = 12; // lines of a list at once

const explained = (x) => (x.explains == null ? null : `explains ${f.share(x.explains)} of the failures${x.p_value == null ? '' : `; by chance ${x.p_value < 1e-4 ? 'under 0.01 %' : f.share(x.p_value)}`}`);
const rateClass = (rate) => (rate > 0.05 ? 'n hot' : rate > 0.01 ? 'n warm' : 'n');

/** Operations, instances, zones …, most calls first; what is an outlier comes first and is marked, with what it explains. */
export function shares(title, list) {
  if (!list?.length) return '';
  const tested = list.some((x) => x.outlier);
  const shown = [...list].sort((a, b) => Number(!!b.outlier) - Number(!!a.outlier)).slice(0, first);
  const rate = list.some((x) => x.rate != null), latency = ['p95', 'p50'].find((q) => list.some((x) => x[`${q}_ms`] != null));
  const columns = ['Name', rate ? 'Rate' : 'Calls', 'Errors', ...(latency ? [latency] : [])];
  return h('section', { data: { key: title } }, h('h3', null, title, h('span', { class: 'quiet' }, String(list.length))), h('table', { class: 'figures' },
    h('thead', null, h('tr', null, columns.map((w, i) => h('th', { scope: 'col', class: i ? 'n' : null }, w)))),
    h('tbody', null, shown.map((x) => h('tr', { class: x.outlier ? 'outlier' : null, data: { key: `row ${x.name}` } }, h('td', null, x.name || 'no name', x.outlier && tested ? h('div', { class: 'mark', title: 'Fisher’s exact test against all the others' }, findingBadge({ kind: 'part', text: `1/${list.length}`, level: 'severe' }), ` ${explained(x) ?? 'slower than the others'}`) : null),
      h('td', { class: 'n', title: `${f.exact(x.calls, 'calls')}, n = ${x.n ?? x.calls}` }, rate ? f.rate(x.rate) : f.count(x.calls)),
      h('td', { class: rateClass(x.error_rate), title: x.errors != null ? f.exact(x.errors, 'failed') : x.k != null ? `${x.k} of n = ${x.n} failed` : null }, f.share(x.error_rate)), latency ? h('td', { class: 'n' }, f.duration(x[`${latency}_ms`])) : null)))),
    list.length > shown.length ? h('p', { class: 'quiet' }, `And ${list.length - shown.length} more, all in the JSON.`) : '');
}

/** Which version of the caller calls which of the callee, as the caller sees it; a pair that does not get on comes first. */
export function versions(edge) {
  const list = edge.version_pairs ?? [], called = edge.versions ?? [];
  const pairs = list.length ? [...list].sort((a, b) => Number(b.outlier || b.disagrees) - Number(a.outlier || a.disagrees)) : [];
  const unknown = (x) => (x.caller == null ? 'The span does not say' : 'Nobody answered, or the callee’s span does not say');
  const name = (version, why) => version ?? h('span', { class: 'quiet', title: why }, 'not known');
  return [
    pairs.length ? h('section', { data: { key: 'version pairs' } }, h('h3', null, 'Versions, caller × callee', h('span', { class: 'quiet' }, String(pairs.length))), h('table', { class: 'figures' },
      h('thead', null, h('tr', null, ['Caller', 'Callee', 'Calls', 'Errors', 'p95'].map((w, i) => h('th', { scope: 'col', class: i > 1 ? 'n' : null }, w)))),
      h('tbody', null, pairs.slice(0, first).map((x) => h('tr', { class: x.outlier || x.disagrees ? 'outlier' : null },
        h('td', null, name(x.caller, unknown(x)), x.outlier ? h('div', { class: 'mark', title: 'Fisher’s exact test against all the others' }, explained(x)) : null,
          x.disagrees ? h('div', { class: 'mark', title: 'The callee turns these calls down as wrong where it does not the others’: Fisher’s exact test' }, `${f.share(x.turned_down / x.calls)} turned down`) : null),
        h('td', null, name(x.callee, unknown(x))),
        h('td', { class: 'n', title: `${f.exact(x.calls, 'calls')}, n = ${x.n}` }, f.count(x.calls)),
        h('td', { class: rateClass(x.error_rate), title: `${x.k} of n = ${x.n} failed` }, f.share(x.error_rate)),
        h('td', { class: 'n' }, f.duration(x.p95_ms)))))),
      pairs.length > first ? h('p', { class: 'quiet' }, `And ${pairs.length - first} more, all in the JSON.`) : '') : '',
    called.length > 1 || !pairs.length ? shares('Versions called', called) : '',
  ];
}

/** Who feeds whom through queues: who sent what the consumers took. */
export function flows(service, node) {
  const list = service.flows ?? [];
  if (!list.length) return '';
  const queue = service.kind === 'queue';
  const way = (x) => [node(x.producer), h('span', { class: 'arrow' }, ' ⇢ '), node(x.consumer), queue ? null : h('div', { class: 'quiet' }, 'through ', node(x.queue))];
  return h('section', { data: { key: 'flows' } }, h('h3', { title: 'From the producers of the messages, as far as the consumers’ spans name them' }, queue ? 'Who feeds whom' : 'Fed through queues', h('span', { class: 'quiet' }, String(list.length))),
    table(['Producer and consumer', 'Messages', 'Failed'], list.slice(0, first).map((x) => [way(x), h('span', { title: `n = ${x.n}` }, f.count(x.messages)), f.share(x.error_rate)])),
    list.length > first ? h('p', { class: 'quiet' }, `And ${list.length - first} more, all in the JSON.`) : '');
}

/** Whose spans link to whose, outside of messaging: dotted, because it is no call. */
export function links(service, node) {
  const list = service.links ?? [];
  if (!list.length) return '';
  return h('section', { data: { key: 'links' } }, h('h3', null, 'Linked, not called', h('span', { class: 'quiet' }, String(list.length))),
    h('p', { class: 'quiet' }, linkedSentence(...(list.length > 1 ? ['the first', 'the second'] : [list[0].source, list[0].target].map(shortName)))),
    table(['From and to', 'Spans'], list.slice(0, first).map((x) => [[node(x.source), h('span', { class: 'arrow' }, ' ⋯▸ '), node(x.target)], h('span', { title: `n = ${x.n}` }, f.count(x.spans))])),
    list.length > first ? h('p', { class: 'quiet' }, `And ${list.length - first} more, all in the JSON.`) : '');
}

/** What users ask a service for, how deep that goes, and how available it can be at best. */
export function entryPoints(service) {
  const list = service.entry_points ?? [];
  if (!list.length) return '';
  return h('section', { data: { key: 'entries' } }, h('h3', null, 'What users ask for', h('span', { class: 'quiet' }, String(list.length))), table(['Operation', 'Depth', 'At best', 'Traces'], list.slice(0, first).map((e) => [
    e.operation || 'no name', e.depth == null ? f.none : h('span', { title: 'calls deep, at most' }, String(e.depth)),
    h('span', { title: `Available at best, as ${f.things(e.required.length, 'required dependencies')} ${e.required.length === 1 ? 'fails' : 'fail'} now; ${e.soft.length} soft ${e.soft.length === 1 ? 'one is' : 'ones are'} left out` }, exactShare(e.availability)), f.count(e.traces)])));
}

// Between 99 and 100 % the digits after the point are what matters.
const exactShare = (v) => (v == null ? f.none : v > 0.99 && v < 1 ? `${(Math.floor(v * 1e5) / 1e3).toString()} %` : f.share(v));

export function timeShare(service) {
  return figures('In the traces', [
    ['of the time in its own code', service.self_share > 0.0005 ? f.share(service.self_share) : null, 'Share of the critical path of the traces that use it'],
    ['failures that begin in it', service.origin_share > 0.0005 ? f.share(service.origin_share) : null, 'Share of the failed traces that use it'],
  ]);
}

/** How critical a service says that it is. */
export function criticality(node) {
  return node.criticality ? h('span', { class: 'pill', title: 'By its service.criticality: what is wrong at critical services comes first' }, `criticality: ${node.criticality}`) : null;
}

/** Says that counts are scaled up from sampled spans. */
export function estimated(edge) {
  return edge.estimated ? h('span', { class: 'pill', title: 'The spans were sampled: counts are estimated from those that were kept' }, `estimated, n = ${f.count(edge.n)}`) : null;
}

/** Says that the figures cannot be trusted, because samplers keep what ended badly. */
export function biased(of) {
  return of.biased ? h('a', { class: 'pill', href: docOf('biased_sampling'), title: 'Spans were kept or left out by how their traces ended: calls are too few, error rates and latencies too high, and that cannot be corrected' }, 'biased') : null;
}

/** Says that a service has no name of its own. */
export function unidentified(node) {
  return node.unidentified ? h('a', { class: 'pill', href: docOf('missing_service_name'), title: 'It does not say what it is called: set OTEL_SERVICE_NAME. Services without a name are one node' }, 'unidentified') : null;
}

/** An edge in one sentence: the figure that is wrong, since when and why, then what else is found, by name. */
export function sentence(e, name) {
  const from = name(e.source), to = name(e.target);
  if (!e.calls) return `No calls from ${from} to ${to} in this time.`;
  const found = findingsOf(e);
  const failing = found.filter((x) => ['discovery', 'trust', 'guards', 'lost', 'failing'].includes(ruleOf(x.rule).group) || x.rule === 'timeout');
  const parts = [];
  if (e.error_rate > 0.0005 || (e.errors > 0 && failing.length)) {
    const top = e.causes?.[0], share = top?.share ?? 0;
    let s = `${f.share(e.error_rate)} of calls fail`;
    const since = failing.map((x) => x.since).sort()[0];
    if (since) s += `, since ${minute(new Date(since))}`;
    if (top) s += share > 0.95 ? `: ${causeWord(top.cause)}` : `, mostly ${causeWord(top.cause)}`;
    parts.push(s);
  } else if (failing.length) parts.push(`calls have stopped failing (${nameOf(failing[0])})`);
  const bad = (e.instances ?? []).filter((x) => x.outlier);
  if (bad.length && bad[0].explains > 0) parts.push(`${bad.length} of ${e.instances.length} instances explain${bad.length === 1 ? 's' : ''} ${f.share(bad.reduce((sum, x) => sum + x.explains, 0))}`);
  const named = new Set(found.map((x) => x.sentence));
  parts.push(...(e.reasons ?? []).filter((r) => !r.startsWith('errors') && !named.has(r)).map(f.reason));
  parts.push(...found.filter((x) => !failing.includes(x) && x.level !== 'note' && !(bad.length && x.rule === 'bad_instance')).map(nameOf));
  const few = [...new Set(parts)];
  if (!few.length) {
    const p = e.p95_ms ?? e.server?.p95_ms;
    return e.health === 'unknown' ? `${from} calls ${to} too rarely to judge: ${f.things(e.calls, 'calls')}.` : `${from} calls ${to} ${f.rate(e.rate)} without failures${p != null ? `, 95 % within ${f.duration(p)}` : ''}.`;
  }
  return `${from} → ${to}: ${few.slice(0, 4).join('; ')}${few.length > 4 ? `; and ${few.length - 4} more` : ''}.`;
}
