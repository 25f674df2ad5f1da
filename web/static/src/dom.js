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
    if (k === 'on') for (const [type, f] of Object.entries(v)) listen(e, type, f);
    else if (k === 'style') for (const [p, x] of Object.entries(v)) e.style.setProperty(p, x);
    else if (k === 'data') Object.assign(e.dataset, v);
    else e.setAttribute(k, v === true ? '' : v);
  }
  e.append(...children.flat(Infinity).filter((c) => c != null && c !== false));
}

// What an element does on an event can be given to it anew; it is kept apart for that.
const doing = new WeakMap();

function listen(e, type, f) {
  const own = doing.get(e) ?? doing.set(e, {}).get(e);
  if (!Object.hasOwn(own, type)) e.addEventListener(type, (event) => own[type]?.(event));
  own[type] = f;
}

const keyOf = (n) => n.dataset?.key ?? '';
const alike = (a, b) => a?.nodeName === b.nodeName && keyOf(a) === keyOf(b) && a.namespaceURI === b.namespaceURI;

/**
 * Makes an element's children say what the given ones say, and keeps those that are there: what has the focus, is
 * selected, or is being pressed when news comes stays what it is, so that no key and no click is lost. Children with
 * data-key are told apart by it, others by their place.
 */
export function renew(parent, ...children) {
  const wanted = children.flat(Infinity).filter((c) => c != null && c !== false && c !== '').map((c) => (c instanceof Node ? c : document.createTextNode(c)));
  const had = parent.contains(document.activeElement) ? document.activeElement : null;
  const keyed = new Map(), keys = new Set(wanted.map(keyOf));
  for (const c of [...parent.childNodes]) {
    if (!keyOf(c)) continue;
    if (keys.has(keyOf(c))) keyed.set(keyOf(c), c);
    else c.remove(); // what is gone makes no other move
  }
  let at = parent.firstChild;
  for (const want of wanted) {
    const old = want.parentNode === parent ? want : keyOf(want) ? keyed.get(keyOf(want)) : at;
    if (!alike(old, want)) { parent.insertBefore(want, at); continue; }
    keyed.delete(keyOf(want));
    if (old === at) at = at.nextSibling;
    else parent.insertBefore(old, at);
    if (old !== want) become(old, want);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
  if (had && had !== document.activeElement && parent.contains(had)) had.focus({ preventScroll: true }); // it was moved
}

function become(old, want) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== want.data) old.data = want.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!want.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of want.attributes) {
    if (old.getAttribute(name) === value) continue;
    if (name === 'style') old.style.cssText = want.style.cssText; // the attribute itself is not to be set, by the content policy
    else old.setAttribute(name, value);
  }
  if (old.type === 'checkbox') old.checked = want.checked;
  const does = doing.get(want) ?? {};
  for (const type of Object.keys(doing.get(old) ?? {})) if (!Object.hasOwn(does, type)) listen(old, type, undefined);
  for (const [type, f] of Object.entries(does)) listen(old, type, f);
  renew(old, ...want.childNodes);
}

/** Keeps figures and their units on one line. */
export const glued = (text) => text.replace(/(\d) (?=%|[µm]?s\b|min\b|h\b|[kM]\/s)/g, '$1\u00a0');

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
