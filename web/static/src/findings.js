// What can be wrong, by name: in which group of the menu, under which badge, in which words. Names of rules are the
// server's; each has a page at /docs/rules. How spans are made is the doctor's to say, on its own page.

const pageOf = (rule) => `/docs/rules/${encodeURIComponent(rule)}`;

/** The groups of the menu, in its order: what they are called, and what else people call them. */
export const groups = {
  retries: { name: 'Retries', badge: 'loop', ask: 'edges that retry again repeat amplification storm' },
  waiting: { name: 'Waiting', badge: 'clock', ask: 'slow hang deadline time out' },
  discovery: { name: 'Discovery', badge: 'chain', ask: 'dns endpoint down connection' },
  trust: { name: 'Certificates and tokens', badge: 'lock', ask: 'security login' },
  guards: { name: 'Guards', badge: 'fuse', ask: 'breaker pool bulkhead limit' },
  part: { name: 'One bad part', badge: 'part', ask: 'outlier partial failure' },
  queues: { name: 'Queues', badge: 'stack', ask: 'async messages consumer kafka' },
  shape: { name: 'Shape', badge: 'ladder', ask: 'structure chatty' },
  lost: { name: 'Lost answers', badge: 'lost', ask: 'broken connection network' },
  failing: { name: 'Failing callees', badge: 'cross', ask: 'errors 5xx exception' },
  changes: { name: 'Deploys', badge: 'flag', ask: 'release rollout new version' },
};

const rule = (group, badge, name, ask = '') => ({ group, badge, name, ask });

export const rules = {
  retry_budget: rule('retries', 'loop', 'retry budget spent', 'too many retries over 10 percent'),
  retries_do_not_help: rule('retries', 'loop', 'retries do not help', 'useless'),
  no_backoff: rule('retries', 'loop', 'no back-off', 'backoff at once immediate'),
  no_jitter: rule('retries', 'loop', 'no jitter', 'in step synchronous'),
  pushback_ignored: rule('retries', 'loop', 'asked wait ignored', 'retry-after pushback'),
  unsafe_retry: rule('retries', 'loop', 'possible double effect', 'unsafe non-idempotent post twice'),
  nested_retries: rule('retries', 'loop', 'nested retries', 'layers product'),
  hedging: rule('retries', 'loop', 'hedged calls', 'speculative'),
  redelivery: rule('retries', 'loop', 'messages delivered again', 'redelivered'),
  timeout: rule('waiting', 'clock', 'timeout', 'deadline exceeded'),
  no_timeout: rule('waiting', 'clock-none', 'no evident timeout', 'without timeout missing'),
  gives_up_first: rule('waiting', 'clock-half', 'caller gives up first', 'parent before child order'),
  wasted_work: rule('waiting', 'hourglass', 'wasted work', 'abandoned'),
  saturation: rule('waiting', 'hourglass', 'saturated', 'ceiling concurrency in flight'),
  refused: rule('discovery', 'chain', 'connection refused', 'no endpoint unhealthy upstream'),
  unresolved: rule('discovery', 'chain', 'name not known', 'dns nxdomain'),
  tls: rule('trust', 'lock', 'certificate or handshake', 'tls expired x509 authority'),
  auth: rule('trust', 'lock', 'not authenticated or not allowed', 'token 401 403 forbidden'),
  breaker_open: rule('guards', 'fuse', 'breaker open', 'circuit'),
  pool_exhausted: rule('guards', 'fuse', 'pool exhausted', 'bulkhead connections'),
  throttled: rule('guards', 'funnel', 'throttled', 'rate limit 429 too many requests overload'),
  bad_instance: rule('part', 'part', 'bad instance', 'with a bad instance pod'),
  bad_zone: rule('part', 'part', 'bad zone', 'availability'),
  bad_host: rule('part', 'part', 'bad host', 'node machine'),
  bad_version: rule('part', 'part', 'bad version', 'release'),
  bad_caller: rule('part', 'part', 'bad caller', 'client instance'),
  backlog: rule('queues', 'stack', 'backlog grows', 'drain'),
  queue_lag: rule('queues', 'stack', 'messages wait', 'lag'),
  dead_letters: rule('queues', 'stack', 'dead letters', 'dlq'),
  n_plus_one: rule('shape', 'ladder', 'N+1 calls', 'repeated loop query'),
  deep_chain: rule('shape', 'ladder', 'deep chain', 'depth'),
  reset: rule('lost', 'lost', 'connection broken', 'reset'),
  lost_response: rule('lost', 'lost', 'answer lost on the way', 'response'),
  server_error: rule('failing', 'cross', 'the callee fails', '500'),
  contract: rule('failing', 'unequal', 'caller and callee disagree', 'contract unimplemented protocol'),
  unclassified: rule('failing', 'question', 'fails without saying why', 'unknown'),
  deploy: rule('changes', 'flag', 'new version'),
};

