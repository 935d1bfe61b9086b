// Replies as bytes: what a server says to a request, and what becomes of it. One row for each rule.

import { describe, expect, it } from 'vitest';
import { errno } from '../../../../../src/base/errno.ts';
import { IoError } from '../../../../../src/base/errors.ts';
import type { BlockNode } from '../../../../../src/block/block-node.ts';
import { blockStatus } from '../../../../../src/block/block-status.ts';
import { read, write } from '../../../../../src/block/io.ts';
import { flush } from '../../../../../src/block/io-flush.ts';
import { allocate } from '../../../../../src/sys/memory.ts';
import {
  type Bench,
  BLOCK_STATUS,
  CONTEXT_ID,
  clientOf,
  FLUSH,
  READ,
  type Script,
  type SeenRequest,
  WRITE,
} from './scripted-server.ts';
import {
  chunk,
  dataAt,
  errorData,
  extendedChunk,
  extents,
  hex,
  holeAt,
  simple,
  u16,
  u32,
  u64,
} from './server-bytes.ts';

const NONE = 0;
const DATA = 1;
const HOLE = 2;
const STATUS = 5;
const STATUS_EXT = 6;
const ERROR = 0x8001;
const ERROR_OFFSET = 0x8002;

const AT = 4096;
const LENGTH = 1024;

type Command = 'read' | 'write' | 'flush' | 'status';

const types = { read: READ, write: WRITE, flush: FLUSH, status: BLOCK_STATUS } as const;

interface Answer {
  readonly headers?: Script['headers'];
  readonly blockSizes?: Script['blockSizes'];
  readonly command: Command;
  /** What the server says to the command; to all else it says yes. */
  readonly reply: (request: SeenRequest) => Buffer;
}

async function bench({
  headers = 'structured',
  blockSizes,
  command,
  reply,
}: Answer): Promise<Bench> {
  return clientOf({
    headers,
    ...(blockSizes === undefined ? {} : { blockSizes }),
    answer: (request, to) => {
      const isIt = request.type === types[command];
      to.send(isIt ? reply(request) : simple(request.cookie, 0));
    },
  });
}

const buffer = allocate(LENGTH);

async function carryOut(node: BlockNode, command: Command): Promise<unknown> {
  switch (command) {
    case 'read':
      buffer.bytes.fill(0xee);
      await read(node, AT, LENGTH, buffer, 0);
      return Buffer.from(buffer.bytes.subarray(0, LENGTH));
    case 'write':
      return write(node, AT, LENGTH, buffer, 0);
    case 'flush':
      return flush(node);
    case 'status': {
      const { status, length } = await blockStatus(node, AT, LENGTH);
      return { status, length };
    }
  }
  return command satisfies never;
}

/** Its errno, or what it answered. */
async function outcome(node: BlockNode, command: Command): Promise<unknown> {
  try {
    return await carryOut(node, command);
  } catch (error) {
    if (error instanceof IoError) return error.errno;
    throw error;
  }
}

const filled = (length: number, byte: number): Buffer => Buffer.alloc(length, byte);
const whole = (request: SeenRequest, byte: number): Buffer =>
  chunk(request.cookie, { type: DATA, data: dataAt(request.offset, filled(request.length, byte)) });
const none = (request: SeenRequest): Buffer => chunk(request.cookie, { type: NONE });

