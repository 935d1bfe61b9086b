// The options of the handshake and the replies to them.

import { errno } from '../../../src/base/errno.ts';
import { ALL_FLAGS, type Script } from '../../unit/block/drivers/nbd/scripted-server.ts';
import {
  ack,
  context,
  EXTENDED_HEADERS,
  error,
  exportInfo,
  GO,
  greeting,
  info,
  LIST,
  oldGreeting,
  reply,
  SET_META_CONTEXT,
  STARTTLS,
  STRUCTURED_REPLY,
  u16,
  u32,
  u64,
} from '../../unit/block/drivers/nbd/server-bytes.ts';
import { endOf, left, type Rule, refused, type Section, tolerated } from './rule.ts';

const nothing = Buffer.alloc(0);
const join = Buffer.concat.bind(Buffer);
const TLS = { 'tls-creds': 'tls' };

const optioned = (option: number, says: Buffer): { readonly server: Script } => ({
  server: { options: { [option]: says } },
});
const cut = (option: number, says: Buffer): { readonly server: Script } => ({
  server: { options: { [option]: says }, hangsUp: true },
});
const extended = (option: number, says: Buffer): { readonly server: Script } => ({
  server: { headers: 'extended', options: { [option]: says } },
});

const replies: Rule[] = [
  {
    level: 'MUST',
    text: 'Replies have their magic',
    ...optioned(GO, Buffer.alloc(20)),
    ours: refused('Unexpected option reply magic'),
  },
  {
    level: 'MUST',
    text: 'Replies name the option that they answer',
    ...optioned(GO, ack(LIST)),
    ours: refused('Unexpected option type 3 (list), expected 7 (go)'),
  },
  {
    level: 'MUST NOT',
    text: 'An option is answered once more behind its last reply',
    server: {
      options: {
        [STRUCTURED_REPLY]: join([ack(STRUCTURED_REPLY), ack(STRUCTURED_REPLY)]),
        // Words to somebody who has gone would cost us his last ones.
        [SET_META_CONTEXT]: nothing,
      },
    },
    ours: refused('Unexpected option type 8 (structured reply), expected 10 (set meta context)'),
  },
  {
    level: 'MUST',
    text: 'An acknowledgement has no data',
    ...optioned(STRUCTURED_REPLY, reply(STRUCTURED_REPLY, 1, Buffer.alloc(4))),
    ours: refused("Option 8 ('structured reply') response length is 4 (it should be zero)"),
  },
  {
    level: 'MUST',
    text: 'NBD_OPT_STRUCTURED_REPLY is answered with an acknowledgement or an error',
    ...optioned(STRUCTURED_REPLY, reply(STRUCTURED_REPLY, 2)),
    ours: refused('Server answered option 8 (structured reply) with unexpected reply 2 (server)'),
  },
  ...(
    [
      ['NBD_OPT_STRUCTURED_REPLY', STRUCTURED_REPLY],
      ['NBD_OPT_SET_META_CONTEXT', SET_META_CONTEXT],
      ['NBD_OPT_GO', GO],
    ] as const
  ).map(
    ([name, option]): Rule => ({
      level: 'MUST',
      text: `${name} is answered, and not with the end of the connection`,
      ...cut(option, nothing),
      ours: refused(endOf('option reply'), false),
    }),
  ),
  {
    level: 'MUST',
    text: 'The header of a reply is sent to its end',
    ...cut(GO, ack(GO).subarray(0, 19)),
    ours: refused(endOf('option reply'), false),
  },
  {
    level: 'MUST NOT',
    text: 'The message of an error has more than 4096 bytes',
    ...optioned(GO, error(GO, 6, 'x'.repeat(4097))),
    ours: refused('server error 2147483654 (export unknown) message is too long'),
    reference: refused('Requested export not available'),
    reason: 'nothing longer is kept, and nobody would read it',
  },
  {
    level: 'MUST NOT',
    text: 'The message of an error is without end',
    ...optioned(GO, reply(GO, 0x80000006, nothing, 0xffffffff)),
    ours: refused('server error 2147483654 (export unknown) message is too long'),
  },
  {
    level: 'MUST NOT',
    text: 'The message of an error that is ignored is without end',
    ...optioned(STRUCTURED_REPLY, reply(STRUCTURED_REPLY, 0x80000001, nothing, 0xffffffff)),
    ours: refused('server error 2147483649 (unsupported) message is too long'),
  },
  {
    level: 'MUST',
    text: 'The message of an error is sent to its end',
    ...cut(GO, reply(GO, 0x80000006, Buffer.from('no'), 3)),
    ours: refused(endOf('option error 2147483654 (export unknown) message'), false),
  },
  {
    level: 'MUST',
    text: 'The message of an error is UTF-8 without control characters',
    ...optioned(GO, error(GO, 6, '\x1b\x00\xff')),
    ours: refused('Requested export not available'),
    reason: 'it goes to nobody but through a filter',
  },
  ...(
    [
      [2, 'Denied by server for option 7 (go)', 'refused by policy'],
      [3, 'Invalid parameters for option 7 (go)', 'called invalid'],
      [4, 'Server lacks support for option 7 (go)', 'beyond the platform'],
      [7, 'Server shutting down before option 7 (go)', 'too late for a server that shuts down'],
      [9, 'Unknown error code when asking for option 7 (go)', 'called too big'],
      [1000, 'Unknown error code when asking for option 7 (go)', 'an error that nobody knows'],
    ] as const
  ).map(
    ([code, text, what]): Rule => ({
      level: 'SHOULD NOT',
      text: `NBD_OPT_GO is ${what}`,
      ...optioned(GO, error(GO, code)),
      ours: refused(text),
    }),
  ),
];

