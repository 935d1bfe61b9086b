// The requests a node has in flight. Only those that did not complete at once are tracked: in one thread a request that is
// done when its function returns can conflict with nothing. Read-modify-write cycles serialise: they wait for what overlaps
// their widened area, and what comes later waits for them.

import type { Completion, Started } from './completion.ts';

export interface TrackedRequest {
  offset: number;
  end: number;
  serialising: boolean;
  waitingFor: TrackedRequest | undefined;
  /** Called when it ends. */
  waiters: (() => void)[] | undefined;
  next: TrackedRequest | undefined;
  previous: TrackedRequest | undefined;
}

/** What is noted of a write when it has ended; a node. */
export interface WriteBooks {
  wrote(offset: number, length: number): void;
  failedToWrite(offset: number, length: number): void;
}

/** A request that a driver starts and tells the end of: keeps the books, and passes the news on. Used again for the next one. */
export class StartedRequest implements Completion {
  readonly #tracker: RequestTracker;
  #tracked: TrackedRequest | undefined;
  #offset = 0;
  #length = 0;
  #completion: Completion | undefined;
  /** For a write only. */
  #books: WriteBooks | undefined;

  constructor(tracker: RequestTracker) {
    this.#tracker = tracker;
  }

  /** It is about to be started. */
  prepare(offset: number, length: number, completion: Completion, books?: WriteBooks): void {
    this.#offset = offset;
    this.#length = length;
    this.#completion = completion;
    this.#books = books;
  }

  /** What the driver made of it. */
  started(how: Started): Started {
    if (how === 'later') {
      this.#tracked = this.#tracker.begin(this.#offset, this.#length);
    } else {
      this.#books?.wrote(this.#offset, this.#length);
      this.#tracker.takeBack(this);
    }
    return how;
  }

  completed(error: unknown): void {
    const completion = this.#completion;
    if (error === undefined) this.#books?.wrote(this.#offset, this.#length);
    else this.#books?.failedToWrite(this.#offset, this.#length);
    this.#tracker.end(this.#tracked as TrackedRequest);
    this.#tracker.takeBack(this);
    completion?.completed(error);
  }
}

export class RequestTracker {
  /** Requests and flushes in flight. */
  inFlight = 0;
  /** How many of them serialise; while 0 nobody needs to look for conflicts. */
  serialising = 0;
  #first: TrackedRequest | undefined = undefined;
  #spare: StartedRequest | undefined = undefined;
  #idle: (() => void)[] = [];

  begin(offset: number, length: number): TrackedRequest {
    const request: TrackedRequest = {
      offset,
      end: offset + length,
      serialising: false,
      waitingFor: undefined,
      waiters: undefined,
      next: this.#first,
      previous: undefined,
    };
    if (this.#first !== undefined) this.#first.previous = request;
    this.#first = request;
    this.inFlight++;
    return request;
  }

  end(request: TrackedRequest): void {
    if (request.serialising) this.serialising--;
    if (request.previous === undefined) this.#first = request.next;
    else request.previous.next = request.next;
    if (request.next !== undefined) request.next.previous = request.previous;
    const { waiters } = request;
    request.waiters = undefined;
    if (waiters !== undefined) for (const wake of waiters) wake();
    this.leave();
  }

  /** For a driver that is about to start a request; `books` for a write. */
  prepare(
    offset: number,
    length: number,
    completion: Completion,
    books?: WriteBooks,
  ): StartedRequest {
    const request = this.#spare ?? new StartedRequest(this);
    this.#spare = undefined;
    request.prepare(offset, length, completion, books);
    return request;
  }

  /** One that has ended, for the next. */
  takeBack(request: StartedRequest): void {
    this.#spare = request;
  }

  /** For work that has no area (a flush): counts as in flight until leave(). */
  enter(): void {
    this.inFlight++;
  }

  leave(): void {
    if (--this.inFlight === 0 && this.#idle.length > 0) {
      const idle = this.#idle;
      this.#idle = [];
      for (const wake of idle) wake();
    }
  }

  /** Makes it serialise over its area widened to `alignment`, and waits for what overlaps. */
  async serialise(request: TrackedRequest, alignment: number): Promise<void> {
    if (!request.serialising) {
      request.serialising = true;
      this.serialising++;
    }
    request.offset -= request.offset % alignment;
    request.end = Math.ceil(request.end / alignment) * alignment;
    await this.waitForConflicts(request);
  }

  /** Waits until nothing overlaps `request` where one of the two serialises. */
  async waitForConflicts(request: TrackedRequest): Promise<void> {
    for (;;) {
      const conflict = this.#conflictWith(request);
      if (conflict === undefined) return;
      request.waitingFor = conflict;
      await new Promise<void>((resolve) => {
        (conflict.waiters ??= []).push(resolve);
      });
      request.waitingFor = undefined;
    }
  }

  /** True when a serialising request overlaps the area. */
  hasConflict(offset: number, end: number): boolean {
    for (let other = this.#first; other !== undefined; other = other.next) {
      if (other.serialising && other.offset < end && offset < other.end) return true;
    }
    return false;
  }

  /** True when any request overlaps the area. */
  overlaps(offset: number, end: number): boolean {
    for (let other = this.#first; other !== undefined; other = other.next) {
      if (other.offset < end && offset < other.end) return true;
    }
    return false;
  }

  /** Resolves when nothing is in flight. */
  whenIdle(): Promise<void> {
    if (this.inFlight === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  #conflictWith(request: TrackedRequest): TrackedRequest | undefined {
    for (let other = this.#first; other !== undefined; other = other.next) {
      if (other === request || !(other.serialising || request.serialising)) continue;
      if (other.offset >= request.end || request.offset >= other.end) continue;
      // One that waits already (perhaps for us) goes on after us: waiting for it too could be a deadlock.
      if (other.waitingFor === undefined) return other;
    }
    return undefined;
  }
}