describe('replies: what a server may do', () => {
  it.each<Answer & { readonly what: string; readonly is: unknown }>([
    {
      what: 'data behind a simple reply',
      headers: 'simple',
      command: 'read',
      reply: ({ cookie, length }) => simple(cookie, 0, filled(length, 1)),
      is: filled(LENGTH, 1),
    },
    {
      what: 'data in one chunk',
      command: 'read',
      reply: (request) => whole(request, 2),
      is: filled(LENGTH, 2),
    },
    {
      what: 'data and a hole in any order, the end in a chunk of its own',
      command: 'read',
      reply: ({ cookie, offset }) =>
        Buffer.concat([
          chunk(cookie, { type: DATA, done: false, data: dataAt(offset + 1000, filled(24, 4)) }),
          chunk(cookie, { type: HOLE, done: false, data: holeAt(offset + 10, 990) }),
          chunk(cookie, { type: DATA, done: false, data: dataAt(offset, filled(10, 3)) }),
          chunk(cookie, { type: NONE }),
        ]),
      is: Buffer.concat([filled(10, 3), filled(990, 0), filled(24, 4)]),
    },
    {
      what: 'extended chunks',
      headers: 'extended',
      command: 'read',
      reply: ({ cookie, offset, length }) =>
        extendedChunk(cookie, offset, { type: DATA, data: dataAt(offset, filled(length, 5)) }),
      is: filled(LENGTH, 5),
    },
    {
      what: 'an error after some of the data',
      command: 'read',
      reply: ({ cookie, offset }) =>
        Buffer.concat([
          chunk(cookie, { type: DATA, done: false, data: dataAt(offset, filled(10, 3)) }),
          chunk(cookie, { type: ERROR, data: errorData(28, 'no space') }),
        ]),
      is: errno.ENOSPC,
    },
    {
      what: 'an error with the longest message',
      command: 'read',
      reply: ({ cookie }) => chunk(cookie, { type: ERROR, data: errorData(12, 'x'.repeat(4096)) }),
      is: errno.ENOMEM,
    },
    {
      what: 'an error with a place',
      command: 'read',
      reply: ({ cookie, offset }) =>
        chunk(cookie, {
          type: ERROR_OFFSET,
          data: Buffer.concat([errorData(5, 'here'), u64(offset + 1)]),
        }),
      is: errno.EIO,
    },
    {
      what: 'an error of a kind that is not known',
      command: 'write',
      reply: ({ cookie }) =>
        chunk(cookie, { type: 0x8abc, data: Buffer.concat([errorData(1, 'no'), filled(9, 9)]) }),
      is: errno.EPERM,
    },
    {
      what: 'several errors, of which the first counts',
      command: 'write',
      reply: ({ cookie }) =>
        Buffer.concat([
          chunk(cookie, { type: ERROR, done: false, data: errorData(75, '') }),
          chunk(cookie, { type: ERROR, data: errorData(1, '') }),
        ]),
      is: errno.EOVERFLOW,
    },
    {
      what: 'success in a chunk',
      command: 'write',
      reply: none,
      is: undefined,
    },
    ...(
      [
        [1, errno.EPERM],
        [5, errno.EIO],
        [12, errno.ENOMEM],
        [22, errno.EINVAL],
        [28, errno.ENOSPC],
        [75, errno.EOVERFLOW],
        [95, errno.ENOTSUP],
        [108, errno.ESHUTDOWN],
        [2, errno.EINVAL],
        [0xffffffff, errno.EINVAL],
      ] as const
    ).map(([code, is]) => ({
      what: `error ${code}`,
      command: 'flush' as const,
      reply: ({ cookie }: SeenRequest) => simple(cookie, code),
      is,
    })),
    {
      what: 'an extent that is longer than the question',
      command: 'status',
      reply: ({ cookie }) =>
        chunk(cookie, { type: STATUS, data: extents(CONTEXT_ID, [1 << 30, 3]) }),
      is: { status: 0b1110, length: LENGTH },
    },
    {
      what: 'more extents than the one that was asked for',
      command: 'status',
      reply: ({ cookie }) =>
        chunk(cookie, { type: STATUS, data: extents(CONTEXT_ID, [100, 0], [200, 3], [300, 0]) }),
      is: { status: 0b1101, length: 100 },
    },
    {
      what: 'an extent that is not aligned, cut',
      blockSizes: [512, 512, 65536],
      command: 'status',
      reply: ({ cookie }) => chunk(cookie, { type: STATUS, data: extents(CONTEXT_ID, [700, 3]) }),
      is: { status: 0b1110, length: 512 },
    },
    {
      what: 'an extent that is less than a block, taken for data',
      blockSizes: [512, 512, 65536],
      command: 'status',
      reply: ({ cookie }) => chunk(cookie, { type: STATUS, data: extents(CONTEXT_ID, [1, 3]) }),
      is: { status: 0b1101, length: 512 },
    },
    {
      what: 'an extent of 64 bits',
      headers: 'extended',
      command: 'status',
      reply: ({ cookie, offset }) =>
        extendedChunk(cookie, offset, {
          type: STATUS_EXT,
          data: Buffer.concat([u32(CONTEXT_ID), u32(1), u64(2n ** 40n), u64(3)]),
        }),
      is: { status: 0b1110, length: LENGTH },
    },
    {
      what: 'an error instead of extents',
      command: 'status',
      reply: ({ cookie }) => chunk(cookie, { type: ERROR, data: errorData(95, '') }),
      is: errno.ENOTSUP,
    },
    {
      what: 'no extent at all, which fails the request alone',
      command: 'status',
      reply: none,
      is: errno.EIO,
    },
  ])('$what', async ({ is, ...answer }) => {
    const { node, server, logged } = await bench(answer);
    expect(await outcome(node, answer.command)).toEqual(is);
    expect(logged).toEqual([]);
    expect(server.open).toBe(1);
  });
});

