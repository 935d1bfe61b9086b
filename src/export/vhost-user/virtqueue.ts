// A split virtqueue, from the device's side: takes requests from the available ring, gives them back by the used ring, and
// knows when the other side wants to be told. The driver's memory may change at any moment and contain anything.

import type { IoBuffer } from '../../base/io-buffer.ts';
import type { DescriptorChain } from './descriptor-chain.ts';
import type { GuestMemory } from './guest-memory.ts';
import type { InflightQueue } from './inflight.ts';
import {
  MAX_CHAIN,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
  VIRTQ_USED_F_NO_NOTIFY,
  WRAP,
} from './protocol.ts';
import { type Descriptor, decodeDescriptor, type RingMemory } from './ring-memory.ts';
import { VirtqueueError } from './virtqueue-error.ts';

/** What driver and device have agreed on. */
export interface RingFeatures {
  readonly indirect: boolean;
  readonly eventIndex: boolean;
  readonly notifyOnEmpty: boolean;
}

export interface VirtqueueParts {
  readonly size: number;
  readonly features: RingFeatures;
  readonly ring: RingMemory;
  readonly memory: GuestMemory;
  /** The entry of the available ring to begin with, 16 bits. */
  readonly next: number;
  /** MAX_CHAIN descriptors, for tables elsewhere in memory. */
  readonly table: IoBuffer;
  /** Where requests under way are noted for whoever comes after us. */
  readonly inflight?: InflightQueue | undefined;
}

/** Bytes of the largest table of descriptors elsewhere in memory. */
export const TABLE_LENGTH = MAX_CHAIN * VIRTQ_DESC_SIZE;

export class Virtqueue {
  readonly #parts: VirtqueueParts;
  readonly #descriptor: Descriptor = { address: 0, length: 0, flags: 0, next: 0 };
  /** Requests to be served once more, the first one last. */
  readonly #again: number[];
  #next: number;
  /** The end of the available ring, as last seen. */
  #available: number;
  #used: number;
  #refusesKicks = false;
  /** The end of the used ring when the driver was last told, if it was. */
  #told: number | undefined;
  #underWay = 0;

