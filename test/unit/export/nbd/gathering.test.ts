// When requests are left in the socket until the next reply.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Gathering } from '../../../../src/export/nbd/gathering.ts';

const MANY = 8;
/** Milliseconds. */
const SOON = 0.05;
const LATE = 0.5;

let now = 0;
let late = 0;
let gathering: Gathering;

beforeEach(() => {
  vi.useFakeTimers();
  now = 0;
  late = 0;
  gathering = new Gathering(
    () => late++,
    () => now,
  );
});
afterEach(() => {
  gathering.close();
  vi.useRealTimers();
});

/** Which of so many chances are taken when each time a reply comes after so long. */
function taken(chances: number, after: number): number[] {
  return Array.from({ length: chances }, (_, chance) => chance).filter(() => {
    const begun = gathering.begin(MANY);
    now += after;
    expect(gathering.end()).toBe(begun);
    return begun;
  });
}

describe('Gathering', () => {
  it('takes each chance while replies come soon', () => {
    expect(taken(5, SOON)).toEqual([0, 1, 2, 3, 4]);
  });

  it('takes fewer and fewer while they do not', () => {
    expect(taken(20, LATE)).toEqual([0, 2, 6, 14]);
    expect(taken(40, SOON)).not.toEqual([]);
    expect(taken(3, SOON)).toEqual([0, 1, 2]);
  });

  it('lets the other server have something to do', () => {
    expect(gathering.begin(0)).toBe(false);
    expect(gathering.begin(3)).toBe(false);
    expect(gathering.end()).toBe(false);
  });

  it('ends when no reply comes', () => {
    gathering.begin(MANY);
    vi.advanceTimersByTime(2);
    expect(late).toBe(1);
    expect(gathering.end()).toBe(false);
    expect(gathering.begin(MANY)).toBe(false);
    vi.advanceTimersByTime(10);
    expect(late).toBe(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('goes on as long as replies come', () => {
    for (let turn = 0; turn < 20; turn++) {
      expect(gathering.begin(MANY)).toBe(true);
      vi.advanceTimersByTime(0.9);
      gathering.end();
    }
    expect(late).toBe(0);
  });

  it('has come to an end when it is closed', () => {
    gathering.begin(MANY);
    gathering.close();
    vi.advanceTimersByTime(10);
    expect(late).toBe(0);
  });
});
