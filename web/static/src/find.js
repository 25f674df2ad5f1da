// The menu of what is to be found: edges by what is wrong with them, several things at once.

import { badgeIcon } from './badges.js';
import { h, renew } from './dom.js';
import { groups, rules, tally } from './findings.js';
import { popover } from './popover.js';

// Words that people say around what they look for.
const around = new Set(['show', 'find', 'all', 'edge', 'edges', 'connections', 'that', 'with', 'have', 'has', 'a', 'an', 'the', 'are', 'is']);

/** What fits the words: [{token, name, badge, under}], groups with their rules below them. Without words, groups and what of them there is. */
export function choices(words, counts) {
  const needle = words.toLowerCase().split(/[^a-z0-9+-]+/).filter((w) => w && !around.has(w));
  const says = (text) => needle.every((w) => text.includes(w));
  const list = [];
  for (const [group, g] of Object.entries(groups)) {
    const own = `${g.name} ${g.ask}`.toLowerCase();
    const within = Object.entries(rules).filter(([name, r]) => r.group === group &&
      (needle.length ? says(`${own} ${name.replaceAll('_', ' ')} ${r.name} ${r.ask}`.toLowerCase()) : counts.has(name)));
    if (needle.length && !within.length && !says(own)) continue;
    list.push({ token: group, name: g.name, badge: g.badge, under: false });
    // A single rule that says the same as its group would stand there twice.
    if (needle.length || within.length > 1 || counts.get(group) !== counts.get(within[0]?.[0])) for (const [name, r] of within) list.push({ token: name, name: r.name, badge: r.badge, under: true });
  }
  return list;
}

export class FindMenu {
  #list = null; #words = null; #shown = '';

  constructor(button, data, state, go) {
    Object.assign(this, { button, data, state, go });
    button.addEventListener('click', () => this.toggle());
  }

  toggle() {
    this.#shown = '';
    this.#words = h('input', { type: 'search', placeholder: 'retries, without timeout, bad instance …', 'aria-label': 'What goes wrong', autocomplete: 'off', spellcheck: 'false', on: { input: () => this.update(), keydown: (e) => this.#key(e) } });
    this.#list = h('div', { class: 'choices-list', role: 'group', 'aria-label': 'What goes wrong', on: { keydown: (e) => this.#key(e) } });
    const box = popover(this.button, { name: 'Find by what goes wrong', kind: 'find', closed: () => { this.#list = null; } },
      this.#words, this.#list,
      h('div', { class: 'foot' }, h('button', { type: 'button', on: { click: () => this.go.to({ find: [] }) } }, 'Show everything'), h('a', { href: '/docs/rules' }, 'What these mean')));
    if (!box) this.#list = null;
    this.update();
  }

  /** Shows how many there are now. */
  update() {
    const { find } = this.state.now;
    this.button.setAttribute('aria-pressed', String(find.length > 0));
    this.button.replaceChildren('Find', find.length ? h('span', { class: 'of' }, ` · ${find.length}`) : '');
    if (!this.#list) return;
    const counts = tally([...this.data.edges.values(), ...this.data.nodes.values()]);
    const list = choices(this.#words.value, counts);
    const shown = JSON.stringify([list, list.map(({ token }) => [counts.get(token) ?? 0, find.includes(token)])]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    renew(this.#list, list.length ? list.map(({ token, name, badge, under }) => h('label', { data: { key: token }, class: under ? 'under' : null },
      h('input', { type: 'checkbox', value: token, checked: find.includes(token), on: { change: () => this.#choose(token) } }),
      badge === 'part' ? h('span', { class: 'part', 'aria-hidden': 'true' }, '1/n') : badgeIcon(badge), h('span', null, name), h('span', { class: counts.get(token) ? 'n' : 'n quiet' }, String(counts.get(token) ?? 0)))) :
      h('p', { class: 'quiet' }, 'No rule is called so. All of them are on the page below.'));
  }

  #choose(token) {
    const { find } = this.state.now;
    this.go.to({ find: find.includes(token) ? find.filter((x) => x !== token) : [...find, token] });
  }

  #key(e) {
    const boxes = [...this.#list.querySelectorAll('input')];
    if (e.key === 'Enter' && e.target === this.#words) {
      e.preventDefault();
      // The closest fit: a rule that fits the words, where only some rules of a group do.
      const best = boxes.find((x) => x.parentElement.className === 'under') ?? boxes[0];
      if (this.#words.value.trim() && best) this.#choose(best.value);
      return;
    }
    const by = { ArrowDown: 1, ArrowUp: -1 }[e.key];
    if (!by || !boxes.length) return;
    e.preventDefault();
    const at = boxes.indexOf(document.activeElement);
    if (at + by < 0) this.#words.focus();
    else boxes[Math.min(boxes.length - 1, at + by)].focus();
  }
}
