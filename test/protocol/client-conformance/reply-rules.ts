// Replies: their kinds, their cookies, errors, and where they end.

import { errno } from '../../../src/base/errno.ts';
import {
  ALL_FLAGS,
  type Script,
  type SeenRequest,
} from '../../unit/block/drivers/nbd/scripted-server.ts';
import {
  ack,
  chunk,
  dataAt,
  errorData,
  exportInfo,
  extendedChunk,
  GO,
  hex,
  simple,
  u16,
  u32,
  u64,
} from '../../unit/block/drivers/nbd/server-bytes.ts';
import { AT, failed, LENGTH, left, lost, type Rule, type Section, tolerated } from './rule.ts';

const { EIO, EINVAL } = errno;
const SIMPLE = { headers: 'simple' } as const satisfies Script;
const EXTENDED = { headers: 'extended' } as const satisfies Script;

const NONE = 0;
const DATA = 1;
const HOLE = 2;
const ERROR = 0x8001;
const ERROR_OFFSET = 0x8002;
const UNKNOWN_ERROR = 0x8abc;

const join = Buffer.concat.bind(Buffer);
const filled = (length: number): Buffer => Buffer.alloc(length, 1);
const none = ({ cookie }: SeenRequest): Buffer => chunk(cookie, { type: NONE });
const data = ({ cookie, offset, length }: SeenRequest): Buffer =>
  chunk(cookie, { type: DATA, data: dataAt(offset, filled(length)) });

const closed = left('Connection closed', EIO);
const notMade = 'Protocol error: reply to a request that was not made';
const simpleForChunk = 'Protocol error: simple reply when structured reply chunk was expected';
const notAsked = 'does not ask for it';

const messages: Rule[] = [
  ...(
    [
      ['the magic of a reply', '12345678'],
      ['the magic of a reply, not one of old', '96744668'],
      ['the magic of a reply, not that of a request', '25609513'],
    ] as const
  ).map(
    ([what, magic]): Rule => ({
      level: 'MUST',
      text: `A reply begins with ${what}`,
      command: 'flush',
      reply: ({ cookie }) => join([hex(magic), u32(0), cookie]),
      ours: left(`invalid magic (got 0x${magic})`, EIO),
      reference: closed,
    }),
  ),
  {
    level: 'MUST NOT',
    text: 'Replies are structured where that was not agreed on',
    server: SIMPLE,
    command: 'flush',
    reply: none,
    ours: left('Protocol error: reply with magic 0x668e33ef, which was not negotiated', EIO),
    reference: closed,
  },
  {
    level: 'MUST NOT',
    text: 'Replies are extended where that was not agreed on',
    command: 'flush',
    reply: ({ cookie, offset }) => extendedChunk(cookie, offset, { type: NONE }),
    ours: left('Protocol error: reply with magic 0x6e8a278c, which was not negotiated', EIO),
    reference: closed,
  },
  {
    level: 'MUST NOT',
    text: 'A read is answered with a simple reply where chunks were agreed on',
    command: 'read',
    reply: ({ cookie, length }) => simple(cookie, 0, filled(length)),
    ours: left(simpleForChunk, EINVAL),
  },
  {
    level: 'MUST NOT',
    text: 'A read fails with a simple reply where chunks were agreed on',
    command: 'read',
    reply: ({ cookie }) => simple(cookie, 5),
    ours: left(simpleForChunk, EINVAL),
  },
  {
    level: 'MUST',
    text: 'A reply that began with a chunk goes on with chunks',
    command: 'write',
    reply: ({ cookie }) =>
      join([
        chunk(cookie, { type: ERROR, done: false, data: errorData(5, '') }),
        simple(cookie, 0),
      ]),
    ours: left(simpleForChunk, EINVAL),
  },
  {
    level: 'MUST',
    text: 'A reply has the cookie of a request',
    command: 'flush',
    reply: () => simple(Buffer.alloc(8, 0xff), 0),
    ours: left(notMade, EIO),
    reference: closed,
  },
  {
    level: 'MUST',
    text: 'A chunk has the cookie of a request',
    command: 'flush',
    reply: () => chunk(Buffer.alloc(8, 0xff), { type: NONE }),
    ours: left(notMade, EIO),
    reference: closed,
  },
  {
    level: 'MUST',
    text: 'A reply has the cookie of a request that is under way',
    command: 'write',
    reply: ({ cookie }) => join([simple(cookie, 0), simple(cookie, 0)]),
    ours: left(notMade, 0),
    reference: tolerated,
    reason: 'it would be taken for the reply to another request',
  },
  {
    level: 'MUST NOT',
    text: 'A reply comes before any request',
    server: {
      options: {
        [GO]: join([exportInfo(1 << 20, ALL_FLAGS), ack(GO), simple(Buffer.alloc(8, 0xff), 0)]),
      },
    },
    command: 'write',
    ours: left(notMade, EIO),
    reference: closed,
  },
  {
    level: 'MUST NOT',
    text: 'A chunk follows the last one of a reply',
    command: 'read',
    reply: (request) => join([data(request), none(request)]),
    ours: left(notMade, 0),
    reference: tolerated,
    reason: 'it would be taken for the reply to another request',
  },
  {
    level: 'MUST NOT',
    text: 'Data follow a simple reply with an error',
    server: SIMPLE,
    command: 'read',
    reply: ({ cookie, length }) => simple(cookie, 5, filled(length)),
    ours: left('invalid magic (got 0x1010101)', EIO),
    reference: closed,
  },
  {
    level: 'MUST NOT',
    text: 'Data follow the reply to a write',
    command: 'write',
    reply: ({ cookie, length }) => simple(cookie, 0, filled(length)),
    ours: left('invalid magic (got 0x1010101)', 0),
    reference: left('Connection closed', 0),
  },
  {
    level: 'MUST NOT',
    text: 'Flags other than DONE are set',
    command: 'write',
    reply: ({ cookie }) => join([hex('668e33ef'), u16(0xffff), u16(NONE), cookie, u32(0)]),
    ours: tolerated,
    reason: 'a client ignores flags that it does not know',
  },
];

