// Who goes next when several share limits: each member of a group has its own queue, and members take turns. Reads and writes
// wait apart from each other.

import type { Clock } from '../base/clock.ts';
import type { MaybePromise } from '../base/io-buffer.ts';
import {
  type Direction,
  READ,
  ThrottleBuckets,
  type ThrottleLimits,
  WRITE,
} from './throttle-buckets.ts';

interface Waiting {
  readonly bytes: number;
  readonly go: () => void;
}

/** One of those that share the limits: a node. */
export interface ThrottleMember {
  readonly queues: readonly [read: Waiting[], write: Waiting[]];
  /** It is not limited for now. */
  exempt: boolean;
}

/** Requests of one direction. */
interface Lane {
  waiting: number;
  /** Who went last. */
  last: ThrottleMember | undefined;
  /** Takes back the timer that runs while requests wait. */
  cancel: (() => void) | undefined;
}

export class ThrottleQueue {
  readonly #clock: Clock;
  #buckets: ThrottleBuckets;
  readonly #members: ThrottleMember[] = [];
  readonly #lanes: readonly [read: Lane, write: Lane] = [emptyLane(), emptyLane()];

  constructor(limits: ThrottleLimits, clock: Clock) {
    this.#clock = clock;
    this.#buckets = new ThrottleBuckets(limits, clock.now());
  }

  get limits(): ThrottleLimits {
    return this.#buckets.limits;
  }

  /** New limits, with nothing counted yet. They hold for those who wait already, too. */
  setLimits(limits: ThrottleLimits): void {
    this.#buckets = new ThrottleBuckets(limits, this.#clock.now());
    this.#serve(READ);
    this.#serve(WRITE);
  }

  get inUse(): boolean {
    return this.#members.length > 0;
  }

  join(): ThrottleMember {
    const member: ThrottleMember = { queues: [[], []], exempt: false };
    this.#members.push(member);
    return member;
  }

  /** Whoever leaves must have nothing waiting. */
  leave(member: ThrottleMember): void {
    const index = this.#members.indexOf(member);
    if (index === -1) return;
    for (const lane of this.#lanes) {
      if (lane.last === member) lane.last = this.#members.at(index - 1);
    }
    this.#members.splice(index, 1);
  }

  /** Lets a request through, now or when its turn comes. */
  admit(member: ThrottleMember, direction: Direction, bytes: number): MaybePromise<void> {
    if (!this.#buckets.limited) return undefined;
    const lane = this.#lanes[direction];
    const free =
      member.exempt ||
      (lane.waiting === 0 && this.#buckets.wait(direction, this.#clock.now()) === 0);
    if (free) {
      this.#buckets.account(direction, bytes);
      return undefined;
    }
    return new Promise((go) => {
      member.queues[direction].push({ bytes, go });
      lane.waiting++;
      if (lane.cancel === undefined) this.#serve(direction);
    });
  }

  /** Lets everything of a member through until `limit`, what waits included. */
  exempt(member: ThrottleMember): void {
    member.exempt = true;
    for (const direction of [READ, WRITE] as const) {
      for (const request of member.queues[direction].splice(0)) this.#release(direction, request);
      this.#serve(direction);
    }
  }

  limit(member: ThrottleMember): void {
    member.exempt = false;
  }

  /** Lets go who may, one of each member after the other, and comes back for the rest. */
  #serve(direction: Direction): void {
    const lane = this.#lanes[direction];
    lane.cancel?.();
    lane.cancel = undefined;
    while (lane.waiting > 0) {
      const wait = this.#buckets.wait(direction, this.#clock.now());
      if (wait > 0) {
        lane.cancel = this.#clock.after(wait, () => this.#serve(direction));
        return;
      }
      const member = this.#next(lane, direction);
      const request = member.queues[direction].shift();
      if (request === undefined) throw new Error('Nobody waits, though somebody was counted');
      lane.last = member;
      this.#release(direction, request);
    }
  }

  #release(direction: Direction, { bytes, go }: Waiting): void {
    this.#lanes[direction].waiting--;
    this.#buckets.account(direction, bytes);
    go();
  }

  #next(lane: Lane, direction: Direction): ThrottleMember {
    const first = lane.last === undefined ? 0 : this.#members.indexOf(lane.last) + 1;
    for (let step = 0; step < this.#members.length; step++) {
      const member = this.#members[(first + step) % this.#members.length];
      if (member !== undefined && member.queues[direction].length > 0) return member;
    }
    throw new Error('Nobody waits, though somebody was counted');
  }
}

function emptyLane(): Lane {
  return { waiting: 0, last: undefined, cancel: undefined };
}
