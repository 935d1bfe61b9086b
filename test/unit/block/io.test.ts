import { describe, expect, it } from 'vitest';
import { errno } from '../../../src/base/errno.ts';
import { IoError } from '../../../src/base/errors.ts';
import type { BlockBackend } from '../../../src/block/block-backend.ts';
import {
  FUA,
  MAY_UNMAP,
  NO_FALLBACK,
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
} from '../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../src/block/block-graph.ts';
import type { BlockdevOptions } from '../../../src/qapi/generated/types.ts';
import { allocate } from '../../../src/sys/memory.ts';
import { testGraph } from './graph-fixture.ts';
import {
  ioError,
  later,
  type MemoryDisk,
  type MemoryOptions,
  memoryDisk,
} from './memory-driver.ts';

const MIB = 1024 * 1024;

interface Opened {
  readonly disk: MemoryDisk;
  readonly graph: BlockGraph;
  readonly backend: BlockBackend;
  /** Operations that reached the driver since the last look, as `write 0+512`. */
  readonly seen: () => string[];
}

async function open(
  disk: MemoryOptions,
  node: Partial<BlockdevOptions> = {},
  perm = PERM_CONSISTENT_READ | PERM_WRITE,
): Promise<Opened> {
  const memory = memoryDisk(disk);
  const graph = testGraph(memory.driver);
  const added = await graph.add({
    ...node,
    driver: 'null-aio',
    'node-name': 'disk',
  });
  const backend = graph.backend(added, { perm, shared: PERM_ALL });
  const seen = (): string[] =>
    memory.calls
      .splice(0)
      .map(({ operation, offset, length, flags }) =>
        operation === 'flush'
          ? 'flush'
          : `${operation} ${offset}+${length}${flags === 0 ? '' : ` flags ${flags}`}`,
      );
  return { disk: memory, graph, backend, seen };
}

/** The errno a request fails with, at once or later. */
async function failure(request: () => unknown): Promise<number | undefined> {
  try {
    await request();
  } catch (error) {
    if (error instanceof IoError) return error.errno;
    throw error;
  }
  return undefined;
}

const buffer = allocate(4 * MIB);

describe('reads', () => {
  it('complete without a promise when the driver does', async () => {
    const { backend } = await open({ size: 4096 });
    expect(backend.read(0, 4096, buffer, 0)).toBeUndefined();
  });

  it('are widened to the alignment and cut again', async () => {
    const { backend, disk, seen } = await open({ size: 4096, limits: { requestAlignment: 512 } });
    disk.bytes.fill(7, 1000, 1010);
    await backend.read(1000, 10, buffer, 3);
    expect(seen()).toEqual(['read 512+512']);
    expect([...buffer.bytes.subarray(3, 13)]).toEqual(Array.from({ length: 10 }, () => 7));
  });

  it('are split at the largest transfer', async () => {
    const { backend, seen } = await open({ size: MIB, limits: { maxTransfer: 4096 } });
    await backend.read(0, 10000, buffer, 0);
    expect(seen()).toEqual(['read 0+4096', 'read 4096+4096', 'read 8192+1808']);
  });

  it('outside the node fail with EIO, at the very end too', async () => {
    const { backend } = await open({ size: 4096 });
    expect(await failure(() => backend.read(4096, 1, buffer, 0))).toBe(errno.EIO);
    expect(await failure(() => backend.read(0, 4097, buffer, 0))).toBe(errno.EIO);
    expect(await failure(() => backend.read(-1, 1, buffer, 0))).toBe(errno.EIO);
    expect(await failure(() => backend.read(Number.NaN, 1, buffer, 0))).toBe(errno.EIO);
    expect(await failure(() => backend.read(2 ** 60, 512, buffer, 0))).toBe(errno.EIO);
    expect(await failure(() => backend.read(4096, 0, buffer, 0))).toBeUndefined();
  });

  it('never run past the memory they were given', async () => {
    const { backend } = await open({ size: 8 * MIB });
    expect(() => backend.read(0, 4 * MIB, buffer, 1)).toThrow(RangeError);
  });

  it('pass the failure of the driver on, at once or later', async () => {
    const { backend, disk } = await open({ size: 4096 });
    disk.behave = () => ioError('EIO');
    expect(() => backend.read(0, 512, buffer, 0)).toThrow(IoError);
    disk.behave = () => Promise.reject(ioError('ENOSPC'));
    expect(await failure(() => backend.read(0, 512, buffer, 0))).toBe(errno.ENOSPC);
  });
});

