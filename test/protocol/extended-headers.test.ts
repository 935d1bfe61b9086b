// Extended headers: one test for each rule of the specification's extension that binds a server, and for each choice of QEMU 8.2 and
// later where it leaves one. The reference proper (7.2) does not have them, and no client on Debian 12 does: libnbd speaks them
// from 1.18 on. So both sides of these tests are ours; the bytes are checked against the specification's tables.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  BLOCK_STATUS_PAYLOAD,
  ERR_EXT_HEADER_REQD,
  EXTENDED_HEADERS,
  type ExtendedChunk,
  ExtendedClient,
  type ExtendedRequest,
  encodeExtended,
  extentsOf,
  PAYLOAD_LEN,
  STATUS_EXT,
  statusFilter,
} from './extended-wire.ts';
import {
  DATA_END,
  DATA_START,
  DISK_SIZE,
  diskByte,
  type NbdTestServer,
  startNbdTestServer,
} from './nbd-test-server.ts';
import {
  CHUNK,
  CMD,
  encodeRequest,
  errorOf,
  FLAG,
  infoRequest,
  metaQuery,
  OPT,
  type OptionReply,
  REP,
} from './nbd-wire-client.ts';

const EINVAL = 22;
const MAX = 32 * 1024 * 1024;
const ALLOCATION = 'base:allocation';
const DEPTH = 'qemu:allocation-depth';
const DONE = 1;
/** Bytes of an export that 32-bit lengths cannot span. */
const BIG = 2 ** 40;

let server: NbdTestServer;
beforeEach(async () => {
  server = await startNbdTestServer();
});
afterEach(() => server.close());

async function ready(
  options: { name?: string; contexts?: readonly string[] } = {},
): Promise<ExtendedClient> {
  const client = await ExtendedClient.ready(server.path, options);
  server.keep(client.wire);
  return client;
}

/** An export `big` of BIG bytes that are all zeroes. */
async function addBigExport(): Promise<void> {
  await server.graph.add({ driver: 'null-co', 'node-name': 'big', size: BIG, 'read-zeroes': true });
  await server.exports.add({
    type: 'nbd',
    id: 'big',
    'node-name': 'big',
    writable: true,
    'allocation-depth': true,
  });
}

function textsOf(replies: readonly OptionReply[]): { type: number; text: string }[] {
  return replies.map(({ type, data }) => ({ type, text: data.toString() }));
}

/** The transmission flags in the replies to NBD_OPT_INFO or NBD_OPT_GO. */
function flagsIn(replies: readonly OptionReply[]): number {
  const info = replies.find(({ type, data }) => type === REP.INFO && data.readUInt16BE(0) === 0);
  return info?.data.readUInt16BE(10) ?? 0;
}

function failureOf(chunk: ExtendedChunk | undefined): { error: number; text: string } | undefined {
  if (chunk?.type !== CHUNK.ERROR) return undefined;
  expect(chunk.data.readUInt16BE(4)).toBe(chunk.data.length - 6);
  return { error: chunk.data.readUInt32BE(0), text: chunk.data.toString('utf8', 6) };
}

/** That a request is refused with EINVAL and this text, and that the session goes on behind it. */
async function expectRefused(
  client: ExtendedClient,
  request: ExtendedRequest,
  text: string,
): Promise<void> {
  const chunks = await client.request(request);
  expect(chunks).toHaveLength(1);
  expect(failureOf(chunks[0])).toEqual({ error: EINVAL, text });
  expect(await client.request({ type: CMD.FLUSH })).toMatchObject([{ type: CHUNK.NONE }]);
}