const tls: Rule[] = [
  {
    level: 'MUST NOT',
    text: 'NBD_REP_ERR_TLS_REQD comes for options that name no export',
    ...optioned(STRUCTURED_REPLY, error(STRUCTURED_REPLY, 5)),
    ours: tolerated,
    reason: 'what needs TLS says so once more for NBD_OPT_GO',
  },
  {
    level: 'MUST NOT',
    text: 'NBD_REP_ERR_TLS_REQD comes of a server that has let other options pass',
    ...optioned(GO, error(GO, 5)),
    ours: refused('TLS negotiation required before option 7 (go)'),
  },
  {
    level: 'MUST',
    text: 'NBD_OPT_STARTTLS needs the fixed newstyle',
    server: { greeting: greeting(0) },
    node: TLS,
    ours: refused('Server does not support STARTTLS', false),
  },
  {
    level: 'MUST',
    text: 'NBD_OPT_STARTTLS needs the newstyle',
    server: { greeting: oldGreeting },
    node: TLS,
    ours: refused('Server does not support STARTTLS', false),
  },
  {
    level: 'MUST',
    text: 'A server without TLS says that it does not know NBD_OPT_STARTTLS',
    ...optioned(STARTTLS, error(STARTTLS, 1)),
    node: TLS,
    ours: refused("Server don't support STARTTLS option"),
  },
  {
    level: 'MUST',
    text: 'A server without TLS refuses NBD_OPT_STARTTLS by policy',
    ...optioned(STARTTLS, error(STARTTLS, 2)),
    node: TLS,
    ours: refused('Denied by server for option 5 (starttls)'),
  },
  {
    level: 'MUST',
    text: 'NBD_OPT_STARTTLS is acknowledged without data',
    ...optioned(STARTTLS, reply(STARTTLS, 1, Buffer.alloc(4))),
    node: TLS,
    ours: refused("Option 5 ('starttls') response length is 4 (it should be zero)"),
  },
  {
    level: 'MUST',
    text: 'NBD_OPT_STARTTLS is answered with an acknowledgement or an error',
    ...optioned(STARTTLS, reply(STARTTLS, 2)),
    node: TLS,
    ours: refused('Server answered option 5 (starttls) with unexpected reply 2 (server)'),
  },
  {
    level: 'MUST',
    text: 'A server that acknowledged NBD_OPT_STARTTLS begins TLS',
    ...cut(STARTTLS, ack(STARTTLS)),
    node: TLS,
    ours: refused('TLS handshake failed: The TLS connection was non-properly terminated.', false),
  },
  {
    level: 'MUST',
    text: 'All behind the acknowledgement of NBD_OPT_STARTTLS is under TLS',
    ...optioned(STARTTLS, join([ack(STARTTLS), ack(EXTENDED_HEADERS), ack(STRUCTURED_REPLY)])),
    node: TLS,
    ours: refused(
      'TLS handshake failed: A TLS record packet with invalid length was received.',
      false,
    ),
    reference: refused('TLS handshake failed: An unexpected TLS packet was received.', false),
  },
];

