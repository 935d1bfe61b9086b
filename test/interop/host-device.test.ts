// The driver host_device on a real block device: a loop device over a file, so that everything it did can be looked at.

import { execFileSync } from 'node:child_process';
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { startDaemon } from '../helpers/daemon.ts';
import { loopMissing } from '../helpers/fuse.ts';
import { loopDevice } from '../helpers/loop-device.ts';
import { missing } from '../helpers/reference.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { succeed } from './serve.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const reason = loopMissing() ?? missing('qemu-io');

describe.skipIf(reason !== undefined)(`host_device${reason ? ` (${reason})` : ''}`, () => {
  it.each(['', ',cache.direct=on'])('reads, writes and discards a device%s', async (cache) => {
    const directory = tempDir();
    const backing = path.join(directory, 'disk.img');
    writeFileSync(backing, '');
    truncateSync(backing, 16 * MIB);
    const device = loopDevice(backing);
    const daemon = await startDaemon({
      directory,
      args: [
        '--blockdev',
        `host_device,node-name=h,filename=${device},discard=unmap${cache}`,
        '--nbd-server',
        'addr.type=unix,addr.path=nbd.sock',
        '--export',
        'nbd,id=e,node-name=h,writable=on',
      ],
    });
    const [node] = await daemon.qmp.execute('query-named-block-nodes');
    expect(node).toMatchObject({ drv: 'host_device', image: { 'virtual-size': 16 * MIB } });

    const commands = [
      'write -P 5 0 4M',
      'write -P 6 1000 3000',
      'write -z 1M 64k',
      'discard 2M 1M',
      'write -P 7 16776704 512',
      'flush',
      'read -P 6 1000 3000',
    ].flatMap((command) => ['-c', command]);
    const uri = `nbd+unix:///h?socket=${daemon.path('nbd.sock')}`;
    await succeed('qemu-io', '-f', 'raw', ...commands, uri);

    await expect(
      daemon.qmp.execute('block_resize', { 'node-name': 'h', size: 32 * MIB }),
    ).rejects.toThrow(/resize/i);
    await daemon.qmp.execute('block-export-del', { id: 'e' });
    await expect(
      daemon.qmp.execute('block_resize', { 'node-name': 'h', size: 32 * MIB }),
    ).rejects.toThrow('Cannot grow device files');
    await daemon.qmp.execute('blockdev-del', { 'node-name': 'h' });
    execFileSync('blockdev', ['--flushbufs', device]);

    const expected = Buffer.alloc(16 * MIB);
    expected.fill(5, 0, 4 * MIB);
    expected.fill(6, 1000, 4000);
    expected.fill(0, MIB, MIB + 64 * KIB);
    expected.fill(0, 2 * MIB, 3 * MIB);
    expected.fill(7, 16 * MIB - 512);
    expect(readFileSync(backing).equals(expected)).toBe(true);
    // What was discarded takes no room in the file below.
    expect(statSync(backing).blocks * 512).toBeLessThanOrEqual(3 * MIB + 128 * KIB);
  });
});
