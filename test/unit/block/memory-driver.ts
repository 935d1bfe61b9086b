// A block driver over memory that does what a test tells it: alignments and limits, asynchronous completion, failures. It
// checks the contract that io.ts owes to every driver.

import { errno } from '../../../src/base/errno.ts';
import { IoError } from '../../../src/base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../../src/base/io-buffer.ts';
import {
  BLOCK_DATA,
  BLOCK_OFFSET_VALID,
  BLOCK_ZERO,
  type BlockDriver,
  type BlockLimits,
  type BlockStatus,
  type RequestFlags,
  WRITE_COMPRESSED,
} from '../../../src/block/block-driver.ts';
import type { BlockNode } from '../../../src/block/block-node.ts';
import { type Started, tell } from '../../../src/block/completion.ts';

type StartRead = NonNullable<BlockDriver['startRead']>;
type StartWrite = NonNullable<BlockDriver['startWrite']>;

type Operation = 'read' | 'write' | 'zero' | 'discard' | 'flush' | 'truncate' | 'close';

export interface Call {
  readonly operation: Operation;
  readonly offset: number;
  readonly length: number;
  readonly flags: RequestFlags;
}

export interface MemoryDisk {
  readonly driver: BlockDriver;
  readonly bytes: Buffer;
  /** What reached the driver, in order. */
  readonly calls: Call[];
  /** Asked before each call: undefined to carry it out at once, a promise to do so later, an error to fail. */
  behave: (call: Call) => Promise<void> | Error | undefined;
}

export interface MemoryOptions {
  readonly size: number;
  readonly limits?: Partial<BlockLimits>;
  readonly writeFlags?: RequestFlags;
  readonly zeroFlags?: RequestFlags;
  /** Without: no writeZeroes at all. */
  readonly canZero?: boolean;
  /** Takes what is to be compressed, and keeps it as it is. */
  readonly canCompress?: boolean;
  /** It has startRead and startWrite, too. */
  readonly starts?: boolean;
  /** False: no blockStatus. */
  readonly tellsStatus?: boolean;
  /** Bytes that it can grow to; without, its size is fixed. */
  readonly capacity?: number;
}

export function memoryDisk(options: MemoryOptions): MemoryDisk {
  const calls: Call[] = [];
  const bytes = Buffer.alloc(options.capacity ?? options.size);
  let size = options.size;
  const perform = (call: Call, node: BlockNode, work: () => void): MaybePromise<void> => {
    calls.push(call);
    checkContract(call, node);
    const behaviour = disk.behave(call);
    if (behaviour instanceof Error) throw behaviour;
    if (behaviour === undefined) return work();
    return behaviour.then(work);
  };
  const area = (operation: Operation, offset: number, length: number, flags: RequestFlags = 0) => ({
    operation,
    offset,
    length,
    flags,
  });
  const driver: BlockDriver = {
    name: 'null-aio',
    kind: 'protocol',
    strongOptions: [],
    open(node) {
      node.supportedWriteFlags = options.writeFlags ?? 0;
      node.supportedZeroFlags = options.zeroFlags ?? 0;
      return {};
    },
    close(node) {
      return perform(area('close', 0, 0), node, () => {});
    },
    length: () => size,
    refreshLimits(_node, limits) {
      Object.assign(limits, options.limits);
    },
    read(node, offset, length, into, at, flags) {
      return perform(area('read', offset, length, flags), node, () => {
        bytes.copy(into.bytes, at, offset, offset + length);
      });
    },
    write(node, offset, length, from, at, flags) {
      return perform(area('write', offset, length, flags), node, () => {
        from.bytes.copy(bytes, offset, at, at + length);
      });
    },
    ...(options.canZero === true
      ? {
          writeZeroes(node: BlockNode, offset: number, length: number, flags: RequestFlags) {
            return perform(area('zero', offset, length, flags), node, () => {
              bytes.fill(0, offset, offset + length);
            });
          },
        }
      : {}),
    ...(options.canCompress === true
      ? {
          writeCompressed(
            node: BlockNode,
            offset: number,
            length: number,
            from: IoBuffer,
            at: number,
          ) {
            return perform(area('write', offset, length, WRITE_COMPRESSED), node, () => {
              from.bytes.copy(bytes, offset, at, at + length);
            });
          },
        }
      : {}),
    discard(node, offset, length) {
      return perform(area('discard', offset, length), node, () => {});
    },
    flush(node) {
      return perform(area('flush', 0, 0), node, () => {});
    },
    ...(options.starts === true ? { startRead, startWrite } : {}),
    ...(options.tellsStatus === false ? {} : { blockStatus }),
    ...(options.capacity === undefined
      ? {}
      : {
          truncate(node: BlockNode, length: number) {
            return perform(area('truncate', 0, length), node, () => {
              bytes.fill(0, Math.min(size, length));
              size = length;
            });
          },
        }),
  };
  function startRead(
    ...[node, offset, length, into, at, completion]: Parameters<StartRead>
  ): Started {
    return tell(driver.read(node, offset, length, into, at, 0), completion);
  }
  function startWrite(
    ...[node, offset, length, from, at, flags, completion]: Parameters<StartWrite>
  ): Started {
    return tell(driver.write?.(node, offset, length, from, at, flags), completion);
  }
  function blockStatus(node: BlockNode, offset: number, length: number): BlockStatus {
    const zero = bytes[offset] === 0;
    let end = offset;
    while (end < offset + length && (bytes[end] === 0) === zero) end++;
    return {
      status: (zero ? BLOCK_ZERO : BLOCK_DATA) | BLOCK_OFFSET_VALID,
      length: alignUp(end - offset, node.limits.requestAlignment),
      hostOffset: offset,
      file: node,
    };
  }
  const disk: MemoryDisk = { driver, bytes, calls, behave: () => undefined };
  return disk;
}

export function ioError(name: keyof typeof errno): IoError {
  return new IoError(errno[name], { syscall: 'test' });
}

/** Resolves `turns` of the event loop's microtasks later. */
export async function later(turns = 1): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await Promise.resolve();
}

function checkContract(call: Call, node: BlockNode): void {
  const { requestAlignment, maxTransfer } = node.limits;
  const { operation, offset, length } = call;
  if (operation === 'flush' || operation === 'close' || operation === 'truncate') return;
  const aligned = offset % requestAlignment === 0 && length % requestAlignment === 0;
  const tooLong = maxTransfer !== 0 && length > maxTransfer && /read|write/.test(operation);
  if (length <= 0 || (operation !== 'discard' && !aligned) || tooLong) {
    throw new Error(`Contract broken: ${operation} of ${length} at ${offset}`);
  }
}

function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}