  /** Throws VirtqueueError, or IoError when the memory is gone. */
  constructor(parts: VirtqueueParts) {
    this.#parts = parts;
    this.#used = parts.ring.usedIndex();
    const left = parts.inflight?.recover(this.#used);
    this.#next = left?.next ?? parts.next;
    this.#again = left?.again ?? [];
    const wrong = this.#again.find((head) => head >= parts.size);
    if (wrong !== undefined) throw new VirtqueueError(`descriptor ${wrong} of ${parts.size}`);
    this.#available = this.#next;
    // What is to be served once more is looked at without a new entry: it must be among what can be read.
    if (this.#again.length > 0) parts.ring.availableIndex();
  }

  /** The entry of the available ring to be taken next, 16 bits. */
  get next(): number {
    return this.#next;
  }

  /** There are requests that a predecessor has left. */
  get hasLeftovers(): boolean {
    return this.#again.length > 0;
  }

  /** Takes the next request into `chain`; false when there is none. Throws VirtqueueError or IoError. */
  take(chain: DescriptorChain): boolean {
    const { size, inflight } = this.#parts;
    const again = this.#again.pop();
    if (again !== undefined) {
      this.#underWay++;
      this.#collect(again, chain);
      return true;
    }
    if (this.#next === this.#available && !this.hasMore()) return false;
    if (this.#underWay >= size) throw new VirtqueueError('more requests than the queue holds');
    const head = this.#parts.ring.availableEntry(this.#next & (size - 1));
    if (head >= size) throw new VirtqueueError(`descriptor ${head} of ${size}`);
    this.#next = (this.#next + 1) % WRAP;
    this.#underWay++;
    inflight?.taken(head);
    this.#collect(head, chain);
    return true;
  }

  /** Gives a request back; `written` bytes count from the first writable one. Throws IoError. */
  give(head: number, written: number): void {
    const { ring, size, inflight } = this.#parts;
    ring.setUsedEntry(this.#used & (size - 1), head, written);
    inflight?.giving(head);
    this.#used = (this.#used + 1) % WRAP;
    ring.setUsedIndex(this.#used);
    inflight?.given(head, this.#used);
    this.#underWay--;
  }

  /** Whether the driver wants to hear of what was given back since it was asked last. Throws IoError. */
  wantsCall(): boolean {
    const { ring, features } = this.#parts;
    if (features.notifyOnEmpty && this.#underWay === 0 && !this.hasMore()) return true;
    if (!features.eventIndex) return (ring.availableFlags() & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
    const told = this.#told;
    this.#told = this.#used;
    if (told === undefined) return true;
    return distance(ring.usedEvent() + 1, this.#used) < distance(told, this.#used);
  }

  /** Tells the driver that kicks are not needed for now. Throws IoError. */
  refuseKicks(): void {
    if (this.#parts.features.eventIndex || this.#refusesKicks) return;
    this.#parts.ring.setUsedFlags(VIRTQ_USED_F_NO_NOTIFY);
    this.#refusesKicks = true;
  }

  /** Whether there are requests that were not when it was last asked. Throws VirtqueueError or IoError. */
  hasMore(): boolean {
    this.#available = this.#parts.ring.availableIndex();
    const count = distance(this.#next, this.#available);
    if (count > this.#parts.size) {
      throw new VirtqueueError(`${count} requests in a queue of ${this.#parts.size}`);
    }
    return count > 0;
  }

  /** Asks for a kick with the next request: true if none has come in the meantime. Throws VirtqueueError or IoError. */
  awaitKick(): boolean {
    const { ring, features } = this.#parts;
    if (features.eventIndex) ring.setAvailableEvent(this.#next);
    else if (this.#refusesKicks) ring.setUsedFlags(0);
    this.#refusesKicks = false;
    // Both are ordered: the driver sees the wish, or we see its request.
    return !this.hasMore();
  }

  #collect(head: number, chain: DescriptorChain): void {
    const { size, ring, features } = this.#parts;
    const descriptor = this.#descriptor;
    chain.begin(head);
    let index = head;
    for (let count = 1; ; count++) {
      if (count > size) throw new VirtqueueError('a chain with a loop');
      ring.descriptor(index, descriptor);
      const { flags } = descriptor;
      if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) {
        if (!features.indirect) throw new VirtqueueError('a table without having agreed on it');
        if ((flags & VIRTQ_DESC_F_NEXT) !== 0) {
          throw new VirtqueueError('a table with something behind it');
        }
        this.#collectTable(chain);
        return;
      }
      add(chain, descriptor);
      if ((flags & VIRTQ_DESC_F_NEXT) === 0) return;
      index = descriptor.next;
      if (index >= size) throw new VirtqueueError(`descriptor ${index} of ${size}`);
    }
  }

  #collectTable(chain: DescriptorChain): void {
    const { memory, table } = this.#parts;
    const descriptor = this.#descriptor;
    const { address, length } = descriptor;
    const entries = length / VIRTQ_DESC_SIZE;
    if (!Number.isInteger(entries) || entries < 1 || entries > MAX_CHAIN) {
      throw new VirtqueueError(`a table of ${length} bytes`);
    }
    memory.read(address, table.address, length);
    let index = 0;
    for (let count = 1; ; count++) {
      if (count > entries) throw new VirtqueueError('a table with a loop');
      decodeDescriptor(table.view, index * VIRTQ_DESC_SIZE, descriptor);
      const { flags } = descriptor;
      if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) throw new VirtqueueError('a table in a table');
      add(chain, descriptor);
      if ((flags & VIRTQ_DESC_F_NEXT) === 0) return;
      index = descriptor.next;
      if (index >= entries) throw new VirtqueueError(`entry ${index} of a table of ${entries}`);
    }
  }
}

function add(chain: DescriptorChain, { address, length, flags }: Descriptor): void {
  if ((flags & VIRTQ_DESC_F_WRITE) !== 0) chain.addWritable(address, length);
  else chain.addReadable(address, length);
}

/** How far it is from one 16-bit index up to another. */
function distance(from: number, to: number): number {
  return (to - from) & 0xffff;
}
