// What nbd-wire-client.ts needs to speak extended headers: requests and chunks of 32 bytes. No libnbd before 1.18 speaks them, so
// these are the tests' own words.

import {
  OPT as COMPACT_OPT,
  infoRequest,
  metaQuery,
  NbdWireClient,
  type OptionReply,
  REP,
} from './nbd-wire-client.ts';

export const EXTENDED_HEADERS = 11;
export const ERR_EXT_HEADER_REQD = 0x8000000a;
export const PAYLOAD_LEN = 32;
export const STATUS_EXT = 6;
/** Of the transmission flags. */
export const BLOCK_STATUS_PAYLOAD = 1 << 12;
const REQUEST_MAGIC = 0x21e41c71;
const REPLY_MAGIC = 0x6e8a278c;

export interface ExtendedRequest {
  readonly magic?: number;
  readonly flags?: number;
  readonly type: number;
  readonly cookie?: bigint;
  readonly offset?: number | bigint;
  /** Default: that of the payload. */
  readonly length?: number | bigint;
  /** Sent behind the header, whatever `length` says. */
  readonly payload?: Buffer;
}

export interface ExtendedChunk {
  readonly flags: number;
  readonly type: number;
  readonly cookie: bigint;
  readonly offset: bigint;
  readonly data: Buffer;
}

/** In transmission, with extended headers; `goReplies` is what NBD_OPT_GO was answered. */
export class ExtendedClient {
  readonly wire: NbdWireClient;
  readonly goReplies: readonly OptionReply[];

  private constructor(wire: NbdWireClient, goReplies: readonly OptionReply[]) {
    this.wire = wire;
    this.goReplies = goReplies;
  }

  static async ready(
    path: string,
    options: { readonly name?: string; readonly contexts?: readonly string[] } = {},
  ): Promise<ExtendedClient> {
    const { name = '', contexts } = options;
    const wire = await NbdWireClient.greeted(path);
    const [reply] = await wire.option(EXTENDED_HEADERS);
    if (reply?.type !== REP.ACK) throw new Error(`extended headers: ${reply?.type}`);
    if (contexts !== undefined) {
      await wire.option(COMPACT_OPT.SET_META_CONTEXT, metaQuery(name, contexts));
    }
    return new ExtendedClient(wire, await wire.option(COMPACT_OPT.GO, infoRequest(name)));
  }

  send(request: ExtendedRequest): void {
    this.wire.send(encodeExtended(request));
  }

  /** Sends a request and collects its chunks up to the last. */
  async request(request: ExtendedRequest): Promise<ExtendedChunk[]> {
    this.send(request);
    const chunks: ExtendedChunk[] = [];
    for (;;) {
      const chunk = await this.chunk();
      chunks.push(chunk);
      if ((chunk.flags & 1) !== 0) return chunks;
    }
  }

  async chunk(): Promise<ExtendedChunk> {
    const header = await this.wire.receive(32);
    const magic = header.readUInt32BE(0);
    if (magic !== REPLY_MAGIC) throw new Error(`reply magic ${magic.toString(16)}`);
    return {
      flags: header.readUInt16BE(4),
      type: header.readUInt16BE(6),
      cookie: header.readBigUInt64BE(8),
      offset: header.readBigUInt64BE(16),
      data: await this.wire.receive(Number(header.readBigUInt64BE(24))),
    };
  }
}

export function encodeExtended(request: ExtendedRequest): Buffer {
  const payload = request.payload ?? Buffer.alloc(0);
  const header = Buffer.alloc(32);
  header.writeUInt32BE(request.magic ?? REQUEST_MAGIC, 0);
  header.writeUInt16BE(request.flags ?? 0, 4);
  header.writeUInt16BE(request.type, 6);
  header.writeBigUInt64BE(request.cookie ?? 77n, 8);
  header.writeBigUInt64BE(BigInt(request.offset ?? 0), 16);
  header.writeBigUInt64BE(BigInt(request.length ?? payload.length), 24);
  return Buffer.concat([header, payload]);
}

/** The payload of a status request: the range's length, and the ids of the contexts asked for. */
export function statusFilter(length: number | bigint, ids: readonly number[]): Buffer {
  const bytes = Buffer.alloc(8 + 4 * ids.length);
  bytes.writeBigUInt64BE(BigInt(length), 0);
  ids.forEach((id, index) => bytes.writeUInt32BE(id, 8 + 4 * index));
  return bytes;
}

/** A chunk of extents: the context, and `length flags` of each. */
export function extentsOf(chunk: ExtendedChunk): { id: number; extents: string[] } {
  if (chunk.type !== STATUS_EXT) throw new Error(`chunk ${chunk.type} has no 64-bit extents`);
  const count = chunk.data.readUInt32BE(4);
  if (chunk.data.length !== 8 + 16 * count)
    throw new Error(`${count} extents in ${chunk.data.length}`);
  const extents = Array.from({ length: count }, (_, index) => {
    const at = 8 + 16 * index;
    return `${chunk.data.readBigUInt64BE(at)} ${chunk.data.readBigUInt64BE(at + 8)}`;
  });
  return { id: chunk.data.readUInt32BE(0), extents };
}
