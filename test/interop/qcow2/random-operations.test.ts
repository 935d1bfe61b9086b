// The same random load and commands to the reference and to ours, over copies of an image: what they read, which areas hold data,
// and what they tell of it must be the same all the time. OPERATION_SEEDS: more seeds, with commas.

import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { QmpClient } from '../../../src/client/qmp-client.ts';
import type { Request } from '../../conformance/case.ts';
import { NbdPeer } from '../../conformance/nbd-peer.ts';
import {
  DF,
  goPayload,
  metaPayload,
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_OPT_GO,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STRUCTURED_REPLY,
  NO_HOLE,
} from '../../conformance/wire-steps.ts';
import { startDaemon } from '../../helpers/daemon.ts';
import { random, someContent } from '../../helpers/qcow2-disk.ts';
import { rawFile, scratch } from '../../helpers/qcow2-images.ts';
import { findProgram, missing, referenceMissing } from '../../helpers/reference.ts';

const SIZE = 2 ** 20 + 65536;
const STEPS = 45;
const reference = findProgram('qemu-storage-daemon') ?? '';
const seeds = [1, ...(process.env['OPERATION_SEEDS'] ?? '').split(',').filter(Boolean).map(Number)];
const reason = referenceMissing() ?? missing('qemu-img');

type Command = readonly [name: string, args: object];

interface Layout {
  readonly options: string;
  readonly backing?: boolean;
  readonly compressed?: boolean;
  /**
   * What becomes of the disk's length. The reference dies of an assertion when a disk becomes shorter, and it discards in an
   * external data file that nobody else writes to at the time; and when one with a raw data file becomes longer.
   */
  readonly length?: 'grows' | 'stays';
}

const layouts: readonly Layout[] = [
  { options: 'cluster_size=65536' },
  { options: 'cluster_size=512' },
  { options: 'cluster_size=4096', backing: true },
  { options: 'compat=0.10,cluster_size=4096', backing: true },
  { options: 'compat=0.10' },
  { options: 'extended_l2=on,cluster_size=16384', backing: true },
  { options: 'cluster_size=4096,data_file=data', length: 'grows' },
  { options: 'cluster_size=4096,data_file=data,data_file_raw=on', length: 'stays' },
  { options: 'cluster_size=4096', compressed: true },
];

describe.skipIf(reason !== undefined)('random operations on a qcow2 image', () => {
  it.each(layouts.flatMap((layout, index) => seeds.map((seed) => ({ ...layout, seed, index }))))(
    'do what they do in the reference: $options, seed $seed',
    async ({ seed, index, ...layout }) => {
      const made = imageDirectory(layout);
      const [theirs, ours] = await Promise.all([
        Side.start(copied(made), [reference]),
        Side.start(copied(made)),
      ]);
      const script = new Script(seed * 100 + index, layout);
      for (let step = 0; step < STEPS; step++) {
        for (const operation of script.next()) {
          const shown = `${step}: ${describeOperation(operation)}`;
          const [expected, found] = await Promise.all([theirs.run(operation), ours.run(operation)]);
          expect([shown, ...found]).toEqual([shown, ...expected]);
        }
      }
      await Promise.all([theirs.quit(), ours.quit()]);
      const left = ours.leftBehind();
      expect(left.equals(theirs.leftBehind())).toBe(true);
      if (layout.options.includes('data_file_raw')) expect(left.equals(ours.dataFile())).toBe(true);
    },
  );
});

function imageDirectory({ options, backing, compressed }: Layout): string {
  const cwd = scratch();
  const img = (...args: string[]): void => {
    execFileSync('qemu-img', args, { cwd, stdio: 'ignore' });
  };
  if (compressed === true) {
    rawFile(`${cwd}/raw`, someContent(1, SIZE));
    img('convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', options, 'raw', 'image');
    return cwd;
  }
  if (backing === true) rawFile(`${cwd}/base`, someContent(2, SIZE - 100_352));
  const over = backing === true ? ['-b', 'base', '-F', 'raw'] : [];
  img('create', '-f', 'qcow2', '-o', options, ...over, 'image', String(SIZE));
  return cwd;
}

/** Both daemons see the same paths but for one directory in them. */
function copied(from: string): string {
  const directory = path.join(scratch(), 'd');
  mkdirSync(directory);
  for (const name of readdirSync(from)) copyFileSync(`${from}/${name}`, `${directory}/${name}`);
  return directory;
}

type Operation =
  | { readonly commands: readonly Command[] }
  | { readonly requests: Request[] }
  | 'look';

