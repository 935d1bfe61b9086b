// When the rings of a frontend are served. A turn serves them until none has a request, looks for further ones for a moment, tells
// the driver of what was done as late as that does not keep it waiting, and asks to be kicked.

import { WOULD_BLOCK } from '../../net/byte-channel.ts';
import { AdaptivePoll } from '../adaptive-poll.ts';
import { CallCoalescing } from './call-coalescing.ts';
import type { Vring } from './vring.ts';

/** Requests, and bytes of them, served before others have their turn. */
const REQUESTS_PER_TURN = 256;
const BYTES_PER_TURN = 4 * 1024 * 1024;
/** Milliseconds after which a turn ends that looks for further requests instead of waiting for a kick, as soon as it has called. */
const LONGEST_WATCH = 0.5;

/** What turns need of their session. */
export interface TurnOwner {
  readonly vrings: Iterable<Vring>;
  /** Rings may be served: memory is not about to change, nothing has failed. */
  readonly serving: boolean;
  /** No more of our memory may be taken: another turn is asked for when it may. */
  readonly full: boolean;
  /** No request is under way, so nothing is kept waiting while rings are looked at. */
  readonly idle: boolean;
}

/** What may still be served in a turn. */
export interface TurnBudget {
  requests: number;
  bytes: number;
}

export class RingTurns {
  readonly #owner: TurnOwner;
  readonly #coalescing = new CallCoalescing();
  /** For a driver that sends one request after the other. */
  readonly #poll = new AdaptivePoll();
  #inTurn = false;
  #next: NodeJS.Immediate | undefined;
  /** The ring that a turn began with: what it leaves of the turn may be nothing, so that another one begins the next. */
  #first = 0;

  constructor(owner: TurnOwner) {
    this.#owner = owner;
  }

  /** Serves requests until there are none, or others must have their turn; then it goes on later. */
  take(): void {
    if (this.#inTurn || !this.#owner.serving) return;
    const ready = [...this.#owner.vrings].filter((vring) => vring.ready);
    if (ready.length === 0) return;
    this.#first = (this.#first + 1) % ready.length;
    const vrings = [...ready.slice(this.#first), ...ready.slice(0, this.#first)];
    this.#inTurn = true;
    try {
      this.#serve(vrings);
      for (const vring of vrings) vring.endTurn();
    } finally {
      this.#inTurn = false;
    }
  }

  /** Takes no turn any more that was put off. */
  stop(): void {
    clearImmediate(this.#next);
    this.#next = undefined;
  }

  #serve(vrings: readonly Vring[]): void {
    const owner = this.#owner;
    const budget: TurnBudget = { requests: REQUESTS_PER_TURN, bytes: BYTES_PER_TURN };
    const look = (): number => (anyHasMore(vrings) ? 1 : WOULD_BLOCK);
    let watchUntil = 0;
    while (owner.serving && !owner.full) {
      if (serveEach(vrings, budget)) {
        if (budget.requests > 0 && budget.bytes > 0) continue;
        this.#goOnLater();
        break;
      }
      const untold = vrings.reduce((sum, vring) => sum + vring.untold, 0);
      if (untold > 0) {
        if (owner.idle && this.#coalescing.goOn(untold, look)) continue;
        for (const vring of vrings) vring.tell();
      }
      if (owner.idle) {
        const now = performance.now();
        if (watchUntil === 0) watchUntil = now + LONGEST_WATCH;
        if (now > watchUntil) {
          this.#goOnLater();
          break;
        }
        if (this.#poll.again(look) !== WOULD_BLOCK) continue;
      }
      if (awaitKicks(vrings)) break;
    }
  }

  #goOnLater(): void {
    this.#next ??= setImmediate(() => {
      this.#next = undefined;
      this.take();
    });
  }
}

/** Whether there was anything to serve. */
function serveEach(vrings: readonly Vring[], budget: TurnBudget): boolean {
  const before = budget.requests;
  const share = Math.ceil(before / vrings.length);
  for (const vring of vrings) vring.serve(budget, share);
  return budget.requests < before;
}

function anyHasMore(vrings: readonly Vring[]): boolean {
  for (const vring of vrings) if (vring.hasMore()) return true;
  return false;
}

/** Asks for kicks: true if no request has come in the meantime. */
function awaitKicks(vrings: readonly Vring[]): boolean {
  let none = true;
  for (const vring of vrings) if (!vring.awaitKick()) none = false;
  return none;
}
