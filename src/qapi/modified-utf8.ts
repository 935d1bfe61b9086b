// Modified UTF-8, which the reference's JSON is made of: UTF-8, but U+0000 may be written C0 80, and noncharacters, surrogates
// and overlong forms are invalid. Also the text of string tokens: quotes, escapes, surrogate pairs.

/** Why a string token is refused, in the reference's words. */
export class InvalidString {
  readonly reason: string;

  constructor(reason: string) {
    this.reason = reason;
  }
}

/** The smallest code point that needs a sequence of 2, 3, ... 6 bytes. */
const smallest = [0x80, 0x800, 0x1_0000, 0x20_0000, 0x400_0000];

const BACKSLASH = 0x5c;
const REPLACEMENT_CHARACTER = 0xfffd;
/** Escapes of one letter, by its code. */
const escapes: Readonly<Record<number, number>> = {
  0x22: 0x22,
  0x27: 0x27,
  0x5c: 0x5c,
  0x2f: 0x2f,
  0x62: 0x08,
  0x66: 0x0c,
  0x6e: 0x0a,
  0x72: 0x0d,
  0x74: 0x09,
};

/** True when the reference takes a code point for a character: not a surrogate, noncharacter or beyond U+10FFFF. */
export function isValidCodePoint(codePoint: number): boolean {
  return (
    codePoint >= 0 &&
    codePoint <= 0x10_ffff &&
    !(codePoint >= 0xfdd0 && codePoint <= 0xfdef) &&
    (codePoint & 0xfffe) !== 0xfffe &&
    !(codePoint >= 0xd800 && codePoint <= 0xdfff)
  );
}

/** The text of the string token `bytes[from..to)`, quotes included in the range. */
export function decodeString(bytes: Buffer, from: number, to: number): string | InvalidString {
  const first = from + 1;
  const last = to - 1;
  let at = first;
  while (at < last && (bytes[at] as number) < 0x80 && bytes[at] !== BACKSLASH) at += 1;
  return at === last
    ? bytes.toString('latin1', first, last)
    : decodeUnusualString(bytes, first, last);
}

/** Any bytes as text, every invalid sequence as U+FFFD, cut at a NUL as C text is. */
export function decodeLossily(bytes: Buffer, from: number, to: number): string {
  const text = new Utf16Text(to - from);
  const sequence = { codePoint: 0, end: from };
  while (sequence.end < to && bytes[sequence.end] !== 0) {
    readSequence(bytes, sequence.end, to, sequence);
    text.append(sequence.codePoint < 0 ? REPLACEMENT_CHARACTER : sequence.codePoint);
  }
  return text.toString();
}

/** Text as the reference has it in memory: a NUL is two bytes. */
export function encodeText(text: string): Buffer {
  const bytes = Buffer.from(text);
  if (!text.includes('\0')) return bytes;
  return Buffer.from(Array.from(bytes).flatMap((byte) => (byte === 0 ? [0xc0, 0x80] : [byte])));
}

function decodeUnusualString(bytes: Buffer, first: number, last: number): string | InvalidString {
  const text = new Utf16Text(last - first);
  const sequence = { codePoint: 0, end: 0 };
  let at = first;
  while (at < last) {
    const byte = bytes[at] as number;
    if (byte !== BACKSLASH) {
      readSequence(bytes, at, last, sequence);
      if (sequence.codePoint < 0) return new InvalidString('invalid UTF-8 sequence in string');
      text.append(sequence.codePoint);
      at = sequence.end;
      continue;
    }
    const letter = bytes[at + 1] as number;
    if (letter === 0x75) {
      readUnicodeEscape(bytes, at, last, sequence);
      if (!isValidCodePoint(sequence.codePoint)) {
        // The reference quotes six or twelve bytes, the closing quote among them when they reach that far.
        const quoted = decodeLossily(bytes, at, Math.min(sequence.end, last + 1));
        return new InvalidString(`${quoted} is not a valid Unicode character`);
      }
      text.append(sequence.codePoint);
      at = sequence.end;
      continue;
    }
    const meaning = escapes[letter];
    if (meaning === undefined) return new InvalidString('invalid escape sequence in string');
    text.append(meaning);
    at += 2;
  }
  return text.toString();
}

interface Sequence {
  /** -1 when invalid. */
  codePoint: number;
  /** Behind the sequence, or behind the part of it that was there. */
  end: number;
}

/** Reads the sequence at `at`; continuation bytes are looked for before `limit`. */
function readSequence(bytes: Buffer, at: number, limit: number, into: Sequence): void {
  const lead = bytes[at] as number;
  into.end = at + 1;
  into.codePoint = -1;
  if (lead < 0x80) {
    into.codePoint = lead;
    return;
  }
  if (lead < 0xc0 || lead >= 0xfe) return;
  const length = Math.clz32(~(lead << 24));
  let codePoint = lead & (0x7f >> length);
  for (let i = 1; i < length; i += 1) {
    const byte = at + i < limit ? (bytes[at + i] as number) : 0;
    if ((byte & 0xc0) !== 0x80) return;
    into.end = at + i + 1;
    codePoint = (codePoint << 6) | (byte & 0x3f);
  }
  const overlong =
    codePoint < (smallest[length - 2] as number) && !(codePoint === 0 && length === 2);
  if (isValidCodePoint(codePoint) && !overlong) into.codePoint = codePoint;
}

/** Reads `\uXXXX`, or a surrogate pair of two, at the backslash. */
function readUnicodeEscape(bytes: Buffer, at: number, last: number, into: Sequence): void {
  const unit = fourHexDigits(bytes, at + 2, last);
  into.codePoint = unit;
  into.end = at + 6;
  const leading = unit >= 0xd800 && unit <= 0xdbff;
  if (!leading || at + 8 > last || bytes[at + 6] !== BACKSLASH || bytes[at + 7] !== 0x75) return;
  const trailing = fourHexDigits(bytes, at + 8, last);
  if (trailing < 0xdc00 || trailing > 0xdfff) {
    into.codePoint = -1;
    return;
  }
  into.codePoint = 0x1_0000 + ((unit & 0x3ff) << 10) + (trailing & 0x3ff);
  into.end = at + 12;
}

function fourHexDigits(bytes: Buffer, at: number, last: number): number {
  let value = 0;
  for (let i = at; i < at + 4; i += 1) {
    const digit = i < last ? hexDigit(bytes[i] as number) : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x61 + 10 : -1;
}

/** Collects code points as UTF-16; a text never has more units than its UTF-8 has bytes. */
class Utf16Text {
  readonly #units: Uint16Array<ArrayBuffer>;
  #length = 0;

  constructor(maxUnits: number) {
    this.#units = new Uint16Array(maxUnits);
  }

  append(codePoint: number): void {
    if (codePoint > 0xffff) {
      this.#units[this.#length++] = 0xd7c0 + (codePoint >> 10);
      this.#units[this.#length++] = 0xdc00 + (codePoint & 0x3ff);
    } else {
      this.#units[this.#length++] = codePoint;
    }
  }

  toString(): string {
    return Buffer.from(this.#units.buffer, 0, this.#length * 2).toString('utf16le');
  }
}
