// A node as a virtio block device for one guest, over a unix socket: what block-export-add does, and the life of the export.

import { QmpError } from '../../qapi/errors.ts';
import type { XBlockExportRemoveMode } from '../../qapi/generated/types.ts';
import { allocate } from '../../sys/memory.ts';
import type { BlockExport } from '../block-export.ts';
import type { Ending } from '../closing-order.ts';
import type { ExportDriver, RunningExport } from '../export-driver.ts';
import { VirtioBlkDevice } from '../virtio-blk/device.ts';
import { VhostUserServer, type VhostUserServerOptions } from './server.ts';

const DEFAULT_BLOCK_SIZE = 512;
const MIN_BLOCK_SIZE = 512;
const MAX_BLOCK_SIZE = 2 * 1024 * 1024;
const DEFAULT_QUEUES = 1;

/** What a driver reads as the disk's id; the reference's. */
const SERIAL = 'vhost_user_blk';

class VhostUserBlkExport implements RunningExport {
  readonly #common: BlockExport;
  readonly #device: VirtioBlkDevice;
  readonly #server: VhostUserServer;
  /** The frontend, or what it has asked for, keeps the export alive after its removal. */
  #kept = false;

  constructor(
    common: BlockExport,
    device: VirtioBlkDevice,
    server: Omit<VhostUserServerOptions, 'device' | 'name' | 'onFrontend'>,
  ) {
    this.#common = common;
    this.#device = device;
    this.#server = new VhostUserServer({
      ...server,
      device,
      name: `vhost-user-blk export '${common.id}'`,
      onFrontend: (connected) => this.#frontendChanged(connected),
    });
    common.backend.onResize = () => this.#server.announceConfig();
  }

  retire(mode: XBlockExportRemoveMode): void {
    this.#server.stopListening();
    if (mode === 'soft') this.#device.refusing = true;
    this.#keepForFrontend();
  }

  requestShutdown(): void {
    void this.#server.close();
    this.#keepForFrontend();
  }

  ending(): Ending {
    return { kind: this.#server.hasFrontend ? 'frontend' : 'at-once' };
  }

  async delete(): Promise<void> {
    this.#common.backend.onResize = () => {};
    await this.#server.close();
  }

  #keepForFrontend(): void {
    if (!this.#server.hasFrontend || this.#kept) return;
    this.#kept = true;
    this.#common.ref();
  }

  #frontendChanged(connected: boolean): void {
    if (connected || !this.#kept) return;
    this.#kept = false;
    this.#common.unref();
  }
}

export const vhostUserBlk: ExportDriver<'vhost-user-blk'> = {
  create(common, options, context) {
    const blockSize = options['logical-block-size'] ?? 0;
    checkBlockSize(common.id, blockSize);
    const queues = options['num-queues'] ?? DEFAULT_QUEUES;
    if (queues === 0) throw new QmpError('num-queues must be greater than 0');
    const { addr } = options;
    if (addr.type !== 'unix' && addr.type !== 'fd') {
      throw new QmpError("Only socket address types 'unix' and 'fd' are supported");
    }
    const device = new VirtioBlkDevice({
      backend: common.backend,
      writable: common.writable,
      blockSize: blockSize === 0 ? DEFAULT_BLOCK_SIZE : blockSize,
      queues,
      serial: SERIAL,
      allocate,
    });
    const { poller, signals, log, fdsByNumber } = context;
    const server = { address: addr, poller, signals, log, fdsByNumber };
    return new VhostUserBlkExport(common, device, server);
  },
};

function checkBlockSize(id: string, value: number): void {
  const property = `Property ${id}.logical-block-size doesn't take value`;
  // 0 stands for none given.
  if (value !== 0 && (value < MIN_BLOCK_SIZE || value > MAX_BLOCK_SIZE)) {
    throw new QmpError(
      `${property} ${value} (minimum: ${MIN_BLOCK_SIZE}, maximum: ${MAX_BLOCK_SIZE})`,
    );
  }
  if (Math.log2(Math.max(1, value)) % 1 !== 0) {
    throw new QmpError(`${property} '${value}', it's not a power of 2`);
  }
}
