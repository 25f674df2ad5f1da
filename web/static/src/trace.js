// One trace as a waterfall: who called whom when, what the caller waited for, where an error began, what ran on after its
// caller had left.

import { copy, h, s } from './dom.js';
import * as f from './format.js';
import { ask } from './data.js';

const kinds = ['', 'internal', 'server', 'client', 'producer', 'consumer'];
const firstRows = 500;

/** Reads OTLP JSON into spans with times in ms, as a forest in order of start. */
export function read(otlp) {
  const spans = [];
  for (const rs of otlp.resourceSpans ?? []) {
    const resource = attributes(rs.resource?.attributes);
    for (const ss of rs.scopeSpans ?? []) {
      for (const sp of ss.spans ?? []) {
        const start = BigInt(sp.startTimeUnixNano ?? 0), end = BigInt(sp.endTimeUnixNano ?? 0);
        spans.push({
          id: sp.spanId, parent: sp.parentSpanId ?? '', name: sp.name ?? '', kind: kinds[sp.kind] ?? '', start, end: end < start ? start : end,
          error: sp.status?.code === 2, message: sp.status?.message ?? '', attributes: attributes(sp.attributes), resource,
          service: String(resource.find(([k]) => k === 'service.name')?.[1] ?? 'unknown'),
          scope: [ss.scope?.name, ss.scope?.version].filter(Boolean).join(' '), events: sp.events ?? [], links: sp.links ?? [], children: [],
        });
      }
    }
  }
  const byID = new Map();
  for (const sp of spans) if (!byID.has(sp.id) || sp.kind === 'client') byID.set(sp.id, sp);
  const order = (a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : a.id < b.id ? -1 : 1);
  spans.sort(order);
  const zero = spans[0]?.start ?? 0n;
  for (const sp of spans) {
    sp.from = Number(sp.start - zero) / 1e6;
    sp.to = Number(sp.end - zero) / 1e6;
  }
  const roots = [];
  for (const sp of spans) {
    const parent = byID.get(sp.parent);
    let up = parent;
    for (let i = 0; up && i < 1000 && up !== sp; i++) up = up.up;
    if (!parent || parent === sp || up === sp) roots.push(sp); // a cycle or nobody above: a root of its own
    else { sp.up = parent; parent.children.push(sp); }
  }
  const list = [];
  const stack = roots.reverse().map((sp) => [sp, 0]);
  while (stack.length) {
    const [sp, depth] = stack.pop();
    sp.depth = depth;
    list.push(sp);
    for (const c of [...sp.children].reverse()) stack.push([c, depth + 1]);
  }
  mark(roots);
  for (const sp of list) countAttempts(sp.children);
  for (const sp of list) {
    sp.origin = sp.error && !sp.children.some((c) => c.error);
    sp.after = sp.up && sp.to > sp.up.to && sp.kind !== 'consumer' ? Math.max(sp.from, sp.up.to) : null;
  }
  return { spans: list, length: Math.max(0, ...list.map((sp) => sp.to)), start: new Date(Number(zero / 1000000n)), services: new Set(list.map((sp) => sp.service)) };
}

// The critical path: from the end of each root backwards, always the child that finished last before that.
function mark(roots) {
  const main = roots.reduce((a, b) => (b.to - b.from > (a ? a.to - a.from : -1) ? b : a), null);
  const walk = [[main, Infinity]];
  while (walk.length) {
    const [sp, until] = walk.pop();
    if (!sp) continue;
    sp.critical = true;
    let left = Math.min(sp.to, until);
    for (const c of [...sp.children].sort((a, b) => b.to - a.to)) {
      if (c.to <= left + 1e-6 && c.to > sp.from) {
        walk.push([c, left]);
        left = c.from;
      }
    }
  }
}

// A call that is made after the same call has failed is another attempt at it.
function countAttempts(siblings) {
  const last = new Map();
  for (const c of siblings) {
    if (c.kind !== 'client' && c.kind !== 'producer') continue;
    const key = JSON.stringify([c.service, c.name, c.attributes.find(([k]) => k === 'server.address')?.[1]]), before = last.get(key);
    c.attempt = before?.error && c.from >= before.to ? before.attempt + 1 : 1;
    last.set(key, c);
  }
}

function attributes(list) {
  return (list ?? []).map((a) => [a.key, plain(a.value)]);
}

function plain(v) {
  if (!v) return '';
  if (v.arrayValue) return `[${(v.arrayValue.values ?? []).map(plain).join(', ')}]`;
  if (v.kvlistValue) return `{${(v.kvlistValue.values ?? []).map((a) => `${a.key}: ${plain(a.value)}`).join(', ')}}`;
  return String(v.stringValue ?? v.intValue ?? v.doubleValue ?? v.boolValue ?? v.bytesValue ?? '');
}

