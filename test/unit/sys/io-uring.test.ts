import { execFileSync } from 'node:child_process';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { errno } from '../../../src/base/errno.ts';
import type { IoBuffer } from '../../../src/base/io-buffer.ts';
import { IoUring, type RingCalls, ringCalls, SharedRing } from '../../../src/sys/io-uring.ts';
import { allocate } from '../../../src/sys/memory.ts';
import { Poller } from '../../../src/sys/poller.ts';
import { hasRings, noRings } from '../../helpers/io-uring.ts';

const KIB = 1024;
// What is asked of the kernel and answered by it.
const CLAMP = 1 << 4;
const COOP_TASKRUN = 1 << 8;
/** IORING_FEAT_SINGLE_MMAP, IORING_FEAT_RW_CUR_POS */
const FEATURES = 0b1001;
const poller = new Poller();
let directory: string;
let path: string;
let fd: number;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ring-'));
  path = join(directory, 'a.img');
  writeFileSync(path, pattern(256 * KIB, 0));
  fd = openSync(path, 'r+');
});

afterEach(() => {
  closeSync(fd);
  rmSync(directory, { recursive: true });
});

/** A title that says why the tests are left out, if they are. */
function whenThere(title: string): string {
  return noRings === undefined ? title : `${title} (left out: ${noRings})`;
}

function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let at = 0; at < length; at++) bytes[at] = at * 7 + (at >> 8) + seed;
  return bytes;
}

/** `enter` answers in the kernel's place; what it is given hands over to that. */
function entering(enter: (handOver: () => number) => number): RingCalls {
  return { ...ringCalls, enter: (ring, count) => enter(() => ringCalls.enter(ring, count)) };
}

interface Range {
  readonly buffer: IoBuffer;
  readonly offset: number;
  readonly at?: number;
  readonly length?: number;
  readonly aside?: boolean;
  readonly of?: number;
}

function transferOf({ buffer, offset, at = 0, length, aside = true, of = fd }: Range) {
  return { fd: of, buffer, at, length: length ?? buffer.bytes.length - at, offset, aside };
}

function readBy(ring: IoUring, range: Range): Promise<number> {
  return new Promise((done) => ring.read(transferOf(range), done));
}

function writeBy(ring: IoUring, range: Range): Promise<number> {
  return new Promise((done) => ring.write(transferOf(range), done));
}

function filled(length: number, seed: number): IoBuffer {
  const buffer = allocate(length);
  pattern(length, seed).copy(buffer.bytes);
  return buffer;
}

describe('IoUring where the kernel has none for us', () => {
  it('says why', () => {
    const refusing = { ...ringCalls, setup: () => -errno.ENOSYS };
    expect(() => new IoUring(poller, { calls: refusing })).toThrow('Function not implemented');
  });

  it('asks once more for less when the kernel does not know a flag', () => {
    const asked: number[] = [];
    const old: RingCalls = {
      ...ringCalls,
      setup(_entries, params) {
        asked.push(params.readUInt32LE(8));
        return asked.length === 1 ? -errno.EINVAL : -errno.EPERM;
      },
    };
    expect(() => new IoUring(poller, { calls: old })).toThrow('Operation not permitted');
    expect(asked).toEqual([COOP_TASKRUN | CLAMP, CLAMP]);
  });

  it('wants no ring that cannot read and write, and keeps no descriptor of it', () => {
    const file = openSync(path, 'r');
    // A file's descriptor in place of a ring's: it has none of the features.
    const ancient = { ...ringCalls, setup: () => file };
    expect(() => new IoUring(poller, { calls: ancient })).toThrow('Function not implemented');
    expect(() => closeSync(file)).toThrow('EBADF');
  });

  it('keeps no descriptor of a ring that cannot be mapped', () => {
    const file = openSync(path, 'r');
    const unmapped: RingCalls = {
      ...ringCalls,
      setup(_entries, params) {
        params.writeUInt32LE(FEATURES, 20);
        return file;
      },
    };
    // There is nothing of it to map.
    expect(() => new IoUring(poller, { calls: unmapped })).toThrow('Invalid argument');
    expect(() => closeSync(file)).toThrow('EBADF');
  });
});