interface Breach extends Answer {
  readonly rule: string;
  readonly reason: string;
}

const exceeding = 'Protocol error: server sent chunk exceeding requested region';
const overlapping = 'Protocol error: server sent chunks that overlap, or too many';
const messageSize =
  'Protocol error: server sent structured error chunk with incorrect message size';
const incomplete = 'Protocol error: server did not send all requested data';
const notMade = 'Protocol error: reply to a request that was not made';
const simpleForChunk = 'Protocol error: simple reply when structured reply chunk was expected';

function data(rule: string, reason: string, reply: Answer['reply']): Breach {
  return { rule, reason, command: 'read', reply };
}

function dataChunk(offset: number | bigint, length: number, done = true): Answer['reply'] {
  return ({ cookie }) =>
    chunk(cookie, { type: DATA, done, data: dataAt(offset, filled(length, 1)) });
}

function error(rule: string, reason: string, type: number, payload: Buffer): Breach {
  return {
    rule,
    reason,
    command: 'write',
    reply: ({ cookie }) => chunk(cookie, { type, data: payload }),
  };
}

function status(rule: string, reason: string, payload: Buffer): Breach {
  return {
    rule,
    reason,
    command: 'status',
    reply: ({ cookie }) => chunk(cookie, { type: STATUS, data: payload }),
  };
}

