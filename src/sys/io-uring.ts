// Requests to files that the kernel carries out beside this thread, through rings that it shares with us (io_uring(7)). Many
// are handed over by one system call, and what became of them is read from memory, when the ring's descriptor is readable.
// The kernel does buffered writes to one file one after the other, where threads would contend for the file's lock.
//
// Both rings are plain memory: whoever owns an index publishes it with Atomics, which order the entries before it. A request
// and its buffer are held here until it has ended, since the kernel has the address.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import type { RequestRing, RingDone, RingTransfer } from '../base/request-ring.ts';
import { addressOf, errnoNow, libc, viewOf } from './libc.ts';
import { type Poller, READABLE, type Watch } from './poller.ts';

/** What is asked of the kernel. Each answers a negative errno when it refuses. */
export interface RingCalls {
  /** Makes a ring with so many entries: its descriptor. `params` has what is wanted of it, and then what it is like. */
  setup(entries: number, params: Buffer): number;
  /** Hands over so many entries: how many were taken. */
  enter(fd: number, count: number): number;
}

interface RingRequest {
  readonly opcode: number;
  readonly flags: number;
  readonly operationFlags: number;
  readonly fd: number;
  readonly transfer: RingTransfer | undefined;
  readonly done: RingDone;
}

/** The C library has no functions for these. Their numbers are the same on every architecture. */
const SYS_io_uring_setup = 425;
const SYS_io_uring_enter = 426;

export const ringCalls: RingCalls = {
  setup: (entries, params) => ringCall(SYS_io_uring_setup, entries, addressOf(params)),
  enter: (fd, count) => ringCall(SYS_io_uring_enter, fd, count),
};

/** Requests that are handed over at once, at most. Twice as many may be under way. */
const ENTRIES = 128;
/** So many bytes are not held back until the others of this turn are there, too. */
const WORTH_A_CALL = 64 * 1024;

const IORING_SETUP_CLAMP = 1 << 4;
/** Linux 5.19: this thread is not interrupted for the sake of a request that has ended. */
const IORING_SETUP_COOP_TASKRUN = 1 << 8;
const IORING_FEAT_SINGLE_MMAP = 1 << 0;
/** Linux 5.6, which is the first one with IORING_OP_READ and IORING_OP_WRITE. */
const IORING_FEAT_RW_CUR_POS = 1 << 3;
const NEEDED = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_RW_CUR_POS;
const IORING_OFF_SQES = 0x1000_0000;
const IORING_OP_FSYNC = 3;
const IORING_OP_READ = 22;
const IORING_OP_WRITE = 23;
const IORING_FSYNC_DATASYNC = 1;
const IOSQE_ASYNC = 1 << 4;
const PROT_READ_WRITE = 3;
const MAP_SHARED_POPULATE = 0x8001;

// struct io_uring_params: [0] sq_entries [4] cq_entries [8] flags [20] features
//   sq_off: [40] head [44] tail [48] ring_mask [52] ring_entries [64] array
//   cq_off: [80] head [84] tail [88] ring_mask [92] ring_entries [100] cqes
const PARAMS_SIZE = 120;

// struct io_uring_sqe, in words of 4 bytes: [0] opcode, flags [1] fd [2] off [4] addr [6] len [7] operation's flags
//   [8] user_data [10] others, all 0
const SQE_WORDS = 16;
// struct io_uring_cqe: [0] user_data [2] res [3] flags
const CQE_WORDS = 4;

export class IoUring implements RequestRing {
  readonly #fd: number;
  readonly #calls: RingCalls;
  readonly #rings: RingMemory;
  readonly #watch: Watch;
  /** What each user_data stands for. */
  readonly #requests: (RingRequest | undefined)[] = [];
  readonly #free: number[] = [];
  /** For which there is no room yet. */
  readonly #waiting: RingRequest[] = [];
  /** From the first entry that is not handed over yet; indices run on and wrap at 2^32. */
  #submitted = 0;
  #tail = 0;
  #bytes = 0;
  #completed = 0;
  #underWay = 0;
  #scheduled = false;
  #closing: Promise<void> | undefined;
  #onIdle: (() => void) | undefined;

