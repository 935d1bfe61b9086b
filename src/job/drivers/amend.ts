// x-blockdev-amend: a driver of the block layer changes what kind of image a node has open.

import type { BlockGraph } from '../../block/block-graph.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { BlockdevAmendOptions } from '../../qapi/generated/types.ts';
import type { JobDriver } from '../job-driver.ts';

/** Throws QmpError when the node's image cannot be changed like that. */
export function amendJob(
  graph: BlockGraph,
  nodeName: string,
  options: BlockdevAmendOptions,
): JobDriver {
  const node = graph.find(undefined, nodeName);
  const { driver } = node;
  if (driver.name !== options.driver) {
    throw new QmpError("x-blockdev-amend doesn't support changing the block driver");
  }
  if (driver.amend === undefined) throw new QmpError('Driver does not support x-blockdev-amend');
  return {
    type: 'amend',
    run(progress) {
      node.holds++;
      progress.total = 1;
      const work = driver.amend?.(node, options as never);
      const done = (): void => {
        progress.current = 1;
      };
      return work === undefined ? done() : work.finally(done);
    },
    free() {
      node.holds--;
      void graph.change((access) => access.closeUnused(node));
    },
  };
}
