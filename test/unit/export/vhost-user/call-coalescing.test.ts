import { describe, expect, it } from 'vitest';
import { CallCoalescing } from '../../../../src/export/vhost-user/call-coalescing.ts';
import { WOULD_BLOCK } from '../../../../src/net/byte-channel.ts';

const FOUND = 1;

/** What `look` of a driver answers that has something to ask, and of one that has not before it is called. */
const found = (): number => FOUND;
const none = (): number => WOULD_BLOCK;

/** Of so many calls of a driver that asks for `depth` requests at most before it is called: how many each was for. */
function callsOf(coalescing: CallCoalescing, depth: number, calls: number): number[] {
  return Array.from({ length: calls }, () => {
    let done = 1;
    while (coalescing.goOn(done, done < depth ? found : none)) done++;
    return done;
  });
}

/** The places, in so many calls of a driver that asks for one request after the other, at which it had to wait in vain. */
function vainWaits(coalescing: CallCoalescing, calls: number): number[] {
  const waits: number[] = [];
  for (let call = 0; call < calls; call++) {
    let looked = false;
    coalescing.goOn(1, () => {
      looked = true;
      return WOULD_BLOCK;
    });
    if (looked) waits.push(call);
  }
  return waits;
}

describe('CallCoalescing', () => {
  it('puts a call off for more and more requests of a driver that asks for many', () => {
    const calls = callsOf(new CallCoalescing({ processors: 2 }), 64, 6);
    expect(calls).toEqual([1, 2, 4, 8, 8, 8]);
  });

  it('hardly ever lets a driver wait that asks for one after the other', () => {
    const waits = vainWaits(new CallCoalescing({ processors: 2 }), 5000);
    expect(waits).toEqual([1, 4, 9, 18, 35, 68, 133, 262, 519, 1032, 2057, 3082, 4107]);
  });

  it.each([2, 4])('finds that a driver asks for %i at once', (depth) => {
    const calls = callsOf(new CallCoalescing({ processors: 2 }), depth, 1000);
    expect(calls.slice(100)).toEqual(new Array(900).fill(depth));
  });

  it('does not put off for eight what comes in threes', () => {
    const calls = callsOf(new CallCoalescing({ processors: 2 }), 3, 2000);
    expect(calls.filter((done) => done === 3).length).toBeLessThan(30);
  });

  it('stays with what has paid when it once does not', () => {
    const coalescing = new CallCoalescing({ processors: 2 });
    callsOf(coalescing, 64, 20);
    for (let miss = 0; miss < 5; miss++) expect(coalescing.goOn(1, none)).toBe(false);
    expect(callsOf(coalescing, 64, 2)).toEqual([8, 8]);
  });

  it('finds in time that a driver has become another one', () => {
    const coalescing = new CallCoalescing({ processors: 2 });
    vainWaits(coalescing, 5000);
    expect(callsOf(coalescing, 64, 1100).at(-1)).toBe(8);
    expect(callsOf(coalescing, 1, 100).at(-1)).toBe(1);
    expect(vainWaits(coalescing, 100).length).toBeLessThan(10);
  });

  it('does nothing where the driver has no processor of its own', () => {
    const calls = callsOf(new CallCoalescing({ processors: 1 }), 64, 5);
    expect(calls).toEqual([1, 1, 1, 1, 1]);
  });

  it('passes on what goes wrong', () => {
    const coalescing = new CallCoalescing({ processors: 2 });
    callsOf(coalescing, 64, 4);
    const look = (): number => {
      throw new Error('129 requests in a queue of 128');
    };
    expect(() => coalescing.goOn(1, look)).toThrow('129 requests');
  });
});