const ends: Rule[] = [
  {
    level: 'MUST NOT',
    text: 'The connection ends before a reply',
    command: 'flush',
    reply: () => Buffer.alloc(0),
    hangsUp: true,
    ours: lost(EIO),
  },
  {
    level: 'MUST NOT',
    text: 'The connection ends within the header of a simple reply',
    command: 'flush',
    reply: ({ cookie }) => simple(cookie, 0).subarray(0, 15),
    hangsUp: true,
    ours: lost(EIO),
  },
  {
    level: 'MUST NOT',
    text: 'The connection ends within the header of a chunk',
    command: 'flush',
    reply: (request) => none(request).subarray(0, 19),
    hangsUp: true,
    ours: lost(EIO),
  },
  {
    level: 'MUST NOT',
    text: 'The connection ends within the data of a simple reply',
    server: SIMPLE,
    command: 'read',
    reply: ({ cookie, length }) => simple(cookie, 0, filled(length - 1)),
    hangsUp: true,
    ours: lost(EIO),
  },
  {
    level: 'MUST NOT',
    text: 'The connection ends within the data of a chunk',
    command: 'read',
    reply: (request) => data(request).subarray(0, -1),
    hangsUp: true,
    ours: lost(EIO),
  },
  {
    level: 'MUST NOT',
    text: 'The connection ends within an error',
    command: 'write',
    reply: ({ cookie }) => chunk(cookie, { type: ERROR, data: errorData(5, 'no') }).subarray(0, -1),
    hangsUp: true,
    ours: lost(EIO),
  },
  {
    level: 'MUST NOT',
    text: 'The connection ends between two chunks',
    command: 'read',
    reply: ({ cookie }) =>
      chunk(cookie, { type: DATA, done: false, data: dataAt(AT, filled(LENGTH)) }),
    hangsUp: true,
    ours: lost(EIO),
  },
];

