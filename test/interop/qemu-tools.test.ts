import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FileSetup } from '../conformance/case.ts';
import { missing } from '../helpers/reference.ts';
import { exported, run, type Served, serve, succeed } from './serve.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const reason = missing('qemu-img', 'qemu-io');

const sparse: FileSetup = {
  name: 'a.img',
  length: 64 * MIB,
  fill: [
    [0, 64 * KIB, 0x11],
    [MIB, 4 * KIB, 0x22],
    [20 * MIB + 8 * KIB, 300 * KIB, 0x33],
    [64 * MIB - 4 * KIB, 4 * KIB, 0x44],
  ],
};

const digest = (path: string): string =>
  createHash('sha256').update(readFileSync(path)).digest('hex');

interface MapEntry {
  readonly start: number;
  readonly length: number;
  readonly zero: boolean;
  readonly data: boolean;
}

async function extentsOf(...args: string[]): Promise<MapEntry[]> {
  const text = await succeed('qemu-img', 'map', '--output=json', '-f', 'raw', ...args);
  const entries = JSON.parse(text) as MapEntry[];
  return entries.map(({ start, length, zero, data }) => ({ start, length, zero, data }));
}

describe.skipIf(reason !== undefined)(`qemu-img and qemu-io${reason ? ` (${reason})` : ''}`, () => {
  let served: Served;

  beforeAll(async () => {
    served = await serve({
      files: [sparse, { name: 'target.img', length: 64 * MIB }, { name: 'odd.img', length: 1000 }],
      arguments: [
        ...exported('a.img'),
        '--blockdev',
        'file,node-name=t,filename=@DIR@/target.img,discard=unmap',
        '--export',
        'nbd,id=t,node-name=t,name=target,writable=on',
        '--blockdev',
        'file,node-name=odd,filename=@DIR@/odd.img,read-only=on',
        '--export',
        'nbd,id=odd,node-name=odd,name=odd',
      ],
    });
  });
  afterAll(async () => {
    expect(await served.stop()).toBe('<exit 0>');
  });

  it('qemu-img info tells the size', async () => {
    const text = await succeed('qemu-img', 'info', '--output=json', served.uri());
    expect(JSON.parse(text)).toMatchObject({ 'virtual-size': 64 * MIB, format: 'raw' });
  });

  it('qemu-img info rounds an odd file up to a sector', async () => {
    const text = await succeed('qemu-img', 'info', '--output=json', served.uri('odd'));
    expect(JSON.parse(text)).toMatchObject({ 'virtual-size': 1024 });
  });

  it('qemu-img map over NBD shows the extents of the file, exactly', async () => {
    expect(await extentsOf(served.uri())).toEqual(await extentsOf('-U', served.path('a.img')));
  });

  it('qemu-img convert reads an export into an equal, sparse file', async () => {
    const copy = served.path('copy.img');
    await succeed('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', served.uri(), copy);
    expect(digest(copy)).toBe(digest(served.path('a.img')));
    expect(statSync(copy).blocks).toBeLessThanOrEqual(statSync(served.path('a.img')).blocks);
  });

  it('qemu-img convert writes an export', async () => {
    const source = served.path('source.img');
    writeFileSync(
      source,
      Buffer.concat([randomBytes(3 * MIB), Buffer.alloc(29 * MIB), randomBytes(32 * MIB)]),
    );
    await succeed(
      'qemu-img',
      'convert',
      '-n',
      '-f',
      'raw',
      '-O',
      'raw',
      source,
      served.uri('target'),
    );
    expect(digest(served.path('target.img'))).toBe(digest(source));
    expect(statSync(served.path('target.img')).blocks * 512).toBeLessThan(36 * MIB);
  });

  it('qemu-img compare finds both equal, then a changed byte', async () => {
    const other = served.path('other.img');
    await succeed('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', served.uri(), other);
    const same = await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', served.uri(), other]);
    expect(same).toMatchObject({ status: 0, stdout: 'Images are identical.\n' });
    await succeed('qemu-io', '-f', 'raw', '-c', 'write -P 9 5M 512', other);
    const changed = await run('qemu-img', [
      'compare',
      '-f',
      'raw',
      '-F',
      'raw',
      served.uri(),
      other,
    ]);
    expect(changed).toMatchObject({ status: 1, stdout: 'Content mismatch at offset 5242880!\n' });
  });

  it('qemu-io writes, zeroes, discards, flushes and verifies', async () => {
    const commands = [
      'write -P 0xa5 30M 1M',
      'write -f -P 0x5a 31M 64k',
      'flush',
      'write -z -u 30M 64k',
      'write -z 30784k 64k',
      'discard 31M 32k',
      'read -P 0 30M 64k',
      'read -P 0 30784k 64k',
      'read -P 0xa5 31000k 4k',
      'read -P 0x5a 31776k 32k',
    ];
    const text = await succeed(
      'qemu-io',
      '-f',
      'raw',
      ...commands.flatMap((c) => ['-c', c]),
      served.uri('target'),
    );
    expect(text).not.toMatch(/failed|Pattern/);
  });

  it('qemu-io is refused past the end', async () => {
    const ran = await run('qemu-io', ['-f', 'raw', '-c', 'read 64M 512', served.uri()]);
    expect(ran.status).not.toBe(0);
  });

  it('serves a read-only export', async () => {
    const ran = await run('qemu-io', ['-f', 'raw', '-c', 'write 0 512', served.uri('odd')]);
    expect(`${ran.stdout}${ran.stderr}`).toMatch(/read-only|Permission denied/i);
  });
});

describe.skipIf(reason !== undefined)(`beyond 4 GiB${reason ? ` (${reason})` : ''}`, () => {
  let served: Served;
  const tib = 1024 * GIB;

  beforeAll(async () => {
    served = await serve({
      files: [{ name: 'a.img', length: 8 * tib }],
      arguments: exported('a.img'),
    });
  });
  afterAll(async () => {
    expect(await served.stop()).toBe('<exit 0>');
  });

  it('tells a size of 8 TiB', async () => {
    const text = await succeed('qemu-img', 'info', '--output=json', served.uri());
    expect(JSON.parse(text)).toMatchObject({ 'virtual-size': 8 * tib });
  });

  it('reads back what was written around 4 GiB, 5 TiB and the end', async () => {
    const commands = [
      `write -P 1 ${4 * GIB - 4096} 8192`,
      `write -P 2 ${5 * tib + 123} 1000`,
      `write -P 3 ${8 * tib - 512} 512`,
      `read -P 1 ${4 * GIB - 4096} 8192`,
      `read -P 2 ${5 * tib + 123} 1000`,
      `read -P 3 ${8 * tib - 512} 512`,
      `read -P 0 ${4 * GIB + 4096} 4096`,
      'read -P 0 0 4096',
    ];
    const text = await succeed(
      'qemu-io',
      '-f',
      'raw',
      ...commands.flatMap((c) => ['-c', c]),
      served.uri(),
    );
    expect(text).not.toMatch(/failed|Pattern/);
  });

  it('puts the extents where they are in the file', async () => {
    expect(await extentsOf(served.uri())).toEqual(await extentsOf('-U', served.path('a.img')));
  });
});
