// The handshake up to the options, and the old ways into the transmission phase.

import { errno } from '../../../src/base/errno.ts';
import {
  error,
  GO,
  greeting,
  hex,
  LIST,
  listed,
  NAME,
  oldGreeting,
  reply,
  u16,
  u32,
  u64,
} from '../../unit/block/drivers/nbd/server-bytes.ts';
import { endOf, left, type Rule, refused, type Section, tolerated } from './rule.ts';

const FIXED = 1;
const NO_ZEROES = 2;
const disk = { export: 'disk' };
const nothing = Buffer.alloc(0);

/** A server that knows NBD_OPT_EXPORT_NAME, but not NBD_OPT_GO. */
const withoutGo = { [GO]: error(GO, 1) };
const answer = u64(1 << 20);

const greetings: Rule[] = [
  {
    level: 'MUST',
    text: 'NBDMAGIC comes first',
    server: { greeting: hex('4e42444d41474944') },
    ours: refused('Bad initial magic received: 0x4e42444d41474944', false),
  },
  {
    level: 'MUST',
    text: 'IHAVEOPT, or the magic of the oldstyle, comes second',
    server: { greeting: Buffer.concat([oldGreeting.subarray(0, 8), hex('0000000000000001')]) },
    ours: refused('Bad server magic received: 0x1', false),
  },
  ...(
    [
      ['The first magic', 0, 'initial magic'],
      ['The first magic, once begun,', 7, 'initial magic'],
      ['The second magic', 8, 'server magic'],
      ['The second magic, once begun,', 15, 'server magic'],
      ['The field of flags', 17, 'server flags'],
    ] as const
  ).map(
    ([text, length, what]): Rule => ({
      level: 'MUST',
      text: `${text} is sent, and no end before it`,
      server: { greeting: greeting(3).subarray(0, length), hangsUp: true },
      ours: refused(endOf(what), false),
    }),
  ),
  {
    level: 'MUST NOT',
    text: 'Flags other than FIXED_NEWSTYLE and NO_ZEROES are set',
    server: { greeting: greeting(0xfffc | FIXED | NO_ZEROES) },
    ours: tolerated,
    reason: 'a client ignores flags that it does not know',
  },
];

const oldstyle: Rule[] = [
  {
    level: 'MUST',
    text: 'There are no names',
    server: { greeting: Buffer.concat([oldGreeting, answer, u32(3), Buffer.alloc(124)]) },
    node: disk,
    ours: refused('Server does not support non-empty export names', false),
  },
  {
    level: 'MUST',
    text: 'The upper half of the flags is zero',
    server: { greeting: Buffer.concat([oldGreeting, answer, u32(0x10003), Buffer.alloc(124)]) },
    ours: refused('Unexpected export flags 10003x', false),
  },
  {
    level: 'MUST',
    text: 'HAS_FLAGS is set',
    server: { greeting: Buffer.concat([oldGreeting, answer, u32(0), Buffer.alloc(124)]) },
    ours: tolerated,
    reason: 'servers of old have no flags, and then can nothing but read and write',
  },
  {
    level: 'MUST',
    text: 'What is reserved is zero',
    server: { greeting: Buffer.concat([oldGreeting, answer, u32(1), Buffer.alloc(124, 0xff)]) },
    ours: tolerated,
    reason: 'it says nothing',
  },
  ...(
    [
      ['The size', 7, 'export length'],
      ['The field of flags', 11, 'export flags'],
      ['What is reserved', 12 + 123, 'reserved block'],
    ] as const
  ).map(
    ([text, length, what]): Rule => ({
      level: 'MUST',
      text: `${text} is sent, and no end before it`,
      server: {
        greeting: Buffer.concat([
          oldGreeting,
          Buffer.concat([answer, u32(1), Buffer.alloc(124)]).subarray(0, length),
        ]),
        hangsUp: true,
      },
      ours: refused(endOf(what), false),
    }),
  ),
];