describe('writes', () => {
  it('of a part of a block read it, change it and write it back', async () => {
    const { backend, disk, seen } = await open({ size: 4096, limits: { requestAlignment: 512 } });
    disk.bytes.fill(1);
    buffer.bytes.fill(2, 0, 600);
    await backend.write(500, 600, buffer, 0);
    expect(seen()).toEqual(['read 0+512', 'read 1024+512', 'write 0+1536']);
    expect(disk.bytes[499]).toBe(1);
    expect(disk.bytes.subarray(500, 1100).every((byte) => byte === 2)).toBe(true);
    expect(disk.bytes[1100]).toBe(1);
  });

  it('use the memory of the caller for the aligned middle of a long one', async () => {
    const { backend, seen } = await open({ size: MIB, limits: { requestAlignment: 512 } });
    await backend.write(100, 512 * 1024, buffer, 0);
    expect(seen()).toEqual([
      'read 0+512',
      'write 0+512',
      'write 512+523776',
      'read 524288+512',
      'write 524288+512',
    ]);
  });

  it('wait for a read-modify-write of the same block, and others do not', async () => {
    const { backend, disk, seen } = await open({ size: 4096, limits: { requestAlignment: 512 } });
    const release: (() => void)[] = [];
    disk.behave = (call) =>
      call.operation === 'read'
        ? new Promise<void>((resolve) => {
            release.push(resolve);
          })
        : undefined;
    const first = backend.write(0, 10, buffer, 0);
    await later();
    const same = backend.write(0, 512, buffer, 0);
    expect(backend.write(512, 512, buffer, 0)).toBeUndefined();
    await later(5);
    expect(seen()).toEqual(['read 0+512', 'write 512+512']);
    for (const go of release) go();
    await Promise.all([first, same]);
    expect(seen()).toEqual(['write 0+512', 'write 0+512']);
  });

  it('with FUA are followed by one flush where the driver has no FUA', async () => {
    const { backend, seen } = await open({ size: MIB, limits: { maxTransfer: 4096 } });
    await backend.write(0, 8192, buffer, 0, FUA);
    expect(seen()).toEqual(['write 0+4096', 'write 4096+4096', 'flush']);
  });

  it('with FUA reach a driver that has it, unchanged', async () => {
    const { backend, seen } = await open({ size: 4096, writeFlags: FUA });
    await backend.write(0, 512, buffer, 0, FUA);
    expect(seen()).toEqual([`write 0+512 flags ${FUA}`]);
  });

  it('of a writethrough backend carry FUA, its zeroes too', async () => {
    const { backend, seen } = await open({ size: 4096, canZero: true });
    backend.writethrough = true;
    await backend.write(0, 512, buffer, 0);
    await backend.writeZeroes(0, 512);
    expect(seen()).toEqual(['write 0+512', 'flush', 'zero 0+512', 'flush']);
  });

  it('to a read-only node fail with EPERM', async () => {
    const { backend } = await open({ size: 4096 }, { 'read-only': true }, PERM_CONSISTENT_READ);
    expect(backend.readOnly).toBe(true);
    expect(await failure(() => backend.write(0, 512, buffer, 0))).toBe(errno.EPERM);
    expect(await failure(() => backend.writeZeroes(0, 512))).toBe(errno.EPERM);
  });

  it('report ENOSPC of one piece and write no further ones', async () => {
    const { backend, disk, seen } = await open({ size: MIB, limits: { maxTransfer: 4096 } });
    disk.behave = (call) => (call.offset === 4096 ? ioError('ENOSPC') : undefined);
    expect(await failure(() => backend.write(0, 12288, buffer, 0))).toBe(errno.ENOSPC);
    expect(seen()).toEqual(['write 0+4096', 'write 4096+4096']);
  });

  it('of zeroes become write zeroes with detect-zeroes, unmapping with unmap', async () => {
    buffer.bytes.fill(0);
    const on = await open(
      { size: MIB, canZero: true, zeroFlags: MAY_UNMAP },
      { 'detect-zeroes': 'on' },
    );
    await on.backend.write(0, 200_000, buffer, 0);
    buffer.bytes[100_000] = 1;
    await on.backend.write(0, 200_000, buffer, 0);
    expect(on.seen()).toEqual(['zero 0+200000', 'write 0+200000']);
    buffer.bytes.fill(0);
    const unmap = await open(
      { size: MIB, canZero: true, zeroFlags: MAY_UNMAP },
      { 'detect-zeroes': 'unmap', discard: 'unmap' },
    );
    await unmap.backend.write(0, 512, buffer, 0);
    expect(unmap.seen()).toEqual([`zero 0+512 flags ${MAY_UNMAP}`]);
  });

  it('remember how far they reached', async () => {
    const { backend } = await open({ size: 4096 });
    await backend.write(512, 512, buffer, 0);
    await backend.write(0, 512, buffer, 0);
    expect(backend.node.writeHighestOffset).toBe(1024);
  });
});

