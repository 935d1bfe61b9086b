import { describe, expect, it } from 'vitest';
import { errno } from '../../../../src/base/errno.ts';
import { IoError } from '../../../../src/base/errors.ts';
import type { BlockBackend } from '../../../../src/block/block-backend.ts';
import {
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
} from '../../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../../src/block/block-graph.ts';
import { addDirtyBitmap } from '../../../../src/block/dirty-bitmap-commands.ts';
import { allocate } from '../../../../src/sys/memory.ts';
import { MadeUpClock } from '../../made-up-clock.ts';
import { testGraph } from '../graph-fixture.ts';
import { later, type MemoryDisk, memoryDisk } from '../memory-driver.ts';
import { outcome } from '../outcome.ts';

const CLUSTER = 64 * 1024;
const SIZE = 16 * CLUSTER;

interface Fleecing {
  readonly graph: BlockGraph;
  readonly clock: MadeUpClock;
  readonly source: MemoryDisk;
  readonly target: MemoryDisk;
  /** What a guest writes to. */
  readonly guest: BlockBackend;
  /** What a backup reads. */
  readonly past: BlockBackend;
  /** What the backup has to find. */
  readonly old: Buffer;
}

async function fleecing(
  options: object = {},
  prepare: (graph: BlockGraph) => void = () => {},
  targetSize = SIZE,
): Promise<Fleecing> {
  const clock = new MadeUpClock();
  const source = memoryDisk({ size: SIZE, capacity: SIZE, canZero: true, tellsStatus: false });
  const target = memoryDisk({ size: targetSize, canZero: true, tellsStatus: false });
  for (let at = 0; at < SIZE; at++) source.bytes[at] = 1 + (at % 251);
  target.bytes.fill(0xee);
  const graph = testGraph(source.driver, { clock, drivers: { 'null-co': target.driver } });
  await graph.add({ driver: 'null-aio', 'node-name': 'disk', discard: 'unmap' });
  await graph.add({ driver: 'null-co', 'node-name': 'target', discard: 'unmap' });
  prepare(graph);
  const top = await graph.add({
    driver: 'copy-before-write',
    'node-name': 'cbw',
    discard: 'unmap',
    file: 'disk',
    target: 'target',
    ...options,
  });
  const access = await graph.add({
    driver: 'snapshot-access',
    'node-name': 'past',
    discard: 'unmap',
    file: 'cbw',
  });
  const guest = graph.backend(top, { perm: PERM_CONSISTENT_READ | PERM_WRITE, shared: PERM_ALL });
  const past = graph.backend(access, {
    perm: PERM_CONSISTENT_READ | PERM_WRITE,
    shared: PERM_ALL,
  });
  const old = Buffer.from(source.bytes);
  return { graph, clock, source, target, guest, past, old };
}

function data(length: number, byte: number) {
  const memory = allocate(length);
  memory.bytes.fill(byte);
  return memory;
}

async function read(backend: BlockBackend, offset: number, length: number): Promise<Buffer> {
  const memory = allocate(length);
  await backend.read(offset, length, memory, 0);
  return memory.bytes;
}

