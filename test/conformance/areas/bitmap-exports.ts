// Dirty bitmaps that are exported, and how clients see them.

import { type Area, type Case, type Request, type Step, scene } from '../case.ts';
import {
  DF,
  FUA,
  go,
  hello,
  metaPayload,
  NBD_CMD_BLOCK_STATUS,
  NBD_FLAGS,
  NBD_OPT_LIST_META_CONTEXT,
  option,
  REQ_ONE,
  setMeta,
  structured,
} from '../wire-steps.ts';
import {
  add,
  asClient,
  clear,
  disable,
  enable,
  exported,
  gone,
  hash,
  leave,
  merge,
  nodes,
  remove,
  request,
  resize,
  send,
  wireArguments,
  write,
  zero,
} from './bitmap-steps.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

const exporting: Case[] = [
  scene(
    'setting up',
    add('on'),
    add('off', { disabled: true }),
    ['block-dirty-bitmap-add', { node: 'n2', name: 'other' }],
    ['block-dirty-bitmap-add', { node: 'ro', name: 'r' }],
  ),
  scene('an unknown one', exported('e', { bitmaps: ['zz'] })),
  scene('a known and an unknown one', exported('e', { bitmaps: ['off', 'zz'] }), clear('off')),
  scene('an enabled one, read-only', exported('e', { bitmaps: ['on'] })),
  scene('with its node', exported('e', { bitmaps: [{ node: 'n', name: 'on' }] }), gone('e')),
  scene('an unknown node', exported('e', { bitmaps: [{ node: 'zz', name: 'on' }] })),
  scene('unknown on that node', exported('e', { bitmaps: [{ node: 'n2', name: 'on' }] })),
  scene('of another node by name alone', exported('e', { bitmaps: ['other'] })),
  scene('of another node', exported('e', { bitmaps: [{ node: 'n2', name: 'other' }] }), gone('e')),
  scene('a disabled one', exported('e', { bitmaps: ['off'] }), gone('e')),
  scene('an enabled one, writable', exported('e', { bitmaps: ['on'], writable: true }), gone('e')),
  scene(
    'enabled of a read-only node',
    exported('e', { 'node-name': 'ro', bitmaps: ['r'] }),
    gone('e'),
  ),
  scene('none of several types', exported('e', { bitmaps: [5] })),
  scene('an object without a node', exported('e', { bitmaps: [{ name: 'on' }] })),
  scene('no list', exported('e', { bitmaps: 'on' })),
  scene(
    'busy',
    exported('e', { bitmaps: ['on', 'off'], writable: true }),
    nodes,
    remove('on'),
    clear('on'),
    enable('on'),
    disable('off'),
    hash('on'),
    merge('on', ['off']),
    add('free'),
    merge('free', ['on']),
    merge('on', ['free']),
    merge('on', ['zz']),
    exported('e2', { bitmaps: ['on'], writable: true }),
    exported('e2', { bitmaps: [{ node: 'n', name: 'off' }] }),
    add('on'),
    gone('e'),
    nodes,
    clear('on'),
    remove('free'),
  ),
  scene(
    'legacy',
    ['nbd-server-add', { device: 'n', name: 'l', bitmap: 'zz' }],
    ['nbd-server-add', { device: 'n', name: 'l', bitmap: 'on' }],
    ['nbd-server-add', { device: 'n', name: 'l', bitmap: 'on', writable: true }],
    clear('on'),
    ['nbd-server-remove', { name: 'l' }],
    ['nbd-server-add', { device: 'n', name: 'l', bitmap: 5 }],
    clear('on'),
  ),
  scene(
    'busy until the last client has gone',
    exported('e', { bitmaps: ['off'] }),
    hello('c', NBD_FLAGS),
    go('c', 'n'),
    remove('off'),
    gone('e'),
    { do: 'event', name: 'BLOCK_EXPORT_DELETED', on: 'main' },
    clear('off'),
  ),
];

const status = (offset: number, length: number, flags = 0): Request =>
  request(NBD_CMD_BLOCK_STATUS, offset, length, flags);
const listMeta = (...queries: readonly string[]): Step =>
  option('c', NBD_OPT_LIST_META_CONTEXT, metaPayload('x', queries));

/** A client of `x` that selects contexts and asks for their status. */
function statuses(
  id: string,
  contexts: readonly string[],
  ...batch: readonly (Request | readonly Request[])[]
): Case {
  return scene(
    id,
    hello('c', NBD_FLAGS),
    structured('c'),
    setMeta('c', 'x', contexts),
    go('c', 'x'),
    ...batch.map((one) => send(...(Array.isArray(one) ? (one as Request[]) : [one as Request]))),
    leave,
  );
}

const all = [
  'base:allocation',
  'qemu:allocation-depth',
  'qemu:dirty-bitmap:fine',
  'qemu:dirty-bitmap:coarse',
  'qemu:dirty-bitmap:empty',
];
const fine = ['qemu:dirty-bitmap:fine'];
const whole = status(0, 10 * MIB);