/** Loads a trace and draws it into an element. */
export async function showTrace(root, id, { heading = false } = {}) {
  let trace;
  try {
    trace = read(await ask(`traces/${encodeURIComponent(id)}`));
  } catch (e) {
    root.replaceChildren(h('p', { class: 'bad' }, `The trace could not be had: ${e.message}`), h('p', { class: 'quiet' }, 'Example traces are kept for some days, a few for every connection; this one may be gone.'));
    return null;
  }
  const { spans, length, services } = trace;
  const errors = spans.filter((sp) => sp.error).length;
  const origin = spans.find((sp) => sp.origin);
  const lead = [`${f.duration(length)}, ${f.things(spans.length, 'spans')} in ${f.things(services.size, 'services')}`];
  if (origin) lead.push(`the error began in ${origin.service}: ${origin.message || origin.attributes.find(([k]) => k === 'error.type')?.[1] || origin.name}`);
  else if (errors === 0) lead.push('no errors');
  const again = spans.reduce((most, sp) => (sp.attempt > (most?.attempt ?? 1) ? sp : most), null);
  if (again) lead.push(`${again.service} made ${again.attempt} attempts at ${again.name}`);
  const copyButton = h('button', { type: 'button', on: { click: () => copy(id, copyButton) } }, 'Copy id');
  const body = h('div', { class: 'w-body' });
  const rows = (from, to) => spans.slice(from, to).forEach((sp) => body.append(...row(sp, length)));
  rows(0, firstRows);
  const more = spans.length > firstRows ? h('button', { type: 'button', class: 'more', on: { click: () => { rows(firstRows); more.remove(); } } }, `Show all ${spans.length} spans`) : null;
  const ticks = [0, 0.25, 0.5, 0.75, 1];
  root.replaceChildren(
    heading ? h('h1', null, 'Trace ', h('code', null, id)) : '',
    h('p', { class: 'lead' }, `${lead.join('; ')}.`),
    h('p', { class: 'quiet' }, `Began ${f.clock(trace.start)} (${f.zone(trace.start)}).`),
    h('div', { class: 'actions' }, copyButton, h('a', { href: `/api/v1/traces/${encodeURIComponent(id)}` }, 'OTLP JSON'), heading ? null : h('a', { href: `/traces/${encodeURIComponent(id)}` }, 'Open as a page')),
    h('div', { class: 'waterfall' },
      h('div', { class: 'w-head' }, h('span', null, 'Service and operation'), h('div', { class: 'w-scale' }, ticks.map((t) => h('span', { style: { left: `${t * 100}%` } }, t ? f.duration(length * t) : '0')))),
      body),
    more ?? '',
    h('div', { class: 'w-legend' }, [['critical-path', 'what the caller waited for'], ['', 'in parallel'], ['error', 'failed'], ['after', 'ran on after its caller had left']].map(([c, word]) => h('span', null, h('i', { class: `w-bar ${c}` }), word))),
  );
  return trace;
}

function row(sp, length) {
  const pct = (v) => `${(length > 0 ? Math.max(0, Math.min(1, v / length)) * 100 : 0).toFixed(3)}%`;
  const detail = h('div', { class: 'w-detail', hidden: true });
  const bars = [h('span', { class: `w-bar${sp.error ? ' error' : sp.critical ? ' critical-path' : ''}`, style: { '--from': pct(sp.from), '--for': pct(sp.to - sp.from) } })];
  if (sp.after != null && sp.to - sp.after > length * 0.002) bars.push(h('span', { class: 'w-bar after', style: { '--from': pct(sp.after), '--for': pct(sp.to - sp.after) } }));
  const button = h('button', { type: 'button', class: 'w-row', 'aria-expanded': 'false', title: `${sp.service} · ${sp.name}`, on: { click: () => {
    if (!detail.firstChild) fill(detail, sp);
    detail.hidden = !detail.hidden;
    button.setAttribute('aria-expanded', String(!detail.hidden));
  } } },
  h('span', { class: 'w-name', style: { '--depth': Math.min(sp.depth, 12) } },
    sp.origin ? s('svg', { viewBox: '0 0 12 12', role: 'img', 'aria-label': 'the error began here' }, s('path', { d: 'M3.6.5h4.8l3.1 3.1v4.8l-3.1 3.1H3.6L.5 8.4V3.6z' })) : null,
    h('b', null, sp.service), sp.attempt > 1 ? h('i', { class: 'pill retried' }, `attempt ${sp.attempt}`) : null, h('span', null, sp.name)),
  h('span', { class: 'w-lane' }, bars, h('span', { class: 'w-time', style: { '--from': pct(sp.to) } }, f.duration(sp.to - sp.from))));
  return [button, detail];
}

function fill(detail, sp) {
  const pairs = (list) => h('dl', null, list.map(([k, v]) => [h('dt', null, k), h('dd', { class: 'mono' }, v)]));
  const section = (title, list) => (list.length ? h('div', null, h('h3', null, title), pairs(list)) : '');
  detail.append(
    section('Span', [['starts at', `+${f.duration(sp.from)}`], ['lasts', f.duration(sp.to - sp.from)], ['kind', sp.kind || 'unspecified'], ...(sp.error ? [['status', `error ${sp.message}`]] : []), ['span id', sp.id], ...(sp.scope ? [['scope', sp.scope]] : [])]),
    section('Attributes', sp.attributes),
    ...sp.events.map((e) => section(`Event: ${e.name ?? ''}`, attributes(e.attributes))),
    section('Links', sp.links.map((l) => [l.traceId, l.spanId])),
    section('Resource', sp.resource),
  );
}
