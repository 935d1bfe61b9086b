// What a kind of job does. When it may be asked to do what is the job's business.

import type { MaybePromise } from '../base/io-buffer.ts';
import type { JobType } from '../qapi/generated/types.ts';

/** How far a job is; in a unit of its own. */
export interface JobProgress {
  current: number;
  total: number;
}

export interface JobDriver {
  readonly type: JobType;
  /**
   * Does the work. What fails before the first wait fails before the command that started the job is answered. Throws or
   * rejects QmpError or IoError, whose text the job's `error` is.
   */
  run(progress: JobProgress): MaybePromise<void>;
  /** It shall be cancelled: what waits for somebody else gives up, and `run` rejects. Called while `run` is at work. */
  cancel?(): void;
  /** The job is forgotten. Called once, where `run` was called. */
  free?(): void;
}
