// The same data as the map, as tables: complete for the keyboard and for those who hear the page.

import { findingBadge } from './badges.js';
import { badge, h, renew } from './dom.js';
import { badgesOf, findingsOf, loudest, nameOf, sentenceOf } from './findings.js';
import * as f from './format.js';
import { linkedSentence, severity, shortName } from './view.js';

const page = 300; // rows at first; the rest on demand, so that a huge graph opens at once

// Loud is the figure that is wrong, not every figure of an edge that has one.
const hot = (e, what) => (!e.reasons?.some((r) => r.startsWith(what)) ? 'n' : e.health === 'critical' ? 'n hot' : e.health === 'warn' ? 'n warm' : 'n');

// The worst finding decides, then how many there are; what is unhealthy without one comes after those that degrade.
function badness(thing) {
  return -Math.max((loudest(thing) + 1) * 1000 + (thing.findings?.length ?? 0), thing.reasons?.length ? 1000 * severity(thing.health) - 1500 : 0);
}

/** Every finding in words, with its sentence on hover, then what is unhealthy beside them. */
function wrongCell(thing, go, instances) {
  const words = findingsOf(thing).map((x) => {
    const item = findingBadge(badgesOf([x], instances?.(thing))[0], nameOf(x));
    item.title = sentenceOf(x);
    return item;
  });
  const named = new Set((thing.findings ?? []).map((x) => x.sentence));
  const reasons = (thing.reasons ?? []).filter((r) => !named.has(r));
  return h('td', { class: 'wrong' }, h('div', { class: 'findings' }, words, reasons.length ? h('span', null, reasons.map(f.reason).join('; ')) : null));
}

const edgeColumns = [
  { name: 'Health', sort: (e) => -severity(e.health), cell: (e) => h('td', null, badge(e.health, f.healthWord[e.health])) },
  { name: 'Caller', sort: (e) => e.source, cell: (e, go) => h('td', null, go(e.source, { service: e.source, edge: '' })) },
  { name: 'Callee', sort: (e) => e.target, cell: (e, go) => h('td', null, go(e.target, { edge: e.id, service: '' })) },
  { name: 'Protocol', sort: (e) => e.protocol, cell: (e) => h('td', null, e.protocol) },
  { name: 'Rate', n: true, sort: (e) => -(e.rate ?? -1), cell: (e) => h('td', { class: 'n', title: f.exact(e.calls, 'calls') }, f.rate(e.rate)) },
  { name: 'Errors', n: true, sort: (e) => -(e.error_rate ?? -1), cell: (e) => h('td', { class: hot(e, 'errors'), title: `${f.exact(e.errors, '')} of ${f.exact(e.calls, 'calls')}` }, f.share(e.error_rate)) },
  { name: 'Retries', n: true, sort: (e) => -(f.attempts(e) ?? -1), cell: (e) => h('td', { class: hot(e, 'retries'), title: `${f.exact(e.retries, 'retries')}${e.hedges > 0 ? `, and ${f.exact(e.hedges, 'hedged attempts')}` : ''}` }, f.factor(f.attempts(e))) },
  ...['p50', 'p95', 'p99'].map((q) => ({
    name: q, n: true, sort: (e) => -(e[`${q}_ms`] ?? e.server?.[`${q}_ms`] ?? -1),
    cell: (e) => { const v = e[`${q}_ms`] ?? e.server?.[`${q}_ms`]; return h('td', { class: hot(e, `${q} `), title: `${f.exact(v, 'ms')}${e[`${q}_ms`] == null && v != null ? ', as the callee sees it' : ''}` }, f.duration(v)); },
  })),
  { name: 'What is wrong', sort: badness, cell: wrongCell },
];

const nodeColumns = [
  { name: 'Health', sort: (n) => -severity(n.health), cell: (n) => h('td', null, badge(n.health, f.healthWord[n.health])) },
  { name: 'Name', sort: (n) => n.name, cell: (n, go) => h('td', null, go(n.name, { service: n.id, edge: '' })) },
  { name: 'Namespace', sort: (n) => n.namespace ?? '~', cell: (n) => h('td', null, n.namespace ?? '') },
  { name: 'Kind', sort: (n) => n.kind, cell: (n) => h('td', null, n.kind) },
  { name: 'Rate', n: true, sort: (n) => -(n.rate ?? -1), cell: (n) => h('td', { class: 'n', title: f.exact(n.rate, 'calls/s') }, f.rate(n.rate)) },
  { name: 'Errors', n: true, sort: (n) => -(n.error_rate ?? -1), cell: (n) => h('td', { class: n.error_rate > 0.01 && severity(n.health) > 1 ? (n.health === 'critical' ? 'n hot' : 'n warm') : 'n', title: f.exact(n.error_rate == null ? null : n.error_rate * 100, '%') }, f.share(n.error_rate)) },
  { name: 'p95', n: true, sort: (n) => -(n.p95_ms ?? -1), cell: (n) => h('td', { class: 'n', title: f.exact(n.p95_ms, 'ms') }, f.duration(n.p95_ms)) },
  { name: 'Instances', n: true, sort: (n) => -(n.instances ?? -1), cell: (n) => h('td', { class: 'n' }, n.instances == null ? f.none : f.count(n.instances)) },
  { name: 'What is wrong', sort: badness, cell: wrongCell },
  { name: 'Versions', sort: (n) => (n.versions ?? []).join(), cell: (n) => h('td', { class: 'versions' }, (n.versions ?? []).join(', ')) },
];

