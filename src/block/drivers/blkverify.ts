// The filter `blkverify`: every request goes to a node that is tested and to a raw one, which have to agree. It finds where a
// driver first returns something else than was written.

import { errno } from '../../base/errno.ts';
import { IoError } from '../../base/errors.ts';
import type { MaybePromise } from '../../base/io-buffer.ts';
import type { Logger } from '../../base/log.ts';
import type { BlockdevOptionsBlkverify } from '../../qapi/generated/types.ts';
import type { BlockChild } from '../block-child.ts';
import { type BlockDriver, CHILD_DATA, CHILD_FILTER, WRITE_UNCHANGED } from '../block-driver.ts';
import type { BlockNode } from '../block-node.ts';
import { exactFilenameOf } from '../filename.ts';
import { filteredChild } from '../filter.ts';

export interface BlkverifyState {
  readonly test: BlockChild;
  readonly log: Logger;
}

interface Area {
  readonly type: 'read' | 'write';
  readonly offset: number;
  readonly length: number;
}

export const blkverify: BlockDriver<BlkverifyState, BlockdevOptionsBlkverify> = {
  name: 'blkverify',
  kind: 'filter',
  isProtocol: true,
  strongOptions: [],
  flushesChildren: true,
  exactFilename(node) {
    const raw = exactFilenameOf(filteredChild(node).node);
    const test = exactFilenameOf(node.state.test.node);
    return raw === undefined || test === undefined ? undefined : `blkverify:${raw}:${test}`;
  },

  async open(node, options, context) {
    const { log } = context;
    await context.openChild('raw', options.raw, CHILD_FILTER);
    const test = await context.openChild('test', options.test, CHILD_DATA);
    node.supportedWriteFlags = WRITE_UNCHANGED;
    node.supportedZeroFlags = WRITE_UNCHANGED;
    return { test, log };
  },

  length: ({ state: { test } }) => test.node.length,
  async read(node, offset, length, into, at, flags) {
    const area: Area = { type: 'read', offset, length };
    const copy = node.pool.take(length);
    await inBoth(
      node,
      area,
      () => node.state.test.read(offset, length, into, at, flags),
      () => filteredChild(node).read(offset, length, copy, 0, flags),
    );
    const tested = into.bytes.subarray(at, at + length);
    const raw = copy.bytes.subarray(0, length);
    if (!tested.equals(raw)) {
      const first = tested.findIndex((byte, index) => byte !== raw[index]);
      throw mismatch(node, area, `contents mismatch at offset ${offset + first}`);
    }
    node.pool.give(copy);
  },
  write(node, offset, length, from, at, flags) {
    return inBoth(
      node,
      { type: 'write', offset, length },
      () => node.state.test.write(offset, length, from, at, flags),
      () => filteredChild(node).write(offset, length, from, at, flags),
    );
  },
  // Nobody needs the raw copy once the test is over.
  flush: ({ state: { test } }) => test.flush(),
};

/** Makes both requests; throws the error that both have, or that they differ. */
async function inBoth(
  node: BlockNode<BlkverifyState>,
  area: Area,
  inTest: () => MaybePromise<void>,
  inRaw: () => MaybePromise<void>,
): Promise<void> {
  const [test, raw] = await Promise.all([failureOf(inTest), failureOf(inRaw)]);
  if (test?.errno !== raw?.errno) {
    const values = `${-(test?.errno ?? 0)} != ${-(raw?.errno ?? 0)}`;
    throw mismatch(node, area, `return value mismatch ${values}`);
  }
  if (test !== undefined) throw test;
}

async function failureOf(request: () => MaybePromise<void>): Promise<IoError | undefined> {
  try {
    await request();
    return undefined;
  } catch (error) {
    if (error instanceof IoError) return error;
    throw error;
  }
}

/** The reference ends its process; here the request fails, and whoever looks at the log sees why. */
function mismatch(node: BlockNode<BlkverifyState>, area: Area, what: string): IoError {
  const { type, offset, length } = area;
  node.state.log.error(`blkverify: ${type} offset=${offset} bytes=${length} ${what}`);
  return new IoError(errno.EIO, { syscall: 'compare', offset });
}
