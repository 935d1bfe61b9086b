// How many bad messages in a row a monitor answers. The reference answers every one, so that two bytes of garbage get eighty
// back for as long as they come. On purpose not so here: a burst of them gets its first errors and a closing one, the rest is
// dropped until the peer sends an object, or has waited for an answer. A peer that waits is always answered.

/** Errors answered of one burst. */
const PER_BURST = 64;
/** From this many in a row on, over however many bursts, a burst gets one answer. */
const PATIENCE = 1024;

export const closingError =
  'JSON parse error, too many errors in a row, more are not reported until the next object';

export class ErrorFlood {
  /** Since the last object. */
  #inRow = 0;
  #inBurst = 0;

  /** The message came out as an object. */
  good(): void {
    this.#inRow = 0;
    this.#inBurst = 0;
  }

  /** The peer has had all its answers before it sent more. */
  pause(): void {
    this.#inBurst = 0;
  }

  /** What to say about one more bad message: its own error, the closing one, or nothing. */
  bad(): 'report' | 'close' | 'drop' {
    const allowed = this.#inRow < PATIENCE ? PER_BURST : 1;
    this.#inRow += 1;
    this.#inBurst += 1;
    if (this.#inBurst <= allowed) return 'report';
    return this.#inBurst === allowed + 1 && allowed > 1 ? 'close' : 'drop';
  }
}
