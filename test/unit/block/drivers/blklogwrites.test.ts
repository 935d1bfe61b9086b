import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { errno } from '../../../../src/base/errno.ts';
import type { BlockBackend } from '../../../../src/block/block-backend.ts';
import { PERM_ALL, PERM_CONSISTENT_READ, PERM_WRITE } from '../../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../../src/block/block-graph.ts';
import { allocate } from '../../../../src/sys/memory.ts';
import { testGraph } from '../graph-fixture.ts';
import { ioError, later, type MemoryDisk, memoryDisk } from '../memory-driver.ts';

const SIZE = 64 * 1024;
const LOG_SIZE = 4 * 1024 * 1024;

interface Noting {
  readonly graph: BlockGraph;
  readonly disk: MemoryDisk;
  readonly log: MemoryDisk;
  /** Opens the filter again; the log stays as it is. */
  readonly open: (options?: object) => Promise<BlockBackend>;
}

function noting(log: MemoryDisk = memoryDisk({ size: LOG_SIZE, canZero: true })): Noting {
  const disk = memoryDisk({ size: SIZE, canZero: true });
  const graph = testGraph(disk.driver, { drivers: { 'null-co': log.driver } });
  const open = async (options: object = {}): Promise<BlockBackend> => {
    const node = await graph.add({
      driver: 'blklogwrites',
      'node-name': 'top',
      file: { driver: 'null-aio' },
      log: { driver: 'null-co' },
      discard: 'unmap',
      ...options,
    });
    return graph.backend(node, { perm: PERM_CONSISTENT_READ | PERM_WRITE, shared: PERM_ALL });
  };
  return { graph, disk, log, open };
}

const buffer = allocate(SIZE);

/** `w 8+1`, in sectors of the log: as many entries as the superblock tells of. */
function entriesOf({ bytes }: MemoryDisk): string[] {
  return [...walk(bytes)].map(({ kind, sector, sectors }) => `${kind} ${sector}+${sectors}`);
}

/** The disk as it was after all that the log has. */
function replayed({ bytes }: MemoryDisk): Buffer {
  const image = Buffer.alloc(SIZE);
  for (const { kind, sector, data } of walk(bytes)) {
    if (kind === 'w') data.copy(image, sector * sectorSizeOf(bytes));
  }
  return image;
}

const sectorSizeOf = (log: Buffer): number => log.readUInt32LE(24);

function* walk(log: Buffer) {
  expect(log.subarray(0, 16).toString('hex')).toBe('7268737766736a000100000000000000');
  const size = sectorSizeOf(log);
  const kinds: Readonly<Record<string, string>> = { 0: 'w', 1: 'flush', 4: 'discard' };
  let at = size;
  for (let left = Number(log.readBigUInt64LE(16)); left > 0; left--) {
    const [sector = 0, sectors = 0, flags, dataLength] = [0, 8, 16, 24].map((field) =>
      Number(log.readBigUInt64LE(at + field)),
    );
    expect(dataLength).toBe(0);
    const kind = kinds[String(flags)];
    const data = log.subarray(at + size, at + size + (kind === 'w' ? sectors * size : 0));
    yield { kind, sector, sectors, data };
    at += size + data.length;
  }
}