describe('write zeroes', () => {
  it('keeps head and tail apart from the bulk the driver works in', async () => {
    const { backend, seen } = await open({
      size: MIB,
      canZero: true,
      limits: { zeroAlignment: 4096, maxWriteZeroes: 8192 },
    });
    await backend.writeZeroes(4000, 21000);
    expect(seen()).toEqual([
      'zero 4000+96',
      'zero 4096+8192',
      'zero 12288+8192',
      'zero 20480+4096',
      'zero 24576+424',
    ]);
  });

  it('falls back to writes in bounded pieces and one flush', async () => {
    const { backend, disk, seen } = await open({ size: 4 * MIB, canZero: true });
    disk.bytes.fill(9);
    disk.behave = (call) => (call.operation === 'zero' ? ioError('ENOTSUP') : undefined);
    await backend.writeZeroes(0, 2 * MIB + 512, FUA);
    expect(seen().filter((call) => !call.startsWith('zero'))).toEqual([
      `write 0+${MIB}`,
      `write ${MIB}+${MIB}`,
      `write ${2 * MIB}+512`,
      'flush',
    ]);
    expect(disk.bytes.subarray(0, 2 * MIB + 512).every((byte) => byte === 0)).toBe(true);
    expect(disk.bytes[2 * MIB + 512]).toBe(9);
  });

  it('with NO_FALLBACK fails with ENOTSUP instead of writing', async () => {
    const able = await open({
      size: 4096,
      canZero: true,
      zeroFlags: NO_FALLBACK,
      limits: { requestAlignment: 512 },
    });
    able.disk.behave = () => ioError('ENOTSUP');
    expect(await failure(() => able.backend.writeZeroes(0, 512, NO_FALLBACK))).toBe(errno.ENOTSUP);
    expect(able.seen()).toEqual([`zero 0+512 flags ${NO_FALLBACK}`]);
    expect(await failure(() => able.backend.writeZeroes(1, 512, NO_FALLBACK))).toBe(errno.ENOTSUP);
    const unable = await open({ size: 4096, canZero: true });
    expect(await failure(() => unable.backend.writeZeroes(0, 512, NO_FALLBACK))).toBe(
      errno.ENOTSUP,
    );
    expect([...able.seen(), ...unable.seen()]).toEqual([]);
  });

  it('unmaps for an owner whatever the discard option of the node says', async () => {
    for (const discard of ['ignore', 'unmap'] as const) {
      const { backend, seen } = await open(
        { size: 4096, canZero: true, zeroFlags: MAY_UNMAP },
        { discard },
      );
      await backend.writeZeroes(0, 512, MAY_UNMAP);
      expect(seen()).toEqual([`zero 0+512 flags ${MAY_UNMAP}`]);
    }
  });
});