const breaches: readonly Breach[] = [
  {
    rule: 'replies have a magic',
    reason: 'invalid magic (got 0x12345678)',
    command: 'flush',
    reply: () => hex('12345678'),
  },
  {
    rule: 'chunks are for clients that asked for them',
    reason: 'Protocol error: reply with magic 0x668e33ef, which was not negotiated',
    headers: 'simple',
    command: 'flush',
    reply: none,
  },
  {
    rule: 'with extended headers there are no simple replies',
    reason: 'Protocol error: reply with magic 0x67446698, which was not negotiated',
    headers: 'extended',
    command: 'flush',
    reply: ({ cookie }) => simple(cookie, 0),
  },
  {
    rule: 'with extended headers there are no short chunks',
    reason: 'Protocol error: reply with magic 0x668e33ef, which was not negotiated',
    headers: 'extended',
    command: 'flush',
    reply: none,
  },
  {
    rule: 'extended chunks bear the offset of the request',
    reason: 'Protocol error: chunk of another offset than its request',
    headers: 'extended',
    command: 'write',
    reply: ({ cookie, offset }) => extendedChunk(cookie, offset + 1, { type: NONE }),
  },
  {
    rule: 'cookies are those of requests',
    reason: notMade,
    command: 'flush',
    reply: () => simple(filled(8, 0xff), 0),
  },
  {
    rule: 'data come in chunks where chunks were agreed on',
    reason: simpleForChunk,
    command: 'read',
    reply: ({ cookie, length }) => simple(cookie, 0, filled(length, 1)),
  },
  {
    rule: 'errors of reads come in chunks where chunks were agreed on',
    reason: simpleForChunk,
    command: 'read',
    reply: ({ cookie }) => simple(cookie, 5),
  },
  {
    rule: 'a reply that began with a chunk goes on with chunks',
    reason: simpleForChunk,
    command: 'write',
    reply: ({ cookie }) =>
      Buffer.concat([
        chunk(cookie, { type: ERROR, done: false, data: errorData(5, '') }),
        simple(cookie, 0),
      ]),
  },
  {
    rule: 'NBD_REPLY_TYPE_NONE is the last chunk',
    reason: 'Protocol error: NBD_REPLY_TYPE_NONE chunk without NBD_REPLY_FLAG_DONE flag set',
    command: 'write',
    reply: ({ cookie }) => chunk(cookie, { type: NONE, done: false }),
  },
  {
    rule: 'NBD_REPLY_TYPE_NONE has no payload',
    reason: 'Protocol error: NBD_REPLY_TYPE_NONE chunk with nonzero length',
    command: 'write',
    reply: ({ cookie }) => chunk(cookie, { type: NONE, data: filled(1, 0) }),
  },
  {
    rule: 'only reads are answered with data',
    reason: 'Unexpected NBD_REPLY_TYPE_OFFSET_DATA chunk',
    command: 'write',
    reply: dataChunk(AT, 1),
  },
  {
    rule: 'only reads are answered with holes',
    reason: 'Unexpected structured payload',
    command: 'write',
    reply: ({ cookie }) => chunk(cookie, { type: HOLE, data: holeAt(AT, 1) }),
  },
  {
    rule: 'only questions for the status are answered with it',
    reason: 'Unexpected reply type: 5 (block status) for CMD_READ',
    command: 'read',
    reply: ({ cookie }) => chunk(cookie, { type: STATUS, data: extents(CONTEXT_ID, [512, 0]) }),
  },
  {
    rule: 'types of chunks are known',
    reason: 'Unexpected reply type: 99 (<unknown>) for CMD_READ',
    command: 'read',
    reply: ({ cookie }) => chunk(cookie, { type: 99, data: filled(8, 0) }),
  },
  {
    rule: 'types of chunks are known, without payload either',
    reason: 'Unexpected reply type: 99 (<unknown>) for CMD_WRITE',
    command: 'write',
    reply: ({ cookie }) => chunk(cookie, { type: 99 }),
  },
  {
    rule: 'a status is not answered with a hole',
    reason: 'Unexpected reply type: 2 (hole) for CMD_BLOCK_STATUS',
    command: 'status',
    reply: ({ cookie }) => chunk(cookie, { type: HOLE, data: holeAt(AT, 1) }),
  },
  {
    rule: 'extents of 64 bits need extended headers',
    reason: 'Unexpected reply type: 6 (block status (64-bit)) for CMD_BLOCK_STATUS',
    command: 'status',
    reply: ({ cookie }) =>
      chunk(cookie, {
        type: STATUS_EXT,
        data: Buffer.concat([u32(CONTEXT_ID), u32(1), u64(512), u64(0)]),
      }),
  },
  {
    rule: 'payloads are not without end',
    reason: 'Payload too large',
    command: 'read',
    reply: ({ cookie }) => chunk(cookie, { type: HOLE, length: 0xffffffff }),
  },
  {
    rule: 'payloads of 64 bits are not without end',
    reason: 'Payload too large',
    headers: 'extended',
    command: 'read',
    reply: ({ cookie, offset }) => extendedChunk(cookie, offset, { type: HOLE, length: 2 ** 53 }),
  },
  data(
    'data have an offset',
    'Protocol error: invalid payload for NBD_REPLY_TYPE_OFFSET_DATA',
    ({ cookie }) => chunk(cookie, { type: DATA, data: filled(7, 0) }),
  ),
  data(
    'data are not empty',
    'Protocol error: invalid payload for NBD_REPLY_TYPE_OFFSET_DATA',
    ({ cookie }) => chunk(cookie, { type: DATA, data: u64(AT) }),
  ),
  data('data begin inside of the read', exceeding, dataChunk(AT - 1, 10)),
  data('data end inside of the read', exceeding, dataChunk(AT + LENGTH - 9, 10)),
  data('data are not longer than the read', exceeding, dataChunk(AT, LENGTH + 1)),
  data('data are not far behind the read', exceeding, dataChunk(2n ** 64n - 1n, 10)),
  data('data without end are not waited for', exceeding, ({ cookie }) =>
    chunk(cookie, { type: DATA, data: u64(AT), length: 0xffffffff }),
  ),
  data('data do not overlap', overlapping, (request) =>
    Buffer.concat([dataChunk(AT, 100, false)(request), dataChunk(AT + 99, 100)(request)]),
  ),
  data('data do not come twice', overlapping, (request) =>
    Buffer.concat([dataChunk(AT, LENGTH, false)(request), dataChunk(AT, LENGTH)(request)]),
  ),
  data('data and holes do not overlap', overlapping, (request) =>
    Buffer.concat([
      chunk(request.cookie, { type: HOLE, done: false, data: holeAt(AT + 100, 100) }),
      dataChunk(AT, 101)(request),
    ]),
  ),
  data('all data are sent', incomplete, dataChunk(AT, LENGTH - 1)),
  data('all data are sent, not just the end', incomplete, dataChunk(AT + 1, LENGTH - 1)),
  data('success without data is none', incomplete, none),
  data(
    'a hole has its size',
    'Protocol error: invalid payload for NBD_REPLY_TYPE_OFFSET_HOLE',
    ({ cookie }) => chunk(cookie, { type: HOLE, data: filled(11, 0) }),
  ),
  data('a hole is not empty', exceeding, ({ cookie }) =>
    chunk(cookie, { type: HOLE, data: holeAt(AT, 0) }),
  ),
  data('a hole is inside of the read', exceeding, ({ cookie }) =>
    chunk(cookie, { type: HOLE, data: holeAt(AT + 1, LENGTH) }),
  ),
  error(
    'an error has its size',
    'Protocol error: invalid payload for structured error',
    ERROR,
    filled(5, 1),
  ),
  error(
    'an error is one',
    'Protocol error: server sent structured error chunk with error = 0',
    ERROR,
    errorData(0, ''),
  ),
  error('a message is inside of its chunk', messageSize, ERROR, errorData(5, 'abc', 4)),
  error('nothing follows a message', messageSize, ERROR, errorData(5, 'abc', 2)),
  error('a place follows a message', messageSize, ERROR_OFFSET, errorData(5, 'abc')),
  error(
    'messages have at most 4096 bytes',
    messageSize,
    0x8abc,
    Buffer.concat([errorData(5, 'x'.repeat(4097))]),
  ),
  error(
    'the place of an error is inside of the request',
    'Protocol error: server sent error outside of requested region',
    ERROR_OFFSET,
    Buffer.concat([u32(5), u16(0), u64(AT + LENGTH)]),
  ),
  status(
    'a status has an extent',
    'Protocol error: invalid payload for NBD_REPLY_TYPE_BLOCK_STATUS',
    u32(CONTEXT_ID),
  ),
  status(
    'extents are whole',
    'Protocol error: invalid payload for NBD_REPLY_TYPE_BLOCK_STATUS',
    Buffer.concat([extents(CONTEXT_ID, [512, 0]), filled(1, 0)]),
  ),
  status(
    'a status is of the context that was negotiated',
    'Protocol error: unexpected context id 8 for NBD_REPLY_TYPE_BLOCK_STATUS, when negotiated context id is 7',
    extents(8, [512, 0]),
  ),
  status(
    'extents are not empty',
    'Protocol error: server sent status chunk with zero length',
    extents(CONTEXT_ID, [0, 0]),
  ),
  {
    rule: 'a context is told of once',
    reason: 'Several BLOCK_STATUS chunks in reply',
    command: 'status',
    reply: ({ cookie }) => {
      const one = { type: STATUS, data: extents(CONTEXT_ID, [512, 0]) };
      return Buffer.concat([chunk(cookie, { ...one, done: false }), chunk(cookie, one)]);
    },
  },
  {
    rule: 'as many extents of 64 bits come as are announced',
    reason: 'Protocol error: invalid payload for NBD_REPLY_TYPE_BLOCK_STATUS_EXT',
    headers: 'extended',
    command: 'status',
    reply: ({ cookie, offset }) =>
      extendedChunk(cookie, offset, {
        type: STATUS_EXT,
        data: Buffer.concat([u32(CONTEXT_ID), u32(2), u64(512), u64(0)]),
      }),
  },
];