const blockSizes = (min: number, opt: number, max: number): Buffer =>
  info(3, join([u32(min), u32(opt), u32(max)]));
const right = exportInfo(1 << 20, 1);
const go = (...says: readonly Buffer[]): { readonly server: Script } =>
  optioned(GO, join([...says, ack(GO)]));

const infos: Rule[] = [
  {
    level: 'MUST',
    text: 'The last acknowledgement has no data',
    ...optioned(GO, join([right, reply(GO, 1, Buffer.alloc(1))])),
    ours: refused('server sent invalid NBD_REP_ACK', false),
  },
  {
    level: 'MUST',
    text: 'NBD_INFO_EXPORT is sent',
    ...go(blockSizes(1, 512, 4096)),
    ours: refused('broken server omitted NBD_INFO_EXPORT', false),
  },
  {
    level: 'MUST',
    text: 'Anything at all is sent before the acknowledgement',
    ...go(),
    ours: refused('broken server omitted NBD_INFO_EXPORT', false),
  },
  {
    level: 'MUST',
    text: 'Some flag is set, as NBD_FLAG_HAS_FLAGS is',
    ...go(exportInfo(1024, 0)),
    ours: refused('broken server omitted NBD_INFO_EXPORT', false),
  },
  {
    level: 'MUST',
    text: 'NBD_FLAG_HAS_FLAGS is set where others are',
    ...go(exportInfo(1024, 4)),
    ours: tolerated,
    reason: 'the others say what they mean',
  },
  {
    level: 'MUST NOT',
    text: 'NBD_FLAG_SEND_DF is set without structured replies',
    server: { headers: 'simple', options: { [GO]: join([exportInfo(1024, 0x81), ack(GO)]) } },
    ours: tolerated,
    reason: 'the flag that it allows is never used',
  },
  {
    level: 'MUST NOT',
    text: 'NBD_FLAG_SEND_FAST_ZERO is set without NBD_FLAG_SEND_WRITE_ZEROES',
    ...go(exportInfo(1024, 0x801)),
    ours: tolerated,
    reason: 'zeroes are written as data then',
  },
  {
    level: 'SHOULD NOT',
    text: 'Flags that nobody knows are set',
    ...go(exportInfo(1024, 0xe001)),
    ours: tolerated,
    reason: 'a client ignores them',
  },
  {
    level: 'MUST',
    text: 'What comes before the acknowledgement is NBD_REP_INFO',
    ...optioned(GO, reply(GO, 2)),
    ours: refused('unexpected reply type 2 (server), expected 3 (info)'),
  },
  {
    level: 'MUST',
    text: 'NBD_REP_INFO has a type',
    ...optioned(GO, reply(GO, 3, Buffer.alloc(1))),
    ours: refused('NBD_REP_INFO length 1 is too short'),
  },
  ...[9, 11].map(
    (length): Rule => ({
      level: 'MUST',
      text: `NBD_INFO_EXPORT has 10 bytes, not ${length}`,
      ...optioned(GO, info(0, Buffer.alloc(length))),
      ours: refused(`remaining export info len ${length} is unexpected size`),
    }),
  ),
  ...[11, 13].map(
    (length): Rule => ({
      level: 'MUST',
      text: `NBD_INFO_BLOCK_SIZE has 12 bytes, not ${length}`,
      ...optioned(GO, info(3, Buffer.alloc(length))),
      ours: refused(`remaining export info len ${length} is unexpected size`),
    }),
  ),
  ...(
    [
      ['type', reply(GO, 3, u16(0).subarray(0, 1), 12), 'info type'],
      ['size', reply(GO, 3, u16(0), 12), 'info size'],
      ['field of flags', reply(GO, 3, join([u16(0), u64(512)]), 12), 'info flags'],
      ['minimum block size', reply(GO, 3, u16(3), 14), 'info minimum block size'],
      [
        'preferred block size',
        reply(GO, 3, join([u16(3), u32(1)]), 14),
        'info preferred block size',
      ],
      [
        'maximum payload size',
        reply(GO, 3, join([u16(3), u32(1), u32(512)]), 14),
        'info maximum block size',
      ],
    ] as const
  ).map(
    ([text, says, what]): Rule => ({
      level: 'MUST',
      text: `The ${text} is sent, and no end before it`,
      ...cut(GO, says),
      ours: refused(endOf(what), false),
    }),
  ),
  {
    level: 'MUST',
    text: 'Information of other kinds is sent to its end',
    ...cut(GO, reply(GO, 3, u16(99), 12)),
    ours: refused(endOf('info payload'), false),
  },
  {
    level: 'MUST NOT',
    text: 'A name has more than 4096 bytes',
    ...go(right, info(1, Buffer.alloc(4097))),
    ours: refused('NBD_REP_INFO length 4097 is too long'),
    reference: tolerated,
  },
  {
    level: 'MUST NOT',
    text: 'A description has more than 4096 bytes',
    ...go(right, info(2, Buffer.alloc(4097))),
    ours: refused('NBD_REP_INFO length 4097 is too long'),
    reference: tolerated,
  },
  {
    level: 'MUST NOT',
    text: 'Information is without end',
    ...cut(GO, join([right, reply(GO, 3, u16(99), 0xffffffff)])),
    ours: refused('NBD_REP_INFO length 4294967293 is too long', false),
    reference: refused(endOf('info payload'), false),
  },
  {
    level: 'SHOULD NOT',
    text: 'A kind of information comes twice',
    ...go(exportInfo(512, 1), right),
    ours: tolerated,
    reason: 'the last one counts',
  },
  {
    level: 'MUST NOT',
    text: 'NBD_REP_ERR_BLOCK_SIZE_REQD comes of a server that was asked for block sizes',
    ...optioned(GO, error(GO, 8)),
    ours: refused('Server requires INFO_BLOCK_SIZE for option 7 (go)'),
  },
  {
    level: 'MUST NOT',
    text: 'Zeroes follow the acknowledgement',
    server: {
      options: { [GO]: join([exportInfo(1 << 20, ALL_FLAGS), ack(GO), Buffer.alloc(124)]) },
    },
    command: 'write',
    ours: left('invalid magic (got 0x0)', errno.EIO),
    reference: left('Connection closed', errno.EIO),
  },
  {
    level: 'SHOULD NOT',
    text: 'Information comes before NBD_REP_ERR_UNKNOWN',
    ...optioned(GO, join([right, error(GO, 6)])),
    ours: refused('Requested export not available'),
  },
  {
    level: 'MUST',
    text: 'Information ends with an answer, and not with the connection',
    ...cut(GO, right),
    ours: refused(endOf('option reply'), false),
  },
];

