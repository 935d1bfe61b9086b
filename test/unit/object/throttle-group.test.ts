import { describe, expect, it } from 'vitest';
import { ObjectRegistry } from '../../../src/object/object-registry.ts';
import { type Direction, READ, WRITE } from '../../../src/object/throttle-buckets.ts';
import { throttleGroup } from '../../../src/object/throttle-group.ts';
import type { ThrottleMember, ThrottleQueue } from '../../../src/object/throttle-queue.ts';
import { stateOf } from '../../../src/object/user-object.ts';
import { MadeUpClock } from '../made-up-clock.ts';

interface Made {
  readonly objects: ObjectRegistry;
  readonly queue: ThrottleQueue;
  readonly clock: MadeUpClock;
}

async function group(limits: object): Promise<Made> {
  const clock = new MadeUpClock();
  const objects = new ObjectRegistry({ clock });
  const object = await objects.add({ 'qom-type': 'throttle-group', id: 'g', limits });
  const queue = stateOf(object, throttleGroup);
  if (queue === undefined) throw new Error('not a throttle group');
  return { objects, queue, clock };
}

/** Makes requests and counts those that were let through. */
class Load {
  readonly member: ThrottleMember;
  passed = 0;
  readonly #queue: ThrottleQueue;
  constructor(queue: ThrottleQueue) {
    this.#queue = queue;
    this.member = queue.join();
  }
  submit(count: number, bytes = 4096, direction: Direction = READ): void {
    for (let request = 0; request < count; request++) {
      const later = this.#queue.admit(this.member, direction, bytes);
      if (later === undefined) this.passed++;
      else void later.then(() => this.passed++);
    }
  }
}

/** Lets time pass, and what follows from it happen. */
async function pass({ clock }: Made, milliseconds: number): Promise<void> {
  clock.pass(milliseconds);
  await Promise.resolve();
}

describe('limits', () => {
  it('let requests go at once while there are none', async () => {
    const made = await group({});
    const load = new Load(made.queue);
    load.submit(10_000);
    expect(load.passed).toBe(10_000);
  });

  it('let a tenth of a second through at once, and one more that fills the bucket', async () => {
    const made = await group({ 'iops-total': 100 });
    const load = new Load(made.queue);
    load.submit(50);
    expect(load.passed).toBe(11);
  });

  it.each([
    ['iops-total', READ, 100],
    ['iops-total', WRITE, 100],
    ['iops-read', READ, 100],
    ['iops-write', WRITE, 100],
    ['bps-total', READ, 409_600],
    ['bps-total', WRITE, 409_600],
    ['bps-read', READ, 409_600],
    ['bps-write', WRITE, 409_600],
  ] as const)('of %s hold in direction %i in the long run', async (name, direction, rate) => {
    const made = await group({ [name]: rate });
    const load = new Load(made.queue);
    load.submit(2000, 4096, direction);
    await pass(made, 10_000);
    expect(load.passed).toBeGreaterThanOrEqual(1000);
    expect(load.passed).toBeLessThanOrEqual(1012);
  });

  it('of one direction leave the other alone', async () => {
    const made = await group({ 'iops-read': 10, 'bps-read': 1 });
    const load = new Load(made.queue);
    load.submit(500, 4096, WRITE);
    expect(load.passed).toBe(500);
  });

  it('of both directions together are shared by them', async () => {
    const made = await group({ 'iops-total': 100 });
    const load = new Load(made.queue);
    load.submit(2000, 4096, READ);
    load.submit(2000, 4096, WRITE);
    await pass(made, 10_000);
    expect(load.passed).toBeGreaterThanOrEqual(1000);
    expect(load.passed).toBeLessThanOrEqual(1015);
  });

  it('let bursts of a second pass at once', async () => {
    const made = await group({ 'iops-total': 100, 'iops-total-max': 1000 });
    const load = new Load(made.queue);
    load.submit(20_000);
    expect(load.passed).toBe(1001);
    await pass(made, 10_000);
    expect(load.passed).toBeGreaterThanOrEqual(1995);
    expect(load.passed).toBeLessThanOrEqual(2005);
  });

  it.each([
    ['iops-total', READ, 1],
    ['iops-total', WRITE, 1],
    ['iops-read', READ, 1],
    ['iops-write', WRITE, 1],
    ['bps-total', READ, 4096],
    ['bps-total', WRITE, 4096],
    ['bps-read', READ, 4096],
    ['bps-write', WRITE, 4096],
  ] as const)(
    'let bursts pass at %s-max for -max-length, direction %i',
    async (name, direction, unit) => {
      const made = await group({
        [name]: 100 * unit,
        [`${name}-max`]: 1000 * unit,
        [`${name}-max-length`]: 5,
      });
      const load = new Load(made.queue);
      load.submit(20_000, 4096, direction);
      expect(load.passed).toBe(101);
      await pass(made, 1000);
      expect(load.passed).toBeGreaterThanOrEqual(1095);
      expect(load.passed).toBeLessThanOrEqual(1105);
      await pass(made, 19_000);
      // The bucket of 5 * 1000, and what leaks out of it in 20 seconds.
      expect(load.passed).toBeGreaterThanOrEqual(6995);
      expect(load.passed).toBeLessThanOrEqual(7005);
    },
  );

  it('count large operations as several', async () => {
    const made = await group({ 'iops-total': 100, 'iops-size': 4096 });
    const load = new Load(made.queue);
    load.submit(500, 16_384);
    await pass(made, 10_000);
    expect(load.passed).toBeGreaterThanOrEqual(250);
    expect(load.passed).toBeLessThanOrEqual(254);
  });

  it('that change hold at once, for those who wait too', async () => {
    const made = await group({ 'iops-total': 1 });
    const load = new Load(made.queue);
    load.submit(100);
    expect(load.passed).toBe(1);
    const property = throttleGroup.properties.find(({ name }) => name === 'limits');
    property?.set?.(made.queue, { 'iops-total': 0 });
    await pass(made, 0);
    expect(load.passed).toBe(100);
    expect(made.clock.pending).toBe(0);
  });
});

