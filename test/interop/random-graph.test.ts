// The same random commands to the reference and to ours: nodes are added, reopened, snapshotted, exported, written to and
// deleted, by names that are often wrong or taken. Answers, the graph and what the exports show must be the same after each.
// GRAPH_SEEDS and FILTER_SEEDS: more seeds, with commas.

import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { QmpClient } from '../../src/client/qmp-client.ts';
import { NbdPeer } from '../conformance/nbd-peer.ts';
import {
  goPayload,
  NBD_CMD_DISC,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_OPT_GO,
} from '../conformance/wire-steps.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { random } from '../helpers/qcow2-disk.ts';
import { findProgram, referenceMissing } from '../helpers/reference.ts';
import { smallQcow2 } from '../helpers/small-qcow2.ts';
import { tempDir } from '../helpers/temp-dir.ts';

const SEEDS = [1, 2, 3, 4];
const COMMANDS = 120;
const SIZE = 2 ** 20;
const BITMAP_CHANGES = ['clear', 'enable', 'disable', 'remove'];
const reference = findProgram('qemu-storage-daemon') ?? '';
/** Where filters and quorums are among the nodes. */
const FILTER_SEEDS = [1, 12, 34, 36];
const scripts = [
  ...[...SEEDS, ...seedsIn('GRAPH_SEEDS')].map((seed) => ({ seed, filters: false })),
  ...[...FILTER_SEEDS, ...seedsIn('FILTER_SEEDS')].map((seed) => ({ seed, filters: true })),
];

type Command = readonly [name: string, args: object];
interface Side {
  readonly qmp: QmpClient;
  readonly directory: string;
}

describe.skipIf(referenceMissing() !== undefined)('random graphs', () => {
  it.each(scripts)('come out as in the reference, seed $seed, filters $filters', async (chosen) => {
    const { seed, filters } = chosen;
    const sides = await Promise.all([side([reference]), side()]);
    const [theirs, ours] = sides;
    const script = new Script(seed, filters);
    for (let index = 0; index < COMMANDS; index++) {
      const [name, args] = script.next();
      const shown = `${index}: ${name} ${JSON.stringify(args)}`;
      const expected = await ask(theirs, name, args);
      // It crashes now and then.
      if (expected === 'The connection was closed') return;
      expect([shown, await ask(ours, name, args)]).toEqual([shown, expected]);
      if (expected === '{}') script.done([name, args]);
      if (name === 'block-export-add' && expected === '{}') {
        const both = await Promise.all(sides.map((each) => traffic(each, seed * 1000 + index)));
        expect([shown, both[1]]).toEqual([shown, both[0]]);
      }
      if (index % 4 !== 3) continue;
      for (const query of ['x-debug-query-block-graph', 'query-block-exports']) {
        expect([shown, await ask(ours, query, {})]).toEqual([shown, await ask(theirs, query, {})]);
      }
      const nodes: Command = ['query-named-block-nodes', { flat: index % 8 === 7 }];
      expect([shown, await ask(ours, ...nodes)]).toEqual([shown, await ask(theirs, ...nodes)]);
    }
  });
});

function seedsIn(variable: string): number[] {
  return (process.env[variable] ?? '').split(',').filter(Boolean).map(Number);
}

async function side(command?: readonly string[]): Promise<Side> {
  const directory = path.join(tempDir(), 'd');
  mkdirSync(directory);
  writeFileSync(path.join(directory, 'i0'), smallQcow2({ size: SIZE, data: [1, 2, 3] }));
  writeFileSync(
    path.join(directory, 'i1'),
    smallQcow2({ size: SIZE, data: [4], backing: { file: 'i0', format: 'qcow2' } }),
  );
  writeFileSync(path.join(directory, 'i2'), smallQcow2({ size: SIZE }));
  writeFileSync(path.join(directory, 'i3'), Buffer.alloc(SIZE, 5));
  const { qmp } = await startDaemon({
    directory,
    args: [
      '--nbd-server',
      'addr.type=unix,addr.path=nbd.sock',
      '--object',
      'throttle-group,id=g,x-iops-total=1000000',
    ],
    ...(command === undefined ? {} : { command }),
  });
  return { qmp, directory };
}

