import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DescriptorChain } from '../../../../src/export/vhost-user/descriptor-chain.ts';
import { GuestMemory } from '../../../../src/export/vhost-user/guest-memory.ts';
import {
  availableLength,
  copiedRing,
  descriptorsLength,
  type RingAddresses,
  scratchLength,
  viewedRing,
} from '../../../../src/export/vhost-user/ring-memory.ts';
import {
  type RingFeatures,
  TABLE_LENGTH,
  Virtqueue,
} from '../../../../src/export/vhost-user/virtqueue.ts';
import { closeFile } from '../../../../src/sys/file.ts';
import { allocate } from '../../../../src/sys/memory.ts';
import {
  createSharedFile,
  GuardedCopy,
  mapShared,
  unmapShared,
  viewOfShared,
} from '../../../../src/sys/shared-memory.ts';

const SIZE = 8;
const GUEST = 0x10_0000;
const LENGTH = 64 * 1024;
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

/** Where things are in guest memory. */
const AVAILABLE = 0x1000;
const USED = 0x2000;
const TABLE = 0x3000;
const DATA = 0x8000;

const all: RingFeatures = { indirect: true, eventIndex: true, notifyOnEmpty: false };
const none: RingFeatures = { indirect: false, eventIndex: false, notifyOnEmpty: false };

let fd: number;
let guest: DataView;
let mapping: ReturnType<typeof mapShared>;
let memory: GuestMemory;
let guarded: GuardedCopy;
let disorderly: GuardedCopy;

beforeEach(() => {
  fd = createSharedFile('guest', LENGTH);
  mapping = mapShared(fd, 0, LENGTH);
  guest = new DataView(viewOfShared(mapping.address, LENGTH));
  memory = new GuestMemory();
  memory.add({ guestAddress: GUEST, size: LENGTH, userAddress: 0, offset: 0 }, fd);
  guarded = new GuardedCopy();
  disorderly = new GuardedCopy({ keepsOrder: false });
});

afterEach(() => {
  memory.clear();
  guarded.close();
  disorderly.close();
  unmapShared(mapping);
  closeFile(fd);
});

const rings = {
  viewed: (at: RingAddresses) => viewedRing(at, SIZE),
  copied: (at: RingAddresses) => copiedRing(at, SIZE, guarded, allocate(scratchLength(SIZE))),
  'copied, without an order,': (at: RingAddresses) =>
    copiedRing(at, SIZE, disorderly, allocate(scratchLength(SIZE))),
} as const;
type Way = keyof typeof rings;

function addresses(): RingAddresses {
  return {
    descriptors: mapping.address,
    available: mapping.address + AVAILABLE,
    used: mapping.address + USED,
  };
}

function queueOf(features: RingFeatures, way: Way, next = 0): Virtqueue {
  return new Virtqueue({
    size: SIZE,
    features,
    ring: rings[way](addresses()),
    memory,
    next,
    table: allocate(TABLE_LENGTH),
  });
}

interface Entry {
  readonly address?: number;
  readonly length?: number;
  readonly flags?: number;
  readonly next?: number;
}

function describeBuffer(index: number, entry: Entry, table = 0): void {
  const at = table + 16 * index;
  guest.setBigUint64(at, BigInt(entry.address ?? GUEST + DATA), true);
  guest.setUint32(at + 8, entry.length ?? 512, true);
  guest.setUint16(at + 12, entry.flags ?? 0, true);
  guest.setUint16(at + 14, entry.next ?? 0, true);
}

function offer(...heads: readonly number[]): void {
  for (const head of heads) {
    const index = guest.getUint16(AVAILABLE + 2, true);
    guest.setUint16(AVAILABLE + 4 + 2 * (index % SIZE), head, true);
    guest.setUint16(AVAILABLE + 2, (index + 1) & 0xffff, true);
  }
}

/** Both indices, as if many requests had been served. */
function wind(index: number): void {
  guest.setUint16(AVAILABLE + 2, index, true);
  guest.setUint16(USED + 2, index, true);
}

const takeOne = (queue: Virtqueue): DescriptorChain | undefined => {
  const chain = new DescriptorChain(memory);
  return queue.take(chain) ? chain : undefined;
};

