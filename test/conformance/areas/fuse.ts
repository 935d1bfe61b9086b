// FUSE exports: arguments, life cycle, and system calls on the file that appears.

import { type FileCall, rootFuseMissing } from '../../helpers/fuse.ts';
import {
  type Area,
  ask,
  type Case,
  type CommandPair,
  type FileSetup,
  type Group,
  type Step,
  scene,
} from '../case.ts';
import { MIB } from '../sizes.ts';

const KEEP = 1;
const PUNCH_KEEP = 3;
const ZERO = 16;
const ZERO_KEEP = 17;

const add = (more: object): Case => ask('block-export-add', { type: 'fuse', ...more });
const fuse = (more: object = {}): CommandPair => [
  'block-export-add',
  { type: 'fuse', id: 'e', 'node-name': 'n', mountpoint: '@DIR@/m', ...more },
];
const del = (id = 'e', more: object = {}): CommandPair => ['block-export-del', { id, ...more }];
const on = (file: string, ...calls: readonly FileCall[]): Step => ({
  do: 'file calls',
  file,
  calls,
});
const calls = (id: string, ...asked: readonly FileCall[]): Case => scene(id, on('m', ...asked));
const open: FileCall = ['open', 'O_RDWR'];

const argumentsOfExports: Case[] = [
  add({ id: 'e', 'node-name': 'n' }),
  add({ id: 'e', mountpoint: '@DIR@/m' }),
  add({ id: 'e', 'node-name': 'n', mountpoint: 5 }),
  add({ id: 'e', 'node-name': 'n', mountpoint: null }),
  add({ id: 'e', 'node-name': 'n', mountpoint: '@DIR@/m', growable: 'on' }),
  add({ id: 'e', 'node-name': 'n', mountpoint: '@DIR@/m', growable: 1 }),
  add({ id: 'e', 'node-name': 'n', mountpoint: '@DIR@/m', 'allow-other': true }),
  add({ id: 'e', 'node-name': 'n', mountpoint: '@DIR@/m', 'allow-other': 'yes' }),
  add({ id: 'e', 'node-name': 'n', mountpoint: '@DIR@/m', name: 'x' }),
  add({ id: 'e', 'node-name': 'n', mountpoint: '@DIR@/m', bogus: 1 }),
  add({ id: 'e', 'node-name': 'n', mountpoint: '' }),
  add({ id: 'e', 'node-name': 'n', mountpoint: '/nonexistent' }),
  add({ id: 'e', 'node-name': 'n', mountpoint: '/nonexistent/x' }),
  add({ id: 'e', 'node-name': 'n', mountpoint: '@DIR@/nope' }),
  add({ id: 'e', 'node-name': 'n', mountpoint: '@DIR@/m/x' }),
  add({ id: 'e', 'node-name': 'n', mountpoint: '@DIR@/loop' }),
  add({ id: 'e', 'node-name': 'n', mountpoint: '@DIR@/dangling' }),
  add({ id: 'e', 'node-name': 'n', mountpoint: `@DIR@/${'x'.repeat(300)}` }),
  add({ id: 'e', 'node-name': 'n', mountpoint: '@DIR@' }),
  add({ id: 'e', 'node-name': 'n', mountpoint: '@DIR@/fifo' }),
  add({ id: 'e', 'node-name': 'n', mountpoint: '/dev/null' }),
  add({ id: 'e', 'node-name': 'nope', mountpoint: '/nonexistent' }),
  add({ id: 'e', 'node-name': 'ro', mountpoint: '/nonexistent', writable: true }),
  add({ id: '1', 'node-name': 'n', mountpoint: '/nonexistent' }),
];

