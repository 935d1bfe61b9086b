import { describe, expect, it } from 'vitest';
import { errno } from '../../../src/base/errno.ts';
import { IoError } from '../../../src/base/errors.ts';
import { silentLogger } from '../../../src/base/log.ts';
import { createTrace } from '../../../src/base/trace.ts';
import type { JobDriver } from '../../../src/job/job-driver.ts';
import { JobRegistry } from '../../../src/job/job-registry.ts';
import { QmpError } from '../../../src/qapi/errors.ts';
import { idOf } from '../../helpers/events.ts';

interface Fixture {
  readonly jobs: JobRegistry;
  /** What was emitted, as `ID STATUS`. */
  readonly events: readonly string[];
  readonly start: (
    id: string,
    run: JobDriver['run'],
    how?: { finalize?: boolean; dismiss?: boolean },
  ) => void;
}

function fixture(): Fixture {
  const events: string[] = [];
  const jobs = new JobRegistry({
    log: silentLogger,
    trace: createTrace(),
    events: {
      emit(_, payload) {
        events.push(`${idOf(payload)} ${'status' in payload ? payload.status : ''}`);
      },
    },
  });
  return {
    jobs,
    events,
    start: (id, run, { finalize = true, dismiss = false } = {}) => {
      const driver = { type: 'create', run } as const;
      jobs.start({ id, driver, autoFinalize: finalize, autoDismiss: dismiss });
    },
  };
}

/** Work that ends when it is told. */
function held(): { run: () => Promise<void>; end: (error?: unknown) => void } {
  let end: (error?: unknown) => void = () => {};
  const done = new Promise<void>((resolve, reject) => {
    end = (error) => (error === undefined ? resolve() : reject(error));
  });
  return { run: () => done, end };
}

describe('Job', () => {
  it('that ends at once has ended when it was started', () => {
    const { events, jobs, start } = fixture();
    start('a', () => {});
    expect(events).toEqual(['a created', 'a running', 'a waiting', 'a pending', 'a concluded']);
    expect(jobs.query()).toEqual([
      { id: 'a', type: 'create', status: 'concluded', 'current-progress': 0, 'total-progress': 0 },
    ]);
  });

  it('that fails at once has failed when it was started', () => {
    const { events, jobs, start } = fixture();
    start('a', () => {
      throw new QmpError('No way');
    });
    expect(events).toEqual(['a created', 'a running', 'a aborting', 'a concluded']);
    expect(jobs.query()[0]?.error).toBe('No way');
  });

  it('says nothing more before the answer to its command is out, however fast its work is', async () => {
    const { events, jobs, start } = fixture();
    start('a', () => Promise.resolve());
    for (let turn = 0; turn < 100; turn += 1) await Promise.resolve();
    expect(events).toEqual(['a created', 'a running']);
    await jobs.find('a').concluded;
    expect(events.slice(2)).toEqual(['a waiting', 'a pending', 'a concluded']);
  });

  it('tells an errno by its text, and a fault as one', async () => {
    const { jobs, start } = fixture();
    const full = held();
    const broken = held();
    start('full', full.run);
    start('broken', broken.run);
    full.end(new IoError(errno.ENOSPC, { syscall: 'pwrite' }));
    broken.end(new TypeError('x is not a function'));
    await Promise.all([jobs.find('full').concluded, jobs.find('broken').concluded]);
    expect(jobs.query().map((job) => job.error)).toEqual([
      'Internal error: x is not a function',
      'No space left on device',
    ]);
  });

  it('tells its progress', () => {
    const { jobs, start } = fixture();
    const work = held();
    start('a', (progress) => {
      progress.total = 8;
      progress.current = 3;
      return work.run();
    });
    expect(jobs.query()[0]).toMatchObject({ 'current-progress': 3, 'total-progress': 8 });
  });

  it('fails when it is cancelled, though its work succeeds', async () => {
    const { events, jobs, start } = fixture();
    const work = held();
    start('a', work.run);
    jobs.find('a').cancel();
    work.end();
    await jobs.find('a').concluded;
    expect(events.slice(2)).toEqual(['a aborting', 'a concluded']);
    expect(jobs.query()[0]?.error).toBe('Operation canceled');
  });

  it('keeps its own reason when it fails after it was cancelled', async () => {
    const { jobs, start } = fixture();
    const work = held();
    start('a', work.run);
    jobs.find('a').cancel();
    work.end(new QmpError('Disk full'));
    await jobs.find('a').concluded;
    expect(jobs.query()[0]?.error).toBe('Disk full');
  });

  it('is paused and resumed once each', () => {
    const { jobs, start } = fixture();
    start('a', held().run);
    const job = jobs.find('a');
    expect(() => job.resume()).toThrow("Can't resume a job that was not paused");
    job.pause();
    expect(() => job.pause()).toThrow('Job is already paused');
    job.resume();
    expect(() => job.resume()).toThrow("Can't resume a job that was not paused");
  });

  it('waits to be finalized when it is to, and can still be cancelled then', () => {
    const { events, jobs, start } = fixture();
    start('a', () => {}, { finalize: false });
    start('b', () => {}, { finalize: false });
    expect(jobs.query().map((job) => job.status)).toEqual(['pending', 'pending']);
    jobs.find('a').finalize();
    jobs.find('b').cancel();
    expect(events.slice(-3)).toEqual(['a concluded', 'b aborting', 'b concluded']);
    expect(jobs.query()[0]?.error).toBe('Operation canceled');
  });

  it('goes by itself when it is to', () => {
    const { events, jobs, start } = fixture();
    start('a', () => {}, { dismiss: true });
    expect(events.at(-1)).toBe('a null');
    expect(jobs.query()).toEqual([]);
  });

  it('refuses what its status does not allow', () => {
    const { jobs, start } = fixture();
    start('a', () => {});
    const job = jobs.find('a');
    for (const verb of ['cancel', 'pause', 'complete', 'finalize'] as const) {
      expect(() => job[verb]()).toThrow(
        `Job 'a' in state 'concluded' cannot accept command verb '${verb}'`,
      );
    }
    start('b', held().run);
    for (const verb of ['complete', 'finalize', 'dismiss'] as const) {
      expect(() => jobs.find('b')[verb]()).toThrow(
        `Job 'b' in state 'running' cannot accept command verb '${verb}'`,
      );
    }
  });
});

describe('JobRegistry', () => {
  it('takes identifiers only', () => {
    const { start } = fixture();
    for (const id of ['', '1a', 'a b', '#a', 'ä']) {
      expect(() => start(id, () => {})).toThrow(`Invalid job ID '${id}'`);
    }
    start('a.b-c_D9', () => {});
  });

  it('has an id taken until the job is dismissed', () => {
    const { jobs, start } = fixture();
    start('a', () => {});
    expect(() => start('a', () => {})).toThrow("Job ID 'a' already in use");
    jobs.find('a').dismiss();
    expect(() => jobs.find('a')).toThrow('Job not found');
    start('a', () => {});
  });

  it('ends all jobs, the newest first, when it closes', async () => {
    const { events, jobs, start } = fixture();
    const work = held();
    start('old', () => {});
    start('busy', work.run);
    start('new', () => {});
    const closed = jobs.close();
    setImmediate(() => work.end());
    await closed;
    expect(events.slice(-5)).toEqual([
      'new null',
      'busy aborting',
      'busy concluded',
      'busy null',
      'old null',
    ]);
    expect(jobs.query()).toEqual([]);
  });
});
