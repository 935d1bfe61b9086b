// Events of the whole daemon to every monitor that is past negotiation: stamped once, written in the order of their emission,
// between the responses as they happen. Some events may be limited in rate: the first is sent, of those that follow within
// the interval only the last, when it is over.

import type { EventSink } from '../qapi/event-sink.ts';
import type { EventName, Events } from '../qapi/generated/events.ts';
import type { QmpMessage } from './request.ts';

export interface EventListener {
  /** Must not throw. Whether it wants events at all is its own business. */
  event(message: QmpMessage): void;
}

/** Milliseconds between two events of a name. */
export type EventIntervals = { readonly [Name in EventName]?: number };

/** Those that the reference limits. */
const eventIntervals: EventIntervals = { QUORUM_FAILURE: 1000, QUORUM_REPORT_BAD: 1000 };

interface Pending {
  message: QmpMessage | undefined;
}

export class EventBroadcast implements EventSink {
  readonly #listeners = new Set<EventListener>();
  readonly #intervals: EventIntervals;
  readonly #pending = new Map<string, Pending>();
  readonly #timers = new Set<NodeJS.Timeout>();

  constructor(intervals: EventIntervals = eventIntervals) {
    this.#intervals = intervals;
  }

  add(listener: EventListener): void {
    this.#listeners.add(listener);
  }

  remove(listener: EventListener): void {
    this.#listeners.delete(listener);
  }

  emit<Name extends EventName>(name: Name, payload: Events[Name]): void {
    const data = Object.keys(payload).length === 0 ? undefined : payload;
    const message: QmpMessage = { timestamp: timestamp(), event: name, data };
    const interval = this.#intervals[name];
    const key = limitKey(name, payload);
    const pending = this.#pending.get(key);
    if (pending !== undefined) {
      pending.message = message;
      return;
    }
    if (interval !== undefined) this.#hold(key, interval);
    this.#send(message);
  }

  /** Drops events that are held back. */
  close(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#pending.clear();
  }

  #hold(key: string, interval: number): void {
    const pending: Pending = { message: undefined };
    this.#pending.set(key, pending);
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#pending.delete(key);
      if (pending.message === undefined) return;
      this.#hold(key, interval);
      this.#send(pending.message);
    }, interval).unref();
    this.#timers.add(timer);
  }

  #send(message: QmpMessage): void {
    for (const listener of this.#listeners) listener.event(message);
  }
}

/** Events with the same key are limited together: those about one node do not keep back those about another. */
function limitKey(name: EventName, payload: object): string {
  if (name !== 'QUORUM_REPORT_BAD') return name;
  return `${name} ${(payload as Events['QUORUM_REPORT_BAD'])['node-name']}`;
}

/** Wall-clock time with microseconds, as far as the clock that runs steadily agrees with it. */
function timestamp(): { readonly seconds: number; readonly microseconds: number } {
  const steady = performance.timeOrigin + performance.now();
  const wall = Date.now();
  const milliseconds = Math.abs(steady - wall) < 2 ? steady : wall;
  const microseconds = Math.floor(milliseconds * 1000);
  return {
    seconds: Math.floor(microseconds / 1_000_000),
    microseconds: microseconds % 1_000_000,
  };
}
