// Writes to a qcow2 image until it is killed. Says `ready`; waits for a plan, a line of JSON; says `opened` once it has the image,
// and `flushed N` when all before the operation with that index is durable.

import { createInterface } from 'node:readline';
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
import { QmpError } from '../../src/qapi/errors.ts';
import { noisyWords, plainWords } from '../helpers/marked-words.ts';
import { bufferOf, dropSnapshot, openDisk, takeSnapshot } from '../helpers/qcow2-disk.ts';
import { carryOut, operations, type Plan, type Target } from './qcow2-operations.ts';

// With small caches tables are written at any time, not only by flushes.
const small = { 'l2-cache-size': 1024, 'refcount-cache-size': 4096, 'l2-cache-entry-size': 512 };

process.stdout.write('ready\n');
createInterface({ input: process.stdin }).once('line', (line) => {
  write(JSON.parse(line) as Plan).catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
});

async function write(plan: Plan): Promise<void> {
  const target = await openTarget(plan);
  process.stdout.write('opened\n');
  await carryOut(operations(plan), target, (index) => process.stdout.write(`flushed ${index}\n`));
}

async function openTarget({ path, life }: Plan): Promise<Target> {
  const opened = await openDisk(path, life % 2 === 0 ? {} : small);
  const { graph } = opened;
  const backend = graph.backend(graph.find(undefined, 'image'), {
    perm: PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE,
    shared: PERM_ALL,
  });
  const compressed = async (offset: number, length: number, mark: number): Promise<void> => {
    const data = bufferOf(noisyWords(offset, length, mark));
    await backend.writeZeroes(offset, length, MAY_UNMAP);
    try {
      await backend.write(offset, length, data, 0, WRITE_COMPRESSED);
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      // Where something is left that cannot be given up, it is written as it is.
      await backend.write(offset, length, data, 0);
    }
  };
  return {
    async request({ kind, offset, length, mark }) {
      if (kind === 'compressed') return compressed(offset, length, mark);
      if (kind === 'write') {
        return backend.write(offset, length, bufferOf(plainWords(length, mark)), 0);
      }
      if (kind === 'discard') await backend.discard(offset, length);
      await backend.writeZeroes(offset, length, kind === 'unmap' ? MAY_UNMAP : 0);
    },
    async flush() {
      await backend.flush();
    },
    async shrink(length) {
      const { length: before } = backend;
      const exact = { exact: true, prealloc: 'off' } as const;
      await backend.truncate(length, { ...exact, flags: 0 });
      await backend.truncate(before, { ...exact, flags: ZERO_WRITE });
    },
    take: (name) => unlessRefused(takeSnapshot(opened, name)),
    drop: (name) => unlessRefused(dropSnapshot(opened, name)),
  };
}

/** Narrow refcounts cannot count every snapshot. */
async function unlessRefused(done: Promise<unknown>): Promise<void> {
  try {
    await done;
  } catch (error) {
    if (!(error instanceof QmpError)) throw error;
  }
}
