// Elements from values. Text is only ever set as text: a name that looks like HTML stays a name.

/** h('a', {href, class, on: {click}}, ...children): children are nodes, strings, or null. */
export function h(tag, attrs, ...children) {
  const e = document.createElement(tag);
  fill(e, attrs, children);
  return e;
}

const svgNS = 'http://www.w3.org/2000/svg';

/** The same for SVG. */
export function s(tag, attrs, ...children) {
  const e = document.createElementNS(svgNS, tag);
  fill(e, attrs, children);
  return e;
}

function fill(e, attrs, children) {
  for (const [k, v] of Object.entries(attrs ?? {})) {
    if (v == null || v === false) continue;
    if (k === 'on') for (const [type, f] of Object.entries(v)) e.addEventListener(type, f);
    else if (k === 'style') for (const [p, x] of Object.entries(v)) e.style.setProperty(p, x);
    else if (k === 'data') Object.assign(e.dataset, v);
    else e.setAttribute(k, v === true ? '' : v);
  }
  e.append(...children.flat(Infinity).filter((c) => c != null && c !== false));
}

export const $ = (selector, within = document) => within.querySelector(selector);

/** A badge: shape, colour and word say the same. */
export function badge(health, word) {
  const shapes = {
    ok: s('circle', { cx: 6, cy: 6, r: 4 }),
    warn: s('path', { d: 'M6 1 11.5 11H.5z' }),
    critical: s('path', { d: 'M3.6.5h4.8l3.1 3.1v4.8l-3.1 3.1H3.6L.5 8.4V3.6z' }),
    unknown: s('circle', { cx: 6, cy: 6, r: 4, 'stroke-dasharray': '2 1.6' }),
  };
  return h('span', { class: `badge ${shapes[health] ? health : 'unknown'}` },
    s('svg', { viewBox: '0 0 12 12', 'aria-hidden': 'true' }, shapes[health] ?? shapes.unknown), word);
}

/** Puts text into the clipboard and says so on the button. */
export async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Press Ctrl+C';
    const area = h('textarea', { class: 'offscreen' });
    area.value = text;
    document.body.append(area);
    area.select();
    setTimeout(() => area.remove(), 4000);
  }
  setTimeout(() => { button.textContent = before; }, 1600);
}
