import { describe, expect, it } from 'vitest';
import { ProtocolError } from '../../../../src/base/errors.ts';
import {
  decodeFallocate,
  decodeHeader,
  decodeInit,
  decodeLseek,
  decodeSetattr,
  decodeTransfer,
  decodeWrite,
  encodeAttributes,
  encodeHeader,
  encodeInit,
  encodeLseek,
  encodeStatfs,
  encodeWrite,
  newRequest,
} from '../../../../src/export/fuse/wire.ts';

/** Bytes as Linux 6 sends them and libfuse answers them, recorded from the reference. */
const bytes = (hex: string): DataView => {
  const buffer = Buffer.from(hex.replace(/\s/g, ''), 'hex');
  return new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
};

const header = (length: string, opcode: string): string =>
  `${length} ${opcode} 0a00000001000000 0100000000000000 00000000 00000000 1c5b0000 0000 0000`;

const hexOf = (view: DataView, at: number, length: number): string =>
  Buffer.from(view.buffer, view.byteOffset + at, length).toString('hex');

describe('decodeHeader', () => {
  it('takes a request apart', () => {
    const request = newRequest();
    decodeHeader(bytes(header('28000000', '0f000000')), 0, 40, request);
    expect(request).toMatchObject({ opcode: 15, uniqueLow: 10, uniqueHigh: 1, node: 1 });
  });

  it('decodes at any place', () => {
    const request = newRequest();
    decodeHeader(bytes(`ffffffffffff ${header('28000000', '0e000000')}`), 6, 40, request);
    expect(request).toMatchObject({ opcode: 14, node: 1 });
  });

  it.each([
    ['a length that is too small', '27000000'],
    ['a length that is too large', '29000000'],
    ['a length of nothing', '00000000'],
    ['a length of all', 'ffffffff'],
  ])('refuses %s, with the request known', (_, length) => {
    const request = newRequest();
    const view = bytes(header(length, '03000000'));
    expect(() => decodeHeader(view, 0, 40, request)).toThrow(ProtocolError);
    expect(request).toMatchObject({ opcode: 3, uniqueLow: 10, uniqueHigh: 1 });
  });

  it.each([0, 1, 39])('refuses %i bytes', (received) => {
    const view = bytes(header('28000000', '03000000'));
    expect(() => decodeHeader(view, 0, received, newRequest())).toThrow('request header');
  });
});

describe('arguments', () => {
  const transfer =
    '0000000000000000 0010000001000000 00400000 00000000 0000000000000000 00800000 00000000';

  it('READ and WRITE have a place and a size', () => {
    const request = newRequest();
    decodeTransfer(bytes(transfer), 0, request);
    expect(request).toMatchObject({ offset: 0x1_0000_1000, length: 0x4000 });
    decodeWrite(bytes(transfer), 0, request, 40 + 0x4000);
    expect(request).toMatchObject({ offset: 0x1_0000_1000, length: 0x4000 });
  });

  it.each([40, 41, 40 + 0x3fff, 40 + 0x4001, 40 + 0x8000])(
    'a WRITE of 0x4000 bytes in %i bytes of arguments is refused',
    (received) => {
      expect(() => decodeWrite(bytes(transfer), 0, newRequest(), received)).toThrow('write size');
    },
  );

  it('offsets that are negative for the kernel are beyond every file', () => {
    const request = newRequest();
    decodeTransfer(bytes(transfer.replace('0010000001000000', 'ffffffffffffffff')), 0, request);
    expect(request.offset).toBeGreaterThan(Number.MAX_SAFE_INTEGER);
  });

  it('FALLOCATE has a range and a mode', () => {
    const request = newRequest();
    const view = '0000000000000000 0002000000000000 0000000080000000 03000000 00000000';
    decodeFallocate(bytes(view), 0, request);
    expect(request).toMatchObject({ offset: 512, length: 0x80_0000_0000, mode: 3 });
  });

  it('LSEEK has an offset and a whence', () => {
    const request = newRequest();
    decodeLseek(bytes('0000000000000000 0002000000000000 04000000 00000000'), 0, request);
    expect(request).toMatchObject({ offset: 512, mode: 4 });
  });

  it('SETATTR says what is to change', () => {
    const view = bytes(
      `09020000 00000000 0000000000000000 0000100000000000 0000000000000000
       ${'00'.repeat(36)} a4810000 00000000 e8030000 e9030000 00000000`,
    );
    expect(decodeSetattr(view, 0)).toEqual({
      valid: 0x209,
      size: 1048576,
      mode: 0o100644,
      uid: 1000,
      gid: 1001,
    });
  });

  it('INIT says what the kernel knows, in 16 bytes or more', () => {
    const view = bytes(`07000000 2d000000 00000200 fbffff73 fd050000 ${'00'.repeat(44)}`);
    const init = { major: 7, minor: 45, maxReadahead: 131072, flags: 0x73fffffb };
    expect(decodeInit(view, 0, 64)).toEqual(init);
    expect(decodeInit(view, 0, 16)).toEqual(init);
    expect(() => decodeInit(view, 0, 15)).toThrow('FUSE_INIT');
  });
});

