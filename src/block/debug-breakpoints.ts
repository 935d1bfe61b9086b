// Breakpoints of a blkdebug node: a request that comes right after an event waits there until it is told to go on. For tests
// that need two things to happen in a certain order.

import { QmpError } from '../qapi/errors.ts';
import { BlkdebugEventValues } from '../qapi/generated/enums.ts';
import type { BlkdebugEvent } from '../qapi/generated/types.ts';

/** Breakpoints by their tags, any number to a tag. */
export interface Breakpoints {
  /** The request that next reaches the node after `event` waits, once, until it is resumed. Throws QmpError for no event. */
  add(event: BlkdebugEvent, tag: string): void;
  /** True while a request waits. */
  isSuspended(tag: string): boolean;
  /** Resolves when a request waits; at once when one does. */
  suspended(tag: string): Promise<void>;
  /** Lets the request go on that came last; false when none waits. */
  resume(tag: string): boolean;
  /** Takes away what has that tag, and lets its requests go on; false when there is nothing. */
  remove(tag: string): boolean;
}

interface Suspended {
  readonly tag: string;
  readonly goOn: () => void;
}

export class NodeBreakpoints implements Breakpoints {
  #breakpoints: { readonly event: BlkdebugEvent; readonly tag: string }[] = [];
  /** Tags of breakpoints that were reached: the next request is theirs. */
  #reached: string[] = [];
  #suspended: Suspended[] = [];
  #waiting: { readonly tag: string; readonly tell: () => void }[] = [];

  add(event: BlkdebugEvent, tag: string): void {
    if (!BlkdebugEventValues.includes(event)) {
      throw new QmpError(`Parameter 'event' does not accept value '${event}'`);
    }
    this.#breakpoints.push({ event, tag });
  }

  isSuspended(tag: string): boolean {
    return this.#suspended.some((each) => each.tag === tag);
  }

  suspended(tag: string): Promise<void> {
    if (this.isSuspended(tag)) return Promise.resolve();
    return new Promise((tell) => this.#waiting.push({ tag, tell }));
  }

  resume(tag: string): boolean {
    const last = this.#suspended.findLast((each) => each.tag === tag);
    if (last === undefined) return false;
    this.#suspended = this.#suspended.filter((each) => each !== last);
    last.goOn();
    return true;
  }

  remove(tag: string): boolean {
    const before = this.#breakpoints.length + this.#reached.length;
    this.#breakpoints = this.#breakpoints.filter((each) => each.tag !== tag);
    this.#reached = this.#reached.filter((each) => each !== tag);
    let removed = this.#breakpoints.length + this.#reached.length < before;
    while (this.resume(tag)) removed = true;
    return removed;
  }

  /** Lets everything go on, and stops nothing any more. */
  removeAll(): void {
    this.#breakpoints = [];
    this.#reached = [];
    for (const { goOn } of this.#suspended.splice(0)) goOn();
  }

  event(event: BlkdebugEvent): void {
    if (this.#breakpoints.length === 0) return;
    const here = this.#breakpoints.filter((each) => each.event === event);
    if (here.length === 0) return;
    this.#breakpoints = this.#breakpoints.filter((each) => each.event !== event);
    this.#reached.push(...here.map(({ tag }) => tag));
  }

  /** Asked by each request: resolves when it may go on; nothing when that is now. */
  hold(): void | Promise<void> {
    if (this.#reached.length === 0) return undefined;
    const held = this.#reached.splice(0).map((tag) => this.#suspend(tag));
    return Promise.all(held).then(() => undefined);
  }

  #suspend(tag: string): Promise<void> {
    const gone = new Promise<void>((goOn) => this.#suspended.push({ tag, goOn }));
    const told = this.#waiting.filter((each) => each.tag === tag);
    this.#waiting = this.#waiting.filter((each) => each.tag !== tag);
    for (const { tell } of told) tell();
    return gone;
  }
}