const linkColumns = [
  { name: 'From', sort: (l) => l.source, cell: (l, go) => h('td', null, go(l.source, { service: l.source, edge: '' })) },
  { name: 'To', sort: (l) => l.target, cell: (l, go) => h('td', { title: linkedSentence(shortName(l.source), shortName(l.target)) }, go(l.target, { service: l.target, edge: '' })) },
  { name: 'Spans that link', n: true, sort: (l) => -l.spans, cell: (l) => h('td', { class: 'n', title: `n = ${l.n}` }, f.count(l.spans)) },
];

const columnsOf = { edges: edgeColumns, nodes: nodeColumns, links: linkColumns };
const captions = { edges: 'Connections between services', nodes: 'Services, data stores and third parties', links: 'Whose spans link to whose, which is no call' };

export class TableView {
  what = 'edges';
  sorted = { edges: { column: 0, down: false }, nodes: { column: 0, down: false }, links: { column: 2, down: false } };
  all = false;

  constructor(root, go) {
    this.root = root;
    this.go = go;
  }

  /** rows: {edges, nodes, links, instances}, already filtered, and how many instances an edge's callee has; selected: id of what the panel shows. */
  show(rows, selected) {
    this.rows = rows;
    this.selected = selected;
    if (this.what === 'links' && !rows.links.length) this.what = 'edges';
    const columns = columnsOf[this.what];
    const { column, down } = this.sorted[this.what];
    const by = columns[column].sort;
    const traffic = (r) => -(r.rate ?? 0);
    const list = [...rows[this.what]].sort((a, b) => {
      const x = by(a), y = by(b);
      const order = x < y ? -1 : x > y ? 1 : traffic(a) - traffic(b) || (a.id < b.id ? -1 : 1);
      return down ? -order : order;
    });
    const shown = this.all ? list : list.slice(0, page);
    const tab = (what, word) => h('button', { type: 'button', 'aria-pressed': String(this.what === what), data: { key: `tab ${what}` }, on: { click: () => { this.what = what; this.all = false; this.show(this.rows, this.selected); } } }, word);
    const link = (id) => (text, target) => h('a', { href: this.go.href(target), data: { key: `${id} ${text}` }, on: { click: (e) => { if (!e.metaKey && !e.ctrlKey) { e.preventDefault(); this.go.to(target); } } } }, text);
    const head = columns.map((c, i) => h('th', { scope: 'col', role: 'columnheader', class: c.n ? 'n' : null, 'aria-sort': i === column ? (down ? 'descending' : 'ascending') : null },
      h('button', { type: 'button', data: { key: `sort ${i}` }, on: { click: () => { this.sorted[this.what] = { column: i, down: i === column && !down }; this.show(this.rows, this.selected); } } },
        c.name, i === column ? (down ? ' ↑' : ' ↓') : '')));
    const body = shown.map((r) => h('tr', { role: 'row', data: { key: r.id }, 'aria-selected': r.id === this.selected ? 'true' : null }, columns.map((c) => {
      const td = c.cell(r, link(r.id), rows.instances);
      td.dataset.word = c.name; // said beside the figure where there is no room for columns
      td.setAttribute('role', 'cell');
      return td;
    })));
    renew(this.root,
      h('div', { class: 'tabs' }, tab('edges', `Connections ${rows.edges.length}`), tab('nodes', `Services ${rows.nodes.length}`), rows.links.length ? tab('links', `Linked ${rows.links.length}`) : ''),
      // The roles are said because a narrow screen shows rows as blocks, which would take them away.
      h('table', { class: 'figures', role: 'table', data: { key: this.what } }, h('caption', { class: 'offscreen' }, captions[this.what]), h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, head)), h('tbody', { role: 'rowgroup' }, body)),
      list.length === 0 ? h('p', { class: 'quiet more' }, 'Nothing fits.') : '',
      shown.length < list.length ? h('p', { class: 'more' }, h('button', { type: 'button', data: { key: 'all' }, on: { click: () => { this.all = true; this.show(this.rows, this.selected); } } }, `Show all ${list.length}`)) : '',
    );
  }

  /** Puts the focus on the row of an edge or node. */
  focus(id) {
    const row = [...this.root.querySelectorAll('tbody tr')].find((tr) => tr.dataset.key === id);
    (row?.querySelector('td a[href*="edge="]') ?? row?.querySelector('a') ?? this.root).focus({ preventScroll: true });
  }
}
