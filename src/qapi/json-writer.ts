// Values to JSON text, byte for byte as the reference writes it: member order of its hash table, `", "` and `": "`, every
// character outside printable ASCII escaped, doubles with 17 significant digits. The text is ASCII.

import { JsonDouble } from './json-double.ts';
import { membersInOrder } from './member-order.ts';
import { isValidCodePoint } from './modified-utf8.ts';

const INDENT = 4;
/** Digits that the reference prints of a double. */
const DOUBLE_DIGITS = 17;

/** Text that needs no escape. */
const plain = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/;
const special = /[^\x20\x21\x23-\x5b\x5d-\x7e]/gu;
const shortEscapes: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
};

/**
 * JSON text of `value`: on one line, or with `pretty` one member or element a line, indented by four. Members whose value
 * is undefined are left out.
 */
export function writeJson(value: unknown, options: { readonly pretty?: boolean } = {}): string {
  return options.pretty === true ? written(value, '\n') : written(value, '');
}

/** `newline` is the line feed and indentation in force, or empty on one line. */
function written(value: unknown, newline: string): string {
  if (typeof value === 'string') return quoted(value);
  if (typeof value === 'number') return writtenNumber(value);
  if (typeof value === 'boolean' || typeof value === 'bigint') return String(value);
  if (value === null) return 'null';
  if (typeof value !== 'object') throw new TypeError(`No JSON for a ${typeof value}`);
  if (value instanceof JsonDouble) return formatDouble(value.value);
  return Array.isArray(value) ? writtenArray(value, newline) : writtenObject(value, newline);
}

function writtenArray(array: readonly unknown[], newline: string): string {
  const inner = deeper(newline);
  const comma = newline === '' ? ', ' : `,${inner}`;
  let text = '';
  for (const element of array) text += (text === '' ? inner : comma) + written(element, inner);
  return `[${text}${newline}]`;
}

function writtenObject(object: object, newline: string): string {
  const inner = deeper(newline);
  const comma = newline === '' ? ', ' : `,${inner}`;
  let text = '';
  for (const name of membersInOrder(object)) {
    const member = (object as Readonly<Record<string, unknown>>)[name];
    if (member === undefined) continue;
    text += `${text === '' ? inner : comma}${quoted(name)}: ${written(member, inner)}`;
  }
  return `{${text}${newline}}`;
}

function deeper(newline: string): string {
  return newline === '' ? '' : newline + ' '.repeat(INDENT);
}

function quoted(text: string): string {
  return plain.test(text) ? `"${text}"` : `"${text.replace(special, escape)}"`;
}

function escape(character: string): string {
  const short = shortEscapes[character];
  if (short !== undefined) return short;
  const codePoint = character.codePointAt(0) as number;
  if (!isValidCodePoint(codePoint)) return '\\uFFFD';
  if (codePoint <= 0xffff) return unicodeEscape(codePoint);
  return unicodeEscape(character.charCodeAt(0)) + unicodeEscape(character.charCodeAt(1));
}

function unicodeEscape(unit: number): string {
  return `\\u${unit.toString(16).toUpperCase().padStart(4, '0')}`;
}

function writtenNumber(value: number): string {
  if (!Number.isInteger(value)) return formatDouble(value);
  // -0 is no integer of the reference's.
  return Number.isSafeInteger(value) ? String(value + 0) : String(BigInt(value));
}

/** A double as C's `%.17g` prints it. */
export function formatDouble(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value < 0 ? '-inf' : 'inf';
  if (value === 0) return Object.is(value, -0) ? '-0' : '0';
  const [mantissa, exponentText] = scientific(value);
  const exponent = Number(exponentText);
  const sign = mantissa.startsWith('-') ? '-' : '';
  const digits = mantissa.replace(/[-.]/g, '').replace(/0+$/, '');
  if (exponent < -4 || exponent >= DOUBLE_DIGITS) {
    const fraction = digits.length > 1 ? `.${digits.slice(1)}` : '';
    const power = String(Math.abs(exponent)).padStart(2, '0');
    return `${sign}${digits[0]}${fraction}e${exponent < 0 ? '-' : '+'}${power}`;
  }
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, '0');
  const fraction = digits.slice(exponent + 1);
  return `${sign}${whole}${fraction === '' ? '' : `.${fraction}`}`;
}

/** Mantissa and exponent with 17 digits, a tie rounded to even as C does; JavaScript rounds it up. */
function scientific(value: number): [string, string] {
  const rounded = value.toExponential(DOUBLE_DIGITS - 1);
  const exact = value.toExponential(100);
  const point = exact.indexOf('.');
  const rest = exact.slice(point + DOUBLE_DIGITS, exact.indexOf('e'));
  const kept = exact[point + DOUBLE_DIGITS - 1] as string;
  const tie = /^50*$/.test(rest) && Number(kept) % 2 === 0;
  const chosen = tie
    ? exact.slice(0, point + DOUBLE_DIGITS) + exact.slice(exact.indexOf('e'))
    : rounded;
  return chosen.split('e') as [string, string];
}