describe('NBD_OPT_EXTENDED_HEADERS', () => {
  it('is acknowledged, with and without structured replies before it', async () => {
    const first = await server.greeted();
    expect(await first.option(EXTENDED_HEADERS)).toMatchObject([{ option: 11, type: REP.ACK }]);
    const second = await server.greeted();
    await second.option(OPT.STRUCTURED_REPLY);
    expect(await second.option(EXTENDED_HEADERS)).toMatchObject([{ type: REP.ACK }]);
  });

  it('with data is refused, and the handshake goes on', async () => {
    const client = await server.greeted();
    expect(textsOf(await client.option(EXTENDED_HEADERS, Buffer.from('x')))).toEqual([
      { type: REP.ERR_INVALID, text: "option 'extended headers' has unexpected length" },
    ]);
    expect(await client.option(EXTENDED_HEADERS)).toMatchObject([{ type: REP.ACK }]);
  });

  it('is refused the second time', async () => {
    const client = await server.greeted();
    await client.option(EXTENDED_HEADERS);
    expect(textsOf(await client.option(EXTENDED_HEADERS))).toEqual([
      { type: REP.ERR_INVALID, text: 'extended headers already negotiated' },
    ]);
  });

  it('makes NBD_OPT_STRUCTURED_REPLY fail with EXT_HEADER_REQD, even where it was negotiated before', async () => {
    for (const before of [[], [OPT.STRUCTURED_REPLY]]) {
      const client = await server.greeted();
      for (const option of before) await client.option(option);
      await client.option(EXTENDED_HEADERS);
      expect(textsOf(await client.option(OPT.STRUCTURED_REPLY))).toEqual([
        { type: ERR_EXT_HEADER_REQD, text: 'extended headers already negotiated' },
      ]);
    }
  });

  it('forbids NBD_OPT_EXPORT_NAME: the connection ends', async () => {
    const client = await server.greeted();
    await client.option(EXTENDED_HEADERS);
    client.sendOption(OPT.EXPORT_NAME);
    expect(await client.receiveRest()).toHaveLength(0);
    await server.logged('option negotiation failed: Extended headers already negotiated');
  });

  it('is as good as structured replies for metadata contexts', async () => {
    const client = await server.greeted();
    await client.option(EXTENDED_HEADERS);
    const replies = await client.option(OPT.SET_META_CONTEXT, metaQuery('', [ALLOCATION]));
    expect(replies.map(({ type }) => type)).toEqual([REP.META_CONTEXT, REP.ACK]);
  });

  it('offers NBD_CMD_FLAG_DF', async () => {
    const client = await ready();
    expect(flagsIn(client.goReplies) & (1 << 7)).not.toBe(0);
  });

  it('offers filtered status requests to NBD_OPT_GO only with contexts of that export, to NBD_OPT_INFO always', async () => {
    const without = await ready();
    expect(flagsIn(without.goReplies) & BLOCK_STATUS_PAYLOAD).toBe(0);
    const chosen = await ready({ contexts: [ALLOCATION] });
    expect(flagsIn(chosen.goReplies) & BLOCK_STATUS_PAYLOAD).not.toBe(0);
    const other = await server.greeted();
    await other.option(EXTENDED_HEADERS);
    await other.option(OPT.SET_META_CONTEXT, metaQuery('ro', [ALLOCATION]));
    expect(flagsIn(await other.option(OPT.INFO, infoRequest(''))) & BLOCK_STATUS_PAYLOAD).not.toBe(
      0,
    );
    expect(flagsIn(await other.option(OPT.GO, infoRequest(''))) & BLOCK_STATUS_PAYLOAD).toBe(0);
  });

  it('is not forced on anybody: without it, nothing is offered and compact headers are spoken', async () => {
    const client = await server.greeted();
    await client.option(OPT.STRUCTURED_REPLY);
    await client.option(OPT.SET_META_CONTEXT, metaQuery('', [ALLOCATION]));
    const replies = await client.option(OPT.GO, infoRequest(''));
    expect(flagsIn(replies) & BLOCK_STATUS_PAYLOAD).toBe(0);
    expect(await client.request({ type: CMD.FLUSH })).toMatchObject([{ kind: 'simple', error: 0 }]);
    const [refused] = await client.request({ type: CMD.FLUSH, flags: PAYLOAD_LEN });
    expect(errorOf(refused)).toEqual({
      error: EINVAL,
      text: 'unsupported flags for command flush (got 0x20)',
    });
  });
});