const types: Rule[] = [
  {
    level: 'MUST',
    text: 'NBD_REPLY_TYPE_NONE is the last chunk',
    command: 'write',
    reply: ({ cookie }) => chunk(cookie, { type: NONE, done: false }),
    ours: left(
      'Protocol error: NBD_REPLY_TYPE_NONE chunk without NBD_REPLY_FLAG_DONE flag set',
      EINVAL,
    ),
  },
  {
    level: 'MUST',
    text: 'NBD_REPLY_TYPE_NONE has no payload',
    command: 'write',
    reply: ({ cookie }) => chunk(cookie, { type: NONE, data: filled(1) }),
    ours: left('Protocol error: NBD_REPLY_TYPE_NONE chunk with nonzero length', EINVAL),
  },
  {
    level: 'MUST NOT',
    text: 'A write is answered with data',
    command: 'write',
    reply: data,
    ours: left('Unexpected NBD_REPLY_TYPE_OFFSET_DATA chunk', EINVAL),
  },
  {
    level: 'MUST NOT',
    text: 'A write is answered with a hole',
    command: 'write',
    reply: ({ cookie }) => chunk(cookie, { type: HOLE, data: join([u64(AT), u32(1)]) }),
    ours: left('Unexpected structured payload', EINVAL),
  },
  {
    level: 'MUST NOT',
    text: 'A write is answered with a chunk of a type that is not known',
    command: 'write',
    reply: ({ cookie }) => chunk(cookie, { type: 99 }),
    ours: left('Unexpected reply type: 99 (<unknown>) for CMD_WRITE', EINVAL),
    reference: tolerated,
  },
  {
    level: 'MUST NOT',
    text: 'A read is answered with a chunk of a type that is not known',
    command: 'read',
    reply: ({ cookie }) => chunk(cookie, { type: 99, data: filled(8) }),
    ours: left('Unexpected reply type: 99 (<unknown>) for CMD_READ', EINVAL),
  },
  {
    level: 'MUST NOT',
    text: 'A payload that is no data is without end',
    command: 'read',
    reply: ({ cookie }) => chunk(cookie, { type: HOLE, length: 0xffffffff }),
    ours: left('Payload too large', EINVAL),
  },
];

const error = (type: number, payload: Buffer): Pick<Rule, 'command' | 'reply'> => ({
  command: 'write',
  reply: ({ cookie }) => chunk(cookie, { type, data: payload }),
});
const messageSize =
  'Protocol error: server sent structured error chunk with incorrect message size';
const placed = (offset: number): Buffer => join([errorData(5, 'here'), u64(offset)]);
const outside = left('Protocol error: server sent error outside of requested region', EINVAL);

