// A chardev whose peer is the test: what it feeds is the monitor's input, what the monitor writes is collected.

import type { Chardev, ChardevFrontend } from '../../../src/net/chardev/chardev.ts';

export class LoopbackChardev implements Chardev {
  readonly id = 'loop';
  readonly hasInput = true;
  /** All that was written since `take`. */
  output = '';
  accepting = true;
  /** What `write` answers; false is a peer that does not read. */
  reading = true;
  #frontend: ChardevFrontend | undefined;
  #waiting: (() => void)[] = [];

  filename(): string {
    return 'loop';
  }

  attach(frontend: ChardevFrontend): void {
    this.#frontend = frontend;
  }

  detach(): void {
    this.#frontend = undefined;
  }

  write(bytes: Uint8Array): boolean {
    this.output += Buffer.from(bytes).toString('latin1');
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const check of waiting) check();
    return this.reading;
  }

  acceptInput(accept: boolean): void {
    this.accepting = accept;
  }

  open(): void {
    this.#frontend?.onOpen();
  }

  close(): void {
    this.#frontend?.onClose();
  }

  drain(): void {
    this.reading = true;
    this.#frontend?.onDrain();
  }

  feed(input: string | Uint8Array): void {
    this.#frontend?.onInput(typeof input === 'string' ? Buffer.from(input) : input);
  }

  /** The output so far, which is then forgotten. */
  take(): string {
    const { output } = this;
    this.output = '';
    return output;
  }

  /** The output up to and with the `count`th line end from here. */
  async lines(count: number): Promise<string[]> {
    const enough = () => this.output.split('\r\n').length > count;
    while (!enough()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    const lines = this.output.split('\r\n');
    this.output = lines.slice(count).join('\r\n');
    return lines.slice(0, count);
  }

  /** Feeds one command and gives the line that answers it. */
  async ask(input: string): Promise<string> {
    this.feed(input);
    const [line] = await this.lines(1);
    return line ?? '';
  }
}