describe.each(Object.keys(rings) as Way[])('Virtqueue over %s memory', (ways) => {
  it('takes nothing from an empty ring', () => {
    expect(takeOne(queueOf(all, ways))).toBeUndefined();
  });

  it('takes chains in the order in which they are offered', () => {
    describeBuffer(0, { length: 16, flags: NEXT, next: 1 });
    describeBuffer(1, { length: 1024, flags: WRITE | NEXT, next: 2 });
    describeBuffer(2, { length: 1, flags: WRITE });
    describeBuffer(5, { length: 100 });
    offer(5, 0);
    const queue = queueOf(none, ways);
    expect(takeOne(queue)).toMatchObject({ head: 5, readable: 100, writable: 0 });
    expect(takeOne(queue)).toMatchObject({ head: 0, readable: 16, writable: 1025 });
    expect(takeOne(queue)).toBeUndefined();
    expect(queue.next).toBe(2);
  });

  it('follows a table, also behind a plain descriptor', () => {
    describeBuffer(0, { length: 16, flags: NEXT, next: 1 });
    describeBuffer(1, { address: GUEST + TABLE, length: 32, flags: INDIRECT });
    describeBuffer(0, { length: 512, flags: WRITE | NEXT, next: 1 }, TABLE);
    describeBuffer(1, { length: 1, flags: WRITE }, TABLE);
    offer(0);
    expect(takeOne(queueOf(all, ways))).toMatchObject({ readable: 16, writable: 513 });
  });

  it('goes round at 65536', () => {
    wind(0xffff);
    describeBuffer(0, {});
    offer(0, 0);
    const queue = queueOf(all, ways, 0xffff);
    for (let count = 0; count < 2; count++) {
      expect(takeOne(queue)?.head).toBe(0);
      queue.give(0, 0);
    }
    expect(queue.next).toBe(1);
    expect(guest.getUint16(USED + 2, true)).toBe(1);
  });

  it('gives requests back with what was written', () => {
    describeBuffer(3, { flags: WRITE });
    offer(3);
    const queue = queueOf(all, ways);
    takeOne(queue);
    queue.give(3, 512);
    expect(guest.getUint16(USED + 2, true)).toBe(1);
    expect([guest.getUint32(USED + 4, true), guest.getUint32(USED + 8, true)]).toEqual([3, 512]);
  });

  it('asks for a kick, and sees what came in between', () => {
    const queue = queueOf(all, ways);
    expect(queue.awaitKick()).toBe(true);
    describeBuffer(0, {});
    offer(0);
    expect(queue.awaitKick()).toBe(false);
    takeOne(queue);
    expect(queue.awaitKick()).toBe(true);
    expect(guest.getUint16(USED + 4 + 8 * SIZE, true)).toBe(1);
  });

  it('asks for kicks by a flag without the event index', () => {
    const queue = queueOf(none, ways);
    queue.refuseKicks();
    expect(guest.getUint16(USED, true)).toBe(1);
    queue.awaitKick();
    expect(guest.getUint16(USED, true)).toBe(0);
  });

  it('calls when the driver has asked for it, by the event index', () => {
    const usedEvent = AVAILABLE + 4 + 2 * SIZE;
    const queue = queueOf(all, ways);
    describeBuffer(0, {});
    const serve = () => {
      offer(0);
      takeOne(queue);
      queue.give(0, 0);
      return queue.wantsCall();
    };
    expect(serve()).toBe(true);
    guest.setUint16(usedEvent, 2, true);
    expect(serve()).toBe(false);
    expect(serve()).toBe(true);
    expect(serve()).toBe(false);
  });

  it('calls by the flag, and always when the ring is empty if that is agreed on', () => {
    guest.setUint16(AVAILABLE, 1, true);
    expect(queueOf(none, ways).wantsCall()).toBe(false);
    expect(queueOf({ ...none, notifyOnEmpty: true }, ways).wantsCall()).toBe(true);
    guest.setUint16(AVAILABLE, 0, true);
    expect(queueOf(none, ways).wantsCall()).toBe(true);
  });

  const hostile: readonly (readonly [what: string, put: () => void, complaint: RegExp])[] = [
    ['an index that is too far', () => wind(0x100), /256 requests in a queue of 8/],
    ['an index that goes back', () => wind(0xffff), /65535 requests/],
    ['a head outside of the table', () => offer(SIZE), /descriptor 8 of 8/],
    ['a next outside of the table', () => describeBuffer(0, { flags: NEXT, next: SIZE }), /8 of 8/],
    ['a loop', () => describeBuffer(0, { flags: NEXT, next: 0 }), /a chain with a loop/],
    ['a buffer outside of the memory', () => describeBuffer(0, { address: 1 }), /outside/],
    [
      'a buffer that leaves the memory',
      () => describeBuffer(0, { address: GUEST + LENGTH - 1, length: 2 }),
      /outside/,
    ],
    [
      'a buffer at the end of all addresses',
      () => guest.setBigUint64(0, 0xffff_ffff_ffff_ffffn, true),
      /outside/,
    ],
    ['an empty buffer', () => describeBuffer(0, { length: 0 }), /no bytes/],
    [
      'a readable buffer behind a writable one',
      () => {
        describeBuffer(0, { flags: WRITE | NEXT, next: 1 });
        describeBuffer(1, {});
      },
      /readable descriptor behind/,
    ],
    [
      'a table that is no multiple of descriptors',
      () => describeBuffer(0, { flags: INDIRECT, length: 24 }),
      /table of 24 bytes/,
    ],
    ['an empty table', () => describeBuffer(0, { flags: INDIRECT, length: 0 }), /table of 0/],
    [
      'a table that is too long',
      () => describeBuffer(0, { flags: INDIRECT, length: 16 * 1025 }),
      /table of 16400/,
    ],
    [
      'a table and something behind it',
      () => describeBuffer(0, { flags: INDIRECT | NEXT, length: 16 }),
      /something behind/,
    ],
    [
      'a table in a table',
      () => {
        describeBuffer(0, { flags: INDIRECT, length: 16, address: GUEST + TABLE });
        describeBuffer(0, { flags: INDIRECT, length: 16 }, TABLE);
      },
      /table in a table/,
    ],
    [
      'a loop in a table',
      () => {
        describeBuffer(0, { flags: INDIRECT, length: 32, address: GUEST + TABLE });
        describeBuffer(0, { flags: NEXT, next: 0 }, TABLE);
      },
      /table with a loop/,
    ],
    [
      'a next outside of a table',
      () => {
        describeBuffer(0, { flags: INDIRECT, length: 32, address: GUEST + TABLE });
        describeBuffer(0, { flags: NEXT, next: 2 }, TABLE);
      },
      /entry 2 of a table of 2/,
    ],
  ];

  it.each(hostile)('refuses %s', (_what, put, complaint) => {
    const queue = queueOf(all, ways);
    describeBuffer(0, {});
    put();
    if (guest.getUint16(AVAILABLE + 2, true) === 0) offer(0);
    expect(() => takeOne(queue)).toThrow(complaint);
  });

  it('refuses a table that was not agreed on', () => {
    describeBuffer(0, { flags: INDIRECT, length: 16 });
    offer(0);
    expect(() => takeOne(queueOf(none, ways))).toThrow(/without having agreed/);
  });

  it('refuses more requests than it holds', () => {
    const queue = queueOf(all, ways);
    describeBuffer(0, {});
    for (let count = 0; count < SIZE; count++) {
      offer(0);
      takeOne(queue);
    }
    offer(0);
    expect(() => takeOne(queue)).toThrow(/more requests than/);
  });
});

