// vhost-user as the test suite's own frontend speaks it: numbers, and the bytes of each message. Nothing is imported from the
// daemon's side of the protocol, so that one mistake cannot hide in both.
// https://qemu-project.gitlab.io/qemu/interop/vhost-user.html

export const REQUEST = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  RESET_OWNER: 4,
  SET_MEM_TABLE: 5,
  SET_LOG_BASE: 6,
  SET_LOG_FD: 7,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  SET_VRING_ERR: 14,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  SET_BACKEND_REQ_FD: 21,
  GET_CONFIG: 24,
  SET_CONFIG: 25,
  GET_INFLIGHT_FD: 31,
  SET_INFLIGHT_FD: 32,
  GET_MAX_MEM_SLOTS: 36,
  ADD_MEM_REG: 37,
  REM_MEM_REG: 38,
} as const;

/** Header flags: the version in the two lowest bits, then one bit each. */
export const VERSION = 1;
export const REPLY = 4;
export const NEED_REPLY = 8;
export const HEADER_LENGTH = 12;

/** Bits of GET_FEATURES that are the transport's. */
export const VHOST_USER_F_PROTOCOL_FEATURES = 1n << 30n;

/** Bits of GET_PROTOCOL_FEATURES. */
export const PROTOCOL_F = {
  MQ: 1n << 0n,
  LOG_SHMFD: 1n << 1n,
  REPLY_ACK: 1n << 3n,
  BACKEND_REQ: 1n << 5n,
  PAGEFAULT: 1n << 8n,
  CONFIG: 1n << 9n,
  BACKEND_SEND_FD: 1n << 10n,
  HOST_NOTIFIER: 1n << 11n,
  INFLIGHT_SHMFD: 1n << 12n,
  CONFIGURE_MEM_SLOTS: 1n << 15n,
} as const;

/** In the payload of SET_VRING_KICK, CALL and ERR: no descriptor comes with it. */
export const NO_DESCRIPTOR = 1n << 8n;

/** In SET_CONFIG: the driver wrote to the device's configuration. */
export const SET_CONFIG_WRITABLE = 0;

export interface Message {
  readonly request: number;
  readonly flags: number;
  readonly payload: Buffer;
  /** Received with it; the receiver closes them. */
  readonly descriptors: readonly number[];
}

/** A piece of guest memory that the backend is to map. Addresses and lengths in bytes. */
export interface MemoryRegion {
  readonly guestAddress: number;
  readonly length: number;
  /** Where the frontend has it; ring addresses are told in these. */
  readonly userAddress: number;
  /** Where it begins in its descriptor. */
  readonly offset: number;
}

export function encode(request: number, payload: Uint8Array, flags = VERSION): Buffer {
  const message = Buffer.alloc(HEADER_LENGTH + payload.length);
  message.writeUInt32LE(request, 0);
  message.writeUInt32LE(flags, 4);
  message.writeUInt32LE(payload.length, 8);
  message.set(payload, HEADER_LENGTH);
  return message;
}

export function u64(value: bigint | number): Buffer {
  const payload = Buffer.alloc(8);
  payload.writeBigUInt64LE(BigInt(value));
  return payload;
}

/** SET_VRING_NUM, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_ENABLE. */
export function vringState(index: number, value: number): Buffer {
  const payload = Buffer.alloc(8);
  payload.writeUInt32LE(index, 0);
  payload.writeUInt32LE(value, 4);
  return payload;
}

/** SET_VRING_ADDR; all addresses are the frontend's own. */
export function vringAddress(
  index: number,
  ring: { readonly descriptors: number; readonly used: number; readonly available: number },
  flags = 0,
): Buffer {
  const payload = Buffer.alloc(40);
  payload.writeUInt32LE(index, 0);
  payload.writeUInt32LE(flags, 4);
  for (const [at, address] of [ring.descriptors, ring.used, ring.available].entries()) {
    payload.writeBigUInt64LE(BigInt(address), 8 + at * 8);
  }
  return payload;
}

/** SET_MEM_TABLE. */
export function memoryTable(regions: readonly MemoryRegion[]): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(regions.length, 0);
  return Buffer.concat([head, ...regions.map(region)]);
}

/** ADD_MEM_REG, REM_MEM_REG. */
export function singleRegion(each: MemoryRegion): Buffer {
  return Buffer.concat([Buffer.alloc(8), region(each)]);
}

/** GET_CONFIG (with room for the answer) and SET_CONFIG. */
export function config(offset: number, bytes: Uint8Array, flags = SET_CONFIG_WRITABLE): Buffer {
  const payload = Buffer.alloc(12 + bytes.length);
  payload.writeUInt32LE(offset, 0);
  payload.writeUInt32LE(bytes.length, 4);
  payload.writeUInt32LE(flags, 8);
  payload.set(bytes, 12);
  return payload;
}

function region(each: MemoryRegion): Buffer {
  const bytes = Buffer.alloc(32);
  const { guestAddress, length, userAddress, offset } = each;
  for (const [at, value] of [guestAddress, length, userAddress, offset].entries()) {
    bytes.writeBigUInt64LE(BigInt(value), at * 8);
  }
  return bytes;
}
