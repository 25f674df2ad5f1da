// The picture: nodes and links on a canvas. The base picture is drawn once into a bitmap and moved while the viewer drags;
// what is pointed at is drawn over it, so that neither costs the whole graph.

import { Taken } from './boxes.js';
import { arrow, distance, line, point } from './curves.js';
import * as f from './format.js';
import { drawKind } from './kinds.js';
import { badgeWidth, drawHealth, font, paintBadge, paintLabels, placeLabels, said } from './labels.js';
import { drawSpark } from './sparks.js';
import { faulty, frame, severity } from './view.js';

const smallCard = 0.7; // the scale from which cards are drawn, below it discs
const fullCard = 172; // px: the width from which a card has its figures in columns, with words
const margin = 0.35; // how much more than the screen the bitmap holds, on each side
const mayHide = 0.12; // of a name, that lies on what is there
const quick = 9; // ms: a base picture that is drawn faster than this is drawn anew in every frame
const calm = matchMedia('(prefers-reduced-motion: reduce)');

const within = (least, v, most) => Math.min(most, Math.max(least, v)); // of a card that is seen close, what is said stays in proportion
const ease = (t) => 1 - (1 - t) ** 3;

export class MapView extends EventTarget {
  view = { items: [], links: [], pitch: { x: 1, y: 1 }, size: { w: 1, h: 1 }, portrait: false, hidden: 0, grouped: 0 };
  inset = { right: 0, bottom: 0 }; // what of the screen the panel covers
  camera = { x: 0, y: 0, k: 1 }; // screen = world·k + (x, y)
  hover = null; // {item} or {link}: what the pointer is on
  cursor = null; // {id, x, y}: where the keys have walked to; it stays where it is when news come
  sparks = new Map(); // by node: what it was asked for over time
  selected = null; // a function: is this item or link selected?
  focus = null; // Map of item index → distance, or null
  frames = 0;
  spent = 0; // ms in all frames
  dragging = false;
  drawn = 0; // ms that the last base picture took
  #base; #baseCamera = null; #dirty = true; #frame = 0; #settle = 0;
  #colours = {}; #text = new Map(); #pulses = new Map(); #flight = null; #shown = new Map(); #tween = 0;
  #index = new Map(); #out = []; #touched = false; #held = false; #labels = []; #names = new Map(); #pointer = null;

