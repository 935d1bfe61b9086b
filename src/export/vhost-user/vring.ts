// One ring of a session: what the frontend has told about it, its three event counters, and its requests.

import type { IoBuffer, MaybePromise } from '../../base/io-buffer.ts';
import type { EventSignaller } from '../../sys/event-signal.ts';
import { EventCounter, makeNonBlocking } from '../../sys/eventfd.ts';
import { allocate } from '../../sys/memory.ts';
import { type Poller, READABLE, type Watch } from '../../sys/poller.ts';
import { close } from '../../sys/socket.ts';
import { LARGEST_PIECE, type VirtioBlkDevice } from '../virtio-blk/device.ts';
import { DescriptorChain } from './descriptor-chain.ts';
import type { DirtyLog } from './dirty-log.ts';
import type { GuestMemory } from './guest-memory.ts';
import type { InflightQueue } from './inflight.ts';
import {
  availableLength,
  copiedRing,
  descriptorsLength,
  RING_ALIGNMENT,
  type RingAddresses,
  scratchLength,
  usedLength,
  viewedRing,
} from './ring-memory.ts';
import type { TurnBudget } from './ring-turns.ts';
import { type RingFeatures, TABLE_LENGTH, Virtqueue } from './virtqueue.ts';
import type { VringAddress } from './wire.ts';

/** Milliseconds between looks at a ring whose driver does not kick. */
const LOOK_EVERY = 1;
/** Requests that may be done before the driver hears of the first. */
const REQUESTS_PER_CALL = 16;

/** Chains that are kept for further requests. */
const KEPT_CHAINS = 256;

/** What a ring needs of its session. */
export interface VringOwner {
  readonly poller: Poller;
  readonly signals: EventSignaller;
  readonly memory: GuestMemory;
  readonly device: VirtioBlkDevice;
  readonly features: RingFeatures;
  /** Rings may be served: memory is not about to change, nothing has failed. */
  readonly serving: boolean;
  /** Where writes to guest memory are to be marked, at the moment. */
  readonly log: DirtyLog | undefined;
  /** Something was marked. */
  logged(): void;
  /** Serves rings that may have something to do. */
  serve(): void;
  /** Counts a request that is not done at once, and what it takes of our memory. */
  began(bytes: number): void;
  ended(bytes: number): void;
  /** No more of our memory may be taken: the rings are served again when it may. */
  readonly full: boolean;
  inflightOf(index: number, size: number): InflightQueue | undefined;
  /** The ring cannot go on. */
  fail(vring: Vring, error: unknown): void;
}

export class Vring {
  readonly index: number;
  size = 0;
  /** Where the frontend says that the parts are. */
  address: VringAddress | undefined;
  /** The entry of the available ring to begin with; with a queue, it knows better. */
  base = 0;
  /** Frontends of old never say; one that says no is obeyed. */
  enabled = true;
  /** Requests that are not done yet. */
  underWay = 0;
  readonly #owner: VringOwner;
  readonly #counter = new EventCounter();
  readonly #chains: DescriptorChain[] = [];
  #table: IoBuffer | undefined;
  #queue: Virtqueue | undefined;
  #kickFd = -1;
  #callFd = -1;
  #errFd = -1;
  #watch: Watch | undefined;
  #looks: NodeJS.Timeout | undefined;
  /** SET_VRING_KICK has come. */
  #started = false;
  /** There was a kick since, or there are requests that a predecessor has left. */
  #kicked = false;
  #untold = 0;
  #onIdle: (() => void) | undefined;

  constructor(index: number, owner: VringOwner) {
    this.index = index;
    this.#owner = owner;
  }

  get started(): boolean {
    return this.#started;
  }

  /** Starts with this counter to be kicked by; -1 for none: it is looked at again and again. Throws IoError. */
  start(kickFd: number): void {
    this.#dropKick();
    this.#kickFd = kickFd;
    if (kickFd >= 0) {
      makeNonBlocking(kickFd);
      // First, so that nothing is watched that is no counter and could make the watcher wait, or fail him later.
      const kicked = this.#counter.take(kickFd);
      this.#watch = this.#owner.poller.watch(kickFd, () => this.#kick());
      this.#watch.want(READABLE);
      if (kicked) this.#kicked = true;
    } else {
      this.#kicked = true;
      this.#looks = setInterval(() => this.#owner.serve(), LOOK_EVERY);
    }
    this.#started = true;
    this.locate();
  }