describe('replies', () => {
  const request = { ...newRequest(), uniqueLow: 10, uniqueHigh: 1 };
  const room = (): DataView => new DataView(new ArrayBuffer(256).slice(0));

  it('repeat the unique number behind length and error', () => {
    const view = room();
    encodeHeader(view, 0, request, 8, 0);
    expect(hexOf(view, 0, 16)).toBe('18000000000000000a00000001000000');
    encodeHeader(view, 0, request, 0, 38);
    expect(hexOf(view, 0, 16)).toBe('10000000daffffff0a00000001000000');
  });

  it('attributes, as the reference encodes them', () => {
    const view = room();
    for (let at = 0; at < 256; at++) view.setUint8(at, 0xee);
    const attributes = {
      size: 1048576,
      blocks: 2048,
      time: 0x6b011faf,
      mode: 0o100600,
      uid: 0,
      gid: 0,
      blockSize: 1,
    };
    encodeAttributes(view, 0, attributes, { node: 1, valid: 1 });
    const expected = `0100000000000000 00000000 00000000 0100000000000000 0000100000000000
      0008000000000000 af1f016b00000000 af1f016b00000000 af1f016b00000000
      00000000 00000000 00000000 80810000 01000000 00000000 00000000 00000000 01000000 00000000`;
    expect(hexOf(view, 0, 104)).toBe(expected.replace(/\s/g, ''));
    expect(view.getUint8(104)).toBe(0xee);
  });

  it('sizes above 4 GiB', () => {
    const view = room();
    encodeLseek(view, 0, 0x12_3456_7890);
    expect(hexOf(view, 0, 8)).toBe('9078563412000000');
    encodeWrite(view, 0, 6);
    expect(hexOf(view, 0, 8)).toBe('0600000000000000');
  });

  it('statfs has 80 bytes', () => {
    const view = room();
    for (let at = 0; at < 256; at++) view.setUint8(at, 0xee);
    encodeStatfs(view, 0, { blockSize: 512, nameLength: 255 });
    expect(hexOf(view, 0, 81)).toBe(`${'00'.repeat(40)}00020000ff000000${'00'.repeat(32)}ee`);
  });

  it('INIT has 64 bytes', () => {
    const view = room();
    for (let at = 0; at < 256; at++) view.setUint8(at, 0xee);
    encodeInit(view, 0, {
      maxReadahead: 131072,
      flags: 0x409029,
      maxBackground: 64,
      congestionThreshold: 48,
      maxWrite: 1048576,
      maxPages: 256,
    });
    expect(hexOf(view, 0, 65)).toBe(
      `070000001f00000000000200299040004000300000001000010000000001${'00'.repeat(34)}ee`,
    );
  });
});
