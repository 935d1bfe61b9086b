// A block graph for tests, with the real drivers and a programmable one in place of null-aio.

import { silentLogger } from '../../../src/base/log.ts';
import { createTrace } from '../../../src/base/trace.ts';
import type { BlockDriver } from '../../../src/block/block-driver.ts';
import {
  type BlockDrivers,
  BlockGraph,
  type BlockGraphOptions,
} from '../../../src/block/block-graph.ts';
import { blockDrivers } from '../../../src/block/drivers/index.ts';
import { allocate } from '../../../src/sys/memory.ts';

interface TestGraphOptions
  extends Partial<Pick<BlockGraphOptions, 'log' | 'events' | 'objects' | 'clock' | 'poller'>> {
  /** Drivers to have in place of others, by name. */
  readonly drivers?: BlockDrivers;
}

/** `memory` takes the name null-aio, so that options of it pass as BlockdevOptions. */
export function testGraph(
  memory?: BlockDriver,
  { drivers, ...options }: TestGraphOptions = {},
): BlockGraph {
  return new BlockGraph({
    log: silentLogger,
    trace: createTrace(),
    poller: {
      watch() {
        throw new Error('No descriptor is watched here');
      },
    },
    objects: { find: () => undefined },
    events: { emit() {} },
    allocate,
    ...options,
    drivers: {
      ...blockDrivers,
      ...(memory === undefined ? {} : { 'null-aio': memory }),
      ...drivers,
    },
  });
}
