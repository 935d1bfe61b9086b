import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmdirSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { NbdPeer } from '../conformance/nbd-peer.ts';
import {
  goPayload,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_OPT_GO,
} from '../conformance/wire-steps.ts';
import { noRings } from '../helpers/io-uring.ts';
import { serve } from '../interop/serve.ts';

const MIB = 1024 * 1024;
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
      truncateSync(image, 16 * MIB);
      const served = await serve({
        arguments: [
          '--blockdev',
          `file,node-name=f,filename=${image}${more}`,
          '--export',
          'nbd,id=e,node-name=f,name=ex,writable=on',
        ],
      });
      const peer = await NbdPeer.connect(served.socket);
      await peer.greet(3);
      peer.sendOption(NBD_OPT_GO, goPayload('ex', []));
      await peer.optionReplies();
      const writes = Array.from({ length: 16 }, (_, at) => ({
        type: NBD_CMD_WRITE,
        offset: at * MIB,
        payload: Buffer.alloc(MIB, at + 1),
      }));
      const answers = await peer.requests(writes);
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
