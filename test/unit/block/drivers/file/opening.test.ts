import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { errno } from '../../../../../src/base/errno.ts';
import { PERM_ALL, PERM_WRITE } from '../../../../../src/block/block-driver.ts';
import { file, hostDevice } from '../../../../../src/block/drivers/file/file.ts';
import { O_RDWR } from '../../../../../src/sys/file.ts';
import { allocate } from '../../../../../src/sys/memory.ts';
import { openNode, scratch } from '../open-node.ts';
import { imageOf, MiB, pattern, writeBytes } from './image.ts';

function openDescriptorsOf(path: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    const link = `/proc/self/fd/${fd}`;
    return existsSync(link) && statSync(link).ino === statSync(path).ino;
  }).length;
}

describe('file: opening', () => {
  const cases: [what: string, filename: string, message: string][] = [
    [
      'a file that is not there',
      '/nowhere/at-all',
      "Could not open '/nowhere/at-all': No such file or directory",
    ],
    ['a directory', '/tmp', "Could not open '/tmp': Is a directory"],
    ['a device', '/dev/null', "'file' driver requires '/dev/null' to be a regular file"],
    [
      'a descriptor set',
      '/dev/fdset/3',
      'Could not dup FD for /dev/fdset/3 flags 2: Function not implemented',
    ],
    ['a broken descriptor set', '/dev/fdset/x', 'Could not parse fdset /dev/fdset/x'],
  ];
  it.each(cases)('refuses %s', async (_what, filename, message) => {
    await expect(openNode(file, { filename })).rejects.toThrow(message);
  });

  it('takes no prefix off the name', async () => {
    await expect(openNode(file, { filename: 'file:nope' })).rejects.toThrow(
      "Could not open 'file:nope': No such file or directory",
    );
  });

  it('refuses a FIFO without waiting for its other end', async () => {
    const filename = join(scratch(), 'fifo');
    execFileSync('mkfifo', [filename]);
    await expect(openNode(file, { filename }, { settings: { readOnly: true } })).rejects.toThrow(
      `'file' driver requires '${filename}' to be a regular file`,
    );
  });

  it('refuses aio=io_uring where the kernel has no rings, and closes the file again', async () => {
    const filename = imageOf(MiB);
    await expect(openNode(file, { filename, aio: 'io_uring' })).rejects.toThrow(
      'Unable to use io_uring: failed to init linux io_uring ring: Function not implemented',
    );
    expect(openDescriptorsOf(filename)).toBe(0);
  });

  it('wants native requests to go past the cache, whatever the file is', async () => {
    for (const filename of [imageOf(MiB), '/dev/null']) {
      await expect(openNode(file, { filename, aio: 'native' })).rejects.toThrow(
        'aio=native was specified, but it requires cache.direct=on, which was not specified.',
      );
    }
  });

  it('opens the wrong kind of file and closes it again', async () => {
    const path = join(scratch(), 'null');
    symlinkSync('/dev/null', path);
    const before = readdirSync('/proc/self/fd').length;
    await expect(openNode(file, { filename: path })).rejects.toThrow('to be a regular file');
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });

  it('reports a file system that has no length for the file', async () => {
    await expect(openNode(file, { filename: '/proc/version' })).rejects.toMatchObject({
      errno: errno.EINVAL,
    });
  });

  it('is read-write from the start unless auto-read-only waits for a writer', async () => {
    const filename = imageOf(4096);
    const plain = await openNode(file, { filename });
    expect(plain.state.openFlags).toBe(O_RDWR);
    const auto = await openNode(file, { filename }, { settings: { autoReadOnly: true } });
    expect(auto.state.openFlags).toBe(0);
    file.checkPermissions?.(auto, PERM_WRITE, PERM_ALL);
    file.setPermissions?.(auto, PERM_WRITE, PERM_ALL);
    expect(auto.state.openFlags).toBe(O_RDWR);
    await writeBytes(auto, 0, Buffer.alloc(512, 1));
    file.checkPermissions?.(auto, 0, PERM_ALL);
    file.setPermissions?.(auto, 0, PERM_ALL);
    expect(auto.state.openFlags).toBe(0);
    expect(openDescriptorsOf(filename)).toBe(2);
  });

  it('finishes requests on the old descriptor when it is replaced', async () => {
    const content = pattern(4 * MiB);
    const filename = imageOf(content);
    const node = await openNode(file, { filename }, { settings: { autoReadOnly: true } });
    const into = allocate(4 * MiB);
    const later = file.read(node, 0, 4 * MiB, into, 0, 0);
    file.checkPermissions?.(node, PERM_WRITE, PERM_ALL);
    file.setPermissions?.(node, PERM_WRITE, PERM_ALL);
    await later;
    expect(into.bytes.equals(content)).toBe(true);
    expect(openDescriptorsOf(filename)).toBe(1);
  });
});

describe('host_device', () => {
  it('refuses a regular file', async () => {
    const filename = imageOf(4096);
    await expect(openNode(hostDevice, { filename })).rejects.toThrow(
      `'host_device' driver requires '${filename}' to be either a character or block device`,
    );
    expect(openDescriptorsOf(filename)).toBe(0);
  });

  it('opens a character device, which has no length', async () => {
    const node = await openNode(hostDevice, { filename: '/dev/null' });
    expect(node.length).toBe(0);
    expect(() =>
      hostDevice.truncate?.(node, 512, { exact: true, prealloc: 'off', flags: 0 }),
    ).toThrow('Cannot resize device files');
    expect(() =>
      hostDevice.truncate?.(node, 0, { exact: true, prealloc: 'falloc', flags: 0 }),
    ).toThrow("Preallocation mode 'falloc' unsupported for this non-regular file");
  });
});
