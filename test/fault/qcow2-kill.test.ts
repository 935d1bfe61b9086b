// A writer that is killed at any moment leaves a sound image with everything that was flushed, for the next one to go on with and
// be killed. QCOW2_KILLS: how often for each layout.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import {
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
  ZERO_WRITE,
} from '../../src/block/block-driver.ts';
import { addDirtyBitmap, removeDirtyBitmap } from '../../src/block/dirty-bitmap-commands.ts';
import { startDaemon, type TestDaemon } from '../helpers/daemon.ts';
import { marksOf, plainWords } from '../helpers/marked-words.ts';
import { openDisk, random } from '../helpers/qcow2-disk.ts';
import { type Examined, examine } from '../helpers/qcow2-examine.ts';
import {
  checkImage,
  contentsByQemu,
  createImage,
  noQemuImg,
  qemuImg,
  rawFile,
  scratch,
} from '../helpers/qcow2-images.ts';
import { NbdWriter } from './qcow2-nbd-writer.ts';
import { carryOut, type Kind, operations, type Plan } from './qcow2-operations.ts';
import { type Survivor, survivorOf, wrongIn } from './qcow2-survivor.ts';

const KILLS = Number(process.env['QCOW2_KILLS'] ?? 19);
const SIZE = 2 * 2 ** 20;
/** Every so many kills qemu-img has a look, too. */
const QEMU_EVERY = 5;
const MOST_FLUSHES = 5;
const MOST_MILLISECONDS = 12;
const root = fileURLToPath(new URL('../..', import.meta.url));

interface Layout {
  readonly options: string;
  readonly without?: readonly Kind[];
  readonly hasBacking?: boolean;
  readonly hasDataFile?: boolean;
  /** Full of compressed clusters that a snapshot has, too; all of them zeroes to the test. */
  readonly isCompressed?: boolean;
}

const noSnapshots = ['compressed', 'take', 'drop'] as const;
const layouts: readonly Layout[] = [
  { options: 'cluster_size=65536' },
  { options: 'cluster_size=512,refcount_bits=64' },
  { options: 'compat=0.10,cluster_size=4096', without: ['shrink'] },
  { options: 'extended_l2=on,cluster_size=16384', hasBacking: true },
  { options: 'cluster_size=4096,refcount_bits=2' },
  { options: 'cluster_size=16384,compression_type=zstd', isCompressed: true },
  { options: 'lazy_refcounts=on,cluster_size=4096' },
  { options: 'cluster_size=4096', hasDataFile: true, without: noSnapshots },
];
const served: readonly Layout[] = [
  { options: 'cluster_size=65536', hasBacking: true },
  { options: 'cluster_size=512', isCompressed: true },
  { options: 'extended_l2=on,lazy_refcounts=on,cluster_size=16384' },
];

describe.skipIf(noQemuImg !== undefined)('SIGKILL of a writer to qcow2', () => {
  const directory = mkdtempSync(join(tmpdir(), 'qcow2-writer-'));
  const bundle = join(directory, 'writer.cjs');
  beforeAll(() => bundleWriter(bundle));
  afterAll(() => rmSync(directory, { recursive: true }));

  it.each(layouts.map((layout, seed) => ({ ...layout, seed })))(
    'leaves a sound image, time after time, with $options',
    async ({ seed, ...layout }) => {
      const image = new Image(seed, layout);
      let ready = WriterProcess.start(bundle);
      for (let life = 1; life <= KILLS; life++) {
        const writer = await ready;
        // The next one gets ready meanwhile.
        ready = WriterProcess.start(bundle);
        const plan = image.plan(life);
        await image.examined(plan, await writer.killedDuring(plan));
      }
      (await ready).end();
    },
    240_000,
  );

  it.each(served.map((layout, index) => ({ ...layout, seed: 100 + index })))(
    'that is the daemon leaves a sound image, time after time, with $options',
    async ({ seed, ...layout }) => {
      const image = new Image(seed, { ...layout, without: ['compressed', 'shrink'] });
      const start = (): Promise<TestDaemon> =>
        startDaemon({ args: ['--nbd-server', 'addr.type=unix,addr.path=nbd.sock'] });
      let ready = start();
      for (let life = 1; life <= KILLS; life++) {
        const daemon = await ready;
        ready = start();
        const plan = image.plan(life);
        await image.examined(plan, await daemonKilledDuring(daemon, plan));
      }
      await ready;
    },
    240_000,
  );
});

