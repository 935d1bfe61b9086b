// QemuOpts, the older syntax that --chardev and --trace take: one flat list of options with declared names and types.

import type { Logger } from '../base/log.ts';
import { parseSizeText, parseUnsignedText } from '../base/number-text.ts';
import { QmpError } from '../qapi/errors.ts';

export type QemuOptType = 'str' | 'bool' | 'num' | 'size';

export interface QemuOptsList {
  readonly name: string;
  /** The key that the first parameter may leave out. */
  readonly impliedKey: string;
  readonly options: { readonly [name: string]: QemuOptType };
}

/** The parsed parameters: texts, checked against their types; the last one of a name wins. */
export interface QemuOpts {
  readonly id: string | undefined;
  get(name: string): string | undefined;
}

const TYPE_TEXT = {
  str: 'str',
  bool: 'bool (on/off)',
  num: 'num',
  size: 'size',
} as const satisfies Record<QemuOptType, string>;

const ID = /^[A-Za-z][A-Za-z0-9._-]*$/;

/** Parses `text`; 'help' when it asks for help. Flags without a value are accepted with a warning, as the reference does. */
export function parseQemuOpts(text: string, list: QemuOptsList, log: Logger): QemuOpts | 'help' {
  const id = parameters(text, undefined).find(({ name }) => name === 'id')?.value;
  if (id !== undefined && !ID.test(id)) {
    throw new QmpError(`Parameter 'id' expects an identifier`, {
      hint: `Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.`,
    });
  }
  const values = new Map<string, string>();
  for (const parameter of parameters(text, list.impliedKey)) {
    const { name, value, flag } = parameter;
    if (flag !== undefined) {
      if (flag === 'help' || flag === '?') return 'help';
      log.warn(`short-form boolean option '${flag}' deprecated`, { hint: longForm(parameter) });
    }
    if (name === 'id') continue;
    checkValue(name, value, list);
    values.set(name, value);
  }
  return { id, get: (name) => values.get(name) };
}

/** What `help` prints: every option of the list with its type, sorted. */
export function qemuOptsHelp(list: QemuOptsList): string {
  const lines = Object.entries(list.options).map(
    ([name, type]) => `  ${name}=<${TYPE_TEXT[type]}>\n`,
  );
  return `${list.name} options:\n${lines.sort().join('')}`;
}

interface Parameter {
  readonly name: string;
  readonly value: string;
  /** The word as written, when it had no value. */
  readonly flag?: string;
}

function parameters(text: string, impliedKey: string | undefined): Parameter[] {
  const found: Parameter[] = [];
  let implied = impliedKey;
  for (let at = 0; at < text.length; implied = undefined) {
    const stop = at + text.slice(at).search(/[=,]|$/);
    const word = text.slice(at, stop);
    if (text[stop] === '=' || implied !== undefined) {
      const { value, end } = optionValue(text, text[stop] === '=' ? stop + 1 : at);
      found.push({ name: text[stop] === '=' ? word : (implied ?? ''), value });
      at = end;
    } else {
      const off = word.startsWith('no');
      found.push({ name: off ? word.slice(2) : word, value: off ? 'off' : 'on', flag: word });
      at = stop;
    }
    if (text[at] === ',') at++;
  }
  return found;
}

/** A value ends at a single comma; two of them stand for one. */
function optionValue(text: string, start: number): { value: string; end: number } {
  let end = start;
  while (end < text.length && (text[end] !== ',' || text[end + 1] === ',')) {
    end += text[end] === ',' ? 2 : 1;
  }
  return { value: text.slice(start, end).replaceAll(',,', ','), end };
}

function longForm({ name, value, flag }: Parameter): string {
  if (name === 'delay') return `Please use nodelay=${flag === 'nodelay' ? 'on' : 'off'} instead`;
  return `Please use ${name}=${value} instead`;
}

function checkValue(name: string, value: string, list: QemuOptsList): void {
  switch (Object.hasOwn(list.options, name) ? list.options[name] : undefined) {
    case undefined:
      throw new QmpError(`Invalid parameter '${name}'`);
    case 'bool':
      if (!/^(?:on|yes|true|y|off|no|false|n)$/.test(value)) {
        throw new QmpError(`Parameter '${name}' expects 'on' or 'off'`);
      }
      break;
    case 'num': {
      const number = parseUnsignedText(value);
      if (number === 'out of range') {
        throw new QmpError(`Value '${value}' is too large for parameter '${name}'`);
      }
      if (number === 'invalid') throw new QmpError(`Parameter '${name}' expects a number`);
      break;
    }
    case 'size': {
      const size = parseSizeText(value);
      if (size === 'out of range') {
        throw new QmpError(`Value '${value}' is out of range for parameter '${name}'`);
      }
      if (size === 'invalid') {
        throw new QmpError(`Parameter '${name}' expects a non-negative number below 2^64`, {
          hint: [
            'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-',
            'and exabytes, respectively.',
          ].join('\n'),
        });
      }
      break;
    }
    case 'str':
      break;
  }
}
