// JSON tokens to a value, one token at a time and without recursion. The first mistake is kept, in the reference's words, and
// the rest of the message is passed over: when a message ends is not decided here but by json-stream's counting of brackets.

import { JsonDouble } from './json-double.ts';
import {
  COLON,
  COMMA,
  FLOAT,
  INTEGER,
  KEYWORD,
  LEFT_BRACE,
  LEFT_BRACKET,
  RIGHT_BRACE,
  RIGHT_BRACKET,
  STRING,
  type TokenType,
} from './json-lexer.ts';
import type { JsonObject, JsonValue } from './json-value.ts';
import { noteMember } from './member-order.ts';
import { decodeString, InvalidString } from './modified-utf8.ts';

/** What an open object or array takes next; an empty one may also be closed. */
type Expecting =
  | 'first key'
  | 'key'
  | 'colon'
  | 'member'
  | 'first element'
  | 'element'
  | 'separator';

interface Frame {
  readonly object: JsonObject | undefined;
  readonly array: JsonValue[] | undefined;
  key: string;
  expecting: Expecting;
}

/** The reference formats a message into 1024 bytes, the terminator included. */
const MAX_MESSAGE_BYTES = 1023;
const KEYWORD_PREFIX = "invalid keyword '";
const INT64_MIN = -(2n ** 63n);
const UINT64_MAX = 2n ** 64n - 1n;
/** Decimal digits that always fit a safe integer, and that may fit 64 bits. */
const SAFE_DIGITS = 15;
const MAX_DIGITS = 20;

export class JsonParser {
  #frames: Frame[] = [];
  #value: JsonValue | undefined;
  #mistake: string | undefined;

  /** Takes the next token of the message. */
  take(type: TokenType, bytes: Buffer, from: number, to: number): void {
    if (this.#mistake !== undefined) return;
    const frame = this.#frames.at(-1);
    if (frame?.expecting === 'colon') {
      if (type !== COLON) return this.#fail('missing : in object pair');
      frame.expecting = 'member';
      return;
    }
    if (frame?.expecting === 'separator') return this.#separator(frame, type);
    if (frame?.expecting === 'first key' && type === RIGHT_BRACE) return this.#close();
    if (frame?.expecting === 'first element' && type === RIGHT_BRACKET) return this.#close();
    return this.#begin(type, bytes, from, to);
  }

  /** Ends the message: its value, or what is wrong with it. The parser is ready for the next one. */
  finish(): { readonly value: JsonValue } | { readonly mistake: string } {
    const value = this.#value;
    const mistake = this.#mistake ?? (value === undefined ? 'premature EOI' : undefined);
    this.reset();
    return mistake === undefined ? { value: value as JsonValue } : { mistake };
  }

  /** Forgets the message. */
  reset(): void {
    if (this.#frames.length > 0) this.#frames = [];
    this.#value = undefined;
    this.#mistake = undefined;
  }

  #begin(type: TokenType, bytes: Buffer, from: number, to: number): void {
    switch (type) {
      case LEFT_BRACE:
        this.#frames.push({
          object: Object.create(null) as JsonObject,
          array: undefined,
          key: '',
          expecting: 'first key',
        });
        return;
      case LEFT_BRACKET:
        this.#frames.push({ object: undefined, array: [], key: '', expecting: 'first element' });
        return;
      case STRING: {
        const text = decodeString(bytes, from, to);
        if (text instanceof InvalidString) return this.#fail(text.reason);
        return this.#complete(text);
      }
      case INTEGER:
        return this.#complete(integer(bytes, from, to));
      case FLOAT:
        return this.#complete(new JsonDouble(Number(bytes.toString('latin1', from, to))));
      case KEYWORD:
        return this.#keyword(bytes, from, to);
      default:
        return this.#fail('expecting value');
    }
  }

  #keyword(bytes: Buffer, from: number, to: number): void {
    const word = bytes.toString('latin1', from, Math.min(to, from + MAX_MESSAGE_BYTES));
    if (word === 'true') return this.#complete(true);
    if (word === 'false') return this.#complete(false);
    if (word === 'null') return this.#complete(null);
    return this.#fail(`${KEYWORD_PREFIX}${word}'`.slice(0, MAX_MESSAGE_BYTES));
  }

  #separator(frame: Frame, type: TokenType): void {
    if (type === COMMA) {
      frame.expecting = frame.object === undefined ? 'element' : 'key';
    } else if (type === (frame.object === undefined ? RIGHT_BRACKET : RIGHT_BRACE)) {
      this.#close();
    } else {
      this.#fail(`expected separator in ${frame.object === undefined ? 'list' : 'dict'}`);
    }
  }

  #close(): void {
    const frame = this.#frames.pop() as Frame;
    this.#complete((frame.object ?? frame.array) as JsonValue);
  }

  /** Puts a finished value where it belongs. */
  #complete(value: JsonValue): void {
    const frame = this.#frames.at(-1);
    if (frame === undefined) {
      this.#value = value;
    } else if (frame.array !== undefined) {
      frame.array.push(value);
      frame.expecting = 'separator';
    } else if (frame.expecting === 'member') {
      const object = frame.object as JsonObject;
      if (frame.key in object) return this.#fail('duplicate key');
      noteMember(object, frame.key);
      object[frame.key] = value;
      frame.expecting = 'separator';
    } else if (typeof value === 'string') {
      frame.key = value;
      frame.expecting = 'colon';
    } else {
      this.#fail('key is not a string in object');
    }
  }

  #fail(mistake: string): void {
    this.#mistake = mistake;
    this.#frames = [];
    this.#value = undefined;
  }
}

/** An integer as exactly as possible: int64, then uint64, then double, as the reference tries them. */
function integer(bytes: Buffer, from: number, to: number): JsonValue {
  const negative = bytes[from] === 0x2d;
  const digits = to - from - (negative ? 1 : 0);
  if (digits <= SAFE_DIGITS) {
    let value = 0;
    for (let at = negative ? from + 1 : from; at < to; at += 1) {
      value = value * 10 + (bytes[at] as number) - 0x30;
    }
    // Not -0, which the reference does not know among its integers.
    return negative ? 0 - value : value;
  }
  const text = bytes.toString('latin1', from, to);
  if (digits > MAX_DIGITS) return new JsonDouble(Number(text));
  const exact = BigInt(text);
  if (exact < INT64_MIN || exact > UINT64_MAX) return new JsonDouble(Number(text));
  const number = Number(exact);
  return Number.isSafeInteger(number) ? number : exact;
}
