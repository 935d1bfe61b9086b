// A driver has broken the rules of its virtqueue: nothing in that ring can be relied on any more.

export class VirtqueueError extends Error {
  override readonly name = 'VirtqueueError';

  /** What the driver has put there. */
  constructor(what: string) {
    super(`The driver offers ${what}`);
  }
}
