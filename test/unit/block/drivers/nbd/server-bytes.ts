// What a server says, as bytes: building blocks for servers that keep the rules, or break one.

export const NAME = 1;
export const ABORT = 2;
export const LIST = 3;
export const STARTTLS = 5;
export const GO = 7;
export const STRUCTURED_REPLY = 8;
export const SET_META_CONTEXT = 10;
export const EXTENDED_HEADERS = 11;

export const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

export const oldGreeting = hex('4e42444d41474943 0000420281861253');

/** `flags`: 1 for fixed newstyle, 2 for no zeroes. */
export function greeting(flags: number): Buffer {
  return Buffer.concat([hex('4e42444d41474943 49484156454f5054'), u16(flags)]);
}

/** `length`: what the header says where it is not true. */
export function reply(
  option: number,
  type: number,
  data: Buffer = Buffer.alloc(0),
  length: number = data.length,
): Buffer {
  return Buffer.concat([hex('0003e889045565a9'), u32(option), u32(type), u32(length), data]);
}

export const ack = (option: number): Buffer => reply(option, 1);

export function error(option: number, code: number, message = ''): Buffer {
  return reply(option, 0x80000000 + code, Buffer.from(message));
}

export const info = (kind: number, data: Buffer): Buffer =>
  reply(GO, 3, Buffer.concat([u16(kind), data]));

export const exportInfo = (size: number | bigint, flags: number): Buffer =>
  info(0, Buffer.concat([u64(size), u16(flags)]));

export const context = (id: number, name: string): Buffer =>
  reply(SET_META_CONTEXT, 4, Buffer.concat([u32(id), Buffer.from(name)]));

export const listed = (name: string, description = ''): Buffer =>
  reply(LIST, 2, Buffer.concat([u32(name.length), Buffer.from(name + description)]));

/** The cookie of a request, as it came. */
export type Cookie = Buffer;

export function simple(cookie: Cookie, code: number, data: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([hex('67446698'), u32(code), cookie, data]);
}

export interface ChunkTerms {
  readonly type: number;
  readonly done?: boolean;
  readonly data?: Buffer;
  /** What the header says where it is not true. */
  readonly length?: number;
}

export function chunk(cookie: Cookie, { type, done = true, data, length }: ChunkTerms): Buffer {
  const payload = data ?? Buffer.alloc(0);
  return Buffer.concat([
    hex('668e33ef'),
    u16(done ? 1 : 0),
    u16(type),
    cookie,
    u32(length ?? payload.length),
    payload,
  ]);
}

export function extendedChunk(
  cookie: Cookie,
  offset: number,
  { type, done = true, data, length }: ChunkTerms,
): Buffer {
  const payload = data ?? Buffer.alloc(0);
  return Buffer.concat([
    hex('6e8a278c'),
    u16(done ? 1 : 0),
    u16(type),
    cookie,
    u64(offset),
    u64(length ?? payload.length),
    payload,
  ]);
}

export const dataAt = (offset: number | bigint, data: Buffer): Buffer =>
  Buffer.concat([u64(offset), data]);

export const holeAt = (offset: number | bigint, length: number): Buffer =>
  Buffer.concat([u64(offset), u32(length)]);

export const errorData = (code: number, message: string, length = message.length): Buffer =>
  Buffer.concat([u32(code), u16(length), Buffer.from(message)]);

export const extents = (id: number, ...pairs: readonly (readonly [number, number])[]): Buffer =>
  Buffer.concat([u32(id), ...pairs.flatMap(([length, flags]) => [u32(length), u32(flags)])]);
