import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ProtocolError } from '../../../../src/base/errors.ts';
import {
  EXTENDED_REQUEST_SIZE,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_REQUEST_MAGIC,
  REQUEST_SIZE,
} from '../../../../src/net/nbd/protocol.ts';
import {
  chunkSizeOf,
  decodeExtendedRequest,
  decodeOptionMagic,
  decodeRequest,
  decodeStatusPayload,
  encodeChunk,
  encodeExportNameReply,
  encodeGreeting,
  encodeOptionReply,
  encodeSimpleReply,
  NbdRequest,
  putU64,
  spellLength,
  spellOffset,
  u64,
} from '../../../../src/net/nbd/wire.ts';

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function encoded(request: {
  flags: number;
  type: number;
  cookie: bigint;
  offset: bigint;
  length: number;
}): Buffer {
  const bytes = Buffer.alloc(REQUEST_SIZE);
  bytes.writeUInt32BE(NBD_REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(request.flags, 4);
  bytes.writeUInt16BE(request.type, 6);
  bytes.writeBigUInt64BE(request.cookie, 8);
  bytes.writeBigUInt64BE(request.offset, 16);
  bytes.writeUInt32BE(request.length, 24);
  return bytes;
}

const u16s = fc.integer({ min: 0, max: 0xffff });
const u32s = fc.integer({ min: 0, max: 0xffff_ffff });
const u64s = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn });
const requests = fc.record({ flags: u16s, type: u16s, cookie: u64s, offset: u64s, length: u32s });

describe('decodeRequest', () => {
  it('gives every field back, and the cookie and offset exactly over 64 bits', () => {
    fc.assert(
      fc.property(requests, (fields) => {
        const request = new NbdRequest();
        decodeRequest(viewOf(encoded(fields)), 0, request);
        expect(request).toMatchObject({
          flags: fields.flags,
          type: fields.type,
          length: fields.length,
          offset: Number(fields.offset),
        });
        expect(spellOffset(request)).toBe(fields.offset.toString());
        const reply = Buffer.alloc(16);
        encodeSimpleReply(viewOf(reply), 0, request, 0);
        expect(reply.readBigUInt64BE(8)).toBe(fields.cookie);
      }),
    );
  });

  it('keeps offsets in order above 2^53', () => {
    fc.assert(
      fc.property(u64s, u64s, (first, second) => {
        const bytes = Buffer.alloc(16);
        bytes.writeBigUInt64BE(first, 0);
        bytes.writeBigUInt64BE(second, 8);
        if (first <= second)
          expect(u64(viewOf(bytes), 0)).toBeLessThanOrEqual(u64(viewOf(bytes), 8));
      }),
    );
  });

  it('throws nothing but a ProtocolError, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: REQUEST_SIZE, maxLength: REQUEST_SIZE }), (bytes) => {
        const request = new NbdRequest();
        try {
          decodeRequest(viewOf(bytes), 0, request);
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
        // The cookie is needed even then: such a request is answered.
        expect(request.cookieHigh).toBe(viewOf(bytes).getUint32(8));
      }),
    );
  });

  it('names the magic in its error', () => {
    const bytes = encoded({ flags: 0, type: 0, cookie: 0n, offset: 0n, length: 0 });
    bytes.writeUInt32BE(0x12345678, 0);
    expect(() => decodeRequest(viewOf(bytes), 0, new NbdRequest())).toThrow(
      'request magic: received 0x12345678, expected 0x25609513',
    );
  });
});