const tooLarge = refused('Could not refresh total sector count: File too large', false);

const sizes: Rule[] = [
  ...(
    [
      [
        'The minimum is a power of two, not 0',
        [0, 512, 4096],
        'minimum block size 0 is not a power of two',
      ],
      [
        'The minimum is a power of two, not 3',
        [3, 512, 4096],
        'minimum block size 3 is not a power of two',
      ],
      [
        'The minimum is a power of two, not 2^32 - 1',
        [0xffffffff, 512, 4096],
        'minimum block size 4294967295 is not a power of two',
      ],
      [
        'The preferred size is a power of two, not 0',
        [512, 0, 4096],
        'preferred block size 0 is not valid',
      ],
      [
        'The preferred size is a power of two, not 1000',
        [512, 1000, 4096],
        'preferred block size 1000 is not valid',
      ],
      [
        'The preferred size is not below the minimum',
        [512, 256, 4096],
        'preferred block size 256 is not valid',
      ],
      [
        'The maximum is not below the minimum',
        [512, 512, 256],
        'maximum block size 256 is not valid',
      ],
      ['The maximum is not 0', [512, 512, 0], 'maximum block size 0 is not valid'],
    ] as const
  ).map(
    ([text, [min, opt, max], what]): Rule => ({
      level: 'MUST',
      text,
      ...go(blockSizes(min, opt, max), right),
      ours: refused(`server ${what}`),
    }),
  ),
  {
    level: 'MUST NOT',
    text: 'The minimum is above 65536',
    ...go(blockSizes(131_072, 131_072, 131_072), right),
    ours: refused('server minimum block size 131072 is not valid'),
    reference: tolerated,
  },
  {
    level: 'MUST NOT',
    text: 'The minimum is far above 65536',
    ...go(blockSizes(2 ** 31, 2 ** 31, 2 ** 31), exportInfo(2 ** 32, 1)),
    ours: refused('server minimum block size 2147483648 is not valid'),
    reference: refused('Driver requires too large request alignment', false),
  },
  {
    level: 'MUST',
    text: 'The preferred size is at least 512',
    ...go(blockSizes(1, 1, 65_536), right),
    ours: tolerated,
    reason: 'it is but a wish',
  },
  {
    level: 'MUST',
    text: 'The maximum is not below the preferred size',
    ...go(blockSizes(512, 65_536, 4096), right),
    ours: tolerated,
    reason: 'the maximum is kept to',
  },
  {
    level: 'SHOULD',
    text: 'The maximum is at least a mebibyte, or the export',
    ...go(blockSizes(512, 512, 512), right),
    ours: tolerated,
    reason: 'the maximum is kept to',
  },
  {
    level: 'SHOULD',
    text: 'The size of the export is a multiple of the minimum',
    ...go(blockSizes(512, 512, 4096), exportInfo(1000, 1)),
    ours: refused('export size 1000 is not multiple of minimum block size 512'),
  },
  {
    level: 'SHOULD',
    text: 'The size of the export is a multiple of a minimum that comes later',
    ...go(exportInfo(1000, 1), blockSizes(512, 512, 4096)),
    ours: refused('export size 1000 is not multiple of minimum block size 512'),
    reference: tolerated,
  },
  {
    level: 'SHOULD NOT',
    text: 'The size of the export is 2^63 - 1 bytes',
    ...go(exportInfo(2n ** 63n - 1n, 1)),
    ours: tooLarge,
  },
  {
    level: 'SHOULD NOT',
    text: 'The size of the export is 2^63 bytes',
    ...go(exportInfo(2n ** 63n, 1)),
    ours: tooLarge,
    reference: tolerated,
    reason: 'offsets have a sign nearly everywhere',
  },
  {
    level: 'SHOULD NOT',
    text: 'The size of the export is 2^64 - 1 bytes',
    ...go(exportInfo(2n ** 64n - 1n, 1)),
    ours: tooLarge,
    reference: refused('Could not refresh total sector count: Operation not permitted', false),
  },
];

