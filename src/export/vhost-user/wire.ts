// vhost-user payloads, bytes to values and back. Little endian, as every machine is that this runs on. No sockets, no policy.

import { ProtocolError } from '../../base/errors.ts';
import {
  CONFIG_HEADER_SIZE,
  MAX_PAYLOAD,
  MAX_TABLE_REGIONS,
  VHOST_USER_MAX_CONFIG_SIZE,
  VHOST_USER_NEED_REPLY_MASK,
  VHOST_USER_REPLY_MASK,
  VHOST_USER_VERSION,
  VHOST_USER_VERSION_MASK,
  VHOST_USER_VRING_IDX_MASK,
  VHOST_USER_VRING_NOFD_MASK,
  VHOST_VRING_F_LOG,
} from './protocol.ts';

export interface MessageHeader {
  readonly request: number;
  readonly needReply: boolean;
  /** Bytes of payload that follow. */
  readonly size: number;
}

/** A piece of the frontend's memory: where the driver has it, where the frontend has it, and where in its file it is. */
export interface MemoryRegion {
  readonly guestAddress: number;
  readonly size: number;
  readonly userAddress: number;
  readonly offset: number;
}

export interface VringState {
  readonly index: number;
  readonly value: number;
}

/** Where the parts of a ring are, in the frontend's addresses. */
export interface VringAddress {
  readonly index: number;
  readonly descriptors: number;
  readonly used: number;
  readonly available: number;
  /** The guest address under which writes to the used ring are logged, if they are. */
  readonly log: number | undefined;
}

export interface VringFile {
  readonly index: number;
  /** A descriptor comes with the message. */
  readonly hasFd: boolean;
}

export interface ConfigAccess {
  readonly offset: number;
  readonly size: number;
  readonly flags: number;
  /** What there is to be written. */
  readonly bytes: Buffer;
}

/** A part of a file. */
export interface FilePart {
  readonly size: number;
  readonly offset: number;
}

export interface InflightArea {
  readonly size: number;
  readonly offset: number;
  readonly queues: number;
  readonly queueSize: number;
}

//   [ 0 ..  3]  request
//   [ 4 ..  7]  flags: version (2 bits), reply, need reply
//   [ 8 .. 11]  size
export function decodeHeader(bytes: Buffer): MessageHeader {
  const flags = bytes.readUInt32LE(4);
  const version = flags & VHOST_USER_VERSION_MASK;
  if (version !== VHOST_USER_VERSION) {
    throw new ProtocolError('message version', version, VHOST_USER_VERSION);
  }
  if ((flags & VHOST_USER_REPLY_MASK) !== 0) {
    throw new ProtocolError('message', 'a reply', 'a request');
  }
  const size = bytes.readUInt32LE(8);
  if (size > MAX_PAYLOAD) throw new ProtocolError('message size', size, `at most ${MAX_PAYLOAD}`);
  return {
    request: bytes.readUInt32LE(0),
    needReply: (flags & VHOST_USER_NEED_REPLY_MASK) !== 0,
    size,
  };
}

/** Writes a reply's or a backend message's header at the start of `into`. */
export function encodeHeader(into: Buffer, request: number, flags: number, size: number): void {
  into.writeUInt32LE(request, 0);
  into.writeUInt32LE(VHOST_USER_VERSION | flags, 4);
  into.writeUInt32LE(size, 8);
}

