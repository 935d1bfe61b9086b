// Random frontends and random drivers on vhost-user-blk: messages and rings that are mostly right and wrong somewhere, while the
// other side changes memory under the daemon. A case is a number from which all of it follows; those that failed are kept.

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { residentKilobytes } from '../helpers/resident-memory.ts';
import { startDevice, type TestDevice } from '../protocol/vhost-user/device.ts';
import { GUEST_BASE } from '../protocol/vhost-user/guest-memory.ts';
import { served } from '../protocol/vhost-user/health.ts';
import { NEED_REPLY, REQUEST, VERSION } from '../protocol/vhost-user/messages.ts';
import { numbered, ourSide, type ServedDisk, serveDisk } from '../protocol/vhost-user/serve.ts';
import { BLK_S, BLK_T, SECTOR } from '../protocol/vhost-user/virtio-blk.ts';
import { DESCRIPTOR_F } from '../protocol/vhost-user/virtqueue.ts';
import { type CorpusName, checkFor, corpus, keep, numbersFrom } from './budget.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const MEMORY = 4 * MIB;
const RESIDENT_LIMIT_KIB = 500 * KIB;
const ANSWER_LIMIT_MS = 30_000;
const RING = 16;

type Next = () => number;

const below = (next: Next, limit: number): number => Math.floor(next() * limit);
const messages: readonly number[] = Object.values(REQUEST);
const types: readonly number[] = [...Object.values(BLK_T), 77];

function pick<T>(next: Next, of: readonly T[]): T {
  const [first] = of;
  const chosen = of[below(next, of.length)] ?? first;
  if (chosen === undefined) throw new Error('nothing to pick from');
  return chosen;
}

/** A 64-bit number that is somewhere interesting, most of the time. */
function interesting(next: Next, near: readonly number[]): bigint {
  const base = BigInt(pick(next, [0, 1, 2 ** 31, 2 ** 32, 2 ** 53, 2 ** 63, ...near]));
  const off = BigInt(pick(next, [0, 0, 0, 1, -1, 8, -8, 512, 4096, -4096, below(next, MEMORY)]));
  return BigInt.asUintN(64, base + off);
}

/** Sends messages of all kinds with plausible numbers, in any order. */
async function talk(device: TestDevice, next: Next): Promise<void> {
  const { frontend, memory, disk } = device;
  const { userAddress, fd } = memory.main;
  const near = [GUEST_BASE, MEMORY, userAddress, userAddress + disk.queue.used];
  const descriptors = [fd, disk.kick.fd, disk.call.fd] as const;
  for (let count = 1 + below(next, 12); count > 0; count--) {
    const words = Array.from({ length: below(next, 12) }, () => {
      const bytes = Buffer.alloc(8);
      if (next() < 0.4) bytes.writeBigUInt64LE(interesting(next, near));
      else bytes.writeUInt32LE(below(next, 5), pick(next, [0, 4]));
      return bytes;
    });
    const payload = Buffer.concat(words).subarray(0, next() < 0.1 ? below(next, 90) : 96);
    const request = next() < 0.1 ? below(next, 45) : pick(next, messages);
    const sent = frontend.send(request, payload, {
      flags: next() < 0.7 ? VERSION | NEED_REPLY : VERSION,
      descriptors: Array.from({ length: next() < 0.5 ? 0 : below(next, 4) }, () =>
        pick(next, descriptors),
      ),
    });
    if (!sent) return;
    disk.kick.signal();
  }
  await answered(device);
}

/** Fills rings and tables with chains that are mostly right, and changes them while they are read. */
async function drive(device: TestDevice, next: Next): Promise<void> {
  const { memory, disk } = device;
  const { queue } = disk;
  const area = memory.allocate(64 * KIB);
  const table = memory.allocate(RING * 16);
  const places = [area, table, queue.descriptors, queue.available, queue.used, MEMORY - 512];
  const address = (): bigint =>
    next() < 0.9
      ? BigInt(memory.guestAddress(pick(next, [area, ...places]) + below(next, 40) * 16))
      : interesting(next, [GUEST_BASE, GUEST_BASE + MEMORY]);
  const length = (): number =>
    next() < 0.8 ? pick(next, [1, 16, 512, 4096]) : pick(next, [0, 15, 65_536, 0xffffffff]);
  const flags = (): number => (next() < 0.9 ? below(next, 4) : below(next, 8));
  const change = (): void => {
    const where = next() < 0.3 ? table : queue.descriptors;
    const entry = { address: address(), length: length(), flags: flags(), next: below(next, 17) };
    queue.setDescriptor(below(next, RING), entry, where);
  };
  for (let round = 0; round < 6; round++) {
    const header = area + below(next, 40) * 16;
    memory.view.setUint32(header, pick(next, types), true);
    memory.view.setBigUint64(header + 8, BigInt(below(next, 2100)), true);
    for (let count = below(next, 12); count > 0; count--) change();
    writeRequest(device, { header, table: next() < 0.5 ? table : undefined, data: address() });
    if (next() < 0.2) change();
    for (let count = 1 + below(next, 4); count > 0; count--) {
      queue.makeAvailable(next() < 0.9 ? 0 : below(next, RING));
    }
    if (next() < 0.05) queue.setAvailableIndex(below(next, 0x10000));
    disk.kick.signal();
    if (next() < 0.3) for (let count = below(next, 200); count > 0; count--) change();
  }
  await answered(device);
}

