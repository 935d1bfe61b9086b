// A virtio block device over a node, without a transport: its features, its configuration, its cache mode, and what its
// requests do. Knows of no virtqueue and of no guest memory but the buffers of a request.

import { IoError } from '../../base/errors.ts';
import type { IoBuffer, MaybePromise } from '../../base/io-buffer.ts';
import type { BlockBackend } from '../../block/block-backend.ts';
import { MAY_UNMAP } from '../../block/block-driver.ts';
import { BouncePool } from '../../block/bounce-pool.ts';
import { CONFIG_WCE, encodeConfig } from './config.ts';
import {
  HEADER_SIZE,
  SECTOR,
  SEGMENT_SIZE,
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
  type VirtioBlkStatus,
} from './protocol.ts';
import {
  type DiskShape,
  decodeHeader,
  decodeSegment,
  isOnDisk,
  segmentRefusal,
  type VirtioBlkRequest,
  type VirtioBlkSegment,
} from './request.ts';
import type { RequestBuffers } from './request-buffers.ts';

/** Bytes of a request that are in our memory at a time; a larger one is served in pieces. */
export const LARGEST_PIECE = 1024 * 1024;

export interface VirtioBlkOptions {
  readonly backend: BlockBackend;
  readonly writable: boolean;
  readonly blockSize: number;
  readonly queues: number;
  /** What VIRTIO_BLK_T_GET_ID tells, as far as it fits. */
  readonly serial: string;
  /** Zeroed, page-aligned memory of exactly that length. */
  readonly allocate: (length: number) => IoBuffer;
}

/** Bytes of free memory that are kept for further requests of about the same length. */
const KEPT_BYTES = 4 * 1024 * 1024;

// Where what is in the scratch memory
const STATUS_AT = HEADER_SIZE + SEGMENT_SIZE;
const ID_AT = STATUS_AT + 1;
const SCRATCH_SIZE = ID_AT + VIRTIO_BLK_ID_BYTES;

export class VirtioBlkDevice {
  readonly #options: VirtioBlkOptions;
  readonly #shape: DiskShape;
  readonly #scratch: IoBuffer;
  readonly #request: VirtioBlkRequest = { type: 0, sector: 0 };
  readonly #segment: VirtioBlkSegment = { sector: 0, sectors: 0, flags: 0 };
  readonly #idLength: number;
  /** The cache mode that the driver finds. */
  readonly #startsWriteBack: boolean;
  #writeBack: boolean;
  #pool: BouncePool;
  /** Answers every request with an error. */
  refusing = false;