describe.skipIf(!hasRings)(whenThere('IoUring'), () => {
  let ring: IoUring;

  beforeEach(() => {
    ring = new IoUring(poller);
  });

  afterEach(() => ring.close());

  it.each([true, false])('reads what is in a file, aside: %s', async (aside) => {
    const buffer = allocate(8 * KIB);
    expect(await readBy(ring, { buffer, at: 512, length: 4 * KIB, offset: 1000, aside })).toBe(
      4096,
    );
    expect(buffer.bytes.subarray(512, 512 + 4096)).toEqual(
      pattern(256 * KIB, 0).subarray(1000, 5096),
    );
    expect(buffer.bytes.subarray(0, 512)).toEqual(Buffer.alloc(512));
  });

  it.each([true, false])('writes into a file, aside: %s', async (aside) => {
    const buffer = filled(128 * KIB, 3);
    expect(await writeBy(ring, { buffer, at: 100, offset: 777, aside })).toBe(128 * KIB - 100);
    const expected = pattern(256 * KIB, 0);
    buffer.bytes.copy(expected, 777, 100);
    expect(readFileSync(path).equals(expected)).toBe(true);
  });

  it('makes a file longer, beyond 4 GiB, too', async () => {
    const buffer = filled(4 * KIB, 9);
    const offset = 5 * 2 ** 32 + 4096;
    expect(await writeBy(ring, { buffer, offset })).toBe(4096);
    const back = allocate(4 * KIB);
    expect(await readBy(ring, { buffer: back, offset })).toBe(4096);
    expect(back.bytes.equals(buffer.bytes)).toBe(true);
  });

  it('makes what was written durable', async () => {
    await writeBy(ring, { buffer: filled(4 * KIB, 1), offset: 0 });
    expect(await new Promise((done) => ring.fdatasync(fd, done))).toBe(0);
  });

  it('tells how much there was before the end of the file', async () => {
    const buffer = allocate(4 * KIB);
    expect(await readBy(ring, { buffer, offset: 256 * KIB - 100 })).toBe(100);
    expect(await readBy(ring, { buffer, offset: 256 * KIB })).toBe(0);
    truncateSync(path, 0);
    expect(await readBy(ring, { buffer, offset: 0 })).toBe(0);
  });

  it('tells what is wrong with one request, and does the others', async () => {
    const buffer = allocate(4 * KIB);
    const readOnly = openSync(path, 'r');
    const nowhere = { ...allocate(KIB), address: 4096 };
    const results = await Promise.all([
      readBy(ring, { buffer, offset: 0 }),
      writeBy(ring, { buffer, offset: 0, of: readOnly }),
      readBy(ring, { buffer, offset: 0, of: 1_000_000 }),
      readBy(ring, { buffer: nowhere, offset: 0 }),
      new Promise((done) => ring.fdatasync(1_000_000, done)),
      readBy(ring, { buffer, offset: 4096 }),
    ]);
    closeSync(readOnly);
    expect(results).toEqual([4096, -errno.EBADF, -errno.EBADF, -errno.EFAULT, -errno.EBADF, 4096]);
  });

  it('tells nobody before the function that took the request has returned', async () => {
    let returned = false;
    const told = new Promise<boolean>((fulfil) => {
      ring.read(transferOf({ buffer: allocate(256 * KIB), offset: 0, aside: false }), () =>
        fulfil(returned),
      );
    });
    returned = true;
    expect(await told).toBe(true);
  });

  it('does what it is asked for by who has just been told', async () => {
    const buffer = allocate(4 * KIB);
    const total = await new Promise<number>((fulfil) => {
      let count = 0;
      const next = (): void => {
        if (++count === 500) fulfil(count);
        else ring.read(transferOf({ buffer, offset: (count % 64) * 4096, aside: false }), next);
      };
      next();
    });
    expect(total).toBe(500);
  });

  it('goes on when one who is told throws', async () => {
    const errors: unknown[] = [];
    const other = new Poller({ onError: (error) => errors.push(error) });
    const own = new IoUring(other);
    const buffer = allocate(4 * KIB);
    own.read(transferOf({ buffer, offset: 0 }), () => {
      throw new Error('on purpose');
    });
    expect(await readBy(own, { buffer, offset: 0 })).toBe(4096);
    await own.close();
    other.close();
    expect(errors).toMatchObject([{ message: 'on purpose' }]);
  });

  it('ends what is under way before it is closed, and takes nothing more', async () => {
    const own = new IoUring(poller);
    const buffers = Array.from({ length: 40 }, (_, index) => filled(64 * KIB, index));
    const results = buffers.map((buffer, index) =>
      writeBy(own, { buffer, offset: index * 64 * KIB }),
    );
    let left = results.length;
    for (const result of results) void result.then(() => left--);
    await own.close();
    await Promise.all(results);
    expect(left).toBe(0);
    expect(readFileSync(path).equals(Buffer.concat(buffers.map(({ bytes }) => bytes)))).toBe(true);
    expect(() => own.fdatasync(fd, () => {})).toThrow('The ring is closed');
    await own.close();
  });

  it('waits with closing for a request that takes its time', async () => {
    const own = new IoUring(poller);
    const pipe = join(directory, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const end = openSync(pipe, 'r+');
    let ended = false;
    const read = readBy(own, { buffer: allocate(KIB), offset: 0, of: end, length: 1 });
    void read.then(() => {
      ended = true;
    });
    const closed = own.close();
    // A request that is over meanwhile shows that the other one is not.
    await readBy(ring, { buffer: allocate(KIB), offset: 0 });
    expect(ended).toBe(false);
    writeSync(end, 'x');
    await closed;
    expect(await read).toBe(1);
    closeSync(end);
  });
});

describe.skipIf(!hasRings)(whenThere('IoUring with little room'), () => {
  it.each([1, 2, 8])('does all of many requests at once, %i entries', async (entries) => {
    const ring = new IoUring(poller, { entries });
    const writes = Array.from({ length: 300 }, (_, index) => filled(512, index));
    const results = await Promise.all(
      writes.map((buffer, index) =>
        writeBy(ring, { buffer, length: 512, offset: index * 512, aside: index % 3 === 0 }),
      ),
    );
    expect(new Set(results)).toEqual(new Set([512]));
    await ring.close();
    const expected = Buffer.concat(writes.map(({ bytes }) => bytes.subarray(0, 512)));
    expect(readFileSync(path).subarray(0, expected.length).equals(expected)).toBe(true);
  });
});

describe.skipIf(!hasRings)(whenThere('IoUring whose kernel takes nothing any more'), () => {
  it('says so to who asks, and can be closed', async () => {
    const ring = new IoUring(poller, { calls: entering(() => -errno.ENOSYS) });
    const buffer = allocate(128 * KIB);
    const results = await Promise.all([
      readBy(ring, { buffer, length: 512, offset: 0 }),
      readBy(ring, { buffer, length: 512, offset: 0 }),
      writeBy(ring, { buffer, offset: 0 }),
    ]);
    expect(results).toEqual([-errno.ENOSYS, -errno.ENOSYS, -errno.ENOSYS]);
    await ring.close();
  });
});

describe.skipIf(!hasRings)(whenThere('IoUring whose kernel takes nothing for a while'), () => {
  /** Writes of many blocks at once, and whether all of them are in the file. */
  async function writeBlocks(ring: IoUring, count: number): Promise<void> {
    const blocks = Array.from({ length: count }, (_, index) => filled(512, index));
    const results = await Promise.all(
      blocks.map((buffer, index) => writeBy(ring, { buffer, length: 512, offset: index * 512 })),
    );
    expect(new Set(results)).toEqual(new Set([512]));
    const expected = Buffer.concat(blocks.map(({ bytes }) => bytes.subarray(0, 512)));
    expect(readFileSync(path).subarray(0, expected.length).equals(expected)).toBe(true);
  }

  it.each([
    { name: 'EAGAIN', answer: -errno.EAGAIN },
    { name: 'EBUSY', answer: -errno.EBUSY },
    { name: 'EINTR', answer: -errno.EINTR },
    { name: 'none', answer: 0 },
  ])('hands all over later: $name', async ({ answer }) => {
    let refusals = 0;
    const calls = entering((handOver) => (refusals++ < 5 ? answer : handOver()));
    const ring = new IoUring(poller, { calls });
    await writeBlocks(ring, 20);
    expect(refusals).toBeGreaterThan(5);
    await ring.close();
  });

  it('hands over later what there is no room for meanwhile', async () => {
    let refusals = 0;
    const calls = entering((handOver) => (refusals++ < 50 ? -errno.EAGAIN : handOver()));
    const ring = new IoUring(poller, { calls, entries: 2 });
    await writeBlocks(ring, 30);
    await ring.close();
  });

  it('waits with closing for what is not handed over yet', async () => {
    let refusing = true;
    const calls = entering((handOver) => (refusing ? -errno.EAGAIN : handOver()));
    const own = new IoUring(poller, { calls });
    const write = writeBy(own, { buffer: filled(KIB, 1), length: KIB, offset: 0 });
    const closed = own.close();
    await new Promise((resolve) => setImmediate(resolve));
    refusing = false;
    await closed;
    expect(await write).toBe(KIB);
  });

  it('goes on where the kernel stopped', async () => {
    const counts: number[] = [];
    const calls: RingCalls = {
      ...ringCalls,
      enter(ring, count) {
        counts.push(count);
        return ringCalls.enter(ring, Math.min(count, 3));
      },
    };
    const ring = new IoUring(poller, { calls });
    await writeBlocks(ring, 8);
    expect(counts).toEqual([8, 5, 2]);
    await ring.close();
  });

  it('tells those of a refusal that were not handed over, and does the ones before', async () => {
    let times = 0;
    const calls: RingCalls = {
      ...ringCalls,
      enter: (ring) => (times++ === 0 ? ringCalls.enter(ring, 2) : -errno.ENOMEM),
    };
    const ring = new IoUring(poller, { calls });
    const buffer = allocate(4 * KIB);
    const reads = Array.from({ length: 4 }, (_, at) => readBy(ring, { buffer, offset: at * KIB }));
    expect(await Promise.all(reads)).toEqual([4096, 4096, -errno.ENOMEM, -errno.ENOMEM]);
    await ring.close();
  });

  it('does not hand over later what was refused', async () => {
    let times = 0;
    const ring = new IoUring(poller, {
      calls: entering((handOver) => (times++ === 0 ? -errno.ENOMEM : handOver())),
    });
    const before = readFileSync(path);
    expect(await writeBy(ring, { buffer: filled(KIB, 77), offset: 0 })).toBe(-errno.ENOMEM);
    expect(await readBy(ring, { buffer: allocate(KIB), offset: 0, length: KIB })).toBe(KIB);
    await ring.close();
    expect(readFileSync(path).equals(before)).toBe(true);
  });
});

describe.skipIf(!hasRings)(
  whenThere('IoUring with more requests than their ends have room'),
  () => {
    it('hands over no more than that', async () => {
      let handedOver = 0;
      const calls: RingCalls = {
        ...ringCalls,
        enter(ring, count) {
          const taken = ringCalls.enter(ring, count);
          handedOver += Math.max(taken, 0);
          return taken;
        },
      };
      // Room for two.
      const ring = new IoUring(poller, { calls, entries: 1 });
      const pipe = join(directory, 'pipe');
      execFileSync('mkfifo', [pipe]);
      const end = openSync(pipe, 'r+');
      const reads = Array.from({ length: 7 }, () =>
        readBy(ring, { buffer: allocate(KIB), offset: 0, of: end, length: 1, aside: false }),
      );
      await new Promise((resolve) => setImmediate(resolve));
      expect(handedOver).toBe(2);
      writeSync(end, 'abcdefg');
      expect(await Promise.all(reads)).toEqual(reads.map(() => 1));
      expect(handedOver).toBe(7);
      await ring.close();
      closeSync(end);
    });
  },
);

describe.skipIf(!hasRings)(whenThere('SharedRing'), () => {
  it('is one ring for all who ask', async () => {
    const shared = new SharedRing(poller);
    expect(shared.get()).toBe(shared.get());
    await shared.close();
  });

  it('can be closed before anybody has asked', async () => {
    await new SharedRing(poller).close();
  });
});
