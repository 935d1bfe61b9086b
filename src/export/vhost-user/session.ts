// What one frontend has set up: features, memory, rings, where requests under way are noted, and the channel by which we can
// speak first. messages.ts calls it; it calls nobody but the device. Lives from a connection's begin to its end.

import { ProtocolError } from '../../base/errors.ts';
import type { MaybePromise } from '../../base/io-buffer.ts';
import type { EventSignaller } from '../../sys/event-signal.ts';
import { makeNonBlocking } from '../../sys/eventfd.ts';
import { FdPassing } from '../../sys/fd-passing.ts';
import { allocate } from '../../sys/memory.ts';
import type { Poller } from '../../sys/poller.ts';
import {
  createSharedFile,
  mapShared,
  type SharedMapping,
  unmapShared,
  viewOfShared,
} from '../../sys/shared-memory.ts';
import { close } from '../../sys/socket.ts';
import type { VirtioBlkDevice } from '../virtio-blk/device.ts';
import { DirtyLog } from './dirty-log.ts';
import { checkOffered, featureBits, hasFeature } from './features.ts';
import { GuestMemory } from './guest-memory.ts';
import { InflightQueue, inflightLength } from './inflight.ts';
import {
  HEADER_SIZE,
  MAX_QUEUE_SIZE,
  VHOST_F_LOG_ALL,
  VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VHOST_USER_PROTOCOL_F_BACKEND_REQ,
  VHOST_USER_PROTOCOL_F_CONFIG,
  VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
  VHOST_USER_PROTOCOL_F_LOG_SHMFD,
  VHOST_USER_PROTOCOL_F_MQ,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
  VHOST_USER_PROTOCOL_F_RESET_DEVICE,
  VIRTIO_F_NOTIFY_ON_EMPTY,
  VIRTIO_F_VERSION_1,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
} from './protocol.ts';
import { RingTurns, type TurnOwner } from './ring-turns.ts';
import type { RingFeatures } from './virtqueue.ts';
import { Vring, type VringOwner } from './vring.ts';
import { encodeHeader, type FilePart, type InflightArea } from './wire.ts';

/** Bytes of our memory that requests of one frontend may take; beyond that its rings wait. */
const MAX_BYTES_UNDER_WAY = 64 * 1024 * 1024;

export const PROTOCOL_FEATURES = featureBits([
  VHOST_USER_PROTOCOL_F_MQ,
  VHOST_USER_PROTOCOL_F_LOG_SHMFD,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
  VHOST_USER_PROTOCOL_F_BACKEND_REQ,
  VHOST_USER_PROTOCOL_F_CONFIG,
  VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
  VHOST_USER_PROTOCOL_F_RESET_DEVICE,
  VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
]);

const RING_FEATURES: readonly number[] = [
  VIRTIO_F_NOTIFY_ON_EMPTY,
  VHOST_F_LOG_ALL,
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTIO_RING_F_EVENT_IDX,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VIRTIO_F_VERSION_1,
];

export interface SessionOptions {
  readonly poller: Poller;
  readonly signals: EventSignaller;
  readonly device: VirtioBlkDevice;
  /** A ring cannot go on, and with it the session. */
  readonly onFailure: (error: unknown) => void;
}

interface InflightState {
  readonly area: InflightArea;
  readonly mapping: SharedMapping;
}

export class Session implements VringOwner, TurnOwner {
  readonly poller: Poller;
  readonly signals: EventSignaller;
  readonly device: VirtioBlkDevice;
  readonly memory = new GuestMemory();
  readonly #onFailure: (error: unknown) => void;
  /** Made when first named. */
  readonly #vrings = new Map<number, Vring>();
  readonly #turns = new RingTurns(this);
  #ringFeatures: RingFeatures = { indirect: false, eventIndex: false, notifyOnEmpty: false };
  #protocolFeatures = 0n;
  #inflight: InflightState | undefined;
  #log: DirtyLog | undefined;
  /** The frontend wants writes to be logged. */
  #logging = false;
  #logCallFd = -1;
  #backendFd = -1;
  /** Memory is about to change. */
  #changing = false;
  #failed = false;
  #ended = false;
  #bytesUnderWay = 0;
  #requestsUnderWay = 0;
  #wasFull = false;
  #onIdle: (() => void) | undefined;

  constructor(options: SessionOptions) {
    this.poller = options.poller;
    this.signals = options.signals;
    this.device = options.device;
    this.#onFailure = options.onFailure;
  }

  get offeredFeatures(): bigint {
    return featureBits([...RING_FEATURES, ...this.device.features]);
  }

  get features(): RingFeatures {
    return this.#ringFeatures;
  }

  get serving(): boolean {
    return !this.#changing && !this.#failed && !this.#ended;
  }