const life: Case[] = [
  scene(
    'add and remove',
    { do: 'read file', file: 'm' },
    fuse(),
    'query-block-exports',
    on('m', ['stat'], ['blocks'], ['statvfs']),
    del(),
    'query-block-exports',
    { do: 'read file', file: 'm' },
  ),
  scene(
    'one mountpoint, two exports',
    fuse(),
    fuse({ id: 'e2' }),
    fuse({ id: 'e2', 'node-name': 'f', writable: true }),
    del(),
    fuse({ id: 'e2' }),
    del('e2'),
  ),
  scene('same id', fuse(), fuse({ mountpoint: '@DIR@/nope' }), del()),
  scene(
    'one node, two mountpoints, and NBD',
    fuse({ 'node-name': 'f', writable: true }),
    fuse({ 'node-name': 'f', id: 'e2', mountpoint: '@DIR@/m2', writable: true, growable: true }),
    ['block-export-add', { type: 'nbd', id: 'x', 'node-name': 'f' }],
    'query-block-exports',
    on('m', open, ['write', 1, 4096, 0], ['close']),
    on('m2', open, ['read', 10, 4090], ['close']),
    ['blockdev-del', { 'node-name': 'f' }],
    del('e', { mode: 'hard' }),
    ['blockdev-del', { 'node-name': 'f' }],
    del('e2', { mode: 'safe' }),
    'query-block-exports',
  ),
  scene(
    'NBD does not let the size change',
    ['block-export-add', { type: 'nbd', id: 'x', 'node-name': 'n' }],
    fuse({ writable: true }),
    fuse({ growable: true }),
    fuse(),
    del(),
    del('x'),
  ),
  scene('through a symbolic link', fuse({ mountpoint: '@DIR@/link' }), on('m', ['stat']), del()),
  scene('by a relative path', fuse({ mountpoint: 'm' }), on('m', ['stat']), del()),
  scene('only nbd-server-remove is for NBD', fuse(), ['nbd-server-remove', { name: 'e' }], del()),
  scene(
    'nbd-server-stop leaves it alone',
    fuse(),
    'nbd-server-stop',
    on('m', ['stat']),
    'query-block-exports',
    del(),
  ),
  scene(
    'writethrough',
    fuse({ writable: true, writethrough: true }),
    on('m', open, ['write', 1, 4096, 0], ['close']),
    del(),
  ),
  scene('left for the end', fuse(), fuse({ id: 'e2', mountpoint: '@DIR@/m2', 'node-name': 'f' })),
];

const rights = (id: string): Case =>
  calls(
    id,
    ['stat'],
    ['chmod', '600'],
    ['chmod', '400'],
    ['chmod', '500'],
    ['chmod', '777'],
    ['stat'],
    ['chmod', '7700'],
    ['stat'],
    ['chown', 1, 2],
    ['chown', -1, 3],
    ['stat'],
    ['utime'],
    ['access', 7],
    ['chmod', '600'],
  );

const OTHER = 65_534;

/** What somebody else may do, who is not the owner. */
const others = (id: string): Case =>
  calls(
    id,
    ['mount options'],
    ['as', OTHER, 'stat'],
    ['as', OTHER, 'open once', 'O_RDONLY'],
    ['chmod', '644'],
    ['as', OTHER, 'open once', 'O_RDONLY'],
    ['as', OTHER, 'open once', 'O_RDWR'],
    ['as', OTHER, 'truncate', 4096],
    ['as', OTHER, 'chmod', '666'],
    ['as', OTHER, 'chown', OTHER, OTHER],
    ['as', OTHER, 'touch'],
    ['chmod', '666'],
    ['as', OTHER, 'open once', 'O_RDWR'],
    ['as', OTHER, 'touch'],
    ['chown', OTHER, OTHER],
    ['as', OTHER, 'chmod', '600'],
    ['as', OTHER, 'open once', 'O_RDWR'],
    ['as', OTHER, 'access', 2],
    ['stat'],
  );

/** Beyond the largest disk of all. */
const LAST = 2 ** 63 - 1024;

