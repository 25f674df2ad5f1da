// Where what is wrong seems to begin, and what to look at next: said from the health of the edges around alone, so that it
// holds for every fault, and is no more than a hint.

import { h } from './dom.js';
import { findingsOf, nameOf } from './findings.js';
import * as f from './format.js';
import { minute } from './sections.js';
import { faulty, severity, shortName, ways, wrong } from './view.js';

/**
 * The ids of the nodes at which what is wrong seems to begin: callees of the worst edges that make no call that is as bad;
 * the one with the most failed calls first. The server says the same in its first paint (begins in web/page/page.go).
 */
export function begins(edges) {
  const ill = [...edges].filter((e) => faulty(e.health));
  const worst = Math.max(...ill.map((e) => severity(e.health)));
  const as = ill.filter((e) => severity(e.health) === worst), callers = new Set(as.map((e) => e.source));
  const at = new Map();
  for (const e of as) if (!callers.has(e.target)) at.set(e.target, (at.get(e.target) ?? 0) + e.errors);
  return [...at].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([id]) => id);
}

/** Names from a list with the rest counted: "a, b and 2 more". */
export function few(list, most = 3) {
  const rest = list.length - most, shown = list.slice(0, most), last = shown.length - 1;
  // A comma stays on the line of the link that it follows.
  const comma = (x) => (x instanceof Element ? [h('span', { class: 'held' }, x, ','), ' '] : [x, ', ']);
  return shown.flatMap((x, i) => {
    if (i === last) return rest > 0 ? [x, ` and ${rest} more`] : [x];
    return i === last - 1 && rest <= 0 ? [x, ' and '] : comma(x);
  });
}

/** What is wrong with an edge in a few words: the figure, and the worst that is found by name. */
function whatIsWrong(e) {
  const found = findingsOf(e)[0];
  return [...new Set([wrong(e), found && found.level !== 'note' ? nameOf(found) : ''])].filter(Boolean).join(', ');
}

/** What to look at after an unhealthy edge. edges are all there are; link and node make elements that open one. */
export function lookNext(edge, { edges, nodes, link, node }) {
  if (!faulty(edge.health)) return '';
  const name = (id) => nodes.get(id)?.name ?? shortName(id), target = nodes.get(edge.target);
  const worst = (list) => list.sort((a, b) => severity(b.health) - severity(a.health) || b.errors - a.errors || (a.id < b.id ? -1 : 1));
  const all = [...edges], lines = [];

  const below = worst(all.filter((e) => e.source === edge.target && severity(e.health) >= severity(edge.health)));
  if (below.length) lines.push([`Calls of ${name(edge.target)} are ${f.healthWord[below[0].health]} too: `, few(below.map((e) => [link(e), ` (${whatIsWrong(e)})`]), 2), '.']);
  else lines.push([`${all.some((e) => e.source === edge.target) ? `Nothing that ${name(edge.target)} calls is as bad` : `Nothing is seen behind ${name(edge.target)}`}: it seems to begin there, or on the way to it.`]);

  const others = worst(all.filter((e) => e.target === edge.target && e.id !== edge.id)), suffer = others.filter((e) => faulty(e.health));
  if (suffer.length) lines.push([`${suffer.length === others.length ? 'Its other callers suffer' : `${suffer.length} of its ${others.length} other callers suffer`} too: `, few(suffer.map(link)), '.']);
  else if (!below.length && others.length && others.every((e) => e.health === 'ok')) lines.push([others.length === 1 ? 'Its other caller is well' : `Its ${others.length} other callers are well`, `: look at what `, node(edge.source), ' does differently.']);

  for (const x of findingsOf(target).filter((y) => y.rule === 'deploy').slice(0, 2)) lines.push([`Version ${x.subject} of `, node(edge.target), ` appeared at ${minute(new Date(x.since))}.`]);
  return lines.length ? h('section', { class: 'next', data: { key: 'next' } }, h('h3', null, 'Look at next'), h('ul', null, lines.map((x) => h('li', null, x)))) : '';
}

/** The way from one node to another by calls, an edge a line; drop leaves it. */
export function pathBetween(from, to, { edges, nodes, link, drop }) {
  const name = (id) => nodes.get(id)?.name ?? shortName(id), all = [...edges];
  let way = ways(all, from, to), said = `From ${name(from)} to ${name(to)}`;
  if (!way.length) {
    way = ways(all, to, from);
    said = way.length ? `No calls lead from ${name(from)} to ${name(to)}; back` : `No calls lead from ${name(from)} to ${name(to)} in this time, nor back.`;
  }
  if (way.length) {
    const places = new Set(way.map((e) => e.source)).size, ill = way.filter((e) => faulty(e.health)).length;
    said += ` it takes ${places === 1 ? 'one call' : way.length > places ? `calls on ${way.length} connections` : `${way.length} calls`}; ${ill ? `${ill === way.length ? (ill === 1 ? 'it is' : 'all are') : `${ill} ${ill === 1 ? 'is' : 'are'}`} unwell.` : `all ${way.some((e) => e.health === 'unknown') ? 'that can be judged ' : ''}are well.`}`;
  }
  return h('section', { class: 'path', data: { key: 'path' } }, h('h3', null, 'Path', h('button', { type: 'button', class: 'link', on: { click: drop } }, 'Leave it')), h('p', null, said),
    way.length ? h('table', { class: 'figures' }, h('thead', null, h('tr', null, ['Connection', 'Rate', 'Errors', 'p95'].map((w, i) => h('th', { scope: 'col', class: i ? 'n' : null }, w)))),
      h('tbody', null, way.map((e) => h('tr', { data: { key: e.id } }, h('td', null, link(e), faulty(e.health) ? h('div', { class: e.health === 'critical' ? 'hot' : 'warm' }, whatIsWrong(e) || f.healthWord[e.health]) : null),
        h('td', { class: 'n' }, f.rate(e.rate)), h('td', { class: 'n' }, f.share(e.error_rate)), h('td', { class: 'n' }, f.duration(e.p95_ms ?? e.server?.p95_ms)))))) : '');
}
