import { describe, expect, it } from 'vitest';
import { errno } from '../../../../src/base/errno.ts';
import { silentLogger } from '../../../../src/base/log.ts';
import type { BlockBackend } from '../../../../src/block/block-backend.ts';
import { PERM_ALL, PERM_CONSISTENT_READ, PERM_WRITE } from '../../../../src/block/block-driver.ts';
import { allocate } from '../../../../src/sys/memory.ts';
import { testGraph } from '../graph-fixture.ts';
import { ioError, type MemoryDisk, memoryDisk } from '../memory-driver.ts';
import { outcome } from '../outcome.ts';

const SIZE = 65_536;

interface Pair {
  readonly test: MemoryDisk;
  readonly raw: MemoryDisk;
  readonly backend: BlockBackend;
  readonly logged: string[];
}

async function pair(): Promise<Pair> {
  const test = memoryDisk({ size: SIZE, canZero: true });
  const raw = memoryDisk({ size: SIZE, canZero: true });
  const logged: string[] = [];
  const graph = testGraph(test.driver, {
    log: { ...silentLogger, error: (message) => logged.push(message) },
    drivers: { 'null-co': raw.driver },
  });
  const node = await graph.add({
    driver: 'blkverify',
    'node-name': 'v',
    test: { driver: 'null-aio' },
    raw: { driver: 'null-co' },
  });
  const perm = PERM_CONSISTENT_READ | PERM_WRITE;
  const backend = graph.backend(node, { perm, shared: PERM_ALL });
  return { test, raw, backend, logged };
}

const buffer = allocate(4096);

describe('blkverify', () => {
  it('writes both nodes and reads what both have', async () => {
    const { test, raw, backend, logged } = await pair();
    buffer.bytes.fill(7);
    await backend.write(4096, 4096, buffer, 0);
    await backend.writeZeroes(8192, 512);
    expect(test.bytes.equals(raw.bytes)).toBe(true);
    buffer.bytes.fill(0);
    await backend.read(4096, 4096, buffer, 0);
    expect(buffer.bytes.every((byte) => byte === 7)).toBe(true);
    expect(logged).toEqual([]);
  });

  it('flushes the tested node alone', async () => {
    const { test, raw, backend } = await pair();
    await backend.write(0, 512, buffer, 0);
    await backend.flush();
    const flushes = (disk: MemoryDisk) =>
      disk.calls.filter(({ operation }) => operation === 'flush').length;
    expect([flushes(test), flushes(raw)]).toEqual([1, 0]);
  });

  it('fails a read of what differs, and says where', async () => {
    const { raw, backend, logged } = await pair();
    raw.bytes[1027] = 1;
    expect(await outcome(() => backend.read(1024, 512, buffer, 0))).toBe(errno.EIO);
    expect(await outcome(() => backend.read(0, 1024, buffer, 0))).toBe('ok');
    expect(logged).toEqual([
      'blkverify: read offset=1024 bytes=512 contents mismatch at offset 1027',
    ]);
  });

  it('fails a request that only one of them fails, or that both fail otherwise', async () => {
    const { test, raw, backend, logged } = await pair();
    test.behave = () => ioError('ENOSPC');
    expect(await outcome(() => backend.write(0, 512, buffer, 0))).toBe(errno.EIO);
    raw.behave = () => ioError('EPERM');
    expect(await outcome(() => backend.read(0, 512, buffer, 0))).toBe(errno.EIO);
    expect(logged).toEqual([
      'blkverify: write offset=0 bytes=512 return value mismatch -28 != 0',
      'blkverify: read offset=0 bytes=512 return value mismatch -28 != -1',
    ]);
  });

  it('fails as both of them do', async () => {
    const { test, raw, backend, logged } = await pair();
    test.behave = raw.behave = () => ioError('ENOSPC');
    expect(await outcome(() => backend.write(0, 512, buffer, 0))).toBe(errno.ENOSPC);
    expect(await outcome(() => backend.read(0, 512, buffer, 0))).toBe(errno.ENOSPC);
    expect(logged).toEqual([]);
  });
});
