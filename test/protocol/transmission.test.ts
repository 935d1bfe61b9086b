// The transmission phase: one test for each MUST of the specification that binds a server, and the reference's answers where
// the specification leaves a choice.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
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
  type NbdWireClient,
  OPT,
  type Reply,
  type Request,
} from './nbd-wire-client.ts';

const EIO = 5;
const EINVAL = 22;

let server: NbdTestServer;
beforeEach(async () => {
  server = await startNbdTestServer();
});
afterEach(() => server.close());

/** That a request is refused with EINVAL and this text, and that the session goes on. */
async function expectRefused(client: NbdWireClient, request: Request, text: string): Promise<void> {
  const replies = await client.request(request);
  expect(replies).toHaveLength(1);
  expect(errorOf(replies[0])).toEqual({ error: EINVAL, text });
  expect(await client.request({ type: CMD.FLUSH })).toMatchObject([{ kind: 'simple', error: 0 }]);
}

/** `type data` of chunks, in words. */
function chunks(replies: readonly Reply[]): string[] {
  return replies.map((reply) => {
    if (reply.kind === 'simple') return `simple ${reply.error}`;
    const done = reply.done ? ' done' : '';
    if (reply.type === CHUNK.OFFSET_DATA) {
      return `data ${reply.data.readBigUInt64BE(0)} ${reply.data.length - 8}${done}`;
    }
    if (reply.type === CHUNK.OFFSET_HOLE) {
      return `hole ${reply.data.readBigUInt64BE(0)} ${reply.data.readUInt32BE(8)}${done}`;
    }
    return `${reply.type} ${reply.data.toString('hex')}${done}`;
  });
}

function expectDiskBytes(bytes: Buffer, offset: number): void {
  for (let at = 0; at < bytes.length; at++) {
    if (bytes[at] !== diskByte(offset + at)) throw new Error(`wrong byte at ${offset + at}`);
  }
}

describe('replies', () => {
  it('have the cookie of their request, whatever it is', async () => {
    const client = await server.ready();
    for (const cookie of [0n, 0xffff_ffff_ffff_ffffn, 0x8000_0000_0000_0001n]) {
      const [reply] = await client.request({ type: CMD.FLUSH, cookie });
      expect(reply?.cookie).toBe(cookie);
    }
  });

  it('are simple as long as structured replies were not negotiated', async () => {
    const client = await server.ready({ structured: false });
    const [data] = await client.request({ type: CMD.READ, offset: DATA_START, length: 100 }, 100);
    expect(data).toMatchObject({ kind: 'simple', error: 0 });
    expectDiskBytes(data?.data ?? Buffer.alloc(0), DATA_START);
    const [refused] = await client.request({ type: CMD.READ, offset: DISK_SIZE, length: 1 });
    expect(refused).toMatchObject({ kind: 'simple', error: EINVAL });
  });

  it('come for every one of a thousand requests sent at once', async () => {
    const client = await server.ready();
    const requests = Array.from({ length: 1000 }, (_, index) =>
      encodeRequest({ type: CMD.READ, cookie: BigInt(index), offset: index * 512, length: 512 }),
    );
    client.send(...requests);
    const cookies = new Set<bigint>();
    for (let count = 0; count < 1000; count++) cookies.add((await client.reply()).cookie);
    expect(cookies.size).toBe(1000);
  });

  it('come for a request that arrives byte by byte', async () => {
    const client = await server.ready();
    for (const byte of encodeRequest({ type: CMD.WRITE, payload: Buffer.from('abc') })) {
      client.send(Buffer.from([byte]));
    }
    expect(chunks([await client.reply()])).toEqual(['simple 0']);
  });
});

