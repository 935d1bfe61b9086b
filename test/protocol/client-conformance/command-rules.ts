// The replies to NBD_CMD_READ and NBD_CMD_BLOCK_STATUS.

import { errno } from '../../../src/base/errno.ts';
import { CONTEXT_ID, type SeenRequest } from '../../unit/block/drivers/nbd/scripted-server.ts';
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
} from '../../unit/block/drivers/nbd/server-bytes.ts';
import { AT, failed, LENGTH, left, type Rule, type Section, tolerated } from './rule.ts';

const { EIO, EINVAL } = errno;
const NONE = 0;
const DATA = 1;
const HOLE = 2;
const STATUS = 5;
const STATUS_EXT = 6;
const ERROR_OFFSET = 0x8002;

const join = Buffer.concat.bind(Buffer);
const filled = (length: number): Buffer => Buffer.alloc(length, 1);

const data =
  (offset: number | bigint, length: number, done = true) =>
  ({ cookie }: SeenRequest): Buffer =>
    chunk(cookie, { type: DATA, done, data: dataAt(offset, filled(length)) });
const hole =
  (offset: number | bigint, length: number, done = true) =>
  ({ cookie }: SeenRequest): Buffer =>
    chunk(cookie, { type: HOLE, done, data: holeAt(offset, length) });
type Reply = NonNullable<Rule['reply']>;
const both =
  (...replies: readonly Reply[]): Reply =>
  (request) =>
    join(replies.map((reply) => reply(request)));

const exceeding = left('Protocol error: server sent chunk exceeding requested region', EINVAL);
const overlapping = left('Protocol error: server sent chunks that overlap, or too many', EINVAL);
const incomplete = left('Protocol error: server did not send all requested data', EINVAL);
const invalid = (type: string): ReturnType<typeof left> =>
  left(`Protocol error: invalid payload for ${type}`, EINVAL);

const reads: Rule[] = (
  [
    {
      level: 'MUST',
      text: 'Data have an offset',
      reply: ({ cookie }) => chunk(cookie, { type: DATA, data: filled(7) }),
      ours: invalid('NBD_REPLY_TYPE_OFFSET_DATA'),
    },
    {
      level: 'MUST',
      text: 'Data are at least one byte',
      reply: data(AT, 0),
      ours: invalid('NBD_REPLY_TYPE_OFFSET_DATA'),
    },
    {
      level: 'MUST',
      text: 'Data begin inside of the read',
      reply: data(AT - 1, 10),
      ours: exceeding,
    },
    {
      level: 'MUST',
      text: 'Data end inside of the read',
      reply: data(AT + LENGTH - 9, 10),
      ours: exceeding,
    },
    {
      level: 'MUST NOT',
      text: 'Data are longer than the read',
      reply: data(AT, LENGTH + 1),
      ours: exceeding,
    },
    {
      level: 'MUST NOT',
      text: 'Data are at an offset that wraps around',
      reply: data(2n ** 64n - 1n, 10),
      ours: exceeding,
    },
    {
      level: 'MUST NOT',
      text: 'Data are without end',
      reply: ({ cookie }) => chunk(cookie, { type: DATA, data: u64(AT), length: 0xffffffff }),
      ours: exceeding,
    },
    {
      level: 'MUST NOT',
      text: 'Data overlap',
      reply: both(data(AT, 600, false), data(AT + 599, LENGTH - 599)),
      ours: overlapping,
      reference: tolerated,
    },
    {
      level: 'MUST NOT',
      text: 'Data come twice',
      reply: both(data(AT, LENGTH, false), data(AT, LENGTH)),
      ours: overlapping,
      reference: tolerated,
    },
    {
      level: 'MUST NOT',
      text: 'Data overlap a hole',
      reply: both(hole(AT + 500, LENGTH - 500, false), data(AT, 501)),
      ours: overlapping,
      reference: tolerated,
    },
    {
      level: 'MUST NOT',
      text: 'Data overlap an error that was there before',
      reply: ({ cookie }) =>
        join([
          chunk(cookie, {
            type: ERROR_OFFSET,
            done: false,
            data: join([errorData(5, ''), u64(AT + 1)]),
          }),
          data(AT, LENGTH)({ cookie } as SeenRequest),
        ]),
      ours: failed(EIO),
      reason: 'the read has failed as a whole',
    },
    {
      level: 'MUST',
      text: 'All data are sent, to the last byte',
      reply: data(AT, LENGTH - 1),
      ours: incomplete,
      reference: tolerated,
    },
    {
      level: 'MUST',
      text: 'All data are sent, from the first byte on',
      reply: data(AT + 1, LENGTH - 1),
      ours: incomplete,
      reference: tolerated,
    },
    {
      level: 'MUST',
      text: 'All data are sent, without gaps',
      reply: both(data(AT, 100, false), data(AT + 101, LENGTH - 101)),
      ours: incomplete,
      reference: tolerated,
    },
    {
      level: 'MUST',
      text: 'Any data are sent when a read succeeds',
      reply: ({ cookie }) => chunk(cookie, { type: NONE }),
      ours: incomplete,
      reference: tolerated,
    },
    {
      level: 'SHOULD',
      text: 'Data come in multiples of 512 bytes',
      server: { blockSizes: [512, 512, 65_536] },
      reply: both(data(AT, 1, false), data(AT + 1, LENGTH - 1)),
      ours: tolerated,
      reason: 'they are where they belong',
    },
    {
      level: 'MUST',
      text: 'A hole has twelve bytes, not eleven',
      reply: ({ cookie }) => chunk(cookie, { type: HOLE, data: filled(11) }),
      ours: invalid('NBD_REPLY_TYPE_OFFSET_HOLE'),
    },
    {
      level: 'MUST',
      text: 'A hole has twelve bytes, not thirteen',
      reply: ({ cookie }) => chunk(cookie, { type: HOLE, data: filled(13) }),
      ours: invalid('NBD_REPLY_TYPE_OFFSET_HOLE'),
    },
    {
      level: 'MUST',
      text: 'A hole has any bytes at all',
      reply: ({ cookie }) => chunk(cookie, { type: HOLE }),
      ours: invalid('NBD_REPLY_TYPE_OFFSET_HOLE'),
    },
    {
      level: 'MUST',
      text: 'A hole is at least one byte long',
      reply: hole(AT, 0),
      ours: exceeding,
    },
    {
      level: 'MUST',
      text: 'A hole begins inside of the read',
      reply: hole(AT - 1, 10),
      ours: exceeding,
    },
    {
      level: 'MUST',
      text: 'A hole ends inside of the read',
      reply: hole(AT + 1, LENGTH),
      ours: exceeding,
    },
    {
      level: 'MUST NOT',
      text: 'A read is answered with a status',
      reply: ({ cookie }) => chunk(cookie, { type: STATUS, data: extents(CONTEXT_ID, [512, 0]) }),
      ours: left('Unexpected reply type: 5 (block status) for CMD_READ', EINVAL),
    },
  ] satisfies Omit<Rule, 'command'>[]
).map((rule) => ({ ...rule, command: 'read' }));