  constructor(options: VirtioBlkOptions) {
    this.#options = options;
    this.#startsWriteBack = !options.backend.writethrough;
    this.#writeBack = this.#startsWriteBack;
    this.#pool = this.#newPool();
    this.#scratch = options.allocate(SCRATCH_SIZE);
    this.#idLength = this.#scratch.bytes.write(
      `${options.serial}\0`,
      ID_AT,
      VIRTIO_BLK_ID_BYTES,
      'latin1',
    );
    const { backend, blockSize } = options;
    this.#shape = {
      get length() {
        return backend.length;
      },
      blockSize,
    };
  }

  get queues(): number {
    return this.#options.queues;
  }

  /** Device feature bits that are offered. */
  get features(): readonly number[] {
    return [
      VIRTIO_BLK_F_SIZE_MAX,
      VIRTIO_BLK_F_SEG_MAX,
      VIRTIO_BLK_F_BLK_SIZE,
      VIRTIO_BLK_F_FLUSH,
      VIRTIO_BLK_F_TOPOLOGY,
      VIRTIO_BLK_F_CONFIG_WCE,
      VIRTIO_BLK_F_MQ,
      VIRTIO_BLK_F_DISCARD,
      VIRTIO_BLK_F_WRITE_ZEROES,
      ...(this.#options.writable ? [] : [VIRTIO_BLK_F_RO]),
    ];
  }

  /** The configuration space as it is now. */
  config(): Buffer {
    const { backend, blockSize, queues } = this.#options;
    return encodeConfig({ length: backend.length, blockSize, queues, writeBack: this.#writeBack });
  }

  /** The driver writes to the configuration space: false if it may not, there or at all. */
  setConfig(offset: number, bytes: Uint8Array): boolean {
    if (offset !== CONFIG_WCE || bytes.length !== 1) return false;
    this.#setWriteBack(bytes[0] !== 0);
    return true;
  }

  /** The driver's choice of features. One that can neither flush nor set the mode expects writes to be durable. */
  accept(has: (feature: number) => boolean): void {
    const writeBack = has(VIRTIO_BLK_F_CONFIG_WCE)
      ? this.#writeBack
      : this.#startsWriteBack && has(VIRTIO_BLK_F_FLUSH);
    this.#options.backend.writethrough = !writeBack;
  }

  /** Back to the state that a driver finds at first. */
  reset(): void {
    this.#setWriteBack(this.#startsWriteBack);
  }

  /** No request is under way or comes soon: lets go of memory. */
  idle(): void {
    this.#pool = this.#newPool();
  }

  /**
   * Serves one request: the number of bytes to report as written, 0 for one whose status has no place. Throws or rejects
   * IoError when the status cannot be written because the driver's memory is gone.
   */
  serve(buffers: RequestBuffers): MaybePromise<number> {
    if (buffers.readable < HEADER_SIZE || buffers.writable < 1) return 0;
    let status: MaybePromise<VirtioBlkStatus>;
    try {
      status = this.refusing ? VIRTIO_BLK_S_IOERR : this.#execute(buffers);
    } catch (error) {
      status = statusOf(error);
    }
    if (typeof status === 'number') return this.#finish(buffers, status);
    return status.catch(statusOf).then((settled) => this.#finish(buffers, settled));
  }

  #finish(buffers: RequestBuffers, status: VirtioBlkStatus): number {
    const scratch = this.#scratch;
    scratch.bytes[STATUS_AT] = status;
    buffers.put(buffers.writable - 1, 1, scratch, STATUS_AT);
    return buffers.writable;
  }

  #execute(buffers: RequestBuffers): MaybePromise<VirtioBlkStatus> {
    const { backend, writable } = this.#options;
    const scratch = this.#scratch;
    const request = this.#request;
    buffers.take(0, HEADER_SIZE, scratch, 0);
    decodeHeader(scratch.view, 0, request);
    switch (request.type) {
      case VIRTIO_BLK_T_IN:
        return this.#read(buffers, request.sector);
      case VIRTIO_BLK_T_OUT:
        return writable ? this.#write(buffers, request.sector) : VIRTIO_BLK_S_IOERR;
      case VIRTIO_BLK_T_FLUSH:
        return done(backend.flush());
      case VIRTIO_BLK_T_GET_ID: {
        const length = Math.min(this.#idLength, buffers.writable - 1);
        buffers.put(0, length, scratch, ID_AT);
        return VIRTIO_BLK_S_OK;
      }
      case VIRTIO_BLK_T_DISCARD:
      case VIRTIO_BLK_T_WRITE_ZEROES:
        return writable ? this.#change(buffers, request.type) : VIRTIO_BLK_S_IOERR;
      default:
        return VIRTIO_BLK_S_UNSUPP;
    }
  }

  #read(buffers: RequestBuffers, sector: number): MaybePromise<VirtioBlkStatus> {
    const { backend } = this.#options;
    const pool = this.#pool;
    const length = buffers.writable - 1;
    if (!isOnDisk(this.#shape, sector, length)) return VIRTIO_BLK_S_IOERR;
    if (length > LARGEST_PIECE) return this.#readInPieces(buffers, sector * SECTOR, length);
    const data = pool.take(length);
    const later = backend.read(sector * SECTOR, length, data, 0);
    if (later !== undefined) return this.#readLater(buffers, later, data, length);
    buffers.put(0, length, data, 0);
    pool.give(data);
    return VIRTIO_BLK_S_OK;
  }

  async #readLater(
    buffers: RequestBuffers,
    later: Promise<void>,
    data: IoBuffer,
    length: number,
  ): Promise<VirtioBlkStatus> {
    await later;
    buffers.put(0, length, data, 0);
    this.#pool.give(data);
    return VIRTIO_BLK_S_OK;
  }

  async #readInPieces(
    buffers: RequestBuffers,
    offset: number,
    length: number,
  ): Promise<VirtioBlkStatus> {
    const { backend } = this.#options;
    const pool = this.#pool;
    const data = pool.take(LARGEST_PIECE);
    for (let at = 0; at < length; at += LARGEST_PIECE) {
      const piece = Math.min(LARGEST_PIECE, length - at);
      await backend.read(offset + at, piece, data, 0);
      buffers.put(at, piece, data, 0);
    }
    pool.give(data);
    return VIRTIO_BLK_S_OK;
  }

  #write(buffers: RequestBuffers, sector: number): MaybePromise<VirtioBlkStatus> {
    const { backend } = this.#options;
    const pool = this.#pool;
    const length = buffers.readable - HEADER_SIZE;
    if (!isOnDisk(this.#shape, sector, length)) return VIRTIO_BLK_S_IOERR;
    if (length > LARGEST_PIECE) return this.#writeInPieces(buffers, sector * SECTOR, length);
    const data = pool.take(length);
    buffers.take(HEADER_SIZE, length, data, 0);
    const later = backend.write(sector * SECTOR, length, data, 0);
    if (later !== undefined) return this.#writeLater(later, data);
    pool.give(data);
    return VIRTIO_BLK_S_OK;
  }

  async #writeLater(later: Promise<void>, data: IoBuffer): Promise<VirtioBlkStatus> {
    await later;
    this.#pool.give(data);
    return VIRTIO_BLK_S_OK;
  }

  async #writeInPieces(
    buffers: RequestBuffers,
    offset: number,
    length: number,
  ): Promise<VirtioBlkStatus> {
    const { backend } = this.#options;
    const pool = this.#pool;
    const data = pool.take(LARGEST_PIECE);
    for (let at = 0; at < length; at += LARGEST_PIECE) {
      const piece = Math.min(LARGEST_PIECE, length - at);
      buffers.take(HEADER_SIZE + at, piece, data, 0);
      await backend.write(offset + at, piece, data, 0);
    }
    pool.give(data);
    return VIRTIO_BLK_S_OK;
  }

  /** Discard and write zeroes. */
  #change(buffers: RequestBuffers, type: number): MaybePromise<VirtioBlkStatus> {
    const { backend } = this.#options;
    const scratch = this.#scratch;
    const length = buffers.readable - HEADER_SIZE;
    if (length > SEGMENT_SIZE) return VIRTIO_BLK_S_UNSUPP;
    if (length < SEGMENT_SIZE) return VIRTIO_BLK_S_IOERR;
    const segment = this.#segment;
    buffers.take(HEADER_SIZE, SEGMENT_SIZE, scratch, HEADER_SIZE);
    decodeSegment(scratch.view, HEADER_SIZE, segment);
    const refusal = segmentRefusal(type, segment, this.#shape);
    if (refusal !== undefined) return refusal;
    const offset = segment.sector * SECTOR;
    const size = segment.sectors * SECTOR;
    if (type === VIRTIO_BLK_T_DISCARD) return done(backend.discard(offset, size));
    const unmap = segment.flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP ? MAY_UNMAP : 0;
    return done(backend.writeZeroes(offset, size, unmap));
  }

  #newPool(): BouncePool {
    return new BouncePool(this.#options.allocate, { keptBytes: KEPT_BYTES });
  }

  #setWriteBack(writeBack: boolean): void {
    this.#writeBack = writeBack;
    this.#options.backend.writethrough = !writeBack;
  }
}

function done(later: MaybePromise<void>): MaybePromise<VirtioBlkStatus> {
  return later === undefined ? VIRTIO_BLK_S_OK : later.then(() => VIRTIO_BLK_S_OK);
}

function statusOf(error: unknown): VirtioBlkStatus {
  if (error instanceof IoError) return VIRTIO_BLK_S_IOERR;
  throw error;
}
