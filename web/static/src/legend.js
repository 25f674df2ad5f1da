// What the badges say, and what is wrong with one thing in a few lines.

import { findingBadge } from './badges.js';
import { badge, h, s } from './dom.js';
import { badgesOf, docOf, findingsOf, groups, nameOf, ruleOf, rules } from './findings.js';
import { healthWord } from './format.js';
import { kindIcon, kinds } from './kinds.js';

/** Every badge with the rules that it stands for, each a link to its page. */
export function badgeLegend() {
  const rows = new Map();
  for (const [name, { group }] of Object.entries(rules)) {
    const [badge] = badgesOf([{ rule: name }]), key = `${group} ${badge.text || badge.kind}`;
    if (!rows.has(key)) rows.set(key, { badge, group, rules: [] });
    rows.get(key).rules.push(name);
  }
  return h('div', { class: 'badge-legend' }, h('h2', { tabindex: '-1', autofocus: true }, 'What the badges say'),
    h('dl', null, [...rows.values()].map((row, i, all) => [
      h('dt', null, findingBadge({ ...row.badge, level: '' }), h('span', { class: all[i - 1]?.group === row.group ? 'offscreen' : null }, groups[row.group].name)),
      h('dd', null, row.rules.map((name, j) => [j ? ', ' : '', h('a', { href: docOf(name) }, ruleOf(name).name)])),
    ])),
    h('p', { class: 'quiet' }, 'An edge shows its three worst; +2 says that there are two more, in its panel. 1/12 says that one instance of twelve is bad.'));
}

/** The findings of an edge or node for its tooltip: the worst few, the rest counted. */
export function findingLines(thing, instances) {
  const list = findingsOf(thing), few = list.slice(0, 4);
  if (!few.length) return '';
  return h('ul', { class: 'lines' }, few.map((x) => h('li', null, findingBadge(badgesOf([x], instances)[0], nameOf(x)))),
    list.length > few.length ? h('li', { class: 'quiet' }, `and ${list.length - few.length} more`) : null);
}

const healths = { ok: 'nothing stands out', warn: 'worse than it should be', critical: 'failing, well beyond chance', unknown: 'too few calls to say' };

/** Keys, [[key, what it does]], and what lines and shapes mean; badges shows the legend of those. */
export function help(keys, badges) {
  const key = (k, words) => h('div', null, h('span', null, [k].flat().map((x) => [h('kbd', null, x), ' '])), h('span', null, words));
  const line = (attrs, words) => h('div', null, s('svg', { viewBox: '0 0 44 14' }, s('path', { d: 'M2 7h40', fill: 'none', stroke: 'currentColor', 'stroke-width': 1.5, ...attrs })), words);
  const byKey = [
    h('h2', { tabindex: '-1' }, 'Keys'),
    h('div', { class: 'keys' }, keys.map(([k, words]) => key(k, words)), key('Esc', 'one step back'), key(['←', '→', '↑', '↓'], 'walk the map'), key('Enter', 'open what the walk is at')),
  ];
  const bySign = [
    h('h2', { tabindex: '-1' }, 'Legend'),
    h('div', { class: 'legend' },
      Object.entries(healths).map(([x, words]) => h('div', null, badge(x, healthWord[x]), h('span', { class: 'quiet' }, words))),
      line({ 'stroke-width': 3.5 }, 'width is traffic'), line({ 'stroke-dasharray': '7 5' }, 'asynchronous, by messages'),
      line({ d: 'M2 7h30' }, 'the callee was not seen'), line({ d: 'M12 7h30' }, 'the caller was not seen'),
      line({ 'stroke-width': 2.6, 'stroke-linecap': 'round', 'stroke-dasharray': '0 7' }, 'no call: spans that link to others'),
      line({ 'stroke-dasharray': '2 3' }, 'too few calls to judge'), h('div', null, h('span', { class: 'hatched' }), 'a node with too few calls'),
      Object.entries(kinds).map(([kind, words]) => h('div', null, kindIcon(kind), words))),
    h('p', { class: 'quiet more' }, 'On a card: calls a second, share that fails, the time that 95 % of the calls stay within, all as its callers see it. The curve at its foot is its calls over the last 15 minutes, or the time shown, with those that failed darker, and in colour while it is unwell; each card has its own scale.'),
    h('p', { class: 'quiet more' }, 'Click a service or connection for its details, double-click a service to see only what is around it, click another one with Shift for the path to it. ', h('button', { type: 'button', class: 'link', on: { click: badges } }, 'What the badges say'), '.'),
  ];
  // A screen that small has no keys: what the signs mean comes first.
  const parts = matchMedia('(max-width: 720px)').matches ? [bySign, byKey] : [byKey, bySign];
  parts[0][0].autofocus = true;
  return parts;
}