const levels = { note: 0, warn: 1, severe: 2 };
export const levelOf = (finding) => levels[finding.level] ?? 0;
export const levelWord = { note: 'note', warn: 'degrades', severe: 'fails' };

/** What is known of a rule; of one that this page does not know, what its name says. */
export const ruleOf = (name) => (Object.hasOwn(rules, name) ? rules[name] : rule('', 'question', String(name).replaceAll('_', ' ')));

export const docOf = pageOf;

const none = [];

/** The findings of an edge or node, the worst first. */
export function findingsOf(thing) {
  const list = thing?.findings;
  return list?.length ? [...list].sort((a, b) => levelOf(b) - levelOf(a) || b.n - a.n) : none;
}

/** How loud the worst of them is: −1 when there is none. */
export const loudest = (thing) => (thing?.findings ?? none).reduce((most, x) => Math.max(most, levelOf(x)), -1);

/** Whether an edge or node has one of what is asked for: groups or rules. */
export const fits = (thing, wanted) => (thing?.findings ?? none).some((x) => wanted.includes(x.rule) || wanted.includes(ruleOf(x.rule).group));

// A UUID is told by its beginning, a node by what comes after its kind or namespace.
const short = (subject) => (/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}$/i.test(subject) ? `${subject.slice(0, 8)}…` : subject.replace(/^(?:db|queue|ext):(?=.)/, ''));

/** What is found, by name, with what exactly it is about: "bad instance payment-2", "certificate or handshake: expired certificate". */
export function nameOf({ rule: id, subject: whole }) {
  const { name, group } = ruleOf(id);
  if (!whole) return name;
  const subject = short(whole);
  if (subject.startsWith(`${id}: `)) return `${name}: ${subject.slice(id.length + 2)}`;
  return `${name}${group === 'part' || group === 'changes' ? ' ' : ' · '}${subject}`;
}

/** A finding's sentence, which has its figures, as a sentence. */
export function sentenceOf({ sentence: s, subject }) {
  if (!s) return '';
  const named = subject && s.startsWith(subject); // a name stays as it is written
  return `${named ? s[0] : s[0].toUpperCase()}${s.slice(1)}${/[.!?]$/.test(s) ? '' : '.'}`;
}

// What stands in a badge in place of a shape.
const inBadge = { bad_zone: 'zone', bad_host: 'host', bad_version: 'version', bad_caller: 'caller', n_plus_one: 'N+1' };

/**
 * The badges of findings, the worst first, each once: {kind, text, level, rules}. Of bad instances the badge says how many
 * they are, of all: "1/12", where that is known.
 */
export function badgesOf(findings, instances = null) {
  const bad = new Set(findings.filter((x) => x.rule === 'bad_instance').map((x) => x.subject)).size;
  const badges = [];
  for (const x of findings) {
    const { badge } = ruleOf(x.rule);
    const text = x.rule === 'bad_instance' ? `${bad}/${instances > bad ? instances : 'n'}` : inBadge[x.rule] ?? '';
    const same = badges.find((b) => b.kind === badge && b.text === text);
    if (same) same.rules.push(x.rule);
    else badges.push({ kind: badge, text, level: Object.hasOwn(levels, x.level) ? x.level : 'note', rules: [x.rule] });
  }
  return badges;
}

/** How many edges and nodes have each group and rule. */
export function tally(things) {
  const counts = new Map();
  for (const t of things) {
    const has = new Set();
    for (const x of t.findings ?? none) has.add(x.rule).add(ruleOf(x.rule).group);
    for (const name of has) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}
