// The rules as the Markdown document NBD-CLIENT-CONFORMANCE.md.

import { errnoName } from '../../../src/base/errno.ts';
import { sections } from './index.ts';
import type { Outcome, Rule } from './rule.ts';

/** Characters of a text that are shown. */
const LONGEST_TEXT = 160;

/** The whole document. */
export function clientConformanceReport(): string {
  const rules = sections.flatMap((section) => section.rules);
  const count = (is: Outcome['is']): number => rules.filter(({ ours }) => ours.is === is).length;
  const lines = [
    '# NBD conformance of the client',
    '',
    'What the [NBD protocol](https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md) asks of a server and a client can',
    'see broken, what becomes of an `nbd` node whose server breaks it, and what becomes of one of the reference. The rules are in',
    'our words, under the headings of the specification. Written by `make nbd-conformance`; tested over a socket, with both.',
    '',
    `${rules.length} rules: for ${count('refused')} there is no node, for ${count('left')} the server is left for good, for ` +
      `${count('lost')} it is connected to`,
    `anew, for ${count('failed')} the request fails alone, and ${count('tolerated')} breaches are tolerated.`,
  ];
  for (const { name, rules: own } of sections) {
    lines.push(
      '',
      `## ${name}`,
      '',
      '| level | rule | ours | the reference | why |',
      '|---|---|---|---|---|',
    );
    for (const rule of own) lines.push(rowOf(rule));
  }
  return `${lines.join('\n')}\n`;
}

function rowOf({ level, text, ours, reference, reason = '' }: Rule): string {
  return `| ${[level, text, words(ours), otherwise(reference), reason].join(' | ')} |`;
}

function otherwise(reference: Rule['reference']): string {
  if (reference === undefined) return 'the same';
  return typeof reference === 'string' ? reference : words(reference);
}

function words(outcome: Outcome): string {
  switch (outcome.is) {
    case 'refused':
      return `no node: \`${shortened(outcome.error)}\``;
    case 'left':
      return `${named(outcome.errno)}, left for good: \`${shortened(outcome.reason)}\``;
    case 'lost':
      return `${named(outcome.errno)}, then a new connection`;
    case 'failed':
      return `${named(outcome.errno)} for the request alone`;
    case 'tolerated':
      return 'tolerated';
  }
  return outcome satisfies never;
}

function named(errno: number): string {
  return errno === 0 ? 'success' : errnoName(errno);
}

function shortened(text: string): string {
  return text.length <= LONGEST_TEXT ? text : `${text.slice(0, LONGEST_TEXT)}...`;
}
