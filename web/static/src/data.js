// The graph as the server tells it: pushed over a WebSocket while live, asked for otherwise.

/** Asks the API. Errors carry the server's own words. */
export async function ask(path, params, signal) {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(params ?? {})) if (v != null && v !== '') q.set(k, v);
  if (params?.env === '') q.set('env', '');
  const query = q.toString();
  const answer = await fetch(`/api/v1/${path}${query ? `?${query}` : ''}`, { signal, headers: { Accept: 'application/json' } });
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Error(body?.detail || body?.title || `${answer.status} ${answer.statusText}`);
  return body;
}

const slowest = 15000; // ms between attempts to reconnect

/**
 * Data holds nodes, edges and links by id. It fires "change" (detail: what changed) and "stream" (its state changed).
 * stream is one of: connecting, live, broken (what is shown is of `at`), still (a moment or a range, not pushed).
 */
export class Data extends EventTarget {
  nodes = new Map();
  edges = new Map();
  links = new Map(); // whose spans link to whose, which is no call
  envs = null;
  env = null;
  truncated = false;
  at = null; // Date of what is shown
  heard = 0; // when the stream last said anything, in ms
  stream = 'connecting';
  error = '';
  #socket; #timer; #poll; #wait = 500; #seq = 0; #failures = 0; #abort; #generation = 0;

  /** Follows the live graph of an environment (null: the busiest). */
  follow(env) {
    this.stop();
    this.#say('connecting');
    this.#connect(env, this.#generation);
  }

  /** Shows a span of time, again every few seconds when it ends now. */
  async show(span, env) {
    this.stop();
    this.#say('still');
    const generation = this.#generation;
    const load = async () => {
      this.#abort = new AbortController();
      try {
        const g = await ask('graph', { from: span.from, to: span.to, env }, this.#abort.signal);
        if (generation !== this.#generation) return;
        this.error = '';
        this.#replace(g, new Date(g.to));
      } catch (e) {
        if (generation !== this.#generation || e.name === 'AbortError') return;
        this.error = e.message;
        this.#say('broken');
      }
      if (span.to === 'now' && generation === this.#generation) this.#poll = setTimeout(load, Math.min(60000, Math.max(5000, span.seconds * 10)));
    };
    await load();
  }

  /** Waits for the first graph: for so many milliseconds at most, and not when it cannot be had. */
  async first(patience) {
    if (this.at) return;
    await new Promise((done) => {
      setTimeout(done, patience);
      this.addEventListener('change', done, { once: true });
      this.addEventListener('stream', () => { if (this.stream === 'broken') done(); });
    });
  }

  stop() {
    this.#generation++;
    clearTimeout(this.#timer);
    clearTimeout(this.#poll);
    this.#abort?.abort();
    this.#socket?.close();
    this.#socket = null;
  }

  #connect(env, generation) {
    const url = new URL('/api/v1/live', location.href);
    url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    if (env != null) url.searchParams.set('env', env);
    const socket = new WebSocket(url);
    this.#socket = socket;
    let opened = false;
    const again = () => {
      if (generation !== this.#generation) return;
      this.#socket = null;
      this.#failures = opened ? 0 : this.#failures + 1;
      this.#say('broken');
      // Some proxies never let a WebSocket through: ask in between, so that the map is not empty.
      if (this.#failures >= 2) this.#once(env, generation);
      this.#timer = setTimeout(() => this.#connect(env, generation), this.#wait * (0.5 + Math.random()));
      this.#wait = Math.min(slowest, this.#wait * 2);
    };
    socket.onclose = again;
    socket.onmessage = (event) => {
      if (generation !== this.#generation) return;
      let m;
      try { m = JSON.parse(event.data); } catch { socket.close(); return; }
      this.heard = Date.now();
      if (m.type === 'graph') {
        opened = true;
        this.#wait = 500;
        this.#seq = m.seq;
        this.#replace(m, new Date(m.at));
        this.#say('live');
        return;
      }
      if (m.seq !== this.#seq + 1) { socket.close(); return; } // a gap: ask for everything again
      this.#seq = m.seq;
      if (m.type === 'delta') this.#change(m);
    };
  }

  async #once(env, generation) {
    try {
      const g = await ask('graph', { from: 'now-60s', to: 'now', env });
      if (generation === this.#generation && this.stream !== 'live') this.#replace(g, new Date(g.to));
    } catch { /* the banner says it already */ }
  }

  #replace(g, at) {
    const before = this.nodes;
    this.nodes = new Map((g.nodes ?? []).map((n) => [n.id, n]));
    this.edges = new Map((g.edges ?? []).map((e) => [e.id, e]));
    this.links = new Map((g.links ?? []).map((l) => [l.id, l]));
    if (g.envs) this.envs = g.envs;
    if (g.env != null) this.env = g.env;
    this.truncated = !!g.truncated;
    this.at = at;
    const same = before.size === this.nodes.size && [...this.nodes.keys()].every((id) => before.has(id));
    this.dispatchEvent(new CustomEvent('change', { detail: { structure: true, fresh: !same, worse: [] } }));
  }

  #change(m) {
    let structure = false;
    const worse = [];
    for (const n of m.nodes ?? []) {
      const old = this.nodes.get(n.id);
      structure ||= !old || old.x !== n.x || old.y !== n.y;
      this.nodes.set(n.id, n);
    }
    for (const e of m.edges ?? []) {
      const old = this.edges.get(e.id);
      structure ||= !old;
      if (old && old.health !== e.health) worse.push(e.id);
      this.edges.set(e.id, e);
    }
    for (const l of m.links ?? []) {
      structure ||= !this.links.has(l.id);
      this.links.set(l.id, l);
    }
    for (const id of m.removed?.links ?? []) structure = this.links.delete(id) || structure;
    for (const id of m.removed?.nodes ?? []) structure = this.nodes.delete(id) || structure;
    for (const id of m.removed?.edges ?? []) structure = this.edges.delete(id) || structure;
    if (m.envs) this.envs = m.envs;
    this.at = new Date(m.at);
    if (m.nodes?.length || m.edges?.length || m.links?.length || structure) this.dispatchEvent(new CustomEvent('change', { detail: { structure, worse } }));
  }

  #say(stream) {
    if (this.stream === stream) return;
    this.stream = stream;
    this.dispatchEvent(new Event('stream'));
  }
}