  /** Throws IoError: EPERM, ENOSYS and more where the kernel has no rings for us. `calls` and `entries` are for tests. */
  constructor(
    poller: Pick<Poller, 'watch'>,
    { calls = ringCalls, entries = ENTRIES }: { calls?: RingCalls; entries?: number } = {},
  ) {
    const params = Buffer.alloc(PARAMS_SIZE);
    this.#calls = calls;
    this.#fd = setUp(calls, entries, params);
    try {
      this.#rings = mapRings(this.#fd, params);
    } catch (error) {
      libc.close(this.#fd);
      throw error;
    }
    try {
      this.#watch = poller.watch(this.#fd, () => this.#reap());
    } catch (error) {
      unmapRings(this.#rings);
      libc.close(this.#fd);
      throw error;
    }
    this.#watch.want(READABLE);
    this.#watch.unref();
  }

  read(transfer: RingTransfer, done: RingDone): void {
    this.#take(IORING_OP_READ, transfer, done);
  }

  write(transfer: RingTransfer, done: RingDone): void {
    this.#take(IORING_OP_WRITE, transfer, done);
  }

  fdatasync(fd: number, done: RingDone): void {
    const operationFlags = IORING_FSYNC_DATASYNC;
    this.#add({ opcode: IORING_OP_FSYNC, flags: 0, operationFlags, fd, transfer: undefined, done });
  }

  /** Resolves when what is under way has ended and the kernel has everything back. Nothing may be asked for afterwards. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#underWay > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    this.#watch.close();
    unmapRings(this.#rings);
    libc.close(this.#fd);
  }

  #take(opcode: number, transfer: RingTransfer, done: RingDone): void {
    const flags = transfer.aside ? IOSQE_ASYNC : 0;
    this.#add({ opcode, flags, operationFlags: 0, fd: transfer.fd, transfer, done });
  }

  #add(request: RingRequest): void {
    if (this.#closing !== undefined) throw new Error('The ring is closed');
    if (this.#underWay++ === 0) this.#watch.ref();
    // The kernel has room for the ends of so many.
    if (this.#waiting.length > 0 || this.#underWay > this.#rings.completions) {
      this.#waiting.push(request);
      return;
    }
    this.#enter(request);
  }

  /** Writes a request into the ring, and hands it over now or at the end of this turn. */
  #enter(request: RingRequest): void {
    if (this.#room() === 0) this.#submit();
    if (this.#room() === 0) {
      this.#waiting.push(request);
      return;
    }
    const id = this.#free.pop() ?? this.#requests.length;
    this.#requests[id] = request;
    const { entries, entryMask } = this.#rings;
    const { transfer } = request;
    const at = (this.#tail & entryMask) * SQE_WORDS;
    entries.fill(0, at, at + SQE_WORDS);
    entries[at] = request.opcode | (request.flags << 8);
    entries[at + 1] = request.fd;
    entries[at + 7] = request.operationFlags;
    entries[at + 8] = id;
    if (transfer !== undefined) {
      putU64(entries, at + 2, transfer.offset);
      putU64(entries, at + 4, transfer.buffer.address + transfer.at);
      entries[at + 6] = transfer.length;
      this.#bytes += transfer.length;
    }
    this.#tail = (this.#tail + 1) >>> 0;
    if (this.#bytes >= WORTH_A_CALL) this.#submit();
    else this.#submitSoon();
  }

  #room(): number {
    return this.#rings.entryMask + 1 - ((this.#tail - this.#submitted) >>> 0);
  }

  #submitSoon(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#submit();
    });
  }

  /** Hands over what is in the ring. */
  #submit(): void {
    // Perhaps the ring is closed, and its memory gone.
    if (this.#submitted === this.#tail) return;
    const { indices, at } = this.#rings;
    this.#bytes = 0;
    Atomics.store(indices, at.entryTail, this.#tail | 0);
    while (this.#submitted !== this.#tail) {
      const count = (this.#tail - this.#submitted) >>> 0;
      const taken = this.#calls.enter(this.#fd, count);
      if (taken > 0) this.#submitted = (this.#submitted + taken) >>> 0;
      else if (isForNow(-taken)) return this.#submitLater();
      else if (taken !== -errno.EINTR) return this.#refuse(-taken);
    }
  }

  /** The kernel lacks memory for requests: it may have some when others have ended, or a little later. */
  #submitLater(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setTimeout(() => {
      this.#scheduled = false;
      this.#submit();
    }, 1);
  }

  /** The kernel takes nothing: takes back what it has not looked at yet, and says so to who wants it. */
  #refuse(code: number): void {
    const { entries, entryMask, indices, at } = this.#rings;
    const refused: number[] = [];
    for (let index = this.#submitted; index !== this.#tail; index = (index + 1) >>> 0) {
      refused.push(entries[(index & entryMask) * SQE_WORDS + 8] ?? 0);
    }
    this.#tail = this.#submitted;
    Atomics.store(indices, at.entryTail, this.#tail | 0);
    setImmediate(() => {
      for (const id of refused) this.#ended(id, -code);
    });
  }