  get idle(): boolean {
    return this.#requestsUnderWay === 0;
  }

  get vrings(): Iterable<Vring> {
    return this.#vrings.values();
  }

  get full(): boolean {
    if (this.#bytesUnderWay < MAX_BYTES_UNDER_WAY) return false;
    this.#wasFull = true;
    return true;
  }

  /** Throws ProtocolError. */
  acceptFeatures(features: bigint): void {
    checkOffered('features', features, this.offeredFeatures);
    if (!hasFeature(features, VIRTIO_F_VERSION_1)) {
      throw new ProtocolError('features', 'a legacy device', 'VIRTIO_F_VERSION_1');
    }
    this.#ringFeatures = {
      indirect: hasFeature(features, VIRTIO_RING_F_INDIRECT_DESC),
      eventIndex: hasFeature(features, VIRTIO_RING_F_EVENT_IDX),
      notifyOnEmpty: hasFeature(features, VIRTIO_F_NOTIFY_ON_EMPTY),
    };
    this.#logging = hasFeature(features, VHOST_F_LOG_ALL);
    this.device.accept((bit) => hasFeature(features, bit));
  }

  /** Throws ProtocolError. */
  acceptProtocolFeatures(features: bigint): void {
    checkOffered('protocol features', features, PROTOCOL_FEATURES);
    this.#protocolFeatures = features;
  }

  /** Throws ProtocolError when there is no such ring. */
  vring(index: number): Vring {
    const known = this.#vrings.get(index);
    if (known !== undefined) return known;
    if (index >= this.device.queues) {
      throw new ProtocolError('ring', index, `less than ${this.device.queues}`);
    }
    const made = new Vring(index, this);
    this.#vrings.set(index, made);
    return made;
  }

  /** Sets a ring's number of entries. Throws ProtocolError. */
  resize(vring: Vring, size: number): void {
    this.#checkStopped(vring);
    if (size < 1 || size > MAX_QUEUE_SIZE || (size & (size - 1)) !== 0) {
      throw new ProtocolError('ring size', size, `a power of two up to ${MAX_QUEUE_SIZE}`);
    }
    vring.size = size;
  }

  /** Sets where in its available ring a ring begins. Throws ProtocolError. */
  rebase(vring: Vring, base: number): void {
    this.#checkStopped(vring);
    if (base > 0xffff) throw new ProtocolError('ring base', base, 'at most 0xffff');
    vring.base = base;
  }