const status =
  (payload: Buffer): Reply =>
  ({ cookie }) =>
    chunk(cookie, { type: STATUS, data: payload });
const extended =
  (payload: Buffer): Reply =>
  ({ cookie, offset }) =>
    extendedChunk(cookie, offset, { type: STATUS_EXT, data: payload });
const notAsked = 'does not ask for it';

const statuses: Rule[] = (
  [
    {
      level: 'MUST',
      text: 'A status has an extent',
      reply: status(u32(CONTEXT_ID)),
      ours: invalid('NBD_REPLY_TYPE_BLOCK_STATUS'),
    },
    {
      level: 'MUST',
      text: 'A status has a context',
      reply: status(filled(3)),
      ours: invalid('NBD_REPLY_TYPE_BLOCK_STATUS'),
    },
    {
      level: 'MUST',
      text: 'A status has any bytes at all',
      reply: status(Buffer.alloc(0)),
      ours: invalid('NBD_REPLY_TYPE_BLOCK_STATUS'),
    },
    {
      level: 'MUST',
      text: 'Extents are whole',
      reply: status(join([extents(CONTEXT_ID, [512, 0]), filled(1)])),
      ours: invalid('NBD_REPLY_TYPE_BLOCK_STATUS'),
      reference: tolerated,
    },
    {
      level: 'MUST',
      text: 'A status is of the context that was agreed on',
      reply: status(extents(8, [512, 0])),
      ours: left(
        'Protocol error: unexpected context id 8 for NBD_REPLY_TYPE_BLOCK_STATUS, when negotiated context id is 7',
        EINVAL,
      ),
    },
    {
      level: 'MUST NOT',
      text: 'An extent is empty',
      reply: status(extents(CONTEXT_ID, [0, 0])),
      ours: left('Protocol error: server sent status chunk with zero length', EINVAL),
    },
    {
      level: 'MUST',
      text: 'A context is told of once',
      reply: ({ cookie }) => {
        const one = { type: STATUS, data: extents(CONTEXT_ID, [512, 0]) };
        return join([chunk(cookie, { ...one, done: false }), chunk(cookie, one)]);
      },
      ours: left('Several BLOCK_STATUS chunks in reply', EINVAL),
    },
    {
      level: 'MUST',
      text: 'A context is told of at all',
      reply: ({ cookie }) => chunk(cookie, { type: NONE }),
      ours: failed(EIO),
      reason: 'the next question may be answered',
    },
    {
      level: 'MUST NOT',
      text: 'Success comes with a simple reply',
      reply: ({ cookie }) => simple(cookie, 0),
      ours: failed(EIO),
      reason: 'the next question may be answered',
    },
    {
      level: 'MUST NOT',
      text: 'There is more than one extent for NBD_CMD_FLAG_REQ_ONE',
      reply: status(extents(CONTEXT_ID, [512, 0], [512, 3])),
      ours: tolerated,
      reason: 'servers in use do so, and the first one is what was asked for',
    },
    {
      level: 'MUST NOT',
      text: 'An extent for NBD_CMD_FLAG_REQ_ONE is longer than the request',
      reply: status(extents(CONTEXT_ID, [2 ** 32 - 1, 0])),
      ours: tolerated,
      reason: 'what is beyond the request is ignored',
    },
    {
      level: 'MUST NOT',
      text: 'Extents are without end',
      reply: ({ cookie }) => chunk(cookie, { type: STATUS, length: 0xffffffff }),
      ours: left('Payload too large', EINVAL),
    },
    {
      level: 'SHOULD',
      text: 'Extents are multiples of the minimum block size',
      server: { blockSizes: [512, 512, 65_536] },
      reply: status(extents(CONTEXT_ID, [700, 3])),
      ours: tolerated,
      reason: 'servers in use do so, and what is left of a block is asked for again',
    },
    {
      level: 'SHOULD',
      text: 'Flags that nobody knows are zero',
      reply: status(extents(CONTEXT_ID, [512, 0xfffffff0])),
      ours: tolerated,
      reason: 'a client ignores them',
    },
    {
      level: 'MUST NOT',
      text: 'A status is answered with data',
      reply: data(AT, LENGTH),
      ours: left('Unexpected NBD_REPLY_TYPE_OFFSET_DATA chunk', EINVAL),
    },
    {
      level: 'MUST NOT',
      text: 'A status is answered with a hole',
      reply: hole(AT, LENGTH),
      ours: left('Unexpected reply type: 2 (hole) for CMD_BLOCK_STATUS', EINVAL),
    },
    {
      level: 'MUST NOT',
      text: 'Extents have 64 bits without extended headers',
      reply: ({ cookie }) =>
        chunk(cookie, {
          type: STATUS_EXT,
          data: join([u32(CONTEXT_ID), u32(1), u64(512), u64(0)]),
        }),
      ours: left('Unexpected reply type: 6 (block status (64-bit)) for CMD_BLOCK_STATUS', EINVAL),
      reference: left('Unexpected reply type: 6 (<unknown>) for CMD_BLOCK_STATUS', EINVAL),
    },
    {
      level: 'MUST NOT',
      text: 'Extents have 32 bits with extended headers',
      server: { headers: 'extended' },
      reply: ({ cookie, offset }) =>
        extendedChunk(cookie, offset, { type: STATUS, data: extents(CONTEXT_ID, [512, 0]) }),
      ours: left('Unexpected reply type: 5 (block status) for CMD_BLOCK_STATUS', EINVAL),
      reference: notAsked,
    },
    {
      level: 'MUST',
      text: 'As many extents of 64 bits come as are announced, if more are',
      server: { headers: 'extended' },
      reply: extended(join([u32(CONTEXT_ID), u32(2), u64(512), u64(0)])),
      ours: invalid('NBD_REPLY_TYPE_BLOCK_STATUS_EXT'),
      reference: notAsked,
    },
    {
      level: 'MUST',
      text: 'As many extents of 64 bits come as are announced, if none are',
      server: { headers: 'extended' },
      reply: extended(join([u32(CONTEXT_ID), u32(0), u64(512), u64(0)])),
      ours: invalid('NBD_REPLY_TYPE_BLOCK_STATUS_EXT'),
      reference: notAsked,
    },
    {
      level: 'MUST NOT',
      text: 'An extent of 64 bits is empty',
      server: { headers: 'extended' },
      reply: extended(join([u32(CONTEXT_ID), u32(1), u64(0), u64(0)])),
      ours: left('Protocol error: server sent status chunk with zero length', EINVAL),
      reference: notAsked,
    },
    {
      level: 'MUST',
      text: 'The upper half of flags of 64 bits is zero',
      server: { headers: 'extended' },
      reply: extended(join([u32(CONTEXT_ID), u32(1), u64(512), u64(2n ** 63n)])),
      ours: tolerated,
      reference: notAsked,
      reason: 'no context that is asked for has any flags there',
    },
  ] satisfies Omit<Rule, 'command'>[]
).map((rule) => ({ ...rule, command: 'status' }));

export const commandSections: readonly Section[] = [
  { name: 'NBD_CMD_READ', rules: reads },
  { name: 'NBD_CMD_BLOCK_STATUS', rules: statuses },
];
