// One end of a QMP conversation: sends lines or bytes, takes the answers apart into JSON objects and keeps their text as
// it came.

import { connect as connectSocket, type Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import type { Heard } from './case.ts';

const ANSWER_LIMIT_MS = 30_000;
/** How long nothing must come to be called that. */
const SILENCE_MS = 200;

export class QmpLink {
  /** Complete objects that nobody has taken yet, as text, with their line end. */
  readonly #objects: string[] = [];
  #rest = '';
  #depth = 0;
  #inString = false;
  #escaped = false;
  #scanned = 0;
  #closed = false;
  #wake: () => void = () => {};
  readonly #output: Writable;
  #syncs = 0;

  constructor(input: Readable, output: Writable) {
    this.#output = output;
    input.on('data', (chunk: Buffer) => this.#take(chunk.toString('latin1')));
    input.on('error', () => this.#end());
    input.on('close', () => this.#end());
    input.on('end', () => this.#end());
    output.on('error', () => {});
  }

  static async connect(path: string): Promise<QmpLink> {
    const socket: Socket = connectSocket(path);
    await new Promise((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return new QmpLink(socket, socket);
  }

  get closed(): boolean {
    return this.#closed;
  }

  send(bytes: string | Uint8Array): void {
    this.#output.write(bytes);
  }

  close(): void {
    this.#output.end();
    this.#output.destroy();
  }

  /** Sends a line; everything up to and with its answer. Ends with `<closed>` or `<no answer>` where none comes. */
  async command(line: string, limitMs = ANSWER_LIMIT_MS): Promise<string[]> {
    this.send(`${line}\n`);
    return this.until(isAnswer, limitMs);
  }

  /** Runs a command whose success is taken for granted. */
  async expect(command: string, args?: unknown): Promise<unknown> {
    const id = `expect-${++this.#syncs}`;
    const line = JSON.stringify({
      execute: command,
      ...(args === undefined ? {} : { arguments: args }),
      id,
    });
    this.send(`${line}\n`);
    const answers = await this.until((text) => text.includes(`"${id}"`), ANSWER_LIMIT_MS);
    const answer = JSON.parse(answers.at(-1) ?? '') as Record<string, unknown>;
    if ('return' in answer) return answer['return'];
    throw new Error(`${command}: ${JSON.stringify(answer['error'])}`);
  }

  /** The greeting, then negotiation. */
  async negotiate(): Promise<string> {
    const [greeting = ''] = await this.until((text) => text.includes('"QMP"'));
    await this.command('{"execute":"qmp_capabilities"}');
    return greeting;
  }

  /** Sends a marker command and returns what came before its answer. */
  async sync(limitMs = ANSWER_LIMIT_MS): Promise<string[]> {
    const marker = `sync-${++this.#syncs}`;
    this.send(`{"execute":"query-version","id":"${marker}"}\n`);
    const answers = await this.until((text) => text.includes(`"${marker}"`), limitMs);
    if (answers.at(-1)?.includes(`"${marker}"`) === true) answers.pop();
    return answers;
  }

  /** What comes of its own; at most `limitMs` are waited. */
  async listen(hears: Heard, limitMs = ANSWER_LIMIT_MS): Promise<string[]> {
    if (hears === 'nothing') {
      const heard = await this.until(() => false, Math.min(SILENCE_MS, limitMs));
      return heard.filter((line) => line !== '<no answer>');
    }
    let left = hears === 'the end' ? Infinity : hears;
    return this.until(() => --left === 0, limitMs);
  }

  /** Objects up to and with the first that fits. */
  async until(fits: (text: string) => boolean, limitMs = ANSWER_LIMIT_MS): Promise<string[]> {
    const taken: string[] = [];
    const end = Date.now() + limitMs;
    for (;;) {
      for (let next = this.#objects.shift(); next !== undefined; next = this.#objects.shift()) {
        taken.push(next);
        if (fits(next)) return taken;
      }
      if (this.#closed) return [...taken, '<closed>'];
      const left = end - Date.now();
      if (left <= 0) return [...taken, '<no answer>'];
      await this.#news(left);
    }
  }

  async #news(limitMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, limitMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = () => {};
  }

  #end(): void {
    this.#closed = true;
    this.#wake();
  }

  /** Splits on the line end that follows a complete top-level object. */
  #take(text: string): void {
    this.#rest += text;
    let from = 0;
    for (let at = this.#scanned; at < this.#rest.length; at++) {
      const char = this.#rest[at];
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false;
        else if (char === '\\') this.#escaped = true;
        else if (char === '"') this.#inString = false;
      } else if (char === '"') this.#inString = true;
      else if (char === '{' || char === '[') this.#depth++;
      else if (char === '}' || char === ']') this.#depth--;
      else if (char === '\n' && this.#depth === 0) {
        this.#objects.push(this.#rest.slice(from, at + 1));
        from = at + 1;
      }
    }
    this.#rest = this.#rest.slice(from);
    this.#scanned = this.#rest.length;
    if (this.#objects.length > 0) this.#wake();
  }
}

/** Neither an event nor the greeting. */
function isAnswer(text: string): boolean {
  return !/^\{\s*"(?:timestamp|QMP)"/.test(text);
}
