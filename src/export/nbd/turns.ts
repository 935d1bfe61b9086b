// How much a connection may do before the others get their turn: much when it has the server to itself, little when others are
// served too, so that a flood costs a neighbour at most as much time as the neighbour takes itself.
// The unit: a request or a step of a handshake costs 1, and data another 1 for each 4 KiB.

/** A turn of a connection that is alone: few, long turns are fastest. */
const ALONE = 2048;

/** A turn of a connection among others: about 25 us, less than it takes to be woken for the next request. */
const SHARED = 32;

/** Milliseconds for which another connection's turn is remembered. */
const REMEMBERED = 100;

export class Turns {
  #latest: object | undefined;
  #sharedUntil = 0;
  #alone = true;

  /** Whether the connection of the latest turn has the server to itself. */
  get alone(): boolean {
    return this.#alone;
  }

  /** What the next turn of this connection may cost. */
  next(connection: object): number {
    const now = performance.now();
    if (connection !== this.#latest) {
      if (this.#latest !== undefined) this.#sharedUntil = now + REMEMBERED;
      this.#latest = connection;
    }
    this.#alone = now >= this.#sharedUntil;
    return this.#alone ? ALONE : SHARED;
  }

  /** A connection is gone. */
  forget(connection: object): void {
    if (connection === this.#latest) this.#latest = undefined;
  }
}
