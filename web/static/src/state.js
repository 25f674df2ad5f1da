// What is shown is in the URL, whole: copying the address copies the view, and back goes back.

import { groups, rules } from './findings.js';

export const ranges = { live: 0, '15m': 900, '1h': 3600, '6h': 21600, '24h': 86400, '7d': 604800 };
export const rangeWords = { live: 'Live', '15m': 'Last 15 min', '1h': 'Last hour', '6h': 'Last 6 h', '24h': 'Last 24 h', '7d': 'Last 7 days' };

const defaults = { env: null, view: 'map', service: '', to: '', edge: '', trace: '', depth: 0, range: 'live', at: '', q: '', only: '', find: [], open: [] };

/** Reads a state out of a query; what makes no sense is left out. */
export function parse(search) {
  const p = new URLSearchParams(search);
  const at = p.get('at') ?? '';
  return {
    ...defaults,
    env: p.get('env'),
    view: p.get('view') === 'table' ? 'table' : 'map',
    service: p.get('service') ?? '',
    to: p.get('service') ? p.get('to') ?? '' : '',
    edge: p.get('edge') ?? '',
    trace: p.get('trace') ?? '',
    depth: Math.min(9, Math.max(0, Number.parseInt(p.get('depth') ?? '0', 10) || 0)),
    range: Object.hasOwn(ranges, p.get('range') ?? '') ? p.get('range') : 'live',
    at: Number.isNaN(Date.parse(at)) ? '' : at,
    q: p.get('q') ?? '',
    only: p.get('only') === 'unhealthy' ? 'unhealthy' : '',
    find: [...new Set((p.get('find') ?? '').split(',').filter((x) => Object.hasOwn(groups, x) || Object.hasOwn(rules, x)))],
    open: p.getAll('open'),
  };
}

/** The query of a state: only what differs from the default. */
export function format(state) {
  const p = new URLSearchParams();
  for (const [k, v] of Object.entries(state)) {
    if (k === 'find') { if (v.length) p.set(k, v.join(',')); } else if (Array.isArray(v)) v.forEach((x) => p.append(k, x));
    else if (v !== defaults[k] && v !== '' && v !== 0) p.set(k, v);
  }
  if (state.env === '') p.set('env', '');
  const s = p.toString().replaceAll('%2C', ','); // people read addresses
  return s === '' ? '' : `?${s}`;
}

/** The state of the page, and who wants to know of its changes. */
export class State extends EventTarget {
  constructor() {
    super();
    this.now = parse(location.search);
    addEventListener('popstate', () => this.#become(parse(location.search)));
  }

  /** Changes some of it. Every change can be gone back from, except with replace. */
  set(changes, { replace = false } = {}) {
    const next = { ...this.now, ...changes };
    if (next.edge || next.service !== this.now.service) next.to = changes.to ?? ''; // a path is that of one service
    const url = location.pathname + format(next);
    if (url !== location.pathname + location.search) history[replace ? 'replaceState' : 'pushState'](null, '', url);
    this.#become(next);
  }

  #become(next) {
    const before = this.now;
    this.now = next;
    this.dispatchEvent(new CustomEvent('change', { detail: { before, now: next } }));
  }

  /** The span of time that is shown, as from and to of the API; live takes the minute that the live map covers. */
  span() {
    const { range, at } = this.now;
    const seconds = ranges[range] || (at ? 900 : 60);
    if (at) {
      const to = new Date(at);
      return { from: new Date(to - seconds * 1000).toISOString(), to: to.toISOString(), seconds };
    }
    return { from: `now-${seconds}s`, to: 'now', seconds };
  }

  get live() { return this.now.range === 'live' && !this.now.at; }
}
