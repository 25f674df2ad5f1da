// Badges of what is wrong: a shape each, in a box of 16 by 16, drawn alike on the canvas and in the page. The shape alone
// tells them apart; colour says how loud, and words say the same beside them.

import { h, s } from './dom.js';

/** fill and line are paths; hole is a line in the colour of what lies behind. */
const shapes = {
  loop: { line: 'M13.4 8.6A5.5 5.5 0 1 1 11.6 3.9M12.2.9v3.4H8.8' },
  clock: { fill: 'M8 1.2a6.8 6.8 0 1 1 0 13.6A6.8 6.8 0 0 1 8 1.2z', hole: 'M8 4.2v4.1l2.9 1.7' },
  'clock-none': { line: 'M5.2 2.6A6.1 6.1 0 0 1 13.4 10.8M10.8 13.4A6.1 6.1 0 0 1 2.6 5.2M2 2l12 12' },
  'clock-half': { line: 'M8 1.9a6.1 6.1 0 1 1 0 12.2A6.1 6.1 0 0 1 8 1.9z', fill: 'M8 1.9v12.2a6.1 6.1 0 0 1 0-12.2z' },
  chain: { line: 'M5 4.8h-.8a3.2 3.2 0 0 0 0 6.4H5M11 4.8h.8a3.2 3.2 0 0 1 0 6.4H11M9.6 1.4 6.4 14.6' },
  lock: { fill: 'M3 7.2h10v7.3H3z', line: 'M5 7V5.2a3 3 0 0 1 6 0V7', hole: 'M8 9.6v2.6' },
  fuse: { line: 'M.6 8h2.4M13 8h2.4', fill: 'M4.6 3.8h6.8a1.8 1.8 0 0 1 1.8 1.8v4.8a1.8 1.8 0 0 1-1.8 1.8H4.6a1.8 1.8 0 0 1-1.8-1.8V5.6a1.8 1.8 0 0 1 1.8-1.8z', hole: 'M9.4 3.4 7 7.8h2.2L6.6 12.6' },
  funnel: { line: 'M1.8 2.5h12.4L9.8 8v5.6l-3.6-1.8V8z' },
  stack: { fill: 'M1.8 11.2h12.4v2.9H1.8zM1.8 6.6h12.4v2.9H1.8zM1.8 2h12.4v2.9H1.8z' },
  ladder: { line: 'M4.4 1.2v13.6M11.6 1.2v13.6M4.4 4.2h7.2M4.4 8h7.2M4.4 11.8h7.2' },
  lost: { line: 'M.8 8h3.8M6 12.4 9 3.6M10.2 8h4.4M11.8 4.8 15 8l-3.2 3.2' },
  hourglass: { line: 'M3.2 1.6h9.6M3.2 14.4h9.6M4.4 1.8v2.4L8 8l3.6-3.8V1.8M4.4 14.2v-2.4L8 8l3.6 3.8v2.4', fill: 'M5.4 13.6 8 10.8l2.6 2.8z' },
  cross: { line: 'M3.2 3.2l9.6 9.6M12.8 3.2l-9.6 9.6' },
  unequal: { line: 'M2.4 5.8h11.2M2.4 10.2h11.2M10.8 2.2 5.2 13.8' },
  question: { line: 'M5 5.4a3 3 0 1 1 4.5 2.6C8.4 8.7 8 9.3 8 10.4M8 12.9v1' },
  flag: { line: 'M3.6 15V1.6', fill: 'M3.6 1.6h10L11.4 5l2.2 3.4h-10z' },
};

const path2d = new Map();
const path = (d) => path2d.get(d) ?? path2d.set(d, new Path2D(d)).get(d);

/** Draws a badge's shape around a point, size pixels high. ink and behind are colours. */
export function drawBadge(ctx, kind, x, y, size, ink, behind) {
  const shape = shapes[kind];
  if (!shape) return;
  ctx.save();
  ctx.translate(x - size / 2, y - size / 2);
  ctx.scale(size / 16, size / 16);
  ctx.lineCap = ctx.lineJoin = 'round';
  ctx.lineWidth = 1.9;
  ctx.fillStyle = ctx.strokeStyle = ink;
  if (shape.fill) ctx.fill(path(shape.fill));
  if (shape.line) ctx.stroke(path(shape.line));
  if (shape.hole) {
    ctx.strokeStyle = behind;
    ctx.stroke(path(shape.hole));
  }
  ctx.restore();
}

/** The same as an element, for text to stand beside. */
export function badgeIcon(kind) {
  const shape = shapes[kind] ?? shapes.question;
  return s('svg', { viewBox: '0 0 16 16', class: 'glyph', 'aria-hidden': 'true' },
    shape.fill && s('path', { d: shape.fill }), shape.line && s('path', { d: shape.line, class: 'line' }), shape.hole && s('path', { d: shape.hole, class: 'hole' }));
}

/** A badge with its word: the shape, or what is counted, "1/12", and what it means. */
export function findingBadge({ kind, text, level }, word) {
  return h('span', { class: `finding ${level}` }, text ? h('span', { class: 'part', 'aria-hidden': 'true' }, text) : badgeIcon(kind), word && h('span', null, word));
}
