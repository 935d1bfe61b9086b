// A disk that fails while a qcow2 image changes its metadata: requests fail, but the image stays one, and what was written
// before is there.

import { describe, expect, it } from 'vitest';
import { missing } from '../helpers/reference.ts';
import { run, serve, succeed } from '../interop/serve.ts';

const reason = missing('qemu-img', 'qemu-io');

/** Where the errors strike. */
const events = [
  'l1_update',
  'l2_alloc_write',
  'l2_update',
  'refblock_update_part',
  'cluster_alloc',
] as const;

describe.skipIf(reason !== undefined)(
  `a qcow2 image on a disk that fails${reason ? ` (${reason})` : ''}`,
  () => {
    it.each(events)('stays consistent when there is an error at %s', async (event) => {
      const served = await serve({ files: [{ name: 'a.qcow2', qcow2: {} }] });
      const path = served.path('a.qcow2');
      try {
        await succeed(
          'qemu-img',
          'create',
          '-q',
          '-f',
          'qcow2',
          '-o',
          'cluster_size=4k',
          path,
          '16M',
        );
        await succeed('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 64k', path);
        const options = {
          driver: 'qcow2',
          'node-name': 'q',
          file: {
            driver: 'blkdebug',
            image: { driver: 'file', filename: path },
            // Two failures, some requests apart.
            'inject-error': [
              { event, errno: 5, once: true, state: 1 },
              { event, errno: 28, once: true, state: 4 },
            ],
            'set-state': [1, 2, 3].map((state) => ({
              event: 'flush_to_disk',
              state,
              new_state: state + 1,
            })),
          },
        };
        await served.qmp.expect('blockdev-add', options);
        await served.qmp.expect('block-export-add', {
          type: 'nbd',
          id: 'e',
          'node-name': 'q',
          name: 'ex',
          writable: true,
        });
        const commands = Array.from({ length: 24 }, (_, at) => [
          `write -P ${at + 2} ${at * 640 + 70}k 6k`,
          ...(at % 4 === 3 ? ['flush'] : []),
        ]).flat();
        const io = ['-f', 'raw', '-t', 'writeback', ...commands.flatMap((each) => ['-c', each])];
        const { stdout, stderr } = await run('qemu-io', [...io, served.uri()]);
        expect(stdout + stderr).toContain('No space left on device');
        await served.qmp.expect('block-export-del', { id: 'e', mode: 'hard' });
        await served.qmp.expect('blockdev-del', { 'node-name': 'q' });
        // Clusters that nobody refers to are all that a failure may leave: 3 is for those.
        expect([0, 3]).toContain((await run('qemu-img', ['check', '-q', path])).status);
        const reads = ['read -P 1 0 64k', 'read -P 25 14790k 6k'];
        await succeed('qemu-io', '-f', 'qcow2', ...reads.flatMap((each) => ['-c', each]), path);
      } finally {
        await served.stop();
      }
    });
  },
);