const errors: Rule[] = [
  {
    level: 'MUST',
    text: 'An error has at least six bytes',
    ...error(ERROR, filled(5)),
    ours: left('Protocol error: invalid payload for structured error', EINVAL),
  },
  {
    level: 'MUST NOT',
    text: 'An error is none',
    ...error(ERROR, errorData(0, '')),
    ours: left('Protocol error: server sent structured error chunk with error = 0', EINVAL),
  },
  {
    level: 'MUST',
    text: 'A message is inside of its chunk',
    ...error(ERROR, errorData(5, 'abc', 4)),
    ours: left(messageSize, EINVAL),
  },
  {
    level: 'MUST',
    text: 'The message of NBD_REPLY_TYPE_ERROR is the end of its chunk',
    ...error(ERROR, errorData(5, 'abc', 2)),
    ours: left(messageSize, EINVAL),
    reference: failed(EIO),
  },
  {
    level: 'MUST NOT',
    text: 'A message has more than 4096 bytes',
    ...error(UNKNOWN_ERROR, errorData(5, 'x'.repeat(4097))),
    ours: left(messageSize, EINVAL),
    reference: left('Payload too large', EINVAL),
  },
  {
    level: 'MUST NOT',
    text: 'An error is without end',
    command: 'write',
    reply: ({ cookie }) => chunk(cookie, { type: ERROR, data: u32(5), length: 0xffffffff }),
    ours: left('Payload too large', EINVAL),
  },
  {
    level: 'MUST',
    text: 'NBD_REPLY_TYPE_ERROR_OFFSET has an offset behind its message',
    ...error(ERROR_OFFSET, errorData(5, 'abc')),
    ours: left(messageSize, EINVAL),
    reference: failed(EIO),
  },
  {
    level: 'MUST',
    text: 'The offset of an error is not before the request',
    ...error(ERROR_OFFSET, placed(AT - 1)),
    ours: outside,
    reference: failed(EIO),
  },
  {
    level: 'MUST',
    text: 'The offset of an error is not behind the request',
    ...error(ERROR_OFFSET, placed(AT + LENGTH)),
    ours: outside,
    reference: failed(EIO),
  },
  {
    level: 'SHOULD NOT',
    text: 'There are several errors without an offset',
    command: 'write',
    reply: ({ cookie }) =>
      join([
        chunk(cookie, { type: ERROR, done: false, data: errorData(28, '') }),
        chunk(cookie, { type: ERROR, data: errorData(1, '') }),
      ]),
    ours: failed(errno.ENOSPC),
    reason: 'the first one counts',
  },
  {
    level: 'SHOULD NOT',
    text: 'The type of an error is not known',
    ...error(UNKNOWN_ERROR, join([errorData(1, 'no'), filled(9)])),
    ours: failed(errno.EPERM),
    reason: 'the request has failed, that much is said',
  },
  {
    level: 'MUST NOT',
    text: 'Errors other than the eight of the protocol are told',
    command: 'flush',
    reply: ({ cookie }) => simple(cookie, 0xffffffff),
    ours: failed(EINVAL),
    reason: 'a client takes them for NBD_EINVAL',
  },
  {
    level: 'SHOULD',
    text: 'The message of an error is UTF-8',
    ...error(ERROR, join([u32(5), u16(2), hex('ff00')])),
    ours: failed(EIO),
    reason: 'it goes to nobody',
  },
];

const extended: Rule[] = [
  {
    level: 'MUST NOT',
    text: 'There are simple replies',
    server: EXTENDED,
    command: 'flush',
    reply: ({ cookie }) => simple(cookie, 0),
    ours: left('Protocol error: reply with magic 0x67446698, which was not negotiated', EIO),
    reference: notAsked,
  },
  {
    level: 'MUST NOT',
    text: 'There are chunks with short headers',
    server: EXTENDED,
    command: 'flush',
    reply: none,
    ours: left('Protocol error: reply with magic 0x668e33ef, which was not negotiated', EIO),
    reference: notAsked,
  },
  {
    level: 'MUST',
    text: 'A chunk bears the offset of its request',
    server: EXTENDED,
    command: 'write',
    reply: ({ cookie, offset }) => extendedChunk(cookie, offset + 1, { type: NONE }),
    ours: left('Protocol error: chunk of another offset than its request', EINVAL),
    reference: notAsked,
  },
  {
    level: 'MUST NOT',
    text: 'A payload that is no data is without end',
    server: EXTENDED,
    command: 'read',
    reply: ({ cookie, offset }) => extendedChunk(cookie, offset, { type: HOLE, length: 2 ** 53 }),
    ours: left('Payload too large', EINVAL),
    reference: notAsked,
  },
  {
    level: 'MUST NOT',
    text: 'The connection ends within the header of a chunk',
    server: EXTENDED,
    command: 'flush',
    reply: ({ cookie }) => extendedChunk(cookie, 0, { type: NONE }).subarray(0, 31),
    hangsUp: true,
    ours: lost(EIO),
    reference: notAsked,
  },
];

export const replySections: readonly Section[] = [
  { name: 'Simple replies, structured reply chunks', rules: messages },
  { name: 'Terminating the transmission phase', rules: ends },
  { name: 'Structured reply types', rules: types },
  { name: 'Errors', rules: errors },
  { name: 'Extended headers', rules: extended },
];
