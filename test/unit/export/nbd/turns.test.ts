import { describe, expect, it } from 'vitest';
import { Turns } from '../../../../src/export/nbd/turns.ts';

describe('Turns', () => {
  it('are long for a connection that is alone', () => {
    const turns = new Turns();
    const one = {};
    expect(turns.next(one)).toBe(turns.next(one));
    expect(turns.next(one)).toBeGreaterThan(1000);
  });

  it('are short as soon as a second connection is served, for both', () => {
    const turns = new Turns();
    const one = {};
    const long = turns.next(one);
    expect(turns.next({})).toBeLessThan(long / 10);
    expect(turns.next(one)).toBeLessThan(long / 10);
  });

  it('are long again for the next connection when the one before it is gone', () => {
    const turns = new Turns();
    const one = {};
    const long = turns.next(one);
    turns.forget(one);
    expect(turns.next({})).toBe(long);
  });
});
