import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeDirectory,
  decodeTableEntry,
  encodeDirectory,
  encodeTableEntry,
  type StoredBitmap,
} from '../../../../../src/block/drivers/qcow2/bitmap-directory.ts';
import {
  decodeExtensions,
  EXT_BITMAPS,
  encodeBitmaps,
} from '../../../../../src/block/drivers/qcow2/header-extensions.ts';
import { QmpError } from '../../../../../src/qapi/errors.ts';

const CLUSTER = 4096;
const limits = { count: 1, clusterSize: CLUSTER, size: 2 ** 20 };

function bitmap(more: Partial<StoredBitmap> = {}): StoredBitmap {
  const name = more.name ?? 'b';
  return {
    name,
    nameBytes: Buffer.from(name),
    granularityBits: 16,
    tableOffset: 8192n,
    tableSize: 1,
    inUse: false,
    auto: true,
    ...more,
  };
}

/** One entry, changed. */
function changed(change: (entry: Buffer) => void, more: Partial<StoredBitmap> = {}): Buffer {
  const directory = encodeDirectory([bitmap(more)]);
  change(directory);
  return directory;
}

describe('decodeDirectory', () => {
  it('answers what encodeDirectory was given', () => {
    const stored = fc
      .record({
        name: fc.string({ unit: 'binary', maxLength: 200 }).filter((name) => !name.includes('\0')),
        granularityBits: fc.integer({ min: 9, max: 31 }),
        tableOffset: fc.integer({ min: 1, max: 2 ** 40 }).map((one) => BigInt(one * CLUSTER)),
        tableSize: fc.integer({ min: 1, max: 131072 }),
        auto: fc.boolean(),
      })
      .map((one) => bitmap({ ...one, inUse: true }));
    fc.assert(
      fc.property(fc.array(stored, { maxLength: 20 }), (bitmaps) => {
        const directory = encodeDirectory(bitmaps);
        expect(directory.length % 8).toBe(0);
        const decoded = decodeDirectory(directory, { ...limits, count: bitmaps.length });
        expect(decoded).toEqual(
          bitmaps.map((one) => ({ ...one, nameBytes: Buffer.from(one.name) })),
        );
      }),
      { numRuns: 100 },
    );
  });

  const constraints = "Bitmap 'b' doesn't satisfy the constraints";
  it.each<[string, Buffer, string]>([
    ['no table', changed((entry) => entry.fill(0, 0, 8)), constraints],
    ['a table of no entries', changed((entry) => entry.writeUInt32BE(0, 8)), constraints],
    ['a table that is too long', changed((entry) => entry.writeUInt32BE(131073, 8)), constraints],
    ['a table between clusters', changed((entry) => entry.writeUInt8(1, 7)), constraints],
    ['flags that nobody knows', changed((entry) => entry.writeUInt8(4, 15)), constraints],
    ['another type', changed((entry) => entry.writeUInt8(2, 16)), constraints],
    ['granules below a sector', changed((entry) => entry.writeUInt8(8, 17)), constraints],
    ['granules above 2 GiB', changed((entry) => entry.writeUInt8(32, 17)), constraints],
    [
      'extra data',
      Buffer.concat([changed((entry) => entry.writeUInt8(1, 23)), Buffer.alloc(8)]),
      'Bitmap extra data is not supported',
    ],
    [
      'extra data of 4 GiB',
      changed((entry) => entry.fill(0xff, 20, 24)),
      'Bitmap extra data is not supported',
    ],
    [
      'a name behind the end',
      changed((entry) => entry.writeUInt16BE(100, 18)),
      'Broken bitmap directory',
    ],
    ['half an entry', encodeDirectory([bitmap()]).subarray(0, 16), 'Broken bitmap directory'],
    [
      'two entries for one',
      encodeDirectory([bitmap(), bitmap()]),
      'More bitmaps found than specified in header extension',
    ],
    ['nothing', Buffer.alloc(0), 'Less bitmaps found than specified in header extension'],
  ])('refuses %s', (_, directory, text) => {
    expect(() => decodeDirectory(directory, limits)).toThrow(new QmpError(text));
  });

  it('refuses a table that is too short for the disk, unless it is out of date anyway', () => {
    const long = { ...limits, size: CLUSTER * 8 * 65536 + 512 };
    expect(() => decodeDirectory(encodeDirectory([bitmap()]), long)).toThrow(constraints);
    expect(decodeDirectory(encodeDirectory([bitmap({ inUse: true })]), long)).toHaveLength(1);
  });

  it('ends the name at a NUL, and keeps bytes that are no text', () => {
    const nul = changed((entry) => entry.writeUInt8(0, 25), { name: 'abc' });
    expect(decodeDirectory(nul, limits)[0]).toMatchObject({
      name: 'a',
      nameBytes: Buffer.from('a'),
    });
    const odd = changed((entry) => entry.writeUInt8(0xff, 24), { name: 'abc' });
    expect(encodeDirectory(decodeDirectory(odd, limits)).equals(odd)).toBe(true);
  });

  it('answers or throws QmpError, whatever the bytes', () => {
    const valid = encodeDirectory([bitmap({ name: 'one' }), bitmap({ name: 'two', inUse: true })]);
    const edits = fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { maxLength: 6 });
    fc.assert(
      fc.property(edits, fc.nat(valid.length), (changes, length) => {
        const bytes = Buffer.from(valid);
        for (const [at, value] of changes) bytes.writeUInt8(value, at);
        try {
          decodeDirectory(bytes.subarray(0, length), { ...limits, count: 2 });
        } catch (error) {
          expect(error).toBeInstanceOf(QmpError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('entries of a bitmap table', () => {
  it('are what they were', () => {
    const view = new DataView(new ArrayBuffer(8));
    for (const entry of ['zeroes', 'ones', CLUSTER, 3 * CLUSTER, 2 ** 55] as const) {
      encodeTableEntry(view, 0, entry);
      expect(decodeTableEntry(view, 0, CLUSTER)).toBe(entry);
    }
  });

  it.each([
    ['reserved bits at the top', 0x01000000_00001000n],
    ['reserved bits at the bottom', 0x00000000_00001002n],
    ['an offset and ones', 0x00000000_00001001n],
    ['an offset between clusters', 0x00000000_00000200n],
  ])('cannot have %s', (_, entry) => {
    const view = new DataView(new ArrayBuffer(8));
    view.setBigUint64(0, entry);
    expect(decodeTableEntry(view, 0, CLUSTER)).toBeUndefined();
  });
});

describe('the bitmaps extension', () => {
  function decoded(content: Buffer, bitmapsValid = true): unknown {
    const bytes = Buffer.alloc(8 + Math.ceil(content.length / 8) * 8 + 8);
    bytes.writeUInt32BE(EXT_BITMAPS, 0);
    bytes.writeUInt32BE(content.length, 4);
    content.copy(bytes, 8);
    const area = { start: 0, end: bytes.length };
    return decodeExtensions(bytes, area, { clusterBits: 12, cryptMethod: 0, bitmapsValid });
  }
  const extension = { count: 2, directoryOffset: 8192, directoryLength: 64 };

  it('is what it was', () => {
    expect(decoded(encodeBitmaps(extension))).toMatchObject({
      bitmaps: extension,
      hasStaleBitmaps: false,
    });
  });

  it('counts for nothing where the autoclear bit is gone, whatever it says', () => {
    expect(decoded(encodeBitmaps({ ...extension, count: 0 }), false)).toMatchObject({
      bitmaps: undefined,
      hasStaleBitmaps: true,
    });
  });

  it.each([
    [{ count: 0 }, 'found bitmaps extension with zero bitmaps'],
    [
      { count: 65536 },
      'bitmaps_ext: Image has 65536 bitmaps, exceeding the QEMU supported maximum of 65535',
    ],
    [{ directoryOffset: 512 }, 'bitmaps_ext: invalid bitmap directory offset'],
    [
      { directoryLength: 2 ** 40 },
      'bitmaps_ext: bitmap directory size (1099511627776) exceeds the maximum supported size (67107840)',
    ],
  ])('refuses %o', (more, text) => {
    expect(() => decoded(encodeBitmaps({ ...extension, ...more }))).toThrow(new QmpError(text));
  });

  it('has one length', () => {
    expect(() => decoded(Buffer.alloc(16))).toThrow('bitmaps_ext: Invalid extension length');
  });
});
