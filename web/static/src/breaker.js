// What the breakers of an edge's callers did over time, as a strip and in words.

import { h } from './dom.js';
import { docOf } from './findings.js';
import * as f from './format.js';
import { observed, table } from './sections.js';

const words = { closed: 'closed', half_open: 'half open', open: 'open', partly_open: 'partly open' };
const meanings = {
  closed: 'Calls pass', half_open: 'Single calls pass, to see how the callee is', open: 'No call passes',
  partly_open: 'Some callers’ breakers are open, or one opened or closed meanwhile',
};
const wordOf = (state) => words[state] ?? state;
const room = 0.16; // of the strip, that a state's word takes
const gap = 0.02; // of the strip, that is seen to be empty
const lines = 6; // states that are listed, the newest first

/** States one after the other: where they lie on a strip from the first to a moment, 0…1, and how long they lasted in seconds. */
function placed(runs, until) {
  const start = Date.parse(runs[0].from), whole = Math.max(1, until - start);
  return runs.map((run) => {
    const from = Date.parse(run.from), to = Math.min(until, Date.parse(run.to));
    return { run, left: (from - start) / whole, width: (to - from) / whole, seconds: (to - from) / 1000 };
  });
}

export function breaker(edge) {
  const runs = edge.breaker?.runs ?? [];
  if (!runs.length) return '';
  const until = Date.parse(edge.to), since = new Date(edge.breaker.since), list = placed(runs, until);
  const clock = (time) => f.clock(new Date(time), new Date(until)); // the day is told where it is not the last one
  // What was so from the first may have been so for longer.
  const when = `${runs.length === 1 ? 'since before' : 'since'} ${clock(since)}, ${f.span(Math.max(1, Math.round((until - since) / 1000)))}`;
  const said = list.map(({ run, seconds }) => `${wordOf(run.state)} from ${clock(run.from)} for ${f.span(seconds)}`).join(', ');
  const silent = list.some((x, i) => (i + 1 < list.length ? list[i + 1].left : 1) - x.left - x.width > gap);
  return h('section', { data: { key: 'breaker' } },
    h('h3', null, 'Breaker', h('span', { class: 'quiet' }, h('b', null, wordOf(edge.breaker.state)), ` ${when}`)),
    h('div', { class: 'strip', role: 'img', 'aria-label': `The breaker was ${said}` }, list.map(({ run, left, width, seconds }) => h('span', {
      class: `state ${run.state}`, style: { left: `${left * 100}%`, width: `${width * 100}%` }, title: `${wordOf(run.state)} from ${clock(run.from)} for ${f.span(seconds)}`,
    }, width > room ? h('b', null, wordOf(run.state)) : null))),
    h('div', { class: 'strip-ends quiet' }, h('span', null, clock(runs[0].from)), silent ? h('span', null, 'empty where nobody called') : null, h('span', null, clock(until))),
    table(['State', 'From', 'For', 'Kept back', 'Passed'], list.slice(-lines).reverse().map(({ run, seconds }) => [
      h('span', { class: 'of-state', title: meanings[run.state] }, h('i', { class: `state ${run.state}` }), wordOf(run.state)), clock(run.from), f.span(seconds), f.count(run.kept),
      h('span', { title: f.exact(run.failed, 'of them failed') }, f.count(run.passed), run.failed > 0 ? h('span', { class: 'quiet' }, `, ${f.count(run.failed)} failed`) : null)])),
    h('p', { class: 'evidence' }, list.length > lines ? h('span', { class: 'quiet' }, `And ${list.length - lines} before, all in the JSON.`) : null,
      observed(runs.reduce((sum, run) => sum + run.n, 0), 'calls'), h('a', { href: docOf('breaker_open'), 'aria-label': 'How the states of the breaker are computed' }, 'how this is computed')));
}
