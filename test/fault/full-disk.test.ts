// Writes that the file system or a limit of the process refuses, in part or altogether, whoever carries them out.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmdirSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { NbdPeer } from '../conformance/nbd-peer.ts';
import { ours } from '../conformance/side.ts';
import {
  goPayload,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_OPT_GO,
} from '../conformance/wire-steps.ts';
import { noRings } from '../helpers/io-uring.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { type Served, serve } from '../interop/serve.ts';

const MIB = 1024 * 1024;
/** MiB of a disk. */
const COUNT = 16;
const NBD_ENOSPC = 28;

/** A file system of 4 MiB, where one may be mounted. */
function mountSmall(): string | undefined {
  const directory = mkdtempSync(join(tmpdir(), 'qsd-full-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'none', directory], { stdio: 'ignore' });
    return directory;
  } catch {
    rmdirSync(directory);
    return undefined;
  }
}

function exporting(image: string, more: string): readonly string[] {
  return [
    '--blockdev',
    `file,node-name=f,filename=${image}${more}`,
    '--export',
    'nbd,id=e,node-name=f,name=ex,writable=on',
  ];
}

async function connected({ socket }: Served): Promise<NbdPeer> {
  const peer = await NbdPeer.connect(socket);
  await peer.greet(3);
  peer.sendOption(NBD_OPT_GO, goPayload('ex', []));
  await peer.optionReplies();
  return peer;
}

/** One after the other over all of the disk. */
function writes() {
  return Array.from({ length: COUNT }, (_, at) => ({
    type: NBD_CMD_WRITE,
    offset: at * MIB,
    payload: Buffer.alloc(MIB, at + 1),
  }));
}

const mounted = mountSmall();
afterAll(() => {
  if (mounted === undefined) return;
  execFileSync('umount', ['-l', mounted]);
  rmdirSync(mounted);
});

describe.skipIf(mounted === undefined)(
  `a full disk${mounted === undefined ? ' (a tmpfs cannot be mounted here)' : ''}`,
  () => {
    it.each([
      { more: '' },
      { more: ',aio=threads' },
      ...(noRings === undefined ? [{ more: ',aio=io_uring' }] : []),
    ])('is answered with ENOSPC, and the daemon lives: file$more', async ({ more }) => {
      const image = join(mounted ?? '', 'a.img');
      writeFileSync(image, '');
      truncateSync(image, COUNT * MIB);
      const served = await serve({ arguments: exporting(image, more) });
      const peer = await connected(served);
      const answers = await peer.requests(writes());
      expect(answers.slice(0, 3)).toEqual(['simple error 0', 'simple error 0', 'simple error 0']);
      expect(answers.at(-1)).toBe(`simple error ${NBD_ENOSPC}`);
      expect(new Set(answers)).toEqual(new Set(['simple error 0', `simple error ${NBD_ENOSPC}`]));
      expect(
        await peer.requests([{ type: NBD_CMD_FLUSH }, { type: NBD_CMD_READ, length: 8 }]),
      ).toEqual(['simple error 0', 'simple error 0 0101010101010101']);
      peer.close();
      await served.qmp.expect('query-block-exports');
      expect(await served.stop()).toBe('<exit 0>');
    });
  },
);

describe('a file that must not become longer', () => {
  const limit = 3 * MIB + 100 * 1024;
  const limited = {
    ...ours(),
    command: ['prlimit', `--fsize=${limit}`, ...ours().command] as const,
  };
  const rings = [',aio=io_uring', ',aio=io_uring,cache.direct=on'];

  it.each(['', ',aio=threads', ...(noRings === undefined ? rings : [])])(
    'is answered with ENOSPC from there on, and the daemon lives: file%s',
    async (more) => {
      const image = join(tempDir(), 'a.img');
      writeFileSync(image, '');
      truncateSync(image, COUNT * MIB);
      const served = await serve({ arguments: exporting(image, more), side: limited });
      const peer = await connected(served);
      expect(await peer.requests(writes())).toEqual([
        ...Array.from({ length: 3 }, () => 'simple error 0'),
        ...Array.from({ length: COUNT - 3 }, () => `simple error ${NBD_ENOSPC}`),
      ]);
      expect(await peer.requests([{ type: NBD_CMD_FLUSH }])).toEqual(['simple error 0']);
      peer.close();
      expect(await served.stop()).toBe('<exit 0>');
      const expected = Buffer.concat(writes().map(({ payload }) => payload)).subarray(0, limit);
      expect(readFileSync(image).subarray(0, limit).equals(expected)).toBe(true);
      expect(
        readFileSync(image)
          .subarray(limit)
          .equals(Buffer.alloc(COUNT * MIB - limit)),
      ).toBe(true);
    },
  );
});