/** When a writer is killed: so long after so many flushes. */
function momentOf({ seed, life }: Plan): { readonly flushes: number; readonly wait: number } {
  const next = random(seed * 7919 + life);
  return { flushes: Math.floor(next() * MOST_FLUSHES), wait: next() * MOST_MILLISECONDS };
}

/** The writer as one file, which starts much faster than its sources do. */
async function bundleWriter(outfile: string): Promise<void> {
  await build({
    entryPoints: [`${root}test/fault/qcow2-writer.ts`],
    outfile,
    bundle: true,
    platform: 'node',
    external: ['koffi', 'pino'],
    logLevel: 'error',
  });
}

class WriterProcess {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(bundle: string) {
    const child = spawn(process.execPath, [bundle], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, NODE_PATH: `${root}node_modules`, NODE_EXTRA_CA_CERTS: '' },
    });
    onTestFinished(() => {
      child.kill('SIGKILL');
    });
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** One that waits for its plan. */
  static async start(bundle: string): Promise<WriterProcess> {
    const writer = new WriterProcess(bundle);
    expect(await writer.#lines.next()).toMatchObject({ value: 'ready' });
    return writer;
  }

  /** Answers the index of the last flush that was over, or -1. */
  async killedDuring(plan: Plan): Promise<number> {
    const { flushes, wait } = momentOf(plan);
    const child = this.#child;
    const ended = once(child, 'exit');
    const kill = (): void => {
      setTimeout(() => child.kill('SIGKILL'), wait);
    };
    let flushed = -1;
    let seen = 0;
    child.stdin?.write(`${JSON.stringify(plan)}\n`);
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done === true) break;
      if (value === 'opened' && flushes === 0) kill();
      if (value === 'opened') continue;
      flushed = Number(value.split(' ')[1]);
      if (++seen === flushes) kill();
    }
    // A writer that could not go on would prove nothing.
    expect(await ended).toEqual([null, 'SIGKILL']);
    return flushed;
  }

  end(): void {
    this.#child.stdin?.end();
  }
}

/** As WriterProcess.killedDuring(). */
async function daemonKilledDuring(daemon: TestDaemon, plan: Plan): Promise<number> {
  const { flushes, wait } = momentOf(plan);
  const { qmp, child } = daemon;
  await qmp.execute('blockdev-add', {
    driver: 'qcow2',
    'node-name': 'n',
    discard: 'unmap',
    file: { driver: 'file', filename: plan.path, discard: 'unmap' },
  });
  await qmp.execute('block-export-add', {
    type: 'nbd',
    id: 'e',
    'node-name': 'n',
    writable: true,
  });
  const target = await NbdWriter.connect(qmp, daemon.path('nbd.sock'));
  let isKilled = false;
  const kill = (): void => {
    setTimeout(() => {
      isKilled = true;
      child.kill('SIGKILL');
    }, wait);
  };
  let flushed = -1;
  let seen = 0;
  if (flushes === 0) kill();
  await carryOut(operations(plan), target, (index) => {
    flushed = index;
    if (++seen === flushes) kill();
  }).catch((error: unknown) => {
    if (!isKilled) throw error;
  });
  target.close();
  expect(await daemon.outcome).toMatchObject({ signal: 'SIGKILL' });
  return flushed;
}

/** An image that writer after writer is killed over. */
class Image {
  readonly #path: string;
  readonly #dataPath: string | undefined;
  readonly #seed: number;
  readonly #without: readonly Kind[];
  readonly #hasBitmaps: boolean;
  readonly #backing: Buffer | undefined;
  #before: Survivor;

