// Drivers without a disk: writes vanish, reads give zeroes. For benchmarks and tests. `null-co` completes a request at once
// unless it has a latency, `null-aio` always later. `read-zeroes` promises the zeroes in the block status; without it the
// reference leaves memory as it is, but that memory may hold what another client read or wrote.

import type { MaybePromise } from '../../base/io-buffer.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { BlockdevOptionsNull } from '../../qapi/generated/types.ts';
import { BLOCK_OFFSET_VALID, BLOCK_ZERO, type BlockDriver, FUA } from '../block-driver.ts';
import type { BlockNode } from '../block-node.ts';

const DEFAULT_SIZE = 1024 ** 3;
/** In milliseconds. */
const LONGEST_TIMER = 2 ** 31 - 1;

export interface NullState {
  readonly size: number;
  /** Milliseconds. */
  readonly latency: number;
  readonly readZeroes: boolean;
  /** Completes later even without a latency. */
  readonly deferred: boolean;
}

export const nullCo: BlockDriver<NullState, BlockdevOptionsNull> = nullDriver('null-co', {
  deferred: false,
});
export const nullAio: BlockDriver<NullState, BlockdevOptionsNull> = nullDriver('null-aio', {
  deferred: true,
});

function nullDriver(
  name: 'null-co' | 'null-aio',
  { deferred }: { deferred: boolean },
): BlockDriver<NullState, BlockdevOptionsNull> {
  return {
    name,
    kind: 'protocol',
    strongOptions: ['size', 'read-zeroes'],
    exactFilename(node) {
      const options = node.options as BlockdevOptionsNull;
      const plain = options.size === undefined && options['read-zeroes'] === undefined;
      return plain ? `${name}://` : undefined;
    },

    open(node, options) {
      node.supportedWriteFlags = FUA;
      return { ...sizeAndLatency(options), readZeroes: options['read-zeroes'] === true, deferred };
    },
    reopen() {
      return { commit() {} };
    },
    length(node) {
      return node.state.size;
    },
    read(node, _offset, length, into, at) {
      into.bytes.fill(0, at, at + length);
      return complete(node);
    },
    write(node) {
      return complete(node);
    },
    flush(node) {
      return complete(node);
    },
    blockStatus(node, offset, length) {
      const zero = node.state.readZeroes ? BLOCK_ZERO : 0;
      return { status: BLOCK_OFFSET_VALID | zero, length, hostOffset: offset, file: node };
    },
    allocatedSize() {
      return 0;
    },
  };
}

function sizeAndLatency(options: BlockdevOptionsNull): { size: number; latency: number } {
  const size = options.size ?? DEFAULT_SIZE;
  const nanoseconds = options['latency-ns'] ?? 0;
  // The reference aborts on this one.
  if (size < 0) {
    throw new QmpError("Parameter 'size' expects a non-negative number below 2^64");
  }
  if (nanoseconds < 0) throw new QmpError('latency-ns is invalid');
  return { size, latency: nanoseconds / 1e6 };
}

function complete(node: BlockNode<NullState>): MaybePromise<void> {
  const { latency, deferred } = node.state;
  if (latency > 0) return pause(latency);
  if (deferred) return new Promise((resolve) => setImmediate(resolve));
}

/** Waits for so many milliseconds, or a part of one: timers know whole ones only, the rest is spent in turns of the loop. */
function pause(milliseconds: number): Promise<void> {
  const until = performance.now() + milliseconds;
  return new Promise((resolve) => {
    function look(): void {
      const left = until - performance.now();
      if (left <= 0) resolve();
      else if (left >= 2) setTimeout(look, Math.min(left - 1, LONGEST_TIMER));
      else setImmediate(look);
    }
    look();
  });
}
