// A byte stream of JSON values, one after the other, as a QMP peer sends it: cuts it into messages by counting brackets,
// enforces the limits, reports mistakes in the reference's words and gets back in step as it does.
//
// One difference on purpose: the reference, once a message exceeds a limit, takes the rest of it for new messages, which may
// mean megabytes of errors, or commands executed that were only part of an argument. Here the rest of that message is
// skipped: to its last bracket, or to the next lexical error (so the bytes 0xFE and 0xFF still bring the stream back in step).

import { QmpError } from './errors.ts';
import {
  ERROR,
  JsonLexer,
  LEFT_BRACE,
  LEFT_BRACKET,
  OVERSIZE,
  RIGHT_BRACE,
  RIGHT_BRACKET,
  type TokenType,
} from './json-lexer.ts';
import { JsonParser } from './json-parser.ts';
import type { JsonValue } from './json-value.ts';
import { decodeLossily } from './modified-utf8.ts';

export interface JsonLimits {
  /** Bytes of all tokens of one message, and of one token. */
  readonly tokenBytes: number;
  /** Tokens of one message. */
  readonly tokens: number;
  /** Brackets and braces open at once. */
  readonly nesting: number;
  /** Bytes of a stray token that an error quotes; the reference quotes all of it. */
  readonly quotedBytes: number;
}

export const defaultLimits: JsonLimits = {
  tokenBytes: 64 * 1024 * 1024,
  tokens: 2 * 1024 * 1024,
  nesting: 1024,
  quotedBytes: 4096,
};

export class JsonStream {
  readonly #onValue: (value: JsonValue) => void;
  readonly #onError: (message: string) => void;
  readonly #limits: JsonLimits;
  readonly #lexer: JsonLexer;
  readonly #parser = new JsonParser();
  #braces = 0;
  #brackets = 0;
  #tokens = 0;
  #tokenBytes = 0;
  /** The rest of a message that exceeded a limit is being passed over. */
  #skipping = false;

  /** `onError` gets the text of a mistake, `JSON parse error, ...`; the stream goes on after it. */
  constructor(
    onValue: (value: JsonValue) => void,
    onError: (message: string) => void,
    limits: JsonLimits = defaultLimits,
  ) {
    this.#onValue = onValue;
    this.#onError = onError;
    this.#limits = limits;
    this.#lexer = new JsonLexer(
      (type, bytes, from, to) => this.#take(type, bytes, from, to),
      limits.tokenBytes,
    );
  }

  /**
   * Feeds `bytes[from..]` and returns where it stopped: at the end, or behind the message whose callback called `pause`.
   * Keeps no reference to `bytes`.
   */
  push(bytes: Uint8Array, from = 0): number {
    const buffer =
      bytes instanceof Buffer
        ? bytes
        : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return this.#lexer.push(buffer, from);
  }

  /** From a callback: makes the running `push` return after this message. */
  pause(): void {
    this.#lexer.pause();
  }

  /** Ends the input: an unfinished message is a mistake. */
  end(): void {
    this.#lexer.flush();
    if (this.#tokens > 0) this.#finish();
    this.#startOver();
  }

  #take(type: TokenType, bytes: Buffer, from: number, to: number): void {
    if (type === ERROR) return this.#stray(bytes, from, to);
    if (type === LEFT_BRACE) this.#braces += 1;
    else if (type === RIGHT_BRACE) this.#braces -= 1;
    else if (type === LEFT_BRACKET) this.#brackets += 1;
    else if (type === RIGHT_BRACKET) this.#brackets -= 1;

    if (!this.#skipping) {
      const exceeded = this.#exceeded(type, to - from);
      if (exceeded !== undefined) return this.#exceed(exceeded, type);
      this.#tokens += 1;
      this.#tokenBytes += to - from;
      this.#parser.take(type, bytes, from, to);
    }
    const open = this.#braces > 0 || this.#brackets > 0;
    if (open && this.#braces >= 0 && this.#brackets >= 0) return;
    if (this.#skipping) this.#startOver();
    else this.#finish();
  }

  #exceeded(type: TokenType, length: number): string | undefined {
    const limits = this.#limits;
    if (type === OVERSIZE || this.#tokenBytes + length + 1 > limits.tokenBytes) return 'token size';
    if (this.#tokens + 1 > limits.tokens) return 'token count';
    if (this.#braces + this.#brackets > limits.nesting) return 'nesting depth';
    return undefined;
  }

  #exceed(limit: string, type: TokenType): void {
    const open = this.#braces > 0 || this.#brackets > 0;
    this.#parser.reset();
    if (type === OVERSIZE || open) this.#skipping = true;
    else this.#startOver();
    this.#onError(`JSON ${limit} limit exceeded`);
  }

  #stray(bytes: Buffer, from: number, to: number): void {
    const skipped = this.#skipping;
    this.#startOver();
    if (skipped) return;
    const token = decodeLossily(bytes, from, Math.min(to, from + this.#limits.quotedBytes));
    this.#onError(`JSON parse error, stray '${token}'`);
  }

  #finish(): void {
    const result = this.#parser.finish();
    this.#startOver();
    if ('value' in result) this.#onValue(result.value);
    else this.#onError(`JSON parse error, ${result.mistake}`);
  }

  #startOver(): void {
    this.#braces = 0;
    this.#brackets = 0;
    this.#tokens = 0;
    this.#tokenBytes = 0;
    this.#skipping = false;
    this.#parser.reset();
  }
}

/**
 * The one JSON value that `text` holds, as on the command line.
 *
 * @throws QmpError `JSON parse error, ...`, `Expecting a JSON value`, `Expecting at most one JSON value`
 */
export function parseJson(text: string): JsonValue {
  const values: JsonValue[] = [];
  let mistake: string | undefined;
  const stream = new JsonStream(
    (value) => {
      if (values.push(value) > 1) mistake ??= 'Expecting at most one JSON value';
    },
    (message) => {
      mistake ??= values.length > 0 ? 'Expecting at most one JSON value' : message;
    },
  );
  stream.push(Buffer.from(text, 'utf8'));
  stream.end();
  const [value] = values;
  if (mistake === undefined && value === undefined) mistake = 'Expecting a JSON value';
  if (mistake !== undefined) throw new QmpError(mistake);
  return value as JsonValue;
}
