// What each node was asked for in the time shown, as a small curve on its card; in live, of the last quarter of an hour.

import { ask } from './data.js';

const every = 30000; // ms between two askings, in live
const most = 200; // more nodes than this are not shown as cards anyway

/** Sparks holds the curves by node: {rate, failed, top}. It tells when there are others. */
export class Sparks {
  curves = new Map();
  #key = ''; #timer = 0; #abort = null;

  constructor(changed) { this.changed = changed; }

  /** Follows what is shown: a span of time as the API has it, an environment, how many nodes there are. */
  follow(span, env, nodes) {
    const key = nodes > 0 && nodes <= most && env != null ? JSON.stringify([span, env]) : '';
    if (key === this.#key) return;
    this.#key = key;
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#become(new Map());
    if (!key) return;
    this.#abort = new AbortController();
    this.#load({ ...span, env }, this.#abort.signal);
  }

  async #load(params, signal) {
    try {
      const series = await ask('series', params, signal);
      if (signal.aborted) return;
      this.#become(new Map(series.nodes.map(({ id, rate, failed }) => [id, { rate, failed, top: Math.max(...rate) }])));
    } catch { /* cards are what they are without; the stream says what is wrong with the connection */ }
    if (!signal.aborted && params.to === 'now') this.#timer = setTimeout(() => this.#load(params, signal), every);
  }

  #become(curves) {
    if (!curves.size && !this.curves.size) return;
    this.curves = curves;
    this.changed();
  }
}

const least = 3; // px: how high some failed calls are at least, so that they are seen

/** Draws a curve into a box: all calls, and over them those that failed, each node by its own scale. */
export function drawSpark(ctx, { rate, failed, top }, x, y, w, h, colours) {
  if (!(top > 0) || rate.length < 2) return;
  const fill = (heights, colour, alpha) => {
    ctx.globalAlpha = alpha;
    ctx.fillStyle = colour;
    ctx.beginPath();
    ctx.moveTo(x, y + h);
    heights.forEach((v, i) => ctx.lineTo(x + w * i / (heights.length - 1), y + h - v));
    ctx.lineTo(x + w, y + h);
    ctx.closePath();
    ctx.fill();
  };
  const height = (v) => (h - 1) * v / top;
  fill(rate.map(height), colours.edge, 0.2);
  const loud = failed.map((v, i) => (v > rate[i] * 0.01 ? Math.max(least, height(v)) : 0)); // of a hundred calls one may fail
  if (loud.some(Boolean)) fill(loud, colours.critical, 0.75);
  ctx.globalAlpha = 1;
}