describe('extended replies', () => {
  it('are a NONE chunk for what has no data, never a simple reply', async () => {
    const client = await ready();
    for (const type of [CMD.FLUSH, CMD.CACHE, CMD.TRIM, CMD.WRITE_ZEROES]) {
      const chunks = await client.request({ type, length: type === CMD.FLUSH ? 0 : 512 });
      expect(chunks).toMatchObject([{ flags: DONE, type: CHUNK.NONE, data: Buffer.alloc(0) }]);
    }
  });

  it('echo cookie and offset of their request, whatever they are', async () => {
    const client = await ready();
    for (const cookie of [0n, 0xffff_ffff_ffff_ffffn]) {
      expect(await client.request({ type: CMD.FLUSH, cookie })).toMatchObject([
        { cookie, offset: 0n },
      ]);
    }
    const [chunk] = await client.request({
      type: CMD.READ,
      offset: 0xffff_ffff_ffff_fff0n,
      length: 16,
    });
    expect(chunk?.offset).toBe(0xffff_ffff_ffff_fff0n);
    expect(failureOf(chunk)?.text).toBe(
      `operation past EOF; From: 18446744073709551600, Len: 16, Size: ${DISK_SIZE}`,
    );
  });

  it('have the offset of the request in every chunk of a sparse read, and that of the part in the payload', async () => {
    const client = await ready();
    const offset = DATA_START - 4096;
    const length = DATA_END - DATA_START + 8192;
    const chunks = await client.request({ type: CMD.READ, offset, length });
    expect(chunks.map(({ type, data }) => [type, Number(data.readBigUInt64BE(0))])).toEqual([
      [CHUNK.OFFSET_HOLE, offset],
      [CHUNK.OFFSET_DATA, DATA_START],
      [CHUNK.OFFSET_HOLE, DATA_END],
    ]);
    expect(chunks.map((chunk) => chunk.offset)).toEqual(chunks.map(() => BigInt(offset)));
    expect(chunks.map(({ flags }) => flags)).toEqual([0, 0, DONE]);
    expect(chunks[1]?.data).toHaveLength(8 + DATA_END - DATA_START);
    expect(chunks[1]?.data[8]).toBe(diskByte(DATA_START));
    expect(chunks[2]?.data.readUInt32BE(8)).toBe(4096);
  });

  it('come in one piece with DF, and as NONE for nothing', async () => {
    const client = await ready();
    const length = DATA_END;
    const chunks = await client.request({ type: CMD.READ, flags: FLAG.DF, length });
    expect(chunks).toMatchObject([{ flags: DONE, type: CHUNK.OFFSET_DATA }]);
    expect(chunks[0]?.data).toHaveLength(8 + length);
    expect(await client.request({ type: CMD.READ })).toMatchObject([{ type: CHUNK.NONE }]);
  });

  it('are error chunks for what fails', async () => {
    const client = await ready({ name: 'ro' });
    await expectRefused(client, { type: CMD.TRIM, length: 512 }, 'Export is read-only');
    await expectRefused(client, { type: 9 }, 'invalid request type (9) received');
    await expectRefused(
      client,
      { type: CMD.READ, flags: 0x8000, length: 1 },
      'unsupported flags for command read (got 0x8000)',
    );
  });
});

