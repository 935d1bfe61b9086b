// Every event of blkdebug: a rule that makes the next request fail is put on it, in the reference and in ours. The same
// request must go wrong, with the same error, and after it all is well again.

import { copyFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { QmpClient } from '../../src/client/qmp-client.ts';
import { BlkdebugEventValues } from '../../src/qapi/generated/enums.ts';
import type { BlkdebugEvent } from '../../src/qapi/generated/types.ts';
import type { Request } from '../conformance/case.ts';
import { NbdPeer } from '../conformance/nbd-peer.ts';
import {
  goPayload,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_OPT_GO,
} from '../conformance/wire-steps.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { findProgram, missing, referenceMissing } from '../helpers/reference.ts';
import { tempDir } from '../helpers/temp-dir.ts';
import { succeed } from './serve.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const CLUSTER = 64 * KIB;

type Command = readonly [name: string, args: object];
type Step = Request | Command;

const write = (offset: number, length: number): Request => ({
  type: NBD_CMD_WRITE,
  offset,
  payload: Buffer.alloc(length, 1 + (offset % 251)),
});
const read = (offset: number): Request => ({ type: NBD_CMD_READ, offset, length: 512 });
const zero = (offset: number, length: number): Request => ({
  type: NBD_CMD_WRITE_ZEROES,
  offset,
  length,
});
const discard = (offset: number, length: number): Request => ({
  type: NBD_CMD_TRIM,
  offset,
  length,
});
const flush: Request = { type: NBD_CMD_FLUSH };
const resize = (size: number): Command => ['block_resize', { 'node-name': 'top@', size }];

const snapshot: Command = ['blockdev-snapshot-internal-sync', { device: 'top@', name: 's' }];

interface Scenario {
  /** A file that is copied for it: the node `file@`. `@` in names becomes the number of the event. */
  readonly image: 'overlay' | 'shared' | 'small' | 'raw';
  /** The nodes over it, the last of which is `top@`. */
  readonly nodes: (rules: object) => readonly object[];
  /** Requests to an export of `top@`; there is none where there are commands. */
  readonly steps: readonly Step[];
}

const debug = { driver: 'blkdebug', 'node-name': 'debug@', image: 'file@' };
const top = { driver: 'qcow2', 'node-name': 'top@', file: 'debug@', discard: 'unmap' };
const underQcow2 = (rules: object): readonly object[] => [{ ...debug, ...rules }, top];

const scenarios = {
  'a disk in use': {
    image: 'overlay',
    nodes: underQcow2,
    steps: [
      read(0),
      read(3 * CLUSTER),
      write(512, 512),
      write(10 * CLUSTER, CLUSTER),
      write(4 * CLUSTER + 4096, 4096),
      write(300 * CLUSTER + 4096, 4096),
      flush,
      zero(10 * CLUSTER, CLUSTER),
      discard(4 * CLUSTER, CLUSTER),
      flush,
      write(GIB, CLUSTER),
      flush,
      read(GIB),
    ],
  },
  'a disk with a snapshot': {
    image: 'shared',
    nodes: underQcow2,
    steps: [write(512, 512), flush, read(512), write(CLUSTER, CLUSTER), flush],
  },
  'a disk that is resized': {
    image: 'overlay',
    nodes: (rules) => [
      { ...debug, ...rules },
      { ...top, backing: null },
    ],
    steps: [resize(16 * GIB), resize(256 * MIB), resize(512 * MIB), snapshot],
  },
  'compressed clusters': {
    image: 'overlay',
    nodes: (rules) => [
      { ...debug, ...rules },
      { ...top, 'node-name': 'image@' },
      { driver: 'compress', 'node-name': 'top@', file: 'image@' },
    ],
    steps: [
      write(200 * CLUSTER, CLUSTER),
      write(201 * CLUSTER, CLUSTER),
      read(200 * CLUSTER),
      flush,
      read(200 * CLUSTER),
      write(202 * CLUSTER, CLUSTER),
      flush,
    ],
  },
  'refcounts that grow': {
    image: 'small',
    nodes: underQcow2,
    steps: Array.from({ length: 8 }, (_, at) => write((at * MIB) / 2, MIB / 2)),
  },
  'parts of blocks': {
    image: 'raw',
    nodes: (rules) => [
      { ...debug, ...rules, align: 4096 },
      { driver: 'raw', 'node-name': 'top@', file: 'debug@' },
    ],
    steps: [
      read(0),
      write(512, 512),
      write(4096, 512),
      write(8192 + 3584, 512),
      write(16_384 + 512, 8192),
      zero(32_768, 8192),
      zero(65_536, 100),
      write(0, 512),
    ],
  },
  'copies of what is read': {
    image: 'overlay',
    nodes: (rules) => [
      { ...top, 'node-name': 'image@', file: 'file@' },
      { ...debug, ...rules, image: 'image@' },
      { driver: 'copy-on-read', 'node-name': 'top@', file: 'debug@' },
    ],
    steps: [read(0), read(3 * CLUSTER), read(3 * CLUSTER), read(6 * CLUSTER)],
  },
} satisfies Record<string, Scenario>;

/** What raises each event; undefined for those that nothing in a storage daemon does: the reference does not raise them here. */
const raisedBy = {
  l1_update: 'a disk in use',
  l1_grow_alloc_table: 'a disk that is resized',
  l1_grow_write_table: 'a disk that is resized',
  l1_grow_activate_table: 'a disk that is resized',
  l2_load: 'a disk in use',
  l2_update: 'a disk in use',
  l2_update_compressed: 'compressed clusters',
  l2_alloc_cow_read: 'a disk with a snapshot',
  l2_alloc_write: 'a disk in use',
  read_aio: 'parts of blocks',
  read_backing_aio: 'a disk in use',
  read_compressed: 'compressed clusters',
  write_aio: 'a disk in use',
  write_compressed: 'compressed clusters',
  vmstate_load: undefined,
  vmstate_save: undefined,
  cow_read: 'a disk in use',
  cow_write: 'a disk in use',
  reftable_load: 'a disk in use',
  reftable_grow: 'refcounts that grow',
  // When an image is emptied after a commit.
  reftable_update: undefined,
  empty_image_prepare: undefined,
  refblock_load: 'a disk in use',
  // By nobody.
  refblock_update: undefined,
  refblock_update_part: 'a disk in use',
  refblock_alloc: 'a disk in use',
  refblock_alloc_hookup: 'refcounts that grow',
  refblock_alloc_write: 'refcounts that grow',
  refblock_alloc_write_blocks: 'refcounts that grow',
  refblock_alloc_write_table: 'refcounts that grow',
  refblock_alloc_switch_table: 'refcounts that grow',
  cluster_alloc: 'a disk in use',
  cluster_alloc_bytes: 'compressed clusters',
  cluster_free: 'a disk in use',
  flush_to_os: 'a disk in use',
  flush_to_disk: 'a disk in use',
  pwritev_rmw_head: 'parts of blocks',
  pwritev_rmw_after_head: 'parts of blocks',
  pwritev_rmw_tail: 'parts of blocks',
  pwritev_rmw_after_tail: 'parts of blocks',
  pwritev: 'a disk in use',
  pwritev_zero: 'parts of blocks',
  pwritev_done: 'a disk in use',
  l1_shrink_write_table: 'a disk that is resized',
  l1_shrink_free_l2_clusters: 'a disk that is resized',
  cor_write: 'copies of what is read',
  cluster_alloc_space: 'a disk in use',
  none: 'parts of blocks',
} as const satisfies Record<BlkdebugEvent, keyof typeof scenarios | undefined>;

/** The reference goes on where what lies around an unaligned write cannot be read, and overwrites it with anything. */
const forgotten: readonly BlkdebugEvent[] = ['pwritev_rmw_head', 'pwritev_rmw_tail'];

interface Side {
  readonly qmp: QmpClient;
  readonly directory: string;
}

const reason = referenceMissing() ?? missing('qemu-img', 'qemu-io');

describe.skipIf(reason !== undefined)('an error at each event', () => {
  it.each(Object.entries<Scenario>(scenarios))(
    'shows as in the reference: %s',
    async (name, scenario) => {
      const images = tempDir();
      await makeImage(images, scenario.image);
      const reference = findProgram('qemu-storage-daemon') ?? '';
      const sides = await Promise.all([side([reference]), side()]);
      for (const event of BlkdebugEventValues) {
        if (raisedBy[event] !== name) continue;
        const [theirs, ours] = await Promise.all(
          sides.map((each) => play(each, images, event, scenario)),
        );
        const until = upToFailure(ours ?? []);
        expect([event, until.at(-1)]).toEqual([event, expect.stringMatching(failure)]);
        if (forgotten.includes(event)) expect([event, theirs]).not.toEqual([event, ours]);
        else expect([event, until]).toEqual([event, upToFailure(theirs ?? [])]);
        // Ours goes on; the reference may show what was not written.
        const after = ours?.slice(until.length).filter((line) => /rror (?!0)/.test(line));
        expect([event, after]).toEqual([event, []]);
      }
    },
  );
});

const failure = /^simple error 28|No space left on device/;

function upToFailure(answers: readonly string[]): readonly string[] {
  const at = answers.findIndex((line) => failure.test(line));
  return at === -1 ? answers : answers.slice(0, at + 1);
}

async function side(command?: readonly string[]): Promise<Side> {
  const args = ['--nbd-server', 'addr.type=unix,addr.path=nbd.sock'];
  return startDaemon({ args, ...(command === undefined ? {} : { command }) });
}

/** What is answered when `event` makes a request fail, once. */
async function play(
  { qmp, directory }: Side,
  images: string,
  event: BlkdebugEvent,
  { image, nodes, steps }: Scenario,
): Promise<readonly string[]> {
  const answers: string[] = [];
  const ask = async (name: string, args: object): Promise<void> => {
    const own = JSON.parse(
      JSON.stringify(args).replaceAll('@', String(BlkdebugEventValues.indexOf(event))),
    ) as object;
    const answer = await qmp.executeAny(name, own).catch(String);
    answers.push(typeof answer === 'string' ? answer : JSON.stringify(answer));
  };
  const filename = path.join(directory, event);
  copyFileSync(path.join(images, image), filename);
  const rules = { 'inject-error': [{ event, errno: 28, once: true }] };
  // Nobody pulls the plug here, and others may keep the disk busy.
  const cache = { 'no-flush': true };
  await ask('blockdev-add', { driver: 'file', 'node-name': 'file@', filename, cache });
  for (const options of nodes(rules)) await ask('blockdev-add', options);
  if (steps.some(isCommand)) {
    for (const step of steps) if (isCommand(step)) await ask(...step);
    return answers;
  }
  const disk = { type: 'nbd', id: 'top@', 'node-name': 'top@', name: event, writable: true };
  await ask('block-export-add', disk);
  const peer = await NbdPeer.connect(path.join(directory, 'nbd.sock'));
  try {
    await peer.greet(3);
    peer.sendOption(NBD_OPT_GO, goPayload(event, []));
    const known = (await peer.optionReplies()).at(-1) === 'option 7 reply 0x1';
    for (const step of known ? steps : []) {
      if (!isCommand(step)) answers.push(...(await peer.requests([step])));
    }
  } finally {
    peer.close();
  }
  return answers;
}

function isCommand(step: Step): step is Command {
  return Array.isArray(step);
}

async function makeImage(directory: string, image: Scenario['image']): Promise<void> {
  const file = path.join(directory, image);
  if (image === 'raw') return writeFileSync(file, Buffer.alloc(MIB, 7));
  const create = (...args: string[]) => succeed('qemu-img', 'create', '-q', '-f', 'qcow2', ...args);
  const io = (name: string, command: string) =>
    succeed('qemu-io', '-f', 'qcow2', '-c', command, name);
  if (image === 'small') {
    await create('-o', 'cluster_size=512,refcount_bits=64', file, '8M');
    return;
  }
  const backing = path.join(directory, 'backing');
  await create(backing, '16M');
  await io(backing, 'write -P 5 0 1M');
  await create('-b', backing, '-F', 'qcow2', file, '4G');
  await io(file, 'write -P 6 0 128k');
  await io(file, 'write -P 7 3G 64k');
  if (image === 'shared') await succeed('qemu-img', 'snapshot', '-c', 's', file);
}
