// What of the graph is drawn, and where: whole, a neighbourhood, only what is wrong, or collapsed into groups.

import { badgesOf, findingsOf, fits, ruleOf } from './findings.js';
import { reason } from './format.js';

export const step = { x: 304, y: 92 }; // as in web/layout
/** How wide and high a card may be, and what has to stay free between two, at scale 1. */
const card = { w: 200, least: 132, h: 64, gapX: 28, gapY: 24 };
/** What of the screen stays free around the picture; what is counted at its foot may take more. */
export const frame = { x: 20, top: 32, bottom: 52 }; // at the top there is room for what is said on a link of the first row
const whole = 500; // more nodes than this are collapsed

const rankOf = { unknown: 0, ok: 1, warn: 2, critical: 3 };
export const worse = (a, b) => ((rankOf[b] ?? 0) > (rankOf[a] ?? 0) ? b : a);
export const severity = (h) => rankOf[h] ?? 0;
const weights = { low: 1, medium: 2, high: 3, critical: 4 };
/** How much a node matters, or an edge: as much as the more critical of its ends. */
export const weight = (thing) => weights[thing?.criticality] ?? 0;
export const faulty = (h) => h === 'warn' || h === 'critical';

/** The one figure that is wrong with an edge, in words, or the name of what is; "" when nothing is. */
export function wrong(e) {
  if (!faulty(e.health)) return '';
  const found = culprit(e);
  return found ? ruleOf(found.rule).name : reason(e.reasons?.[0] ?? e.anomaly?.reasons?.[0] ?? '');
}

/** The worst finding of an edge that is unhealthy by nothing but findings. */
export function culprit(e) {
  const found = findingsOf(e);
  return found.some((x) => x.sentence === e.reasons?.[0]) ? found[0] : undefined;
}

/** Names the group a node belongs to when the map is collapsed: its namespace, else its kind or its name's first part. */
export function groupOf(n) {
  if (n.namespace) return n.namespace;
  switch (n.kind) {
    case 'database': case 'cache': return 'data stores';
    case 'queue': return 'queues';
    case 'external': case 'llm': return 'third parties';
    case 'user': case 'ingress': case 'unknown': return 'callers';
  }
  return n.name.split(/[-_./]/, 1)[0] || n.name;
}

/** Ids within depth calls of a node, up and down, with their distance; depth 0 has no limit. */
export function neighbourhood(edges, id, depth) {
  const up = new Map(), down = new Map();
  const add = (m, a, b) => (m.has(a) ? m.get(a).push(b) : m.set(a, [b]));
  for (const e of edges) {
    add(down, e.source, e.target);
    add(up, e.target, e.source);
  }
  const found = new Map([[id, 0]]);
  for (const next of [up, down]) {
    let ring = [id];
    const seen = new Set(ring);
    for (let d = 1; ring.length && (!depth || d <= depth); d++) {
      const further = [];
      for (const a of ring) {
        for (const b of next.get(a) ?? []) {
          if (seen.has(b)) continue;
          seen.add(b);
          further.push(b);
          if (!found.has(b)) found.set(b, d);
        }
      }
      ring = further;
    }
  }
  return found;
}

/** The edges of the shortest ways by calls from one node to another, from the beginning on; none when no calls lead there. */
export function ways(edges, from, to) {
  const list = [...edges], there = distances(list, from, 'source', 'target'), back = distances(list, to, 'target', 'source'), length = there.get(to);
  return length === undefined ? [] : list.filter((e) => there.get(e.source) + 1 + back.get(e.target) === length)
    .sort((a, b) => there.get(a.source) - there.get(b.source) || severity(b.health) - severity(a.health) || (a.id < b.id ? -1 : 1));
}

// How many calls away each node is, along edges from their end a to their end b.
function distances(edges, id, a, b) {
  const next = new Map(), far = new Map([[id, 0]]);
  for (const e of edges) (next.get(e[a]) ?? next.set(e[a], []).get(e[a])).push(e[b]);
  for (let ring = [id]; ring.length;) {
    const further = [];
    for (const x of ring) {
      for (const y of next.get(x) ?? []) {
        if (far.has(y)) continue;
        far.set(y, far.get(x) + 1);
        further.push(y);
      }
    }
    ring = further;
  }
  return far;
}