describe('NBD_CMD_READ', () => {
  it('covers the whole region: chunks of data and holes, the last one marked', async () => {
    const client = await server.ready();
    const replies = await client.request({ type: CMD.READ, length: 256 * 1024 });
    expect(chunks(replies)).toEqual([
      `hole 0 ${DATA_START}`,
      `data ${DATA_START} ${DATA_END - DATA_START}`,
      `hole ${DATA_END} ${DATA_END} done`,
    ]);
    expectDiskBytes((replies[1]?.data ?? Buffer.alloc(0)).subarray(8), DATA_START);
  });

  it('is one chunk of data with NBD_CMD_FLAG_DF, zeroes included', async () => {
    const client = await server.ready();
    const request = { type: CMD.READ, flags: FLAG.DF, offset: DATA_START - 512, length: 1024 };
    const replies = await client.request(request);
    expect(chunks(replies)).toEqual([`data ${DATA_START - 512} 1024 done`]);
    const bytes = (replies[0]?.data ?? Buffer.alloc(0)).subarray(8);
    expect(bytes.subarray(0, 512)).toEqual(Buffer.alloc(512));
    expectDiskBytes(bytes.subarray(512), DATA_START);
  });

  it('serves any offset and length, with FUA too', async () => {
    const client = await server.ready();
    for (const flags of [0, FLAG.FUA]) {
      const request = { type: CMD.READ, flags, offset: DATA_START + 3, length: 1001 };
      const [reply] = await client.request(request);
      expectDiskBytes((reply?.data ?? Buffer.alloc(0)).subarray(8), DATA_START + 3);
    }
  });

  it('of nothing is a chunk without content', async () => {
    const client = await server.ready();
    expect(chunks(await client.request({ type: CMD.READ, length: 0 }))).toEqual(['0  done']);
    const simple = await server.ready({ structured: false });
    expect(chunks(await simple.request({ type: CMD.READ, length: 0 }))).toEqual(['simple 0']);
  });

  it('fails behind the end of a node that has become shorter since it was exported', async () => {
    await server.graph.add({ driver: 'raw', file: 'disk', 'node-name': 'window' });
    await server.exports.add({ type: 'nbd', id: 'w', 'node-name': 'window', name: 'w' });
    const client = await server.ready({ name: 'w' });
    await server.graph.reopen([
      { driver: 'raw', file: 'disk', 'node-name': 'window', size: DATA_START },
    ]);
    const replies = await client.request({ type: CMD.READ, length: 2 * DATA_START });
    expect(chunks(replies.slice(0, -1))).toEqual([`hole 0 ${DATA_START}`]);
    expect(errorOf(replies.at(-1))).toEqual({ error: EIO, text: 'reading from file failed' });
  });

  it('shows a hole as soon as a client made one, and data as soon as they are written', async () => {
    const client = await server.ready();
    const offset = 512 * 1024;
    const read = { type: CMD.READ, offset, length: 65536 };
    await client.request({ type: CMD.WRITE, offset, payload: Buffer.alloc(65536, 7) });
    expect(chunks(await client.request(read))).toEqual([`data ${offset} 65536 done`]);
    await client.request({ type: CMD.WRITE_ZEROES, offset: offset + 4096, length: 4096 });
    expect(chunks(await client.request(read))).toEqual([
      `data ${offset} 4096`,
      `hole ${offset + 4096} 4096`,
      `data ${offset + 8192} ${65536 - 8192} done`,
    ]);
    await client.request({ type: CMD.WRITE_ZEROES, offset, length: 65536 });
    expect(chunks(await client.request(read))).toEqual([`hole ${offset} 65536 done`]);
  });
});

