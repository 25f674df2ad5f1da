// What of the graph is drawn, and where: whole, a neighbourhood, only what is wrong, or collapsed into groups.

export const step = { x: 304, y: 92 }; // as in web/layout
export const card = { w: 200, h: 68 };
const whole = 500; // more nodes than this are collapsed

const rankOf = { unknown: 0, ok: 1, warn: 2, critical: 3 };
export const worse = (a, b) => ((rankOf[b] ?? 0) > (rankOf[a] ?? 0) ? b : a);
export const severity = (h) => rankOf[h] ?? 0;
export const faulty = (h) => h === 'warn' || h === 'critical';

/** The one figure that is wrong with an edge, in words; "" when nothing is. */
export function wrong(e) {
  if (!faulty(e.health)) return '';
  return pretty(e.reasons?.[0] ?? e.anomaly?.reasons?.[0] ?? '');
}

/** A reason as the server gives it, "p95 82ms, 14x", as people write it: "p95 82 ms, ↑14x". */
export const pretty = (reason) => reason.replace(/(\d)(ms|s)\b/g, '$1 $2').replace(/^(p\d+ .*), (\d)/, '$1, ↑$2');

/** Names the group a node belongs to when the map is collapsed: its namespace, else its kind or its name's first part. */
export function groupOf(n) {
  if (n.namespace) return n.namespace;
  switch (n.kind) {
    case 'database': case 'cache': return 'data stores';
    case 'queue': return 'queues';
    case 'external': return 'third parties';
    case 'user': case 'unknown': return 'callers';
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

/**
 * Returns {items, links, pitch, portrait, hidden, grouped}: items have a place, links join items by index, pitch is how far
 * apart columns and rows are. On a screen higher than wide the picture reads downwards.
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
      items.push({ id: n.id, name: n.name, label: label(n), kind: n.kind, health: n.health, x: n.x ?? 0, y: n.y ?? 0, node: n });
      continue;
    }
    let g = groups.get(name);
    if (!g) {
      g = { id: `group ${name}`, name, label: name, kind: 'group', health: 'unknown', x: 0, y: 0, group: { name, nodes: [], rate: 0, errors: 0, bad: 0 } };
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
      l = { id: key, s, t, edge: grouped ? null : e, edges: [], ill: 0, rate: 0, health: 'unknown', async: e.protocol === 'messaging', lane: 0, gap: gap(e) };
      byPair.set(key, l);
      links.push(l);
    }
    l.edges.push(e);
    l.rate += e.rate ?? 0;
    if (faulty(e.health)) l.ill++;
    l.health = worse(l.health, e.health);
    if (!l.edge) l.worst = !l.worst || severity(e.health) > severity(l.worst.health) ? e : l.worst;
  }
  // Edges between the same two nodes, of several protocols or in both directions, run side by side.
  const lanes = new Map();
  for (const l of links) {
    const k = `${Math.min(l.s, l.t)} ${Math.max(l.s, l.t)}`;
    l.lane = lanes.get(k) ?? 0;
    lanes.set(k, l.lane + 1);
  }
  if (keep || collapse) compact(items);
  const pitch = portrait ? { x: 224, y: 132 } : { ...step };
  if (portrait) for (const it of items) [it.x, it.y] = [(it.y / step.y) * pitch.x, (it.x / step.x) * pitch.y];
  const stretched = stretch(items, screen);
  pitch.x *= stretched.x;
  pitch.y *= stretched.y;
  for (const l of links) {
    if (items[l.s].node) items[l.s].sends = (items[l.s].sends ?? 0) + l.rate;
  }
  return { items, links, pitch, portrait, hidden: nodes.length - shown.length, grouped: groups.size };
}

// A gap in the line says which side of the calls was not seen, where it usually is.
function gap(e) {
  if (e.server_missing > e.calls / 2) return 'server';
  if (e.client_missing > e.calls / 2) return 'client';
  return '';
}

// On the map the icon says what a data store is; its own name is what tells it from others.
const label = (n) => (n.kind === 'database' || n.kind === 'cache' ? n.name.replace(/\/\d+(?=@|$)/, '').replace(/^[^/@]+\/(?=.)/, '') : n.name);

/** What a node is called where its id alone is known: without its namespace. */
export const shortName = (id) => id.replace(/^[^/:@]+\/(?=.)/, '');

// Pulls columns or rows apart, so that the picture has the shape of the screen; nothing changes sides.
function stretch(items, screen) {
  const spread = (k) => Math.max(...items.map((it) => it[k])) - Math.min(...items.map((it) => it[k]));
  if (items.length < 2 || items.length > 5000 || !(screen.width > 0 && screen.height > 0)) return { x: 1, y: 1 };
  const w = spread('x') + card.w, h = spread('y') + card.h;
  const ratio = w / h / (screen.width / Math.max(120, screen.height - 80));
  const x = ratio > 1 ? Math.max(0.84, ratio ** -0.5) : Math.min(1.6, 1 / ratio);
  const y = ratio > 1 ? Math.min(screen.width < screen.height ? 3 : 2, ratio * x) : 1;
  for (const it of items) { it.x *= x; it.y *= y; }
  return { x, y };
}

const median = (v) => v.sort((a, b) => a - b)[v.length >> 1];

/** Moves items together: the columns and rows that the server gave keep their order, what is empty goes. */
export function compact(items) {
  if (!items.length) return;
  const ideal = Math.max(1, Math.round(Math.sqrt(items.length * 1.6 * step.y / step.x)));
  const byX = [...items].sort((a, b) => a.x - b.x || a.y - b.y || (a.id < b.id ? -1 : 1));
  let columns = [];
  for (const it of byX) {
    const last = columns.at(-1);
    if (last && it.x - last[0].x < step.x / 2) last.push(it);
    else columns.push([it]);
  }
  const rows = Math.max(3, Math.ceil(items.length / ideal));
  // Neighbouring columns that fit into one become one, when there are too many; none gets higher than the screen wants.
  if (columns.length > ideal * 1.5) {
    const merged = [];
    for (const c of columns) {
      const last = merged.at(-1);
      if (last && last.length + c.length <= rows) last.push(...c);
      else merged.push([...c]);
    }
    columns = merged;
  }
  const split = [];
  for (const c of columns) {
    c.sort((a, b) => a.y - b.y || (a.id < b.id ? -1 : 1));
    const k = Math.ceil(c.length / Math.max(rows, Math.ceil(rows * 1.3)));
    for (let i = 0; i < k; i++) split.push(c.filter((_, j) => j % k === i));
  }
  split.forEach((c, i) => c.forEach((it, j) => {
    it.x = i * step.x;
    it.y = (j - (c.length - 1) / 2) * step.y;
  }));
}
