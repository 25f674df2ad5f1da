// What is known of one edge or service, beside the map.

import { badge, copy, glued, h, renew } from './dom.js';
import { findingsOf, levelOf } from './findings.js';
import * as f from './format.js';
import { breaker } from './breaker.js';
import { chart } from './charts.js';
import { ask } from './data.js';
import { entries } from './kinds.js';
import { biased, causeWord, causes, criticality, edgeFindings, entryPoints, estimated, flows, isOver, links, minute, queue, retrying, sentence, shape, shares, timeShare, unidentified, versions, waiting, wrongList } from './sections.js';
import { lookNext, pathBetween } from './next.js';
import { showTrace } from './trace.js';
import { faulty, severity, shortName, weight, wrong } from './view.js';

const patience = 3000; // ms, that the panel waits for the graph: without it, it would say that there is nothing around

export class Panel {
  key = '';
  #turn = ''; // the section that is brought into sight once it is there
  #shown = ''; #abort = null; #timer = 0; #charts = []; #plots = null; #live = null;

  constructor(root, data, state, go) {
    Object.assign(this, { root, data, state, go });
  }

  /** Shows what the state asks for, anew when it is something else. */
  async show(state) {
    const key = state.trace ? `t ${state.trace}` : state.edge ? `e ${state.edge}` : state.service ? `s ${state.service}` : '';
    const span = JSON.stringify([state.range, state.at, state.env, state.to]);
    if (key + span === this.key) return;
    const same = this.#shown === key;
    this.#shown = key;
    this.key = key + span;
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.root.hidden = key === '';
    if (key === '') { this.#clear(); this.root.replaceChildren(); return; }
    if (!same) {
      this.#clear();
      this.root.scrollTop = 0;
      this.root.replaceChildren(this.#header([h('span', { class: 'quiet' }, 'Loading…')]));
    }
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    const load = async () => {
      try {
        if (state.trace) { await this.#trace(state); return; }
        if (state.edge) await this.#edge(state, signal);
        else await this.#service(state, signal);
      } catch (e) {
        if (signal.aborted) return;
        if (!this.#live) this.root.replaceChildren(this.#header([state.edge ? 'Connection' : state.service]), h('p', { class: 'lead' }, e.message));
      }
      if (!signal.aborted && !state.at) this.#timer = setTimeout(load, 10000);
    };
    await load();
  }

  /** What is shown next is turned to one of its sections. */
  turnTo(section) {
    this.#turn = section;
    this.#turned();
  }

  #turned() {
    const section = this.#turn && this.root.querySelector(`section[data-key="${this.#turn}"]`);
    if (!section) return;
    this.#turn = '';
    section.scrollIntoView({ block: 'nearest' });
  }

  restyle() { this.#charts.forEach((c) => c.restyle()); }

  #clear() {
    this.#charts.forEach((c) => c.destroy());
    this.#charts = [];
    this.#live = null;
  }

  #header(title, back = null) {
    return h('header', null, h('h2', { tabindex: '-1' }, title),
      back,
      h('button', { type: 'button', class: 'icon close', 'aria-label': 'Close', title: 'Close  Esc', on: { click: () => this.go.close() } }, '×'));
  }

  /** Shows what came anew. When what had the focus is gone, the heading has it. */
  #fill(...children) {
    const inside = this.root.contains(document.activeElement);
    renew(this.root, children);
    if (inside && !this.root.contains(document.activeElement)) this.root.querySelector('h2')?.focus({ preventScroll: true });
  }

  #name(id) { return this.data.nodes.get(id)?.name ?? shortName(id); }

  #node(id) {
    return h('button', { type: 'button', class: 'link', title: id, on: { click: () => this.go.to({ service: id, edge: '', trace: '' }) } }, this.#name(id));
  }

  #link(e) {
    return h('button', { type: 'button', class: 'link', on: { click: () => this.go.to({ edge: e.id, service: '', trace: '' }) } }, `${this.#name(e.source)} → ${this.#name(e.target)}`);
  }

