// A block graph for tests, with the real drivers and a programmable one in place of null-aio.

import { silentLogger } from '../../../src/base/log.ts';
import { createTrace } from '../../../src/base/trace.ts';
import type { BlockDriver } from '../../../src/block/block-driver.ts';
import { type BlockDrivers, BlockGraph } from '../../../src/block/block-graph.ts';
import { blockDrivers } from '../../../src/block/drivers/index.ts';
import type { ObjectLookup } from '../../../src/object/user-object.ts';
import { allocate } from '../../../src/sys/memory.ts';

/** `memory` takes the name null-aio, so that options of it pass as BlockdevOptions; `others` replace drivers by name. */
export function testGraph(
  memory?: BlockDriver,
  others: BlockDrivers = {},
  objects: ObjectLookup = { find: () => undefined },
): BlockGraph {
  return new BlockGraph({
    log: silentLogger,
    trace: createTrace(),
    poller: {
      watch() {
        throw new Error('No descriptor is watched here');
      },
    },
    objects,
    events: { emit() {} },
    allocate,
    drivers: {
      ...blockDrivers,
      ...(memory === undefined ? {} : { 'null-aio': memory }),
      ...others,
    },
  });
}
