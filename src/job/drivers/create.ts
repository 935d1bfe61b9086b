// blockdev-create: a driver of the block layer makes an image.

import { errno, strerror } from '../../base/errno.ts';
import type { BlockGraph } from '../../block/block-graph.ts';
import { QmpError } from '../../qapi/errors.ts';
import type { BlockdevCreateOptions } from '../../qapi/generated/types.ts';
import type { JobDriver } from '../job-driver.ts';

/** Throws QmpError when the driver's images cannot be made. */
export function createJob(graph: BlockGraph, options: BlockdevCreateOptions): JobDriver {
  const abort = new AbortController();
  const make = graph.imageMaker(options, abort.signal);
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
    cancel() {
      abort.abort(new QmpError(strerror(errno.ECANCELED)));
    },
  };
}
