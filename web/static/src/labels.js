// What is said on the links of the map: the figure that is wrong and the badges of what is found, in one small box that
// lies on no other box and, as far as there is room, on no card. Where there is none, it is left out: the line still shows
// how it is, and says the rest where it is pointed at.

import { drawBadge } from './badges.js';
import { Taken } from './boxes.js';
import { point } from './curves.js';
import { culprit, faulty, severity, wrong } from './view.js';

export const font = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif';
const labelFont = `600 11px ${font}`, partFont = `700 9.5px ${font}`;
const most = 60, mostNarrow = 8; // boxes: what is worse comes first
const tries = 4; // times as many links are tried until there are so many boxes
const mostNotes = 40; // more links that have notes only are left without, where there are discs
const mayHide = { card: 0.35, cardNarrow: 0.1, disc: 0.02 }; // of a box, that lies on nodes
const steps = [0, -14, 14, -24, 24, -36, 36, -46, 46]; // px, from the line
const edge = 4; // px, that stay free at the edge of the screen

/** Whether something has to be said on a link; what is a note only is said where there is room for it. */
export const said = (l) => !l.dim && (faulty(l.health) || l.badges.some((b) => b.level !== 'note'));

/**
 * Places boxes for some links, [{i, link}]; returns [{i, id, words, badges, more, box, health}]. on says what there is: nodes
 * and kept, the boxes that are taken, whether all of it is lit, whether items are discs, whether the screen is narrow, what of it is in sight and what
 * is drawn, the curve of a link and the width of a text.
 */
export function placeLabels(list, on) {
  const loud = list.filter(({ link }) => said(link)), notes = list.filter(({ link }) => !link.dim && !said(link) && link.badges.length);
  const wanted = on.discs && notes.length > mostNotes ? loud : [...loud, ...notes];
  wanted.sort(({ link: a }, { link: b }) => severity(b.health) - severity(a.health) || b.badges.length - a.badges.length || b.rate - a.rate);
  const others = new Taken(), labels = [], limit = on.narrow ? mostNarrow : most;
  for (const box of on.kept) others.add(box);
  let left = limit * tries;
  for (const { i, link } of wanted) {
    if (labels.length === limit || left === 0) break;
    const p = on.curve(link);
    if (!drawn(p, on.drawn)) continue;
    left--;
    // Where the whole of it has no room, less may have.
    let best = null;
    for (const what of sayings(link, on)) {
      const room = roomFor(what, p, others, on);
      if (!best || (best.over > 0 && room.over < best.over / 2)) best = room;
      if (best.over === 0) break;
    }
    if (!best || best.covers || best.hides > allowed(on, labels.length) * best.what.width * best.what.height) continue;
    others.add(best.box);
    labels.push({ i, id: link.id, ...best.what, box: best.box, health: faulty(link.health) ? link.health : 'note' });
  }
  return labels;
}

// What is pointed at is said in any case, as are the worst on a wide screen, even where they hide a part of a card.
const allowed = ({ lit, narrow, discs }, n) => (lit ? Infinity : narrow ? (discs ? mayHide.disc : mayHide.cardNarrow) : n > 6 ? mayHide.card : Infinity);

const drawn = (p, [l, t, r, b]) => Math.max(p[0], p[2], p[4], p[6]) >= l && Math.min(p[0], p[2], p[4], p[6]) <= r &&
  Math.max(p[1], p[3], p[5], p[7]) >= t && Math.min(p[1], p[3], p[5], p[7]) <= b;

/** What may be said of a link, from the most to the least: {words, badges, more, width, height}. */
function sayings(l, { narrow, discs, measure }) {
  const words = !faulty(l.health) ? '' : l.edge ? wrong(l.edge) : `${l.ill} of ${l.edges.length}`;
  if (!words && !l.badges.length) return [];
  const say = (text, n) => {
    const badges = l.badges.slice(0, n), rest = l.badges.length - badges.length;
    const more = rest && badges.length ? `+${rest}` : '';
    let width = faulty(l.health) ? 22 : 5;
    if (text) width += measure(text, labelFont) + 6;
    for (const b of badges) width += badgeWidth(b, measure) + 5;
    if (more) width += measure(more, labelFont) + 4;
    return { words: text, badges, more, width: Math.ceil(width), height: faulty(l.health) ? 20 : 18 };
  };
  const all = narrow ? 1 : discs ? 2 : 3;
  // What has a badge needs no word where there is little room.
  const short = l.edge && culprit(l.edge) ? '' : brief(words);
  if (discs && !short && l.badges.length) return [say('', all), say('', 1)];
  if (narrow) return [say(short, all), say(short, 0)].filter((x) => x.words || x.badges.length);
  return [say(words, all), say(short, all), say(short, 1)];
}

/** The figure of what is wrong, without its word: "errors 4.1 %" as "4.1 %", "p95 82 ms, ↑14x" as "p95 ↑14x". */
const brief = (text) => text.replace(/^(p\d+) .*, ↑/, '$1 ↑').replace(/^errors /, '');