/**
 * Returns {items, links, pitch, portrait, hidden, grouped}: items have a place, links join items by index, by calls or, with
 * linked, by spans that link and do not call; pitch is how far apart columns and rows are, size is a card's. On a screen higher than wide the picture reads downwards.
 */
export function select(data, state, screen) {
  const portrait = screen.width < screen.height * 0.85;
  const nodes = [...data.nodes.values()];
  const edges = [...data.edges.values()];
  let keep = null;
  if (state.depth > 0 && data.nodes.has(state.service)) {
    keep = new Set(neighbourhood(edges, state.service, state.depth).keys());
  }
  if (state.only === 'unhealthy') {
    const wanted = new Set(nodes.filter((n) => faulty(n.health)).map((n) => n.id));
    for (const e of edges) {
      if (faulty(e.health)) wanted.add(e.source).add(e.target);
    }
    const near = new Set(wanted);
    for (const e of edges) {
      if (wanted.has(e.source)) near.add(e.target);
      if (wanted.has(e.target)) near.add(e.source);
    }
    // In a large graph the neighbours of what is wrong are everything: then only what is wrong.
    const set = near.size > whole ? wanted : near;
    keep = new Set([...set].filter((id) => !keep || keep.has(id)));
  }
  if (state.find.length) {
    const wanted = new Set(nodes.filter((n) => fits(n, state.find)).map((n) => n.id));
    for (const e of edges) {
      if (fits(e, state.find)) wanted.add(e.source).add(e.target);
    }
    keep = new Set([...wanted].filter((id) => !keep || keep.has(id)));
  }
  const shown = keep ? nodes.filter((n) => keep.has(n.id)) : nodes;
  const open = new Set(state.open);
  const collapse = shown.length > whole && !open.has('*');
  const items = [], index = new Map(), groups = new Map();
  const members = new Map();
  if (collapse) for (const n of shown) members.set(groupOf(n), (members.get(groupOf(n)) ?? 0) + 1);
  for (const n of shown) {
    const name = collapse ? groupOf(n) : null;
    if (!collapse || open.has(name) || members.get(name) === 1 || n.id === state.service) {
      index.set(n.id, items.length);
      items.push({ id: n.id, name: n.name, ...named(n), kind: n.kind, health: n.health, x: n.x ?? 0, y: n.y ?? 0, node: n, badges: nodeBadges(n) });
      continue;
    }
    let g = groups.get(name);
    if (!g) {
      g = { id: `group ${name}`, name, label: name, under: '', kind: 'group', health: 'unknown', x: 0, y: 0, group: { name, nodes: [], rate: 0, errors: 0, bad: 0 } };
      groups.set(name, g);
      g.index = items.length;
      items.push(g);
    }
    g.group.nodes.push(n);
    g.group.rate += n.rate ?? 0;
    g.group.errors += (n.rate ?? 0) * (n.error_rate ?? 0);
    if (faulty(n.health)) g.group.bad++;
    g.health = worse(g.health, n.health);
    index.set(n.id, g.index);
  }
  for (const g of groups.values()) {
    g.x = median(g.group.nodes.map((n) => n.x ?? 0));
    g.y = median(g.group.nodes.map((n) => n.y ?? 0));
  }
  const links = [];
  const byPair = new Map();
  for (const e of edges) {
    const s = index.get(e.source), t = index.get(e.target);
    if (s === undefined || t === undefined || (s === t && items[s].group)) continue;
    const grouped = items[s].group || items[t].group;
    const key = grouped ? `${s} ${t}` : e.id;
    let l = byPair.get(key);
    if (!l) {
      l = { id: key, s, t, edge: grouped ? null : e, edges: [], ill: 0, rate: 0, health: 'unknown', async: e.protocol === 'messaging', lane: 0, gap: gap(e), dim: state.find.length > 0, badges: grouped ? [] : badgesOf(findingsOf(e), data.nodes.get(e.target)?.instances) };
      byPair.set(key, l);
      links.push(l);
    }
    l.edges.push(e);
    l.dim &&= !fits(e, state.find);
    l.rate += e.rate ?? 0;
    if (faulty(e.health)) l.ill++;
    l.health = worse(l.health, e.health);
    if (!l.edge) l.worst = !l.worst || severity(e.health) > severity(l.worst.health) ? e : l.worst;
  }
  // Whose spans link to whose is drawn beside the calls, and changes no place, width or colour of theirs.
  for (const x of data.links.values()) {
    const s = index.get(x.source), t = index.get(x.target);
    if (s === undefined || t === undefined || s === t) continue;
    const key = `linked ${s} ${t}`;
    let l = byPair.get(key);
    if (!l) {
      l = { id: items[s].group || items[t].group ? key : x.id, s, t, linked: [], edge: null, edges: [], ill: 0, rate: 0, health: 'ok', async: false, lane: 0, gap: '', dim: true, badges: [] };
      byPair.set(key, l);
      links.push(l);
    }
    l.linked.push(x);
  }
  // Edges between the same two nodes, of several protocols or in both directions, run side by side.
  const lanes = new Map();
  for (const l of links) {
    const k = `${Math.min(l.s, l.t)} ${Math.max(l.s, l.t)}`;
    l.lane = lanes.get(k) ?? 0;
    lanes.set(k, l.lane + 1);
  }
  if (keep || collapse) compact(items, portrait ? screen : null);
  if (portrait) for (const it of items) [it.x, it.y] = [it.y / step.y * step.x, it.x / step.x * step.y];
  const { pitch, size } = spread(items, screen);
  for (const l of links) {
    if (items[l.s].node) items[l.s].sends = (items[l.s].sends ?? 0) + l.rate;
  }
  return { items, links, pitch, size, portrait, hidden: nodes.length - shown.length, grouped: groups.size };
}