describe('discard', () => {
  it('does nothing on a node with discard ignore', async () => {
    const { backend, seen } = await open({ size: 4096 });
    expect(backend.discard(0, 4096)).toBeUndefined();
    expect(seen()).toEqual([]);
  });

  it('is cut at the alignment of the device and ignores what it cannot do', async () => {
    const { backend, disk, seen } = await open(
      { size: MIB, limits: { discardAlignment: 4096, maxDiscard: 8192 } },
      { discard: 'unmap' },
    );
    disk.behave = (call) => (call.length < 4096 ? ioError('ENOTSUP') : undefined);
    await backend.discard(4000, 21000);
    expect(seen()).toEqual([
      'discard 4000+96',
      'discard 4096+8192',
      'discard 12288+8192',
      'discard 20480+4096',
      'discard 24576+424',
    ]);
  });

  it('passes real failures on', async () => {
    const { backend, disk } = await open({ size: 4096 }, { discard: 'unmap' });
    disk.behave = () => ioError('EIO');
    expect(await failure(() => backend.discard(0, 4096))).toBe(errno.EIO);
  });
});

describe('flush', () => {
  it('is skipped when nothing was written since the last one', async () => {
    const { backend, seen } = await open({ size: 4096 });
    await backend.flush();
    await backend.write(0, 512, buffer, 0);
    await backend.flush();
    await backend.flush();
    expect(seen()).toEqual(['write 0+512', 'flush']);
  });

  it('is tried again after it failed', async () => {
    const { backend, disk, seen } = await open({ size: 4096 });
    await backend.write(0, 512, buffer, 0);
    disk.behave = () => ioError('EIO');
    expect(await failure(() => backend.flush())).toBe(errno.EIO);
    disk.behave = () => undefined;
    await backend.flush();
    expect(seen()).toEqual(['write 0+512', 'flush', 'flush']);
  });

  it('never reaches the disk with cache.no-flush', async () => {
    const { backend, seen } = await open({ size: 4096 }, { cache: { 'no-flush': true } });
    await backend.write(0, 512, buffer, 0, FUA);
    await backend.flush();
    expect(seen()).toEqual(['write 0+512']);
  });

  it('covers those that came while another one was running with one more', async () => {
    const { backend, disk, seen } = await open({ size: 4096 });
    disk.behave = (call) => (call.operation === 'flush' ? later(3) : undefined);
    await backend.write(0, 512, buffer, 0);
    const first = backend.flush();
    await later();
    await backend.write(0, 512, buffer, 0);
    await Promise.all([first, backend.flush(), backend.flush(), backend.flush()]);
    expect(seen()).toEqual(['write 0+512', 'flush', 'write 0+512', 'flush']);
  });
});

describe('truncate', () => {
  it('refuses lengths that numbers cannot tell apart, before the driver hears of them', async () => {
    const { backend, seen } = await open({ size: MIB }, {}, PERM_RESIZE);
    const options = { exact: true, prealloc: 'off', flags: 0 } as const;
    await expect(backend.truncate(2 ** 53, options)).rejects.toMatchObject({
      message: 'offset(9007199254740992) exceeds maximum(9007199254740480)',
      cause: { errno: errno.EFBIG },
    });
    expect(seen()).toEqual([]);
  });
});
