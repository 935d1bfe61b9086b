// Raw external data files show to others what the guest sees, whatever the guest gives up and whatever options say about it.

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { MAY_UNMAP } from '../../../src/block/block-driver.ts';
import type { BlockdevOptionsQcow2 } from '../../../src/qapi/generated/types.ts';
import { bufferOf, type Opened, someContent } from '../../helpers/qcow2-disk.ts';
import {
  checkImage,
  contents,
  createImage,
  noQemuImg,
  openImage,
  scratch,
} from '../../helpers/qcow2-images.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** The last cluster is cut. */
const SIZE = MIB + 512;

const options: readonly Partial<BlockdevOptionsQcow2>[] = [
  {},
  { 'pass-discard-request': false },
  { 'data-file': { driver: 'file', filename: 'data', discard: 'ignore' } },
];

type Request = readonly [string, (disk: Opened['backend']) => unknown];
const requests: readonly Request[] = [
  ['a discard', (disk) => disk.discard(64 * KIB, 3 * 64 * KIB)],
  ['a discard of everything', (disk) => disk.discard(0, SIZE)],
  ['zeroes', (disk) => disk.writeZeroes(64 * KIB, 3 * 64 * KIB)],
  ['zeroes that may unmap', (disk) => disk.writeZeroes(256 * KIB, 64 * KIB, MAY_UNMAP)],
];
/** The ends are written as data. */
const cut: readonly Request[] = [
  ['a discard of the last cluster', (disk) => disk.discard(MIB, 512)],
  ['zeroes in a cluster', (disk) => disk.writeZeroes(70_000, 100_000, MAY_UNMAP)],
];

describe.skipIf(noQemuImg !== undefined)('a raw external data file', () => {
  it.each(options)('reads as the guest does: %j', async (more) => {
    const { data, image, disk } = await written(more);
    for (const [name, run] of [...cut, ...requests]) {
      await run(disk.backend);
      expect(data().equals(await contents(disk.backend)), name).toBe(true);
    }
    expect(data().equals(Buffer.alloc(SIZE))).toBe(true);
    await disk.close();
    expect(checkImage(image)).toMatchObject({ status: 0 });
  });

  it('keeps all of its content when it cannot be zeroed', async () => {
    const failing: Partial<BlockdevOptionsQcow2> = {
      'data-file': {
        driver: 'blkdebug',
        image: { driver: 'file', filename: 'data' },
        'inject-error': [{ event: 'none', iotype: 'write-zeroes', errno: 5 }],
      },
    };
    const { data, image, disk, before } = await written(failing);
    for (const [name, run] of requests) {
      await expect((async () => run(disk.backend))(), name).rejects.toMatchObject({ errno: 5 });
      expect(data().equals(before), name).toBe(true);
      expect((await contents(disk.backend)).equals(before), name).toBe(true);
    }
    await disk.close();
    expect(checkImage(image)).toMatchObject({ status: 0 });
  });
});

interface Written {
  readonly image: string;
  readonly disk: Opened;
  readonly before: Buffer;
  /** The data file now. */
  readonly data: () => Buffer;
}

/** A disk that is full of data. File names of the options are in its directory. */
async function written(more: Partial<BlockdevOptionsQcow2>): Promise<Written> {
  const directory = scratch();
  const image = `${directory}/image`;
  const data = `${directory}/data`;
  createImage({ path: image, size: SIZE, options: `data_file=${data},data_file_raw=on` });
  const text = JSON.stringify(more).replaceAll('"data"', JSON.stringify(data));
  const disk = await openImage(image, JSON.parse(text) as Partial<BlockdevOptionsQcow2>);
  const before = someContent(1, SIZE);
  await disk.backend.write(0, SIZE, bufferOf(before), 0);
  return { image, disk, before, data: () => readFileSync(data).subarray(0, SIZE) };
}
