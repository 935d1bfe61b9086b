// Writing to a standard descriptor to the end, and at once: Node's own streams would outlive the process's orderly end, and
// the descriptor may be a full pipe or a terminal in non-blocking mode.

import { writeSync } from 'node:fs';

const RETRY_MS = 5;
/** A reader that takes nothing for so long is given up: a log must not stop the daemon. */
const MAX_WAIT_MS = 1000;

/** Writes all of `text`, or as much as is taken in time; what cannot be written is lost, since there is nobody to tell. */
export function writeAll(fd: number, text: string): void {
  let rest: Uint8Array = Buffer.from(text);
  for (let waited = 0; rest.length > 0 && waited < MAX_WAIT_MS; ) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
      waited += RETRY_MS;
    }
  }
}