/** Where numbers end. What lies between has to do with the file system below. */
const far: Case = calls(
  'far away',
  open,
  ...[2 ** 43, 2 ** 53, 2 ** 62, LAST].flatMap((place): FileCall[] => [
    ['read', 10, place],
    ['lseek', 'SEEK_DATA', place],
    ['lseek', 'SEEK_HOLE', place],
    ['fallocate', PUNCH_KEEP, place, 512],
    ['fallocate', ZERO_KEEP, 0, place],
  ]),
  ['write', 1, 10, LAST],
  ['fallocate', 0, LAST, 512],
  ['fallocate', ZERO, LAST, 512],
  ['ftruncate', LAST],
  ['fallocate', PUNCH_KEEP, MIB, 4096],
  ['fallocate', ZERO_KEEP, MIB, 4096],
  ['fallocate', 0, MIB, 0],
  ['stat'],
  ['close'],
);

/** A disk with bad places: reads fail at 64 KiB, writes at 128 KiB, zeroes at 192 KiB, and all flushes. */
const failing: Case = calls(
  'a disk that fails',
  open,
  ['read', 10, 0],
  ['read', 10, 65_536],
  ['write', 1, 4096, 131_072],
  ['write', 1, 4096, 0],
  ['fallocate', ZERO_KEEP, 196_608, 4096],
  ['fsync'],
  ['fdatasync'],
  ['close'],
  ['open', 'O_RDWR|O_DIRECT'],
  ['read direct', 4096, 65_536],
  ['write direct', 2, 4096, 131_072],
  ['write direct', 2, 4096, 4096],
  ['read direct', 4096, 4096],
  ['close'],
);

const names: Case = calls(
  'names, attributes and locks',
  ['unlink'],
  ['rename'],
  ['link'],
  ['listdir'],
  ['stat below'],
  ['getxattr', 'user.x'],
  ['setxattr', 'user.x'],
  ['listxattr'],
  open,
  ['flock'],
  ['lockf'],
  ['ioctl', 4736],
  ['close'],
  ['open', 'O_RDWR|O_CREAT|O_EXCL'],
  ['open', 'O_RDONLY|O_DIRECTORY'],
);

const reading: Case = calls(
  'reading',
  ['open', 'O_RDONLY'],
  ['read', 100, 0],
  ['read', 4096, MIB - 6],
  ['read', 10, MIB - 1],
  ['read', 10, MIB],
  ['read', 10, 2_000_000],
  ['read', 10, 2 ** 40],
  ['read', 3 * MIB, 1],
  ['write', 1, 1, 0],
  ['fsync'],
  ['fdatasync'],
  ['lseek', 'SEEK_DATA', 0],
  ['lseek', 'SEEK_HOLE', 0],
  ['lseek', 'SEEK_DATA', 65536],
  ['lseek', 'SEEK_DATA', MIB - 1],
  ['lseek', 'SEEK_HOLE', MIB - 1],
  ['lseek', 'SEEK_DATA', MIB],
  ['lseek', 'SEEK_HOLE', MIB],
  ['lseek', 'SEEK_HOLE', MIB + 1],
  ['lseek', 'SEEK_DATA', 2 ** 50],
  ['lseek', 'SEEK_END', 0],
  ['close'],
  ['open', 'O_RDONLY|O_DIRECT'],
  ['read direct', 4096, 0],
  ['read direct', MIB, 0],
  ['read direct', 4096, MIB],
  ['close'],
);

const writing: Case = calls(
  'writing',
  open,
  ['write', 7, 10, 5],
  ['read', 20, 0],
  ['write', 8, 300_000, 12_345],
  ['write', 7, 10, MIB - 6],
  ['write', 7, 10, MIB],
  ['write', 7, 10, 2_000_000],
  ['stat'],
  ['fsync'],
  ['copy_file_range', 4096, 12_345, 65_536],
  ['mmap', 8192, 10],
  ['read', 20, 5],
  ['close'],
  ['open', 'O_RDWR|O_TRUNC'],
  ['stat'],
  ['read', 20, 5],
  ['close'],
  ['open', 'O_WRONLY|O_APPEND'],
  ['append', 9, 10],
  ['close'],
  ['open', 'O_RDWR|O_DIRECT'],
  ['write direct', 3, 4096, 0],
  ['write direct', 3, 2 * MIB, 4096],
  ['read direct', 4096, 0],
  ['close'],
  ['stat'],
);

