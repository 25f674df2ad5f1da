// What a node is, as a small picture on its card.

import { h } from './dom.js';

export const kinds = { service: 'a service', gateway: 'a gateway', database: 'a database', cache: 'a cache', queue: 'a queue or topic', external: 'a third party', llm: 'a provider of models', user: 'users', ingress: 'what triggers functions', unknown: 'a caller that is not known' };

/** What it means that somebody calls who sends no spans. */
export const entries = {
  user: 'Whoever calls from outside and sends no spans: browsers, apps, other systems',
  ingress: 'What triggers functions, and sends no spans: requests to a gateway, timers, changes of data',
  unknown: 'Callers whose spans were never seen here: not instrumented, sampled away, or sent elsewhere',
};

/** Draws a kind around a point, r pixels to each side. */
export function drawKind(ctx, kind, x, y, r, ink) {
  ctx.strokeStyle = ink;
  ctx.lineWidth = 1.4;
  ctx.beginPath();
  switch (kind) {
    case 'database': case 'cache':
      ctx.ellipse(x, y - r * 0.6, r * 0.8, r * 0.35, 0, 0, 7);
      ctx.moveTo(x - r * 0.8, y - r * 0.6);
      ctx.lineTo(x - r * 0.8, y + r * 0.6);
      ctx.ellipse(x, y + r * 0.6, r * 0.8, r * 0.35, 0, Math.PI, 0, true);
      ctx.lineTo(x + r * 0.8, y - r * 0.6);
      if (kind === 'cache') {
        ctx.moveTo(x + r * 0.15, y - r * 0.1);
        ctx.lineTo(x - r * 0.25, y + r * 0.3);
        ctx.lineTo(x + r * 0.2, y + r * 0.25);
        ctx.lineTo(x - r * 0.1, y + r * 0.7);
      }
      break;
    case 'queue':
      for (const d of [-0.7, 0, 0.7]) ctx.rect(x + d * r - r * 0.22, y - r * 0.7, r * 0.44, r * 1.4);
      break;
    case 'external':
      ctx.arc(x, y, r * 0.85, 0, 7);
      ctx.moveTo(x - r * 0.85, y);
      ctx.lineTo(x + r * 0.85, y);
      ctx.moveTo(x + r * 0.4, y);
      ctx.ellipse(x, y, r * 0.4, r * 0.85, 0, 0, 7);
      break;
    case 'llm': // a spark
      ctx.moveTo(x, y - r);
      for (let a = 1; a <= 4; a++) {
        const to = a * Math.PI / 2;
        ctx.quadraticCurveTo(x, y, x + r * Math.sin(to), y - r * Math.cos(to));
      }
      break;
    case 'ingress': // a way in
      ctx.moveTo(x - r, y);
      ctx.lineTo(x + r * 0.2, y);
      ctx.moveTo(x - r * 0.25, y - r * 0.45);
      ctx.lineTo(x + r * 0.2, y);
      ctx.lineTo(x - r * 0.25, y + r * 0.45);
      ctx.moveTo(x, y - r * 0.9);
      ctx.lineTo(x + r * 0.8, y - r * 0.9);
      ctx.lineTo(x + r * 0.8, y + r * 0.9);
      ctx.lineTo(x, y + r * 0.9);
      break;
    case 'user':
      ctx.arc(x, y - r * 0.4, r * 0.4, 0, 7);
      ctx.moveTo(x + r * 0.8, y + r * 0.9);
      ctx.arc(x, y + r * 0.9, r * 0.8, 0, Math.PI, true);
      break;
    case 'gateway':
      ctx.moveTo(x - r, y);
      ctx.lineTo(x, y - r * 0.8);
      ctx.lineTo(x + r, y);
      ctx.lineTo(x, y + r * 0.8);
      ctx.closePath();
      break;
    case 'group':
      for (const [dx, dy] of [[-0.8, -0.8], [0.1, -0.8], [-0.8, 0.1], [0.1, 0.1]]) ctx.rect(x + dx * r, y + dy * r, r * 0.7, r * 0.7);
      break;
    case 'unknown':
      ctx.setLineDash([2, 2]);
      ctx.arc(x, y, r * 0.8, 0, 7);
      break;
    default:
      for (let a = 0; a < 6; a++) ctx.lineTo(x + r * 0.9 * Math.cos(a * Math.PI / 3 + Math.PI / 6), y + r * 0.9 * Math.sin(a * Math.PI / 3 + Math.PI / 6));
      ctx.closePath();
  }
  ctx.stroke();
  ctx.setLineDash([]);
}

/** The same as an element. */
export function kindIcon(kind) {
  const canvas = h('canvas', { width: 32, height: 32, class: 'kind', 'aria-hidden': 'true' }), ctx = canvas.getContext('2d');
  ctx.scale(2, 2);
  drawKind(ctx, kind, 8, 8, 6, getComputedStyle(document.documentElement).getPropertyValue('--ink-2'));
  return canvas;
}
