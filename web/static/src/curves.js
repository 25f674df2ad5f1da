// Links as curves: p is the eight coordinates of a cubic, x0 y0 c1x c1y c2x c2y x1 y1.

/** Adds a link's curve to a path, short of the side that was not seen. */
export function line(ctx, p, gap) {
  if (gap) {
    const [a, b] = gap === 'server' ? [0, 0.82] : [0.18, 1];
    const q = part(p, a, b);
    ctx.moveTo(q[0], q[1]);
    ctx.bezierCurveTo(q[2], q[3], q[4], q[5], q[6], q[7]);
    return;
  }
  ctx.moveTo(p[0], p[1]);
  ctx.bezierCurveTo(p[2], p[3], p[4], p[5], p[6], p[7]);
}

/** Adds the head of an arrow at a curve's end, to be filled or, open, to be stroked. */
export function arrow(ctx, p, size, open = false) {
  let dx = p[6] - p[4], dy = p[7] - p[5];
  const d = Math.hypot(dx, dy) || 1;
  dx /= d; dy /= d;
  ctx.moveTo(p[6] - dx * size - dy * size * 0.5, p[7] - dy * size + dx * size * 0.5);
  ctx.lineTo(p[6], p[7]);
  ctx.lineTo(p[6] - dx * size + dy * size * 0.5, p[7] - dy * size - dx * size * 0.5);
  if (!open) ctx.closePath();
}

/** The point of a curve at a parameter from 0 to 1. */
export function point(p, t) {
  const u = 1 - t, a = u * u * u, b = 3 * u * u * t, c = 3 * u * t * t, d = t * t * t;
  return [a * p[0] + b * p[2] + c * p[4] + d * p[6], a * p[1] + b * p[3] + c * p[5] + d * p[7]];
}

// The part of a cubic between two parameters, by its blossom.
function part(p, t0, t1) {
  const blossom = (i, a, b, c) => {
    const lerp = (x, y, t) => x + (y - x) * t;
    const l1 = lerp(p[i], p[i + 2], a), l2 = lerp(p[i + 2], p[i + 4], a), l3 = lerp(p[i + 4], p[i + 6], a);
    return lerp(lerp(l1, l2, b), lerp(l2, l3, b), c);
  };
  return [[t0, t0, t0], [t0, t0, t1], [t0, t1, t1], [t1, t1, t1]].flatMap((t) => [blossom(0, ...t), blossom(1, ...t)]);
}

/** How far a point lies from a curve. */
export function distance(p, x, y) {
  let best = Infinity, [ax, ay] = [p[0], p[1]];
  for (let i = 1; i <= 16; i++) {
    const [bx, by] = point(p, i / 16);
    const dx = bx - ax, dy = by - ay;
    const t = Math.max(0, Math.min(1, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1)));
    best = Math.min(best, Math.hypot(x - ax - t * dx, y - ay - t * dy));
    ax = bx; ay = by;
  }
  return best;
}
