import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ours, reference, type Side } from '../conformance/side.ts';
import { missing } from '../helpers/reference.ts';
import { serve, succeed } from './serve.ts';

const MIB = 1024 * 1024;
const reason = missing('qemu-storage-daemon', 'qemu-io');

// None that has to be durable at once: the reference forgets the flush when nothing was flushed before.
const requests = [
  'write -P 1 0 64k',
  'write -P 2 4k 8k',
  'flush',
  'write -z 8k 16k',
  'write -P 3 1M 4k',
  'discard 512k 64k',
  'write -P 4 1000k 100k',
];

/** The log of the same requests, and the image that they made. */
async function logged(side: Side, sectorSize: number): Promise<{ log: Buffer; image: Buffer }> {
  const served = await serve({
    side,
    files: [{ name: 'a.img', length: 2 * MIB }, { name: 'a.log' }],
    arguments: [
      '--blockdev',
      'file,node-name=f,filename=@DIR@/a.img',
      '--blockdev',
      `blklogwrites,node-name=l,discard=unmap,file=f,log.driver=file,log.filename=@DIR@/a.log,log-sector-size=${sectorSize}`,
      '--export',
      'nbd,id=e,node-name=l,name=ex,writable=on',
    ],
  });
  try {
    const commands = requests.flatMap((request) => ['-c', request]);
    await succeed(
      'qemu-io',
      '-f',
      'raw',
      '-d',
      'unmap',
      '-t',
      'writeback',
      ...commands,
      served.uri(),
    );
    await served.qmp.expect('block-export-del', { id: 'e', mode: 'hard' });
    await served.qmp.expect('blockdev-del', { 'node-name': 'l' });
    return { log: readFileSync(served.path('a.log')), image: readFileSync(served.path('a.img')) };
  } finally {
    await served.stop();
  }
}

describe.skipIf(reason !== undefined)(`logs of writes${reason ? ` (${reason})` : ''}`, () => {
  it.each([512, 4096])('are those of the reference, in sectors of %i', async (sectorSize) => {
    const [here, there] = await Promise.all([
      logged(ours(), sectorSize),
      logged(reference(), sectorSize),
    ]);
    expect(here.log.equals(there.log)).toBe(true);
    expect(here.image.equals(there.image)).toBe(true);
    expect(here.log.readUInt32LE(24)).toBe(sectorSize);
  });
});
