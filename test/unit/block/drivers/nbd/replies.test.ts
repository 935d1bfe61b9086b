// Replies as bytes: what a server says to a request, and what becomes of it. Servers that break rules are those of
// test/protocol/client-conformance.

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
  holeAt,
  simple,
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

describe('replies: what a server must not do', () => {
  it('fails the request that it does it to, and those that wait for their replies', async () => {
    const { node, server, logged } = await bench({
      command: 'write',
      reply: ({ cookie }) => chunk(cookie, { type: HOLE }),
    });
    const held: SeenRequest[] = [];
    const { answer } = server.script;
    server.script = {
      ...server.script,
      answer: (request, to) => {
        if (request.type === READ) held.push(request);
        else answer?.(request, to);
      },
    };
    // One less than may be under way.
    const reads = Array.from({ length: 15 }, () => outcome(node, 'read'));
    const written = outcome(node, 'write');
    reads.push(outcome(node, 'read'), outcome(node, 'read'));
    expect(await written).toBe(errno.EINVAL);
    expect(new Set(await Promise.all(reads))).toEqual(new Set([errno.EIO]));
    expect(held).toHaveLength(15);
    expect(logged).toEqual([
      "NBD server of node 'n': Unexpected reply type: 2 (hole) for CMD_WRITE",
    ]);
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
