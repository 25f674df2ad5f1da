// The keys: what each does, and walking the map by them. A key that has nothing to do says so.

import { $ } from './dom.js';
import * as f from './format.js';
import { faulty, severity, weight } from './view.js';

// Where characters are typed, they are not commands.
const typing = (e) => e.matches?.('input:not([type=checkbox]), select, textarea');

/** Listens to keys: list is [[key, what it does in words, function]], back is what Escape does. */
export function listen(list, { map, walkable, open, back, tell }) {
  const canvas = $('#canvas');
  document.addEventListener('keydown', (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented) return;
    const dialog = $('dialog[open]');
    if (e.key === 'Escape') {
      if (!dialog && !typing(e.target)) back();
      return;
    }
    if (typing(e.target)) return;
    const key = list.find(([k]) => k === e.key || (k === '+' && e.key === '='));
    if (dialog) { // what was opened by a key is closed by one
      if (key) { e.preventDefault(); dialog.close(); }
      return;
    }
    if (key) { e.preventDefault(); key[2](); return; }
    // Nothing else has the focus: then the map has it.
    if (walkable() && (e.target === canvas || e.target === document.body)) walk(e);
  });

  const dirs = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };

  /** Arrow keys go from one to the next on the map, Enter opens. */
  function walk(e) {
    const { items } = map.view;
    if (!items.length || !(e.key === 'Enter' || Object.hasOwn(dirs, e.key))) return;
    e.preventDefault();
    canvas.focus({ preventScroll: true });
    const from = map.indexOf(map.cursor?.id) ?? map.hover?.item ?? items.findIndex((it) => map.selected?.(it));
    if (e.key === 'Enter' && items[from]) { open(items[from], e.shiftKey); return; }
    // Whoever was stood on may be gone: then on from where that was.
    const at = items[from] ?? map.cursor;
    const best = at && e.key !== 'Enter' ? next(items, at, dirs[e.key]) : first(items);
    if (best < 0) { tell('Nothing lies further that way.'); return; }
    map.walkTo(best);
    const it = items[best];
    tell(`${it.name}, ${f.healthWord[it.health]}. Enter opens.`, { seen: false });
  }
}

/** Where a walk begins: at the first entry, the leftmost or topmost. */
const first = (items) => items.reduce((best, it, i) => (it.x + it.y < items[best].x + items[best].y ? i : best), 0);

/** The next item in a direction, best one that lies straight ahead; −1 when there is none. */
export function next(items, at, [dx, dy]) {
  let best = -1, least = Infinity;
  items.forEach((it, i) => {
    const along = (it.x - at.x) * dx + (it.y - at.y) * dy, across = Math.abs((it.x - at.x) * dy) + Math.abs((it.y - at.y) * dx);
    if (along <= 0) return;
    const cost = along + across * 2 + (across > along * 2.5 ? 1e6 : 0);
    if (cost < least) { least = cost; best = i; }
  });
  return best;
}

/** The edge to look at after another: the worst first, and round. */
export function nextWrong(edges, id) {
  const bad = [...edges].filter((e) => faulty(e.health)).sort((a, b) => severity(b.health) - severity(a.health) || weight(b) - weight(a) || b.errors - a.errors || (a.id < b.id ? -1 : 1));
  return bad[(bad.findIndex((e) => e.id === id) + 1) % bad.length];
}
