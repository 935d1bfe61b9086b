// One job, from its creation to the moment it is forgotten. Its status changes along the table in job-state.ts, and every
// change is an event.

import { errno, strerror } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Trace } from '../base/trace.ts';
import { QmpError } from '../qapi/errors.ts';
import type { EventSink } from '../qapi/event-sink.ts';
import type { JobInfo, JobStatus, JobVerb } from '../qapi/generated/types.ts';
import type { JobDriver, JobProgress } from './job-driver.ts';
import { mayBeAsked, mayFollow } from './job-state.ts';

export interface JobOptions {
  readonly id: string;
  readonly driver: JobDriver;
  /** False: it stays pending until it is finalized. */
  readonly autoFinalize: boolean;
  /** False: it stays concluded until it is dismissed. */
  readonly autoDismiss: boolean;
}

/** What a job has of its owner. */
export interface JobContext {
  readonly log: Logger;
  readonly trace: Trace;
  readonly events: EventSink;
  /** The job is gone. */
  forget(job: Job): void;
}

export class Job {
  readonly id: string;
  /** Resolves when the job has concluded; it never rejects. */
  readonly concluded: Promise<void>;
  readonly #options: JobOptions;
  readonly #context: JobContext;
  readonly #progress: JobProgress = { current: 0, total: 0 };
  #conclude: () => void = () => {};
  #status: JobStatus = 'undefined';
  #error: string | undefined = undefined;
  #cancelled = false;
  #userPaused = false;

  constructor(options: JobOptions, context: JobContext) {
    this.id = options.id;
    this.#options = options;
    this.#context = context;
    this.concluded = new Promise((resolve) => {
      this.#conclude = resolve;
    });
    this.#become('created');
  }

  get status(): JobStatus {
    return this.#status;
  }

  info(): JobInfo {
    return {
      id: this.id,
      type: this.#options.driver.type,
      status: this.#status,
      'current-progress': this.#progress.current,
      'total-progress': this.#progress.total,
      ...(this.#error === undefined ? {} : { error: this.#error }),
    };
  }

  /** Starts the work. A job that ends at once has ended when this returns; any other ends after the answer to its command. */
  start(): void {
    this.#become('running');
    let work: void | Promise<void>;
    try {
      work = this.#options.driver.run(this.#progress);
    } catch (error) {
      this.#completed(error);
      return;
    }
    if (work === undefined) {
      this.#completed();
      return;
    }
    const later = (error?: unknown) => setImmediate(() => this.#completed(error));
    work.then(() => later(), later);
  }

  /** job-pause. The job rests at its next point of rest; one without any ends as if nothing had been asked. */
  pause(): void {
    this.#ask('pause');
    if (this.#userPaused) throw new QmpError('Job is already paused');
    this.#userPaused = true;
  }

  /** job-resume. */
  resume(): void {
    if (!this.#userPaused) throw new QmpError("Can't resume a job that was not paused");
    this.#ask('resume');
    this.#userPaused = false;
  }

  /** job-cancel: it fails, as soon as it can. */
  cancel(): void {
    this.#ask('cancel');
    this.#userPaused = false;
    this.#cancelled = true;
    if (this.#status === 'pending') this.#settle();
    else this.#options.driver.cancel?.();
  }

  /** job-complete. */
  complete(): void {
    this.#ask('complete');
    throw new QmpError(`The active block job '${this.id}' cannot be completed`);
  }

  /** job-finalize. */
  finalize(): void {
    this.#ask('finalize');
    this.#settle();
  }

  /** job-dismiss. */
  dismiss(): void {
    this.#ask('dismiss');
    this.#gone();
  }

  /** Ends the job whatever it is at: cancelled, concluded and forgotten when this resolves. */
  async end(): Promise<void> {
    if (mayBeAsked(this.#status, 'cancel')) this.cancel();
    await this.concluded;
    if (mayBeAsked(this.#status, 'dismiss')) this.dismiss();
  }

  #ask(verb: JobVerb): void {
    const allowed = mayBeAsked(this.#status, verb);
    const { job_apply_verb } = this.#context.trace;
    job_apply_verb.log({ job: this.id, state: this.#status, verb, allowed });
    if (allowed) return;
    throw new QmpError(
      `Job '${this.id}' in state '${this.#status}' cannot accept command verb '${verb}'`,
    );
  }

  #become(status: JobStatus): void {
    if (!mayFollow(this.#status, status)) {
      throw new Error(`Job '${this.id}' cannot go from '${this.#status}' to '${status}'`);
    }
    const { job_state_transition } = this.#context.trace;
    job_state_transition.log({ job: this.id, from: this.#status, to: status });
    if (status === this.#status) return;
    this.#status = status;
    this.#context.events.emit('JOB_STATUS_CHANGE', { id: this.id, status });
  }

  /** The work has ended, well or not. */
  #completed(error?: unknown): void {
    if (error !== undefined) this.#error = this.#textOf(error);
    if (this.#hasFailed()) {
      this.#settle();
      return;
    }
    this.#become('waiting');
    this.#become('pending');
    if (this.#options.autoFinalize) this.#settle();
  }

  #settle(): void {
    if (this.#hasFailed()) this.#become('aborting');
    this.#become('concluded');
    this.#conclude();
    if (this.#options.autoDismiss) this.#gone();
  }

  #hasFailed(): boolean {
    if (this.#error === undefined && this.#cancelled) this.#error = strerror(errno.ECANCELED);
    return this.#error !== undefined;
  }

  #gone(): void {
    this.#become('null');
    this.#context.forget(this);
    this.#options.driver.free?.();
  }

  #textOf(error: unknown): string {
    if (error instanceof QmpError) return error.desc;
    if (error instanceof IoError) return error.reason;
    const reason = error instanceof Error ? error.message : String(error);
    this.#context.log.error(`Job '${this.id}' failed unexpectedly: ${reason}`, { err: error });
    return `Internal error: ${reason}`;
  }
}
