// The jobs of an engine, by id.

import { QmpError } from '../qapi/errors.ts';
import type { JobInfo } from '../qapi/generated/types.ts';
import { Job, type JobContext, type JobOptions } from './job.ts';

const WELL_FORMED = /^[A-Za-z][A-Za-z0-9\-._]*$/;

export class JobRegistry {
  readonly #context: JobContext;
  /** In the order in which they were made. */
  readonly #jobs = new Map<string, Job>();

  constructor(context: Omit<JobContext, 'forget'>) {
    const { log, trace, events } = context;
    this.#context = { log, trace, events, forget: (job) => this.#jobs.delete(job.id) };
  }

  /** Makes a job and starts it. Throws QmpError when there cannot be one of that id. */
  start(options: JobOptions): Job {
    const { id } = options;
    if (!WELL_FORMED.test(id)) throw new QmpError(`Invalid job ID '${id}'`);
    if (this.#jobs.has(id)) throw new QmpError(`Job ID '${id}' already in use`);
    const job = new Job(options, this.#context);
    this.#jobs.set(id, job);
    job.start();
    return job;
  }

  /** Throws QmpError. */
  find(id: string): Job {
    const job = this.#jobs.get(id);
    if (job === undefined) throw new QmpError('Job not found');
    return job;
  }

  /** query-jobs: the newest first. */
  query(): JobInfo[] {
    return [...this.#jobs.values()].reverse().map((job) => job.info());
  }

  /** Ends all jobs, the newest first. */
  async close(): Promise<void> {
    for (const job of [...this.#jobs.values()].reverse()) await job.end();
  }
}