const resizing: Case = calls(
  'resizing',
  open,
  ['ftruncate', 3_000_000],
  ['stat'],
  ['read', 10, 2_999_000],
  ['ftruncate', MIB],
  ['stat'],
  ['truncate', MIB + 1],
  ['stat'],
  ['truncate', 0],
  ['stat'],
  ['read', 10, 0],
  ['write', 1, 1, 0],
  ['truncate', MIB],
  ['read', 10, 0],
  ['close'],
);

const allocating: Case = calls(
  'allocating',
  open,
  ['write', 5, 65_536, 0],
  ['fallocate', 0, 0, 4096],
  ['fallocate', 0, MIB - 4096, 8192],
  ['fallocate', 0, MIB, 4096],
  ['stat'],
  ['fallocate', 0, 2_000_000, 4096],
  ['stat'],
  ['fallocate', KEEP, 0, 4096],
  ['fallocate', KEEP, 3_000_000, 4096],
  ['fallocate', 2, 0, 4096],
  ['fallocate', PUNCH_KEEP, 0, 4096],
  ['fallocate', PUNCH_KEEP, 8192, 8192],
  ['read', 10, 8190],
  ['fallocate', PUNCH_KEEP, 3_000_000, 4096],
  ['fallocate', ZERO, 20_480, 8192],
  ['read', 10, 20_470],
  ['fallocate', ZERO_KEEP, 40_960, 100],
  ['read', 10, 41_055],
  ['fallocate', ZERO_KEEP, MIB, 5 * MIB],
  ['stat'],
  ['fallocate', ZERO, 2_000_000, 81_920],
  ['stat'],
  ['fallocate', ZERO_KEEP, 9_000_000, 4096],
  ['fallocate', 8, 0, 4096],
  ['fallocate', 32, 0, 4096],
  ['lseek', 'SEEK_HOLE', 0],
  ['close'],
  ['truncate', MIB],
);

const everything = [reading, writing, resizing, allocating];

const exported = (options: string): readonly string[] => [
  '--export',
  `fuse,id=e,node-name=n,mountpoint=@DIR@/m,${options}`,
];
const file = (more = ''): readonly string[] => [
  '--blockdev',
  `file,node-name=n,filename=@DIR@/a.img,discard=unmap${more}`,
];
const failingDisk: readonly string[] = [
  '--blockdev',
  JSON.stringify({
    driver: 'blkdebug',
    'node-name': 'n',
    image: { driver: 'file', filename: '@DIR@/a.img', discard: 'unmap' },
    'inject-error': [
      { event: 'none', iotype: 'read', sector: 128, errno: 5 },
      { event: 'none', iotype: 'write', sector: 256, errno: 28 },
      { event: 'none', iotype: 'write-zeroes', sector: 384, errno: 28 },
      { event: 'none', iotype: 'flush', errno: 5 },
    ],
  }),
];
const image: FileSetup = { name: 'a.img', length: MIB, fill: [[0, 65_536, 0x11]] };
const mountpoint: FileSetup = { name: 'm', text: 'underneath' };
const written: Case = scene('what is in the image', { do: 'inspect', file: 'a.img' });

const group = (name: string, node: readonly string[], options: string, cases: Case[]): Group => ({
  name,
  arguments: [...node, ...exported(options)],
  files: [image, mountpoint],
  stderr: false,
  cases,
});