/** The best place for what is said along a curve: near its middle, near the line, clear of what is taken. */
function roomFor(what, p, others, { nodes, sight, narrow }) {
  const { width: w, height: h } = what, [left, top, right, bottom] = sight;
  let best = null;
  for (const t of [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.18, 0.82]) {
    const [px, py] = point(p, t);
    // Words at the screen's edge stay readable.
    const near = px > left - 40 && px < right + 40 && py > top - 40 && py < bottom + 40;
    for (const dy of narrow ? steps.slice(0, 5) : steps) { // where lines are close, what is said has to be close to its own
      for (const dx of dy ? [0] : [0, w / 2 + 6, -w / 2 - 6]) {
        const cx = px + dx, cy = py + dy;
        const x = near ? Math.max(left + w / 2 + edge, Math.min(right - w / 2 - edge, cx)) : cx;
        const y = near ? Math.max(top + h / 2 + edge, Math.min(bottom - h / 2 - edge, cy)) : cy;
        const box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2], wide = [box[0] - 2, box[1] - 2, box[2] + 2, box[3] + 2];
        const hides = nodes.under(wide), covers = others.under(wide), over = hides + covers;
        const cost = hides * 4 + covers * 40 + Math.abs(dy) * 3 + (dx ? 90 : 0) + (Math.abs(x - cx) + Math.abs(y - cy)) * 3 + Math.abs(t - 0.5) * 60;
        if (!best || cost < best.cost) best = { cost, over, hides, covers, box, what };
      }
    }
  }
  return best;
}

export function paintLabels(ctx, labels, colours, measure) {
  for (const { words, badges, more, box, health } of labels) {
    const [l, t, r, b] = box, middle = (t + b) / 2, ill = health !== 'note';
    const behind = ill ? colours[`${health}-soft`] : colours.bg;
    ctx.textBaseline = 'middle';
    ctx.textAlign = 'left';
    ctx.fillStyle = behind;
    ctx.strokeStyle = ill ? colours[health] : colours.line;
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.roundRect(l, t, r - l, b - t, 6);
    ctx.fill();
    ctx.stroke();
    let at = l + 5;
    if (ill) {
      drawHealth(ctx, health, l + 12, middle, 4.5, colours);
      at = l + 20;
    }
    if (words) {
      ctx.font = labelFont;
      ctx.fillStyle = colours.ink;
      ctx.fillText(words, at, middle + 0.5);
      at += measure(words, labelFont) + 6;
    }
    for (const badge of badges) {
      const width = badgeWidth(badge, measure);
      paintBadge(ctx, badge, at, middle, width, behind, colours);
      at += width + 5;
    }
    if (more) {
      ctx.font = labelFont;
      ctx.fillStyle = colours['ink-2'];
      ctx.fillText(more, at - 1, middle + 0.5);
    }
  }
}

export const badgeWidth = (b, measure) => (b.text ? measure(b.text, partFont) + 8 : 13);

/** One badge, from its left side: a shape, or a pill with what is counted. */
export function paintBadge(ctx, badge, x, y, width, behind, colours) {
  const ink = { severe: colours['critical-text'], warn: colours['warn-text'], note: colours['ink-2'] }[badge.level];
  if (!badge.text) { drawBadge(ctx, badge.kind, x + width / 2, y, 13, ink, behind); return; }
  ctx.strokeStyle = ctx.fillStyle = ink;
  ctx.lineWidth = 1.2;
  ctx.beginPath();
  ctx.roundRect(x, y - 6.5, width, 13, 6.5);
  ctx.stroke();
  ctx.font = partFont;
  ctx.textBaseline = 'middle';
  ctx.textAlign = 'left';
  ctx.fillText(badge.text, x + 4, y + 0.5);
}

/** The badge of a health: circle, triangle, octagon, or a hatched circle. */
export function drawHealth(ctx, health, x, y, r, colours) {
  ctx.beginPath();
  ctx.fillStyle = ctx.strokeStyle = colours[health] ?? colours.unknown;
  if (health === 'warn') {
    ctx.moveTo(x, y - r);
    ctx.lineTo(x + r * 1.1, y + r * 0.85);
    ctx.lineTo(x - r * 1.1, y + r * 0.85);
    ctx.closePath();
    ctx.fill();
  } else if (health === 'critical') {
    const c = r * 0.45;
    for (const [dx, dy] of [[-c, -r], [c, -r], [r, -c], [r, c], [c, r], [-c, r], [-r, c], [-r, -c]]) ctx.lineTo(x + dx, y + dy);
    ctx.closePath();
    ctx.fill();
  } else if (health === 'ok') {
    ctx.arc(x, y, r * 0.7, 0, 7);
    ctx.fill();
  } else {
    ctx.lineWidth = 1.2;
    ctx.setLineDash([2, 1.6]);
    ctx.arc(x, y, r * 0.8, 0, 7);
    ctx.stroke();
    ctx.setLineDash([]);
  }
}