describe('members of a group', () => {
  it('take turns, however much one of them wants', async () => {
    const made = await group({ 'iops-total': 100 });
    const loads = [new Load(made.queue), new Load(made.queue), new Load(made.queue)] as const;
    loads[0].submit(5000);
    loads[1].submit(1000);
    loads[2].submit(50);
    await pass(made, 6000);
    const [greedy, modest, small] = loads.map(({ passed }) => passed);
    expect(small).toBe(50);
    expect(Math.abs((greedy ?? 0) - (modest ?? 0))).toBeLessThanOrEqual(12);
    expect((greedy ?? 0) + (modest ?? 0) + (small ?? 0)).toBeLessThanOrEqual(612);
  });

  it('keep the order of their requests', async () => {
    const made = await group({ 'bps-write': 4096 });
    const member = made.queue.join();
    const order: number[] = [];
    for (const number of [1, 2, 3, 4]) {
      void made.queue.admit(member, WRITE, 4096)?.then(() => order.push(number));
    }
    await pass(made, 10_000);
    expect(order).toEqual([2, 3, 4]);
  });

  it('that are exempt wait for nothing, and count', async () => {
    const made = await group({ 'iops-total': 10 });
    const drained = new Load(made.queue);
    const other = new Load(made.queue);
    drained.submit(20);
    other.submit(20);
    made.queue.exempt(drained.member);
    await pass(made, 0);
    expect(drained.passed).toBe(20);
    drained.submit(5);
    expect(drained.passed).toBe(25);
    const before = other.passed;
    await pass(made, 1000);
    expect(other.passed).toBe(before);
    made.queue.limit(drained.member);
    await pass(made, 10_000);
    expect(other.passed).toBe(20);
  });

  it('that leave do not hold up the others', async () => {
    const made = await group({ 'iops-total': 10 });
    const gone = new Load(made.queue);
    const other = new Load(made.queue);
    gone.submit(5);
    other.submit(5);
    made.queue.exempt(gone.member);
    made.queue.leave(gone.member);
    await pass(made, 5000);
    expect(other.passed).toBe(5);
  });

  it('keep the group from being deleted', async () => {
    const made = await group({});
    const member = made.queue.join();
    expect(() => made.objects.remove('g')).toThrow("object 'g' is in use, can not be deleted");
    made.queue.leave(member);
    made.objects.remove('g');
    expect(made.objects.find('g')).toBeUndefined();
  });
});

describe('making a group', () => {
  it.each([
    [{ 'iops-total': 1, 'iops-read': 1 }, /^bps\/iops\/max total values and read\/write values/],
    [{ 'iops-size': 1 }, 'iops size requires an iops value to be set'],
    [{ 'bps-read': 1e15 + 1 }, 'bps/iops/max values must be within [0, 1000000000000000]'],
    [{ 'bps-read': -1 }, 'bps/iops/max values must be within [0, 1000000000000000]'],
    [{ 'bps-read': 1, 'bps-read-max-length': 0 }, 'the burst length cannot be 0'],
    [{ 'bps-read': 1, 'bps-read-max-length': 2 }, 'burst length set without burst rate'],
    [
      { 'bps-read': 1, 'bps-read-max': 1e15, 'bps-read-max-length': 2 },
      'burst length too high for this burst rate',
    ],
    [{ 'bps-read-max': 1 }, 'bps_max/iops_max require corresponding bps/iops values'],
    [{ 'bps-read': 2, 'bps-read-max': 1 }, 'bps_max/iops_max cannot be lower than bps/iops'],
    [
      { 'bps-read-max-length': 2 ** 32 },
      'bps-read-max-length value must be in the range [0, 4294967295]',
    ],
  ])('refuses %j', async (limits, message) => {
    await expect(group(limits)).rejects.toThrow(message);
  });
});