  #evidence(examples, to) {
    return { examples, at: Date.parse(to), openTrace: (trace) => this.go.to({ trace }) };
  }

  async #trace(state) {
    const body = h('div', null, h('p', { class: 'quiet' }, 'Loading the trace…'));
    this.root.replaceChildren(this.#header(['Trace ', h('code', { class: 'quiet' }, state.trace.slice(0, 8))],
      h('button', { type: 'button', on: { click: () => this.go.to({ trace: '' }) } }, 'Back')), body);
    await showTrace(body, state.trace);
  }

  async #edge(state, signal) {
    const span = this.state.span();
    const params = { from: span.from, to: span.to };
    const long = this.state.live ? { from: 'now-15m', to: 'now' } : params;
    const [edge, series] = await Promise.all([ask(`edges/${encodeURIComponent(state.edge)}`, params, signal), ask(`edges/${encodeURIComponent(state.edge)}/series`, long, signal), this.data.first(patience)]);
    if (signal.aborted) return;
    // The window that is still open is left out: a second's worth of it says nothing.
    const closed = series.points.filter((p) => Date.parse(p.t) + series.step_s * 1000 <= Date.now());
    const v = this.#values(closed.length > 1 ? closed : series.points);
    const known = Object.keys(v).filter((set) => set !== 't' && v[set].some((values) => values.some((x) => x != null)));
    if (this.#live !== `edge ${edge.id} ${known}`) {
      this.#clear();
      this.#live = `edge ${edge.id} ${known}`;
      const sync = `panel ${edge.id}`;
      const line = (i, name, colour) => ({ name, colour, ink: `i${i}` });
      const quantiles = [line(0, 'p50', 'accent'), line(1, 'p95', 'ok'), line(2, 'p99', 'warn')];
      const inFlight = (x) => (x == null ? f.none : x < 0.95 ? x.toFixed(2) : x < 10 ? x.toFixed(1) : f.count(x));
      const made = [
        ['rate', 'Calls', f.rate, [line(0, 'rate', 'accent')]],
        ['errors', 'Errors', f.share, [line(3, 'failed', 'critical')], 0.01],
        ['caller', 'Caller waits', f.duration, quantiles],
        ['retries', 'Retries per call', f.share, [line(2, 'retries', 'warn')], 0.01],
        ['callee', 'Callee takes', f.duration, quantiles],
        ['busy', 'Calls in flight', inFlight, [line(0, 'mean', 'accent')]],
      ].filter(([set]) => known.includes(set));
      this.#charts = made.map(([set, title, say, lines, top]) => ({ set, ...chart({ title, times: v.t, say, sync, top, lines: lines.map((l, i) => ({ ...l, values: v[set][i] })) }) }));
      this.#plots = made.length ? h('section', { data: { key: 'charts' } }, this.#charts.map((c) => c.node)) : '';
    } else this.#charts.forEach((c) => c.show(v.t, v[c.set]));
    const tiles = [
      ['calls', f.rate(edge.rate), f.exact(edge.calls, 'calls'), edge.n == null ? '' : `n = ${f.count(edge.n)}`],
      ['failed', f.share(edge.error_rate), `${f.exact(edge.errors, '')} of ${f.exact(edge.calls, 'calls')}`, f.things(edge.errors, 'calls')],
      ['attempts per call', f.factor(f.attempts(edge)), `${f.exact(edge.retries, 'retries')} of ${f.exact(edge.logical_calls, 'logical calls')}; hedges are none`, f.things(edge.retries, 'retries') + (edge.hedges > 0 ? `, ${f.things(edge.hedges, 'hedges')}` : '')],
      ...['p50', 'p95', 'p99'].map((q) => {
        const mine = edge[`${q}_ms`], theirs = edge.server?.[`${q}_ms`];
        const gap = mine != null && theirs != null ? Math.max(0, mine - theirs) : null;
        return [q, f.duration(mine ?? theirs), f.exact(mine ?? theirs, 'ms'), mine == null && theirs != null ? 'callee only' : theirs == null ? (mine == null ? 'too few calls' : 'caller only') : `callee ${f.duration(theirs)}${gap > 0.1 * mine ? `, gap ${f.duration(gap)}` : ''}`];
      }),
    ];
    const server = (list) => list.filter((x) => x.side === 'server'), client = (list) => list.filter((x) => x.side === 'client');
    const operations = server(edge.operations).length ? server(edge.operations) : client(edge.operations);
    this.#fill(
      this.#header([this.#node(edge.source), h('span', { class: 'arrow' }, ' → '), this.#node(edge.target)]),
      h('div', { class: 'under' }, badge(edge.health, f.healthWord[edge.health]), ' ', h('span', { class: 'quiet' }, ` ${edge.protocol}, ${this.#when(span)}`), estimated(edge), biased(edge)),
      h('p', { class: 'lead' }, glued(sentence(edge, (id) => this.#name(id)))),
      lookNext(edge, { edges: this.data.edges.values(), nodes: this.data.nodes, link: (e) => this.#link(e), node: (id) => this.#node(id) }),
      edgeFindings(edge, this.#evidence(edge.examples, edge.to)),
      this.#tiles(tiles),
      causes(edge),
      this.#plots,
      breaker(edge),
      retrying(edge),
      waiting(edge),
      queue(edge),
      shape(edge, (id) => this.#node(id)),
      shares('Operations', operations),
      shares('Instances called', edge.instances),
      shares('Zones called', edge.zones),
      shares('Hosts called', edge.hosts),
      ...versions(edge),
      shares('Instances calling', edge.callers),
      this.#examples(edge.examples),
      this.#actions(edge.id),
    );
  }

  #values(points) {
    const pick = (k) => points.map((p) => p[k] ?? null);
    const theirs = (k) => points.map((p) => p.server?.[k] ?? null);
    return {
      t: points.map((p) => Date.parse(p.t) / 1000),
      rate: [pick('rate')], errors: [pick('error_rate')], caller: [pick('p50_ms'), pick('p95_ms'), pick('p99_ms')], retries: [pick('retry_rate')],
      callee: [theirs('p50_ms'), theirs('p95_ms'), theirs('p99_ms')], busy: [pick('concurrency')],
    };
  }

  async #service(state, signal) {
    const span = this.state.span();
    await this.data.first(patience);
    const env = state.env ?? this.data.env;
    const path = `services/${encodeURIComponent(state.service)}`;
    const s = await ask(path, { from: span.from, to: span.to, env }, signal);
    if (signal.aborted) return;
    this.#live = `service ${s.id}`;
    const list = (title, edges, other) => (edges.length === 0 ? '' : h('section', { data: { key: title } }, h('h3', null, title, h('span', { class: 'quiet' }, String(edges.length))),
      h('table', { class: 'figures' }, h('thead', null, h('tr', null, ['Service', 'Rate', 'Errors', 'p95'].map((w, i) => h('th', { scope: 'col', class: i ? 'n' : null }, w)))),
        h('tbody', null, [...edges].sort((a, b) => severity(b.health) - severity(a.health) || (b.rate ?? 0) - (a.rate ?? 0)).slice(0, 100).map((e) => h('tr', { data: { key: e.id } },
          h('td', null, faulty(e.health) ? [badge(e.health, ''), ' '] : null, h('button', { type: 'button', class: 'link', title: wrong(e) || e[other], on: { click: () => this.go.to({ edge: e.id, service: '', trace: '' }) } }, this.data.nodes.get(e[other])?.name ?? shortName(e[other])),
            edges.filter((x) => x[other] === e[other]).length > 1 ? h('span', { class: 'quiet' }, ` by ${e.protocol === 'unknown' ? 'an unknown protocol' : e.protocol}`) : null),
          h('td', { class: 'n' }, f.rate(e.rate)), h('td', { class: faulty(e.health) && e.error_rate > 0.005 ? `n ${e.health === 'critical' ? 'hot' : 'warm'}` : 'n' }, f.share(e.error_rate)), h('td', { class: 'n' }, f.duration(e.p95_ms ?? e.server?.p95_ms))))))));
    const traces = await ask('traces', { service: s.id, env, limit: 12, from: span.from, to: span.to }, signal).catch(() => ({ traces: [] }));
    if (signal.aborted) return;
    const now = Date.parse(s.to);
    const found = [...findingsOf(s).map((finding) => ({ finding, edges: [], weight: weight(s) })), ...alike(s.inbound, now), ...alike(s.outbound, now)]
      .sort((a, b) => isOver(a.finding, now) - isOver(b.finding, now) || levelOf(b.finding) - levelOf(a.finding) || b.weight - a.weight)
      .map(({ finding, edges }) => ({ finding, edges: edges.map((e) => e.id), where: edges.length ? [edges.map((e, i) => [i ? ', ' : '', this.#link(e)])] : null, worst: edges.length > 1 ? `${this.#name(edges[0].source)} → ${this.#name(edges[0].target)}` : '', instances: edges.length ? this.data.nodes.get(edges[0].target)?.instances : null }));
    this.#fill(
      this.#header([s.name]),
      h('div', { class: 'under' }, badge(s.health, f.healthWord[s.health]), ' ', h('span', { class: 'quiet' }, ` ${s.kind}${s.namespace ? ` in ${s.namespace}` : ''}, ${this.#when(span)}`), unidentified(s), criticality(s), estimated(s), biased(s)),
      h('p', { class: 'lead' }, glued(about(s, this.data))),
      state.to ? pathBetween(s.id, state.to, { edges: this.data.edges.values(), nodes: this.data.nodes, link: (e) => this.#link(e), drop: () => this.go.to({ to: '' }) }) : '',
      h('div', { class: 'actions' },
        h('button', { type: 'button', 'aria-pressed': String(state.depth === 1), on: { click: () => this.go.to({ depth: this.state.now.depth === 1 ? 0 : 1 }) } }, 'Only neighbours'),
        h('button', { type: 'button', 'aria-pressed': String(state.depth === 2), on: { click: () => this.go.to({ depth: this.state.now.depth === 2 ? 0 : 2 }) } }, 'Two calls far'),
        h('button', { type: 'button', title: 'Path to another service  p', on: { click: () => this.go.path() } }, 'Path to…')),
      this.#tiles(isEntry(s) ? sent(s) : received(s)),
      wrongList(found.slice(0, 12), this.#evidence(traces.traces, s.to)),
      list('Called by', s.inbound, 'source'),
      list('Calls', s.outbound, 'target'),
      flows(s, (id) => this.#node(id)),
      links(s, (id) => this.#node(id)),
      entryPoints(s),
      timeShare(s),
      shares('Operations', s.operations),
      shares('Instances', s.instances),
      shares('Versions', s.versions),
      this.#examples(traces.traces),
      this.#actions(null, s.id),
    );
    this.#turned();
  }

  #when(span) {
    const { at, range } = this.state.now;
    if (at) return `${f.span(span.seconds)} up to ${f.clock(new Date(at))}`;
    return range === 'live' ? 'last minute' : `last ${f.span(span.seconds)}`;
  }

  #tiles(tiles) {
    return h('div', { class: 'tiles' }, tiles.map(([word, value, exact, sub]) => h('div', { title: exact }, h('div', { class: 'word' }, word), h('div', { class: 'value' }, value), h('div', { class: 'sub' }, sub || ' '))));
  }

  #examples(examples) {
    if (!examples?.length) return '';
    const order = { error: 0, slow: 1, retried: 2, typical: 3 };
    const words = { error: 'failed', slow: 'slow', retried: 'retried', typical: 'typical' };
    const few = {};
    const list = [...examples].sort((a, b) => order[a.kind] - order[b.kind] || Date.parse(b.at) - Date.parse(a.at)).filter((x) => (few[x.kind] = (few[x.kind] ?? 0) + 1) <= 4);
    return h('section', { data: { key: 'examples' } }, h('h3', null, 'Example traces'), h('ul', { class: 'examples' }, list.map((x) => h('li', { data: { key: `${x.kind} ${x.trace_id}` } },
      h('a', { href: `/traces/${x.trace_id}`, on: { click: (e) => { if (!e.metaKey && !e.ctrlKey) { e.preventDefault(); this.go.to({ trace: x.trace_id }); } } } },
        h('span', { class: `pill ${x.kind}` }, words[x.kind] ?? x.kind), h('span', null, f.duration(x.duration_ms), x.failure ? h('span', { class: 'quiet' }, `  ${causeWord(x.failure)}`) : null),
        h('span', { class: 'quiet', title: x.at }, f.ago(Date.now() - Date.parse(x.at))))))));
  }

  #actions(edge, service) {
    const address = h('button', { type: 'button', on: { click: () => copy(location.href, address) } }, 'Copy link');
    return h('div', { class: 'actions' }, address,
      h('a', { href: edge ? `/api/v1/edges/${encodeURIComponent(edge)}` : `/api/v1/services/${encodeURIComponent(service)}` }, 'JSON'));
  }
}

// Who calls and sends no spans is told by what is called.
const isEntry = (s) => s.inbound.length === 0 && s.outbound.length > 0 && Object.hasOwn(entries, s.kind);

function sent({ outbound, chain = {} }) {
  const sum = (key) => outbound.reduce((n, e) => n + (e[key] ?? 0), 0), calls = sum('calls'), callees = new Set(outbound.map((e) => e.target));
  return [
    ['sends', f.rate(sum('rate')), f.exact(calls, 'calls'), `to ${f.things(callees.size, 'services')}`],
    ['failed', f.share(calls > 0 ? sum('errors') / calls : null), `${f.exact(sum('errors'), '')} of ${f.exact(calls, 'calls')}`, 'as those answer'],
    ['depends on', f.count(chain.downstream), 'services, stores and third parties below it', chain.depth ? `at most ${f.things(chain.depth, 'calls')} away` : ''],
  ];
}

function received(s) {
  const chain = s.chain ?? {};
  return [
    ['calls', f.rate(s.rate), f.exact(s.rate, 'calls/s'), `${s.rate == null ? '' : `n = ${f.count(s.n)}, `}${f.things(s.inbound.length, 'callers')}`],
    ['failed', f.share(s.error_rate), f.exact(s.error_rate == null ? null : s.error_rate * 100, '%'), 'as callers see it'],
    ['p95', f.duration(s.p95_ms), f.exact(s.p95_ms, 'ms'), { node: 'as it sees it itself', callers: 'as callers see it' }[s.p95_by] ?? ''],
    ['depends on', f.count(chain.downstream), 'services, stores and third parties below it', chain.depth ? `at most ${f.things(chain.depth, 'calls')} away` : ''],
    ['needed by', f.count(chain.upstream), 'services and users above it', chain.upstream ? 'directly or not' : ''],
    ['instances', s.instances.length ? f.count(s.instances.length) : f.none, 'instances that sent spans', s.versions.length ? f.things(s.versions.length, 'versions') : ''],
  ];
}

// One thing that is found on several connections of a service is one line: [{finding, edges}], with the worst first. What
// is over counts where it is nowhere open.
function alike(edges, now) {
  const groups = new Map();
  for (const e of edges) {
    for (const x of findingsOf(e)) {
      const key = `${x.rule} ${x.subject ?? ''}`;
      (groups.get(key) ?? groups.set(key, []).get(key)).push({ e, x, over: isOver(x, now) });
    }
  }
  return [...groups.values()].map((all) => {
    const open = all.filter((a) => !a.over), list = (open.length ? open : all).sort((a, b) => levelOf(b.x) - levelOf(a.x) || b.x.value - a.x.value || (a.e.id < b.e.id ? -1 : 1));
    return { finding: { ...list[0].x, since: list.map((a) => a.x.since).sort()[0] }, edges: list.map((a) => a.e), weight: Math.max(...list.map((a) => weight(a.e))) };
  });
}

/** A service in one sentence: who suffers from it since when, and whether that seems to begin in it. */
function about(s, data) {
  const name = (id) => data.nodes.get(id)?.name ?? shortName(id);
  const ill = (edges) => edges.filter((e) => faulty(e.health)).sort((a, b) => severity(b.health) - severity(a.health) || (b.errors ?? 0) - (a.errors ?? 0));
  const up = ill(s.inbound), down = ill(s.outbound), parts = [];
  if (up.length) {
    const who = up.length === 1 ? `Calls from ${name(up[0].source)} suffer` : `${up.length === s.inbound.length ? 'All' : `${up.length} of`} ${s.inbound.length} callers suffer`;
    const since = up.flatMap(findingsOf).map((x) => x.since).sort()[0];
    parts.push(`${who}${since ? `, since ${minute(new Date(since))}` : ''}: ${wrong(up[0]) || 'unhealthy'}`);
  }
  if (down.length) {
    const more = down.length > 1 ? `, and ${down.length - 1} more` : '', cause = up.length && severity(down[0].health) >= severity(up[0].health);
    parts.push(`${cause ? 'it may come from its call' : up.length ? 'less bad is its call' : 'Unwell is its call'} to ${name(down[0].target)}: ${wrong(down[0]) || 'unhealthy'}${more}`);
  } else if (up.length && s.outbound.length) parts.push('nothing that it calls is unwell');
  if (parts.length) return `${isEntry(s) ? `${entries[s.kind]}. ` : ''}${parts.join('; ')}.`;
  if (s.inbound.length === 0 && s.outbound.length === 0) return 'It sends spans, and nothing is seen to call it or to be called by it.';
  if (isEntry(s)) return `${entries[s.kind]}. Nothing that it calls is unwell.`;
  const sides = [s.inbound.length ? `called by ${s.inbound.length}` : 'called by nobody', s.outbound.length ? `calls ${s.outbound.length}` : 'calls nobody'].join(', ');
  return `${sides[0].toUpperCase()}${sides.slice(1)}; nothing is wrong around it.`;
}