const contexts = (...says: readonly Buffer[]): { readonly server: Script } =>
  optioned(SET_META_CONTEXT, join(says));
const NAME_4097 = Buffer.alloc(4097, 'x');

const metaContexts: Rule[] = [
  {
    level: 'MUST',
    text: 'The last acknowledgement has no data',
    ...contexts(reply(SET_META_CONTEXT, 1, Buffer.alloc(1))),
    ours: refused('Unexpected length to ACK response'),
  },
  {
    level: 'MUST',
    text: 'What comes before the acknowledgement is NBD_REP_META_CONTEXT',
    ...contexts(reply(SET_META_CONTEXT, 3)),
    ours: refused('Unexpected reply type 3 (info), expected 4 (meta context)'),
  },
  {
    level: 'MUST',
    text: 'A context has an id and a name',
    ...contexts(reply(SET_META_CONTEXT, 4, u32(1))),
    ours: refused('Failed to negotiate meta context, server answered with unexpected length 4'),
  },
  {
    level: 'MUST NOT',
    text: 'The name of a context has more than 4096 bytes',
    ...contexts(reply(SET_META_CONTEXT, 4, join([u32(1), NAME_4097]))),
    ours: refused('Failed to negotiate meta context, server answered with unexpected length 4101'),
    reference: refused(
      `Failed to negotiate meta context 'base:allocation', server answered with different context '${NAME_4097.toString()}'`,
    ),
  },
  {
    level: 'MUST NOT',
    text: 'The name of a context is without end',
    ...contexts(reply(SET_META_CONTEXT, 4, u32(1), 0xffffffff)),
    ours: refused(
      'Failed to negotiate meta context, server answered with unexpected length 4294967295',
    ),
  },
  {
    level: 'MUST',
    text: 'A context is one that was asked for',
    ...contexts(context(1, 'other'), ack(SET_META_CONTEXT)),
    ours: refused(
      "Failed to negotiate meta context 'base:allocation', server answered with different context 'other'",
    ),
  },
  {
    level: 'MUST',
    text: 'A context is granted once',
    ...contexts(
      context(1, 'base:allocation'),
      context(2, 'base:allocation'),
      ack(SET_META_CONTEXT),
    ),
    ours: refused('Server answered with more than one context'),
  },
  {
    level: 'MUST',
    text: 'An error behind a context takes it back',
    ...contexts(context(7, 'base:allocation'), error(SET_META_CONTEXT, 9)),
    node: { 'x-dirty-bitmap': 'base:allocation' },
    ours: refused('Could not open image: Invalid argument', false),
    reference: tolerated,
    reason: 'the status is not asked for then',
  },
  ...(
    [
      ['id', nothing, 'context id'],
      ['name', u32(7), 'context name'],
    ] as const
  ).map(
    ([text, says, what]): Rule => ({
      level: 'MUST',
      text: `The ${text} of a context is sent, and no end before it`,
      ...cut(SET_META_CONTEXT, reply(SET_META_CONTEXT, 4, says, 19)),
      ours: refused(endOf(what), false),
    }),
  ),
  {
    level: 'MUST',
    text: 'A bitmap that was asked for is granted',
    ...contexts(ack(SET_META_CONTEXT)),
    node: { 'x-dirty-bitmap': 'qemu:dirty-bitmap:b' },
    ours: refused('Could not open image: Invalid argument', false),
  },
];

