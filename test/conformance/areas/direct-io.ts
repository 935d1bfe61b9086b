// Images opened with cache.direct=on: what clients are told about alignment, and that unaligned requests are served all the
// same. The alignment is the file system's, so these answers are not recorded.

import { type Area, type Case, type Request, scene } from '../case.ts';
import { KIB, MIB } from '../sizes.ts';
import {
  enter,
  FAST_ZERO,
  FUA,
  go,
  goPayload,
  handshake,
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_OPT_INFO,
  option,
  transmission,
} from '../wire-steps.ts';

const read = (offset: number, length: number): Request => ({ type: NBD_CMD_READ, offset, length });
const write = (offset: number, length: number, flags = 0): Request => ({
  type: NBD_CMD_WRITE,
  offset,
  payload: Buffer.alloc(length, 0x5a),
  flags,
});
const at = (type: number, offset: number, length: number, flags = 0): Request => ({
  type,
  offset,
  length,
  flags,
});

const negotiation: Case[] = ['ex', 'raw', 'odd', 'no-flush'].flatMap((name) => [
  handshake(`info without block size: ${name}`, option('c', NBD_OPT_INFO, goPayload(name, []))),
  handshake(`info with block size: ${name}`, option('c', NBD_OPT_INFO, goPayload(name, [3]))),
  handshake(`go without block size: ${name}`, go('c', name)),
]);

const requestsOf = (name: string): Case[] => [
  transmission(`aligned reads of ${name}`, 'simple', name, read(0, 4096), read(8192, 64 * KIB)),
  transmission(
    `unaligned reads of ${name}`,
    'simple',
    name,
    read(1, 1),
    read(511, 2),
    read(4095, 2),
    read(100, 70_000),
  ),
  transmission(
    `reads of the end of ${name}`,
    'simple',
    name,
    read(MIB - 1, 1),
    read(MIB - 513, 513),
    read(MIB, 1),
  ),
  transmission(
    `sparse reads of ${name}`,
    'structured',
    name,
    read(0, MIB),
    read(200 * KIB, 100 * KIB),
  ),
  transmission(
    `writes to ${name}`,
    'simple',
    name,
    write(0, 4096),
    write(512, 512),
    write(1, 1),
    write(4095, 2),
    write(100_000, 5000, FUA),
    read(0, MIB),
  ),
  transmission(
    `zeroes to ${name}`,
    'simple',
    name,
    at(NBD_CMD_WRITE_ZEROES, 0, 4096),
    at(NBD_CMD_WRITE_ZEROES, 5, 10),
    at(NBD_CMD_WRITE_ZEROES, 20_000, 30_000, FUA),
    at(NBD_CMD_WRITE_ZEROES, 3, 5, FAST_ZERO),
    read(0, MIB),
  ),
  transmission(
    `trim of ${name}`,
    'simple',
    name,
    at(NBD_CMD_TRIM, 0, 4096),
    at(NBD_CMD_TRIM, 5, 10),
    at(NBD_CMD_TRIM, 20_000, 30_000),
    at(NBD_CMD_FLUSH, 0, 0),
    at(NBD_CMD_CACHE, 0, 8192),
  ),
  transmission(
    `status of ${name}`,
    'extents',
    name,
    at(NBD_CMD_BLOCK_STATUS, 0, MIB),
    at(NBD_CMD_BLOCK_STATUS, 1, 1),
    at(NBD_CMD_BLOCK_STATUS, 600_000, 512),
  ),
  scene(`image below ${name}`, ...enter('simple', name), {
    do: 'inspect',
    file: `${name === 'raw' ? 'b' : 'a'}.img`,
  }),
];

const image = (
  name: string,
): { name: string; length: number; fill: [number, number, number][] } => ({
  name,
  length: MIB,
  fill: [
    [0, 256 * KIB, 0x11],
    [MIB - 64 * KIB, 64 * KIB, 0x22],
  ],
});

const exported = [
  '--blockdev',
  'file,node-name=ex,filename=@DIR@/a.img,cache.direct=on',
  '--nbd-server',
  'addr.type=unix,addr.path=@DIR@/nbd.sock',
  '--export',
  'nbd,id=ex,node-name=ex,writable=on',
];

export const directIo: Area = {
  name: 'direct-io',
  live: 'the alignment of direct I/O is the file system’s',
  groups: [
    {
      name: 'direct',
      stderr: false,
      files: [
        image('a.img'),
        image('b.img'),
        image('c.img'),
        { name: 'odd.img', length: 1000, fill: [[0, 1000, 0x33]] },
      ],
      arguments: [
        '--blockdev',
        'file,node-name=ex,filename=@DIR@/a.img,cache.direct=on',
        '--blockdev',
        'raw,node-name=raw,cache.direct=on,file.driver=file,file.filename=@DIR@/b.img,discard=unmap',
        '--blockdev',
        'file,node-name=odd,filename=@DIR@/odd.img,cache.direct=on',
        '--blockdev',
        'file,node-name=no-flush,filename=@DIR@/c.img,cache.direct=on,cache.no-flush=on',
        '--nbd-server',
        'addr.type=unix,addr.path=@DIR@/nbd.sock',
        ...['ex', 'raw', 'odd', 'no-flush'].flatMap((node) => [
          '--export',
          `nbd,id=${node},node-name=${node},writable=on`,
        ]),
      ],
      cases: [
        ...negotiation,
        ...requestsOf('ex'),
        ...requestsOf('raw'),
        transmission(
          'the odd file',
          'simple',
          'odd',
          read(0, 1024),
          read(999, 2),
          write(999, 1),
          read(0, 1024),
        ),
        scene('queries', ['query-named-block-nodes', { flat: true }]),
      ],
    },
    {
      name: 'unaligned cache request',
      stderr: false,
      files: [image('a.img')],
      arguments: exported,
      cases: [transmission('is served', 'simple', 'ex', at(NBD_CMD_CACHE, 1, 1000), read(0, 4))],
    },
  ],
};
