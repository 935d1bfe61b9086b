import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { noRing } from '../../../../../src/base/request-ring.ts';
import { OTHERS_WAIT } from '../../../../../src/block/block-driver.ts';
import { BouncePool } from '../../../../../src/block/bounce-pool.ts';
import { ImageFile } from '../../../../../src/block/drivers/file/image-file.ts';
import { writeFile } from '../../../../../src/block/drivers/file/transfer.ts';
import { O_RDWR } from '../../../../../src/sys/file.ts';
import { allocate } from '../../../../../src/sys/memory.ts';

const KIB = 1024;
const data = allocate(256 * KIB);
let directory: string;
let image: ImageFile;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'transfer-'));
  const path = join(directory, 'a.img');
  writeFileSync(path, '');
  image = new ImageFile({
    path,
    openFlags: O_RDWR,
    expect: 'regular file',
    driverName: 'file',
    locking: false,
    aio: 'threads',
    ring: noRing,
    dropsCache: true,
    bounce: new BouncePool(allocate),
  });
  data.bytes.fill(7);
});

afterEach(() => {
  image.close();
  rmSync(directory, { recursive: true });
});

describe('file: a write of what fits the page cache', () => {
  it.each([
    { length: 4 * KIB, flags: 0 },
    { length: 4 * KIB, flags: OTHERS_WAIT },
    { length: 256 * KIB, flags: 0 },
  ])('is done at once: $length bytes, flags $flags', ({ length, flags }) => {
    expect(writeFile(image, 0, length, data, 0, flags)).toBeUndefined();
    expect(readFileSync(image.path).equals(data.bytes.subarray(0, length))).toBe(true);
  });

  it('is done beside the main thread when it is long and others wait', async () => {
    const later = writeFile(image, 0, 256 * KIB, data, 0, OTHERS_WAIT);
    expect(later).toBeInstanceOf(Promise);
    await later;
    expect(readFileSync(image.path).equals(data.bytes)).toBe(true);
  });
});