describe('NBD_CMD_WRITE', () => {
  it('writes, at any length, what a later read gives back', async () => {
    const client = await server.ready();
    const offset = 300 * 1024;
    for (const length of [1, 511, 4096, 65535, 65536, 300_000]) {
      const payload = Buffer.alloc(length, length & 0xff);
      expect(chunks(await client.request({ type: CMD.WRITE, offset, payload }))).toEqual([
        'simple 0',
      ]);
      const request = { type: CMD.READ, flags: FLAG.DF, offset, length };
      const [reply] = await client.request(request);
      expect(reply?.data.subarray(8).equals(payload)).toBe(true);
    }
    await client.request({ type: CMD.WRITE_ZEROES, offset, length: 300_000 });
  });

  it('writes nothing before all data are there', async () => {
    const client = await server.ready();
    const other = await server.ready();
    const request = encodeRequest({ type: CMD.WRITE, payload: Buffer.alloc(200_000, 1) });
    client.send(request.subarray(0, request.length - 1));
    // The other client's answer comes after the server has seen what this one has sent so far.
    await other.request({ type: CMD.FLUSH });
    client.close();
    await server.logged(
      'Disconnect client, due to: Failed to read CMD_WRITE data: ' +
        'Unexpected end-of-file before all data were read',
    );
    expect(chunks(await other.request({ type: CMD.READ, length: 4096 }))).toEqual([
      'hole 0 4096 done',
    ]);
  });

  it('keeps several large writes sent at once apart', async () => {
    const client = await server.ready();
    const offset = 256 * 1024;
    const size = 100_000;
    const requests = [1, 2, 3, 4].map((value) =>
      encodeRequest({
        type: CMD.WRITE,
        offset: offset + (value - 1) * size,
        payload: Buffer.alloc(size, value),
      }),
    );
    client.send(...requests);
    for (let count = 0; count < 4; count++) {
      expect(await client.reply()).toMatchObject({ kind: 'simple', error: 0 });
    }
    for (const value of [1, 2, 3, 4]) {
      const start = offset + (value - 1) * size;
      const [reply] = await client.request({
        type: CMD.READ,
        flags: FLAG.DF,
        offset: start,
        length: size,
      });
      expect(reply?.data.subarray(8).equals(Buffer.alloc(size, value))).toBe(true);
    }
    await client.request({ type: CMD.WRITE_ZEROES, offset, length: 4 * size });
  });

  it('of more than 32 MiB is refused without reading it, and ends the session', async () => {
    const client = await server.ready();
    const [reply] = await client.request({ type: CMD.WRITE, length: 32 * 1024 * 1024 + 1 });
    expect(errorOf(reply)).toEqual({
      error: EINVAL,
      text: 'len (33554433 ) is larger than max len (33554432)',
    });
    expect(await client.receiveRest()).toHaveLength(0);
    await server.logged('Disconnect client, due to: Request handling failed in intermediate state');
  });

  it('that is refused has its data skipped: the next request is understood', async () => {
    const client = await server.ready({ name: 'ro' });
    await expectRefused(
      client,
      { type: CMD.WRITE, payload: Buffer.alloc(100_000, 0x25) },
      'Export is read-only',
    );
  });
});

describe('a read-only export', () => {
  it.each([
    ['NBD_CMD_WRITE', { type: CMD.WRITE, payload: Buffer.alloc(512) }],
    ['NBD_CMD_TRIM', { type: CMD.TRIM, length: 512 }],
    ['NBD_CMD_WRITE_ZEROES', { type: CMD.WRITE_ZEROES, length: 512 }],
  ])('refuses %s', async (_name, request) => {
    await expectRefused(await server.ready({ name: 'ro' }), request, 'Export is read-only');
  });
});

