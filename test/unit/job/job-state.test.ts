import { describe, expect, it } from 'vitest';
import { transitions, verbs } from '../../../src/job/job-state.ts';
import type { JobStatus } from '../../../src/qapi/generated/types.ts';

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
