// Bytes to JSON tokens, in the reference's dialect: single-quoted strings, `[a-z]+` keywords, and its rule for getting back in
// step after a lexical error. A state table drives it byte by byte, so input may be cut anywhere. Decoding is the parser's.
//
// The states and what ends them mirror the reference's lexer; error recovery skips to a structural character, an ASCII
// control character other than tab, or one of the bytes 0xFE and 0xFF that no UTF-8 text contains.

/** Kinds of token. ERROR is a run of bytes that is no token; OVERSIZE is one cut short at the limit. */
export const ERROR = 0;
export const LEFT_BRACE = 100;
export const RIGHT_BRACE = 101;
export const LEFT_BRACKET = 102;
export const RIGHT_BRACKET = 103;
export const COLON = 104;
export const COMMA = 105;
export const INTEGER = 106;
export const FLOAT = 107;
export const KEYWORD = 108;
export const STRING = 109;
export const OVERSIZE = 110;
export type TokenType = number;

/** Receives `bytes[from..to)` as a token; the bytes are only valid during the call. */
export type OnToken = (type: TokenType, bytes: Buffer, from: number, to: number) => void;

const RECOVERY = 1;
const DOUBLE_QUOTED_ESCAPE = 2;
const DOUBLE_QUOTED = 3;
const SINGLE_QUOTED_ESCAPE = 4;
const SINGLE_QUOTED = 5;
const ZERO = 6;
const EXPONENT_DIGITS = 7;
const EXPONENT_SIGN = 8;
const EXPONENT = 9;
const FRACTION = 10;
const FRACTION_DIGITS = 11;
const DIGITS = 12;
const MINUS = 13;
const WORD = 14;
const START = 15;

/** Set in a table entry whose byte is not part of the token: it is looked at again in the next state. */
const LOOKAHEAD = 0x80;

/** Next state or token type by `state << 8 | byte`; 0 (ERROR) where nothing is said. */
const transitions = buildTransitions();

/** A carry buffer larger than this is given back once its token is done. */
const KEPT_CARRY_BYTES = 65_536;

export class JsonLexer {
  readonly #onToken: OnToken;
  readonly #maxTokenBytes: number;
  #state = START;
  /** The beginning of the current token, when it came with earlier input. */
  #carry = Buffer.alloc(0);
  #carried = 0;
  /** Set while the rest of an oversize token is passed over. */
  #oversize = false;
  #paused = false;

  constructor(onToken: OnToken, maxTokenBytes: number) {
    this.#onToken = onToken;
    this.#maxTokenBytes = maxTokenBytes;
  }

  /** Makes the running `push` return after the current token. */
  pause(): void {
    this.#paused = true;
  }

