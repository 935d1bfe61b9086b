// How long the file of an image is, which anybody sees: as long as the reference makes it, whatever part of a cluster is written
// first. And how much room it takes.

import { statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Request } from '../../conformance/case.ts';
import { NbdPeer } from '../../conformance/nbd-peer.ts';
import {
  goPayload,
  NBD_CMD_FLUSH,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_OPT_GO,
  NO_HOLE,
} from '../../conformance/wire-steps.ts';
import { startDaemon, type TestDaemon } from '../../helpers/daemon.ts';
import { checkImage, createImage, noQemuImg } from '../../helpers/qcow2-images.ts';
import { referenceMissing } from '../../helpers/reference.ts';

const MIB = 2 ** 20;
const CUT = 4 * MIB + 1536;
const reason = noQemuImg ?? referenceMissing();

interface Life {
  readonly name: string;
  /** Of the disk, bytes. Default: 4 MiB. */
  readonly size?: number;
  readonly requests: readonly Request[];
}

const write = (offset: number, length: number): Request => ({
  type: NBD_CMD_WRITE,
  offset,
  payload: Buffer.alloc(length, 1),
});
const zeroes = (offset: number, length: number, flags = 0): Request => ({
  type: NBD_CMD_WRITE_ZEROES,
  offset,
  length,
  flags,
});
const discard = (offset: number, length: number): Request => ({
  type: NBD_CMD_TRIM,
  offset,
  length,
});

const lives: readonly Life[] = [
  { name: 'the start of a cluster', requests: [write(0, 512)] },
  { name: 'the middle of a cluster', requests: [write(MIB + 5120, 1024)] },
  { name: 'the end of a cluster', requests: [write(MIB - 512, 512)] },
  { name: 'parts of neighbours', requests: [write(MIB - 1024, 2048)] },
  { name: 'one cluster after the other', requests: [write(0, 512), write(MIB, 512)] },
  { name: 'the last cluster, which is cut', size: CUT, requests: [write(4 * MIB, 512)] },
  { name: 'all of the last cluster', size: CUT, requests: [write(4 * MIB, 1536)] },
  { name: 'zeroes', requests: [write(MIB, 1), zeroes(0, MIB), write(512, 512)] },
  { name: 'zeroes that keep', requests: [write(0, MIB), zeroes(0, MIB, NO_HOLE), write(512, 512)] },
  { name: 'a discarded place', requests: [write(0, MIB), discard(0, MIB), write(512, 512)] },
];

const layouts = [
  'cluster_size=65536',
  'cluster_size=4096,compat=0.10',
  'cluster_size=16384,extended_l2=on',
];

describe.skipIf(reason !== undefined)(`the file of an image (${reason ?? 'as there'})`, () => {
  it.each(layouts)('has the length that it has there: %s', async (options) => {
    const args = ['--nbd-server', 'addr.type=unix,addr.path=nbd.sock'];
    const [ours, theirs] = await Promise.all([
      startDaemon({ args }),
      startDaemon({ args, command: ['qemu-storage-daemon'] }),
    ]);
    for (const life of lives) {
      const [found, expected] = await Promise.all([
        lengths(ours, life, options),
        lengths(theirs, life, options),
      ]);
      expect([life.name, found]).toEqual([life.name, expected]);
      expect(checkImage(ours.path('image'))).toMatchObject({ status: 0 });
    }
  });

  it('has room for a cluster of which a part is written', async () => {
    const daemon = await startDaemon({
      args: ['--nbd-server', 'addr.type=unix,addr.path=nbd.sock'],
    });
    const before = createImage({ path: daemon.path('image') });
    const empty = statSync(before).blocks;
    await lengths(daemon, { name: 'a byte', requests: [write(MIB / 2, 1)] }, 'cluster_size=2M');
    expect((statSync(daemon.path('image')).blocks - empty) * 512).toBeGreaterThanOrEqual(2 * MIB);
  });
});

/** Bytes, after each request and in the end. */
async function lengths(
  daemon: TestDaemon,
  { size = 4 * MIB, requests }: Life,
  options: string,
): Promise<readonly number[]> {
  const { qmp } = daemon;
  const path = daemon.path('image');
  createImage({ path, size, options });
  const length = (): number => statSync(path).size;
  await qmp.execute('blockdev-add', {
    driver: 'qcow2',
    'node-name': 'q',
    discard: 'unmap',
    file: { driver: 'file', filename: 'image' },
  });
  const id = { id: 'e' };
  const share = { type: 'nbd', 'node-name': 'q', name: 'x', writable: true, ...id } as const;
  await qmp.execute('block-export-add', share);
  const peer = await NbdPeer.connect(daemon.path('nbd.sock'));
  await peer.greet(3);
  peer.sendOption(NBD_OPT_GO, goPayload('x', []));
  expect((await peer.optionReplies()).at(-1)).toBe('option 7 reply 0x1');
  const seen: number[] = [];
  for (const request of requests) {
    const answers = await peer.requests([request, { type: NBD_CMD_FLUSH }]);
    expect(answers).toEqual(['simple error 0', 'simple error 0']);
    seen.push(length());
  }
  peer.close();
  const gone = qmp.waitForEvent('BLOCK_EXPORT_DELETED');
  await qmp.execute('block-export-del', { mode: 'hard', ...id });
  await gone;
  await qmp.execute('blockdev-del', { 'node-name': 'q' });
  return [...seen, length()];
}
