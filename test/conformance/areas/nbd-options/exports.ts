// Options that choose an export.

import type { Case } from '../../case.ts';
import {
  go,
  handshake,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  setMeta,
  structured,
  u16,
  u32,
} from '../../wire-steps.ts';
import { exportName, info, join, opt, payload, read, status, text } from './steps.ts';

export const exportNames: Case[] = [
  handshake('export name', exportName('ex', false), read),
  handshake('export name of a read-only export', exportName('ro', false), read),
  handshake('unknown export name', exportName('nope', false)),
  handshake('empty export name', exportName('', false)),
  handshake('export name of 4,096 bytes', exportName('n'.repeat(4096), false)),
  handshake('export name of 4,097 bytes', exportName('n'.repeat(4097), false)),
  handshake('export name with structured replies', structured('c'), exportName('ex', false), read),
  handshake(
    'export name with extents',
    structured('c'),
    setMeta('c', 'ex', ['base:allocation']),
    exportName('ex', false),
    status,
  ),
];

export const infos: Case[] = [
  handshake('info', info('ex')),
  ...[[0], [1], [2], [3], [4], [0xffff], [0, 1, 2, 3], [3, 3], [1, 1]].map((list) =>
    handshake(`info ${list.join(' ')}`, info('ex', list)),
  ),
  handshake('info of the read-only export', info('ro', [1, 2, 3])),
  handshake('info of the export without description', info('plain', [1, 2, 3])),
  handshake('info of an unknown export', info('nope')),
  handshake('info of the empty name', info('')),
  handshake('info does not choose', info('ex'), opt(NBD_OPT_LIST)),
  handshake('info again and again', info('ex'), info('ro'), info('nope'), info('ex')),
  handshake(
    'many info requests',
    info(
      'ex',
      Array.from({ length: 1000 }, (_, at) => at),
    ),
  ),
];

const malformed: readonly (readonly [string, Uint8Array])[] = [
  ['no payload', new Uint8Array()],
  ['three bytes', new Uint8Array(3)],
  ['name length alone', u32(2)],
  ['a name longer than the payload', join(u32(100), text('ex'), u16(0))],
  ['no number of requests', join(u32(2), text('ex'))],
  ['one byte of the number', join(u32(2), text('ex'), new Uint8Array(1))],
  ['a number without requests', join(u32(2), text('ex'), u16(2), u16(3))],
  ['requests after the last', join(u32(2), text('ex'), u16(1), u16(3), u16(3))],
  ['a byte too many', join(u32(2), text('ex'), u16(0), new Uint8Array(1))],
  ['name of 4,096 bytes', join(u32(4096), text('n'.repeat(4096)), u16(0))],
  ['name of 4,097 bytes', join(u32(4097), text('n'.repeat(4097)), u16(0))],
  ['name length 0xffffffff', join(u32(0xffffffff), text('ex'), u16(0))],
  ['a NUL in the name', join(u32(3), text('e\0x'), u16(0))],
];

export const gos: Case[] = [
  handshake('go', go('c', 'ex'), read),
  handshake('go with requests', go('c', 'ex', [0, 1, 2, 3]), read),
  handshake('go to the read-only export', go('c', 'ro', [3]), read),
  handshake('go to an unknown export, then to a known', go('c', 'nope'), go('c', 'ex'), read),
  handshake('go with structured replies', structured('c'), go('c', 'ex'), read),
  handshake('go to the export with the long name', go('c', 'n'.repeat(4096)), read),
  ...malformed.map(([name, bytes]) =>
    handshake(`go: ${name}`, payload(NBD_OPT_GO, bytes), opt(NBD_OPT_LIST)),
  ),
  ...malformed.map(([name, bytes]) =>
    handshake(`info: ${name}`, payload(NBD_OPT_INFO, bytes), opt(NBD_OPT_LIST)),
  ),
];