describe('copy-before-write and snapshot-access', () => {
  it('keep what was there, whatever a guest does', async () => {
    const { guest, past, old, source } = await fleecing();
    await guest.write(512, 512, data(512, 7), 0);
    await guest.writeZeroes(3 * CLUSTER - 4096, 8192);
    await guest.discard(8 * CLUSTER, CLUSTER);
    await guest.write(512, 512, data(512, 8), 0);
    expect(source.bytes[512]).toBe(8);
    expect((await read(guest, 512, 512))[0]).toBe(8);
    expect((await read(past, 0, SIZE)).equals(old)).toBe(true);
  });

  it('copy each cluster once, and only what is written', async () => {
    const { guest, target } = await fleecing();
    for (const at of [0, 512, 4096, CLUSTER + 512]) {
      await guest.write(at, 512, data(512, 7), 0);
    }
    const written = target.calls.filter(({ operation }) => operation === 'write');
    expect(written.map(({ offset, length }) => [offset, length])).toEqual([
      [0, CLUSTER],
      [CLUSTER, CLUSTER],
    ]);
  });

  it('keep it when writes and reads of the past meet', async () => {
    const { guest, past, old, source, target } = await fleecing();
    source.behave = ({ offset }) => later((offset / 512) % 7);
    target.behave = ({ offset }) => later((offset / 512) % 5);
    const work: unknown[] = [];
    for (let round = 0; round < 24; round++) {
      const offset = ((round * 7) % 16) * CLUSTER + ((round * 3) % 100) * 512;
      work.push(guest.write(offset, 4096, data(4096, round + 1), 0));
      work.push(
        read(past, ((round * 5) % 15) * CLUSTER + 1024, CLUSTER).then((bytes) => {
          const at = ((round * 5) % 15) * CLUSTER + 1024;
          expect(bytes.equals(old.subarray(at, at + CLUSTER))).toBe(true);
        }),
      );
    }
    await Promise.all(work.map(async (each) => each));
    expect((await read(past, 0, SIZE)).equals(old)).toBe(true);
  });

  it('let a write fail when saving fails', async () => {
    const { guest, past, old, target, source } = await fleecing();
    target.behave = ({ operation }) =>
      operation === 'write' ? new IoError(errno.ENOSPC, { syscall: 'test' }) : undefined;
    expect(await outcome(() => guest.write(0, 512, data(512, 7), 0))).toBe(errno.ENOSPC);
    expect(source.bytes[0]).toBe(1);
    expect((await read(past, 0, CLUSTER)).equals(old.subarray(0, CLUSTER))).toBe(true);
    target.behave = () => undefined;
    expect(await outcome(() => guest.write(0, 512, data(512, 7), 0))).toBe('ok');
    expect((await read(past, 0, CLUSTER)).equals(old.subarray(0, CLUSTER))).toBe(true);
  });

  it('or lose the past, if they are told to', async () => {
    const { guest, past, target } = await fleecing({ 'on-cbw-error': 'break-snapshot' });
    target.behave = () => new IoError(errno.ENOSPC, { syscall: 'test' });
    expect(await outcome(() => guest.write(0, 512, data(512, 7), 0))).toBe('ok');
    expect(await outcome(() => read(past, 8 * CLUSTER, 512))).toBe(errno.EACCES);
    expect(await outcome(() => past.blockStatus(0, 512))).toBe(errno.EACCES);
    expect(await outcome(() => guest.write(CLUSTER, 512, data(512, 7), 0))).toBe('ok');
  });

  it('save what they can read, though nobody knows where data are', async () => {
    const old = data(CLUSTER, 1).bytes;
    const source = memoryDisk({ size: CLUSTER });
    const target = memoryDisk({ size: CLUSTER });
    source.bytes.fill(1);
    const graph = testGraph(source.driver, { drivers: { 'null-co': target.driver } });
    const top = await graph.add({
      driver: 'copy-before-write',
      'node-name': 'cbw',
      file: {
        driver: 'blkdebug',
        image: { driver: 'null-aio' },
        'inject-error': [{ event: 'none', iotype: 'block-status' }],
      },
      target: { driver: 'null-co' },
    });
    const guest = graph.backend(top, { perm: PERM_WRITE, shared: PERM_ALL });
    expect(await outcome(() => guest.write(0, 512, data(512, 7), 0))).toBe('ok');
    expect(target.bytes.equals(old)).toBe(true);
  });

  it('save nothing beyond the end of a target that is too short', async () => {
    const { guest, past, old, target } = await fleecing({}, () => {}, 4 * CLUSTER + 512);
    expect(await outcome(() => guest.write(4 * CLUSTER, 512, data(512, 7), 0))).toBe(errno.EIO);
    expect(await outcome(() => guest.writeZeroes(9 * CLUSTER, 512))).toBe(errno.EIO);
    expect(await outcome(() => guest.write(3 * CLUSTER, 512, data(512, 7), 0))).toBe('ok');
    expect(target.calls.map(({ offset }) => offset)).toEqual([3 * CLUSTER]);
    expect((await read(past, 0, SIZE)).equals(old)).toBe(true);
  });

  it('lose what is cut off, and do not take what comes in its place for the past', async () => {
    const { graph, guest, past, old } = await fleecing();
    const owner = graph.backend(guest.node, { perm: PERM_RESIZE, shared: PERM_ALL });
    for (const length of [8 * CLUSTER, SIZE]) {
      await owner.truncate(length, { exact: true, prealloc: 'off', flags: 0 });
    }
    expect(await outcome(() => read(past, 8 * CLUSTER, 512))).toBe(errno.EACCES);
    expect(await outcome(() => past.blockStatus(8 * CLUSTER, 512))).toBe(errno.EACCES);
    expect(await outcome(() => guest.write(0, SIZE, data(SIZE, 7), 0))).toBe('ok');
    expect(await outcome(() => read(past, 8 * CLUSTER, 512))).toBe(errno.EACCES);
    expect(await outcome(() => past.discard(7 * CLUSTER, 9 * CLUSTER))).toBe('ok');
    const kept = await read(past, 0, 7 * CLUSTER);
    expect(kept.equals(old.subarray(0, 7 * CLUSTER))).toBe(true);
    await owner.truncate(4 * CLUSTER, { exact: true, prealloc: 'off', flags: 0 });
    expect(await outcome(() => past.discard(3 * CLUSTER, 13 * CLUSTER))).toBe('ok');
  });

  it('wait no longer than they may', async () => {
    const { guest, clock, target, graph } = await fleecing({ 'cbw-timeout': 5 });
    let finish = (): void => {};
    target.behave = () =>
      new Promise((resolve) => {
        finish = resolve;
      });
    const written = outcome(() => guest.write(0, 512, data(512, 7), 0));
    await later(20);
    clock.pass(4999);
    await later(20);
    clock.pass(2);
    expect(await written).toBe(errno.ETIMEDOUT);
    // What goes on behind is waited for.
    const drained = graph.drain();
    await later(20);
    target.behave = () => undefined;
    finish();
    await drained;
    expect(await outcome(() => guest.write(0, 512, data(512, 7), 0))).toBe('ok');
  });

  it('save only what a bitmap says, and show only that', async () => {
    const { guest, past, target } = await fleecing(
      { bitmap: { node: 'disk', name: 'b' } },
      (graph) => {
        addDirtyBitmap(graph, { node: 'disk', name: 'b', granularity: CLUSTER });
        graph.find('disk', 'disk').markDirty(2 * CLUSTER, 512);
      },
    );
    expect(await outcome(() => read(past, 0, 512))).toBe(errno.EACCES);
    expect(await outcome(() => read(past, 2 * CLUSTER, CLUSTER))).toBe('ok');
    expect(await outcome(() => read(past, 2 * CLUSTER, CLUSTER + 512))).toBe(errno.EACCES);
    await guest.write(0, 4 * CLUSTER, data(4 * CLUSTER, 7), 0);
    const written = target.calls.filter(({ operation }) => operation === 'write');
    expect(written.map(({ offset, length }) => [offset, length])).toEqual([[2 * CLUSTER, CLUSTER]]);
  });

  it('give up what is discarded of the past, cluster by cluster', async () => {
    const { guest, past, target } = await fleecing();
    await past.discard(CLUSTER - 512, CLUSTER + 1024);
    expect(await outcome(() => read(past, CLUSTER, 512))).toBe(errno.EACCES);
    expect(await outcome(() => read(past, 0, CLUSTER))).toBe('ok');
    expect(await outcome(() => read(past, 2 * CLUSTER, CLUSTER))).toBe('ok');
    target.calls.splice(0);
    await guest.write(CLUSTER, 512, data(512, 7), 0);
    expect(target.calls).toEqual([]);
  });

  it('cannot be written through the past', async () => {
    const { past } = await fleecing();
    expect(await outcome(() => past.write(0, 512, data(512, 7), 0))).toBe(errno.ENOTSUP);
    expect(await outcome(() => past.writeZeroes(0, 512))).toBe(errno.ENOTSUP);
  });

  it('have nothing to show for other nodes', async () => {
    const { graph } = await fleecing();
    const node = await graph.add({ driver: 'snapshot-access', 'node-name': 'x', file: 'disk' });
    const backend = graph.backend(node, { perm: PERM_CONSISTENT_READ, shared: PERM_ALL });
    expect(await outcome(() => read(backend, 0, 512))).toBe(errno.ENOTSUP);
  });
});