describe('NBD_CMD_WRITE_ZEROES and NBD_CMD_TRIM', () => {
  it('zero out, with any of the flags that the server advertised', async () => {
    const client = await server.ready();
    const offset = 700 * 1024;
    const flags = [0, FLAG.FUA, FLAG.NO_HOLE, FLAG.NO_HOLE | FLAG.FUA, FLAG.FAST_ZERO];
    for (const flag of flags) {
      await client.request({ type: CMD.WRITE, offset, payload: Buffer.alloc(8192, 5) });
      const request = { type: CMD.WRITE_ZEROES, flags: flag, offset, length: 8192 };
      expect(chunks(await client.request(request))).toEqual(['simple 0']);
      const [reply] = await client.request({
        type: CMD.READ,
        flags: FLAG.DF,
        offset,
        length: 8192,
      });
      expect(reply?.data.subarray(8).equals(Buffer.alloc(8192))).toBe(true);
    }
  });

  it('succeed for no length at all', async () => {
    const client = await server.ready();
    for (const type of [CMD.TRIM, CMD.WRITE_ZEROES, CMD.CACHE, CMD.WRITE]) {
      for (const flags of [0, FLAG.FUA]) {
        expect(chunks(await client.request({ type, flags }))).toEqual(['simple 0']);
      }
    }
  });

  it('trims with FUA, at the very end too', async () => {
    const client = await server.ready();
    const request = { type: CMD.TRIM, flags: FLAG.FUA, offset: DISK_SIZE - 4096, length: 4096 };
    expect(chunks(await client.request(request))).toEqual(['simple 0']);
  });
});

describe('NBD_CMD_FLUSH and NBD_CMD_CACHE', () => {
  it('are acknowledged with a simple reply', async () => {
    const client = await server.ready();
    expect(chunks(await client.request({ type: CMD.FLUSH, flags: FLAG.FUA }))).toEqual([
      'simple 0',
    ]);
    expect(chunks(await client.request({ type: CMD.CACHE, length: DISK_SIZE }))).toEqual([
      'simple 0',
    ]);
  });
});

describe('NBD_CMD_BLOCK_STATUS', () => {
  const contexts = ['base:allocation'];
  const start = DATA_START.toString(16).padStart(8, '0');
  const rest = (DISK_SIZE - DATA_END).toString(16).padStart(8, '0');

  it('returns one chunk of consecutive extents for the context', async () => {
    const client = await server.ready({ contexts });
    const replies = await client.request({ type: CMD.BLOCK_STATUS, length: DISK_SIZE });
    const extents = `${start}00000003${start}00000000${rest}00000003`;
    expect(chunks(replies)).toEqual([`5 00000000${extents} done`]);
  });

  it('returns a single extent, cut to the request, with NBD_CMD_FLAG_REQ_ONE', async () => {
    const client = await server.ready({ contexts });
    const request = { type: CMD.BLOCK_STATUS, flags: FLAG.REQ_ONE };
    expect(chunks(await client.request({ ...request, length: DISK_SIZE }))).toEqual([
      `5 00000000${start}00000003 done`,
    ]);
    expect(chunks(await client.request({ ...request, offset: 1, length: 3 }))).toEqual([
      '5 000000000000000300000003 done',
    ]);
  });

  it('is refused for no length, and where no context was selected', async () => {
    await expectRefused(
      await server.ready({ contexts }),
      { type: CMD.BLOCK_STATUS },
      'need non-zero length',
    );
    await expectRefused(
      await server.ready(),
      { type: CMD.BLOCK_STATUS, length: 512 },
      'CMD_BLOCK_STATUS not negotiated',
    );
  });

  it('is not negotiated by contexts of another export, or by an earlier selection', async () => {
    for (const [first, second] of [
      ['ro', undefined],
      ['', ['base:none']],
    ] as const) {
      const client = await server.greeted();
      await client.option(OPT.STRUCTURED_REPLY);
      await client.option(OPT.SET_META_CONTEXT, metaQuery(first, contexts));
      if (second !== undefined) {
        await client.option(OPT.SET_META_CONTEXT, metaQuery(first, second));
      }
      await client.option(OPT.GO, infoRequest(''));
      await expectRefused(
        client,
        { type: CMD.BLOCK_STATUS, length: 512 },
        'CMD_BLOCK_STATUS not negotiated',
      );
    }
  });
});

