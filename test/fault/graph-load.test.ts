// Changes to the graph under clients that write: snapshots as overlays and inside images, other backing files, new options, other
// nodes coming and going. No write is lost, none reaches a node that is a backing file, and each snapshot is one moment.

import { copyFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { NbdPeer } from '../conformance/nbd-peer.ts';
import {
  goPayload,
  NBD_CMD_FLUSH,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_OPT_GO,
} from '../conformance/wire-steps.ts';
import { startDaemon, type TestDaemon } from '../helpers/daemon.ts';
import { random } from '../helpers/qcow2-disk.ts';
import {
  checkImage,
  contentsByQemu,
  createImage,
  noQemuImg,
  qemuImg,
} from '../helpers/qcow2-images.ts';

const CLIENTS = 4;
const RANGE = 256 * 1024;
const SIZE = CLIENTS * RANGE;
const ROUNDS = 5;

interface Write {
  readonly offset: number;
  readonly length: number;
  readonly value: number;
}

/** Writes to a range of its own, one request at a time, and reads back now and then. */
class Writer {
  readonly start: number;
  readonly #next: () => number;
  readonly #peer: NbdPeer;
  readonly #writes: Write[] = [];
  readonly #model = Buffer.alloc(RANGE);
  readonly #goals: { readonly count: number; readonly resolve: () => void }[] = [];
  #stop = false;
  /** How many are done; one more may be on its way. */
  done = 0;

  constructor(peer: NbdPeer, index: number) {
    this.#peer = peer;
    this.start = index * RANGE;
    this.#next = random(index + 1);
  }

  static async connect(socket: string, index: number): Promise<Writer> {
    const peer = await NbdPeer.connect(socket);
    await peer.greet(3);
    peer.sendOption(NBD_OPT_GO, goPayload('disk', []));
    expect((await peer.optionReplies()).at(-1)).toBe('option 7 reply 0x1');
    return new Writer(peer, index);
  }

  async run(): Promise<void> {
    while (!this.#stop) {
      const length = 1 + Math.floor(this.#next() ** 3 * 60_000);
      const offset = Math.floor(this.#next() * (RANGE - length));
      const value = this.#next() < 0.2 ? 0 : 1 + (this.#writes.length % 255);
      await this.#write({ offset, length, value });
      if (this.#writes.length % 7 === 0) await this.#check(offset, Math.min(RANGE - offset, 9000));
      if (this.#writes.length % 50 === 0) await this.#expectSuccess({ type: NBD_CMD_FLUSH });
    }
    await this.#check(0, RANGE);
    this.#peer.close();
  }

  /** Resolves when so many are done. */
  reached(count: number): Promise<void> {
    if (this.done >= count) return Promise.resolve();
    return new Promise((resolve) => this.#goals.push({ count, resolve }));
  }

  end(): void {
    this.#stop = true;
  }

  /** The range after so many writes. */
  after(count: number): Buffer {
    const range = Buffer.alloc(RANGE);
    for (const { offset, length, value } of this.#writes.slice(0, count)) {
      range.fill(value, offset, offset + length);
    }
    return range;
  }

  async #write(write: Write): Promise<void> {
    const { length, value } = write;
    const offset = this.start + write.offset;
    this.#writes.push(write);
    await this.#expectSuccess(
      value === 0
        ? { type: NBD_CMD_WRITE_ZEROES, offset, length }
        : { type: NBD_CMD_WRITE, offset, payload: Buffer.alloc(length, value) },
    );
    this.#model.fill(value, write.offset, write.offset + length);
    this.done++;
    for (const { count, resolve } of this.#goals) if (this.done >= count) resolve();
  }

  async #check(offset: number, length: number): Promise<void> {
    const bytes = await this.#peer.read(this.start + offset, length);
    expect(bytes.equals(this.#model.subarray(offset, offset + length))).toBe(true);
  }

  async #expectSuccess(request: Parameters<NbdPeer['requests']>[0][number]): Promise<void> {
    expect(await this.#peer.requests([request])).toEqual(['simple error 0']);
  }
}

/** What a command's snapshot may hold: each range after as many writes as were done when it was taken, or one more. */
interface Moment {
  readonly path: string;
  readonly snapshot?: string;
  readonly between: readonly (readonly [from: number, to: number])[];
}

describe.skipIf(noQemuImg !== undefined)('the graph under load', () => {
  it('changes without losing a write', async () => {
    const daemon = await startDaemon();
    const { qmp } = daemon;
    await addImage(daemon, 'image0');
    await qmp.execute('nbd-server-start', {
      addr: { type: 'unix', data: { path: daemon.path('nbd.sock') } },
    });
    await qmp.execute('block-export-add', {
      type: 'nbd',
      id: 'e',
      'node-name': 'image0',
      name: 'disk',
      writable: true,
    });
    const writers: Writer[] = [];
    for (let index = 0; index < CLIENTS; index++) {
      writers.push(await Writer.connect(daemon.path('nbd.sock'), index));
    }
    const running = writers.map((writer) => writer.run());
    const moments: Moment[] = [];
    const moment = async (what: Omit<Moment, 'between'>, work: () => Promise<unknown>) => {
      const before = writers.map(({ done }) => done);
      await work();
      moments.push({
        ...what,
        between: writers.map(({ done }, at) => [before[at] ?? 0, done + 1]),
      });
    };
    for (let round = 1; round <= ROUNDS; round++) {
      const top = `image${round}`;
      const below = `image${round - 1}`;
      await addImage(daemon, top);
      const path = daemon.path(below);
      await moment({ path, snapshot: 'inside' }, () =>
        qmp.execute('blockdev-snapshot-internal-sync', { device: below, name: 'inside' }),
      );
      await moment({ path }, () => qmp.execute('blockdev-snapshot', { node: below, overlay: top }));
      await changeEverything(daemon, round);
      // Some more writes are done, however slow the machine is; or one has failed.
      await Promise.race([
        Promise.all(writers.map((writer) => writer.reached(writer.done + 20))),
        Promise.all(running),
      ]);
    }
    for (const writer of writers) writer.end();
    await Promise.all(running);
    await qmp.execute('quit');
    await daemon.outcome;
    for (const each of moments) checkMoment(each, writers);
    for (let round = 0; round <= ROUNDS; round++) {
      expect(checkImage(daemon.path(`image${round}`))).toMatchObject({ status: 0 });
    }
    const last = contentsByQemu(daemon.path(`image${ROUNDS}`));
    for (const writer of writers) {
      expect(
        last.subarray(writer.start, writer.start + RANGE).equals(writer.after(writer.done)),
      ).toBe(true);
    }
  }, 120_000);
});

async function addImage(daemon: TestDaemon, name: string): Promise<void> {
  createImage({ path: daemon.path(name), size: SIZE, options: 'cluster_size=4096' });
  await daemon.qmp.execute('blockdev-add', options(daemon, name, null));
}

function options(
  daemon: TestDaemon,
  name: string,
  backing: string | null,
): {
  driver: 'qcow2';
  'node-name': string;
  backing: string | null;
  file: { driver: 'file'; 'node-name': string; filename: string };
} {
  return {
    driver: 'qcow2',
    'node-name': name,
    backing,
    file: { driver: 'file', 'node-name': `${name}.file`, filename: daemon.path(name) },
  };
}

/** All else that can be done to a chain in use; what the disk shows stays the same. */
async function changeEverything(daemon: TestDaemon, round: number): Promise<void> {
  const { qmp } = daemon;
  const top = `image${round}`;
  const below = `image${round - 1}`;
  await qmp.execute('change-backing-file', {
    device: top,
    'image-node-name': top,
    'backing-file': daemon.path(below),
  });
  await qmp.execute('blockdev-add', {
    driver: 'raw',
    'node-name': `raw${round}`,
    'read-only': true,
    file: below,
  });
  const reopened = (backing: string, cache: number) => ({
    ...options(daemon, top, backing),
    file: `${top}.file`,
    'l2-cache-size': cache,
  });
  await qmp.execute('blockdev-reopen', { options: [reopened(`raw${round}`, 65536)] });
  await qmp.execute('transaction', {
    actions: [
      { type: 'block-dirty-bitmap-add', data: { node: top, name: 'writes' } },
      { type: 'blockdev-snapshot-internal-sync', data: { device: top, name: 'short' } },
    ],
  });
  await qmp.execute('block-set-write-threshold', { 'node-name': top, 'write-threshold': SIZE - 1 });
  await qmp.execute('blockdev-reopen', { options: [reopened(below, 131072)] });
  await qmp.execute('blockdev-del', { 'node-name': `raw${round}` });
  await qmp.execute('blockdev-snapshot-delete-internal-sync', { device: top, name: 'short' });
}

function checkMoment({ path, snapshot, between }: Moment, writers: readonly Writer[]): void {
  // Its own content and that of the images below it.
  let disk: Buffer;
  if (snapshot === undefined) disk = contentsByQemu(path);
  else {
    copyFileSync(path, `${path}.then`);
    qemuImg('snapshot', '-a', snapshot, `${path}.then`);
    disk = contentsByQemu(`${path}.then`);
  }
  for (const [at, writer] of writers.entries()) {
    const range = disk.subarray(writer.start, writer.start + RANGE);
    const [from, to] = between[at] ?? [0, 0];
    const possible = Array.from({ length: to - from + 1 }, (_, more) => from + more);
    expect(possible.some((count) => range.equals(writer.after(count)))).toBe(true);
  }
}
