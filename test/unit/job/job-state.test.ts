import { describe, expect, it } from 'vitest';
import { mayBeAsked, mayFollow, transitions, verbs } from '../../../src/job/job-state.ts';
import type { JobStatus, JobVerb } from '../../../src/qapi/generated/types.ts';

const next = transitions as Readonly<Record<JobStatus, readonly JobStatus[]>>;

describe('transitions', () => {
  it('lead from the beginning to every status, and from every status to the end', () => {
    const from = (start: JobStatus, seen = new Set<JobStatus>()): ReadonlySet<JobStatus> => {
      if (!seen.has(start)) {
        seen.add(start);
        for (const status of next[start]) from(status, seen);
      }
      return seen;
    };
    const all = Object.keys(next) as JobStatus[];
    expect([...from('undefined')].sort()).toEqual([...all].sort());
    expect(all.filter((status) => !from(status).has('null'))).toEqual([]);
  });

  it('end with null', () => {
    expect(next.null).toEqual([]);
  });

  it('let every status that can be cancelled fail, at once or after it goes on', () => {
    const stuck = verbs.cancel.filter(
      (status) => ![status, ...next[status]].some((each) => next[each].includes('aborting')),
    );
    expect(stuck).toEqual([]);
  });
});

// Seen in the reference, with jobs of several kinds in the states that last long enough to be asked something.
const seen: readonly (readonly [
  JobStatus,
  taken: readonly JobVerb[],
  refused: readonly JobVerb[],
])[] = [
  ['running', ['cancel', 'pause', 'resume', 'set-speed'], ['complete', 'finalize', 'dismiss']],
  ['paused', ['cancel', 'pause', 'resume', 'set-speed'], ['complete', 'finalize', 'dismiss']],
  ['ready', ['cancel', 'pause', 'complete'], ['finalize', 'dismiss']],
  ['standby', ['set-speed', 'complete', 'resume'], ['finalize', 'dismiss']],
  ['pending', ['cancel', 'finalize'], ['pause', 'resume', 'set-speed', 'complete', 'dismiss']],
  ['concluded', ['dismiss'], ['cancel', 'pause', 'resume', 'set-speed', 'complete', 'finalize']],
];

describe('verbs', () => {
  it.each(seen)(
    'in status %s are taken and refused as by the reference',
    (status, taken, refused) => {
      expect(taken.filter((verb) => !mayBeAsked(status, verb))).toEqual([]);
      expect(refused.filter((verb) => mayBeAsked(status, verb))).toEqual([]);
    },
  );
});

describe('transitions of the reference', () => {
  it.each([
    'undefined created running waiting pending concluded null',
    'created running aborting concluded null',
    'running paused running ready standby ready waiting pending concluded',
    'pending aborting concluded',
  ])('%s', (path) => {
    const statuses = path.split(' ') as JobStatus[];
    const steps = statuses.slice(1).map((to, n) => [statuses[n] as JobStatus, to] as const);
    expect(steps.filter(([from, to]) => !mayFollow(from, to))).toEqual([]);
  });
});
