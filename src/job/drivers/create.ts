// blockdev-create: a driver of the block layer makes an image.

import type { BlockGraph } from '../../block/block-graph.ts';
import type { BlockdevCreateOptions } from '../../qapi/generated/types.ts';
import type { JobDriver } from '../job-driver.ts';

/** Throws QmpError when the driver's images cannot be made. */
export function createJob(graph: BlockGraph, options: BlockdevCreateOptions): JobDriver {
  const make = graph.imageMaker(options);
  return {
    type: 'create',
    run(progress) {
      progress.total = 1;
      const done = () => {
        progress.current = 1;
      };
      let work: ReturnType<typeof make>;
      try {
        work = make();
      } catch (error) {
        done();
        throw error;
      }
      if (work === undefined) return done();
      return work.finally(done);
    },
  };
}
