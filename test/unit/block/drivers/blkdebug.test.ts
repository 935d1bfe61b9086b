import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { errno } from '../../../../src/base/errno.ts';
import type { BlockBackend } from '../../../../src/block/block-backend.ts';
import { PERM_ALL, PERM_CONSISTENT_READ, PERM_WRITE } from '../../../../src/block/block-driver.ts';
import type { BlockGraph } from '../../../../src/block/block-graph.ts';
import type { BlockdevOptionsBlkdebug } from '../../../../src/qapi/generated/types.ts';
import { allocate } from '../../../../src/sys/memory.ts';
import { testGraph } from '../graph-fixture.ts';
import { type MemoryDisk, memoryDisk } from '../memory-driver.ts';
import { outcome } from '../outcome.ts';
import { scratch } from './open-node.ts';

const MIB = 1024 * 1024;
const buffer = allocate(MIB);
const perm = PERM_CONSISTENT_READ | PERM_WRITE;

interface Made {
  readonly graph: BlockGraph;
  readonly disk: MemoryDisk;
  readonly backend: BlockBackend;
}

async function debugged(options: Partial<BlockdevOptionsBlkdebug>): Promise<Made> {
  const disk = memoryDisk({ size: MIB, canZero: true });
  const graph = testGraph(disk.driver);
  const node = await graph.add({
    driver: 'blkdebug',
    'node-name': 'x',
    discard: 'unmap',
    image: { driver: 'null-aio' },
    ...options,
  });
  return { graph, disk, backend: graph.backend(node, { perm, shared: PERM_ALL }) };
}

describe('rules of blkdebug', () => {
  it('make requests of their kind fail, with their error', async () => {
    const { backend } = await debugged({
      'inject-error': [
        { event: 'none', iotype: 'read', errno: errno.ENOSPC },
        { event: 'none', iotype: 'discard' },
        { event: 'none', iotype: 'flush', errno: errno.EROFS, immediately: true },
        { event: 'none', iotype: 'block-status' },
      ],
    });
    expect(await outcome(() => backend.read(0, 512, buffer, 0))).toBe(errno.ENOSPC);
    expect(await outcome(() => backend.write(0, 512, buffer, 0))).toBe('ok');
    expect(await outcome(() => backend.writeZeroes(0, 4096))).toBe('ok');
    expect(await outcome(() => backend.discard(0, 4096))).toBe(errno.EIO);
    expect(await outcome(() => backend.flush())).toBe(errno.EROFS);
    expect(await outcome(() => backend.blockStatus(0, 512))).toBe(errno.EIO);
  });

  it('look at the sector, and are used once if they say so', async () => {
    const { backend } = await debugged({
      'inject-error': [{ event: 'none', sector: 8, once: true }],
    });
    expect(await outcome(() => backend.read(0, 4096, buffer, 0))).toBe('ok');
    expect(await outcome(() => backend.write(4608, 512, buffer, 0))).toBe('ok');
    expect(await outcome(() => backend.read(3584, 1024, buffer, 0))).toBe(errno.EIO);
    expect(await outcome(() => backend.read(3584, 1024, buffer, 0))).toBe('ok');
  });

  it('go by the state, and the first that changes it has the last word', async () => {
    const { backend } = await debugged({
      'set-state': [
        { event: 'pwritev', state: 1, new_state: 2 },
        { event: 'pwritev', new_state: 3 },
        { event: 'pwritev_done', state: 2, new_state: 1 },
      ],
      'inject-error': [
        { event: 'pwritev_done', state: 2, iotype: 'read' },
        { event: 'pwritev_done', state: 3, iotype: 'flush' },
      ],
    });
    expect(await outcome(() => backend.read(0, 512, buffer, 0))).toBe('ok');
    expect(await outcome(() => backend.write(0, 512, buffer, 0))).toBe('ok');
    expect(await outcome(() => backend.read(0, 512, buffer, 0))).toBe(errno.EIO);
    expect(await outcome(() => backend.flush())).toBe('ok');
  });

  it('without an error let through what others would not', async () => {
    const { backend } = await debugged({
      'inject-error': [
        { event: 'none', errno: 0, sector: 0 },
        { event: 'none', errno: errno.EIO },
      ],
    });
    expect(await outcome(() => backend.read(0, 512, buffer, 0))).toBe('ok');
    expect(await outcome(() => backend.read(512, 512, buffer, 0))).toBe(errno.EIO);
  });

  it('may come from a file, and those come first', async () => {
    const config = join(scratch(), 'rules');
    writeFileSync(
      config,
      '# rules\n\n[inject-error]\nevent = "none"\nerrno = "28"\nsector = "1"\nonce = "on"\n' +
        '[inject-error "two"]\n  event = "none"\n  iotype = "write"\n',
    );
    const { backend } = await debugged({
      config,
      'inject-error': [{ event: 'none', errno: errno.EROFS }],
    });
    expect(await outcome(() => backend.read(512, 512, buffer, 0))).toBe(errno.ENOSPC);
    expect(await outcome(() => backend.write(512, 512, buffer, 0))).toBe(errno.EIO);
    expect(await outcome(() => backend.read(512, 512, buffer, 0))).toBe(errno.EROFS);
  });

  it('are none in a pipe that nobody writes to, and nobody waits for them', async () => {
    const config = join(scratch(), 'rules');
    execFileSync('mkfifo', [config]);
    const { backend } = await debugged({ config });
    expect(await outcome(() => backend.read(0, 512, buffer, 0))).toBe('ok');
  });
});

