// Event counters: one process adds, another is woken and takes the sum.

import { errno } from '../base/errno.ts';
import { IoError } from '../base/errors.ts';
import { addressOf, errnoNow, libc } from './libc.ts';
import { close } from './socket.ts';

const EFD_NONBLOCK = 0o4000;
const EFD_CLOEXEC = 0o2000000;

export interface EventCounter {
  readonly fd: number;
  /** Adds one. A counter that is full or a reader that is gone is no failure: there is nobody to wake. */
  signal(): void;
  /** Takes what was added; whether there was anything. Throws IoError when the descriptor cannot be read at all. */
  take(): boolean;
  close(): void;
}

/** A new counter at 0, non-blocking and close-on-exec. Throws IoError. */
export function eventCounter(): EventCounter {
  const fd = libc.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) throw new IoError(errnoNow(), { syscall: 'eventfd' });
  return eventCounterOver(fd);
}

/** A counter that came from elsewhere, set to non-blocking by the caller. Owns the descriptor from now on. */
export function eventCounterOver(fd: number): EventCounter {
  const one = Buffer.alloc(8);
  one.writeUInt8(1);
  const taken = Buffer.alloc(8);
  const from = addressOf(one);
  const into = addressOf(taken);
  return {
    fd,
    signal: () => {
      libc.write(fd, from, one.length);
    },
    take: () => {
      for (;;) {
        if (libc.read(fd, into, taken.length) >= 0) return true;
        const code = errnoNow();
        if (code === errno.EAGAIN) return false;
        if (code !== errno.EINTR) throw new IoError(code, { syscall: 'read' });
      }
    },
    close: () => close(fd),
  };
}
