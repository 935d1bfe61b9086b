// One descriptor of a chardev that is no socket: polled where the kernel can poll it (pipes, terminals), read and written
// in the thread pool or at once where it cannot (files, /dev/null).

import { read } from 'node:fs';
import { errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import type { IoBuffer } from '../../base/io-buffer.ts';
import {
  readDescriptor,
  setStatusFlags,
  statusFlags,
  writeDescriptor,
} from '../../sys/descriptor.ts';
import { type Poller, READABLE, type Watch, WRITABLE } from '../../sys/poller.ts';
import { close } from '../../sys/socket.ts';

const WOULD_BLOCK = -1;
const FILE_READ_BYTES = 64 * 1024;

export interface DescriptorEndOptions {
  readonly poller: Poller;
  /** Input is read into this. */
  readonly memory: IoBuffer;
  /** Input, or end of it when there are no bytes. */
  readonly onInput: (bytes: Uint8Array | undefined) => void;
  readonly onRoom: () => void;
}

export class DescriptorEnd {
  readonly #fd: number;
  readonly #flags: number;
  readonly #options: DescriptorEndOptions;
  /** Undefined when the kernel cannot poll the descriptor. */
  readonly #watch: Watch | undefined;
  #wanted = 0;
  #watched = 0;
  #reading = false;
  #ended = false;
  #closed = false;

  constructor(fd: number, options: DescriptorEndOptions) {
    this.#fd = fd;
    this.#options = options;
    this.#flags = statusFlags(fd);
    this.#watch = watchIfPossible(fd, options.poller, (events) => this.#ready(events));
  }

  /** Whether input shall be handed over. */
  wantInput(want: boolean): void {
    this.#want(want && !this.#ended ? this.#wanted | READABLE : this.#wanted & ~READABLE);
    if (want && this.#watch === undefined) this.#readFile();
  }

  wantRoom(want: boolean): void {
    this.#want(want ? this.#wanted | WRITABLE : this.#wanted & ~WRITABLE);
  }

  /** Bytes taken, or -1. Throws IoError. */
  send(from: IoBuffer, at: number, length: number): number {
    return writeDescriptor(this.#fd, from.address + at, length);
  }

  /** Stops. The descriptor is closed too, or left as it was found. */
  close(options: { closeDescriptor: boolean }): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch?.close();
    if (options.closeDescriptor) {
      close(this.#fd);
    } else if (this.#watch !== undefined) {
      // Others may share the terminal or pipe and expect it to block.
      setStatusFlags(this.#fd, this.#flags);
    }
  }

  #want(events: number): void {
    this.#wanted = events;
    // Input that is not wanted is noticed when it comes: most often the wish is back before that.
    if ((events & ~this.#watched) !== 0 || (events & WRITABLE) !== (this.#watched & WRITABLE)) {
      this.#rewatch();
    }
  }

  #rewatch(): void {
    this.#watched = this.#wanted;
    this.#watch?.want(this.#wanted);
  }

  #ready(events: number): void {
    if ((events & READABLE) !== 0) {
      if ((this.#wanted & READABLE) !== 0) this.#readNow();
      else this.#rewatch();
    }
    if (!this.#closed && (events & this.#wanted & WRITABLE) !== 0) this.#options.onRoom();
  }

  #readNow(): void {
    const { memory, onInput } = this.#options;
    let count: number;
    try {
      count = readDescriptor(this.#fd, memory.address, memory.bytes.length);
    } catch {
      // A terminal that hung up says EIO.
      count = 0;
    }
    if (count === WOULD_BLOCK) return;
    if (count > 0) onInput(memory.bytes.subarray(0, count));
    else this.#end();
  }

  #readFile(): void {
    if (this.#reading || this.#ended || this.#closed || (this.#wanted & READABLE) === 0) return;
    this.#reading = true;
    const bytes = Buffer.allocUnsafe(FILE_READ_BYTES);
    read(this.#fd, bytes, 0, bytes.length, null, (error, count) => {
      this.#reading = false;
      if (this.#closed) return;
      if (error || count === 0) this.#end();
      else this.#options.onInput(bytes.subarray(0, count));
      this.#readFile();
    });
  }

  #end(): void {
    this.#ended = true;
    this.wantInput(false);
    this.#rewatch();
    this.#options.onInput(undefined);
  }
}

function watchIfPossible(
  fd: number,
  poller: Poller,
  onReady: (events: number) => void,
): Watch | undefined {
  try {
    return poller.watch(fd, onReady);
  } catch (error) {
    if (error instanceof IoError && error.errno === errno.EPERM) return undefined;
    throw error;
  }
}
