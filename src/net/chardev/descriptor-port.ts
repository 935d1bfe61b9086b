// The port of chardevs that are a pair of descriptors: one to read from, one to write to, or one for both.

import type { ChardevPort, PortContext } from './chardev.ts';
import { DescriptorEnd } from './descriptor-end.ts';
import { OutputQueue } from './output-queue.ts';

export interface DescriptorPortOptions {
  /** What `query-chardev` calls it. */
  readonly filename: string;
  readonly input: number | undefined;
  /** May be the same as `input`. */
  readonly output: number;
  /** Whether they end with the port, or go back to who had them before. */
  readonly closeDescriptors: boolean;
  /** Called when a user is there. */
  readonly onAttach?: (() => void) | undefined;
  /** Called on close. */
  readonly onClose?: (() => void) | undefined;
}

export class DescriptorPort implements ChardevPort {
  readonly #options: DescriptorPortOptions;
  readonly #input: DescriptorEnd | undefined;
  readonly #output: DescriptorEnd;
  readonly #queue: OutputQueue;
  /** Nobody will ever read again. */
  #broken = false;

  constructor(options: DescriptorPortOptions, context: PortContext) {
    this.#options = options;
    const { events, poller, inputMemory } = context;
    const shared = {
      poller,
      memory: inputMemory,
      onInput: (bytes: Uint8Array | undefined) =>
        bytes === undefined ? events.closed() : events.input(bytes),
      onRoom: () => this.#send(() => this.#queue.flush()),
    };
    this.#output = new DescriptorEnd(options.output, shared);
    if (options.input !== undefined) {
      this.#input =
        options.input === options.output ? this.#output : new DescriptorEnd(options.input, shared);
    }
    this.#queue = new OutputQueue({
      memory: context.outputMemory,
      send: (from, at, length) => this.#output.send(from, at, length),
      wantRoom: (want) => this.#output.wantRoom(want),
      onDrain: () => events.drained(),
    });
    events.opened();
  }

  filename(): string {
    return this.#options.filename;
  }

  write(bytes: Uint8Array): boolean {
    let room = true;
    this.#send(() => {
      room = this.#queue.write(bytes);
    });
    return room;
  }

  acceptInput(accept: boolean): void {
    this.#input?.wantInput(accept);
  }

  setAttached(attached: boolean): void {
    if (attached) this.#options.onAttach?.();
  }

  whenSent(): Promise<void> {
    return this.#queue.whenEmpty();
  }

  close(): void {
    const { closeDescriptors, onClose } = this.#options;
    if (this.#input !== this.#output) this.#input?.close({ closeDescriptor: closeDescriptors });
    this.#output.close({ closeDescriptor: closeDescriptors });
    onClose?.();
  }

  /** Output that nobody reads is dropped; input may still come. */
  #send(attempt: () => void): void {
    if (this.#broken) return;
    try {
      attempt();
    } catch {
      this.#broken = true;
      this.#queue.clear();
    }
  }
}