describe('blklogwrites', () => {
  it.each([512, 4096])(
    'notes writes, zeroes, discards and flushes in sectors of %d',
    async (size) => {
      const { log, open } = noting();
      const backend = await open({ 'log-sector-size': size });
      buffer.bytes.fill(5);
      await backend.write(8192, 4096, buffer, 0);
      await backend.writeZeroes(4096, 4096);
      await backend.discard(16_384, 8192);
      await backend.flush();
      const unit = 4096 / size;
      expect(entriesOf(log)).toEqual([
        `w ${2 * unit}+${unit}`,
        `w ${unit}+${unit}`,
        `discard ${4 * unit}+${2 * unit}`,
        'flush 0+0',
      ]);
    },
  );

  it('gives back the disk when its log is played, whatever the requests', async () => {
    const request = fc.record({
      kind: fc.constantFrom('write', 'write', 'zero', 'flush'),
      offset: fc.nat(SIZE / 512 - 1),
      count: fc.integer({ min: 1, max: 24 }),
      byte: fc.integer({ min: 1, max: 255 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(request, { maxLength: 20 }), async (requests) => {
        const { graph, disk, log, open } = noting();
        const backend = await open();
        for (const { kind, offset, count, byte } of requests) {
          const length = Math.min(count * 512, SIZE - offset * 512);
          buffer.bytes.fill(byte, 0, length);
          if (kind === 'write') await backend.write(offset * 512, length, buffer, 0);
          else if (kind === 'zero') await backend.writeZeroes(offset * 512, length);
          else await backend.flush();
        }
        await backend.flush();
        await backend.release();
        await graph.close();
        if (requests.some(({ kind }) => kind !== 'flush')) {
          expect(replayed(log).equals(disk.bytes)).toBe(true);
        }
      }),
      { numRuns: 30 },
    );
  });

  it('goes on with a log, and with its sector size', async () => {
    const { graph, disk, log, open } = noting();
    const first = await open({ 'log-sector-size': 1024 });
    buffer.bytes.fill(1);
    await first.write(0, 2048, buffer, 0);
    await first.discard(0, 1024);
    await first.release();
    await graph.remove('top');
    const second = await open({ 'log-append': true });
    buffer.bytes.fill(2);
    await second.write(4096, 1024, buffer, 0);
    await second.flush();
    expect(entriesOf(log)).toEqual(['w 0+2', 'discard 0+1', 'flush 0+0', 'w 4+1', 'flush 0+0']);
    expect(replayed(log).equals(disk.bytes)).toBe(true);
  });

  it('writes the superblock as often as it is told, and never an older one last', async () => {
    const { log, open } = noting();
    const backend = await open({ 'log-super-update-interval': 2 });
    // Superblocks take longer the earlier they are written.
    let turns = 64;
    log.behave = ({ operation, offset }) => {
      if (operation !== 'write' || offset !== 0) return undefined;
      turns /= 2;
      return later(turns);
    };
    const writes = Array.from({ length: 8 }, async (_, index) =>
      backend.write(index * 512, 512, buffer, 0),
    );
    await Promise.all(writes);
    expect(
      log.calls.filter(({ offset, operation }) => operation === 'write' && offset === 0),
    ).toHaveLength(4);
    expect(entriesOf(log)).toHaveLength(8);
  });

  it('notes what failed, and fails when it cannot note', async () => {
    const { disk, log, open } = noting();
    const backend = await open();
    disk.behave = () => ioError('EIO');
    await expect((async () => backend.write(0, 512, buffer, 0))()).rejects.toMatchObject({
      errno: errno.EIO,
    });
    disk.behave = () => undefined;
    await backend.flush();
    expect(entriesOf(log)).toEqual(['w 0+1', 'flush 0+0']);
    log.behave = () => ioError('ENOSPC');
    await expect((async () => backend.write(0, 512, buffer, 0))()).rejects.toMatchObject({
      errno: errno.ENOSPC,
    });
  });

  it.each([
    ['a magic number that is none', { magic: 1n }, 'Invalid log superblock magic'],
    ['another version', { version: 2n }, 'Unsupported log version 2'],
    ['a sector size that is none', { sectorSize: 768 }, 'Invalid log sector size 768'],
    ['a tiny sector', { sectorSize: 16 }, 'Invalid log sector size 16'],
    [
      'more entries than there is room for',
      { entries: 2n ** 64n - 1n },
      'Failed to read log entry',
    ],
    ['unknown flags', { entries: 1n, flags: 0x110n }, 'Invalid flags 0x110 in log entry 0'],
    [
      'an entry longer than anything',
      { entries: 1n, sectors: 2n ** 63n },
      'Failed to read log entry 0',
    ],
    ['entries behind one', { entries: 2n, sectors: 2n ** 63n }, 'Failed to read log entry 1'],
  ])('refuses to go on with a log that has %s', async (_what, fields, text) => {
    const log = memoryDisk({ size: 4096, canZero: true });
    const {
      magic = 0x6a736677736872n,
      version = 1n,
      entries = 0n,
      sectorSize = 512,
    } = fields as {
      magic?: bigint;
      version?: bigint;
      entries?: bigint;
      sectorSize?: number;
    };
    const { sectors = 0n, flags = 0n } = fields as { sectors?: bigint; flags?: bigint };
    log.bytes.writeBigUInt64LE(magic, 0);
    log.bytes.writeBigUInt64LE(version, 8);
    log.bytes.writeBigUInt64LE(entries, 16);
    log.bytes.writeUInt32LE(sectorSize, 24);
    log.bytes.writeBigUInt64LE(sectors, 512 + 8);
    log.bytes.writeBigUInt64LE(flags, 512 + 16);
    await expect(noting(log).open({ 'log-append': true })).rejects.toThrow(text);
  });
});
