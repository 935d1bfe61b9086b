// A backup from a moment in the past while the source is written to: copy-before-write and snapshot-access, with the programs
// that people use for it.

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { missing } from '../helpers/reference.ts';
import { serve, succeed } from './serve.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const SIZE = 8 * MIB;
const reason = missing('qemu-io', 'nbdcopy', 'qemu-img');

const fleecing = [
  'file,node-name=source,filename=@DIR@/source.img',
  'file,node-name=temporary,filename=@DIR@/temporary.img',
  'copy-before-write,node-name=guarded,file=source,target=temporary',
  'snapshot-access,node-name=past,file=guarded',
].flatMap((options) => ['--blockdev', options]);

describe.skipIf(reason !== undefined)(`fleecing${reason ? ` (${reason})` : ''}`, () => {
  it('copies what was there when it began while the source is written to', async () => {
    const served = await serve({
      files: [
        {
          name: 'source.img',
          length: SIZE,
          fill: [
            [0, MIB, 0x11],
            [3 * MIB, 512 * KIB, 0x22],
            [SIZE - 64 * KIB, 64 * KIB, 0x33],
          ],
        },
        { name: 'temporary.img', length: SIZE },
        { name: 'backup.img', length: SIZE },
      ],
      arguments: [
        ...fleecing,
        '--export',
        'nbd,id=live,node-name=guarded,name=live,writable=on',
        '--export',
        'nbd,id=past,node-name=past,name=past',
      ],
    });
    try {
      const before = readFileSync(served.path('source.img'));
      const write = (pattern: number): Promise<string> =>
        succeed(
          'qemu-io',
          '-f',
          'raw',
          '-t',
          'writeback',
          ...Array.from({ length: 32 }, (_, at) => [
            '-c',
            `write -P ${pattern} ${at * 252}k 60k`,
          ]).flat(),
          '-c',
          'write -z 3M 64k',
          '-c',
          'flush',
          served.uri('live'),
        );
      const copy = succeed('nbdcopy', served.uri('past'), served.path('backup.img'));
      await Promise.all([write(0xaa), copy]);
      await write(0xbb);
      expect(readFileSync(served.path('backup.img')).equals(before)).toBe(true);
      // Later, and all of it from what was saved.
      const again = await succeed(
        'qemu-img',
        'convert',
        '-f',
        'raw',
        '-O',
        'raw',
        served.uri('past'),
        served.path('again.img'),
      );
      expect(again).toBe('');
      expect(readFileSync(served.path('again.img')).equals(before)).toBe(true);
      const now = readFileSync(served.path('source.img'));
      expect(now[1]).toBe(0xbb);
      expect(now[3 * MIB]).toBe(0);
    } finally {
      await served.stop();
    }
  });
});