  constructor(seed: number, layout: Layout) {
    const dir = scratch();
    const path = `${dir}/image`;
    this.#path = path;
    this.#seed = seed;
    this.#without = layout.without ?? [];
    this.#hasBitmaps = !layout.options.includes('compat=0.10');
    this.#dataPath = layout.hasDataFile === true ? `${dir}/data` : undefined;
    this.#backing = layout.hasBacking === true ? plainWords(SIZE, 0x40000000) : undefined;
    const options = [layout.options];
    if (this.#dataPath !== undefined) options.push(`data_file=${this.#dataPath}`);
    if (this.#backing !== undefined) {
      options.push(`backing_file=${rawFile(`${dir}/base`, this.#backing)},backing_fmt=raw`);
    }
    const o = options.join(',');
    if (layout.isCompressed === true) {
      const raw = rawFile(`${dir}/raw`, plainWords(SIZE, 0));
      qemuImg('convert', '-c', '-S', '0', '-O', 'qcow2', '-o', o, raw, path);
      qemuImg('snapshot', '-c', 'before', path);
    } else {
      createImage({ path, size: SIZE, options: o });
    }
    if (this.#hasBitmaps) qemuImg('bitmap', '--add', path, 'bits');
    this.#before = survivorOf(this.#examine());
  }

  plan(life: number): Plan {
    const snapshots = [...this.#before.snapshots.keys()];
    const [seed, path, without] = [this.#seed, this.#path, this.#without];
    return { path, seed, size: SIZE, life, snapshots, without };
  }

  /** The image is sound, and has what it must have; makes it what the next writer begins with. */
  async examined(plan: Plan, flushed: number): Promise<void> {
    const where = `life ${plan.life}, after flush ${flushed}`;
    const found = this.#examine();
    const backing = marksOf(this.#backing ?? Buffer.alloc(0));
    const survivor = survivorOf(found);
    const killed = { before: this.#before, all: operations(plan), flushed, backing };
    expect([where, ...found.faults.slice(0, 5)]).toEqual([where]);
    expect([where, ...firstOf(wrongIn(survivor, killed), 5)]).toEqual([where]);
    // Who finds it knows that it is out of date.
    expect([...found.bitmaps]).toEqual(this.#hasBitmaps ? [['bits', true]] : []);
    if (plan.life % QEMU_EVERY === 0) this.#expectSameByQemu(found);
    await this.#mend();
    const mended = this.#examine();
    expect([where, ...mended.faults.slice(0, 5)]).toEqual([where]);
    expect([...mended.bitmaps]).toEqual(this.#hasBitmaps ? [['bits', false]] : []);
    this.#before = survivorOf(mended);
  }

  #examine(): Examined {
    const data = this.#dataPath === undefined ? undefined : readFileSync(this.#dataPath);
    return examine(readFileSync(this.#path), { backing: this.#backing, data });
  }

  /** Late refcounts are repaired by who opens it; its disk has its length again, and a bitmap that can be used. */
  async #mend(): Promise<void> {
    const opened = await openDisk(this.#path);
    const { graph } = opened;
    const node = graph.find(undefined, 'image');
    const backend = graph.backend(node, {
      perm: PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE,
      shared: PERM_ALL,
    });
    if (this.#hasBitmaps) await removeDirtyBitmap(graph, { node: 'image', name: 'bits' });
    if (backend.length < SIZE) {
      await backend.truncate(SIZE, { exact: true, prealloc: 'off', flags: ZERO_WRITE });
    }
    if (this.#hasBitmaps) {
      addDirtyBitmap(graph, { node: 'image', name: 'bits', persistent: true });
    }
    await backend.release();
    await opened.close();
  }

  #expectSameByQemu({ disk }: Examined): void {
    const isDirty = qemuImg('info', '--output=json', this.#path).includes('"dirty-flag": true');
    if (!isDirty) {
      const check = checkImage(this.#path);
      expect([0, 3], check.text).toContain(check.status);
    }
    expect(contentsByQemu(this.#path).equals(disk)).toBe(true);
  }
}

function firstOf(texts: Iterable<string>, most: number): string[] {
  const first: string[] = [];
  for (const text of texts) {
    if (first.push(text) >= most) break;
  }
  return first;
}
