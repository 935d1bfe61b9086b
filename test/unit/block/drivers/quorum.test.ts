import { describe, expect, it } from 'vitest';
import { errno } from '../../../../src/base/errno.ts';
import type { BlockBackend } from '../../../../src/block/block-backend.ts';
import {
  BLOCK_DATA,
  BLOCK_ZERO,
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_WRITE,
} from '../../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../../src/block/block-graph.ts';
import { changeChild } from '../../../../src/block/change-child.ts';
import { allocate } from '../../../../src/sys/memory.ts';
import { testGraph } from '../graph-fixture.ts';
import { ioError, later, type MemoryDisk, memoryDisk } from '../memory-driver.ts';
import { outcome } from '../outcome.ts';

const SIZE = 65_536;

interface Voting {
  readonly disks: readonly [MemoryDisk, MemoryDisk, MemoryDisk];
  readonly graph: BlockGraph;
  readonly backend: BlockBackend;
  /** As `REPORT_BAD c0 read`, emptied by looking. */
  readonly events: () => string[];
}

async function voting(options: object = {}): Promise<Voting> {
  const disk = () => memoryDisk({ size: SIZE, canZero: true });
  const disks = [disk(), disk(), disk()] as const;
  const events: string[] = [];
  const graph = testGraph(disks[0].driver, {
    events: {
      emit(name, payload) {
        const told = payload as { 'node-name'?: string; type?: string; error?: string };
        const parts = [name.slice(7), told['node-name'], told.type, told.error];
        events.push(parts.filter((part) => part !== undefined).join(' '));
      },
    },
    drivers: {
      'null-co': disks[1].driver,
      file: disks[2].driver,
    },
  });
  await graph.add({ driver: 'null-aio', 'node-name': 'c0' });
  await graph.add({ driver: 'null-co', 'node-name': 'c1' });
  await graph.add({ driver: 'file', 'node-name': 'c2', filename: 'x' });
  const node = await graph.add({
    driver: 'quorum',
    'node-name': 'q',
    children: ['c0', 'c1', 'c2'],
    'vote-threshold': 2,
    ...options,
  });
  const perm = PERM_CONSISTENT_READ | PERM_WRITE;
  const backend = graph.backend(node, { perm, shared: PERM_ALL });
  return { disks, graph, backend, events: () => events.splice(0) };
}

function data(byte: number) {
  const memory = allocate(4096);
  memory.bytes.fill(byte);
  return memory;
}

async function firstByte(backend: BlockBackend): Promise<number> {
  const memory = allocate(4096);
  await backend.read(0, 4096, memory, 0);
  return memory.bytes[0] ?? -1;
}

describe('quorum', () => {
  it('writes everywhere, and reads what all agree on', async () => {
    const { disks, backend, events } = await voting();
    await backend.write(0, 4096, data(7), 0);
    await backend.writeZeroes(4096, 4096);
    expect(disks.map(({ bytes }) => bytes[0])).toEqual([7, 7, 7]);
    expect(await firstByte(backend)).toBe(7);
    expect(events()).toEqual([]);
  });

  it('outvotes a child that differs, and leaves it so', async () => {
    const { disks, backend, events } = await voting();
    await backend.write(0, 4096, data(7), 0);
    disks[0].bytes[0] = 9;
    expect(await firstByte(backend)).toBe(7);
    expect(events()).toEqual(['REPORT_BAD c0 read']);
    expect(disks[0].bytes[0]).toBe(9);
  });

  it('mends it if it may', async () => {
    const { disks, backend, events } = await voting({ 'rewrite-corrupted': true });
    await backend.write(0, 4096, data(7), 0);
    disks[2].bytes[0] = 9;
    expect(await firstByte(backend)).toBe(7);
    expect(events()).toEqual(['REPORT_BAD c2 read']);
    expect(disks[2].bytes[0]).toBe(7);
    expect(await firstByte(backend)).toBe(7);
    expect(events()).toEqual([]);
  });

  it('fails when nobody has enough votes', async () => {
    const { disks, backend, events } = await voting();
    for (const [index, disk] of disks.entries()) disk.bytes[0] = index;
    expect(await outcome(async () => firstByte(backend))).toBe(errno.EIO);
    expect(events()).toEqual(['FAILURE']);
  });

  it('goes on while enough children work', async () => {
    const { disks, backend, events } = await voting();
    disks[1].behave = () => ioError('ENOSPC');
    expect(await outcome(() => backend.write(0, 4096, data(7), 0))).toBe('ok');
    expect(await firstByte(backend)).toBe(7);
    expect(await outcome(() => backend.flush())).toBe('ok');
    expect(events()).toEqual([
      'REPORT_BAD c1 write No space left on device',
      'REPORT_BAD c1 read No space left on device',
      'REPORT_BAD c1 flush No space left on device',
    ]);
    disks[0].behave = () => ioError('EROFS');
    expect(await outcome(() => backend.write(0, 4096, data(8), 0))).toBe(errno.ENOSPC);
    expect(events().at(-1)).toBe('FAILURE');
  });

  it('reads one after the other in the fifo pattern', async () => {
    const { disks, backend, events } = await voting({ 'read-pattern': 'fifo' });
    disks[1].bytes[0] = 5;
    expect(await firstByte(backend)).toBe(0);
    disks[0].behave = () => ioError('EIO');
    expect(await firstByte(backend)).toBe(5);
    expect(events()).toEqual(['REPORT_BAD c0 read Input/output error']);
    expect(disks[2].calls).toEqual([]);
  });

  it('tells of zeroes when all have them', async () => {
    const { disks, backend } = await voting();
    expect((await backend.blockStatus(0, SIZE)).status & BLOCK_ZERO).toBe(BLOCK_ZERO);
    disks[1].bytes.fill(1, 0, 4096);
    disks[2].bytes.fill(1, 0, 8192);
    const { status, length } = await backend.blockStatus(0, SIZE);
    expect([status & (BLOCK_DATA | BLOCK_ZERO), length]).toEqual([BLOCK_DATA, 8192]);
  });

  it('loses and gets children between requests', async () => {
    const { disks, graph, backend, events } = await voting({ children: ['c0', 'c1'] });
    const [, second, third] = disks;
    for (const disk of disks) disk.behave = () => later(3);
    const change = async (args: object) =>
      graph.change((access) => changeChild(access, { parent: 'q', ...args }));
    const write = async (byte: number) => {
      await backend.write(byte * 4096, 4096, data(byte), 0);
    };
    const writes = [write(1), write(2)];
    const adds = change({ node: 'c2' });
    await Promise.all([...writes, adds]);
    // What was under way was not made of the new child.
    expect(third.calls).toEqual([]);
    const removes = change({ child: 'children.1' });
    await Promise.all([write(3), removes]);
    await write(4);
    const written = (disk: MemoryDisk) =>
      [1, 2, 3, 4].filter((byte) => disk.bytes[byte * 4096] === byte);
    expect([written(second), written(third)].map((list) => list.includes(4))).toEqual([
      false,
      true,
    ]);
    // Each write went to one set of children as a whole.
    expect(written(second).includes(3) || written(third).includes(3)).toBe(true);
    expect(events()).toEqual([]);
    await graph.remove('c1');
  });
});
