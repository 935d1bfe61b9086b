// Which clusters that become free are discarded in the file, for which cause: what is left of the file, beside what the
// reference leaves of it with the same options.

import { copyFileSync, readFileSync, statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { BlockdevOptions, BlockdevOptionsQcow2 } from '../../../src/qapi/generated/types.ts';
import { startDaemon, type TestDaemon } from '../../helpers/daemon.ts';
import { checkImage, createImage, noQemuImg, scratch } from '../../helpers/qcow2-images.ts';
import { missing, referenceMissing } from '../../helpers/reference.ts';
import { succeed } from '../serve.ts';

const MIB = 2 ** 20;
const SIZE = 8 * MIB;
const reason = noQemuImg ?? referenceMissing() ?? missing('qemu-io');

type Options = Partial<BlockdevOptionsQcow2> & Pick<BlockdevOptions, 'discard'>;
type Passes = 'request' | 'snapshot' | 'other';

interface Life {
  readonly name: string;
  readonly options: Options;
  /** MiB of the data that are discarded in the file. */
  readonly discarded: number;
  readonly what: (disk: Disk) => Promise<unknown>;
}

/** A disk in a daemon, all of it written. */
interface Disk {
  readonly daemon: TestDaemon;
  /** Lets qemu-io do something to it. */
  readonly io: (...commands: string[]) => Promise<void>;
}

/** All passes off but one. */
function only(pass: Passes | 'none'): Options {
  return {
    discard: 'unmap',
    'pass-discard-request': pass === 'request',
    'pass-discard-snapshot': pass === 'snapshot',
    'pass-discard-other': pass === 'other',
  };
}

const discards = ({ io }: Disk): Promise<void> => io('discard 1M 3M', 'flush');
const zeroes = ({ io }: Disk): Promise<void> => io('write -z -u 1M 3M', 'flush');
const keepsZeroes = ({ io }: Disk): Promise<void> => io('write -z 1M 3M', 'flush');
const shortens = ({ daemon }: Disk): Promise<unknown> =>
  daemon.qmp.execute('block_resize', { 'node-name': 'q', size: 5 * MIB });
/** Of 2 MiB there are two versions until the snapshot goes. */
async function deletesSnapshot({ daemon, io }: Disk): Promise<void> {
  const snapshot = { device: 'q', name: 's' };
  await daemon.qmp.execute('blockdev-snapshot-internal-sync', snapshot);
  await io('write -P 2 1M 2M', 'flush');
  await daemon.qmp.execute('blockdev-snapshot-delete-internal-sync', snapshot);
}

const lives: readonly Life[] = [
  { name: 'discard', options: { discard: 'unmap' }, discarded: 3, what: discards },
  { name: 'discard', options: { discard: 'ignore' }, discarded: 0, what: discards },
  { name: 'discard', options: only('request'), discarded: 3, what: discards },
  { name: 'discard', options: only('snapshot'), discarded: 0, what: discards },
  { name: 'discard', options: only('other'), discarded: 0, what: discards },
  { name: 'zeroes', options: only('request'), discarded: 3, what: zeroes },
  { name: 'zeroes', options: only('other'), discarded: 0, what: zeroes },
  { name: 'zeroes that keep', options: only('request'), discarded: 0, what: keepsZeroes },
  { name: 'shorter disk', options: only('none'), discarded: 3, what: shortens },
  { name: 'snapshot', options: { discard: 'ignore' }, discarded: 0, what: deletesSnapshot },
  { name: 'snapshot', options: only('snapshot'), discarded: 0, what: deletesSnapshot },
  { name: 'snapshot', options: only('request'), discarded: -2, what: deletesSnapshot },
  { name: 'snapshot', options: only('none'), discarded: -2, what: deletesSnapshot },
];

describe.skipIf(reason !== undefined)(`discard passes (${reason ?? 'with the reference'})`, () => {
  it('leave as much data in the file as the reference does', async () => {
    const written = `${scratch()}/written`;
    // Small tables, which do not count.
    createImage({ path: written, size: SIZE, options: 'cluster_size=4096' });
    await succeed('qemu-io', '-c', `write -P 1 0 ${SIZE}`, written);
    const ours = await startDaemon({ args: server });
    const theirs = await startDaemon({ args: server, command: ['qemu-storage-daemon'] });
    for (const life of lives) {
      const told = `${life.name} ${JSON.stringify(life.options)}`;
      expect(await discardedBy(theirs, written, life), `the reference: ${told}`).toBe(
        life.discarded,
      );
      expect(await discardedBy(ours, written, life), told).toBe(life.discarded);
      const check = checkImage(ours.path('image'));
      expect(check.status, check.text).toBe(0);
    }
  });

  it.each([true, false])('have an old L1 table go, or not: %s', async (other) => {
    const passes = { discard: 'unmap', 'pass-discard-other': other } as const;
    for (const command of [[], ['qemu-storage-daemon']]) {
      const daemon = await startDaemon(command.length === 0 ? {} : { command });
      const path = daemon.path('image');
      createImage({ path, size: MIB, options: 'cluster_size=512' });
      await succeed('qemu-io', '-c', 'write 0 1M', path);
      const table = Number(readFileSync(path).readBigUInt64BE(40));
      await daemon.qmp.execute('blockdev-add', node(passes));
      await daemon.qmp.execute('block_resize', { 'node-name': 'q', size: 100 * MIB });
      await daemon.qmp.execute('blockdev-del', { 'node-name': 'q' });
      const file = readFileSync(path);
      expect(Number(file.readBigUInt64BE(40))).not.toBe(table);
      expect(file.subarray(table, table + 256).every((byte) => byte === 0)).toBe(other);
      expect(checkImage(path)).toMatchObject({ status: 0 });
    }
  });
});

const server = ['--nbd-server', 'addr.type=unix,addr.path=nbd.sock'];

function node(options: Options): BlockdevOptions {
  const file = { driver: 'file', filename: 'image' } as const;
  return { driver: 'qcow2', 'node-name': 'q', file, ...options };
}

async function discardedBy(
  daemon: TestDaemon,
  written: string,
  { options, what }: Life,
): Promise<number> {
  const path = daemon.path('image');
  copyFileSync(written, path);
  const before = allocated(path);
  await daemon.qmp.execute('blockdev-add', node(options));
  const io = async (...commands: string[]): Promise<void> => {
    const id = { id: 'e' };
    const share = { type: 'nbd', 'node-name': 'q', name: 'e', writable: true, ...id } as const;
    await daemon.qmp.execute('block-export-add', share);
    const args = commands.flatMap((command) => ['-c', command]);
    const uri = `nbd+unix:///e?socket=${daemon.path('nbd.sock')}`;
    await succeed('qemu-io', '-d', 'unmap', '-f', 'raw', ...args, uri);
    await removed(daemon);
  };
  await what({ daemon, io });
  await daemon.qmp.execute('blockdev-del', { 'node-name': 'q' });
  return before - allocated(path);
}

async function removed({ qmp }: TestDaemon): Promise<void> {
  const gone = new Promise<void>((done) => {
    const stop = qmp.onEvent(({ event }) => {
      if (event !== 'BLOCK_EXPORT_DELETED') return;
      stop();
      done();
    });
  });
  await qmp.execute('block-export-del', { id: 'e', mode: 'hard' });
  await gone;
}

/** MiB, to the next one. */
function allocated(path: string): number {
  return Math.round((statSync(path).blocks * 512) / MIB);
}
