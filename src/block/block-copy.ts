// Copying a node to another cluster by cluster, each once and in any order, while the source is in use: what is still to be
// copied, what is being copied, and waiting for it.

import { Bitmap } from '../base/bitmap.ts';
import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { BlockChild } from './block-child.ts';
import { BLOCK_ZERO } from './block-driver.ts';
import type { BlockNode } from './block-node.ts';
import { chainOf } from './block-status.ts';
import { LARGEST_BOUNCE } from './bounce-pool.ts';
import { imageState } from './image-state.ts';
import { writeNow } from './io-aligned.ts';
import { checkEnd } from './io-driver.ts';
import { writeZeroesAligned } from './io-zero.ts';

/** Clusters are at least this long; bytes. */
const SMALLEST_CLUSTER = 64 * 1024;

/** Clusters, both ends inclusive. */
export interface ClusterRange {
  readonly first: number;
  readonly last: number;
}

interface CopyTask extends ClusterRange {
  /** Never rejects. */
  readonly ended: Promise<void>;
}

export class BlockCopy {
  /** Bytes, a power of 2. */
  readonly clusterSize: number;
  /** Clusters that are still to be copied; as many as the source has now. */
  readonly missing: Bitmap;
  readonly #source: BlockChild;
  readonly #target: BlockChild;
  /** The target shows the source where nothing was copied: its readers and our writes must not meet. */
  readonly #isFleecing: boolean;
  readonly #tasks = new Set<CopyTask>();

  /** All is to be copied. */
  constructor(source: BlockChild, target: BlockChild, log: Logger) {
    this.#source = source;
    this.#target = target;
    this.clusterSize = clusterSizeFor(target.node, log);
    this.#isFleecing = [...chainOf(target.node)].includes(source.node);
    const clusters = Math.ceil(source.node.length / this.clusterSize);
    this.missing = new Bitmap(clusters);
    if (clusters > 0) this.missing.set(0, clusters - 1);
  }

  /** The clusters that an area (bytes) touches; undefined for none. */
  clustersOf(offset: number, length: number): ClusterRange | undefined {
    const first = Math.floor(offset / this.clusterSize);
    const last = Math.min(this.missing.length, Math.ceil((offset + length) / this.clusterSize)) - 1;
    return first <= last ? { first, last } : undefined;
  }

  /** True when nothing of it has to be copied or is being copied. */
  isDone(range: ClusterRange): boolean {
    return this.missing.nextSet(range.first, range.last + 1) < 0 && !this.#conflict(range);
  }

  /** Copies what is missing, and waits for what others copy. Throws IoError; what failed is missing again. */
  async copy(range: ClusterRange): Promise<void> {
    for (;;) {
      const dirty = this.missing.nextSet(range.first, range.last + 1);
      if (dirty >= 0) {
        await this.#copyRun(this.#runFrom(dirty, range.last));
        continue;
      }
      const conflict = this.#conflict(range);
      if (conflict === undefined) return;
      await conflict.ended;
    }
  }

  /** Nobody wants these clusters any more. */
  skip({ first, last }: ClusterRange): void {
    const end = Math.min(last, this.missing.length - 1);
    if (first <= end) this.missing.clear(first, end);
  }

  #conflict({ first, last }: ClusterRange): CopyTask | undefined {
    for (const task of this.#tasks) if (task.first <= last && first <= task.last) return task;
    return undefined;
  }

  #runFrom(first: number, last: number): ClusterRange {
    const most = Math.max(1, Math.floor(LARGEST_BOUNCE / this.clusterSize));
    const end = Math.min(last + 1, first + most);
    const clear = this.missing.nextClear(first, end);
    return { first, last: (clear < 0 ? end : clear) - 1 };
  }

  async #copyRun(range: ClusterRange): Promise<void> {
    const { first, last } = range;
    let end = (): void => {};
    const task: CopyTask = {
      first,
      last,
      ended: new Promise((resolve) => {
        end = resolve;
      }),
    };
    this.#tasks.add(task);
    this.missing.clear(first, last);
    try {
      const offset = first * this.clusterSize;
      const limit = Math.min((last + 1) * this.clusterSize, this.#source.node.length);
      for (let at = offset; at < limit; at += LARGEST_BOUNCE) {
        await this.#copyPiece(at, Math.min(LARGEST_BOUNCE, limit - at));
      }
    } catch (error) {
      this.missing.set(first, last);
      throw error;
    } finally {
      this.#tasks.delete(task);
      end();
    }
  }

  async #copyPiece(offset: number, length: number): Promise<void> {
    const { node } = this.#source;
    if (await this.#isZero(offset, length)) {
      await this.#write(offset, length);
      return;
    }
    const buffer = node.pool.take(length);
    await this.#source.read(offset, length, buffer, 0);
    await this.#write(offset, length, buffer);
    node.pool.give(buffer);
  }

  /** Known to read as zeroes. Where the source cannot say, reading will show whether it can be read at all. */
  async #isZero(offset: number, length: number): Promise<boolean> {
    try {
      const found = await this.#source.blockStatus(offset, length);
      return (found.status & BLOCK_ZERO) !== 0 && found.length >= length;
    } catch (error) {
      if (error instanceof IoError) return false;
      throw error;
    }
  }

  /** Without data it writes zeroes. */
  async #write(
    offset: number,
    length: number,
    data?: Parameters<typeof writeNow>[3],
  ): Promise<void> {
    const { node } = this.#target;
    const isAligned = (offset | length) % node.limits.requestAlignment === 0;
    if (!this.#isFleecing || !isAligned) {
      if (data === undefined) await this.#target.writeZeroes(offset, length);
      else await this.#target.write(offset, length, data, 0);
      return;
    }
    if (!node.writable) throw new IoError(errno.EPERM, { syscall: 'write', offset });
    checkEnd(node, offset, length);
    const request = node.requests.begin(offset, length);
    try {
      await node.requests.serialise(request, 1);
      if (data === undefined) await writeZeroesAligned(node, offset, length, 0);
      else await writeNow(node, offset, length, data, 0, 0);
    } finally {
      node.requests.end(request);
    }
  }
}

function clusterSizeFor(target: BlockNode, log: Logger): number {
  const state = imageState(target);
  if (state !== undefined) return Math.max(SMALLEST_CLUSTER, state.clusterSize);
  const hasBacking = [...chainOf(target)].some((node) => node.backing !== undefined);
  if (!hasBacking) {
    log.warn(
      "The target block device doesn't provide information about the block size and it doesn't " +
        `have a backing file. The default block size of ${SMALLEST_CLUSTER} bytes is used. If the ` +
        'actual block size of the target exceeds this default, the backup may be unusable',
    );
  }
  return SMALLEST_CLUSTER;
}
