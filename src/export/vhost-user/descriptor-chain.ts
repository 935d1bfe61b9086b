// The buffers of one request, checked and found in our memory: what a virtqueue hands to a device.

import type { IoBuffer } from '../../base/io-buffer.ts';
import type { RequestBuffers } from '../virtio-blk/request-buffers.ts';
import type { DirtyLog } from './dirty-log.ts';
import type { GuestMemory } from './guest-memory.ts';
import { MAX_CHAIN } from './protocol.ts';
import { VirtqueueError } from './virtqueue-error.ts';

/** Bytes that a request takes beside its data, about; and what each piece of its buffers adds. */
const REQUEST_COST = 1024;
const PIECE_COST = 32;

export class DescriptorChain implements RequestBuffers {
  /** The descriptor that the driver knows the request by. */
  head = 0;
  readable = 0;
  writable = 0;
  readonly #memory: GuestMemory;
  /** Our addresses and the lengths of the pieces, readable ones first. */
  readonly #addresses: number[] = [];
  readonly #lengths: number[] = [];
  /** Guest addresses of the same, for the log. */
  readonly #guestAddresses: number[] = [];
  #count = 0;
  #firstWritable = 0;

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  /** Bytes of our memory that it takes to know the request, about, while it is under way. */
  get cost(): number {
    return REQUEST_COST + PIECE_COST * this.#count;
  }

  /** Forgets the buffers of the last request. */
  begin(head: number): void {
    this.head = head;
    this.readable = 0;
    this.writable = 0;
    this.#count = 0;
    this.#firstWritable = 0;
  }

  /** Adds a buffer that the driver gives. Throws VirtqueueError. */
  addReadable(guestAddress: number, length: number): void {
    if (this.writable > 0) throw new VirtqueueError('a readable descriptor behind a writable one');
    this.#add(guestAddress, length);
    this.readable += length;
    this.#firstWritable = this.#count;
  }

  /** Adds a buffer that the driver wants filled. Throws VirtqueueError. */
  addWritable(guestAddress: number, length: number): void {
    this.#add(guestAddress, length);
    this.writable += length;
  }

  take(from: number, length: number, into: IoBuffer, at: number): void {
    let ours = into.address + at;
    let skip = from;
    let left = length;
    for (let index = 0; left > 0; index++) {
      const size = this.#lengths[index] as number;
      if (skip >= size) {
        skip -= size;
        continue;
      }
      const piece = Math.min(left, size - skip);
      this.#memory.copyFrom((this.#addresses[index] as number) + skip, ours, piece);
      skip = 0;
      ours += piece;
      left -= piece;
    }
  }

  put(to: number, length: number, from: IoBuffer, at: number): void {
    let ours = from.address + at;
    let skip = to;
    let left = length;
    for (let index = this.#firstWritable; left > 0; index++) {
      const size = this.#lengths[index] as number;
      if (skip >= size) {
        skip -= size;
        continue;
      }
      const piece = Math.min(left, size - skip);
      this.#memory.copyTo((this.#addresses[index] as number) + skip, ours, piece);
      skip = 0;
      ours += piece;
      left -= piece;
    }
  }

  /** Marks the first `written` bytes of what the driver wanted filled. Throws VirtqueueError. */
  log(log: DirtyLog, written: number): void {
    let left = written;
    for (let index = this.#firstWritable; left > 0; index++) {
      const piece = Math.min(left, this.#lengths[index] as number);
      log.mark(this.#guestAddresses[index] as number, piece);
      left -= piece;
    }
  }

  #add(guestAddress: number, length: number): void {
    if (length === 0) throw new VirtqueueError('a descriptor of no bytes');
    for (let done = 0; done < length; ) {
      const piece = this.#memory.contiguous(guestAddress + done, length - done);
      if (piece === 0) throw new VirtqueueError('a descriptor outside of the memory');
      if (this.#count === MAX_CHAIN) throw new VirtqueueError('a chain that is too long');
      this.#addresses[this.#count] = this.#memory.address(guestAddress + done);
      this.#lengths[this.#count] = piece;
      this.#guestAddresses[this.#count] = guestAddress + done;
      this.#count++;
      done += piece;
    }
  }
}
