// Disks in qcow2 images, opened without a daemon, and what to put on them. Nothing here needs a test runner.

import type { IoBuffer } from '../../src/base/io-buffer.ts';
import type { BlockBackend } from '../../src/block/block-backend.ts';
import { PERM_ALL, PERM_CONSISTENT_READ, PERM_WRITE } from '../../src/block/block-driver.ts';
import type { BlockDrivers, BlockGraph } from '../../src/block/block-graph.ts';
import {
  deleteInternalSnapshot,
  InternalSnapshotAction,
} from '../../src/block/snapshot-internal.ts';
import { runTransaction } from '../../src/block/transaction.ts';
import type { BlockdevOptions, BlockdevOptionsQcow2 } from '../../src/qapi/generated/types.ts';
import { allocate } from '../../src/sys/memory.ts';
import { testGraph } from '../unit/block/graph-fixture.ts';

export interface Opened {
  readonly graph: BlockGraph;
  readonly backend: BlockBackend;
  close(): Promise<void>;
}

/** Opens an image in a graph of its own. `drivers`: in place of the real ones, by name. */
export async function openDisk(
  path: string,
  options: Partial<BlockdevOptionsQcow2> & Pick<BlockdevOptions, 'read-only' | 'cache'> = {},
  drivers: BlockDrivers = {},
): Promise<Opened> {
  const graph = testGraph(undefined, { drivers });
  const readOnly = options['read-only'] ?? false;
  const node = await graph.add({
    driver: 'qcow2',
    'node-name': 'image',
    discard: 'unmap',
    file: { driver: 'file', filename: path },
    ...options,
  });
  const backend = graph.backend(node, {
    perm: readOnly ? PERM_CONSISTENT_READ : PERM_CONSISTENT_READ | PERM_WRITE,
    shared: PERM_ALL,
  });
  let open = true;
  const close = async (): Promise<void> => {
    if (!open) return;
    open = false;
    await backend.release();
    await graph.close();
  };
  return { graph, backend, close };
}

/** Takes an internal snapshot. */
export function takeSnapshot({ graph }: Pick<Opened, 'graph'>, name: string): Promise<void> {
  return graph.change((access) =>
    runTransaction([new InternalSnapshotAction(access, { device: 'image', name })]),
  );
}

/** Deletes an internal snapshot. */
export function dropSnapshot({ graph }: Pick<Opened, 'graph'>, name: string): Promise<unknown> {
  return graph.change((access) => deleteInternalSnapshot(access, { device: 'image', name }));
}

/** Numbers from 0 to below 1, the same for the same seed. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** `length` bytes, with runs that compress and runs of zeroes. */
export function someContent(seed: number, length: number): Buffer {
  const next = random(seed);
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; ) {
    const run = Math.min(length - at, 1 + Math.floor(next() * 40_000));
    const kind = next();
    if (kind > 0.6) for (let one = 0; one < run; one++) bytes[at + one] = Math.floor(next() * 256);
    else if (kind > 0.3) bytes.fill(1 + Math.floor(next() * 255), at, at + run);
    at += run;
  }
  return bytes;
}

export function bufferOf(content: Buffer): IoBuffer {
  const buffer = allocate(content.length);
  content.copy(buffer.bytes);
  return buffer;
}
