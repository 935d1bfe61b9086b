import { describe, expect, it } from 'vitest';
import { encodeConfig } from '../../../../src/export/virtio-blk/config.ts';
import {
  decodeHeader,
  isOnDisk,
  segmentRefusal,
} from '../../../../src/export/virtio-blk/request.ts';

const IOERR = 1;
const UNSUPP = 2;
const DISCARD = 11;
const WRITE_ZEROES = 13;

describe('decodeHeader', () => {
  it('takes the barrier flag off and reads all of the sector', () => {
    const bytes = Buffer.alloc(16);
    bytes.writeUInt32LE(0x8000_000d, 0);
    bytes.writeBigUInt64LE(0x1_2345_6789n, 8);
    const request = { type: 0, sector: 0 };
    decodeHeader(new DataView(bytes.buffer, bytes.byteOffset), 0, request);
    expect(request).toEqual({ type: WRITE_ZEROES, sector: 0x1_2345_6789 });
  });
});

describe('isOnDisk', () => {
  const disk = { length: 1024 * 1024, blockSize: 4096 };

  it.each([
    ['all of it', 0, 1024 * 1024, true],
    ['its last block', 2040, 4096, true],
    ['nothing at its end', 2048, 0, true],
    ['half a block', 2040, 512, true],
    ['one sector more', 2040, 4608, false],
    ['what is behind it', 2056, 0, false],
    ['half a sector', 0, 256, false],
    ['a begin inside of a block', 1, 512, false],
    ['the end of all sectors', 2 ** 64, 512, false],
    ['more than any request', 0, 2 ** 31, false],
  ])('%s', (_what, sector, length, expected) => {
    expect(isOnDisk(disk, sector, length)).toBe(expected);
  });
});

describe('segmentRefusal', () => {
  const disk = { length: 64 * 1024 * 1024, blockSize: 512 };
  const segment = (more: object) => ({ sector: 0, sectors: 8, flags: 0, ...more });

  it.each([
    ['a discard', DISCARD, {}, undefined],
    ['zeroes that may be holes', WRITE_ZEROES, { flags: 1 }, undefined],
    ['the largest', DISCARD, { sectors: 32768 }, undefined],
    ['nothing', WRITE_ZEROES, { sectors: 0 }, undefined],
    ['one sector too many', WRITE_ZEROES, { sectors: 32769 }, IOERR],
    ['one that leaves the disk', DISCARD, { sector: 131_071, sectors: 2 }, IOERR],
    ['a discard that unmaps', DISCARD, { flags: 1 }, UNSUPP],
    ['a flag that nobody knows', WRITE_ZEROES, { flags: 2 }, UNSUPP],
    ['two faults: the area counts', DISCARD, { sectors: 32769, flags: 2 }, IOERR],
  ])('%s', (_what, type, more, expected) => {
    expect(segmentRefusal(type, segment(more), disk)).toBe(expected);
  });
});

describe('encodeConfig', () => {
  it('tells whole sectors only', () => {
    const config = encodeConfig({ length: 1535, blockSize: 512, queues: 1, writeBack: true });
    expect(config.readBigUInt64LE()).toBe(2n);
  });
});
