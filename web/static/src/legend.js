// What the badges say, and what is wrong with one thing in a few lines.

import { findingBadge } from './badges.js';
import { h } from './dom.js';
import { badgesOf, docOf, findingsOf, groups, nameOf, ruleOf, rules } from './findings.js';

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