function describeOperation(operation: Operation): string {
  if (operation === 'look') return operation;
  if ('commands' in operation) return JSON.stringify(operation.commands);
  return JSON.stringify(
    operation.requests.map(({ type, offset, length, flags, payload }) => [
      type,
      offset,
      length ?? payload?.length,
      flags,
    ]),
  );
}

class Side {
  readonly #qmp: QmpClient;
  readonly #directory: string;
  #peer: NbdPeer | undefined = undefined;
  #size = 0;

  private constructor(qmp: QmpClient, directory: string) {
    this.#qmp = qmp;
    this.#directory = directory;
  }

  static async start(directory: string, command?: readonly string[]): Promise<Side> {
    const { qmp } = await startDaemon({
      directory,
      args: ['--nbd-server', 'addr.type=unix,addr.path=nbd.sock'],
      ...(command === undefined ? {} : { command }),
    });
    const side = new Side(qmp, directory);
    await side.#ask(['blockdev-add', nodeOptions({})]);
    await side.#connect();
    return side;
  }

  async run(operation: Operation): Promise<readonly string[]> {
    if (operation === 'look') return this.#look();
    if ('requests' in operation) {
      const inside = operation.requests.map((one) => fitting(one, this.#size));
      const answers: string[] = [];
      // One after the other: where clusters land does not depend on chance then.
      for (const one of inside) answers.push(...((await this.#peer?.requests([one])) ?? []));
      return answers;
    }
    await this.#disconnect();
    const answers: string[] = [];
    for (const command of operation.commands) answers.push(await this.#ask(command));
    await this.#connect();
    return answers;
  }

  async quit(): Promise<void> {
    await this.#disconnect();
    await this.#ask(['blockdev-del', { 'node-name': 'n' }]);
  }

  /** The disk as qemu-img sees it, in an image that it finds sound. */
  leftBehind(): Buffer {
    const cwd = this.#directory;
    execFileSync('qemu-img', ['check', '-q', '-f', 'qcow2', 'image'], { cwd });
    execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', 'image', 'contents'], { cwd });
    return readFileSync(`${cwd}/contents`);
  }

  dataFile(): Buffer {
    return readFileSync(`${this.#directory}/data`);
  }

  /** Contents, what is data, and what is told of the nodes. */
  async #look(): Promise<readonly string[]> {
    const peer = this.#peer;
    if (peer === undefined) return ['no peer'];
    const length = this.#size;
    const contents = await peer.requests([{ type: NBD_CMD_READ, offset: 0, length, flags: DF }]);
    const extents = await peer.requests([{ type: NBD_CMD_BLOCK_STATUS, offset: 0, length }]);
    return [...contents, ...extents, await this.#ask(['query-named-block-nodes', {}])];
  }

  async #connect(): Promise<void> {
    const added = { type: 'nbd', id: 'e', 'node-name': 'n', name: 'x', writable: true };
    expect(await this.#ask(['block-export-add', added])).toBe('{}');
    const peer = await NbdPeer.connect(`${this.#directory}/nbd.sock`);
    await peer.greet(3);
    peer.sendOption(NBD_OPT_STRUCTURED_REPLY, new Uint8Array());
    await peer.optionReplies();
    peer.sendOption(NBD_OPT_SET_META_CONTEXT, metaPayload('x', ['base:allocation']));
    await peer.optionReplies();
    peer.sendOption(NBD_OPT_GO, goPayload('x', []));
    expect((await peer.optionReplies()).at(-1)).toBe('option 7 reply 0x1');
    this.#peer = peer;
    const nodes = await this.#qmp.execute('query-named-block-nodes', {});
    this.#size = nodes.find((one) => one['node-name'] === 'n')?.image['virtual-size'] ?? 0;
  }

  async #disconnect(): Promise<void> {
    this.#peer?.close();
    this.#peer = undefined;
    const gone = eventNamed(this.#qmp, 'BLOCK_EXPORT_DELETED');
    await this.#ask(['block-export-del', { id: 'e', mode: 'hard' }]);
    await gone;
  }

  /** The answer as text, with what may differ between the two left out. */
  async #ask([name, args]: Command): Promise<string> {
    const text = await this.#qmp.executeAny(name, args).then(
      (answer) => JSON.stringify(sorted(answer)),
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
    return (
      text
        .replaceAll(this.#directory, '@')
        .replaceAll(/#block\d+/g, '#block')
        .replaceAll(/"(actual-size|date-n?sec|vm-clock-n?sec)":\d+/g, '"$1":0')
        // Images with internal snapshots grow in other ways.
        .replaceAll(/("format":"file",(?:"[^"]*":[^,]*,)*"virtual-size":)\d+/g, '$10')
    );
  }
}

function eventNamed(qmp: QmpClient, name: string): Promise<void> {
  return new Promise((resolve) => {
    const stop = qmp.onEvent(({ event }) => {
      if (event !== name) return;
      stop();
      resolve();
    });
  });
}

function nodeOptions(more: object): object {
  const file = { driver: 'file', filename: 'image', 'node-name': 'f', discard: 'unmap' };
  return { driver: 'qcow2', 'node-name': 'n', discard: 'unmap', file, ...more };
}

/** The part of a request that a disk of that size has. */
function fitting(request: Request, size: number): Request {
  const length = request.length ?? request.payload?.length ?? 0;
  const offset = Math.min(Number(request.offset ?? 0), Math.max(0, size - length));
  if (length <= size) return { ...request, offset };
  return { type: NBD_CMD_FLUSH };
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, member]) => [name, sorted(member)]),
  );
}

/** Operations from a seed. Which snapshots and bitmaps there are is not followed: some commands fail. */
class Script {
  readonly #next: () => number;
  readonly #length: Layout['length'];
  #steps = 0;
  #longest = SIZE;

  constructor(seed: number, { length }: Layout) {
    this.#next = random(seed);
    this.#length = length;
  }

  next(): readonly Operation[] {
    const look: readonly Operation[] = ++this.#steps % 3 === 0 ? ['look'] : [];
    if (this.#next() < 0.6) {
      const count = 1 + Math.floor(this.#next() * 6);
      return [{ requests: Array.from({ length: count }, () => this.#request()) }, ...look];
    }
    return [{ commands: this.#commands() }, ...look];
  }

  #request(): Request {
    const unit = this.#pick([1, 512, 4096, 65536]);
    const length = Math.min(200_000, unit * (1 + Math.floor(this.#next() ** 2 * 40)));
    const offset = Math.floor((this.#next() * SIZE) / unit) * unit;
    const kind = this.#next();
    if (kind < 0.5) {
      return {
        type: NBD_CMD_WRITE,
        offset,
        payload: Buffer.alloc(length, 1 + Math.floor(this.#next() * 255)),
      };
    }
    if (kind < 0.65) return { type: NBD_CMD_WRITE_ZEROES, offset, length };
    if (kind < 0.72) return { type: NBD_CMD_WRITE_ZEROES, offset, length, flags: NO_HOLE };
    if (kind < 0.88) return { type: NBD_CMD_TRIM, offset, length };
    if (kind < 0.94) return { type: NBD_CMD_READ, offset, length, flags: DF };
    return { type: NBD_CMD_FLUSH };
  }

  #commands(): readonly Command[] {
    const node = { node: 'n', name: this.#pick(['p', 'q']) };
    const name = this.#pick(['one', 'two']);
    const again = nodeOptions({
      ...this.#pick([{}, { 'l2-cache-size': 65536 }, { 'pass-discard-other': true }]),
    });
    const rows: readonly (readonly Command[])[] = [
      [['block_resize', { 'node-name': 'n', size: this.#size() }]],
      [['blockdev-snapshot-internal-sync', { device: 'n', name }]],
      [['blockdev-snapshot-delete-internal-sync', { device: 'n', name }]],
      [['block-dirty-bitmap-add', { ...node, persistent: this.#next() < 0.7 }]],
      [['block-dirty-bitmap-add', { ...node, granularity: 4096 }]],
      [['block-dirty-bitmap-remove', node]],
      [['block-dirty-bitmap-clear', node]],
      [[this.#pick(['block-dirty-bitmap-disable', 'block-dirty-bitmap-enable']), node]],
      [['block-dirty-bitmap-merge', { node: 'n', target: 'p', bitmaps: ['q'] }]],
      [['blockdev-reopen', { options: [again] }]],
      [
        ['blockdev-del', { 'node-name': 'n' }],
        ['blockdev-add', nodeOptions({})],
      ],
    ];
    return this.#pick(rows);
  }

  #size(): number {
    const sectors = Math.ceil(this.#next() * 2 * (SIZE / 512));
    const size = this.#next() < 0.5 ? Math.ceil(sectors / 128) * 65536 : sectors * 512;
    if (this.#length === undefined) return size;
    if (this.#length === 'stays') return SIZE;
    this.#longest = Math.max(this.#longest, size);
    return this.#longest;
  }

  #pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.#next() * from.length)] as T;
  }
}
