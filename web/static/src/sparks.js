// What each node was asked for in the time shown, as a small curve on its card; in live, of the last quarter of an hour.

import { ask } from './data.js';

const every = 30000; // ms between two askings, in live
const most = 200; // more nodes than this are not shown as cards anyway

const few = 3; // failed calls in a step are told from here on

/** Sparks holds the curves by node: {rate, failed, top, told}; told are the failed calls that are shown. It tells when there are others. */
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
      this.#become(new Map(series.nodes.map(({ id, rate, failed }) => [id, {
        rate, failed, top: Math.max(...rate),
        told: failed.map((v, i) => (v * series.step_s >= few && v > rate[i] * 0.01 ? v : 0)), // one failed call is none
      }])));
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

/** Draws a curve into a box: all calls, and over them those that failed in a colour of their own, each node by its own scale. */
export function drawSpark(ctx, { rate, top, told }, x, y, w, h, colours, ill) {
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
  if (told.some(Boolean)) fill(told.map((v) => (v ? Math.max(least, height(v)) : 0)), ill, 0.75);
  ctx.globalAlpha = 1;
}