// A gap in the line says which side of the calls was not seen, where it usually is.
function gap(e) {
  if (e.server_missing > e.calls / 2) return 'server';
  if (e.client_missing > e.calls / 2) return 'client';
  return '';
}

/**
 * A node's name on the map and what is said below it. The icon says what it is; first comes what tells it from others:
 * of a database its own name, of a topic the topic.
 */
function named(n) {
  if (n.kind === 'database' || n.kind === 'cache') {
    const [, system, name, host] = /^([^/@]*)(?:\/([^@]*))?(?:@(.*))?$/.exec(n.name) ?? [];
    if (system === undefined) return { label: n.name, under: '' };
    if (name && !/^\d+$/.test(name)) return { label: name, under: [system, host].filter(Boolean).join(' · ') };
    return host ? { label: host, under: system } : { label: n.name, under: '' };
  }
  if (n.kind === 'queue') {
    const [, system, name] = /^([^/]+)\/(.+)$/.exec(n.name) ?? [];
    if (name) return { label: name, under: system };
  }
  return { label: n.name, under: '' };
}

// A card has room for two.
const nodeBadges = (n) => badgesOf(findingsOf(n)).slice(0, 2);

/** What it means that spans of b link to spans of a. */
export const linkedSentence = (a, b) => `Spans of ${b} link to spans of ${a}: they join its work, do it in a batch, or go on with it in a trace of their own. That is no call, and has no latency.`;

/** What a node is called where its id alone is known: without its namespace. */
export const shortName = (id) => id.replace(/^[^/:@]+\/(?=.)/, '');

/**
 * Moves columns and rows apart or together so that the picture fills the screen, and says how large cards can be; nothing
 * changes sides. Where cards would be too narrow for their names, the picture is larger than the screen, and scaled.
 */
