// Exchanges with a server in its transmission phase, and what rules expect of them.

import assert from 'node:assert/strict';
import {
  CHUNK,
  CMD,
  errorOf,
  infoRequest,
  type NbdWireClient,
  OPT,
  type Reply,
  type Request,
} from '../nbd-wire-client.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const SIZE = MIB;
/** Where the disk of the exports `` and `ro` has data at first; the rest is a hole. */
export const DATA = { start: 64 * KIB, end: 128 * KIB } as const;
/** A place that the rules write to. */
export const SCRATCH = 512 * KIB;

export const NBD_EINVAL = 22;
export const NBD_ENOTSUP = 95;
export const knownErrors: readonly number[] = [1, 5, 12, 22, 28, 75, 95, 108];

export const HAS = {
  FLUSH: 4,
  FUA: 8,
  TRIM: 32,
  ZEROES: 64,
  DF: 128,
  MULTI: 256,
  CACHE: 1024,
  FAST: 2048,
};
export const writing: readonly Request[] = [
  { type: CMD.WRITE, payload: Buffer.alloc(512) },
  { type: CMD.TRIM, length: 512 },
  { type: CMD.WRITE_ZEROES, length: 512 },
];

/** The error of a reply to a request; 0 for none. */
export async function errorFor(client: NbdWireClient, request: Request): Promise<number> {
  return errorOf((await client.request(request)).at(-1))?.error ?? 0;
}

export async function goesOn(client: NbdWireClient): Promise<void> {
  assert.equal(await errorFor(client, { type: CMD.FLUSH }), 0);
}

/** That a request gets this error, and that the session goes on. */
export async function refused(
  client: NbdWireClient,
  request: Request,
  error: number,
): Promise<void> {
  assert.equal(await errorFor(client, request), error);
  await goesOn(client);
}

export async function flags(client: NbdWireClient, name = ''): Promise<number> {
  const replies = await client.option(OPT.INFO, infoRequest(name));
  return replies.find(({ data }) => data.length === 12)?.data.readUInt16BE(10) ?? 0;
}

export type Chunk = Extract<Reply, { kind: 'chunk' }>;

/** The chunks of a reply that must be structured. */
export async function chunksOf(client: NbdWireClient, request: Request): Promise<Chunk[]> {
  return (await client.request(request)).map((reply) => {
    assert.equal(reply.kind, 'chunk');
    return reply;
  });
}

export interface Part {
  readonly offset: number;
  readonly bytes: Buffer;
}

/** The content chunks of a reply to a read. */
export function partsOf(chunks: readonly Chunk[]): Part[] {
  return chunks.flatMap(({ type, data }) => {
    const offset = data.length >= 8 ? Number(data.readBigUInt64BE()) : 0;
    if (type === CHUNK.OFFSET_DATA) return [{ offset, bytes: data.subarray(8) }];
    if (type !== CHUNK.OFFSET_HOLE) return [];
    assert.equal(data.length, 12);
    return [{ offset, bytes: Buffer.alloc(data.readUInt32BE(8)) }];
  });
}

/** What a read gives, put together; throws unless its chunks cover the range exactly. */
export async function readBack(
  client: NbdWireClient,
  offset: number,
  length: number,
): Promise<Buffer> {
  const parts = partsOf(await chunksOf(client, { type: CMD.READ, offset, length }));
  const sorted = parts.toSorted((a, b) => a.offset - b.offset);
  let at = offset;
  for (const part of sorted) {
    assert.equal(part.offset, at, 'chunks overlap or leave a gap');
    assert.ok(part.bytes.length > 0, 'a chunk describes nothing');
    at += part.bytes.length;
  }
  assert.equal(at, offset + length, 'chunks do not cover the range');
  return Buffer.concat(sorted.map(({ bytes }) => bytes));
}

export async function write(client: NbdWireClient, byte: number, length = 8 * KIB): Promise<void> {
  const payload = Buffer.alloc(length, byte);
  assert.equal(await errorFor(client, { type: CMD.WRITE, offset: SCRATCH, payload }), 0);
}

export interface Descriptor {
  readonly length: number;
  readonly status: number;
}

export function descriptorsOf({ type, data }: Chunk): Descriptor[] {
  assert.equal(type, CHUNK.BLOCK_STATUS);
  assert.ok(data.length > 4 && (data.length - 4) % 8 === 0);
  return Array.from({ length: (data.length - 4) / 8 }, (_, index) => ({
    length: data.readUInt32BE(4 + index * 8),
    status: data.readUInt32BE(8 + index * 8),
  }));
}

export const contexts = ['base:allocation'];

export async function status(
  client: NbdWireClient,
  range: { offset?: number; length: number },
  requestFlags = 0,
): Promise<Descriptor[]> {
  const chunks = await chunksOf(client, { type: CMD.BLOCK_STATUS, flags: requestFlags, ...range });
  assert.equal(chunks.length, 1);
  return descriptorsOf(chunks[0] as Chunk);
}

export const beyond = { offset: SIZE - 512, length: 1024 };
export const AS_REFERENCE = 'as the reference, which answers NBD_EINVAL';