describe('replies: what a server must not do', () => {
  it.each(breaches)('$rule', async (breach) => {
    const { reason, ...answer } = breach;
    const { node, server, logged } = await bench(answer);
    expect(await outcome(node, answer.command)).toBe(errno.EIO);
    expect(logged).toEqual([`NBD server of node 'n': ${reason}`]);
    await server.until(() => server.open === 0);
    // Such a server is not trusted again.
    expect(await outcome(node, 'flush')).toBe(errno.EIO);
    expect(server.connections).toBe(1);
  });

  it.each<Answer & { readonly what: string }>([
    {
      what: 'simple',
      command: 'write',
      reply: ({ cookie }) => Buffer.concat([simple(cookie, 0), simple(cookie, 0)]),
    },
    {
      what: 'structured',
      command: 'read',
      reply: (request) => Buffer.concat([whole(request, 1), none(request)]),
    },
  ])('a $what reply comes once', async (answer) => {
    const { node, server, logged } = await bench(answer);
    await outcome(node, answer.command);
    await server.until(() => server.open === 0);
    expect(logged).toEqual([`NBD server of node 'n': ${notMade}`]);
    expect(await outcome(node, 'flush')).toBe(errno.EIO);
  });

  it('a request is not answered before it was there', async () => {
    const size = 8 << 20;
    const { node, logged } = await clientOf({
      size,
      answersEarly: true,
      answer: ({ cookie }, to) => to.send(simple(cookie, 0)),
    });
    await expect(write(node, 0, size, allocate(size), 0)).rejects.toMatchObject({
      errno: errno.EIO,
    });
    expect(logged).toEqual([
      "NBD server of node 'n': Protocol error: reply to a request that was not sent completely",
    ]);
  });
});
