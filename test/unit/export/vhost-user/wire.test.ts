import { assert, property, uint8Array } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ProtocolError } from '../../../../src/base/errors.ts';
import {
  decodeConfig,
  decodeHeader,
  decodeInflight,
  decodeMemoryTable,
  decodeSingleRegion,
  decodeVringAddress,
  decodeVringFile,
  decodeVringState,
  encodeConfigAnswer,
  encodeHeader,
  encodeInflight,
  encodeVringState,
} from '../../../../src/export/vhost-user/wire.ts';

function header(request: number, flags: number, size: number): Buffer {
  const bytes = Buffer.alloc(12);
  for (const [at, value] of [request, flags, size].entries()) bytes.writeUInt32LE(value, 4 * at);
  return bytes;
}

describe('decodeHeader', () => {
  it('reads a request', () => {
    expect(decodeHeader(header(24, 9, 72))).toEqual({ request: 24, needReply: true, size: 72 });
  });

  it.each([
    ['another version', header(1, 2, 0), 'message version'],
    ['no version', header(1, 0, 0), 'message version'],
    ['a reply', header(1, 5, 0), 'message'],
    ['a payload that is too long', header(1, 1, 273), 'message size'],
    ['a payload without end', header(1, 1, 0xffff_ffff), 'message size'],
  ])('refuses %s', (_what, bytes, field) => {
    expect(() => decodeHeader(bytes)).toThrow(ProtocolError);
    expect(() => decodeHeader(bytes)).toThrow(field);
  });

  it('is what encodeHeader writes, but for the reply flag', () => {
    const bytes = Buffer.alloc(12);
    encodeHeader(bytes, 15, 4, 8);
    expect(bytes).toEqual(header(15, 5, 8));
  });
});

describe('payloads', () => {
  const region = (values: readonly bigint[]): Buffer => {
    const bytes = Buffer.alloc(40);
    for (const [at, value] of values.entries()) bytes.writeBigUInt64LE(value, 8 + 8 * at);
    return bytes;
  };

  it('are a memory region', () => {
    expect(decodeSingleRegion(region([1n, 2n, 3n, 4n]))).toEqual({
      guestAddress: 1,
      size: 2,
      userAddress: 3,
      offset: 4,
    });
  });

  it.each([
    ['no size', [0n, 0n, 0n, 0n], 'memory size'],
    ['more than there is', [0n, 1n << 60n, 0n, 0n], 'memory size'],
    ['an end beyond all addresses', [(1n << 53n) - 1n, 1n, 0n, 0n], 'guest address'],
    ['an end beyond all files', [0n, 4096n, 0n, (1n << 53n) - 1n], 'mmap offset'],
  ])('are no region with %s', (_what, values, field) => {
    expect(() => decodeSingleRegion(region(values))).toThrow(field);
  });

  it('are a memory table, no longer than it says and can be', () => {
    const table = Buffer.alloc(8 + 32);
    table.writeBigUInt64LE(4096n, 16);
    expect(decodeMemoryTable(table)).toEqual([]);
    table.writeUInt32LE(1, 0);
    expect(decodeMemoryTable(table)).toHaveLength(1);
    table.writeUInt32LE(2, 0);
    expect(() => decodeMemoryTable(table)).toThrow('memory table size');
    table.writeUInt32LE(9, 0);
    expect(() => decodeMemoryTable(table)).toThrow('memory regions');
  });

  it('are what is said about rings', () => {
    const state = { index: 3, value: 0x1234 };
    expect(decodeVringState(encodeVringState(state))).toEqual(state);
    const file = Buffer.alloc(8);
    file.writeUInt16LE(0x105);
    expect(decodeVringFile(file)).toEqual({ index: 5, hasFd: false });
  });

  it('are a piece of the configuration', () => {
    const access = { offset: 4, size: 2, flags: 0, bytes: Buffer.from([7, 8]) };
    expect(decodeConfig(encodeConfigAnswer(access, access.bytes))).toEqual(access);
    const long = Buffer.alloc(12);
    long.writeUInt32LE(257, 4);
    expect(() => decodeConfig(long)).toThrow('config size');
  });

  it('are an area for requests under way', () => {
    const area = { size: 2112, offset: 4096, queues: 2, queueSize: 128 };
    expect(decodeInflight(encodeInflight(area))).toEqual(area);
  });

  it('throw nothing but ProtocolError, whatever they hold', () => {
    const decoders = [
      decodeMemoryTable,
      decodeSingleRegion,
      decodeVringAddress,
      decodeVringFile,
      decodeVringState,
      decodeConfig,
      decodeInflight,
    ];
    assert(
      property(uint8Array({ minLength: 40, maxLength: 272 }), (bytes) => {
        for (const decode of decoders) {
          try {
            decode(Buffer.from(bytes));
          } catch (error) {
            expect(error).toBeInstanceOf(ProtocolError);
          }
        }
      }),
      { numRuns: 200 },
    );
  });
});