  /** Takes no more requests. Returns when those under way are done. */
  stop(): MaybePromise<void> {
    this.#started = false;
    this.#kicked = false;
    this.#dropKick();
    if (this.underWay > 0) return this.#idle().then(() => this.#stopped());
    this.#stopped();
  }

  /** Throws IoError. */
  setCall(fd: number): void {
    if (this.#callFd >= 0) close(this.#callFd);
    this.#callFd = fd;
    if (fd < 0) return;
    try {
      makeNonBlocking(fd);
      // Requests may have been done while nobody could be told.
      this.#owner.signals.signal(fd);
    } catch (error) {
      close(fd);
      this.#callFd = -1;
      throw error;
    }
  }

  /** Throws IoError. */
  setError(fd: number): void {
    if (this.#errFd >= 0) close(this.#errFd);
    this.#errFd = fd;
    if (fd >= 0) makeNonBlocking(fd);
  }

  /** Lets go of guest memory, for as long as it changes. No request is under way. */
  unlocate(): void {
    const queue = this.#queue;
    if (queue === undefined) return;
    this.base = queue.next;
    this.#queue = undefined;
    try {
      // Whoever serves the ring next, this program or another one, may do nothing but wait for a kick.
      queue.awaitKick();
      if (this.#owner.log !== undefined) this.#logUsedRing(this.#owner.log);
    } catch {
      // To memory that is gone there is nothing to say.
    }
  }

  /** Where its parts, or those of a ring at `address`, are in our memory; undefined when they are not (all) known. */
  find(address = this.address): RingAddresses | undefined {
    const { size } = this;
    if (address === undefined || size === 0) return undefined;
    const { memory } = this.#owner;
    const descriptors = memory.addressOfUser(address.descriptors, descriptorsLength(size));
    const available = memory.addressOfUser(address.available, availableLength(size));
    const used = memory.addressOfUser(address.used, usedLength(size));
    if (descriptors === undefined || available === undefined || used === undefined)
      return undefined;
    // A frontend's memory need not begin on a page, and not every machine can do atomic reads and writes anywhere.
    const aligned =
      descriptors % RING_ALIGNMENT.descriptors === 0 &&
      available % RING_ALIGNMENT.available === 0 &&
      used % RING_ALIGNMENT.used === 0;
    return aligned ? { descriptors, available, used } : undefined;
  }

  /** Makes the queue, once all that it needs is there. Throws VirtqueueError or IoError. */
  locate(): void {
    if (!this.#started || this.#queue !== undefined) return;
    const at = this.find();
    if (at === undefined) return;
    const { memory, features } = this.#owner;
    const { size } = this;
    this.#table ??= allocate(TABLE_LENGTH);
    this.#queue = new Virtqueue({
      size,
      features,
      memory,
      ring:
        memory.guarded === undefined
          ? viewedRing(at, size)
          : copiedRing(at, size, memory.guarded, allocate(scratchLength(size))),
      next: this.base,
      table: this.#table,
      inflight: this.#owner.inflightOf(this.index, size),
    });
    if (this.#queue.hasLeftovers) this.#kicked = true;
  }

  /** Whether it may be served: it is set up, enabled, and was kicked. */
  get ready(): boolean {
    return this.#queue !== undefined && this.#kicked && this.enabled;
  }

  /** Requests that are done and of which the driver has not heard. */
  get untold(): number {
    return this.#untold;
  }

  /** Serves so many requests at most, as long as there are any and as many are left in `budget`. */
  serve(budget: TurnBudget, most: number): void {
    if (this.#queue === undefined) return;
    try {
      this.#serveSome(this.#queue, budget, most);
    } catch (error) {
      this.#owner.fail(this, error);
    }
  }

  /** Whether there are requests to serve. */
  hasMore(): boolean {
    if (this.#queue === undefined) return false;
    try {
      return this.#queue.hasMore();
    } catch (error) {
      this.#owner.fail(this, error);
      return false;
    }
  }

  /** Tells the driver of what is done, if it wants to know. */
  tell(): void {
    if (this.#untold === 0) return;
    this.#untold = 0;
    this.#attempt(undefined, (queue) => this.#call(queue));
  }

  /** Asks for a kick with the next request: true if none has come in the meantime. */
  awaitKick(): boolean {
    return this.#attempt(true, (queue) => queue.awaitKick());
  }

  /** Nothing will be done with it before the next turn. */
  endTurn(): void {
    this.tell();
    // What is wished about kicks stands in the used ring, too.
    this.#attempt(undefined, () => {
      if (this.#owner.log !== undefined) this.#logUsedRing(this.#owner.log);
    });
  }

  /** Tells the frontend that the ring cannot go on. */
  signalError(): void {
    if (this.#errFd < 0) return;
    try {
      this.#owner.signals.signal(this.#errFd);
    } catch {
      // It will notice by the end of the connection.
    }
  }

  /** Gives everything back. No request is under way. */
  dispose(): void {
    this.unlocate();
    this.#dropKick();
    if (this.#callFd >= 0) close(this.#callFd);
    if (this.#errFd >= 0) close(this.#errFd);
    this.#callFd = -1;
    this.#errFd = -1;
  }

  #kick(): void {
    try {
      if (!this.#counter.take(this.#kickFd)) return;
    } catch (error) {
      this.#owner.fail(this, error);
      return;
    }
    this.#kicked = true;
    this.#owner.serve();
  }

  /** What `action` makes of the queue, where speed is no matter; `otherwise` when there is none, or the ring cannot go on. */
  #attempt<T>(otherwise: T, action: (queue: Virtqueue) => T): T {
    if (this.#queue === undefined) return otherwise;
    try {
      return action(this.#queue);
    } catch (error) {
      this.#owner.fail(this, error);
      return otherwise;
    }
  }

  #serveSome(queue: Virtqueue, budget: TurnBudget, most: number): void {
    const owner = this.#owner;
    queue.refuseKicks();
    for (let count = 0; count < most; count++) {
      if (!owner.serving || owner.full || budget.requests <= 0 || budget.bytes <= 0) return;
      const chain = this.#chains.pop() ?? new DescriptorChain(owner.memory);
      if (!queue.take(chain)) {
        this.#chains.push(chain);
        return;
      }
      budget.requests--;
      budget.bytes -= chain.readable + chain.writable;
      if (this.#begin(queue, chain)) this.#untold++;
      if (this.#untold === REQUESTS_PER_CALL) this.tell();
    }
  }

  /** Whether the request is done already. */
  #begin(queue: Virtqueue, chain: DescriptorChain): boolean {
    const written = this.#owner.device.serve(chain);
    if (typeof written !== 'number') {
      void this.#finishLater(queue, chain, written);
      return false;
    }
    this.#give(queue, chain, written);
    return true;
  }

  #give(queue: Virtqueue, chain: DescriptorChain, written: number): void {
    queue.give(chain.head, written);
    const { log } = this.#owner;
    if (log !== undefined) {
      chain.log(log, written);
      this.#logUsedRing(log);
    }
    if (this.#chains.length < KEPT_CHAINS) this.#chains.push(chain);
  }

  /** Marks the used ring, if the frontend wants it marked, and tells of what was. */
  #logUsedRing(log: DirtyLog): void {
    if (this.address?.log !== undefined) log.mark(this.address.log, usedLength(this.size));
    this.#owner.logged();
  }

  async #finishLater(
    queue: Virtqueue,
    chain: DescriptorChain,
    later: Promise<number>,
  ): Promise<void> {
    const bytes = chain.cost + Math.min(LARGEST_PIECE, chain.readable + chain.writable);
    this.underWay++;
    this.#owner.began(bytes);
    try {
      this.#give(queue, chain, await later);
      this.#call(queue);
    } catch (error) {
      this.#owner.fail(this, error);
    } finally {
      this.underWay--;
      if (this.underWay === 0) this.#onIdle?.();
      this.#owner.ended(bytes);
    }
  }

  #call(queue: Virtqueue): void {
    if (queue.wantsCall() && this.#callFd >= 0) this.#owner.signals.signal(this.#callFd);
  }

  #idle(): Promise<void> {
    return new Promise((resolve) => {
      this.#onIdle = () => {
        this.#onIdle = undefined;
        resolve();
      };
    });
  }

  /** As the reference: a ring that is stopped has neither counter any more. */
  #stopped(): void {
    this.unlocate();
    if (this.#callFd >= 0) close(this.#callFd);
    this.#callFd = -1;
  }

  #dropKick(): void {
    this.#watch?.close();
    this.#watch = undefined;
    clearInterval(this.#looks);
    if (this.#kickFd >= 0) close(this.#kickFd);
    this.#kickFd = -1;
  }
}
