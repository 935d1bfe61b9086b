// NBD transmission: every command with every flag, at every boundary, in each way of replying; and what it leaves in the
// image.

import { type Area, type Case, type Group, type Request, scene } from '../case.ts';
import { KIB, MIB } from '../sizes.ts';
import {
  DF,
  enter,
  FAST_ZERO,
  FUA,
  type Mode,
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NO_HOLE,
  REQ_ONE,
  requests,
  transmission,
} from '../wire-steps.ts';
import { effects } from './nbd-commands/effects.ts';
import { order } from './nbd-commands/order.ts';
import { bytes, command, MAX, ping, read, SIZE, st, write } from './nbd-commands/steps.ts';

const boundaries: readonly (readonly [name: string, offset: number | bigint, length: number])[] = [
  ['nothing at 0', 0, 0],
  ['nothing at the end', SIZE, 0],
  ['nothing past the end', SIZE + 1, 0],
  ['one byte', 0, 1],
  ['the last byte', SIZE - 1, 1],
  ['a sector', 0, 512],
  ['a sector and a byte', 511, 514],
  ['the last sector', SIZE - 512, 512],
  ['across the end', SIZE - 256, 512],
  ['at the end', SIZE, 512],
  ['far past the end', 2 ** 40, 512],
  ['offset 2^63 - 512', 2n ** 63n - 512n, 512],
  ['offset 2^63', 2n ** 63n, 512],
  ['offset 2^64 - 1', 2n ** 64n - 1n, 1],
  ['offset and length that wrap', 2n ** 64n - 512n, 1024],
  ['length 2^32 - 1', 0, 0xffffffff],
  ['length 2^31', 0, 0x80000000],
  ['the longest', 0, MAX],
  ['longer than the longest', 0, MAX + 1],
];

const flagSets = [
  0,
  FUA,
  NO_HOLE,
  DF,
  REQ_ONE,
  FAST_ZERO,
  0x20,
  0x8000,
  0xffff,
  FUA | DF,
  FUA | NO_HOLE,
  NO_HOLE | FAST_ZERO,
];

/** One command at all boundaries, and with all flags: a case each, a healthy read behind it. */
function battery(name: string, type: number, mode: Mode, target: string): Case[] {
  const isWrite = type === NBD_CMD_WRITE;
  const at = (offset: number | bigint, length: number, flags: number): Request =>
    isWrite ? write(offset, bytes(length), flags) : command(type, offset, length, flags);
  // A payload above the maximum is never read: the connection ends.
  const lengths = boundaries.filter(([, , length]) => !isWrite || length <= 4096);
  return [
    ...lengths.map(([boundary, offset, length]) =>
      transmission(`${name} ${boundary}`, mode, target, at(offset, length, 0), ping),
    ),
    ...flagSets.map((flags) =>
      transmission(
        `${name} flags 0x${flags.toString(16)}`,
        mode,
        target,
        at(4096, 4096, flags),
        ping,
      ),
    ),
  ];
}

const sparse: Case[] = [
  transmission('a hole', 'structured', 'ex', read(MIB, 4096)),
  transmission('data then hole', 'structured', 'ex', read(192 * KIB, 128 * KIB)),
  transmission('hole then data', 'structured', 'ex', read(3 * MIB - 64 * KIB, 128 * KIB)),
  transmission('data hole data hole', 'structured', 'ex', read(0, 4 * MIB)),
  transmission('everything', 'structured', 'ex', read(0, SIZE)),
  transmission('everything without fragments', 'structured', 'ex', read(0, SIZE, DF)),
  transmission('everything', 'simple', 'ex', read(0, SIZE)),
  transmission('unaligned across a boundary', 'structured', 'ex', read(256 * KIB - 3, 7)),
  transmission('zeroes that are data', 'structured', 'ex', read(5 * MIB, 64 * KIB)),
  transmission(
    'the odd tail',
    'structured',
    'odd',
    read(0, 1024),
    read(512, 512),
    read(999, 2),
    read(1023, 1),
  ),
  transmission('the odd tail', 'simple', 'odd', read(0, 1024), read(1024, 1)),
  transmission('a null node', 'structured', 'null', read(0, 4096), read(MIB - 1, 1), read(MIB, 1)),
  transmission('an empty export', 'structured', 'empty', read(0, 0), read(0, 1)),
  transmission(
    'raw with offset and size',
    'structured',
    'window',
    read(0, 64 * KIB),
    read(64 * KIB - 1, 1),
    read(64 * KIB, 1),
    read(63 * KIB, 2 * KIB),
  ),
];

const statuses: Case[] = [
  transmission('status of everything', 'extents', 'ex', st(0, SIZE), st(0, SIZE, REQ_ONE)),
  transmission(
    'status from inside',
    'extents',
    'ex',
    st(100, 1000),
    st(255 * KIB, 2 * KIB),
    st(256 * KIB - 1, 2),
    st(MIB, SIZE - MIB),
  ),
  transmission(
    'status of one hole',
    'extents',
    'ex',
    st(MIB, MIB),
    st(MIB, MIB, REQ_ONE),
    st(MIB + 1, 1),
  ),
  transmission('status of the odd file', 'extents', 'odd', st(0, 1024), st(1000, 24), st(0, 1000)),
  transmission('status of a null node', 'extents', 'null', st(0, MIB), st(4096, 4096)),
  transmission('status through a window', 'extents', 'window', st(0, 64 * KIB)),
  ...battery('status', NBD_CMD_BLOCK_STATUS, 'extents', 'ex'),
];