  /** Feeds `bytes[from..]`; returns where it stopped, which is the end unless `pause` was called. */
  push(bytes: Buffer, from: number): number {
    const end = bytes.length;
    const limit = this.#maxTokenBytes;
    let state = this.#state;
    let start = from;
    let at = from;
    this.#paused = false;
    while (at < end) {
      const next = transitions[(state << 8) | (bytes[at] as number)] as number;
      if (next < LOOKAHEAD) at += 1;
      const to = next & 0x7f;
      if (to > START) {
        this.#emit(to, bytes, start, at);
        state = START;
        start = at;
      } else if (to >= DOUBLE_QUOTED_ESCAPE && to < START) {
        state = to;
        if (to === DOUBLE_QUOTED || to === SINGLE_QUOTED) {
          const stop = Math.min(end, start + limit + 1 - this.#carried);
          const quote = to === DOUBLE_QUOTED ? 0x22 : 0x27;
          while (at < stop && isPlainText(bytes[at] as number, quote)) at += 1;
        }
        if (this.#carried + at - start > limit) {
          if (!this.#oversize) this.#onToken(OVERSIZE, bytes, start, start);
          this.#oversize = true;
          this.#carried = 0;
          start = at;
        }
        continue;
      } else {
        // START and RECOVERY keep nothing; ERROR reports what there was and starts to recover.
        if (to === ERROR) this.#emit(ERROR, bytes, start, at);
        state = to === START ? START : RECOVERY;
        start = at;
      }
      if (this.#paused) break;
    }
    this.#state = state;
    if (start < at) this.#keep(bytes, start, at);
    return at;
  }

  /** Ends the input: completes a number or keyword, reports an unfinished string. */
  flush(): void {
    const nothing = Buffer.alloc(0);
    if (this.#state !== START && this.#state !== RECOVERY) {
      const to = (transitions[this.#state << 8] as number) & 0x7f;
      this.#emit(to, nothing, 0, 0);
    }
    this.#state = START;
  }

  #emit(type: TokenType, bytes: Buffer, from: number, to: number): void {
    if (this.#oversize) {
      this.#oversize = false;
      this.#carried = 0;
      // Reported when it grew too large; the end of it is only told so that brackets can be counted again.
      this.#onToken(type === ERROR ? ERROR : OVERSIZE, bytes, to, to);
      return;
    }
    if (this.#carried === 0) {
      this.#onToken(type, bytes, from, to);
      return;
    }
    this.#keep(bytes, from, to);
    const length = this.#carried;
    this.#carried = 0;
    this.#onToken(type, this.#carry, 0, length);
    if (this.#carry.length > KEPT_CARRY_BYTES) this.#carry = Buffer.alloc(0);
  }

  #keep(bytes: Buffer, from: number, to: number): void {
    if (this.#oversize) return;
    const length = this.#carried + to - from;
    if (length > this.#carry.length) {
      const grown = Buffer.allocUnsafe(Math.max(256, length, this.#carry.length * 2));
      this.#carry.copy(grown, 0, 0, this.#carried);
      this.#carry = grown;
    }
    bytes.copy(this.#carry, this.#carried, from, to);
    this.#carried = length;
  }
}

/** True for a byte that leaves a string of this quote in the same state. */
function isPlainText(byte: number, quote: number): boolean {
  return byte >= 0x20 && byte <= 0xfd && byte !== quote && byte !== 0x5c;
}

function buildTransitions(): Uint8Array {
  const table = new Uint8Array(16 << 8);
  const set = (state: number, first: number | string, last: number | string, to: number) => {
    for (let byte = code(first); byte <= code(last); byte += 1) table[(state << 8) | byte] = to;
  };
  const one = (state: number, bytes: string, to: number) => {
    for (const byte of bytes) set(state, byte, byte, to);
  };

  set(RECOVERY, 0x00, 0xff, START | LOOKAHEAD);
  set(RECOVERY, 0x20, 0xfd, RECOVERY);
  one(RECOVERY, '\t', RECOVERY);
  one(RECOVERY, '[]{}:,', START | LOOKAHEAD);

  for (const [text, escape, quote] of [
    [DOUBLE_QUOTED, DOUBLE_QUOTED_ESCAPE, '"'],
    [SINGLE_QUOTED, SINGLE_QUOTED_ESCAPE, "'"],
  ] as const) {
    set(escape, 0x20, 0xfd, text);
    set(text, 0x20, 0xfd, text);
    one(text, '\\', escape);
    one(text, quote, STRING);
  }

  set(ZERO, 0x00, 0xff, INTEGER | LOOKAHEAD);
  set(ZERO, '0', '9', ERROR);
  one(ZERO, '.', FRACTION);
  set(MINUS, '1', '9', DIGITS);
  one(MINUS, '0', ZERO);
  set(DIGITS, 0x00, 0xff, INTEGER | LOOKAHEAD);
  set(DIGITS, '0', '9', DIGITS);
  one(DIGITS, 'eE', EXPONENT);
  one(DIGITS, '.', FRACTION);
  set(FRACTION, '0', '9', FRACTION_DIGITS);
  set(FRACTION_DIGITS, 0x00, 0xff, FLOAT | LOOKAHEAD);
  set(FRACTION_DIGITS, '0', '9', FRACTION_DIGITS);
  one(FRACTION_DIGITS, 'eE', EXPONENT);
  one(EXPONENT, '+-', EXPONENT_SIGN);
  set(EXPONENT, '0', '9', EXPONENT_DIGITS);
  set(EXPONENT_SIGN, '0', '9', EXPONENT_DIGITS);
  set(EXPONENT_DIGITS, 0x00, 0xff, FLOAT | LOOKAHEAD);
  set(EXPONENT_DIGITS, '0', '9', EXPONENT_DIGITS);

  set(WORD, 0x00, 0xff, KEYWORD | LOOKAHEAD);
  set(WORD, 'a', 'z', WORD);

  one(START, '"', DOUBLE_QUOTED);
  one(START, "'", SINGLE_QUOTED);
  one(START, '0', ZERO);
  set(START, '1', '9', DIGITS);
  one(START, '-', MINUS);
  set(START, 'a', 'z', WORD);
  one(START, ' \t\r\n', START);
  one(START, '{', LEFT_BRACE);
  one(START, '}', RIGHT_BRACE);
  one(START, '[', LEFT_BRACKET);
  one(START, ']', RIGHT_BRACKET);
  one(START, ',', COMMA);
  one(START, ':', COLON);
  return table;
}

function code(byte: number | string): number {
  return typeof byte === 'number' ? byte : byte.charCodeAt(0);
}
