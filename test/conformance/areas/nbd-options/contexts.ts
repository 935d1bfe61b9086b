// Metadata contexts.

import type { Case, Step } from '../../case.ts';
import {
  go,
  handshake,
  metaPayload,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
  setMeta,
  structured,
  u32,
} from '../../wire-steps.ts';
import { join, opt, payload, status, text } from './steps.ts';

const listMeta = (name: string, queries: readonly string[]): Step =>
  opt(NBD_OPT_LIST_META_CONTEXT, metaPayload(name, queries));

const queries: readonly (readonly string[])[] = [
  [],
  ['base:allocation'],
  ['base:'],
  ['base'],
  ['base:allocatio'],
  ['base:allocations'],
  ['BASE:ALLOCATION'],
  ['base:bogus'],
  ['qemu:'],
  ['qemu:allocation-depth'],
  ['qemu:dirty-bitmap:'],
  ['qemu:dirty-bitmap:zz'],
  ['qemu:bogus'],
  ['bogus:'],
  ['bogus'],
  [''],
  [':'],
  ['base:allocation', 'base:allocation'],
  ['bogus:x', 'base:allocation', 'qemu:allocation-depth'],
  ['base:allocation\0'],
  ['x'.repeat(5000)],
  Array.from({ length: 2000 }, () => 'base:allocation'),
];

const naming = (list: readonly string[]): string => {
  const words = JSON.stringify(list);
  return words.length > 90 ? `${words.slice(0, 60)}… (${list.length})` : words;
};

const metaMalformed: readonly (readonly [string, Uint8Array])[] = [
  ['no payload', new Uint8Array()],
  ['name length alone', u32(2)],
  ['no number of queries', join(u32(2), text('ex'))],
  ['fewer queries than said', join(u32(2), text('ex'), u32(2), u32(5), text('base:'))],
  ['a query longer than the payload', join(u32(2), text('ex'), u32(1), u32(50), text('base:'))],
  ['a byte too many', join(u32(2), text('ex'), u32(1), u32(5), text('base:x'))],
  ['number 0xffffffff', join(u32(2), text('ex'), u32(0xffffffff))],
  ['query length 0xffffffff', join(u32(2), text('ex'), u32(1), u32(0xffffffff))],
  ['name of 4,097 bytes', join(u32(4097), text('n'.repeat(4097)), u32(0))],
];

export const metaContexts: Case[] = [
  ...queries.map((list) => handshake(`list meta ${naming(list)}`, listMeta('ex', list))),
  ...queries.map((list) =>
    handshake(`set meta ${naming(list)}`, structured('c'), setMeta('c', 'ex', list)),
  ),
  handshake('list meta with structured replies', structured('c'), listMeta('ex', [])),
  handshake('list meta of an unknown export', listMeta('nope', [])),
  handshake('set meta without structured replies', setMeta('c', 'ex', ['base:allocation'])),
  handshake(
    'set meta of an unknown export',
    structured('c'),
    setMeta('c', 'nope', ['base:allocation']),
    go('c', 'ex'),
    status,
  ),
  handshake(
    'set meta then go',
    structured('c'),
    setMeta('c', 'ex', ['base:allocation']),
    go('c', 'ex'),
    status,
  ),
  handshake(
    'set meta then go elsewhere',
    structured('c'),
    setMeta('c', 'ex', ['base:allocation']),
    go('c', 'ro'),
    status,
  ),
  handshake(
    'set meta for nothing then go',
    structured('c'),
    setMeta('c', 'ex', ['base:allocation']),
    setMeta('c', 'ex', []),
    go('c', 'ex'),
    status,
  ),
  handshake(
    'set meta anew',
    structured('c'),
    setMeta('c', 'ex', []),
    setMeta('c', 'ex', ['base:allocation']),
    go('c', 'ex'),
    status,
  ),
  handshake(
    'set meta that fails resets',
    structured('c'),
    setMeta('c', 'ex', ['base:allocation']),
    setMeta('c', 'nope', []),
    go('c', 'ex'),
    status,
  ),
  handshake('no status without a context', structured('c'), go('c', 'ex'), status),
  handshake('no status without structured replies', go('c', 'ex'), status),
  ...metaMalformed.map(([name, bytes]) =>
    handshake(
      `set meta: ${name}`,
      structured('c'),
      payload(NBD_OPT_SET_META_CONTEXT, bytes),
      opt(NBD_OPT_LIST),
    ),
  ),
  ...metaMalformed
    .slice(0, 6)
    .map(([name, bytes]) =>
      handshake(`list meta: ${name}`, payload(NBD_OPT_LIST_META_CONTEXT, bytes), opt(NBD_OPT_LIST)),
    ),
];

export const allocationDepth: Case[] = [
  handshake(
    'allocation depth where it is offered',
    structured('c'),
    setMeta('c', 'depth', ['base:allocation', 'qemu:allocation-depth']),
    go('c', 'depth'),
  ),
  handshake('list meta where allocation depth is offered', listMeta('depth', [])),
  handshake('list', opt(NBD_OPT_LIST)),
];
