import { describe, expect, it } from 'vitest';
import { InflightQueue, inflightLength } from '../../../../src/export/vhost-user/inflight.ts';

const SIZE = 8;
const fresh = () => new ArrayBuffer(inflightLength(SIZE));

describe('InflightQueue', () => {
  it('takes an area as long as the specification says', () => {
    expect([1, 3, 4, 128].map(inflightLength)).toEqual([64, 64, 128, 2112]);
  });

  it('finds nothing in a new area, and begins where the frontend says', () => {
    expect(new InflightQueue(fresh(), SIZE).recover(7)).toEqual({ next: undefined, again: [] });
  });

  it('finds what was taken and not given back, the first one last', () => {
    const area = fresh();
    const before = new InflightQueue(area, SIZE);
    before.recover(0);
    for (const head of [5, 2, 7]) before.taken(head);
    before.giving(2);
    before.given(2, 1);
    const after = new InflightQueue(area, SIZE);
    expect(after.recover(1)).toEqual({ next: 3, again: [7, 5] });
    after.taken(0);
    expect(new InflightQueue(area, SIZE).recover(1).again).toEqual([0, 7, 5]);
  });

  it('knows a request that the driver has back already, though that was not noted', () => {
    const area = fresh();
    const before = new InflightQueue(area, SIZE);
    before.recover(0);
    before.taken(4);
    before.taken(1);
    before.giving(4);
    expect(new InflightQueue(area, SIZE).recover(1)).toEqual({ next: 2, again: [1] });
  });

  it('goes round with the ring', () => {
    const area = fresh();
    const before = new InflightQueue(area, SIZE);
    before.recover(0xffff);
    before.taken(0);
    before.taken(1);
    expect(new InflightQueue(area, SIZE).recover(0xffff).next).toBe(1);
  });

  it('believes no request number that there cannot be', () => {
    const area = fresh();
    new InflightQueue(area, SIZE).recover(0);
    new DataView(area).setUint16(12, SIZE, true);
    expect(() => new InflightQueue(area, SIZE).recover(1)).toThrow(/inflight request 8 of 8/);
  });

  it('lives with counters that somebody has made up', () => {
    const area = fresh();
    new InflightQueue(area, SIZE).recover(0);
    const view = new DataView(area);
    view.setUint8(16, 1);
    view.setBigUint64(24, 0xffff_ffff_ffff_ffffn, true);
    const queue = new InflightQueue(area, SIZE);
    expect(queue.recover(0).again).toEqual([0]);
    queue.taken(3);
    expect(new InflightQueue(area, SIZE).recover(0).again).toHaveLength(2);
  });
});