describe('copiedRing on a machine that copies in any order', () => {
  /** Copies the end of what it copies first, and what happens meanwhile is in the beginning alone. */
  function reversed(meanwhile: () => void): Parameters<typeof copiedRing>[2] {
    const halves = (theirs: number, ours: number, length: number): void => {
      const half = Math.min(4, length);
      if (length > half) disorderly.from(theirs + half, ours + half, length - half);
      meanwhile();
      disorderly.from(theirs, ours, half);
    };
    return {
      keepsOrder: false,
      from: halves,
      fromTwo(first, firstLength, second, length, ours) {
        disorderly.from(second, ours + firstLength, length);
        halves(first, ours, firstLength);
      },
      to: disorderly.to.bind(disorderly),
      toTwo: disorderly.toTwo.bind(disorderly),
    };
  }

  it('takes no request before all of it can be read', () => {
    const heads = [3, 5, 2];
    const offerNext = (): void => {
      const head = heads.shift();
      if (head === undefined) return;
      describeBuffer(head, { length: 100 + head });
      offer(head);
    };
    const queue = new Virtqueue({
      size: SIZE,
      features: all,
      ring: copiedRing(addresses(), SIZE, reversed(offerNext), allocate(scratchLength(SIZE))),
      memory,
      next: 0,
      table: allocate(TABLE_LENGTH),
    });
    const taken: [number, number][] = [];
    // Each look lets the driver offer more.
    for (let looks = 0; looks < 10; looks++) {
      const chain = takeOne(queue);
      if (chain !== undefined) taken.push([chain.head, chain.readable]);
    }
    expect(taken).toEqual([
      [3, 103],
      [5, 105],
      [2, 102],
    ]);
  });
});

describe('DescriptorChain', () => {
  it('copies from and to buffers of any lengths', () => {
    describeBuffer(0, { address: GUEST + DATA, length: 3, flags: NEXT, next: 1 });
    describeBuffer(1, { address: GUEST + DATA + 100, length: 5, flags: NEXT, next: 2 });
    describeBuffer(2, { address: GUEST + DATA + 200, length: 2, flags: WRITE | NEXT, next: 3 });
    describeBuffer(3, { address: GUEST + DATA + 300, length: 4, flags: WRITE });
    const text = (at: number, length: number) =>
      Buffer.from(guest.buffer, DATA + at, length).toString('latin1');
    Buffer.from(guest.buffer, DATA, 3).write('abc');
    Buffer.from(guest.buffer, DATA + 100, 5).write('defgh');
    offer(0);
    const chain = takeOne(queueOf(all, 'viewed')) as DescriptorChain;
    const buffer = allocate(64);
    chain.take(1, 6, buffer, 10);
    expect(buffer.bytes.toString('latin1', 10, 16)).toBe('bcdefg');
    buffer.bytes.write('uvwxy');
    chain.put(1, 5, buffer, 0);
    expect([text(200, 2), text(300, 4)]).toEqual(['\0u', 'vwxy']);
  });
});

it('the parts of a ring are as long as the specification says', () => {
  expect([descriptorsLength(256), availableLength(256)]).toEqual([4096, 518]);
});