describe('extended requests', () => {
  it('with another magic are answered, and end the connection', async () => {
    const client = await ready();
    client.wire.send(
      Buffer.concat([encodeRequest({ type: CMD.FLUSH, cookie: 5n }), Buffer.alloc(4)]),
    );
    const chunk = await client.chunk();
    expect(chunk.cookie).toBe(5n);
    expect(failureOf(chunk)).toEqual({
      error: EINVAL,
      text: 'invalid magic (got 0x25609513, expected 0x21e41c71)',
    });
    expect(await client.wire.receiveRest()).toHaveLength(0);
    await server.logged('Request handling failed in intermediate state');
  });

  it('may come in any pieces', async () => {
    const client = await ready();
    const bytes = encodeExtended({
      type: CMD.WRITE,
      flags: PAYLOAD_LEN,
      offset: 512,
      payload: Buffer.from('abcd'),
    });
    for (const byte of bytes) client.wire.send(Buffer.of(byte));
    expect(await client.chunk()).toMatchObject({ type: CHUNK.NONE });
    const [read] = await client.request({ type: CMD.READ, flags: FLAG.DF, offset: 512, length: 4 });
    expect(read?.data.toString('latin1', 8)).toBe('abcd');
  });

  it('that write are served with and without PAYLOAD_LEN, small and large', async () => {
    const client = await ready();
    for (const [index, length] of [512, 512 * 1024].entries()) {
      for (const flags of [PAYLOAD_LEN, 0]) {
        const payload = Buffer.alloc(length, 17 + index + flags);
        const request = { type: CMD.WRITE, flags: flags | FLAG.FUA, offset: 4096, payload };
        expect(await client.request(request)).toMatchObject([{ type: CHUNK.NONE }]);
        const read = await client.request({
          type: CMD.READ,
          flags: FLAG.DF,
          offset: 4096,
          length,
        });
        expect(read[0]?.data.subarray(8).equals(payload)).toBe(true);
      }
    }
  });

  it('that write too much are refused, and end the connection', async () => {
    const client = await ready();
    client.send({ type: CMD.WRITE, flags: PAYLOAD_LEN, length: 2n ** 40n });
    expect(failureOf(await client.chunk())).toEqual({
      error: EINVAL,
      text: `len (1099511627776) is larger than max len (${MAX})`,
    });
    expect(await client.wire.receiveRest()).toHaveLength(0);
  });

  it('that read or cache too much are refused, and the session goes on', async () => {
    const client = await ready();
    for (const type of [CMD.READ, CMD.CACHE]) {
      await expectRefused(
        client,
        { type, length: 0xffff_ffff_ffff_ffffn },
        `len (18446744073709551615) is larger than max len (${MAX})`,
      );
    }
  });

  it('with a payload that is not expected have it consumed, and are refused for the flag', async () => {
    const client = await ready();
    for (const [type, name] of [
      [CMD.READ, 'read'],
      [CMD.FLUSH, 'flush'],
      [CMD.TRIM, 'trim'],
      [CMD.CACHE, 'cache'],
      [CMD.WRITE_ZEROES, 'write zeroes'],
      [9, '<unknown>'],
    ] as const) {
      for (const length of [0, 5, 300_000]) {
        await expectRefused(
          client,
          { type, flags: PAYLOAD_LEN, payload: Buffer.alloc(length, 0xee) },
          `unsupported flags for command ${name} (got 0x20)`,
        );
      }
    }
  });

  it('with a payload that is too large are refused, and end the connection', async () => {
    const client = await ready();
    client.send({ type: CMD.TRIM, flags: PAYLOAD_LEN, length: MAX + 1 });
    expect(failureOf(await client.chunk())?.text).toBe(
      `len (33554433) is larger than max len (${MAX})`,
    );
    expect(await client.wire.receiveRest()).toHaveLength(0);
  });

  it('to disconnect are obeyed, whatever else they say', async () => {
    const client = await ready();
    client.send({ type: CMD.DISC, flags: 0xffff, offset: 2n ** 63n, length: 2n ** 63n });
    expect(await client.wire.receiveRest()).toHaveLength(0);
  });

  it('that trim, zero or ask may span more than 32 bits', async () => {
    await addBigExport();
    const client = await ready({ name: 'big', contexts: [ALLOCATION] });
    for (const type of [CMD.TRIM, CMD.WRITE_ZEROES]) {
      expect(await client.request({ type, length: BIG })).toMatchObject([{ type: CHUNK.NONE }]);
      await expectRefused(
        client,
        { type, offset: 512, length: BIG },
        `operation past EOF; From: 512, Len: ${BIG}, Size: ${BIG}`,
      );
    }
    const [status] = await client.request({ type: CMD.BLOCK_STATUS, length: BIG });
    expect(extentsOf(status as ExtendedChunk)).toMatchObject({
      extents: [expect.stringMatching(`^${BIG} `)],
    });
  });
});

