// Wires the page: state in the URL, data from the server, the map or the table, the panel, keys.

import { $, badge, copy, glued, h, renew } from './dom.js';
import * as f from './format.js';
import { Data, ask } from './data.js';
import { listen, nextWrong } from './keys.js';
import { badgeLegend, findingLines, help } from './legend.js';
import { FindMenu } from './find.js';
import { fits, groups, ruleOf, rules } from './findings.js';
import { entries } from './kinds.js';
import { MapView } from './map.js';
import { begins, few } from './next.js';
import { Panel } from './panel.js';
import { closePopover, popover } from './popover.js';
import { Sparks } from './sparks.js';
import { State, format, ranges, rangeWords } from './state.js';
import { TableView } from './table.js';
import { showTrace } from './trace.js';
import { faulty, frame, linkedSentence, neighbourhood, select, severity, ways, weight, wrong } from './view.js';

themeSwitch();
for (const b of document.querySelectorAll('.copy')) b.addEventListener('click', () => copy($('code', b.parentElement).textContent, b));
const tracePage = $('#trace-page');
if (tracePage) showTrace(tracePage, tracePage.dataset.trace, { heading: true });
if ($('#stage')) start();

function start() {
  document.body.classList.add('app');
  const state = new State(), data = new Data();
  const map = new MapView($('#canvas'), $('#tip'));
  const go = { to: (changes) => state.set(changes), href: (changes) => location.pathname + format({ ...state.now, ...changes }), close, path: choosePath };
  const table = new TableView($('#table'), go);
  const panel = new Panel($('#panel'), data, state, go);
  const finding = new FindMenu($('#find'), data, state, go);
  const sparks = new Sparks(() => {
    map.sparks = sparks.curves;
    map.refresh();
  });
  const empty = $('#empty'), emptyAt = state.now.at; // what the server says of a moment holds for that alone
  let arrived = false, fitNext = true, lastPick = '';

  // What is shown

  const screen = () => ({ width: map.width, height: map.height });

  function matches(words) {
    const needle = words.trim().toLowerCase();
    return needle === '' ? () => true : (text) => text.toLowerCase().includes(needle);
  }

  function render({ fit = false } = {}) {
    const now = state.now;
    if (!arrived) return;
    const nothing = data.nodes.size === 0 && data.edges.size === 0;
    const showTable = now.view === 'table' || nothing;
    $('#map').hidden = showTable;
    $('#table').hidden = !showTable;
    $('#table-switch').setAttribute('aria-pressed', String(now.view === 'table'));
    $('#unhealthy').setAttribute('aria-pressed', String(now.only === 'unhealthy'));
    sayVerdict();
    sayTime();
    sayEnvironments();
    finding.update();
    sparks.follow(state.live ? { from: 'now-15m', to: 'now' } : { from: state.span().from, to: state.span().to }, now.env ?? data.env, data.nodes.size);
    if (nothing) {
      if (empty && now.at === emptyAt) renew($('#table'), empty);
      else renew($('#table'), h('div', { class: 'empty' }, h('h1', null, 'No calls in this time'), h('p', null, data.error || 'Nothing was seen in the time and environment shown.'),
        h('p', null, now.at || now.range !== 'live' ? [h('button', { type: 'button', class: 'link', on: { click: () => go.to({ range: 'live', at: '' }) } }, 'To the live map'), '. '] : null,
          h('a', { href: '/status' }, 'What was received'), ' is on the status page.')));
      panel.show(now);
      return;
    }
    inset(now);
    const view = select(data, now, showTable ? {} : now.depth > 0 ? { width: map.width - map.inset.right, height: map.height - map.inset.bottom } : screen());
    if (showTable) {
      const kept = new Set(view.items.flatMap((it) => (it.group ? it.group.nodes.map((n) => n.id) : [it.id])));
      const named = matches(now.q);
      const narrowed = now.depth > 0 || now.only;
      table.show({
        edges: [...data.edges.values()].filter((e) => (!narrowed || (kept.has(e.source) && kept.has(e.target))) && (!now.only || faulty(e.health) || now.depth > 0) &&
          (!now.find.length || fits(e, now.find)) && (named(e.source) || named(e.target))),
        nodes: suffered([...data.nodes.values()].filter((n) => kept.has(n.id) && named(n.id))),
        links: [...data.links.values()].filter((l) => kept.has(l.source) && kept.has(l.target) && (named(l.source) || named(l.target))),
        instances: (e) => data.nodes.get(e.target)?.instances,
      }, now.edge || now.service);
    } else {
      map.selected = (it) => it.id === now.service;
      map.show(view, { fit: fit || fitNext });
      if (fitNext && (now.service || now.edge)) requestAnimationFrame(reveal);
      fitNext = false;
      focus();
      sayCounts(view);
      const foot = Math.max(52, $('#counts').offsetHeight + 24);
      if (foot !== frame.bottom) { // it has become another number of lines
        frame.bottom = foot;
        render({ fit });
        return;
      }
      $('#canvas').setAttribute('aria-label', `Map of ${f.things(view.items.length, 'services')} and ${f.things(view.links.filter((l) => !l.linked).length, 'connections')}. ${$('#verdict').textContent.trim()} Arrow keys move, Enter opens; t shows the same as a table.`);
    }
    panel.show(now);
  }

  /** Nodes with what is found on the calls to them, each once: that is what makes them unhealthy. */
  function suffered(nodes) {
    const found = new Map();
    for (const e of data.edges.values()) {
      if (!faulty(e.health)) continue;
      const own = found.get(e.target) ?? found.set(e.target, new Map()).get(e.target);
      for (const x of e.findings ?? []) if (x.level !== 'note') own.set(`${x.rule} ${x.subject ?? ''}`, x);
    }
    return nodes.map((n) => ({ ...n, findings: [...(n.findings ?? []), ...(found.get(n.id)?.values() ?? [])] }));
  }

  /** Lights up what belongs to the selection. */
  function focus() {
    const { service, edge } = state.now;
    const { items, links } = map.view;
    if (edge) {
      const i = links.findIndex((l) => l.edges.some((e) => e.id === edge));
      map.setFocus(i < 0 ? null : { links: [i], items: [links[i].s, links[i].t] });
      return;
    }
    if (service && state.now.to) { lightPath(path()); return; }
    if (!service || state.now.depth > 0) { map.setFocus(null); return; }
    const near = neighbourhood(data.edges.values(), service, 1);
    const lit = new Set(items.map((it, i) => [it, i]).filter(([it]) => near.has(it.id) || it.group?.nodes.some((n) => near.has(n.id))).map(([, i]) => i));
    const me = map.indexOf(service);
    const mine = links.map((_, i) => i).filter((i) => links[i].s === me || links[i].t === me);
    for (const i of mine) lit.add(links[i].s).add(links[i].t);
    map.setFocus(lit.size && me !== undefined ? { items: [...lit], links: mine } : null);
  }

  /** The edges of the path that is shown, in the direction in which calls go. */
  function path() {
    const { service, to } = state.now, way = ways(data.edges.values(), service, to);
    return way.length ? way : ways(data.edges.values(), to, service);
  }

  function lightPath(way) {
    const on = new Set(way.map((e) => e.id)), { links } = map.view;
    const lit = links.map((_, i) => i).filter((i) => links[i].edges.some((e) => on.has(e.id)));
    const ends = [state.now.service, state.now.to].map((id) => map.indexOf(id)).filter((i) => i !== undefined);
    map.setFocus({ links: lit, items: [...new Set([...ends, ...lit.flatMap((i) => [links[i].s, links[i].t])])] });
  }

  function reveal() {
    const { service, edge, to } = state.now;
    if (service && to) { map.reveal(map.focus?.items ?? []); return; }
    if (service && map.indexOf(service) !== undefined) map.reveal([map.indexOf(service)]);
    const l = edge && map.view.links.find((x) => x.edges.some((e) => e.id === edge));
    if (l) map.reveal([l.s, l.t]);
  }

  /** The panel lies over the map; the picture moves only as far as what is selected has to be seen. */
  function inset(now) {
    const open = !!(now.service || now.edge || now.trace), low = innerWidth <= 720;
    if (!open) map.release();
    $('#stage').classList.toggle('with-panel', open);
    $('#stage').classList.toggle('with-trace', !!now.trace);
    map.inset = { right: open && !low ? 440 : 0, bottom: open && low ? Math.round($('#stage').clientHeight * 0.62) : 0 };
  }

  const name = (id) => data.nodes.get(id)?.name ?? id;

  // The same sentence as the server's first paint (web/page/page.go).
  function sayVerdict() {
    const edges = [...data.edges.values()];
    const of = (health) => edges.filter((e) => e.health === health);
    const n = edges.length, things = (k, noun) => `${k} ${noun}${k === 1 ? '' : 's'}`; // never shortened
    const failing = of('critical').length, degraded = of('warn').length, unknown = of('unknown').length;
    let health = 'ok', parts;
    if (n === 0) [health, parts] = ['unknown', [data.nodes.size ? `${things(data.nodes.size, 'service')} and no calls between them in this time.` : 'No calls seen in this time.']];
    else if (failing + degraded === 0 && unknown === n) [health, parts] = ['unknown', [`Too few calls yet to judge ${things(n, 'connection')}.`]];
    else if (failing + degraded === 0) parts = [n - unknown === 1 ? 'The one connection that can be judged is healthy.' : unknown ? `${n - unknown} of ${things(n, 'connection')} healthy, ${unknown} with too few calls to judge.` : `All ${things(n, 'connection')} healthy.`];
    else {
      const worst = edges.filter((e) => faulty(e.health)).sort((a, b) => severity(b.health) - severity(a.health) || weight(b) - weight(a) || b.errors - a.errors || b.calls - a.calls || (a.id < b.id ? -1 : 1))[0];
      health = worst.health;
      const counts = [failing && `${failing} failing`, degraded && `${degraded} degraded`].filter(Boolean).join(', ');
      parts = [`${counts} of ${things(n, 'connection')}. Worst: `, h('button', { type: 'button', class: 'link', on: { click: () => go.to({ edge: worst.id, service: '', trace: '' }) } }, `${name(worst.source)} → ${name(worst.target)}`), wrong(worst) ? glued(`, ${wrong(worst)}.`) : '.'];
      const at = begins(edges);
      if (at.length && (failing || degraded) > 1) parts.push(' It seems to begin at ', few(at.map((id) => h('button', { type: 'button', class: 'link', on: { click: () => go.to({ service: id, edge: '', trace: '' }) } }, name(id)))), '.');
    }
    renew($('#verdict'), badge(health, f.healthWord[health]), h('span', { class: 'sentence', data: { key: 'sentence' } }, parts), $('#age') ?? h('span', { class: 'quiet age', id: 'age' }));
    sayAge();
    document.title = `${failing ? `${failing} failing · ` : degraded ? `${degraded} degraded · ` : ''}Faultline`;
  }

  function sayAge() {
    const { at, range } = state.now;
    const age = $('#age');
    if (!age || !data.at) return;
    age.title = `${data.at.toISOString()}`;
    if (at) age.textContent = `${rangeWords[range === 'live' ? '15m' : range].replace('Last ', '')} up to ${f.clock(new Date(at))} ${f.zone(new Date(at))}`;
    else if (data.stream === 'live') age.textContent = `live, ${f.ago(Date.now() - data.heard)}`;
    else age.textContent = `as of ${f.clock(data.at)} ${f.zone(data.at)}`;
  }

  function sayTime() {
    const { at, range } = state.now;
    // What is left out where there is little room: the first word or the year, and the seconds.
    const [, last, most, seconds] = /^(Last |\d{4}-)?(.*?)(:\d\d)?$/.exec(at ? f.clock(new Date(at)) : rangeWords[range]);
    renew($('#time-word'), last && h('span', { class: 'wide' }, last), most, seconds && h('span', { class: 'wide' }, seconds));
    const dot = $('#stream');
    dot.className = `dot ${at ? 'still' : data.stream}`;
    $('#later').disabled = !at;
  }

  function sayEnvironments() {
    const select = $('#env');
    const envs = data.envs ?? [];
    const want = state.now.env ?? data.env ?? '';
    const all = envs.includes(want) || want === '' && envs.length ? envs : [...envs, want];
    if ([...select.options].map((o) => o.value).join('\n') !== all.join('\n')) select.replaceChildren(...all.map((e) => h('option', { value: e }, e || 'no environment')));
    select.value = want;
  }

  function sayCounts(view) {
    const fitting = view.links.filter((l) => !l.linked && !l.dim).length;
    const nodes = view.items.reduce((n, it) => n + (it.group ? it.group.nodes.length : 1), 0);
    const chip = (text, changes, pressed) => h('button', { type: 'button', data: { key: JSON.stringify(changes) }, 'aria-pressed': pressed ? 'true' : null, on: { click: () => go.to(changes) } }, text);
    const parts = [h('span', null, view.grouped ? `${f.things(nodes, 'services')} in ${f.things(view.items.length, 'groups')}, ${f.things(data.edges.size, 'connections')}` : `${f.things(nodes, 'services')}, ${f.things(fitting, 'connections')}${state.now.find.length ? ' that have it' : ''}`)];
    if (view.hidden) parts.push(chip(`+${view.hidden} ${state.now.find.length ? 'other' : state.now.only ? 'quiet' : 'farther'} ${view.hidden === 1 ? 'service' : 'services'}`, { only: '', depth: 0, find: [] }));
    for (const x of state.now.find) parts.push(chip(`${groups[x]?.name ?? ruleOf(x).name} ×`, { find: state.now.find.filter((y) => y !== x) }, true));
    if (state.now.find.length && !view.items.length) parts.unshift(h('span', { class: 'none' }, 'Nothing of what is asked for is wrong now.'));
    if (view.grouped || state.now.open.length) {
      if (!state.now.open.includes('*')) parts.push(chip('Open all', { open: ['*'] }));
      if (state.now.open.length) parts.push(chip('Collapse', { open: [] }));
    }
    if (data.truncated) parts.push(h('span', null, 'more than can be shown: choose an environment or a neighbourhood'));
    renew($('#counts'), parts);
  }

  // Where it comes from

  function load() {
    fitNext = true;
    if (state.live) data.follow(state.now.env);
    else data.show(state.span(), state.now.env);
  }

  let queued = false;
  const changes = new Set();
  function arrive() {
    if (!queued) return;
    // What is too slow to draw in every frame is not worked out anew under the viewer's hand either.
    if (map.dragging && map.slow) { setTimeout(arrive, 150); return; }
    queued = false;
    render();
    if (document.activeElement === search) look(); // what is looked for may have come
    if (changes.size) map.pulse(changes);
    changes.clear();
  }
  data.addEventListener('change', ({ detail }) => {
    arrived = true;
    if (detail.fresh) fitNext = true;
    for (const id of detail.worse ?? []) changes.add(id);
    if (queued) return; // several messages in one frame make one picture
    queued = true;
    // A tab in the background has no frames, and a title that has to be right.
    if (document.hidden) setTimeout(arrive, 0);
    else requestAnimationFrame(arrive);
  });
  document.addEventListener('visibilitychange', arrive);

  const banner = $('#banner');
  function sayStream() {
    sayTime();
    sayAge();
    const broken = data.stream === 'broken';
    banner.hidden = !broken || !arrived && !data.error;
    if (broken) banner.textContent = data.error || `The connection to the server is gone. What is shown is of ${data.at ? f.clock(data.at) : 'before'}${data.at ? ` (${f.ago(Date.now() - data.at)})` : ''}; it is being tried again by itself.`;
  }
  data.addEventListener('stream', sayStream);
  setInterval(() => { sayAge(); if (data.stream === 'broken') sayStream(); }, 1000);

  // The same sentence as the server's first paint (web/page/map.templ).
  async function sayDelayed() {
    if (document.hidden) return;
    const since = await ask('status').then((s) => s.store.delayed_since, () => undefined);
    if (since === undefined) return; // the server is gone, which the banner says
    const line = $('#delayed');
    line.hidden = !since;
    if (since) line.replaceChildren(`History is delayed since ${f.clock(new Date(since))} ${f.zone(new Date(since))}: what is live is right, what is past ends there. `, h('a', { href: '/status' }, 'Why'));
    else line.replaceChildren();
  }
  setInterval(sayDelayed, 60000);

  state.addEventListener('change', ({ detail: { before, now } }) => {
    const changed = (k) => JSON.stringify(before[k]) !== JSON.stringify(now[k]);
    if (changed('env') || changed('range') || changed('at')) { panel.key = ''; load(); }
    render({ fit: ['depth', 'only', 'find', 'open', 'view'].some(changed) || (now.depth > 0 && changed('service')) });
    if (changed('service') || changed('edge') || changed('to')) requestAnimationFrame(reveal);
    // At once: later, it would take the focus from where the next key has put it.
    if ((changed('service') || changed('edge') || changed('trace')) && (now.service || now.edge) && lastPick !== 'pointer') $('#panel h2')?.focus({ preventScroll: true });
    lastPick = '';
    sayTime();
  });

  // Pointing at the map

  map.addEventListener('pick', ({ detail: { item, link, shift } }) => {
    lastPick = 'pointer';
    if (item) open(item, shift);
    else if (link?.linked) {
      if (map.view.items[link.t].group) return;
      panel.turnTo('links');
      go.to({ service: map.view.items[link.t].id, edge: '', trace: '' });
    } else if (link) {
      const e = link.edge ?? link.worst;
      if (link.edge || faulty(e.health)) go.to({ edge: e.id, service: '', trace: '' });
    } else if (state.now.service || state.now.edge) close();
  });
  map.addEventListener('root', ({ detail: { item } }) => { if (!item.group) go.to({ service: item.id, edge: '', depth: state.now.depth || 2 }); });
  map.addEventListener('resize', () => { if (arrived) render(); });

  const spread = (curve) => curve && `${f.rate(Math.min(...curve.rate))} to ${f.rate(curve.top)}`;
  const rows = (list) => h('dl', null, list.filter(([, v]) => v != null && v !== f.none).map(([k, v]) => [h('dt', null, k), h('dd', null, v)]));
  map.addEventListener('hover', ({ detail: { item, link } }) => {
    const tip = $('#tip');
    tip.hidden = !item && !link;
    if (item?.group) {
      const g = item.group;
      tip.replaceChildren(h('strong', null, g.name), rows([['nodes', String(g.nodes.length)], ['unwell', String(g.bad)], ['calls', f.rate(g.rate)]]), h('div', { class: 'quiet' }, 'Click to open'));
    } else if (item) {
      const n = item.node;
      tip.replaceChildren(h('strong', null, n.name), ' ', badge(n.health, f.healthWord[n.health]), h('div', { class: 'quiet' }, entries[n.kind] ?? `${n.kind}${n.namespace ? ` in ${n.namespace}` : ''}`),
        rows([['calls', f.rate(n.rate)], [`in ${f.span(ranges[state.now.range] || 900)}`, spread(sparks.curves.get(n.id))], ['failed', f.share(n.error_rate)], ['p95', f.duration(n.p95_ms)], ['instances', n.instances == null ? null : String(n.instances)]]), findingLines(n));
    } else if (link?.edge) {
      const e = link.edge;
      tip.replaceChildren(h('strong', null, `${name(e.source)} → ${name(e.target)}`), ' ', badge(e.health, f.healthWord[e.health]), h('div', { class: 'quiet' }, wrong(e) || e.protocol),
        rows([['calls', f.rate(e.rate)], ['failed', f.share(e.error_rate)], ['attempts per call', f.attempts(e) >= 1.05 ? f.factor(f.attempts(e)) : null], ['hedges', e.hedges > 0 ? f.count(e.hedges) : null], ['p50 · p95 · p99', [e.p50_ms ?? e.server?.p50_ms, e.p95_ms ?? e.server?.p95_ms, e.p99_ms ?? e.server?.p99_ms].map(f.duration).join(' · ')]]),
        link.gap ? h('div', { class: 'quiet' }, link.gap === 'server' ? 'seen by the caller only' : 'seen by the callee only') : '', findingLines(e, data.nodes.get(e.target)?.instances));
    } else if (link?.linked) {
      const from = map.view.items[link.s].name, to = map.view.items[link.t].name;
      const of = (key) => f.count(link.linked.reduce((sum, x) => sum + x[key], 0));
      tip.replaceChildren(h('strong', null, `${from} ⋯▸ ${to}`), rows([['spans', of('spans')], ['n', of('n')]]), h('div', { class: 'quiet' }, linkedSentence(from, to)));
    } else if (link) {
      tip.replaceChildren(h('strong', null, `${map.view.items[link.s].name} → ${map.view.items[link.t].name}`), rows([['connections', String(link.edges.length)], ['unwell', String(link.edges.filter((e) => faulty(e.health)).length)], ['calls', f.rate(link.rate)]]));
    }
  });

  // Search

  const search = $('#search'), found = $('#found');
  let hits = [], chosen = 0, towards = false;
  const { placeholder } = search;
  search.value = state.now.q;
  function look() {
    const q = search.value.trim().toLowerCase(), id = hits[chosen]?.id;
    hits = q === '' ? [] : [...data.nodes.values()].filter((n) => n.id.toLowerCase().includes(q))
      .sort((a, b) => Number(b.name.toLowerCase().startsWith(q)) - Number(a.name.toLowerCase().startsWith(q)) || severity(b.health) - severity(a.health) || (b.rate ?? 0) - (a.rate ?? 0)).slice(0, 12);
    chosen = Math.max(0, hits.findIndex((n) => n.id === id)); // what was chosen stays so when news come
    showHits();
  }
  function find() {
    hits = [];
    look();
    if (state.now.view === 'table') state.set({ q: search.value.trim() }, { replace: true });
  }
  function showHits() {
    const open = document.activeElement === search && search.value.trim() !== '';
    found.hidden = !open;
    search.setAttribute('aria-expanded', String(open));
    renew(found, hits.length || !open ? hits.map((n, i) => h('div', { role: 'option', id: `hit-${i}`, 'aria-selected': String(i === chosen), on: { pointerdown: (e) => { e.preventDefault(); choose(i); } } },
      h('span', null, n.name), n.namespace ? h('span', { class: 'quiet' }, n.namespace) : null, faulty(n.health) ? badge(n.health, f.healthWord[n.health]) : h('span', { class: 'quiet' }, n.kind))) :
      h('div', { class: 'quiet', role: 'option', 'aria-disabled': 'true' }, arrived ? 'No service of that name in this time and environment.' : 'The map is on its way…'));
    if (hits.length) search.setAttribute('aria-activedescendant', `hit-${chosen}`);
    else search.removeAttribute('aria-activedescendant');
  }
  function choose(i) {
    const n = hits[i], path = towards;
    if (!n) return;
    search.value = '';
    search.blur();
    go.to(path ? { to: n.id, depth: 0 } : { service: n.id, edge: '', trace: '', q: '' });
    if (path) $('#panel h2')?.focus({ preventScroll: true });
  }
  /** The next service that is chosen in the search is the other end of a path from the one that is open. */
  function choosePath() {
    if (!state.now.service) { tell('Open a service first: the path begins there.'); return; }
    towards = true;
    search.placeholder = `Path from ${name(state.now.service)} to…`;
    search.focus();
  }
  search.addEventListener('input', find);
  search.addEventListener('focus', look);
  search.addEventListener('blur', () => {
    towards = false;
    search.placeholder = placeholder;
    showHits();
  });
  search.addEventListener('keydown', (e) => {
    if (e.key === 'ArrowDown' || e.key === 'ArrowUp') {
      e.preventDefault();
      chosen = hits.length ? (chosen + (e.key === 'ArrowDown' ? 1 : hits.length - 1)) % hits.length : 0;
      showHits();
    } else if (e.key === 'Enter') { e.preventDefault(); choose(chosen); }
    else if (e.key === 'Escape') {
      e.stopPropagation();
      if (search.value) { search.value = ''; find(); if (state.now.q) state.set({ q: '' }, { replace: true }); } else search.blur();
    }
  });

  // Tools

  $('#env').form.addEventListener('submit', (e) => e.preventDefault());
  $('#env').addEventListener('change', (e) => go.to({ env: e.target.value, service: '', edge: '', trace: '', depth: 0, open: [] }));
  const toggleTable = () => go.to({ view: state.now.view === 'table' ? 'map' : 'table' });
  const toggleUnhealthy = () => go.to({ only: state.now.only ? '' : 'unhealthy' });
  $('.skip').addEventListener('click', (e) => {
    e.preventDefault();
    go.to({ view: 'table' });
    $('#table').focus();
  });
  $('#table-switch').addEventListener('click', toggleTable);
  $('#unhealthy').addEventListener('click', toggleUnhealthy);
  $('#zoom-in').addEventListener('click', () => map.zoom(1.3));
  $('#zoom-out').addEventListener('click', () => map.zoom(1 / 1.3));
  $('#zoom-fit').addEventListener('click', () => map.fit());

  function stepTime(direction) {
    const seconds = ranges[state.now.range] || 900;
    const by = Math.max(60, seconds / 3) * 1000 * direction;
    const to = (state.now.at ? Date.parse(state.now.at) : Date.now()) + by;
    const still = to < Date.now() - 15000;
    go.to(still ? { at: new Date(Math.floor(to / 10000) * 10000).toISOString() } : { at: '' });
  }
  $('#earlier').addEventListener('click', () => stepTime(-1));
  $('#later').addEventListener('click', () => stepTime(1));

  $('#time').addEventListener('click', () => {
    const local = (d) => new Date(d - d.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
    const at = h('input', { type: 'datetime-local', step: '1', value: local(state.now.at ? new Date(state.now.at) : new Date()), max: local(new Date()) });
    const choose = (changes) => { closePopover(); go.to(changes); };
    popover($('#time'), { name: 'Time' },
      h('div', { class: 'choices' }, Object.keys(ranges).map((r) => h('button', { type: 'button', 'aria-pressed': String(!state.now.at && state.now.range === r), on: { click: () => choose({ range: r, at: '' }) } }, rangeWords[r]))),
      h('label', null, `A moment in the past (${f.zone()})`, at),
      h('button', { type: 'button', on: { click: () => { const t = new Date(at.value); if (!Number.isNaN(t.getTime())) choose({ at: t.toISOString(), range: state.now.range === 'live' ? '15m' : state.now.range }); } } }, 'Show this moment'));
  });

  // Keys

  const keys = [
    ['/', 'search', () => search.focus()], ['f', 'find by what goes wrong', () => finding.toggle()], ['u', 'only what is wrong, and its neighbours', toggleUnhealthy], ['t', 'the same as a table', toggleTable],
    ['l', 'live', () => go.to({ range: 'live', at: '' })], ['[', 'earlier', () => stepTime(-1)], [']', 'later', () => (state.now.at ? stepTime(1) : tell('This is the present.'))],
    ['+', 'zoom in', () => map.zoom(1.3)], ['-', 'zoom out', () => map.zoom(1 / 1.3)], ['0', 'fit the whole map', () => map.fit()],
    ['n', 'the next thing that is wrong', () => {
      const e = nextWrong(data.edges.values(), state.now.edge);
      if (e) go.to({ edge: e.id, service: '', trace: '' });
      else tell('Nothing is wrong in the time shown.');
    }],
    ['p', 'the path from the open service to another', choosePath], ['b', 'what the badges say', showBadges], ['?', 'keys and legend', showHelp],
  ];
  $('#help').addEventListener('click', showHelp);
  /** Opens a service or group of the map; with Shift, the path from the open service to it. */
  function open(it, shift = false) {
    const { service } = state.now;
    if (it.group) go.to({ open: [...state.now.open, it.name] });
    else if (shift && service && service !== it.id) go.to({ to: it.id, depth: 0 });
    else go.to({ service: it.id, edge: '', trace: '' });
  }
  listen(keys, { map, walkable: () => !$('#map').hidden, open, back, tell });

  /** One step back, as Escape does. */
  function back() {
    const now = state.now;
    if (closePopover()) return;
    if (now.trace) go.to({ trace: '' });
    else if (now.to) go.to({ to: '' });
    else if (now.depth > 0) go.to({ depth: 0 });
    else if (now.service || now.edge) close();
    else if (now.find.length) go.to({ find: [] });
    else if (now.only) go.to({ only: '' });
    else if (now.open.length) go.to({ open: [] });
    else map.fit();
  }

  /** Closes the panel; the focus goes to where it was opened from, on the map or in the table. */
  function close() {
    const { service, edge, view } = state.now, item = map.view.items[map.indexOf(service)];
    go.to({ service: '', edge: '', trace: '', depth: 0 });
    if (view === 'table') table.focus(edge || service);
    else {
      if (item) map.cursor = { id: item.id, x: item.x, y: item.y };
      $('#canvas').focus({ preventScroll: true });
    }
  }

  /** Says something in passing: to who hears the page, and unless it is seen anyway to who sees it. */
  let silence = 0;
  function tell(text, { seen = true } = {}) {
    const line = $('#said');
    line.textContent = text;
    line.classList.toggle('offscreen', !seen);
    clearTimeout(silence);
    silence = setTimeout(() => { line.textContent = ''; line.classList.add('offscreen'); }, 4000);
  }

  function openDialog(name, ...children) {
    const dialog = h('dialog', { 'aria-label': name, on: { close: () => dialog.remove(), click: (e) => { if (e.target === dialog) dialog.close(); } } }, children, h('form', { method: 'dialog' }, h('button', null, 'Close')));
    document.body.append(dialog);
    dialog.showModal();
  }

  function showBadges() { openDialog('What the badges say', badgeLegend()); }

  function showHelp() { openDialog('Keys and legend', help(keys, () => { $('dialog[open]').close(); showBadges(); })); }

  addEventListener('theme', () => { map.restyle(); panel.restyle(); });

  // What tests and the curious may look at; nothing here changes anything.
  Object.defineProperty(window, 'faultline', { value: Object.freeze({
    get nodes() { return map.view.items.map((it) => ({ id: it.id, name: it.name, health: it.health, ...map.spot({ item: map.indexOf(it.id) }) })); },
    get links() { return map.view.links.filter((l) => l.linked).map((l) => ({ id: l.id, source: map.view.items[l.s].id, target: map.view.items[l.t].id, spans: l.linked.reduce((n, x) => n + x.spans, 0) })); },
    get edges() { return map.view.links.filter((l) => !l.linked).map((l) => ({ id: l.id, source: map.view.items[l.s].id, target: map.view.items[l.t].id, health: l.health, dim: l.dim, badges: l.badges.map((b) => b.text || b.kind) })); },
    rules: Object.freeze(Object.fromEntries(Object.entries(rules).map(([id, r]) => [id, r.name]))),
    place: (id) => { const n = data.nodes.get(id); return n && { x: n.x, y: n.y }; },
    get labels() { return map.labels; },
    edgeSpot: (id) => map.spot({ link: map.view.links.findIndex((l) => l.id === id) }),
    get cursor() { return map.cursor?.id ?? null; },
    get pointed() { return map.hover && { ...map.hover }; },
    get lit() { return map.focus && map.focus.links.map((i) => map.view.links[i].id); },
    spark: (id) => structuredClone(sparks.curves.get(id) ?? null),
    get still() { return arrived && !queued && map.still; },
    get data() { return { nodes: data.nodes.size, edges: data.edges.size, stream: data.stream, at: data.at?.toISOString() ?? null, env: data.env, heard: data.heard }; },
    edge: (id) => structuredClone(data.edges.get(id) ?? null),
    get frames() { return map.frames; },
    get spent() { return map.spent; },
    get drawn() { return map.drawn; },
    get card() { return { ...map.view.size }; },
    get camera() { return { ...map.camera }; },
    get state() { return structuredClone(state.now); },
    format: Object.freeze({ ...f }),
  }) });

  load();
  panel.show(state.now);
  document.fonts?.ready.then(() => map.refresh());
}

function themeSwitch() {
  const root = document.documentElement;
  const dark = matchMedia('(prefers-color-scheme: dark)');
  dark.addEventListener('change', () => dispatchEvent(new Event('theme')));
  $('#theme')?.addEventListener('click', () => {
    const now = root.dataset.theme ?? (dark.matches ? 'dark' : 'light');
    root.dataset.theme = now === 'dark' ? 'light' : 'dark';
    try { localStorage.setItem('faultline.theme', root.dataset.theme); } catch { /* kept for this page only */ }
    dispatchEvent(new Event('theme'));
  });
}
