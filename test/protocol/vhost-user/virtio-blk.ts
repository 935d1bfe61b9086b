// virtio-blk requests (virtio 1.x, 5.2.6) on a virtqueue, as a guest's driver makes them.

import { type Poller, READABLE } from '../../../src/sys/poller.ts';
import { Arena } from './guest-memory.ts';
import type { EventCounter } from './shared-descriptors.ts';
import type { Piece, Virtqueue } from './virtqueue.ts';

export const BLK_T = {
  IN: 0,
  OUT: 1,
  FLUSH: 4,
  GET_ID: 8,
  GET_LIFETIME: 10,
  DISCARD: 11,
  WRITE_ZEROES: 13,
  SECURE_ERASE: 14,
  BARRIER: 0x80000000,
} as const;

export const BLK_S = { OK: 0, IOERR: 1, UNSUPP: 2 } as const;

export const SECTOR = 512;
export const UNMAP = 1;

const HEADER = 16;
/** Bytes of guest memory for the requests of a queue that are under way. */
const ROOM = 3 * 1024 * 1024;
/** In the status byte before the device has written it. */
export const UNTOUCHED = 0xff;

export interface BlkRequest {
  readonly type: number;
  readonly sector?: number | bigint;
  /** Bytes for the device, after the header. */
  readonly out?: Uint8Array;
  /** How many bytes the device is to give, before the status. */
  readonly inLength?: number;
  /** Cuts the bytes into buffers of these lengths; what is left is the last one. Header and status stay on their own. */
  readonly pieces?: readonly number[];
  /** Puts header and data, or data and status, into one buffer: the layout is not the driver's business (2.7.4). */
  readonly joined?: boolean;
}

export interface BlkResult {
  readonly status: number;
  /** What the device says it has written, status included. */
  readonly written: number;
  readonly in: Buffer;
}

/** A queue with its two event counters: requests in, results out. */
export class BlkQueue {
  readonly queue: Virtqueue;
  readonly kick: EventCounter;
  readonly call: EventCounter;
  readonly #pending = new Map<number, (length: number) => void>();
  readonly #arena: Arena;
  #idle: (() => void)[] = [];

  constructor(
    queue: Virtqueue,
    events: { kick: EventCounter; call: EventCounter; poller: Poller },
  ) {
    this.queue = queue;
    this.kick = events.kick;
    this.call = events.call;
    this.#arena = new Arena(queue.memory, ROOM);
    events.poller.watch(this.call.fd, () => this.#called()).want(READABLE);
  }

  get inFlight(): number {
    return this.#pending.size;
  }

  /** Resolves once nothing is in flight. */
  idle(): Promise<void> {
    if (this.#pending.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  /** Makes a request available; the result. `kick: false` leaves it to a later kick. */
  submit(request: BlkRequest, options: { readonly kick?: boolean } = {}): Promise<BlkResult> {
    const { memory } = this.queue;
    const out = request.out ?? Buffer.alloc(0);
    const inLength = request.inLength ?? 0;
    const header = this.#arena.allocate(HEADER + out.length);
    memory.view.setUint32(header, request.type, true);
    memory.view.setUint32(header + 4, 0, true);
    memory.view.setBigUint64(header + 8, BigInt(request.sector ?? 0), true);
    memory.bytes.set(out, header + HEADER);
    const into = this.#arena.allocate(inLength + 1);
    const status = into + inLength;
    memory.bytes[status] = UNTOUCHED;

    const cut = (at: number, length: number, writable: boolean): Piece[] =>
      lengths(length, request.pieces ?? []).map(([offset, size]) => ({
        address: memory.guestAddress(at + offset),
        length: size,
        writable,
      }));
    const pieces =
      request.joined === true
        ? [...cut(header, HEADER + out.length, false), ...cut(into, inLength + 1, true)]
        : [
            { address: memory.guestAddress(header), length: HEADER, writable: false },
            ...cut(header + HEADER, out.length, false),
            ...cut(into, inLength, true),
            { address: memory.guestAddress(status), length: 1, writable: true },
          ];
    return this.submitPieces(pieces, options).then((written) => ({
      status: memory.bytes[status] ?? UNTOUCHED,
      written,
      in: Buffer.from(memory.bytes.subarray(into, into + inLength)),
    }));
  }

  /** Makes a chain of any pieces available; how much the device says it has written. */
  submitPieces(
    pieces: readonly Piece[],
    options: { readonly kick?: boolean } = {},
  ): Promise<number> {
    const head = this.queue.add(pieces);
    const written = new Promise<number>((resolve) => this.#pending.set(head, resolve));
    if (options.kick !== false) this.kickIfWanted();
    return written;
  }

  kickIfWanted(): void {
    if (this.queue.needsKick()) this.kick.signal();
  }

  read(offset: number, length: number): Promise<BlkResult> {
    return this.submit({ type: BLK_T.IN, sector: offset / SECTOR, inLength: length });
  }

  write(offset: number, bytes: Uint8Array): Promise<BlkResult> {
    return this.submit({ type: BLK_T.OUT, sector: offset / SECTOR, out: bytes });
  }

  flush(): Promise<BlkResult> {
    return this.submit({ type: BLK_T.FLUSH });
  }

  discard(offset: number, length: number, flags = 0): Promise<BlkResult> {
    return this.submit({ type: BLK_T.DISCARD, out: range(offset, length, flags) });
  }

  writeZeroes(offset: number, length: number, flags = 0): Promise<BlkResult> {
    return this.submit({ type: BLK_T.WRITE_ZEROES, out: range(offset, length, flags) });
  }

  #called(): void {
    this.call.take();
    this.queue.reap((head, length) => {
      const done = this.#pending.get(head);
      this.#pending.delete(head);
      done?.(length);
    });
    if (this.#pending.size > 0) return;
    this.#arena.clear();
    for (const resolve of this.#idle.splice(0)) resolve();
  }
}

/** A segment of discard and write-zeroes (5.2.6): offset and length in bytes. */
export function range(offset: number, length: number, flags = 0): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeBigUInt64LE(BigInt(offset / SECTOR), 0);
  bytes.writeUInt32LE(length / SECTOR, 8);
  bytes.writeUInt32LE(flags, 12);
  return bytes;
}

function lengths(total: number, cuts: readonly number[]): [offset: number, length: number][] {
  const parts: [number, number][] = [];
  let at = 0;
  for (const cut of [...cuts, total]) {
    const length = Math.min(cut, total - at);
    if (length > 0) parts.push([at, length]);
    at += length;
  }
  return parts;
}