export function encodeU64(value: bigint | number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

export function decodeU64(payload: Buffer): bigint {
  return payload.readBigUInt64LE(0);
}

//   [ 0 ..  3]  number of regions
//   [ 4 ..  7]  padding
//   [ 8 ..   ]  regions, 32 bytes each
export function decodeMemoryTable(payload: Buffer): readonly MemoryRegion[] {
  const count = payload.readUInt32LE(0);
  if (count > MAX_TABLE_REGIONS) {
    throw new ProtocolError('memory regions', count, `at most ${MAX_TABLE_REGIONS}`);
  }
  if (payload.length < 8 + 32 * count) {
    throw new ProtocolError('memory table size', payload.length, 8 + 32 * count);
  }
  return Array.from({ length: count }, (_, index) => decodeRegion(payload, 8 + 32 * index));
}

//   [ 0 ..  7]  padding
//   [ 8 .. 39]  region
export function decodeSingleRegion(payload: Buffer): MemoryRegion {
  return decodeRegion(payload, 8);
}

//   [ 0 ..  7]  guest address
//   [ 8 .. 15]  size
//   [16 .. 23]  user address
//   [24 .. 31]  mmap offset
function decodeRegion(payload: Buffer, at: number): MemoryRegion {
  const region = {
    guestAddress: exact(payload, at, 'guest address'),
    size: exact(payload, at + 8, 'memory size'),
    userAddress: exact(payload, at + 16, 'user address'),
    offset: exact(payload, at + 24, 'mmap offset'),
  };
  if (region.size === 0) throw new ProtocolError('memory size', 0, 'at least 1');
  for (const [field, start] of [
    ['guest address', region.guestAddress],
    ['user address', region.userAddress],
    ['mmap offset', region.offset],
  ] as const) {
    if (!Number.isSafeInteger(start + region.size)) {
      throw new ProtocolError(field, start, 'a place that the size fits behind');
    }
  }
  return region;
}

//   [ 0 ..  3]  index
//   [ 4 ..  7]  value
export function decodeVringState(payload: Buffer): VringState {
  return { index: payload.readUInt32LE(0), value: payload.readUInt32LE(4) };
}

export function encodeVringState({ index, value }: VringState): Buffer {
  const payload = Buffer.alloc(8);
  payload.writeUInt32LE(index, 0);
  payload.writeUInt32LE(value, 4);
  return payload;
}

//   [ 0 ..  3]  index
//   [ 4 ..  7]  flags
//   [ 8 .. 15]  descriptor table
//   [16 .. 23]  used ring
//   [24 .. 31]  available ring
//   [32 .. 39]  log address
export function decodeVringAddress(payload: Buffer): VringAddress {
  const logged = (payload.readUInt32LE(4) & VHOST_VRING_F_LOG) !== 0;
  return {
    index: payload.readUInt32LE(0),
    descriptors: exact(payload, 8, 'descriptor table address'),
    used: exact(payload, 16, 'used ring address'),
    available: exact(payload, 24, 'available ring address'),
    log: logged ? exact(payload, 32, 'log address') : undefined,
  };
}

export function decodeVringFile(payload: Buffer): VringFile {
  const low = payload.readUInt32LE(0);
  return {
    index: low & VHOST_USER_VRING_IDX_MASK,
    hasFd: (low & VHOST_USER_VRING_NOFD_MASK) === 0,
  };
}

//   [ 0 ..  3]  offset
//   [ 4 ..  7]  size
//   [ 8 .. 11]  flags: 0 a driver's write, 1 migration
//   [12 ..   ]  bytes
export function decodeConfig(payload: Buffer): ConfigAccess {
  const size = payload.readUInt32LE(4);
  if (size > VHOST_USER_MAX_CONFIG_SIZE) {
    throw new ProtocolError('config size', size, `at most ${VHOST_USER_MAX_CONFIG_SIZE}`);
  }
  return {
    offset: payload.readUInt32LE(0),
    size,
    flags: payload.readUInt32LE(8),
    bytes: payload.subarray(CONFIG_HEADER_SIZE, CONFIG_HEADER_SIZE + size),
  };
}

export function encodeConfigAnswer(access: ConfigAccess, bytes: Buffer): Buffer {
  const payload = Buffer.alloc(CONFIG_HEADER_SIZE + bytes.length);
  payload.writeUInt32LE(access.offset, 0);
  payload.writeUInt32LE(bytes.length, 4);
  payload.writeUInt32LE(access.flags, 8);
  bytes.copy(payload, CONFIG_HEADER_SIZE);
  return payload;
}

//   [ 0 ..  7]  mmap size
//   [ 8 .. 15]  mmap offset
export function decodeLogBase(payload: Buffer): FilePart {
  return { size: exact(payload, 0, 'mmap size'), offset: exact(payload, 8, 'mmap offset') };
}

//   [ 0 ..  7]  mmap size
//   [ 8 .. 15]  mmap offset
//   [16 .. 17]  number of queues
//   [18 .. 19]  queue size
//   [20 .. 23]  padding
export function decodeInflight(payload: Buffer): InflightArea {
  return {
    size: exact(payload, 0, 'mmap size'),
    offset: exact(payload, 8, 'mmap offset'),
    queues: payload.readUInt16LE(16),
    queueSize: payload.readUInt16LE(18),
  };
}

export function encodeInflight(area: InflightArea): Buffer {
  const payload = Buffer.alloc(24);
  payload.writeBigUInt64LE(BigInt(area.size), 0);
  payload.writeBigUInt64LE(BigInt(area.offset), 8);
  payload.writeUInt16LE(area.queues, 16);
  payload.writeUInt16LE(area.queueSize, 18);
  return payload;
}

/** A number that is exact; no address or size of a real machine is larger. */
function exact(payload: Buffer, at: number, field: string): number {
  const value = payload.readBigUInt64LE(at);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new ProtocolError(field, `0x${value.toString(16)}`, 'at most 0x1fffffffffffff');
  }
  return Number(value);
}