describe('limits of blkdebug', () => {
  it('are what the request path keeps to', async () => {
    const { backend, disk } = await debugged({
      align: 4096,
      'max-transfer': 16_384,
      'opt-write-zero': 8192,
      'max-write-zero': 65_536,
    });
    disk.calls.splice(0);
    await backend.write(0, 32_768, buffer, 0);
    await backend.writeZeroes(0, 131_072);
    await backend.read(512, 512, buffer, 0);
    expect(disk.calls.map((call) => `${call.operation} ${call.offset}+${call.length}`)).toEqual([
      'write 0+16384',
      'write 16384+16384',
      'zero 0+65536',
      'zero 65536+65536',
      'read 0+4096',
    ]);
  });

  it('may be less than what discards of the nodes below are aligned to', async () => {
    const { backend, disk } = await debugged({
      'max-discard': 4096,
      image: {
        driver: 'blkdebug',
        discard: 'unmap',
        'opt-discard': 8192,
        image: { driver: 'null-aio' },
      },
    });
    disk.calls.splice(0);
    await backend.discard(6144, 8192);
    expect(disk.calls.map((call) => `${call.operation} ${call.offset}+${call.length}`)).toEqual([
      'discard 6144+2048',
      'discard 8192+4096',
      'discard 12288+2048',
    ]);
  });
});

describe('events', () => {
  it('of qcow2 reach the node that holds the image', async () => {
    const folder = scratch();
    const filename = join(folder, 'image');
    writeFileSync(filename, '');
    const graph = testGraph();
    await graph.add({ driver: 'file', 'node-name': 'f', filename });
    await graph.imageMaker({ driver: 'qcow2', file: 'f', size: 64 * MIB })();
    await graph.add({
      driver: 'blkdebug',
      'node-name': 'd',
      image: 'f',
      'set-state': [
        { event: 'cluster_alloc', state: 1, new_state: 2 },
        { event: 'l2_update', state: 2, new_state: 3 },
        { event: 'flush_to_disk', state: 3, new_state: 4 },
      ],
      'inject-error': [{ event: 'write_aio', state: 4, errno: errno.ENOSPC, once: true }],
    });
    const top = await graph.add({ driver: 'qcow2', 'node-name': 'top', file: 'd' });
    const backend = graph.backend(top, { perm, shared: PERM_ALL });
    expect(await outcome(() => backend.write(0, 65_536, buffer, 0))).toBe('ok');
    expect(await outcome(() => backend.write(0, 512, buffer, 0))).toBe('ok');
    expect(await outcome(() => backend.flush())).toBe('ok');
    expect(await outcome(() => backend.write(0, 512, buffer, 0))).toBe(errno.ENOSPC);
    expect(await outcome(() => backend.write(0, 512, buffer, 0))).toBe('ok');
  });

  it('of a write that is not aligned are raised on the node itself', async () => {
    const { backend } = await debugged({
      align: 4096,
      'inject-error': [
        { event: 'pwritev_rmw_tail', iotype: 'read', errno: errno.EROFS, once: true },
        { event: 'pwritev_rmw_after_head', iotype: 'write', errno: errno.ENOSPC, once: true },
      ],
    });
    expect(await outcome(() => backend.write(0, 512, buffer, 0))).toBe(errno.EROFS);
    expect(await outcome(() => backend.write(4608, 3584, buffer, 0))).toBe(errno.ENOSPC);
    expect(await outcome(() => backend.write(4608, 512, buffer, 0))).toBe('ok');
  });
});
