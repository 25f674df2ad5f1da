// Small line charts over time, all of a panel with one cursor.

import uPlot from '../vendor/uplot/uPlot.esm.js';
import { h } from './dom.js';
import { none } from './format.js';

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/**
 * Draws lines: [{name, values, colour, dash, width}] over times in seconds. Returns {node, show, restyle, destroy};
 * show gives it other times and values for the same lines.
 */
export function chart({ title, times, lines, say, sync, top = null, height = 112 }) {
  const keys = lines.map((l, i) => {
    const value = h('b', null, none);
    return { value, node: h('span', { class: 'key' }, h('i', { class: l.ink }), l.name, ' ', value, i < 0) };
  });
  const holder = h('div', { class: 'chart', role: 'img', 'aria-label': title });
  const node = h('div', null, h('div', { class: 'chart-head' }, h('h3', null, title), keys.map((k) => k.node)), holder);
  let data = [times, ...lines.map((l) => l.values)];
  const last = (values) => {
    for (let i = values.length - 1; i >= 0 && i > values.length - 4; i--) if (values[i] != null) return values[i];
    return null;
  };
  const tell = (i) => lines.forEach((_, s) => { keys[s].value.textContent = say(i == null ? last(data[s + 1]) : data[s + 1][i]); });
  let plot = null;
  const draw = () => {
    plot?.destroy();
    const colour = (l) => css(l.colour);
    const axis = { stroke: css('ink-2'), grid: { stroke: css('line-2'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' };
    plot = new uPlot({
      width: Math.max(160, holder.clientWidth || 400), height, legend: { show: false }, padding: [8, 8, 0, 0],
      cursor: { sync: { key: sync }, y: false, points: { size: 6 }, drag: { x: false, y: false } },
      scales: { y: { range: (u, min, max) => [0, top ? Math.max(max ?? 0, top) : Math.max((max ?? 0) * 1.1, 1e-6)] } },
      axes: [
        { ...axis, size: 24, space: 72, values: (u, splits, i, space, step) => splits.map((t) => moment(t, step)) },
        { ...axis, size: 56, space: 32, values: (u, splits) => splits.map((v) => (v === 0 ? '0' : say(v))) },
      ],
      series: [{}, ...lines.map((l) => ({ stroke: colour(l), width: l.width ?? 1.5, dash: l.dash, spanGaps: false, points: { show: alone, size: 4 } }))],
      hooks: { setCursor: [(u) => tell(u.cursor.idx)] },
    }, data, holder);
  };
  const sized = new ResizeObserver(() => {
    if (!plot) draw();
    else if (holder.clientWidth && Math.abs(plot.width - holder.clientWidth) > 1) plot.setSize({ width: holder.clientWidth, height });
  });
  sized.observe(holder);
  tell(null);
  return {
    node,
    show(nextTimes, values) {
      data = [nextTimes, ...values];
      plot?.setData(data);
      if (plot?.cursor.idx == null) tell(null);
    },
    restyle: draw,
    destroy() { sized.disconnect(); plot?.destroy(); },
  };
}

// A value with nothing on either side would be invisible as a line.
function alone(u, series, from, to) {
  const values = u.data[series];
  const points = [];
  for (let i = from; i <= to; i++) if (values[i] != null && values[i - 1] == null && values[i + 1] == null) points.push(i);
  return points.length > 0 && points.length < 40;
}

const two = (n) => String(n).padStart(2, '0');

function moment(seconds, step) {
  const d = new Date(seconds * 1000);
  if (step >= 86400) return `${d.getMonth() + 1}/${d.getDate()}`;
  const t = `${two(d.getHours())}:${two(d.getMinutes())}`;
  return step < 60 ? `${t}:${two(d.getSeconds())}` : t;
}