const depths: Case[] = [
  scene(
    'status with both contexts',
    ...enter('structured', 'depth').slice(0, -1),
    { do: 'option', on: 'c', option: 10, payload: depthQuery() },
    ...enter('simple', 'depth').slice(1),
    requests([st(0, SIZE)]),
    requests([st(0, 4096, REQ_ONE)]),
  ),
];

function depthQuery(): Uint8Array {
  const u32 = (value: number): Buffer => {
    const buffer = Buffer.alloc(4);
    buffer.writeUInt32BE(value);
    return buffer;
  };
  const query = (text: string): Buffer => Buffer.concat([u32(text.length), Buffer.from(text)]);
  return Buffer.concat([
    query('depth'),
    u32(2),
    query('base:allocation'),
    query('qemu:allocation-depth'),
  ]);
}

const img = (name: string, length: number, ...fill: (readonly [number, number, number])[]) => ({
  name,
  length,
  fill,
});
const daemon: Pick<Group, 'files' | 'arguments'> = {
  files: [
    img('a.img', SIZE, [0, 256 * KIB, 0x11], [3 * MIB, 256 * KIB, 0x22], [5 * MIB, 64 * KIB, 0]),
    img('b.img', MIB, [0, MIB, 0x33]),
    img('c.img', MIB, [0, 256 * KIB, 0x44]),
    img('d.img', MIB, [0, 256 * KIB, 0x44]),
    img('e.img', MIB, [0, MIB, 0x55]),
    img('f.img', MIB, [0, MIB, 0x66]),
    img('odd.img', 1000, [0, 1000, 0x77]),
    img('empty.img', 0),
    img('scratch.img', 8 * MIB),
  ],
  arguments: [
    ...['ex:a', 'odd:odd', 'empty:empty', 'scratch:scratch', 'through:f'].flatMap((pair) => {
      const [node, file] = pair.split(':');
      return ['--blockdev', `file,node-name=${node},filename=@DIR@/${file}.img`];
    }),
    '--blockdev',
    'file,node-name=unmap,filename=@DIR@/b.img,discard=unmap',
    '--blockdev',
    'file,node-name=detect,filename=@DIR@/c.img,detect-zeroes=on',
    '--blockdev',
    'file,node-name=detect-unmap,filename=@DIR@/d.img,detect-zeroes=unmap,discard=unmap',
    '--blockdev',
    'raw,node-name=window,file.driver=file,file.filename=@DIR@/e.img,offset=65536,size=65536,discard=unmap,file.discard=unmap',
    '--blockdev',
    'null-co,node-name=null,size=1048576,read-zeroes=on',
    '--blockdev',
    'null-co,node-name=big,size=1099511627776,read-zeroes=on',
    '--nbd-server',
    'addr.type=unix,addr.path=@DIR@/nbd.sock',
    ...[
      'ex',
      'odd',
      'empty',
      'scratch',
      'unmap',
      'detect',
      'detect-unmap',
      'window',
      'null',
      'big',
    ].flatMap((node) => ['--export', `nbd,id=${node},node-name=${node},writable=on`]),
    '--export',
    'nbd,id=ro,node-name=ex,name=ro',
    '--export',
    'nbd,id=through,node-name=through,writable=on,writethrough=on',
  ],
};

const commands = [
  ['read', NBD_CMD_READ],
  ['write', NBD_CMD_WRITE],
  ['trim', NBD_CMD_TRIM],
  ['cache', NBD_CMD_CACHE],
  ['zeroes', NBD_CMD_WRITE_ZEROES],
  ['flush', NBD_CMD_FLUSH],
] as const;

export const nbdCommands: Area = {
  name: 'nbd-commands',
  groups: [
    ...commands.flatMap(([name, type]): Group[] => [
      {
        name: `${name} with structured replies`,
        ...daemon,
        stderr: false,
        cases: battery(name, type, 'structured', 'ex'),
      },
      {
        name: `${name} with simple replies`,
        ...daemon,
        stderr: false,
        cases: battery(name, type, 'simple', 'ex'),
      },
    ]),
    ...commands.map(
      ([name, type]): Group => ({
        name: `${name} of a read-only export`,
        ...daemon,
        stderr: false,
        cases: battery(name, type, 'structured', 'ro').slice(3, 12),
      }),
    ),
    { name: 'sparse reads', ...daemon, cases: sparse },
    { name: 'block status', ...daemon, stderr: false, cases: statuses },
    {
      name: 'allocation depth',
      files: daemon.files ?? [],
      arguments: [
        ...(daemon.arguments ?? []),
        '--export',
        'nbd,id=depth,node-name=ex,name=depth,allocation-depth=on',
      ],
      cases: depths,
    },
    { name: 'effects', ...daemon, stderr: false, cases: effects },
    { name: 'order and limits', ...daemon, stderr: false, cases: order },
  ],
};