const exportName: Rule[] = [
  {
    level: 'MUST',
    text: 'A server that is not of the fixed newstyle knows it',
    server: { greeting: greeting(0), options: { [NAME]: nothing }, hangsUp: true },
    ours: refused(endOf('export length'), false),
  },
  {
    level: 'MUST',
    text: 'A session ends where there is no such export, and in no other way',
    server: { options: { ...withoutGo, [NAME]: error(NAME, 6) } },
    command: 'read',
    ours: left('invalid magic (got 0x18000)', errno.EIO),
    reference: left('Connection closed', errno.EIO),
  },
  ...(
    [
      ['The size', 7, 3, 'export length'],
      ['The field of flags', 9, 3, 'export flags'],
      ['What is reserved', 10 + 123, 1, 'reserved block'],
    ] as const
  ).map(
    ([text, length, flags, what]): Rule => ({
      level: 'MUST',
      text: `${text} is sent, and no end before it`,
      server: {
        greeting: greeting(flags & NO_ZEROES),
        options: {
          [NAME]: Buffer.concat([answer, u16(1), Buffer.alloc(124)]).subarray(0, length),
        },
        hangsUp: true,
      },
      ours: refused(endOf(what), false),
    }),
  ),
  {
    level: 'MUST NOT',
    text: 'Zeroes follow where both sides said NO_ZEROES',
    server: {
      greeting: greeting(NO_ZEROES),
      options: { [NAME]: Buffer.concat([answer, u16(5), Buffer.alloc(124)]) },
    },
    command: 'read',
    ours: left('invalid magic (got 0x0)', errno.EIO),
    reference: left('Connection closed', errno.EIO),
  },
];

const list: Rule[] = [
  {
    level: 'MUST',
    text: 'The export is on it',
    server: {
      options: { ...withoutGo, [LIST]: Buffer.concat([listed('other'), reply(LIST, 1)]) },
    },
    node: disk,
    ours: refused("No export with name 'disk' available"),
  },
  {
    level: 'MUST',
    text: 'It ends with an acknowledgement that has no data',
    server: { options: { ...withoutGo, [LIST]: reply(LIST, 1, Buffer.alloc(1)) } },
    ours: refused('length too long for option end'),
  },
  {
    level: 'MUST',
    text: 'Its entries are NBD_REP_SERVER',
    server: { options: { ...withoutGo, [LIST]: reply(LIST, 3) } },
    ours: refused('Unexpected reply type 3 (info), expected 2 (server)'),
  },
  {
    level: 'MUST',
    text: 'An entry has the length of its name',
    server: { options: { ...withoutGo, [LIST]: reply(LIST, 2, Buffer.alloc(3)) } },
    ours: refused('incorrect option length 3'),
  },
  {
    level: 'MUST',
    text: 'A name is inside of its entry',
    server: {
      options: { ...withoutGo, [LIST]: reply(LIST, 2, Buffer.concat([u32(2), Buffer.from('x')])) },
    },
    ours: refused("incorrect name length in server's list response"),
  },
  {
    level: 'MUST NOT',
    text: 'A name has more than 4096 bytes',
    server: { options: { ...withoutGo, [LIST]: reply(LIST, 2, u32(4097), 4101) } },
    ours: refused("incorrect name length in server's list response"),
  },
  {
    level: 'MUST NOT',
    text: 'A description has more than 4096 bytes',
    server: {
      options: {
        ...withoutGo,
        [LIST]: reply(LIST, 2, Buffer.concat([u32(1), Buffer.from('x')]), 5 + 4097),
      },
    },
    ours: refused("incorrect description length in server's list response"),
  },
  {
    level: 'MUST NOT',
    text: 'An entry is without end',
    server: { options: { ...withoutGo, [LIST]: reply(LIST, 2, u32(1), 0xffffffff) } },
    ours: refused('incorrect option length 4294967295'),
  },
  {
    level: 'SHOULD NOT',
    text: 'It is refused to those who may know the export',
    server: { options: { ...withoutGo, [LIST]: error(LIST, 2) } },
    ours: refused('Denied by server for option 3 (list)'),
  },
  {
    level: 'MUST',
    text: 'Entries end with an answer, and not with the connection',
    server: { options: { ...withoutGo, [LIST]: listed('other') }, hangsUp: true },
    ours: refused(endOf('option reply'), false),
  },
];

export const handshakeSections: readonly Section[] = [
  { name: 'Newstyle negotiation, handshake flags', rules: greetings },
  { name: 'Oldstyle negotiation', rules: oldstyle },
  { name: 'NBD_OPT_EXPORT_NAME', rules: exportName },
  { name: 'NBD_OPT_LIST, NBD_REP_SERVER', rules: list },
];
