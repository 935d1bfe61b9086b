// The two who change an image in turn, and a model of its disk with it: our block layer, and qemu-img and qemu-io.

import type { BlockBackend } from '../../../src/block/block-backend.ts';
import {
  MAY_UNMAP,
  PERM_ALL,
  PERM_CONSISTENT_READ,
  PERM_RESIZE,
  PERM_WRITE,
  WRITE_COMPRESSED,
} from '../../../src/block/block-driver.ts';
import { changeBackingFile } from '../../../src/block/change-backing-file.ts';
import { hashDirtyBitmap } from '../../../src/block/dirty-bitmap-commands.ts';
import { bitmapLine } from '../../helpers/qcow2-bitmaps.ts';
import {
  bufferOf,
  dropSnapshot,
  type Opened,
  openDisk,
  takeSnapshot,
} from '../../helpers/qcow2-disk.ts';
import { contents, qemuImg, qemuIo } from '../../helpers/qcow2-images.ts';
import type { ExchangeModel } from './exchange-model.ts';

/** An image that we have open. */
export class OurSide {
  readonly #opened: Opened;
  readonly #backend: BlockBackend;
  readonly #model: ExchangeModel;

  private constructor(opened: Opened, model: ExchangeModel) {
    this.#opened = opened;
    this.#model = model;
    const node = opened.graph.find(undefined, 'image');
    const perm = PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE;
    this.#backend = opened.graph.backend(node, { perm, shared: PERM_ALL });
  }

  static async open(path: string, model: ExchangeModel): Promise<OurSide> {
    // Nobody pulls the plug here.
    return new OurSide(await openDisk(path, { cache: { 'no-flush': true } }), model);
  }

  get graph(): Opened['graph'] {
    return this.#opened.graph;
  }

  async close(): Promise<void> {
    await this.#backend.release();
    await this.#opened.close();
  }

  contents(): Promise<Buffer> {
    return contents(this.#backend);
  }

  /** As bitmapsByReference. */
  bitmaps(): Promise<string[]> {
    const { dirtyBitmaps } = this.graph.find(undefined, 'image');
    const lines = dirtyBitmaps.map(async (one) =>
      bitmapLine(one.info(), await hashDirtyBitmap(this.graph, { node: 'image', name: one.name })),
    );
    return Promise.all(lines);
  }

  async write(offset: number, length: number): Promise<void> {
    const data = bufferOf(Buffer.alloc(length, this.#model.write(offset, length)));
    await this.#backend.write(offset, length, data, 0);
  }

  async zero(offset: number, length: number, flags = 0): Promise<void> {
    this.#model.zero(offset, length);
    await this.#backend.writeZeroes(offset, length, flags);
  }

  async discard(offset: number, length: number): Promise<void> {
    this.#model.zero(offset, length);
    await this.#backend.discard(offset, length);
  }

  async compress(offset: number, length: number): Promise<void> {
    await this.zero(offset, length, MAY_UNMAP);
    const data = bufferOf(Buffer.alloc(length, this.#model.write(offset, length)));
    await this.#backend.write(offset, length, data, 0, WRITE_COMPRESSED);
  }

  async resize(length: number): Promise<void> {
    this.#model.resize(length);
    await this.#backend.truncate(length, { exact: false, prealloc: 'off', flags: 0 });
  }

  async take(snapshot: string): Promise<void> {
    this.#model.keep(snapshot);
    await takeSnapshot(this.#opened, snapshot);
  }

  async drop(snapshot: string): Promise<void> {
    await dropSnapshot(this.#opened, snapshot);
  }

  async changeBacking(file: string): Promise<void> {
    const args = { device: 'image', 'image-node-name': 'image', 'backing-file': file };
    await this.graph.change((access) => changeBackingFile(access, args));
  }
}

/** qemu-img and qemu-io; nobody else has the image open. */
export class QemuSide {
  readonly #path: string;
  readonly #model: ExchangeModel;

  constructor(path: string, model: ExchangeModel) {
    this.#path = path;
    this.#model = model;
  }

  write(offset: number, length: number): void {
    this.#io(`write -P ${this.#model.write(offset, length)} ${offset} ${length}`);
  }

  /** `flags`: of qemu-io's `write -z`. */
  zero(offset: number, length: number, flags = ''): void {
    this.#model.zero(offset, length);
    this.#io(`write -z ${flags} ${offset} ${length}`);
  }

  discard(offset: number, length: number): void {
    this.#model.zero(offset, length);
    this.#io(`discard ${offset} ${length}`);
  }

  compress(offset: number, length: number): void {
    const pattern = this.#model.write(offset, length);
    this.#io(`write -z -u ${offset} ${length}`, `write -c -P ${pattern} ${offset} ${length}`);
  }

  resize(length: number): void {
    const { disk } = this.#model;
    const shrink = length < disk.length ? ['--shrink'] : [];
    this.#model.resize(length);
    qemuImg('resize', '-q', '-f', 'qcow2', ...shrink, this.#path, String(length));
  }

  take(snapshot: string): void {
    this.#model.keep(snapshot);
    qemuImg('snapshot', '-c', snapshot, this.#path);
  }

  apply(snapshot: string): void {
    this.#model.restore(snapshot);
    qemuImg('snapshot', '-a', snapshot, this.#path);
  }

  drop(snapshot: string): void {
    qemuImg('snapshot', '-d', snapshot, this.#path);
  }

  /** `action`: of `qemu-img bitmap`. */
  bitmap(name: string, ...action: readonly string[]): void {
    qemuImg('bitmap', ...action, '-f', 'qcow2', this.#path, name);
  }

  amend(options: string): void {
    qemuImg('amend', '-q', '-t', 'unsafe', '-f', 'qcow2', '-o', options, this.#path);
  }

  /** `unsafe`: only the name changes. */
  rebase(backing: string, { unsafe }: { readonly unsafe: boolean }): void {
    const how = unsafe ? ['-u'] : [];
    const to = ['-F', 'qcow2', '-b', backing];
    qemuImg('rebase', '-q', '-t', 'unsafe', ...how, '-f', 'qcow2', ...to, this.#path);
  }

  commit(): void {
    qemuImg('commit', '-q', '-t', 'unsafe', '-f', 'qcow2', this.#path);
  }

  #io(...commands: readonly string[]): void {
    qemuIo(this.#path, ...commands);
  }
}