/** The answer as text, with what may differ between the two left out. */
async function ask({ qmp, directory }: Side, name: string, args: object): Promise<string> {
  const text = await qmp.executeAny(name, args).then(
    (answer) => JSON.stringify(sorted(answer)),
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
  const names = new Map<string, string>();
  return (
    text
      .replaceAll(directory, '@')
      .replaceAll(/#block\d+/g, (found) => {
        const known = names.get(found) ?? `#block@${names.size}`;
        names.set(found, known);
        return known;
      })
      .replaceAll(/"(actual-size|date-n?sec|vm-clock-n?sec)":\d+/g, '"$1":0')
      // The reference may take an image that was reopened for one with a data file.
      .replaceAll('"data-file-raw":false,', '')
      // Images grow in other ways.
      .replaceAll(/("format":"file",(?:"[^"]*":[^,]*,)*"virtual-size":)\d+/g, '$10')
  );
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

/** Writes to the export as the seed says, and reads all of it. */
async function traffic({ directory }: Side, seed: number): Promise<readonly string[]> {
  const next = random(seed);
  const peer = await NbdPeer.connect(path.join(directory, 'nbd.sock'));
  try {
    await peer.greet(3);
    peer.sendOption(NBD_OPT_GO, goPayload('disk', []));
    const seen = [(await peer.optionReplies()).at(-1) ?? ''];
    if (seen[0] !== 'option 7 reply 0x1') return seen;
    for (let count = 0; count < 6; count++) {
      const length = 1 + Math.floor(next() ** 2 * 100_000);
      const offset = Math.floor(next() * (SIZE - length));
      const payload = Buffer.alloc(length, 1 + Math.floor(next() * 255));
      const request =
        next() < 0.7
          ? { type: NBD_CMD_WRITE, offset, payload }
          : { type: NBD_CMD_WRITE_ZEROES, offset, length };
      seen.push(...(await peer.requests([request])));
    }
    for (const offset of [0, SIZE / 2]) seen.push(await hashOf(peer, offset, SIZE / 2));
    // One that only hangs up may be there for another command.
    await peer.requests([{ type: NBD_CMD_DISC }]);
    return seen;
  } finally {
    peer.close();
  }
}

async function hashOf(peer: NbdPeer, offset: number, length: number): Promise<string> {
  try {
    return createHash('sha256')
      .update(await peer.read(offset, length))
      .digest('hex');
  } catch {
    return 'error';
  }
}

/** Commands from a seed. Which names are in use is not followed: about half of them fail. */
class Script {
  readonly #next: () => number;
  /** Names that qcow2 images have, or had last. */
  readonly #images = new Set<string>();
  readonly #filters: boolean;
  #made = 0;

  constructor(seed: number, filters: boolean) {
    this.#next = random(seed);
    this.#filters = filters;
  }

  next(): Command {
    if (this.#filters && this.#next() < 0.3) return this.#aboutFilters();
    const kind = this.#next();
    if (kind < 0.3) return ['blockdev-add', this.#options(this.#node())];
    if (kind < 0.4) return ['blockdev-del', { 'node-name': this.#node() }];
    if (kind < 0.5) return ['blockdev-reopen', { options: [this.#options(this.#node(), true)] }];
    if (kind < 0.62) return this.#export();
    if (kind < 0.9) {
      const [type, data] = this.#action();
      return [type, data];
    }
    if (kind < 0.95) {
      const actions = this.#some(1 + Math.floor(this.#next() * 3), () => this.#action());
      return ['transaction', { actions: actions.map(([type, data]) => ({ type, data })) }];
    }
    if (kind < 0.97) {
      return ['block_resize', { 'node-name': this.#node(), size: SIZE + this.#pick([0, 65536]) }];
    }
    return [
      'change-backing-file',
      { device: this.#node(), 'image-node-name': this.#node(), 'backing-file': 'i0' },
    ];
  }

  /** Hears of a command that succeeded. */
  done([name, args]: Command): void {
    const options = args as Readonly<Record<string, string>>;
    if (name === 'transaction') {
      const { actions } = args as { readonly actions: { type: string; data: object }[] };
      for (const { type, data } of actions) this.done([type, data]);
    } else if (name === 'blockdev-add') {
      const { driver, 'node-name': node = '' } = options;
      if (driver === 'qcow2') this.#images.add(node);
      else this.#images.delete(node);
    } else if (name === 'blockdev-snapshot-sync') {
      this.#images.add(options['snapshot-node-name'] ?? '');
    }
  }

  #action(): Command {
    const name = this.#pick(['one', 'two']);
    switch (Math.floor(this.#next() * 6)) {
      case 0:
      case 1:
        return ['blockdev-snapshot', { node: this.#node(), overlay: this.#node() }];
      case 2:
        return [
          'blockdev-snapshot-sync',
          {
            'node-name': this.#node(),
            'snapshot-file': `new${this.#made++}`,
            'snapshot-node-name': this.#node(),
          },
        ];
      case 3:
      case 4:
        return ['blockdev-snapshot-internal-sync', { device: this.#node(), name }];
      default:
        return ['block-dirty-bitmap-add', { node: this.#node(), name }];
    }
  }

  #aboutFilters(): Command {
    const name = this.#pick(['one', 'two']);
    switch (Math.floor(this.#next() * 8)) {
      case 0:
        return [
          'x-blockdev-change',
          {
            parent: this.#node(),
            ...(this.#next() < 0.5
              ? { node: this.#node() }
              : { child: `children.${this.#pick([0, 1, 2])}` }),
          },
        ];
      case 1:
        return [
          'block-set-write-threshold',
          { 'node-name': this.#node(), 'write-threshold': this.#pick([0, 65536]) },
        ];
      case 2:
        return [`block-dirty-bitmap-${this.#pick(BITMAP_CHANGES)}`, { node: this.#node(), name }];
      default:
        return ['blockdev-add', this.#filter(this.#node())];
    }
  }

  #filter(name: string): object {
    const common = { 'node-name': name, ...this.#maybe('read-only', [true, false]) };
    const [driver, options] = this.#pick<() => readonly [string, object]>([
      () => ['quorum', { children: this.#some(2, () => this.#node()), 'vote-threshold': 1 }],
      () => [
        'quorum',
        {
          children: this.#some(3, () => this.#node()),
          'vote-threshold': this.#pick([1, 2]),
          ...this.#maybe('rewrite-corrupted', [true]),
        },
      ],
      () => ['blkdebug', { image: this.#node(), ...this.#maybe('align', [512, 4096, 1000]) }],
      () => ['copy-before-write', { file: this.#node(), target: this.#node() }],
      () => ['copy-on-read', { file: this.#node() }],
      () => ['throttle', { file: this.#node(), 'throttle-group': this.#pick(['g', 'g', 'h']) }],
      () => ['compress', { file: this.#node() }],
      () => ['preallocate', { file: this.#node(), ...this.#maybe('prealloc-size', [65536]) }],
      () => ['snapshot-access', { file: this.#node() }],
    ])();
    return { driver, ...options, ...common };
  }

  #export(): Command {
    if (this.#next() < 0.4)
      return ['block-export-del', { id: this.#pick(['e', 'f']), mode: 'hard' }];
    const id = this.#pick(['e', 'f']);
    const more = { name: id === 'e' ? 'disk' : 'other', writable: this.#next() < 0.8 };
    return ['block-export-add', { type: 'nbd', id, 'node-name': this.#node(), ...more }];
  }

  #options(name: string, again = false): object {
    const common = {
      'node-name': name,
      ...this.#maybe('read-only', [true, false]),
      ...this.#maybe('discard', ['unmap', 'ignore']),
    };
    const driver = this.#pick(['qcow2', 'qcow2', 'qcow2', 'raw', 'file', 'null-co']);
    if (driver === 'null-co') return { driver, size: SIZE, 'read-zeroes': true, ...common };
    // What is in a qcow2 image, and where, is nobody's business.
    if (driver === 'file') return { driver, filename: this.#pick(['i3', 'i3', 'i9']), ...common };
    const images = driver === 'raw' ? ['i3', 'i9'] : ['i0', 'i1', 'i2'];
    // Another file below an image that is open, and be it refused because the driver is another one: the reference loses its
    // way in the image. It forgets its snapshots, and takes a child from somebody else when it is deleted.
    const named = again ? driver === 'raw' && !this.#images.has(name) : this.#next() < 0.4;
    const file = named ? this.#node() : { driver: 'file', filename: this.#pick(images) };
    if (driver === 'raw') return { driver, file, ...common };
    const backing = this.#pick([
      {},
      { backing: null },
      { backing: null },
      { backing: this.#node() },
    ]);
    return { driver, file, ...backing, ...this.#maybe('l2-cache-size', [65536]), ...common };
  }

  #maybe(name: string, values: readonly unknown[]): object {
    return this.#next() < 0.2 ? { [name]: this.#pick(values) } : {};
  }

  #node(): string {
    return this.#pick(['a', 'b', 'c', 'd', 'e']);
  }

  #some<T>(count: number, make: () => T): T[] {
    return Array.from({ length: count }, make);
  }

  #pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.#next() * from.length)] as T;
  }
}