export const fuseExports: Area = {
  name: 'fuse',
  missing: rootFuseMissing(),
  groups: [
    {
      name: 'block-export-add',
      arguments: [
        '--blockdev',
        'null-co,node-name=n,size=1048576,read-zeroes=on',
        '--blockdev',
        'null-co,node-name=ro,size=1048576,read-only=on',
      ],
      files: [
        mountpoint,
        { name: 'fifo', kind: 'fifo' },
        { name: 'loop', kind: 'symlink', target: 'loop' },
        { name: 'dangling', kind: 'symlink', target: 'nope' },
      ],
      cases: argumentsOfExports,
    },
    {
      name: 'life',
      arguments: [
        '--nbd-server',
        'addr.type=unix,addr.path=@DIR@/nbd.sock',
        '--blockdev',
        'null-co,node-name=n,size=1048576,read-zeroes=on',
        '--blockdev',
        'file,node-name=f,filename=@DIR@/a.img',
      ],
      files: [
        image,
        mountpoint,
        { name: 'm2', text: '' },
        { name: 'link', kind: 'symlink', target: 'm' },
      ],
      cases: life,
    },
    group('writable', file(), 'writable=on', [...everything, names, rights('rights'), written]),
    group('growable', file(), 'writable=on,growable=on', [...everything, written]),
    group('read-only', file(), 'writable=off', [...everything, rights('rights')]),
    group('growable, not writable', file(), 'growable=on', [resizing]),
    group('allow-other off', file(), 'writable=on,allow-other=off', [rights('rights')]),
    group('allow-other on', file(), 'allow-other=on', [rights('rights')]),
    group('others, allow-other auto', file(), 'writable=on', [others('others')]),
    group('others, allow-other on', file(), 'writable=on,allow-other=on', [others('others')]),
    group('others, allow-other off', file(), 'writable=on,allow-other=off', [others('others')]),
    group('others, read-only', file(), 'writable=off', [others('others')]),
    group('numbers', file(), 'writable=on,growable=on', [far]),
    group('errors', failingDisk, 'writable=on', [failing, written]),
    group('direct', file(',cache.direct=on'), 'writable=on,growable=on', [...everything, written]),
    group(
      'part of a file',
      [
        '--blockdev',
        'raw,node-name=n,discard=unmap,offset=4096,size=524288,file.driver=file,file.filename=@DIR@/a.img,file.discard=unmap',
      ],
      'writable=on,growable=on',
      [...everything, written],
    ),
    {
      ...group('odd length', file(), 'writable=on', [...everything, written]),
      files: [{ ...image, length: 1_000_000 }, mountpoint],
    },
    {
      name: 'over the image itself',
      arguments: [
        '--blockdev',
        'file,node-name=n,filename=@DIR@/m,discard=unmap',
        ...exported('writable=on,growable=on'),
      ],
      files: [{ ...image, name: 'm' }],
      stderr: false,
      cases: [
        ...everything,
        scene('removed', ['query-named-block-nodes', { flat: true }], del(), {
          do: 'inspect',
          file: 'm',
        }),
      ],
    },
  ],
  commandLines: [
    { id: 'no mountpoint', arguments: ['--export', 'fuse,id=e,node-name=n'] },
    {
      id: 'no mountpoint, in JSON',
      arguments: ['--export', '{"type":"fuse","id":"e","node-name":"n"}'],
    },
    {
      id: 'a mountpoint that is not there, in JSON',
      arguments: [
        '--blockdev',
        'null-co,node-name=n',
        '--export',
        '{"type":"fuse","id":"e","node-name":"n","mountpoint":"@DIR@/m","growable":true,"allow-other":"off"}',
      ],
    },
    {
      id: 'a mountpoint that is not there, with its type by name',
      arguments: [
        '--blockdev',
        'null-co,node-name=n',
        '--export',
        'id=e,type=fuse,node-name=n,mountpoint=@DIR@/m',
      ],
    },
    {
      id: 'a mountpoint that is not there',
      arguments: ['--blockdev', 'null-co,node-name=n', ...exported('growable=on')],
    },
    {
      id: 'a value that there is not',
      files: [mountpoint],
      arguments: ['--blockdev', 'null-co,node-name=n', ...exported('allow-other=maybe')],
    },
  ],
};
