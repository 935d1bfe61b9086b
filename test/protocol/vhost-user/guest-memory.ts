// Memory of a guest that does not exist: memfds of this process, at made-up guest addresses.

import { close } from '../../../src/sys/socket.ts';
import type { MemoryRegion } from './messages.ts';
import { createMemfd, mapShared, type SharedMemory } from './shared-descriptors.ts';

export interface GuestRegion extends MemoryRegion {
  readonly fd: number;
  readonly shared: SharedMemory;
}

/** Far from the addresses of this process and from 0, so that no two kinds of address can be mixed up unnoticed. */
const USER_BASE = 0x6000_0000_0000;
export const GUEST_BASE = 0x4000_0000;

const DEFAULT_LENGTH = 16 * 1024 * 1024;

export interface MemoryOptions {
  /** One region of each of these lengths (bytes, whole pages), one behind the other in guest addresses. Default: 16 MiB. */
  readonly lengths?: readonly number[];
  /** Whether the backend can rely on its length, as QEMU's memory-backend-memfd lets it. Default: yes. */
  readonly sealed?: boolean;
}

export class GuestMemory {
  readonly regions: readonly GuestRegion[];
  /** The first region, where rings and buffers go. */
  readonly main: GuestRegion;
  #next: number;
  #closed = false;

  constructor(options: MemoryOptions = {}) {
    let guestAddress = GUEST_BASE;
    this.regions = (options.lengths ?? [DEFAULT_LENGTH]).map((length, index) => {
      const fd = createMemfd(length, { sealed: options.sealed ?? true });
      const region = {
        guestAddress,
        length,
        userAddress: USER_BASE + index * 0x10_0000_0000,
        offset: 0,
        fd,
        shared: mapShared(fd, 0, length),
      };
      guestAddress += length;
      return region;
    });
    const [main] = this.regions;
    if (main === undefined) throw new Error('a guest needs memory');
    this.main = main;
    this.#next = 0;
  }

  get bytes(): Buffer {
    return this.main.shared.bytes;
  }

  get view(): DataView {
    return this.main.shared.view;
  }

  /** Takes `length` bytes of the main region for good; the offset in it. */
  allocate(length: number, alignment = 16): number {
    const at = Math.ceil(this.#next / alignment) * alignment;
    if (at + length > this.main.length) throw new Error(`no ${length} bytes left in the guest`);
    this.#next = at + length;
    return at;
  }

  guestAddress(at: number): number {
    return this.main.guestAddress + at;
  }

  userAddress(at: number): number {
    return this.main.userAddress + at;
  }

  /** Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const { shared, fd } of this.regions) {
      shared.unmap();
      close(fd);
    }
  }
}

/** Memory for what comes and goes: taken piece by piece, given back all at once. */
export class Arena {
  readonly #start: number;
  readonly #end: number;
  #next: number;

  constructor(memory: GuestMemory, length: number) {
    this.#start = memory.allocate(length, 4096);
    this.#end = this.#start + length;
    this.#next = this.#start;
  }

  allocate(length: number): number {
    const at = Math.ceil(this.#next / 16) * 16;
    if (at + length > this.#end) throw new Error(`no ${length} bytes left for requests`);
    this.#next = at + length;
    return at;
  }

  clear(): void {
    this.#next = this.#start;
  }
}
