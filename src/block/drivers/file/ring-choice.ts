// What the kernel's ring does for an image file, and what the thread pool: as the option `aio` says, and as was measured to be
// faster where it says nothing.

import { IoError } from '../../../base/errors.ts';
import type { RequestRing, RingSource } from '../../../base/request-ring.ts';
import { QmpError } from '../../../qapi/errors.ts';
import type { BlockdevAioOptions } from '../../../qapi/generated/types.ts';

/** Which requests are the ring's. */
interface RingUse {
  readonly directReads: boolean;
  readonly cachedReads: boolean;
  readonly directWrites: boolean;
  readonly cachedWrites: boolean;
  readonly flushes: boolean;
}

const never: RingUse = {
  directReads: false,
  cachedReads: false,
  directWrites: false,
  cachedWrites: false,
  flushes: false,
};
const always: RingUse = {
  directReads: true,
  cachedReads: true,
  directWrites: true,
  cachedWrites: true,
  flushes: true,
};
/** Threads copy what was not in the page cache several at a time, and are faster at direct writes. */
const measured: RingUse = { ...never, directReads: true, cachedWrites: true };

const uses = {
  threads: never,
  native: measured,
  io_uring: always,
} satisfies Record<BlockdevAioOptions, RingUse>;

export class RingChoice {
  readonly #use: RingUse;
  readonly #source: RingSource;
  #ring: RequestRing | undefined;
  #asked = false;

  /** Throws QmpError when there has to be a ring and the kernel has none for us. */
  constructor(aio: BlockdevAioOptions | undefined, source: RingSource) {
    this.#use = aio === undefined ? measured : uses[aio];
    this.#source = source;
    if (aio !== 'io_uring') return;
    this.#ring = requiredRing(source);
    this.#asked = true;
  }

  /** These answer undefined where the thread pool is to be used. */
  forReads(direct: boolean): RequestRing | undefined {
    return (direct ? this.#use.directReads : this.#use.cachedReads) ? this.#get() : undefined;
  }

  forWrites(direct: boolean): RequestRing | undefined {
    return (direct ? this.#use.directWrites : this.#use.cachedWrites) ? this.#get() : undefined;
  }

  forFlushes(): RequestRing | undefined {
    return this.#use.flushes ? this.#get() : undefined;
  }

  #get(): RequestRing | undefined {
    if (this.#asked) return this.#ring;
    this.#asked = true;
    try {
      this.#ring = this.#source();
    } catch (error) {
      // The pool does the same.
      if (!(error instanceof IoError)) throw error;
    }
    return this.#ring;
  }
}

function requiredRing(source: RingSource): RequestRing {
  try {
    return source();
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    throw new QmpError(
      `Unable to use io_uring: failed to init linux io_uring ring: ${error.reason}`,
      { cause: error },
    );
  }
}