/** A request as it should be, at descriptor 0. */
function writeRequest(
  { disk: { queue }, memory }: TestDevice,
  parts: { readonly header: number; readonly table: number | undefined; readonly data: bigint },
): void {
  const { NEXT, WRITE, INDIRECT } = DESCRIPTOR_F;
  const { header, table, data } = parts;
  const status = memory.guestAddress(header + 15);
  const chain = [
    { address: memory.guestAddress(header), length: 16, flags: NEXT, next: 1 },
    { address: data, length: 4096, flags: NEXT | WRITE, next: 2 },
    { address: status, length: 1, flags: WRITE, next: 0 },
  ];
  for (const [at, entry] of chain.entries()) queue.setDescriptor(at, entry, table);
  if (table === undefined) return;
  const address = memory.guestAddress(table);
  queue.setDescriptor(0, { address, length: chain.length * 16, flags: INDIRECT });
}

/** Resolves once the daemon has dealt with all that was sent, or has ended the connection. */
async function answered({ frontend }: TestDevice): Promise<void> {
  frontend.send(REQUEST.GET_QUEUE_NUM);
  for (;;) {
    const message = await frontend.receive();
    if (message === undefined || message.request === REQUEST.GET_QUEUE_NUM) return;
  }
}

const kinds = [
  { name: 'vhost-user-messages', act: talk },
  { name: 'vhost-user-rings', act: drive },
] as const satisfies readonly { name: CorpusName; act: unknown }[];

async function attack(
  disk: ServedDisk,
  start: number,
  act: (device: TestDevice, next: Next) => Promise<void>,
): Promise<void> {
  const next = numbersFrom(start);
  const device = await startDevice(disk.socket, {
    queueSize: RING,
    memory: { lengths: [MEMORY], sealed: next() < 0.5 },
  });
  // What the device gives back is not what was asked for: nobody looks at it.
  device.disk.queue.reap = () => 0;
  try {
    await act(device, next);
  } finally {
    device.close();
  }
}

async function within<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer')), ANSWER_LIMIT_MS);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

describe('vhost-user-blk', () => {
  for (const { name, act } of kinds) {
    it(`survives random ${name}`, { timeout: 600_000 }, async () => {
      const disk = await serveDisk(ourSide);
      const held = await served(disk);
      const torment = async (start: number): Promise<void> => {
        await within(attack(disk, start, act));
        expect(await within(served(disk))).toEqual(held);
        expect(residentKilobytes(disk.daemon.pid)).toBeLessThan(RESIDENT_LIMIT_KIB);
      };
      for (const kept of corpus(name)) await torment(kept.readUInt32LE());
      await checkFor(
        0.35,
        fc.asyncProperty(fc.nat(), async (start) => {
          try {
            await torment(start);
          } catch (error) {
            const input = Buffer.alloc(4);
            input.writeUInt32LE(start);
            throw new Error(keep(name, input), { cause: error });
          }
        }),
      );
      expect(disk.daemon.child.exitCode).toBeNull();
    });
  }

  it('reads what was written, over rings of every kind', { timeout: 600_000 }, async () => {
    const disk = await serveDisk(ourSide);
    const model = numbered(MIB);
    await checkFor(
      0.2,
      fc.asyncProperty(fc.nat(), async (start) => {
        const next = numbersFrom(start);
        const device = await startDevice(disk.socket, {
          queueSize: pick(next, [8, 64, 256]),
          without: BigInt(below(next, 4)) << 28n,
          base: below(next, 0x10000),
          memory: { sealed: next() < 0.5 },
        });
        for (let count = 20; count > 0; count--) await step(device, model, next);
        device.close();
        expect(disk.image().equals(model)).toBe(true);
      }),
    );
  });
});

/** One valid request, whose buffers are cut anyhow. */
async function step({ disk }: TestDevice, model: Buffer, next: Next): Promise<void> {
  const sectors = 1 + below(next, 64);
  const sector = below(next, model.length / SECTOR - sectors);
  const [offset, length] = [sector * SECTOR, sectors * SECTOR];
  const cut = {
    pieces: Array.from({ length: below(next, 3) }, () => 1 + below(next, 3000)),
    joined: next() < 0.5,
  };
  const kind = below(next, 3);
  if (kind === 0) {
    const out = Buffer.alloc(length, below(next, 256));
    const { status } = await disk.submit({ type: BLK_T.OUT, sector, out, ...cut });
    expect(status).toBe(BLK_S.OK);
    out.copy(model, offset);
  } else if (kind === 1) {
    expect((await disk.writeZeroes(offset, length, below(next, 2))).status).toBe(BLK_S.OK);
    model.fill(0, offset, offset + length);
  } else {
    const { in: read } = await disk.submit({ type: BLK_T.IN, sector, inLength: length, ...cut });
    expect(read.equals(model.subarray(offset, offset + length))).toBe(true);
  }
}
