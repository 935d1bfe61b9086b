// For errors out of code that we call back and that is somebody else's.

/** Makes an `uncaughtException` of `error`: whose code it came from hears of it, and what called that code goes on. */
export function throwLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