describe('extended status', () => {
  it('has 64-bit extents and their number, however short they are', async () => {
    const client = await ready({ contexts: [ALLOCATION] });
    const chunks = await client.request({ type: CMD.BLOCK_STATUS, length: DISK_SIZE });
    expect(chunks).toMatchObject([{ flags: DONE, type: STATUS_EXT }]);
    expect(chunks.map(extentsOf)).toEqual([
      {
        id: 0,
        extents: [`${DATA_START} 3`, `${DATA_END - DATA_START} 0`, `${DISK_SIZE - DATA_END} 3`],
      },
    ]);
  });

  it('of REQ_ONE is one extent', async () => {
    const client = await ready({ contexts: [ALLOCATION] });
    const request = { type: CMD.BLOCK_STATUS, flags: FLAG.REQ_ONE, length: DISK_SIZE };
    expect((await client.request(request)).map(extentsOf)).toEqual([
      { id: 0, extents: [`${DATA_START} 3`] },
    ]);
  });

  it('is not to be had without contexts, nor of nothing', async () => {
    const without = await ready();
    const request = { type: CMD.BLOCK_STATUS, length: 0 };
    await expectRefused(without, request, 'CMD_BLOCK_STATUS not negotiated');
    await expectRefused(
      without,
      { type: CMD.BLOCK_STATUS, flags: PAYLOAD_LEN, payload: statusFilter(512, [0]) },
      'CMD_BLOCK_STATUS not negotiated',
    );
    const client = await ready({ contexts: [ALLOCATION] });
    await expectRefused(client, request, 'need non-zero length');
    await expectRefused(
      client,
      { type: CMD.BLOCK_STATUS, flags: PAYLOAD_LEN, payload: statusFilter(0, [0]) },
      'need non-zero length',
    );
  });

  it('answers for the contexts of its payload only, in the range that the payload says', async () => {
    await addBigExport();
    const client = await ready({ name: 'big', contexts: [ALLOCATION, DEPTH] });
    const ask = async (ids: readonly number[]): Promise<readonly [number, string][]> => {
      const payload = statusFilter(BIG / 2, ids);
      const chunks = await client.request({ type: CMD.BLOCK_STATUS, flags: PAYLOAD_LEN, payload });
      expect(chunks.at(-1)?.flags).toBe(DONE);
      return chunks.map(extentsOf).map(({ id, extents }) => [id, extents.join()]);
    };
    expect(await ask([1])).toEqual([[1, `${BIG / 2} 1`]]);
    expect((await ask([0])).map(([id]) => id)).toEqual([0]);
    expect((await ask([1, 0])).map(([id]) => id)).toEqual([0, 1]);
  });

  it('refuses a payload with no id, an unknown id, one twice, or a length that cannot be; and goes on', async () => {
    const client = await ready({ contexts: [ALLOCATION] });
    const wrong = [
      Buffer.alloc(0),
      Buffer.alloc(7),
      Buffer.alloc(13),
      statusFilter(512, []),
      statusFilter(512, [1]),
      statusFilter(512, [0, 0]),
      statusFilter(512, [0xffff_ffff]),
      Buffer.alloc(100_000),
    ];
    for (const payload of wrong) {
      await expectRefused(
        client,
        { type: CMD.BLOCK_STATUS, flags: PAYLOAD_LEN, payload },
        'CMD_BLOCK_STATUS payload not valid',
      );
    }
  });

  it('of a payload that reaches past the end is refused', async () => {
    const client = await ready({ contexts: [ALLOCATION] });
    await expectRefused(
      client,
      { type: CMD.BLOCK_STATUS, flags: PAYLOAD_LEN, payload: statusFilter(2n ** 63n, [0]) },
      `operation past EOF; From: 0, Len: 9223372036854775808, Size: ${DISK_SIZE}`,
    );
  });

  it('remembers no filter of the request before', async () => {
    const client = await ready({ contexts: [ALLOCATION] });
    const filtered = {
      type: CMD.BLOCK_STATUS,
      flags: PAYLOAD_LEN,
      payload: statusFilter(512, [7]),
    };
    expect(failureOf((await client.request(filtered))[0])?.error).toBe(EINVAL);
    expect(await client.request({ type: CMD.BLOCK_STATUS, length: 512 })).toMatchObject([
      { type: STATUS_EXT },
    ]);
  });
});
