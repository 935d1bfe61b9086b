// The configuration file of a blkdebug node: sections `[inject-error]` and `[set-state]` of lines `name = "value"`, in the
// dialect of the reference's configuration files.

import { parseUnsignedText } from '../base/number-text.ts';
import { QmpError } from '../qapi/errors.ts';
import { BlkdebugEventValues, BlkdebugIOTypeValues } from '../qapi/generated/enums.ts';
import type {
  BlkdebugInjectErrorOptions,
  BlkdebugSetStateOptions,
} from '../qapi/generated/types.ts';
import type { RuleOptions } from './debug-rules.ts';

/** Longest line that is read as one, its end included. */
const LONGEST_LINE = 1023;

type Kind = 'string' | 'number' | 'bool';

/** The groups there are, with the options of each. */
const groups: { readonly [group: string]: { readonly [option: string]: Kind } } = {
  'inject-error': {
    event: 'string',
    state: 'number',
    iotype: 'string',
    errno: 'number',
    sector: 'number',
    once: 'bool',
    immediately: 'bool',
  },
  'set-state': { event: 'string', state: 'number', new_state: 'number' },
};

interface Section {
  readonly group: string;
  readonly options: Map<string, string>;
}

/** Throws QmpError with the reference's text. */
export function debugConfig(text: string): RuleOptions {
  const rules = sections(text).map(checkedSection);
  const injectError: BlkdebugInjectErrorOptions[] = [];
  const setState: BlkdebugSetStateOptions[] = [];
  for (const { group, values } of rules) {
    const rule = checkedRule(values);
    if (group === 'inject-error') injectError.push(rule);
    else setState.push({ new_state: 0, ...rule });
  }
  return { injectError, setState };
}

function sections(text: string): Section[] {
  const found: Section[] = [];
  for (const line of text.split('\n').flatMap((whole) => pieces(whole))) {
    if (line === '' || line.startsWith('#')) continue;
    const group = /^\[([^\]]{1,63})\]?/.exec(line)?.[1];
    if (group !== undefined) {
      const named = /^([^\s"]{1,63})\s+"[^"]{1,63}"?/.exec(group);
      found.push({ group: named?.[1] ?? group, options: new Map() });
      continue;
    }
    const option = /^\s*(\S{1,63})\s*=\s*"([^"]{0,1023})"?/.exec(line);
    if (option === null) throw new QmpError('parse error');
    const section = found.at(-1);
    if (section === undefined) throw new QmpError('no group defined');
    section.options.set(option[1] ?? '', option[2] ?? '');
  }
  return found;
}

/** A line that is too long goes on as another. */
function pieces(line: string): string[] {
  const all: string[] = [];
  for (let at = 0; at === 0 || at < line.length; at += LONGEST_LINE) {
    all.push(line.slice(at, at + LONGEST_LINE));
  }
  return all;
}

function checkedSection({ group, options }: Section): {
  readonly group: string;
  readonly values: Readonly<Record<string, unknown>>;
} {
  const kinds = Object.hasOwn(groups, group) ? groups[group] : undefined;
  if (kinds === undefined) throw new QmpError(`There is no option group '${group}'`);
  const values: Record<string, unknown> = {};
  for (const [name, text] of options) {
    const kind = Object.hasOwn(kinds, name) ? kinds[name] : undefined;
    if (kind === undefined) throw new QmpError(`Invalid parameter '${name}'`);
    values[name] = valueOf(name, text, kind);
  }
  return { group, values };
}

function valueOf(name: string, text: string, kind: Kind): string | number | boolean {
  if (kind === 'string') return text;
  if (kind === 'bool') {
    if (['on', 'yes', 'true', 'y'].includes(text)) return true;
    if (['off', 'no', 'false', 'n'].includes(text)) return false;
    throw new QmpError(`Parameter '${name}' expects 'on' or 'off'`);
  }
  const number = parseUnsignedText(text);
  if (number === 'out of range') {
    throw new QmpError(`Value '${text}' is too large for parameter '${name}'`);
  }
  if (number === 'invalid') throw new QmpError(`Parameter '${name}' expects a number`);
  // As wide as the reference's variables.
  return Number(BigInt.asIntN(name === 'sector' ? 64 : 32, number));
}

function checkedRule(rule: Readonly<Record<string, unknown>>): BlkdebugInjectErrorOptions {
  const { event, iotype } = rule as { readonly event?: string; readonly iotype?: string };
  if (event === undefined) throw new QmpError('Missing event name for rule');
  for (const [value, values] of [
    [event, BlkdebugEventValues],
    [iotype, BlkdebugIOTypeValues],
  ] as const) {
    if (value === undefined || (values as readonly string[]).includes(value)) continue;
    throw new QmpError(`Parameter '(null)' does not accept value '${value}'`);
  }
  return rule as unknown as BlkdebugInjectErrorOptions;
}