  /** Changes memory or where rings are in it, with no request under way. What `change` throws is passed on. */
  changeMemory(change: () => void): MaybePromise<void> {
    this.#changing = true;
    if (this.#requestsUnderWay === 0) return this.#changeNow(change);
    return this.#untilIdle().then(() => this.#changeNow(change));
  }

  /** Serves rings that may have something to do. */
  serve(): void {
    this.#turns.take();
  }

  /** A new area to note requests in, for rings of `queueSize` entries; its descriptor is the caller's. Throws ProtocolError. */
  createInflight(asked: InflightArea): { readonly area: InflightArea; readonly fd: number } {
    this.#checkInflight(asked);
    const size = inflightLength(asked.queueSize) * asked.queues;
    const area = { ...asked, size, offset: 0 };
    const fd = createSharedFile('vhost-inflight', size);
    try {
      this.adoptInflight(area, fd);
    } catch (error) {
      close(fd);
      throw error;
    }
    return { area, fd };
  }

  /** Notes requests in this area, and finds there what a predecessor has left. Throws ProtocolError or IoError. */
  adoptInflight(area: InflightArea, fd: number): void {
    this.#checkInflight(area);
    for (const vring of this.#vrings.values()) this.#checkStopped(vring);
    const needed = inflightLength(area.queueSize) * area.queues;
    if (area.size < needed) throw new ProtocolError('inflight size', area.size, needed);
    const mapping = mapShared(fd, area.offset, needed);
    if (!mapping.lasting) {
      unmapShared(mapping);
      throw new ProtocolError('inflight file', 'one that can shrink', 'one sealed against that');
    }
    this.#dropInflight();
    this.#inflight = { area, mapping };
  }

  inflightOf(index: number, size: number): InflightQueue | undefined {
    if (this.#inflight === undefined) return undefined;
    const { area, mapping } = this.#inflight;
    if (index >= area.queues || size > area.queueSize) {
      throw new ProtocolError('inflight queues', `no room for ${size} entries`, area.queueSize);
    }
    const length = inflightLength(area.queueSize);
    const memory = viewOfShared(mapping.address + index * length, length);
    return new InflightQueue(memory, area.queueSize);
  }

  get log(): DirtyLog | undefined {
    return this.#logging ? this.#log : undefined;
  }

  /** Marks writes there from now on, whenever they are to be. Throws ProtocolError or IoError. */
  setLog({ size, offset }: FilePart, fd: number): void {
    const log = new DirtyLog(fd, offset, size);
    this.#log?.close();
    this.#log = log;
  }

  /** Takes over the counter that tells of marks. Throws IoError. */
  setLogCall(fd: number): void {
    if (this.#logCallFd >= 0) close(this.#logCallFd);
    this.#logCallFd = fd;
    makeNonBlocking(fd);
  }

  logged(): void {
    if (this.#logCallFd >= 0) this.signals.signal(this.#logCallFd);
  }

  /** Takes over the socket by which the frontend wants to hear from us. */
  setBackendChannel(fd: number): void {
    if (this.#backendFd >= 0) close(this.#backendFd);
    this.#backendFd = fd;
  }

  /** Tells the frontend that the configuration space is another now, if it wants to know. */
  announceConfig(): void {
    if (this.#backendFd < 0 || this.#ended) return;
    if (!hasFeature(this.#protocolFeatures, VHOST_USER_PROTOCOL_F_CONFIG)) return;
    const message = allocate(HEADER_SIZE);
    encodeHeader(message.bytes, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 0, 0);
    try {
      new FdPassing().send(this.#backendFd, message.address, HEADER_SIZE);
    } catch {
      // The main connection's end tells when the frontend is gone.
    }
  }

  /** The driver starts anew: rings stop, the device is as at first. */
  async reset(): Promise<void> {
    for (const vring of this.#vrings.values()) await vring.stop();
    for (const vring of this.#vrings.values()) {
      vring.base = 0;
      vring.address = undefined;
      vring.size = 0;
      vring.enabled = true;
    }
    this.#dropInflight();
    this.device.reset();
  }

  /** Takes no more requests, and gives everything back once those under way are done. */
  end(): MaybePromise<void> {
    this.#ended = true;
    if (this.#requestsUnderWay > 0) return this.#untilIdle().then(() => this.#dispose());
    this.#dispose();
  }

  began(bytes: number): void {
    this.#requestsUnderWay++;
    this.#bytesUnderWay += bytes;
  }

  ended(bytes: number): void {
    this.#requestsUnderWay--;
    this.#bytesUnderWay -= bytes;
    if (this.#requestsUnderWay === 0) this.#onIdle?.();
    if (!this.#wasFull || this.#bytesUnderWay >= MAX_BYTES_UNDER_WAY / 2) return;
    this.#wasFull = false;
    this.serve();
  }

  fail(vring: Vring, error: unknown): void {
    if (this.#failed || this.#ended) return;
    this.#failed = true;
    vring.signalError();
    this.#onFailure(error);
  }

  #changeNow(change: () => void): void {
    const vrings = [...this.#vrings.values()];
    for (const vring of vrings) vring.unlocate();
    try {
      if (!this.#ended) change();
    } finally {
      this.#changing = false;
      // A change that is refused leaves the rings where they were: who hears of it may go on with them.
      if (!this.#ended) this.#goOn(vrings);
    }
  }

  #goOn(vrings: readonly Vring[]): void {
    for (const vring of vrings) vring.locate();
    this.serve();
  }

  #checkStopped(vring: Vring): void {
    if (vring.started) throw new ProtocolError('ring', 'one that is in use', 'one that is stopped');
  }

  #checkInflight({ queues, queueSize }: InflightArea): void {
    if (queues < 1 || queues > this.device.queues) {
      throw new ProtocolError('inflight queues', queues, `1 to ${this.device.queues}`);
    }
    if (queueSize < 1 || queueSize > MAX_QUEUE_SIZE) {
      throw new ProtocolError('inflight queue size', queueSize, `1 to ${MAX_QUEUE_SIZE}`);
    }
  }

  #untilIdle(): Promise<void> {
    return new Promise((resolve) => {
      const others = this.#onIdle;
      this.#onIdle = () => {
        this.#onIdle = undefined;
        others?.();
        resolve();
      };
    });
  }

  #dispose(): void {
    this.#turns.stop();
    for (const vring of this.#vrings.values()) vring.dispose();
    this.#vrings.clear();
    this.memory.clear();
    this.#dropInflight();
    this.#log?.close();
    this.#log = undefined;
    if (this.#logCallFd >= 0) close(this.#logCallFd);
    this.#logCallFd = -1;
    if (this.#backendFd >= 0) close(this.#backendFd);
    this.#backendFd = -1;
    this.device.idle();
  }

  #dropInflight(): void {
    if (this.#inflight !== undefined) unmapShared(this.#inflight.mapping);
    this.#inflight = undefined;
  }
}
