import { readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { silentLogger } from '../../../../../src/base/log.ts';
import { PERM_ALL, PERM_RESIZE } from '../../../../../src/block/block-driver.ts';
import { file } from '../../../../../src/block/drivers/file/file.ts';
import type { BlockdevCreateOptionsFile } from '../../../../../src/qapi/generated/types.ts';
import { openNode, scratch } from '../open-node.ts';

const MiB = 1024 * 1024;

function imageOf(bytes: Buffer): string {
  const path = join(scratch(), 'disk.img');
  writeFileSync(path, bytes);
  return path;
}

function openDescriptorsOf(path: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      return false;
    }
  }).length;
}

describe('file: create', () => {
  const unused = (): never => {
    throw new Error('not used');
  };
  const context = {
    log: silentLogger,
    servedFiles: new Set<string>(),
    allocate: unused,
    find: unused,
    openBackend: unused,
  };
  const create = (options: Omit<BlockdevCreateOptionsFile, 'filename'>, filename: string) =>
    file.create?.({ filename, ...options }, context);

  it('makes a file that only its owner may write', async () => {
    const path = join(scratch(), 'new.img');
    await create({ size: 3 * MiB }, path);
    expect(statSync(path)).toMatchObject({ size: 3 * MiB, mode: 0o100644 & ~process.umask() });
    expect(openDescriptorsOf(path)).toBe(0);
  });

  it('empties a file that is there', async () => {
    const path = imageOf(Buffer.alloc(8192, 5));
    await create({ size: 4096, nocow: true, 'extent-size-hint': 65536 }, path);
    expect(readFileSync(path).equals(Buffer.alloc(4096))).toBe(true);
  });

  it('reserves storage', async () => {
    const path = imageOf(Buffer.alloc(8192, 5));
    await create({ size: MiB, preallocation: 'falloc' }, path);
    expect(statSync(path).blocks * 512).toBeGreaterThanOrEqual(MiB);
  });

  it('fails at once where it can, and leaves the file alone', () => {
    const path = imageOf(Buffer.alloc(512, 5));
    expect(() => create({ size: 1, 'extent-size-hint': 2 ** 32 }, path)).toThrow(
      'Extent size hint is too large',
    );
    expect(() => create({ size: 1 }, '/nowhere/x')).toThrow(
      "Could not create '/nowhere/x': No such file or directory",
    );
    expect(statSync(path).size).toBe(512);
  });

  it('does not touch a file that somebody resizes or needs as long as it is', async () => {
    const filename = imageOf(Buffer.alloc(512, 5));
    const node = await openNode(file, { filename });
    file.checkPermissions?.(node, PERM_RESIZE, PERM_ALL);
    file.setPermissions?.(node, PERM_RESIZE, PERM_ALL);
    expect(() => create({ size: 1 }, filename)).toThrow('Failed to get shared "resize" lock');
    file.checkPermissions?.(node, 0, PERM_ALL & ~PERM_RESIZE);
    file.setPermissions?.(node, 0, PERM_ALL & ~PERM_RESIZE);
    expect(() => create({ size: 1 }, filename)).toThrow('Failed to get "resize" lock');
    expect(openDescriptorsOf(filename)).toBe(1);
    expect(statSync(filename).size).toBe(512);
  });
});