function spread(items, screen) {
  const free = { w: Math.max(120, screen.width - 2 * frame.x), h: Math.max(120, screen.height - frame.top - frame.bottom) };
  let l = Infinity, r = -Infinity, t = Infinity, b = -Infinity;
  for (const it of items) { l = Math.min(l, it.x); r = Math.max(r, it.x); t = Math.min(t, it.y); b = Math.max(b, it.y); }
  const columns = items.length ? (r - l) / step.x : 0, rows = items.length ? (b - t) / step.y : 0;
  const within = (lo, v, hi) => Math.min(hi, Math.max(lo, v));
  // One scale for both; what the tighter side asks for gives the other one room.
  const k = Math.min(1, free.w / (columns * (card.least + card.gapX) + card.least), free.h / (rows * (card.h + card.gapY) + card.h));
  const w = within(card.least, (free.w / k - columns * card.gapX) / (columns + 1), card.w);
  const pitch = {
    x: columns ? within(w + card.gapX, (free.w / k - w) / columns, 1.6 * step.x) : step.x,
    y: rows ? within(card.h + card.gapY, (free.h / k - card.h) / rows, k < 0.6 ? 5 * step.y : 1.6 * step.y) : step.y,
  };
  for (const it of items) { it.x *= pitch.x / step.x; it.y *= pitch.y / step.y; }
  return { pitch, size: { w, h: card.h } };
}

const median = (v) => v.sort((a, b) => a - b)[v.length >> 1];

/**
 * Moves items together: the columns and rows that the server gave keep their order, what is empty goes. For a screen higher
 * than wide, columns become rows as wide as leaves the cards largest.
 */
export function compact(items, upright = null) {
  if (!items.length) return;
  const byX = [...items].sort((a, b) => a.x - b.x || a.y - b.y || (a.id < b.id ? -1 : 1));
  const columns = [];
  for (const it of byX) {
    const last = columns.at(-1);
    if (last && it.x - last[0].x < step.x / 2) last.push(it);
    else columns.push([it]);
  }
  for (const c of columns) c.sort((a, b) => a.y - b.y || (a.id < b.id ? -1 : 1));
  (upright ? stacked(columns, items.length, upright) : abreast(columns, items.length)).forEach((c, i) => c.forEach((it, j) => {
    it.x = i * step.x;
    it.y = (j - (c.length - 1) / 2) * step.y;
  }));
}

function abreast(columns, n) {
  const ideal = Math.max(1, Math.round(Math.sqrt(n * 1.6 * step.y / step.x)));
  const rows = Math.max(3, Math.ceil(n / ideal));
  // When there are too many; none gets higher than the screen wants.
  return split(columns.length > ideal * 1.5 ? merged(columns, rows) : columns, Math.ceil(rows * 1.3));
}

// Columns that are rows on the screen, of so many beside each other that what is drawn is largest.
function stacked(columns, n, screen) {
  let best = null, most = 0;
  for (let across = 1; across <= Math.min(n, 24); across++) {
    // Who calls whom reads best from row to row: rows become one only where that gains much.
    for (const [list, worth] of [[split(columns, across), 1], [split(merged(columns, across), across), 0.8]]) {
      const wide = Math.max(...list.map((c) => c.length));
      const k = worth * Math.min(1, screen.width / (wide * (card.least + card.gapX)), screen.height / (list.length * (card.h + card.gapY)));
      if (!best || k > most) [best, most] = [list, k];
    }
  }
  return best;
}

// Neighbouring columns that fit into one of so many rows become one.
function merged(columns, rows) {
  const list = [];
  for (const c of columns) {
    const last = list.at(-1);
    if (last && last.length + c.length <= rows) last.push(...c);
    else list.push([...c]);
  }
  for (const c of list) c.sort((a, b) => a.y - b.y || (a.id < b.id ? -1 : 1));
  return list;
}

// Columns higher than so many rows become several.
const split = (columns, rows) => columns.flatMap((c) => {
  const k = Math.ceil(c.length / rows);
  return Array.from({ length: k }, (_, i) => c.filter((_, j) => j % k === i));
});
