// A box below a button of the bar: one is open at a time, Escape or a click elsewhere closes it.

import { $, h } from './dom.js';

let open = null;

function close(focus) {
  if (!open) return;
  const { box, button, closed } = open;
  open = null;
  box.remove();
  button.setAttribute('aria-expanded', 'false');
  if (focus) button.focus();
  closed?.();
}

export const closePopover = () => {
  const was = open !== null;
  close(true);
  return was;
};

/** Opens a box below a button, or closes it when it is open; closed is told. */
export function popover(button, { name, kind = '', closed }, ...children) {
  const same = open?.button === button;
  close(false);
  if (same) { button.focus(); return null; }
  const box = h('div', { class: `popover ${kind}`, role: 'dialog', 'aria-label': name, on: { keydown: (e) => { if (e.key === 'Escape') { e.stopPropagation(); close(true); } } } }, children);
  open = { box, button, closed };
  $('.bar').append(box);
  button.setAttribute('aria-expanded', 'true');
  $('input, button', box)?.focus();
  return box;
}

document.addEventListener('pointerdown', (e) => { if (open && !open.box.contains(e.target) && !open.button.contains(e.target)) close(false); });