describe('a request beyond the end', () => {
  const commands = Object.entries(CMD).filter(([name]) => name !== 'DISC');
  const places: readonly (readonly [number | bigint, number])[] = [
    [DISK_SIZE - 256, 512],
    [DISK_SIZE, 512],
    [2n ** 53n + 1n, 512],
    [2n ** 63n, 512],
    [2n ** 64n - 1n, 512],
  ];

  it.each(commands)('is refused for NBD_CMD_%s, wherever it is', async (_name, type) => {
    const client = await server.ready({ contexts: ['base:allocation'] });
    for (const [offset, length] of places) {
      const payload = type === CMD.WRITE ? Buffer.alloc(length) : undefined;
      await expectRefused(
        client,
        { type, offset, length, ...(payload === undefined ? {} : { payload }) },
        `operation past EOF; From: ${offset}, Len: ${length}, Size: ${DISK_SIZE}`,
      );
    }
  });
});

describe('an unknown flag', () => {
  it.each([
    ['read', CMD.READ, 0x8000],
    ['read', CMD.READ, FLAG.REQ_ONE],
    ['write', CMD.WRITE, FLAG.DF],
    ['flush', CMD.FLUSH, FLAG.NO_HOLE],
    ['trim', CMD.TRIM, FLAG.NO_HOLE],
    ['cache', CMD.CACHE, 0x20],
    ['write zeroes', CMD.WRITE_ZEROES, FLAG.DF],
    ['block status', CMD.BLOCK_STATUS, FLAG.FAST_ZERO],
  ])('is refused for %s (%i, 0x%x)', async (name, type, flags) => {
    await expectRefused(
      await server.ready({ contexts: ['base:allocation'] }),
      { type, flags, length: 0 },
      `unsupported flags for command ${name} (got 0x${flags.toString(16)})`,
    );
  });

  it('is DF where structured replies were not negotiated', async () => {
    const client = await server.ready({ structured: false });
    const [reply] = await client.request({ type: CMD.READ, flags: FLAG.DF, length: 4 });
    expect(reply).toMatchObject({ kind: 'simple', error: EINVAL });
  });
});

describe('frames', () => {
  it('of an unknown type are refused, and the session goes on', async () => {
    const client = await server.ready();
    for (const type of [8, 9, 0xffff]) {
      await expectRefused(client, { type, length: 512 }, `invalid request type (${type}) received`);
    }
  });

  it('longer than 32 MiB are refused for reads and caching, and the session goes on', async () => {
    const client = await server.ready();
    for (const type of [CMD.READ, CMD.CACHE]) {
      await expectRefused(
        client,
        { type, length: 0xffff_ffff },
        'len (4294967295 ) is larger than max len (33554432)',
      );
    }
  });

  it('with a wrong magic are answered and end the session', async () => {
    const client = await server.ready();
    const [reply] = await client.request({ type: CMD.READ, length: 4, magic: 0x12345678 });
    expect(errorOf(reply)).toEqual({ error: EINVAL, text: 'invalid magic (got 0x12345678)' });
    expect(await client.receiveRest()).toHaveLength(0);
  });

  it('cut off by the end of the stream end the session', async () => {
    const client = await server.ready();
    client.send(encodeRequest({ type: CMD.READ, length: 4 }).subarray(0, 27));
    client.endSending();
    expect(await client.receiveRest()).toHaveLength(0);
    await server.logged(
      'Disconnect client, due to: Unexpected end-of-file before all bytes were read',
    );
  });
});

describe('NBD_CMD_DISC', () => {
  it('is not answered, but what was asked before it is', async () => {
    const client = await server.ready();
    client.send(
      ...[1n, 2n, 3n].map((cookie) =>
        encodeRequest({ type: CMD.READ, cookie, offset: DATA_START, length: 512 }),
      ),
      encodeRequest({ type: CMD.DISC, flags: 0xffff, offset: 2n ** 63n, length: 0xffff_ffff }),
      encodeRequest({ type: CMD.FLUSH }),
    );
    const rest = await client.receiveRest();
    expect(rest).toHaveLength(3 * (28 + 512));
  });
});
