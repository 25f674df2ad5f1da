// What is said on the links of the map: the figure that is wrong and the badges of what is found, in one small box that
// lies on no card and no other box.

import { drawBadge } from './badges.js';
import { overlap, point } from './curves.js';
import { culprit, faulty, severity, wrong } from './view.js';

export const font = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif';
const labelFont = `600 11px ${font}`, partFont = `700 9.5px ${font}`;
const most = 60, mostNarrow = 8; // boxes: what is worse comes first
const mostNotes = 40; // more links that have notes only are left without, where there are discs

/** Whether something has to be said on a link; what is a note only is said where there is room for it. */
export const said = (l) => !l.dim && (faulty(l.health) || l.badges.some((b) => b.level !== 'note'));

/**
 * Places boxes for some links, [{i, link}]; returns [{i, words, badges, more, box, health}]. on says what there is:
 * taken boxes, each with its weight, whether items are discs, whether the screen is narrow, where it ends, the curve
 * of a link and the width of a text.
 */
export function placeLabels(list, on) {
  const loud = list.filter(({ link }) => said(link)), notes = list.filter(({ link }) => !link.dim && !said(link) && link.badges.length);
  const wanted = on.discs && notes.length > mostNotes ? loud : [...loud, ...notes];
  wanted.sort(({ link: a }, { link: b }) => severity(b.health) - severity(a.health) || b.badges.length - a.badges.length || b.rate - a.rate);
  const labels = [];
  for (const { i, link } of wanted.slice(0, on.narrow ? mostNarrow : most)) {
    const p = on.curve(link);
    // Where the whole of it has no room, less may have.
    let best = null;
    for (const what of sayings(link, on)) {
      const room = roomFor(what, p, on);
      if (!best || (best.over > 0 && room.over < best.over / 2)) best = room;
      if (best.over === 0) break;
    }
    if (!best) continue;
    const [x0, y0, x1, y1] = best.box;
    if (best.over > (x1 - x0) * (y1 - y0) * 0.35 && labels.length > 6) continue;
    on.taken.push(best.box);
    labels.push({ i, ...best.what, box: best.box, health: faulty(link.health) ? link.health : 'note' });
  }
  return labels;
}

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
function roomFor(what, p, { taken, right }) {
  const { width: w, height: h } = what;
  let best = null;
  for (const t of [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.18, 0.82]) {
    const [px, py] = point(p, t);
    for (const dy of [0, -14, 14, -24, 24, -36, 36, -46, 46]) {
      for (const dx of dy ? [0] : [0, w / 2 + 6, -w / 2 - 6]) {
        const cx = px + dx, cy = py + dy;
        // Words at the screen's edge stay readable.
        const x0 = cx > -40 && cx < right + 40 ? Math.max(w / 2 + 4, Math.min(right - w / 2 - 4, cx)) : cx;
        const box = [x0 - w / 2, cy - h / 2, x0 + w / 2, cy + h / 2];
        let over = 0;
        for (const o of taken) over += overlap([box[0] - 2, box[1] - 2, box[2] + 2, box[3] + 2], o) * (o[4] ?? 1);
        const cost = over * 4 + Math.abs(dy) * 3 + (dx ? 90 : 0) + Math.abs(x0 - cx) * 3 + Math.abs(t - 0.5) * 60;
        if (!best || cost < best.cost) best = { cost, over, box, what };
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