const notAsked = 'does not ask for it';
const extendedHeaders: Rule[] = [
  {
    level: 'MUST',
    text: 'NBD_OPT_EXTENDED_HEADERS is acknowledged without data',
    ...extended(EXTENDED_HEADERS, reply(EXTENDED_HEADERS, 1, Buffer.alloc(4))),
    ours: refused("Option 11 ('extended headers') response length is 4 (it should be zero)"),
    reference: notAsked,
  },
  {
    level: 'MUST',
    text: 'NBD_OPT_EXTENDED_HEADERS is answered with an acknowledgement or an error',
    ...extended(EXTENDED_HEADERS, reply(EXTENDED_HEADERS, 2)),
    ours: refused('Server answered option 11 (extended headers) with unexpected reply 2 (server)'),
    reference: notAsked,
  },
  {
    level: 'MUST NOT',
    text: 'A server that acknowledged NBD_OPT_EXTENDED_HEADERS does not know NBD_OPT_GO',
    ...extended(GO, error(GO, 1)),
    ours: refused('Server with extended headers does not support option 7 (go)'),
    reference: notAsked,
  },
];

export const optionSections: readonly Section[] = [
  { name: 'Fixed newstyle negotiation, option replies', rules: replies },
  { name: 'TLS support', rules: tls },
  { name: 'NBD_OPT_GO, NBD_REP_INFO', rules: infos },
  { name: 'Size constraints', rules: sizes },
  { name: 'NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT', rules: metaContexts },
  { name: 'NBD_OPT_EXTENDED_HEADERS', rules: extendedHeaders },
];