  /** Tells those whose requests have ended. */
  #reap(): void {
    const { indices, at, completionMask } = this.#rings;
    const end = Atomics.load(indices, at.completionTail);
    while (this.#completed !== end) {
      const entry = at.completions + (this.#completed & completionMask) * CQE_WORDS;
      const id = indices[entry] ?? 0;
      const result = indices[entry + 2] ?? 0;
      this.#completed = (this.#completed + 1) | 0;
      Atomics.store(indices, at.completionHead, this.#completed);
      this.#ended(id, result);
    }
  }

  #ended(id: number, result: number): void {
    const request = this.#requests[id];
    if (request === undefined) return;
    this.#requests[id] = undefined;
    this.#free.push(id);
    const next = this.#waiting.shift();
    if (next !== undefined) this.#enter(next);
    if (--this.#underWay === 0) this.#watch.unref();
    try {
      request.done(result);
    } finally {
      if (this.#underWay === 0) this.#onIdle?.();
    }
  }
}

/** A refusal that is over when others have ended, or a little later; 0: nothing was taken. */
function isForNow(code: number): boolean {
  return code === 0 || code === errno.EAGAIN || code === errno.EBUSY;
}

/** The answer, or a negative errno. */
function ringCall(number: number, first: number, second: number): number {
  const result = libc.syscallOfNumbers(number, first, second, 0, 0, 0);
  return result < 0 ? -errnoNow() : result;
}

/** The rings as this thread sees them. Positions in `indices` are in words of 4 bytes. */
interface RingMemory {
  readonly start: number;
  readonly length: number;
  readonly entriesStart: number;
  readonly entriesLength: number;
  readonly indices: Int32Array;
  readonly entries: Uint32Array;
  readonly entryMask: number;
  readonly completionMask: number;
  /** How many requests that have ended there is room for. */
  readonly completions: number;
  readonly at: {
    readonly entryTail: number;
    readonly completionHead: number;
    readonly completionTail: number;
    readonly completions: number;
  };
}

/** A new ring's descriptor, and `params` filled in. Throws IoError. */
function setUp(calls: RingCalls, entries: number, params: Buffer): number {
  let fd = -1;
  for (const flags of [IORING_SETUP_CLAMP | IORING_SETUP_COOP_TASKRUN, IORING_SETUP_CLAMP]) {
    params.fill(0);
    params.writeUInt32LE(flags, 8);
    fd = calls.setup(entries, params);
    // A flag that this kernel does not know.
    if (fd !== -errno.EINVAL) break;
  }
  if (fd < 0) throw new IoError(-fd, { syscall: 'io_uring_setup' });
  if ((params.readUInt32LE(20) & NEEDED) === NEEDED) return fd;
  libc.close(fd);
  throw new IoError(errno.ENOSYS, { syscall: 'io_uring_setup' });
}

/** Throws IoError. */
function mapRings(fd: number, params: Buffer): RingMemory {
  const field = (at: number): number => params.readUInt32LE(at);
  const [entryCount, completions] = [field(0), field(4)];
  const length = Math.max(field(64) + entryCount * 4, field(100) + completions * CQE_WORDS * 4);
  const entriesLength = entryCount * SQE_WORDS * 4;
  const start = mapRing(fd, length, 0);
  let entriesStart: number;
  try {
    entriesStart = mapRing(fd, entriesLength, IORING_OFF_SQES);
  } catch (error) {
    libc.munmap(start, length);
    throw error;
  }
  const indices = new Int32Array(viewOf(start, length));
  // Entries are used in the order in which they lie.
  for (let index = 0; index < entryCount; index++) indices[field(64) / 4 + index] = index;
  return {
    start,
    length,
    entriesStart,
    entriesLength,
    indices,
    entries: new Uint32Array(viewOf(entriesStart, entriesLength)),
    entryMask: entryCount - 1,
    completionMask: completions - 1,
    completions,
    at: {
      entryTail: field(44) / 4,
      completionHead: field(80) / 4,
      completionTail: field(84) / 4,
      completions: field(100) / 4,
    },
  };
}

function mapRing(fd: number, length: number, offset: number): number {
  const start = libc.mmap(0, length, PROT_READ_WRITE, MAP_SHARED_POPULATE, fd, offset);
  if (start === -1) throw new IoError(errnoNow(), { syscall: 'mmap', offset });
  return start;
}

function unmapRings({ start, length, entriesStart, entriesLength }: RingMemory): void {
  libc.munmap(entriesStart, entriesLength);
  libc.munmap(start, length);
}

/** Below 2^53. */
function putU64(words: Uint32Array, at: number, value: number): void {
  words[at] = value % 0x1_0000_0000;
  words[at + 1] = Math.floor(value / 0x1_0000_0000);
}

/** Makes a ring once somebody needs one. */
export class SharedRing {
  readonly #poller: Pick<Poller, 'watch'>;
  #ring: IoUring | undefined;

  constructor(poller: Pick<Poller, 'watch'>) {
    this.#poller = poller;
  }

  /** Throws IoError; the next one who asks may have more luck. */
  readonly get = (): RequestRing => {
    this.#ring ??= new IoUring(this.#poller);
    return this.#ring;
  };

  /** As IoUring.close(). */
  async close(): Promise<void> {
    await this.#ring?.close();
  }
}