const seen: Case[] = [
  scene(
    'setting up',
    add('fine', { granularity: 512 }),
    add('coarse', { granularity: MIB }),
    ...asClient(
      'w',
      write(0, 512),
      write(4096, 512),
      write(5000, 1),
      write(MIB - 1, 2),
      write(3 * MIB, 2 * MIB),
      write(10 * MIB - 512, 512),
    ),
    disable('fine'),
    disable('coarse'),
    add('empty', { disabled: true }),
    ['block-dirty-bitmap-add', { node: 'small', name: 'short' }],
    ['block-dirty-bitmap-add', { node: 'n', name: 'naïve', disabled: true }],
    exported('x', {
      name: 'x',
      writable: true,
      'allocation-depth': true,
      bitmaps: ['fine', 'coarse', 'empty', 'fine', { node: 'small', name: 'short' }, 'naïve'],
    }),
    exported('y', { name: 'y' }),
  ),
  ...[
    [],
    [''],
    ['qemu:'],
    ['qemu'],
    ['base:'],
    ['base:', 'qemu:'],
    ['qemu:dirty-bitmap:'],
    ['qemu:dirty-bitmap'],
    ['qemu:allocation-depth'],
    ['qemu:allocation-depth:'],
    ['qemu:allocation'],
    fine,
    ['qemu:dirty-bitmap:zz'],
    ['qemu:dirty-bitmap:fin'],
    ['qemu:dirty-bitmap:fine '],
    ['qemu:dirty-bitmap:naïve'],
    ['qemu:dirty-bitmap:empty', 'qemu:dirty-bitmap:fine', 'base:allocation'],
    ['qemu:dirty-bitmap:fine', 'qemu:dirty-bitmap:fine'],
    ['qemu:dirty-bitmap:fine', 'bogus:', 'qemu:x'],
    all,
  ].flatMap((queries): Case[] => [
    scene(
      `list ${JSON.stringify(queries)}`,
      hello('c', NBD_FLAGS),
      structured('c'),
      listMeta(...queries),
    ),
    statuses(`set ${JSON.stringify(queries)}`, queries, status(0, 8192)),
  ]),
  scene('list without structured replies', hello('c', NBD_FLAGS), listMeta('qemu:')),
  scene(
    'selected for another export',
    hello('c', NBD_FLAGS),
    structured('c'),
    setMeta('c', 'x', fine),
    go('c', 'y'),
    send(status(0, 4096)),
  ),
  scene(
    'not offered',
    hello('c', NBD_FLAGS),
    structured('c'),
    setMeta('c', 'y', all),
    go('c', 'y'),
    send(status(0, 4096)),
  ),
  statuses('all contexts, everything', all, whole),
  statuses('all contexts, one extent each', all, status(0, 10 * MIB, REQ_ONE)),
  statuses('all contexts, one extent each, from inside', all, status(MIB + 512, MIB, REQ_ONE)),
  statuses('one bitmap', fine, whole),
  statuses('a bitmap of large granules', ['qemu:dirty-bitmap:coarse'], whole),
  statuses('an empty bitmap', ['qemu:dirty-bitmap:empty'], whole),
  statuses('a bitmap that is shorter', ['qemu:dirty-bitmap:short'], whole, status(9 * MIB, MIB)),
  statuses('inside a clean area', fine, status(2 * MIB + 1, 100)),
  statuses('inside a dirty area', fine, status(3 * MIB + 1, 100)),
  statuses('from dirty into clean', fine, status(300, 1000)),
  statuses('from clean into dirty', fine, status(600, 4000)),
  statuses('one extent of clean', fine, status(512, MIB, REQ_ONE)),
  statuses('one extent of dirty', fine, status(0, MIB, REQ_ONE)),
  statuses('a byte', fine, status(0, 1), status(511, 1), status(512, 1)),
  statuses('the end', fine, status(10 * MIB - 512, 512), status(10 * MIB - 1024, 1024)),
  statuses('past the end', fine, status(10 * MIB - 512, 1024), status(10 * MIB, 1)),
  statuses('nothing', fine, status(4096, 0)),
  statuses('with DF', fine, status(0, 8192, DF)),
  statuses('with FUA', fine, status(0, 8192, FUA)),
  scene(
    'an enabled bitmap, while it is written',
    add('live', { granularity: 4096 }),
    exported('live', { name: 'live', writable: true, bitmaps: ['live'] }),
    hello('c', NBD_FLAGS),
    structured('c'),
    setMeta('c', 'live', ['qemu:dirty-bitmap:live']),
    go('c', 'live'),
    send(whole),
    send(write(0, 1)),
    send(whole),
    send(zero(100 * KIB, 4096)),
    send(whole),
    leave,
    hash('live'),
    gone('live'),
  ),
];

export const bitmapExports: Area = {
  name: 'bitmap-exports',
  groups: [
    { name: 'exports', arguments: wireArguments, cases: exporting },
    { name: 'contexts', arguments: wireArguments, cases: seen },
    {
      name: 'deleting a node whose bitmap is exported',
      arguments: wireArguments,
      stderr: false,
      cases: [
        scene(
          'by the export of another node',
          ['block-dirty-bitmap-add', { node: 'n2', name: 'b' }],
          exported('e', { bitmaps: [{ node: 'n2', name: 'b' }] }),
          ['blockdev-del', { 'node-name': 'n2' }],
          gone('e'),
          ['blockdev-del', { 'node-name': 'n2' }],
        ),
      ],
    },
    {
      name: 'resizing a node whose bitmap is exported',
      arguments: [...wireArguments, '--blockdev', 'file,node-name=f,filename=@DIR@/f.img'],
      files: [{ name: 'f.img', length: MIB }],
      stderr: false,
      cases: [
        scene(
          'by the export of another node',
          ['block-dirty-bitmap-add', { node: 'f', name: 'b' }],
          exported('e', { bitmaps: [{ node: 'f', name: 'b' }] }),
          resize('f', 2 * MIB),
          hash('b', 'f'),
        ),
      ],
    },
  ],
};
