// Writes to a qcow2 image at random until it is killed, from a seed: `qcow2-writer.ts IMAGE SEED`. Says `flushed N` when all
// requests before the Nth are durable.

import { IoError } from '../../src/base/errors.ts';
import {
  MAY_UNMAP,
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
  WRITE_COMPRESSED,
  ZERO_WRITE,
} from '../../src/block/block-driver.ts';
import { bufferOf, openDisk } from '../helpers/qcow2-disk.ts';
import { type Operation, operations, sectorsOf } from './qcow2-operations.ts';

const PARALLEL = 8;
const [path = '', seed = '1'] = process.argv.slice(2);

// With small caches tables are written at any time, not only by flushes.
const small = { 'l2-cache-size': 1024, 'refcount-cache-size': 4096, 'l2-cache-entry-size': 512 };
const { graph } = await openDisk(path, Number(seed) % 2 === 0 ? {} : small);
const backend = graph.backend(graph.find(undefined, 'image'), {
  perm: PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE,
  shared: PERM_ALL,
});
const all = operations(Number(seed), backend.length);
let running: Promise<void>[] = [];

for (const [index, operation] of all.entries()) {
  if (operation.kind === 'flush') {
    await Promise.all(running);
    running = [];
    await backend.flush();
    process.stdout.write(`flushed ${index}\n`);
    continue;
  }
  if (operation.kind === 'shrink') {
    await Promise.all(running);
    running = [];
    const { length } = backend;
    const exact = { exact: true, prealloc: 'off' } as const;
    await backend.truncate(operation.offset, { ...exact, flags: 0 });
    await backend.truncate(length, { ...exact, flags: ZERO_WRITE });
    continue;
  }
  // Requests at the same time must not overlap: which one wins would be anybody's guess.
  if (operation.waits || running.length >= PARALLEL) {
    await Promise.all(running);
    running = [];
  }
  running.push(carryOut(operation));
}
await Promise.all(running);
process.stdout.write('done\n');

async function carryOut({ kind, offset, length, value }: Operation): Promise<void> {
  if (kind === 'write') await backend.write(offset, length, bufferOf(sectorsOf(length, value)), 0);
  else if (kind === 'compressed') await compressed(offset, length, value);
  else if (kind === 'discard') {
    await backend.discard(offset, length);
    await backend.writeZeroes(offset, length);
  } else await backend.writeZeroes(offset, length, kind === 'unmap' ? MAY_UNMAP : 0);
}

/** Where something is left that cannot be given up, it is written as it is. */
async function compressed(offset: number, length: number, value: number): Promise<void> {
  const data = bufferOf(sectorsOf(length, value));
  await backend.writeZeroes(offset, length, MAY_UNMAP);
  try {
    await backend.write(offset, length, data, 0, WRITE_COMPRESSED);
  } catch (error) {
    if (!(error instanceof IoError)) throw error;
    await backend.write(offset, length, data, 0);
  }
}
