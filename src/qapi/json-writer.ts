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
const shortEscapes: Readonly<Record<number, string>> = {
  0x22: '\\"',
  0x5c: '\\\\',
  0x08: '\\b',
  0x0c: '\\f',
  0x0a: '\\n',
  0x0d: '\\r',
  0x09: '\\t',
};
const REPLACEMENT_CHARACTER = 0xfffd;
/** `\uXXXX` for one UTF-16 unit. */
const MAX_ESCAPE_BYTES = 6;
/** Text is escaped in pieces of so many UTF-16 units. */
const PIECE_UNITS = 8192;

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
  return plain.test(text) ? `"${text}"` : `"${escaped(text)}"`;
}

/** In pieces, and as bytes, so that even the longest text takes no more memory than its escapes are long. */
function escaped(text: string): string {
  const piece = Buffer.allocUnsafe(Math.min(text.length, PIECE_UNITS) * MAX_ESCAPE_BYTES);
  let result = '';
  for (let at = 0; at < text.length; ) {
    const end = pieceEnd(text, at);
    let length = 0;
    for (; at < end; at += 1) {
      const unit = text.charCodeAt(at);
      if (unit >= 0x20 && unit < 0x7f && unit !== 0x22 && unit !== 0x5c) piece[length++] = unit;
      else if (unit < 0x20 || unit === 0x22 || unit === 0x5c)
        length += piece.write(control(unit), length, 'latin1');
      else if (isPair(text, at, end)) {
        const codePoint = text.codePointAt(at) as number;
        if (isValidCodePoint(codePoint)) {
          length = writeUnit(piece, length, unit);
          length = writeUnit(piece, length, text.charCodeAt(at + 1));
        } else {
          length = writeUnit(piece, length, REPLACEMENT_CHARACTER);
        }
        at += 1;
      } else {
        length = writeUnit(piece, length, isValidCodePoint(unit) ? unit : REPLACEMENT_CHARACTER);
      }
    }
    result += piece.toString('latin1', 0, length);
  }
  return result;
}

/** Where a piece ends that begins at `at`; never between the halves of a surrogate pair. */
function pieceEnd(text: string, at: number): number {
  const end = Math.min(text.length, at + PIECE_UNITS);
  return end < text.length && isPair(text, end - 1, end + 1) ? end - 1 : end;
}

function isPair(text: string, at: number, end: number): boolean {
  return (
    at + 1 < end &&
    (text.charCodeAt(at) & 0xfc00) === 0xd800 &&
    (text.charCodeAt(at + 1) & 0xfc00) === 0xdc00
  );
}

function control(unit: number): string {
  return shortEscapes[unit] ?? `\\u00${unit < 0x10 ? '0' : ''}${unit.toString(16).toUpperCase()}`;
}

/** Writes `\uXXXX` and returns where it ends. */
function writeUnit(into: Buffer, at: number, unit: number): number {
  into[at] = 0x5c;
  into[at + 1] = 0x75;
  for (let digit = 0; digit < 4; digit += 1) {
    const value = (unit >> (12 - 4 * digit)) & 0xf;
    into[at + 2 + digit] = value < 10 ? 0x30 + value : 0x41 - 10 + value;
  }
  return at + MAX_ESCAPE_BYTES;
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