describe('decodeExtendedRequest', () => {
  const wide = fc.record({ flags: u16s, type: u16s, cookie: u64s, offset: u64s, length: u64s });

  function extended(fields: { cookie: bigint; offset: bigint; length: bigint }): Buffer {
    const bytes = Buffer.alloc(EXTENDED_REQUEST_SIZE);
    bytes.writeUInt32BE(NBD_EXTENDED_REQUEST_MAGIC, 0);
    bytes.writeBigUInt64BE(fields.cookie, 8);
    bytes.writeBigUInt64BE(fields.offset, 16);
    bytes.writeBigUInt64BE(fields.length, 24);
    return bytes;
  }

  it('gives every field back, the cookie, offset and length exactly over 64 bits', () => {
    fc.assert(
      fc.property(wide, (fields) => {
        const bytes = extended(fields);
        bytes.writeUInt16BE(fields.flags, 4);
        bytes.writeUInt16BE(fields.type, 6);
        const request = new NbdRequest();
        decodeExtendedRequest(viewOf(bytes), 0, request);
        expect(request).toMatchObject({
          extended: true,
          flags: fields.flags,
          type: fields.type,
          offset: Number(fields.offset),
          length: Number(fields.length),
        });
        expect(spellOffset(request)).toBe(fields.offset.toString());
        expect(spellLength(request)).toBe(fields.length.toString());
      }),
    );
  });

  it('is answered with headers of its own kind', () => {
    const request = new NbdRequest();
    const fields = { cookie: 0xfeedface_deadbeefn, offset: 0x0123456789abcdefn, length: 0n };
    decodeExtendedRequest(viewOf(extended(fields)), 0, request);
    expect(chunkSizeOf(request)).toBe(32);
    const bytes = Buffer.alloc(32);
    encodeChunk(viewOf(bytes), 0, request, { type: 6, length: 24, done: true });
    expect(bytes.toString('hex')).toBe(
      '6e8a278c00010006feedfacedeadbeef0123456789abcdef0000000000000018',
    );
  });

  it('names the magic in its error, when all fields are there', () => {
    const bytes = extended({ cookie: 7n, offset: 0n, length: 0n });
    bytes.writeUInt32BE(NBD_REQUEST_MAGIC, 0);
    const request = new NbdRequest();
    expect(() => decodeExtendedRequest(viewOf(bytes), 0, request)).toThrow(
      'request magic: received 0x25609513, expected 0x21e41c71',
    );
    expect(request.cookieLow).toBe(7);
  });
});

describe('decodeStatusPayload', () => {
  it('gives the ids, and the length to the request', () => {
    const request = new NbdRequest();
    request.extended = true;
    request.length = 16;
    const bytes = Buffer.from('ffffffffffffffff00000000000000000000000200000003', 'hex');
    expect(decodeStatusPayload(viewOf(bytes), 8, request)).toEqual([2, 3]);
    expect(request.length).toBe(0);
  });
});

describe('decodeOptionMagic', () => {
  it('accepts IHAVEOPT and throws a ProtocolError for anything else', () => {
    decodeOptionMagic(Buffer.from('IHAVEOPT'));
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 8, maxLength: 8 }), (bytes) => {
        fc.pre(Buffer.from(bytes).toString('latin1') !== 'IHAVEOPT');
        expect(() => decodeOptionMagic(Buffer.from(bytes))).toThrow(ProtocolError);
      }),
    );
  });
});

describe('encoders', () => {
  it('put 64-bit numbers up to 2^53 exactly', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (value) => {
        const bytes = Buffer.alloc(8);
        putU64(viewOf(bytes), 0, value);
        expect(bytes.readBigUInt64BE(0)).toBe(BigInt(value));
        expect(u64(viewOf(bytes), 0)).toBe(value);
      }),
    );
  });

  it('spell the greeting, an option reply and the answer to EXPORT_NAME as the specification does', () => {
    expect(encodeGreeting(3).toString('latin1')).toBe('NBDMAGICIHAVEOPT\0\x03');
    expect(encodeOptionReply(7, 0x80000003, Buffer.from('no')).toString('hex')).toBe(
      '0003e889045565a90000000780000003000000026e6f',
    );
    expect(encodeExportNameReply(2 ** 40, 0xded, true).toString('hex')).toBe(
      '00000100000000000ded',
    );
    expect(encodeExportNameReply(0, 1, false)).toHaveLength(134);
  });

  it('spell the header of a chunk as the specification does', () => {
    const bytes = Buffer.alloc(20);
    const request = new NbdRequest();
    request.cookieHigh = 0xfeedface;
    request.cookieLow = 0xdeadbeef;
    encodeChunk(viewOf(bytes), 0, request, { type: 0x8001, length: 6, done: true });
    expect(bytes.toString('hex')).toBe('668e33ef00018001feedfacedeadbeef00000006');
  });
});