  constructor(canvas, tip) {
    super();
    this.canvas = canvas;
    this.tip = tip;
    this.ctx = canvas.getContext('2d', { alpha: false });
    this.#base = document.createElement('canvas');
    this.restyle();
    new ResizeObserver(() => this.#resize()).observe(canvas.parentElement);
    this.#listen();
  }

  get width() { return this.canvas.clientWidth; }
  get height() { return this.canvas.clientHeight; }
  get slow() { return this.drawn >= quick; } // to draw: the picture is moved as a whole while the viewer drags

  /** Takes colours from the style sheet again, after a change of theme. */
  restyle() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ['bg', 'surface', 'ink', 'ink-2', 'line', 'accent', 'ok', 'warn', 'critical', 'unknown', 'edge', 'warn-soft', 'critical-soft', 'warn-text', 'critical-text']) {
      this.#colours[name] = style.getPropertyValue(`--${name}`).trim();
    }
    this.refresh();
  }

  /** Shows another selection of the graph. Fits it into the screen when the viewer has not moved the picture himself. */
  show(view, { fit = false } = {}) {
    this.view = view;
    this.#index = new Map(view.items.map((it, i) => [it.id, i]));
    this.#out = view.items.map(() => []);
    view.links.forEach((l, i) => {
      this.#out[l.s].push(i);
      if (l.t !== l.s) this.#out[l.t].push(i);
    });
    this.#tweenFigures();
    if (fit || !(this.#touched || this.#held)) this.fit(!fit || !this.#baseCamera);
    const at = view.items[this.#index.get(this.cursor?.id)];
    if (at) this.cursor = { id: at.id, x: at.x, y: at.y };
    this.#point(this.#pointer, true);
    this.refresh();
  }

  /** A thin pulse runs once along links whose state changed. */
  pulse(edgeIds) {
    if (calm.matches) return;
    const changed = new Set(edgeIds);
    const now = performance.now();
    this.view.links.forEach((l) => {
      if (l.edges.some((e) => changed.has(e.id))) this.#pulses.set(l.id, now);
    });
    this.draw();
  }

  /** Sets which links and items belong to what is selected; the rest is dimmed. */
  setFocus(distances) {
    this.focus = distances;
    this.draw();
  }

  indexOf(id) { return this.#index.get(id); }

  /** Whether nothing moves: what is at a point stays there. */
  get still() { return !this.#flight && !this.dragging; }

  /** Sets the keys' cursor on an item, in sight. */
  walkTo(i) {
    const { id, x, y } = this.view.items[i];
    this.cursor = { id, x, y };
    this.#pointer = null; // the hand is on the keys
    this.#point(null);
    this.reveal([i]);
    this.draw();
  }

  /** The whole picture into the screen, at once or in a short flight. */
  fit(instant = false) {
    this.#touched = this.#held = false;
    this.#fly(this.#fitted(this.view.items), instant);
  }

  /** Brings items into sight, gently, and only as far as they are not. */
  reveal(indices) {
    const items = indices.map((i) => this.view.items[i]).filter(Boolean);
    if (!items.length) return;
    const { w, h } = this.view.size;
    let { x, y, k } = this.#flight?.to ?? this.camera;
    const span = (key, half) => [Math.min(...items.map((it) => it[key])) - half, Math.max(...items.map((it) => it[key])) + half];
    const [l, r] = span('x', w / 2), [t, b] = span('y', h / 2);
    const width = this.width - this.inset.right, height = this.height - this.inset.bottom, edge = 16;
    const fits = Math.min((width - 2 * edge) / (r - l), (height - 2 * edge) / (b - t));
    const seen = (low, high, from, most) => low * k + from >= 0 && high * k + from <= most;
    if (seen(l, r, x, width) && seen(t, b, y, height)) return;
    const to = Math.min(Math.max(k, smallCard), Math.max(fits, k * 0.5));
    if (to !== k) [x, y] = [width / 2 - (width / 2 - x) * to / k, height / 2 - (height / 2 - y) * to / k];
    k = to;
    const shift = (low, high, from, most) => from + Math.max(edge - low * k - from, 0) + Math.min(most - edge - high * k - from, 0);
    this.#held = true;
    this.#fly({ k, x: shift(l, r, x, width), y: shift(t, b, y, height) });
  }

  /** What reveal moved goes back to its place with the next fit. */
  release() { this.#held = false; }

  zoom(by, sx = this.width / 2, sy = this.height / 2) {
    const { x, y, k } = this.camera;
    const to = Math.min(2.5, Math.max(this.#fitted(this.view.items).k * 0.5, k * by));
    this.#touched = true;
    this.#flight = null;
    this.camera = { k: to, x: sx - (sx - x) * to / k, y: sy - (sy - y) * to / k };
    this.draw();
  }

  pan(dx, dy) {
    this.#touched = true;
    this.#flight = null;
    this.camera = { ...this.camera, x: this.camera.x + dx, y: this.camera.y + dy };
    this.draw();
  }

  /** The base picture is drawn anew in the next frame. */
  refresh() {
    this.#dirty = true;
    this.draw();
  }

  draw() {
    if (!this.#frame) this.#frame = requestAnimationFrame((t) => this.#paint(t));
  }

  // Geometry

  #fitted(items) {
    if (!items.length) return { k: 1, x: this.width / 2, y: this.height / 2 };
    let l = Infinity, r = -Infinity, t = Infinity, b = -Infinity;
    for (const it of items) {
      l = Math.min(l, it.x); r = Math.max(r, it.x);
      t = Math.min(t, it.y); b = Math.max(b, it.y);
    }
    const { w, h } = this.view.size;
    l -= w / 2; r += w / 2; t -= h / 2; b += h / 2;
    const height = this.height - frame.top - frame.bottom; // a sheet from below covers too much to fit the rest: see reveal
    const scale = (width) => Math.max(0.02, Math.min(1.1, (width - 2 * frame.x) / (r - l), height / (b - t)));
    // A panel beside the picture makes it smaller as long as that leaves cards; else it covers what is not looked at.
    let width = Math.max(160, this.width - this.inset.right), k = scale(width);
    if (k < smallCard && scale(this.width) >= smallCard) [width, k] = [this.width, scale(this.width)];
    return { k, x: width / 2 - (l + r) / 2 * k, y: frame.top + height / 2 - (t + b) / 2 * k };
  }

  #fly(to, instant = false) {
    if (instant || calm.matches || !this.#baseCamera) {
      this.#flight = null;
      this.camera = to;
    } else {
      this.#flight = { from: { ...this.camera }, to, start: performance.now() };
    }
    this.draw();
  }

  get #narrow() { return this.width < 600; }

  get #discs() { return this.camera.k < smallCard; }

  #radius(it) {
    const most = Math.max(2.2, Math.min(this.view.pitch.x, this.view.pitch.y) * this.camera.k * 0.44);
    if (it.group) return Math.min(most, 7 + Math.min(9, Math.sqrt(it.group.nodes.length)));
    const rate = it.node?.rate ?? it.sends ?? 0;
    return Math.min(most, 4 + Math.min(5, Math.log10(1 + rate) * 1.6));
  }

  /** The link's curve in screen coordinates: x0 y0 c1x c1y c2x c2y x1 y1. */
  #curve(l) {
    const a = this.view.items[l.s], b = this.view.items[l.t];
    const { x, y, k } = this.camera;
    const discs = this.#discs;
    const aw = discs ? this.#radius(a) : this.view.size.w / 2 * k, ah = discs ? aw : this.view.size.h / 2 * k;
    const bw = discs ? this.#radius(b) : this.view.size.w / 2 * k, bh = discs ? bw : this.view.size.h / 2 * k;
    const ax = a.x * k + x, ay = a.y * k + y, bx = b.x * k + x, by = b.y * k + y;
    const lane = l.lane * 7 * Math.min(1, k * 1.5);
    if (l.s === l.t) {
      const d = 26 * Math.max(k, 0.4);
      return [ax + aw * 0.5, ay - ah, ax + aw * 0.5 + d * .2, ay - ah - d * 1.4, ax + aw + d * 1.4, ay - ah * 0.2 - d, ax + aw, ay - ah * 0.3];
    }
    if (this.view.portrait) {
      if (b.y > a.y) {
        const c = Math.max(8 * k, (by - bh - ay - ah) * 0.48);
        return [ax + lane, ay + ah, ax + lane, ay + ah + c, bx + lane, by - bh - c, bx + lane, by - bh];
      }
      if (b.y === a.y && Math.abs(b.x - a.x) < this.view.pitch.x * 1.6) { // the next one in the row
        const on = b.x < a.x ? -1 : 1, from = ax + aw * on, to = bx - bw * on;
        return [from, ay + lane, from + (to - from) * 0.4, ay + lane, to - (to - from) * 0.4, by + lane, to, by + lane];
      }
      const c = (50 + Math.abs(ay - by) / k * 0.12) * k;
      return [ax + aw, ay + lane, ax + aw + c, ay + lane, bx + bw + c, by + lane, bx + bw, by + lane];
    }
    if (b.x > a.x) {
      const c = Math.max(10 * k, (bx - bw - ax - aw) * 0.48);
      return [ax + aw, ay + lane, ax + aw + c, ay + lane, bx - bw - c, by + lane, bx - bw, by + lane];
    }
    if (b.x === a.x && Math.abs(b.y - a.y) < this.view.pitch.y * 1.6) { // the next one in the column
      const up = b.y < a.y ? -1 : 1, from = ay + ah * up, to = by - bh * up;
      return [ax + lane, from, ax + lane, from + (to - from) * 0.4, bx + lane, to - (to - from) * 0.4, bx + lane, to];
    }
    if (b.x === a.x) {
      const c = (46 + Math.abs(ay - by) / k * 0.1) * k;
      return [ax + aw, ay + lane, ax + aw + c, ay + lane, bx + bw + c, by + lane, bx + bw, by + lane];
    }
    const c = (54 + (ax - bx) / k * 0.1) * k; // a call back: below
    return [ax + lane, ay + ah, ax + lane, ay + ah + c, bx + lane, by + bh + c, bx + lane, by + bh];
  }

  // Painting

  #resize() {
    const dpr = devicePixelRatio || 1;
    const w = Math.max(1, Math.round(this.width * dpr)), h = Math.max(1, Math.round(this.height * dpr));
    if (this.canvas.width === w && this.canvas.height === h) return;
    this.canvas.width = w;
    this.canvas.height = h;
    this.#dirty = true;
    this.dispatchEvent(new Event('resize'));
    if (!(this.#touched || this.#held)) this.fit(true);
    this.draw();
  }

  #paint(now) {
    this.#frame = 0;
    if (!this.width || !this.height) return; // not shown: the table is
    this.frames++;
    const began = performance.now();
    let again = false;
    if (this.#flight) {
      const t = Math.min(1, (now - this.#flight.start) / 260), e = ease(t), { from, to } = this.#flight;
      this.camera = { k: from.k + (to.k - from.k) * e, x: from.x + (to.x - from.x) * e, y: from.y + (to.y - from.y) * e };
      if (t < 1) again = true;
      else {
        this.#flight = null;
        this.#point(this.#pointer);
      }
    }
    if (this.#tween) {
      if (now - this.#tween > 400) this.#tween = 0;
      else again = true;
      if (!this.slow || !this.#tween) this.#dirty = true;
    }
    const c = this.camera, bc = this.#baseCamera;
    const moved = !bc || bc.x !== c.x || bc.y !== c.y || bc.k !== c.k;
    if (bc && this.slow && (moved || this.dragging) && (!this.#dirty || this.dragging)) {
      clearTimeout(this.#settle);
      this.#settle = setTimeout(() => (this.dragging ? this.draw() : this.refresh()), 160);
    } else if (moved || this.#dirty) {
      clearTimeout(this.#settle);
      const start = performance.now();
      this.#paintBase();
      this.drawn = performance.now() - start;
      this.#dirty = false;
    }
    this.#blit();
    this.#paintOver(now);
    this.spent += performance.now() - began;
    if (again || this.#pulses.size) this.draw();
    this.dispatchEvent(new Event('frame'));
  }

  #blit() {
    const { ctx } = this, dpr = devicePixelRatio || 1, bc = this.#baseCamera, c = this.camera;
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.fillStyle = this.#colours.bg;
    ctx.fillRect(0, 0, this.canvas.width, this.canvas.height);
    const s = c.k / bc.k, m = bc.margin;
    ctx.imageSmoothingEnabled = s !== 1;
    const x = (c.x - bc.x * s - m.x * s) * dpr, y = (c.y - bc.y * s - m.y * s) * dpr;
    if (s === 1) ctx.drawImage(this.#base, Math.round(x), Math.round(y));
    else ctx.drawImage(this.#base, x, y, this.#base.width * s, this.#base.height * s);
  }

  #paintBase() {
    const dpr = devicePixelRatio || 1;
    // Only what is slow to draw is drawn beyond the edges of the screen.
    const m = this.view.links.length > 800 ? { x: Math.round(this.width * margin), y: Math.round(this.height * margin) } : { x: 0, y: 0 };
    const w = Math.round((this.width + 2 * m.x) * dpr), h = Math.round((this.height + 2 * m.y) * dpr);
    if (this.#base.width !== w || this.#base.height !== h) {
      this.#base.width = w;
      this.#base.height = h;
    }
    const ctx = this.#base.getContext('2d', { alpha: false });
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
    ctx.fillStyle = this.#colours.bg;
    ctx.fillRect(0, 0, w, h);
    ctx.translate(m.x, m.y);
    this.#baseCamera = { ...this.camera, margin: m };
    const box = { l: -m.x, t: -m.y, r: this.width + m.x, b: this.height + m.y };
    const links = this.view.links.map((_, i) => i);
    this.#paintLinks(ctx, links, box, 1);
    this.#labels = this.#placeLabels(links, box);
    this.#names = this.#paintItems(ctx, this.view.items.map((_, i) => i), box, this.#labels);
    paintLabels(ctx, this.#labels, this.#colours, (text, fontOf) => this.#measure(text, fontOf));
  }

  #paintLinks(ctx, indices, box, strength) {
    const { links } = this.view;
    const n = this.view.links.length;
    const dotted = [];
    // The more there are, the quieter each: 10,000 hairlines must not be a wall.
    const alpha = strength > 1 ? 0.85 : Math.max(0.035, Math.min(0.5, 9 / Math.sqrt(n + 60) * 0.42));
    const quiet = new Map(), loud = [];
    for (const i of indices) {
      const l = links[i];
      const p = this.#curve(l);
      if (Math.max(p[0], p[2], p[4], p[6]) < box.l || Math.min(p[0], p[2], p[4], p[6]) > box.r ||
        Math.max(p[1], p[3], p[5], p[7]) < box.t || Math.min(p[1], p[3], p[5], p[7]) > box.b) continue;
      if (l.linked) { dotted.push(p); continue; }
      if (faulty(l.health) && !l.dim) { loud.push([l, p]); continue; }
      const width = this.#width(l, n);
      const key = `${width} ${l.async ? 1 : 0} ${l.health === 'unknown' ? 1 : 0}`;
      let q = quiet.get(key);
      if (!q) quiet.set(key, q = { width, async: l.async, unknown: l.health === 'unknown', curves: [] });
      q.curves.push([l, p]);
    }
    ctx.lineCap = 'butt';
    for (const q of quiet.values()) {
      ctx.strokeStyle = ctx.fillStyle = strength > 1 ? this.#colours.accent : this.#colours.edge;
      ctx.globalAlpha = q.unknown && strength <= 1 ? alpha * 0.75 : alpha;
      ctx.lineWidth = q.width;
      ctx.setLineDash(q.async ? [7, 5] : q.unknown ? [2, 3] : []);
      ctx.beginPath();
      for (const [l, p] of q.curves) line(ctx, p, l.gap);
      ctx.stroke();
      if (n <= 800 || strength > 1) {
        ctx.setLineDash([]);
        ctx.globalAlpha = Math.min(1, alpha * 1.5);
        ctx.beginPath();
        for (const [, p] of q.curves) arrow(ctx, p, 4 + q.width);
        ctx.fill();
      }
    }
    this.#paintDotted(ctx, dotted, alpha, strength);
    ctx.globalAlpha = 1;
    loud.sort((a, b) => severity(a[0].health) - severity(b[0].health));
    for (const [l, p] of loud) {
      const dense = n > 1500 ? 0.6 : 1;
      ctx.strokeStyle = ctx.fillStyle = this.#colours[l.health];
      // A bundle is as loud as the part of it that is ill.
      ctx.lineWidth = l.edge ? (this.#width(l, n) + 1.4) * dense : 1.25 + 3 * l.ill / l.edges.length;
      ctx.globalAlpha = n > 1500 && strength <= 1 ? 0.55 : 1;
      ctx.setLineDash(l.async ? [8, 5] : []);
      ctx.beginPath();
      line(ctx, p, l.gap);
      ctx.stroke();
      ctx.setLineDash([]);
      ctx.beginPath();
      arrow(ctx, p, 5.5 + ctx.lineWidth);
      ctx.fill();
    }
    ctx.globalAlpha = 1;
    ctx.setLineDash([]);
  }

  // Spans that link are no call: round dots and an open head, of one width.
  #paintDotted(ctx, curves, alpha, strength) {
    if (!curves.length) return;
    ctx.strokeStyle = strength > 1 ? this.#colours.accent : this.#colours.edge;
    ctx.globalAlpha = Math.min(1, alpha * 1.6);
    ctx.lineWidth = 2.6;
    ctx.lineCap = 'round';
    ctx.setLineDash([0, 7]);
    ctx.beginPath();
    for (const p of curves) line(ctx, p, '');
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.lineWidth = 1.5;
    ctx.beginPath();
    for (const p of curves) arrow(ctx, p, 7, true);
    ctx.stroke();
    ctx.lineCap = 'butt';
  }

  // Width is traffic: from a hairline at one call a second or less to 4 px at 10,000.
  #width(l, n) {
    const w = 1 + Math.min(3, Math.max(0, Math.log10(Math.max(l.rate, 1)) * 0.75));
    return n > 800 ? 1 : Math.round(w * 2) / 2;
  }

  /** Places what is said on some links, clear of the cards, of what is kept of the base, and of the screen's edges. */
  #placeLabels(indices, box, { lit = false, labels: kept = [], names = new Map(), others = [] } = {}) {
    const { links, items } = this.view;
    const { x, y, k } = this.camera;
    const discs = this.#discs;
    if (k < 0.16 && !this.#narrow && indices.filter((i) => said(links[i])).length > 40) return kept;
    const nodes = new Taken(), there = new Set(kept.map((l) => l.i));
    for (const it of items) {
      const w = discs ? this.#radius(it) + 2 : this.view.size.w / 2 * k, h = discs ? w : this.view.size.h / 2 * k;
      const sx = it.x * k + x, sy = it.y * k + y;
      if (sx <= box.l - 200 || sy <= box.t - 100 || sx >= box.r + 200 || sy >= box.b + 100) continue;
      nodes.add([sx - w, sy - h, sx + w, sy + h], discs && faulty(it.health) ? 6 : 1);
      if (!discs && it.badges?.length) nodes.add([sx + w - 16 - 20 * it.badges.length, sy + h - 9, sx + w - 8, sy + h + 9], 3);
    }
    for (const { place } of names.values()) nodes.add(place);
    for (const o of others) nodes.add(o);
    return [...kept, ...placeLabels(indices.filter((i) => !there.has(i)).map((i) => ({ i, link: links[i] })), {
      nodes, kept: kept.map((l) => l.box), lit, discs, narrow: this.#narrow, sight: [0, 0, this.width - this.inset.right, this.height - frame.bottom + 12], drawn: [box.l, box.t, box.r, box.b],
      curve: (l) => this.#curve(l), measure: (text, fontOf) => this.#measure(text, fontOf),
    })];
  }

  /** What the base says on some links and of some items, where it is now: said again over it, it is not said twice. */
  #keptOf(links, items) {
    const c = this.camera, bc = this.#baseCamera;
    if (c.k !== bc.k) return { lit: true };
    const dx = c.x - bc.x, dy = c.y - bc.y, on = new Set(links);
    const moved = ([l, t, r, b]) => [l + dx, t + dy, r + dx, b + dy];
    const labels = this.#labels.map((l) => ({ ...l, box: moved(l.box) })), kept = (l) => on.has(l.i) && this.view.links[l.i].id === l.id;
    return {
      lit: true, labels: labels.filter(kept), others: labels.filter((l) => !kept(l)).map((l) => l.box),
      names: new Map([...this.#names].filter(([id]) => items.has(this.#index.get(id))).map(([id, name]) => [id, { ...name, place: moved(name.place) }])),
    };
  }

  /** Returns the names that are drawn beside items, by id: {text, place}. */
  #paintItems(ctx, indices, box, labels, { all = false, names = new Map() } = {}) {
    const { k, x, y } = this.camera;
    const discs = this.#discs;
    const quietFirst = [...indices].sort((a, b) => severity(this.view.items[a].health) - severity(this.view.items[b].health));
    for (const i of quietFirst) {
      const it = this.view.items[i], sx = it.x * k + x, sy = it.y * k + y;
      const w = this.view.size.w * k, h = this.view.size.h * k;
      if (sx + w < box.l || sx - w > box.r || sy + h < box.t || sy - h > box.b) continue;
      if (discs) this.#paintDisc(ctx, it, i, sx, sy);
      else this.#paintCard(ctx, it, i, sx - w / 2, sy - h / 2, w, h, k);
    }
    return discs ? this.#paintNames(ctx, indices, box, all, labels, names) : names;
  }

  #paintCard(ctx, it, i, x, y, w, h, k) {
    const colours = this.#colours, bad = faulty(it.health), full = w >= fullCard;
    const selected = this.selected?.(it);
    const radius = Math.min(8, h / 5);
    if (it.group) { // a pile
      ctx.fillStyle = colours.surface;
      ctx.strokeStyle = colours.line;
      ctx.lineWidth = 1;
      for (const d of [6, 3]) {
        ctx.beginPath();
        ctx.roundRect(x + d, y + d, w, h, radius);
        ctx.fill();
        ctx.stroke();
      }
    }
    ctx.beginPath();
    ctx.roundRect(x, y, w, h, radius);
    ctx.fillStyle = colours.surface;
    ctx.fill();
    if (this.#unsure(it)) this.#hatch(ctx, x, y, w, h);
    const spark = this.sparks.get(it.id);
    if (spark) {
      ctx.save();
      ctx.clip();
      drawSpark(ctx, spark, x, y + h * 0.79, w, h * 0.21, colours, bad ? colours[it.health] : colours.edge); // what is over is quiet
      ctx.restore();
      ctx.beginPath();
      ctx.roundRect(x, y, w, h, radius);
    }
    ctx.lineWidth = selected ? 2.5 : bad ? 1.75 : 1;
    ctx.strokeStyle = selected ? colours.accent : bad ? colours[it.health] : colours.line;
    ctx.stroke();

    const pad = full ? 12 : 10, under = it.under !== '' && h >= 52;
    const cy = y + h * (h < 36 ? 0.5 : under ? 0.2 : 0.26);
    ctx.textBaseline = 'middle';
    ctx.textAlign = 'left';
    const loud = bad || this.#unsure(it); // quiet when healthy
    const room = w - pad - 21;
    let nameFont = `600 ${within(11.5, 12 * k, 15)}px ${font}`;
    if (this.#measure(it.label, nameFont) > room) nameFont = `600 11px ${font}`;
    drawKind(ctx, it.kind, x + pad + 4, cy, 5.5, colours['ink-2']);
    if (loud) { // on the corner, where it takes nothing of the name
      ctx.beginPath();
      ctx.arc(x + w - 5, y + 3, 9, 0, 7);
      ctx.fillStyle = colours.bg;
      ctx.fill();
      drawHealth(ctx, it.health, x + w - 5, y + 3, 6, colours);
    }
    it.badges?.forEach((badge, n) => { // on the edge below, where it takes nothing either
      const bw = badgeWidth(badge, (text, fontOf) => this.#measure(text, fontOf)), bx = x + w - 16 - (n + 1) * 20, by = y + h;
      ctx.beginPath();
      ctx.roundRect(bx - 4, by - 9, bw + 8, 18, 9);
      ctx.fillStyle = colours.bg;
      ctx.fill();
      paintBadge(ctx, badge, bx, by, bw, colours.bg, colours);
    });
    ctx.textBaseline = 'middle';
    ctx.textAlign = 'left';
    ctx.fillStyle = colours.ink;
    ctx.font = nameFont;
    ctx.fillText(this.#fit(it.label, nameFont, room, it.kind === 'external'), x + pad + 15, cy + 0.5);
    if (under) {
      ctx.font = `${within(10, 10 * k, 12.5)}px ${font}`;
      ctx.fillStyle = colours['ink-2'];
      ctx.fillText(this.#fit(it.under, ctx.font, w - pad - 4, true), x + pad, y + h * 0.43);
    }

    const shown = this.#figures(it);
    const low = y + h * (under ? 0.66 : 0.6); // above the curve
    if (full && !under) {
      const size = within(11, 12 * k, 14);
      const columns = it.group ? [[f.rate(shown.rate), 'calls'], [`${it.group.nodes.length}`, 'nodes'], ...(it.group.bad ? [[`${it.group.bad}`, 'unwell']] : [])] :
        it.node.rate == null ? (it.sends ? [[f.rate(it.sends), 'sends']] : [[f.none, 'no calls']]) :
          [[f.rate(shown.rate), 'rate'], [f.share(shown.errors), 'errors'], [f.duration(shown.p95), 'p95']];
      columns.forEach(([value, word], c) => {
        const cx = x + pad + (w - 2 * pad) * c / 3;
        ctx.font = `500 ${size}px ${font}`;
        ctx.fillStyle = bad && (it.group ? c === 2 : c === 1 && shown.errors > 0.005) ? colours[`${it.health}-text`] : colours.ink;
        ctx.fillText(value, cx, y + h * 0.53);
        ctx.font = `${within(10, 10 * k, 12)}px ${font}`;
        ctx.fillStyle = colours['ink-2'];
        ctx.fillText(word, cx, y + h * 0.73);
      });
    } else if (h >= 36) {
      ctx.font = `${within(10.5, 11 * k, 14)}px ${font}`;
      ctx.fillStyle = bad ? colours[`${it.health}-text`] : colours['ink-2'];
      ctx.fillText(this.#short(it, shown, ctx.font, w - 2 * pad), x + pad, low);
    }
  }

  // As many of a node's figures as there is room for; the most telling ones stay.
  #short(it, shown, fontOf, width) {
    if (it.group) return `${f.things(it.group.nodes.length, 'nodes')}${it.group.bad ? `, ${it.group.bad} unwell` : ''}`;
    if (it.node.rate == null) return it.sends ? `sends ${f.rate(it.sends)}` : 'no calls';
    const r = f.rate(shown.rate), e = f.share(shown.errors), p = f.duration(shown.p95);
    const telling = shown.errors > 0.005 ? [[r, e, p], [e, p], [e]] : [[r, e, p], [r, p], [p]];
    for (const t of telling) {
      const text = t.filter((v) => v !== f.none).join(' · ');
      if (this.#measure(text, fontOf) <= width) return text;
    }
    return '';
  }

  // Too few calls to judge is unsure; whom nobody calls there is nothing to judge of.
  #unsure(it) { return it.health === 'unknown' && (it.group || it.node.rate != null); }

  #paintDisc(ctx, it, i, x, y) {
    const colours = this.#colours, r = this.#radius(it), bad = faulty(it.health), { k } = this.camera;
    ctx.beginPath();
    ctx.arc(x, y, r, 0, 7);
    ctx.fillStyle = it.health === 'unknown' ? colours.surface : bad ? colours[it.health] : colours.ok;
    ctx.fill();
    ctx.lineWidth = this.selected?.(it) ? 3 : 1.5;
    ctx.strokeStyle = this.selected?.(it) ? colours.accent : it.health === 'unknown' ? colours.unknown : colours.bg;
    if (this.#unsure(it)) ctx.setLineDash([2, 2]);
    ctx.stroke();
    ctx.setLineDash([]);
    if (r < 4) return;
    ctx.textAlign = 'center';
    ctx.textBaseline = 'middle';
    ctx.fillStyle = colours.surface;
    if (bad) { // the shape says it too
      ctx.font = `700 ${Math.max(8, r * 1.3)}px ${font}`;
      ctx.fillText(it.health === 'critical' ? '×' : '!', x, y + 0.5);
    } else if (it.group) {
      ctx.font = `600 9px ${font}`;
      ctx.fillText(String(it.group.nodes.length), x, y + 0.5);
    }
  }

  /** Names under discs: first of what is wrong, then of what is big, where there is room. Those in kept stay where they are. */
  #paintNames(ctx, indices, box, all, labels, kept) {
    const { k, x, y } = this.camera, { items } = this.view, colours = this.#colours;
    const taken = new Taken(), names = new Map(kept);
    for (const l of labels) taken.add(l.box);
    for (const { place } of kept.values()) taken.add(place);
    const near = indices.filter((i) => {
      const sx = items[i].x * k + x, sy = items[i].y * k + y;
      return sx > box.l - 40 && sx < box.r + 40 && sy > box.t - 40 && sy < box.b + 40;
    });
    if (near.length <= 700) {
      for (const i of near) {
        const sx = items[i].x * k + x, sy = items[i].y * k + y, r = this.#radius(items[i]);
        taken.add([sx - r, sy - r, sx + r, sy + r]);
      }
    }
    const order = near.sort((a, b) => severity(items[b].health) - severity(items[a].health) || (items[b].node?.rate ?? 1e9) - (items[a].node?.rate ?? 1e9) || a - b);
    ctx.textAlign = 'left';
    ctx.textBaseline = 'top';
    ctx.lineJoin = 'round';
    ctx.lineWidth = 3;
    ctx.strokeStyle = colours.bg;
    let room = near.length <= 700 ? 250 : 60;
    for (const i of order) {
      const it = items[i], bad = faulty(it.health);
      if (room-- <= 0 || (near.length > 700 && !bad && !all)) break;
      const fontOf = `${bad ? 600 : 400} 11px ${font}`;
      const name = names.get(it.id) ?? this.#placeName(it, fontOf, box, taken, { whole: near.length <= 100, must: bad || all });
      if (!name) continue;
      if (!names.has(it.id)) taken.add(name.place);
      names.set(it.id, name);
      const [l, t] = name.place;
      ctx.font = fontOf;
      ctx.strokeText(name.text, l + 2, t);
      ctx.fillStyle = bad || all ? colours.ink : colours['ink-2'];
      ctx.fillText(name.text, l + 2, t);
    }
    return names;
  }

  /** A place for the name of a disc, {text, place}: below it, beside it or above it; undefined where there is none. What must be said may hide a little. */
  #placeName(it, fontOf, box, taken, { whole, must }) {
    const { k, x, y } = this.camera, gap = this.#radius(it) + 3, sx = it.x * k + x, sy = it.y * k + y;
    const least = Math.max(must ? 120 : 72, this.view.pitch.x * k - 8);
    let text, places, inside;
    // The whole name where it has room, else a shorter one.
    for (const most of whole ? [170, least] : [least]) {
      text = this.#fit(it.label, fontOf, most);
      const w = this.#measure(text, fontOf) + 4;
      places = [[sx - w / 2, sy + gap], [sx + gap, sy - 7], [sx - w / 2, sy - gap - 13], [sx - gap - w, sy - 7]].map(([x0, y0]) => [x0, y0, x0 + w, y0 + 13]);
      // In sight, where the disc is.
      const { l, t, r, b } = sx > 0 && sx < this.width && sy > 0 && sy < this.height ? { l: 0, t: 0, r: this.width, b: this.height } : box;
      inside = places.filter((p) => p[0] > l && p[2] < r && p[1] > t && p[3] < b);
      const free = inside.find((p) => taken.under(p) <= 6);
      if (free) return { text, place: free };
    }
    if (!must) return undefined;
    // Where it hides the least, unless that is too much: names on each other are none.
    const hidden = new Map((inside.length ? inside : places).map((p) => [p, taken.under(p)]));
    const place = [...hidden.keys()].reduce((a, b) => (hidden.get(b) < hidden.get(a) ? b : a));
    return hidden.get(place) <= mayHide * (place[2] - place[0]) * (place[3] - place[1]) ? { text, place } : undefined;
  }

  #hatch(ctx, x, y, w, h) {
    ctx.save();
    ctx.clip();
    ctx.beginPath();
    for (let d = -h; d < w; d += 8) {
      ctx.moveTo(x + d, y + h);
      ctx.lineTo(x + d + h, y);
    }
    ctx.strokeStyle = this.#colours.line;
    ctx.globalAlpha = 0.7;
    ctx.lineWidth = 1;
    ctx.stroke();
    ctx.restore();
    const radius = Math.min(8, h / 5);
    ctx.beginPath();
    ctx.roundRect(x, y, w, h, radius);
  }

  /** Over the base: a veil and what is in focus, then pulses. */
  #paintOver(now) {
    const { ctx } = this, dpr = devicePixelRatio || 1;
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
    const box = { l: 0, t: 0, r: this.width, b: this.height };
    let items = null, links = null;
    const cursor = document.activeElement === this.canvas ? this.#index.get(this.cursor?.id) : undefined;
    const on = this.hover ? this.hover.item : cursor;
    if (on != null) {
      links = this.#out[on];
      items = new Set([on]);
      for (const i of links) items.add(this.view.links[i].s).add(this.view.links[i].t);
    } else if (this.hover?.link != null) {
      const l = this.view.links[this.hover.link];
      links = [this.hover.link];
      items = new Set([l.s, l.t]);
    } else if (this.focus) {
      items = new Set(this.focus.items);
      links = this.focus.links;
    }
    if (items) {
      ctx.globalAlpha = 0.66;
      ctx.fillStyle = this.#colours.bg;
      ctx.fillRect(0, 0, this.width, this.height);
      ctx.globalAlpha = 1;
      this.#paintLinks(ctx, links, box, 2);
      const kept = this.#keptOf(links, items), labels = this.#placeLabels(links, box, kept);
      this.#paintItems(ctx, [...items], box, labels, { all: items.size <= 60, names: kept.names });
      paintLabels(ctx, labels, this.#colours, (text, fontOf) => this.#measure(text, fontOf));
    }
    if (cursor !== undefined) this.#paintCursor(ctx, this.view.items[cursor]);
    for (const [id, start] of this.#pulses) {
      const l = this.view.links.find((x) => x.id === id);
      const t = (now - start) / 900;
      if (!l || t >= 1) { this.#pulses.delete(id); continue; }
      const [x, y] = point(this.#curve(l), ease(Math.max(0, t)));
      ctx.beginPath();
      ctx.arc(x, y, 4, 0, 7);
      ctx.fillStyle = this.#colours[l.health] ?? this.#colours.accent;
      ctx.globalAlpha = 1 - Math.max(0, t) * 0.6;
      ctx.fill();
      ctx.globalAlpha = 1;
    }
  }

  /** A ring around what Enter would open. */
  #paintCursor(ctx, it) {
    const { k, x, y } = this.camera, gap = 4, sx = it.x * k + x, sy = it.y * k + y;
    ctx.strokeStyle = this.#colours.accent;
    ctx.lineWidth = 2;
    ctx.beginPath();
    if (this.#discs) ctx.arc(sx, sy, this.#radius(it) + gap, 0, 7);
    else ctx.roundRect(sx - this.view.size.w / 2 * k - gap, sy - this.view.size.h / 2 * k - gap, this.view.size.w * k + 2 * gap, this.view.size.h * k + 2 * gap, 10);
    ctx.stroke();
  }

  // Figures move to their new values, places do not.

  #figures(it) {
    const want = it.group ?
      { rate: it.group.rate, errors: it.group.rate ? it.group.errors / it.group.rate : null, p95: null } :
      { rate: it.node.rate, errors: it.node.error_rate, p95: it.node.p95_ms };
    const was = this.#shown.get(it.id);
    if (!this.#tween || !was) return want;
    const t = ease(Math.min(1, (performance.now() - this.#tween) / 400));
    const mix = (a, b) => (a == null || b == null ? b : a + (b - a) * t);
    return { rate: mix(was.rate, want.rate), errors: mix(was.errors, want.errors), p95: mix(was.p95, want.p95) };
  }

  #tweenFigures() {
    if (calm.matches || this.view.items.length > 120) return;
    const before = this.#target ?? new Map();
    this.#shown = before;
    this.#target = new Map();
    this.#tween = 0;
    for (const it of this.view.items) this.#target.set(it.id, this.#figures(it));
    if (before.size) this.#tween = performance.now();
  }

  #target = null;

  #measure(text, fontOf) {
    const key = `${fontOf}|${text}`;
    let w = this.#text.get(key);
    if (w === undefined) {
      if (this.#text.size > 20000) this.#text.clear();
      this.ctx.font = fontOf;
      w = this.ctx.measureText(text).width;
      this.#text.set(key, w);
    }
    return w;
  }

  /** Shortens in the middle, since names differ at both ends, or at the end, where the beginning tells more. */
  #fit(text, fontOf, width, atEnd = false) {
    if (width < 12) return '';
    if (text.length > 200) text = `${text.slice(0, 100)}…${text.slice(-99)}`;
    if (this.#measure(text, fontOf) <= width) return text;
    const key = `${fontOf}|${Math.round(width)}|${atEnd ? 'end' : 'fit'}|${text}`;
    let s = this.#text.get(key);
    if (s === undefined) {
      const cut = (n) => {
        const tail = atEnd ? 0 : Math.floor(n * 0.4);
        return `${text.slice(0, n - tail)}…${tail ? text.slice(-tail) : ''}`;
      };
      let lo = 0, hi = text.length;
      while (lo < hi) {
        const n = (lo + hi + 1) >> 1;
        if (this.#measure(cut(n), fontOf) <= width) lo = n;
        else hi = n - 1;
      }
      s = lo ? cut(lo) : '…';
      this.#text.set(key, s);
    }
    return s;
  }

  // Pointing

  /** What is at a point of the screen: {item}, {link} or null. */
  at(sx, sy) {
    const { x, y, k } = this.camera, discs = this.#discs;
    const { items, links } = this.view;
    let best = null, least = Infinity;
    for (let i = 0; i < items.length; i++) {
      const dx = Math.abs(items[i].x * k + x - sx), dy = Math.abs(items[i].y * k + y - sy);
      const r = discs ? Math.max(10, this.#radius(items[i]) + 3) : 0;
      if (discs ? dx * dx + dy * dy < r * r : dx < this.view.size.w / 2 * k && dy < this.view.size.h / 2 * k) {
        const d = dx * dx + dy * dy;
        if (d < least) { least = d; best = { item: i }; }
      }
    }
    if (best) return best;
    const label = this.#baseCamera?.x === x && this.#labels.find(({ i, id, box: [l, t, r, b] }) => links[i]?.id === id && sx >= l && sx <= r && sy >= t && sy <= b);
    if (label) return { link: label.i };
    least = 8;
    for (let i = 0; i < links.length; i++) {
      const p = this.#curve(links[i]);
      if (Math.min(p[0], p[2], p[4], p[6]) - 8 > sx || Math.max(p[0], p[2], p[4], p[6]) + 8 < sx ||
        Math.min(p[1], p[3], p[5], p[7]) - 8 > sy || Math.max(p[1], p[3], p[5], p[7]) + 8 < sy) continue;
      const d = distance(p, sx, sy) - (faulty(links[i].health) ? 1 : 0) + (links[i].linked ? 1 : 0); // a call before what is none
      if (d < least) { least = d; best = { link: i }; }
    }
    return best;
  }

  /** What is said on links, and where within the canvas: for tests. */
  get labels() { return this.#labels.map(({ id, words, badges, box }) => ({ id, words, badges: badges.length, box: [...box] })); }

  /** A point of the screen, within the page, that lies on an item or link: for tests and for tooltips. */
  spot(what) {
    const { x, y, k } = this.camera, box = this.canvas.getBoundingClientRect();
    if (what.item != null) {
      const it = this.view.items[what.item];
      return { x: box.left + it.x * k + x, y: box.top + it.y * k + y };
    }
    const curve = this.#curve(this.view.links[what.link]);
    for (const t of [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.15, 0.85]) {
      const [px, py] = point(curve, t);
      if (this.at(px, py)?.link === what.link) return { x: box.left + px, y: box.top + py };
    }
    const [px, py] = point(curve, 0.5);
    return { x: box.left + px, y: box.top + py };
  }

  #listen() {
    const c = this.canvas;
    const pointers = new Map();
    let moved = false, pinch = 0, lastTap = { t: 0, id: null };
    const local = (e) => {
      const b = c.getBoundingClientRect();
      return [e.clientX - b.left, e.clientY - b.top];
    };
    c.addEventListener('pointerdown', (e) => {
      if (e.button > 0) return;
      c.setPointerCapture(e.pointerId);
      pointers.set(e.pointerId, local(e));
      moved = pointers.size > 1;
      pinch = 0;
    });
    c.addEventListener('pointermove', (e) => {
      const at = local(e);
      const before = pointers.get(e.pointerId);
      if (!before) {
        if (e.pointerType === 'mouse') this.#point(at);
        return;
      }
      if (pointers.size === 1) {
        if (!moved && Math.hypot(at[0] - before[0], at[1] - before[1]) < (e.pointerType === 'mouse' ? 3 : 8)) return;
        moved = true;
        this.#point(null);
        this.pan(at[0] - before[0], at[1] - before[1]);
        c.classList.add('dragging');
        this.dragging = true;
      }
      pointers.set(e.pointerId, at);
      if (pointers.size === 2) {
        const [a, b] = [...pointers.values()];
        const d = Math.hypot(a[0] - b[0], a[1] - b[1]);
        if (pinch) this.zoom(d / pinch, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
        pinch = d;
      }
    });
    const up = (e) => {
      const had = pointers.delete(e.pointerId);
      c.classList.remove('dragging');
      if (pointers.size === 0) this.dragging = false;
      pinch = 0;
      if (!had || moved || e.type === 'pointercancel') return;
      const hit = this.at(...local(e));
      const id = hit ? (hit.item != null ? this.view.items[hit.item].id : this.view.links[hit.link].id) : null;
      const now = performance.now();
      if (hit?.item != null && lastTap.id === id && now - lastTap.t < 350) {
        lastTap = { t: 0, id: null };
        this.dispatchEvent(new CustomEvent('root', { detail: { item: this.view.items[hit.item] } }));
        return;
      }
      lastTap = { t: now, id };
      this.dispatchEvent(new CustomEvent('pick', { detail: hit ? { item: this.view.items[hit.item], link: this.view.links[hit.link], shift: e.shiftKey } : {} }));
    };
    c.addEventListener('pointerup', up);
    c.addEventListener('pointercancel', up);
    c.addEventListener('pointerleave', () => this.#point(null));
    for (const type of ['focus', 'blur']) c.addEventListener(type, () => this.draw()); // the cursor is seen with the focus
    c.addEventListener('wheel', (e) => {
      e.preventDefault();
      const [x, y] = local(e);
      const unit = e.deltaMode === 1 ? 16 : 1;
      // A trackpad's two fingers move the picture; its pinch and a wheel zoom.
      if (e.ctrlKey || Math.abs(e.deltaY) >= 40 || e.deltaMode === 1) this.zoom(Math.exp(-Math.max(-120, Math.min(120, e.deltaY * unit)) * (e.ctrlKey ? 0.01 : 0.0022)), x, y);
      else this.pan(-e.deltaX * unit, -e.deltaY * unit);
    }, { passive: false });
  }

  /** Takes the pointer to be at a point of the canvas, or nowhere; with news, what is there may say something else. */
  #point(at, news = false) {
    const had = this.hover;
    this.#pointer = at;
    this.hover = at && this.at(...at);
    const hit = this.hover;
    this.canvas.classList.toggle('pointing', !!hit);
    if (news || hit?.item !== had?.item || hit?.link !== had?.link) {
      this.dispatchEvent(new CustomEvent('hover', { detail: hit ? { item: this.view.items[hit.item], link: this.view.links[hit.link] } : {} }));
      this.draw();
    }
    if (!hit) return;
    const b = this.canvas.getBoundingClientRect();
    const w = this.tip.offsetWidth, h = this.tip.offsetHeight;
    const x = Math.min(at[0] + 14, b.width - w - 8), y = at[1] + 18 + h > b.height ? at[1] - h - 10 : at[1] + 18;
    this.tip.style.setProperty('transform', `translate(${Math.max(4, Math.round(x))}px, ${Math.max(4, Math.round(y))}px)`);
  }
}
